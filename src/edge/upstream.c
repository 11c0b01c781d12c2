/* Connections to apps. One belongs to a sandbox, a start epoch and a port; once the sandbox is in
 * another epoch or state it is never used again (T-60). */
#include <errno.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "base/str.h"
#include "inside.h"

struct upstream *upstream_new(struct box *b, struct client *c, int fd, bool connecting)
{
    struct edge *e = c->e;
    int on = 1;
    struct upstream *u = mem_new(1, sizeof *u);
    *u = (struct upstream){
        .s = { .kind = SOCK_UPSTREAM, .fd = fd, .readable = !connecting, .writable = !connecting },
        .box = b,
        .client = c,
        .port = c->route.port,
        .epoch = b->epoch,
        .connecting = connecting,
        .since_ms = e->now_ms,
    };
    /* Neither is needed for the connection to work. */
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    (void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    if (sock_watch(e, &u->s) < 0) {
        upstream_close(e, u);
        return NULL;
    }
    return u;
}

static void unlink_idle(struct edge *e, struct upstream *u)
{
    for (struct upstream **at = &u->box->idle; *at; at = &(*at)->next)
        if (*at == u) {
            *at = u->next;
            u->box->n_idle--;
            e->n_idle--;
            return;
        }
}

/* Silent and open? An app that says something unasked, or has hung up, is noticed here even when
 * its event still waits for its turn. */
static bool is_quiet(const struct upstream *u)
{
    char byte;
    return recv(u->s.fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0 &&
           (errno == EAGAIN || errno == EWOULDBLOCK);
}

struct upstream *upstream_idle(struct edge *e, struct box *b, uint16_t port)
{
    for (struct upstream *u = b->idle, *next; u; u = next) {
        next = u->next;
        if (u->port != port)
            continue;
        if (!is_quiet(u)) {
            upstream_close(e, u);
            continue;
        }
        unlink_idle(e, u);
        u->next = NULL;
        u->reused = true;
        return u;
    }
    return NULL;
}

/* Who had the descriptor before us may have asked for a close that waits (SO_LINGER): the loop
 * must not. Whoever could still set it holds a copy, and then ours is not the last close. */
void upstream_never_linger(int fd)
{
    struct linger off = { 0 };
    (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &off, sizeof off); /* a socket: link/ looked */
}

void upstream_close(struct edge *e, struct upstream *u)
{
    if (u->s.fd < 0)
        return;
    if (!u->client)
        unlink_idle(e, u);
    else if (u->client->up_to == u)
        u->client->up_to = NULL;
    u->client = NULL;
    upstream_never_linger(u->s.fd);
    sock_close(e, &u->s);
    u->next = e->dead_upstreams;
    e->dead_upstreams = u;
}

void upstream_keep(struct edge *e, struct upstream *u)
{
    struct box *b = u->box;
    if (b->n_idle >= EDGE_UPSTREAM_IDLE_MAX || u->epoch != b->epoch || u->shut || u->s.hung) {
        upstream_close(e, u);
        return;
    }
    u->client->up_to = NULL;
    u->client = NULL;
    u->since_ms = e->now_ms;
    u->next = b->idle;
    b->idle = u;
    b->n_idle++;
    e->n_idle++;
}

void upstream_drop_idle(struct edge *e, struct box *b)
{
    while (b->idle)
        upstream_close(e, b->idle);
}
