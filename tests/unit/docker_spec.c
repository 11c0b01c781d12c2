/* The bodies we send, compared literally: a new or changed member of the create spec must show here
 * (T-13). */
#include "spec.h"

#include "base/limits.h"
#include "check.h"

#define ROUTER_KEY(port, key) \
    "\"traefik.http.routers.s-01arz3ndektsv4rrffq69g5fav-" port "." key "\":"
#define ROUTER(port)                                                                             \
    ROUTER_KEY(port, "rule")                                                                     \
    "\"Host(`s-01arz3ndektsv4rrffq69g5fav-" port ".preview.box.example`)\""                      \
    "," ROUTER_KEY(port, "entrypoints") "\"websecure\"," ROUTER_KEY(                             \
        port,                                                                                    \
        "priority") "\"100\"," ROUTER_KEY(port,                                                  \
                                          "tls") "\"true\"," ROUTER_KEY(port,                    \
                                                                        "service") "\"sandboxd-" \
                                                                                   "edge@file\""

static const char container_want[] =
    "{\"Image\":\"sha256:feed\",\"User\":\"1000:1000\",\"Hostname\":\"sandbox\",\"WorkingDir\":\"/"
    "\","
    "\"Entrypoint\":[\"/.sandboxed/agent\"],\"Cmd\":[],\"StopSignal\":\"SIGTERM\","
    "\"Healthcheck\":{\"Test\":[\"NONE\"]},"
    "\"Labels\":{\"sandboxed.instance\":\"0123456789abcdef\","
    "\"sandboxed.id\":\"01ARZ3NDEKTSV4RRFFQ69G5FAV\",\"sandboxed.revision\":\"7\","
    "\"traefik.enable\":\"true\",\"sandboxd.managed\":\"true\"," ROUTER("3000") "," ROUTER(
        "8080") ","
                "\"traefik.http.services.s-01arz3ndektsv4rrffq69g5fav.loadbalancer.server.port\":"
                "\"3000\"},"
                "\"HostConfig\":{\"NetworkMode\":\"sandboxed-0123456789abcdef\","
                "\"Privileged\":false,\"ReadonlyRootfs\":true,\"CapDrop\":[\"ALL\"],"
                "\"SecurityOpt\":[\"no-new-privileges\"],\"IpcMode\":\"private\",\"CgroupnsMode\":"
                "\"private\","
                "\"PublishAllPorts\":false,\"Init\":false,"
                "\"Memory\":536870912,\"MemorySwap\":536870912,\"NanoCpus\":1500000000,"
                "\"PidsLimit\":256,"
                "\"Ulimits\":[{\"Name\":\"nofile\",\"Soft\":20000,\"Hard\":20000},"
                "{\"Name\":\"core\",\"Soft\":0,\"Hard\":0}],\"OomScoreAdj\":300,"
                "\"Mounts\":[{\"Type\":\"bind\",\"Source\":\"/data/agent\",\"Target\":\"/"
                ".sandboxed/agent\","
                "\"ReadOnly\":true,\"BindOptions\":{\"Propagation\":\"rprivate\"}},"
                "{\"Type\":\"bind\",\"Source\":\"/data/w \\\"x\\\"\",\"Target\":\"/home/sandbox\","
                "\"ReadOnly\":false,\"BindOptions\":{\"Propagation\":\"rprivate\"}}],"
                "\"Tmpfs\":{\"/tmp\":\"rw,exec,nosuid,nodev,size=512m,mode=1777\","
                "\"/var/tmp\":\"rw,exec,nosuid,nodev,size=128m,mode=1777\"},\"ShmSize\":67108864,"
                "\"AutoRemove\":false,\"RestartPolicy\":{\"Name\":\"no\"},"
                "\"LogConfig\":{\"Type\":\"json-file\",\"Config\":{\"max-size\":\"1m\",\"max-"
                "file\":\"1\"}}}}";

static const char seed_want[] =
    "{\"Image\":\"img\",\"User\":\"1000:1000\",\"Entrypoint\":[\"/.sandboxed/none\"],"
    "\"Labels\":{\"sandboxed.instance\":\"inst\",\"sandboxed.role\":\"seed\",\"sandboxed.boot\":"
    "\"b1\"},"
    "\"HostConfig\":{\"NetworkMode\":\"none\",\"Privileged\":false,\"ReadonlyRootfs\":true,"
    "\"CapDrop\":[\"ALL\"],\"SecurityOpt\":[\"no-new-privileges\"],\"IpcMode\":\"private\","
    "\"CgroupnsMode\":\"private\",\"PublishAllPorts\":false,\"Init\":false}}";

static const char network_want[] =
    "{\"Name\":\"sandboxed-inst\",\"CheckDuplicate\":true,\"Driver\":\"bridge\",\"Internal\":false,"
    "\"Attachable\":false,\"EnableIPv6\":false,"
    "\"Options\":{\"com.docker.network.bridge.name\":\"sbx-1\","
    "\"com.docker.network.bridge.enable_icc\":\"false\"},"
    "\"Labels\":{\"sandboxed.instance\":\"inst\"}}";

int main(void)
{
    struct err err;
    struct sandbox_id id;
    CHECK(sandbox_id_parse("01arz3ndektsv4rrffq69g5fav", &id, &err) == 0);
    char name[CONTAINER_NAME_MAX];
    spec_container_name(&id, name);
    CHECK_STR("s-01arz3ndektsv4rrffq69g5fav", name);

    struct buf b = BUF_INIT(64 * KIB);
    const struct runtime_spec spec = {
        .id = &id,
        .image = "sha256:feed",
        .entrypoint = "/.sandboxed/agent",
        .revision = 7,
        .limits = { .memory_mib = 512, .cpu_milli = 1500, .pids = 256 },
        .nofile = 65536,
        .mounts = { { "/data/agent", "/.sandboxed/agent", true },
                    { "/data/w \"x\"", "/home/sandbox", false } },
        .n_mounts = 2,
        .ports = { .items = { 3000, 8080 }, .count = 2 },
        .preview = { .domain = "box.example", .entrypoint = "websecure", .tls = true },
    };
    CHECK(spec_container(&b, &spec, "0123456789abcdef", "sandboxed-0123456789abcdef", 20000,
                         &err) == 0);
    CHECK_STR(container_want, buf_str(&b));
    buf_reset(&b);
    spec_seed(&b, "img", "inst", "b1");
    CHECK_STR(seed_want, buf_str(&b));
    buf_reset(&b);
    spec_network(&b, "sandboxed-inst", "sbx-1", "inst");
    CHECK_STR(network_want, buf_str(&b));
    buf_reset(&b);
    spec_list_filter(&b, "inst", NULL);
    CHECK_STR("{\"label\":[\"sandboxed.instance=inst\"]}", buf_str(&b));
    buf_reset(&b);
    spec_list_filter(&b, "inst", "seed");
    CHECK_STR("{\"label\":[\"sandboxed.instance=inst\",\"sandboxed.role=seed\"]}", buf_str(&b));
    buf_reset(&b);
    spec_events_filter(&b, "inst");
    CHECK_STR("{\"type\":[\"container\"],\"label\":[\"sandboxed.instance=inst\"],"
              "\"event\":[\"start\",\"die\",\"kill\",\"destroy\",\"oom\",\"pause\",\"unpause\","
              "\"rename\","
              "\"update\"]}",
              buf_str(&b));
    buf_release(&b);
    return check_done();
}
