/* The state directory. The lock is an flock on state/lock: the kernel drops it when the process
 * ends, however it ends, so a stale one cannot exist; the file itself stays and means nothing. */
#include "home.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/fd.h"
#include "base/limits.h"
#include "base/str.h"

char *home_path(const struct home *h, const char *name)
{
    struct buf b = BUF_INIT(PATH_BYTES_MAX);
    buf_addf(&b, "%s/%s", h->path, name);
    return buf_take(&b);
}

/* A directory that others may write to could hold links of theirs in place of our files. Root may
 * use a data directory that a user has made for it; what lies in it must be our own. */
static int check_dir(int fd, const char *path, bool root_may, struct err *err)
{
    struct stat st;
    if (fstat(fd, &st) < 0)
        return err_sys(err, errno, "look at %s", path);
    if (st.st_uid != geteuid() && !(root_may && geteuid() == 0)) {
        (void)err_set(err, ERR_INTERNAL, "%s belongs to another user (uid %u)", path, st.st_uid);
        return err_remedy(err, "run sandboxd as the owner of its data directory");
    }
    if (st.st_mode & (S_IWGRP | S_IWOTH)) {
        (void)err_set(err, ERR_INTERNAL, "%s may be written by other users", path);
        return err_remedy(err, "chmod go-w %s", path);
    }
    return 0;
}

static int take_lock(struct home *h, const char *data_dir, struct err *err)
{
    h->lock = openat(h->dir, "lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (h->lock < 0) {
        (void)err_sys(err, errno, "open %s/lock", h->path);
        return err_remedy(err, "the data directory must be writable");
    }
    if (flock(h->lock, LOCK_EX | LOCK_NB) == 0)
        return 0;
    if (errno != EWOULDBLOCK)
        return err_sys(err, errno, "lock %s", h->path);
    (void)err_set(err, ERR_CONFLICT, "another sandboxd is using the data directory %s", data_dir);
    return err_remedy(err, "stop it, or give this one its own SANDBOXED_DATA_DIR");
}

int home_open(struct home *h, const char *data_dir, struct err *err)
{
    *h = (struct home){ .dir = -1, .lock = -1 };
    struct buf path = BUF_INIT(PATH_BYTES_MAX - 64); /* room for file names of ours */
    buf_addf(&path, "%s/state", data_dir);
    if (buf_done(&path, err) < 0) {
        buf_release(&path);
        return -1;
    }
    h->path = buf_take(&path);
    AUTO(fd) int data = -1;
    if (fd_mkdirs(data_dir, 0700, err) < 0)
        goto fail;
    data = open(data_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (data < 0) {
        (void)err_sys(err, errno, "open %s", data_dir);
        goto fail;
    }
    if (check_dir(data, data_dir, true, err) < 0)
        goto fail;
    if (mkdirat(data, "state", 0700) < 0 && errno != EEXIST) {
        (void)err_sys(err, errno, "make %s", h->path);
        (void)err_remedy(err, "the data directory must be writable");
        goto fail;
    }
    h->dir = openat(data, "state", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (h->dir < 0) {
        (void)err_sys(err, errno, "open %s", h->path);
        goto fail;
    }
    if (check_dir(h->dir, h->path, false, err) < 0 || take_lock(h, data_dir, err) < 0)
        goto fail;
    return 0;
fail:
    home_release(h);
    return -1;
}

void home_release(struct home *h)
{
    if (h->lock >= 0)
        (void)close(h->lock);
    if (h->dir >= 0)
        (void)close(h->dir);
    free(h->path);
    *h = (struct home){ .dir = -1, .lock = -1 };
}

int home_touch(const struct home *h, const char *name, struct err *err)
{
    AUTO(fd)
    int fd = openat(h->dir, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    return fd < 0 ? err_sys(err, errno, "create %s/%s", h->path, name) : 0;
}

#define RESERVE_BYTES (1 * MIB)
#define RESERVE_REFILL_FREE (16 * MIB) /* it must not be what fills the disk again */

bool home_reserve_fill(const struct home *h)
{
    struct statvfs fs;
    if (fstatvfs(h->dir, &fs) < 0 || (uint64_t)fs.f_bavail * fs.f_frsize < RESERVE_REFILL_FREE)
        return false;
    AUTO(fd)
    int fd = openat(h->dir, HOME_RESERVE, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd >= 0 && posix_fallocate(fd, 0, RESERVE_BYTES) == 0)
        return true;
    (void)unlinkat(h->dir, HOME_RESERVE, 0); /* half a reserve promises too much */
    return false;
}

bool home_reserve_drop(const struct home *h)
{
    return unlinkat(h->dir, HOME_RESERVE, 0) == 0;
}
