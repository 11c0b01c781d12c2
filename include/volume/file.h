/* Files of one workspace, by descriptors below its root. One rule for paths in all calls:
 * relative = below workspace/app; a leading "workspace/app" (or "workspace/…") is taken from home;
 * absolute must lie below /home/sandbox. "." and ".." are folded by text; leaving the root is
 * ERR_PATH_ESCAPE, as is any symlink met on the way (and, on write, at the end). Threads: any. */
#ifndef VOLUME_FILE_H
#define VOLUME_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/* A checked path: relative to the workspace root (= /home/sandbox), no "..", no leading slash.
 * "" is the root itself. */
struct file_path {
    char text[4097];
    bool directory; /* written so that it can only name a directory: "", "x/", "x/.", "x/.." */
};
/* "" and "." are the app directory itself. ERR_INVALID (too long or deep, not UTF-8, a component
 * over 255 bytes) or ERR_PATH_ESCAPE. */
int file_path_parse(const char *text, struct file_path *ret, struct err *err);

enum file_type { FILE_REGULAR, FILE_DIR, FILE_SYMLINK, FILE_OTHER };
const char *file_type_name(enum file_type t); /* "file", "dir", "symlink", "other" */

struct file_entry {
    const char *path; /* relative to the directory listed; borrowed during the call */
    enum file_type type;
    uint64_t size;
    int64_t mtime_ms;
    unsigned mode; /* permission bits */
};
/* Lists a directory, sorted bytewise by path. recursive: all below it (links are never entered).
 * skip: names that are not entered nor listed, NULL-terminated, or NULL. At most FILE_LIST_MAX
 * entries; *ret_truncated says that there are more. each() returns 0 to go on. ERR_NOT_FOUND,
 * ERR_INVALID (not a directory). */
int file_list(int root, const struct file_path *dir, bool recursive, const char *const *skip,
              int (*each)(void *ctx, const struct file_entry *e), void *ctx, bool *ret_truncated,
              struct err *err);

/* Opens a regular file for reading (O_NONBLOCK; FIFOs, devices and sockets are refused with
 * ERR_INVALID). */
int file_open(int root, const struct file_path *path, int *ret_fd, uint64_t *ret_size,
              struct err *err);

/* Replaces (or makes) a file atomically: temporary file in the same directory, fsync, rename, fsync
 * of the directory. Parents are made (0775), the file is 0644 or keeps its mode; all belong to uid,
 * gid. */
struct file_put;
int file_put_begin(int root, const struct file_path *path, uint32_t uid, uint32_t gid,
                   struct file_put **ret, struct err *err);
int file_put_write(struct file_put *p, const void *data, size_t len, struct err *err);
/* Frees p in any case. */
int file_put_commit(struct file_put *p, uint64_t *ret_size, struct err *err);
/* Removes the temporary file, frees. NULL is fine. */
void file_put_abort(struct file_put *p);
/* Appends durably (made when missing). *ret_size: size afterwards. A file with several names (hard
 * links) is refused with ERR_PATH_ESCAPE. */
int file_append(int root, const struct file_path *path, uint32_t uid, uint32_t gid,
                const void *data, size_t len, uint64_t *ret_size, struct err *err);
/* Removes a file or link, or with recursive a whole directory. The root, workspace and
 * workspace/app themselves are refused. ERR_NOT_FOUND; ERR_CONFLICT: directory not empty, or a
 * mount in it. */
int file_remove(int root, const struct file_path *path, bool recursive, struct err *err);

#endif
