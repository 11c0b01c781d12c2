/* The client against a scripted Engine on a Unix socket: each row of a script says which request it
 * waits for and what comes back, whole or broken. */
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/mu.h"
#include "base/str.h"
#include "check.h"
#include "self.h"

/* --- the scripted Engine --- */

enum act {
    ACT_REPLY, /* status and body, connection stays */
    ACT_CLOSE, /* close without a byte */
    ACT_BREAK, /* headers promise more than comes, then close */
    ACT_RAW,   /* body is sent as it stands, then close */
    ACT_HANG,  /* nothing, for ever */
    ACT_STILL, /* all of us stand still for longer than an answer may take; then as ACT_REPLY */
    ACT_HUGE,  /* a body beyond JSON_ENGINE_MAX */
    ACT_LAST,  /* as ACT_REPLY, then close: the client learns it later */
    ACT_EVENTS /* chunked; body in pieces of `step` bytes; stays open */
};

struct row {
    const char *request; /* its beginning, after the version: "GET /images/" */
    enum act act;
    int status;
    const char *body;
    int times; /* 0: always */
    size_t step;
};

#define CONNS_MAX 32
struct fake {
    char path[100];
    int listener;
    int wake[2];
    pthread_t thread;
    pthread_mutex_t lock; /* guards rows, log and accepted */
    struct row rows[24];
    size_t n_rows;
    struct buf log; /* request lines */
    int accepted;
};

static void send_text(int fd, const char *text, size_t len)
{
    (void)!send(fd, text, len, MSG_NOSIGNAL); /* a client that has left is part of the game */
}

static void send_reply(int fd, int status, const char *body)
{
    struct buf b = BUF_INIT(64 * KIB);
    if (status == 204 || status == 304)
        buf_addf(&b, "HTTP/1.1 %d X\r\n\r\n", status);
    else
        buf_addf(&b, "HTTP/1.1 %d X\r\nContent-Length: %zu\r\n\r\n%s", status, strlen(body), body);
    send_text(fd, b.data, b.len);
    buf_release(&b);
}

static void send_events(int fd, const char *body, size_t step)
{
    static const char head[] = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    send_text(fd, head, sizeof head - 1);
    for (size_t at = 0, len = strlen(body); at < len; at += step) {
        struct buf b = BUF_INIT(64 * KIB);
        size_t n = len - at < step ? len - at : step;
        buf_addf(&b, "%zx\r\n%.*s\r\n", n, (int)n, body + at);
        send_text(fd, b.data, b.len);
        buf_release(&b);
    }
}

static void send_huge(int fd)
{
    static const char head[] = "HTTP/1.1 200 OK\r\nContent-Length: 10000000\r\n\r\n";
    send_text(fd, head, sizeof head - 1);
    char *block = mem_new(1, 65536);
    memset(block, ' ', 65536);
    for (int i = 0; i < 153; i++)
        send_text(fd, block, 65536);
    free(block);
}

static void stand_still(void)
{
    pid_t us = getpid(), pid = fork();
    if (pid == 0) {
        (void)kill(us, SIGSTOP);
        (void)poll(NULL, 0, 2 * ENGINE_PING_MS);
        (void)kill(us, SIGCONT);
        _exit(0);
    }
    if (pid < 0 || waitpid(pid, NULL, 0) != pid)
        abort();
    (void)poll(NULL, 0, ENGINE_PING_MS / 4); /* not the first to run again */
}

/* True: the connection is to be closed. */
static bool answer(int fd, const struct row *row)
{
    switch (row->act) {
    case ACT_STILL:
        stand_still();
        send_reply(fd, row->status, row->body);
        return false;
    case ACT_REPLY:
    case ACT_LAST:
        send_reply(fd, row->status, row->body ? row->body : "");
        return row->act == ACT_LAST;
    case ACT_BREAK: {
        static const char text[] = "HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{\"Id\":";
        send_text(fd, text, sizeof text - 1);
        return true;
    }
    case ACT_RAW:
        send_text(fd, row->body, strlen(row->body));
        return true;
    case ACT_HUGE:
        send_huge(fd);
        return true;
    case ACT_EVENTS:
        send_events(fd, row->body, row->step);
        return false;
    case ACT_HANG:
        return false;
    case ACT_CLOSE:
        break;
    }
    return true;
}

/* "GET /v1.41/images/x HTTP/1.1" matches "GET /images/". */
static bool matches(const char *line, const char *want)
{
    const char *space = strchr(want, ' ');
    size_t method = (size_t)(space - want) + 1;
    if (strncmp(line, want, method) != 0)
        return false;
    const char *path = line + method;
    if (str_starts(path, "/v1."))
        path = strchr(path + 1, '/');
    return path && str_starts(path, space + 1);
}

