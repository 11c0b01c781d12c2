/* What passes between a client and an app: both ways at once, interim answers, upgrades, streams,
 * bodies of any size; and apps that lie, break off or hang. */
#include "edge_app.h"

#define HOST "Host: " RIG_HOST "\r\n"
#define BIG (8u * 1024 * 1024)

/* --- answers that the table names; the path is its row --- */

struct row {
    const char *name, *answer; /* of the app, which then closes; NULL: says nothing */
    const char *want;          /* in what the client gets */
    const char *never;         /* NULL: nothing in particular */
};

#define OK "HTTP/1.1 200 OK\r\n"

static const struct row rows[] = {
    { "length", OK "Content-Length: 2\r\n\r\nok", "\r\n\r\nok", NULL },
    { "chunked", OK "Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
      "2\r\nok\r\n0\r\n\r\n", NULL },
    { "trailer", OK "Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-T: 1\r\n\r\n",
      "0\r\nX-T: 1\r\n\r\n", NULL },
    { "until close", OK "\r\nok", "2\r\nok\r\n0\r\n\r\n", "Content-Length" },
    { "1.0 until close", "HTTP/1.0 200 OK\r\n\r\nok", "2\r\nok\r\n0\r\n\r\n", NULL },
    { "no reason", "HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok", "\r\n\r\nok", NULL },
    { "204", "HTTP/1.1 204 No Content\r\n\r\n", "HTTP/1.1 204", "Transfer-Encoding" },
    { "204 with a length", "HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\n", "HTTP/1.1 204",
      "Content-Length" },
    { "304 with a length", "HTTP/1.1 304 Not Modified\r\nContent-Length: 2\r\n\r\n",
      "Content-Length: 2", "ok" },
    { "interim", "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" OK "Content-Length: 2\r\n\r\nok",
      "103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK", NULL },
    { "three interims",
      "HTTP/1.1 102 P\r\n\r\nHTTP/1.1 103 E\r\n\r\nHTTP/1.1 103 F\r\n\r\n" OK
      "Content-Length: 2\r\n\r\nok",
      "103 F", NULL },
    { "hop-by-hop lines",
      OK "Connection: close, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: 5\r\n"
         "Proxy-Connection: x\r\nContent-Length: 2\r\n\r\nok",
      "\r\n\r\nok", "X-Hop: 1" },
    { "Connection cannot take the length",
      OK "Connection: Content-Length\r\nContent-Length: 2\r\n\r\nok", "Content-Length: 2", NULL },
    { "a cookie of ours",
      OK "Set-Cookie: sandboxed-x=1\r\nSet-Cookie: own=1\r\n"
         "Content-Length: 2\r\n\r\nok",
      "own=1", "sandboxed-x" },
    { "two final answers: the second is nobody's",
      OK "Content-Length: 2\r\n\r\nok" OK "Content-Length: 4\r\n\r\nevil", "\r\n\r\nok", "evil" },
    { "more than its length", OK "Content-Length: 2\r\n\r\nokevil", "\r\n\r\nok", "evil" },

    /* lies: the client sees a clean 502, or a connection that breaks, never a mixture */
    { "nothing", "", "502 Bad Gateway", NULL },
    { "half a head", "HTTP/1.1 200 OK\r\nContent-Le", "502 Bad Gateway", "200" },
    { "no HTTP at all", "SSH-2.0-OpenSSH_9.2\r\n\r\n", "502 Bad Gateway", "SSH" },
    { "HTTP/2", "HTTP/2.0 200 OK\r\n\r\n", "502 Bad Gateway", NULL },
    { "HTTP/0.9", "<html>hello\r\n\r\n", "502 Bad Gateway", "hello" },
    { "status 99", "HTTP/1.1 099 No\r\n\r\n", "502 Bad Gateway", NULL },
    { "status of letters", "HTTP/1.1 2x0 No\r\n\r\n", "502 Bad Gateway", NULL },
    { "status of four digits", "HTTP/1.1 2000 No\r\n\r\n", "502 Bad Gateway", NULL },
    { "bare LF", "HTTP/1.1 200 OK\nContent-Length: 2\n\nok", "502 Bad Gateway", "ok" },
    { "bare LF later", OK "Content-Length: 2\n\r\nok", "502 Bad Gateway", NULL },
    { "two lengths", OK "Content-Length: 2\r\nContent-Length: 3\r\n\r\nokk", "502 Bad Gateway",
      NULL },
    { "length and chunked",
      OK "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
      "502 Bad Gateway", NULL },
    { "length -1", OK "Content-Length: -1\r\n\r\n", "502 Bad Gateway", NULL },
    { "length 2,2", OK "Content-Length: 2, 2\r\n\r\nok", "502 Bad Gateway", NULL },
    { "coding gzip", OK "Transfer-Encoding: gzip\r\n\r\nxx", "502 Bad Gateway", NULL },
    { "coding chunked, gzip", OK "Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
      "502 Bad Gateway", NULL },
    { "chunked on 1.0", "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
      "502 Bad Gateway", NULL },
    { "a folded line", OK "X: 1\r\n 2\r\n\r\n", "502 Bad Gateway", NULL },
    { "a line without a colon", OK "Nothing\r\n\r\n", "502 Bad Gateway", NULL },
    { "space before a colon", OK "X : 1\r\n\r\n", "502 Bad Gateway", NULL },
    { "a header split by CR", OK "X: a\rSet-Cookie: b\r\n\r\n", "502 Bad Gateway", "Set-Cookie" },
    { "101 unasked", "HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nevil",
      "502 Bad Gateway", "evil" },
    { "cut in its length", OK "Content-Length: 9\r\n\r\nok", "\r\n\r\nok", "0\r\n\r\n" },
    { "cut in a chunk", OK "Transfer-Encoding: chunked\r\n\r\n9\r\nok", "ok", "0\r\n\r\n" },
    { "cut before the last chunk", OK "Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n", "ok",
      "0\r\n\r\n" },
    { "a bad chunk size", OK "Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\nzz\r\n", "200 OK",
      "0\r\n\r\n" },
    { "a bad trailer", OK "Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX : 1\r\n\r\n", "ok",
      "X :" },
};
#define COUNT (sizeof rows / sizeof rows[0])

