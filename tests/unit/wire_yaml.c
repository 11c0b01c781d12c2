/* YAML in: what counts as what, what is refused and on which line; texts made to hurt. */
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/limits.h"
#include "base/str.h"
#include "check.h"
#include "wire/yaml.h"

struct item {
    char *name;
    uint32_t port;
    struct strmap env;
    char *any;
};
struct doc {
    struct objv items;
    char *text;
    int64_t number;
    bool flag;
    struct strv list;
    char *any;
};
static const struct field item_fields[] = {
    FIELD_STR(struct item, name, .lo = 1, .hi = 8, .flags = FIELD_REQUIRED),
    FIELD_U32(struct item, port, .lo = 1, .hi = 65535, .flags = FIELD_NULLABLE),
    FIELD_MAP(struct item, env, .hi = 4, .flags = FIELD_NULLABLE),
    FIELD_ANY(struct item, any),
};
static const struct shape item_shape = SHAPE("item", item_fields);
static const struct field doc_fields[] = {
    FIELD_LIST(struct doc, items, struct item, &item_shape, .hi = 4, .flags = FIELD_NULLABLE),
    FIELD_STR(struct doc, text, .flags = FIELD_NULLABLE),
    FIELD_I64(struct doc, number, .lo = INT64_MIN, .hi = INT64_MAX),
    FIELD_BOOL(struct doc, flag),
    FIELD_STRV(struct doc, list, .hi = 100),
    FIELD_ANY(struct doc, any),
};
static const struct shape shape = SHAPE("doc", doc_fields);

/* error: NULL: it is taken, and `any` is that JSON (NULL: not looked at); else words of the
 * refusal. */
