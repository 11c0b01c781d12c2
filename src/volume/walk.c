/* Walks. A name that cannot be told (gone, too deep, too long) is counted and passed over: the
 * tree belongs to a sandbox that may change it under us in any way. */
#include "walk.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>

#include "base/str.h"

static atomic_uint walks;

int walk_enter(struct err *err)
{
    if (atomic_fetch_add(&walks, 1) < FILE_WALKS_MAX)
        return 0;
    walk_leave();
    return err_set(err, ERR_CAPACITY, "too many trees are being read or written at the moment");
}

void walk_leave(void)
{
    (void)atomic_fetch_sub(&walks, 1);
}

bool walk_skipped(const char *const *skip, const char *name)
{
    for (size_t i = 0; skip && skip[i]; i++)
        if (str_eq(skip[i], name))
            return true;
    return false;
}

int walk_begin(struct walk *w, int root, const char *path, const char *const *skip, struct err *err)
{
    w->skip = skip;
    w->depth = 0;
    w->len = 0;
    w->path[0] = '\0';
    w->pending = false;
    w->dropped = w->deep = 0;
    if (beneath_scan(root, path, &w->level[0].d, err) < 0)
        return -1;
    w->level[0].len = 0;
    w->depth = 1;
    return 0;
}

void walk_end(struct walk *w)
{
    while (w->depth)
        (void)closedir(w->level[--w->depth].d);
}

void walk_prune(struct walk *w)
{
    w->pending = false;
}

/* Opens the directory that was told last. Gone or replaced meanwhile, or a mount: passed over. */
static int descend(struct walk *w, struct err *err)
{
    DIR *up = w->level[w->depth - 1].d;
    size_t at = w->level[w->depth - 1].len;
    struct err local;
    DIR *d = NULL;
    w->pending = false;
    if (w->depth > PATH_DEPTH_MAX) {
        w->dropped++;
        w->deep++;
        return 0;
    }
    if (beneath_scan(dirfd(up), w->path + at + (at > 0), &d, &local) < 0) {
        if (local.sys == EMFILE || local.sys == ENFILE || local.sys == ENOMEM) {
            *err = local;
            return -1;
        }
        w->dropped++;
        return 0;
    }
    w->level[w->depth].d = d;
    w->level[w->depth].len = w->len;
    w->depth++;
    return 0;
}

static int type_of(int dir, const struct dirent *e)
{
    struct stat st;
    switch (e->d_type) {
    case DT_REG:
        return WALK_FILE;
    case DT_DIR:
        return WALK_DIR;
    case DT_LNK:
        return WALK_LINK;
    case DT_UNKNOWN:
        if (beneath_stat(dir, e->d_name, &st) < 0)
            return -1;
        if (S_ISREG(st.st_mode))
            return WALK_FILE;
        if (S_ISDIR(st.st_mode))
            return WALK_DIR;
        return S_ISLNK(st.st_mode) ? WALK_LINK : WALK_OTHER;
    default:
        return WALK_OTHER;
    }
}

int walk_next(struct walk *w, struct walk_entry *ret, struct err *err)
{
    if (w->pending && descend(w, err) < 0)
        return -1;
    while (w->depth) {
        DIR *d = w->level[w->depth - 1].d;
        size_t at = w->level[w->depth - 1].len;
        struct dirent *e = beneath_next(d);
        if (!e && errno)
            return beneath_fail(err, errno);
        if (!e) {
            (void)closedir(d);
            w->depth--;
            continue;
        }
        bool stale;
        if (walk_skipped(w->skip, e->d_name) || beneath_is_temp(e->d_name, &stale))
            continue;
        size_t name = strlen(e->d_name), len = at + (at > 0) + name;
        w->deep += len >= sizeof(w->path);
        int type = len < sizeof(w->path) ? type_of(dirfd(d), e) : -1;
        if (type < 0) {
            w->dropped++;
            continue;
        }
        if (at)
            w->path[at] = '/';
        memcpy(w->path + len - name, e->d_name, name + 1);
        w->len = len;
        w->pending = type == WALK_DIR;
        *ret = (struct walk_entry){ .dir = dirfd(d),
                                    .name = w->path + len - name,
                                    .path = w->path,
                                    .type = (__typeof__(ret->type))type };
        return 1;
    }
    return 0;
}
