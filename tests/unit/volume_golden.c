/* Golden copies from archives, honest and hostile (T-7, T-8); one fetch for many callers. */
#include <archive.h>
#include <archive_entry.h>
#include <pthread.h>
#include <stdatomic.h>

#include "base/clock.h"
#include "base/limits.h"
#include "check.h"
#include "volume_home.h"

/* --- building archives --- */

struct tar {
    char *data;
    size_t len;
    struct archive *a;
    char *room;
};
#define TAR_ROOM ((size_t)64 * 1024 * 1024)

static void tar_begin(struct tar *t)
{
    *t = (struct tar){ .a = archive_write_new(), .room = malloc(TAR_ROOM) };
    must(archive_write_set_format_pax_restricted(t->a) == ARCHIVE_OK, "pax");
    must(archive_write_set_options(t->a, "hdrcharset=BINARY") >= ARCHIVE_WARN, "charset");
    must(archive_write_set_bytes_in_last_block(t->a, 1) == ARCHIVE_OK, "block");
    must(archive_write_open_memory(t->a, t->room, TAR_ROOM, &t->len) == ARCHIVE_OK, "open");
}

static void tar_add(struct tar *t, const char *name, unsigned type, unsigned mode, const char *text)
{
    struct archive_entry *e = archive_entry_new();
    archive_entry_set_pathname(e, name);
    archive_entry_set_perm(e, (__LA_MODE_T)mode);
    archive_entry_set_uid(e, 0);
    archive_entry_set_gid(e, 0);
    archive_entry_set_mtime(e, 1700000000, 0);
    if (type == 'H') {
        archive_entry_set_filetype(e, AE_IFREG);
        archive_entry_set_hardlink(e, text);
    } else {
        archive_entry_set_filetype(e, type);
    }
    if (type == AE_IFLNK)
        archive_entry_set_symlink(e, text);
    if (type == AE_IFCHR || type == AE_IFBLK)
        archive_entry_set_rdev(e, 0x103);
    if (type == AE_IFREG)
        archive_entry_set_size(e, (la_int64_t)strlen(text));
    must(archive_write_header(t->a, e) >= ARCHIVE_WARN, name);
    if (type == AE_IFREG && *text)
        must(archive_write_data(t->a, text, strlen(text)) >= 0, name);
    archive_entry_free(e);
}

/* A file of nothing but a hole. */
static void tar_add_sparse(struct tar *t, const char *name, la_int64_t size)
{
    struct archive_entry *e = archive_entry_new();
    archive_entry_set_pathname(e, name);
    archive_entry_set_filetype(e, AE_IFREG);
    archive_entry_set_perm(e, 0644);
    archive_entry_set_size(e, size);
    archive_entry_sparse_add_entry(e, size - 1, 1);
    must(archive_write_header(t->a, e) >= ARCHIVE_WARN, name);
    archive_entry_free(e);
}

/* A bare ustar header with the size as given, in octal. */
static void raw_header(char out[512], const char *name, const char *size)
{
    memset(out, 0, 512);
    memcpy(out, name, strlen(name));
    memcpy(out + 100, "0000644", 7);
    memcpy(out + 124, size, strlen(size));
    memcpy(out + 156, "0", 1);
    memcpy(out + 257, "ustar\00000", 8);
    memset(out + 148, ' ', 8);
    unsigned sum = 0;
    for (int i = 0; i < 512; i++)
        sum += (unsigned char)out[i];
    char text[16];
    (void)snprintf(text, sizeof(text), "%06o", sum);
    memcpy(out + 148, text, 7);
}

static void tar_end(struct tar *t)
{
    (void)archive_write_close(t->a);
    (void)archive_write_free(t->a);
    t->data = t->room;
}

/* --- giving them to the room --- */

struct source {
    const char *data;
    size_t len, chunk;
    atomic_int calls;
    int code; /* fail so after the bytes; -1: do not */
};

static int fetch_bytes(void *ctx, void *seed, struct err *err)
{
    struct source *s = ctx;
    atomic_fetch_add(&s->calls, 1);
    for (size_t at = 0; at < s->len;) {
        size_t n = s->chunk && s->chunk < s->len - at ? s->chunk : s->len - at;
        if (volume_golden_feed(seed, s->data + at, n, err) < 0)
            return -1;
        at += n;
    }
    return s->code < 0 ? 0 : err_set(err, (enum err_code)s->code, "told to fail");
}

static struct volume *vol;
static const struct home *home;

static int ensure(const char *digest, struct source *s, enum err_code *ret_code)
{
    struct err err = { 0 };
    int rc = volume_golden_ensure(vol, digest, fetch_bytes, s, &err);
    *ret_code = err.code;
    return rc;
}

