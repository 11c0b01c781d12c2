/* Records of workspaces: what an id owns on disk, beyond the life of its sandbox. */
#include "inner.h"

#include "base/cleanup.h"

void store_workspace_release(struct store_workspace *w)
{
    free(w->tenant);
    free(w->external_user);
    *w = (struct store_workspace){ 0 };
}

/* --- reading --- */

static int read_workspace(sqlite3_stmt *row, struct store_workspace *ret, struct err *err)
{
    struct store_workspace w = { 0 };
    const char *id = (const char *)sqlite3_column_text(row, 0);
    if (!id || sandbox_id_parse(id, &w.id, err) < 0) {
        (void)db_fail_code(SQLITE_CORRUPT, 0, err, "read a workspace record");
        return -1;
    }
    w.tenant = db_text(row, 1);
    w.external_user = db_text(row, 2);
    w.dev = (uint64_t)sqlite3_column_int64(row, 3);
    w.ino = (uint64_t)sqlite3_column_int64(row, 4);
    w.purging = sqlite3_column_int64(row, 5) != 0;
    *ret = w;
    return 0;
}

int store_workspace_get(struct store *s, const struct sandbox_id *id, struct store_workspace *ret,
                        struct err *err)
{
    struct db *db = reader_take(s);
    int row = db_first(db, Q_WORKSPACE_GET, ARGS(ARG_TEXT("id", id->text)), err);
    int result = row == 1 ? read_workspace(db->st[Q_WORKSPACE_GET], ret, err) : -1;
    db_reset(db, Q_WORKSPACE_GET);
    reader_give(s, db);
    return row == 0 ? err_set(err, ERR_NOT_FOUND, "no such workspace") : result;
}

int store_workspaces_purging(struct store *s, struct store_workspace **ret, size_t *ret_count,
                             struct err *err)
{
    struct store_workspace *list = NULL;
    size_t count = 0;
    struct db *db = reader_take(s);
    int row = db_first(db, Q_WORKSPACE_LIST_PURGING, ARGS(), err);
    for (; row == 1; row = db_step(db, Q_WORKSPACE_LIST_PURGING, err)) {
        list = reallocarray(list, count + 1, sizeof *list);
        if (!list)
            abort();
        if (read_workspace(db->st[Q_WORKSPACE_LIST_PURGING], &list[count], err) < 0) {
            row = -1;
            break;
        }
        count++;
    }
    db_reset(db, Q_WORKSPACE_LIST_PURGING);
    reader_give(s, db);
    if (row == 0) {
        *ret = list;
        *ret_count = count;
        return 0;
    }
    for (size_t i = 0; i < count; i++)
        store_workspace_release(&list[i]);
    free(list);
    return -1;
}

/* --- writing --- */

static int changed_one(int changed, struct err *err)
{
    if (changed == 0)
        return err_set(err, ERR_NOT_FOUND, "no such workspace");
    return changed < 0 ? -1 : 0;
}

struct made {
    const struct sandbox_id *id;
    uint64_t dev, ino;
};

static int do_made(struct db *db, void *arg, struct err *err)
{
    const struct made *m = arg;
    return changed_one(
        db_run(db, Q_WORKSPACE_MADE,
               ARGS(ARG_TEXT("id", m->id->text), ARG_INT("dev", m->dev), ARG_INT("ino", m->ino)),
               err),
        err);
}

int store_workspace_made(struct store *s, const struct sandbox_id *id, uint64_t dev, uint64_t ino,
                         struct err *err)
{
    struct made m = { id, dev, ino };
    return writer_run(s->writer, do_made, &m, false, err);
}

static int do_purging(struct db *db, void *arg, struct err *err)
{
    struct sandbox_id *id = arg;
    return changed_one(db_run(db, Q_WORKSPACE_PURGING, ARGS(ARG_TEXT("id", id->text)), err), err);
}

int store_workspace_purging(struct store *s, const struct sandbox_id *id, struct err *err)
{
    struct sandbox_id mine = *id;
    return writer_run(s->writer, do_purging, &mine, true, err);
}

static int do_gone(struct db *db, void *arg, struct err *err)
{
    struct sandbox_id *id = arg;
    const struct arg *args = ARGS(ARG_TEXT("id", id->text));
    int row = db_first(db, Q_SANDBOX_EXISTS, args, err);
    db_reset(db, Q_SANDBOX_EXISTS);
    if (row != 0)
        return row < 0 ? -1 : err_set(err, ERR_CONFLICT, "the workspace has a sandbox");
    return db_run(db, Q_WORKSPACE_REMOVE, args, err) < 0 ? -1 : 0;
}

int store_workspace_gone(struct store *s, const struct sandbox_id *id, struct err *err)
{
    struct sandbox_id mine = *id;
    return writer_run(s->writer, do_gone, &mine, true, err);
}
