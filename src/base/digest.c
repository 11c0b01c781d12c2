/* Digests by nettle: it is in the process already (libmicrohttpd), needs no set-up and no heap,
 * while libcrypto's provider machinery costs 3 MiB resident for the same 32 bytes. */
#include "base/digest.h"

#include <nettle/hmac.h>
#include <nettle/sha2.h>

#include "base/str.h"

_Static_assert(DIGEST_BYTES == SHA256_DIGEST_SIZE, "SHA-256 has 32 bytes");

void digest_sha256(const void *data, size_t len, uint8_t out[DIGEST_BYTES])
{
    struct sha256_ctx ctx;
    sha256_init(&ctx);
    sha256_update(&ctx, len, data);
    sha256_digest(&ctx, DIGEST_BYTES, out);
    mem_erase(&ctx, sizeof ctx); /* holds the tail of what may be a secret */
}

void digest_hmac(const void *key, size_t key_len, const void *data, size_t len,
                 uint8_t out[DIGEST_BYTES])
{
    struct hmac_sha256_ctx ctx;
    hmac_sha256_set_key(&ctx, key_len, key);
    hmac_sha256_update(&ctx, len, data);
    hmac_sha256_digest(&ctx, DIGEST_BYTES, out);
    mem_erase(&ctx, sizeof ctx);
}
