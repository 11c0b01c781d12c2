/* What the files of this room share: the handle, claims, the golden store, usage, and the seam
 * between the room's doors and a back end that keeps workspaces in its own way. Private to volume/.
 */
#ifndef INTERNAL_H
#define INTERNAL_H

#include <dirent.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/mu.h"
#include "model/id.h"
#include "volume/volume.h"

#define GOLDEN_NAME_MAX 200
#define TEMP_PREFIX_TREE ".tmp-"
#define GONE_PREFIX ".gone-"

/* How workspaces are kept. Only the claim holder of an id calls make and purge for it. A sparse
 * image per workspace will be a second table of these. */
struct backend {
    const char *enforced; /* of quotas, as volume_usage says it */
    int (*make)(struct volume *v, const struct sandbox_id *id, const char *golden, struct err *err);
    int (*open)(struct volume *v, const struct sandbox_id *id, int *ret_fd, struct err *err);
    int (*purge)(struct volume *v, const struct sandbox_id *id, uint64_t dev, uint64_t ino,
                 uint64_t *ret_freed, struct err *err);
    int (*sweep)(struct volume *v, struct err *err);
};
extern const struct backend backend_directory;

struct usage;
struct usage_walk;
struct claim {
    const char *name;
    struct claim *next;
};

struct volume {
    char *path; /* absolute, of the data directory */
    int data, workspaces, golden;
    uint32_t uid, gid;
    const struct backend *backend;
    struct mu lock;
    struct cond changed;                   /* a claim was given back */
    struct claim *claims GUARDED_BY(lock); /* names being made or removed right now */
    struct usage *usage GUARDED_BY(lock);
    struct usage_walk *walk; /* the measuring thread's alone */
    DIR *trash;              /* where the removing thread's pass is; its alone */
};

/* Exactly one caller at a time works on a name (a golden copy's or a sandbox id): waits until it is
 * free. c lives on the caller's stack until volume_unclaim. */
void volume_claim(struct volume *v, struct claim *c, const char *name);
void volume_unclaim(struct volume *v, struct claim *c);

/* Directory name of an image's golden copy. ERR_INVALID for what is no digest. */
int golden_name(const char *digest, char out[GOLDEN_NAME_MAX], struct err *err);
/* Unpacks the tar in fd (from its start) into the empty directory dest. Entries that are not plain
 * are skipped; *ret_skipped counts them. ERR_ENGINE: no tar; ERR_TOO_LARGE. */
int golden_unpack(int tar, int dest, uint32_t uid, uint32_t gid, uint64_t *ret_skipped,
                  struct err *err);
/* workspace/app and the root's owner and mode. */
int golden_skeleton(int root, uint32_t uid, uint32_t gid, struct err *err);
int golden_sweep(struct volume *v, struct err *err);
/* Removes the entries of dir that start with prefix, each under the claim of the name that follows
 * the prefix. Goes on after a failure and returns the last. */
int volume_sweep_prefix(struct volume *v, int dir, const char *prefix, struct err *err);

struct usage *usage_new(void);
void usage_free(struct usage *u);
void usage_walk_free(struct usage_walk *w);
void usage_forget(struct volume *v, const struct sandbox_id *id);

#endif
