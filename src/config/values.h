/* From text to what the program works with: binds, tokens, lists, times. Private to config/. */
#ifndef CONFIG_VALUES_H
#define CONFIG_VALUES_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "config/config.h"

/* "500ms", "10s", "15m", "24h", "1h30m"; a plain number counts seconds. */
bool value_duration(const char *text, int64_t *ret_ms);
/* The shortest form that value_duration reads back. */
void value_duration_text(int64_t ms, char *out, size_t size);
/* 1 true yes on, 0 false no off; any case. */
bool value_bool(const char *text, bool *ret);
/* Fills the members that are parsed out of text members, and checks what knobs promise together.
 * The tokens' text is erased. */
int values_derive(struct config *c, struct err *err);

#endif
