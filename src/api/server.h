/* The server: connections, the threads that serve them, and what is counted. */
#ifndef SERVER_H
#define SERVER_H

#include <microhttpd.h>
#include <netinet/in.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "api/api.h"
#include "base/mu.h"
#include "base/worker.h"
#include "metrics.h"
#include "req.h"

/* What a connection is doing, for the sweep that ends slow peers. */
enum peer_phase {
    PEER_NEW,    /* nothing came yet */
    PEER_HEADER, /* between the request line and the end of the headers */
    PEER_BODY,   /* the body comes in */
    PEER_BUSY,   /* our turn: handler or reply */
    PEER_IDLE,   /* kept alive */
};

struct peer {
    struct api *api;
    int fd;
    struct in6_addr address; /* an IPv4 one is mapped */
    _Atomic int phase;
    _Atomic int64_t since_ms;
    _Atomic uint64_t bytes; /* of the body, since then */
    bool fin;               /* the sweep's own: it has seen the peer's FIN */
    struct peer *prev, *next;
};

/* Handler threads that a tenant holds, or waits for. */
struct share {
    const char *tenant; /* of the settings */
    uint32_t threads;
};

struct api {
    struct core *core;
    const struct config *config;
    struct MHD_Daemon *daemon;
    struct pool *pool;
    struct worker *sweeper;
    struct mu peers_lock;
    struct peer *peers GUARDED_BY(peers_lock);
    struct share *shares GUARDED_BY(peers_lock);
    size_t n_shares GUARDED_BY(peers_lock);
    _Atomic uint32_t n_peers;
    uint32_t peers_max;    /* what libmicrohttpd takes at once */
    _Atomic bool stopping; /* no new request is taken, nobody is followed any longer */
    _Atomic bool ending;   /* the grace is over: what is still under way must come to its end */
    _Atomic int64_t log_second; /* refusals logged in this second, so that nobody floods the log */
    _Atomic uint32_t log_lines;
    uint16_t port; /* where it listens */
    bool in_place; /* this libmicrohttpd leaves header lines where they came (see guard.h) */
    struct metrics metrics;
};

/* One round of the sweep that ends slow peers: a worker's tick. */
int64_t api_sweep(void *api, int64_t mono_ms);
void peer_phase(struct peer *p, enum peer_phase phase);
/* May one more connection come from there? Of this machine's own always, as far as there is room:
 * it is where its operator is, and a proxy of many. */
bool peer_admit(struct api *a, const struct sockaddr *from);
/* false: the tenant has so many threads already. NULL, who is no tenant, always may. */
bool share_take(struct api *a, const char *tenant, uint32_t threads);
void share_give(struct api *a, const char *tenant, uint32_t threads);

/* libmicrohttpd's callbacks of one request (req.c). */
void *req_begin(void *api, const char *uri, struct MHD_Connection *conn);
enum MHD_Result req_access(void *api, struct MHD_Connection *conn, const char *url,
                           const char *method, const char *version, const char *data,
                           size_t *data_len, void **slot);
void req_completed(void *api, struct MHD_Connection *conn, void **slot,
                   enum MHD_RequestTerminationCode why);

#endif
