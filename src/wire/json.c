/* Reading JSON: jansson parses, the shape decides. The depth is counted before jansson sees the
 * text, for its own limit is deeper than ours and not ours to set. */
#include "wire/json.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/limits.h"
#include "base/str.h"

struct json; /* = json_t, by cast */

static json_t *unwrap(const struct json *j)
{
    return (json_t *)(uintptr_t)j;
}

static const struct json *wrap(const json_t *j)
{
    return (const struct json *)j;
}

static int check_depth(const char *text, size_t len, struct err *err)
{
    unsigned depth = 0;
    bool quoted = false;
    for (size_t i = 0; i < len; i++) {
        char c = text[i];
        if (quoted) {
            if (c == '\\')
                i++;
            else if (c == '"')
                quoted = false;
        } else if (c == '"') {
            quoted = true;
        } else if (c == '{' || c == '[') {
            if (++depth > JSON_DEPTH_MAX)
                return err_set(err, ERR_INVALID, "invalid json: nested deeper than %d",
                               JSON_DEPTH_MAX);
        } else if ((c == '}' || c == ']') && depth > 0) {
            depth--;
        }
    }
    return 0;
}

static json_t *load(const char *text, size_t len, struct err *err)
{
    json_error_t why;
    if (check_depth(text, len, err) < 0)
        return NULL;
    const size_t flags = JSON_REJECT_DUPLICATES | JSON_DECODE_ANY;
    json_t *j = json_loadb(text, len, flags, &why);
    /* A whole number beyond 64 bits is JSON all the same; then all of them come as reals. */
    if (!j && json_error_code(&why) == json_error_numeric_overflow)
        j = json_loadb(text, len, flags | JSON_DECODE_INT_AS_REAL, &why);
    if (!j) {
        /* jansson's words quote the text near the fault; ours must stay printable */
        for (char *p = why.text; *p; p++)
            if ((unsigned char)*p < 0x20 || (unsigned char)*p >= 0x7f)
                *p = '?';
        (void)err_set(err, ERR_INVALID, "invalid json: %s (line %d, column %d)", why.text, why.line,
                      why.column);
    }
    return j;
}

int json_parse(const char *text, size_t len, struct json **ret, struct err *err)
{
    json_t *j = load(text, len, err);
    if (!j)
        return -1;
    *ret = (struct json *)j;
    return 0;
}

void json_free(struct json *j)
{
    json_decref(unwrap(j));
}

const struct json *json_key(const struct json *j, const char *key)
{
    return wrap(json_object_get(unwrap(j), key));
}

const struct json *json_at(const struct json *j, const char *path)
{
    char key[128];
    while (j && *path) {
        size_t n = strcspn(path, ".");
        if (n >= sizeof key)
            return NULL;
        memcpy(key, path, n);
        key[n] = 0;
        j = json_key(j, key);
        path += n + (path[n] == '.');
    }
    return j;
}

size_t json_count(const struct json *j)
{
    return json_array_size(unwrap(j));
}

const struct json *json_item(const struct json *j, size_t i)
{
    return wrap(json_array_get(unwrap(j), i));
}

const char *json_text(const struct json *j)
{
    return json_string_value(unwrap(j));
}

/* Whole numbers only; 727.0 is one (RFC 8259 knows no integers). */
static bool whole(const json_t *j, int64_t *ret)
{
    double v = json_real_value(j); /* 0 for what is none */
    if (json_is_integer(j))
        *ret = json_integer_value(j);
    else if (json_is_real(j) && fabs(v) < 9e15 && floor(v) == v)
        *ret = (int64_t)v;
    else
        return false;
    return true;
}

bool json_int(const struct json *j, int64_t *ret)
{
    return j && whole(unwrap(j), ret);
}

bool json_yes(const struct json *j)
{
    return j && json_is_true(unwrap(j));
}

void json_each(const struct json *j,
               void (*fn)(void *ctx, const char *key, const struct json *value), void *ctx)
{
    const char *key;
    json_t *value;
    json_object_foreach(unwrap(j), key, value) fn(ctx, key, wrap(value));
}

