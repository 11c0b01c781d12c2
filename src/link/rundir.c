/* The files of this room: <data>/bin/agent-<hash> and <data>/run/<id>/agent.sock.
 *
 * A run directory is mounted read-only into its sandbox, so nothing in it is the sandbox's work.
 * The socket is bound under another name and renamed into place when it listens already: an agent
 * that dials meanwhile finds the old one or the new one. What a crash leaves behind is replaced the
 * same way. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "base/cleanup.h"
#include "base/digest.h"
#include "base/fault.h"
#include "base/fd.h"
#include "base/limits.h"
#include "base/str.h"
#include "peer.h"

#define NEW_NAME ".agent.sock.new"
#define AGENT_HASH_BYTES 8

extern const unsigned char agent_blob[];
extern const size_t agent_blob_len;

static int open_dir(const char *path, unsigned mode, int *ret_fd, struct err *err)
{
    if (fd_mkdirs(path, mode, err) < 0)
        return -1;
    AUTO(fd) int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || fchmod(fd, mode) < 0) /* whatever the umask took */
        return err_sys(err, errno, "open directory %s", path);
    *ret_fd = TAKE_FD(fd);
    return 0;
}

/* Is the agent in place, whole? */
static bool agent_is_there(int dir, const char *name)
{
    AUTO(fd) int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) < 0 || (size_t)st.st_size != agent_blob_len ||
        (st.st_mode & 0777) != 0755)
        return false;
    AUTO(free) char *data = mem_new(1, agent_blob_len);
    return fd_read_all(fd, data, agent_blob_len) == 0 &&
           memcmp(data, agent_blob, agent_blob_len) == 0;
}

int agent_install(const char *data_dir, char **ret_path, struct err *err)
{
    uint8_t digest[DIGEST_BYTES];
    char hash[2 * AGENT_HASH_BYTES + 1], dir_path[PATH_BYTES_MAX], path[PATH_BYTES_MAX];
    digest_sha256(agent_blob, agent_blob_len, digest);
    hex_encode(digest, AGENT_HASH_BYTES, hash);
    if ((size_t)snprintf(path, sizeof path, "%s/bin/agent-%s", data_dir, hash) >= sizeof path)
        return err_set(err, ERR_INVALID, "data directory: name too long");
    (void)snprintf(dir_path, sizeof dir_path, "%.*s", (int)(strrchr(path, '/') - path), path);

    AUTO(fd) int dir = -1;
    if (open_dir(dir_path, 0755, &dir, err) < 0)
        return -1;
    const char *name = strrchr(path, '/') + 1;
    if (!agent_is_there(dir, name) &&
        fd_replace_file(dir, name, agent_blob, agent_blob_len, 0755, err) < 0)
        return err_wrap(err, "write the agent");
    *ret_path = str_dup(path);
    return 0;
}

int rundir_listen(const char *path, int *ret_fd, struct err *err)
{
    AUTO(fd) int dir = -1;
    AUTO(fd) int fd = -1;
    if (open_dir(path, 0755, &dir, err) < 0)
        return -1;
    /* A socket's address holds 108 bytes, a data directory may be deeper: go by way of the
     * descriptor. */
    struct sockaddr_un addr = { .sun_family = AF_UNIX };
    (void)snprintf(addr.sun_path, sizeof addr.sun_path, "/proc/self/fd/%d/%s", dir, NEW_NAME);
    if (unlinkat(dir, NEW_NAME, 0) < 0 && errno != ENOENT)
        return err_sys(err, errno, "agent socket: remove a stale one");
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&addr, sizeof addr) < 0)
        return err_sys(err, errno, "agent socket: bind");
    if (FAULT("link.socket.bound"))
        return err_set(err, ERR_INTERNAL, "agent socket: fault");
    /* The sandbox's uid must be able to connect; who else could is kept out by the directory above.
     */
    if (fchmodat(dir, NEW_NAME, 0666, 0) < 0 || listen(fd, LINK_BACKLOG) < 0 ||
        renameat(dir, NEW_NAME, dir, SOCKET_NAME) < 0)
        return err_sys(err, errno, "agent socket: listen");
    *ret_fd = TAKE_FD(fd);
    return 0;
}

void rundir_remove(const char *path)
{
    AUTO(fd) int dir = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (dir < 0)
        return;
    (void)unlinkat(dir, NEW_NAME, 0); /* what stays is replaced by the next start */
    (void)unlinkat(dir, SOCKET_NAME, 0);
    (void)rmdir(path);
}
