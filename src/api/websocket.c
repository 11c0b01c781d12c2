/* A WebSocket after libmicrohttpd has let go of its connection: the descriptor is non-blocking and
 * ours until the session returns.
 *
 * Two threads may want to send (output, and the answer to a ping): a ticket says whose turn it is,
 * so that no lock is held while the network is slow. */
#include "websocket.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <wslay/wslay.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/str.h"
#include "inside.h"
#include "wire/handshake.h"

#define MESSAGE_MAX (256 * KIB) /* one frame from the peer; more is broken off with 1009 */
#define CONTROL_MAX 125

#define THREADS 2 /* of a session */

struct websocket {
    struct api *api;
    const char *tenant;
    bool counted; /* its threads are among those of its tenant */
    int fd;
    struct MHD_UpgradeResponseHandle *handle;
    void (*session)(struct websocket *ws, void *ctx);
    void *ctx;
    struct buf early; /* bytes that came with the handshake */
    size_t early_at;
    wslay_frame_context_ptr frames;
    struct buf message; /* the frame that comes in */
    uint64_t expect;    /* its length, once its header is there */
    bool in_frame, is_text, is_control;
    uint8_t opcode;
    struct mu lock;
    struct cond turn;
    bool sending GUARDED_BY(lock);
    atomic_bool dead, stalled;
    bool close_sent GUARDED_BY(lock);
};

/* --- handshake --- */

static bool has_token(const char *list, const char *token)
{
    size_t len = strlen(token);
    while (list && *list) {
        list += strspn(list, " \t,");
        size_t n = strcspn(list, " \t,");
        if (n == len && strncasecmp(list, token, len) == 0)
            return true;
        list += n;
    }
    return false;
}

int websocket_check(const struct req *r, struct err *err)
{
    const struct heads *h = req_heads(r);
    if (!h->upgrade || strcasecmp(h->upgrade, "websocket") != 0 ||
        !has_token(h->connection, "upgrade"))
        return err_set(err, ERR_INVALID,
                       "this route speaks WebSocket only: Upgrade: websocket is missing");
    if (!h->ws_version || !str_eq(h->ws_version, "13"))
        return err_set(err, ERR_INVALID, "Sec-WebSocket-Version: must be 13");
    if (!h->ws_key || strlen(h->ws_key) != 24)
        return err_set(err, ERR_INVALID, "Sec-WebSocket-Key: must be 16 bytes in base64");
    return 0;
}

/* --- sending --- */

/* All of it, in order; the ticket is held. */
static int put_all(struct websocket *ws, const void *data, size_t len, int more)
{
    int64_t stall_ms = ws->api->config->peer_stall_ms, deadline = clock_mono_ms() + stall_ms;
    const char *p = data;
    while (len > 0) {
        ssize_t n = send(ws->fd, p, len, MSG_NOSIGNAL | MSG_DONTWAIT | more);
        if (n > 0) {
            p += n;
            len -= (size_t)n;
            deadline = clock_mono_ms() + stall_ms;
        } else if (n < 0 && errno == EINTR) {
            continue;
        } else if (n < 0 && errno == EAGAIN) {
            int ready = fd_wait(ws->fd, POLLOUT, deadline);
            if (ready == 0)
                atomic_store(&ws->stalled, true);
            if (ready != 1)
                return -1;
        } else {
            return -1;
        }
    }
    return 0;
}

static int send_frame(struct websocket *ws, uint8_t opcode, const void *data, size_t len)
{
    uint8_t head[10] = { (uint8_t)(0x80 | opcode) };
    size_t n = 2;
    if (len < 126) {
        head[1] = (uint8_t)len;
    } else if (len < 65536) {
        head[1] = 126;
        head[2] = (uint8_t)(len >> 8);
        head[3] = (uint8_t)len;
        n = 4;
    } else {
        head[1] = 127;
        for (int i = 0; i < 8; i++)
            head[2 + i] = (uint8_t)((uint64_t)len >> (56 - 8 * i));
        n = 10;
    }
    mu_lock(&ws->lock);
    while (ws->sending)
        cond_wait(&ws->turn, &ws->lock);
    bool open = !ws->close_sent && !atomic_load(&ws->dead);
    ws->sending = open;
    ws->close_sent = ws->close_sent || opcode == WSLAY_CONNECTION_CLOSE;
    mu_unlock(&ws->lock);
    if (!open)
        return -1;
    int rc = put_all(ws, head, n, len ? MSG_MORE : 0) < 0 || put_all(ws, data, len, 0) < 0 ? -1 : 0;
    if (rc < 0)
        atomic_store(&ws->dead, true);
    mu_lock(&ws->lock);
    ws->sending = false;
    cond_signal(&ws->turn);
    mu_unlock(&ws->lock);
    return rc;
}

