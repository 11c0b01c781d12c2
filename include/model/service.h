/* A service: a command that belongs to a sandbox and is kept running while the sandbox is awake.
 * Plain data and pure rules. Threads: any. */
#ifndef MODEL_SERVICE_H
#define MODEL_SERVICE_H

#include <stdint.h>

#include "base/err.h"
#include "base/field.h"

#define SERVICES_MAX 16
#define SERVICE_NAME_MAX 32
#define SERVICE_LOG_MAX 256 /* bytes of ready_log */
#define SERVICE_LOG_SCHEMA "pattern: \"^[^\\n]*$\""
#define SERVICES_BYTES_MAX (128 * 1024) /* of one sandbox, as JSON: each change copies them */

enum service_restart { SERVICE_ALWAYS, SERVICE_ON_FAILURE, SERVICE_NEVER };
extern const char
    *const service_restart_names[]; /* "always", "on-failure", "never"; NULL-terminated */

struct service {
    char *name; /* [a-z0-9]([a-z0-9-]*[a-z0-9])?, at most SERVICE_NAME_MAX */
    char *cmd;  /* JSON: a list of strings, or one string for the shell */
    char *cwd;  /* NULL: workspace/app */
    struct strmap env;
    uint32_t port; /* that it will listen on; 0: none */
    /* Ready, once started, when all of these that are given are so: its port listens, health_path
     * answers below 400, its output holds ready_log. */
    char *health_path; /* NULL: none; begins with "/" */
    char *ready_log;   /* NULL: none; a piece of a line */
    int restart;       /* enum service_restart */
};
/* What the OpenAPI document says of commands, wherever they stand. */
#define COMMAND_SCHEMA                                                                           \
    "oneOf: [{ type: string, minLength: 1, format: shell-line }, { type: array, items: { type: " \
    "string }, prefixItems: [{ type: string, minLength: 1 }], minItems: 1, maxItems: 1024 }]"
#define ENV_SCHEMA \
    "propertyNames: { pattern: \"^[A-Za-z_][A-Za-z0-9_]*$\", maxLength: 256, format: env-name }"
#define CWD_SCHEMA "format: working-directory"

/* Members as above; `name` and `cmd` are required. */
extern const struct shape service_shape;

struct services {
    struct service items[SERVICES_MAX];
    size_t count;
    struct strv stopped; /* names of those that somebody stopped by hand: not started at a wake */
};
void services_release(struct services *s);
/* Name, path and number; messages begin with the member. */
int service_check(const struct service *s, struct err *err);

#endif
