/* One command's guardian: a fork of the agent that starts it, copies its pipes to and from a stream
 * of its own, and leaves when the command and all its descendants have ended.
 *
 * All memory is static. Back-pressure is the kernel's: a pipe is read only when what was read
 * before has gone into the stream, so a slow reader slows the command and nobody else. Nothing here
 * blocks but poll: stdin that nobody takes does not hold up output, nor the other way round.
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

#include "agent.h"
#include "base/limits.h"

#define CHUNK (64 * KIB)
#define NEVER INT64_MAX
#define KILL_ROUND_MS 10 /* between two rounds of KILL */
/* The most that a pipe can hold without privileges: once all writers are ended, it has no more. */
#define PIPE_MOST (1 * MIB)

static struct monitor {
    const struct agent *agent;
    struct command cmd;
    int stream;       /* -1: ended by the daemon */
    bool stream_deaf; /* does not take output any more, but unread requests may be there */
    bool stream_hup;
    bool detach;

    bool main_gone; /* the command itself has ended, with... */
    int status;
    bool all_gone; /* ... all its descendants */
    bool timed_out;
    int64_t timeout_at, kill_at, give_up_at; /* NEVER: not set */

    bool stdin_blocked, stdin_last;
    bool err_first;      /* whose turn it is, so that a busy stdout does not starve stderr */
    uint32_t stdin_left; /* bytes missing of the FRAME_STDIN under way */
    size_t in_len;
    size_t out_at, out_len;
    uint8_t in[CHUNK];
    uint8_t out[FRAME_HEADER + CHUNK + FRAME_HEADER + FRAME_EXIT_LEN];
} m;

