/* Bringing a sandbox up and down: the one way from row and workspace to a running container, walked
 * by create, start and the reconciler alike. Every step is idempotent, so a walk that a crash cut
 * short is walked again from its beginning. No lock is held here; the row's -ING state is the
 * claim. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/digest.h"
#include "base/fault.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/str.h"
#include "inside.h"
#include "shares.h"

#define GATE_WAIT_MS 60000  /* for a place among the starting ones */
#define HELLO_WAIT_MS 10000 /* from the container's start to its agent's hello: 1 ms is usual */
#define HELLO_LOOK_MS 200   /* without one for so long: does the container still run? */

struct progress {
    enum core_phase phase;
    struct core_start spent; /* written when phase is PHASE_NONE and its total > 0 */
};

static void note_progress(struct registry_live *live, void *ctx)
{
    const struct progress *p = ctx;
    live->phase = p->phase;
    if (p->phase == PHASE_QUEUED) /* of the start before */
        live->signalled_at_ms = live->deaf_since_ms = 0;
    if (p->spent.total == 0)
        return;
    live->start = p->spent;
    live->cpu_known = false; /* a new container's counter begins anew */
    live->cpu_at_ms = 0;
    live->cpu_milli = 0;
}

static void note_start(struct registry_live *live, void *ctx)
{
    live->start = *(const struct core_start *)ctx;
}

static void show_phase(struct core *c, const struct sandbox *row, enum core_phase phase)
{
    struct progress p = { .phase = phase };
    registry_live_update(c->registry, &row->id, note_progress, &p);
}

static int gate_enter(struct core *c, struct err *err)
{
    int64_t deadline = clock_mono_ms() + GATE_WAIT_MS;
    bool in = true;
    mu_lock(&c->gate);
    while (c->starting >= ENGINE_STARTS_AT_ONCE && in)
        in = cond_wait_until(&c->gate_open, &c->gate, deadline);
    in = c->starting < ENGINE_STARTS_AT_ONCE;
    if (in)
        c->starting++;
    mu_unlock(&c->gate);
    return in ? 0 : err_set(err, ERR_CAPACITY, "too many sandboxes are starting");
}

static void gate_leave(struct core *c)
{
    mu_lock(&c->gate);
    c->starting--;
    cond_signal(&c->gate_open);
    mu_unlock(&c->gate);
}

/* --- workspace --- */

struct fetch {
    struct core *core;
    const char *image;
};

static int feed(void *seed, const void *data, size_t len, struct err *err)
{
    return volume_golden_feed(seed, data, len, err);
}

static int fetch_home(void *ctx, void *seed, struct err *err)
{
    struct fetch *f = ctx;
    const struct runtime *rt = f->core->p.runtime;
    return rt->image_archive(rt->self, f->image, "/home/sandbox", feed, seed, err);
}

static int make_workspace(struct core *c, const struct sandbox *row, const char *digest,
                          struct err *err)
{
    struct fetch f = { c, digest };
    uint64_t dev, ino;
    struct store_workspace w = { 0 };
    if (volume_golden_ensure(c->p.volume, digest, fetch_home, &f, err) < 0 ||
        volume_make(c->p.volume, &row->id, digest, &dev, &ino, err) < 0)
        return err_wrap(err, "workspace");
    if (store_workspace_get(c->p.store, &row->id, &w, err) < 0)
        return -1;
    bool known = w.dev == dev && w.ino == ino;
    store_workspace_release(&w);
    return known ? 0 : store_workspace_made(c->p.store, &row->id, dev, ino, err);
}

/* --- container --- */

struct container {
    char id[65];
    uint32_t nofile;
};

