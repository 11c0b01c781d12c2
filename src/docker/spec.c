/* What a sandbox is allowed, literally and in one place. Nothing here depends on a request except
 * the numbers and paths of struct runtime_spec; a new member in these bodies must show in the
 * golden test (tests/unit/docker_spec.c). What is left out on purpose: MaskedPaths, ReadonlyPaths
 * and seccomp, where saying nothing keeps the Engine's own strict defaults. */
#include "spec.h"

#include "base/limits.h"
#include "wire/json.h"

#define BOX_USER "1000:1000"
#define BOX_HOSTNAME "sandbox"

void spec_container_name(const struct sandbox_id *id, char out[CONTAINER_NAME_MAX])
{
    char lower[ID_LEN + 1];
    sandbox_id_lower(id, lower);
    (void)snprintf(out, CONTAINER_NAME_MAX, "s-%s", lower); /* always fits */
}

static void put_label(void *ctx, const char *name, const char *value)
{
    json_put(ctx, name, value);
}

static int put_labels(struct json_out *o, const struct runtime_spec *spec, const char *instance,
                      struct err *err)
{
    char revision[12];
    (void)snprintf(revision, sizeof revision, "%u", spec->revision); /* always fits */
    json_open(o, "Labels");
    json_put(o, LABEL_INSTANCE, instance);
    json_put(o, LABEL_ID, spec->id->text);
    json_put(o, LABEL_REVISION, revision);
    int rc = labels_traefik(spec->id, &spec->ports, &spec->preview, put_label, o, err);
    json_close(o);
    return rc;
}

static void put_mounts(struct json_out *o, const struct runtime_spec *spec)
{
    json_list(o, "Mounts");
    for (size_t i = 0; i < spec->n_mounts; i++) {
        const struct runtime_mount *m = &spec->mounts[i];
        json_open(o, NULL);
        json_put(o, "Type", "bind");
        json_put(o, "Source", m->source);
        json_put(o, "Target", m->target);
        json_put_bool(o, "ReadOnly", m->read_only);
        json_open(o, "BindOptions");
        json_put(o, "Propagation", "rprivate");
        json_close(o);
        json_close(o);
    }
    json_unlist(o);
    /* "exec" must be said, the Engine adds noexec otherwise; compilers run what they build in /tmp,
     * and the workspace is executable anyway. */
    json_open(o, "Tmpfs");
    json_put(o, "/tmp", "rw,exec,nosuid,nodev,size=512m,mode=1777");
    json_put(o, "/var/tmp", "rw,exec,nosuid,nodev,size=128m,mode=1777");
    json_close(o);
    json_put_int(o, "ShmSize", 64 * MIB);
}

static void put_ulimit(struct json_out *o, const char *name, int64_t value)
{
    json_open(o, NULL);
    json_put(o, "Name", name);
    json_put_int(o, "Soft", value);
    json_put_int(o, "Hard", value);
    json_close(o);
}

static void put_limits(struct json_out *o, const struct sandbox_limits *l, uint32_t nofile)
{
    const int64_t memory_bytes = (int64_t)l->memory_mib * MIB;
    json_put_int(o, "Memory", memory_bytes);
    json_put_int(o, "MemorySwap", memory_bytes); /* memory and swap together: no swap */
    json_put_int(o, "NanoCpus", (int64_t)l->cpu_milli * 1000000);
    json_put_int(o, "PidsLimit", l->pids);
    json_list(o, "Ulimits");
    put_ulimit(o, "nofile", nofile);
    put_ulimit(o, "core", 0);
    json_unlist(o);
    json_put_int(o, "OomScoreAdj",
                 300); /* when the host runs out, sandboxes go before the daemon */
}

static void put_isolation(struct json_out *o)
{
    json_put_bool(o, "Privileged", false);
    json_put_bool(o, "ReadonlyRootfs", true);
    json_list(o, "CapDrop");
    json_put(o, NULL, "ALL");
    json_unlist(o);
    json_list(o, "SecurityOpt");
    json_put(o, NULL, "no-new-privileges");
    json_unlist(o);
    json_put(o, "IpcMode", "private");
    json_put(o, "CgroupnsMode", "private");
    json_put_bool(o, "PublishAllPorts", false);
    /* The agent is PID 1 and reaps; an Engine set to add its own init must not. */
    json_put_bool(o, "Init", false);
}

static void put_keeping(struct json_out *o)
{
    json_put_bool(o, "AutoRemove", false);
    json_open(o, "RestartPolicy"); /* whether a sandbox runs is decided by its row alone */
    json_put(o, "Name", "no");
    json_close(o);
    json_open(o, "LogConfig");
    json_put(o, "Type", "json-file");
    json_open(o, "Config");
    json_put(o, "max-size", "1m");
    json_put(o, "max-file", "1");
    json_close(o);
    json_close(o);
}

