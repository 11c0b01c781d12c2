/* Background work. One thread makes rows and containers agree: the whole comparison at boot and
 * every sweep interval, single sandboxes as the engine's events name them. Another writes noted
 * activity, a third measures workspaces, a fourth puts idle sandboxes to sleep. Each is a tick; a
 * failure is logged and tried again with back-off. */
#include "work/work.h"

#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mu.h"
#include "base/str.h"
#include "base/worker.h"

#define FLUSH_MS 5000
#define RETRY_MS 1000 /* after a failed comparison: the engine is away */
#define EVENTS_QUEUE \
    256 /* distinct sandboxes waiting for a look; more: one whole comparison instead */

struct work {
    struct core *core;
    struct docker *docker;
    int64_t sweep_ms;
    int64_t reap_ms;
    struct worker *reconciler, *flusher, *measurer, *remover, *reaper;
    struct mu lock;
    struct sandbox_id queue[EVENTS_QUEUE] GUARDED_BY(lock);
    size_t queued GUARDED_BY(lock);
    bool resync GUARDED_BY(lock);
    bool booted;          /* the reconciler's own */
    int64_t sweep_due_ms; /* the reconciler's own */
};

static void on_event(void *ctx, enum runtime_event_kind kind, const struct sandbox_id *id)
{
    struct work *w = ctx;
    if (kind == RUNTIME_EV_SIGNALLED) {
        core_signalled(w->core, id);
        return;
    }
    mu_lock(&w->lock);
    if (kind == RUNTIME_EV_RESYNC) {
        w->resync = true;
    } else {
        size_t i = 0;
        while (i < w->queued && !sandbox_id_eq(&w->queue[i], id))
            i++;
        if (i == EVENTS_QUEUE)
            w->resync = true;
        else if (i == w->queued)
            w->queue[w->queued++] = *id;
    }
    mu_unlock(&w->lock);
    worker_wake(w->reconciler);
}

static bool next_id(struct work *w, struct sandbox_id *ret)
{
    mu_lock(&w->lock);
    bool any = w->queued > 0;
    if (any)
        *ret = w->queue[--w->queued];
    mu_unlock(&w->lock);
    return any;
}

static bool take_resync(struct work *w)
{
    mu_lock(&w->lock);
    bool resync = w->resync;
    w->resync = false;
    mu_unlock(&w->lock);
    return resync;
}

static int64_t reconcile_tick(void *ctx, int64_t mono_ms)
{
    struct work *w = ctx;
    struct sandbox_id id;
    struct err err;
    bool resync = take_resync(w);
    if (!w->booted || resync || mono_ms >= w->sweep_due_ms) {
        if (core_reconcile(w->core, !w->booted, &err) < 0) {
            log_warn("reconcile.failed", KV_ERR(&err));
            w->sweep_due_ms = mono_ms + RETRY_MS;
            return RETRY_MS;
        }
        if (!w->booted)
            log_info("reconcile.done", KV_INT("took_ms", clock_mono_ms() - mono_ms));
        w->booted = true;
        w->sweep_due_ms = clock_mono_ms() + w->sweep_ms;
    }
    while (next_id(w, &id))
        if (core_reconcile_one(w->core, &id, &err) < 0)
            log_warn("reconcile.row_failed", KV_STR("id", id.text), KV_ERR(&err));
    int64_t left = w->sweep_due_ms - clock_mono_ms();
    return left < 1 ? 1 : left;
}

static int64_t flush_tick(void *ctx, int64_t mono_ms)
{
    struct work *w = ctx;
    struct err err;
    (void)mono_ms;
    if (core_flush(w->core, &err) < 0)
        log_warn("activity.flush_failed", KV_ERR(&err));
    return FLUSH_MS;
}

static int64_t reap_tick(void *ctx, int64_t mono_ms)
{
    struct work *w = ctx;
    struct err err;
    (void)mono_ms;
    if (core_ready(w->core, &err) == 0) /* not before rows and containers were compared */
        core_sleep_round(w->core);
    return w->reap_ms;
}

int work_start(struct core *core, struct docker *docker, struct volume *volume,
               const struct config *config, struct work **ret, struct err *err)
{
    struct work *w = mem_new(1, sizeof *w);
    w->core = core;
    w->docker = docker;
    w->sweep_ms = config->sweep_ms;
    w->reap_ms = config->reap_ms;
    mu_init(&w->lock, MU_WORK);
    w->reconciler = worker_start("reconciler", reconcile_tick, w, err);
    if (!w->reconciler)
        goto undo;
    w->flusher = worker_start("flusher", flush_tick, w, err);
    if (!w->flusher)
        goto undo;
    w->measurer = worker_start("measurer", volume_measure_tick, volume, err);
    if (!w->measurer)
        goto undo;
    w->remover = worker_start("remover", volume_trash_tick, volume, err);
    if (!w->remover)
        goto undo;
    w->reaper = worker_start("reaper", reap_tick, w, err);
    if (!w->reaper)
        goto undo;
    if (docker_events_start(docker, on_event, w, err) < 0)
        goto undo;
    *ret = w;
    return 0;
undo:
    worker_stop(w->reaper);
    worker_stop(w->remover);
    worker_stop(w->measurer);
    worker_stop(w->flusher);
    worker_stop(w->reconciler);
    mu_release(&w->lock);
    free(w);
    return -1;
}

void work_stop(struct work *w)
{
    struct err err;
    if (!w)
        return;
    docker_events_stop(w->docker);
    worker_stop(w->reaper);
    worker_stop(w->remover);
    worker_stop(w->measurer);
    worker_stop(w->flusher);
    worker_stop(w->reconciler);
    if (core_flush(w->core, &err) < 0)
        log_warn("activity.flush_failed", KV_ERR(&err));
    mu_release(&w->lock);
    free(w);
}
