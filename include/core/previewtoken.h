/* Tokens that another program signs for visitors of private previews: compact JWS (RFC 7515), HS256
 * and nothing else; the header's kid selects the secret (SANDBOXD_PREVIEW_TOKEN_SECRETS). Threads:
 * any. */
#ifndef CORE_PREVIEWTOKEN_H
#define CORE_PREVIEWTOKEN_H

#include <stdint.h>

#include "base/limits.h"
#include "core/core.h"

#define PREVIEWTOKEN_MAX 4096

struct previewtoken {
    struct sandbox_id sandbox;
    char subject[EXTERNAL_ID_MAX + 1];
    int64_t expires_s; /* Unix seconds */
};
/* Signature, audience "sandbox-preview" and time. ERR_UNAUTHORIZED; err->msg is one of
 * bad_signature, expired. */
int previewtoken_verify(struct core *c, const char *token, struct previewtoken *ret,
                        struct err *err);
/* For this sandbox and its external user (any, when it has none)? As above: wrong_sandbox,
 * wrong_user. */
int previewtoken_allows(const struct previewtoken *t, const struct sandbox *row, struct err *err);

#endif
