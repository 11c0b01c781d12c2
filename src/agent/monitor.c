/* One command's guardian: a fork of the agent that starts it, keeps its output in a ring (ring.c),
 * talks to the daemon over a stream of its own (talk.c), and leaves when the command and all its
 * descendants have ended. That of a kept process stays until it is forgotten: it lives on without a
 * stream, and PID 1 hands it each request for a new one.
 *
 * All memory is static. While somebody listens, a pipe is read only when what was read before has
 * gone into the stream, so a slow reader slows the command and nobody else; while nobody does, the
 * oldest output goes. Nothing here blocks but poll: stdin that nobody takes does not hold up
 * output, nor the other way round.
 *
 * Being a subreaper, it inherits every orphan below it: "no descendant left" is what waitpid says.
 * Sandbox code has our uid and can kill us; the stream then ends without FRAME_EXIT, and PID 1, who
 * inherits what was ours, ends it. Every blockable signal is blocked. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "monitor.h"

#define KILL_ROUND_MS 10 /* between two rounds of KILL */
/* A line editor that is signalled just before it waits for a key heeds that at the next key only
 * (GNU bash 5.2 looks for signals, then calls pselect), so it is told once more. */
#define HANGUP_AGAIN_MS 1000
/* The most that a pipe can hold without privileges: once all writers are ended, it has no more. */
#define PIPE_MOST (1 * MIB)

struct monitor m;
static bool draining; /* the command and all below it are gone: the pipes get nothing more */
static size_t drained[2];

/* A shell heeds this, not TERM; and jobs that are stopped, too. */
static void hang_up(void)
{
    tree_signal(SIGHUP, NULL, 0);
    tree_signal(SIGCONT, NULL, 0);
}

void end_all(int64_t grace_ms)
{
    int64_t now = now_ms(), kill_at = now + grace_ms;
    if (m.over || kill_at >= m.kill_at)
        return;
    m.kill_at = kill_at;
    m.give_up_at = kill_at + AGENT_KILL_MS;
    if (m.cmd.tty >= 0) {
        hang_up();
        m.hangup_at = now + HANGUP_AGAIN_MS;
    }
    if (grace_ms > 0)
        tree_signal(SIGTERM, NULL, 0);
}

static void tell_init(enum monitor_word word)
{
    uint8_t byte = (uint8_t)word;
    if (m.channel >= 0)
        (void)send(m.channel, &byte, 1, MSG_NOSIGNAL); /* two words at most: there is room */
}

void on_stream_gone(void)
{
    if (m.may_keep && !m.main_gone && m.kill_at == NEVER && tree_listens()) {
        m.may_keep = false;
        m.kept = true;
        m.timeout_at = NEVER;
        tell_init(WORD_KEPT);
    }
    if (m.kept)
        return;
    m.stdin_last = true;
    if (!m.detach)
        end_all(EXEC_KILL_GRACE_MS);
}

/* --- output --- */

/* Reading waits until all that was read is sent: frames are as large as can be, and nothing that is
 * not sent yet is ever pushed out of the ring. */
static bool is_full(void)
{
    return talk_listens() && m.sent < ring_next();
}

static void take_output(int *fd, bool of_err)
{
    if (*fd < 0 || is_full())
        return;
    ssize_t n = ring_fill(*fd, of_err, CHUNK);
    if (n < 0 && errno == EINTR)
        return;
    if (n > 0)
        drained[of_err] += draining ? (size_t)n : 0;
    /* Once all that wrote is gone, what the pipes hold is all there is: no need to wait for their
     * end, which somebody outside our tree could put off for ever by holding on to a pipe. */
    if (n == 0 || (n < 0 && (errno != EAGAIN || draining)) || drained[of_err] > PIPE_MOST)
        close_end(fd);
    talk_flush();
}

static void take_outputs(void)
{
    if (m.err_first)
        take_output(&m.cmd.err_fd, true);
    take_output(&m.cmd.out_fd, false);
    if (!m.err_first)
        take_output(&m.cmd.err_fd, true);
    m.err_first = !m.err_first;
}

/* --- PID 1 --- */

static void obey_init(const struct order *o)
{
    switch (o->kind) {
    case ORDER_ATTACH:
        if (m.kept) {
            talk_attach(o->number, o->offset);
        } else {
            talk_refuse(o->number, ESRCH);
        }
        break;
    case ORDER_FORGET:
        m.kept = m.may_keep = m.detach = false;
        talk_close();
        end_all(0);
        break;
    case ORDER_NUDGE:
        if (o->tree && o->signal == SIGKILL)
            end_all(0);
        else if (o->tree)
            tree_signal((int)o->signal, NULL, 0);
        else if (!m.main_gone)
            (void)kill(-m.cmd.pid, (int)o->signal);
        break;
    }
}

/* What came on the stream before an order: poll does not look at both in one moment. */
static void serve_stream(void)
{
    struct pollfd p[2];
    talk_watch(&p[0], &p[1]);
    if (poll(p, 2, 0) > 0)
        talk_serve(&p[0], &p[1]);
}

