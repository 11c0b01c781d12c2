/* The reaper against everybody who wants something of a sandbox in the very moment it decides. */
#include <pthread.h>
#include <sched.h>

#include "corerig.h"
#include "hostmem.h"
#include "inside.h" /* struct core: its registry, to turn clocks */
#include "registry.h"

static struct err err;

static void old(struct sandbox *row, void *ctx)
{
    (void)ctx;
    row->last_active_at_ms -= 3600 * 1000;
    row->updated_at_ms -= 3600 * 1000;
}

static void known(struct registry_live *live, void *ctx)
{
    (void)ctx;
    live->cpu_known = true;
}

/* Nobody has used it for an hour, and its CPU was measured. */
static struct sandbox_id idle_for(int policy, uint32_t idle_timeout_ms)
{
    struct core_create req = { .idle_timeout_ms = idle_timeout_ms,
                               .stop_timeout_ms = 1800 * 1000,
                               .idle_policy = policy };
    struct sandbox_id id = rig_create_with(&req);
    CHECK(registry_update(rig.core->registry, &id, old, NULL));
    registry_live_update(rig.core->registry, &id, known, NULL);
    return id;
}

static struct sandbox_id idle_box(int policy)
{
    return idle_for(policy, 1000);
}

static void purge(const struct sandbox_id *id)
{
    uint64_t freed;
    CHECK(core_purge(rig.core, &me, id, &freed, &err) == 0);
}

static struct core_why why_of(const struct sandbox_id *id)
{
    struct core_why why = { .state = "" };
    CHECK(core_why(rig.core, &me, id, &why, &err) == 0);
    return why;
}

static void check_policies(void)
{
    struct sandbox_id sleep = idle_box(IDLE_SLEEP), pause = idle_box(IDLE_PAUSE),
                      on = idle_box(IDLE_ALWAYS_ON), fresh = rig_create();
    core_sleep_round(rig.core);
    CHECK(rig_state(&sleep) == SANDBOX_STOPPED && rig_state(&pause) == SANDBOX_PAUSED);
    CHECK(rig_state(&on) == SANDBOX_RUNNING && rig_state(&fresh) == SANDBOX_RUNNING);
    CHECK_STR("idle", why_of(&sleep).asleep_because);
    core_sleep_round(rig.core);
    CHECK(rig_state(&pause) == SANDBOX_PAUSED); /* frozen just now, whenever it was used last */
    CHECK(registry_update(rig.core->registry, &pause, old, NULL));
    core_sleep_round(rig.core);
    CHECK(rig_state(&pause) == SANDBOX_STOPPED);
    CHECK_STR("frozen for long", why_of(&pause).asleep_because);
    rig_true("policies");
    purge(&sleep), purge(&pause), purge(&on), purge(&fresh);
}

static void busy(struct registry_live *live, void *ctx)
{
    live->cpu_milli = *(const uint32_t *)ctx;
}

static void unknown(struct registry_live *live, void *ctx)
{
    (void)ctx;
    live->cpu_known = false;
}

static void check_kept(void)
{
    struct sandbox_id id = idle_box(IDLE_SLEEP);
    struct process p;
    int64_t until;
    core_use_begin(rig.core, &id);
    CHECK(registry_update(rig.core->registry, &id, old, NULL));
    core_sleep_round(rig.core);
    CHECK(rig_state(&id) == SANDBOX_RUNNING);
    CHECK_STR("a request or stream is open", why_of(&id).awake_because);
    CHECK(why_of(&id).sleeps_in_ms == -1);
    core_use_end(rig.core, &id);

    CHECK(rig_process(&id, "hold", NULL, false, &p, &err) == 0);
    CHECK(registry_update(rig.core->registry, &id, old, NULL));
    core_sleep_round(rig.core);
    CHECK(rig_state(&id) == SANDBOX_RUNNING);
    CHECK_STR("a process runs", why_of(&id).awake_because);
    CHECK(why_of(&id).idle_ms < 1800 * 1000); /* work is use */
    CHECK(core_process_remove(rig.core, &me, &id, &p.id, &err) == 0);
    process_release(&p);

    CHECK(core_keepalive(rig.core, &me, &id, 0, &until, &err) == 0);
    CHECK(registry_update(rig.core->registry, &id, old, NULL));
    core_sleep_round(rig.core);
    CHECK(rig_state(&id) == SANDBOX_RUNNING);
    CHECK_STR("keepalive", why_of(&id).awake_because);
    CHECK(why_of(&id).sleeps_in_ms > 3500 * 1000); /* when that ends */
    purge(&id);

    id = idle_box(IDLE_SLEEP);
    uint32_t milli = 50;
    registry_live_update(rig.core->registry, &id, busy, &milli);
    CHECK_STR("processes use the CPU", why_of(&id).awake_because);
    milli = 9; /* nowhere, however loaded the host of this test is */
    registry_live_update(rig.core->registry, &id, busy, &milli);
    CHECK_STR("", why_of(&id).awake_because);
    /* Frozen, it uses none, whatever was measured before. */
    milli = 500;
    registry_live_update(rig.core->registry, &id, busy, &milli);
    CHECK(rig_pause(&id, &err) == 0);
    CHECK(why_of(&id).cpu_milli == 0);
    CHECK_STR("somebody froze it through the API", why_of(&id).asleep_because);
    CHECK(rig_start(&id, &err) == 0);
    struct registry_live live;
    CHECK(registry_live(rig.core->registry, &id, &live) && !live.cpu_known);
    purge(&id);
}

