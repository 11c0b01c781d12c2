/* Sleep: who may, who must, and why somebody does not.
 *
 * Awake by truth: commands, open streams at the edge, processes that use the CPU, keepalive, recent
 * requests. An idle sandbox is frozen or stopped as its policy says; a frozen one is stopped later.
 * When the host runs short of memory the longest idle goes first, whatever its policy, and never
 * one with work under way. Each round looks at rows in memory; every move is the same compare and
 * set that its owner would use. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/str.h"
#include "hostmem.h"
#include "inside.h"

#define BUSY_CPU_MILLI 50          /* a twentieth of a core: idle dev servers use less */
#define LOW_MEMORY_CLEAR_PCT 2     /* above the floor before starts are let in again */
#define DEATHS_FORGOTTEN_MS 600000 /* up for so long: earlier deaths do not count */

static const struct caller reaper = { .tenant = NULL, .actor = "reaper" };

int core_freeze(struct core *c, const struct sandbox *row, struct err *err)
{
    const struct runtime *rt = c->p.runtime;
    struct err why;
    int rc = rt->pause(rt->self, row->container_id, err);
    if (core_fire(c, row, rc == 0 ? SANDBOX_ON_PAUSED : SANDBOX_ON_FAILED, NULL, NULL, &why) < 0) {
        registry_disown(c->registry, &row->id); /* the sweep looks what is true */
        if (rc == 0)
            *err = why;
        return -1;
    }
    return rc;
}

int core_thaw(struct core *c, const struct sandbox *row, struct err *err)
{
    const struct runtime *rt = c->p.runtime;
    struct err why;
    int rc = rt->unpause(rt->self, row->container_id, err);
    if (core_fire(c, row, rc == 0 ? SANDBOX_ON_STARTED : SANDBOX_ON_FAILED, NULL, NULL, &why) < 0) {
        registry_disown(c->registry, &row->id);
        if (rc == 0)
            *err = why;
        return -1;
    }
    return rc;
}

int core_pause(struct core *c, const struct caller *who, const struct sandbox_id *id,
               const struct sandbox **ret, struct err *err)
{
    bool waited;
    const struct sandbox *s = core_settled_row(c, who, id, &waited, err);
    if (!s)
        return -1;
    if (s->state == SANDBOX_PAUSED) {
        *ret = s;
        return 0;
    }
    struct store_move m = { .actor = who->actor, .action = "sandbox.pause" };
    const struct sandbox *mine = NULL;
    int rc = core_engine_there(c, err);
    if (rc == 0)
        rc = core_fire(c, s, SANDBOX_ON_PAUSE, &m, &mine, err);
    core_unref(s);
    if (rc == 0 && mine)
        rc = core_freeze(c, mine, err);
    core_unref(mine);
    if (rc < 0)
        return -1;
    *ret = core_own_row(c, who, id, err);
    return *ret ? 0 : -1;
}

/* --- activity --- */

static void use_more(struct registry_live *live, void *ctx)
{
    (void)ctx;
    live->uses++;
}

static void use_less(struct registry_live *live, void *ctx)
{
    (void)ctx;
    if (live->uses > 0) /* the row was made anew meanwhile: its count went with it */
        live->uses--;
}

void core_use_begin(struct core *c, const struct sandbox_id *id)
{
    registry_live_update(c->registry, id, use_more, NULL);
    registry_touch(c->registry, id);
}

void core_use_end(struct core *c, const struct sandbox_id *id)
{
    registry_live_update(c->registry, id, use_less, NULL);
    registry_touch(c->registry, id);
}

void core_touch(struct core *c, const struct sandbox_id *id)
{
    registry_touch(c->registry, id);
}

enum core_phase core_phase(struct core *c, const struct sandbox_id *id)
{
    struct registry_live live;
    return registry_live(c->registry, id, &live) ? live.phase : PHASE_NONE;
}

struct cpu_look {
    uint64_t ns;
    int64_t at_ms;
};

static void note_cpu(struct registry_live *live, void *ctx)
{
    const struct cpu_look *look = ctx;
    int64_t ms = look->at_ms - live->cpu_at_ms;
    if (live->cpu_at_ms && ms > 0 && look->ns >= live->cpu_ns)
        live->cpu_milli = (uint32_t)((look->ns - live->cpu_ns) / 1000 / (uint64_t)ms);
    live->cpu_ns = look->ns;
    live->cpu_at_ms = look->at_ms;
}

static void measure_cpu(struct core *c, const struct sandbox *s)
{
    struct cpu_look look = { .at_ms = clock_mono_ms() };
    if (s->container_id && hostmem_container_cpu(s->container_id, &look.ns))
        registry_live_update(c->registry, &s->id, note_cpu, &look);
}

/* --- who may sleep --- */

static int64_t idle_limit_ms(const struct core *c, const struct sandbox *s)
{
    return s->idle_timeout_ms ? s->idle_timeout_ms : c->p.config->idle_timeout_ms;
}

