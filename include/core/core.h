/* Use cases: the life of sandboxes, exec, files, tokens. Every change of a sandbox's state goes
 * through here.
 *
 * The state in the database is the claim to act: an -ING state belongs to exactly one caller. No
 * lock is held while Docker works; after a crash the reconciler ends what was begun. Rows are kept
 * in memory as immutable snapshots, replaced after each commit; reads never touch the disk. Knows
 * no HTTP. Threads: any, unless said otherwise. */
#ifndef CORE_CORE_H
#define CORE_CORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/limits.h"
#include "config/config.h"
#include "link/link.h"
#include "model/runtime.h"
#include "model/sandbox.h"
#include "model/service.h"
#include "store/store.h"
#include "volume/file.h"
#include "volume/volume.h"

struct core;

struct core_parts { /* all borrowed; outlive core */
    const struct config *config;
    struct store *store;
    const struct runtime *runtime;
    struct link *link;
    struct volume *volume;
    /* Called before the first container is made; idempotent (network, firewall). */
    int (*prepare)(void *ctx, struct err *err);
    void *prepare_ctx;
};

int core_new(const struct core_parts *parts, struct core **ret, struct err *err); /* loads rows */
void core_free(struct core *c);

/* --- who asks --- */
struct caller {
    const char *tenant;
    const char *actor; /* for the audit: token name or "local" */
};
/* Finds the tenant of a bearer token in constant time. ERR_UNAUTHORIZED. *ret points into config.
 */
int core_authenticate(struct core *c, const char *token, const char **ret_tenant, struct err *err);

/* --- reading: from memory --- */
/* A snapshot; sandbox_unref it. ERR_NOT_FOUND also when it is another tenant's. */
int core_get(struct core *c, const struct caller *who, const struct sandbox_id *id,
             const struct sandbox **ret, struct err *err);
void core_unref(const struct sandbox *s);
const struct sandbox *core_ref(const struct sandbox *s);

struct core_filter {
    int state;                 /* -1: any */
    const char *external_user; /* NULL: any */
    const char *external_project;
    const char *meta_name; /* with meta_value: metadata[name] == value */
    const char *meta_value;
    /* Keyset: only rows older than (created_at_ms, id); created_at_ms 0: from the newest. */
    int64_t before_ms;
    struct sandbox_id before_id;
    uint32_t limit; /* 0: no limit */
};
/* Newest first. Caller unrefs each and frees the array. *ret_more: further rows match. who NULL:
 * everybody's (front/). */
int core_list(struct core *c, const struct caller *who, const struct core_filter *f,
              const struct sandbox ***ret, size_t *ret_count, bool *ret_more, struct err *err);
/* From now on writes to fd, an eventfd of the caller's that does not block, after each change of a
 * row; -1: no more. One watcher. */
void core_watch(struct core *c, int fd);
/* Number of rows by state, all tenants (metrics). */
void core_count(struct core *c, uint32_t ret[SANDBOX_STATE_COUNT]);

/* --- life --- */
struct core_create {
    bool has_id;
    struct sandbox_id id;
    const char *image;            /* NULL: default; else must be on the list */
    struct sandbox_limits limits; /* 0 members: defaults */
    const char *memory_high;
    int visibility, idle_policy;
    uint32_t idle_timeout_ms, stop_timeout_ms; /* 0: the settings' */
    uint32_t ttl_s;                            /* 0: never purged by itself */
    struct u16v ports;
    const struct strmap *env, *metadata;
    const struct service *services;
    size_t n_services;
    const char *external_user, *external_project, *external_workspace;
    bool by_project; /* the tenant's sandbox of external_project is answered (*ret_status 200) if
                        there is one */
    const char *idem_key;
    uint8_t idem_hash[32];
};
/* Creates and brings up; returns when the agent was heard or the failure is recorded. *ret_status
 * is 201, or 200 with by_project. With an idempotency key used before: *ret_replay is set to the
 * stored reply (caller frees), *ret_status to its status and *ret to NULL. ERR_INVALID,
 * ERR_CONFLICT, ERR_QUOTA, ERR_IDEMPOTENCY, ERR_IN_PROGRESS, ERR_ENGINE, ERR_NO_SPACE, ERR_TIMEOUT.
 */
int core_create(struct core *c, const struct caller *who, const struct core_create *req,
                const struct sandbox **ret, char **ret_replay, int *ret_status, struct err *err);