static void hear_init(void)
{
    struct order o;
    ssize_t n =
        recv(m.channel, &o, sizeof o, MSG_DONTWAIT); /* one, or it might overtake the stream */
    if (n == (ssize_t)sizeof o) {
        serve_stream();
        obey_init(&o);
    } else if (n >= 0 || (errno != EAGAIN && errno != EINTR)) {
        /* PID 1 is leaving: it has told everybody, and in a moment kills who stays. */
        close_end(&m.channel);
        m.kept = m.may_keep = false;
        if (!m.over && m.kill_at == NEVER) {
            m.kill_at = now_ms() + AGENT_STOP_MS;
            m.give_up_at = m.kill_at + AGENT_KILL_MS;
        }
    }
}

/* --- the end --- */

static void reap(void)
{
    int status;
    pid_t pid;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        if (pid == m.cmd.pid) {
            m.main_gone = true;
            m.status = status;
        }
    }
    if (pid < 0 && errno == ECHILD)
        m.all_gone = draining = true;
    else if (m.main_gone)
        end_all(AGENT_TERM_MS);
}

static int64_t earliest(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* Does what the clock asks for; returns when it wants to be called again. */
static int64_t check_clock(int64_t now)
{
    if (draining)
        return NEVER;
    if (now >= m.timeout_at) {
        m.timeout_at = NEVER;
        m.timed_out = !m.main_gone;
        end_all(EXEC_KILL_GRACE_MS);
    }
    if (m.kill_at != NEVER && now >= m.give_up_at) {
        draining = true;
        return NEVER;
    }
    if (now >= m.kill_at) {
        tree_kill(NULL, 0);
        return now + KILL_ROUND_MS;
    }
    if (now >= m.hangup_at) {
        m.hangup_at = NEVER;
        hang_up();
    }
    return earliest(m.hangup_at, earliest(m.kill_at, m.timeout_at));
}

static void conclude(void)
{
    struct frame_exit e = { .timed_out = m.timed_out, .leftovers = !m.all_gone };
    if (WIFSIGNALED(m.status)) {
        e.signal = (uint32_t)WTERMSIG(m.status);
        e.code = 128 + WTERMSIG(m.status);
    } else if (m.main_gone) {
        e.code = WEXITSTATUS(m.status);
    } else {
        e.signal = SIGKILL; /* it resists even that; say what was done to it */
        e.code = 128 + SIGKILL;
    }
    frame_put_exit(m.exit, &e);
    m.over = true;
    close_end(&m.cmd.in_fd);
    close_end(&m.cmd.tty);
    tell_init(WORD_OVER);
}

static void wait_for_something(int64_t until)
{
    bool full = is_full();
    struct pollfd p[6] = {
        [2] = { .fd = m.agent->signal_fd, .events = POLLIN },
        [3] = { .fd = full ? -1 : m.cmd.out_fd, .events = POLLIN },
        [4] = { .fd = full ? -1 : m.cmd.err_fd, .events = POLLIN },
        [5] = { .fd = m.channel, .events = POLLIN },
    };
    talk_watch(&p[0], &p[1]);
    int64_t left = until == NEVER ? -1 : until - now_ms();
    if (until != NEVER && left < 0)
        left = 0;
    if (draining && !m.over && !full)
        left = 0; /* there may be nothing to wake us */
    if (poll(p, sizeof p / sizeof p[0], left > INT32_MAX ? INT32_MAX : (int)left) <= 0)
        return;
    /* The stream first: what PID 1 passes on was sent after the daemon closed it. */
    talk_serve(&p[0], &p[1]);
    if (p[2].revents) {
        signals_take(m.agent);
        reap();
    }
    if (p[5].revents)
        hear_init();
}

/* PID 1 sends no order any more, and knows; who is behind one that is here is told. */
static _Noreturn void leave(int status)
{
    struct order o;
    if (m.channel >= 0 && shutdown(m.channel, SHUT_RD) == 0)
        while (recv(m.channel, &o, sizeof o, MSG_DONTWAIT) == (ssize_t)sizeof o)
            if (o.kind == ORDER_ATTACH)
                talk_refuse(o.number, ESRCH);
    _exit(status);
}

static void prepare(const struct agent *a, const struct frame_spawn *spec, int channel)
{
    m.agent = a;
    m.channel = channel;
    m.detach = spec->flags & SPAWN_DETACH;
    m.kept = spec->flags & SPAWN_KEEP;
    m.may_keep = spec->flags & SPAWN_KEEP_IF_LISTENING;
    m.timeout_at = m.hangup_at = m.kill_at = NEVER;
    ring_init(m.kept || m.may_keep ? LINK_RING : CHUNK);
}

_Noreturn void monitor_run(const struct agent *a, const struct frame_spawn *spec, int channel)
{
    enum frame_step step;
    prepare(a, spec, channel);
    /* Who asked is not there any more: start nothing. */
    if (talk_begin(spec->number) < 0)
        leave(0);
    if (prctl(PR_SET_CHILD_SUBREAPER, 1) < 0)
        leave(1);
    if (command_start(a, spec, &m.cmd, &step) < 0) {
        talk_failed(errno, step);
        leave(0);
    }
    if (spec->timeout_ms > 0)
        m.timeout_at = now_ms() + spec->timeout_ms;
    talk_started();
    for (;;) {
        talk_flush();
        int64_t until = check_clock(now_ms());
        if (draining && !m.over && m.cmd.out_fd < 0 && m.cmd.err_fd < 0) {
            conclude();
            talk_flush();
        }
        if (m.over && talk_done()) {
            talk_close();
            if (!m.kept)
                break;
        }
        wait_for_something(until);
        take_outputs();
    }
    leave(m.all_gone ? 0 : 1);
}
