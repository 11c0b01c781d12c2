/* The HTTP edge over a real socket, with core/ played from memory: what is refused and how, the
 * three ways of answering, streaming both ways, clients that leave, overload, the end. */
#include <arpa/inet.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "base/limits.h"
#include "check.h"
#include "fake_core.h"
#include "http.h"
#include "server.h"

#define OK_HEAD "Host: localhost\r\nConnection: close\r\n"
#define SB "/v1/sandboxes/" FAKE_ID

static struct api *api;
#define HEADER_MS 10000 /* to the last header */

static struct config config;
static char reply[1 << 20];

static const char *ask(const char *request)
{
    int fd = http_dial(api->port);
    (void)http_send(fd, request, strlen(request));
    (void)http_read(fd, reply, sizeof(reply), NULL);
    (void)close(fd);
    return reply;
}

static const char *ask_body(const char *line, const char *headers, const char *body)
{
    static char request[1 << 16];
    (void)snprintf(request, sizeof(request),
                   "%s HTTP/1.1\r\n" OK_HEAD "%sContent-Length: %zu\r\n\r\n%s", line, headers,
                   strlen(body), body);
    return ask(request);
}

static void start(void)
{
    struct err err = { 0 };
    if (api_start(NULL, &config, &api, &err) < 0) {
        (void)printf("# %s\n", err.msg);
        exit(1);
    }
}

static bool soon(atomic_int *what, int want)
{
    for (int i = 0; i < 6000; i++) {
        if (atomic_load(what) == want)
            return true;
        (void)poll(NULL, 0, 10);
    }
    return false;
}

/* --- refusals --- */