/* Frozen on purpose with work under way: never thrown away. */
static void check_frozen_work(void)
{
    struct sandbox_id id = idle_box(IDLE_SLEEP);
    struct process p;
    CHECK(rig_process(&id, "hold", NULL, false, &p, &err) == 0);
    CHECK(rig_pause(&id, &err) == 0 && registry_update(rig.core->registry, &id, old, NULL));
    core_sleep_round(rig.core);
    CHECK(rig_state(&id) == SANDBOX_PAUSED);
    process_release(&p);
    purge(&id);
}

/* --- in the very moment --- */

static struct sandbox_id moment_id;
static enum fake_call moment_call;
static int moment_left;
static void begin_use(void *ctx, enum fake_call call)
{
    (void)ctx;
    if (call == moment_call && moment_left > 0 && --moment_left == 0)
        core_use_begin(rig.core, &moment_id);
}

/* Somebody begins to use it after it was found idle and before it is claimed (the engine is asked
 * in between). */
static void check_before_claim(void)
{
    for (int policy = IDLE_SLEEP; policy <= IDLE_PAUSE; policy++) {
        moment_id = idle_box(policy);
        unsigned stops = atomic_load(&rig.fake.calls[FAKE_STOP]),
                 pauses = atomic_load(&rig.fake.calls[FAKE_PAUSE]);
        moment_call = FAKE_PING;
        moment_left = 1;
        rig.fake.hook = begin_use;
        core_sleep_round(rig.core);
        rig.fake.hook = NULL;
        CHECK(moment_left == 0 && rig_state(&moment_id) == SANDBOX_RUNNING);
        CHECK(atomic_load(&rig.fake.calls[FAKE_STOP]) == stops &&
              atomic_load(&rig.fake.calls[FAKE_PAUSE]) == pauses);
        core_use_end(rig.core, &moment_id);
        rig_true("before the claim");
        purge(&moment_id);
    }
    /* One that was frozen is thawed for him. */
    moment_id = idle_box(IDLE_SLEEP);
    CHECK(rig_pause(&moment_id, &err) == 0);
    CHECK(registry_update(rig.core->registry, &moment_id, old, NULL));
    moment_call = FAKE_PING;
    moment_left = 1;
    rig.fake.hook = begin_use;
    core_sleep_round(rig.core);
    rig.fake.hook = NULL;
    CHECK(moment_left == 0 && rig_state(&moment_id) == SANDBOX_RUNNING);
    core_use_end(rig.core, &moment_id);
    rig_true("frozen, before the claim");
    purge(&moment_id);
}

/* Commands in a tight row while the reaper does nothing but decide: none is ever lost. */
static atomic_bool rounds_over;
static void *rounds(void *arg)
{
    const struct sandbox_id *id = arg;
    while (!atomic_load(&rounds_over)) {
        (void)registry_update(rig.core->registry, id, old, NULL);
        registry_live_update(rig.core->registry, id, known, NULL);
        core_sleep_round(rig.core);
    }
    return NULL;
}

static void check_hammer(void)
{
    for (int policy = IDLE_SLEEP; policy <= IDLE_PAUSE; policy++) {
        struct sandbox_id id = idle_box(policy);
        pthread_t t;
        int lost = 0;
        atomic_store(&rounds_over, false);
        CHECK(pthread_create(&t, NULL, rounds, &id) == 0);
        for (int i = 0; i < 60; i++) {
            struct exec_result res;
            struct process p;
            if (rig_exec(&id, "exit@9", &res, &err) < 0 || res.code != 9) {
                printf("# exec %d: %s\n", i, err.msg);
                lost++;
            }
            if (rig_process(&id, "hold", NULL, false, &p, &err) < 0) {
                printf("# process %d: %s\n", i, err.msg);
                lost++;
                continue;
            }
            if (core_process_remove(rig.core, &me, &id, &p.id, &err) < 0)
                lost++;
            process_release(&p);
        }
        atomic_store(&rounds_over, true);
        CHECK(pthread_join(t, NULL) == 0);
        CHECK(lost == 0);
        rig_true("hammer");
        purge(&id);
    }
}

