/* Processes and services: start, look, feed, signal, follow. */
#include <signal.h>
#include <stddef.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/limits.h"
#include "base/str.h"
#include "core/process.h"
#include "core/service.h"
#include "events.h"
#include "handlers.h"
#include "shapes.h"

#define LIST_MAX (32 * MIB) /* PROCESS_ENDED_MAX argument lists */
#define LOOK_MS 1000        /* how often a silent follower's client is looked at */
#define OUTPUT_PIECE (64 * KIB)

/* --- one process --- */

static void put_process(struct json_out *o, const char *key, const struct process *p)
{
    char name[16];
    json_open(o, key);
    json_put(o, "id", p->id.text);
    json_put(o, "status", process_state_name(p->state));
    json_put_raw(o, "cmd", p->argv);
    json_put(o, "cwd", p->cwd);
    json_put(o, "service", p->service);
    json_put_bool(o, "pty", p->pty);
    if (p->pid)
        json_put_int(o, "pid", p->pid);
    else
        json_put_null(o, "pid");
    if (p->state == PROCESS_EXITED)
        json_put_int(o, "exit_code", p->exit_code);
    else
        json_put_null(o, "exit_code");
    json_put(o, "signal", p->signal ? events_signal(p->signal, name) : NULL);
    json_put_bool(o, "timed_out", p->timed_out);
    json_put_int(o, "bytes", (int64_t)p->bytes);
    json_put_time(o, "started_at", p->started_at_ms);
    json_put_time(o, "ended_at", p->ended_at_ms);
    json_close(o);
}

static void reply_process(struct req *r, int status, struct process *p)
{
    struct buf b = BUF_INIT(LIST_MAX);
    struct json_out o = JSON_OUT(&b);
    put_process(&o, NULL, p);
    process_release(p);
    req_reply_json(r, status, &b);
}

static bool sub_id(struct req *r, struct sandbox_id *ret)
{
    struct err err;
    if (sandbox_id_parse(req_sub(r), ret, &err) == 0)
        return true;
    (void)err_set(&err, ERR_NOT_FOUND, "there is no such process");
    req_fail(r, &err);
    return false;
}

void process_start(struct req *r)
{
    const struct process_body *b = req_object(r);
    struct err err;
    struct process p;
    AUTO(strv) struct strv argv = { 0 };
    struct process_spec spec = { .argv = &argv,
                                 .cwd = b->cwd,
                                 .env = &b->env,
                                 .timeout_ms = b->timeout_ms,
                                 .stdin_open = b->stdin_open,
                                 .cols = (uint16_t)(b->pty_seen ? b->pty.cols : 0),
                                 .rows = (uint16_t)(b->pty_seen ? b->pty.rows : 0) };
    if (json_command(b->cmd, &argv, &err) < 0 ||
        core_process_start(req_core(r), req_caller(r), req_id(r), &spec, &p, &err) < 0)
        req_fail(r, &err);
    else
        reply_process(r, 201, &p);
}

void process_list(struct req *r)
{
    struct err err;
    struct process *list;
    size_t n;
    if (core_process_list(req_core(r), req_caller(r), req_id(r), &list, &n, &err) < 0) {
        req_fail(r, &err);
        return;
    }
    struct buf b = BUF_INIT(LIST_MAX);
    struct json_out o = JSON_OUT(&b);
    json_open(&o, NULL);
    json_list(&o, "processes");
    for (size_t i = 0; i < n; i++) {
        put_process(&o, NULL, &list[i]);
        process_release(&list[i]);
    }
    free(list);
    json_unlist(&o);
    json_close(&o);
    req_reply_json(r, 200, &b);
}

void process_get(struct req *r)
{
    struct err err;
    struct process p;
    struct sandbox_id id;
    if (!sub_id(r, &id))
        return;
    if (core_process_get(req_core(r), req_caller(r), req_id(r), &id, &p, &err) < 0)
        req_fail(r, &err);
    else
        reply_process(r, 200, &p);
}

void process_remove(struct req *r)
{
    struct err err;
    struct sandbox_id id;
    if (!sub_id(r, &id))
        return;
    if (core_process_remove(req_core(r), req_caller(r), req_id(r), &id, &err) < 0)
        req_fail(r, &err);
    else
        req_reply_empty(r, 204);
}

/* "SIGTERM", "TERM" or 15; absent: TERM. */
static int signal_number(const char *json, uint32_t *ret, struct err *err)
{
    struct json *parsed = NULL;
    int64_t n = SIGTERM;
    if (json && json_parse(json, strlen(json), &parsed, err) < 0)
        return -1;
    AUTO(json) struct json *j = parsed;
    const char *text = j ? json_text(j) : NULL;
    if (text) {
        const char *name = str_starts(text, "SIG") ? text + 3 : text;
        n = 0;
        for (int s = 1; s < NSIG && n == 0; s++)
            if (str_eq(sigabbrev_np(s), name))
                n = s;
    } else if (j && !json_int(j, &n)) {
        n = 0;
    }
    if (n < 1 || n > 64)
        return err_set(err, ERR_INVALID, "signal: must be a signal's name or number");
    *ret = (uint32_t)n;
    return 0;
}

