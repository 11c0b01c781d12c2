/* A request's life, what its handler reads of it, and whole answers. Nothing here outlives the
 * process. */
#include <inttypes.h>
#include <netdb.h>
#include <poll.h>
#include <sys/socket.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/digest.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/str.h"
#include "inside.h"
#include "render.h"

static const char json_type[] = "application/json";

/* --- life --- */

void req_unref(struct req *r)
{
    if (atomic_fetch_sub(&r->refs, 1) != 1)
        return;
    if (r->response)
        MHD_destroy_response(r->response);
    if (r->upgrade)
        websocket_abandon(r->upgrade);
    if (r->object) {
        shape_release(r->route->shape, r->object);
        free(r->object);
    }
    for (size_t i = 0; i < r->n_headers; i++)
        free(r->header[i].value);
    if (r->gone_fd >= 0)
        (void)close(r->gone_fd);
    query_release(&r->query);
    buf_release(&r->body);
    ring_release(&r->in);
    ring_release(&r->out);
    cond_release(&r->changed);
    mu_release(&r->lock);
    free(r->uri);
    free(r);
}

void *req_begin(void *api, const char *uri, struct MHD_Connection *conn)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(conn, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    struct req *r = mem_new(1, sizeof(*r));
    r->api = api;
    r->peer = info->socket_context;
    r->conn = conn;
    r->uri = str_dup(uri ? uri : "");
    r->begun_us = clock_mono_us();
    r->gone_fd = -1;
    r->refs = 1;
    buf_init(&r->body, HTTP_BODY_JSON_MAX);
    mu_init(&r->lock, MU_REQ);
    cond_init(&r->changed);
    struct sandbox_id id;
    sandbox_id_new(&id);
    memcpy(r->request_id, id.text, sizeof(r->request_id));
    if (r->peer)
        peer_phase(r->peer, PEER_HEADER);
    return r;
}

/* A client may cause any number of refusals a second, but only so many lines. */
static bool log_room(struct api *a)
{
    int64_t second = clock_mono_ms() / 1000;
    if (atomic_exchange(&a->log_second, second) != second)
        atomic_store(&a->log_lines, 0);
    return atomic_fetch_add(&a->log_lines, 1) < HTTP_LOG_LINES;
}

/* Each request at debug; at info what took long and is not long by its nature, as streams are. */
static void log_done(struct req *r, int status, int64_t took_us, bool whole)
{
    bool slow = took_us >= HTTP_SLOW_MS * 1000 && !r->streaming && status != 101;
    if (slow && log_room(r->api))
        log_info("request.slow", KV_STR("request_id", r->request_id),
                 KV_STR("method", r->route ? r->route->method : ""),
                 KV_STR("route", r->route ? r->route->path : ""), KV_INT("status", status),
                 KV_INT("took_ms", took_us / 1000));
    log_debug("request.done", KV_STR("request_id", r->request_id), KV_STR("path", r->uri),
              KV_INT("status", status), KV_INT("took_us", took_us), KV_INT("whole", whole));
}

void req_completed(void *api, struct MHD_Connection *conn, void **slot,
                   enum MHD_RequestTerminationCode why)
{
    struct api *a = api;
    struct req *r = *slot;
    (void)conn;
    if (!r)
        return;
    *slot = NULL;
    mu_lock(&r->lock);
    r->finished = true;
    cond_broadcast(&r->changed);
    int status = r->answered ? r->status : 0;
    struct MHD_Response *unsent = TAKE(r->response);
    mu_unlock(&r->lock);
    if (unsent)
        MHD_destroy_response(unsent);
    int64_t took_us = clock_mono_us() - r->begun_us;
    size_t row = r->route ? (size_t)(r->route - routes) : n_routes;
    metrics_note(&a->metrics, row, status, took_us);
    log_done(r, status, took_us, why == MHD_REQUEST_TERMINATED_COMPLETED_OK);
    if (r->peer)
        peer_phase(r->peer, PEER_IDLE);
    req_unref(r);
}

/* --- what the handler reads --- */

const struct caller *req_caller(const struct req *r)
{
    return &r->who;
}
const struct sandbox_id *req_id(const struct req *r)
{
    return &r->id;
}
void req_pause(struct req *r, int ms)
{
    struct pollfd p = { .fd = req_gone_fd(r), .events = POLLRDHUP };
    if (atomic_load(&r->api->stopping))
        return;
    (void)poll(&p, 1, ms); /* early is fine */
}

const char *req_sub(const struct req *r)
{
    return r->args.sub;
}
const struct buf *req_body(const struct req *r)
{
    return &r->body;
}
const char *req_query(const struct req *r, const char *name)
{
    return query_get(&r->query, name);
}
const struct query *req_query_all(const struct req *r)
{
    return &r->query;
}
void *req_object(const struct req *r)
{
    return r->object;
}
const struct heads *req_heads(const struct req *r)
{
    return &r->heads;
}
const char *req_request_id(const struct req *r)
{
    return r->request_id;
}
struct core *req_core(const struct req *r)
{
    return r->api->core;
}
struct api *req_api(const struct req *r)
{
    return r->api;
}
const struct config *req_config(const struct req *r)
{
    return r->api->config;
}
void req_remote(struct req *r, char out[REMOTE_MAX])
{
    struct sockaddr_storage from = { 0 };
    socklen_t len = sizeof from;
    out[0] = '\0';
    mu_lock(&r->lock);
    if (r->peer && !r->finished && getpeername(r->peer->fd, (struct sockaddr *)&from, &len) == 0)
        (void)getnameinfo((struct sockaddr *)&from, len, out, REMOTE_MAX, NULL, 0, NI_NUMERICHOST);
    mu_unlock(&r->lock);
}

