/* Threads. A pool's thread waits for a job at most idle_ms, then ends, so a burst leaves nothing
 * behind; ended threads are joined by whoever changes the pool next or stops it. */
#include "base/worker.h"

#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/limits.h"
#include "base/mu.h"
#include "base/str.h"

struct start {
    void *(*fn)(void *);
    void *arg;
    char name[16];
};

static void *thread_main(void *arg)
{
    struct start s = *(struct start *)arg;
    free(arg);
    (void)pthread_setname_np(pthread_self(), s.name); /* only a label */
    return s.fn(s.arg);
}

int thread_start(void *(*fn)(void *), void *arg, const char *name, unsigned long *ret_thread,
                 struct err *err)
{
    struct start *s = mem_new(1, sizeof *s);
    s->fn = fn;
    s->arg = arg;
    (void)str_copy(s->name, sizeof s->name, name); /* too long: no name */
    pthread_attr_t attr;
    sigset_t all, before;
    sigfillset(&all);
    if (pthread_attr_init(&attr) != 0 || pthread_attr_setstacksize(&attr, THREAD_STACK) != 0)
        abort();
    (void)pthread_sigmask(SIG_BLOCK, &all, &before); /* inherited by the new thread */
    pthread_t t;
    int rc = pthread_create(&t, &attr, thread_main, s);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    (void)pthread_attr_destroy(&attr);
    if (rc != 0) {
        free(s);
        return err_sys(err, rc, "start thread %s", name);
    }
    *ret_thread = (unsigned long)t;
    return 0;
}

void thread_join(unsigned long thread)
{
    if (pthread_join((pthread_t)thread, NULL) != 0)
        abort();
}

/* --- worker --- */

struct worker {
    tick_fn tick;
    void *ctx;
    unsigned long thread;
    struct mu lock;
    struct cond cond;
    bool wake GUARDED_BY(lock);
    bool stop GUARDED_BY(lock);
};

static void *worker_main(void *arg)
{
    struct worker *w = arg;
    for (;;) {
        int64_t wait_ms = w->tick(w->ctx, clock_mono_ms());
        int64_t due = clock_mono_ms() + (wait_ms < 1 ? 1 : wait_ms);
        mu_lock(&w->lock);
        while (!w->stop && !w->wake && cond_wait_until(&w->cond, &w->lock, due))
            continue;
        bool stop = w->stop;
        w->wake = false;
        mu_unlock(&w->lock);
        if (stop)
            return NULL;
    }
}

struct worker *worker_start(const char *name, tick_fn tick, void *ctx, struct err *err)
{
    struct worker *w = mem_new(1, sizeof *w);
    w->tick = tick;
    w->ctx = ctx;
    mu_init(&w->lock, MU_POOL);
    cond_init(&w->cond);
    if (thread_start(worker_main, w, name, &w->thread, err) < 0) {
        cond_release(&w->cond);
        mu_release(&w->lock);
        free(w);
        return NULL;
    }
    return w;
}

void worker_wake(struct worker *w)
{
    mu_lock(&w->lock);
    w->wake = true;
    cond_signal(&w->cond);
    mu_unlock(&w->lock);
}

void worker_stop(struct worker *w)
{
    if (!w)
        return;
    mu_lock(&w->lock);
    w->stop = true;
    cond_signal(&w->cond);
    mu_unlock(&w->lock);
    thread_join(w->thread);
    cond_release(&w->cond);
    mu_release(&w->lock);
    free(w);
}

/* --- pool --- */

struct job {
    job_fn fn;
    void *arg;
};

struct pool_thread {
    unsigned long thread;
    struct pool *pool;
    bool ended;
    struct pool_thread *next;
};

struct pool {
    char name[16];
    uint32_t max, backlog;
    int64_t idle_ms;
    struct mu lock;
    struct cond work;                  /* a job came or the pool stops */
    struct cond quiet;                 /* a thread ended */
    struct job *jobs GUARDED_BY(lock); /* ring of `backlog` */
    uint32_t head GUARDED_BY(lock), queued GUARDED_BY(lock);
    uint32_t threads GUARDED_BY(lock), idle GUARDED_BY(lock);
    struct pool_thread *list GUARDED_BY(lock);
    bool stop GUARDED_BY(lock);
};

