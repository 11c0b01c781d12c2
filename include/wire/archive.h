/* What an archive may say. Threads: any. */
#ifndef WIRE_ARCHIVE_H
#define WIRE_ARCHIVE_H

#include <stdbool.h>

/* Does the symbolic link `name` (relative; no ".." in it) end below the archive's root by its text
 * alone, whatever other links it passes? Each ".." of the target must come first: behind a name it
 * would be taken from wherever a link of that name leads. Neither may the target hold characters
 * that lead elsewhere on another system or act on a terminal. target may be NULL: no. */
bool archive_link_stays(const char *name, const char *target);

#endif
