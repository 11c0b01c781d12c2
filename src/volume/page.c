/* Pages of a tree: each directory before what it holds, names bytewise. Of a directory the smallest
 * names behind the cursor are kept, as many as the page still takes, so a directory of millions
 * costs its reading and no memory; a page never depends on what an earlier one saw. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/limits.h"
#include "base/str.h"
#include "beneath.h"
#include "change.h"
#include "walk.h"

#define LOOK_EVERY 4096 /* entries read between two looks at the clock */

struct pager {
    int base;
    const struct file_page *page;
    int (*each)(void *ctx, const struct file_entry *e);
    void *ctx;
    uint32_t told;
    int64_t deadline_ms;
    bool more, stop;
    char path[PATH_BYTES_MAX];
    struct err *err;
};

/* The smallest names met, as a heap with the largest on top. */
struct names {
    char **items;
    size_t count, max;
    bool dropped;
};

static void auto_names(struct names *n)
{
    for (size_t i = 0; i < n->count; i++)
        free(n->items[i]);
    free(n->items);
}

static void sift_down(struct names *n)
{
    for (size_t i = 0;;) {
        size_t c = 2 * i + 1;
        if (c >= n->count)
            return;
        if (c + 1 < n->count && strcmp(n->items[c + 1], n->items[c]) > 0)
            c++;
        if (strcmp(n->items[i], n->items[c]) >= 0)
            return;
        char *t = n->items[i];
        n->items[i] = n->items[c];
        n->items[c] = t;
        i = c;
    }
}

static void sift_up(struct names *n, size_t i)
{
    while (i > 0) {
        size_t up = (i - 1) / 2;
        if (strcmp(n->items[up], n->items[i]) >= 0)
            return;
        char *t = n->items[i];
        n->items[i] = n->items[up];
        n->items[up] = t;
        i = up;
    }
}

static void keep(struct names *n, const char *name)
{
    if (n->count < n->max) {
        if ((n->count & (n->count - 1)) == 0) {
            char **grown = reallocarray(n->items, n->count ? n->count * 2 : 1, sizeof(*grown));
            if (!grown)
                abort(); /* a small allocation: bounded by the page */
            n->items = grown;
        }
        n->items[n->count++] = str_dup(name);
        sift_up(n, n->count - 1);
        return;
    }
    n->dropped = true;
    if (n->count == 0 || strcmp(name, n->items[0]) >= 0)
        return;
    free(n->items[0]);
    n->items[0] = str_dup(name);
    sift_down(n);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static bool late(struct pager *p)
{
    if (p->told == 0 || clock_mono_ms() < p->deadline_ms)
        return false;
    p->more = p->stop = true;
    return true;
}

/* The names of d that are not before `from` (of from_len bytes, or NULL). */
static int gather(struct pager *p, DIR *d, const char *from, size_t from_len, struct names *n)
{
    struct dirent *e;
    char first[NAME_BYTES] = "";
    bool stale;
    if (from && from_len < sizeof(first))
        memcpy(first, from, from_len);
    for (uint32_t i = 1; (e = beneath_next(d)); i++) {
        if (i % LOOK_EVERY == 0 && late(p))
            return 0;
        if (strcmp(e->d_name, first) >= 0 && !walk_skipped(p->page->skip, e->d_name) &&
            !beneath_is_temp(e->d_name, &stale))
            keep(n, e->d_name);
    }
    return errno ? beneath_fail(p->err, errno) : 0;
}

static int tell(struct pager *p, const struct stat *st)
{
    struct file_stat s;
    if (p->told == p->page->limit) {
        p->more = p->stop = true;
        return 0;
    }
    if (late(p))
        return 0;
    change_stat(st, &s);
    const struct file_entry entry = {
        .path = p->path, .type = s.type, .size = s.size, .mtime_ms = s.mtime_ms, .mode = s.mode
    };
    p->told++;
    p->stop = p->each(p->ctx, &entry) != 0;
    return 0;
}

static int page_dir(struct pager *p, size_t len, unsigned depth, const char *after);

/* One name of the directory at path[0..len): told unless the cursor stands on it, then entered. */
static int page_name(struct pager *p, int dir, size_t len, const char *name, unsigned depth,
                     const char *after, size_t first)
{
    struct stat st;
    size_t at = len + (len > 0), n = strlen(name);
    if (at + n >= sizeof(p->path) || beneath_stat(dir, name, &st) < 0)
        return 0; /* removed meanwhile */
    if (len)
        p->path[len] = '/';
    memcpy(p->path + at, name, n + 1);
    bool here = after && n == first && memcmp(after, name, n) == 0;
    if (!here && tell(p, &st) < 0)
        return -1;
    if (p->stop || !S_ISDIR(st.st_mode) || depth >= p->page->depth || depth >= PATH_DEPTH_MAX)
        return 0;
    const char *rest = here && after[first] == '/' ? after + first + 1 : NULL;
    return page_dir(p, at + n, depth + 1, rest);
}

/* Recursion is fit here: at most PATH_DEPTH_MAX deep. */
static int page_dir(struct pager *p, size_t len, unsigned depth, const char *after)
{
    AUTO(dir) DIR *d = NULL;
    struct err local;
    size_t first = after ? strcspn(after, "/") : 0;
    AUTO(names) struct names n = { .max = p->page->limit - p->told + 2 };
    p->path[len] = '\0';
    if (beneath_scan(p->base, p->path, &d, &local) < 0) {
        /* Below: replaced, removed, a mount. */
        if (depth > 1 && local.code != ERR_INTERNAL)
            return 0;
        *p->err = local;
        return -1;
    }
    if (gather(p, d, after, first, &n) < 0)
        return -1;
    if (n.count)
        qsort(n.items, n.count, sizeof(*n.items), by_name);
    for (size_t i = 0; i < n.count && !p->stop; i++)
        if (page_name(p, dirfd(d), len, n.items[i], depth, after, first) < 0)
            return -1;
    if (n.dropped && !p->stop)
        p->more = p->stop = true;
    return 0;
}

int file_page(int root, const struct file_path *dir, const struct file_page *page,
              int (*each)(void *ctx, const struct file_entry *e), void *ctx, bool *ret_more,
              struct err *err)
{
    AUTO(fd) int base = -1;
    if (beneath_dir(root, dir->text, &base, err) < 0)
        return -1;
    AUTO(free) struct pager *p = mem_new(1, sizeof(*p));
    *p = (struct pager){ .base = base,
                         .page = page,
                         .each = each,
                         .ctx = ctx,
                         .deadline_ms = clock_mono_ms() + FILE_PAGE_MS,
                         .err = err };
    if (page_dir(p, 0, 1, page->after) < 0)
        return -1;
    *ret_more = p->more;
    return 0;
}
