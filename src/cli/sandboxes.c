/* Sandboxes: create, list, show, start, stop, pause, remove. */
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/limits.h"
#include "base/str.h"
#include "run.h"
#include "text.h"
#include "wire/url.h"

/* --- create --- */

/* "name": {NAME: VALUE, …} of an option that may be repeated; *extra is a pair besides, or NULL. */
static int put_pairs(struct json_out *o, const struct args *a, const char *option, const char *key,
                     const char *extra, struct err *err)
{
    size_t at = 0;
    const char *text;
    if (!args_flag(a, option) && !extra)
        return 0;
    json_open(o, key);
    if (extra)
        json_put(o, "name", extra);
    while ((text = args_each(a, option, &at))) {
        AUTO(free) char *name = NULL;
        const char *value;
        if (args_pair(option, text, &name, &value, err) < 0)
            return -1;
        json_put(o, name, value);
    }
    json_close(o);
    return 0;
}

static int put_ports(struct json_out *o, const struct args *a, struct err *err)
{
    size_t at = 0;
    const char *text;
    if (!args_flag(a, "port"))
        return 0;
    json_list(o, "ports");
    while ((text = args_each(a, "port", &at))) {
        int64_t port;
        if (args_number("port", text, 1, 65535, &port, err) < 0)
            return -1;
        json_put_int(o, NULL, port);
    }
    json_unlist(o);
    return 0;
}

static int put_limits(struct json_out *o, const struct args *a, struct err *err)
{
    static const char *const numbers[][2] = { { "memory", "memory_mib" },
                                              { "pids", "pids" },
                                              { "disk", "disk_mib" } };
    const char *cpus = args_value(a, "cpus");
    json_open(o, "limits");
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        const char *text = args_value(a, numbers[i][0]);
        int64_t n;
        if (!text)
            continue;
        if (args_number(numbers[i][0], text, 1, UINT32_MAX, &n, err) < 0)
            return -1;
        json_put_int(o, numbers[i][1], n);
    }
    if (cpus) {
        char *end;
        double cores = strtod(cpus, &end);
        if (end == cpus || *end || !(cores > 0 && cores <= 1024))
            return err_set(err, ERR_INVALID, "--cpus: %s is no number of cores", cpus);
        json_put_real(o, "cpus", cores);
    }
    json_close(o);
    return 0;
}

static int put_seconds(struct json_out *o, const struct args *a, const char *option,
                       const char *key, struct err *err)
{
    int64_t ms;
    const char *text = args_value(a, option);
    if (!text)
        return 0;
    if (args_duration(option, text, &ms, err) < 0)
        return -1;
    json_put_int(o, key, (ms + 999) / 1000);
    return 0;
}

static int create_body(const struct args *a, struct buf *b, struct err *err)
{
    static const char *const texts[][2] = { { "id", "id" },
                                            { "image", "image" },
                                            { "visibility", "visibility" },
                                            { "idle-policy", "idle_policy" } };
    struct json_out o = JSON_OUT(b);
    json_open(&o, NULL);
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        if (args_flag(a, texts[i][0]))
            json_put(&o, texts[i][1], args_value(a, texts[i][0]));
    if (args_flag(a, "user") || args_flag(a, "project")) {
        json_open(&o, "external");
        json_put(&o, "user_id", args_value(a, "user"));
        json_put(&o, "project_id", args_value(a, "project"));
        json_close(&o);
    }
    if (put_pairs(&o, a, "env", "env", NULL, err) < 0 ||
        put_pairs(&o, a, "metadata", "metadata", args_value(a, "name"), err) < 0 ||
        put_ports(&o, a, err) < 0 || put_limits(&o, a, err) < 0 ||
        put_seconds(&o, a, "idle-timeout", "idle_timeout_s", err) < 0 ||
        put_seconds(&o, a, "ttl", "ttl_s", err) < 0)
        return -1;
    json_close(&o);
    return buf_done(b, err);
}

