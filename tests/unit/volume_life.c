/* Workspaces from making to purging: crashes in between, identity, mounts, depth, usage. */
#include <dirent.h>
#include <pthread.h>
#include <sys/mount.h>

#include "base/clock.h"
#include "base/limits.h"
#include "change.h"
#include "check.h"
#include "volume_home.h"

static const struct home *home;

static int open_data(const char *name)
{
    char path[256];
    (void)snprintf(path, sizeof(path), "%s/%s", home->data, name);
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    must(fd >= 0, path);
    return fd;
}

/* Entries of a folder of the data directory that start with prefix. */
static int entries(const char *name, const char *prefix)
{
    int n = 0;
    DIR *d = fdopendir(open_data(name));
    for (struct dirent *e; (e = readdir(d));)
        if (strcmp(e->d_name, ".") && strcmp(e->d_name, "..") &&
            strncmp(e->d_name, prefix, strlen(prefix)) == 0)
            n++;
    (void)closedir(d);
    return n;
}

/* How much is there once the background has removed what large purges left. */
static int entries_in_the_end(struct volume *v)
{
    for (int i = 0; i < 1000 && entries("workspaces", ".gone-") > 0; i++)
        (void)volume_trash_tick(v, clock_mono_ms());
    return entries("workspaces", "");
}

static int make(struct volume *v, const struct sandbox_id *id, uint64_t *dev, uint64_t *ino)
{
    struct err err = { 0 };
    if (volume_golden_ensure(v, "sha256:00", fetch_nothing, NULL, &err) < 0 ||
        volume_make(v, id, "sha256:00", dev, ino, &err) < 0) {
        printf("# make: %s\n", err.msg);
        return -1;
    }
    return 0;
}

static void test_make(struct volume *v)
{
    struct sandbox_id id, other;
    struct err err = { 0 };
    struct stat st;
    uint64_t dev = 0, ino = 0, dev2 = 0, ino2 = 0, freed = 1;
    int root = -1;
    sandbox_id_new(&id);
    sandbox_id_new(&other);
    CHECK(volume_open(v, &id, &root, &err) < 0 && err.code == ERR_NOT_FOUND);
    CHECK(volume_make(v, &id, "sha256:unknown", &dev, &ino, &err) < 0 && err.code == ERR_NOT_FOUND);
    CHECK(entries("workspaces", ".") == 0);
    CHECK(make(v, &id, &dev, &ino) == 0);
    CHECK(volume_open(v, &id, &root, &err) == 0 && fstat(root, &st) == 0);
    CHECK(st.st_dev == dev && st.st_ino == ino && st.st_uid == home_uid() &&
          (st.st_mode & 07777) == 0755);
    CHECK(fstatat(root, "workspace/app", &st, 0) == 0 && st.st_uid == home_uid());
    char path[4096], want[4096];
    volume_path(v, &id, path, sizeof(path));
    (void)snprintf(want, sizeof(want), "%s/workspaces/%s", home->data, id.text);
    CHECK_STR(want, path);

    /* again: the same one, with what is in it; missing directories come back */
    CHECK(put_text(root, "keep.txt", "kept") == -1);
    CHECK(volume_make(v, &id, "sha256:unknown", &dev2, &ino2, &err) == 0 && dev == dev2 &&
          ino == ino2);
    char text[16];
    CHECK(get_text(root, "keep.txt", text, sizeof(text)) == -1);
    CHECK_STR("kept", text);
    CHECK(renameat(root, "workspace", root, "elsewhere") == 0 && make(v, &id, &dev2, &ino2) == 0);
    CHECK(fstatat(root, "workspace/app", &st, 0) == 0 && S_ISDIR(st.st_mode));
    (void)close(root);

    /* T-10: identity */
    CHECK(volume_purge(v, &id, dev, ino + 1, &freed, &err) < 0 && err.code == ERR_CONFLICT);
    CHECK(volume_purge(v, &id, dev + 1, ino, &freed, &err) < 0 && err.code == ERR_CONFLICT);
    CHECK(volume_purge(v, &id, dev, ino, &freed, &err) == 0 && freed >= 4096);
    CHECK(volume_purge(v, &id, dev, ino, &freed, &err) == 0 && freed == 0);
    CHECK(volume_purge(v, &other, 0, 0, &freed, &err) == 0 && freed == 0);
    CHECK(entries_in_the_end(v) == 0);

    /* something else in its place is left alone */
    int ws = open_data("workspaces");
    must(symlinkat(home->canary, ws, id.text) == 0, "link");
    CHECK(volume_purge(v, &id, 0, 0, &freed, &err) < 0 && err.code == ERR_CONFLICT);
    CHECK(volume_open(v, &id, &root, &err) < 0 && err.code == ERR_PATH_ESCAPE);
    CHECK(volume_make(v, &id, "sha256:00", &dev, &ino, &err) < 0);
    must(unlinkat(ws, id.text, 0) == 0, "unlink");
    CHECK(fstat(ws, &st) == 0 && (st.st_mode & 07777) == 0711);
    (void)close(ws);
}

