/* model/runtime.h played in memory: containers are entries of a table, and the agent in a running
 * one is a thread that dials the sandbox's socket and obeys. Each call can be made to fail, before
 * or after it has done its work, and a hook sees each call first. One runtime a program.
 *
 * Commands of the fake agent, by argv[0]: "exit" N; "hold" runs until it is ended; "say" TEXT;
 * "echo" gives its stdin back; "spill" N writes so many bytes; "listen" PORT, kept
 * for that if it may; "fail" cannot be started; "mute" never answers; "die" hangs up without a
 * word. */
#ifndef SUPPORT_FAKERUNTIME_H
#define SUPPORT_FAKERUNTIME_H

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/limits.h"
#include "base/str.h"
#include "model/runtime.h"
#include "wire/frames.h"

/* --- the agent of one container --- */

#define FAKE_PROCS 160
#define FAKE_PIECE (16 * KIB) /* of output in one frame */

struct fake_proc {
    uint64_t number; /* 0: kept by nobody */
    bool used, kept, echo, ended;
    int fd; /* its stream, -1: none */
    uint32_t pid;
    struct frame_exit exit;
    struct buf out, in;
};

struct fake_agent {
    char socket[256];
    pthread_t thread;
    int wake;
    atomic_bool quit, frozen;
    atomic_bool mute;   /* answers no request */
    atomic_bool liar;   /* attaches at impossible offsets */
    atomic_bool deaf;   /* does not dial (any more) */
    atomic_bool still;  /* has seen that it is frozen: what is sent from now on, it reads later */
    atomic_bool shy;    /* opens streams, and says nothing on them until this is taken back */
    atomic_uint spawns; /* of processes that were started */
    bool has_secret;
    uint8_t secret[FRAME_SECRET];
    int control;
    struct buf in;
    uint32_t next_pid;
    struct fake_proc procs[FAKE_PROCS];
};

static inline void fake_send(int fd, enum frame_type type, const void *data, size_t len)
{
    uint8_t head[FRAME_HEADER];
    frame_header(head, type, (uint32_t)len);
    (void)send(fd, head, sizeof head, MSG_NOSIGNAL | (len ? MSG_MORE : 0));
    for (size_t at = 0; at < len;) {
        ssize_t n = send(fd, (const char *)data + at, len - at, MSG_NOSIGNAL);
        if (n <= 0)
            return;
        at += (size_t)n;
    }
}

static inline int fake_dial(struct fake_agent *a, enum frame_hello_kind kind, uint64_t number)
{
    struct sockaddr_un addr = { .sun_family = AF_UNIX };
    uint8_t hello[FRAME_HELLO_LEN];
    struct frame_hello h = { .kind = (uint8_t)kind, .has_secret = a->has_secret, .number = number };
    memcpy(h.secret, a->secret, sizeof h.secret);
    frame_put_hello(hello, &h);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (!str_copy(addr.sun_path, sizeof addr.sun_path, a->socket) || fd < 0)
        abort();
    if (connect(fd, (struct sockaddr *)&addr, sizeof addr) < 0) {
        (void)close(fd);
        return -1;
    }
    fake_send(fd, FRAME_HELLO, hello, sizeof hello);
    return fd;
}

static inline void fake_close(int *fd)
{
    if (*fd >= 0)
        (void)close(*fd);
    *fd = -1;
}

static inline void fake_drop(struct fake_proc *p)
{
    fake_close(&p->fd);
    buf_release(&p->out);
    buf_release(&p->in);
    *p = (struct fake_proc){ .fd = -1 };
}

static inline void fake_tell_exit(struct fake_proc *p)
{
    uint8_t exit[FRAME_EXIT_LEN];
    frame_put_exit(exit, &p->exit);
    if (p->fd >= 0)
        fake_send(p->fd, FRAME_EXIT, exit, sizeof exit);
    fake_close(&p->fd);
    if (!p->kept)
        fake_drop(p);
}

static inline void fake_end(struct fake_proc *p, int code, uint32_t sig)
{
    if (!p->used || p->ended)
        return;
    p->ended = true;
    p->exit = (struct frame_exit){ .code = code, .signal = sig };
    fake_tell_exit(p);
}

