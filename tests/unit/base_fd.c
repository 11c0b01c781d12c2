/* Descriptors: whole reads and writes, deadlines, and files replaced as a whole. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fd.h"
#include "check.h"

static char home[] = "/tmp/sandboxd-unit-XXXXXX";

static bool content_is(int dir, const char *name, const char *want)
{
    struct err err;
    AUTO(buf) struct buf b = BUF_INIT(4096);
    AUTO(fd) int fd = openat(dir, name, O_RDONLY | O_CLOEXEC);
    return fd >= 0 && fd_read_to_end(fd, &b, &err) == 0 && strcmp(buf_str(&b), want) == 0;
}

static int entries(int dir)
{
    int n = 0;
    int copy = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = fdopendir(copy);
    while (readdir(d))
        n++;
    (void)closedir(d);
    return n - 2;
}

static void check_replace(int dir)
{
    struct err err;
    struct stat st;
    char longest[260];
    CHECK(fd_replace_file(dir, "a", "one", 3, 0600, &err) == 0 && content_is(dir, "a", "one"));
    CHECK(fd_replace_file(dir, "a", "two!", 4, 0444, &err) == 0 && content_is(dir, "a", "two!"));
    CHECK(fstatat(dir, "a", &st, 0) == 0 && (st.st_mode & 07777) == 0444);
    CHECK(fd_replace_file(dir, "a", "", 0, 0600, &err) == 0 && content_is(dir, "a", ""));
    CHECK(symlinkat("/etc/passwd", dir, "link") == 0);
    CHECK(fd_replace_file(dir, "link", "mine", 4, 0600, &err) == 0); /* the link, not its target */
    CHECK(fstatat(dir, "link", &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode));
    CHECK(mkdirat(dir, "sub", 0700) == 0);
    CHECK(fd_replace_file(dir, "sub", "x", 1, 0600, &err) == -1 && err.sys == EISDIR);
    CHECK(fd_replace_file(dir, "no/such", "x", 1, 0600, &err) == -1 && err.sys == ENOENT);
    memset(longest, 'n', sizeof longest);
    longest[sizeof longest - 1] = 0;
    CHECK(fd_replace_file(dir, longest, "x", 1, 0600, &err) == -1);
    CHECK(entries(dir) == 3); /* no temporary file stays, whatever failed */
}

static void check_whole(void)
{
    int ends[2];
    char got[8];
    struct err err;
    AUTO(buf) struct buf small = BUF_INIT(3);
    CHECK(pipe2(ends, O_CLOEXEC) == 0);
    CHECK(fd_wait(ends[0], POLLIN, clock_mono_ms() + 20) == 0);
    CHECK(fd_write_all(ends[1], "abcdef", 6) == 0);
    CHECK(fd_wait(ends[0], POLLIN, clock_mono_ms() + 5000) == 1);
    CHECK(fd_wait(ends[0], POLLIN, 0) == 1); /* ready counts, however late it is */
    CHECK(fd_read_all(ends[0], got, 2) == 0 && memcmp(got, "ab", 2) == 0);
    (void)close(ends[1]);
    CHECK(fd_read_to_end(ends[0], &small, &err) == -1 && err.code == ERR_TOO_LARGE);
    errno = 0;
    CHECK(fd_read_all(ends[0], got, 1) == -1 && errno == ENODATA);
    (void)close(ends[0]);
    CHECK(fd_write_all(-1, "x", 1) == -1 && errno == EBADF);
}

static void check_mkdirs(void)
{
    struct err err;
    struct stat st;
    char path[300];
    (void)snprintf(path, sizeof path, "%s/x/y//z", home);
    CHECK(fd_mkdirs(path, 0700, &err) == 0 && stat(path, &st) == 0 && (st.st_mode & 0777) == 0700);
    CHECK(fd_mkdirs(path, 0700, &err) == 0);
    (void)snprintf(path, sizeof path, "%s/a", home);
    CHECK(fd_mkdirs(path, 0700, &err) == -1 && err.code == ERR_INVALID);
    CHECK(fd_mkdirs("", 0700, &err) == -1);
    CHECK(fd_mkdirs("/proc/no/such", 0700, &err) == -1);
}

int main(void)
{
    char command[64];
    if (!mkdtemp(home))
        return 1;
    AUTO(fd) int dir = open(home, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    check_replace(dir);
    check_whole();
    check_mkdirs();
    (void)snprintf(command, sizeof command, "rm -r %s", home);
    CHECK(system(command) == 0);
    return check_done();
}