char *json_dump(const struct json *j)
{
    char *text = json_dumps(unwrap(j), JSON_COMPACT | JSON_ENCODE_ANY);
    if (!text)
        abort(); /* only for values that jansson did not parse itself */
    return text;
}

/* --- decoding by shape --- */

#define JSON_PATH_MAX 200

struct place { /* where in the body we are, for messages */
    char path[JSON_PATH_MAX];
};

static struct place below(const struct place *at, const char *name)
{
    struct place p;
    if ((size_t)snprintf(p.path, sizeof p.path, "%s%s%.64s", at->path, at->path[0] ? "." : "",
                         name) >= sizeof p.path)
        p.path[sizeof p.path - 1] = 0;
    for (char *c = p.path; *c; c++) /* names come from the client */
        if ((unsigned char)*c < 0x20 || (unsigned char)*c >= 0x7f)
            *c = '?';
    return p;
}

static int wrong(const struct place *at, struct err *err, const char *rule)
{
    return err_set(err, ERR_INVALID, "%s: %s", at->path[0] ? at->path : "body", rule);
}

static int get_int(const struct field *f, const json_t *j, const struct place *at, int64_t *ret,
                   struct err *err)
{
    int64_t v;
    if (!whole(j, &v) && f->help)
        return err_set(err, ERR_INVALID, "%s: must be a whole number: %s", at->path, f->help);
    if (!whole(j, &v))
        return wrong(at, err, "must be a whole number");
    if (v < f->lo)
        return err_set(err, ERR_INVALID, "%s: %lld is below %lld", at->path, (long long)v,
                       (long long)f->lo);
    if (v > f->hi)
        return err_set(err, ERR_INVALID, "%s: %lld is above %lld", at->path, (long long)v,
                       (long long)f->hi);
    *ret = v;
    return 0;
}

static int get_text(const json_t *j, const struct place *at, int64_t lo, int64_t hi,
                    const char **ret, struct err *err)
{
    const char *text = json_string_value(j);
    if (!text)
        return wrong(at, err, "must be a string");
    size_t len = json_string_length(j);
    if (strlen(text) != len)
        return wrong(at, err, "must not hold a NUL character");
    if (lo > 0 && len < (size_t)lo)
        return lo == 1 ? wrong(at, err, "must not be empty")
                       : err_set(err, ERR_INVALID, "%s: shorter than %lld bytes", at->path,
                                 (long long)lo);
    if (hi > 0 && len > (size_t)hi)
        return err_set(err, ERR_INVALID, "%s: longer than %lld bytes", at->path, (long long)hi);
    *ret = text;
    return 0;
}

static int get_enum(const struct field *f, const json_t *j, const struct place *at, int *ret,
                    struct err *err)
{
    const char *text = json_string_value(j);
    struct buf known = BUF_INIT(160);
    for (int i = 0; f->names[i]; i++) {
        if (text && str_eq(text, f->names[i])) {
            buf_release(&known);
            *ret = i;
            return 0;
        }
        buf_addf(&known, "%s%s", i ? ", " : "", f->names[i]);
    }
    (void)err_set(err, ERR_INVALID, "%s: must be one of %s", at->path, buf_str(&known));
    buf_release(&known);
    return -1;
}

static int get_strv(const struct field *f, const json_t *j, const struct place *at,
                    struct strv *ret, struct err *err)
{
    size_t i;
    json_t *item;
    if (!json_is_array(j))
        return wrong(at, err, "must be a list of strings");
    if (f->hi > 0 && json_array_size(j) > (size_t)f->hi)
        return err_set(err, ERR_INVALID, "%s: more than %lld items", at->path, (long long)f->hi);
    json_array_foreach(j, i, item)
    {
        char index[24];
        const char *text;
        (void)snprintf(index, sizeof index, "%zu", i);
        struct place p = below(at, index);
        if (get_text(item, &p, 0, 0, &text, err) < 0)
            return -1;
        strv_add(ret, text);
    }
    if (f->lo > 0 && ret->count < (size_t)f->lo)
        return wrong(at, err, "must not be empty");
    return 0;
}

