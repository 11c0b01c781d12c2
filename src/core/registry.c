/* Rows in memory. Two sorted arrays point at the same entries: by id for look-ups, by age for
 * lists. A snapshot is never changed once it is in an entry, so readers need the lock only to take
 * a reference. Nothing here survives a restart: core_new fills it from the store. */
#include "registry.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

#include "base/clock.h"
#include "base/limits.h"
#include "base/mu.h"
#include "base/str.h"

#define TOUCH_STEP_MS 1000 /* activity is kept to the second */
#define BIRTH_WAIT_MS 2000 /* from a commit to its row in memory: microseconds are usual */

struct snapshot {
    struct sandbox row; /* first: a reference is a pointer to it */
    atomic_uint refs;
};

struct entry {
    struct snapshot *snap;
    bool owned;
    bool touched; /* last_active_at_ms is newer than on disk */
    struct registry_live live;
};

struct registry {
    struct mu lock;
    struct cond changed;
    struct entry **by_id GUARDED_BY(lock);
    struct entry **by_age GUARDED_BY(lock);
    size_t count GUARDED_BY(lock), room GUARDED_BY(lock);
    uint32_t execs GUARDED_BY(lock);
    uint32_t births GUARDED_BY(lock); /* creates between their commit and registry_add */
    int watcher GUARDED_BY(lock);     /* eventfd, -1: none */
};

const struct sandbox *core_ref(const struct sandbox *s)
{
    struct snapshot *snap = (struct snapshot *)(uintptr_t)s;
    (void)atomic_fetch_add_explicit(&snap->refs, 1, memory_order_relaxed);
    return s;
}

void core_unref(const struct sandbox *s)
{
    struct snapshot *snap = (struct snapshot *)(uintptr_t)s;
    if (s && atomic_fetch_sub_explicit(&snap->refs, 1, memory_order_acq_rel) == 1)
        sandbox_free(&snap->row); /* the row is first: this frees the snapshot */
}

static struct snapshot *snapshot_of(struct sandbox *row)
{
    struct snapshot *snap = mem_new(1, sizeof *snap);
    snap->row = *row;
    free(row);
    atomic_init(&snap->refs, 1);
    return snap;
}

struct registry *registry_new(void)
{
    struct registry *r = mem_new(1, sizeof *r);
    mu_init(&r->lock, MU_REGISTRY);
    cond_init(&r->changed);
    r->watcher = -1;
    return r;
}

void registry_free(struct registry *r)
{
    if (!r)
        return;
    for (size_t i = 0; i < r->count; i++) {
        core_unref(&r->by_id[i]->snap->row);
        free(r->by_id[i]);
    }
    free(r->by_id);
    free(r->by_age);
    cond_release(&r->changed);
    mu_release(&r->lock);
    free(r);
}

void registry_watch(struct registry *r, int fd)
{
    mu_lock(&r->lock);
    r->watcher = fd;
    mu_unlock(&r->lock);
}

/* A row changed. The watcher's descriptor is written to under the lock, so that it is not used once
 * registry_watch has put another in its place; the write never blocks. */
static void tell_locked(struct registry *r) REQUIRES(r->lock)
{
    mu_held(&r->lock);
    cond_broadcast(&r->changed);
    if (r->watcher >= 0)
        (void)eventfd_write(r->watcher, 1); /* full: it is awake already */
}