static void test_strict(void)
{
    static const struct {
        const char *name, *request;
        int status;
    } rows[] = {
        { "plain", "GET /healthz HTTP/1.1\r\n" OK_HEAD "\r\n", 200 },
        { "1.0", "GET /healthz HTTP/1.0\r\nHost: localhost\r\n\r\n", 200 },
        { "two lengths",
          "POST /v1/sandboxes HTTP/1.1\r\n" OK_HEAD
          "Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}",
          400 },
        { "length and chunked",
          "POST /v1/sandboxes HTTP/1.1\r\n" OK_HEAD
          "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
          400 },
        { "xchunked",
          "POST /v1/sandboxes HTTP/1.1\r\n" OK_HEAD "Transfer-Encoding: xchunked\r\n\r\n", 400 },
        { "list of codings",
          "POST /v1/sandboxes HTTP/1.1\r\n" OK_HEAD "Transfer-Encoding: gzip, chunked\r\n\r\n",
          400 },
        { "identity, chunked",
          "POST /v1/sandboxes HTTP/1.1\r\n" OK_HEAD
          "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
          400 },
        { "plus length", "POST /v1/sandboxes HTTP/1.1\r\n" OK_HEAD "Content-Length: +2\r\n\r\n{}",
          400 },
        { "hex length", "POST /v1/sandboxes HTTP/1.1\r\n" OK_HEAD "Content-Length: 0x2\r\n\r\n{}",
          400 },
        { "space before colon",
          "GET /healthz HTTP/1.1\r\nHost : localhost\r\nHost: localhost\r\n\r\n", 400 },
        { "two hosts", "GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n", 400 },
        { "no host", "GET /healthz HTTP/1.1\r\n\r\n", 400 },
        { "absolute target", "GET http://localhost/healthz HTTP/1.1\r\n" OK_HEAD "\r\n", 400 },
        { "raw byte in target", "GET /v1/\xc3\xa9 HTTP/1.1\r\n" OK_HEAD "\r\n", 400 },
        { "control in value",
          "GET /healthz HTTP/1.1\r\n" OK_HEAD "X: a\x01"
          "b\r\n\r\n",
          400 },
        { "folded", "GET /healthz HTTP/1.1\r\n" OK_HEAD "X: a\r\n b\r\nY: c\r\n\r\n", 400 },
        { "folded last", "GET /healthz HTTP/1.1\r\n" OK_HEAD "X: a\r\n\tb\r\n\r\n", 400 },
        { "bare LF", "GET /healthz HTTP/1.1\r\n" OK_HEAD "X: a\nY: c\r\n\r\n", 400 },
        { "bare LF first", "GET /healthz HTTP/1.1\nHost: localhost\r\n\r\n", 400 },
        { "bare LF last", "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\n", 400 },
        { "odd but legal space",
          "GET /healthz HTTP/1.1\r\n" OK_HEAD "X:a\r\nY: \t b \r\nZ:\r\n\r\n", 200 },
        { "empty host", "GET /healthz HTTP/1.1\r\nHost:\r\n\r\n", 400 },
        { "two tokens",
          "GET /healthz HTTP/1.1\r\n" OK_HEAD
          "Authorization: Bearer a\r\nAuthorization: Bearer b\r\n\r\n",
          400 },
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        CHECK_ROW(rows[i].name, http_status(ask(rows[i].request)) == rows[i].status);

    static const char nul[] = "GET /healthz HTTP/1.1\r\n" OK_HEAD "X: a\0b\r\nY: c\r\n\r\n";
    int fd = http_dial(api->port);
    (void)http_send(fd, nul, sizeof(nul) - 1);
    CHECK_ROW("NUL", http_status(http_read(fd, reply, sizeof(reply), NULL)) == 400);
    (void)close(fd);

    static char big[16 * 1024];
    size_t n = (size_t)snprintf(big, sizeof(big), "GET /healthz HTTP/1.1\r\n" OK_HEAD "X: ");
    memset(big + n, 'a', 9000);
    (void)snprintf(big + n + 9000, sizeof(big) - n - 9000, "\r\n\r\n");
    CHECK_ROW("9 KiB of headers", http_status(ask(big)) == 431);
    n = (size_t)snprintf(big, sizeof(big), "GET /healthz HTTP/1.1\r\n" OK_HEAD);
    for (int i = 0; i < 120; i++)
        n += (size_t)snprintf(big + n, sizeof(big) - n, "X-%d: a\r\n", i);
    (void)snprintf(big + n, sizeof(big) - n, "\r\n");
    CHECK_ROW("120 headers", http_status(ask(big)) == 431);
}

static void test_host_and_origin(void)
{
    static const struct {
        const char *name, *headers;
        int status;
    } rows[] = {
        { "loopback address", "Host: 127.0.0.1:9090\r\n", 200 },
        { "IPv6 loopback", "Host: [::1]:9090\r\n", 200 },
        { "case", "Host: LocalHost:1\r\n", 200 },
        { "configured", "Host: api.example\r\n", 200 },
        { "foreign", "Host: evil.example\r\n", 421 },
        { "suffix look-alike", "Host: localhost.evil.example\r\n", 421 },
        { "prefix look-alike", "Host: evil-localhost\r\n", 421 },
        { "below localhost", "Host: a.localhost\r\n", 421 },
        { "zeros", "Host: 0.0.0.0:9090\r\n", 421 },
        { "decimal", "Host: 2130706433\r\n", 421 },
        { "short", "Host: 127.1\r\n", 421 },
        { "user info", "Host: localhost@evil.example\r\n", 421 },
        { "trailing dot", "Host: localhost.\r\n", 421 },
        { "same origin", "Host: localhost:1\r\nOrigin: http://localhost:1\r\n", 200 },
        { "other port", "Host: localhost:1\r\nOrigin: http://localhost:2\r\n", 403 },
        { "null origin", "Host: localhost\r\nOrigin: null\r\n", 403 },
        { "foreign origin", "Host: localhost\r\nOrigin: http://evil.example\r\n", 403 },
        { "look-alike origin", "Host: localhost\r\nOrigin: http://localhost.evil.example\r\n",
          403 },
        { "configured origin",
          "Host: localhost\r\nOrigin: https://app.example\r\nSec-Fetch-Site: cross-site\r\n", 200 },
        { "cross-site", "Host: localhost\r\nSec-Fetch-Site: cross-site\r\n", 403 },
        { "same-site", "Host: localhost\r\nSec-Fetch-Site: same-site\r\n", 403 },
        { "navigation", "Host: localhost\r\nSec-Fetch-Site: none\r\n", 200 },
    };
    char request[512];
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        (void)snprintf(request, sizeof(request),
                       "GET /healthz HTTP/1.1\r\nConnection: close\r\n%s\r\n", rows[i].headers);
        CHECK_ROW(rows[i].name, http_status(ask(request)) == rows[i].status);
    }
    CHECK(http_status(ask_body("POST /v1/sandboxes", "Sec-Fetch-Site: same-origin\r\n", "{}")) ==
          415);
    CHECK(http_status(ask_body("POST /v1/sandboxes",
                               "Sec-Fetch-Site: same-origin\r\nContent-Type: application/json; "
                               "charset=utf-8\r\n",
                               "{}")) == 201);
    CHECK(http_status(ask_body("POST /v1/sandboxes", "Content-Type: text/plain\r\n", "{}")) == 201);
    (void)ask_body("OPTIONS /v1/sandboxes",
                   "Origin: http://evil.example\r\nAccess-Control-Request-Method: POST\r\n", "");
    CHECK(http_status(reply) == 403 && !strstr(reply, "Access-Control"));
}

