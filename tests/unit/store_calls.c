/* Every call of the door, with what it writes, what it refuses and in which words. */
#include "check.h"
#include "store_fixture.h"

#include <sqlite3.h>

#include "base/cleanup.h"
#include "base/clock.h"

static struct store *st;
static char *dir;

static int64_t number(const char *sql)
{
    char path[200];
    (void)snprintf(path, sizeof path, "%s/state/sandboxd.db", dir);
    sqlite3 *h = NULL;
    sqlite3_stmt *q = NULL;
    int64_t n = -1;
    if (sqlite3_open_v2(path, &h, SQLITE_OPEN_READONLY, NULL) == SQLITE_OK &&
        sqlite3_prepare_v2(h, sql, -1, &q, NULL) == SQLITE_OK && sqlite3_step(q) == SQLITE_ROW)
        n = sqlite3_column_int64(q, 0);
    sqlite3_finalize(q);
    sqlite3_close(h);
    return n;
}

static bool same_map(const struct strmap *a, const struct strmap *b)
{
    bool same = a->count == b->count;
    for (size_t i = 0; same && i < a->count; i++)
        same = str_eq(a->values[i], strmap_get(b, a->names[i]));
    return same;
}

static bool same_text(const char *a, const char *b)
{
    return a && b ? strcmp(a, b) == 0 : a == b;
}

static void check_same(const char *row, const struct sandbox *a, const struct sandbox *b)
{
    if (!CHECK_ROW(row, a && b))
        return;
    CHECK_ROW(row, sandbox_id_eq(&a->id, &b->id));
    CHECK_ROW(row, same_text(a->tenant, b->tenant) && same_text(a->node, b->node));
    CHECK_ROW(row, a->state == b->state && a->purge == b->purge);
    CHECK_ROW(row, same_text(a->image, b->image) && same_text(a->image_digest, b->image_digest));
    CHECK_ROW(row, same_text(a->container_id, b->container_id));
    CHECK_ROW(row, a->epoch == b->epoch && memcmp(a->secret, b->secret, 32) == 0);
    CHECK_ROW(row, memcmp(&a->limits, &b->limits, sizeof a->limits) == 0);
    CHECK_ROW(row, a->nofile == b->nofile && same_text(a->memory_high, b->memory_high));
    CHECK_ROW(row, a->visibility == b->visibility && a->idle_policy == b->idle_policy);
    CHECK_ROW(row, memcmp(&a->ports, &b->ports, sizeof a->ports) == 0);
    CHECK_ROW(row, same_map(&a->env, &b->env) && same_map(&a->metadata, &b->metadata));
    CHECK_ROW(row, same_text(a->external_user, b->external_user));
    CHECK_ROW(row, same_text(a->external_project, b->external_project));
    CHECK_ROW(row, same_text(a->external_workspace, b->external_workspace));
    CHECK_ROW(row, same_text(a->error_message, b->error_message));
    CHECK_ROW(row, a->created_at_ms == b->created_at_ms && a->updated_at_ms == b->updated_at_ms);
    CHECK_ROW(row, a->last_active_at_ms == b->last_active_at_ms);
    CHECK_ROW(row, a->stopped_at_ms == b->stopped_at_ms);
    CHECK_ROW(row, a->keepalive_until_ms == b->keepalive_until_ms);
    CHECK_ROW(row, a->idle_timeout_ms == b->idle_timeout_ms);
    CHECK_ROW(row, a->stop_timeout_ms == b->stop_timeout_ms);
}

static void reopen(void)
{
    struct err err;
    store_close(st);
    st = NULL;
    if (store_open(dir, &st, &err) < 0) {
        printf("Bail out! %s\n", err.msg);
        exit(1);
    }
}

