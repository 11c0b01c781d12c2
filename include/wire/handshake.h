/* The one value that both ends of a WebSocket's handshake compute (RFC 6455, 1.3). Threads: any. */
#ifndef WIRE_HANDSHAKE_H
#define WIRE_HANDSHAKE_H

#define WEBSOCKET_ACCEPT_MAX 32
/* Sec-WebSocket-Accept for a Sec-WebSocket-Key. */
void websocket_accept_key(const char *key, char out[WEBSOCKET_ACCEPT_MAX]);

#endif
