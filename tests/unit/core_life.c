/* Life of sandboxes without an Engine: create, start, stop, pause, wake, delete, purge; by one, by
 * many at once, and with every call of the runtime failing at every moment. */
#include <pthread.h>
#include <sys/stat.h>

#include "corerig.h"
#include "inside.h" /* to be another's hand */

static struct err err;

static void purge(const struct sandbox_id *id)
{
    uint64_t freed;
    CHECK(core_purge(rig.core, &me, id, &freed, &err) == 0);
}

/* --- by one --- */

static void check_life(void)
{
    const struct sandbox *s;
    struct exec_result res;
    struct sandbox_id id = rig_create();
    CHECK(rig_state(&id) == SANDBOX_RUNNING);
    CHECK(rig_exec(&id, "exit@7", &res, &err) == 0 && res.code == 7);
    CHECK(rig_start(&id, &err) == 0);
    CHECK(rig_pause(&id, &err) == 0 && rig_pause(&id, &err) == 0);
    CHECK(rig_state(&id) == SANDBOX_PAUSED);
    rig_true("paused");
    CHECK(core_wake(rig.core, &id, &s, &err) == 0);
    core_unref(s);
    CHECK(rig_state(&id) == SANDBOX_RUNNING);
    CHECK(rig_pause(&id, &err) == 0 && rig_exec(&id, "exit@3", &res, &err) == 0 && res.code == 3);
    CHECK(rig_pause(&id, &err) == 0 && rig_stop(&id, &err) == 0 && rig_stop(&id, &err) == 0);
    CHECK(rig_state(&id) == SANDBOX_STOPPED);
    CHECK(rig_pause(&id, &err) < 0 && err.code == ERR_CONFLICT);
    rig_true("stopped");
    CHECK(rig_exec(&id, "exit@0", &res, &err) == 0 && rig_state(&id) == SANDBOX_RUNNING);
    CHECK(core_delete(rig.core, &me, &id, &err) == 0);
    CHECK(core_delete(rig.core, &me, &id, &err) < 0 && err.code == ERR_NOT_FOUND);
    CHECK(rig_exec(&id, "exit@0", &res, &err) < 0 && err.code == ERR_NOT_FOUND);
    purge(&id); /* the workspace outlived its row */
    uint64_t freed;
    CHECK(core_purge(rig.core, &me, &id, &freed, &err) < 0 && err.code == ERR_NOT_FOUND);
    rig_true("gone");
}

static struct sandbox look(const struct sandbox_id *id)
{
    const struct sandbox *s;
    struct sandbox copy = { 0 };
    if (CHECK(core_find(rig.core, id, &s, &err) == 0)) {
        copy = *s; /* its times are wanted only */
        core_unref(s);
    }
    return copy;
}

/* A thaw is no start: what ran goes on, and nothing of it is young again. */
static void check_up_since(void)
{
    struct sandbox_id id = rig_create();
    struct sandbox s = look(&id), thawed;
    CHECK(s.up_since_ms == s.updated_at_ms);
    int64_t ran_ms = 0;
    for (int i = 0; i < 3; i++) {
        ran_ms += 20;
        while (clock_wall_ms() - look(&id).up_since_ms < ran_ms)
            (void)poll(NULL, 0, 1);
        CHECK(rig_pause(&id, &err) == 0);
        s = look(&id);
        CHECK(rig_start(&id, &err) == 0);
        thawed = look(&id);
        CHECK(thawed.up_since_ms - s.up_since_ms == thawed.updated_at_ms - s.updated_at_ms);
        CHECK(thawed.updated_at_ms - thawed.up_since_ms >= ran_ms);
    }
    CHECK(rig_stop(&id, &err) == 0 && rig_start(&id, &err) == 0);
    s = look(&id);
    CHECK(s.up_since_ms == s.updated_at_ms);
    rig_restart(true);
    CHECK(look(&id).up_since_ms == s.updated_at_ms);
    purge(&id);
}

