/* The table of kept processes and one of them, for procs.c, keeper.c and process.c. Private to
 * core/. */
#ifndef CORE_PROC_H
#define CORE_PROC_H

#include "base/buf.h"
#include "base/mu.h"
#include "procs.h"

#define ASKERS_MAX                                                                \
    16 /* agents asked at once for streams that were lost; a silent one takes 3 s \
        */
#define ASKERS_BACKLOG 1024
#define ASKER_IDLE_MS 10000

enum proc_work { PROC_NOTHING, PROC_ATTACH, PROC_FINISH }; /* for the keeper */

struct proc { /* all but `in` guarded by the table's lock; info's texts, ids, number, epoch and pty
                 never change */
    struct process info;
    int fd;        /* its stream; -1: none */
    struct buf in; /* the loop thread's: bytes of a frame not yet whole */
    struct plog log;
    enum proc_work work;
    int64_t due_ms; /* ATTACH: monotonic */
    bool saved;     /* its end is on disk */
    bool on_disk;   /* its output, too: what is in memory may go */
    uint32_t followers;
    int64_t unseen_ms; /* monotonic: since when there is none */
    bool feeding;      /* somebody writes to its stream */
    bool gone;         /* taken out of the table */
    bool eof;          /* no more stdin */
    bool failed;       /* it could not be started: */
    int failed_errno;
    uint8_t failed_step;
    uint32_t refs;
    struct cond changed;
};

struct procs {
    struct core *core;
    char *dir; /* <data>/processes */
    struct mu lock;
    struct proc **items GUARDED_BY(lock); /* sorted by id: oldest first */
    size_t count GUARDED_BY(lock), room GUARDED_BY(lock);
    struct sandbox_id *asked GUARDED_BY(lock); /* sandboxes that an asker is at */
    size_t n_asked GUARDED_BY(lock);
    bool stopping GUARDED_BY(lock);
    int epoll, stop_fd;
    unsigned long loop;
    struct worker *keeper;
    struct pool *askers;
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

/* --- keeper.c --- */
int64_t keeper_tick(void *ctx, int64_t mono_ms);
/* Whoever reads p->log calls it in between; output that is only on disk is read back. */
int output_open(struct procs *t, struct proc *p, struct err *err);
void output_close(struct procs *t, struct proc *p);
void output_remove(struct procs *t, const struct proc *p);
/* All files of a sandbox. */
void output_drop(struct procs *t, const struct sandbox_id *sandbox);

/* Ends terminals that nobody has looked at for so long. */
void procs_end_unseen(struct procs *t, int64_t idle_ms);
/* Called by the keeper when an end is on disk. */
void core_process_ended(struct core *c, struct proc *p);

#endif
