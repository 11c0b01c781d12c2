/* The OpenAPI document, written from the tables that requests are checked by: routes, query
 * parameters and the shapes of bodies cannot differ from what is served. What replies look like is
 * in components.yaml, which is appended as it is; tests hold real replies against it. */
#include "openapi.h"

#include <ctype.h>
#include <string.h>

#include "base/limits.h"
#include "base/str.h"
#include "params.h"
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
        break; /* its schema says it */
    }
    if (f->schema)
        line(b, depth, "%s", f->schema);
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
    if (shape->schema)
        line(b, depth, "%s", shape->schema);
}

/* What {…} stands for; the formats are the document's own. */
static void put_path_parameters(struct buf *b, const char *path)
{
    for (const char *at = path; (at = strchr(at, '{'));) {
        int n = (int)strcspn(++at, "}");
        line(b, 4, "- name: %.*s", n, at);
        line(b, 5, "in: path");
        line(b, 5, "required: true");
        bool own = n == 2; /* {id} */
        line(b, 5, "schema: { type: string, minLength: 1, format: %.*s-id }", own ? 7 : n,
             own ? "sandbox" : at);
    }
}

static void put_parameter(struct buf *b, const struct route *t, const struct param_name *n,
                          const char *in)
{
    const struct param *p = param_find(t, n);
    if (n->family) /* metadata.<name>: OpenAPI has no word for it */
        return;
    line(b, 4, "- name: %s", p->name);
    line(b, 5, "in: %s", in);
    if (n->required)
        line(b, 5, "required: true");
    quoted(b, 5, "description", p->help);
    line(b, 5, "schema:");
    switch (p->type) {
    case PARAM_TEXT:
        line(b, 6, "type: string");
        break;
    case PARAM_FLAG:
        line(b, 6, "type: boolean");
        break;
    case PARAM_NUMBER:
        line(b, 6, "type: integer");
        line(b, 6, "minimum: %lld", (long long)p->lo);
        line(b, 6, "maximum: %lld", (long long)p->hi);
        break;
    case PARAM_WORD:
        line(b, 6, "enum:");
        for (const char *const *w = p->words; *w; w++)
            line(b, 7, "- \"%s\"", *w);
        break;
    }
    if (n->required && p->type == PARAM_TEXT)
        line(b, 6, "minLength: 1");
    if (p->schema)
        line(b, 6, "%s", p->schema);
}

static void put_parameters(struct buf *b, const struct route *t)
{
    struct param_name n;
    if (!strchr(t->path, '{') && !t->params && !t->heads)
        return;
    line(b, 3, "parameters:");
    put_path_parameters(b, t->path);
    for (const char *list = t->params; (list = param_next(list, &n));)
        put_parameter(b, t, &n, "query");
    for (const char *list = t->heads; (list = param_next(list, &n));)
        put_parameter(b, t, &n, "header");
}

static void put_body(struct buf *b, const struct route *t)
{
    bool raw = (t->flags & ROUTE_RAW) || (t->body_max > 64 * KIB && !str_eq(t->method, "GET"));
    if (!t->shape && !raw)
        return;
    line(b, 3, "requestBody:");
    if (t->shape)
        line(b, 4, "required: %s", t->flags & ROUTE_EMPTY ? "false" : "true");
    line(b, 4, "content:");
    if (t->shape) {
        line(b, 5, "application/json:");
        line(b, 6, "schema:");
        put_shape(b, 7, t->shape);
    } else {
        line(b, 5, "application/octet-stream: {}");
    }
}

static void put_content(struct buf *b, const struct route *t)
{
    struct param_name n;
    if (!t->reply)
        return;
    line(b, 5, "content:");
    for (const char *list = t->reply; (list = param_next(list, &n));) {
        if (memchr(n.name, '/', n.len)) {
            line(b, 6, "%.*s: {}", (int)n.len, n.name);
            continue;
        }
        line(b, 6, "application/json:");
        line(b, 7, "schema: { $ref: \"#/components/schemas/%.*s\" }", (int)n.len, n.name);
    }
}

static void operation_id(const struct route *t, char id[128])
{
    size_t n = 0;
    for (const char *c = t->method; *c; c++)
        id[n++] = (char)tolower(*c);
    for (const char *c = t->path; *c && n < 126; c++)
        if (isalnum((unsigned char)*c))
            id[n++] = *c;
        else if (n > 0 && id[n - 1] != '_' && c[1])
            id[n++] = '_';
    id[n] = 0;
}

/* What makes a thing links to all that can be done with it: the routes whose path goes on with one
 * more {…}. Every link hands the ids above it on. */
static void put_links(struct buf *b, const struct route *t)
{
    size_t len = strlen(t->path);
    bool any = false;
    for (size_t i = 0; t->status == 201 && i < n_routes; i++) {
        const char *rest = routes[i].path + len;
        if (!str_starts(routes[i].path, t->path) || !str_starts(rest, "/{") ||
            strchr(rest + 2, '{'))
            continue;
        if (!any)
            line(b, 5, "links:");
        any = true;
        char id[128];
        operation_id(&routes[i], id);
        line(b, 6, "%s:", id);
        line(b, 7, "operationId: %s", id);
        line(b, 7, "parameters:");
        for (const char *at = routes[i].path; (at = strchr(at, '{'));) {
            int n = (int)strcspn(++at, "}");
            line(b, 8, at > rest ? "%.*s: $response.body#/id" : "%.*s: $request.path.%.*s", n, at,
                 n, at);
        }
    }
}

static void put_replies(struct buf *b, const struct route *t)
{
    struct param_name n;
    line(b, 3, "responses:");
    line(b, 4, "\"%d\":", t->status);
    line(b, 5, "description: success");
    put_content(b, t);
    put_links(b, t);
    for (const char *list = t->also; (list = param_next(list, &n));) {
        line(b, 4, "\"%.3s\":", n.name);
        line(b, 5, "description: success, too");
        if (n.len == 3)
            put_content(b, t);
    }
    for (int class = 4; class <= 5; class ++) {
        line(b, 4, "%dXX:", class);
        line(b, 5, "$ref: \"#/components/responses/%s\"",
             t->error                  ? t->error
             : t->flags & ROUTE_LEGACY ? "LegacyError"
                                       : "Error");
    }
}

static void put_operation(struct buf *b, const struct route *t)
{
    line(b, 2, "%c%c%c%s:", tolower(t->method[0]), tolower(t->method[1]), tolower(t->method[2]),
         str_eq(t->method, "DELETE")  ? "ete"
         : str_eq(t->method, "PATCH") ? "ch"
         : t->method[3]               ? "t"
                                      : "");
    char id[128];
    operation_id(t, id);
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
    line(b, 0, "security: [{ token: [] }]");
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
