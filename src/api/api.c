/* The HTTP server: listening socket, libmicrohttpd's two epoll threads, the handlers' pool, and the
 * sweep that ends peers which are too slow.
 *
 * Each connection has a struct peer, in a list under peers_lock from its accept to its close; the
 * descriptor in it is open as long as it is in the list, so the sweep may shut it down. Stopping:
 * no new connections and requests, wait for handlers until the deadline, shut down what is left
 * (which ends its handlers), join the pool, then libmicrohttpd: it must have no suspended
 * connection then, and has none, for every handler that ends resumes its own. */
#include "api/api.h"

#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/str.h"
#include "server.h"

#define SWEEP_MS 1000
#define STOP_ANSWER_MS 4000 /* from the end of the grace: commands end, their clients hear why */
#define STOP_POLL_MS 20     /* between two looks whether the handlers have ended */

/* --- peers --- */

void peer_phase(struct peer *p, enum peer_phase phase)
{
    atomic_store_explicit(&p->since_ms, clock_mono_ms(), memory_order_relaxed);
    atomic_store_explicit(&p->bytes, 0, memory_order_relaxed);
    atomic_store(&p->phase, phase);
}

static struct in6_addr address_of(const struct sockaddr *from)
{
    struct in6_addr a = { .s6_addr = { [10] = 0xff, [11] = 0xff } };
    if (from && from->sa_family == AF_INET6)
        a = ((const struct sockaddr_in6 *)(const void *)from)->sin6_addr;
    else if (from && from->sa_family == AF_INET)
        memcpy(a.s6_addr + 12, &((const struct sockaddr_in *)(const void *)from)->sin_addr, 4);
    return a;
}

static bool is_ours(const struct in6_addr *a)
{
    return IN6_IS_ADDR_LOOPBACK(a) || (IN6_IS_ADDR_V4MAPPED(a) && a->s6_addr[12] == 127);
}

bool peer_admit(struct api *a, const struct sockaddr *from)
{
    struct in6_addr address = address_of(from);
    uint32_t same = 0;
    if (is_ours(&address))
        return true;
    if (atomic_load(&a->n_peers) + HTTP_OPERATOR_RESERVE >= a->peers_max)
        return false;
    /* Who has an IPv6 network has all of it. */
    size_t len = IN6_IS_ADDR_V4MAPPED(&address) ? sizeof address : sizeof address / 2;
    mu_lock(&a->peers_lock);
    for (const struct peer *p = a->peers; p; p = p->next)
        same += memcmp(&p->address, &address, len) == 0;
    mu_unlock(&a->peers_lock);
    return same < (uint64_t)a->config->peer_connections;
}

static void peer_open(struct api *a, struct MHD_Connection *conn, void **slot)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(conn, MHD_CONNECTION_INFO_CONNECTION_FD);
    const union MHD_ConnectionInfo *from =
        MHD_get_connection_info(conn, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    struct peer *p = mem_new(1, sizeof(*p));
    p->api = a;
    p->address = address_of(from ? from->client_addr : NULL);
    p->fd = info->connect_fd;
    peer_phase(p, PEER_NEW);
    mu_lock(&a->peers_lock);
    p->next = a->peers;
    if (p->next)
        p->next->prev = p;
    a->peers = p;
    mu_unlock(&a->peers_lock);
    atomic_fetch_add(&a->n_peers, 1);
    *slot = p;
}

static void peer_close(struct api *a, void **slot)
{
    struct peer *p = *slot;
    if (!p)
        return;
    *slot = NULL;
    mu_lock(&a->peers_lock);
    if (p->prev)
        p->prev->next = p->next;
    else
        a->peers = p->next;
    if (p->next)
        p->next->prev = p->prev;
    mu_unlock(&a->peers_lock);
    atomic_fetch_sub(&a->n_peers, 1);
    free(p);
}

static void on_connection(void *ctx, struct MHD_Connection *conn, void **slot,
                          enum MHD_ConnectionNotificationCode code)
{
    if (code == MHD_CONNECTION_NOTIFY_STARTED)
        peer_open(ctx, conn, slot);
    else
        peer_close(ctx, slot);
}

static bool too_slow(struct peer *p, int64_t now_ms)
{
    const struct config *c = p->api->config;
    int64_t age = now_ms - atomic_load_explicit(&p->since_ms, memory_order_relaxed);
    switch (atomic_load(&p->phase)) {
    case PEER_NEW:
    case PEER_HEADER:
        return age > c->peer_header_ms;
    case PEER_BODY:
        return age > c->peer_header_ms &&
               (int64_t)atomic_load(&p->bytes) * 1000 < age * HTTP_BODY_RATE;
    case PEER_IDLE: /* libmicrohttpd ends the silent ones; this is for a trickle of header bytes */
        return age > c->peer_idle_ms + c->peer_header_ms;
    default:
        return false;
    }
}