/* A name is metadata, so several may have it; it just does not tell them apart then. */
static void look_for_twins(struct cli *c, const char *name)
{
    AUTO(buf) struct buf path = BUF_INIT(4 * KIB);
    AUTO(json) struct json *page = NULL;
    struct err ignored;
    buf_adds(&path, "/v1/sandboxes?limit=2");
    path_query(&path, "metadata.name", name);
    struct request rq = { .method = "GET", .path = buf_str(&path) };
    if (http_json(c->http, &rq, &page, &ignored) == 0 &&
        json_count(json_key(page, "sandboxes")) > 1)
        note("another sandbox is named %s, too: only ids tell them apart", name);
}

int run_create(struct cli *c)
{
    struct err err;
    AUTO(buf) struct buf body = BUF_INIT(HTTP_BODY_JSON_MAX);
    AUTO(json) struct json *s = NULL;
    if (create_body(&c->args, &body, &err) < 0)
        return wrong_usage(c, &err);
    struct request rq = { .method = "POST",
                          .path = "/v1/sandboxes",
                          .body = buf_str(&body),
                          .body_len = body.len,
                          .what = "creating the sandbox" };
    if (c->json)
        return put_reply(c, &rq, &err) < 0 ? fail(c, &err) : 0;
    if (http_json(c->http, &rq, &s, &err) < 0)
        return fail(c, &err);
    const char *id = json_text(json_key(s, "id"));
    const char *url = json_text(json_at(s, "preview.url"));
    (void)printf("%s\n", id ? id : "");
    if (url)
        note("preview: %s", url);
    if (args_flag(&c->args, "name"))
        look_for_twins(c, args_value(&c->args, "name"));
    return 0;
}

/* --- list --- */

static int list_path(const struct args *a, struct buf *path, const char *cursor, struct err *err)
{
    const char *metadata = args_value(a, "metadata");
    static const char *const filters[][2] = { { "status", "status" },
                                              { "user", "external_user_id" },
                                              { "project", "external_project_id" } };
    buf_adds(path, "/v1/sandboxes?limit=1000");
    for (size_t i = 0; i < sizeof filters / sizeof filters[0]; i++)
        if (args_flag(a, filters[i][0]))
            path_query(path, filters[i][1], args_value(a, filters[i][0]));
    if (metadata) {
        AUTO(free) char *name = NULL;
        const char *value;
        AUTO(buf) struct buf key = BUF_INIT(2 * KIB);
        if (args_pair("metadata", metadata, &name, &value, err) < 0)
            return -1;
        buf_adds(&key, "metadata.");
        url_encode(&key, name);
        path_query(path, buf_str(&key), value);
    }
    if (cursor)
        path_query(path, "cursor", cursor);
    return buf_done(path, err);
}

static void add_row(struct table *t, const struct json *s, int64_t now_ms)
{
    char age[TEXT_SIZE];
    const char *name = json_text(json_at(s, "metadata.name"));
    table_add(t, json_text(json_key(s, "id")));
    table_add(t, name ? name : json_text(json_at(s, "external.project_id")));
    table_add(t, json_text(json_key(s, "status")));
    table_add(t, text_ago(json_text(json_key(s, "created_at")), now_ms, age));
    table_add(t, text_ago(json_text(json_key(s, "last_active_at")), now_ms, age));
    table_add(t, json_text(json_at(s, "preview.url")));
}

