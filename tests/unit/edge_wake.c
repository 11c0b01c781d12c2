/* Requests to a sandbox that sleeps, fails, stops under them or is private; pages, limits, and who
 * is let in. */
#include "edge_app.h"

#define HOST "Host: " RIG_HOST "\r\n"
#define GET "GET /x HTTP/1.1\r\n" HOST
#define END "Connection: close\r\n\r\n"
#define HOLD_MS 60000 /* what is held is not given up because the machine is busy */

/* Requests wait at the gate while it is closed, and are counted. */
static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool closed;
    int waiting;
} gate = { .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER };

static void gate_pass(void)
{
    (void)pthread_mutex_lock(&gate.lock);
    gate.waiting++;
    (void)pthread_cond_broadcast(&gate.changed);
    while (gate.closed)
        (void)pthread_cond_wait(&gate.changed, &gate.lock);
    gate.waiting--;
    (void)pthread_mutex_unlock(&gate.lock);
}

static void gate_set(bool closed)
{
    (void)pthread_mutex_lock(&gate.lock);
    gate.closed = closed;
    (void)pthread_cond_broadcast(&gate.changed);
    (void)pthread_mutex_unlock(&gate.lock);
}

/* Until so many wait at it. */
static void gate_await(int count)
{
    (void)pthread_mutex_lock(&gate.lock);
    while (gate.waiting < count)
        (void)pthread_cond_wait(&gate.changed, &gate.lock);
    (void)pthread_mutex_unlock(&gate.lock);
}

static void serve(struct app_conn *c, const char *head)
{
    size_t want = 0;
    const char *p = strcasestr(head, "content-length: ");
    if (p)
        want = strtoul(p + 16, NULL, 10);
    while (c->used < want && app_more(c))
        ;
    app_drop(c, c->used < want ? c->used : want);
    if (strstr(head, "/upgrade")) {
        (void)app_say(c, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\n"
                         "Connection: Upgrade\r\n\r\nhello");
        while (app_more(c))
            c->used = 0;
        return;
    }
    if (strstr(head, "/die")) { /* its sandbox stops while it works */
        atomic_store(&fake_state, SANDBOX_STOPPED);
        (void)close(c->fd);
        c->fd = -1;
        return;
    }
    gate_pass();
    app_length(c, head);
}

static void asleep(enum sandbox_state state, int wake_ms)
{
    atomic_store(&fake_wakes, 0);
    atomic_store(&fake_wake_ms, wake_ms);
    atomic_store(&fake_wake_fail, 0);
    atomic_store(&fake_state, state);
}

#define UNTIL_TOLD 600000 /* ms that a wake takes, or until wake_now */

static void wake_now(void)
{
    atomic_store(&fake_wake_ms, 0);
    while (atomic_load(&fake_state) != SANDBOX_RUNNING)
        (void)usleep(1000);
}

static bool answers(const char *request, const char *want)
{
    char out[16384];
    rig_ask(request, out, sizeof out);
    bool ok = strstr(out, want) != NULL;
    if (!ok)
        printf("# wanted %s, got %s\n", want, out);
    return ok;
}

/* --- first requests --- */

static void wakes(void)
{
    static const enum sandbox_state states[] = { SANDBOX_STOPPED,  SANDBOX_PAUSED,
                                                 SANDBOX_STOPPING, SANDBOX_STARTING,
                                                 SANDBOX_CREATING, SANDBOX_RESUMING,
                                                 SANDBOX_PAUSING };
    for (size_t i = 0; i < sizeof states / sizeof states[0]; i++) {
        asleep(states[i], 20);
        CHECK_ROW(sandbox_state_name(states[i]), answers(GET END, "GET /x HTTP/1.1"));
        CHECK_ROW(sandbox_state_name(states[i]), atomic_load(&fake_wakes) == 1);
    }
    asleep(SANDBOX_STOPPED, 20);
    CHECK(answers("POST /p HTTP/1.1\r\n" HOST "Content-Length: 5\r\n" END "hello",
                  "POST /p HTTP/1.1"));
    asleep(SANDBOX_STOPPED, 20);
    CHECK(answers("HEAD /x HTTP/1.1\r\n" HOST END, "200 OK"));
}

