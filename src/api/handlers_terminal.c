/* A terminal over WebSocket: binary frames are bytes, text frames are orders
 * ({"resize":{"cols":80,"rows":24}}).
 *
 * The terminal itself is a kept process on a pty: closing the connection only detaches, ?process=
 * attaches again with what was on the screen, and several may watch at once. Two threads serve a
 * viewer: one brings output, one takes input.
 *
 * A viewer that does not read holds up nobody: the process writes into the ring, whoever looks. It
 * is told what it missed, and cut when it takes nothing at all for SANDBOXD_PEER_STALL. One that
 * sees and types nothing for SANDBOXD_TERMINAL_IDLE is sent away, or a forgotten window would keep
 * its sandbox awake for ever. Who opens, attaches and leaves stands in the audit. */
#include <stdatomic.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/mu.h"
#include "base/str.h"
#include "core/process.h"
#include "events.h"
#include "handlers.h"
#include "shapes.h"
#include "websocket.h"
#include "wire/json.h"

#define LOOK_MS 500   /* how soon one thread sees that the other has ended */
#define PING_MS 15000 /* of silence */
#define PIECE (32 * KIB)
#define SCROLL_BACK (64 * KIB) /* shown to who attaches */
#define SHELL "command -v bash >/dev/null 2>&1 && exec bash -l; exec sh -l"

struct terminal {
    struct caller who;
    struct sandbox_id sandbox, process;
    struct follow *follow;
    uint64_t from;
    char remote[REMOTE_MAX];
    _Atomic int64_t active_ms; /* monotonic: a byte went either way */
    const char *_Atomic why;   /* it is over; the first word counts */
    struct websocket *ws;
    atomic_bool over;
    struct mu lock;
    struct cond ended;
    bool writer_ended GUARDED_BY(lock);
};

static void free_terminal(struct terminal *t)
{
    follow_free(t->follow);
    cond_release(&t->ended);
    mu_release(&t->lock);
    free(t);
}

static void note_why(struct terminal *t, const char *why)
{
    const char *none = NULL;
    (void)atomic_compare_exchange_strong(&t->why, &none, why);
}

/* --- output --- */

static int send_note(struct terminal *t, const char *what, const struct process *p)
{
    AUTO(buf) struct buf b = BUF_INIT(4 * KIB);
    struct json_out o = JSON_OUT(&b);
    char name[16];
    json_open(&o, NULL);
    json_open(&o, what);
    json_put(&o, "process", p->id.text);
    if (p->state == PROCESS_EXITED)
        json_put_int(&o, "exit_code", p->exit_code);
    if (p->signal)
        json_put(&o, "signal", events_signal(p->signal, name));
    if (p->state != PROCESS_RUNNING)
        json_put(&o, "status", process_state_name(p->state));
    json_close(&o);
    json_close(&o);
    return websocket_send(t->ws, false, buf_str(&b), b.len);
}

static int note_gap(struct terminal *t, uint64_t lost)
{
    AUTO(buf) struct buf b = BUF_INIT(1 * KIB);
    struct json_out o = JSON_OUT(&b);
    json_open(&o, NULL);
    json_open(&o, "truncated");
    json_put_int(&o, "lost_bytes", (int64_t)lost);
    json_close(&o);
    json_close(&o);
    return websocket_send(t->ws, false, buf_str(&b), b.len);
}

static int note_now(struct terminal *t, const char *what)
{
    struct process p;
    follow_process(t->follow, &p);
    int rc = send_note(t, what, &p);
    process_release(&p);
    return rc;
}

