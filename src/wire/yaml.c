/* A YAML document becomes JSON text, and the shape's decoder does the rest. The text is hostile:
 * events are taken one by one, so that nesting is refused before libyaml has walked through all of
 * it, and nothing is ever expanded. A refusal by the decoder names a path; the events are walked
 * once more to tell its line. */
#include "wire/yaml.h"

#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "base/limits.h"
#include "base/str.h"
#include "wire/json.h"

#define JSON_MAX (1 * MIB)
#define KEYS_MAX 256 /* of one map; looking for repeats is a matter of squares */

struct reader {
    yaml_parser_t parser;
    yaml_event_t event; /* the one at hand */
    const char *text;
    size_t len;
    struct json_out out;
};

static size_t line_at(const struct reader *r, size_t offset)
{
    size_t line = 1;
    for (size_t i = 0; i < offset && i < r->len; i++)
        line += r->text[i] == '\n';
    return line;
}

static int next(struct reader *r, struct err *err)
{
    const yaml_parser_t *p = &r->parser;
    yaml_event_delete(&r->event);
    if (yaml_parser_parse(&r->parser, &r->event))
        return 0;
    memset(&r->event, 0, sizeof r->event);
    size_t line =
        p->error == YAML_READER_ERROR ? line_at(r, p->problem_offset) : p->problem_mark.line + 1;
    return err_set(err, ERR_INVALID, "%s (line %zu)", p->problem ? p->problem : "cannot be read",
                   line);
}

static int refuse(const struct reader *r, struct err *err, const char *why)
{
    return err_set(err, ERR_INVALID, "%s (line %zu)", why, r->event.start_mark.line + 1);
}

static const char *scalar(const struct reader *r)
{
    return (const char *)r->event.data.scalar.value;
}

/* A number as JSON writes it: no plus, no leading zeros. */
static bool looks_whole(const char *text)
{
    uint64_t v;
    const char *digits = *text == '-' ? text + 1 : text;
    return str_u64(digits, &v) && v <= INT64_MAX && (digits[0] != '0' || !digits[1]);
}

static void put_scalar(struct reader *r, const char *key)
{
    const char *text = scalar(r);
    bool plain = r->event.data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    if (plain && (str_eq(text, "true") || str_eq(text, "false")))
        json_put_bool(&r->out, key, text[0] == 't');
    else if (plain && (str_eq(text, "null") || str_eq(text, "~") || !*text))
        json_put_null(&r->out, key);
    else if (plain && looks_whole(text))
        json_put_raw(&r->out, key, text);
    else
        json_put_n(&r->out, key, text, r->event.data.scalar.length);
}

/* What no node may have. */
static int check_plain(const struct reader *r, struct err *err)
{
    const yaml_char_t *anchor = NULL, *tag = NULL;
    if (r->event.type == YAML_ALIAS_EVENT)
        return refuse(r, err, "aliases are not supported");
    if (r->event.type == YAML_SCALAR_EVENT) {
        anchor = r->event.data.scalar.anchor;
        tag = r->event.data.scalar.tag;
    } else if (r->event.type == YAML_MAPPING_START_EVENT) {
        anchor = r->event.data.mapping_start.anchor;
        tag = r->event.data.mapping_start.tag;
    } else if (r->event.type == YAML_SEQUENCE_START_EVENT) {
        anchor = r->event.data.sequence_start.anchor;
        tag = r->event.data.sequence_start.tag;
    }
    if (anchor)
        return refuse(r, err, "anchors are not supported");
    return tag ? refuse(r, err, "tags are not supported") : 0;
}

static int put_node(struct reader *r, const char *key, int depth, struct err *err);

static int take_key(struct reader *r, struct strv *keys, struct err *err)
{
    if (r->event.type != YAML_SCALAR_EVENT || check_plain(r, err) < 0 ||
        (r->event.data.scalar.style == YAML_PLAIN_SCALAR_STYLE && str_eq(scalar(r), "<<")) ||
        strlen(scalar(r)) != r->event.data.scalar.length)
        return refuse(r, err, "a key must be a plain text");
    if (keys->count == KEYS_MAX)
        return refuse(r, err, "too many keys");
    for (size_t i = 0; i < keys->count; i++)
        if (str_eq(keys->items[i], scalar(r)))
            return refuse(r, err, "the key is there twice");
    strv_add(keys, scalar(r));
    return 0;
}

static int put_map(struct reader *r, const char *key, int depth, struct err *err)
{
    struct strv keys = { 0 };
    int rc = 0;
    json_open(&r->out, key);
    while ((rc = next(r, err)) == 0 && r->event.type != YAML_MAPPING_END_EVENT) {
        rc = take_key(r, &keys, err);
        if (rc == 0)
            rc = next(r, err);
        if (rc == 0)
            rc = put_node(r, keys.items[keys.count - 1], depth, err);
        if (rc < 0)
            break;
    }
    json_close(&r->out);
    strv_release(&keys);
    return rc;
}

/* The node that begins with the event at hand; the event at hand is its last one afterwards. */
static int put_node(struct reader *r, const char *key, int depth, struct err *err)
{
    int rc = 0;
    if (check_plain(r, err) < 0)
        return -1;
    if (depth > JSON_DEPTH_MAX)
        return refuse(r, err, "nested too deep");
    if (r->event.type == YAML_SCALAR_EVENT) {
        put_scalar(r, key);
    } else if (r->event.type == YAML_MAPPING_START_EVENT) {
        rc = put_map(r, key, depth + 1, err);
    } else {
        json_list(&r->out, key);
        while ((rc = next(r, err)) == 0 && r->event.type != YAML_SEQUENCE_END_EVENT)
            if ((rc = put_node(r, NULL, depth + 1, err)) < 0)
                break;
        json_unlist(&r->out);
    }
    return rc == 0 && r->out.b->failed ? refuse(r, err, "the document is too large") : rc;
}

