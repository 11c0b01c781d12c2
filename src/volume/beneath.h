/* The one way into a workspace (R1): every open below a root descriptor is an openat2 that stays
 * beneath it, enters no symbolic link, no magic link and no other mount. What comes back is a
 * verified descriptor; all further work names single components relative to such a descriptor.
 * Private to volume/. Threads: any. */
#ifndef BENEATH_H
#define BENEATH_H

#include <dirent.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include "base/err.h"

#define NAME_BYTES 256 /* one component and its NUL */
#define TEMP_NAME_BYTES 48

/* The descriptor (O_CLOEXEC, O_NOCTTY, O_NONBLOCK added), or -1 with errno. "" is dir itself. */
int beneath_open(int dir, const char *path, int flags, unsigned mode);
/* A directory for reading; ENOTDIR is ERR_INVALID. */
int beneath_dir(int dir, const char *path, int *ret_fd, struct err *err);
/* The same as a stream; dirfd() of it is the verified descriptor. */
int beneath_scan(int dir, const char *path, DIR **ret, struct err *err);
/* The next entry but "." and ".."; NULL at the end or with errno != 0. */
struct dirent *beneath_next(DIR *d);
/* Who owns a directory that is made on the way. */
struct owner {
    uint32_t uid, gid;
    bool unsynced; /* the caller syncs the whole tree later */
};
/* Opens the directory that holds the last component; leaf gets that component. A path without one
 * (the root) is ERR_INVALID. make: missing directories are made (0775) and synced; NULL: they are
 * ERR_NOT_FOUND. */
int beneath_parent(int root, const char *path, const struct owner *make, int *ret_dir,
                   char leaf[NAME_BYTES], struct err *err);
/* mkdir -p below root; the last one is opened. */
int beneath_mkdirs(int root, const char *path, const struct owner *make, int *ret_fd,
                   struct err *err);
/* lstat of one component in a verified directory: 0 or -1 with errno. */
int beneath_stat(int dir, const char *name, struct stat *ret);
/* Turns the errno of a failed call below a workspace into an err that names no path; returns -1. */
int beneath_fail(struct err *err, int sys);

/* Adds a directory that was opened here to an inotify instance; what inotify_add_watch says. */
int beneath_watch(int inotify, int dir, uint32_t mask);

/* A file to be written and later renamed into place: nameless where the file system can do that
 * (name becomes ""), else under a temporary name in dir. The descriptor, or -1 with errno. */
int beneath_temp(int dir, char name[TEMP_NAME_BYTES]);
void beneath_temp_name(char name[TEMP_NAME_BYTES]);
/* A temporary name of no run: what has it is to be removed. */
void beneath_trash_name(char name[TEMP_NAME_BYTES]);
/* Is this one of our temporary names? *ret_stale: made by an earlier run of the program, so nobody
 * will rename it any more. */
bool beneath_is_temp(const char *name, bool *ret_stale);

/* A directory of ours (the data directory), by path; path_out gets its absolute path without links.
 */
int beneath_root(const char *path, char *path_out, size_t size, int *ret_fd, struct err *err);

static inline void auto_dir(DIR **d)
{
    if (*d)
        (void)closedir(*d);
}

#endif