static void test_routing(void)
{
    static const struct {
        const char *line;
        int status;
        const char *holds;
    } rows[] = {
        { "GET /v1/nothing", 404, "\"code\":\"not_found\"" },
        { "GET /nothing", 404, "{\"error\":\"there is no such route\"}" },
        { "PATCH /v1/sandboxes", 405, "Allow: POST, GET, HEAD\r\n" },
        { "POST /healthz", 405, "Allow: GET, HEAD\r\n" },
        { "GET " SB, 200, "\"id\":\"" FAKE_ID "\"" },
        { "GET /v1/sandboxes/01arz3ndektsv4rrffq69g5fav", 200, FAKE_ID },
        { "GET /v1/sandboxes/" FAKE_OTHER, 404, "not_found" },
        { "GET /v1/sandboxes/nonsense", 404, "not_found" },
        { "GET /v1/sandboxes/..%2fx", 404, "not_found" },
        { "GET /v1/sandboxes?limit=0", 400, "limit: must be" },
        { "GET /v1/sandboxes?frob=1", 400, "frob: no such parameter" },
        { "GET /v1/sandboxes?status=asleep", 400, "status: " },
        { "GET /v1/sandboxes?cursor=x", 400, "cursor: " },
        { "GET /v1/sandboxes?limit=1", 200, "\"next_cursor\":\"1764430000042." FAKE_ID "\"" },
        { "GET /v1/sandboxes?limit=1&limit=2", 400, "error" },
        { "GET /v1/sandboxes?limit=%zz", 400, "error" },
        { "GET /v1/sandboxes?external_user_id=%ff", 400, "external_user_id: is not UTF-8" },
        { "GET /sandboxes", 200, "[{\"id\":" },
        { "GET /sandbox/" FAKE_ID, 200, "\"runtime\":{\"ready\":true}" },
        { "GET /readyz", 503, "{\"error\":\"the engine does not answer\"}" },
        { "GET /metrics", 200, "sandboxd_sandboxes_total{status=\"running\"} 1" },
        { "POST /sandbox/" FAKE_ID "/keepalive", 200, "\"keepalive_until\":1764433600" },
        { "POST /v1/sandboxes/" FAKE_ID "/keepalive", 200, "\"id\":" },
        { "POST /sandbox/" FAKE_ID "/purge", 200, "{\"freed_bytes\":4096,\"purged\":true}" },
        { "POST /sandbox/" FAKE_OTHER "/purge", 404, "error" },
        { "DELETE /sandbox/" FAKE_ID, 204, "" },
        { "DELETE " SB, 204, "" },
        { "POST " SB "/stop", 200, "\"status\":\"running\"" },
        { "POST /wake/" FAKE_ID, 200, "\"wake_duration_ms\":" },
        { "POST /wake/" FAKE_OTHER, 404, "{\"error\":\"not_found\"}" },
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        (void)ask_body(rows[i].line, "", "");
        if (!CHECK_ROW(rows[i].line, http_status(reply) == rows[i].status &&
                                         strstr(reply, rows[i].holds) &&
                                         strstr(reply, "X-Request-Id: ")))
            (void)printf("# got: %s\n", reply);
    }
    (void)ask_body("HEAD " SB, "", "");
    CHECK(http_status(reply) == 200 && strstr(reply, "Content-Length: ") && !strchr(reply, '{'));
    CHECK(!strstr(ask_body("GET " SB, "", ""), "never-shown"));
    CHECK(!strstr(ask_body("GET /sandbox/" FAKE_ID, "", ""), "never-shown"));
}

static void test_auth(void)
{
    static const struct {
        const char *name, *line, *headers;
        int status;
    } rows[] = {
        { "no token", "GET " SB, "", 401 },
        { "unknown path", "GET /nothing", "", 401 },
        { "wrong", "GET " SB, "Authorization: Bearer no\r\n", 401 },
        { "basic", "GET " SB, "Authorization: Basic " FAKE_TOKEN "\r\n", 401 },
        { "right", "GET " SB, "Authorization: Bearer " FAKE_TOKEN "\r\n", 200 },
        { "any case", "GET " SB, "Authorization: bEARER  " FAKE_TOKEN "\r\n", 200 },
        { "forwarded loopback", "GET " SB, "X-Forwarded-For: 127.0.0.1\r\n", 401 },
        { "open", "GET /healthz", "", 200 },
        { "metrics are not", "GET /metrics", "", 401 },
    };
    config.auth_disabled = false;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        CHECK_ROW(rows[i].name,
                  http_status(ask_body(rows[i].line, rows[i].headers, "")) == rows[i].status);
    CHECK(strstr(ask_body("GET /sandboxes", "", ""), "{\"error\":\"unauthorized\"}"));
    config.auth_disabled = true;
}

static void test_bodies(void)
{
    static const struct {
        const char *line, *body;
        int status;
        const char *holds;
    } rows[] = {
        { "POST /v1/sandboxes", "", 201, FAKE_ID },
        { "POST /v1/sandboxes", "{\"frob\":1}", 400, "frob" },
        { "POST /sandbox", "{\"frob\":1}", 201, FAKE_ID },
        { "POST /v1/sandboxes", "{\"limits\":{\"memory_mib\":1}}", 400, "limits.memory_mib" },
        { "POST /v1/sandboxes", "{\"limits\":{\"cpus\":\"2\"}}", 400, "limits.cpus" },
        { "POST /v1/sandboxes", "{\"limits\":{\"cpus\":0.5}}", 201, FAKE_ID },
        { "POST /v1/sandboxes", "{\"template\":\"x\"}", 400, "not_supported" },
        { "POST /sandbox", "{\"git_remote_url\":\"https://x\"}", 400, "git_remote_url" },
        { "POST /v1/sandboxes", "{\"template\":null,\"from_snapshot\":\"\"}", 201, FAKE_ID },
        { "POST /v1/sandboxes", "{\"id\":\"demo01\"}", 400, "id: " },
        { "POST /v1/sandboxes", "{\"ports\":[0]}", 400, "ports" },
        { "POST /v1/sandboxes", "{\"project\":{\"id\":\"p\"}}", 400, "project.user_id" },
        { "POST /v1/sandboxes", "{\"external\":{\"user_id\":\"a,b\"}}", 400, "external.user_id" },
        { "POST /v1/sandboxes", "{\"metadata\":{\"\":\"x\"}}", 400, "metadata" },
        { "POST /v1/sandboxes", "{\"visibility\":\"open\"}", 400, "visibility" },
        { "POST /v1/sandboxes", "{", 400, "json" },
        { "POST /v1/sandboxes", "[]", 400, "object" },
        { "POST " SB "/exec", "", 400, "body" },
        { "POST " SB "/exec", "{}", 400, "cmd" },
        { "POST " SB "/exec", "{\"cmd\":[]}", 400, "cmd: " },
        { "POST " SB "/exec", "{\"cmd\":[1]}", 400, "cmd[0]" },
        { "POST " SB "/exec", "{\"cmd\":{\"a\":1}}", 400, "cmd: " },
        { "POST " SB "/exec", "{\"cmd\":[\"refuse\"]}", 400, "cwd: no such directory" },
        { "POST " SB "/exec", "{\"cmd\":[\"echo\",\"h\\u00e9\"]}", 200,
          "{\"stdout\":\"h\xc3\xa9\",\"stderr\":\"\",\"exit_code\":0,\"truncated\":false,"
          "\"bytes\":{\"stdout\":3,\"stderr\":0}}\n" },
        { "POST " SB "/exec", "{\"cmd\":[\"bytes\"]}", 200, "\"signal\":\"SIGKILL\"" },
        { "POST " SB "/exec", "{\"cmd\":[\"echo\"],\"detach\":true}", 200, "\"pid\":42" },
        { "POST " SB "/exec", "{\"cmd\":[\"break\"]}", 503, "sandbox_unavailable" },
        { "POST /v1/sandboxes/" FAKE_OTHER "/exec", "{\"cmd\":[\"echo\"]}", 404, "not_found" },
        { "POST " SB "/keepalive", "{\"until\":-4}", 400, "until" },
        { "POST " SB "/keepalive", "{\"until\":\"2026-12-01T10:00:00Z\"}", 400,
          "until: must be a whole number: seconds since 1970 (Unix time)" },
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        (void)ask_body(rows[i].line, "", rows[i].body);
        if (!CHECK_ROW(rows[i].body,
                       http_status(reply) == rows[i].status && strstr(reply, rows[i].holds)))
            (void)printf("# got: %s\n", reply);
    }
    (void)ask_body("POST /v1/sandboxes", "Idempotency-Key: k1\r\n", "{}");
    CHECK(http_status(reply) == 201 && !strstr(reply, "Idempotent-Replayed"));
    (void)ask_body("POST /v1/sandboxes", "Idempotency-Key: k1\r\n", "{}");
    CHECK(http_status(reply) == 201 && strstr(reply, "Idempotent-Replayed: true"));
    CHECK(http_status(ask_body("POST /v1/sandboxes", "Idempotency-Key: a b\r\n", "{}")) == 400);
}

