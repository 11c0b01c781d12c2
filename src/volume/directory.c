/* Back end "directory": workspaces/<id>/ is the workspace. There is no quota to be had this way,
 * and volume_usage says so.
 *
 * A workspace appears by a rename of .tmp-<id> and disappears by a rename to .gone-<id>-<hex>, each
 * synced, so at any moment it is either whole or not there. */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fault.h"
#include "base/limits.h"
#include "base/str.h"
#include "beneath.h"
#include "change.h"
#include "internal.h"
#include "tree.h"

static int dir_open(struct volume *v, const struct sandbox_id *id, int *ret_fd, struct err *err)
{
    return beneath_dir(v->workspaces, id->text, ret_fd, err);
}

static int fill(struct volume *v, const char *temp, const char *golden, struct err *err)
{
    AUTO(fd) int src = -1, dst = -1;
    uint64_t files = 0;
    if (beneath_dir(v->golden, golden, &src, err) < 0)
        return err_wrap(err, "golden copy of the image");
    if (mkdirat(v->workspaces, temp, 0700) < 0)
        return beneath_fail(err, errno);
    if (beneath_dir(v->workspaces, temp, &dst, err) < 0 ||
        tree_clone(src, dst, v->uid, v->gid, NULL, &files, err) < 0)
        return -1;
    if (fchown(dst, v->uid, v->gid) < 0 || fchmod(dst, 0755) < 0)
        return beneath_fail(err, errno);
    /* One sync of the file system is cheaper than one for each of many files; without any the
     * directories alone matter, and the sync of the parent commits them. */
    if (files && syncfs(dst) < 0)
        return beneath_fail(err, errno);
    return 0;
}

static int dir_make(struct volume *v, const struct sandbox_id *id, const char *golden,
                    struct err *err)
{
    char temp[64];
    uint64_t freed = 0;
    (void)snprintf(temp, sizeof(temp), TEMP_PREFIX_TREE "%s", id->text);
    if (tree_remove(v->workspaces, temp, true, INT64_MAX, &freed, err) < 0)
        return -1;
    if (fill(v, temp, golden, err) < 0) {
        struct err ignored; /* the next make or the sweep removes it as well */
        (void)tree_remove(v->workspaces, temp, true, INT64_MAX, &freed, &ignored);
        return -1;
    }
    if (FAULT("volume.make.filled"))
        return beneath_fail(err, EIO);
    if (renameat(v->workspaces, temp, v->workspaces, id->text) < 0 || fsync(v->workspaces) < 0)
        return beneath_fail(err, errno);
    return 0;
}

/* Takes the workspace out of sight, if it is there and is the one that was recorded. */
static int hide(struct volume *v, const struct sandbox_id *id, uint64_t dev, uint64_t ino,
                struct err *err)
{
    AUTO(fd) int root = -1;
    struct err local;
    if (dir_open(v, id, &root, &local) < 0) {
        if (local.code == ERR_NOT_FOUND)
            return 0;
        /* A link, a mount or a file in its place: somebody else's doing, not ours to remove. */
        return err_set(err, ERR_CONFLICT, "the workspace was replaced by something else");
    }
    struct stat st;
    if (fstat(root, &st) < 0)
        return beneath_fail(err, errno);
    if ((dev && dev != (uint64_t)st.st_dev) || (ino && ino != (uint64_t)st.st_ino))
        return err_set(err, ERR_CONFLICT, "the workspace is not the directory that was recorded");
    uint8_t raw[8];
    char hex[17], gone[96];
    random_bytes(raw, sizeof(raw));
    hex_encode(raw, sizeof(raw), hex);
    (void)snprintf(gone, sizeof(gone), GONE_PREFIX "%s-%s", id->text, hex);
    if (renameat(v->workspaces, id->text, v->workspaces, gone) < 0 || fsync(v->workspaces) < 0)
        return beneath_fail(err, errno);
    return 0;
}

/* Removes all that earlier and present purges of this id have hidden, as far as there is time. */
static int remove_hidden(struct volume *v, const struct sandbox_id *id, uint64_t *ret_freed,
                         struct err *err)
{
    char prefix[64];
    (void)snprintf(prefix, sizeof(prefix), GONE_PREFIX "%s-", id->text);
    AUTO(dir) DIR *d = NULL;
    if (beneath_scan(v->workspaces, "", &d, err) < 0)
        return -1;
    struct dirent *e;
    int64_t deadline_ms = clock_mono_ms() + FILE_REMOVE_MS;
    while ((e = beneath_next(d))) {
        if (!str_starts(e->d_name, prefix) ||
            tree_remove(v->workspaces, e->d_name, true, deadline_ms, ret_freed, err) == 0)
            continue;
        if (err->code != ERR_TIMEOUT)
            return -1;
        trash_left();
        return 0;
    }
    return errno ? beneath_fail(err, errno) : 0;
}

static int dir_purge(struct volume *v, const struct sandbox_id *id, uint64_t dev, uint64_t ino,
                     uint64_t *ret_freed, struct err *err)
{
    if (hide(v, id, dev, ino, err) < 0)
        return -1;
    if (FAULT("volume.purge.hidden"))
        return beneath_fail(err, EIO);
    if (remove_hidden(v, id, ret_freed, err) < 0)
        return -1;
    return fsync(v->workspaces) < 0 ? beneath_fail(err, errno) : 0;
}

static int dir_sweep(struct volume *v, struct err *err)
{
    return volume_sweep_prefix(v, v->workspaces, TEMP_PREFIX_TREE, err);
}

const struct backend backend_directory = {
    .enforced = "none",
    .make = dir_make,
    .open = dir_open,
    .purge = dir_purge,
    .sweep = dir_sweep,
};
