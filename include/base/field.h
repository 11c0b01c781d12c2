/* One description of a struct, three readers: JSON bodies (wire/), SQL rows (store/) and the
 * environment (config/) all walk tables of `struct field`. The FIELD_ macros assert that member and
 * row agree in type, so a wrong row does not compile. Plain data; threads: any. */
#ifndef BASE_FIELD_H
#define BASE_FIELD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum field_type {
    FIELD_TYPE_STR,  /* char *, heap, NULL = absent; lo..hi = bytes */
    FIELD_TYPE_U32,  /* uint32_t within lo..hi */
    FIELD_TYPE_I64,  /* int64_t within lo..hi */
    FIELD_TYPE_BOOL, /* bool */
    FIELD_TYPE_ENUM, /* int: index into names[] */
    FIELD_TYPE_STRV, /* struct strv: list of text; hi = items */
    FIELD_TYPE_MAP,  /* struct strmap: text to text; hi = pairs */
    FIELD_TYPE_U16V, /* struct u16v: list of numbers lo..hi */
    FIELD_TYPE_OBJ,  /* nested struct by sub-shape */
    FIELD_TYPE_LIST, /* struct objv: list of structs by sub-shape; lo: size of one, hi: how many */
    FIELD_TYPE_ANY,  /* char *: whatever value, kept as its JSON text */
};

enum field_flags {
    FIELD_REQUIRED = 1 << 0,
    FIELD_NULLABLE = 1 << 1, /* JSON null counts as absent */
    FIELD_SECRET = 1 << 2,   /* values never shown */
};

struct strv {
    char **items;
    size_t count;
};
struct strmap {
    char **names;
    char **values;
    size_t count;
};
struct u16v {
    uint16_t items[32];
    size_t count;
};

struct objv {
    void *items; /* array of structs */
    size_t count;
};

struct shape;
struct field {
    const char *name;
    enum field_type type;
    size_t offset;
    unsigned flags;
    int64_t lo, hi;
    const char *const *names;  /* ENUM: NULL-terminated */
    const struct shape *shape; /* OBJ */
    /* Offset of a bool member that is set when the field was there; SIZE_MAX = none. */
    size_t seen;
    const char *help;
    /* For the OpenAPI document: what the row does not say by itself, one line of flow YAML. */
    const char *schema;
};

struct shape {
    const char *name;
    const struct field *fields;
    size_t count;
    const char *schema; /* as a row's: rules between fields */
    bool open; /* unknown keys are ignored (Docker's replies, legacy routes) instead of refused */
};

#define FIELD_CHECK_(s, m, t) \
    (sizeof(char[__builtin_types_compatible_p(__typeof__(((s *)0)->m), t) ? 1 : -1]) * 0)
#define FIELD_ROW_(s, m, t, ctype, ...)                                                \
    {                                                                                  \
        .name = #m, .type = (t), .offset = offsetof(s, m) + FIELD_CHECK_(s, m, ctype), \
        .seen = SIZE_MAX, __VA_ARGS__                                                  \
    }
/* A row may override .name where the wire's word differs from the member's. */
#define FIELD_STR(s, m, ...) FIELD_ROW_(s, m, FIELD_TYPE_STR, char *, __VA_ARGS__)
#define FIELD_U32(s, m, ...) FIELD_ROW_(s, m, FIELD_TYPE_U32, uint32_t, __VA_ARGS__)
#define FIELD_I64(s, m, ...) FIELD_ROW_(s, m, FIELD_TYPE_I64, int64_t, __VA_ARGS__)
#define FIELD_BOOL(s, m, ...) FIELD_ROW_(s, m, FIELD_TYPE_BOOL, bool, __VA_ARGS__)
#define FIELD_ENUM(s, m, ...) FIELD_ROW_(s, m, FIELD_TYPE_ENUM, int, __VA_ARGS__)
#define FIELD_STRV(s, m, ...) FIELD_ROW_(s, m, FIELD_TYPE_STRV, struct strv, __VA_ARGS__)
#define FIELD_MAP(s, m, ...) FIELD_ROW_(s, m, FIELD_TYPE_MAP, struct strmap, __VA_ARGS__)
#define FIELD_U16V(s, m, ...) FIELD_ROW_(s, m, FIELD_TYPE_U16V, struct u16v, __VA_ARGS__)
#define FIELD_ANY(s, m, ...) FIELD_ROW_(s, m, FIELD_TYPE_ANY, char *, __VA_ARGS__)
/* elem: the type of one. */
#define FIELD_LIST(s, m, elem, shp, ...)                                            \
    {                                                                               \
        .name = #m, .type = FIELD_TYPE_LIST,                                        \
        .offset = offsetof(s, m) + FIELD_CHECK_(s, m, struct objv), .shape = (shp), \
        .lo = sizeof(elem), .seen = SIZE_MAX, __VA_ARGS__                           \
    }
#define FIELD_OBJ(s, m, shp, ...)                                                     \
    {                                                                                 \
        .name = #m, .type = FIELD_TYPE_OBJ, .offset = offsetof(s, m), .shape = (shp), \
        .seen = SIZE_MAX, __VA_ARGS__                                                 \
    }
#define SHAPE(shape_name, rows, ...)                                                       \
    {                                                                                      \
        .name = (shape_name), .fields = (rows), .count = sizeof(rows) / sizeof((rows)[0]), \
        __VA_ARGS__                                                                        \
    }

/* Frees every heap member that the rows name; the struct is zero in them afterwards. */
void shape_release(const struct shape *shape, void *obj);

void objv_release(const struct shape *shape, size_t size, struct objv *v);
void strv_release(struct strv *v);
void strv_add(struct strv *v, const char *text);
void strmap_release(struct strmap *m);
void strmap_add(struct strmap *m, const char *name, const char *value);
static inline void auto_strv(struct strv *v)
{
    strv_release(v);
}
/* NULL when absent. */
const char *strmap_get(const struct strmap *m, const char *name);

#endif
