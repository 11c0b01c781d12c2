/* kill -9 under load, over and over on one directory: every row whose create was acknowledged is
 * there afterwards, nothing else is damaged, and the lock is free. The child tells of each
 * acknowledged id through a pipe, which outlives it. */
#include "check.h"
#include "store_fixture.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sqlite3.h>
#include <sys/wait.h>

#include "base/cleanup.h"
#include "base/fd.h"

#define ROUNDS 12
#define WRITERS 4
#define IDS_MAX 20000

struct ledger {
    struct sandbox_id ids[IDS_MAX];
    size_t count;
};

struct client {
    struct store *s;
    int out;
};

/* Creates, and now and then moves, until the process is killed. */
static void *client_main(void *arg)
{
    struct client *c = arg;
    struct err err;
    for (int i = 0;; i++) {
        struct sandbox *row = fixture_row("k");
        if (fixture_add(c->s, row, &err) < 0 ||
            (i % 3 == 0 &&
             store_move(c->s, &row->id, SANDBOX_CREATING, SANDBOX_RUNNING, 1, NULL, &err) < 0) ||
            fd_write_all(c->out, row->id.text, ID_LEN) < 0)
            _exit(3);
        sandbox_free(row);
    }
    return NULL;
}

static void child_main(const char *dir, int out)
{
    struct err err;
    struct store *s;
    pthread_t threads[WRITERS];
    if (store_open(dir, &s, &err) < 0)
        _exit(2);
    struct client c = { s, out };
    for (int i = 0; i < WRITERS; i++)
        if (pthread_create(&threads[i], NULL, client_main, &c) != 0)
            _exit(4);
    for (;;)
        (void)pause();
}

static int by_id(const void *a, const void *b)
{
    return strcmp(((const struct sandbox_id *)a)->text, ((const struct sandbox_id *)b)->text);
}

static bool sound(const char *dir)
{
    char path[300];
    (void)snprintf(path, sizeof path, "%s/state/sandboxd.db", dir);
    sqlite3 *h = NULL;
    sqlite3_stmt *q = NULL;
    bool ok = sqlite3_open_v2(path, &h, SQLITE_OPEN_READONLY, NULL) == SQLITE_OK &&
              sqlite3_prepare_v2(h, "PRAGMA integrity_check", -1, &q, NULL) == SQLITE_OK &&
              sqlite3_step(q) == SQLITE_ROW &&
              str_eq((const char *)sqlite3_column_text(q, 0), "ok");
    sqlite3_finalize(q);
    sqlite3_close(h);
    return ok;
}

/* All of the ledger in the store, each with its workspace and its audit row? */
static void verify(const char *dir, struct ledger *l)
{
    struct err err;
    struct store *s;
    if (!CHECK(store_open(dir, &s, &err) == 0))
        return;
    struct sandbox **rows;
    size_t count = 0;
    CHECK(store_load(s, &rows, &count, &err) == 0);
    struct sandbox_id *have = mem_new(count + 1, sizeof *have);
    for (size_t i = 0; i < count; i++) {
        have[i] = rows[i]->id;
        sandbox_free(rows[i]);
    }
    free(rows);
    qsort(have, count, sizeof *have, by_id);
    size_t missing = 0;
    for (size_t i = 0; i < l->count; i++)
        missing += !bsearch(&l->ids[i], have, count, sizeof *have, by_id);
    CHECK(missing == 0);
    CHECK(count >= l->count && count <= l->count + (size_t)WRITERS * ROUNDS);
    struct store_workspace w;
    if (l->count && CHECK(store_workspace_get(s, &l->ids[l->count - 1], &w, &err) == 0))
        store_workspace_release(&w);
    CHECK(sound(dir));
    free(have);
    store_close(s);
}

int main(void)
{
    char *dir = fixture_dir();
    struct ledger *l = mem_new(1, sizeof *l);
    for (int round = 0; round < ROUNDS; round++) {
        int pipes[2];
        if (!CHECK(pipe2(pipes, O_CLOEXEC) == 0))
            break;
        (void)fflush(stdout);
        pid_t child = fork();
        if (child == 0)
            child_main(dir, pipes[1]);
        (void)close(pipes[1]);
        /* After so many acknowledgements (another number each round), at once. */
        size_t stop_at = l->count + 1 + (size_t)round * 37 % 200;
        bool killed = false;
        while (l->count < IDS_MAX) {
            char text[ID_LEN];
            if (fd_read_all(pipes[0], text, sizeof text) < 0)
                break;
            memcpy(l->ids[l->count++].text, text, sizeof text);
            if (!killed && l->count >= stop_at)
                killed = kill(child, SIGKILL) == 0;
        }
        (void)close(pipes[0]);
        int status = 0;
        CHECK(waitpid(child, &status, 0) == child && WIFSIGNALED(status));
        verify(dir, l);
    }
    printf("# %zu acknowledged rows over %d kills\n", l->count, ROUNDS);
    free(l);
    fixture_rmdir(dir);
    free(dir);
    return check_done();
}
