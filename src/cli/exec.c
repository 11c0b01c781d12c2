/* exec: a process of the sandbox in place of this one.
 *
 * Three threads: main brings output, one takes standard input there, one passes signals on. Each
 * has connections of its own, so none waits for another. The process is told to hold ("hold") while
 * its output is not taken, so nothing is lost however slow that is. When a connection breaks, it is
 * taken up at the byte where it broke, for RECONNECT_MS; then the process is left to itself. Once
 * it has ended, its record is removed: exec leaves nothing behind. */
#include "remote.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/limits.h"
#include "base/str.h"
#include "base/worker.h"
#include "events.h"

#define RECONNECT_MS 30000
#define RECONNECT_STEP_MS 250
#define INTERRUPTS_MAX 3 /* the last of them kills */

struct running {
    struct cli *c;
    char box[BOX_ID], process[BOX_ID];
    int64_t offset; /* of the output that is taken */
    int status;     /* -1: it has not ended */
    int interrupts;
    bool broken_pipe;
    int64_t heard_ms;
};

static void path_of(const struct running *r, struct buf *b, const char *tail)
{
    path_box(b, r->box, "/processes/");
    buf_addf(b, "%s%s", r->process, tail);
}

/* --- start --- */

int remote_body(const struct args *a, struct buf *b, const struct remote_wish *wish,
                struct err *err)
{
    struct json_out o = JSON_OUT(b);
    const char *text, *timeout = args_value(a, "timeout");
    size_t at = 0;
    json_open(&o, NULL);
    json_list(&o, "cmd");
    for (size_t i = 1; i < a->count; i++)
        json_put(&o, NULL, a->words[i]);
    json_unlist(&o);
    if (args_flag(a, "workdir"))
        json_put(&o, "cwd", args_value(a, "workdir"));
    json_open(&o, "env");
    if (wish->term && *wish->term)
        json_put(&o, "TERM", wish->term);
    while ((text = args_each(a, "env", &at))) {
        AUTO(free) char *name = NULL;
        const char *value;
        if (args_pair("env", text, &name, &value, err) < 0)
            return -1;
        json_put(&o, name, value);
    }
    json_close(&o);
    if (timeout) {
        int64_t ms;
        if (args_duration("timeout", timeout, &ms, err) < 0)
            return -1;
        json_put_int(&o, "timeout_ms", ms);
    }
    if (wish->stdin_open)
        json_put_bool(&o, "stdin", true);
    if (wish->hold)
        json_put_bool(&o, "hold", true);
    if (wish->cols) {
        json_open(&o, "pty");
        json_put_int(&o, "cols", wish->cols);
        json_put_int(&o, "rows", wish->rows);
        json_close(&o);
    }
    json_close(&o);
    return buf_done(b, err);
}

int remote_start(struct cli *c, const char *box, const struct buf *body, struct json **ret,
                 struct err *err)
{
    AUTO(buf) struct buf path = BUF_INIT(1 * KIB);
    path_box(&path, box, "/processes");
    struct request rq = { .method = "POST",
                          .path = buf_str(&path),
                          .body = buf_str(body),
                          .body_len = body->len,
                          .what = "starting" };
    return http_json(c->http, &rq, ret, err);
}

int remote_refused(const struct cli *c, const struct err *err)
{
    if (err->code != ERR_INVALID || !str_starts(err->msg, "cmd: "))
        return fail(c, err);
    bool found = !str_eq(err->msg, "cmd: not found");
    note("%s%s", c->args.words[1], err->msg + 3);
    return found ? STATUS_NOT_RUN : STATUS_NOT_FOUND;
}

/* --- standard input: a thread --- */

