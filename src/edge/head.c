/* Strict reading of heads (RFC 9112 without its leniences): CRLF only, single spaces in the start
 * line, no space before a colon, no folded lines, no control bytes, one body length at most. */
#include "head.h"

#include <string.h>
#include <strings.h>

#include "base/str.h"

/* Bytes of a token (RFC 9110 5.6.2). */
static bool is_token(unsigned char c)
{
    static const char others[] = "!#$%&'*+-.^_`|~";
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           (c && strchr(others, c));
}

static bool is_value(unsigned char c)
{
    return c == '\t' || (c >= ' ' && c != 0x7f);
}

ssize_t head_size(const char *data, size_t len, size_t max)
{
    const char *p = data, *end = data + (len < max ? len : max);
    while (p < end) {
        const char *lf = memchr(p, '\n', (size_t)(end - p));
        if (!lf)
            break;
        if (lf == data || lf[-1] != '\r') /* a bare LF ends lines for some and not for others */
            return -1;
        if (lf == p + 1) /* an empty line */
            return lf + 1 - data;
        p = lf + 1;
    }
    return len >= max ? -1 : 0;
}

bool span_is(struct span s, const char *text)
{
    return s.len == strlen(text) && strncasecmp(s.at, text, s.len) == 0;
}

bool span_starts(struct span s, const char *prefix)
{
    size_t n = strlen(prefix);
    return s.len >= n && strncasecmp(s.at, prefix, n) == 0;
}

static struct span trim(const char *at, size_t len)
{
    while (len > 0 && (*at == ' ' || *at == '\t')) {
        at++;
        len--;
    }
    while (len > 0 && (at[len - 1] == ' ' || at[len - 1] == '\t'))
        len--;
    return (struct span){ at, len };
}

bool span_has(struct span s, const char *text)
{
    const char *p = s.at, *end = s.at + s.len;
    while (p < end) {
        const char *comma = memchr(p, ',', (size_t)(end - p));
        const char *stop = comma ? comma : end;
        if (span_is(trim(p, (size_t)(stop - p)), text))
            return true;
        p = stop + 1;
    }
    return false;
}

const struct line *head_line(const struct head *h, const char *name, bool *ret_more)
{
    const struct line *found = NULL;
    *ret_more = false;
    for (size_t i = 0; i < h->n; i++) {
        if (!span_is(h->lines[i].name, name))
            continue;
        if (found)
            *ret_more = true;
        else
            found = &h->lines[i];
    }
    return found;
}

bool head_lists(const struct head *h, const char *name, const char *token)
{
    for (size_t i = 0; i < h->n; i++)
        if (span_is(h->lines[i].name, name) && span_has(h->lines[i].value, token))
            return true;
    return false;
}

/* Lines from p up to and with the blank one. */
static int read_lines(const char *p, const char *end, struct head *ret)
{
    ret->n = 0;
    for (;;) {
        const char *cr = memchr(p, '\r', (size_t)(end - p));
        if (!cr || cr + 1 >= end || cr[1] != '\n')
            return -1;
        if (cr == p)
            return cr + 2 == end ? 0 : -1;
        const char *colon = p;
        while (colon < cr && is_token((unsigned char)*colon))
            colon++;
        if (colon == p || colon == cr || *colon != ':' || ret->n == EDGE_LINES_MAX)
            return -1; /* a folded line begins with a space, which is no token either */
        for (const char *v = colon + 1; v < cr; v++)
            if (!is_value((unsigned char)*v))
                return -1;
        ret->lines[ret->n++] =
            (struct line){ { p, (size_t)(colon - p) }, trim(colon + 1, (size_t)(cr - colon - 1)) };
        p = cr + 2;
    }
}

static int read_version(struct span v, int *ret_minor)
{
    if (v.len != 8 || memcmp(v.at, "HTTP/1.", 7) != 0 || (v.at[7] != '0' && v.at[7] != '1'))
        return -1;
    *ret_minor = v.at[7] - '0';
    return 0;
}

