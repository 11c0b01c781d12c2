/* An app for edge tests: a listener on 127.0.0.1 with a thread for each connection; a function of
 * the test answers. */
#ifndef SUPPORT_EDGE_APP_H
#define SUPPORT_EDGE_APP_H

#include <netinet/tcp.h>

#include "edge_rig.h"

#define APP_THREADS 2048

struct app_conn {
    int fd;
    char in[65536]; /* what came and was not dropped; terminated */
    size_t used;
};

typedef void (*app_fn)(struct app_conn *c, const char *head);

static struct {
    int listener;
    uint16_t port;
    app_fn serve;
    pthread_t thread, threads[APP_THREADS];
    int count;
    atomic_bool stop;
    atomic_int requests;
} app;

/* Reads once. false: the end. */
static inline bool app_more(struct app_conn *c)
{
    ssize_t n = recv(c->fd, c->in + c->used, sizeof c->in - 1 - c->used, 0);
    if (n <= 0)
        return false;
    c->used += (size_t)n;
    c->in[c->used] = '\0';
    return true;
}
static inline void app_drop(struct app_conn *c, size_t n)
{
    memmove(c->in, c->in + n, c->used - n + 1);
    c->used -= n;
}
static inline bool app_say(struct app_conn *c, const char *text)
{
    return fd_write_all(c->fd, text, strlen(text)) == 0;
}
/* Waits until text has come. */
static inline bool app_until(struct app_conn *c, const char *text)
{
    while (!strstr(c->in, text))
        if (!app_more(c))
            return false;
    return true;
}
static inline void app_length(struct app_conn *c, const char *body)
{
    char head[128];
    (void)snprintf(head, sizeof head, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n",
                   strlen(body));
    (void)app_say(c, head);
    (void)app_say(c, body);
}

static void *app_one(void *arg)
{
    struct app_conn *c = arg;
    while (app_until(c, "\r\n\r\n")) {
        size_t size = (size_t)(strstr(c->in, "\r\n\r\n") - c->in) + 4;
        char *head = str_ndup(c->in, size);
        app_drop(c, size);
        atomic_fetch_add(&app.requests, 1);
        app.serve(c, head);
        free(head);
        if (c->fd < 0)
            break;
    }
    if (c->fd >= 0)
        (void)close(c->fd);
    free(c);
    return NULL;
}
/* From within serve: no further request on this connection. */
static inline void app_hang_up(struct app_conn *c)
{
    (void)shutdown(c->fd, SHUT_WR);
    while (app_more(c))
        c->used = 0;
    (void)close(c->fd);
    c->fd = -1;
}

static void *app_loop(void *arg)
{
    (void)arg;
    for (;;) {
        int fd = accept(app.listener, NULL, NULL);
        if (fd < 0 || atomic_load(&app.stop) || app.count == APP_THREADS) {
            (void)close(fd);
            return NULL;
        }
        int on = 1;
        struct app_conn *c = mem_new(1, sizeof *c);
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        c->fd = fd;
        if (pthread_create(&app.threads[app.count++], NULL, app_one, c) != 0)
            abort();
    }
}
static inline void app_start(app_fn serve)
{
    app.listener = rig_listen(&app.port);
    app.serve = serve;
    atomic_store(&fake_app_port, app.port);
    if (pthread_create(&app.thread, NULL, app_loop, NULL) != 0)
        abort();
}
/* After rig_stop: the edge has closed its connections. */
static inline void app_end(void)
{
    atomic_store(&app.stop, true);
    (void)close(rig_dial(app.port));
    (void)pthread_join(app.thread, NULL);
    for (int i = 0; i < app.count; i++)
        (void)pthread_join(app.threads[i], NULL);
    (void)close(app.listener);
}

#endif
