/* Workers and pools: woken early, bounded, joined; nothing queued is lost. Order is forced by
 * semaphores, never by sleeping. */
#include <semaphore.h>
#include <stdatomic.h>
#include <string.h>

#include "base/clock.h"
#include "base/worker.h"
#include "check.h"

/* --- worker --- */

static sem_t ticked;
static atomic_int ticks;

static int64_t tick(void *ctx, int64_t mono_ms)
{
    (void)ctx;
    (void)mono_ms;
    atomic_fetch_add(&ticks, 1);
    (void)sem_post(&ticked);
    return 3600000; /* only a wake makes the next round begin */
}

static int64_t eager(void *ctx, int64_t mono_ms)
{
    (void)mono_ms;
    atomic_fetch_add((atomic_int *)ctx, 1);
    (void)sem_post(&ticked);
    return 0; /* counts as 1 */
}

static void check_worker(void)
{
    struct err err;
    struct worker *w = worker_start("unit", tick, NULL, &err);
    (void)sem_wait(&ticked);
    for (int i = 0; i < 100; i++) {
        worker_wake(w);
        (void)sem_wait(&ticked);
    }
    CHECK(atomic_load(&ticks) == 101);
    worker_stop(w);
    worker_stop(NULL);

    atomic_int rounds = 0;
    w = worker_start("a name that is too long", eager, &rounds, &err);
    for (int i = 0; i < 5; i++)
        (void)sem_wait(&ticked);
    worker_stop(w);
    CHECK(atomic_load(&rounds) >= 5);
}

/* --- pool --- */

static sem_t gate, entered;
static atomic_int done;

static void wait_at_gate(void *arg)
{
    (void)arg;
    (void)sem_post(&entered);
    (void)sem_wait(&gate);
    atomic_fetch_add(&done, 1);
}

static void count(void *arg)
{
    atomic_fetch_add((atomic_int *)arg, 1);
}

static void check_bounds(void)
{
    struct err err;
    struct pool *p = pool_new("unit", 2, 3, 10);
    CHECK(pool_load(p) == 0);
    CHECK(pool_run(p, wait_at_gate, NULL, &err) == 0 && pool_run(p, wait_at_gate, NULL, &err) == 0);
    (void)sem_wait(&entered);
    (void)sem_wait(&entered);
    for (int i = 0; i < 3; i++)
        CHECK(pool_run(p, wait_at_gate, NULL, &err) == 0);
    CHECK(pool_run(p, wait_at_gate, NULL, &err) == -1 && err.code == ERR_CAPACITY);
    CHECK(pool_load(p) == 5);
    for (int i = 0; i < 5; i++)
        (void)sem_post(&gate);
    pool_stop(p); /* what was queued is run first */
    CHECK(atomic_load(&done) == 5);
    for (int i = 0; i < 3; i++)
        (void)sem_wait(&entered);
}

/* Threads end after 1 ms without work, so this walks through making and joining many. */
static void check_churn(void)
{
    struct err err;
    atomic_int ran = 0;
    int accepted = 0;
    struct pool *p = pool_new("churn", 8, 64, 1);
    for (int i = 0; i < 20000; i++)
        accepted += pool_run(p, count, &ran, &err) == 0;
    pool_stop(p);
    CHECK(accepted > 0 && atomic_load(&ran) == accepted);
    pool_stop(NULL);
}

struct feeder {
    struct pool *pool;
    atomic_int *ran;
    int accepted;
};

static void *feed(void *arg)
{
    struct feeder *f = arg;
    struct err err;
    for (int i = 0; i < 5000; i++)
        f->accepted += pool_run(f->pool, count, f->ran, &err) == 0;
    return NULL;
}

static void check_many_callers(void)
{
    struct err err;
    atomic_int ran = 0;
    struct feeder f[4];
    unsigned long t[4];
    int accepted = 0;
    struct pool *p = pool_new("many", 4, 32, 1);
    for (int i = 0; i < 4; i++) {
        f[i] = (struct feeder){ p, &ran, 0 };
        CHECK(thread_start(feed, &f[i], "feeder", &t[i], &err) == 0);
    }
    for (int i = 0; i < 4; i++) {
        thread_join(t[i]);
        accepted += f[i].accepted;
    }
    pool_stop(p);
    CHECK(atomic_load(&ran) == accepted);
}

int main(void)
{
    (void)sem_init(&ticked, 0, 0);
    (void)sem_init(&gate, 0, 0);
    (void)sem_init(&entered, 0, 0);
    check_worker();
    check_bounds();
    check_churn();
    check_many_callers();
    return check_done();
}
