/* Listening ports, as agents tell of them, and connections to them.
 *
 * A connection is made by the agent inside the sandbox and comes here as a descriptor over a
 * stream. What comes is judged by the kernel's word alone: anything that is no TCP socket connected
 * to the asked port on loopback is closed, and so is every descriptor beyond the first. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/limits.h"
#include "base/str.h"
#include "peer.h"

int ports_hear(struct link *l, struct peer *p, const struct frame *f)
{
    mu_held(&l->lock);
    size_t count = f->len / 3;
    if (f->len % 3 != 0 || count > LINK_PORTS_MAX)
        return -1;
    struct link_port *ports = mem_new(count ? count : 1, sizeof *ports);
    unsigned last = 0;
    for (size_t i = 0; i < count; i++) {
        const uint8_t *at = f->payload + 3 * i;
        ports[i] = (struct link_port){ .port = frame_u16(at), .loopback = at[2] == 1 };
        if (ports[i].port <= last || at[2] > 1) {
            free(ports);
            return -1;
        }
        last = ports[i].port;
    }
    free(p->ports);
    p->ports = ports;
    p->port_count = count;
    change_note(l, p, LINK_CHANGE_PORTS);
    cond_broadcast(&l->changed);
    return 0;
}

size_t link_ports(struct link *l, const struct sandbox_id *id, struct link_port *out, size_t max)
{
    mu_lock(&l->lock);
    const struct peer *p = peer_find(l, id);
    size_t n = p ? p->port_count : 0;
    n = n < max ? n : max;
    if (n > 0)
        memcpy(out, p->ports, n * sizeof *out);
    mu_unlock(&l->lock);
    return n;
}

static const struct link_port *port_find(const struct peer *p, uint16_t port)
{
    for (size_t i = 0; i < p->port_count; i++)
        if (p->ports[i].port == port)
            return &p->ports[i];
    return NULL;
}

bool link_listens(struct link *l, const struct sandbox_id *id, uint16_t port, bool *ret_loopback)
{
    mu_lock(&l->lock);
    const struct peer *p = peer_find(l, id);
    const struct link_port *found = p ? port_find(p, port) : NULL;
    if (found)
        *ret_loopback = found->loopback;
    mu_unlock(&l->lock);
    return found != NULL;
}

int link_wait_port(struct link *l, const struct sandbox_id *id, uint16_t port, int64_t deadline_ms,
                   bool *ret_loopback, struct err *err)
{
    const struct peer *p;
    const struct link_port *found = NULL;
    bool in_time = true;
    mu_lock(&l->lock);
    while ((p = peer_find(l, id)) && p->control && !(found = port_find(p, port)) && in_time)
        in_time = cond_wait_until(&l->changed, &l->lock, deadline_ms);
    bool connected = p && p->control;
    if (found)
        *ret_loopback = found->loopback;
    mu_unlock(&l->lock);
    if (found)
        return 0;
    if (!connected)
        return err_set(err, ERR_UNAVAILABLE, "the sandbox's agent is not connected");
    return err_set(err, ERR_TIMEOUT, "nothing listens on port %u in the sandbox", port);
}

int stream_receive(int stream, uint8_t *data, size_t len, int *ret_fd, int64_t deadline_ms,
                   struct err *err)
{
    for (size_t got = 0; got < len;) {
        bool surplus;
        int ready = fd_wait(stream, POLLIN, deadline_ms);
        if (ready == 0)
            return err_set(err, ERR_TIMEOUT, "the sandbox's agent did not answer in time");
        ssize_t n =
            ready < 0 ? -1 : strange_receive(stream, data + got, len - got, ret_fd, &surplus);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            continue;
        if (n <= 0)
            return err_set(err, ERR_UNAVAILABLE, "the sandbox's agent went away");
        if (surplus)
            return err_set(err, ERR_UNAVAILABLE, "the sandbox's agent sent nonsense");
        got += (size_t)n;
    }
    return 0;
}

static int sock_number(int fd, int option)
{
    int value = -1;
    socklen_t len = sizeof value;
    return getsockopt(fd, SOL_SOCKET, option, &value, &len) == 0 ? value : -1;
}

/* Also false when fd is no socket, or not connected any more. */
static bool is_connection_to(int fd, uint16_t port)
{
    union {
        struct sockaddr any;
        struct sockaddr_in four;
        struct sockaddr_in6 six;
    } peer = { .any.sa_family = AF_UNSPEC };
    socklen_t len = sizeof peer;
    int domain = sock_number(fd, SO_DOMAIN);
    if ((domain != AF_INET && domain != AF_INET6) || sock_number(fd, SO_TYPE) != SOCK_STREAM ||
        sock_number(fd, SO_PROTOCOL) != IPPROTO_TCP || getpeername(fd, &peer.any, &len) < 0)
        return false;
    if (peer.any.sa_family == AF_INET && domain == AF_INET)
        return peer.four.sin_addr.s_addr == htonl(INADDR_LOOPBACK) &&
               peer.four.sin_port == htons(port);
    return peer.any.sa_family == AF_INET6 && IN6_IS_ADDR_LOOPBACK(&peer.six.sin6_addr) &&
           peer.six.sin6_port == htons(port);
}

static int refused(int stream, uint32_t len, uint16_t port, int64_t deadline_ms, struct err *err)
{
    uint8_t why[FRAME_FAILED_MIN];
    if (len < sizeof why)
        return err_set(err, ERR_UNAVAILABLE, "the sandbox's agent sent nonsense");
    if (stream_receive(stream, why, sizeof why, NULL, deadline_ms, err) < 0)
        return -1;
    uint32_t error = frame_u32(why);
    (void)err_sys(err, error > 0 && error < 4096 ? (int)error : EPROTO,
                  "port %u in the sandbox cannot be connected to", port);
    err->code = ERR_UNAVAILABLE;
    return -1;
}

int link_connect(struct link *l, const struct sandbox_id *id, uint16_t port, int64_t deadline_ms,
                 int *ret_fd, struct err *err)
{
    uint8_t frame[FRAME_HEADER + 10], head[FRAME_HEADER];
    uint64_t number;
    AUTO(stranger) int stream = -1;
    AUTO(strange) int fd = -1;
    int64_t latest = clock_mono_ms() + LINK_STREAM_MS;
    deadline_ms = deadline_ms < latest ? deadline_ms : latest;
    frame_header(frame, FRAME_CONNECT, 10);
    frame_set_u16(frame + FRAME_HEADER + 8, port);
    if (stream_ask(l, id, frame, sizeof frame, deadline_ms, &number, &stream, err) < 0 ||
        stream_receive(stream, head, sizeof head, &fd, deadline_ms, err) < 0)
        return -1;
    enum frame_type type;
    uint32_t len;
    int r = frame_peek(head, sizeof head, &type, &len);
    if (r > 0 && type == FRAME_FAILED && fd < 0)
        return refused(stream, len, port, deadline_ms, err);
    if (r <= 0 || type != FRAME_CONNECTED || len != 0 || fd < 0 || !is_connection_to(fd, port) ||
        fcntl(fd, F_SETFL, 0) < 0)
        return err_set(err, ERR_UNAVAILABLE, "the sandbox's agent sent nonsense");
    *ret_fd = TAKE_FD(fd);
    return 0;
}
