/* Whole reads and writes, and small files that are replaced as a whole or not at all. */
#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/limits.h"
#include "base/str.h"

int fd_write_all(int fd, const void *data, size_t len)
{
    const char *p = data;
    while (len > 0) {
        ssize_t n = write(fd, p, len);
        if (n < 0) {
            if (errno == EINTR)
                continue;
            return -1;
        }
        p += n;
        len -= (size_t)n;
    }
    return 0;
}

int fd_read_all(int fd, void *data, size_t len)
{
    char *p = data;
    while (len > 0) {
        ssize_t n = read(fd, p, len);
        if (n < 0) {
            if (errno == EINTR)
                continue;
            return -1;
        }
        if (n == 0) {
            errno = ENODATA;
            return -1;
        }
        p += n;
        len -= (size_t)n;
    }
    return 0;
}

int fd_read_to_end(int fd, struct buf *b, struct err *err)
{
    for (;;) {
        char chunk[8192];
        ssize_t n = read(fd, chunk, sizeof chunk);
        if (n < 0) {
            if (errno == EINTR)
                continue;
            return err_sys(err, errno, "read");
        }
        if (n == 0)
            return buf_done(b, err);
        buf_add(b, chunk, (size_t)n);
        if (b->failed)
            return buf_done(b, err);
    }
}

int fd_wait(int fd, short events, int64_t deadline_ms)
{
    for (;;) {
        struct pollfd p = { .fd = fd, .events = events };
        int n = poll(&p, 1, clock_left_ms(deadline_ms));
        if (n > 0)
            return 1;
        if (n == 0)
            return 0;
        if (errno != EINTR)
            return -1;
    }
}

void fd_close_socket(int fd)
{
    struct linger off = { 0 };
    (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &off, sizeof off); /* no socket: nothing lingers */
    (void)close(fd);
}

int fd_listen(const struct sockaddr *at, socklen_t len, int backlog)
{
    static const int on = 1, unsent = PEER_UNSENT_MAX;
    int fd = socket(at->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on); /* bind tells if it matters */
    /* Inherited by what is accepted. */
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &unsent, sizeof unsent);
    if (bind(fd, at, len) == 0 && listen(fd, backlog) == 0)
        return fd;
    int sys = errno;
    (void)close(fd);
    errno = sys;
    return -1;
}

int fd_replace_file(int dirfd, const char *name, const void *data, size_t len, unsigned mode,
                    struct err *err)
{
    char temp[300], suffix[17];
    uint8_t random[8];
    random_bytes(random, sizeof random);
    hex_encode(random, sizeof random, suffix);
    if ((size_t)snprintf(temp, sizeof temp, ".%s.%s", name, suffix) >= sizeof temp)
        return err_set(err, ERR_INVALID, "file name is too long: %s", name);
    AUTO(fd)
    int fd = openat(dirfd, temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, mode);
    if (fd < 0)
        return err_sys(err, errno, "create %s", name);
    if (fchmod(fd, mode) < 0 || fd_write_all(fd, data, len) < 0 || fsync(fd) < 0 ||
        renameat(dirfd, temp, dirfd, name) < 0 || fsync(dirfd) < 0) {
        int sys = errno;
        (void)unlinkat(dirfd, temp, 0); /* may be renamed already */
        return err_sys(err, sys, "write %s", name);
    }
    return 0;
}

int fd_mkdirs(const char *path, unsigned mode, struct err *err)
{
    char part[4096];
    if (!str_copy(part, sizeof part, path) || part[0] == 0)
        return err_set(err, ERR_INVALID, "bad directory name");
    for (char *p = part + 1;; p++) {
        if (*p != '/' && *p != 0)
            continue;
        char c = *p;
        *p = 0;
        if (mkdir(part, mode) < 0 && errno != EEXIST)
            return err_sys(err, errno, "make directory %s", part);
        *p = c;
        if (c == 0)
            break;
    }
    struct stat st;
    if (stat(path, &st) < 0)
        return err_sys(err, errno, "look at %s", path);
    if (!S_ISDIR(st.st_mode))
        return err_set(err, ERR_INVALID, "%s is not a directory", path);
    return 0;
}
