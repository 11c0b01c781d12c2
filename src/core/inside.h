/* What the files of core/ share. Private to the room. */
#ifndef CORE_INSIDE_H
#define CORE_INSIDE_H

#include <stdatomic.h>

#include "base/mu.h"
#include "core/core.h"
#include "core/process.h"
#include "core/traffic.h"
#include "health.h"
#include "procs.h"
#include "registry.h"
#include "services.h"

struct core {
    struct core_parts p;
    struct registry *registry;
    struct procs *procs;
    struct supervisor *supervisor;
    struct health *health;
    struct shares *shares;
    char *node;    /* this machine's name in the rows */
    uint64_t boot; /* of this start of the daemon: the upper half of the numbers it gives */
    atomic_uint numbered;
    atomic_bool booted;
    /* At most ENGINE_STARTS_AT_ONCE sandboxes are brought up at a time. */
    struct mu gate;
    struct cond gate_open, room;
    uint32_t starting GUARDED_BY(gate);
    uint32_t admitted GUARDED_BY(gate); /* starts whose memory is not in use yet */
    atomic_uint cpu_misses;             /* the reaper's: containers whose CPU use it did not see */
    struct traffic traffic;
    atomic_bool low_memory; /* set below the floor, cleared two points above it */
};

/* Moves the row along the edge of `event`: commits, then shows it in memory. m may be NULL. Returns
 * 0 and a new reference in *ret (NULL: not wanted); ERR_CONFLICT: no such edge, or somebody else
 * moved first. */
int core_fire(struct core *c, const struct sandbox *row, enum sandbox_event event,
              const struct store_move *m, const struct sandbox **ret, struct err *err);

/* From row and workspace to an agent that was heard. The caller owns the row's CREATING or STARTING
 * state; it ends in RUNNING, or in ERROR or STOPPED with the cause, and err says why. */
int core_bring_up(struct core *c, const struct sandbox *row, struct err *err);
/* Sets memory aside for one more start, given back by core_admitted when it is over. Waits a while
 * for starts under way when their memory is all that is missing. ERR_CAPACITY: low_memory, after
 * the reaper had one chance to make room. */
int core_admit(struct core *c, struct err *err);
void core_admitted(struct core *c);
/* Notes why it will sleep, for core_why: before anybody can see that it does. The text lives for
 * ever. */
void core_slept(struct core *c, const struct sandbox_id *id, const char *why);
/* Its container ended by itself, or was ended from outside. why: as core_ended_why says. */
void core_died(struct core *c, const struct sandbox_id *id, const char *why);
/* Refuses a visitor's wake when it would only crash again. */
int core_check_crash_loop(struct core *c, const struct sandbox *row, struct err *err);
/* Why a container that should run does not, for people. box: NULL when there is none. */
void core_ended_why(struct core *c, const struct sandbox_id *id,
                    const struct runtime_container *box, char out[ENDED_WHY_MAX]);
/* Thaws; the caller owns RESUMING. */
int core_thaw(struct core *c, const struct sandbox *row, struct err *err);
/* Freezes; the caller owns PAUSING. */
int core_freeze(struct core *c, const struct sandbox *row, struct err *err);
/* Ends the container; the caller owns STOPPING. */
int core_bring_down(struct core *c, const struct sandbox *row, const struct sandbox **ret,
                    struct err *err);
/* Container, workspace (on purge) and row go; the caller owns DELETING. */
int core_finish_delete(struct core *c, const struct sandbox *row, uint64_t *ret_freed,
                       struct err *err);

/* The row, when it is the caller's. */
const struct sandbox *core_own_row(struct core *c, const struct caller *who,
                                   const struct sandbox_id *id, struct err *err);
/* As core_own_row, once it is in no -ING state. *ret_start: as registry_settled says. */
const struct sandbox *core_settled_row(struct core *c, const struct caller *who,
                                       const struct sandbox_id *id, bool *ret_start,
                                       struct err *err);
/* core_process_start in a sandbox that is known to run (its services). */
int core_process_start_in(struct core *c, const struct sandbox *s, const struct process_spec *spec,
                          struct process *ret, struct err *err);
/* Takes up a process that its agent keeps of its own accord. ERR_NOT_FOUND: it does not; after any
 * other failure it is ended. */
int core_process_adopt(struct core *c, const struct sandbox *s, const struct process_spec *spec,
                       uint64_t number, struct sandbox_id *ret_id, struct err *err);
/* A JSON list of the strings; caller frees. */
char *core_argv_json(const struct strv *argv);
/* A number for the agent, never 0 and never given twice: it tells which start of the daemon gave
 * it.
 */
uint64_t core_process_number(struct core *c);
/* Given by this start of the daemon? */
bool core_process_ours(const struct core *c, uint64_t number);

/* TERM to all of it, KILL after a while; returns when it has ended, or resists. */
struct proc;
int core_end_process(struct core *c, struct proc *p, struct err *err);
/* A command for the agent; flags are SPAWN_… of wire/frames.h. */
struct core_command {
    const struct strv *argv;
    const char *cwd; /* NULL: the workspace */
    const struct strmap *env;
    uint32_t timeout_ms;
    uint32_t flags;
    uint64_t process;    /* with SPAWN_KEEP: what the agent is to know it by */
    uint16_t cols, rows; /* with SPAWN_PTY */
};
/* Checks it, waits for the agent and starts it; *ret_fd is its stream. */
int core_spawn(struct core *c, const struct sandbox *s, const struct core_command *cmd, int *ret_fd,
               struct err *err);
/* What an errno of a FRAME_FAILED means, in words. */
const char *core_failed_why(int sys);
/* Names, number and size of variables that a command or a sandbox is to get. */
int core_check_env(const struct strmap *env, struct err *err);
/* May commands begin there? By text alone. NULL: the default. */
int core_check_cwd(const char *cwd, struct err *err);
/* Fails with ERR_ENGINE when the engine is away: asked before a claim, so that nothing is begun in
 * vain. */
int core_engine_there(struct core *c, struct err *err);
/* Removes the files of a workspace and its record. */
int core_purge_workspace(struct core *c, const struct sandbox_id *id, uint64_t *ret_freed,
                         struct err *err);

#endif
