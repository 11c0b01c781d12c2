/* The JSON writer: appends straight to a bounded buffer; the caller looks once with buf_done(). */
#include <math.h>
#include <string.h>

#include "base/clock.h"
#include "base/str.h"
#include "wire/json.h"

/* Bytes that must not stand in a JSON text as they are (DEL only for terminals' sake). */
static const bool special[256] = {
    [0 ... 0x1f] = true,
    ['"'] = true,
    ['\\'] = true,
    [0x7f] = true,
};

static void put_escaped(struct buf *b, const char *text, size_t len)
{
    static const char hex[] = "0123456789abcdef";
    buf_addc(b, '"');
    size_t from = 0;
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];
        if (!special[c])
            continue;
        buf_add(b, text + from, i - from);
        from = i + 1;
        switch (c) {
        case '"':
            buf_adds(b, "\\\"");
            break;
        case '\\':
            buf_adds(b, "\\\\");
            break;
        case '\n':
            buf_adds(b, "\\n");
            break;
        case '\r':
            buf_adds(b, "\\r");
            break;
        case '\t':
            buf_adds(b, "\\t");
            break;
        default: {
            char esc[6] = { '\\', 'u', '0', '0', hex[c >> 4], hex[c & 15] };
            buf_add(b, esc, sizeof esc);
        }
        }
    }
    buf_add(b, text + from, len - from);
    buf_addc(b, '"');
}

/* Nearly every text is clean and goes out in one piece: lists of a thousand sandboxes live on it.
 */
static void put_quoted(struct buf *b, const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (special[(unsigned char)text[i]]) {
            put_escaped(b, text, len);
            return;
        }
    }
    char *room = len < SIZE_MAX - 2 ? buf_room(b, len + 2) : NULL;
    if (!room)
        return;
    room[0] = '"';
    memcpy(room + 1, text, len);
    room[len + 1] = '"';
    buf_grew(b, len + 2);
}

static void begin(struct json_out *o, const char *key)
{
    if (o->comma)
        buf_addc(o->b, ',');
    o->comma = true;
    if (key) {
        put_quoted(o->b, key, strlen(key));
        buf_addc(o->b, ':');
    }
}

void json_open(struct json_out *o, const char *key)
{
    begin(o, key);
    buf_addc(o->b, '{');
    o->comma = false;
}

void json_close(struct json_out *o)
{
    buf_addc(o->b, '}');
    o->comma = true;
}

void json_list(struct json_out *o, const char *key)
{
    begin(o, key);
    buf_addc(o->b, '[');
    o->comma = false;
}

void json_unlist(struct json_out *o)
{
    buf_addc(o->b, ']');
    o->comma = true;
}

void json_put(struct json_out *o, const char *key, const char *text)
{
    if (text)
        json_put_n(o, key, text, strlen(text));
    else
        json_put_null(o, key);
}

void json_put_n(struct json_out *o, const char *key, const char *text, size_t len)
{
    begin(o, key);
    put_quoted(o->b, text, len);
}

void json_put_int(struct json_out *o, const char *key, int64_t value)
{
    char digits[24];
    size_t at = sizeof digits;
    uint64_t v = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;
    begin(o, key);
    do {
        digits[--at] = (char)('0' + v % 10);
        v /= 10;
    } while (v);
    if (value < 0)
        digits[--at] = '-';
    buf_add(o->b, digits + at, sizeof digits - at);
}

void json_put_real(struct json_out *o, const char *key, double value)
{
    if (fabs(value) < 1e15 && floor(value) == value) { /* "%g" is slow, and most are whole */
        json_put_int(o, key, (int64_t)value);
        return;
    }
    begin(o, key);
    if (isfinite(value))
        buf_addf(o->b, "%.12g", value);
    else
        buf_adds(o->b, "null"); /* JSON has no other word for it */
}

void json_put_bool(struct json_out *o, const char *key, bool value)
{
    begin(o, key);
    buf_adds(o->b, value ? "true" : "false");
}

void json_put_null(struct json_out *o, const char *key)
{
    begin(o, key);
    buf_adds(o->b, "null");
}

void json_put_raw(struct json_out *o, const char *key, const char *json)
{
    begin(o, key);
    buf_adds(o->b, json);
}

void json_put_time(struct json_out *o, const char *key, int64_t wall_ms)
{
    char text[CLOCK_TEXT_MAX];
    if (wall_ms == 0) {
        json_put_null(o, key);
        return;
    }
    clock_format_ms(wall_ms, text);
    json_put(o, key, text);
}

/* Length of the well-formed sequence at p, or 0. */
static size_t utf8_step(const char *p, size_t left)
{
    unsigned char c = (unsigned char)*p;
    size_t n = c < 0x80 ? 1 : c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : 2;
    if (c == 0)
        return 1; /* U+0000: legal in JSON text once escaped */
    return n <= left && str_utf8(p, n) ? n : 0;
}

void json_put_bytes(struct json_out *o, const char *key, const void *data, size_t len)
{
    const char *p = data;
    if (str_utf8(p, len)) {
        json_put_n(o, key, p, len);
        return;
    }
    struct buf clean = BUF_INIT(o->b->max);
    for (size_t i = 0; i < len;) {
        size_t n = utf8_step(p + i, len - i);
        if (n)
            buf_add(&clean, p + i, n);
        else
            buf_adds(&clean, "\xef\xbf\xbd");
        i += n ? n : 1;
    }
    if (clean.failed)
        o->b->failed = true;
    json_put_n(o, key, buf_str(&clean), clean.len);
    buf_release(&clean);
}
