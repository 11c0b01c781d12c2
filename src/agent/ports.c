/* Which TCP sockets listen here.
 *
 * Asked of the kernel's socket diagnosis, which walks the listening sockets alone. /proc/net/tcp
 * tells the same but walks the whole table of connections each time, which is some fifty times
 * slower; it is read where the diagnosis is not offered. Sockets of another uid are none of the
 * sandbox's (the Engine's name server listens among them). */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent.h"
#include "base/limits.h"

#define STATE_LISTEN 10

/* The kernel's own headers do not go together with musl's. */
#define FAMILY_NETLINK 16
#define NETLINK_DIAGNOSIS 4
#define MESSAGE_ERROR 2
#define MESSAGE_DONE 3
#define MESSAGE_BY_FAMILY 20
#define FLAG_REQUEST_DUMP 0x301
struct message {
    uint32_t len;
    uint16_t type, flags;
    uint32_t sequence, from;
};
struct socket_name {
    uint16_t port, peer_port; /* network order */
    uint8_t addr[16], peer_addr[16];
    uint32_t interface, cookie[2];
};
struct question {
    struct message head;
    uint8_t family, protocol, extensions, pad;
    uint32_t states;
    struct socket_name name;
};
struct answer {
    uint8_t family, state, timer, retransmits;
    struct socket_name name;
    uint32_t expires, receive_queue, write_queue, uid, inode;
};

static struct listener found[AGENT_LISTENERS_MAX];
static size_t found_count;

static bool is_loopback(const uint8_t *addr, bool six)
{
    static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff }, one[16] = { [15] = 1 };
    if (!six)
        return addr[0] == 127;
    return memcmp(addr, one, 16) == 0 || (memcmp(addr, mapped, 12) == 0 && addr[12] == 127);
}

static void add(uint16_t port, const uint8_t *addr, bool six, uint64_t inode)
{
    if (found_count < AGENT_LISTENERS_MAX && port != 0)
        found[found_count++] =
            (struct listener){ .port = port, .loopback = is_loopback(addr, six), .inode = inode };
}

/* 1: that was the last one. */
static int take_answers(const uint8_t *data, size_t len)
{
    struct message head;
    struct answer a;
    for (size_t at = 0; len - at >= sizeof head;) {
        memcpy(&head, data + at, sizeof head);
        if (head.len < sizeof head || head.len > len - at || head.type == MESSAGE_ERROR)
            return -1;
        if (head.type == MESSAGE_DONE)
            return 1;
        if (head.type == MESSAGE_BY_FAMILY && head.len >= sizeof head + sizeof a) {
            memcpy(&a, data + at + sizeof head, sizeof a);
            if (a.state == STATE_LISTEN && a.uid == getuid())
                add(ntohs(a.name.port), a.name.addr, a.family == AF_INET6, a.inode);
        }
        size_t step = (head.len + 3) & ~(size_t)3;
        at += step < len - at ? step : len - at;
    }
    return 0;
}

static int diagnose(int fd, uint8_t family)
{
    static uint8_t data[8192];
    struct question q = {
        .head = { .len = sizeof q, .type = MESSAGE_BY_FAMILY, .flags = FLAG_REQUEST_DUMP },
        .family = family,
        .protocol = IPPROTO_TCP,
        .states = 1u << STATE_LISTEN
    };
    if (send(fd, &q, sizeof q, 0) != (ssize_t)sizeof q)
        return -1;
    /* The kernel answers within the call; what is more than we keep is dropped with the socket. */
    int r = 0;
    while (r == 0 && found_count < AGENT_LISTENERS_MAX) {
        ssize_t n = recv(fd, data, sizeof data, MSG_DONTWAIT);
        r = n < 0 ? -1 : take_answers(data, (size_t)n);
    }
    return r < 0 ? -1 : 0;
}

static uint64_t number(const char **at, unsigned base)
{
    static const char digits[] = "0123456789ABCDEF";
    uint64_t n = 0;
    const char *d;
    while (**at && (d = strchr(digits, **at)) != NULL && (unsigned)(d - digits) < base) {
        n = n * base + (unsigned)(d - digits);
        ++*at;
    }
    return n;
}

/* "  0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000  0 12345 …":
 * addresses are words in the machine's order. False when it does not listen: none after it does. */
static bool take_line(const char *at, bool six)
{
    uint8_t addr[16] = { 0 };
    at += strcspn(at, ":");
    at += strspn(at, ": ");
    for (size_t i = 0; i < (six ? 4u : 1u); i++) {
        char digits[9] = { 0 };
        const char *word = digits;
        memcpy(digits, at, strnlen(at, 8));
        uint32_t v = (uint32_t)number(&word, 16);
        memcpy(addr + 4 * i, &v, sizeof v);
        at += strnlen(at, 8);
    }
    if (*at++ != ':')
        return false;
    uint16_t port = (uint16_t)number(&at, 16);
    uint64_t field[8] = { 0 }; /* of which 1 is the state, 5 the uid, 7 the inode */
    for (size_t i = 0; i < 8; i++) {
        at += strspn(at, " ");
        field[i] = number(&at, i < 5 ? 16 : 10);
        at += strcspn(at, " ");
    }
    if (field[1] != STATE_LISTEN)
        return false;
    if (field[5] == getuid())
        add(port, addr, six, field[7]);
    return true;
}

static void read_table(const char *path, bool six)
{
    static char text[8192];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    size_t len = 0;
    ssize_t n;
    bool more = fd >= 0, head = true;
    while (more && (n = read(fd, text + len, sizeof text - 1 - len)) > 0) {
        len += (size_t)n;
        text[len] = 0;
        char *line = text, *end;
        while (more && (end = strchr(line, '\n')) != NULL) {
            *end = 0;
            more = head || take_line(line, six);
            head = false;
            line = end + 1;
        }
        len -= (size_t)(line - text);
        memmove(text, line, len);
    }
    if (fd >= 0)
        close(fd);
}

size_t listeners(const struct listener **ret)
{
    found_count = 0;
    *ret = found;
    int fd = socket(FAMILY_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_DIAGNOSIS);
    int r = fd < 0 ? -1 : diagnose(fd, AF_INET);
    if (r == 0)
        (void)diagnose(fd, AF_INET6); /* fails where there is no IPv6 */
    if (fd >= 0)
        close(fd);
    if (r < 0) {
        found_count = 0;
        read_table("/proc/net/tcp", false);
        read_table("/proc/net/tcp6", true);
    }
    return found_count;
}

size_t put_ports(uint8_t out[PORTS_FRAME_MAX])
{
    const struct listener *all;
    size_t n = listeners(&all), count = 0;
    uint8_t *ports = out + FRAME_HEADER;
    for (size_t i = 0; i < n; i++) {
        size_t at = 0;
        while (at < count && frame_u16(ports + 3 * at) < all[i].port)
            at++;
        uint8_t *p = ports + 3 * at;
        if (at < count && frame_u16(p) == all[i].port) {
            p[2] = p[2] && all[i].loopback;
        } else if (count < LINK_PORTS_MAX) {
            memmove(p + 3, p, 3 * (count - at));
            frame_set_u16(p, all[i].port);
            p[2] = all[i].loopback;
            count++;
        }
    }
    frame_header(out, FRAME_PORTS, (uint32_t)(3 * count));
    return FRAME_HEADER + 3 * count;
}