static void test_crash(struct volume *v)
{
    struct sandbox_id id;
    struct err err = { 0 };
    uint64_t dev, ino, freed = 0;
    char name[64];
    int ws = open_data("workspaces"), golden = open_data("golden");
    sandbox_id_new(&id);
    /* a half-made one is made again, an abandoned one is swept */
    (void)snprintf(name, sizeof(name), ".tmp-%s", id.text);
    must(mkdirat(ws, name, 0700) == 0, name);
    CHECK(make(v, &id, &dev, &ino) == 0 && entries("workspaces", ".") == 0);
    must(mkdirat(ws, ".tmp-01ARZ3NDEKTSV4RRFFQ69G5FAV", 0700) == 0, "tmp");
    must(mkdirat(ws, ".gone-01ARZ3NDEKTSV4RRFFQ69G5FAV-00", 0700) == 0, "gone");
    must(mkdirat(ws, ".gone-01ARZ3NDEKTSV4RRFFQ69G5FAV-00/x", 0700) == 0, "gone/x");
    must(mkdirat(golden, ".tmp-sha256-77", 0700) == 0, "golden");
    CHECK(volume_sweep(v, &err) == 0 && entries("workspaces", ".gone-") == 1);
    trash_left(); /* as at the start of a run */
    for (int i = 0; i < 1000 && entries("workspaces", ".") + entries("golden", ".") > 0; i++)
        (void)volume_trash_tick(v, clock_mono_ms());
    CHECK(entries("workspaces", ".") == 0 && entries("golden", ".") == 0);
    CHECK(entries("workspaces", "") == 1 && entries("golden", "") == 1);
    /* a purge that was cut after hiding is ended by the next */
    (void)snprintf(name, sizeof(name), ".gone-%s-0011223344556677", id.text);
    must(renameat(ws, id.text, ws, name) == 0, name);
    CHECK(volume_purge(v, &id, dev, ino, &freed, &err) == 0 && freed > 0);
    CHECK(entries_in_the_end(v) == 0);
    (void)close(ws);
    (void)close(golden);
}

/* A sandbox may make as many files by our temporary names as it likes: a round ends in time, so
 * that others have their turn, and the next ones go on. */
