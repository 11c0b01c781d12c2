/* Services against the clock and against agents: ends that come too early, agents that do not
 * answer, hands in the middle. */
#include <pthread.h>

#include "corerig.h"
#include "inside.h"
#include "services.h"

static struct err err;

static struct sandbox_id with_services(const struct service *list, size_t n)
{
    struct core_create req = { .services = list, .n_services = n };
    return rig_create_with(&req);
}

static struct service svc(const char *name, const char *cmd, int restart)
{
    /* Borrowed texts: core copies them. */
    return (struct service){ .name = (char *)(uintptr_t)name,
                             .cmd = (char *)(uintptr_t)cmd,
                             .cwd = (char *)(uintptr_t) "/tmp",
                             .restart = restart };
}

static void purge(const struct sandbox_id *id)
{
    uint64_t freed;
    CHECK(core_purge(rig.core, &me, id, &freed, &err) == 0);
}

/* Any thread's. *ret: without its texts; as it was if there is no such service. */
static bool look(const struct sandbox_id *id, const char *name, struct service_info *ret)
{
    struct service_info *list;
    size_t n;
    char problem[320];
    struct err e;
    if (core_services(rig.core, &me, id, &list, &n, problem, &e) < 0)
        return false;
    for (size_t i = 0; i < n; i++) {
        if (str_eq(list[i].name, name))
            *ret = list[i];
        service_info_release(&list[i]);
    }
    free(list);
    return true;
}

static struct service_info info(const struct sandbox_id *id, const char *name)
{
    struct service_info found = { .state = SERVICE_STATE_COUNT };
    CHECK(look(id, name, &found));
    return found;
}

static bool same_process(const struct sandbox_id *id, const char *name,
                         const struct service_info *before)
{
    struct service_info now = info(id, name);
    return sandbox_id_eq(&now.process, &before->process);
}

static bool becomes(const struct sandbox_id *id, const char *name, enum service_state state,
                    uint32_t restarts)
{
    int64_t end = clock_mono_ms() + SOON;
    struct service_info i;
    while ((i = info(id, name)).state != state || i.restarts < restarts) {
        if (clock_mono_ms() > end) {
            printf("# %s is %d after %u restarts: %s\n", name, i.state, i.restarts, i.problem);
            return false;
        }
        (void)poll(NULL, 0, 2);
    }
    return true;
}

static size_t running(const struct sandbox_id *id, const char *name)
{
    struct process *list;
    size_t n, count = 0;
    struct err e;
    if (core_service_processes(rig.core, &me, id, name, &list, &n, &e) < 0)
        return 0;
    for (size_t i = 0; i < n; i++) {
        count += list[i].state == PROCESS_RUNNING;
        process_release(&list[i]);
    }
    free(list);
    return count;
}

/* Two would stay two; one that ends with its sandbox may be told for a moment longer. */
static bool one_runs(const struct sandbox_id *id, const char *name)
{
    int64_t end = clock_mono_ms() + SOON;
    while (running(id, name) != 1)
        if (clock_mono_ms() > end || poll(NULL, 0, 2) < 0)
            return false;
    return true;
}

static bool none_runs(const struct sandbox_id *id, const char *name)
{
    int64_t end = clock_mono_ms() + SOON;
    while (running(id, name) != 0)
        if (clock_mono_ms() > end || poll(NULL, 0, 2) < 0)
            return false;
    return true;
}

static int64_t last_used(const struct sandbox_id *id)
{
    const struct sandbox *s;
    if (!CHECK(core_find(rig.core, id, &s, &err) == 0))
        return 0;
    int64_t at_ms = s->last_active_at_ms;
    core_unref(s);
    return at_ms;
}

