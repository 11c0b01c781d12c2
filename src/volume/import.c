/* An archive from a client, unpacked into a directory (T-7, T-8).
 *
 * It is read once, as it comes, into a stage: a directory under a temporary name in the workspace's
 * root that the sandbox cannot enter. Only when all of it is there is it synced and moved into
 * place name by name; a directory that is new goes with all it holds. So a broken archive or upload
 * and every bound that is hit change nothing, and a crash leaves a stage that the next bring-up
 * removes. Within the stage there are directories, regular files and links that stay inside by
 * their text, made by us; no path of an entry is followed through a link, so none can lead another
 * one anywhere. */
#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "archives.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fault.h"
#include "base/fd.h"
#include "base/limits.h"
#include "base/str.h"
#include "change.h"
#include "volume/bulk.h"
#include "walk.h"
#include "wire/archive.h"

struct import {
    struct archive *in;
    ssize_t (*read)(void *ctx, void *out, size_t len, struct err *err);
    void *ctx;
    bool broke; /* read() failed: read_err says why */
    struct err read_err;
    uint64_t came;    /* bytes of the archive */
    uint64_t written; /* bytes unpacked */
    uint64_t entries;
    int64_t deadline_ms;
    int stage, dest;
    struct owner owner;
    char *chunk, *raw;
    struct file_import_stats *stats;
    struct err *err;
};

/* --- bounds --- */

static int count(struct import *m, uint64_t bytes)
{
    m->written += bytes;
    if (m->written > FILE_IMPORT_BYTES_MAX)
        return err_set(m->err, ERR_TOO_LARGE, "unpacked, the archive is larger than %llu MiB",
                       FILE_IMPORT_BYTES_MAX / MIB);
    if (m->written > FILE_IMPORT_FREE + m->came * FILE_IMPORT_RATIO_MAX)
        return err_set(m->err, ERR_TOO_LARGE,
                       "unpacked, the archive is more than %u times larger than it came",
                       FILE_IMPORT_RATIO_MAX);
    if (clock_mono_ms() > m->deadline_ms)
        return err_set(m->err, ERR_TIMEOUT, "unpacking took too long");
    return 0;
}

static la_ssize_t on_read(struct archive *a, void *ctx, const void **data)
{
    struct import *m = ctx;
    ssize_t n = m->read(m->ctx, m->raw, FILE_CHUNK, &m->read_err);
    if (n >= 0 && clock_mono_ms() > m->deadline_ms)
        n = err_set(&m->read_err, ERR_TIMEOUT, "unpacking took too long");
    if (n < 0) {
        m->broke = true;
        archive_set_error(a, EIO, "the source failed");
        return -1;
    }
    m->came += (uint64_t)n;
    *data = m->raw;
    return (la_ssize_t)n;
}

static int broken(struct import *m)
{
    if (m->broke) {
        *m->err = m->read_err;
        return -1;
    }
    const char *what =
        m->entries ? "is broken" : "is broken, or neither tar (plain, gzip, zstd) nor zip";
    return err_set(m->err, ERR_INVALID, "the archive %s; nothing was unpacked", what);
}

static void skip(struct import *m, const char *path, const char *why)
{
    struct file_import_stats *s = m->stats;
    if (s->skipped < FILE_IMPORT_TOLD) {
        struct file_import_skip *t = &s->told[s->skipped];
        size_t len = strnlen(path, sizeof(t->path) - 1);
        memcpy(t->path, path, len);
        t->path[len] = '\0';
        t->why = why;
    }
    s->skipped++;
}

/* --- into the stage --- */

/* The entry's path: without "." and doubled slashes. NULL, or why it is none of ours. */
static const char *entry_path(const char *in, char out[PATH_BYTES_MAX])
{
    size_t used = 0, depth = 0;
    bool stale;
    out[0] = '\0';
    if (!in || !str_utf8(in, strlen(in)))
        return "the name is not UTF-8";
    if (*in == '/')
        return "the name is absolute";
    for (const char *p = in; *p; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f || *p == '\\')
            return "the name holds a control character or a backslash";
    for (const char *p = in; *p;) {
        size_t len = strcspn(p, "/");
        if (len == 2 && memcmp(p, "..", 2) == 0)
            return "the name holds \"..\"";
        if (len > 0 && !(len == 1 && p[0] == '.')) {
            if (len >= NAME_BYTES || ++depth > PATH_DEPTH_MAX || used + len + 2 > PATH_BYTES_MAX)
                return "the name is too long or too deep";
            if (used)
                out[used++] = '/';
            memcpy(out + used, p, len);
            used += len;
            out[used] = '\0';
            if (beneath_is_temp(out + used - len, &stale))
                return "the name is reserved for temporary files";
        }
        p += len + (p[len] == '/');
    }
    return NULL;
}

