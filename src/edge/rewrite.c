/* What goes on to the other side, line by line.
 *
 * Names are compared without regard to case, and with '_' for '-': many frameworks cannot tell
 * X_Forwarded_For from X-Forwarded-For, so the twin of a name that is ours or about framing is
 * taken out as well. */
#include "rewrite.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/str.h"

#define NAME_MAX_BYTES 64 /* longer than any name in the tables */

enum names {
    HOP = 1 << 0,   /* about one hop; written anew where needed */
    OURS = 1 << 1,  /* only we say this to an app */
    FRAME = 1 << 2, /* says where the message goes or ends; Connection cannot take it out */
};

static const struct {
    const char *name; /* with a star: all that begin so */
    unsigned kind;
} table[] = {
    { "connection", HOP },
    { "keep-alive", HOP },
    { "proxy-connection", HOP },
    { "proxy-authorization", HOP },
    { "proxy", HOP },
    { "te", HOP },
    { "transfer-encoding", HOP | FRAME },
    { "upgrade", HOP },
    { "http2-settings", HOP },
    { "host", FRAME },
    { "content-length", FRAME },
    { "expect", FRAME },
    { "x-forwarded*", OURS },
    { "forwarded", OURS },
    { "x-real-ip", OURS },
    { "x-sandbox*", OURS },
};

static bool canonical(struct span name, char out[NAME_MAX_BYTES], bool *ret_twin)
{
    *ret_twin = false;
    if (name.len >= NAME_MAX_BYTES)
        return false;
    for (size_t i = 0; i < name.len; i++) {
        out[i] = (char)tolower((unsigned char)name.at[i]);
        if (out[i] == '_') {
            out[i] = '-';
            *ret_twin = true;
        }
    }
    out[name.len] = '\0';
    return true;
}

/* Flags of a name; 0: an ordinary one. */
static unsigned kind_of(struct span name, bool *ret_twin)
{
    char text[NAME_MAX_BYTES];
    if (!canonical(name, text, ret_twin))
        return 0;
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        const char *t = table[i].name;
        if (t[0] != text[0])
            continue;
        size_t n = strlen(t);
        if (t[n - 1] == '*' ? strncmp(text, t, n - 1) == 0 : str_eq(text, t))
            return table[i].kind;
    }
    return 0;
}

/* Is it to be left out because it is about the hop it came over? */
static bool hop_only(const struct head *h, struct span name, unsigned kind)
{
    char text[NAME_MAX_BYTES];
    if (kind & HOP)
        return true;
    if (kind & FRAME || name.len >= sizeof text)
        return false;
    memcpy(text, name.at, name.len);
    text[name.len] = '\0';
    return head_lists(h, "connection", text);
}

static bool add_span(struct buffer *out, struct span s)
{
    return buffer_add(out, s.at, s.len);
}

static bool add_line(struct buffer *out, struct span name, struct span value)
{
    return add_span(out, name) && buffer_add(out, ": ", 2) && add_span(out, value) &&
           buffer_add(out, "\r\n", 2);
}

static bool add_text(struct buffer *out, const char *name, const char *value)
{
    return buffer_adds(out, name) && buffer_add(out, ": ", 2) && buffer_adds(out, value) &&
           buffer_add(out, "\r\n", 2);
}

/* --- cookies --- */

static struct span strip(const char *at, const char *end)
{
    while (at < end && (*at == ' ' || *at == '\t'))
        at++;
    while (end > at && (end[-1] == ' ' || end[-1] == '\t'))
        end--;
    return (struct span){ at, (size_t)(end - at) };
}

static bool cookie_split(struct span pair, struct span *ret_name, struct span *ret_value)
{
    const char *end = pair.at + pair.len, *eq = memchr(pair.at, '=', pair.len);
    *ret_name = strip(pair.at, eq ? eq : end);
    *ret_value = eq ? strip(eq + 1, end) : (struct span){ end, 0 };
    return eq;
}

static bool cookie_ours(struct span name)
{
    return span_starts(name, COOKIE_PLAIN) || span_starts(name, COOKIE_HOST);
}

/* The next "name=value" of a list; NULL at the end. */
static const char *next_pair(const char *p, const char *end, struct span *ret)
{
    if (p >= end)
        return NULL;
    const char *semi = memchr(p, ';', (size_t)(end - p));
    *ret = strip(p, semi ? semi : end);
    return semi ? semi + 1 : end;
}

bool cookie_each(const struct head *h, bool (*fn)(void *ctx, struct span name, struct span value),
                 void *ctx)
{
    for (size_t i = 0; i < h->n; i++) {
        if (!span_is(h->lines[i].name, "cookie"))
            continue;
        const char *p = h->lines[i].value.at, *end = p + h->lines[i].value.len;
        struct span pair, name, value;
        while ((p = next_pair(p, end, &pair)))
            if (cookie_split(pair, &name, &value) && fn(ctx, name, value))
                return true;
    }
    return false;
}

