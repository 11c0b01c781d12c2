/* Running a command: one thread per command sits between its client and its stream from the
 * sandbox. Nothing is gathered here; a slow client slows the command down through the kernel's
 * buffers, a client that leaves ends it (the stream is closed, and the monitor inside ends all
 * descendants). */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/str.h"
#include "inside.h"
#include "wire/frames.h"

#define GONE_LOOK_MS 1000  /* how often a client without an event is looked at */
#define END_SLACK_MS 15000 /* beyond the command's own limit, for its descendants' end */

/* --- the conversation --- */

struct talk {
    int fd;
    const struct core_exec *req;
    const struct exec_sink *sink;
    struct exec_result *result;
    struct buf in;
    size_t fed; /* bytes of stdin handed over */
    bool eof_sent;
    bool started;
    bool ended;
    bool gone;
};

const char *core_failed_why(int sys)
{
    switch (sys) {
    case ENOENT:
        return "not found";
    case EACCES:
    case EPERM:
        return "permission denied";
    case ENOEXEC:
        return "not an executable (a script needs a #! line)";
    case E2BIG:
        return "arguments and environment are too long";
    case EAGAIN:
    case ENOMEM:
        return "the sandbox is out of processes or memory";
    case ENOTDIR:
    case ELOOP:
    case EXDEV:
        return "not a directory inside the sandbox's own files";
    default:
        return "cannot be run";
    }
}

static void hand_out(struct talk *t, enum exec_stream stream, const void *data, size_t len)
{
    t->result->bytes[stream] += len;
    if (len && !t->gone && t->sink->write(t->sink->ctx, stream, data, len) < 0)
        t->gone = true;
}

/* As a shell does: 127 not found, 126 found but not runnable, and the reason on stderr. A bad cwd
 * is the request's fault. */
static int on_failed(struct talk *t, const struct frame *f, struct err *err)
{
    if (f->len < 5)
        return err_set(err, ERR_UNAVAILABLE, "the sandbox's agent sent nonsense");
    int sys = (int)frame_u32(f->payload);
    if (f->payload[4] == STEP_CWD)
        return err_set(err, ERR_INVALID, "cwd: %s",
                       sys == ENOENT ? "no such directory" : core_failed_why(sys));
    if (f->payload[4] != STEP_EXEC)
        return err_set(err, ERR_UNAVAILABLE, "the command could not be started: %s",
                       core_failed_why(sys));
    char text[512];
    int n = snprintf(text, sizeof text, "exec: %.256s: %s\n", t->req->argv->items[0],
                     core_failed_why(sys));
    t->result->code = sys == ENOENT ? 127 : 126;
    t->ended = true;
    hand_out(t, EXEC_STDERR, text, (size_t)n);
    return 0;
}

static int on_frame(struct talk *t, const struct frame *f, struct err *err)
{
    struct frame_exit e;
    switch (f->type) {
    case FRAME_STARTED:
        if (f->len < 4 || t->started)
            break;
        t->started = true;
        t->result->pid = frame_u32(f->payload);
        if (t->sink->started && t->sink->started(t->sink->ctx, t->result->pid) < 0)
            t->gone = true;
        return 0;
    case FRAME_STDOUT:
    case FRAME_STDERR:
        hand_out(t, f->type == FRAME_STDOUT ? EXEC_STDOUT : EXEC_STDERR, f->payload, f->len);
        return 0;
    case FRAME_FAILED:
        return on_failed(t, f, err);
    case FRAME_EXIT:
        if (frame_get_exit(f, &e) < 0)
            break;
        t->result->code = e.code & 0xff;
        t->result->signal = e.signal <= 64 ? e.signal : 0;
        t->result->timed_out = e.timed_out;
        t->result->leftovers = e.leftovers;
        t->ended = true;
        return 0;
    default:
        break;
    }
    return err_set(err, ERR_UNAVAILABLE, "the sandbox's agent sent nonsense");
}