static int get_map(const struct field *f, json_t *j, const struct place *at, struct strmap *ret,
                   struct err *err)
{
    const char *key;
    json_t *value;
    if (!json_is_object(j))
        return wrong(at, err, "must be an object of strings");
    if (f->hi > 0 && json_object_size(j) > (size_t)f->hi)
        return err_set(err, ERR_INVALID, "%s: more than %lld names", at->path, (long long)f->hi);
    json_object_foreach(j, key, value)
    {
        const char *text;
        struct place p = below(at, key);
        if (get_text(value, &p, 0, 0, &text, err) < 0)
            return -1;
        strmap_add(ret, key, text);
    }
    return 0;
}

static int get_u16v(const struct field *f, const json_t *j, const struct place *at,
                    struct u16v *ret, struct err *err)
{
    size_t i;
    json_t *item;
    size_t room = sizeof ret->items / sizeof ret->items[0];
    if (!json_is_array(j))
        return wrong(at, err, "must be a list of numbers");
    if (json_array_size(j) > room)
        return err_set(err, ERR_INVALID, "%s: more than %zu items", at->path, room);
    ret->count = 0;
    json_array_foreach(j, i, item)
    {
        char index[24];
        int64_t v;
        (void)snprintf(index, sizeof index, "%zu", i);
        struct place p = below(at, index);
        if (get_int(f, item, &p, &v, err) < 0)
            return -1;
        ret->items[ret->count++] = (uint16_t)v;
    }
    return 0;
}

static int decode(const struct shape *shape, json_t *j, const struct place *at, void *obj,
                  struct err *err);

static int get_list(const struct field *f, json_t *j, const struct place *at, struct objv *ret,
                    struct err *err)
{
    size_t i, size = (size_t)f->lo;
    json_t *item;
    if (!json_is_array(j))
        return wrong(at, err, "must be a list of objects");
    if (json_array_size(j) > (size_t)f->hi)
        return err_set(err, ERR_INVALID, "%s: more than %lld items", at->path, (long long)f->hi);
    objv_release(f->shape, size, ret);
    ret->items = mem_new(json_array_size(j), size);
    json_array_foreach(j, i, item)
    {
        char index[24];
        (void)snprintf(index, sizeof index, "%zu", i);
        struct place p = below(at, index);
        ret->count++;
        if (decode(f->shape, item, &p, (char *)ret->items + i * size, err) < 0)
            return -1;
    }
    return 0;
}

static int decode_field(const struct field *f, json_t *j, const struct place *at, char *to,
                        struct err *err)
{
    int64_t v;
    const char *text;
    switch (f->type) {
    case FIELD_TYPE_STR:
        if (get_text(j, at, f->lo, f->hi, &text, err) < 0)
            return -1;
        free(*(char **)(void *)to); /* a default */
        *(char **)(void *)to = str_dup(text);
        return 0;
    case FIELD_TYPE_ANY:
        free(*(char **)(void *)to);
        *(char **)(void *)to = json_dump(wrap(j));
        return 0;
    case FIELD_TYPE_U32:
        if (get_int(f, j, at, &v, err) < 0)
            return -1;
        *(uint32_t *)(void *)to = (uint32_t)v;
        return 0;
    case FIELD_TYPE_I64:
        return get_int(f, j, at, (int64_t *)(void *)to, err);
    case FIELD_TYPE_BOOL:
        if (!json_is_boolean(j))
            return wrong(at, err, "must be true or false");
        *(bool *)to = json_is_true(j);
        return 0;
    case FIELD_TYPE_ENUM:
        return get_enum(f, j, at, (int *)(void *)to, err);
    case FIELD_TYPE_STRV:
        return get_strv(f, j, at, (struct strv *)(void *)to, err);
    case FIELD_TYPE_MAP:
        return get_map(f, j, at, (struct strmap *)(void *)to, err);
    case FIELD_TYPE_U16V:
        return get_u16v(f, j, at, (struct u16v *)(void *)to, err);
    case FIELD_TYPE_LIST:
        return get_list(f, j, at, (struct objv *)(void *)to, err);
    case FIELD_TYPE_OBJ:
        return decode(f->shape, j, at, to, err);
    }
    abort();
}

