/* Descriptors: whole reads and writes, non-blocking mode, and small files. All descriptors made
 * here are close-on-exec. Threads: any. */
#ifndef BASE_FD_H
#define BASE_FD_H

#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>

#include "base/buf.h"
#include "base/err.h"

/* Writes all of it or fails with errno set; restarts after EINTR. Returns 0 or -1. */
int fd_write_all(int fd, const void *data, size_t len);
/* Reads exactly len bytes; -1 with errno (ENODATA: the end came first). */
int fd_read_all(int fd, void *data, size_t len);
/* Reads to the end into b (its ceiling counts). */
int fd_read_to_end(int fd, struct buf *b, struct err *err);
/* Waits until fd shows one of `events` (poll's) or the monotonic deadline passes:
 * 1 ready, 0 deadline, -1 error. */
int fd_wait(int fd, short events, int64_t deadline_ms);
/* Closes a socket whose options others may have set: without a wait, whatever SO_LINGER says. Who
 * could set it anew holds a copy, and then ours is not the last close. */
void fd_close_socket(int fd);
/* A listening TCP socket, non-blocking, of the address's family; a port that was just let go is
 * taken again. Of what is written to a connection accepted there, the kernel keeps no more than
 * PEER_UNSENT_MAX unsent. Returns a descriptor the caller owns, or -1 with errno. */
int fd_listen(const struct sockaddr *at, socklen_t len, int backlog);
/* Replaces the file name in the directory dirfd: temporary file, fsync, rename, fsync of dirfd. */
int fd_replace_file(int dirfd, const char *name, const void *data, size_t len, unsigned mode,
                    struct err *err);
/* mkdir -p for paths of our own (data directory); never for anything below a workspace. */
int fd_mkdirs(const char *path, unsigned mode, struct err *err);

#endif