static const struct {
    const char *name, *text, *error, *any;
} rows[] = {
    { "empty", "", NULL, NULL },
    { "comments only", "# a\n\n# b\n", NULL, NULL },
    { "a document without content", "---\n", "body: must be an object (line ", NULL },
    { "null", "null\n", "body: must be an object (line 1)", NULL },
    { "a list", "- a\n", "body: must be an object (line 1)", NULL },
    { "a scalar", "text\n", "body: must be an object (line 1)", NULL },
    { "map", "text: a b\nnumber: 5\nflag: true\n", NULL, NULL },
    { "flow", "{text: a, list: [b, c], flag: false}", NULL, NULL },
    { "with markers", "%YAML 1.1\n---\ntext: a\n...\n", "directives are not supported", NULL },
    { "with a start and an end", "---\ntext: a\n...\n", NULL, NULL },
    { "tag directive", "%TAG ! tag:x,2000:\n---\ntext: a\n", "directives are not supported", NULL },

    { "whole number", "any: 12", NULL, "12" },
    { "negative", "any: -12", NULL, "-12" },
    { "zero", "any: 0", NULL, "0" },
    { "leading zero", "any: 012", NULL, "\"012\"" },
    { "plus", "any: +1", NULL, "\"+1\"" },
    { "minus alone", "any: '-'", NULL, "\"-\"" },
    { "real", "any: 1.5", NULL, "\"1.5\"" },
    { "hex", "any: 0x1f", NULL, "\"0x1f\"" },
    { "too large", "any: 9223372036854775808", NULL, "\"9223372036854775808\"" },
    { "largest", "any: 9223372036854775807", NULL, "9223372036854775807" },
    { "quoted number", "any: '12'", NULL, "\"12\"" },
    { "true", "any: true", NULL, "true" },
    { "True", "any: True", NULL, "\"True\"" },
    { "yes", "any: yes", NULL, "\"yes\"" },
    { "quoted true", "any: \"true\"", NULL, "\"true\"" },
    { "tilde", "any: ~", NULL, "null" },
    { "nothing", "any:", NULL, "null" },
    { "quoted null", "any: 'null'", NULL, "\"null\"" },
    { "quoted nothing", "any: ''", NULL, "\"\"" },
    { "literal block", "any: |\n  a\n  b\n", NULL, "\"a\\nb\\n\"" },
    { "folded block", "any: >\n  a\n  b\n", NULL, "\"a b\\n\"" },
    { "block number stays text", "any: |-\n  5\n", NULL, "\"5\"" },
    { "umlaut", "any: \xc3\xa4", NULL, "\"\xc3\xa4\"" },
    { "nested", "any: {a: [1, {b: ~}]}", NULL, "{\"a\":[1,{\"b\":null}]}" },
    { "keys of any kind are texts", "any: {1: a, true: b, ~: c}", NULL,
      "{\"1\":\"a\",\"true\":\"b\",\"~\":\"c\"}" },

    { "anchor", "text: a\nany: &x 1\n", "anchors are not supported (line 2)", NULL },
    { "anchor of a map", "any: &x {a: b}\n", "anchors are not supported (line 1)", NULL },
    { "anchor of a list", "any: &x [a]\n", "anchors are not supported (line 1)", NULL },
    { "alias", "any: *x\n", "(line 1)", NULL },
    { "alias of itself", "any: &x [*x]\n", "anchors are not supported", NULL },
    { "bomb",
      "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\n"
      "c: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\nany: [*c,*c,*c,*c,*c,*c,*c,*c,*c]\n",
      "anchors are not supported (line 1)", NULL },
    { "tag", "any: !!str 5\n", "tags are not supported (line 1)", NULL },
    { "own tag", "any: !x 5\n", "tags are not supported (line 1)", NULL },
    { "tag of a map", "any: !!map {a: b}\n", "tags are not supported (line 1)", NULL },
    { "tag of a list", "\nany: !!seq [a]\n", "tags are not supported (line 2)", NULL },
    { "merge key", "any: {<<: {a: b}}\n", "a key must be a plain text (line 1)", NULL },
    { "quoted merge key is a key", "any: {'<<': 1}\n", NULL, "{\"<<\":1}" },
    { "list as a key", "? [a]\n: b\n", "a key must be a plain text (line 1)", NULL },
    { "map as a key", "{a: b}: c\n", "(line 1)", NULL },
    { "tagged key", "!!str any: 1\n", "a key must be a plain text (line 1)", NULL },
    { "anchored key", "&x any: 1\n", "a key must be a plain text (line 1)", NULL },
    { "the same key twice", "text: a\nflag: true\ntext: b\n", "the key is there twice (line 3)",
      NULL },
    { "twice deep inside", "any:\n  a: 1\n  b: 2\n  a: 3\n", "the key is there twice (line 4)",
      NULL },
    { "twice, quoted", "any: {a: 1, 'a': 2}\n", "the key is there twice", NULL },
    { "two documents", "text: a\n---\ntext: b\n", "one document is enough (line 2)", NULL },
    { "two empty documents", "---\n---\n", "(line ", NULL },

    { "NUL in a text", "any: \"a\\0b\"\n", "(line 1)", NULL },
    { "NUL in a key", "any: {\"a\\0b\": 1}\n", "a key must be a plain text (line 1)", NULL },
    { "control character", "any: a\x01\x62\n", "control characters are not allowed", NULL },
    { "not UTF-8", "text: a\nany: \xff\n", "(line 2)", NULL },
    { "half a character", "any: \xc3\n", "(line 1)", NULL },
    { "surrogate", "any: \xed\xa0\x80\n", "(line 1)", NULL },
    { "UTF-16", "\xff\xfe\x61\x00", "(line 1)", NULL },
    { "tab as indent", "any:\n\ta: b\n", "(line 2)", NULL },
    { "open bracket", "any: [a,\n", "(line ", NULL },
    { "open quote", "any: \"a\n", "(line ", NULL },
    { "stray bracket", "any: ]\n", "(line 1)", NULL },
    { "bad indent", "any:\n  a: 1\n b: 2\n", "(line 3)", NULL },
    { "bad escape", "any: \"\\q\"\n", "(line 1)", NULL },
    { "percent inside", "any: %a\n", "(line 1)", NULL },

    { "unknown field", "text: a\nbogus: 1\n", "bogus: unknown field (line 2)", NULL },
    { "unknown field of an item", "items:\n- name: a\n- name: b\n  bogus: 1\n",
      "items.1.bogus: unknown field (line 4)", NULL },
    { "missing field", "items:\n- port: 5\n", "items.0.name: ", NULL },
    { "wrong type", "text: a\nitems:\n  a: b\n", "items: must be a list of objects (line 2)",
      NULL },
    { "wrong type of an item", "items:\n- a\n", "items.0", NULL },
    { "out of range", "items:\n- name: a\n- name: b\n\n  port: 70000\n",
      "items.1.port: 70000 is above 65535 (line 5)", NULL },
    { "too long", "items:\n- name: abcdefghi\n", "items.0.name: longer than 8 bytes (line 2)",
      NULL },
    { "too many", "items: [{name: a}, {name: b}, {name: c}, {name: d},\n {name: e}]\n", "(line 1)",
      NULL },
    { "number for a text", "text: 5\n", "text: must be a string (line 1)", NULL },
    { "a map's value", "items:\n- name: a\n  env:\n    A: 1\n", "(line 4)", NULL },
    { "checked", "text: refuse\n", "text: refused (line 1)", NULL },
    { "checked below", "items:\n- name: a\n- name: refuse\n", "items.1.name: refused (line 3)",
      NULL },
    { "checked, an odd path", "list: [refuse]\n", "list.7.x: refused (line 1)", NULL },
};

