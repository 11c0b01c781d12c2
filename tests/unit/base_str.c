/* Text tools: UTF-8 by the table of RFC 3629, numbers without surprises, hex. */
#include <string.h>

#include "base/str.h"
#include "check.h"

static const struct {
    const char *name;
    const char *text;
    size_t len;
    bool ok;
} utf8_rows[] = {
    { "empty", "", 0, true },
    { "ascii", "hello", 5, true },
    { "nul", "a\0b", 3, false },
    { "two bytes", "\xc3\xa9", 2, true },
    { "first of two", "\xc2\x80", 2, true },
    { "last of two", "\xdf\xbf", 2, true },
    { "three bytes", "\xe2\x82\xac", 3, true },
    { "first of three", "\xe0\xa0\x80", 3, true },
    { "before the surrogates", "\xed\x9f\xbf", 3, true },
    { "after the surrogates", "\xee\x80\x80", 3, true },
    { "U+FFFF", "\xef\xbf\xbf", 3, true },
    { "four bytes", "\xf0\x9f\x98\x80", 4, true },
    { "first of four", "\xf0\x90\x80\x80", 4, true },
    { "U+10FFFF", "\xf4\x8f\xbf\xbf", 4, true },
    { "byte order mark", "\xef\xbb\xbfx", 4, true },
    { "lone continuation", "\x80", 1, false },
    { "two continuations", "\xbf\xbf", 2, false },
    { "overlong slash, two", "\xc0\xaf", 2, false },
    { "overlong, c1", "\xc1\xbf", 2, false },
    { "overlong, three", "\xe0\x80\xaf", 3, false },
    { "overlong, three, edge", "\xe0\x9f\xbf", 3, false },
    { "overlong, four", "\xf0\x80\x80\xaf", 4, false },
    { "overlong, four, edge", "\xf0\x8f\xbf\xbf", 4, false },
    { "overlong nul", "\xc0\x80", 2, false },
    { "high surrogate", "\xed\xa0\x80", 3, false },
    { "low surrogate", "\xed\xbf\xbf", 3, false },
    { "above U+10FFFF", "\xf4\x90\x80\x80", 4, false },
    { "f5", "\xf5\x80\x80\x80", 4, false },
    { "ff", "\xff", 1, false },
    { "cut two", "\xc3", 1, false },
    { "cut three", "\xe2\x82", 2, false },
    { "cut four", "\xf0\x9f\x98", 3, false },
    { "cut, then ascii", "\xe2\x82z", 3, false },
    { "third byte bad", "\xe2\x82\x28", 3, false },
    { "fourth byte bad", "\xf0\x9f\x98\x28", 4, false },
};

static const struct {
    const char *text;
    bool ok;
    uint64_t value;
} number_rows[] = {
    { "0", true, 0 },
    { "00", true, 0 },
    { "42", true, 42 },
    { "18446744073709551615", true, UINT64_MAX },
    { "18446744073709551616", false, 0 },
    { "99999999999999999999", false, 0 },
    { "184467440737095516150", false, 0 },
    { "", false, 0 },
    { " 1", false, 0 },
    { "1 ", false, 0 },
    { "+1", false, 0 },
    { "-1", false, 0 },
    { "0x10", false, 0 },
    { "1e3", false, 0 },
    { "1.0", false, 0 },
    { "\xd9\xa1", false, 0 }, /* an Arabic digit */
};

static void check_copy(void)
{
    char out[4] = "xyz";
    CHECK(str_copy(out, sizeof out, "abc") && strcmp(out, "abc") == 0);
    CHECK(!str_copy(out, sizeof out, "abcd") && out[0] == 0);
    CHECK(str_copy(out, sizeof out, NULL) && out[0] == 0);
    CHECK(!str_copy(out, 0, "a"));
    CHECK(str_eq(NULL, NULL) && !str_eq(NULL, "") && !str_eq("a", "A") && str_eq("a", "a"));
    CHECK(str_starts("abc", "") && str_starts("abc", "ab") && !str_starts("ab", "abc"));
    CHECK(mem_equal_ct("abc", "abc", 3) && !mem_equal_ct("abc", "abd", 3) &&
          !mem_equal_ct("xbc", "abc", 3) && mem_equal_ct("a", "b", 0));
}

static void check_hex(void)
{
    uint8_t bytes[4] = { 0x00, 0x7f, 0x80, 0xff };
    char text[9];
    hex_encode(bytes, 4, text);
    CHECK_STR("007f80ff", text);
    CHECK(hex_digit('0') == 0 && hex_digit('9') == 9 && hex_digit('a') == 10 &&
          hex_digit('F') == 15);
    CHECK(hex_digit('/') < 0 && hex_digit(':') < 0 && hex_digit('g') < 0 && hex_digit('G') < 0 &&
          hex_digit(0) < 0 && hex_digit((char)0xff) < 0);
}

int main(void)
{
    for (size_t i = 0; i < sizeof utf8_rows / sizeof utf8_rows[0]; i++)
        CHECK_ROW(utf8_rows[i].name,
                  str_utf8(utf8_rows[i].text, utf8_rows[i].len) == utf8_rows[i].ok);
    for (size_t i = 0; i < sizeof number_rows / sizeof number_rows[0]; i++) {
        uint64_t v = 7;
        bool ok = str_u64(number_rows[i].text, &v);
        CHECK_ROW(number_rows[i].text,
                  ok == number_rows[i].ok && v == (ok ? number_rows[i].value : 7));
    }
    check_copy();
    check_hex();
    return check_done();
}
