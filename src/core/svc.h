/* The list of services of sandboxes that are awake or frozen, for services.c, supervise.c and
 * hands.c.
 * Private to core/. */
#ifndef CORE_SVC_H
#define CORE_SVC_H

#include "base/limits.h"
#include "base/mu.h"
#include "services.h"

#define SERVICES_IDLE_MS 60000 /* between looks when nothing is due */

struct svc {
    struct service spec;
    enum service_state state;
    bool has_process, busy; /* busy: somebody starts, ends or replaces it */
    bool reserved;          /* its name alone, for one that is about to be declared */
    bool last_run;          /* stopped by hand already: when its process ends, that is it */
    struct sandbox_id process;
    uint32_t restarts;
    int64_t backoff_ms, due_ms, started_ms; /* due, started: monotonic */
    bool said;                              /* its process has written ready_log, or that is none */
    uint64_t said_at;                       /* how far its output was searched */
    int exit_code;
    char problem[200];
};

struct home {
    struct sandbox_id sandbox;
    uint32_t epoch;
    struct svc *items[SERVICES_MAX];
    size_t count;
    bool working;          /* a job is at it */
    bool asleep;           /* found frozen, or on its way: nothing is due until supervisor_awake */
    int64_t not_before_ms; /* monotonic */
};

struct supervisor {
    struct core *core;
    struct mu lock;
    struct cond declared, idle;      /* idle: a service is busy no more */
    bool declaring GUARDED_BY(lock); /* somebody rewrites the services of a row */
    bool stopping GUARDED_BY(lock);
    struct home **homes GUARDED_BY(lock);
    size_t count GUARDED_BY(lock), room GUARDED_BY(lock);
    struct worker *worker;
    struct pool *starters;
};

/* --- services.c --- */
/* NULL: the sandbox is neither awake nor frozen. */
struct home *home_locked(struct supervisor *sup, const struct sandbox_id *id) REQUIRES(sup->lock);
/* As home_locked, but of this start of it alone. */
struct home *home_of_locked(struct supervisor *sup, const struct sandbox *s) REQUIRES(sup->lock);
/* NULL: not in the list, or no list (h may be NULL). */
struct svc *in_home(const struct home *h, const char *name);
/* NULL when it is full. */
struct svc *svc_add(struct home *h, const struct service *spec);
/* false: it was not in the list. *ret: the process that it has, if any. */
bool svc_drop(struct supervisor *sup, const struct sandbox_id *id, const char *name,
              struct sandbox_id *ret);
/* One at a time: a row's services are read, changed and written back, or made a home of. */
void row_begin(struct supervisor *sup);
void row_end(struct supervisor *sup);
/* Makes the home if there is none yet: a sandbox shows as awake a moment before its list is made;
 * at the daemon's start, long before. */
void settle_late(struct supervisor *sup, const struct sandbox *s);
/* Has the worker look at what is due. */
void supervisor_wake(struct supervisor *sup);

/* --- supervise.c --- */
/* Takes it for a start: nobody else starts it until svc_start_taken, which follows without the
 * lock. *ret: what to start, for that call. */
void svc_take_locked(struct supervisor *sup, struct svc *v, struct service *ret)
    REQUIRES(sup->lock);
/* Starts what was taken, unless it is stopped meanwhile, and frees spec. false: the agent does not
 * answer. */
bool svc_start_taken(struct supervisor *sup, const struct sandbox *s, struct service *spec);
/* Starts what is due, until an agent does not answer. */
void svc_start_due(struct supervisor *sup, const struct sandbox *s);
/* It has a process from now on. */
void svc_runs(struct svc *v, const struct sandbox_id *process);
/* Has its process ended since we looked? */
void svc_look_locked(struct supervisor *sup, const struct home *h, struct svc *v)
    REQUIRES(sup->lock);
/* The worker's round. */
int64_t svc_tick(void *ctx, int64_t mono_ms);

#endif
