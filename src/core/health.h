/* Health of services: a service that declares a health_path is ready when that path has answered
 * once, after each start of its process; until then requests to its port are held. Private to
 * core/; the door's calls are in core/core.h. */
#ifndef CORE_HEALTH_H
#define CORE_HEALTH_H

#include "core/core.h"

struct health;
struct health *health_new(struct core *c, struct err *err);
/* Ends its threads; health_free still has to be called. NULL is fine for both. */
void health_stop(struct health *h);
void health_free(struct health *h);
/* The service's process is about to be started, or was found running: look until it is well. What
 * an earlier one of that name was looked at for is forgotten, also when this one declares no
 * health_path. hold: requests to its port wait for that, as is fit for one that is being started.
 */
void health_expect(struct health *h, const struct sandbox *s, const struct service *spec,
                   bool hold);
/* Is a service waited for, on that port (0: any) or of that name (NULL: any)? why: what the last
 * look saw. */
bool health_awaited(struct health *h, const struct sandbox_id *id, uint16_t port, const char *name,
                    char why[HEALTH_WHY_MAX]);
/* Waits until none is, on that port; false at the monotonic deadline. */
bool health_wait(struct health *h, const struct sandbox_id *id, uint16_t port, int64_t deadline_ms);

#endif
