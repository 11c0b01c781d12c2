/* Life of a sandbox as its owner sees it: create, start, stop, delete, purge. Each call claims the
 * row by moving it into an -ING state (compare and set in the store), acts without any lock, and
 * moves it on. Who comes second waits until the row has settled and then looks again. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fault.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/str.h"
#include "declared.h"
#include "inside.h"

#define SETTLE_WAIT_MS 90000 /* the longest bring-up with all its deadlines */
#define ATTEMPTS_MAX 8       /* lost races before we say so */

struct shown { /* what a move changes in memory, as the store changed it on disk */
    enum sandbox_state to;
    const struct store_move *m;
    int64_t now_ms;
};

static void replace(char **slot, const char *text)
{
    if (!text)
        return;
    free(*slot);
    *slot = *text ? str_dup(text) : NULL;
}

/* Its processes were there before it moved. */
static bool was_up(enum sandbox_state s)
{
    return s == SANDBOX_PAUSING || s == SANDBOX_STOPPING;
}

static void show_move(struct sandbox *row, void *ctx)
{
    const struct shown *s = ctx;
    if (row->state == SANDBOX_PAUSED || row->state == SANDBOX_RESUMING)
        row->up_since_ms += s->now_ms - row->updated_at_ms;
    else if (s->to == SANDBOX_RUNNING && !was_up(row->state))
        row->up_since_ms = s->now_ms;
    row->state = s->to;
    row->updated_at_ms = s->now_ms;
    if (s->to == SANDBOX_STOPPED)
        row->stopped_at_ms = s->now_ms;
    if (s->to == SANDBOX_RUNNING) {
        row->stopped_at_ms = 0;
        row->last_active_at_ms = s->now_ms;
    }
    if (!s->m)
        return;
    replace(&row->container_id, s->m->container_id);
    replace(&row->image_digest, s->m->image_digest);
    replace(&row->error_message, s->m->error_message);
    if (s->m->nofile)
        row->nofile = s->m->nofile;
    if (s->m->purge)
        row->purge = true;
    if (s->m->new_epoch) {
        row->epoch++;
        memcpy(row->secret, s->m->secret, sizeof row->secret);
    }
}

/* It ended by itself: nobody has claimed it, so its end is complete before anybody can see it, and
 * start it again. */
static void bury(struct core *c, const struct sandbox *row, const char *why)
{
    core_died(c, &row->id, why);
    supervisor_down(c->supervisor, &row->id);
    link_forget(c->p.link, &row->id);
}

int core_fire(struct core *c, const struct sandbox *row, enum sandbox_event event,
              const struct store_move *m, const struct sandbox **ret, struct err *err)
{
    static const struct store_move nothing = { 0 };
    struct shown s = { .m = m, .now_ms = clock_wall_ms() };
    if (!sandbox_edge(row->state, event, &s.to))
        return err_set(err, ERR_CONFLICT, "the sandbox is %s", sandbox_state_name(row->state));
    if (FAULT("core.move.before"))
        return err_set(err, ERR_INTERNAL, "fault: move");
    if (store_move(c->p.store, &row->id, row->state, s.to, s.now_ms, m ? m : &nothing, err) < 0)
        return -1;
    if (FAULT("core.move.after"))
        log_warn("fault.played", KV_STR("point", "core.move.after"));
    if (s.to == SANDBOX_STOPPED && (row->state == SANDBOX_RUNNING || row->state == SANDBOX_PAUSED))
        bury(c, row, m && m->error_message ? m->error_message : "");
    (void)registry_update(c->registry, &row->id, show_move,
                          &s); /* there: nobody else removes a row */
    if (s.to == SANDBOX_RUNNING) {
        procs_awake(c->procs, &row->id);
        supervisor_awake(c->supervisor, &row->id);
    } else if (s.to == SANDBOX_STOPPED) {
        supervisor_down(c->supervisor, &row->id); /* who still saw it awake may have made a list */
        procs_asleep(c->procs, &row->id);
    }
    if (ret)
        *ret = registry_get(c->registry, &row->id);
    return 0;
}

static int missing(const struct sandbox_id *id, struct err *err)
{
    return err_set(err, ERR_NOT_FOUND, "no sandbox %s", id->text);
}

const struct sandbox *core_own_row(struct core *c, const struct caller *who,
                                   const struct sandbox_id *id, struct err *err)
{
    const struct sandbox *s = registry_get(c->registry, id);
    if (s && (!who || str_eq(s->tenant, who->tenant)))
        return s;
    core_unref(s);
    (void)missing(id, err);
    return NULL;
}

