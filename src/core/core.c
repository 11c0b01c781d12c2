/* The room's handle, who may call, and reading. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/digest.h"
#include "base/str.h"
#include "inside.h"
#include "proc.h"
#include "shares.h"

#define KEEPALIVE_DEFAULT_MS (3600LL * 1000)

int core_new(const struct core_parts *parts, struct core **ret, struct err *err)
{
    struct sandbox **rows;
    size_t count;
    char node[64] = "local";
    if (store_load(parts->store, &rows, &count, err) < 0)
        return -1;
    (void)gethostname(node, sizeof node - 1); /* a name that does not fit stays as it is */
    struct core *c = mem_new(1, sizeof *c);
    c->p = *parts;
    c->node = str_dup(node);
    random_bytes(&c->boot, sizeof c->boot);
    c->boot = (c->boot >> 1 & ~(uint64_t)UINT32_MAX) | 1ULL << 32; /* fits SQLite's integers */
    c->registry = registry_new();
    mu_init(&c->gate, MU_GATE);
    cond_init(&c->gate_open);
    cond_init(&c->room);
    for (size_t i = 0; i < count; i++) {
        if (rows[i]->state == SANDBOX_RUNNING) /* or earlier */
            rows[i]->up_since_ms = rows[i]->updated_at_ms;
        registry_add(c->registry, rows[i], false);
    }
    free(rows);
    if (shares_new(parts->store, parts->config->data_dir, &c->shares, err) < 0 ||
        procs_new(c, parts->config->data_dir, &c->procs, err) < 0 ||
        !(c->health = health_new(c, err)) || !(c->supervisor = supervisor_new(c, err)) ||
        procs_start(c->procs, err) < 0) {
        core_free(c);
        return -1;
    }
    *ret = c;
    return 0;
}

void core_free(struct core *c)
{
    if (!c)
        return;
    health_stop(c->health);
    supervisor_stop(c->supervisor); /* its starts need the processes' loop */
    procs_stop(c->procs);           /* its ends are told to the supervisor */
    supervisor_free(c->supervisor);
    procs_free(c->procs);
    health_free(c->health);
    shares_free(c->shares);
    registry_free(c->registry);
    cond_release(&c->gate_open);
    cond_release(&c->room);
    mu_release(&c->gate);
    free(c->node);
    free(c);
}

/* Every token is compared, whatever came before: the time tells nothing. */
int core_authenticate(struct core *c, const char *token, const char **ret_tenant, struct err *err)
{
    const struct config *cfg = c->p.config;
    uint8_t digest[DIGEST_BYTES];
    const char *found = NULL;
    digest_sha256(token, strlen(token), digest);
    for (uint32_t i = 0; i < cfg->n_tokens; i++)
        if (mem_equal_ct(digest, cfg->tokens[i].digest, sizeof digest))
            found = cfg->tokens[i].name;
    if (!found)
        return err_set(err, ERR_UNAUTHORIZED, "unauthorized");
    *ret_tenant = found;
    return 0;
}

int core_get(struct core *c, const struct caller *who, const struct sandbox_id *id,
             const struct sandbox **ret, struct err *err)
{
    *ret = core_own_row(c, who, id, err);
    return *ret ? 0 : -1;
}

int core_list(struct core *c, const struct caller *who, const struct core_filter *f,
              const struct sandbox ***ret, size_t *ret_count, bool *ret_more, struct err *err)
{
    (void)err; /* memory only: nothing can fail */
    registry_list(c->registry, who ? who->tenant : NULL, f, ret, ret_count, ret_more);
    return 0;
}

void core_watch(struct core *c, int fd)
{
    registry_watch(c->registry, fd);
}

void core_count(struct core *c, uint32_t ret[SANDBOX_STATE_COUNT])
{
    registry_count(c->registry, ret);
}

uint32_t core_execs_running(struct core *c)
{
    return registry_execs(c->registry);
}

static void show_keepalive(struct sandbox *row, void *ctx)
{
    row->keepalive_until_ms = *(const int64_t *)ctx;
}

int core_keepalive(struct core *c, const struct caller *who, const struct sandbox_id *id,
                   int64_t until_ms, int64_t *ret_until_ms, struct err *err)
{
    int64_t now = clock_wall_ms(), max = now + c->p.config->keepalive_max_ms;
    const struct sandbox *s = core_own_row(c, who, id, err);
    if (!s)
        return -1;
    core_unref(s);
    if (until_ms == 0)
        until_ms = now + KEEPALIVE_DEFAULT_MS;
    if (until_ms <= now)
        return err_set(err, ERR_INVALID, "until: must lie in the future");
    if (until_ms > max)
        until_ms = max;
    if (store_set_keepalive(c->p.store, id, until_ms, err) < 0)
        return -1;
    (void)registry_update(c->registry, id, show_keepalive,
                          &until_ms); /* gone meanwhile: nothing to show */
    registry_touch(c->registry, id);
    *ret_until_ms = until_ms;
    return 0;
}

