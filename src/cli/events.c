/* Lines of JSON into events. */
#include "events.h"

#include <string.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "wire/base64.h"

void events_release(struct events *e)
{
    buf_release(&e->line);
    buf_release(&e->bytes);
}

static int take_bytes(struct events *e, struct event *event, struct err *err)
{
    const char *text = json_text(json_key(event->json, "data"));
    const char *base64 = json_text(json_key(event->json, "base64"));
    buf_reset(&e->bytes);
    if (base64 && base64_decode(base64, strlen(base64), &e->bytes, err) < 0)
        return -1;
    event->data = base64 ? buf_str(&e->bytes) : text;
    event->len = base64 ? e->bytes.len : text ? strlen(text) : 0;
    return 0;
}

static int on_line(struct events *e, const char *line, size_t len, event_fn fn, void *ctx,
                   struct err *err)
{
    AUTO(json) struct json *j = NULL;
    if (len == 0)
        return 0;
    if (json_parse(line, len, &j, err) < 0)
        return -1;
    struct event event = { .type = json_text(json_key(j, "type")), .line = line, .json = j };
    if (!event.type)
        return err_set(err, ERR_INVALID, "an event without a type came");
    if (take_bytes(e, &event, err) < 0)
        return -1;
    return fn(ctx, &event, err);
}

int events_feed(struct events *e, const char *data, size_t len, event_fn fn, void *ctx,
                struct err *err)
{
    while (len > 0) {
        const char *end = memchr(data, '\n', len);
        size_t n = end ? (size_t)(end - data) : len;
        buf_add(&e->line, data, n);
        if (e->line.failed)
            return err_set(err, ERR_INVALID, "an event came that is longer than %u bytes",
                           EVENTS_LINE_MAX);
        if (!end)
            return 0;
        int rc = on_line(e, buf_str(&e->line), e->line.len, fn, ctx, err);
        if (rc != 0)
            return rc;
        buf_reset(&e->line);
        data += n + 1;
        len -= n + 1;
    }
    return 0;
}

/* An "error" event looks like the body of a refusal. */
struct guarded {
    event_fn fn;
    void *ctx;
};

static int guard(void *ctx, const struct event *event, struct err *err)
{
    const struct guarded *g = ctx;
    if (str_eq(event->type, "error"))
        return http_error(503, event->line, strlen(event->line), err);
    return g->fn(g->ctx, event, err);
}

int events_run(struct http *h, const struct request *rq, event_fn fn, void *ctx, struct err *err)
{
    AUTO(reply) struct reply *r = NULL;
    AUTO(events) struct events e = EVENTS_INIT;
    struct guarded g = { fn, ctx };
    struct request events_rq = *rq;
    const char *data;
    size_t len;
    int rc;
    events_rq.accept = "application/x-ndjson";
    if (reply_open(h, &events_rq, &r, err) < 0)
        return -1;
    while ((rc = reply_read(r, &data, &len, err)) > 0)
        if ((rc = events_feed(&e, data, len, guard, &g, err)) != 0)
            return rc;
    return rc;
}
