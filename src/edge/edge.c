/* The loop: one thread, one epoll set, everything non-blocking. What blocks (waking a sandbox,
 * asking its agent for a connection) runs on a pool and comes back through an eventfd.
 *
 * Sockets are watched edge-triggered, once; their flags remember what may be tried. What is closed
 * in a round is freed at its end, because the round's events may still name it. Deadlines are
 * looked at by a tick, ten times a second while there is anything to look at. */
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/fd.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/str.h"
#include "base/worker.h"
#include "edge/edge.h"
#include "inside.h"
#include "jobs.h"

#define EVENTS 256
#define ACCEPTS_MAX 64 /* in one round, so that those who are in are served as well */
#define THREAD_IDLE_MS 10000
#define LOG_EVERY_MS 10000

/* --- sockets --- */

int sock_watch(struct edge *e, struct sock *s)
{
    struct epoll_event ev = { .events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.ptr = s };
    return epoll_ctl(e->epoll, EPOLL_CTL_ADD, s->fd, &ev);
}

void sock_close(struct edge *e, struct sock *s)
{
    if (s->fd < 0)
        return;
    /* Explicitly: the agent holds a copy of descriptors that came from it. */
    (void)epoll_ctl(e->epoll, EPOLL_CTL_DEL, s->fd, NULL);
    (void)close(s->fd);
    s->fd = -1;
}

enum sock_io sock_read(struct sock *s, struct buffer *to)
{
    size_t room = buffer_room(to);
    if (!s->readable || room == 0)
        return IO_WAIT;
    ssize_t n = recv(s->fd, buffer_tail(to), room, MSG_DONTWAIT);
    if (n > 0) {
        buffer_grew(to, (size_t)n);
        if ((size_t)n < room && !s->hung) /* all there was; more would be a new event */
            s->readable = false;
        return IO_SOME;
    }
    if (n == 0) {
        s->readable = false;
        return IO_END;
    }
    if (errno == EINTR)
        return IO_WAIT;
    s->readable = false;
    return errno == EAGAIN || errno == EWOULDBLOCK ? IO_WAIT : IO_BROKEN;
}

enum sock_io sock_write(struct sock *s, struct buffer *from)
{
    size_t len = buffer_len(from);
    if (!s->writable || len == 0)
        return IO_WAIT;
    ssize_t n = send(s->fd, buffer_at(from), len, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n >= 0) {
        buffer_drop(from, (size_t)n);
        if ((size_t)n < len)
            s->writable = false;
        return IO_SOME;
    }
    if (errno == EINTR)
        return IO_WAIT;
    s->writable = false;
    return errno == EAGAIN || errno == EWOULDBLOCK ? IO_WAIT : IO_BROKEN;
}

/* --- the listener --- */

static int listen_on(const struct config_bind *bind_to, struct err *err)
{
    struct sockaddr_storage at = { 0 };
    struct sockaddr_in *four = (void *)&at;
    struct sockaddr_in6 *six = (void *)&at;
    struct in6_addr address;
    socklen_t size;
    if (!address_parse(bind_to->host, &address))
        return err_set(err, ERR_INVALID, "the edge's address %s is none", bind_to->host);
    if (IN6_IS_ADDR_V4MAPPED(&address)) {
        four->sin_family = AF_INET;
        four->sin_port = htons(bind_to->port);
        memcpy(&four->sin_addr, address.s6_addr + 12, sizeof four->sin_addr);
        size = sizeof *four;
    } else {
        six->sin6_family = AF_INET6;
        six->sin6_port = htons(bind_to->port);
        six->sin6_addr = address;
        size = sizeof *six;
    }
    int fd = fd_listen((const struct sockaddr *)&at, size, SOMAXCONN);
    if (fd >= 0)
        return fd;
    if (errno == EADDRINUSE)
        return err_set(err, ERR_CONFLICT, "the edge's address %s port %u is in use", bind_to->host,
                       bind_to->port);
    return err_sys(err, errno, "listen on %s port %u", bind_to->host, bind_to->port);
}

static void log_refusal(struct edge *e, const char *why)
{
    if (e->now_ms < e->refused_log_ms)
        return;
    e->refused_log_ms = e->now_ms + LOG_EVERY_MS;
    log_warn("edge.refused", KV_STR("why", why), KV_INT("connections", e->n_clients));
}

/* A client in a box has one to an app, or soon will. */
bool edge_has_room(const struct edge *e)
{
    return (uint64_t)e->n_clients + e->n_entered + e->n_idle < e->files_max;
}

static void accept_some(struct edge *e)
{
    for (int i = 0; i < ACCEPTS_MAX && e->listener.readable; i++) {
        struct sockaddr_storage from;
        socklen_t size = sizeof from;
        int fd =
            accept4(e->listener.fd, (struct sockaddr *)&from, &size, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0 && (e->n_clients >= e->clients_max || !edge_has_room(e))) {
            (void)send(fd, answer_busy, strlen(answer_busy), MSG_DONTWAIT | MSG_NOSIGNAL);
            (void)close(fd);
            log_refusal(e, "too many connections");
        } else if (fd >= 0) {
            client_new(e, fd, &from);
        } else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
            e->listening_paused = true;
            log_refusal(e, "no descriptor is left");
            return;
        } else if (errno != EINTR && errno != ECONNABORTED) {
            e->listener.readable = false;
        }
    }
}

