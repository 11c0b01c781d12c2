/* The thread that listens to all agents: accepts, reads hellos, keeps control connections.
 *
 * Who is on the other side of a socket is hostile: everything read is bounded by struct conn, a
 * frame that is not allowed where it comes closes its connection, and no call waits. Of a sandbox's
 * connections that have not introduced themselves LINK_PENDING_MAX are kept; a newcomer displaces
 * the oldest, because an honest one speaks at once. The loop recovers by itself: a lost connection
 * is the agent's to dial again. */
#include <errno.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/limits.h"
#include "base/str.h"
#include "peer.h"

#define EVENTS_AT_ONCE 64
#define ACCEPTS_AT_ONCE 16 /* of one sandbox, before others have their turn */
#define PAUSE_MS 100       /* when descriptors are short */

static void watch(struct link *l, struct conn *c, uint32_t events)
{
    struct epoll_event e = { .events = events, .data.ptr = c };
    (void)epoll_ctl(l->epoll, EPOLL_CTL_MOD, c->fd, &e); /* of a watched descriptor: cannot fail */
}

struct conn *conn_open(struct link *l, struct peer *p, enum conn_kind kind, int fd)
{
    struct conn *c = mem_new(1, sizeof *c);
    *c = (struct conn){ .kind = kind, .fd = fd, .peer = p };
    buf_init(&c->out, LINK_OUT_MAX);
    buf_init(&c->rest, CONTROL_FRAME_MAX);
    struct epoll_event e = { .events = EPOLLIN, .data.ptr = c };
    if (epoll_ctl(l->epoll, EPOLL_CTL_ADD, fd, &e) < 0) {
        strange_close(fd);
        free(c);
        return NULL;
    }
    if (kind == CONN_PENDING) {
        p->pending++;
        c->hello_deadline_ms = clock_mono_ms() + LINK_HELLO_MS;
        c->prev = l->pending_last;
        *(c->prev ? &c->prev->next : &l->pending_first) = c;
        l->pending_last = c;
    }
    return c;
}

static void pending_remove(struct link *l, struct conn *c) REQUIRES(&l->lock)
{
    c->peer->pending--;
    *(c->prev ? &c->prev->next : &l->pending_first) = c->next;
    *(c->next ? &c->next->prev : &l->pending_last) = c->prev;
    c->prev = c->next = NULL;
}

/* Takes the descriptor out of a conn, which then is dead. */
static int conn_release(struct link *l, struct conn *c) REQUIRES(&l->lock)
{
    int fd = c->fd;
    if (c->kind == CONN_PENDING)
        pending_remove(l, c);
    (void)epoll_ctl(l->epoll, EPOLL_CTL_DEL, fd, NULL);
    buf_release(&c->out);
    buf_release(&c->rest);
    c->fd = -1;
    c->dead = true;
    c->next = l->dead;
    l->dead = c;
    return fd;
}

void conn_close(struct link *l, struct conn *c)
{
    mu_held(&l->lock);
    struct peer *p = c->peer;
    if (c->kind == CONN_CONTROL && p->control == c) {
        p->control = NULL;
        peer_reset(p);
        change_note(l, p, LINK_CHANGE_AGENT);
        /* Their streams will hardly come any more: a command must not wait for a killed sandbox. */
        for (struct waiter *w = p->waiters; w; w = w->next) {
            w->failed = true;
            cond_signal(&w->changed);
        }
        cond_broadcast(&l->changed);
    }
    int fd = conn_release(l, c);
    if (c->kind == CONN_WAKE)
        (void)close(fd);
    else if (c->kind == CONN_LISTEN)
        strange_close_listener(fd);
    else
        strange_close(fd);
}

void conn_bury(struct link *l)
{
    while (l->dead) {
        struct conn *c = l->dead;
        l->dead = c->next;
        free(c);
    }
}

static int send_now(int fd, const void *data, size_t len, size_t *ret_sent)
{
    ssize_t n = send(fd, data, len, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n < 0 && errno != EAGAIN && errno != EINTR)
        return -1;
    *ret_sent = n < 0 ? 0 : (size_t)n;
    return 0;
}

