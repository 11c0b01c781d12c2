/* The bodies we send to the Engine: pure functions from plain data to JSON text. Threads: any. */
#ifndef DOCKER_SPEC_H
#define DOCKER_SPEC_H

#include "base/buf.h"
#include "docker/labels.h"
#include "model/runtime.h"

#define LABEL_REVISION "sandboxed.revision"
#define LABEL_ROLE "sandboxed.role" /* "seed": a container made only to read its image */
#define LABEL_BOOT "sandboxed.boot" /* of a seed: which run of the daemon made it */

/* "s-" and the lower-case id. */
#define CONTAINER_NAME_MAX (2 + ID_LEN + 1)
void spec_container_name(const struct sandbox_id *id, char out[CONTAINER_NAME_MAX]);

/* POST /containers/create of a sandbox. -1: the preview labels cannot be made (labels.h). */
int spec_container(struct buf *b, const struct runtime_spec *spec, const char *instance,
                   const char *network, uint32_t nofile, struct err *err);
/* POST /containers/create of a seed; it is never started. */
void spec_seed(struct buf *b, const char *image, const char *instance, const char *boot);
/* POST /networks/create of our own network. */
void spec_network(struct buf *b, const char *name, const char *bridge, const char *instance);
/* The `filters` of list (role: also ask for this role, or NULL) and of events. */
void spec_list_filter(struct buf *b, const char *instance, const char *role);
void spec_events_filter(struct buf *b, const char *instance);

#endif
