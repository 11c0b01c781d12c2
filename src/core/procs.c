/* Kept processes.
 *
 * A process has a record in the store from before it is started until its sandbox is deleted, and a
 * struct proc in memory. While it runs, its agent holds it under a number and sends its output over
 * a stream; the loop thread takes that in, whatever the process, and nothing it does can block. The
 * keeper thread does what may: writes output and record when one has ended, and asks agents for
 * streams that were lost (a restart of this daemon, a connection cut).
 *
 * Recovery: the agent's ring and exit status survive us. At start every record without an end is
 * asked for again; an agent that does not know the number, or a sandbox that has been stopped
 * since, means LOST. */
#include "procs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/str.h"
#include "base/worker.h"
#include "inside.h"
#include "proc.h"
#include "wire/frames.h"

#define RETRY_MS 200 /* between two tries to get a lost stream back */
#define ATTACH_WAIT_MS 3000
#define KEEPER_IDLE_MS 60000
#define OUT_DIR_MODE 0700

struct procs {
    struct core *core;
    char *dir; /* <data>/processes */
    struct mu lock;
    struct proc **items GUARDED_BY(lock); /* sorted by id: oldest first */
    size_t count GUARDED_BY(lock), room GUARDED_BY(lock);
    int epoll, stop_fd;
    unsigned long loop;
    struct worker *keeper;
};

/* --- the table --- */

static size_t find_locked(struct procs *t, const struct sandbox_id *id) REQUIRES(t->lock)
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
    size_t at = find_locked(t, &p->info.id);
    memmove(t->items + at + 1, t->items + at, (t->count - at) * sizeof(struct proc *));
    t->items[at] = p;
    t->count++;
}

static void take_out_locked(struct procs *t, const struct sandbox_id *id) REQUIRES(t->lock)
{
    size_t at = find_locked(t, id);
    if (at == t->count || !sandbox_id_eq(&t->items[at]->info.id, id))
        return;
    memmove(t->items + at, t->items + at + 1, (t->count - at - 1) * sizeof(struct proc *));
    t->count--;
}

/* Whoever finds a proc holds a reference until proc_unref. */
struct proc *procs_find(struct procs *t, const struct sandbox_id *sandbox,
                        const struct sandbox_id *id)
{
    mu_lock(&t->lock);
    size_t at = find_locked(t, id);
    struct proc *p = at < t->count ? t->items[at] : NULL;
    if (p && (!sandbox_id_eq(&p->info.id, id) || !sandbox_id_eq(&p->info.sandbox, sandbox)))
        p = NULL;
    if (p)
        p->refs++;
    mu_unlock(&t->lock);
    return p;
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

void procs_lock(struct procs *t)
{
    mu_lock(&t->lock);
}

void procs_unlock(struct procs *t)
{
    mu_unlock(&t->lock);
}

bool procs_wait(struct procs *t, struct proc *p, int64_t deadline_ms)
{
    return cond_wait_until(&p->changed, &t->lock, deadline_ms);
}

struct proc *procs_add(struct procs *t, const struct process *info)
{
    struct proc *p = mem_new(1, sizeof *p);
    p->info = *info;
    p->fd = -1;
    p->refs = 2; /* the table's and the caller's */
    p->in = (struct buf)BUF_INIT(FRAME_PAYLOAD_MAX + 128 * KIB);
    cond_init(&p->changed);
    mu_lock(&t->lock);
    add_locked(t, p);
    mu_unlock(&t->lock);
    return p;
}

void procs_forget(struct procs *t, struct proc *p)
{
    mu_lock(&t->lock);
    take_out_locked(t, &p->info.id);
    p->gone = true;
    cond_broadcast(&p->changed);
    mu_unlock(&t->lock);
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

/* --- files of output --- */

static void out_path(const struct procs *t, const struct sandbox_id *sandbox, char *out,
                     size_t size)
{
    (void)snprintf(out, size, "%s/%s", t->dir,
                   sandbox->text); /* the data directory's length is checked at start */
}

static int save_output(struct procs *t, struct proc *p, struct err *err)
{
    char path[4096], name[ID_LEN + 8];
    AUTO(buf) struct buf b = BUF_INIT(2 * PROCESS_OUTPUT_KEEP);
    mu_lock(&t->lock);
    plog_save(&p->log, &b);
    mu_unlock(&t->lock);
    if (b.len == 0)
        return 0;
    out_path(t, &p->info.sandbox, path, sizeof path);
    (void)snprintf(name, sizeof name, "%s.out", p->info.id.text);
    if (fd_mkdirs(path, OUT_DIR_MODE, err) < 0)
        return -1;
    AUTO(fd) int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0)
        return err_sys(err, errno, "open the directory of outputs");
    return fd_replace_file(dir, name, buf_str(&b), b.len, 0600, err);
}

/* Output of one that ended before this daemon started, or whose memory was given back. */
int procs_load_output(struct procs *t, struct proc *p, struct err *err)
{
    char path[4096 + 64];
    AUTO(buf) struct buf b = BUF_INIT(2 * PROCESS_OUTPUT_KEEP);
    struct plog log = { 0 };
    mu_lock(&t->lock);
    bool there = !p->saved || p->log.first || p->info.bytes == 0;
    mu_unlock(&t->lock);
    if (there)
        return 0;
    (void)snprintf(path, sizeof path, "%s/%s/%s.out", t->dir, p->info.sandbox.text,
                   p->info.id.text);
    AUTO(fd) int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? 0 : err_sys(err, errno, "open the kept output");
    if (fd_read_to_end(fd, &b, err) < 0 || plog_load(&log, buf_str(&b), b.len, err) < 0) {
        plog_release(&log);
        return -1;
    }
    mu_lock(&t->lock);
    if (!p->log.first)
        p->log = log;
    else
        plog_release(&log); /* another reader was faster */
    mu_unlock(&t->lock);
    return 0;
}

static void remove_output(struct procs *t, const struct sandbox_id *sandbox,
                          const struct sandbox_id *id)
{
    char path[4096 + 64];
    (void)snprintf(path, sizeof path, "%s/%s/%s.out", t->dir, sandbox->text, id->text);
    (void)unlink(path); /* none: it said nothing */
}

/* --- taking output in: the loop thread --- */

static void set_ended_locked(struct procs *t, struct proc *p, enum process_state state)
    REQUIRES(t->lock)
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
        set_ended_locked(t, p, PROCESS_EXITED);
        return true;
    case FRAME_FAILED:
        if (f->len < 5)
            return false;
        p->failed_errno = (int)frame_u32(f->payload);
        p->failed_step = f->payload[4];
        set_ended_locked(t, p, PROCESS_LOST);
        return true;
    default:
        return false;
    }
    cond_broadcast(&p->changed);
    return true;
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
    mu_unlock(&t->lock);
    buf_drop(&p->in, at);
    return good;
}

