/* The two clocks. */
#include "base/clock.h"

#include <limits.h>
#include <stdbool.h>
#include <time.h>

#include "base/str.h"

int64_t clock_mono_us(void)
{
    struct timespec ts;
    (void)clock_gettime(CLOCK_MONOTONIC, &ts); /* cannot fail for this clock */
    return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

int64_t clock_mono_ms(void)
{
    return clock_mono_us() / 1000;
}

int64_t clock_wall_ms(void)
{
    struct timespec ts;
    (void)clock_gettime(CLOCK_REALTIME, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static void put_digits(char *out, int64_t value, int width)
{
    for (int i = width - 1; i >= 0; i--, value /= 10)
        out[i] = (char)('0' + value % 10);
}

/* Days since 1970 to year, month, day. Years are counted from March, so that the leap day is the
 * last of one; 146097 days are 400 years, and five months from March have 153 days. strftime() and
 * gmtime_r() are 20 times slower, which a list of a thousand sandboxes shows. */
static void format(int64_t wall_ms, bool with_ms, char out[CLOCK_TEXT_MAX])
{
    if (wall_ms < 0 || wall_ms > 253402300799999) /* the year 9999 */
        wall_ms = 0;
    int64_t s = wall_ms / 1000 % 86400;
    int64_t days = wall_ms / 86400000 + 719468; /* since 1 March of the year 0 */
    int64_t era = days / 146097, in_era = days % 146097;
    int64_t year = (in_era - in_era / 1460 + in_era / 36524 - in_era / 146096) / 365;
    int64_t in_year = in_era - (365 * year + year / 4 - year / 100);
    int64_t month = (5 * in_year + 2) / 153; /* 0: March */
    int64_t day = in_year - (153 * month + 2) / 5 + 1;
    (void)str_copy(out, CLOCK_TEXT_MAX,
                   with_ms ? "0000-00-00T00:00:00.000Z" : "0000-00-00T00:00:00Z");
    put_digits(out, era * 400 + year + (month >= 10), 4);
    put_digits(out + 5, month < 10 ? month + 3 : month - 9, 2);
    put_digits(out + 8, day, 2);
    put_digits(out + 11, s / 3600, 2);
    put_digits(out + 14, s / 60 % 60, 2);
    put_digits(out + 17, s % 60, 2);
    if (with_ms)
        put_digits(out + 20, wall_ms % 1000, 3);
}

void clock_format_ms(int64_t wall_ms, char out[CLOCK_TEXT_MAX])
{
    format(wall_ms, true, out);
}

void clock_format_s(int64_t wall_ms, char out[CLOCK_TEXT_MAX])
{
    format(wall_ms, false, out);
}

int clock_left_ms(int64_t deadline_ms)
{
    int64_t left = deadline_ms - clock_mono_ms();
    return left < 0 ? 0 : left > INT_MAX ? INT_MAX : (int)left;
}
