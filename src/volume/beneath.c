/* The one place of this room that opens anything.
 *
 * Invariant: a path that came from outside is resolved by the kernel in one openat2 with the flags
 * of RESOLVE; there is no check that could be raced and no fallback where openat2 is missing. Names
 * handed to mkdirat, fstatat and the like are single components inside a descriptor that was opened
 * here. */
#include "beneath.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/limits.h"
#include "base/str.h"

#define RESOLVE (RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV)
/* The kernel answers EAGAIN when a rename elsewhere made its proof of containment uncertain, or
 * when somebody holds a lease on the file. The first passes at once; the second must not keep us
 * here. */
#define OPEN_TRIES 32
#define TEMP_PREFIX ".put-"
#define TEMP_SUFFIX ".tmp"
#define RUN_BYTES 8

int beneath_open(int dir, const char *path, int flags, unsigned mode)
{
    struct open_how how = {
        .flags = (uint64_t)(unsigned)(flags | O_CLOEXEC | O_NOCTTY | O_NONBLOCK),
        .mode = mode,
        .resolve = RESOLVE,
    };
    int fd = -1;
    for (int i = 0; i < OPEN_TRIES; i++) {
        fd = (int)syscall(SYS_openat2, dir, *path ? path : ".", &how, sizeof(how));
        if (fd >= 0 || (errno != EAGAIN && errno != EINTR))
            break;
    }
    return fd;
}

int beneath_fail(struct err *err, int sys)
{
    enum err_code code = ERR_INTERNAL;
    const char *msg = NULL;
    switch (sys) {
    case ELOOP:
    case EXDEV:
        code = ERR_PATH_ESCAPE;
        msg = "the path leads through a symbolic link or out of the workspace";
        break;
    case ENOENT:
        code = ERR_NOT_FOUND;
        msg = "no such file or directory in the workspace";
        break;
    case ENOTDIR:
        code = ERR_INVALID;
        msg = "a part of the path is not a directory";
        break;
    case EISDIR:
        code = ERR_INVALID;
        msg = "the path names a directory, not a file";
        break;
    case ENAMETOOLONG:
        code = ERR_INVALID;
        msg = "the path is too long";
        break;
    case ENXIO:
    case ENODEV:
        code = ERR_INVALID;
        msg = "the path names neither a regular file nor a directory";
        break;
    case ENOTEMPTY:
    case EEXIST:
        code = ERR_CONFLICT;
        msg = "the directory is not empty";
        break;
    case EAGAIN:
    case EBUSY:
    case ETXTBSY:
        code = ERR_CONFLICT;
        msg = "the file or directory is in use by something else";
        break;
    default:
        return err_sys(err, sys, "workspace file system");
    }
    (void)err_set(err, code, "%s", msg);
    err->sys = sys;
    return -1;
}

/* Is it a part of the path that is no directory, or the end of it? */
static int no_dir(int dir, const char *path, struct err *err)
{
    char up[PATH_BYTES_MAX + 1];
    AUTO(fd) int fd = -1;
    const char *slash = strrchr(path, '/');
    size_t len = slash ? (size_t)(slash - path) : 0;
    if (len < sizeof(up)) {
        memcpy(up, path, len);
        up[len] = '\0';
        fd = beneath_open(dir, up, O_RDONLY | O_DIRECTORY, 0);
    }
    (void)beneath_fail(err, ENOTDIR);
    if (fd < 0)
        return -1;
    (void)err_set(err, ERR_INVALID, "a directory is needed, and the path names something else");
    err->sys = ENOTDIR;
    return -1;
}

int beneath_dir(int dir, const char *path, int *ret_fd, struct err *err)
{
    int fd = beneath_open(dir, path, O_RDONLY | O_DIRECTORY, 0);
    if (fd < 0 && errno == ENOTDIR)
        return no_dir(dir, path, err);
    if (fd < 0)
        return beneath_fail(err, errno);
    *ret_fd = fd;
    return 0;
}