/* The line without our cookies; nothing at all when no other is left. */
static bool add_cookies(struct buffer *out, struct span list)
{
    const char *p = list.at, *end = list.at + list.len;
    struct span pair, name, value;
    bool begun = false;
    while ((p = next_pair(p, end, &pair))) {
        (void)cookie_split(pair, &name, &value); /* without '=' it is a name alone */
        if (pair.len == 0 || cookie_ours(name))
            continue;
        if (!buffer_adds(out, begun ? "; " : "Cookie: ") || !add_span(out, pair))
            return false;
        begun = true;
    }
    return !begun || buffer_add(out, "\r\n", 2);
}

/* --- requests --- */

static bool add_request_line(struct buffer *out, const struct head *h, const struct visit *v,
                             const struct line *l)
{
    bool twin;
    unsigned kind = kind_of(l->name, &twin);
    if (kind & OURS || (twin && kind) || hop_only(h, l->name, kind))
        return true;
    if (span_is(l->name, "cookie"))
        return add_cookies(out, l->value);
    if (v->drop_authorization && span_is(l->name, "authorization"))
        return true;
    if (h->minor == 0 && span_is(l->name, "expect")) /* means nothing there */
        return true;
    return add_line(out, l->name, l->value);
}

bool rewrite_request(struct buffer *out, const struct head *h, const struct visit *v)
{
    bool more, ok, chunked = head_line(h, "transfer-encoding", &more);
    const struct line *host = head_line(h, "host", &more);
    char port[8];
    (void)snprintf(port, sizeof port, "%u", v->port & 0xffff);
    ok = add_span(out, h->method) && buffer_add(out, " ", 1) && add_span(out, h->target) &&
         buffer_adds(out, " HTTP/1.1\r\n");
    for (size_t i = 0; ok && i < h->n; i++)
        ok = add_request_line(out, h, v, &h->lines[i]);
    if (ok && !host)
        ok = add_text(out, "Host", v->host);
    if (ok && host)
        ok = add_line(out, (struct span){ "X-Forwarded-Host", 16 }, host->value);
    if (ok && chunked)
        ok = add_text(out, "Transfer-Encoding", "chunked");
    if (ok && head_lists(h, "te", "trailers"))
        ok = add_text(out, "TE", "trailers");
    if (ok && v->upgrade.len > 0)
        ok = add_line(out, (struct span){ "Upgrade", 7 }, v->upgrade) &&
             add_text(out, "Connection", "Upgrade");
    return ok && add_text(out, "X-Forwarded-For", v->address) &&
           add_text(out, "X-Real-IP", v->address) && add_text(out, "X-Forwarded-Proto", v->proto) &&
           add_text(out, "X-Forwarded-Port", port) && buffer_add(out, "\r\n", 2);
}

/* --- responses --- */

static bool response_keeps(const struct head *h, const struct line *l, bool length)
{
    bool twin;
    unsigned kind = kind_of(l->name, &twin);
    if (span_is(l->name, "content-length"))
        return length;
    if (span_is(l->name, "set-cookie")) {
        struct span name, value;
        (void)cookie_split(l->value, &name, &value);
        return !cookie_ours(name);
    }
    return !hop_only(h, l->name, kind);
}

bool rewrite_response(struct buffer *out, const struct head *h, const char *connection,
                      bool chunked, bool length)
{
    char status[32];
    bool more;
    (void)snprintf(status, sizeof status, "HTTP/1.1 %d ", h->status);
    bool ok = buffer_adds(out, status) && add_span(out, h->reason) && buffer_add(out, "\r\n", 2);
    for (size_t i = 0; ok && i < h->n; i++)
        if (response_keeps(h, &h->lines[i], length))
            ok = add_line(out, h->lines[i].name, h->lines[i].value);
    if (ok && chunked)
        ok = add_text(out, "Transfer-Encoding", "chunked");
    const struct line *upgrade = head_line(h, "upgrade", &more);
    if (ok && h->status == 101 && upgrade)
        ok = add_line(out, upgrade->name, upgrade->value);
    if (ok && connection)
        ok = add_text(out, "Connection", connection);
    return ok && buffer_add(out, "\r\n", 2);
}

/* --- trailers --- */

void rewrite_trailers(struct buffer *out, const struct head *h)
{
    static const char *const never[] = { "trailer",      "authorization", "cookie",
                                         "set-cookie",   "content-type",  "content-encoding",
                                         "content-range" };
    for (size_t i = 0; i < h->n; i++) {
        bool twin, bad = kind_of(h->lines[i].name, &twin) != 0;
        for (size_t j = 0; j < sizeof never / sizeof never[0]; j++)
            bad = bad || span_is(h->lines[i].name, never[j]);
        if (!bad) /* fits: body.c has looked */
            (void)add_line(out, h->lines[i].name, h->lines[i].value);
    }
}
