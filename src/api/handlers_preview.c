/* For people who put a proxy of their own in front of previews: /preview-auth turns a signed token
 * into a cookie, /forward-auth tells the proxy whether a request may pass. Our own edge needs
 * neither.
 *
 * Both trust the token and nothing else: forwarded headers only say which preview is meant. */
#include <inttypes.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/limits.h"
#include "base/str.h"
#include "core/previewtoken.h"
#include "handlers.h"

#define COOKIE "sandbox_preview"
#define PAGE_MAX (32 * KIB)

/* "s-<id>-<port>.preview.<domain>", any case, with or without a port. */
static bool preview_host(const struct config *config, const char *text, struct sandbox_id *ret)
{
    char name[HOST_NAME_MAX_BYTES + 1], id[ID_LEN + 1];
    uint16_t port;
    uint64_t preview_port;
    struct err ignored;
    if (!text || host_parse(text, name, &port, &ignored) < 0 || !str_starts(name, "s-"))
        return false;
    char *dot = strchr(name, '.');
    if (!dot || strlen(name) < 2 + ID_LEN + 2 || name[2 + ID_LEN] != '-' ||
        !str_starts(dot, ".preview.") || !str_eq(dot + strlen(".preview."), config->preview_domain))
        return false;
    *dot = 0;
    memcpy(id, name + 2, ID_LEN);
    id[ID_LEN] = 0;
    return str_u64(name + 2 + ID_LEN + 1, &preview_port) && preview_port > 0 &&
           preview_port < 65536 && sandbox_id_parse(id, ret, &ignored) == 0;
}

/* The configured address with its two fields filled in. */
static bool auth_url(const struct config *config, const char *id, const char *back, struct buf *out)
{
    const char *at = config->auth_redirect_url;
    if (!*at)
        return false;
    while (*at) {
        if (str_starts(at, "{sandbox_id}")) {
            url_encode(out, id);
            at += strlen("{sandbox_id}");
        } else if (str_starts(at, "{return}")) {
            url_encode(out, back);
            at += strlen("{return}");
        } else {
            buf_addc(out, *at++);
        }
    }
    return !out->failed;
}

static void reply_text(struct req *r, int status, const char *type, const char *text)
{
    struct buf b = BUF_INIT(PAGE_MAX);
    buf_adds(&b, text);
    req_reply(r, status, type, &b);
}

/* To where tokens are had, or 401 where nobody said. */
static void send_away(struct req *r, const char *id, const char *back, bool meta)
{
    AUTO(buf) struct buf url = BUF_INIT(PAGE_MAX);
    req_header(r, "Cache-Control", "no-store");
    if (!auth_url(req_config(r), id, back, &url)) {
        reply_text(r, 401, "text/plain; charset=utf-8", "");
        return;
    }
    req_header(r, "Location", buf_str(&url));
    if (!meta) {
        req_reply_empty(r, 302);
        return;
    }
    struct buf page = BUF_INIT(PAGE_MAX);
    buf_adds(&page, "<!doctype html><meta charset=utf-8><meta http-equiv=refresh content=\"0;url=");
    for (const char *c = buf_str(&url); *c;
         c++) /* percent-encoded already; quotes of the setting's own */
        buf_adds(&page, *c == '"' ? "%22" : *c == '&' ? "&amp;" : (char[]){ *c, 0 });
    buf_adds(&page, "\"><title>Sign in</title>");
    req_reply(r, 401, "text/html; charset=utf-8", &page);
}

/* https://s-<id>-<n>.preview.<domain>[/…] of that sandbox: nothing else is led to. */
static bool good_return(const struct config *config, const char *back, const struct sandbox_id *id)
{
    char host[HOST_NAME_MAX_BYTES + 8];
    struct sandbox_id seen;
    const char *from = str_starts(back, "https://")  ? back + 8
                       : str_starts(back, "http://") ? back + 7
                                                     : NULL;
    if (!from)
        return false;
    size_t len = strcspn(from, "/?#\\@");
    if (len >= sizeof host || from[len] == '@' || from[len] == '\\')
        return false;
    memcpy(host, from, len);
    host[len] = 0;
    for (const char *c = from; *c; c++)
        if ((unsigned char)*c <= 0x20 || (unsigned char)*c >= 0x7f)
            return false;
    return preview_host(config, host, &seen) && sandbox_id_eq(&seen, id);
}

