/* Making rows and containers agree. The row says what ought to be; the engine says what is.
 *
 * -ING states without an owner are what a crash (or a failure to write) left behind: they are led
 * on in the direction they were going. A container without a row is removed: rows are written
 * before containers exist. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/str.h"
#include "base/worker.h"
#include "inside.h"

#define TOUCH_BATCH 256
#define CRASH_LOOP_MS 120000 /* deaths closer together than this belong to one loop */
#define CRASH_LOOP_DEATHS 4
#define SIGNAL_ENDS_MS 60000              /* a signal is the cause of an end for so long */
#define DEAF_MS 20000                     /* an agent that lives redials every half second */
#define IDEM_KEEP_MS (48LL * 3600 * 1000) /* P-2 promises 24 h */

static void container_name(const struct sandbox_id *id, char out[2 + ID_LEN + 1])
{
    out[0] = 's';
    out[1] = '-';
    sandbox_id_lower(id, out + 2);
}

static void note_signalled(struct registry_live *live, void *ctx)
{
    (void)ctx;
    live->signalled_at_ms = clock_mono_ms();
}

void core_signalled(struct core *c, const struct sandbox_id *id)
{
    registry_live_update(c->registry, id, note_signalled, NULL);
}

/* The engine's word of memory is true of any process in it since the start, so who ended it by hand
 * comes first. */
void core_ended_why(struct core *c, const struct sandbox_id *id,
                    const struct runtime_container *box, char out[ENDED_WHY_MAX])
{
    struct registry_live live = { 0 };
    (void)registry_live(c->registry, id, &live);
    bool by_hand = live.signalled_at_ms && clock_mono_ms() - live.signalled_at_ms < SIGNAL_ENDS_MS;
    if (!box)
        (void)snprintf(out, ENDED_WHY_MAX, "the container was removed from outside");
    else if (by_hand)
        (void)snprintf(out, ENDED_WHY_MAX,
                       "the container ended with exit code %d: by hand, outside of the API",
                       box->exit_code);
    else if (box->oom_killed)
        (void)snprintf(out, ENDED_WHY_MAX, "out of memory: the sandbox reached its memory limit");
    else
        (void)snprintf(out, ENDED_WHY_MAX, "the container ended with exit code %d", box->exit_code);
}

static bool box_up(const struct runtime_container *box)
{
    return box && (box->status == RUNTIME_RUNNING || box->status == RUNTIME_PAUSED);
}

static bool box_is(const struct runtime_container *box, const struct sandbox *row)
{
    return box_up(box) && str_eq(box->container_id, row->container_id);
}

static void note_death(struct registry_live *live, void *ctx)
{
    int64_t now = clock_mono_ms();
    live->deaths =
        live->died_at_ms && now - live->died_at_ms < CRASH_LOOP_MS ? live->deaths + 1 : 1;
    live->died_at_ms = now;
    live->died_wall_ms = clock_wall_ms();
    (void)str_copy(live->died_why, sizeof live->died_why, ctx);
}

void core_died(struct core *c, const struct sandbox_id *id, const char *why)
{
    char text[ENDED_WHY_MAX];
    (void)str_copy(text, sizeof text, why);
    registry_live_update(c->registry, id, note_death, text);
}

int core_check_crash_loop(struct core *c, const struct sandbox *row, struct err *err)
{
    struct registry_live live;
    if (!registry_live(c->registry, &row->id, &live) || live.deaths < CRASH_LOOP_DEATHS ||
        clock_mono_ms() - live.died_at_ms > CRASH_LOOP_MS)
        return 0;
    (void)err_set(err, ERR_UNAVAILABLE, "crash loop: it ended %u times within minutes, last: %s",
                  live.deaths, row->error_message ? row->error_message : "unknown");
    return err_remedy(err, "Look at its processes and limits, then start it through the API.");
}

/* The row follows what somebody did: frozen, it is asleep and the next use thaws it; thawed, it is
 * awake until it has been idle. What was seen may be over by now, so it is looked at once more
 * under the claim. */
