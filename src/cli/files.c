/* Files of a workspace: list, print, change, find, watch. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/limits.h"
#include "base/str.h"
#include "events.h"
#include "run.h"
#include "text.h"
#include "wire/url.h"

#define PATH_MAX_ENCODED (32 * KIB)

/* Finds the place and begins a path of its sandbox: tail, ?path=. */
static int path_at(struct cli *c, const char *word, const char *tail, struct buf *path,
                   struct place *ret, struct err *err)
{
    if (place_find(c, word, ret, err) < 0)
        return -1;
    path_box(path, ret->id, tail);
    path_query(path, "path", *ret->path ? ret->path : ".");
    return 0;
}

static void query_flag(const struct cli *c, struct buf *path, const char *option, const char *name)
{
    if (args_flag(&c->args, option))
        path_query(path, name, "true");
}

/* --- ls, stat, cat --- */

static void entry_row(struct table *t, const struct json *e, int64_t now_ms)
{
    char size[TEXT_SIZE], age[TEXT_SIZE];
    int64_t bytes;
    AUTO(buf) struct buf name = BUF_INIT(64 * KIB);
    const char *type = json_text(json_key(e, "type")), *path = json_text(json_key(e, "path"));
    buf_addf(&name, "%s%s", path ? path : "", str_eq(type, "dir") ? "/" : "");
    table_add(t, json_text(json_key(e, "mode")));
    table_add(t, json_int(json_key(e, "size"), &bytes) ? text_size(bytes, size) : type);
    table_add(t, text_ago(json_text(json_key(e, "mtime")), now_ms, age));
    table_add(t, buf_str(&name));
}

int run_files_ls(struct cli *c)
{
    struct err err;
    struct place p;
    AUTO(json) struct json *j = NULL;
    AUTO(buf) struct buf path = BUF_INIT(PATH_MAX_ENCODED);
    AUTO(table) struct table t = { .heads = { "MODE", "SIZE", "AGE", "PATH" }, .columns = 4 };
    if (path_at(c, c->args.words[0], "/files", &path, &p, &err) < 0)
        return fail(c, &err);
    query_flag(c, &path, "recursive", "recursive");
    query_flag(c, &path, "all", "all");
    struct request rq = { .method = "GET", .path = buf_str(&path), .what = "listing" };
    if (c->json)
        return put_reply(c, &rq, &err) < 0 ? fail(c, &err) : 0;
    if (http_json(c->http, &rq, &j, &err) < 0)
        return fail(c, &err);
    const struct json *list = json_key(j, "entries");
    for (size_t i = 0; i < json_count(list); i++)
        entry_row(&t, json_item(list, i), clock_wall_ms());
    table_print(&t, stdout, 0);
    if (json_yes(json_key(j, "truncated")))
        note("there is more than one listing can hold");
    return 0;
}

static void put_field(void *ctx, const char *key, const struct json *value)
{
    AUTO(free) char *text = json_dump(value);
    AUTO(buf) struct buf b = BUF_INIT(64 * KIB);
    const char *shown = json_text(value) ? json_text(value) : text;
    (void)ctx;
    (void)text_show(&b, shown, strlen(shown), 0);
    (void)printf("%-12s %s\n", key, buf_str(&b));
}

/* Of a change the answer is of no interest to people. */
static int do_change(struct cli *c, const struct request *rq, bool show)
{
    struct err err;
    AUTO(json) struct json *j = NULL;
    if (c->json)
        return put_reply(c, rq, &err) < 0 ? fail(c, &err) : 0;
    if (http_json(c->http, rq, &j, &err) < 0)
        return fail(c, &err);
    if (show)
        json_each(j, put_field, NULL);
    return 0;
}

int run_files_stat(struct cli *c)
{
    struct err err;
    struct place p;
    AUTO(buf) struct buf path = BUF_INIT(PATH_MAX_ENCODED);
    if (path_at(c, c->args.words[0], "/files/stat", &path, &p, &err) < 0)
        return fail(c, &err);
    return do_change(c, &(struct request){ .method = "GET", .path = buf_str(&path) }, true);
}

