/* What the changes of single names share: entity tags, and the lock under which one is compared and
 * the change made. Private to volume/. Threads: any. */
#ifndef CHANGE_H
#define CHANGE_H

#include <stdbool.h>
#include <sys/stat.h>

#include "base/mu.h"
#include "volume/file.h"

void change_stat(const struct stat *st, struct file_stat *ret);
/* The lock of a workspace (one of a few that all share), by its root. It is held across a look at a
 * name and the call that changes it, never across a copy or a sync. */
struct mu *change_lock_of(int root);
/* The lock of a file that is appended to (one of a few), held over the copy: appends of many do not
 * mix, and what one takes back is its own. */
struct mu *append_lock_of(int fd);
/* Does it ask for anything? */
bool change_conditional(const struct file_match *match);
/* st: NULL when there is nothing. match: NULL is met. ERR_PRECONDITION. */
int change_check(const struct file_match *match, const struct stat *st, struct err *err);
/* The same for a name in a verified directory. */
int change_check_name(const struct file_match *match, int dir, const char *leaf, struct err *err);

/* Opens for appending, made when missing; refuses what is not a regular file with one name. */
int append_open(int dir, const char *leaf, uint32_t uid, uint32_t gid, int *ret_fd, bool *ret_made,
                struct err *err);
/* Takes back what a failed append left, where nobody else has appended since. */
void append_undo(int fd, const struct stat *before, uint64_t written);

/* Where a copy goes: never replaces when set; mode of a file that is new. */
void put_settle(struct file_put *p, bool keep, unsigned mode);
/* The descriptor that is being written. */
int put_fd(const struct file_put *p);

/* A directory under a temporary name in the workspace's root, closed to the sandbox, for what is to
 * be moved into place when it is whole; name: TEMP_NAME_BYTES. */
int stage_open(int root, char *name, int *ret_fd, struct err *err);
/* Removes it with all that is left in it. */
void stage_drop(int root, const char *name);
/* Takes a directory's name away, if match is met, and removes it with all that is in it: at once
 * where that is soon done, else later, by volume_trash_tick. ERR_CONFLICT: a mount is in it. */
int trash_tree(int root, int dir, const char *leaf, const struct file_match *match,
               struct err *err);
/* Something is left for volume_trash_tick. */
void trash_left(void);
/* Renames into place without replacing anything; 0 or -1 with errno. */
int rename_new(int from_dir, const char *from, int to_dir, const char *to);

#endif
