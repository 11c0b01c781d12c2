/* What the edge knows about a sandbox, and the way from a request to its app.
 *
 * The row decides, each time anew: an app is dialled only while its row says RUNNING, and after
 * the connect row, epoch and port are looked at again, so that a connection never belongs to who
 * got the address next (T-60). One wake a sandbox is under way at a time; who waits for it is held
 * in the box. The row is read from memory; what the box keeps is valid for one epoch. */
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/str.h"
#include "inside.h"
#include "jobs.h"

#define PORT_SLICE_MS 1000 /* a thread waits so long for a port, then the loop looks anew */

/* --- the table --- */

static struct box **slot_of(struct edge *e, const struct sandbox_id *id)
{
    uint32_t h = 2166136261u;
    for (size_t i = 0; i < ID_LEN; i++)
        h = (h ^ (unsigned char)id->text[i]) * 16777619u;
    struct box **at = &e->boxes[h & (BOXES - 1)];
    while (*at && !sandbox_id_eq(&(*at)->id, id))
        at = &(*at)->next;
    return at;
}

struct box *box_of(struct edge *e, const struct sandbox_id *id)
{
    struct box **at = slot_of(e, id);
    if (*at)
        return *at; /* cppcheck-suppress identicalInnerCondition ; a value, not a condition */
    struct box *b = mem_new(1, sizeof *b);
    b->id = *id;
    *at = b;
    e->n_boxes++;
    return b;
}

void box_enter(struct box *b, struct client *c)
{
    c->box = b;
    c->box_prev = NULL;
    c->box_next = b->clients;
    if (b->clients)
        b->clients->box_prev = c;
    b->clients = c;
    c->e->n_entered++;
    if (b->n_clients++ == 0)
        core_use_begin(c->e->core, &b->id);
}

void box_leave(struct client *c)
{
    struct box *b = c->box;
    if (!b)
        return;
    if (c->box_next)
        c->box_next->box_prev = c->box_prev;
    if (c->box_prev)
        c->box_prev->box_next = c->box_next;
    else
        b->clients = c->box_next;
    c->box = NULL;
    c->e->n_entered--;
    if (--b->n_clients == 0)
        core_use_end(c->e->core, &b->id);
}

void box_sweep(struct edge *e)
{
    for (size_t i = 0; i < BOXES; i++)
        for (struct box **at = &e->boxes[i]; *at;) {
            struct box *b = *at;
            for (struct upstream *u = b->idle, *next; u; u = next) {
                next = u->next;
                if (e->now_ms - u->since_ms > EDGE_UPSTREAM_IDLE_MS)
                    upstream_close(e, u);
            }
            bool told = b->failure[0] && e->now_ms - b->failed_at_ms < EDGE_FAILURE_MS;
            if (b->clients || b->idle || b->jobs > 0 || told) {
                at = &b->next;
                continue;
            }
            *at = b->next;
            free(b);
            e->n_boxes--;
        }
}

void box_free_all(struct edge *e)
{
    for (size_t i = 0; i < BOXES; i++)
        while (e->boxes[i]) {
            struct box *b = e->boxes[i];
            e->boxes[i] = b->next;
            upstream_drop_idle(e, b);
            free(b);
        }
    e->n_boxes = 0;
}

/* --- jobs --- */

static struct job *job_new(struct box *b, enum job_kind kind)
{
    struct job *j = mem_new(1, sizeof *j);
    j->kind = kind;
    j->id = b->id;
    b->jobs++;
    return j;
}

/* false: the pool is full. */
static bool job_go(struct edge *e, struct box *b, struct job *j)
{
    struct err err;
    if (job_start(e, j, &err) == 0)
        return true;
    b->jobs--;
    return false;
}

void box_wake(struct edge *e, struct box *b)
{
    if (b->waking)
        return;
    b->failure[0] = '\0';
    b->waking = job_go(e, b, job_new(b, JOB_WAKE));
}

static void wait_for_port(struct edge *e, struct box *b, uint16_t port, int64_t until_ms)
{
    if (b->porting)
        return;
    struct job *j = job_new(b, JOB_PORT);
    j->port = port;
    j->deadline_ms = e->now_ms + PORT_SLICE_MS;
    if (j->deadline_ms > until_ms)
        j->deadline_ms = until_ms;
    b->porting = job_go(e, b, j);
}

/* A box is in one epoch at a time; what it knew of the last one is void. */
static void set_epoch(struct edge *e, struct box *b, uint32_t epoch)
{
    if (b->epoch == epoch)
        return;
    b->epoch = epoch;
    b->has_address = false;
    upstream_drop_idle(e, b);
}