static void test_rows(void)
{
    struct err err;
    struct sandbox *full = fixture_row("a"), *bare = fixture_bare("a");
    CHECK(fixture_add(st, full, &err) == 0);
    CHECK(fixture_add(st, bare, &err) == 0);
    struct sandbox *got = fixture_get(st, &full->id);
    check_same("full", full, got);
    sandbox_free(got);
    got = fixture_get(st, &bare->id);
    check_same("bare", bare, got);
    sandbox_free(got);
    reopen();
    got = fixture_get(st, &full->id);
    check_same("full, reopened", full, got);
    sandbox_free(got);

    struct sandbox **rows;
    size_t count;
    CHECK(store_load(st, &rows, &count, &err) == 0 && count == 2);
    CHECK(sandbox_id_eq(&rows[0]->id, &bare->id)); /* oldest first */
    for (size_t i = 0; i < count; i++)
        sandbox_free(rows[i]);
    free(rows);
    CHECK(number("SELECT count(*) FROM audit WHERE action = 'sandbox.create' AND actor = 'tester' "
                 "AND tenant = 'a' AND at_ms = 1000") == 1);
    sandbox_free(full);
    sandbox_free(bare);
}

static void test_move(void)
{
    struct err err;
    struct sandbox *s = fixture_row("m");
    CHECK(fixture_add(st, s, &err) == 0);
    struct store_move m = { .container_id = "",
                            .image_digest = "sha256:new",
                            .error_message = "",
                            .new_epoch = true,
                            .nofile = 9,
                            .actor = "me",
                            .action = "sandbox.start" };
    memset(m.secret, 1, sizeof m.secret);
    CHECK(store_move(st, &s->id, SANDBOX_CREATING, SANDBOX_RUNNING, 5000, &m, &err) == 0);
    struct sandbox *got = fixture_get(st, &s->id);
    CHECK(got && got->state == SANDBOX_RUNNING && got->updated_at_ms == 5000);
    CHECK(got && got->last_active_at_ms == 5000 && got->stopped_at_ms == 0);
    CHECK(got && !got->container_id && str_eq(got->image_digest, "sha256:new"));
    CHECK(got && !got->error_message && got->epoch == 8 && got->nofile == 9 && !got->purge);
    CHECK(got && memcmp(got->secret, m.secret, 32) == 0);
    sandbox_free(got);
    CHECK(number("SELECT count(*) FROM audit WHERE action = 'sandbox.start' AND actor = 'me' AND "
                 "detail = '{\"from\":\"CREATING\",\"to\":\"RUNNING\",\"purge\":0}'") == 1);

    CHECK(store_move(st, &s->id, SANDBOX_CREATING, SANDBOX_ERROR, 6000, &m, &err) < 0);
    CHECK(err.code == ERR_CONFLICT);
    CHECK(number("SELECT count(*) FROM audit WHERE action = 'sandbox.start'") == 1);
    struct sandbox_id none;
    sandbox_id_new(&none);
    CHECK(store_move(st, &none, SANDBOX_RUNNING, SANDBOX_STOPPED, 6000, NULL, &err) < 0);
    CHECK(err.code == ERR_CONFLICT);

    m = (struct store_move){ .if_epoch = 7 };
    CHECK(store_move(st, &s->id, SANDBOX_RUNNING, SANDBOX_STOPPED, 7000, &m, &err) < 0);
    CHECK(err.code == ERR_CONFLICT);
    m.if_epoch = 8;
    CHECK(store_move(st, &s->id, SANDBOX_RUNNING, SANDBOX_STOPPED, 7000, &m, &err) == 0);
    got = fixture_get(st, &s->id);
    CHECK(got && got->stopped_at_ms == 7000 && got->epoch == 8 && got->nofile == 9);
    CHECK(got && str_eq(got->image_digest, "sha256:new") && got->last_active_at_ms == 5000);
    sandbox_free(got);

    CHECK(store_set_keepalive(st, &s->id, 99, &err) == 0);
    struct store_activity acts[] = { { s->id, 8000 }, { none, 8000 }, { s->id, 100 } };
    CHECK(store_touch(st, acts, 3, &err) == 0);
    CHECK(store_touch(st, NULL, 0, &err) == 0);
    got = fixture_get(st, &s->id);
    CHECK(got && got->nofile == 9 && got->keepalive_until_ms == 99);
    CHECK(got && got->last_active_at_ms == 8000 && got->updated_at_ms == 7000);
    sandbox_free(got);

    CHECK(store_set_keepalive(st, &none, 1, &err) < 0 && err.code == ERR_NOT_FOUND);

    CHECK(store_remove(st, &s->id, true, &err) < 0 && err.code == ERR_CONFLICT);
    m = (struct store_move){ .purge = true };
    CHECK(store_move(st, &s->id, SANDBOX_STOPPED, SANDBOX_DELETING, 1, &m, &err) == 0);
    got = fixture_get(st, &s->id);
    CHECK(got && got->purge);
    sandbox_free(got);
    CHECK(store_remove(st, &s->id, true, &err) == 0);
    CHECK(store_remove(st, &s->id, true, &err) == 0); /* again: fine */
    struct store_workspace w;
    CHECK(store_workspace_get(st, &s->id, &w, &err) < 0 && err.code == ERR_NOT_FOUND);
    CHECK(!fixture_get(st, &s->id));
    sandbox_free(s);
}

