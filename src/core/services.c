/* Services.
 *
 * What is declared lies in the sandbox's row and in its workspace's sandbox.yaml; what runs is a
 * kept process that carries the service's name. This file holds one struct svc for each declared
 * service of a sandbox that is awake: made when the sandbox comes up, dropped when it goes down. An
 * ended process is started again with back-off, for ever; one that cannot even be started says why
 * and is tried again too.
 *
 * Recovery: after a restart of the daemon the list is made anew for every sandbox that is awake,
 * and takes up the processes that still run. */
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
#define IDLE_TICK_MS 60000

struct svc {
    struct sandbox_id sandbox;
    uint32_t epoch;
    struct service spec;
    enum service_state state;
    bool has_process, busy; /* busy: somebody is starting it */
    struct sandbox_id process;
    uint32_t restarts;
    int64_t backoff_ms, due_ms, started_ms; /* due, started: monotonic */
    int exit_code;
    char problem[200];
};

struct keepers {
    struct core *core;
    struct mu lock;
    struct svc **items GUARDED_BY(lock);
    size_t count GUARDED_BY(lock), room GUARDED_BY(lock);
    struct worker *worker;
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

static void free_svc(struct svc *v)
{
    shape_release(&service_shape, &v->spec);
    free(v);
}

/* --- the list --- */

static struct svc *find_locked(struct keepers *k, const struct sandbox_id *id, const char *name)
    REQUIRES(k->lock)
{
    mu_held(&k->lock);
    for (size_t i = 0; i < k->count; i++)
        if (sandbox_id_eq(&k->items[i]->sandbox, id) && str_eq(k->items[i]->spec.name, name))
            return k->items[i];
    return NULL;
}

static void drop_locked(struct keepers *k, const struct sandbox_id *id) REQUIRES(k->lock)
{
    size_t kept = 0;
    mu_held(&k->lock);
    for (size_t i = 0; i < k->count; i++) {
        if (sandbox_id_eq(&k->items[i]->sandbox, id))
            free_svc(k->items[i]);
        else
            k->items[kept++] = k->items[i];
    }
    k->count = kept;
}

static struct svc *add_locked(struct keepers *k, const struct sandbox *s,
                              const struct service *spec) REQUIRES(k->lock)
{
    mu_held(&k->lock);
    if (k->count == k->room) {
        k->room = k->room ? k->room * 2 : 16;
        k->items = reallocarray(k->items, k->room, sizeof(struct svc *));
        if (!k->items)
            abort();
    }
    struct svc *v = mem_new(1, sizeof *v);
    v->sandbox = s->id;
    v->epoch = s->epoch;
    v->exit_code = -1;
    declared_copy(&v->spec, spec);
    k->items[k->count++] = v;
    return v;
}

/* --- starting one --- */

static int spawn(struct core *c, const struct sandbox *s, const struct service *spec,
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

/* Starts the service of that name if it waits for it; the lock is not held while the agent works.
 */
static void start_one(struct keepers *k, const struct sandbox *s, const char *name)
{
    struct service spec = { 0 };
    struct process p = { 0 };
    struct err err;
    mu_lock(&k->lock);
    struct svc *v = find_locked(k, &s->id, name);
    bool mine = v && !v->busy && v->epoch == s->epoch && v->state == SERVICE_BACKOFF;
    if (mine) {
        v->busy = true;
        declared_copy(&spec, &v->spec);
    }
    mu_unlock(&k->lock);
    if (!mine)
        return;
    int rc = spawn(k->core, s, &spec, &p, &err);
    mu_lock(&k->lock);
    v = find_locked(k, &s->id, name); /* the list may have been made anew */
    bool wanted = v && v->epoch == s->epoch && v->busy && v->state == SERVICE_BACKOFF;
    if (v && v->epoch == s->epoch)
        v->busy = false;
    if (wanted && rc == 0) {
        v->state = SERVICE_RUNNING;
        v->has_process = true;
        v->process = p.id;
        v->started_ms = clock_mono_ms();
        v->problem[0] = 0;
    } else if (wanted) {
        (void)snprintf(v->problem, sizeof v->problem, "%.190s", err.msg);
        back_off(v);
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
}

static int64_t keeper_tick(void *ctx, int64_t mono_ms)
{
    struct keepers *k = ctx;
    int64_t next = IDLE_TICK_MS;
    for (;;) {
        struct sandbox_id id;
        char name[SERVICE_NAME_MAX + 1];
        bool due = false;
        mu_lock(&k->lock);
        next = IDLE_TICK_MS;
        for (size_t i = 0; i < k->count && !due; i++) {
            struct svc *v = k->items[i];
            if (v->state != SERVICE_BACKOFF || v->busy)
                continue;
            due = v->due_ms <= mono_ms;
            if (!due && v->due_ms - mono_ms < next)
                next = v->due_ms - mono_ms;
            id = v->sandbox;
            (void)str_copy(name, sizeof name, v->spec.name); /* checked when declared */
        }
        mu_unlock(&k->lock);
        if (!due)
            return next;
        const struct sandbox *s = registry_get(k->core->registry, &id);
        if (s && s->state == SANDBOX_RUNNING) {
            start_one(k, s, name);
        } else { /* frozen, or on its way: looked at again when it is up */
            mu_lock(&k->lock);
            struct svc *v = find_locked(k, &id, name);
            if (v)
                v->due_ms = mono_ms + BACKOFF_MAX_MS;
            mu_unlock(&k->lock);
        }
        core_unref(s);
        mono_ms = clock_mono_ms();
    }
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
        if (!found && str_eq(list[i]->info.service, name) && list[i]->info.epoch == s->epoch) {
            procs_lock(c->procs);
            *ret = list[i]->info;
            procs_unlock(c->procs);
            ret->argv = ret->cwd = ret->service = NULL;
            found = true;
        }
        procs_unref(c->procs, list[i]);
    }
    free(list);
    return found;
}

static void decide(struct svc *v, const struct process *p)
{
    bool failed = p->state != PROCESS_EXITED || p->exit_code != 0 || p->signal != 0;
    v->exit_code = p->exit_code;
    if (v->spec.restart == SERVICE_NEVER || (v->spec.restart == SERVICE_ON_FAILURE && !failed)) {
        v->state = SERVICE_ENDED;
        return;
    }
    if (v->started_ms && clock_mono_ms() - v->started_ms > BACKOFF_RESET_MS)
        v->backoff_ms = 0;
    v->restarts++;
    back_off(v);
}

void keepers_up(struct keepers *k, const struct sandbox *s)
{
    struct services list = { 0 };
    struct err err;
    if (declared_read(k->core, s, &list, &err) < 0)
        log_warn("service.declaration_refused", KV_STR("id", s->id.text), KV_ERR(&err));
    mu_lock(&k->lock);
    drop_locked(k, &s->id);
    mu_unlock(&k->lock);
    for (size_t i = 0; i < list.count; i++) {
        struct process p;
        bool seen = last_process(k->core, s, list.items[i].name, &p);
        mu_lock(&k->lock);
        struct svc *v = add_locked(k, s, &list.items[i]);
        v->state = SERVICE_BACKOFF; /* due at once */
        if (seen) {                 /* the daemon was started anew under a sandbox that is awake */
            v->has_process = true;
            v->process = p.id;
            if (p.state == PROCESS_RUNNING)
                v->state = SERVICE_RUNNING;
            else
                decide(v, &p);
        }
        mu_unlock(&k->lock);
        start_one(k, s, list.items[i].name);
    }
    services_release(&list);
    worker_wake(k->worker);
}

void keepers_down(struct keepers *k, const struct sandbox_id *id)
{
    mu_lock(&k->lock);
    drop_locked(k, id);
    mu_unlock(&k->lock);
}

void keepers_ended(struct keepers *k, const struct process *p)
{
    const struct sandbox *s = registry_get(k->core->registry, &p->sandbox);
    bool up =
        s && s->epoch == p->epoch &&
        (s->state == SANDBOX_RUNNING || s->state == SANDBOX_PAUSED || s->state == SANDBOX_RESUMING);
    core_unref(s);
    mu_lock(&k->lock);
    struct svc *v = find_locked(k, &p->sandbox, p->service);
    if (up && v && v->epoch == p->epoch && v->has_process && sandbox_id_eq(&v->process, &p->id)) {
        if (v->state == SERVICE_RUNNING)
            decide(v, p);
        else
            v->exit_code = p->exit_code;
    }
    mu_unlock(&k->lock);
    worker_wake(k->worker);
}

int keepers_declare(struct keepers *k, const struct sandbox *s, const struct service *spec,
                    const struct sandbox_id *process, struct err *err)
{
    if (declared_add(k->core, s, spec, err) < 0)
        return -1;
    mu_lock(&k->lock);
    struct svc *v = find_locked(k, &s->id, spec->name);
    if (v) {
        shape_release(&service_shape, &v->spec);
        declared_copy(&v->spec, spec);
        v->epoch = s->epoch;
    } else {
        v = add_locked(k, s, spec);
    }
    v->state = SERVICE_RUNNING;
    v->has_process = true;
    v->process = *process;
    v->started_ms = clock_mono_ms();
    v->restarts = 0;
    v->backoff_ms = 0;
    v->problem[0] = 0;
    mu_unlock(&k->lock);
    return 0;
}

struct keepers *keepers_new(struct core *c, struct err *err)
{
    struct keepers *k = mem_new(1, sizeof *k);
    k->core = c;
    mu_init(&k->lock, MU_SERVICES);
    k->worker = worker_start("services", keeper_tick, k, err);
    if (k->worker)
        return k;
    mu_release(&k->lock);
    free(k);
    return NULL;
}

void keepers_free(struct keepers *k)
{
    if (!k)
        return;
    worker_stop(k->worker);
    for (size_t i = 0; i < k->count; i++)
        free_svc(k->items[i]);
    free(k->items);
    mu_release(&k->lock);
    free(k);
}

/* --- by hand --- */

void service_info_release(struct service_info *i)
{
    free(i->name);
    free(i->cmd);
    *i = (struct service_info){ 0 };
}

static void copy_info(struct core *c, const struct svc *v, struct service_info *ret)
{
    int64_t left = v->due_ms - clock_mono_ms();
    (void)c;
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

static bool listens(struct core *c, const struct sandbox_id *id, uint32_t port)
{
    struct link_port ports[LINK_PORTS_MAX];
    size_t n = link_ports(c->p.link, id, ports, LINK_PORTS_MAX);
    for (size_t i = 0; i < n; i++)
        if (ports[i].port == port)
            return true;
    return false;
}

int core_services(struct core *c, const struct caller *who, const struct sandbox_id *id,
                  struct service_info **ret, size_t *ret_count, char problem[320], struct err *err)
{
    struct services declared = { 0 };
    struct err bad = { .msg = "" };
    struct keepers *k = c->keepers;
    const struct sandbox *s = core_own_row(c, who, id, err);
    if (!s)
        return -1;
    if (declared_read(c, s, &declared, &bad) < 0)
        (void)str_copy(problem, 320, bad.msg);
    else
        problem[0] = 0;
    core_unref(s);
    struct service_info *list = mem_new(SERVICES_MAX * 2, sizeof *list);
    size_t n = 0;
    mu_lock(&k->lock);
    for (size_t i = 0; i < k->count && n < SERVICES_MAX; i++)
        if (sandbox_id_eq(&k->items[i]->sandbox, id))
            copy_info(c, k->items[i], &list[n++]);
    for (size_t i = 0; i < declared.count;
         i++) { /* asleep, or declared since: not in the list yet */
        if (find_locked(k, id, declared.items[i].name))
            continue;
        list[n++] = (struct service_info){ .name = str_dup(declared.items[i].name),
                                           .cmd = str_dup(declared.items[i].cmd),
                                           .port = declared.items[i].port,
                                           .restart = declared.items[i].restart,
                                           .exit_code = -1 };
    }
    mu_unlock(&k->lock);
    for (size_t i = 0; i < n; i++)
        list[i].listening = list[i].port && listens(c, id, list[i].port);
    services_release(&declared);
    *ret = list;
    *ret_count = n;
    return 0;
}

static int no_service(const char *name, struct err *err)
{
    return err_set(err, ERR_NOT_FOUND, "no service %.40s", name);
}

/* Ends what runs; the service stays down until it is started. */
static int stop_one(struct keepers *k, const struct sandbox_id *id, const char *name,
                    struct err *err)
{
    struct sandbox_id process = { { 0 } };
    mu_lock(&k->lock);
    struct svc *v = find_locked(k, id, name);
    if (v && v->state == SERVICE_RUNNING)
        process = v->process;
    if (v)
        v->state = SERVICE_STOPPED;
    mu_unlock(&k->lock);
    if (!v)
        return no_service(name, err);
    struct proc *p = process.text[0] ? procs_find(k->core->procs, id, &process) : NULL;
    int rc = 0;
    if (p)
        rc = core_end_process(k->core, p, err);
    if (p)
        procs_unref(k->core->procs, p);
    return rc;
}

int core_service_act(struct core *c, const struct caller *who, const struct sandbox_id *id,
                     const char *name, enum service_act act, struct err *err)
{
    struct keepers *k = c->keepers;
    const struct sandbox *s;
    if (act == SERVICE_STOP) {
        s = core_own_row(c, who, id, err);
        if (!s)
            return -1;
    } else if (core_start(c, who, id, &s, err) < 0) {
        return -1;
    }
    int rc = act == SERVICE_START ? 0 : stop_one(k, id, name, err);
    if (rc == 0 && act != SERVICE_STOP) {
        mu_lock(&k->lock);
        struct svc *v = find_locked(k, id, name);
        if (v && v->state != SERVICE_RUNNING) {
            v->state = SERVICE_BACKOFF;
            v->due_ms = 0;
            v->backoff_ms = 0;
            v->restarts = 0;
            v->epoch = s->epoch;
        }
        mu_unlock(&k->lock);
        rc = v ? 0 : no_service(name, err);
        if (rc == 0)
            start_one(k, s, name);
    }
    core_unref(s);
    return rc;
}

int core_service_processes(struct core *c, const struct caller *who, const struct sandbox_id *id,
                           const char *name, struct process **ret, size_t *ret_count,
                           struct err *err)
{
    struct process *all;
    size_t n, kept = 0;
    if (core_process_list(c, who, id, &all, &n, err) < 0)
        return -1;
    for (size_t i = 0; i < n; i++) {
        if (str_eq(all[i].service, name))
            all[kept++] = all[i];
        else
            process_release(&all[i]);
    }
    for (size_t i = 0; i < kept / 2; i++) { /* oldest first */
        struct process p = all[i];
        all[i] = all[kept - 1 - i];
        all[kept - 1 - i] = p;
    }
    *ret = all;
    *ret_count = kept;
    return 0;
}

int core_service_add(struct core *c, const struct caller *who, const struct sandbox_id *id,
                     const struct service *spec, struct process *ret, struct err *err)
{
    const struct sandbox *s;
    if (service_check(spec, err) < 0 || core_start(c, who, id, &s, err) < 0)
        return -1;
    struct err ignored;
    (void)stop_one(c->keepers, id, spec->name,
                   &ignored); /* one of that name is replaced; none is fine */
    int rc = spawn(c, s, spec, ret, err);
    if (rc == 0 && keepers_declare(c->keepers, s, spec, &ret->id, err) < 0) {
        process_release(ret);
        rc = -1;
    }
    core_unref(s);
    return rc;
}

void core_process_ended(struct core *c, struct proc *p)
{
    struct process info =
        p->info; /* ended: nothing of it changes any more; the texts are borrowed */
    if (info.service && c->keepers)
        keepers_ended(c->keepers, &info);
}