static int check(const void *obj, struct err *err)
{
    const struct doc *d = obj;
    const struct item *items = d->items.items;
    for (size_t i = 0; i < d->items.count; i++)
        if (str_eq(items[i].name, "refuse"))
            return err_set(err, ERR_INVALID, "items.%zu.name: refused", i);
    if (d->list.count && str_eq(d->list.items[0], "refuse"))
        return err_set(err, ERR_INVALID, "list.7.x: refused");
    return d->text && str_eq(d->text, "refuse") ? err_set(err, ERR_INVALID, "text: refused") : 0;
}

static int decode(const char *text, size_t len, struct doc *d, struct err *err)
{
    *d = (struct doc){ .number = 0 };
    *err = (struct err){ .msg = "" };
    return yaml_decode(&shape, text, len, d, check, err);
}

/* Repeats a text, between a head and a tail; must end soon, whatever it says. */
static void check_large(const char *name, const char *head, const char *unit, size_t times,
                        const char *tail, const char *error)
{
    struct buf b = BUF_INIT(4 * MIB);
    struct doc d;
    struct err err;
    buf_adds(&b, head);
    for (size_t i = 0; i < times; i++)
        buf_adds(&b, unit);
    buf_adds(&b, tail);
    int64_t began = check_cpu_ms();
    int rc = decode(buf_str(&b), b.len, &d, &err);
    CHECK_ROW(name, check_cpu_ms() - began < 10000);
    if (!CHECK_ROW(name, error ? rc < 0 && strstr(err.msg, error) : rc == 0))
        printf("# %d, %s\n", rc, err.msg);
    if (rc == 0)
        shape_release(&shape, &d);
    buf_release(&b);
}

int main(void)
{
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct doc d;
        struct err err;
        int rc = decode(rows[i].text, strlen(rows[i].text), &d, &err);
        bool ok = rows[i].error
                      ? rc < 0 && err.code == ERR_INVALID && strstr(err.msg, rows[i].error)
                      : rc == 0 && (!rows[i].any || str_eq(d.any, rows[i].any));
        if (!CHECK_ROW(rows[i].name, ok))
            printf("# %d, \"%s\", any: %s\n", rc, err.msg, rc == 0 && d.any ? d.any : "-");
        if (rc == 0)
            shape_release(&shape, &d);
        else /* what was decoded before the refusal is released */
            CHECK_ROW(rows[i].name, !d.text && !d.any && !d.items.items && !d.list.items);
    }
    struct doc d;
    struct err err;
    CHECK(decode("any: a\0b", 8, &d, &err) < 0); /* a NUL in the file itself */

    size_t many = 30000;
    check_large("brackets", "any: ", "[", many, "", "nested too deep (line 1)");
    check_large("braces", "any: ", "{a: ", many, "", "nested too deep (line 1)");
    check_large("dashes", "any:\n", "- ", many, "a\n", "nested too deep");
    check_large("deep enough", "any: ", "[", 30, "]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]", NULL);
    check_large("keys", "any: {", "a, ", many, "}", "the key is there twice");
    check_large("question marks", "any:\n", "? ", many, "\n", "");
    check_large("long text", "any: ", "abcdefgh", many, "\n", NULL);
    check_large("many lines", "any: |\n", "  a\n", many, "", NULL);
    check_large("many items", "any: [", "1, ", many, "]", NULL);
    check_large("comments", "", "# x\n", many, "text: a\n", NULL);
    check_large("quotes", "any: \"", "\\u00e4", many, "\"", NULL);
    check_large("control bytes that JSON writes long", "any: \"", "\\x01", 200000, "\"", "");
    check_large("colons", "any: ", "a: ", many, "\n", "(line 1)");
    check_large("a long first word", "", "k", 5000, ": 1\n", "(line 1)");
    check_large("a long key", "? ", "k", 5000, "\n: 1\n", "unknown field (line 1)");

    struct buf b = BUF_INIT(1 * MIB); /* more keys than anybody needs, all different */
    buf_adds(&b, "any:\n");
    for (int i = 0; i < 5000; i++)
        buf_addf(&b, "  k%d: 1\n", i);
    CHECK(decode(buf_str(&b), b.len, &d, &err) < 0 && strstr(err.msg, "too many keys (line 258)"));
    buf_release(&b);
    return check_done();
}
