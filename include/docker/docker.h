/* The Engine API client behind the runtime port (model/runtime.h). libcurl on the Unix socket,
 * kept-open handles, version negotiated, a deadline on each call. Docker's words stop here.
 * Threads: any; the event stream has a thread of its own. */
#ifndef DOCKER_DOCKER_H
#define DOCKER_DOCKER_H

#include "base/buf.h"
#include "base/err.h"
#include "model/runtime.h"

struct docker;

struct docker_options {
    const char *host;     /* "unix:///var/run/docker.sock" */
    const char *instance; /* label sandboxed.instance of everything made here */
    const char *network;  /* name of an existing network, or NULL: our own, made on demand */
    const char *bridge;   /* interface name of our own network (at most 15 bytes) */
};

/* Does not need the Engine to be there. */
int docker_new(const struct docker_options *o, struct docker **ret, struct err *err);
void docker_free(struct docker *d);
/* The port; valid as long as d. */
const struct runtime *docker_runtime(struct docker *d);
/* Makes sure that the network is there (ICC off). Idempotent; called before the first create. */
int docker_network_ensure(struct docker *d, struct err *err);
/* For doctor: storage driver, runtime versions, cgroup version and so on as "key: value" lines. */
int docker_describe(struct docker *d, struct buf *out, struct err *err);
/* Follows the event stream until docker_events_stop; reconnects with back-off; RESYNC after each
 * connect. One follower. */
int docker_events_start(struct docker *d, runtime_event_fn fn, void *ctx, struct err *err);
void docker_events_stop(struct docker *d);

#endif
