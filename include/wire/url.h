/* URLs and the Host header: pure parsers. Threads: any. */
#ifndef WIRE_URL_H
#define WIRE_URL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

/* Percent-decodes one path segment or query value. plus: '+' is a space (queries).
 * Refuses malformed escapes and NUL. Caller frees. */
int url_decode(const char *text, size_t len, bool plus, char **ret, struct err *err);
/* Appends text, percent-encoded for use as one path segment or query value. */
void url_encode(struct buf *b, const char *text);

struct query {
    char **names;
    char **values;
    size_t count;
};
/* At most 64 parameters; a parameter given twice is refused. */
int query_parse(const char *text, struct query *ret, struct err *err);
void query_release(struct query *q);
const char *query_get(const struct query *q, const char *name); /* NULL: absent */

#define HOST_NAME_MAX_BYTES 253
/* "Example.com:80", "127.0.0.1", "[::1]:9090" → lower-case name without brackets, port (0: none).
 * A trailing dot, white space, user info, underscores at odd places: refused (ERR_INVALID). */
int host_parse(const char *text, char ret_name[HOST_NAME_MAX_BYTES + 1], uint16_t *ret_port,
               struct err *err);
/* "127.0.0.1:9090", "[::1]:9090", ":9090" (all addresses). IPv4 or IPv6 literal or "localhost". */
int bind_parse(const char *text, char ret_host[HOST_NAME_MAX_BYTES + 1], uint16_t *ret_port,
               struct err *err);

#endif
