/* Running a command: one whole answer, or its output as it comes in one of three formats.
 *
 * Memory stays flat: a whole answer keeps EXEC_OUTPUT_KEEP bytes of each stream and counts the
 * rest; a stream waits for its client, and the command's pipes fill behind it. */
#include <inttypes.h>
#include <strings.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/limits.h"
#include "base/str.h"
#include "handlers.h"
#include "render.h"
#include "shapes.h"
#include "utf8.h"
#include "wire/sse.h"

#define REPLY_MAX (16 * MIB) /* both streams kept whole, every byte escaped */
#define PIECE (64 * KIB)     /* of output in one event */

enum format { FORMAT_WHOLE, FORMAT_SSE, FORMAT_NDJSON, FORMAT_TEXT };

struct run {
    struct req *r;
    enum format format;
    struct buf kept[2]; /* WHOLE: both; TEXT: stderr */
    struct utf8_tail tail[2];
    struct buf frame;
    int64_t wrote_ms;
    bool line_open; /* TEXT: stdout does not end with a newline so far */
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

static const char *signal_name(uint32_t n, char out[16])
{
    const char *name = n ? sigabbrev_np((int)n) : NULL;
    if (name)
        (void)snprintf(out, 16, "SIG%s", name);
    else
        (void)snprintf(out, 16, "SIG%u", n);
    return out;
}

static void put_result(struct json_out *o, const struct exec_result *res)
{
    char name[16];
    json_put_int(o, "exit_code", res->code);
    if (res->signal)
        json_put(o, "signal", signal_name(res->signal, name));
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
    req_reply_json(run->r, 200, &b);
}

/* --- streams --- */

static int begin(struct run *run)
{
    static const char *const types[] = {
        [FORMAT_SSE] = "text/event-stream",
        [FORMAT_NDJSON] = "application/x-ndjson",
        [FORMAT_TEXT] = "text/plain; charset=utf-8",
    };
    if (!req_streaming(run->r)) {
        req_header(run->r, "X-Accel-Buffering", "no"); /* proxies: pass it on as it comes */
        req_stream_begin(run->r, 200, types[run->format], STREAM_UNKNOWN);
    }
    run->wrote_ms = clock_mono_ms();
    return 0;
}

static int send_out(struct run *run)
{
    struct err bad;
    int rc = buf_done(&run->frame, &bad);
    if (rc == 0 && begin(run) == 0)
        rc = req_write(run->r, buf_str(&run->frame), run->frame.len);
    buf_reset(&run->frame);
    return rc;
}

/* An event opens here and is sent by event_end: {"type":…} as a line, or an SSE frame. */
static void event_begin(struct run *run, struct json_out *o, const char *type)
{
    json_open(o, NULL);
    if (run->format == FORMAT_NDJSON)
        json_put(o, "type", type);
}

static int event_end(struct run *run, struct json_out *o, const char *type)
{
    struct err bad;
    json_close(o);
    if (buf_done(o->b, &bad) < 0)
        return -1;
    if (run->format == FORMAT_SSE) {
        sse_event(&run->frame, -1, type, buf_str(o->b));
    } else {
        buf_add(&run->frame, buf_str(o->b), o->b->len);
        buf_addc(&run->frame, '\n');
    }
    return send_out(run);
}

static const char *const stream_names[] = { "stdout", "stderr" };

static void base64(struct buf *b, const uint8_t *p, size_t len)
{
    static const char letters[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < len; i += 3) {
        uint32_t n = (uint32_t)p[i] << 16;
        n |= i + 1 < len ? (uint32_t)p[i + 1] << 8 : 0;
        n |= i + 2 < len ? p[i + 2] : 0;
        buf_addc(b, letters[n >> 18]);
        buf_addc(b, letters[(n >> 12) & 63]);
        buf_addc(b, i + 1 < len ? letters[(n >> 6) & 63] : '=');
        buf_addc(b, i + 2 < len ? letters[n & 63] : '=');
    }
}

/* Bytes that are text go as "data", others as "base64". */
static int send_bytes(struct run *run, enum exec_stream which, const char *data, size_t len)
{
    AUTO(buf) struct buf b = BUF_INIT(8 * PIECE);
    struct json_out o = JSON_OUT(&b);
    event_begin(run, &o, stream_names[which]);
    if (str_utf8(data, len)) {
        json_put_n(&o, "data", data, len);
    } else {
        AUTO(buf) struct buf text = BUF_INIT(2 * PIECE);
        base64(&text, (const uint8_t *)data, len);
        json_put_n(&o, "base64", buf_str(&text), text.len);
    }
    return event_end(run, &o, stream_names[which]);
}

/* A character split between two reads is held back and joined. */
static int send_piece(struct run *run, enum exec_stream which, const char *data, size_t len)
{
    struct utf8_tail *tail = &run->tail[which];
    AUTO(buf) struct buf joined = BUF_INIT(PIECE + sizeof(tail->bytes));
    if (tail->len > 0) {
        buf_add(&joined, tail->bytes, tail->len);
        buf_add(&joined, data, len);
        data = buf_str(&joined);
        len = joined.len;
    }
    size_t held = utf8_open(data, len);
    int rc = len > held ? send_bytes(run, which, data, len - held) : 0;
    memcpy(tail->bytes, data + len - held, held);
    tail->len = held;
    return rc;
}

static int send_events(struct run *run, enum exec_stream which, const char *data, size_t len)
{
    while (len > 0) {
        size_t n = len < PIECE ? len : PIECE;
        if (send_piece(run, which, data, n) < 0)
            return -1;
        data += n;
        len -= n;
    }
    return 0;
}

static int send_exit(struct run *run, const struct exec_result *res)
{
    AUTO(buf) struct buf b = BUF_INIT(4 * KIB);
    struct json_out o = JSON_OUT(&b);
    for (int i = 0; i < 2; i++)
        if (run->tail[i].len > 0 &&
            send_bytes(run, (enum exec_stream)i, run->tail[i].bytes, run->tail[i].len) < 0)
            return -1;
    event_begin(run, &o, "exit");
    put_result(&o, res);
    put_bytes(&o, res);
    return event_end(run, &o, "exit");
}

static int send_error(struct run *run, const struct err *err)
{
    AUTO(buf) struct buf b = BUF_INIT(4 * KIB);
    struct json_out o = JSON_OUT(&b);
    event_begin(run, &o, "error");
    render_error(&o, "error", err, req_request_id(run->r));
    return event_end(run, &o, "error");
}

/* The reference's trailer: a line ---stderr--- and stderr, unless that is blank; the exit code. */
static int send_trailer(struct run *run, const struct exec_result *res)
{
    const struct buf *errors = &run->kept[EXEC_STDERR];
    bool blank = strspn(buf_str(errors), " \t\r\n") == errors->len;
    struct buf *f = &run->frame;
    buf_adds(f, run->line_open ? "\n" : "");
    if (!blank) {
        buf_adds(f, "---stderr---\n");
        buf_add(f, buf_str(errors), errors->len);
        buf_adds(f, errors->data[errors->len - 1] == '\n' ? "" : "\n");
    }
    buf_addf(f, "exit_code: %d\n", res->code);
    return send_out(run);
}

/* --- the sink that core fills --- */

static int on_started(void *ctx, uint32_t pid)
{
    struct run *run = ctx;
    if (run->format == FORMAT_WHOLE)
        return 0;
    if (run->format == FORMAT_TEXT)
        return begin(run);
    AUTO(buf) struct buf b = BUF_INIT(1 * KIB);
    struct json_out o = JSON_OUT(&b);
    event_begin(run, &o, "started");
    json_put_int(&o, "pid", pid);
    return event_end(run, &o, "started");
}

static int on_output(void *ctx, enum exec_stream which, const void *data, size_t len)
{
    struct run *run = ctx;
    if (run->format == FORMAT_WHOLE || (run->format == FORMAT_TEXT && which == EXEC_STDERR)) {
        keep(&run->kept[which], data, len);
        return 0;
    }
    if (run->format == FORMAT_TEXT) {
        if (len == 0)
            return 0;
        run->line_open = ((const char *)data)[len - 1] != '\n';
        return begin(run) < 0 ? -1 : req_write(run->r, data, len);
    }
    return send_events(run, which, data, len);
}

/* A filler keeps proxies from closing a silent stream, and makes a write fail where the client has
 * left without a word. */
static bool filler_failed(struct run *run)
{
    if (run->format == FORMAT_SSE)
        sse_comment(&run->frame, "keep-alive");
    else
        buf_addc(&run->frame, '\n'); /* readers of NDJSON skip empty lines */
    return send_out(run) < 0;
}

static bool on_gone(void *ctx)
{
    struct run *run = ctx;
    bool fills = run->format == FORMAT_SSE || run->format == FORMAT_NDJSON;
    enum req_presence p = req_presence(run->r);
    if (p == REQ_GONE || (p == REQ_DOUBTFUL && !fills))
        return true;
    if (!req_streaming(run->r) || !fills)
        return false;
    bool due = run->format == FORMAT_SSE && clock_mono_ms() - run->wrote_ms >= HTTP_SSE_COMMENT_MS;
    return (p == REQ_DOUBTFUL || due) && filler_failed(run);
}

/* --- the handler --- */

static bool accepts(const char *accept, const char *type)
{
    size_t len = strlen(type);
    while (accept && *accept) {
        accept += strspn(accept, " \t,");
        size_t word = strcspn(accept, " \t,;");
        if (word == len && strncasecmp(accept, type, len) == 0)
            return true;
        accept += strcspn(accept, ",");
    }
    return false;
}

static enum format choose(const struct req *r, const struct exec_body *b)
{
    const char *accept = req_heads(r)->accept;
    if (accepts(accept, "text/event-stream"))
        return FORMAT_SSE;
    if (accepts(accept, "application/x-ndjson"))
        return FORMAT_NDJSON;
    return b->stream ? FORMAT_TEXT : FORMAT_WHOLE;
}

static void finish(struct run *run, int rc, const struct exec_result *res, bool detached,
                   const struct err *err)
{
    bool events = run->format == FORMAT_SSE || run->format == FORMAT_NDJSON;
    if (rc < 0 && !req_streaming(run->r)) {
        if (err->code != ERR_CANCELLED)
            req_fail(run->r, err);
        return;
    }
    if (run->format == FORMAT_WHOLE) {
        reply_whole(run, res, detached);
        return;
    }
    if (rc < 0 && events) {
        rc = send_error(run, err);
    } else if (rc < 0) {
        buf_addf(&run->frame, "%sinternal-error: %s\n", run->line_open ? "\n" : "", err->msg);
        rc = send_out(run);
    } else if (!detached) {
        rc = events ? send_exit(run, res) : send_trailer(run, res);
    } else if (!req_streaming(run->r)) {
        rc = begin(run);
    }
    req_stream_end(run->r, rc < 0);
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
    struct run run = { .r = r,
                       .format = choose(r, b),
                       .kept = { BUF_INIT(EXEC_OUTPUT_KEEP), BUF_INIT(EXEC_OUTPUT_KEEP) },
                       .frame = BUF_INIT(8 * PIECE + EXEC_OUTPUT_KEEP) };
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
    finish(&run, rc, &res, b->detach, &err);
    strv_release(&argv);
    buf_release(&run.kept[0]);
    buf_release(&run.kept[1]);
    buf_release(&run.frame);
}