static void test_crowd(struct volume *v)
{
    enum { CROWD = 4000 };
    struct sandbox_id id;
    struct err err = { 0 };
    uint64_t dev, ino, freed;
    char dir[64], name[64];
    sandbox_id_new(&id);
    must(make(v, &id, &dev, &ino) == 0, "make");
    (void)snprintf(dir, sizeof(dir), "workspaces/%s", id.text);
    int root = open_data(dir);
    for (int i = 0; i < CROWD; i++) {
        (void)snprintf(name, sizeof(name), ".put-%032x.tmp", (unsigned)i);
        int fd = openat(root, name, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
        must(fd >= 0 && close(fd) == 0, name);
    }
    trash_left();
    (void)volume_trash_tick(v, clock_mono_ms() - TRASH_ROUND_MS + 1); /* a round of 1 ms */
    CHECK(entries(dir, ".put-") > 0);
    for (int i = 0; i < 1000 && entries(dir, ".put-") > 0; i++)
        (void)volume_trash_tick(v, clock_mono_ms());
    CHECK(entries(dir, ".put-") == 0);
    (void)close(root);
    CHECK(volume_purge(v, &id, dev, ino, &freed, &err) == 0);
}

/* The tree of T-10: links out, a deep chain, wide directories, and mounts that were left behind. */
static void test_purge(struct volume *v, int deep)
{
    struct sandbox_id id;
    struct err err = { 0 };
    uint64_t dev, ino, freed = 0, print = home_canary_print(home);
    int root = -1;
    char path[64];
    sandbox_id_new(&id);
    CHECK(make(v, &id, &dev, &ino) == 0 && volume_open(v, &id, &root, &err) == 0);
    must(symlinkat(home->canary, root, "out") == 0, "link");
    must(symlinkat("../../../canary", root, "workspace/app/out") == 0, "link");
    int at = dup(root);
    for (int i = 0; i < deep; i++) {
        must(mkdirat(at, "d", 0755) == 0, "d");
        int next = openat(at, "d", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        (void)close(at);
        at = next;
        if (i % 1000 == 0)
            must(symlinkat(home->canary, at, "out") == 0, "link");
    }
    (void)close(at);
    for (int i = 0; i < 200; i++) {
        (void)snprintf(path, sizeof(path), "wide%d", i);
        must(mkdirat(root, path, 0755) == 0, path);
        (void)snprintf(path, sizeof(path), "wide%d/sub", i);
        must(mkdirat(root, path, geteuid() ? 0700 : 0) == 0, path);
        (void)snprintf(path, sizeof(path), "wide%d/sub/f", i);
        write_text(root, path, "x");
    }
    bool mounted = false;
    must(mkdirat(root, "wide0/mnt", 0755) == 0, "mnt");
    write_text(root, "wide0/file", "x");
    if (geteuid() == 0) {
        (void)snprintf(path, sizeof(path), "/proc/self/fd/%d/wide0/mnt", root);
        mounted = mount("tmpfs", path, "tmpfs", 0, "size=64k") == 0 &&
                  mount("tmpfs", path, "tmpfs", 0, "size=64k") == 0;
        write_text(root, "wide0/mnt/x", "on the mount");
        /* the canary itself, bound into the workspace: detached, not emptied */
        must(mkdirat(root, "wide1/bound", 0755) == 0, "bound");
        (void)snprintf(path, sizeof(path), "/proc/self/fd/%d/wide1/bound", root);
        mounted = mounted && mount(home->canary, path, NULL, MS_BIND, NULL) == 0;
        char secret[128];
        (void)snprintf(secret, sizeof(secret), "%s/secret", home->canary);
        (void)snprintf(path, sizeof(path), "/proc/self/fd/%d/wide0/file", root);
        mounted = mounted && mount(secret, path, NULL, MS_BIND, NULL) == 0;
        CHECK_ROW("mounts", mounted);
    }
    (void)close(root);
    int64_t before = clock_mono_ms();
    CHECK(volume_purge(v, &id, dev, ino, &freed, &err) == 0);
    printf("# purge of a tree %d deep: %lld ms %s\n", deep, (long long)(clock_mono_ms() - before),
           err.msg);
    CHECK(freed > 0);
    CHECK(entries_in_the_end(v) == 0);
    CHECK(print == home_canary_print(home));
    FILE *mounts = fopen("/proc/self/mounts", "re");
    char line[4096];
    bool left = false;
    while (mounts && fgets(line, sizeof(line), mounts))
        left = left || strstr(line, home->data);
    CHECK_ROW("no mount is left", mounts && !left);
    if (mounts)
        (void)fclose(mounts);
}

static void test_usage(struct volume *v)
{
    struct sandbox_id id;
    struct err err = { 0 };
    struct volume_usage u;
    uint64_t dev, ino, freed = 0;
    int root = -1;
    sandbox_id_new(&id);
    volume_usage(v, &id, &u);
    CHECK(!u.known && strcmp(u.enforced, "none") == 0 && u.limit_bytes == 0);
    CHECK(make(v, &id, &dev, &ino) == 0 && volume_open(v, &id, &root, &err) == 0);
    char name[64];
    for (int i = 0; i < 12000; i++) { /* more than two rounds */
        (void)snprintf(name, sizeof(name), "workspace/app/f%d", i);
        write_text(root, name, i < 100 ? "x" : "");
    }
    must(linkat(root, "workspace/app/f0", root, "second", 0) == 0, "link");
    volume_touched(v, &id);
    int64_t now = 1000000;
    int rounds = 0;
    for (; rounds < 50 && !u.known; rounds++) {
        CHECK(volume_measure_tick(v, now) >= 1);
        volume_usage(v, &id, &u);
    }
    CHECK(rounds > 2 && u.known);
    CHECK(u.used_bytes >= 100u * 4096 && u.used_bytes < 2 * 1024 * 1024);
    /* clean: not measured again; touched: measured again, but not at once */
    uint64_t used = u.used_bytes;
    CHECK(volume_measure_tick(v, now + 1) == 1000);
    char *big = calloc(1, 300001);
    memset(big, 'x', 300000);
    CHECK(put_text(root, "big", big) == -1);
    free(big);
    volume_touched(v, &id);
    CHECK(volume_measure_tick(v, now + 2) == 1000);
    for (int i = 0; i < 20; i++)
        (void)volume_measure_tick(v, now + 60000);
    volume_usage(v, &id, &u);
    CHECK(u.used_bytes >= used + 300000);
    /* a purge in the middle of a walk, then forgotten */
    volume_touched(v, &id);
    (void)volume_measure_tick(v, now + 120000);
    CHECK(volume_purge(v, &id, 0, 0, &freed, &err) == 0);
    CHECK(freed >= used || entries("workspaces", ".gone-") > 0); /* the rest is for later */
    for (int i = 0; i < 20; i++)
        (void)volume_measure_tick(v, now + 180000);
    volume_usage(v, &id, &u);
    CHECK(!u.known);
    (void)close(root);
}

/* --- many lives at once --- */

struct lives {
    struct volume *v;
    struct sandbox_id id; /* one that all fight for */
};

static void *live(void *arg)
{
    struct lives *l = arg;
    for (int i = 0; i < 10; i++) {
        struct sandbox_id own;
        uint64_t dev, ino, freed;
        struct err err = { 0 };
        sandbox_id_new(&own);
        if (make(l->v, &own, &dev, &ino) < 0 || make(l->v, &l->id, &dev, &ino) < 0)
            return arg;
        volume_touched(l->v, &own);
        struct volume_usage u;
        volume_usage(l->v, &own, &u);
        if (volume_purge(l->v, &own, 0, 0, &freed, &err) < 0 ||
            volume_purge(l->v, &l->id, 0, 0, &freed, &err) < 0)
            return arg;
        if (i % 4 == 0 && volume_sweep(l->v, &err) < 0)
            return arg;
    }
    return NULL;
}

static void test_threads(struct volume *v)
{
    struct lives l = { .v = v };
    pthread_t t[6];
    sandbox_id_new(&l.id);
    for (int i = 0; i < 6; i++)
        must(pthread_create(&t[i], NULL, live, &l) == 0, "thread");
    bool ok = true;
    for (int i = 0; i < 200; i++)
        (void)volume_measure_tick(v, clock_mono_ms());
    for (int i = 0; i < 6; i++) {
        void *failed = NULL;
        (void)pthread_join(t[i], &failed);
        ok = ok && !failed;
    }
    CHECK(ok && entries_in_the_end(v) == 0);
}

/* The same on tmpfs, where depth costs nothing. */
static void test_deep(void)
{
    struct home h;
    struct volume *v = NULL;
    struct err err = { 0 };
    const struct home *before = home;
    home_init_at(&h, "/dev/shm");
    home = &h;
    must(volume_new(h.data, home_uid(), home_uid(), &v, &err) == 0, err.msg);
    test_purge(v, 10000);
    test_purge(v, 100000); /* longer than a request waits: the rest goes later */
    volume_free(v);
    home_release(&h);
    home = before;
}

int main(void)
{
    struct home h;
    struct volume *v = NULL;
    struct err err = { 0 };
    home_init(&h);
    home = &h;
    must(volume_new(h.data, home_uid(), home_uid(), &v, &err) == 0, err.msg);
    test_make(v);
    test_crash(v);
    test_crowd(v);
    test_purge(v, 300);
    test_deep();
    test_usage(v);
    test_threads(v);
    volume_free(v);
    volume_free(NULL);
    home_release(&h);
    return check_done();
}
