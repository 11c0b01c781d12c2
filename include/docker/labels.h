/* The labels by which Traefik learns a sandbox's previews: one router a port, all on the edge's
 * service. Built from nothing but the server-made id, whole port numbers and the operator's
 * settings; no tenant's text gets in, and each part is checked again here (T-55).
 * Pure; threads: any. */
#ifndef DOCKER_LABELS_H
#define DOCKER_LABELS_H

#include "base/err.h"
#include "model/runtime.h"

#define LABEL_INSTANCE "sandboxed.instance" /* Traefik's constraint asks for it, too */
#define LABEL_ID "sandboxed.id"

/* The service that every router names; the file provider has it. */
#define LABELS_EDGE_SERVICE "sandboxd-edge"

typedef void (*label_fn)(void *ctx, const char *name, const char *value);

/* Calls put for each label, in a fixed order; for none when there are no ports. -1 with
 * ERR_INTERNAL, before the first call, when a part is not what it must be. */
int labels_traefik(const struct sandbox_id *id, const struct u16v *ports,
                   const struct runtime_preview *preview, label_fn put, void *ctx, struct err *err);
/* Is it a name that Traefik's labels and files may hold as an entry point's? */
bool labels_entrypoint_ok(const char *name);

#endif
