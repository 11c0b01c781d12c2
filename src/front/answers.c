/* The words of the endpoint. A container is described by what Traefik's provider looks at and
 * nothing else: no environment, image, command, mounts or limits. Labels come from the function
 * that labelled the container, so that both say the same. */
#include "answers.h"

#include "base/clock.h"
#include "base/limits.h"
#include "docker/labels.h"
#include "wire/json.h"

#define STATE "running" /* of a frozen one, too: Traefik is to send its visitors, they thaw it */
#define NETWORK "sandboxed" /* its name as shown here; the real one is nobody's business */

bool front_shown(const struct sandbox *row)
{
    switch (row->state) {
    case SANDBOX_RUNNING:
    case SANDBOX_PAUSING:
    case SANDBOX_PAUSED:
    case SANDBOX_RESUMING:
        return row->ports.count > 0 && row->container_id;
    default:
        return false;
    }
}

static void put_label(void *ctx, const char *name, const char *value)
{
    json_put(ctx, name, value);
}

static int put_labels(const struct front_view *v, const struct sandbox *row, struct json_out *o,
                      struct err *err)
{
    const struct runtime_preview preview = { .domain = v->config->preview_domain,
                                             .entrypoint = v->config->preview_entrypoint,
                                             .tls = v->config->preview_tls };
    json_open(o, "Labels");
    json_put(o, LABEL_INSTANCE, v->instance);
    int rc = labels_traefik(&row->id, &row->ports, &preview, put_label, o, err);
    json_close(o);
    return rc;
}

static void put_network(struct json_out *o, const char *address, bool with_ports)
{
    json_open(o, "HostConfig");
    json_put(o, "NetworkMode", NETWORK);
    json_close(o);
    json_open(o, "NetworkSettings");
    json_open(o, "Networks");
    json_open(o, NETWORK);
    json_put(o, "IPAddress", address);
    json_close(o);
    json_close(o);
    if (with_ports) {
        json_open(o, "Ports");
        json_close(o);
    }
    json_close(o);
}

static void name_of(const struct sandbox *row, char out[3 + ID_LEN + 1])
{
    char lower[ID_LEN + 1];
    sandbox_id_lower(&row->id, lower);
    (void)snprintf(out, 3 + ID_LEN + 1, "/s-%s", lower); /* always fits */
}

int front_put_listed(const struct front_view *v, const struct sandbox *row, struct buf *out,
                     struct err *err)
{
    struct json_out o = JSON_OUT(out);
    char name[3 + ID_LEN + 1], address[46];
    if (core_address(v->core, row, address, err) < 0)
        return -1;
    name_of(row, name);
    json_open(&o, NULL);
    json_put(&o, "Id", row->container_id);
    json_list(&o, "Names");
    json_put(&o, NULL, name);
    json_unlist(&o);
    json_put_int(&o, "Created", row->created_at_ms / 1000);
    json_put(&o, "State", STATE);
    if (put_labels(v, row, &o, err) < 0)
        return -1;
    put_network(&o, address, false);
    json_close(&o);
    return buf_done(out, err);
}

int front_put_inspected(const struct front_view *v, const struct sandbox *row, struct buf *out,
                        struct err *err)
{
    struct json_out o = JSON_OUT(out);
    char name[3 + ID_LEN + 1], address[46];
    if (core_address(v->core, row, address, err) < 0)
        return -1;
    name_of(row, name);
    json_open(&o, NULL);
    json_put(&o, "Id", row->container_id);
    json_put(&o, "Name", name);
    json_put_time(&o, "Created", row->created_at_ms);
    json_open(&o, "State");
    json_put(&o, "Status", STATE);
    json_put_bool(&o, "Running", true);
    json_close(&o);
    json_open(&o, "Config");
    if (put_labels(v, row, &o, err) < 0)
        return -1;
    json_close(&o);
    put_network(&o, address, true);
    json_close(&o);
    return buf_done(out, err);
}

void front_put_version(struct buf *out)
{
    struct json_out o = JSON_OUT(out);
    json_open(&o, NULL);
    json_put(&o, "Version", SANDBOXED_VERSION);
    json_put(&o, "ApiVersion", FRONT_API);
    json_put(&o, "MinAPIVersion", FRONT_API_MIN);
    json_put(&o, "Os", "linux");
    json_close(&o);
}

void front_put_event(const char *action, const char *container_id, const char *instance,
                     struct buf *out)
{
    struct json_out o = JSON_OUT(out);
    int64_t now_ms = clock_wall_ms();
    json_open(&o, NULL);
    json_put(&o, "status", action);
    json_put(&o, "id", container_id);
    json_put(&o, "Type", "container");
    json_put(&o, "Action", action);
    json_open(&o, "Actor");
    json_put(&o, "ID", container_id);
    json_open(&o, "Attributes");
    json_put(&o, LABEL_INSTANCE, instance);
    json_close(&o);
    json_close(&o);
    json_put(&o, "scope", "local");
    json_put_int(&o, "time", now_ms / 1000);
    json_put_int(&o, "timeNano", now_ms * 1000000);
    json_close(&o);
    buf_addc(out, '\n');
}