int websocket_send(struct websocket *ws, bool binary, const void *data, size_t len)
{
    return send_frame(ws, binary ? WSLAY_BINARY_FRAME : WSLAY_TEXT_FRAME, data, len);
}

int websocket_ping(struct websocket *ws)
{
    return send_frame(ws, WSLAY_PING, NULL, 0);
}

void websocket_close(struct websocket *ws, uint16_t code, const char *reason)
{
    uint8_t payload[CONTROL_MAX] = { (uint8_t)(code >> 8), (uint8_t)code };
    size_t len = strnlen(reason, sizeof payload - 2);
    memcpy(payload + 2, reason, len);
    (void)send_frame(ws, WSLAY_CONNECTION_CLOSE, payload, 2 + len); /* gone already: fine */
}

/* --- reading --- */

static ssize_t on_recv(uint8_t *buf, size_t len, int flags, void *ctx)
{
    struct websocket *ws = ctx;
    (void)flags;
    if (ws->early_at < ws->early.len) {
        size_t n = ws->early.len - ws->early_at < len ? ws->early.len - ws->early_at : len;
        memcpy(buf, ws->early.data + ws->early_at, n);
        ws->early_at += n;
        return (ssize_t)n;
    }
    ssize_t n = recv(ws->fd, buf, len, MSG_DONTWAIT);
    if (n == 0)
        atomic_store(&ws->dead, true);
    if (n < 0 && errno != EAGAIN && errno != EINTR)
        atomic_store(&ws->dead, true);
    return n > 0 ? n : -1;
}

static enum ws_kind broken(struct websocket *ws, uint16_t code)
{
    websocket_close(ws, code, "");
    atomic_store(&ws->dead, true);
    return WS_CLOSED;
}

/* A whole frame is in `message`. */
static enum ws_kind on_frame(struct websocket *ws, const char **data, size_t *len)
{
    switch (ws->opcode) {
    case WSLAY_PING:
        (void)send_frame(ws, WSLAY_PONG, buf_str(&ws->message), ws->message.len);
        return WS_NOTHING;
    case WSLAY_PONG:
        return WS_NOTHING;
    case WSLAY_CONNECTION_CLOSE:
        return broken(ws, 1000);
    default:
        *data = buf_str(&ws->message);
        *len = ws->message.len;
        return ws->is_text ? WS_TEXT : WS_BINARY;
    }
}

/* One step of the frame that comes in; WS_NOTHING with *ret_more: there may be more at once. */
static enum ws_kind step(struct websocket *ws, const char **data, size_t *len, bool *ret_more)
{
    struct wslay_frame_iocb io = { 0 };
    ssize_t n = wslay_frame_recv(ws->frames, &io);
    *ret_more = n >= 0;
    if (n == WSLAY_ERR_WANT_READ)
        return atomic_load(&ws->dead) ? WS_CLOSED : WS_NOTHING;
    if (n < 0)
        return broken(ws, 1002);
    if (!ws->in_frame) {
        bool control = (io.opcode & 8) != 0;
        if (control && io.opcode > WSLAY_PONG)
            return broken(ws, 1002);
        if (!io.mask || io.rsv != 0 || (control && (!io.fin || io.payload_length > CONTROL_MAX)))
            return broken(ws, 1002);
        if (io.payload_length > MESSAGE_MAX)
            return broken(ws, 1009);
        if (io.opcode == WSLAY_TEXT_FRAME && !io.fin)
            return broken(ws, 1009); /* texts are small orders; nobody needs them in pieces */
        if (io.opcode == WSLAY_TEXT_FRAME || io.opcode == WSLAY_BINARY_FRAME)
            ws->is_text = io.opcode == WSLAY_TEXT_FRAME;
        else if (!control && io.opcode != WSLAY_CONTINUATION_FRAME)
            return broken(ws, 1003);
        ws->in_frame = true;
        ws->opcode = io.opcode;
        ws->expect = io.payload_length;
        buf_reset(&ws->message);
    }
    buf_add(&ws->message, io.data, io.data_length);
    if (ws->message.len < ws->expect)
        return WS_NOTHING;
    ws->in_frame = false;
    return on_frame(ws, data, len);
}