static void check_strangers(void)
{
    struct sandbox_id id = rig_create();
    const struct sandbox *s;
    uint64_t freed;
    int64_t until;
    struct core_why why;
    CHECK(core_get(rig.core, &stranger, &id, &s, &err) < 0 && err.code == ERR_NOT_FOUND);
    CHECK(core_start(rig.core, &stranger, &id, &s, &err) < 0 && err.code == ERR_NOT_FOUND);
    CHECK(core_pause(rig.core, &stranger, &id, &s, &err) < 0 && err.code == ERR_NOT_FOUND);
    CHECK(core_stop(rig.core, &stranger, &id, &s, &err) < 0 && err.code == ERR_NOT_FOUND);
    CHECK(core_delete(rig.core, &stranger, &id, &err) < 0 && err.code == ERR_NOT_FOUND);
    CHECK(core_purge(rig.core, &stranger, &id, &freed, &err) < 0 && err.code == ERR_NOT_FOUND);
    CHECK(core_keepalive(rig.core, &stranger, &id, 0, &until, &err) < 0);
    CHECK(core_why(rig.core, &stranger, &id, &why, &err) < 0 && err.code == ERR_NOT_FOUND);
    CHECK(rig_state(&id) == SANDBOX_RUNNING);
    CHECK(core_delete(rig.core, &me, &id, &err) == 0);
    CHECK(core_purge(rig.core, &stranger, &id, &freed, &err) < 0 && err.code == ERR_NOT_FOUND);
    purge(&id);
}

static void check_by_project(void)
{
    struct core_create req = { .external_project = "p1", .by_project = true };
    const struct sandbox *a, *b;
    char *replay;
    int status;
    CHECK(core_create(rig.core, &me, &req, &a, &replay, &status, &err) == 0 && status == 201);
    CHECK(core_create(rig.core, &me, &req, &b, &replay, &status, &err) == 0 && status == 200);
    CHECK(sandbox_id_eq(&a->id, &b->id));
    /* It is there: nothing is started, so that nothing is refused for want of memory either. */
    rig.config.mem_refuse_pct = 100;
    core_unref(b);
    CHECK(core_create(rig.core, &me, &req, &b, &replay, &status, &err) == 0 && status == 200);
    req.external_project = "p2";
    const struct sandbox *none;
    CHECK(core_create(rig.core, &me, &req, &none, &replay, &status, &err) < 0 &&
          err.code == ERR_CAPACITY);
    rig.config.mem_refuse_pct = 0;
    struct sandbox_id id = a->id;
    core_unref(a);
    core_unref(b);
    purge(&id);
}

/* A restart of the daemon with one of each. */
static void check_restart(void)
{
    struct sandbox_id running = rig_create(), paused = rig_create(), stopped = rig_create();
    struct exec_result res;
    CHECK(rig_pause(&paused, &err) == 0 && rig_stop(&stopped, &err) == 0);
    rig_restart(true);
    CHECK(rig_state(&running) == SANDBOX_RUNNING && rig_state(&paused) == SANDBOX_PAUSED &&
          rig_state(&stopped) == SANDBOX_STOPPED);
    CHECK(rig_exec(&running, "exit@1", &res, &err) == 0 && res.code == 1);
    CHECK(rig_exec(&paused, "exit@2", &res, &err) == 0 && res.code == 2);
    CHECK(rig_exec(&stopped, "exit@3", &res, &err) == 0 && res.code == 3);
    rig_true("restarted");
    purge(&running);
    purge(&paused);
    purge(&stopped);
}

/* A workspace without a row is purged while somebody makes a sandbox on it: whoever is first, the
 * files of the one that lives are not touched. */
struct maker {
    struct sandbox_id id;
    bool purged, made;
};

static void *make_again(void *arg)
{
    struct maker *m = arg;
    struct core_create req = { .has_id = true, .id = m->id };
    const struct sandbox *s;
    char *replay;
    int status;
    struct err e;
    m->made = core_create(rig.core, &me, &req, &s, &replay, &status, &e) == 0;
    if (m->made)
        core_unref(s);
    return NULL;
}

static void *purge_again(void *arg)
{
    struct maker *m = arg;
    struct err e;
    uint64_t freed;
    m->purged = core_purge(rig.core, &me, &m->id, &freed, &e) == 0;
    return NULL;
}

static void check_purge_against_create(void)
{
    for (int i = 0; i < 8; i++) {
        struct maker m = { .id = rig_create() };
        CHECK(core_delete(rig.core, &me, &m.id, &err) == 0);
        pthread_t a, b;
        CHECK(pthread_create(&a, NULL, make_again, &m) == 0 &&
              pthread_create(&b, NULL, purge_again, &m) == 0);
        CHECK(pthread_join(a, NULL) == 0 && pthread_join(b, NULL) == 0);
        int root;
        bool lives = rig_state(&m.id) == SANDBOX_RUNNING;
        if (lives)
            CHECK(core_files_open(rig.core, &me, &m.id, false, &root, &err) == 0 &&
                  close(root) == 0);
        CHECK(lives || m.purged);
        CHECK(store_workspace_purging(rig.store, &m.id, &err) < 0); /* a row, or no workspace */
        if (lives)
            purge(&m.id);
    }
    rig_true("purged and made");
}

/* --- every failure --- */

