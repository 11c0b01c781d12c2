/* Text for people: whatever it holds, it moves no cursor and fakes no line. Private to cli/. */
#ifndef CLI_TEXT_H
#define CLI_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/buf.h"

/* Appends text with what is not to be shown written as \xNN or \u{NNNN}: control characters, bytes
 * that are no UTF-8, and characters that turn the direction of writing. Returns its width in
 * columns. limit: no more columns than that, the last one is then "…"; 0: no limit. */
size_t text_show(struct buf *b, const char *text, size_t len, size_t limit);

/* A table whose columns are as wide as they need be. Cells are copied. */
#define TABLE_COLUMNS 8
struct table {
    const char *heads[TABLE_COLUMNS];
    size_t columns;
    struct buf cells; /* each ends with NUL */
    size_t count;
};
#define TABLE_MAX (64u * 1024 * 1024)
/* NULL counts as "-". */
void table_add(struct table *t, const char *text);
/* The last column is cut to fit into `width` columns; 0: nothing is cut. */
void table_print(struct table *t, FILE *out, size_t width);
void table_release(struct table *t);
static inline void auto_table(struct table *t)
{
    table_release(t);
}
/* Columns of the terminal that stdout is; 0: it is none. */
size_t text_columns(void);

#define TEXT_SIZE 24
/* "17 B", "1.5 GiB" */
const char *text_size(int64_t bytes, char out[TEXT_SIZE]);
/* "3 min", from milliseconds. */
const char *text_time(int64_t ms, char out[TEXT_SIZE]);
/* How long ago an RFC 3339 time of the API is; "-" for NULL. */
const char *text_ago(const char *time, int64_t now_ms, char out[TEXT_SIZE]);

#endif
