/* Mutexes with ranks. In debug builds each thread keeps the ranks it holds; taking one that is not
 * higher aborts, so a lock order that could deadlock fails in the first test that walks it. */
#include "base/mu.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

#include "base/clock.h"

#ifdef SANDBOXED_DEBUG
static _Thread_local int held_ranks[8];
static _Thread_local int held_count;

static void note_taken(const struct mu *m)
{
    if (held_count >= 8 || (held_count > 0 && held_ranks[held_count - 1] >= (int)m->rank))
        abort(); /* out of rank: see MU_ table */
    held_ranks[held_count++] = (int)m->rank;
}

static void note_given(const struct mu *m)
{
    if (held_count == 0 || held_ranks[held_count - 1] != (int)m->rank)
        abort();
    held_count--;
}
#else
static void note_taken(const struct mu *m)
{
    (void)m;
}
static void note_given(const struct mu *m)
{
    (void)m;
}
#endif

void mu_init(struct mu *m, enum mu_rank rank)
{
    *m = (struct mu){ .rank = rank };
    if (pthread_mutex_init(&m->lock, NULL) != 0)
        abort();
}

void mu_release(struct mu *m)
{
    (void)pthread_mutex_destroy(
        &m->lock); /* only fails when held: a bug that debug builds caught */
}

NO_THREAD_SAFETY void mu_lock(struct mu *m)
{
    note_taken(m);
    if (pthread_mutex_lock(&m->lock) != 0)
        abort();
    m->holder = pthread_self();
    m->held = true;
}

NO_THREAD_SAFETY void mu_unlock(struct mu *m)
{
    m->held = false;
    note_given(m);
    if (pthread_mutex_unlock(&m->lock) != 0)
        abort();
}

void mu_held(struct mu *m)
{
#ifdef SANDBOXED_DEBUG
    if (!m->held || !pthread_equal(m->holder, pthread_self()))
        abort();
#else
    (void)m;
#endif
}

void cond_init(struct cond *c)
{
    pthread_condattr_t attr;
    if (pthread_condattr_init(&attr) != 0 ||
        pthread_condattr_setclock(&attr, CLOCK_MONOTONIC) != 0 ||
        pthread_cond_init(&c->cond, &attr) != 0)
        abort();
    (void)pthread_condattr_destroy(&attr); /* nothing to release */
}

void cond_release(struct cond *c)
{
    (void)pthread_cond_destroy(&c->cond); /* nobody waits any more */
}

void cond_signal(struct cond *c)
{
    (void)pthread_cond_signal(&c->cond); /* cannot fail */
}

void cond_broadcast(struct cond *c)
{
    (void)pthread_cond_broadcast(&c->cond); /* cannot fail */
}

NO_THREAD_SAFETY void cond_wait(struct cond *c, struct mu *m)
{
    m->held = false;
    if (pthread_cond_wait(&c->cond, &m->lock) != 0)
        abort();
    m->holder = pthread_self();
    m->held = true;
}

NO_THREAD_SAFETY bool cond_wait_until(struct cond *c, struct mu *m, int64_t deadline_ms)
{
    struct timespec ts = {
        .tv_sec = (time_t)(deadline_ms / 1000),
        .tv_nsec = (long)(deadline_ms % 1000) * 1000000,
    };
    m->held = false;
    int rc = pthread_cond_timedwait(&c->cond, &m->lock, &ts);
    m->holder = pthread_self();
    m->held = true;
    if (rc != 0 && rc != ETIMEDOUT)
        abort();
    return rc == 0 || clock_mono_ms() < deadline_ms;
}
