/* Text for people: harmless, and in columns. */
#include <locale.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "check.h"
#include "terminal.h"
#include "text.h"

static const struct {
    const char *name, *text;
    size_t limit;
    const char *want;
    size_t width;
} rows[] = {
    { "plain", "abc", 0, "abc", 3 },
    { "umlaut", "gr\xc3\xbc\xc3\x9f", 0, "gr\xc3\xbc\xc3\x9f", 4 },
    { "wide", "\xe6\x9c\xa8x", 0, "\xe6\x9c\xa8x", 3 },
    { "emoji", "\xf0\x9f\x8e\x89", 0, "\xf0\x9f\x8e\x89", 2 },
    { "combining", "e\xcc\x81", 0, "e\xcc\x81", 1 },
    { "escape", "a\x1b[2Jb", 0, "a\\x1b[2Jb", 9 },
    { "line end", "a\nb\r\t", 0, "a\\x0ab\\x0d\\x09", 14 },
    { "DEL", "\x7f", 0, "\\x7f", 4 },
    { "C1", "\xc2\x9b", 0, "\\u{009b}", 8 },
    { "direction",
      "a\xe2\x80\xae"
      "b",
      0, "a\\u{202e}b", 10 },
    { "isolate", "\xe2\x81\xa6", 0, "\\u{2066}", 8 },
    { "no UTF-8", "\xff\xc3(", 0, "\\xff\\xc3(", 9 },
    { "surrogate", "\xed\xa0\x80", 0, "\\xed\\xa0\\x80", 12 },
    { "overlong", "\xc0\xaf", 0, "\\xc0\\xaf", 8 },
    { "cut", "abcdef", 4, "abc\xe2\x80\xa6", 4 },
    { "fits", "abcd", 4, "abcd", 4 },
    { "cut before wide",
      "ab\xe6\x9c\xa8"
      "c",
      3, "ab\xe2\x80\xa6", 3 },
};

static void check_show(void)
{
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        AUTO(buf) struct buf b = BUF_INIT(1000);
        size_t w = text_show(&b, rows[i].text, strlen(rows[i].text), rows[i].limit);
        CHECK_STR(rows[i].want, buf_str(&b));
        CHECK_ROW(rows[i].name, w == rows[i].width);
    }
    AUTO(buf) struct buf b = BUF_INIT(1000);
    CHECK(text_show(&b, "a\0b", 3, 0) == 6 && str_eq(buf_str(&b), "a\\x00b"));
}

static void check_table(void)
{
    char *out = NULL;
    size_t len = 0;
    FILE *f = open_memstream(&out, &len);
    AUTO(table) struct table t = { .heads = { "A", "NAME", "C" }, .columns = 3 };
    const char *cells[] = { "1",    "\xe6\x9c\xa8\xe6\x9c\xa8\xe6\x9c\xa8",
                            "last", "22",
                            NULL,   "a rather long text" };
    for (size_t i = 0; i < sizeof cells / sizeof cells[0]; i++)
        table_add(&t, cells[i]);
    table_print(&t, f, 22);
    (void)fclose(f);
    CHECK_STR("A   NAME    C\n1   \xe6\x9c\xa8\xe6\x9c\xa8\xe6\x9c\xa8  last\n"
              "22  -       a rather \xe2\x80\xa6\n",
              out);
    free(out);
}

static void check_amounts(void)
{
    char out[TEXT_SIZE];
    CHECK_STR("0 B", text_size(0, out));
    CHECK_STR("999 B", text_size(999, out));
    CHECK_STR("1.5 KiB", text_size(1536, out));
    CHECK_STR("243 MiB", text_size(243ll << 20, out));
    CHECK_STR("8388608 TiB", text_size(INT64_MAX, out));
    CHECK_STR("0 s", text_time(10, out));
    CHECK_STR("119 s", text_time(119999, out));
    CHECK_STR("2 min", text_time(120000, out));
    CHECK_STR("3 d", text_time(3 * 86400000ll, out));
    CHECK_STR("60 s", text_ago("1970-01-01T00:01:00.500Z", 120000, out));
    CHECK_STR("0 s", text_ago("2100-01-01T00:00:00Z", 120000, out));
    CHECK_STR("-", text_ago(NULL, 0, out));
    CHECK_STR("-", text_ago("soon", 0, out));
}

static void check_keys(void)
{
    static const struct {
        const char *keys, *typed, *want;
        bool leaves;
    } lines[] = {
        { "ctrl-p,ctrl-q", "ls\r", "ls\r", false },
        { "ctrl-p,ctrl-q", "a\x10\x11ls", "a", true },
        { "ctrl-p,ctrl-q",
          "a\x10"
          "b",
          "a\x10"
          "b",
          false },
        { "ctrl-p,ctrl-q", "\x10\x10\x11", "\x10", true },
        { "ctrl-p,ctrl-q", "\x11\x10", "\x11", false },
        { "ctrl-]",
          "a\x1d"
          "b",
          "a", true },
        { "~,.", "a~~.", "a~", true },
        { "", "\x10\x11", "\x10\x11", false },
    };
    struct err err;
    struct detach_keys d;
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        for (size_t step = 1; step < 5; step++) { /* in pieces of every size */
            char out[64], all[64] = "";
            size_t len, used = 0, n = strlen(lines[i].typed);
            bool left = false;
            CHECK(detach_keys_parse(lines[i].keys, &d, &err) == 0);
            for (size_t at = 0; at < n && !left; at += step) {
                left = detach_keys_feed(&d, lines[i].typed + at, n - at < step ? n - at : step, out,
                                        &len);
                memcpy(all + used, out, len);
                used += len;
            }
            CHECK_ROW(lines[i].keys, left == lines[i].leaves && used == strlen(lines[i].want) &&
                                         memcmp(all, lines[i].want, used) == 0);
        }
    }
    static const char *const bad[] = {
        "ctrl-", "ctrl-pp", "pp", " ", "ctrl-1", "a,b,c,d,e,f,g,h,i"
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        CHECK_ROW(bad[i], detach_keys_parse(bad[i], &d, &err) < 0);
}

int main(void)
{
    CHECK(setlocale(LC_CTYPE, "C.UTF-8") != NULL);
    check_show();
    check_table();
    check_amounts();
    check_keys();
    return check_done();
}