static bool serve_request(struct fake *f, int fd, const char *request)
{
    struct row row = { .act = ACT_REPLY, .status = 500, .body = "{\"message\":\"no row\"}" };
    (void)pthread_mutex_lock(&f->lock);
    buf_add(&f->log, request, strcspn(request, "\r"));
    buf_addc(&f->log, '\n');
    for (size_t i = 0; i < f->n_rows; i++)
        if (f->rows[i].times >= 0 && matches(request, f->rows[i].request)) {
            row = f->rows[i];
            if (row.times > 0 && --f->rows[i].times == 0)
                f->rows[i].times = -1;
            break;
        }
    (void)pthread_mutex_unlock(&f->lock);
    return answer(fd, &row);
}

/* A whole request in b: its length, else 0. */
static size_t whole(const struct buf *b)
{
    const char *text = buf_str(b), *end = strstr(text, "\r\n\r\n");
    if (!end)
        return 0;
    size_t len = (size_t)(end - text) + 4;
    const char *length = strcasestr(text, "\r\nContent-Length: ");
    if (length && length < end)
        len += strtoul(length + 18, NULL, 10);
    return b->len >= len ? len : 0;
}

static void *fake_main(void *arg)
{
    struct fake *f = arg;
    struct pollfd fds[CONNS_MAX + 2] = { { .fd = f->wake[0], .events = POLLIN },
                                         { .fd = f->listener, .events = POLLIN } };
    struct buf in[CONNS_MAX + 2] = { 0 };
    nfds_t n = 2;
    while (poll(fds, n, -1) >= 0 && !fds[0].revents) {
        for (nfds_t i = 2; i < n; i++) {
            char chunk[8192];
            if (!fds[i].revents)
                continue;
            ssize_t got = recv(fds[i].fd, chunk, sizeof chunk, MSG_DONTWAIT);
            bool over = got <= 0;
            if (got > 0)
                buf_add(&in[i], chunk, (size_t)got);
            for (size_t len; !over && (len = whole(&in[i])) > 0; buf_drop(&in[i], len))
                over = serve_request(f, fds[i].fd, buf_str(&in[i]));
            if (over) {
                close(fds[i].fd);
                buf_release(&in[i]);
                fds[i] = fds[n - 1];
                in[i] = in[n - 1];
                in[--n] = (struct buf){ 0 };
                i--;
            }
        }
        if (fds[1].revents && n < CONNS_MAX + 2) {
            int fd = accept4(f->listener, NULL, NULL, SOCK_CLOEXEC);
            if (fd >= 0) {
                (void)pthread_mutex_lock(&f->lock);
                f->accepted++;
                (void)pthread_mutex_unlock(&f->lock);
                fds[n] = (struct pollfd){ .fd = fd, .events = POLLIN };
                buf_init(&in[n++], 64 * KIB);
            }
        }
    }
    for (nfds_t i = 2; i < n; i++) {
        close(fds[i].fd);
        buf_release(&in[i]);
    }
    return NULL;
}

static void fake_start(struct fake *f)
{
    struct sockaddr_un addr = { .sun_family = AF_UNIX };
    (void)unlink(f->path);
    (void)str_copy(addr.sun_path, sizeof addr.sun_path, f->path);
    f->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (f->listener < 0 || bind(f->listener, (struct sockaddr *)&addr, sizeof addr) != 0 ||
        listen(f->listener, 16) != 0 || pipe(f->wake) != 0 ||
        pthread_create(&f->thread, NULL, fake_main, f) != 0)
        abort();
}

static void fake_stop(struct fake *f)
{
    (void)!write(f->wake[1], "x", 1);
    (void)pthread_join(f->thread, NULL);
    close(f->listener);
    close(f->wake[0]);
    close(f->wake[1]);
}