/* Each page as soon as it is there, so that a long list costs no memory. */
int run_ls(struct cli *c)
{
    struct err err;
    bool first = true;
    AUTO(buf) struct buf cursor = BUF_INIT(1 * KIB);
    AUTO(table)
    struct table t = { .heads = { "ID", "NAME", "STATUS", "AGE", "IDLE", "PREVIEW" },
                       .columns = 6 };
    for (bool more = true; more;) {
        AUTO(buf) struct buf path = BUF_INIT(64 * KIB);
        AUTO(json) struct json *page = NULL;
        if (list_path(&c->args, &path, cursor.len ? buf_str(&cursor) : NULL, &err) < 0)
            return wrong_usage(c, &err);
        struct request rq = { .method = "GET", .path = buf_str(&path) };
        if (http_json(c->http, &rq, &page, &err) < 0)
            return fail(c, &err);
        const struct json *list = json_key(page, "sandboxes");
        for (size_t i = 0; i < json_count(list); i++) {
            const struct json *s = json_item(list, i);
            AUTO(free) char *text = c->json ? json_dump(s) : NULL;
            if (text)
                (void)printf("%s%s", first ? "[" : ",\n ", text);
            else if (args_flag(&c->args, "quiet"))
                (void)printf("%s\n", json_text(json_key(s, "id")));
            else
                add_row(&t, s, clock_wall_ms());
            first = false;
        }
        const char *next = json_text(json_key(page, "next_cursor"));
        buf_reset(&cursor);
        buf_adds(&cursor, next ? next : "");
        more = next != NULL;
    }
    if (c->json)
        (void)printf("%s]\n", first ? "[" : "");
    else if (!args_flag(&c->args, "quiet"))
        table_print(&t, stdout, text_columns());
    return 0;
}

/* --- show --- */

static void line(const char *name, const char *text)
{
    AUTO(buf) struct buf b = BUF_INIT(64 * KIB);
    if (!text || !*text)
        return;
    (void)text_show(&b, text, strlen(text), 0);
    (void)printf("%-12s %s\n", name, buf_str(&b));
}

static void lines_of(const char *name, const struct json *object, const char *const *keys)
{
    AUTO(buf) struct buf b = BUF_INIT(4 * KIB);
    for (; *keys; keys++) {
        AUTO(free) char *text = json_key(object, *keys) ? json_dump(json_key(object, *keys)) : NULL;
        if (text && !str_eq(text, "null"))
            buf_addf(&b, "%s%s %s", b.len ? ", " : "", *keys, text);
    }
    line(name, buf_str(&b));
}

static void pair_line(void *ctx, const char *key, const struct json *value)
{
    AUTO(buf) struct buf b = BUF_INIT(64 * KIB);
    buf_addf(&b, "%s=%s", key, json_text(value) ? json_text(value) : "");
    line(ctx, buf_str(&b));
}

static void show_ports(const struct json *s)
{
    const struct json *ports = json_key(s, "ports");
    for (size_t i = 0; i < json_count(ports); i++) {
        const struct json *p = json_item(ports, i);
        AUTO(buf) struct buf b = BUF_INIT(4 * KIB);
        bool listening = json_yes(json_key(p, "listening"));
        buf_addf(&b, "%s%s%s", json_text(json_key(p, "url")),
                 listening ? "" : "  (nothing listens)",
                 json_yes(json_key(p, "declared")) ? "" : "  (not declared)");
        line("preview", buf_str(&b));
    }
}

static void show(const struct json *s, const struct json *why)
{
    static const char *const limits[] = { "memory_mib", "cpus", "pids", "disk_mib", NULL };
    static const char *const idle[] = { "idle_timeout_s", "stop_timeout_s", "ttl_s", NULL };
    static const char *const started[] = { "total_ms", "engine_ms", "services_ms", NULL };
    static const char *const texts[][2] = {
        { "image", "image" },
        { "visibility", "visibility" },
        { "idle policy", "idle_policy" },
        { "created", "created_at" },
        { "last active", "last_active_at" },
        { "stopped", "stopped_at" },
        { "kept awake", "keepalive_until" },
    };
    char text[2 * TEXT_SIZE + 8], used[TEXT_SIZE], limit[TEXT_SIZE];
    int64_t n = 0, m = 0;
    line("id", json_text(json_key(s, "id")));
    line("status", json_text(json_key(s, "status")));
    line("because", json_text(json_key(why, "awake_because")));
    line("because", json_text(json_key(why, "asleep_because")));
    if (json_int(json_key(why, "sleeps_in_ms"), &n))
        line("sleeps in", text_time(n, used));
    line("error", json_text(json_at(s, "error.message")));
    show_ports(s);
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        line(texts[i][0], json_text(json_key(s, texts[i][1])));
    lines_of("limits", json_key(s, "limits"), limits);
    lines_of("idle", s, idle);
    lines_of("last start", json_key(why, "last_start"), started);
    line("last death", json_text(json_at(why, "last_death.at")));
    line("of", json_text(json_at(why, "last_death.reason")));
    if (json_int(json_at(s, "disk.used"), &n) && json_int(json_at(s, "disk.limit"), &m)) {
        (void)snprintf(text, sizeof text, "%s of %s", text_size(n, used), text_size(m, limit));
        line("disk", text);
    }
    line("user", json_text(json_at(s, "external.user_id")));
    line("project", json_text(json_at(s, "external.project_id")));
    json_each(json_key(s, "metadata"), pair_line, (char[]){ "metadata" });
    for (size_t i = 0; i < json_count(json_key(s, "env")); i++)
        line("env", json_text(json_item(json_key(s, "env"), i)));
}

