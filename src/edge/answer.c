/* What the edge itself says: a short text, JSON or a small page, as the client wishes.
 *
 * Causes may hold anything (names of files, an app's words): they are escaped, and no page runs a
 * script that is not ours (T-65). Nothing here may be cached. */
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/limits.h"
#include "base/str.h"
#include "inside.h"
#include "wire/json.h"

#define BODY_MAX (8 * KIB)
#define HEAD_MAX (12 * KIB) /* a redirect repeats the path */
#define RETRY_LOW_MEMORY_S 30

const char answer_busy[] = "HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\n"
                           "Retry-After: 1\r\nCache-Control: no-store\r\n"
                           "Content-Type: text/plain; charset=utf-8\r\nContent-Length: 21\r\n\r\n"
                           "Too many connections\n";

#define PAGE_STYLE                                                                              \
    "<style>body{font:16px/1.5 system-ui,sans-serif;margin:15vh auto;max-width:34rem;"          \
    "padding:0 1rem;color:#222;background:#fafafa}h1{font-size:1.3rem}li{color:#999}"           \
    "li.now{color:#06c;font-weight:600}li.past{color:#222}"                                     \
    "@media(prefers-color-scheme:dark){body{color:#ddd;background:#181818}li.past{color:#ddd}}" \
    "</style>"
#define PAGE_HEAD                                               \
    "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\">" \
    "<meta name=\"viewport\" content=\"width=device-width\">"

