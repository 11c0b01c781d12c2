/* One exchange: bytes from client to app and back, both ways at once.
 *
 * Four buffers and two parsers between two sockets. Each step moves what it can and says whether it
 * moved anything; steps are repeated until none does, so their order does not matter. A side that
 * is slow fills its buffer, and the other is not read any more. Of the request all that was sent is
 * kept while it fits the buffer and nothing was answered: then it can be sent once more. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "base/limits.h"
#include "base/str.h"
#include "inside.h"

#define STEPS_MAX 32    /* then others get their turn */
#define HEAD_SLACK 1024 /* our lines in a head that is passed on */

/* --- its end --- */

void exchange_end(struct client *c)
{
    account_over(c);
    if (c->up_to)
        upstream_close(c->e, c->up_to);
    box_leave(c);
    if (c->visitor) {
        visitor_close(c->visitor);
        c->visitor = NULL;
    }
    free(c->location);
    c->location = NULL;
    c->code[0] = '\0';
    buffer_release(&c->up);
    buffer_release(&c->back);
    c->right = RIGHT_PUBLIC;
    c->navigation = c->prefetch = c->upgrade = c->upgraded = c->begun = c->answered = false;
    c->app_ended = c->app_broken = c->app_deaf = c->app_keeps = c->endless = c->connecting = false;
    c->refused = false;
    c->interims = c->attempts = 0;
    c->retry_at_ms = c->head_began_ms = 0;
}

