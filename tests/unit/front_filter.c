/* The allow-list of Traefik's Docker endpoint, row by row: five questions pass, in whatever version
 * of the API; everything else is refused (T-18). */
#include "filter.h"

#include <string.h>

#include "base/limits.h"
#include "base/str.h"
#include "check.h"

#define HEX64 "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define BOX "s-01arz3ndektsv4rrffq69g5fav"
#define END "\r\nHost: docker\r\n\r\n"
#define V "/v1.45"

static const struct {
    const char *head;
    enum front_what want;
    const char *ref;
} rows[] = {
    /* what passes */
    { "GET /_ping HTTP/1.1" END, FRONT_PING, "" },
    { "GET /version HTTP/1.1" END, FRONT_VERSION, "" },
    { "GET /v1.41/version HTTP/1.1" END, FRONT_VERSION, "" },
    { "GET /v1.24/containers/json HTTP/1.1" END, FRONT_LIST, "" },
    { "GET /v1.45/containers/json?all=1 HTTP/1.1" END, FRONT_LIST, "" },
    { "GET /v1.45/containers/json?filters=%7B%7D&limit=0 HTTP/1.1" END, FRONT_LIST, "" },
    { "GET /v123.456/containers/json HTTP/1.1" END, FRONT_LIST, "" },
    { "GET " V "/containers/" HEX64 "/json HTTP/1.1" END, FRONT_INSPECT, HEX64 },
    { "GET " V "/containers/" BOX "/json HTTP/1.1" END, FRONT_INSPECT, BOX },
    { "GET " V "/events HTTP/1.1" END, FRONT_EVENTS, "" },
    { "GET " V "/events?filters=%7B%22type%22%3A%7B%22container%22%3Atrue%7D%7D HTTP/1.1" END,
      FRONT_EVENTS, "" },
    { "GET /_ping HTTP/1.1\r\n\r\n", FRONT_PING, "" },
    { "GET /_ping HTTP/1.1\r\nConnection: Keep-Alive\r\nAccept:\r\nX: \ty\r\n\r\n", FRONT_PING,
      "" },

    /* other methods */
    { "POST " V "/containers/create HTTP/1.1" END, FRONT_REFUSED, "" },
    { "POST " V "/containers/json HTTP/1.1" END, FRONT_REFUSED, "" },
    { "HEAD /_ping HTTP/1.1" END, FRONT_REFUSED, "" },
    { "HEAD " V "/containers/json HTTP/1.1" END, FRONT_REFUSED, "" },
    { "PUT " V "/containers/" HEX64 "/archive?path=/ HTTP/1.1" END, FRONT_REFUSED, "" },
    { "DELETE " V "/containers/" HEX64 " HTTP/1.1" END, FRONT_REFUSED, "" },
    { "OPTIONS * HTTP/1.1" END, FRONT_REFUSED, "" },
    { "CONNECT engine:80 HTTP/1.1" END, FRONT_REFUSED, "" },
    { "get /_ping HTTP/1.1" END, FRONT_REFUSED, "" },
    { " GET /_ping HTTP/1.1" END, FRONT_REFUSED, "" },
    { "GET\t/_ping HTTP/1.1" END, FRONT_REFUSED, "" },

    /* other questions of the same API */
    { "GET " V "/containers/" HEX64 "/archive?path=/etc HTTP/1.1" END, FRONT_REFUSED, "" },
    { "GET " V "/containers/" HEX64 "/logs?stdout=1 HTTP/1.1" END, FRONT_REFUSED, "" },
    { "GET " V "/containers/" HEX64 "/export HTTP/1.1" END, FRONT_REFUSED, "" },
    { "GET " V "/containers/" HEX64 "/top HTTP/1.1" END, FRONT_REFUSED, "" },
    { "GET " V "/containers/" HEX64 "/exec HTTP/1.1" END, FRONT_REFUSED, "" },
    { "GET " V "/containers/" HEX64 "/attach/ws HTTP/1.1" END, FRONT_REFUSED, "" },
    { "GET " V "/volumes HTTP/1.1" END, FRONT_REFUSED, "" },
    { "GET " V "/networks HTTP/1.1" END, FRONT_REFUSED, "" },
    { "GET " V "/images/json HTTP/1.1" END, FRONT_REFUSED, "" },
    { "GET " V "/info HTTP/1.1" END, FRONT_REFUSED, "" },
    { "GET " V "/secrets HTTP/1.1" END, FRONT_REFUSED, "" },
    { "GET " V "/swarm HTTP/1.1" END, FRONT_REFUSED, "" },
    { "GET " V "/_ping HTTP/1.1" END, FRONT_REFUSED, "" },

    /* references that are none of ours */
    { "GET " V "/containers/traefik/json HTTP/1.1" END, FRONT_REFUSED, "" },
    { "GET " V "/containers/0123456789ab/json HTTP/1.1" END, FRONT_REFUSED, "" },
    { "GET " V "/containers/" HEX64 "0/json HTTP/1.1" END, FRONT_REFUSED, "" },
    { "GET " V "/containers/s-01ARZ3NDEKTSV4RRFFQ69G5FAV/json HTTP/1.1" END, FRONT_REFUSED, "" },
    { "GET " V "/containers/s-01arz3ndektsv4rrffq69g5fau/json HTTP/1.1" END, FRONT_REFUSED, "" },
    { "GET " V "/containers/" BOX "0/json HTTP/1.1" END, FRONT_REFUSED, "" },
    { "GET " V "/containers//json HTTP/1.1" END, FRONT_REFUSED, "" },
    { "GET " V "/containers/../info/json HTTP/1.1" END, FRONT_REFUSED, "" },

    /* other spellings of a path */
    { "GET //_ping HTTP/1.1" END, FRONT_REFUSED, "" },
    { "GET /_ping/ HTTP/1.1" END, FRONT_REFUSED, "" },
    { "GET /%5fping HTTP/1.1" END, FRONT_REFUSED, "" },
    { "GET " V "/containers/json/../../info HTTP/1.1" END, FRONT_REFUSED, "" },
    { "GET " V "/containers%2Fjson HTTP/1.1" END, FRONT_REFUSED, "" },
    { "GET /containers/json HTTP/1.1" END, FRONT_REFUSED, "" },
    { "GET /v1/containers/json HTTP/1.1" END, FRONT_REFUSED, "" },
    { "GET /v1./containers/json HTTP/1.1" END, FRONT_REFUSED, "" },
    { "GET /v.41/containers/json HTTP/1.1" END, FRONT_REFUSED, "" },
    { "GET /v1.2345/containers/json HTTP/1.1" END, FRONT_REFUSED, "" },
    { "GET /v-1.4/containers/json HTTP/1.1" END, FRONT_REFUSED, "" },
    { "GET http://docker/_ping HTTP/1.1" END, FRONT_REFUSED, "" },
    { "GET _ping HTTP/1.1" END, FRONT_REFUSED, "" },
    { "GET  HTTP/1.1" END, FRONT_REFUSED, "" },
    { "GET /_ping  HTTP/1.1" END, FRONT_REFUSED, "" },
    { "GET /_ping x HTTP/1.1" END, FRONT_REFUSED, "" },
    { "GET /_ping#x HTTP/1.1" END, FRONT_REFUSED, "" },
    { "GET " V "/events?a=\x80 HTTP/1.1" END, FRONT_REFUSED, "" },

    /* other protocols, malformed lines */
    { "GET /_ping HTTP/1.0" END, FRONT_REFUSED, "" },
    { "GET /_ping HTTP/2.0" END, FRONT_REFUSED, "" },
    { "GET /_ping HTTP/1.1 " END, FRONT_REFUSED, "" },
    { "GET /_ping" END, FRONT_REFUSED, "" },
    { "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", FRONT_REFUSED, "" },
    { "GET /_ping HTTP/1.1\nHost: docker\n\n", FRONT_REFUSED, "" },
    { "GET /_ping HTTP/1.1\r\nHost: docker\n\r\n", FRONT_REFUSED, "" },
    { "GET /_ping HTTP/1.1\r\nHost: docker\r\n", FRONT_REFUSED, "" },
    { "GET /_ping HTTP/1.1\r\nHost : docker\r\n\r\n", FRONT_REFUSED, "" },
    { "GET /_ping HTTP/1.1\r\n Host: docker\r\n\r\n", FRONT_REFUSED, "" },
    { "GET /_ping HTTP/1.1\r\nA: b\r\n folded\r\n\r\n", FRONT_REFUSED, "" },
    { "GET /_ping HTTP/1.1\r\n: x\r\n\r\n", FRONT_REFUSED, "" },
    { "GET /_ping HTTP/1.1\r\nno colon\r\n\r\n", FRONT_REFUSED, "" },
    { "GET /_ping HTTP/1.1\r\nA: b\rc\r\n\r\n", FRONT_REFUSED, "" },
    { "", FRONT_REFUSED, "" },
    { "\r\n\r\n", FRONT_REFUSED, "" },

    /* bodies and other connections */
    { "GET /_ping HTTP/1.1\r\nContent-Length: 10485760\r\n\r\n", FRONT_REFUSED, "" },
    { "GET /_ping HTTP/1.1\r\ncontent-length: 0\r\n\r\n", FRONT_REFUSED, "" },
    { "GET /_ping HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", FRONT_REFUSED, "" },
    { "GET /_ping HTTP/1.1\r\nExpect: 100-continue\r\n\r\n", FRONT_REFUSED, "" },
    { "GET /_ping HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n", FRONT_REFUSED, "" },
    { "GET /_ping HTTP/1.1\r\nConnection: close, x\r\n\r\n", FRONT_REFUSED, "" },
    { "GET /_ping HTTP/1.1" END "GET /_ping HTTP/1.1" END, FRONT_REFUSED, "" },
    { "GET /_ping HTTP/1.1" END "x", FRONT_REFUSED, "" },
};

