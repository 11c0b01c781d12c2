/* Kept processes.
 *
 * A process has a record in the store from before it is started until its sandbox is deleted, and a
 * struct proc in memory. While it runs, its agent holds it under a number and sends its output over
 * a stream; the loop thread takes that in, whatever the process, and nothing it does can block.
 * What may block is the keeper's (keeper.c): it writes output and record when one has ended, and
 * has agents asked for streams that were lost (a restart of this daemon, a connection cut).
 *
 * Recovery: the agent's ring and exit status survive us. At start every record without an end is
 * asked for again; an agent that does not know the number, or a sandbox that has been stopped
 * since, means LOST. The other way round, a process that an earlier daemon left without a record
 * (it was killed before a command that listens could be made a service) is ended: nobody else could
 * ever see it. */
#include "procs.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/str.h"
#include "base/worker.h"
#include "inside.h"
#include "proc.h"
#include "wire/frames.h"

#define ENDED_MAX (PROCESS_ENDED_MAX + SERVICES_MAX * SERVICE_ENDED_MAX) /* records, all kinds */
#define IN_MAX (FRAME_PAYLOAD_MAX + 128 * KIB)
#define RETRY_MS 200 /* a stream that was cut is not asked for again at once: its agent may lie */

/* --- the table --- */

size_t procs_at_locked(struct procs *t, const struct sandbox_id *id)
{
    size_t lo = 0, hi = t->count;
    mu_held(&t->lock);
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (memcmp(t->items[mid]->info.id.text, id->text, ID_LEN) < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

static void add_locked(struct procs *t, struct proc *p) REQUIRES(t->lock)
{
    mu_held(&t->lock);
    if (t->count == t->room) {
        t->room = t->room ? t->room * 2 : 64;
        t->items = reallocarray(t->items, t->room, sizeof(struct proc *));
        if (!t->items)
            abort();
    }
    size_t at = procs_at_locked(t, &p->info.id);
    memmove(t->items + at + 1, t->items + at, (t->count - at) * sizeof(struct proc *));
    t->items[at] = p;
    t->count++;
}

static void take_out_locked(struct procs *t, const struct sandbox_id *id) REQUIRES(t->lock)
{
    size_t at = procs_at_locked(t, id);
    if (at == t->count || !sandbox_id_eq(&t->items[at]->info.id, id))
        return;
    memmove(t->items + at, t->items + at + 1, (t->count - at - 1) * sizeof(struct proc *));
    t->count--;
}

bool procs_peek(struct procs *t, const struct sandbox_id *sandbox, const struct sandbox_id *id,
                struct process *ret)
{
    mu_lock(&t->lock);
    size_t at = procs_at_locked(t, id);
    const struct proc *p = at < t->count ? t->items[at] : NULL;
    bool there = p && sandbox_id_eq(&p->info.id, id) && sandbox_id_eq(&p->info.sandbox, sandbox);
    if (there)
        *ret = p->info;
    mu_unlock(&t->lock);
    if (there)
        ret->argv = ret->cwd = ret->service = NULL;
    return there;
}

/* Whoever finds a proc holds a reference until procs_unref. */
struct proc *procs_find(struct procs *t, const struct sandbox_id *sandbox,
                        const struct sandbox_id *id)
{
    mu_lock(&t->lock);
    size_t at = procs_at_locked(t, id);
    struct proc *p = at < t->count ? t->items[at] : NULL;
    if (p && (!sandbox_id_eq(&p->info.id, id) || !sandbox_id_eq(&p->info.sandbox, sandbox)))
        p = NULL;
    if (p)
        p->refs++;
    mu_unlock(&t->lock);
    return p;
}

bool procs_said(struct procs *t, const struct sandbox_id *sandbox, const struct sandbox_id *id,
                const char *text, uint64_t *from)
{
    char data[SERVICE_LOG_MAX + 8 * KIB]; /* the end of what was searched, and the next piece */
    size_t len = strlen(text), held = 0;
    bool said = false;
    struct proc *p = procs_find(t, sandbox, id);
    if (!p)
        return false;
    mu_lock(&t->lock);
    for (;;) {
        struct follow_chunk c;
        size_t n = plog_read(&p->log, *from + held, data + held, sizeof data - held, &c);
        if (n == 0)
            break;
        said = c.offset > *from + held;
        held += n;
        said = said || memmem(data, held, text, len);
        if (said)
            break;
        size_t keep = held < len - 1 ? held : len - 1;
        memmove(data, data + held - keep, keep);
        *from += held - keep;
        held = keep;
    }
    mu_unlock(&t->lock);
    procs_unref(t, p);
    return said;
}

static void free_proc(struct proc *p)
{
    auto_fd(&p->fd);
    plog_release(&p->log);
    buf_release(&p->in);
    process_release(&p->info);
    cond_release(&p->changed);
    free(p);
}

void procs_unref(struct procs *t, struct proc *p)
{
    mu_lock(&t->lock);
    bool last = --p->refs == 0;
    mu_unlock(&t->lock);
    if (last)
        free_proc(p);
}

struct proc *procs_add(struct procs *t, const struct process *info)
{
    struct proc *p = mem_new(1, sizeof *p);
    p->info = *info;
    p->fd = -1;
    p->refs = 2; /* the table's and the caller's */
    p->in = (struct buf)BUF_INIT(IN_MAX);
    p->unseen_ms = clock_mono_ms();
    p->alone_until_ms = p->unseen_ms + PROCESS_FOLLOW_MS;
    cond_init(&p->changed);
    mu_lock(&t->lock);
    add_locked(t, p);
    mu_unlock(&t->lock);
    return p;
}

void procs_forget(struct procs *t, struct proc *p)
{
    mu_lock(&t->lock);
    bool there = !p->gone;
    if (there)
        take_out_locked(t, &p->info.id);
    p->gone = true;
    cond_broadcast(&t->saved);
    if (p->fd >= 0)
        (void)shutdown(p->fd, SHUT_RDWR); /* the loop lets go of it, whatever the agent does */
    procs_hold_locked(t, p);
    cond_broadcast(&p->changed);
    mu_unlock(&t->lock);
    if (there)
        procs_unref(t, p); /* the table's */
}

uint32_t procs_running(struct procs *t, const struct sandbox_id *sandbox)
{
    uint32_t n = 0;
    mu_lock(&t->lock);
    for (size_t i = 0; i < t->count; i++)
        n += t->items[i]->info.state == PROCESS_RUNNING &&
             sandbox_id_eq(&t->items[i]->info.sandbox, sandbox);
    mu_unlock(&t->lock);
    return n;
}

uint32_t procs_busy(struct procs *t, const struct sandbox_id *sandbox)
{
    uint32_t n = 0;
    mu_lock(&t->lock);
    for (size_t i = 0; i < t->count; i++)
        n += t->items[i]->info.state == PROCESS_RUNNING && !t->items[i]->info.service &&
             sandbox_id_eq(&t->items[i]->info.sandbox, sandbox);
    mu_unlock(&t->lock);
    return n;
}

size_t procs_list(struct procs *t, const struct sandbox_id *sandbox, struct proc ***ret)
{
    struct proc **list = NULL;
    size_t n = 0;
    mu_lock(&t->lock);
    for (size_t i = t->count; i-- > 0;) {
        if (!sandbox_id_eq(&t->items[i]->info.sandbox, sandbox))
            continue;
        list = reallocarray(list, n + 1, sizeof(struct proc *));
        if (!list)
            abort();
        t->items[i]->refs++;
        list[n++] = t->items[i];
    }
    mu_unlock(&t->lock);
    *ret = list;
    return n;
}

/* --- taking output in: the loop thread --- */

void procs_ended_locked(struct procs *t, struct proc *p, enum process_state state)
{
    mu_held(&t->lock);
    p->info.state = state;
    p->info.ended_at_ms = clock_wall_ms();
    p->work = PROC_FINISH;
    cond_broadcast(&p->changed);
}

static bool on_frame_locked(struct procs *t, struct proc *p, const struct frame *f)
    REQUIRES(t->lock)
{
    struct frame_exit e;
    switch (f->type) {
    case FRAME_STARTED:
        if (f->len < 4)
            return false;
        p->info.pid = frame_u32(f->payload);
        break;
    case FRAME_STDOUT:
    case FRAME_STDERR:
        plog_add(&p->log, f->type == FRAME_STDOUT ? EXEC_STDOUT : EXEC_STDERR, p->info.bytes,
                 clock_wall_ms(), f->payload, f->len);
        p->info.bytes += f->len;
        break;
    case FRAME_EXIT:
        if (frame_get_exit(f, &e) < 0)
            return false;
        p->info.exit_code = e.code & 0xff;
        p->info.signal = e.signal <= 64 ? e.signal : 0;
        p->info.timed_out = e.timed_out;
        procs_ended_locked(t, p, PROCESS_EXITED);
        return true;
    case FRAME_FAILED:
        if (f->len < 5)
            return false;
        p->failed = true;
        p->failed_errno = (int)frame_u32(f->payload);
        p->failed_step = f->payload[4];
        procs_ended_locked(t, p, PROCESS_LOST);
        return true;
    default:
        return false;
    }
    cond_broadcast(&p->changed);
    return true;
}

static void listen_locked(struct procs *t, struct proc *p) REQUIRES(t->lock)
{
    struct epoll_event ev = { .events = EPOLLIN | EPOLLRDHUP, .data.ptr = p };
    if (epoll_ctl(t->epoll, EPOLL_CTL_ADD, p->fd, &ev) < 0)
        abort(); /* out of kernel memory: crash-only */
}

/* The stream is taken out of the set, not only muted: its end must not be read before what came
 * ahead of it. */
void procs_hold_locked(struct procs *t, struct proc *p)
{
    mu_held(&t->lock);
    bool hold = !p->gone && p->fd >= 0 && plog_full(&p->log, follow_held_locked(t, p));
    if (hold && !p->held)
        (void)epoll_ctl(t->epoll, EPOLL_CTL_DEL, p->fd, NULL); /* it is there */
    else if (!hold && p->held && p->fd >= 0)
        listen_locked(t, p);
    p->held = hold;
}

/* false: the stream is of no more use. */
static bool take_in(struct procs *t, struct proc *p)
{
    char *room = buf_room(&p->in, 64 * KIB);
    ssize_t n = room ? recv(p->fd, room, 64 * KIB, MSG_DONTWAIT) : 0;
    if (n < 0)
        return errno == EAGAIN || errno == EINTR;
    if (n == 0)
        return false;
    buf_grew(&p->in, (size_t)n);
    size_t at = 0;
    bool good = true;
    mu_lock(&t->lock);
    while (good && p->info.state == PROCESS_RUNNING) {
        struct frame f;
        size_t size;
        int got = frame_parse((const uint8_t *)p->in.data + at, p->in.len - at, &f, &size);
        if (got == 0)
            break;
        good = got > 0 && on_frame_locked(t, p, &f);
        at += got > 0 ? size : 0;
    }
    good = good && p->info.state == PROCESS_RUNNING;
    if (good)
        procs_hold_locked(t, p);
    mu_unlock(&t->lock);
    buf_drop(&p->in, at);
    return good;
}

static void drop_stream(struct procs *t, struct proc *p)
{
    mu_lock(&t->lock);
    /* Closing is not enough while a feeder has a copy. Not there: it is held. */
    (void)epoll_ctl(t->epoll, EPOLL_CTL_DEL, p->fd, NULL);
    auto_fd(&p->fd);
    p->fd = -1;
    p->held = false;
    if (p->info.state == PROCESS_RUNNING) {
        p->work = PROC_ATTACH;
        p->due_ms = clock_mono_ms() + RETRY_MS;
    }
    cond_broadcast(&p->changed);
    mu_unlock(&t->lock);
    buf_release(&p->in);
    p->in = (struct buf)BUF_INIT(IN_MAX);
    procs_wake(t);
}

static void *loop_main(void *arg)
{
    struct procs *t = arg;
    for (;;) {
        struct epoll_event ev[32];
        int n = epoll_wait(t->epoll, ev, 32, -1);
        if (n < 0 && errno != EINTR)
            abort();
        for (int i = 0; i < n; i++) {
            void *of = ev[i].data.ptr;
            struct proc *p = of;
            if (!p)
                return NULL; /* stop_fd */
            if (of == t) {
                keeper_end_unknown(t);
                continue;
            }
            if (!take_in(t, p)) {
                drop_stream(t, p);
                procs_unref(t, p); /* the loop's */
            }
        }
    }
}

/* Hands a stream to the loop, which takes a reference of its own. */
void procs_take_stream(struct procs *t, struct proc *p, int fd)
{
    mu_lock(&t->lock);
    if (p->info.state != PROCESS_RUNNING) { /* lost with its sandbox while it was asked for */
        mu_unlock(&t->lock);
        (void)close(fd);
        return;
    }
    p->fd = fd;
    p->refs++;
    p->work = PROC_NOTHING;
    if (p->gone)
        (void)shutdown(fd, SHUT_RDWR); /* removed while it was asked for */
    cond_broadcast(&p->changed);
    listen_locked(t, p);
    mu_unlock(&t->lock);
}

/* --- life of the table --- */

static void load_record(struct procs *t, struct store_process *r)
{
    struct process info = { .id = r->id,
                            .sandbox = r->sandbox,
                            .argv = TAKE(r->argv),
                            .cwd = TAKE(r->cwd),
                            .service = TAKE(r->service),
                            .epoch = r->epoch,
                            .number = r->number,
                            .pty = r->pty,
                            .tied = r->tied,
                            .exit_code = r->exit_code,
                            .signal = r->signal,
                            .timed_out = r->timed_out,
                            .bytes = r->ended_at_ms ? r->bytes : 0,
                            .started_at_ms = r->started_at_ms,
                            .ended_at_ms = r->ended_at_ms };
    for (int s = 0; s < PROCESS_STATE_COUNT; s++)
        if (str_eq(r->state, process_state_name((enum process_state)s)))
            info.state = (enum process_state)s;
    struct proc *p = procs_add(t, &info);
    mu_lock(&t->lock);
    p->saved = info.ended_at_ms != 0;
    p->on_disk = p->saved;
    p->work = p->saved ? PROC_NOTHING : PROC_ATTACH;
    p->refs--; /* the table's stays */
    mu_unlock(&t->lock);
}

int procs_new(struct core *c, const char *data_dir, struct procs **ret, struct err *err)
{
    struct store_process *rows;
    size_t count;
    if (store_process_load(c->p.store, &rows, &count, err) < 0)
        return -1;
    struct procs *t = mem_new(1, sizeof *t);
    struct buf dir = BUF_INIT(4000);
    buf_addf(&dir, "%s/processes", data_dir);
    t->core = c;
    t->dir = buf_take(&dir);
    mu_init(&t->lock, MU_PROC);
    cond_init(&t->saved);
    t->askers = pool_new("askers", ASKERS_MAX, ASKERS_BACKLOG, ASKER_IDLE_MS);
    t->enders = pool_new("enders", ENDERS_MAX, ASKERS_BACKLOG, ASKER_IDLE_MS);
    t->epoll = epoll_create1(EPOLL_CLOEXEC);
    t->stop_fd = eventfd(0, EFD_CLOEXEC);
    struct epoll_event ev = { .events = EPOLLIN, .data.ptr = NULL };
    struct epoll_event news = { .events = EPOLLIN, .data.ptr = t };
    if (t->epoll < 0 || t->stop_fd < 0 || epoll_ctl(t->epoll, EPOLL_CTL_ADD, t->stop_fd, &ev) < 0 ||
        epoll_ctl(t->epoll, EPOLL_CTL_ADD, link_changes_fd(c->p.link), &news) < 0)
        abort(); /* descriptors are plentiful at start */
    for (size_t i = 0; i < count; i++) {
        load_record(t, &rows[i]);
        store_process_release(&rows[i]);
    }
    free(rows);
    *ret = t;
    return 0;
}

int procs_start(struct procs *t, struct err *err)
{
    /* Under the lock: its first round may come to an end, and wake it, before we know it. */
    mu_lock(&t->lock);
    t->keeper = worker_start("keeper", keeper_tick, t, err);
    mu_unlock(&t->lock);
    if (!t->keeper)
        return -1;
    return thread_start(loop_main, t, "processes", &t->loop, err);
}

void procs_stop(struct procs *t)
{
    if (!t || t->stopping)
        return;
    mu_lock(&t->lock);
    t->stopping = true;
    mu_unlock(&t->lock);
    worker_stop(t->keeper);
    pool_stop(t->askers); /* those at work hand their streams over, or give up */
    pool_stop(t->enders);
    if (t->loop) {
        uint64_t one = 1;
        if (write(t->stop_fd, &one, sizeof one) != sizeof one)
            abort(); /* an eventfd takes a one */
        thread_join(t->loop);
    }
}

void procs_free(struct procs *t)
{
    if (!t)
        return;
    procs_stop(t);
    for (size_t i = 0; i < t->count; i++)
        free_proc(t->items[i]);
    free(t->items);
    free(t->asked.ids);
    free(t->ending.ids);
    auto_fd(&t->epoll);
    auto_fd(&t->stop_fd);
    cond_release(&t->saved);
    mu_release(&t->lock);
    free(t->dir);
    free(t);
}

void procs_wake(struct procs *t)
{
    mu_lock(&t->lock);
    if (!t->stopping && t->keeper)
        worker_wake(t->keeper);
    mu_unlock(&t->lock);
}

void procs_awake(struct procs *t, const struct sandbox_id *sandbox)
{
    mu_lock(&t->lock);
    for (size_t i = 0; i < t->count; i++)
        if (t->items[i]->work == PROC_ATTACH && sandbox_id_eq(&t->items[i]->info.sandbox, sandbox))
            t->items[i]->due_ms = 0;
    mu_unlock(&t->lock);
    procs_wake(t);
}

void procs_asleep(struct procs *t, const struct sandbox_id *sandbox)
{
    mu_lock(&t->lock);
    for (size_t i = 0; i < t->count; i++) {
        struct proc *p = t->items[i];
        if (p->work == PROC_ATTACH && p->info.state == PROCESS_RUNNING &&
            sandbox_id_eq(&p->info.sandbox, sandbox))
            procs_ended_locked(t, p, PROCESS_LOST);
    }
    mu_unlock(&t->lock);
    procs_wake(t);
}

void procs_ask(struct procs *t, struct proc *p)
{
    mu_lock(&t->lock);
    if (p->info.state == PROCESS_RUNNING && p->fd < 0 && p->work == PROC_NOTHING) {
        p->work = PROC_ATTACH;
        p->due_ms = 0;
    }
    mu_unlock(&t->lock);
    procs_wake(t);
}

int procs_remove(struct procs *t, struct proc *p, struct err *err)
{
    struct err ignored;
    (void)link_forget_process(t->core->p.link, &p->info.sandbox, p->info.number,
                              &ignored); /* ends it, if it runs */
    if (store_process_remove(t->core->p.store, &p->info.id, err) < 0)
        return -1;
    procs_forget(t, p);
    output_remove(t, p);
    return 0;
}

void procs_prune(struct procs *t, const struct sandbox_id *sandbox, const char *service)
{
    struct proc **list;
    struct err err;
    size_t ended = 0, all = 0, n = procs_list(t, sandbox, &list);
    for (size_t i = 0; i < n; i++) { /* newest first */
        mu_lock(&t->lock);
        const char *of = list[i]->info.service;
        bool same = list[i]->saved && (service ? str_eq(of, service) : !of);
        bool old = same && ++ended > (service ? SERVICE_ENDED_MAX : PROCESS_ENDED_MAX);
        /* Names of services come and go, as a hostile sandbox.yaml likes. */
        old = old || (list[i]->saved && ++all > ENDED_MAX);
        mu_unlock(&t->lock);
        if (old && procs_remove(t, list[i], &err) < 0)
            log_warn("process.prune_failed", KV_STR("id", list[i]->info.id.text), KV_ERR(&err));
        procs_unref(t, list[i]);
    }
    free(list);
}

void procs_end_unseen(struct procs *t, int64_t idle_ms)
{
    const int64_t now = clock_mono_ms();
    bool any = false;
    mu_lock(&t->lock);
    for (size_t i = 0; i < t->count; i++) {
        struct proc *p = t->items[i];
        if (!p->info.pty || p->info.state != PROCESS_RUNNING || p->followers > 0 || p->unwanted ||
            p->unseen_ms > now - idle_ms)
            continue;
        p->unwanted = any = true;
        p->alone_until_ms = now;
    }
    mu_unlock(&t->lock);
    if (any)
        procs_wake(t);
}

int procs_drop(struct procs *t, const struct sandbox_id *sandbox, struct err *err)
{
    struct proc **list;
    if (store_process_remove_all(t->core->p.store, sandbox, err) < 0)
        return -1;
    size_t n = procs_list(t, sandbox, &list);
    for (size_t i = 0; i < n; i++) {
        procs_forget(t, list[i]);
        procs_unref(t, list[i]);
    }
    free(list);
    output_drop(t, sandbox);
    return 0;
}
