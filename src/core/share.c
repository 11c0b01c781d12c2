/* Share links and the cookies they open.
 *
 * A code or cookie is "<share>.<mac>": the MAC (HMAC-SHA-256, one key of this installation) is over
 * what it is, sandbox, port, share and its time of birth. Everything else (until when, used or
 * not) is looked up in the table, so nothing can be asked for in a token that is not in there, and
 * what is removed from the table is void at once. The table follows the database: a change is
 * committed first. */
#include "core/share.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/digest.h"
#include "base/fd.h"
#include "base/limits.h"
#include "base/str.h"
#include "inside.h"
#include "shares.h"
#include "store/share.h"

#define KEY_FILE "share.key"
#define BUCKETS 1024 /* a power of two */
#define MAC_TEXT (2 * DIGEST_BYTES)

struct entry {
    struct entry *next; /* same bucket */
    struct core_share share;
};

struct shares {
    uint8_t key[DIGEST_BYTES];
    struct mu lock;
    struct entry *table[BUCKETS] GUARDED_BY(lock);
};

/* --- the key --- */

static int make_key(int dir, uint8_t key[DIGEST_BYTES], struct err *err)
{
    random_bytes(key, DIGEST_BYTES);
    return fd_replace_file(dir, KEY_FILE, key, DIGEST_BYTES, 0600, err);
}

static int load_key(const char *data_dir, uint8_t key[DIGEST_BYTES], struct err *err)
{
    char path[DATA_DIR_MAX + 16];
    (void)snprintf(path, sizeof path, "%s/state", data_dir);
    AUTO(fd) int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0)
        return err_sys(err, errno, "open the directory of the share key");
    AUTO(fd) int fd = openat(dir, KEY_FILE, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0 && errno == ENOENT)
        return make_key(dir, key, err);
    if (fd < 0)
        return err_sys(err, errno, "open the share key");
    if (fd_read_all(fd, key, DIGEST_BYTES) < 0)
        return err_sys(err, errno, "read the share key");
    return 0;
}

/* --- the table --- */

static struct entry **slot_of(struct shares *s, const struct sandbox_id *id) REQUIRES(&s->lock)
{
    uint32_t h = 2166136261u;
    mu_held(&s->lock);
    for (size_t i = 0; i < ID_LEN; i++)
        h = (h ^ (unsigned char)id->text[i]) * 16777619u;
    struct entry **at = &s->table[h & (BUCKETS - 1)];
    while (*at && !sandbox_id_eq(&(*at)->share.id, id))
        at = &(*at)->next;
    return at;
}

static void put(struct shares *s, const struct core_share *share)
{
    struct entry *e = mem_new(1, sizeof *e);
    e->share = *share;
    mu_lock(&s->lock);
    *slot_of(s, &share->id) = e;
    mu_unlock(&s->lock);
}

/* false: there is none, or its time is over. */
static bool get(struct shares *s, const struct sandbox_id *id, struct core_share *ret)
{
    mu_lock(&s->lock);
    const struct entry *e = *slot_of(s, id);
    bool found = e && e->share.expires_at_ms > clock_wall_ms();
    if (found)
        *ret = e->share;
    mu_unlock(&s->lock);
    return found;
}

static void drop_one(struct shares *s, const struct sandbox_id *id)
{
    mu_lock(&s->lock);
    struct entry **at = slot_of(s, id), *gone = *at;
    if (gone)
        *at = gone->next;
    mu_unlock(&s->lock);
    free(gone);
}

/* Those of one sandbox, and those that have expired. */
static void drop_some(struct shares *s, const struct sandbox_id *sandbox, int64_t now_ms)
{
    mu_lock(&s->lock);
    for (size_t i = 0; i < BUCKETS; i++)
        for (struct entry **at = &s->table[i]; *at;) {
            struct entry *e = *at;
            if (e->share.expires_at_ms > now_ms &&
                !(sandbox && sandbox_id_eq(&e->share.sandbox, sandbox))) {
                at = &e->next;
                continue;
            }
            *at = e->next;
            free(e);
        }
    mu_unlock(&s->lock);
}

void shares_drop(struct shares *s, const struct sandbox_id *sandbox)
{
    drop_some(s, sandbox, clock_wall_ms());
}

