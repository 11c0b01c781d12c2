/* Raw mode and the ways out of it. */
#include "terminal.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <termios.h>
#include <unistd.h>

#include "base/str.h"

static struct termios before;
static volatile sig_atomic_t raw;

void terminal_restore(void)
{
    if (raw)
        (void)tcsetattr(STDIN_FILENO, TCSADRAIN, &before); /* the terminal may be gone */
    raw = 0;
}

/* The handler is gone by now (SA_RESETHAND): the fault happens again, and ends us as it would. */
static void on_crash(int number)
{
    (void)number;
    if (raw)
        (void)tcsetattr(STDIN_FILENO, TCSANOW, &before);
    raw = 0;
}

int terminal_raw(struct err *err)
{
    static const int crashes[] = { SIGSEGV, SIGABRT, SIGBUS, SIGFPE, SIGILL };
    static bool prepared;
    struct termios t;
    if (tcgetattr(STDIN_FILENO, &before) < 0) {
        (void)err_set(err, ERR_INVALID, "standard input is no terminal");
        return err_remedy(err, "exec -i takes input from files and pipes.");
    }
    for (size_t i = 0; !prepared && i < sizeof crashes / sizeof crashes[0]; i++) {
        struct sigaction act = { .sa_handler = on_crash, .sa_flags = (int)SA_RESETHAND };
        (void)sigaction(crashes[i], &act, NULL); /* the numbers are right */
    }
    if (!prepared)
        (void)atexit(terminal_restore);
    prepared = true;
    t = before;
    cfmakeraw(&t);
    raw = 1; /* first: a crash in between restores what has not changed */
    if (tcsetattr(STDIN_FILENO, TCSADRAIN, &t) < 0)
        return err_sys(err, errno, "the terminal");
    return 0;
}

void terminal_size(int *ret_cols, int *ret_rows)
{
    struct winsize w;
    bool known = ioctl(STDIN_FILENO, TIOCGWINSZ, &w) == 0 && w.ws_col > 0 && w.ws_row > 0;
    *ret_cols = !known ? 80 : w.ws_col < 1000 ? w.ws_col : 1000;
    *ret_rows = !known ? 24 : w.ws_row < 1000 ? w.ws_row : 1000;
}

int terminal_signals(struct err *err)
{
    static const int all[] = { SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGWINCH, SIGTSTP, SIGCONT };
    sigset_t set;
    sigemptyset(&set);
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        sigaddset(&set, all[i]);
    (void)sigprocmask(SIG_BLOCK, &set, NULL); /* the set is right */
    int fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    return fd < 0 ? err_sys(err, errno, "signals") : fd;
}

int terminal_signal(int fd)
{
    struct signalfd_siginfo s;
    return read(fd, &s, sizeof s) == sizeof s ? (int)s.ssi_signo : 0;
}

void terminal_suspend(void)
{
    struct err ignored;
    terminal_restore();
    (void)raise(SIGSTOP);
    (void)terminal_raw(&ignored); /* it was one a moment ago */
}

/* --- the keys that leave --- */

int detach_keys_parse(const char *text, struct detach_keys *ret, struct err *err)
{
    struct detach_keys d = { 0 };
    for (const char *p = text; *p;) {
        size_t len = strcspn(p, ",");
        unsigned char key = (unsigned char)p[0];
        bool ctrl = len == 6 && strncmp(p, "ctrl-", 5) == 0;
        if (ctrl)
            key = (unsigned char)(p[5] >= 'a' && p[5] <= 'z' ? p[5] - 'a' + 'A' : p[5]);
        bool known = ctrl ? key >= '@' && key <= '_' : len == 1 && key > ' ' && key < 0x7f;
        if (!known || d.count == DETACH_KEYS_MAX)
            return err_set(
                err, ERR_INVALID,
                "--detach-keys: %s is not up to %d of a, ctrl-a, ... with commas between", text,
                DETACH_KEYS_MAX);
        d.keys[d.count++] = ctrl ? (unsigned char)(key - '@') : key;
        p += len + (p[len] == ',');
    }
    *ret = d;
    return 0;
}

bool detach_keys_feed(struct detach_keys *d, const char *in, size_t n, char *out, size_t *ret_len)
{
    size_t len = 0;
    for (size_t i = 0; i < n; i++) {
        unsigned char key = (unsigned char)in[i];
        if (d->seen < d->count && key == d->keys[d->seen]) {
            if (++d->seen < d->count)
                continue;
            *ret_len = len;
            return true;
        }
        /* Not the keys after all: what was kept back goes on. The first of them may begin anew. */
        memcpy(out + len, d->keys, d->seen);
        len += d->seen;
        d->seen = d->count > 1 && key == d->keys[0];
        if (!d->seen)
            out[len++] = (char)key;
    }
    *ret_len = len;
    return false;
}
