/* The field tables of all bodies, and the rules between fields.
 *
 * /v1 is closed: an unknown key is a 400 that names it. The legacy routes ignore what they do not
 * know. Both read the same rows. */
#include "shapes.h"

#include "base/cleanup.h"
#include "base/limits.h"
#include "base/str.h"
#include "wire/json.h"

/* What the document says of values that the rows' types do not describe. */
#define PATH_SCHEMA "format: workspace-path"
#define MODE_SCHEMA "pattern: \"^0?[0-7]{3}$\""
#define LINE_SCHEMA "pattern: \"^[^\\\\u0000-\\\\u001f\\\\u007f,]*$\""
#define ONE_CONTENT                                                                                \
    "oneOf: [{ required: [content], properties: { content: { type: string }, base64: { type: "     \
    "\"null\" } } }, "                                                                             \
    "{ required: [base64], properties: { base64: { type: string }, content: { type: \"null\" } } " \
    "}]"
#define ONE_SOURCE                                                                            \
    "oneOf: [{ required: [from], properties: { from: { type: string }, from_base64: { type: " \
    "\"null\" } } }, "                                                                        \
    "{ required: [from_base64], properties: { from_base64: { type: string }, from: { type: "  \
    "\"null\" } } }]"
/* A service has no stdin and no end. */
#define NO_STDIN_OF_SERVICE                                                                   \
    "anyOf: [{ properties: { service: { enum: [false, null] } } }, { properties: { stdin: { " \
    "type: \"null\" }, timeout_ms: { type: \"null\" } } }]"
/* project excludes external.user_id and .project_id. */
#define ONE_OWNER                                                                                 \
    "anyOf: [{ properties: { project: { type: \"null\" } } }, { properties: { external: { type: " \
    "\"null\" } } }, "                                                                            \
    "{ properties: { external: { properties: { user_id: { type: \"null\" }, project_id: { type: " \
    "\"null\" } } } } }]"
#define EMPTY_SCHEMA "enum: [null, \"\"]"

#define ROWS(rows) .fields = (rows), .count = sizeof(rows) / sizeof((rows)[0])

static const struct field external_rows[] = {
    FIELD_STR(struct external_body, user_id, .hi = EXTERNAL_ID_MAX, .flags = FIELD_NULLABLE,
              .schema = LINE_SCHEMA),
    FIELD_STR(struct external_body, project_id, .hi = EXTERNAL_ID_MAX, .flags = FIELD_NULLABLE,
              .schema = LINE_SCHEMA),
    FIELD_STR(struct external_body, workspace_id, .hi = EXTERNAL_ID_MAX, .flags = FIELD_NULLABLE,
              .schema = LINE_SCHEMA),
};
static const struct shape external_shape = { .name = "external", ROWS(external_rows) };
static const struct shape external_open = { .name = "external", ROWS(external_rows), .open = true };

static const struct field project_rows[] = {
    FIELD_STR(struct project_body, id, .lo = 1, .hi = EXTERNAL_ID_MAX, .flags = FIELD_REQUIRED,
              .schema = LINE_SCHEMA),
    FIELD_STR(struct project_body, user_id, .lo = 1, .hi = EXTERNAL_ID_MAX, .flags = FIELD_REQUIRED,
              .schema = LINE_SCHEMA),
};
static const struct shape project_shape = { .name = "project", ROWS(project_rows) };

/* Bounds that an operator sets are core's; these are what the numbers can mean at all. */
static const struct field limits_rows[] = {
    FIELD_U32(struct limits_body, memory_mib, .lo = 64, .hi = 1048576, .flags = FIELD_NULLABLE),
    FIELD_ANY(struct limits_body, cpus, .flags = FIELD_NULLABLE,
              .schema =
                  "oneOf: [{ type: number, minimum: 0.05, maximum: 1024 }, { type: \"null\" }]"),
    FIELD_U32(struct limits_body, pids, .lo = 16, .hi = 65536, .flags = FIELD_NULLABLE),
    FIELD_U32(struct limits_body, disk_mib, .lo = 16, .hi = 16777216, .flags = FIELD_NULLABLE),
};
static const struct shape limits_shape = { .name = "limits", ROWS(limits_rows) };
static const struct shape limits_open = { .name = "limits", ROWS(limits_rows), .open = true };

