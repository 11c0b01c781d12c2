/* The noun: a sandbox, its states, and the list of legal edges between them.
 * Pure rules and plain data. Threads: any. */
#ifndef MODEL_SANDBOX_H
#define MODEL_SANDBOX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/field.h"
#include "model/id.h"

/* state, word on /v1, word on the legacy routes, and what is true in it.
 * A state in -ING is somebody's claim to act; after a crash the reconciler leads out of it. */
#define SANDBOX_STATES(S)                                                                      \
    S(CREATING, "creating", "creating",                                                        \
      "row and workspace record; being brought up the first time")                             \
    S(RUNNING, "running", "running", "container runs, its agent was heard")                    \
    S(PAUSING, "pausing", "running", "container is being frozen")                              \
    S(PAUSED, "paused", "running", "container is frozen: memory kept, no CPU; thaws in ms")    \
    S(RESUMING, "resuming", "running", "container is being thawed")                            \
    S(STOPPING, "stopping", "running", "container is being ended")                             \
    S(STOPPED, "stopped", "stopped", "no process; workspace whole; container may be missing")  \
    S(STARTING, "starting", "creating", "being brought up again")                              \
    S(DELETING, "deleting", "stopped", "container, then row (and workspace on purge) go away") \
    S(ERROR, "error", "error", "bringing up failed, cause kept; start tries again")

enum sandbox_state {
#define STATE_ENUM(name, v1, legacy, truth) SANDBOX_##name,
    SANDBOX_STATES(STATE_ENUM)
#undef STATE_ENUM
        SANDBOX_STATE_COUNT
};

/* event, word */
#define SANDBOX_EVENTS(V) \
    V(START, "start")     \
    V(STARTED, "started") \
    V(FAILED, "failed")   \
    V(PAUSE, "pause")     \
    V(PAUSED, "paused")   \
    V(RESUME, "resume")   \
    V(STOP, "stop")       \
    V(EXITED, "exited")   \
    V(DELETE, "delete")

enum sandbox_event {
#define EVENT_ENUM(name, text) SANDBOX_ON_##name,
    SANDBOX_EVENTS(EVENT_ENUM)
#undef EVENT_ENUM
        SANDBOX_EVENT_COUNT
};

/* from, event, to. Absent = refused. Leaving DELETING is the removal of the row. */
#define SANDBOX_EDGES(E)          \
    E(CREATING, STARTED, RUNNING) \
    E(CREATING, FAILED, ERROR)    \
    E(RUNNING, PAUSE, PAUSING)    \
    E(RUNNING, STOP, STOPPING)    \
    E(RUNNING, EXITED, STOPPED)   \
    E(RUNNING, DELETE, DELETING)  \
    E(PAUSING, PAUSED, PAUSED)    \
    E(PAUSING, FAILED, RUNNING)   \
    E(PAUSED, RESUME, RESUMING)   \
    E(PAUSED, STOP, STOPPING)     \
    E(PAUSED, EXITED, STOPPED)    \
    E(PAUSED, DELETE, DELETING)   \
    E(RESUMING, STARTED, RUNNING) \
    E(RESUMING, FAILED, PAUSED)   \
    E(STOPPING, EXITED, STOPPED)  \
    E(STOPPING, FAILED, RUNNING)  \
    E(STOPPED, START, STARTING)   \
    E(STOPPED, DELETE, DELETING)  \
    E(STARTING, STARTED, RUNNING) \
    E(STARTING, FAILED, STOPPED)  \
    E(ERROR, START, STARTING)     \
    E(ERROR, DELETE, DELETING)

/* false: refused. */
bool sandbox_edge(enum sandbox_state from, enum sandbox_event event, enum sandbox_state *ret_to);
const char *sandbox_state_name(enum sandbox_state s);   /* /v1 */
const char *sandbox_state_legacy(enum sandbox_state s); /* the four words of the legacy routes */
const char *sandbox_event_name(enum sandbox_event e);
bool sandbox_state_parse(const char *text, enum sandbox_state *ret); /* /v1 words */
bool sandbox_state_settled(enum sandbox_state s);                    /* not in -ING */

enum sandbox_visibility { VISIBILITY_PUBLIC, VISIBILITY_PRIVATE };
enum sandbox_idle_policy { IDLE_SLEEP, IDLE_PAUSE, IDLE_ALWAYS_ON };
extern const char *const sandbox_visibility_names[]; /* NULL-terminated */
extern const char *const sandbox_idle_policy_names[];

struct sandbox_limits {
    uint32_t memory_mib;
    uint32_t cpu_milli; /* thousandths of a core */
    uint32_t pids;
    uint32_t disk_mib;
};

/* One row. Heap members may be NULL where "optional" is said. */
struct sandbox {
    struct sandbox_id id;
    char *tenant;
    char *node;
    enum sandbox_state state;
    bool purge;         /* DELETING: the workspace goes too */
    char *image;        /* as asked for or configured */
    char *image_digest; /* "sha256:…" of the image it runs, pinned at first start; optional */
    char *container_id; /* 64 hex; optional */
    uint32_t epoch;     /* counts starts; names the agent's run */
    uint8_t secret[32]; /* shown by the agent of this epoch */
    struct sandbox_limits limits;
    uint32_t nofile;   /* file descriptors granted after clamping; 0: not started yet */
    char *memory_high; /* as given on the legacy route ("4G") */
    int visibility;    /* enum sandbox_visibility */
    int idle_policy;   /* enum sandbox_idle_policy */
    struct u16v ports; /* ascending, no repeats */
    struct strmap env; /* write-only: names are shown, values never */
    struct strmap metadata;
    char *services;      /* JSON {"services": [...]} as declared; optional */
    char *external_user; /* optional, as are the next three */
    char *external_project;
    char *external_workspace;
    char *error_message;
    int64_t created_at_ms; /* all times: wall clock */
    int64_t updated_at_ms;
    int64_t up_since_ms; /* in memory only: its last start, moved on by what it spent frozen */
    int64_t last_active_at_ms;
    int64_t stopped_at_ms;      /* 0: none */
    int64_t keepalive_until_ms; /* 0: none */
    uint32_t idle_timeout_ms;   /* without use until it is frozen or stopped; 0: the setting's */
    uint32_t ttl_s;             /* unused for so long: purged; 0: never */
    uint32_t stop_timeout_ms;   /* frozen until it is stopped; 0: the setting's */
};

/* A deep copy, and its end; NULL is fine there. */
struct sandbox *sandbox_copy(const struct sandbox *s);
void sandbox_free(struct sandbox *s);

#endif