static int64_t stop_limit_ms(const struct core *c, const struct sandbox *s)
{
    return s->stop_timeout_ms ? s->stop_timeout_ms : c->p.config->pause_stop_ms;
}

/* What keeps it awake; NULL: nothing. */
static const char *kept_by(const struct core *c, const struct sandbox *s,
                           const struct registry_live *live, int64_t wall_ms)
{
    if (live->execs > 0)
        return "a command runs";
    if (procs_busy(c->procs, &s->id) > 0)
        return "a process runs";
    if (live->uses > 0)
        return "a request or stream is open";
    if (s->keepalive_until_ms > wall_ms)
        return "keepalive";
    if (live->cpu_milli >= BUSY_CPU_MILLI)
        return "processes use the CPU";
    return NULL;
}

static int64_t idle_for_ms(const struct sandbox *s, int64_t wall_ms)
{
    int64_t idle = wall_ms - s->last_active_at_ms;
    return idle < 0 ? 0 : idle; /* the wall clock was set back: not a reason to sleep */
}

static void note_slept(struct registry_live *live, void *ctx)
{
    live->slept_why = ctx;
}

void core_slept(struct core *c, const struct sandbox_id *id, const char *why)
{
    registry_live_update(c->registry, id, note_slept, (char *)(uintptr_t)why);
}

static void put_to_sleep(struct core *c, const struct sandbox *s, bool freeze, const char *why)
{
    struct caller who = { .tenant = s->tenant, .actor = reaper.actor };
    const struct sandbox *after = NULL;
    struct err err;
    int rc = freeze ? core_pause(c, &who, &s->id, &after, &err)
                    : core_stop(c, &who, &s->id, &after, &err);
    core_unref(after);
    if (rc == 0)
        core_slept(c, &s->id, why);
    if (rc < 0)
        log_warn("sandbox.sleep_failed", KV_STR("id", s->id.text), KV_ERR(&err));
    else
        log_info("sandbox.asleep", KV_STR("id", s->id.text), KV_STR("why", why),
                 KV_INT("frozen", freeze));
}

/* The only deletion that nobody asks for in the moment: somebody asked for it at create. */
static bool forgotten(struct core *c, const struct sandbox *s)
{
    struct registry_live live;
    int64_t now = clock_wall_ms();
    if (!s->ttl_s || idle_for_ms(s, now) < (int64_t)s->ttl_s * 1000 ||
        !sandbox_state_settled(s->state) || !registry_live(c->registry, &s->id, &live) ||
        kept_by(c, s, &live, now))
        return false;
    struct caller who = { .tenant = s->tenant, .actor = reaper.actor };
    struct err err;
    uint64_t freed;
    if (core_purge(c, &who, &s->id, &freed, &err) < 0)
        log_warn("sandbox.ttl_failed", KV_STR("id", s->id.text), KV_ERR(&err));
    else
        log_info("sandbox.ttl_purged", KV_STR("id", s->id.text));
    return true;
}

static void look_at(struct core *c, const struct sandbox *s)
{
    struct registry_live live;
    int64_t now = clock_wall_ms();
    if (s->state == SANDBOX_RUNNING)
        measure_cpu(c, s);
    if (s->idle_policy == IDLE_ALWAYS_ON || !registry_live(c->registry, &s->id, &live))
        return;
    int64_t idle = idle_for_ms(s, now);
    if (s->state == SANDBOX_PAUSED) {
        if (idle >= idle_limit_ms(c, s) + stop_limit_ms(c, s))
            put_to_sleep(c, s, false, "frozen for long");
        return;
    }
    if (idle < idle_limit_ms(c, s))
        return;
    if (live.cpu_milli >= BUSY_CPU_MILLI)
        registry_touch(c->registry, &s->id); /* busy now: the idle time begins when it ends */
    if (!kept_by(c, s, &live, now))
        put_to_sleep(c, s, s->idle_policy == IDLE_PAUSE, "idle");
}

/* --- memory --- */

struct candidate {
    const struct sandbox *s;
    int64_t idle_ms;
};

/* Under pressure one sandbox a round is stopped: the longest idle; always_on ones only below the
 * emergency mark. */
static void relieve(struct core *c, const struct sandbox **rows, size_t count, bool emergency)
{
    struct candidate best = { NULL, -1 };
    int64_t now = clock_wall_ms();
    for (size_t i = 0; i < count; i++) {
        struct registry_live live;
        if ((rows[i]->state != SANDBOX_RUNNING && rows[i]->state != SANDBOX_PAUSED) ||
            !registry_live(c->registry, &rows[i]->id, &live) || kept_by(c, rows[i], &live, now) ||
            (rows[i]->idle_policy == IDLE_ALWAYS_ON && !emergency))
            continue;
        int64_t idle = idle_for_ms(rows[i], now);
        if (idle > best.idle_ms)
            best = (struct candidate){ rows[i], idle };
    }
    if (best.s)
        put_to_sleep(c, best.s, false, emergency ? "memory emergency" : "memory pressure");
}

