/* Group commit. Callers queue jobs that live on their own stacks and sleep; the thread takes all
 * that is queued, runs each in a SAVEPOINT of one transaction, commits, and only then wakes them.
 * Under load one fsync so carries many requests, alone a request waits for nobody.
 *
 * Invariants: a caller is told 0 only after COMMIT returned, which with synchronous=FULL means the
 * WAL is synced. A COMMIT that fails fails the whole batch. On a full disk the transaction is
 * undone and things go on. After any other failure of COMMIT the outcome is not known (the bytes
 * may be on disk though the sync failed, and a second fsync would lie): the writer then refuses
 * everything until the process is started again and SQLite has read the WAL anew.
 *
 * Checkpoints are made here only, after the callers were woken: PASSIVE as the WAL grows, TRUNCATE
 * when readers kept it from starting over. */
#include "writer.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fault.h"
#include "base/limits.h"
#include "base/mu.h"
#include "base/str.h"
#include "base/worker.h"

struct job {
    write_fn fn;
    void *arg;
    bool relief;
    bool done;
    int result;
    struct err err;
    struct cond wake;
    struct job *next;
};

struct writer {
    struct mu lock;
    struct cond work;
    struct job *head GUARDED_BY(lock);
    struct job **tail GUARDED_BY(lock);
    uint32_t queued GUARDED_BY(lock);
    bool stopping GUARDED_BY(lock);
    bool broken GUARDED_BY(lock);
    struct err cause GUARDED_BY(lock);      /* of broken */
    int64_t busy_since_ms GUARDED_BY(lock); /* 0: idle */
    struct writer_stats stats GUARDED_BY(lock);
    /* From here on the thread's own. */
    const struct home *home;
    struct db db;
    unsigned long thread;
    int wal_pages;     /* in the WAL after the last commit */
    int checked_pages; /* of them, when last checkpointed */
    bool reserve_spent;
    int64_t refill_at_ms;
};

/* --- one batch, on the writer's thread, without the lock --- */

/* Also those that failed by themselves: they may have judged by what is now undone. */
static void fail_all(struct job *first, const struct err *err)
{
    for (struct job *j = first; j; j = j->next) {
        j->result = -1;
        j->err = *err;
    }
}

/* Runs one job; false: the transaction itself is lost and *err says why. */
static bool run_job(struct db *db, struct job *j, struct err *err)
{
    if (db_run(db, Q_SAVEPOINT, ARGS(), err) < 0)
        return false;
    j->result = j->fn(db, j->arg, &j->err);
    if (sqlite3_get_autocommit(db->h)) { /* SQLite gave the transaction up (disk full, I/O) */
        *err = j->err;
        return false;
    }
    if (j->result < 0 && db_run(db, Q_SAVEPOINT_UNDO, ARGS(), err) < 0)
        return false;
    return db_run(db, Q_SAVEPOINT_RELEASE, ARGS(), err) >= 0;
}

/* Runs COMMIT and says whether its failure leaves the outcome open. */
static int commit(struct db *db, bool *ret_unknown, struct err *err)
{
    int result;
    if (FAULT("store.commit.full"))
        result = db_fail_code(SQLITE_FULL, 0, err, "commit");
    else if (FAULT("store.commit.before"))
        result = db_fail_code(SQLITE_IOERR_FSYNC, 0, err, "commit");
    else
        result = db_run(db, Q_COMMIT, ARGS(), err) < 0 ? -1 : 0;
    *ret_unknown = result < 0 && err->code != ERR_NO_SPACE;
    (void)FAULT("store.commit.after"); /* a place to be killed at */
    return result;
}

/* Jobs' results are set. -1: nothing of the batch was kept; *ret_unknown as in commit(). */
static int run_batch(struct db *db, struct job *first, bool *ret_unknown)
{
    struct err err;
    *ret_unknown = false;
    bool whole = db_run(db, Q_BEGIN, ARGS(), &err) >= 0;
    for (struct job *j = first; j && whole; j = j->next)
        whole = run_job(db, j, &err);
    if (whole && commit(db, ret_unknown, &err) == 0)
        return 0;
    fail_all(first, &err);
    struct err ignored;
    if (!sqlite3_get_autocommit(db->h) && db_run(db, Q_ROLLBACK, ARGS(), &ignored) < 0)
        *ret_unknown = true;
    return -1;
}

