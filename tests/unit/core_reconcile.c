/* What a daemon that comes back makes of each row and each container: the table of decisions, and
 * what somebody did by hand while it was up. */
#include "corerig.h"
#include "registry.h"

#include "inside.h" /* struct core: to turn a clock back */

static struct err err;

#define NO_BOX (-1)
static const char *const box_words[] = { "created", "running", "paused", "exited" };

/* Row and container as a crash may leave them; what is true once the daemon is ready. */
struct left {
    enum sandbox_state row;
    int box;  /* enum runtime_status, NO_BOX */
    int then; /* enum sandbox_state; -1: the row is gone */
};
static const struct left table[] = {
    { SANDBOX_CREATING, NO_BOX, SANDBOX_RUNNING },
    { SANDBOX_CREATING, RUNTIME_CREATED, SANDBOX_RUNNING },
    { SANDBOX_CREATING, RUNTIME_RUNNING, SANDBOX_RUNNING },
    { SANDBOX_CREATING, RUNTIME_EXITED, SANDBOX_RUNNING },
    { SANDBOX_STARTING, NO_BOX, SANDBOX_RUNNING },
    { SANDBOX_STARTING, RUNTIME_CREATED, SANDBOX_RUNNING },
    { SANDBOX_STARTING, RUNTIME_RUNNING, SANDBOX_RUNNING },
    { SANDBOX_STARTING, RUNTIME_EXITED, SANDBOX_RUNNING },
    { SANDBOX_RUNNING, NO_BOX, SANDBOX_STOPPED },
    { SANDBOX_RUNNING, RUNTIME_CREATED, SANDBOX_STOPPED },
    { SANDBOX_RUNNING, RUNTIME_RUNNING, SANDBOX_RUNNING },
    { SANDBOX_RUNNING, RUNTIME_PAUSED, SANDBOX_PAUSED },
    { SANDBOX_RUNNING, RUNTIME_EXITED, SANDBOX_STOPPED },
    { SANDBOX_PAUSING, NO_BOX, SANDBOX_STOPPED },
    { SANDBOX_PAUSING, RUNTIME_RUNNING, SANDBOX_PAUSED },
    { SANDBOX_PAUSING, RUNTIME_PAUSED, SANDBOX_PAUSED },
    { SANDBOX_PAUSING, RUNTIME_EXITED, SANDBOX_STOPPED },
    { SANDBOX_PAUSED, NO_BOX, SANDBOX_STOPPED },
    { SANDBOX_PAUSED, RUNTIME_RUNNING, SANDBOX_RUNNING },
    { SANDBOX_PAUSED, RUNTIME_PAUSED, SANDBOX_PAUSED },
    { SANDBOX_PAUSED, RUNTIME_EXITED, SANDBOX_STOPPED },
    { SANDBOX_RESUMING, NO_BOX, SANDBOX_STOPPED },
    { SANDBOX_RESUMING, RUNTIME_RUNNING, SANDBOX_RUNNING },
    { SANDBOX_RESUMING, RUNTIME_PAUSED, SANDBOX_RUNNING },
    { SANDBOX_RESUMING, RUNTIME_EXITED, SANDBOX_STOPPED },
    { SANDBOX_STOPPING, NO_BOX, SANDBOX_STOPPED },
    { SANDBOX_STOPPING, RUNTIME_RUNNING, SANDBOX_STOPPED },
    { SANDBOX_STOPPING, RUNTIME_PAUSED, SANDBOX_STOPPED },
    { SANDBOX_STOPPING, RUNTIME_EXITED, SANDBOX_STOPPED },
    { SANDBOX_STOPPED, NO_BOX, SANDBOX_STOPPED },
    { SANDBOX_STOPPED, RUNTIME_CREATED, SANDBOX_STOPPED },
    { SANDBOX_STOPPED, RUNTIME_RUNNING, SANDBOX_STOPPED },
    { SANDBOX_STOPPED, RUNTIME_PAUSED, SANDBOX_STOPPED },
    { SANDBOX_STOPPED, RUNTIME_EXITED, SANDBOX_STOPPED },
    { SANDBOX_ERROR, NO_BOX, SANDBOX_ERROR },
    { SANDBOX_ERROR, RUNTIME_EXITED, SANDBOX_ERROR },
    { SANDBOX_ERROR, RUNTIME_RUNNING, SANDBOX_STOPPED },
    { SANDBOX_DELETING, NO_BOX, -1 },
    { SANDBOX_DELETING, RUNTIME_CREATED, -1 },
    { SANDBOX_DELETING, RUNTIME_RUNNING, -1 },
    { SANDBOX_DELETING, RUNTIME_PAUSED, -1 },
    { SANDBOX_DELETING, RUNTIME_EXITED, -1 },
};

