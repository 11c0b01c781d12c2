/* The keeper: what may block on behalf of kept processes.
 *
 * Ends: output goes into a file of its own (<data>/processes/<sandbox>/<id>.out), then the record
 * is ended, then the agent may forget; a crash in between repeats it. Memory is given back once
 * nobody reads. Lost streams: an agent is asked by a thread of a small pool, one at a time for a
 * sandbox, so that one that is silent holds up nobody but its own sandbox. Tied processes that
 * nobody follows, and terminals that nobody looks at: ended by a pool of their own in the same way,
 * one process at a time, so that sandboxes whose processes resist take turns with the others.
 * Held ones whose reader does not come: let go. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fault.h"
#include "base/fd.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/str.h"
#include "base/worker.h"
#include "inside.h"
#include "proc.h"

#define RETRY_MS 200         /* an agent that is not connected: it redials within half a second */
#define FROZEN_RETRY_MS 5000 /* procs_awake comes first */
#define SILENT_RETRY_MS 5000
#define ATTACH_WAIT_MS 3000
#define KEEPER_IDLE_MS 60000
#define RESISTS_MS 30000 /* what resisted its end is ended again */
#define OUT_DIR_MODE 0700
#define GIVE_BACK_BYTES (4 * MIB)
#define OFFSET_MAX ((uint64_t)1 << 62) /* no process has written so much: its agent lies */

/* --- files of output --- */

static void out_dir(const struct procs *t, const struct sandbox_id *sandbox, char *out, size_t size)
{
    (void)snprintf(out, size, "%s/%s", t->dir,
                   sandbox->text); /* the data directory's length is checked at start */
}

static void out_path(const struct procs *t, const struct proc *p, char *out, size_t size)
{
    (void)snprintf(out, size, "%s/%s/%s.out", t->dir, p->info.sandbox.text, p->info.id.text);
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
    out_dir(t, &p->info.sandbox, path, sizeof path);
    (void)snprintf(name, sizeof name, "%s.out", p->info.id.text);
    if (fd_mkdirs(path, OUT_DIR_MODE, err) < 0)
        return -1;
    AUTO(fd) int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0)
        return err_sys(err, errno, "open the directory of outputs");
    return fd_replace_file(dir, name, buf_str(&b), b.len, 0600, err);
}

static int load_output(struct procs *t, struct proc *p, struct err *err)
{
    char path[4096 + 64];
    AUTO(buf) struct buf b = BUF_INIT(2 * PROCESS_OUTPUT_KEEP);
    struct plog log = { 0 };
    mu_lock(&t->lock);
    bool there = !p->on_disk || p->log.count || p->info.bytes == 0;
    mu_unlock(&t->lock);
    if (there)
        return 0;
    out_path(t, p, path, sizeof path);
    AUTO(fd) int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) /* all of it is lost, then, and told so */
        return errno == ENOENT ? 0 : err_sys(err, errno, "open the kept output");
    if (fd_read_to_end(fd, &b, err) < 0 || plog_load(&log, buf_str(&b), b.len, err) < 0) {
        plog_release(&log);
        return -1;
    }
    mu_lock(&t->lock);
    if (!p->log.count)
        p->log = log;
    else
        plog_release(&log); /* another reader was faster */
    mu_unlock(&t->lock);
    return 0;
}

static void give_back_locked(struct procs *t, struct proc *p) REQUIRES(t->lock)
{
    mu_held(&t->lock);
    if (!p->on_disk || p->followers > 0)
        return;
    t->freed += p->log.bytes;
    plog_release(&p->log);
}

/* What lies between pieces that are still in use goes back to the system only when it is asked for;
 * looking for it costs some milliseconds. */
static void give_back(struct procs *t)
{
    mu_lock(&t->lock);
    bool much = t->freed >= GIVE_BACK_BYTES;
    if (much)
        t->freed = 0;
    mu_unlock(&t->lock);
    if (much)
        (void)malloc_trim(0);
}

int output_open(struct procs *t, struct proc *p, struct err *err)
{
    mu_lock(&t->lock);
    p->followers++;
    p->unwanted = false;
    mu_unlock(&t->lock);
    if (load_output(t, p, err) == 0)
        return 0;
    output_close(t, p);
    return -1;
}

void output_close(struct procs *t, struct proc *p)
{
    mu_lock(&t->lock);
    bool alone = --p->followers == 0 && p->info.tied && p->info.state == PROCESS_RUNNING;
    p->unseen_ms = clock_mono_ms();
    p->alone_until_ms = p->unseen_ms + PROCESS_REFOLLOW_MS;
    give_back_locked(t, p);
    bool much = t->freed >= GIVE_BACK_BYTES;
    mu_unlock(&t->lock);
    if (alone || much)
        procs_wake(t);
}

