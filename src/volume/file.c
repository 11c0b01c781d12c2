/* Single files: reading, appending, removing. Each call opens once through beneath.c and then works
 * on that descriptor; what is not a regular file is refused after the open, which O_NONBLOCK keeps
 * from hanging on a FIFO. */
#include "volume/file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/limits.h"
#include "base/str.h"
#include "beneath.h"
#include "change.h"

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

/* Lost races (made or removed in between) are tried again. */
static int open_or_make(int dir, const char *leaf, bool *ret_made)
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

int append_open(int dir, const char *leaf, uint32_t uid, uint32_t gid, int *ret_fd, bool *ret_made,
                struct err *err)
{
    AUTO(fd) int fd = open_or_make(dir, leaf, ret_made);
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
    if (*ret_made && (fchown(fd, uid, gid) < 0 || fchmod(fd, 0644) < 0))
        return beneath_fail(err, errno);
    *ret_fd = TAKE_FD(fd);
    return 0;
}

/* That fails only where nothing can be written. */
void append_undo(int fd, const struct stat *before, uint64_t written)
{
    struct stat now;
    if (fstat(fd, &now) == 0 && now.st_size > before->st_size &&
        (uint64_t)(now.st_size - before->st_size) <= written)
        (void)!ftruncate(fd, before->st_size);
}

static int append_data(int fd, const void *data, size_t len, struct err *err)
{
    struct stat before;
    int sys = 0;
    struct mu *lock = append_lock_of(fd);
    mu_lock(lock);
    if (fstat(fd, &before) < 0) {
        sys = errno;
    } else if (fd_write_all(fd, data, len) < 0) {
        sys = errno;
        append_undo(fd, &before, len);
    }
    mu_unlock(lock);
    return sys ? beneath_fail(err, sys) : 0;
}

static int append_now(int dir, const char *leaf, const struct owner *own,
                      const struct file_match *match, const void *data, size_t len, int *ret_fd,
                      bool *ret_made, struct err *err)
{
    if (change_check_name(match, dir, leaf, err) < 0 ||
        append_open(dir, leaf, own->uid, own->gid, ret_fd, ret_made, err) < 0)
        return -1;
    return append_data(*ret_fd, data, len, err);
}

int file_append(int root, const struct file_path *path, uint32_t uid, uint32_t gid,
                const struct file_match *match, const void *data, size_t len, struct file_stat *ret,
                struct err *err)
{
    char leaf[NAME_BYTES];
    AUTO(fd) int dir = -1, fd = -1;
    bool stale, made = false;
    const struct owner make = { .uid = uid, .gid = gid };
    if (path->directory)
        return beneath_fail(err, EISDIR);
    if (beneath_parent(root, path->text, &make, &dir, leaf, err) < 0)
        return -1;
    if (beneath_is_temp(leaf, &stale))
        return err_set(err, ERR_INVALID, "the name is reserved for temporary files");
    struct mu *lock = change_lock_of(root);
    int rc;
    if (change_conditional(match)) {
        mu_lock(lock);
        rc = append_now(dir, leaf, &make, match, data, len, &fd, &made, err);
        mu_unlock(lock);
    } else {
        rc = append_now(dir, leaf, &make, NULL, data, len, &fd, &made, err);
    }
    if (rc < 0)
        return -1;
    if (fsync(fd) < 0 || (made && fsync(dir) < 0))
        return beneath_fail(err, errno);
    return file_fstat(fd, ret, err);
}

static int remove_name(int root, int dir, const char *leaf, bool is_dir,
                       const struct file_match *match, struct err *err)
{
    struct mu *lock = change_lock_of(root);
    mu_lock(lock);
    int rc = change_check_name(match, dir, leaf, err);
    if (rc == 0 && unlinkat(dir, leaf, is_dir ? AT_REMOVEDIR : 0) < 0)
        rc = beneath_fail(err, errno);
    mu_unlock(lock);
    return rc;
}

int file_remove(int root, const struct file_path *path, bool recursive,
                const struct file_match *match, struct err *err)
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
    const bool is_dir = S_ISDIR(st.st_mode);
    if (is_dir && recursive ? trash_tree(root, dir, leaf, match, err) < 0
                            : remove_name(root, dir, leaf, is_dir, match, err) < 0)
        return -1;
    if (fsync(dir) < 0)
        return beneath_fail(err, errno);
    return 0;
}