static void checkpoint(struct writer *w, int mode)
{
    int log = 0, done = 0;
    /* A failure (readers in the way, disk full) leaves frames in the WAL, where they are safe. */
    int rc = sqlite3_wal_checkpoint_v2(w->db.h, NULL, mode, &log, &done);
    w->checked_pages = w->wal_pages;
    if (rc == SQLITE_OK && mode == SQLITE_CHECKPOINT_TRUNCATE)
        w->wal_pages = w->checked_pages = 0;
    mu_lock(&w->lock);
    w->stats.checkpoints++;
    mu_unlock(&w->lock);
}

static bool wants_relief(const struct job *j)
{
    return j->relief && j->result < 0 && j->err.code == ERR_NO_SPACE;
}

/* The disk is full: what leads to freed space is tried again on the reserve, after a checkpoint, so
 * that the WAL may start over in the room it has. Returns the list, those jobs first. */
static struct job *run_relief(struct writer *w, struct job *first, bool *ret_unknown)
{
    struct job *relief = NULL, *rest = NULL, **relief_end = &relief, **rest_end = &rest;
    for (struct job *j = first; j; j = j->next) {
        struct job ***end = wants_relief(j) ? &relief_end : &rest_end;
        **end = j;
        *end = &j->next;
    }
    *relief_end = *rest_end = NULL;
    checkpoint(w, SQLITE_CHECKPOINT_PASSIVE);
    if (home_reserve_drop(w->home)) {
        w->reserve_spent = true;
        w->refill_at_ms = clock_mono_ms() + STORE_REFILL_MS;
    }
    (void)run_batch(&w->db, relief, ret_unknown); /* results are in the jobs */
    *relief_end = rest;
    return relief;
}

static void after_batch(struct writer *w)
{
    if (w->wal_pages >= STORE_WAL_TRUNCATE_PAGES)
        checkpoint(w, SQLITE_CHECKPOINT_TRUNCATE);
    else if (w->wal_pages < w->checked_pages) /* it has started over */
        w->checked_pages = 0;
    if (w->wal_pages >= w->checked_pages + STORE_CHECKPOINT_PAGES)
        checkpoint(w, SQLITE_CHECKPOINT_PASSIVE);
    if (w->reserve_spent && clock_mono_ms() >= w->refill_at_ms) {
        w->reserve_spent = !home_reserve_fill(w->home);
        w->refill_at_ms = clock_mono_ms() + STORE_REFILL_MS;
    }
}

static int on_wal(void *ctx, sqlite3 *h, const char *schema, int pages)
{
    (void)h;
    (void)schema;
    ((struct writer *)ctx)->wal_pages = pages;
    return SQLITE_OK;
}

/* --- the thread --- */

/* Up to STORE_BATCH_MAX jobs, or NULL when it is time to end. */
static struct job *take(struct writer *w)
{
    mu_lock(&w->lock);
    w->busy_since_ms = 0;
    while (!w->head && !w->stopping)
        cond_wait(&w->work, &w->lock);
    struct job *first = w->head, **cut = &w->head;
    uint32_t n = 0;
    for (; *cut && n < STORE_BATCH_MAX; n++)
        cut = &(*cut)->next;
    w->head = *cut;
    *cut = NULL;
    if (!w->head)
        w->tail = &w->head;
    w->queued -= n;
    w->busy_since_ms = clock_mono_ms();
    mu_unlock(&w->lock);
    return first;
}

/* Runs a batch to its end; false: the outcome of a commit is not known. Reorders the list. */
static bool work_off(struct writer *w, struct job **first)
{
    bool unknown;
    bool committed = run_batch(&w->db, *first, &unknown) == 0;
    for (struct job *j = *first; j && !unknown; j = j->next)
        if (wants_relief(j)) {
            *first = run_relief(w, *first, &unknown);
            break;
        }
    mu_lock(&w->lock);
    w->stats.commits += committed;
    mu_unlock(&w->lock);
    return !unknown;
}

