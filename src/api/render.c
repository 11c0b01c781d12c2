/* Replies as JSON text: objects, rows, errors. One place per shape; secrets have no line here: of
 * `env` only the names are shown. */
#include "render.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/limits.h"
#include "base/str.h"
#include "core/service.h"

static const struct {
    int status;
    int retry_after_s;
} statuses[ERR_CODE_COUNT] = {
    [ERR_INTERNAL] = { 500, 0 },      [ERR_INVALID] = { 400, 0 },
    [ERR_NOT_SUPPORTED] = { 400, 0 }, [ERR_UNAUTHORIZED] = { 401, 0 },
    [ERR_FORBIDDEN] = { 403, 0 },     [ERR_MISDIRECTED] = { 421, 0 },
    [ERR_NOT_FOUND] = { 404, 0 },     [ERR_METHOD] = { 405, 0 },
    [ERR_CONFLICT] = { 409, 0 },      [ERR_IN_PROGRESS] = { 409, 1 },
    [ERR_IDEMPOTENCY] = { 422, 0 },   [ERR_TOO_LARGE] = { 413, 0 },
    [ERR_MEDIA_TYPE] = { 415, 0 },    [ERR_PATH_ESCAPE] = { 400, 0 },
    [ERR_QUOTA] = { 429, 30 },        [ERR_NO_SPACE] = { 507, 0 },
    [ERR_CAPACITY] = { 503, 5 },      [ERR_UNAVAILABLE] = { 503, 0 },
    [ERR_ENGINE] = { 503, 5 },        [ERR_TIMEOUT] = { 504, 0 },
    [ERR_CANCELLED] = { 503, 0 },     [ERR_SHUTDOWN] = { 503, 0 },
    [ERR_PRECONDITION] = { 412, 0 },
};

int render_status(enum err_code code, int *ret_retry_after_s)
{
    if ((unsigned)code >= ERR_CODE_COUNT)
        code = ERR_INTERNAL;
    *ret_retry_after_s = statuses[code].retry_after_s;
    return statuses[code].status;
}

void render_error(struct json_out *o, const char *key, const struct err *err,
                  const char *request_id)
{
    json_open(o, key);
    json_put(o, "code", err_name(err->code));
    json_put_bytes(o, "message", err->msg, strlen(err->msg)); /* may quote the client, cut */
    if (err->remedy[0])
        json_put(o, "remedy", err->remedy);
    json_put_bool(o, "retryable", err_retryable(err->code));
    json_put(o, "request_id", request_id);
    json_close(o);
}

/* --- /v1 --- */

void render_preview_url(const struct sandbox *s, const struct config *config, uint16_t port,
                        char out[PREVIEW_URL_MAX])
{
    char lower[ID_LEN + 1];
    sandbox_id_lower(&s->id, lower);
    const int64_t at = config->preview_tls ? config->https_port : config->http_port;
    char tail[8] = "";
    if (at != (config->preview_tls ? 443 : 80))
        (void)snprintf(tail, sizeof(tail), ":%u", (unsigned)at & 0xffff);
    (void)snprintf(out, PREVIEW_URL_MAX, "http%s://s-%s-%u.preview.%.300s%s",
                   config->preview_tls ? "s" : "", lower, port, config->preview_domain, tail);
}

static void put_preview_url(struct json_out *o, const struct sandbox *s,
                            const struct config *config, uint16_t port)
{
    char url[PREVIEW_URL_MAX];
    render_preview_url(s, config, port, url);
    json_put(o, "url", url);
}

static void put_port(struct json_out *o, const struct config *config, const struct sandbox *s,
                     uint16_t port, bool declared, bool listening)
{
    json_open(o, NULL);
    json_put_int(o, "port", port);
    put_preview_url(o, s, config, port);
    json_put_bool(o, "declared", declared);
    json_put_bool(o, "listening", listening);
    json_close(o);
}

static bool among(const struct link_port *open, size_t n, uint16_t port)
{
    for (size_t i = 0; i < n; i++)
        if (open[i].port == port)
            return true;
    return false;
}