/* Many at once are one start, and all are served. */
struct ask {
    pthread_t thread;
    bool ok;
};
static void *ask_one(void *arg)
{
    struct ask *a = arg;
    char out[16384];
    rig_ask(GET END, out, sizeof out);
    a->ok = strstr(out, "200 OK") != NULL;
    return NULL;
}
static void together(void)
{
    static struct ask asks[50];
    asleep(SANDBOX_STOPPED, 200);
    for (size_t i = 0; i < 50; i++)
        if (pthread_create(&asks[i].thread, NULL, ask_one, &asks[i]) != 0)
            abort();
    int served = 0;
    for (size_t i = 0; i < 50; i++) {
        (void)pthread_join(asks[i].thread, NULL);
        served += asks[i].ok;
    }
    CHECK(served == 50);
    CHECK(atomic_load(&fake_wakes) == 1);
}

static void *wake_when_held(void *arg)
{
    (void)arg;
    while (atomic_load(&fake_traffic.held) == 0)
        (void)usleep(1000);
    (void)usleep(300000); /* longer than a tick */
    wake_now();
    return NULL;
}

static void pages(void)
{
    char out[16384];
    asleep(SANDBOX_STOPPED, UNTIL_TOLD);
    rig_ask(GET "Sec-Fetch-Mode: navigate\r\nAccept: text/html\r\n" END, out, sizeof out);
    CHECK(strstr(out, "503 Service Unavailable") && strstr(out, "Retry-After: 1\r\n"));
    CHECK(strstr(out, "/.sandboxed/wake") && strstr(out, "Content-Security-Policy: default-src"));
    CHECK(strstr(out, "Cache-Control: no-store") && strstr(out, "nosniff"));
    CHECK(answers("GET /.sandboxed/wake HTTP/1.1\r\n" HOST END, "\"phase\":\"engine\""));
    pthread_t t;
    if (pthread_create(&t, NULL, wake_when_held, NULL) != 0)
        abort();
    CHECK(answers(GET END, "GET /x HTTP/1.1")); /* no browser: held until it runs */
    (void)pthread_join(t, NULL);
    CHECK(answers("GET /.sandboxed/wake HTTP/1.1\r\n" HOST END, "\"ready\":true"));
    CHECK(answers("GET /.sandboxed/other HTTP/1.1\r\n" HOST END, "404 Not Found"));
    CHECK(atomic_load(&fake_wakes) == 1);
    asleep(SANDBOX_STOPPED, 20);          /* fast enough: no page */
    rig_config.wake_page_after_ms = 2900; /* also for a machine that is busy */
    CHECK(answers(GET "Accept: text/html\r\n" END, "GET /x HTTP/1.1"));
    rig_config.wake_page_after_ms = 100;
    asleep(SANDBOX_STOPPED, 600); /* a script asks: no page, whatever it accepts */
    CHECK(answers(GET "Sec-Fetch-Mode: cors\r\nAccept: text/html\r\n" END, "GET /x HTTP/1.1"));
    asleep(SANDBOX_STOPPED, 600);
    CHECK(answers("POST /x HTTP/1.1\r\n" HOST "Content-Length: 0\r\nSec-Fetch-Mode: navigate\r\n"
                  "Accept: text/html\r\n" END,
                  "POST /x HTTP/1.1"));
    asleep(SANDBOX_STOPPED, UNTIL_TOLD);
    rig_config.wake_hold_ms = 3000;
    CHECK(answers(GET END, "503 Service Unavailable")); /* beyond WAKE_HOLD */
    rig_config.wake_hold_ms = HOLD_MS;
    wake_now();
}

