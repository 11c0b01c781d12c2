/* What owners do with services: look, start, stop, restart, add. Private parts are in services.c.
 */
#include "core/service.h"

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
    size_t n = keepers_list(c->keepers, id, list);
    for (size_t i = 0; i < declared.count; i++) { /* asleep, or declared since */
        const struct service *v = &declared.items[i];
        bool there = false;
        for (size_t at = 0; at < n; at++)
            there = there || str_eq(list[at].name, v->name);
        if (!there)
            list[n++] = (struct service_info){ .name = str_dup(v->name),
                                               .cmd = str_dup(v->cmd),
                                               .port = v->port,
                                               .restart = v->restart,
                                               .exit_code = -1 };
    }
    for (size_t i = 0; i < n; i++)
        list[i].listening = list[i].port && listens(c, id, list[i].port);
    services_release(&declared);
    *ret = list;
    *ret_count = n;
    return 0;
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
    struct err ignored; /* what resists its end does not keep a new one from trying */
    if (act == SERVICE_RESTART)
        (void)keepers_halt(c->keepers, s, name, &ignored);
    return keepers_start(c->keepers, s, name, err);
}

int core_service_act(struct core *c, const struct caller *who, const struct sandbox_id *id,
                     const char *name, enum service_act act, struct err *err)
{
    const struct sandbox *s = NULL;
    if (check_known(c, who, id, name, err) < 0)
        return -1;
    if (act == SERVICE_STOP) {
        s = core_own_row(c, who, id, err);
        if (!s)
            return -1;
        int rc = keepers_halt(c->keepers, s, name, err);
        core_unref(s);
        return rc < 0 && err->code == ERR_NOT_FOUND ? 0 : rc; /* asleep: nothing of it runs */
    }
    core_use_begin(c, id); /* not put to sleep under it */
    int rc = core_start(c, who, id, &s, err);
    if (rc == 0) {
        rc = act_awake(c, s, name, act, err);
        core_unref(s);
    }
    core_use_end(c, id);
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
    struct keepers *k = c->keepers;
    struct err ignored;
    bool replaced = keepers_halt(k, s, spec->name, &ignored) == 0;
    if (keepers_spawn(c, s, spec, ret, err) < 0) {
        if (replaced)
            (void)keepers_start(k, s, spec->name, &ignored); /* what counts is ours */
        return -1;
    }
    if (keepers_declare(k, s, spec, &ret->id, err) == 0)
        return 0;
    struct proc *p = procs_find(c->procs, &s->id, &ret->id);
    if (p && procs_remove(c->procs, p, &ignored) < 0)
        log_warn("process.record_stays", KV_STR("id", ret->id.text), KV_ERR(&ignored));
    if (p)
        procs_unref(c->procs, p);
    process_release(ret);
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
        rc = keepers_room(c->keepers, s, spec->name, err);
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
        keepers_ended(c->keepers);
    else
        registry_touch(c->registry, &p->info.sandbox); /* its idle time begins now */
}
