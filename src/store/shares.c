/* Records of share links, and the visibility of a sandbox. Each change has its audit row in the
 * same transaction. */
#include "inner.h"

#include <stdlib.h>

#include "base/clock.h"
#include "rows.h"
#include "store/share.h"

static int note(struct db *db, const struct sandbox_id *sandbox, const char *actor,
                const char *action, const char *name, const char *value, int64_t now_ms,
                struct err *err)
{
    int added = db_run(db, Q_AUDIT_NOTE,
                       ARGS(ARG_TEXT("id", sandbox->text), ARG_TEXT("actor", actor),
                            ARG_TEXT("action", action), ARG_TEXT("name", name),
                            ARG_TEXT("value", value), ARG_INT("now_ms", now_ms)),
                       err);
    return added < 0 ? -1 : 0;
}

struct change {
    const struct store_share *share;
    const char *actor;
};

static int do_add(struct db *db, void *arg, struct err *err)
{
    const struct change *c = arg;
    const struct store_share *s = c->share;
    if (db_run(db, Q_SHARE_EXPIRE, ARGS(ARG_INT("now_ms", s->created_at_ms)), err) < 0)
        return -1;
    int row = db_first(db, Q_SHARE_COUNT, ARGS(ARG_TEXT("sandbox", s->sandbox.text)), err);
    if (row < 0)
        return -1;
    int64_t count = sqlite3_column_int64(db->st[Q_SHARE_COUNT], 0);
    db_reset(db, Q_SHARE_COUNT);
    if (count >= SHARES_PER_SANDBOX_MAX)
        return err_set(err, ERR_QUOTA, "the sandbox has %d share links already",
                       SHARES_PER_SANDBOX_MAX);
    int added = db_run(db, Q_SHARE_INSERT,
                       ARGS(ARG_TEXT("id", s->id.text), ARG_TEXT("sandbox", s->sandbox.text),
                            ARG_INT("once", s->once), ARG_INT("created_at_ms", s->created_at_ms),
                            ARG_INT("expires_at_ms", s->expires_at_ms)),
                       err);
    if (added == 0)
        return err_set(err, ERR_NOT_FOUND, "no such sandbox");
    return added < 0 ? -1
                     : note(db, &s->sandbox, c->actor, "share.create", "share", s->id.text,
                            s->created_at_ms, err);
}

int store_share_add(struct store *s, const struct store_share *share, const char *actor,
                    struct err *err)
{
    struct change c = { share, actor };
    return writer_run(s->writer, do_add, &c, false, err);
}

static int do_use(struct db *db, void *arg, struct err *err)
{
    const struct sandbox_id *id = arg;
    int changed = db_run(db, Q_SHARE_USE, ARGS(ARG_TEXT("id", id->text)), err);
    if (changed == 0)
        return err_set(err, ERR_CONFLICT, "the link was used before");
    return changed < 0 ? -1 : 0;
}

int store_share_use(struct store *s, const struct sandbox_id *id, struct err *err)
{
    struct sandbox_id mine = *id;
    return writer_run(s->writer, do_use, &mine, false, err);
}

struct removal {
    const struct sandbox_id *sandbox, *id;
    const char *actor;
    int64_t now_ms;
};

static int do_remove(struct db *db, void *arg, struct err *err)
{
    const struct removal *r = arg;
    int changed =
        db_run(db, Q_SHARE_REMOVE,
               ARGS(ARG_TEXT("id", r->id->text), ARG_TEXT("sandbox", r->sandbox->text)), err);
    if (changed == 0)
        return err_set(err, ERR_NOT_FOUND, "no such share");
    return changed < 0 ? -1
                       : note(db, r->sandbox, r->actor, "share.revoke", "share", r->id->text,
                              r->now_ms, err);
}

int store_share_remove(struct store *s, const struct sandbox_id *sandbox,
                       const struct sandbox_id *id, const char *actor, struct err *err)
{
    struct removal r = { sandbox, id, actor, clock_wall_ms() };
    return writer_run(s->writer, do_remove, &r, true, err);
}

static int read_share(sqlite3_stmt *row, struct store_share *ret, struct err *err)
{
    const char *id = (const char *)sqlite3_column_text(row, 0);
    const char *sandbox = (const char *)sqlite3_column_text(row, 1);
    if (!id || !sandbox || sandbox_id_parse(id, &ret->id, err) < 0 ||
        sandbox_id_parse(sandbox, &ret->sandbox, err) < 0)
        return db_fail_code(SQLITE_CORRUPT, 0, err, "read a share");
    ret->once = sqlite3_column_int64(row, 2) != 0;
    ret->used = sqlite3_column_int64(row, 3) != 0;
    ret->created_at_ms = sqlite3_column_int64(row, 4);
    ret->expires_at_ms = sqlite3_column_int64(row, 5);
    return 0;
}

int store_share_load(struct store *s, struct store_share **ret, size_t *ret_count, struct err *err)
{
    struct store_share *list = NULL;
    size_t count = 0;
    struct db *db = reader_take(s);
    int row = db_first(db, Q_SHARE_LOAD, ARGS(), err);
    for (; row == 1; row = db_step(db, Q_SHARE_LOAD, err)) {
        list = reallocarray(list, count + 1, sizeof *list);
        if (!list)
            abort();
        if (read_share(db->st[Q_SHARE_LOAD], &list[count++], err) < 0) {
            row = -1;
            break;
        }
    }
    db_reset(db, Q_SHARE_LOAD);
    reader_give(s, db);
    if (row < 0) {
        free(list);
        return -1;
    }
    *ret = list;
    *ret_count = count;
    return 0;
}

struct visibility {
    const struct sandbox_id *id;
    const char *word, *actor;
    int64_t now_ms;
};

static int do_set_visibility(struct db *db, void *arg, struct err *err)
{
    const struct visibility *v = arg;
    int changed = db_run(db, Q_SANDBOX_SET_VISIBILITY,
                         ARGS(ARG_TEXT("id", v->id->text), ARG_TEXT("visibility", v->word),
                              ARG_INT("now_ms", v->now_ms)),
                         err);
    if (changed == 0)
        return err_set(err, ERR_NOT_FOUND, "no such sandbox");
    return changed < 0 ? -1
                       : note(db, v->id, v->actor, "sandbox.visibility", "visibility", v->word,
                              v->now_ms, err);
}

int store_set_visibility(struct store *s, const struct sandbox_id *id,
                         enum sandbox_visibility visibility, int64_t now_ms, const char *actor,
                         struct err *err)
{
    struct visibility v = { id, rows_visibility(visibility), actor, now_ms };
    return writer_run(s->writer, do_set_visibility, &v, true, err);
}
