/* The table of kept processes and one of them, for procs.c, keeper.c and process.c. Private to
 * core/. */
#ifndef CORE_PROC_H
#define CORE_PROC_H

#include "base/buf.h"
#include "base/mu.h"
#include "procs.h"

/* Agents asked at once for streams that were lost; a silent one takes 3 s. */
#define ASKERS_MAX 16
#define ENDERS_MAX 16 /* processes ended at once, of as many sandboxes; what resists takes 5 s */
#define ASKERS_BACKLOG 1024
#define ASKER_IDLE_MS 10000

enum proc_work { PROC_NOTHING, PROC_ATTACH, PROC_FINISH, PROC_END }; /* for the keeper */

struct proc { /* all but `in` guarded by the table's lock; info's texts, ids, number, epoch and pty
                 never change */
    struct process info;
    int fd;        /* its stream; -1: none */
    struct buf in; /* the loop thread's: bytes of a frame not yet whole */
    struct plog log;
    enum proc_work work;
    int64_t due_ms;         /* ATTACH: monotonic */
    bool saved;             /* its end is on disk */
    bool on_disk;           /* its output, too: what is in memory may go */
    uint32_t followers;     /* who reads its output, or holds it: */
    int64_t unseen_ms;      /* monotonic: since when there is none; a terminal ends by it */
    int64_t alone_until_ms; /* monotonic: a tied one is ended then, unless somebody follows */
    bool unwanted;          /* as if it were tied: a terminal that nobody has looked at for long */
    struct follow *holders; /* those of the followers that the process waits for */
    uint64_t held_at;       /* and for one that is to come, at this offset, ... */
    int64_t held_until_ms;  /* ... until then, monotonic; 0: none is to come */
    bool held;              /* its stream is not listened to until they have read on */
    bool feeding;           /* somebody writes to its stream */
    bool gone;              /* taken out of the table */
    bool eof;               /* no more stdin */
    bool failed;            /* it could not be started: */
    int failed_errno;
    uint8_t failed_step;
    uint32_t refs;
    struct cond changed;
};

/* Sandboxes that a thread of a pool is at: one thread each, whatever they have to be asked. */
struct busy {
    struct sandbox_id *ids;
    size_t count;
};

struct procs {
    struct core *core;
    char *dir; /* <data>/processes */
    struct mu lock;
    struct proc **items GUARDED_BY(lock); /* sorted by id: oldest first */
    size_t count GUARDED_BY(lock), room GUARDED_BY(lock);
    struct busy asked GUARDED_BY(lock), ending GUARDED_BY(lock);
    bool stopping GUARDED_BY(lock);
    size_t freed GUARDED_BY(lock); /* bytes of output since memory was last given back */
    struct cond saved;             /* an end is on disk, or its record gone */
    int epoll, stop_fd;
    unsigned long loop;
    struct worker *keeper;
    struct pool *askers, *enders;
};

/* --- procs.c --- */
struct proc *procs_find(struct procs *t, const struct sandbox_id *sandbox,
                        const struct sandbox_id *id);
/* Newest first, each with a reference. Caller frees the array. */
size_t procs_list(struct procs *t, const struct sandbox_id *sandbox, struct proc ***ret);
void procs_unref(struct procs *t, struct proc *p);
/* Takes info's texts over; returns with a reference. */
struct proc *procs_add(struct procs *t, const struct process *info);
/* Takes it out of the table, once. */
void procs_forget(struct procs *t, struct proc *p);
/* Ends it if it runs; record and output go. */
int procs_remove(struct procs *t, struct proc *p, struct err *err);
void procs_take_stream(struct procs *t, struct proc *p, int fd);
/* What its holders have not read yet changed: listens to its stream, or not. */
void procs_hold_locked(struct procs *t, struct proc *p) REQUIRES(t->lock);
/* Has the keeper look at what there is to do. */
void procs_wake(struct procs *t);
/* Has the agent asked for the stream of a process that may or may not have been started. */
void procs_ask(struct procs *t, struct proc *p);
/* Keeps the newest ended ones: of the service of that name, or of those that are none (NULL). */
void procs_prune(struct procs *t, const struct sandbox_id *sandbox, const char *service);
/* Index of the first whose id is not below id. */
size_t procs_at_locked(struct procs *t, const struct sandbox_id *id) REQUIRES(t->lock);
void procs_ended_locked(struct procs *t, struct proc *p, enum process_state state)
    REQUIRES(t->lock);
/* Has terminals ended that nobody has looked at for so long. */
void procs_end_unseen(struct procs *t, int64_t idle_ms);

/* --- process.c --- */
/* The proc with a reference, when the sandbox is the caller's. */
struct proc *process_find(struct core *c, const struct caller *who,
                          const struct sandbox_id *sandbox, const struct sandbox_id *id,
                          struct err *err);
/* With texts of its own; caller process_release()s. */
void process_copy(struct procs *t, struct proc *p, struct process *ret);

/* --- follow.c --- */
/* The lowest offset that a holder still wants; UINT64_MAX without any. */
uint64_t follow_held_locked(struct procs *t, const struct proc *p) REQUIRES(t->lock);

/* --- keeper.c --- */
int64_t keeper_tick(void *ctx, int64_t mono_ms);
/* Ends what agents told of that has no record: an earlier daemon left it. For the loop thread: does
 * not wait. */
void keeper_end_unknown(struct procs *t);
/* How many of the sandbox have ended and are not on disk yet: until then their agent has no room
 * for others in their place. */
uint32_t keeper_unsaved(struct procs *t, const struct sandbox_id *sandbox);
/* Waits until they are fewer; false: not until the deadline. */
bool keeper_await(struct procs *t, const struct sandbox_id *sandbox, uint32_t count,
                  int64_t deadline_ms);
/* Whoever reads p->log calls it in between; output that is only on disk is read back. */
int output_open(struct procs *t, struct proc *p, struct err *err);
void output_close(struct procs *t, struct proc *p);
void output_remove(struct procs *t, const struct proc *p);
/* All files of a sandbox. */
void output_drop(struct procs *t, const struct sandbox_id *sandbox);

/* --- service.c --- */
/* Called by the keeper when an end is on disk. */
void core_process_ended(struct core *c, struct proc *p);

#endif
