/* Threads. Two shapes and no third: a worker (one loop with a period, woken early on demand) and a
 * pool (an elastic set of threads that run queued jobs). All are joined before exit; signals are
 * blocked in all of them. Threads: any may call. */
#ifndef BASE_WORKER_H
#define BASE_WORKER_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/* One round of work. Returns after how many ms the next round is due (at least 1). */
typedef int64_t (*tick_fn)(void *ctx, int64_t mono_ms);

struct worker;

/* Starts a thread that calls tick(ctx) over and over. name: at most 15 bytes, kept. */
struct worker *worker_start(const char *name, tick_fn tick, void *ctx, struct err *err);
/* Makes the next round begin at once. */
void worker_wake(struct worker *w);
/* Ends the loop after the round under way, joins, frees. NULL is fine. */
void worker_stop(struct worker *w);

struct pool;
typedef void (*job_fn)(void *arg);

/* At most max threads, made when needed and ended after idle_ms without work;
 * at most backlog jobs wait. */
struct pool *pool_new(const char *name, uint32_t max, uint32_t backlog, int64_t idle_ms);
/* 0, or -1 with ERR_CAPACITY when the backlog is full, ERR_SHUTDOWN once stopping. */
int pool_run(struct pool *p, job_fn fn, void *arg, struct err *err);
/* Jobs running or waiting. */
uint32_t pool_load(struct pool *p);
/* Runs what is queued, refuses what comes, joins, frees. NULL is fine. */
void pool_stop(struct pool *p);

/* A joinable thread with all signals blocked and a small stack. */
int thread_start(void *(*fn)(void *), void *arg, const char *name, unsigned long *ret_thread,
                 struct err *err);
void thread_join(unsigned long thread);

#endif
