/* Unpacking an archive that a stranger's image decides about (T-7, T-8).
 *
 * Kept: regular files, directories, symbolic links as they are (only the sandbox ever follows
 * them), and hard links as copies. Everything else is skipped and counted: devices, FIFOs, names
 * with "..", absolute or too deep names, and whatever would lead through a link, which beneath.c
 * refuses. setuid, setgid, sticky, extended attributes and ACLs are never set. Bytes and entries
 * are counted while writing. */
#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/limits.h"
#include "base/str.h"
#include "beneath.h"
#include "internal.h"
#include "tree.h"

struct unpack {
    struct archive *tar;
    int dest;
    struct owner owner;
    uint64_t left; /* bytes that may still be written */
    uint64_t skipped;
    char *chunk;
    struct err *err;
};

static int too_large(struct unpack *u)
{
    return err_set(u->err, ERR_TOO_LARGE, "the image's home directory is larger than %llu MiB",
                   GOLDEN_BYTES_MAX / MIB);
}

static int broken(struct unpack *u)
{
    return err_set(u->err, ERR_ENGINE, "the archive of the image's home directory is broken");
}

/* The entry's path below dest: without its first component (the directory that was archived), "."
 * and doubled slashes. false: not a name we unpack. */
static bool entry_path(const char *in, char out[PATH_BYTES_MAX])
{
    size_t used = 0, depth = 0;
    out[0] = '\0';
    if (!in || *in == '/')
        return false;
    for (const char *p = in; *p;) {
        size_t len = strcspn(p, "/");
        bool dot = len == 0 || (len == 1 && p[0] == '.');
        if (len == 2 && memcmp(p, "..", 2) == 0)
            return false;
        if (!dot && depth++ > 0) {
            if (len >= NAME_BYTES || depth > PATH_DEPTH_MAX || used + len + 2 > PATH_BYTES_MAX)
                return false;
            if (used)
                out[used++] = '/';
            memcpy(out + used, p, len);
            used += len;
            out[used] = '\0';
        }
        p += len + (p[len] == '/');
    }
    return true;
}

/* Did this entry fail for its own fault (its place is taken by a link, a file, …)? Then it is
 * skipped. */
static bool own_fault(const struct err *err)
{
    return err->code == ERR_PATH_ESCAPE || err->code == ERR_INVALID || err->code == ERR_NOT_FOUND ||
           err->code == ERR_CONFLICT;
}

/* Frees the name for something new: the last entry of a name wins, but never over a directory. */
static int clear_name(struct unpack *u, int dir, const char *leaf)
{
    if (unlinkat(dir, leaf, 0) < 0 && errno != ENOENT)
        return beneath_fail(u->err, errno);
    return 0;
}

static int new_file(struct unpack *u, int dir, const char *leaf, int *ret_fd)
{
    if (clear_name(u, dir, leaf) < 0)
        return -1;
    int fd = beneath_open(dir, leaf, O_WRONLY | O_CREAT | O_EXCL, 0600);
    if (fd < 0)
        return beneath_fail(u->err, errno);
    *ret_fd = fd;
    return 0;
}

static int settle(struct unpack *u, int fd, unsigned mode, struct archive_entry *e)
{
    const struct timespec t = { .tv_sec = archive_entry_mtime(e),
                                .tv_nsec = archive_entry_mtime_nsec(e) };
    const struct timespec times[2] = { t, t };
    if (fchown(fd, u->owner.uid, u->owner.gid) < 0 || fchmod(fd, mode & 0777) < 0)
        return beneath_fail(u->err, errno);
    (void)futimens(fd, times); /* a time the file system cannot hold is no reason to fail */
    return 0;
}

static int unpack_file(struct unpack *u, struct archive_entry *e, int dir, const char *leaf)
{
    AUTO(fd) int fd = -1;
    int64_t size = archive_entry_size(e);
    if (size < 0 || (uint64_t)size > u->left)
        return too_large(u);
    if (new_file(u, dir, leaf, &fd) < 0)
        return -1;
    for (;;) {
        la_ssize_t n = archive_read_data(u->tar, u->chunk, FILE_CHUNK);
        if (n == 0)
            break;
        if (n == ARCHIVE_RETRY)
            continue;
        if (n < 0)
            return broken(u);
        if ((uint64_t)n > u->left)
            return too_large(u);
        u->left -= (uint64_t)n;
        if (fd_write_all(fd, u->chunk, (size_t)n) < 0)
            return beneath_fail(u->err, errno);
    }
    return settle(u, fd, archive_entry_perm(e), e);
}

/* A second name of a file becomes a copy: links between files of the golden copy would be lost by
 * cloning anyhow. */
