/* The thin layer over SQLite: connections, statements, and the one place where its codes get words.
 *
 * Invariants: no mmap (it would widen what a stray write can damage); no connection checkpoints by
 * itself; a statement is always reset when its user returns, for an open read keeps the WAL from
 * restarting. */
#include "sql.h"

#include <errno.h>

#include "base/limits.h"
#include "base/str.h"

int db_fail_code(int rc, int sys, struct err *err, const char *what)
{
    switch (rc & 0xff) {
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        (void)err_set(err, ERR_INTERNAL, "%s: the database is damaged", what);
        return err_remedy(err,
                          "stop sandboxd, keep a copy of the state directory, then put the newest "
                          "state/backup-*.db in place of sandboxd.db (and remove its -wal and "
                          "-shm), or salvage with: sqlite3 sandboxd.db .recover");
    case SQLITE_FULL:
        (void)err_set(err, ERR_NO_SPACE, "%s: no space left for the database", what);
        return err_remedy(err, "free space in the data directory; nothing was changed");
    case SQLITE_IOERR:
        if (sys == EDQUOT || sys == ENOSPC)
            return db_fail_code(SQLITE_FULL, sys, err, what);
        break;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        (void)err_set(err, ERR_TIMEOUT, "%s: another program keeps the database locked", what);
        return err_remedy(err, "let no other program open sandboxd.db while sandboxd runs");
    default:
        break;
    }
    (void)err_set(err, ERR_INTERNAL, "%s: database: %s", what, sqlite3_errstr(rc));
    err->sys = sys;
    return -1;
}

int db_fail(struct db *db, struct err *err, const char *what)
{
    int rc = sqlite3_extended_errcode(db->h);
    if (rc == SQLITE_ERROR) /* our SQL is wrong: only its author ever reads this */
        return err_set(err, ERR_INTERNAL, "%s: %s", what, sqlite3_errmsg(db->h));
    return db_fail_code(rc, sqlite3_system_errno(db->h), err, what);
}

int db_exec(struct db *db, const char *sql, struct err *err)
{
    if (sqlite3_exec(db->h, sql, NULL, NULL, NULL) != SQLITE_OK)
        return db_fail(db, err, "execute");
    return 0;
}