const struct sandbox *core_settled_row(struct core *c, const struct caller *who,
                                       const struct sandbox_id *id, bool *ret_start,
                                       struct err *err)
{
    const struct sandbox *s = core_own_row(c, who, id, err);
    if (!s)
        return NULL;
    core_unref(s);
    if (!registry_settled(c->registry, id, clock_mono_ms() + SETTLE_WAIT_MS, &s, ret_start)) {
        (void)err_set(err, ERR_TIMEOUT, "the sandbox is busy; it goes on, ask again");
        return NULL;
    }
    if (s && (!who || str_eq(s->tenant, who->tenant)))
        return s;
    core_unref(s);
    (void)missing(id, err);
    return NULL;
}

int core_engine_there(struct core *c, struct err *err)
{
    char version[32];
    return c->p.runtime->ping(c->p.runtime->self, version, err);
}

/* --- create --- */

static uint32_t or_default(uint32_t asked, int64_t standard)
{
    return asked ? asked : (uint32_t)standard;
}

static int check_image(struct core *c, const char *image, struct err *err)
{
    for (uint32_t i = 0; i < c->p.config->n_images; i++)
        if (str_eq(image, c->p.config->images[i]))
            return 0;
    (void)err_set(err, ERR_INVALID, "image: not one of the images that may be asked for");
    return err_remedy(err, "The operator lists them in SANDBOXD_IMAGES.");
}

static int check_limits(struct core *c, const struct sandbox_limits *l, struct err *err)
{
    if (l->memory_mib > c->p.config->memory_mib_max)
        return err_set(err, ERR_INVALID, "limits.memory_mib: %u is above %lld", l->memory_mib,
                       (long long)c->p.config->memory_mib_max);
    return 0;
}

static void ports_copy(struct u16v *to, const struct u16v *from)
{
    to->count = 0;
    for (size_t i = 0; i < from->count;
         i++) { /* insertion keeps them ascending and drops repeats */
        size_t at = 0;
        while (at < to->count && to->items[at] < from->items[i])
            at++;
        if (at < to->count && to->items[at] == from->items[i])
            continue;
        memmove(to->items + at + 1, to->items + at, (to->count - at) * sizeof to->items[0]);
        to->items[at] = from->items[i];
        to->count++;
    }
}

static char *dup_or_null(const char *text)
{
    return text ? str_dup(text) : NULL;
}

static void map_copy(struct strmap *to, const struct strmap *from)
{
    for (size_t i = 0; from && i < from->count; i++)
        strmap_add(to, from->names[i], from->values[i]);
}

/* services: JSON for the row, or NULL. */
static struct sandbox *new_row(struct core *c, const struct caller *who, const char *services,
                               const struct core_create *req)
{
    const struct config *cfg = c->p.config;
    struct sandbox *row = mem_new(1, sizeof *row);
    if (req->has_id)
        row->id = req->id;
    else
        sandbox_id_new(&row->id);
    row->tenant = str_dup(who->tenant);
    row->node = str_dup(c->node);
    row->state = SANDBOX_CREATING;
    row->image = str_dup(req->image ? req->image : cfg->image);
    row->epoch = 1;
    random_bytes(row->secret, sizeof row->secret);
    row->limits = (struct sandbox_limits){
        .memory_mib = or_default(req->limits.memory_mib, cfg->memory_mib),
        .cpu_milli = or_default(req->limits.cpu_milli, cfg->cpu_milli),
        .pids = or_default(req->limits.pids, cfg->pids),
        .disk_mib = or_default(req->limits.disk_mib, cfg->disk_mib),
    };
    row->memory_high = str_dup(req->memory_high ? req->memory_high : "4G");
    row->visibility = req->visibility;
    row->idle_policy = req->idle_policy;
    row->idle_timeout_ms = req->idle_timeout_ms;
    row->stop_timeout_ms = req->stop_timeout_ms;
    row->ttl_s = req->ttl_s;
    ports_copy(&row->ports, &req->ports);
    map_copy(&row->env, req->env);
    map_copy(&row->metadata, req->metadata);
    row->services = services ? str_dup(services) : NULL;
    row->external_user = dup_or_null(req->external_user);
    row->external_project = dup_or_null(req->external_project);
    row->external_workspace = dup_or_null(req->external_workspace);
    row->created_at_ms = row->updated_at_ms = row->last_active_at_ms = clock_wall_ms();
    return row;
}