/* One that ends before its start was even noted is started again all the same. */
static void check_quick_ends(void)
{
    struct service list[] = { svc("quick", "[\"exit\",\"1\"]", SERVICE_ALWAYS),
                              svc("fine", "[\"exit\",\"0\"]", SERVICE_ON_FAILURE),
                              svc("never", "[\"exit\",\"9\"]", SERVICE_NEVER),
                              svc("broken", "[\"fail\"]", SERVICE_ALWAYS),
                              svc("stays", "[\"hold\"]", SERVICE_ALWAYS) };
    struct sandbox_id id = with_services(list, 5);
    CHECK(becomes(&id, "quick", SERVICE_BACKOFF, 2));
    CHECK(info(&id, "quick").exit_code == 1);
    CHECK(becomes(&id, "fine", SERVICE_ENDED, 0) && info(&id, "fine").exit_code == 0);
    CHECK(becomes(&id, "never", SERVICE_ENDED, 0) && info(&id, "never").exit_code == 9);
    CHECK(becomes(&id, "broken", SERVICE_BACKOFF, 0));
    CHECK(strstr(info(&id, "broken").problem, "not found"));
    CHECK(info(&id, "stays").state == SERVICE_RUNNING && running(&id, "stays") == 1);
    /* Nothing that a crashing service does counts as use of the sandbox. */
    int64_t used_ms = last_used(&id);
    CHECK(becomes(&id, "quick", SERVICE_BACKOFF, info(&id, "quick").restarts + 1));
    CHECK(last_used(&id) == used_ms);
    core_touch(rig.core, &id);
    CHECK(last_used(&id) > used_ms); /* as use would */
    purge(&id);
}

static void check_hands(void)
{
    struct service one = svc("one", "[\"hold\"]", SERVICE_ALWAYS);
    struct sandbox_id id = with_services(&one, 1);
    struct service_info before = info(&id, "one");
    CHECK(core_service_act(rig.core, &me, &id, "one", SERVICE_START, &err) == 0);
    CHECK(same_process(&id, "one", &before));
    CHECK(core_service_act(rig.core, &me, &id, "one", SERVICE_RESTART, &err) == 0);
    CHECK(!same_process(&id, "one", &before));
    CHECK(running(&id, "one") == 1);
    CHECK(core_service_act(rig.core, &me, &id, "one", SERVICE_STOP, &err) == 0);
    CHECK(info(&id, "one").state == SERVICE_STOPPED && running(&id, "one") == 0);
    CHECK(core_service_act(rig.core, &me, &id, "two", SERVICE_STOP, &err) < 0 &&
          err.code == ERR_NOT_FOUND);
    CHECK(core_service_act(rig.core, &stranger, &id, "one", SERVICE_START, &err) < 0 &&
          err.code == ERR_NOT_FOUND);
    CHECK(rig_stop(&id, &err) == 0);
    CHECK(core_service_act(rig.core, &me, &id, "one", SERVICE_STOP, &err) == 0);
    CHECK(rig_state(&id) == SANDBOX_STOPPED);
    CHECK(core_service_act(rig.core, &me, &id, "one", SERVICE_RESTART, &err) == 0);
    CHECK(rig_state(&id) == SANDBOX_RUNNING && running(&id, "one") == 1);
    purge(&id);
}

struct hand {
    struct sandbox_id id;
    const char *name;
    int wrong;
};

static void *restart_often(void *arg)
{
    struct hand *h = arg;
    struct err e;
    for (int i = 0; i < 200; i++) {
        struct service_info is = { .state = SERVICE_STATE_COUNT };
        bool done = core_service_act(rig.core, &me, &h->id, h->name, SERVICE_RESTART, &e) == 0;
        bool told = look(&h->id, h->name, &is);
        if (!done) /* a machine that stands still: said so */
            h->wrong += e.code != ERR_TIMEOUT;
        else if (is.state == SERVICE_RUNNING)
            h->wrong += running(&h->id, h->name) != 1;
        else
            h->wrong += !told || !is.problem[0];
    }
    return NULL;
}

/* What is told as started has been started, though the worker, which each of them wakes, finds it
 * due just as well. */
static void check_told(void)
{
    struct service list[] = { svc("a", "[\"hold\"]", SERVICE_ALWAYS),
                              svc("b", "[\"hold\"]", SERVICE_ALWAYS) };
    struct sandbox_id id = with_services(list, 2);
    struct hand hands[] = { { id, "a", 0 }, { id, "b", 0 } };
    pthread_t other;
    CHECK(pthread_create(&other, NULL, restart_often, &hands[1]) == 0);
    (void)restart_often(&hands[0]);
    (void)pthread_join(other, NULL);
    CHECK(hands[0].wrong == 0 && hands[1].wrong == 0);
    if (hands[0].wrong || hands[1].wrong)
        printf("# wrong: %d, %d\n", hands[0].wrong, hands[1].wrong);
    purge(&id);
}

