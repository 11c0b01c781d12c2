/* The life of one container, each step idempotent: whoever is not sure whether a step was done does
 * it again. Names are the claim: the Engine lets only one container be called s-<id>.
 *
 * File descriptors: the API does not tell how many dockerd may grant, and asking for more makes
 * start fail. create() therefore asks for at most nofile_max, at first our own hard limit; a start
 * that meets the limit lowers nofile_max below what this container asked for and fails, with a
 * remedy. The next create of that sandbox replaces a container that still asks for too much, so
 * that a caller's second try works; every later one is right at once. */
#include "base/cleanup.h"
#include "base/fault.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/str.h"
#include "replies.h"
#include "self.h"
#include "spec.h"
#include "wire/json.h"

#define CREATE_TRIES \
    3 /* the name may be freed and taken again under us; then somebody is fighting */

static int inspect(struct docker *d, const char *ref, struct seen_container *ret, struct err *err)
{
    AUTO(reply) struct reply reply = REPLY_INIT;
    const struct call look = { .op = OP_INSPECT, .args = { ref } };
    if (engine_call(d->engine, &look, &reply, err) < 0)
        return -1;
    return reply_inspect(&reply.body, d->instance, d->network, ret, err);
}

/* --- create --- */

enum claim { CLAIM_MADE, CLAIM_TAKEN, CLAIM_FAILED };

static enum claim create_once(struct docker *d, const struct runtime_spec *spec, const char *name,
                              uint32_t nofile, char ret_id[65], struct err *err)
{
    AUTO(reply) struct reply reply = REPLY_INIT;
    AUTO(buf) struct buf body = BUF_INIT(32 * KIB);
    if (spec_container(&body, spec, d->instance, d->network, nofile, err) < 0)
        return CLAIM_FAILED;
    const struct call make = { .op = OP_CREATE, .args = { name }, .body = buf_str(&body) };
    if (engine_call(d->engine, &make, &reply, err) == 0)
        return reply_id(&reply.body, ret_id, 65, err) == 0 ? CLAIM_MADE : CLAIM_FAILED;
    if (reply.status == 409)
        return CLAIM_TAKEN;
    if (reply.status != 0)
        (void)reply_cause(&reply.body, "the container could not be made", err);
    return CLAIM_FAILED;
}

/* The name is taken: by a container that is as asked for (*ret is filled, *ret_fits true), or by an
 * older one of ours that is gone when this returns. */
static int adopt(struct docker *d, const struct runtime_spec *spec, const char *name,
                 struct seen_container *ret, bool *ret_fits, struct err *err)
{
    struct seen_container seen;
    struct err why;
    *ret_fits = false;
    if (inspect(d, name, &seen, &why) < 0) {
        if (why.code == ERR_NOT_FOUND)
            return 0;
        *err = why;
        return -1;
    }
    if (!seen.ours || !sandbox_id_eq(&seen.c.id, spec->id)) {
        (void)err_set(err, ERR_CONFLICT, "a container that is not ours has the name %s", name);
        return err_remedy(err, "Remove or rename that container.");
    }
    if (seen.revision == spec->revision && seen.nofile <= atomic_load(&d->nofile_max)) {
        *ret = seen;
        *ret_fits = true;
        return 0;
    }
    return docker_remove(d, seen.c.container_id, err);
}

int docker_create(void *self, const struct runtime_spec *spec, char ret_container_id[65],
                  uint32_t *granted_nofile, struct err *err)
{
    struct docker *d = self;
    char name[CONTAINER_NAME_MAX];
    spec_container_name(spec->id, name);
    if (docker_network_ensure(d, err) < 0)
        return -1;
    for (int i = 0; i < CREATE_TRIES; i++) {
        const uint32_t max = atomic_load(&d->nofile_max);
        const uint32_t nofile = spec->nofile < max ? spec->nofile : max;
        enum claim claim = create_once(d, spec, name, nofile, ret_container_id, err);
        if (FAULT("docker.create.sent"))
            return err_set(err, ERR_ENGINE, "fault played: create was sent");
        if (claim == CLAIM_FAILED)
            return -1;
        if (claim == CLAIM_MADE) {
            *granted_nofile = nofile;
            return 0;
        }
        struct seen_container seen = { 0 };
        bool fits;
        if (adopt(d, spec, name, &seen, &fits, err) < 0)
            return -1;
        if (fits) {
            (void)str_copy(ret_container_id, 65, seen.c.container_id); /* same size */
            *granted_nofile = seen.nofile;
            return 0;
        }
    }
    return err_set(err, ERR_CONFLICT, "the container name %s is taken again and again", name);
}