int control_send(struct link *l, struct peer *p, const uint8_t *frame, size_t len)
{
    mu_held(&l->lock);
    struct conn *c = p->control;
    size_t sent = 0;
    if (!c || c->out.len + len > LINK_OUT_MAX)
        return -1;
    if (c->out.len == 0 && send_now(c->fd, frame, len, &sent) < 0) {
        conn_close(l, c);
        return -1;
    }
    if (sent < len) {
        buf_add(&c->out, frame + sent, len - sent);
        watch(l, c, EPOLLIN | EPOLLOUT);
    }
    return 0;
}

static void control_flush(struct link *l, struct conn *c) REQUIRES(&l->lock)
{
    size_t sent = 0;
    if (send_now(c->fd, c->out.data, c->out.len, &sent) < 0) {
        conn_close(l, c);
        return;
    }
    buf_drop(&c->out, sent);
    if (c->out.len == 0) {
        buf_release(&c->out); /* a large request leaves no large buffer behind */
        buf_init(&c->out, LINK_OUT_MAX);
        watch(l, c, EPOLLIN);
    }
}

static int hear(struct link *l, struct peer *p, const struct frame *f) REQUIRES(&l->lock)
{
    switch (f->type) {
    case FRAME_PONG:
        return 0;
    case FRAME_PORTS:
        return ports_hear(l, p, f);
    case FRAME_KEPT:
        return kept_hear(l, p, f);
    default:
        return -1;
    }
}

static void control_read(struct link *l, struct conn *c) REQUIRES(&l->lock)
{
    uint8_t data[2 * CONTROL_FRAME_MAX];
    size_t len = c->rest.len, at = 0, size;
    if (len > 0)
        memcpy(data, c->rest.data, len);
    bool surplus;
    ssize_t n = strange_receive(c->fd, data + len, sizeof data - len, NULL, &surplus);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0 || surplus) {
        conn_close(l, c);
        return;
    }
    len += (size_t)n;
    struct frame f;
    int r;
    while ((r = frame_parse(data + at, len - at, &f, &size)) > 0 && hear(l, c->peer, &f) == 0)
        at += size;
    buf_release(&c->rest); /* agents are many, and half a frame is rare */
    buf_init(&c->rest, CONTROL_FRAME_MAX);
    buf_add(&c->rest, data + at, len - at);
    if (r != 0 || c->rest.failed)
        conn_close(l, c);
}

static void welcome(struct link *l, struct conn *c, bool has_secret) REQUIRES(&l->lock)
{
    struct peer *p = c->peer;
    uint8_t reply[FRAME_HEADER + FRAME_SECRET] = { 0 };
    frame_header(reply, FRAME_WELCOME, FRAME_SECRET);
    if (!has_secret)
        memcpy(reply + FRAME_HEADER, p->secret, FRAME_SECRET);
    size_t sent = 0;
    int r = send_now(c->fd, reply, sizeof reply, &sent);
    mem_erase(reply, sizeof reply);
    if (r < 0 || sent < sizeof reply) { /* a fresh socket takes so little, or it is gone already */
        conn_close(l, c);
        return;
    }
    p->fresh = false;
    pending_remove(l, c);
    if (p->control)
        conn_close(l, p->control); /* who knows the secret is the agent; the newer one is alive */
    c->kind = CONN_CONTROL;
    p->control = c;
    change_note(l, p, LINK_CHANGE_AGENT);
    cond_broadcast(&l->changed);
}

static void hand_over(struct link *l, struct conn *c, uint64_t number) REQUIRES(&l->lock)
{
    for (struct waiter *w = c->peer->waiters; w; w = w->next) {
        if (w->number == number && w->fd < 0) {
            w->fd = conn_release(l, c);
            cond_signal(&w->changed);
            return;
        }
    }
    conn_close(l, c); /* too late, or made up */
}

