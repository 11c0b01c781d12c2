/* Names of previews. One parser, one canonical form: what is not exactly that is not routed. */
#include "route.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/str.h"
#include "wire/url.h"

#define CODE_NAME "sandboxed_code="

static bool read_port(const char *text, size_t len, uint16_t *ret)
{
    unsigned n = 0;
    if (len < 1 || len > 5 || text[0] == '0')
        return false;
    for (size_t i = 0; i < len; i++) {
        if (text[i] < '0' || text[i] > '9')
            return false;
        n = n * 10 + (unsigned)(text[i] - '0');
    }
    if (n > 65535)
        return false;
    *ret = (uint16_t)n;
    return true;
}

static bool read_id(const char *text, size_t len, struct sandbox_id *ret)
{
    char id[ID_LEN + 1];
    struct err ignored;
    if (len != ID_LEN)
        return false;
    memcpy(id, text, len);
    id[len] = '\0';
    return sandbox_id_parse(id, ret, &ignored) == 0;
}

bool route_host(const char *name, const char *domain, struct route *ret)
{
    size_t len = strlen(name), tail = strlen(domain);
    if (len <= tail + 1 || !str_eq(name + len - tail, domain) || name[len - tail - 1] != '.')
        return false;
    len -= tail + 1; /* what is left: "s-<id>-<port>.preview" or "<port>-<id>" */
    static const char preview[] = ".preview";
    size_t plen = sizeof preview - 1;
    if (len > plen && strncmp(name + len - plen, preview, plen) == 0) {
        len -= plen;
        return len > 2 + ID_LEN + 1 && name[0] == 's' && name[1] == '-' &&
               name[2 + ID_LEN] == '-' && read_id(name + 2, ID_LEN, &ret->id) &&
               read_port(name + 3 + ID_LEN, len - 3 - ID_LEN, &ret->port);
    }
    const char *dash = memchr(name, '-', len);
    return dash && read_port(name, (size_t)(dash - name), &ret->port) &&
           read_id(dash + 1, len - (size_t)(dash + 1 - name), &ret->id);
}

/* 1: both headers are there and good, 0: neither, -1: anything else. */
static int by_headers(const struct head *h, struct route *ret)
{
    bool more_id, more_port;
    const struct line *id = head_line(h, "e2b-sandbox-id", &more_id);
    const struct line *port = head_line(h, "e2b-sandbox-port", &more_port);
    if (!id && !port)
        return 0;
    if (!id || !port || more_id || more_port || !read_id(id->value.at, id->value.len, &ret->id) ||
        !read_port(port->value.at, port->value.len, &ret->port))
        return -1;
    return 1;
}

enum route_found edge_route_find(const struct head *h, const char *domain, struct route *ret)
{
    char text[HOST_NAME_MAX_BYTES + 16], name[HOST_NAME_MAX_BYTES + 1] = "";
    struct route named;
    struct err ignored;
    uint16_t port;
    bool more;
    const struct line *host = head_line(h, "host", &more);
    if (more || (!host && h->minor > 0))
        return ROUTE_AMBIGUOUS;
    if (host) {
        if (host->value.len == 0 || host->value.len >= sizeof text)
            return ROUTE_AMBIGUOUS;
        memcpy(text, host->value.at, host->value.len);
        text[host->value.len] = '\0';
        if (host_parse(text, name, &port, &ignored) < 0)
            return ROUTE_AMBIGUOUS;
    }
    int headers = by_headers(h, ret);
    if (headers < 0)
        return ROUTE_AMBIGUOUS;
    if (!route_host(name, domain, &named))
        return headers ? ROUTE_FOUND : ROUTE_UNKNOWN;
    if (headers && (!sandbox_id_eq(&named.id, &ret->id) || named.port != ret->port))
        return ROUTE_AMBIGUOUS;
    *ret = named;
    return ROUTE_FOUND;
}

/* The parameter's place in the target: its name up to the next &, or the end. */
static bool find_code(struct span target, size_t *ret_at, size_t *ret_len)
{
    const char *query = memchr(target.at, '?', target.len);
    const char *end = target.at + target.len;
    for (const char *p = query ? query + 1 : end; p < end;) {
        const char *amp = memchr(p, '&', (size_t)(end - p));
        const char *stop = amp ? amp : end;
        if ((size_t)(stop - p) > strlen(CODE_NAME) &&
            strncmp(p, CODE_NAME, strlen(CODE_NAME)) == 0) {
            *ret_at = (size_t)(p - target.at);
            *ret_len = (size_t)(stop - p);
            return true;
        }
        p = stop + 1;
    }
    return false;
}

bool route_code(struct span target, char out[ROUTE_CODE_MAX])
{
    size_t at, len, name = strlen(CODE_NAME);
    if (!find_code(target, &at, &len) || len - name >= ROUTE_CODE_MAX)
        return false;
    memcpy(out, target.at + at + name, len - name);
    out[len - name] = '\0';
    return true;
}

bool route_without_code(struct span target, char *out, size_t size)
{
    size_t at, len;
    bool ok = find_code(target, &at, &len);
    size_t rest = ok ? target.len - at - len : 0; /* "&more", or nothing */
    if (!ok || at + rest >= size)
        return false;
    if (rest > 0) /* ?code&more -> ?more */
        rest--;
    else /* ?code, more&code: the sign before goes too */
        at--;
    memcpy(out, target.at, at);
    memcpy(out + at, target.at + target.len - rest, rest);
    out[at + rest] = '\0';
    /* "//evil" and "/\evil" name another host to a browser */
    if (out[0] != '/' || out[1] == '/' || out[1] == '\\')
        (void)str_copy(out, size, "/");
    return true;
}