void preview_auth(struct req *r)
{
    struct err err;
    struct previewtoken t;
    const char *token = req_query(r, "token"), *back = req_query(r, "return");
    if (!token || previewtoken_verify(req_core(r), token, &t, &err) < 0) {
        send_away(r, "", back ? back : "", false);
        return;
    }
    if (!back || !good_return(req_config(r), back, &t.sandbox)) {
        (void)err_set(&err, ERR_INVALID, "return: must be the address of this sandbox's preview");
        req_fail(r, &err);
        return;
    }
    int64_t left = t.expires_s - clock_wall_ms() / 1000;
    AUTO(buf) struct buf cookie = BUF_INIT(PREVIEWTOKEN_MAX + 512);
    buf_addf(&cookie,
             COOKIE "=%s; Path=/; Domain=preview.%s; Max-Age=%" PRId64
                    "; HttpOnly; Secure; SameSite=Lax",
             token, req_config(r)->preview_domain, left < 1 ? 1 : left);
    req_header(r, "Set-Cookie", buf_str(&cookie));
    req_header(r, "Location", back);
    req_header(r, "Referrer-Policy", "no-referrer");
    req_header(r, "Cache-Control", "no-store");
    req_reply_empty(r, 302);
}

/* The value of our cookie in a Cookie header. */
static bool cookie_value(const char *cookies, char out[PREVIEWTOKEN_MAX])
{
    while (cookies && *cookies) {
        cookies += strspn(cookies, " ;");
        size_t len = strcspn(cookies, ";");
        if (str_starts(cookies, COOKIE "=") && len - strlen(COOKIE "=") < PREVIEWTOKEN_MAX) {
            memcpy(out, cookies + strlen(COOKIE "="), len - strlen(COOKIE "="));
            out[len - strlen(COOKIE "=")] = 0;
            return true;
        }
        cookies += len;
    }
    return false;
}

static bool may_pass(struct req *r, const struct sandbox *s, struct previewtoken *ret)
{
    char token[PREVIEWTOKEN_MAX];
    struct err err;
    return cookie_value(req_heads(r)->cookie, token) &&
           previewtoken_verify(req_core(r), token, ret, &err) == 0 &&
           previewtoken_allows(ret, s, &err) == 0;
}

void forward_auth(struct req *r)
{
    struct err err;
    struct sandbox_id id;
    const struct sandbox *s;
    struct previewtoken t;
    const char *host = req_heads(r)->forwarded_host, *uri = req_heads(r)->forwarded_uri;
    req_header(r, "Cache-Control", "no-store");
    if (!preview_host(req_config(r), host, &id)) {
        reply_text(r, 401, "text/plain; charset=utf-8", "");
        return;
    }
    if (core_find(req_core(r), &id, &s, &err) < 0) {
        reply_text(r, 404, "text/html; charset=utf-8",
                   "<!doctype html><title>No such preview</title>");
        return;
    }
    if (s->visibility == VISIBILITY_PUBLIC) {
        reply_text(r, 200, "text/plain; charset=utf-8", "");
    } else if (may_pass(r, s, &t)) {
        req_header(r, "X-Sandbox-External-User-Id", t.subject);
        reply_text(r, 200, "text/plain; charset=utf-8", "");
    } else {
        AUTO(buf) struct buf back = BUF_INIT(PAGE_MAX);
        buf_addf(&back, "https://%s%s", host, uri && uri[0] == '/' ? uri : "/");
        send_away(r, id.text, buf_str(&back), req_config(r)->forward_auth_meta);
    }
    core_unref(s);
}
