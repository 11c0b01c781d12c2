/* Watching a tree with inotify.
 *
 * One node for each directory that is watched, found by the kernel's number; a node knows its
 * parent and its own name, so a path is put together when it is needed and a rename changes one
 * node: the kernel's watches go with the directory, so nothing done in it meanwhile is missed.
 * Directories that appear are added with all they hold, and what they hold already is told as
 * created: it may have been made before the kernel watched. When the kernel's queue overflows, all
 * is dropped and built again, and the reader is told to list again. */
#include "volume/watch.h"

#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/limits.h"
#include "base/str.h"
#include "walk.h"

#define MASK                                                                            \
    (IN_CREATE | IN_CLOSE_WRITE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | IN_ATTRIB | \
     IN_DELETE_SELF | IN_MOVE_SELF | IN_EXCL_UNLINK)
#define BUCKETS 1024
#define EVENTS_BYTES (64 * KIB)

struct node {
    int wd;
    struct node *parent; /* NULL: the top */
    struct node *next;   /* of the bucket */
    bool doomed;
    char *name;
};

struct file_watch {
    int base, inotify;
    bool recursive, limited, told_limit, gone;
    bool confused; /* begins anew, as after an overflow */
    const char *const *skip;
    uint32_t count;
    struct node *buckets[BUCKETS];
    /* The first half of a move, until its second half or something else comes. */
    uint32_t cookie;
    bool from_dir, from_hidden;
    int moving; /* the node it is about, or -1 */
    char from[PATH_BYTES_MAX];
    char path[PATH_BYTES_MAX];
    struct walk walk;
    int (*each)(void *ctx, const struct file_watch_event *e);
    void *ctx;
    bool ended;
    _Alignas(struct inotify_event) char events[EVENTS_BYTES];
};

static atomic_uint watches;

/* --- nodes --- */

static struct node **slot_of(struct file_watch *w, int wd)
{
    struct node **at = &w->buckets[(unsigned)wd % BUCKETS];
    while (*at && (*at)->wd != wd)
        at = &(*at)->next;
    return at;
}

static void free_node(struct node *n)
{
    free(n->name);
    free(n);
}

static void drop_all(struct file_watch *w)
{
    for (size_t i = 0; i < BUCKETS; i++) {
        while (w->buckets[i]) {
            struct node *n = w->buckets[i];
            w->buckets[i] = n->next;
            free_node(n);
        }
    }
    w->count = 0;
}

/* Path of a directory, with a name in it or "": false where that is too long. */
static bool path_of(const struct node *n, const char *name, char out[PATH_BYTES_MAX])
{
    size_t at = PATH_BYTES_MAX - 1, len = strlen(name);
    if (len > at)
        return false;
    at -= len;
    memcpy(out + at, name, len + 1);
    for (; n->parent; n = n->parent) {
        len = strlen(n->name);
        bool slash = out[at] != '\0';
        if (at < len + slash)
            return false;
        if (slash)
            out[--at] = '/';
        at -= len;
        memcpy(out + at, n->name, len);
    }
    memmove(out, out + at, PATH_BYTES_MAX - at);
    return true;
}

static bool below(const struct node *n, const struct node *top)
{
    for (; n; n = n->parent)
        if (n == top)
            return true;
    return false;
}

/* NULL: into itself, so what we know of the tree is not what the kernel knows. */
static struct node *put(struct file_watch *w, struct node *n, struct node *parent, const char *name)
{
    if (n->parent == parent && str_eq(n->name, name))
        return n;
    if (below(parent, n)) {
        w->confused = true;
        return NULL;
    }
    free(n->name);
    n->name = str_dup(name);
    n->parent = parent;
    return n;
}

/* Watches an open directory under a parent; NULL when that is not possible. The kernel answers with
 * the old number for a directory it watches already: it was moved, and that is still to be read. */
static struct node *add(struct file_watch *w, int dir, struct node *parent, const char *name,
                        bool *ret_fresh)
{
    *ret_fresh = false;
    if (w->count >= FILE_WATCH_DIRS_MAX) {
        w->limited = true;
        return NULL;
    }
    int wd = beneath_watch(w->inotify, dir, MASK);
    if (wd < 0) {
        w->limited = w->limited || errno == ENOSPC;
        return NULL;
    }
    struct node **at = slot_of(w, wd);
    if (*at)
        return put(w, *at, parent, name);
    struct node *n = mem_new(1, sizeof(*n));
    n->wd = wd;
    n->parent = parent;
    n->name = str_dup(name);
    *at = n;
    w->count++;
    *ret_fresh = true;
    return n;
}