/* A refusal arrives although the body is far longer than allowed. */
static void test_ceilings(void)
{
    static char block[64 * 1024];
    memset(block, ' ', sizeof(block));
    int fd = http_dial(api->port);
    const char head[] = "POST /v1/sandboxes HTTP/1.1\r\n" OK_HEAD "Content-Length: 8388608\r\n\r\n";
    bool sent = http_send(fd, head, sizeof(head) - 1);
    for (int i = 0; i < 128 && sent; i++)
        sent = http_send(fd, block, sizeof(block));
    CHECK_ROW("known length",
              sent && http_status(http_read(fd, reply, sizeof(reply), NULL)) == 413);
    (void)close(fd);

    fd = http_dial(api->port);
    const char chunked[] =
        "POST /v1/sandboxes HTTP/1.1\r\n" OK_HEAD "Transfer-Encoding: chunked\r\n\r\n";
    sent = http_send(fd, chunked, sizeof(chunked) - 1);
    for (int i = 0; i < 32 && sent; i++)
        sent = http_send(fd, "10000\r\n", 7) && http_send(fd, block, sizeof(block)) &&
               http_send(fd, "\r\n", 2);
    sent = sent && http_send(fd, "0\r\n\r\n", 5);
    CHECK_ROW("chunked", sent && http_status(http_read(fd, reply, sizeof(reply), NULL)) == 413);
    (void)close(fd);

    fd = http_dial(api->port);
    const char expects[] = "POST /v1/sandboxes HTTP/1.1\r\n" OK_HEAD
                           "Expect: 100-continue\r\nContent-Length: 8388608\r\n\r\n";
    (void)http_send(fd, expects, sizeof(expects) - 1);
    CHECK_ROW("asked first", http_status(http_read(fd, reply, sizeof(reply), NULL)) == 413);
    (void)close(fd);

    fd = http_dial(api->port); /* two requests on one connection after a refusal */
    const char two[] =
        "POST /v1/nothing HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello"
        "GET /healthz HTTP/1.1\r\n" OK_HEAD "\r\n";
    (void)http_send(fd, two, sizeof(two) - 1);
    (void)http_read(fd, reply, sizeof(reply), NULL);
    CHECK_ROW("kept alive", http_status(reply) == 404 && strstr(reply, "\r\n\r\nok\n"));
    (void)close(fd);
}

/* --- streams --- */

