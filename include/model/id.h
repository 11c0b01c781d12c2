/* Ids: ULIDs of 26 Crockford letters, upper-case, 80 random bits from the kernel. Parsed once into
 * a type; below the HTTP edge nobody checks an id again. Threads: any. */
#ifndef MODEL_ID_H
#define MODEL_ID_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

#define ID_LEN 26
struct sandbox_id {
    char text[ID_LEN + 1];
};

/* Accepts any case; I, L, O, U are not letters of this alphabet. ERR_INVALID otherwise. */
int sandbox_id_parse(const char *text, struct sandbox_id *ret, struct err *err);
void sandbox_id_new(struct sandbox_id *ret);
/* Lower-case form, for host names and container names. */
void sandbox_id_lower(const struct sandbox_id *id, char out[ID_LEN + 1]);
bool sandbox_id_eq(const struct sandbox_id *a, const struct sandbox_id *b);

#endif