void process_signal(struct req *r)
{
    const struct signal_body *b = req_object(r);
    struct err err;
    struct sandbox_id id;
    uint32_t number = 0;
    if (!sub_id(r, &id))
        return;
    if (signal_number(b->signal, &number, &err) < 0 ||
        core_process_signal(req_core(r), req_caller(r), req_id(r), &id, number, b->tree, &err) < 0)
        req_fail(r, &err);
    else
        req_reply_empty(r, 202);
}

void process_stdin(struct req *r)
{
    struct err err;
    struct sandbox_id id;
    size_t taken;
    const struct buf *body = req_body(r);
    if (!sub_id(r, &id))
        return;
    if (core_process_feed(req_core(r), req_caller(r), req_id(r), &id, buf_str(body), body->len,
                          str_eq(req_query(r, "eof"), "true"), &taken, &err) < 0) {
        req_fail(r, &err);
        return;
    }
    struct buf b = BUF_INIT(1 * KIB);
    struct json_out o = JSON_OUT(&b);
    json_open(&o, NULL);
    json_put_int(&o, "taken", (int64_t)taken);
    json_close(&o);
    req_reply_json(r, 200, &b);
}

void process_resize(struct req *r)
{
    const struct resize_body *b = req_object(r);
    struct err err;
    struct sandbox_id id;
    if (!sub_id(r, &id))
        return;
    if (core_process_resize(req_core(r), req_caller(r), req_id(r), &id, (uint16_t)b->cols,
                            (uint16_t)b->rows, &err) < 0)
        req_fail(r, &err);
    else
        req_reply_empty(r, 204);
}

/* --- output --- */

static int put_gap(struct events *e, uint64_t lost)
{
    AUTO(buf) struct buf b = BUF_INIT(1 * KIB);
    struct json_out o = JSON_OUT(&b);
    events_open(e, &o, "truncated");
    json_put_int(&o, "lost_bytes", (int64_t)lost);
    return events_close(e, &o, "truncated");
}

static int put_end(struct events *e, struct follow *f)
{
    AUTO(buf) struct buf b = BUF_INIT(LIST_MAX);
    struct json_out o = JSON_OUT(&b);
    struct process p;
    follow_process(f, &p);
    e->id = (int64_t)p.bytes;
    events_open(e, &o, "exit");
    put_process(&o, "process", &p);
    process_release(&p);
    return events_close(e, &o, "exit");
}

/* One chunk to the client; -1: it is gone. */
static int put_chunk(struct events *e, const struct follow_chunk *c, const char *data)
{
    if (c->lost && e->format != EVENTS_TEXT && put_gap(e, c->lost) < 0)
        return -1;
    if (c->len == 0)
        return 0;
    if (e->format == EVENTS_TEXT)
        return events_begin(e) < 0 ? -1 : req_write(e->r, data, c->len);
    e->id = (int64_t)c->offset;
    return events_output(e, c->stream, data, c->len);
}

static int64_t first_offset(struct req *r, struct err *err)
{
    const char *text = req_query(r, "offset");
    const char *last = req_heads(r)->last_event_id;
    uint64_t v = 0;
    if (!text && last)
        text = last;
    if (text && (!str_u64(text, &v) || v > INT64_MAX))
        return err_set(err, ERR_INVALID, "offset: must be a whole number");
    return (int64_t)v;
}

static int run_output(struct events *e, struct follow *f, uint64_t offset, bool follow,
                      struct err *err)
{
    AUTO(free) char *data = mem_new(1, OUTPUT_PIECE);
    for (;;) {
        struct follow_chunk c;
        int64_t until = follow ? clock_mono_ms() + LOOK_MS : 0;
        if (follow_next(f, offset, data, OUTPUT_PIECE, until, &c, err) < 0)
            return -1;
        if (events_begin(e) < 0 || put_chunk(e, &c, data) < 0)
            return err_set(err, ERR_CANCELLED, "the client went away");
        offset = c.offset + c.len;
        if (c.ended && e->format != EVENTS_TEXT && (events_rest(e) < 0 || put_end(e, f) < 0))
            return err_set(err, ERR_CANCELLED, "the client went away");
        if (c.ended || (c.len == 0 && !follow))
            return 0;
        if (c.len == 0 && events_over(e))
            return err_set(err, ERR_CANCELLED, "the client went away");
    }
}