static void test_exec_streams(void)
{
    (void)ask_body("POST " SB "/exec", "Accept: text/event-stream\r\n", "{\"cmd\":[\"bytes\"]}");
    CHECK(strstr(reply, "Content-Type: text/event-stream"));
    CHECK(strstr(reply, "event: started\ndata: {\"pid\":42}\n\n"));
    CHECK(strstr(reply, "event: stdout\ndata: {\"data\":\"a\"}\n\n"));
    CHECK(strstr(reply, "event: stdout\ndata: {\"data\":\"\xe2\x82\xac\"}\n\n"));
    CHECK(strstr(reply, "event: stderr\ndata: {\"base64\":\"/wA=\"}\n\n"));
    CHECK(strstr(reply, "event: stdout\ndata: {\"base64\":\"4g==\"}\n\n"));
    CHECK(strstr(reply, "event: exit\ndata: {\"exit_code\":137,\"signal\":\"SIGKILL\","));
    (void)ask_body("POST " SB "/exec", "Accept: application/x-ndjson\r\n",
                   "{\"cmd\":[\"echo\",\"hi\"]}");
    CHECK(strstr(reply, "{\"type\":\"stdout\",\"data\":\"hi\"}\n"));
    CHECK(strstr(reply, "{\"type\":\"exit\",\"exit_code\":0,"));
    (void)ask_body("POST " SB "/exec", "Accept: application/x-ndjson\r\n", "{\"cmd\":[\"break\"]}");
    CHECK(strstr(reply, "{\"type\":\"error\",\"error\":{\"code\":\"sandbox_unavailable\""));
    (void)ask_body("POST " SB "/exec", "Accept: text/event-stream\r\n", "{\"cmd\":[\"refuse\"]}");
    CHECK(http_status(reply) == 400);
    (void)ask_body("POST /sandbox/" FAKE_ID "/exec", "",
                   "{\"cmd\":[\"echo\",\"hi\"],\"stream\":true}");
    CHECK(strstr(reply, "hi") && strstr(reply, "\nexit_code: 0\n"));
}

static bool left_by(const char *verb, const char *headers, const char *until, bool half,
                    atomic_int *want_gone)
{
    char request[1024], body[128];
    int before = atomic_load(want_gone);
    (void)snprintf(body, sizeof(body), "{\"cmd\":[\"%s\",\"4096\"]%s}", verb,
                   strstr(headers, "text/plain") ? ",\"stream\":true" : "");
    (void)snprintf(request, sizeof(request),
                   "POST " SB
                   "/exec HTTP/1.1\r\nHost: localhost\r\n%sContent-Length: %zu\r\n\r\n%s",
                   headers, strlen(body), body);
    atomic_store(&fake_hold, 1);
    int fd = http_dial(api->port);
    (void)http_send(fd, request, strlen(request));
    if (until)
        (void)http_read(fd, reply, sizeof(reply), until);
    (void)soon(&fake_running, 1);
    bool ok;
    if (half) { /* still listening: the command must go on and its answer arrive */
        (void)shutdown(fd, SHUT_WR);
        (void)poll(NULL, 0, 200);
        ok = atomic_load(&fake_running) == 1;
        atomic_store(&fake_hold, 0);
        (void)http_read(fd, reply, sizeof(reply), NULL);
        ok = ok && strstr(reply, until ? "event: exit" : "HTTP/1.1 200 OK") &&
             atomic_load(want_gone) == before;
        (void)close(fd);
    } else {
        (void)close(fd);
        ok = soon(want_gone, before + 1);
    }
    atomic_store(&fake_hold, 0);
    return ok && soon(&fake_running, 0);
}

static void test_leaving(void)
{
    CHECK_ROW("whole, closes", left_by("hold", "", NULL, false, &fake_gone));
    int older[4]; /* libmicrohttpd treats its oldest connection in another way */
    for (size_t i = 0; i < 4; i++)
        older[i] = http_dial(api->port);
    for (int i = 0; i < 4; i++) /* on either of the two HTTP threads */
        CHECK_ROW("whole, half-closes", left_by("hold", "", NULL, true, &fake_gone));
    for (size_t i = 0; i < 4; i++)
        (void)close(older[i]);
    CHECK_ROW("SSE, closes", left_by("hold", "Accept: text/event-stream\r\n", "event: started",
                                     false, &fake_gone));
    CHECK_ROW("SSE, half-closes",
              left_by("hold", "Accept: text/event-stream\r\n", "event: started", true, &fake_gone));
    CHECK_ROW("NDJSON, closes",
              left_by("hold", "Accept: application/x-ndjson\r\n", "started", false, &fake_gone));
    CHECK_ROW("text, closes silently",
              left_by("hold", "Accept: text/plain\r\n", NULL, false, &fake_gone));
    CHECK_ROW("text, closes later",
              left_by("say-hold", "Accept: text/plain\r\n", "hi", false, &fake_gone));
    CHECK_ROW("flood, closes", left_by("flood", "Accept: text/event-stream\r\n", "event: stdout",
                                       false, &fake_gone));
}

static long rss_kib(void)
{
    long pages = 0, resident = 0;
    FILE *f = fopen("/proc/self/statm", "re");
    if (!f || fscanf(f, "%ld %ld", &pages, &resident) != 2)
        abort();
    (void)fclose(f);
    return resident * (sysconf(_SC_PAGESIZE) / 1024);
}

/* A reader that takes nothing for a while holds the writer at the window. */
static void test_back_pressure(void)
{
    const char body[] = "{\"cmd\":[\"flood\",\"64\"],\"stream\":true}";
    char request[512];
    (void)snprintf(request, sizeof(request),
                   "POST " SB "/exec HTTP/1.1\r\n" OK_HEAD "Content-Length: %zu\r\n\r\n%s",
                   strlen(body), body);
    atomic_store(&fake_written, 0);
    int fd = http_dial(api->port);
    (void)http_send(fd, request, strlen(request));
    long long seen = -1;
    for (int i = 0; i < 600 && (seen <= 0 || seen != atomic_load(&fake_written)); i++) {
        seen = atomic_load(&fake_written);
        (void)poll(NULL, 0, 50);
    }
    CHECK(seen > 0 && seen < 32 * 1024 * 1024);
    size_t got = 0;
    for (ssize_t n; (n = recv(fd, reply, sizeof(reply), 0)) > 0;)
        got += (size_t)n;
    CHECK(got > (size_t)64 * 1024 * 1024);
    (void)close(fd);
    (void)ask_body("POST " SB "/exec", "", "{\"cmd\":[\"flood\",\"8\"]}");
    CHECK(strstr(reply, "\"stdout\":\"xxxx"));
}

