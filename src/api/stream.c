/* Bodies in pieces, both ways, and the question whether the client is still there.
 *
 * A ring of HTTP_STREAM_WINDOW bytes lies between the HTTP thread and the handler. Who finds it
 * empty (or full) sleeps: the handler on `changed`, the connection by being suspended. Either wakes
 * the other after it moved bytes, so memory is flat and the slower side sets the pace. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/limits.h"
#include "inside.h"

/* --- streams out --- */

/* libmicrohttpd asks for the next bytes to send, on the HTTP thread. */
static ssize_t stream_more(void *ctx, uint64_t pos, char *out, size_t len)
{
    struct req *r = ctx;
    (void)pos;
    mu_lock(&r->lock);
    ssize_t n = (ssize_t)ring_take(&r->out, out, len);
    if (n > 0) {
        cond_signal(&r->changed);
    } else if (r->stream_broken) {
        n = MHD_CONTENT_READER_END_WITH_ERROR;
    } else if (r->stream_end) {
        n = MHD_CONTENT_READER_END_OF_STREAM;
    } else {
        req_suspend(r);
    }
    mu_unlock(&r->lock);
    return n;
}

static void stream_free(void *ctx)
{
    req_unref(ctx);
}

void req_stream_begin(struct req *r, int status, const char *type, uint64_t size)
{
    atomic_fetch_add(&r->refs, 1); /* the response's */
    ring_init(&r->out, HTTP_STREAM_WINDOW);
    r->streaming = true;
    uint64_t whole = size == STREAM_UNKNOWN ? MHD_SIZE_UNKNOWN : size;
    req_answer(
        r, status, type,
        MHD_create_response_from_callback(whole, FILE_CHUNK / 2, stream_more, r, stream_free));
}

int req_write(struct req *r, const void *data, size_t len)
{
    const char *at = data;
    int64_t deadline_ms = clock_mono_ms() + HTTP_STALL_MS;
    int rc = 0;
    mu_lock(&r->lock);
    while (len > 0 && rc == 0) {
        size_t n = r->finished ? 0 : ring_put(&r->out, at, len);
        if (r->finished) {
            rc = -1;
        } else if (n > 0) {
            at += n;
            len -= n;
            deadline_ms = clock_mono_ms() + HTTP_STALL_MS;
            req_resume(r);
        } else if (!cond_wait_until(&r->changed, &r->lock, deadline_ms) &&
                   ring_room(&r->out) == 0) {
            r->stream_broken = true;
            req_cut(r);
            rc = -1;
        }
    }
    if (r->finished)
        rc = -1;
    mu_unlock(&r->lock);
    return rc;
}

void req_stream_end(struct req *r, bool broken)
{
    mu_lock(&r->lock);
    r->stream_end = true;
    r->stream_broken = broken;
    req_resume(r);
    mu_unlock(&r->lock);
}

/* --- streams in --- */

ssize_t req_read(struct req *r, void *out, size_t len, struct err *err)
{
    int64_t deadline_ms = clock_mono_ms() + HTTP_STALL_MS;
    ssize_t n = -1;
    mu_lock(&r->lock);
    if (!r->wants_body) {
        r->wants_body = true;
        req_resume(r); /* the first call of access() is over: let the body come */
    }
    for (;;) {
        n = (ssize_t)ring_take(&r->in, out, len);
        if (n > 0) {
            if (r->in.len < r->in.size / 2)
                req_resume(r);
            break;
        }
        if (r->body_end) {
            n = 0;
            break;
        }
        if (r->finished) {
            n = err_set(err, ERR_CANCELLED, "the client left before the end of the body");
            break;
        }
        req_resume(r);
        if (!cond_wait_until(&r->changed, &r->lock, deadline_ms) && r->in.len == 0 &&
            !r->body_end) {
            r->close = true;
            n = err_set(err, ERR_TIMEOUT, "no more of the body came for %d s",
                        HTTP_STALL_MS / 1000);
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
