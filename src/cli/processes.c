/* Processes and services: list, logs, signal, wait. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/limits.h"
#include "base/str.h"
#include "events.h"
#include "model/id.h"
#include "remote.h"
#include "text.h"
#include "wire/url.h"

/* --- lists --- */

static void quoted(struct buf *b, const char *word)
{
    buf_addc(b, '\'');
    for (const char *p = word; *p; p++) {
        if (*p == '\'')
            buf_adds(b, "'\\'");
        buf_addc(b, *p);
    }
    buf_addc(b, '\'');
}

/* ["sh","-c","a b"] → sh -c 'a b' */
static void command_text(const struct json *cmd, struct buf *b)
{
    if (json_text(cmd))
        buf_adds(b, json_text(cmd));
    for (size_t i = 0; i < json_count(cmd); i++) {
        const char *word = json_text(json_item(cmd, i));
        bool plain = word && *word && !word[strcspn(word, " \t\n'\"\\$;&|<>()*?#`")];
        buf_adds(b, i ? " " : "");
        if (plain)
            buf_adds(b, word);
        else
            quoted(b, word ? word : "");
    }
}

static void process_row(struct table *t, const struct json *p, int64_t now_ms)
{
    char age[TEXT_SIZE], pid[24] = "", status[64];
    int64_t n = 0;
    AUTO(buf) struct buf cmd = BUF_INIT(REPLY_MAX);
    const char *state = json_text(json_key(p, "status"));
    bool exited = str_eq(state, "exited");
    const char *sig = json_text(json_key(p, "signal"));
    if (json_int(json_key(p, "pid"), &n))
        (void)snprintf(pid, sizeof pid, "%lld", (long long)n);
    (void)snprintf(status, sizeof status, "%s", state ? state : "");
    if (exited && sig)
        (void)snprintf(status, sizeof status, "%s (%s)", state, sig);
    else if (exited && json_int(json_key(p, "exit_code"), &n))
        (void)snprintf(status, sizeof status, "%s (%lld)", state, (long long)n);
    command_text(json_key(p, "cmd"), &cmd);
    table_add(t, json_text(json_key(p, "id")));
    table_add(t, pid);
    table_add(t, status);
    table_add(t, text_ago(json_text(json_key(p, "started_at")), now_ms, age));
    table_add(t, json_text(json_key(p, "service")));
    table_add(t, buf_str(&cmd));
}

static int list_of(struct cli *c, const char *tail, const char *key, struct json **ret,
                   const struct json **ret_list, struct err *err)
{
    char box[BOX_ID];
    AUTO(buf) struct buf path = BUF_INIT(1 * KIB);
    if (box_find(c, c->args.words[0], box, err) < 0)
        return -1;
    path_box(&path, box, tail);
    struct request rq = { .method = "GET", .path = buf_str(&path) };
    if (http_json(c->http, &rq, ret, err) < 0)
        return -1;
    *ret_list = json_key(*ret, key);
    return 0;
}

int run_ps(struct cli *c)
{
    struct err err;
    bool first = true;
    AUTO(json) struct json *j = NULL;
    const struct json *list;
    AUTO(table)
    struct table t = { .heads = { "PROCESS", "PID", "STATUS", "AGE", "SERVICE", "COMMAND" },
                       .columns = 6 };
    if (list_of(c, "/processes", "processes", &j, &list, &err) < 0)
        return fail(c, &err);
    for (size_t i = 0; i < json_count(list); i++) {
        const struct json *p = json_item(list, i);
        bool runs = str_eq(json_text(json_key(p, "status")), "running");
        if (!runs && !args_flag(&c->args, "all"))
            continue;
        AUTO(free) char *text = c->json ? json_dump(p) : NULL;
        if (text)
            (void)printf("%s%s", first ? "[" : ",\n ", text);
        else if (args_flag(&c->args, "quiet"))
            (void)printf("%s\n", json_text(json_key(p, "id")));
        else
            process_row(&t, p, clock_wall_ms());
        first = false;
    }
    if (c->json)
        (void)printf("%s]\n", first ? "[" : "");
    else if (!args_flag(&c->args, "quiet"))
        table_print(&t, stdout, text_columns());
    return 0;
}

int run_services(struct cli *c)
{
    struct err err;
    AUTO(json) struct json *j = NULL;
    const struct json *list;
    AUTO(table)
    struct table t = { .heads = { "SERVICE", "STATUS", "PORT", "RESTARTS", "PROCESS", "COMMAND" },
                       .columns = 6 };
    if (list_of(c, "/services", "services", &j, &list, &err) < 0)
        return fail(c, &err);
    AUTO(free) char *text = c->json ? json_dump(list) : NULL;
    if (text) {
        (void)printf("%s\n", text);
        return 0;
    }
    for (size_t i = 0; i < json_count(list); i++) {
        const struct json *s = json_item(list, i);
        AUTO(buf) struct buf cmd = BUF_INIT(REPLY_MAX);
        char port[24] = "", restarts[24] = "";
        int64_t n;
        if (json_int(json_key(s, "port"), &n))
            (void)snprintf(port, sizeof port, "%lld%s", (long long)n,
                           json_yes(json_key(s, "listening")) ? "" : " (silent)");
        if (json_int(json_key(s, "restarts"), &n))
            (void)snprintf(restarts, sizeof restarts, "%lld", (long long)n);
        command_text(json_key(s, "cmd"), &cmd);
        table_add(&t, json_text(json_key(s, "name")));
        table_add(&t, json_text(json_key(s, "status")));
        table_add(&t, port);
        table_add(&t, restarts);
        table_add(&t, json_text(json_key(s, "process")));
        table_add(&t, buf_str(&cmd));
    }
    table_print(&t, stdout, text_columns());
    if (json_text(json_key(j, "problem")))
        note("%s", json_text(json_key(j, "problem")));
    return 0;
}

