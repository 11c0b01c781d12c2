/* Bodies in pieces, both ways, and the question whether the client is still there.
 *
 * A ring of HTTP_IN_WINDOW or HTTP_OUT_WINDOW bytes lies between the HTTP thread and the handler.
 * Who finds it empty (or full) sleeps: the handler on `changed`, the connection by being suspended.
 * Either wakes the other after it moved bytes, so memory is flat and the slower side sets the pace.
 * Of a file the HTTP thread reads on its own what needs no disk (RWF_NOWAIT, preadv2(2)); the rest,
 * or all of it where the file system cannot say, comes through the ring. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/limits.h"
#include "inside.h"

/* --- streams out --- */

#define READ_AHEAD (4 * MIB) /* of a file that is not in memory */

/* Bytes of the file that the kernel has in memory. 0: it wants the disk, or the file has become
 * shorter; its handler is told. */
static size_t file_take(struct req *r, char *out, size_t len) REQUIRES(&r->lock)
{
    struct iovec io = { out, len < r->file.left ? len : (size_t)r->file.left };
    ssize_t n = preadv2(r->file.fd, &io, 1, (off_t)r->file.at, RWF_NOWAIT);
    r->file.wanted = n < 0;
    r->stream_broken |= n == 0;
    r->file.at += n > 0 ? (uint64_t)n : 0;
    r->file.left -= n > 0 ? (uint64_t)n : 0;
    if (n <= 0 || r->file.left == 0)
        cond_signal(&r->changed);
    return n > 0 ? (size_t)n : 0;
}

/* libmicrohttpd asks for the next bytes to send, on the HTTP thread. */
static ssize_t stream_more(void *ctx, uint64_t pos, char *out, size_t len)
{
    struct req *r = ctx;
    (void)pos;
    mu_lock(&r->lock);
    size_t n = ring_take(&r->out, out, len);
    if (n > 0)
        cond_signal(&r->changed);
    else if (r->file.left > 0 && !r->file.wanted)
        n = file_take(r, out, len);
    ssize_t rc = (ssize_t)n;
    if (n > 0)
        r->taken_ms = clock_mono_ms();
    else if (r->stream_broken)
        rc = MHD_CONTENT_READER_END_WITH_ERROR;
    else if (r->stream_end)
        rc = MHD_CONTENT_READER_END_OF_STREAM;
    else
        req_suspend(r);
    mu_unlock(&r->lock);
    return rc;
}

static void stream_free(void *ctx)
{
    req_unref(ctx);
}

void req_stream_begin(struct req *r, int status, const char *type, uint64_t size)
{
    atomic_fetch_add(&r->refs, 1); /* the response's */
    r->streaming = true;
    uint64_t whole = size == STREAM_UNKNOWN ? MHD_SIZE_UNKNOWN : size;
    struct MHD_Response *resp =
        MHD_create_response_from_callback(whole, HTTP_OUT_WINDOW, stream_more, r, stream_free);
    /* libmicrohttpd ends a chunked body even where HEAD has none: the end would be read as the
     * next answer. So there is no chunking, and the connection's end is the answer's. */
    if (r->head && size == STREAM_UNKNOWN)
        (void)MHD_set_response_options(resp, MHD_RF_HTTP_1_0_COMPATIBLE_STRICT, MHD_RO_END);
    req_answer(r, status, type, resp);
}

void req_follows(struct req *r)
{
    r->follows = true;
}

/* Waits until something has changed. -1: the client has left, or took nothing for too long. Nobody
 * wakes a follower when the daemon stops: it looks by itself. */
static int await_taker(struct req *r) REQUIRES(&r->lock)
{
    int64_t stalled_ms = r->taken_ms + r->api->config->peer_stall_ms;
    int64_t look_ms = clock_mono_ms() + HTTP_FOLLOW_LOOK_MS;
    int64_t until_ms = r->follows && look_ms < stalled_ms ? look_ms : stalled_ms;
    if (!r->finished && !cond_wait_until(&r->changed, &r->lock, until_ms) &&
        (clock_mono_ms() >= stalled_ms || (r->follows && req_stopping(r)))) {
        r->stream_broken = true;
        req_cut(r);
    }
    return r->finished || r->stream_broken ? -1 : 0;
}

int req_write(struct req *r, const void *data, size_t len)
{
    const char *at = data;
    int rc = r->head ? -1 : 0;
    mu_lock(&r->lock);
    r->taken_ms = clock_mono_ms();
    if (!r->out.data)
        ring_init(&r->out, HTTP_OUT_WINDOW);
    while (len > 0 && rc == 0 && !r->finished) {
        size_t n = ring_put(&r->out, at, len);
        at += n;
        len -= n;
        if (n > 0)
            req_resume(r);
        else
            rc = await_taker(r);
    }
    if (r->finished)
        rc = -1;
    mu_unlock(&r->lock);
    return rc;
}

