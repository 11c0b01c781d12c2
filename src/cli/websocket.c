/* A WebSocket over a connection that libcurl dialled (so that proxies and TLS are its business);
 * frames are wslay's. */
#include "websocket.h"

#include <curl/curl.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <wslay/wslay.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/limits.h"
#include "base/str.h"
#include "wire/base64.h"
#include "wire/handshake.h"

#define HEAD_MAX (16 * KIB)
#define MESSAGE_MAX (1 * MIB)
#define REASON_MAX 124   /* with NUL: a close has 125 bytes at most, two of them its code */
#define ANSWER_MS 120000 /* the sandbox may have to be woken first */

struct web_socket {
    const struct http *http;
    CURL *easy;
    curl_socket_t fd;
    struct buf early; /* what came behind the head */
    size_t early_at;
    wslay_event_context_ptr frames;
    bool eof;
    char reason[REASON_MAX]; /* why the peer closed, in its words */
    void (*on_message)(void *ctx, bool binary, const char *data, size_t len);
    void *ctx;
};

/* --- handshake --- */

/* Value of a header in a head; its length in *ret_len. */
static const char *header(const char *head, size_t len, const char *name, size_t *ret_len)
{
    size_t name_len = strlen(name);
    const char *end = head + len;
    for (const char *line = head; line < end;) {
        const char *stop = memchr(line, '\n', (size_t)(end - line));
        size_t n = stop ? (size_t)(stop - line) : (size_t)(end - line);
        if (n > name_len && line[name_len] == ':' && strncasecmp(line, name, name_len) == 0) {
            const char *value = line + name_len + 1, *last = line + n;
            while (value < last && (*value == ' ' || *value == '\t'))
                value++;
            while (last > value && (last[-1] == ' ' || last[-1] == '\r'))
                last--;
            *ret_len = (size_t)(last - value);
            return value;
        }
        line += n + 1;
    }
    return NULL;
}

int handshake_parse(const char *head, size_t len, const char *accept, int *ret_status,
                    size_t *ret_body_len, struct err *err)
{
    size_t n = 0;
    uint64_t body_len = 0;
    char number[16] = "";
    if (len < 12 || memcmp(head, "HTTP/1.1 ", 9) != 0 || strspn(head + 9, "0123456789") != 3)
        return err_set(err, ERR_INVALID, "the server does not answer as one of HTTP");
    int status = (head[9] - '0') * 100 + (head[10] - '0') * 10 + (head[11] - '0');
    const char *value = header(head, len, "Sec-WebSocket-Accept", &n);
    if (status == 101 && (!value || n != strlen(accept) || memcmp(value, accept, n) != 0))
        return err_set(err, ERR_INVALID, "the server does not speak WebSocket");
    value = header(head, len, "Content-Length", &n);
    if (status != 101 && value && n < sizeof number) {
        memcpy(number, value, n);
        number[n] = '\0';
        if (!str_u64(number, &body_len) || body_len > HEAD_MAX)
            body_len = 0;
    }
    *ret_status = status;
    *ret_body_len = (size_t)body_len;
    return 0;
}

static int send_all(struct web_socket *w, const char *data, size_t len, int64_t deadline)
{
    while (len > 0) {
        size_t n = 0;
        CURLcode rc = curl_easy_send(w->easy, data, len, &n);
        if (rc == CURLE_AGAIN && fd_wait(w->fd, POLLOUT, deadline) == 1)
            continue;
        if (rc != CURLE_OK)
            return -1;
        data += n;
        len -= n;
    }
    return 0;
}

/* Some more of what comes; -1 at the end of it. */
static int receive(struct web_socket *w, struct buf *b, int64_t deadline)
{
    for (;;) {
        size_t n = 0;
        char *room = buf_room(b, 4 * KIB);
        CURLcode rc = room ? curl_easy_recv(w->easy, room, 4 * KIB, &n) : CURLE_OUT_OF_MEMORY;
        if (rc == CURLE_AGAIN && fd_wait(w->fd, POLLIN, deadline) == 1)
            continue;
        if (rc != CURLE_OK || n == 0)
            return -1;
        buf_grew(b, n);
        return 0;
    }
}

