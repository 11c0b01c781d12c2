/* T-1, T-2, T-3, T-4: symbolic links of eight shapes against every file call, then in a race.
 * Outside lies a canary tree whose bytes must not come in and whose print must not change. */
#include <pthread.h>
#include <stdatomic.h>
#include <sys/mount.h>

#include "base/clock.h"
#include "check.h"
#include "volume_home.h"

#define DONE (-1)
#define CHAIN 40
#define SECRET "CANARY-7f3a91c2"
#define RACE_MS 5000

/* shape: name below workspace/app, what it points to ({} = the canary tree), and the file of the
 * tree that lies behind it. */
struct shape {
    const char *what, *name, *target;
    bool to_dir;
};
static const struct shape shapes[] = {
    { "absolute, to a file", "l-abs", "{}/secret", false },
    { "absolute, to a directory", "l-absdir", "{}", true },
    { "relative, to a file", "l-rel", "../../../../../canary/secret", false },
    { "relative, to a directory", "l-reldir", "../../../../../canary", true },
    { "chain of 40", "l-chain", "chain/0", true },
    { "dangling, outside", "l-dangling", "{}/not-there", false },
    { "to itself", "l-self", "l-self", false },
    { "magic link", "l-magic", "/proc/self/root", true },
    { "inward, to a file", "l-in", "honest.txt", false },
    { "inward, to a directory", "l-indir", "honest", true },
};
#define SHAPES (sizeof(shapes) / sizeof(shapes[0]))

static void plant(const struct home *h, int app)
{
    char target[256];
    must(mkdirat(app, "honest", 0755) == 0 && mkdirat(app, "chain", 0755) == 0, "mkdir");
    write_text(app, "honest.txt", "mine");
    write_text(app, "honest/secret", "mine");
    for (int i = 0; i < CHAIN; i++) {
        char name[32];
        (void)snprintf(name, sizeof(name), "chain/%d", i);
        (void)snprintf(target, sizeof(target), "%d", i + 1);
        must(symlinkat(i + 1 < CHAIN ? target : h->canary, app, name) == 0, "chain");
    }
    for (size_t i = 0; i < SHAPES; i++) {
        const char *t = shapes[i].target;
        if (strncmp(t, "{}", 2) == 0) {
            (void)snprintf(target, sizeof(target), "%s%s", h->canary, t + 2);
            t = target;
        }
        must(symlinkat(t, app, shapes[i].name) == 0, "plant");
    }
}

