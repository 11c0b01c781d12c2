/* Which sandboxes are expected, and who waits for them.
 *
 * A peer is made by link_expect and lives until it is replaced or forgotten; nobody keeps a pointer
 * to one across a release of the lock, and waiters are told when theirs goes. All of this is memory
 * only: after a restart core expects its running sandboxes again, and their agents dial until they
 * are let in. */
#include "link/link.h"

#include <errno.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fault.h"
#include "base/fd.h"
#include "base/limits.h"
#include "base/str.h"
#include "base/worker.h"
#include "peer.h"

static struct peer **bucket(struct link *l, const struct sandbox_id *id)
{
    uint32_t hash = 2166136261u; /* FNV-1a */
    for (const char *c = id->text; *c; c++)
        hash = (hash ^ (uint8_t)*c) * 16777619u;
    return &l->peers[hash % PEER_BUCKETS];
}

struct peer *peer_find(struct link *l, const struct sandbox_id *id)
{
    mu_held(&l->lock);
    struct peer *p = *bucket(l, id);
    while (p && !sandbox_id_eq(&p->id, id))
        p = p->next;
    return p;
}

/* Closes all that is of it, tells its waiters, frees it. */
static void peer_remove(struct link *l, struct peer *p) REQUIRES(&l->lock)
{
    struct peer **slot = bucket(l, &p->id);
    while (*slot != p)
        slot = &(*slot)->next;
    *slot = p->next;
    if (p->listener)
        conn_close(l, p->listener);
    if (p->control)
        conn_close(l, p->control);
    for (struct conn *c = l->pending_first, *next; c && p->pending > 0; c = next) {
        next = c->next;
        if (c->peer == p)
            conn_close(l, c);
    }
    for (struct waiter *w = p->waiters; w; w = w->next) {
        w->failed = true;
        cond_signal(&w->changed);
    }
    cond_broadcast(&l->changed);
    change_note(l, p, LINK_CHANGE_AGENT);
    peer_reset(p);
    mem_erase(p, sizeof *p);
    free(p);
}

int link_new(const char *data_dir, struct link **ret, struct err *err)
{
    struct link *l = mem_new(1, sizeof *l);
    l->epoll = l->changes_fd = -1;
    mu_init(&l->lock, MU_LINK);
    cond_init(&l->changed);
    random_bytes(&l->next_number, sizeof l->next_number);
    size_t size = strlen(data_dir) + sizeof "/run";
    l->run_root = mem_new(1, size);
    (void)snprintf(l->run_root, size, "%s/run", data_dir);
    if (agent_install(data_dir, &l->agent_path, err) < 0 || fd_mkdirs(l->run_root, 0755, err) < 0)
        goto undo;
    l->epoll = epoll_create1(EPOLL_CLOEXEC);
    l->changes_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (l->epoll < 0 || l->changes_fd < 0 || fd < 0) {
        err_sys(err, errno, "agents' link");
        goto undo_fd;
    }
    mu_lock(&l->lock);
    l->wake = conn_open(l, NULL, CONN_WAKE, fd);
    mu_unlock(&l->lock);
    if (!l->wake) {
        err_sys(err, errno, "agents' link");
        goto undo;
    }
    if (thread_start(loop_run, l, "link", &l->thread, err) < 0)
        goto undo;
    l->started = true;
    *ret = l;
    return 0;
undo_fd:
    if (fd >= 0)
        (void)close(fd);
undo:
    link_free(l);
    return -1;
}

/* No call may be under way. Streams that were handed out are their owners'. */
void link_free(struct link *l)
{
    if (!l)
        return;
    if (l->started) {
        mu_lock(&l->lock);
        l->stopping = true;
        mu_unlock(&l->lock);
        loop_wake(l);
        thread_join(l->thread);
    }
    mu_lock(&l->lock);
    for (size_t i = 0; i < PEER_BUCKETS; i++)
        while (l->peers[i])
            peer_remove(l, l->peers[i]);
    if (l->wake)
        conn_close(l, l->wake);
    conn_bury(l);
    mu_unlock(&l->lock);
    for (struct change *c = l->change_first, *next; c; c = next) {
        next = c->next;
        free(c);
    }
    if (l->epoll >= 0)
        (void)close(l->epoll);
    if (l->changes_fd >= 0)
        (void)close(l->changes_fd);
    cond_release(&l->changed);
    mu_release(&l->lock);
    free(l->agent_path);
    free(l->run_root);
    free(l);
}

const char *link_agent_path(const struct link *l)
{
    return l->agent_path;
}

void link_run_dir(const struct link *l, const struct sandbox_id *id, char *out, size_t size)
{
    (void)snprintf(out, size, "%s/%s", l->run_root, id->text);
}

int link_expect(struct link *l, const struct sandbox_id *id, const uint8_t secret[FRAME_SECRET],
                bool fresh, struct err *err)
{
    mu_lock(&l->lock);
    struct peer *p = peer_find(l, id);
    bool same = p && mem_equal_ct(p->secret, secret, FRAME_SECRET) && (p->fresh || !fresh);
    mu_unlock(&l->lock);
    if (same)
        return 0;

    char path[PATH_BYTES_MAX];
    link_run_dir(l, id, path, sizeof path);
    int fd = -1;
    if (rundir_listen(path, &fd, err) < 0)
        return -1;

    struct peer *new = mem_new(1, sizeof *new);
    *new = (struct peer){ .id = *id, .fresh = fresh };
    memcpy(new->secret, secret, FRAME_SECRET);
    mu_lock(&l->lock);
    p = peer_find(l, id);
    if (p)
        peer_remove(l, p);
    struct peer **slot = bucket(l, id);
    new->next = *slot;
    *slot = new;
    new->listener = conn_open(l, new, CONN_LISTEN, fd);
    bool watched = new->listener != NULL;
    if (!watched)
        peer_remove(l, new);
    mu_unlock(&l->lock);
    loop_wake(l); /* to bury what was replaced */
    return watched ? 0 : err_set(err, ERR_INTERNAL, "agent socket: cannot be watched");
}