/* Forgets a directory and all below it. */
static void drop(struct file_watch *w, const struct node *top)
{
    for (size_t i = 0; i < BUCKETS; i++)
        for (struct node *n = w->buckets[i]; n; n = n->next)
            n->doomed = below(n, top);
    for (size_t i = 0; i < BUCKETS; i++) {
        for (struct node **at = &w->buckets[i]; *at;) {
            struct node *n = *at;
            if (!n->doomed) {
                at = &n->next;
                continue;
            }
            *at = n->next;
            (void)inotify_rm_watch(w->inotify, n->wd); /* gone already: the same to us */
            free_node(n);
            w->count--;
        }
    }
}

static struct node *child(struct file_watch *w, const struct node *parent, const char *name)
{
    for (size_t i = 0; i < BUCKETS; i++)
        for (struct node *n = w->buckets[i]; n; n = n->next)
            if (n->parent == parent && str_eq(n->name, name))
                return n;
    return NULL;
}

/* --- telling --- */

static void tell(struct file_watch *w, enum file_change change, bool dir, const char *path,
                 const char *from)
{
    const struct file_watch_event e = {
        .change = change, .type = dir ? FILE_DIR : FILE_REGULAR, .path = path, .from = from
    };
    if (!w->ended && w->each && w->each(w->ctx, &e) != 0)
        w->ended = true;
}

/* Adds the directory that parent holds by that name, with all below it. all: what is in it is told
 * as created; otherwise only what is in directories that were not watched yet. */
static void add_tree(struct file_watch *w, struct node *parent, const char *name, bool all)
{
    struct node *chain[PATH_DEPTH_MAX + 2];
    bool told[PATH_DEPTH_MAX + 2], fresh;
    char path[PATH_BYTES_MAX];
    struct walk_entry e;
    struct err ignored; /* gone again: its removal will be told */
    size_t prefix;
    if (!path_of(parent, name, path) || (prefix = strlen(path)) + 2 > sizeof(path) ||
        walk_begin(&w->walk, w->base, path, w->skip, &ignored) < 0)
        return;
    chain[0] = add(w, dirfd(w->walk.level[0].d), parent, name, &fresh);
    told[0] = all || fresh;
    while (chain[0] && walk_next(&w->walk, &e, &ignored) > 0) {
        unsigned depth = w->walk.depth; /* of the directory that holds it, from 1 */
        if (told[depth - 1]) {
            size_t len = strlen(e.path);
            if (prefix + 1 + len < sizeof(path)) {
                path[prefix] = '/';
                memcpy(path + prefix + 1, e.path, len + 1);
                tell(w, FILE_CREATED, e.type == WALK_DIR, path, NULL);
            }
        }
        if (e.type != WALK_DIR)
            continue;
        AUTO(fd) int fd = -1;
        struct node *n = NULL;
        if (beneath_dir(e.dir, e.name, &fd, &ignored) == 0)
            n = add(w, fd, chain[depth - 1], e.name, &fresh);
        chain[depth] = n;
        told[depth] = n && (told[depth - 1] || fresh);
        if (!n)
            walk_prune(&w->walk);
    }
    walk_end(&w->walk);
}

/* Everything from the top; what is there is not told. */
static int build(struct file_watch *w, struct err *err)
{
    struct node *chain[PATH_DEPTH_MAX + 2];
    struct walk_entry e;
    bool fresh;
    int more = 0;
    chain[0] = add(w, w->base, NULL, "", &fresh);
    if (!chain[0])
        return err_set(err, ERR_CAPACITY, "the system has no room for another watch");
    if (!w->recursive)
        return 0;
    if (walk_begin(&w->walk, w->base, "", w->skip, err) < 0)
        return -1;
    while (!w->limited && (more = walk_next(&w->walk, &e, err)) > 0) {
        unsigned depth = w->walk.depth;
        if (e.type != WALK_DIR)
            continue;
        AUTO(fd) int fd = -1;
        struct err ignored;
        chain[depth] = beneath_dir(e.dir, e.name, &fd, &ignored) == 0
                           ? add(w, fd, chain[depth - 1], e.name, &fresh)
                           : NULL;
        if (!chain[depth])
            walk_prune(&w->walk);
    }
    walk_end(&w->walk);
    return w->limited || more >= 0 ? 0 : -1;
}

/* --- events --- */

/* What is being moved goes on being watched by its new name; false: it was not watched. */
static bool carry(struct file_watch *w, struct node *parent, const char *name)
{
    const struct node *old = child(w, parent, name);
    if (old && old->wd != w->moving)
        drop(w, old); /* an empty one, replaced by the move */
    struct node *n = *slot_of(w, w->moving);
    return n && put(w, n, parent, name);
}