static bool set_address(struct box *b, const char *text)
{
    struct in6_addr a;
    struct sockaddr_in *four = (void *)&b->address;
    struct sockaddr_in6 *six = (void *)&b->address;
    b->address = (struct sockaddr_storage){ 0 };
    if (!address_parse(text, &a) || address_loopback(&a)) /* ours, never a sandbox's */
        return false;
    if (IN6_IS_ADDR_V4MAPPED(&a)) {
        four->sin_family = AF_INET;
        memcpy(&four->sin_addr, a.s6_addr + 12, sizeof four->sin_addr);
    } else {
        six->sin6_family = AF_INET6;
        six->sin6_addr = a;
    }
    return true;
}

static void wake_done(struct edge *e, struct box *b, const struct job *j)
{
    b->waking = false;
    if (j->ok) {
        set_epoch(e, b, j->epoch);
        b->has_address = set_address(b, j->address);
        box_seek_all(b);
        return;
    }
    if (j->err.code == ERR_CONFLICT) /* others were at it: the next tick looks again */
        return;
    (void)str_copy(b->failure, sizeof b->failure, j->err.msg);
    b->failed_at_ms = e->now_ms;
    for (struct client *c = b->clients, *next; c; c = next) {
        next = c->box_next;
        if (c->state == CLIENT_WAIT && !c->up_to)
            answer_err(c, &j->err);
    }
}

static struct client *waiting(const struct box *b, uint64_t exchange)
{
    for (struct client *c = b->clients; c; c = c->box_next)
        if (c->number == exchange)
            return c;
    return NULL;
}

static void connect_done(struct box *b, struct job *j)
{
    struct client *c = waiting(b, j->exchange);
    b->connects--;
    if (c)
        c->connecting = false;
    if (!c || c->state != CLIENT_WAIT || j->epoch != b->epoch) {
        if (j->fd >= 0) {
            upstream_never_linger(j->fd);
            (void)close(j->fd);
        }
        if (c)
            edge_again(c);
    } else if (j->fd < 0) {
        exchange_lost(c, "refused the connection");
    } else {
        c->up_to = upstream_new(b, c, j->fd, false);
        exchange_connected(c);
    }
}

static void redeem_done(struct box *b, const struct job *j)
{
    struct client *c = waiting(b, j->exchange);
    if (c && c->state == CLIENT_WAIT)
        access_redeemed(c, j->ok ? j->cookie : NULL, j->until_ms);
}

void box_job_done(struct edge *e, struct job *j)
{
    struct box *b = *slot_of(e, &j->id); /* there: jobs keep it */
    b->jobs--;
    if (j->kind == JOB_WAKE) {
        wake_done(e, b, j);
    } else if (j->kind == JOB_PORT) {
        b->porting = false;
        if (j->ok) /* else the tick looks again: an agent that is away answers at once */
            box_seek_all(b);
    } else if (j->kind == JOB_CONNECT) {
        connect_done(b, j);
    } else {
        redeem_done(b, j);
    }
    free(j);
}

/* --- ports --- */

/* Does it listen, as the agent last said? */
static bool port_listens(struct edge *e, const struct sandbox_id *id, uint16_t port,
                         bool *ret_loopback)
{
    struct link_port ports[LINK_PORTS_MAX];
    size_t n = core_ports(e->core, id, ports, LINK_PORTS_MAX);
    for (size_t i = 0; i < n; i++)
        if (ports[i].port == port) {
            *ret_loopback = ports[i].loopback;
            return true;
        }
    return false;
}

const char *box_phase(struct edge *e, const struct sandbox *row, uint16_t port)
{
    bool loopback;
    char why[HEALTH_WHY_MAX];
    if (row->state == SANDBOX_RUNNING && !port_listens(e, &row->id, port, &loopback))
        return "port";
    if (row->state == SANDBOX_RUNNING)
        return core_unhealthy(e->core, &row->id, port, why) ? "health" : "ready";
    switch (core_phase(e->core, &row->id)) {
    case PHASE_WORKSPACE:
        return "workspace";
    case PHASE_ENGINE:
        return "engine";
    case PHASE_AGENT:
        return "agent";
    default:
        return "waiting";
    }
}

static void answer_no_port(struct client *c)
{
    struct link_port ports[LINK_PORTS_MAX];
    char title[48], text[600], trouble[200];
    size_t n = core_ports(c->e->core, &c->route.id, ports, LINK_PORTS_MAX), used = 0;
    core_port_trouble(c->e->core, &c->route.id, c->route.port, trouble, sizeof trouble);
    (void)snprintf(title, sizeof title, "Nothing listens on port %u", c->route.port);
    used += (size_t)snprintf(text, sizeof text, "%s%s", trouble, trouble[0] ? " " : "");
    if (n == 0)
        used += (size_t)snprintf(text + used, sizeof text - used, "No port listens at all.");
    for (size_t i = 0; i < n && used < sizeof text - 16; i++)
        used += (size_t)snprintf(text + used, sizeof text - used, "%s%u",
                                 i ? ", " : "Ports that listen: ", ports[i].port);
    answer(c,
           &(struct answer){
               .status = 502, .code = "port_closed", .title = title, .text = text, .retry_s = 1 });
}

