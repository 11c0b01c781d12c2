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
/* The same of something that is there already: its name may be bytes that are no text. */
int file_path_parse_there(const char *text, struct file_path *ret, struct err *err);

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

/* A part of a tree in an order that can be taken up again: each directory before what it holds,
 * names of one directory bytewise. At most depth levels, at most limit entries behind `after` (a
 * path as it was told, or NULL). *ret_more: there are more behind the last one told; also where
 * FILE_PAGE_MS were over. Bounded in memory by limit, whatever the directories hold. */
struct file_page {
    unsigned depth;
    uint32_t limit;
    const char *after;
    const char *const *skip;
};
int file_page(int root, const struct file_path *dir, const struct file_page *page,
              int (*each)(void *ctx, const struct file_entry *e), void *ctx, bool *ret_more,
              struct err *err);

/* Opens a regular file for reading (O_NONBLOCK; FIFOs, devices and sockets are refused with
 * ERR_INVALID). */
int file_open(int root, const struct file_path *path, int *ret_fd, uint64_t *ret_size,
              struct err *err);

/* What a file or directory is right now. Links are told as links. */
#define FILE_ETAG_MAX 72
struct file_stat {
    enum file_type type;
    uint64_t size; /* of a regular file, else 0 */
    int64_t mtime_ms;
    unsigned mode; /* permission bits */
    /* With its quotes. Changes with content, mode and every replacement; the kernel's clock ticks
     * every few milliseconds, so two writes from inside within one tick may share it. */
    char etag[FILE_ETAG_MAX];
};
int file_stat(int root, const struct file_path *path, struct file_stat *ret, struct err *err);
/* The same of an open descriptor. */
int file_fstat(int fd, struct file_stat *ret, struct err *err);

/* What must be true of the target for a change to be made: If-Match and If-None-Match as they came
 * (RFC 9110, 13.1), or NULL. Compared and changed as one step with regard to all calls of this
 * door, for what a sandbox does to itself at the same moment that cannot be. Not met:
 * ERR_PRECONDITION. */
struct file_match {
    const char *if_match, *if_none_match;
};
/* Is etag (NULL: nothing is there) on the list? weak: W/ is looked through. */
bool file_etag_listed(const char *list, const char *etag, bool weak);

/* Replaces (or makes) a file atomically: temporary file in the same directory, fsync, rename (or
 * link, where it is new), fsync of the directory. Parents are made (0775), the file is 0644 or
 * keeps its mode; all belong to uid, gid. */
struct file_put;
int file_put_begin(int root, const struct file_path *path, uint32_t uid, uint32_t gid,
                   struct file_put **ret, struct err *err);
/* Checks now, and again at the end; match must live until then. */
int file_put_expect(struct file_put *p, const struct file_match *match, struct err *err);
int file_put_write(struct file_put *p, const void *data, size_t len, struct err *err);
/* Frees p in any case. ret: the new file. */
int file_put_commit(struct file_put *p, struct file_stat *ret, struct err *err);
/* Appends what was written to the target instead, all or nothing. Frees p in any case. */
int file_put_append(struct file_put *p, struct file_stat *ret, struct err *err);
/* Removes the temporary file, frees. NULL is fine. */
void file_put_abort(struct file_put *p);
/* Appends durably (made when missing). match may be NULL. A file with several names (hard links)
 * is refused with ERR_PATH_ESCAPE. */
int file_append(int root, const struct file_path *path, uint32_t uid, uint32_t gid,
                const struct file_match *match, const void *data, size_t len, struct file_stat *ret,
                struct err *err);
/* Removes a file or link, or with recursive a whole directory. The root, workspace and
 * workspace/app themselves are refused. A large directory is out of sight at once and removed in
 * the background. match may be NULL. ERR_NOT_FOUND; ERR_CONFLICT: directory not empty, or a mount
 * in it. */
int file_remove(int root, const struct file_path *path, bool recursive,
                const struct file_match *match, struct err *err);

/* Gives a file, directory or link another name; parents are made. ERR_CONFLICT: there is something
 * by that name, unless overwrite: then a regular file is replaced. match: of what is moved. */
int file_move(int root, const struct file_path *from, const struct file_path *to, bool overwrite,
              uint32_t uid, uint32_t gid, const struct file_match *match, struct file_stat *ret,
              struct err *err);
/* Copies a regular file or a whole directory (its links as links, FIFOs and devices not at all);
 * the copy appears whole or not at all. As file_move otherwise; a directory replaces nothing.
 * gone() is asked now and then whether nobody waits any more. */
int file_copy(int root, const struct file_path *from, const struct file_path *to, bool overwrite,
              uint32_t uid, uint32_t gid, bool (*gone)(void *ctx), void *ctx, struct file_stat *ret,
              struct err *err);
/* Makes a directory. parents: missing ones are made, and one that is there already is success
 * (*ret_made false). */
int file_mkdir(int root, const struct file_path *path, bool parents, unsigned mode, uint32_t uid,
               uint32_t gid, bool *ret_made, struct file_stat *ret, struct err *err);
/* Permission bits (0777) of a regular file with one name, or of a directory. */
int file_chmod(int root, const struct file_path *path, unsigned mode, struct file_stat *ret,
               struct err *err);

#endif
