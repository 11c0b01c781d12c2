/* A temporary data directory for tests of the volume room, and a canary tree outside of every
 * workspace whose print (names, inodes, owners, modes, times, contents) must never change. */
#ifndef SUPPORT_VOLUME_HOME_H
#define SUPPORT_VOLUME_HOME_H

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "volume/file.h"
#include "volume/volume.h"

struct home {
    char dir[64];    /* everything */
    char data[80];   /* the daemon's data directory */
    char canary[80]; /* must stay as it is */
};

static inline void must(int ok, const char *what)
{
    if (!ok) {
        printf("Bail out! %s: errno %d\n", what, errno);
        exit(1);
    }
}

static inline void write_text(int dir, const char *path, const char *text)
{
    int fd = openat(dir, path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    must(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text), path);
    (void)close(fd);
}

static inline void home_init_at(struct home *h, const char *base)
{
    (void)snprintf(h->dir, sizeof(h->dir), "%s/volume-XXXXXX", base);
    must(mkdtemp(h->dir) != NULL, "mkdtemp");
    must(chmod(h->dir, 0755) == 0, "chmod");
    (void)snprintf(h->data, sizeof(h->data), "%s/data", h->dir);
    (void)snprintf(h->canary, sizeof(h->canary), "%s/canary", h->dir);
    must(mkdir(h->canary, 0755) == 0, "canary");
    int fd = open(h->canary, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    must(mkdirat(fd, "sub", 0755) == 0, "canary/sub");
    write_text(fd, "secret", "CANARY-7f3a91c2");
    write_text(fd, "sub/secret", "CANARY-7f3a91c2");
    (void)close(fd);
}

static inline void home_init(struct home *h)
{
    home_init_at(h, "/tmp");
}

static inline int home_rm_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
    (void)st, (void)flag, (void)ftw;
    (void)remove(path);
    return 0;
}

static inline void home_release(struct home *h)
{
    (void)nftw(h->dir, home_rm_one, 32, FTW_DEPTH | FTW_PHYS);
}

static uint64_t home_print_sum; /* nftw has no context argument */

static inline void home_print_add(const void *data, size_t len)
{
    const unsigned char *p = data;
    for (size_t i = 0; i < len; i++)
        home_print_sum = (home_print_sum ^ p[i]) * 1099511628211u;
}

static inline int home_print_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
    (void)ftw;
    char text[256];
    int n = snprintf(text, sizeof(text), "%s %d %ju %o %u %u %ju %jd %ld %jd %ld", path, flag,
                     (uintmax_t)st->st_ino, st->st_mode, st->st_uid, st->st_gid,
                     (uintmax_t)st->st_nlink, (intmax_t)st->st_ctim.tv_sec, st->st_ctim.tv_nsec,
                     (intmax_t)st->st_mtim.tv_sec, st->st_mtim.tv_nsec);
    home_print_add(text, (size_t)n);
    if (S_ISREG(st->st_mode)) {
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        char buf[256];
        ssize_t got = read(fd, buf, sizeof(buf));
        home_print_add(buf, got > 0 ? (size_t)got : 0);
        (void)close(fd);
    }
    return 0;
}

/* FNV-1a over all there is to know about the canary tree. Not for several threads at once. */
static inline uint64_t home_canary_print(const struct home *h)
{
    home_print_sum = 14695981039346656037u;
    (void)nftw(h->canary, home_print_one, 32, FTW_PHYS);
    return home_print_sum;
}

static inline int fetch_nothing(void *ctx, void *seed, struct err *err)
{
    (void)ctx, (void)seed;
    return err_set(err, ERR_NOT_FOUND, "no such directory");
}

/* A volume with one fresh workspace; its root descriptor. */
static inline int home_workspace(const struct home *h, uint32_t uid, struct volume **ret_v,
                                 struct sandbox_id *ret_id)
{
    struct err err = { 0 };
    uint64_t dev, ino;
    int root = -1;
    must(volume_new(h->data, uid, uid, ret_v, &err) == 0, err.msg);
    sandbox_id_new(ret_id);
    must(volume_golden_ensure(*ret_v, "sha256:00", fetch_nothing, NULL, &err) == 0, err.msg);
    must(volume_make(*ret_v, ret_id, "sha256:00", &dev, &ino, &err) == 0, err.msg);
    must(volume_open(*ret_v, ret_id, &root, &err) == 0, err.msg);
    return root;
}

static inline uint32_t home_uid(void)
{
    return geteuid() == 0 ? 1000 : geteuid();
}

static inline struct file_path path_of(const char *text)
{
    struct file_path p;
    struct err err = { 0 };
    must(file_path_parse(text, &p, &err) == 0, err.msg);
    return p;
}

/* One whole write; the error code or -1 for success. */
static inline int put_text(int root, const char *path, const char *text)
{
    struct file_path p = path_of(path);
    struct file_put *put = NULL;
    struct err err = { 0 };
    struct file_stat st;
    if (file_put_begin(root, &p, home_uid(), home_uid(), &put, &err) < 0)
        return (int)err.code;
    if (file_put_write(put, text, strlen(text), &err) < 0) {
        file_put_abort(put);
        return (int)err.code;
    }
    if (file_put_commit(put, &st, &err) < 0)
        return (int)err.code;
    return st.size == strlen(text) ? -1 : (int)ERR_INTERNAL;
}

static inline int append_text(int root, const char *path, const char *text)
{
    struct file_path p = path_of(path);
    struct err err = { 0 };
    struct file_stat st;
    return file_append(root, &p, home_uid(), home_uid(), NULL, text, strlen(text), &st, &err) < 0
               ? (int)err.code
               : -1;
}

/* Reads at most size - 1 bytes; the error code or -1. */
static inline int get_text(int root, const char *path, char *out, size_t size)
{
    struct file_path p = path_of(path);
    struct err err = { 0 };
    uint64_t len = 0;
    int fd = -1;
    out[0] = '\0';
    if (file_open(root, &p, &fd, &len, &err) < 0)
        return (int)err.code;
    ssize_t n = read(fd, out, size - 1);
    out[n > 0 ? n : 0] = '\0';
    (void)close(fd);
    return -1;
}

static inline int remove_path(int root, const char *path, bool recursive)
{
    struct file_path p = path_of(path);
    struct err err = { 0 };
    return file_remove(root, &p, recursive, NULL, &err) < 0 ? (int)err.code : -1;
}

struct listed {
    char text[4096]; /* "path:type " of each, in order */
    size_t len, count;
};

static inline int listed_add(void *ctx, const struct file_entry *e)
{
    struct listed *l = ctx;
    l->count++;
    if (l->len < sizeof(l->text)) {
        int n = snprintf(l->text + l->len, sizeof(l->text) - l->len, "%s:%s ", e->path,
                         file_type_name(e->type));
        l->len += (size_t)n;
    }
    return 0;
}

static inline int list_path(int root, const char *path, bool recursive, struct listed *ret)
{
    struct file_path p = path_of(path);
    struct err err = { 0 };
    bool truncated = false;
    *ret = (struct listed){ 0 };
    return file_list(root, &p, recursive, NULL, listed_add, ret, &truncated, &err) < 0
               ? (int)err.code
               : -1;
}

#endif