static const char *reason_of(int status)
{
    static const struct {
        int status;
        const char *text;
    } rows[] = {
        { 200, "OK" },
        { 303, "See Other" },
        { 400, "Bad Request" },
        { 401, "Unauthorized" },
        { 403, "Forbidden" },
        { 404, "Not Found" },
        { 405, "Method Not Allowed" },
        { 408, "Request Timeout" },
        { 410, "Gone" },
        { 414, "URI Too Long" },
        { 417, "Expectation Failed" },
        { 429, "Too Many Requests" },
        { 431, "Request Header Fields Too Large" },
        { 500, "Internal Server Error" },
        { 502, "Bad Gateway" },
        { 503, "Service Unavailable" },
        { 504, "Gateway Timeout" },
        { 505, "HTTP Version Not Supported" },
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        if (rows[i].status == status)
            return rows[i].text;
    return "Error";
}

static void add_html(struct buf *b, const char *text)
{
    for (; *text; text++) {
        switch (*text) {
        case '<':
            buf_adds(b, "&lt;");
            break;
        case '>':
            buf_adds(b, "&gt;");
            break;
        case '&':
            buf_adds(b, "&amp;");
            break;
        case '"':
            buf_adds(b, "&quot;");
            break;
        case '\'':
            buf_adds(b, "&#39;");
            break;
        default:
            buf_addc(b, *text);
        }
    }
}

static void body_html(struct buf *b, const struct answer *a)
{
    buf_adds(b, PAGE_HEAD "<title>");
    add_html(b, a->title);
    buf_adds(b, "</title>" PAGE_STYLE "<h1>");
    add_html(b, a->title);
    buf_adds(b, "</h1>");
    if (a->text) {
        buf_adds(b, "<p>");
        add_html(b, a->text);
        buf_adds(b, "</p>");
    }
    if (a->retry_s)
        buf_adds(b, "<p><a href=\"\">Try again</a></p>");
    buf_adds(b, "</html>\n");
}

static void body_json(struct buf *b, const struct answer *a)
{
    struct json_out o = JSON_OUT(b);
    char message[640];
    (void)snprintf(message, sizeof message, "%s%s%s", a->title, a->text ? ": " : "",
                   a->text ? a->text : "");
    json_open(&o, NULL);
    json_open(&o, "error");
    json_put(&o, "code", a->code);
    json_put_bytes(&o, "message", message, strlen(message));
    json_put_bool(&o, "retryable", a->retry_s > 0);
    json_close(&o);
    json_close(&o);
    buf_addc(b, '\n');
}

static void body_text(struct buf *b, const struct answer *a)
{
    buf_adds(b, a->title);
    if (a->text) {
        buf_adds(b, ": ");
        for (const char *p = a->text; *p; p++)
            buf_addc(b, (unsigned char)*p < ' ' || *p == 0x7f ? ' ' : *p);
    }
    buf_addc(b, '\n');
}

/* Head and body into the client's buffer; the exchange, if there is one, is over. csp: of a page.
 */
static void send_answer(struct client *c, const struct answer *a, const char *type, const char *csp,
                        const struct buf *body)
{
    struct buf h = BUF_INIT(HEAD_MAX);
    struct err err;
    if (c->begun) {
        exchange_cut(c);
        return;
    }
    exchange_end(c);
    if (a->close || !c->request.done)
        c->keep = false;
    buf_addf(&h, "HTTP/1.1 %d %s\r\nContent-Type: %s; charset=utf-8\r\nContent-Length: %zu\r\n",
             a->status, reason_of(a->status), type, body->len);
    buf_adds(&h, "Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n"
                 "Referrer-Policy: no-referrer\r\n");
    if (csp)
        buf_addf(&h, "Content-Security-Policy: %s\r\n", csp);
    if (a->retry_s)
        buf_addf(&h, "Retry-After: %d\r\n", a->retry_s);
    if (a->reason)
        buf_addf(&h, "X-Retry-After-Reason: %s\r\n", a->reason);
    if (a->location)
        buf_addf(&h, "Location: %s\r\n", a->location);
    if (a->cookie)
        buf_addf(&h, "Set-Cookie: %s\r\n", a->cookie);
    if (a->status == 401)
        buf_adds(&h, "WWW-Authenticate: Bearer realm=\"preview\"\r\n");
    if (a->status == 405)
        buf_adds(&h, "Allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS\r\n");
    buf_adds(&h, c->keep ? "\r\n" : "Connection: close\r\n\r\n");
    if (!c->is_head)
        buf_add(&h, body->data, body->len);
    if (buf_done(&h, &err) < 0 || !buffer_add(&c->down, h.data, h.len))
        client_close(c); /* the client takes nothing, or the path was monstrous */
    buf_release(&h);
    if (c->s.fd < 0)
        return;
    client_set(c, CLIENT_ANSWER);
    c->took_ms = c->e->now_ms;
    edge_again(c);
}

void answer(struct client *c, const struct answer *a)
{
    struct buf b = BUF_INIT(BODY_MAX);
    const char *type = "text/plain", *csp = NULL;
    if (c->wants == WANTS_HTML) {
        type = "text/html";
        csp = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'";
        body_html(&b, a);
    } else if (c->wants == WANTS_JSON) {
        type = "application/json";
        body_json(&b, a);
    } else {
        body_text(&b, a);
    }
    send_answer(c, a, type, csp, &b);
    buf_release(&b);
}

void answer_err(struct client *c, const struct err *err)
{
    struct answer a = { .status = 503,
                        .code = err_name(err->code),
                        .text = err->msg,
                        .retry_s = 1,
                        .title = "The sandbox cannot be reached now" };
    switch (err->code) {
    case ERR_NOT_FOUND:
        a = (struct answer){ .status = 404, .code = a.code, .title = "There is no such preview" };
        break;
    case ERR_CAPACITY:
        a.title = "There is no room for this sandbox now";
        a.retry_s = RETRY_LOW_MEMORY_S;
        a.reason = "low_memory";
        break;
    case ERR_UNAVAILABLE:
        a.title = "The sandbox could not be started";
        a.retry_s = 5;
        break;
    case ERR_TIMEOUT:
        a.title = "The sandbox is still starting";
        break;
    case ERR_ENGINE:
        a.title = "The container engine does not answer";
        a.retry_s = 2;
        break;
    default:
        break;
    }
    answer(c, &a);
}

/* --- while it starts --- */

static const char wake_script[] =
    "const P=['waiting','workspace','engine','agent','port','ready'];"
    "const L=document.querySelectorAll('li'),N=document.getElementById('note');"
    "async function look(){try{"
    "const r=await fetch('/.sandboxed/wake',{cache:'no-store'}),j=await r.json();"
    "if(j.ready){location.reload();return}"
    "const at=P.indexOf(j.phase);"
    "L.forEach((l,i)=>{l.className=i<at?'past':i==at?'now':''});"
    "N.textContent=j.message||'';"
    "if(j.failed){document.getElementById('again').hidden=false;return}"
    "}catch(e){N.textContent='The server does not answer; trying again.'}"
    "setTimeout(look,300)}"
    "look()";

void answer_wake_page(struct client *c)
{
    struct buf b = BUF_INIT(BODY_MAX);
    uint8_t random[16];
    char nonce[2 * sizeof random + 1], csp[256];
    random_bytes(random, sizeof random);
    hex_encode(random, sizeof random, nonce);
    (void)snprintf(csp, sizeof csp,
                   "default-src 'none'; style-src 'unsafe-inline'; script-src 'nonce-%s'; "
                   "connect-src 'self'; base-uri 'none'; form-action 'none'",
                   nonce);
    buf_adds(&b, PAGE_HEAD "<title>Starting\u2026</title>" PAGE_STYLE
                           "<noscript><meta http-equiv=\"refresh\" content=\"2\"></noscript>"
                           "<h1>Starting your sandbox</h1><ol><li class=\"now\">in line"
                           "<li>preparing its workspace<li>starting its container"
                           "<li>waiting for its agent<li>waiting for its app</ol>"
                           "<p id=\"note\"></p>"
                           "<p id=\"again\" hidden><a href=\"\">Try again</a></p>");
    buf_addf(&b, "<script nonce=\"%s\">%s</script></html>\n", nonce, wake_script);
    struct answer a = { .status = 503, .code = "starting", .title = "Starting", .retry_s = 1 };
    send_answer(c, &a, "text/html", csp, &b);
    buf_release(&b);
}

void answer_phase(struct client *c, const struct sandbox *row)
{
    struct buf b = BUF_INIT(BODY_MAX);
    struct json_out o = JSON_OUT(&b);
    struct box *box = box_of(c->e, &row->id);
    const char *phase = box_phase(c->e, row, c->route.port);
    bool ready = str_eq(phase, "ready"), failed = false;
    char message[400] = "";
    if (row->state == SANDBOX_ERROR || (box->failure[0] && !box->waking)) {
        failed = true;
        (void)snprintf(message, sizeof message, "It could not be started: %s",
                       box->failure[0] ? box->failure : row->error_message);
    } else if (str_eq(phase, "port")) {
        failed = !client_is_starting(c);
        (void)snprintf(message, sizeof message, "Nothing listens on port %u%s.", c->route.port,
                       failed ? "" : " yet");
    }
    json_open(&o, NULL);
    json_put(&o, "phase", phase);
    json_put_bool(&o, "ready", ready);
    json_put_bool(&o, "failed", failed && !ready);
    json_put_bytes(&o, "message", message, strlen(message));
    json_close(&o);
    buf_addc(&b, '\n');
    struct answer a = { .status = 200 };
    send_answer(c, &a, "application/json", NULL, &b);
    buf_release(&b);
}
