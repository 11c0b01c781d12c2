/* Lock ranks: debug builds abort on a wrong order. Each case runs in a child of its own. */
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mu.h"
#include "check.h"

static struct mu low, high, same;

NO_THREAD_SAFETY static void rising(void)
{
    mu_lock(&low);
    mu_lock(&high);
    mu_held(&low);
    mu_held(&high);
    mu_unlock(&high);
    mu_unlock(&low);
    mu_lock(&high);
    mu_unlock(&high);
}

NO_THREAD_SAFETY static void falling(void)
{
    mu_lock(&high);
    mu_lock(&low);
}

NO_THREAD_SAFETY static void equal(void)
{
    mu_lock(&low);
    mu_lock(&same);
}

NO_THREAD_SAFETY static void twice(void)
{
    mu_lock(&low);
    mu_lock(&low);
}

NO_THREAD_SAFETY static void out_of_order(void)
{
    mu_lock(&low);
    mu_lock(&high);
    mu_unlock(&low);
}

NO_THREAD_SAFETY static void not_held(void)
{
    mu_held(&low);
}

NO_THREAD_SAFETY static void given_twice(void)
{
    mu_lock(&low);
    mu_unlock(&low);
    mu_unlock(&low);
}

static const struct {
    const char *name;
    void (*run)(void);
    bool aborts;
} rows[] = {
    { "rising ranks", rising, false },
    { "falling ranks", falling, true },
    { "equal ranks", equal, true },
    { "the same lock twice", twice, true },
    { "unlocked out of order", out_of_order, true },
    { "held by nobody", not_held, true },
    { "unlocked twice", given_twice, true },
};

static bool aborts(void (*run)(void))
{
    int status = 0;
    pid_t pid = fork();
    if (pid == 0) {
        struct rlimit none = { 0, 0 };
        (void)setrlimit(RLIMIT_CORE, &none);
        (void)signal(SIGABRT, SIG_DFL); /* a sanitizer's report would only be noise */
        run();
        _exit(0);
    }
    return pid > 0 && waitpid(pid, &status, 0) == pid && WIFSIGNALED(status) &&
           WTERMSIG(status) == SIGABRT;
}

static void check_deadline(void)
{
    struct cond c;
    cond_init(&c);
    int64_t from = clock_mono_ms();
    mu_lock(&low);
    while (cond_wait_until(&c, &low, from + 30))
        continue;
    mu_held(&low);
    mu_unlock(&low);
    CHECK(clock_mono_ms() >= from + 30);
    mu_lock(&low);
    CHECK(!cond_wait_until(&c, &low, from)); /* passed already */
    mu_unlock(&low);
    cond_release(&c);
}

int main(void)
{
    mu_init(&low, MU_LINK);
    mu_init(&same, MU_LINK);
    mu_init(&high, MU_POOL);
#ifdef SANDBOXED_DEBUG
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        CHECK_ROW(rows[i].name, aborts(rows[i].run) == rows[i].aborts);
#else
    CHECK_ROW(rows[0].name, !aborts(rows[0].run)); /* nothing is asserted in a release build */
#endif
    check_deadline();
    mu_release(&low);
    mu_release(&same);
    mu_release(&high);
    return check_done();
}
