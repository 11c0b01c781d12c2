/* Idempotency keys: a record is made with the row it stands for (sandboxes.c), filled with the
 * reply, and forgotten after a day or when its request failed. */
#include "inner.h"

#include "base/cleanup.h"

int store_idem_get(struct store *s, const char *tenant, const char *key, struct store_idem *ret,
                   struct err *err)
{
    struct store_idem i = { 0 };
    struct db *db = reader_take(s);
    int row = db_first(db, Q_IDEM_GET, ARGS(ARG_TEXT("tenant", tenant), ARG_TEXT("key", key)), err);
    bool sound = false;
    if (row == 1) {
        sqlite3_stmt *st = db->st[Q_IDEM_GET];
        const char *id = (const char *)sqlite3_column_text(st, 1);
        struct err ignored; /* replaced below */
        sound = db_bytes(st, 0, i.hash, sizeof i.hash) && id &&
                sandbox_id_parse(id, &i.sandbox, &ignored) == 0;
        i.status = (int)sqlite3_column_int64(st, 2);
        i.body = db_text(st, 3);
    }
    db_reset(db, Q_IDEM_GET);
    reader_give(s, db);
    if (row == 1 && sound) {
        *ret = i;
        return 0;
    }
    free(i.body);
    if (row == 1)
        return db_fail_code(SQLITE_CORRUPT, 0, err, "read an idempotency record");
    return row == 0 ? err_set(err, ERR_NOT_FOUND, "no such idempotency key") : -1;
}

struct record {
    const char *tenant, *key;
    const struct sandbox_id *sandbox;
    int status;
    const char *body;
};

static int do_done(struct db *db, void *arg, struct err *err)
{
    const struct record *r = arg;
    int changed = db_run(db, Q_IDEM_DONE,
                         ARGS(ARG_TEXT("tenant", r->tenant), ARG_TEXT("key", r->key),
                              ARG_INT("status", r->status), ARG_TEXT("body", r->body)),
                         err);
    if (changed == 0)
        return err_set(err, ERR_NOT_FOUND, "no request with this key is under way");
    return changed < 0 ? -1 : 0;
}

int store_idem_done(struct store *s, const char *tenant, const char *key, int status,
                    const char *body, struct err *err)
{
    struct record r = { .tenant = tenant, .key = key, .status = status, .body = body };
    return writer_run(s->writer, do_done, &r, false, err);
}

static int do_drop(struct db *db, void *arg, struct err *err)
{
    const struct record *r = arg;
    int changed = db_run(db, Q_IDEM_DROP,
                         ARGS(ARG_TEXT("tenant", r->tenant), ARG_TEXT("key", r->key),
                              ARG_TEXT("sandbox", r->sandbox->text)),
                         err);
    return changed < 0 ? -1 : 0;
}

int store_idem_drop(struct store *s, const char *tenant, const char *key,
                    const struct sandbox_id *sandbox, struct err *err)
{
    struct record r = { .tenant = tenant, .key = key, .sandbox = sandbox };
    return writer_run(s->writer, do_drop, &r, false, err);
}

static int do_expire(struct db *db, void *arg, struct err *err)
{
    const int64_t *before_ms = arg;
    int changed = db_run(db, Q_IDEM_EXPIRE, ARGS(ARG_INT("before_ms", *before_ms)), err);
    return changed < 0 ? -1 : 0;
}

int store_idem_expire(struct store *s, int64_t before_ms, struct err *err)
{
    return writer_run(s->writer, do_expire, &before_ms, false, err);
}
