/* What workspaces use on disk: an advisory figure, measured by walking and never by asking the
 * reader to wait.
 *
 * A table of slots by id, marked by whoever lets a workspace change; as that comes before the
 * change is complete, a mark is worth two measurements, the second a gap later. The measuring
 * thread takes one slot that is due at a time and looks at USAGE_ROUND_ENTRIES entries a round,
 * keeping its place between rounds. A file with several names counts once in all: each name carries
 * its share. Directories whose path is longer than the kernel takes, or that do not fit the stack,
 * are left out: the figure is then a lower bound. All of it may be forgotten: a lost slot is
 * measured again.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/limits.h"
#include "base/str.h"
#include "beneath.h"
#include "internal.h"

#define BUCKETS 4096
#define DUE 2
#define TICK_BUSY_MS 10   /* between rounds of one walk: at most about half a core */
#define TICK_IDLE_MS 1000 /* between looks for something due */

struct slot {
    struct sandbox_id id;
    uint64_t used_bytes;
    bool known;
    uint8_t due;     /* measurements still to be made */
    int64_t next_ms; /* not measured before this moment */
    struct slot *next;
};

struct usage {
    struct slot *buckets[BUCKETS];
    uint32_t count;
    uint32_t cursor; /* bucket where the next search begins */
};

struct usage_walk {
    struct sandbox_id id;
    int root;
    DIR *dir;          /* being read; NULL: take the next from the stack */
    struct buf prefix; /* path of dir, "" for the root */
    struct buf stack;  /* NUL-terminated paths of directories still to visit */
    uint64_t used;
};

struct usage *usage_new(void)
{
    return mem_new(1, sizeof(struct usage));
}

void usage_free(struct usage *u)
{
    for (size_t i = 0; u && i < BUCKETS; i++) {
        while (u->buckets[i]) {
            struct slot *s = u->buckets[i];
            u->buckets[i] = s->next;
            free(s);
        }
    }
    free(u);
}

void usage_walk_free(struct usage_walk *w)
{
    if (!w)
        return;
    if (w->dir)
        (void)closedir(w->dir);
    (void)close(w->root);
    buf_release(&w->prefix);
    buf_release(&w->stack);
    free(w);
}

static struct slot **find(struct usage *u, const struct sandbox_id *id)
{
    uint32_t h = 2166136261u; /* FNV-1a */
    for (const char *p = id->text; *p; p++)
        h = (h ^ (unsigned char)*p) * 16777619u;
    struct slot **at = &u->buckets[h % BUCKETS];
    while (*at && !sandbox_id_eq(&(*at)->id, id))
        at = &(*at)->next;
    return at;
}

/* The slot of an id, due when new; NULL when the table is full. */
static struct slot *obtain(struct volume *v, const struct sandbox_id *id) REQUIRES(&v->lock)
{
    struct slot **at = find(v->usage, id);
    if (!*at && v->usage->count < USAGE_SLOTS_MAX) {
        *at = mem_new(1, sizeof(**at));
        (*at)->id = *id;
        (*at)->due = DUE;
        v->usage->count++;
    }
    return *at;
}

void volume_usage(struct volume *v, const struct sandbox_id *id, struct volume_usage *ret)
{
    *ret = (struct volume_usage){ .enforced = v->backend->enforced };
    mu_lock(&v->lock);
    const struct slot *s = obtain(v, id);
    if (s) {
        ret->known = s->known;
        ret->used_bytes = s->used_bytes;
    }
    mu_unlock(&v->lock);
}

void volume_touched(struct volume *v, const struct sandbox_id *id)
{
    mu_lock(&v->lock);
    struct slot *s = obtain(v, id);
    if (s)
        s->due = DUE;
    mu_unlock(&v->lock);
}

void usage_forget(struct volume *v, const struct sandbox_id *id)
{
    mu_lock(&v->lock);
    struct slot **at = find(v->usage, id), *s = *at;
    if (s) {
        *at = s->next;
        v->usage->count--;
    }
    mu_unlock(&v->lock);
    free(s);
}

/* Takes the next slot that is due, round the table; it is counted down now, so that what changes
 * during the walk marks it again. */
