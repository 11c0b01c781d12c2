/* One request, as its handler sees it.
 *
 * A handler is a plain function that may block: it runs on a pool thread (or, for ROUTE_FAST, on
 * the HTTP thread: then it must not), answers exactly once and returns. The rest is plumbing:
 * the connection is suspended meanwhile and taken up again when there is something to send. */
#ifndef REQ_H
#define REQ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/field.h"
#include "core/core.h"
#include "guard.h"
#include "wire/url.h"

struct api;
struct req;
typedef void (*handler_fn)(struct req *r);

enum route_flags {
    ROUTE_FAST = 1 << 0,   /* answers from memory, on the HTTP thread */
    ROUTE_RAW = 1 << 1,    /* the handler reads the body itself, by req_read */
    ROUTE_OPEN = 1 << 2,   /* needs no token */
    ROUTE_LEGACY = 1 << 3, /* the older error shape */
    ROUTE_EMPTY = 1 << 4,  /* an empty body counts as {} */
    ROUTE_PROXY = 1 << 5,  /* asked by a proxy that hands a browser's headers on */
};

struct route {
    const char *method;
    const char *path; /* {id} stands for one segment */
    unsigned flags;
    /* Names of the query, with blanks between ("path! metadata.*", see params.h). On /v1 others are
     * a 400; the legacy routes only tell of theirs. */
    const char *params;
    const char *heads;         /* likewise: request headers that mean something here */
    uint32_t body_max;         /* bytes; 0: no ceiling (ROUTE_RAW only) */
    const struct shape *shape; /* NULL: a body is read and not looked at */
    size_t object_size;        /* of the struct that the shape fills */
    int status;                /* of success */
    handler_fn handle;
    /* What success looks like, with blanks between: schemas of components.yaml and media types. */
    const char *reply;
    const char *also;  /* further statuses of success; "304-" has no body */
    const char *error; /* a response of components.yaml, where it is not the usual one */
    const char *help;
};

/* Table and its end; method and path find a row, or say what is wrong. */
extern const struct route routes[];
extern const size_t n_routes;
enum route_match { ROUTE_FOUND, ROUTE_NO_PATH, ROUTE_NO_METHOD };
/* What stands for {id} and for the {…} below it; empty: none. */
struct route_args {
    char id[64], sub[64];
};
/* ret_args is filled by a row that matches. allow: at least 64 bytes, filled
 * for ROUTE_NO_METHOD. HEAD finds the GET row. */
enum route_match route_find(const char *method, const char *path, const struct route **ret,
                            struct route_args *ret_args, char allow[64]);

/* --- what came --- */
const struct caller *req_caller(const struct req *r);
const struct sandbox_id *req_id(const struct req *r); /* of {id} */
const char *req_sub(const struct req *r);             /* of the {…} below it, as it came */
const struct buf *req_body(const struct req *r);      /* as it came */
const char *req_query(const struct req *r, const char *name);
const struct query *req_query_all(const struct req *r);
void *req_object(const struct req *r); /* the decoded body */
const struct heads *req_heads(const struct req *r);
const char *req_request_id(const struct req *r);
struct core *req_core(const struct req *r);
struct api *req_api(const struct req *r);
const struct config *req_config(const struct req *r);
/* The address at the other end of the connection; "" when it has ended. */
#define REMOTE_MAX 64
void req_remote(struct req *r, char out[REMOTE_MAX]);
/* SHA-256 over method, route and body: what an idempotency key stands for. */
void req_hash(const struct req *r, uint8_t out[32]);
/* ROUTE_RAW: blocks for the next bytes of the body, a good piece of them unless it ends or has come
 * slowly for SANDBOXD_PEER_STALL. 0: the end; -1: ERR_TIMEOUT (nothing came for so long) or
 * ERR_CANCELLED (the client left). */
ssize_t req_read(struct req *r, void *out, size_t len, struct err *err);

/* --- one whole answer --- */
/* Additional header of the answer; both texts are copied. At most 8. */
void req_header(struct req *r, const char *name, const char *value);
void req_reply(struct req *r, int status, const char *type,
               struct buf *body); /* takes the memory */
void req_reply_json(struct req *r, int status, struct buf *body);
void req_reply_empty(struct req *r, int status);
void req_fail(struct req *r, const struct err *err);
/* As req_fail, where the status is not the code's own. */
void req_fail_as(struct req *r, int status, const struct err *err);

/* --- or a stream --- */
#define STREAM_UNKNOWN UINT64_MAX
/* size: of the whole body, or STREAM_UNKNOWN. */
void req_stream_begin(struct req *r, int status, const char *type, uint64_t size);
bool req_streaming(const struct req *r);
/* What the answer tells of goes on without its client, who can come back for the rest: when the
 * daemon stops, one that takes nothing is cut and has no grace. Before the first write. */
void req_follows(struct req *r);
/* Blocks while the window is full. -1: the client is gone, took nothing for SANDBOXD_PEER_STALL, or
 * asked by HEAD and wants none of it. */
int req_write(struct req *r, const void *data, size_t len);
/* The same with len bytes of a regular file, from byte `at` on; fd stays the caller's. -1 also if
 * the file has become shorter or cannot be read. One such call per answer. */
int req_write_file(struct req *r, int fd, uint64_t at, uint64_t len);
/* broken: the body is not whole; the client must notice. */
void req_stream_end(struct req *r, bool broken);
bool req_is_head(const struct req *r);
/* The daemon is stopping: an answer that follows something ends now. */
bool req_stopping(const struct req *r);
/* The grace is over, too: whatever is under way ends now and says so. */
bool req_ending(const struct req *r);

/* Waits, unless the daemon stops meanwhile or the client's connection shows an event. */
void req_pause(struct req *r, int ms);

/* --- is the client still there? --- */
/* The connection, for polling of POLLRDHUP only; -1: none. Owned by r. */
int req_gone_fd(struct req *r);
/* DOUBTFUL: it sent its last byte (perhaps only that), and can no longer be probed. */
enum req_presence { REQ_PRESENT, REQ_DOUBTFUL, REQ_GONE };
enum req_presence req_presence(struct req *r);

#endif