/* Rows before the standing ones: the first that fits counts. */
static void fake_script(struct fake *f, const struct row *rows, size_t count)
{
    static const struct row standing[] = {
        { "GET /version", ACT_REPLY, 200, "{\"Version\":\"20.10.24\",\"ApiVersion\":\"1.41\"}" },
        { "GET /_ping", ACT_REPLY, 200, "OK" },
        { "GET /networks/", ACT_REPLY, 200,
          "{\"Name\":\"sandboxed-inst\",\"Driver\":\"bridge\",\"Labels\":{\"sandboxed.instance\":"
          "\"inst\"},\"Options\":{\"com.docker.network.bridge.enable_icc\":\"false\"}}" },
    };
    (void)pthread_mutex_lock(&f->lock);
    f->n_rows = 0;
    for (size_t i = 0; i < count; i++)
        f->rows[f->n_rows++] = rows[i];
    for (size_t i = 0; i < sizeof standing / sizeof standing[0]; i++)
        f->rows[f->n_rows++] = standing[i];
    buf_reset(&f->log);
    f->accepted = 0;
    (void)pthread_mutex_unlock(&f->lock);
}
#define SCRIPT(f, ...)                                    \
    fake_script((f), (const struct row[]){ __VA_ARGS__ }, \
                sizeof((const struct row[]){ __VA_ARGS__ }) / sizeof(struct row))

static int asked(struct fake *f, const char *what)
{
    int n = 0;
    (void)pthread_mutex_lock(&f->lock);
    for (const char *at = strstr(buf_str(&f->log), what); at; at = strstr(at + 1, what))
        n++;
    (void)pthread_mutex_unlock(&f->lock);
    return n;
}

/* --- tests --- */

#define CID "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define CID2 "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
#define ULID "01ARZ3NDEKTSV4RRFFQ69G5FAV"
#define INSPECT(instance, epoch, nofile)                                                           \
    "{\"Id\":\"" CID "\",\"Name\":\"/s-x\",\"State\":{\"Status\":\"exited\",\"ExitCode\":137,"     \
    "\"OOMKilled\":true,\"Pid\":0},\"Config\":{\"Labels\":{\"sandboxed.instance\":\"" instance     \
    "\",\"sandboxed.id\":\"" ULID "\",\"sandboxed.revision\":\"" epoch "\"}},\"HostConfig\":{"     \
    "\"Ulimits\":[{\"Name\":\"core\",\"Hard\":0,\"Soft\":0},{\"Name\":\"nofile\",\"Hard\":" nofile \
    ",\"Soft\":1}]},\"NetworkSettings\":{\"Networks\":{\"sandboxed-inst\":{\"IPAddress\":"         \
    "\"172.18.0.2\"}}}}"

static struct fake fake = { .lock = PTHREAD_MUTEX_INITIALIZER, .log = BUF_INIT(MIB) };
static struct docker *d;
static const struct runtime *rt;

static void test_statuses(void)
{
    static const struct {
        const char *row;
        int status;
        const char *body;
        int want;
        enum err_code code;
        const char *words; /* in the message */
    } rows[] = {
        { "started", 204, "", 0, 0, "" },
        { "started already", 304, "", 0, 0, "" },
        { "gone", 404, "{\"message\":\"No such container: x\"}", -1, ERR_NOT_FOUND, "container" },
        { "conflict", 409, "{\"message\":\"marked for removal\"}", -1, ERR_CONFLICT, "conflict" },
        { "no space", 500, "{\"message\":\"write /a/b: no space left on device\"}", -1,
          ERR_NO_SPACE, "disk is full" },
        { "kernel's word", 500,
          "{\"message\":\"OCI runtime: mounting x: permission denied: unknown\"}", -1, ERR_ENGINE,
          "started: permission denied" },
        { "a path is not shown", 500, "{\"message\":\"failed: /var/lib/secret\"}", -1, ERR_ENGINE,
          "container runtime failed" },
        { "no JSON", 500, "<html>", -1, ERR_ENGINE, "container runtime failed" },
        { "agent missing", 400, "{\"message\":\"runc: exec: \\\"/x\\\": stat /x: no such file\"}",
          -1, ERR_ENGINE, "agent could not be run" },
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct err err = { 0 };
        SCRIPT(&fake,
               { "POST /containers/" CID "/start", ACT_REPLY, rows[i].status, rows[i].body });
        CHECK_ROW(rows[i].row, rt->start(rt->self, CID, &err) == rows[i].want);
        CHECK_ROW(rows[i].row, rows[i].want == 0 || err.code == rows[i].code);
        if (!CHECK_ROW(rows[i].row, strstr(err.msg, rows[i].words) != NULL))
            printf("# %s\n", err.msg);
    }
    struct err err;
    SCRIPT(&fake, { "POST /containers/", ACT_REPLY, 404, "{}" },
           { "DELETE /containers/", ACT_REPLY, 404, "{}" });
    CHECK_ROW("stop of a missing one", rt->stop(rt->self, CID, 1500, &err) == 0);
    CHECK(asked(&fake, "/stop?t=2 ") == 1);
    CHECK_ROW("remove of a missing one", rt->remove(rt->self, CID, &err) == 0);
    SCRIPT(&fake,
           { "DELETE /containers/", ACT_REPLY, 409, "{\"message\":\"already in progress\"}" },
           { "POST /containers/" CID "/wait?condition=removed", ACT_REPLY, 200, "{}" });
    CHECK_ROW("somebody else removes it", rt->remove(rt->self, CID, &err) == 0);
    CHECK_ROW("empty name", rt->remove(rt->self, "", &err) == -1 && err.code == ERR_NOT_FOUND);
    CHECK_ROW("dots", rt->start(rt->self, "..", &err) == -1 && err.code == ERR_NOT_FOUND);
    CHECK_ROW("slash is encoded", rt->start(rt->self, "a/b?c", &err) == -1);
    CHECK(asked(&fake, "/containers/a%2Fb%3Fc/start") == 1);
}