int db_number(struct db *db, const char *sql, int64_t *ret, struct err *err)
{
    sqlite3_stmt *st = NULL;
    int rc = sqlite3_prepare_v2(db->h, sql, -1, &st, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_step(st);
    if (rc == SQLITE_ROW)
        *ret = sqlite3_column_int64(st, 0);
    else
        (void)db_fail(db, err, "read");
    (void)sqlite3_finalize(st); /* repeats the error that was taken above */
    return rc == SQLITE_ROW ? 0 : -1;
}

int db_open(struct db *db, const char *path, enum db_mode mode, struct err *err)
{
    int flags = mode == DB_WRITER ? SQLITE_OPEN_READWRITE : SQLITE_OPEN_READONLY;
    flags |= SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE;
    if (sqlite3_open_v2(path, &db->h, flags, NULL) != SQLITE_OK) {
        (void)db_fail(db, err, "open the database");
        db_close(db);
        return -1;
    }
    (void)sqlite3_db_config(db->h, SQLITE_DBCONFIG_DEFENSIVE, 1,
                            NULL); /* a hardening, no promise */
    static const char common[] = "PRAGMA busy_timeout = 5000;"
                                 "PRAGMA mmap_size = 0;"
                                 "PRAGMA wal_autocheckpoint = 0;"
                                 "PRAGMA trusted_schema = OFF;"
                                 "PRAGMA cell_size_check = ON;"
                                 "PRAGMA temp_store = MEMORY;";
    static const char writer[] = "PRAGMA foreign_keys = ON;"
                                 "PRAGMA synchronous = FULL;"
                                 "PRAGMA cache_size = -1024;";
    static const char reader[] = "PRAGMA query_only = ON;"
                                 "PRAGMA cache_size = -256;";
    if (db_exec(db, common, err) < 0 || db_exec(db, mode == DB_WRITER ? writer : reader, err) < 0) {
        db_close(db);
        return -1;
    }
    return 0;
}

int db_prepare(struct db *db, enum db_mode mode, struct err *err)
{
    for (int q = 0; q < QUERY_COUNT; q++) {
        const char *tail = NULL;
        sqlite3_stmt *more = NULL;
        if (sqlite3_prepare_v3(db->h, sql_queries[q].text, -1, SQLITE_PREPARE_PERSISTENT,
                               &db->st[q], &tail) != SQLITE_OK)
            return db_fail(db, err, sql_queries[q].name);
        int rc = sqlite3_prepare_v2(db->h, tail, -1, &more, NULL);
        (void)sqlite3_finalize(more);
        if (!db->st[q] || rc != SQLITE_OK || more)
            return err_set(err, ERR_INTERNAL, "query %s is not one statement", sql_queries[q].name);
        if (mode == DB_READER && !sqlite3_stmt_readonly(db->st[q])) {
            (void)sqlite3_finalize(db->st[q]);
            db->st[q] = NULL;
        }
    }
    return 0;
}

int db_run_alone(struct db *db, enum query q, const struct arg *args, struct err *err)
{
    if (sqlite3_prepare_v2(db->h, sql_queries[q].text, -1, &db->st[q], NULL) != SQLITE_OK)
        return db_fail(db, err, sql_queries[q].name);
    int changed = db_run(db, q, args, err);
    (void)sqlite3_finalize(db->st[q]); /* its failure was db_run's */
    db->st[q] = NULL;
    return changed < 0 ? -1 : 0;
}

void db_close(struct db *db)
{
    for (int q = 0; q < QUERY_COUNT; q++) {
        (void)sqlite3_finalize(db->st[q]);
        db->st[q] = NULL;
    }
    (void)sqlite3_close(db->h); /* cannot be busy: nothing of it is left open */
    db->h = NULL;
}

void db_reset(struct db *db, enum query q)
{
    (void)sqlite3_reset(db->st[q]); /* repeats an error that its step has told already */
    (void)sqlite3_clear_bindings(db->st[q]);
}

int db_bind(struct db *db, enum query q, const struct arg *args, struct err *err)
{
    sqlite3_stmt *st = db->st[q];
    if (!st)
        return err_set(err, ERR_INTERNAL, "query %s is not for readers", sql_queries[q].name);
    db_reset(db, q);
    int count = 0;
    for (const struct arg *a = args; a->name; a++, count++) {
        int at = sqlite3_bind_parameter_index(st, a->name), rc = SQLITE_OK;
        if (at == 0)
            return err_set(err, ERR_INTERNAL, "query %s has no %s", sql_queries[q].name, a->name);
        switch (a->kind) {
        case ARG_KIND_INT:
            rc = sqlite3_bind_int64(st, at, a->number);
            break;
        case ARG_KIND_TEXT:
            rc = sqlite3_bind_text(st, at, a->data, -1, SQLITE_STATIC);
            break;
        case ARG_KIND_BLOB:
            rc = sqlite3_bind_blob(st, at, a->data, (int)a->number, SQLITE_STATIC);
            break;
        }
        if (rc != SQLITE_OK)
            return db_fail(db, err, sql_queries[q].name);
    }
    if (count != sqlite3_bind_parameter_count(st))
        return err_set(err, ERR_INTERNAL, "query %s: %d of its %d parameters given",
                       sql_queries[q].name, count, sqlite3_bind_parameter_count(st));
    return 0;
}

int db_step(struct db *db, enum query q, struct err *err)
{
    int rc = sqlite3_step(db->st[q]);
    if (rc == SQLITE_ROW)
        return 1;
    int result = rc == SQLITE_DONE ? 0 : db_fail(db, err, sql_queries[q].name);
    db_reset(db, q);
    return result;
}

int db_first(struct db *db, enum query q, const struct arg *args, struct err *err)
{
    if (db_bind(db, q, args, err) < 0)
        return -1;
    return db_step(db, q, err);
}

int db_run(struct db *db, enum query q, const struct arg *args, struct err *err)
{
    int row = db_first(db, q, args, err);
    if (row < 0)
        return -1;
    db_reset(db, q);
    return sqlite3_changes(db->h);
}

char *db_text(sqlite3_stmt *row, int column)
{
    const unsigned char *text = sqlite3_column_text(row, column);
    return text ? str_ndup((const char *)text, (size_t)sqlite3_column_bytes(row, column)) : NULL;
}

bool db_bytes(sqlite3_stmt *row, int column, void *out, size_t len)
{
    const void *data = sqlite3_column_blob(row, column);
    if (!data || (size_t)sqlite3_column_bytes(row, column) != len)
        return false;
    memcpy(out, data, len);
    return true;
}
