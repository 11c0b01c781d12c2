/* The digest of a key and a fixed text, in base64. */
#include "wire/handshake.h"

#include <nettle/sha1.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "wire/base64.h"

void websocket_accept_key(const char *key, char out[WEBSOCKET_ACCEPT_MAX])
{
    static const char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"; /* RFC 6455, 1.3 */
    uint8_t d[SHA1_DIGEST_SIZE];
    AUTO(buf) struct buf text = BUF_INIT(WEBSOCKET_ACCEPT_MAX);
    struct sha1_ctx sha;
    sha1_init(&sha);
    sha1_update(&sha, strlen(key), (const uint8_t *)key);
    sha1_update(&sha, sizeof guid - 1, (const uint8_t *)guid);
    sha1_digest(&sha, SHA1_DIGEST_SIZE, d);
    base64_encode(&text, d, sizeof d);
    (void)str_copy(out, WEBSOCKET_ACCEPT_MAX, buf_str(&text)); /* 28 letters */
}
