/* Kept processes against agents that lie, hang up or say nothing, daemons that come back, and
 * sandboxes that go away in the middle. */
#include <dirent.h>
#include <pthread.h>
#include <sys/stat.h>

#include "corerig.h"
#include "inside.h" /* struct core: its table of processes */
#include "proc.h"

static struct err err;

static void purge(const struct sandbox_id *id)
{
    uint64_t freed;
    CHECK(core_purge(rig.core, &me, id, &freed, &err) == 0);
}

static struct process get(const struct sandbox_id *id, const struct sandbox_id *pid)
{
    struct process p = { .state = PROCESS_STATE_COUNT };
    if (core_process_get(rig.core, &me, id, pid, &p, &err) == 0)
        process_release(&p);
    return p;
}

static bool ends_as(const struct sandbox_id *id, const struct sandbox_id *pid,
                    enum process_state state)
{
    int64_t end = clock_mono_ms() + SOON;
    while (get(id, pid).state == PROCESS_RUNNING && clock_mono_ms() < end)
        (void)poll(NULL, 0, 1);
    return get(id, pid).state == state;
}

/* Its output from an offset on, to the end. */
static size_t read_all(const struct sandbox_id *id, const struct sandbox_id *pid, uint64_t offset,
                       char *out, size_t size, uint64_t *ret_lost)
{
    struct follow *f;
    size_t n = 0;
    *ret_lost = 0;
    if (core_follow(rig.core, &me, id, pid, &f, &err) < 0)
        return 0;
    for (;;) {
        struct follow_chunk c;
        if (follow_next(f, offset, out + n, size - n, clock_mono_ms() + SOON, &c, &err) < 0)
            break;
        *ret_lost += c.lost;
        offset = c.offset + c.len;
        n += c.len;
        if (c.ended || n == size)
            break;
    }
    follow_free(f);
    return n;
}

static size_t records(void)
{
    struct store_process *list;
    size_t n = 0;
    CHECK(store_process_load(rig.store, &list, &n, &err) == 0);
    for (size_t i = 0; i < n; i++)
        store_process_release(&list[i]);
    free(list);
    return n;
}

static void check_plain(void)
{
    struct sandbox_id id = rig_create();
    struct process p, q;
    char out[64];
    uint64_t lost;
    size_t taken;
    CHECK(rig_process(&id, "say@hello", NULL, false, &p, &err) == 0 && p.pid != 0);
    CHECK(read_all(&id, &p.id, 0, out, sizeof out, &lost) == 5 && memcmp(out, "hello", 5) == 0);
    CHECK(read_all(&id, &p.id, 3, out, sizeof out, &lost) == 2 && lost == 0);
    CHECK(read_all(&id, &p.id, 99, out, sizeof out, &lost) == 0 && lost == 0);
    CHECK(ends_as(&id, &p.id, PROCESS_EXITED));
    CHECK(rig_process(&id, "echo", NULL, true, &q, &err) == 0);
    CHECK(core_process_feed(rig.core, &me, &id, &q.id, "abc", 3, false, &taken, &err) == 0 &&
          taken == 3);
    CHECK(core_process_feed(rig.core, &me, &id, &q.id, "def", 3, true, &taken, &err) == 0);
    CHECK(core_process_feed(rig.core, &me, &id, &q.id, "x", 1, false, &taken, &err) < 0 &&
          err.code == ERR_CONFLICT);
    CHECK(read_all(&id, &q.id, 0, out, sizeof out, &lost) == 6 && memcmp(out, "abcdef", 6) == 0);
    CHECK(rig_process(&id, "fail", NULL, false, &q, &err) < 0 && err.code == ERR_INVALID);
    CHECK(rig_process(&id, "die", NULL, false, &q, &err) < 0 && err.code == ERR_UNAVAILABLE);
    CHECK(records() == 2);
    process_release(&p);
    process_release(&q);
    purge(&id);
    CHECK(records() == 0);
}

