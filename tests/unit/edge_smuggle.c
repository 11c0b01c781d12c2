/* Requests that two readers could understand differently, on real sockets: each is refused and the
 * connection closed, or passed on as exactly one request that nobody can misread. The app here
 * reads by the book and counts. */
#include "edge_rig.h"

#define HOST "Host: " RIG_HOST "\r\n"

/* --- an app that counts requests --- */

static atomic_int app_requests;
static atomic_bool app_stop;
static char app_last[65536]; /* head of the last request; read after its answer */

static size_t body_length(const char *head)
{
    const char *p = strcasestr(head, "\r\ncontent-length:");
    return p ? (size_t)strtoul(p + 17, NULL, 10) : 0;
}

static void serve(int fd)
{
    char text[65536] = "";
    size_t used = 0;
    for (;;) {
        char *end = strstr(text, "\r\n\r\n");
        if (end) {
            size_t head = (size_t)(end - text) + 4, size = head + body_length(text);
            if (strcasestr(text, "transfer-encoding")) {
                char *last = strstr(end + 2, "\r\n0\r\n");
                char *stop = last ? strstr(last + 2, "\r\n\r\n") : NULL;
                if (!last && strncmp(end + 4, "0\r\n", 3) == 0)
                    stop = strstr(end + 4, "\r\n\r\n");
                size = stop ? (size_t)(stop - text) + 4 : SIZE_MAX;
            }
            if (size <= used) {
                memcpy(app_last, text, size < sizeof app_last ? size : sizeof app_last - 1);
                app_last[size] = '\0';
                atomic_fetch_add(&app_requests, 1);
                memmove(text, text + size, used - size + 1);
                used -= size;
                static const char ok[] = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
                (void)send(fd, ok, sizeof ok - 1, MSG_NOSIGNAL);
                continue;
            }
        }
        ssize_t n = recv(fd, text + used, sizeof text - 1 - used, 0);
        if (n <= 0)
            return;
        used += (size_t)n;
        text[used] = '\0';
    }
}

static void *one(void *arg)
{
    int fd = (int)(intptr_t)arg;
    serve(fd);
    (void)close(fd);
    return NULL;
}

static pthread_t app_threads[1024];
static int app_count;

static void *app(void *arg)
{
    int listener = *(int *)arg;
    for (;;) {
        int fd = accept(listener, NULL, NULL);
        if (fd < 0 || atomic_load(&app_stop) || app_count == 1024) {
            (void)close(fd);
            return NULL;
        }
        if (pthread_create(&app_threads[app_count++], NULL, one, (void *)(intptr_t)fd) != 0)
            abort();
    }
}

/* --- the table --- */

struct row {
    const char *name, *request;
    int status; /* of the first answer; 0: closed without one */
    int seen;   /* requests that reach the app */
};

#define POST "POST /p HTTP/1.1\r\n" HOST
#define GET "GET /g HTTP/1.1\r\n" HOST
#define NEXT "GET /second HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n"
#define END "Connection: close\r\n\r\n"
#define CHUNKED POST "Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n"

