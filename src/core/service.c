/* What owners do with services: look, start, stop, restart, add. Private parts are in services.c.
 */
#include "core/service.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "base/log.h"
#include "base/str.h"
#include "declared.h"
#include "inside.h"
#include "proc.h"
#include "services.h"

void service_info_release(struct service_info *i)
{
    free(i->name);
    free(i->cmd);
    *i = (struct service_info){ 0 };
}

size_t core_service_briefs(struct core *c, const struct sandbox *s,
                           struct service_brief out[SERVICES_MAX])
{
    struct services list = { 0 };
    struct err ignored; /* the row's JSON is our own */
    size_t n;
    if (supervisor_briefs(c->supervisor, &s->id, out, &n))
        return n;
    (void)declared_read_row(s, &list, &ignored);
    n = list.count;
    for (size_t i = 0; i < n; i++) {
        out[i].state = SERVICE_STOPPED;
        (void)str_copy(out[i].name, sizeof out[i].name, list.items[i].name); /* it fits */
    }
    services_release(&list);
    return n;
}

static void look_at(struct core *c, const struct sandbox_id *id, struct service_info *i)
{
    char why[HEALTH_WHY_MAX];
    bool loopback;
    i->listening = i->port && link_listens(c->p.link, id, (uint16_t)i->port, &loopback);
    bool awaited = i->checked && health_awaited(c->health, id, 0, i->name, why);
    i->healthy = i->checked && i->state == SERVICE_RUNNING && !awaited;
    i->ready = i->state == SERVICE_RUNNING && i->said && !awaited && (!i->port || i->listening);
    if (awaited && !i->problem[0])
        (void)str_copy(i->problem, sizeof i->problem, why);
}

int core_services(struct core *c, const struct caller *who, const struct sandbox_id *id,
                  struct service_info **ret, size_t *ret_count, char problem[320], struct err *err)
{
    struct services declared = { 0 };
    struct err bad;
    const struct sandbox *s = core_own_row(c, who, id, err);
    if (!s)
        return -1;
    if (declared_read(c, s, &declared, &bad) < 0)
        (void)str_copy(problem, 320, bad.msg);
    else
        problem[0] = 0;
    core_unref(s);
    struct service_info *list = mem_new(SERVICES_MAX * 2, sizeof *list);
    size_t n = supervisor_list(c->supervisor, id, list);
    for (size_t i = 0; i < declared.count; i++) { /* asleep, or declared since */
        const struct service *v = &declared.items[i];
        bool there = false;
        for (size_t at = 0; at < n; at++)
            there = there || str_eq(list[at].name, v->name);
        if (!there)
            list[n++] = (struct service_info){ .name = str_dup(v->name),
                                               .cmd = str_dup(v->cmd),
                                               .port = v->port,
                                               .checked = v->health_path != NULL,
                                               .restart = v->restart,
                                               .exit_code = -1 };
    }
    for (size_t i = 0; i < n; i++)
        look_at(c, id, &list[i]);
    services_release(&declared);
    *ret = list;
    *ret_count = n;
    return 0;
}

static void trouble_of(const struct service_info *i, char *out, size_t size)
{
    char more[80] = "";
    if (i->restarts > 0)
        (void)snprintf(more, sizeof more, ", started again %u times", i->restarts);
    if (i->problem[0] && i->state != SERVICE_RUNNING)
        (void)snprintf(out, size, "Its service \"%s\" could not be started: %s", i->name,
                       i->problem);
    else if (i->state == SERVICE_STOPPED)
        (void)snprintf(out, size, "Its service \"%s\" was stopped.", i->name);
    else if (i->exit_code >= 0 && (i->state != SERVICE_RUNNING || i->restarts > 0))
        (void)snprintf(out, size, "Its service \"%s\" %s with status %d%s; see its log.", i->name,
                       i->state == SERVICE_ENDED ? "ended" : "keeps ending", i->exit_code, more);
}

void core_port_trouble(struct core *c, const struct sandbox_id *id, uint16_t port, char *out,
                       size_t size)
{
    struct service_info list[SERVICES_MAX];
    size_t n = supervisor_list(c->supervisor, id, list);
    out[0] = '\0';
    for (size_t i = 0; i < n; i++) {
        if (list[i].port == port && !out[0])
            trouble_of(&list[i], out, size);
        service_info_release(&list[i]);
    }
}