/* 1: bytes came, 0: end of stream. */
static int receive(struct talk *t, struct err *err)
{
    char *room = buf_room(&t->in, 64 * KIB);
    if (!room)
        return err_set(err, ERR_UNAVAILABLE, "the sandbox's agent sent nonsense");
    ssize_t n = recv(t->fd, room, 64 * KIB, MSG_DONTWAIT);
    if (n < 0)
        return errno == EAGAIN || errno == EINTR ? 1 : 0;
    if (n == 0)
        return 0;
    buf_grew(&t->in, (size_t)n);
    size_t at = 0;
    /* Of a detached one the start is waited for whoever has left. */
    while (!t->ended && (!t->gone || t->req->detach)) {
        struct frame f;
        size_t size;
        int got = frame_parse((const uint8_t *)t->in.data + at, t->in.len - at, &f, &size);
        if (got < 0)
            return err_set(err, ERR_UNAVAILABLE, "the sandbox's agent sent nonsense");
        if (got == 0)
            break;
        if (on_frame(t, &f, err) < 0)
            return -1;
        at += size;
    }
    buf_drop(&t->in, at);
    return 1;
}

/* Feeds stdin as far as the stream takes it; a frame is sent whole once begun. */
static void feed(struct talk *t)
{
    uint8_t head[FRAME_HEADER];
    while (t->fed < t->req->stdin_len) {
        size_t len = t->req->stdin_len - t->fed;
        if (len > 32 * KIB)
            len = 32 * KIB;
        frame_header(head, FRAME_STDIN, (uint32_t)len);
        struct pollfd p = { .fd = t->fd, .events = POLLOUT };
        if (poll(&p, 1, 0) != 1 || !(p.revents & POLLOUT))
            return;
        /* A Unix stream socket is writable only while at most a quarter of its buffer is in use, so
         * a chunk always fits and these sends do not block. */
        if (send(t->fd, head, sizeof head, MSG_NOSIGNAL | MSG_MORE) != (ssize_t)sizeof head)
            return;
        for (size_t sent = 0; sent < len;) {
            ssize_t n = send(t->fd, t->req->stdin_text + t->fed + sent, len - sent, MSG_NOSIGNAL);
            if (n <= 0)
                return; /* the stream is gone: receive() sees it */
            sent += (size_t)n;
        }
        t->fed += len;
    }
    if (!t->eof_sent) {
        frame_header(head, FRAME_EOF, 0);
        (void)send(t->fd, head, sizeof head, MSG_NOSIGNAL); /* as above */
        t->eof_sent = true;
    }
}

static int converse(struct talk *t, struct err *err)
{
    int64_t deadline =
        t->req->timeout_ms ? clock_mono_ms() + t->req->timeout_ms + END_SLACK_MS : INT64_MAX;
    int64_t look = clock_mono_ms() + GONE_LOOK_MS;
    int gone_fd = t->sink->gone_fd;
    for (;;) {
        bool feeding = t->started && t->req->stdin_text && !t->eof_sent;
        struct pollfd p[2] = { { .fd = t->fd, .events = (short)(POLLIN | (feeding ? POLLOUT : 0)) },
                               { .fd = gone_fd, .events = POLLRDHUP } };
        int64_t until = look < deadline ? look : deadline;
        if (poll(p, 2, clock_left_ms(until)) < 0 && errno != EINTR)
            return err_sys(err, errno, "wait for the command");
        if (p[0].revents & POLLOUT)
            feed(t);
        if (p[0].revents & (POLLIN | POLLHUP | POLLERR)) {
            int got = receive(t, err);
            if (got < 0 || t->ended)
                return got < 0 ? -1 : 0;
            if (got == 0)
                return err_set(
                    err, ERR_UNAVAILABLE,
                    "the command was cut off: the sandbox stopped, or its supervisor was killed");
        }
        if (t->req->detach && t->started && (!t->req->stdin_text || t->eof_sent))
            return 0; /* all of its stdin is on the way; the monitor delivers it */
        int64_t now = clock_mono_ms();
        if (p[1].revents || now >= look) {
            look = now + GONE_LOOK_MS;
            if (p[1].revents)
                gone_fd = -1; /* a half-close stays readable: from here on once a second */
            if (t->sink->gone && t->sink->gone(t->sink->ctx))
                t->gone = true;
            else if (p[1].revents)
                look = now + 20; /* a peer that has really left shows it within a round trip */
        }
        if (t->gone && !t->req->detach)
            return err_set(err, ERR_CANCELLED, "the client went away");
        if (now >= deadline)
            return err_set(err, ERR_TIMEOUT, "the command did not end in time");
    }
}

