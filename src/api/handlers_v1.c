/* Sandboxes on /v1. */
#include <inttypes.h>

#include "base/cleanup.h"
#include "base/limits.h"
#include "base/str.h"
#include "create.h"
#include "handlers.h"
#include "render.h"
#include "shapes.h"

#define REPLY_MAX (HTTP_BODY_JSON_MAX) /* one sandbox: its bodies were below that */
#define PAGE_MAX (64 * MIB)            /* PAGE_LIMIT_MAX of them */

static void put_sandbox(struct json_out *o, struct req *r, const struct sandbox *s)
{
    render_sandbox(o, NULL, req_core(r), req_config(r), s);
}

/* Takes the reference. */
static void reply_sandbox(struct req *r, const struct sandbox *s)
{
    struct buf b = BUF_INIT(REPLY_MAX);
    struct json_out o = JSON_OUT(&b);
    put_sandbox(&o, r, s);
    core_unref(s);
    req_reply_json(r, 200, &b);
}

void v1_create(struct req *r)
{
    create_run(r, true, put_sandbox);
}

void v1_get(struct req *r)
{
    struct err err;
    const struct sandbox *s = NULL;
    if (core_get(req_core(r), req_caller(r), req_id(r), &s, &err) < 0)
        req_fail(r, &err);
    else
        reply_sandbox(r, s);
}

void v1_start(struct req *r)
{
    struct err err;
    const struct sandbox *s = NULL;
    if (core_start(req_core(r), req_caller(r), req_id(r), &s, &err) < 0)
        req_fail(r, &err);
    else
        reply_sandbox(r, s);
}

void v1_stop(struct req *r)
{
    struct err err;
    const struct sandbox *s = NULL;
    if (core_stop(req_core(r), req_caller(r), req_id(r), &s, &err) < 0)
        req_fail(r, &err);
    else
        reply_sandbox(r, s);
}

void v1_pause(struct req *r)
{
    struct err err;
    const struct sandbox *s = NULL;
    if (core_pause(req_core(r), req_caller(r), req_id(r), &s, &err) < 0)
        req_fail(r, &err);
    else
        reply_sandbox(r, s);
}

void v1_why(struct req *r)
{
    struct err err;
    struct core_why w;
    if (core_why(req_core(r), req_caller(r), req_id(r), &w, &err) < 0) {
        req_fail(r, &err);
        return;
    }
    struct buf b = BUF_INIT(REPLY_MAX);
    struct json_out o = JSON_OUT(&b);
    json_open(&o, NULL);
    json_put(&o, "status", w.state);
    json_put(&o, "awake_because", w.awake_because[0] ? w.awake_because : NULL);
    json_put(&o, "asleep_because", w.asleep_because[0] ? w.asleep_because : NULL);
    json_put_int(&o, "idle_ms", w.idle_ms);
    if (w.sleeps_in_ms >= 0)
        json_put_int(&o, "sleeps_in_ms", w.sleeps_in_ms);
    else
        json_put_null(&o, "sleeps_in_ms");
    json_put(&o, "waits_for", w.waits_for[0] ? w.waits_for : NULL);
    json_put_int(&o, "execs", w.execs);
    json_put_int(&o, "uses", w.uses);
    json_put_int(&o, "cpu_milli", w.cpu_milli);
    if (w.start.total) {
        json_open(&o, "last_start");
        json_put_int(&o, "total_ms", w.start.total);
        json_put_int(&o, "queue_ms", w.start.queue);
        json_put_int(&o, "workspace_ms", w.start.workspace);
        json_put_int(&o, "engine_ms", w.start.engine);
        json_put_int(&o, "agent_ms", w.start.agent);
        json_put_int(&o, "services_ms", w.start.services);
        json_close(&o);
    } else {
        json_put_null(&o, "last_start"); /* this daemon has seen none */
    }
    json_put_int(&o, "deaths", w.deaths);
    if (w.died_at_ms) {
        json_open(&o, "last_death");
        json_put_time(&o, "at", w.died_at_ms);
        json_put(&o, "reason", w.died_why);
        json_close(&o);
    } else {
        json_put_null(&o, "last_death"); /* as last_start */
    }
    json_close(&o);
    req_reply_json(r, 200, &b);
}

void v1_delete(struct req *r)
{
    struct err err;
    uint64_t freed = 0;
    if (core_purge(req_core(r), req_caller(r), req_id(r), &freed, &err) < 0)
        req_fail(r, &err);
    else
        req_reply_empty(r, 204);
}

