/* Each fault point of store/ in turn: an error or a kill -9 there, then a look at what is on disk.
 * Each case runs in a new process (this program again, told the row), for a process reads once from
 * its environment which point is armed. */
#include "check.h"
#include "store_fixture.h"

#include <signal.h>
#include <sys/wait.h>

#include "base/cleanup.h"
#include "inner.h"

#ifdef SANDBOXED_FAULTS

enum deed { CREATE, OPEN_FRESH, MIGRATE };

static const struct row {
    const char *fault;
    enum deed deed;
    bool killed;
    bool kept;  /* CREATE: is the row there afterwards? MIGRATE: is the schema the new one? */
    bool stuck; /* CREATE: does the store refuse to write from then on? */
} rows[] = {
    { "store.commit.full=error", CREATE, false, false, false },
    { "store.commit.before=error", CREATE, false, false, true },
    { "store.commit.before=kill", CREATE, true, false, false },
    { "store.commit.after=kill", CREATE, true, true, false },
    { "store.new.rename=error", OPEN_FRESH, false, false, false },
    { "store.new.rename=kill", OPEN_FRESH, true, false, false },
    { "store.migrate.before=kill", OPEN_FRESH, true, false, false },
    { "store.migrate.after=kill", OPEN_FRESH, true, false, false },
    { "store.migrate.before=error", MIGRATE, false, false, false },
    { "store.migrate.before=kill", MIGRATE, true, false, false },
    { "store.migrate.after=kill", MIGRATE, true, true, false },
};

static struct sql_migration list[MIGRATION_COUNT + 1]; /* filled in main */

/* 0: all as the row says. */
static int act(const struct row *r, const char *dir, const struct sandbox *row)
{
    struct err err = { 0 };
    struct store *s = NULL;
    if (r->deed != CREATE)
        return store_open_schema(dir, list, MIGRATION_COUNT + (r->deed == MIGRATE), &s, &err) < 0
                   ? 0
                   : 11;
    if (store_open(dir, &s, &err) < 0)
        return 12;
    if (fixture_add(s, row, &err) == 0)
        return 13;
    if (err.code != (r->stuck ? ERR_INTERNAL : ERR_NO_SPACE))
        return 14;
    if ((store_ping(s, &err) < 0) != r->stuck)
        return 15;
    if ((fixture_add(s, row, &err) < 0) != r->stuck)
        return 16;
    if (!r->stuck) { /* take it away again, for all rows end alike */
        if (store_move(s, &row->id, SANDBOX_CREATING, SANDBOX_DELETING, 1, NULL, &err) < 0 ||
            store_remove(s, &row->id, true, &err) < 0)
            return 17;
    }
    store_close(s);
    return 0;
}

static void become(size_t at, const char *dir, const struct sandbox *row)
{
    char number[16];
    (void)snprintf(number, sizeof number, "%zu", at);
    if (setenv("SANDBOXD_FAULT", rows[at].fault, 1) == 0)
        (void)execl("/proc/self/exe", "store_fault", number, dir, row->id.text, (char *)NULL);
    _exit(20);
}

static void test_row(size_t at)
{
    const struct row *r = &rows[at];
    struct err err = { 0 };
    struct store *s;
    char *dir = fixture_dir();
    struct sandbox *row = fixture_row("f");
    if (r->deed != OPEN_FRESH) {
        if (!CHECK_ROW(r->fault, store_open(dir, &s, &err) == 0))
            return;
        store_close(s);
    }
    (void)fflush(stdout);
    pid_t child = fork();
    if (child == 0)
        become(at, dir, row);
    int status = -1;
    CHECK_ROW(r->fault, waitpid(child, &status, 0) == child);
    CHECK_ROW(r->fault, WIFSIGNALED(status) == r->killed);
    if (!r->killed)
        CHECK_ROW(r->fault, WEXITSTATUS(status) == 0);
    int rc = store_open(dir, &s, &err);
    if (r->deed == MIGRATE && r->kept) {
        CHECK_ROW(r->fault, rc < 0 && err.code == ERR_NOT_SUPPORTED);
        rc = store_open_schema(dir, list, MIGRATION_COUNT + 1, &s, &err);
    }
    if (CHECK_ROW(r->fault, rc == 0)) {
        struct sandbox *got = fixture_get(s, &row->id);
        CHECK_ROW(r->fault, r->deed != CREATE || (got != NULL) == r->kept);
        CHECK_ROW(r->fault, store_ping(s, &err) == 0);
        sandbox_free(got);
        store_close(s);
    }
    sandbox_free(row);
    fixture_rmdir(dir);
    free(dir);
}

int main(int argc, char **argv)
{
    char name[16];
    (void)snprintf(name, sizeof name, "%04d_more", MIGRATION_COUNT + 1);
    memcpy(list, sql_migrations, sizeof sql_migrations);
    list[MIGRATION_COUNT] = (struct sql_migration){ MIGRATION_COUNT + 1, name,
                                                    "CREATE TABLE more (x INTEGER) STRICT;" };
    uint64_t at;
    if (argc == 4 && str_u64(argv[1], &at) && at < sizeof rows / sizeof rows[0]) {
        struct err err;
        struct sandbox *row = fixture_row("f");
        int rc = sandbox_id_parse(argv[3], &row->id, &err) < 0 ? 21 : act(&rows[at], argv[2], row);
        sandbox_free(row);
        return rc;
    }
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        test_row(i);
    return check_done();
}

#else

int main(void)
{
    printf("1..0 # SKIP built without fault points\n");
    return 0;
}

#endif
