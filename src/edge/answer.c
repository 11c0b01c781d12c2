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

/* No icon: a browser would ask the app for one, and so wake what sleeps. */
#define PAGE_HEAD                                               \
    "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\">" \
    "<meta name=\"viewport\" content=\"width=device-width\"><link rel=\"icon\" href=\"data:,\">"
#define PAGE_STYLE                                                                            \
    "<style>:root{color-scheme:light dark;--ink:#1d2129;--soft:#6b7280;--line:#e2e5ea;"       \
    "--card:#fff;--ground:#f4f5f7;--mark:#0b63ce}@media(prefers-color-scheme:dark){:root{"    \
    "--ink:#e8eaed;--soft:#9aa0aa;--line:#33373e;--card:#1f2226;--ground:#15171a;"            \
    "--mark:#6aa9ff}}body{font:16px/1.5 system-ui,sans-serif;color:var(--ink);"               \
    "background:var(--ground);margin:12vh 1rem 2rem}main{max-width:32rem;margin:auto;"        \
    "padding:1.75rem 2rem;background:var(--card);border:1px solid var(--line);"               \
    "border-radius:12px;overflow-wrap:anywhere}h1{font-size:1.3rem;line-height:1.3;margin:0}" \
    "p{margin:.9rem 0 0}.soft,footer{color:var(--soft);font-size:.875rem}footer{"             \
    "margin-top:1.5rem;padding-top:.75rem;border-top:1px solid var(--line)}a.go{"             \
    "display:inline-block;padding:.4rem 1rem;border-radius:8px;background:var(--mark);"       \
    "color:var(--card);text-decoration:none}[hidden]{display:none!important}"
#define PAGE_END "</main></html>\n"

/* Of every page; one with a script adds to it. */
#define PAGE_POLICY                                                                   \
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; " \
    "form-action 'none'"

/* One answer for all: nobody learns which ids exist. */
const struct answer answer_no_preview = {
    .status = 404,
    .code = "not_found",
    .title = "There is no such preview",
    .text = "The address is mistyped, or its sandbox is gone.",
};

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
    buf_adds(b, "</title>" PAGE_STYLE "</style><main><h1>");
    add_html(b, a->title);
    buf_adds(b, "</h1>");
    if (a->text) {
        buf_adds(b, "<p>");
        add_html(b, a->text);
        buf_adds(b, "</p>");
    }
    if (a->retry_s)
        buf_adds(b, "<p><a class=\"go\" href=\"\">Try again</a></p>");
    buf_addf(b, "<footer>%d %s</footer>" PAGE_END, a->status, reason_of(a->status));
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
    if (client_connection(c))
        buf_addf(&h, "Connection: %s\r\n", client_connection(c));
    buf_adds(&h, "\r\n");
    if (!c->is_head)
        buf_add(&h, body->data, body->len);
    account_answer(c, a->status, a->code, h.len);
    exchange_end(c);
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
        csp = PAGE_POLICY;
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
        a = answer_no_preview;
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

/* It goes on looking after a failure, slowly: whoever mends the app need not press a key here. */
static const char wake_script[] =
    "const P=['waiting','workspace','engine','agent','port','health','ready'],"
    "L=document.querySelectorAll('li'),by=i=>document.getElementById(i),began=Date.now();"
    "let failed=false;"
    "function show(j){"
    "const at=P.indexOf(j.phase);failed=j.failed;"
    "L.forEach((l,i)=>{l.className=i<at?'past':i>at?'':failed?'bad':'now'});"
    "by('note').textContent=j.message;"
    "document.title=by('title').textContent="
    "failed?'Your sandbox is not ready':'Starting your sandbox\u2026';"
    "by('again').hidden=!failed;by('time').hidden=failed}"
    "async function look(){"
    "by('time').textContent=Math.round((Date.now()-began)/1000)+' s';"
    "try{const r=await fetch('/.sandboxed/wake',{cache:'no-store'});"
    "if(r.status>=500)throw r;"
    "if(r.status!=200){location.reload();return}"
    "const j=await r.json();if(j.ready){location.reload();return}show(j)"
    "}catch(e){by('note').textContent='The server does not answer; trying again.'}"
    "setTimeout(look,failed?2000:300)}"
    "look()";

