/* libarchive on both ends of a copy. */
#include "pack.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/limits.h"
#include "base/str.h"
#include "wire/archive.h"

#define BLOCK (64 * KIB)

static void auto_entry(struct archive_entry **e)
{
    archive_entry_free(*e);
}

/* --- packing --- */

struct pack {
    struct archive *disk, *tar;
    size_t root_len; /* of the directory's name, which entries begin with */
    int64_t left;    /* of the file under way */
    struct buf out;  /* archive that was not handed out */
    size_t out_at;
    bool over;
    archive_skip_fn skip;
    void *ctx;
    struct archive_stats stats;
};

static la_ssize_t on_write(struct archive *a, void *ctx, const void *data, size_t len)
{
    struct pack *p = ctx;
    (void)a;
    buf_add(&p->out, data, len);
    return p->out.failed ? -1 : (la_ssize_t)len;
}

int pack_open(const char *dir, archive_skip_fn skip, void *ctx, struct pack **ret, struct err *err)
{
    struct pack *p = mem_new(1, sizeof *p);
    p->out = (struct buf)BUF_INIT(1 * MIB);
    p->root_len = strlen(dir);
    p->skip = skip;
    p->ctx = ctx;
    p->disk = archive_read_disk_new();
    p->tar = archive_write_new();
    if (!p->disk || !p->tar)
        abort(); /* memory is out */
    (void)archive_read_disk_set_symlink_physical(p->disk);
    (void)archive_read_disk_set_behavior(
        p->disk, ARCHIVE_READDISK_NO_XATTR | ARCHIVE_READDISK_NO_ACL | ARCHIVE_READDISK_NO_FFLAGS |
                     ARCHIVE_READDISK_NO_SPARSE);
    (void)archive_write_set_format_pax_restricted(p->tar);
    (void)archive_write_set_bytes_per_block(p->tar, 0); /* as it comes */
    if (archive_read_disk_open(p->disk, dir) != ARCHIVE_OK ||
        archive_write_open(p->tar, p, NULL, on_write, NULL) != ARCHIVE_OK) {
        (void)err_sys(err, archive_errno(p->disk), "%s", dir);
        pack_close(p);
        return -1;
    }
    *ret = p;
    return 0;
}

static int failed(struct archive *a, const char *what, struct err *err)
{
    const char *why = archive_error_string(a);
    return err_set(err, ERR_INVALID, "%s: %s", what, why ? why : "failed");
}

/* The name below the directory; "." for itself. */
static const char *inner_name(const struct pack *p, struct archive_entry *e)
{
    const char *name = archive_entry_pathname(e);
    name = name && strlen(name) > p->root_len ? name + p->root_len : "";
    while (*name == '/')
        name++;
    return *name ? name : ".";
}

/* The next entry's head into the archive. */
static int pack_entry(struct pack *p, struct err *err)
{
    struct archive_entry *e;
    int rc = archive_read_next_header(p->disk, &e);
    if (rc == ARCHIVE_EOF) {
        p->over = true;
        return archive_write_close(p->tar) == ARCHIVE_OK ? 0 : failed(p->tar, "archive", err);
    }
    if (rc < ARCHIVE_WARN)
        return failed(p->disk, "reading", err);
    AUTO(free) char *name = str_dup(inner_name(p, e));
    mode_t type = archive_entry_filetype(e);
    bool directory = type == AE_IFDIR;
    if (directory)
        (void)archive_read_disk_descend(p->disk);
    bool link = type == AE_IFLNK && archive_link_stays(name, archive_entry_symlink(e));
    if (!directory && !link && type != AE_IFREG) {
        p->stats.skipped++;
        p->skip(p->ctx, name,
                type == AE_IFLNK ? "is a link that leads out" : "is no file, directory or link");
        return 0;
    }
    archive_entry_set_pathname(e, name);
    archive_entry_set_hardlink(e, NULL);
    archive_entry_set_uname(e, NULL);
    archive_entry_set_gname(e, NULL);
    if (archive_write_header(p->tar, e) < ARCHIVE_WARN)
        return failed(p->tar, name, err);
    p->left = type == AE_IFREG ? archive_entry_size(e) : 0;
    p->stats.files += !directory;
    return 0;
}

/* A file that changes meanwhile is cut or filled with zeros to the size its head says. */
static int pack_data(struct pack *p, struct err *err)
{
    static const char zeros[BLOCK];
    const void *data;
    size_t len;
    int64_t offset;
    int rc = archive_read_data_block(p->disk, &data, &len, &offset);
    if (rc == ARCHIVE_EOF) {
        data = zeros;
        len = BLOCK;
    } else if (rc < ARCHIVE_WARN) {
        return failed(p->disk, "reading", err);
    }
    if ((int64_t)len > p->left)
        len = (size_t)p->left;
    if (archive_write_data(p->tar, data, len) < 0)
        return failed(p->tar, "archive", err);
    p->left -= (int64_t)len;
    p->stats.bytes += (int64_t)len;
    return 0;
}

ssize_t pack_read(struct pack *p, void *out, size_t size, struct err *err)
{
    if (p->out_at == p->out.len) {
        buf_reset(&p->out);
        p->out_at = 0;
    }
    while (p->out.len == 0 && !p->over)
        if ((p->left > 0 ? pack_data(p, err) : pack_entry(p, err)) < 0)
            return -1;
    size_t n = p->out.len - p->out_at < size ? p->out.len - p->out_at : size;
    if (n > 0)
        memcpy(out, p->out.data + p->out_at, n);
    p->out_at += n;
    return (ssize_t)n;
}

