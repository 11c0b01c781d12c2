/* Digests by libcrypto: a well-kept implementation outside what this project exists for. */
#include "base/digest.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdlib.h>

void digest_sha256(const void *data, size_t len, uint8_t out[DIGEST_BYTES])
{
    unsigned n = 0;
    if (EVP_Digest(data, len, out, &n, EVP_sha256(), NULL) != 1 || n != DIGEST_BYTES)
        abort();
}

void digest_hmac(const void *key, size_t key_len, const void *data, size_t len,
                 uint8_t out[DIGEST_BYTES])
{
    unsigned n = 0;
    if (!HMAC(EVP_sha256(), key, (int)key_len, data, len, out, &n) || n != DIGEST_BYTES)
        abort();
}