#define FILE_MIB 64

static bool upload(const char *path, bool chunked, const char *block, size_t len)
{
    char head[512];
    int fd = http_dial(api->port);
    (void)snprintf(
        head, sizeof(head), "PUT " SB "/files?path=%s HTTP/1.1\r\n" OK_HEAD "%s%s\r\n\r\n", path,
        chunked ? "Transfer-Encoding: chunked" : "Content-Length: ", chunked ? "" : "67108864");
    bool sent = http_send(fd, head, strlen(head));
    for (size_t i = 0; i < FILE_MIB && sent; i++)
        sent = (!chunked || http_send(fd, "100000\r\n", 8)) && http_send(fd, block, len) &&
               (!chunked || http_send(fd, "\r\n", 2));
    sent = sent && (!chunked || http_send(fd, "0\r\n\r\n", 5));
    (void)http_read(fd, reply, sizeof(reply), NULL);
    (void)close(fd);
    return sent && http_status(reply) == 200 && strstr(reply, "\"size\":67108864,");
}

static void test_files(void)
{
    static char block[1 << 20];
    for (size_t i = 0; i < sizeof(block); i++)
        block[i] = (char)(i * 7 + i / 251);
    long before = rss_kib();
    CHECK_ROW("length", upload("big.bin", false, block, sizeof(block)));
    CHECK_ROW("chunked", upload("big2.bin", true, block, sizeof(block)));
    int fd = http_dial(api->port);
    const char get[] = "GET " SB "/files/content?path=big.bin HTTP/1.1\r\n" OK_HEAD "\r\n";
    (void)http_send(fd, get, sizeof(get) - 1);
    size_t got = 0;
    bool same = true;
    (void)http_read(fd, reply, 2, NULL); /* one byte: the head is measured below */
    char head[4096] = { reply[0] };
    size_t len = 1;
    while (len + 1 < sizeof(head) && !strstr(head, "\r\n\r\n") && recv(fd, head + len, 1, 0) == 1)
        len++;
    CHECK(strstr(head, "Content-Length: 67108864\r\n") &&
          strstr(head, "application/octet-stream") &&
          strstr(head, "Content-Disposition: attachment"));
    for (ssize_t n; (n = recv(fd, reply, sizeof(reply), 0)) > 0; got += (size_t)n)
        for (size_t i = 0; i < (size_t)n && same; i += 4093)
            same = reply[i] == block[(got + i) % sizeof(block)];
    (void)close(fd);
    CHECK(same && got == (size_t)FILE_MIB << 20);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    if (!CHECK(rss_kib() - before < 8 * 1024))
        (void)printf("# grew by %ld KiB\n", rss_kib() - before);
#endif
    (void)before;

    static const struct {
        const char *line, *body;
        int status;
        const char *holds;
    } rows[] = {
        { "HEAD " SB "/files/content?path=big.bin", "", 200, "Content-Length: 67108864" },
        { "PUT " SB "/files", "{\"path\":\"a/b.txt\",\"content\":\"one\"}", 200,
          "{\"path\":\"a/b.txt\",\"type\":\"file\",\"size\":3," },
        { "PUT " SB "/files", "{\"path\":\"a/b.txt\",\"content\":\"two\",\"append\":true}", 200,
          "\"size\":6," },
        { "PUT " SB "/files?path=a/b.txt&append=true", "!", 200, "\"size\":7," },
        { "GET " SB "/files/content?path=a/b.txt", "", 200, "onetwo!" },
        { "GET " SB "/files/content?path=/home/sandbox/workspace/app/a/b.txt", "", 200, "onetwo!" },
        { "GET " SB "/files?path=a", "", 200,
          "{\"path\":\"a/b.txt\",\"type\":\"file\",\"size\":7," },
        { "GET " SB "/files", "", 200, "\"path\":\"\",\"recursive\":false,\"truncated\":false," },
        { "GET " SB "/files?recursive=true", "", 200, "\"path\":\"a/b.txt\"" },
        { "GET " SB "/files?path=/home/sandbox", "", 200, "\"path\":\"/home/sandbox/workspace\"" },
        { "PUT " SB "/files?path=empty", "", 200, "\"size\":0," },
        { "PUT " SB "/files", "", 400, "path: is required" },
        { "PUT " SB "/files", "{\"path\":\"x\"}", 400, "content" },
        { "PUT " SB "/files?path=../../../etc/passwd", "x", 400, "path_escape" },
        { "GET " SB "/files/content?path=/etc/passwd", "", 400, "path_escape" },
        { "GET " SB "/files/content?path=a%00b", "", 400, "error" },
        { "GET " SB "/files/content", "", 400, "path: is required" },
        { "GET " SB "/files?recursive=perhaps", "", 400, "recursive: " },
        { "GET " SB "/files?frob=1", "", 400, "frob: no such parameter" },
        { "PUT " SB "/files?path=node_modules/x", "x", 200, "\"size\":1," },
        { "GET " SB "/files?all=true", "", 200, "\"path\":\"node_modules\"" },
        { "GET " SB "/files/content?path=nothing", "", 404, "not_found" },
        { "GET " SB "/files/content?path=a", "", 400, "error" },
        { "DELETE " SB "/files?path=a", "", 409, "conflict" },
        { "DELETE " SB "/files?path=a&recursive=true", "", 204, "" },
        { "DELETE " SB "/files?path=a", "", 404, "not_found" },
        { "PUT /v1/sandboxes/" FAKE_OTHER "/files?path=x", "x", 404, "not_found" },
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        (void)ask_body(rows[i].line, "", rows[i].body);
        if (!CHECK_ROW(rows[i].line,
                       http_status(reply) == rows[i].status && strstr(reply, rows[i].holds)))
            (void)printf("# got: %s\n", reply);
    }
}