/* Of two entries of one name the last wins, but nothing over a directory. */
static int make_way(struct import *m, int dir, const char *leaf)
{
    return unlinkat(dir, leaf, 0) < 0 && errno != ENOENT ? beneath_fail(m->err, errno) : 0;
}

static int stage_file(struct import *m, int dir, const char *leaf, int *ret_fd)
{
    if (make_way(m, dir, leaf) < 0)
        return -1;
    int fd = beneath_open(dir, leaf, O_WRONLY | O_CREAT | O_EXCL, 0600);
    if (fd < 0)
        return beneath_fail(m->err, errno);
    *ret_fd = fd;
    return 0;
}

/* Owner and mode as they will be, without special bits. An owner can always use what is his. */
static int settle(struct import *m, int fd, struct archive_entry *e, unsigned at_least)
{
    const struct timespec t = { .tv_sec = archive_entry_mtime(e),
                                .tv_nsec = archive_entry_mtime_nsec(e) };
    const struct timespec times[2] = { t, t };
    unsigned mode = (archive_entry_perm(e) & 0777) | at_least;
    if (fchown(fd, m->owner.uid, m->owner.gid) < 0 || fchmod(fd, mode) < 0)
        return beneath_fail(m->err, errno);
    if (archive_entry_mtime_is_set(e))
        (void)futimens(fd, times); /* a time the file system cannot hold is no reason to fail */
    return 0;
}

static int copy_data(struct import *m, int fd)
{
    for (;;) {
        la_ssize_t n = archive_read_data(m->in, m->chunk, FILE_CHUNK);
        if (n == 0)
            return 0;
        if (n == ARCHIVE_RETRY)
            continue;
        if (n < 0)
            return broken(m);
        if (count(m, (uint64_t)n) < 0)
            return -1;
        if (fd_write_all(fd, m->chunk, (size_t)n) < 0)
            return beneath_fail(m->err, errno);
    }
}

/* Its place in the stage is taken by something else of the archive: the entry's own fault. */
static int occupied(struct import *m, const char *path)
{
    if (m->err->code != ERR_INVALID && m->err->code != ERR_CONFLICT &&
        m->err->code != ERR_PATH_ESCAPE) /* through a link: in the stage it is the archive's */
        return -1;
    skip(m, path, "an earlier entry is in its way");
    return 0;
}

static int unpack_file(struct import *m, struct archive_entry *e, const char *path)
{
    char leaf[NAME_BYTES];
    AUTO(fd) int dir = -1, fd = -1;
    if (archive_entry_size_is_set(e) &&
        (archive_entry_size(e) < 0 ||
         (uint64_t)archive_entry_size(e) > FILE_IMPORT_BYTES_MAX - m->written))
        return err_set(m->err, ERR_TOO_LARGE, "unpacked, the archive is larger than %llu MiB",
                       FILE_IMPORT_BYTES_MAX / MIB);
    if (beneath_parent(m->stage, path, &m->owner, &dir, leaf, m->err) < 0 ||
        stage_file(m, dir, leaf, &fd) < 0)
        return occupied(m, path);
    return copy_data(m, fd) < 0 ? -1 : settle(m, fd, e, 0);
}

static int unpack_link(struct import *m, struct archive_entry *e, const char *path)
{
    const char *target = archive_entry_symlink(e);
    char leaf[NAME_BYTES];
    AUTO(fd) int dir = -1;
    if (!target || strlen(target) >= PATH_BYTES_MAX || !archive_link_stays(path, target)) {
        skip(m, path, "the link leads out");
        return 0;
    }
    if (beneath_parent(m->stage, path, &m->owner, &dir, leaf, m->err) < 0 ||
        make_way(m, dir, leaf) < 0)
        return occupied(m, path);
    if (symlinkat(target, dir, leaf) < 0 ||
        fchownat(dir, leaf, m->owner.uid, m->owner.gid, AT_SYMLINK_NOFOLLOW) < 0)
        return beneath_fail(m->err, errno);
    return 0;
}

