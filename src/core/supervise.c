/* Services: started when they are due, and again when they end.
 *
 * An ended process is started again with back-off, for ever; one that cannot even be started says
 * why and is tried again too. The worker looks at what is true (has the process of a running
 * service ended? is another due?), so that nothing hangs on an event that came too early. Agents
 * may keep us waiting: each start is a job of a small pool, one at a time for a sandbox, and a
 * sandbox whose agent does not answer is left alone for a while. */
#include <stdio.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"
#include "base/worker.h"
#include "declared.h"
#include "inside.h"
#include "proc.h"
#include "svc.h"
#include "wire/json.h"

#define BACKOFF_FIRST_MS 500
#define BACKOFF_MAX_MS 30000
#define BACKOFF_RESET_MS 10000 /* ran for so long: the next failure is a first one */
#define SILENT_PAUSE_MS 5000   /* an agent that did not answer is not asked again for so long */

/* --- starting one --- */

int supervisor_spawn(struct core *c, const struct sandbox *s, const struct service *spec,
                     struct process *ret, struct err *err)
{
    AUTO(strv) struct strv argv = { 0 };
    struct strmap env = { 0 };
    char port[8];
    if (json_command(spec->cmd, &argv, err) < 0)
        return -1;
    for (size_t i = 0; i < spec->env.count; i++)
        strmap_add(&env, spec->env.names[i], spec->env.values[i]);
    (void)snprintf(port, sizeof port, "%u", spec->port % 65536);
    if (spec->port && !strmap_get(&env, "PORT") && !strmap_get(&s->env, "PORT"))
        strmap_add(&env, "PORT", port);
    struct process_spec p = { .argv = &argv,
                              .cwd = spec->cwd ? spec->cwd : "/home/sandbox/workspace/app",
                              .env = &env,
                              .service = spec->name };
    int rc = core_process_start_in(c, s, &p, ret, err);
    strmap_release(&env);
    return rc;
}

static void back_off(struct svc *v)
{
    v->backoff_ms = v->backoff_ms ? v->backoff_ms * 2 : BACKOFF_FIRST_MS;
    if (v->backoff_ms > BACKOFF_MAX_MS)
        v->backoff_ms = BACKOFF_MAX_MS;
    v->due_ms = clock_mono_ms() + v->backoff_ms;
    v->state = SERVICE_BACKOFF;
}

void svc_runs(struct svc *v, const struct sandbox_id *process)
{
    v->state = SERVICE_RUNNING;
    v->last_run = false;
    v->has_process = true;
    v->process = *process;
    v->started_ms = clock_mono_ms();
    v->problem[0] = 0;
    v->said = false;
    v->said_at = 0;
}

void svc_take_locked(struct supervisor *sup, struct svc *v, struct service *ret)
{
    mu_held(&sup->lock);
    v->busy = true;
    declared_copy(ret, &v->spec);
}

/* The one that we have taken; NULL: it is gone, or its home, perhaps made anew for another start.
 */
static struct svc *taken_locked(struct supervisor *sup, const struct sandbox *s, const char *name)
    REQUIRES(sup->lock)
{
    const struct home *h = home_locked(sup, &s->id);
    return h && h->epoch == s->epoch ? in_home(h, name) : NULL;
}

/* It was stopped by hand while it was started: over before anybody may start it again. there: its
 * sandbox is still up. */
static void end_in_vain(struct supervisor *sup, const struct sandbox *s, const struct process *p,
                        bool there)
{
    struct err ignored; /* ended already: fine */
    struct proc *q = there ? procs_find(sup->core->procs, &s->id, &p->id) : NULL;
    if (!q)
        (void)link_signal_process(sup->core->p.link, &s->id, p->number, 9, true, &ignored);
    else if (core_end_process(sup->core, q, &ignored) < 0)
        log_warn("service.stays", KV_STR("id", s->id.text), KV_ERR(&ignored));
    if (q)
        procs_unref(sup->core->procs, q);
}

bool svc_start_taken(struct supervisor *sup, const struct sandbox *s, struct service *spec)
{
    struct process p = { 0 };
    struct err err;
    health_expect(sup->core->health, s, spec, true);
    int rc = supervisor_spawn(sup->core, s, spec, &p, &err);
    bool silent = rc < 0 && (err.code == ERR_UNAVAILABLE || err.code == ERR_TIMEOUT);
    mu_lock(&sup->lock);
    struct svc *v = taken_locked(sup, s, spec->name);
    bool there = v, wanted = v && v->state == SERVICE_BACKOFF;
    if (wanted && rc == 0) {
        svc_runs(v, &p.id);
    } else if (wanted) {
        (void)snprintf(v->problem, sizeof v->problem, "%.190s", err.msg);
        back_off(v);
        if (silent)
            home_locked(sup, &s->id)->not_before_ms = clock_mono_ms() + SILENT_PAUSE_MS;
    }
    mu_unlock(&sup->lock);
    if (rc < 0)
        log_warn("service.start_failed", KV_STR("id", s->id.text), KV_STR("service", spec->name),
                 KV_ERR(&err));
    else if (!wanted)
        end_in_vain(sup, s, &p, there);
    mu_lock(&sup->lock);
    v = taken_locked(sup, s, spec->name);
    if (v)
        v->busy = false;
    cond_broadcast(&sup->idle);
    mu_unlock(&sup->lock);
    process_release(&p);
    shape_release(&service_shape, spec);
    supervisor_wake(sup); /* it may have ended before it was noted */
    return !silent;
}

