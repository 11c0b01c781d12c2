/* Share links in memory. Private to core/. Threads: any. */
#ifndef CORE_SHARES_H
#define CORE_SHARES_H

#include "core/share.h"

struct shares;

/* Reads them, and the key (made when there is none). */
int shares_new(struct store *store, const char *data_dir, struct shares **ret, struct err *err);
void shares_free(struct shares *s);
/* The sandbox is gone, and its links with it. */
void shares_drop(struct shares *s, const struct sandbox_id *sandbox);

#endif