int shares_new(struct store *store, const char *data_dir, struct shares **ret, struct err *err)
{
    struct store_share *rows = NULL;
    size_t count = 0;
    uint8_t key[DIGEST_BYTES];
    if (load_key(data_dir, key, err) < 0 || store_share_load(store, &rows, &count, err) < 0)
        return -1;
    struct shares *s = mem_new(1, sizeof *s);
    memcpy(s->key, key, sizeof s->key);
    mem_erase(key, sizeof key);
    mu_init(&s->lock, MU_SHARE);
    for (size_t i = 0; i < count; i++)
        put(s, &(struct core_share){ .id = rows[i].id,
                                     .sandbox = rows[i].sandbox,
                                     .created_at_ms = rows[i].created_at_ms,
                                     .expires_at_ms = rows[i].expires_at_ms,
                                     .once = rows[i].once,
                                     .used = rows[i].used });
    free(rows);
    *ret = s;
    return 0;
}

void shares_free(struct shares *s)
{
    if (!s)
        return;
    drop_some(s, NULL, INT64_MAX);
    mem_erase(s->key, sizeof s->key);
    mu_release(&s->lock);
    free(s);
}

/* --- tokens --- */

/* port 0: a code, which is good for any of them. */
static void sign(const struct shares *s, const struct core_share *share, uint16_t port,
                 char out[SHARE_CODE_MAX])
{
    char text[128], mac_text[MAC_TEXT + 1];
    uint8_t mac[DIGEST_BYTES];
    int n = snprintf(text, sizeof text, "%s|%s|%u|%s|%lld", port ? "cookie" : "code",
                     share->sandbox.text, port, share->id.text, (long long)share->created_at_ms);
    digest_hmac(s->key, sizeof s->key, text, (size_t)n, mac);
    hex_encode(mac, sizeof mac, mac_text);
    (void)snprintf(out, SHARE_CODE_MAX, "%s.%s", share->id.text, mac_text);
}

/* The live share that the token is of, when it is one of ours for that sandbox and port. */
static bool verify(struct core *c, const struct sandbox *row, uint16_t port, const char *token,
                   struct core_share *ret)
{
    char id_text[ID_LEN + 1], wanted[SHARE_CODE_MAX];
    struct sandbox_id id;
    struct err ignored;
    if (strlen(token) != ID_LEN + 1 + MAC_TEXT || token[ID_LEN] != '.')
        return false;
    memcpy(id_text, token, ID_LEN);
    id_text[ID_LEN] = '\0';
    if (sandbox_id_parse(id_text, &id, &ignored) < 0 || !get(c->shares, &id, ret) ||
        !sandbox_id_eq(&ret->sandbox, &row->id) || ret->created_at_ms < row->created_at_ms)
        return false; /* of another sandbox, or of one that had the id before */
    sign(c->shares, ret, port, wanted);
    return mem_equal_ct(token, wanted, strlen(wanted));
}

/* --- the door --- */

int core_share_create(struct core *c, const struct caller *who, const struct sandbox_id *sandbox,
                      int64_t ttl_s, bool once, struct core_share *ret,
                      char ret_code[SHARE_CODE_MAX], struct err *err)
{
    int64_t now = clock_wall_ms();
    struct core_share share = { .sandbox = *sandbox, .created_at_ms = now, .once = once };
    const struct sandbox *row = core_own_row(c, who, sandbox, err);
    if (!row)
        return -1;
    core_unref(row);
    if (ttl_s < 1 || ttl_s > SHARE_TTL_MAX_S)
        return err_set(err, ERR_INVALID, "ttl_s: must be from 1 to %d", SHARE_TTL_MAX_S);
    sandbox_id_new(&share.id);
    share.expires_at_ms = now + ttl_s * 1000;
    struct store_share record = { .id = share.id,
                                  .sandbox = *sandbox,
                                  .once = once,
                                  .created_at_ms = now,
                                  .expires_at_ms = share.expires_at_ms };
    drop_some(c->shares, NULL, now);
    if (store_share_add(c->p.store, &record, who->actor, err) < 0)
        return -1;
    put(c->shares, &share);
    sign(c->shares, &share, 0, ret_code);
    *ret = share;
    return 0;
}

static int by_age(const void *a, const void *b)
{
    const struct core_share *x = a, *y = b;
    if (x->created_at_ms != y->created_at_ms)
        return x->created_at_ms < y->created_at_ms ? -1 : 1;
    return strcmp(x->id.text, y->id.text);
}

