/* SHA-256 and HMAC-SHA-256 (FIPS 180-4, RFC 2104), by nettle. Threads: any. */
#ifndef BASE_DIGEST_H
#define BASE_DIGEST_H

#include <stddef.h>
#include <stdint.h>

#define DIGEST_BYTES 32

void digest_sha256(const void *data, size_t len, uint8_t out[DIGEST_BYTES]);
void digest_hmac(const void *key, size_t key_len, const void *data, size_t len,
                 uint8_t out[DIGEST_BYTES]);

#endif
