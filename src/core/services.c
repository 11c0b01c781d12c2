/* Services.
 *
 * What is declared lies in the sandbox's row and in its workspace's sandbox.yaml; what runs is a
 * kept process that carries the service's name. This file holds one struct home for each sandbox
 * that is awake or frozen, made when it comes up and dropped when it goes down, with one struct svc
 * for each of its services. An ended process is started again with back-off, for ever; one that
 * cannot even be started says why and is tried again too.
 *
 * The worker looks at what is true (has the process of a running service ended? is another due?),
 * so that nothing hangs on an event that came too early. Agents may keep us waiting: each start is
 * a job of a small pool, one at a time for a sandbox, and a sandbox whose agent does not answer is
 * left alone for a while.
 *
 * Recovery: after a restart of the daemon the list is made anew for every sandbox that is awake,
 * and takes up the processes that still run. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/str.h"
#include "base/worker.h"
#include "declared.h"
#include "inside.h"
#include "proc.h"
#include "services.h"
#include "wire/json.h"

#define BACKOFF_FIRST_MS 500
#define BACKOFF_MAX_MS 30000
#define BACKOFF_RESET_MS 10000 /* ran for so long: the next failure is a first one */
#define SILENT_PAUSE_MS 5000   /* an agent that did not answer is not asked again for so long */
#define IDLE_TICK_MS 60000
#define STARTERS_MAX 8
#define STARTERS_BACKLOG 1024

struct svc {
    struct service spec;
    enum service_state state;
    bool has_process, busy; /* busy: somebody is starting it */
    struct sandbox_id process;
    uint32_t restarts;
    int64_t backoff_ms, due_ms, started_ms; /* due, started: monotonic */
    int exit_code;
    char problem[200];
};

struct home {
    struct sandbox_id sandbox;
    uint32_t epoch;
    struct svc *items[SERVICES_MAX];
    size_t count;
    bool working;          /* a job is at it */
    bool asleep;           /* found frozen, or on its way: nothing is due until keepers_awake */
    int64_t not_before_ms; /* monotonic */
};

struct keepers {
    struct core *core;
    struct mu lock;
    struct cond declared;
    bool declaring GUARDED_BY(lock); /* somebody rewrites the services of a row */
    bool stopping GUARDED_BY(lock);
    struct home **homes GUARDED_BY(lock);
    size_t count GUARDED_BY(lock), room GUARDED_BY(lock);
    struct worker *worker;
    struct pool *starters;
};

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

static void free_home(struct home *h)
{
    for (size_t i = 0; i < h->count; i++) {
        shape_release(&service_shape, &h->items[i]->spec);
        free(h->items[i]);
    }
    free(h);
}

static struct home *home_locked(struct keepers *k, const struct sandbox_id *id) REQUIRES(k->lock)
{
    mu_held(&k->lock);
    for (size_t i = 0; i < k->count; i++)
        if (sandbox_id_eq(&k->homes[i]->sandbox, id))
            return k->homes[i];
    return NULL;
}

static struct svc *in_home(const struct home *h, const char *name)
{
    for (size_t i = 0; h && i < h->count; i++)
        if (str_eq(h->items[i]->spec.name, name))
            return h->items[i];
    return NULL;
}

static struct svc *find_locked(struct keepers *k, const struct sandbox_id *id, const char *name)
    REQUIRES(k->lock)
{
    return in_home(home_locked(k, id), name);
}

/* NULL when it is full. */
static struct svc *add_svc(struct home *h, const struct service *spec)
{
    if (h->count == SERVICES_MAX)
        return NULL;
    struct svc *v = mem_new(1, sizeof *v);
    v->exit_code = -1;
    declared_copy(&v->spec, spec);
    h->items[h->count++] = v;
    return v;
}

static struct home *new_home_locked(struct keepers *k, const struct sandbox *s) REQUIRES(k->lock)
{
    mu_held(&k->lock);
    if (k->count == k->room) {
        k->room = k->room ? k->room * 2 : 16;
        k->homes = reallocarray(k->homes, k->room, sizeof(struct home *));
        if (!k->homes)
            abort();
    }
    struct home *h = mem_new(1, sizeof *h);
    h->sandbox = s->id;
    h->epoch = s->epoch;
    k->homes[k->count++] = h;
    return h;
}