/* The words for people and for the audit, when it is time to end. */
static bool is_over(struct terminal *t, bool ended)
{
    const struct config *config = websocket_config(t->ws);
    if (ended) {
        (void)note_now(t, "exit"); /* gone already: nobody to tell */
        note_why(t, "exit");
        websocket_close(t->ws, 1000, "the process has ended");
    } else if (websocket_stopping(t->ws)) { /* the process goes on: attach again in a moment */
        note_why(t, "shutdown");
        websocket_close(t->ws, 1001, "the daemon is stopping");
    } else if (clock_mono_ms() - atomic_load(&t->active_ms) > config->terminal_idle_ms) {
        note_why(t, "idle");
        websocket_close(t->ws, 1000, "nothing was typed or shown for a long time");
    } else {
        return false;
    }
    return true;
}

static int show(struct terminal *t, const struct follow_chunk *c, const char *data)
{
    if (c->lost > 0 && note_gap(t, c->lost) < 0)
        return -1;
    if (c->len == 0)
        return 0;
    atomic_store(&t->active_ms, clock_mono_ms());
    return websocket_send(t->ws, true, data, c->len);
}

static void write_output(struct terminal *t)
{
    AUTO(free) char *data = mem_new(1, PIECE);
    int64_t spoke = clock_mono_ms();
    if (note_now(t, "attached") < 0)
        return;
    while (!atomic_load(&t->over)) {
        struct follow_chunk c;
        struct err err;
        if (follow_next(t->follow, t->from, data, PIECE, clock_mono_ms() + LOOK_MS, &c, &err) < 0 ||
            show(t, &c, data) < 0)
            return;
        t->from = c.offset + c.len;
        if (c.len > 0)
            spoke = clock_mono_ms();
        if (is_over(t, c.ended))
            return;
        if (clock_mono_ms() - spoke > PING_MS) {
            if (websocket_ping(t->ws) < 0)
                return;
            spoke = clock_mono_ms();
        }
    }
}

static void writer(void *arg)
{
    struct terminal *t = arg;
    write_output(t);
    atomic_store(&t->over, true);
    mu_lock(&t->lock);
    t->writer_ended = true;
    cond_signal(&t->ended);
    mu_unlock(&t->lock);
}

/* --- input --- */

struct order {
    struct resize_body resize;
    bool resize_seen;
};
static const struct field order_rows[] = {
    { .name = "resize",
      .type = FIELD_TYPE_OBJ,
      .offset = offsetof(struct order, resize),
      .shape = &shape_resize,
      .seen = offsetof(struct order, resize_seen) },
};
static const struct shape order_shape = SHAPE("order", order_rows);

/* false: not an order; the connection ends. */
static bool on_text(struct terminal *t, const char *text, size_t len)
{
    struct order order = { 0 };
    struct err err;
    if (json_decode(&order_shape, text, len, &order, &err) < 0)
        return false;
    if (order.resize_seen) /* it may have ended: the writer tells */
        (void)core_process_resize(websocket_core(t->ws), &t->who, &t->sandbox, &t->process,
                                  (uint16_t)order.resize.cols, (uint16_t)order.resize.rows, &err);
    return true;
}

static void read_input(struct terminal *t)
{
    while (!atomic_load(&t->over)) {
        const char *data;
        size_t len, taken;
        struct err err;
        switch (websocket_read(t->ws, LOOK_MS, &data, &len)) {
        case WS_NOTHING:
            break;
        case WS_CLOSED:
            return;
        case WS_TEXT:
            if (!on_text(t, data, len)) {
                note_why(t, "protocol");
                websocket_close(t->ws, 1008, "not an order");
                return;
            }
            break;
        case WS_BINARY:
            atomic_store(&t->active_ms, clock_mono_ms());
            if (core_process_feed(websocket_core(t->ws), &t->who, &t->sandbox, &t->process, data,
                                  len, false, &taken, &err) < 0 &&
                err.code != ERR_CONFLICT) { /* ended: its exit is told */
                note_why(t, "fault");
                websocket_close(t->ws, 1011, err.msg);
                return;
            }
            break;
        }
    }
}