void process_output(struct req *r)
{
    struct err err;
    struct sandbox_id id;
    struct follow *f;
    if (!sub_id(r, &id))
        return;
    int64_t offset = first_offset(r, &err);
    if (offset < 0 || core_follow(req_core(r), req_caller(r), req_id(r), &id, &f, &err) < 0) {
        req_fail(r, &err);
        return;
    }
    struct events e = {
        .r = r, .format = events_wanted(r, EVENTS_TEXT), .frame = BUF_INIT(2 * MIB), .id = -1
    };
    int rc = run_output(&e, f, (uint64_t)offset, str_eq(req_query(r, "follow"), "true"), &err);
    follow_free(f);
    if (rc < 0 && !req_streaming(r))
        req_fail(r, &err);
    else
        req_stream_end(r, rc < 0);
    buf_release(&e.frame);
}

/* --- services --- */

static void put_service(struct json_out *o, const struct service_info *s)
{
    json_open(o, NULL);
    json_put(o, "name", s->name);
    json_put(o, "status", service_state_name(s->state));
    json_put_raw(o, "cmd", s->cmd);
    if (s->port)
        json_put_int(o, "port", s->port);
    else
        json_put_null(o, "port");
    json_put_bool(o, "listening", s->listening);
    json_put(o, "restart", service_restart_names[s->restart]);
    json_put_int(o, "restarts", s->restarts);
    if (s->state == SERVICE_BACKOFF)
        json_put_int(o, "next_start_ms", s->next_start_ms);
    json_put(o, "process", s->has_process ? s->process.text : NULL);
    if (s->exit_code >= 0)
        json_put_int(o, "last_exit_code", s->exit_code);
    else
        json_put_null(o, "last_exit_code");
    json_put(o, "problem", s->problem[0] ? s->problem : NULL);
    json_close(o);
}

void service_list(struct req *r)
{
    struct err err;
    struct service_info *list;
    size_t n;
    char problem[320];
    if (core_services(req_core(r), req_caller(r), req_id(r), &list, &n, problem, &err) < 0) {
        req_fail(r, &err);
        return;
    }
    struct buf b = BUF_INIT(LIST_MAX);
    struct json_out o = JSON_OUT(&b);
    json_open(&o, NULL);
    json_list(&o, "services");
    for (size_t i = 0; i < n; i++) {
        put_service(&o, &list[i]);
        service_info_release(&list[i]);
    }
    free(list);
    json_unlist(&o);
    json_put(&o, "problem", problem[0] ? problem : NULL);
    json_close(&o);
    req_reply_json(r, 200, &b);
}

/* --- logs of a service: the outputs of its processes one after the other --- */

struct log_run {
    struct events e;
    bool inside[2];  /* of stdout and stderr: a line was begun */
    struct buf text; /* tail: everything, for its last lines */
    bool gather;
};

static int put_line_part(struct log_run *run, const struct follow_chunk *c, const char *data,
                         size_t len)
{
    char time[CLOCK_TEXT_MAX];
    struct buf *out = run->gather ? &run->text : &run->e.frame;
    if (!run->inside[c->stream]) {
        clock_format_ms(c->at_ms, time);
        buf_addf(out, "%s ", time);
    }
    buf_add(out, data, len);
    run->inside[c->stream] = data[len - 1] != '\n';
    return run->gather || out->len < OUTPUT_PIECE ? 0 : events_send(&run->e);
}

static int put_lines(struct log_run *run, const struct follow_chunk *c, const char *data)
{
    for (size_t at = 0; at < c->len;) {
        const char *end = memchr(data + at, '\n', c->len - at);
        size_t n = end ? (size_t)(end - data - (ptrdiff_t)at) + 1 : c->len - at;
        if (put_line_part(run, c, data + at, n) < 0)
            return -1;
        at += n;
    }
    return run->gather || !run->e.frame.len ? 0 : events_send(&run->e);
}

static int put_log_event(struct log_run *run, const struct follow_chunk *c, const char *data)
{
    AUTO(buf) struct buf b = BUF_INIT(8 * OUTPUT_PIECE);
    struct json_out o = JSON_OUT(&b);
    const char *stream = c->stream == EXEC_STDOUT ? "stdout" : "stderr";
    events_open(&run->e, &o, stream);
    json_put_time(&o, "time", c->at_ms);
    json_put_bytes(&o, "data", data, c->len);
    return events_close(&run->e, &o, stream);
}

