/* Listings. Breadth first over one growing table: each directory in it is opened again by its path
 * below the listed one, so there is one descriptor open at a time, nothing recurses, and a
 * directory that was swapped for a link meanwhile is simply not entered. Where a bound is hit the
 * upper levels are whole. Leftover temporary files of an earlier run are removed when met. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/limits.h"
#include "base/str.h"
#include "beneath.h"
#include "volume/file.h"

struct row {
    uint32_t path; /* offset in names */
    uint16_t depth;
    uint16_t mode;
    enum file_type type;
    uint64_t size;
    int64_t mtime_ms;
};

struct listing {
    int base;
    const char *const *skip;
    struct row *rows;
    size_t count, cap;
    char *names;
    size_t used, room;
    bool truncated;
};

static void auto_listing(struct listing *l)
{
    free(l->rows);
    free(l->names);
    if (l->base >= 0)
        (void)close(l->base);
}

static bool skipped(const struct listing *l, const char *name)
{
    for (size_t i = 0; l->skip && l->skip[i]; i++)
        if (str_eq(l->skip[i], name))
            return true;
    return false;
}

/* Makes room for one more row with a path of len bytes; sets truncated where a bound forbids it. */
static int grow(struct listing *l, size_t len, struct err *err)
{
    if (l->count == FILE_LIST_MAX || l->used + len + 1 > FILE_LIST_BYTES_MAX) {
        l->truncated = true;
        return 0;
    }
    if (l->count == l->cap) {
        size_t cap = l->cap ? l->cap * 2 : 64;
        struct row *rows = realloc(l->rows, cap * sizeof(*rows));
        if (!rows)
            return err_sys(err, ENOMEM, "list a directory");
        l->rows = rows;
        l->cap = cap;
    }
    if (l->used + len + 1 > l->room) {
        size_t room = l->room ? l->room * 2 : 4096;
        while (room < l->used + len + 1)
            room *= 2;
        char *names = realloc(l->names, room);
        if (!names)
            return err_sys(err, ENOMEM, "list a directory");
        l->names = names;
        l->room = room;
    }
    return 0;
}

static enum file_type type_of(mode_t mode)
{
    if (S_ISREG(mode))
        return FILE_REGULAR;
    if (S_ISDIR(mode))
        return FILE_DIR;
    return S_ISLNK(mode) ? FILE_SYMLINK : FILE_OTHER;
}

/* Adds what d holds; parent is the row of d, or NULL for the listed directory itself. */
static int read_dir(struct listing *l, DIR *d, const struct row *parent, struct err *err)
{
    const size_t prefix = parent ? strlen(l->names + parent->path) : 0;
    const uint32_t at = parent ? parent->path : 0; /* parent itself moves when rows grow */
    const uint16_t depth = parent ? (uint16_t)(parent->depth + 1) : 1;
    struct dirent *e;
    while (!l->truncated && (e = beneath_next(d))) {
        bool stale = false;
        if (skipped(l, e->d_name))
            continue;
        if (beneath_is_temp(e->d_name, &stale)) {
            if (stale)
                (void)unlinkat(dirfd(d), e->d_name,
                               0); /* a directory of that name stays, unlisted */
            continue;
        }
        struct stat st;
        if (beneath_stat(dirfd(d), e->d_name, &st) < 0) {
            if (errno == ENOENT)
                continue; /* removed meanwhile */
            return beneath_fail(err, errno);
        }
        const size_t name = strlen(e->d_name);
        const size_t len = prefix + (prefix > 0) + name;
        if (grow(l, len, err) < 0)
            return -1;
        if (l->truncated)
            break;
        char *to = l->names + l->used;
        if (prefix) {
            memcpy(to, l->names + at, prefix);
            to[prefix] = '/';
        }
        memcpy(to + len - name, e->d_name, name + 1);
        l->rows[l->count++] = (struct row){
            .path = (uint32_t)l->used,
            .depth = depth,
            .mode = st.st_mode & 07777,
            .type = type_of(st.st_mode),
            .size = S_ISREG(st.st_mode) ? (uint64_t)st.st_size : 0,
            .mtime_ms = (int64_t)st.st_mtim.tv_sec * 1000 + st.st_mtim.tv_nsec / 1000000,
        };
        l->used += len + 1;
    }
    if (!l->truncated && errno)
        return beneath_fail(err, errno);
    return 0;
}

/* A directory that is gone, replaced, a mount or too long a path is listed but not entered. */
static bool unreachable(const struct err *err)
{
    return err->code == ERR_NOT_FOUND || err->code == ERR_PATH_ESCAPE || err->code == ERR_INVALID;
}

static int descend(struct listing *l, struct err *err)
{
    for (size_t i = 0; i < l->count && !l->truncated; i++) {
        if (l->rows[i].type != FILE_DIR)
            continue;
        if (l->rows[i].depth >= PATH_DEPTH_MAX) {
            l->truncated = true;
            break;
        }
        AUTO(dir) DIR *d = NULL;
        struct err local;
        if (beneath_scan(l->base, l->names + l->rows[i].path, &d, &local) < 0) {
            if (unreachable(&local))
                continue;
            *err = local;
            return -1;
        }
        struct row parent = l->rows[i];
        if (read_dir(l, d, &parent, err) < 0)
            return -1;
    }
    return 0;
}

static int by_path(const void *a, const void *b, void *names)
{
    const struct row *x = a, *y = b;
    const char *text = names;
    return strcmp(text + x->path, text + y->path);
}

int file_list(int root, const struct file_path *dir, bool recursive, const char *const *skip,
              int (*each)(void *ctx, const struct file_entry *e), void *ctx, bool *ret_truncated,
              struct err *err)
{
    AUTO(listing) struct listing l = { .base = -1, .skip = skip };
    AUTO(dir) DIR *d = NULL;
    if (beneath_dir(root, dir->text, &l.base, err) < 0 || beneath_scan(l.base, "", &d, err) < 0 ||
        read_dir(&l, d, NULL, err) < 0 || (recursive && descend(&l, err) < 0))
        return -1;
    if (l.count)
        qsort_r(l.rows, l.count, sizeof(*l.rows), by_path, l.names);
    *ret_truncated = l.truncated;
    for (size_t i = 0; i < l.count; i++) {
        const struct row *r = &l.rows[i];
        const struct file_entry entry = {
            .path = l.names + r->path,
            .type = r->type,
            .size = r->size,
            .mtime_ms = r->mtime_ms,
            .mode = r->mode,
        };
        if (each(ctx, &entry))
            break; /* the caller has enough, and knows why */
    }
    return 0;
}