static void drop_stream(struct procs *t, struct proc *p)
{
    (void)epoll_ctl(t->epoll, EPOLL_CTL_DEL, p->fd, NULL); /* closing would do it too */
    mu_lock(&t->lock);
    auto_fd(&p->fd);
    p->fd = -1;
    if (p->info.state == PROCESS_RUNNING)
        p->work = PROC_ATTACH;
    cond_broadcast(&p->changed);
    mu_unlock(&t->lock);
    worker_wake(t->keeper);
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
            struct proc *p = ev[i].data.ptr;
            if (!p)
                return NULL; /* stop_fd */
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
    p->fd = fd;
    p->refs++;
    p->work = PROC_NOTHING;
    buf_reset(&p->in);
    struct epoll_event ev = { .events = EPOLLIN | EPOLLRDHUP, .data.ptr = p };
    if (epoll_ctl(t->epoll, EPOLL_CTL_ADD, fd, &ev) < 0)
        abort(); /* out of kernel memory: crash-only */
    mu_unlock(&t->lock);
}

/* --- the keeper --- */

static void write_end(struct procs *t, struct proc *p)
{
    struct err err;
    mu_lock(&t->lock);
    struct store_process row = { .id = p->info.id,
                                 .state = str_dup(process_state_name(p->info.state)),
                                 .exit_code = p->info.exit_code,
                                 .signal = p->info.signal,
                                 .timed_out = p->info.timed_out,
                                 .bytes = p->info.bytes,
                                 .ended_at_ms = p->info.ended_at_ms };
    mu_unlock(&t->lock);
    if (save_output(t, p, &err) < 0)
        log_warn("process.output_not_kept", KV_STR("id", row.id.text), KV_ERR(&err));
    bool ok = store_process_end(t->core->p.store, &row, &err) == 0;
    free(row.state);
    if (!ok) {
        log_warn("process.end_not_written", KV_STR("id", row.id.text), KV_ERR(&err));
        return; /* the next round tries again */
    }
    (void)link_forget_process(t->core->p.link, &p->info.sandbox, p->info.number,
                              &err); /* gone with its sandbox */
    mu_lock(&t->lock);
    p->work = PROC_NOTHING;
    p->saved = true;
    mu_unlock(&t->lock);
    core_process_ended(t->core, p);
}

static void reattach(struct procs *t, struct proc *p)
{
    struct err err;
    int fd;
    const struct sandbox *s = registry_get(t->core->registry, &p->info.sandbox);
    bool same = s && s->epoch == p->info.epoch &&
                (s->state == SANDBOX_RUNNING || s->state == SANDBOX_PAUSED ||
                 s->state == SANDBOX_PAUSING || s->state == SANDBOX_RESUMING);
    bool frozen = s && s->state != SANDBOX_RUNNING;
    core_unref(s);
    mu_lock(&t->lock);
    uint64_t from = p->info.bytes;
    mu_unlock(&t->lock);
    struct frame_attached at;
    if (same && frozen)
        return; /* asked for again once it is thawed */
    if (same && link_attach(t->core->p.link, &p->info.sandbox, p->info.number, from,
                            clock_mono_ms() + ATTACH_WAIT_MS, &fd, &at, &err) == 0) {
        mu_lock(&t->lock);
        if (at.first > p->info.bytes)
            p->info.bytes = at.first; /* what lies between was lost while we were away */
        p->info.pid = at.pid;
        mu_unlock(&t->lock);
        procs_take_stream(t, p, fd);
        return;
    }
    if (same && err.code != ERR_NOT_FOUND)
        return; /* its agent is not back yet */
    mu_lock(&t->lock);
    if (p->info.state == PROCESS_RUNNING)
        set_ended_locked(t, p, PROCESS_LOST);
    mu_unlock(&t->lock);
}

