/* Services by hand: declared at run time, started, ended, removed.
 *
 * Whoever starts, ends or replaces one marks it busy under the lock, works without it, and tells
 * when it is done; others wait for that, so that what was told as stopped is not running, and there
 * are never two of one name. */
#include <signal.h>
#include <stdio.h>

#include "base/str.h"
#include "declared.h"
#include "inside.h"
#include "proc.h"
#include "svc.h"

int supervisor_room(struct supervisor *sup, const struct sandbox *s, const char *name,
                    struct err *err)
{
    mu_lock(&sup->lock);
    const struct home *h = home_locked(sup, &s->id);
    bool full = h && h->count == SERVICES_MAX && !in_home(h, name);
    mu_unlock(&sup->lock);
    return full ? declared_full(err) : 0;
}

static int end_of(struct supervisor *sup, const struct sandbox *s, const struct sandbox_id *process,
                  struct err *err)
{
    struct proc *p = process->text[0] ? procs_find(sup->core->procs, &s->id, process) : NULL;
    if (!p)
        return 0;
    int rc = s->state == SANDBOX_RUNNING ? core_end_process(sup->core, p, err)
                                         : link_signal_process(sup->core->p.link, &s->id,
                                                               p->info.number, SIGKILL, true, err);
    procs_unref(sup->core->procs, p);
    supervisor_wake(sup);
    return rc;
}

/* Waits until nobody is at it. NULL: it is not in the list. */
static struct svc *idle_locked(struct supervisor *sup, const struct sandbox_id *id,
                               const char *name) REQUIRES(sup->lock)
{
    struct svc *v;
    mu_held(&sup->lock);
    while ((v = in_home(home_locked(sup, id), name)) && v->busy)
        cond_wait(&sup->idle, &sup->lock);
    return v;
}

/* v: the one of that name, NULL for none. */
static void claim_locked(struct supervisor *sup, struct home *h, struct svc *v, const char *name,
                         const char *cmd, enum service_state *ret_before) REQUIRES(sup->lock)
{
    struct service spec = { .name = (char *)(uintptr_t)name, .cmd = (char *)(uintptr_t)cmd };
    mu_held(&sup->lock);
    if (!v && h && (v = svc_add(h, &spec))) /* borrowed: copied */
        v->reserved = true;
    *ret_before = v ? v->state : SERVICE_STOPPED;
    if (!v)
        return; /* not up any more, or no room: whoever declares it is told */
    v->busy = true;
    v->state = SERVICE_BACKOFF; /* on its way: what is asked of its health is not forgotten */
    v->due_ms = 0;
}

void supervisor_claim(struct supervisor *sup, const struct sandbox *s, const struct service *spec,
                      enum service_state *ret_before)
{
    struct sandbox_id process = { { 0 } };
    struct err ignored; /* what resists its end does not keep a new one from trying */
    settle_late(sup, s);
    mu_lock(&sup->lock);
    struct svc *v = idle_locked(sup, &s->id, spec->name);
    struct home *h = home_of_locked(sup, s);
    v = h ? v : NULL;
    if (v && v->state == SERVICE_RUNNING)
        process = v->process;
    claim_locked(sup, h, v, spec->name, spec->cmd, ret_before);
    mu_unlock(&sup->lock);
    (void)end_of(sup, s, &process, &ignored);
    health_expect(sup->core->health, s, spec, true);
}

void supervisor_claim_free(struct supervisor *sup, const struct sandbox *s, const char *cmd,
                           char name[SERVICE_NAME_MAX + 1], enum service_state *ret_before)
{
    char base[SERVICE_NAME_MAX + 1];
    (void)str_copy(base, sizeof base, name); /* as long */
    settle_late(sup, s);
    mu_lock(&sup->lock);
    struct home *h = home_of_locked(sup, s);
    struct svc *v = NULL;
    for (int i = 2; i < 2 * SERVICES_MAX && (v = in_home(h, name)); i++) {
        svc_look_locked(sup, h, v);
        if (!v->busy && v->state != SERVICE_RUNNING && str_eq(v->spec.cmd, cmd))
            break;
        (void)snprintf(name, SERVICE_NAME_MAX + 1, "%.*s-%d", SERVICE_NAME_MAX - 3, base, i);
    }
    claim_locked(sup, h, v, name, cmd, ret_before);
    mu_unlock(&sup->lock);
}

void supervisor_unclaim(struct supervisor *sup, const struct sandbox *s, const char *name,
                        enum service_state before)
{
    struct sandbox_id none;
    mu_lock(&sup->lock);
    struct svc *v = in_home(home_of_locked(sup, s), name);
    bool reserved = v && v->reserved;
    if (v && v->busy && !reserved) {
        v->busy = false;
        v->state = before == SERVICE_RUNNING ? SERVICE_BACKOFF : before; /* it ran: it goes on */
    }
    cond_broadcast(&sup->idle);
    mu_unlock(&sup->lock);
    if (reserved)
        (void)svc_drop(sup, &s->id, name, &none);
    supervisor_wake(sup);
}