static int unpack_dir(struct import *m, struct archive_entry *e, const char *path)
{
    AUTO(fd) int fd = -1;
    if (!*path)
        return 0;
    if (beneath_mkdirs(m->stage, path, &m->owner, &fd, m->err) < 0)
        return occupied(m, path);
    return settle(m, fd, e, 0700);
}

static int unpack_entry(struct import *m, struct archive_entry *e)
{
    char path[PATH_BYTES_MAX];
    const char *name = archive_entry_pathname(e);
    const char *why = entry_path(name, path);
    const unsigned type = archive_entry_filetype(e);
    if (!why && archive_entry_hardlink(e))
        why = "hard links are not unpacked";
    else if (!why && type != AE_IFREG && type != AE_IFDIR && type != AE_IFLNK)
        why = "neither a file nor a directory nor a link";
    else if (!why && archive_entry_is_encrypted(e))
        why = "it is encrypted";
    else if (!why && type != AE_IFDIR && (!*path || name[strlen(name) - 1] == '/'))
        why = "a file by the name of a directory";
    if (why) {
        skip(m, name ? name : "", why);
        return 0;
    }
    return type == AE_IFDIR   ? unpack_dir(m, e, path)
           : type == AE_IFLNK ? unpack_link(m, e, path)
                              : unpack_file(m, e, path);
}

static int unpack_all(struct import *m)
{
    for (;; m->entries++) {
        struct archive_entry *e = NULL;
        int rc = archive_read_next_header(m->in, &e);
        if (rc == ARCHIVE_EOF)
            return m->broke || m->came == 0 ? broken(m) : 0;
        if (m->entries == FILE_IMPORT_ENTRIES_MAX)
            return err_set(m->err, ERR_TOO_LARGE, "the archive has more than %u entries",
                           FILE_IMPORT_ENTRIES_MAX);
        if (rc != ARCHIVE_OK && rc != ARCHIVE_WARN) /* a warning is about a name's characters */
            return broken(m);
        if (unpack_entry(m, e) < 0 || count(m, 0) < 0)
            return -1;
    }
}

/* --- from the stage into place --- */

/* A file takes the place of a file, a link that of a link. */
static int rename_over(struct import *m, int from, int to, const char *name, mode_t mode,
                       const char *path)
{
    struct stat st;
    if (beneath_stat(to, name, &st) == 0 && ((st.st_mode ^ mode) & S_IFMT) != 0) {
        skip(m, path, "something else is in its place");
        return 0;
    }
    if (renameat(from, name, to, name) == 0) {
        *(S_ISLNK(mode) ? &m->stats->links : &m->stats->files) += 1;
        return 0;
    }
    if (errno != EISDIR && errno != ENOTDIR && errno != EEXIST)
        return beneath_fail(m->err, errno);
    skip(m, path, "something else is in its place");
    return 0;
}

/* How many files and directories a tree holds, for the report. */
static int tally(struct import *m, int dir)
{
    AUTO(free) struct walk *w = mem_new(1, sizeof(*w));
    struct walk_entry e;
    int more = 0;
    m->stats->directories++;
    if (walk_begin(w, dir, "", NULL, m->err) < 0)
        return -1;
    while ((more = walk_next(w, &e, m->err)) > 0) {
        m->stats->files += e.type == WALK_FILE;
        m->stats->directories += e.type == WALK_DIR;
        m->stats->links += e.type == WALK_LINK;
    }
    walk_end(w);
    return more;
}

static int merge(struct import *m, int from, int to, unsigned depth, const char *path);

/* A directory goes whole where there is none by its name, else what it holds goes into that. */
static int merge_dir(struct import *m, int from, int to, const char *name, unsigned depth,
                     const char *path)
{
    AUTO(fd) int src = -1, dst = -1;
    if (beneath_dir(from, name, &src, m->err) < 0)
        return -1;
    if (rename_new(from, name, to, name) == 0)
        return tally(m, src);
    if (errno != EEXIST)
        return beneath_fail(m->err, errno);
    struct err local;
    if (beneath_dir(to, name, &dst, &local) < 0) {
        skip(m, path, "something else is in its place");
        return 0;
    }
    return merge(m, src, dst, depth + 1, path);
}