/* --- start --- */

/* Lowers what later creates ask for below what this container asked for. */
static void nofile_lower(struct docker *d, const char *container_id)
{
    static const unsigned steps[] = { 20000, 4096, 1024 };
    struct seen_container seen;
    struct err err;
    if (inspect(d, container_id, &seen, &err) <
        0) /* a later start fails the same way and tries again */
        return;
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        unsigned now = atomic_load(&d->nofile_max);
        if (steps[i] >= seen.nofile)
            continue;
        while (now > steps[i] && !atomic_compare_exchange_weak(&d->nofile_max, &now, steps[i]))
            ; /* another start lowered it meanwhile: look again */
        log_warn("engine.nofile_lowered", KV_INT("refused", seen.nofile),
                 KV_INT("from_now_on", atomic_load(&d->nofile_max)));
        return;
    }
}

static int start_once(struct docker *d, const char *container_id, enum cause *ret_cause,
                      struct err *err)
{
    AUTO(reply) struct reply reply = REPLY_INIT;
    const struct call start = { .op = OP_START, .args = { container_id } };
    int r = engine_call(d->engine, &start, &reply, err);
    if (FAULT("docker.start.sent"))
        return err_set(err, ERR_ENGINE, "fault played: start was sent");
    if (r == 0 || reply.status == 0)
        return r;
    struct err why;
    *ret_cause = reply_cause(&reply.body, "the container could not be started", &why);
    /* Without a better word, 404 and 409 are about the container and have their own codes already.
     */
    if ((reply.status != 404 && reply.status != 409) || *ret_cause != CAUSE_OTHER)
        *err = why;
    return -1;
}

int docker_start(void *self, const char *container_id, struct err *err)
{
    struct docker *d = self;
    enum cause cause = CAUSE_OTHER;
    int r = start_once(d, container_id, &cause, err);
    if (r < 0 && cause == CAUSE_NETWORK) {
        /* Removed behind our back. The container knows it by name, so a new one will do. */
        atomic_store(&d->network_seen, 0);
        if (docker_network_ensure(d, err) < 0)
            return -1;
        r = start_once(d, container_id, &cause, err);
    }
    if (r < 0 && cause == CAUSE_NOFILE)
        nofile_lower(d, container_id);
    return r;
}

/* --- the rest --- */

int docker_stop(void *self, const char *container_id, uint32_t grace_ms, struct err *err)
{
    struct docker *d = self;
    AUTO(reply) struct reply reply = REPLY_INIT;
    char seconds[12];
    (void)snprintf(seconds, sizeof seconds, "%u", (grace_ms + 999) / 1000); /* always fits */
    const struct call stop = { .op = OP_STOP,
                               .args = { container_id, seconds },
                               .extra_ms = grace_ms + 1000 };
    int r = engine_call(d->engine, &stop, &reply, err);
    if (FAULT("docker.stop.sent"))
        return err_set(err, ERR_ENGINE, "fault played: stop was sent");
    return r;
}

int docker_remove(void *self, const char *container_id, struct err *err)
{
    struct docker *d = self;
    AUTO(reply) struct reply reply = REPLY_INIT;
    const struct call remove = { .op = OP_REMOVE, .args = { container_id } };
    int r = engine_call(d->engine, &remove, &reply, err);
    if (FAULT("docker.remove.sent"))
        return err_set(err, ERR_ENGINE, "fault played: remove was sent");
    if (r < 0 && reply.status == 409) { /* somebody is removing it: it is gone when they are done */
        const struct call wait = { .op = OP_WAIT_REMOVED, .args = { container_id } };
        r = engine_call(d->engine, &wait, &reply, err);
    }
    return r;
}

