/* A monitor's conversation with the daemon: output and ends go out, stdin and orders come in.
 *
 * Nothing here blocks: one frame is under way at most, and poll says when to go on. What a frame
 * carries is sent straight from the ring, which keeps it for the next stream, too. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <termios.h>
#include <unistd.h>

#include "monitor.h"

/* --- to the daemon --- */

static void put_frame(enum frame_type type, const uint8_t *payload, uint32_t len)
{
    frame_header(m.head, type, len);
    memcpy(m.head + FRAME_HEADER, payload, len);
    m.head_at = 0;
    m.head_len = FRAME_HEADER + len;
}

static void open_stream(int fd, uint64_t from)
{
    m.stream = fd;
    m.deaf = m.hup = m.exit_told = false;
    m.sent = from;
    m.head_at = m.head_len = m.body_left = 0;
}

int talk_begin(uint64_t number)
{
    int fd = dial(m.agent, HELLO_STREAM, number, 0);
    if (fd >= 0)
        open_stream(fd, 0);
    return fd < 0 ? -1 : 0;
}

void talk_failed(int error, enum frame_step step)
{
    uint8_t out[FAILED_MAX];
    (void)send(m.stream, out, put_failed(out, error, step), MSG_NOSIGNAL); /* fits */
}

void talk_started(void)
{
    uint8_t pid[4];
    frame_set_u32(pid, (uint32_t)m.cmd.pid);
    put_frame(FRAME_STARTED, pid, sizeof pid);
}

bool talk_listens(void)
{
    return m.stream >= 0 && !m.deaf;
}

bool talk_done(void)
{
    return !talk_listens() || (m.exit_told && m.head_at == m.head_len);
}

/* Prepares the next frame; false: there is none. */
static bool next_frame(void)
{
    if (m.sent < ring_next()) {
        bool of_err;
        m.body_left = ring_run(m.sent, CHUNK, &of_err);
        frame_header(m.head, of_err ? FRAME_STDERR : FRAME_STDOUT, (uint32_t)m.body_left);
        m.head_at = 0;
        m.head_len = FRAME_HEADER;
        return true;
    }
    if (m.over && !m.exit_told) {
        put_frame(FRAME_EXIT, m.exit, sizeof m.exit);
        m.exit_told = true;
        return true;
    }
    return false;
}

void talk_flush(void)
{
    while (talk_listens()) {
        if (m.head_at == m.head_len && m.body_left == 0 && !next_frame())
            return;
        struct iovec io[3] = { { m.head + m.head_at, m.head_len - m.head_at } };
        struct msghdr message = { .msg_iov = io, .msg_iovlen = 1 };
        if (m.body_left > 0)
            message.msg_iovlen += ring_view(m.sent, m.body_left, io + 1);
        ssize_t n = sendmsg(m.stream, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (n < 0) {
            m.deaf = true; /* its end is for the reading side to see */
            return;
        }
        size_t of_head = (size_t)n < io[0].iov_len ? (size_t)n : io[0].iov_len;
        m.head_at += of_head;
        m.body_left -= (size_t)n - of_head;
        m.sent += (size_t)n - of_head;
    }
}

void talk_refuse(uint64_t number, int error)
{
    uint8_t out[FAILED_MAX];
    int fd = dial(m.agent, HELLO_STREAM, number, SOCK_NONBLOCK);
    if (fd < 0)
        return;
    (void)send(fd, out, put_failed(out, error, STEP_ATTACH), MSG_NOSIGNAL); /* fits */
    close(fd);
}

/* --- from the daemon --- */

/* What was sent and not taken stays for the command, up to a frame that is not whole. */
static void close_stream(void)
{
    if (m.stream >= 0)
        close(m.stream);
    m.stream = -1;
    m.deaf = true;
    m.in_stale = m.in_len > 0;
    if (!m.in_stale)
        m.stdin_left = 0;
}

static bool read_some(void)
{
    if (m.stream < 0 || m.in_stale || m.in_len == sizeof m.in)
        return false;
    ssize_t n = recv(m.stream, m.in + m.in_len, sizeof m.in - m.in_len, MSG_DONTWAIT);
    if (n > 0) {
        m.in_len += (size_t)n;
        return true;
    }
    if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
        close_stream();
        on_stream_gone();
    }
    return false;
}

void talk_close(void)
{
    if (m.stream < 0)
        return;
    (void)read_some();
    close_stream();
}

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

/* On a terminal the end of stdin is a key; elsewhere it is the end of a pipe. False: not now. */
static bool feed_end(void)
{
    struct termios t;
    uint8_t key = 4; /* Ctrl-D */
    if (m.cmd.tty < 0) {
        m.stdin_last = true;
        close_end(&m.cmd.in_fd);
        return true;
    }
    if (tcgetattr(m.cmd.tty, &t) == 0)
        key = t.c_cc[VEOF];
    return feed(&key, 1) > 0;
}

