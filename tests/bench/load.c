/* An HTTP/1.1 load client that is no bottleneck itself: one thread, N kept-open connections, each
 * sends its request again as soon as the reply is whole.
 *
 *   load PORT CONNECTIONS SECONDS METHOD PATH [BODY-FILE [CONTENT-TYPE]]
 *
 * Prints {"requests":n,"seconds":s,"p50_us":t,"p99_us":t,"bad":n}; bad counts replies that are not
 * 2xx. Replies must have a Content-Length (or be 204). Ends with 1 when a connection breaks. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define HEAD_MAX 16384
#define SAMPLES_MAX 2000000

struct conn {
    int fd;
    int64_t sent_us;
    char head[HEAD_MAX];
    size_t len;   /* bytes of head so far */
    int64_t left; /* bytes of body still to come; -1: the head is not whole */
    bool good;
};

static char *request;
static size_t request_len;
static uint32_t *samples;
static size_t n_samples, n_done, n_bad;

static int64_t now_us(void)
{
    struct timespec ts;
    (void)clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static void make_request(char **argv, int argc)
{
    char *body = NULL;
    size_t body_len = 0;
    FILE *out = open_memstream(&request, &request_len);
    if (argc > 6) {
        FILE *in = fopen(argv[6], "rb");
        if (!in)
            die(argv[6]);
        body = malloc(1 << 20);
        body_len = body ? fread(body, 1, 1 << 20, in) : 0;
        (void)fclose(in);
    }
    (void)fprintf(out, "%s %s HTTP/1.1\r\nHost: localhost:%s\r\n", argv[4], argv[5], argv[1]);
    if (body)
        (void)fprintf(out, "Content-Type: %s\r\nContent-Length: %zu\r\n",
                      argc > 7 ? argv[7] : "application/json", body_len);
    (void)fprintf(out, "\r\n");
    if (body)
        (void)fwrite(body, 1, body_len, out);
    (void)fclose(out);
    free(body);
}

static void send_request(struct conn *c)
{
    c->len = 0;
    c->left = -1;
    c->sent_us = now_us();
    for (size_t at = 0; at < request_len;) {
        ssize_t n = send(c->fd, request + at, request_len - at, MSG_NOSIGNAL);
        if (n < 0)
            die("send");
        at += (size_t)n;
    }
}

/* Looks for the end of the head; what follows it is body. */
static void parse_head(struct conn *c)
{
    c->head[c->len] = 0;
    char *end = strstr(c->head, "\r\n\r\n");
    if (!end) {
        if (c->len == HEAD_MAX - 1) {
            (void)fprintf(stderr, "reply head too long\n");
            exit(1);
        }
        return;
    }
    int status = (int)strtol(c->head + 9, NULL, 10);
    const char *length = strcasestr(c->head, "\r\nContent-Length:");
    if ((!length || length > end) && status != 204) {
        (void)fprintf(stderr, "no Content-Length: %.*s\n", (int)(end - c->head), c->head);
        exit(1);
    }
    c->good = status >= 200 && status < 300;
    c->left = length && length < end ? strtoll(length + 17, NULL, 10) : 0;
    c->left -= (int64_t)c->len - (end + 4 - c->head);
}

static void receive(struct conn *c)
{
    static char rest[1 << 18];
    bool in_head = c->left < 0;
    ssize_t n = recv(c->fd, in_head ? c->head + c->len : rest,
                     in_head ? HEAD_MAX - 1 - c->len : sizeof rest, 0);
    if (n <= 0) {
        if (n == 0)
            errno = ECONNRESET;
        die("recv");
    }
    if (in_head) {
        c->len += (size_t)n;
        parse_head(c);
    } else {
        c->left -= n;
    }
    if (c->left != 0)
        return;
    if (n_samples < SAMPLES_MAX)
        samples[n_samples++] = (uint32_t)(now_us() - c->sent_us);
    n_done++;
    n_bad += !c->good;
    send_request(c);
}

static int by_value(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
    if (argc < 6) {
        (void)fprintf(stderr,
                      "usage: load PORT CONNECTIONS SECONDS METHOD PATH [BODY-FILE [TYPE]]\n");
        return 2;
    }
    size_t conns = strtoul(argv[2], NULL, 10);
    int64_t seconds_us = (int64_t)(strtod(argv[3], NULL) * 1e6);
    struct sockaddr_in addr = { .sin_family = AF_INET,
                                .sin_port = htons((uint16_t)strtoul(argv[1], NULL, 10)),
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    struct conn *all = calloc(conns, sizeof *all);
    samples = calloc(SAMPLES_MAX, sizeof *samples);
    int ep = epoll_create1(EPOLL_CLOEXEC);
    if (!all || !samples || ep < 0)
        die("set up");
    make_request(argv, argc);
    for (size_t i = 0; i < conns; i++) {
        const int on = 1;
        all[i].fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (connect(all[i].fd, (const struct sockaddr *)(const void *)&addr, sizeof addr) < 0)
            die("connect");
        (void)setsockopt(all[i].fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        struct epoll_event ev = { .events = EPOLLIN, .data.ptr = &all[i] };
        if (epoll_ctl(ep, EPOLL_CTL_ADD, all[i].fd, &ev) < 0)
            die("epoll_ctl");
    }
    int64_t from = now_us();
    for (size_t i = 0; i < conns; i++)
        send_request(&all[i]);
    while (now_us() - from < seconds_us) {
        struct epoll_event ev[64];
        int n = epoll_wait(ep, ev, 64, 1000);
        for (int i = 0; i < n; i++)
            receive(ev[i].data.ptr);
    }
    double took = (double)(now_us() - from) / 1e6;
    qsort(samples, n_samples, sizeof *samples, by_value);
    (void)printf("{\"requests\":%zu,\"seconds\":%.3f,\"p50_us\":%u,\"p99_us\":%u,\"bad\":%zu}\n",
                 n_done, took, n_samples ? samples[n_samples / 2] : 0,
                 n_samples ? samples[n_samples * 99 / 100] : 0, n_bad);
    return 0;
}
