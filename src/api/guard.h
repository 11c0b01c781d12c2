/* What a request must look like before anybody reads it: pure checks over its header list.
 * Threads: any. */
#ifndef GUARD_H
#define GUARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "config/config.h"

/* The headers that matter here; borrowed from the connection. */
struct heads {
    const char *host;
    const char *origin;
    const char *fetch_site;
    const char *content_type;
    const char *authorization;
    const char *accept;
    const char *connection, *upgrade, *ws_key, *ws_version; /* of a WebSocket's handshake */
    const char *cookie;                                     /* the first one; of /forward-auth */
    const char *forwarded_host, *forwarded_uri;             /* of /forward-auth only */
    const char *last_event_id;
    const char *idempotency_key;
    const char *if_match, *if_none_match, *if_range, *range;
    const char *transfer_encoding;
    const char *expect;
    uint64_t length; /* Content-Length; meaningful with n_length */
    unsigned count;
    unsigned n_host, n_length, n_encoding, n_auth;
    const char *broken; /* the first rule that a header broke, or NULL */
    const char *at;     /* in_place: where the next header must begin */
    bool in_place;
};

/* libmicrohttpd cuts a value at a NUL byte and joins folded lines without a word. Where it is known
 * to leave the lines where they were received, each NUL-terminated in place of its CR, whatever
 * lies between two headers besides CRLF (a bare LF, a folded line, a NUL and what it hides) shows
 * as a gap. version: of the request, in that memory. */
void heads_in_place(struct heads *h, const char *version);
/* After the last header: end is the first byte behind the empty line. */
void heads_end(struct heads *h, const char *end);

void heads_add(struct heads *h, const char *name, size_t name_len, const char *value,
               size_t value_len);

/* Framing and syntax that two parsers could read in two ways. ERR_INVALID (400) or ERR_TOO_LARGE
 * (431); the connection must be closed afterwards. */
int guard_strict(const struct heads *h, const char *version, const char *uri, size_t header_bytes,
                 struct err *err);
/* Host must be a loopback name, the bind address or a configured name: ERR_MISDIRECTED. */
int guard_host(const struct heads *h, const struct config *config, struct err *err);
/* A web page may call only from the same origin (or a configured one) and may write only JSON:
 * ERR_FORBIDDEN, ERR_MEDIA_TYPE. Without Origin and Sec-Fetch-Site nothing is asked. */
int guard_browser(const struct heads *h, const struct config *config, bool write, struct err *err);
/* The token of "Bearer <token>", any case of the scheme; NULL: none. */
const char *guard_bearer(const struct heads *h);
/* Has the request a body? */
bool heads_body(const struct heads *h);

#endif