static void ask(const struct web_socket *w, const char *path, const char *key, struct buf *b)
{
    const char *host = strstr(http_url(w->http), "://") + 3;
    const char *prefix = host + strcspn(host, "/"); /* of an API below a path */
    const char *authorization = http_authorization(w->http);
    buf_addf(b, "GET %s%s HTTP/1.1\r\nHost: %.*s\r\n", prefix, path, (int)(prefix - host), host);
    buf_addf(b, "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n");
    buf_addf(b, "Sec-WebSocket-Key: %s\r\n%s%s\r\n", key, authorization ? authorization : "",
             authorization ? "\r\n" : "");
}

/* 16 bytes in base64 with padding, which our encoder for URLs has not. */
static void make_key(char out[25])
{
    AUTO(buf) struct buf b = BUF_INIT(64);
    uint8_t bytes[16];
    random_bytes(bytes, sizeof bytes);
    base64url_encode(&b, bytes, sizeof bytes);
    for (size_t i = 0; i < 22; i++)
        out[i] = b.data[i] == '-' ? '+' : b.data[i] == '_' ? '/' : b.data[i];
    memcpy(out + 22, "==", 3);
}

static int shake_hands(struct web_socket *w, const char *path, struct err *err)
{
    char key[25], accept[WEBSOCKET_ACCEPT_MAX];
    AUTO(buf) struct buf head = BUF_INIT(HEAD_MAX);
    AUTO(buf) struct buf in = BUF_INIT(3 * HEAD_MAX);
    int64_t deadline = clock_mono_ms() + ANSWER_MS;
    const char *end = NULL;
    int status;
    size_t body_len;
    make_key(key);
    websocket_accept_key(key, accept);
    ask(w, path, key, &head);
    if (buf_done(&head, err) < 0)
        return -1;
    int rc = send_all(w, buf_str(&head), head.len, deadline);
    while (rc == 0 && !(end = strstr(buf_str(&in), "\r\n\r\n")))
        rc = receive(w, &in, deadline);
    if (!end)
        return err_set(err, ERR_UNAVAILABLE, "%s: no answer to the handshake", http_url(w->http));
    size_t head_len = (size_t)(end - buf_str(&in)) + 4;
    if (handshake_parse(buf_str(&in), head_len, accept, &status, &body_len, err) < 0)
        return -1;
    while (status != 101 && in.len < head_len + body_len && receive(w, &in, deadline) == 0)
        ;
    if (status != 101)
        return http_error(status, buf_str(&in) + head_len, in.len - head_len, err);
    buf_add(&w->early, buf_str(&in) + head_len, in.len - head_len);
    return 0;
}

/* --- frames --- */

static ssize_t on_recv(wslay_event_context_ptr frames, uint8_t *out, size_t len, int flags,
                       void *ctx)
{
    struct web_socket *w = ctx;
    size_t n = 0;
    (void)flags;
    if (w->early_at < w->early.len) {
        n = w->early.len - w->early_at < len ? w->early.len - w->early_at : len;
        memcpy(out, w->early.data + w->early_at, n);
        w->early_at += n;
        return (ssize_t)n;
    }
    CURLcode rc = curl_easy_recv(w->easy, out, len, &n);
    if (rc == CURLE_OK && n > 0)
        return (ssize_t)n;
    w->eof = rc != CURLE_AGAIN;
    wslay_event_set_error(frames, w->eof ? WSLAY_ERR_CALLBACK_FAILURE : WSLAY_ERR_WOULDBLOCK);
    return -1;
}

