/* URLs, queries, Host headers and binds: one canonical form, all else refused (T-56). */
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "check.h"
#include "wire/url.h"

#define L63 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

static const struct {
    const char *text;
    const char *name; /* NULL: refused */
    uint16_t port;
} hosts[] = {
    { "localhost", "localhost", 0 },
    { "LOCALHOST", "localhost", 0 },
    { "LocalHost:9090", "localhost", 9090 },
    { "localhost:1", "localhost", 1 },
    { "localhost:65535", "localhost", 65535 },
    { "127.0.0.1", "127.0.0.1", 0 },
    { "127.0.0.1:9090", "127.0.0.1", 9090 },
    { "example.com", "example.com", 0 },
    { "Example.COM:80", "example.com", 80 },
    { "a.b.c.d.example.com", "a.b.c.d.example.com", 0 },
    { "s-01arz3ndektsv4rrffq69g5fav-3000.preview.localhost",
      "s-01arz3ndektsv4rrffq69g5fav-3000.preview.localhost", 0 },
    { "xn--bcher-kva.example", "xn--bcher-kva.example", 0 },
    { "1", "1", 0 },
    { "a", "a", 0 },
    { "a-b", "a-b", 0 },
    { L63 ".com", L63 ".com", 0 },
    { "[::1]", "::1", 0 },
    { "[::1]:9090", "::1", 9090 },
    { "[0:0:0:0:0:0:0:1]", "::1", 0 },
    { "[2001:DB8::A]", "2001:db8::a", 0 },
    { "[::ffff:127.0.0.1]", "::ffff:127.0.0.1", 0 },
    { "", NULL, 0 },
    { ".", NULL, 0 },
    { ":", NULL, 0 },
    { ":80", NULL, 0 },
    { "localhost.", NULL, 0 },
    { "localhost.:80", NULL, 0 },
    { "example.com..", NULL, 0 },
    { ".example.com", NULL, 0 },
    { "a..b", NULL, 0 },
    { "localhost:", NULL, 0 },
    { "localhost:0", NULL, 0 },
    { "localhost:080", NULL, 0 },
    { "localhost:65536", NULL, 0 },
    { "localhost:99999999999999999999", NULL, 0 },
    { "localhost:+80", NULL, 0 },
    { "localhost:-1", NULL, 0 },
    { "localhost: 80", NULL, 0 },
    { "localhost:80 ", NULL, 0 },
    { "localhost:80:80", NULL, 0 },
    { "localhost:http", NULL, 0 },
    { "localhost:0x50", NULL, 0 },
    { " localhost", NULL, 0 },
    { "localhost ", NULL, 0 },
    { "local host", NULL, 0 },
    { "localhost\t", NULL, 0 },
    { "localhost\r\nX: y", NULL, 0 },
    { "localhost,example.com", NULL, 0 },
    { "user@localhost", NULL, 0 },
    { "user:pw@localhost", NULL, 0 },
    { "localhost/", NULL, 0 },
    { "localhost/path", NULL, 0 },
    { "localhost?x", NULL, 0 },
    { "localhost#x", NULL, 0 },
    { "http://localhost", NULL, 0 },
    { "//localhost", NULL, 0 },
    { "local_host", NULL, 0 },
    { "_sip.example.com", NULL, 0 },
    { "-a.example.com", NULL, 0 },
    { "a-.example.com", NULL, 0 },
    { "a.-b", NULL, 0 },
    { "a-", NULL, 0 },
    { "-", NULL, 0 },
    { "b\xc3\xbc"
      "cher.example",
      NULL, 0 },
    { "%6cocalhost", NULL, 0 },
    { "local*host", NULL, 0 },
    { "*.example.com", NULL, 0 },
    { L63 "a.com", NULL, 0 },
    { L63 "." L63 "." L63 "." L63, NULL, 0 },
    { "::1", NULL, 0 },
    { "::1:9090", NULL, 0 },
    { "[::1", NULL, 0 },
    { "[]", NULL, 0 },
    { "[::1]x", NULL, 0 },
    { "[::1]:", NULL, 0 },
    { "[::1]:0", NULL, 0 },
    { "[::1%lo]", NULL, 0 },
    { "[::1]]", NULL, 0 },
    { "[[::1]]", NULL, 0 },
    { "[127.0.0.1]", NULL, 0 },
    { "[localhost]", NULL, 0 },
    { "[v1.x]", NULL, 0 },
    { "[0000:0000:0000:0000:0000:0000:0000:0000:0001]", NULL, 0 },
};

static const struct {
    const char *text, *host;
    uint16_t port;
} binds[] = {
    { "127.0.0.1:9090", "127.0.0.1", 9090 },
    { "localhost:9090", "127.0.0.1", 9090 },
    { ":9090", "0.0.0.0", 9090 },
    { "0.0.0.0:80", "0.0.0.0", 80 },
    { "[::1]:9090", "::1", 9090 },
    { "[::]:9090", "::", 9090 },
    { "", NULL, 0 },
    { ":", NULL, 0 },
    { "9090", NULL, 0 },
    { "127.0.0.1", NULL, 0 },
    { "127.0.0.1:", NULL, 0 },
    { "127.0.0.1:0", NULL, 0 },
    { "127.0.0.1:70000", NULL, 0 },
    { "127.1:9090", NULL, 0 },
    { "256.0.0.1:9090", NULL, 0 },
    { "example.com:9090", NULL, 0 },
    { "::1:9090", NULL, 0 },
    { "*:9090", NULL, 0 },
    { "http://127.0.0.1:9090", NULL, 0 },
};

