/* Services: which there are.
 *
 * What is declared lies in the sandbox's row and in its workspace's sandbox.yaml; what runs is a
 * kept process that carries the service's name. This file holds one struct home for each sandbox
 * that is awake or frozen, made when it comes up and dropped when it goes down, with one struct svc
 * for each of its services. Who is started when is told in supervise.c, what is done by hand in
 * hands.c.
 *
 * Recovery: after a restart of the daemon the list is made anew for every sandbox that is awake,
 * and takes up the processes that still run. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/str.h"
#include "base/worker.h"
#include "declared.h"
#include "inside.h"
#include "proc.h"
#include "svc.h"

#define STARTERS_MAX 8
#define STARTERS_BACKLOG 1024

const char *service_state_name(enum service_state s)
{
    static const char *const words[SERVICE_STATE_COUNT] = {
#define SERVICE_WORD(name, word) [SERVICE_##name] = word,
        SERVICE_STATES(SERVICE_WORD)
#undef SERVICE_WORD
    };
    return words[s];
}

/* --- the list --- */

static void free_svc(struct svc *v)
{
    shape_release(&service_shape, &v->spec);
    free(v);
}

static void free_home(struct home *h)
{
    for (size_t i = 0; i < h->count; i++)
        free_svc(h->items[i]);
    free(h);
}

struct home *home_locked(struct supervisor *sup, const struct sandbox_id *id)
{
    mu_held(&sup->lock);
    for (size_t i = 0; i < sup->count; i++)
        if (sandbox_id_eq(&sup->homes[i]->sandbox, id))
            return sup->homes[i];
    return NULL;
}

struct svc *in_home(const struct home *h, const char *name)
{
    for (size_t i = 0; h && i < h->count; i++)
        if (str_eq(h->items[i]->spec.name, name))
            return h->items[i];
    return NULL;
}

struct home *home_of_locked(struct supervisor *sup, const struct sandbox *s)
{
    struct home *h = home_locked(sup, &s->id);
    return h && h->epoch == s->epoch ? h : NULL;
}

struct svc *svc_add(struct home *h, const struct service *spec)
{
    if (h->count == SERVICES_MAX)
        return NULL;
    struct svc *v = mem_new(1, sizeof *v);
    v->exit_code = -1;
    declared_copy(&v->spec, spec);
    h->items[h->count++] = v;
    return v;
}

bool svc_drop(struct supervisor *sup, const struct sandbox_id *id, const char *name,
              struct sandbox_id *ret)
{
    mu_lock(&sup->lock);
    struct home *h = home_locked(sup, id);
    size_t at = 0;
    while (h && at < h->count && !str_eq(h->items[at]->spec.name, name))
        at++;
    bool there = h && at < h->count;
    if (there) {
        if (h->items[at]->state == SERVICE_RUNNING)
            *ret = h->items[at]->process;
        free_svc(h->items[at]);
        h->count--;
        memmove(h->items + at, h->items + at + 1, (h->count - at) * sizeof h->items[0]);
        cond_broadcast(&sup->idle);
    }
    mu_unlock(&sup->lock);
    return there;
}

static struct home *new_home_locked(struct supervisor *sup, const struct sandbox *s)
    REQUIRES(sup->lock)
{
    mu_held(&sup->lock);
    if (sup->count == sup->room) {
        sup->room = sup->room ? sup->room * 2 : 16;
        sup->homes = reallocarray(sup->homes, sup->room, sizeof(struct home *));
        if (!sup->homes)
            abort();
    }
    struct home *h = mem_new(1, sizeof *h);
    h->sandbox = s->id;
    h->epoch = s->epoch;
    sup->homes[sup->count++] = h;
    return h;
}

static void drop_locked(struct supervisor *sup, const struct sandbox_id *id) REQUIRES(sup->lock)
{
    mu_held(&sup->lock);
    for (size_t i = 0; i < sup->count; i++) {
        if (!sandbox_id_eq(&sup->homes[i]->sandbox, id))
            continue;
        free_home(sup->homes[i]);
        sup->homes[i] = sup->homes[--sup->count];
        cond_broadcast(&sup->idle); /* nobody is at what is gone */
        return;
    }
}

void supervisor_wake(struct supervisor *sup)
{
    mu_lock(&sup->lock);
    if (!sup->stopping)
        worker_wake(sup->worker);
    mu_unlock(&sup->lock);
}

/* --- the sandbox comes and goes --- */

