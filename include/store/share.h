/* Share links on disk; see store/store.h for what a call promises. Threads: any. */
#ifndef STORE_SHARE_H
#define STORE_SHARE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "model/sandbox.h"
#include "store/store.h"

struct store_share {
    struct sandbox_id id, sandbox;
    bool once, used;
    int64_t created_at_ms, expires_at_ms;
};

/* Also drops what has expired by its created_at_ms. ERR_NOT_FOUND: no such sandbox; ERR_QUOTA: it
 * has SHARES_PER_SANDBOX_MAX of them. */
int store_share_add(struct store *s, const struct store_share *share, const char *actor,
                    struct err *err);
/* Marks it as used. ERR_CONFLICT: it was, or is gone. */
int store_share_use(struct store *s, const struct sandbox_id *id, struct err *err);
/* ERR_NOT_FOUND. */
int store_share_remove(struct store *s, const struct sandbox_id *sandbox,
                       const struct sandbox_id *id, const char *actor, struct err *err);
/* All, oldest first; caller frees the array. */
int store_share_load(struct store *s, struct store_share **ret, size_t *ret_count, struct err *err);
/* ERR_NOT_FOUND. */
int store_set_visibility(struct store *s, const struct sandbox_id *id,
                         enum sandbox_visibility visibility, int64_t now_ms, const char *actor,
                         struct err *err);

#endif
