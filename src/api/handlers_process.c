/* Processes: start, look, feed, signal, follow. */
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
#define PART_MS 500         /* at the daemon's end: what came meanwhile tells how much will */
#define PART_BYTES (LINK_RING / 16)

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
    json_put(o, "on_disconnect", on_disconnect_names[p->tied]);
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

static int put_gap(struct events *e, const struct follow_chunk *c)
{
    AUTO(buf) struct buf b = BUF_INIT(1 * KIB);
    struct json_out o = JSON_OUT(&b);
    if (events_rest(e) < 0)
        return -1;
    e->id = (int64_t)c->offset;
    events_open(e, &o, "truncated");
    json_put_int(&o, "lost_bytes", (int64_t)c->lost);
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
    char lost[24];
    (void)snprintf(lost, sizeof lost, "%llu", (unsigned long long)c->lost);
    if (c->lost && e->format == EVENTS_TEXT && !req_streaming(e->r))
        req_header(e->r, "X-Lost-Bytes", lost); /* at the beginning; later ones go untold */
    if (events_begin(e) < 0 || (c->lost && e->format != EVENTS_TEXT && put_gap(e, c) < 0))
        return -1;
    if (c->len == 0)
        return 0;
    if (e->format == EVENTS_TEXT)
        return req_write(e->r, data, c->len);
    return events_output(e, c->stream, data, c->len, (int64_t)c->offset);
}

static int64_t first_offset(struct req *r, struct err *err)
{
    /* Who comes back sends both: where it began at first, and where it is now. */
    const char *text = req_heads(r)->last_event_id;
    uint64_t v = 0;
    if (!text)
        text = req_query(r, "offset");
    if (text && (!str_u64(text, &v) || v > INT64_MAX))
        return err_set(err, ERR_INVALID, "%s: must be a whole number",
                       req_heads(r)->last_event_id ? "Last-Event-ID" : "offset");
    return (int64_t)v;
}

enum reach {
    REACH_KEPT, /* what there is */
    REACH_END,  /* and what comes, to the process's end */
    REACH_HELD, /* likewise, and the process waits for it */
};

/* The last two end with the daemon: their client comes back. */
static enum reach reach_of(struct req *r, bool follow, bool hold)
{
    if (follow && !hold)
        req_follows(r);
    return !follow ? REACH_KEPT : hold ? REACH_HELD : REACH_END;
}

/* Nobody can hold a process while there is no daemon: who is waited for stays while so much comes
 * that the sandbox could not keep it. */
struct parting {
    int64_t since_ms; /* 0: the daemon goes on */
    uint64_t from;    /* where it was then */
};

static bool may_part(struct parting *p, struct follow *f, uint64_t offset)
{
    struct process now;
    int64_t ms = clock_mono_ms();
    if (p->since_ms && ms - p->since_ms < PART_MS)
        return false;
    follow_process(f, &now);
    bool little = p->since_ms && now.bytes < p->from + PART_BYTES;
    process_release(&now);
    *p = (struct parting){ .since_ms = ms, .from = offset };
    return little;
}