/* --- the app --- */

static atomic_int app_go; /* tests let it go on step by step */

static void wait_go(int step)
{
    while (atomic_load(&app_go) < step)
        (void)usleep(1000);
}

/* Echoes as it comes: its answer begins before the request has ended. */
static void echo_duplex(struct app_conn *c)
{
    (void)app_say(c, OK "Content-Type: text/plain\r\n\r\n");
    do {
        (void)fd_write_all(c->fd, c->in, c->used);
        bool end = strstr(c->in, "0\r\n\r\n") != NULL;
        c->used = 0;
        c->in[0] = '\0';
        if (end)
            break;
    } while (app_more(c));
    app_hang_up(c);
}

static void count_body(struct app_conn *c, const char *head)
{
    const char *p = strcasestr(head, "content-length: ");
    size_t want = p ? strtoul(p + 16, NULL, 10) : 0, got = c->used;
    char answer[64];
    for (; got < want; got += c->used) {
        c->used = 0;
        if (!app_more(c))
            break;
    }
    c->used = 0;
    c->in[0] = '\0';
    (void)snprintf(answer, sizeof answer, "%zu bytes", got);
    app_length(c, answer);
}

static void send_big(struct app_conn *c)
{
    static char block[65536];
    memset(block, 'x', sizeof block);
    (void)app_say(c, OK "Content-Length: 8388608\r\n\r\n");
    for (size_t sent = 0; sent < BIG; sent += sizeof block)
        if (fd_write_all(c->fd, block, sizeof block) < 0)
            return;
}

static void flood(struct app_conn *c, const char *begin, const char *again)
{
    (void)app_say(c, begin);
    for (int i = 0; i < 100000 && app_say(c, again); i++)
        ;
    app_hang_up(c);
}

