/* From a directory to a database that can be trusted.
 *
 * Invariants: sandboxd.db is whole from the moment it has that name (made as .new, then renamed),
 * so an empty or short one is always damage and never taken for a fresh start. A file is judged by
 * its own header before SQLite opens it, so that one of a newer program is left byte for byte as it
 * was. Each migration is one transaction with its number: a kill leaves the schema before or after
 * it. */
#include "schema.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fault.h"
#include "base/fd.h"
#include "base/limits.h"
#include "base/str.h"
#include "wal.h"

#define APPLICATION_ID 0x53424f58 /* "SBOX" in the header: a database of ours */
/* Up to this size every page is checked at open (some 20 ms); beyond, what the header tells. */
#define CHECK_WHOLE_MAX (16 * MIB)

/* https://www.sqlite.org/fileformat.html, 1.3 */
#define HEADER_BYTES 100

static uint32_t be32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static int damaged(const struct home *h, const char *what, struct err *err)
{
    (void)db_fail_code(SQLITE_CORRUPT, 0, err, h->path);
    return err_wrap(err, "%s", what);
}

static int too_new(int64_t version, int count, struct err *err)
{
    (void)err_set(err, ERR_NOT_SUPPORTED,
                  "the database has schema %lld, this sandboxd knows up to %d: nothing was touched",
                  (long long)version, count);
    return err_remedy(err, "run the newer sandboxd again, or put back the backup it made "
                           "(state/backup-<schema>-<time>.db) before its upgrade");
}