static int by_hand(struct core *c, const struct sandbox *row, bool frozen, struct err *err)
{
    const struct runtime *rt = c->p.runtime;
    struct store_move m = { .if_epoch = row->epoch };
    const struct sandbox *mine = NULL;
    struct runtime_container box;
    struct err why;
    if (core_fire(c, row, frozen ? SANDBOX_ON_PAUSE : SANDBOX_ON_RESUME, &m, &mine, err) < 0)
        return err->code == ERR_CONFLICT ? 0 : -1;
    if (!mine)
        return 0;
    int rc = rt->inspect(rt->self, mine->container_id, &box, err);
    bool still = rc == 0 && box.status == (frozen ? RUNTIME_PAUSED : RUNTIME_RUNNING);
    if (still) {
        log_warn(frozen ? "sandbox.frozen_by_hand" : "sandbox.thawed_by_hand",
                 KV_STR("id", row->id.text));
        if (frozen)
            core_slept(c, &row->id, "frozen by hand, outside of the API");
        rc = frozen ? core_freeze(c, mine, err) : core_thaw(c, mine, err);
    } else if (core_fire(c, mine, SANDBOX_ON_FAILED, NULL, NULL, &why) < 0) {
        registry_disown(c->registry, &row->id);
    }
    core_unref(mine);
    return rc;
}

static void note_heard(struct registry_live *live, void *ctx)
{
    live->deaf_since_ms = *(const int64_t *)ctx;
}

/* An agent that was started anew by hand does not know this start's secret: its container runs, and
 * nobody can use it. */
static bool deaf(struct core *c, const struct sandbox *row)
{
    struct registry_live live;
    int64_t now = clock_mono_ms(), none = 0;
    if (row->state != SANDBOX_RUNNING || link_ready(c->p.link, &row->id)) {
        registry_live_update(c->registry, &row->id, note_heard, &none);
        return false;
    }
    if (!registry_live(c->registry, &row->id, &live))
        return false;
    if (live.deaf_since_ms == 0)
        registry_live_update(c->registry, &row->id, note_heard, &now);
    return live.deaf_since_ms && now - live.deaf_since_ms >= DEAF_MS;
}

/* Under a claim of its own, so that nobody starts it in the meantime. */
static int end_deaf(struct core *c, const struct sandbox *row, struct err *err)
{
    struct store_move m = { .error_message = "its agent does not answer: the container was "
                                             "restarted by hand, or the agent was ended",
                            .if_epoch = row->epoch };
    const struct sandbox *mine = NULL;
    if (core_fire(c, row, SANDBOX_ON_STOP, &m, &mine, err) < 0)
        return err->code == ERR_CONFLICT ? 0 : -1;
    log_warn("sandbox.deaf", KV_STR("id", row->id.text));
    int rc = mine ? core_bring_down(c, mine, NULL, err) : 0;
    core_unref(mine);
    return rc;
}

static int row_running(struct core *c, const struct sandbox *row,
                       const struct runtime_container *box, struct err *err)
{
    const struct runtime *rt = c->p.runtime;
    if (box && box_is(box, row)) {
        char name[2 + ID_LEN + 1];
        container_name(&row->id, name);
        if (!str_eq(box->name, name)) {
            log_warn("sandbox.renamed_back", KV_STR("id", row->id.text), KV_STR("name", box->name));
            return rt->rename(rt->self, box->container_id, name, err);
        }
        if (row->state == SANDBOX_RUNNING && box->status == RUNTIME_PAUSED)
            return by_hand(c, row, true, err);
        if (row->state == SANDBOX_PAUSED && box->status == RUNTIME_RUNNING)
            return by_hand(c, row, false, err);
        return deaf(c, row) ? end_deaf(c, row, err) : 0;
    }
    char why[ENDED_WHY_MAX];
    core_ended_why(c, &row->id, box, why);
    /* The epoch guards against a stop and a start between our look at the row and at the container.
     */
    struct store_move m = { .error_message = why, .if_epoch = row->epoch };
    if (core_fire(c, row, SANDBOX_ON_EXITED, &m, NULL, err) < 0)
        return err->code == ERR_CONFLICT ? 0 : -1; /* somebody is at it: their outcome counts */
    log_warn("sandbox.ended", KV_STR("id", row->id.text), KV_STR("why", why));
    return 0;
}

/* Somebody started the container by hand. It is ended under a claim like any other, so that a start
 * asked for in the same moment waits instead of being ended with it. */
static int row_not_running(struct core *c, const struct sandbox *row,
                           const struct runtime_container *box, struct err *err)
{
    const struct runtime *rt = c->p.runtime;
    const struct sandbox *mine = NULL;
    struct store_move m = { .if_epoch = row->epoch };
    struct err ignored;
    if (core_fire(c, row, SANDBOX_ON_START, &m, &mine, err) < 0)
        return err->code == ERR_CONFLICT ? 0 : -1;
    log_warn("sandbox.started_by_hand", KV_STR("id", row->id.text));
    int rc = rt->stop(rt->self, box->container_id, 0, err);
    if (mine && core_fire(c, mine, SANDBOX_ON_FAILED, NULL, NULL, &ignored) < 0)
        registry_disown(c->registry, &row->id);
    core_unref(mine);
    return rc;
}

