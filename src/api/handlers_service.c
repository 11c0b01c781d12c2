/* Services: look, logs, start, stop, restart, remove. */
#include <stddef.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/limits.h"
#include "base/str.h"
#include "core/process.h"
#include "core/service.h"
#include "events.h"
#include "handlers.h"

#define LIST_MAX (32 * MIB) /* commands of all services */
#define LOOK_MS 1000        /* how often a silent follower's client is looked at */

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
    if (s->checked)
        json_put_bool(o, "healthy", s->healthy);
    else
        json_put_null(o, "healthy");
    json_put_bool(o, "ready", s->ready);
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
    bool inside[2];        /* of stdout and stderr: a line was begun */
    enum exec_stream last; /* the one that wrote last */
    uint64_t lines;        /* begun so far */
    uint64_t skip;         /* so many of them are not wanted */
    bool counting;         /* nothing is sent */
    bool open;             /* what was sent ends in the middle of a line */
};

static int put_log_event(struct log_run *run, const struct follow_chunk *c, const char *data,
                         size_t len)
{
    AUTO(buf) struct buf b = BUF_INIT(8 * HTTP_OUT_PIECE);
    struct json_out o = JSON_OUT(&b);
    const char *stream = c->stream == EXEC_STDOUT ? "stdout" : "stderr";
    events_open(&run->e, &o, stream);
    json_put_time(&o, "time", c->at_ms);
    json_put_bytes(&o, "data", data, len);
    return events_close(&run->e, &o, stream);
}

static int put_line_part(struct log_run *run, const struct follow_chunk *c, const char *data,
                         size_t len)
{
    char time[CLOCK_TEXT_MAX];
    struct buf *out = &run->e.frame;
    bool begins = !run->inside[c->stream] || run->last != c->stream;
    run->lines += begins;
    run->inside[c->stream] = data[len - 1] != '\n';
    run->last = c->stream;
    if (run->counting || run->lines <= run->skip)
        return 0;
    if (run->e.format != EVENTS_TEXT)
        return put_log_event(run, c, data, len);
    if (begins) {
        clock_format_ms(c->at_ms, time);
        buf_addf(out, "%s%s ", run->open ? "\n" : "", time);
    }
    buf_add(out, data, len);
    run->open = run->inside[c->stream];
    return out->len < HTTP_OUT_PIECE ? 0 : events_send(&run->e);
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
    return run->e.frame.len ? events_send(&run->e) : 0;
}

/* All of one process, to its end when follow says so. */
static int log_process(struct log_run *run, const struct process *p, bool follow, struct err *err)
{
    AUTO(free) char *data = mem_new(1, HTTP_OUT_PIECE);
    struct req *r = run->e.r;
    struct follow *f;
    uint64_t offset = 0;
    if (core_follow(req_core(r), req_caller(r), req_id(r), &p->id, &f, err) < 0)
        return err->code == ERR_NOT_FOUND ? 0 : -1; /* pruned this moment */
    run->inside[0] = run->inside[1] = false;
    int rc = 0;
    for (;;) {
        struct follow_chunk c;
        rc = follow_next(f, offset, data, HTTP_OUT_PIECE, follow ? clock_mono_ms() + LOOK_MS : 0,
                         &c, err);
        if (rc < 0)
            break;
        bool lines =
            run->e.format == EVENTS_TEXT || run->counting || (run->skip && run->lines <= run->skip);
        if (c.len && (lines ? put_lines(run, &c, data) : put_log_event(run, &c, data, c.len)) < 0)
            rc = err_set(err, ERR_CANCELLED, "the client went away");
        offset = c.offset + c.len;
        bool look = follow && !c.ended && (c.len == 0 || req_stopping(r));
        if (rc == 0 && look && events_over(&run->e))
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

/* Where the last so many lines begin: *ret_first is the process (an index into list), run->skip the
 * lines of it that come before. */
static int find_tail(struct log_run *run, const struct process *list, size_t n, uint64_t tail,
                     size_t *ret_first, struct err *err)
{
    int rc = 0;
    *ret_first = n;
    run->counting = true;
    while (rc == 0 && *ret_first > 0 && run->lines < tail)
        rc = log_process(run, &list[--*ret_first], false, err);
    run->counting = false;
    run->skip = run->lines > tail ? run->lines - tail : 0;
    run->lines = 0;
    return rc;
}

/* Those that are newer than *last; *last moves on. tail: only so many lines, 0: all. *ret_any:
 * there were some. */
static int log_round(struct log_run *run, struct sandbox_id *last, uint64_t tail, bool follow,
                     bool *ret_any, struct err *err)
{
    struct process *list;
    size_t n, first = 0;
    struct req *r = run->e.r;
    if (core_service_processes(req_core(r), req_caller(r), req_id(r), req_sub(r), &list, &n, err) <
        0)
        return -1;
    int rc = tail ? find_tail(run, list, n, tail, &first, err) : 0;
    *ret_any = false;
    for (size_t i = first; i < n && rc == 0; i++) {
        if (last->text[0] && memcmp(list[i].id.text, last->text, ID_LEN) <= 0)
            continue;
        *ret_any = true;
        *last = list[i].id;
        rc = events_begin(&run->e) < 0 ? err_set(err, ERR_CANCELLED, "the client went away")
                                       : log_process(run, &list[i], follow, err);
    }
    free_processes(list, n);
    return rc;
}

static int run_logs(struct log_run *run, uint64_t tail, bool follow, struct err *err)
{
    struct sandbox_id last = { { 0 } };
    bool any;
    for (;; tail = 0) {
        if (log_round(run, &last, tail, follow, &any, err) < 0)
            return -1;
        if (events_begin(&run->e) < 0)
            return err_set(err, ERR_CANCELLED, "the client went away");
        if (!follow)
            return 0;
        if (any)
            continue;
        req_pause(run->e.r, LOOK_MS / 2); /* its next process */
        if (events_over(&run->e))
            return err_set(err, ERR_CANCELLED, "the client went away");
    }
}

void service_logs(struct req *r)
{
    struct err err;
    uint64_t tail = 0;
    const char *tail_text = req_query(r, "tail");
    struct log_run run = {
        .e = { .r = r,
               .format = events_wanted(r, EVENTS_TEXT),
               .frame = BUF_INIT(4 * MIB),
               .id = -1 },
    };
    if (tail_text)
        (void)str_u64(tail_text, &tail); /* checked by its row of params.c */
    bool follow = str_eq(req_query(r, "follow"), "true");
    if (follow)
        req_follows(r);
    int rc = run_logs(&run, tail, follow, &err);
    if (rc < 0 && !req_streaming(r))
        req_fail(r, &err);
    else
        req_stream_end(r, rc < 0 && err.code != ERR_CANCELLED);
    buf_release(&run.e.frame);
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

void service_remove(struct req *r)
{
    struct err err;
    if (core_service_remove(req_core(r), req_caller(r), req_id(r), req_sub(r), &err) < 0)
        req_fail(r, &err);
    else
        req_reply_empty(r, 204);
}