static void failures(void)
{
    static const struct {
        enum err_code code;
        const char *want;
    } rows[] = {
        { ERR_CAPACITY, "X-Retry-After-Reason: low_memory" },
        { ERR_UNAVAILABLE, "503 Service Unavailable" },
        { ERR_ENGINE, "503 Service Unavailable" },
        { ERR_NOT_FOUND, "404 Not Found" },
    };
    char out[16384];
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        asleep(SANDBOX_STOPPED, 1);
        atomic_store(&fake_wake_fail, (int)rows[i].code);
        CHECK_ROW(err_name(rows[i].code), answers(GET END, rows[i].want));
    }
    atomic_store(&fake_wake_fail, ERR_UNAVAILABLE);
    /* On a busy machine the page that follows a wake may come first: it is asked again, as it does
     * itself. */
    do
        rig_ask(GET "Accept: text/html\r\n" END, out, sizeof out);
    while (strstr(out, "/.sandboxed/wake"));
    CHECK(strstr(out, "it &lt;i&gt;fails&lt;/i&gt;") && !strstr(out, "<i>"));
    rig_ask(GET "Accept: application/json\r\n" END, out, sizeof out);
    CHECK(strstr(out, "{\"error\":{\"code\":\"sandbox_unavailable\"") != NULL);
    CHECK(answers("GET /.sandboxed/wake HTTP/1.1\r\n" HOST END, "\"failed\":true"));
    asleep(SANDBOX_ERROR, 1);
    CHECK(answers(GET END, "no such image <b>"));
    CHECK(answers(GET "Accept: text/html\r\n" END, "no such image &lt;b&gt;"));
    asleep(SANDBOX_DELETING, 1);
    CHECK(answers(GET END, "410 Gone"));
    asleep(SANDBOX_STOPPED, 1);
    CHECK(answers(GET "Sec-Purpose: prefetch\r\n" END, "503 Service Unavailable"));
    CHECK(atomic_load(&fake_wakes) == 0);
    asleep(SANDBOX_RUNNING, 0);
}

/* --- a service that is not well yet --- */

static void *heal(void *arg)
{
    (void)arg;
    (void)usleep(300000); /* longer than a tick: the request is held, not lucky */
    atomic_store(&fake_ill, false);
    return NULL;
}

static void unwell(void)
{
    static const char *const held[] = { GET END, "POST /x HTTP/1.1\r\n" HOST
                                                 "Content-Length: 2\r\n" END "hi" };
    pthread_t t;
    for (size_t i = 0; i < 2; i++) {
        asleep(SANDBOX_STOPPED, 1);
        atomic_store(&fake_ill, true);
        if (pthread_create(&t, NULL, heal, NULL) != 0)
            abort();
        CHECK(answers(held[i], "200 OK") && !atomic_load(&fake_ill));
        (void)pthread_join(t, NULL);
        CHECK(atomic_load(&fake_wakes) == 1);
    }
    atomic_fetch_add(&fake_epoch, 1); /* no connection is left from before */
    atomic_store(&fake_ill, true);
    CHECK(answers("GET /.sandboxed/wake HTTP/1.1\r\n" HOST END, "\"phase\":\"health\""));
    CHECK(answers("GET /.sandboxed/wake HTTP/1.1\r\n" HOST END,
                  "Not healthy yet: service <web>: it answered 500."));
    char out[16384];
    rig_ask(GET "Accept: application/json\r\n" END, out, sizeof out);
    CHECK(strstr(out, "503 Service Unavailable") && strstr(out, "\"code\":\"unhealthy\"") &&
          strstr(out, "X-Retry-After-Reason: unhealthy") && strstr(out, "it answered 500"));
    CHECK(answers("GET / HTTP/1.1\r\nHost: s-" FAKE_LOWER "-4000.preview.localhost\r\n" END,
                  "Ports that listen: 3000")); /* others do not wait for it */
    atomic_store(&fake_ill, false);
    CHECK(answers(GET END, "200 OK"));
}

/* --- what stops under a request --- */

