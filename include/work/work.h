/* Background work: the reconciler (boot, events, sweep), the flusher of activity, the measurer of
 * workspaces. Each is one tick; periods and back-off live here. */
#ifndef WORK_WORK_H
#define WORK_WORK_H

#include "base/err.h"
#include "core/core.h"
#include "docker/docker.h"

struct work;
/* Starts the threads; the boot reconciliation runs on one of them, /readyz tells when it is done.
 */
int work_start(struct core *core, struct docker *docker, struct volume *volume,
               const struct config *config, struct work **ret, struct err *err);
void work_stop(struct work *w);

#endif
