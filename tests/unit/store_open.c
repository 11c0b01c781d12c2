/* What store_open() makes of a directory: fresh, in use, newer, older, damaged, forbidden. */
#include "check.h"
#include "store_fixture.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sqlite3.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/digest.h"
#include "base/fd.h"
#include "base/limits.h"
#include "inner.h"

static char *dir;
static char path[300];

static const char *in_state(const char *name)
{
    (void)snprintf(path, sizeof path, "%s/state/%s", dir, name);
    return path;
}

static void read_file(const char *name, struct buf *b)
{
    struct err err;
    AUTO(fd) int fd = open(in_state(name), O_RDONLY | O_CLOEXEC);
    if (fd >= 0)
        (void)fd_read_to_end(fd, b, &err); /* an unreadable file counts as empty */
}

static void write_file(const char *name, const void *data, size_t len)
{
    AUTO(fd) int fd = open(in_state(name), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0 || fd_write_all(fd, data, len) < 0)
        abort();
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

static int not_ours(const struct dirent *d)
{
    return d->d_name[0] != '.' && strcmp(d->d_name, "lock") != 0;
}

/* Names and contents of everything in the state directory. */
static void fingerprint(uint8_t out[DIGEST_BYTES])
{
    AUTO(buf) struct buf all = BUF_INIT(64 * MIB);
    struct dirent **names;
    int n = scandir(in_state(""), &names, not_ours, by_name);
    for (int i = 0; i < n; i++) {
        AUTO(buf) struct buf b = BUF_INIT(32 * MIB);
        read_file(names[i]->d_name, &b);
        buf_addf(&all, "%s %zu ", names[i]->d_name, b.len);
        buf_add(&all, b.data, b.len);
        free(names[i]);
    }
    free(names);
    digest_sha256(all.data, all.len, out);
}

static unsigned mode_of(const char *file)
{
    struct stat st;
    return stat(file, &st) < 0 ? 0 : st.st_mode & 07777;
}

static void sql(const char *text)
{
    sqlite3 *h = NULL;
    if (sqlite3_open(in_state("sandboxd.db"), &h) != SQLITE_OK ||
        sqlite3_exec(h, text, NULL, NULL, NULL) != SQLITE_OK)
        abort();
    sqlite3_close(h);
}

static int count_backups(void)
{
    DIR *d = opendir(in_state(""));
    int n = 0;
    for (struct dirent *e; d && (e = readdir(d));)
        n += str_starts(e->d_name, "backup-");
    if (d)
        (void)closedir(d);
    return n;
}

/* A directory with some rows, closed. */
static void fresh(int rows)
{
    struct store *s;
    struct err err;
    dir = fixture_dir();
    if (store_open(dir, &s, &err) < 0)
        abort();
    for (int i = 0; i < rows; i++) {
        struct sandbox *row = fixture_row("t");
        (void)CHECK(fixture_add(s, row, &err) == 0);
        sandbox_free(row);
    }
    store_close(s);
}

static void drop(void)
{
    fixture_rmdir(dir);
    free(dir);
}

static size_t rows_in(struct store *s)
{
    struct sandbox **rows = NULL;
    size_t count = 0;
    struct err err;
    if (store_load(s, &rows, &count, &err) < 0)
        return SIZE_MAX;
    for (size_t i = 0; i < count; i++)
        sandbox_free(rows[i]);
    free(rows);
    return count;
}

static void test_modes_and_lock(void)
{
    struct err err;
    struct store *s, *second;
    char *parent = fixture_dir();
    char data[300];
    (void)snprintf(data, sizeof data, "%s/a/b", parent);
    dir = data;
    CHECK(store_open(data, &s, &err) == 0);
    CHECK(mode_of(data) == 0700);
    CHECK(mode_of(in_state("")) == 0700);
    CHECK(mode_of(in_state("sandboxd.db")) == 0600);
    struct sandbox *row = fixture_row("t");
    CHECK(fixture_add(s, row, &err) == 0);
    sandbox_free(row);
    CHECK(mode_of(in_state("sandboxd.db-wal")) == 0600);
    CHECK(mode_of(in_state("sandboxd.db-shm")) == 0600);
    CHECK(store_open(data, &second, &err) < 0 && err.code == ERR_CONFLICT);
    CHECK(strstr(err.msg, data) && err.remedy[0]);
    store_close(s);
    CHECK(mode_of(in_state("sandboxd.db-wal")) == 0); /* folded in */
    CHECK(store_open(data, &s, &err) == 0);
    store_close(s);
    fixture_rmdir(parent);
    free(parent);
}

static void test_newer(void)
{
    struct err err;
    struct store *s;
    uint8_t before[DIGEST_BYTES], after[DIGEST_BYTES];
    fresh(2);
    sql("PRAGMA user_version = 9");
    fingerprint(before);
    CHECK(store_open(dir, &s, &err) < 0 && err.code == ERR_NOT_SUPPORTED);
    CHECK(strstr(err.msg, "schema 9") && strstr(err.remedy, "backup"));
    fingerprint(after);
    CHECK(memcmp(before, after, sizeof before) == 0);
    drop();

    /* The newer program was killed: its number is in the WAL alone. */
    fresh(2);
    pid_t child = fork();
    if (child == 0) {
        sqlite3 *h = NULL;
        if (sqlite3_open(in_state("sandboxd.db"), &h) != SQLITE_OK ||
            sqlite3_exec(h, "PRAGMA user_version = 9", NULL, NULL, NULL) != SQLITE_OK)
            _exit(1);
        (void)kill(getpid(), SIGKILL);
    }
    CHECK(waitpid(child, NULL, 0) == child);
    (void)unlink(in_state("sandboxd.db-shm"));
    fingerprint(before);
    CHECK(store_open(dir, &s, &err) < 0 && err.code == ERR_NOT_SUPPORTED);
    fingerprint(after);
    CHECK(memcmp(before, after, sizeof before) == 0);
    drop();
}

static void test_migration(void)
{
    struct err err;
    struct store *s;
    struct sql_migration good[MIGRATION_COUNT + 1], bad[MIGRATION_COUNT + 1];
    char newest[40], prefix[40], names_in_message[40];
    (void)snprintf(newest, sizeof newest, "%04d_more", MIGRATION_COUNT + 1);
    (void)snprintf(names_in_message, sizeof names_in_message, "%04d_bad", MIGRATION_COUNT + 1);
    (void)snprintf(prefix, sizeof prefix, "backup-%d-", MIGRATION_COUNT);
    memcpy(good, sql_migrations, sizeof sql_migrations);
    memcpy(bad, sql_migrations, sizeof sql_migrations);
    good[MIGRATION_COUNT] = (struct sql_migration){
        MIGRATION_COUNT + 1, newest,
        "CREATE TABLE more (x INTEGER) STRICT; INSERT INTO more VALUES (5);"
    };
    bad[MIGRATION_COUNT] = (struct sql_migration){
        MIGRATION_COUNT + 1, names_in_message,
        "CREATE TABLE more (x INTEGER) STRICT; INSERT INTO nowhere VALUES (5);"
    };
    fresh(3);
    CHECK(store_open_schema(dir, bad, MIGRATION_COUNT + 1, &s, &err) < 0 &&
          strstr(err.msg, names_in_message));
    CHECK(count_backups() == 0);           /* a copy of what is still there */
    CHECK(store_open(dir, &s, &err) == 0); /* nothing of it was kept */
    store_close(s);
    CHECK(store_open_schema(dir, good, MIGRATION_COUNT + 1, &s, &err) == 0 && rows_in(s) == 3);
    store_close(s);
    CHECK(count_backups() == 1);
    CHECK(store_open_schema(dir, good, MIGRATION_COUNT + 1, &s, &err) == 0); /* no second backup */
    store_close(s);
    CHECK(count_backups() == 1);
    CHECK(store_open(dir, &s, &err) < 0 && err.code == ERR_NOT_SUPPORTED);

    /* The way back: the backup in place of the database. */
    struct dirent **names;
    int n = scandir(in_state(""), &names, not_ours, by_name);
    char backup[300] = "";
    for (int i = 0; i < n; i++) {
        if (str_starts(names[i]->d_name, prefix))
            (void)str_copy(backup, sizeof backup, in_state(names[i]->d_name));
        free(names[i]);
    }
    free(names);
    CHECK(mode_of(backup) == 0600);
    CHECK(rename(backup, in_state("sandboxd.db")) == 0);
    CHECK(store_open(dir, &s, &err) == 0 && rows_in(s) == 3);
    store_close(s);
    drop();
}

/* Opens what is there, uses it if it opens. A refusal must leave all bytes as they were. */
static bool try_open(const char *row)
{
    struct err err = { 0 };
    struct store *s = NULL;
    uint8_t before[DIGEST_BYTES], after[DIGEST_BYTES];
    (void)unlink(in_state("reserve")); /* made at each open */
    fingerprint(before);
    if (store_open(dir, &s, &err) < 0) {
        (void)unlink(in_state("sandboxd.db-shm")); /* holds nothing of its own */
        fingerprint(after);
        CHECK_ROW(row, memcmp(before, after, sizeof before) == 0);
        CHECK_ROW(row, err.msg[0] != 0);
        return false;
    }
    (void)rows_in(s);
    struct sandbox *r = fixture_row("t");
    (void)fixture_add(s, r, &err); /* may well fail: a page below it is damaged */
    (void)store_ping(s, &err);
    sandbox_free(r);
    store_close(s);
    return true;
}

static void test_damage(void)
{
    struct err err;
    struct store *s;
    fresh(40);
    AUTO(buf) struct buf good = BUF_INIT(32 * MIB);
    read_file("sandboxd.db", &good);
    CHECK(good.len > 8 * 4096);
    char *bytes = mem_new(1, good.len);
    static const struct {
        const char *name;
        long cut, zero; /* length kept (-1 all; below: from the end), page zeroed (-1 none) */
        const char *text;
    } rows[] = {
        { "empty", 0, -1, NULL },
        { "half a header", 50, -1, NULL },
        { "header only", 100, -1, NULL },
        { "one page", 4096, -1, NULL },
        { "last page missing", -4096, -1, NULL },
        { "last byte missing", -2, -1, NULL },
        { "page 1 zero", -1, 0, NULL },
        { "page 2 zero", -1, 1, NULL },
        { "page 5 zero", -1, 4, NULL },
        { "text", -1, -1,
          "This is a shopping list, not a database; it goes on for a while, with milk, "
          "butter, bread, eggs and more." },
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        memcpy(bytes, good.data, good.len);
        size_t len = good.len;
        if (rows[i].text) {
            memcpy(bytes, rows[i].text, strlen(rows[i].text));
            len = strlen(rows[i].text);
        } else if (rows[i].cut >= 0) {
            len = (size_t)rows[i].cut;
        } else if (rows[i].cut < -1) {
            len -= (size_t)-rows[i].cut;
        }
        if (rows[i].zero >= 0)
            memset(bytes + rows[i].zero * 4096, 0, 4096);
        write_file("sandboxd.db", bytes, len);
        CHECK_ROW(rows[i].name, !try_open(rows[i].name));
    }
    /* Another program's database. */
    (void)unlink(in_state("sandboxd.db"));
    sql("CREATE TABLE theirs (x); PRAGMA user_version = 1");
    CHECK(store_open(dir, &s, &err) < 0 && strstr(err.msg, "not a database of sandboxd"));
    /* Gone, but its WAL is not. */
    (void)unlink(in_state("sandboxd.db"));
    write_file("sandboxd.db-wal", "x", 1);
    CHECK(store_open(dir, &s, &err) < 0 && strstr(err.msg, "missing"));
    (void)unlink(in_state("sandboxd.db-wal"));
    CHECK(symlink("/etc/passwd", in_state("sandboxd.db")) == 0);
    CHECK(store_open(dir, &s, &err) < 0);
    (void)unlink(in_state("sandboxd.db"));
    CHECK(mkdir(in_state("sandboxd.db"), 0700) == 0);
    CHECK(store_open(dir, &s, &err) < 0);
    (void)rmdir(in_state("sandboxd.db"));

    /* Flips: one bit each at a fixed series of places; opened or refused, never a crash. */
    uint32_t at = 12345;
    int refused = 0;
    for (int i = 0; i < 150; i++) {
        memcpy(bytes, good.data, good.len);
        at = at * 1664525u + 1013904223u;
        bytes[at % good.len] ^= (char)(1u << (at >> 29));
        write_file("sandboxd.db", bytes, good.len);
        char name[40];
        (void)snprintf(name, sizeof name, "bit %u of byte %zu", at >> 29, at % good.len);
        refused += !try_open(name);
        (void)unlink(in_state("sandboxd.db-wal"));
        (void)unlink(in_state("sandboxd.db-shm"));
    }
    printf("# %d of 150 flips refused at open\n", refused);
    free(bytes);
    drop();
}

static void test_damaged_wal(void)
{
    struct err err;
    struct store *s;
    fresh(2);
    CHECK(store_open(dir, &s, &err) == 0);
    for (int i = 0; i < 20; i++) {
        struct sandbox *row = fixture_row("t");
        CHECK(fixture_add(s, row, &err) == 0);
        sandbox_free(row);
    }
    AUTO(buf) struct buf db = BUF_INIT(32 * MIB);
    AUTO(buf) struct buf wal = BUF_INIT(32 * MIB);
    read_file("sandboxd.db", &db); /* as a kill at this moment would leave them */
    read_file("sandboxd.db-wal", &wal);
    store_close(s);
    CHECK(wal.len > 20 * 4096);
    write_file("sandboxd.db", db.data, db.len);
    write_file("sandboxd.db-wal", wal.data, wal.len);
    CHECK(store_open(dir, &s, &err) == 0 && rows_in(s) == 22);
    store_close(s);
    /* A flip may cost the last transaction, like a power cut; before that it must be noticed. A cut
     * is the same as a power cut. */
    char *bytes = mem_new(1, wal.len);
    uint32_t at = 777;
    int refused = 0;
    for (int i = 0; i < 80; i++) {
        memcpy(bytes, wal.data, wal.len);
        at = at * 1664525u + 1013904223u;
        size_t len = wal.len;
        char name[40];
        (void)snprintf(name, sizeof name, "%s at %zu", i % 2 ? "flip" : "cut", at % wal.len);
        if (i % 2)
            bytes[at % wal.len] ^= (char)(1u << (at >> 29));
        else
            len = at % wal.len;
        (void)unlink(in_state("sandboxd.db-shm"));
        write_file("sandboxd.db", db.data, db.len);
        write_file("sandboxd.db-wal", bytes, len);
        if (!try_open(name)) {
            CHECK_ROW(name, i % 2 == 1);
            refused++;
        } else if (i % 2) {
            CHECK(store_open(dir, &s, &err) == 0);
            CHECK_ROW(name, rows_in(s) >= 22); /* 21 of before and the one of try_open() */
            store_close(s);
        }
    }
    CHECK(refused >= 30);
    printf("# %d of 40 flips in the WAL refused at open\n", refused);
    free(bytes);
    drop();
}

static void test_forbidden(void)
{
    struct err err;
    struct store *s;
    fresh(1);
    CHECK(chmod(dir, 0770) == 0);
    CHECK(store_open(dir, &s, &err) < 0 && strstr(err.remedy, "chmod"));
    CHECK(chmod(dir, 0700) == 0);
    if (geteuid() != 0) {
        printf("# skip: another owner and a read-only directory need root to be set up\n");
        drop();
        return;
    }
    CHECK(chown(dir, 12345, 12345) == 0);
    CHECK(store_open(dir, &s, &err) == 0); /* root was given it */
    store_close(s);
    CHECK(chown(in_state(""), 12345, 12345) == 0);
    CHECK(store_open(dir, &s, &err) < 0 && strstr(err.msg, "another user"));
    CHECK(chmod(dir, 0500) == 0 && chmod(in_state(""), 0500) == 0);
    (void)unlink(in_state("lock"));
    pid_t child = fork();
    if (child == 0) {
        bool ok = setgid(12345) == 0 && setuid(12345) == 0 && store_open(dir, &s, &err) < 0 &&
                  strstr(err.remedy, "writable");
        _exit(ok ? 0 : 1);
    }
    int status = -1;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    drop();
}

int main(void)
{
    test_modes_and_lock();
    test_newer();
    test_migration();
    test_damage();
    test_damaged_wal();
    test_forbidden();
    return check_done();
}