static inline void fake_write(struct fake_proc *p, const char *text, size_t len)
{
    buf_add(&p->out, text, len);
    if (p->fd >= 0 && len)
        fake_send(p->fd, FRAME_STDOUT, text, len);
}

static inline struct fake_proc *fake_kept(struct fake_agent *a, uint64_t number)
{
    for (int i = 0; i < FAKE_PROCS; i++)
        if (a->procs[i].used && a->procs[i].kept && a->procs[i].number == number)
            return &a->procs[i];
    return NULL;
}

/* As the real one: those that have ended and were not forgotten count. */
static inline bool fake_full(const struct fake_agent *a)
{
    size_t kept = 0;
    for (int i = 0; i < FAKE_PROCS; i++)
        kept += a->procs[i].used && a->procs[i].kept;
    return kept >= LINK_KEPT_MAX;
}

static inline void fake_spawn(struct fake_agent *a, const struct frame_spawn *s)
{
    struct fake_proc *p = a->procs;
    const char *verb = s->argv, *arg = s->argc > 1 ? s->argv + strlen(s->argv) + 1 : "";
    while (p < a->procs + FAKE_PROCS && p->used)
        p++;
    if (p == a->procs + FAKE_PROCS || str_eq(verb, "mute"))
        return;
    int fd = fake_dial(a, HELLO_STREAM, s->number);
    if (fd < 0)
        return;
    while (atomic_load(&a->shy) && !atomic_load(&a->quit))
        (void)poll(NULL, 0, 1);
    if (str_eq(verb, "die")) {
        (void)close(fd);
        return;
    }
    bool full = (s->flags & SPAWN_KEEP) && fake_full(a);
    if (full || str_eq(verb, "fail")) {
        uint8_t failed[FRAME_FAILED_MIN] = { full ? EDQUOT : ENOENT, 0, 0, 0,
                                             full ? STEP_FORK : STEP_EXEC };
        fake_send(fd, FRAME_FAILED, failed, sizeof failed);
        (void)close(fd);
        return;
    }
    atomic_fetch_add(&a->spawns, 1);
    *p = (struct fake_proc){ .used = true,
                             .kept = s->flags & SPAWN_KEEP ||
                                     (s->flags & SPAWN_KEEP_IF_LISTENING && str_eq(verb, "listen")),
                             .number = s->process,
                             .fd = fd,
                             .pid = ++a->next_pid,
                             .echo = str_eq(verb, "echo"),
                             .out = BUF_INIT(8 * MIB),
                             .in = BUF_INIT(FRAME_PAYLOAD_MAX * 2) };
    uint8_t pid[4];
    frame_set_u32(pid, p->pid);
    fake_send(fd, FRAME_STARTED, pid, sizeof pid);
    if (str_eq(verb, "say"))
        fake_write(p, arg, strlen(arg));
    if (str_eq(verb, "spill")) {
        char text[FAKE_PIECE];
        memset(text, 'x', sizeof text);
        for (size_t left = strtoul(arg, NULL, 10); left;) {
            size_t n = left < sizeof text ? left : sizeof text;
            fake_write(p, text, n);
            left -= n;
        }
    }
    if (str_eq(verb, "listen")) { /* on all addresses; whose container has 127.0.0.2 */
        uint8_t port[3] = { 0 };
        frame_set_u16(port, (uint16_t)strtoul(arg, NULL, 10));
        fake_send(a->control, FRAME_PORTS, port, sizeof port);
    }
    if (str_eq(verb, "exit"))
        fake_end(p, (int)strtol(arg, NULL, 10), 0);
    else if (str_eq(verb, "say") || str_eq(verb, "spill"))
        fake_end(p, 0, 0);
}