/* Declared ports, then whatever else listens right now. */
static void put_preview(struct json_out *o, struct core *core, const struct config *config,
                        const struct sandbox *s)
{
    struct link_port open[LINK_PORTS_MAX];
    size_t n = s->state == SANDBOX_RUNNING ? core_ports(core, &s->id, open, LINK_PORTS_MAX) : 0;
    json_list(o, "ports");
    for (size_t i = 0; i < s->ports.count; i++)
        put_port(o, config, s, s->ports.items[i], true, among(open, n, s->ports.items[i]));
    for (size_t i = 0; i < n; i++) {
        bool declared = false;
        for (size_t k = 0; k < s->ports.count; k++)
            declared = declared || s->ports.items[k] == open[i].port;
        if (!declared)
            put_port(o, config, s, open[i].port, false, true);
    }
    json_unlist(o);
    if (s->ports.count == 0 && n == 0) {
        json_put_null(o, "preview");
        return;
    }
    uint16_t first = s->ports.count ? s->ports.items[0] : open[0].port;
    bool coming =
        s->state == SANDBOX_RUNNING || s->state == SANDBOX_CREATING || s->state == SANDBOX_STARTING;
    json_open(o, "preview");
    put_preview_url(o, s, config, first);
    json_put(o, "status", among(open, n, first) ? "ready" : coming ? "starting" : "down");
    json_close(o);
}

static void put_services(struct json_out *o, struct core *core, const struct sandbox *s)
{
    struct service_brief list[SERVICES_MAX];
    size_t n = core_service_briefs(core, s, list);
    json_list(o, "services");
    for (size_t i = 0; i < n; i++) {
        json_open(o, NULL);
        json_put(o, "name", list[i].name);
        json_put(o, "status", service_state_name(list[i].state));
        json_close(o);
    }
    json_unlist(o);
}

static void put_limits(struct json_out *o, const struct sandbox *s)
{
    json_open(o, "limits");
    json_put_int(o, "memory_mib", s->limits.memory_mib);
    json_put_real(o, "cpus", s->limits.cpu_milli / 1000.0);
    json_put_int(o, "pids", s->limits.pids);
    json_put_int(o, "disk_mib", s->limits.disk_mib);
    if (s->nofile)
        json_put_int(o, "nofile", s->nofile);
    else
        json_put_null(o, "nofile");
    json_close(o);
}

static void put_disk(struct json_out *o, struct core *core, const struct sandbox *s)
{
    struct volume_usage u = { 0 };
    core_disk(core, s, &u);
    uint64_t limit = u.limit_bytes ? u.limit_bytes : (uint64_t)s->limits.disk_mib * MIB;
    json_open(o, "disk");
    json_put_int(o, "limit", (int64_t)limit);
    if (u.known)
        json_put_int(o, "used", (int64_t)u.used_bytes);
    else
        json_put_null(o, "used");
    json_put(o, "enforced", u.enforced ? u.enforced : "none");
    json_close(o);
}

void render_sandbox(struct json_out *o, const char *key, struct core *core,
                    const struct config *config, const struct sandbox *s)
{
    json_open(o, key);
    json_put(o, "id", s->id.text);
    json_put(o, "status", sandbox_state_name(s->state));
    json_put(o, "image", s->image);
    json_put(o, "image_digest", s->image_digest);
    json_open(o, "external");
    json_put(o, "user_id", s->external_user);
    json_put(o, "project_id", s->external_project);
    json_put(o, "workspace_id", s->external_workspace);
    json_close(o);
    json_put(o, "visibility", sandbox_visibility_names[s->visibility]);
    json_put(o, "idle_policy", sandbox_idle_policy_names[s->idle_policy]);
    if (s->idle_timeout_ms)
        json_put_int(o, "idle_timeout_s", s->idle_timeout_ms / 1000);
    else
        json_put_null(o, "idle_timeout_s");
    if (s->stop_timeout_ms)
        json_put_int(o, "stop_timeout_s", s->stop_timeout_ms / 1000);
    else
        json_put_null(o, "stop_timeout_s");
    if (s->ttl_s)
        json_put_int(o, "ttl_s", s->ttl_s);
    else
        json_put_null(o, "ttl_s");
    put_limits(o, s);
    put_preview(o, core, config, s);
    put_services(o, core, s);
    json_list(o, "env");
    for (size_t i = 0; i < s->env.count; i++)
        json_put(o, NULL, s->env.names[i]);
    json_unlist(o);
    json_open(o, "metadata");
    for (size_t i = 0; i < s->metadata.count; i++)
        json_put(o, s->metadata.names[i], s->metadata.values[i]);
    json_close(o);
    put_disk(o, core, s);
    if (s->error_message) {
        json_open(o, "error");
        json_put(o, "message", s->error_message);
        json_close(o);
    } else {
        json_put_null(o, "error");
    }
    json_put_time(o, "created_at", s->created_at_ms);
    json_put_time(o, "updated_at", s->updated_at_ms);
    json_put_time(o, "last_active_at", s->last_active_at_ms);
    json_put_time(o, "stopped_at", s->stopped_at_ms);
    json_put_time(o, "keepalive_until", s->keepalive_until_ms);
    json_close(o);
}