static int run_output(struct events *e, struct follow *f, uint64_t offset, enum reach reach,
                      struct err *err)
{
    AUTO(free) char *data = mem_new(1, HTTP_OUT_PIECE);
    struct parting parting = { 0 };
    bool follow = reach != REACH_KEPT;
    for (;;) {
        struct follow_chunk c;
        bool stopping = follow && req_stopping(e->r);
        int64_t until = follow ? clock_mono_ms() + (stopping ? PART_MS : LOOK_MS) : 0;
        if (follow_next(f, offset, data, HTTP_OUT_PIECE, until, &c, err) < 0)
            return -1;
        if (put_chunk(e, &c, data) < 0)
            return err_set(err, ERR_CANCELLED, "the client went away");
        offset = c.offset + c.len;
        if (c.ended && e->format != EVENTS_TEXT && (events_rest(e) < 0 || put_end(e, f) < 0))
            return err_set(err, ERR_CANCELLED, "the client went away");
        if (c.ended || (c.len == 0 && !follow))
            return 0;
        if (stopping && reach == REACH_HELD && !may_part(&parting, f, offset))
            continue;
        if ((c.len == 0 || stopping) && events_over(e))
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
    bool hold = str_eq(req_query(r, "hold"), "true");
    if (hold)
        follow_hold(f, (uint64_t)offset);
    enum reach reach = reach_of(r, str_eq(req_query(r, "follow"), "true"), hold);
    int rc = run_output(&e, f, (uint64_t)offset, reach, &err);
    follow_free(f);
    if (rc < 0 && !req_streaming(r))
        req_fail(r, &err);
    else
        req_stream_end(r, rc < 0);
    buf_release(&e.frame);
}

/* --- start --- */

/* The fields have other names in this body than in the service that is made of it. */
static int check_service(const struct service *spec, struct err *err)
{
    static const char log[] = "ready_log";
    struct err e;
    if (service_check(spec, &e) == 0)
        return 0;
    if (str_starts(e.msg, log))
        return err_set(err, e.code, "service.ready.log%s", e.msg + strlen(log));
    return err_set(err, e.code, "service.%s%s", str_starts(e.msg, "name:") ? "" : "ready.", e.msg);
}

/* A service is what comes back: it has no client that it could hang on. */
static int start_service(struct req *r, const struct process_body *b, const struct strv *argv,
                         struct process *ret, struct err *err)
{
    const struct process_service_body *s = &b->service;
    char name[SERVICE_NAME_MAX + 1];
    struct service spec = { .name = s->name,
                            .cmd = b->cmd,
                            .cwd = b->cwd ? b->cwd : (char[]){ "/home/sandbox/workspace" },
                            .env = b->env,
                            .port = s->ready.port,
                            .health_path = s->ready.health_path,
                            .ready_log = s->ready.log,
                            .restart = s->restart };
    if (b->pty_seen || b->stdin_open || b->hold || b->timeout_ms ||
        b->on_disconnect != ON_DISCONNECT_KEEP)
        return err_set(err, ERR_INVALID,
                       "service: goes with neither pty, stdin, hold, timeout_ms nor on_disconnect");
    if (!s->name) {
        core_service_name(argv, name);
        spec.name = name;
    }
    if (check_service(&spec, err) < 0)
        return -1;
    return core_service_add(req_core(r), req_caller(r), req_id(r), &spec, ret, err);
}

static int start(struct req *r, const struct process_body *b, struct process *ret, struct err *err)
{
    AUTO(strv) struct strv argv = { 0 };
    struct process_spec spec = { .argv = &argv,
                                 .cwd = b->cwd,
                                 .env = &b->env,
                                 .timeout_ms = b->timeout_ms,
                                 .stdin_open = b->stdin_open,
                                 .hold = b->hold,
                                 .cols = (uint16_t)(b->pty_seen ? b->pty.cols : 0),
                                 .rows = (uint16_t)(b->pty_seen ? b->pty.rows : 0),
                                 .tied = b->on_disconnect == ON_DISCONNECT_KILL };
    if (json_command(b->cmd, &argv, err) < 0)
        return -1;
    if (b->service_seen)
        return start_service(r, b, &argv, ret, err);
    return core_process_start(req_core(r), req_caller(r), req_id(r), &spec, ret, err);
}

/* The process as it began, then its output to its end. */
static int run_started(struct events *e, struct follow *f, const struct process *p,
                       enum reach reach, struct err *err)
{
    AUTO(buf) struct buf b = BUF_INIT(LIST_MAX);
    struct json_out o = JSON_OUT(&b);
    e->id = 0;
    events_open(e, &o, "process");
    put_process(&o, "process", p);
    if (events_close(e, &o, "process") < 0)
        return err_set(err, ERR_CANCELLED, "the client went away");
    return run_output(e, f, 0, reach, err);
}

static void follow_started(struct req *r, enum events_format format, struct process *p)
{
    struct err err;
    struct follow *f;
    if (core_follow(req_core(r), req_caller(r), req_id(r), &p->id, &f, &err) < 0) {
        process_release(p);
        req_fail(r, &err); /* removed this moment */
        return;
    }
    struct events e = { .r = r, .format = format, .frame = BUF_INIT(2 * MIB), .status = 201 };
    bool hold = ((const struct process_body *)req_object(r))->hold;
    if (hold)
        follow_hold(f, 0);
    int rc = run_started(&e, f, p, reach_of(r, true, hold), &err);
    process_release(p);
    follow_free(f);
    req_stream_end(r, rc < 0);
    buf_release(&e.frame);
}

void process_start(struct req *r)
{
    struct err err;
    struct process p;
    enum events_format format = events_wanted(r, EVENTS_NONE);
    if (start(r, req_object(r), &p, &err) < 0)
        req_fail(r, &err);
    else if (format == EVENTS_NONE)
        reply_process(r, 201, &p);
    else
        follow_started(r, format, &p);
}