static void test_replies(void)
{
    struct err err;
    struct runtime_container c;
    SCRIPT(&fake, { "GET /containers/", ACT_REPLY, 200, INSPECT("inst", "3", "4096") });
    CHECK(rt->inspect(rt->self, CID, &c, &err) == 0);
    CHECK_STR(CID, c.container_id);
    CHECK_STR("s-x", c.name);
    CHECK_STR(ULID, c.id.text);
    CHECK_STR("172.18.0.2", c.ip);
    CHECK(c.status == RUNTIME_EXITED && c.exit_code == 137 && c.oom_killed && c.pid == 0);
    char *json = NULL;
    CHECK(rt->inspect_json(rt->self, CID, &json, &err) == 0 && strstr(json, "\"OOMKilled\":true"));
    free(json);
    SCRIPT(&fake, { "GET /containers/", ACT_REPLY, 200, INSPECT("other", "3", "4096") });
    CHECK_ROW("another instance's",
              rt->inspect(rt->self, CID, &c, &err) == -1 && err.code == ERR_NOT_FOUND);
    static const char *const garbage[] = {
        "",
        "{",
        "[]",
        "null",
        "{\"Id\":7}",
        "{\"Id\":\"../x\",\"Name\":\"n\"}",
        "{\"Id\":\"" CID "\",\"Name\":\"n\",\"State\":{\"Status\":\"dancing\"}}",
    };
    for (size_t i = 0; i < sizeof garbage / sizeof garbage[0]; i++) {
        SCRIPT(&fake, { "GET /containers/", ACT_REPLY, 200, garbage[i] });
        CHECK_ROW(garbage[i], rt->inspect(rt->self, CID, &c, &err) == -1 && err.code == ERR_ENGINE);
    }
    struct runtime_container *list;
    size_t count;
    SCRIPT(&fake, { "GET /containers/json?all=1", ACT_REPLY, 200,
                    "[{\"Id\":\"" CID "\",\"Names\":[\"/s-a\"],\"State\":\"exited\",\"Status\":"
                    "\"Exited (3) 2 minutes ago\",\"Labels\":{\"sandboxed.id\":\"" ULID "\"}},"
                    "{\"Id\":\"" CID2 "\",\"Names\":[\"/x\"],\"State\":\"created\",\"Labels\":{"
                    "\"sandboxed.role\":\"seed\"}},"
                    "{\"Id\":\"" CID2 "\",\"Names\":null,\"State\":\"running\",\"Labels\":{"
                    "\"sandboxed.id\":\"not an id\"}}]" });
    CHECK(rt->list(rt->self, &list, &count, &err) == 0 && count == 1);
    CHECK(list[0].exit_code == 3 && list[0].status == RUNTIME_EXITED);
    free(list);
    struct runtime_image image;
    SCRIPT(&fake, { "GET /images/", ACT_REPLY, 404, "{}" });
    CHECK(rt->image(rt->self, "a/b:c", &image, &err) == -1 && err.code == ERR_NOT_FOUND);
    CHECK(err.remedy[0] != 0 && asked(&fake, "/images/a%2Fb%3Ac/json") == 1);
    CHECK_ROW("never sent", rt->image(rt->self, "../info", &image, &err) == -1 &&
                                err.code == ERR_NOT_FOUND && asked(&fake, "info") == 0);
}