#define CREATE_ROWS(external_of, limits_of)                                                       \
    FIELD_STR(struct create_body, id, .lo = 1, .hi = 64, .flags = FIELD_NULLABLE,                 \
              .schema = "pattern: \"^[0-7][0-9A-HJKMNP-TV-Za-hjkmnp-tv-z]{25}$\""),               \
        FIELD_STR(struct create_body, image, .lo = 1, .hi = 512, .flags = FIELD_NULLABLE,         \
                  .schema = "format: image"),                                                     \
        { .name = "ports",                                                                        \
          .type = FIELD_TYPE_U16V,                                                                \
          .offset = offsetof(struct create_body, ports),                                          \
          .lo = 1,                                                                                \
          .hi = 65535,                                                                            \
          .seen = offsetof(struct create_body, ports_seen),                                       \
          .flags = FIELD_NULLABLE },                                                              \
        FIELD_MAP(struct create_body, env, .hi = SANDBOX_ENV_MAX,                                 \
                  .flags = FIELD_NULLABLE | FIELD_SECRET, .schema = ENV_SCHEMA),                  \
        FIELD_MAP(struct create_body, metadata, .hi = SANDBOX_METADATA_MAX,                       \
                  .flags = FIELD_NULLABLE,                                                        \
                  .schema = "propertyNames: { minLength: 1, maxLength: 128, pattern: "            \
                            "\"^[^\\\\u0000-\\\\u001f\\\\u007f]*$\" }"),                          \
        FIELD_OBJ(struct create_body, limits, limits_of, .flags = FIELD_NULLABLE),                \
        FIELD_OBJ(struct create_body, external, external_of, .flags = FIELD_NULLABLE),            \
        FIELD_ENUM(struct create_body, visibility, .names = sandbox_visibility_names,             \
                   .flags = FIELD_NULLABLE),                                                      \
        FIELD_ENUM(struct create_body, idle_policy, .names = sandbox_idle_policy_names,           \
                   .flags = FIELD_NULLABLE),                                                      \
        FIELD_U32(struct create_body, idle_timeout_s, .lo = 1, .hi = 2592000,                     \
                  .flags = FIELD_NULLABLE),                                                       \
        FIELD_U32(struct create_body, stop_timeout_s, .lo = 1, .hi = 2592000,                     \
                  .flags = FIELD_NULLABLE),                                                       \
        FIELD_U32(struct create_body, ttl_s, .lo = 1, .hi = 315360000, .flags = FIELD_NULLABLE),  \
        FIELD_LIST(struct create_body, services, struct service, &service_shape,                  \
                   .hi = SERVICES_MAX, .flags = FIELD_NULLABLE),                                  \
        FIELD_STR(struct create_body, memory_high, .hi = 32, .flags = FIELD_NULLABLE,             \
                  .schema = "pattern: \"^([0-9.]+[KMGTkmgt]?)?$\""),                              \
        FIELD_ANY(struct create_body, template, .flags = FIELD_NULLABLE, .schema = EMPTY_SCHEMA), \
        FIELD_ANY(struct create_body, template_path, .flags = FIELD_NULLABLE,                     \
                  .schema = EMPTY_SCHEMA),                                                        \
        FIELD_ANY(struct create_body, from_snapshot, .flags = FIELD_NULLABLE,                     \
                  .schema = EMPTY_SCHEMA),                                                        \
        FIELD_ANY(struct create_body, git_remote_url, .flags = FIELD_NULLABLE,                    \
                  .schema = EMPTY_SCHEMA)

static const struct field create_rows[] = {
    CREATE_ROWS(&external_shape, &limits_shape),
    { .name = "project",
      .type = FIELD_TYPE_OBJ,
      .offset = offsetof(struct create_body, project),
      .shape = &project_shape,
      .seen = offsetof(struct create_body, project_seen),
      .flags = FIELD_NULLABLE },
};
const struct shape shape_create = { .name = "create", ROWS(create_rows), .schema = ONE_OWNER };
static const struct field create_legacy_rows[] = { CREATE_ROWS(&external_open, &limits_open) };
const struct shape shape_create_legacy = { .name = "create",
                                           ROWS(create_legacy_rows),
                                           .open = true };

