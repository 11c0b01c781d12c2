/* struct docker as the files of this room share it. */
#ifndef DOCKER_SELF_H
#define DOCKER_SELF_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/mu.h"
#include "docker/docker.h"
#include "engine.h"

struct docker {
    struct engine *engine;
    char *instance;
    char *network; /* name */
    char *bridge;  /* NULL: the network is the operator's */
    char boot[17]; /* random: tells this run's seeds from an earlier run's */
    struct runtime port;
    atomic_uint nofile_max; /* what the Engine is thought to grant; only ever falls */
    /* engine_generation() + 1 at which the network was last seen; 0: never */
    atomic_uint network_seen;
    struct mu network_mu;
    struct cond network_done;
    bool network_busy GUARDED_BY(network_mu); /* one thread looks at or makes the network */

    /* the one event follower */
    struct conn *events;
    unsigned long events_thread;
    atomic_bool events_stop;
    runtime_event_fn on_event;
    void *on_event_ctx;
};

/* image.c */
int docker_image(void *self, const char *ref, struct runtime_image *ret, struct err *err);
int docker_image_archive(void *self, const char *image, const char *path,
                         int (*sink)(void *ctx, const void *data, size_t len, struct err *err),
                         void *ctx, struct err *err);
/* Removes what a crash left behind of an earlier run's image_archive. */
void docker_sweep_seeds(struct docker *d);

/* container.c */
int docker_create(void *self, const struct runtime_spec *spec, char ret_container_id[65],
                  uint32_t *granted_nofile, struct err *err);
int docker_start(void *self, const char *container_id, struct err *err);
int docker_stop(void *self, const char *container_id, uint32_t grace_ms, struct err *err);
int docker_remove(void *self, const char *container_id, struct err *err);
int docker_pause(void *self, const char *container_id, struct err *err);
int docker_unpause(void *self, const char *container_id, struct err *err);
int docker_rename(void *self, const char *container_id, const char *name, struct err *err);
int docker_inspect(void *self, const char *ref, struct runtime_container *ret, struct err *err);
int docker_inspect_json(void *self, const char *ref, char **ret, struct err *err);
int docker_list(void *self, struct runtime_container **ret, size_t *ret_count, struct err *err);

#endif
