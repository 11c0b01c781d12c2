/* Whole trees by descriptors: removing and copying. Private to volume/. Threads: any. */
#ifndef TREE_H
#define TREE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

/* Removes the directory `name` in parent with all below it; gone already is success. Never follows
 * a link, never enters a mount: one that lies inside is detached when unmount is set, else
 * ERR_CONFLICT. Any depth and width, three descriptors. ERR_TIMEOUT after the monotonic deadline
 * (somebody keeps filling it). *ret_freed grows by the bytes that were allocated. */
int tree_remove(int parent, const char *name, bool unmount, int64_t deadline_ms,
                uint64_t *ret_freed, struct err *err);

/* Bounds of a copy that a sandbox decides about. */
struct tree_bound {
    int64_t deadline_ms;
    uint64_t left;           /* entries; ERR_TOO_LARGE */
    bool (*gone)(void *ctx); /* does nobody wait any more? ERR_CANCELLED */
    void *ctx;
    int64_t look_ms; /* the copy's own: when to look at these again */
};
/* ERR_TOO_LARGE: more than FILE_COPY_ENTRIES_MAX. */
int tree_too_many(struct err *err);
/* Copies what the directory src holds into the empty directory dst: regular files (reflinked where
 * the file system can), directories and links, with mode and times, all owned by uid:gid. At most
 * PATH_DEPTH_MAX deep. bound: NULL for a tree of ours. *ret_files grows by the regular files
 * copied. */
int tree_clone(int src, int dst, uint32_t uid, uint32_t gid, struct tree_bound *bound,
               uint64_t *ret_files, struct err *err);

/* Copies the size bytes of in into the empty file out: reflink, else in the kernel, else by hand;
 * holes stay holes. bound: NULL, or as above (entries do not matter). */
int tree_copy_data(int in, int out, uint64_t size, struct tree_bound *bound, struct err *err);

#endif
