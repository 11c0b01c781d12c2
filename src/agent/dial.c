/* The agent's way to the daemon, its clock and its signals. */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "agent.h"

int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

bool signals_take(const struct agent *a)
{
    struct signalfd_siginfo info;
    bool stop = false;
    while (read(a->signal_fd, &info, sizeof info) == (ssize_t)sizeof info) {
        /* Code in the sandbox has our uid and may signal us, but only what comes from outside our
         * pid namespace (pid 0) speaks for the Engine. Not being PID 1, we live in somebody's test.
         */
        if (info.ssi_signo != SIGCHLD && (info.ssi_pid == 0 || getpid() != 1))
            stop = true;
    }
    return stop;
}

int dial(const struct agent *a, enum frame_hello_kind kind, uint64_t number, int socket_flags)
{
    struct sockaddr_un addr = { .sun_family = AF_UNIX };
    if (strlen(a->socket_path) >= sizeof addr.sun_path) {
        errno = ENAMETOOLONG;
        return -1;
    }
    memcpy(addr.sun_path, a->socket_path, strlen(a->socket_path));
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | socket_flags, 0);
    if (fd < 0)
        return -1;

    uint8_t hello[FRAME_HEADER + FRAME_HELLO_LEN];
    struct frame_hello h = { .kind = (uint8_t)kind, .has_secret = a->has_secret, .number = number };
    memcpy(h.secret, a->secret, FRAME_SECRET);
    frame_header(hello, FRAME_HELLO, FRAME_HELLO_LEN);
    frame_put_hello(hello + FRAME_HEADER, &h);
    /* A fresh socket's buffer takes these few bytes at once, or the peer is gone. */
    if (connect(fd, (struct sockaddr *)&addr, sizeof addr) < 0 ||
        send(fd, hello, sizeof hello, MSG_NOSIGNAL) != (ssize_t)sizeof hello) {
        int error = errno;
        close(fd);
        errno = error;
        return -1;
    }
    return fd;
}

size_t put_failed(uint8_t out[FAILED_MAX], int error, enum frame_step step)
{
    const char *text = strerror(error);
    size_t n = strnlen(text, FAILED_MAX - FRAME_HEADER - FRAME_FAILED_MIN);
    frame_header(out, FRAME_FAILED, (uint32_t)(FRAME_FAILED_MIN + n));
    frame_set_u32(out + FRAME_HEADER, (uint32_t)error);
    out[FRAME_HEADER + 4] = (uint8_t)step;
    memcpy(out + FRAME_HEADER + FRAME_FAILED_MIN, text, n);
    return FRAME_HEADER + FRAME_FAILED_MIN + n;
}
