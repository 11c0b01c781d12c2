/* Where a piece of text was cut in the middle of a character. Threads: any. */
#ifndef UTF8_H
#define UTF8_H

#include <stdbool.h>
#include <stddef.h>

struct utf8_tail {
    char bytes[4];
    size_t len;
};

/* How many bytes at the end begin a character that is not complete: 0 to 3. */
size_t utf8_open(const char *text, size_t len);

#endif