static ssize_t on_send(wslay_event_context_ptr frames, const uint8_t *data, size_t len, int flags,
                       void *ctx)
{
    struct web_socket *w = ctx;
    size_t n = 0;
    (void)flags;
    CURLcode rc = curl_easy_send(w->easy, data, len, &n);
    if (rc == CURLE_OK)
        return (ssize_t)n;
    wslay_event_set_error(frames,
                          rc == CURLE_AGAIN ? WSLAY_ERR_WOULDBLOCK : WSLAY_ERR_CALLBACK_FAILURE);
    return -1;
}

static int on_mask(wslay_event_context_ptr frames, uint8_t *out, size_t len, void *ctx)
{
    (void)frames;
    (void)ctx;
    random_bytes(out, len);
    return 0;
}

static void on_msg(wslay_event_context_ptr frames, const struct wslay_event_on_msg_recv_arg *m,
                   void *ctx)
{
    struct web_socket *w = ctx;
    (void)frames;
    if (m->opcode == WSLAY_CONNECTION_CLOSE && m->msg_length > 2)
        (void)snprintf(w->reason, sizeof w->reason, "%.*s", (int)m->msg_length - 2, m->msg + 2);
    if (!wslay_is_ctrl_frame(m->opcode))
        w->on_message(w->ctx, m->opcode == WSLAY_BINARY_FRAME, (const char *)m->msg, m->msg_length);
}

/* --- life --- */

int web_socket_open(struct http *h, const char *path, struct web_socket **ret, struct err *err)
{
    static const struct wslay_event_callbacks callbacks = {
        .recv_callback = on_recv,
        .send_callback = on_send,
        .genmask_callback = on_mask,
        .on_msg_recv_callback = on_msg,
    };
    struct web_socket *w = mem_new(1, sizeof *w);
    w->http = h;
    w->early = (struct buf)BUF_INIT(3 * HEAD_MAX);
    w->easy = http_easy(h, "");
    (void)curl_easy_setopt(w->easy, CURLOPT_CONNECT_ONLY, 1L);
    (void)curl_easy_setopt(w->easy, CURLOPT_HTTPPROXYTUNNEL, 1L);
    CURLcode rc = curl_easy_perform(w->easy);
    if (rc == CURLE_OK)
        rc = curl_easy_getinfo(w->easy, CURLINFO_ACTIVESOCKET, &w->fd);
    int done = rc == CURLE_OK ? shake_hands(w, path, err) : http_trouble(h, (int)rc, err);
    if (done < 0) {
        web_socket_free(w);
        return -1;
    }
    if (wslay_event_context_client_init(&w->frames, &callbacks, w) != 0)
        abort(); /* memory is out */
    wslay_event_config_set_max_recv_msg_length(w->frames, MESSAGE_MAX);
    *ret = w;
    return 0;
}

void web_socket_free(struct web_socket *w)
{
    if (!w)
        return;
    if (w->frames)
        wslay_event_context_free(w->frames);
    curl_easy_cleanup(w->easy);
    buf_release(&w->early);
    free(w);
}

int web_socket_fd(const struct web_socket *w)
{
    return w->fd;
}

const char *web_socket_reason(const struct web_socket *w)
{
    return w->reason;
}

size_t web_socket_waiting(const struct web_socket *w)
{
    return wslay_event_get_queued_msg_length(w->frames);
}

void web_socket_send(struct web_socket *w, bool binary, const void *data, size_t len)
{
    const struct wslay_event_msg m = { binary ? WSLAY_BINARY_FRAME : WSLAY_TEXT_FRAME, data, len };
    (void)wslay_event_queue_msg(w->frames, &m); /* closing already: the next step tells */
}

int web_socket_step(struct web_socket *w,
                    void (*on_message)(void *ctx, bool binary, const char *data, size_t len),
                    void *ctx, struct err *err)
{
    w->on_message = on_message;
    w->ctx = ctx;
    int rc = wslay_event_recv(w->frames);
    if (rc == 0)
        rc = wslay_event_send(w->frames);
    if (wslay_event_get_close_received(w->frames))
        return 0;
    if (rc != 0 || w->eof)
        return err_set(err, ERR_UNAVAILABLE, "the connection broke");
    return 1;
}
