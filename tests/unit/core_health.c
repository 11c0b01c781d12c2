/* Services that are to answer on their health_path before anybody is let in. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sys/socket.h>

#include "corerig.h"

static struct err err;

/* An app: answers each connection as it is told; NULL: takes it and stays silent. */
struct app {
    int listener;
    uint16_t port;
    pthread_t thread;
    _Atomic(const char *) answer;
    atomic_int asked, odd; /* requests; those that are not as they should be */
    char cmd[64];
};

static void *serve(void *arg)
{
    struct app *a = arg;
    int fd, kept[64], n = 0;
    while ((fd = accept(a->listener, NULL, NULL)) >= 0) {
        char head[512] = "";
        const char *text = atomic_load(&a->answer);
        if (recv(fd, head, sizeof head - 1, 0) <= 0) { /* not wanted any more before it was asked */
            (void)close(fd);
            continue;
        }
        if (!str_starts(head, "GET /ok?x=1 HTTP/1.1\r\n") || !strstr(head, "Host: localhost:") ||
            !strstr(head, "\r\n\r\n"))
            atomic_fetch_add(&a->odd, 1);
        atomic_fetch_add(&a->asked, 1);
        if (text)
            (void)send(fd, text, strlen(text), MSG_NOSIGNAL);
        if (text || n == 64)
            (void)close(fd);
        else
            kept[n++] = fd;
    }
    while (n > 0)
        (void)close(kept[--n]);
    return NULL;
}

static void app_up(struct app *a, const char *answer)
{
    struct sockaddr_in at = { .sin_family = AF_INET };
    socklen_t size = sizeof at;
    (void)inet_pton(AF_INET, "127.0.0.2", &at.sin_addr); /* of the fake runtime's containers */
    *a = (struct app){ .listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0) };
    if (bind(a->listener, (struct sockaddr *)&at, sizeof at) < 0 || listen(a->listener, 64) < 0 ||
        getsockname(a->listener, (struct sockaddr *)&at, &size) < 0)
        abort();
    a->port = ntohs(at.sin_port);
    atomic_store(&a->answer, answer);
    (void)snprintf(a->cmd, sizeof a->cmd, "[\"listen\",\"%u\"]", a->port);
    if (pthread_create(&a->thread, NULL, serve, a) != 0)
        abort();
}

static void app_down(struct app *a)
{
    (void)shutdown(a->listener, SHUT_RDWR);
    (void)pthread_join(a->thread, NULL);
    (void)close(a->listener);
    CHECK(atomic_load(&a->odd) == 0);
}

static struct sandbox_id box_of(const struct app *a)
{
    struct service s = { .name = (char *)(uintptr_t) "web", /* borrowed: core copies them */
                         .cmd = (char *)(uintptr_t)a->cmd,
                         .cwd = (char *)(uintptr_t) "/tmp",
                         .port = a->port,
                         .health_path = (char *)(uintptr_t) "/ok?x=1" };
    struct core_create req = { .services = &s, .n_services = 1 };
    return rig_create_with(&req);
}

/* Without its texts. */
static struct service_info web(const struct sandbox_id *id)
{
    struct service_info *list, found = { .state = SERVICE_STATE_COUNT };
    size_t n;
    char problem[320];
    if (!CHECK(core_services(rig.core, &me, id, &list, &n, problem, &err) == 0))
        return found;
    if (CHECK(n == 1))
        found = list[0];
    for (size_t i = 0; i < n; i++)
        service_info_release(&list[i]);
    free(list);
    return found;
}

static bool said(const struct sandbox_id *id, const char *part)
{
    int64_t end = clock_mono_ms() + SOON;
    struct service_info i;
    while (!strstr((i = web(id)).problem, part) && clock_mono_ms() < end)
        (void)poll(NULL, 0, 1);
    if (!strstr(i.problem, part))
        printf("# says: %s\n", i.problem);
    return strstr(i.problem, part) && i.checked && !i.healthy;
}

static bool well(const struct sandbox_id *id, const struct app *a)
{
    bool loopback;
    char why[HEALTH_WHY_MAX] = "";
    if (core_wait_port(rig.core, id, a->port, clock_mono_ms() + SOON, &loopback, &err) < 0) {
        printf("# %s\n", err.msg);
        return false;
    }
    return web(id).healthy && !web(id).problem[0] && !core_unhealthy(rig.core, id, a->port, why);
}

static void purge(const struct sandbox_id *id)
{
    uint64_t freed;
    CHECK(core_purge(rig.core, &me, id, &freed, &err) == 0);
}