static void drop_moving(struct file_watch *w)
{
    const struct node *n = *slot_of(w, w->moving);
    if (n)
        drop(w, n);
}

/* A move whose second half did not come leads out of what is watched. */
static void flush_move(struct file_watch *w)
{
    if (!w->cookie)
        return;
    w->cookie = 0;
    drop_moving(w);
    if (!w->from_hidden)
        tell(w, FILE_REMOVED, w->from_dir, w->from, NULL);
}

static void moved_from(struct file_watch *w, struct node *n, const char *name, bool dir,
                       bool hidden, uint32_t cookie)
{
    const struct node *moving = dir ? child(w, n, name) : NULL;
    w->moving = moving ? moving->wd : -1;
    w->cookie = cookie;
    w->from_dir = dir;
    w->from_hidden = hidden;
    (void)str_copy(w->from, sizeof(w->from), w->path);
}

/* A rename from a temporary name is how files are replaced: that is a change of content. */
static void moved_to(struct file_watch *w, struct node *n, const char *name, bool dir, bool hidden)
{
    const bool paired = w->cookie != 0;
    const bool replaced = paired && w->from_hidden;
    w->cookie = 0;
    if (hidden) {
        if (paired)
            drop_moving(w);
        if (paired && !replaced)
            tell(w, FILE_REMOVED, dir, w->from, NULL);
        return;
    }
    if (paired && !replaced)
        tell(w, FILE_MOVED, dir, w->path, w->from);
    else
        tell(w, dir ? FILE_CREATED : FILE_MODIFIED, dir, w->path, NULL);
    if (dir && w->recursive) /* also what was made in it just before, and not found any more */
        add_tree(w, n, name, !(paired && carry(w, n, name)));
}

static void reset(struct file_watch *w)
{
    struct err err;
    int fresh = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    if (fresh < 0) {
        w->gone = true;
    } else {
        (void)close(w->inotify); /* with all its watches and what is queued */
        w->inotify = fresh;
        drop_all(w);
        w->cookie = 0;
        w->limited = w->told_limit = w->confused = false;
        w->gone = build(w, &err) < 0;
    }
    tell(w, w->gone ? FILE_GONE : FILE_RESET, true, "", NULL);
}

/* A file without a name (O_TMPFILE) is called by the kernel what nothing in the directory is. */
static bool is_nameless(struct file_watch *w, const char *name)
{
    char leaf[NAME_BYTES];
    AUTO(fd) int dir = -1;
    struct err err;
    struct stat st;
    if (*name != '#')
        return false;
    if (beneath_parent(w->base, w->path, NULL, &dir, leaf, &err) < 0)
        return err.code == ERR_NOT_FOUND;
    return beneath_stat(dir, leaf, &st) < 0 && errno == ENOENT;
}

static void named(struct file_watch *w, struct node *n, const struct inotify_event *e)
{
    const bool dir = e->mask & IN_ISDIR;
    bool stale;
    bool hidden = walk_skipped(w->skip, e->name) || beneath_is_temp(e->name, &stale);
    if (!path_of(n, e->name, w->path))
        return;
    if (e->mask & IN_MOVED_TO) {
        moved_to(w, n, e->name, dir, hidden);
        return;
    }
    if (e->mask & IN_MOVED_FROM)
        moved_from(w, n, e->name, dir, hidden, e->cookie);
    else if (hidden)
        return;
    else if (e->mask & IN_DELETE)
        tell(w, FILE_REMOVED, dir, w->path, NULL);
    else if (e->mask & IN_CREATE)
        tell(w, FILE_CREATED, dir, w->path, NULL);
    else if (e->mask & IN_CLOSE_WRITE)
        tell(w, FILE_MODIFIED, false, w->path, NULL);
    else if ((e->mask & IN_ATTRIB) && !is_nameless(w, e->name))
        tell(w, FILE_ATTRIB, dir, w->path, NULL);
    if (dir && w->recursive && (e->mask & IN_CREATE))
        add_tree(w, n, e->name, true);
}

static void handle(struct file_watch *w, const struct inotify_event *e)
{
    if (e->mask & IN_Q_OVERFLOW) {
        reset(w);
        return;
    }
    if (w->cookie && !(e->mask & IN_MOVED_TO && e->cookie == w->cookie))
        flush_move(w);
    struct node *n = *slot_of(w, e->wd);
    if (!n)
        return;                 /* of a directory that was dropped */
    if (e->mask & IN_IGNORED) { /* removed: by then all below it is, too */
        drop(w, n);
        return;
    }
    if (e->mask & (IN_DELETE_SELF | IN_MOVE_SELF)) {
        if (!n->parent) {
            w->gone = true;
            tell(w, FILE_GONE, true, "", NULL);
        }
        return;
    }
    if (e->len > 0)
        named(w, n, e);
}