/* Waits for the disk, with the lock released: what is next of the file goes into the ring. */
static int file_put(struct req *r) REQUIRES(&r->lock)
{
    char *space;
    if (!r->out.data)
        ring_init(&r->out, HTTP_OUT_WINDOW);
    size_t room = ring_space(&r->out, &space);
    size_t len = room < r->file.left ? room : (size_t)r->file.left;
    ssize_t n;
    mu_unlock(&r->lock);
    (void)posix_fadvise(r->file.fd, (off_t)r->file.at, READ_AHEAD, POSIX_FADV_WILLNEED);
    do
        n = pread(r->file.fd, space, len, (off_t)r->file.at);
    while (n < 0 && errno == EINTR);
    mu_lock(&r->lock);
    if (n <= 0)
        return -1;
    ring_filled(&r->out, (size_t)n);
    r->file.at += (uint64_t)n;
    r->file.left -= (uint64_t)n;
    r->file.wanted = false;
    r->taken_ms = clock_mono_ms();
    req_resume(r);
    return 0;
}

/* The HTTP thread itself reads what is in memory, straight to where it is sent from. */
int req_write_file(struct req *r, int fd, uint64_t at, uint64_t len)
{
    int rc = r->head ? -1 : 0;
    mu_lock(&r->lock);
    r->taken_ms = clock_mono_ms();
    r->file.fd = fd;
    r->file.at = at;
    r->file.left = len;
    req_resume(r);
    while (rc == 0 && r->file.left > 0)
        rc = r->file.wanted ? file_put(r) : await_taker(r);
    r->file.left = 0;
    mu_unlock(&r->lock);
    return rc;
}

/* Until the client has all of the answer, or long enough. */
static void see_off(struct req *r) REQUIRES(&r->lock)
{
    int64_t until_ms = clock_mono_ms() + HTTP_LAST_WORD_MS;
    bool in_time = true;
    while (!r->finished && in_time)
        in_time = cond_wait_until(&r->changed, &r->lock, until_ms);
    if (!r->finished)
        req_cut(r);
}

void req_stream_end(struct req *r, bool broken)
{
    mu_lock(&r->lock);
    r->stream_end = true;
    r->stream_broken = broken;
    req_resume(r);
    if (r->follows && req_stopping(r))
        see_off(r);
    mu_unlock(&r->lock);
}

/* --- streams in --- */

/* Who reads is woken for a good piece, not for each packet: threads that take turns for 16 KiB
 * spend more time on waking one another than on the bytes. */
bool stream_enough(const struct req *r)
{
    return r->in.len >= r->in.size / 2;
}

ssize_t req_read(struct req *r, void *out, size_t len, struct err *err)
{
    int64_t stall_ms = r->api->config->peer_stall_ms, deadline_ms = clock_mono_ms() + stall_ms;
    ssize_t n = -1;
    mu_lock(&r->lock);
    if (!r->wants_body) {
        r->wants_body = true;
        req_resume(r); /* the first call of access() is over: let the body come */
    }
    while (n < 0) {
        bool late = false;
        if (!r->body_end && !r->finished && !stream_enough(r)) {
            req_resume(r);
            late = !cond_wait_until(&r->changed, &r->lock, deadline_ms);
            if (!late)
                continue;
        }
        if (r->in.len > 0 || r->body_end) {
            n = (ssize_t)ring_take(&r->in, out, len);
            if (r->in.len < r->in.size / 2)
                req_resume(r);
        } else if (r->finished) {
            (void)err_set(err, ERR_CANCELLED, "the client left before the end of the body");
            break;
        } else {
            r->close = true;
            (void)err_set(err, ERR_TIMEOUT, "no more of the body came for %" PRId64 " ms",
                          stall_ms);
            req_cut(r);
            break;
        }
    }
    mu_unlock(&r->lock);
    return n;
}

/* --- is the client still there? --- */

/* A duplicate: libmicrohttpd may close its own while the handler still polls, and the number would
 * then be somebody else's. */
int req_gone_fd(struct req *r)
{
    mu_lock(&r->lock);
    if (r->gone_fd < 0 && r->peer && !r->finished)
        r->gone_fd = fcntl(r->peer->fd, F_DUPFD_CLOEXEC, 3);
    mu_unlock(&r->lock);
    return r->gone_fd;
}

/* true: the connection has ended. */
static bool look(struct req *r)
{
    struct pollfd p = { .fd = req_gone_fd(r), .events = POLLRDHUP };
    if (p.fd < 0 || poll(&p, 1, 0) != 1)
        return false;
    r->seen_fin = r->seen_fin || (p.revents & POLLRDHUP);
    return (p.revents & (POLLHUP | POLLERR)) != 0;
}

/* FIN alone may be a half-close. A peer that has really closed answers any further byte with RST,
 * which shows as an error; one that still listens drops an interim reply (RFC 9110, 15.2). Once
 * the answer has begun nothing can be slipped in. */
enum req_presence req_presence(struct req *r)
{
    static const char interim[] = "HTTP/1.1 100 Continue\r\n\r\n";
    if (look(r))
        return REQ_GONE;
    enum req_presence p = REQ_PRESENT;
    bool probed = false;
    mu_lock(&r->lock);
    if (r->finished) {
        p = REQ_GONE;
    } else if (r->seen_fin && (r->answered || !r->http11)) {
        p = REQ_DOUBTFUL;
    } else if (r->seen_fin && !r->probed && r->suspended && r->body_end) {
        r->probed = probed = true;
        ssize_t n = send(r->peer->fd, interim, sizeof(interim) - 1, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0 && errno != EAGAIN && errno != EINTR)
            p = REQ_GONE;
    }
    mu_unlock(&r->lock);
    if (probed && look(r)) /* on the same host the RST is here already */
        p = REQ_GONE;
    return p;
}