static const struct row rows[] = {
    /* as it should be */
    { "plain", GET END, 200, 1 },
    { "length", POST "Content-Length: 3\r\n" END "abc", 200, 1 },
    { "length zero", POST "Content-Length: 0\r\n" END, 200, 1 },
    { "length with zeroes", POST "Content-Length: 003\r\n" END "abc", 200, 1 },
    { "chunked", CHUNKED "3\r\nabc\r\n0\r\n\r\n", 200, 1 },
    { "chunked upper case", POST "Connection: close\r\nTransfer-Encoding: CHUNKED\r\n\r\n0\r\n\r\n",
      200, 1 },
    { "chunk size in hex", CHUNKED "A\r\n0123456789\r\n0\r\n\r\n", 200, 1 },
    { "chunk size with zeroes", CHUNKED "0003\r\nabc\r\n0\r\n\r\n", 200, 1 },
    { "chunk extension", CHUNKED "3;a=b\r\nabc\r\n0\r\n\r\n", 200, 1 },
    { "trailer", CHUNKED "3\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n", 200, 1 },
    { "two in a row", GET "\r\n" NEXT, 200, 2 },
    { "two in a row, with body", POST "Content-Length: 3\r\n\r\nabc" NEXT, 200, 2 },
    { "two in a row, chunked", POST "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n" NEXT,
      200, 2 },
    { "an empty line before", "\r\n" GET END, 200, 1 },
    { "space around values", "GET / HTTP/1.1\r\nHost: \t " RIG_HOST " \t\r\n" END, 200, 1 },
    { "no space after the colon", "GET / HTTP/1.1\r\nHost:" RIG_HOST "\r\n" END, 200, 1 },
    { "an empty value", GET "X-Empty:\r\n" END, 200, 1 },
    { "bytes above ASCII in a value", GET "X-A: \xc3\xa4\r\n" END, 200, 1 },
    { "OPTIONS *", "OPTIONS * HTTP/1.1\r\n" HOST END, 200, 1 },
    { "GET with a body", GET "Content-Length: 3\r\n" END "abc", 200, 1 },
    { "1.0", "GET / HTTP/1.0\r\n" HOST "\r\n", 200, 1 },
    { "1.0 with length", "POST / HTTP/1.0\r\n" HOST "Content-Length: 3\r\n\r\nabc", 200, 1 },
    { "query with odd letters", "GET /?a=[1]&b={2}|\\^` HTTP/1.1\r\n" HOST END, 200, 1 },

    /* two lengths */
    { "length and chunked",
      POST "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n" END "0\r\n\r\n" NEXT, 400, 0 },
    { "chunked and length",
      POST "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n" END "0\r\n\r\n" NEXT, 400, 0 },
    { "length 0 and chunked",
      POST "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n" END "0\r\n\r\n" NEXT, 400, 0 },
    { "two lengths", POST "Content-Length: 3\r\nContent-Length: 4\r\n" END "abcd" NEXT, 400, 0 },
    { "two equal lengths", POST "Content-Length: 3\r\nContent-Length: 3\r\n" END "abc" NEXT, 400,
      0 },
    { "length list", POST "Content-Length: 3, 3\r\n" END "abc" NEXT, 400, 0 },
    { "length list, different", POST "Content-Length: 3, 4\r\n" END "abc" NEXT, 400, 0 },
    { "lengths in two cases", POST "content-length: 3\r\nCONTENT-LENGTH: 0\r\n" END "abc" NEXT, 400,
      0 },
    { "chunked twice in a list",
      POST "Transfer-Encoding: chunked, chunked\r\n" END "0\r\n\r\n" NEXT, 400, 0 },
    { "chunked twice in two lines",
      POST "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n" END "0\r\n\r\n" NEXT, 400,
      0 },

    /* lengths that are none */
    { "length +3", POST "Content-Length: +3\r\n" END "abc" NEXT, 400, 0 },
    { "length -1", POST "Content-Length: -1\r\n" END "abc" NEXT, 400, 0 },
    { "length 0x3", POST "Content-Length: 0x3\r\n" END "abc" NEXT, 400, 0 },
    { "length 3.0", POST "Content-Length: 3.0\r\n" END "abc" NEXT, 400, 0 },
    { "length 3e0", POST "Content-Length: 3e0\r\n" END "abc" NEXT, 400, 0 },
    { "length empty", POST "Content-Length:\r\n" END "abc" NEXT, 400, 0 },
    { "length blank", POST "Content-Length:  \r\n" END "abc" NEXT, 400, 0 },
    { "length with a space within", POST "Content-Length: 3 3\r\n" END "abc" NEXT, 400, 0 },
    { "length with a tab within", POST "Content-Length: 3\t3\r\n" END "abc" NEXT, 400, 0 },
    { "length with letters", POST "Content-Length: 3abc\r\n" END "abc" NEXT, 400, 0 },
    { "length in quotes", POST "Content-Length: \"3\"\r\n" END "abc" NEXT, 400, 0 },
    { "length with a comma", POST "Content-Length: 3,\r\n" END "abc" NEXT, 400, 0 },
    { "length of 2^64", POST "Content-Length: 18446744073709551616\r\n" END "abc", 400, 0 },
    { "length of 2^64 + 3", POST "Content-Length: 18446744073709551619\r\n" END "abc", 400, 0 },
    { "length of 20 digits", POST "Content-Length: 00000000000000000003\r\n" END "abc", 400, 0 },
    { "length with a form feed", POST "Content-Length: \f3\r\n" END "abc", 400, 0 },
    { "length with a vertical tab", POST "Content-Length: 3\v\r\n" END "abc", 400, 0 },
    { "length underscored: no length at all", POST "Content_Length: 3\r\n" END, 200, 1 },

    /* codings */
    { "identity", POST "Transfer-Encoding: identity\r\n" END NEXT, 400, 0 },
    { "identity, chunked", POST "Transfer-Encoding: identity, chunked\r\n" END "0\r\n\r\n" NEXT,
      400, 0 },
    { "chunked, identity", POST "Transfer-Encoding: chunked, identity\r\n" END "0\r\n\r\n" NEXT,
      400, 0 },
    { "gzip, chunked", POST "Transfer-Encoding: gzip, chunked\r\n" END "0\r\n\r\n" NEXT, 400, 0 },
    { "chunked, gzip", POST "Transfer-Encoding: chunked, gzip\r\n" END "0\r\n\r\n" NEXT, 400, 0 },
    { "gzip", POST "Transfer-Encoding: gzip\r\n" END NEXT, 400, 0 },
    { "xchunked", POST "Transfer-Encoding: xchunked\r\n" END "0\r\n\r\n" NEXT, 400, 0 },
    { "chunkedx", POST "Transfer-Encoding: chunkedx\r\n" END "0\r\n\r\n" NEXT, 400, 0 },
    { "chunked in quotes", POST "Transfer-Encoding: \"chunked\"\r\n" END "0\r\n\r\n" NEXT, 400, 0 },
    { "chunked with a parameter", POST "Transfer-Encoding: chunked;q=1\r\n" END "0\r\n\r\n" NEXT,
      400, 0 },
    { "chunked with a comma", POST "Transfer-Encoding: chunked,\r\n" END "0\r\n\r\n" NEXT, 400, 0 },
    { "comma before chunked", POST "Transfer-Encoding: ,chunked\r\n" END "0\r\n\r\n" NEXT, 400, 0 },
    { "coding empty", POST "Transfer-Encoding:\r\n" END "0\r\n\r\n" NEXT, 400, 0 },
    { "vertical tab before chunked", POST "Transfer-Encoding: \vchunked\r\n" END "0\r\n\r\n", 400,
      0 },
    { "form feed after chunked", POST "Transfer-Encoding: chunked\f\r\n" END "0\r\n\r\n", 400, 0 },
    { "NBSP before chunked",
      POST "Transfer-Encoding: \xa0"
           "chunked\r\n" END "0\r\n\r\n",
      400, 0 },
    { "chunked on 1.0", "POST / HTTP/1.0\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
      400, 0 },
    { "space before the coding's colon", POST "Transfer-Encoding : chunked\r\n" END "0\r\n\r\n",
      400, 0 },
    { "tab before the coding's colon", POST "Transfer-Encoding\t: chunked\r\n" END "0\r\n\r\n", 400,
      0 },
    { "coding underscored: no coding at all", POST "Transfer_Encoding: chunked\r\n" END, 200, 1 },
    { "coding folded", POST "Transfer-Encoding:\r\n chunked\r\n" END "0\r\n\r\n", 400, 0 },
    { "coding folded by a tab", POST "Transfer-Encoding:\r\n\tchunked\r\n" END "0\r\n\r\n", 400,
      0 },

    /* chunks */
    { "chunk size empty", CHUNKED "\r\nabc\r\n0\r\n\r\n" NEXT, 400, 0 },
    { "chunk size 0x3", CHUNKED "0x3\r\nabc\r\n0\r\n\r\n" NEXT, 400, 0 },
    { "chunk size +3", CHUNKED "+3\r\nabc\r\n0\r\n\r\n" NEXT, 400, 0 },
    { "chunk size -3", CHUNKED "-3\r\nabc\r\n0\r\n\r\n" NEXT, 400, 0 },
    { "chunk size g", CHUNKED "g\r\nabc\r\n0\r\n\r\n" NEXT, 400, 0 },
    { "chunk size with a space before", CHUNKED " 3\r\nabc\r\n0\r\n\r\n" NEXT, 400, 0 },
    { "chunk size beyond 64 bits", CHUNKED "10000000000000003\r\nabc\r\n0\r\n\r\n" NEXT, 400, 0 },
    { "chunk size with bare LF", CHUNKED "3\nabc\r\n0\r\n\r\n" NEXT, 400, 0 },
    { "chunk size with bare CR", CHUNKED "3\rabc\r\n0\r\n\r\n" NEXT, 400, 0 },
    { "chunk longer than its size", CHUNKED "3\r\nabcd\r\n0\r\n\r\n" NEXT, 400, 0 },
    { "chunk ended by bare LF", CHUNKED "3\r\nabc\n0\r\n\r\n" NEXT, 400, 0 },
    { "chunk without its end", CHUNKED "3\r\nabc0\r\n\r\n" NEXT, 400, 0 },
    { "extension with bare LF", CHUNKED "3;x\nabc\r\n0\r\n\r\n" NEXT, 400, 0 },
    { "extension with NUL-like byte", CHUNKED "3;\x01\r\nabc\r\n0\r\n\r\n" NEXT, 400, 0 },
    { "last chunk with bare LF", CHUNKED "3\r\nabc\r\n0\n\r\n" NEXT, 400, 0 },
    { "last chunk 00 is one", CHUNKED "3\r\nabc\r\n00\r\n\r\n", 200, 1 },
    { "trailer with bare LF", CHUNKED "0\r\nX: 1\n\r\n" NEXT, 400, 0 },
    { "trailer folded", CHUNKED "0\r\nX: 1\r\n 2\r\n\r\n" NEXT, 400, 0 },
    { "trailer with a space before its colon", CHUNKED "0\r\nX : 1\r\n\r\n" NEXT, 400, 0 },
    { "trailer without a colon", CHUNKED "0\r\nX\r\n\r\n" NEXT, 400, 0 },
    { "trailer Content-Length is not passed", CHUNKED "0\r\nContent-Length: 9\r\n\r\n", 200, 1 },
    { "trailer Host is not passed", CHUNKED "0\r\nHost: evil\r\n\r\n", 200, 1 },

    /* lines */
    { "bare LF after the request line", "GET / HTTP/1.1\n" HOST END, 400, 0 },
    { "bare LF after a header", "GET / HTTP/1.1\r\nHost: " RIG_HOST "\nX: 1\r\n" END, 400, 0 },
    { "bare LF as the end", "GET / HTTP/1.1\r\n" HOST "Connection: close\n\n", 400, 0 },
    { "CR LF LF as the end", "GET / HTTP/1.1\r\n" HOST "Connection: close\r\n\n", 400, 0 },
    { "bare CR in a value", GET "X: a\rb\r\n" END, 400, 0 },
    { "bare CR in a name", GET "X\rY: a\r\n" END, 400, 0 },
    { "CR CR LF", GET "X: a\r\r\n" END, 400, 0 },
    { "control byte in a value", GET "X: a\x01\r\n" END, 400, 0 },
    { "DEL in a value", GET "X: a\x7f\r\n" END, 400, 0 },
    { "space before a colon", GET "X-A : 1\r\n" END, 400, 0 },
    { "tab before a colon", GET "X-A\t: 1\r\n" END, 400, 0 },
    { "space in a name", GET "X A: 1\r\n" END, 400, 0 },
    { "bytes above ASCII in a name", GET "X-\xc3\xa4: 1\r\n" END, 400, 0 },
    { "an empty name", GET ": 1\r\n" END, 400, 0 },
    { "no colon", GET "Nothing\r\n" END, 400, 0 },
    { "a folded line", GET "X: 1\r\n 2\r\n" END, 400, 0 },
    { "a folded line by tab", GET "X: 1\r\n\t2\r\n" END, 400, 0 },
    { "a folded first line", "GET / HTTP/1.1\r\n X: 1\r\n" HOST END, 400, 0 },
    { "brackets in a name", GET "X[1]: 1\r\n" END, 400, 0 },
    { "parentheses in a name", GET "X(1): 1\r\n" END, 400, 0 },

    /* request lines */
    { "two spaces after the method", "GET  / HTTP/1.1\r\n" HOST END, 400, 0 },
    { "tab after the method", "GET\t/ HTTP/1.1\r\n" HOST END, 400, 0 },
    { "two spaces before the version", "GET /  HTTP/1.1\r\n" HOST END, 400, 0 },
    { "space before the method", " GET / HTTP/1.1\r\n" HOST END, 400, 0 },
    { "space after the version", "GET / HTTP/1.1 \r\n" HOST END, 400, 0 },
    { "space in the target", "GET /a b HTTP/1.1\r\n" HOST END, 400, 0 },
    { "no version", "GET /\r\n" HOST END, 400, 0 },
    { "version 0.9", "GET / HTTP/0.9\r\n" HOST END, 505, 0 },
    { "version 1.2", "GET / HTTP/1.2\r\n" HOST END, 505, 0 },
    { "version 1.9", "GET / HTTP/1.9\r\n" HOST END, 505, 0 },
    { "version 2.0", "GET / HTTP/2.0\r\n" HOST END, 505, 0 },
    { "version 1.10", "GET / HTTP/1.10\r\n" HOST END, 400, 0 },
    { "version 01.1", "GET / HTTP/01.1\r\n" HOST END, 400, 0 },
    { "version in lower case", "GET / http/1.1\r\n" HOST END, 400, 0 },
    { "version of something else", "GET / ICY/1.1\r\n" HOST END, 400, 0 },
    { "preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, 0 },
    { "method in lower case", "get / HTTP/1.1\r\n" HOST END, 400, 0 },
    { "a method nobody knows", "FROB / HTTP/1.1\r\n" HOST END, 400, 0 },
    { "method with a colon", "GE:T / HTTP/1.1\r\n" HOST END, 400, 0 },
    { "CONNECT", "CONNECT " RIG_HOST ":443 HTTP/1.1\r\n" HOST END, 400, 0 },
    { "CONNECT to a path", "CONNECT / HTTP/1.1\r\n" HOST END, 405, 0 },
    { "absolute target", "GET http://" RIG_HOST "/ HTTP/1.1\r\n" HOST END, 400, 0 },
    { "absolute target of another", "GET http://evil/ HTTP/1.1\r\n" HOST END, 400, 0 },
    { "target without a slash", "GET a HTTP/1.1\r\n" HOST END, 400, 0 },
    { "target *", "GET * HTTP/1.1\r\n" HOST END, 400, 0 },
    { "target with a fragment", "GET /a#b HTTP/1.1\r\n" HOST END, 400, 0 },
    { "target above ASCII", "GET /\xc3\xa4 HTTP/1.1\r\n" HOST END, 400, 0 },
    { "target with a control byte", "GET /\x01 HTTP/1.1\r\n" HOST END, 400, 0 },

    /* hosts */
    { "no host", "GET / HTTP/1.1\r\n" END, 400, 0 },
    { "two hosts", "GET / HTTP/1.1\r\n" HOST HOST END, 400, 0 },
    { "two different hosts", "GET / HTTP/1.1\r\nHost: evil\r\n" HOST END, 400, 0 },
    { "two hosts in two cases", "GET / HTTP/1.1\r\n" HOST "HOST: " RIG_HOST "\r\n" END, 400, 0 },
    { "host list", "GET / HTTP/1.1\r\nHost: " RIG_HOST ", evil\r\n" END, 400, 0 },
    { "empty host", "GET / HTTP/1.1\r\nHost:\r\n" END, 400, 0 },
    { "space before the host's colon", "GET / HTTP/1.1\r\nHost : " RIG_HOST "\r\n" END, 400, 0 },
    { "host with user", "GET / HTTP/1.1\r\nHost: a@" RIG_HOST "\r\n" END, 400, 0 },
    { "host with path", "GET / HTTP/1.1\r\nHost: " RIG_HOST "/x\r\n" END, 400, 0 },
    { "host with trailing dot", "GET / HTTP/1.1\r\nHost: " RIG_HOST ".\r\n" END, 400, 0 },
    { "host with two ports", "GET / HTTP/1.1\r\nHost: " RIG_HOST ":80:80\r\n" END, 400, 0 },
    { "host with port 99999", "GET / HTTP/1.1\r\nHost: " RIG_HOST ":99999\r\n" END, 400, 0 },

    /* expectations, ends */
    { "an unknown expectation", POST "Expect: 200-ok\r\nContent-Length: 3\r\n" END "abc", 417, 0 },
    { "two expectations",
      POST "Expect: 100-continue\r\nExpect: 100-continue\r\nContent-Length: 3\r\n" END "abc", 417,
      0 },
    { "junk", "\x16\x03\x01\x02", 0, 0 },
};

#define COUNT (sizeof rows / sizeof rows[0])
_Static_assert(COUNT >= 120, "the table is part of what was promised");

static int status_of(const char *answer)
{
    return strncmp(answer, "HTTP/1.1 ", 9) == 0 ? (int)strtol(answer + 9, NULL, 10) : 0;
}

static void run(const struct row *r)
{
    char out[8192] = "";
    int before = atomic_load(&app_requests);
    int fd = rig_client();
    rig_send(fd, r->request);
    if (r->status == 0 || strncmp(r->request, "\x16", 1) == 0)
        (void)shutdown(fd, SHUT_WR);
    CHECK_ROW(r->name, rig_read(fd, out, sizeof out, NULL) == RIG_CLOSED);
    (void)close(fd);
    if (!CHECK_ROW(r->name, status_of(out) == r->status))
        printf("# got %.80s\n", out);
    CHECK_ROW(r->name, atomic_load(&app_requests) - before == r->seen);
}

/* What must not have reached the app. */
static void twins(void)
{
    char out[8192];
    rig_ask(POST
            "Content_Length: 3\r\nTransfer_Encoding: chunked\r\nX_Forwarded_For: 1.2.3.4\r\n" END,
            out, sizeof out);
    CHECK(status_of(out) == 200);
    CHECK(!strcasestr(app_last, "content_length"));
    CHECK(!strcasestr(app_last, "transfer_encoding"));
    CHECK(!strstr(app_last, "1.2.3.4"));
    rig_ask(CHUNKED "1\r\na\r\n0\r\nContent-Length: 9\r\nX-Sum: 1\r\n\r\n", out, sizeof out);
    CHECK(!strcasestr(app_last, "content-length"));
    CHECK(strstr(app_last, "X-Sum: 1\r\n") != NULL);
    rig_ask(CHUNKED "3;ext=1\r\nabc\r\n0\r\n\r\n", out, sizeof out);
    CHECK(!strstr(app_last, "ext"));
    CHECK(strstr(app_last, "\r\n\r\n3\r\nabc\r\n0\r\n\r\n") != NULL);
}

/* Bounds of a head: just fitting, just not. */
static void bounds(void)
{
    static char text[40000];
    char out[8192];
    size_t n = (size_t)snprintf(text, sizeof text, "GET /%08000d HTTP/1.1\r\n" HOST END, 0);
    rig_ask(text, out, sizeof out);
    CHECK(status_of(out) == 200);
    n = (size_t)snprintf(text, sizeof text, "GET /%08300d HTTP/1.1\r\n" HOST END, 0);
    rig_ask(text, out, sizeof out);
    CHECK(status_of(out) == 414);
    (void)snprintf(text, sizeof text, GET "X: %015000d\r\n" END, 0);
    rig_ask(text, out, sizeof out);
    CHECK(status_of(out) == 200);
    (void)snprintf(text, sizeof text, GET "X: %017000d\r\n" END, 0);
    rig_ask(text, out, sizeof out);
    CHECK(status_of(out) == 431);
    n = (size_t)snprintf(text, sizeof text, GET);
    for (int i = 0; i < 98; i++)
        n += (size_t)snprintf(text + n, sizeof text - n, "X-%d: 1\r\n", i);
    (void)snprintf(text + n, sizeof text - n, END);
    rig_ask(text, out, sizeof out);
    CHECK(status_of(out) == 200);
    (void)snprintf(text + n, sizeof text - n, "X: 1\r\n" END);
    rig_ask(text, out, sizeof out);
    CHECK(status_of(out) == 400);
}

int main(void)
{
    uint16_t port;
    pthread_t thread;
    int listener = rig_listen(&port);
    rig_start();
    atomic_store(&fake_app_port, port);
    if (pthread_create(&thread, NULL, app, &listener) != 0)
        abort();
    for (size_t i = 0; i < COUNT; i++)
        run(&rows[i]);
    twins();
    bounds();
    rig_stop();
    atomic_store(&app_stop, true);
    (void)close(rig_dial(port));
    (void)pthread_join(thread, NULL);
    for (int i = 0; i < app_count; i++)
        (void)pthread_join(app_threads[i], NULL);
    (void)close(listener);
    CHECK(atomic_load(&fake_uses) == 0);
    return check_done();
}
