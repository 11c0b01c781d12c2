/* Which requests pass: one pure function over the bytes of a request's head. Threads: any. */
#ifndef FRONT_FILTER_H
#define FRONT_FILTER_H

#include <stdbool.h>
#include <stddef.h>

enum front_what {
    FRONT_REFUSED,
    FRONT_PING,
    FRONT_VERSION,
    FRONT_LIST,
    FRONT_INSPECT,
    FRONT_EVENTS,
};

struct front_request {
    enum front_what what;
    char ref[65]; /* INSPECT: a container's id (64 hex digits) or name (s-<id>) */
    bool close;   /* the client wants the connection closed after the answer */
    bool probe; /* refused, but a probe that every Docker client begins with: no cause for a word */
};

/* text: a whole head, from the first byte to the empty line and not one byte more. */
void front_filter(const char *text, size_t len, struct front_request *ret);

#endif