bool req_is_head(const struct req *r)
{
    return r->head;
}

bool req_stopping(const struct req *r)
{
    return atomic_load(&r->api->stopping);
}

bool req_ending(const struct req *r)
{
    return atomic_load(&r->api->ending);
}
bool req_streaming(const struct req *r)
{
    return r->streaming;
}

void req_hash(const struct req *r, uint8_t out[32])
{
    AUTO(buf) struct buf b = BUF_INIT(HTTP_BODY_JSON_MAX + 1 * KIB);
    buf_addf(&b, "%s %s\n", r->route->method, r->route->path);
    buf_add(&b, buf_str(&r->body), r->body.len);
    digest_sha256(buf_str(&b), b.len, out);
}

/* --- suspending and resuming --- */

void req_suspend(struct req *r)
{
    MHD_suspend_connection(r->conn);
    r->suspended = true;
}

void req_resume(struct req *r)
{
    if (!r->suspended)
        return;
    r->suspended = false;
    MHD_resume_connection(r->conn);
}

void req_cut(struct req *r)
{
    if (!r->finished && r->peer)
        (void)shutdown(r->peer->fd, SHUT_RDWR); /* ended already: the same to us */
    req_resume(r);
}

/* --- answering --- */

void req_header(struct req *r, const char *name, const char *value)
{
    if (r->n_headers == REPLY_HEADERS)
        abort(); /* a handler's mistake */
    (void)str_copy(r->header[r->n_headers].name, sizeof(r->header[0].name), name);
    r->header[r->n_headers++].value = str_dup(value);
}

static void add(struct MHD_Response *resp, const char *name, const char *value)
{
    /* Fails for bytes that may not stand in a header; the answer is better without it. */
    (void)MHD_add_response_header(resp, name, value);
}

void req_answer(struct req *r, int status, const char *type, struct MHD_Response *resp)
{
    if (!resp)
        abort(); /* memory is out */
    add(resp, "X-Request-Id", r->request_id);
    if (type) {
        add(resp, "Content-Type", type);
        add(resp, "X-Content-Type-Options", "nosniff");
        add(resp, "Cache-Control", "no-store");
    }
    for (size_t i = 0; i < r->n_headers; i++)
        add(resp, r->header[i].name, r->header[i].value);
    if (r->close)
        add(resp, "Connection", "close");
    mu_lock(&r->lock);
    r->status = status;
    r->answered = true;
    if (!r->finished)
        r->response = TAKE(resp);
    req_resume(r);
    mu_unlock(&r->lock);
    if (resp) /* the connection has ended: nobody will send it */
        MHD_destroy_response(resp);
}

void req_reply(struct req *r, int status, const char *type, struct buf *body)
{
    size_t len = body->len;
    char *data = buf_take(body);
    req_answer(r, status, type, MHD_create_response_from_buffer(len, data, MHD_RESPMEM_MUST_FREE));
}

void req_reply_json(struct req *r, int status, struct buf *body)
{
    struct err err;
    if (buf_done(body, &err) < 0) {
        (void)err_wrap(&err, "the reply");
        req_fail_as(r, 500, &err);
        return;
    }
    buf_addc(body, '\n');
    req_reply(r, status, json_type, body);
}

void req_reply_empty(struct req *r, int status)
{
    req_answer(r, status, NULL, MHD_create_response_from_buffer(0, NULL, MHD_RESPMEM_PERSISTENT));
}

static void log_failure(struct req *r, int status, const struct err *err)
{
    enum log_level level = status >= 500 ? LOG_WARN : LOG_INFO;
    if (log_room(r->api))
        LOG_AT(level, "request.failed", KV_STR("request_id", r->request_id),
               KV_STR("route", r->route ? r->route->path : ""), KV_INT("status", status),
               KV_STR("code", err_name(err->code)), KV_ERR(err));
}

static void put_legacy_error(struct json_out *o, int status, const struct err *err)
{
    const char *text = status == 401 ? err_name(err->code) : err->msg;
    json_put_bytes(o, "error", text, strlen(text)); /* may quote the client, cut */
}

void req_fail_as(struct req *r, int status, const struct err *err)
{
    int retry_s = 0;
    int own = render_status(err->code, &retry_s);
    if (status == 0)
        status = own;
    if (retry_s > 0) {
        char text[16];
        (void)snprintf(text, sizeof(text), "%d", retry_s);
        req_header(r, "Retry-After", text);
    }
    if (status == 401)
        req_header(r, "WWW-Authenticate", "Bearer");
    struct buf b = BUF_INIT(8 * KIB);
    struct json_out o = JSON_OUT(&b);
    json_open(&o, NULL);
    if (r->legacy)
        put_legacy_error(&o, status, err);
    else
        render_error(&o, "error", err, r->request_id);
    json_close(&o);
    buf_addc(&b, '\n');
    log_failure(r, status, err);
    req_reply(r, status, json_type, &b);
}

void req_fail(struct req *r, const struct err *err)
{
    req_fail_as(r, 0, err);
}
