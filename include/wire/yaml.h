/* YAML in, as JSON: one document of maps, lists and plain values; what JSON cannot say (anchors,
 * tags, merge keys, keys that are no text) is refused with its line. libyaml stays behind this
 * door. Threads: any. */
#ifndef WIRE_YAML_H
#define WIRE_YAML_H

#include <stddef.h>

#include "base/err.h"
#include "base/field.h"

/* Decodes by shape as json_decode does; *obj must be zeroed. Messages end with the line:
 * "services.0.cmdd: unknown field (line 4)". Texts that look like numbers, true, false or null
 * count as such unless they are quoted. */
int yaml_decode(const struct shape *shape, const char *text, size_t len, void *obj,
                struct err *err);

#endif
