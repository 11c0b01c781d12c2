/* Whole-file writes that are either there or not (F-25).
 *
 * The bytes go into a nameless file in the verified directory (a named temporary one where the file
 * system has no O_TMPFILE), which commit syncs. Where nothing stands at the target the file is
 * linked there at once, so that whoever watches is told of a creation; else it gets a temporary
 * name and is renamed over the target. Then the directory is synced. A crash before that leaves the
 * old file, or none; what it may leave beside it, a file under one of our temporary names, is never
 * listed and is removed by the next list that meets it. link replaces nothing, and rename replaces
 * the name itself, so a link that a sandbox puts there in the last moment is lost, not followed. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fault.h"
#include "base/fd.h"
#include "base/limits.h"
#include "base/str.h"
#include "beneath.h"
#include "change.h"

struct file_put {
    int dir;
    int fd;
    char leaf[NAME_BYTES];
    char temp[TEMP_NAME_BYTES]; /* "": nameless so far */
    uint32_t uid, gid;
    unsigned mode; /* of a file that is new */
    bool keep;     /* never replaces */
    bool failed;   /* a write failed: never commit */
    const struct file_match *match;
    struct mu *lock;          /* of the workspace */
    uint64_t written, handed; /* bytes; the disk was told to begin with the first `handed` */
};

/* What is at the target now? The file gets its permission bits; only regular files may be replaced.
 */
static int target_mode(const struct file_put *p, unsigned *ret_mode, struct err *err)
{
    struct stat st;
    if (beneath_stat(p->dir, p->leaf, &st) < 0) {
        if (errno != ENOENT)
            return beneath_fail(err, errno);
        *ret_mode = p->mode;
        return change_check(p->match, NULL, err);
    }
    if (p->keep)
        return err_set(err, ERR_CONFLICT, "there is something by that name already");
    if (S_ISLNK(st.st_mode))
        return beneath_fail(err, ELOOP);
    if (S_ISDIR(st.st_mode))
        return beneath_fail(err, EISDIR);
    if (!S_ISREG(st.st_mode))
        return beneath_fail(err, ENXIO);
    *ret_mode = st.st_mode & 0777;
    return change_check(p->match, &st, err);
}

void file_put_abort(struct file_put *p)
{
    if (!p)
        return;
    if (p->temp[0])
        (void)unlinkat(p->dir, p->temp,
                       0); /* if that fails, a list sweeps it after the next start */
    if (p->fd >= 0)
        (void)close(p->fd);
    if (p->dir >= 0)
        (void)close(p->dir);
    free(p);
}

static void auto_put(struct file_put **p)
{
    file_put_abort(*p);
}

int file_put_begin(int root, const struct file_path *path, uint32_t uid, uint32_t gid,
                   struct file_put **ret, struct err *err)
{
    AUTO(put) struct file_put *p = mem_new(1, sizeof(*p));
    *p = (struct file_put){
        .dir = -1, .fd = -1, .uid = uid, .gid = gid, .mode = 0644, .lock = change_lock_of(root)
    };
    if (path->directory)
        return beneath_fail(err, EISDIR);
    const struct owner make = { .uid = uid, .gid = gid };
    bool stale;
    unsigned mode;
    if (beneath_parent(root, path->text, &make, &p->dir, p->leaf, err) < 0 ||
        target_mode(p, &mode, err) < 0)
        return -1;
    if (beneath_is_temp(p->leaf, &stale))
        return err_set(err, ERR_INVALID, "the name is reserved for temporary files");
    p->fd = beneath_temp(p->dir, p->temp);
    if (p->fd < 0)
        return beneath_fail(err, errno);
    *ret = TAKE(p);
    return 0;
}

int file_put_expect(struct file_put *p, const struct file_match *match, struct err *err)
{
    p->match = match;
    return change_check_name(match, p->dir, p->leaf, err);
}

void put_settle(struct file_put *p, bool keep, unsigned mode)
{
    p->keep = keep;
    p->mode = mode;
}

int put_fd(const struct file_put *p)
{
    return p->fd;
}

int file_put_write(struct file_put *p, const void *data, size_t len, struct err *err)
{
    if (FAULT("volume.put.write")) {
        p->failed = true;
        return beneath_fail(err, ENOSPC);
    }
    if (fd_write_all(p->fd, data, len) < 0) {
        p->failed = true;
        return beneath_fail(err, errno);
    }
    p->written += len;
    if (p->written - p->handed >= FILE_HAND_OVER) {
        /* A hint: the fsync to come tells what failed. */
        (void)sync_file_range(p->fd, (off_t)p->handed, (off_t)(p->written - p->handed),
                              SYNC_FILE_RANGE_WRITE);
        p->handed = p->written;
    }
    return 0;
}

/* Gives the nameless file a name that is new. By way of /proc, because linking a bare descriptor
 * wants a capability that a confined daemon lacks. */
static int link_as(const struct file_put *p, const char *name)
{
    char self[64];
    (void)snprintf(self, sizeof(self), "/proc/self/fd/%d", p->fd);
    return linkat(AT_FDCWD, self, p->dir, name, AT_SYMLINK_FOLLOW);
}