int beneath_scan(int dir, const char *path, DIR **ret, struct err *err)
{
    int fd = -1;
    if (beneath_dir(dir, path, &fd, err) < 0)
        return -1;
    DIR *d = fdopendir(fd);
    if (!d) {
        int sys = errno;
        (void)close(fd);
        return beneath_fail(err, sys);
    }
    *ret = d;
    return 0;
}

struct dirent *beneath_next(DIR *d)
{
    struct dirent *e;
    do {
        errno = 0;
        e = readdir(d); /* a DIR belongs to one thread here, which makes this safe */
    } while (e && (str_eq(e->d_name, ".") || str_eq(e->d_name, "..")));
    return e;
}

int beneath_stat(int dir, const char *name, struct stat *ret)
{
    return fstatat(dir, name, ret, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT);
}

/* Enters one directory, making it when it is missing. Only what is still ours is given away: in a
 * race with the sandbox, which may have put a directory of its own there, nothing is left to be
 * done. */
static int enter(int dir, const char *name, const struct owner *make, int *ret_fd, struct err *err)
{
    AUTO(fd) int fd = beneath_open(dir, name, O_RDONLY | O_DIRECTORY, 0);
    if (fd < 0 && errno == ENOENT) {
        if (mkdirat(dir, name, 0775) < 0 && errno != EEXIST)
            return beneath_fail(err, errno);
        fd = beneath_open(dir, name, O_RDONLY | O_DIRECTORY, 0);
        struct stat st;
        if (fd < 0 || fstat(fd, &st) < 0)
            return beneath_fail(err, errno);
        if (st.st_uid == geteuid() &&
            (fchmod(fd, 0775) < 0 || fchown(fd, make->uid, make->gid) < 0))
            return beneath_fail(err, errno);
        if (!make->unsynced && (fsync(fd) < 0 || fsync(dir) < 0))
            return beneath_fail(err, errno);
    }
    if (fd < 0)
        return beneath_fail(err, errno);
    *ret_fd = TAKE_FD(fd);
    return 0;
}

int beneath_mkdirs(int root, const char *path, const struct owner *make, int *ret_fd,
                   struct err *err)
{
    AUTO(fd) int dir = beneath_open(root, path, O_RDONLY | O_DIRECTORY, 0);
    if (dir < 0 && errno != ENOENT)
        return beneath_fail(err, errno);
    if (dir < 0) {
        if (beneath_dir(root, "", &dir, err) < 0)
            return -1;
        for (const char *p = path; *p;) {
            size_t len = strcspn(p, "/");
            char name[NAME_BYTES];
            if (len >= sizeof(name))
                return beneath_fail(err, ENAMETOOLONG);
            memcpy(name, p, len);
            name[len] = '\0';
            int next = -1;
            if (enter(dir, name, make, &next, err) < 0)
                return -1;
            (void)close(dir);
            dir = next;
            p += len + (p[len] == '/');
        }
    }
    *ret_fd = TAKE_FD(dir);
    return 0;
}

int beneath_parent(int root, const char *path, const struct owner *make, int *ret_dir,
                   char leaf[NAME_BYTES], struct err *err)
{
    const char *slash = strrchr(path, '/');
    const char *last = slash ? slash + 1 : path;
    if (!*last)
        return beneath_fail(err, EISDIR);
    char up[PATH_BYTES_MAX + 1];
    size_t len = slash ? (size_t)(slash - path) : 0;
    if (len >= sizeof(up) || !str_copy(leaf, NAME_BYTES, last))
        return beneath_fail(err, ENAMETOOLONG);
    memcpy(up, path, len);
    up[len] = '\0';
    if (make)
        return beneath_mkdirs(root, up, make, ret_dir, err);
    int fd = beneath_open(root, up, O_RDONLY | O_DIRECTORY, 0);
    if (fd < 0)
        return beneath_fail(err, errno);
    *ret_dir = fd;
    return 0;
}

