/* Workspaces: where they lie, how they are seeded, what they use.
 *
 * Back end "directory": <data>/workspaces/<id>/ cloned from a golden copy <data>/golden/<digest>/
 * of the image's /home/sandbox. The daemon never follows a link in a workspace and never uses a
 * path into it: everything below the root descriptor goes through openat2 (R1). Threads: any. */
#ifndef VOLUME_VOLUME_H
#define VOLUME_VOLUME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "model/id.h"

struct volume; /* the room's handle: data directory and golden copies */

/* Refuses (ERR_NOT_SUPPORTED) where openat2 is missing. uid, gid own every workspace (1000). */
int volume_new(const char *data_dir, uint32_t uid, uint32_t gid, struct volume **ret,
               struct err *err);
void volume_free(struct volume *v);

/* Fills the golden copy of an image when it is not there yet. fetch() is called at most once at a
 * time for a digest: it pushes bytes of a tar of /home/sandbox through volume_golden_feed and
 * returns 0, or -1; ERR_NOT_FOUND from it means the image has no such directory: a skeleton is made
 * instead. */
struct volume_seed;
int volume_golden_feed(void *seed, const void *data, size_t len, struct err *err);
int volume_golden_ensure(struct volume *v, const char *digest,
                         int (*fetch)(void *ctx, void *seed, struct err *err), void *ctx,
                         struct err *err);

/* Makes the workspace from the golden copy unless it is there; a half-made one is made again.
 * Returns its identity for the record (T-10). */
int volume_make(struct volume *v, const struct sandbox_id *id, const char *digest,
                uint64_t *ret_dev, uint64_t *ret_ino, struct err *err);
/* Host path for the container's mount. out: at least 4096 bytes. */
void volume_path(const struct volume *v, const struct sandbox_id *id, char *out, size_t size);
/* Descriptor of the workspace root (O_PATH-free, O_DIRECTORY). ERR_NOT_FOUND: no workspace. */
int volume_open(struct volume *v, const struct sandbox_id *id, int *ret_fd, struct err *err);
/* Removes it by descriptors, never crossing a device or following a link. dev, ino: recorded
 * identity or 0. Gone already: 0. It is out of sight when this returns; of a large one some is
 * removed later, by volume_trash_tick (a worker's round). *ret_freed: bytes freed by now. */
int volume_purge(struct volume *v, const struct sandbox_id *id, uint64_t dev, uint64_t ino,
                 uint64_t *ret_freed, struct err *err);

struct volume_usage {
    uint64_t limit_bytes; /* 0: none known here */
    uint64_t used_bytes;
    bool known;           /* measured at least once */
    const char *enforced; /* "none" for the directory back end */
};
/* The last measured usage; never blocks. Marks it stale with volume_touched; the measuring itself
 * is volume_measure_tick (a worker's round). */
void volume_usage(struct volume *v, const struct sandbox_id *id, struct volume_usage *ret);
void volume_touched(struct volume *v, const struct sandbox_id *id);
int64_t volume_measure_tick(void *volume, int64_t mono_ms);
/* Removes what purges and removals of files left (a worker's round). */
int64_t volume_trash_tick(void *volume, int64_t mono_ms);
/* Removes half-made directories of an earlier run; at boot. */
int volume_sweep(struct volume *v, struct err *err);

#endif
