/* The writer under load: group commit, a full disk, a bounded WAL, calls from many threads at once.
 */
#include "check.h"
#include "store_fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/limits.h"
#include "inner.h"

static int64_t size_of(const char *dir, const char *name)
{
    char path[300];
    struct stat st;
    (void)snprintf(path, sizeof path, "%s/state/%s", dir, name);
    return stat(path, &st) < 0 ? -1 : st.st_size;
}

#define THREADS 16
#define EACH 60

struct load {
    struct store *s;
    struct sandbox_id id;
    int failed;
    int64_t sum_us;
};

static void *load_main(void *arg)
{
    struct load *l = arg;
    struct err err;
    for (int i = 0; i < EACH; i++) {
        int64_t t = clock_mono_us();
        if (store_set_keepalive(l->s, &l->id, i + 1, &err) < 0)
            l->failed++;
        l->sum_us += clock_mono_us() - t;
        struct store_workspace w;
        if (store_workspace_get(l->s, &l->id, &w, &err) < 0)
            l->failed++;
        else
            store_workspace_release(&w);
        if (store_ping(l->s, &err) < 0)
            l->failed++;
    }
    return NULL;
}

static void test_group_commit(struct store *s)
{
    struct err err;
    pthread_t threads[THREADS];
    struct load loads[THREADS];
    struct writer_stats before, after;
    for (int i = 0; i < THREADS; i++) {
        struct sandbox *row = fixture_bare("g");
        loads[i] = (struct load){ .s = s, .id = row->id };
        CHECK(fixture_add(s, row, &err) == 0);
        sandbox_free(row);
    }
    writer_stats(s->writer, &before);
    int64_t t = clock_mono_us();
    for (int i = 0; i < 20; i++)
        CHECK(store_set_keepalive(s, &loads[0].id, 7, &err) == 0);
    int64_t alone_us = (clock_mono_us() - t) / 20;
    writer_stats(s->writer, &after);
    CHECK(after.commits - before.commits == 20 && after.writes - before.writes == 20);

    before = after;
    t = clock_mono_us();
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_create(&threads[i], NULL, load_main, &loads[i]) == 0);
    int failed = 0;
    int64_t wait_us = 0;
    for (int i = 0; i < THREADS; i++) {
        CHECK(pthread_join(threads[i], NULL) == 0);
        failed += loads[i].failed;
        wait_us += loads[i].sum_us;
    }
    int64_t all_us = clock_mono_us() - t;
    writer_stats(s->writer, &after);
    uint64_t writes = after.writes - before.writes, commits = after.commits - before.commits;
    CHECK(failed == 0);
    CHECK(writes == THREADS * EACH);
    CHECK(commits < writes); /* how many share one is the disk's and the scheduler's affair */
    printf(
        "# alone %lld us a write; %d threads: %lld writes/s, %lld us a write, %llu writes in %llu "
        "commits\n",
        (long long)alone_us, THREADS, (long long)(writes * 1000000 / (uint64_t)all_us),
        (long long)(wait_us / (THREADS * EACH)), (unsigned long long)writes,
        (unsigned long long)commits);
    for (int i = 0; i < THREADS; i++) {
        struct sandbox *row = fixture_get(s, &loads[i].id);
        CHECK(row && row->keepalive_until_ms == EACH);
        sandbox_free(row);
    }
}

/* A batch in which some are refused keeps the others. */
struct racer {
    struct store *s;
    const struct sandbox *row;
    atomic_int *won, *lost;
};

static void *race_main(void *arg)
{
    struct racer *r = arg;
    struct err err;
    struct store_create c = { .row = r->row, .tenant_max = 1000, .actor = "x" };
    if (store_create(r->s, &c, &err) == 0)
        atomic_fetch_add(r->won, 1);
    else if (err.code == ERR_CONFLICT)
        atomic_fetch_add(r->lost, 1);
    return NULL;
}

static void test_one_winner(struct store *s)
{
    pthread_t threads[THREADS];
    for (int round = 0; round < 10; round++) {
        atomic_int won = 0, lost = 0;
        struct sandbox *row = fixture_row("r");
        struct racer r = { s, row, &won, &lost };
        for (int i = 0; i < THREADS; i++)
            CHECK(pthread_create(&threads[i], NULL, race_main, &r) == 0);
        for (int i = 0; i < THREADS; i++)
            CHECK(pthread_join(threads[i], NULL) == 0);
        CHECK(won == 1 && lost == THREADS - 1);
        sandbox_free(row);
    }
}