/* What was told to be stopped does not run, what was told to be started does, and never two of it,
 * whoever else is at it meanwhile. */
static void *stop_and_start(void *arg)
{
    struct hand *h = arg;
    struct err e;
    for (int i = 0; i < 100; i++) {
        enum service_act act = i % 2 ? SERVICE_STOP : SERVICE_RESTART;
        bool done = core_service_act(rig.core, &me, &h->id, h->name, act, &e) == 0;
        if ((!done && e.code != ERR_TIMEOUT) || running(&h->id, h->name) > 1)
            h->wrong++;
    }
    return NULL;
}

static void check_two_hands(void)
{
    struct service one = svc("one", "[\"hold\"]", SERVICE_ALWAYS);
    struct sandbox_id id = with_services(&one, 1);
    struct hand hands[] = { { id, "one", 0 }, { id, "one", 0 } };
    pthread_t other;
    CHECK(pthread_create(&other, NULL, stop_and_start, &hands[1]) == 0);
    (void)stop_and_start(&hands[0]);
    (void)pthread_join(other, NULL);
    CHECK(hands[0].wrong == 0 && hands[1].wrong == 0);
    while (core_service_act(rig.core, &me, &id, "one", SERVICE_STOP, &err) <
           0) /* told so: ask again */
        CHECK(err.code == ERR_TIMEOUT);
    CHECK(running(&id, "one") == 0 && info(&id, "one").state == SERVICE_STOPPED);
    CHECK(core_service_act(rig.core, &me, &id, "one", SERVICE_START, &err) == 0);
    CHECK(becomes(&id, "one", SERVICE_RUNNING, 0) && one_runs(&id, "one"));
    purge(&id);
}

/* One whose end everybody can see is started, though the worker has not noticed it yet. */
static void check_noticed(void)
{
    struct service one = svc("one", "[\"hold\"]", SERVICE_NEVER);
    struct sandbox_id id = with_services(&one, 1);
    int wrong = 0;
    for (int i = 0; i < 50; i++) {
        struct service_info before = info(&id, "one");
        CHECK(core_process_signal(rig.core, &me, &id, &before.process, 9, true, &err) == 0);
        int64_t end = clock_mono_ms() + SOON;
        while (running(&id, "one") == 1 && clock_mono_ms() < end)
            continue;
        CHECK(core_service_act(rig.core, &me, &id, "one", SERVICE_START, &err) == 0);
        wrong += same_process(&id, "one", &before);
    }
    CHECK(wrong == 0);
    purge(&id);
}

/* Another daemon, whose Engine is away: it knows its agents and has compared nothing yet. */
static void restart_blind(void)
{
    rig_restart(false);
    fake_fail(&rig.fake, FAKE_LIST, 1, false, ERR_ENGINE);
    CHECK(core_reconcile(rig.core, true, &err) < 0);
    fake_heal(&rig.fake);
}

/* It knows what runs all the same. */
static void check_before_boot(void)
{
    struct service list[] = { svc("a", "[\"hold\"]", SERVICE_ALWAYS),
                              svc("b", "[\"hold\"]", SERVICE_ALWAYS) };
    struct sandbox_id id = with_services(list, 2);
    struct process p;
    restart_blind();
    CHECK(core_service_act(rig.core, &me, &id, "a", SERVICE_STOP, &err) == 0);
    CHECK(info(&id, "a").state == SERVICE_STOPPED && running(&id, "a") == 0);
    CHECK(core_service_act(rig.core, &me, &id, "a", SERVICE_START, &err) == 0);
    CHECK(becomes(&id, "a", SERVICE_RUNNING, 0) && one_runs(&id, "a"));
    restart_blind();
    struct service late = svc("late", "[\"hold\"]", SERVICE_ALWAYS);
    if (CHECK(core_service_add(rig.core, &me, &id, &late, &p, &err) == 0))
        process_release(&p);
    CHECK(core_reconcile(rig.core, true, &err) == 0);
    CHECK(becomes(&id, "b", SERVICE_RUNNING, 0) && becomes(&id, "late", SERVICE_RUNNING, 0));
    struct service_info b = info(&id, "b");
    CHECK(core_process_signal(rig.core, &me, &id, &b.process, 9, true, &err) == 0);
    CHECK(becomes(&id, "b", SERVICE_RUNNING, 1)); /* looked after */
    CHECK(rig_stop(&id, &err) == 0);
    purge(&id);
}

