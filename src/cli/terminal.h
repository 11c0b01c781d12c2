/* The terminal that a person sits at. Private to cli/; threads: main's.
 *
 * However the program ends, the terminal is as it was: on return, on the signals that end a process
 * (terminal_signals hands them out), on a crash. Only KILL leaves it raw. */
#ifndef CLI_TERMINAL_H
#define CLI_TERMINAL_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

/* Raw: keys come as they are pressed, and none is a signal. ERR_INVALID: stdin is no terminal. */
int terminal_raw(struct err *err);
void terminal_restore(void);
/* Columns and rows; 80 by 24 where nobody knows. */
void terminal_size(int *ret_cols, int *ret_rows);
/* A descriptor that is readable when a signal came (TERM, INT, HUP, QUIT, WINCH, TSTP, CONT). */
int terminal_signals(struct err *err);
/* Which; 0: none. */
int terminal_signal(int fd);
/* Stops this process as TSTP asks for, with the terminal as it was, and goes on after CONT. */
void terminal_suspend(void);

/* Keys in a row that leave the terminal. */
#define DETACH_KEYS_MAX 8
struct detach_keys {
    unsigned char keys[DETACH_KEYS_MAX];
    size_t count, seen;
};
/* "ctrl-p,ctrl-q", "ctrl-],q", "" (none). */
int detach_keys_parse(const char *text, struct detach_keys *ret, struct err *err);
/* Takes n typed bytes and writes those that go on to out, which has room for n + DETACH_KEYS_MAX;
 * true: the keys were all pressed, and what follows them is dropped. */
bool detach_keys_feed(struct detach_keys *d, const char *in, size_t n, char *out, size_t *ret_len);

#endif