/* Index of the first entry whose id is not below id. */
static size_t find_locked(struct registry *r, const struct sandbox_id *id) REQUIRES(r->lock)
{
    size_t lo = 0, hi = r->count;
    mu_held(&r->lock);
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (memcmp(r->by_id[mid]->snap->row.id.text, id->text, ID_LEN) < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

static struct entry *entry_locked(struct registry *r, const struct sandbox_id *id) REQUIRES(r->lock)
{
    size_t at = find_locked(r, id);
    return at < r->count && sandbox_id_eq(&r->by_id[at]->snap->row.id, id) ? r->by_id[at] : NULL;
}

static bool older(const struct sandbox *s, int64_t created_at_ms, const struct sandbox_id *id)
{
    if (s->created_at_ms != created_at_ms)
        return s->created_at_ms < created_at_ms;
    return memcmp(s->id.text, id->text, ID_LEN) < 0;
}

/* Index of the first entry that is not older. */
static size_t age_locked(struct registry *r, int64_t created_at_ms, const struct sandbox_id *id)
    REQUIRES(r->lock)
{
    size_t lo = 0, hi = r->count;
    mu_held(&r->lock);
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (older(&r->by_age[mid]->snap->row, created_at_ms, id))
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

static void insert(struct entry **list, size_t count, size_t at, struct entry *e)
{
    memmove(list + at + 1, list + at, (count - at) * sizeof(struct entry *));
    list[at] = e;
}

static void take_out(struct entry **list, size_t count, size_t at)
{
    memmove(list + at, list + at + 1, (count - at - 1) * sizeof(struct entry *));
}

const struct sandbox *registry_get(struct registry *r, const struct sandbox_id *id)
{
    mu_lock(&r->lock);
    struct entry *e = entry_locked(r, id);
    const struct sandbox *s = e ? core_ref(&e->snap->row) : NULL;
    mu_unlock(&r->lock);
    return s;
}

void registry_birth_begin(struct registry *r)
{
    mu_lock(&r->lock);
    r->births++;
    mu_unlock(&r->lock);
}

void registry_birth_end(struct registry *r)
{
    mu_lock(&r->lock);
    r->births--;
    cond_broadcast(&r->changed);
    mu_unlock(&r->lock);
}

const struct sandbox *registry_await(struct registry *r, const struct sandbox_id *id)
{
    int64_t deadline_ms = clock_mono_ms() + BIRTH_WAIT_MS;
    bool in_time = true;
    mu_lock(&r->lock);
    struct entry *e = entry_locked(r, id);
    while (!e && r->births > 0 && in_time) {
        in_time = cond_wait_until(&r->changed, &r->lock, deadline_ms);
        e = entry_locked(r, id);
    }
    const struct sandbox *s = e ? core_ref(&e->snap->row) : NULL;
    mu_unlock(&r->lock);
    return s;
}

/* Returns the reference that the entry held, or NULL when there is no such entry. */
static const struct sandbox *remove_locked(struct registry *r, const struct sandbox_id *id)
    REQUIRES(r->lock)
{
    struct entry *e = entry_locked(r, id);
    if (!e)
        return NULL;
    const struct sandbox *gone = &e->snap->row;
    take_out(r->by_id, r->count, find_locked(r, id));
    take_out(r->by_age, r->count, age_locked(r, gone->created_at_ms, id));
    r->count--;
    r->execs -= e->live.execs; /* their ends find no entry */
    free(e);
    return gone;
}

void registry_add(struct registry *r, struct sandbox *row, bool owned)
{
    struct entry *e = mem_new(1, sizeof *e);
    e->snap = snapshot_of(row);
    e->owned = owned;
    const struct sandbox *s = &e->snap->row;
    mu_lock(&r->lock);
    /* The store let the id in again, so an entry that is here still is one being deleted. */
    const struct sandbox *gone = remove_locked(r, &s->id);
    if (r->count == r->room) {
        r->room = r->room ? r->room * 2 : 64;
        r->by_id = reallocarray(r->by_id, r->room, sizeof(struct entry *));
        r->by_age = reallocarray(r->by_age, r->room, sizeof(struct entry *));
        if (!r->by_id || !r->by_age)
            abort();
    }
    size_t at_id = find_locked(r, &s->id), at_age = age_locked(r, s->created_at_ms, &s->id);
    insert(r->by_id, r->count, at_id, e);
    insert(r->by_age, r->count, at_age, e);
    r->count++;
    tell_locked(r);
    mu_unlock(&r->lock);
    core_unref(gone);
}

void registry_remove(struct registry *r, const struct sandbox_id *id)
{
    const struct sandbox *gone = NULL;
    mu_lock(&r->lock);
    struct entry *e = entry_locked(r, id);
    if (e && e->snap->row.state == SANDBOX_DELETING) /* else a new one of the same id came first */
        gone = remove_locked(r, id);
    tell_locked(r);
    mu_unlock(&r->lock);
    core_unref(gone);
}

bool registry_update(struct registry *r, const struct sandbox_id *id, registry_fn fn, void *ctx)
{
    const struct sandbox *old = NULL;
    mu_lock(&r->lock);
    struct entry *e = entry_locked(r, id);
    if (e) {
        old = &e->snap->row;
        struct sandbox *copy = sandbox_copy(old);
        fn(copy, ctx);
        e->snap = snapshot_of(copy);
        if (sandbox_state_settled(e->snap->row.state))
            e->owned = false;
        else if (sandbox_state_settled(old->state))
            e->owned = true; /* not a moment later: the sweep takes what nobody owns */
        tell_locked(r);
    }
    mu_unlock(&r->lock);
    core_unref(old);
    return old != NULL;
}

const struct sandbox *registry_take(struct registry *r, const struct sandbox_id *id,
                                    enum sandbox_state state)
{
    const struct sandbox *s = NULL;
    mu_lock(&r->lock);
    struct entry *e = entry_locked(r, id);
    if (e && !e->owned && e->snap->row.state == state) {
        e->owned = true;
        s = core_ref(&e->snap->row);
    }
    mu_unlock(&r->lock);
    return s;
}

void registry_disown(struct registry *r, const struct sandbox_id *id)
{
    mu_lock(&r->lock);
    struct entry *e = entry_locked(r, id);
    if (e)
        e->owned = false;
    mu_unlock(&r->lock);
}

/* A start clears the cause of the end before it; the claim under which the reconciler ends what was
 * started by hand does not. */
static bool starts(const struct sandbox *s)
{
    return (s->state == SANDBOX_CREATING || s->state == SANDBOX_STARTING) && !s->error_message;
}

bool registry_settled(struct registry *r, const struct sandbox_id *id, int64_t deadline_ms,
                      const struct sandbox **ret, bool *ret_start)
{
    bool in_time = true;
    *ret_start = false;
    *ret = NULL;
    mu_lock(&r->lock);
    for (;;) {
        struct entry *e = entry_locked(r, id);
        if (!e || sandbox_state_settled(e->snap->row.state)) {
            *ret = e ? core_ref(&e->snap->row) : NULL;
            break;
        }
        *ret_start = starts(&e->snap->row);
        if (!in_time)
            break;
        in_time = cond_wait_until(&r->changed, &r->lock, deadline_ms);
    }
    mu_unlock(&r->lock);
    return in_time || *ret;
}

void registry_await_move(struct registry *r, const struct sandbox *seen)
{
    int64_t deadline_ms = clock_mono_ms() + BIRTH_WAIT_MS;
    const struct entry *e;
    bool in_time = true;
    mu_lock(&r->lock);
    while ((e = entry_locked(r, &seen->id)) && e->snap->row.state == seen->state &&
           e->snap->row.epoch == seen->epoch && e->snap->row.updated_at_ms == seen->updated_at_ms &&
           in_time)
        in_time = cond_wait_until(&r->changed, &r->lock, deadline_ms);
    mu_unlock(&r->lock);
}

void registry_touch(struct registry *r, const struct sandbox_id *id)
{
    const struct sandbox *old = NULL;
    int64_t now = clock_wall_ms();
    mu_lock(&r->lock);
    struct entry *e = entry_locked(r, id);
    if (e && e->snap->row.last_active_at_ms + TOUCH_STEP_MS <= now) {
        old = &e->snap->row;
        struct sandbox *copy = sandbox_copy(old);
        copy->last_active_at_ms = now;
        e->snap = snapshot_of(copy);
        e->touched = true;
    }
    mu_unlock(&r->lock);
    core_unref(old);
}

size_t registry_take_touched(struct registry *r, struct store_activity *out, size_t max)
{
    size_t n = 0;
    mu_lock(&r->lock);
    for (size_t i = 0; i < r->count && n < max; i++) {
        struct entry *e = r->by_id[i];
        if (!e->touched)
            continue;
        e->touched = false;
        out[n++] = (struct store_activity){ .id = e->snap->row.id,
                                            .at_ms = e->snap->row.last_active_at_ms };
    }
    mu_unlock(&r->lock);
    return n;
}

int registry_exec_begin(struct registry *r, const struct sandbox_id *id, struct err *err)
{
    mu_lock(&r->lock);
    struct entry *e = entry_locked(r, id);
    bool there = e, ok = e && e->live.execs < EXEC_PER_SANDBOX_MAX;
    if (ok) {
        e->live.execs++;
        r->execs++;
    }
    mu_unlock(&r->lock);
    if (ok)
        return 0;
    return there ? err_set(err, ERR_CAPACITY, "%d commands run in this sandbox already",
                           EXEC_PER_SANDBOX_MAX)
                 : err_set(err, ERR_NOT_FOUND, "no sandbox %s", id->text);
}

void registry_exec_end(struct registry *r, const struct sandbox_id *id)
{
    mu_lock(&r->lock);
    struct entry *e = entry_locked(r, id);
    if (e && e->live.execs > 0) { /* gone, or made anew meanwhile: its count went with it */
        e->live.execs--;
        r->execs--;
    }
    mu_unlock(&r->lock);
}

uint32_t registry_execs(struct registry *r)
{
    mu_lock(&r->lock);
    uint32_t n = r->execs;
    mu_unlock(&r->lock);
    return n;
}

bool registry_live(struct registry *r, const struct sandbox_id *id, struct registry_live *ret)
{
    mu_lock(&r->lock);
    struct entry *e = entry_locked(r, id);
    if (e)
        *ret = e->live;
    mu_unlock(&r->lock);
    return e != NULL;
}

void registry_live_update(struct registry *r, const struct sandbox_id *id, registry_live_fn fn,
                          void *ctx)
{
    mu_lock(&r->lock);
    struct entry *e = entry_locked(r, id);
    if (e)
        fn(&e->live, ctx);
    mu_unlock(&r->lock);
}

static bool matches(const struct sandbox *s, const char *tenant, const struct core_filter *f)
{
    if (tenant && !str_eq(s->tenant, tenant))
        return false;
    if (f->state >= 0 && s->state != (enum sandbox_state)f->state)
        return false;
    if (f->external_user && !str_eq(s->external_user, f->external_user))
        return false;
    if (f->external_project && !str_eq(s->external_project, f->external_project))
        return false;
    return !f->meta_name || str_eq(strmap_get(&s->metadata, f->meta_name), f->meta_value);
}

void registry_list(struct registry *r, const char *tenant, const struct core_filter *f,
                   const struct sandbox ***ret, size_t *ret_count, bool *ret_more)
{
    const struct sandbox **rows = NULL;
    size_t n = 0, room = 0;
    bool more = false;
    mu_lock(&r->lock);
    size_t i = f->before_ms ? age_locked(r, f->before_ms, &f->before_id) : r->count;
    while (i-- > 0) {
        const struct sandbox *s = &r->by_age[i]->snap->row;
        if (!matches(s, tenant, f))
            continue;
        if (f->limit && n == f->limit) {
            more = true;
            break;
        }
        if (n == room) {
            room = room ? room * 2 : 64;
            rows = reallocarray(rows, room, sizeof *rows);
            if (!rows)
                abort();
        }
        rows[n++] = core_ref(s);
    }
    mu_unlock(&r->lock);
    *ret = rows;
    *ret_count = n;
    *ret_more = more;
}

void registry_count(struct registry *r, uint32_t ret[SANDBOX_STATE_COUNT])
{
    memset(ret, 0, SANDBOX_STATE_COUNT * sizeof *ret);
    mu_lock(&r->lock);
    for (size_t i = 0; i < r->count; i++)
        ret[r->by_id[i]->snap->row.state]++;
    mu_unlock(&r->lock);
}