static void drop_locked(struct keepers *k, const struct sandbox_id *id) REQUIRES(k->lock)
{
    mu_held(&k->lock);
    for (size_t i = 0; i < k->count; i++) {
        if (!sandbox_id_eq(&k->homes[i]->sandbox, id))
            continue;
        free_home(k->homes[i]);
        k->homes[i] = k->homes[--k->count];
        return;
    }
}

static void wake(struct keepers *k)
{
    mu_lock(&k->lock);
    if (!k->stopping)
        worker_wake(k->worker);
    mu_unlock(&k->lock);
}

/* --- starting one --- */

int keepers_spawn(struct core *c, const struct sandbox *s, const struct service *spec,
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

static void runs_now(struct svc *v, const struct sandbox_id *process)
{
    v->state = SERVICE_RUNNING;
    v->has_process = true;
    v->process = *process;
    v->started_ms = clock_mono_ms();
    v->problem[0] = 0;
}

/* Starts the service of that name if it waits for it; the lock is not held while the agent works.
 * false: the agent does not answer. */
static bool start_one(struct keepers *k, const struct sandbox *s, const char *name)
{
    struct service spec = { 0 };
    struct process p = { 0 };
    struct err err;
    mu_lock(&k->lock);
    struct home *h = home_locked(k, &s->id);
    struct svc *v = in_home(h, name);
    bool mine = v && h->epoch == s->epoch && !v->busy && v->state == SERVICE_BACKOFF;
    if (mine) {
        v->busy = true;
        declared_copy(&spec, &v->spec);
    }
    mu_unlock(&k->lock);
    if (!mine)
        return true;
    int rc = keepers_spawn(k->core, s, &spec, &p, &err);
    bool silent = rc < 0 && (err.code == ERR_UNAVAILABLE || err.code == ERR_TIMEOUT);
    mu_lock(&k->lock);
    h = home_locked(k, &s->id); /* dropped, perhaps made anew for another start */
    v = h && h->epoch == s->epoch ? in_home(h, name) : NULL;
    bool wanted = v && v->state == SERVICE_BACKOFF;
    if (v)
        v->busy = false;
    if (wanted && rc == 0) {
        runs_now(v, &p.id);
    } else if (wanted) {
        (void)snprintf(v->problem, sizeof v->problem, "%.190s", err.msg);
        back_off(v);
        if (silent)
            h->not_before_ms = clock_mono_ms() + SILENT_PAUSE_MS;
    }
    mu_unlock(&k->lock);
    if (rc < 0)
        log_warn("service.start_failed", KV_STR("id", s->id.text), KV_STR("service", name),
                 KV_ERR(&err));
    else if (!wanted) /* stopped by hand meanwhile */
        (void)link_signal_process(k->core->p.link, &s->id, p.number, 9, true,
                                  &err); /* ended already: fine */
    process_release(&p);
    shape_release(&service_shape, &spec);
    wake(k); /* it may have ended before it was noted */
    return !silent;
}

/* --- what is due --- */

static void decide(struct svc *v, const struct process *p)
{
    bool failed = p->state != PROCESS_EXITED || p->exit_code != 0 || p->signal != 0;
    v->exit_code = p->state == PROCESS_EXITED ? p->exit_code : -1;
    if (v->spec.restart == SERVICE_NEVER || (v->spec.restart == SERVICE_ON_FAILURE && !failed)) {
        v->state = SERVICE_ENDED;
        return;
    }
    if (v->started_ms && clock_mono_ms() - v->started_ms > BACKOFF_RESET_MS)
        v->backoff_ms = 0;
    v->restarts++;
    back_off(v);
}

/* Has the process of a service ended since we looked? */
static void look_locked(struct keepers *k, const struct home *h, struct svc *v) REQUIRES(k->lock)
{
    struct process p;
    mu_held(&k->lock);
    if (!v->has_process || (v->state != SERVICE_RUNNING && v->state != SERVICE_STOPPED))
        return;
    bool there = procs_peek(k->core->procs, &h->sandbox, &v->process, &p);
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
    struct keepers *keepers;
    struct sandbox_id sandbox;
    uint32_t epoch;
};

/* The name of one that is due. */
static bool take_due(struct keepers *k, const struct sandbox *s, char name[SERVICE_NAME_MAX + 1])
{
    bool due = false;
    mu_lock(&k->lock);
    struct home *h = home_locked(k, &s->id);
    for (size_t i = 0; h && h->epoch == s->epoch && i < h->count && !due; i++) {
        struct svc *v = h->items[i];
        due = v->state == SERVICE_BACKOFF && !v->busy && v->due_ms <= clock_mono_ms();
        if (due)
            (void)str_copy(name, SERVICE_NAME_MAX + 1, v->spec.name); /* checked when declared */
    }
    mu_unlock(&k->lock);
    return due;
}

static void start_job(void *arg)
{
    struct start_job *job = arg;
    struct keepers *k = job->keepers;
    char name[SERVICE_NAME_MAX + 1];
    const struct sandbox *s = registry_get(k->core->registry, &job->sandbox);
    bool up = s && s->state == SANDBOX_RUNNING;
    while (up && take_due(k, s, name) && start_one(k, s, name))
        continue;
    mu_lock(&k->lock);
    struct home *h = home_locked(k, &job->sandbox);
    if (h && h->epoch == job->epoch) {
        h->working = false;
        h->asleep = h->asleep || !up;
    }
    mu_unlock(&k->lock);
    core_unref(s);
    free(job);
    wake(k);
}

/* When something of this home is due: now (0), or in so many ms. */
static int64_t due_locked(struct keepers *k, const struct home *h, int64_t now) REQUIRES(k->lock)
{
    int64_t wait = IDLE_TICK_MS;
    for (size_t i = 0; i < h->count; i++) {
        struct svc *v = h->items[i];
        look_locked(k, h, v);
        if (v->state != SERVICE_BACKOFF || v->busy)
            continue;
        int64_t at = v->due_ms > h->not_before_ms ? v->due_ms : h->not_before_ms;
        if (at - now < wait)
            wait = at > now ? at - now : 0;
    }
    return wait;
}

static int64_t services_tick(void *ctx, int64_t mono_ms)
{
    struct keepers *k = ctx;
    int64_t next = IDLE_TICK_MS;
    struct err err;
    mu_lock(&k->lock);
    for (size_t i = 0; i < k->count; i++) {
        struct home *h = k->homes[i];
        int64_t wait = due_locked(k, h, mono_ms);
        if (h->working || h->asleep)
            continue;
        if (wait > 0) {
            next = wait < next ? wait : next;
            continue;
        }
        struct start_job *job = mem_new(1, sizeof *job);
        *job = (struct start_job){ k, h->sandbox, h->epoch };
        h->working = pool_run(k->starters, start_job, job, &err) == 0;
        if (!h->working) {
            free(job);
            next = next < BACKOFF_FIRST_MS ? next : BACKOFF_FIRST_MS;
        }
    }
    mu_unlock(&k->lock);
    return next;
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

/* Makes the home of this start, once; false: it is there. mine: the worker stays away from it until
 * `working` is cleared. */
static bool settle(struct keepers *k, const struct sandbox *s, bool mine)
{
    struct services list = { 0 };
    struct process last[SERVICES_MAX];
    bool seen[SERVICES_MAX];
    struct err err;
    if (declared_read(k->core, s, &list, &err) < 0)
        log_warn("service.declaration_refused", KV_STR("id", s->id.text), KV_ERR(&err));
    for (size_t i = 0; i < list.count; i++)
        seen[i] = last_process(k->core, s, list.items[i].name, &last[i]);
    mu_lock(&k->lock);
    struct home *h = home_locked(k, &s->id);
    bool made = !h || h->epoch != s->epoch;
    if (made) {
        drop_locked(k, &s->id);
        h = new_home_locked(k, s);
        h->working = mine;
    }
    for (size_t i = 0; made && i < list.count; i++) {
        struct svc *v = add_svc(h, &list.items[i]); /* not above SERVICES_MAX, as the list */
        v->state = SERVICE_BACKOFF;                 /* due at once */
        if (seen[i]) { /* the daemon was started anew under a sandbox that is awake */
            v->has_process = true;
            v->process = last[i].id;
            v->state = SERVICE_RUNNING; /* if it has ended, the worker finds out */
        }
    }
    mu_unlock(&k->lock);
    services_release(&list);
    return made;
}

void keepers_up(struct keepers *k, const struct sandbox *s)
{
    char name[SERVICE_NAME_MAX + 1];
    if (!settle(k, s, true))
        return;
    while (take_due(k, s, name) && start_one(k, s, name))
        continue;
    mu_lock(&k->lock);
    struct home *h = home_locked(k, &s->id);
    if (h && h->epoch == s->epoch)
        h->working = false;
    mu_unlock(&k->lock);
    wake(k);
}

void keepers_take_up(struct keepers *k, const struct sandbox *s)
{
    (void)settle(k, s, false);
    wake(k);
}

void keepers_awake(struct keepers *k, const struct sandbox_id *id)
{
    mu_lock(&k->lock);
    struct home *h = home_locked(k, id);
    if (h)
        h->asleep = false;
    mu_unlock(&k->lock);
    wake(k);
}

void keepers_down(struct keepers *k, const struct sandbox_id *id)
{
    mu_lock(&k->lock);
    drop_locked(k, id);
    mu_unlock(&k->lock);
}

void keepers_ended(struct keepers *k)
{
    wake(k);
}

/* One at a time: a row's services are read, changed and written back. */
static int add_to_row(struct keepers *k, const struct sandbox *s, const struct service *spec,
                      struct err *err)
{
    mu_lock(&k->lock);
    while (k->declaring)
        cond_wait(&k->declared, &k->lock);
    k->declaring = true;
    mu_unlock(&k->lock);
    int rc = declared_add(k->core, s, spec, err);
    mu_lock(&k->lock);
    k->declaring = false;
    cond_broadcast(&k->declared);
    mu_unlock(&k->lock);
    return rc;
}

int keepers_room(struct keepers *k, const struct sandbox *s, const char *name, struct err *err)
{
    mu_lock(&k->lock);
    const struct home *h = home_locked(k, &s->id);
    bool full = h && h->count == SERVICES_MAX && !in_home(h, name);
    mu_unlock(&k->lock);
    return full ? err_set(err, ERR_CAPACITY, "the sandbox has %d services already", SERVICES_MAX)
                : 0;
}

int keepers_declare(struct keepers *k, const struct sandbox *s, const struct service *spec,
                    const struct sandbox_id *process, struct err *err)
{
    if (keepers_room(k, s, spec->name, err) < 0 || add_to_row(k, s, spec, err) < 0)
        return -1;
    mu_lock(&k->lock);
    struct home *h = home_locked(k, &s->id);
    if (!h) /* a start of its own is under way, or none any more: the row tells it */
        h = new_home_locked(k, s);
    struct svc *v = in_home(h, spec->name);
    if (v) {
        shape_release(&service_shape, &v->spec);
        declared_copy(&v->spec, spec);
    } else {
        v = add_svc(h, spec);
    }
    if (v && h->epoch == s->epoch) {
        runs_now(v, process);
        v->restarts = 0;
        v->backoff_ms = 0;
    }
    mu_unlock(&k->lock);
    wake(k); /* it may have ended already */
    return 0;
}

void keepers_free_name(struct keepers *k, const struct sandbox *s, const char *cmd,
                       char name[SERVICE_NAME_MAX + 1])
{
    char base[SERVICE_NAME_MAX + 1];
    (void)str_copy(base, sizeof base, name); /* as long */
    mu_lock(&k->lock);
    for (int i = 2; i < 2 * SERVICES_MAX; i++) {
        const struct svc *v = find_locked(k, &s->id, name);
        if (!v || (v->state != SERVICE_RUNNING && str_eq(v->spec.cmd, cmd)))
            break;
        (void)snprintf(name, SERVICE_NAME_MAX + 1, "%.*s-%d", SERVICE_NAME_MAX - 3, base, i);
    }
    mu_unlock(&k->lock);
}

struct keepers *keepers_new(struct core *c, struct err *err)
{
    struct keepers *k = mem_new(1, sizeof *k);
    k->core = c;
    mu_init(&k->lock, MU_SERVICES);
    cond_init(&k->declared);
    k->starters = pool_new("services", STARTERS_MAX, STARTERS_BACKLOG, IDLE_TICK_MS);
    k->worker = worker_start("services", services_tick, k, err);
    if (k->worker)
        return k;
    keepers_free(k);
    return NULL;
}

void keepers_stop(struct keepers *k)
{
    if (!k || !k->worker)
        return;
    mu_lock(&k->lock);
    k->stopping = true;
    mu_unlock(&k->lock);
    worker_stop(k->worker);
    k->worker = NULL;
    pool_stop(k->starters);
    k->starters = NULL;
}

void keepers_free(struct keepers *k)
{
    if (!k)
        return;
    keepers_stop(k);
    pool_stop(k->starters);
    for (size_t i = 0; i < k->count; i++)
        free_home(k->homes[i]);
    free(k->homes);
    cond_release(&k->declared);
    mu_release(&k->lock);
    free(k);
}

/* --- by hand --- */

static void copy_info(const struct svc *v, struct service_info *ret)
{
    int64_t left = v->due_ms - clock_mono_ms();
    *ret =
        (struct service_info){ .name = str_dup(v->spec.name),
                               .cmd = str_dup(v->spec.cmd),
                               .port = v->spec.port,
                               .restart = v->spec.restart,
                               .state = v->state,
                               .restarts = v->restarts,
                               .next_start_ms = v->state == SERVICE_BACKOFF && left > 0 ? left : 0,
                               .has_process = v->has_process,
                               .process = v->process,
                               .exit_code = v->exit_code };
    memcpy(ret->problem, v->problem, sizeof ret->problem);
}

size_t keepers_list(struct keepers *k, const struct sandbox_id *id,
                    struct service_info out[SERVICES_MAX])
{
    mu_lock(&k->lock);
    const struct home *h = home_locked(k, id);
    size_t n = h ? h->count : 0;
    for (size_t i = 0; i < n; i++)
        copy_info(h->items[i], &out[i]);
    mu_unlock(&k->lock);
    return n;
}

static int no_service(const char *name, struct err *err)
{
    return err_set(err, ERR_NOT_FOUND, "no service %.40s", name);
}

/* Ends what runs and waits for its end, so that another finds its port free; the service stays down
 * until it is started. */
int keepers_halt(struct keepers *k, const struct sandbox *s, const char *name, struct err *err)
{
    struct sandbox_id process = { { 0 } };
    mu_lock(&k->lock);
    struct svc *v = find_locked(k, &s->id, name);
    if (v && v->state == SERVICE_RUNNING)
        process = v->process;
    if (v)
        v->state = SERVICE_STOPPED;
    mu_unlock(&k->lock);
    if (!v)
        return no_service(name, err);
    struct proc *p = process.text[0] ? procs_find(k->core->procs, &s->id, &process) : NULL;
    if (!p)
        return 0;
    int rc = s->state == SANDBOX_RUNNING
                 ? core_end_process(k->core, p, err)
                 : link_signal_process(k->core->p.link, &s->id, p->info.number, SIGKILL, true, err);
    procs_unref(k->core->procs, p);
    wake(k);
    return rc;
}

/* One that was declared in the file since the sandbox came up joins the list. */
static void join_late(struct keepers *k, const struct sandbox *s, const char *name)
{
    struct services list;
    struct err ignored; /* a wrong file declares nothing; core_services tells */
    (void)declared_read(k->core, s, &list, &ignored);
    mu_lock(&k->lock);
    struct home *h = home_locked(k, &s->id);
    for (size_t i = 0; h && i < list.count; i++)
        if (str_eq(list.items[i].name, name) && !in_home(h, name))
            (void)add_svc(h, &list.items[i]); /* no room: not found, then */
    mu_unlock(&k->lock);
    services_release(&list);
}

int keepers_start(struct keepers *k, const struct sandbox *s, const char *name, struct err *err)
{
    join_late(k, s, name);
    mu_lock(&k->lock);
    struct home *h = home_locked(k, &s->id);
    struct svc *v = in_home(h, name);
    if (v && v->state != SERVICE_RUNNING) {
        v->state = SERVICE_BACKOFF;
        v->due_ms = 0;
        v->backoff_ms = 0;
        v->restarts = 0;
        h->not_before_ms = 0;
    }
    mu_unlock(&k->lock);
    if (!v)
        return no_service(name, err);
    (void)start_one(k, s, name); /* a failure shows in the list, and is tried again */
    return 0;
}
