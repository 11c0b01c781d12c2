/* A directory as an archive, written while it is read.
 *
 * What the archive says must do no harm where somebody unpacks it (T-9): names are relative, below
 * the directory, and without characters that lead elsewhere on another system; of links only those
 * stay that end inside by their text alone, whatever other links they pass. A file that changes
 * while it is read is cut or filled with zeros to the size that was announced, as tar does. */
#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "archives.h"
#include "base/cleanup.h"
#include "base/limits.h"
#include "base/str.h"
#include "change.h"
#include "volume/bulk.h"
#include "walk.h"
#include "wire/archive.h"

#define BLOCK (64 * KIB) /* handed to the reader at a time */

struct export
{
    struct archive *out;
    struct archive_entry *entry;
    enum file_archive format;
    struct walk walk;
    int (*write)(void *ctx, const void *data, size_t len);
    void *ctx;
    bool left; /* the reader did */
    char name[3 * PATH_BYTES_MAX + 1];
    char *chunk;
    struct file_export_stats *stats;
    struct err *err;
};

static la_ssize_t on_write(struct archive *a, void *ctx, const void *data, size_t len)
{
    struct export *x = ctx;
    if (!x->left && x->write(x->ctx, data, len) == 0)
        return (la_ssize_t)len;
    x->left = true;
    archive_set_error(a, EPIPE, "the reader left");
    return -1;
}

/* --- names --- */

/* Length of the UTF-8 character at p, 0: none begins there. */
static size_t character(const char *p)
{
    for (size_t n = 1; n <= 4; n++) {
        if (str_utf8(p, n))
            return n;
        if (p[n] == '\0')
            break;
    }
    return 0;
}

static bool drive(const char *p)
{
    return ((p[0] | 0x20) >= 'a' && (p[0] | 0x20) <= 'z') && p[1] == ':';
}

/* A name that reads as if we had escaped it is escaped, too: no two names become one. Others that
 * have a %, as %20 of a download, stay as they are. */
static bool escape_like(const char *p)
{
    static const char digits[] = "0123456789ABCDEF";
    const char *hi = p[0] == '%' && p[1] ? strchr(digits, p[1]) : NULL;
    const char *lo = hi && p[2] ? strchr(digits, p[2]) : NULL;
    if (!lo)
        return false;
    unsigned c = (unsigned)((hi - digits) * 16 + (lo - digits));
    return c < 0x20 || c >= 0x7f || c == '\\' || c == ':' || c == '%';
}

/* The path, or what a link says, as it stands in the archive. */
static const char *safe_name(struct export *x, const char *path)
{
    char *to = x->name;
    bool begin = true; /* of a component */
    for (const char *p = path; *p;) {
        size_t n = character(p);
        unsigned char c = (unsigned char)*p;
        bool colon =
            c == ':' && !begin && p - path >= 1 && (p - path == 1 || p[-2] == '/') && drive(p - 1);
        if (n == 0 || c < 0x20 || c == 0x7f || c == '\\' || colon || escape_like(p)) {
            (void)snprintf(to, 4, "%%%02X", c);
            to += 3;
            p++;
            begin = false;
            continue;
        }
        begin = c == '/';
        memcpy(to, p, n);
        to += n;
        p += n;
    }
    *to = '\0';
    return x->name;
}

/* --- entries --- */

static int failed(struct export *x)
{
    if (x->left)
        return err_set(x->err, ERR_CANCELLED, "the reader left");
    return err_set(x->err, ERR_INTERNAL, "the archive could not be written");
}

static int put_header(struct export *x, const struct stat *st, const char *path)
{
    struct archive_entry *e = x->entry;
    (void)archive_entry_clear(e);
    archive_entry_set_pathname(e, safe_name(x, path));
    archive_entry_set_mode(e, (st->st_mode & S_IFMT) | (st->st_mode & 0777));
    archive_entry_set_mtime(e, st->st_mtim.tv_sec, st->st_mtim.tv_nsec);
    archive_entry_set_size(e, S_ISREG(st->st_mode) ? st->st_size : 0);
    return 0;
}

static int put_file(struct export *x, const struct walk_entry *w)
{
    struct stat st;
    AUTO(fd) int fd = beneath_open(w->dir, w->name, O_RDONLY, 0);
    if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
        x->stats->left_out++;
        return 0;
    }
    if (put_header(x, &st, w->path) < 0 || archive_write_header(x->out, x->entry) < ARCHIVE_WARN)
        return failed(x);
    for (uint64_t left = (uint64_t)st.st_size; left > 0;) {
        ssize_t n = read(fd, x->chunk, left < FILE_CHUNK ? (size_t)left : FILE_CHUNK);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return beneath_fail(x->err, errno);
        if (n == 0)
            break; /* it shrank; the rest becomes zeros */
        if (archive_write_data(x->out, x->chunk, (size_t)n) < 0)
            return failed(x);
        left -= (uint64_t)n;
        x->stats->bytes += (uint64_t)n;
        if (x->stats->bytes > FILE_EXPORT_BYTES_MAX)
            return err_set(x->err, ERR_TOO_LARGE, "the files are larger than one archive may be");
    }
    x->stats->entries++;
    return 0;
}