/* An agent that does not answer a spawn: the record does not stand as running for ever. */
static void check_mute(void)
{
    struct sandbox_id id = rig_create();
    struct process p;
    CHECK(rig_process(&id, "mute", NULL, false, &p, &err) < 0);
    struct process *list;
    size_t n;
    CHECK(core_process_list(rig.core, &me, &id, &list, &n, &err) == 0);
    for (size_t i = 0; i < n; i++) {
        CHECK(ends_as(&id, &list[i].id, PROCESS_LOST));
        process_release(&list[i]);
    }
    free(list);
    purge(&id);
}

/* Output of 3 MiB is a ring with true counts, in memory, on disk and back. */
static void check_flood(void)
{
    struct sandbox_id id = rig_create();
    struct process p;
    char *out = mem_new(1, 2 * PROCESS_OUTPUT_KEEP);
    uint64_t lost, total = 3 * PROCESS_OUTPUT_KEEP;
    CHECK(rig_process(&id, "spill@3145728", NULL, false, &p, &err) == 0);
    CHECK(ends_as(&id, &p.id, PROCESS_EXITED) && get(&id, &p.id).bytes == total);
    size_t n = read_all(&id, &p.id, 0, out, 2 * PROCESS_OUTPUT_KEEP, &lost);
    CHECK(n > PROCESS_OUTPUT_KEEP / 2 && n <= PROCESS_OUTPUT_KEEP && lost == total - n);
    rig_restart(true);
    size_t again = read_all(&id, &p.id, 0, out, 2 * PROCESS_OUTPUT_KEEP, &lost);
    CHECK(again == n && lost == total - n);
    CHECK(read_all(&id, &p.id, total - 10, out, 2 * PROCESS_OUTPUT_KEEP, &lost) == 10 && !lost);
    /* Nobody reads: nothing of it is in memory. */
    struct proc *in_table = procs_find(rig.core->procs, &id, &p.id);
    CHECK(in_table && in_table->log.count == 0 && in_table->log.bytes == 0);
    struct follow *a, *b;
    CHECK(core_follow(rig.core, &me, &id, &p.id, &a, &err) == 0 && in_table->log.count > 0);
    CHECK(core_follow(rig.core, &me, &id, &p.id, &b, &err) == 0);
    follow_free(a);
    CHECK(in_table->log.count > 0);
    follow_free(b);
    CHECK(in_table->log.count == 0);
    /* Its file is damaged: an error, not nonsense; its file is gone: all of it is lost, told so. */
    char path[256];
    (void)snprintf(path, sizeof path, "%s/processes/%s/%s.out", rig.dir, id.text, p.id.text);
    CHECK(truncate(path, 100) == 0);
    CHECK(core_follow(rig.core, &me, &id, &p.id, &a, &err) < 0 && err.code == ERR_INTERNAL);
    CHECK(unlink(path) == 0);
    CHECK(read_all(&id, &p.id, 0, out, 2 * PROCESS_OUTPUT_KEEP, &lost) == 0 && lost == total);
    procs_unref(rig.core->procs, in_table);
    process_release(&p);
    free(out);
    purge(&id);
}

