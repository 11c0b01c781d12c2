/* Any bytes as an archive from a client: unpacked on tmpfs through a workspace root beside a canary
 * link; only regular files and directories may come of it, without special bits, and a refused
 * archive leaves nothing. */
#include <fcntl.h>
#include <ftw.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/limits.h"
#include "tree.h"
#include "volume/bulk.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv);

struct input {
    const uint8_t *data;
    size_t len;
};

static int base = -1;
static char base_path[] = "/dev/shm/fuzz-import-XXXXXX";

static void demand(int ok)
{
    if (!ok)
        abort();
}

static void clean(void)
{
    (void)rmdir(base_path);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc, (void)argv;
    demand(mkdtemp(base_path) != NULL);
    base = open(base_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    demand(base >= 0);
    (void)atexit(clean);
    return 0;
}

static int look(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
    (void)path, (void)flag, (void)ftw;
    demand(S_ISREG(st->st_mode) || S_ISDIR(st->st_mode));
    demand(!(st->st_mode & 07000));
    return 0;
}

/* In small pieces, so that the reader's own buffering is met, too. */
static ssize_t feed(void *ctx, void *out, size_t len, struct err *err)
{
    struct input *in = ctx;
    (void)err;
    size_t n = in->len < 700 ? in->len : 700;
    n = n < len ? n : len;
    memcpy(out, in->data, n);
    in->data += n;
    in->len -= n;
    return (ssize_t)n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct file_import_stats stats;
    struct err err = { 0 };
    struct file_path path;
    struct input in = { .data = data, .len = size };
    uint64_t freed = 0;
    char target[64];
    struct stat st;
    demand(mkdirat(base, "t", 0755) == 0);
    int root = openat(base, "t", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    demand(file_path_parse("/home/sandbox/in", &path, &err) == 0);
    int rc = file_import(root, &path, geteuid(), getegid(), feed, &in, &stats, &err);
    (void)snprintf(target, sizeof(target), "%s/t", base_path);
    (void)nftw(target, look, 16, FTW_PHYS);
    demand(fstat(root, &st) == 0 && st.st_nlink == (rc == 0 ? 3 : 2)); /* the target alone */
    (void)close(root);
    demand(tree_remove(base, "t", false, INT64_MAX, &freed, &err) == 0);
    demand(fstat(base, &st) == 0 && st.st_nlink == 2);
    return 0;
}
