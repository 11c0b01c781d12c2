/* Any bytes as the archive of an image's home directory: unpacked on tmpfs, where a canary beside
 * the target must stay alone and no file may get a special bit. */
#include <fcntl.h>
#include <ftw.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/limits.h"
#include "internal.h"
#include "tree.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv);

static int base = -1, spool = -1;
static char base_path[] = "/dev/shm/fuzz-tar-XXXXXX";

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
    spool = memfd_create("tar", MFD_CLOEXEC);
    demand(base >= 0 && spool >= 0);
    (void)atexit(clean);
    return 0;
}

static int look(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
    (void)path, (void)flag;
    demand(ftw->level <= PATH_DEPTH_MAX + 1);
    demand(S_ISREG(st->st_mode) || S_ISDIR(st->st_mode) || S_ISLNK(st->st_mode));
    demand(S_ISLNK(st->st_mode) || !(st->st_mode & 07000));
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct err err = { 0 };
    uint64_t skipped = 0, freed = 0;
    demand(ftruncate(spool, 0) == 0 && pwrite(spool, data, size, 0) == (ssize_t)size);
    demand(mkdirat(base, "t", 0700) == 0);
    int dest = openat(base, "t", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    (void)golden_unpack(spool, dest, geteuid(), getegid(), &skipped, &err);
    demand(golden_skeleton(dest, geteuid(), getegid(), &err) == 0);
    char path[64];
    (void)snprintf(path, sizeof(path), "%s/t", base_path);
    (void)nftw(path, look, 16, FTW_PHYS);
    (void)close(dest);
    demand(tree_remove(base, "t", false, INT64_MAX, &freed, &err) == 0);
    demand(unlinkat(base, "t", AT_REMOVEDIR) < 0); /* gone, and nothing in its place */
    struct stat st;
    demand(fstat(base, &st) == 0 && st.st_nlink == 2); /* no directory was made beside it */
    return 0;
}
