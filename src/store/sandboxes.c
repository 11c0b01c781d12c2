/* Writes to rows of `sandbox`. Each function here is one job of the writer: do_… runs on its thread
 * inside the job's SAVEPOINT, the door's function packs the arguments and waits. A job may run
 * twice, so it sets what it hands back on each run. */
#include "inner.h"

#include "base/str.h"
#include "rows.h"

/* --- create --- */

/* 0 when the key is free. A key in use is told apart by store_idem_get before; getting here means
 * that another request with it came in between. */
static int check_idem(struct db *db, const struct store_create *c, struct err *err)
{
    int row = db_first(db, Q_IDEM_GET,
                       ARGS(ARG_TEXT("tenant", c->row->tenant), ARG_TEXT("key", c->idem_key)), err);
    if (row <= 0)
        return row;
    uint8_t hash[32];
    bool same = db_bytes(db->st[Q_IDEM_GET], 0, hash, sizeof hash) &&
                memcmp(hash, c->idem_hash, sizeof hash) == 0;
    db_reset(db, Q_IDEM_GET);
    return same ? err_set(err, ERR_IN_PROGRESS, "a request with this Idempotency-Key is under way")
                : err_set(err, ERR_IDEMPOTENCY,
                          "this Idempotency-Key was used before with another request");
}

/* 1 when the project has its sandbox: *c->ret_existing is it. */
static int find_of_project(struct db *db, const struct store_create *c, struct err *err)
{
    c->ret_existing->text[0] = 0;
    int row = db_first(
        db, Q_SANDBOX_OF_PROJECT,
        ARGS(ARG_TEXT("tenant", c->row->tenant), ARG_TEXT("project", c->row->external_project)),
        err);
    if (row <= 0)
        return row;
    const char *id = (const char *)sqlite3_column_text(db->st[Q_SANDBOX_OF_PROJECT], 0);
    bool ok = id && sandbox_id_parse(id, c->ret_existing, err) == 0;
    db_reset(db, Q_SANDBOX_OF_PROJECT);
    return ok ? 1 : -1;
}

static int check_quota(struct db *db, const struct store_create *c, struct err *err)
{
    int row = db_first(db, Q_SANDBOX_COUNT, ARGS(ARG_TEXT("tenant", c->row->tenant)), err);
    if (row < 0)
        return -1;
    int64_t count = sqlite3_column_int64(db->st[Q_SANDBOX_COUNT], 0);
    db_reset(db, Q_SANDBOX_COUNT);
    if (count < c->tenant_max)
        return 0;
    (void)err_set(err, ERR_QUOTA, "%lld of %u sandboxes are in use", (long long)count,
                  c->tenant_max);
    return err_remedy(err, "delete a sandbox that is no longer needed");
}

/* Another tenant's id is refused in the words of any id in use: who has it is nobody's business. */
static int id_in_use(struct err *err)
{
    return err_set(err, ERR_CONFLICT, "the sandbox id is in use");
}

static int check_id(struct db *db, const struct store_create *c, struct err *err)
{
    int row = db_first(db, Q_SANDBOX_EXISTS, ARGS(ARG_TEXT("id", c->row->id.text)), err);
    db_reset(db, Q_SANDBOX_EXISTS);
    return row == 1 ? id_in_use(err) : row;
}