static void store_to(const struct sandbox_id *id, enum sandbox_state from, enum sandbox_state to,
                     const struct store_move *m)
{
    CHECK(store_move(rig.store, id, from, to, clock_wall_ms(), m, &err) == 0);
}

/* The states on the way to the one wanted, as a life would write them. */
static void store_walk(const struct sandbox_id *id, enum sandbox_state to, const char *container)
{
    static const struct store_move none = { 0 };
    struct store_move started = { .container_id = container };
    switch (to) {
    case SANDBOX_CREATING:
        return;
    case SANDBOX_ERROR:
        store_to(id, SANDBOX_CREATING, to, &none);
        return;
    case SANDBOX_RUNNING:
        store_to(id, SANDBOX_CREATING, to, &started);
        return;
    case SANDBOX_PAUSING:
    case SANDBOX_STOPPING:
    case SANDBOX_DELETING:
        store_walk(id, SANDBOX_RUNNING, container);
        store_to(id, SANDBOX_RUNNING, to, &none);
        return;
    case SANDBOX_PAUSED:
        store_walk(id, SANDBOX_PAUSING, container);
        store_to(id, SANDBOX_PAUSING, to, &none);
        return;
    case SANDBOX_RESUMING:
        store_walk(id, SANDBOX_PAUSED, container);
        store_to(id, SANDBOX_PAUSED, to, &none);
        return;
    case SANDBOX_STOPPED:
        store_walk(id, SANDBOX_STOPPING, container);
        store_to(id, SANDBOX_STOPPING, to, &none);
        return;
    default: /* STARTING */
        store_walk(id, SANDBOX_STOPPED, container);
        store_to(id, SANDBOX_STOPPED, to, &none);
    }
}

static struct sandbox *plain_row(unsigned n)
{
    struct sandbox *row = mem_new(1, sizeof *row);
    sandbox_id_new(&row->id);
    row->tenant = str_dup("t1");
    row->node = str_dup("node");
    row->state = SANDBOX_CREATING;
    row->image = str_dup("image");
    row->epoch = 1;
    memset(row->secret, (int)n + 1, sizeof row->secret);
    row->memory_high = str_dup("4G");
    row->created_at_ms = row->updated_at_ms = row->last_active_at_ms = clock_wall_ms();
    return row;
}

static void check_table(void)
{
    enum { ROWS = sizeof table / sizeof table[0] };
    struct sandbox_id ids[ROWS];
    for (unsigned i = 0; i < ROWS; i++) {
        struct sandbox *row = plain_row(i);
        char container[65], run_dir[4096];
        struct store_create sc = { .row = row, .tenant_max = 1000, .actor = "tester" };
        (void)snprintf(container, sizeof container, "%064x", 0x1000 + i);
        ids[i] = row->id;
        CHECK(store_create(rig.store, &sc, &err) == 0);
        /* A crash in CREATING came before the container's id was known. */
        store_walk(&ids[i], table[i].row, container);
        link_run_dir(rig.link, &ids[i], run_dir, sizeof run_dir);
        if (table[i].box != NO_BOX)
            fake_plant(&rig.fake, &ids[i], container, run_dir, (enum runtime_status)table[i].box,
                       row->secret);
        sandbox_free(row);
    }
    struct sandbox_id orphan;
    sandbox_id_new(&orphan);
    fake_plant(&rig.fake, &orphan, "feed", "/nowhere", RUNTIME_EXITED, NULL);
    rig_restart(true);
    /* What the boot may leave to the sweep: a failed freeze shows the end only then. */
    CHECK(core_reconcile(rig.core, false, &err) == 0);
    for (unsigned i = 0; i < ROWS; i++) {
        char row[80];
        (void)snprintf(row, sizeof row, "%s, container %s", rig_word((int)table[i].row),
                       table[i].box == NO_BOX ? "none" : box_words[table[i].box]);
        if (!CHECK_ROW(row, rig_state(&ids[i]) == table[i].then))
            printf("# is %s\n", rig_word(rig_state(&ids[i])));
    }
    rig_true("the table");
    for (unsigned i = 0; i < ROWS; i++) {
        struct exec_result res;
        uint64_t freed;
        char row[80];
        (void)snprintf(row, sizeof row, "%s %d is of use", rig_word((int)table[i].row),
                       table[i].box);
        if (rig_state(&ids[i]) < 0)
            continue;
        if (!CHECK_ROW(row, rig_exec(&ids[i], "exit@4", &res, &err) == 0 && res.code == 4))
            printf("# %s\n", err.msg);
        CHECK_ROW(row, core_purge(rig.core, &me, &ids[i], &freed, &err) == 0);
    }
    CHECK(rig.fake.count == 0);
}