static void test_workspace(void)
{
    struct err err;
    struct store_workspace w, *list;
    size_t count;
    struct sandbox *s = fixture_row("w");
    CHECK(fixture_add(st, s, &err) == 0);
    CHECK(store_workspace_get(st, &s->id, &w, &err) == 0);
    CHECK(w.dev == 0 && w.ino == 0 && !w.purging && str_eq(w.tenant, "w") &&
          str_eq(w.external_user, "user"));
    store_workspace_release(&w);
    CHECK(store_workspace_made(st, &s->id, UINT64_MAX, 1ull << 63, &err) == 0);
    CHECK(store_workspace_get(st, &s->id, &w, &err) == 0);
    CHECK(w.dev == UINT64_MAX && w.ino == 1ull << 63);
    store_workspace_release(&w);
    CHECK(store_workspace_gone(st, &s->id, &err) < 0 && err.code == ERR_CONFLICT);

    /* The row goes, the workspace stays and is found by its owner alone. */
    CHECK(store_move(st, &s->id, SANDBOX_CREATING, SANDBOX_DELETING, 1, NULL, &err) == 0);
    CHECK(store_remove(st, &s->id, false, &err) == 0);
    const struct {
        const char *name, *tenant, *user, *want; /* NULL: made */
    } rows[] = {
        { "other tenant", "thief", "user", "the sandbox id is in use" },
        { "other user", "w", "mallory", "workspace_owner_mismatch" },
        { "no user", "w", NULL, "workspace_owner_mismatch" },
        { "owner", "w", "user", NULL },
        { "in use", "w", "user", "the sandbox id is in use" },
        { "in use, other tenant", "thief", "user", "the sandbox id is in use" },
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct sandbox *again = fixture_row(rows[i].tenant);
        again->id = s->id;
        free(again->external_user);
        again->external_user = rows[i].user ? str_dup(rows[i].user) : NULL;
        int rc = fixture_add(st, again, &err);
        CHECK_ROW(rows[i].name, (rc == 0) == !rows[i].want);
        if (rows[i].want)
            CHECK_ROW(rows[i].name, err.code == ERR_CONFLICT && str_eq(err.msg, rows[i].want));
        sandbox_free(again);
    }
    CHECK(store_workspace_get(st, &s->id, &w, &err) == 0 && w.dev == UINT64_MAX);
    store_workspace_release(&w);

    CHECK(store_move(st, &s->id, SANDBOX_CREATING, SANDBOX_DELETING, 1, NULL, &err) == 0);
    CHECK(store_remove(st, &s->id, false, &err) == 0);
    CHECK(store_workspaces_purging(st, &list, &count, &err) == 0 && count == 0);
    CHECK(store_workspace_purging(st, &s->id, &err) == 0);
    CHECK(store_workspaces_purging(st, &list, &count, &err) == 0 && count == 1);
    CHECK(count == 1 && sandbox_id_eq(&list[0].id, &s->id) && list[0].purging);
    for (size_t i = 0; i < count; i++)
        store_workspace_release(&list[i]);
    free(list);
    CHECK(fixture_add(st, s, &err) < 0 && err.code == ERR_CONFLICT);
    CHECK(store_workspace_gone(st, &s->id, &err) == 0);
    CHECK(store_workspace_gone(st, &s->id, &err) == 0); /* again: fine */
    CHECK(store_workspace_purging(st, &s->id, &err) < 0 && err.code == ERR_NOT_FOUND);
    CHECK(store_workspace_made(st, &s->id, 1, 1, &err) < 0 && err.code == ERR_NOT_FOUND);
    CHECK(fixture_add(st, s, &err) == 0);
    sandbox_free(s);

    /* A workspace that names no user takes the first that comes. */
    struct sandbox *bare = fixture_bare("w");
    CHECK(fixture_add(st, bare, &err) == 0);
    CHECK(store_move(st, &bare->id, SANDBOX_CREATING, SANDBOX_DELETING, 1, NULL, &err) == 0);
    CHECK(store_remove(st, &bare->id, false, &err) == 0);
    bare->external_user = str_dup("first");
    CHECK(fixture_add(st, bare, &err) == 0);
    CHECK(store_workspace_get(st, &bare->id, &w, &err) == 0 && str_eq(w.external_user, "first"));
    store_workspace_release(&w);
    sandbox_free(bare);
}