static void stops(void)
{
    asleep(SANDBOX_RUNNING, 1);
    /* asked again, it dies again, ... but not for ever */
    CHECK(answers("GET /die HTTP/1.1\r\n" HOST END, "The sandbox stopped while it worked"));
    CHECK(atomic_load(&fake_wakes) > 1);
    asleep(SANDBOX_RUNNING, 10);
    CHECK(answers("POST /die HTTP/1.1\r\n" HOST "Content-Length: 0\r\n" END,
                  "The sandbox stopped while it worked"));
    asleep(SANDBOX_RUNNING, 10);
    char seen[4096] = "";
    int fd = rig_client(); /* open streams end with their sandbox */
    rig_send(fd, "GET /upgrade HTTP/1.1\r\n" HOST "Connection: Upgrade\r\nUpgrade: echo\r\n\r\n");
    CHECK(rig_read(fd, seen, sizeof seen, "hello") == RIG_SEEN);
    atomic_store(&fake_state, SANDBOX_STOPPED);
    CHECK(rig_closed(fd));
    (void)close(fd);
    asleep(SANDBOX_RUNNING, 10); /* a start later: kept connections are not used */
    CHECK(answers(GET END, "200 OK"));
    int before = atomic_load(&fake_connects);
    atomic_fetch_add(&fake_epoch, 1);
    CHECK(answers(GET END, "200 OK"));
    CHECK(atomic_load(&fake_connects) == before + 1);
    atomic_store(&fake_app_port, 0); /* nothing listens */
    CHECK(answers("POST / HTTP/1.1\r\n" HOST "Content-Length: 0\r\n" END, "502 Bad Gateway"));
    atomic_fetch_add(&fake_epoch, 1); /* none that is kept will do */
    CHECK(answers(GET END, "Nothing listens on port 3000: Its <service> keeps ending. No port"));
    CHECK(answers(GET "Accept: text/html\r\n" END, "Its &lt;service&gt; keeps ending."));
    CHECK(answers("GET /.sandboxed/wake HTTP/1.1\r\n" HOST END, "Its <service> keeps ending."));
    atomic_store(&fake_app_port, app.port);
    CHECK(answers(
        "GET / HTTP/1.1\r\nHost: s-" FAKE_LOWER "-4000.preview.localhost\r\n" END,
        "\r\n\r\nNothing listens on port 4000: Its <service> keeps ending. Ports that listen: "
        "3000\n"));
}

/* --- names --- */

static void names(void)
{
    static const struct {
        const char *host, *want;
    } rows[] = {
        { RIG_HOST, "200 OK" },
        { "S-" FAKE_ID "-3000.PREVIEW.LOCALHOST", "200 OK" },
        { RIG_HOST ":9080", "200 OK" },
        { "3000-" FAKE_LOWER ".localhost", "200 OK" },
        { "localhost", "404" },
        { "127.0.0.1:9080", "404" },
        { "api.preview.localhost", "404" },
        { "s-" FAKE_LOWER "-3000.preview.localhost.evil", "404" },
        { "x.s-" FAKE_LOWER "-3000.preview.localhost", "404" },
        { "s-" FAKE_LOWER "-3000.localhost", "404" },
        { "s-" FAKE_LOWER "-03000.preview.localhost", "404" },
        { "s-" FAKE_LOWER "-0.preview.localhost", "404" },
        { "s-" FAKE_LOWER "-65536.preview.localhost", "404" },
        { "s-" FAKE_LOWER "-.preview.localhost", "400" },
        { "s-" FAKE_LOWER ".preview.localhost", "404" },
        { "s--3000.preview.localhost", "404" },
        { "s-01arz3ndektsv4rrffq69g5fax-3000.preview.localhost", "404" },
        { "s-01arz3ndektsv4rrffq69g5fai-3000.preview.localhost", "404" },
        { "s-" FAKE_LOWER "-3000.preview.localhost.", "400" },
        { "s-" FAKE_LOWER "_3000.preview.localhost", "400" },
    };
    char request[512], out[16384];
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        (void)snprintf(request, sizeof request, "GET / HTTP/1.1\r\nHost: %s\r\n" END, rows[i].host);
        rig_ask(request, out, sizeof out);
        char status[32];
        (void)snprintf(status, sizeof status, "HTTP/1.1 %s", rows[i].want);
        if (!CHECK_ROW(rows[i].host, str_starts(out, status)))
            printf("# got %.60s\n", out);
    }