/* lstat of a name in golden/<dir>; the type letter of ls -l, '!' for nothing. */
static char look(const char *dir, const char *name, struct stat *st)
{
    char path[512];
    (void)snprintf(path, sizeof(path), "%s/golden/%s/%s", home->data, dir, name);
    if (lstat(path, st) < 0)
        return '!';
    return S_ISREG(st->st_mode)   ? '-'
           : S_ISDIR(st->st_mode) ? 'd'
           : S_ISLNK(st->st_mode) ? 'l'
                                  : '?';
}

struct outcome {
    const char *name; /* below the golden copy */
    char type;
    unsigned mode;
};

static void check_outcomes(const char *dir, const struct outcome *rows, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct stat st = { 0 };
        char type = look(dir, rows[i].name, &st);
        if (!CHECK_ROW(rows[i].name, type == rows[i].type) || type == '!' || type == 'l')
            continue;
        CHECK_ROW(rows[i].name, (st.st_mode & 07777) == rows[i].mode);
        CHECK_ROW(rows[i].name, st.st_uid == home_uid() && st.st_gid == home_uid());
    }
}

static void test_honest(void)
{
    static const struct outcome rows[] = {
        { "", 'd', 0755 },
        { ".bashrc", '-', 0644 },
        { "bin/tool", '-', 0755 },
        { "bin", 'd', 0750 },
        { "link", 'l', 0 },
        { "outward", 'l', 0 },
        { "second", '-', 0644 },
        { "made/by/name", '-', 0600 },
        { "caf\xc3\xa9.txt", '-', 0644 },
        { "bytes-\xff", '-', 0644 },
        { "workspace/app", 'd', 0775 },
    };
    struct tar t;
    tar_begin(&t);
    tar_add(&t, "sandbox/", AE_IFDIR, 0700, "");
    tar_add(&t, "sandbox/.bashrc", AE_IFREG, 0644, "PS1=x\n");
    tar_add(&t, "sandbox/bin/", AE_IFDIR, 0750, "");
    tar_add(&t, "sandbox/bin/tool", AE_IFREG, 0755, "#!/bin/sh\n");
    tar_add(&t, "sandbox/link", AE_IFLNK, 0777, ".bashrc");
    tar_add(&t, "sandbox/outward", AE_IFLNK, 0777, "/etc/passwd");
    tar_add(&t, "sandbox/second", 'H', 0644, "sandbox/.bashrc");
    tar_add(&t, "sandbox/made/by/name", AE_IFREG, 0600, "x");
    tar_add(&t, "sandbox/caf\xc3\xa9.txt", AE_IFREG, 0644, "x");
    tar_add(&t, "sandbox/bytes-\xff", AE_IFREG, 0644, "x");
    tar_end(&t);
    struct source s = { .data = t.data, .len = t.len, .chunk = 777, .code = -1 };
    enum err_code code;
    CHECK(ensure("sha256:honest", &s, &code) == 0 && s.calls == 1);
    CHECK(ensure("sha256:honest", &s, &code) == 0 && s.calls == 1);
    check_outcomes("sha256-honest", rows, sizeof(rows) / sizeof(rows[0]));
    struct stat st;
    CHECK(look("sha256-honest", "second", &st) == '-' && st.st_size == 6 && st.st_nlink == 1);
    CHECK(look("sha256-honest", ".bashrc", &st) == '-' && st.st_mtime == 1700000000);

    /* and from there into a workspace */
    struct sandbox_id id;
    struct err err = { 0 };
    uint64_t dev = 0, ino = 0, freed = 0;
    int root = -1;
    char text[64], target[64];
    sandbox_id_new(&id);
    CHECK(volume_make(vol, &id, "sha256:honest", &dev, &ino, &err) == 0 && dev && ino);
    CHECK(volume_open(vol, &id, &root, &err) == 0);
    CHECK(get_text(root, "/home/sandbox/.bashrc", text, sizeof(text)) == -1);
    CHECK_STR("PS1=x\n", text);
    ssize_t n = readlinkat(root, "outward", target, sizeof(target) - 1);
    CHECK(n > 0 && memcmp(target, "/etc/passwd", (size_t)n) == 0);
    CHECK(fstatat(root, ".bashrc", &st, 0) == 0 && st.st_mtime == 1700000000 &&
          st.st_uid == home_uid() && (st.st_mode & 07777) == 0644);
    CHECK(fstatat(root, "bin/tool", &st, 0) == 0 && (st.st_mode & 07777) == 0755);
    CHECK(fstat(root, &st) == 0 && (st.st_mode & 07777) == 0755 && st.st_uid == home_uid());
    (void)close(root);
    CHECK(volume_purge(vol, &id, dev, ino, &freed, &err) == 0);
    free(t.room);
}

