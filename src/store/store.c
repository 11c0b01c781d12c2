/* Opening, closing, and the pool of readers.
 *
 * The writer's connection is opened first and closed last: it is the one that recovers the WAL
 * after a crash and folds it in at the end; readers, being READONLY, can do neither. */
#include "inner.h"

#include "base/cleanup.h"
#include "base/fault.h"
#include "base/str.h"
#include "rows.h"
#include "schema.h"

struct db *reader_take(struct store *s)
{
    mu_lock(&s->lock);
    for (;;) {
        for (size_t i = 0; i < STORE_READERS; i++)
            if (!s->busy[i]) {
                s->busy[i] = true;
                mu_unlock(&s->lock);
                return &s->readers[i];
            }
        cond_wait(&s->idle, &s->lock);
    }
}

void reader_give(struct store *s, struct db *db)
{
    mu_lock(&s->lock);
    s->busy[db - s->readers] = false;
    cond_signal(&s->idle);
    mu_unlock(&s->lock);
}

static int open_parts(struct store *s, const char *data_dir, const struct sql_migration *list,
                      int count, struct err *err)
{
    struct db db = { 0 };
    if (home_open(&s->home, data_dir, err) < 0)
        return -1;
    int rc = schema_open(&s->home, list, count, &db, err);
    if (rc < 0 && err->code == ERR_NO_SPACE && home_reserve_drop(&s->home))
        rc = schema_open(&s->home, list, count, &db, err); /* who is to free space must be up */
    if (rc < 0 || writer_new(&db, &s->home, &s->writer, err) < 0)
        return -1;
    AUTO(free) char *path = home_path(&s->home, HOME_DB);
    for (size_t i = 0; i < STORE_READERS; i++)
        if (db_open(&s->readers[i], path, DB_READER, err) < 0 ||
            db_prepare(&s->readers[i], DB_READER, err) < 0)
            return -1;
    struct db *r = &s->readers[0]; /* nobody else knows it yet */
    if (rows_check(r, err) < 0)
        return -1;
    int row = db_first(r, Q_META_GET, ARGS(ARG_TEXT("name", "instance")), err);
    if (row == 1)
        s->instance = db_text(r->st[Q_META_GET], 0);
    db_reset(r, Q_META_GET);
    return row == 0 ? err_set(err, ERR_INTERNAL, "the database does not name its instance")
                    : (row < 0 ? -1 : 0);
}

int store_open_schema(const char *data_dir, const struct sql_migration *list, int count,
                      struct store **ret, struct err *err)
{
    struct store *s = mem_new(1, sizeof *s);
    s->home = (struct home){ .dir = -1, .lock = -1 };
    mu_init(&s->lock, MU_STORE);
    cond_init(&s->idle);
    if (open_parts(s, data_dir, list, count, err) < 0) {
        store_close(s);
        return -1;
    }
    *ret = s;
    return 0;
}

int store_open(const char *data_dir, struct store **ret, struct err *err)
{
    return store_open_schema(data_dir, sql_migrations, MIGRATION_COUNT, ret, err);
}

void store_close(struct store *s)
{
    if (!s)
        return;
    for (size_t i = 0; i < STORE_READERS; i++)
        db_close(&s->readers[i]);
    writer_free(s->writer);
    home_release(&s->home); /* the lock goes last */
    cond_release(&s->idle);
    mu_release(&s->lock);
    free(s->instance);
    free(s);
}

int store_ping(struct store *s, struct err *err)
{
    if (writer_ping(s->writer, err) < 0)
        return -1;
    struct db *db = reader_take(s);
    int row = db_first(db, Q_META_GET, ARGS(ARG_TEXT("name", "instance")), err);
    db_reset(db, Q_META_GET);
    reader_give(s, db);
    if (row == 0)
        return err_set(err, ERR_INTERNAL, "the database has lost its name");
    return row < 0 ? -1 : 0;
}

const char *store_instance(const struct store *s)
{
    return s->instance;
}

int store_peek_instance(const char *data_dir, char ret[17], struct err *err)
{
    struct db db = { 0 };
    char path[DATA_DIR_MAX + 64];
    (void)snprintf(path, sizeof path, "%s/state/" HOME_DB, data_dir); /* always fits */
    if (access(path, F_OK) < 0)
        return err_set(err, ERR_NOT_FOUND, "there is no database yet");
    if (db_open(&db, path, DB_READER, err) < 0 || db_prepare(&db, DB_READER, err) < 0) {
        db_close(&db);
        return -1;
    }
    int row = db_first(&db, Q_META_GET, ARGS(ARG_TEXT("name", "instance")), err);
    AUTO(free) char *name = row == 1 ? db_text(db.st[Q_META_GET], 0) : NULL;
    db_close(&db);
    if (row < 0)
        return -1;
    return name && str_copy(ret, 17, name)
               ? 0
               : err_set(err, ERR_INTERNAL, "the database does not name its instance");
}

const char *store_sqlite_version(bool *ret_affected)
{
    /* https://www.sqlite.org/wal.html#walresetbug: in all from 3.7.0 until 3.51.3, mended also
     * in 3.44.6 and 3.50.7. */
    int v = sqlite3_libversion_number();
    bool mended = v >= 3051003 || (v >= 3050007 && v < 3051000) || (v >= 3044006 && v < 3045000);
    *ret_affected = v >= 3007000 && !mended;
    return sqlite3_libversion();
}

int store_load(struct store *s, struct sandbox ***ret, size_t *ret_count, struct err *err)
{
    struct sandbox **rows = NULL;
    size_t count = 0, room = 0;
    struct db *db = reader_take(s);
    int row = db_first(db, Q_SANDBOX_LOAD, ARGS(), err);
    for (; row == 1; row = db_step(db, Q_SANDBOX_LOAD, err)) {
        if (count == room) {
            room = room ? 2 * room : 64;
            rows = reallocarray(rows, room, sizeof(struct sandbox *));
            if (!rows)
                abort();
        }
        if (rows_read(db, &rows[count], err) < 0) {
            row = -1;
            break;
        }
        count++;
    }
    db_reset(db, Q_SANDBOX_LOAD);
    reader_give(s, db);
    if (row == 0) {
        *ret = rows;
        *ret_count = count;
        return 0;
    }
    for (size_t i = 0; i < count; i++)
        sandbox_free(rows[i]);
    free(rows);
    return -1;
}
