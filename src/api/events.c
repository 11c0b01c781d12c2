/* Answers that go on: server-sent events or lines of JSON, shared by whatever streams. */
#include "events.h"

#include <strings.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/limits.h"
#include "base/str.h"
#include "wire/base64.h"
#include "wire/sse.h"

#define PIECE (64 * KIB) /* of output in one event */

int events_begin(struct events *e)
{
    static const char *const types[] = {
        [EVENTS_SSE] = "text/event-stream",
        [EVENTS_NDJSON] = "application/x-ndjson",
        [EVENTS_TEXT] = "text/plain; charset=utf-8",
    };
    if (!req_streaming(e->r)) {
        req_header(e->r, "X-Accel-Buffering", "no"); /* proxies: pass it on as it comes */
        req_stream_begin(e->r, e->status ? e->status : 200, types[e->format], STREAM_UNKNOWN);
    }
    e->wrote_ms = clock_mono_ms();
    return 0;
}

int events_send(struct events *e)
{
    struct err bad;
    int rc = buf_done(&e->frame, &bad);
    if (rc == 0 && events_begin(e) == 0)
        rc = req_write(e->r, buf_str(&e->frame), e->frame.len);
    buf_reset(&e->frame);
    return rc;
}

/* An event opens here and is sent by events_close: {"type":…} as a line, or an SSE frame. */
void events_open(struct events *e, struct json_out *o, const char *type)
{
    json_open(o, NULL);
    if (e->format == EVENTS_NDJSON)
        json_put(o, "type", type);
}

int events_close(struct events *e, struct json_out *o, const char *type)
{
    struct err bad;
    json_close(o);
    if (buf_done(o->b, &bad) < 0)
        return -1;
    if (e->format == EVENTS_SSE) {
        sse_event(&e->frame, e->id, type, buf_str(o->b));
    } else {
        buf_add(&e->frame, buf_str(o->b), o->b->len);
        buf_addc(&e->frame, '\n');
    }
    return events_send(e);
}

static const char *const stream_names[] = { "stdout", "stderr" };

/* Bytes that are text go as "data", others as "base64". */
static int send_bytes(struct events *e, enum exec_stream which, const char *data, size_t len,
                      int64_t at)
{
    AUTO(buf) struct buf b = BUF_INIT(8 * PIECE);
    struct json_out o = JSON_OUT(&b);
    events_open(e, &o, stream_names[which]);
    if (at >= 0) {
        json_put_int(&o, "offset", at);
        e->id = at + (int64_t)len;
    }
    if (str_utf8(data, len)) {
        json_put_n(&o, "data", data, len);
    } else {
        AUTO(buf) struct buf text = BUF_INIT(2 * PIECE);
        base64_encode(&text, data, len);
        json_put_n(&o, "base64", buf_str(&text), text.len);
    }
    return events_close(e, &o, stream_names[which]);
}

/* What was held back, as it is. */
static int send_tail(struct events *e, enum exec_stream which)
{
    size_t len = e->tail[which].len;
    e->tail[which].len = 0;
    return len ? send_bytes(e, which, e->tail[which].bytes, len, e->tail_at[which]) : 0;
}

/* A character split between two reads is held back and joined. */
static int send_piece(struct events *e, enum exec_stream which, const char *data, size_t len,
                      int64_t at)
{
    struct utf8_tail *tail = &e->tail[which];
    AUTO(buf) struct buf joined = BUF_INIT(PIECE + sizeof(tail->bytes));
    if (tail->len > 0) {
        buf_add(&joined, tail->bytes, tail->len);
        buf_add(&joined, data, len);
        data = buf_str(&joined);
        len = joined.len;
        at = at < 0 ? -1 : e->tail_at[which];
    }
    size_t held = utf8_open(data, len);
    int rc = len > held ? send_bytes(e, which, data, len - held, at) : 0;
    memcpy(tail->bytes, data + len - held, held);
    tail->len = held;
    e->tail_at[which] = at < 0 ? -1 : at + (int64_t)(len - held);
    return rc;
}

int events_output(struct events *e, enum exec_stream which, const char *data, size_t len,
                  int64_t at)
{
    enum exec_stream other = which == EXEC_STDOUT ? EXEC_STDERR : EXEC_STDOUT;
    /* With offsets every byte before an event's id must have been sent: the other stream, or a gap,
     * cuts a character for good. */
    if (at >= 0 && send_tail(e, other) < 0)
        return -1;
    if (at >= 0 && e->tail[which].len && e->tail_at[which] + (int64_t)e->tail[which].len != at &&
        send_tail(e, which) < 0)
        return -1;
    while (len > 0) {
        size_t n = len < PIECE ? len : PIECE;
        if (send_piece(e, which, data, n, at) < 0)
            return -1;
        data += n;
        len -= n;
        at = at < 0 ? -1 : at + (int64_t)n;
    }
    return 0;
}

int events_rest(struct events *e)
{
    return send_tail(e, EXEC_STDOUT) < 0 || send_tail(e, EXEC_STDERR) < 0 ? -1 : 0;
}

int events_error(struct events *e, const struct err *err)
{
    AUTO(buf) struct buf b = BUF_INIT(4 * KIB);
    struct json_out o = JSON_OUT(&b);
    events_open(e, &o, "error");
    render_error(&o, "error", err, req_request_id(e->r));
    return events_close(e, &o, "error");
}

/* A filler keeps proxies from closing a silent stream, and makes a write fail where the client has
 * left without a word. */
static bool filler_failed(struct events *e)
{
    if (e->format == EVENTS_SSE)
        sse_comment(&e->frame, "keep-alive");
    else
        buf_addc(&e->frame, '\n'); /* readers of NDJSON skip empty lines */
    return events_send(e) < 0;
}

bool events_gone(struct events *e)
{
    bool fills = e->format == EVENTS_SSE || e->format == EVENTS_NDJSON;
    enum req_presence p = req_presence(e->r);
    if (p == REQ_GONE || (p == REQ_DOUBTFUL && !fills))
        return true;
    if (!req_streaming(e->r) || !fills)
        return false;
    bool due = e->format == EVENTS_SSE && clock_mono_ms() - e->wrote_ms >= HTTP_SSE_COMMENT_MS;
    return (p == REQ_DOUBTFUL || due) && filler_failed(e);
}

bool events_over(struct events *e)
{
    struct err err;
    if (!req_stopping(e->r))
        return events_gone(e);
    (void)err_set(&err, ERR_SHUTDOWN, "the daemon is shutting down; ask again where this ended");
    if (e->format != EVENTS_TEXT)
        (void)events_error(e, &err); /* a client that has left needs no word */
    return true;
}

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

enum events_format events_wanted(const struct req *r, enum events_format otherwise)
{
    const char *accept = req_heads(r)->accept;
    if (accepts(accept, "text/event-stream"))
        return EVENTS_SSE;
    if (accepts(accept, "application/x-ndjson"))
        return EVENTS_NDJSON;
    return otherwise;
}

const char *events_signal(uint32_t n, char out[16])
{
    const char *name = n ? sigabbrev_np((int)n) : NULL;
    if (name)
        (void)snprintf(out, 16, "SIG%s", name);
    else
        (void)snprintf(out, 16, "SIG%u", n);
    return out;
}
