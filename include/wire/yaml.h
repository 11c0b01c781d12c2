/* YAML in, as JSON: one document of maps, lists and plain values; what JSON cannot say (anchors,
 * aliases, tags, merge keys, keys that are no text, a key twice, further documents) is refused with
 * its line. libyaml stays behind this door. Threads: any. */
#ifndef WIRE_YAML_H
#define WIRE_YAML_H

#include <stddef.h>

#include "base/err.h"
#include "base/field.h"

/* Decodes by shape as json_decode does; *obj must be zeroed, and is released on failure. check: a
 * look at the decoded object that may refuse it, NULL: none; its messages begin with a path as the
 * decoder's do. Messages end with the line: "services.0.cmdd: unknown field (line 4)". Unquoted
 * texts that are whole numbers, true, false, null or ~ count as such. An empty document is {}. */
int yaml_decode(const struct shape *shape, const char *text, size_t len, void *obj,
                int (*check)(const void *obj, struct err *err), struct err *err);

#endif
