/* The directory <data_dir>/state: who may use it, and what lies in it. Private to store/. */
#ifndef STORE_HOME_H
#define STORE_HOME_H

#include <stdbool.h>

#include "base/err.h"

#define HOME_DB "sandboxd.db"
#define HOME_NEW HOME_DB ".new" /* a first database until it is whole */
#define HOME_RESERVE "reserve"

struct home {
    char *path; /* <data_dir>/state */
    int dir;    /* its descriptor */
    int lock;   /* held by flock for as long as it is open */
};

/* Makes the directories (0700) and takes the lock. ERR_CONFLICT: somebody else has it. */
int home_open(struct home *h, const char *data_dir, struct err *err);
/* Half-built is fine. */
void home_release(struct home *h);
/* "<path>/<name>"; caller frees. */
char *home_path(const struct home *h, const char *name);
/* Makes an empty file of mode 0600, where none is yet; SQLite's own files take its mode over. */
int home_touch(const struct home *h, const char *name, struct err *err);

/* A megabyte kept for the day the disk is full: given back, stopping and deleting still work.
 * Best effort: without it they are refused like any write. */
bool home_reserve_fill(const struct home *h);
/* Was there one to give back? */
bool home_reserve_drop(const struct home *h);

#endif