static void test_broken(void)
{
    struct err err;
    struct runtime_container c;
    static const struct {
        const char *row;
        struct row script;
        const char *words;
    } rows[] = {
        { "breaks off", { "GET /containers/", ACT_BREAK }, "broke" },
        { "no HTTP", { "GET /containers/", ACT_RAW, .body = "hello\r\n\r\n" }, "broke" },
        { "too long", { "GET /containers/", ACT_HUGE }, "longer than" },
        { "closes always", { "GET /containers/", ACT_CLOSE }, "broke" },
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        SCRIPT(&fake, rows[i].script);
        CHECK_ROW(rows[i].row,
                  rt->inspect(rt->self, CID, &c, &err) == -1 && err.code == ERR_ENGINE);
        if (!CHECK_ROW(rows[i].row, strstr(err.msg, rows[i].words) != NULL))
            printf("# %s\n", err.msg);
    }
    /* A kept-open connection that ends at the next request is tried anew, once and unseen. */
    SCRIPT(&fake, { "GET /containers/", ACT_LAST, 200, INSPECT("inst", "3", "1") });
    CHECK(rt->inspect(rt->self, CID, &c, &err) == 0);
    CHECK_ROW("closed while idle", rt->inspect(rt->self, CID, &c, &err) == 0);
    SCRIPT(&fake, { "GET /_ping", ACT_REPLY, 200, "OK", 1 },
           { "POST /containers/", ACT_CLOSE, .times = 1 }, { "POST /containers/", ACT_REPLY, 204 });
    char version[32];
    CHECK(rt->ping(rt->self, version, &err) == 0);
    CHECK_ROW("closed when asked", rt->start(rt->self, CID, &err) == 0);
    CHECK(asked(&fake, "/start") == 2);
    SCRIPT(&fake,
           { "GET /version", ACT_REPLY, 200, "{\"Version\":\"24.0\",\"ApiVersion\":\"1.43\"}" },
           { "POST /containers/", ACT_REPLY, 204 });
    CHECK(rt->start(rt->self, CID, &err) == 0);
    CHECK_ROW("version asked again", asked(&fake, "GET /version") == 1);
    CHECK_ROW("and spoken", asked(&fake, "POST /v1.43/") == 1);
}

static void test_away(void)
{
    struct err err;
    struct runtime_container c;
    char version[32];
    /* Late by a standstill of the machine, which is no silence of the Engine. */
    SCRIPT(&fake, { "GET /_ping", ACT_STILL, 200, "OK" });
    CHECK_ROW("stood still", rt->ping(rt->self, version, &err) == 0);
    /* Silent: neither the call nor the ping is answered. */
    SCRIPT(&fake, { "GET /containers/", ACT_HANG }, { "GET /_ping", ACT_HANG });
    int64_t begin_ms = clock_mono_ms();
    CHECK_ROW("hangs", rt->inspect(rt->self, CID, &c, &err) == -1 && err.code == ERR_ENGINE);
    CHECK_ROW("not for long", clock_mono_ms() - begin_ms < 10000); /* 2 s on a quiet machine */
    SCRIPT(&fake, { "GET /version", ACT_HANG }, { "GET /_ping", ACT_HANG });
    begin_ms = clock_mono_ms();
    CHECK_ROW("hangs at once", rt->ping(rt->self, version, &err) == -1 && err.code == ERR_ENGINE);
    CHECK_ROW("hangs for a call", rt->start(rt->self, CID, &err) == -1 && err.code == ERR_ENGINE);
    CHECK(clock_mono_ms() - begin_ms < 20000);
    /* Gone. */
    fake_stop(&fake);
    begin_ms = clock_mono_ms();
    CHECK_ROW("refused", rt->inspect(rt->self, CID, &c, &err) == -1 && err.code == ERR_ENGINE);
    if (!CHECK(strcasestr(err.msg, "connection refused") && strstr(err.msg, fake.path)))
        printf("# %s\n", err.msg);
    CHECK(err.remedy[0] != 0);
    (void)unlink(fake.path);
    CHECK_ROW("no socket", rt->start(rt->self, CID, &err) == -1 && err.code == ERR_ENGINE);
    if (!CHECK(strcasestr(err.msg, "no such file") != NULL))
        printf("# %s\n", err.msg);
    CHECK(clock_mono_ms() - begin_ms < 5000);
    /* Back. */
    SCRIPT(&fake, { "POST /containers/", ACT_REPLY, 204 });
    fake_start(&fake);
    CHECK_ROW("back again", rt->start(rt->self, CID, &err) == 0);
    CHECK(rt->ping(rt->self, version, &err) == 0);
    CHECK_STR("20.10.24", version);
}