static const struct field exec_rows[] = {
    FIELD_ANY(struct exec_body, cmd, .flags = FIELD_REQUIRED, .schema = COMMAND_SCHEMA),
    { .name = "stdin",
      .type = FIELD_TYPE_STR,
      .offset = offsetof(struct exec_body, stdin_text),
      .hi = EXEC_STDIN_MAX,
      .seen = SIZE_MAX,
      .flags = FIELD_NULLABLE },
    FIELD_STR(struct exec_body, cwd, .lo = 1, .hi = PATH_BYTES_MAX, .flags = FIELD_NULLABLE,
              .schema = CWD_SCHEMA),
    FIELD_MAP(struct exec_body, env, .hi = SANDBOX_ENV_MAX, .flags = FIELD_NULLABLE | FIELD_SECRET,
              .schema = ENV_SCHEMA),
    FIELD_U32(struct exec_body, timeout_ms, .lo = 1, .hi = EXEC_TIMEOUT_MAX_MS,
              .flags = FIELD_NULLABLE),
    FIELD_BOOL(struct exec_body, stream, .flags = FIELD_NULLABLE),
    FIELD_BOOL(struct exec_body, detach, .flags = FIELD_NULLABLE),
    FIELD_ANY(struct exec_body, service, .flags = FIELD_NULLABLE,
              .schema = "oneOf: [{ type: boolean }, { type: string, pattern: "
                        "\"^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$\" }, { type: \"null\" }]"),
};
const struct shape shape_exec = { .name = "exec", ROWS(exec_rows), .schema = NO_STDIN_OF_SERVICE };
const struct shape shape_exec_legacy = {
    .name = "exec", ROWS(exec_rows), .schema = NO_STDIN_OF_SERVICE, .open = true
};

static const struct field resize_rows[] = {
    FIELD_U32(struct resize_body, cols, .lo = 1, .hi = 1000, .flags = FIELD_REQUIRED),
    FIELD_U32(struct resize_body, rows, .lo = 1, .hi = 1000, .flags = FIELD_REQUIRED),
};
const struct shape shape_resize = { .name = "resize", ROWS(resize_rows) };

const char *const on_disconnect_names[] = { "keep", "kill", NULL };

static const struct field ready_rows[] = {
    FIELD_U32(struct ready_body, port, .lo = 1, .hi = 65535, .flags = FIELD_NULLABLE),
    FIELD_STR(struct ready_body, health_path, .lo = 1, .hi = 1024, .flags = FIELD_NULLABLE,
              .schema = "pattern: \"^/[!-~]*$\""),
    FIELD_STR(struct ready_body, log, .lo = 1, .hi = SERVICE_LOG_MAX, .flags = FIELD_NULLABLE,
              .schema = SERVICE_LOG_SCHEMA),
};
static const struct shape ready_shape = {
    .name = "ready",
    ROWS(ready_rows),
    .schema = "anyOf: [{ properties: { health_path: { type: \"null\" } } }, { required: [port], "
              "properties: { port: { type: integer } } }]"
};

static const struct field process_service_rows[] = {
    FIELD_STR(struct process_service_body, name, .lo = 1, .hi = SERVICE_NAME_MAX,
              .flags = FIELD_NULLABLE, .schema = "pattern: \"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$\""),
    FIELD_ENUM(struct process_service_body, restart, .names = service_restart_names,
               .flags = FIELD_NULLABLE),
    FIELD_OBJ(struct process_service_body, ready, &ready_shape, .flags = FIELD_NULLABLE),
};
static const struct shape process_service_shape = { .name = "service", ROWS(process_service_rows) };

static const struct field process_rows[] = {
    FIELD_ANY(struct process_body, cmd, .flags = FIELD_REQUIRED, .schema = COMMAND_SCHEMA),
    FIELD_STR(struct process_body, cwd, .lo = 1, .hi = PATH_BYTES_MAX, .flags = FIELD_NULLABLE,
              .schema = CWD_SCHEMA),
    FIELD_MAP(struct process_body, env, .hi = SANDBOX_ENV_MAX,
              .flags = FIELD_NULLABLE | FIELD_SECRET, .schema = ENV_SCHEMA),
    FIELD_U32(struct process_body, timeout_ms, .lo = 1, .hi = EXEC_TIMEOUT_MAX_MS,
              .flags = FIELD_NULLABLE),
    { .name = "stdin",
      .type = FIELD_TYPE_BOOL,
      .offset = offsetof(struct process_body, stdin_open),
      .seen = SIZE_MAX,
      .flags = FIELD_NULLABLE },
    FIELD_BOOL(struct process_body, hold, .flags = FIELD_NULLABLE),
    { .name = "pty",
      .type = FIELD_TYPE_OBJ,
      .offset = offsetof(struct process_body, pty),
      .shape = &shape_resize,
      .seen = offsetof(struct process_body, pty_seen),
      .flags = FIELD_NULLABLE },
    FIELD_ENUM(struct process_body, on_disconnect, .names = on_disconnect_names,
               .flags = FIELD_NULLABLE),
    { .name = "service",
      .type = FIELD_TYPE_OBJ,
      .offset = offsetof(struct process_body, service),
      .shape = &process_service_shape,
      .seen = offsetof(struct process_body, service_seen),
      .flags = FIELD_NULLABLE },
};
const struct shape shape_process = {
    .name = "process",
    ROWS(process_rows),
    .schema =
        "anyOf: [{ properties: { service: { type: \"null\" } } }, { properties: { pty: { type: "
        "\"null\" }, stdin: { enum: [false, null] }, hold: { enum: [false, null] }, "
        "timeout_ms: { type: \"null\" }, on_disconnect: { enum: [keep, null] } } }]"
};

