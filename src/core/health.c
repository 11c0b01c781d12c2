/* Looks at services until they are well: GET of the health_path, any 2xx or 3xx will do.
 *
 * One loop asks all of them, without blocking: a probe has a deadline of its own, and one that
 * hangs costs the others nothing. Only the way to an app may block (the Engine is asked for an
 * address, an agent for a connection): that is a job of a small pool. The younger a service, the
 * closer the looks. A service that was well once is forgotten until its next start; so is one that
 * nobody keeps running any more.
 *
 * Recovery: after a restart of the daemon services that run are looked at again. */
#include "health.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/str.h"
#include "base/worker.h"
#include "inside.h"

#define ANSWER_MIN 13 /* "HTTP/1.1 200 " */
#define REQUEST_MAX 1280
#define WHY_PATH_MAX 80
#define SEEN_MAX 64 /* bytes of what a look saw */
#define DIALLER_IDLE_MS 10000

struct probe {
    struct probe *next; /* guarded by the lock, as are `seen` and what comes from a job */
    struct sandbox_id sandbox;
    uint32_t epoch;
    uint16_t port;
    char name[SERVICE_NAME_MAX + 1];
    char *path;
    bool holds;       /* requests to its port wait for it */
    atomic_bool gone; /* well, or replaced by a newer one */
    char seen[SEEN_MAX];
    bool dialled;
    int dialled_fd;
    /* the loop's own */
    int64_t began_ms, next_ms, deadline_ms;
    bool dialling;
    int fd; /* -1: no look is under way */
    size_t sent, got;
    bool asked; /* all of the request is sent */
    char answer[ANSWER_MIN];
};

struct health {
    struct core *core;
    struct mu lock;
    struct cond changed;
    struct probe *probes GUARDED_BY(lock);
    bool stopping GUARDED_BY(lock);
    atomic_uint count; /* of probes: mostly none */
    int event;
    unsigned long loop;
    struct pool *diallers;
};

/* --- what is waited for --- */

static struct probe *find_locked(struct health *h, const struct sandbox_id *id, uint16_t port,
                                 const char *name) REQUIRES(h->lock)
{
    mu_held(&h->lock);
    for (struct probe *p = h->probes; p; p = p->next)
        if (!p->gone && (port == 0 || (p->holds && p->port == port)) &&
            (!name || str_eq(p->name, name)) && sandbox_id_eq(&p->sandbox, id))
            return p;
    return NULL;
}

static void wake(struct health *h)
{
    (void)eventfd_write(h->event, 1); /* full: it is awake already */
}

static struct probe *new_probe(const struct sandbox *s, const struct service *spec)
{
    struct probe *p = mem_new(1, sizeof *p);
    p->sandbox = s->id;
    p->epoch = s->epoch;
    p->port = (uint16_t)spec->port;
    (void)str_copy(p->name, sizeof p->name, spec->name); /* checked when declared */
    p->path = str_dup(spec->health_path);
    p->fd = p->dialled_fd = -1;
    p->began_ms = p->next_ms = clock_mono_ms();
    (void)str_copy(p->seen, sizeof p->seen, "it was just started");
    return p;
}

void health_expect(struct health *h, const struct sandbox *s, const struct service *spec, bool hold)
{
    struct probe *p = spec->health_path ? new_probe(s, spec) : NULL, *old;
    if (p)
        p->holds = hold;
    mu_lock(&h->lock);
    while ((old = find_locked(h, &s->id, 0, spec->name)))
        old->gone = true;
    if (p) {
        p->next = h->probes;
        h->probes = p;
        atomic_fetch_add(&h->count, 1);
    }
    cond_broadcast(&h->changed); /* the old one may have been waited for on another port */
    mu_unlock(&h->lock);
    wake(h);
}

bool health_awaited(struct health *h, const struct sandbox_id *id, uint16_t port, const char *name,
                    char why[HEALTH_WHY_MAX])
{
    if (atomic_load(&h->count) == 0)
        return false;
    mu_lock(&h->lock);
    const struct probe *p = find_locked(h, id, port, name);
    size_t len = p ? strcspn(p->path, "?") : 0; /* visitors read it, too: a query may hold a key */
    if (p)
        (void)snprintf(why, HEALTH_WHY_MAX, "service %s, GET %.*s: %s", p->name,
                       len < WHY_PATH_MAX ? (int)len : WHY_PATH_MAX, p->path, p->seen);
    mu_unlock(&h->lock);
    return p != NULL;
}