int supervisor_declare(struct supervisor *sup, const struct sandbox *s, const struct service *spec,
                       const struct sandbox_id *process, struct err *err)
{
    if (supervisor_room(sup, s, spec->name, err) < 0)
        return -1;
    row_begin(sup);
    int rc = declared_add(sup->core, s, spec, err);
    mu_lock(&sup->lock);
    struct svc *v = rc == 0 ? in_home(home_of_locked(sup, s), spec->name) : NULL;
    if (v) { /* else it is not up any more: the row tells it */
        shape_release(&service_shape, &v->spec);
        declared_copy(&v->spec, spec);
        svc_runs(v, process);
        v->restarts = 0;
        v->backoff_ms = 0;
        v->busy = v->reserved = false;
    }
    cond_broadcast(&sup->idle);
    mu_unlock(&sup->lock);
    row_end(sup);
    supervisor_wake(sup); /* it may have ended already */
    return rc;
}

static int no_service(const char *name, struct err *err)
{
    return err_set(err, ERR_NOT_FOUND, "no service %.40s", name);
}

int supervisor_mark(struct supervisor *sup, const struct sandbox *s, const char *name, bool stopped,
                    struct err *err)
{
    row_begin(sup);
    int rc = declared_stop(sup->core, s, name, stopped, err);
    row_end(sup);
    return rc;
}

int supervisor_halt(struct supervisor *sup, const struct sandbox *s, const char *name,
                    struct err *err)
{
    struct sandbox_id process = { { 0 } };
    settle_late(sup, s);
    mu_lock(&sup->lock);
    struct svc *v = in_home(home_locked(sup, &s->id), name);
    bool there = v != NULL;
    if (v && v->busy && !v->reserved) /* a start under way is in vain, and ends what it started */
        v->state = SERVICE_STOPPED;
    v = idle_locked(sup, &s->id, name);
    if (v) {
        if (v->state == SERVICE_RUNNING)
            process = v->process;
        v->state = SERVICE_STOPPED;
        v->busy =
            home_of_locked(sup, s) != NULL; /* nobody starts another beside it while it ends */
    }
    mu_unlock(&sup->lock);
    if (!there)
        return no_service(name, err);
    int rc = end_of(sup, s, &process, err);
    mu_lock(&sup->lock);
    v = v ? in_home(home_of_locked(sup, s), name) : NULL;
    if (v)
        v->busy = false;
    if (v && rc < 0 && v->state == SERVICE_STOPPED) {
        v->state = SERVICE_RUNNING; /* it resists, and may be tried again */
        v->last_run = true;
    }
    cond_broadcast(&sup->idle);
    mu_unlock(&sup->lock);
    return rc;
}

int supervisor_remove(struct supervisor *sup, const struct sandbox *s, const char *name,
                      struct err *err)
{
    struct sandbox_id process = { { 0 } };
    bool in_row = false, in_list = false;
    /* Stopped first, on disk as well: while it resists its end it is still in the list. */
    if (supervisor_mark(sup, s, name, true, err) < 0 ||
        (supervisor_halt(sup, s, name, err) < 0 && err->code != ERR_NOT_FOUND))
        return -1;
    row_begin(sup);
    int rc = declared_remove(sup->core, s, name, &in_row, err);
    if (rc == 0)
        in_list = svc_drop(sup, &s->id, name, &process);
    row_end(sup);
    if (rc == 0 && !in_row && !in_list)
        rc = no_service(name, err);
    return rc < 0 ? -1 : end_of(sup, s, &process, err); /* somebody started it meanwhile */
}

/* One that was declared in the file since the sandbox came up joins the list. */
static void join_late(struct supervisor *sup, const struct sandbox *s, const char *name)
{
    struct services list;
    struct err ignored; /* a wrong file declares nothing; core_services tells */
    (void)declared_read(sup->core, s, &list, &ignored);
    mu_lock(&sup->lock);
    struct home *h = home_locked(sup, &s->id);
    for (size_t i = 0; h && i < list.count; i++)
        if (str_eq(list.items[i].name, name) && !in_home(h, name))
            (void)svc_add(h, &list.items[i]); /* no room: not found, then */
    mu_unlock(&sup->lock);
    services_release(&list);
}

int supervisor_start(struct supervisor *sup, const struct sandbox *s, const char *name,
                     struct err *err)
{
    struct service spec = { 0 };
    struct home *h;
    struct svc *v;
    settle_late(sup, s);
    join_late(sup, s, name);
    mu_lock(&sup->lock);
    /* Another start of it may be under way, of before a stop: it would be taken for this one. */
    v = idle_locked(sup, &s->id, name);
    h = home_locked(sup, &s->id);
    if (v) {
        v->last_run = false;
        svc_look_locked(sup, h, v); /* it may have ended just now */
    }
    bool due = v && v->state != SERVICE_RUNNING, taken = due && h->epoch == s->epoch;
    if (due) {
        v->state = SERVICE_BACKOFF;
        v->due_ms = 0;
        v->backoff_ms = 0;
        v->restarts = 0;
        h->not_before_ms = 0;
    }
    if (taken) /* in one go: the worker finds it due as well */
        svc_take_locked(sup, v, &spec);
    mu_unlock(&sup->lock);
    if (!v)
        return no_service(name, err);
    if (taken) /* a failure shows in the list, and is tried again */
        (void)svc_start_taken(sup, s, &spec);
    else if (due) /* of a later start of the sandbox */
        supervisor_wake(sup);
    return 0;
}
