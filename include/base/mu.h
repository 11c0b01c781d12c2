/* A mutex with a rank. Locks are taken in rising rank; debug builds assert rank and holder.
 * No lock is ever held across Docker, the network, a callback or a log line.
 * The table of all locks of the program is the enum below; ARCHITECTURE.md prints it. */
#ifndef BASE_MU_H
#define BASE_MU_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

enum mu_rank {
    MU_GATE = 5,      /* core: how many sandboxes are being brought up */
    MU_WORK = 8,      /* work: sandboxes that events named */
    MU_REGISTRY = 10, /* core: the table of sandboxes and who waits for a change */
    MU_SERVICES = 11, /* core: services of sandboxes that are awake */
    MU_PROC = 12,     /* core: kept processes and their output */
    MU_HEALTH = 13,   /* core: services that are not well yet */
    MU_SHARE = 15,    /* core: share links */
    MU_LINK = 20,     /* link: agents' connections and awaited streams */
    MU_DOCKER = 30,   /* docker: idle connections, circuit state */
    MU_VOLUME = 35,   /* volume: golden copies being made */
    MU_FILE = 36,     /* volume: comparing and changing one name of a workspace */
    MU_APPEND = 37,   /* volume: appending to a file */
    MU_STORE = 40,    /* store: the writer's queue, idle readers */
    MU_PEERS = 45,    /* api: list of connections */
    MU_FRONT = 47,    /* front: list of connections */
    MU_REQ = 50,      /* api: one request's buffers */
    MU_EDGE = 55,     /* edge: what its pool has done */
    MU_POOL = 60,     /* base: a thread pool's queue */
};

#if defined(__clang__)
#define CAPABILITY(x) __attribute__((capability(x)))
#define REQUIRES(x) __attribute__((requires_capability(x)))
#define ACQUIRE(x) __attribute__((acquire_capability(x)))
#define RELEASE(x) __attribute__((release_capability(x)))
#define NO_THREAD_SAFETY __attribute__((no_thread_safety_analysis))
#else
#define CAPABILITY(x)
#define REQUIRES(x)
#define ACQUIRE(x)
#define RELEASE(x)
#define NO_THREAD_SAFETY
#endif

/* For the reader: clang 14 cannot name a sibling member in C. mu_held() checks at run time. */
#define GUARDED_BY(x)

struct CAPABILITY("mutex") mu {
    pthread_mutex_t lock;
    enum mu_rank rank;
    pthread_t holder; /* valid while held */
    bool held;
};

void mu_init(struct mu *m, enum mu_rank rank);
void mu_release(struct mu *m);
void mu_lock(struct mu *m) ACQUIRE(m);
void mu_unlock(struct mu *m) RELEASE(m);
/* Aborts in debug builds when the calling thread does not hold m. */
void mu_held(struct mu *m) REQUIRES(m);

/* A condition on the monotonic clock. */
struct cond {
    pthread_cond_t cond;
};
void cond_init(struct cond *c);
void cond_release(struct cond *c);
void cond_signal(struct cond *c);
void cond_broadcast(struct cond *c);
void cond_wait(struct cond *c, struct mu *m) REQUIRES(m);
/* Waits until the monotonic deadline; false when it passed. */
bool cond_wait_until(struct cond *c, struct mu *m, int64_t deadline_ms) REQUIRES(m);

#endif