static void check_rows(void)
{
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct front_request r = { .what = FRONT_PING };
        front_filter(rows[i].head, strlen(rows[i].head), &r);
        CHECK_ROW(rows[i].head, r.what == rows[i].want && str_eq(r.ref, rows[i].ref));
        CHECK_ROW(rows[i].head, r.probe == str_starts(rows[i].head, "HEAD /_ping "));
    }
}

static void check_sizes(void)
{
    static const char start[] = "GET /_ping HTTP/1.1\r\n";
    static const char nul[] = "GET /_ping HTTP/1.1\r\nA: \0\r\n\r\n";
    static const char closing[] = "GET /_ping HTTP/1.1\r\nCONNECTION: \t Close\r\n\r\n";
    static char text[FRONT_HEAD_MAX + 64];
    struct front_request r;
    size_t n;
    for (size_t lines = FRONT_LINES_MAX - 1; lines <= FRONT_LINES_MAX + 1; lines++) {
        n = (size_t)snprintf(text, sizeof text, "%s", start);
        for (size_t i = 0; i < lines; i++)
            n += (size_t)snprintf(text + n, sizeof text - n, "A: b\r\n");
        n += (size_t)snprintf(text + n, sizeof text - n, "\r\n");
        front_filter(text, n, &r);
        CHECK((r.what == FRONT_PING) == (lines <= FRONT_LINES_MAX));
    }
    for (size_t len = FRONT_HEAD_MAX; len <= FRONT_HEAD_MAX + 1; len++) {
        memset(text, 'a', sizeof text);
        memcpy(text, start, sizeof start - 1);
        memcpy(text + sizeof start - 1, "A: ", 3);
        memcpy(text + len - 4, "\r\n\r\n", 4);
        front_filter(text, len, &r);
        CHECK((r.what == FRONT_PING) == (len == FRONT_HEAD_MAX));
    }
    front_filter(nul, sizeof nul - 1, &r);
    CHECK(r.what == FRONT_REFUSED);
    front_filter(closing, sizeof closing - 1, &r);
    CHECK(r.what == FRONT_PING && r.close);
}

int main(void)
{
    check_rows();
    check_sizes();
    return check_done();
}