static const struct field signal_rows[] = {
    FIELD_ANY(struct signal_body, signal, .flags = FIELD_NULLABLE,
              .schema =
                  "oneOf: [{ type: integer, minimum: 1, maximum: 64 }, { enum: [TERM, SIGTERM, "
                  "INT, SIGINT, KILL, SIGKILL, HUP, SIGHUP, QUIT, SIGQUIT, USR1, SIGUSR1, USR2, "
                  "SIGUSR2, STOP, SIGSTOP, CONT, SIGCONT, WINCH, SIGWINCH] }, { type: \"null\" }]"),
    FIELD_BOOL(struct signal_body, tree, .flags = FIELD_NULLABLE),
};
const struct shape shape_signal = { .name = "signal", ROWS(signal_rows) };

static const struct field keepalive_rows[] = {
    { .name = "until",
      .type = FIELD_TYPE_I64,
      .offset = offsetof(struct keepalive_body, until),
      .lo = 1,
      .hi = 253402300799, /* the end of the year 9999 */
      .seen = offsetof(struct keepalive_body, until_seen),
      .flags = FIELD_NULLABLE,
      .help = "seconds since 1970 (Unix time)",
      .schema = "format: future-second" },
};
const struct shape shape_keepalive = { .name = "keepalive", ROWS(keepalive_rows) };
const struct shape shape_keepalive_legacy = { .name = "keepalive",
                                              ROWS(keepalive_rows),
                                              .open = true };

static const struct field patch_rows[] = {
    { .name = "visibility",
      .type = FIELD_TYPE_ENUM,
      .offset = offsetof(struct patch_body, visibility),
      .names = sandbox_visibility_names,
      .seen = offsetof(struct patch_body, visibility_seen) },
};
const struct shape shape_patch = { .name = "patch", ROWS(patch_rows) };

static const struct field share_rows[] = {
    { .name = "ttl_s",
      .type = FIELD_TYPE_I64,
      .offset = offsetof(struct share_body, ttl_s),
      .lo = 1,
      .hi = SHARE_TTL_MAX_S,
      .seen = offsetof(struct share_body, ttl_seen) },
    FIELD_BOOL(struct share_body, once, .flags = FIELD_NULLABLE),
    FIELD_U32(struct share_body, port, .lo = 1, .hi = 65535, .flags = FIELD_NULLABLE),
};
const struct shape shape_share = { .name = "share", ROWS(share_rows) };

static const struct field put_rows[] = {
    FIELD_STR(struct put_body, path, .lo = 1, .hi = PATH_BYTES_MAX, .flags = FIELD_REQUIRED,
              .schema = PATH_SCHEMA),
    FIELD_STR(struct put_body, content, .hi = FILE_JSON_MAX, .flags = FIELD_REQUIRED),
    FIELD_BOOL(struct put_body, append, .flags = FIELD_NULLABLE),
};
const struct shape shape_put = { .name = "put", ROWS(put_rows) };

