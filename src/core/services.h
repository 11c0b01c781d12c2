/* Services of sandboxes: started at each start and wake, kept running, stopped and restarted by
 * hand. Private to core/; the door's calls are in core/service.h. */
#ifndef CORE_SERVICES_H
#define CORE_SERVICES_H

#include "core/service.h"

struct keepers;
struct keepers *keepers_new(struct core *c, struct err *err);
/* Ends its threads; nothing of core's but keepers_free may be called on it by others afterwards,
 * except keepers_ended. */
void keepers_stop(struct keepers *k);
void keepers_free(struct keepers *k);
/* The sandbox came up: its declared services are started, those that an agent makes wait for later.
 * Does not wait until they listen. */
void keepers_up(struct keepers *k, const struct sandbox *s);
/* It was up, or frozen, before this daemon was: what runs is taken up, the rest started. Does not
 * wait. */
void keepers_take_up(struct keepers *k, const struct sandbox *s);
/* It runs (again): what was due while it was frozen is due now. */
void keepers_awake(struct keepers *k, const struct sandbox_id *id);
/* It went down or away: nothing of it is started again. */
void keepers_down(struct keepers *k, const struct sandbox_id *id);
/* The process of some service has ended. */
void keepers_ended(struct keepers *k);
/* Declares one at run time (exec with "service": true, a kept exec), which runs already. */
int keepers_declare(struct keepers *k, const struct sandbox *s, const struct service *spec,
                    const struct sandbox_id *process, struct err *err);
/* Changes name until it is free, or that of one with the same command that does not run. */
void keepers_free_name(struct keepers *k, const struct sandbox *s, const char *cmd,
                       char name[SERVICE_NAME_MAX + 1]);

/* --- by hand, for service.c --- */
/* Those of a sandbox that is awake or frozen; caller releases each. */
size_t keepers_list(struct keepers *k, const struct sandbox_id *id,
                    struct service_info out[SERVICES_MAX]);
/* ERR_CAPACITY: there is no room for one of that name. */
int keepers_room(struct keepers *k, const struct sandbox *s, const char *name, struct err *err);
/* Ends what runs and waits for its end, so that another finds its port free; the service stays down
 * until it is started. ERR_NOT_FOUND: not in the list. */
int keepers_halt(struct keepers *k, const struct sandbox *s, const char *name, struct err *err);
/* Starts it now, back-off or not; one that was declared in the file since the sandbox came up joins
 * the list. A failure to start shows there, and is tried again. ERR_NOT_FOUND. */
int keepers_start(struct keepers *k, const struct sandbox *s, const char *name, struct err *err);
/* Its process, without the list. */
int keepers_spawn(struct core *c, const struct sandbox *s, const struct service *spec,
                  struct process *ret, struct err *err);

#endif