/* A name that somebody is about to declare is nobody else's, and is not shown. */
static void check_claims(void)
{
    struct service one = svc("node", "[\"hold\"]", SERVICE_NEVER);
    struct sandbox_id id = with_services(&one, 1);
    struct supervisor *sup = rig.core->supervisor;
    const struct sandbox *s;
    char a[SERVICE_NAME_MAX + 1] = "x", b[SERVICE_NAME_MAX + 1] = "x",
                              c[SERVICE_NAME_MAX + 1] = "node";
    enum service_state before[3];
    CHECK(core_find(rig.core, &id, &s, &err) == 0);
    supervisor_claim_free(sup, s, "[\"hold\"]", a, &before[0]);
    supervisor_claim_free(sup, s, "[\"hold\"]", b, &before[1]);
    supervisor_claim_free(sup, s, "[\"hold\"]", c, &before[2]);
    CHECK_STR("x", a);
    CHECK_STR("x-2", b);
    CHECK_STR("node-2", c); /* the other one runs */
    CHECK(info(&id, "x").state == SERVICE_STATE_COUNT);
    supervisor_unclaim(sup, s, a, before[0]);
    supervisor_unclaim(sup, s, c, before[2]);
    CHECK(info(&id, "node").state == SERVICE_RUNNING);
    struct service spec = svc(b, "[\"hold\"]", SERVICE_NEVER);
    struct process p;
    if (CHECK(supervisor_spawn(rig.core, s, &spec, &p, &err) == 0)) {
        CHECK(supervisor_declare(sup, s, &spec, &p.id, &err) == 0);
        process_release(&p);
    }
    CHECK(info(&id, "x-2").state == SERVICE_RUNNING && running(&id, "x-2") == 1);
    CHECK(core_service_act(rig.core, &me, &id, "x-2", SERVICE_STOP, &err) == 0);
    /* One that stands still and has the same command is taken up again, or left as it was. */
    supervisor_claim_free(sup, s, "[\"hold\"]", b, &before[1]);
    CHECK_STR("x-2", b);
    supervisor_unclaim(sup, s, b, before[1]);
    CHECK(info(&id, "x-2").state == SERVICE_STOPPED);
    core_unref(s);
    purge(&id);
}

/* Ended, taken out of the list and of the row, awake or not; another daemon knows nothing of it. */
static void check_remove(void)
{
    struct service list[] = { svc("a", "[\"hold\"]", SERVICE_ALWAYS),
                              svc("b", "[\"hold\"]", SERVICE_ALWAYS),
                              svc("c", "[\"fail\"]", SERVICE_ALWAYS) };
    struct sandbox_id id = with_services(list, 3);
    CHECK(core_service_remove(rig.core, &stranger, &id, "a", &err) < 0 &&
          err.code == ERR_NOT_FOUND && info(&id, "a").state == SERVICE_RUNNING);
    CHECK(core_service_remove(rig.core, &me, &id, "a", &err) == 0);
    CHECK(info(&id, "a").state == SERVICE_STATE_COUNT && running(&id, "a") == 0);
    CHECK(core_service_remove(rig.core, &me, &id, "a", &err) < 0 && err.code == ERR_NOT_FOUND);
    CHECK(core_service_remove(rig.core, &me, &id, "c", &err) == 0);
    rig_restart(true);
    CHECK(becomes(&id, "b", SERVICE_RUNNING, 0) && running(&id, "a") == 0);
    CHECK(info(&id, "a").state == SERVICE_STATE_COUNT);
    CHECK(rig_stop(&id, &err) == 0);
    CHECK(core_service_remove(rig.core, &me, &id, "b", &err) == 0);
    CHECK(rig_state(&id) == SANDBOX_STOPPED);
    CHECK(rig_start(&id, &err) == 0);
    CHECK(info(&id, "b").state == SERVICE_STATE_COUNT && none_runs(&id, "b"));
    purge(&id);
}

