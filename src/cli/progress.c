/* The line of progress. */
#include "progress.h"

#include <stdbool.h>
#include <stdio.h>
#include <unistd.h>

#include "base/clock.h"
#include "text.h"

#define QUIET_MS 700 /* what is over by then needs no word */
#define STEP_MS 200

static int64_t began_ms, shown_ms;
static bool shown;

void progress(const char *what, int64_t done, int64_t total)
{
    char size[TEXT_SIZE], of[TEXT_SIZE];
    int64_t now = clock_mono_ms();
    if (began_ms == 0)
        began_ms = shown_ms = now;
    if (now - began_ms < QUIET_MS || now - shown_ms < STEP_MS || !isatty(STDERR_FILENO))
        return;
    shown_ms = now;
    shown = true;
    long long seconds = (long long)(now - began_ms) / 1000;
    if (done <= 0 && total < 0)
        (void)fprintf(stderr, "\r\033[K%s, %lld s", what, seconds);
    else if (total > 0)
        (void)fprintf(stderr, "\r\033[K%s: %s of %s, %lld %%", what, text_size(done, size),
                      text_size(total, of), (long long)(done * 100 / total));
    else
        (void)fprintf(stderr, "\r\033[K%s: %s, %lld s", what, text_size(done, size), seconds);
    (void)fflush(stderr);
}

void progress_end(void)
{
    if (shown)
        (void)fputs("\r\033[K", stderr);
    shown = false;
    began_ms = 0;
}