static void check_restart(void)
{
    struct sandbox_id id = rig_create(), other = rig_create(), gone = rig_create();
    struct process p, q, r;
    char out[64];
    uint64_t lost;
    size_t taken;
    CHECK(rig_process(&id, "echo", NULL, true, &p, &err) == 0);
    CHECK(rig_process(&other, "hold", NULL, false, &q, &err) == 0);
    CHECK(rig_process(&gone, "hold", NULL, false, &r, &err) == 0);
    CHECK(core_process_feed(rig.core, &me, &id, &p.id, "one", 3, false, &taken, &err) == 0);
    CHECK(rig_pause(&other, &err) == 0);
    rig_close();
    struct runtime_container box;
    CHECK(fake_box_of(&rig.fake, &gone, &box));
    CHECK(rig.runtime.stop(rig.runtime.self, box.container_id, 0, &err) == 0);
    rig_open();
    CHECK(core_reconcile(rig.core, true, &err) == 0);
    CHECK(core_process_feed(rig.core, &me, &id, &p.id, "two", 3, true, &taken, &err) == 0);
    CHECK(read_all(&id, &p.id, 0, out, sizeof out, &lost) == 6 && memcmp(out, "onetwo", 6) == 0);
    CHECK(ends_as(&id, &p.id, PROCESS_EXITED));
    CHECK(ends_as(&gone, &r.id, PROCESS_LOST));
    CHECK(get(&other, &q.id).state == PROCESS_RUNNING); /* frozen: asked for at the thaw */
    CHECK(core_process_signal(rig.core, &me, &other, &q.id, 9, true, &err) == 0);
    CHECK(ends_as(&other, &q.id, PROCESS_EXITED) && get(&other, &q.id).signal == 9);
    process_release(&p), process_release(&q), process_release(&r);
    purge(&id), purge(&other), purge(&gone);
}

/* A signal or stdin for a process whose sandbox has stopped does not start the sandbox. */
static void check_no_start(void)
{
    struct sandbox_id id = rig_create();
    struct process p;
    size_t taken;
    CHECK(rig_process(&id, "hold", NULL, true, &p, &err) == 0);
    CHECK(rig_stop(&id, &err) == 0);
    CHECK(core_process_signal(rig.core, &me, &id, &p.id, 15, false, &err) < 0 &&
          err.code == ERR_CONFLICT);
    CHECK(core_process_feed(rig.core, &me, &id, &p.id, "x", 1, false, &taken, &err) < 0 &&
          err.code == ERR_CONFLICT);
    CHECK(rig_state(&id) == SANDBOX_STOPPED);
    CHECK(ends_as(&id, &p.id, PROCESS_LOST));
    process_release(&p);
    purge(&id);
}

static void check_liar(void)
{
    struct sandbox_id id = rig_create();
    struct process p;
    CHECK(rig_process(&id, "hold", NULL, false, &p, &err) == 0);
    atomic_store(&fake_agent_of(&rig.fake, &id)->liar, true);
    rig_restart(true);
    int64_t end = clock_mono_ms() + 300;
    while (clock_mono_ms() < end) {
        CHECK(get(&id, &p.id).bytes == 0);
        (void)poll(NULL, 0, 50);
    }
    process_release(&p);
    purge(&id);
}

static int open_fds(void)
{
    DIR *d = opendir("/proc/self/fd");
    int n = 0;
    while (d && readdir(d))
        n++;
    if (d)
        (void)closedir(d);
    return n;
}

/* An agent that keeps the streams of removed processes open does not make us run out of
 * descriptors. (This one forgets nothing: it is mute.) */
static void check_descriptors(void)
{
    struct sandbox_id id = rig_create();
    int before = open_fds();
    for (int i = 0; i < 40; i++) {
        struct process p;
        struct fake_agent *a = fake_agent_of(&rig.fake, &id);
        CHECK(rig_process(&id, "hold", NULL, false, &p, &err) == 0);
        atomic_store(&a->mute, true);
        CHECK(core_process_remove(rig.core, &me, &id, &p.id, &err) == 0);
        atomic_store(&a->mute, false);
        process_release(&p);
    }
    int64_t end = clock_mono_ms() + SOON;
    while (open_fds() > before + 20 && clock_mono_ms() < end)
        (void)poll(NULL, 0, 5);
    /* The fake agent's own ends are closed by ours. */
    CHECK(open_fds() <= before + 20);
    purge(&id);
}

