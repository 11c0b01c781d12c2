/* Counters of the API, in atomics that any thread bumps, and their Prometheus text. */
#include "metrics.h"

#include <inttypes.h>

#include "base/limits.h"
#include "core/traffic.h"
#include "server.h"

/* Upper bounds, microseconds: 1 ms to 4 s by fours, then everything. */
static const int64_t bucket_us[METRICS_BUCKETS - 1] = { 1000,   4000,    16000,  64000,
                                                        256000, 1024000, 4096000 };

static uint64_t get(_Atomic uint64_t *n)
{
    return atomic_load_explicit(n, memory_order_relaxed);
}

static void bump(_Atomic uint64_t *n, uint64_t by)
{
    atomic_fetch_add_explicit(n, by, memory_order_relaxed);
}

void metrics_note(struct metrics *m, size_t route, int status, int64_t took_us)
{
    if (route >= METRICS_ROUTES)
        route = METRICS_ROUTES - 1;
    size_t class = status >= 100 && status < 600 ? (size_t)status / 100 : 0;
    size_t b = 0;
    while (b < METRICS_BUCKETS - 1 && took_us > bucket_us[b])
        b++;
    bump(&m->route[route].by_class[class], 1);
    bump(&m->route[route].buckets[b], 1);
    bump(&m->route[route].count, 1);
    bump(&m->route[route].sum_us, took_us > 0 ? (uint64_t)took_us : 0);
}

static void head(struct buf *b, const char *name, const char *type, const char *help)
{
    buf_addf(b, "# HELP sandboxd_%s %s\n# TYPE sandboxd_%s %s\n", name, help, name, type);
}

static void labels(struct buf *b, size_t i)
{
    if (i < n_routes)
        buf_addf(b, "endpoint=\"%s %s\",method=\"%s\"", routes[i].method, routes[i].path,
                 routes[i].method);
    else
        buf_adds(b, "endpoint=\"other\",method=\"other\"");
}

static void render_requests(struct metrics *m, struct buf *b)
{
    static const char *const classes[] = { "none", "1xx", "2xx", "3xx", "4xx", "5xx" };
    head(b, "api_requests_total", "counter", "Requests by route and class of status.");
    for (size_t i = 0; i <= n_routes; i++)
        for (size_t c = 0; c < 6; c++) {
            uint64_t n = get(&m->route[i].by_class[c]);
            if (n == 0)
                continue;
            buf_adds(b, "sandboxd_api_requests_total{");
            labels(b, i);
            buf_addf(b, ",code=\"%s\"} %" PRIu64 "\n", classes[c], n);
        }
    head(b, "api_request_duration_seconds", "histogram", "Time from request line to last byte.");
    for (size_t i = 0; i <= n_routes; i++) {
        uint64_t sum = 0;
        if (get(&m->route[i].count) == 0)
            continue;
        for (size_t k = 0; k < METRICS_BUCKETS; k++) {
            sum += get(&m->route[i].buckets[k]);
            buf_adds(b, "sandboxd_api_request_duration_seconds_bucket{");
            labels(b, i);
            if (k < METRICS_BUCKETS - 1)
                buf_addf(b, ",le=\"%g\"} %" PRIu64 "\n", (double)bucket_us[k] / 1e6, sum);
            else
                buf_addf(b, ",le=\"+Inf\"} %" PRIu64 "\n", sum);
        }
        buf_adds(b, "sandboxd_api_request_duration_seconds_sum{");
        labels(b, i);
        buf_addf(b, "} %.6f\n", (double)get(&m->route[i].sum_us) / 1e6);
        buf_adds(b, "sandboxd_api_request_duration_seconds_count{");
        labels(b, i);
        buf_addf(b, "} %" PRIu64 "\n", sum);
    }
}

static unsigned now(_Atomic uint32_t *n)
{
    return atomic_load_explicit(n, memory_order_relaxed);
}