/* What an earlier request with this key came to: 1 answered here (outputs are set), 0 act, -1
 * refused. */
static int replay(struct core *c, const struct caller *who, const struct core_create *req,
                  const struct sandbox **ret, char **ret_replay, int *ret_status, struct err *err)
{
    struct store_idem seen = { 0 };
    if (store_idem_get(c->p.store, who->tenant, req->idem_key, &seen, err) < 0)
        return err->code == ERR_NOT_FOUND ? 0 : -1;
    AUTO(free) char *body = seen.body;
    if (!mem_equal_ct(seen.hash, req->idem_hash, sizeof seen.hash))
        return err_set(err, ERR_IDEMPOTENCY, "this Idempotency-Key was used with another request");
    if (seen.status) {
        *ret_replay = TAKE(body);
        *ret_status = seen.status;
        return 1;
    }
    /* No reply was stored: still under way, or a crash came between. */
    const struct sandbox *s = registry_await(c->registry, &seen.sandbox);
    if (s && s->state == SANDBOX_CREATING) {
        core_unref(s);
        return err_set(err, ERR_IN_PROGRESS, "a request with this Idempotency-Key is under way");
    }
    if (s && s->state != SANDBOX_ERROR && s->state != SANDBOX_DELETING) {
        *ret = s;
        *ret_status = 201;
        return 1;
    }
    core_unref(s);
    /* Of several retries one drops it and creates; who comes later meets that one's key. */
    return store_idem_drop(c->p.store, who->tenant, req->idem_key, &seen.sandbox, err);
}

/* The project has one already, which by_project answers: nothing will be started. */
static bool project_there(struct core *c, const struct caller *who, const struct core_create *req)
{
    struct core_filter f = { .state = -1, .external_project = req->external_project };
    const struct sandbox **rows;
    size_t count;
    bool more, there = false;
    if (!req->by_project || !req->external_project)
        return false;
    registry_list(c->registry, who->tenant, &f, &rows, &count, &more);
    for (size_t i = 0; i < count; i++) {
        there = there || (rows[i]->state != SANDBOX_ERROR && rows[i]->state != SANDBOX_DELETING);
        core_unref(rows[i]);
    }
    free(rows);
    return there;
}

/* Row, container, agent. services: JSON, or NULL. */
static int create(struct core *c, const struct caller *who, const struct core_create *req,
                  const char *services, const struct sandbox **ret, int *ret_status,
                  struct err *err)
{
    struct sandbox *row = new_row(c, who, services, req);
    struct sandbox_id existing = { { 0 } };
    struct store_create sc = { .row = row,
                               .tenant_max = (uint32_t)c->p.config->sandboxes_max,
                               .idem_key = req->idem_key,
                               .idem_hash = req->idem_key ? req->idem_hash : NULL,
                               .actor = who->actor,
                               .ret_existing = req->by_project ? &existing : NULL };
    struct sandbox_id id = row->id;
    registry_birth_begin(c->registry);
    int rc = store_create(c->p.store, &sc, err);
    if (rc < 0 || existing.text[0])
        sandbox_free(row);
    else
        registry_add(c->registry, row, true);
    registry_birth_end(c->registry);
    if (rc < 0)
        return -1;
    if (existing.text[0]) {
        core_unref(registry_await(c->registry, &existing));
        *ret_status = 200;
        *ret = core_own_row(c, who, &existing, err);
        return *ret ? 0 : -1;
    }
    if (FAULT("core.create.inserted"))
        log_warn("fault.played", KV_STR("point", "core.create.inserted"));
    const struct sandbox *mine = registry_get(c->registry, &id);
    rc = core_bring_up(c, mine, err);
    core_unref(mine);
    if (rc == 0)
        *ret = registry_get(c->registry, &id);
    if (rc == 0 && !*ret)
        rc = missing(&id, err); /* deleted by somebody the moment it ran */
    if (rc < 0 && req->idem_key) {
        struct err ignored;
        (void)store_idem_drop(c->p.store, who->tenant, req->idem_key, &id,
                              &ignored); /* expires by itself */
    }
    return rc;
}