/* Reads no byte beyond the hello: what follows is for whoever gets the stream. */
static void hello_read(struct link *l, struct conn *c) REQUIRES(&l->lock)
{
    bool surplus;
    ssize_t n = strange_receive(c->fd, c->in + c->in_len, sizeof c->in - c->in_len, NULL, &surplus);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0 || surplus) {
        conn_close(l, c);
        return;
    }
    c->in_len += (size_t)n;
    struct frame f;
    struct frame_hello h;
    size_t size;
    int r = frame_parse(c->in, c->in_len, &f, &size);
    if (r == 0 && c->in_len < sizeof c->in)
        return;
    bool known = r > 0 && frame_get_hello(&f, &h) == 0;
    if (known && h.has_secret)
        known = mem_equal_ct(h.secret, c->peer->secret, FRAME_SECRET);
    else if (known)
        known = c->peer->fresh && h.kind == HELLO_CONTROL;
    mem_erase(c->in, sizeof c->in);
    if (!known)
        conn_close(l, c);
    else if (h.kind == HELLO_CONTROL)
        welcome(l, c, h.has_secret);
    else
        hand_over(l, c, h.number);
    mem_erase(&h, sizeof h);
}

static void displace_oldest(struct link *l, const struct peer *p) REQUIRES(&l->lock)
{
    struct conn *c = l->pending_first;
    while (c && c->peer != p)
        c = c->next;
    if (c)
        conn_close(l, c);
}

static void accept_some(struct link *l, struct conn *listener) REQUIRES(&l->lock)
{
    struct peer *p = listener->peer;
    for (unsigned i = 0; i < ACCEPTS_AT_ONCE; i++) {
        int fd = accept4(listener->fd, NULL, NULL, SOCK_CLOEXEC);
        if (fd < 0) {
            if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
                listener->paused = true; /* it would be reported ready over and over */
                watch(l, listener, 0);
                l->paused_until_ms = clock_mono_ms() + PAUSE_MS;
            }
            return;
        }
        if (p->pending == LINK_PENDING_MAX)
            displace_oldest(l, p);
        struct conn *c = conn_open(l, p, CONN_PENDING, fd);
        if (c)
            hello_read(l, c); /* mostly it is here already */
    }
}

static void resume_listeners(struct link *l) REQUIRES(&l->lock)
{
    l->paused_until_ms = 0;
    for (size_t i = 0; i < PEER_BUCKETS; i++) {
        for (struct peer *p = l->peers[i]; p; p = p->next) {
            if (p->listener->paused) {
                p->listener->paused = false;
                watch(l, p->listener, EPOLLIN);
            }
        }
    }
}

static void serve(struct link *l, struct conn *c, uint32_t events) REQUIRES(&l->lock)
{
    uint64_t count;
    switch (c->kind) {
    case CONN_WAKE:
        (void)!read(c->fd, &count, sizeof count); /* only to quieten it */
        break;
    case CONN_LISTEN:
        accept_some(l, c);
        break;
    case CONN_PENDING:
        hello_read(l, c);
        break;
    case CONN_CONTROL:
        if (events & (EPOLLIN | EPOLLHUP | EPOLLERR))
            control_read(l, c);
        if (!c->dead && (events & EPOLLOUT))
            control_flush(l, c);
        break;
    }
}

/* Does what the clock asks for; returns epoll's next timeout. */
static int check_clock(struct link *l) REQUIRES(&l->lock)
{
    int64_t now = clock_mono_ms(), until = INT64_MAX;
    while (l->pending_first && l->pending_first->hello_deadline_ms <= now)
        conn_close(l, l->pending_first);
    if (l->paused_until_ms > 0 && l->paused_until_ms <= now)
        resume_listeners(l);
    if (l->pending_first)
        until = l->pending_first->hello_deadline_ms;
    if (l->paused_until_ms > 0 && l->paused_until_ms < until)
        until = l->paused_until_ms;
    return until == INT64_MAX ? -1 : clock_left_ms(until);
}

void *loop_run(void *link)
{
    struct link *l = link;
    int timeout = -1;
    for (bool stopping = false; !stopping;) {
        struct epoll_event events[EVENTS_AT_ONCE];
        int n = epoll_wait(l->epoll, events, EVENTS_AT_ONCE, timeout);
        mu_lock(&l->lock);
        for (int i = 0; i < n; i++) {
            struct conn *c = events[i].data.ptr;
            if (!c->dead) /* an earlier event of this round, or another thread, closed it */
                serve(l, c, events[i].events);
        }
        timeout = check_clock(l);
        conn_bury(l);
        stopping = l->stopping;
        mu_unlock(&l->lock);
    }
    return NULL;
}

void loop_wake(struct link *l)
{
    uint64_t one = 1;
    (void)!write(l->wake->fd, &one, sizeof one); /* full means that it is awake already */
}
