/* A verifier with one algorithm: a token that names another is refused before anything of it is
 * believed. The signature is checked over the text as it came; only then are the claims looked at.
 */
#include "core/previewtoken.h"

#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/digest.h"
#include "base/limits.h"
#include "base/str.h"
#include "inside.h"
#include "wire/base64.h"
#include "wire/json.h"

#define AUDIENCE "sandbox-preview"
#define CLOCK_SKEW_S 0 /* whoever signs chooses the time; ours decides */

static int refuse(struct err *err, const char *reason)
{
    return err_set(err, ERR_UNAUTHORIZED, "%s", reason);
}

static int part_json(const char *text, size_t len, struct json **ret)
{
    AUTO(buf) struct buf out = BUF_INIT(PREVIEWTOKEN_MAX);
    struct err ignored; /* one answer for whatever is wrong with a token */
    if (base64url_decode(text, len, &out, &ignored) < 0)
        return -1;
    return json_parse(buf_str(&out), out.len, ret, &ignored);
}

/* The secret of that kid in "kid=secret,kid=secret". */
static const char *secret_of(const char *list, const char *kid, size_t *ret_len)
{
    size_t kid_len = strlen(kid);
    while (*list) {
        list += strspn(list, " ,");
        size_t len = strcspn(list, ",");
        size_t name = strcspn(list, "=");
        if (name < len && name == kid_len && memcmp(list, kid, kid_len) == 0) {
            *ret_len = len - name - 1;
            return *ret_len ? list + name + 1 : NULL;
        }
        list += len;
    }
    return NULL;
}

static bool signed_right(struct core *c, const char *token, size_t signed_len,
                         const char *signature, const struct json *head)
{
    uint8_t want[DIGEST_BYTES];
    size_t secret_len = 0;
    const char *alg = json_text(json_key(head, "alg")), *kid = json_text(json_key(head, "kid"));
    if (!alg || !str_eq(alg, "HS256") || !kid || json_key(head, "crit"))
        return false;
    const char *secret = secret_of(c->p.config->preview_secrets, kid, &secret_len);
    if (!secret)
        return false;
    AUTO(buf) struct buf text = BUF_INIT(2 * DIGEST_BYTES);
    digest_hmac(secret, secret_len, token, signed_len, want);
    base64url_encode(&text, want, sizeof want);
    return strlen(signature) == text.len && mem_equal_ct(buf_str(&text), signature, text.len);
}

static bool meant_for_us(const struct json *aud)
{
    if (json_text(aud))
        return str_eq(json_text(aud), AUDIENCE);
    for (size_t i = 0; i < json_count(aud); i++)
        if (json_text(json_item(aud, i)) && str_eq(json_text(json_item(aud, i)), AUDIENCE))
            return true;
    return false;
}

static int read_claims(const struct json *claims, struct previewtoken *ret, struct err *err)
{
    struct previewtoken t = { 0 };
    struct err ignored;
    const char *sandbox = json_text(json_key(claims, "sandbox_id"));
    const char *subject = json_text(json_key(claims, "sub"));
    if (!meant_for_us(json_key(claims, "aud")) || !sandbox ||
        sandbox_id_parse(sandbox, &t.sandbox, &ignored) < 0 ||
        !str_copy(t.subject, sizeof t.subject, subject ? subject : "") ||
        !json_int(json_key(claims, "exp"), &t.expires_s))
        return refuse(err, "bad_signature");
    if (t.expires_s <= clock_wall_ms() / 1000 - CLOCK_SKEW_S)
        return refuse(err, "expired");
    *ret = t;
    return 0;
}

int previewtoken_verify(struct core *c, const char *token, struct previewtoken *ret,
                        struct err *err)
{
    struct json *head_json = NULL, *claims_json = NULL;
    if (strnlen(token, PREVIEWTOKEN_MAX) == PREVIEWTOKEN_MAX)
        return refuse(err, "bad_signature");
    const char *dot = strchr(token, '.'), *dot2 = dot ? strchr(dot + 1, '.') : NULL;
    if (!dot2 || strchr(dot2 + 1, '.') || part_json(token, (size_t)(dot - token), &head_json) < 0)
        return refuse(err, "bad_signature");
    AUTO(json) struct json *head = head_json;
    if (!signed_right(c, token, (size_t)(dot2 - token), dot2 + 1, head) ||
        part_json(dot + 1, (size_t)(dot2 - dot - 1), &claims_json) < 0)
        return refuse(err, "bad_signature");
    AUTO(json) struct json *claims = claims_json;
    return read_claims(claims, ret, err);
}

int previewtoken_allows(const struct previewtoken *t, const struct sandbox *row, struct err *err)
{
    if (!sandbox_id_eq(&t->sandbox, &row->id))
        return refuse(err, "wrong_sandbox");
    if (row->external_user && !str_eq(row->external_user, t->subject))
        return refuse(err, "wrong_user");
    return 0;
}
