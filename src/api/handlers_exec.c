/* Running a command: one whole answer, or its output as it comes in one of three formats.
 *
 * Memory stays flat: a whole answer keeps EXEC_OUTPUT_KEEP bytes of each stream and counts the
 * rest; a stream waits for its client, and the command's pipes fill behind it. */
#include <inttypes.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/limits.h"
#include "base/str.h"
#include "core/process.h"
#include "core/service.h"
#include "events.h"
#include "handlers.h"
#include "shapes.h"

#define REPLY_MAX (16 * MIB) /* both streams kept whole, every byte escaped */

struct run {
    struct events ev;
    struct buf kept[2]; /* EVENTS_NONE: both; EVENTS_TEXT: stderr */
    bool line_open;     /* EVENTS_TEXT: stdout does not end with a newline so far */
};

/* --- whole --- */

static void keep(struct buf *b, const void *data, size_t len)
{
    size_t room = EXEC_OUTPUT_KEEP - b->len;
    buf_add(b, data, len < room ? len : room);
}

/* Output that was cut is cut at a character. */
static void put_kept(struct json_out *o, const char *key, const struct buf *b, uint64_t total)
{
    size_t len = b->len;
    if (total > len)
        len -= utf8_open(buf_str(b), len);
    json_put_bytes(o, key, buf_str(b), len);
}

static void put_result(struct json_out *o, const struct exec_result *res)
{
    char name[16];
    json_put_int(o, "exit_code", res->code);
    if (res->signal)
        json_put(o, "signal", events_signal(res->signal, name));
    if (res->timed_out)
        json_put_bool(o, "timed_out", true);
    if (res->leftovers)
        json_put_bool(o, "leftovers", true);
}

static void put_bytes(struct json_out *o, const struct exec_result *res)
{
    json_open(o, "bytes");
    json_put_int(o, "stdout", (int64_t)res->bytes[EXEC_STDOUT]);
    json_put_int(o, "stderr", (int64_t)res->bytes[EXEC_STDERR]);
    json_close(o);
}

static void reply_whole(struct run *run, const struct exec_result *res, bool detached)
{
    struct buf b = BUF_INIT(REPLY_MAX);
    struct json_out o = JSON_OUT(&b);
    bool cut = res->bytes[0] > run->kept[0].len || res->bytes[1] > run->kept[1].len;
    json_open(&o, NULL);
    if (detached) {
        json_put_bool(&o, "detached", true);
        json_put_int(&o, "pid", res->pid);
    } else {
        put_kept(&o, "stdout", &run->kept[EXEC_STDOUT], res->bytes[EXEC_STDOUT]);
        put_kept(&o, "stderr", &run->kept[EXEC_STDERR], res->bytes[EXEC_STDERR]);
        put_result(&o, res);
        json_put_bool(&o, "truncated", cut);
        put_bytes(&o, res);
    }
    json_close(&o);
    req_reply_json(run->ev.r, 200, &b);
}

/* --- streams --- */

static int send_exit(struct run *run, const struct exec_result *res)
{
    AUTO(buf) struct buf b = BUF_INIT(4 * KIB);
    struct json_out o = JSON_OUT(&b);
    if (events_rest(&run->ev) < 0)
        return -1;
    events_open(&run->ev, &o, "exit");
    put_result(&o, res);
    put_bytes(&o, res);
    return events_close(&run->ev, &o, "exit");
}

/* The reference's trailer: a line ---stderr--- and stderr, unless that is blank; the exit code. */
static int send_trailer(struct run *run, const struct exec_result *res)
{
    const struct buf *errors = &run->kept[EXEC_STDERR];
    bool blank = strspn(buf_str(errors), " \t\r\n") == errors->len;
    struct buf *f = &run->ev.frame;
    buf_adds(f, run->line_open ? "\n" : "");
    if (!blank) {
        buf_adds(f, "---stderr---\n");
        buf_add(f, buf_str(errors), errors->len);
        buf_adds(f, errors->data[errors->len - 1] == '\n' ? "" : "\n");
    }
    buf_addf(f, "exit_code: %d\n", res->code);
    return events_send(&run->ev);
}

/* --- the sink that core fills --- */

static int on_started(void *ctx, uint32_t pid)
{
    struct run *run = ctx;
    if (run->ev.format == EVENTS_NONE)
        return 0;
    if (run->ev.format == EVENTS_TEXT)
        return events_begin(&run->ev);
    AUTO(buf) struct buf b = BUF_INIT(1 * KIB);
    struct json_out o = JSON_OUT(&b);
    events_open(&run->ev, &o, "started");
    json_put_int(&o, "pid", pid);
    return events_close(&run->ev, &o, "started");
}

static int on_output(void *ctx, enum exec_stream which, const void *data, size_t len)
{
    struct run *run = ctx;
    if (run->ev.format == EVENTS_NONE || (run->ev.format == EVENTS_TEXT && which == EXEC_STDERR)) {
        keep(&run->kept[which], data, len);
        return 0;
    }
    if (run->ev.format == EVENTS_TEXT) {
        if (len == 0)
            return 0;
        run->line_open = ((const char *)data)[len - 1] != '\n';
        return events_begin(&run->ev) < 0 ? -1 : req_write(run->ev.r, data, len);
    }
    return events_output(&run->ev, which, data, len, -1);
}

