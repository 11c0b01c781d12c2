/* From the headers of a request to its handler: the checks in their order, then the calls of
 * libmicrohttpd.
 *
 * It calls req_access() once after the headers, then for each piece of the body, then once after
 * it; an answer may be queued in the first (the connection is then closed after it) and in the last
 * call only. `step` says which call comes next. */
#include <inttypes.h>

#include "base/cleanup.h"
#include "base/limits.h"
#include "base/str.h"
#include "inside.h"
#include "params.h"
#include "wire/json.h"

/* --- before the handler --- */

static enum MHD_Result gather(void *ctx, enum MHD_ValueKind kind, const char *name, size_t name_len,
                              const char *value, size_t value_len)
{
    (void)kind;
    heads_add(ctx, name, name_len, value, value_len);
    return MHD_YES;
}

static size_t header_bytes(const struct req *r)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(r->conn, MHD_CONNECTION_INFO_REQUEST_HEADER_SIZE);
    return info ? info->header_size : 0;
}

/* method and version lie in the connection's read buffer, as do the headers. */
static void gather_heads(struct req *r, const char *method, const char *version)
{
    if (r->api->in_place)
        heads_in_place(&r->heads, version);
    (void)MHD_get_connection_values_n(r->conn, MHD_HEADER_KIND, gather, &r->heads);
    heads_end(&r->heads, method + header_bytes(r));
}

/* Checks that decide whether this can be a request at all; a failure closes the connection. */
static int check_framing(struct req *r, const char *version, int *ret_status, struct err *err)
{
    if (guard_strict(&r->heads, version, r->uri, header_bytes(r), err) == 0)
        return 0;
    *ret_status = err->code == ERR_TOO_LARGE ? 431 : 400;
    return -1;
}

static int authenticate(struct req *r, struct err *err)
{
    if (r->api->config->auth_disabled) {
        r->who = (struct caller){ .tenant = "local", .actor = "local" };
        return 0;
    }
    const char *token = guard_bearer(&r->heads);
    if (!token)
        return err_set(err, ERR_UNAUTHORIZED, "a bearer token is required");
    if (core_authenticate(r->api->core, token, &r->who.tenant, err) < 0)
        return -1;
    r->who.actor = r->who.tenant;
    return 0;
}

/* Auth comes before routing: who may not call learns nothing about what is there. */
static int find_route(struct req *r, const char *method, struct err *err)
{
    char allow[64];
    const struct route *found = NULL;
    r->legacy = !str_starts(r->uri, "/v1/");
    enum route_match match = route_find(method, r->uri, &found, &r->args, allow);
    bool open = match == ROUTE_FOUND && (found->flags & ROUTE_OPEN);
    if (!open && authenticate(r, err) < 0)
        return -1;
    if (match == ROUTE_NO_PATH)
        return err_set(err, ERR_NOT_FOUND, "there is no such route");
    if (match == ROUTE_NO_METHOD) {
        req_header(r, "Allow", allow);
        return err_set(err, ERR_METHOD, "this route takes %s only", allow);
    }
    r->route = found;
    r->legacy = (found->flags & ROUTE_LEGACY) != 0;
    struct err bad;
    if (r->args.id[0] && sandbox_id_parse(r->args.id, &r->id, &bad) < 0)
        return err_set(err, ERR_NOT_FOUND, "there is no such sandbox");
    if (query_parse(r->query_text, &r->query, err) < 0)
        return -1;
    return r->legacy ? 0 : params_check(r->route, &r->query, err);
}

/* A proxy asks with its visitor's headers; such a route tells and changes nothing. */
static bool for_proxies(const struct req *r, const char *method)
{
    struct route_args args;
    char allow[64];
    const struct route *t = NULL;
    return route_find(method, r->uri, &t, &args, allow) == ROUTE_FOUND && (t->flags & ROUTE_PROXY);
}

