/* Follows the Engine's event stream on a thread and a connection of its own.
 *
 * RESYNC is said as soon as the stream is open: whoever hears it lists everything. The Engine sends
 * its headers a moment before it subscribes us, so the stream is asked to begin a little in the
 * past; events told twice are harmless, for they are hints to look. A broken stream is dialled
 * again with back-off. */
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/worker.h"
#include "replies.h"
#include "self.h"
#include "spec.h"

#define REPLAY_S 2 /* how far back the stream begins */

struct follow {
    struct docker *d;
    struct splitter splitter;
    bool opened;
};

static void on_object(void *ctx, const struct buf *object)
{
    struct docker *d = ctx;
    struct sandbox_id id;
    enum runtime_event_kind kind;
    if (reply_event(object, d->instance, &id, &kind))
        d->on_event(d->on_event_ctx, kind, &id);
}

static int on_data(void *ctx, const void *data, size_t len, struct err *err)
{
    struct follow *f = ctx;
    return splitter_feed(&f->splitter, data, len, on_object, f->d, err);
}

static void on_opened(void *ctx)
{
    struct follow *f = ctx;
    f->opened = true;
    log_info("engine.events_open");
    f->d->on_event(f->d->on_event_ctx, RUNTIME_EV_RESYNC, NULL);
}

/* One connection until its end. */
static int follow_once(struct follow *f, struct err *err)
{
    AUTO(reply) struct reply reply = REPLY_INIT;
    AUTO(buf) struct buf filter = BUF_INIT(ENGINE_TEXT_MAX);
    char since[24];
    (void)snprintf(since, sizeof since, "%lld",
                   (long long)(clock_wall_ms() / 1000 - REPLAY_S)); /* always fits */
    spec_events_filter(&filter, f->d->instance);
    splitter_reset(&f->splitter);
    const struct call events = {
        .op = OP_EVENTS,
        .args = { since, buf_str(&filter) },
        .sink = on_data,
        .opened = on_opened,
        .ctx = f,
        .cancel = &f->d->events_stop,
    };
    if (engine_call_on(f->d->engine, f->d->events, &events, &reply, err) < 0)
        return -1;
    return err_set(err, ERR_ENGINE, "Docker Engine ended the event stream");
}

static void *follow_main(void *arg)
{
    struct docker *d = arg;
    struct follow f = { .d = d, .splitter = SPLITTER_INIT };
    int wait_ms = ENGINE_BACKOFF_MIN_MS;
    bool told = false; /* an Engine that stays away is logged once */
    while (!atomic_load(&d->events_stop)) {
        struct err err;
        const int64_t begin_ms = clock_mono_ms();
        f.opened = false;
        docker_sweep_seeds(d);
        (void)follow_once(&f, &err); /* endless: it only ever returns with an error */
        if (atomic_load(&d->events_stop))
            break;
        /* One that opens and breaks at once is no better than one that stays away. */
        if (f.opened && clock_mono_ms() - begin_ms >= ENGINE_BACKOFF_MAX_MS)
            wait_ms = ENGINE_BACKOFF_MIN_MS;
        if (f.opened || !told)
            log_warn("engine.events_lost", KV_ERR(&err));
        told = true;
        conn_sleep(d->events, wait_ms);
        wait_ms = wait_ms * 2 < ENGINE_BACKOFF_MAX_MS ? wait_ms * 2 : ENGINE_BACKOFF_MAX_MS;
    }
    buf_release(&f.splitter.object);
    return NULL;
}

int docker_events_start(struct docker *d, runtime_event_fn fn, void *ctx, struct err *err)
{
    d->on_event = fn;
    d->on_event_ctx = ctx;
    d->events = conn_new();
    atomic_store(&d->events_stop, false);
    if (thread_start(follow_main, d, "docker-events", &d->events_thread, err) == 0)
        return 0;
    conn_free(d->events);
    d->events = NULL;
    return -1;
}

void docker_events_stop(struct docker *d)
{
    if (!d->events)
        return;
    atomic_store(&d->events_stop, true);
    conn_wake(d->events);
    thread_join(d->events_thread);
    conn_free(d->events);
    d->events = NULL;
}