static inline void fake_attach(struct fake_agent *a, uint64_t stream, uint64_t number,
                               uint64_t offset)
{
    struct fake_proc *p = fake_kept(a, number);
    int fd = fake_dial(a, HELLO_STREAM, stream);
    if (fd < 0)
        return;
    if (!p) {
        uint8_t failed[FRAME_FAILED_MIN] = { ESRCH, 0, 0, 0, STEP_ATTACH };
        fake_send(fd, FRAME_FAILED, failed, sizeof failed);
        (void)close(fd);
        return;
    }
    fake_close(&p->fd);
    p->fd = fd;
    size_t at = offset < p->out.len ? (size_t)offset : p->out.len;
    struct frame_attached f = { .first = at, .next = p->out.len, .pid = p->pid, .ended = p->ended };
    if (atomic_load(&a->liar))
        f.first = f.next = UINT64_MAX - 1;
    uint8_t attached[FRAME_ATTACHED_LEN];
    frame_put_attached(attached, &f);
    fake_send(fd, FRAME_ATTACHED, attached, sizeof attached);
    for (size_t n; at < p->out.len; at += n) {
        n = p->out.len - at < FAKE_PIECE ? p->out.len - at : FAKE_PIECE;
        fake_send(fd, FRAME_STDOUT, buf_str(&p->out) + at, n);
    }
    if (p->ended)
        fake_tell_exit(p);
}

static inline void fake_obey(struct fake_agent *a, const struct frame *f)
{
    struct frame_spawn s;
    if (f->type == FRAME_WELCOME && !a->has_secret) {
        memcpy(a->secret, f->payload, FRAME_SECRET);
        a->has_secret = true;
    } else if (atomic_load(&a->mute)) {
        return;
    } else if (f->type == FRAME_SPAWN && frame_get_spawn(f, &s) == 0) {
        fake_spawn(a, &s);
    } else if (f->type == FRAME_ATTACH) {
        fake_attach(a, frame_u64(f->payload), frame_u64(f->payload + 8),
                    frame_u64(f->payload + 16));
    } else if (f->type == FRAME_FORGET || f->type == FRAME_NUDGE) {
        struct fake_proc *p = fake_kept(a, frame_u64(f->payload));
        if (p && f->type == FRAME_NUDGE)
            fake_end(p, 128 + (int)frame_u32(f->payload + 8), frame_u32(f->payload + 8));
        else if (p)
            fake_drop(p);
    }
}

/* false: the peer is gone. */
static inline bool fake_read(int fd, struct buf *in)
{
    char *room = buf_room(in, 64 * KIB);
    ssize_t n = room ? recv(fd, room, 64 * KIB, MSG_DONTWAIT) : 0;
    if (n > 0)
        buf_grew(in, (size_t)n);
    return n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR));
}

static inline bool fake_frame(struct buf *in, struct frame *f, size_t *size)
{
    return frame_parse((const uint8_t *)in->data, in->len, f, size) > 0;
}

static inline void fake_talk(struct fake_proc *p)
{
    struct frame f;
    size_t size;
    if (!fake_read(p->fd, &p->in)) {
        fake_close(&p->fd);
        if (!p->kept)
            fake_drop(p);
        return;
    }
    while (p->used && fake_frame(&p->in, &f, &size)) {
        if (f.type == FRAME_STDIN && p->echo)
            fake_write(p, (const char *)f.payload, f.len);
        buf_drop(&p->in, size);
        if (f.type == FRAME_EOF && p->echo)
            fake_end(p, 0, 0);
        else if (f.type == FRAME_KILL)
            fake_end(p, 143, 15);
    }
}

static inline void *fake_agent_main(void *arg)
{
    struct fake_agent *a = arg;
    while (!atomic_load(&a->quit)) {
        struct pollfd fds[FAKE_PROCS + 2] = { { .fd = a->wake, .events = POLLIN } };
        struct fake_proc *who[FAKE_PROCS + 2] = { NULL };
        nfds_t n = 1;
        bool deaf = atomic_load(&a->deaf), frozen = atomic_load(&a->frozen);
        atomic_store(&a->still, frozen);
        if (deaf)
            fake_close(&a->control);
        if (!frozen && !deaf && a->control < 0) {
            buf_reset(&a->in);
            a->control = fake_dial(a, HELLO_CONTROL, 0);
        }
        if (!frozen) {
            fds[n++] = (struct pollfd){ .fd = a->control, .events = POLLIN };
            for (int i = 0; i < FAKE_PROCS; i++)
                if (a->procs[i].used && a->procs[i].fd >= 0) {
                    who[n] = &a->procs[i];
                    fds[n++] = (struct pollfd){ .fd = a->procs[i].fd, .events = POLLIN };
                }
        }
        (void)poll(fds, n, !frozen && !deaf && a->control < 0 ? 5 : -1);
        if (fds[0].revents) {
            uint64_t count;
            (void)!read(a->wake, &count, sizeof count); /* only to quieten it */
            continue;
        }
        if (frozen)
            continue;
        for (nfds_t i = 2; i < n; i++)
            if (fds[i].revents && who[i]->fd == fds[i].fd)
                fake_talk(who[i]);
        struct frame f;
        size_t size;
        if (fds[1].revents && !fake_read(a->control, &a->in))
            fake_close(&a->control);
        while (a->control >= 0 && fake_frame(&a->in, &f, &size)) {
            fake_obey(a, &f);
            buf_drop(&a->in, size);
        }
    }
    for (int i = 0; i < FAKE_PROCS; i++)
        fake_drop(&a->procs[i]);
    fake_close(&a->control);
    buf_release(&a->in);
    return NULL;
}

