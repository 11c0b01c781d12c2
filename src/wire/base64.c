/* Base64 both ways, by plain shifts. */
#include "wire/base64.h"

#include <stdint.h>

void base64url_encode(struct buf *b, const void *data, size_t len)
{
    static const char letters[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    const uint8_t *p = data;
    for (size_t i = 0; i < len; i += 3) {
        uint32_t n = (uint32_t)p[i] << 16;
        n |= i + 1 < len ? (uint32_t)p[i + 1] << 8 : 0;
        n |= i + 2 < len ? p[i + 2] : 0;
        buf_addc(b, letters[n >> 18]);
        buf_addc(b, letters[(n >> 12) & 63]);
        if (i + 1 < len)
            buf_addc(b, letters[(n >> 6) & 63]);
        if (i + 2 < len)
            buf_addc(b, letters[n & 63]);
    }
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