static void test_create(void)
{
    struct err err = { 0 };
    struct sandbox_id id;
    char cid[65] = "";
    uint32_t granted = 0;
    CHECK(sandbox_id_parse(ULID, &id, &err) == 0);
    struct runtime_spec spec = {
        .id = &id, .image = "i", .entrypoint = "/a", .revision = 3, .nofile = 65536
    };
    atomic_store(&d->nofile_max, 20000);
    SCRIPT(&fake, { "POST /containers/create?name=s-01arz3ndektsv4rrffq69g5fav", ACT_REPLY, 201,
                    "{\"Id\":\"" CID2 "\"}" });
    CHECK(rt->create(rt->self, &spec, cid, &granted, &err) == 0 && granted == 20000);
    CHECK_STR(CID2, cid);
    SCRIPT(&fake, { "POST /containers/create", ACT_REPLY, 409, "{}" },
           { "GET /containers/s-", ACT_REPLY, 200, INSPECT("inst", "3", "4096") });
    CHECK_ROW("adopts", rt->create(rt->self, &spec, cid, &granted, &err) == 0 && granted == 4096);
    CHECK_STR(CID, cid);
    SCRIPT(&fake, { "POST /containers/create", ACT_REPLY, 409, "{}", 1 },
           { "POST /containers/create", ACT_REPLY, 201, "{\"Id\":\"" CID2 "\"}" },
           { "GET /containers/s-", ACT_REPLY, 200, INSPECT("inst", "2", "4096") },
           { "DELETE /containers/" CID, ACT_REPLY, 204 });
    CHECK_ROW("replaces an older one", rt->create(rt->self, &spec, cid, &granted, &err) == 0);
    CHECK(asked(&fake, "DELETE ") == 1 && str_eq(cid, CID2));
    SCRIPT(&fake, { "POST /containers/create", ACT_REPLY, 409, "{}", 1 },
           { "POST /containers/create", ACT_REPLY, 201, "{\"Id\":\"" CID2 "\"}" },
           { "GET /containers/s-", ACT_REPLY, 404, "{}" });
    CHECK_ROW("gone meanwhile", rt->create(rt->self, &spec, cid, &granted, &err) == 0);
    SCRIPT(&fake, { "POST /containers/create", ACT_REPLY, 409, "{}" },
           { "GET /containers/s-", ACT_REPLY, 200, INSPECT("other", "3", "4096") });
    CHECK_ROW("a stranger", rt->create(rt->self, &spec, cid, &granted, &err) == -1 &&
                                err.code == ERR_CONFLICT && asked(&fake, "DELETE") == 0);
    CHECK(strstr(err.msg, "s-01arz3ndektsv4rrffq69g5fav") != NULL);
    SCRIPT(&fake,
           { "POST /containers/create", ACT_REPLY, 404, "{\"message\":\"No such image: i\"}" });
    CHECK_ROW("no image", rt->create(rt->self, &spec, cid, &granted, &err) == -1 &&
                              err.code == ERR_NOT_FOUND && err.remedy[0]);
    /* The Engine may not grant so many files: the next create asks for fewer, and replaces. */
    SCRIPT(&fake,
           { "POST /containers/" CID "/start", ACT_REPLY, 500,
             "{\"message\":\"error setting rlimit type 7: operation not permitted\"}" },
           { "GET /containers/" CID, ACT_REPLY, 200, INSPECT("inst", "3", "20000") },
           { "POST /containers/create", ACT_REPLY, 409, "{}", 1 },
           { "POST /containers/create", ACT_REPLY, 201, "{\"Id\":\"" CID2 "\"}" },
           { "GET /containers/s-", ACT_REPLY, 200, INSPECT("inst", "3", "20000") },
           { "DELETE /containers/" CID, ACT_REPLY, 204 });
    CHECK(rt->start(rt->self, CID, &err) == -1 && err.code == ERR_ENGINE && err.remedy[0]);
    CHECK_ROW("clamped", rt->create(rt->self, &spec, cid, &granted, &err) == 0 && granted == 4096);
    /* The network was removed behind our back. */
    SCRIPT(&fake,
           { "POST /containers/" CID "/start", ACT_REPLY, 404,
             "{\"message\":\"network sandboxed-inst not found\"}", 1 },
           { "POST /containers/" CID "/start", ACT_REPLY, 204 },
           { "GET /networks/", ACT_REPLY, 404, "{}" },
           { "POST /networks/create", ACT_REPLY, 201, "{\"Id\":\"x\"}" });
    CHECK_ROW("network made anew", rt->start(rt->self, CID, &err) == 0);
    CHECK(asked(&fake, "POST /v1.41/networks/create") == 1);
    atomic_store(&d->network_seen, 0);
    SCRIPT(&fake, { "GET /networks/", ACT_REPLY, 200,
                    "{\"Name\":\"sandboxed-inst\",\"Driver\":\"bridge\",\"Labels\":{},"
                    "\"Options\":{}}" });
    CHECK_ROW("a stranger's network",
              docker_network_ensure(d, &err) == -1 && err.code == ERR_CONFLICT);
}