static void answer_unhealthy(struct client *c, const char *why)
{
    char text[HEALTH_WHY_MAX + 8];
    (void)snprintf(text, sizeof text, "%s.", why);
    answer(c, &(struct answer){ .status = 503,
                                .code = "unhealthy",
                                .title = "The app runs, but is not healthy yet",
                                .text = text,
                                .retry_s = 1,
                                .reason = "unhealthy" });
}

/* Until when may the port begin to listen, and its service get well? */
static int64_t port_deadline(const struct client *c, const struct sandbox *row)
{
    int64_t after_ask = c->port_asked_ms + EDGE_PORT_GRACE_MS;
    int64_t up_ms = clock_wall_ms() - row->up_since_ms;
    int64_t after_start = c->e->now_ms - (up_ms > 0 ? up_ms : 0) + c->e->config->port_wait_ms;
    int64_t until = after_ask > after_start ? after_ask : after_start;
    return until < c->hold_until_ms ? until : c->hold_until_ms;
}

/* --- dialling --- */

static void dial_agent(struct client *c, struct box *b)
{
    if (b->connects >= EDGE_CONNECTS_MAX) /* the next one done, or the tick, looks again */
        return;
    struct job *j = job_new(b, JOB_CONNECT);
    j->port = c->route.port;
    j->epoch = b->epoch;
    j->exchange = c->number;
    j->deadline_ms = c->e->now_ms + EDGE_CONNECT_MS;
    if (!job_go(c->e, b, j))
        return;
    b->connects++;
    c->connecting = true;
}

static void dial_address(struct client *c, struct box *b)
{
    struct sockaddr_storage to = b->address;
    bool six = to.ss_family == AF_INET6;
    if (six)
        ((struct sockaddr_in6 *)(void *)&to)->sin6_port = htons(c->route.port);
    else
        ((struct sockaddr_in *)(void *)&to)->sin_port = htons(c->route.port);
    int fd = socket(to.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        exchange_lost(c, "could not be dialled");
        return;
    }
    int rc = connect(fd, (const struct sockaddr *)&to,
                     six ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in));
    if (rc < 0 && errno != EINPROGRESS) {
        (void)close(fd);
        exchange_lost(c, "refused the connection");
        return;
    }
    c->up_to = upstream_new(b, c, fd, true);
    if (!c->up_to)
        exchange_lost(c, "could not be dialled");
}

/* Only a request that may be sent twice goes over a connection that the app may be closing just
 * now; the others get a fresh one. */
static bool dial_idle(struct client *c, struct box *b)
{
    if (!c->idempotent || !c->request.done || !c->up.whole || c->attempts > 0)
        return false;
    c->up_to = upstream_idle(c->e, b, c->route.port);
    if (!c->up_to)
        return false;
    c->up_to->client = c;
    client_set(c, CLIENT_OPEN);
    edge_again(c);
    return true;
}

/* --- seeking --- */

/* The row is not RUNNING: wake it, or say why not. */
static void seek_wake(struct client *c, struct box *b, const struct sandbox *row)
{
    struct edge *e = c->e;
    if (row->state == SANDBOX_ERROR) {
        answer(c, &(struct answer){ .status = 503,
                                    .code = "sandbox_error",
                                    .title = "This sandbox could not be started",
                                    .text = row->error_message });
        return;
    }
    if (row->state == SANDBOX_DELETING) {
        answer(c, &(struct answer){ .status = 410,
                                    .code = "sandbox_gone",
                                    .title = "This sandbox is being deleted" });
        return;
    }
    if (c->prefetch) {
        answer(c, &(struct answer){ .status = 503,
                                    .code = "asleep",
                                    .title = "Asleep; a prefetch does not wake it",
                                    .retry_s = 1 });
        return;
    }
    if (!b->waking && sandbox_state_settled(row->state) && c->visitor &&
        !visitor_wake(&e->visitors, c->visitor, e->now_ms)) {
        answer(c, &(struct answer){ .status = 503,
                                    .code = "too_many_wakes",
                                    .title = "Too many sandboxes were woken from your address",
                                    .retry_s = 30,
                                    .reason = "wakes_refused" });
        return;
    }
    box_wake(e, b);
}