static int name_it(struct file_put *p)
{
    char temp[TEMP_NAME_BYTES];
    beneath_temp_name(temp);
    if (link_as(p, temp) < 0)
        return -1;
    (void)str_copy(p->temp, sizeof(p->temp), temp);
    return 0;
}

/* Under the lock: what stands there is looked at again. */
static int prepare(struct file_put *p, struct err *err)
{
    unsigned mode;
    if (target_mode(p, &mode, err) < 0)
        return -1;
    return fchmod(p->fd, mode) < 0 ? beneath_fail(err, errno) : 0;
}

/* Under the lock. 1: there was nothing, and now the file is there; 0: it is to be renamed, which
 * also says what is wrong if that is why. */
static int place(struct file_put *p, struct err *err)
{
    if (p->temp[0])
        return 0;
    if (prepare(p, err) < 0)
        return -1;
    return link_as(p, p->leaf) == 0;
}

/* Under the lock. Names that must be new are made so by the kernel. */
static int replace(struct file_put *p, struct err *err)
{
    if (prepare(p, err) < 0)
        return -1;
    int rc = p->keep ? rename_new(p->dir, p->temp, p->dir, p->leaf)
                     : renameat(p->dir, p->temp, p->dir, p->leaf);
    if (rc < 0 && p->keep && errno == EEXIST)
        return err_set(err, ERR_CONFLICT, "there is something by that name already");
    return rc < 0 ? beneath_fail(err, errno) : 0;
}

static int place_or_replace(struct file_put *p, struct err *err)
{
    mu_lock(p->lock);
    int rc = place(p, err);
    mu_unlock(p->lock);
    if (rc != 0)
        return rc < 0 ? -1 : 0;
    if (!p->temp[0] && name_it(p) < 0)
        return beneath_fail(err, errno);
    if (FAULT("volume.put.named"))
        return beneath_fail(err, EIO);
    mu_lock(p->lock);
    rc = replace(p, err);
    mu_unlock(p->lock);
    if (rc == 0)
        p->temp[0] = '\0'; /* the name is gone; nothing is left to abort */
    return rc;
}

int file_put_commit(struct file_put *put, struct file_stat *ret, struct err *err)
{
    AUTO(put) struct file_put *p = put;
    unsigned mode;
    if (p->failed)
        return err_set(err, ERR_INTERNAL, "an earlier write of this file failed");
    if (target_mode(p, &mode, err) < 0)
        return -1;
    if (fchown(p->fd, p->uid, p->gid) < 0 || fchmod(p->fd, mode) < 0 || fsync(p->fd) < 0)
        return beneath_fail(err, errno);
    if (FAULT("volume.put.synced"))
        return beneath_fail(err, EIO);
    if (place_or_replace(p, err) < 0)
        return -1;
    if (FAULT("volume.put.renamed"))
        return beneath_fail(err, EIO);
    if (fsync(p->dir) < 0)
        return beneath_fail(err, errno);
    return file_fstat(p->fd, ret, err);
}

/* Copies the spooled bytes behind what out holds; what was written is taken back on failure. */
static int append_spooled(struct file_put *p, int out, struct err *err)
{
    AUTO(free) char *chunk = mem_new(1, FILE_CHUNK);
    struct stat before;
    uint64_t done = 0;
    if (fstat(out, &before) < 0)
        return beneath_fail(err, errno);
    for (;;) {
        ssize_t n = pread(p->fd, chunk, FILE_CHUNK, (off_t)done);
        if (n == 0)
            return 0;
        if (n < 0 || fd_write_all(out, chunk, (size_t)n) < 0) {
            int sys = errno;
            append_undo(out, &before, done + (n > 0 ? (uint64_t)n : 0));
            return beneath_fail(err, sys);
        }
        done += (uint64_t)n;
    }
}

static int append_now(struct file_put *p, int *ret_out, bool *ret_made, struct err *err)
{
    if (change_check_name(p->match, p->dir, p->leaf, err) < 0 ||
        append_open(p->dir, p->leaf, p->uid, p->gid, ret_out, ret_made, err) < 0)
        return -1;
    struct mu *lock = append_lock_of(*ret_out);
    mu_lock(lock);
    int rc = append_spooled(p, *ret_out, err);
    mu_unlock(lock);
    return rc;
}

int file_put_append(struct file_put *put, struct file_stat *ret, struct err *err)
{
    AUTO(put) struct file_put *p = put;
    AUTO(fd) int out = -1;
    bool made = false;
    if (p->failed)
        return err_set(err, ERR_INTERNAL, "an earlier write of this file failed");
    /* A precondition holds the lock over the copy: nobody else's change may come between. */
    int rc;
    if (change_conditional(p->match)) {
        mu_lock(p->lock);
        rc = append_now(p, &out, &made, err);
        mu_unlock(p->lock);
    } else {
        rc = append_now(p, &out, &made, err);
    }
    if (rc < 0)
        return -1;
    if (fsync(out) < 0 || (made && fsync(p->dir) < 0))
        return beneath_fail(err, errno);
    return file_fstat(out, ret, err);
}
