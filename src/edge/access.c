/* Private previews: who may pass, and what of the request shows it and must not reach the app.
 *
 * An API client shows its tenant's token; a browser opens a share link once and then shows the
 * cookie it got, which is of that host alone. Tokens of ours are taken out of every request, on
 * public previews too: an app has no use for them (T-58). On any doubt the answer is no. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/str.h"
#include "inside.h"

#define TOKEN_MAX 512

static bool copy(struct span s, char *out, size_t size)
{
    if (s.len == 0 || s.len >= size)
        return false;
    memcpy(out, s.at, s.len);
    out[s.len] = '\0';
    return true;
}

/* Is it a token of some tenant of ours? *ret_owner: of the sandbox's. */
static bool is_token(struct client *c, const char *text, const struct sandbox *row, bool *ret_owner)
{
    const char *tenant;
    struct err err;
    if (core_authenticate(c->e->core, text, &tenant, &err) < 0)
        return false;
    *ret_owner = *ret_owner || str_eq(tenant, row->tenant);
    return true;
}

static bool bearer(const struct head *h, char out[TOKEN_MAX])
{
    bool more;
    const struct line *l = head_line(h, "authorization", &more);
    static const char scheme[] = "Bearer ";
    size_t n = sizeof scheme - 1;
    return l && !more && span_starts(l->value, scheme) &&
           copy((struct span){ l->value.at + n, l->value.len - n }, out, TOKEN_MAX);
}

static void cookie_name(const struct client *c, char out[64])
{
    char id[ID_LEN + 1];
    sandbox_id_lower(&c->route.id, id);
    (void)snprintf(out, 64, "%s%s", c->tls ? COOKIE_HOST : COOKIE_PLAIN, id);
}

struct cookie_look {
    struct client *c;
    const struct sandbox *row;
    char name[64];
};

/* Several of one name: a sibling may have set its own beside ours; any good one will do. */
static bool good_cookie(void *ctx, struct span name, struct span value)
{
    const struct cookie_look *look = ctx;
    char text[SHARE_CODE_MAX];
    return name.len == strlen(look->name) && memcmp(name.at, look->name, name.len) == 0 &&
           copy(value, text, sizeof text) &&
           core_share_cookie(look->c->e->core, look->row, look->c->route.port, text,
                             &look->c->share);
}

/* A cookie comes along with whatever a page of a sibling preview sends, too: where it could change
 * something or opens a stream, the page must be of this host (T-64). */
static bool same_origin(const struct client *c, const struct head *h)
{
    bool more, safe = span_is(h->method, "GET") || span_is(h->method, "HEAD") ||
                      span_is(h->method, "OPTIONS");
    const struct line *origin = head_line(h, "origin", &more);
    const struct line *host = head_line(h, "host", &more);
    if (!origin || (safe && !c->upgrade))
        return true;
    if (!host)
        return false;
    struct span o = origin->value;
    size_t scheme = span_starts(o, "https://") ? 8 : span_starts(o, "http://") ? 7 : 0;
    char name[256];
    return scheme && copy(host->value, name, sizeof name) &&
           span_is((struct span){ o.at + scheme, o.len - scheme }, name);
}

static void deny(struct client *c, const char *text)
{
    answer(c, &(struct answer){ .status = 401,
                                .code = "private",
                                .title = "This preview is private",
                                .text = text });
}

/* The link leads here: exchange it, and take it out of the address bar. */
static bool take_code(struct client *c, const struct sandbox *row, const struct head *h,
                      const char *code)
{
    char path[EDGE_TARGET_MAX];
    if (!route_without_code(h->target, path, sizeof path)) {
        deny(c, "The link is malformed.");
        return false;
    }
    if (row->visibility == VISIBILITY_PUBLIC) {
        answer(c, &(struct answer){ .status = 303, .title = "See there", .location = path });
        return false;
    }
    if (!core_share_check(c->e->core, row, code, &c->share)) {
        deny(c, "The link is not valid (any more): ask its owner for a new one.");
        return false;
    }
    (void)str_copy(c->code, sizeof c->code, code);
    free(c->location);
    c->location = str_dup(path);
    return true;
}

bool access_check(struct client *c, const struct sandbox *row, const struct head *h,
                  struct visit *v)
{
    char token[TOKEN_MAX], code[ROUTE_CODE_MAX];
    bool more, owner = false, shared = false;
    if (bearer(h, token))
        v->drop_authorization = is_token(c, token, row, &owner);
    const struct line *own = head_line(h, "x-sandboxed-token", &more);
    if (own && !more && copy(own->value, token, sizeof token) && !is_token(c, token, row, &owner))
        shared = core_share_check(c->e->core, row, token, &c->share);
    mem_erase(token, sizeof token);
    c->right = owner ? RIGHT_OWNER : shared ? RIGHT_SHARE : RIGHT_PUBLIC;
    bool get = span_is(h->method, "GET") || span_is(h->method, "HEAD");
    if (get && !c->upgrade && route_code(h->target, code))
        return take_code(c, row, h, code);
    if (row->visibility == VISIBILITY_PUBLIC || owner || shared)
        return true;
    struct cookie_look look = { .c = c, .row = row };
    cookie_name(c, look.name);
    if (!cookie_each(h, good_cookie, &look)) {
        deny(c, "Ask its owner for a share link; a link opens it for some time. "
                "Programs may send a token of its owner.");
        return false;
    }
    if (!same_origin(c, h)) {
        answer(c, &(struct answer){ .status = 403,
                                    .code = "forbidden",
                                    .title = "A page of another site asked for this",
                                    .close = true });
        return false;
    }
    c->right = RIGHT_SHARE;
    return true;
}

bool access_still(struct client *c, const struct sandbox *row)
{
    if (row->visibility == VISIBILITY_PUBLIC || c->right == RIGHT_OWNER)
        return true;
    return c->right == RIGHT_SHARE && core_share_live(c->e->core, &c->share);
}

void access_redeemed(struct client *c, const char *cookie, int64_t until_ms)
{
    char name[64], line[SHARE_CODE_MAX + 160], path[EDGE_TARGET_MAX];
    int64_t left_s = (until_ms - clock_wall_ms()) / 1000;
    if (!cookie) {
        deny(c, "The link was used before, or is not valid any more: ask its owner for a new one.");
        return;
    }
    cookie_name(c, name);
    (void)snprintf(line, sizeof line, "%s=%s; Path=/; Max-Age=%lld; HttpOnly;%s SameSite=Lax", name,
                   cookie, (long long)(left_s > 0 ? left_s : 1), c->tls ? " Secure;" : "");
    (void)str_copy(path, sizeof path, c->location);
    answer(c, &(struct answer){
                  .status = 303, .title = "See there", .location = path, .cookie = line });
}
