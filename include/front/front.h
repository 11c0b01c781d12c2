/* What Traefik may know: a Docker endpoint on a Unix socket of its own that looks like an Engine
 * with our running sandboxes on it and can do nothing (T-18).
 *
 * Five questions are answered: version, ping, the list of containers, one container, and the
 * stream of starts and ends. Everything else, each method but GET, any body, whatever is too long
 * or malformed gets 403 and the connection is closed. Answers are written anew from the rows: id,
 * name, state, preview labels and address; no byte of the real Engine's passes. */
#ifndef FRONT_FRONT_H
#define FRONT_FRONT_H

#include "base/err.h"
#include "config/config.h"
#include "core/core.h"

struct front;

/* Listens on SANDBOXD_FRONT_SOCKET. All arguments outlive it. ERR_CONFLICT: the path is taken by
 * something that is no socket. */
int front_start(struct core *core, const struct config *config, const char *instance,
                struct front **ret, struct err *err);
/* Cuts all connections, joins, removes the socket, frees. NULL is fine. */
void front_stop(struct front *f);

#endif
