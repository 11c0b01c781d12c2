/* What PID 1 owes the daemon on a stream: a connection to a port in here, or a refusal.
 *
 * PID 1 must never wait, so each errand is a row of a table that its loop comes back to: a connect
 * under way, then an answer that found the daemon's queue full. Mostly both succeed at once, and
 * nothing is left of the errand when errand_… returns. */
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent.h"
#include "base/limits.h"

static struct errand {
    uint64_t number; /* of the stream to answer on */
    int64_t give_up_at;
    int fd; /* the connection; -1: refuse with error and step */
    int error;
    enum frame_step step;
    uint16_t port;
    bool six, connecting;
} errands[AGENT_ERRANDS_MAX];
static size_t errand_count;

static void drop(struct errand *e)
{
    if (e->fd >= 0)
        close(e->fd);
    e->fd = -1;
}

/* Begins the connect; where it fails at once there is nothing to wait for. */
static void set_out(struct errand *e)
{
    struct sockaddr_in four = { .sin_family = AF_INET,
                                .sin_port = htons(e->port),
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    struct sockaddr_in6 six = { .sin6_family = AF_INET6,
                                .sin6_port = htons(e->port),
                                .sin6_addr = IN6ADDR_LOOPBACK_INIT };
    const struct sockaddr *addr =
        e->six ? (const struct sockaddr *)&six : (const struct sockaddr *)&four;
    e->fd = socket(e->six ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK,
                   IPPROTO_TCP);
    e->connecting = e->fd >= 0 && (connect(e->fd, addr, e->six ? sizeof six : sizeof four) == 0 ||
                                   errno == EINPROGRESS);
    if (!e->connecting) {
        if (!e->six) /* why IPv4 was refused tells more than that there is no IPv6 */
            e->error = errno;
        drop(e);
    }
}

/* Goes on connecting as far as it can be known now. */
static void proceed(struct errand *e)
{
    while (e->connecting) {
        struct pollfd p = { .fd = e->fd, .events = POLLOUT };
        if (poll(&p, 1, 0) <= 0)
            return;
        int error = 0;
        socklen_t len = sizeof error;
        getsockopt(e->fd, SOL_SOCKET, SO_ERROR, &error, &len);
        e->connecting = false;
        if (error) {
            drop(e);
            if (!e->six)
                e->error = error;
        }
    }
}

/* True when it is off our hands. */
static bool answer(const struct agent *a, struct errand *e)
{
    int stream = dial(a, HELLO_STREAM, e->number, SOCK_NONBLOCK);
    if (stream < 0 && errno == EAGAIN)
        return false;
    uint8_t out[FAILED_MAX];
    union {
        struct cmsghdr head;
        char space[CMSG_SPACE(sizeof(int))];
    } control = { .head = { .cmsg_level = SOL_SOCKET,
                            .cmsg_type = SCM_RIGHTS,
                            .cmsg_len = CMSG_LEN(sizeof(int)) } };
    struct iovec io = { .iov_base = out, .iov_len = FRAME_HEADER };
    struct msghdr m = { .msg_iov = &io, .msg_iovlen = 1 };
    if (e->fd >= 0) {
        frame_header(out, FRAME_CONNECTED, 0);
        memcpy(CMSG_DATA(&control.head), &e->fd, sizeof e->fd);
        m.msg_control = &control;
        m.msg_controllen = sizeof control;
    } else {
        io.iov_len = put_failed(out, e->error, e->step);
    }
    if (stream >= 0) {
        (void)sendmsg(stream, &m, MSG_NOSIGNAL); /* fits, or nobody reads */
        close(stream);
    }
    drop(e);
    return true;
}

/* True when it is done with. */
static bool advance(const struct agent *a, struct errand *e)
{
    proceed(e);
    if (!e->connecting && e->fd < 0 && e->step == STEP_CONNECT && !e->six) {
        e->six = true;
        set_out(e);
        proceed(e);
    }
    if (!e->connecting && answer(a, e))
        return true;
    if (now_ms() < e->give_up_at)
        return false;
    drop(e); /* who asked has given up by now, too */
    return true;
}

static void begin(const struct agent *a, struct errand *e)
{
    e->give_up_at = now_ms() + LINK_STREAM_MS;
    if (advance(a, e))
        return;
    if (errand_count < AGENT_ERRANDS_MAX)
        errands[errand_count++] = *e;
    else
        drop(e); /* the daemon waits for an answer, in vain but not for long */
}

void errand_connect(const struct agent *a, uint64_t number, uint16_t port)
{
    struct errand e = { .number = number, .step = STEP_CONNECT, .port = port };
    set_out(&e);
    begin(a, &e);
}

void errand_refuse(const struct agent *a, uint64_t number, int error, enum frame_step step)
{
    struct errand e = { .number = number, .fd = -1, .error = error, .step = step };
    begin(a, &e);
}

size_t errands_watch(struct pollfd *out, int64_t *until)
{
    for (size_t i = 0; i < errand_count; i++) {
        int64_t again = errands[i].connecting ? errands[i].give_up_at : now_ms() + ERRAND_ROUND_MS;
        *until = again < *until ? again : *until;
        out[i] =
            (struct pollfd){ .fd = errands[i].connecting ? errands[i].fd : -1, .events = POLLOUT };
    }
    return errand_count;
}

void errands_advance(const struct agent *a)
{
    for (size_t i = 0; i < errand_count;) {
        if (advance(a, &errands[i]))
            errands[i] = errands[--errand_count];
        else
            i++;
    }
}

void errands_leave(void)
{
    for (size_t i = 0; i < errand_count; i++)
        drop(&errands[i]);
    errand_count = 0;
}
