/* The API's streams of events (NDJSON), taken apart as they come. Private to cli/.
 *
 * An event is a line of JSON; empty lines keep a connection alive. Lines longer than
 * EVENTS_LINE_MAX are none of this API's and an error. */
#ifndef CLI_EVENTS_H
#define CLI_EVENTS_H

#include "base/buf.h"
#include "base/err.h"
#include "http.h"
#include "wire/json.h"

#define EVENTS_LINE_MAX (8u * 1024 * 1024)

struct event {
    const char *type;
    const char *line; /* as it came, without its end */
    const struct json *json;
    /* of stdout and stderr, decoded; NULL: none */
    const char *data;
    size_t len;
};

struct events {
    struct buf line;  /* the beginning of one */
    struct buf bytes; /* decoded */
};
#define EVENTS_INIT                                          \
    {                                                        \
        BUF_INIT(EVENTS_LINE_MAX), BUF_INIT(EVENTS_LINE_MAX) \
    }
void events_release(struct events *e);
static inline void auto_events(struct events *e)
{
    events_release(e);
}

/* Returns what the handler does when that is not 0: it ends the stream. All of *event is borrowed.
 */
typedef int (*event_fn)(void *ctx, const struct event *event, struct err *err);

/* -1 with ERR_INVALID: not such a stream. */
int events_feed(struct events *e, const char *data, size_t len, event_fn fn, void *ctx,
                struct err *err);
/* To its end, which is a 0; an event "error" is an err. */
int events_run(struct http *h, const struct request *rq, event_fn fn, void *ctx, struct err *err);

#endif
