/* The room's handle: the data directory's two folders, claims on names, and the calls that hand
 * over to the back end. Nothing here is kept in memory that matters: after a crash the directory
 * names tell everything (.tmp-… was being made, .gone-… was being removed), and the sweep removes
 * both. */
#include "volume/volume.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/str.h"
#include "beneath.h"
#include "change.h"
#include "internal.h"
#include "tree.h"

/* A folder of ours in the data directory; 0711 lets a mount source be reached but not be listed. */
static int own_dir(int data, const char *name, unsigned mode, int *ret_fd, struct err *err)
{
    AUTO(fd) int fd = -1;
    if (mkdirat(data, name, 0700) < 0 && errno != EEXIST)
        return err_sys(err, errno, "make %s in the data directory", name);
    if (beneath_dir(data, name, &fd, err) < 0)
        return err_wrap(err, "open %s in the data directory", name);
    if (fchmod(fd, mode) < 0 || fsync(data) < 0)
        return err_sys(err, errno, "prepare %s in the data directory", name);
    *ret_fd = TAKE_FD(fd);
    return 0;
}

int volume_new(const char *data_dir, uint32_t uid, uint32_t gid, struct volume **ret,
               struct err *err)
{
    char path[PATH_MAX];
    if (fd_mkdirs(data_dir, 0711, err) < 0)
        return -1;
    struct volume *v = mem_new(1, sizeof(*v));
    *v = (struct volume){
        .data = -1,
        .workspaces = -1,
        .golden = -1,
        .uid = uid,
        .gid = gid,
        .backend = &backend_directory,
        .usage = usage_new(),
    };
    mu_init(&v->lock, MU_VOLUME);
    cond_init(&v->changed);
    /* 128 bytes stay free for what volume_path appends. */
    if (beneath_root(data_dir, path, sizeof(path) - 128, &v->data, err) < 0 ||
        own_dir(v->data, "workspaces", 0711, &v->workspaces, err) < 0 ||
        own_dir(v->data, "golden", 0700, &v->golden, err) < 0) {
        volume_free(v);
        return -1;
    }
    v->path = str_dup(path);
    *ret = v;
    return 0;
}

void volume_free(struct volume *v)
{
    if (!v)
        return;
    usage_walk_free(v->walk);
    if (v->trash)
        (void)closedir(v->trash);
    usage_free(v->usage);
    const int fds[] = { v->data, v->workspaces, v->golden };
    for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++)
        if (fds[i] >= 0)
            (void)close(fds[i]);
    cond_release(&v->changed);
    mu_release(&v->lock);
    free(v->path);
    free(v);
}

static bool claimed(struct volume *v, const char *name) REQUIRES(&v->lock)
{
    for (const struct claim *c = v->claims; c; c = c->next)
        if (str_eq(c->name, name))
            return true;
    return false;
}

void volume_claim(struct volume *v, struct claim *c, const char *name)
{
    mu_lock(&v->lock);
    while (claimed(v, name))
        cond_wait(&v->changed, &v->lock);
    *c = (struct claim){ .name = name, .next = v->claims };
    v->claims = c;
    mu_unlock(&v->lock);
}

void volume_unclaim(struct volume *v, struct claim *c)
{
    mu_lock(&v->lock);
    struct claim **at = &v->claims;
    while (*at != c)
        at = &(*at)->next;
    *at = c->next;
    cond_broadcast(&v->changed);
    mu_unlock(&v->lock);
}

void volume_path(const struct volume *v, const struct sandbox_id *id, char *out, size_t size)
{
    (void)snprintf(out, size, "%s/workspaces/%s", v->path, id->text);
}

int volume_open(struct volume *v, const struct sandbox_id *id, int *ret_fd, struct err *err)
{
    return v->backend->open(v, id, ret_fd, err);
}

/* The sandbox may have removed or replaced its own directories, which is its right: what can be put
 * back is, and whatever stands there instead stays. */
static void restore_app(struct volume *v, int root)
{
    struct err ignored;
    const struct owner make = { .uid = v->uid, .gid = v->gid };
    int fd = -1;
    if (beneath_mkdirs(root, "workspace/app", &make, &fd, &ignored) == 0)
        (void)close(fd);
}

/* Removes what an earlier run of the program was unpacking or copying when it died: a tree of them
 * may be large, and nobody waits for it. */
static void drop_stale(int root)
{
    struct err ignored; /* the next bring-up tries again */
    AUTO(dir) DIR *d = NULL;
    struct dirent *e;
    bool stale;
    if (beneath_scan(root, "", &d, &ignored) < 0)
        return;
    while ((e = beneath_next(d)))
        if (beneath_is_temp(e->d_name, &stale) && stale && unlinkat(root, e->d_name, 0) < 0)
            trash_left();
}

int volume_make(struct volume *v, const struct sandbox_id *id, const char *digest,
                uint64_t *ret_dev, uint64_t *ret_ino, struct err *err)
{
    struct claim c;
    volume_claim(v, &c, id->text);
    AUTO(fd) int root = -1;
    struct err local = { .code = ERR_INTERNAL };
    char golden[GOLDEN_NAME_MAX];
    int rc = v->backend->open(v, id, &root, &local);
    if (rc == 0) {
        drop_stale(root);
        restore_app(v, root);
    } else if (local.code == ERR_NOT_FOUND) {
        rc = golden_name(digest, golden, &local);
        if (rc == 0)
            rc = v->backend->make(v, id, golden, &local);
        if (rc == 0)
            rc = v->backend->open(v, id, &root, &local);
    }
    volume_unclaim(v, &c);
    struct stat st;
    if (rc < 0) {
        *err = local;
        return err_wrap(err, "make the workspace");
    }
    if (fstat(root, &st) < 0)
        return err_sys(err, errno, "look at the workspace");
    volume_touched(v, id);
    *ret_dev = (uint64_t)st.st_dev;
    *ret_ino = (uint64_t)st.st_ino;
    return 0;
}

int volume_purge(struct volume *v, const struct sandbox_id *id, uint64_t dev, uint64_t ino,
                 uint64_t *ret_freed, struct err *err)
{
    struct claim c;
    uint64_t freed = 0;
    volume_claim(v, &c, id->text);
    int rc = v->backend->purge(v, id, dev, ino, &freed, err);
    volume_unclaim(v, &c);
    if (rc < 0)
        return err_wrap(err, "purge the workspace");
    usage_forget(v, id);
    *ret_freed = freed;
    return 0;
}

int volume_sweep_prefix(struct volume *v, int dir, const char *prefix, struct err *err)
{
    AUTO(dir) DIR *d = NULL;
    if (beneath_scan(dir, "", &d, err) < 0)
        return -1;
    int rc = 0;
    struct dirent *e;
    while ((e = beneath_next(d))) {
        if (!str_starts(e->d_name, prefix))
            continue;
        char name[NAME_BYTES];
        (void)str_copy(name, sizeof(name), e->d_name + strlen(prefix));
        uint64_t freed = 0;
        struct claim c;
        volume_claim(v, &c, name);
        if (tree_remove(dir, e->d_name, true, INT64_MAX, &freed, err) < 0)
            rc = -1;
        volume_unclaim(v, &c);
    }
    if (rc == 0 && errno)
        return beneath_fail(err, errno);
    return rc;
}

int volume_sweep(struct volume *v, struct err *err)
{
    int rc = golden_sweep(v, err);
    if (v->backend->sweep(v, err) < 0)
        rc = -1;
    return rc;
}
