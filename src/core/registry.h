/* Rows in memory: immutable snapshots with a count of references, replaced after each commit.
 * Private to core/. All calls take MU_REGISTRY inside and never hold it across anything slow. */
#ifndef CORE_REGISTRY_H
#define CORE_REGISTRY_H

#include "core/core.h"

struct registry;

struct registry *registry_new(void);
void registry_free(struct registry *r);

/* NULL when there is none; else a reference (core_unref). */
const struct sandbox *registry_get(struct registry *r, const struct sandbox_id *id);
/* Takes row over. owned: its -ING state is ours from the start. */
void registry_add(struct registry *r, struct sandbox *row, bool owned);
/* Ends a row in DELETING, once it is gone on disk. */
void registry_remove(struct registry *r, const struct sandbox_id *id);
/* Around commit and registry_add of a new row: who met it on disk first waits for it in memory with
 * registry_await, which is registry_get otherwise. */
void registry_birth_begin(struct registry *r);
void registry_birth_end(struct registry *r);
const struct sandbox *registry_await(struct registry *r, const struct sandbox_id *id);
/* Replaces the row by a copy that fn changed; false when there is none. Wakes who waits. */
typedef void (*registry_fn)(struct sandbox *row, void *ctx);
bool registry_update(struct registry *r, const struct sandbox_id *id, registry_fn fn, void *ctx);

/* An -ING state has one owner in this process: who made the move into it (registry_update), or who
 * took it over after a crash. */
/* The row, still in that -ING state, for who owns it from now on; NULL: somebody has it already, or
 * it has moved. */
const struct sandbox *registry_take(struct registry *r, const struct sandbox_id *id,
                                    enum sandbox_state state);
void registry_disown(struct registry *r, const struct sandbox_id *id);

/* Waits until the row is in no -ING state or is gone (NULL in *ret); false at the deadline.
 * *ret is a reference. *ret_start: what was waited for was a start, so that a cause which the row
 * has now is that start's. */
bool registry_settled(struct registry *r, const struct sandbox_id *id, int64_t deadline_ms,
                      const struct sandbox **ret, bool *ret_start);

/* Who lost a race on disk against a row that memory still shows as `seen`: waits until it shows the
 * winner's move, which follows at once. */
void registry_await_move(struct registry *r, const struct sandbox *seen);

/* Notes activity now. At most one new snapshot a second. */
void registry_touch(struct registry *r, const struct sandbox_id *id);
/* Activity not yet written, at most max; marks it as taken. */
size_t registry_take_touched(struct registry *r, struct store_activity *out, size_t max);

/* Counts a running exec. ERR_CAPACITY at the sandbox's ceiling, ERR_NOT_FOUND. */
int registry_exec_begin(struct registry *r, const struct sandbox_id *id, struct err *err);
void registry_exec_end(struct registry *r, const struct sandbox_id *id);
uint32_t registry_execs(struct registry *r);

#define ENDED_WHY_MAX 160
/* Uses from outside, and what the reaper and the why of a sandbox need to know; not on disk. */
struct registry_live {
    uint32_t execs, uses;
    bool cpu_known;     /* this daemon has measured it, or cannot */
    uint32_t cpu_milli; /* lately; measured by the reaper */
    uint64_t cpu_ns;    /* counter at the last look */
    int64_t cpu_at_ms;  /* monotonic; 0: never looked */
    enum core_phase phase;
    struct core_start start; /* the last one */
    uint32_t deaths;
    int64_t died_at_ms;   /* monotonic; of the row of deaths */
    int64_t died_wall_ms; /* the last one; 0: none since the daemon started */
    char died_why[ENDED_WHY_MAX];
    int64_t signalled_at_ms; /* somebody signalled its container; monotonic, 0: not in this start */
    int64_t deaf_since_ms;   /* running, but without its agent; monotonic, 0: it is there */
    const char *slept_why;   /* static text; NULL: unknown */
    char ip[46];             /* of the container in epoch ip_epoch */
    uint32_t ip_epoch;
};
bool registry_live(struct registry *r, const struct sandbox_id *id, struct registry_live *ret);
typedef void (*registry_live_fn)(struct registry_live *live, void *ctx);
void registry_live_update(struct registry *r, const struct sandbox_id *id, registry_live_fn fn,
                          void *ctx);

/* As core_watch. */
void registry_watch(struct registry *r, int fd);

/* As core_list, without a caller when tenant is NULL (the reconciler). */
void registry_list(struct registry *r, const char *tenant, const struct core_filter *f,
                   const struct sandbox ***ret, size_t *ret_count, bool *ret_more);
void registry_count(struct registry *r, uint32_t ret[SANDBOX_STATE_COUNT]);

#endif