int spec_container(struct buf *b, const struct runtime_spec *spec, const char *instance,
                   const char *network, uint32_t nofile, struct err *err)
{
    struct json_out o = JSON_OUT(b);
    json_open(&o, NULL);
    json_put(&o, "Image", spec->image);
    json_put(&o, "User", BOX_USER);
    json_put(&o, "Hostname", BOX_HOSTNAME);
    json_put(&o, "WorkingDir", "/");
    json_list(&o, "Entrypoint");
    json_put(&o, NULL, spec->entrypoint);
    json_unlist(&o);
    json_list(&o, "Cmd"); /* the image's own command would become the agent's arguments */
    json_unlist(&o);
    json_put(&o, "StopSignal", "SIGTERM");
    json_open(&o, "Healthcheck");
    json_list(&o, "Test");
    json_put(&o, NULL, "NONE");
    json_unlist(&o);
    json_close(&o);
    if (put_labels(&o, spec, instance, err) < 0)
        return -1;
    json_open(&o, "HostConfig");
    json_put(&o, "NetworkMode", network);
    put_isolation(&o);
    put_limits(&o, &spec->limits, nofile);
    put_mounts(&o, spec);
    put_keeping(&o);
    json_close(&o);
    json_close(&o);
    return buf_done(b, err);
}

void spec_seed(struct buf *b, const char *image, const char *instance, const char *boot)
{
    struct json_out o = JSON_OUT(b);
    json_open(&o, NULL);
    json_put(&o, "Image", image);
    json_put(&o, "User", BOX_USER);
    json_list(&o, "Entrypoint"); /* an image may have none, and the Engine wants one */
    json_put(&o, NULL, "/.sandboxed/none");
    json_unlist(&o);
    json_open(&o, "Labels");
    json_put(&o, LABEL_INSTANCE, instance);
    json_put(&o, LABEL_ROLE, "seed");
    json_put(&o, LABEL_BOOT, boot);
    json_close(&o);
    json_open(&o, "HostConfig");
    json_put(&o, "NetworkMode", "none");
    put_isolation(&o);
    json_close(&o);
    json_close(&o);
}

void spec_network(struct buf *b, const char *name, const char *bridge, const char *instance)
{
    struct json_out o = JSON_OUT(b);
    json_open(&o, NULL);
    json_put(&o, "Name", name);
    json_put_bool(&o, "CheckDuplicate", true); /* without it the Engine makes a second one */
    json_put(&o, "Driver", "bridge");
    json_put_bool(&o, "Internal", false);
    json_put_bool(&o, "Attachable", false);
    json_put_bool(&o, "EnableIPv6", false);
    json_open(&o, "Options");
    json_put(&o, "com.docker.network.bridge.name", bridge);
    json_put(&o, "com.docker.network.bridge.enable_icc", "false");
    json_close(&o);
    json_open(&o, "Labels");
    json_put(&o, LABEL_INSTANCE, instance);
    json_close(&o);
    json_close(&o);
}

static void put_label_filter(struct json_out *o, const char *instance, const char *role)
{
    struct buf label = BUF_INIT(ENGINE_TEXT_MAX); /* instance and role are short words of ours */
    json_list(o, "label");
    buf_addf(&label, LABEL_INSTANCE "=%s", instance);
    json_put(o, NULL, buf_str(&label));
    if (role) {
        buf_reset(&label);
        buf_addf(&label, LABEL_ROLE "=%s", role);
        json_put(o, NULL, buf_str(&label));
    }
    json_unlist(o);
    buf_release(&label);
}

void spec_list_filter(struct buf *b, const char *instance, const char *role)
{
    struct json_out o = JSON_OUT(b);
    json_open(&o, NULL);
    put_label_filter(&o, instance, role);
    json_close(&o);
}

void spec_events_filter(struct buf *b, const char *instance)
{
    static const char *const actions[] = { "start", "die",     "kill",   "destroy", "oom",
                                           "pause", "unpause", "rename", "update" };
    struct json_out o = JSON_OUT(b);
    json_open(&o, NULL);
    json_list(&o, "type");
    json_put(&o, NULL, "container");
    json_unlist(&o);
    put_label_filter(&o, instance, NULL);
    json_list(&o, "event");
    for (size_t i = 0; i < sizeof actions / sizeof actions[0]; i++)
        json_put(&o, NULL, actions[i]);
    json_unlist(&o);
    json_close(&o);
}
