/* Services of sandboxes: started at each start and wake, kept running, stopped and restarted by
 * hand. Private to core/; the door's calls are in core/service.h. */
#ifndef CORE_SERVICES_H
#define CORE_SERVICES_H

#include "core/service.h"

struct supervisor;
struct supervisor *supervisor_new(struct core *c, struct err *err);
/* Ends its threads; nothing of core's but supervisor_free may be called on it by others afterwards,
 * except supervisor_ended. */
void supervisor_stop(struct supervisor *sup);
void supervisor_free(struct supervisor *sup);
/* The sandbox came up: its declared services but those stopped by hand are started, those that an
 * agent makes wait for later. Does not wait until they listen. */
void supervisor_up(struct supervisor *sup, const struct sandbox *s);
/* It was up, or frozen, before this daemon was: what runs is taken up, the rest started. Does not
 * wait. */
void supervisor_take_up(struct supervisor *sup, const struct sandbox *s);
/* It runs (again): what was due while it was frozen is due now. */
void supervisor_awake(struct supervisor *sup, const struct sandbox_id *id);
/* It went down or away: nothing of it is started again. */
void supervisor_down(struct supervisor *sup, const struct sandbox_id *id);
/* Does it run, or is to run, in that start of its sandbox? */
bool supervisor_minds(struct supervisor *sup, const struct sandbox_id *id, uint32_t epoch,
                      const char *name);
/* The process of some service has ended. */
void supervisor_ended(struct supervisor *sup);
/* One at run time is declared in three steps: its name is claimed, so that nobody else starts, ends
 * or declares one of it; its process is started; it is declared, or unclaimed. ret_before is for
 * supervisor_unclaim. */
/* Ends what runs by its name, too; visitors of its port wait from here on. */
void supervisor_claim(struct supervisor *sup, const struct sandbox *s, const struct service *spec,
                      enum service_state *ret_before);
/* Changes name until it is free, or that of one with the same command that does not run. */
void supervisor_claim_free(struct supervisor *sup, const struct sandbox *s, const char *cmd,
                           char name[SERVICE_NAME_MAX + 1], enum service_state *ret_before);
/* Nothing came of it: what was there before goes on. */
void supervisor_unclaim(struct supervisor *sup, const struct sandbox *s, const char *name,
                        enum service_state before);
/* It runs already. After a failure the claim is still to be given back. */
int supervisor_declare(struct supervisor *sup, const struct sandbox *s, const struct service *spec,
                       const struct sandbox_id *process, struct err *err);

/* --- by hand, for service.c --- */
/* Those of a sandbox that is awake or frozen; caller releases each. */
size_t supervisor_list(struct supervisor *sup, const struct sandbox_id *id,
                       struct service_info out[SERVICES_MAX]);
/* false: it is neither awake nor frozen. */
bool supervisor_briefs(struct supervisor *sup, const struct sandbox_id *id,
                       struct service_brief out[SERVICES_MAX], size_t *ret_count);
/* ERR_CAPACITY: there is no room for one of that name. */
int supervisor_room(struct supervisor *sup, const struct sandbox *s, const char *name,
                    struct err *err);
/* Notes on disk that it was stopped by hand, or is wanted again. */
int supervisor_mark(struct supervisor *sup, const struct sandbox *s, const char *name, bool stopped,
                    struct err *err);
/* Ends what runs and waits for its end, so that another finds its port free; the service stays down
 * until it is started. ERR_NOT_FOUND: not in the list. */
int supervisor_halt(struct supervisor *sup, const struct sandbox *s, const char *name,
                    struct err *err);
/* Starts it now, back-off or not; one that was declared in the file since the sandbox came up joins
 * the list. A failure to start shows there, and is tried again. ERR_NOT_FOUND. */
int supervisor_start(struct supervisor *sup, const struct sandbox *s, const char *name,
                     struct err *err);
/* Ends it, as supervisor_halt does, and takes it out of the list and the row. ERR_NOT_FOUND. */
int supervisor_remove(struct supervisor *sup, const struct sandbox *s, const char *name,
                      struct err *err);
/* Its process, without the list. */
int supervisor_spawn(struct core *c, const struct sandbox *s, const struct service *spec,
                     struct process *ret, struct err *err);

#endif