static int count_sink(void *ctx, const void *data, size_t len, struct err *err)
{
    size_t *total = ctx;
    (void)data;
    *total += len;
    return *total > 8 ? err_set(err, ERR_TOO_LARGE, "enough") : 0;
}

static void test_archive(void)
{
    struct err err;
    size_t total = 0;
    SCRIPT(&fake, { "POST /containers/create", ACT_REPLY, 201, "{\"Id\":\"" CID "\"}" },
           { "GET /containers/" CID "/archive?path=%2Fhome", ACT_REPLY, 200, "12345678" },
           { "DELETE /containers/" CID, ACT_REPLY, 204 });
    CHECK(rt->image_archive(rt->self, "i", "/home", count_sink, &total, &err) == 0 && total == 8);
    CHECK_ROW("the sink stops it",
              rt->image_archive(rt->self, "i", "/home", count_sink, &total, &err) == -1 &&
                  err.code == ERR_TOO_LARGE);
    CHECK(asked(&fake, "DELETE ") == 2);
    SCRIPT(&fake, { "POST /containers/create", ACT_REPLY, 201, "{\"Id\":\"" CID "\"}" },
           { "GET /containers/" CID "/archive", ACT_REPLY, 404, "{}" },
           { "DELETE /containers/" CID, ACT_REPLY, 204 });
    CHECK_ROW("no such path",
              rt->image_archive(rt->self, "i", "/home", count_sink, &total, &err) == -1 &&
                  err.code == ERR_NOT_FOUND);
    CHECK(asked(&fake, "DELETE ") == 1);
}

/* --- events --- */

struct heard {
    pthread_mutex_t lock;
    pthread_cond_t news;
    int resyncs, changes, strangers;
};

static void on_event(void *ctx, enum runtime_event_kind kind, const struct sandbox_id *id)
{
    struct heard *h = ctx;
    (void)pthread_mutex_lock(&h->lock);
    if (kind == RUNTIME_EV_RESYNC)
        h->resyncs++;
    else if (str_eq(id->text, ULID))
        h->changes++;
    else
        h->strangers++;
    (void)pthread_cond_broadcast(&h->news);
    (void)pthread_mutex_unlock(&h->lock);
}

/* Waits until so much was heard; false after a minute. */
static bool wait_heard(struct heard *h, int resyncs, int changes)
{
    struct timespec until;
    (void)clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 60;
    (void)pthread_mutex_lock(&h->lock);
    int r = 0;
    while (r == 0 && (h->resyncs < resyncs || h->changes < changes))
        r = pthread_cond_timedwait(&h->news, &h->lock, &until);
    bool ok = h->resyncs >= resyncs && h->changes >= changes && h->strangers == 0;
    (void)pthread_mutex_unlock(&h->lock);
    return ok;
}

#define EVENT(instance, id)                                                               \
    "{\"Type\":\"container\",\"Action\":\"die\",\"Actor\":{\"ID\":\"x\",\"Attributes\":{" \
    "\"sandboxed.instance\":\"" instance "\",\"sandboxed.id\":\"" id "\",\"odd\":\"}\\\"{\"}}}"
#define STREAM \
    EVENT("inst", ULID) "\n" EVENT("other", ULID) " " EVENT("inst", "x") EVENT("inst", ULID)

static void test_events(void)
{
    struct err err;
    struct heard h = { .lock = PTHREAD_MUTEX_INITIALIZER, .news = PTHREAD_COND_INITIALIZER };
    SCRIPT(&fake,
           { "GET /containers/json", ACT_REPLY, 200,
             "[{\"Id\":\"" CID
             "\",\"Labels\":{\"sandboxed.role\":\"seed\",\"sandboxed.boot\":\"old\"}}]" },
           { "DELETE /containers/" CID, ACT_REPLY, 204 },
           { "GET /events", ACT_EVENTS, 200, STREAM, 1, 1 }, /* byte by byte */
           { "GET /events", ACT_BREAK });
    CHECK(docker_events_start(d, on_event, &h, &err) == 0);
    CHECK_ROW("byte by byte", wait_heard(&h, 1, 2));
    CHECK_ROW("an old seed is swept", asked(&fake, "DELETE ") == 1);
    int64_t begin_ms = clock_mono_ms();
    docker_events_stop(d);
    CHECK_ROW("stops promptly", clock_mono_ms() - begin_ms < 5000);
    /* Streams that end, hold garbage or never end their event are dialled anew, each with a RESYNC.
     */
    static char endless[80 * 1024];
    memset(endless, 'a', sizeof endless - 1);
    memcpy(endless, "{\"", 2);
    SCRIPT(&fake, { "GET /containers/json", ACT_REPLY, 200, "[]" },
           { "GET /events", ACT_RAW, .times = 1,
             .body = "HTTP/1.1 200 OK\r\n\r\n" EVENT("inst", ULID) "\n" },
           { "GET /events", ACT_EVENTS, 200, "nonsense", 1, 3 },
           { "GET /events", ACT_EVENTS, 200, "{\"a\":]]]", 1, 3 },
           { "GET /events", ACT_REPLY, 500, "{}", 1 },
           { "GET /events", ACT_EVENTS, 200, endless, 1, 8000 },
           { "GET /events", ACT_EVENTS, 200, STREAM, 0, 7 });
    h.resyncs = h.changes = 0;
    CHECK(docker_events_start(d, on_event, &h, &err) == 0);
    CHECK_ROW("connects again", wait_heard(&h, 5, 3));
    docker_events_stop(d);
    docker_events_stop(d); /* twice is fine */
}

