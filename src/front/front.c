/* The endpoint's socket and its connections.
 *
 * One thread accepts; each connection has a thread of a small pool, which reads a head, lets the
 * filter judge it and writes the answer, until the peer leaves, breaks a rule or is silent for too
 * long. A stream of events lives on its connection's thread and is woken by the connection's
 * eventfd, which the accepting thread writes to whenever core says that a row changed.
 *
 * Stopping: the accepting thread ends, every connection is shut down (its thread then sees the end
 * of its peer), the pool is joined. A socket file that a killed daemon left is replaced. Nothing is
 * kept between connections. */
#include "front/front.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "answers.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/mu.h"
#include "base/str.h"
#include "base/worker.h"
#include "filter.h"

struct conn {
    struct front *front;
    int fd;
    int wake; /* eventfd: rows changed */
    struct conn *prev, *next;
};

struct front {
    struct front_view view;
    int dir; /* directory of the socket */
    char name[108];
    int listener;
    int changed; /* eventfd: core's watch, and our own call to stop */
    atomic_bool stopping;
    atomic_llong refused_at_ms; /* of the last line about a refusal */
    bool running;               /* the accepting thread */
    unsigned long thread;
    struct pool *pool;
    struct mu lock;
    struct conn *conns GUARDED_BY(lock);
    uint32_t n_conns GUARDED_BY(lock);
};

/* --- answers --- */

static int send_buf(struct conn *c, const struct buf *b)
{
    return b->failed ? -1 : fd_write_all(c->fd, buf_str(b), b->len);
}

static int send_head(struct conn *c, const char *status, const char *type, bool close,
                     const char *framing)
{
    struct buf b = BUF_INIT(KIB);
    buf_addf(&b, "HTTP/1.1 %s\r\nContent-Type: %s\r\nApi-Version: " FRONT_API "\r\n", status, type);
    buf_addf(&b, "Cache-Control: no-store\r\n%s%s\r\n\r\n", close ? "Connection: close\r\n" : "",
             framing);
    int rc = send_buf(c, &b);
    buf_release(&b);
    return rc;
}

static int send_whole(struct conn *c, const char *status, const char *type, bool close,
                      const struct buf *body)
{
    char framing[40];
    (void)snprintf(framing, sizeof framing, "Content-Length: %zu", body->len); /* always fits */
    if (body->failed || send_head(c, status, type, close, framing) < 0)
        return -1;
    return send_buf(c, body);
}

static int send_message(struct conn *c, const char *status, bool close, const char *message)
{
    struct buf b = BUF_INIT(KIB);
    buf_addf(&b, "{\"message\":\"%s\"}\n", message); /* words of ours: nothing to escape */
    int rc = send_whole(c, status, "application/json", close, &b);
    buf_release(&b);
    return rc;
}

static int send_chunk(struct conn *c, const struct buf *data)
{
    struct buf b = BUF_INIT(FRONT_ANSWER_MAX + 64);
    if (data->len > 0) { /* an empty chunk would be the last one */
        buf_addf(&b, "%zx\r\n", data->len);
        buf_add(&b, buf_str(data), data->len);
        buf_adds(&b, "\r\n");
    }
    int rc = data->failed ? -1 : send_buf(c, &b);
    buf_release(&b);
    return rc;
}

/* --- rows --- */

struct rows {
    const struct sandbox **items;
    size_t count;
};

static void rows_release(struct rows *r)
{
    for (size_t i = 0; i < r->count; i++)
        core_unref(r->items[i]);
    free(r->items);
}

static inline void auto_rows(struct rows *r)
{
    rows_release(r);
}

static struct rows rows_of(struct front *f)
{
    const struct core_filter all = { .state = -1 };
    struct rows r = { 0 };
    struct err err;
    bool more;
    (void)core_list(f->view.core, NULL, &all, &r.items, &r.count, &more,
                    &err); /* from memory: nothing can fail */
    return r;
}

static int answer_list(struct conn *c, bool close)
{
    AUTO(rows) struct rows rows = rows_of(c->front);
    AUTO(buf) struct buf item = BUF_INIT(FRONT_ANSWER_MAX);
    bool first = true, engine_there = true;
    if (send_head(c, "200 OK", "application/json", close, "Transfer-Encoding: chunked") < 0)
        return -1;
    for (size_t i = 0; i < rows.count && engine_there; i++) {
        struct err err;
        if (!front_shown(rows.items[i]))
            continue;
        buf_addc(&item, first ? '[' : ',');
        if (front_put_listed(&c->front->view, rows.items[i], &item, &err) < 0) {
            /* It stopped meanwhile, or the Engine is away: then nobody waits for it again and
             * again. Who is left out is served all the same, by the catch-all route. */
            engine_there = err.code != ERR_ENGINE && err.code != ERR_TIMEOUT;
            buf_reset(&item);
            continue;
        }
        first = false;
        if (send_chunk(c, &item) < 0)
            return -1;
        buf_reset(&item);
    }
    buf_adds(&item, first ? "[]\n" : "]\n");
    if (send_chunk(c, &item) < 0)
        return -1;
    return fd_write_all(c->fd, "0\r\n\r\n", 5);
}

