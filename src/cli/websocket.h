/* The client's end of a WebSocket, for one loop of one thread. Private to cli/. */
#ifndef CLI_WEBSOCKET_H
#define CLI_WEBSOCKET_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "http.h"

struct web_socket;
/* Dials and shakes hands; blocks. A refusal is an err as the API's others. */
int web_socket_open(struct http *h, const char *path, struct web_socket **ret, struct err *err);
void web_socket_free(struct web_socket *w);
int web_socket_fd(const struct web_socket *w);
/* Bytes that wait to be sent: a caller that bounds them stops reading its own input meanwhile. */
size_t web_socket_waiting(const struct web_socket *w);
void web_socket_send(struct web_socket *w, bool binary, const void *data, size_t len);
/* Takes and sends as much as goes without waiting. on_message is called for each message.
 * 1: open, 0: closed by the peer, -1: broken. */
int web_socket_step(struct web_socket *w,
                    void (*on_message)(void *ctx, bool binary, const char *data, size_t len),
                    void *ctx, struct err *err);
/* Why the peer closed, in its words; may be "". */
const char *web_socket_reason(const struct web_socket *w);

/* The head of the answer to a handshake, with its empty line. 101 with the right accept value, or
 * another status: *ret_status, and how long the body is, 0 if untold. ERR_INVALID: neither. */
int handshake_parse(const char *head, size_t len, const char *accept, int *ret_status,
                    size_t *ret_body_len, struct err *err);

#endif
