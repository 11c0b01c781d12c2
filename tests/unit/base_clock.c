/* Times as text, and deadlines that do not overflow poll(). */
#include <limits.h>
#include <string.h>

#include "base/clock.h"
#include "check.h"

static const struct {
    int64_t ms;
    const char *with_ms, *seconds;
} rows[] = {
    { 0, "1970-01-01T00:00:00.000Z", "1970-01-01T00:00:00Z" },
    { 1, "1970-01-01T00:00:00.001Z", "1970-01-01T00:00:00Z" },
    { 999, "1970-01-01T00:00:00.999Z", "1970-01-01T00:00:00Z" },
    { 951782400000, "2000-02-29T00:00:00.000Z", "2000-02-29T00:00:00Z" },
    { 1709164800042, "2024-02-29T00:00:00.042Z", "2024-02-29T00:00:00Z" },
    { 4102444799999, "2099-12-31T23:59:59.999Z", "2099-12-31T23:59:59Z" },
    { 253402300799999, "9999-12-31T23:59:59.999Z", "9999-12-31T23:59:59Z" },
    { 253402300800000, "1970-01-01T00:00:00.000Z", "1970-01-01T00:00:00Z" }, /* no fifth digit */
    { INT64_MAX, "1970-01-01T00:00:00.000Z", "1970-01-01T00:00:00Z" },
    { -1, "1970-01-01T00:00:00.000Z", "1970-01-01T00:00:00Z" },
    { INT64_MIN, "1970-01-01T00:00:00.000Z", "1970-01-01T00:00:00Z" },
};

/* Every day of 400 years and more, against the C library. */
static void check_days(void)
{
    bool same = true;
    for (int64_t day = 0; day < 366 * 450 && same; day++) {
        char text[CLOCK_TEXT_MAX], want[CLOCK_TEXT_MAX];
        time_t s = (time_t)(day * 86400 + day % 86400);
        struct tm tm;
        (void)gmtime_r(&s, &tm);
        (void)strftime(want, sizeof want, "%Y-%m-%dT%H:%M:%SZ", &tm);
        clock_format_s((int64_t)s * 1000, text);
        same = strcmp(text, want) == 0;
        if (!same)
            printf("# %s is not %s\n", text, want);
    }
    CHECK(same);
}

int main(void)
{
    check_days();
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char text[CLOCK_TEXT_MAX];
        clock_format_ms(rows[i].ms, text);
        CHECK_STR(rows[i].with_ms, text);
        clock_format_s(rows[i].ms, text);
        CHECK_STR(rows[i].seconds, text);
    }
    int64_t now = clock_mono_ms();
    CHECK(clock_mono_ms() >= now && clock_mono_us() / 1000 >= now);
    CHECK(clock_wall_ms() > 1700000000000);
    CHECK(clock_left_ms(0) == 0 && clock_left_ms(now - 1) == 0);
    CHECK(clock_left_ms(INT64_MAX) == INT_MAX);
    int left = clock_left_ms(clock_mono_ms() + 5000);
    CHECK(left > 0 && left <= 5000);
    return check_done();
}