static bool called(const struct sandbox *row, const char *ref)
{
    char lower[ID_LEN + 1];
    sandbox_id_lower(&row->id, lower);
    return str_eq(row->container_id, ref) || (str_starts(ref, "s-") && str_eq(lower, ref + 2));
}

static int answer_inspect(struct conn *c, const char *ref, bool close)
{
    AUTO(rows) struct rows rows = rows_of(c->front);
    for (size_t i = 0; i < rows.count; i++) {
        AUTO(buf) struct buf body = BUF_INIT(FRONT_ANSWER_MAX);
        struct err err;
        if (!front_shown(rows.items[i]) || !called(rows.items[i], ref))
            continue;
        if (front_put_inspected(&c->front->view, rows.items[i], &body, &err) < 0)
            break;
        return send_whole(c, "200 OK", "application/json", close, &body);
    }
    return send_message(c, "404 Not Found", close, "No such container");
}

/* --- events --- */

/* Ids of the containers that are shown, ascending. */
struct shown {
    char (*ids)[65];
    size_t count;
};

static int compare_ids(const void *a, const void *b)
{
    return memcmp(a, b, 65);
}

static struct shown shown_of(struct front *f)
{
    AUTO(rows) struct rows rows = rows_of(f);
    struct shown s = { .ids = mem_new(rows.count + 1, sizeof *s.ids) };
    for (size_t i = 0; i < rows.count; i++)
        if (front_shown(rows.items[i]) &&
            str_copy(s.ids[s.count], sizeof s.ids[0], rows.items[i]->container_id))
            s.count++;
    qsort(s.ids, s.count, sizeof *s.ids, compare_ids);
    return s;
}

static int send_event(struct conn *c, const char *action, const char *container_id)
{
    struct buf b = BUF_INIT(4 * KIB);
    front_put_event(action, container_id, c->front->view.instance, &b);
    int rc = send_chunk(c, &b);
    buf_release(&b);
    return rc;
}

/* Tells what differs: who is gone dies, who is new starts. */
static int send_changes(struct conn *c, const struct shown *old, const struct shown *now)
{
    size_t i = 0, j = 0;
    while (i < old->count || j < now->count) {
        int order = i == old->count   ? 1
                    : j == now->count ? -1
                                      : compare_ids(old->ids[i], now->ids[j]);
        if (order < 0 && send_event(c, "die", old->ids[i]) < 0)
            return -1;
        if (order > 0 && send_event(c, "start", now->ids[j]) < 0)
            return -1;
        i += order <= 0;
        j += order >= 0;
    }
    return 0;
}

/* Waits until rows changed; false when the peer left (or said something, which it must not). */
static bool wait_change(struct conn *c)
{
    struct pollfd p[2] = { { .fd = c->fd, .events = POLLIN }, { .fd = c->wake, .events = POLLIN } };
    eventfd_t n;
    if (poll(p, 2, -1) < 0)
        return errno == EINTR;
    if (p[0].revents || atomic_load(&c->front->stopping))
        return false;
    (void)eventfd_read(c->wake, &n); /* another look is due, whatever the count */
    return true;
}

static int answer_events(struct conn *c)
{
    if (send_head(c, "200 OK", "application/json", true, "Transfer-Encoding: chunked") < 0)
        return -1;
    struct shown told = shown_of(c->front);
    /* Whoever listed first and then came here may have missed a change in between: one event makes
     * it look again. */
    int rc = told.count > 0 ? send_event(c, "start", told.ids[0]) : 0;
    while (rc == 0 && wait_change(c)) {
        struct shown now = shown_of(c->front);
        rc = send_changes(c, &told, &now);
        free(told.ids);
        told = now;
        /* Rows that change together are told of together. */
        if (rc == 0 && fd_wait(c->fd, POLLIN, clock_mono_ms() + FRONT_EVENT_GAP_MS) != 0)
            rc = -1;
    }
    free(told.ids);
    return -1; /* this connection is for nothing else */
}