void output_remove(struct procs *t, const struct proc *p)
{
    char path[4096 + 64];
    out_path(t, p, path, sizeof path);
    (void)unlink(path); /* none: it said nothing */
}

void output_drop(struct procs *t, const struct sandbox_id *sandbox)
{
    char path[4096];
    out_dir(t, sandbox, path, sizeof path);
    DIR *d = opendir(path);
    if (!d)
        return; /* nothing was said */
    for (const struct dirent *e; (e = readdir(d));)
        if (e->d_name[0] != '.')
            (void)unlinkat(dirfd(d), e->d_name,
                           0); /* what stays makes the rmdir fail, seen below */
    (void)closedir(d);
    if (rmdir(path) < 0)
        log_warn("process.output_stays", KV_STR("id", sandbox->text), KV_INT("errno", errno));
}

/* --- ends --- */

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
    bool kept = save_output(t, p, &err) == 0;
    if (!kept)
        log_warn("process.output_not_kept", KV_STR("id", row.id.text), KV_ERR(&err));
    bool ended =
        !FAULT("core.process.saved") && store_process_end(t->core->p.store, &row, &err) == 0;
    free(row.state);
    if (!ended) {
        log_warn("process.end_not_written", KV_STR("id", row.id.text));
        return; /* the next round tries again */
    }
    (void)FAULT("core.process.ended"); /* a place to be killed at */
    (void)link_forget_process(t->core->p.link, &p->info.sandbox, p->info.number,
                              &err); /* gone with its sandbox */
    mu_lock(&t->lock);
    p->work = PROC_NOTHING;
    p->saved = true;
    cond_broadcast(&t->saved);
    p->on_disk = kept;
    give_back_locked(t, p);
    bool gone = p->gone;
    mu_unlock(&t->lock);
    if (gone) { /* removed in the meantime: the file was written in vain */
        char path[4096];
        output_remove(t, p);
        out_dir(t, &p->info.sandbox, path, sizeof path);
        (void)rmdir(path); /* refused while there are others; only this thread writes any */
    } else {
        procs_prune(t, &p->info.sandbox, p->info.service);
    }
    core_process_ended(t->core, p);
}

static uint32_t unsaved_locked(struct procs *t, const struct sandbox_id *sandbox) REQUIRES(t->lock)
{
    uint32_t n = 0;
    mu_held(&t->lock);
    for (size_t i = 0; i < t->count; i++)
        n += t->items[i]->info.state != PROCESS_RUNNING && !t->items[i]->saved &&
             sandbox_id_eq(&t->items[i]->info.sandbox, sandbox);
    return n;
}

uint32_t keeper_unsaved(struct procs *t, const struct sandbox_id *sandbox)
{
    mu_lock(&t->lock);
    uint32_t n = unsaved_locked(t, sandbox);
    mu_unlock(&t->lock);
    return n;
}

bool keeper_await(struct procs *t, const struct sandbox_id *sandbox, uint32_t count,
                  int64_t deadline_ms)
{
    bool in_time = true, fewer;
    mu_lock(&t->lock);
    while (!(fewer = unsaved_locked(t, sandbox) < count) && in_time)
        in_time = cond_wait_until(&t->saved, &t->lock, deadline_ms);
    mu_unlock(&t->lock);
    return fewer;
}

/* --- one thread for a sandbox --- */

/* false: there is one at it. */
static bool begin_at(struct procs *t, struct busy *b, const struct sandbox_id *sandbox)
{
    bool at_it = false;
    mu_lock(&t->lock);
    for (size_t i = 0; i < b->count; i++)
        at_it = at_it || sandbox_id_eq(&b->ids[i], sandbox);
    if (!at_it) {
        b->ids = reallocarray(b->ids, b->count + 1, sizeof *b->ids);
        if (!b->ids)
            abort();
        b->ids[b->count++] = *sandbox;
    }
    mu_unlock(&t->lock);
    return !at_it;
}

static void end_at(struct procs *t, struct busy *b, const struct sandbox_id *sandbox)
{
    mu_lock(&t->lock);
    size_t i = 0;
    while (i < b->count && !sandbox_id_eq(&b->ids[i], sandbox))
        i++;
    if (i < b->count)
        b->ids[i] = b->ids[--b->count];
    mu_unlock(&t->lock);
}

/* --- lost streams --- */

enum answer { ANSWER_DONE, ANSWER_LATER, ANSWER_SILENT, ANSWER_FROZEN };

