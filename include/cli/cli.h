/* The command line of the API's clients: the second half of this binary. It speaks to a daemon,
 * here or far away, by HTTP alone, and opens no door of the daemon's rooms. One table of commands
 * (commands.c) is what parses, helps, completes and fills the manual page. One command a process;
 * threads: main's. */
#ifndef CLI_CLI_H
#define CLI_CLI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

/* Is this first word of a command line ours? */
bool cli_knows(const char *word);
/* Runs one command; returns the exit status. argv[1] is its first word. */
int cli_run(int argc, char **argv);
/* The commands, a line each. */
void cli_print_help(FILE *out);

/* A command of this binary that is not ours, for the manual page. */
struct cli_other {
    const char *synopsis, *help;
};
/* The manual page, as troff. */
void cli_print_man(FILE *out, const struct cli_other *others, size_t count);

#endif
