/* Removal flattens: a directory that is not empty is emptied into the top of the tree (its own
 * subdirectories are renamed up there), so whatever the depth there are two levels to hold open,
 * and no path is ever built. A crash in between leaves a smaller tree that can be removed the same
 * way. */
#include "tree.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/limits.h"
#include "base/str.h"
#include "beneath.h"

#define MOUNTS_STACKED_MAX 16 /* mounts on top of each other at one place */

struct removal {
    int top;
    bool unmount;
    int64_t deadline_ms;
    uint64_t freed;
    uint64_t moved; /* names directories that were moved up */
    char tag[17];
    struct err *err;
};

static int expired(struct removal *r)
{
    if (clock_mono_ms() < r->deadline_ms)
        return 0;
    return err_set(r->err, ERR_TIMEOUT, "the directory is being filled faster than it is removed");
}

/* Detaches the mount that lies on `name` in dir. The path goes through our own descriptor of a
 * verified directory and has one component, which is not followed if it is a link. */
static int detach(int dir, const char *name)
{
    char path[NAME_BYTES + 64];
    (void)snprintf(path, sizeof(path), "/proc/self/fd/%d/%s", dir, name);
    return umount2(path, MNT_DETACH | UMOUNT_NOFOLLOW);
}

/* Removes one entry. 1: it is a directory that is not empty; 0: gone; -1: error. */
static int drop(struct removal *r, int dir, const char *name)
{
    for (int i = 0; i <= MOUNTS_STACKED_MAX; i++) {
        struct stat st;
        if (beneath_stat(dir, name, &st) < 0)
            return errno == ENOENT ? 0 : beneath_fail(r->err, errno);
        if (unlinkat(dir, name, S_ISDIR(st.st_mode) ? AT_REMOVEDIR : 0) == 0) {
            if (S_ISDIR(st.st_mode) || st.st_nlink == 1)
                r->freed += (uint64_t)st.st_blocks * 512;
            return 0;
        }
        if (errno == ENOENT)
            return 0;
        if (errno == ENOTEMPTY || errno == EEXIST)
            return 1;
        if (errno == EISDIR || errno == ENOTDIR)
            continue; /* swapped between the two calls */
        if (errno != EBUSY || !r->unmount || detach(dir, name) < 0)
            break;
    }
    return beneath_fail(r->err, errno);
}

/* Empties one directory that lies in the top: files go, full subdirectories move up. */
static int empty_into_top(struct removal *r, const char *name)
{
    AUTO(dir) DIR *d = NULL;
    struct err local;
    if (beneath_scan(r->top, name, &d, &local) < 0) {
        /* Swapped for something else meanwhile: the next round sees what it is now. */
        if (local.code == ERR_NOT_FOUND || local.sys == ELOOP || local.sys == ENOTDIR)
            return 0;
        *r->err = local;
        return -1;
    }
    struct dirent *e;
    while ((e = beneath_next(d))) {
        int left = drop(r, dirfd(d), e->d_name);
        if (left < 0 || expired(r) < 0)
            return -1;
        if (!left)
            continue;
        char up[64];
        (void)snprintf(up, sizeof(up), ".up-%s-%llu", r->tag, (unsigned long long)r->moved++);
        if (renameat(dirfd(d), e->d_name, r->top, up) < 0 && errno != ENOENT)
            return beneath_fail(r->err, errno);
    }
    return errno ? beneath_fail(r->err, errno) : 0;
}

/* One pass over the top; *ret_seen counts what was there. Entries that were moved up during the
 * pass may be missed by it: the next one finds them. */
static int pass(struct removal *r, DIR *top, uint64_t *ret_seen)
{
    struct dirent *e;
    *ret_seen = 0;
    rewinddir(top);
    while ((e = beneath_next(top))) {
        ++*ret_seen;
        int left = drop(r, r->top, e->d_name);
        if (left > 0 && (empty_into_top(r, e->d_name) < 0 || drop(r, r->top, e->d_name) < 0))
            return -1;
        if (left < 0 || expired(r) < 0)
            return -1;
    }
    return errno ? beneath_fail(r->err, errno) : 0;
}

int tree_remove(int parent, const char *name, bool unmount, int64_t deadline_ms,
                uint64_t *ret_freed, struct err *err)
{
    struct removal r = { .unmount = unmount, .deadline_ms = deadline_ms, .err = err };
    uint8_t tag[8];
    random_bytes(tag, sizeof(tag));
    hex_encode(tag, sizeof(tag), r.tag);
    AUTO(dir) DIR *top = NULL;
    struct err local;
    if (beneath_scan(parent, name, &top, &local) < 0) {
        if (local.code == ERR_NOT_FOUND)
            return 0;
        *err = local;
        return -1;
    }
    r.top = dirfd(top);
    int left;
    do {
        uint64_t seen = 1;
        int rc = 0;
        while (seen && rc == 0)
            rc = pass(&r, top, &seen);
        left = rc < 0 ? -1 : drop(&r, parent, name);
        if (left > 0 && expired(&r) < 0)
            left = -1;
    } while (left > 0); /* filled again between the last pass and now */
    *ret_freed += r.freed;
    return left;
}