static void test_create(void)
{
    struct err err;
    struct sandbox *a = fixture_row("q"), *b = fixture_row("q"), *c = fixture_row("q");
    struct store_create one = { .row = a, .tenant_max = 1, .actor = "x" };
    struct store_create two = { .row = b, .tenant_max = 1, .actor = "x" };
    CHECK(store_create(st, &one, &err) == 0);
    CHECK(store_create(st, &two, &err) < 0 && err.code == ERR_QUOTA);

    /* One sandbox a project. */
    struct sandbox_id existing = { "untouched" };
    two.tenant_max = 10;
    two.ret_existing = &existing;
    CHECK(store_create(st, &two, &err) == 0 && sandbox_id_eq(&existing, &a->id));
    CHECK(!fixture_get(st, &b->id));
    CHECK(store_move(st, &a->id, SANDBOX_CREATING, SANDBOX_ERROR, 1, NULL, &err) == 0);
    CHECK(store_create(st, &two, &err) == 0 && existing.text[0] == 0);
    free(c->external_project);
    c->external_project = str_dup("elsewhere");
    struct store_create three = {
        .row = c, .tenant_max = 10, .actor = "x", .ret_existing = &existing
    };
    CHECK(store_create(st, &three, &err) == 0 && existing.text[0] == 0);
    sandbox_free(a);
    sandbox_free(b);
    sandbox_free(c);
}