/* --- memory --- */

static void check_pressure(void)
{
    struct sandbox_id a = idle_for(IDLE_SLEEP, UINT32_MAX), b = idle_for(IDLE_SLEEP, UINT32_MAX),
                      on = idle_for(IDLE_ALWAYS_ON, 0), work = idle_for(IDLE_SLEEP, UINT32_MAX),
                      blind;
    blind = idle_for(IDLE_SLEEP, UINT32_MAX); /* idle for long, but nobody knows yet what it does */
    CHECK(registry_update(rig.core->registry, &b, old, NULL)); /* the longest */
    CHECK(registry_update(rig.core->registry, &work, old, NULL));
    CHECK(registry_update(rig.core->registry, &work, old, NULL));
    CHECK(registry_update(rig.core->registry, &blind, old, NULL));
    CHECK(registry_update(rig.core->registry, &blind, old, NULL));
    registry_live_update(rig.core->registry, &blind, unknown, NULL);
    core_use_begin(rig.core, &work);
    CHECK(registry_update(rig.core->registry, &work, old, NULL));
    rig.config.mem_refuse_pct = 100; /* a start asks the reaper for room, once */
    CHECK(core_admit(rig.core, &err) < 0 && err.code == ERR_CAPACITY);
    rig.config.mem_refuse_pct = 0;
    CHECK(rig_state(&b) == SANDBOX_STOPPED);
    CHECK_STR("memory pressure", why_of(&b).asleep_because);
    CHECK(rig_state(&a) == SANDBOX_RUNNING && rig_state(&on) == SANDBOX_RUNNING);
    CHECK(rig_state(&work) == SANDBOX_RUNNING && rig_state(&blind) == SANDBOX_RUNNING);
    core_use_end(rig.core, &work);
    purge(&a), purge(&b), purge(&on), purge(&work), purge(&blind);
}

static atomic_bool second_in;
static void *second(void *arg)
{
    struct err late;
    (void)arg;
    if (core_admit(rig.core, &late) == 0)
        atomic_store(&second_in, true);
    else
        printf("# %s\n", late.msg);
    return NULL;
}

/* What is promised to one start is not promised to the next, who waits for it. */
static void check_reservation(void)
{
    struct hostmem m;
    pthread_t t;
    CHECK(hostmem_read(&m));
    rig.config.wake_cost_mib = (int64_t)m.available_mib * 2 / 3; /* one fits, two do not */
    CHECK(core_admit(rig.core, &err) == 0);
    CHECK(pthread_create(&t, NULL, second, NULL) == 0);
    for (int i = 0; i < 100; i++)
        (void)sched_yield();
    CHECK(!atomic_load(&second_in));
    core_admitted(rig.core);
    CHECK(pthread_join(t, NULL) == 0 && atomic_load(&second_in));
    core_admitted(rig.core);
    rig.config.wake_cost_mib = (int64_t)m.total_mib; /* fits never: nobody to wait for */
    char floor[64];
    (void)snprintf(floor, sizeof floor, " %lld MiB above the floor of %lld %%",
                   (long long)m.total_mib, (long long)rig.config.mem_refuse_pct);
    CHECK(core_admit(rig.core, &err) < 0 && err.code == ERR_CAPACITY &&
          strstr(err.msg, "low_memory") && strstr(err.msg, floor));
    rig.config.wake_cost_mib = 1;
    CHECK(rig.core->admitted == 0);
}

/* --- forgotten --- */

static void check_ttl(void)
{
    struct core_create req = { .ttl_s = 1800 };
    struct sandbox_id id = rig_create_with(&req), used = rig_create_with(&req);
    CHECK(registry_update(rig.core->registry, &id, old, NULL));
    core_use_begin(rig.core, &used);
    CHECK(registry_update(rig.core->registry, &used, old, NULL));
    core_sleep_round(rig.core);
    CHECK(rig_state(&id) == -1 && rig_state(&used) == SANDBOX_RUNNING);
    core_use_end(rig.core, &used);
    purge(&used);
}

int main(void)
{
    rig_up();
    check_policies();
    check_kept();
    check_frozen_work();
    check_before_claim();
    check_hammer();
    check_pressure();
    check_reservation();
    check_ttl();
    CHECK(rig.fake.count == 0);
    rig_down();
    return check_done();
}