/* --- by hand --- */

static struct runtime_container box_of(const struct sandbox_id *id)
{
    struct runtime_container box = { .exit_code = 0 };
    CHECK(fake_box_of(&rig.fake, id, &box));
    return box;
}

static const char *asleep_because(const struct sandbox_id *id)
{
    static struct core_why why;
    CHECK(core_why(rig.core, &me, id, &why, &err) == 0);
    return why.asleep_because;
}

static void check_by_hand(void)
{
    struct sandbox_id id = rig_create();
    char container[65];
    (void)str_copy(container, sizeof container, box_of(&id).container_id);
    void *rt = rig.runtime.self;
    CHECK(rig.runtime.pause(rt, container, &err) == 0);
    CHECK(core_reconcile_one(rig.core, &id, &err) == 0);
    CHECK(rig_state(&id) == SANDBOX_PAUSED);
    CHECK_STR("frozen by hand, outside of the API", asleep_because(&id));
    CHECK(rig.runtime.unpause(rt, container, &err) == 0);
    CHECK(core_reconcile(rig.core, false, &err) == 0);
    CHECK(rig_state(&id) == SANDBOX_RUNNING);
    CHECK(rig.runtime.rename(rt, container, "other", &err) == 0);
    CHECK(core_reconcile(rig.core, false, &err) == 0);
    CHECK(box_of(&id).name[0] == 's');
    CHECK(rig.runtime.stop(rt, container, 0, &err) == 0);
    CHECK(core_reconcile_one(rig.core, &id, &err) == 0);
    CHECK(rig_state(&id) == SANDBOX_STOPPED);
    CHECK_STR("the container ended with exit code 143", asleep_because(&id));
    CHECK(rig.runtime.start(rt, container, &err) == 0);
    CHECK(core_reconcile_one(rig.core, &id, &err) == 0);
    CHECK(rig_state(&id) == SANDBOX_STOPPED && box_of(&id).status == RUNTIME_EXITED);
    CHECK(rig_start(&id, &err) == 0);
    CHECK(rig.runtime.remove(rt, container, &err) == 0);
    CHECK(core_reconcile(rig.core, false, &err) == 0);
    CHECK(rig_state(&id) == SANDBOX_STOPPED);
    CHECK_STR("the container was removed from outside", asleep_because(&id));
    CHECK(rig_start(&id, &err) == 0);
    rig_true("by hand");
    uint64_t freed;
    CHECK(core_purge(rig.core, &me, &id, &freed, &err) == 0);
}

/* What was seen may be over before the claim: the container is looked at once more. */
static struct sandbox_id flicker_id;
static int flicker_left;
static void flicker(void *ctx, enum fake_call call)
{
    (void)ctx;
    struct runtime_container box;
    struct err e;
    /* The first look sees it frozen; it is thawed before the second. */
    if (call == FAKE_INSPECT && flicker_left > 0 && --flicker_left == 0 &&
        fake_box_of(&rig.fake, &flicker_id, &box))
        (void)fake_freeze(&rig.fake, box.container_id, false, &e);
}

static void check_flicker(void)
{
    flicker_id = rig_create();
    CHECK(fake_freeze(&rig.fake, box_of(&flicker_id).container_id, true, &err) == 0);
    flicker_left = 2;
    rig.fake.hook = flicker;
    CHECK(core_reconcile_one(rig.core, &flicker_id, &err) == 0);
    rig.fake.hook = NULL;
    CHECK(rig_state(&flicker_id) == SANDBOX_RUNNING);
    CHECK(box_of(&flicker_id).status == RUNTIME_RUNNING);
    uint64_t freed;
    CHECK(core_purge(rig.core, &me, &flicker_id, &freed, &err) == 0);
}

static void long_deaf(struct registry_live *live, void *ctx)
{
    (void)ctx;
    live->deaf_since_ms = 1;
}