/* ERR_NOT_FOUND when the sandbox, awake or not, has no such service. */
static int check_known(struct core *c, const struct caller *who, const struct sandbox_id *id,
                       const char *name, struct err *err)
{
    struct service_info *list;
    size_t n;
    char problem[320];
    bool known = false;
    if (core_services(c, who, id, &list, &n, problem, err) < 0)
        return -1;
    for (size_t i = 0; i < n; i++) {
        known = known || str_eq(list[i].name, name);
        service_info_release(&list[i]);
    }
    free(list);
    return known ? 0 : err_set(err, ERR_NOT_FOUND, "no service %.40s", name);
}

static int act_awake(struct core *c, const struct sandbox *s, const char *name,
                     enum service_act act, struct err *err)
{
    if (act == SERVICE_RESTART && supervisor_halt(c->supervisor, s, name, err) < 0 &&
        err->code != ERR_NOT_FOUND)
        return -1; /* it resists: never two. What is not found was declared since, and joins */
    return supervisor_start(c->supervisor, s, name, err);
}

int core_service_act(struct core *c, const struct caller *who, const struct sandbox_id *id,
                     const char *name, enum service_act act, struct err *err)
{
    if (check_known(c, who, id, name, err) < 0)
        return -1;
    const struct sandbox *s = core_own_row(c, who, id, err);
    if (!s)
        return -1;
    /* On disk first: what was told to be stopped is not started by the next wake or daemon. */
    int rc = supervisor_mark(c->supervisor, s, name, act == SERVICE_STOP, err);
    if (rc == 0 && act == SERVICE_STOP) {
        rc = supervisor_halt(c->supervisor, s, name, err);
        if (rc < 0 && err->code == ERR_NOT_FOUND)
            rc = 0; /* asleep: nothing of it runs */
    }
    core_unref(s);
    s = NULL;
    if (rc < 0 || act == SERVICE_STOP)
        return rc;
    core_use_begin(c, id); /* not put to sleep under it */
    rc = core_start(c, who, id, &s, err);
    if (rc == 0) {
        rc = act_awake(c, s, name, act, err);
        core_unref(s);
    }
    core_use_end(c, id);
    return rc;
}

static int declared_there(const char *name, struct err *err)
{
    (void)err_set(err, ERR_CONFLICT, "sandbox.yaml declares the service %.40s", name);
    return err_remedy(err, "Remove it from sandbox.yaml of the workspace, or it would come back.");
}

int core_service_remove(struct core *c, const struct caller *who, const struct sandbox_id *id,
                        const char *name, struct err *err)
{
    if (check_known(c, who, id, name, err) < 0)
        return -1;
    const struct sandbox *s = core_own_row(c, who, id, err);
    if (!s)
        return -1;
    int rc = declared_in_file(c, s, name) ? declared_there(name, err)
                                          : supervisor_remove(c->supervisor, s, name, err);
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
    if (kept == 0 && check_known(c, who, id, name, err) < 0) {
        free(all);
        return -1;
    }
    *ret = all;
    *ret_count = kept;
    return 0;
}

/* In the place of one of that name, which goes on if this one cannot be started. */
static int replace(struct core *c, const struct sandbox *s, const struct service *spec,
                   struct process *ret, struct err *err)
{
    struct supervisor *sup = c->supervisor;
    enum service_state before;
    struct err ignored;
    supervisor_claim(sup, s, spec, &before);
    if (supervisor_spawn(c, s, spec, ret, err) < 0) {
        supervisor_unclaim(sup, s, spec->name, before);
        return -1;
    }
    if (supervisor_declare(sup, s, spec, &ret->id, err) == 0)
        return 0;
    struct proc *p = procs_find(c->procs, &s->id, &ret->id);
    if (p && procs_remove(c->procs, p, &ignored) < 0)
        log_warn("process.record_stays", KV_STR("id", ret->id.text), KV_ERR(&ignored));
    if (p)
        procs_unref(c->procs, p);
    process_release(ret);
    supervisor_unclaim(sup, s, spec->name, before);
    return -1;
}

int core_service_add(struct core *c, const struct caller *who, const struct sandbox_id *id,
                     const struct service *spec, struct process *ret, struct err *err)
{
    const struct sandbox *s = core_own_row(c, who, id, err);
    if (!s)
        return -1;
    core_unref(s);
    if (service_check(spec, err) < 0)
        return -1;
    core_use_begin(c, id);
    int rc = core_start(c, who, id, &s, err);
    if (rc == 0) {
        rc = supervisor_room(c->supervisor, s, spec->name, err);
        if (rc == 0)
            rc = replace(c, s, spec, ret, err);
        core_unref(s);
    }
    core_use_end(c, id);
    return rc;
}

void core_process_ended(struct core *c, struct proc *p)
{
    if (p->info.service)
        supervisor_ended(c->supervisor);
    else
        registry_touch(c->registry, &p->info.sandbox); /* its idle time begins now */
}