/* 0, 1: it takes no more, -1: try again. */
static int feed(const struct running *r, const char *data, size_t len, bool eof)
{
    struct err err;
    AUTO(buf) struct buf path = BUF_INIT(1 * KIB);
    AUTO(json) struct json *j = NULL;
    path_of(r, &path, eof ? "/stdin?eof=true" : "/stdin");
    struct request rq = { .method = "POST",
                          .path = buf_str(&path),
                          .type = "application/octet-stream",
                          .body = data,
                          .body_len = len };
    if (http_json(r->c->http, &rq, &j, &err) == 0)
        return 0;
    /* Of a timeout it is known that nothing was taken; of a broken connection nothing is known, and
     * bytes that come twice are worse than an end. */
    if (err.code != ERR_TIMEOUT && err.code != ERR_CONFLICT)
        note("standard input ends here: %s", err.msg);
    return err.code == ERR_TIMEOUT ? -1 : 1;
}

static void *feed_all(void *arg)
{
    const struct running *r = arg;
    AUTO(free) char *data = mem_new(1, PROCESS_FEED_PIECE);
    for (;;) {
        ssize_t n = read(STDIN_FILENO, data, PROCESS_FEED_PIECE);
        if (n < 0 && errno == EINTR)
            continue;
        int rc;
        do
            rc = feed(r, data, n > 0 ? (size_t)n : 0, n <= 0);
        while (rc < 0);
        if (rc > 0 || n <= 0)
            return NULL;
    }
}

/* --- signals: a thread --- */

static void forwarded(sigset_t *set)
{
    static const int all[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2 };
    sigemptyset(set);
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        sigaddset(set, all[i]);
}

int remote_signal(struct cli *c, const char *box, const char *process, int number, bool tree,
                  struct err *err)
{
    AUTO(buf) struct buf path = BUF_INIT(1 * KIB);
    AUTO(buf) struct buf body = BUF_INIT(1 * KIB);
    AUTO(buf) struct buf ignored = BUF_INIT(REPLY_MAX);
    path_box(&path, box, "/processes/");
    buf_addf(&path, "%s/signal", process);
    buf_addf(&body, "{\"signal\":%d,\"tree\":%s}", number, tree ? "true" : "false");
    struct request rq = {
        .method = "POST", .path = buf_str(&path), .body = buf_str(&body), .body_len = body.len
    };
    return http_call(c->http, &rq, &ignored, err);
}

static void may_go_on(const struct running *r)
{
    note("the command may go on: sandboxd logs %s %s", r->box, r->process);
}

static void *forward_all(void *arg)
{
    struct running *r = arg;
    sigset_t set;
    forwarded(&set);
    for (;;) {
        struct err err;
        int got = 0;
        if (sigwait(&set, &got) != 0)
            continue;
        r->interrupts = got == SIGINT ? r->interrupts + 1 : 0;
        bool kill = r->interrupts >= INTERRUPTS_MAX;
        int rc = remote_signal(r->c, r->box, r->process, kill ? SIGKILL : got, kill, &err);
        if (rc == 0 || err.code == ERR_CONFLICT)
            continue;
        if (err.code != ERR_NOT_FOUND) /* nobody there to take it: the daemon is away */
            may_go_on(r);
        _exit(STATUS_SIGNAL + got);
    }
}

/* --- output --- */

static int put(struct running *r, const struct event *e)
{
    if (r->c->json) {
        if (fd_write_all(STDOUT_FILENO, e->line, strlen(e->line)) < 0)
            return -1;
        return fd_write_all(STDOUT_FILENO, "\n", 1);
    }
    return fd_write_all(str_eq(e->type, "stderr") ? STDERR_FILENO : STDOUT_FILENO, e->data, e->len);
}

/* 1: the end of it all */
static int on_event(void *ctx, const struct event *e, struct err *err)
{
    struct running *r = ctx;
    int64_t offset = r->offset, lost = 0;
    bool ends = str_eq(e->type, "exit");
    r->heard_ms = clock_mono_ms();
    if (str_eq(e->type, "truncated") && json_int(json_key(e->json, "lost_bytes"), &lost))
        note("%lld bytes of output were lost while the connection was broken", (long long)lost);
    if ((e->data || r->c->json) && put(r, e) < 0) {
        r->broken_pipe = errno == EPIPE;
        return r->broken_pipe ? 1 : err_sys(err, errno, "cannot write the output");
    }
    if (e->data && json_int(json_key(e->json, "offset"), &offset))
        r->offset = offset + (int64_t)e->len;
    if (ends)
        r->status = exit_status(json_key(e->json, "process"));
    if (ends && str_eq(json_text(json_at(e->json, "process.status")), "lost"))
        note("the command ended unseen: its sandbox was stopped");
    return ends ? 1 : 0;
}