/* --- copying --- */

#define COPY_PIECE (64 * MIB) /* goes at once */
#define COPY_LOOK_MS 100      /* between two looks at the bounds */

/* ERR_TIMEOUT or ERR_CANCELLED once a bounded copy is to end. */
static int still_wanted(struct tree_bound *b, struct err *err)
{
    int64_t now_ms = clock_mono_ms();
    if (!b || now_ms < b->look_ms)
        return 0;
    b->look_ms = now_ms + COPY_LOOK_MS;
    if (now_ms > b->deadline_ms)
        return err_set(err, ERR_TIMEOUT, "the copy took too long");
    if (b->gone && b->gone(b->ctx))
        return err_set(err, ERR_CANCELLED, "the client went away");
    return 0;
}

/* By hand, where the kernel cannot; as copy_file_range. */
static ssize_t copy_by_hand(int in, int out, off_t at, size_t len)
{
    AUTO(free) char *chunk = mem_new(1, FILE_CHUNK);
    ssize_t n, put = 0;
    do
        n = pread(in, chunk, len < FILE_CHUNK ? len : FILE_CHUNK, at);
    while (n < 0 && errno == EINTR);
    for (ssize_t w; put < n; put += w) {
        w = pwrite(out, chunk + put, (size_t)(n - put), at + put);
        if (w < 0 && errno == EINTR)
            w = 0;
        if (w < 0)
            return -1;
    }
    return n;
}

/* What lies from *at to end; *at: how far it came, less than end when the source shrank. */
static int copy_stretch(int in, int out, off_t *at, off_t end, bool *by_hand,
                        struct tree_bound *bound, struct err *err)
{
    while (*at < end) {
        off_t from = *at, to = *at;
        size_t len = end - *at < (off_t)COPY_PIECE ? (size_t)(end - *at) : COPY_PIECE;
        if (still_wanted(bound, err) < 0)
            return -1;
        ssize_t n = *by_hand ? copy_by_hand(in, out, *at, len)
                             : copy_file_range(in, &from, out, &to, len, 0);
        if (n < 0 && !*by_hand &&
            (errno == EXDEV || errno == EINVAL || errno == ENOSYS || errno == EOPNOTSUPP ||
             errno == EPERM)) {
            *by_hand = true;
            continue;
        }
        if (n < 0)
            return beneath_fail(err, errno);
        if (n == 0)
            break;
        *at += n;
    }
    return 0;
}

/* Where the next data begins and ends, from `at` on; all of it where nobody knows of holes. */
static void next_data(int in, off_t at, off_t size, off_t *ret_from, off_t *ret_end)
{
    off_t from = lseek(in, at, SEEK_DATA);
    if (from < 0)
        from = errno == ENXIO ? size : at;
    off_t end = from < size ? lseek(in, from, SEEK_HOLE) : size;
    *ret_from = from < size ? from : size;
    *ret_end = end > from && end < size ? end : size;
}

int tree_copy_data(int in, int out, uint64_t size, struct tree_bound *bound, struct err *err)
{
    bool by_hand = false;
    off_t at = 0, end = (off_t)size, from, to;
    struct stat st;
    if (size == 0 || ioctl(out, FICLONE, in) == 0)
        return 0;
    while (at < end) { /* somebody may keep it growing */
        next_data(in, at, end, &from, &to);
        at = from;
        if (copy_stretch(in, out, &at, to, &by_hand, bound, err) < 0)
            return -1;
        if (at < to) /* it shrank */
            end = at;
    }
    if (fstat(in, &st) < 0)
        return beneath_fail(err, errno);
    end = st.st_size < end ? st.st_size : end; /* a hole at its end, if that is still there */
    if (fstat(out, &st) < 0 || (st.st_size < end && ftruncate(out, end) < 0))
        return beneath_fail(err, errno);
    return 0;
}

struct clone {
    uint32_t uid, gid;
    struct tree_bound *bound;
    uint64_t files;
    struct err *err;
};

static int clone_dir(struct clone *c, int src, int dst, unsigned depth);