void exchange_cut(struct client *c)
{
    struct linger reset = { .l_onoff = 1 };
    (void)sock_write(&c->s, &c->down); /* what the app did say */
    if (c->old)                        /* a plain end would pass for the end of the body */
        (void)setsockopt(c->s.fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    client_close(c);
}

/* The sandbox is in another life than the one that was asked. */
static bool has_moved_on(struct client *c, uint32_t epoch)
{
    const struct sandbox *row = NULL;
    struct err err;
    if (core_find(c->e->core, &c->route.id, &row, &err) < 0)
        return true;
    bool moved = row->state != SANDBOX_RUNNING || row->epoch != epoch;
    core_unref(row);
    return moved;
}

static void bad_gateway(struct client *c, const char *how)
{
    char text[160];
    (void)snprintf(text, sizeof text, "The app on port %u %s.", c->route.port, how);
    answer(c, &(struct answer){ .status = 502,
                                .code = "bad_gateway",
                                .title = "The app did not answer properly",
                                .text = text,
                                .close = true });
}

void exchange_lost(struct client *c, const char *how)
{
    struct upstream *u = c->up_to;
    bool reused = u && u->reused;
    bool sent = u && !u->connecting && (c->up.start > 0 || !c->up.whole);
    bool moved = has_moved_on(c, u ? u->epoch : c->box->epoch);
    if (c->begun) {
        exchange_cut(c);
        return;
    }
    if (u)
        upstream_close(c->e, u);
    c->attempts++;
    buffer_release(&c->back);
    c->head_began_ms = 0;
    c->app_ended = c->app_broken = c->app_deaf = false;
    bool twice = c->up.whole && c->idempotent && c->attempts < EDGE_ATTEMPTS_MAX;
    if (!sent || (twice && (reused || moved))) {
        buffer_rewind(&c->up);
        if (sent) { /* a first request once more */
            c->asked_ms = c->port_asked_ms = c->e->now_ms;
            c->hold_until_ms = c->asked_ms + c->e->config->wake_hold_ms;
        } else {
            c->refused = true;
            c->retry_at_ms = c->e->now_ms + EDGE_TICK_MS;
        }
        client_set(c, CLIENT_WAIT);
        box_seek(c);
    } else if (moved) {
        answer(c, &(struct answer){ .status = 503,
                                    .code = "sandbox_stopped",
                                    .title = "The sandbox stopped while it worked on this request",
                                    .retry_s = 1,
                                    .close = true });
    } else {
        bad_gateway(c, how);
    }
}

void exchange_connected(struct client *c)
{
    struct upstream *u = c->up_to;
    int sys = 0;
    socklen_t size = sizeof sys;
    if (!u) {
        exchange_lost(c, "could not be dialled");
        return;
    }
    if (u->connecting && getsockopt(u->s.fd, SOL_SOCKET, SO_ERROR, &sys, &size) == 0 && sys != 0) {
        exchange_lost(c, "refused the connection");
        return;
    }
    if (!box_pinned(c->e, c->box, u->port, u->epoch)) {
        u->connecting = true; /* nothing was sent: it is looked for anew */
        exchange_lost(c, "went away");
        return;
    }
    u->connecting = false;
    u->s.readable = u->s.writable = true;
    client_set(c, CLIENT_OPEN);
    c->active_ms = c->took_ms = c->gave_ms = c->e->now_ms;
    edge_again(c);
}

/* --- from the client --- */

static bool pull_client(struct client *c)
{
    bool wanted = c->state == CLIENT_IDLE || c->state == CLIENT_HEAD || c->upgraded ||
                  ((c->state == CLIENT_WAIT || c->state == CLIENT_OPEN) && !c->request.done);
    if (!wanted || c->eof)
        return false;
    switch (sock_read(&c->s, &c->in)) {
    case IO_SOME:
        c->active_ms = c->gave_ms = c->e->now_ms;
        return true;
    case IO_END:
        c->eof = true;
        return true;
    case IO_BROKEN:
        client_close(c);
        return true;
    default:
        return false;
    }
}

static bool move(struct buffer *from, struct buffer *to)
{
    size_t n = buffer_len(from), room = buffer_room(to);
    if (n > room)
        n = room;
    if (n == 0)
        return false;
    (void)buffer_add(to, buffer_at(from), n);
    buffer_drop(from, n);
    return true;
}

static bool feed_request(struct client *c)
{
    size_t used = 0;
    if (c->state != CLIENT_WAIT && c->state != CLIENT_OPEN)
        return false;
    if (c->upgraded) {
        size_t before = buffer_len(&c->in);
        bool moved = move(&c->in, &c->up);
        account_bytes(c, before - buffer_len(&c->in), 0);
        return moved;
    }
    if (c->request.done || (c->app_deaf && !c->answered))
        return false;
    if (body_feed(&c->request, buffer_at(&c->in), buffer_len(&c->in), &used) < 0) {
        if (c->begun)
            exchange_cut(c);
        else
            answer(c, &(struct answer){ .status = 400,
                                        .code = "bad_request",
                                        .title = "The request's body is malformed",
                                        .close = true });
        return true;
    }
    buffer_drop(&c->in, used);
    account_bytes(c, used, 0);
    if (c->app_deaf) /* it has answered and takes no more: read to the end of the message */
        buffer_release(&c->up);
    if (c->eof && !c->request.done && used == 0 &&
        (buffer_len(&c->in) == 0 || buffer_room(&c->up) == EDGE_BUFFER)) {
        client_close(c); /* it left in the middle */
        return true;
    }
    return used > 0;
}

static bool take_request(struct client *c)
{
    if (c->state != CLIENT_IDLE && c->state != CLIENT_HEAD)
        return false;
    if (client_take(c))
        return true;
    if (c->eof)
        client_close(c);
    return c->eof;
}

/* --- to and from the app --- */

static bool push_app(struct client *c)
{
    struct upstream *u = c->up_to;
    if (c->state != CLIENT_OPEN || !u || c->app_deaf)
        return false;
    switch (sock_write(&u->s, &c->up)) {
    case IO_SOME:
        c->active_ms = c->e->now_ms;
        return true;
    case IO_BROKEN:
        c->app_deaf = true; /* it may have answered before: read first */
        u->s.readable = true;
        return true;
    default:
        break;
    }
    if (c->upgraded && c->eof && !u->shut && buffer_len(&c->in) == 0 && buffer_len(&c->up) == 0) {
        u->shut = true;
        (void)shutdown(u->s.fd, SHUT_WR); /* broken: reading tells */
        return true;
    }
    return false;
}

static bool pull_app(struct client *c)
{
    struct upstream *u = c->up_to;
    if (c->state != CLIENT_OPEN || !u || c->app_ended ||
        (c->response.done && c->answered && !c->upgraded))
        return false;
    switch (sock_read(&u->s, &c->back)) {
    case IO_SOME:
        c->active_ms = c->e->now_ms;
        c->up.whole = false;
        if (buffer_len(&c->down) == 0) /* its time to take it begins now */
            c->took_ms = c->e->now_ms;
        if (!c->head_began_ms)
            c->head_began_ms = c->e->now_ms;
        return true;
    case IO_BROKEN:
        c->app_broken = true;
        c->app_ended = true;
        return true;
    case IO_END:
        c->app_ended = true;
        return true;
    default:
        return false;
    }
}

/* --- answers --- */

static bool app_keeps(const struct head *h)
{
    return h->minor > 0 ? !head_lists(h, "connection", "close")
                        : head_lists(h, "connection", "keep-alive");
}

static bool pass_interim(struct client *c, const struct head *h)
{
    if (++c->interims > EDGE_INTERIM_MAX) {
        exchange_lost(c, "sent nothing but interim answers");
        return false;
    }
    c->head_began_ms = 0;
    return c->old || rewrite_response(&c->down, h, NULL, false, false);
}

static bool pass_upgrade(struct client *c, const struct head *h)
{
    if (!c->upgrade) {
        exchange_lost(c, "switched protocols without being asked");
        return false;
    }
    c->upgraded = c->answered = c->begun = true;
    c->response.done = true;
    c->status = h->status;
    account_upgraded(c);
    return rewrite_response(&c->down, h, "Upgrade", false, false);
}

static bool pass_final(struct client *c, const struct head *h, size_t size)
{
    struct framing f;
    bool more, no_body = c->is_head || h->status == 204 || h->status == 304;
    if (head_framing(h, &f) < 0) {
        exchange_lost(c, "sent an answer whose length is unclear");
        return false;
    }
    bool to_close = !no_body && !f.chunked && !f.has_length;
    bool chunked = !no_body && !f.has_length && !c->old;
    if (c->old && !no_body && !f.has_length) /* there only the end of the stream ends it */
        c->keep = false;
    /* Many an app sends a body after the head of a HEAD: what follows is not to be trusted. */
    c->app_keeps = app_keeps(h) && !to_close && !c->is_head;
    const char *data = buffer_at(&c->back);
    if (body_begin(&c->response, true, data, size, no_body, chunked ? BODY_CHUNKED : BODY_RAW,
                   &c->down) < 0) {
        exchange_lost(c, "sent a malformed answer");
        return false;
    }
    const struct line *type = head_line(h, "content-type", &more);
    c->endless = type && span_starts(type->value, "text/event-stream");
    c->answered = c->begun = true;
    c->status = h->status;
    return rewrite_response(&c->down, h, client_connection(c), chunked, h->status != 204);
}

static bool take_answer(struct client *c)
{
    struct head h;
    if (c->state != CLIENT_OPEN || !c->up_to || c->answered)
        return false;
    size_t len = buffer_len(&c->back);
    ssize_t size = len > 0 ? head_size(buffer_at(&c->back), len, EDGE_HEAD_MAX) : 0;
    if (size == 0) {
        if (!c->app_ended)
            return false;
        exchange_lost(c, len > 0 ? "ended in the middle of its answer"
                                 : "closed the connection without an answer");
        return true;
    }
    if (size > 0 && buffer_room(&c->down) < (size_t)size + HEAD_SLACK)
        return false;
    if (size < 0 || head_response(buffer_at(&c->back), (size_t)size, &h) < 0) {
        exchange_lost(c, "sent something that is no answer");
        return true;
    }
    bool ok = h.status == 101  ? pass_upgrade(c, &h)
              : h.status < 200 ? pass_interim(c, &h)
                               : pass_final(c, &h, (size_t)size);
    if (ok)
        buffer_drop(&c->back, (size_t)size);
    else if (c->begun) /* cannot be: there was room */
        exchange_cut(c);
    return true;
}

static bool feed_response(struct client *c)
{
    size_t used = 0;
    if (c->state != CLIENT_OPEN || !c->up_to)
        return false;
    if (c->upgraded)
        return move(&c->back, &c->down);
    if (!c->answered || c->response.done)
        return false;
    if (body_feed(&c->response, buffer_at(&c->back), buffer_len(&c->back), &used) < 0) {
        exchange_cut(c);
        return true;
    }
    buffer_drop(&c->back, used);
    if (c->app_ended && !c->response.done && used == 0 && buffer_room(&c->down) == EDGE_BUFFER) {
        if (c->app_broken || body_finish(&c->response) < 0)
            exchange_cut(c);
        return true;
    }
    return used > 0;
}

/* --- to the client --- */

static bool push_client(struct client *c)
{
    size_t before = buffer_len(&c->down);
    switch (sock_write(&c->s, &c->down)) {
    case IO_SOME:
        account_bytes(c, 0, before - buffer_len(&c->down));
        c->active_ms = c->took_ms = c->e->now_ms;
        return true;
    case IO_BROKEN:
        client_close(c);
        return true;
    default:
        return false;
    }
}

static void linger(struct client *c)
{
    exchange_end(c);
    (void)shutdown(c->s.fd, SHUT_WR); /* broken: reading tells */
    client_set(c, CLIENT_LINGER);
    c->lingered = 0;
}

/* Reads on, so that the kernel has no unread byte when we close: that would be a reset, which can
 * overtake the answer. */
static bool linger_on(struct client *c)
{
    buffer_release(&c->in);
    enum sock_io io = sock_read(&c->s, &c->in);
    c->lingered += buffer_len(&c->in);
    if (io == IO_WAIT)
        return false;
    if (io != IO_SOME || c->lingered > EDGE_LINGER_MAX)
        client_close(c);
    return true;
}

static bool end_message(struct client *c)
{
    if (buffer_len(&c->down) > 0)
        return false;
    if (c->keep && c->request.done)
        client_next(c);
    else
        linger(c);
    return true;
}

static bool end_upgraded(struct client *c)
{
    bool flushed = buffer_len(&c->back) == 0 && buffer_len(&c->down) == 0;
    if (!c->app_ended || !flushed)
        return false;
    if (c->app_broken || c->eof) {
        client_close(c);
        return true;
    }
    if (c->done_sending)
        return false;
    c->done_sending = true;
    (void)shutdown(c->s.fd, SHUT_WR); /* broken: reading tells */
    return true;
}

/* What has come to its end? */
static bool settle(struct client *c)
{
    if (c->state == CLIENT_ANSWER)
        return end_message(c);
    if (c->state != CLIENT_OPEN)
        return false;
    if (c->upgraded)
        return end_upgraded(c);
    if (!c->answered || !c->response.done)
        return false;
    if (c->up_to) {
        if (c->request.done && c->app_keeps && !c->app_ended && buffer_len(&c->back) == 0 &&
            buffer_len(&c->up) == 0)
            upstream_keep(c->e, c->up_to);
        else
            upstream_close(c->e, c->up_to);
        return true;
    }
    return end_message(c);
}

void exchange_pump(struct client *c)
{
    for (int i = 0; i < STEPS_MAX; i++) {
        bool moved = false;
        if (c->s.broken && c->state != CLIENT_IDLE && c->state != CLIENT_HEAD) {
            client_close(c);
            return;
        }
        if (c->state == CLIENT_LINGER) {
            if (!linger_on(c) || c->s.fd < 0)
                return;
            continue;
        }
        static bool (*const steps[])(struct client * c) = {
            pull_client, take_request,  feed_request, push_app, pull_app,
            take_answer, feed_response, push_client,  settle,
        };
        for (size_t s = 0; s < sizeof steps / sizeof steps[0]; s++) {
            moved = steps[s](c) || moved;
            if (c->s.fd < 0)
                return;
        }
        if (!moved)
            return;
    }
    edge_again(c);
}