static const struct {
    const char *text;
    bool plus;
    const char *want;
} decodes[] = {
    { "", false, "" },         { "abc", false, "abc" },         { "a%20b", false, "a b" },
    { "%41%42", false, "AB" }, { "%c3%A9", false, "\xc3\xa9" }, { "a+b", false, "a+b" },
    { "a+b", true, "a b" },    { "a%2Bb", true, "a+b" },        { "%2e%2e%2f", false, "../" },
    { "%25", false, "%" },     { "%252e", false, "%2e" }, /* decoded once only */
    { "%", false, NULL },      { "%4", false, NULL },           { "a%", false, NULL },
    { "%zz", false, NULL },    { "%4g", false, NULL },          { "%g4", false, NULL },
    { "% 41", false, NULL },   { "%u0041", false, NULL },       { "%00", false, NULL },
    { "a%00b", true, NULL },
};

static void check_hosts(void)
{
    for (size_t i = 0; i < sizeof hosts / sizeof hosts[0]; i++) {
        char name[HOST_NAME_MAX_BYTES + 1] = "";
        uint16_t port = 0;
        struct err err;
        int rc = host_parse(hosts[i].text, name, &port, &err);
        if (hosts[i].name)
            CHECK_ROW(hosts[i].text,
                      rc == 0 && str_eq(name, hosts[i].name) && port == hosts[i].port);
        else
            CHECK_ROW(hosts[i].text, rc == -1 && err.code == ERR_INVALID);
    }
}

static void check_binds(void)
{
    for (size_t i = 0; i < sizeof binds / sizeof binds[0]; i++) {
        char host[HOST_NAME_MAX_BYTES + 1] = "";
        uint16_t port = 0;
        struct err err;
        int rc = bind_parse(binds[i].text, host, &port, &err);
        if (binds[i].host)
            CHECK_ROW(binds[i].text,
                      rc == 0 && str_eq(host, binds[i].host) && port == binds[i].port);
        else
            CHECK_ROW(binds[i].text, rc == -1 && err.code == ERR_INVALID);
    }
}

static void check_codes(void)
{
    struct err err;
    for (size_t i = 0; i < sizeof decodes / sizeof decodes[0]; i++) {
        AUTO(free) char *got = NULL;
        int rc = url_decode(decodes[i].text, strlen(decodes[i].text), decodes[i].plus, &got, &err);
        if (decodes[i].want)
            CHECK_ROW(decodes[i].text, rc == 0 && str_eq(got, decodes[i].want));
        else
            CHECK_ROW(decodes[i].text, rc == -1 && err.code == ERR_INVALID && !got);
    }
    AUTO(free) char *cut = NULL;
    CHECK(url_decode("%414", 3, false, &cut, &err) == 0 && str_eq(cut, "A")); /* len counts */
    for (int c = 1; c < 256; c++) { /* every byte comes back */
        AUTO(buf) struct buf b = BUF_INIT(16);
        AUTO(free) char *back = NULL;
        char one[2] = { (char)c, 0 };
        url_encode(&b, one);
        if (url_decode(buf_str(&b), b.len, true, &back, &err) < 0 || !str_eq(back, one))
            CHECK_ROW("encode and decode", false);
    }
    AUTO(buf) struct buf b = BUF_INIT(64);
    url_encode(&b, "a/b c?&=%+~._-\xc3\xa9");
    CHECK_STR("a%2Fb%20c%3F%26%3D%25%2B~._-%C3%A9", buf_str(&b));
}

static void check_queries(void)
{
    struct query q;
    struct err err;
    char many[1024] = "";
    CHECK(query_parse("", &q, &err) == 0 && q.count == 0 && !query_get(&q, "a"));
    query_release(&q);
    CHECK(query_parse("a=1&b=&c&d=x%26y+z&metadata.k=v=w", &q, &err) == 0 && q.count == 5);
    CHECK_STR("1", query_get(&q, "a"));
    CHECK_STR("", query_get(&q, "b"));
    CHECK_STR("", query_get(&q, "c"));
    CHECK_STR("x&y z", query_get(&q, "d"));
    CHECK_STR("v=w", query_get(&q, "metadata.k"));
    CHECK(!query_get(&q, "A"));
    query_release(&q);
    query_release(&q);
    CHECK(query_parse("&&a=1&&", &q, &err) == 0 && q.count == 1);
    query_release(&q);
    CHECK(query_parse("a=1&a=1", &q, &err) == -1 && err.code == ERR_INVALID);
    CHECK(query_parse("a=1&%61=2", &q, &err) == -1); /* the same name, written otherwise */
    CHECK(query_parse("a=%00", &q, &err) == -1);
    CHECK(query_parse("%=1", &q, &err) == -1);
    for (int i = 0; i < 65; i++)
        (void)snprintf(many + strlen(many), sizeof many - strlen(many), "p%d=1&", i);
    CHECK(query_parse(many, &q, &err) == -1 && err.code == ERR_INVALID);
    *strstr(many, "p64") = 0;
    CHECK(query_parse(many, &q, &err) == 0 && q.count == 64);
    query_release(&q);
}

int main(void)
{
    check_hosts();
    check_binds();
    check_codes();
    check_queries();
    return check_done();
}
