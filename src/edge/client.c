/* A visitor's connection: reading heads, deciding what a request is, and its deadlines. */
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/limits.h"
#include "base/str.h"
#include "inside.h"

#define OWN_PATH "/.sandboxed/"

/* --- life --- */

void client_set(struct client *c, enum client_state state)
{
    account_held(c, state == CLIENT_WAIT);
    c->state = state;
    c->since_ms = c->e->now_ms;
}

void client_new(struct edge *e, int fd, const struct sockaddr_storage *from)
{
    int on = 1;
    struct client *c = mem_new(1, sizeof *c);
    c->s = (struct sock){ .kind = SOCK_CLIENT, .fd = fd, .readable = true, .writable = true };
    c->e = e;
    c->active_ms = c->took_ms = c->gave_ms = e->now_ms;
    client_set(c, CLIENT_IDLE);
    c->next = e->clients;
    if (e->clients)
        e->clients->prev = c;
    e->clients = c;
    e->n_clients++;
    atomic_store_explicit(&e->traffic->connections, e->n_clients, memory_order_relaxed);
    if (!address_of(from, &c->peer)) {
        client_close(c);
        return;
    }
    c->trusted = e->config->edge_trust_loopback && address_loopback(&c->peer);
    if (!address_loopback(&c->peer)) {
        struct visitor *v = visitor_of(&e->visitors, &c->peer, e->now_ms);
        if (!v || !visitor_open(&e->visitors, v)) {
            client_close(c);
            return;
        }
        c->connected = v;
    }
    /* Neither is needed for the connection to work. */
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    (void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    if (sock_watch(e, &c->s) < 0)
        client_close(c);
    else
        edge_again(c);
}

void client_close(struct client *c)
{
    struct edge *e = c->e;
    if (c->s.fd < 0)
        return;
    client_set(c, CLIENT_LINGER); /* nothing of it is held any more */
    exchange_end(c);
    if (c->connected)
        visitor_close(c->connected);
    sock_close(e, &c->s);
    buffer_release(&c->in);
    buffer_release(&c->down);
    if (c->next)
        c->next->prev = c->prev;
    if (c->prev)
        c->prev->next = c->next;
    else
        e->clients = c->next;
    e->n_clients--;
    atomic_store_explicit(&e->traffic->connections, e->n_clients, memory_order_relaxed);
    c->next = e->dead_clients;
    e->dead_clients = c;
}

void client_next(struct client *c)
{
    exchange_end(c);
    client_set(c, CLIENT_IDLE);
}

const char *client_connection(const struct client *c)
{
    return !c->keep ? "close" : c->old ? "keep-alive" : NULL;
}

/* --- what a request is --- */

static void refuse(struct client *c, int status)
{
    static const struct {
        int status;
        const char *code, *title;
    } rows[] = {
        { 400, "bad_request", "The request is malformed" },
        { 405, "method_not_allowed", "This method is not served here" },
        { 408, "timeout", "The request did not come in time" },
        { 414, "target_too_long", "The path is too long" },
        { 417, "expectation_failed", "This expectation cannot be met" },
        { 429, "too_many_requests", "Too many requests from your address" },
        { 431, "head_too_large", "The request's headers are too large" },
        { 505, "version_not_supported", "Only HTTP/1.0 and HTTP/1.1 are served here" },
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        if (rows[i].status == status)
            answer(c, &(struct answer){ .status = status,
                                        .code = rows[i].code,
                                        .title = rows[i].title,
                                        .retry_s = status == 429 ? 1 : 0,
                                        .close = true });
}

static bool value_lists(const struct head *h, const char *name, const char *part)
{
    char text[512];
    for (size_t i = 0; i < h->n; i++) {
        struct span v = h->lines[i].value;
        if (!span_is(h->lines[i].name, name))
            continue;
        size_t n = v.len < sizeof text - 1 ? v.len : sizeof text - 1;
        memcpy(text, v.at, n);
        text[n] = '\0';
        if (strcasestr(text, part))
            return true;
    }
    return false;
}

static void note_method(struct client *c, const struct head *h)
{
    static const char *const idempotent[] = { "GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE" };
    bool more, get = span_is(h->method, "GET");
    const struct line *mode = head_line(h, "sec-fetch-mode", &more);
    c->is_head = span_is(h->method, "HEAD");
    c->idempotent = false;
    for (size_t i = 0; i < sizeof idempotent / sizeof idempotent[0]; i++)
        c->idempotent = c->idempotent || span_is(h->method, idempotent[i]);
    c->wants = value_lists(h, "accept", "text/html")          ? WANTS_HTML
               : value_lists(h, "accept", "application/json") ? WANTS_JSON
                                                              : WANTS_TEXT;
    c->navigation = get && (mode ? span_is(mode->value, "navigate") : c->wants == WANTS_HTML);
    c->prefetch =
        value_lists(h, "sec-purpose", "prefetch") || value_lists(h, "purpose", "prefetch");
}

/* Upgrade is passed on when the message ends with its head, and never to HTTP/2, whose requests
 * nobody would look at. */
static struct span upgrade_of(const struct head *h, const struct framing *f)
{
    bool more;
    const struct line *l = head_line(h, "upgrade", &more);
    if (!l || more || h->minor == 0 || f->chunked || f->length > 0 ||
        !head_lists(h, "connection", "upgrade") || span_starts(l->value, "h2"))
        return (struct span){ 0 };
    return l->value;
}

/* --- who asks --- */

static struct span last_item(struct span list)
{
    const char *at = list.at + list.len;
    while (at > list.at && at[-1] != ',' && at[-1] != ' ')
        at--;
    return (struct span){ at, list.len - (size_t)(at - list.at) };
}

static void forwarded_address(const struct head *h, struct in6_addr *address)
{
    char text[ADDRESS_TEXT];
    struct span last = { 0 };
    for (size_t i = 0; i < h->n; i++)
        if (span_is(h->lines[i].name, "x-forwarded-for"))
            last = last_item(h->lines[i].value);
    if (last.len == 0 || last.len >= sizeof text)
        return;
    memcpy(text, last.at, last.len);
    text[last.len] = '\0';
    struct in6_addr said;
    if (address_parse(text, &said))
        *address = said;
}

static unsigned number_of(struct span s)
{
    unsigned n = 0;
    for (size_t i = 0; i < s.len && i < 5; i++) {
        if (s.at[i] < '0' || s.at[i] > '9')
            return 0;
        n = n * 10 + (unsigned)(s.at[i] - '0');
    }
    return n;
}

/* The port in a Host, which edge_route_find has found to be well-formed. */
static unsigned host_port(const struct head *h)
{
    bool more;
    const struct line *host = head_line(h, "host", &more);
    const char *colon = host ? memrchr(host->value.at, ':', host->value.len) : NULL;
    if (!colon || memchr(colon, ']', (size_t)(host->value.at + host->value.len - colon)))
        return 0;
    return number_of(
        (struct span){ colon + 1, (size_t)(host->value.at + host->value.len - colon - 1) });
}

/* Only a proxy of this machine is believed, and only about the last hop. */
static struct in6_addr look_at_visitor(struct client *c, const struct head *h, struct visit *v)
{
    bool more;
    const struct line *proto = head_line(h, "x-forwarded-proto", &more);
    const struct line *port = head_line(h, "x-forwarded-port", &more);
    struct in6_addr address = c->peer;
    if (c->trusted)
        forwarded_address(h, &address);
    address_text(&address, v->address);
    c->tls =
        c->trusted && proto && (span_is(proto->value, "https") || span_is(proto->value, "wss"));
    v->proto = c->tls ? "https" : "http";
    v->port = c->trusted && port ? number_of(port->value) : 0;
    if (v->port == 0)
        v->port = host_port(h);
    if (v->port == 0)
        v->port = c->tls ? 443 : 80;
    return address;
}

/* --- one request --- */

static bool count_visitor(struct client *c, const struct in6_addr *address)
{
    struct edge *e = c->e;
    if (address_loopback(address))
        return true;
    struct visitor *v = visitor_of(&e->visitors, address, e->now_ms);
    if (!v || !visitor_request(&e->visitors, v, e->now_ms) || !visitor_open(&e->visitors, v))
        return false;
    c->visitor = v;
    return true;
}

static void own_path(struct client *c, const struct head *h, const struct sandbox *row)
{
    if (span_is(h->target, OWN_PATH "wake"))
        answer_phase(c, row);
    else
        answer(c, &(struct answer){ .status = 404,
                                    .code = "not_found",
                                    .title = "There is nothing here",
                                    .text = "Paths below " OWN_PATH " belong to the server." });
}

static void enter(struct client *c, const struct head *h, const struct sandbox *row,
                  const struct visit *v)
{
    struct edge *e = c->e;
    struct box *b = box_of(e, &row->id);
    if (!edge_has_room(e)) {
        answer(c, &(struct answer){ .status = 503,
                                    .code = "busy",
                                    .title = "Too many connections are open",
                                    .retry_s = 1 });
        return;
    }
    if (b->n_clients >= e->config->edge_per_sandbox) {
        char text[80];
        (void)snprintf(text, sizeof text, "At most %lld may be open at once.",
                       (long long)e->config->edge_per_sandbox);
        answer(c, &(struct answer){ .status = 503,
                                    .code = "sandbox_busy",
                                    .title = "This sandbox has too many open requests",
                                    .text = text,
                                    .retry_s = 1,
                                    .reason = "sandbox_busy" });
        return;
    }
    c->number = ++e->exchanges;
    c->asked_ms = c->port_asked_ms = e->now_ms;
    c->hold_until_ms = e->now_ms + e->config->wake_hold_ms;
    client_set(c, CLIENT_WAIT);
    box_enter(b, c);
    if (c->code[0]) {
        access_redeem(c);
        return;
    }
    c->up.whole = true;
    if (!rewrite_request(&c->up, h, v)) {
        refuse(c, 431);
        return;
    }
    core_touch(e->core, &row->id);
    box_seek(c);
}

/* The request is well-formed; where does it go? */
static void place(struct client *c, const struct head *h, struct visit *v)
{
    const struct sandbox *row = NULL;
    struct err err;
    enum route_found found = edge_route_find(h, c->e->config->preview_domain, &c->route);
    struct in6_addr address = look_at_visitor(c, h, v);
    if (!count_visitor(c, &address)) {
        refuse(c, 429);
        return;
    }
    if (found == ROUTE_AMBIGUOUS) {
        answer(c, &(struct answer){ .status = 400,
                                    .code = "bad_request",
                                    .title = "The request is malformed",
                                    .text = "Its Host header is missing, no name, or contradicts "
                                            "E2b-Sandbox-Id and E2b-Sandbox-Port.",
                                    .close = true });
        return;
    }
    if (found == ROUTE_UNKNOWN || core_find(c->e->core, &c->route.id, &row, &err) < 0) {
        answer(c, &answer_no_preview);
        return;
    }
    char id[ID_LEN + 1];
    sandbox_id_lower(&c->route.id, id);
    (void)snprintf(v->host, sizeof v->host, "s-%s-%u.preview.%s", id, c->route.port,
                   c->e->config->preview_domain);
    if (access_check(c, row, h, v)) {
        if (span_starts(h->target, OWN_PATH))
            own_path(c, h, row);
        else
            enter(c, h, row, v);
    }
    core_unref(row);
}

static void begin(struct client *c, const char *data, size_t size)
{
    struct head h;
    struct framing f;
    struct visit v = { 0 };
    bool more;
    c->request.done = false;
    c->wants = WANTS_TEXT;
    c->is_head = c->keep = false;
    int status = head_request(data, size, &h);
    account_begin(c, status == 0 ? &h : NULL);
    account_bytes(c, size, 0);
    if (status == 0 && head_framing(&h, &f) < 0)
        status = 400;
    if (status == 0)
        note_method(c, &h);
    if (status == 0 && span_is(h.method, "CONNECT"))
        status = 405;
    const struct line *expect = status == 0 ? head_line(&h, "expect", &more) : NULL;
    if (expect && h.minor > 0 && (more || !span_is(expect->value, "100-continue")))
        status = 417;
    if (status == 0 && body_begin(&c->request, false, data, size, false,
                                  f.chunked ? BODY_CHUNKED : BODY_RAW, &c->up) < 0)
        status = 400;
    if (status != 0) {
        c->request.done = false;
        refuse(c, status);
        return;
    }
    c->expects = expect && h.minor > 0;
    v.upgrade = upgrade_of(&h, &f);
    c->upgrade = v.upgrade.len > 0;
    c->navigation = c->navigation && !c->upgrade;
    c->old = h.minor == 0;
    c->keep = !head_lists(&h, "connection", "close") && !c->e->leaving &&
              (!c->old || head_lists(&h, "connection", "keep-alive"));
    place(c, &h, &v);
}

bool client_take(struct client *c)
{
    const char *data = buffer_at(&c->in);
    size_t len = buffer_len(&c->in);
    if (len == 0)
        return false;
    if (c->state == CLIENT_IDLE) {
        if (len >= 2 && memcmp(data, "\r\n", 2) == 0) { /* RFC 9112 2.2: one may come before */
            buffer_drop(&c->in, 2);
            data += 2;
            len -= 2;
        }
        client_set(c, CLIENT_HEAD);
    }
    ssize_t size = len > 0 ? head_size(data, len, EDGE_HEAD_MAX) : 0;
    if (size == 0)
        return false;
    if (size < 0) {
        c->request.done = c->keep = c->is_head = false;
        refuse(c, len >= EDGE_HEAD_MAX ? 431 : 400);
        return true;
    }
    begin(c, data, (size_t)size);
    if (c->s.fd >= 0)
        buffer_drop(&c->in, (size_t)size);
    return true;
}

/* --- deadlines --- */

bool client_is_starting(const struct client *c)
{
    const struct sandbox *row = NULL;
    struct err err;
    if (core_find(c->e->core, &c->route.id, &row, &err) < 0)
        return false;
    bool starting = row->state != SANDBOX_RUNNING ||
                    clock_wall_ms() - row->up_since_ms < c->e->config->port_wait_ms;
    core_unref(row);
    return starting;
}

static void tick_wait(struct client *c, int64_t now)
{
    const struct config *config = c->e->config;
    if (c->up_to) {
        if (now - c->up_to->since_ms > EDGE_CONNECT_MS)
            exchange_lost(c, "did not take the connection");
    } else if (c->navigation && !c->code[0] && now - c->asked_ms >= config->wake_page_after_ms &&
               client_is_starting(c)) {
        answer_wake_page(c);
    } else if (now >= c->hold_until_ms) {
        struct err late;
        (void)err_set(&late, ERR_TIMEOUT, "It was not ready within %lld s; the start goes on.",
                      (long long)(config->wake_hold_ms / 1000));
        answer_err(c, &late);
    } else {
        box_seek(c);
    }
}

static void tick_open(struct client *c, int64_t now)
{
    const struct config *config = c->e->config;
    bool waits_for_client = !c->request.done && !c->app_deaf && buffer_len(&c->up) == 0 &&
                            !(c->expects && c->interims == 0);
    bool takes_nothing = buffer_len(&c->down) > 0 && now - c->took_ms > config->peer_stall_ms;
    bool has_left = c->s.hung && now - c->active_ms > EDGE_HALF_CLOSED_MS;
    if (now - c->active_ms > config->edge_idle_ms || (!c->upgraded && (takes_nothing || has_left)))
        client_close(c);
    else if (c->head_began_ms && !c->answered && now - c->head_began_ms > EDGE_APP_HEADER_MS)
        exchange_lost(c, "did not finish the head of its answer");
    else if (waits_for_client && !c->answered && now - c->gave_ms > config->peer_stall_ms)
        refuse(c, 408);
}

void client_tick(struct client *c)
{
    const struct config *config = c->e->config;
    int64_t now = c->e->now_ms, in_state = now - c->since_ms;
    switch (c->state) {
    case CLIENT_IDLE:
        if (in_state > (c->number ? config->peer_idle_ms : config->peer_header_ms)) {
            client_close(c);
        } else if (in_state > EDGE_TICK_MS) { /* memory is for those who do something */
            buffer_release(&c->in);
            buffer_release(&c->down);
        }
        break;
    case CLIENT_HEAD:
        if (in_state > config->peer_header_ms)
            refuse(c, 408);
        break;
    case CLIENT_WAIT:
        tick_wait(c, now);
        break;
    case CLIENT_OPEN:
        tick_open(c, now);
        break;
    case CLIENT_ANSWER:
        if (in_state > config->peer_stall_ms)
            client_close(c);
        break;
    case CLIENT_LINGER:
        if (in_state > EDGE_LINGER_MS)
            client_close(c);
        break;
    }
    if (c->s.fd >= 0 && c->state == CLIENT_ANSWER)
        edge_again(c);
}