static void reader_open(struct reader *r, const char *text, size_t len)
{
    memset(r, 0, sizeof *r);
    r->text = text;
    r->len = len;
    if (!yaml_parser_initialize(&r->parser))
        abort(); /* out of memory */
    yaml_parser_set_encoding(&r->parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&r->parser, (const unsigned char *)text, len);
}

static void reader_close(struct reader *r)
{
    yaml_event_delete(&r->event);
    yaml_parser_delete(&r->parser);
}

/* To the event that begins the first node, or the end of the stream. */
static int to_root(struct reader *r, struct err *err)
{
    do {
        if (next(r, err) < 0)
            return -1;
        if (r->event.type == YAML_DOCUMENT_START_EVENT &&
            (r->event.data.document_start.version_directive ||
             r->event.data.document_start.tag_directives.start !=
                 r->event.data.document_start.tag_directives.end))
            return refuse(r, err, "directives are not supported");
    } while (r->event.type == YAML_STREAM_START_EVENT ||
             r->event.type == YAML_DOCUMENT_START_EVENT);
    return 0;
}

static int to_json(const char *text, size_t len, struct buf *json, struct err *err)
{
    struct reader r;
    reader_open(&r, text, len);
    r.out = JSON_OUT(json);
    int rc = to_root(&r, err);
    if (rc == 0 && r.event.type != YAML_STREAM_END_EVENT) {
        rc = put_node(&r, NULL, 0, err);
        while (rc == 0 && r.event.type != YAML_STREAM_END_EVENT) {
            rc = next(&r, err);
            if (rc == 0 && r.event.type == YAML_DOCUMENT_START_EVENT)
                rc = refuse(&r, err, "one document is enough");
        }
    }
    reader_close(&r);
    return rc;
}

/* --- lines --- */

/* Passes the node that the event at hand begins. */
static int skip(struct reader *r, struct err *err)
{
    int open = 0;
    for (;;) {
        if (r->event.type == YAML_MAPPING_START_EVENT || r->event.type == YAML_SEQUENCE_START_EVENT)
            open++;
        else if (r->event.type == YAML_MAPPING_END_EVENT ||
                 r->event.type == YAML_SEQUENCE_END_EVENT)
            open--;
        if (open == 0)
            return 0;
        if (next(r, err) < 0)
            return -1;
    }
}

/* From the node at hand to the member that the path's next word (len bytes) names: 1, with *line of
 * its key or item; 0: there is none. The document was walked before, so nothing can fail but for
 * lack of memory. */
static int enter(struct reader *r, const char *word, size_t len, size_t *line)
{
    struct err err;
    char digits[24] = "";
    uint64_t wanted = UINT64_MAX, i = 0;
    bool map = r->event.type == YAML_MAPPING_START_EVENT;
    if (!map && r->event.type != YAML_SEQUENCE_START_EVENT)
        return 0;
    if (!map && len < sizeof digits) {
        memcpy(digits, word, len);
        (void)str_u64(digits, &wanted); /* no number: no such item */
    }
    while (next(r, &err) == 0 && r->event.type != YAML_MAPPING_END_EVENT &&
           r->event.type != YAML_SEQUENCE_END_EVENT) {
        bool here = map ? r->event.data.scalar.length == len && memcmp(scalar(r), word, len) == 0
                        : i++ == wanted;
        size_t at = r->event.start_mark.line + 1;
        if (map && next(r, &err) < 0)
            return 0;
        if (here) {
            *line = at;
            return 1;
        }
        if (skip(r, &err) < 0)
            return 0;
    }
    return 0;
}

/* Appends the line of what a message's path ("services.0.port: …") leads to, as far as it goes. */
static void add_line(const char *text, size_t len, struct err *err)
{
    struct reader r;
    struct err ignored;
    size_t line = 1, used = strlen(err->msg);
    const char *path = err->msg;
    reader_open(&r, text, len);
    if (to_root(&r, &ignored) == 0) {
        line = r.event.start_mark.line + 1;
        for (;;) {
            size_t word = strcspn(path, ".: ");
            if (word == 0 || !enter(&r, path, word, &line) || path[word] != '.')
                break;
            path += word + 1;
        }
    }
    reader_close(&r);
    char tail[32];
    (void)snprintf(tail, sizeof tail, " (line %zu)", line);
    if (used + strlen(tail) >= sizeof err->msg) /* the line counts more than the end of a text */
        used = sizeof err->msg - 1 - strlen(tail);
    (void)str_copy(err->msg + used, sizeof err->msg - used, tail);
}

int yaml_decode(const struct shape *shape, const char *text, size_t len, void *obj,
                int (*check)(const void *obj, struct err *err), struct err *err)
{
    struct buf json = BUF_INIT(JSON_MAX);
    int rc = to_json(text, len, &json, err);
    if (rc == 0) {
        rc = json_decode(shape, buf_str(&json), json.len, obj, err);
        if (rc == 0 && check && check(obj, err) < 0) {
            shape_release(shape, obj);
            rc = -1;
        }
        if (rc < 0)
            add_line(text, len, err);
    }
    buf_release(&json);
    return rc;
}
