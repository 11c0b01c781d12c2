/* Checks of a request's header list.
 *
 * libmicrohttpd accepts requests that another parser on the way would read differently (two
 * lengths, Transfer-Encoding with Content-Length, a space before the colon); and a browser sends
 * requests to 127.0.0.1 for any page that asks. Both end here, before a handler is chosen. Nothing
 * is kept between calls. */
#include "guard.h"

#include <strings.h>

#include "base/limits.h"
#include "base/str.h"
#include "wire/url.h"

static bool token_char(unsigned char c)
{
    if ((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'))
        return true;
    return c != '\0' && strchr("!#$%&'*+-.^_`|~", c) != NULL;
}

static void broken(struct heads *h, const char *rule)
{
    if (!h->broken)
        h->broken = rule;
}

static const char gap[] = "a header line is folded, holds a NUL byte or does not end in CRLF";

void heads_in_place(struct heads *h, const char *version)
{
    h->in_place = true;
    h->at = version + strlen(version) + 2;
}

void heads_end(struct heads *h, const char *end)
{
    if (h->in_place && h->at + 2 != end)
        broken(h, gap);
}

static void check_place(struct heads *h, const char *name, size_t name_len, const char *value,
                        size_t value_len)
{
    const char *after = name + name_len + 1; /* the colon */
    if (name != h->at || value < after || (size_t)(value - after) > HTTP_HEADER_MAX)
        broken(h, gap);
    h->at = value + value_len + 2;
}

static void add_length(struct heads *h, const char *value)
{
    uint64_t n = 0;
    if (!str_u64(value, &n))
        broken(h, "Content-Length must be a plain decimal number");
    h->length = n;
    h->n_length++;
}

/* Keeps the first value: a repeat of a header that decides something is refused. */
static void keep(struct heads *h, const char **slot, const char *value, const char *rule)
{
    if (*slot)
        broken(h, rule);
    else
        *slot = value;
}

void heads_add(struct heads *h, const char *name, size_t name_len, const char *value,
               size_t value_len)
{
    h->count++;
    if (h->in_place && value)
        check_place(h, name, name_len, value, value_len);
    if (name_len == 0 || strlen(name) != name_len)
        broken(h, "a header name is empty or holds a NUL byte");
    for (size_t i = 0; i < name_len; i++)
        if (!token_char((unsigned char)name[i])) {
            broken(h, "a header name holds a character that is not allowed there");
            return;
        }
    if (!value) {
        value = "";
        value_len = 0;
    }
    for (size_t i = 0; i < value_len; i++) {
        unsigned char c = (unsigned char)value[i];
        if ((c < 0x20 && c != '\t') || c == 0x7f) {
            broken(h, "a header value holds a control character");
            return;
        }
    }
    switch (name[0] | 0x20) {
    case 'a':
        if (strcasecmp(name, "Authorization") == 0) {
            h->n_auth++;
            keep(h, &h->authorization, value, "Authorization is given twice");
        } else if (strcasecmp(name, "Accept") == 0 && !h->accept) {
            h->accept = value;
        }
        break;
    case 'c':
        if (strcasecmp(name, "Content-Length") == 0)
            add_length(h, value);
        else if (strcasecmp(name, "Content-Type") == 0)
            keep(h, &h->content_type, value, "Content-Type is given twice");
        else if (strcasecmp(name, "Connection") == 0 && !h->connection)
            h->connection = value;
        else if (strcasecmp(name, "Cookie") == 0 && !h->cookie)
            h->cookie = value;
        break;
    case 'u':
        if (strcasecmp(name, "Upgrade") == 0)
            keep(h, &h->upgrade, value, "Upgrade is given twice");
        break;
    case 'x':
        if (strcasecmp(name, "X-Forwarded-Host") == 0)
            keep(h, &h->forwarded_host, value, "X-Forwarded-Host is given twice");
        else if (strcasecmp(name, "X-Forwarded-Uri") == 0)
            keep(h, &h->forwarded_uri, value, "X-Forwarded-Uri is given twice");
        break;
    case 'e':
        if (strcasecmp(name, "Expect") == 0)
            h->expect = value;
        break;
    case 'h':
        if (strcasecmp(name, "Host") == 0) {
            h->n_host++;
            if (value_len == 0)
                broken(h, "Host is empty");
            keep(h, &h->host, value, "Host is given twice");
        }
        break;
    case 'i':
        if (strcasecmp(name, "Idempotency-Key") == 0)
            keep(h, &h->idempotency_key, value, "Idempotency-Key is given twice");
        else if (strcasecmp(name, "If-Match") == 0)
            keep(h, &h->if_match, value, "If-Match is given twice");
        else if (strcasecmp(name, "If-None-Match") == 0)
            keep(h, &h->if_none_match, value, "If-None-Match is given twice");
        else if (strcasecmp(name, "If-Range") == 0)
            keep(h, &h->if_range, value, "If-Range is given twice");
        break;
    case 'l':
        if (strcasecmp(name, "Last-Event-ID") == 0)
            keep(h, &h->last_event_id, value, "Last-Event-ID is given twice");
        break;
    case 'o':
        if (strcasecmp(name, "Origin") == 0)
            keep(h, &h->origin, value, "Origin is given twice");
        break;
    case 'r':
        if (strcasecmp(name, "Range") == 0)
            keep(h, &h->range, value, "Range is given twice");
        break;
    case 's':
        if (strcasecmp(name, "Sec-Fetch-Site") == 0)
            keep(h, &h->fetch_site, value, "Sec-Fetch-Site is given twice");
        else if (strcasecmp(name, "Sec-WebSocket-Key") == 0)
            keep(h, &h->ws_key, value, "Sec-WebSocket-Key is given twice");
        else if (strcasecmp(name, "Sec-WebSocket-Version") == 0)
            keep(h, &h->ws_version, value, "Sec-WebSocket-Version is given twice");
        break;
    case 't':
        if (strcasecmp(name, "Transfer-Encoding") == 0) {
            h->n_encoding++;
            h->transfer_encoding = value;
        }
        break;
    default:
        break;
    }
}

int guard_strict(const struct heads *h, const char *version, const char *uri, size_t header_bytes,
                 struct err *err)
{
    bool http11 = str_eq(version, "HTTP/1.1");
    if (!http11 && !str_eq(version, "HTTP/1.0"))
        return err_set(err, ERR_INVALID, "only HTTP/1.1 and HTTP/1.0 are spoken here");
    if (header_bytes > HTTP_HEADER_MAX)
        return err_set(err, ERR_TOO_LARGE,
                       "request line and headers are %zu bytes, at most %u are allowed",
                       header_bytes, HTTP_HEADER_MAX);
    if (h->count > HTTP_HEADERS_MAX)
        return err_set(err, ERR_TOO_LARGE, "%u headers, at most %d are allowed", h->count,
                       HTTP_HEADERS_MAX);
    if (uri[0] != '/')
        return err_set(err, ERR_INVALID, "the request target must begin with '/'");
    for (const char *c = uri; *c; c++)
        if ((unsigned char)*c <= 0x20 || (unsigned char)*c >= 0x7f)
            return err_set(err, ERR_INVALID,
                           "the request target holds a character that must be percent-encoded");
    if (h->n_length > 1)
        return err_set(err, ERR_INVALID, "Content-Length is given twice");
    if (h->n_encoding && h->n_length)
        return err_set(err, ERR_INVALID, "Transfer-Encoding and Content-Length exclude each other");
    if (h->n_encoding > 1 ||
        (h->n_encoding && (!http11 || strcasecmp(h->transfer_encoding, "chunked") != 0)))
        return err_set(err, ERR_INVALID, "the only Transfer-Encoding spoken here is chunked");
    if (h->n_host > 1)
        return err_set(err, ERR_INVALID, "Host is given twice");
    if (http11 && h->n_host == 0)
        return err_set(err, ERR_INVALID, "Host is missing");
    if (h->broken)
        return err_set(err, ERR_INVALID, "%s", h->broken);
    return 0;
}

static bool wildcard(const char *host)
{
    return host[0] == '\0' || str_eq(host, "0.0.0.0") || str_eq(host, "::");
}

int guard_host(const struct heads *h, const struct config *config, struct err *err)
{
    char name[HOST_NAME_MAX_BYTES + 1];
    uint16_t port = 0;
    struct err bad;
    if (h->host && host_parse(h->host, name, &port, &bad) == 0) {
        if (str_eq(name, "localhost") || str_eq(name, "127.0.0.1") || str_eq(name, "::1"))
            return 0;
        if (!wildcard(config->api.host) && str_eq(name, config->api.host))
            return 0;
        for (uint32_t i = 0; i < config->n_hosts; i++)
            if (str_eq(name, config->hosts[i]))
                return 0;
    }
    (void)err_set(err, ERR_MISDIRECTED, "this API is not served under the Host of the request");
    return err_remedy(err, "Call it as localhost or 127.0.0.1, or add the name to "
                           "SANDBOXD_API_HOSTS.");
}

/* "http://localhost:9090" against Host "localhost:9090". */
static bool same_origin(const char *origin, const char *host)
{
    static const struct {
        const char *scheme;
        uint16_t port;
    } schemes[] = { { "http://", 80 }, { "https://", 443 } };
    for (size_t i = 0; i < sizeof(schemes) / sizeof(schemes[0]); i++) {
        if (!str_starts(origin, schemes[i].scheme))
            continue;
        char a[HOST_NAME_MAX_BYTES + 1], b[HOST_NAME_MAX_BYTES + 1];
        uint16_t pa = 0, pb = 0;
        struct err bad;
        if (host_parse(origin + strlen(schemes[i].scheme), a, &pa, &bad) < 0 ||
            host_parse(host, b, &pb, &bad) < 0)
            return false;
        pa = pa ? pa : schemes[i].port;
        pb = pb ? pb : schemes[i].port;
        return pa == pb && str_eq(a, b);
    }
    return false;
}

static bool json_type(const char *type)
{
    static const char json[] = "application/json";
    if (!type || strncasecmp(type, json, sizeof(json) - 1) != 0)
        return false;
    const char *rest = type + sizeof(json) - 1;
    while (*rest == ' ' || *rest == '\t')
        rest++;
    return *rest == '\0' || *rest == ';';
}

int guard_browser(const struct heads *h, const struct config *config, bool write, struct err *err)
{
    if (!h->origin && !h->fetch_site)
        return 0;
    bool listed = false;
    for (uint32_t i = 0; h->origin && i < config->n_origins; i++)
        listed = listed || strcasecmp(h->origin, config->origins[i]) == 0;
    if (!listed) {
        bool site_ok =
            !h->fetch_site || str_eq(h->fetch_site, "same-origin") || str_eq(h->fetch_site, "none");
        bool origin_ok = !h->origin || (h->host && same_origin(h->origin, h->host));
        if (!site_ok || !origin_ok) {
            (void)err_set(err, ERR_FORBIDDEN, "web pages of another origin may not call this API");
            return err_remedy(err, "Add the page's origin to SANDBOXD_API_ORIGINS.");
        }
    }
    if (write && !json_type(h->content_type))
        return err_set(err, ERR_MEDIA_TYPE,
                       "a web page's request must have Content-Type application/json");
    return 0;
}

const char *guard_bearer(const struct heads *h)
{
    static const char scheme[] = "bearer";
    if (!h->authorization || strncasecmp(h->authorization, scheme, sizeof(scheme) - 1) != 0)
        return NULL;
    const char *rest = h->authorization + sizeof(scheme) - 1;
    if (*rest != ' ')
        return NULL;
    while (*rest == ' ')
        rest++;
    return *rest ? rest : NULL;
}

bool heads_body(const struct heads *h)
{
    return h->n_encoding > 0 || (h->n_length > 0 && h->length > 0);
}
