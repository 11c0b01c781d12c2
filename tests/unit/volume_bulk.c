/* Pages, search and globs without a daemon: order, cursors, bounds; a million entries on tmpfs. */
#include "base/clock.h"
#include "check.h"
#include "match.h"
#include "volume/bulk.h"
#include "volume/watch.h"
#include "volume_home.h"

#define PATIENCE_MS 20000 /* of waiting */
#define WORK_MS 20000     /* of CPU; a tenth of it does, but for sanitizers */

/* A search ends after a time, which TSan and a busy machine may need for a million. */
#ifdef __SANITIZE_THREAD__
#define MANY 100000
#define MANY_SEVENS "7777?"
#else
#define MANY 1000000
#define MANY_SEVENS "77777?"
#endif

static const struct {
    const char *pattern, *text;
    bool match;
} globs[] = {
    { "*", "abc", true },
    { "*", "a/b", false },
    { "**", "a/b/c", true },
    { "*.c", "x.c", true },
    { "*.c", "x.h", false },
    { "a/*/c", "a/b/c", true },
    { "a/*/c", "a/b/b/c", false },
    { "a/**/c", "a/b/b/c", true },
    { "a/**/c", "a/c", true },
    { "**/c", "c", true },
    { "**/c", "xc", false },
    { "**/c", "a/xc", false },
    { "**/c*d", "a/cxd", true },
    { "?", "\u20ac", true },
    { "??", "\u20ac", false },
    { "[a-c]x", "bx", true },
    { "[!a-c]x", "bx", false },
    { "[", "[", true },
    { "[]]", "]", true },
    { "\\*", "*", true },
    { "\\*", "x", false },
    { "", "", true },
    { "", "a", false },
    { "a**b", "a/x/b", true },
    { "[a", "[a", true },
    { "?", "/", false },
};

