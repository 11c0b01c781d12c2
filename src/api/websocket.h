/* The server's side of a WebSocket (RFC 6455): handshake and frames. libwslay reads frames; what is
 * sent is one header and the bytes. Reading belongs to one thread; any thread may send, one frame
 * at a time. */
#ifndef WEBSOCKET_H
#define WEBSOCKET_H

#include "req.h"

struct websocket;

/* Is this a handshake of version 13? ERR_INVALID says what is missing. */
int websocket_check(const struct req *r, struct err *err);
/* Answers 101; then session(ws, ctx) runs on a pool thread and the connection ends when it returns.
 * ctx is the session's own from here on: it is run in any case (websocket_alive says false when the
 * connection was gone before it began). */
void websocket_accept(struct req *r, void (*session)(struct websocket *ws, void *ctx), void *ctx);

enum ws_kind { WS_NOTHING, WS_TEXT, WS_BINARY, WS_CLOSED };
/* Waits at most ms for the next message (pings are answered inside). Its bytes are in *data until
 * the next call; a binary message may come in pieces. CLOSED: the peer closed, broke the rules (it
 * was told), or is gone. */
enum ws_kind websocket_read(struct websocket *ws, int ms, const char **data, size_t *len);
/* -1: the peer is gone, or takes nothing for SANDBOXD_PEER_STALL. */
int websocket_send(struct websocket *ws, bool binary, const void *data, size_t len);
int websocket_ping(struct websocket *ws);
/* 1000 normal, 1001 going away, 1008 policy, 1011 fault; reason: for people, at most 123 bytes. */
void websocket_close(struct websocket *ws, uint16_t code, const char *reason);
bool websocket_alive(struct websocket *ws);
/* Was it cut because the peer took nothing? */
bool websocket_stalled(struct websocket *ws);
/* Does the daemon stop? */
bool websocket_stopping(struct websocket *ws);
struct core *websocket_core(struct websocket *ws);
const struct config *websocket_config(struct websocket *ws);
/* Runs fn(arg) on another thread of the pool. -1: none is free. */
int websocket_run(struct websocket *ws, void (*fn)(void *arg), void *arg, struct err *err);

#endif