static inline void fake_agent_wake(struct fake_agent *a)
{
    (void)eventfd_write(a->wake, 1);
}

static inline struct fake_agent *fake_agent_start(const char *run_dir)
{
    struct fake_agent *a = mem_new(1, sizeof *a);
    (void)snprintf(a->socket, sizeof a->socket, "%s/agent.sock", run_dir);
    a->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    a->control = -1;
    a->in = (struct buf)BUF_INIT(4 * FRAME_PAYLOAD_MAX);
    for (int i = 0; i < FAKE_PROCS; i++)
        a->procs[i].fd = -1;
    return a;
}

static inline void fake_agent_run(struct fake_agent *a)
{
    if (pthread_create(&a->thread, NULL, fake_agent_main, a) != 0)
        abort();
}

static inline void fake_agent_stop(struct fake_agent *a)
{
    if (!a)
        return;
    atomic_store(&a->quit, true);
    fake_agent_wake(a);
    (void)pthread_join(a->thread, NULL);
    (void)close(a->wake);
    free(a);
}

/* --- the runtime --- */

/* call, word */
#define FAKE_CALLS(C)     \
    C(PING, "ping")       \
    C(IMAGE, "image")     \
    C(ARCHIVE, "archive") \
    C(CREATE, "create")   \
    C(START, "start")     \
    C(STOP, "stop")       \
    C(REMOVE, "remove")   \
    C(PAUSE, "pause")     \
    C(UNPAUSE, "unpause") \
    C(RENAME, "rename")   \
    C(INSPECT, "inspect") \
    C(LIST, "list")
enum fake_call {
#define FAKE_ENUM(name, word) FAKE_##name,
    FAKE_CALLS(FAKE_ENUM)
#undef FAKE_ENUM
        FAKE_CALL_COUNT
};
static const char *const fake_call_names[] = {
#define FAKE_WORD(name, word) word,
    FAKE_CALLS(FAKE_WORD)
#undef FAKE_WORD
};

struct fake_box {
    struct runtime_container c;
    uint32_t revision;
    char run_dir[256];
    struct fake_agent *agent; /* while it runs */
};

struct fake_runtime {
    pthread_mutex_t lock;
    struct fake_box **boxes;
    size_t count;
    unsigned made;
    atomic_uint calls[FAKE_CALL_COUNT];
    /* The nth call from now on fails, before or after its work; -1: none. */
    atomic_int fail_call, fail_nth, fail_after, fail_code;
    void (*hook)(void *ctx, enum fake_call call); /* before each call, without locks */
    void *hook_ctx;
    atomic_bool mute_agents;  /* of containers that start from now on */
    atomic_int ends_at_start; /* what starts from now on ends with this code at once; 0: nothing */
};

/* 1: it is to fail now; *ret_after: once its work is done. */
static inline bool fake_enter(struct fake_runtime *f, enum fake_call call, bool *ret_after,
                              struct err *err)
{
    if (f->hook)
        f->hook(f->hook_ctx, call);
    atomic_fetch_add(&f->calls[call], 1);
    *ret_after = false;
    if (atomic_load(&f->fail_call) != (int)call || atomic_fetch_sub(&f->fail_nth, 1) != 1)
        return false;
    (void)err_set(err, (enum err_code)atomic_load(&f->fail_code), "%s was made to fail",
                  fake_call_names[call]);
    *ret_after = atomic_load(&f->fail_after);
    return true;
}