#define BOX "E2b-Sandbox-Id: " FAKE_ID "\r\nE2b-Sandbox-Port: "
    CHECK(answers("GET / HTTP/1.1\r\nHost: any.example\r\n" BOX "3000\r\n" END, "200 OK"));
    CHECK(answers("GET / HTTP/1.0\r\n" BOX "3000\r\n\r\n", "Host: " RIG_HOST));
    CHECK(answers("GET / HTTP/1.1\r\nHost: any\r\n" BOX "x\r\n" END, "HTTP/1.1 400"));
    CHECK(answers("GET / HTTP/1.1\r\nHost: any\r\nE2b-Sandbox-Port: 1\r\n" END, "HTTP/1.1 400"));
    CHECK(answers(GET BOX "3000\r\n" END, "200 OK"));
    CHECK(answers(GET BOX "4000\r\n" END, "HTTP/1.1 400"));
}

/* --- private --- */

#define COOKIE "Cookie: sandboxed-" FAKE_LOWER "=" FAKE_COOKIE "\r\n"
#define COOKIE_TLS "Cookie: __Host-sandboxed-" FAKE_LOWER "=" FAKE_COOKIE "\r\n"
#define TLS "X-Forwarded-Proto: https\r\n"

static void private(void)
{
    static const struct {
        const char *name, *lines;
        bool in;
    } rows[] = {
        { "nothing", "", false },
        { "token", "Authorization: Bearer " FAKE_TOKEN "\r\n", true },
        { "token in any case", "authorization: bearer " FAKE_TOKEN "\r\n", true },
        { "token of another tenant", "Authorization: Bearer other-horse\r\n", false },
        { "wrong token", "Authorization: Bearer nope\r\n", false },
        { "two authorizations",
          "Authorization: Bearer " FAKE_TOKEN "\r\nAuthorization: Bearer x\r\n", false },
        { "own header", "X-Sandboxed-Token: " FAKE_TOKEN "\r\n", true },
        { "own header with a code", "X-Sandboxed-Token: " FAKE_CODE "\r\n", true },
        { "own header, wrong", "X-Sandboxed-Token: nope\r\n", false },
        { "cookie", COOKIE, true },
        { "cookie among others", "Cookie: a=b; sandboxed-" FAKE_LOWER "=" FAKE_COOKIE "; c=d\r\n",
          true },
        { "a wrong one before the right one",
          "Cookie: sandboxed-" FAKE_LOWER "=x; sandboxed-" FAKE_LOWER "=" FAKE_COOKIE "\r\n",
          true },
        { "wrong cookie", "Cookie: sandboxed-" FAKE_LOWER "=bad\r\n", false },
        { "empty cookie", "Cookie: sandboxed-" FAKE_LOWER "=\r\n", false },
        { "cookie of another sandbox",
          "Cookie: sandboxed-01arz3ndektsv4rrffq69g5faw=" FAKE_COOKIE "\r\n", false },
        { "cookie name in upper case", "Cookie: SANDBOXED-" FAKE_LOWER "=" FAKE_COOKIE "\r\n",
          false },
        { "cookie of TLS without TLS", COOKIE_TLS, false },
        { "cookie of TLS", TLS COOKIE_TLS, true },
        { "plain cookie on TLS", TLS COOKIE, false },
        { "identity of our own", "X-Sandbox-External-User-Id: owner\r\nX-Forwarded-User: owner\r\n",
          false },
        { "identity through Connection",
          "Connection: X-Sandbox-External-User-Id, Cookie\r\nX-Sandbox-External-User-Id: o\r\n",
          false },
        { "cookie from a sibling's page", COOKIE "Origin: http://evil.preview.localhost\r\n",
          true },
    };
    char request[1024], out[16384];
    atomic_store(&fake_visibility, VISIBILITY_PRIVATE);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        (void)snprintf(request, sizeof request, GET "%s" END, rows[i].lines);
        rig_ask(request, out, sizeof out);
        bool in = strstr(out, "200 OK") != NULL;
        CHECK_ROW(rows[i].name, in == rows[i].in);
        CHECK_ROW(rows[i].name, in || strstr(out, "HTTP/1.1 401") != NULL);
        CHECK_ROW(rows[i].name, !strstr(out, FAKE_COOKIE) && !strstr(out, FAKE_TOKEN) &&
                                    !strstr(out, "External"));
    }
    /* what changes something, or stays open, must come from a page of this host */
    CHECK(answers("POST / HTTP/1.1\r\n" HOST COOKIE "Origin: http://evil.localhost\r\n"
                  "Content-Length: 0\r\n" END,
                  "403 Forbidden"));
    CHECK(answers("POST / HTTP/1.1\r\n" HOST COOKIE "Origin: http://" RIG_HOST "\r\n"
                  "Content-Length: 0\r\n" END,
                  "200 OK"));
    CHECK(answers("GET /upgrade HTTP/1.1\r\n" HOST COOKIE "Origin: null\r\n"
                  "Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
                  "403 Forbidden"));
    /* a stranger wakes nobody */
    asleep(SANDBOX_STOPPED, 1);
    CHECK(answers(GET END, "401 Unauthorized"));
    CHECK(answers("GET /.sandboxed/wake HTTP/1.1\r\n" HOST END, "401 Unauthorized"));
    CHECK(atomic_load(&fake_wakes) == 0);
    asleep(SANDBOX_RUNNING, 0);
}