static enum answer ask(struct procs *t, struct proc *p)
{
    struct err err = { .code = ERR_NOT_FOUND };
    struct frame_attached at;
    int fd;
    const struct sandbox *s = registry_get(t->core->registry, &p->info.sandbox);
    bool same = s && s->epoch == p->info.epoch;
    bool up = same && s->state == SANDBOX_RUNNING;
    bool frozen = same && (s->state == SANDBOX_PAUSED || s->state == SANDBOX_PAUSING ||
                           s->state == SANDBOX_RESUMING);
    bool stopping = same && s->state == SANDBOX_STOPPING; /* it may be in vain */
    core_unref(s);
    if (frozen || stopping)
        return frozen ? ANSWER_FROZEN : ANSWER_LATER;
    mu_lock(&t->lock);
    uint64_t from = p->info.bytes;
    mu_unlock(&t->lock);
    if (up && link_attach(t->core->p.link, &p->info.sandbox, p->info.number, from,
                          clock_mono_ms() + ATTACH_WAIT_MS, &fd, &at, &err) == 0) {
        if (at.first > OFFSET_MAX) {
            (void)close(fd);
            return ANSWER_SILENT;
        }
        mu_lock(&t->lock);
        if (at.first > p->info.bytes)
            p->info.bytes = at.first; /* what lies between was lost while we were away */
        p->info.pid = at.pid;
        mu_unlock(&t->lock);
        procs_take_stream(t, p, fd);
        return ANSWER_DONE;
    }
    if (err.code != ERR_NOT_FOUND)
        return err.code == ERR_TIMEOUT ? ANSWER_SILENT : ANSWER_LATER;
    mu_lock(&t->lock);
    if (p->info.state == PROCESS_RUNNING)
        procs_ended_locked(t, p, PROCESS_LOST);
    mu_unlock(&t->lock);
    return ANSWER_DONE;
}

/* One of the sandbox that is due, with a reference. */
static struct proc *next_of(struct procs *t, const struct sandbox_id *sandbox)
{
    struct proc *found = NULL;
    int64_t now = clock_mono_ms();
    mu_lock(&t->lock);
    for (size_t i = 0; i < t->count && !found && !t->stopping; i++) {
        struct proc *p = t->items[i];
        if (p->work == PROC_ATTACH && p->due_ms <= now &&
            sandbox_id_eq(&p->info.sandbox, sandbox)) {
            found = p;
            p->refs++;
        }
    }
    mu_unlock(&t->lock);
    return found;
}

static void put_off(struct procs *t, const struct sandbox_id *sandbox, int64_t ms)
{
    int64_t due = clock_mono_ms() + ms;
    mu_lock(&t->lock);
    for (size_t i = 0; i < t->count; i++)
        if (t->items[i]->work == PROC_ATTACH && sandbox_id_eq(&t->items[i]->info.sandbox, sandbox))
            t->items[i]->due_ms = due;
    mu_unlock(&t->lock);
}

struct ask_job {
    struct procs *table;
    struct sandbox_id sandbox;
};

static void ask_job(void *arg)
{
    static const int64_t later[] = { [ANSWER_LATER] = RETRY_MS,
                                     [ANSWER_SILENT] = SILENT_RETRY_MS,
                                     [ANSWER_FROZEN] = FROZEN_RETRY_MS };
    struct ask_job *job = arg;
    struct procs *t = job->table;
    enum answer a = ANSWER_DONE;
    struct proc *p;
    while (a == ANSWER_DONE && (p = next_of(t, &job->sandbox))) {
        a = ask(t, p);
        procs_unref(t, p);
    }
    if (a != ANSWER_DONE)
        put_off(t, &job->sandbox, later[a]);
    end_at(t, &t->asked, &job->sandbox);
    procs_wake(t);
    free(job);
}

/* Has the sandbox asked, unless somebody is at it. */
static void begin_asking(struct procs *t, const struct sandbox_id *sandbox)
{
    struct err err;
    if (!begin_at(t, &t->asked, sandbox))
        return;
    struct ask_job *job = mem_new(1, sizeof *job);
    *job = (struct ask_job){ t, *sandbox };
    if (pool_run(t->askers, ask_job, job, &err) == 0)
        return;
    free(job); /* the backlog is full, or we are stopping */
    end_at(t, &t->asked, sandbox);
    put_off(t, sandbox, RETRY_MS);
}

/* --- what agents have and nobody knows of --- */

static bool known(struct procs *t, const struct sandbox_id *sandbox, uint64_t number)
{
    bool found = false;
    mu_lock(&t->lock);
    for (size_t i = 0; i < t->count && !found; i++)
        found = t->items[i]->info.number == number &&
                sandbox_id_eq(&t->items[i]->info.sandbox, sandbox);
    mu_unlock(&t->lock);
    return found;
}

void keeper_end_unknown(struct procs *t)
{
    struct link *link = t->core->p.link;
    uint64_t kept[LINK_KEPT_MAX];
    struct sandbox_id id;
    uint32_t what;
    struct err ignored;
    while (link_next_change(link, &id, &what)) {
        size_t n =
            what & LINK_CHANGE_PROCESSES ? link_processes(link, &id, kept, LINK_KEPT_MAX) : 0;
        for (size_t i = 0; i < n; i++) {
            /* One of this daemon's may be about to get its record. */
            if (core_process_ours(t->core, kept[i]) || known(t, &id, kept[i]))
                continue;
            log_warn("process.unknown_ended", KV_STR("sandbox", id.text));
            (void)link_forget_process(link, &id, kept[i], &ignored); /* gone: it will say so anew */
        }
    }
}