int core_create(struct core *c, const struct caller *who, const struct core_create *req,
                const struct sandbox **ret, char **ret_replay, int *ret_status, struct err *err)
{
    *ret = NULL;
    *ret_replay = NULL;
    *ret_status = 201;
    if (req->env && core_check_env(req->env, err) < 0)
        return -1;
    if ((req->image && check_image(c, req->image, err) < 0) ||
        check_limits(c, &req->limits, err) < 0)
        return -1;
    if (req->idem_key) {
        int seen = replay(c, who, req, ret, ret_replay, ret_status, err);
        if (seen)
            return seen < 0 ? -1 : 0;
    }
    AUTO(free) char *services = NULL;
    if (req->n_services &&
        declared_to_json(req->services, req->n_services, NULL, &services, err) < 0)
        return -1;
    bool there = project_there(c, who, req);
    if (core_engine_there(c, err) < 0 || (!there && core_admit(c, err) < 0))
        return -1;
    int rc = create(c, who, req, services, ret, ret_status, err);
    if (!there)
        core_admitted(c);
    return rc;
}

int core_create_replied(struct core *c, const struct caller *who, const char *idem_key, int status,
                        const char *body, struct err *err)
{
    return store_idem_done(c->p.store, who->tenant, idem_key, status, body, err);
}

/* --- start, stop --- */

static void forget_deaths(struct registry_live *live, void *ctx)
{
    (void)ctx;
    live->deaths = 0;
    live->died_at_ms = 0;
}

/* Its container may have ended while it was frozen, with the event still on its way. 1: the row has
 * followed, look again. */
static int look_why_frozen(struct core *c, const struct sandbox_id *id)
{
    struct err ignored; /* the thaw's cause is what counts */
    (void)core_reconcile_one(c, id, &ignored);
    const struct sandbox *now = registry_get(c->registry, id);
    bool moved = now && now->state != SANDBOX_PAUSED;
    core_unref(now);
    return moved ? 1 : -1;
}

static void note_thaw(struct registry_live *live, void *ctx)
{
    const int64_t *ms = ctx;
    live->start = (struct core_start){ .total = *ms, .engine = *ms };
}

/* One try to bring a settled row up. 1: somebody was faster, look again. */
static int up_once(struct core *c, const struct caller *who, const struct sandbox *s,
                   struct err *err)
{
    bool frozen = s->state == SANDBOX_PAUSED;
    struct store_move m = { .new_epoch = !frozen,
                            .error_message = "",
                            .actor = who ? who->actor : "preview",
                            .action = frozen ? "sandbox.resume" : "sandbox.start" };
    const struct sandbox *mine = NULL;
    random_bytes(m.secret, sizeof m.secret);
    if (core_engine_there(c, err) < 0 || (!frozen && core_admit(c, err) < 0))
        return -1;
    int rc = core_fire(c, s, frozen ? SANDBOX_ON_RESUME : SANDBOX_ON_START, &m, &mine, err);
    if (rc < 0 && err->code == ERR_CONFLICT) {
        rc = 1;
    } else if (rc == 0 && mine && frozen) {
        int64_t began = clock_mono_ms(), took;
        rc = core_thaw(c, mine, err);
        took = clock_mono_ms() - began + 1;
        if (rc == 0)
            registry_live_update(c->registry, &s->id, note_thaw, &took);
        else
            rc = look_why_frozen(c, &s->id);
    } else if (rc == 0 && mine) {
        rc = core_bring_up(c, mine, err);
        if (rc == 0 && who) /* somebody knows what they do */
            registry_live_update(c->registry, &s->id, forget_deaths, NULL);
    }
    core_unref(mine);
    if (!frozen)
        core_admitted(c);
    return rc;
}

/* who: NULL for a visitor of a preview, whose rights the edge has checked. */
static int up(struct core *c, const struct caller *who, const struct sandbox_id *id,
              const struct sandbox **ret, struct err *err)
{
    for (int attempt = 0; attempt < ATTEMPTS_MAX; attempt++) {
        bool start;
        const struct sandbox *s = core_settled_row(c, who, id, &start, err);
        if (!s)
            return -1;
        if (s->state == SANDBOX_RUNNING) {
            *ret = s;
            return 0;
        }
        if (start && s->error_message) { /* the start we waited for failed: its outcome is ours */
            (void)err_set(err, ERR_UNAVAILABLE, "start failed: %s", s->error_message);
            core_unref(s);
            return -1;
        }
        int rc = who ? 0 : core_check_crash_loop(c, s, err);
        if (rc == 0)
            rc = up_once(c, who, s, err);
        if (rc == 1)
            registry_await_move(c->registry, s);
        core_unref(s);
        if (rc < 0)
            return -1;
        if (rc == 0) {
            *ret = core_own_row(c, who, id, err);
            return *ret ? 0 : -1;
        }
    }
    return err_set(err, ERR_CONFLICT, "others keep changing this sandbox");
}

