/* Digests against published vectors: FIPS 180-4 (NIST's examples) and RFC 4231. */
#include <string.h>

#include "base/digest.h"
#include "base/str.h"
#include "check.h"

static const struct {
    const char *text, *want;
} hashes[] = {
    { "", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" },
    { "abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" },
    { "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
      "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1" },
};

static const struct {
    const char *key, *text, *want;
} macs[] = {
    { "Jefe", "what do ya want for nothing?",
      "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843" },
    { "\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b",
      "Hi There", "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7" },
};

int main(void)
{
    uint8_t out[DIGEST_BYTES];
    char hex[2 * DIGEST_BYTES + 1];
    for (size_t i = 0; i < sizeof hashes / sizeof hashes[0]; i++) {
        digest_sha256(hashes[i].text, strlen(hashes[i].text), out);
        hex_encode(out, sizeof out, hex);
        CHECK_STR(hashes[i].want, hex);
    }
    for (size_t i = 0; i < sizeof macs / sizeof macs[0]; i++) {
        digest_hmac(macs[i].key, strlen(macs[i].key), macs[i].text, strlen(macs[i].text), out);
        hex_encode(out, sizeof out, hex);
        CHECK_STR(macs[i].want, hex);
    }
    return check_done();
}
