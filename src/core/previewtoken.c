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
#include "wire/json.h"

#define AUDIENCE "sandbox-preview"
#define CLOCK_SKEW_S 0 /* whoever signs chooses the time; ours decides */

static int refuse(struct err *err, const char *reason)
{
    return err_set(err, ERR_UNAUTHORIZED, "%s", reason);
}

static int letter(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '-' ? 62 : c == '_' ? 63 : -1;
}

/* Base64url without padding (RFC 7515, appendix C), canonical: no bits are left over. -1: it is
 * not. */
static ssize_t decode64(const char *text, size_t len, uint8_t *out, size_t size)
{
    uint32_t bits = 0;
    unsigned have = 0;
    size_t n = 0;
    for (size_t i = 0; i < len; i++) {
        int v = letter(text[i]);
        if (v < 0)
            return -1;
        bits = bits << 6 | (uint32_t)v;
        have += 6;
        if (have >= 8) {
            have -= 8;
            if (n == size)
                return -1;
            out[n++] = (uint8_t)(bits >> have);
        }
    }
    if (have >= 6 || (bits & ((1u << have) - 1)) != 0)
        return -1;
    return (ssize_t)n;
}

static int part_json(const char *text, size_t len, struct json **ret)
{
    uint8_t out[PREVIEWTOKEN_MAX];
    struct err ignored; /* one answer for whatever is wrong with a token */
    ssize_t n = decode64(text, len, out, sizeof out);
    return n <= 0 ? -1 : json_parse((const char *)out, (size_t)n, ret, &ignored);
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
    uint8_t want[DIGEST_BYTES], got[DIGEST_BYTES];
    size_t secret_len = 0;
    const char *alg = json_text(json_key(head, "alg")), *kid = json_text(json_key(head, "kid"));
    if (!alg || !str_eq(alg, "HS256") || !kid || json_key(head, "crit"))
        return false;
    const char *secret = secret_of(c->p.config->preview_secrets, kid, &secret_len);
    if (!secret || decode64(signature, strlen(signature), got, sizeof got) != DIGEST_BYTES)
        return false;
    digest_hmac(secret, secret_len, token, signed_len, want);
    return mem_equal_ct(want, got, sizeof want);
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
