/* JSON in and out: what is refused and how the place is named; what is written reads back. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/limits.h"
#include "base/str.h"
#include "check.h"
#include "wire/json.h"

struct inner {
    uint32_t n;
    char *word;
};
struct thing {
    char *name;
    uint32_t count;
    int64_t big;
    bool flag;
    bool flag_seen;
    int color;
    struct strv list;
    struct strmap map;
    struct u16v ports;
    struct inner inner;
    char *any;
    char *maybe;
};

static const char *const colors[] = { "red", "green", NULL };
static const struct field inner_fields[] = {
    FIELD_U32(struct inner, n, .lo = 64, .hi = 100),
    FIELD_STR(struct inner, word, .flags = FIELD_REQUIRED, .hi = 10),
};
static const struct shape inner_shape = SHAPE("inner", inner_fields);
static const struct field thing_fields[] = {
    FIELD_STR(struct thing, name, .lo = 1, .hi = 8),
    FIELD_U32(struct thing, count, .lo = 1, .hi = 4294967295),
    FIELD_I64(struct thing, big, .lo = INT64_MIN, .hi = INT64_MAX),
    { .name = "flag",
      .type = FIELD_TYPE_BOOL,
      .offset = offsetof(struct thing, flag),
      .seen = offsetof(struct thing, flag_seen) },
    FIELD_ENUM(struct thing, color, .names = colors),
    FIELD_STRV(struct thing, list, .hi = 3),
    FIELD_MAP(struct thing, map, .hi = 2),
    FIELD_U16V(struct thing, ports, .lo = 1, .hi = 65535),
    FIELD_OBJ(struct thing, inner, &inner_shape),
    FIELD_ANY(struct thing, any),
    FIELD_STR(struct thing, maybe, .flags = FIELD_NULLABLE),
};
static const struct shape closed = SHAPE("thing", thing_fields);
static const struct shape open_shape = SHAPE("thing", thing_fields, .open = true);

#define D8 "[[[[[[[["
#define E8 "]]]]]]]]"

static const struct {
    const char *text;
    const char *want; /* NULL: accepted; else the message begins so */
} rows[] = {
    { "{}", NULL },
    { " \t\r\n{ } \n", NULL },
    { "{\"name\":\"abc\"}", NULL },
    { "{\"name\":\"\\u00e9\\ud83d\\ude00\"}", NULL },
    { "{\"name\":\"\"}", "name: must not be empty" },
    { "{\"name\":\"123456789\"}", "name: longer than 8 bytes" },
    { "{\"name\":5}", "name: must be a string" },
    { "{\"name\":null}", "name: must be a string" },
    { "{\"name\":[\"a\"]}", "name: must be a string" },
    { "{\"name\":\"a\\u0000b\"}", "invalid json" },
    { "{\"na\\u0000me\":\"a\"}", "invalid json" },
    { "{\"name\":\"\\ud800\"}", "invalid json" },
    { "{\"name\":\"\\udc00\"}", "invalid json" },
    { "{\"name\":\"\\ud800\\ud800\"}", "invalid json" },
    { "{\"name\":\"\\ud800x\"}", "invalid json" },
    { "{\"name\":\"\xff\"}", "invalid json" },
    { "{\"name\":\"\xc0\xaf\"}", "invalid json" },
    { "{\"name\":\"\xed\xa0\x80\"}", "invalid json" },
    { "{\"name\":\"a\nb\"}", "invalid json" },
    { "{\"name\":\"\\x41\"}", "invalid json" },
    { "{\"name\":\"a", "invalid json" },
    { "{\"name\":'a'}", "invalid json" },
    { "{\"name\":\"a\",\"name\":\"a\"}", "invalid json" },
    { "{\"name\":\"a\",\"n\\u0061me\":\"b\"}", "invalid json" },
    { "{\"inner\":{\"word\":\"a\",\"word\":\"b\"}}", "invalid json" },
    { "{\"nope\":1}", "nope: unknown field" },
    { "{\"Name\":\"a\"}", "Name: unknown field" },
    { "{\"\":1}", "body: unknown field" },
    { "{\"n\\u001bme\":1}", "n?me: unknown field" },
    { "{\"count\":1}", NULL },
    { "{\"count\":4294967295}", NULL },
    { "{\"count\":7.0}", NULL },
    { "{\"count\":1e3}", NULL },
    { "{\"count\":0}", "count: 0 is below 1" },
    { "{\"count\":-1}", "count: -1 is below 1" },
    { "{\"count\":4294967296}", "count: 4294967296 is above 4294967295" },
    { "{\"count\":1.5}", "count: must be a whole number" },
    { "{\"count\":1e300}", "count: must be a whole number" },
    { "{\"count\":1e400}", "invalid json" },
    { "{\"count\":-1e400}", "invalid json" },
    { "{\"count\":99999999999999999999}", "count: must be a whole number" },
    { "{\"count\":\"5\"}", "count: must be a whole number" },
    { "{\"count\":true}", "count: must be a whole number" },
    { "{\"count\":null}", "count: must be a whole number" },
    { "{\"count\":NaN}", "invalid json" },
    { "{\"count\":Infinity}", "invalid json" },
    { "{\"count\":-Infinity}", "invalid json" },
    { "{\"count\":0x10}", "invalid json" },
    { "{\"count\":010}", "invalid json" },
    { "{\"count\":+1}", "invalid json" },
    { "{\"count\":1.}", "invalid json" },
    { "{\"count\":.5}", "invalid json" },
    { "{\"count\":-}", "invalid json" },
    { "{\"big\":-9223372036854775808}", NULL },
    { "{\"big\":9223372036854775807}", NULL },
    { "{\"big\":9223372036854775808}", "big: must be a whole number" },
    { "{\"flag\":true}", NULL },
    { "{\"flag\":1}", "flag: must be true or false" },
    { "{\"flag\":\"true\"}", "flag: must be true or false" },
    { "{\"flag\":TRUE}", "invalid json" },
    { "{\"color\":\"green\"}", NULL },
    { "{\"color\":\"blue\"}", "color: must be one of red, green" },
    { "{\"color\":\"Red\"}", "color: must be one of red, green" },
    { "{\"color\":0}", "color: must be one of red, green" },
    { "{\"list\":[]}", NULL },
    { "{\"list\":[\"a\",\"\",\"c\"]}", NULL },
    { "{\"list\":[\"a\",\"b\",\"c\",\"d\"]}", "list: more than 3 items" },
    { "{\"list\":[\"a\",1]}", "list.1: must be a string" },
    { "{\"list\":\"a\"}", "list: must be a list of strings" },
    { "{\"list\":{\"0\":\"a\"}}", "list: must be a list of strings" },
    { "{\"list\":[\"a\",]}", "invalid json" },
    { "{\"map\":{\"k\":\"v\"}}", NULL },
    { "{\"map\":{\"k\":1}}", "map.k: must be a string" },
    { "{\"map\":{\"a\":\"\",\"b\":\"\",\"c\":\"\"}}", "map: more than 2 names" },
    { "{\"map\":[]}", "map: must be an object of strings" },
    { "{\"ports\":[80,3000]}", NULL },
    { "{\"ports\":[0]}", "ports.0: 0 is below 1" },
    { "{\"ports\":[80,65536]}", "ports.1: 65536 is above 65535" },
    { "{\"ports\":[\"80\"]}", "ports.0: must be a whole number" },
    { "{\"ports\":80}", "ports: must be a list of numbers" },
    { "{\"ports\":[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]}",
      "ports: more than 32 items" },
    { "{\"inner\":{\"word\":\"w\",\"n\":64}}", NULL },
    { "{\"inner\":{\"word\":\"w\",\"n\":12}}", "inner.n: 12 is below 64" },
    { "{\"inner\":{\"n\":64}}", "inner.word: is required" },
    { "{\"inner\":{\"word\":\"w\",\"x\":1}}", "inner.x: unknown field" },
    { "{\"inner\":[]}", "inner: must be an object" },
    { "{\"inner\":null}", "inner: must be an object" },
    { "{\"any\":null}", NULL },
    { "{\"any\":[1,{\"a\":[]}]}", NULL },
    { "{\"maybe\":null}", NULL },
    { "[]", "body: must be an object" },
    { "\"a\"", "body: must be an object" },
    { "null", "body: must be an object" },
    { "5", "body: must be an object" },
    { "", NULL },
    { " ", "invalid json" },
    { "{", "invalid json" },
    { "}", "invalid json" },
    { "{}{}", "invalid json" },
    { "{} x", "invalid json" },
    { "{,}", "invalid json" },
    { "{\"name\"}", "invalid json" },
    { "{\"name\":}", "invalid json" },
    { "{name:\"a\"}", "invalid json" },
    { "{/**/}", "invalid json" },
    { "\xef\xbb\xbf{}", "invalid json" },
    { "{\"any\":" D8 D8 D8 "[[[[[[[" E8 E8 E8 "]]]]]]]}", NULL },
    { "{\"any\":" D8 D8 D8 D8 E8 E8 E8 E8 "}", "invalid json: nested deeper than 32" },
    { "{\"any\":\"" D8 D8 D8 D8 D8 "\"}", NULL }, /* brackets in text do not nest */
    { "{\"any\":\"\\\"" D8 D8 D8 D8 D8 "\"}", NULL },
    { D8 D8 D8 D8 D8, "invalid json: nested deeper than 32" },
};

