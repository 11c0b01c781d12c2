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
#include <unistd.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/str.h"
#include "hostmem.h"
#include "inside.h"
#include "proc.h"

#define CPU_WINDOW_MS 1000
#define BUSY_CPU_MILLI 50      /* a twentieth of a core: idle dev servers use less */
#define BUSY_CPU_MILLI_MIN 10  /* however loaded the host is */
#define CPU_MISSES_TOLD 3      /* in a row; one may be a container that ended just now */
#define ADMIT_WAIT_MS 30000    /* for starts that are under way, when memory is promised to them */
#define LOW_MEMORY_CLEAR_PCT 2 /* above the floor before starts are let in again */

#define REAPER "reaper" /* the actor in the audit */

/* --- frozen and thawed --- */

static void note_frozen(struct registry_live *live, void *ctx)
{
    (void)ctx;
    live->cpu_milli = 0;
}

/* What was measured before the freeze tells nothing of now. */
static void note_thawed(struct registry_live *live, void *ctx)
{
    (void)ctx;
    live->cpu_at_ms = 0;
    live->cpu_known = false;
}

/* What the engine misses is not what the caller asked for: that one is there. */
static void gone_is_unavailable(int rc, struct err *err)
{
    if (rc < 0 && err->code == ERR_NOT_FOUND)
        err->code = ERR_UNAVAILABLE;
}

int core_freeze(struct core *c, const struct sandbox *row, struct err *err)
{
    const struct runtime *rt = c->p.runtime;
    struct err why;
    int rc = rt->pause(rt->self, row->container_id, err);
    if (rc == 0 && FAULT("core.freeze.after"))
        rc = err_set(err, ERR_ENGINE, "fault: frozen");
    gone_is_unavailable(rc, err);
    if (core_fire(c, row, rc == 0 ? SANDBOX_ON_PAUSED : SANDBOX_ON_FAILED, NULL, NULL, &why) < 0) {
        registry_disown(c->registry, &row->id); /* the sweep looks what is true */
        if (rc == 0)
            *err = why;
        return -1;
    }
    if (rc == 0)
        registry_live_update(c->registry, &row->id, note_frozen, NULL);
    return rc;
}

int core_thaw(struct core *c, const struct sandbox *row, struct err *err)
{
    const struct runtime *rt = c->p.runtime;
    struct err why;
    int64_t began = clock_mono_ms();
    int rc = rt->unpause(rt->self, row->container_id, err);
    if (rc == 0 && FAULT("core.thaw.after"))
        rc = err_set(err, ERR_ENGINE, "fault: thawed");
    gone_is_unavailable(rc, err);
    if (rc == 0)
        registry_live_update(c->registry, &row->id, note_thawed, NULL);
    if (core_fire(c, row, rc == 0 ? SANDBOX_ON_STARTED : SANDBOX_ON_FAILED, NULL, NULL, &why) < 0) {
        registry_disown(c->registry, &row->id);
        if (rc == 0)
            *err = why;
        return -1;
    }
    if (rc == 0)
        traffic_wake(&c->traffic, WAKE_THAW, clock_mono_ms() - began);
    return rc;
}

int core_pause(struct core *c, const struct caller *who, const struct sandbox_id *id,
               const struct sandbox **ret, struct err *err)
{
    bool start;
    const struct sandbox *s = core_settled_row(c, who, id, &start, err);
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
    if (rc == 0)
        core_slept(c, id, "somebody froze it through the API");
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
    if (live->cpu_at_ms && ms < CPU_WINDOW_MS)
        return; /* on a busy machine a short look sees nothing */
    if (live->cpu_at_ms && look->ns >= live->cpu_ns) {
        live->cpu_milli = (uint32_t)((look->ns - live->cpu_ns) / 1000 / (uint64_t)ms);
        live->cpu_known = true;
    }
    live->cpu_ns = look->ns;
    live->cpu_at_ms = look->at_ms;
}

static void note_no_cpu(struct registry_live *live, void *ctx)
{
    (void)ctx;
    live->cpu_milli = 0;
    live->cpu_known = true;
}