/* --- threads --- */

static struct share *share_locked(struct api *a, const char *tenant) REQUIRES(a->peers_lock)
{
    mu_held(&a->peers_lock);
    for (size_t i = 0; i < a->n_shares; i++)
        if (str_eq(a->shares[i].tenant, tenant))
            return &a->shares[i];
    a->shares = reallocarray(a->shares, a->n_shares + 1, sizeof *a->shares);
    if (!a->shares)
        abort();
    a->shares[a->n_shares] = (struct share){ .tenant = tenant };
    return &a->shares[a->n_shares++];
}

bool share_take(struct api *a, const char *tenant, uint32_t threads)
{
    if (!tenant)
        return true;
    mu_lock(&a->peers_lock);
    struct share *s = share_locked(a, tenant);
    bool room = s->threads + threads <= API_TENANT_THREADS_MAX;
    if (room)
        s->threads += threads;
    mu_unlock(&a->peers_lock);
    return room;
}

void share_give(struct api *a, const char *tenant, uint32_t threads)
{
    if (!tenant)
        return;
    mu_lock(&a->peers_lock);
    share_locked(a, tenant)->threads -= threads;
    mu_unlock(&a->peers_lock);
}

/* libmicrohttpd takes a short read for the last one: where the last bytes and FIN came together it
 * waits for an event that has been already. So a FIN with nothing before it, seen in two rounds
 * while it is the peer's turn, ends the connection. */
static bool abandoned(struct peer *p)
{
    struct pollfd fd = { .fd = p->fd, .events = POLLRDHUP };
    int unread = 0;
    bool fin = atomic_load(&p->phase) != PEER_BUSY && poll(&fd, 1, 0) == 1 &&
               (fd.revents & POLLRDHUP) && ioctl(p->fd, FIONREAD, &unread) == 0 && unread == 0;
    bool twice = fin && p->fin;
    p->fin = fin;
    return twice;
}

int64_t api_sweep(void *ctx, int64_t now_ms)
{
    static const char late[] = "HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n"
                               "Content-Length: 0\r\n\r\n";
    struct api *a = ctx;
    mu_lock(&a->peers_lock);
    for (struct peer *p = a->peers; p; p = p->next) {
        if (abandoned(p)) {
            (void)shutdown(p->fd, SHUT_RDWR);
            continue;
        }
        if (!too_slow(p, now_ms))
            continue;
        if (atomic_load(&p->phase) != PEER_IDLE)
            (void)send(p->fd, late, sizeof(late) - 1, MSG_DONTWAIT | MSG_NOSIGNAL);
        (void)shutdown(p->fd, SHUT_RDWR); /* its thread sees the end and closes it */
        atomic_fetch_add(&a->metrics.cut, 1);
    }
    mu_unlock(&a->peers_lock);
    return SWEEP_MS;
}

/* --- start --- */

static int open_socket(const struct addrinfo *ai, struct err *err)
{
    int fd = fd_listen(ai->ai_addr, ai->ai_addrlen, 1024);
    if (fd >= 0)
        return fd;
    int sys = errno;
    (void)err_sys(err, sys, "cannot listen");
    if (sys == EADDRINUSE) {
        err->code = ERR_CONFLICT;
        (void)err_remedy(err, "Another program listens there: stop it or set SANDBOXED_API_BIND.");
    }
    return -1;
}

static int listen_on(const struct config_bind *at, uint16_t *ret_port, struct err *err)
{
    char port[8];
    struct addrinfo *list = NULL;
    const struct addrinfo hints = { .ai_family = AF_UNSPEC,
                                    .ai_socktype = SOCK_STREAM,
                                    .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE };
    (void)snprintf(port, sizeof(port), "%u", at->port);
    int rc = getaddrinfo(at->host[0] ? at->host : NULL, port, &hints, &list);
    if (rc != 0)
        return err_set(err, ERR_INVALID, "API address %s: %s", at->host, gai_strerror(rc));
    int fd = open_socket(list, err);
    freeaddrinfo(list);
    if (fd < 0)
        return err_wrap(err, "API address %s:%u", at->host, at->port);
    struct sockaddr_storage own = { 0 };
    socklen_t len = sizeof(own);
    if (getsockname(fd, (struct sockaddr *)&own, &len) == 0 &&
        getnameinfo((struct sockaddr *)&own, len, NULL, 0, port, sizeof(port), NI_NUMERICSERV) == 0)
        *ret_port = (uint16_t)strtoul(port, NULL, 10);
    return fd;
}