/* What a stopped container must have in common with today's wishes to be started again. */
static uint32_t revision_of(const struct runtime_spec *spec)
{
    struct buf b = BUF_INIT(64 * KIB);
    uint8_t digest[DIGEST_BYTES];
    uint32_t revision;
    buf_addf(&b, "%d %s %s %u %u %u %u", RUNTIME_SPEC_VERSION, spec->image, spec->entrypoint,
             spec->limits.memory_mib, spec->limits.cpu_milli, spec->limits.pids, spec->nofile);
    for (size_t i = 0; i < spec->n_mounts; i++)
        buf_addf(&b, " %s:%s:%d", spec->mounts[i].source, spec->mounts[i].target,
                 spec->mounts[i].read_only);
    buf_addf(&b, " %s %s %d", spec->preview.domain, spec->preview.entrypoint, spec->preview.tls);
    for (size_t i = 0; i < spec->ports.count; i++)
        buf_addf(&b, " %u", spec->ports.items[i]);
    digest_sha256(buf_str(&b), b.len, digest);
    buf_release(&b);
    memcpy(&revision, digest, sizeof revision);
    return revision;
}

static int make_container(struct core *c, const struct sandbox *row, const char *digest,
                          struct container *ret, struct err *err)
{
    const struct runtime *rt = c->p.runtime;
    char home[4096], run[4096];
    volume_path(c->p.volume, &row->id, home, sizeof home);
    link_run_dir(c->p.link, &row->id, run, sizeof run);
    struct runtime_spec spec = {
        .id = &row->id,
        .image = digest,
        .entrypoint = "/.sandboxed/agent",
        .limits = row->limits,
        .nofile = (uint32_t)c->p.config->nofile,
        .mounts = { { link_agent_path(c->p.link), "/.sandboxed/agent", true },
                    { run, "/.sandboxed/run", true },
                    { home, "/home/sandbox", false } },
        .n_mounts = 3,
        .ports = row->ports,
        .preview = { .domain = c->p.config->preview_domain,
                     .entrypoint = c->p.config->preview_entrypoint,
                     .tls = c->p.config->preview_tls },
    };
    spec.revision = revision_of(&spec);
    return rt->create(rt->self, &spec, ret->id, &ret->nofile, err);
}

/* The engine may refuse a start for a limit that only a start shows (file descriptors); the runtime
 * has lowered its wish by then, so the second try is made with a new container. So it is when
 * somebody removed the first one. */
static int start_container(struct core *c, const struct sandbox *row, const char *digest,
                           struct container *box, struct err *err)
{
    const struct runtime *rt = c->p.runtime;
    for (int attempt = 0;; attempt++) {
        /* Each try anew: the agent of an earlier one may have been here, and taken the secret. */
        if (link_expect(c->p.link, &row->id, row->secret, true, err) < 0)
            return err_wrap(err, "agent's socket");
        if (make_container(c, row, digest, box, err) < 0)
            return -1;
        if (FAULT("core.start.before"))
            return err_set(err, ERR_ENGINE, "fault: start");
        if (rt->start(rt->self, box->id, err) == 0)
            return 0;
        struct err ignored;
        (void)rt->remove(rt->self, box->id, &ignored); /* the cause that counts is the start's */
        if (attempt > 0 || (err->code != ERR_ENGINE && err->code != ERR_NOT_FOUND))
            return -1;
    }
}

/* The agent is heard, or its container has ended meanwhile and says why. */
static int wait_hello(struct core *c, const struct sandbox *row, const struct container *made,
                      struct err *err)
{
    const struct runtime *rt = c->p.runtime;
    int64_t deadline = clock_mono_ms() + HELLO_WAIT_MS;
    for (;;) {
        int64_t now = clock_mono_ms(), look = now + HELLO_LOOK_MS;
        if (link_wait_ready(c->p.link, &row->id, look < deadline ? look : deadline, err) == 0)
            return 0;
        if (err->code != ERR_TIMEOUT || now >= deadline)
            return err_wrap(err, "the sandbox started, but its agent was not heard");
        struct runtime_container box;
        struct err ignored; /* an engine that does not tell: the deadline holds */
        char why[ENDED_WHY_MAX];
        int rc = rt->inspect(rt->self, made->id, &box, &ignored);
        if (rc == 0 ? box.status == RUNTIME_EXITED : ignored.code == ERR_NOT_FOUND) {
            core_ended_why(c, &row->id, rc == 0 ? &box : NULL, why);
            core_died(c, &row->id, why);
            return err_set(err, ERR_UNAVAILABLE, "it ended while it started: %s", why);
        }
    }
}