static void seek_running(struct client *c, struct box *b, const struct sandbox *row)
{
    struct edge *e = c->e;
    bool loopback = false;
    set_epoch(e, b, row->epoch);
    if (dial_idle(c, b))
        return;
    if (!b->has_address) { /* the wake of one that runs already asks for it */
        box_wake(e, b);
        return;
    }
    char why[HEALTH_WHY_MAX];
    if (!core_agent_there(e->core, &row->id)) /* a daemon that has just begun knows of no ports */
        c->port_asked_ms = e->now_ms;
    int64_t until = port_deadline(c, row);
    bool listens = port_listens(e, &row->id, c->route.port, &loopback);
    bool ill = listens && core_unhealthy(e->core, &row->id, c->route.port, why);
    if ((!listens || c->refused || ill) && e->now_ms >= until) {
        if (ill)
            answer_unhealthy(c, why);
        else
            answer_no_port(c);
        return;
    }
    if (!listens || ill)
        wait_for_port(e, b, c->route.port, until);
    else if (e->now_ms < c->retry_at_ms)
        return;
    else if (loopback)
        dial_agent(c, b);
    else
        dial_address(c, b);
}

void box_seek(struct client *c)
{
    struct edge *e = c->e;
    struct box *b = c->box;
    const struct sandbox *row = NULL;
    struct err err;
    if (c->state != CLIENT_WAIT || c->up_to || c->connecting)
        return;
    if (core_find(e->core, &c->route.id, &row, &err) < 0) {
        answer_err(c, &err);
        return;
    }
    if (!access_still(c, row))
        answer(c, &(struct answer){
                      .status = 401, .code = "private", .title = "This preview is private" });
    else if (row->state == SANDBOX_RUNNING)
        seek_running(c, b, row);
    else if (!b->waking)
        seek_wake(c, b, row);
    if (e->config->edge_log && c->state == CLIENT_WAIT && !c->up_to && !c->connecting)
        c->held_in = box_phase(e, row, c->route.port);
    core_unref(row);
}

void box_seek_all(struct box *b)
{
    for (struct client *c = b->clients, *next; c; c = next) {
        next = c->box_next;
        box_seek(c);
    }
}

/* --- review --- */

static bool same_run(const struct sandbox *row, uint32_t epoch)
{
    switch (row->state) {
    case SANDBOX_RUNNING:
    case SANDBOX_PAUSING:
    case SANDBOX_PAUSED: /* connections outlive a freeze */
    case SANDBOX_RESUMING:
    case SANDBOX_STOPPING: /* it may end what it does; the kernel closes the rest */
        return row->epoch == epoch;
    default:
        return false;
    }
}

bool box_pinned(struct edge *e, const struct box *b, uint16_t port, uint32_t epoch)
{
    const struct sandbox *row = NULL;
    struct err err;
    bool loopback;
    if (core_find(e->core, &b->id, &row, &err) < 0)
        return false;
    bool same = row->state == SANDBOX_RUNNING && row->epoch == epoch && b->epoch == epoch;
    core_unref(row);
    return same && port_listens(e, &b->id, port, &loopback);
}

/* On the loop's clock; a little early, for what came while it was being frozen. */
static int64_t frozen_at_ms(const struct edge *e, const struct sandbox *row)
{
    return e->now_ms - (clock_wall_ms() - row->updated_at_ms) - EDGE_REVIEW_MS;
}

void box_review(struct edge *e, struct box *b)
{
    const struct sandbox *row = NULL;
    struct err err;
    bool thaw = false;
    if (core_find(e->core, &b->id, &row, &err) < 0)
        row = NULL;
    if (!row || row->state != SANDBOX_RUNNING || row->epoch != b->epoch)
        upstream_drop_idle(e, b);
    for (struct client *c = b->clients, *next; c; c = next) {
        next = c->box_next;
        if (c->state != CLIENT_OPEN || !c->up_to)
            continue;
        if (!row || !same_run(row, c->up_to->epoch))
            exchange_lost(c, "was stopped");
        else if (!access_still(c, row))
            exchange_cut(c);
        else if (row->state == SANDBOX_PAUSED)
            /* somebody froze it under an exchange: who waits for an answer needs it thawed */
            thaw = thaw || !c->upgraded || c->gave_ms >= frozen_at_ms(e, row);
    }
    if (b->clients && row)
        core_touch(e->core, &b->id);
    if (thaw)
        box_wake(e, b);
    core_unref(row);
}

void access_redeem(struct client *c)
{
    struct job *j = job_new(c->box, JOB_REDEEM);
    j->port = c->route.port;
    j->exchange = c->number;
    (void)str_copy(j->code, sizeof j->code, c->code);
    c->connecting = job_go(c->e, c->box, j);
    if (!c->connecting)
        access_redeemed(c, NULL, 0);
}
