/* Single files: reading, appending, removing. Each call opens once through beneath.c and then works
 * on that descriptor; what is not a regular file is refused after the open, which O_NONBLOCK keeps
 * from hanging on a FIFO. */
#include "volume/file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/limits.h"
#include "base/str.h"
#include "beneath.h"
#include "tree.h"

#define NOT_REGULAR "the path does not name a regular file"

int file_open(int root, const struct file_path *path, int *ret_fd, uint64_t *ret_size,
              struct err *err)
{
    if (path->directory)
        return beneath_fail(err, EISDIR);
    AUTO(fd) int fd = beneath_open(root, path->text, O_RDONLY, 0);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) < 0)
        return beneath_fail(err, errno);
    if (!S_ISREG(st.st_mode))
        return err_set(err, ERR_INVALID, NOT_REGULAR);
    *ret_size = (uint64_t)st.st_size;
    *ret_fd = TAKE_FD(fd);
    return 0;
}

/* Opens for appending, making it when missing. Lost races (made or removed in between) are tried
 * again. */
static int open_append(int dir, const char *leaf, bool *ret_made)
{
    int fd = -1;
    for (int i = 0; i < 8 && fd < 0; i++) {
        *ret_made = false;
        fd = beneath_open(dir, leaf, O_WRONLY | O_APPEND, 0);
        if (fd >= 0 || errno != ENOENT)
            break;
        *ret_made = true;
        fd = beneath_open(dir, leaf, O_WRONLY | O_APPEND | O_CREAT | O_EXCL, 0600);
        if (fd < 0 && errno != EEXIST)
            break;
    }
    return fd;
}

int file_append(int root, const struct file_path *path, uint32_t uid, uint32_t gid,
                const void *data, size_t len, uint64_t *ret_size, struct err *err)
{
    char leaf[NAME_BYTES];
    AUTO(fd) int dir = -1;
    bool stale, made = false;
    const struct owner make = { .uid = uid, .gid = gid };
    if (path->directory)
        return beneath_fail(err, EISDIR);
    if (beneath_parent(root, path->text, &make, &dir, leaf, err) < 0)
        return -1;
    if (beneath_is_temp(leaf, &stale))
        return err_set(err, ERR_INVALID, "the name is reserved for temporary files");
    AUTO(fd) int fd = open_append(dir, leaf, &made);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) < 0)
        return beneath_fail(err, errno);
    if (!S_ISREG(st.st_mode))
        return err_set(err, ERR_INVALID, NOT_REGULAR);
    /* The kernel lets nobody link a file into a workspace from another mount. Should a copy tool of
     * the operator's have done so, writing here would change the other file too: the one write that
     * goes to an inode rather than to a name. Whole writes replace the name, reads change nothing
     * (T-6). */
    if (st.st_nlink > 1) {
        (void)err_set(err, ERR_PATH_ESCAPE, "the file has several names (hard links)");
        return err_remedy(err, "Write the whole file instead: that gives this name its own file.");
    }
    if (made && (fchown(fd, uid, gid) < 0 || fchmod(fd, 0644) < 0))
        return beneath_fail(err, errno);
    if (fd_write_all(fd, data, len) < 0) {
        int sys = errno;
        /* Half of what was asked for must not stay; that fails only where nothing can be written.
         */
        struct stat now;
        if (fstat(fd, &now) == 0 && now.st_size > st.st_size &&
            (uint64_t)(now.st_size - st.st_size) < len)
            (void)!ftruncate(fd, st.st_size);
        return beneath_fail(err, sys);
    }
    if (fsync(fd) < 0 || (made && fsync(dir) < 0) || fstat(fd, &st) < 0)
        return beneath_fail(err, errno);
    *ret_size = (uint64_t)st.st_size;
    return 0;
}

int file_remove(int root, const struct file_path *path, bool recursive, struct err *err)
{
    const char *text = path->text;
    if (!*text || str_eq(text, "workspace") || str_eq(text, "workspace/app"))
        return err_set(err, ERR_INVALID, "the workspace's own directories cannot be removed");
    char leaf[NAME_BYTES];
    AUTO(fd) int dir = -1;
    if (beneath_parent(root, text, NULL, &dir, leaf, err) < 0)
        return -1;
    struct stat st;
    if (beneath_stat(dir, leaf, &st) < 0)
        return beneath_fail(err, errno);
    if (path->directory && !S_ISDIR(st.st_mode))
        return beneath_fail(err, ENOTDIR);
    /* unlinkat follows nothing: a link goes, its target stays. */
    if (S_ISDIR(st.st_mode) && recursive) {
        uint64_t freed = 0;
        if (tree_remove(dir, leaf, false, clock_mono_ms() + FILE_REMOVE_MS, &freed, err) < 0)
            return -1;
    } else if (unlinkat(dir, leaf, S_ISDIR(st.st_mode) ? AT_REMOVEDIR : 0) < 0) {
        return beneath_fail(err, errno);
    }
    if (fsync(dir) < 0)
        return beneath_fail(err, errno);
    return 0;
}
