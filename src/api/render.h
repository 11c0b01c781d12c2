/* Replies as JSON text. Threads: any. */
#ifndef RENDER_H
#define RENDER_H

#include <stdbool.h>

#include "core/core.h"
#include "wire/json.h"

/* HTTP status of an error code; *ret_retry_after_s: seconds, 0: say nothing. */
int render_status(enum err_code code, int *ret_retry_after_s);
/* The object of /v1. key: NULL at top level or in a list. */
void render_sandbox(struct json_out *o, const char *key, struct core *core,
                    const struct config *config, const struct sandbox *s);
#define PREVIEW_URL_MAX 512
/* Where a port of it is seen, without a path. */
void render_preview_url(const struct sandbox *s, const struct config *config, uint16_t port,
                        char out[PREVIEW_URL_MAX]);
/* The row of the legacy routes. */
void render_row(struct json_out *o, const char *key, const struct config *config,
                const struct sandbox *s);
/* What of the engine's JSON a client may see; never its environment. engine_json NULL: null. */
void render_live_state(struct json_out *o, const char *key, const char *engine_json);
/* The value of "error" on /v1. */
void render_error(struct json_out *o, const char *key, const struct err *err,
                  const char *request_id);

#endif
