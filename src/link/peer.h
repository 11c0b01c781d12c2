/* What the files of this room share: link.c is the door, loop.c the thread that listens, rundir.c
 * the files. Everything in struct link but the paths and `epoll` is guarded by its lock; system
 * calls made under it never block (sockets are used with MSG_DONTWAIT throughout). */
#ifndef LINK_PEER_H
#define LINK_PEER_H

#include <sys/types.h>

#include "base/buf.h"
#include "base/mu.h"
#include "link/link.h"

#define SOCKET_NAME "agent.sock"
#define PEER_BUCKETS 1024

enum conn_kind { CONN_WAKE, CONN_LISTEN, CONN_PENDING, CONN_CONTROL };

/* The longest frame that an agent may send on its control connection. */
#define CONTROL_FRAME_MAX (FRAME_HEADER + 3 * LINK_PORTS_MAX)

/* One descriptor that epoll watches. A conn may be closed by any thread that has the lock, but is
 * freed only by the loop, after it has gone through the events that may still point to it. */
struct conn {
    enum conn_kind kind;
    int fd;
    bool dead;
    bool paused; /* LISTEN: taken out while descriptors are short */
    struct peer *peer;
    struct conn *prev, *next; /* PENDING: all of them, oldest first; dead: next only */
    int64_t hello_deadline_ms;
    uint8_t in[FRAME_HEADER + FRAME_HELLO_LEN];
    size_t in_len;
    struct buf out;  /* CONTROL: what the agent has not taken yet */
    struct buf rest; /* CONTROL: the beginning of a frame; mostly nothing */
};

/* A thread that waits for a stream. On that thread's stack. */
struct waiter {
    uint64_t number;
    int fd; /* the stream, once it is there */
    bool failed;
    struct cond changed;
    struct waiter *next;
};

/* A sandbox that link_next_change has to tell of. Outlives its peer. */
struct change {
    struct sandbox_id id;
    uint32_t what;
    struct change *next;
};

/* One expected sandbox. */
struct peer {
    struct sandbox_id id;
    uint8_t secret[FRAME_SECRET];
    bool fresh; /* nobody has got the secret yet */
    struct conn *listener, *control;
    size_t pending;
    struct waiter *waiters;
    struct link_port *ports; /* as the agent said last */
    size_t port_count;
    uint64_t *kept;
    size_t kept_count;
    struct change *change; /* noted and not taken yet */
    struct peer *next;
};

struct link {
    char *agent_path, *run_root;
    int epoll;
    unsigned long thread;
    struct mu lock;
    struct cond changed; /* an agent came or went, or ports did */
    bool started, stopping;
    int changes_fd; /* an eventfd, set while there are changes */
    bool noting;    /* somebody wants to know of changes */
    struct change *change_first, *change_last;
    struct conn *wake;
    int64_t paused_until_ms; /* 0: no listener is paused */
    uint64_t next_number;
    struct peer *peers[PEER_BUCKETS];
    struct conn *pending_first, *pending_last;
    struct conn *dead;
};

/* --- link.c --- */
struct peer *peer_find(struct link *l, const struct sandbox_id *id) REQUIRES(&l->lock);
/* Sends a request whose payload begins with the number of the stream that answers it, and waits for
 * that stream. Returns it, or -1. */
int stream_ask(struct link *l, const struct sandbox_id *id, uint8_t *frame, size_t len,
               int64_t deadline_ms, uint64_t *ret_number, int *ret_fd, struct err *err);

/* --- ports.c --- */
/* Reads exactly len bytes of a stream, and no byte more: a descriptor that comes with the next is
 * not for this call. At most one may come with these; *ret_fd must be -1 before, and NULL is for
 * where none is wanted. */
int stream_receive(int stream, uint8_t *data, size_t len, int *ret_fd, int64_t deadline_ms,
                   struct err *err);
/* What the agent says of its ports; -1: nonsense. */
int ports_hear(struct link *l, struct peer *p, const struct frame *f) REQUIRES(&l->lock);

/* --- kept.c --- */
int kept_hear(struct link *l, struct peer *p, const struct frame *f) REQUIRES(&l->lock);
/* Forgets what the agent said: it is gone. */
void peer_reset(struct peer *p);
void change_note(struct link *l, struct peer *p, uint32_t what) REQUIRES(&l->lock);

/* --- strange.c --- */
/* As recv, without waiting. The first descriptor that comes goes to *ret_fd if that is -1;
 * *ret_surplus: there were others, or ret_fd is NULL and there were any. */
ssize_t strange_receive(int socket, void *data, size_t len, int *ret_fd, bool *ret_surplus);
/* Close what came from a stranger without ever waiting: a descriptor, a connection to him, a
 * listening socket that he may be queued at. */
void strange_drop(int fd);
void strange_close(int socket);
void strange_close_listener(int listener);
static inline void auto_stranger(const int *socket)
{
    if (*socket >= 0)
        strange_close(*socket);
}
static inline void auto_strange(const int *fd)
{
    if (*fd >= 0)
        strange_drop(*fd);
}

/* --- loop.c --- */
void *loop_run(void *link);
/* Takes fd over and watches it; NULL when the kernel refuses, fd is closed then. */
struct conn *conn_open(struct link *l, struct peer *p, enum conn_kind kind, int fd)
    REQUIRES(&l->lock);
void conn_close(struct link *l, struct conn *c) REQUIRES(&l->lock);
/* Frees the conns that are dead; only for the loop, and for whoever has outlived it. */
void conn_bury(struct link *l) REQUIRES(&l->lock);
/* Sends or queues one whole frame; -1 when too much is queued or the agent is gone. */
int control_send(struct link *l, struct peer *p, const uint8_t *frame, size_t len)
    REQUIRES(&l->lock);
/* Makes the loop look round. */
void loop_wake(struct link *l);

/* --- rundir.c --- */
/* Puts the embedded agent into <data>/bin; *ret_path is the caller's. */
int agent_install(const char *data_dir, char **ret_path, struct err *err);
/* Makes the run directory and a listening socket in it; an earlier socket is replaced in one step.
 */
int rundir_listen(const char *path, int *ret_fd, struct err *err);
void rundir_remove(const char *path);

#endif