/* An upload that stops half-way leaves nothing behind. */
static void test_cut_upload(void)
{
    static char part[900000];
    const char head[] = "PUT " SB "/files?path=half.bin HTTP/1.1\r\n" OK_HEAD
                        "Content-Length: 1000000\r\n\r\nsome bytes";
    for (int i = 0; i < 20; i++) {
        int fd = http_dial(api->port);
        (void)http_send(fd, head, sizeof(head) - 1);
        (void)http_send(fd, part, sizeof(part));
        (void)close(fd);
    }
    uint32_t load = 1;
    for (int i = 0; i < 6000 && (load = pool_load(api->pool)) > 0; i++)
        (void)poll(NULL, 0, 10);
    CHECK(load == 0);
    CHECK(http_status(ask_body("GET " SB "/files/content?path=half.bin", "", "")) == 404);
}

/* --- slow peers: the sweep is told a later time instead of being waited for --- */

/* All that was sent is read, and the only peer is where that leads to. */
static bool has_read(int fd, enum peer_phase phase)
{
    int unsent = 1, unread = 1;
    bool there = false;
    (void)ioctl(fd, TIOCOUTQ, &unsent);
    mu_lock(&api->peers_lock);
    const struct peer *p = api->peers;
    if (p && !p->next && atomic_load(&p->phase) == (int)phase)
        there = ioctl(p->fd, FIONREAD, &unread) == 0;
    mu_unlock(&api->peers_lock);
    return there && unsent == 0 && unread == 0;
}

static void test_slow_peers(void)
{
    static const struct {
        const char *name, *sent;
        enum peer_phase phase;
        int age_ms, status; /* 0: still there */
    } rows[] = {
        { "nothing yet", "", PEER_NEW, HEADER_MS - 1000, 0 },
        { "half a header", "GET / HTTP/1.1\r\nHost: lo", PEER_HEADER, HEADER_MS + 1000, 408 },
        { "half a request line", "GE", PEER_NEW, HEADER_MS + 1000, 408 },
        { "half a body",
          "POST /v1/sandboxes HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{", PEER_BODY,
          HEADER_MS + 1000, 408 },
        { "half a body, in time",
          "POST /v1/sandboxes HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{", PEER_BODY,
          HEADER_MS - 1000, 0 },
        { "kept alive", "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", PEER_IDLE,
          HEADER_MS + 1000, 200 },
    };
    for (int k = 0; k < 6000 && atomic_load(&api->n_peers) > 0; k++) /* of before */
        (void)poll(NULL, 0, 10);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        uint64_t cut = atomic_load(&api->metrics.cut);
        int64_t from = clock_mono_ms();
        int fd = http_dial(api->port);
        (void)http_send(fd, rows[i].sent, strlen(rows[i].sent));
        if (rows[i].status == 200)
            (void)http_read(fd, reply, sizeof(reply), "ok\n");
        for (int k = 0; k < 6000 && !has_read(fd, rows[i].phase); k++)
            (void)poll(NULL, 0, 10);
        if (rows[i].status) /* as old at least; the others at most */
            from = clock_mono_ms();
        (void)api_sweep(api, from + rows[i].age_ms);
        if (rows[i].status == 408)
            (void)http_read(fd, reply, sizeof(reply), NULL);
        bool was_cut = atomic_load(&api->metrics.cut) > cut;
        CHECK_ROW(rows[i].name, was_cut == (rows[i].status == 408) &&
                                    (!rows[i].status || http_status(reply) == rows[i].status));
        (void)close(fd);
        for (int k = 0; k < 6000 && atomic_load(&api->n_peers) > 0; k++)
            (void)poll(NULL, 0, 10);
    }
}