bool health_wait(struct health *h, const struct sandbox_id *id, uint16_t port, int64_t deadline_ms)
{
    bool in_time = true;
    const struct probe *p;
    if (atomic_load(&h->count) == 0)
        return true;
    mu_lock(&h->lock);
    while ((p = find_locked(h, id, port, NULL)) && in_time)
        in_time = cond_wait_until(&h->changed, &h->lock, deadline_ms);
    mu_unlock(&h->lock);
    return p == NULL;
}

/* --- the way to an app --- */

struct dial {
    struct health *health;
    struct probe *probe; /* stays while it is dialling */
    bool loopback;
};

/* Does not wait for the app: sending tells whether it took the connection. */
static int dial_text(const char *text, uint16_t port)
{
    struct sockaddr_storage to = { .ss_family = AF_INET };
    struct sockaddr_in *four = (void *)&to;
    struct sockaddr_in6 *six = (void *)&to;
    socklen_t size = sizeof *four;
    if (inet_pton(AF_INET, text, &four->sin_addr) == 1) {
        four->sin_port = htons(port);
    } else if (inet_pton(AF_INET6, text, &six->sin6_addr) == 1) {
        six->sin6_family = AF_INET6;
        six->sin6_port = htons(port);
        size = sizeof *six;
    } else {
        return -1;
    }
    int fd = socket(to.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, (const struct sockaddr *)&to, size) < 0 && errno != EINPROGRESS) {
        (void)close(fd);
        return -1;
    }
    return fd;
}

static int dial_address(struct core *c, const struct probe *p)
{
    const struct sandbox *row = registry_get(c->registry, &p->sandbox);
    char text[46];
    struct err ignored; /* what counts is that it is not well */
    bool ok = row && row->epoch == p->epoch && core_address(c, row, text, &ignored) == 0;
    core_unref(row);
    return ok ? dial_text(text, p->port) : -1;
}

static void dial(void *arg)
{
    struct dial *d = arg;
    struct probe *p = d->probe;
    struct core *c = d->health->core;
    struct err ignored; /* what counts is that it is not well */
    int fd = -1;
    if (!d->loopback)
        fd = dial_address(c, p);
    else if (core_connect(c, &p->sandbox, p->port, clock_mono_ms() + HEALTH_DIAL_MS, &fd,
                          &ignored) < 0)
        fd = -1;
    mu_lock(&d->health->lock);
    p->dialled = true;
    p->dialled_fd = fd;
    mu_unlock(&d->health->lock);
    wake(d->health);
    free(d);
}

/* --- one look; the loop's thread --- */

/* The other holders of the descriptor may have asked for a close that waits. */
static void hang_up(struct probe *p)
{
    if (p->fd >= 0)
        fd_close_socket(p->fd);
    p->fd = -1;
}

static void not_well(struct health *h, struct probe *p, const char *seen, int64_t now)
{
    int64_t pause = (now - p->began_ms) / HEALTH_AGE_SHARE;
    pause = pause < HEALTH_PAUSE_MIN_MS ? HEALTH_PAUSE_MIN_MS : pause;
    hang_up(p);
    p->next_ms = now + (pause < HEALTH_PAUSE_MAX_MS ? pause : HEALTH_PAUSE_MAX_MS);
    mu_lock(&h->lock);
    (void)str_copy(p->seen, sizeof p->seen, seen);
    mu_unlock(&h->lock);
}

static void forget(struct health *h, struct probe *p)
{
    hang_up(p);
    mu_lock(&h->lock);
    p->gone = true;
    cond_broadcast(&h->changed);
    mu_unlock(&h->lock);
}