static int walk_up(struct core *c, const struct sandbox *row, struct runtime_image *image,
                   struct container *box, struct core_start *spent, struct err *err)
{
    const struct runtime *rt = c->p.runtime;
    if (c->p.prepare && c->p.prepare(c->p.prepare_ctx, err) < 0)
        return -1;
    /* Pinned at the first start: the same image for the life of the sandbox, if it is still there.
     */
    const char *ref = row->image_digest ? row->image_digest : row->image;
    if (rt->image(rt->self, ref, image, err) < 0 &&
        (!row->image_digest || err->code != ERR_NOT_FOUND ||
         rt->image(rt->self, row->image, image, err) < 0))
        return err_wrap(err, "image %s", row->image);
    show_phase(c, row, PHASE_WORKSPACE);
    int64_t began = clock_mono_ms();
    if (make_workspace(c, row, image->digest, err) < 0)
        return -1;
    spent->workspace = clock_mono_ms() - began;
    show_phase(c, row, PHASE_ENGINE);
    began = clock_mono_ms();
    if (start_container(c, row, image->digest, box, err) < 0)
        return -1;
    spent->engine = clock_mono_ms() - began;
    if (FAULT("core.start.after"))
        return err_set(err, ERR_ENGINE, "fault: started");
    show_phase(c, row, PHASE_AGENT);
    began = clock_mono_ms();
    if (wait_hello(c, row, box, err) < 0)
        return -1;
    spent->agent = clock_mono_ms() - began;
    return 0;
}

/* Container and socket go, the row says why. A row that cannot be written stays in its -ING state
 * without an owner: the sweep walks again. */
static void undo_up(struct core *c, const struct sandbox *row, const struct err *why)
{
    const struct runtime *rt = c->p.runtime;
    struct runtime_container seen;
    struct err err;
    char name[2 + ID_LEN + 1] = "s-";
    sandbox_id_lower(&row->id, name + 2);
    link_forget(c->p.link, &row->id);
    if (rt->inspect(rt->self, name, &seen, &err) == 0 && sandbox_id_eq(&seen.id, &row->id) &&
        rt->remove(rt->self, seen.container_id, &err) < 0)
        log_warn("sandbox.undo_failed", KV_STR("id", row->id.text), KV_ERR(&err));
    struct store_move m = { .error_message = why->msg };
    if (core_fire(c, row, SANDBOX_ON_FAILED, &m, NULL, &err) < 0) {
        log_error("sandbox.failure_not_written", KV_STR("id", row->id.text), KV_ERR(&err));
        registry_disown(c->registry, &row->id);
    }
}

static void count_start(struct core *c, const struct core_start *s)
{
    traffic_wake(&c->traffic, WAKE_QUEUE, s->queue);
    traffic_wake(&c->traffic, WAKE_WORKSPACE, s->workspace);
    traffic_wake(&c->traffic, WAKE_ENGINE, s->engine);
    traffic_wake(&c->traffic, WAKE_AGENT, s->agent);
    traffic_wake(&c->traffic, WAKE_SERVICES, s->services);
    traffic_wake(&c->traffic, WAKE_TOTAL, s->total);
}

int core_bring_up(struct core *c, const struct sandbox *row, struct err *err)
{
    struct runtime_image image;
    struct container box = { 0 };
    int64_t began = clock_mono_ms();
    struct progress times = { 0 };
    show_phase(c, row, PHASE_QUEUED);
    int rc = gate_enter(c, err);
    times.spent.queue = clock_mono_ms() - began;
    if (rc == 0) {
        rc = walk_up(c, row, &image, &box, &times.spent, err);
        gate_leave(c);
    }
    if (rc == 0) {
        struct store_move m = { .container_id = box.id,
                                .image_digest = image.digest,
                                .error_message = "",
                                .nofile = box.nofile };
        rc = core_fire(c, row, SANDBOX_ON_STARTED, &m, NULL, err);
    }
    times.spent.total = rc == 0 ? clock_mono_ms() - began + 1 : 0;
    registry_live_update(c->registry, &row->id, note_progress, &times);
    if (rc < 0) {
        /* What the engine misses is not what the caller asked for: that one is there. */
        if (err->code == ERR_NOT_FOUND)
            err->code = ERR_UNAVAILABLE;
        log_warn("sandbox.start_failed", KV_STR("id", row->id.text), KV_ERR(err));
        undo_up(c, row, err);
        return -1;
    }
    volume_touched(c->p.volume, &row->id);
    int64_t running = clock_mono_ms();
    const struct sandbox *up = registry_get(c->registry, &row->id);
    if (up && up->state == SANDBOX_RUNNING)
        supervisor_up(c->supervisor, up);
    core_unref(up);
    times.spent.services = clock_mono_ms() - running;
    times.spent.total += times.spent.services;
    registry_live_update(c->registry, &row->id, note_start, &times.spent);
    count_start(c, &times.spent);
    log_info("sandbox.started", KV_STR("id", row->id.text),
             KV_INT("took_ms", clock_mono_ms() - began));
    return 0;
}

