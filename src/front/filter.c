/* The allow-list. It is so short that a general HTTP parser would only add ways to be understood
 * differently: a head is taken apart by the exact letters it must have, and whatever differs is
 * refused. Nothing here allocates. */
#include "filter.h"

#include <string.h>
#include <strings.h>

#include "base/limits.h"
#include "base/str.h"
#include "model/id.h"

/* A piece of the head, not terminated. */
struct span {
    const char *at;
    size_t len;
};

static bool is(struct span s, const char *text)
{
    return s.len == strlen(text) && memcmp(s.at, text, s.len) == 0;
}

/* Takes prefix off the front. */
static bool eat(struct span *s, const char *prefix)
{
    size_t n = strlen(prefix);
    if (s->len < n || memcmp(s->at, prefix, n) != 0)
        return false;
    s->at += n;
    s->len -= n;
    return true;
}

static bool eat_end(struct span *s, const char *suffix)
{
    size_t n = strlen(suffix);
    if (s->len < n || memcmp(s->at + s->len - n, suffix, n) != 0)
        return false;
    s->len -= n;
    return true;
}

/* Takes 1 to 3 digits off the front. */
static bool eat_number(struct span *s)
{
    size_t n = 0;
    while (n < s->len && n < 4 && s->at[n] >= '0' && s->at[n] <= '9')
        n++;
    s->at += n;
    s->len -= n;
    return n >= 1 && n <= 3;
}

/* The next line without its CRLF; false when there is none, or it holds a control character. */
static bool eat_line(struct span *text, struct span *ret)
{
    const char *end = memmem(text->at, text->len, "\r\n", 2);
    if (!end)
        return false;
    *ret = (struct span){ text->at, (size_t)(end - text->at) };
    for (size_t i = 0; i < ret->len; i++)
        if ((unsigned char)ret->at[i] < ' ' && ret->at[i] != '\t')
            return false;
    text->len -= ret->len + 2;
    text->at = end + 2;
    return true;
}

static bool only(struct span s, const char *letters)
{
    for (size_t i = 0; i < s.len; i++)
        if (!s.at[i] || !strchr(letters, s.at[i]))
            return false;
    return true;
}

/* --- the request line --- */

static bool ref_ok(struct span s)
{
    if (s.len == 64)
        return only(s, "0123456789abcdef");
    return s.len == 2 + ID_LEN && eat(&s, "s-") && only(s, "0123456789abcdefghjkmnpqrstvwxyz");
}

static enum front_what versioned(struct span path, struct front_request *ret)
{
    if (is(path, "/version"))
        return FRONT_VERSION;
    if (is(path, "/containers/json"))
        return FRONT_LIST;
    if (is(path, "/events"))
        return FRONT_EVENTS;
    if (!eat(&path, "/containers/") || !eat_end(&path, "/json") || !ref_ok(path))
        return FRONT_REFUSED;
    memcpy(ret->ref, path.at, path.len); /* at most 64, and *ret is zeroed */
    return FRONT_INSPECT;
}

static enum front_what target(struct span t, struct front_request *ret)
{
    /* The query (filters, since) asks for a part of what we would say anyway. */
    const char *query = memchr(t.at, '?', t.len);
    struct span path = { t.at, query ? (size_t)(query - t.at) : t.len };
    for (size_t i = 0; i < t.len; i++)
        if (t.at[i] <= ' ' || t.at[i] > '~')
            return FRONT_REFUSED;
    if (is(path, "/_ping"))
        return FRONT_PING;
    if (is(path, "/version"))
        return FRONT_VERSION;
    if (!eat(&path, "/v") || !eat_number(&path) || !eat(&path, ".") || !eat_number(&path))
        return FRONT_REFUSED;
    return versioned(path, ret);
}

/* --- the header lines --- */

#define TOKEN "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"

static bool named(struct span name, const char *text)
{
    return name.len == strlen(text) && strncasecmp(name.at, text, name.len) == 0;
}

static bool header_ok(struct span line, struct front_request *ret)
{
    static const char *const refused[] = { "content-length", "transfer-encoding", "upgrade",
                                           "expect", "trailer" };
    const char *colon = memchr(line.at, ':', line.len);
    if (!colon || colon == line.at)
        return false;
    struct span name = { line.at, (size_t)(colon - line.at) };
    if (!only(name, TOKEN))
        return false;
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++)
        if (named(name, refused[i]))
            return false;
    if (named(name, "connection")) {
        struct span value = { colon + 1, line.len - name.len - 1 };
        while (value.len > 0 && (*value.at == ' ' || *value.at == '\t'))
            (void)(value.at++, value.len--);
        ret->close = named(value, "close");
        return ret->close || named(value, "keep-alive");
    }
    return true;
}

void front_filter(const char *text, size_t len, struct front_request *ret)
{
    struct span rest = { text, len }, line;
    struct front_request seen = { .what = FRONT_REFUSED };
    seen.probe = eat(&(struct span){ text, len }, "HEAD /_ping ");
    *ret = seen;
    seen.probe = false;
    if (len > FRONT_HEAD_MAX || !eat_line(&rest, &line) || !eat(&line, "GET ") ||
        !eat_end(&line, " HTTP/1.1"))
        return;
    enum front_what what = target(line, &seen);
    for (unsigned lines = 0; lines <= FRONT_LINES_MAX; lines++) {
        if (!eat_line(&rest, &line))
            return;
        if (line.len == 0) {
            seen.what = what;
            if (rest.len == 0 && what != FRONT_REFUSED)
                *ret = seen;
            return;
        }
        if (!header_ok(line, &seen))
            return;
    }
}