/* --- jobs of the pool --- */

void edge_post(struct edge *e, struct job *j)
{
    uint64_t one = 1;
    mu_lock(&e->lock);
    j->next = e->done;
    e->done = j;
    mu_unlock(&e->lock);
    (void)!write(e->event.fd, &one, sizeof one); /* full: the loop is awake already */
}

static void take_jobs(struct edge *e)
{
    uint64_t many;
    (void)!read(e->event.fd, &many, sizeof many); /* non-blocking; nothing there is fine */
    mu_lock(&e->lock);
    struct job *list = e->done;
    e->done = NULL;
    if (e->stopping && !e->leaving) {
        e->leaving = true;
        e->leaving_ms = e->now_ms;
        e->before = e->exchanges;
    }
    mu_unlock(&e->lock);
    while (list) {
        struct job *j = list;
        list = j->next;
        box_job_done(e, j);
    }
}

/* --- rounds --- */

void edge_again(struct client *c)
{
    if (c->queued)
        return;
    c->queued = true;
    c->again = c->e->again;
    c->e->again = c;
}

static void event_on(struct edge *e, struct sock *s, uint32_t events)
{
    if (s->fd < 0) /* closed earlier in this round */
        return;
    if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))
        s->readable = true;
    if (events & (EPOLLOUT | EPOLLHUP | EPOLLERR))
        s->writable = true;
    if (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR))
        s->hung = true;
    if (events & (EPOLLHUP | EPOLLERR))
        s->broken = true;
    if (s->kind == SOCK_CLIENT) {
        edge_again((struct client *)(void *)s);
    } else if (s->kind == SOCK_UPSTREAM) {
        struct upstream *u = (struct upstream *)(void *)s;
        if (!u->client && s->readable) /* idle: nothing it says now is an answer to anything */
            upstream_close(e, u);
        else if (u->client && u->connecting && s->writable)
            exchange_connected(u->client);
        else if (u->client)
            edge_again(u->client);
    }
}

static void pump_all(struct edge *e)
{
    struct client *list = e->again;
    e->again = NULL;
    while (list) {
        struct client *c = list;
        list = c->again;
        c->queued = false;
        if (c->s.fd >= 0)
            exchange_pump(c);
    }
}

static void bury(struct edge *e)
{
    struct client *keep = NULL;
    while (e->dead_clients) {
        struct client *c = e->dead_clients;
        e->dead_clients = c->next;
        if (c->queued) { /* named by the list of the next round still */
            c->next = keep;
            keep = c;
        } else {
            free(c);
        }
    }
    e->dead_clients = keep;
    while (e->dead_upstreams) {
        struct upstream *u = e->dead_upstreams;
        e->dead_upstreams = u->next;
        free(u);
    }
}

static void tick(struct edge *e)
{
    bool review = e->now_ms - e->reviewed_ms >= EDGE_REVIEW_MS;
    e->ticked_ms = e->now_ms;
    if (e->listening_paused) {
        e->listening_paused = false;
        accept_some(e);
    }
    if (review) {
        e->reviewed_ms = e->now_ms;
        for (size_t i = 0; i < BOXES; i++)
            for (struct box *b = e->boxes[i]; b; b = b->next)
                box_review(e, b);
    }
    for (struct client *c = e->clients, *next; c; c = next) {
        next = c->next;
        client_tick(c);
    }
    if (review)
        box_sweep(e);
}

/* --- the end ---
 *
 * First it goes on serving, one request a connection, until what was under way is done: nobody who
 * comes meanwhile is kept out by somebody's long upload. Then it stops listening; who comes from
 * now on is refused, and tries again (Traefik does: dynamic.yml). What has connected by then may
 * have been sent, and is served. */

static bool is_endless(const struct client *c)
{
    return c->upgraded || c->endless;
}

static bool under_way_before(const struct edge *e)
{
    for (const struct client *c = e->clients; c; c = c->next)
        if (c->box && c->number <= e->before && !is_endless(c))
            return true;
    return false;
}

/* Connections between two requests. A proxy takes a new one for its next. */
static void close_unused(struct edge *e)
{
    for (struct client *c = e->clients, *next; c; c = next) {
        next = c->next;
        c->keep = false;
        if (c->state == CLIENT_IDLE && c->number > 0)
            client_close(c);
    }
}

static void leave(struct edge *e)
{
    mu_lock(&e->lock);
    int64_t deadline_ms = e->stop_deadline_ms;
    mu_unlock(&e->lock);
    close_unused(e);
    if (e->now_ms < deadline_ms &&
        (e->now_ms - e->leaving_ms < EDGE_TICK_MS || under_way_before(e)))
        return;
    e->listener.readable = true;
    while (e->listener.readable && !e->listening_paused)
        accept_some(e);
    sock_close(e, &e->listener);
    e->ending = true;
    e->end_ms = e->now_ms + EDGE_LAST_MS;
    if (e->end_ms < deadline_ms)
        e->end_ms = deadline_ms;
    e->last_ms = e->now_ms + EDGE_LAST_MS;
}