static void test_hostile(void)
{
    static const struct outcome rows[] = {
        { "ok", '-', 0644 },        { "suid", '-', 0755 },
        { "sticky", 'd', 0755 },    { "fifo", '!', 0 },
        { "null", '!', 0 },         { "disk", '!', 0 },
        { "evil", 'l', 0 },         { "evil2", 'l', 0 },
        { "up", '!', 0 },           { "twice", '-', 0600 },
        { "hard-out", '!', 0 },     { "hard-abs", '!', 0 },
        { "hard-link", '!', 0 },    { "dir-then-file", 'd', 0755 },
        { "late", '-', 0644 },      { "a\\b", '-', 0644 },
        { "workspace", 'd', 0775 }, { "workspace/app", 'd', 0775 },
        { "Case", '-', 0644 },      { "case", '-', 0644 },
    };
    uint64_t print = home_canary_print(home);
    char deep[2048] = "sandbox";
    for (int i = 0; i < PATH_DEPTH_MAX + 1; i++)
        (void)snprintf(deep + strlen(deep), sizeof(deep) - strlen(deep), "/d");
    char up[256], secret[256];
    (void)snprintf(secret, sizeof(secret), "%s/secret", home->canary);
    (void)snprintf(up, sizeof(up), "sandbox/../../../canary/planted");
    struct tar t;
    tar_begin(&t);
    tar_add(&t, "sandbox/ok", AE_IFREG, 0644, "x");
    tar_add(&t, up, AE_IFREG, 0644, "planted");
    tar_add(&t, "../planted", AE_IFREG, 0644, "planted");
    tar_add(&t, "sandbox/x/../../../planted", AE_IFREG, 0644, "planted");
    tar_add(&t, secret, AE_IFREG, 0644, "planted");
    tar_add(&t, "/etc/planted-by-sandboxd-test", AE_IFREG, 0644, "planted");
    tar_add(&t, "sandbox/suid", AE_IFREG, 06755, "x");
    tar_add(&t, "sandbox/sticky/", AE_IFDIR, 07755, "");
    tar_add(&t, "sandbox/fifo", AE_IFIFO, 0644, "");
    tar_add(&t, "sandbox/null", AE_IFCHR, 0666, "");
    tar_add(&t, "sandbox/disk", AE_IFBLK, 0666, "");
    /* link, then write through it: as a parent and as the last component */
    tar_add(&t, "sandbox/evil", AE_IFLNK, 0777, home->canary);
    tar_add(&t, "sandbox/evil/planted", AE_IFREG, 0644, "planted");
    tar_add(&t, "sandbox/evil/sub/", AE_IFDIR, 0777, "");
    tar_add(&t, "sandbox/evil2", AE_IFLNK, 0777, secret);
    tar_add(&t, "sandbox/late", AE_IFLNK, 0777, secret);
    tar_add(&t, "sandbox/late", AE_IFREG, 0644, "replaces the link");
    /* hard links out */
    tar_add(&t, "sandbox/hard-out", 'H', 0644, "sandbox/../../canary/secret");
    tar_add(&t, "sandbox/hard-abs", 'H', 0644, secret);
    tar_add(&t, "sandbox/hard-link", 'H', 0644, "sandbox/evil2");
    tar_add(&t, "sandbox/hard-none", 'H', 0644, "sandbox/nothing");
    tar_add(&t, "sandbox/twice", AE_IFREG, 0644, "1");
    tar_add(&t, "sandbox/twice", AE_IFREG, 0600, "22");
    tar_add(&t, "sandbox/dir-then-file/", AE_IFDIR, 0755, "");
    tar_add(&t, "sandbox/dir-then-file", AE_IFREG, 0644, "x");
    tar_add(&t, "sandbox/ok/below-a-file", AE_IFREG, 0644, "x");
    tar_add(&t, "sandbox/a\\b", AE_IFREG, 0644, "x");
    tar_add(&t, "sandbox/Case", AE_IFREG, 0644, "x");
    tar_add(&t, "sandbox/case", AE_IFREG, 0644, "x");
    tar_add(&t, deep, AE_IFREG, 0644, "x");
    tar_add(&t, "sandbox/workspace", AE_IFLNK, 0777, home->canary);
    tar_end(&t);
    struct source s = { .data = t.data, .len = t.len, .code = -1 };
    enum err_code code;
    CHECK(ensure("sha256:hostile", &s, &code) == 0);
    check_outcomes("sha256-hostile", rows, sizeof(rows) / sizeof(rows[0]));
    struct stat st;
    CHECK(look("sha256-hostile", "twice", &st) == '-' && st.st_size == 2);
    CHECK(look("sha256-hostile", "workspace", &st) == 'd');
    CHECK(lstat("/etc/planted-by-sandboxd-test", &st) < 0);
    CHECK(print == home_canary_print(home));
    free(t.room);
}

