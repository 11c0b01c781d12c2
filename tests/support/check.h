/* A small TAP harness for unit tests: CHECK names the row and goes on; the program's exit status
 * tells.
 *
 *   int main(void) { CHECK(x == 3); CHECK_ROW("lower case", str_eq(a, b)); return check_done(); }
 */
#ifndef SUPPORT_CHECK_H
#define SUPPORT_CHECK_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>

static int check_count, check_failed;

static inline bool check_one(bool ok, const char *what, const char *row, const char *file, int line)
{
    check_count++;
    if (!ok) {
        check_failed++;
        printf("not ok %d - %s%s%s\n# at %s:%d\n", check_count, what, row ? " | row: " : "",
               row ? row : "", file, line);
    } else {
        printf("ok %d\n", check_count);
    }
    (void)fflush(stdout);
    return ok;
}

#define CHECK(cond) check_one((cond), #cond, NULL, __FILE__, __LINE__)
#define CHECK_ROW(row, cond) check_one((cond), #cond, (row), __FILE__, __LINE__)
#define CHECK_STR(want, got)                                                                       \
    do {                                                                                           \
        const char *want_ = (want), *got_ = (got);                                                 \
        if (!check_one(want_ && got_ && strcmp(want_, got_) == 0, #got, NULL, __FILE__, __LINE__)) \
            printf("# want: %s\n# got:  %s\n", want_ ? want_ : "(null)", got_ ? got_ : "(null)");  \
    } while (0)

/* What this thread has worked, in ms: a bound on it holds however busy the machine is. */
static inline int64_t check_cpu_ms(void)
{
    struct timespec t = { 0 };
    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static inline int check_done(void)
{
    printf("1..%d\n", check_count);
    if (check_failed)
        printf("# %d of %d failed\n", check_failed, check_count);
    return check_failed || check_count == 0 ? 1 : 0;
}

#endif
