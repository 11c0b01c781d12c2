/* A fast HTTP/1.1 server to measure proxies with: one thread, one epoll loop, one fixed answer.
 *
 *   target PORT
 *
 * Reads heads (requests have no body), answers each with 64 bytes, keeps connections. Static, so
 * that it runs in any image. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define FDS 4096
#define HEAD_MAX 4096

static const char answer[] =
    "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 64\r\n\r\n"
    "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcde\n";
static struct {
    char data[HEAD_MAX + 1];
    size_t len;
} heads[FDS];

static void drop(int fd)
{
    heads[fd].len = 0;
    close(fd);
}

static void serve(int fd)
{
    ssize_t n = recv(fd, heads[fd].data + heads[fd].len, HEAD_MAX - heads[fd].len, MSG_DONTWAIT);
    if (n <= 0) {
        if (n == 0 || (errno != EAGAIN && errno != EINTR))
            drop(fd);
        return;
    }
    heads[fd].len += (size_t)n;
    heads[fd].data[heads[fd].len] = '\0';
    char *at = heads[fd].data, *end;
    while ((end = strstr(at, "\r\n\r\n"))) {
        at = end + 4;
        if (send(fd, answer, sizeof answer - 1, MSG_NOSIGNAL) < 0) {
            drop(fd);
            return;
        }
    }
    heads[fd].len -= (size_t)(at - heads[fd].data);
    memmove(heads[fd].data, at, heads[fd].len);
    if (heads[fd].len == HEAD_MAX)
        drop(fd);
}

int main(int argc, char **argv)
{
    struct sockaddr_in at = { .sin_family = AF_INET };
    struct epoll_event events[256], ev = { .events = EPOLLIN };
    int on = 1;
    if (argc != 2)
        return 2;
    at.sin_port = htons((uint16_t)strtoul(argv[1], NULL, 10));
    int listener = socket(AF_INET, SOCK_STREAM, 0), ep = epoll_create1(0);
    (void)setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, (struct sockaddr *)&at, sizeof at) < 0 || listen(listener, 1024) < 0) {
        perror("target");
        return 1;
    }
    ev.data.fd = listener;
    (void)epoll_ctl(ep, EPOLL_CTL_ADD, listener, &ev);
    for (;;) {
        int n = epoll_wait(ep, events, 256, -1);
        for (int i = 0; i < n; i++) {
            int fd = events[i].data.fd;
            if (fd != listener) {
                serve(fd);
                continue;
            }
            fd = accept(listener, NULL, NULL);
            if (fd >= FDS)
                close(fd);
            if (fd < 0 || fd >= FDS)
                continue;
            (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
            ev.data.fd = fd;
            (void)epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev);
        }
    }
}