static int unpack_hardlink(struct unpack *u, struct archive_entry *e, int dir, const char *leaf)
{
    char target[PATH_BYTES_MAX];
    AUTO(fd) int in = -1, out = -1;
    struct stat st;
    if (!entry_path(archive_entry_hardlink(e), target))
        return beneath_fail(u->err, ELOOP);
    in = beneath_open(u->dest, target, O_RDONLY, 0);
    if (in < 0 || fstat(in, &st) < 0)
        return beneath_fail(u->err, errno);
    if (!S_ISREG(st.st_mode))
        return beneath_fail(u->err, ENXIO);
    if ((uint64_t)st.st_size > u->left)
        return too_large(u);
    u->left -= (uint64_t)st.st_size;
    if (new_file(u, dir, leaf, &out) < 0 ||
        tree_copy_data(in, out, (uint64_t)st.st_size, NULL, u->err) < 0)
        return -1;
    return settle(u, out, st.st_mode, e);
}

static int unpack_link(struct unpack *u, struct archive_entry *e, int dir, const char *leaf)
{
    const char *target = archive_entry_symlink(e);
    if (!target || !*target)
        return beneath_fail(u->err, ENOENT);
    if (clear_name(u, dir, leaf) < 0)
        return -1;
    if (symlinkat(target, dir, leaf) < 0 ||
        fchownat(dir, leaf, u->owner.uid, u->owner.gid, AT_SYMLINK_NOFOLLOW) < 0)
        return beneath_fail(u->err, errno);
    return 0;
}

static int unpack_dir(struct unpack *u, struct archive_entry *e, const char *path)
{
    AUTO(fd) int fd = -1;
    if (!*path)
        return 0; /* the archived directory itself: its mode and owner are ours to say */
    if (beneath_mkdirs(u->dest, path, &u->owner, &fd, u->err) < 0)
        return -1;
    return settle(u, fd, archive_entry_perm(e), e);
}

static int unpack_entry(struct unpack *u, struct archive_entry *e)
{
    char path[PATH_BYTES_MAX], leaf[NAME_BYTES];
    AUTO(fd) int dir = -1;
    const bool hard = archive_entry_hardlink(e) != NULL;
    const unsigned type = archive_entry_filetype(e);
    if (!entry_path(archive_entry_pathname(e), path) ||
        (!hard && type != AE_IFREG && type != AE_IFDIR && type != AE_IFLNK)) {
        u->skipped++;
        return 0;
    }
    if (!hard && type == AE_IFDIR)
        return unpack_dir(u, e, path);
    if (beneath_parent(u->dest, path, &u->owner, &dir, leaf, u->err) < 0)
        return -1;
    if (hard)
        return unpack_hardlink(u, e, dir, leaf);
    return type == AE_IFLNK ? unpack_link(u, e, dir, leaf) : unpack_file(u, e, dir, leaf);
}

static int unpack_all(struct unpack *u)
{
    for (uint64_t entries = 0;; entries++) {
        struct archive_entry *e = NULL;
        int rc = archive_read_next_header(u->tar, &e);
        if (rc == ARCHIVE_EOF)
            return 0;
        if (entries == GOLDEN_ENTRIES_MAX)
            return err_set(u->err, ERR_TOO_LARGE, "the image's home directory has too many files");
        if (rc == ARCHIVE_RETRY) {
            u->skipped++;
            continue;
        }
        if (rc != ARCHIVE_OK && rc != ARCHIVE_WARN) /* a warning is about a name's characters */
            return broken(u);
        if (unpack_entry(u, e) < 0) {
            if (!own_fault(u->err))
                return -1;
            u->skipped++;
        }
    }
}

int golden_unpack(int tar, int dest, uint32_t uid, uint32_t gid, uint64_t *ret_skipped,
                  struct err *err)
{
    /* libarchive converts the UTF-8 of extended headers to the thread's character set, and fails in
     * "C". */
    locale_t utf8 = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t)0);
    locale_t before = utf8 ? uselocale(utf8) : (locale_t)0;
    struct err local = { .code = ERR_INTERNAL };
    struct unpack u = {
        .tar = archive_read_new(),
        .dest = dest,
        .owner = { .uid = uid, .gid = gid, .unsynced = true },
        .left = GOLDEN_BYTES_MAX,
        .chunk = mem_new(1, FILE_CHUNK),
        .err = &local,
    };
    int rc;
    if (lseek(tar, 0, SEEK_SET) < 0)
        rc = err_sys(&local, errno, "read the archive again");
    else if (!u.tar || archive_read_support_format_tar(u.tar) != ARCHIVE_OK ||
             archive_read_open_fd(u.tar, tar, FILE_CHUNK) != ARCHIVE_OK)
        rc = broken(&u);
    else
        rc = unpack_all(&u);
    (void)archive_read_free(u.tar); /* reading only: nothing is left to be lost */
    free(u.chunk);
    if (utf8) {
        (void)uselocale(before);
        freelocale(utf8);
    }
    if (rc < 0) {
        *err = local;
        return -1;
    }
    *ret_skipped = u.skipped;
    return 0;
}