#define FAKE_ENTER(call)                                  \
    struct fake_runtime *f = self;                        \
    bool late, failing = fake_enter(f, call, &late, err); \
    if (failing && !late)                                 \
    return -1
#define FAKE_LEAVE(rc) return failing ? -1 : (rc)

static inline void fake_fail(struct fake_runtime *f, enum fake_call call, int nth, bool after,
                             enum err_code code)
{
    atomic_store(&f->fail_nth, nth);
    atomic_store(&f->fail_after, after);
    atomic_store(&f->fail_code, (int)code);
    atomic_store(&f->fail_call, (int)call);
}

static inline void fake_heal(struct fake_runtime *f)
{
    atomic_store(&f->fail_call, -1);
}

static inline struct fake_box *fake_find(struct fake_runtime *f, const char *ref)
{
    for (size_t i = 0; i < f->count; i++)
        if (str_eq(f->boxes[i]->c.container_id, ref) || str_eq(f->boxes[i]->c.name, ref))
            return f->boxes[i];
    return NULL;
}

static inline int fake_gone(const char *ref, struct err *err)
{
    return err_set(err, ERR_NOT_FOUND, "no container %s", ref);
}

static inline int fake_ping(void *self, char version[32], struct err *err)
{
    FAKE_ENTER(FAKE_PING);
    (void)str_copy(version, 32, "fake");
    FAKE_LEAVE(0);
}

static inline int fake_image(void *self, const char *ref, struct runtime_image *ret,
                             struct err *err)
{
    (void)ref;
    FAKE_ENTER(FAKE_IMAGE);
    (void)str_copy(ret->digest, sizeof ret->digest, "sha256:00");
    FAKE_LEAVE(0);
}

static inline int fake_archive(void *self, const char *image, const char *path,
                               int (*sink)(void *ctx, const void *data, size_t len,
                                           struct err *err),
                               void *ctx, struct err *err)
{
    (void)image, (void)sink, (void)ctx;
    FAKE_ENTER(FAKE_ARCHIVE);
    (void)late;
    return failing ? -1 : err_set(err, ERR_NOT_FOUND, "no %s in the image", path);
}

static inline int fake_create(void *self, const struct runtime_spec *spec,
                              char ret_container_id[65], uint32_t *granted_nofile, struct err *err)
{
    FAKE_ENTER(FAKE_CREATE);
    char name[128] = "s-";
    sandbox_id_lower(spec->id, name + 2);
    pthread_mutex_lock(&f->lock);
    struct fake_box *b = fake_find(f, name);
    if (!b) {
        b = mem_new(1, sizeof *b);
        (void)snprintf(b->c.container_id, sizeof b->c.container_id, "%064x", ++f->made);
        b->c.id = *spec->id;
        (void)str_copy(b->c.name, sizeof b->c.name, name);
        (void)str_copy(b->run_dir, sizeof b->run_dir, spec->mounts[1].source);
        f->boxes = reallocarray(f->boxes, f->count + 1, sizeof(struct fake_box *));
        f->boxes[f->count++] = b;
    }
    b->revision = spec->revision;
    (void)str_copy(ret_container_id, 65, b->c.container_id);
    pthread_mutex_unlock(&f->lock);
    *granted_nofile = spec->nofile;
    FAKE_LEAVE(0);
}

/* Under the lock. */
static inline void fake_run(struct fake_runtime *f, struct fake_box *b, const uint8_t *secret)
{
    b->agent = fake_agent_start(b->run_dir);
    atomic_store(&b->agent->mute, atomic_load(&f->mute_agents));
    if (secret) {
        memcpy(b->agent->secret, secret, FRAME_SECRET);
        b->agent->has_secret = true;
    }
    fake_agent_run(b->agent);
    b->c.status = RUNTIME_RUNNING;
    b->c.pid = 1;
    (void)str_copy(b->c.ip, sizeof b->c.ip, "127.0.0.2");
}

/* Under the lock; the agent is the caller's to stop, without it. */
static inline struct fake_agent *fake_kill(struct fake_box *b, int exit_code)
{
    struct fake_agent *a = b->agent;
    b->agent = NULL;
    if (b->c.status == RUNTIME_RUNNING || b->c.status == RUNTIME_PAUSED) {
        b->c.status = RUNTIME_EXITED;
        b->c.exit_code = exit_code;
    }
    b->c.ip[0] = 0;
    b->c.pid = 0;
    return a;
}