static void check_rows(void)
{
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct thing t = { 0 };
        struct err err = { 0 };
        int rc = json_decode(&closed, rows[i].text, strlen(rows[i].text), &t, &err);
        bool fine = rows[i].want
                        ? rc == -1 && err.code == ERR_INVALID && str_starts(err.msg, rows[i].want)
                        : rc == 0;
        if (!CHECK_ROW(rows[i].text, fine))
            printf("# got: %d %s\n", rc, err.msg);
        if (rc < 0)
            CHECK_ROW(rows[i].text, !t.name && !t.list.items && !t.map.names && !t.inner.word &&
                                        !t.any && !t.maybe);
        shape_release(&closed, &t);
    }
}

static void check_values(void)
{
    static const char text[] =
        "{\"name\":\"\\u00e9\\n\",\"count\":7.0,\"big\":-9223372036854775808,\"flag\":false,"
        "\"color\":\"green\",\"list\":[\"a\",\"\"],\"map\":{\"k\":\"v\"},\"ports\":[80,65535],"
        "\"inner\":{\"word\":\"w\"},\"any\":{ \"x\": [1, null] },\"maybe\":null}";
    struct thing t = { .inner = { .n = 77 }, .flag = true };
    struct err err;
    t.name = str_dup("default");
    t.maybe = str_dup("kept");
    CHECK(json_decode(&closed, text, strlen(text), &t, &err) == 0);
    CHECK_STR("\xc3\xa9\n", t.name);
    CHECK(t.count == 7 && t.big == INT64_MIN && !t.flag && t.flag_seen && t.color == 1);
    CHECK(t.list.count == 2 && str_eq(t.list.items[1], ""));
    CHECK_STR("v", strmap_get(&t.map, "k"));
    CHECK(t.ports.count == 2 && t.ports.items[1] == 65535);
    CHECK(t.inner.n == 77); /* a default stays where nothing is said */
    CHECK_STR("{\"x\":[1,null]}", t.any);
    CHECK_STR("kept", t.maybe);
    shape_release(&closed, &t);
    CHECK(json_decode(&open_shape, "{\"zzz\":{\"a\":1},\"count\":2}", 25, &t, &err) == 0);
    shape_release(&open_shape, &t);
    CHECK(json_decode(&closed, "{}\0", 3, &t, &err) == -1); /* a NUL after the text */
}

