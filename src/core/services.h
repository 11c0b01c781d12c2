/* Services of sandboxes: started at each start and wake, kept running, stopped and restarted by
 * hand. Private to core/; the door's calls are in core/service.h. */
#ifndef CORE_SERVICES_H
#define CORE_SERVICES_H

#include "core/service.h"

struct keepers;
struct keepers *keepers_new(struct core *c, struct err *err);
void keepers_free(struct keepers *k);
/* The sandbox came up (a thaw is none): its declared services are started. Does not wait until they
 * listen. */
void keepers_up(struct keepers *k, const struct sandbox *s);
/* It went down or away: nothing of it is started again. */
void keepers_down(struct keepers *k, const struct sandbox_id *id);
/* The process of a service has ended. */
void keepers_ended(struct keepers *k, const struct process *p);
/* Declares one at run time (exec with "service": true, a kept exec); process: it runs already. */
int keepers_declare(struct keepers *k, const struct sandbox *s, const struct service *spec,
                    const struct sandbox_id *process, struct err *err);

#endif