const struct archive_stats *pack_stats(const struct pack *p)
{
    return &p->stats;
}

void pack_close(struct pack *p)
{
    if (!p)
        return;
    (void)archive_read_free(p->disk); /* what can fail was looked at before */
    (void)archive_write_free(p->tar);
    buf_release(&p->out);
    free(p);
}

/* --- unpacking --- */

struct unpacking {
    const struct unpack_source *from;
    struct archive *in, *disk;
    bool source_failed;
    struct err source_err;
    struct archive_stats *stats;
};

static la_ssize_t on_read(struct archive *a, void *ctx, const void **ret)
{
    struct unpacking *u = ctx;
    const char *data = NULL;
    size_t len = 0;
    int rc = u->from->read(u->from->ctx, &data, &len, &u->source_err);
    if (rc < 0) {
        u->source_failed = true;
        archive_set_error(a, EIO, "the source failed");
        return -1;
    }
    *ret = data;
    return rc > 0 ? (la_ssize_t)len : 0;
}

/* Why an entry is left out; NULL: it is not. */
static const char *refusal(struct archive_entry *e)
{
    const char *name = archive_entry_pathname(e);
    mode_t type = archive_entry_filetype(e);
    if (!name || !*name)
        return "has no name";
    if (archive_entry_hardlink(e))
        return "is a hard link";
    if (type == AE_IFLNK && !archive_link_stays(name, archive_entry_symlink(e)))
        return "is a link that leads out";
    if (type != AE_IFREG && type != AE_IFDIR && type != AE_IFLNK)
        return "is no file, directory or link";
    return NULL; /* absolute names, ".." and links on the way are libarchive's to refuse */
}

static int copy_data(struct unpacking *u, struct err *err)
{
    for (;;) {
        const void *data;
        size_t len;
        int64_t offset;
        int rc = archive_read_data_block(u->in, &data, &len, &offset);
        if (rc == ARCHIVE_EOF)
            return 0;
        if (rc < ARCHIVE_WARN)
            return failed(u->in, "the archive", err);
        if (archive_write_data_block(u->disk, data, len, offset) < ARCHIVE_WARN)
            return failed(u->disk, "writing", err);
        u->stats->bytes += (int64_t)len;
    }
}

static int unpack_entry(struct unpacking *u, struct archive_entry *e, struct err *err)
{
    const char *why = refusal(e);
    if (why) {
        u->stats->skipped++;
        u->from->skip(u->from->ctx, archive_entry_pathname(e), why);
        return 0;
    }
    AUTO(entry) struct archive_entry *mine = archive_entry_clone(e);
    bool directory = archive_entry_filetype(e) == AE_IFDIR;
    /* What belongs to us can be read and removed by us. */
    archive_entry_set_perm(mine, (archive_entry_perm(e) & 0777) | (directory ? 0700 : 0600));
    if (archive_write_header(u->disk, mine) < ARCHIVE_OK) {
        u->stats->failed++;
        why = archive_error_string(u->disk);
        u->from->skip(u->from->ctx, archive_entry_pathname(e), why ? why : "cannot be made");
        return 0;
    }
    u->stats->files += !directory;
    if (archive_entry_size(e) > 0 && copy_data(u, err) < 0)
        return -1;
    return archive_write_finish_entry(u->disk) < ARCHIVE_WARN ? failed(u->disk, "writing", err) : 0;
}

static int unpack_all(struct unpacking *u, struct err *err)
{
    for (;;) {
        struct archive_entry *e;
        int rc = archive_read_next_header(u->in, &e);
        if (rc == ARCHIVE_EOF)
            return archive_write_close(u->disk) < ARCHIVE_WARN ? failed(u->disk, "writing", err)
                                                               : 0;
        if (rc < ARCHIVE_WARN)
            return failed(u->in, "the archive", err);
        if (unpack_entry(u, e, err) < 0)
            return -1;
    }
}

int unpack(const struct unpack_source *from, const char *dir, struct archive_stats *ret,
           struct err *err)
{
    struct unpacking u = { .from = from, .stats = ret };
    *ret = (struct archive_stats){ 0 };
    if (chdir(dir) < 0)
        return err_sys(err, errno, "%s", dir);
    u.in = archive_read_new();
    u.disk = archive_write_disk_new();
    if (!u.in || !u.disk)
        abort(); /* memory is out */
    (void)archive_read_support_format_tar(u.in);
    (void)archive_read_support_filter_zstd(u.in);
    (void)archive_write_disk_set_options(
        u.disk, ARCHIVE_EXTRACT_TIME | ARCHIVE_EXTRACT_PERM | ARCHIVE_EXTRACT_SECURE_NODOTDOT |
                    ARCHIVE_EXTRACT_SECURE_SYMLINKS | ARCHIVE_EXTRACT_SECURE_NOABSOLUTEPATHS);
    int rc = archive_read_open(u.in, &u, NULL, on_read, NULL) == ARCHIVE_OK
                 ? unpack_all(&u, err)
                 : failed(u.in, "the archive", err);
    if (u.source_failed) {
        *err = u.source_err;
        rc = -1;
    }
    (void)archive_read_free(u.in); /* what can fail was looked at before */
    (void)archive_write_free(u.disk);
    return rc;
}