static void check_restart(void)
{
    struct service list[] = { svc("a", "[\"hold\"]", SERVICE_ALWAYS),
                              svc("b", "[\"exit\",\"0\"]", SERVICE_NEVER) };
    struct sandbox_id id = with_services(list, 2), frozen = with_services(list, 1);
    CHECK(becomes(&id, "b", SERVICE_ENDED, 0));
    struct service_info before = info(&id, "a");
    unsigned spawns = atomic_load(&fake_agent_of(&rig.fake, &id)->spawns);
    CHECK(rig_pause(&frozen, &err) == 0);
    for (int i = 0; i < 4; i++) {
        rig_restart(true);
        CHECK(i == 0 || info(&id, "b").state == SERVICE_ENDED); /* told before: not taken back */
        CHECK(becomes(&id, "a", SERVICE_RUNNING, 0) && becomes(&id, "b", SERVICE_ENDED, 0));
        CHECK(same_process(&id, "a", &before));
        CHECK(atomic_load(&fake_agent_of(&rig.fake, &id)->spawns) == spawns); /* no second one */
        CHECK(info(&frozen, "a").state == SERVICE_RUNNING);
    }
    /* Frozen all the time, it is looked after once it is thawed. */
    struct process *list_of;
    size_t n;
    CHECK(rig_start(&frozen, &err) == 0);
    CHECK(core_service_processes(rig.core, &me, &frozen, "a", &list_of, &n, &err) == 0 && n == 1);
    CHECK(core_process_signal(rig.core, &me, &frozen, &list_of[0].id, 9, true, &err) == 0);
    process_release(&list_of[0]);
    free(list_of);
    CHECK(becomes(&frozen, "a", SERVICE_RUNNING, 1));
    purge(&id), purge(&frozen);
}

/* By hand is by hand: neither a wake nor another daemon starts it, whether its end was written down
 * or not. */
static void check_stopped(void)
{
    struct service list[] = { svc("a", "[\"hold\"]", SERVICE_ALWAYS),
                              svc("b", "[\"hold\"]", SERVICE_ALWAYS) };
    struct sandbox_id id = with_services(list, 2);
    CHECK(core_service_act(rig.core, &me, &id, "a", SERVICE_STOP, &err) == 0);
    for (int i = 0; i < 2; i++) {
        rig_restart(true);
        CHECK(becomes(&id, "a", SERVICE_STOPPED, 0) && becomes(&id, "b", SERVICE_RUNNING, 0));
        CHECK(running(&id, "a") == 0 && one_runs(&id, "b"));
        CHECK(rig_stop(&id, &err) == 0 && rig_start(&id, &err) == 0);
        CHECK(becomes(&id, "b", SERVICE_RUNNING, 0));
        CHECK(info(&id, "a").state == SERVICE_STOPPED && running(&id, "a") == 0);
    }
    CHECK(core_service_act(rig.core, &me, &id, "a", SERVICE_START, &err) == 0);
    rig_restart(true);
    CHECK(rig_stop(&id, &err) == 0 && rig_start(&id, &err) == 0);
    CHECK(becomes(&id, "a", SERVICE_RUNNING, 0) && one_runs(&id, "a"));
    purge(&id);
}

/* Sandboxes whose agents say nothing: neither the boot nor other people's services wait for them.
 */