/* --- one connection --- */

/* Reads a head into text: its length; 0: the peer left or is silent; -1: too long, or more than a
 * head came. */
static ssize_t read_head(struct conn *c, char text[FRONT_HEAD_MAX])
{
    size_t len = 0;
    int64_t deadline = clock_mono_ms() + FRONT_IDLE_MS;
    for (;;) {
        if (fd_wait(c->fd, POLLIN, deadline) != 1)
            return 0;
        ssize_t n = recv(c->fd, text + len, FRONT_HEAD_MAX - len, MSG_DONTWAIT);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            continue;
        if (n <= 0)
            return 0;
        if (len == 0)
            deadline = clock_mono_ms() + FRONT_HEAD_MS;
        len += (size_t)n;
        const char *end = memmem(text, len, "\r\n\r\n", 4);
        if (end)
            return end + 4 == text + len ? (ssize_t)len : -1;
        if (len == FRONT_HEAD_MAX)
            return -1;
    }
}

/* At most one line a second, whatever comes. */
static void note_refusal(struct front *f)
{
    long long now = clock_mono_ms(), last = atomic_load(&f->refused_at_ms);
    if (now - last >= 1000 && atomic_compare_exchange_strong(&f->refused_at_ms, &last, now))
        log_warn("front.refused", KV_STR("hint", "Traefik's socket was asked for what it never "
                                                 "gives"));
}

static int answer(struct conn *c, const struct front_request *r)
{
    AUTO(buf) struct buf body = BUF_INIT(KIB);
    switch (r->what) {
    case FRONT_PING:
        buf_adds(&body, "OK");
        return send_whole(c, "200 OK", "text/plain", r->close, &body);
    case FRONT_VERSION:
        front_put_version(&body);
        return send_whole(c, "200 OK", "application/json", r->close, &body);
    case FRONT_LIST:
        return answer_list(c, r->close);
    case FRONT_INSPECT:
        return answer_inspect(c, r->ref, r->close);
    case FRONT_EVENTS:
        return answer_events(c);
    case FRONT_REFUSED:
        break;
    }
    if (!r->probe)
        note_refusal(c->front);
    (void)send_message(c, "403 Forbidden", true, "forbidden");
    return -1;
}

static void drop(struct conn *c)
{
    struct front *f = c->front;
    mu_lock(&f->lock);
    if (c->prev)
        c->prev->next = c->next;
    else
        f->conns = c->next;
    if (c->next)
        c->next->prev = c->prev;
    f->n_conns--;
    mu_unlock(&f->lock);
    (void)close(c->fd);
    (void)close(c->wake);
    free(c);
}

static void serve(void *arg)
{
    struct conn *c = arg;
    char head[FRONT_HEAD_MAX];
    for (;;) {
        struct front_request r = { .what = FRONT_REFUSED };
        ssize_t len = read_head(c, head);
        if (len == 0)
            break;
        if (len > 0)
            front_filter(head, (size_t)len, &r);
        if (answer(c, &r) < 0 || r.close)
            break;
    }
    drop(c);
}

/* --- accepting --- */

static void take(struct front *f, int fd)
{
    const struct timeval send_limit = { .tv_sec = FRONT_SEND_MS / 1000 };
    struct err err;
    struct conn *c = mem_new(1, sizeof *c);
    *c = (struct conn){ .front = f, .fd = fd };
    c->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    (void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &send_limit, sizeof send_limit);
    mu_lock(&f->lock);
    bool room = f->n_conns < FRONT_CONNECTIONS_MAX && c->wake >= 0;
    f->n_conns++;
    c->next = f->conns;
    if (c->next)
        c->next->prev = c;
    f->conns = c;
    mu_unlock(&f->lock);
    if (!room || pool_run(f->pool, serve, c, &err) < 0)
        drop(c);
}

static void wake_all(struct front *f)
{
    mu_lock(&f->lock);
    for (struct conn *c = f->conns; c; c = c->next)
        (void)eventfd_write(c->wake, 1); /* full: it is awake already */
    mu_unlock(&f->lock);
}

static void *accept_all(void *arg)
{
    struct front *f = arg;
    struct pollfd p[2] = { { .fd = f->listener, .events = POLLIN },
                           { .fd = f->changed, .events = POLLIN } };
    while (!atomic_load(&f->stopping)) {
        eventfd_t n;
        if (poll(p, 2, -1) < 0)
            continue;
        if (p[1].revents && eventfd_read(f->changed, &n) == 0)
            wake_all(f);
        if (!p[0].revents)
            continue;
        int fd = accept4(f->listener, NULL, NULL, SOCK_CLOEXEC);
        if (fd >= 0)
            take(f, fd);
        else if (errno == EMFILE || errno == ENFILE)
            (void)fd_wait(f->changed, POLLIN, clock_mono_ms() + FRONT_EVENT_GAP_MS);
    }
    return NULL;
}

