/* Whether the daemon lives, whether it can serve, and what it counts. */
#include "base/limits.h"
#include "handlers.h"
#include "openapi.h"
#include "server.h"

static const char text_type[] = "text/plain; charset=utf-8";

static void reply_text(struct req *r, const char *text)
{
    struct buf b = BUF_INIT(1 * KIB);
    buf_adds(&b, text);
    req_reply(r, 200, text_type, &b);
}

void system_health(struct req *r)
{
    reply_text(r, "ok\n");
}

void system_ready(struct req *r)
{
    struct err err;
    if (core_ready(req_core(r), &err) < 0)
        req_fail_as(r, 503, &err);
    else
        reply_text(r, "ready\n");
}

void system_metrics(struct req *r)
{
    struct buf b = BUF_INIT(1 * MIB);
    metrics_render(req_api(r), &b);
    req_reply(r, 200, "text/plain; version=0.0.4; charset=utf-8", &b);
}

void system_openapi(struct req *r)
{
    struct buf b = BUF_INIT(1 * MIB);
    openapi_render(&b);
    req_reply(r, 200, "application/yaml", &b);
}