int core_files_open(struct core *c, const struct caller *who, const struct sandbox_id *id,
                    bool write, int *ret_root, struct err *err)
{
    const struct sandbox *s = core_own_row(c, who, id, err);
    if (!s)
        return -1;
    bool going = s->state == SANDBOX_DELETING;
    core_unref(s);
    if (going)
        return err_set(err, ERR_CONFLICT, "the sandbox is being deleted");
    if (volume_open(c->p.volume, id, ret_root, err) < 0)
        return -1;
    if (write)
        volume_touched(c->p.volume, id);
    return 0;
}

void core_files_touched(struct core *c, const struct sandbox_id *id)
{
    volume_touched(c->p.volume, id);
}

void core_disk(struct core *c, const struct sandbox *s, struct volume_usage *ret)
{
    volume_usage(c->p.volume, &s->id, ret);
    ret->limit_bytes = (uint64_t)s->limits.disk_mib << 20;
}

int core_live_state(struct core *c, const struct sandbox *s, char **ret, struct err *err)
{
    const struct runtime *rt = c->p.runtime;
    *ret = NULL;
    if (!s->container_id)
        return 0;
    if (rt->inspect_json(rt->self, s->container_id, ret, err) == 0)
        return 0;
    return err->code == ERR_NOT_FOUND ? 0 : -1;
}

/* --- previews --- */

int core_find(struct core *c, const struct sandbox_id *id, const struct sandbox **ret,
              struct err *err)
{
    *ret = core_own_row(c, NULL, id, err);
    return *ret ? 0 : -1;
}

struct address {
    char ip[46];
    uint32_t epoch;
};

static void note_address(struct registry_live *live, void *ctx)
{
    const struct address *a = ctx;
    memcpy(live->ip, a->ip, sizeof live->ip);
    live->ip_epoch = a->epoch;
}

int core_address(struct core *c, const struct sandbox *row, char out[46], struct err *err)
{
    const struct runtime *rt = c->p.runtime;
    struct registry_live live;
    struct runtime_container box;
    if (registry_live(c->registry, &row->id, &live) && live.ip[0] && live.ip_epoch == row->epoch) {
        memcpy(out, live.ip, sizeof live.ip);
        return 0;
    }
    if (row->state != SANDBOX_RUNNING || !row->container_id)
        return err_set(err, ERR_UNAVAILABLE, "the sandbox is %s", sandbox_state_name(row->state));
    if (rt->inspect(rt->self, row->container_id, &box, err) < 0)
        return -1;
    if (box.status != RUNTIME_RUNNING || !box.ip[0])
        return err_set(err, ERR_UNAVAILABLE, "the container has no address");
    struct address a = { .epoch = row->epoch };
    memcpy(a.ip, box.ip, sizeof a.ip);
    registry_live_update(c->registry, &row->id, note_address, &a);
    memcpy(out, a.ip, sizeof a.ip);
    return 0;
}

size_t core_ports(struct core *c, const struct sandbox_id *id, struct link_port *out, size_t max)
{
    return link_ports(c->p.link, id, out, max);
}

int core_connect(struct core *c, const struct sandbox_id *id, uint16_t port, int64_t deadline_ms,
                 int *ret_fd, struct err *err)
{
    return link_connect(c->p.link, id, port, deadline_ms, ret_fd, err);
}

bool core_unhealthy(struct core *c, const struct sandbox_id *id, uint16_t port,
                    char why[HEALTH_WHY_MAX])
{
    return health_awaited(c->health, id, port, NULL, why);
}

bool core_agent_there(struct core *c, const struct sandbox_id *id)
{
    return link_ready(c->p.link, id);
}

int core_wait_port(struct core *c, const struct sandbox_id *id, uint16_t port, int64_t deadline_ms,
                   bool *ret_loopback, struct err *err)
{
    if (link_wait_port(c->p.link, id, port, deadline_ms, ret_loopback, err) < 0)
        return -1;
    if (!health_wait(c->health, id, port, deadline_ms))
        return err_set(err, ERR_TIMEOUT, "the service on port %u is not well", port);
    return 0;
}

int core_process_note(struct core *c, const struct caller *who, const struct sandbox_id *sandbox,
                      const struct sandbox_id *id, const char *action, const char *remote,
                      const char *why, struct err *err)
{
    const struct store_audit a = { .node = c->node,
                                   .tenant = who->tenant,
                                   .actor = who->actor,
                                   .action = action,
                                   .sandbox = *sandbox,
                                   .process = *id,
                                   .remote = remote,
                                   .why = why };
    return store_audit_process(c->p.store, &a, err);
}
