/* The transport below the runtime port: one call function, one table of operations.
 * Threads: any; a connection belongs to one thread at a time. */
#ifndef DOCKER_ENGINE_H
#define DOCKER_ENGINE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

enum engine_op {
    OP_PING,
    OP_VERSION,
    OP_INFO,
    OP_IMAGE,
    OP_CREATE,
    OP_CREATE_SEED,
    OP_START,
    OP_STOP,
    OP_REMOVE,
    OP_WAIT_REMOVED,
    OP_PAUSE,
    OP_UNPAUSE,
    OP_RENAME,
    OP_INSPECT,
    OP_LIST,
    OP_ARCHIVE,
    OP_NETWORK,
    OP_NETWORK_CREATE,
    OP_EVENTS,
    OP_COUNT
};

struct engine;
struct conn;

struct call {
    enum engine_op op;
    const char *args[3]; /* fill the {} of the path in order, percent-encoded */
    const char *body;    /* JSON, or NULL */
    uint32_t extra_ms;   /* added to the operation's deadline */
    /* Where the body of a success goes instead of reply.body; -1 with err filled stops the call. */
    int (*sink)(void *ctx, const void *data, size_t len, struct err *err);
    void (*opened)(void *ctx); /* the headers of a success are there; may be NULL */
    void *ctx;                 /* of sink and opened */
    const atomic_bool *cancel; /* set, then conn_wake(): the call ends with ERR_CANCELLED */
};

struct reply {
    int status;      /* 0: no answer came */
    struct buf body; /* the Engine's words; never shown to clients as they are */
};
#define REPLY_INIT                        \
    {                                     \
        .body = BUF_INIT(JSON_ENGINE_MAX) \
    }

static inline void auto_reply(struct reply *r)
{
    buf_release(&r->body);
}

/* host: "unix:///path". ERR_INVALID for anything else. Does not connect. */
int engine_new(const char *host, struct engine **ret, struct err *err);
/* No call may be under way. NULL is fine. */
void engine_free(struct engine *e);

/* Makes one call on a connection of the pool. 0 when the status is one of the operation's
 * successes. -1 otherwise: ret->status and ret->body still say what the Engine answered, err has
 * our words: ERR_ENGINE away or misbehaving, ERR_TIMEOUT it lives but took too long, ERR_NOT_FOUND
 * (404), ERR_CONFLICT (409), ERR_CANCELLED; or what the sink said. */
int engine_call(struct engine *e, const struct call *c, struct reply *ret, struct err *err);

/* --- a connection of one's own, for the event stream --- */
struct conn *conn_new(void);
void conn_free(struct conn *c); /* NULL is fine */
int engine_call_on(struct engine *e, struct conn *conn, const struct call *c, struct reply *ret,
                   struct err *err);
/* Sleeps until conn_wake() or ms have passed. */
void conn_sleep(struct conn *c, int ms);
/* From any thread. */
void conn_wake(struct conn *c);

/* Is somebody there, and which version ("20.10.24")? Cheap: the version is kept until the Engine
 * was dialled anew. */
int engine_ping(struct engine *e, char version[32], struct err *err);

/* Counts the times the Engine had to be dialled anew: whatever was learnt of it before may be old.
 */
unsigned engine_generation(struct engine *e);

/* Chooses the API version to speak from the Engine's own ("1.41"); ERR_ENGINE when it is too old.
 * For tests also by itself. */
int engine_choose_api(const char *theirs, char ret[16], struct err *err);

#endif