static void make_deaf(const struct sandbox_id *id, bool deaf)
{
    struct fake_agent *a = fake_agent_of(&rig.fake, id);
    atomic_store(&a->deaf, deaf);
    fake_agent_wake(a);
    int64_t end = clock_mono_ms() + SOON;
    while (link_ready(rig.link, id) == deaf && clock_mono_ms() < end)
        (void)poll(NULL, 0, 1);
}

/* An agent that does not know this start (its container was restarted while we were away). */
static void check_deaf(void)
{
    struct sandbox_id id = rig_create();
    struct exec_result res;
    make_deaf(&id, true);
    CHECK(core_reconcile(rig.core, false, &err) == 0 && rig_state(&id) == SANDBOX_RUNNING);
    registry_live_update(rig.core->registry, &id, long_deaf, NULL);
    CHECK(core_reconcile(rig.core, false, &err) == 0);
    CHECK(rig_state(&id) == SANDBOX_STOPPED);
    CHECK(strstr(asleep_because(&id), "agent"));
    CHECK(rig_exec(&id, "exit@6", &res, &err) == 0 && res.code == 6);
    uint64_t freed;
    CHECK(core_purge(rig.core, &me, &id, &freed, &err) == 0);
    rig_true("deaf");
}

/* It was not heard for a moment, and then again, but was well in between. */
static void check_heard_between(void)
{
    struct sandbox_id id = rig_create();
    uint64_t freed;
    make_deaf(&id, true);
    registry_live_update(rig.core->registry, &id, long_deaf, NULL);
    make_deaf(&id, false);
    CHECK(core_reconcile(rig.core, false, &err) == 0);
    make_deaf(&id, true);
    CHECK(core_reconcile_one(rig.core, &id, &err) == 0 && rig_state(&id) == SANDBOX_RUNNING);
    /* Another start: its agent is another. */
    registry_live_update(rig.core->registry, &id, long_deaf, NULL);
    CHECK(rig_stop(&id, &err) == 0 && rig_start(&id, &err) == 0);
    make_deaf(&id, true);
    CHECK(core_reconcile_one(rig.core, &id, &err) == 0 && rig_state(&id) == SANDBOX_RUNNING);
    CHECK(core_purge(rig.core, &me, &id, &freed, &err) == 0);
}

/* A start that comes while a container is being ended. */
struct behind {
    struct sandbox_id id;
    pthread_t thread;
    atomic_int tid;
    bool begun;
    int rc;
    struct err err;
};

static void *start_behind(void *arg)
{
    struct behind *b = arg;
    atomic_store(&b->tid, gettid());
    b->rc = rig_start(&b->id, &b->err);
    return NULL;
}

static void at_stop(void *ctx, enum fake_call call)
{
    struct behind *b = ctx;
    if (call != FAKE_STOP || b->begun)
        return;
    b->begun = true;
    if (pthread_create(&b->thread, NULL, start_behind, b) != 0)
        abort();
    rig_until_asleep(&b->tid);
}

static void reconcile_and_start(const char *row, const struct sandbox_id *id)
{
    struct behind b = { .id = *id };
    rig.fake.hook_ctx = &b;
    rig.fake.hook = at_stop;
    CHECK_ROW(row, core_reconcile_one(rig.core, id, &err) == 0 && b.begun);
    if (b.begun)
        CHECK_ROW(row, pthread_join(b.thread, NULL) == 0);
    rig.fake.hook = NULL;
    if (!CHECK_ROW(row, b.rc == 0 && rig_state(id) == SANDBOX_RUNNING))
        printf("# %s\n", b.err.msg);
}

/* It waits, and starts: the cause of an earlier end is no failure of a start. */
static void check_start_behind(void)
{
    struct sandbox_id id = rig_create();
    uint64_t freed;
    make_deaf(&id, true);
    registry_live_update(rig.core->registry, &id, long_deaf, NULL);
    reconcile_and_start("behind the end of a deaf one", &id);
    void *rt = rig.runtime.self;
    CHECK(rig.runtime.stop(rt, box_of(&id).container_id, 0, &err) == 0);
    CHECK(core_reconcile_one(rig.core, &id, &err) == 0 && rig_state(&id) == SANDBOX_STOPPED);
    CHECK(rig.runtime.start(rt, box_of(&id).container_id, &err) == 0);
    reconcile_and_start("behind the end of one started by hand", &id);
    rig_true("started behind");
    CHECK(core_purge(rig.core, &me, &id, &freed, &err) == 0);
}

int main(void)
{
    rig_up();
    check_table();
    check_by_hand();
    check_flicker();
    check_deaf();
    check_heard_between();
    check_start_behind();
    rig_down();
    return check_done();
}