/* The newest process of a service in this start of the sandbox. */
static bool last_process(struct core *c, const struct sandbox *s, const char *name,
                         struct process *ret)
{
    struct proc **list;
    bool found = false;
    size_t n = procs_list(c->procs, &s->id, &list);
    for (size_t i = 0; i < n; i++) {
        if (!found && str_eq(list[i]->info.service, name) && list[i]->info.epoch == s->epoch)
            found = procs_peek(c->procs, &s->id, &list[i]->info.id, ret);
        procs_unref(c->procs, list[i]);
    }
    free(list);
    return found;
}

void row_begin(struct supervisor *sup)
{
    mu_lock(&sup->lock);
    while (sup->declaring)
        cond_wait(&sup->declared, &sup->lock);
    sup->declaring = true;
    mu_unlock(&sup->lock);
}

void row_end(struct supervisor *sup)
{
    mu_lock(&sup->lock);
    sup->declaring = false;
    cond_broadcast(&sup->declared);
    mu_unlock(&sup->lock);
}

/* Is the sandbox awake or frozen, in the start that s tells of? */
static bool is_up(struct supervisor *sup, const struct sandbox *s)
{
    const struct sandbox *now = registry_get(sup->core->registry, &s->id);
    bool up = now && now->epoch == s->epoch &&
              (now->state == SANDBOX_RUNNING || now->state == SANDBOX_PAUSED ||
               now->state == SANDBOX_PAUSING || now->state == SANDBOX_RESUMING);
    core_unref(now);
    return up;
}

/* Makes the home of this start, once; false: it is there. mine: the worker stays away from it until
 * `working` is cleared. */
static bool settle(struct supervisor *sup, const struct sandbox *s, bool mine)
{
    struct services list = { 0 };
    struct process last[SERVICES_MAX];
    bool seen[SERVICES_MAX];
    struct err err;
    const struct sandbox *now = NULL;
    row_begin(sup);
    now = registry_get(sup->core->registry, &s->id);
    if (declared_read(sup->core, now ? now : s, &list, &err) < 0)
        log_warn("service.declaration_refused", KV_STR("id", s->id.text), KV_ERR(&err));
    for (size_t i = 0; i < list.count; i++)
        seen[i] = last_process(sup->core, s, list.items[i].name, &last[i]);
    mu_lock(&sup->lock);
    struct home *h = home_locked(sup, &s->id);
    bool made = !h || h->epoch != s->epoch;
    if (made) {
        drop_locked(sup, &s->id);
        h = new_home_locked(sup, s);
        h->working = mine;
    }
    for (size_t i = 0; made && i < list.count; i++) {
        struct svc *v = svc_add(h, &list.items[i]); /* not above SERVICES_MAX, as the list */
        v->last_run = declared_stopped(&list, v->spec.name);
        v->state = v->last_run ? SERVICE_STOPPED : SERVICE_BACKOFF; /* due at once */
        if (seen[i]) { /* the daemon was started anew under a sandbox that is awake */
            v->has_process = true;
            v->process = last[i].id;
            v->state = SERVICE_RUNNING;
            svc_look_locked(sup, h, v); /* before anybody is told; a later end is the worker's */
        }
    }
    mu_unlock(&sup->lock);
    row_end(sup);
    core_unref(now);
    for (size_t i = 0; made && i < list.count; i++)
        if (seen[i]) /* had it been well, nobody knows any more; unless it is young, do not hold */
            health_expect(sup->core->health, s, &list.items[i],
                          clock_wall_ms() - last[i].started_at_ms <
                              sup->core->p.config->port_wait_ms);
    services_release(&list);
    if (made && !is_up(sup, s)) /* it went down meanwhile: supervisor_down may have found none */
        supervisor_down(sup, &s->id);
    return made;
}

void settle_late(struct supervisor *sup, const struct sandbox *s)
{
    mu_lock(&sup->lock);
    const struct home *h = home_locked(sup, &s->id);
    bool there = h && h->epoch == s->epoch;
    mu_unlock(&sup->lock);
    if (there || !is_up(sup, s))
        return;
    (void)settle(sup, s, false);
    supervisor_wake(sup);
}

void supervisor_up(struct supervisor *sup, const struct sandbox *s)
{
    bool mine = settle(sup, s, true);
    svc_start_due(sup, s);
    mu_lock(&sup->lock);
    struct home *h = home_locked(sup, &s->id);
    if (mine && h && h->epoch == s->epoch)
        h->working = false;
    mu_unlock(&sup->lock);
    supervisor_wake(sup);
}

void supervisor_take_up(struct supervisor *sup, const struct sandbox *s)
{
    (void)settle(sup, s, false);
    supervisor_wake(sup);
}

void supervisor_awake(struct supervisor *sup, const struct sandbox_id *id)
{
    mu_lock(&sup->lock);
    struct home *h = home_locked(sup, id);
    if (h)
        h->asleep = false;
    mu_unlock(&sup->lock);
    supervisor_wake(sup);
}