/* What does not end by itself goes at once; what has connected last without a word, soon. */
static void end_idle(struct edge *e)
{
    bool late = e->now_ms >= e->last_ms, all = e->now_ms >= e->end_ms;
    close_unused(e);
    for (struct client *c = e->clients, *next; c; c = next) {
        next = c->next;
        if (all || is_endless(c) || (late && (c->state == CLIENT_IDLE || c->state == CLIENT_HEAD)))
            client_close(c);
        else if (late && c->state == CLIENT_WAIT)
            answer(c, &(struct answer){ .status = 503,
                                        .code = "shutting_down",
                                        .title = "The server is being restarted",
                                        .retry_s = 2 });
    }
}

static void *loop(void *arg)
{
    struct edge *e = arg;
    struct epoll_event events[EVENTS];
    for (;;) {
        bool busy = e->n_clients > 0 || e->n_boxes > 0 || e->listening_paused;
        bool more = e->again || (e->listener.readable && !e->listening_paused && !e->ending);
        int wait_ms = more ? 0 : busy || e->leaving ? EDGE_TICK_MS : -1;
        int n = epoll_wait(e->epoll, events, EVENTS, wait_ms);
        e->now_ms = clock_mono_ms();
        for (int i = 0; i < n; i++) {
            struct sock *s = events[i].data.ptr;
            event_on(e, s, events[i].events);
            if (s->kind == SOCK_EVENT)
                take_jobs(e);
        }
        if (e->listener.readable && !e->listening_paused && !e->ending)
            accept_some(e);
        pump_all(e);
        if (e->now_ms - e->ticked_ms >= EDGE_TICK_MS)
            tick(e);
        if (e->leaving && !e->ending)
            leave(e);
        if (e->ending)
            end_idle(e);
        bury(e);
        if (e->ending && e->n_clients == 0)
            return NULL;
    }
}

/* --- life --- */

/* Descriptors of the process that the edge may take. */
static uint64_t files_max(void)
{
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) < 0 || files.rlim_cur == RLIM_INFINITY)
        return UINT64_MAX;
    return files.rlim_cur > 2 * EDGE_FD_RESERVE ? files.rlim_cur - EDGE_FD_RESERVE
                                                : files.rlim_cur / 2;
}

static void edge_free(struct edge *e)
{
    pool_stop(e->pool);
    e->ending = true;
    take_jobs(e); /* what the pool finished last */
    box_free_all(e);
    bury(e);
    visitors_release(&e->visitors);
    if (e->listener.fd >= 0)
        (void)close(e->listener.fd);
    if (e->event.fd >= 0)
        (void)close(e->event.fd);
    if (e->epoll >= 0)
        (void)close(e->epoll);
    mu_release(&e->lock);
    free(e);
}

static int open_all(struct edge *e, struct err *err)
{
    e->epoll = epoll_create1(EPOLL_CLOEXEC);
    e->event.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (e->epoll < 0 || e->event.fd < 0)
        return err_sys(err, errno, "descriptors of the edge");
    e->listener.fd = listen_on(&e->config->edge, err);
    if (e->listener.fd < 0)
        return -1;
    struct epoll_event event = { .events = EPOLLIN, .data.ptr = &e->event };
    if (epoll_ctl(e->epoll, EPOLL_CTL_ADD, e->event.fd, &event) < 0 ||
        sock_watch(e, &e->listener) < 0)
        return err_sys(err, errno, "epoll of the edge");
    return thread_start(loop, e, "edge", &e->thread, err);
}

int edge_start(struct core *core, const struct config *config, struct edge **ret, struct err *err)
{
    struct edge *e = mem_new(1, sizeof *e);
    e->core = core;
    e->traffic = core_traffic(core);
    e->config = config;
    e->epoll = -1;
    e->listener = (struct sock){ .kind = SOCK_LISTENER, .fd = -1 };
    e->event = (struct sock){ .kind = SOCK_EVENT, .fd = -1 };
    e->now_ms = clock_mono_ms();
    e->clients_max = (uint32_t)config->edge_connections;
    e->files_max = files_max();
    mu_init(&e->lock, MU_EDGE);
    visitors_init(&e->visitors, config->edge_rate, config->edge_burst, (uint32_t)config->edge_wakes,
                  (uint32_t)config->edge_per_visitor);
    e->pool = pool_new("edge-pool", EDGE_THREADS_MAX, EDGE_BACKLOG_MAX, THREAD_IDLE_MS);
    if (open_all(e, err) < 0) {
        edge_free(e);
        return -1;
    }
    *ret = e;
    return 0;
}

void edge_stop(struct edge *e, int64_t deadline_ms)
{
    uint64_t one = 1;
    if (!e)
        return;
    mu_lock(&e->lock);
    e->stopping = true;
    e->stop_deadline_ms = deadline_ms;
    mu_unlock(&e->lock);
    (void)!write(e->event.fd, &one, sizeof one); /* full: the loop is awake already */
    thread_join(e->thread);
    edge_free(e);
}