/* One silent agent with many lost streams holds up nobody else's. */
static void check_silent(void)
{
    struct sandbox_id bad = rig_create(), good = rig_create();
    struct process p[20], q;
    for (int i = 0; i < 20; i++) {
        CHECK(rig_process(&bad, "hold", NULL, false, &p[i], &err) == 0);
        process_release(&p[i]);
    }
    CHECK(rig_process(&good, "hold", NULL, false, &q, &err) == 0);
    atomic_store(&fake_agent_of(&rig.fake, &bad)->mute, true);
    int64_t began = clock_mono_ms();
    rig_restart(true);
    CHECK(core_process_signal(rig.core, &me, &good, &q.id, 9, true, &err) == 0);
    CHECK(ends_as(&good, &q.id, PROCESS_EXITED));
    CHECK(clock_mono_ms() - began < 30000); /* twenty answers that do not come take 60 s */
    CHECK(get(&bad, &p[0].id).state == PROCESS_RUNNING);
    CHECK(rig_stop(&bad, &err) == 0); /* what nobody could ask for does not outlive it */
    CHECK(get(&bad, &p[0].id).state == PROCESS_LOST);
    process_release(&q);
    purge(&good), purge(&bad);
}

/* As if their followers had left long ago. */
static void leave_alone(const struct sandbox_id *id)
{
    struct procs *t = rig.core->procs;
    struct proc **list;
    size_t n = procs_list(t, id, &list);
    for (size_t i = 0; i < n; i++) {
        mu_lock(&t->lock);
        list[i]->info.tied = true;
        list[i]->alone_until_ms = 1;
        mu_unlock(&t->lock);
        procs_unref(t, list[i]);
    }
    free(list);
    procs_wake(t);
}

/* Of processes that nobody follows: those that are being ended, or were. */
static size_t begun(const struct sandbox_id *id)
{
    struct procs *t = rig.core->procs;
    struct proc **list;
    size_t begun = 0, n = procs_list(t, id, &list);
    for (size_t i = 0; i < n; i++) {
        mu_lock(&t->lock);
        begun += list[i]->alone_until_ms != 1;
        mu_unlock(&t->lock);
        procs_unref(t, list[i]);
    }
    free(list);
    return begun;
}

/* Nor does one whose processes all resist their end. */
static void check_resists(void)
{
    struct sandbox_id bad = rig_create(), good = rig_create();
    struct process p, q;
    for (int i = 0; i < 40; i++) {
        CHECK(rig_process(&bad, "hold", NULL, false, &p, &err) == 0);
        process_release(&p);
    }
    CHECK(rig_process(&good, "hold", NULL, false, &q, &err) == 0);
    struct fake_agent *agent = fake_agent_of(&rig.fake, &bad);
    atomic_store(&agent->frozen, true);
    fake_agent_wake(agent);
    leave_alone(&bad);
    int64_t end = clock_mono_ms() + SOON;
    while (begun(&bad) == 0 && clock_mono_ms() < end)
        (void)poll(NULL, 0, 1);
    leave_alone(&good);
    CHECK(ends_as(&good, &q.id, PROCESS_EXITED));
    CHECK(begun(&bad) < 8); /* each takes seconds */
    atomic_store(&agent->frozen, false);
    fake_agent_wake(agent);
    process_release(&q);
    purge(&good), purge(&bad);
}

/* Starting against deleting: no record, no file, no entry is left behind. */
static atomic_bool over;
static void *starts(void *arg)
{
    struct err e;
    while (!atomic_load(&over)) {
        struct process p;
        if (rig_process(arg, "say@something", NULL, false, &p, &e) == 0)
            process_release(&p);
    }
    return NULL;
}

static void check_delete(void)
{
    for (int i = 0; i < 6; i++) {
        struct sandbox_id id = rig_create();
        pthread_t t[3];
        atomic_store(&over, false);
        for (int k = 0; k < 3; k++)
            CHECK(pthread_create(&t[k], NULL, starts, &id) == 0);
        (void)poll(NULL, 0, 20 + 10 * i);
        purge(&id);
        atomic_store(&over, true);
        for (int k = 0; k < 3; k++)
            CHECK(pthread_join(t[k], NULL) == 0);
        struct proc **list;
        size_t n = procs_list(rig.core->procs, &id, &list);
        CHECK(n == 0);
        for (size_t k = 0; k < n; k++)
            procs_unref(rig.core->procs, list[k]);
        free(list);
        CHECK(records() == 0);
    }
    rig_restart(true);
    char path[128];
    (void)snprintf(path, sizeof path, "%s/processes", rig.dir);
    DIR *d = opendir(path);
    int left = 0;
    for (const struct dirent *e; d && (e = readdir(d));)
        left += e->d_name[0] != '.';
    if (d)
        (void)closedir(d);
    CHECK(left == 0);
}