/* Stores the reply of a create that had a key. */
int core_create_replied(struct core *c, const struct caller *who, const char *idem_key, int status,
                        const char *body, struct err *err);
/* Running already is success; callers at the same time share one start. */
int core_start(struct core *c, const struct caller *who, const struct sandbox_id *id,
               const struct sandbox **ret, struct err *err);
/* As core_start, for a visitor of a preview whom the edge has let in: whoever owns it. */
int core_wake(struct core *c, const struct sandbox_id *id, const struct sandbox **ret,
              struct err *err);
/* Freezes a running sandbox; frozen already is success. Whatever needs it next thaws it. */
int core_pause(struct core *c, const struct caller *who, const struct sandbox_id *id,
               const struct sandbox **ret, struct err *err);
/* Stopped already is success. */
int core_stop(struct core *c, const struct caller *who, const struct sandbox_id *id,
              const struct sandbox **ret, struct err *err);
/* The row goes, the workspace stays; creating the id again finds it. */
int core_delete(struct core *c, const struct caller *who, const struct sandbox_id *id,
                struct err *err);
/* Row and workspace go; also for a workspace whose row went before. ERR_NOT_FOUND when there is
 * neither. */
int core_purge(struct core *c, const struct caller *who, const struct sandbox_id *id,
               uint64_t *ret_freed, struct err *err);
/* until_ms 0: now + 1 h (or the maximum). Clamped to the maximum; in the past: ERR_INVALID. */
int core_keepalive(struct core *c, const struct caller *who, const struct sandbox_id *id,
                   int64_t until_ms, int64_t *ret_until_ms, struct err *err);

/* --- exec --- */
struct core_exec {
    const struct strv *argv;
    const char *cwd; /* NULL: /home/sandbox/workspace */
    const struct strmap *env;
    const char *stdin_text; /* NULL: /dev/null */
    size_t stdin_len;
    uint32_t timeout_ms; /* 0: none */
    bool detach;         /* goes on without its client */
};
enum exec_stream { EXEC_STDOUT, EXEC_STDERR };
/* Where output goes. write() blocks as its client is slow; -1 = the client is gone: the command is
 * ended. gone() is asked when gone_fd shows an event and at least once a second; gone_fd -1: none.
 */
struct exec_sink {
    int (*started)(void *ctx, uint32_t pid);
    int (*write)(void *ctx, enum exec_stream stream, const void *data, size_t len);
    bool (*gone)(void *ctx);
    int gone_fd;
    void *ctx;
};
struct exec_result {
    int code;        /* 0-255 */
    uint32_t signal; /* 0: none */
    bool timed_out;
    bool leftovers;    /* descendants could not be ended */
    uint64_t bytes[2]; /* stdout, stderr: all that came, kept or not */
    uint32_t pid;
};
/* Wakes a stopped sandbox, runs the command, returns when it and all its descendants have ended
 * (detach: once it has started). ERR_INVALID (cwd, argv, cannot be executed: message says which),
 * ERR_NOT_FOUND, ERR_CAPACITY (too many at once), ERR_UNAVAILABLE, ERR_CANCELLED (client gone),
 * ERR_ENGINE. */
int core_exec(struct core *c, const struct caller *who, const struct sandbox_id *id,
              const struct core_exec *req, const struct exec_sink *sink, struct exec_result *ret,
              struct err *err);
uint32_t core_execs_running(struct core *c);

/* --- files --- */
/* The workspace root of a sandbox the caller owns; works in every state but DELETING. Caller
 * closes. write: marks the usage stale. */
int core_files_open(struct core *c, const struct caller *who, const struct sandbox_id *id,
                    bool write, int *ret_root, struct err *err);
/* A write has ended: what was measured during it is stale again. */
void core_files_touched(struct core *c, const struct sandbox_id *id);
void core_disk(struct core *c, const struct sandbox *s, struct volume_usage *ret);
/* The engine's JSON of the container, or NULL in *ret when there is none (legacy live_state). */
int core_live_state(struct core *c, const struct sandbox *s, char **ret, struct err *err);

/* --- previews (called by edge/) --- */
/* The row, whoever owns it: the edge decides by visibility. ERR_NOT_FOUND. */
int core_find(struct core *c, const struct sandbox_id *id, const struct sandbox **ret,
              struct err *err);
