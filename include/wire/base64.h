/* Base64 (RFC 4648), strict on the way in. Threads: any. */
#ifndef WIRE_BASE64_H
#define WIRE_BASE64_H

#include <stddef.h>

#include "base/buf.h"
#include "base/err.h"

/* Appends the letters of RFC 4648 section 4, with padding. */
void base64_encode(struct buf *b, const void *data, size_t len);
/* Appends the letters that fit URLs (section 5), without padding. */
void base64url_encode(struct buf *b, const void *data, size_t len);
/* Appends the bytes; either alphabet, padding may be left out. ERR_INVALID: other characters, or a
 * length or last character that no encoder makes. */
int base64_decode(const char *text, size_t len, struct buf *out, struct err *err);
/* The same, of the letters that fit URLs only and without padding: one spelling for each value. */
int base64url_decode(const char *text, size_t len, struct buf *out, struct err *err);

#endif