/* 1: there is an end; -1. */
static int follow(struct running *r, struct err *err)
{
    r->heard_ms = clock_mono_ms();
    for (;;) {
        AUTO(buf) struct buf path = BUF_INIT(1 * KIB);
        path_of(r, &path, "/output?follow=true&hold=true");
        buf_addf(&path, "&offset=%lld", (long long)r->offset);
        struct request rq = { .method = "GET", .path = buf_str(&path) };
        int rc = events_run(r->c->http, &rq, on_event, r, err);
        if (rc == 1)
            return 1;
        if (rc == 0)
            (void)err_set(err, ERR_UNAVAILABLE, "the connection ended");
        if (!err_retryable(err->code) || clock_mono_ms() - r->heard_ms > RECONNECT_MS)
            return -1;
        (void)poll(NULL, 0, RECONNECT_STEP_MS);
    }
}

static void forget(const struct running *r)
{
    struct err ignored;
    AUTO(buf) struct buf path = BUF_INIT(1 * KIB);
    AUTO(buf) struct buf reply = BUF_INIT(REPLY_MAX);
    path_of(r, &path, "");
    struct request rq = { .method = "DELETE", .path = buf_str(&path) };
    (void)http_call(r->c->http, &rq, &reply, &ignored); /* it goes with the next hundred, then */
}

static int run_attached(struct running *r)
{
    struct err err;
    unsigned long thread;
    if (thread_start(forward_all, r, "signals", &thread, &err) < 0 ||
        (args_flag(&r->c->args, "stdin") && thread_start(feed_all, r, "stdin", &thread, &err) < 0))
        return fail(r->c, &err);
    int rc = follow(r, &err);
    if (rc > 0) {
        forget(r); /* or ends it: nobody takes what it writes */
        return r->broken_pipe ? STATUS_SIGNAL + SIGPIPE : r->status;
    }
    int status = fail(r->c, &err);
    may_go_on(r);
    return status;
}

int run_exec(struct cli *c)
{
    /* The threads use it until the process ends, whenever main returns. */
    static struct running running;
    struct running *r = &running;
    struct err err;
    AUTO(buf) struct buf body = BUF_INIT(HTTP_BODY_JSON_MAX);
    AUTO(json) struct json *p = NULL;
    const struct args *a = &c->args;
    bool detach = args_flag(a, "detach");
    if (args_flag(a, "tty") && !detach)
        return run_shell(c);
    *r = (struct running){ .c = c, .status = -1 };
    bool tty = args_flag(a, "tty"); /* that somebody will attach to */
    const struct remote_wish wish = { .stdin_open = args_flag(a, "stdin"),
                                      .hold = !detach,
                                      .cols = tty ? 80 : 0,
                                      .rows = tty ? 24 : 0 };
    if (remote_body(a, &body, &wish, &err) < 0)
        return wrong_usage(c, &err);
    if (box_find(c, a->words[0], r->box, &err) < 0)
        return fail(c, &err);
    sigset_t set;
    forwarded(&set);
    if (!detach) {
        (void)pthread_sigmask(SIG_BLOCK, &set, NULL); /* from before there is anything to end */
        (void)signal(SIGPIPE, SIG_IGN);
    }
    if (remote_start(c, r->box, &body, &p, &err) < 0)
        return remote_refused(c, &err);
    if (!str_copy(r->process, BOX_ID, json_text(json_key(p, "id")))) {
        (void)err_set(&err, ERR_INVALID, "%s is no such API", http_url(c->http));
        return fail(c, &err);
    }
    if (!detach)
        return run_attached(r);
    AUTO(free) char *text = c->json ? json_dump(p) : NULL;
    (void)printf("%s\n", text ? text : r->process);
    return 0;
}
