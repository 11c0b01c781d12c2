/* Visibility and share links. A link's code is in the reply that made it and nowhere else. */
#include "base/limits.h"
#include "base/str.h"
#include "core/share.h"
#include "handlers.h"
#include "render.h"
#include "shapes.h"

#define LIST_MAX (64 * KIB) /* SHARES_PER_SANDBOX_MAX of them */
#define TTL_DEFAULT_S (24 * 3600)
#define PORT_DEFAULT 3000

void v1_patch(struct req *r)
{
    struct err err;
    const struct patch_body *b = req_object(r);
    const struct sandbox *s = NULL;
    if (!b->visibility_seen) {
        v1_get(r);
        return;
    }
    if (core_set_visibility(req_core(r), req_caller(r), req_id(r),
                            (enum sandbox_visibility)b->visibility, &s, &err) < 0) {
        req_fail(r, &err);
        return;
    }
    core_unref(s);
    v1_get(r);
}

/* url NULL: not shown any more. */
static void put_share(struct json_out *o, const struct core_share *s, const char *url)
{
    json_open(o, NULL);
    json_put(o, "id", s->id.text);
    if (url)
        json_put(o, "url", url);
    json_put_bool(o, "once", s->once);
    json_put_bool(o, "used", s->used);
    json_put_time(o, "created_at", s->created_at_ms);
    json_put_time(o, "expires_at", s->expires_at_ms);
    json_close(o);
}

void share_create(struct req *r)
{
    struct err err;
    const struct share_body *b = req_object(r);
    const struct sandbox *s = NULL;
    struct core_share share;
    char code[SHARE_CODE_MAX], url[PREVIEW_URL_MAX + SHARE_CODE_MAX + 32];
    if (core_get(req_core(r), req_caller(r), req_id(r), &s, &err) < 0) {
        req_fail(r, &err);
        return;
    }
    uint16_t port = (uint16_t)b->port;
    if (port == 0)
        port = s->ports.count > 0 ? s->ports.items[0] : PORT_DEFAULT;
    render_preview_url(s, req_config(r), port, url);
    core_unref(s);
    if (core_share_create(req_core(r), req_caller(r), req_id(r),
                          b->ttl_seen ? b->ttl_s : TTL_DEFAULT_S, b->once, &share, code,
                          &err) < 0) {
        req_fail(r, &err);
        return;
    }
    size_t used = strlen(url);
    (void)snprintf(url + used, sizeof(url) - used, "/?sandboxed_code=%s", code);
    struct buf out = BUF_INIT(LIST_MAX);
    struct json_out o = JSON_OUT(&out);
    put_share(&o, &share, url);
    req_reply_json(r, 201, &out);
}

void share_list(struct req *r)
{
    struct err err;
    struct core_share *list = NULL;
    size_t count = 0;
    if (core_share_list(req_core(r), req_caller(r), req_id(r), &list, &count, &err) < 0) {
        req_fail(r, &err);
        return;
    }
    struct buf out = BUF_INIT(LIST_MAX);
    struct json_out o = JSON_OUT(&out);
    json_open(&o, NULL);
    json_list(&o, "shares");
    for (size_t i = 0; i < count; i++)
        put_share(&o, &list[i], NULL);
    json_unlist(&o);
    json_close(&o);
    free(list);
    req_reply_json(r, 200, &out);
}

void share_revoke(struct req *r)
{
    struct err err;
    struct sandbox_id share;
    if (sandbox_id_parse(req_sub(r), &share, &err) < 0) {
        (void)err_set(&err, ERR_NOT_FOUND, "no such share");
        req_fail(r, &err);
    } else if (core_share_revoke(req_core(r), req_caller(r), req_id(r), &share, &err) < 0) {
        req_fail(r, &err);
    } else {
        req_reply_empty(r, 204);
    }
}