static void test_broken(void)
{
    char golden[128];
    struct stat st;
    enum err_code code;
    struct tar t;
    tar_begin(&t);
    char *big = malloc(200001);
    memset(big, 'x', 200000);
    big[200000] = '\0';
    tar_add(&t, "sandbox/big", AE_IFREG, 0644, big);
    tar_end(&t);
    struct source cut = { .data = t.data, .len = 100000, .code = -1 };
    CHECK(ensure("sha256:cut", &cut, &code) < 0 && code == ERR_ENGINE);
    struct source torn = { .data = t.data, .len = 100000, .code = ERR_TIMEOUT };
    CHECK(ensure("sha256:cut", &torn, &code) < 0 && code == ERR_TIMEOUT);
    struct source noise = { .data = "hello, this is no archive at all", .len = 32, .code = -1 };
    CHECK(ensure("sha256:cut", &noise, &code) < 0 && code == ERR_ENGINE);
    (void)snprintf(golden, sizeof(golden), "%s/golden/sha256-cut", home->data);
    CHECK(lstat(golden, &st) < 0);
    (void)snprintf(golden, sizeof(golden), "%s/golden/.tmp-sha256-cut", home->data);
    CHECK(lstat(golden, &st) < 0);
    /* a failure is not remembered */
    struct source whole = { .data = t.data, .len = t.len, .code = -1 };
    CHECK(ensure("sha256:cut", &whole, &code) == 0);
    free(big);
    free(t.room);

    /* a header that claims 8 GiB, and one that hides 1 TiB behind a sparse map: refused at the
     * header */
    char bomb[512];
    raw_header(bomb, "sandbox/bomb", "77777777777");
    struct source huge = { .data = bomb, .len = sizeof(bomb), .code = -1 };
    CHECK(ensure("sha256:bomb", &huge, &code) < 0 && code == ERR_TOO_LARGE);
    tar_begin(&t);
    tar_add_sparse(&t, "sandbox/sparse", (la_int64_t)1 << 40);
    tar_end(&t);
    struct source sparse = { .data = t.data, .len = t.len, .code = -1 };
    CHECK(ensure("sha256:bomb", &sparse, &code) < 0 &&
          (code == ERR_TOO_LARGE || code == ERR_ENGINE));
    free(t.room);

    static const char *const bad[] = { "", ".", "..", "../x", "a/b", ".tmp-x", "a b", "x\n", NULL };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        CHECK_ROW(bad[i], ensure(bad[i], &whole, &code) < 0 && code == ERR_INVALID);
    char longer[300];
    memset(longer, 'a', sizeof(longer) - 1);
    longer[sizeof(longer) - 1] = '\0';
    CHECK(ensure(longer, &whole, &code) < 0 && code == ERR_INVALID);
}

/* --- eight callers, one fetch --- */

static struct source shared;

static void *one_caller(void *arg)
{
    enum err_code code;
    return ensure("sha256:shared", &shared, &code) < 0 ? arg : NULL;
}

static void test_together(void)
{
    struct tar t;
    pthread_t threads[8];
    tar_begin(&t);
    char name[64];
    for (int i = 0; i < 300; i++) {
        (void)snprintf(name, sizeof(name), "sandbox/d%d/f%d", i % 10, i);
        tar_add(&t, name, AE_IFREG, 0644, "text");
    }
    tar_end(&t);
    shared = (struct source){ .data = t.data, .len = t.len, .chunk = 4096, .code = -1 };
    for (int i = 0; i < 8; i++)
        must(pthread_create(&threads[i], NULL, one_caller, threads) == 0, "thread");
    bool ok = true;
    for (int i = 0; i < 8; i++) {
        void *failed = NULL;
        (void)pthread_join(threads[i], &failed);
        ok = ok && !failed;
    }
    CHECK(ok && atomic_load(&shared.calls) == 1);
    free(t.room);
}

int main(void)
{
    struct home h;
    struct err err = { 0 };
    home_init(&h);
    home = &h;
    must(volume_new(h.data, home_uid(), home_uid(), &vol, &err) == 0, err.msg);
    test_honest();
    test_hostile();
    test_broken();
    test_together();
    volume_free(vol);
    home_release(&h);
    return check_done();
}