static inline int fake_start(void *self, const char *id, struct err *err)
{
    FAKE_ENTER(FAKE_START);
    int rc = 0, code = atomic_load(&f->ends_at_start);
    struct fake_agent *dead = NULL;
    pthread_mutex_lock(&f->lock);
    struct fake_box *b = fake_find(f, id);
    if (!b) {
        rc = fake_gone(id, err);
    } else if (code) {
        b->c.status = RUNTIME_RUNNING;
        dead = fake_kill(b, code);
    } else if (!b->agent) {
        fake_run(f, b, NULL);
    }
    pthread_mutex_unlock(&f->lock);
    fake_agent_stop(dead);
    FAKE_LEAVE(rc);
}

static inline int fake_stop(void *self, const char *id, uint32_t grace_ms, struct err *err)
{
    (void)grace_ms;
    FAKE_ENTER(FAKE_STOP);
    pthread_mutex_lock(&f->lock);
    struct fake_box *b = fake_find(f, id);
    struct fake_agent *a = b ? fake_kill(b, 143) : NULL;
    pthread_mutex_unlock(&f->lock);
    fake_agent_stop(a);
    FAKE_LEAVE(0);
}

static inline int fake_remove(void *self, const char *id, struct err *err)
{
    FAKE_ENTER(FAKE_REMOVE);
    struct fake_agent *a = NULL;
    pthread_mutex_lock(&f->lock);
    for (size_t i = 0; i < f->count; i++)
        if (str_eq(f->boxes[i]->c.container_id, id)) {
            a = fake_kill(f->boxes[i], 137);
            free(f->boxes[i]);
            f->boxes[i] = f->boxes[--f->count];
            break;
        }
    pthread_mutex_unlock(&f->lock);
    fake_agent_stop(a);
    FAKE_LEAVE(0);
}

static inline int fake_freeze(struct fake_runtime *f, const char *id, bool frozen, struct err *err)
{
    int rc = 0;
    pthread_mutex_lock(&f->lock);
    struct fake_box *b = fake_find(f, id);
    if (!b) {
        rc = fake_gone(id, err);
    } else if (!b->agent) {
        rc = err_set(err, ERR_CONFLICT, "the container does not run");
    } else {
        b->c.status = frozen ? RUNTIME_PAUSED : RUNTIME_RUNNING;
        atomic_store(&b->agent->frozen, frozen);
        fake_agent_wake(b->agent);
    }
    pthread_mutex_unlock(&f->lock);
    return rc;
}

static inline int fake_pause(void *self, const char *id, struct err *err)
{
    FAKE_ENTER(FAKE_PAUSE);
    int rc = fake_freeze(f, id, true, err);
    FAKE_LEAVE(rc);
}

static inline int fake_unpause(void *self, const char *id, struct err *err)
{
    FAKE_ENTER(FAKE_UNPAUSE);
    int rc = fake_freeze(f, id, false, err);
    FAKE_LEAVE(rc);
}

static inline int fake_rename(void *self, const char *id, const char *name, struct err *err)
{
    FAKE_ENTER(FAKE_RENAME);
    pthread_mutex_lock(&f->lock);
    struct fake_box *b = fake_find(f, id);
    int rc = b ? 0 : fake_gone(id, err);
    if (b)
        (void)str_copy(b->c.name, sizeof b->c.name, name);
    pthread_mutex_unlock(&f->lock);
    FAKE_LEAVE(rc);
}

static inline int fake_inspect(void *self, const char *ref, struct runtime_container *ret,
                               struct err *err)
{
    FAKE_ENTER(FAKE_INSPECT);
    pthread_mutex_lock(&f->lock);
    struct fake_box *b = fake_find(f, ref);
    int rc = b ? 0 : fake_gone(ref, err);
    if (b)
        *ret = b->c;
    pthread_mutex_unlock(&f->lock);
    FAKE_LEAVE(rc);
}

static inline int fake_inspect_json(void *self, const char *ref, char **ret, struct err *err)
{
    (void)self, (void)ref, (void)err;
    *ret = str_dup("{}");
    return 0;
}