/* Before a container is removed: its agent has had its time to say hello. */
static void wait_for_agent(void *ctx, enum fake_call call)
{
    (void)ctx;
    if (call == FAKE_REMOVE)
        (void)poll(NULL, 0, 100);
}

static void walk(const struct sandbox_id *id)
{
    struct exec_result res;
    struct err e;
    (void)rig_exec(id, "exit@0", &res, &e);
    (void)rig_pause(id, &e);
    (void)rig_start(id, &e);
    (void)rig_stop(id, &e);
    (void)rig_start(id, &e);
    (void)rig_pause(id, &e);
    (void)rig_stop(id, &e);
}

static void check_failures(void)
{
    static const enum err_code codes[] = { ERR_ENGINE, ERR_TIMEOUT, ERR_NOT_FOUND, ERR_CONFLICT };
    for (int call = 0; call < FAKE_CALL_COUNT; call++) {
        for (int nth = 1; nth <= 4; nth++) {
            for (int after = 0; after < 2; after++) {
                char row[80];
                (void)snprintf(row, sizeof row, "%s %d %s", fake_call_names[call], nth,
                               after ? "after" : "before");
                struct core_create req = { .has_id = true };
                const struct sandbox *s = NULL;
                char *replay;
                int status;
                struct err e;
                sandbox_id_new(&req.id);
                fake_fail(&rig.fake, (enum fake_call)call, nth, after, codes[(call + nth) % 4]);
                if (core_create(rig.core, &me, &req, &s, &replay, &status, &e) == 0)
                    core_unref(s);
                if (rig_state(&req.id) >= 0)
                    walk(&req.id);
                uint64_t freed;
                bool gone = core_purge(rig.core, &me, &req.id, &freed, &e) == 0;
                fake_heal(&rig.fake);
                /* What was left in between is led on by the sweep, and then all is possible. */
                CHECK_ROW(row, core_reconcile(rig.core, false, &e) == 0);
                rig_true(row);
                if (rig_state(&req.id) >= 0) {
                    CHECK_ROW(row, !gone);
                    CHECK_ROW(row, rig_start(&req.id, &e) == 0);
                    purge(&req.id);
                }
            }
        }
    }
    CHECK(rig.fake.count == 0);
}

/* The engine starts it and says that it did not: the container is made anew, and its agent is no
 * stranger because the first one has been here. */
static void check_second_try(void)
{
    int64_t began = clock_mono_ms();
    fake_fail(&rig.fake, FAKE_START, 1, true, ERR_ENGINE);
    rig.fake.hook = wait_for_agent;
    struct sandbox_id id = rig_create();
    rig.fake.hook = NULL;
    CHECK(rig_state(&id) == SANDBOX_RUNNING && clock_mono_ms() - began < 10000);
    CHECK(rig.fake.count == 1);
    purge(&id);
}

/* Its container ends before the agent is heard: the caller is told why, and does not wait for the
 * agent's time to pass. */
static void check_dead_at_start(void)
{
    struct sandbox_id id = rig_create();
    struct core_why why;
    struct err e;
    CHECK(rig_stop(&id, &e) == 0);
    atomic_store(&rig.fake.ends_at_start, 139);
    for (uint32_t deaths = 1; deaths <= 2; deaths++) {
        /* Waiting to the end would be an ERR_TIMEOUT. */
        CHECK(rig_start(&id, &e) < 0 && e.code == ERR_UNAVAILABLE &&
              strstr(e.msg, "exit code 139"));
        CHECK(core_why(rig.core, &me, &id, &why, &e) == 0 && why.deaths == deaths);
        CHECK(strstr(why.asleep_because, "exit code 139") && rig_state(&id) == SANDBOX_STOPPED);
    }
    atomic_store(&rig.fake.ends_at_start, 0);
    CHECK(rig_start(&id, &e) == 0);
    purge(&id);
}

/* A failed thaw or freeze is no 404: the sandbox is there. */
static void check_codes(void)
{
    struct sandbox_id id = rig_create();
    fake_fail(&rig.fake, FAKE_PAUSE, 1, false, ERR_NOT_FOUND);
    CHECK(rig_pause(&id, &err) < 0 && err.code == ERR_UNAVAILABLE);
    CHECK(rig_state(&id) == SANDBOX_RUNNING);
    CHECK(rig_pause(&id, &err) == 0);
    fake_fail(&rig.fake, FAKE_UNPAUSE, 1, false, ERR_NOT_FOUND);
    CHECK(rig_start(&id, &err) < 0 && err.code == ERR_UNAVAILABLE);
    CHECK(rig_state(&id) == SANDBOX_PAUSED);
    fake_heal(&rig.fake);
    /* Ended while it was frozen, with the event still on its way: one call leads out of it. */
    struct runtime_container box;
    CHECK(fake_box_of(&rig.fake, &id, &box));
    CHECK(rig.runtime.stop(rig.runtime.self, box.container_id, 0, &err) == 0);
    CHECK(rig_state(&id) == SANDBOX_PAUSED);
    CHECK(rig_start(&id, &err) == 0 && rig_state(&id) == SANDBOX_RUNNING);
    rig_true("codes");
    purge(&id);
}