static void test_idempotency(void)
{
    struct err err;
    struct store_idem i;
    uint8_t hash[32] = { 1 }, other[32] = { 2 };
    struct sandbox *a = fixture_row("i"), *b = fixture_row("i"), *c = fixture_row("j");
    struct store_create one = {
        .row = a, .tenant_max = 9, .idem_key = "k", .idem_hash = hash, .actor = "x"
    };
    struct store_create two = one, three = one;
    two.row = b;
    three.row = c;
    CHECK(store_idem_get(st, "i", "k", &i, &err) < 0 && err.code == ERR_NOT_FOUND);
    CHECK(store_create(st, &one, &err) == 0);
    CHECK(store_idem_get(st, "i", "k", &i, &err) == 0);
    CHECK(i.status == 0 && !i.body && memcmp(i.hash, hash, 32) == 0 &&
          sandbox_id_eq(&i.sandbox, &a->id));
    CHECK(store_create(st, &two, &err) < 0 && err.code == ERR_IN_PROGRESS);
    two.idem_hash = other;
    CHECK(store_create(st, &two, &err) < 0 && err.code == ERR_IDEMPOTENCY);
    CHECK(store_create(st, &three, &err) == 0); /* another tenant's key is another key */

    CHECK(store_idem_drop(st, "i", "k", &b->id, &err) == 0); /* it is a's: stays */
    CHECK(store_create(st, &two, &err) < 0 && err.code == ERR_IDEMPOTENCY);

    CHECK(store_idem_done(st, "i", "k", 201, "{\"id\":1}", &err) == 0);
    CHECK(store_idem_done(st, "i", "k", 500, "late", &err) < 0 && err.code == ERR_NOT_FOUND);
    CHECK(store_idem_get(st, "i", "k", &i, &err) == 0);
    CHECK(i.status == 201 && str_eq(i.body, "{\"id\":1}"));
    free(i.body);
    CHECK(store_create(st, &two, &err) < 0 && err.code == ERR_IDEMPOTENCY);
    CHECK(store_idem_drop(st, "i", "k", &a->id, &err) == 0); /* answered: stays */
    CHECK(store_create(st, &two, &err) < 0 && err.code == ERR_IDEMPOTENCY);

    two.idem_key = "k2";
    CHECK(store_create(st, &two, &err) == 0);
    CHECK(store_idem_drop(st, "i", "k2", &b->id, &err) == 0);
    CHECK(store_idem_drop(st, "i", "k2", &b->id, &err) == 0);
    CHECK(store_idem_get(st, "i", "k2", &i, &err) < 0 && err.code == ERR_NOT_FOUND);

    CHECK(store_idem_expire(st, 1000, &err) == 0); /* made at 1000: stays */
    CHECK(store_idem_get(st, "j", "k", &i, &err) == 0);
    CHECK(store_idem_expire(st, 1001, &err) == 0);
    CHECK(store_idem_get(st, "j", "k", &i, &err) < 0 && err.code == ERR_NOT_FOUND);

    /* A refused create leaves no key behind. */
    struct store_create four = {
        .row = a, .tenant_max = 9, .idem_key = "k4", .idem_hash = hash, .actor = "x"
    };
    CHECK(store_create(st, &four, &err) < 0 && err.code == ERR_CONFLICT);
    CHECK(store_idem_get(st, "i", "k4", &i, &err) < 0 && err.code == ERR_NOT_FOUND);
    sandbox_free(a);
    sandbox_free(b);
    sandbox_free(c);
}

int main(void)
{
    struct err err;
    dir = fixture_dir();
    if (!CHECK(store_open(dir, &st, &err) == 0))
        return check_done();
    char *instance = str_dup(store_instance(st));
    CHECK(strlen(instance) == 16);
    bool affected = false;
    CHECK(strlen(store_sqlite_version(&affected)) >= 5);
    CHECK(affected ==
          (sqlite3_libversion_number() < 3051003 && sqlite3_libversion_number() != 3050007 &&
           sqlite3_libversion_number() != 3044006));
    CHECK(store_ping(st, &err) == 0);
    test_rows();
    test_move();
    test_workspace();
    test_create();
    test_idempotency();
    reopen();
    CHECK_STR(instance, store_instance(st));
    CHECK(number("SELECT count(*) FROM pragma_foreign_key_check") == 0);
    CHECK(number("SELECT count(*) FROM audit WHERE node = '' OR tenant = ''") == 0);
    store_close(st);
    store_close(NULL);
    free(instance);
    fixture_rmdir(dir);
    free(dir);
    return check_done();
}