static void check_bounds(void)
{
    struct sandbox_id id = rig_create();
    for (int i = 0; i < PROCESS_ENDED_MAX + 20; i++) {
        struct process p;
        CHECK(rig_process(&id, "exit@0", NULL, false, &p, &err) == 0);
        process_release(&p);
    }
    for (int i = 0; i < 30; i++) { /* names that come and go */
        char name[16];
        struct process p;
        (void)snprintf(name, sizeof name, "s%d", i % 15);
        CHECK(rig_process(&id, "exit@0", name, false, &p, &err) == 0);
        process_release(&p);
    }
    int64_t end = clock_mono_ms() + SOON;
    while (records() > PROCESS_ENDED_MAX + 30 && clock_mono_ms() < end)
        (void)poll(NULL, 0, 5);
    CHECK(records() <= PROCESS_ENDED_MAX + 30);
    while (procs_running(rig.core->procs, &id) > 0 && clock_mono_ms() < end)
        (void)poll(NULL, 0, 5); /* whose end is still on its way counts, too */
    struct process held[PROCESS_RUNNING_MAX];
    for (int i = 0; i < PROCESS_RUNNING_MAX; i++)
        CHECK(rig_process(&id, "hold", NULL, false, &held[i], &err) == 0);
    struct process one;
    CHECK(rig_process(&id, "hold", NULL, false, &one, &err) < 0 && err.code == ERR_CAPACITY);
    for (int i = 0; i < PROCESS_RUNNING_MAX; i++)
        process_release(&held[i]);
    purge(&id);
}

/* Everybody at one process: followers, feeders, signals, its removal. */
struct scene {
    struct sandbox_id id, process;
};
static void *follower(void *arg)
{
    const struct scene *s = arg;
    char out[4096];
    uint64_t lost;
    (void)read_all(&s->id, &s->process, 0, out, sizeof out, &lost);
    return NULL;
}
static void *feeder(void *arg)
{
    const struct scene *s = arg;
    struct err e;
    size_t taken;
    for (int i = 0; i < 50; i++)
        (void)core_process_feed(rig.core, &me, &s->id, &s->process, "x", 1, false, &taken, &e);
    return NULL;
}
static void *remover(void *arg)
{
    const struct scene *s = arg;
    struct err e;
    (void)poll(NULL, 0, 5);
    (void)core_process_remove(rig.core, &me, &s->id, &s->process, &e);
    return NULL;
}

static void check_crowd(void)
{
    static void *(*const parts[])(
        void *) = { follower, follower, feeder, feeder, remover, remover };
    struct sandbox_id id = rig_create();
    for (int round = 0; round < 10; round++) {
        struct process p;
        pthread_t t[6];
        CHECK(rig_process(&id, "echo", NULL, true, &p, &err) == 0);
        struct scene s = { id, p.id };
        for (int i = 0; i < 6; i++)
            CHECK(pthread_create(&t[i], NULL, parts[i], &s) == 0);
        for (int i = 0; i < 6; i++)
            CHECK(pthread_join(t[i], NULL) == 0);
        CHECK(core_process_get(rig.core, &me, &id, &p.id, &(struct process){ 0 }, &err) < 0);
        process_release(&p);
    }
    purge(&id);
}

int main(void)
{
    rig_up();
    check_plain();
    check_mute();
    check_flood();
    check_restart();
    check_no_start();
    check_liar();
    check_descriptors();
    check_silent();
    check_resists();
    check_delete();
    check_bounds();
    check_crowd();
    CHECK(rig.fake.count == 0);
    rig_down();
    return check_done();
}
