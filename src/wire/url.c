/* URLs, queries and host names. One canonical form; what is ambiguous is refused. */
#include "wire/url.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/str.h"

#define QUERY_PARAMS_MAX 64

int url_decode(const char *text, size_t len, bool plus, char **ret, struct err *err)
{
    AUTO(free) char *out = mem_new(len + 1, 1);
    size_t n = 0;
    for (size_t i = 0; i < len; i++) {
        char c = text[i];
        if (c == '%') {
            int hi = i + 2 < len ? hex_digit(text[i + 1]) : -1;
            int lo = i + 2 < len ? hex_digit(text[i + 2]) : -1;
            if (hi < 0 || lo < 0)
                return err_set(err, ERR_INVALID, "malformed percent escape in the URL");
            c = (char)(hi << 4 | lo);
            i += 2;
        } else if (c == '+' && plus) {
            c = ' ';
        }
        if (c == 0)
            return err_set(err, ERR_INVALID, "NUL in the URL");
        out[n++] = c;
    }
    *ret = TAKE(out);
    return 0;
}

void url_encode(struct buf *b, const char *text)
{
    static const char digits[] = "0123456789ABCDEF";
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;
        if ((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
            c == '-' || c == '.' || c == '_' || c == '~') {
            buf_addc(b, (char)c);
        } else {
            char esc[3] = { '%', digits[c >> 4], digits[c & 15] };
            buf_add(b, esc, 3);
        }
    }
}

void query_release(struct query *q)
{
    for (size_t i = 0; i < q->count; i++) {
        free(q->names[i]);
        free(q->values[i]);
    }
    free(q->names);
    free(q->values);
    *q = (struct query){ 0 };
}

const char *query_get(const struct query *q, const char *name)
{
    for (size_t i = 0; i < q->count; i++)
        if (str_eq(q->names[i], name))
            return q->values[i];
    return NULL;
}

static int query_add(struct query *q, const char *part, size_t len, struct err *err)
{
    AUTO(free) char *name = NULL;
    AUTO(free) char *value = NULL;
    const char *eq = memchr(part, '=', len);
    size_t name_len = eq ? (size_t)(eq - part) : len;
    if (url_decode(part, name_len, true, &name, err) < 0)
        return -1;
    if (url_decode(eq ? eq + 1 : "", eq ? len - name_len - 1 : 0, true, &value, err) < 0)
        return -1;
    if (query_get(q, name))
        return err_set(err, ERR_INVALID, "%.64s: given twice in the query", name);
    if (q->count == QUERY_PARAMS_MAX)
        return err_set(err, ERR_INVALID, "query: more than %d parameters", QUERY_PARAMS_MAX);
    q->names[q->count] = TAKE(name);
    q->values[q->count++] = TAKE(value);
    return 0;
}

int query_parse(const char *text, struct query *ret, struct err *err)
{
    struct query q = { .names = mem_new(QUERY_PARAMS_MAX, sizeof(char *)),
                       .values = mem_new(QUERY_PARAMS_MAX, sizeof(char *)) };
    while (*text) {
        size_t n = strcspn(text, "&");
        if (n > 0 && query_add(&q, text, n, err) < 0) {
            query_release(&q);
            return -1;
        }
        text += n + (text[n] == '&');
    }
    *ret = q;
    return 0;
}

static int parse_port(const char *text, uint16_t *ret, struct err *err)
{
    uint64_t v;
    if (strlen(text) > 5 || !str_u64(text, &v) || v == 0 || v > 65535 || text[0] == '0')
        return err_set(err, ERR_INVALID, "bad port");
    *ret = (uint16_t)v;
    return 0;
}

/* Labels of letters, digits and inner hyphens (RFC 1123), lower-cased. */
static int parse_name(const char *text, size_t len, char ret[HOST_NAME_MAX_BYTES + 1],
                      struct err *err)
{
    size_t label = 0;
    if (len == 0 || len > HOST_NAME_MAX_BYTES)
        return err_set(err, ERR_INVALID, "bad host name");
    for (size_t i = 0; i < len; i++) {
        char c = text[i];
        if (c >= 'A' && c <= 'Z')
            c = (char)(c - 'A' + 'a');
        bool edge = label == 0 || i + 1 == len || text[i + 1] == '.';
        if (c == '.' && label > 0 && i + 1 < len) {
            label = 0;
        } else if ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || (c == '-' && !edge)) {
            if (++label > 63)
                return err_set(err, ERR_INVALID, "bad host name");
        } else {
            return err_set(err, ERR_INVALID, "bad host name");
        }
        ret[i] = c;
    }
    ret[len] = 0;
    return 0;
}

int host_parse(const char *text, char ret_name[HOST_NAME_MAX_BYTES + 1], uint16_t *ret_port,
               struct err *err)
{
    uint16_t port = 0;
    if (text[0] == '[') {
        const char *end = strchr(text, ']');
        struct in6_addr a;
        char literal[INET6_ADDRSTRLEN];
        if (!end || (size_t)(end - text - 1) >= sizeof literal)
            return err_set(err, ERR_INVALID, "bad host name");
        memcpy(literal, text + 1, (size_t)(end - text - 1));
        literal[end - text - 1] = 0;
        if (inet_pton(AF_INET6, literal, &a) != 1 || (end[1] && end[1] != ':'))
            return err_set(err, ERR_INVALID, "bad host name");
        if (end[1] && parse_port(end + 2, &port, err) < 0)
            return -1;
        if (!inet_ntop(AF_INET6, &a, ret_name, HOST_NAME_MAX_BYTES + 1))
            return err_set(err, ERR_INVALID, "bad host name");
        *ret_port = port;
        return 0;
    }
    const char *colon = strchr(text, ':');
    size_t len = colon ? (size_t)(colon - text) : strlen(text);
    if (colon && parse_port(colon + 1, &port, err) < 0)
        return -1;
    if (parse_name(text, len, ret_name, err) < 0)
        return -1;
    *ret_port = port;
    return 0;
}

int bind_parse(const char *text, char ret_host[HOST_NAME_MAX_BYTES + 1], uint16_t *ret_port,
               struct err *err)
{
    struct in_addr a4;
    struct in6_addr a6;
    uint16_t port = 0;
    if (text[0] == ':') {
        if (parse_port(text + 1, ret_port, err) < 0)
            return -1;
        (void)str_copy(ret_host, HOST_NAME_MAX_BYTES + 1, "0.0.0.0");
        return 0;
    }
    if (host_parse(text, ret_host, &port, err) < 0)
        return -1;
    if (port == 0)
        return err_set(err, ERR_INVALID, "the port is missing");
    if (str_eq(ret_host, "localhost"))
        (void)str_copy(ret_host, HOST_NAME_MAX_BYTES + 1, "127.0.0.1");
    if (inet_pton(AF_INET, ret_host, &a4) != 1 && inet_pton(AF_INET6, ret_host, &a6) != 1)
        return err_set(err, ERR_INVALID, "must be an IP address (or localhost) and a port");
    *ret_port = port;
    return 0;
}
