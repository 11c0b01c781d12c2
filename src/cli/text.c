/* Text made harmless, tables, sizes and times. */
#include "text.h"

#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <wchar.h>

#include "base/cleanup.h"
#include "base/str.h"

/* --- one text --- */

/* Code point at the front, and its length; 0: not well-formed. */
static size_t decode(const unsigned char *p, size_t len, uint32_t *ret)
{
    size_t n = p[0] < 0x80   ? 1
               : p[0] < 0xc2 ? 0
               : p[0] < 0xe0 ? 2
               : p[0] < 0xf0 ? 3
               : p[0] < 0xf5 ? 4
                             : 0;
    if (n == 0 || n > len || !str_utf8((const char *)p, n))
        return p[0] == 0 ? 1 : 0;
    *ret = n == 1 ? p[0] : p[0] & (0x7fu >> n);
    for (size_t i = 1; i < n; i++)
        *ret = *ret << 6 | (p[i] & 0x3f);
    return n;
}

/* Columns of a character that may be shown; -1: it may not. */
static int columns_of(uint32_t c)
{
    if (c < 0x20 || (c >= 0x7f && c < 0xa0))
        return -1;
    if ((c >= 0x200e && c <= 0x200f) || (c >= 0x2028 && c <= 0x202e) ||
        (c >= 0x2066 && c <= 0x2069) || c == 0x061c || c == 0xfeff)
        return -1;
    int w = wcwidth((wchar_t)c);
    return w < 0 && c < 0xe000 && c >= 0xa0 ? 1 : w; /* newer than the C library's tables */
}

size_t text_show(struct buf *b, const char *text, size_t len, size_t limit)
{
    const unsigned char *p = (const unsigned char *)text;
    size_t width = 0, cut = b->len; /* where "…" would go */
    for (size_t i = 0; i < len;) {
        char shown[16];
        uint32_t c = 0;
        size_t n = decode(p + i, len - i, &c);
        int w = n ? columns_of(c) : -1;
        if (w >= 0)
            (void)snprintf(shown, sizeof shown, "%.*s", (int)n, text + i);
        else if (n && c >= 0x80)
            w = snprintf(shown, sizeof shown, "\\u{%04x}", (unsigned)c);
        else
            w = snprintf(shown, sizeof shown, "\\x%02x", p[i]);
        if (limit && width + (size_t)w > limit) {
            b->len = cut;
            buf_adds(b, "…");
            return limit;
        }
        buf_adds(b, shown);
        width += (size_t)w;
        if (width < limit)
            cut = b->len;
        i += n ? n : 1;
    }
    return width;
}

/* --- tables --- */

void table_add(struct table *t, const char *text)
{
    if (!t->cells.max)
        t->cells.max = TABLE_MAX;
    text = text && *text ? text : "-";
    buf_add(&t->cells, text, strlen(text) + 1);
    t->count++;
}

void table_release(struct table *t)
{
    buf_release(&t->cells);
}

static size_t width_of(const char *text)
{
    AUTO(buf) struct buf b = BUF_INIT(TABLE_MAX);
    return text_show(&b, text, strlen(text), 0);
}

static void put_cell(FILE *out, const char *text, size_t width, size_t limit)
{
    AUTO(buf) struct buf b = BUF_INIT(TABLE_MAX);
    size_t w = text_show(&b, text, strlen(text), limit);
    (void)fwrite(buf_str(&b), 1, b.len, out); /* the stream is looked at in the end */
    while (w++ < width)
        (void)fputc(' ', out);
}

void table_print(struct table *t, FILE *out, size_t width)
{
    size_t widths[TABLE_COLUMNS] = { 0 }, before = 0;
    const char *at = buf_str(&t->cells);
    if (t->columns == 0)
        return;
    for (size_t c = 0; c < t->columns; c++)
        widths[c] = strlen(t->heads[c]);
    for (size_t i = 0; i < t->count; i++, at += strlen(at) + 1) {
        size_t w = width_of(at);
        if (w > widths[i % t->columns])
            widths[i % t->columns] = w;
    }
    for (size_t c = 0; c + 1 < t->columns; c++)
        before += widths[c] + 2;
    size_t last = width > before + 8 ? width - before : width ? 8 : 0;
    at = buf_str(&t->cells);
    for (size_t i = 0; i < t->columns + t->count; i++) {
        size_t c = i % t->columns;
        bool ends = c + 1 == t->columns;
        put_cell(out, i < t->columns ? t->heads[c] : at, ends ? 0 : widths[c] + 2, ends ? last : 0);
        if (ends)
            (void)fputc('\n', out);
        if (i >= t->columns)
            at += strlen(at) + 1;
    }
}

size_t text_columns(void)
{
    struct winsize w;
    return ioctl(STDOUT_FILENO, TIOCGWINSZ, &w) == 0 ? w.ws_col : 0;
}

/* --- sizes and times --- */

const char *text_size(int64_t bytes, char out[TEXT_SIZE])
{
    static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB" };
    double v = (double)bytes;
    size_t u = 0;
    while (v >= 1000 && u + 1 < sizeof units / sizeof units[0]) {
        v /= 1024;
        u++;
    }
    (void)snprintf(out, TEXT_SIZE, u && v < 10 ? "%.1f %s" : "%.0f %s", v, units[u]);
    return out;
}

const char *text_time(int64_t ms, char out[TEXT_SIZE])
{
    static const struct {
        int64_t ms;
        const char *unit;
    } units[] = { { 86400000, "d" }, { 3600000, "h" }, { 60000, "min" }, { 1000, "s" } };
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        if (ms >= 2 * units[i].ms || i == 3) {
            (void)snprintf(out, TEXT_SIZE, "%lld %s", (long long)(ms / units[i].ms), units[i].unit);
            break;
        }
    }
    return out;
}

const char *text_ago(const char *time, int64_t now_ms, char out[TEXT_SIZE])
{
    struct tm tm = { 0 };
    const char *end = time ? strptime(time, "%Y-%m-%dT%H:%M:%S", &tm) : NULL;
    if (!end) {
        (void)str_copy(out, TEXT_SIZE, "-"); /* fits */
        return out;
    }
    int64_t ms = now_ms - (int64_t)timegm(&tm) * 1000;
    return text_time(ms > 0 ? ms : 0, out);
}