/* Origin form, or the asterisk of OPTIONS. The absolute form would name a second host. */
static bool target_ok(const struct head *h)
{
    if (span_is(h->target, "*"))
        return span_is(h->method, "OPTIONS");
    if (h->target.len == 0 || h->target.at[0] != '/')
        return false;
    for (size_t i = 0; i < h->target.len; i++) {
        unsigned char c = (unsigned char)h->target.at[i];
        if (c <= ' ' || c >= 0x7f || c == '#')
            return false;
    }
    return true;
}

int head_request(const char *data, size_t len, struct head *ret)
{
    const char *end = memchr(data, '\r', len);
    if (!end || (size_t)(end - data) + 2 > len || end[1] != '\n')
        return 400;
    const char *p = data;
    while (p < end && is_token((unsigned char)*p))
        p++;
    ret->method = (struct span){ data, (size_t)(p - data) };
    if (p == data || p == end || *p != ' ')
        return 400;
    const char *target = ++p;
    p = memchr(p, ' ', (size_t)(end - p));
    if (!p)
        return 400;
    ret->target = (struct span){ target, (size_t)(p - target) };
    struct span version = { p + 1, (size_t)(end - p - 1) };
    if (read_version(version, &ret->minor) < 0) { /* another one, or nothing at all? */
        bool http = version.len == 8 && memcmp(version.at, "HTTP/", 5) == 0 &&
                    version.at[6] == '.' && version.at[5] >= '0' && version.at[5] <= '9';
        return http ? 505 : 400;
    }
    if (ret->target.len > EDGE_TARGET_MAX)
        return 414;
    if (!target_ok(ret))
        return 400;
    return read_lines(end + 2, data + len, ret) < 0 ? 400 : 0;
}

int head_response(const char *data, size_t len, struct head *ret)
{
    const char *end = memchr(data, '\r', len);
    if (!end || end - data < 12 || end[1] != '\n' ||
        read_version((struct span){ data, 8 }, &ret->minor) < 0 || data[8] != ' ')
        return -1;
    ret->status = 0;
    for (const char *p = data + 9; p < data + 12; p++) {
        if (*p < '0' || *p > '9')
            return -1;
        ret->status = ret->status * 10 + (*p - '0');
    }
    if (ret->status < 100 || (end > data + 12 && data[12] != ' '))
        return -1;
    ret->reason = end > data + 13 ? (struct span){ data + 13, (size_t)(end - data - 13) }
                                  : (struct span){ data, 0 };
    for (size_t i = 0; i < ret->reason.len; i++)
        if (!is_value((unsigned char)ret->reason.at[i]))
            return -1;
    return read_lines(end + 2, data + len, ret);
}

int head_trailers(const char *data, size_t len, struct head *ret)
{
    return read_lines(data, data + len, ret);
}

static int read_length(struct span v, uint64_t *ret)
{
    uint64_t n = 0;
    if (v.len == 0 || v.len > 18) /* 10^18 bytes: no overflow, and nobody means it */
        return -1;
    for (size_t i = 0; i < v.len; i++) {
        if (v.at[i] < '0' || v.at[i] > '9')
            return -1;
        n = n * 10 + (uint64_t)(v.at[i] - '0');
    }
    *ret = n;
    return 0;
}

int head_framing(const struct head *h, struct framing *ret)
{
    bool more_length, more_coding;
    const struct line *length = head_line(h, "content-length", &more_length);
    const struct line *coding = head_line(h, "transfer-encoding", &more_coding);
    *ret = (struct framing){ .chunked = coding, .has_length = length };
    if (more_length || more_coding || (length && coding) ||
        (coding && (h->minor == 0 || !span_is(coding->value, "chunked"))))
        return -1;
    return length ? read_length(length->value, &ret->length) : 0;
}
