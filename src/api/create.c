/* Create with its idempotency key. The reply is stored before it is sent: a client that never got
 * it asks again with the key and gets the same bytes. */
#include "create.h"

#include "base/cleanup.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/str.h"
#include "shapes.h"

static int take_key(struct req *r, struct core_create *c, struct err *err)
{
    const char *key = req_heads(r)->idempotency_key;
    if (!key)
        return 0;
    size_t len = strlen(key);
    bool ok = len >= 1 && len <= IDEMPOTENCY_KEY_MAX;
    for (size_t i = 0; ok && i < len; i++)
        ok = key[i] > 0x20 && key[i] < 0x7f;
    if (!ok)
        return err_set(err, ERR_INVALID,
                       "Idempotency-Key: must be 1 to %d printable characters without spaces",
                       IDEMPOTENCY_KEY_MAX);
    c->idem_key = key;
    req_hash(r, c->idem_hash);
    return 0;
}

static void replay(struct req *r, int status, char *stored)
{
    struct buf b = BUF_INIT(HTTP_BODY_JSON_MAX);
    buf_adds(&b, stored);
    free(stored);
    req_header(r, "Idempotent-Replayed", "true");
    req_reply_json(r, status, &b);
}

void create_run(struct req *r, bool v1,
                void (*render)(struct json_out *o, struct req *r, const struct sandbox *s))
{
    struct err err;
    struct core_create c = { 0 };
    const struct sandbox *s = NULL;
    char *stored = NULL;
    int status = 201;
    if (create_check(req_object(r), v1, &c, &err) < 0 || take_key(r, &c, &err) < 0 ||
        core_create(req_core(r), req_caller(r), &c, &s, &stored, &status, &err) < 0) {
        req_fail(r, &err);
        return;
    }
    if (stored) {
        replay(r, status, stored);
        return;
    }
    struct buf b = BUF_INIT(HTTP_BODY_JSON_MAX);
    struct json_out o = JSON_OUT(&b);
    render(&o, r, s);
    core_unref(s);
    /* The sandbox is there: an answer that could not be kept is still the right answer. */
    if (c.idem_key &&
        core_create_replied(req_core(r), req_caller(r), c.idem_key, status, buf_str(&b), &err) < 0)
        log_warn("idempotency.not_kept", KV_ERR(&err));
    req_reply_json(r, status, &b);
}
