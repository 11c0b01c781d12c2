/* Changes below a directory of a workspace, as the kernel tells them; the sandbox may be asleep.
 * One thread at a time per watch. At most FILE_WATCHES_MAX of them. */
#ifndef VOLUME_WATCH_H
#define VOLUME_WATCH_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "volume/file.h"

enum file_change {
    FILE_CREATED,
    FILE_MODIFIED, /* written and closed, or replaced by a rename */
    FILE_REMOVED,
    FILE_MOVED,  /* `from` is the old path */
    FILE_ATTRIB, /* mode, owner or times */
    FILE_RESET,  /* changes were lost: list again; all directories are watched anew */
    FILE_LIMIT,  /* more directories than FILE_WATCH_DIRS_MAX: those beyond are not watched */
    FILE_GONE,   /* the directory itself is gone or moved; nothing will follow */
};
struct file_watch_event {
    enum file_change change;
    enum file_type type; /* FILE_DIR or FILE_REGULAR, for whatever is no directory */
    const char *path;    /* relative to the directory watched; borrowed during the call */
    const char *from;
};

struct file_watch;
/* All changes from now on will be told. recursive: links are never entered, names of skip neither.
 * ERR_CAPACITY. */
int file_watch_new(int root, const struct file_path *dir, bool recursive, const char *const *skip,
                   struct file_watch **ret, struct err *err);
void file_watch_free(struct file_watch *w);
/* Directories that are watched now. */
uint32_t file_watch_count(const struct file_watch *w);
/* Waits until the monotonic deadline or until wake_fd (or -1) hangs up, and tells what there is.
 * each() returns -1 to end it. 1: told something, 0: nothing came, -1: ended. */
int file_watch_next(struct file_watch *w, int wake_fd, int64_t deadline_ms,
                    int (*each)(void *ctx, const struct file_watch_event *e), void *ctx);

#endif
