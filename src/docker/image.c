/* Images: looked at, and read from without running anything.
 *
 * The Engine gives files of containers only, so a seed container is created, never started, read
 * and removed. A daemon killed in between leaves one behind; it carries the label of its run, and a
 * later run sweeps it away each time it connects to the event stream. */
#include "base/cleanup.h"
#include "base/fault.h"
#include "base/limits.h"
#include "base/log.h"
#include "replies.h"
#include "self.h"
#include "spec.h"

static int image_missing(const char *ref, struct err *err)
{
    (void)err_set(err, ERR_NOT_FOUND, "image %.200s is not on this host", ref);
    return err_remedy(err, "Build or pull the image on this host first.");
}

/* A reference is also part of a URL's path, where the Engine tidies "..", "//" and the like away.
 */
static bool image_ref(const char *ref)
{
    static const char letters[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._/:@-";
    size_t len = strlen(ref);
    return len > 0 && strspn(ref, letters) == len && ref[0] != '/' && !strstr(ref, "..") &&
           !strstr(ref, "//") && !strstr(ref, "./");
}

int docker_image(void *self, const char *ref, struct runtime_image *ret, struct err *err)
{
    struct docker *d = self;
    AUTO(reply) struct reply reply = REPLY_INIT;
    if (!image_ref(ref))
        return image_missing(ref, err);
    const struct call look = { .op = OP_IMAGE, .args = { ref } };
    if (engine_call(d->engine, &look, &reply, err) < 0)
        return reply.status == 404 ? image_missing(ref, err) : -1;
    return reply_id(&reply.body, ret->digest, sizeof ret->digest, err);
}

static int seed_make(struct docker *d, const char *image, char ret_id[65], struct err *err)
{
    AUTO(reply) struct reply reply = REPLY_INIT;
    AUTO(buf) struct buf body = BUF_INIT(8 * KIB);
    spec_seed(&body, image, d->instance, d->boot);
    if (buf_done(&body, err) < 0)
        return -1;
    const struct call make = { .op = OP_CREATE_SEED, .body = buf_str(&body) };
    if (engine_call(d->engine, &make, &reply, err) < 0) {
        if (reply.status == 404)
            return image_missing(image, err);
        if (reply.status != 0)
            (void)reply_cause(&reply.body, "a container of the image could not be made", err);
        return -1;
    }
    return reply_id(&reply.body, ret_id, 65, err);
}

int docker_image_archive(void *self, const char *image, const char *path,
                         int (*sink)(void *ctx, const void *data, size_t len, struct err *err),
                         void *ctx, struct err *err)
{
    struct docker *d = self;
    char seed[65];
    AUTO(reply) struct reply reply = REPLY_INIT;
    if (seed_make(d, image, seed, err) < 0)
        return -1;
    if (FAULT("docker.seed.made"))
        return err_set(err, ERR_ENGINE, "fault played: the seed container was made");
    const struct call get = { .op = OP_ARCHIVE, .args = { seed, path }, .sink = sink, .ctx = ctx };
    int r = engine_call(d->engine, &get, &reply, err);
    if (r < 0 && reply.status == 404)
        (void)err_set(err, ERR_NOT_FOUND, "the image has no %.200s", path);
    struct err late;
    if (docker_remove(d, seed, &late) < 0) /* costs nothing but a name; swept by a later run */
        log_warn("engine.seed_kept", KV_STR("container", seed), KV_ERR(&late));
    return r;
}

static int sweep(struct docker *d, struct err *err)
{
    AUTO(reply) struct reply reply = REPLY_INIT;
    AUTO(buf) struct buf filter = BUF_INIT(ENGINE_TEXT_MAX);
    struct strv seeds = { 0 };
    spec_list_filter(&filter, d->instance, "seed");
    const struct call list = { .op = OP_LIST, .args = { buf_str(&filter) } };
    int r = engine_call(d->engine, &list, &reply, err);
    if (r == 0)
        r = reply_old_seeds(&reply.body, d->boot, &seeds, err);
    for (size_t i = 0; i < seeds.count && r == 0; i++) {
        r = docker_remove(d, seeds.items[i], err);
        log_info("engine.seed_swept", KV_STR("container", seeds.items[i]));
    }
    strv_release(&seeds);
    return r;
}

void docker_sweep_seeds(struct docker *d)
{
    struct err err;
    if (sweep(d, &err) < 0) /* the next connect tries again */
        log_debug("engine.sweep_failed", KV_ERR(&err));
}
