/* What a search compares with: globs for names, plain text and patterns for lines. Every call is
 * bounded in time, whatever the pattern and the data. Private to volume/. One thread each. */
#ifndef MATCH_H
#define MATCH_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

/* * and ? stay within a component, ** does not; [a-z], [!a] and \x as usual. Steps: at most the
 * product of both lengths. */
bool glob_match(const char *pattern, const char *text);

struct matcher;
int matcher_new(const char *text, bool regex, bool ignore_case, struct matcher **ret,
                struct err *err);
void matcher_free(struct matcher *m);
/* The next match within one line at or behind `from`: 1 and its place, 0: none, -1: it took too
 * many steps. */
int matcher_find(struct matcher *m, const char *data, size_t len, size_t from, size_t *ret_at,
                 size_t *ret_end);

#endif
