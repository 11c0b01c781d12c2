/* Kept processes, for the rest of the room. Private to core/. */
#ifndef CORE_PROCS_H
#define CORE_PROCS_H

#include "core/process.h"
#include "plog.h"

struct procs;

/* Loads the records; those that ran when the last daemon ended are taken up again in the
 * background, once procs_start was called. */
int procs_new(struct core *c, const char *data_dir, struct procs **ret, struct err *err);
int procs_start(struct procs *p, struct err *err);
/* Ends its threads; the table stays. */
void procs_stop(struct procs *p);
void procs_free(struct procs *p);
/* Everything of a sandbox that is being deleted. */
int procs_drop(struct procs *p, const struct sandbox_id *sandbox, struct err *err);
/* The sandbox runs (again): streams that could not be had while it was frozen can be now. */
void procs_awake(struct procs *p, const struct sandbox_id *sandbox);
/* The sandbox has stopped: what nobody has a stream of is lost. The other streams end by
 * themselves. */
void procs_asleep(struct procs *p, const struct sandbox_id *sandbox);
/* The record without its texts; false: there is none. */
bool procs_peek(struct procs *p, const struct sandbox_id *sandbox, const struct sandbox_id *id,
                struct process *ret);
/* Has it written the text, at or behind *from? *from moves on; 0 at first. What has left the ring
 * unseen counts as having said it. */
bool procs_said(struct procs *p, const struct sandbox_id *sandbox, const struct sandbox_id *id,
                const char *text, uint64_t *from);
/* Number of those that run. Detached from any client, they are work under way. */
uint32_t procs_running(struct procs *p, const struct sandbox_id *sandbox);
/* Those among them that are no services. */
uint32_t procs_busy(struct procs *p, const struct sandbox_id *sandbox);

#endif