static const struct field file_pair_rows[] = {
    FIELD_STR(struct file_pair_body, from, .lo = 1, .hi = PATH_BYTES_MAX, .flags = FIELD_NULLABLE,
              .schema = PATH_SCHEMA),
    FIELD_STR(struct file_pair_body, from_base64, .lo = 1, .hi = 2 * PATH_BYTES_MAX,
              .flags = FIELD_NULLABLE, .schema = "format: path-base64"),
    FIELD_STR(struct file_pair_body, to, .lo = 1, .hi = PATH_BYTES_MAX, .flags = FIELD_REQUIRED,
              .schema = PATH_SCHEMA),
    FIELD_BOOL(struct file_pair_body, overwrite, .flags = FIELD_NULLABLE),
};
const struct shape shape_file_pair = { .name = "file_pair",
                                       ROWS(file_pair_rows),
                                       .schema = ONE_SOURCE };

static const struct field file_mkdir_rows[] = {
    FIELD_STR(struct file_mkdir_body, path, .lo = 1, .hi = PATH_BYTES_MAX, .flags = FIELD_REQUIRED,
              .schema = PATH_SCHEMA),
    { .name = "parents",
      .type = FIELD_TYPE_BOOL,
      .offset = offsetof(struct file_mkdir_body, parents),
      .flags = FIELD_NULLABLE,
      .seen = offsetof(struct file_mkdir_body, parents_seen) },
    FIELD_STR(struct file_mkdir_body, mode, .lo = 3, .hi = 4, .flags = FIELD_NULLABLE,
              .schema = MODE_SCHEMA),
};
const struct shape shape_file_mkdir = { .name = "file_mkdir", ROWS(file_mkdir_rows) };

static const struct field file_chmod_rows[] = {
    FIELD_STR(struct file_chmod_body, path, .lo = 1, .hi = PATH_BYTES_MAX, .flags = FIELD_REQUIRED,
              .schema = PATH_SCHEMA),
    FIELD_STR(struct file_chmod_body, mode, .lo = 3, .hi = 4, .flags = FIELD_REQUIRED,
              .schema = MODE_SCHEMA),
};
const struct shape shape_file_chmod = { .name = "file_chmod", ROWS(file_chmod_rows) };

static const struct field file_batch_item_rows[] = {
    FIELD_STR(struct file_batch_item, path, .lo = 1, .hi = PATH_BYTES_MAX, .flags = FIELD_REQUIRED,
              .schema = PATH_SCHEMA),
    FIELD_STR(struct file_batch_item, content, .hi = FILE_JSON_MAX, .flags = FIELD_NULLABLE),
    FIELD_STR(struct file_batch_item, base64, .hi = FILE_JSON_MAX, .flags = FIELD_NULLABLE,
              .schema = "format: base64"),
};
static const struct shape file_batch_item_shape = { .name = "file",
                                                    ROWS(file_batch_item_rows),
                                                    .schema = ONE_CONTENT };
static const struct field file_batch_rows[] = {
    FIELD_LIST(struct file_batch_body, files, struct file_batch_item, &file_batch_item_shape,
               .hi = FILE_BATCH_MAX, .flags = FIELD_REQUIRED),
};
const struct shape shape_file_batch = { .name = "file_batch", ROWS(file_batch_rows) };

/* --- rules between fields --- */

/* The empty string stands for absence, as clients of the legacy routes send it. */
static bool given(const char *json)
{
    return json && !str_eq(json, "\"\"");
}