/* --- many at once --- */

#define BOXES 4
#define HANDS 8
struct crowd {
    struct sandbox_id ids[BOXES];
    int64_t until;
};

static void *hand(void *arg)
{
    struct crowd *c = arg;
    unsigned seed = (unsigned)(uintptr_t)pthread_self();
    while (clock_mono_ms() < c->until) {
        const struct sandbox_id *id = &c->ids[(unsigned)rand_r(&seed) % BOXES];
        const struct sandbox *s;
        struct exec_result res;
        struct err e;
        struct core_why why;
        switch (rand_r(&seed) % 9) {
        case 0:
            (void)rig_stop(id, &e);
            break;
        case 1:
            (void)rig_pause(id, &e);
            break;
        case 2:
            if (core_wake(rig.core, id, &s, &e) == 0)
                core_unref(s);
            break;
        case 3:
            core_use_begin(rig.core, id);
            core_sleep_round(rig.core);
            core_use_end(rig.core, id);
            break;
        case 4:
            (void)core_reconcile_one(rig.core, id, &e);
            break;
        case 5:
            (void)core_why(rig.core, &me, id, &why, &e);
            (void)core_phase(rig.core, id);
            break;
        case 6:
            if (rand_r(&seed) % 4 == 0)
                (void)core_reconcile(rig.core, false, &e);
            break;
        case 7: {
            uint64_t freed;
            struct core_create again = { .has_id = true, .id = *id };
            char *replay;
            int status;
            if (rand_r(&seed) % 4 == 0 && core_purge(rig.core, &me, id, &freed, &e) == 0 &&
                core_create(rig.core, &me, &again, &s, &replay, &status, &e) == 0)
                core_unref(s);
            break;
        }
        default:
            (void)rig_exec(id, "say@hello", &res, &e);
        }
    }
    return NULL;
}

static void check_crowd(void)
{
    struct crowd c = { .until = clock_mono_ms() + 3000 };
    pthread_t hands[HANDS];
    for (int i = 0; i < BOXES; i++) {
        struct core_create req = { .idle_timeout_ms = 1,
                                   .idle_policy = i % 3,
                                   .stop_timeout_ms = 1 };
        c.ids[i] = rig_create_with(&req);
    }
    for (int i = 0; i < HANDS; i++)
        CHECK(pthread_create(&hands[i], NULL, hand, &c) == 0);
    for (int i = 0; i < HANDS; i++)
        CHECK(pthread_join(hands[i], NULL) == 0);
    CHECK(core_reconcile(rig.core, false, &err) == 0);
    rig_true("crowd");
    for (int i = 0; i < BOXES; i++) {
        struct exec_result res;
        if (rig_state(&c.ids[i]) < 0)
            continue;
        CHECK(rig_exec(&c.ids[i], "exit@5", &res, &err) == 0 && res.code == 5);
        purge(&c.ids[i]);
    }
    CHECK(rig.fake.count == 0 && core_execs_running(rig.core) == 0);
}

/* Callers of one start share it. */
static void *starter(void *arg)
{
    struct err e;
    return rig_start(arg, &e) == 0 ? arg : NULL;
}

static void check_single_flight(void)
{
    struct sandbox_id id = rig_create();
    pthread_t t[HANDS];
    for (int round = 0; round < 40; round++) {
        CHECK(rig_stop(&id, &err) == 0);
        unsigned before = atomic_load(&rig.fake.calls[FAKE_START]);
        for (int i = 0; i < HANDS; i++)
            CHECK(pthread_create(&t[i], NULL, starter, &id) == 0);
        for (int i = 0; i < HANDS; i++) {
            void *ok;
            CHECK(pthread_join(t[i], &ok) == 0 && ok);
        }
        CHECK(atomic_load(&rig.fake.calls[FAKE_START]) == before + 1);
    }
    purge(&id);
}

/* --- retries with one key --- */