static void test_globs(void)
{
    for (size_t i = 0; i < sizeof(globs) / sizeof(globs[0]); i++)
        CHECK_ROW(globs[i].pattern, glob_match(globs[i].pattern, globs[i].text) == globs[i].match);
    char pattern[512], text[4096];
    for (size_t i = 0; i < sizeof(pattern) - 2; i++)
        pattern[i] = i % 2 ? 'a' : '*';
    pattern[sizeof(pattern) - 2] = 'b';
    pattern[sizeof(pattern) - 1] = '\0';
    memset(text, 'a', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    int64_t begun = check_cpu_ms();
    CHECK(!glob_match(pattern, text));
    CHECK(check_cpu_ms() - begun < WORK_MS);
}

struct pages {
    uint32_t count;
    char last[4096];
    bool ordered;
};

static int on_page(void *ctx, const struct file_entry *e)
{
    struct pages *p = ctx;
    p->ordered = p->ordered && strcmp(e->path, p->last) > 0;
    (void)snprintf(p->last, sizeof(p->last), "%s", e->path);
    p->count++;
    return 0;
}

static int on_hit(void *ctx, const struct file_hit *h)
{
    (void)h;
    ++*(uint32_t *)ctx;
    return 0;
}

static void test_million(int root, int app)
{
    struct err err = { 0 };
    struct pages got = { .ordered = true };
    bool more = false;
    must(mkdirat(app, "m", 0755) == 0, "mkdir");
    int m = openat(app, "m", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    write_text(m, "0", "x");
    for (int i = 1; i < MANY; i++) {
        char name[16];
        (void)snprintf(name, sizeof(name), "%d", i);
        must(linkat(m, "0", m, name, 0) == 0, "linkat");
    }
    struct file_path path = path_of("m");
    struct file_page page = { .depth = 1, .limit = 1000 };
    char after[4096];
    for (int i = 0; i < 3; i++) {
        int64_t begun = check_cpu_ms();
        CHECK(file_page(root, &path, &page, on_page, &got, &more, &err) == 0 && more);
        int64_t took = check_cpu_ms() - begun;
        printf("# a page: %lld ms of CPU\n", (long long)took);
        CHECK(took < WORK_MS);
        memcpy(after, got.last, sizeof(after));
        page.after = after;
    }
    CHECK(got.count >= 3 && got.count <= 3000 && got.ordered); /* time may end a page */
    uint32_t hits = 0;
    struct file_search what = { .name = MANY_SEVENS, .limit = 100 };
    struct file_search_stats stats;
    int64_t begun = check_cpu_ms();
    CHECK(file_search(root, &path, &what, on_hit, &hits, &stats, &err) == 0 && hits == 10);
    printf("# names: %lld ms of CPU\n", (long long)(check_cpu_ms() - begun));
    CHECK(check_cpu_ms() - begun < WORK_MS);
    (void)close(m);
}

/* The lines of a file that is longer than one buffer have their numbers. */
static void test_long_file(int root, int app)
{
    struct err err = { 0 };
    uint32_t hits = 0;
    int fd = openat(app, "long", O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    char line[100];
    memset(line, 'a', sizeof(line));
    line[99] = '\n';
    for (int i = 0; i < 60000; i++) {
        memcpy(line, i % 20000 == 7 ? "needle" : "aaaaaa", 6);
        must(write(fd, line, sizeof(line)) == (ssize_t)sizeof(line), "write");
    }
    (void)close(fd);
    struct file_path path = path_of(".");
    for (int how = 0; how < 3; how++) {
        struct file_search what = {
            .text = "needle", .regex = how == 1, .ignore_case = how == 2, .limit = 100
        };
        struct file_search_stats stats;
        hits = 0;
        CHECK(file_search(root, &path, &what, on_hit, &hits, &stats, &err) == 0);
        CHECK(hits == 3 && stats.bytes >= 6000000 && !stats.truncated);
    }
}

static int on_change(void *ctx, const struct file_watch_event *e)
{
    *(unsigned *)ctx |= 1u << e->change;
    return 0;
}

/* More changes than the kernel keeps: the reader is told to begin anew, and changes go on. */
static void test_watch_overflow(int root, int app)
{
    struct err err = { 0 };
    struct file_path path = path_of(".");
    struct file_watch *w = NULL;
    unsigned seen = 0;
    CHECK(file_watch_new(root, &path, true, NULL, &w, &err) == 0);
    for (int i = 0; i < 20000; i++) {
        char name[32];
        (void)snprintf(name, sizeof(name), "f%d", i);
        write_text(app, name, "x");
        must(unlinkat(app, name, 0) == 0, "unlink");
    }
    int64_t until = clock_mono_ms() + 10000;
    while (!(seen & (1u << FILE_RESET)) && clock_mono_ms() < until)
        (void)file_watch_next(w, -1, clock_mono_ms() + 100, on_change, &seen);
    CHECK(seen & (1u << FILE_RESET));
    seen = 0;
    write_text(app, "after", "x");
    CHECK(file_watch_next(w, -1, clock_mono_ms() + 5000, on_change, &seen) == 1);
    CHECK(seen & (1u << FILE_CREATED));
    file_watch_free(w);
}

static int write_down(void *ctx, const struct file_watch_event *e)
{
    static const char *const words[] = { "+", "w", "-", "m", "a", "reset", "limit", "gone" };
    char *text = ctx;
    size_t at = strlen(text);
    (void)snprintf(text + at, 600 - at, "%s%s%s%s\n", words[e->change], e->path, e->from ? "<" : "",
                   e->from ? e->from : "");
    return 0;
}

/* What is done in a directory just after it was moved, before its move is read, is told. */
static void test_watch_moves(int root, int app)
{
    static const struct {
        const char *name, *from, *to, *file, *told;
    } rows[] = {
        { "renamed", "one", "uno", "uno/deep/new", "muno<one\n+uno/deep/new\nwuno/deep/new\n" },
        { "moved down", "uno", "two/uno", "two/uno/deep/more",
          "mtwo/uno<uno\n+two/uno/deep/more\nwtwo/uno/deep/more\n" },
        { "moved over an empty one", "two/uno", "empty", "empty/deep/again",
          "mempty<two/uno\n+empty/deep/again\nwempty/deep/again\n" },
        { "out of sight", "empty", "skipped/empty", "skipped/empty/deep/unseen", "-empty\n" },
        { "and back", "skipped/empty", "one", "one/deep/last",
          "+one\n+one/deep\n+one/deep/new\n+one/deep/more\n+one/deep/again\n+one/deep/unseen\n"
          "+one/deep/last\n" },
    };
    static const char *const skip[] = { "skipped", NULL };
    struct err err = { 0 };
    struct file_path path = path_of("moves");
    struct file_watch *w = NULL;
    must(mkdirat(app, "moves", 0755) == 0, "mkdir");
    int dir = openat(app, "moves", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    must(mkdirat(dir, "one", 0755) == 0 && mkdirat(dir, "one/deep", 0755) == 0 &&
             mkdirat(dir, "two", 0755) == 0 && mkdirat(dir, "empty", 0755) == 0 &&
             mkdirat(dir, "skipped", 0755) == 0,
         "mkdir");
    CHECK(file_watch_new(root, &path, true, skip, &w, &err) == 0);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char told[600] = "";
        must(renameat(dir, rows[i].from, dir, rows[i].to) == 0, rows[i].name);
        write_text(dir, rows[i].file, "x");
        CHECK(file_watch_next(w, -1, clock_mono_ms() + PATIENCE_MS, write_down, told) == 1);
        size_t lines = 0;
        for (const char *p = rows[i].told; *p; p++)
            lines += *p == '\n';
        for (const char *line = told; *line; line = strchr(line, '\n') + 1) { /* in any order */
            char one[100];
            (void)snprintf(one, sizeof(one), "%.*s\n", (int)strcspn(line, "\n"), line);
            lines -= strstr(rows[i].told, one) != NULL;
        }
        if (!CHECK_ROW(rows[i].name, lines == 0))
            printf("# %s\n", told);
    }
    CHECK(file_watch_count(w) == 4);
    file_watch_free(w);
    (void)close(dir);
}

int main(void)
{
    struct home h;
    struct volume *v = NULL;
    struct sandbox_id id;
    home_init_at(&h, "/dev/shm");
    int root = home_workspace(&h, home_uid(), &v, &id);
    int app = openat(root, "workspace/app", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    test_globs();
    test_long_file(root, app);
    test_watch_overflow(root, app);
    test_watch_moves(root, app);
    test_million(root, app);
    (void)close(app);
    (void)close(root);
    volume_free(v);
    home_release(&h);
    return check_done();
}