/* --- start and stop --- */

/* The directory may be given to a container as a whole; what keeps others on this host out is the
 * data directory above it. */
static int open_dir(struct front *f, const struct config *config, struct err *err)
{
    char path[DATA_DIR_MAX + 32];
    if (config->front_socket[0])
        (void)snprintf(path, sizeof path, "%s", config->front_socket); /* at most 100 bytes */
    else
        (void)snprintf(path, sizeof path, "%s/front/docker.sock", config->data_dir);
    char *slash = strrchr(path, '/');
    if (!str_copy(f->name, sizeof f->name, slash + 1) || !f->name[0])
        return err_set(err, ERR_INVALID, "SANDBOXD_FRONT_SOCKET: names no file");
    *slash = 0;
    const char *dir = path[0] ? path : "/";
    if (fd_mkdirs(dir, 0755, err) < 0)
        return -1;
    f->dir = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (f->dir < 0)
        return err_sys(err, errno, "open %s", dir);
    if (!config->front_socket[0])
        (void)fchmod(f->dir, 0755); /* whatever the umask was */
    return 0;
}

static int make_socket(struct front *f, struct err *err)
{
    struct sockaddr_un addr = { .sun_family = AF_UNIX };
    struct stat st;
    if (fstatat(f->dir, f->name, &st, AT_SYMLINK_NOFOLLOW) == 0) {
        if (!S_ISSOCK(st.st_mode))
            return err_set(err, ERR_CONFLICT, "%s is there and is no socket", f->name);
        (void)unlinkat(f->dir, f->name, 0); /* of a killed daemon: the database has one owner */
    }
    f->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    /* An address holds 108 bytes, a data directory may be deeper: go by way of the descriptor. */
    if ((size_t)snprintf(addr.sun_path, sizeof addr.sun_path, "/proc/self/fd/%d/%s", f->dir,
                         f->name) >= sizeof addr.sun_path)
        return err_set(err, ERR_INVALID, "the socket's name is too long");
    if (f->listener < 0 || bind(f->listener, (struct sockaddr *)&addr, sizeof addr) < 0)
        return err_sys(err, errno, "bind");
    if (fchmodat(f->dir, f->name, 0666, 0) < 0 || listen(f->listener, FRONT_CONNECTIONS_MAX) < 0)
        return err_sys(err, errno, "listen");
    return 0;
}

int front_start(struct core *core, const struct config *config, const char *instance,
                struct front **ret, struct err *err)
{
    struct front *f = mem_new(1, sizeof *f);
    f->view = (struct front_view){ .core = core, .config = config, .instance = instance };
    f->dir = f->listener = -1;
    mu_init(&f->lock, MU_FRONT);
    f->pool = pool_new("front", FRONT_CONNECTIONS_MAX, FRONT_CONNECTIONS_MAX, FRONT_THREAD_IDLE_MS);
    f->changed = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (f->changed < 0) {
        (void)err_sys(err, errno, "eventfd");
    } else if (open_dir(f, config, err) == 0 && make_socket(f, err) == 0 &&
               thread_start(accept_all, f, "front", &f->thread, err) == 0) {
        f->running = true;
        core_watch(core, f->changed);
        *ret = f;
        return 0;
    }
    front_stop(f);
    return err_wrap(err, "Traefik's socket");
}

static void shut_all(struct front *f)
{
    mu_lock(&f->lock);
    for (struct conn *c = f->conns; c; c = c->next)
        (void)shutdown(c->fd, SHUT_RDWR);
    mu_unlock(&f->lock);
}

void front_stop(struct front *f)
{
    if (!f)
        return;
    atomic_store(&f->stopping, true);
    if (f->running) {
        core_watch(f->view.core, -1);
        (void)eventfd_write(f->changed, 1);
        thread_join(f->thread);
    }
    shut_all(f);
    pool_stop(f->pool);
    if (f->listener >= 0) {
        (void)unlinkat(f->dir, f->name, 0); /* left behind, it is replaced by the next start */
        (void)close(f->listener);
    }
    if (f->changed >= 0)
        (void)close(f->changed);
    if (f->dir >= 0)
        (void)close(f->dir);
    mu_release(&f->lock);
    free(f);
}