static void serve(struct app_conn *c, const char *head)
{
    const char *path = strchr(head, ' ') + 1;
    if (strncmp(path, "/row/", 5) == 0) {
        (void)app_say(c, rows[strtoul(path + 5, NULL, 10)].answer);
        app_hang_up(c);
    } else if (strncmp(path, "/duplex", 7) == 0) {
        echo_duplex(c);
    } else if (strncmp(path, "/continue", 9) == 0) {
        (void)app_say(c, "HTTP/1.1 100 Continue\r\n\r\n");
        count_body(c, head);
    } else if (strncmp(path, "/count", 6) == 0) {
        count_body(c, head);
    } else if (strncmp(path, "/big", 4) == 0) {
        send_big(c);
    } else if (strncmp(path, "/upgrade", 8) == 0) {
        (void)app_say(c, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\n"
                         "Connection: Upgrade\r\n\r\nhello");
        do {
            (void)fd_write_all(c->fd, c->in, c->used);
            c->used = 0;
        } while (app_more(c));
        (void)app_say(c, "bye");
        app_hang_up(c);
    } else if (strncmp(path, "/events", 7) == 0) {
        (void)app_say(c, OK "Content-Type: text/event-stream\r\n\r\ndata: 1\n\n");
        wait_go(1);
        (void)app_say(c, "data: 2\n\n");
        wait_go(2);
        app_hang_up(c);
    } else if (strncmp(path, "/early", 6) == 0) { /* answers without reading the body */
        (void)app_say(c, "HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig");
        app_hang_up(c);
    } else if (strncmp(path, "/headers", 8) == 0) {
        flood(c, OK, "X-Again: and again\r\n");
    } else if (strncmp(path, "/interims", 9) == 0) {
        flood(c, "", "HTTP/1.1 103 Early Hints\r\n\r\n");
    } else if (strncmp(path, "/extension", 10) == 0) {
        flood(c, OK "Transfer-Encoding: chunked\r\n\r\n5;", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa");
    } else if (strncmp(path, "/trailers", 9) == 0) {
        flood(c, OK "Transfer-Encoding: chunked\r\n\r\n0\r\n", "X-Again: and again\r\n");
    } else if (strncmp(path, "/trailed", 8) == 0) { /* says what the request ended with */
        (void)app_until(c, "\r\n\r\n");
        app_length(c, c->in);
        app_drop(c, c->used);
    } else if (strncmp(path, "/stale", 6) == 0) { /* one answer, then it hangs up at once */
        app_length(c, "once");
        (void)close(c->fd);
        c->fd = -1;
    } else {
        app_length(c, head);
    }
}

/* --- tests --- */

static void hostile(void)
{
    char request[256], out[16384];
    for (size_t i = 0; i < COUNT; i++) {
        (void)snprintf(request, sizeof request,
                       "GET /row/%zu HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n", i);
        rig_ask(request, out, sizeof out);
        if (!CHECK_ROW(rows[i].name, strstr(out, rows[i].want) != NULL))
            printf("# got %.200s\n", out);
        CHECK_ROW(rows[i].name, !rows[i].never || !strstr(out, rows[i].never));
    }
    static const char *const floods[] = { "headers", "interims" };
    for (size_t i = 0; i < 2; i++) {
        (void)snprintf(request, sizeof request,
                       "GET /%s HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n", floods[i]);
        rig_ask(request, out, sizeof out);
        CHECK_ROW(floods[i], strstr(out, "502 Bad Gateway") != NULL);
    }
    static const char *const later[] = { "extension", "trailers" };
    for (size_t i = 0; i < 2; i++) {
        (void)snprintf(request, sizeof request,
                       "GET /%s HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n", later[i]);
        rig_ask(request, out, sizeof out);
        CHECK_ROW(later[i], strstr(out, "200 OK") != NULL && !strstr(out, "0\r\n\r\n"));
    }
}

static void duplex(void)
{
    char out[8192] = "";
    int fd = rig_client();
    rig_send(fd, "POST /duplex HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n");
    CHECK(rig_read(fd, out, sizeof out, "\r\n\r\n") == RIG_SEEN);
    CHECK(strstr(out, "200 OK") != NULL);
    for (int i = 0; i < 3; i++) { /* each piece comes back before the next is sent */
        char piece[40], body[24];
        (void)snprintf(body, sizeof body, "piece%d", i);
        (void)snprintf(piece, sizeof piece, "6\r\n%s\r\n", body);
        rig_send(fd, piece);
        CHECK(rig_read(fd, out, sizeof out, body) == RIG_SEEN);
    }
    rig_send(fd, "0\r\n\r\n");
    CHECK(rig_read(fd, out, sizeof out, "0\r\n\r\n") == RIG_SEEN);
    (void)close(fd);
}

static void expect_continue(void)
{
    char out[8192] = "";
    int fd = rig_client();
    rig_send(fd,
             "PUT /continue HTTP/1.1\r\n" HOST "Expect: 100-continue\r\nContent-Length: 5\r\n\r\n");
    CHECK(rig_read(fd, out, sizeof out, "\r\n\r\n") == RIG_SEEN);
    CHECK(strstr(out, "HTTP/1.1 100 Continue\r\n\r\n") == out);
    rig_send(fd, "hello");
    CHECK(rig_read(fd, out, sizeof out, "5 bytes") == RIG_SEEN);
    (void)close(fd);
}

static void upgrade(void)
{
    char out[8192] = "";
    int fd = rig_client();
    rig_send(fd, "GET /upgrade HTTP/1.1\r\n" HOST "Connection: Upgrade\r\nUpgrade: echo\r\n\r\n"
                 "early");
    CHECK(rig_read(fd, out, sizeof out, "early") == RIG_SEEN);
    CHECK(strstr(out, "101 Switching Protocols") != NULL);
    CHECK(strcasestr(out, "Connection: Upgrade") != NULL);
    CHECK(strstr(out, "\r\n\r\nhello") != NULL);
    rig_send(fd, "GET / HTTP/1.1\r\n\r\n"); /* bytes, not a request */
    CHECK(rig_read(fd, out, sizeof out, "GET / HTTP/1.1\r\n\r\n") == RIG_SEEN);
    (void)shutdown(fd, SHUT_WR); /* a half-close goes through */
    CHECK(rig_read(fd, out, sizeof out, NULL) == RIG_CLOSED);
    CHECK(strstr(out, "bye") != NULL);
    (void)close(fd);
}

static void events(void)
{
    char out[8192] = "";
    int fd = rig_client();
    rig_send(fd, "GET /events HTTP/1.1\r\n" HOST "\r\n");
    CHECK(rig_read(fd, out, sizeof out, "data: 1") == RIG_SEEN); /* not held back */
    atomic_store(&app_go, 1);
    CHECK(rig_read(fd, out, sizeof out, "data: 2") == RIG_SEEN);
    atomic_store(&app_go, 2);
    CHECK(rig_read(fd, out, sizeof out, "\r\n0\r\n\r\n") == RIG_SEEN);
    (void)close(fd);
}

static void sizes(void)
{
    static char block[65536];
    char out[8192] = "", head[256];
    int fd = rig_client();
    (void)snprintf(head, sizeof head, "POST /count HTTP/1.1\r\n" HOST "Content-Length: %u\r\n\r\n",
                   BIG);
    rig_send(fd, head);
    for (size_t sent = 0; sent < BIG; sent += sizeof block)
        CHECK(fd_write_all(fd, block, sizeof block) == 0);
    CHECK(rig_read(fd, out, sizeof out, "8388608 bytes") == RIG_SEEN);
    rig_send(fd, "GET /big HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n");
    size_t got = 0;
    for (ssize_t n; (n = recv(fd, block, sizeof block, 0)) > 0;)
        got += (size_t)n;
    CHECK(got > BIG && got < BIG + 1024);
    (void)close(fd);
}

/* A client of 1.0 that asks for it keeps its connection, where the answer has a length. */
static void old_clients(void)
{
#define OLD(path) "GET " path " HTTP/1.0\r\n" HOST "Connection: Keep-Alive\r\n\r\n"
    int fd = rig_client();
    for (int i = 0; i < 3; i++) {
        char out[4096] = "", path[16];
        (void)snprintf(path, sizeof path, "/x%d", i);
        rig_send(fd, i == 0 ? OLD("/x0") : i == 1 ? OLD("/x1") : OLD("/.sandboxed/x2"));
        CHECK(rig_read(fd, out, sizeof out, i < 2 ? path : "belong to the server.") == RIG_SEEN);
        CHECK(strstr(out, "Connection: keep-alive\r\n") && strstr(out, "Content-Length: "));
    }
    char out[4096] = "";
    rig_send(fd, OLD("/row/1")); /* chunked: its end is the connection's */
    CHECK(rig_read(fd, out, sizeof out, NULL) == RIG_CLOSED);
    CHECK(strstr(out, "Connection: close\r\n") && strstr(out, "\r\n\r\nok"));
    (void)close(fd);
}

static void methods(void)
{
    char out[16384];
    rig_ask("HEAD /x HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n", out, sizeof out);
    CHECK(strstr(out, "200 OK") && strstr(out, "Content-Length"));
    CHECK(strlen(strstr(out, "\r\n\r\n")) == 4);
    rig_ask("GET /x HTTP/1.0\r\n" HOST "\r\n", out, sizeof out);
    if (!CHECK(strstr(out, "Connection: close\r\n") && strstr(out, "GET /x HTTP/1.1")))
        printf("# got %s\n", out);
    rig_ask("GET /row/3 HTTP/1.0\r\n" HOST "\r\n", out, sizeof out); /* until close, to 1.0 */
    CHECK(strstr(out, "\r\n\r\nok") && !strcasestr(out, "chunked"));
    rig_ask("GET /row/1 HTTP/1.0\r\n" HOST "\r\n", out, sizeof out); /* chunked, to 1.0 */
    CHECK(strstr(out, "\r\n\r\nok") && !strcasestr(out, "chunked"));
    rig_ask("POST /trailed HTTP/1.1\r\n" HOST "Connection: close\r\nTE: trailers\r\n"
            "Trailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\n"
            "X-Sum: 1\r\nAuthorization: no\r\nX-Forwarded-For: no\r\n\r\n",
            out, sizeof out);
    CHECK(strstr(out, "\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n") != NULL);
    rig_ask("POST /early HTTP/1.1\r\n" HOST "Content-Length: 1000000\r\n\r\nabc", out, sizeof out);
    CHECK(strstr(out, "413 Too Large") && strstr(out, "\r\n\r\nbig"));
    rig_ask("GET / HTTP/1.1\r\n" HOST "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
            "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n",
            out, 1);
    rig_ask("GET / HTTP/1.1\r\n" HOST "Connection: Upgrade, close\r\nUpgrade: h2c\r\n\r\n", out,
            sizeof out);
    CHECK(strstr(out, "200 OK") && !strcasestr(strstr(out, "\r\n\r\n"), "upgrade"));
}

/* What we say about the visitor, and what we do not let through. */
static void headers(void)
{
    char out[16384];
    rig_ask("GET /h HTTP/1.1\r\n" HOST
            "X-Forwarded-For: 6.6.6.6, 203.0.113.9\r\nX-Forwarded-Proto: https\r\n"
            "X-Forwarded-Host: evil\r\nForwarded: for=6.6.6.6\r\nX-Real-IP: 6.6.6.6\r\n"
            "X_Real_IP: 6.6.6.6\r\nX-Sandbox-External-User-Id: root\r\nX_Sandbox_User: root\r\n"
            "X-Sandboxed-Token: abc\r\nAuthorization: Bearer " FAKE_TOKEN "\r\n"
            "Cookie: a=1; sandboxed-x=2; __Host-sandboxed-y=3; b=4\r\nTE: trailers, gzip\r\n"
            "Keep-Alive: 9\r\nX-Hop: 1\r\nConnection: close, X-Hop, X-Forwarded-For, Host\r\n\r\n",
            out, sizeof out);
    const char *app_saw = strstr(out, "\r\n\r\n");
    CHECK(app_saw != NULL);
    static const char *const gone[] = { "6.6.6.6",    "evil",        "root",        "abc",
                                        FAKE_TOKEN,   "sandboxed-x", "sandboxed-y", "gzip",
                                        "Keep-Alive", "X-Hop" };
    for (size_t i = 0; i < sizeof gone / sizeof gone[0]; i++)
        CHECK_ROW(gone[i], !strcasestr(app_saw, gone[i]));
    static const char *const there[] = { "X-Forwarded-For: 203.0.113.9\r\n",
                                         "X-Real-IP: 203.0.113.9\r\n",
                                         "X-Forwarded-Proto: https\r\n",
                                         "X-Forwarded-Port: 443\r\n",
                                         "X-Forwarded-Host: " RIG_HOST "\r\n",
                                         "Host: " RIG_HOST "\r\n",
                                         "Cookie: a=1; b=4\r\n",
                                         "TE: trailers\r\n" };
    for (size_t i = 0; i < sizeof there / sizeof there[0]; i++)
        CHECK_ROW(there[i], strstr(app_saw, there[i]) != NULL);
    rig_ask("GET /h HTTP/1.1\r\n" HOST
            "Authorization: Bearer of-the-app\r\nConnection: close\r\n\r\n",
            out, sizeof out);
    CHECK(strstr(out, "Bearer of-the-app") != NULL);
}

/* An app that hangs up after each answer: requests that may be sent twice are, others get a
 * connection of their own. */
static void stale(void)
{
    char out[8192];
    for (int i = 0; i < 50; i++) {
        rig_ask("GET /stale HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n", out, sizeof out);
        CHECK(strstr(out, "once") != NULL);
        rig_ask("POST /stale HTTP/1.1\r\n" HOST "Content-Length: 0\r\nConnection: close\r\n\r\n",
                out, sizeof out);
        CHECK(strstr(out, "once") != NULL);
    }
}

static void keep_alive(void)
{
    char out[16384];
    int before = atomic_load(&fake_connects), fd = rig_client();
    for (int i = 0; i < 20; i++) {
        out[0] = '\0';
        rig_send(fd, "GET /k HTTP/1.1\r\n" HOST "\r\n");
        CHECK(rig_read(fd, out, sizeof out, "GET /k HTTP/1.1") == RIG_SEEN);
        CHECK(rig_read(fd, out, sizeof out, "X-Forwarded-Port: 80\r\n\r\n") == RIG_SEEN);
    }
    CHECK(atomic_load(&fake_connects) - before <= 1); /* one connection to the app for all */
    out[0] = '\0';
    rig_send(fd, "GET /1 HTTP/1.1\r\n" HOST "\r\nGET /2 HTTP/1.1\r\n" HOST
                 "\r\nGET /3 HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n");
    CHECK(rig_read(fd, out, sizeof out, NULL) == RIG_CLOSED);
    const char *one = strstr(out, "GET /1"), *two = strstr(out, "GET /2"),
               *three = strstr(out, "GET /3");
    CHECK(one && two && three && one < two && two < three);
    (void)close(fd);
}

int main(void)
{
    rig_start();
    app_start(serve);
    duplex();
    expect_continue();
    upgrade();
    events();
    sizes();
    methods();
    old_clients();
    headers();
    keep_alive();
    stale();
    hostile();
    rig_stop();
    app_end();
    CHECK(atomic_load(&fake_uses) == 0);
    return check_done();
}