/* The record of an earlier life is kept, if its owner is who asks; else one is made. */
static int claim_workspace(struct db *db, const struct store_create *c, struct err *err)
{
    const struct sandbox *r = c->row;
    int row = db_first(db, Q_WORKSPACE_GET, ARGS(ARG_TEXT("id", r->id.text)), err);
    if (row < 0)
        return -1;
    if (row == 0)
        return db_run(db, Q_WORKSPACE_INSERT,
                      ARGS(ARG_TEXT("id", r->id.text), ARG_TEXT("node", r->node),
                           ARG_TEXT("tenant", r->tenant),
                           ARG_TEXT("external_user", r->external_user),
                           ARG_INT("now_ms", r->created_at_ms)),
                      err);
    sqlite3_stmt *st = db->st[Q_WORKSPACE_GET];
    bool ours = str_eq((const char *)sqlite3_column_text(st, 1), r->tenant);
    const char *user = (const char *)sqlite3_column_text(st, 2);
    bool unclaimed = !user;
    bool same_user = unclaimed || (r->external_user && str_eq(user, r->external_user));
    bool purging = sqlite3_column_int64(st, 5) != 0;
    db_reset(db, Q_WORKSPACE_GET);
    if (!ours)
        return id_in_use(err);
    if (!same_user)
        return err_set(err, ERR_CONFLICT, "workspace_owner_mismatch");
    if (purging)
        return err_set(err, ERR_CONFLICT, "the workspace of this id is being removed");
    if (!unclaimed || !r->external_user)
        return 0;
    return db_run(db, Q_WORKSPACE_SET_USER,
                  ARGS(ARG_TEXT("id", r->id.text), ARG_TEXT("external_user", r->external_user)),
                  err);
}

static int do_create(struct db *db, void *arg, struct err *err)
{
    const struct store_create *c = arg;
    const struct sandbox *r = c->row;
    if (c->idem_key && check_idem(db, c, err) < 0)
        return -1;
    if (c->ret_existing) {
        int found = find_of_project(db, c, err);
        if (found != 0)
            return found < 0 ? -1 : 0;
    }
    if (check_quota(db, c, err) < 0 || check_id(db, c, err) < 0 ||
        claim_workspace(db, c, err) < 0 || rows_insert(db, r, err) < 0)
        return -1;
    if (c->idem_key &&
        db_run(db, Q_IDEM_INSERT,
               ARGS(ARG_TEXT("tenant", r->tenant), ARG_TEXT("key", c->idem_key),
                    ARG_TEXT("node", r->node), ARG_BLOB("hash", c->idem_hash, 32),
                    ARG_TEXT("sandbox", r->id.text), ARG_INT("now_ms", r->created_at_ms)),
               err) < 0)
        return -1;
    int added = db_run(db, Q_AUDIT_CREATE,
                       ARGS(ARG_TEXT("id", r->id.text), ARG_TEXT("actor", c->actor),
                            ARG_INT("now_ms", r->created_at_ms)),
                       err);
    return added < 0 ? -1 : 0;
}

int store_create(struct store *s, const struct store_create *c, struct err *err)
{
    struct sandbox_id existing = { 0 };
    struct store_create mine = *c;
    mine.ret_existing = c->ret_existing ? &existing : NULL;
    if (writer_run(s->writer, do_create, &mine, false, err) < 0)
        return -1;
    if (c->ret_existing)
        *c->ret_existing = existing;
    return 0;
}

/* --- changes --- */

struct move {
    const struct sandbox_id *id;
    enum sandbox_state from, to;
    int64_t now_ms;
    const struct store_move *m;
};

static int do_move(struct db *db, void *arg, struct err *err)
{
    const struct move *v = arg;
    const struct store_move *m = v->m;
    int changed = db_run(
        db, Q_SANDBOX_MOVE,
        ARGS(ARG_TEXT("id", v->id->text), ARG_TEXT("from", rows_state(v->from)),
             ARG_TEXT("to", rows_state(v->to)), ARG_INT("now_ms", v->now_ms),
             ARG_INT("purge", m->purge), ARG_TEXT("container_id", m->container_id),
             ARG_TEXT("image_digest", m->image_digest), ARG_TEXT("error_message", m->error_message),
             ARG_INT("nofile", m->nofile), ARG_INT("if_epoch", m->if_epoch),
             ARG_BLOB("secret", m->new_epoch ? m->secret : NULL, sizeof m->secret)),
        err);
    if (changed < 0)
        return -1;
    if (changed == 0)
        return err_set(err, ERR_CONFLICT, "the sandbox is no longer %s",
                       sandbox_state_name(v->from));
    if (!m->actor)
        return 0;
    int added = db_run(db, Q_AUDIT_MOVE,
                       ARGS(ARG_TEXT("id", v->id->text), ARG_TEXT("actor", m->actor),
                            ARG_TEXT("action", m->action), ARG_TEXT("from", rows_state(v->from)),
                            ARG_TEXT("to", rows_state(v->to)), ARG_INT("now_ms", v->now_ms)),
                       err);
    return added < 0 ? -1 : 0;
}