static void measure_cpu(struct core *c, const struct sandbox *s)
{
    struct cpu_look look = { .at_ms = clock_mono_ms() };
    if (!s->container_id)
        return;
    if (hostmem_container_cpu(s->container_id, &look.ns)) {
        c->cpu_misses = 0;
        registry_live_update(c->registry, &s->id, note_cpu, &look);
        return;
    }
    registry_live_update(c->registry, &s->id, note_no_cpu, NULL);
    if (++c->cpu_misses == CPU_MISSES_TOLD)
        log_warn("sandbox.cpu_unseen", KV_STR("id", s->id.text),
                 KV_STR("remedy",
                        "Mount the host's /sys/fs/cgroup where the daemon runs: until then "
                        "sandboxes that only compute count as idle."));
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

enum work { WORK_NONE, WORK_COMMAND, WORK_PROCESS, WORK_STREAM, WORK_CPU };
static const char *const work_words[] = {
    [WORK_COMMAND] = "a command runs",
    [WORK_PROCESS] = "a process runs",
    [WORK_STREAM] = "a request or stream is open",
    [WORK_CPU] = "processes use the CPU",
};

/* On a host with more to do than it can, who works hard gets little: less counts as work, too. */
static uint32_t busy_cpu_milli(void)
{
    double load, cpus = (double)sysconf(_SC_NPROCESSORS_ONLN);
    if (getloadavg(&load, 1) != 1 || load <= cpus)
        return BUSY_CPU_MILLI;
    double share = BUSY_CPU_MILLI * cpus / load;
    return share > BUSY_CPU_MILLI_MIN ? (uint32_t)share : BUSY_CPU_MILLI_MIN;
}

/* What is under way in it. */
static enum work work_of(const struct core *c, const struct sandbox *s,
                         const struct registry_live *live)
{
    if (live->execs > 0)
        return WORK_COMMAND;
    if (procs_busy(c->procs, &s->id) > 0)
        return WORK_PROCESS;
    if (live->uses > 0)
        return WORK_STREAM;
    return s->state != SANDBOX_PAUSED && live->cpu_milli >= busy_cpu_milli() ? WORK_CPU : WORK_NONE;
}

/* What keeps it as it is; NULL: nothing. In an emergency that is work alone. */
static const char *kept_by(const struct core *c, const struct sandbox *s,
                           const struct registry_live *live, bool emergency, int64_t wall_ms)
{
    enum work w = work_of(c, s, live);
    if (w != WORK_NONE)
        return work_words[w];
    return s->keepalive_until_ms > wall_ms && !emergency ? "keepalive" : NULL;
}

static int64_t since_ms(int64_t then_ms, int64_t wall_ms)
{
    int64_t ms = wall_ms - then_ms;
    return ms < 0 ? 0 : ms; /* the wall clock was set back: not a reason to sleep */
}

static void note_slept(struct registry_live *live, void *ctx)
{
    live->slept_why = ctx;
}

void core_slept(struct core *c, const struct sandbox_id *id, const char *why)
{
    registry_live_update(c->registry, id, note_slept, (char *)(uintptr_t)why);
}

/* Back to where it is of use to whoever came in between; it is running, or frozen and claimed for a
 * stop. */
static int stay_awake(struct core *c, const struct sandbox *mine, bool frozen, struct err *err)
{
    const struct runtime *rt = c->p.runtime;
    if (frozen && rt->unpause(rt->self, mine->container_id, err) < 0)
        return core_bring_down(c, mine, NULL, err);
    if (frozen)
        registry_live_update(c->registry, &mine->id, note_thawed, NULL);
    int rc = core_fire(c, mine, SANDBOX_ON_FAILED, NULL, NULL, err);
    if (rc < 0)
        registry_disown(c->registry, &mine->id);
    return rc;
}

/* s was found idle. Its row is claimed first and looked at once more then: whoever began to use it
 * before the claim could be seen has been counted by now, whoever comes later waits for the
 * outcome. */
static void put_to_sleep(struct core *c, const struct sandbox *s, bool freeze, bool emergency,
                         const char *why)
{
    struct store_move m = { .if_epoch = s->epoch,
                            .actor = REAPER,
                            .action = freeze ? "sandbox.pause" : "sandbox.stop" };
    const struct sandbox *mine = NULL;
    struct registry_live live = { 0 };
    struct err err;
    int rc = core_engine_there(c, &err);
    if (rc == 0)
        rc = core_fire(c, s, freeze ? SANDBOX_ON_PAUSE : SANDBOX_ON_STOP, &m, &mine, &err);
    if (rc == 0 && mine) {
        struct sandbox claimed = *mine; /* its texts are borrowed */
        claimed.state = s->state;
        bool used = !registry_live(c->registry, &s->id, &live) ||
                    mine->last_active_at_ms != s->last_active_at_ms ||
                    kept_by(c, &claimed, &live, emergency, clock_wall_ms());
        if (used)
            why = NULL;
        else
            core_slept(c, &s->id, why); /* before anybody can see that it sleeps */
        rc = used     ? stay_awake(c, mine, s->state == SANDBOX_PAUSED, &err)
             : freeze ? core_freeze(c, mine, &err)
                      : core_bring_down(c, mine, NULL, &err);
    }
    core_unref(mine);
    if (rc < 0 && err.code != ERR_CONFLICT) /* that one: somebody was faster */
        log_warn("sandbox.sleep_failed", KV_STR("id", s->id.text), KV_ERR(&err));
    if (rc < 0 || !why)
        return;
    log_info("sandbox.asleep", KV_STR("id", s->id.text), KV_STR("why", why),
             KV_INT("frozen", freeze));
}

/* The only deletion that nobody asks for in the moment: somebody asked for it at create. id: of a
 * row that was there when the round began; rounds may take long. */
static bool forgotten(struct core *c, const struct sandbox_id *id)
{
    struct registry_live live;
    int64_t now = clock_wall_ms();
    const struct sandbox *s = registry_get(c->registry, id);
    bool due = s && s->ttl_s && since_ms(s->last_active_at_ms, now) >= (int64_t)s->ttl_s * 1000 &&
               sandbox_state_settled(s->state) && registry_live(c->registry, id, &live) &&
               !kept_by(c, s, &live, false, now);
    if (due) {
        struct caller who = { .tenant = s->tenant, .actor = REAPER };
        struct err err;
        uint64_t freed;
        if (core_purge(c, &who, id, &freed, &err) < 0)
            log_warn("sandbox.ttl_failed", KV_STR("id", id->text), KV_ERR(&err));
        else
            log_info("sandbox.ttl_purged", KV_STR("id", id->text));
    }
    core_unref(s);
    return due;
}

static void look_at(struct core *c, const struct sandbox *s)
{
    struct registry_live live;
    int64_t now = clock_wall_ms();
    if (s->state == SANDBOX_RUNNING)
        measure_cpu(c, s);
    if (!registry_live(c->registry, &s->id, &live))
        return;
    if (s->state == SANDBOX_RUNNING && work_of(c, s, &live) != WORK_NONE)
        registry_touch(c->registry, &s->id); /* the idle time begins when the work ends */
    if (s->idle_policy == IDLE_ALWAYS_ON || kept_by(c, s, &live, false, now))
        return;
    if (s->state == SANDBOX_PAUSED) { /* last changed when it was frozen */
        if (since_ms(s->updated_at_ms, now) >= stop_limit_ms(c, s))
            put_to_sleep(c, s, false, false, "frozen for long");
    } else if (live.cpu_known && since_ms(s->last_active_at_ms, now) >= idle_limit_ms(c, s)) {
        put_to_sleep(c, s, s->idle_policy == IDLE_PAUSE, false, "idle");
    }
}

/* --- memory --- */

/* Under pressure one sandbox a round is stopped: the longest idle; below the emergency mark also
 * always_on ones and those with a keepalive. */
static void relieve(struct core *c, const struct sandbox **rows, size_t count, bool emergency)
{
    const struct sandbox *best = NULL;
    int64_t best_ms = -1, now = clock_wall_ms();
    for (size_t i = 0; i < count; i++) {
        struct registry_live live;
        bool running = rows[i]->state == SANDBOX_RUNNING;
        if ((!running && rows[i]->state != SANDBOX_PAUSED) ||
            !registry_live(c->registry, &rows[i]->id, &live) || (running && !live.cpu_known) ||
            kept_by(c, rows[i], &live, emergency, now) ||
            (rows[i]->idle_policy == IDLE_ALWAYS_ON && !emergency))
            continue;
        int64_t idle_ms = since_ms(rows[i]->last_active_at_ms, now);
        if (idle_ms > best_ms) {
            best = rows[i];
            best_ms = idle_ms;
        }
    }
    if (best)
        put_to_sleep(c, best, false, emergency, emergency ? "memory emergency" : "memory pressure");
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
        if (!forgotten(c, &rows[i]->id) &&
            (rows[i]->state == SANDBOX_RUNNING || rows[i]->state == SANDBOX_PAUSED))
            look_at(c, rows[i]);
    procs_end_unseen(c->procs, c->p.config->terminal_idle_ms);
    mind_memory(c, rows, count);
    free_all(rows, count);
}

enum admit { ADMIT_IN, ADMIT_AGAIN, ADMIT_LATE, ADMIT_NO_ROOM };

/* Counts one more start among those whose memory is not seen yet, if it fits above the floor. When
 * only those keep it out it waits for one of them, and is to look at the memory anew. */
static enum admit reserve(struct core *c, const struct hostmem *m, int64_t deadline_ms)
{
    const struct config *cfg = c->p.config;
    uint64_t cost_mib = (uint64_t)cfg->wake_cost_mib;
    uint64_t floor_mib = m->total_mib * (uint64_t)cfg->mem_refuse_pct / 100;
    if (m->available_mib < cost_mib + floor_mib || atomic_load(&c->low_memory))
        return ADMIT_NO_ROOM;
    enum admit r = ADMIT_IN;
    mu_lock(&c->gate);
    if (m->available_mib >= (c->admitted + UINT64_C(1)) * cost_mib + floor_mib)
        c->admitted++;
    else
        r = cond_wait_until(&c->room, &c->gate, deadline_ms) ? ADMIT_AGAIN : ADMIT_LATE;
    mu_unlock(&c->gate);
    return r;
}

static void make_room(struct core *c, struct hostmem *m)
{
    const struct config *cfg = c->p.config;
    const struct sandbox **rows;
    size_t count;
    list_all(c, &rows, &count);
    relieve(c, rows, count, m->available_pct < cfg->mem_emergency_pct);
    free_all(rows, count);
    if (hostmem_read(m) && m->available_pct >= cfg->mem_refuse_pct + LOW_MEMORY_CLEAR_PCT)
        atomic_store(&c->low_memory, false);
}

static int no_room(struct core *c, const struct hostmem *m, bool others, struct err *err)
{
    const struct config *cfg = c->p.config;
    bool latched = atomic_load(&c->low_memory); /* it has to be cleared first */
    (void)err_set(err, ERR_CAPACITY,
                  "low_memory: %lld %% of the host's memory is available; a start needs %lld MiB "
                  "above the floor of %lld %%%s",
                  (long long)m->available_pct, (long long)cfg->wake_cost_mib,
                  (long long)cfg->mem_refuse_pct + (latched ? LOW_MEMORY_CLEAR_PCT : 0),
                  others ? ", and others are starting" : "");
    return err_remedy(err, "Stop sandboxes, or wait: idle ones are being put to sleep.");
}

int core_admit(struct core *c, struct err *err)
{
    int64_t deadline_ms = clock_mono_ms() + ADMIT_WAIT_MS;
    for (bool tried = false;;) {
        struct hostmem m;
        if (!hostmem_read(&m)) /* nothing to decide on */
            m = (struct hostmem){ UINT64_MAX / 200, UINT64_MAX / 200, 100 };
        enum admit r = reserve(c, &m, deadline_ms);
        if (r == ADMIT_IN)
            return 0;
        if (r == ADMIT_AGAIN)
            continue;
        if (r == ADMIT_NO_ROOM && !tried) {
            tried = true;
            make_room(c, &m);
            continue;
        }
        return no_room(c, &m, r == ADMIT_LATE, err);
    }
}

void core_admitted(struct core *c)
{
    mu_lock(&c->gate);
    c->admitted--;
    cond_broadcast(&c->room);
    mu_unlock(&c->gate);
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
                              .idle_ms = since_ms(s->last_active_at_ms, now),
                              .sleeps_in_ms = -1,
                              .execs = live.execs,
                              .uses = live.uses,
                              .cpu_milli = live.cpu_milli,
                              .start = live.start,
                              .deaths = live.deaths,
                              .died_at_ms = live.died_wall_ms };
    (void)str_copy(ret->died_why, sizeof ret->died_why, live.died_why);
    (void)health_awaited(c->health, id, 0, NULL, ret->waits_for);
    if (s->state == SANDBOX_RUNNING) {
        const char *by = kept_by(c, s, &live, false, now);
        int64_t left = idle_limit_ms(c, s) - ret->idle_ms;
        if (by)
            (void)str_copy(ret->awake_because, sizeof ret->awake_because, by);
        else if (s->idle_policy == IDLE_ALWAYS_ON)
            (void)str_copy(ret->awake_because, sizeof ret->awake_because,
                           "its policy is always_on");
        else if (left > 0)
            (void)str_copy(ret->awake_because, sizeof ret->awake_because, "it was used lately");
        if (s->idle_policy != IDLE_ALWAYS_ON && work_of(c, s, &live) == WORK_NONE) {
            int64_t kept = s->keepalive_until_ms - now;
            left = left > kept ? left : kept;
            ret->sleeps_in_ms = left > 0 ? left : 0;
        }
    } else if (s->error_message) {
        (void)str_copy(ret->asleep_because, sizeof ret->asleep_because, s->error_message);
    } else if (s->state == SANDBOX_STOPPED || s->state == SANDBOX_PAUSED) {
        (void)str_copy(ret->asleep_because, sizeof ret->asleep_because,
                       live.slept_why ? live.slept_why : "it was asleep when the daemon started");
    }
    core_unref(s);
    return 0;
}
