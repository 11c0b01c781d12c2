/* The routes of the reference server, with its shapes. Where it lies (success for what is not
 * there) we answer truthfully. */
#include <inttypes.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/limits.h"
#include "base/str.h"
#include "create.h"
#include "handlers.h"
#include "render.h"
#include "shapes.h"

#define REPLY_MAX (64 * MIB) /* a list of all sandboxes a tenant may have */

static void put_row(struct json_out *o, struct req *r, const struct sandbox *s)
{
    render_row(o, NULL, req_config(r), s);
}

void legacy_create(struct req *r)
{
    create_run(r, false, put_row);
}

void legacy_list(struct req *r)
{
    struct err err;
    const struct sandbox **list = NULL;
    size_t n = 0;
    bool more = false;
    const char *user = req_query(r, "external_user_id");
    const char *project = req_query(r, "external_project_id");
    struct core_filter f = { .state = -1,
                             .external_user = user && *user ? user : NULL,
                             .external_project = project && *project ? project : NULL };
    if (core_list(req_core(r), req_caller(r), &f, &list, &n, &more, &err) < 0) {
        req_fail(r, &err);
        return;
    }
    struct buf b = BUF_INIT(REPLY_MAX);
    struct json_out o = JSON_OUT(&b);
    json_list(&o, NULL);
    for (size_t i = 0; i < n; i++) {
        render_row(&o, NULL, req_config(r), list[i]);
        core_unref(list[i]);
    }
    json_unlist(&o);
    free(list);
    req_reply_json(r, 200, &b);
}

void legacy_get(struct req *r)
{
    struct err err, away;
    const struct sandbox *s = NULL;
    AUTO(free) char *live = NULL;
    if (core_get(req_core(r), req_caller(r), req_id(r), &s, &err) < 0) {
        req_fail(r, &err);
        return;
    }
    /* The engine being away is no reason to hide the row: live_state is null then. */
    (void)core_live_state(req_core(r), s, &live, &away);
    struct buf b = BUF_INIT(JSON_ENGINE_MAX);
    struct json_out o = JSON_OUT(&b);
    json_open(&o, NULL);
    render_row(&o, "row", req_config(r), s);
    render_live_state(&o, "live_state", live);
    if (s->state == SANDBOX_RUNNING) {
        json_open(&o, "runtime");
        json_put_bool(&o, "ready", true);
        json_close(&o);
    }
    json_close(&o);
    core_unref(s);
    req_reply_json(r, 200, &b);
}

void legacy_keepalive(struct req *r)
{
    struct err err;
    int64_t until_ms = 0;
    const struct keepalive_body *k = req_object(r);
    if (core_keepalive(req_core(r), req_caller(r), req_id(r), k->until_seen ? k->until * 1000 : 0,
                       &until_ms, &err) < 0) {
        req_fail(r, &err);
        return;
    }
    struct buf b = BUF_INIT(1 * KIB);
    struct json_out o = JSON_OUT(&b);
    json_open(&o, NULL);
    json_put(&o, "id", req_id(r)->text);
    json_put_int(&o, "keepalive_until", until_ms / 1000);
    json_close(&o);
    req_reply_json(r, 200, &b);
}

void legacy_delete(struct req *r)
{
    struct err err;
    if (core_delete(req_core(r), req_caller(r), req_id(r), &err) < 0)
        req_fail(r, &err);
    else
        req_reply_empty(r, 204);
}

void legacy_purge(struct req *r)
{
    struct err err;
    uint64_t freed = 0;
    if (core_purge(req_core(r), req_caller(r), req_id(r), &freed, &err) < 0) {
        req_fail(r, &err);
        return;
    }
    struct buf b = BUF_INIT(1 * KIB);
    struct json_out o = JSON_OUT(&b);
    json_open(&o, NULL);
    json_put_int(&o, "freed_bytes", (int64_t)freed);
    json_put_bool(&o, "purged", true);
    json_close(&o);
    req_reply_json(r, 200, &b);
}

/* The words that clients of this route know. */
static const char *wake_reason(enum err_code code)
{
    switch (code) {
    case ERR_NOT_FOUND:
        return "not_found";
    case ERR_CAPACITY:
        return "wakes_refused";
    case ERR_CONFLICT:
    case ERR_IN_PROGRESS:
        return "concurrent_wake_failed";
    case ERR_INTERNAL:
        return "internal_error";
    default:
        return "start_failed";
    }
}

void legacy_wake(struct req *r)
{
    struct err err;
    const struct sandbox *s = NULL;
    int64_t begun_ms = clock_mono_ms();
    if (core_start(req_core(r), req_caller(r), req_id(r), &s, &err) < 0) {
        bool missing = err.code == ERR_NOT_FOUND;
        (void)str_copy(err.msg, sizeof(err.msg), wake_reason(err.code));
        req_fail_as(r, missing ? 404 : 503, &err);
        return;
    }
    struct buf b = BUF_INIT(1 * KIB);
    struct json_out o = JSON_OUT(&b);
    json_open(&o, NULL);
    json_put(&o, "id", s->id.text);
    json_put(&o, "status", sandbox_state_legacy(s->state));
    json_put_int(&o, "wake_duration_ms", clock_mono_ms() - begun_ms);
    json_close(&o);
    core_unref(s);
    req_reply_json(r, 200, &b);
}
