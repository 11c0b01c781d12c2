/* What the tests of store/ share: a temporary data directory and rows to put into it. */
#ifndef SUPPORT_STORE_FIXTURE_H
#define SUPPORT_STORE_FIXTURE_H

#include <ftw.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/str.h"
#include "model/sandbox.h"
#include "store/store.h"

static inline int fixture_unlink(const char *path, const struct stat *st, int kind, struct FTW *f)
{
    (void)st;
    (void)kind;
    (void)f;
    return remove(path);
}

static inline void fixture_rmdir(const char *dir)
{
    (void)nftw(dir, fixture_unlink, 16, FTW_DEPTH | FTW_PHYS); /* gone already is fine */
}

/* A new directory; the text is the caller's to free, the directory to fixture_rmdir(). */
static inline char *fixture_dir(void)
{
    char path[] = "/tmp/store-test-XXXXXX";
    if (!mkdtemp(path))
        abort();
    return str_dup(path);
}

/* A row with something in every member. */
static inline struct sandbox *fixture_row(const char *tenant)
{
    struct sandbox *s = mem_new(1, sizeof *s);
    sandbox_id_new(&s->id);
    s->tenant = str_dup(tenant);
    s->node = str_dup("node-1");
    s->state = SANDBOX_CREATING;
    s->image = str_dup("debian:12");
    s->image_digest = str_dup("sha256:abc");
    s->container_id = str_dup("c0ffee");
    s->epoch = 7;
    memset(s->secret, 0x5a, sizeof s->secret);
    s->limits = (struct sandbox_limits){ 512, 1500, 256, 1024 };
    s->nofile = 4096;
    s->memory_high = str_dup("4G");
    s->visibility = VISIBILITY_PRIVATE;
    s->idle_policy = IDLE_ALWAYS_ON;
    s->ports = (struct u16v){ { 80, 3000, 65535 }, 3 };
    strmap_add(&s->env, "KEY", "va\"lue\n\xc3\xa4");
    strmap_add(&s->env, "EMPTY", "");
    strmap_add(&s->metadata, "team", "red");
    s->external_user = str_dup("user");
    s->external_project = str_dup("project");
    s->external_workspace = str_dup("workspace");
    s->error_message = str_dup("boom");
    s->created_at_ms = 1000;
    s->updated_at_ms = 1001;
    s->last_active_at_ms = 1002;
    s->stopped_at_ms = 1003;
    s->keepalive_until_ms = 1004;
    s->idle_timeout_ms = 1005;
    s->stop_timeout_ms = 1006;
    return s;
}

/* The least a row may hold. */
static inline struct sandbox *fixture_bare(const char *tenant)
{
    struct sandbox *s = mem_new(1, sizeof *s);
    sandbox_id_new(&s->id);
    s->tenant = str_dup(tenant);
    s->node = str_dup("n");
    s->state = SANDBOX_CREATING;
    s->image = str_dup("i");
    s->created_at_ms = 1;
    return s;
}

static inline int fixture_add(struct store *st, const struct sandbox *row, struct err *err)
{
    struct store_create c = { .row = row, .tenant_max = 1000000, .actor = "tester" };
    int rc = store_create(st, &c, err);
    if (rc < 0)
        printf("# create: %s\n", err->msg);
    return rc;
}

/* Copy of one row as it is stored, or NULL. */
static inline struct sandbox *fixture_get(struct store *st, const struct sandbox_id *id)
{
    struct sandbox **rows = NULL, *found = NULL;
    size_t count = 0;
    struct err err;
    if (store_load(st, &rows, &count, &err) < 0)
        return NULL;
    for (size_t i = 0; i < count; i++) {
        if (sandbox_id_eq(&rows[i]->id, id))
            found = rows[i];
        else
            sandbox_free(rows[i]);
    }
    free(rows);
    return found;
}

#endif