/* The caller knows best how long a hostile name is: the message stays short and printable. */
static void check_long_names(void)
{
    struct err err;
    struct thing t = { 0 };
    AUTO(buf) struct buf b = BUF_INIT(8192);
    buf_adds(&b, "{\"");
    for (int i = 0; i < 3000; i++)
        buf_adds(&b, "\xc3\xa9");
    buf_adds(&b, "\":1}");
    CHECK(json_decode(&closed, buf_str(&b), b.len, &t, &err) == -1 && strlen(err.msg) < 120);
    CHECK(str_utf8(err.msg, strlen(err.msg)));
}

static void check_whole(void)
{
    static const char text[] = "{\"State\":{\"Running\":true,\"Pid\":42},\"a.b\":\"dot\","
                               "\"list\":[1,\"two\",{}]}";
    struct err err;
    int64_t n = 0;
    AUTO(json) struct json *j = NULL;
    CHECK(json_parse(text, strlen(text), &j, &err) == 0);
    CHECK(json_yes(json_at(j, "State.Running")) && !json_yes(json_at(j, "State.Pid")));
    CHECK(json_int(json_at(j, "State.Pid"), &n) && n == 42);
    CHECK(!json_at(j, "State.Nope.Deeper") && !json_at(NULL, "x") && !json_at(j, "list.0"));
    CHECK_STR("dot", json_text(json_key(j, "a.b")));
    CHECK(!json_at(j, "a.b") && !json_text(json_at(j, "list")) && !json_text(NULL));
    CHECK(json_count(json_at(j, "list")) == 3 && json_count(j) == 0);
    CHECK_STR("two", json_text(json_item(json_at(j, "list"), 1)));
    CHECK(!json_item(json_at(j, "list"), 3));
    CHECK(!json_int(json_item(json_at(j, "list"), 1), &n) && !json_int(NULL, &n));
    AUTO(free) char *dump = json_dump(j);
    CHECK_STR("{\"State\":{\"Running\":true,\"Pid\":42},\"a.b\":\"dot\",\"list\":[1,\"two\",{}]}",
              dump);
}

