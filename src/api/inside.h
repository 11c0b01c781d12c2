/* struct req as its plumbing sees it (req.c, stream.c, dispatch.c); handlers use req.h only.
 *
 * Two sides share a struct req: the HTTP thread that owns the connection, and the pool thread that
 * runs the handler. `lock` guards what both touch. The connection is suspended exactly while
 * `suspended` is set: then libmicrohttpd neither reads, nor closes, nor completes it, so the pool
 * thread may use its descriptor and resume it once. `finished` says that libmicrohttpd has let go:
 * the connection must not be named any more. The last of both sides frees the request. */
#ifndef INSIDE_H
#define INSIDE_H

#include "ring.h"
#include "server.h"

enum step {
    STEP_HEAD,    /* the call after the headers */
    STEP_RAW,     /* the same, its handler is already at work */
    STEP_BODY,    /* a body that is collected */
    STEP_FEED,    /* a body that goes through the ring to its handler */
    STEP_DISCARD, /* a body nobody wants: the answer is ready and follows it */
    STEP_ANSWER,  /* all came in; the answer is ready or being made */
};

#define REPLY_HEADERS 8

struct req {
    struct api *api;
    struct peer *peer;
    struct MHD_Connection *conn;
    char *uri; /* path, then (behind its NUL) the query */
    const char *query_text;
    const struct route *route;
    bool legacy, head, http11, expects, close;
    struct caller who;
    struct sandbox_id id;
    struct route_args args;
    char request_id[ID_LEN + 1];
    struct heads heads;
    struct query query;
    struct buf body;
    void *object;
    int64_t begun_us;
    enum step step;
    uint64_t discarded;

    /* the answer's headers, written by its handler */
    struct {
        char name[32];
        char *value;
    } header[REPLY_HEADERS];
    size_t n_headers;
    int gone_fd;
    bool probed, seen_fin;

    atomic_int refs;
    struct mu lock;
    struct cond changed;
    bool suspended;
    bool finished;
    bool wants_body; /* the raw handler asked for its body */
    bool body_end;   /* all of it came */
    struct MHD_Response *response;
    bool answered; /* response and status are set */
    bool dropped;  /* the handler ended without an answer: nobody is there to read one */
    int status;
    struct websocket *upgrade; /* to be served once the 101 is out; ours until then */
    bool streaming;
    bool follows; /* see req_follows; the handler's own */
    bool stream_end, stream_broken;
    struct ring in, out; /* without memory until they are used */
    int64_t taken_ms;    /* when the client's side last took something, or was first asked to */
    /* What of a file follows the ring; the descriptor is its handler's, who waits. */
    struct {
        int fd;
        uint64_t at, left;
        bool wanted; /* the next of it is on the disk: the handler has to read it */
    } file;
};

void req_unref(struct req *r);
/* The connection ended before its session could begin: it lets go of what it holds. */
void websocket_abandon(struct websocket *ws);
/* Puts the connection to sleep; on the HTTP thread only. */
void req_suspend(struct req *r) REQUIRES(&r->lock);
/* Wakes it when it sleeps. */
void req_resume(struct req *r) REQUIRES(&r->lock);
/* Ends the connection for good; libmicrohttpd notices at once and lets go of it. */
void req_cut(struct req *r) REQUIRES(&r->lock);
/* Is there so much of the body that its handler should read on? */
bool stream_enough(const struct req *r);
/* Hands a finished response over and wakes the connection. Takes resp. */
void req_answer(struct req *r, int status, const char *type, struct MHD_Response *resp);

#endif