static void list_all(struct core *c, const struct sandbox ***rows, size_t *count)
{
    static const struct core_filter all = { .state = -1 };
    bool more;
    registry_list(c->registry, NULL, &all, rows, count, &more);
}

static void free_all(const struct sandbox **rows, size_t count)
{
    for (size_t i = 0; i < count; i++)
        core_unref(rows[i]);
    free(rows);
}

static void mind_memory(struct core *c, const struct sandbox **rows, size_t count)
{
    struct hostmem m;
    const struct config *cfg = c->p.config;
    if (!hostmem_read(&m))
        return;
    if (m.available_pct < cfg->mem_refuse_pct)
        atomic_store(&c->low_memory, true);
    else if (m.available_pct >= cfg->mem_refuse_pct + LOW_MEMORY_CLEAR_PCT)
        atomic_store(&c->low_memory, false);
    if (m.available_pct < cfg->mem_headroom_pct)
        relieve(c, rows, count, m.available_pct < cfg->mem_emergency_pct);
}

void core_sleep_round(struct core *c)
{
    const struct sandbox **rows;
    size_t count;
    list_all(c, &rows, &count);
    for (size_t i = 0; i < count; i++)
        if (!forgotten(c, rows[i]) &&
            (rows[i]->state == SANDBOX_RUNNING || rows[i]->state == SANDBOX_PAUSED))
            look_at(c, rows[i]);
    mind_memory(c, rows, count);
    free_all(rows, count);
}

/* A start is let in when its memory can be had above the floor, counting starts under way; if not,
 * the reaper gets one chance to make room. */
int core_admit(struct core *c, struct err *err)
{
    const struct config *cfg = c->p.config;
    for (int attempt = 0;; attempt++) {
        struct hostmem m;
        if (!hostmem_read(&m))
            return 0; /* unreadable: nothing to decide on */
        mu_lock(&c->gate);
        uint64_t need = ((uint64_t)c->starting + 1) * (uint64_t)cfg->wake_cost_mib;
        mu_unlock(&c->gate);
        uint64_t floor_mib = m.total_mib * (uint64_t)cfg->mem_refuse_pct / 100;
        if (m.available_mib >= need + floor_mib && !atomic_load(&c->low_memory))
            return 0;
        if (attempt > 0) {
            (void)err_set(err, ERR_CAPACITY,
                          "low_memory: %lld %% of the host's memory is available",
                          (long long)m.available_pct);
            return err_remedy(err, "Stop sandboxes, or wait: idle ones are being put to sleep.");
        }
        const struct sandbox **rows;
        size_t count;
        list_all(c, &rows, &count);
        relieve(c, rows, count, m.available_pct < cfg->mem_emergency_pct);
        free_all(rows, count);
        if (hostmem_read(&m) && m.available_pct >= cfg->mem_refuse_pct + LOW_MEMORY_CLEAR_PCT)
            atomic_store(&c->low_memory, false);
    }
}

/* --- why --- */

int core_why(struct core *c, const struct caller *who, const struct sandbox_id *id,
             struct core_why *ret, struct err *err)
{
    struct registry_live live = { 0 };
    const struct sandbox *s = core_own_row(c, who, id, err);
    if (!s)
        return -1;
    (void)registry_live(c->registry, id, &live); /* gone this moment: zeroes are true enough */
    int64_t now = clock_wall_ms();
    *ret = (struct core_why){ .state = sandbox_state_name(s->state),
                              .idle_ms = idle_for_ms(s, now),
                              .sleeps_in_ms = -1,
                              .execs = live.execs,
                              .uses = live.uses,
                              .cpu_milli = live.cpu_milli,
                              .start_ms = live.start_ms,
                              .start_engine_ms = live.start_engine_ms,
                              .start_agent_ms = live.start_agent_ms,
                              .deaths = live.deaths };
    if (s->state == SANDBOX_RUNNING) {
        const char *by = kept_by(c, s, &live, now);
        int64_t left = idle_limit_ms(c, s) - ret->idle_ms;
        if (by)
            (void)str_copy(ret->awake_because, sizeof ret->awake_because, by);
        else if (s->idle_policy == IDLE_ALWAYS_ON)
            (void)str_copy(ret->awake_because, sizeof ret->awake_because,
                           "its policy is always_on");
        else if (left > 0)
            (void)str_copy(ret->awake_because, sizeof ret->awake_because, "it was used lately");
        if (!by && s->idle_policy != IDLE_ALWAYS_ON)
            ret->sleeps_in_ms = left > 0 ? left : 0;
    } else if (s->error_message) {
        (void)str_copy(ret->asleep_because, sizeof ret->asleep_because, s->error_message);
    } else if (s->state == SANDBOX_STOPPED || s->state == SANDBOX_PAUSED) {
        (void)str_copy(ret->asleep_because, sizeof ret->asleep_because,
                       live.slept_why ? live.slept_why : "it was asleep when the daemon started");
    }
    core_unref(s);
    return 0;
}
