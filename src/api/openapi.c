/* The OpenAPI document, written from the tables that requests are checked by: routes, query
 * parameters and the shapes of bodies cannot differ from what is served. What replies look like is
 * in components.yaml, which is appended as it is; tests hold real replies against it. */
#include "openapi.h"

#include <ctype.h>
#include <string.h>

#include "base/limits.h"
#include "base/str.h"
#include "server.h"
#include "shapes.h"
#include "wire/json.h"

extern const unsigned char openapi_components[];
extern const size_t openapi_components_len;

static void line(struct buf *b, int depth, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
static void line(struct buf *b, int depth, const char *fmt, ...)
{
    char text[1024];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (n < 0 || (size_t)n >= sizeof text)
        b->failed = true; /* a help text that long belongs into a document */
    for (int i = 0; i < depth; i++)
        buf_adds(b, "  ");
    buf_adds(b, text);
    buf_addc(b, '\n');
}

/* A double-quoted YAML scalar is a JSON string. */
static void quoted(struct buf *b, int depth, const char *key, const char *text)
{
    struct json_out o = JSON_OUT(b);
    for (int i = 0; i < depth; i++)
        buf_adds(b, "  ");
    buf_adds(b, key);
    buf_adds(b, ": ");
    json_put(&o, NULL, text);
    buf_addc(b, '\n');
}

static void put_shape(struct buf *b, int depth, const struct shape *shape);

static void put_type(struct buf *b, int depth, const struct field *f, const char *type)
{
    if (f->flags & FIELD_NULLABLE)
        line(b, depth, "type: [%s, \"null\"]", type);
    else
        line(b, depth, "type: %s", type);
}

static void put_field(struct buf *b, int depth, const struct field *f)
{
    switch (f->type) {
    case FIELD_TYPE_STR:
        put_type(b, depth, f, "string");
        if (f->lo > 0)
            line(b, depth, "minLength: %lld", (long long)f->lo);
        if (f->hi > 0)
            line(b, depth, "maxLength: %lld", (long long)f->hi);
        break;
    case FIELD_TYPE_U32:
    case FIELD_TYPE_I64:
        put_type(b, depth, f, "integer");
        line(b, depth, "minimum: %lld", (long long)f->lo);
        line(b, depth, "maximum: %lld", (long long)f->hi);
        break;
    case FIELD_TYPE_BOOL:
        put_type(b, depth, f, "boolean");
        break;
    case FIELD_TYPE_ENUM:
        put_type(b, depth, f, "string");
        line(b, depth, "enum:");
        for (int i = 0; f->names[i]; i++)
            line(b, depth + 1, "- %s", f->names[i]);
        if (f->flags & FIELD_NULLABLE)
            line(b, depth + 1, "- null");
        break;
    case FIELD_TYPE_STRV:
        put_type(b, depth, f, "array");
        line(b, depth, "items: { type: string }");
        break;
    case FIELD_TYPE_MAP:
        put_type(b, depth, f, "object");
        line(b, depth, "additionalProperties: { type: string }");
        if (f->hi > 0)
            line(b, depth, "maxProperties: %lld", (long long)f->hi);
        break;
    case FIELD_TYPE_U16V:
        put_type(b, depth, f, "array");
        line(b, depth, "maxItems: %zu", sizeof(((struct u16v *)0)->items) / sizeof(uint16_t));
        line(b, depth, "items: { type: integer, minimum: %lld, maximum: %lld }", (long long)f->lo,
             (long long)f->hi);
        break;
    case FIELD_TYPE_LIST:
        put_type(b, depth, f, "array");
        line(b, depth, "maxItems: %lld", (long long)f->hi);
        line(b, depth, "items:");
        put_shape(b, depth + 1, f->shape);
        break;
    case FIELD_TYPE_OBJ:
        if (f->flags & FIELD_NULLABLE) {
            line(b, depth, "oneOf:");
            line(b, depth + 1, "- type: \"null\"");
            line(b, depth + 1, "-");
            put_shape(b, depth + 2, f->shape);
        } else {
            put_shape(b, depth, f->shape);
        }
        break;
    case FIELD_TYPE_ANY:
        line(b, depth, "description: any value; the rules are in the route's description");
        break;
    }
    if (f->flags & FIELD_SECRET)
        line(b, depth, "writeOnly: true");
}

static void put_shape(struct buf *b, int depth, const struct shape *shape)
{
    bool required = false;
    line(b, depth, "type: object");
    if (!shape->open)
        line(b, depth, "additionalProperties: false");
    for (size_t i = 0; i < shape->count; i++) {
        if (!(shape->fields[i].flags & FIELD_REQUIRED))
            continue;
        if (!required)
            line(b, depth, "required:");
        required = true;
        line(b, depth + 1, "- %s", shape->fields[i].name);
    }
    line(b, depth, "properties:");
    for (size_t i = 0; i < shape->count; i++) {
        line(b, depth + 1, "%s:", shape->fields[i].name);
        put_field(b, depth + 2, &shape->fields[i]);
    }
}

static void put_parameters(struct buf *b, const struct route *t)
{
    const char *at = t->path, *query = t->params ? t->params : "";
    if (!strchr(at, '{') && !*query)
        return;
    line(b, 3, "parameters:");
    while ((at = strchr(at, '{'))) {
        int n = (int)strcspn(++at, "}");
        line(b, 4, "- name: %.*s", n, at);
        line(b, 5, "in: path");
        line(b, 5, "required: true");
        line(b, 5, "schema: { type: string }");
    }
    while (*query) {
        int n = (int)strcspn(query, " ");
        bool family =
            n > 2 && query[n - 1] == '*'; /* metadata.<name>: OpenAPI has no word for it */
        if (!family) {
            line(b, 4, "- name: %.*s", n, query);
            line(b, 5, "in: query");
            line(b, 5, "schema: { type: string }");
        }
        query += n + (query[n] == ' ');
    }
}

static void put_body(struct buf *b, const struct route *t)
{
    if (t->shape) {
        line(b, 3, "requestBody:");
        line(b, 4, "required: %s", t->flags & ROUTE_EMPTY ? "false" : "true");
        line(b, 4, "content:");
        line(b, 5, "application/json:");
        line(b, 6, "schema:");
        put_shape(b, 7, t->shape);
    } else if ((t->flags & ROUTE_RAW) || (t->body_max > 64 * KIB && !str_eq(t->method, "GET"))) {
        line(b, 3, "requestBody:");
        line(b, 4, "content:");
        line(b, 5, "application/octet-stream: {}");
    }
}

static void put_replies(struct buf *b, const struct route *t)
{
    line(b, 3, "responses:");
    line(b, 4, "\"%d\":", t->status);
    line(b, 5, "description: success");
    if (t->reply && strchr(t->reply, '/')) {
        line(b, 5, "content:");
        line(b, 6, "%s: {}", t->reply);
    } else if (t->reply) {
        line(b, 5, "content:");
        line(b, 6, "application/json:");
        line(b, 7, "schema: { $ref: \"#/components/schemas/%s\" }", t->reply);
    }
    line(b, 4, "default:");
    line(b, 5, "$ref: \"#/components/responses/%s\"",
         t->flags & ROUTE_LEGACY ? "LegacyError" : "Error");
}

static void put_operation(struct buf *b, const struct route *t)
{
    char id[128];
    size_t n = 0;
    line(b, 2, "%c%c%c%s:", tolower(t->method[0]), tolower(t->method[1]), tolower(t->method[2]),
         str_eq(t->method, "DELETE")  ? "ete"
         : str_eq(t->method, "PATCH") ? "ch"
         : t->method[3]               ? "t"
                                      : "");
    for (const char *c = t->method; *c && n < sizeof id - 1; c++)
        id[n++] = (char)tolower(*c);
    for (const char *c = t->path; *c && n < sizeof id - 2; c++)
        if (isalnum((unsigned char)*c))
            id[n++] = *c;
        else if (n > 0 && id[n - 1] != '_' && c[1])
            id[n++] = '_';
    id[n] = 0;
    line(b, 3, "operationId: %s", id);
    quoted(b, 3, "summary", t->help);
    line(b, 3, "tags: [%s]", t->flags & ROUTE_LEGACY ? "legacy" : "v1");
    if (t->flags & ROUTE_OPEN)
        line(b, 3, "security: []");
    put_parameters(b, t);
    put_body(b, t);
    put_replies(b, t);
}

void openapi_render(struct buf *b)
{
    line(b, 0, "# Written by sandboxd --print-openapi; do not edit.");
    line(b, 0, "openapi: 3.1.0");
    line(b, 0, "info:");
    line(b, 1, "title: sandboxd");
    line(b, 1, "version: " SANDBOXED_VERSION);
    line(b, 1, "license: { name: MIT, identifier: MIT }");
    line(b, 0, "security: [{ token: [] }, {}]");
    line(b, 0, "paths:");
    for (size_t i = 0; i < n_routes; i++) {
        bool seen = false;
        for (size_t k = 0; k < i; k++)
            seen = seen || str_eq(routes[k].path, routes[i].path);
        if (seen)
            continue;
        line(b, 1, "%s:", routes[i].path);
        for (size_t k = i; k < n_routes; k++)
            if (str_eq(routes[k].path, routes[i].path))
                put_operation(b, &routes[k]);
    }
    buf_add(b, openapi_components, openapi_components_len);
}
