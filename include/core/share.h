/* Who may see a private preview: share links, and the cookies they are exchanged for.
 *
 * A link carries a code, signed for one sandbox and one share; opening it is answered with a cookie
 * signed for that sandbox, port and share. Both end with the share: by time, by revocation, or with
 * the sandbox. One algorithm, one key (<data>/state/share.key, mode 0600); nothing in a code says
 * how it is to be checked. Shares are kept in memory too, so that checking never waits.
 * Threads: any. */
#ifndef CORE_SHARE_H
#define CORE_SHARE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/core.h"

struct core_share {
    struct sandbox_id id, sandbox;
    int64_t created_at_ms, expires_at_ms; /* wall clock */
    bool once;                            /* its link opens one time only */
    bool used;                            /* it was opened */
};

#define SHARE_CODE_MAX 256 /* bytes of a code or a cookie, with NUL */

/* ttl_s: 1 to SHARE_TTL_MAX_S. once: the link must be opened within SHARE_ONCE_S and works one
 * time; what it opens stays open for ttl_s. The code is handed out here and kept nowhere.
 * ERR_NOT_FOUND, ERR_INVALID, ERR_QUOTA. */
int core_share_create(struct core *c, const struct caller *who, const struct sandbox_id *sandbox,
                      int64_t ttl_s, bool once, struct core_share *ret,
                      char ret_code[SHARE_CODE_MAX], struct err *err);
/* Live ones, oldest first; caller frees *ret. */
int core_share_list(struct core *c, const struct caller *who, const struct sandbox_id *sandbox,
                    struct core_share **ret, size_t *ret_count, struct err *err);
/* Ends it and what it opened. ERR_NOT_FOUND. */
int core_share_revoke(struct core *c, const struct caller *who, const struct sandbox_id *sandbox,
                      const struct sandbox_id *share, struct err *err);
/* public or private, from now on. *ret is a reference. */
int core_set_visibility(struct core *c, const struct caller *who, const struct sandbox_id *id,
                        enum sandbox_visibility visibility, const struct sandbox **ret,
                        struct err *err);

/* --- for edge/ --- */
/* Is code good for opening row's previews now? From memory; a one-time code is not used up. */
bool core_share_check(struct core *c, const struct sandbox *row, const char *code,
                      struct sandbox_id *ret_share);
/* Exchanges it: a cookie for one port, good until *ret_until_ms. Blocks on the disk when the link
 * is a one-time one. ERR_UNAUTHORIZED: not good, or used before. */
int core_share_redeem(struct core *c, const struct sandbox *row, uint16_t port, const char *code,
                      char ret_cookie[SHARE_CODE_MAX], int64_t *ret_until_ms, struct err *err);
/* Is the cookie good for that port of row now? From memory. */
bool core_share_cookie(struct core *c, const struct sandbox *row, uint16_t port, const char *cookie,
                       struct sandbox_id *ret_share);
/* Does the share still stand? From memory; asked again and again for what it opened. */
bool core_share_live(struct core *c, const struct sandbox_id *share);

#endif
