/* A running edge in front of an app that the test writes: edge_core.h plays the rest. */
#ifndef SUPPORT_EDGE_RIG_H
#define SUPPORT_EDGE_RIG_H

#include <poll.h>
#include <signal.h>

#include "base/fd.h"
#include "check.h"
#include "edge/edge.h"
#include "edge_core.h"

#define RIG_HOST "s-" FAKE_LOWER "-3000.preview.localhost"
#define RIG_SILENCE_MS 20000 /* nothing that is waited for takes longer */

static struct config rig_config;
static struct edge *rig_edge;
static uint16_t rig_port;

/* --- sockets --- */

static inline int rig_listen(uint16_t *ret_port)
{
    struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t size = sizeof at;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&at, size) < 0 || listen(fd, 512) < 0 ||
        getsockname(fd, (struct sockaddr *)&at, &size) < 0)
        abort();
    *ret_port = ntohs(at.sin_port);
    return fd;
}
static inline int rig_dial(uint16_t port)
{
    struct sockaddr_in to = { .sin_family = AF_INET,
                              .sin_port = htons(port),
                              .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (const struct sockaddr *)&to, sizeof to) < 0)
        abort();
    return fd;
}
/* A connection to the edge. */
static inline int rig_client(void)
{
    return rig_dial(rig_port);
}
static inline void rig_send(int fd, const char *text)
{
    (void)fd_write_all(fd, text, strlen(text)); /* the peer may have closed: the test looks */
}
/* Reads until `until` was seen, the end, or silence; text in out (terminated). */
enum rig_end { RIG_SEEN, RIG_CLOSED, RIG_SILENT };
static inline enum rig_end rig_read(int fd, char *out, size_t size, const char *until)
{
    size_t used = strlen(out);
    for (;;) {
        if (until && strstr(out, until))
            return RIG_SEEN;
        struct pollfd p = { .fd = fd, .events = POLLIN };
        if (used + 1 >= size || poll(&p, 1, RIG_SILENCE_MS) <= 0)
            return RIG_SILENT;
        ssize_t n = recv(fd, out + used, size - 1 - used, 0);
        if (n <= 0)
            return RIG_CLOSED;
        for (ssize_t i = 0; i < n; i++)
            if (out[used + (size_t)i] == '\0')
                out[used + (size_t)i] = '?';
        used += (size_t)n;
        out[used] = '\0';
    }
}
static inline bool rig_closed(int fd)
{
    char rest[4096] = "";
    return rig_read(fd, rest, sizeof rest, NULL) == RIG_CLOSED;
}
/* One request on a connection of its own; all that comes back until the edge closes. */
static inline void rig_ask(const char *request, char *out, size_t size)
{
    int fd = rig_client();
    out[0] = '\0';
    rig_send(fd, request);
    (void)rig_read(fd, out, size, NULL);
    (void)close(fd);
}

/* --- the edge --- */

static inline void rig_start(void)
{
    struct err err;
    (void)signal(SIGPIPE, SIG_IGN);
    fake_core_init();
    rig_config = (struct config){
        .preview_domain = str_dup("localhost"),
        .wake_page_after_ms = 100,
        .wake_hold_ms = 3000,
        .port_wait_ms = 300,
        .edge_trust_loopback = true,
        .edge_connections = 512,
        .edge_per_sandbox = 64,
        .edge_per_visitor = 8,
        .edge_rate = 1, /* a burst is over long before it grants more */
        .edge_burst = 20,
        .edge_wakes = 3,
        .edge_idle_ms = 60000,
        .peer_header_ms = 10000,
        .peer_stall_ms = 60000,
        .peer_idle_ms = 60000,
    };
    (void)str_copy(rig_config.edge.host, sizeof rig_config.edge.host, "127.0.0.1");
    int rc;
    do { /* a free port; somebody else may be given it in between */
        (void)close(rig_listen(&rig_port));
        rig_config.edge.port = rig_port;
        rc = edge_start(NULL, &rig_config, &rig_edge, &err);
    } while (rc < 0 && err.code == ERR_CONFLICT);
    if (rc < 0) {
        printf("# %s\n", err.msg);
        abort();
    }
}
static inline void rig_stop(void)
{
    edge_stop(rig_edge, clock_mono_ms() + 1000);
    free(rig_config.preview_domain);
    fake_core_end();
}

#endif