/* All of one process, to its end when follow says so. */
static int log_process(struct log_run *run, const struct process *p, bool follow, struct err *err)
{
    AUTO(free) char *data = mem_new(1, OUTPUT_PIECE);
    struct req *r = run->e.r;
    struct follow *f;
    uint64_t offset = 0;
    if (core_follow(req_core(r), req_caller(r), req_id(r), &p->id, &f, err) < 0)
        return err->code == ERR_NOT_FOUND ? 0 : -1; /* pruned this moment */
    int rc = 0;
    for (;;) {
        struct follow_chunk c;
        rc = follow_next(f, offset, data, OUTPUT_PIECE, follow ? clock_mono_ms() + LOOK_MS : 0, &c,
                         err);
        if (rc < 0)
            break;
        bool text = run->e.format == EVENTS_TEXT;
        if (c.len && (text ? put_lines(run, &c, data) : put_log_event(run, &c, data)) < 0)
            rc = err_set(err, ERR_CANCELLED, "the client went away");
        offset = c.offset + c.len;
        if (rc == 0 && c.len == 0 && !c.ended && follow && events_over(&run->e))
            rc = err_set(err, ERR_CANCELLED, "the client went away");
        if (rc < 0 || c.ended || (c.len == 0 && !follow))
            break;
    }
    follow_free(f);
    return rc;
}

static void free_processes(struct process *list, size_t n)
{
    for (size_t i = 0; i < n; i++)
        process_release(&list[i]);
    free(list);
}

/* Those that are newer than *last; *last moves on. *ret_any: there were some. */
static int log_round(struct log_run *run, struct sandbox_id *last, bool follow, bool *ret_any,
                     struct err *err)
{
    struct process *list;
    size_t n;
    struct req *r = run->e.r;
    if (core_service_processes(req_core(r), req_caller(r), req_id(r), req_sub(r), &list, &n, err) <
        0)
        return -1;
    int rc = 0;
    *ret_any = false;
    for (size_t i = 0; i < n && rc == 0; i++) {
        if (last->text[0] && memcmp(list[i].id.text, last->text, ID_LEN) <= 0)
            continue;
        *ret_any = true;
        *last = list[i].id;
        rc = log_process(run, &list[i], follow, err);
    }
    free_processes(list, n);
    return rc;
}

static int send_tail(struct log_run *run, uint64_t lines)
{
    const char *text = buf_str(&run->text);
    size_t at = run->text.len;
    while (at > 0 && (lines > 0 || text[at - 1] != '\n')) {
        at--;
        if (at > 0 && text[at - 1] == '\n')
            lines--;
    }
    if (events_begin(&run->e) < 0)
        return -1;
    return run->text.len > at ? req_write(run->e.r, text + at, run->text.len - at) : 0;
}

void service_logs(struct req *r)
{
    struct err err;
    uint64_t tail = 0;
    bool any, follow = str_eq(req_query(r, "follow"), "true");
    const char *tail_text = req_query(r, "tail");
    struct sandbox_id last = { { 0 } };
    struct log_run run = { .e = { .r = r,
                                  .format = events_wanted(r, EVENTS_TEXT),
                                  .frame = BUF_INIT(4 * MIB),
                                  .id = -1 },
                           .text = BUF_INIT(2 * (SERVICE_ENDED_MAX + 1) * PROCESS_OUTPUT_KEEP) };
    int rc = 0;
    if (tail_text && (!str_u64(tail_text, &tail) || tail == 0 || run.e.format != EVENTS_TEXT))
        rc = err_set(&err, ERR_INVALID,
                     "tail: must be a number of lines above 0, and goes with plain text");
    if (rc == 0 && tail) { /* first what is there, cut; then whatever comes */
        run.gather = true;
        rc = log_round(&run, &last, false, &any, &err);
        run.gather = false;
        if (rc == 0 && send_tail(&run, tail) < 0)
            rc = err_set(&err, ERR_CANCELLED, "the client went away");
    }
    if (rc == 0 && !(tail && !follow)) {
        do {
            rc = log_round(&run, &last, follow, &any, &err);
            if (rc == 0 && events_begin(&run.e) < 0)
                rc = err_set(&err, ERR_CANCELLED, "the client went away");
            if (rc == 0 && follow && !any) { /* its next process */
                req_pause(r, LOOK_MS / 2);
                if (events_over(&run.e))
                    rc = err_set(&err, ERR_CANCELLED, "the client went away");
            }
        } while (rc == 0 && follow);
    }
    if (rc < 0 && !req_streaming(r))
        req_fail(r, &err);
    else
        req_stream_end(r, rc < 0 && err.code != ERR_CANCELLED);
    buf_release(&run.e.frame);
    buf_release(&run.text);
}

static void act(struct req *r, enum service_act what)
{
    struct err err;
    if (core_service_act(req_core(r), req_caller(r), req_id(r), req_sub(r), what, &err) < 0)
        req_fail(r, &err);
    else
        service_list(r);
}

void service_start(struct req *r)
{
    act(r, SERVICE_START);
}

void service_stop(struct req *r)
{
    act(r, SERVICE_STOP);
}

void service_restart(struct req *r)
{
    act(r, SERVICE_RESTART);
}
