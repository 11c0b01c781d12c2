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
void registry_remove(struct registry *r, const struct sandbox_id *id);
/* Replaces the row by a copy that fn changed; false when there is none. Wakes who waits. */
typedef void (*registry_fn)(struct sandbox *row, void *ctx);
bool registry_update(struct registry *r, const struct sandbox_id *id, registry_fn fn, void *ctx);

/* An -ING state has one owner in this process: who made the move, or who took it over after a
 * crash. */
void registry_own(struct registry *r, const struct sandbox_id *id);
/* false: somebody has it already, or there is no such row. */
bool registry_take(struct registry *r, const struct sandbox_id *id);
void registry_disown(struct registry *r, const struct sandbox_id *id);

/* Waits until the row is in no -ING state or is gone (NULL in *ret); false at the deadline.
 * *ret is a reference. *ret_waited: the row was in an -ING state at first. */
bool registry_settled(struct registry *r, const struct sandbox_id *id, int64_t deadline_ms,
                      const struct sandbox **ret, bool *ret_waited);

/* Notes activity now. At most one new snapshot a second. */
void registry_touch(struct registry *r, const struct sandbox_id *id);
/* Activity not yet written, at most max; marks it as taken. */
size_t registry_take_touched(struct registry *r, struct store_activity *out, size_t max);

/* Counts a running exec; false at the sandbox's ceiling. */
bool registry_exec_begin(struct registry *r, const struct sandbox_id *id);
void registry_exec_end(struct registry *r, const struct sandbox_id *id);
uint32_t registry_execs(struct registry *r);

/* As core_list, without a caller when tenant is NULL (the reconciler). */
void registry_list(struct registry *r, const char *tenant, const struct core_filter *f,
                   const struct sandbox ***ret, size_t *ret_count, bool *ret_more);
void registry_count(struct registry *r, uint32_t ret[SANDBOX_STATE_COUNT]);

#endif