static unsigned connections_max(void)
{
    struct rlimit l = { 0 };
    if (getrlimit(RLIMIT_NOFILE, &l) < 0 || l.rlim_cur == RLIM_INFINITY ||
        l.rlim_cur >= HTTP_CONNECTIONS_MAX + HTTP_FD_RESERVE)
        return HTTP_CONNECTIONS_MAX;
    /* A small limit is shared half and half. */
    rlim_t room = l.rlim_cur > 2 * HTTP_FD_RESERVE ? l.rlim_cur - HTTP_FD_RESERVE : l.rlim_cur / 2;
    return room < 4 ? 4 : (unsigned)room;
}

/* Paths are matched as they came and decoded by us. */
static size_t keep_escapes(void *ctx, struct MHD_Connection *conn, char *text)
{
    (void)ctx;
    (void)conn;
    return strlen(text);
}

static enum MHD_Result on_accept(void *ctx, const struct sockaddr *addr, socklen_t len)
{
    struct api *a = ctx;
    (void)len; /* libmicrohttpd gives whole addresses */
    return !atomic_load(&a->stopping) && peer_admit(a, addr) ? MHD_YES : MHD_NO;
}

static struct MHD_Daemon *start_daemon(struct api *a, int fd)
{
    return MHD_start_daemon(
        MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME | MHD_ALLOW_UPGRADE | MHD_USE_ITC,
        0, on_accept, a, req_access, a, MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_THREAD_POOL_SIZE,
        2u, MHD_OPTION_THREAD_STACK_SIZE, (size_t)THREAD_STACK, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
        (size_t)HTTP_CONN_MEMORY, MHD_OPTION_CONNECTION_LIMIT, (unsigned)a->peers_max,
        MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)((a->config->peer_idle_ms + 999) / 1000),
        MHD_OPTION_STRICT_FOR_CLIENT, 1, MHD_OPTION_URI_LOG_CALLBACK, req_begin, a,
        MHD_OPTION_UNESCAPE_CALLBACK, keep_escapes, NULL, MHD_OPTION_NOTIFY_COMPLETED,
        req_completed, a, MHD_OPTION_NOTIFY_CONNECTION, on_connection, a, MHD_OPTION_END);
}

static void api_free(struct api *a)
{
    worker_stop(a->sweeper);
    pool_stop(a->pool);
    if (a->daemon)
        MHD_stop_daemon(a->daemon); /* closes the listening socket */
    mu_release(&a->peers_lock);
    free(a->shares);
    free(a);
}

int api_start(struct core *core, const struct config *config, struct api **ret, struct err *err)
{
    uint16_t port = 0;
    AUTO(fd) int fd = listen_on(&config->api, &port, err);
    if (fd < 0)
        return -1;
    struct api *a = mem_new(1, sizeof(*a));
    a->core = core;
    a->config = config;
    a->port = port;
    a->in_place = str_starts(MHD_get_version(), "0.9.7");
    mu_init(&a->peers_lock, MU_PEERS);
    a->pool = pool_new("api", API_THREADS_MAX, API_BACKLOG_MAX, API_THREAD_IDLE_MS);
    a->sweeper = worker_start("api-sweep", api_sweep, a, err);
    if (!a->sweeper) {
        api_free(a);
        return -1;
    }
    a->peers_max = connections_max();
    a->daemon = start_daemon(a, fd);
    if (!a->daemon) {
        api_free(a);
        return err_set(err, ERR_INTERNAL, "the HTTP server did not start");
    }
    (void)TAKE_FD(fd);
    *ret = a;
    return 0;
}

/* --- stop --- */

static bool answering(struct api *a)
{
    bool busy = false;
    mu_lock(&a->peers_lock);
    for (struct peer *p = a->peers; p && !busy; p = p->next)
        busy = atomic_load(&p->phase) == PEER_BUSY;
    mu_unlock(&a->peers_lock);
    return busy;
}

static void cut_peers(struct api *a)
{
    mu_lock(&a->peers_lock);
    for (struct peer *p = a->peers; p; p = p->next)
        (void)shutdown(p->fd, SHUT_RDWR);
    mu_unlock(&a->peers_lock);
}

void api_stop(struct api *a, int64_t deadline_ms)
{
    if (!a)
        return;
    atomic_store(&a->stopping, true);
    /* There is no event for "all answers are out"; this happens once in a life. */
    while ((pool_load(a->pool) > 0 || answering(a)) && clock_mono_ms() < deadline_ms)
        (void)poll(NULL, 0, STOP_POLL_MS);
    atomic_store(&a->ending, true);
    deadline_ms = clock_mono_ms() + STOP_ANSWER_MS;
    while ((pool_load(a->pool) > 0 || answering(a)) && clock_mono_ms() < deadline_ms)
        (void)poll(NULL, 0, STOP_POLL_MS);
    uint32_t left = pool_load(a->pool);
    if (left > 0)
        log_warn("api.requests_cut", KV_INT("count", left));
    cut_peers(a);
    api_free(a);
}
