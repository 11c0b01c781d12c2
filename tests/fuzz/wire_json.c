/* JSON bodies: whatever is decoded is released; what the writer writes, the reader reads. */
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/limits.h"
#include "base/str.h"
#include "wire/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct inner {
    uint32_t n;
    char *word;
};
struct thing {
    char *name;
    uint32_t count;
    int64_t big;
    bool flag;
    int color;
    struct strv list;
    struct strmap map;
    struct u16v ports;
    struct inner inner;
    char *any;
};

static const char *const colors[] = { "red", "green", NULL };
static const struct field inner_fields[] = {
    FIELD_U32(struct inner, n, .lo = 0, .hi = UINT32_MAX),
    FIELD_STR(struct inner, word, .flags = FIELD_REQUIRED, .hi = 100),
};
static const struct shape inner_shape = SHAPE("inner", inner_fields);
static const struct field fields[] = {
    FIELD_STR(struct thing, name, .hi = 100, .flags = FIELD_NULLABLE),
    FIELD_U32(struct thing, count, .lo = 1, .hi = UINT32_MAX),
    FIELD_I64(struct thing, big, .lo = INT64_MIN, .hi = INT64_MAX),
    FIELD_BOOL(struct thing, flag),
    FIELD_ENUM(struct thing, color, .names = colors),
    FIELD_STRV(struct thing, list, .hi = 10),
    FIELD_MAP(struct thing, map, .hi = 10),
    FIELD_U16V(struct thing, ports, .lo = 1, .hi = 65535),
    FIELD_OBJ(struct thing, inner, &inner_shape),
    FIELD_ANY(struct thing, any),
};
static const struct shape closed = SHAPE("thing", fields);
static const struct shape open_shape = SHAPE("thing", fields, .open = true);

static void decode(const struct shape *shape, const char *text, size_t size)
{
    struct thing t = { 0 };
    struct err err;
    if (json_decode(shape, text, size, &t, &err) == 0) {
        if (t.ports.count > 32 || t.list.count > 10 || t.map.count > 10 || t.color > 1)
            abort();
        shape_release(shape, &t);
    } else if (t.name || t.list.items || t.map.names || t.any ||
               !str_utf8(err.msg, strlen(err.msg)) || strchr(err.msg, '\n')) {
        abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *text = (const char *)data;
    struct err err;
    AUTO(json) struct json *j = NULL;
    decode(&closed, text, size);
    decode(&open_shape, text, size);
    if (json_parse(text, size, &j, &err) == 0) {
        AUTO(free) char *dump = json_dump(j);
        AUTO(json) struct json *again = NULL;
        if (json_parse(dump, strlen(dump), &again, &err) < 0)
            abort();
    }
    /* any bytes at all become JSON text */
    AUTO(buf) struct buf b = BUF_INIT(size * 6 + 64);
    AUTO(json) struct json *back = NULL;
    struct json_out o = JSON_OUT(&b);
    json_list(&o, NULL);
    json_put_bytes(&o, NULL, data, size);
    json_unlist(&o);
    if (buf_done(&b, &err) < 0 ||
        (!memchr(data, 0, size) && json_parse(buf_str(&b), b.len, &back, &err) < 0))
        abort();
    AUTO(free) char *copy = str_ndup(text, size);
    struct strmap m = { 0 };
    if (strmap_from_json(copy, &m, &err) == 0) {
        struct strmap same = { 0 };
        AUTO(free) char *written = strmap_to_json(&m);
        if (strmap_from_json(written, &same, &err) < 0 || same.count != m.count)
            abort();
        strmap_release(&same);
        strmap_release(&m);
    }
    return 0;
}