static int put_dir(struct export *x, const struct walk_entry *w)
{
    struct stat st;
    if (beneath_stat(w->dir, w->name, &st) < 0 || !S_ISDIR(st.st_mode)) {
        x->stats->left_out++;
        return 0;
    }
    if (put_header(x, &st, w->path) < 0 || archive_write_header(x->out, x->entry) < ARCHIVE_WARN)
        return failed(x);
    x->stats->entries++;
    return 0;
}

static int put_link(struct export *x, const struct walk_entry *w)
{
    char target[PATH_BYTES_MAX];
    struct stat st;
    ssize_t n = readlinkat(w->dir, w->name, target, sizeof(target) - 1);
    if (n >= 0)
        target[n] = '\0';
    if (n < 0 || beneath_stat(w->dir, w->name, &st) < 0 || !S_ISLNK(st.st_mode) ||
        !archive_link_stays(w->path, target)) {
        x->stats->left_out++;
        return 0;
    }
    if (put_header(x, &st, w->path) < 0)
        return -1;
    archive_entry_set_symlink(x->entry, safe_name(x, target));
    if (archive_write_header(x->out, x->entry) < ARCHIVE_WARN)
        return failed(x);
    x->stats->entries++;
    return 0;
}

static int put_entry(struct export *x, const struct walk_entry *w)
{
    if (w->type == WALK_FILE)
        return put_file(x, w);
    if (w->type == WALK_OTHER || x->format == FILE_ZIP) {
        x->stats->left_out += w->type != WALK_DIR;
        return 0;
    }
    return w->type == WALK_DIR ? put_dir(x, w) : put_link(x, w);
}

/* --- the whole --- */

static int open_archive(struct export *x)
{
    struct archive *a = x->out;
    int rc;
    if (x->format == FILE_ZIP) {
        rc = archive_write_set_format_zip(a);
        if (rc == ARCHIVE_OK)
            rc = archive_write_set_format_option(a, "zip", "hdrcharset", "UTF-8");
    } else {
        rc = archive_write_set_format_pax_restricted(a);
        if (rc == ARCHIVE_OK && x->format == FILE_TAR_ZST)
            rc = archive_write_add_filter_zstd(a);
        /* Absent in older libraries: then it takes one core and longer. */
        if (rc == ARCHIVE_OK && x->format == FILE_TAR_ZST)
            (void)archive_write_set_filter_option(a, "zstd", "threads", "1");
    }
    if (rc != ARCHIVE_OK || archive_write_set_bytes_per_block(a, BLOCK) != ARCHIVE_OK ||
        archive_write_set_bytes_in_last_block(a, 1) != ARCHIVE_OK ||
        archive_write_open(a, x, NULL, on_write, NULL) != ARCHIVE_OK)
        return failed(x);
    return 0;
}

static int put_all(struct export *x)
{
    struct walk_entry w;
    int more;
    while ((more = walk_next(&x->walk, &w, x->err)) > 0)
        if (put_entry(x, &w) < 0)
            return -1;
    x->stats->left_out += x->walk.dropped;
    x->stats->deep = x->walk.deep;
    if (more < 0)
        return -1;
    return archive_write_close(x->out) == ARCHIVE_OK ? 0 : failed(x);
}

static int export_locked(struct export *x, int root, const char *path, const char *const *skip)
{
    struct utf8_locale utf8;
    if (walk_begin(&x->walk, root, path, skip, x->err) < 0)
        return -1;
    utf8_begin(&utf8);
    x->out = archive_write_new();
    x->entry = archive_entry_new();
    x->chunk = mem_new(1, FILE_CHUNK);
    int rc = x->out && x->entry ? open_archive(x) : failed(x);
    if (rc == 0)
        rc = put_all(x);
    if (rc < 0 && x->out) {
        x->left = true; /* nothing goes out any more: it must not end as if it were whole */
        (void)archive_write_close(x->out); /* archive_write_free alone keeps the block */
    }
    archive_entry_free(x->entry);
    (void)archive_write_free(x->out); /* all was written, or failed before */
    free(x->chunk);
    utf8_end(&utf8);
    walk_end(&x->walk);
    return rc;
}

int file_export(int root, const struct file_path *dir, enum file_archive format,
                const char *const *skip, int (*write)(void *ctx, const void *data, size_t len),
                void *ctx, struct file_export_stats *ret, struct err *err)
{
    if (walk_enter(err) < 0)
        return -1;
    AUTO(free) struct export *x = mem_new(1, sizeof(*x));
    *ret = (struct file_export_stats){ 0 };
    x->format = format;
    x->write = write;
    x->ctx = ctx;
    x->stats = ret;
    x->err = err;
    int rc = export_locked(x, root, dir->text, skip);
    walk_leave();
    return rc;
}