static void links(void)
{
    char out[16384];
    rig_ask("GET /a?b=1&sandboxed_code=" FAKE_CODE "&c=2 HTTP/1.1\r\n" HOST END, out, sizeof out);
    CHECK(strstr(out, "303 See Other") && strstr(out, "Location: /a?b=1&c=2\r\n"));
    CHECK(strstr(out, "Set-Cookie: sandboxed-" FAKE_LOWER "=" FAKE_COOKIE "; Path=/; Max-Age="));
    CHECK(strstr(out, "HttpOnly; SameSite=Lax") && !strstr(out, "Domain") &&
          !strstr(out, "Secure"));
    CHECK(strstr(out, "Referrer-Policy: no-referrer"));
    CHECK(answers("GET /?sandboxed_code=" FAKE_CODE " HTTP/1.1\r\n" HOST END, "401"));
    atomic_store(&fake_code_used, false);
    rig_ask("GET /?sandboxed_code=" FAKE_CODE " HTTP/1.1\r\n" HOST TLS END, out, sizeof out);
    CHECK(strstr(out, "Set-Cookie: __Host-sandboxed-" FAKE_LOWER "=") && strstr(out, "Secure;"));
    CHECK(strstr(out, "Location: /\r\n") != NULL);
    CHECK(answers("GET /?sandboxed_code=bad HTTP/1.1\r\n" HOST END, "401 Unauthorized"));
    atomic_store(&fake_visibility, VISIBILITY_PUBLIC);
    static const struct {
        const char *target, *location;
    } rows[] = {
        { "//evil?sandboxed_code=x", "Location: /\r\n" },
        { "/\\evil?sandboxed_code=x", "Location: /\r\n" },
        { "/p?sandboxed_code=x", "Location: /p\r\n" },
        { "/p?sandboxed_code=x&a=1", "Location: /p?a=1\r\n" },
        { "/p?a=1&sandboxed_code=x", "Location: /p?a=1\r\n" },
    };
    char request[512];
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        (void)snprintf(request, sizeof request, "GET %s HTTP/1.1\r\n" HOST END, rows[i].target);
        CHECK_ROW(rows[i].target, answers(request, rows[i].location));
    }
}

