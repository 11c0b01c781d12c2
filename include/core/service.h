/* Services of a sandbox as its owner sees them: state, logs, start, stop, restart. Threads: any. */
#ifndef CORE_SERVICE_H
#define CORE_SERVICE_H

#include "core/core.h"
#include "core/process.h"
#include "model/service.h"

/* state, word */
#define SERVICE_STATES(S)     \
    S(STOPPED, "stopped")     \
    S(RUNNING, "running")     \
    S(BACKOFF, "backing_off") \
    S(ENDED, "ended")
enum service_state {
#define SERVICE_STATE_ENUM(name, word) SERVICE_##name,
    SERVICE_STATES(SERVICE_STATE_ENUM)
#undef SERVICE_STATE_ENUM
        SERVICE_STATE_COUNT
};
const char *service_state_name(enum service_state s);

struct service_info {
    char *name, *cmd; /* cmd: JSON */
    uint32_t port;
    int restart; /* enum service_restart */
    enum service_state state;
    bool listening;        /* its port listens */
    bool checked, healthy; /* has a health_path; it has answered since the last start */
    bool said;             /* its output holds what it declares */
    bool ready; /* it runs, listens, is healthy and has said it, as far as it declares that */
    uint32_t restarts;     /* since it was last started by hand or by a wake */
    int64_t next_start_ms; /* BACKOFF: until the next try, ms from now */
    bool has_process;
    struct sandbox_id process; /* the running one, or the last */
    int exit_code;             /* of the last end; -1: none yet */
    char problem[200];         /* why it could not be started, or is not healthy; empty: none */
};
void service_info_release(struct service_info *i);

struct service_brief { /* plain data */
    char name[SERVICE_NAME_MAX + 1];
    enum service_state state;
};
/* Those of a sandbox's list, from memory; of one that is neither awake nor frozen those that its
 * row declares. Returns how many. */
size_t core_service_briefs(struct core *c, const struct sandbox *s,
                           struct service_brief out[SERVICES_MAX]);
/* In the order of declaration; caller releases each and frees the array. problem: what is wrong
 * with the workspace's sandbox.yaml ("" when nothing). */
int core_services(struct core *c, const struct caller *who, const struct sandbox_id *id,
                  struct service_info **ret, size_t *ret_count, char problem[320], struct err *err);
enum service_act { SERVICE_START, SERVICE_STOP, SERVICE_RESTART };
/* Wakes the sandbox for START and RESTART. ERR_NOT_FOUND: no such service. */
int core_service_act(struct core *c, const struct caller *who, const struct sandbox_id *id,
                     const char *name, enum service_act act, struct err *err);
/* Ends it if it runs and takes it out of the row; does not wake the sandbox. ERR_NOT_FOUND: no such
 * service; ERR_CONFLICT: the workspace's sandbox.yaml declares it. */
int core_service_remove(struct core *c, const struct caller *who, const struct sandbox_id *id,
                        const char *name, struct err *err);
/* Processes of the service, oldest first: their outputs one after the other are its log. */
int core_service_processes(struct core *c, const struct caller *who, const struct sandbox_id *id,
                           const char *name, struct process **ret, size_t *ret_count,
                           struct err *err);
/* What a command's service is called when nobody says: "python3" of "/usr/bin/python3 -m …", of a
 * shell's line the name of the first program in it. */
void core_service_name(const struct strv *argv, char out[SERVICE_NAME_MAX + 1]);
/* Starts argv as a service of this name (declared in the row: it comes back at each wake). */
int core_service_add(struct core *c, const struct caller *who, const struct sandbox_id *id,
                     const struct service *spec, struct process *ret, struct err *err);

#endif