/* The running container's address on the sandboxes' network; asked for once a start. out: 46 bytes.
 * ERR_UNAVAILABLE: it does not run. Pin what you open to row->epoch. */
int core_address(struct core *c, const struct sandbox *row, char out[46], struct err *err);
/* Ports that listen now, as the agent last said; at most max. */
size_t core_ports(struct core *c, const struct sandbox_id *id, struct link_port *out, size_t max);
/* Is the agent connected, so that core_ports can know? */
bool core_agent_there(struct core *c, const struct sandbox_id *id);
/* Waits until the port listens and a service that declares it is well. *ret_loopback: only on
 * 127.0.0.1. ERR_TIMEOUT. */
int core_wait_port(struct core *c, const struct sandbox_id *id, uint16_t port, int64_t deadline_ms,
                   bool *ret_loopback, struct err *err);
/* Why a port does not listen, in a sentence: the service that was declared for it keeps ending, was
 * stopped, ... Empty: no service says. For people; cut to size. */
void core_port_trouble(struct core *c, const struct sandbox_id *id, uint16_t port, char *out,
                       size_t size);
/* Does a service declare the port and a health_path, and has not answered there since it was
 * started? From memory. why: what was seen last. */
bool core_unhealthy(struct core *c, const struct sandbox_id *id, uint16_t port,
                    char why[HEALTH_WHY_MAX]);
/* A connected TCP descriptor to 127.0.0.1:port inside, opened by the agent; the caller owns it.
 * Blocking. */
int core_connect(struct core *c, const struct sandbox_id *id, uint16_t port, int64_t deadline_ms,
                 int *ret_fd, struct err *err);

/* --- sleep --- */
/* Somebody uses the sandbox from outside (an open stream at the edge): it does not sleep until
 * _end. */
void core_use_begin(struct core *c, const struct sandbox_id *id);
void core_use_end(struct core *c, const struct sandbox_id *id);
/* A request came by: counts as activity now. */
void core_touch(struct core *c, const struct sandbox_id *id);
/* One round of the reaper: freezes or stops what is idle, and under memory pressure the longest
 * idle first. Never a sandbox with work under way. */
void core_sleep_round(struct core *c);
/* What a start spent where, in ms: total is all of them and what lies between. */
struct core_start {
    int64_t total, queue, workspace, engine, agent, services;
};
/* Why it is awake, asleep or dead, and what the last start spent where. Plain data. */
struct core_why {
    const char *state;
    char awake_because[160]; /* empty: it is not awake, or nothing keeps it so */
    char asleep_because[320];
    int64_t idle_ms;                /* since the last activity */
    int64_t sleeps_in_ms;           /* -1: never by itself */
    uint32_t execs, uses;           /* under way */
    uint32_t cpu_milli;             /* thousandths of a core, lately */
    struct core_start start;        /* the last one; total 0: none since the daemon started */
    uint32_t deaths;                /* ends that nobody asked for, in a row */
    int64_t died_at_ms;             /* the last one, wall clock; 0: none since the daemon started */
    char died_why[160];             /* for people */
    char waits_for[HEALTH_WHY_MAX]; /* a service that is not well yet; empty: none */
};
int core_why(struct core *c, const struct caller *who, const struct sandbox_id *id,
             struct core_why *ret, struct err *err);

/* How far a start is, for people who wait. */
enum core_phase { PHASE_NONE, PHASE_QUEUED, PHASE_WORKSPACE, PHASE_ENGINE, PHASE_AGENT };
enum core_phase core_phase(struct core *c, const struct sandbox_id *id);

/* --- making rows true (called by work/) --- */
/* Whole comparison: at boot (boot: also ends what a crash left in -ING states and removes orphans)
 * and as the sweep. */
int core_reconcile(struct core *c, bool boot, struct err *err);
/* Somebody had the engine signal its container: if it ends now, that is why. */
void core_signalled(struct core *c, const struct sandbox_id *id);
/* One sandbox, after an event. Cheap when nothing changed. */
int core_reconcile_one(struct core *c, const struct sandbox_id *id, struct err *err);
/* Writes noted activity in one batch; forgets old idempotency keys. */
int core_flush(struct core *c, struct err *err);
/* Why /readyz says no; 0 when ready. */
int core_ready(struct core *c, struct err *err);

#endif