/* box: NULL when there is none. The row may be older than what is true by now: every step is a
 * compare and set. */
static int reconcile_row(struct core *c, const struct sandbox *row,
                         const struct runtime_container *box, struct err *err)
{
    uint64_t freed;
    int rc = 0;
    if (row->state == SANDBOX_RUNNING || row->state == SANDBOX_PAUSED)
        return row_running(c, row, box, err);
    if (sandbox_state_settled(row->state))
        return box_up(box) ? row_not_running(c, row, box, err) : 0;
    const struct sandbox *now = registry_take(c->registry, &row->id, row->state);
    if (!now)
        return 0; /* its owner is at work, or has settled it in between */
    if (now->state == SANDBOX_STOPPING) {
        rc = core_bring_down(c, now, NULL, err);
    } else if (now->state == SANDBOX_PAUSING) {
        rc = core_freeze(c, now, err);
    } else if (now->state == SANDBOX_RESUMING) {
        rc = core_thaw(c, now, err);
    } else if (now->state == SANDBOX_DELETING) {
        rc = core_finish_delete(c, now, &freed, err);
    } else {
        log_info("sandbox.rolled_forward", KV_STR("id", now->id.text),
                 KV_STR("state", sandbox_state_name(now->state)));
        rc = core_bring_up(c, now, err);
    }
    core_unref(now);
    return rc;
}

/* --- the whole comparison --- */

struct round { /* one reconciliation; its jobs share it */
    struct core *core;
    struct runtime_container *boxes;
    size_t n_boxes;
};

struct row_job {
    struct round *round;
    const struct sandbox *row;
};

static const struct runtime_container *box_of(const struct round *r, const struct sandbox *row)
{
    const struct runtime_container *found = NULL;
    for (size_t i = 0; i < r->n_boxes; i++) {
        if (!sandbox_id_eq(&r->boxes[i].id, &row->id))
            continue;
        found = &r->boxes[i];
        if (str_eq(found->container_id, row->container_id))
            break; /* the recorded one, should there be several */
    }
    return found;
}

/* The list is older than the row: what does not fit is looked at once more before anything is done
 * about it. */
static void row_job(void *arg)
{
    struct row_job *job = arg;
    struct core *c = job->round->core;
    const struct runtime_container *box = box_of(job->round, job->row);
    struct err err;
    bool fits = job->row->state == SANDBOX_RUNNING
                    ? box_is(box, job->row) && box->status == RUNTIME_RUNNING &&
                          link_ready(c->p.link, &job->row->id)
                : job->row->state == SANDBOX_PAUSED
                    ? box_is(box, job->row) && box->status == RUNTIME_PAUSED
                : sandbox_state_settled(job->row->state) ? !box_up(box)
                                                         : false;
    char name[2 + ID_LEN + 1];
    container_name(&job->row->id, name);
    if (fits && box && !str_eq(box->name, name))
        fits = false;
    if (fits) /* so that it is told from the next time that its agent is not heard */
        registry_live_update(c->registry, &job->row->id, note_heard, &(int64_t){ 0 });
    else if (core_reconcile_one(c, &job->row->id, &err) < 0)
        log_warn("reconcile.row_failed", KV_STR("id", job->row->id.text), KV_ERR(&err));
    core_unref(job->row);
    free(job);
}

static void remove_orphans(const struct round *r)
{
    const struct runtime *rt = r->core->p.runtime;
    for (size_t i = 0; i < r->n_boxes; i++) {
        const struct runtime_container *box = &r->boxes[i];
        struct err err;
        const struct sandbox *row = registry_get(r->core->registry, &box->id);
        core_unref(row);
        if (row)
            continue;
        log_warn("reconcile.orphan_removed", KV_STR("id", box->id.text),
                 KV_STR("container", box->container_id));
        if (rt->remove(rt->self, box->container_id, &err) < 0)
            log_warn("reconcile.orphan_stays", KV_STR("id", box->id.text), KV_ERR(&err));
    }
}

/* Purges that were begun without a row to remember them by. */
static int finish_purges(struct core *c, struct err *err)
{
    struct store_workspace *list = NULL;
    size_t count = 0;
    if (store_workspaces_purging(c->p.store, &list, &count, err) < 0)
        return -1;
    for (size_t i = 0; i < count; i++) {
        struct err why;
        uint64_t freed;
        if (core_purge_workspace(c, &list[i].id, &freed, &why) < 0 ||
            store_workspace_gone(c->p.store, &list[i].id, &why) < 0)
            log_warn("reconcile.purge_failed", KV_STR("id", list[i].id.text), KV_ERR(&why));
        store_workspace_release(&list[i]);
    }
    free(list);
    return 0;
}