static void check_silent(void)
{
    struct service list[16];
    char names[16][8];
    struct sandbox_id bad[4], good;
    for (int i = 0; i < 16; i++) {
        (void)snprintf(names[i], sizeof names[i], "s%d", i);
        list[i] = svc(names[i], "[\"exit\",\"1\"]", SERVICE_ALWAYS);
    }
    for (int i = 0; i < 4; i++) {
        bad[i] = with_services(list, 16);
        atomic_store(&fake_agent_of(&rig.fake, &bad[i])->mute, true);
    }
    struct service one = svc("one", "[\"exit\",\"1\"]", SERVICE_ALWAYS);
    good = with_services(&one, 1);
    int64_t began = clock_mono_ms();
    rig_restart(true);
    CHECK(clock_mono_ms() - began < 20000); /* one after the other they take 320 s */
    CHECK(becomes(&good, "one", SERVICE_BACKOFF, 2));
    CHECK(clock_mono_ms() - began < 40000);
    /* A start that meets a silent agent waits for one answer, not for sixteen. */
    CHECK(rig_stop(&bad[0], &err) == 0);
    atomic_store(&rig.fake.mute_agents, true);
    began = clock_mono_ms();
    CHECK(rig_start(&bad[0], &err) == 0);
    CHECK(clock_mono_ms() - began < 40000); /* sixteen take 80 s */
    atomic_store(&rig.fake.mute_agents, false);
    CHECK(info(&bad[0], "s0").problem[0]);
    for (int i = 0; i < 4; i++)
        purge(&bad[i]);
    purge(&good);
}

static bool kept_by_agent(const struct sandbox_id *id, uint64_t number)
{
    struct frame_attached at;
    int fd;
    if (link_attach(rig.link, id, number, 0, clock_mono_ms() + SOON, &fd, &at, &err) == 0) {
        (void)close(fd);
        return true;
    }
    CHECK(err.code == ERR_NOT_FOUND);
    return false;
}

/* An agent that was starved for so long that a start was given up starts it all the same when it
 * goes on: it is ended again before the next one is started. */
static void check_starved(void)
{
    struct service one = svc("one", "[\"hold\"]", SERVICE_ALWAYS);
    struct sandbox_id id = with_services(&one, 1);
    struct fake_agent *agent = fake_agent_of(&rig.fake, &id);
    struct process *list;
    size_t n;
    CHECK(core_service_act(rig.core, &me, &id, "one", SERVICE_STOP, &err) == 0);
    unsigned spawns = atomic_load(&agent->spawns);
    fake_stall(agent);
    CHECK(core_service_act(rig.core, &me, &id, "one", SERVICE_START, &err) == 0);
    CHECK(info(&id, "one").state == SERVICE_BACKOFF && info(&id, "one").problem[0]);
    fake_go_on(agent);
    CHECK(becomes(&id, "one", SERVICE_RUNNING, 0) && running(&id, "one") == 1);
    CHECK(atomic_load(&agent->spawns) >= spawns + 2);
    CHECK(core_service_processes(rig.core, &me, &id, "one", &list, &n, &err) == 0);
    for (size_t i = 0; i < n; i++) {
        if (list[i].state == PROCESS_RUNNING) /* numbers are given one after the other */
            CHECK(!kept_by_agent(&id, list[i].number - 1));
        process_release(&list[i]);
    }
    free(list);
    purge(&id);
}

/* A stop that fails leaves the sandbox running, and its services looked after. */
static void check_failed_stop(void)
{
    struct service one = svc("one", "[\"hold\"]", SERVICE_ALWAYS);
    struct sandbox_id id = with_services(&one, 1);
    struct process *list;
    size_t n;
    fake_fail(&rig.fake, FAKE_STOP, 1, false, ERR_ENGINE);
    CHECK(rig_stop(&id, &err) < 0 && rig_state(&id) == SANDBOX_RUNNING);
    fake_heal(&rig.fake);
    CHECK(core_service_processes(rig.core, &me, &id, "one", &list, &n, &err) == 0 && n == 1);
    CHECK(core_process_signal(rig.core, &me, &id, &list[0].id, 9, true, &err) == 0);
    process_release(&list[0]);
    free(list);
    CHECK(becomes(&id, "one", SERVICE_RUNNING, 1));
    purge(&id);
}