static bool on_gone(void *ctx)
{
    struct run *run = ctx;
    return req_ending(run->ev.r) || events_gone(&run->ev);
}

/* --- the handler --- */

static void finish(struct run *run, int rc, const struct exec_result *res, bool detached,
                   const struct err *err)
{
    bool events = run->ev.format == EVENTS_SSE || run->ev.format == EVENTS_NDJSON;
    if (rc < 0 && !req_streaming(run->ev.r)) {
        if (err->code != ERR_CANCELLED)
            req_fail(run->ev.r, err);
        return;
    }
    if (run->ev.format == EVENTS_NONE) {
        reply_whole(run, res, detached);
        return;
    }
    if (rc < 0 && events) {
        rc = events_error(&run->ev, err);
    } else if (rc < 0) {
        buf_addf(&run->ev.frame, "%sinternal-error: %s\n", run->line_open ? "\n" : "", err->msg);
        rc = events_send(&run->ev);
    } else if (!detached) {
        rc = events ? send_exit(run, res) : send_trailer(run, res);
    } else if (!req_streaming(run->ev.r)) {
        rc = events_begin(&run->ev);
    }
    req_stream_end(run->ev.r, rc < 0);
}

/* "service": true, or a name: the command becomes a service, under its program's name if none is
 * given. */
static bool wants_service(const struct exec_body *b, const struct strv *argv,
                          char name[SERVICE_NAME_MAX + 1], struct err *err, bool *ret_failed)
{
    struct json *parsed = NULL;
    *ret_failed = false;
    if (!b->service)
        return false;
    if (json_parse(b->service, strlen(b->service), &parsed, err) < 0) {
        *ret_failed = true;
        return false;
    }
    AUTO(json) struct json *j = parsed;
    const char *text = json_text(j);
    if (text) {
        if (!str_copy(name, SERVICE_NAME_MAX + 1, text)) {
            (void)err_set(err, ERR_INVALID, "service: a name has at most %d characters",
                          SERVICE_NAME_MAX);
            *ret_failed = true;
        }
        return true;
    }
    if (!json_yes(j) && !str_eq(b->service, "false")) {
        (void)err_set(err, ERR_INVALID, "service: must be true, false or a name");
        *ret_failed = true;
    }
    core_service_name(argv, name);
    return json_yes(j);
}

static void run_service(struct req *r, const struct exec_body *b, char *name)
{
    struct err err;
    struct process p;
    if (b->stdin_text || b->timeout_ms) {
        (void)err_set(&err, ERR_INVALID, "%s: does not go with service",
                      b->stdin_text ? "stdin" : "timeout_ms");
        req_fail(r, &err);
        return;
    }
    struct service spec = { .name = name,
                            .cmd = b->cmd,
                            .cwd = b->cwd ? b->cwd : (char[]){ "/home/sandbox/workspace" },
                            .env = b->env };
    if (core_service_add(req_core(r), req_caller(r), req_id(r), &spec, &p, &err) < 0) {
        req_fail(r, &err);
        return;
    }
    struct buf out = BUF_INIT(4 * KIB);
    struct json_out o = JSON_OUT(&out);
    json_open(&o, NULL);
    json_put(&o, "service", name);
    json_put(&o, "process", p.id.text);
    json_put_int(&o, "pid", p.pid);
    json_close(&o);
    process_release(&p);
    req_reply_json(r, 200, &out);
}

void exec_run(struct req *r)
{
    const struct exec_body *b = req_object(r);
    struct err err;
    struct strv argv = { 0 };
    if (exec_argv(b, &argv, &err) < 0) {
        req_fail(r, &err);
        return;
    }
    char name[SERVICE_NAME_MAX + 1];
    bool failed;
    bool service = wants_service(b, &argv, name, &err, &failed);
    if (failed || service) {
        if (failed)
            req_fail(r, &err);
        else
            run_service(r, b, name);
        strv_release(&argv);
        return;
    }
    struct run run = { .ev = { .r = r,
                               .format = events_wanted(r, b->stream ? EVENTS_TEXT : EVENTS_NONE),
                               .frame = BUF_INIT(2 * EXEC_OUTPUT_KEEP),
                               .id = -1 },
                       .kept = { BUF_INIT(EXEC_OUTPUT_KEEP), BUF_INIT(EXEC_OUTPUT_KEEP) } };
    const struct core_exec req = { .argv = &argv,
                                   .cwd = b->cwd,
                                   .env = &b->env,
                                   .stdin_text = b->stdin_text,
                                   .stdin_len = b->stdin_text ? strlen(b->stdin_text) : 0,
                                   .timeout_ms = b->timeout_ms,
                                   .detach = b->detach };
    const struct exec_sink sink = { .started = on_started,
                                    .write = on_output,
                                    .gone = on_gone,
                                    .gone_fd = req_gone_fd(r),
                                    .ctx = &run };
    struct exec_result res = { 0 };
    int rc = core_exec(req_core(r), req_caller(r), req_id(r), &req, &sink, &res, &err);
    if (rc < 0 && err.code == ERR_CANCELLED && req_ending(r))
        (void)err_set(&err, ERR_SHUTDOWN, "the daemon is shutting down; the command was ended");
    finish(&run, rc, &res, b->detach, &err);
    strv_release(&argv);
    buf_release(&run.kept[0]);
    buf_release(&run.kept[1]);
    buf_release(&run.ev.frame);
}