static int clone_file(struct clone *c, int src, int dst, const char *name)
{
    AUTO(fd) int in = beneath_open(src, name, O_RDONLY, 0);
    struct stat st;
    if (in < 0 || fstat(in, &st) < 0)
        return beneath_fail(c->err, errno);
    if (!S_ISREG(st.st_mode))
        return 0; /* swapped meanwhile */
    AUTO(fd) int out = beneath_open(dst, name, O_WRONLY | O_CREAT | O_EXCL, 0600);
    if (out < 0)
        return beneath_fail(c->err, errno);
    if (tree_copy_data(in, out, (uint64_t)st.st_size, c->bound, c->err) < 0)
        return -1;
    const struct timespec times[2] = { st.st_mtim, st.st_mtim };
    if (fchown(out, c->uid, c->gid) < 0 || fchmod(out, st.st_mode & 0777) < 0 ||
        futimens(out, times) < 0)
        return beneath_fail(c->err, errno);
    c->files++;
    return 0;
}

/* Kept out of the recursion's frames for its buffer. */
__attribute__((noinline)) static int clone_link(struct clone *c, int src, int dst, const char *name,
                                                const struct stat *st)
{
    char target[PATH_BYTES_MAX];
    ssize_t n = readlinkat(src, name, target, sizeof(target) - 1);
    if (n < 0 && errno == EINVAL)
        return 0; /* swapped meanwhile */
    if (n < 0)
        return beneath_fail(c->err, errno);
    target[n] = '\0';
    const struct timespec times[2] = { st->st_mtim, st->st_mtim };
    if (symlinkat(target, dst, name) < 0 ||
        fchownat(dst, name, c->uid, c->gid, AT_SYMLINK_NOFOLLOW) < 0 ||
        utimensat(dst, name, times, AT_SYMLINK_NOFOLLOW) < 0)
        return beneath_fail(c->err, errno);
    return 0;
}

static int clone_subdir(struct clone *c, int src, int dst, const char *name, unsigned depth)
{
    AUTO(fd) int from = -1, to = -1;
    struct stat st;
    if (mkdirat(dst, name, 0700) < 0)
        return beneath_fail(c->err, errno);
    if (beneath_dir(src, name, &from, c->err) < 0 || beneath_dir(dst, name, &to, c->err) < 0 ||
        clone_dir(c, from, to, depth + 1) < 0)
        return -1;
    if (fstat(from, &st) < 0)
        return beneath_fail(c->err, errno);
    const struct timespec times[2] = { st.st_mtim, st.st_mtim };
    if (fchown(to, c->uid, c->gid) < 0 || fchmod(to, st.st_mode & 0777) < 0 ||
        futimens(to, times) < 0)
        return beneath_fail(c->err, errno);
    return 0;
}

int tree_too_many(struct err *err)
{
    return err_set(err, ERR_TOO_LARGE, "more than %u files and directories", FILE_COPY_ENTRIES_MAX);
}

/* A bounded copy is of a tree that changes meanwhile: what is gone is no error there. */
static int clone_bound(struct clone *c)
{
    struct tree_bound *b = c->bound;
    if (!b)
        return 0;
    if (b->left-- == 0)
        return tree_too_many(c->err);
    return still_wanted(b, c->err);
}

/* Recursion is fit here: at most PATH_DEPTH_MAX deep, with small frames. */
static int clone_dir(struct clone *c, int src, int dst, unsigned depth)
{
    if (depth > PATH_DEPTH_MAX)
        return beneath_fail(c->err, ENAMETOOLONG);
    AUTO(dir) DIR *d = NULL;
    if (beneath_scan(src, "", &d, c->err) < 0)
        return -1;
    struct dirent *e;
    while ((e = beneath_next(d))) {
        struct stat st;
        int rc = clone_bound(c);
        if (rc < 0)
            return -1;
        if (beneath_stat(src, e->d_name, &st) < 0) {
            if (c->bound && errno == ENOENT)
                continue;
            return beneath_fail(c->err, errno);
        }
        if (S_ISDIR(st.st_mode))
            rc = clone_subdir(c, src, dst, e->d_name, depth);
        else if (S_ISREG(st.st_mode))
            rc = clone_file(c, src, dst, e->d_name);
        else if (S_ISLNK(st.st_mode))
            rc = clone_link(c, src, dst, e->d_name, &st);
        if (rc < 0 && !(c->bound && c->err->code == ERR_NOT_FOUND))
            return -1;
    }
    return errno ? beneath_fail(c->err, errno) : 0;
}

int tree_clone(int src, int dst, uint32_t uid, uint32_t gid, struct tree_bound *bound,
               uint64_t *ret_files, struct err *err)
{
    struct clone c = { .uid = uid, .gid = gid, .bound = bound, .err = err };
    if (clone_dir(&c, src, dst, 0) < 0)
        return -1;
    *ret_files += c.files;
    return 0;
}
