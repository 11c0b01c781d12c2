/* shell: a terminal of a sandbox on the one we sit at. One loop: keys, output, signals.
 *
 * The terminal over there is a process of the sandbox; leaving, by the keys or by a broken
 * connection, only detaches from it. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/limits.h"
#include "base/str.h"
#include "remote.h"
#include "terminal.h"
#include "websocket.h"

#define KEYS "ctrl-p,ctrl-q"
#define PIECE (16 * KIB)
#define WAITING_MAX (256 * KIB) /* of typed bytes; then the terminal waits */

struct shell {
    struct cli *c;
    struct web_socket *ws;
    struct detach_keys keys;
    char process[BOX_ID];
    int status; /* -1: it goes on */
    bool write_failed, detached, stdin_ended;
};

/* --- what comes --- */

static void on_note(struct shell *s, const char *data, size_t len)
{
    struct err ignored;
    AUTO(json) struct json *j = NULL;
    if (json_parse(data, len, &j, &ignored) < 0)
        return;
    const struct json *end = json_key(j, "exit");
    const char *process = json_text(json_at(j, "attached.process"));
    if (process)
        (void)str_copy(s->process, sizeof s->process, process); /* only told to people */
    if (end)
        s->status = exit_status(end);
}

static void on_message(void *ctx, bool binary, const char *data, size_t len)
{
    struct shell *s = ctx;
    if (!binary)
        on_note(s, data, len);
    else if (fd_write_all(STDOUT_FILENO, data, len) < 0)
        s->write_failed = true;
}

/* --- what goes --- */

static void send_size(struct shell *s)
{
    char text[64];
    int cols, rows;
    terminal_size(&cols, &rows);
    int n = snprintf(text, sizeof text, "{\"resize\":{\"cols\":%d,\"rows\":%d}}", cols, rows);
    web_socket_send(s->ws, false, text, (size_t)n);
}

static void take_keys(struct shell *s)
{
    char in[PIECE], out[PIECE + DETACH_KEYS_MAX];
    size_t len;
    ssize_t n = read(STDIN_FILENO, in, sizeof in);
    if (n < 0 && (errno == EINTR || errno == EAGAIN))
        return;
    s->stdin_ended = n <= 0;
    if (n <= 0)
        return;
    s->detached = detach_keys_feed(&s->keys, in, (size_t)n, out, &len);
    if (len > 0)
        web_socket_send(s->ws, true, out, len);
}

/* A signal that ends us; 0: none. */
static int take_signals(struct shell *s, int fd)
{
    int got;
    while ((got = terminal_signal(fd)) != 0) {
        if (got == SIGTSTP)
            terminal_suspend();
        else if (got != SIGWINCH && got != SIGCONT)
            return got;
        send_size(s); /* it may have changed while we were stopped, too */
    }
    return 0;
}

/* --- the loop --- */

/* 0: there is an end (status, detached); a signal that ended it; -1. */
static int loop(struct shell *s, int signals, struct err *err)
{
    for (;;) {
        int rc = web_socket_step(s->ws, on_message, s, err);
        if (s->status >= 0 || rc < 0)
            return s->status >= 0 ? 0 : -1;
        if (s->write_failed)
            return err_set(err, ERR_INVALID, "cannot write to the terminal");
        if (rc == 0)
            return err_set(err, ERR_UNAVAILABLE, "the daemon closed the connection%s%s",
                           *web_socket_reason(s->ws) ? ": " : "", web_socket_reason(s->ws));
        if (s->detached)
            return 0;
        bool takes = !s->stdin_ended && web_socket_waiting(s->ws) < WAITING_MAX;
        struct pollfd fds[] = {
            { .fd = web_socket_fd(s->ws),
              .events = (short)(POLLIN | (web_socket_waiting(s->ws) ? POLLOUT : 0)) },
            { .fd = takes ? STDIN_FILENO : -1, .events = POLLIN },
            { .fd = signals, .events = POLLIN },
        };
        if (poll(fds, 3, -1) < 0 && errno != EINTR)
            return err_sys(err, errno, "poll");
        if (fds[1].revents)
            take_keys(s);
        int got = fds[2].revents ? take_signals(s, signals) : 0;
        if (got)
            return got;
    }
}

static int attach(struct shell *s, const char *path)
{
    struct err err;
    int signals = terminal_signals(&err);
    if (signals < 0 || web_socket_open(s->c->http, path, &s->ws, &err) < 0)
        return fail(s->c, &err);
    int rc = terminal_raw(&err);
    if (rc == 0) {
        send_size(s);
        rc = loop(s, signals, &err);
    }
    terminal_restore();
    int status = s->status;
    if (rc < 0)
        status = fail(s->c, &err);
    else if (rc > 0)
        status = STATUS_SIGNAL + rc;
    else if (status < 0)
        status = 0;
    if (s->status < 0 && s->process[0])
        note("%s; it goes on: sandboxd shell %s --attach %s", rc ? "left" : "detached",
             s->c->args.words[0], s->process);
    web_socket_free(s->ws);
    (void)close(signals);
    return status;
}

/* A command of its own is a process in a terminal of its own, attached to right away. */
static int start_command(struct cli *c, const char *box, char process[BOX_ID])
{
    struct err err;
    struct remote_wish wish = { .stdin_open = true, .term = secure_getenv("TERM") };
    AUTO(buf) struct buf body = BUF_INIT(HTTP_BODY_JSON_MAX);
    AUTO(json) struct json *p = NULL;
    terminal_size(&wish.cols, &wish.rows);
    if (remote_body(&c->args, &body, &wish, &err) < 0)
        return wrong_usage(c, &err);
    if (remote_start(c, box, &body, &p, &err) < 0)
        return remote_refused(c, &err);
    (void)str_copy(process, BOX_ID, json_text(json_key(p, "id"))); /* an odd one is not found */
    return 0;
}

static int check_usage(const struct args *a, struct err *err)
{
    bool command = a->count > 1;
    if (command && args_flag(a, "attach"))
        return err_set(err, ERR_INVALID, "--attach and a command exclude each other");
    if (!command && (args_flag(a, "env") || args_flag(a, "workdir")))
        return err_set(err, ERR_INVALID, "--env and --workdir need a command, bash say");
    return 0;
}

int run_shell(struct cli *c)
{
    struct err err;
    char box[BOX_ID], process[BOX_ID] = "";
    struct shell s = { .c = c, .status = -1 };
    AUTO(buf) struct buf path = BUF_INIT(4 * KIB);
    const char *keys = args_value(&c->args, "detach-keys");
    const char *attached = args_flag(&c->args, "attach") ? args_value(&c->args, "attach") : NULL;
    int cols, rows;
    if (check_usage(&c->args, &err) < 0 || detach_keys_parse(keys ? keys : KEYS, &s.keys, &err) < 0)
        return wrong_usage(c, &err);
    if (!isatty(STDIN_FILENO)) {
        (void)err_set(&err, ERR_INVALID, "standard input is no terminal");
        (void)err_remedy(&err, "exec -i takes input from files and pipes.");
        return fail(c, &err);
    }
    if (box_find(c, c->args.words[0], box, &err) < 0)
        return fail(c, &err);
    int status = c->args.count > 1 ? start_command(c, box, process) : 0;
    if (status != 0)
        return status;
    if (process[0])
        attached = process;
    terminal_size(&cols, &rows);
    path_box(&path, box, "/terminal");
    buf_addf(&path, "?cols=%d&rows=%d", cols, rows);
    if (attached)
        path_query(&path, "process", attached);
    return attach(&s, buf_str(&path));
}