int store_move(struct store *s, const struct sandbox_id *id, enum sandbox_state from,
               enum sandbox_state to, int64_t now_ms, const struct store_move *m, struct err *err)
{
    static const struct store_move nothing;
    struct move v = { id, from, to, now_ms, m ? m : &nothing };
    bool relief = to == SANDBOX_STOPPING || to == SANDBOX_STOPPED || to == SANDBOX_DELETING;
    return writer_run(s->writer, do_move, &v, relief, err);
}

/* A change of one row that must exist. */
static int change(struct db *db, enum query q, const struct arg *args, struct err *err)
{
    int changed = db_run(db, q, args, err);
    if (changed == 0)
        return err_set(err, ERR_NOT_FOUND, "no such sandbox");
    return changed < 0 ? -1 : 0;
}

struct keepalive {
    const struct sandbox_id *id;
    int64_t until_ms;
};

static int do_set_keepalive(struct db *db, void *arg, struct err *err)
{
    const struct keepalive *k = arg;
    return change(db, Q_SANDBOX_SET_KEEPALIVE,
                  ARGS(ARG_TEXT("id", k->id->text), ARG_INT("until_ms", k->until_ms)), err);
}

int store_set_keepalive(struct store *s, const struct sandbox_id *id, int64_t until_ms,
                        struct err *err)
{
    struct keepalive k = { id, until_ms };
    return writer_run(s->writer, do_set_keepalive, &k, false, err);
}

struct services_text {
    const struct sandbox_id *id;
    const char *json;
};

static int do_set_services(struct db *db, void *arg, struct err *err)
{
    const struct services_text *v = arg;
    return change(db, Q_SANDBOX_SET_SERVICES,
                  ARGS(ARG_TEXT("id", v->id->text), ARG_TEXT("services", v->json)), err);
}

int store_set_services(struct store *s, const struct sandbox_id *id, const char *json,
                       struct err *err)
{
    struct services_text v = { id, json };
    return writer_run(s->writer, do_set_services, &v, false, err);
}

struct touch {
    const struct store_activity *rows;
    size_t count;
};

static int do_touch(struct db *db, void *arg, struct err *err)
{
    const struct touch *t = arg;
    for (size_t i = 0; i < t->count; i++)
        if (db_run(db, Q_SANDBOX_TOUCH,
                   ARGS(ARG_TEXT("id", t->rows[i].id.text), ARG_INT("at_ms", t->rows[i].at_ms)),
                   err) < 0)
            return -1;
    return 0;
}

int store_touch(struct store *s, const struct store_activity *rows, size_t count, struct err *err)
{
    struct touch t = { rows, count };
    return count == 0 ? 0 : writer_run(s->writer, do_touch, &t, false, err);
}

struct removal {
    const struct sandbox_id *id;
    bool purge;
};

/* Gone already is success: the reconciler may end what a crash left half-told. */
static int do_remove(struct db *db, void *arg, struct err *err)
{
    const struct removal *r = arg;
    const struct arg *id = ARGS(ARG_TEXT("id", r->id->text));
    if (db_run(db, Q_SANDBOX_REMOVE, id, err) < 0)
        return -1;
    int row = db_first(db, Q_SANDBOX_EXISTS, id, err);
    db_reset(db, Q_SANDBOX_EXISTS);
    if (row == 1)
        return err_set(err, ERR_CONFLICT, "the sandbox is not being deleted");
    if (row < 0 || (r->purge && db_run(db, Q_WORKSPACE_REMOVE, id, err) < 0))
        return -1;
    return 0;
}

int store_remove(struct store *s, const struct sandbox_id *id, bool purge, struct err *err)
{
    struct removal r = { id, purge };
    return writer_run(s->writer, do_remove, &r, true, err);
}
