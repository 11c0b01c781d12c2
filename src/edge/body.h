/* The body of one message, taken out of its framing by llhttp and put into new framing.
 *
 * llhttp reads the head again, so its view of where the message ends and ours must agree; what it
 * refuses is refused. Chunk extensions end here, chunks are cut anew, trailers are read by head.c.
 * Threads: one at a time. */
#ifndef EDGE_BODY_H
#define EDGE_BODY_H

#include <llhttp.h>
#include <stdbool.h>
#include <stddef.h>

#include "buffer.h"
#include "head.h"

enum body_out {
    BODY_RAW,     /* the bytes as they are: a length was announced, or the end of the stream ends */
    BODY_CHUNKED, /* in chunks, trailers after the last */
};

struct body {
    llhttp_t parser;
    enum body_out as;
    struct buffer *out;
    size_t noise;  /* bytes of framing since the last byte of body */
    bool done;     /* the message is whole */
    bool trailing; /* the last chunk was seen */
    bool no_body;  /* of a response: its request was HEAD, or its status says so */
    bool full;     /* output did not fit: a fault of the caller's, who fed too much */
};

/* Reads the head of a message whose head.c view is known to be good. no_body: none follows,
 * whatever the head says. 0, or -1: llhttp refuses it. */
int body_begin(struct body *b, bool response, const char *head, size_t len, bool no_body,
               enum body_out as, struct buffer *out);
/* Takes bytes as far as they belong to the message and fit into out; *ret_used says how many. The
 * rest comes again, with more behind it. 0, or -1: malformed. */
int body_feed(struct body *b, const char *data, size_t len, size_t *ret_used);
/* The stream has ended. 0: so has the message; -1: it was cut short. */
int body_finish(struct body *b);
/* Does the message end with the stream? */
bool body_until_close(const struct body *b);

#endif
