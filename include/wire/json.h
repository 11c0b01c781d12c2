/* JSON in and out.
 *
 * In: a body is decoded by a shape (base/field.h) in one pass: depth at most JSON_DEPTH_MAX,
 * duplicate keys, NUL and non-UTF-8 refused, integers range-checked, unknown keys refused unless
 * the shape is open. Errors name the path: "limits.memory_mib: 12 is below 64". jansson stays
 * behind this door. Out: a writer that appends to a struct buf; commas and escapes are its
 * business. Threads: any. */
#ifndef WIRE_JSON_H
#define WIRE_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/field.h"

/* Decodes text into *obj, which must be zeroed (or hold defaults). len 0 is "{}".
 * -1 with ERR_INVALID or ERR_NOT_SUPPORTED; *obj is released then. */
int json_decode(const struct shape *shape, const char *text, size_t len, void *obj,
                struct err *err);

/* --- whole values, for replies of unknown shape --- */
struct json; /* a parsed value; read-only */
int json_parse(const char *text, size_t len, struct json **ret, struct err *err);
void json_free(struct json *j);
/* Walks a path of object keys ("State.Running"); NULL when absent. Borrowed. */
const struct json *json_at(const struct json *j, const char *path);
/* As json_at, for one key that may itself hold dots ("traefik.enable"). */
const struct json *json_key(const struct json *j, const char *key);
size_t json_count(const struct json *j);                      /* array: items; else 0 */
const struct json *json_item(const struct json *j, size_t i); /* array */
const char *json_text(const struct json *j);                  /* string or NULL; borrowed */
bool json_int(const struct json *j, int64_t *ret);
bool json_yes(const struct json *j);
/* Calls fn for each pair of an object. */
void json_each(const struct json *j,
               void (*fn)(void *ctx, const char *key, const struct json *value), void *ctx);
/* Compact JSON text of a value; caller frees. */
char *json_dump(const struct json *j);

static inline void auto_json(struct json **j)
{
    json_free(*j);
}

/* --- writer --- */
struct json_out {
    struct buf *b;
    bool comma; /* a value came before on this level */
};
#define JSON_OUT(buffer) \
    (struct json_out)    \
    {                    \
        .b = (buffer)    \
    }
/* key: NULL inside an array or at top level. */
void json_open(struct json_out *o, const char *key);                  /* { */
void json_close(struct json_out *o);                                  /* } */
void json_list(struct json_out *o, const char *key);                  /* [ */
void json_unlist(struct json_out *o);                                 /* ] */
void json_put(struct json_out *o, const char *key, const char *text); /* NULL text writes null */
void json_put_n(struct json_out *o, const char *key, const char *text, size_t len);
void json_put_int(struct json_out *o, const char *key, int64_t value);
void json_put_real(struct json_out *o, const char *key, double value);
void json_put_bool(struct json_out *o, const char *key, bool value);
void json_put_null(struct json_out *o, const char *key);
/* A value that is JSON text already. */
void json_put_raw(struct json_out *o, const char *key, const char *json);
/* RFC 3339 with milliseconds; 0 writes null. */
void json_put_time(struct json_out *o, const char *key, int64_t wall_ms);
/* Bytes that may not be UTF-8: invalid sequences become U+FFFD. */
void json_put_bytes(struct json_out *o, const char *key, const void *data, size_t len);

/* A command as clients give it: a list of strings, or one string, which the shell runs. */
int json_command(const char *json, struct strv *ret, struct err *err);

/* Maps as JSON text and back (for storage). */
char *strmap_to_json(const struct strmap *m);
int strmap_from_json(const char *text, struct strmap *ret, struct err *err);

#endif