static void judge(struct health *h, struct probe *p, int64_t now)
{
    char seen[SEEN_MAX];
    unsigned status = 0;
    const char *a = p->answer;
    bool good = memcmp(a, "HTTP/1.", 7) == 0 && (a[7] == '0' || a[7] == '1') && a[8] == ' ';
    for (size_t i = 9; good && i < 12; i++) {
        good = a[i] >= '0' && a[i] <= '9';
        status = status * 10 + (unsigned)(a[i] - '0');
    }
    if (good && status >= 200 && status < 400) {
        log_info("service.healthy", KV_STR("id", p->sandbox.text), KV_STR("service", p->name),
                 KV_INT("took_ms", now - p->began_ms));
        forget(h, p);
        return;
    }
    (void)snprintf(seen, sizeof seen, "it answered %u", status);
    not_well(h, p, good ? seen : "it sent something that is no answer", now);
}

/* The connection is this start's: somebody else may have its address by now (T-60). */
static bool is_its_own(struct health *h, const struct probe *p)
{
    const struct sandbox *row = registry_get(h->core->registry, &p->sandbox);
    bool own = row && row->state == SANDBOX_RUNNING && row->epoch == p->epoch;
    core_unref(row);
    return own;
}

static void talk(struct health *h, struct probe *p, int64_t now)
{
    char request[REQUEST_MAX];
    /* localhost: a name that no framework refuses. */
    size_t len = (size_t)snprintf(request, sizeof request,
                                  "GET %s HTTP/1.1\r\nHost: localhost:%u\r\nAccept: */*\r\n"
                                  "User-Agent: sandboxd-health\r\nConnection: close\r\n\r\n",
                                  p->path, p->port);
    if (!p->asked) {
        ssize_t n = is_its_own(h, p)
                        ? send(p->fd, request + p->sent, len - p->sent, MSG_DONTWAIT | MSG_NOSIGNAL)
                        : 0;
        if (n > 0)
            p->sent += (size_t)n;
        else if (n == 0 || (errno != EAGAIN && errno != EINTR && errno != ENOTCONN))
            not_well(h, p, "it takes no connection", now);
    }
    p->asked = p->sent == len;
    if (p->fd >= 0 && p->asked) {
        ssize_t n = recv(p->fd, p->answer + p->got, sizeof p->answer - p->got, MSG_DONTWAIT);
        if (n > 0 && (p->got += (size_t)n) == sizeof p->answer)
            judge(h, p, now);
        else if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
            not_well(h, p, "it closed the connection without an answer", now);
    }
    if (p->fd >= 0 && now >= p->deadline_ms)
        not_well(h, p, "it does not answer in time", now);
}

static void begin(struct health *h, struct probe *p, int64_t now)
{
    bool loopback = false;
    const struct sandbox *row = registry_get(h->core->registry, &p->sandbox);
    bool over = !row || row->epoch != p->epoch ||
                !supervisor_minds(h->core->supervisor, &p->sandbox, p->epoch, p->name);
    bool up = row && row->state == SANDBOX_RUNNING;
    core_unref(row);
    if (over) {
        forget(h, p);
    } else if (!up) {
        not_well(h, p, "the sandbox sleeps", now);
    } else if (!link_listens(h->core->p.link, &p->sandbox, p->port, &loopback)) {
        not_well(h, p, "its port does not listen", now);
    } else {
        struct dial *d = mem_new(1, sizeof *d);
        struct err err;
        *d = (struct dial){ h, p, loopback };
        p->dialling = pool_run(h->diallers, dial, d, &err) == 0;
        if (!p->dialling) {
            free(d);
            not_well(h, p, "too many services are being looked at", now);
        }
    }
}

static void dialled(struct health *h, struct probe *p, int64_t now)
{
    mu_lock(&h->lock);
    bool done = p->dialled;
    int fd = p->dialled_fd;
    p->dialled = false;
    mu_unlock(&h->lock);
    if (!done)
        return;
    p->dialling = false;
    p->fd = fd;
    p->sent = p->got = 0;
    p->asked = false;
    p->deadline_ms = now + HEALTH_PROBE_MS;
    if (fd < 0)
        not_well(h, p, "it takes no connection", now);
}

/* --- the loop --- */