struct adder {
    struct sandbox_id id;
    char name[16], cmd[16];
    bool ok;
};
static void *add(void *arg)
{
    struct adder *a = arg;
    struct service s = svc(a->name, a->cmd, SERVICE_ALWAYS);
    struct process p;
    struct err e;
    a->ok = core_service_add(rig.core, &me, &a->id, &s, &p, &e) == 0;
    if (a->ok)
        process_release(&p);
    return NULL;
}

static void check_adding(void)
{
    struct sandbox_id id = rig_create();
    struct adder a[8];
    pthread_t t[8];
    for (int i = 0; i < 8; i++) {
        a[i] = (struct adder){ .id = id, .cmd = "[\"hold\"]" };
        (void)snprintf(a[i].name, sizeof a[i].name, "n%d", i);
        CHECK(pthread_create(&t[i], NULL, add, &a[i]) == 0);
    }
    for (int i = 0; i < 8; i++)
        CHECK(pthread_join(t[i], NULL) == 0 && a[i].ok);
    CHECK(rig_stop(&id, &err) == 0 && rig_start(&id, &err) == 0); /* from the row */
    for (int i = 0; i < 8; i++)
        CHECK(becomes(&id, a[i].name, SERVICE_RUNNING, 0) && one_runs(&id, a[i].name));
    for (int i = 8; i < 16; i++) {
        (void)snprintf(a[0].name, sizeof a[0].name, "n%d", i);
        CHECK(!add(&a[0]) && a[0].ok);
    }
    (void)snprintf(a[0].name, sizeof a[0].name, "n16");
    CHECK(!add(&a[0]) && !a[0].ok);
    /* In the place of n3, or not at all: then n3 goes on. */
    (void)snprintf(a[0].name, sizeof a[0].name, "n3");
    CHECK(!add(&a[0]) && a[0].ok && running(&id, "n3") == 1);
    (void)snprintf(a[0].cmd, sizeof a[0].cmd, "[\"fail\"]");
    CHECK(!add(&a[0]) && !a[0].ok);
    CHECK(becomes(&id, "n3", SERVICE_RUNNING, 0) && running(&id, "n3") == 1);
    purge(&id);
}

static void check_names(void)
{
    static const struct {
        const char *argv[4], *name;
    } rows[] = {
        { { "/usr/bin/python3", "-m", "x" }, "python3" },
        { { "node" }, "node" },
        { { "/bin/sh", "-c", "python3 -m http.server" }, "python3" },
        { { "/bin/sh", "-c", "  PORT=1 exec ./Run_It.sh now" }, "run-it-sh" },
        { { "/bin/sh", "-c", "cd a/b && npm run dev" }, "npm" },
        { { "/bin/sh", "-c", "cd x; cd y; Z=1; z" }, "z" },
        { { "/bin/sh", "-c", "cd x" }, "cd" },
        { { "/bin/sh", "-c", "A=1" }, "a-1" },
        { { "/bin/sh", "-c", "exec" }, "exec" },
        { { "/bin/sh", "-c", " \n;&|" }, "exec" },
        { { "/bin/sh", "-x" }, "sh" },
        { { "///" }, "exec" },
        { { "\xc3\xa4" }, "exec" },
        { { "a-very-long-name-that-does-not-fit-a-service" }, "a-very-long-name-that-does-not-f" },
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct strv argv = { 0 };
        char name[SERVICE_NAME_MAX + 1];
        for (int k = 0; k < 4 && rows[i].argv[k]; k++)
            strv_add(&argv, rows[i].argv[k]);
        core_service_name(&argv, name);
        if (!CHECK_ROW(rows[i].name, str_eq(name, rows[i].name)))
            printf("# got %s\n", name);
        struct service s = svc(name, "x", 0);
        CHECK_ROW(name, service_check(&s, &err) == 0);
        strv_release(&argv);
    }
}

int main(void)
{
    rig_up();
    check_names();
    check_quick_ends();
    check_hands();
    check_told();
    check_two_hands();
    check_noticed();
    check_before_boot();
    check_claims();
    check_remove();
    check_restart();
    check_stopped();
    check_failed_stop();
    check_adding();
    check_silent();
    check_starved();
    CHECK(rig.fake.count == 0);
    rig_down();
    return check_done();
}
