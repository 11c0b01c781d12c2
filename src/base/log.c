/* The log. A line is put together in a bounded buffer on the stack and written by one write(2), so
 * lines of several threads never mix; what does not fit is cut and said so. */
#include "base/log.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/str.h"

#define LINE_MAX_BYTES 4096

static enum log_level log_level = LOG_INFO; /* set once, before threads */

void log_set_level(enum log_level level)
{
    log_level = level;
}

bool log_on(enum log_level level)
{
    return level >= log_level;
}

struct line {
    char text[LINE_MAX_BYTES];
    size_t len;
};

static void put(struct line *l, const char *text, size_t len)
{
    size_t room = sizeof l->text - 8 - l->len; /* keeps room for the closing `…"}\n` */
    if (len > room)
        len = room;
    memcpy(l->text + l->len, text, len);
    l->len += len;
}

static void put_text(struct line *l, const char *text)
{
    put(l, "\"", 1);
    size_t len = strlen(text);
    bool clean = str_utf8(text, len);
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];
        char esc[8];
        if (c == '"' || c == '\\') {
            char two[2] = { '\\', (char)c };
            put(l, two, 2);
        } else if (c < 0x20 || c == 0x7f || (c >= 0x80 && !clean)) {
            int n = snprintf(esc, sizeof esc, "\\u%04x", c);
            put(l, esc, (size_t)n);
        } else {
            put(l, text + i, 1);
        }
    }
    put(l, "\"", 1);
}

void log_line(enum log_level level, const char *event, const struct log_kv *kv)
{
    static const char *const names[] = { "debug", "info", "warn", "error" };
    struct line l = { .len = 0 };
    char time[CLOCK_TEXT_MAX];
    clock_format_ms(clock_wall_ms(), time);
    put(&l, "{\"time\":", 8);
    put_text(&l, time);
    put(&l, ",\"level\":", 9);
    put_text(&l, names[level]);
    put(&l, ",\"event\":", 9);
    put_text(&l, event);
    for (; kv->key; kv++) {
        put(&l, ",", 1);
        put_text(&l, kv->key);
        put(&l, ":", 1);
        if (kv->text) {
            put_text(&l, kv->text);
        } else {
            char number[32];
            int n = snprintf(number, sizeof number, "%lld", (long long)kv->number);
            put(&l, number, (size_t)n);
        }
    }
    if (l.len >= sizeof l.text -
                     8) { /* cut somewhere inside: close the text so that the line still parses */
        while (l.len > 0 && ((unsigned char)l.text[l.len - 1] >= 0x80 || l.text[l.len - 1] == '\\'))
            l.len--;
        memcpy(l.text + l.len, "...\"", 4);
        l.len += 4;
    }
    memcpy(l.text + l.len, "}\n", 2);
    l.len += 2;
    ssize_t n = write(STDERR_FILENO, l.text, l.len);
    (void)n; /* a log that cannot be written has nowhere to complain */
}
