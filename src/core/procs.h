/* The table of kept processes. Private to core/. */
#ifndef CORE_PROCS_H
#define CORE_PROCS_H

#include "core/process.h"
#include "plog.h"

struct procs;

/* Loads the records; those that ran when the last daemon ended are taken up again in the
 * background. */
int procs_new(struct core *c, const char *data_dir, struct procs **ret, struct err *err);
void procs_free(struct procs *p);
/* Everything of a sandbox that is being deleted. */
int procs_drop(struct procs *p, const struct sandbox_id *sandbox, struct err *err);
/* Number of those that run, for the reaper and the why. Detached from any client, they are work
 * under way. */
uint32_t procs_running(struct procs *p, const struct sandbox_id *sandbox);
/* Those among them that are no services. */
uint32_t procs_busy(struct procs *p, const struct sandbox_id *sandbox);

#endif
