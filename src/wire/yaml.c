/* A YAML document becomes JSON text, and the shape's decoder does the rest. A refusal names a path;
 * the path is walked in the document once more to tell the line. */
#include "wire/yaml.h"

#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "base/limits.h"
#include "base/str.h"
#include "wire/json.h"

#define JSON_MAX (1 * MIB)

struct reader {
    yaml_document_t doc;
    struct json_out out;
};

static int refuse(const yaml_node_t *n, struct err *err, const char *why)
{
    return err_set(err, ERR_INVALID, "%s (line %zu)", why, n->start_mark.line + 1);
}

static bool looks_whole(const char *text)
{
    uint64_t v;
    return str_u64(*text == '-' ? text + 1 : text, &v) && v <= INT64_MAX;
}

static void put_scalar(struct json_out *o, const char *key, const yaml_node_t *n)
{
    const char *text = (const char *)n->data.scalar.value;
    bool plain = n->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    if (plain && (str_eq(text, "true") || str_eq(text, "false")))
        json_put_bool(o, key, text[0] == 't');
    else if (plain && (str_eq(text, "null") || str_eq(text, "~") || !*text))
        json_put_null(o, key);
    else if (plain && looks_whole(text))
        json_put_raw(o, key, text);
    else
        json_put_n(o, key, text, n->data.scalar.length);
}

static int put_node(struct reader *r, const char *key, int index, int depth, struct err *err);

static int put_map(struct reader *r, const char *key, const yaml_node_t *n, int depth,
                   struct err *err)
{
    json_open(&r->out, key);
    for (const yaml_node_pair_t *p = n->data.mapping.pairs.start; p < n->data.mapping.pairs.top;
         p++) {
        const yaml_node_t *k = yaml_document_get_node(&r->doc, p->key);
        if (!k || k->type != YAML_SCALAR_NODE || str_eq((const char *)k->data.scalar.value, "<<"))
            return refuse(k ? k : n, err, "a key must be a plain text");
        if (put_node(r, (const char *)k->data.scalar.value, p->value, depth, err) < 0)
            return -1;
    }
    json_close(&r->out);
    return 0;
}

static int put_node(struct reader *r, const char *key, int index, int depth, struct err *err)
{
    const yaml_node_t *n = yaml_document_get_node(&r->doc, index);
    if (!n)
        return err_set(err, ERR_INVALID, "the document is empty");
    if (depth > JSON_DEPTH_MAX)
        return refuse(n, err, "nested too deep");
    if (n->type == YAML_SCALAR_NODE) {
        put_scalar(&r->out, key, n);
    } else if (n->type == YAML_MAPPING_NODE) {
        return put_map(r, key, n, depth + 1, err);
    } else {
        json_list(&r->out, key);
        for (const yaml_node_item_t *i = n->data.sequence.items.start;
             i < n->data.sequence.items.top; i++)
            if (put_node(r, NULL, *i, depth + 1, err) < 0)
                return -1;
        json_unlist(&r->out);
    }
    /* Also what ends an expansion of aliases. */
    return r->out.b->failed ? refuse(n, err, "the document is too large") : 0;
}

/* The node that a message's path ("services.0.port: …") leads to, as far as it goes. */
static const yaml_node_t *node_at(struct reader *r, const char *path)
{
    yaml_node_t *n = yaml_document_get_root_node(&r->doc);
    while (n && *path && *path != ':') {
        size_t len = strcspn(path, ".:");
        yaml_node_t *next = NULL;
        if (n->type == YAML_MAPPING_NODE) {
            for (yaml_node_pair_t *p = n->data.mapping.pairs.start; p < n->data.mapping.pairs.top;
                 p++) {
                yaml_node_t *k = yaml_document_get_node(&r->doc, p->key);
                if (k->data.scalar.length == len && memcmp(k->data.scalar.value, path, len) == 0)
                    next = yaml_document_get_node(&r->doc, p->value);
            }
        } else if (n->type == YAML_SEQUENCE_NODE) {
            char digits[24];
            uint64_t i;
            if (len < sizeof digits) {
                memcpy(digits, path, len);
                digits[len] = 0;
                if (str_u64(digits, &i) &&
                    i < (uint64_t)(n->data.sequence.items.top - n->data.sequence.items.start))
                    next = yaml_document_get_node(&r->doc, n->data.sequence.items.start[i]);
            }
        }
        if (!next)
            break;
        n = next;
        path += len + (path[len] == '.');
    }
    return n;
}

static int decode(struct reader *r, const struct shape *shape, void *obj, struct err *err)
{
    struct buf json = BUF_INIT(JSON_MAX);
    r->out = JSON_OUT(&json);
    int rc = put_node(r, NULL, 1, 0, err);
    if (rc == 0) {
        rc = json_decode(shape, buf_str(&json), json.len, obj, err);
        const yaml_node_t *n = rc < 0 ? node_at(r, err->msg) : NULL;
        if (n) {
            size_t len = strlen(err->msg);
            (void)snprintf(err->msg + len, sizeof err->msg - len, " (line %zu)",
                           n->start_mark.line + 1);
        }
    }
    buf_release(&json);
    return rc;
}

int yaml_decode(const struct shape *shape, const char *text, size_t len, void *obj, struct err *err)
{
    yaml_parser_t parser;
    struct reader r;
    if (!yaml_parser_initialize(&parser))
        abort();
    yaml_parser_set_input_string(&parser, (const unsigned char *)text, len);
    int rc = -1;
    if (!yaml_parser_load(&parser, &r.doc)) {
        (void)err_set(err, ERR_INVALID, "%s (line %zu)",
                      parser.problem ? parser.problem : "cannot be read",
                      parser.problem_mark.line + 1);
    } else {
        rc = decode(&r, shape, obj, err);
        yaml_document_delete(&r.doc);
    }
    yaml_parser_delete(&parser);
    return rc;
}
