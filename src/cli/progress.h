/* What goes on, for people: one line on stderr that is rewritten, and nothing at all where stderr
 * is no terminal. Private to cli/; threads: main's. */
#ifndef CLI_PROGRESS_H
#define CLI_PROGRESS_H

#include <stdint.h>

/* Says how far it is; cheap enough to be called at any time. Nothing is shown in the first moments:
 * most things are over by then. total -1: unknown; done 0 and no total: only the time is told. */
void progress(const char *what, int64_t done, int64_t total);
/* Takes the line away. */
void progress_end(void);

#endif
