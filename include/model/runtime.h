/* The port: what core/ asks of any container engine. docker/ implements it; tests may fake it.
 * All calls block at most for their deadline and may be made from any thread.
 * Errors: ERR_ENGINE (engine away or misbehaving; nothing is known to have happened), ERR_TIMEOUT,
 * ERR_NOT_FOUND (no such container or image), ERR_CONFLICT, ERR_CANCELLED, ERR_SHUTDOWN. */
#ifndef MODEL_RUNTIME_H
#define MODEL_RUNTIME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "model/id.h"
#include "model/sandbox.h"

struct runtime_mount {
    const char *source; /* absolute path on the host */
    const char *target;
    bool read_only;
};

/* How previews are reached: what the routers in a container's labels are made of. */
struct runtime_preview {
    const char *domain;     /* previews are at s-<id>-<port>.preview.<domain> */
    const char *entrypoint; /* Traefik's name for where visitors come in */
    bool tls;
};

/* Raised when the literal part of the spec changes (docker/spec.c): containers made by an older
 * daemon are then replaced at their next start. */
#define RUNTIME_SPEC_VERSION 2

/* Everything a container may be told; the rest of the create spec is literal (docker/spec.c, T-13).
 */
struct runtime_spec {
    const struct sandbox_id *id;
    const char *image;      /* reference or digest */
    const char *entrypoint; /* path of the agent inside */
    uint32_t revision;      /* another one than the container there has: it is made anew */
    struct sandbox_limits limits;
    uint32_t nofile; /* wished; granted value comes back in container */
    struct runtime_mount mounts[4];
    size_t n_mounts;
    struct u16v ports; /* each gets a router; none: no labels for Traefik */
    struct runtime_preview preview;
};

enum runtime_status { RUNTIME_CREATED, RUNTIME_RUNNING, RUNTIME_PAUSED, RUNTIME_EXITED };

/* A container of ours as the engine sees it. */
struct runtime_container {
    char container_id[65];
    struct sandbox_id id; /* from its label */
    char name[128];       /* without the leading slash */
    enum runtime_status status;
    int exit_code;
    bool oom_killed;
    char ip[46]; /* empty: none */
    int64_t pid; /* on the host; 0: not running */
};

struct runtime_image {
    char digest[80]; /* "sha256:…", the engine's image id */
};

enum runtime_event_kind { RUNTIME_EV_RESYNC, RUNTIME_EV_CHANGED, RUNTIME_EV_SIGNALLED };
/* CHANGED: something happened to this sandbox's container. SIGNALLED: somebody, perhaps we, had the
 * engine send it a signal; if that ends it, CHANGED follows. RESYNC: the stream was (re)connected,
 * anything may have been missed. Called on the events thread; must not block for long. */
typedef void (*runtime_event_fn)(void *ctx, enum runtime_event_kind kind,
                                 const struct sandbox_id *id);

struct runtime {
    void *self;
    /* Is the engine there? version: "20.10.24", API version in api; cause in err when away. */
    int (*ping)(void *self, char version[32], struct err *err);
    int (*image)(void *self, const char *ref, struct runtime_image *ret, struct err *err);
    /* Bytes of a tar of `path` inside the image, without running anything. ERR_NOT_FOUND: no such
     * path. sink returns 0 to go on, -1 (with err filled) to stop. */
    int (*image_archive)(void *self, const char *image, const char *path,
                         int (*sink)(void *ctx, const void *data, size_t len, struct err *err),
                         void *ctx, struct err *err);
    /* Name s-<id>, adopted when one of ours with the same id and revision is there already; one of
     * ours with another revision is removed first. granted_nofile may be lower than asked. */
    int (*create)(void *self, const struct runtime_spec *spec, char ret_container_id[65],
                  uint32_t *granted_nofile, struct err *err);
    int (*start)(void *self, const char *container_id, struct err *err); /* started already: 0 */
    /* TERM, then KILL after grace_ms. Already ended or gone: 0. */
    int (*stop)(void *self, const char *container_id, uint32_t grace_ms, struct err *err);
    int (*remove)(void *self, const char *container_id, struct err *err); /* gone already: 0 */
    /* Freezes and thaws all processes; memory stays. Already so: 0. */
    int (*pause)(void *self, const char *container_id, struct err *err);
    int (*unpause)(void *self, const char *container_id, struct err *err);
    int (*rename)(void *self, const char *container_id, const char *name, struct err *err);
    /* By container id or name. */
    int (*inspect)(void *self, const char *ref, struct runtime_container *ret, struct err *err);
    /* The engine's own JSON of it (compact), for the legacy live_state; caller frees. */
    int (*inspect_json)(void *self, const char *ref, char **ret, struct err *err);
    /* All containers of this instance, running or not; caller frees *ret. */
    int (*list)(void *self, struct runtime_container **ret, size_t *ret_count, struct err *err);
};

#endif