int run_files_cat(struct cli *c)
{
    struct err err;
    struct place p;
    AUTO(reply) struct reply *r = NULL;
    AUTO(buf) struct buf path = BUF_INIT(PATH_MAX_ENCODED);
    const char *data;
    size_t len;
    int rc;
    if (path_at(c, c->args.words[0], "/files/content", &path, &p, &err) < 0)
        return fail(c, &err);
    struct request rq = { .method = "GET", .path = buf_str(&path), .accept = "*/*" };
    if (reply_open(c->http, &rq, &r, &err) < 0)
        return fail(c, &err);
    while ((rc = reply_read(r, &data, &len, &err)) > 0)
        if (fd_write_all(STDOUT_FILENO, data, len) < 0) {
            (void)err_sys(&err, errno, "cannot write to standard output");
            return fail(c, &err);
        }
    return rc < 0 ? fail(c, &err) : 0;
}

/* --- changes --- */

int run_files_rm(struct cli *c)
{
    int status = 0;
    for (size_t i = 0; i < c->args.count; i++) {
        struct err err;
        struct place p;
        AUTO(buf) struct buf path = BUF_INIT(PATH_MAX_ENCODED);
        AUTO(buf) struct buf reply = BUF_INIT(REPLY_MAX);
        const char *word = c->args.words[i];
        if (path_at(c, word, "/files", &path, &p, &err) < 0) {
            status = fail(c, &err);
            continue;
        }
        query_flag(c, &path, "recursive", "recursive");
        struct request rq = { .method = "DELETE", .path = buf_str(&path), .what = "removing" };
        if (http_call(c->http, &rq, &reply, &err) < 0) {
            (void)err_wrap(&err, "%s", word);
            status = fail(c, &err);
        }
    }
    return status;
}

static int pair(struct cli *c, const char *tail, const char *what)
{
    struct err err;
    struct place p;
    AUTO(buf) struct buf path = BUF_INIT(1 * KIB);
    AUTO(buf) struct buf body = BUF_INIT(HTTP_BODY_JSON_MAX);
    struct json_out o = JSON_OUT(&body);
    const char *to = c->args.words[1];
    if (place_find(c, c->args.words[0], &p, &err) < 0)
        return fail(c, &err);
    if (str_starts(to, p.box) && to[strlen(p.box)] == ':') /* said once more: fine */
        to += strlen(p.box) + 1;
    json_open(&o, NULL);
    json_put(&o, "from", p.path);
    json_put(&o, "to", to);
    json_put_bool(&o, "overwrite", args_flag(&c->args, "force"));
    json_close(&o);
    path_box(&path, p.id, tail);
    return do_change(c,
                     &(struct request){ .method = "POST",
                                        .path = buf_str(&path),
                                        .body = buf_str(&body),
                                        .body_len = body.len,
                                        .what = what },
                     false);
}

int run_files_mv(struct cli *c)
{
    return pair(c, "/files/move", "moving");
}

int run_files_cp(struct cli *c)
{
    return pair(c, "/files/copy", "copying");
}

/* {"path":…} and a mode, when there is one. */
static int one(struct cli *c, const char *word, const char *mode, const char *tail)
{
    struct err err;
    struct place p;
    AUTO(buf) struct buf path = BUF_INIT(1 * KIB);
    AUTO(buf) struct buf body = BUF_INIT(HTTP_BODY_JSON_MAX);
    struct json_out o = JSON_OUT(&body);
    if (place_find(c, word, &p, &err) < 0)
        return fail(c, &err);
    json_open(&o, NULL);
    json_put(&o, "path", p.path);
    if (mode)
        json_put(&o, "mode", mode);
    json_close(&o);
    path_box(&path, p.id, tail);
    return do_change(c,
                     &(struct request){ .method = "POST",
                                        .path = buf_str(&path),
                                        .body = buf_str(&body),
                                        .body_len = body.len },
                     false);
}

int run_files_mkdir(struct cli *c)
{
    return one(c, c->args.words[0], NULL, "/files/mkdir");
}