static int create_with_key(const char *key, struct sandbox_id *ret_id, struct err *e)
{
    struct core_create req = { .idem_key = key };
    const struct sandbox *s = NULL;
    char *replay = NULL;
    int status;
    int rc = core_create(rig.core, &me, &req, &s, &replay, &status, e);
    if (s)
        *ret_id = s->id;
    core_unref(s);
    free(replay);
    return rc;
}

struct retry {
    atomic_int tid;
    struct sandbox_id id;
    int rc;
    struct err err;
};

static void *retry(void *arg)
{
    struct retry *r = arg;
    atomic_store(&r->tid, gettid());
    r->rc = create_with_key("lost", &r->id, &r->err);
    return NULL;
}

/* No reply was stored and the row is gone. Of two retries that have both seen it one makes a
 * sandbox: the other does not drop the key of that one. */
static void check_two_retries(void)
{
    struct sandbox_id lost;
    struct retry late = { .rc = 0 };
    pthread_t t;
    CHECK(create_with_key("lost", &lost, &err) == 0);
    purge(&lost);
    registry_birth_begin(rig.core->registry); /* who has read the key waits for its row */
    CHECK(pthread_create(&t, NULL, retry, &late) == 0);
    rig_until_asleep(&late.tid);
    struct core_create req = { .idem_key = "lost" };
    struct sandbox row = { .tenant = str_dup(me.tenant),
                           .node = str_dup(rig.core->node),
                           .state = SANDBOX_CREATING,
                           .image = str_dup("image"),
                           .epoch = 1,
                           .memory_high = str_dup("4G") };
    struct store_create first = { .row = &row,
                                  .tenant_max = 9,
                                  .idem_key = req.idem_key,
                                  .idem_hash = req.idem_hash,
                                  .actor = me.actor };
    sandbox_id_new(&row.id);
    CHECK(store_idem_drop(rig.store, me.tenant, "lost", &lost, &err) == 0);
    CHECK(store_create(rig.store, &first, &err) == 0);
    registry_birth_end(rig.core->registry);
    CHECK(pthread_join(t, NULL) == 0);
    CHECK(late.rc < 0 && late.err.code == ERR_IN_PROGRESS);
    rig_restart(true); /* the first was killed here: it is led on */
    CHECK(rig_state(&row.id) == SANDBOX_RUNNING && rig.fake.count == 1);
    CHECK(create_with_key("lost", &late.id, &err) == 0 && sandbox_id_eq(&late.id, &row.id));
    purge(&row.id);
    free(row.tenant);
    free(row.node);
    free(row.image);
    free(row.memory_high);
}

/* The first request's row shows that it failed, and a retry comes before it has dropped its key. */
static struct sandbox_id second;
static int second_rc;
static void retry_early(void *ctx, enum fake_call call)
{
    (void)ctx;
    struct core_filter creating = { .state = SANDBOX_CREATING };
    const struct sandbox **rows;
    struct err e;
    size_t n;
    bool more;
    if (call != FAKE_IMAGE)
        return;
    rig.fake.hook = NULL;
    second_rc = -1;
    if (core_list(rig.core, &me, &creating, &rows, &n, &more, &e) < 0)
        return;
    for (size_t i = 0; i < n; i++) {
        (void)core_fire(rig.core, rows[i], SANDBOX_ON_FAILED, NULL, NULL, &e);
        core_unref(rows[i]);
    }
    free(rows);
    second_rc = create_with_key("early", &second, &e);
}

static void check_early_retry(void)
{
    struct sandbox_id id;
    static const struct core_filter failed = { .state = SANDBOX_ERROR };
    const struct sandbox **rows;
    size_t n;
    bool more;
    fake_fail(&rig.fake, FAKE_IMAGE, 2, false, ERR_ENGINE); /* the second's comes first */
    rig.fake.hook = retry_early;
    CHECK(create_with_key("early", &id, &err) < 0 && err.code == ERR_ENGINE);
    fake_heal(&rig.fake);
    CHECK(second_rc == 0 && rig_state(&second) == SANDBOX_RUNNING);
    CHECK(create_with_key("early", &id, &err) == 0 && sandbox_id_eq(&id, &second));
    purge(&second);
    CHECK(core_list(rig.core, &me, &failed, &rows, &n, &more, &err) == 0 && n == 1);
    id = rows[0]->id;
    core_unref(rows[0]);
    free(rows);
    purge(&id);
    CHECK(rig.fake.count == 0);
}

int main(void)
{
    rig_up();
    check_life();
    check_up_since();
    check_strangers();
    check_by_project();
    check_restart();
    check_purge_against_create();
    check_codes();
    check_second_try();
    check_dead_at_start();
    check_failures();
    check_single_flight();
    check_two_retries();
    check_early_retry();
    check_crowd();
    rig_down();
    return check_done();
}
