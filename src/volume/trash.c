/* Trees that take long to remove. They are renamed out of sight, answered for, and removed here, a
 * little each round: purged workspaces lie as .gone-… beside the living ones, directories of a
 * living one under a temporary name of no run in its own root (outside, a process in it could climb
 * to where its mount does not reach). The names are the whole memory: after a crash the first
 * pass finds what is left, as it finds what other crashes left in workspaces. */
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/limits.h"
#include "base/str.h"
#include "beneath.h"
#include "change.h"
#include "internal.h"
#include "tree.h"

#define TICK_IDLE_MS 1000

/* Something lies somewhere. Of the room and not of a handle: who leaves it knows a root only. The
 * first pass of a run is one after a crash. */
static _Atomic bool due = true;

void trash_left(void)
{
    atomic_store(&due, true);
}

struct pass {
    struct volume *v;
    int64_t deadline_ms;
    bool left; /* not all could be removed in time */
};

static void removed(struct pass *p, int dir, const char *name, bool unmount)
{
    struct err err;
    uint64_t freed = 0;
    /* What fails otherwise than by time fails again at once: the next run tries. */
    if (tree_remove(dir, name, unmount, p->deadline_ms, &freed, &err) < 0 &&
        err.code == ERR_TIMEOUT)
        p->left = true;
}

static void clean_workspace(struct pass *p, const char *name)
{
    struct sandbox_id id;
    struct err ignored; /* no workspace, or gone meanwhile */
    AUTO(fd) int root = -1;
    AUTO(dir) DIR *d = NULL;
    bool stale, any = false;
    if (sandbox_id_parse(name, &id, &ignored) < 0 ||
        p->v->backend->open(p->v, &id, &root, &ignored) < 0 ||
        beneath_scan(root, "", &d, &ignored) < 0)
        return;
    struct dirent *e;
    while ((e = beneath_next(d))) {
        if (clock_mono_ms() >= p->deadline_ms) { /* the sandbox may have made ever so many names */
            p->left = true;
            break;
        }
        if (!beneath_is_temp(e->d_name, &stale) || !stale)
            continue;
        any = true;
        if (unlinkat(root, e->d_name, 0) < 0)
            removed(p, root, e->d_name, false);
    }
    if (any)
        volume_touched(p->v, &id);
}

/* One round: a worker's tick. A pass goes through all workspaces; each gets its share of a round.
 */
int64_t volume_trash_tick(void *volume, int64_t mono_ms)
{
    struct volume *v = volume;
    struct err ignored;
    struct dirent *e;
    if (!v->trash && !atomic_exchange(&due, false))
        return TICK_IDLE_MS;
    if (!v->trash && beneath_scan(v->workspaces, "", &v->trash, &ignored) < 0) {
        trash_left(); /* it is still there */
        return TICK_IDLE_MS;
    }
    struct pass p = { .v = v, .deadline_ms = mono_ms + TRASH_ROUND_MS };
    while (clock_mono_ms() < p.deadline_ms && (e = beneath_next(v->trash))) {
        if (str_starts(e->d_name, GONE_PREFIX))
            removed(&p, v->workspaces, e->d_name, true);
        else
            clean_workspace(&p, e->d_name);
    }
    if (p.left)
        trash_left();
    if (clock_mono_ms() < p.deadline_ms) { /* the end of the directory */
        (void)closedir(v->trash);
        v->trash = NULL;
    }
    return TRASH_ROUND_MS; /* at most half a core */
}

int trash_tree(int root, int dir, const char *leaf, const struct file_match *match, struct err *err)
{
    char name[TEMP_NAME_BYTES];
    uint64_t freed = 0;
    AUTO(fd) int there = -1; /* no mount and no link */
    if (beneath_dir(dir, leaf, &there, err) < 0)
        return -1;
    beneath_trash_name(name);
    struct mu *lock = change_lock_of(root);
    mu_lock(lock);
    int rc = change_check_name(match, dir, leaf, err);
    if (rc == 0 && renameat(dir, leaf, root, name) < 0)
        rc = beneath_fail(err, errno);
    mu_unlock(lock);
    /* A full disk may have no room for one more name. */
    if (rc < 0 && err->code == ERR_NO_SPACE)
        return tree_remove(dir, leaf, false, clock_mono_ms() + FILE_REMOVE_FULL_MS, &freed, err);
    if (rc < 0)
        return -1;
    if (tree_remove(root, name, false, clock_mono_ms() + FILE_REMOVE_MS, &freed, err) == 0)
        return 0;
    if (err->code != ERR_TIMEOUT) {
        (void)rename_new(root, name, dir, leaf); /* what stays must not be hidden */
        return -1;
    }
    trash_left();
    return 0;
}
