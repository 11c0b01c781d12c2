/* The HTTP API: route table, dispatcher, handlers. The only room that knows HTTP statuses and
 * libmicrohttpd. Two epoll threads parse, answer from memory, or suspend the connection and hand
 * the work to a pool; they never touch disk, Docker or fsync. */
#ifndef API_API_H
#define API_API_H

#include <stdio.h>

#include "base/err.h"
#include "config/config.h"
#include "core/core.h"

struct api;
/* Listens. ERR_CONFLICT: the address is in use. */
int api_start(struct core *core, const struct config *config, struct api **ret, struct err *err);
/* Stops accepting, lets requests end until the monotonic deadline, cuts the rest, joins, frees. */
void api_stop(struct api *a, int64_t deadline_ms);
/* The route table. markdown: as the README's table. */
void api_print_routes(FILE *out, bool markdown);

/* The OpenAPI document of what is served. */
void api_print_openapi(FILE *out);

#endif