/* Open sockets of strangers are cut within a second. */
static void cuts(void)
{
    char out[4096] = "", mine[4096] = "";
    int fd = rig_client(), owner = rig_client();
    rig_send(fd, "GET /upgrade HTTP/1.1\r\n" HOST "Connection: Upgrade\r\nUpgrade: echo\r\n" COOKIE
                 "\r\n");
    rig_send(owner, "GET /upgrade HTTP/1.1\r\n" HOST "Connection: Upgrade\r\nUpgrade: echo\r\n"
                    "Authorization: Bearer " FAKE_TOKEN "\r\n\r\n");
    CHECK(rig_read(fd, out, sizeof out, "hello") == RIG_SEEN);
    CHECK(rig_read(owner, mine, sizeof mine, "hello") == RIG_SEEN);
    int64_t began_ms = clock_mono_ms();
    atomic_store(&fake_visibility,
                 VISIBILITY_PRIVATE); /* public when it came: no right of its own */
    CHECK(rig_closed(fd));
    CHECK(clock_mono_ms() - began_ms < 5000); /* a second on a quiet machine */
    (void)close(fd);
    fd = rig_client();
    out[0] = '\0';
    rig_send(fd, "GET /upgrade HTTP/1.1\r\n" HOST "Connection: Upgrade\r\nUpgrade: echo\r\n" COOKIE
                 "\r\n");
    CHECK(rig_read(fd, out, sizeof out, "hello") == RIG_SEEN);
    began_ms = clock_mono_ms();
    atomic_store(&fake_share_dead, true); /* revoked */
    CHECK(rig_closed(fd));
    CHECK(clock_mono_ms() - began_ms < 5000); /* a second on a quiet machine */
    (void)close(fd);
    struct pollfd p = { .fd = owner, .events = POLLIN };
    CHECK(poll(&p, 1, 0) == 0); /* the owner's is open still */
    (void)close(owner);
    atomic_store(&fake_share_dead, false);
    atomic_store(&fake_visibility, VISIBILITY_PUBLIC);
}

/* --- what was counted --- */

static unsigned long requests(enum traffic_outcome o)
{
    return (unsigned long)atomic_load(&fake_traffic.requests[o]);
}

static void counts(void)
{
    static const struct {
        const char *request;
        enum traffic_outcome outcome;
    } rows[] = {
        { GET END, TRAFFIC_SERVED },
        { "GET /.sandboxed/wake HTTP/1.1\r\n" HOST END, TRAFFIC_OWN },
        { "GET / HTTP/1.1\r\nHost: nobody\r\n" END, TRAFFIC_UNKNOWN },
        { "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n" END, TRAFFIC_REFUSED },
        { "nonsense\r\n\r\n", TRAFFIC_REFUSED },
        { "GET / HTTP/1.1\r\nHost: s-" FAKE_LOWER "-4000.preview.localhost\r\n" END,
          TRAFFIC_BAD_GATEWAY },
    };
    char out[16384];
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        while (atomic_load(&fake_traffic.connections) > 0) /* of before */
            (void)usleep(1000);
        unsigned long before = requests(rows[i].outcome), all = 0, sum = 0;
        for (int o = 0; o < TRAFFIC_OUTCOME_COUNT; o++)
            all += requests((enum traffic_outcome)o);
        uint64_t in = atomic_load(&fake_traffic.bytes_in),
                 sent = atomic_load(&fake_traffic.bytes_out);
        rig_ask(rows[i].request, out, sizeof out);
        while (requests(rows[i].outcome) == before) /* counted once all was sent */
            (void)usleep(1000);
        for (int o = 0; o < TRAFFIC_OUTCOME_COUNT; o++)
            sum += requests((enum traffic_outcome)o);
        CHECK_ROW(traffic_labels[rows[i].outcome], sum == all + 1);
        CHECK_ROW(traffic_labels[rows[i].outcome],
                  atomic_load(&fake_traffic.bytes_out) - sent == strlen(out) &&
                      atomic_load(&fake_traffic.bytes_in) - in == strlen(rows[i].request));
    }
    char seen[4096] = "";
    int fd = rig_client();
    rig_send(fd, "GET /upgrade HTTP/1.1\r\n" HOST "Connection: Upgrade\r\nUpgrade: echo\r\n\r\n");
    CHECK(rig_read(fd, seen, sizeof seen, "hello") == RIG_SEEN);
    CHECK(atomic_load(&fake_traffic.streams) == 1 && atomic_load(&fake_traffic.held) == 0);
    unsigned long ended = requests(TRAFFIC_UPGRADED);
    (void)close(fd);
    while (requests(TRAFFIC_UPGRADED) == ended)
        (void)usleep(1000);
    CHECK(atomic_load(&fake_traffic.streams) == 0);
    /* one that leaves while it is held */
    asleep(SANDBOX_STOPPED, UNTIL_TOLD);
    unsigned long left = requests(TRAFFIC_LEFT);
    fd = rig_client();
    rig_send(fd, GET "\r\n");
    while (atomic_load(&fake_traffic.held) == 0)
        (void)usleep(1000);
    struct linger reset = { .l_onoff = 1 };
    (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    (void)close(fd);
    while (requests(TRAFFIC_LEFT) == left)
        (void)usleep(1000);
    while (atomic_load(&fake_traffic.held) > 0) /* counted before it is let go */
        (void)usleep(1000);
    wake_now();
}

