/* What a client of the endpoint sees of a sandbox: JSON as the Engine would write it, made from the
 * row. Threads: any. */
#ifndef FRONT_ANSWERS_H
#define FRONT_ANSWERS_H

#include "base/buf.h"
#include "core/core.h"

/* The API that is spoken here, whatever the real Engine speaks: the few members below are alike in
 * all versions a client may ask for. */
#define FRONT_API "1.45"
#define FRONT_API_MIN "1.24"

struct front_view {
    struct core *core;
    const struct config *config;
    const char *instance;
};

/* Is it there for Traefik: its container is up and it has ports? */
bool front_shown(const struct sandbox *row);
/* The element of a list, or the object of an inspection. -1: it has no address just now. */
int front_put_listed(const struct front_view *v, const struct sandbox *row, struct buf *out,
                     struct err *err);
int front_put_inspected(const struct front_view *v, const struct sandbox *row, struct buf *out,
                        struct err *err);
void front_put_version(struct buf *out);
/* action: "start" or "die". */
void front_put_event(const char *action, const char *container_id, const char *instance,
                     struct buf *out);

#endif