/* The freezer of cgroup v1 gives up on a busy machine after 0.3 s and the Engine answers 500: asked
 * again, it does. */
#define FREEZE_TRIES 3

static int freeze(struct docker *d, const char *container_id, enum engine_op op,
                  enum runtime_status wanted, struct err *err)
{
    const struct call call = { .op = op, .args = { container_id } };
    for (int i = 0; i < FREEZE_TRIES; i++) {
        AUTO(reply) struct reply reply = REPLY_INIT;
        if (engine_call(d->engine, &call, &reply, err) == 0)
            return 0;
        if (reply.status == 0 || reply.status == 404)
            return -1;
        struct seen_container seen;
        struct err ignored; /* the refusal is what counts */
        if (inspect(d, container_id, &seen, &ignored) == 0 && seen.c.status == wanted)
            return 0; /* it was so already */
        if (reply.status < 500)
            return -1;
    }
    return -1;
}

int docker_pause(void *self, const char *container_id, struct err *err)
{
    return freeze(self, container_id, OP_PAUSE, RUNTIME_PAUSED, err);
}

int docker_unpause(void *self, const char *container_id, struct err *err)
{
    return freeze(self, container_id, OP_UNPAUSE, RUNTIME_RUNNING, err);
}

int docker_rename(void *self, const char *container_id, const char *name, struct err *err)
{
    struct docker *d = self;
    AUTO(reply) struct reply reply = REPLY_INIT;
    const struct call rename = { .op = OP_RENAME, .args = { container_id, name } };
    if (engine_call(d->engine, &rename, &reply, err) == 0)
        return 0;
    /* Refused also when it has that name already. */
    struct seen_container seen;
    struct err ignored; /* the refusal is what counts */
    if (reply.status != 0 && inspect(d, container_id, &seen, &ignored) == 0 &&
        str_eq(seen.c.name, name))
        return 0;
    return -1;
}

int docker_inspect(void *self, const char *ref, struct runtime_container *ret, struct err *err)
{
    struct docker *d = self;
    struct seen_container seen;
    if (inspect(d, ref, &seen, err) < 0)
        return -1;
    if (!seen.ours)
        return err_set(err, ERR_NOT_FOUND, "no container of ours is called %.128s", ref);
    *ret = seen.c;
    return 0;
}

int docker_inspect_json(void *self, const char *ref, char **ret, struct err *err)
{
    struct docker *d = self;
    AUTO(reply) struct reply reply = REPLY_INIT;
    AUTO(json) struct json *j = NULL;
    const struct call look = { .op = OP_INSPECT, .args = { ref } };
    if (engine_call(d->engine, &look, &reply, err) < 0)
        return -1;
    struct seen_container seen;
    if (reply_inspect(&reply.body, d->instance, d->network, &seen, err) < 0 ||
        json_parse(buf_str(&reply.body), reply.body.len, &j, err) < 0)
        return -1;
    if (!seen.ours)
        return err_set(err, ERR_NOT_FOUND, "no container of ours is called %.128s", ref);
    *ret = json_dump(j);
    return 0;
}

int docker_list(void *self, struct runtime_container **ret, size_t *ret_count, struct err *err)
{
    struct docker *d = self;
    AUTO(reply) struct reply reply = REPLY_INIT;
    AUTO(buf) struct buf filter = BUF_INIT(ENGINE_TEXT_MAX);
    spec_list_filter(&filter, d->instance, NULL);
    const struct call list = { .op = OP_LIST, .args = { buf_str(&filter) } };
    if (engine_call(d->engine, &list, &reply, err) < 0)
        return -1;
    return reply_list(&reply.body, d->network, ret, ret_count, err);
}