/* --- temporary names: .put-<16 hex of this run><16 hex>.tmp --- */

static char run_hex[RUN_BYTES * 2 + 1];

static void run_init(void)
{
    uint8_t raw[RUN_BYTES];
    random_bytes(raw, sizeof(raw));
    hex_encode(raw, sizeof(raw), run_hex);
}

static const char *run_name(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    (void)pthread_once(&once, run_init);
    return run_hex;
}

static void temp_name(const char *run, char name[TEMP_NAME_BYTES])
{
    uint8_t raw[RUN_BYTES];
    char hex[RUN_BYTES * 2 + 1];
    random_bytes(raw, sizeof(raw));
    hex_encode(raw, sizeof(raw), hex);
    (void)snprintf(name, TEMP_NAME_BYTES, TEMP_PREFIX "%s%s" TEMP_SUFFIX, run, hex);
}

void beneath_temp_name(char name[TEMP_NAME_BYTES])
{
    temp_name(run_name(), name);
}

void beneath_trash_name(char name[TEMP_NAME_BYTES])
{
    temp_name("0000000000000000", name);
}

bool beneath_is_temp(const char *name, bool *ret_stale)
{
    const size_t prefix = sizeof(TEMP_PREFIX) - 1, hex = RUN_BYTES * 4;
    if (!str_starts(name, TEMP_PREFIX) || strspn(name + prefix, "0123456789abcdef") != hex ||
        !str_eq(name + prefix + hex, TEMP_SUFFIX))
        return false;
    *ret_stale = memcmp(name + prefix, run_name(), RUN_BYTES * 2) != 0;
    return true;
}

int beneath_temp(int dir, char name[TEMP_NAME_BYTES])
{
    name[0] = '\0';
    struct stat st;
    int fd = beneath_open(dir, ".", O_TMPFILE | O_RDWR, 0600);
    if (fd < 0 && errno == EPERM && fstat(dir, &st) == 0 && st.st_nlink == 0)
        errno = ENOENT; /* ext4's word for a directory removed meanwhile */
    if (fd >= 0 || (errno != EOPNOTSUPP && errno != EISDIR && errno != EINVAL))
        return fd;
    beneath_temp_name(name);
    fd = beneath_open(dir, name, O_CREAT | O_EXCL | O_RDWR, 0600);
    if (fd < 0)
        name[0] = '\0';
    return fd;
}

/* The path goes through our own descriptor of a verified directory, so nothing is resolved. */
int beneath_watch(int inotify, int dir, uint32_t mask)
{
    char self[64];
    (void)snprintf(self, sizeof(self), "/proc/self/fd/%d", dir);
    return inotify_add_watch(inotify, self, mask | IN_ONLYDIR);
}

int beneath_root(const char *path, char *path_out, size_t size, int *ret_fd, struct err *err)
{
    /* The operator's own path: links in it are the operator's business. */
    AUTO(fd) int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return err_sys(err, errno, "open the data directory");
    char link[64];
    (void)snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path_out, size);
    if (n < 0)
        return err_sys(err, errno, "find the data directory's path");
    if ((size_t)n >= size)
        return err_set(err, ERR_INVALID, "the data directory's path is too long");
    path_out[n] = '\0';
    int probe = beneath_open(fd, ".", O_RDONLY | O_DIRECTORY, 0);
    if (probe < 0 && (errno == ENOSYS || errno == EPERM || errno == EINVAL)) {
        (void)err_set(err, ERR_NOT_SUPPORTED, "the system call openat2 is not available");
        return err_remedy(err,
                          "Use Linux 5.6 or later, and a seccomp profile that allows openat2.");
    }
    if (probe < 0)
        return err_sys(err, errno, "open the data directory");
    (void)close(probe);
    *ret_fd = TAKE_FD(fd);
    return 0;
}