static inline int fake_list(void *self, struct runtime_container **ret, size_t *ret_count,
                            struct err *err)
{
    FAKE_ENTER(FAKE_LIST);
    pthread_mutex_lock(&f->lock);
    struct runtime_container *list = mem_new(f->count ? f->count : 1, sizeof *list);
    for (size_t i = 0; i < f->count; i++)
        list[i] = f->boxes[i]->c;
    size_t n = f->count;
    pthread_mutex_unlock(&f->lock);
    if (failing) {
        free(list);
        return -1;
    }
    *ret = list;
    *ret_count = n;
    return 0;
}

static inline void fake_runtime_init(struct fake_runtime *f, struct runtime *rt)
{
    *f = (struct fake_runtime){ .lock = PTHREAD_MUTEX_INITIALIZER };
    atomic_store(&f->fail_call, -1);
    *rt = (struct runtime){ .self = f,
                            .ping = fake_ping,
                            .image = fake_image,
                            .image_archive = fake_archive,
                            .create = fake_create,
                            .start = fake_start,
                            .stop = fake_stop,
                            .remove = fake_remove,
                            .pause = fake_pause,
                            .unpause = fake_unpause,
                            .rename = fake_rename,
                            .inspect = fake_inspect,
                            .inspect_json = fake_inspect_json,
                            .list = fake_list };
}

static inline void fake_runtime_release(struct fake_runtime *f)
{
    for (size_t i = 0; i < f->count; i++) {
        fake_agent_stop(fake_kill(f->boxes[i], 137));
        free(f->boxes[i]);
    }
    free(f->boxes);
    f->boxes = NULL;
    f->count = 0;
}

/* --- by hand --- */

/* A copy of the sandbox's container; false: there is none. */
static inline bool fake_box_of(struct fake_runtime *f, const struct sandbox_id *id,
                               struct runtime_container *ret)
{
    pthread_mutex_lock(&f->lock);
    struct fake_box *found = NULL;
    for (size_t i = 0; i < f->count && !found; i++)
        if (sandbox_id_eq(&f->boxes[i]->c.id, id))
            found = f->boxes[i];
    if (found)
        *ret = found->c;
    pthread_mutex_unlock(&f->lock);
    return found != NULL;
}

/* The agent of one that runs; good as long as nobody stops the container. */
static inline struct fake_agent *fake_agent_of(struct fake_runtime *f, const struct sandbox_id *id)
{
    struct fake_agent *a = NULL;
    pthread_mutex_lock(&f->lock);
    for (size_t i = 0; i < f->count; i++)
        if (sandbox_id_eq(&f->boxes[i]->c.id, id))
            a = f->boxes[i]->agent;
    pthread_mutex_unlock(&f->lock);
    if (!a)
        abort(); /* a test's mistake */
    return a;
}

/* One that is starved: it reads nothing until it goes on, and then all that was sent. */
static inline void fake_stall(struct fake_agent *a)
{
    atomic_store(&a->frozen, true);
    fake_agent_wake(a);
    while (!atomic_load(&a->still))
        (void)poll(NULL, 0, 1);
}

static inline void fake_go_on(struct fake_agent *a)
{
    atomic_store(&a->frozen, false);
    fake_agent_wake(a);
}

/* A container that was there before the daemon. secret: of its agent's, NULL: it knows none. */
static inline void fake_plant(struct fake_runtime *f, const struct sandbox_id *id,
                              const char *container_id, const char *run_dir,
                              enum runtime_status status, const uint8_t *secret)
{
    struct fake_box *b = mem_new(1, sizeof *b);
    (void)str_copy(b->c.container_id, sizeof b->c.container_id, container_id);
    b->c.id = *id;
    b->c.name[0] = 's';
    b->c.name[1] = '-';
    sandbox_id_lower(id, b->c.name + 2);
    (void)str_copy(b->run_dir, sizeof b->run_dir, run_dir);
    pthread_mutex_lock(&f->lock);
    f->boxes = reallocarray(f->boxes, f->count + 1, sizeof(struct fake_box *));
    f->boxes[f->count++] = b;
    if (status == RUNTIME_RUNNING || status == RUNTIME_PAUSED)
        fake_run(f, b, secret);
    b->c.status = status;
    if (status == RUNTIME_PAUSED)
        atomic_store(&b->agent->frozen, true);
    pthread_mutex_unlock(&f->lock);
}

#endif
