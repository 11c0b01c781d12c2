/* The two clocks. */
#include "base/clock.h"

#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <time.h>

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

static void format(int64_t wall_ms, bool with_ms, char out[CLOCK_TEXT_MAX])
{
    time_t s = (time_t)(wall_ms / 1000);
    struct tm tm;
    if (wall_ms < 0 || wall_ms > 253402300799999 || !gmtime_r(&s, &tm)) { /* year 9999 */
        s = 0;
        (void)gmtime_r(&s, &tm);
        wall_ms = 0;
    }
    size_t n = strftime(out, CLOCK_TEXT_MAX, "%Y-%m-%dT%H:%M:%S", &tm);
    if (with_ms)
        (void)snprintf(out + n, CLOCK_TEXT_MAX - n, ".%03dZ", (int)(wall_ms % 1000));
    else
        (void)snprintf(out + n, CLOCK_TEXT_MAX - n, "Z");
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