int core_start(struct core *c, const struct caller *who, const struct sandbox_id *id,
               const struct sandbox **ret, struct err *err)
{
    return up(c, who, id, ret, err);
}

int core_wake(struct core *c, const struct sandbox_id *id, const struct sandbox **ret,
              struct err *err)
{
    return up(c, NULL, id, ret, err);
}

int core_stop(struct core *c, const struct caller *who, const struct sandbox_id *id,
              const struct sandbox **ret, struct err *err)
{
    *ret = NULL;
    for (int attempt = 0; attempt < ATTEMPTS_MAX; attempt++) {
        bool start;
        const struct sandbox *s = core_settled_row(c, who, id, &start, err);
        if (!s)
            return -1;
        if (s->state == SANDBOX_STOPPED) {
            *ret = s;
            return 0;
        }
        struct store_move m = { .actor = who->actor, .action = "sandbox.stop" };
        const struct sandbox *mine = NULL;
        bool error = s->state == SANDBOX_ERROR;
        int rc = core_engine_there(c, err);
        if (rc == 0)
            rc = core_fire(c, s, SANDBOX_ON_STOP, &m, &mine, err);
        bool lost = rc < 0 && err->code == ERR_CONFLICT && !error;
        if (lost)
            registry_await_move(c->registry, s);
        core_unref(s);
        if (lost)
            continue;
        if (rc == 0)
            core_slept(c, id, "somebody stopped it through the API");
        if (rc == 0 && mine)
            rc = core_bring_down(c, mine, ret, err);
        core_unref(mine);
        if (rc == 0 && !*ret)
            return missing(id, err);
        return rc;
    }
    return err_set(err, ERR_CONFLICT, "others keep changing this sandbox");
}

/* --- delete, purge --- */

/* Who waited behind another's deletion finds nothing, and says so. */
static int end_row(struct core *c, const struct caller *who, const struct sandbox_id *id,
                   bool purge, uint64_t *ret_freed, struct err *err)
{
    for (int attempt = 0; attempt < ATTEMPTS_MAX; attempt++) {
        bool start;
        const struct sandbox *s = core_settled_row(c, who, id, &start, err);
        if (!s)
            return -1;
        struct store_move m = { .purge = purge,
                                .actor = who->actor,
                                .action = purge ? "sandbox.purge" : "sandbox.delete" };
        const struct sandbox *mine = NULL;
        int rc = core_engine_there(c, err);
        if (rc == 0)
            rc = core_fire(c, s, SANDBOX_ON_DELETE, &m, &mine, err);
        bool lost = rc < 0 && err->code == ERR_CONFLICT;
        if (lost)
            registry_await_move(c->registry, s);
        core_unref(s);
        if (lost)
            continue;
        if (rc == 0 && mine)
            rc = core_finish_delete(c, mine, ret_freed, err);
        core_unref(mine);
        return rc;
    }
    return err_set(err, ERR_CONFLICT, "others keep changing this sandbox");
}

int core_delete(struct core *c, const struct caller *who, const struct sandbox_id *id,
                struct err *err)
{
    uint64_t freed;
    return end_row(c, who, id, false, &freed, err);
}

int core_purge(struct core *c, const struct caller *who, const struct sandbox_id *id,
               uint64_t *ret_freed, struct err *err)
{
    *ret_freed = 0;
    if (end_row(c, who, id, true, ret_freed, err) == 0)
        return 0;
    if (err->code != ERR_NOT_FOUND)
        return -1;
    /* No row: perhaps a workspace that outlived one. */
    struct store_workspace w = { 0 };
    if (store_workspace_get(c->p.store, id, &w, err) < 0)
        return err->code == ERR_NOT_FOUND ? missing(id, err) : -1;
    bool mine = str_eq(w.tenant, who->tenant);
    store_workspace_release(&w);
    const struct sandbox *row = registry_get(c->registry, id);
    core_unref(row);
    if (!mine || row) /* another tenant's, or made anew meanwhile */
        return missing(id, err);
    if (store_workspace_purging(c->p.store, id, err) < 0 ||
        core_purge_workspace(c, id, ret_freed, err) < 0)
        return -1;
    return store_workspace_gone(c->p.store, id, err);
}
