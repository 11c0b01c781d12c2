/* Start line and headers of one message, read strictly. Pure; threads: any.
 *
 * A head is split here and nowhere else, and what is forwarded is written anew from these pieces:
 * no byte of a peer's framing ever reaches the other side. llhttp reads the same bytes for the
 * framing of the body; what either of the two refuses is refused. */
#ifndef EDGE_HEAD_H
#define EDGE_HEAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/limits.h"

struct span {
    const char *at; /* not terminated */
    size_t len;
};

struct line {
    struct span name, value; /* value without white space around it */
};

struct head {
    struct span method, target; /* of a request */
    int status;                 /* of a response */
    struct span reason;
    int minor; /* HTTP/1.<minor>: 0 or 1 */
    struct line lines[EDGE_LINES_MAX];
    size_t n;
};

/* How much of data is the head, blank line included. 0: more bytes are needed. -1: it can never
 * become one, or is longer than max. */
ssize_t head_size(const char *data, size_t len, size_t max);
/* Splits len bytes, which head_size measured. Pieces point into data. HTTP status of the refusal,
 * 0: fine. */
int head_request(const char *data, size_t len, struct head *ret);
int head_response(const char *data, size_t len, struct head *ret); /* 0, or -1 */
/* The lines of a trailer section, blank line included. 0, or -1. */
int head_trailers(const char *data, size_t len, struct head *ret);

/* What the lines say about the body. Several, contradicting or odd ones: -1. */
struct framing {
    bool chunked, has_length;
    uint64_t length;
};
int head_framing(const struct head *h, struct framing *ret);

bool span_is(struct span s, const char *text);  /* any case */
bool span_has(struct span s, const char *text); /* an element of a comma list, any case */
bool span_starts(struct span s, const char *prefix);
/* The one line of that name. NULL: none; *ret_more: there are several. */
const struct line *head_line(const struct head *h, const char *name, bool *ret_more);
/* Is `token` an element of any line of that name? */
bool head_lists(const struct head *h, const char *name, const char *token);

#endif