/* --- limits --- */

static void limits(void)
{
    char request[512];
    int refused = 0, served = 0;
    for (int i = 0; i < 40; i++) {
        char out[16384];
        rig_ask(GET "X-Forwarded-For: 203.0.113.1\r\n" END, out, sizeof out);
        refused += strstr(out, "429 Too Many Requests") != NULL;
        served += strstr(out, "200 OK") != NULL;
    }
    if (!CHECK(served >= 20 && refused > 0 && served + refused == 40))
        printf("# %d served, %d refused\n", served, refused);
    CHECK(answers(GET "X-Forwarded-For: 203.0.113.2\r\n" END, "200 OK")); /* others do not mind */
    CHECK(answers(GET "X-Forwarded-For: 203.0.113.1, 127.0.0.1\r\n" END, "200 OK"));
    for (int i = 0; i < 4; i++) {
        asleep(SANDBOX_STOPPED, 1);
        CHECK(answers(GET "X-Forwarded-For: 203.0.113.3\r\n" END,
                      i < 3 ? "200 OK" : "X-Retry-After-Reason: wakes_refused"));
    }
    asleep(SANDBOX_RUNNING, 0);
    /* open at once: of one visitor, of one sandbox */
    int fds[80];
    gate_set(true);
    for (int i = 0; i < 8; i++) {
        fds[i] = rig_client();
        rig_send(fds[i], GET "X-Forwarded-For: 203.0.113.4\r\n\r\n");
    }
    (void)snprintf(request, sizeof request, GET "X-Forwarded-For: 203.0.113.4\r\n" END);
    gate_await(8);
    CHECK(answers(request, "429 Too Many Requests"));
    for (int i = 8; i < 64; i++) {
        fds[i] = rig_client();
        rig_send(fds[i], GET "\r\n");
    }
    gate_await(64);
    CHECK(answers(GET END, "503 Service Unavailable"));
    CHECK(answers(GET END, "X-Retry-After-Reason: sandbox_busy"));
    CHECK(answers(GET END, "open requests: At most 64 may be open at once."));
    gate_set(false);
    for (int i = 0; i < 64; i++) {
        char out[16384] = "";
        CHECK(rig_read(fds[i], out, sizeof out, "200 OK") == RIG_SEEN);
        (void)close(fds[i]);
    }
}

int main(void)
{
    rig_start();
    rig_config.wake_hold_ms = HOLD_MS;
    app_start(serve);
    wakes();
    together();
    pages();
    failures();
    unwell();
    stops();
    names();
    private();
    links();
    cuts();
    counts();
    limits();
    rig_stop();
    app_end();
    CHECK(atomic_load(&fake_uses) == 0);
    CHECK(atomic_load(&fake_traffic.connections) == 0 && atomic_load(&fake_traffic.held) == 0 &&
          atomic_load(&fake_traffic.streams) == 0);
    return check_done();
}