/* --- logs --- */

static int put_output(void *ctx, const struct event *e, struct err *err)
{
    const struct cli *c = ctx;
    int64_t lost;
    int rc = 0;
    if (c->json)
        rc = printf("%s\n", e->line) < 0 || fflush(stdout) != 0 ? -1 : 0;
    else if (e->data)
        rc = fd_write_all(str_eq(e->type, "stderr") ? STDERR_FILENO : STDOUT_FILENO, e->data,
                          e->len);
    else if (str_eq(e->type, "truncated") && json_int(json_key(e->json, "lost_bytes"), &lost))
        note("%lld bytes before this are not kept", (long long)lost);
    return rc < 0 ? err_sys(err, errno, "cannot write the output") : 0;
}

/* A service's are text with times, as they come. */
static int put_text(struct cli *c, const struct request *rq, struct err *err)
{
    AUTO(reply) struct reply *r = NULL;
    const char *data;
    size_t len;
    int rc;
    if (reply_open(c->http, rq, &r, err) < 0)
        return -1;
    while ((rc = reply_read(r, &data, &len, err)) > 0)
        if (fd_write_all(STDOUT_FILENO, data, len) < 0)
            return err_sys(err, errno, "cannot write the output");
    return rc;
}

int run_logs(struct cli *c)
{
    struct err err;
    char box[BOX_ID];
    struct sandbox_id id;
    const struct args *a = &c->args;
    AUTO(buf) struct buf path = BUF_INIT(4 * KIB);
    bool process = sandbox_id_parse(a->words[1], &id, &err) == 0;
    int64_t n;
    if (args_flag(a, process ? "tail" : "since")) {
        (void)err_set(&err, ERR_INVALID, "--since goes with a process, --tail with a service");
        return wrong_usage(c, &err);
    }
    if ((process && args_flag(a, "since") &&
         args_number("since", args_value(a, "since"), 0, INT64_MAX, &n, &err) < 0) ||
        (!process && args_flag(a, "tail") &&
         args_number("tail", args_value(a, "tail"), 1, INT64_MAX, &n, &err) < 0))
        return wrong_usage(c, &err);
    if (box_find(c, a->words[0], box, &err) < 0)
        return fail(c, &err);
    path_box(&path, box, process ? "/processes/" : "/services/");
    url_encode(&path, a->words[1]);
    buf_adds(&path, process ? "/output" : "/logs");
    path_query(&path, "follow", args_flag(a, "follow") ? "true" : "false");
    if (args_flag(a, "since"))
        path_query(&path, "offset", args_value(a, "since"));
    if (args_flag(a, "tail"))
        path_query(&path, "tail", args_value(a, "tail"));
    struct request rq = { .method = "GET", .path = buf_str(&path), .accept = "text/plain" };
    int rc =
        process || c->json ? events_run(c->http, &rq, put_output, c, &err) : put_text(c, &rq, &err);
    return rc < 0 ? fail(c, &err) : 0;
}

/* --- kill and wait --- */

int run_kill(struct cli *c)
{
    struct err err;
    char box[BOX_ID];
    const struct args *a = &c->args;
    const char *name = args_value(a, "signal");
    bool tree = args_flag(a, "tree");
    int number = signal_number(name ? name : tree ? "KILL" : "TERM");
    if (number == 0) {
        (void)err_set(&err, ERR_INVALID, "--signal: %s is no signal", name);
        return wrong_usage(c, &err);
    }
    if (box_find(c, a->words[0], box, &err) < 0 ||
        remote_signal(c, box, a->words[1], number, tree, &err) < 0)
        return fail(c, &err);
    return 0;
}

static int take_end(void *ctx, const struct event *e, struct err *err)
{
    int *status = ctx;
    (void)err;
    if (!str_eq(e->type, "exit"))
        return 0;
    *status = exit_status(json_key(e->json, "process"));
    return 1;
}

int run_wait(struct cli *c)
{
    struct err err;
    char box[BOX_ID];
    int status = STATUS_OURS;
    AUTO(buf) struct buf path = BUF_INIT(4 * KIB);
    if (box_find(c, c->args.words[0], box, &err) < 0)
        return fail(c, &err);
    path_box(&path, box, "/processes/");
    url_encode(&path, c->args.words[1]);
    /* Far behind all output: only the end is wanted. */
    buf_adds(&path, "/output?follow=true&offset=4611686018427387904");
    struct request rq = { .method = "GET", .path = buf_str(&path), .what = "waiting" };
    if (events_run(c->http, &rq, take_end, &status, &err) < 0)
        return fail(c, &err);
    return status;
}