int core_share_list(struct core *c, const struct caller *who, const struct sandbox_id *sandbox,
                    struct core_share **ret, size_t *ret_count, struct err *err)
{
    struct shares *s = c->shares;
    const struct sandbox *row = core_own_row(c, who, sandbox, err);
    if (!row)
        return -1;
    core_unref(row);
    struct core_share *list = mem_new(SHARES_PER_SANDBOX_MAX, sizeof *list);
    size_t count = 0;
    int64_t now = clock_wall_ms();
    mu_lock(&s->lock);
    for (size_t i = 0; i < BUCKETS; i++)
        for (const struct entry *e = s->table[i]; e; e = e->next)
            if (sandbox_id_eq(&e->share.sandbox, sandbox) && e->share.expires_at_ms > now &&
                count < SHARES_PER_SANDBOX_MAX)
                list[count++] = e->share;
    mu_unlock(&s->lock);
    qsort(list, count, sizeof *list, by_age);
    *ret = list;
    *ret_count = count;
    return 0;
}

int core_share_revoke(struct core *c, const struct caller *who, const struct sandbox_id *sandbox,
                      const struct sandbox_id *share, struct err *err)
{
    const struct sandbox *row = core_own_row(c, who, sandbox, err);
    if (!row)
        return -1;
    core_unref(row);
    if (store_share_remove(c->p.store, sandbox, share, who->actor, err) < 0)
        return -1;
    drop_one(c->shares, share);
    return 0;
}

static void show_visibility(struct sandbox *row, void *ctx)
{
    row->visibility = *(const int *)ctx;
    row->updated_at_ms = clock_wall_ms();
}

int core_set_visibility(struct core *c, const struct caller *who, const struct sandbox_id *id,
                        enum sandbox_visibility visibility, const struct sandbox **ret,
                        struct err *err)
{
    int value = (int)visibility;
    const struct sandbox *row = core_own_row(c, who, id, err);
    if (!row)
        return -1;
    core_unref(row);
    if (store_set_visibility(c->p.store, id, visibility, clock_wall_ms(), who->actor, err) < 0)
        return -1;
    (void)registry_update(c->registry, id, show_visibility, &value); /* gone: told just below */
    *ret = core_own_row(c, who, id, err);
    return *ret ? 0 : -1;
}

static bool opens(const struct core_share *share)
{
    return !share->once ||
           (!share->used && clock_wall_ms() - share->created_at_ms < SHARE_ONCE_S * 1000);
}

bool core_share_check(struct core *c, const struct sandbox *row, const char *code,
                      struct sandbox_id *ret_share)
{
    struct core_share share;
    if (!verify(c, row, 0, code, &share) || !opens(&share))
        return false;
    *ret_share = share.id;
    return true;
}

static void mark_used(struct shares *s, const struct sandbox_id *id)
{
    mu_lock(&s->lock);
    struct entry *e = *slot_of(s, id);
    if (e)
        e->share.used = true;
    mu_unlock(&s->lock);
}

int core_share_redeem(struct core *c, const struct sandbox *row, uint16_t port, const char *code,
                      char ret_cookie[SHARE_CODE_MAX], int64_t *ret_until_ms, struct err *err)
{
    struct core_share share;
    if (!verify(c, row, 0, code, &share) || !opens(&share))
        return err_set(err, ERR_UNAUTHORIZED, "the link is not valid");
    if (share.once) {
        if (store_share_use(c->p.store, &share.id, err) < 0)
            return err->code == ERR_CONFLICT
                       ? err_set(err, ERR_UNAUTHORIZED, "the link was used before")
                       : -1;
        mark_used(c->shares, &share.id);
    }
    sign(c->shares, &share, port, ret_cookie);
    *ret_until_ms = share.expires_at_ms;
    return 0;
}

bool core_share_cookie(struct core *c, const struct sandbox *row, uint16_t port, const char *cookie,
                       struct sandbox_id *ret_share)
{
    struct core_share share;
    if (port == 0 || !verify(c, row, port, cookie, &share))
        return false;
    *ret_share = share.id;
    return true;
}

bool core_share_live(struct core *c, const struct sandbox_id *share)
{
    struct core_share ignored;
    return get(c->shares, share, &ignored);
}