static int check(struct req *r, const char *method, const char *version, int *ret_status,
                 struct err *err)
{
    bool read_only = str_eq(method, "GET") || str_eq(method, "HEAD") || str_eq(method, "OPTIONS");
    if (check_framing(r, version, ret_status, err) < 0) {
        r->close = true;
        return -1;
    }
    if (guard_host(&r->heads, r->api->config, err) < 0 ||
        (!for_proxies(r, method) && guard_browser(&r->heads, r->api->config, !read_only, err) < 0))
        return -1;
    if (atomic_load(&r->api->stopping)) {
        r->close = true;
        return err_set(err, ERR_SHUTDOWN, "the daemon is shutting down");
    }
    if (find_route(r, method, err) < 0)
        return -1;
    if (r->route->body_max && r->heads.n_length && r->heads.length > r->route->body_max)
        return err_set(err, ERR_TOO_LARGE, "the body is %" PRIu64 " bytes, at most %u are allowed",
                       r->heads.length, r->route->body_max);
    return 0;
}

/* --- the calls of libmicrohttpd --- */

static enum MHD_Result queue(struct req *r)
{
    /* The reference goes to libmicrohttpd; from here on the request completes by itself. */
    struct MHD_Response *resp = TAKE(r->response);
    if (!resp)
        return MHD_NO;
    if (r->peer)
        peer_phase(r->peer, PEER_BUSY);
    enum MHD_Result ok = MHD_queue_response(r->conn, (unsigned)r->status, resp);
    MHD_destroy_response(resp);
    return ok;
}

static void run_job(void *arg)
{
    struct req *r = arg;
    r->route->handle(r);
    mu_lock(&r->lock);
    r->dropped = !r->answered;
    if (r->dropped)
        req_cut(r);
    mu_unlock(&r->lock);
    share_give(r->api, r->who.tenant, 1);
    req_unref(r);
}

/* Hands the request to the pool; the connection sleeps until there is something to send. After a
 * whole body it is put to sleep by the next call only: libmicrohttpd would otherwise take it up
 * again in the belief that it waits for input, read the FIN of a client that half-closed, and drop
 * the answer. */
static enum MHD_Result hand_over(struct req *r, enum step next)
{
    struct err err;
    r->step = next;
    if (!share_take(r->api, r->who.tenant, 1)) {
        (void)err_set(&err, ERR_CAPACITY, "too many requests of this tenant are under way");
        req_fail(r, &err);
        return queue(r);
    }
    atomic_fetch_add(&r->refs, 1);
    mu_lock(&r->lock);
    int rc = pool_run(r->api->pool, run_job, r, &err);
    if (rc == 0 && next == STEP_RAW)
        req_suspend(r);
    mu_unlock(&r->lock);
    if (rc == 0)
        return MHD_YES;
    share_give(r->api, r->who.tenant, 1);
    req_unref(r);
    if (err.code == ERR_CAPACITY)
        (void)err_set(&err, ERR_CAPACITY, "too many requests are under way");
    req_fail(r, &err);
    return queue(r);
}

static int decode(struct req *r, struct err *err)
{
    const struct route *t = r->route;
    if (!t->shape)
        return 0;
    if (r->body.len == 0 && !(t->flags & ROUTE_EMPTY))
        return err_set(err, ERR_INVALID, "a JSON body is required");
    void *object = mem_new(1, t->object_size);
    if (json_decode(t->shape, buf_str(&r->body), r->body.len, object, err) < 0) {
        free(object);
        return -1;
    }
    r->object = object;
    return 0;
}

static enum MHD_Result dispatch(struct req *r)
{
    struct err err;
    r->step = STEP_ANSWER;
    r->body_end = true;
    if (decode(r, &err) < 0) {
        req_fail(r, &err);
        return queue(r);
    }
    if (!(r->route->flags & ROUTE_FAST))
        return hand_over(r, STEP_ANSWER);
    r->route->handle(r);
    return queue(r);
}

/* A refusal waits for the end of a body of moderate size: closing on unread bytes would make the
 * peer's kernel drop the answer. */
static enum MHD_Result refuse(struct req *r, int status, const struct err *err)
{
    bool body = heads_body(&r->heads);
    bool at_once = body && (r->expects || r->close || r->heads.length > HTTP_DISCARD_MAX);
    atomic_fetch_add(&r->api->metrics.rejected, 1);
    if (at_once)
        r->close = true;
    req_fail_as(r, status, err);
    r->step = body && !r->close ? STEP_DISCARD : STEP_ANSWER;
    return at_once || r->close ? queue(r) : MHD_YES;
}