/* Recursion is fit here: the stage is ours and at most PATH_DEPTH_MAX deep. */
static int merge(struct import *m, int from, int to, unsigned depth, const char *path)
{
    AUTO(dir) DIR *d = NULL;
    AUTO(free) char *below = mem_new(1, PATH_BYTES_MAX + NAME_BYTES);
    struct dirent *e;
    if (depth > PATH_DEPTH_MAX + 1)
        return beneath_fail(m->err, ENAMETOOLONG);
    if (beneath_scan(from, "", &d, m->err) < 0)
        return -1;
    while ((e = beneath_next(d))) {
        struct stat st;
        (void)snprintf(below, PATH_BYTES_MAX + NAME_BYTES, "%s%s%s", path, *path ? "/" : "",
                       e->d_name);
        if (beneath_stat(from, e->d_name, &st) < 0)
            return beneath_fail(m->err, errno);
        int rc = S_ISDIR(st.st_mode) ? merge_dir(m, from, to, e->d_name, depth, below)
                                     : rename_over(m, from, to, e->d_name, st.st_mode, below);
        if (rc < 0)
            return -1;
    }
    if (errno)
        return beneath_fail(m->err, errno);
    return fsync(to) < 0 ? beneath_fail(m->err, errno) : 0;
}

/* --- the whole --- */

static int open_archive(struct import *m)
{
    struct archive *a = m->in;
    if (!a || archive_read_support_filter_gzip(a) < ARCHIVE_WARN ||
        archive_read_support_filter_zstd(a) < ARCHIVE_WARN ||
        archive_read_support_format_tar(a) != ARCHIVE_OK ||
        archive_read_support_format_zip_streamable(a) != ARCHIVE_OK)
        return err_set(m->err, ERR_INTERNAL, "the archive library cannot be used");
    return archive_read_open(a, m, NULL, on_read, NULL) == ARCHIVE_OK ? 0 : broken(m);
}

static int unpack(struct import *m)
{
    struct utf8_locale utf8;
    utf8_begin(&utf8);
    m->in = archive_read_new();
    int rc = open_archive(m);
    if (rc == 0)
        rc = unpack_all(m);
    (void)archive_read_free(m->in); /* reading only: nothing is left to be lost */
    utf8_end(&utf8);
    return rc;
}

static int import_staged(struct import *m, int root, const char *path)
{
    if (unpack(m) < 0)
        return -1;
    if (syncfs(m->stage) < 0)
        return beneath_fail(m->err, errno);
    if (FAULT("volume.import.synced"))
        return beneath_fail(m->err, EIO);
    /* Asked for now, so that an archive that is refused makes nothing. */
    struct owner owner = m->owner;
    owner.unsynced = false;
    if (beneath_mkdirs(root, path, &owner, &m->dest, m->err) < 0)
        return -1;
    m->stats->bytes = m->written;
    if (merge(m, m->stage, m->dest, 0, "") == 0)
        return 0;
    return err_wrap(m->err, "after %llu files had been moved into place",
                    (unsigned long long)m->stats->files);
}

int file_import(int root, const struct file_path *dir, uint32_t uid, uint32_t gid,
                ssize_t (*read)(void *ctx, void *out, size_t len, struct err *err), void *ctx,
                struct file_import_stats *ret, struct err *err)
{
    char name[TEMP_NAME_BYTES];
    AUTO(fd) int stage = -1, there = -1;
    struct err local;
    /* What is in the way is told before the body is read. */
    if (beneath_dir(root, dir->text, &there, &local) < 0 && local.code != ERR_NOT_FOUND) {
        *err = local;
        return -1;
    }
    if (walk_enter(err) < 0)
        return -1;
    AUTO(free) char *chunk = mem_new(1, FILE_CHUNK);
    AUTO(free) char *raw = mem_new(1, FILE_CHUNK);
    *ret = (struct file_import_stats){ 0 };
    struct import m = {
        .read = read,
        .ctx = ctx,
        .deadline_ms = clock_mono_ms() + FILE_IMPORT_MS,
        .dest = -1,
        .owner = { .uid = uid, .gid = gid, .unsynced = true },
        .chunk = chunk,
        .raw = raw,
        .stats = ret,
        .err = err,
    };
    int rc = stage_open(root, name, &stage, err);
    if (rc == 0) {
        m.stage = stage;
        rc = import_staged(&m, root, dir->text);
        stage_drop(root, name);
    }
    auto_fd(&m.dest);
    walk_leave();
    return rc;
}