struct many {
    atomic_int failed;
};

static void *hammer(void *arg)
{
    struct many *m = arg;
    struct err err;
    struct runtime_container c;
    for (int i = 0; i < 50; i++)
        if (rt->inspect(rt->self, CID, &c, &err) < 0)
            atomic_fetch_add(&m->failed, 1);
    return NULL;
}

static void test_many(void)
{
    struct many m = { 0 };
    pthread_t threads[8];
    SCRIPT(&fake, { "GET /containers/", ACT_REPLY, 200, INSPECT("inst", "3", "1") });
    for (size_t i = 0; i < 8; i++)
        (void)pthread_create(&threads[i], NULL, hammer, &m);
    for (size_t i = 0; i < 8; i++)
        (void)pthread_join(threads[i], NULL);
    CHECK(atomic_load(&m.failed) == 0);
    /* Who waits for long, on a busy machine, asks on another one whether the Engine lives. */
    CHECK_ROW("connections are kept", fake.accepted <= 8 + asked(&fake, "GET /_ping"));
}

static void test_version(void)
{
    static const struct {
        const char *theirs, *want; /* NULL: refused */
    } rows[] = {
        { "1.41", "1.41" }, { "1.40", "1.40" }, { "1.43", "1.43" }, { "1.51", "1.43" },
        { "1.39", NULL },   { "2.0", NULL },    { "1.", NULL },     { "", NULL },
        { "1.41x", NULL },  { NULL, NULL },
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char got[16] = "";
        struct err err;
        int r = engine_choose_api(rows[i].theirs, got, &err);
        CHECK_ROW(rows[i].theirs, rows[i].want ? r == 0 && str_eq(got, rows[i].want)
                                               : r == -1 && err.code == ERR_ENGINE);
    }
    struct err err;
    struct docker *none;
    struct docker_options o = { .host = "tcp://1.2.3.4", .instance = "inst", .bridge = "b" };
    CHECK_ROW("tcp", docker_new(&o, &none, &err) == -1 && err.code == ERR_INVALID);
    o = (struct docker_options){ .host = "unix:///x", .instance = "a b", .bridge = "b" };
    CHECK_ROW("odd instance", docker_new(&o, &none, &err) == -1 && err.code == ERR_INVALID);
    o = (struct docker_options){ .host = "unix:///x",
                                 .instance = "i",
                                 .bridge = "longer-than-15-b" };
    CHECK_ROW("long bridge", docker_new(&o, &none, &err) == -1 && err.code == ERR_INVALID);
}

int main(void)
{
    struct err err;
    log_set_level(LOG_ERROR);
    char dir[] = "/tmp/docker-engine-XXXXXX";
    if (!mkdtemp(dir))
        return 1;
    (void)snprintf(fake.path, sizeof fake.path, "%s/engine.sock", dir);
    AUTO(buf) struct buf host = BUF_INIT(KIB);
    buf_addf(&host, "unix://%s", fake.path);
    const struct docker_options o = { .host = buf_str(&host),
                                      .instance = "inst",
                                      .bridge = "sbx-unit" };
    test_version();
    fake_start(&fake);
    CHECK(docker_new(&o, &d, &err) == 0);
    rt = docker_runtime(d);
    test_statuses();
    test_replies();
    test_broken();
    test_away();
    test_create();
    test_archive();
    test_events();
    test_many();
    docker_free(d);
    fake_stop(&fake);
    buf_release(&fake.log);
    (void)unlink(fake.path);
    (void)rmdir(dir);
    return check_done();
}