#define WAKE_STYLE                                                                           \
    "ol{list-style:none;margin:1.1rem 0 0;padding:0}li{color:var(--soft);padding:.15rem 0}"  \
    "li::before{content:'';display:inline-block;width:.7em;height:.7em;margin-right:.75em;"  \
    "box-sizing:border-box;border:2px solid var(--line);border-radius:50%}li.past{"          \
    "color:var(--ink)}li.past::before{background:#2e9e5b;border-color:#2e9e5b}li.now{"       \
    "color:var(--mark);font-weight:600}li.now::before{border-color:var(--mark) transparent;" \
    "animation:t 1s linear infinite}li.bad{color:#d0342c;font-weight:600}li.bad::before{"    \
    "background:#d0342c;border-color:#d0342c}@keyframes t{to{transform:rotate(1turn)}}"      \
    "@media(prefers-reduced-motion:reduce){li.now::before{animation:none}}#note{min-height:" \
    "1.5em}</style>"

void answer_wake_page(struct client *c)
{
    struct buf b = BUF_INIT(BODY_MAX);
    uint8_t random[16];
    char nonce[2 * sizeof random + 1], csp[256];
    random_bytes(random, sizeof random);
    hex_encode(random, sizeof random, nonce);
    (void)snprintf(csp, sizeof csp, PAGE_POLICY "; script-src 'nonce-%s'; connect-src 'self'",
                   nonce);
    buf_adds(
        &b, PAGE_HEAD
        "<title>Starting your sandbox\u2026</title>" PAGE_STYLE WAKE_STYLE
        "<noscript><meta http-equiv=\"refresh\" content=\"2\"></noscript>"
        "<main><h1 id=\"title\">Starting your sandbox\u2026</h1>"
        "<p class=\"soft\">The page opens here by itself, as soon as its app is ready.</p>"
        "<ol><li class=\"now\">Waiting its turn<li>Preparing its workspace"
        "<li>Starting its container<li>Starting its processes"
        "<li>Waiting for its app<li>Checking its health</ol><p id=\"note\" role=\"status\"></p>"
        "<p id=\"again\" hidden><a class=\"go\" href=\"\">Try again</a></p>"
        "<footer id=\"time\">0 s</footer>");
    buf_addf(&b, "<script nonce=\"%s\">%s</script>" PAGE_END, nonce, wake_script);
    struct answer a = { .status = 503, .code = "starting", .title = "Starting", .retry_s = 1 };
    send_answer(c, &a, "text/html", csp, &b);
    buf_release(&b);
}

/* What a person is told while nothing answers yet. true: it will not by itself. */
static bool phase_message(struct client *c, const struct sandbox *row, const char *phase, char *out,
                          size_t size)
{
    const struct box *box = box_of(c->e, &row->id);
    char trouble[200], why[HEALTH_WHY_MAX];
    if (row->state == SANDBOX_ERROR || (box->failure[0] && !box->waking)) {
        (void)snprintf(out, size, "It could not be started: %s",
                       box->failure[0] ? box->failure : row->error_message);
        return true;
    }
    if (row->state != SANDBOX_RUNNING) {
        bool asleep = sandbox_state_settled(row->state) && !box->waking;
        (void)str_copy(out, size, asleep ? "It was put to sleep again." : "");
        return asleep;
    }
    bool starting = client_is_starting(c);
    if (str_eq(phase, "health") && core_unhealthy(c->e->core, &row->id, c->route.port, why)) {
        (void)snprintf(out, size, "Not healthy yet: %s.", why);
        return !starting;
    }
    if (!str_eq(phase, "port"))
        return false;
    core_port_trouble(c->e->core, &row->id, c->route.port, trouble, sizeof trouble);
    (void)snprintf(out, size, "Nothing listens on port %u%s. %s", c->route.port,
                   starting ? " yet" : "", trouble);
    return !starting;
}

void answer_phase(struct client *c, const struct sandbox *row)
{
    struct buf b = BUF_INIT(BODY_MAX);
    struct json_out o = JSON_OUT(&b);
    const char *phase = box_phase(c->e, row, c->route.port);
    bool ready = str_eq(phase, "ready");
    char message[400] = "";
    bool failed = !ready && phase_message(c, row, phase, message, sizeof message);
    json_open(&o, NULL);
    json_put(&o, "phase", phase);
    json_put_bool(&o, "ready", ready);
    json_put_bool(&o, "failed", failed);
    json_put_bytes(&o, "message", message, strlen(message));
    json_close(&o);
    buf_addc(&b, '\n');
    struct answer a = { .status = 200 };
    send_answer(c, &a, "application/json", NULL, &b);
    buf_release(&b);
}