/* --- what is due --- */

static void decide(struct svc *v, const struct process *p)
{
    bool failed = p->state != PROCESS_EXITED || p->exit_code != 0 || p->signal != 0;
    v->exit_code = p->state == PROCESS_EXITED ? p->exit_code : -1;
    if (v->last_run) {
        v->state = SERVICE_STOPPED;
        return;
    }
    if (v->spec.restart == SERVICE_NEVER || (v->spec.restart == SERVICE_ON_FAILURE && !failed)) {
        v->state = SERVICE_ENDED;
        return;
    }
    if (v->started_ms && clock_mono_ms() - v->started_ms > BACKOFF_RESET_MS)
        v->backoff_ms = 0;
    v->restarts++;
    back_off(v);
}

void svc_look_locked(struct supervisor *sup, const struct home *h, struct svc *v)
{
    struct process p;
    mu_held(&sup->lock);
    if (!v->has_process || (v->state != SERVICE_RUNNING && v->state != SERVICE_STOPPED))
        return;
    bool there = procs_peek(sup->core->procs, &h->sandbox, &v->process, &p);
    if (there && p.state == PROCESS_RUNNING)
        return;
    if (!there) /* its record was removed through the API */
        p = (struct process){ .state = PROCESS_LOST };
    if (v->state == SERVICE_RUNNING)
        decide(v, &p);
    else
        v->exit_code = p.state == PROCESS_EXITED ? p.exit_code : -1;
}

struct start_job {
    struct supervisor *supervisor;
    struct sandbox_id sandbox;
    uint32_t epoch;
};

/* Takes one that is due; false: none is. */
static bool take_due(struct supervisor *sup, const struct sandbox *s, struct service *ret)
{
    bool taken = false;
    mu_lock(&sup->lock);
    struct home *h = home_locked(sup, &s->id);
    for (size_t i = 0; h && h->epoch == s->epoch && i < h->count && !taken; i++) {
        struct svc *v = h->items[i];
        taken = v->state == SERVICE_BACKOFF && !v->busy && v->due_ms <= clock_mono_ms();
        if (taken)
            svc_take_locked(sup, v, ret);
    }
    mu_unlock(&sup->lock);
    return taken;
}

void svc_start_due(struct supervisor *sup, const struct sandbox *s)
{
    struct service spec = { 0 };
    while (take_due(sup, s, &spec) && svc_start_taken(sup, s, &spec))
        continue;
}

static void start_job(void *arg)
{
    struct start_job *job = arg;
    struct supervisor *sup = job->supervisor;
    const struct sandbox *s = registry_get(sup->core->registry, &job->sandbox);
    bool up = s && s->state == SANDBOX_RUNNING;
    if (up)
        svc_start_due(sup, s);
    mu_lock(&sup->lock);
    struct home *h = home_locked(sup, &job->sandbox);
    if (h && h->epoch == job->epoch) {
        h->working = false;
        h->asleep = h->asleep || !up;
    }
    mu_unlock(&sup->lock);
    core_unref(s);
    s = up ? NULL : registry_get(sup->core->registry, &job->sandbox);
    if (s && s->state == SANDBOX_RUNNING) /* thawed since we looked: nobody else would say so */
        supervisor_awake(sup, &job->sandbox);
    core_unref(s);
    free(job);
    supervisor_wake(sup);
}

/* When something of this home is due: now (0), or in so many ms. */
static int64_t due_locked(struct supervisor *sup, const struct home *h, int64_t now)
    REQUIRES(sup->lock)
{
    int64_t wait = SERVICES_IDLE_MS;
    for (size_t i = 0; i < h->count; i++) {
        struct svc *v = h->items[i];
        svc_look_locked(sup, h, v);
        if (v->state != SERVICE_BACKOFF || v->busy)
            continue;
        int64_t at = v->due_ms > h->not_before_ms ? v->due_ms : h->not_before_ms;
        if (at - now < wait)
            wait = at > now ? at - now : 0;
    }
    return wait;
}

int64_t svc_tick(void *ctx, int64_t mono_ms)
{
    struct supervisor *sup = ctx;
    int64_t next = SERVICES_IDLE_MS;
    struct err err;
    mu_lock(&sup->lock);
    for (size_t i = 0; i < sup->count; i++) {
        struct home *h = sup->homes[i];
        int64_t wait = due_locked(sup, h, mono_ms);
        if (h->working || h->asleep)
            continue;
        if (wait > 0) {
            next = wait < next ? wait : next;
            continue;
        }
        struct start_job *job = mem_new(1, sizeof *job);
        *job = (struct start_job){ sup, h->sandbox, h->epoch };
        h->working = pool_run(sup->starters, start_job, job, &err) == 0;
        if (!h->working) {
            free(job);
            next = next < BACKOFF_FIRST_MS ? next : BACKOFF_FIRST_MS;
        }
    }
    mu_unlock(&sup->lock);
    return next;
}