static void render_edge(struct traffic *t, struct buf *b)
{
    head(b, "edge_requests_total", "counter", "Requests for previews by how they ended.");
    for (size_t i = 0; i < TRAFFIC_OUTCOME_COUNT; i++)
        buf_addf(b, "sandboxd_edge_requests_total{outcome=\"%s\"} %" PRIu64 "\n", traffic_labels[i],
                 get(&t->requests[i]));
    head(b, "edge_bytes_total", "counter", "Bytes from and to visitors of previews.");
    buf_addf(b, "sandboxd_edge_bytes_total{direction=\"in\"} %" PRIu64 "\n", get(&t->bytes_in));
    buf_addf(b, "sandboxd_edge_bytes_total{direction=\"out\"} %" PRIu64 "\n", get(&t->bytes_out));
    head(b, "edge_upgrades_total", "counter", "Connections that switched protocols.");
    buf_addf(b, "sandboxd_edge_upgrades_total %" PRIu64 "\n", get(&t->upgrades));
    head(b, "edge_connections", "gauge", "Open connections of visitors.");
    buf_addf(b, "sandboxd_edge_connections %u\n", now(&t->connections));
    head(b, "edge_held", "gauge", "Requests that wait for their sandbox or app.");
    buf_addf(b, "sandboxd_edge_held %u\n", now(&t->held));
    head(b, "edge_streams", "gauge", "Open connections that switched protocols.");
    buf_addf(b, "sandboxd_edge_streams %u\n", now(&t->streams));
}

static void render_wakes(struct traffic *t, struct buf *b)
{
    head(b, "wake_duration_seconds", "histogram", "Starts and thaws, whole and in parts.");
    for (size_t i = 0; i < WAKE_PART_COUNT; i++) {
        uint64_t sum = 0;
        for (size_t k = 0; k < WAKE_BUCKETS; k++) {
            sum += get(&t->wakes[i].buckets[k]);
            buf_addf(b, "sandboxd_wake_duration_seconds_bucket{phase=\"%s\",le=", wake_labels[i]);
            if (k < WAKE_BUCKETS - 1)
                buf_addf(b, "\"%g\"} %" PRIu64 "\n", (double)wake_bucket_ms[k] / 1e3, sum);
            else
                buf_addf(b, "\"+Inf\"} %" PRIu64 "\n", sum);
        }
        buf_addf(b, "sandboxd_wake_duration_seconds_sum{phase=\"%s\"} %.3f\n", wake_labels[i],
                 (double)get(&t->wakes[i].sum_ms) / 1e3);
        buf_addf(b, "sandboxd_wake_duration_seconds_count{phase=\"%s\"} %" PRIu64 "\n",
                 wake_labels[i], sum);
    }
}

void metrics_render(struct api *a, struct buf *b)
{
    uint32_t states[SANDBOX_STATE_COUNT] = { 0 };
    core_count(a->core, states);
    head(b, "build_info", "gauge", "Version of the daemon.");
    buf_addf(b, "sandboxd_build_info{version=\"%s\"} 1\n", SANDBOXED_VERSION);
    head(b, "sandboxes_total", "gauge", "Sandboxes by status.");
    for (int i = 0; i < SANDBOX_STATE_COUNT; i++)
        buf_addf(b, "sandboxd_sandboxes_total{status=\"%s\"} %u\n",
                 sandbox_state_name((enum sandbox_state)i), states[i]);
    head(b, "inflight_exec_total", "gauge", "Commands running now.");
    buf_addf(b, "sandboxd_inflight_exec_total %u\n", core_execs_running(a->core));
    head(b, "api_connections", "gauge", "Open connections.");
    buf_addf(b, "sandboxd_api_connections %u\n", atomic_load(&a->n_peers));
    head(b, "api_handlers", "gauge", "Requests running or waiting in the pool.");
    buf_addf(b, "sandboxd_api_handlers %u\n", pool_load(a->pool));
    head(b, "api_rejected_total", "counter", "Requests refused before a handler saw them.");
    buf_addf(b, "sandboxd_api_rejected_total %" PRIu64 "\n", get(&a->metrics.rejected));
    head(b, "api_slow_peers_cut_total", "counter", "Connections ended for being too slow.");
    buf_addf(b, "sandboxd_api_slow_peers_cut_total %" PRIu64 "\n", get(&a->metrics.cut));
    render_edge(core_traffic(a->core), b);
    render_wakes(core_traffic(a->core), b);
    render_requests(&a->metrics, b);
}