static void check_writer(void)
{
    AUTO(buf) struct buf b = BUF_INIT(4096);
    struct json_out o = JSON_OUT(&b);
    json_open(&o, NULL);
    json_put(&o, "a", "q\"\\\n\r\t\x01\x7f/\xc3\xa9");
    json_put(&o, "none", NULL);
    json_put_int(&o, "min", INT64_MIN);
    json_put_int(&o, "max", INT64_MAX);
    json_put_int(&o, "zero", 0);
    json_put_real(&o, "half", 0.5);
    json_put_real(&o, "nan", (double)NAN);
    json_put_bool(&o, "yes", true);
    json_list(&o, "list");
    json_put_int(&o, NULL, 1);
    json_open(&o, NULL);
    json_close(&o);
    json_list(&o, NULL);
    json_unlist(&o);
    json_unlist(&o);
    json_put_raw(&o, "raw", "[1]");
    json_put_time(&o, "never", 0);
    json_put_time(&o, "then", 1);
    json_put_n(&o, "nul", "a\0b", 3);
    json_put_bytes(&o, "bytes", "a\xff\xe2\x82z\0", 6);
    json_put_null(&o, "k\"ey");
    json_close(&o);
    CHECK_STR("{\"a\":\"q\\\"\\\\\\n\\r\\t\\u0001\\u007f/\xc3\xa9\",\"none\":null,"
              "\"min\":-9223372036854775808,\"max\":9223372036854775807,\"zero\":0,\"half\":0.5,"
              "\"nan\":null,\"yes\":true,\"list\":[1,{},[]],\"raw\":[1],\"never\":null,"
              "\"then\":\"1970-01-01T00:00:00.001Z\",\"nul\":\"a\\u0000b\","
              "\"bytes\":\"a\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbdz\\u0000\",\"k\\\"ey\":null}",
              buf_str(&b));
    struct err err;
    AUTO(buf) struct buf small = BUF_INIT(10);
    struct json_out s = JSON_OUT(&small);
    json_put(&s, NULL, "0123456789");
    CHECK(buf_done(&small, &err) == -1);
}

static void check_maps(void)
{
    struct err err;
    struct strmap m = { 0 }, back = { 0 };
    strmap_add(&m, "A", "1\n\"\xc3\xa9");
    strmap_add(&m, "EMPTY", "");
    AUTO(free) char *text = strmap_to_json(&m);
    CHECK(strmap_from_json(text, &back, &err) == 0 && back.count == 2);
    CHECK_STR("1\n\"\xc3\xa9", strmap_get(&back, "A"));
    CHECK_STR("", strmap_get(&back, "EMPTY"));
    strmap_release(&m);
    strmap_release(&back);
    CHECK(strmap_from_json("{\"a\":1}", &back, &err) == -1 && back.count == 0);
    CHECK(strmap_from_json("[", &back, &err) == -1);
}

int main(void)
{
    check_rows();
    check_values();
    check_long_names();
    check_whole();
    check_writer();
    check_maps();
    return check_done();
}