void supervisor_down(struct supervisor *sup, const struct sandbox_id *id)
{
    mu_lock(&sup->lock);
    drop_locked(sup, id);
    mu_unlock(&sup->lock);
}

bool supervisor_minds(struct supervisor *sup, const struct sandbox_id *id, uint32_t epoch,
                      const char *name)
{
    mu_lock(&sup->lock);
    const struct home *h = home_locked(sup, id);
    const struct svc *v = h && h->epoch == epoch ? in_home(h, name) : NULL;
    bool minds = v && (v->state == SERVICE_RUNNING || v->state == SERVICE_BACKOFF);
    mu_unlock(&sup->lock);
    return minds;
}

void supervisor_ended(struct supervisor *sup)
{
    supervisor_wake(sup);
}

struct supervisor *supervisor_new(struct core *c, struct err *err)
{
    struct supervisor *sup = mem_new(1, sizeof *sup);
    sup->core = c;
    mu_init(&sup->lock, MU_SERVICES);
    cond_init(&sup->declared);
    cond_init(&sup->idle);
    sup->starters = pool_new("services", STARTERS_MAX, STARTERS_BACKLOG, SERVICES_IDLE_MS);
    sup->worker = worker_start("services", svc_tick, sup, err);
    if (sup->worker)
        return sup;
    supervisor_free(sup);
    return NULL;
}

void supervisor_stop(struct supervisor *sup)
{
    if (!sup || !sup->worker)
        return;
    mu_lock(&sup->lock);
    sup->stopping = true;
    mu_unlock(&sup->lock);
    worker_stop(sup->worker);
    sup->worker = NULL;
    pool_stop(sup->starters);
    sup->starters = NULL;
}

void supervisor_free(struct supervisor *sup)
{
    if (!sup)
        return;
    supervisor_stop(sup);
    pool_stop(sup->starters);
    for (size_t i = 0; i < sup->count; i++)
        free_home(sup->homes[i]);
    free(sup->homes);
    cond_release(&sup->declared);
    cond_release(&sup->idle);
    mu_release(&sup->lock);
    free(sup);
}

/* --- what there is --- */

/* Has it said what makes it ready? Asked when somebody wants to know: what has left the ring by
 * then counts as having said it. */
static void hear_locked(struct supervisor *sup, const struct home *h, struct svc *v)
    REQUIRES(sup->lock)
{
    mu_held(&sup->lock);
    if (v->state == SERVICE_RUNNING && !v->said)
        v->said = !v->spec.ready_log || procs_said(sup->core->procs, &h->sandbox, &v->process,
                                                   v->spec.ready_log, &v->said_at);
}

static void copy_info(const struct svc *v, struct service_info *ret)
{
    int64_t left = v->due_ms - clock_mono_ms();
    *ret =
        (struct service_info){ .name = str_dup(v->spec.name),
                               .cmd = str_dup(v->spec.cmd),
                               .port = v->spec.port,
                               .checked = v->spec.health_path != NULL,
                               .said = v->said,
                               .restart = v->spec.restart,
                               .state = v->state,
                               .restarts = v->restarts,
                               .next_start_ms = v->state == SERVICE_BACKOFF && left > 0 ? left : 0,
                               .has_process = v->has_process,
                               .process = v->process,
                               .exit_code = v->exit_code };
    memcpy(ret->problem, v->problem, sizeof ret->problem);
}

size_t supervisor_list(struct supervisor *sup, const struct sandbox_id *id,
                       struct service_info out[SERVICES_MAX])
{
    mu_lock(&sup->lock);
    const struct home *h = home_locked(sup, id);
    size_t n = 0;
    for (size_t i = 0; h && i < h->count; i++) {
        if (h->items[i]->reserved)
            continue;
        svc_look_locked(sup, h, h->items[i]);
        hear_locked(sup, h, h->items[i]);
        copy_info(h->items[i], &out[n++]);
    }
    mu_unlock(&sup->lock);
    return n;
}

bool supervisor_briefs(struct supervisor *sup, const struct sandbox_id *id,
                       struct service_brief out[SERVICES_MAX], size_t *ret_count)
{
    mu_lock(&sup->lock);
    const struct home *h = home_locked(sup, id);
    *ret_count = 0;
    for (size_t i = 0; h && i < h->count; i++) {
        struct svc *v = h->items[i];
        if (v->reserved)
            continue;
        svc_look_locked(sup, h, v);
        out[*ret_count].state = v->state;
        (void)str_copy(out[*ret_count].name, sizeof out[0].name, v->spec.name); /* it fits */
        ++*ret_count;
    }
    mu_unlock(&sup->lock);
    return h != NULL;
}
