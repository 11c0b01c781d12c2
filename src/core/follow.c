/* Readers of a process's output: of what is kept, and of what comes. */
#include <stdlib.h>

#include "base/clock.h"
#include "base/limits.h"
#include "base/str.h"
#include "inside.h"
#include "proc.h"

struct follow {
    struct core *core;
    struct proc *proc;
    bool holds;
    uint64_t at;         /* of one that holds: guarded by the table's lock */
    struct follow *next; /* of those that hold this process */
};

uint64_t follow_held_locked(struct procs *t, const struct proc *p)
{
    uint64_t at = p->held_until_ms ? p->held_at : UINT64_MAX;
    mu_held(&t->lock);
    for (const struct follow *f = p->holders; f; f = f->next)
        at = f->at < at ? f->at : at;
    return at;
}

int core_follow(struct core *c, const struct caller *who, const struct sandbox_id *sandbox,
                const struct sandbox_id *id, struct follow **ret, struct err *err)
{
    struct proc *p = process_find(c, who, sandbox, id, err);
    if (!p)
        return -1;
    if (output_open(c->procs, p, err) < 0) {
        procs_unref(c->procs, p);
        return -1;
    }
    *ret = mem_new(1, sizeof **ret);
    **ret = (struct follow){ .core = c, .proc = p };
    return 0;
}

void follow_hold(struct follow *f, uint64_t offset)
{
    struct procs *t = f->core->procs;
    mu_lock(&t->lock);
    f->holds = true;
    f->at = offset;
    f->proc->held_until_ms = 0;
    f->next = f->proc->holders;
    f->proc->holders = f;
    mu_unlock(&t->lock);
}

static void let_go(struct follow *f)
{
    struct procs *t = f->core->procs;
    mu_lock(&t->lock);
    struct follow **at = &f->proc->holders;
    while (*at != f)
        at = &(*at)->next;
    *at = f->next;
    if (!f->proc->holders) {
        f->proc->held_at = f->at;
        f->proc->held_until_ms = clock_mono_ms() + PROCESS_HOLD_MS;
    }
    procs_hold_locked(t, f->proc);
    mu_unlock(&t->lock);
    procs_wake(t); /* somebody is to come back, and soon */
}

void follow_free(struct follow *f)
{
    if (!f)
        return;
    if (f->holds)
        let_go(f);
    output_close(f->core->procs, f->proc);
    procs_unref(f->core->procs, f->proc);
    free(f);
}

int follow_next(struct follow *f, uint64_t offset, void *data, size_t size, int64_t deadline_ms,
                struct follow_chunk *ret, struct err *err)
{
    struct procs *t = f->core->procs;
    struct proc *p = f->proc;
    *ret = (struct follow_chunk){ .offset = offset };
    bool in_time = true;
    mu_lock(&t->lock);
    if (f->holds) {
        f->at = offset;
        procs_hold_locked(t, p);
    }
    for (;;) {
        ret->len = plog_read(&p->log, offset, data, size, ret);
        if (ret->len > 0) {
            ret->lost = ret->offset - offset;
            break;
        }
        if (p->gone || p->info.state != PROCESS_RUNNING) {
            ret->ended = true;
            ret->lost = p->info.bytes > offset ? p->info.bytes - offset : 0;
            break;
        }
        if (!in_time)
            break;
        in_time = cond_wait_until(&p->changed, &t->lock, deadline_ms);
    }
    mu_unlock(&t->lock);
    (void)err; /* memory only: nothing can fail today; a reader of files may one day */
    return 0;
}

void follow_process(struct follow *f, struct process *ret)
{
    struct procs *t = f->core->procs;
    process_copy(t, f->proc, ret);
    mu_lock(&t->lock);
    if (f->proc->gone && ret->state == PROCESS_RUNNING) /* removed under its reader */
        ret->state = PROCESS_LOST;
    mu_unlock(&t->lock);
}