static void *writer_main(void *arg)
{
    struct writer *w = arg;
    struct err cause; /* of broken */
    bool broken = false;
    struct job *first;
    while ((first = take(w))) {
        if (!broken && !work_off(w, &first)) {
            broken = true;
            (void)err_set(&cause, ERR_INTERNAL, "a commit failed, writing is refused (%s)",
                          first->err.msg);
            (void)err_remedy(&cause, "check the disk, then restart sandboxd");
        }
        if (broken)
            fail_all(first, &cause);
        mu_lock(&w->lock);
        if (broken)
            w->cause = cause;
        w->broken = broken;
        for (struct job *j = first, *next; j; j = next) {
            next = j->next; /* the job ends with its caller's frame */
            w->stats.writes += j->result == 0;
            j->done = true;
            cond_signal(&j->wake);
        }
        mu_unlock(&w->lock);
        if (!broken)
            after_batch(w);
    }
    return NULL;
}

/* --- callers --- */

int writer_run(struct writer *w, write_fn fn, void *arg, bool relief, struct err *err)
{
    struct job j = { .fn = fn, .arg = arg, .relief = relief };
    mu_lock(&w->lock);
    if (w->stopping || w->queued >= STORE_QUEUE_MAX) {
        bool stopping = w->stopping;
        mu_unlock(&w->lock);
        return stopping ? err_set(err, ERR_SHUTDOWN, "the database is being closed")
                        : err_set(err, ERR_CAPACITY, "too many writes are waiting for the disk");
    }
    cond_init(&j.wake);
    *w->tail = &j;
    /* cppcheck-suppress autoVariables ; this frame stays until the job is done and out of the list
     */
    w->tail = &j.next;
    w->queued++;
    cond_signal(&w->work);
    while (!j.done)
        cond_wait(&j.wake, &w->lock);
    mu_unlock(&w->lock);
    cond_release(&j.wake);
    if (j.result < 0)
        *err = j.err;
    return j.result;
}

int writer_ping(struct writer *w, struct err *err)
{
    mu_lock(&w->lock);
    int64_t since = w->busy_since_ms;
    bool broken = w->broken;
    struct err cause = w->cause;
    mu_unlock(&w->lock);
    if (broken) {
        *err = cause;
        return -1;
    }
    int64_t busy_ms = since ? clock_mono_ms() - since : 0;
    if (busy_ms > STORE_STUCK_MS)
        return err_set(err, ERR_TIMEOUT, "the disk has not finished a write for %lld s",
                       (long long)(busy_ms / 1000));
    return 0;
}

void writer_stats(struct writer *w, struct writer_stats *ret)
{
    mu_lock(&w->lock);
    *ret = w->stats;
    mu_unlock(&w->lock);
}

int writer_new(struct db *db, const struct home *home, struct writer **ret, struct err *err)
{
    struct writer *w = mem_new(1, sizeof *w);
    w->db = *db;
    *db = (struct db){ 0 };
    w->home = home;
    w->tail = &w->head;
    mu_init(&w->lock, MU_STORE);
    cond_init(&w->work);
    (void)sqlite3_wal_hook(w->db.h, on_wal, w);  /* returns the earlier context: none */
    w->reserve_spent = !home_reserve_fill(home); /* tried again later */
    if (db_prepare(&w->db, DB_WRITER, err) < 0 ||
        thread_start(writer_main, w, "store", &w->thread, err) < 0) {
        w->stopping = true; /* no thread to join */
        w->thread = 0;
        writer_free(w);
        return -1;
    }
    *ret = w;
    return 0;
}

void writer_free(struct writer *w)
{
    if (!w)
        return;
    if (w->thread) {
        mu_lock(&w->lock);
        w->stopping = true;
        cond_signal(&w->work);
        mu_unlock(&w->lock);
        thread_join(w->thread);
    }
    db_close(&w->db);
    cond_release(&w->work);
    mu_release(&w->lock);
    free(w);
}