void v1_keepalive(struct req *r)
{
    struct err err;
    int64_t until_ms = 0;
    const struct keepalive_body *k = req_object(r);
    if (core_keepalive(req_core(r), req_caller(r), req_id(r), k->until_seen ? k->until * 1000 : 0,
                       &until_ms, &err) < 0)
        req_fail(r, &err);
    else
        v1_get(r);
}

/* --- the list --- */

/* A cursor is the key of the last row shown: "<created_at_ms>.<id>". Clients need not know. */
static int cursor_parse(const char *text, struct core_filter *f, struct err *err)
{
    static const char rule[] = "cursor: must be the next_cursor of an earlier page";
    char ms_text[24];
    uint64_t ms = 0;
    const char *dot = strchr(text, '.');
    struct err bad;
    if (!dot || (size_t)(dot - text) >= sizeof(ms_text))
        return err_set(err, ERR_INVALID, "%s", rule);
    memcpy(ms_text, text, (size_t)(dot - text));
    ms_text[dot - text] = '\0';
    if (!str_u64(ms_text, &ms) || ms == 0 || ms > INT64_MAX ||
        sandbox_id_parse(dot + 1, &f->before_id, &bad) < 0)
        return err_set(err, ERR_INVALID, "%s", rule);
    f->before_ms = (int64_t)ms;
    return 0;
}

static int limit_parse(const char *text, struct core_filter *f, struct err *err)
{
    uint64_t n = 0;
    if (!str_u64(text, &n) || n < 1 || n > PAGE_LIMIT_MAX)
        return err_set(err, ERR_INVALID, "limit: must be a number from 1 to %d", PAGE_LIMIT_MAX);
    f->limit = (uint32_t)n;
    return 0;
}

static int status_parse(const char *text, struct core_filter *f, struct err *err)
{
    enum sandbox_state state;
    if (!sandbox_state_parse(text, &state))
        return err_set(err, ERR_INVALID, "status: not one of the states of a sandbox");
    f->state = (int)state;
    return 0;
}

static int parameter(const char *name, const char *value, struct core_filter *f, struct err *err)
{
    static const char metadata[] = "metadata.";
    if (str_eq(name, "limit"))
        return limit_parse(value, f, err);
    if (str_eq(name, "cursor"))
        return cursor_parse(value, f, err);
    if (str_eq(name, "status"))
        return status_parse(value, f, err);
    if (str_eq(name, "external_user_id"))
        f->external_user = value;
    else if (str_eq(name, "external_project_id"))
        f->external_project = value;
    else if (str_starts(name, metadata) && name[sizeof(metadata) - 1] && f->meta_name)
        return err_set(err, ERR_INVALID, "metadata: one pair at a time");
    else if (str_starts(name, metadata) && name[sizeof(metadata) - 1]) {
        f->meta_name = name + sizeof(metadata) - 1;
        f->meta_value = value;
    } else {
        return err_set(err, ERR_INVALID, "metadata: the name of the pair is missing");
    }
    return 0;
}

static void put_page(struct json_out *o, struct req *r, const struct sandbox **list, size_t n,
                     bool more)
{
    json_open(o, NULL);
    json_list(o, "sandboxes");
    for (size_t i = 0; i < n; i++)
        put_sandbox(o, r, list[i]);
    json_unlist(o);
    if (more && n > 0) {
        char cursor[64];
        (void)snprintf(cursor, sizeof(cursor), "%" PRId64 ".%s", list[n - 1]->created_at_ms,
                       list[n - 1]->id.text);
        json_put(o, "next_cursor", cursor);
    } else {
        json_put_null(o, "next_cursor");
    }
    json_close(o);
}

void v1_list(struct req *r)
{
    struct err err;
    const struct sandbox **list = NULL;
    size_t n = 0;
    bool more = false;
    struct core_filter f = { .state = -1, .limit = PAGE_LIMIT_DEFAULT };
    const struct query *q = req_query_all(r);
    for (size_t i = 0; i < q->count; i++)
        if (parameter(q->names[i], q->values[i], &f, &err) < 0) {
            req_fail(r, &err);
            return;
        }
    if (core_list(req_core(r), req_caller(r), &f, &list, &n, &more, &err) < 0) {
        req_fail(r, &err);
        return;
    }
    struct buf b = BUF_INIT(PAGE_MAX);
    struct json_out o = JSON_OUT(&b);
    put_page(&o, r, list, n, more);
    for (size_t i = 0; i < n; i++)
        core_unref(list[i]);
    free(list);
    req_reply_json(r, 200, &b);
}
