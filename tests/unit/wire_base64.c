/* Base64 both ways: the vectors of RFC 4648, both alphabets, and what no encoder makes. */
#include "wire/base64.h"

#include <string.h>

#include "base/cleanup.h"
#include "check.h"

static const struct {
    const char *bytes, *padded, *for_urls;
} vectors[] = {
    { "", "", "" },
    { "f", "Zg==", "Zg" },
    { "fo", "Zm8=", "Zm8" },
    { "foo", "Zm9v", "Zm9v" },
    { "foob", "Zm9vYg==", "Zm9vYg" },
    { "fooba", "Zm9vYmE=", "Zm9vYmE" },
    { "foobar", "Zm9vYmFy", "Zm9vYmFy" },
    { "\xfb\xff\xfe", "+//+", "-__-" },
};

static void check_vectors(void)
{
    struct err err;
    for (size_t i = 0; i < sizeof vectors / sizeof vectors[0]; i++) {
        const char *bytes = vectors[i].bytes;
        AUTO(buf) struct buf b = BUF_INIT(64);
        base64_encode(&b, bytes, strlen(bytes));
        CHECK_STR(vectors[i].padded, buf_str(&b));
        buf_reset(&b);
        base64url_encode(&b, bytes, strlen(bytes));
        CHECK_STR(vectors[i].for_urls, buf_str(&b));
        const char *texts[] = { vectors[i].padded, vectors[i].for_urls };
        for (int k = 0; k < 2; k++) {
            buf_reset(&b);
            CHECK(base64_decode(texts[k], strlen(texts[k]), &b, &err) == 0);
            CHECK_STR(bytes, buf_str(&b));
        }
        buf_reset(&b);
        CHECK(base64url_decode(texts[1], strlen(texts[1]), &b, &err) == 0);
        CHECK_STR(bytes, buf_str(&b));
    }
}

static void check_refused(void)
{
    static const char *const never[] = { "Z",      "Zg=", "Zh==",     "Zm9=",  "Zm 9",
                                         "Zm9v\n", "=",   "Zg==Zg==", "Zm9vY", "\xff\xff" };
    static const char *const not_for_urls[] = { "+//+", "Zg==", "Zm8=", "a/aa" };
    struct err err;
    for (size_t i = 0; i < sizeof never / sizeof never[0]; i++) {
        AUTO(buf) struct buf b = BUF_INIT(64);
        CHECK(base64_decode(never[i], strlen(never[i]), &b, &err) < 0 && err.code == ERR_INVALID);
    }
    for (size_t i = 0; i < sizeof not_for_urls / sizeof not_for_urls[0]; i++) {
        AUTO(buf) struct buf b = BUF_INIT(64);
        CHECK(base64url_decode(not_for_urls[i], strlen(not_for_urls[i]), &b, &err) < 0 &&
              err.code == ERR_INVALID);
    }
    AUTO(buf) struct buf b = BUF_INIT(64);
    CHECK(base64url_decode("Zm\0v", 4, &b, &err) < 0);
    AUTO(buf) struct buf small = BUF_INIT(2);
    CHECK(base64_decode("Zm9v", 4, &small, &err) < 0 && err.code == ERR_TOO_LARGE);
}

int main(void)
{
    check_vectors();
    check_refused();
    return check_done();
}
