/* The commands beside `serve`. Private to main. */
#ifndef COMMANDS_H
#define COMMANDS_H

#include <stdio.h>

/* Looks at everything the daemon needs and says what is wrong and what to do; changes nothing that
 * lasts, and works beside a running daemon. Returns the exit status: 1 when something is at fault.
 */
int doctor(const char *env_file);

/* Writes Traefik's configuration into dir (NULL: <data>/traefik) and prints what it wrote. */
int print_traefik(const char *env_file, const char *dir);

/* States and edges as Markdown, for ARCHITECTURE.md. */
void print_states(FILE *out);

#endif