static void check_answers(void)
{
    static const struct {
        const char *answer, *says; /* NULL: it is well */
    } rows[] = {
        { "HTTP/1.1 200 OK\r\n\r\n", NULL },
        { "HTTP/1.0 204 No Content\r\n\r\n", NULL },
        { "HTTP/1.1 399 \r\n\r\n", NULL },
        { "HTTP/1.1 400 Bad\r\n\r\n", "it answered 400" },
        { "HTTP/1.1 503 Not yet\r\n\r\n", "it answered 503" },
        { "HTTP/1.1 199 Odd\r\n\r\n", "it answered 199" },
        { "HTTP/2.0 200 OK\r\n\r\n", "no answer" },
        { "HTTP/1.1 2x0 OK\r\n\r\n", "no answer" },
        { "SSH-2.0-OpenSSH_9.9\r\n", "no answer" },
        { "HTTP/1.1", "without an answer" },
        { "", "without an answer" },
    };
    struct app a;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        app_up(&a, rows[i].answer);
        struct sandbox_id id = box_of(&a);
        CHECK_ROW(rows[i].answer, rows[i].says ? said(&id, rows[i].says) : well(&id, &a));
        atomic_store(&a.answer, "HTTP/1.1 302 Found\r\n\r\n");
        CHECK_ROW(rows[i].answer, well(&id, &a)); /* once it is, it stays so */
        int asked = atomic_load(&a.asked);
        atomic_store(&a.answer, "HTTP/1.1 500 Broken\r\n\r\n");
        CHECK_ROW(rows[i].answer, well(&id, &a) && atomic_load(&a.asked) == asked);
        purge(&id);
        app_down(&a);
    }
}

/* One that hangs keeps nobody else waiting; what people are told meanwhile; what ends the wait. */
static void check_silent(void)
{
    struct app silent, good;
    struct core_why why = { .state = "" };
    bool loopback;
    app_up(&silent, NULL);
    app_up(&good, "HTTP/1.1 200 OK\r\n\r\n");
    int64_t began = clock_mono_ms();
    struct sandbox_id ill = box_of(&silent);
    while (atomic_load(&silent.asked) == 0)
        (void)poll(NULL, 0, 1);
    struct sandbox_id id = box_of(&good);
    CHECK(well(&id, &good));
    int asked = atomic_load(&silent.asked); /* again only after a probe's time */
    CHECK(asked >= 1 && asked <= 1 + (clock_mono_ms() - began) / HEALTH_PROBE_MS);
    char text[HEALTH_WHY_MAX] = "";
    CHECK(core_unhealthy(rig.core, &ill, silent.port, text) && !web(&ill).healthy);
    CHECK(strstr(text, "service web, GET /ok: ") == text);
    CHECK(!core_unhealthy(rig.core, &ill, 1, text)); /* another port of it */
    CHECK(core_wait_port(rig.core, &ill, silent.port, clock_mono_ms() + 20, &loopback, &err) < 0 &&
          err.code == ERR_TIMEOUT);
    CHECK(core_why(rig.core, &me, &ill, &why, &err) == 0);
    CHECK(strstr(why.waits_for, "service web, GET /ok: ") == why.waits_for);
    CHECK(core_why(rig.core, &me, &id, &why, &err) == 0 && !why.waits_for[0]);
    /* started anew it is looked at anew */
    atomic_store(&silent.answer, "HTTP/1.1 200 OK\r\n\r\n");
    CHECK(core_service_act(rig.core, &me, &ill, "web", SERVICE_RESTART, &err) == 0);
    CHECK(well(&ill, &silent));
    atomic_store(&silent.answer, "HTTP/1.1 500 Broken\r\n\r\n");
    CHECK(core_service_act(rig.core, &me, &ill, "web", SERVICE_RESTART, &err) == 0);
    CHECK(said(&ill, "it answered 500"));
    /* nobody waits for what nobody is to run */
    CHECK(core_service_act(rig.core, &me, &ill, "web", SERVICE_STOP, &err) == 0);
    int64_t end = clock_mono_ms() + SOON;
    while (core_unhealthy(rig.core, &ill, silent.port, text) && clock_mono_ms() < end)
        (void)poll(NULL, 0, 1);
    CHECK(!core_unhealthy(rig.core, &ill, silent.port, text));
    /* asleep, and up again */
    CHECK(core_service_act(rig.core, &me, &ill, "web", SERVICE_START, &err) == 0);
    CHECK(rig_stop(&ill, &err) == 0 && rig_start(&ill, &err) == 0);
    CHECK(said(&ill, "it answered 500"));
    atomic_store(&silent.answer, "HTTP/1.1 200 OK\r\n\r\n");
    CHECK(well(&ill, &silent));
    purge(&ill), purge(&id);
    app_down(&silent);
    app_down(&good);
}

/* In the place of one that is waited for comes one that declares no path: nobody waits any more. */
static void check_replaced(void)
{
    struct app silent;
    struct process p;
    char why[HEALTH_WHY_MAX];
    app_up(&silent, NULL);
    struct sandbox_id id = box_of(&silent);
    CHECK(core_unhealthy(rig.core, &id, silent.port, why));
    struct service plain = { .name = (char *)(uintptr_t) "web", /* borrowed, as above */
                             .cmd = silent.cmd,
                             .cwd = (char *)(uintptr_t) "/tmp",
                             .port = silent.port };
    if (CHECK(core_service_add(rig.core, &me, &id, &plain, &p, &err) == 0))
        process_release(&p);
    CHECK(!core_unhealthy(rig.core, &id, silent.port, why));
    purge(&id);
    app_down(&silent);
}

int main(void)
{
    rig_up();
    check_answers();
    check_silent();
    check_replaced();
    CHECK(rig.fake.count == 0);
    rig_down();
    return check_done();
}