/* A whole frame other than stdin and its end; -1 when the daemon may not send it. */
static int obey(enum frame_type type, const uint8_t *payload, uint32_t len)
{
    if (type == FRAME_SIGNAL && len == 4) {
        if (!m.main_gone) /* its group's number may be somebody else's by now */
            (void)kill(-m.cmd.pid, (int)frame_u32(payload));
    } else if (type == FRAME_KILL && len == 4) {
        end_all(frame_u32(payload));
    } else if (type == FRAME_RESIZE && len == 4) {
        if (m.cmd.tty >= 0)
            command_resize(&m.cmd, frame_u16(payload), frame_u16(payload + 2));
    } else {
        return -1;
    }
    return 0;
}

/* What is used of the next frame in data[0..n), 0 when it has to wait; -1: nonsense. */
static ssize_t take_frame(const uint8_t *data, size_t n)
{
    enum frame_type type;
    uint32_t len;
    int r = frame_peek(data, n, &type, &len);
    if (r <= 0)
        return r;
    if (type == FRAME_STDIN) {
        m.stdin_left = len;
        return FRAME_HEADER;
    }
    if (len > 8)
        return -1;
    if (n < FRAME_HEADER + len)
        return 0;
    if (type == FRAME_EOF && len == 0)
        return feed_end() ? FRAME_HEADER : 0;
    return obey(type, data + FRAME_HEADER, len) < 0 ? -1 : (ssize_t)(FRAME_HEADER + len);
}

static void take_requests(void)
{
    size_t at = 0;
    ssize_t n = 1;
    m.stdin_blocked = false;
    while (at < m.in_len && n > 0) {
        size_t have = m.in_len - at;
        if (m.stdin_left > 0) {
            n = (ssize_t)feed(m.in + at, have < m.stdin_left ? have : m.stdin_left);
            m.stdin_left -= (uint32_t)n;
        } else {
            n = take_frame(m.in + at, have);
        }
        at += n > 0 ? (size_t)n : 0;
    }
    m.in_len -= at;
    if (at > 0)
        memmove(m.in, m.in + at, m.in_len);
    if (n < 0) {
        m.in_len = 0;
        close_stream();
        on_stream_gone();
    }
    if (m.in_stale && !m.stdin_blocked) { /* its last frame is cut off */
        m.in_len = m.stdin_left = 0;
        m.in_stale = false;
    }
    if (m.stdin_last && !m.stdin_blocked)
        close_end(&m.cmd.in_fd);
}

void talk_attach(uint64_t number, uint64_t offset)
{
    int fd = dial(m.agent, HELLO_STREAM, number, SOCK_NONBLOCK);
    if (fd < 0)
        return; /* who asked waits in vain, but not for long */
    talk_close();
    uint64_t from = offset < ring_first() ? ring_first() : offset;
    struct frame_attached a = { .first = from < ring_next() ? from : ring_next(),
                                .next = ring_next(),
                                .pid = (uint32_t)m.cmd.pid,
                                .ended = m.over };
    uint8_t payload[FRAME_ATTACHED_LEN];
    frame_put_attached(payload, &a);
    open_stream(fd, a.first);
    put_frame(FRAME_ATTACHED, payload, sizeof payload);
    take_requests();
}

void talk_watch(struct pollfd *stream, struct pollfd *in)
{
    bool want_in = !m.in_stale && m.in_len < sizeof m.in;
    bool want_out = talk_listens() && (m.head_at < m.head_len || m.body_left > 0);
    *stream =
        (struct pollfd){ .fd = m.stream,
                         .events = (short)((want_in ? POLLIN : 0) | (want_out ? POLLOUT : 0)) };
    *in = (struct pollfd){ .fd = m.stdin_blocked ? m.cmd.in_fd : -1, .events = POLLOUT };
    /* A hang-up is reported over and over; once known, the stream matters only for what is unread.
     */
    if (m.hup && !want_in)
        stream->fd = -1;
}

void talk_serve(const struct pollfd *stream, const struct pollfd *in)
{
    if (stream->revents & (POLLIN | POLLHUP | POLLERR)) {
        bool left = stream->revents & (POLLHUP | POLLERR);
        bool more;
        m.hup |= left;
        m.deaf |= left;
        /* What the daemon said last counts; an order to end, say. */
        do {
            more = read_some();
            take_requests();
        } while (more && left);
        /* Stdin may be in the way of its end. A kept process has time for it, and so has a detached
         * one; any other ends now, or is kept now. */
        if (m.stream >= 0 && left && !m.kept && !m.detach) {
            close_stream();
            on_stream_gone();
        }
    }
    if (in->revents)
        take_requests();
}