/* --- legacy --- */

static void put_if(struct json_out *o, const char *key, const char *text)
{
    if (text && *text)
        json_put(o, key, text);
}

static void put_seconds(struct json_out *o, const char *key, int64_t wall_ms)
{
    char text[CLOCK_TEXT_MAX];
    clock_format_s(wall_ms, text);
    json_put(o, key, text);
}

void render_row(struct json_out *o, const char *key, const struct config *config,
                const struct sandbox *s)
{
    char dir[4096];
    (void)snprintf(dir, sizeof(dir), "%.3900s/workspaces/%s", config->data_dir, s->id.text);
    json_open(o, key);
    json_put(o, "id", s->id.text);
    json_put(o, "status", sandbox_state_legacy(s->state));
    json_put(o, "image", s->image);
    json_put(o, "workspace_img", dir);
    json_put(o, "workspace_mnt", dir);
    if (s->container_id && *s->container_id)
        json_put_n(o, "container_id", s->container_id, strnlen(s->container_id, 12));
    json_put(o, "memory_high", s->memory_high ? s->memory_high : "4G");
    put_if(o, "error_message", s->error_message);
    json_list(o, "ports");
    for (size_t i = 0; i < s->ports.count; i++)
        json_put_int(o, NULL, s->ports.items[i]);
    json_unlist(o);
    put_seconds(o, "created_at", s->created_at_ms);
    put_seconds(o, "updated_at", s->updated_at_ms);
    json_put_int(o, "last_active_at", s->last_active_at_ms / 1000);
    if (s->stopped_at_ms)
        json_put_int(o, "stopped_at", s->stopped_at_ms / 1000);
    if (s->keepalive_until_ms)
        json_put_int(o, "keepalive_until", s->keepalive_until_ms / 1000);
    json_put(o, "container_ip", "");
    put_if(o, "external_user_id", s->external_user);
    put_if(o, "external_project_id", s->external_project);
    put_if(o, "external_workspace_id", s->external_workspace);
    json_put(o, "visibility", sandbox_visibility_names[s->visibility]);
    json_put(o, "idle_policy", sandbox_idle_policy_names[s->idle_policy]);
    json_close(o);
}

static void put_label(void *ctx, const char *name, const struct json *value)
{
    json_put(ctx, name, json_text(value));
}

static void put_network(void *ctx, const char *name, const struct json *value)
{
    const char *ip = json_text(json_at(value, "IPAddress"));
    json_open(ctx, name);
    json_put(ctx, "IPAddress", ip ? ip : "");
    json_close(ctx);
}

/* The members that clients of the reference read, and no others: the engine's object also holds
 * paths of the host and, for foreign containers, their environment. */
static void put_live(struct json_out *o, const char *key, const struct json *j)
{
    int64_t pid = 0;
    (void)json_int(json_at(j, "State.Pid"), &pid);
    const char *ip = json_text(json_at(j, "NetworkSettings.IPAddress"));
    json_open(o, key);
    json_put(o, "Id", json_text(json_at(j, "Id")));
    json_open(o, "State");
    json_put(o, "Status", json_text(json_at(j, "State.Status")));
    json_put_bool(o, "Running", json_yes(json_at(j, "State.Running")));
    json_put_int(o, "Pid", pid);
    json_close(o);
    json_open(o, "Config");
    json_put(o, "Image", json_text(json_at(j, "Config.Image")));
    json_open(o, "Labels");
    json_each(json_at(j, "Config.Labels"), put_label, o);
    json_close(o);
    json_close(o);
    json_open(o, "NetworkSettings");
    json_put(o, "IPAddress", ip ? ip : "");
    json_open(o, "Networks");
    json_each(json_at(j, "NetworkSettings.Networks"), put_network, o);
    json_close(o);
    json_close(o);
    json_close(o);
}

void render_live_state(struct json_out *o, const char *key, const char *engine_json)
{
    struct err bad;
    AUTO(json) struct json *j = NULL;
    if (!engine_json || json_parse(engine_json, strlen(engine_json), &j, &bad) < 0)
        json_put_null(o, key); /* as for a container that is not there */
    else
        put_live(o, key, j);
}
