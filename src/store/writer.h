/* The one thread that writes. Private to store/. Threads: any. */
#ifndef STORE_WRITER_H
#define STORE_WRITER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "home.h"
#include "sql.h"

/* One request, run inside its own SAVEPOINT on the writer's thread. -1 undoes it alone. It may be
 * run twice (after a full disk): what it leaves in arg must be set anew by each run. */
typedef int (*write_fn)(struct db *db, void *arg, struct err *err);

struct writer;

/* Takes the connection over, in any case. home is borrowed. */
int writer_new(struct db *db, const struct home *home, struct writer **ret, struct err *err);
/* Commits what is queued, joins, closes the connection. NULL is fine. */
void writer_free(struct writer *w);
/* Queues fn and waits until it is on disk or failed. relief: it leads to freed space, so on a full
 * disk the reserve is spent on it. Errors of fn; ERR_NO_SPACE; ERR_INTERNAL: the disk failed, and
 * from then on nothing is written. */
int writer_run(struct writer *w, write_fn fn, void *arg, bool relief, struct err *err);
/* Is it able to write? */
int writer_ping(struct writer *w, struct err *err);

/* Counters for tests: commits < writes is group commit at work. */
struct writer_stats {
    uint64_t writes, commits, checkpoints;
};
void writer_stats(struct writer *w, struct writer_stats *ret);

#endif