static int not_built(const struct create_body *b, struct err *err)
{
    const struct {
        const char *name, *value;
    } rows[] = {
        { "template", b->template },
        { "template_path", b->template_path },
        { "from_snapshot", b->from_snapshot },
        { "git_remote_url", b->git_remote_url },
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        if (given(rows[i].value))
            return err_set(err, ERR_NOT_SUPPORTED, "%s: not supported by this version",
                           rows[i].name);
    return 0;
}

static int identity_check(const char *field, const char *text, struct err *err)
{
    for (const char *c = text; c && *c; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7f || *c == ',')
            return err_set(err, ERR_INVALID, "%s: holds a control character or a comma", field);
    return 0;
}

/* A number of cores, to thousandths. */
static int cpus_parse(const char *json, uint32_t *ret_milli, struct err *err)
{
    static const char rule[] = "limits.cpus: must be a number from 0.05 to 1024";
    if (!json)
        return 0;
    char *end = NULL;
    double cores = json[0] >= '0' && json[0] <= '9' ? strtod(json, &end) : -1;
    if (!end || *end || !(cores >= 0.05 && cores <= 1024))
        return err_set(err, ERR_INVALID, "%s", rule);
    *ret_milli = (uint32_t)(cores * 1000 + 0.5);
    return 0;
}

static int by_number(const void *a, const void *b)
{
    return (int)*(const uint16_t *)a - (int)*(const uint16_t *)b;
}

static void ports_settle(struct u16v *v)
{
    if (v->count == 0)
        return;
    qsort(v->items, v->count, sizeof(v->items[0]), by_number);
    size_t kept = 1;
    for (size_t i = 1; i < v->count; i++)
        if (v->items[i] != v->items[kept - 1])
            v->items[kept++] = v->items[i];
    v->count = kept;
}

static int metadata_check(const struct strmap *m, struct err *err)
{
    size_t bytes = 0;
    for (size_t i = 0; i < m->count; i++) {
        size_t len = strlen(m->names[i]);
        if (len == 0 || len > 128)
            return err_set(err, ERR_INVALID, "metadata: a name must have 1 to 128 bytes");
        for (const char *c = m->names[i]; *c; c++)
            if ((unsigned char)*c < 0x20 || *c == 0x7f)
                return err_set(err, ERR_INVALID, "metadata: a name holds a control character");
        bytes += len + strlen(m->values[i]);
    }
    if (bytes > SANDBOX_METADATA_BYTES_MAX)
        return err_set(err, ERR_INVALID, "metadata: %zu bytes, at most %u are allowed", bytes,
                       SANDBOX_METADATA_BYTES_MAX);
    return 0;
}

static int memory_high_check(const char *text, struct err *err)
{
    if (!text || !*text)
        return 0;
    size_t digits = strspn(text, "0123456789.");
    const char *unit = text + digits;
    if (digits == 0 || (*unit && (!strchr("KMGTkmgt", *unit) || unit[1])))
        return err_set(err, ERR_INVALID, "memory_high: must be a size such as \"4G\"");
    return 0;
}

static const char *or_null(const char *text)
{
    return text && *text ? text : NULL;
}

int create_check(struct create_body *b, bool v1, struct core_create *ret, struct err *err)
{
    struct core_create c = { 0 };
    if (not_built(b, err) < 0)
        return -1;
    if (b->id) {
        struct err bad;
        if (sandbox_id_parse(b->id, &c.id, &bad) < 0)
            return err_set(err, ERR_INVALID, "id: %s", bad.msg);
        c.has_id = true;
    }
    if (identity_check("external.user_id", b->external.user_id, err) < 0 ||
        identity_check("external.project_id", b->external.project_id, err) < 0 ||
        identity_check("external.workspace_id", b->external.workspace_id, err) < 0 ||
        identity_check("project.id", b->project.id, err) < 0 ||
        identity_check("project.user_id", b->project.user_id, err) < 0)
        return -1;
    if (b->project_seen && (b->external.user_id || b->external.project_id))
        return err_set(err, ERR_INVALID,
                       "external: user_id and project_id exclude the field project");
    if (metadata_check(&b->metadata, err) < 0 || memory_high_check(b->memory_high, err) < 0 ||
        cpus_parse(b->limits.cpus, &c.limits.cpu_milli, err) < 0)
        return -1;
    if (v1 && !b->ports_seen)
        b->ports = (struct u16v){ .items = { 3000 }, .count = 1 };
    ports_settle(&b->ports);
    c.image = b->image;
    c.limits.memory_mib = b->limits.memory_mib;
    c.limits.pids = b->limits.pids;
    c.limits.disk_mib = b->limits.disk_mib;
    c.memory_high = or_null(b->memory_high);
    c.visibility = b->visibility;
    c.idle_policy = b->idle_policy;
    c.idle_timeout_ms = b->idle_timeout_s * 1000;
    c.stop_timeout_ms = b->stop_timeout_s * 1000;
    c.ttl_s = b->ttl_s;
    c.ports = b->ports;
    c.services = b->services.items;
    c.n_services = b->services.count;
    c.env = &b->env;
    c.metadata = &b->metadata;
    c.external_user = or_null(b->project_seen ? b->project.user_id : b->external.user_id);
    c.external_project = or_null(b->project_seen ? b->project.id : b->external.project_id);
    c.external_workspace = or_null(b->external.workspace_id);
    c.by_project = b->project_seen;
    if (!v1) {
        c.external_user = c.external_user ? c.external_user : "local";
        c.memory_high = c.memory_high ? c.memory_high : "4G";
    }
    *ret = c;
    return 0;
}

int exec_argv(const struct exec_body *b, struct strv *ret, struct err *err)
{
    return json_command(b->cmd, ret, err);
}