static void test_wal_bound(struct store *s, const char *dir)
{
    struct err err;
    struct writer_stats st;
    struct sandbox *row = fixture_bare("b");
    char *big = mem_new(1, 100001);
    memset(big, 'x', 100000);
    strmap_add(&row->env, "BIG", big);
    free(big);
    int64_t most = 0;
    bool ok = true;
    for (int i = 0; i < 300 && ok; i++) {
        sandbox_id_new(&row->id);
        ok = fixture_add(s, row, &err) == 0;
        int64_t now = size_of(dir, "sandboxd.db-wal");
        most = now > most ? now : most;
    }
    CHECK(ok);
    writer_stats(s->writer, &st);
    CHECK(st.checkpoints >= 2);
    CHECK(most < (int64_t)(64 * MIB));
    printf("# WAL at most %lld KiB, %llu checkpoints\n", (long long)most / 1024,
           (unsigned long long)st.checkpoints);
    sandbox_free(row);
}

/* --- a full disk: in a mount namespace of our own, on a small tmpfs --- */

static bool fill(const char *dir)
{
    char path[300];
    (void)snprintf(path, sizeof path, "%s/filler", dir);
    AUTO(fd) int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    static const char zero[4096];
    while (fd >= 0 && write(fd, zero, sizeof zero) > 0)
        continue;
    return fd >= 0 && errno == ENOSPC;
}

static int full_disk(void)
{
    struct err err;
    char *dir = fixture_dir();
    if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
        mount("none", dir, "tmpfs", 0, "size=24m,mode=0700") < 0) {
        printf("# skip: no mount namespace to fill a disk in\n");
        fixture_rmdir(dir);
        free(dir);
        return 0;
    }
    struct store *s;
    if (!CHECK(store_open(dir, &s, &err) == 0))
        return 1;
    CHECK(size_of(dir, "reserve") == (int64_t)MIB);
    struct sandbox *row = fixture_row("d"), *kept = fixture_row("d");
    CHECK(fixture_add(s, kept, &err) == 0);
    CHECK(fill(dir));
    int added = 0;
    while (added < 1000) { /* what the WAL has room for */
        sandbox_id_new(&row->id);
        if (fixture_add(s, row, &err) < 0)
            break;
        added++;
    }
    CHECK(added < 1000 && err.code == ERR_NO_SPACE);
    CHECK(store_ping(s, &err) == 0); /* a full disk is no broken one */
    CHECK(!fixture_get(s, &row->id));
    CHECK(store_move(s, &kept->id, SANDBOX_CREATING, SANDBOX_DELETING, 1, NULL, &err) == 0);
    CHECK(store_remove(s, &kept->id, true, &err) == 0);
    CHECK(!fixture_get(s, &kept->id));
    char path[300];
    (void)snprintf(path, sizeof path, "%s/filler", dir);
    CHECK(unlink(path) == 0);
    CHECK(fixture_add(s, row, &err) == 0);
    store_close(s);
    CHECK(store_open(dir, &s, &err) == 0); /* sets the reserve aside again */
    CHECK(size_of(dir, "reserve") == (int64_t)MIB);
    store_close(s);
    /* Opened on a full disk it has the reserve to work with: who is to free space is up. */
    CHECK(fill(dir));
    if (CHECK(store_open(dir, &s, &err) == 0)) {
        CHECK(size_of(dir, "reserve") < 0);
        CHECK(store_move(s, &row->id, SANDBOX_CREATING, SANDBOX_DELETING, 1, NULL, &err) == 0);
        CHECK(store_remove(s, &row->id, true, &err) == 0);
        store_close(s);
    }
    CHECK(fill(dir)); /* and without it says so */
    CHECK(store_open(dir, &s, &err) < 0 && err.code == ERR_NO_SPACE);
    sandbox_free(row);
    sandbox_free(kept);
    CHECK(umount(dir) == 0);
    fixture_rmdir(dir);
    free(dir);
    return check_failed ? 1 : 0;
}

static void test_full_disk(void)
{
    (void)fflush(stdout);
    pid_t child = fork();
    if (child == 0)
        exit(full_disk());
    int status = -1;
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

int main(void)
{
    struct err err;
    struct store *s;
    test_full_disk(); /* forks: before there are threads */
    char *dir = fixture_dir();
    if (!CHECK(store_open(dir, &s, &err) == 0))
        return check_done();
    test_group_commit(s);
    test_one_winner(s);
    test_wal_bound(s, dir);
    store_close(s);
    fixture_rmdir(dir);
    free(dir);
    return check_done();
}
