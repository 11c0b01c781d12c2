/* A service: a command that belongs to a sandbox and is kept running while the sandbox is awake.
 * Plain data and pure rules. Threads: any. */
#ifndef MODEL_SERVICE_H
#define MODEL_SERVICE_H

#include <stdint.h>

#include "base/err.h"
#include "base/field.h"

#define SERVICES_MAX 16
#define SERVICE_NAME_MAX 32
#define SERVICES_BYTES_MAX (128 * 1024) /* of one sandbox, as JSON: each change copies them */

enum service_restart { SERVICE_ALWAYS, SERVICE_ON_FAILURE, SERVICE_NEVER };
extern const char
    *const service_restart_names[]; /* "always", "on-failure", "never"; NULL-terminated */

struct service {
    char *name; /* [a-z0-9]([a-z0-9-]*[a-z0-9])?, at most SERVICE_NAME_MAX */
    char *cmd;  /* JSON: a list of strings, or one string for the shell */
    char *cwd;  /* NULL: workspace/app */
    struct strmap env;
    uint32_t port;     /* that it will listen on; 0: none */
    char *health_path; /* NULL: none; begins with "/" */
    int restart;       /* enum service_restart */
};
/* Members as above; `name` and `cmd` are required. */
extern const struct shape service_shape;

struct services {
    struct service items[SERVICES_MAX];
    size_t count;
};
void services_release(struct services *s);
/* Name, path and number; messages begin with the member. */
int service_check(const struct service *s, struct err *err);

#endif
