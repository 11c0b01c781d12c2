/* Owns struct docker: what is known of the Engine besides its connections, and our network there.
 *
 * The network is asked for once and then believed in until the Engine was dialled anew or a start
 * says that it is gone; then it is made again. Nothing here is kept across a restart of the daemon.
 */
#include "self.h"

#include <sys/resource.h>

#include "base/cleanup.h"
#include "base/limits.h"
#include "base/str.h"
#include "replies.h"
#include "spec.h"

/* The Engine may be allowed more than we are, but not asking for more than our own hard limit is
 * the best first guess; start() learns the rest. */
static uint32_t own_nofile(void)
{
    struct rlimit limit = { 0 };
    (void)getrlimit(RLIMIT_NOFILE, &limit); /* cannot fail with these arguments */
    return limit.rlim_max < UINT32_MAX ? (uint32_t)limit.rlim_max : UINT32_MAX;
}

static int ping(void *self, char version[32], struct err *err)
{
    struct docker *d = self;
    return engine_ping(d->engine, version, err);
}

/* The name becomes a label, a filter and part of a network's name. */
static bool word(const char *text, size_t max)
{
    static const char letters[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-";
    size_t len = text ? strnlen(text, max + 1) : 0;
    return len > 0 && len <= max && strspn(text, letters) == len && text[0] != '-';
}

int docker_new(const struct docker_options *o, struct docker **ret, struct err *err)
{
    if (!word(o->instance, 64))
        return err_set(err, ERR_INVALID,
                       "the instance's name must be 1 to 64 letters of a-z 0-9 _ . -");
    if (o->network && !word(o->network, 128))
        return err_set(err, ERR_INVALID, "network name: letters, digits, _ . - only");
    if (!o->network && !word(o->bridge, 15))
        return err_set(err, ERR_INVALID, "bridge name: 1 to 15 letters, digits, _ . -");
    struct engine *engine;
    if (engine_new(o->host, &engine, err) < 0)
        return -1;
    struct docker *d = mem_new(1, sizeof *d);
    d->engine = engine;
    d->instance = str_dup(o->instance);
    if (o->network) {
        d->network = str_dup(o->network);
    } else {
        struct buf name = BUF_INIT(128);
        buf_addf(&name, "sandboxed-%s", o->instance);
        d->network = buf_take(&name);
        d->bridge = str_dup(o->bridge);
    }
    uint8_t nonce[8];
    random_bytes(nonce, sizeof nonce);
    hex_encode(nonce, sizeof nonce, d->boot);
    mu_init(&d->network_mu, MU_DOCKER);
    cond_init(&d->network_done);
    atomic_store(&d->nofile_max, own_nofile());
    d->port = (struct runtime){
        .self = d,
        .ping = ping,
        .image = docker_image,
        .image_archive = docker_image_archive,
        .create = docker_create,
        .start = docker_start,
        .stop = docker_stop,
        .remove = docker_remove,
        .pause = docker_pause,
        .unpause = docker_unpause,
        .rename = docker_rename,
        .inspect = docker_inspect,
        .inspect_json = docker_inspect_json,
        .list = docker_list,
    };
    *ret = d;
    return 0;
}

void docker_free(struct docker *d)
{
    if (!d)
        return;
    docker_events_stop(d);
    engine_free(d->engine);
    cond_release(&d->network_done);
    mu_release(&d->network_mu);
    free(d->instance);
    free(d->network);
    free(d->bridge);
    free(d);
}

const struct runtime *docker_runtime(struct docker *d)
{
    return &d->port;
}

static int network_look(struct docker *d, struct reply *reply, struct err *err)
{
    const struct call look = { .op = OP_NETWORK, .args = { d->network } };
    if (engine_call(d->engine, &look, reply, err) < 0)
        return -1;
    return d->bridge ? reply_network(&reply->body, d->instance, err) : 0;
}

static int network_make(struct docker *d, struct reply *reply, struct err *err)
{
    AUTO(buf) struct buf body = BUF_INIT(4 * KIB);
    spec_network(&body, d->network, d->bridge, d->instance);
    if (buf_done(&body, err) < 0)
        return -1;
    const struct call make = { .op = OP_NETWORK_CREATE, .body = buf_str(&body) };
    if (engine_call(d->engine, &make, reply, err) == 0)
        return 0;
    if (reply->status == 409) /* somebody else made it just now */
        return network_look(d, reply, err);
    if (reply->status != 0)
        (void)reply_cause(&reply->body, "the sandboxes' network could not be made", err);
    return -1;
}

static int network_find(struct docker *d, struct err *err)
{
    AUTO(reply) struct reply reply = REPLY_INIT;
    const unsigned generation = engine_generation(d->engine);
    if (atomic_load(&d->network_seen) == generation + 1)
        return 0;
    if (network_look(d, &reply, err) < 0) {
        if (reply.status != 404)
            return -1;
        if (!d->bridge) {
            (void)err_set(err, ERR_ENGINE, "network %s does not exist", d->network);
            return err_remedy(err, "Create it with inter-container traffic off, or let sandboxd "
                                   "make its own by not naming one.");
        }
        if (network_make(d, &reply, err) < 0)
            return -1;
    }
    atomic_store(&d->network_seen, generation + 1);
    return 0;
}

int docker_network_ensure(struct docker *d, struct err *err)
{
    if (atomic_load(&d->network_seen) == engine_generation(d->engine) + 1)
        return 0;
    /* One at a time: while the Engine makes a network it knows the bridge but not yet the name, and
     * would refuse a second one with words that sound like a stranger's. */
    mu_lock(&d->network_mu);
    while (d->network_busy)
        cond_wait(&d->network_done, &d->network_mu);
    d->network_busy = true;
    mu_unlock(&d->network_mu);
    int r = network_find(d, err);
    mu_lock(&d->network_mu);
    d->network_busy = false;
    cond_signal(&d->network_done);
    mu_unlock(&d->network_mu);
    return r;
}

int docker_describe(struct docker *d, struct buf *out, struct err *err)
{
    AUTO(reply) struct reply version = REPLY_INIT;
    AUTO(reply) struct reply info = REPLY_INIT;
    if (engine_call(d->engine, &(struct call){ .op = OP_VERSION }, &version, err) < 0 ||
        engine_call(d->engine, &(struct call){ .op = OP_INFO }, &info, err) < 0)
        return -1;
    return reply_describe(&version.body, &info.body, out, err);
}
