/* One kept process in memory, and the table's calls for process.c. Private to core/. */
#ifndef CORE_PROC_H
#define CORE_PROC_H

#include "base/buf.h"
#include "base/mu.h"
#include "procs.h"

enum proc_work { PROC_NOTHING, PROC_ATTACH, PROC_FINISH }; /* for the keeper */

struct proc { /* all but `in` guarded by the table's lock; info's texts, id and number never change
               */
    struct process info;
    int fd;        /* its stream; -1: none */
    struct buf in; /* the loop thread's: bytes of a frame not yet whole */
    struct plog log;
    enum proc_work work;
    bool saved;   /* end and output are on disk */
    bool feeding; /* somebody writes to its stream */
    bool gone;    /* taken out of the table */
    bool eof;     /* no more stdin */
    int failed_errno;
    uint8_t failed_step;
    uint32_t refs;
    struct cond changed;
};

int procs_start(struct procs *t, struct err *err);
struct proc *procs_find(struct procs *t, const struct sandbox_id *sandbox,
                        const struct sandbox_id *id);
/* Newest first, each with a reference. Caller frees the array. */
size_t procs_list(struct procs *t, const struct sandbox_id *sandbox, struct proc ***ret);
void procs_unref(struct procs *t, struct proc *p);
/* Takes info's texts over; returns with a reference. */
struct proc *procs_add(struct procs *t, const struct process *info);
/* Takes it out of the table. */
void procs_forget(struct procs *t, struct proc *p);
int procs_remove(struct procs *t, struct proc *p, struct err *err);
void procs_take_stream(struct procs *t, struct proc *p, int fd);
int procs_load_output(struct procs *t, struct proc *p, struct err *err);
/* Keeps the newest ended ones: of the service of that name, or of those that are none (NULL). */
void procs_prune(struct procs *t, const struct sandbox_id *sandbox, const char *service);
void procs_wake_keeper(struct procs *t);
void procs_lock(struct procs *t) NO_THREAD_SAFETY;
void procs_unlock(struct procs *t) NO_THREAD_SAFETY;
/* With the lock held; false at the deadline. */
bool procs_wait(struct procs *t, struct proc *p, int64_t deadline_ms) NO_THREAD_SAFETY;
/* Called by the keeper when an end is on disk. */
void core_process_ended(struct core *c, struct proc *p);

#endif