static off_t size_of(const struct home *h, const char *name)
{
    struct stat st;
    return fstatat(h->dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0 ? -1 : st.st_size;
}

/* Reads the header. *ret_version 0: there is no database yet. */
static int look(const struct home *h, int64_t *ret_version, off_t *ret_size, struct err *err)
{
    bool wal = size_of(h, HOME_DB "-wal") > 0;
    AUTO(fd) int fd = openat(h->dir, HOME_DB, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0 && errno == ENOENT) {
        *ret_version = 0;
        return wal ? damaged(h, HOME_DB " is missing but its -wal is there", err) : 0;
    }
    if (fd < 0)
        return err_sys(err, errno, "open %s/" HOME_DB, h->path);
    struct stat st;
    uint8_t head[HEADER_BYTES];
    if (fstat(fd, &st) < 0)
        return err_sys(err, errno, "look at %s/" HOME_DB, h->path);
    if (!S_ISREG(st.st_mode))
        return err_set(err, ERR_INTERNAL, "%s/" HOME_DB " is not a regular file", h->path);
    if (fd_read_all(fd, head, sizeof head) < 0)
        return errno == ENODATA ? damaged(h, HOME_DB " is cut short", err)
                                : err_sys(err, errno, "read %s/" HOME_DB, h->path);
    uint32_t page = (uint32_t)head[16] << 8 | head[17];
    if (page == 1)
        page = 65536;
    if (memcmp(head, "SQLite format 3", 16) != 0 || page < 512 || (page & (page - 1)) != 0)
        return damaged(h, HOME_DB " is not an SQLite database", err);
    if (be32(head + 68) != APPLICATION_ID)
        return damaged(h, HOME_DB " is not a database of sandboxd", err);
    /* The header counts the pages. A checkpoint that was killed writes the header first, but then
     * the WAL still holds all of them. */
    if (!wal && be32(head + 24) == be32(head + 92) &&
        (uint64_t)be32(head + 28) * page > (uint64_t)st.st_size)
        return damaged(h, HOME_DB " is cut short", err);
    *ret_version = (int32_t)be32(head + 60);
    *ret_size = st.st_size;
    return *ret_version < 1 ? damaged(h, HOME_DB " has no schema number", err) : 0;
}

static int keep_wal_on_close(struct db *db, int on, struct err *err)
{
    if (sqlite3_db_config(db->h, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, on, NULL) != SQLITE_OK)
        return db_fail(db, err, "open the database");
    return 0;
}

/* The schema number as the WAL has it: a newer program may have been killed before it wrote the
 * file itself. With exclusive locking SQLite makes no -shm, without a checkpoint at close it
 * changes nothing. */
static int look_in_wal(const char *path, int64_t *ret_version, struct err *err)
{
    struct db db = { 0 };
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE;
    int result = -1;
    if (sqlite3_open_v2(path, &db.h, flags, NULL) != SQLITE_OK)
        (void)db_fail(&db, err, "open the database");
    else if (keep_wal_on_close(&db, 1, err) == 0 &&
             db_exec(&db, "PRAGMA locking_mode = EXCLUSIVE", err) == 0)
        result = db_number(&db, "PRAGMA user_version", ret_version, err);
    db_close(&db);
    return result;
}

static int note(struct db *db, const struct sql_migration *m, struct err *err)
{
    return db_run_alone(db, Q_MIGRATION_NOTE,
                        ARGS(ARG_INT("number", m->number), ARG_TEXT("name", m->name),
                             ARG_INT("now_ms", clock_wall_ms())),
                        err);
}

static int migrate(struct db *db, const struct sql_migration *list, int from, int to,
                   struct err *err)
{
    for (int i = from; i < to; i++) {
        const struct sql_migration *m = &list[i];
        AUTO(buf) struct buf sql = BUF_INIT(1 * MIB);
        buf_addf(&sql,
                 "BEGIN IMMEDIATE;\n%s\n; PRAGMA user_version = %d; PRAGMA application_id = %d;",
                 m->text, m->number, APPLICATION_ID);
        if (buf_done(&sql, err) < 0)
            return -1;
        if (db_exec(db, buf_str(&sql), err) < 0 || note(db, m, err) < 0)
            return err_wrap(err, "migration %s", m->name); /* the caller rolls back or closes */
        if (FAULT("store.migrate.before"))
            return err_set(err, ERR_INTERNAL, "migration %s: fault point", m->name);
        if (db_exec(db, "COMMIT", err) < 0)
            return err_wrap(err, "migration %s", m->name);
        (void)FAULT("store.migrate.after"); /* a place to be killed at */
    }
    /* Into the file itself, where its header shows the number to an older program. */
    return from < to ? db_exec(db, "PRAGMA wal_checkpoint(TRUNCATE)", err) : 0;
}

static int set_wal(struct db *db, struct err *err)
{
    if (db_exec(db, "PRAGMA journal_mode = WAL", err) < 0)
        return -1;
    sqlite3_stmt *st = NULL;
    bool ok = sqlite3_prepare_v2(db->h, "PRAGMA journal_mode", -1, &st, NULL) == SQLITE_OK &&
              sqlite3_step(st) == SQLITE_ROW &&
              str_eq((const char *)sqlite3_column_text(st, 0), "wal");
    (void)sqlite3_finalize(st);
    return ok ? 0 : err_set(err, ERR_INTERNAL, "the file system cannot carry SQLite's WAL mode");
}

static int make_new(const struct home *h, const struct sql_migration *list, int count,
                    struct err *err)
{
    static const char *const left_over[] = { HOME_NEW, HOME_NEW "-wal", HOME_NEW "-shm" };
    for (size_t i = 0; i < sizeof left_over / sizeof left_over[0]; i++)
        if (unlinkat(h->dir, left_over[i], 0) < 0 && errno != ENOENT)
            return err_sys(err, errno, "remove %s/%s", h->path, left_over[i]);
    AUTO(free) char *path = home_path(h, HOME_NEW);
    struct db db = { 0 };
    if (home_touch(h, HOME_NEW, err) < 0 || db_open(&db, path, DB_WRITER, err) < 0)
        return -1;
    bool ok = set_wal(&db, err) == 0 && migrate(&db, list, 0, count, err) == 0 &&
              db_exec(&db, "PRAGMA wal_checkpoint(TRUNCATE)", err) == 0;
    db_close(&db);
    if (!ok)
        return -1;
    if (FAULT("store.new.rename"))
        return err_set(err, ERR_INTERNAL, "fault point");
    if (renameat(h->dir, HOME_NEW, h->dir, HOME_DB) < 0 || fsync(h->dir) < 0)
        return err_sys(err, errno, "put %s/" HOME_DB " in place", h->path);
    return 0;
}

#define BACKUP_NAME_MAX 80

/* A whole copy, on disk before the first migration begins. */
static int back_up(const struct home *h, struct db *db, int64_t version, char name[BACKUP_NAME_MAX],
                   struct err *err)
{
    (void)snprintf(name, BACKUP_NAME_MAX, "backup-%lld-%lld.db", (long long)version,
                   (long long)clock_wall_ms());
    if (home_touch(h, name, err) < 0)
        return -1;
    AUTO(free) char *path = home_path(h, name);
    sqlite3_stmt *st = NULL;
    int rc = sqlite3_prepare_v2(db->h, "VACUUM INTO ?", -1, &st, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_bind_text(st, 1, path, -1, SQLITE_STATIC);
    if (rc == SQLITE_OK)
        rc = sqlite3_step(st);
    if (rc != SQLITE_DONE)
        (void)db_fail(db, err, "copy the database");
    (void)sqlite3_finalize(st);
    AUTO(fd) int fd = openat(h->dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (rc == SQLITE_DONE && fd >= 0 && fsync(fd) == 0 && fsync(h->dir) == 0)
        return 0;
    if (rc == SQLITE_DONE)
        (void)err_sys(err, errno, "copy the database");
    (void)unlinkat(h->dir, name, 0); /* half a copy helps nobody */
    return err_wrap(err, "before the upgrade");
}

/* Copies, then migrates. When not even the first migration came through, the copy says nothing that
 * the database does not: it goes, or a service that is restarted over and over would fill the disk.
 */
static int upgrade(const struct home *h, struct db *db, const struct sql_migration *list,
                   int64_t version, int count, struct err *err)
{
    char backup[BACKUP_NAME_MAX];
    int64_t now = version;
    struct err ignored;
    if (back_up(h, db, version, backup, err) < 0)
        return -1;
    if (migrate(db, list, (int)version, count, err) == 0)
        return 0;
    (void)sqlite3_exec(db->h, "ROLLBACK", NULL, NULL, NULL); /* fails where none is open */
    if (db_number(db, "PRAGMA user_version", &now, &ignored) == 0 && now == version)
        (void)unlinkat(h->dir, backup, 0);
    return -1;
}

static int check_pages(const struct home *h, struct db *db, struct err *err)
{
    sqlite3_stmt *st = NULL;
    AUTO(free) char *what = NULL;
    int rc = sqlite3_prepare_v2(db->h, "PRAGMA quick_check(1)", -1, &st, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_step(st);
    if (rc == SQLITE_ROW)
        what = db_text(st, 0);
    else
        (void)db_fail(db, err, "check the database");
    (void)sqlite3_finalize(st);
    if (rc != SQLITE_ROW)
        return -1;
    return str_eq(what, "ok") ? 0 : damaged(h, what ? what : "no memory", err);
}

/* Looking makes SQLite put an empty WAL and its index beside the file. */
static void leave_no_trace(const struct home *h)
{
    if (size_of(h, HOME_DB "-wal") == 0) {
        (void)unlinkat(h->dir, HOME_DB "-wal",
                       0); /* a file without a byte: no matter if it stays */
        (void)unlinkat(h->dir, HOME_DB "-shm", 0);
    }
}

int schema_open(const struct home *h, const struct sql_migration *list, int count, struct db *ret,
                struct err *err)
{
    AUTO(free) char *path = home_path(h, HOME_DB);
    int64_t version = 0;
    off_t size = 0;
    if (look(h, &version, &size, err) < 0)
        return -1;
    if (version == 0) {
        if (make_new(h, list, count, err) < 0)
            return -1;
        version = count;
    }
    if (version <= count && size_of(h, HOME_DB "-wal") > 0) {
        bool lost = false;
        if (wal_look(h->dir, HOME_DB "-wal", &lost, err) < 0)
            return err_wrap(err, "%s", h->path);
        if (lost)
            return damaged(h, HOME_DB "-wal has lost transactions", err);
        if (look_in_wal(path, &version, err) < 0)
            return err_wrap(err, "%s", h->path);
    }
    if (version > count)
        return too_new(version, count, err);
    struct db db = { 0 };
    if (db_open(&db, path, DB_WRITER, err) < 0)
        return err_wrap(err, "%s", h->path);
    /* Until it is found sound, a refusal leaves file and WAL as they are. */
    if (keep_wal_on_close(&db, 1, err) < 0 || set_wal(&db, err) < 0 ||
        (size <= CHECK_WHOLE_MAX && check_pages(h, &db, err) < 0) ||
        (version < count && upgrade(h, &db, list, version, count, err) < 0) ||
        keep_wal_on_close(&db, 0, err) < 0) {
        db_close(&db);
        leave_no_trace(h);
        return err_wrap(err, "%s", h->path);
    }
    /* A new run of the log: what a power cut tore off stays behind for good, and wal_look() never
     * takes it for lost. On a full disk it must wait. */
    (void)sqlite3_wal_checkpoint_v2(db.h, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL);
    *ret = db;
    return 0;
}