/* The same once more says nothing new. */
static bool same(const struct inotify_event *a, const struct inotify_event *b)
{
    return a && a->wd == b->wd && a->mask == b->mask && a->cookie == 0 && b->cookie == 0 &&
           a->len == b->len && memcmp(a->name, b->name, a->len) == 0;
}

/* What the kernel has queued; the second half of a move is waited for, but not long. */
static ssize_t read_events(struct file_watch *w)
{
    struct pollfd p = { .fd = w->inotify, .events = POLLIN };
    ssize_t n = read(w->inotify, w->events, sizeof(w->events));
    if (n < 0 && errno == EAGAIN && w->cookie && poll(&p, 1, FILE_WATCH_GAP_MS) > 0)
        n = read(w->inotify, w->events, sizeof(w->events));
    return n;
}

static void drain(struct file_watch *w)
{
    ssize_t n;
    while (!w->gone && !w->ended && (n = read_events(w)) > 0) {
        const struct inotify_event *before = NULL;
        int from = w->inotify;
        for (const char *p = w->events; p < w->events + n && !w->gone && !w->ended;) {
            const struct inotify_event *e = (const void *)p;
            p += sizeof(*e) + e->len;
            if (!same(before, e))
                handle(w, e);
            if (w->inotify != from)
                break; /* begun anew: the rest is of the old one */
            before = e;
        }
    }
    flush_move(w);
    if (w->confused && !w->gone && !w->ended)
        reset(w);
    if (w->limited && !w->told_limit) {
        w->told_limit = true;
        tell(w, FILE_LIMIT, true, "", NULL);
    }
}

/* The kernel says nothing of the top's removal while we hold it open. */
static void look_at_top(struct file_watch *w)
{
    struct stat st;
    if (w->gone || fstat(w->base, &st) < 0 || st.st_nlink > 0)
        return;
    w->gone = true;
    tell(w, FILE_GONE, true, "", NULL);
}

int file_watch_next(struct file_watch *w, int wake_fd, int64_t deadline_ms,
                    int (*each)(void *ctx, const struct file_watch_event *e), void *ctx)
{
    struct pollfd p[2] = { { .fd = w->inotify, .events = POLLIN },
                           { .fd = wake_fd, .events = POLLRDHUP } };
    w->each = each;
    w->ctx = ctx;
    if (w->gone || w->ended)
        return -1;
    if (w->limited && !w->told_limit) {
        drain(w);
        return w->ended ? -1 : 1;
    }
    if (poll(p, 2, clock_left_ms(deadline_ms)) <= 0 || !(p[0].revents & POLLIN)) {
        look_at_top(w);
        return w->gone || w->ended ? -1 : 0;
    }
    /* Changes seldom come alone. */
    (void)poll(&p[1], 1, FILE_WATCH_GAP_MS);
    drain(w);
    look_at_top(w);
    return w->gone || w->ended ? -1 : 1;
}

uint32_t file_watch_count(const struct file_watch *w)
{
    return w->count;
}

void file_watch_free(struct file_watch *w)
{
    if (!w)
        return;
    drop_all(w);
    auto_fd(&w->inotify);
    auto_fd(&w->base);
    free(w);
    (void)atomic_fetch_sub(&watches, 1);
}

int file_watch_new(int root, const struct file_path *dir, bool recursive, const char *const *skip,
                   struct file_watch **ret, struct err *err)
{
    struct file_watch *w = mem_new(1, sizeof(*w));
    w->base = w->inotify = w->moving = -1;
    w->recursive = recursive;
    w->skip = skip;
    int rc = 0;
    if (atomic_fetch_add(&watches, 1) >= FILE_WATCHES_MAX)
        rc = err_set(err, ERR_CAPACITY, "too many directories are being watched at the moment");
    if (rc == 0)
        rc = beneath_dir(root, dir->text, &w->base, err);
    if (rc == 0 && (w->inotify = inotify_init1(IN_CLOEXEC | IN_NONBLOCK)) < 0)
        rc = err_set(err, ERR_CAPACITY, "the system has no room for another watch");
    if (rc == 0)
        rc = build(w, err);
    if (rc < 0) {
        file_watch_free(w);
        return -1;
    }
    *ret = w;
    return 0;
}
