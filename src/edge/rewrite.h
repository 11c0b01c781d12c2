/* Heads as they are sent on: written anew, hop-by-hop lines and what is ours taken out, what we
 * know put in. Threads: any. */
#ifndef EDGE_REWRITE_H
#define EDGE_REWRITE_H

#include "buffer.h"
#include "head.h"
#include "route.h"

/* What we say to the app about the visitor. */
struct visit {
    char address[46];        /* the visitor's, as text */
    const char *proto;       /* "http" or "https" */
    unsigned port;           /* where the visitor came in */
    char host[320];          /* for a request that names none; the domain has at most 200 bytes */
    bool drop_authorization; /* it was a token of ours */
    struct span upgrade;     /* protocol asked for; empty: none */
};

/* false: does not fit. */
bool rewrite_request(struct buffer *out, const struct head *h, const struct visit *v);
/* connection: "close", "upgrade" or NULL; chunked: the body is sent so; length: the announced
 * length stays. */
bool rewrite_response(struct buffer *out, const struct head *h, const char *connection,
                      bool chunked, bool length);
/* Trailers without names that would change the message behind its back. */
void rewrite_trailers(struct buffer *out, const struct head *h);

/* Cookies of ours: names that begin so never reach an app, and no app may set them. */
#define COOKIE_PLAIN "sandboxed-"
#define COOKIE_HOST "__Host-sandboxed-"
/* Calls fn with each cookie that a request carries; until it returns true, which is returned. */
bool cookie_each(const struct head *h, bool (*fn)(void *ctx, struct span name, struct span value),
                 void *ctx);

#endif