/* --- those that nobody follows and somebody should --- */

struct end_job {
    struct procs *table;
    struct proc *proc;
};

static void end_job(void *arg)
{
    struct end_job *job = arg;
    struct procs *t = job->table;
    struct proc *p = job->proc;
    struct err err;
    mu_lock(&t->lock);
    bool alone = p->followers == 0 && !t->stopping;
    mu_unlock(&t->lock);
    if (alone && core_end_process(t->core, p, &err) < 0)
        log_warn("process.stays", KV_STR("id", p->info.id.text), KV_ERR(&err));
    end_at(t, &t->ending, &p->info.sandbox);
    procs_unref(t, p);
    procs_wake(t);
    free(job);
}

/* Unless one of its sandbox is being ended. */
static void begin_ending(struct procs *t, struct proc *p)
{
    struct err err;
    if (!begin_at(t, &t->ending, &p->info.sandbox))
        return;
    struct end_job *job = mem_new(1, sizeof *job);
    *job = (struct end_job){ t, p };
    mu_lock(&t->lock);
    p->refs++;
    p->alone_until_ms = clock_mono_ms() + RESISTS_MS; /* if it resists, or there is no thread */
    bool terminal = p->unwanted;
    mu_unlock(&t->lock);
    if (terminal)
        log_info("terminal.unseen", KV_STR("id", p->info.id.text));
    if (pool_run(t->enders, end_job, job, &err) == 0)
        return;
    end_at(t, &t->ending, &p->info.sandbox);
    procs_unref(t, p);
    free(job);
}

/* Is it to be ended? *next falls to when it will be. */
static bool alone(const struct proc *p, int64_t now, int64_t *next)
{
    if (!(p->info.tied || p->unwanted) || p->followers > 0 || p->info.state != PROCESS_RUNNING)
        return false;
    if (p->alone_until_ms > now && p->alone_until_ms - now < *next)
        *next = p->alone_until_ms - now;
    return p->alone_until_ms <= now;
}

/* --- held ones whose reader does not come --- */

/* Goes on without it, if it is time; *next falls to when it will be. */
static void let_go_locked(struct procs *t, struct proc *p, int64_t now, int64_t *next)
    REQUIRES(t->lock)
{
    mu_held(&t->lock);
    if (p->held_until_ms == 0)
        return;
    if (p->held_until_ms > now) {
        *next = p->held_until_ms - now < *next ? p->held_until_ms - now : *next;
        return;
    }
    p->held_until_ms = 0;
    procs_hold_locked(t, p);
}

/* --- the rounds --- */

/* One with work that is due, after the one last looked at, with a reference; *next falls to what is
 * due later. */
static struct proc *next_work(struct procs *t, const struct sandbox_id *after, int64_t now,
                              enum proc_work *ret_work, int64_t *next)
{
    struct proc *found = NULL;
    mu_lock(&t->lock);
    size_t i = after->text[0] ? procs_at_locked(t, after) : 0;
    for (; i < t->count && !found; i++) {
        struct proc *p = t->items[i];
        if (after->text[0] && sandbox_id_eq(&p->info.id, after))
            continue;
        let_go_locked(t, p, now, next);
        bool end = !t->stopping && alone(p, now, next);
        if (p->work == PROC_NOTHING && !end)
            continue;
        if (p->work == PROC_ATTACH && p->due_ms > now && !end) {
            if (p->due_ms - now < *next)
                *next = p->due_ms - now;
            continue;
        }
        found = p;
        *ret_work = end ? PROC_END : p->work;
        p->refs++;
    }
    mu_unlock(&t->lock);
    return found;
}

int64_t keeper_tick(void *ctx, int64_t mono_ms)
{
    struct procs *t = ctx;
    struct sandbox_id after = { { 0 } };
    int64_t next = KEEPER_IDLE_MS;
    enum proc_work work;
    struct proc *p;
    while ((p = next_work(t, &after, mono_ms, &work, &next))) {
        after = p->info.id;
        if (work == PROC_FINISH)
            write_end(t, p);
        else if (work == PROC_END)
            begin_ending(t, p);
        else
            begin_asking(t, &p->info.sandbox); /* its end wakes us */
        mu_lock(&t->lock);
        if (p->work == PROC_FINISH && next > RETRY_MS)
            next = RETRY_MS;
        mu_unlock(&t->lock);
        procs_unref(t, p);
    }
    give_back(t);
    return next;
}