/* Connections of one address have a bound, all others leave some to this machine itself. */
static void test_admission(void)
{
    static const struct {
        const char *from;
        bool with_room, crowded, full;
    } rows[] = {
        { "192.0.2.1", true, false, false },      { "192.0.2.2", true, true, false },
        { "2001:db8::1", true, false, false },    { "2001:db8::ffff:1", true, false, false },
        { "2001:db8:0:1::1", true, true, false }, { "127.0.0.1", true, true, true },
        { "127.9.9.9", true, true, true },        { "::1", true, true, true },
        { "::ffff:127.0.0.1", true, true, true }, { "::ffff:192.0.2.1", true, false, false },
    };
    struct config few = { .peer_connections = 2 };
    struct peer there[4] = { { .next = &there[1] }, { .next = &there[2] }, { .next = &there[3] } };
    static const char *const at[] = { "::ffff:192.0.2.1", "::ffff:192.0.2.1", "2001:db8::1",
                                      "2001:db8::2" };
    struct api crowd = { .config = &few, .peers_max = 1000 };
    mu_init(&crowd.peers_lock, MU_PEERS);
    for (size_t i = 0; i < 4; i++)
        CHECK(inet_pton(AF_INET6, at[i], &there[i].address) == 1);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct sockaddr_in v4 = { .sin_family = AF_INET };
        struct sockaddr_in6 v6 = { .sin6_family = AF_INET6 };
        bool old = inet_pton(AF_INET, rows[i].from, &v4.sin_addr) == 1;
        CHECK(old || inet_pton(AF_INET6, rows[i].from, &v6.sin6_addr) == 1);
        const struct sockaddr *from = old ? (void *)&v4 : (void *)&v6;
        crowd.peers = NULL;
        atomic_store(&crowd.n_peers, 0);
        CHECK_ROW(rows[i].from, peer_admit(&crowd, from) == rows[i].with_room);
        crowd.peers = there;
        atomic_store(&crowd.n_peers, 4);
        CHECK_ROW(rows[i].from, peer_admit(&crowd, from) == rows[i].crowded);
        atomic_store(&crowd.n_peers, 1000 - HTTP_OPERATOR_RESERVE);
        CHECK_ROW(rows[i].from, peer_admit(&crowd, from) == rows[i].full);
    }
    mu_release(&crowd.peers_lock);
}

/* --- many --- */

#define HOLDERS API_TENANT_THREADS_MAX

static void test_overload(void)
{
    static int fds[HOLDERS];
    const char body[] = "{\"cmd\":[\"hold\"]}";
    char request[512];
    struct rlimit l;
    (void)getrlimit(RLIMIT_NOFILE, &l);
    if (l.rlim_cur < 4 * HOLDERS) { /* both ends of each connection are here, and a duplicate */
        (void)printf("# skipped: RLIMIT_NOFILE is %llu\n", (unsigned long long)l.rlim_cur);
        return;
    }
    (void)snprintf(request, sizeof(request),
                   "POST " SB "/exec HTTP/1.1\r\nHost: localhost\r\nContent-Length: %zu\r\n\r\n%s",
                   strlen(body), body);
    atomic_store(&fake_hold, 1);
    for (int i = 0; i < 6000 && pool_load(api->pool) > 0; i++) /* those of before hold a share */
        (void)poll(NULL, 0, 10);
    for (int i = 0; i < HOLDERS; i++) {
        fds[i] = http_dial(api->port);
        (void)http_send(fds[i], request, strlen(request));
    }
    for (int i = 0; i < 6000 && atomic_load(&fake_running) < HOLDERS; i++)
        (void)poll(NULL, 0, 10);
    CHECK(atomic_load(&fake_running) == HOLDERS);
    (void)ask_body("POST " SB "/exec", "", body);
    CHECK(http_status(reply) == 503 && strstr(reply, "Retry-After: "));
    CHECK_ROW("reads go on", http_status(ask_body("GET " SB, "", "")) == 200);
    atomic_store(&fake_hold, 0);
    int good = 0;
    for (int i = 0; i < HOLDERS; i++) {
        good += http_status(http_read(fds[i], reply, sizeof(reply), "}}\n")) == 200;
        (void)close(fds[i]);
    }
    CHECK(good == HOLDERS);
}

static void test_address_in_use(void)
{
    struct config twice = config;
    struct api *second = NULL;
    struct err err = { 0 };
    twice.api.port = api->port;
    CHECK(api_start(NULL, &twice, &second, &err) < 0 && err.code == ERR_CONFLICT);
}

/* A handler that would never end is cut at the deadline. */
static void test_stop(void)
{
    const char request[] = "POST " SB "/exec HTTP/1.1\r\nHost: localhost\r\nContent-Length: "
                           "16\r\n\r\n{\"cmd\":[\"hold\"]}";
    atomic_store(&fake_hold, 1);
    int fd = http_dial(api->port);
    (void)http_send(fd, request, sizeof(request) - 1);
    CHECK(soon(&fake_running, 1));
    int64_t begun = clock_mono_ms();
    api_stop(api, begun + 300);
    int64_t took = clock_mono_ms() - begun;
    CHECK(took >= 300 && took < 5000 && atomic_load(&fake_running) == 0);
    (void)close(fd);
}

int main(void)
{
    char *hosts[] = { (char[]){ "api.example" } };
    char *origins[] = { (char[]){ "https://app.example" } };
    config = (struct config){ .api = { .host = "127.0.0.1", .loopback = true },
                              .auth_disabled = true,
                              .peer_header_ms = HEADER_MS,
                              .peer_stall_ms = 30000,
                              .peer_idle_ms = 60000,
                              .peer_connections = 512,
                              .data_dir = (char[]){ "/var/lib/x" },
                              .preview_domain = (char[]){ "localhost" },
                              .hosts = hosts,
                              .n_hosts = 1,
                              .origins = origins,
                              .n_origins = 1 };
    struct rlimit l;
    if (getrlimit(RLIMIT_NOFILE, &l) == 0) {
        l.rlim_cur = l.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &l);
    }
    fake_core_init();
    start();
    test_strict();
    test_host_and_origin();
    test_routing();
    test_auth();
    test_bodies();
    test_ceilings();
    test_exec_streams();
    test_leaving();
    test_back_pressure();
    test_files();
    test_cut_upload();
    test_slow_peers();
    test_admission();
    test_overload();
    test_address_in_use();
    test_stop();
    char rm[64];
    (void)snprintf(rm, sizeof(rm), "rm -rf %s", fake_home);
    (void)!system(rm);
    return check_done();
}
