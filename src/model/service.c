/* Services: their field table and rules. */
#include "model/service.h"

#include <string.h>

#include "base/limits.h"
#include "base/str.h"

const char *const service_restart_names[] = { "always", "on-failure", "never", NULL };

static const struct field rows[] = {
    FIELD_STR(struct service, name, .lo = 1, .hi = SERVICE_NAME_MAX, .flags = FIELD_REQUIRED,
              .help = "what it is called",
              .schema = "pattern: \"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$\""),
    FIELD_ANY(struct service, cmd, .flags = FIELD_REQUIRED,
              .help = "a list of strings, or one string for the shell", .schema = COMMAND_SCHEMA),
    FIELD_STR(struct service, cwd, .lo = 1, .hi = PATH_BYTES_MAX, .flags = FIELD_NULLABLE,
              .schema = CWD_SCHEMA),
    FIELD_MAP(struct service, env, .hi = SANDBOX_ENV_MAX, .flags = FIELD_NULLABLE | FIELD_SECRET,
              .schema = ENV_SCHEMA),
    FIELD_U32(struct service, port, .lo = 1, .hi = 65535, .flags = FIELD_NULLABLE),
    FIELD_STR(struct service, health_path, .lo = 1, .hi = 1024, .flags = FIELD_NULLABLE,
              .schema = "pattern: \"^/[!-~]*$\"",
              .help = "a path that must answer 2xx or 3xx before requests to the port are passed"),
    FIELD_STR(struct service, ready_log, .lo = 1, .hi = SERVICE_LOG_MAX, .flags = FIELD_NULLABLE,
              .schema = SERVICE_LOG_SCHEMA, .help = "text of its output that makes it ready"),
    FIELD_ENUM(struct service, restart, .names = service_restart_names, .flags = FIELD_NULLABLE),
};
const struct shape service_shape =
    SHAPE("service", rows,
          .schema = "anyOf: [{ properties: { health_path: { type: \"null\" } } }, { required: "
                    "[port], properties: { port: { type: integer } } }]");

void services_release(struct services *s)
{
    for (size_t i = 0; i < s->count; i++)
        shape_release(&service_shape, &s->items[i]);
    s->count = 0;
    strv_release(&s->stopped);
}

int service_check(const struct service *s, struct err *err)
{
    size_t len = strlen(s->name);
    if (len == 0 || len > SERVICE_NAME_MAX)
        return err_set(err, ERR_INVALID, "name: has 1 to %d characters", SERVICE_NAME_MAX);
    for (size_t i = 0; i < len; i++) {
        char c = s->name[i];
        bool letter = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
        if (!letter && (c != '-' || i == 0 || i == len - 1))
            return err_set(err, ERR_INVALID, "name: has small letters, digits and inner hyphens");
    }
    if (s->health_path && s->health_path[0] != '/')
        return err_set(err, ERR_INVALID, "health_path: must begin with /");
    for (const char *p = s->health_path; p && *p; p++)
        if (*p <= ' ' || *p > '~')
            return err_set(err, ERR_INVALID, "health_path: has visible ASCII characters only");
    for (const char *c = s->ready_log; c && *c; c++)
        if (*c == '\n')
            return err_set(err, ERR_INVALID, "ready_log: must lie within one line");
    if (s->health_path && !s->port)
        return err_set(err, ERR_INVALID, "health_path: needs a port");
    return 0;
}