static void close_end(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

/* Begins the end: TERM for all now, KILL after grace_ms. A later call can only shorten the grace.
 */
static void end_all(int64_t grace_ms)
{
    int64_t kill_at = now_ms() + grace_ms;
    if (kill_at >= m.kill_at)
        return;
    m.kill_at = kill_at;
    m.give_up_at = kill_at + AGENT_KILL_MS;
    if (grace_ms > 0)
        tree_signal(SIGTERM, NULL, 0);
}

static void stream_gone(void)
{
    close_end(&m.stream);
    m.stream_deaf = true;
    m.out_len = m.out_at = 0;
    m.stdin_last = true;
    if (!m.detach)
        end_all(EXEC_KILL_GRACE_MS);
}

/* --- to the daemon --- */

static void put_frame(enum frame_type type, const uint8_t *payload, uint32_t len)
{
    frame_header(m.out + m.out_len, type, len);
    memcpy(m.out + m.out_len + FRAME_HEADER, payload, len);
    m.out_len += FRAME_HEADER + len;
}

static void flush(void)
{
    if (m.stream_deaf)
        m.out_at = m.out_len = 0;
    while (m.out_at < m.out_len) {
        ssize_t n =
            send(m.stream, m.out + m.out_at, m.out_len - m.out_at, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (n < 0) {
            m.stream_deaf = true; /* its end is for the reading side to see */
            break;
        }
        m.out_at += (size_t)n;
    }
    m.out_at = m.out_len = 0;
}

/* Waits for the reader, however slow; its leaving ends the wait. */
static void flush_whole(void)
{
    for (flush(); m.out_len > 0; flush()) {
        struct pollfd p = { .fd = m.stream, .events = POLLOUT };
        (void)poll(&p, 1, -1);
    }
}

/* Moves one chunk from a pipe by way of the output buffer, if that is empty; returns its size. */
static size_t take_output(int *fd, enum frame_type type)
{
    if (*fd < 0 || m.out_len > 0)
        return 0;
    ssize_t n = read(*fd, m.out + FRAME_HEADER, CHUNK);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return 0;
    if (n <= 0) {
        close_end(fd);
        return 0;
    }
    frame_header(m.out, type, (uint32_t)n);
    m.out_len = FRAME_HEADER + (size_t)n;
    flush();
    return (size_t)n;
}

static void take_outputs(void)
{
    if (m.err_first)
        take_output(&m.cmd.err_fd, FRAME_STDERR);
    take_output(&m.cmd.out_fd, FRAME_STDOUT);
    if (!m.err_first)
        take_output(&m.cmd.err_fd, FRAME_STDERR);
    m.err_first = !m.err_first;
}

/* --- from the daemon --- */

/* Hands n bytes to the command; what it does not want any more is dropped. 0: it is not ready. */
static size_t feed(const uint8_t *data, size_t n)
{
    if (m.cmd.in_fd < 0)
        return n;
    ssize_t written = write(m.cmd.in_fd, data, n);
    if (written >= 0)
        return (size_t)written;
    if (errno == EAGAIN || errno == EINTR) {
        m.stdin_blocked = true;
        return 0;
    }
    close_end(&m.cmd.in_fd);
    return n;
}

/* A whole frame other than stdin; -1 when the daemon may not send it. */
static int obey(enum frame_type type, const uint8_t *payload, uint32_t len)
{
    if (type == FRAME_EOF && len == 0) {
        m.stdin_last = true;
        close_end(&m.cmd.in_fd);
    } else if (type == FRAME_SIGNAL && len == 4) {
        if (!m.main_gone) /* its group's number may be somebody else's by now */
            (void)kill(-m.cmd.pid, (int)frame_u32(payload));
    } else if (type == FRAME_KILL && len == 4) {
        end_all(frame_u32(payload));
    } else {
        return -1;
    }
    return 0;
}

static void take_requests(void)
{
    size_t at = 0;
    m.stdin_blocked = false;
    while (at < m.in_len) {
        size_t have = m.in_len - at;
        if (m.stdin_left > 0) {
            size_t n = feed(m.in + at, have < m.stdin_left ? have : m.stdin_left);
            if (n == 0)
                break;
            at += n;
            m.stdin_left -= (uint32_t)n;
            continue;
        }
        enum frame_type type;
        uint32_t len;
        int r = frame_peek(m.in + at, have, &type, &len);
        if (r == 0)
            break;
        if (r > 0 && type == FRAME_STDIN) {
            m.stdin_left = len;
            at += FRAME_HEADER;
            continue;
        }
        if (r > 0 && len <= 8 && have < FRAME_HEADER + len)
            break;
        if (r < 0 || len > 8 || obey(type, m.in + at + FRAME_HEADER, len) < 0) {
            m.in_len = 0;
            stream_gone();
            close_end(&m.cmd.in_fd);
            return;
        }
        at += FRAME_HEADER + len;
    }
    m.in_len -= at;
    if (at > 0)
        memmove(m.in, m.in + at, m.in_len);
    if (m.stdin_last && !m.stdin_blocked)
        close_end(&m.cmd.in_fd);
}

static void read_stream(void)
{
    if (m.stream < 0 || m.in_len == sizeof m.in)
        return;
    ssize_t n = recv(m.stream, m.in + m.in_len, sizeof m.in - m.in_len, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0)
        stream_gone();
    else
        m.in_len += (size_t)n;
    take_requests();
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
        m.all_gone = true;
    else if (m.main_gone)
        end_all(AGENT_TERM_MS);
}

/* Does what the clock asks for; returns when it wants to be called again. */
static int64_t check_clock(int64_t now)
{
    if (now >= m.timeout_at) {
        m.timeout_at = NEVER;
        m.timed_out = !m.main_gone;
        end_all(EXEC_KILL_GRACE_MS);
    }
    if (now >= m.kill_at) {
        tree_kill(NULL, 0);
        return now + KILL_ROUND_MS;
    }
    return m.kill_at < m.timeout_at ? m.kill_at : m.timeout_at;
}

/* Everything that wrote is gone, so what the pipes hold is all there is: no need to wait for their
 * end, which somebody outside our tree could put off for ever by holding on to a pipe. */
static void drain(int *fd, enum frame_type type)
{
    size_t taken = 0, n = 1;
    for (flush_whole(); n > 0 && taken < PIPE_MOST && !m.stream_deaf; flush_whole()) {
        n = take_output(fd, type);
        taken += n;
    }
    close_end(fd);
}

static void report(bool leftovers)
{
    struct frame_exit e = { .timed_out = m.timed_out, .leftovers = leftovers };
    if (WIFSIGNALED(m.status)) {
        e.signal = (uint32_t)WTERMSIG(m.status);
        e.code = 128 + WTERMSIG(m.status);
    } else if (m.main_gone) {
        e.code = WEXITSTATUS(m.status);
    } else {
        e.signal = SIGKILL; /* it resists even that; say what was done to it */
        e.code = 128 + SIGKILL;
    }
    uint8_t payload[FRAME_EXIT_LEN];
    frame_put_exit(payload, &e);
    put_frame(FRAME_EXIT, payload, sizeof payload);
    flush_whole();
}

static void wait_for_something(int64_t until)
{
    bool out_full = m.out_len > 0;
    bool want_in = m.in_len < sizeof m.in;
    struct pollfd p[] = {
        { .fd = m.stream, .events = (short)((want_in ? POLLIN : 0) | (out_full ? POLLOUT : 0)) },
        { .fd = m.agent->signal_fd, .events = POLLIN },
        { .fd = out_full ? -1 : m.cmd.out_fd, .events = POLLIN },
        { .fd = out_full ? -1 : m.cmd.err_fd, .events = POLLIN },
        { .fd = m.stdin_blocked ? m.cmd.in_fd : -1, .events = POLLOUT },
    };
    /* A hang-up is reported over and over; once known, the stream matters only for what is unread.
     */
    if (m.stream_hup && !want_in)
        p[0].fd = -1;
    int64_t left = until == NEVER ? -1 : until - now_ms();
    if (until != NEVER && left < 0)
        left = 0;
    if (poll(p, sizeof p / sizeof p[0], left > INT32_MAX ? INT32_MAX : (int)left) <= 0)
        return;
    if (p[0].revents & (POLLHUP | POLLERR)) {
        m.stream_hup = m.stream_deaf = true;
        if (!m.detach)
            stream_gone(); /* a detached command still gets the stdin that was sent */
    }
    if (p[0].revents & (POLLIN | POLLHUP | POLLERR))
        read_stream();
    if (p[1].revents) {
        signals_take(m.agent);
        reap();
    }
    if (p[4].revents)
        take_requests();
}

_Noreturn void monitor_run(const struct agent *a, const struct frame_spawn *spec)
{
    enum frame_step step;
    m.agent = a;
    m.detach = spec->flags & SPAWN_DETACH;
    m.timeout_at = m.kill_at = NEVER;
    /* Who asked is not there any more: start nothing. */
    m.stream = dial(a, HELLO_STREAM, spec->number, 0);
    if (m.stream < 0)
        _exit(0);
    if (prctl(PR_SET_CHILD_SUBREAPER, 1) < 0)
        _exit(1);
    if (command_start(a, spec, &m.cmd, &step) < 0) {
        m.out_len = put_failed(m.out, errno, step);
        flush_whole();
        _exit(0);
    }
    if (spec->timeout_ms > 0)
        m.timeout_at = now_ms() + spec->timeout_ms;
    uint8_t pid[4];
    frame_set_u32(pid, (uint32_t)m.cmd.pid);
    put_frame(FRAME_STARTED, pid, sizeof pid);
    for (;;) {
        flush();
        int64_t now = now_ms();
        int64_t until = check_clock(now);
        if (m.all_gone || (m.kill_at != NEVER && now >= m.give_up_at))
            break;
        wait_for_something(until);
        take_outputs();
    }
    drain(&m.cmd.out_fd, FRAME_STDOUT);
    drain(&m.cmd.err_fd, FRAME_STDERR);
    report(!m.all_gone);
    _exit(m.all_gone ? 0 : 1);
}
