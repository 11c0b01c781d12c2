/* Descriptors that nobody asked for.
 *
 * Anybody in a sandbox can send descriptors along with his bytes, and the kernel closes those that
 * are not taken, in the thread that reads the bytes or closes the socket. Closing one can wait for
 * as long as its maker wishes: a TCP connection with SO_LINGER and a peer that does not read. So
 * what strangers say is read here, where every descriptor is taken, and cut off before it is
 * closed; and a socket of theirs is emptied the same way before it goes. */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "peer.h"

#define FDS_MAX 253 /* that the kernel passes with one message */

/* A connection without peer has nothing to wait for. What is no socket does not mind. */
void strange_drop(int fd)
{
    struct sockaddr nobody = { .sa_family = AF_UNSPEC };
    (void)connect(fd, &nobody, sizeof nobody);
    (void)close(fd);
}

ssize_t strange_receive(int socket, void *data, size_t len, int *ret_fd, bool *ret_surplus)
{
    union {
        struct cmsghdr head;
        char space[CMSG_SPACE(FDS_MAX * sizeof(int))];
    } control;
    struct iovec io = { .iov_base = data, .iov_len = len };
    struct msghdr m = {
        .msg_iov = &io, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control
    };
    ssize_t n = recvmsg(socket, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    *ret_surplus = false;
    if (n < 0)
        return n;
    *ret_surplus = m.msg_flags & MSG_CTRUNC;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < count; i++) {
            int fd;
            memcpy(&fd, CMSG_DATA(c) + i * sizeof fd, sizeof fd);
            if (ret_fd && *ret_fd < 0) {
                *ret_fd = fd;
            } else {
                strange_drop(fd);
                *ret_surplus = true;
            }
        }
    }
    return n;
}

void strange_close(int socket)
{
    char data[4096];
    bool surplus;
    ssize_t n;
    (void)shutdown(socket, SHUT_RDWR); /* what is in it now is all that there will be */
    do {
        n = strange_receive(socket, data, sizeof data, NULL, &surplus);
    } while (n > 0 || (n < 0 && errno == EINTR));
    (void)close(socket);
}

void strange_close_listener(int listener)
{
    int fd;
    (void)shutdown(listener, SHUT_RDWR);
    while ((fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC)) >= 0 || errno == EINTR)
        if (fd >= 0)
            strange_close(fd);
    (void)close(listener);
}