static void *pool_main(void *arg)
{
    struct pool_thread *self = arg;
    struct pool *p = self->pool;
    mu_lock(&p->lock);
    for (;;) {
        int64_t until = clock_mono_ms() + p->idle_ms;
        p->idle++;
        while (p->queued == 0 && !p->stop && cond_wait_until(&p->work, &p->lock, until))
            continue;
        p->idle--;
        if (p->queued == 0)
            break; /* stopping, or nothing to do for so long */
        struct job j = p->jobs[p->head];
        p->head = (p->head + 1) % p->backlog;
        p->queued--;
        mu_unlock(&p->lock);
        j.fn(j.arg);
        mu_lock(&p->lock);
    }
    p->threads--;
    self->ended = true;
    cond_signal(&p->quiet);
    mu_unlock(&p->lock);
    return NULL;
}

struct pool *pool_new(const char *name, uint32_t max, uint32_t backlog, int64_t idle_ms)
{
    struct pool *p = mem_new(1, sizeof *p);
    (void)str_copy(p->name, sizeof p->name, name);
    p->max = max;
    p->backlog = backlog;
    p->idle_ms = idle_ms;
    p->jobs = mem_new(backlog, sizeof *p->jobs);
    mu_init(&p->lock, MU_POOL);
    cond_init(&p->work);
    cond_init(&p->quiet);
    return p;
}

/* Takes the ended threads off the list; the caller joins and frees them outside the lock. */
static struct pool_thread *pool_take_ended_locked(struct pool *p) REQUIRES(p->lock)
{
    struct pool_thread *ended = NULL;
    for (struct pool_thread **at = &p->list; *at;) {
        struct pool_thread *t = *at;
        if (!t->ended) {
            at = &t->next;
            continue;
        }
        *at = t->next;
        t->next = ended;
        ended = t;
    }
    return ended;
}

static void pool_join(struct pool_thread *ended)
{
    while (ended) {
        struct pool_thread *t = ended;
        ended = t->next;
        thread_join(t->thread);
        free(t);
    }
}

int pool_run(struct pool *p, job_fn fn, void *arg, struct err *err)
{
    int rc = 0;
    mu_lock(&p->lock);
    struct pool_thread *ended = pool_take_ended_locked(p);
    if (p->stop) {
        rc = err_set(err, ERR_SHUTDOWN, "shutting down");
    } else if (p->queued == p->backlog) {
        rc = err_set(err, ERR_CAPACITY, "too many requests are waiting");
    } else {
        p->jobs[(p->head + p->queued) % p->backlog] = (struct job){ fn, arg };
        p->queued++;
        if (p->queued > p->idle && p->threads < p->max) {
            struct pool_thread *t = mem_new(1, sizeof *t);
            t->pool = p;
            struct err ignored;
            if (thread_start(pool_main, t, p->name, &t->thread, &ignored) == 0) {
                t->next = p->list;
                p->list = t;
                p->threads++;
            } else {
                free(t);
                if (p->threads == 0) { /* nobody would ever run it */
                    p->queued--;
                    rc = err_set(err, ERR_CAPACITY, "no thread can be started");
                }
            }
        }
        cond_signal(&p->work);
    }
    mu_unlock(&p->lock);
    pool_join(ended);
    return rc;
}

uint32_t pool_load(struct pool *p)
{
    mu_lock(&p->lock);
    uint32_t load = p->queued + p->threads - p->idle;
    mu_unlock(&p->lock);
    return load;
}

void pool_stop(struct pool *p)
{
    if (!p)
        return;
    mu_lock(&p->lock);
    p->stop = true;
    cond_broadcast(&p->work);
    while (p->threads > 0)
        cond_wait(&p->quiet, &p->lock);
    struct pool_thread *ended = pool_take_ended_locked(p);
    mu_unlock(&p->lock);
    pool_join(ended);
    cond_release(&p->work);
    cond_release(&p->quiet);
    mu_release(&p->lock);
    free(p->jobs);
    free(p);
}