void link_forget(struct link *l, const struct sandbox_id *id)
{
    char path[PATH_BYTES_MAX];
    mu_lock(&l->lock);
    struct peer *p = peer_find(l, id);
    if (p)
        peer_remove(l, p);
    mu_unlock(&l->lock);
    loop_wake(l);
    link_run_dir(l, id, path, sizeof path);
    rundir_remove(path);
}

int link_wait_ready(struct link *l, const struct sandbox_id *id, int64_t deadline_ms,
                    struct err *err)
{
    struct peer *p;
    bool in_time = true;
    mu_lock(&l->lock);
    while ((p = peer_find(l, id)) && !p->control && in_time)
        in_time = cond_wait_until(&l->changed, &l->lock, deadline_ms);
    bool expected = p, ready = p && p->control;
    mu_unlock(&l->lock);
    if (!expected)
        return err_set(err, ERR_NOT_FOUND, "sandbox %s is not expected to run", id->text);
    if (!ready)
        return err_set(err, ERR_TIMEOUT, "the agent of sandbox %s did not report in time",
                       id->text);
    return 0;
}

bool link_ready(struct link *l, const struct sandbox_id *id)
{
    mu_lock(&l->lock);
    const struct peer *p = peer_find(l, id);
    bool ready = p && p->control;
    mu_unlock(&l->lock);
    return ready;
}

static void waiter_remove(struct link *l, const struct sandbox_id *id, const struct waiter *w)
    REQUIRES(&l->lock)
{
    struct peer *p = peer_find(l, id);
    /* A peer that came in the place of the one we asked does not know us. */
    for (struct waiter **slot = p ? &p->waiters : NULL; slot && *slot; slot = &(*slot)->next) {
        if (*slot == w) {
            *slot = w->next;
            return;
        }
    }
}

/* Under the lock but for the waiting. */
static int ask(struct link *l, const struct sandbox_id *id, uint8_t *frame, size_t len,
               struct waiter *w, int64_t deadline_ms, struct err *err) REQUIRES(&l->lock)
{
    struct peer *p = peer_find(l, id);
    if (!p || !p->control)
        return err_set(err, ERR_UNAVAILABLE, "the sandbox's agent is not connected");
    w->number = l->next_number++;
    frame_set_u64(frame + FRAME_HEADER, w->number);
    if (control_send(l, p, frame, len) < 0)
        return err_set(err, ERR_UNAVAILABLE, "the sandbox's agent takes no requests");
    w->next = p->waiters;
    p->waiters = w;
    bool in_time = true;
    while (w->fd < 0 && !w->failed && in_time)
        in_time = cond_wait_until(&w->changed, &l->lock, deadline_ms);
    waiter_remove(l, id, w);
    if (w->fd >= 0)
        return 0;
    if (w->failed)
        return err_set(err, ERR_UNAVAILABLE, "the sandbox's agent went away");
    return err_set(err, ERR_TIMEOUT, "the sandbox's agent did not answer in time");
}

int stream_ask(struct link *l, const struct sandbox_id *id, uint8_t *frame, size_t len,
               int64_t deadline_ms, uint64_t *ret_number, int *ret_fd, struct err *err)
{
    int64_t latest = clock_mono_ms() + LINK_STREAM_MS;
    struct waiter w = { .fd = -1 };
    cond_init(&w.changed);
    mu_lock(&l->lock);
    int r = ask(l, id, frame, len, &w, deadline_ms < latest ? deadline_ms : latest, err);
    mu_unlock(&l->lock);
    cond_release(&w.changed);
    if (r < 0)
        return -1;
    *ret_number = w.number;
    *ret_fd = w.fd;
    return 0;
}

int link_spawn(struct link *l, const struct sandbox_id *id, struct frame_spawn *s, size_t argv_len,
               size_t env_len, int64_t deadline_ms, int *ret_fd, struct err *err)
{
    size_t len = frame_put_spawn(NULL, s, argv_len, env_len);
    if (len > FRAME_PAYLOAD_MAX)
        return err_set(err, ERR_TOO_LARGE,
                       "the command with its environment has %zu bytes, at most %u", len,
                       FRAME_PAYLOAD_MAX);
    AUTO(free) uint8_t *frame = mem_new(1, FRAME_HEADER + len);
    frame_header(frame, FRAME_SPAWN, (uint32_t)len);
    (void)frame_put_spawn(frame + FRAME_HEADER, s, argv_len, env_len);
    struct frame f = { .type = FRAME_SPAWN, .payload = frame + FRAME_HEADER, .len = (uint32_t)len };
    struct frame_spawn checked;
    if (frame_get_spawn(&f, &checked) < 0) /* the agent would hang up on us */
        return err_set(err, ERR_INVALID, "not a command that can be run");
    AUTO(fd) int fd = -1;
    if (stream_ask(l, id, frame, FRAME_HEADER + len, deadline_ms, &s->number, &fd, err) < 0)
        return -1;
    if (FAULT("link.spawn.open"))
        return err_set(err, ERR_UNAVAILABLE, "the sandbox's agent went away");
    *ret_fd = TAKE_FD(fd);
    return 0;
}