int run_show(struct cli *c)
{
    struct err err;
    char id[BOX_ID];
    AUTO(json) struct json *s = NULL;
    AUTO(json) struct json *why = NULL;
    AUTO(buf) struct buf path = BUF_INIT(1 * KIB);
    AUTO(buf) struct buf why_path = BUF_INIT(1 * KIB);
    if (box_find(c, c->args.words[0], id, &err) < 0)
        return fail(c, &err);
    path_box(&path, id, "");
    path_box(&why_path, id, "/why");
    struct request rq = { .method = "GET", .path = buf_str(&path) };
    struct request why_rq = { .method = "GET", .path = buf_str(&why_path) };
    if (c->json)
        return put_reply(c, &rq, &err) < 0 ? fail(c, &err) : 0;
    if (http_json(c->http, &rq, &s, &err) < 0 || http_json(c->http, &why_rq, &why, &err) < 0)
        return fail(c, &err);
    show(s, why);
    return 0;
}

/* --- one after the other --- */

struct act {
    const char *method, *before, *after; /* path: before, id, after */
    const char *what, *done;             /* for progress and for -o json */
};

static int act_on(struct cli *c, const struct act *act, const char *word, struct err *err)
{
    char id[BOX_ID];
    AUTO(buf) struct buf path = BUF_INIT(1 * KIB);
    AUTO(buf) struct buf reply = BUF_INIT(REPLY_MAX);
    if (box_find(c, word, id, err) < 0)
        return -1;
    buf_addf(&path, "%s%s%s", act->before, id, act->after);
    struct request rq = { .method = act->method, .path = buf_str(&path), .what = act->what };
    if (http_call(c->http, &rq, &reply, err) < 0)
        return err_wrap(err, "%s", word);
    if (!c->json)
        (void)printf("%s\n", id);
    else if (reply.len && str_eq(act->done, ""))
        (void)fwrite(buf_str(&reply), 1, reply.len, stdout); /* looked at in the end */
    else
        (void)printf("{\"id\":\"%s\",\"%s\":true}\n", id, act->done);
    return 0;
}

/* All of them, whatever becomes of one. */
static int act_on_all(struct cli *c, const struct act *act)
{
    int status = 0;
    for (size_t i = 0; i < c->args.count; i++) {
        struct err err;
        if (act_on(c, act, c->args.words[i], &err) < 0)
            status = fail(c, &err);
    }
    return status;
}

#define V1 "/v1/sandboxes/"

int run_start(struct cli *c)
{
    return act_on_all(c, &(struct act){ "POST", V1, "/start", "starting", "" });
}

int run_stop(struct cli *c)
{
    return act_on_all(c, &(struct act){ "POST", V1, "/stop", "stopping", "" });
}

int run_pause(struct cli *c)
{
    return act_on_all(c, &(struct act){ "POST", V1, "/pause", "freezing", "" });
}

/* Only the route without a version keeps the workspace. */
int run_rm(struct cli *c)
{
    return act_on_all(c, &(struct act){ "DELETE", "/sandbox/", "", "removing", "removed" });
}

int run_purge(struct cli *c)
{
    return act_on_all(c, &(struct act){ "DELETE", V1, "", "removing", "purged" });
}