enum ws_kind websocket_read(struct websocket *ws, int ms, const char **data, size_t *len)
{
    int64_t deadline = clock_mono_ms() + ms;
    for (;;) {
        bool more;
        enum ws_kind kind = step(ws, data, len, &more);
        if (kind != WS_NOTHING)
            return kind;
        if (more)
            continue;
        if (atomic_load(&ws->dead))
            return WS_CLOSED;
        int ready = fd_wait(ws->fd, POLLIN, deadline);
        if (ready == 0)
            return WS_NOTHING;
        if (ready < 0)
            return WS_CLOSED;
    }
}

/* --- life --- */

bool websocket_alive(struct websocket *ws)
{
    return !atomic_load(&ws->dead);
}

bool websocket_stalled(struct websocket *ws)
{
    return atomic_load(&ws->stalled);
}

bool websocket_stopping(struct websocket *ws)
{
    return atomic_load(&ws->api->stopping);
}

struct core *websocket_core(struct websocket *ws)
{
    return ws->api->core;
}

const struct config *websocket_config(struct websocket *ws)
{
    return ws->api->config;
}

int websocket_run(struct websocket *ws, void (*fn)(void *arg), void *arg, struct err *err)
{
    return pool_run(ws->api->pool, fn, arg, err);
}

static void end(struct websocket *ws)
{
    if (ws->handle)
        (void)MHD_upgrade_action(ws->handle, MHD_UPGRADE_ACTION_CLOSE); /* closes the descriptor */
    if (ws->frames)
        wslay_frame_context_free(ws->frames);
    buf_release(&ws->early);
    buf_release(&ws->message);
    cond_release(&ws->turn);
    mu_release(&ws->lock);
    free(ws);
}

static void run(void *arg)
{
    struct websocket *ws = arg;
    ws->session(ws, ws->ctx);
    if (ws->counted)
        share_give(ws->api, ws->tenant, THREADS);
    end(ws);
}

void websocket_abandon(struct websocket *ws)
{
    atomic_store(&ws->dead, true);
    run(ws);
}

/* libmicrohttpd has sent the 101 and hands the descriptor over; on its thread. */
static void on_upgrade(void *cls, struct MHD_Connection *conn, void *con_cls, const char *extra,
                       size_t extra_len, MHD_socket sock, struct MHD_UpgradeResponseHandle *handle)
{
    struct websocket *ws = cls;
    struct err err;
    struct req *r = con_cls;
    (void)conn;
    r->upgrade = NULL; /* ours no longer */
    int yes = 1;
    ws->fd = sock;
    (void)setsockopt(sock, IPPROTO_TCP, TCP_NODELAY, &yes,
                     sizeof yes); /* a keystroke waits for nobody */
    ws->handle = handle;
    buf_add(&ws->early, extra, extra_len);
    ws->counted = share_take(ws->api, ws->tenant, THREADS);
    if (!ws->counted)
        (void)err_set(&err, ERR_CAPACITY, "too many requests of this tenant are under way");
    if (!ws->counted || pool_run(ws->api->pool, run, ws, &err) < 0) {
        log_warn("websocket.refused", KV_ERR(&err));
        websocket_abandon(ws);
    }
}

void websocket_accept(struct req *r, void (*session)(struct websocket *ws, void *ctx), void *ctx)
{
    static const struct wslay_frame_callbacks callbacks = { .recv_callback = on_recv };
    char accept[WEBSOCKET_ACCEPT_MAX];
    struct websocket *ws = mem_new(1, sizeof *ws);
    ws->api = r->api;
    ws->tenant = r->who.tenant;
    ws->fd = -1;
    ws->session = session;
    ws->ctx = ctx;
    ws->early = (struct buf)BUF_INIT(HTTP_CONN_MEMORY);
    ws->message = (struct buf)BUF_INIT(MESSAGE_MAX + 1);
    mu_init(&ws->lock, MU_REQ);
    cond_init(&ws->turn);
    if (wslay_frame_context_init(&ws->frames, &callbacks, ws) != 0)
        abort(); /* memory is out */
    websocket_accept_key(req_heads(r)->ws_key, accept);
    req_header(r, "Upgrade", "websocket");
    req_header(r, "Sec-WebSocket-Accept", accept);
    r->upgrade = ws;
    req_answer(r, MHD_HTTP_SWITCHING_PROTOCOLS, NULL,
               MHD_create_response_for_upgrade(on_upgrade, ws));
}