/* All there are, without those that are gone and have nobody at them. */
static size_t take_all(struct health *h, struct probe ***ret, size_t *room)
{
    size_t n = 0;
    struct probe *dead = NULL;
    mu_lock(&h->lock);
    for (struct probe **at = &h->probes; *at;) {
        struct probe *p = *at;
        if (p->gone && !p->dialling) {
            *at = p->next;
            p->next = dead;
            dead = p;
            continue;
        }
        at = &p->next;
        if (n == *room) {
            *room = *room ? *room * 2 : 16;
            *ret = reallocarray(*ret, *room, sizeof(struct probe *));
            if (!*ret)
                abort();
        }
        (*ret)[n++] = p;
    }
    mu_unlock(&h->lock);
    while (dead) {
        struct probe *p = dead;
        dead = p->next;
        hang_up(p);
        free(p->path);
        free(p);
        atomic_fetch_sub(&h->count, 1);
    }
    return n;
}

static void step(struct health *h, struct probe *p, int64_t now)
{
    if (p->dialling)
        dialled(h, p, now);
    if (p->dialling)
        return;
    if (p->gone)
        hang_up(p); /* the next round buries it */
    else if (p->fd >= 0)
        talk(h, p, now);
    else if (now >= p->next_ms)
        begin(h, p, now);
}

static bool is_stopping(struct health *h)
{
    mu_lock(&h->lock);
    bool stopping = h->stopping;
    mu_unlock(&h->lock);
    return stopping;
}

static void *loop(void *arg)
{
    struct health *h = arg;
    struct probe **all = NULL;
    struct pollfd *fds = mem_new(1, sizeof *fds);
    size_t room = 0, n;
    while (!is_stopping(h)) {
        size_t watched = 1;
        int64_t now = clock_mono_ms(), until = INT64_MAX;
        n = take_all(h, &all, &room);
        fds = reallocarray(fds, n + 1, sizeof *fds);
        if (!fds)
            abort();
        fds[0] = (struct pollfd){ .fd = h->event, .events = POLLIN };
        for (size_t i = 0; i < n; i++) {
            struct probe *p = all[i];
            step(h, p, now);
            int64_t due = p->fd >= 0 ? p->deadline_ms : p->next_ms;
            if (!p->dialling && due < until)
                until = due;
            if (p->fd >= 0)
                fds[watched++] = (struct pollfd){
                    .fd = p->fd,
                    .events = p->asked ? POLLIN : POLLOUT,
                };
        }
        uint64_t count;
        if (poll(fds, watched, until == INT64_MAX ? -1 : clock_left_ms(until)) > 0 &&
            fds[0].revents)
            (void)eventfd_read(h->event, &count);
    }
    free(all);
    free(fds);
    return NULL;
}

/* --- life --- */

struct health *health_new(struct core *c, struct err *err)
{
    struct health *h = mem_new(1, sizeof *h);
    h->core = c;
    mu_init(&h->lock, MU_HEALTH);
    cond_init(&h->changed);
    h->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    h->diallers = pool_new("health", HEALTH_DIALS_MAX, HEALTH_BACKLOG_MAX, DIALLER_IDLE_MS);
    if (h->event < 0)
        (void)err_sys(err, errno, "eventfd");
    if (h->event >= 0 && thread_start(loop, h, "health", &h->loop, err) == 0)
        return h;
    health_free(h);
    return NULL;
}

void health_stop(struct health *h)
{
    if (!h || !h->loop)
        return;
    mu_lock(&h->lock);
    h->stopping = true;
    mu_unlock(&h->lock);
    wake(h);
    thread_join(h->loop);
    h->loop = 0;
    pool_stop(h->diallers);
    h->diallers = NULL;
}

void health_free(struct health *h)
{
    if (!h)
        return;
    health_stop(h);
    pool_stop(h->diallers);
    while (h->probes) {
        struct probe *p = h->probes;
        h->probes = p->next;
        hang_up(p);
        if (p->dialled_fd >= 0 && p->dialled)
            fd_close_socket(p->dialled_fd);
        free(p->path);
        free(p);
    }
    if (h->event >= 0)
        (void)close(h->event);
    cond_release(&h->changed);
    mu_release(&h->lock);
    free(h);
}
