/* Streams of events and answers to a handshake, taken apart. */
#include <string.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "check.h"
#include "events.h"
#include "websocket.h"

/* --- events --- */

static int collect(void *ctx, const struct event *e, struct err *err)
{
    struct buf *b = ctx;
    (void)err;
    buf_addf(b, "%s:", e->type);
    if (e->data)
        buf_add(b, e->data, e->len);
    buf_addc(b, ';');
    return str_eq(e->type, "exit");
}

static const struct {
    const char *name, *in, *want;
    int rc;
} streams[] = {
    { "text", "{\"type\":\"stdout\",\"data\":\"a\\nb\"}\n", "stdout:a\nb;", 0 },
    { "bytes", "{\"type\":\"stderr\",\"base64\":\"//4=\"}\n", "stderr:\xff\xfe;", 0 },
    { "keep-alive", "\n\n{\"type\":\"stdout\",\"data\":\"x\"}\n\n", "stdout:x;", 0 },
    { "ends", "{\"type\":\"exit\"}\n{\"type\":\"stdout\",\"data\":\"x\"}\n", "exit:;", 1 },
    { "other", "{\"type\":\"ready\",\"directories\":3}\n", "ready:;", 0 },
    { "cut", "{\"type\":\"stdout\",\"data\":\"x\"}", "", 0 },
    { "no JSON", "hello\n", "", -1 },
    { "no type", "{\"data\":\"x\"}\n", "", -1 },
    { "no object", "[1]\n", "", -1 },
    { "odd base64", "{\"type\":\"stdout\",\"base64\":\"*\"}\n", "", -1 },
};

static void check_streams(void)
{
    struct err err;
    for (size_t i = 0; i < sizeof streams / sizeof streams[0]; i++) {
        for (size_t step = 1; step < 50; step += 7) { /* in pieces of several sizes */
            AUTO(events) struct events e = EVENTS_INIT;
            AUTO(buf) struct buf got = BUF_INIT(1000);
            size_t n = strlen(streams[i].in);
            int rc = 0;
            for (size_t at = 0; at < n && rc == 0; at += step)
                rc = events_feed(&e, streams[i].in + at, n - at < step ? n - at : step, collect,
                                 &got, &err);
            CHECK_ROW(streams[i].name,
                      rc == streams[i].rc &&
                          strncmp(buf_str(&got), streams[i].want, strlen(streams[i].want)) == 0 &&
                          (*streams[i].want || got.len == 0));
        }
    }
    AUTO(events) struct events e = EVENTS_INIT;
    AUTO(buf) struct buf got = BUF_INIT(1000);
    static char much[1 << 20];
    memset(much, ' ', sizeof much);
    int rc = 0;
    for (int i = 0; i < 20 && rc == 0; i++)
        rc = events_feed(&e, much, sizeof much, collect, &got, &err);
    CHECK_ROW("endless line", rc < 0);
}

/* --- handshakes --- */

static const struct {
    const char *name, *head;
    int status; /* -1: refused */
    size_t body_len;
} heads[] = {
    { "accepted", "HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: right\r\n\r\n", 101,
      0 },
    { "case, space", "HTTP/1.1 101 x\r\nsec-websocket-accept:\t right \r\n\r\n", 101, 0 },
    { "wrong", "HTTP/1.1 101 x\r\nSec-WebSocket-Accept: wrong\r\n\r\n", -1, 0 },
    { "longer", "HTTP/1.1 101 x\r\nSec-WebSocket-Accept: right!\r\n\r\n", -1, 0 },
    { "missing", "HTTP/1.1 101 x\r\n\r\n", -1, 0 },
    { "refused", "HTTP/1.1 404 Not Found\r\nContent-Length: 17\r\n\r\n", 404, 17 },
    { "no length", "HTTP/1.1 500 x\r\n\r\n", 500, 0 },
    { "odd length", "HTTP/1.1 500 x\r\nContent-Length: -1\r\n\r\n", 500, 0 },
    { "huge length", "HTTP/1.1 500 x\r\nContent-Length: 99999999\r\n\r\n", 500, 0 },
    { "no HTTP", "SSH-2.0-OpenSSH_9.2p1\r\n\r\n", -1, 0 },
    { "short", "HTTP/1.1", -1, 0 },
    { "old", "HTTP/1.0 101 x\r\nSec-WebSocket-Accept: right\r\n\r\n", -1, 0 },
    { "no status", "HTTP/1.1 abc x\r\n\r\n", -1, 0 },
};

int main(void)
{
    struct err err;
    check_streams();
    for (size_t i = 0; i < sizeof heads / sizeof heads[0]; i++) {
        int status = -1;
        size_t len = 0;
        int rc =
            handshake_parse(heads[i].head, strlen(heads[i].head), "right", &status, &len, &err);
        CHECK_ROW(heads[i].name, (rc == 0) == (heads[i].status >= 0) && status == heads[i].status &&
                                     len == heads[i].body_len);
    }
    const char body[] = "{\"error\":{\"code\":\"not_found\",\"message\":\"no such sandbox\","
                        "\"remedy\":\"look\",\"retryable\":false}}";
    CHECK(http_error(404, body, strlen(body), &err) < 0 && err.code == ERR_NOT_FOUND);
    CHECK_STR("no such sandbox", err.msg);
    CHECK_STR("look", err.remedy);
    CHECK(http_error(404, "{\"error\":\"gone\"}", 16, &err) < 0 && err.code == ERR_NOT_FOUND);
    CHECK_STR("gone", err.msg);
    CHECK(http_error(502, "<html>", 6, &err) < 0 && err.code == ERR_UNAVAILABLE);
    return check_done();
}
