/* What became of each request: one count, and one line in the log where that is wished for.
 *
 * A line holds what tells requests apart and nothing that opens a door: no query (share links are
 * there), no header but Host. Lines have a ceiling a second; what is above is counted and said. */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/str.h"
#include "inside.h"

#define SECOND_MS 1000

struct account {
    char method[EDGE_LOG_METHOD_MAX], host[EDGE_LOG_HOST_MAX], path[EDGE_LOG_PATH_MAX];
};

static void count(_Atomic uint64_t *n)
{
    atomic_fetch_add_explicit(n, 1, memory_order_relaxed);
}

static void copy(char *out, size_t size, struct span s)
{
    size_t len = s.len < size - 1 ? s.len : size - 1; /* cut: enough to tell them apart */
    memcpy(out, s.at, len);
    out[len] = '\0';
}

void account_begin(struct client *c, const struct head *h)
{
    bool more;
    c->counting = true;
    c->began_ms = c->e->now_ms;
    c->held_ms = 0;
    c->held_in = "";
    c->status = 0;
    c->bytes_in = c->bytes_out = 0;
    if (!h || !c->e->config->edge_log)
        return;
    struct account *a = mem_new(1, sizeof *a);
    const struct line *host = head_line(h, "host", &more);
    copy(a->method, sizeof a->method, h->method);
    if (host)
        copy(a->host, sizeof a->host, host->value);
    copy(a->path, sizeof a->path, h->target);
    a->path[strcspn(a->path, "?")] = '\0';
    free(c->account);
    c->account = a;
}

/* May one more line be written in this second? */
static bool has_room(struct edge *e)
{
    if (e->now_ms - e->log_second_ms >= SECOND_MS) {
        if (e->log_lines > EDGE_LOG_LINES)
            log_warn("edge.log_dropped", KV_INT("lines", e->log_lines - EDGE_LOG_LINES));
        e->log_second_ms = e->now_ms;
        e->log_lines = 0;
    }
    return ++e->log_lines <= EDGE_LOG_LINES;
}

static void account_end(struct client *c, enum traffic_outcome outcome, int status)
{
    struct edge *e = c->e;
    if (!c->counting)
        account_begin(c, NULL); /* no head was read */
    c->counting = false;
    count(&e->traffic->requests[outcome]);
    struct account *a = c->account;
    c->account = NULL;
    if (e->config->edge_log && has_room(e))
        log_info("edge.request", KV_STR("outcome", traffic_labels[outcome]),
                 KV_INT("status", status), KV_STR("method", a ? a->method : ""),
                 KV_STR("host", a ? a->host : ""), KV_STR("path", a ? a->path : ""),
                 KV_INT("in_bytes", c->bytes_in), KV_INT("out_bytes", c->bytes_out),
                 KV_INT("took_ms", clock_mono_ms() - c->began_ms), KV_INT("held_ms", c->held_ms),
                 KV_STR("held_in", c->held_in));
    free(a);
}

void account_answer(struct client *c, int status, const char *code, size_t size)
{
    static const struct {
        int from, to;
        enum traffic_outcome outcome;
    } rows[] = {
        { 200, 399, TRAFFIC_OWN },     { 401, 401, TRAFFIC_DENIED },
        { 403, 403, TRAFFIC_DENIED },  { 404, 404, TRAFFIC_UNKNOWN },
        { 410, 410, TRAFFIC_UNKNOWN }, { 400, 499, TRAFFIC_REFUSED },
        { 505, 505, TRAFFIC_REFUSED }, { 502, 502, TRAFFIC_BAD_GATEWAY },
    };
    enum traffic_outcome outcome = TRAFFIC_UNAVAILABLE;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        if (status >= rows[i].from && status <= rows[i].to) {
            outcome = rows[i].outcome;
            break;
        }
    if (code && (str_eq(code, "starting") || str_eq(code, err_name(ERR_TIMEOUT))))
        outcome = TRAFFIC_STARTING;
    c->bytes_out += size;
    account_end(c, outcome, status);
}

void account_over(struct client *c)
{
    if (!c->counting)
        return;
    enum traffic_outcome outcome = c->upgraded        ? TRAFFIC_UPGRADED
                                   : !c->answered     ? TRAFFIC_LEFT
                                   : c->response.done ? TRAFFIC_SERVED
                                                      : TRAFFIC_CUT;
    if (c->upgraded)
        atomic_fetch_sub_explicit(&c->e->traffic->streams, 1, memory_order_relaxed);
    account_end(c, outcome, c->status);
}

void account_upgraded(struct client *c)
{
    count(&c->e->traffic->upgrades);
    atomic_fetch_add_explicit(&c->e->traffic->streams, 1, memory_order_relaxed);
}

void account_held(struct client *c, bool now)
{
    bool before = c->state == CLIENT_WAIT;
    if (before)
        c->held_ms += c->e->now_ms - c->since_ms;
    if (now && !before)
        atomic_fetch_add_explicit(&c->e->traffic->held, 1, memory_order_relaxed);
    else if (before && !now)
        atomic_fetch_sub_explicit(&c->e->traffic->held, 1, memory_order_relaxed);
}

void account_bytes(struct client *c, size_t in, size_t out)
{
    c->bytes_in += in;
    c->bytes_out += out;
    if (in)
        atomic_fetch_add_explicit(&c->e->traffic->bytes_in, in, memory_order_relaxed);
    if (out)
        atomic_fetch_add_explicit(&c->e->traffic->bytes_out, out, memory_order_relaxed);
}