/* Agents that outlived the last daemon redial as soon as their socket is there: before anything
 * slow. */
static void expect_agents(struct core *c)
{
    static const struct core_filter all = { .state = -1 };
    const struct sandbox **rows;
    size_t count;
    bool more;
    registry_list(c->registry, NULL, &all, &rows, &count, &more);
    for (size_t i = 0; i < count; i++) {
        struct err err;
        bool alive = rows[i]->state == SANDBOX_RUNNING || rows[i]->state == SANDBOX_PAUSED ||
                     rows[i]->state == SANDBOX_PAUSING || rows[i]->state == SANDBOX_RESUMING;
        if (alive && link_expect(c->p.link, &rows[i]->id, rows[i]->secret, false, &err) < 0)
            log_warn("reconcile.socket_failed", KV_STR("id", rows[i]->id.text), KV_ERR(&err));
        core_unref(rows[i]);
    }
    free(rows);
}

/* Services of sandboxes that were awake, or frozen, all the time. */
static void take_up_services(struct core *c)
{
    static const struct core_filter all = { .state = -1 };
    const struct sandbox **rows;
    size_t count;
    bool more;
    registry_list(c->registry, NULL, &all, &rows, &count, &more);
    for (size_t i = 0; i < count; i++) {
        if (rows[i]->state == SANDBOX_RUNNING || rows[i]->state == SANDBOX_PAUSED)
            supervisor_take_up(c->supervisor, rows[i]);
        core_unref(rows[i]);
    }
    free(rows);
}

int core_reconcile(struct core *c, bool boot, struct err *err)
{
    static const struct core_filter all = { .state = -1 };
    struct round r = { .core = c };
    const struct sandbox **rows;
    size_t count;
    bool more;
    if (boot) {
        expect_agents(c);
        if (volume_sweep(c->p.volume, err) < 0)
            log_warn("reconcile.sweep_failed", KV_ERR(err));
    }
    if (c->p.runtime->list(c->p.runtime->self, &r.boxes, &r.n_boxes, err) < 0)
        return -1;
    /* Rows after containers: a container in the list whose row is missing was deleted, never
     * created. */
    registry_list(c->registry, NULL, &all, &rows, &count, &more);
    remove_orphans(&r);
    struct pool *pool = pool_new("reconcile", ENGINE_STARTS_AT_ONCE, (uint32_t)count + 1, 1000);
    for (size_t i = 0; i < count; i++) {
        struct row_job *job = mem_new(1, sizeof *job);
        *job = (struct row_job){ &r, rows[i] };
        bool slow = !sandbox_state_settled(rows[i]->state);
        if (!slow || pool_run(pool, row_job, job, err) < 0)
            row_job(job);
    }
    pool_stop(pool);
    free(rows);
    free(r.boxes);
    if (finish_purges(c, err) < 0)
        return -1;
    if (boot) {
        take_up_services(c);
        atomic_store(&c->booted, true);
    }
    return 0;
}

int core_reconcile_one(struct core *c, const struct sandbox_id *id, struct err *err)
{
    const struct runtime *rt = c->p.runtime;
    struct runtime_container box;
    char name[2 + ID_LEN + 1];
    const struct sandbox *row = registry_get(c->registry, id);
    if (!row)
        return 0; /* being deleted, or an orphan: the sweep's business */
    container_name(id, name);
    int rc = rt->inspect(rt->self, row->container_id ? row->container_id : name, &box, err);
    const struct runtime_container *found = rc == 0 && sandbox_id_eq(&box.id, id) ? &box : NULL;
    if (rc == 0 || err->code == ERR_NOT_FOUND)
        rc = reconcile_row(c, row, found, err);
    core_unref(row);
    return rc;
}

int core_flush(struct core *c, struct err *err)
{
    struct store_activity batch[TOUCH_BATCH];
    size_t n;
    while ((n = registry_take_touched(c->registry, batch, TOUCH_BATCH)) > 0)
        if (store_touch(c->p.store, batch, n, err) < 0)
            return -1;
    return store_idem_expire(c->p.store, clock_wall_ms() - IDEM_KEEP_MS, err);
}

int core_ready(struct core *c, struct err *err)
{
    if (store_ping(c->p.store, err) < 0 || core_engine_there(c, err) < 0)
        return -1;
    if (!atomic_load(&c->booted))
        return err_set(err, ERR_UNAVAILABLE,
                       "still comparing containers with the database after the start");
    return 0;
}