static const struct field *find(const struct shape *shape, const char *name)
{
    for (size_t i = 0; i < shape->count; i++)
        if (str_eq(shape->fields[i].name, name))
            return &shape->fields[i];
    return NULL;
}

static int decode(const struct shape *shape, json_t *j, const struct place *at, void *obj,
                  struct err *err)
{
    const char *key;
    json_t *value;
    if (!json_is_object(j))
        return wrong(at, err, "must be an object");
    json_object_foreach(j, key, value)
    {
        const struct field *f = find(shape, key);
        struct place p = below(at, key);
        if (!f && shape->open)
            continue;
        if (!f)
            return wrong(&p, err, "unknown field");
        if (json_is_null(value) && (f->flags & FIELD_NULLABLE))
            continue;
        if (decode_field(f, value, &p, (char *)obj + f->offset, err) < 0)
            return -1;
        if (f->seen != SIZE_MAX)
            *((bool *)obj + f->seen) = true;
    }
    for (size_t i = 0; i < shape->count; i++) {
        const struct field *f = &shape->fields[i];
        if ((f->flags & FIELD_REQUIRED) && !json_object_get(j, f->name)) {
            struct place p = below(at, f->name);
            return wrong(&p, err, "is required");
        }
    }
    return 0;
}

int json_decode(const struct shape *shape, const char *text, size_t len, void *obj, struct err *err)
{
    json_t *j = len ? load(text, len, err) : load("{}", 2, err);
    if (!j)
        return -1;
    struct place top = { { 0 } };
    int rc = decode(shape, j, &top, obj, err);
    json_decref(j);
    if (rc < 0)
        shape_release(shape, obj);
    return rc;
}

int json_command(const char *json, struct strv *ret, struct err *err)
{
    struct json *j = NULL;
    if (json_parse(json, strlen(json), &j, err) < 0)
        return -1;
    AUTO(json) struct json *list = j;
    struct strv argv = { 0 };
    const char *text = json_text(list);
    if (text && *text) {
        strv_add(&argv, "/bin/sh");
        strv_add(&argv, "-c");
        strv_add(&argv, text);
    }
    size_t n = json_count(list);
    if (argv.count == 0 && n == 0)
        return err_set(err, ERR_INVALID,
                       "cmd: must be a list of strings, or one string for the "
                       "shell, and not empty");
    if (n > EXEC_ARGS_MAX)
        return err_set(err, ERR_INVALID, "cmd: %zu items, at most %d are allowed", n,
                       EXEC_ARGS_MAX);
    for (size_t i = 0; i < n; i++) {
        const char *item = json_text(json_item(list, i));
        if (!item || (i == 0 && !*item)) {
            strv_release(&argv);
            return err_set(err, ERR_INVALID,
                           item ? "cmd[%zu]: must not be empty" : "cmd[%zu]: must be a string", i);
        }
        strv_add(&argv, item);
    }
    *ret = argv;
    return 0;
}

/* --- maps --- */

char *strmap_to_json(const struct strmap *m)
{
    struct buf b = BUF_INIT(SANDBOX_ENV_BYTES_MAX * 8);
    struct json_out o = JSON_OUT(&b);
    json_open(&o, NULL);
    for (size_t i = 0; i < m->count; i++)
        json_put(&o, m->names[i], m->values[i]);
    json_close(&o);
    return buf_take(&b);
}

int strmap_from_json(const char *text, struct strmap *ret, struct err *err)
{
    json_t *j = load(text, strlen(text), err);
    if (!j)
        return -1;
    struct place top = { { 0 } };
    static const struct field any = { .name = "map", .type = FIELD_TYPE_MAP };
    int rc = get_map(&any, j, &top, ret, err);
    json_decref(j);
    if (rc < 0)
        strmap_release(ret);
    return rc;
}