static void session(struct websocket *ws, void *ctx)
{
    struct terminal *t = ctx;
    struct err err;
    t->ws = ws;
    if (websocket_alive(ws) && websocket_run(ws, writer, t, &err) == 0) {
        core_use_begin(websocket_core(ws), &t->sandbox);
        read_input(t);
        atomic_store(&t->over, true);
        mu_lock(&t->lock);
        while (!t->writer_ended)
            cond_wait(&t->ended, &t->lock);
        mu_unlock(&t->lock);
        core_use_end(websocket_core(ws), &t->sandbox);
    }
    note_why(t, websocket_stalled(ws) ? "stalled" : "left");
    if (core_process_note(websocket_core(ws), &t->who, &t->sandbox, &t->process, "terminal.detach",
                          t->remote, atomic_load(&t->why), &err) < 0)
        log_warn("terminal.not_noted", KV_STR("id", t->process.text), KV_ERR(&err));
    free_terminal(t);
}

/* --- the handshake --- */

/* Checked by its row of params.c. */
static uint16_t number(const struct req *r, const char *name, uint16_t otherwise)
{
    const char *text = req_query(r, name);
    uint64_t v = otherwise;
    if (text)
        (void)str_u64(text, &v);
    return (uint16_t)v;
}

/* *ret_action: what the audit calls it. */
static int open_process(struct req *r, struct sandbox_id *ret, const char **ret_action,
                        struct err *err)
{
    const char *process = req_query(r, "process");
    struct process p;
    if (process) {
        struct err bad;
        if (sandbox_id_parse(process, ret, &bad) < 0)
            return err_set(err, ERR_NOT_FOUND, "there is no such process");
        if (core_process_get(req_core(r), req_caller(r), req_id(r), ret, &p, err) < 0)
            return -1;
        bool pty = p.pty;
        process_release(&p);
        *ret_action = "terminal.attach";
        return pty ? 0 : err_set(err, ERR_CONFLICT, "the process has no terminal");
    }
    char *argv_items[] = { (char[]){ "/bin/sh" }, (char[]){ "-c" }, (char[]){ SHELL } };
    struct strv argv = { argv_items, 3 };
    struct process_spec spec = { .argv = &argv,
                                 .cols = number(r, "cols", 80),
                                 .rows = number(r, "rows", 24) };
    if (core_process_start(req_core(r), req_caller(r), req_id(r), &spec, &p, err) < 0)
        return -1;
    *ret = p.id;
    *ret_action = "terminal.open";
    process_release(&p);
    return 0;
}

void terminal_open(struct req *r)
{
    struct err err;
    struct sandbox_id process;
    struct follow *f;
    struct process p;
    const struct sandbox *s;
    if (core_get(req_core(r), req_caller(r), req_id(r), &s, &err) < 0) {
        req_fail(r, &err);
        return;
    }
    core_unref(s); /* whose it is comes before what is wrong with the request */
    char remote[REMOTE_MAX];
    const char *action;
    req_remote(r, remote);
    if (websocket_check(r, &err) < 0 || open_process(r, &process, &action, &err) < 0 ||
        core_process_note(req_core(r), req_caller(r), req_id(r), &process, action, remote, NULL,
                          &err) < 0 ||
        core_follow(req_core(r), req_caller(r), req_id(r), &process, &f, &err) < 0) {
        req_fail(r, &err); /* what was started is ended when nobody looks at it */
        return;
    }
    struct terminal *t = mem_new(1, sizeof *t);
    follow_process(f, &p);
    t->from = p.bytes > SCROLL_BACK ? p.bytes - SCROLL_BACK : 0;
    process_release(&p);
    t->who = *req_caller(r); /* its texts live as long as the settings */
    t->sandbox = *req_id(r);
    t->process = process;
    t->follow = f;
    memcpy(t->remote, remote, sizeof remote);
    atomic_store(&t->active_ms, clock_mono_ms());
    mu_init(&t->lock, MU_REQ);
    cond_init(&t->ended);
    websocket_accept(r, session, t);
}