static bool next_due(struct volume *v, int64_t now_ms, struct sandbox_id *ret)
{
    bool found = false;
    mu_lock(&v->lock);
    struct usage *u = v->usage;
    for (uint32_t i = 0; i < BUCKETS && !found; i++) {
        for (struct slot *s = u->buckets[u->cursor]; s && !found; s = s->next) {
            if (!s->due || s->next_ms > now_ms)
                continue;
            s->due--;
            s->next_ms = now_ms + USAGE_GAP_MS;
            *ret = s->id;
            found = true;
        }
        if (!found)
            u->cursor = (u->cursor + 1) % BUCKETS;
    }
    mu_unlock(&v->lock);
    return found;
}

static void publish(struct volume *v, const struct usage_walk *w)
{
    mu_lock(&v->lock);
    struct slot *s = *find(v->usage, &w->id);
    if (s) { /* else purged meanwhile */
        s->known = true;
        s->used_bytes = w->used;
    }
    mu_unlock(&v->lock);
}

static struct usage_walk *walk_start(struct volume *v, int64_t now_ms)
{
    struct sandbox_id id;
    struct err ignored;
    int root = -1;
    while (next_due(v, now_ms, &id)) {
        if (v->backend->open(v, &id, &root, &ignored) < 0) {
            usage_forget(v, &id); /* no workspace (yet): whoever makes one marks it */
            continue;
        }
        struct usage_walk *w = mem_new(1, sizeof(*w));
        w->id = id;
        w->root = root;
        buf_init(&w->prefix, PATH_BYTES_MAX);
        buf_init(&w->stack, USAGE_STACK_MAX);
        buf_add(&w->stack, "", 1);
        return w;
    }
    return NULL;
}

/* Opens the next directory of the stack; false: none is left. */
static bool walk_enter(struct usage_walk *w)
{
    while (w->stack.len) {
        size_t at = w->stack.len - 1; /* of the NUL that ends the last path */
        while (at && w->stack.data[at - 1])
            at--;
        buf_reset(&w->prefix);
        buf_adds(&w->prefix, w->stack.data + at);
        w->stack.len = at;
        struct err ignored; /* gone or replaced meanwhile */
        if (beneath_scan(w->root, buf_str(&w->prefix), &w->dir, &ignored) == 0) {
            struct stat st;
            if (fstat(dirfd(w->dir), &st) == 0)
                w->used += (uint64_t)st.st_blocks * 512;
            return true;
        }
    }
    return false;
}

static void walk_push(struct usage_walk *w, const char *name)
{
    size_t prefix = w->prefix.len, len = strlen(name);
    if (prefix + len + 2 > PATH_BYTES_MAX || w->stack.len + prefix + len + 2 > w->stack.max)
        return;
    if (prefix) {
        buf_add(&w->stack, buf_str(&w->prefix), prefix);
        buf_addc(&w->stack, '/');
    }
    buf_add(&w->stack, name, len + 1);
}

/* One round; true: the walk is complete. */
static bool walk_round(struct usage_walk *w)
{
    for (uint32_t n = 0; n < USAGE_ROUND_ENTRIES; n++) {
        if (!w->dir && !walk_enter(w))
            return true;
        struct dirent *e = beneath_next(w->dir);
        if (!e) {
            (void)closedir(w->dir);
            w->dir = NULL;
            continue;
        }
        struct stat st;
        if (beneath_stat(dirfd(w->dir), e->d_name, &st) < 0)
            continue;
        if (S_ISDIR(st.st_mode))
            walk_push(w, e->d_name);
        else if (st.st_nlink)
            w->used += (uint64_t)st.st_blocks * 512 / st.st_nlink;
    }
    return false;
}

int64_t volume_measure_tick(void *volume, int64_t mono_ms)
{
    struct volume *v = volume;
    if (!v->walk)
        v->walk = walk_start(v, mono_ms);
    if (!v->walk)
        return TICK_IDLE_MS;
    if (walk_round(v->walk)) {
        publish(v, v->walk);
        usage_walk_free(v->walk);
        v->walk = NULL;
    }
    return TICK_BUSY_MS;
}
