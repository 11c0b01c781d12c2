/* Processes that outlive their clients: started in the background, followed from any offset, fed,
 * signalled, and looked at after their end, after their sandbox slept and after the daemon
 * restarted.
 *
 * A process belongs to one start of its sandbox: when the sandbox stops, it ends; its output and
 * status stay. Output is kept as a ring of PROCESS_OUTPUT_KEEP bytes; who asks for what is gone is
 * told how much is missing. Threads: any. */
#ifndef CORE_PROCESS_H
#define CORE_PROCESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "core/core.h"

/* state, word, and what is true in it */
#define PROCESS_STATES(S)                                         \
    S(RUNNING, "running", "its agent has it, or is being asked")  \
    S(EXITED, "exited", "exit_code or signal tells how it ended") \
    S(LOST, "lost", "it ended unseen: the sandbox stopped, or its supervisor was killed")

enum process_state {
#define PROCESS_STATE_ENUM(name, word, truth) PROCESS_##name,
    PROCESS_STATES(PROCESS_STATE_ENUM)
#undef PROCESS_STATE_ENUM
        PROCESS_STATE_COUNT
};
const char *process_state_name(enum process_state s);

struct process {
    struct sandbox_id id; /* a ULID like all ids */
    struct sandbox_id sandbox;
    enum process_state state;
    char *argv;      /* JSON list */
    char *cwd;       /* as asked for; NULL: the workspace */
    char *service;   /* name; NULL: none */
    uint32_t epoch;  /* of the sandbox's start it belongs to */
    uint64_t number; /* what the agent knows it by */
    uint32_t pid;    /* inside the sandbox; 0: not heard yet */
    bool pty;
    bool tied; /* ends when nobody follows it any longer */
    int exit_code;
    uint32_t signal;
    bool timed_out;
    uint64_t bytes;                     /* of output, both streams */
    int64_t started_at_ms, ended_at_ms; /* wall clock; ended 0: not yet */
};
void process_release(struct process *p);

struct process_spec {
    const struct strv *argv;
    const char *cwd;
    const struct strmap *env;
    uint32_t timeout_ms;
    bool hold;           /* its output waits for a first reader that holds, PROCESS_HOLD_MS */
    bool stdin_open;     /* fed later by core_process_feed; else /dev/null */
    uint16_t cols, rows; /* not 0: a terminal of that size */
    bool tied;           /* ends PROCESS_REFOLLOW_MS after its last follower has left */
    const char *service; /* NULL: none */
};
/* Wakes the sandbox, writes the record, starts. Caller process_release()s *ret. Errors as
 * core_exec. */
int core_process_start(struct core *c, const struct caller *who, const struct sandbox_id *sandbox,
                       const struct process_spec *spec, struct process *ret, struct err *err);
/* ERR_NOT_FOUND also when it is another sandbox's or another tenant's. */
int core_process_get(struct core *c, const struct caller *who, const struct sandbox_id *sandbox,
                     const struct sandbox_id *id, struct process *ret, struct err *err);
/* Newest first; caller releases each and frees the array. */
int core_process_list(struct core *c, const struct caller *who, const struct sandbox_id *sandbox,
                      struct process **ret, size_t *ret_count, struct err *err);
/* signal 1-64 to the process group; tree: to it and all descendants. ERR_CONFLICT: ended already.
 */
int core_process_signal(struct core *c, const struct caller *who, const struct sandbox_id *sandbox,
                        const struct sandbox_id *id, uint32_t signal, bool tree, struct err *err);
/* Bytes for its stdin or terminal; eof: no more will come. Blocks while the process does not read,
 * at most PROCESS_FEED_MS (ERR_TIMEOUT; *ret_taken tells how much it got). ERR_CONFLICT: ended, or
 * stdin is closed. */
int core_process_feed(struct core *c, const struct caller *who, const struct sandbox_id *sandbox,
                      const struct sandbox_id *id, const void *data, size_t len, bool eof,
                      size_t *ret_taken, struct err *err);
int core_process_resize(struct core *c, const struct caller *who, const struct sandbox_id *sandbox,
                        const struct sandbox_id *id, uint16_t cols, uint16_t rows, struct err *err);
/* Ends it if it runs, forgets record and output. */
int core_process_remove(struct core *c, const struct caller *who, const struct sandbox_id *sandbox,
                        const struct sandbox_id *id, struct err *err);

/* Notes in the audit that somebody at the address `remote` did something with a process: opened,
 * attached to or left a terminal. why: may be NULL. */
int core_process_note(struct core *c, const struct caller *who, const struct sandbox_id *sandbox,
                      const struct sandbox_id *id, const char *action, const char *remote,
                      const char *why, struct err *err);

/* --- output --- */
struct follow; /* a reader; one thread at a time */
int core_follow(struct core *c, const struct caller *who, const struct sandbox_id *sandbox,
                const struct sandbox_id *id, struct follow **ret, struct err *err);
void follow_free(struct follow *f);
/* From now on the process waits for this reader, who begins at offset, rather than that it loses
 * output: once, before the first follow_next. After follow_free it waits PROCESS_HOLD_MS more, for
 * whoever comes back; what was on its way to who left may be gone. */
void follow_hold(struct follow *f, uint64_t offset);
struct follow_chunk {
    enum exec_stream stream;
    uint64_t offset; /* of its first byte, counting both streams from 0 */
    uint64_t lost;   /* bytes before it that were asked for and are gone */
    int64_t at_ms;   /* wall clock when it came, to PROCESS_TIME_STEP_MS */
    size_t len;      /* 0: nothing came until the deadline, or the end */
    bool ended;      /* the process has ended and this was all */
};
/* Output from `offset` on, at most size bytes of one stream into data. Waits until the monotonic
 * deadline when there is none yet. */
int follow_next(struct follow *f, uint64_t offset, void *data, size_t size, int64_t deadline_ms,
                struct follow_chunk *ret, struct err *err);
/* The record as it is now; caller releases. */
void follow_process(struct follow *f, struct process *ret);

#endif
