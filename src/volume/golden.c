/* Golden copies: golden/<digest>/ is what an image has in /home/sandbox, made once.
 *
 * The Engine's archive is spooled to a nameless file first, so a connection that breaks leaves
 * nothing, and then unpacked by unpack.c into .tmp-<digest>, synced and renamed: a golden copy is
 * whole or absent. Callers for the same digest wait for the one that holds its claim. */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fault.h"
#include "base/fd.h"
#include "base/limits.h"
#include "base/str.h"
#include "beneath.h"
#include "internal.h"
#include "tree.h"

struct volume_seed {
    int fd;
    uint64_t bytes;
    bool failed;
    struct err err; /* why: what the transport makes of our refusal says less */
};

int golden_name(const char *digest, char out[GOLDEN_NAME_MAX], struct err *err)
{
    static const char allowed[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789:+._-";
    if (!digest || !*digest || *digest == '.' || strspn(digest, allowed) != strlen(digest) ||
        !str_copy(out, GOLDEN_NAME_MAX - sizeof(TEMP_PREFIX_TREE), digest))
        return err_set(err, ERR_INVALID, "not an image digest");
    for (char *p = out; *p; p++)
        if (*p == ':')
            *p = '-';
    return 0;
}

int volume_golden_feed(void *seed, const void *data, size_t len, struct err *err)
{
    struct volume_seed *s = seed;
    int rc = 0;
    if (s->failed)
        rc = -1;
    else if (s->bytes + len > GOLDEN_BYTES_MAX)
        rc = err_set(&s->err, ERR_TOO_LARGE, "the image's home directory is larger than %llu MiB",
                     GOLDEN_BYTES_MAX / MIB);
    else if (fd_write_all(s->fd, data, len) < 0)
        rc = err_sys(&s->err, errno, "spool the image's home directory");
    if (rc < 0) {
        s->failed = true;
        *err = s->err;
        return -1;
    }
    s->bytes += len;
    return 0;
}

int golden_skeleton(int root, uint32_t uid, uint32_t gid, struct err *err)
{
    /* An image may have a file or a link by these names, which would be in the way of every file
     * call. */
    struct stat st;
    const struct owner make = { .uid = uid, .gid = gid, .unsynced = true };
    AUTO(fd) int parent = -1, app = -1;
    if (beneath_stat(root, "workspace", &st) == 0 && !S_ISDIR(st.st_mode) &&
        unlinkat(root, "workspace", 0) < 0)
        return beneath_fail(err, errno);
    if (beneath_mkdirs(root, "workspace", &make, &parent, err) < 0)
        return -1;
    if (beneath_stat(parent, "app", &st) == 0 && !S_ISDIR(st.st_mode) &&
        unlinkat(parent, "app", 0) < 0)
        return beneath_fail(err, errno);
    if (beneath_mkdirs(parent, "app", &make, &app, err) < 0)
        return -1;
    if (fchown(root, uid, gid) < 0 || fchmod(root, 0755) < 0)
        return beneath_fail(err, errno);
    return 0;
}

static bool golden_have(struct volume *v, const char *name)
{
    struct stat st;
    return beneath_stat(v->golden, name, &st) == 0 && S_ISDIR(st.st_mode);
}

/* Fetches into the spool. *ret_absent: the image has no such directory. */
static int spool(struct volume *v, int (*fetch)(void *ctx, void *seed, struct err *err), void *ctx,
                 int *ret_fd, bool *ret_absent, struct err *err)
{
    char temp[TEMP_NAME_BYTES];
    AUTO(fd) int fd = beneath_temp(v->golden, temp);
    if (fd < 0)
        return beneath_fail(err, errno);
    if (temp[0] && unlinkat(v->golden, temp, 0) < 0)
        return beneath_fail(err, errno);
    struct volume_seed seed = { .fd = fd };
    struct err local = { .code = ERR_INTERNAL };
    *ret_absent = false;
    if (fetch(ctx, &seed, &local) < 0) {
        if (!seed.failed && local.code == ERR_NOT_FOUND) {
            *ret_absent = true;
            return 0;
        }
        *err = seed.failed ? seed.err : local;
        return -1;
    }
    if (seed.failed) {
        *err = seed.err;
        return -1;
    }
    *ret_fd = TAKE_FD(fd);
    return 0;
}

static int golden_fill(struct volume *v, const char *temp, int tar, struct err *err)
{
    AUTO(fd) int root = -1;
    uint64_t skipped = 0;
    if (mkdirat(v->golden, temp, 0700) < 0)
        return beneath_fail(err, errno);
    if (beneath_dir(v->golden, temp, &root, err) < 0)
        return -1;
    if (tar >= 0 && golden_unpack(tar, root, v->uid, v->gid, &skipped, err) < 0)
        return -1;
    if (golden_skeleton(root, v->uid, v->gid, err) < 0)
        return -1;
    return syncfs(root) < 0 ? beneath_fail(err, errno) : 0;
}

static int golden_make(struct volume *v, const char *name,
                       int (*fetch)(void *ctx, void *seed, struct err *err), void *ctx,
                       struct err *err)
{
    char temp[GOLDEN_NAME_MAX + 16];
    uint64_t freed = 0;
    AUTO(fd) int tar = -1;
    bool absent = false;
    (void)snprintf(temp, sizeof(temp), TEMP_PREFIX_TREE "%s", name);
    if (tree_remove(v->golden, temp, true, INT64_MAX, &freed, err) < 0 ||
        spool(v, fetch, ctx, &tar, &absent, err) < 0)
        return -1;
    if (golden_fill(v, temp, tar, err) < 0) {
        struct err ignored; /* the next attempt or the sweep removes it as well */
        (void)tree_remove(v->golden, temp, true, INT64_MAX, &freed, &ignored);
        return -1;
    }
    if (FAULT("volume.golden.filled"))
        return beneath_fail(err, EIO);
    if (renameat(v->golden, temp, v->golden, name) < 0 || fsync(v->golden) < 0)
        return beneath_fail(err, errno);
    return 0;
}

int volume_golden_ensure(struct volume *v, const char *digest,
                         int (*fetch)(void *ctx, void *seed, struct err *err), void *ctx,
                         struct err *err)
{
    char name[GOLDEN_NAME_MAX];
    if (golden_name(digest, name, err) < 0)
        return -1;
    if (golden_have(v, name))
        return 0;
    struct claim c;
    volume_claim(v, &c, name);
    int rc = golden_have(v, name) ? 0 : golden_make(v, name, fetch, ctx, err);
    volume_unclaim(v, &c);
    return rc < 0 ? err_wrap(err, "copy the image's home directory") : 0;
}

int golden_sweep(struct volume *v, struct err *err)
{
    return volume_sweep_prefix(v, v->golden, TEMP_PREFIX_TREE, err);
}