static enum MHD_Result on_head(struct req *r, const char *method, const char *version)
{
    struct err err;
    int status = 0;
    char *query = strchr(r->uri, '?');
    if (query)
        *query++ = '\0';
    r->query_text = query ? query : "";
    r->legacy = !str_starts(r->uri, "/v1/");
    r->head = str_eq(method, "HEAD");
    r->http11 = str_eq(version, "HTTP/1.1");
    gather_heads(r, method, version);
    r->expects = r->heads.expect != NULL;
    bool body = heads_body(&r->heads);
    if (r->peer)
        peer_phase(r->peer, body ? PEER_BODY : PEER_BUSY);
    if (check(r, method, version, &status, &err) < 0)
        return refuse(r, status, &err);
    if (body && (r->route->flags & ROUTE_RAW)) {
        ring_init(&r->in, HTTP_IN_WINDOW);
        return hand_over(r, STEP_RAW);
    }
    r->step = STEP_BODY;
    return MHD_YES;
}

static enum MHD_Result on_body(struct req *r, const char *data, size_t *len)
{
    size_t n = *len;
    if (r->peer)
        atomic_fetch_add_explicit(&r->peer->bytes, n, memory_order_relaxed);
    if (r->step == STEP_BODY) {
        if (r->body.len + n <= r->route->body_max) {
            buf_add(&r->body, data, n);
        } else {
            struct err err;
            (void)err_set(&err, ERR_TOO_LARGE, "the body is longer than the %u bytes allowed",
                          r->route->body_max);
            req_fail(r, &err);
            r->step = STEP_DISCARD;
        }
        *len = 0;
        return MHD_YES;
    }
    if (r->step == STEP_DISCARD) {
        r->discarded += n;
        *len = 0;
        return r->discarded > HTTP_DISCARD_MAX ? MHD_NO : MHD_YES;
    }
    if (r->peer && atomic_load(&r->peer->phase) != PEER_BODY)
        peer_phase(r->peer, PEER_BODY); /* it waited for us, not we for it */
    enum MHD_Result ok = MHD_YES;
    mu_lock(&r->lock);
    if (r->dropped) {
        ok = MHD_NO;
    } else if (r->answered) { /* it answered without the rest */
        r->discarded += n;
        *len = 0;
        ok = r->discarded > HTTP_DISCARD_MAX ? MHD_NO : MHD_YES;
    } else {
        size_t took = ring_put(&r->in, data, n);
        *len = n - took;
        if (stream_enough(r))
            cond_signal(&r->changed);
        if (took < n) {
            req_suspend(r);
            if (r->peer)
                peer_phase(r->peer, PEER_BUSY);
        }
    }
    mu_unlock(&r->lock);
    return ok;
}

/* The first call again, after the raw handler has asked for the body or answered without it. */
static enum MHD_Result on_raw(struct req *r)
{
    mu_lock(&r->lock);
    bool answered = r->answered, wants = r->wants_body, dropped = r->dropped;
    if (!answered && !wants && !dropped)
        req_suspend(r);
    mu_unlock(&r->lock);
    if (dropped)
        return MHD_NO;
    if (answered && (r->expects || r->heads.length > HTTP_DISCARD_MAX))
        return queue(r);
    if (answered)
        r->step = STEP_DISCARD;
    else if (wants)
        r->step = STEP_FEED;
    return MHD_YES;
}

static enum MHD_Result on_end(struct req *r)
{
    if (r->step == STEP_BODY)
        return dispatch(r);
    bool waits = r->step == STEP_ANSWER; /* else: see hand_over() */
    r->step = STEP_ANSWER;
    mu_lock(&r->lock);
    r->body_end = true;
    cond_signal(&r->changed);
    bool answered = r->answered, dropped = r->dropped;
    if (waits && !answered && !dropped)
        req_suspend(r);
    mu_unlock(&r->lock);
    if (dropped)
        return MHD_NO;
    return answered ? queue(r) : MHD_YES;
}

enum MHD_Result req_access(void *api, struct MHD_Connection *conn, const char *url,
                           const char *method, const char *version, const char *data,
                           size_t *data_len, void **slot)
{
    struct req *r = *slot;
    (void)api;
    (void)conn;
    (void)url;
    if (!r)
        return MHD_NO;
    if (r->step == STEP_HEAD)
        return on_head(r, method, version);
    if (r->step == STEP_RAW)
        return on_raw(r);
    if (*data_len > 0)
        return on_body(r, data, data_len);
    if (r->step != STEP_ANSWER && r->peer)
        peer_phase(r->peer, PEER_BUSY);
    return on_end(r);
}
