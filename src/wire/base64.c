/* Base64 both ways, by plain shifts. */
#include "wire/base64.h"

#include <stdint.h>
#include <string.h>

static const char standard[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
static const char for_urls[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

static void encode(struct buf *b, const void *data, size_t len, const char *letters, bool pad)
{
    const uint8_t *p = data;
    for (size_t i = 0; i < len; i += 3) {
        size_t have = len - i < 3 ? len - i : 3;
        uint32_t n = (uint32_t)p[i] << 16;
        n |= have > 1 ? (uint32_t)p[i + 1] << 8 : 0;
        n |= have > 2 ? p[i + 2] : 0;
        for (size_t k = 0; k < 4; k++) {
            if (k <= have)
                buf_addc(b, letters[n >> (18 - 6 * k) & 63]);
            else if (pad)
                buf_addc(b, '=');
        }
    }
}

void base64_encode(struct buf *b, const void *data, size_t len)
{
    encode(b, data, len, standard, true);
}

void base64url_encode(struct buf *b, const void *data, size_t len)
{
    encode(b, data, len, for_urls, false);
}

static int value(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    if (c == '+' || c == '-')
        return 62;
    return c == '/' || c == '_' ? 63 : -1;
}

int base64_decode(const char *text, size_t len, struct buf *out, struct err *err)
{
    if (len % 4 == 0 && len > 0 && text[len - 1] == '=')
        len -= text[len - 2] == '=' ? 2 : 1;
    uint32_t bits = 0;
    int have = 0;
    for (size_t i = 0; i < len; i++) {
        int v = value(text[i]);
        if (v < 0)
            return err_set(err, ERR_INVALID, "not base64: byte %zu", i);
        bits = (bits << 6 | (uint32_t)v) & 0xffffff;
        have += 6;
        if (have >= 8) {
            have -= 8;
            buf_addc(out, (char)(bits >> have & 0xff));
        }
    }
    if (len % 4 == 1 || (bits & ((1u << have) - 1)) != 0)
        return err_set(err, ERR_INVALID, "not base64: its end is missing");
    return buf_done(out, err);
}

int base64url_decode(const char *text, size_t len, struct buf *out, struct err *err)
{
    for (size_t i = 0; i < len; i++)
        if (strchr("+/=", text[i])) /* a NUL, which it finds too, is no letter either */
            return err_set(err, ERR_INVALID, "not base64url: byte %zu", i);
    return base64_decode(text, len, out, err);
}
