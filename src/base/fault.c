/* Fault points; empty in a release build. The environment is read once. */
#include "base/fault.h"

#ifdef SANDBOXED_FAULTS
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/str.h"

enum action { ACT_NONE, ACT_KILL, ACT_DELAY, ACT_ERROR };

static struct {
    char name[96];
    enum action action;
    uint64_t delay_ms;
    uint64_t on_pass;
} armed;
static atomic_uint_fast64_t passes;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void arm(void)
{
    const char *text = getenv("SANDBOXD_FAULT");
    if (!text)
        return;
    const char *eq = strchr(text, '=');
    if (!eq || (size_t)(eq - text) >= sizeof armed.name)
        return;
    char action[32];
    const char *colon = strchr(eq, ':');
    size_t len = colon ? (size_t)(colon - eq - 1) : strlen(eq + 1);
    if (len >= sizeof action)
        return;
    memcpy(action, eq + 1, len);
    action[len] = 0;
    armed.on_pass = 1;
    if (colon && !str_u64(colon + 1, &armed.on_pass))
        return;
    memcpy(armed.name, text, (size_t)(eq - text));
    if (str_eq(action, "kill"))
        armed.action = ACT_KILL;
    else if (str_eq(action, "error"))
        armed.action = ACT_ERROR;
    else if (str_starts(action, "delay") && str_u64(action + 5, &armed.delay_ms))
        armed.action = ACT_DELAY;
}

bool fault_hit(const char *name)
{
    (void)pthread_once(&once, arm);
    if (armed.action == ACT_NONE || !str_eq(name, armed.name) ||
        atomic_fetch_add(&passes, 1) + 1 != armed.on_pass)
        return false;
    if (armed.action == ACT_KILL) {
        (void)kill(getpid(), SIGKILL);
        for (;;)
            (void)pause();
    }
    if (armed.action == ACT_DELAY) {
        struct timespec ts = { .tv_sec = (time_t)(armed.delay_ms / 1000),
                               .tv_nsec = (long)(armed.delay_ms % 1000) * 1000000 };
        (void)nanosleep(&ts, NULL);
        return false;
    }
    return true;
}
#endif