/* --- a client that goes away while its command serves --- */

/* Whoever starts a server by hand and presses Ctrl-C wants to look at it, not to end it: a command
 * that listens on a port when its client leaves becomes a service, and comes back at each wake. The
 * agent decides, for only it sees the sockets; it is asked once the stream is closed. */
static void keep_if_listening(struct core *c, const struct sandbox *s, const struct core_exec *req,
                              uint64_t number)
{
    char name[SERVICE_NAME_MAX + 1];
    struct err err;
    struct sandbox_id id;
    enum service_state before;
    AUTO(free) char *cmd = core_argv_json(req->argv);
    core_service_name(req->argv, name);
    supervisor_claim_free(c->supervisor, s, cmd, name, &before);
    struct service spec = { .name = name,
                            .cmd = cmd,
                            .cwd = req->cwd ? (char *)(uintptr_t)req->cwd
                                            : (char[]){ "/home/sandbox/workspace" },
                            .restart = SERVICE_ALWAYS };
    if (req->env)
        spec.env = *req->env; /* borrowed: declared_add copies */
    struct process_spec p = {
        .argv = req->argv, .cwd = spec.cwd, .env = req->env, .service = name
    };
    if (core_process_adopt(c, s, &p, number, &id, &err) < 0) {
        if (err.code != ERR_NOT_FOUND) /* that one: it did not listen, and has been ended */
            log_warn("exec.not_kept", KV_STR("id", s->id.text), KV_ERR(&err));
        supervisor_unclaim(c->supervisor, s, name, before);
        return;
    }
    if (supervisor_declare(c->supervisor, s, &spec, &id, &err) < 0) {
        log_warn("exec.not_declared", KV_STR("id", s->id.text), KV_ERR(&err));
        supervisor_unclaim(c->supervisor, s, name, before);
    } else {
        log_info("exec.kept", KV_STR("id", s->id.text), KV_STR("service", name));
    }
}

static int run(struct core *c, const struct sandbox *s, const struct core_exec *req,
               const struct exec_sink *sink, struct exec_result *ret, struct err *err)
{
    *ret = (struct exec_result){ 0 };
    struct talk t = { .fd = -1,
                      .req = req,
                      .sink = sink,
                      .result = ret,
                      .in = BUF_INIT(FRAME_PAYLOAD_MAX + 128 * KIB) };
    struct core_command cmd = { .argv = req->argv,
                                .cwd = req->cwd,
                                .env = req->env,
                                .timeout_ms = req->timeout_ms,
                                .flags = (req->stdin_text ? (uint32_t)SPAWN_STDIN : 0) |
                                         (req->detach ? (uint32_t)SPAWN_DETACH
                                                      : (uint32_t)SPAWN_KEEP_IF_LISTENING),
                                .process = req->detach ? 0 : core_process_number(c) };
    int rc = core_spawn(c, s, &cmd, &t.fd, err);
    if (rc == 0)
        rc = converse(&t, err);
    auto_fd(&t.fd);
    t.fd = -1;
    if (rc < 0 && err->code == ERR_CANCELLED)
        keep_if_listening(c, s, req, cmd.process);
    buf_release(&t.in);
    return rc;
}

int core_exec(struct core *c, const struct caller *who, const struct sandbox_id *id,
              const struct core_exec *req, const struct exec_sink *sink, struct exec_result *ret,
              struct err *err)
{
    /* Counted before it is looked whether the sandbox is awake: see put_to_sleep. */
    const struct sandbox *s = core_own_row(c, who, id, err);
    if (!s)
        return -1;
    core_unref(s);
    if (registry_exec_begin(c->registry, id, err) < 0)
        return -1;
    registry_touch(c->registry, id);
    int rc = core_start(c, who, id, &s, err);
    if (rc == 0) {
        rc = run(c, s, req, sink, ret, err);
        core_unref(s);
    }
    registry_exec_end(c->registry, id);
    registry_touch(c->registry, id);
    volume_touched(c->p.volume, id);
    return rc;
}
