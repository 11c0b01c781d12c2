/* The preview edge: a reverse proxy in front of what listens inside sandboxes.
 *
 * One thread, one epoll loop. Each request is routed by its Host (or by E2b-Sandbox-Id and -Port)
 * to one port of one sandbox; a sleeping sandbox is woken and the very same request is sent on.
 * Never routes to the API. Knows the sandboxes only through core/. */
#ifndef EDGE_EDGE_H
#define EDGE_EDGE_H

#include <stdint.h>

#include "base/err.h"
#include "config/config.h"
#include "core/core.h"

struct edge;
/* Listens on config->edge. core and config are borrowed. ERR_CONFLICT: the address is in use. */
int edge_start(struct core *core, const struct config *config, struct edge **ret, struct err *err);
/* Goes on serving until the exchanges of now have ended, at most until the monotonic deadline;
 * upgraded connections and streams do not count, and are cut then. Stops listening, gives those who
 * came last EDGE_LAST_MS, joins, frees. NULL is fine. */
void edge_stop(struct edge *e, int64_t deadline_ms);

#endif