static bool still_link(int app, const char *name)
{
    struct stat st;
    return fstatat(app, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISLNK(st.st_mode);
}

static void attack(int root, int app, const struct shape *s)
{
    char text[256], path[64], below[96], made[96];
    struct listed l;
    (void)snprintf(path, sizeof(path), "%s", s->name);
    (void)snprintf(below, sizeof(below), "%s/secret", s->name);
    (void)snprintf(made, sizeof(made), "%s/new/dir/file", s->name);
    /* as the last component */
    CHECK_ROW(s->what, get_text(root, path, text, sizeof(text)) == ERR_PATH_ESCAPE && !*text);
    CHECK_ROW(s->what, list_path(root, path, true, &l) == ERR_PATH_ESCAPE && !l.count);
    CHECK_ROW(s->what, put_text(root, path, "x") == ERR_PATH_ESCAPE);
    CHECK_ROW(s->what, append_text(root, path, "x") == ERR_PATH_ESCAPE);
    CHECK_ROW(s->what, still_link(app, s->name));
    /* as a parent */
    CHECK_ROW(s->what, get_text(root, below, text, sizeof(text)) == ERR_PATH_ESCAPE && !*text);
    CHECK_ROW(s->what, list_path(root, below, false, &l) == ERR_PATH_ESCAPE);
    CHECK_ROW(s->what, put_text(root, below, "x") == ERR_PATH_ESCAPE);
    CHECK_ROW(s->what, put_text(root, made, "x") == ERR_PATH_ESCAPE);
    CHECK_ROW(s->what, append_text(root, below, "x") == ERR_PATH_ESCAPE);
    CHECK_ROW(s->what, append_text(root, made, "x") == ERR_PATH_ESCAPE);
    CHECK_ROW(s->what, remove_path(root, below, false) == ERR_PATH_ESCAPE);
    CHECK_ROW(s->what, remove_path(root, below, true) == ERR_PATH_ESCAPE);
    CHECK_ROW(s->what, still_link(app, s->name));
}

static void test_shapes(const struct home *h, int root, int app)
{
    uint64_t print = home_canary_print(h);
    plant(h, app);
    for (size_t i = 0; i < SHAPES; i++)
        attack(root, app, &shapes[i]);
    /* listed as what they are, never entered */
    struct listed l;
    CHECK(list_path(root, "", true, &l) == DONE);
    CHECK(strstr(l.text, "l-abs:symlink ") && strstr(l.text, "l-indir:symlink ") &&
          !strstr(l.text, "l-absdir/") && !strstr(l.text, "l-indir/"));
    /* T-3: a thousand writes beside them own and touch nothing outside */
    bool ok = true;
    for (int i = 0; i < 1000 && ok; i++) {
        char path[64];
        (void)snprintf(path, sizeof(path), "w/%d/%d", i % 10, i);
        ok = put_text(root, i % 2 ? path : "l-absdir/x", "x") == (i % 2 ? DONE : ERR_PATH_ESCAPE);
    }
    CHECK(ok);
    /* a link is removed as a link, and a tree with links without what they lead to */
    CHECK(remove_path(root, "l-abs", false) == DONE && remove_path(root, "l-absdir", true) == DONE);
    CHECK(!still_link(app, "l-abs") && !still_link(app, "l-absdir"));
    CHECK(remove_path(root, "chain", true) == DONE);
    CHECK(print == home_canary_print(h));
    char text[64];
    CHECK(get_text(root, "honest.txt", text, sizeof(text)) == DONE);
    CHECK_STR("mine", text);
}

/* A mount inside is a border as well: neither entered nor written to (T-6). */
static void test_mount(int root, int app)
{
    char path[64];
    struct listed l;
    must(mkdirat(app, "mnt", 0755) == 0, "mnt");
    (void)snprintf(path, sizeof(path), "/proc/self/fd/%d/mnt", app);
    if (geteuid() != 0 || mount("tmpfs", path, "tmpfs", 0, "size=64k") < 0) {
        printf("ok - mount # SKIP needs root\n");
        return;
    }
    write_text(app, "mnt/x", "x");
    CHECK(put_text(root, "mnt/y", "x") == ERR_PATH_ESCAPE);
    CHECK(list_path(root, "mnt", false, &l) == ERR_PATH_ESCAPE);
    CHECK(list_path(root, "", true, &l) == DONE && !strstr(l.text, "mnt/x"));
    CHECK(remove_path(root, "mnt", true) == ERR_PATH_ESCAPE);
    CHECK(remove_path(root, "mnt", false) == ERR_CONFLICT);
    CHECK(umount2(path, MNT_DETACH) == 0 && remove_path(root, "mnt", true) == DONE);
}

/* --- T-4: swapping a directory and a link to outside while calls run --- */

static atomic_bool race_over;
static atomic_ullong race_swaps, race_calls, race_passed, race_hits, race_odd;

struct racer {
    int root, app;
    const char *name;
};

static void *swapper(void *arg)
{
    const struct racer *r = arg;
    char other[32];
    (void)snprintf(other, sizeof(other), "%s-link", r->name);
    while (!atomic_load(&race_over)) {
        if (renameat2(r->app, r->name, r->app, other, RENAME_EXCHANGE) == 0)
            atomic_fetch_add(&race_swaps, 1);
    }
    return NULL;
}

static void count(int code)
{
    atomic_fetch_add(&race_calls, 1);
    if (code == DONE)
        atomic_fetch_add(&race_passed, 1);
    else if (code != ERR_PATH_ESCAPE && code != ERR_NOT_FOUND && code != ERR_CONFLICT &&
             code != ERR_INVALID)
        atomic_fetch_add(&race_odd, 1);
}

static void *caller(void *arg)
{
    const struct racer *r = arg;
    char text[64], path[64];
    struct listed l;
    for (unsigned i = 0; !atomic_load(&race_over); i++) {
        (void)snprintf(path, sizeof(path), "%s/secret", r->name);
        count(get_text(r->root, path, text, sizeof(text)));
        if (strstr(text, SECRET))
            atomic_fetch_add(&race_hits, 1);
        count(list_path(r->root, r->name, true, &l));
        if (strstr(l.text, "sub"))
            atomic_fetch_add(&race_hits, 1);
        count(append_text(r->root, path, "y"));
        if (i % 8)
            continue; /* the dear ones less often */
        (void)snprintf(path, sizeof(path), "%s/n%u/f", r->name, i % 64);
        count(put_text(r->root, path, "x"));
        (void)snprintf(path, sizeof(path), "%s/n%u", r->name, i % 64);
        count(remove_path(r->root, path, true));
    }
    return NULL;
}

static void test_race(const struct home *h, int root, int app)
{
    enum { PAIRS = 4 };
    static const char *const names[PAIRS] = { "r0", "r1", "r2", "r3" };
    pthread_t threads[PAIRS * 2];
    struct racer racers[PAIRS];
    uint64_t print = home_canary_print(h);
    for (int i = 0; i < PAIRS; i++) {
        char path[64];
        racers[i] = (struct racer){ .root = root, .app = app, .name = names[i] };
        (void)snprintf(path, sizeof(path), "%s/secret", names[i]);
        must(mkdirat(app, names[i], 0755) == 0, "race");
        write_text(app, path, "mine");
        (void)snprintf(path, sizeof(path), "%s-link", names[i]);
        must(symlinkat(h->canary, app, path) == 0, "race link");
    }
    int64_t end = clock_mono_ms() + RACE_MS;
    for (int i = 0; i < PAIRS; i++)
        must(pthread_create(&threads[i * 2], NULL, swapper, &racers[i]) == 0 &&
                 pthread_create(&threads[i * 2 + 1], NULL, caller, &racers[i]) == 0,
             "thread");
    while (clock_left_ms(end) > 0)
        (void)usleep((useconds_t)clock_left_ms(end) * 1000); /* the duration is the test */
    atomic_store(&race_over, true);
    for (int i = 0; i < PAIRS * 2; i++)
        (void)pthread_join(threads[i], NULL);
    printf("# race: %llu swaps, %llu calls, %llu passed\n", atomic_load(&race_swaps),
           atomic_load(&race_calls), atomic_load(&race_passed));
    CHECK(atomic_load(&race_calls) >= 1000 && atomic_load(&race_swaps) >= 1000);
    CHECK(atomic_load(&race_passed) > 0);
    CHECK(atomic_load(&race_hits) == 0);
    CHECK(atomic_load(&race_odd) == 0);
    CHECK(print == home_canary_print(h));
}

int main(void)
{
    struct home h;
    struct volume *v = NULL;
    struct sandbox_id id;
    home_init(&h);
    int root = home_workspace(&h, home_uid(), &v, &id);
    int app = openat(root, "workspace/app", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    must(app >= 0, "workspace/app");
    test_shapes(&h, root, app);
    test_mount(root, app);
    test_race(&h, root, app);
    /* all of it goes without anything outside */
    uint64_t print = home_canary_print(&h), freed = 0;
    struct err err;
    CHECK(volume_purge(v, &id, 0, 0, &freed, &err) == 0 && freed > 0);
    CHECK(print == home_canary_print(&h));
    (void)close(app);
    (void)close(root);
    volume_free(v);
    home_release(&h);
    return check_done();
}