/* One proc that waits for `work`, with a reference; after: the last one that was looked at. */
static struct proc *next_work(struct procs *t, const struct sandbox_id *after)
{
    struct proc *found = NULL;
    mu_lock(&t->lock);
    size_t i = after->text[0] ? find_locked(t, after) : 0;
    for (; i < t->count && !found; i++) {
        struct proc *p = t->items[i];
        if (p->work != PROC_NOTHING && (!after->text[0] || !sandbox_id_eq(&p->info.id, after))) {
            found = p;
            p->refs++;
        }
    }
    mu_unlock(&t->lock);
    return found;
}

static int64_t keeper_tick(void *ctx, int64_t mono_ms)
{
    struct procs *t = ctx;
    struct sandbox_id after = { { 0 } };
    bool left = false;
    struct proc *p;
    (void)mono_ms;
    while ((p = next_work(t, &after))) {
        after = p->info.id;
        if (p->work == PROC_ATTACH)
            reattach(t, p);
        mu_lock(&t->lock);
        bool ended = p->work == PROC_FINISH;
        mu_unlock(&t->lock);
        if (ended)
            write_end(t, p);
        mu_lock(&t->lock);
        left = left || p->work != PROC_NOTHING;
        mu_unlock(&t->lock);
        procs_unref(t, p);
    }
    return left ? RETRY_MS : KEEPER_IDLE_MS;
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
    t->epoll = epoll_create1(EPOLL_CLOEXEC);
    t->stop_fd = eventfd(0, EFD_CLOEXEC);
    struct epoll_event ev = { .events = EPOLLIN, .data.ptr = NULL };
    if (t->epoll < 0 || t->stop_fd < 0 || epoll_ctl(t->epoll, EPOLL_CTL_ADD, t->stop_fd, &ev) < 0)
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
    t->keeper = worker_start("keeper", keeper_tick, t, err);
    if (!t->keeper)
        return -1;
    return thread_start(loop_main, t, "processes", &t->loop, err);
}

void procs_free(struct procs *t)
{
    if (!t)
        return;
    if (t->loop) {
        uint64_t one = 1;
        if (write(t->stop_fd, &one, sizeof one) != sizeof one)
            abort(); /* an eventfd takes a one */
        thread_join(t->loop);
    }
    worker_stop(t->keeper);
    for (size_t i = 0; i < t->count; i++)
        free_proc(t->items[i]);
    free(t->items);
    auto_fd(&t->epoll);
    auto_fd(&t->stop_fd);
    mu_release(&t->lock);
    free(t->dir);
    free(t);
}

void procs_wake_keeper(struct procs *t)
{
    worker_wake(t->keeper);
}

int procs_remove(struct procs *t, struct proc *p, struct err *err)
{
    struct err ignored;
    (void)link_forget_process(t->core->p.link, &p->info.sandbox, p->info.number,
                              &ignored); /* ends it, if it runs */
    if (store_process_remove(t->core->p.store, &p->info.id, err) < 0)
        return -1;
    remove_output(t, &p->info.sandbox, &p->info.id);
    procs_forget(t, p);
    return 0;
}

void procs_prune(struct procs *t, const struct sandbox_id *sandbox, const char *service)
{
    struct proc **list;
    struct err err;
    size_t ended = 0, n = procs_list(t, sandbox, &list);
    for (size_t i = 0; i < n; i++) { /* newest first */
        mu_lock(&t->lock);
        bool same = list[i]->saved && str_eq(list[i]->info.service, service);
        bool old = same && ++ended > (service ? SERVICE_ENDED_MAX : PROCESS_ENDED_MAX);
        mu_unlock(&t->lock);
        if (old && procs_remove(t, list[i], &err) < 0)
            log_warn("process.prune_failed", KV_STR("id", list[i]->info.id.text), KV_ERR(&err));
        procs_unref(t, list[i]);
    }
    free(list);
}

int procs_drop(struct procs *t, const struct sandbox_id *sandbox, struct err *err)
{
    struct proc **list;
    size_t n = procs_list(t, sandbox, &list);
    char path[4096];
    int rc = store_process_remove_all(t->core->p.store, sandbox, err);
    for (size_t i = 0; i < n; i++) {
        if (rc == 0) {
            remove_output(t, sandbox, &list[i]->info.id);
            procs_forget(t, list[i]);
        }
        procs_unref(t, list[i]);
    }
    free(list);
    out_path(t, sandbox, path, sizeof path);
    if (rc == 0)
        (void)rmdir(path); /* absent when nothing was said */
    return rc;
}