int run_files_chmod(struct cli *c)
{
    return one(c, c->args.words[1], c->args.words[0], "/files/chmod");
}

/* --- find, grep, watch --- */

struct told {
    struct cli *c;
    bool any;
};

static int put_match(void *ctx, const struct event *e, struct err *err)
{
    struct told *t = ctx;
    AUTO(buf) struct buf b = BUF_INIT(1 * MIB);
    int64_t line;
    bool match = str_eq(e->type, "match");
    const char *path = json_text(json_key(e->json, "path"));
    const char *text = json_text(json_key(e->json, "text"));
    t->any = t->any || match;
    if (t->c->json) {
        (void)printf("%s\n", e->line);
        return 0;
    }
    if (match && path)
        (void)text_show(&b, path, strlen(path), 0);
    if (match && text && json_int(json_key(e->json, "line"), &line)) {
        buf_addf(&b, ":%lld:", (long long)line);
        (void)text_show(&b, text, strcspn(text, "\r\n"), 0);
    }
    if (match)
        (void)printf("%s\n", buf_str(&b));
    if (str_eq(e->type, "end") && json_yes(json_key(e->json, "truncated")))
        note("there is more: %s", json_text(json_key(e->json, "reason")));
    (void)err;
    return 0;
}

static int search(struct cli *c, const char *word, const char *name, const char *text,
                  bool *ret_any)
{
    struct err err;
    struct place p;
    struct told t = { .c = c };
    AUTO(buf) struct buf path = BUF_INIT(PATH_MAX_ENCODED);
    if (path_at(c, word, "/files/search", &path, &p, &err) < 0)
        return fail(c, &err);
    if (name)
        path_query(&path, "name", name);
    if (text)
        path_query(&path, "q", text);
    if (args_flag(&c->args, "ignore-case"))
        path_query(&path, "case", "false");
    if (args_flag(&c->args, "limit"))
        path_query(&path, "limit", args_value(&c->args, "limit"));
    query_flag(c, &path, "regex", "regex");
    query_flag(c, &path, "all", "all");
    struct request rq = { .method = "GET", .path = buf_str(&path), .what = "searching" };
    if (events_run(c->http, &rq, put_match, &t, &err) < 0)
        return fail(c, &err);
    *ret_any = t.any;
    return 0;
}

int run_files_find(struct cli *c)
{
    bool any;
    return search(c, c->args.words[0], c->args.words[1], NULL, &any);
}

int run_files_grep(struct cli *c)
{
    bool any = false;
    int status = search(c, c->args.words[1], args_value(&c->args, "name"), c->args.words[0], &any);
    return status != 0 ? STATUS_GREP_FAULT : any ? 0 : STATUS_NO_MATCH;
}

static int put_change(void *ctx, const struct event *e, struct err *err)
{
    const struct cli *c = ctx;
    AUTO(buf) struct buf b = BUF_INIT(1 * MIB);
    const char *path = json_text(json_key(e->json, "path"));
    const char *from = json_text(json_key(e->json, "from"));
    if (c->json) {
        (void)printf("%s\n", e->line);
    } else if (path) {
        if (from)
            (void)text_show(&b, from, strlen(from), 0);
        buf_adds(&b, from ? " -> " : "");
        (void)text_show(&b, path, strlen(path), 0);
        (void)printf("%-9s %s\n", e->type, buf_str(&b));
    } else {
        note("%s", str_eq(e->type, "ready") ? "watching" : e->type);
    }
    return fflush(stdout) == 0 ? 0 : err_sys(err, errno, "cannot write to standard output");
}

int run_files_watch(struct cli *c)
{
    struct err err;
    struct place p;
    AUTO(buf) struct buf path = BUF_INIT(PATH_MAX_ENCODED);
    if (path_at(c, c->args.words[0], "/files/watch", &path, &p, &err) < 0)
        return fail(c, &err);
    query_flag(c, &path, "all", "all");
    struct request rq = { .method = "GET", .path = buf_str(&path) };
    return events_run(c->http, &rq, put_change, c, &err) < 0 ? fail(c, &err) : 0;
}