int core_bring_down(struct core *c, const struct sandbox *row, const struct sandbox **ret,
                    struct err *err)
{
    const struct runtime *rt = c->p.runtime;
    if (row->container_id &&
        rt->stop(rt->self, row->container_id, (uint32_t)c->p.config->stop_grace_ms, err) < 0) {
        struct err ignored;
        if (core_fire(c, row, SANDBOX_ON_FAILED, NULL, NULL, &ignored) < 0)
            registry_disown(c->registry, &row->id); /* the sweep ends it */
        return -1;
    }
    if (FAULT("core.stop.after")) {
        registry_disown(c->registry, &row->id);
        return err_set(err, ERR_ENGINE, "fault: stopped");
    }
    supervisor_down(c->supervisor, &row->id);
    link_forget(c->p.link, &row->id);
    volume_touched(c->p.volume, &row->id);
    if (core_fire(c, row, SANDBOX_ON_EXITED, NULL, ret, err) < 0) {
        registry_disown(c->registry, &row->id);
        return -1;
    }
    log_info("sandbox.stopped", KV_STR("id", row->id.text));
    return 0;
}

int core_purge_workspace(struct core *c, const struct sandbox_id *id, uint64_t *ret_freed,
                         struct err *err)
{
    struct store_workspace w = { 0 };
    if (store_workspace_get(c->p.store, id, &w, err) < 0)
        return -1;
    int rc = volume_purge(c->p.volume, id, w.dev, w.ino, ret_freed, err);
    store_workspace_release(&w);
    return rc;
}

int core_finish_delete(struct core *c, const struct sandbox *row, uint64_t *ret_freed,
                       struct err *err)
{
    const struct runtime *rt = c->p.runtime;
    struct runtime_container seen;
    char name[2 + ID_LEN + 1] = "s-";
    sandbox_id_lower(&row->id, name + 2);
    int rc = 0;
    *ret_freed = 0;
    if (row->container_id)
        rc = rt->remove(rt->self, row->container_id, err);
    if (rc == 0) { /* one that was made but never recorded */
        rc = rt->inspect(rt->self, name, &seen, err);
        if (rc == 0 && sandbox_id_eq(&seen.id, &row->id))
            rc = rt->remove(rt->self, seen.container_id, err);
        else if (rc < 0 && err->code == ERR_NOT_FOUND)
            rc = 0;
    }
    if (rc == 0) {
        supervisor_down(c->supervisor, &row->id);
        link_forget(c->p.link, &row->id);
        rc = procs_drop(c->procs, &row->id, err);
        if (rc == 0 && row->purge)
            rc = core_purge_workspace(c, &row->id, ret_freed, err);
        if (rc < 0 && err->code == ERR_NOT_FOUND)
            rc = 0; /* the record went in an earlier try */
    }
    if (rc == 0 && FAULT("core.delete.before_row"))
        rc = err_set(err, ERR_ENGINE, "fault: delete");
    if (rc == 0)
        rc = store_remove(c->p.store, &row->id, row->purge, err);
    if (rc < 0) {
        log_warn("sandbox.delete_failed", KV_STR("id", row->id.text), KV_ERR(err));
        registry_disown(c->registry, &row->id); /* the sweep tries again */
        return -1;
    }
    registry_remove(c->registry, &row->id);
    shares_drop(c->shares, &row->id);
    log_info("sandbox.deleted", KV_STR("id", row->id.text), KV_INT("purged", row->purge));
    return 0;
}
