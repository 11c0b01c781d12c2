/* Owns the kept-open connections to the Engine and the API version agreed with it.
 *
 * Each connection is a libcurl easy handle in a multi handle of its own, used by one thread at a
 * time and put back on a stack afterwards, so that the warmest is taken first. The version is asked
 * for before the first call and again after any sign that the Engine went away.
 *
 * A kept-open connection may have died with the Engine unnoticed: libcurl sends a request again, on
 * a fresh connection, when a reused one ended before the first byte of an answer. That is right for
 * every row below, because each is idempotent: container and network creation by their unique name,
 * the rest by nature (a second start or removal is a success status).
 *
 * Slow is not the same as dead. A start may take its thirty seconds on a busy machine, but a client
 * is to hear within two that the Engine is gone: so whoever hears nothing for ENGINE_PATIENCE_MS
 * asks /_ping on another connection, and gives up only when that is not answered either. For that
 * answer only time counts in which we were running ourselves: after a machine stood still, or had
 * no time for us, the Engine is as late as we are. */
#include "engine.h"

#include <curl/curl.h>
#include <errno.h>
#include <pthread.h>
#include <sys/un.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/mu.h"
#include "base/str.h"
#include "wire/json.h"
#include "wire/url.h"

#define API_MINOR_MIN 40
#define API_MINOR_MAX 43

struct op_row {
    const char *name; /* "Docker Engine could not <name>" */
    const char *method;
    const char *path; /* with a leading '/', each {} an argument */
    int ok[3];
    int deadline_ms;  /* 0: endless */
    const char *noun; /* what a 404 is about */
    bool plain;       /* the path has no version in front */
};

/* clang-format off */
static const struct op_row ops[OP_COUNT] = {
    [OP_PING]    = { "answer", "GET", "/_ping", { 200 }, ENGINE_PING_MS, "engine", .plain = true },
    [OP_VERSION] = { "tell its version", "GET", "/version", { 200 }, 1500, "engine", .plain = true },
    [OP_INFO]    = { "describe itself", "GET", "/info", { 200 }, 10000, "engine" },
    [OP_EVENTS]  = { "report events", "GET", "/events?since={}&filters={}", { 200 }, 0, "engine" },

    [OP_IMAGE]       = { "look at the image", "GET",
                         "/images/{}/json", { 200 }, 10000, "image" },
    [OP_CREATE_SEED] = { "create a container of the image", "POST",
                         "/containers/create", { 201 }, 30000, "image" },
    [OP_ARCHIVE]     = { "read from the image", "GET",
                         "/containers/{}/archive?path={}", { 200 }, 120000, "path" },

    [OP_CREATE]       = { "create the container", "POST",
                          "/containers/create?name={}", { 201 }, 30000, "image" },
    [OP_START]        = { "start the container", "POST",
                          "/containers/{}/start", { 204, 304 }, 30000, "container" },
    [OP_STOP]         = { "stop the container", "POST",
                          "/containers/{}/stop?t={}", { 204, 304, 404 }, 10000, "container" },
    [OP_REMOVE]       = { "remove the container", "DELETE",
                          "/containers/{}?force=1&v=1", { 204, 404 }, 30000, "container" },
    [OP_WAIT_REMOVED] = { "finish the removal", "POST",
                          "/containers/{}/wait?condition=removed", { 200, 404 }, 30000, "container" },
    [OP_PAUSE]        = { "freeze the container", "POST",
                          "/containers/{}/pause", { 204 }, 10000, "container" },
    [OP_UNPAUSE]      = { "thaw the container", "POST",
                          "/containers/{}/unpause", { 204 }, 10000, "container" },
    [OP_RENAME]       = { "rename the container", "POST",
                          "/containers/{}/rename?name={}", { 204 }, 10000, "container" },
    [OP_INSPECT]      = { "look at the container", "GET",
                          "/containers/{}/json", { 200 }, 10000, "container" },
    [OP_LIST]         = { "list the containers", "GET",
                          "/containers/json?all=1&filters={}", { 200 }, 20000, "container" },

    [OP_NETWORK]        = { "look at the network", "GET",
                            "/networks/{}", { 200 }, 10000, "network" },
    [OP_NETWORK_CREATE] = { "create the network", "POST",
                            "/networks/create", { 201 }, 15000, "network" },
};
/* clang-format on */

struct conn {
    CURL *easy;
    CURLM *multi;
    bool used; /* it was connected before, so having to dial means that the Engine went away */
    struct conn *next;
};

struct engine {
    char path[sizeof(((struct sockaddr_un *)0)->sun_path)];
    struct curl_slist *headers; /* read only after engine_new */
    atomic_uint generation;
    struct mu mu;
    struct conn *idle GUARDED_BY(mu);
    size_t n_idle GUARDED_BY(mu);
    char api[16] GUARDED_BY(mu); /* empty: to be asked */
    char version[32] GUARDED_BY(mu);
};

static void curl_once(void)
{
    /* Never undone: other rooms and threads may use libcurl until the process ends. */
    if (curl_global_init(CURL_GLOBAL_NOTHING) != 0)
        abort();
}

int engine_new(const char *host, struct engine **ret, struct err *err)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    (void)pthread_once(&once, curl_once); /* cannot fail with a valid once */
    static const char scheme[] = "unix://";
    if (!str_starts(host, scheme) || host[sizeof scheme - 1] != '/') {
        (void)err_set(err, ERR_INVALID, "DOCKER_HOST: only unix:///path is understood");
        return err_remedy(err, "Give the Engine's socket, as in unix:///var/run/docker.sock.");
    }
    struct engine *e = mem_new(1, sizeof *e);
    if (!str_copy(e->path, sizeof e->path, host + sizeof scheme - 1)) {
        free(e);
        return err_set(err, ERR_INVALID, "DOCKER_HOST: the socket's path is longer than %zu bytes",
                       sizeof e->path - 1);
    }
    e->headers = curl_slist_append(NULL, "Content-Type: application/json");
    if (!e->headers)
        abort();
    mu_init(&e->mu, MU_DOCKER);
    *ret = e;
    return 0;
}

void engine_free(struct engine *e)
{
    if (!e)
        return;
    mu_lock(&e->mu);
    struct conn *c = e->idle;
    e->idle = NULL;
    mu_unlock(&e->mu);
    while (c) {
        struct conn *next = c->next;
        conn_free(c);
        c = next;
    }
    curl_slist_free_all(e->headers);
    mu_release(&e->mu);
    free(e);
}

/* --- connections --- */

struct conn *conn_new(void)
{
    struct conn *c = mem_new(1, sizeof *c);
    c->easy = curl_easy_init();
    c->multi = curl_multi_init();
    if (!c->easy || !c->multi)
        abort();
    return c;
}

void conn_free(struct conn *c)
{
    if (!c)
        return;
    curl_easy_cleanup(c->easy);
    (void)curl_multi_cleanup(c->multi); /* fails only for handles still added; there are none */
    free(c);
}

void conn_sleep(struct conn *c, int ms)
{
    (void)curl_multi_poll(c->multi, NULL, 0, ms, NULL); /* woken early for any reason: fine */
}

void conn_wake(struct conn *c)
{
    (void)curl_multi_wakeup(c->multi); /* fails only when already woken up more than enough */
}

static struct conn *conn_take(struct engine *e)
{
    mu_lock(&e->mu);
    struct conn *c = e->idle;
    if (c) {
        e->idle = c->next;
        e->n_idle--;
    }
    mu_unlock(&e->mu);
    return c ? c : conn_new();
}

static void conn_put(struct engine *e, struct conn *c)
{
    mu_lock(&e->mu);
    if (e->n_idle < ENGINE_HANDLES_MAX) {
        c->next = e->idle;
        e->idle = c;
        e->n_idle++;
        c = NULL;
    }
    mu_unlock(&e->mu);
    conn_free(c);
}

unsigned engine_generation(struct engine *e)
{
    return atomic_load(&e->generation);
}

/* --- API version --- */

int engine_choose_api(const char *theirs, char ret[16], struct err *err)
{
    uint64_t minor;
    if (!theirs || !str_starts(theirs, "1.") || !str_u64(theirs + 2, &minor))
        return err_set(err, ERR_ENGINE, "Docker Engine tells no API version that we understand");
    if (minor < API_MINOR_MIN) {
        (void)err_set(err, ERR_ENGINE, "Docker Engine speaks API 1.%u, we need 1.%d or newer",
                      (unsigned)minor, API_MINOR_MIN);
        return err_remedy(err, "Install Docker Engine 19.03 or newer.");
    }
    (void)snprintf(ret, 16, "1.%u", minor < API_MINOR_MAX ? (unsigned)minor : API_MINOR_MAX);
    return 0;
}

/* Something broke: the next call asks for the version again. */
static void engine_forget(struct engine *e)
{
    atomic_fetch_add(&e->generation, 1);
    mu_lock(&e->mu);
    e->api[0] = 0;
    mu_unlock(&e->mu);
}

/* Two threads may both ask at the beginning; they learn the same. */
static int engine_agree(struct engine *e, char api[16], char version[32], struct err *err)
{
    mu_lock(&e->mu);
    (void)str_copy(api, 16, e->api); /* same sizes */
    (void)str_copy(version, 32, e->version);
    mu_unlock(&e->mu);
    if (api[0])
        return 0;
    AUTO(reply) struct reply reply = REPLY_INIT;
    AUTO(json) struct json *j = NULL;
    if (engine_call(e, &(struct call){ .op = OP_VERSION }, &reply, err) < 0)
        return -1;
    if (json_parse(buf_str(&reply.body), reply.body.len, &j, err) < 0) {
        err->code = ERR_ENGINE;
        return err_wrap(err, "Docker Engine's version");
    }
    if (engine_choose_api(json_text(json_key(j, "ApiVersion")), api, err) < 0)
        return -1;
    if (!str_copy(version, 32, json_text(json_key(j, "Version"))))
        (void)str_copy(version, 32, "odd"); /* only shown to people */
    mu_lock(&e->mu);
    (void)str_copy(e->api, sizeof e->api, api);
    (void)str_copy(e->version, sizeof e->version, version);
    mu_unlock(&e->mu);
    return 0;
}

int engine_ping(struct engine *e, char version[32], struct err *err)
{
    AUTO(reply) struct reply reply = REPLY_INIT;
    char api[16];
    if (engine_call(e, &(struct call){ .op = OP_PING }, &reply, err) < 0)
        return -1;
    return engine_agree(e, api, version, err);
}

/* --- one call --- */

struct transfer {
    const struct call *call;
    const struct op_row *op;
    struct conn *conn;
    struct reply *reply;
    struct err *err;
    bool sink_failed;
    curl_off_t seen; /* of the answer, when it was last looked at */
};

static bool op_succeeds(const struct op_row *op, long status)
{
    for (size_t i = 0; i < sizeof op->ok / sizeof op->ok[0]; i++)
        if (op->ok[i] != 0 && op->ok[i] == status)
            return true;
    return false;
}

static bool transfer_ok(const struct transfer *t)
{
    long status = 0;
    (void)curl_easy_getinfo(t->conn->easy, CURLINFO_RESPONSE_CODE,
                            &status); /* 0 stays on failure */
    return op_succeeds(t->op, status);
}

static size_t on_body(char *data, size_t size, size_t count, void *ctx)
{
    struct transfer *t = ctx;
    size_t len = size * count;
    if (t->call->sink && transfer_ok(t)) {
        if (t->call->sink(t->call->ctx, data, len, t->err) == 0)
            return len;
        t->sink_failed = true;
        return 0;
    }
    buf_add(&t->reply->body, data, len);
    return t->reply->body.failed ? 0 : len;
}

/* NOLINTNEXTLINE(readability-non-const-parameter): the type is libcurl's */
static size_t on_header(char *data, size_t size, size_t count, void *ctx)
{
    const struct transfer *t = ctx;
    size_t len = size * count;
    if (len == 2 && data[0] == '\r' && transfer_ok(t)) /* the empty line after the headers */
        t->call->opened(t->call->ctx);
    return len;
}

static int call_url(const struct call *c, const char *api, char **ret, struct err *err)
{
    AUTO(buf) struct buf url = BUF_INIT(ENGINE_URL_MAX);
    const struct op_row *op = &ops[c->op];
    buf_adds(&url, "http://docker");
    if (!op->plain)
        buf_addf(&url, "/v%s", api);
    size_t arg = 0;
    for (const char *at = op->path; *at; at++) {
        if (at[0] == '{' && at[1] == '}') {
            const char *text = c->args[arg++];
            /* Encoded or not, the Engine would tidy these away and take the path for another one.
             */
            if (!text || !text[0] || str_eq(text, ".") || str_eq(text, ".."))
                return err_set(err, ERR_NOT_FOUND, "\"%s\" is no name of a %s", text ? text : "",
                               op->noun);
            url_encode(&url, text);
            at++;
        } else {
            buf_addc(&url, *at);
        }
    }
    if (buf_done(&url, err) < 0)
        return err_wrap(err, "request to Docker Engine");
    *ret = buf_take(&url);
    return 0;
}

static void call_setup(struct engine *e, struct transfer *t, const char *url)
{
    CURL *h = t->conn->easy;
    curl_easy_reset(h); /* keeps the connection */
    /* Each of these can fail only for want of memory or a libcurl without the feature; both show as
     * a failed transfer, so the single results are of no use. */
    (void)curl_easy_setopt(h, CURLOPT_UNIX_SOCKET_PATH, e->path);
    (void)curl_easy_setopt(h, CURLOPT_URL, url);
    (void)curl_easy_setopt(h, CURLOPT_PROTOCOLS_STR, "http");
    (void)curl_easy_setopt(h, CURLOPT_PROXY, "");
    (void)curl_easy_setopt(h, CURLOPT_NOSIGNAL, 1L);
    (void)curl_easy_setopt(h, CURLOPT_CONNECTTIMEOUT_MS, (long)ENGINE_CONNECT_MS);
    (void)curl_easy_setopt(h, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    (void)curl_easy_setopt(h, CURLOPT_HTTPHEADER, e->headers);
    (void)curl_easy_setopt(h, CURLOPT_WRITEFUNCTION, on_body);
    (void)curl_easy_setopt(h, CURLOPT_WRITEDATA, t);
    if (t->call->opened) {
        (void)curl_easy_setopt(h, CURLOPT_HEADERFUNCTION, on_header);
        (void)curl_easy_setopt(h, CURLOPT_HEADERDATA, t);
    }
    if (str_eq(t->op->method, "POST")) {
        const char *body = t->call->body ? t->call->body : "";
        (void)curl_easy_setopt(h, CURLOPT_POSTFIELDS, body);
        (void)curl_easy_setopt(h, CURLOPT_POSTFIELDSIZE, (long)strlen(body));
    } else if (!str_eq(t->op->method, "GET")) {
        (void)curl_easy_setopt(h, CURLOPT_CUSTOMREQUEST, t->op->method);
    }
}

/* How a transfer ended, where libcurl has no word for it. */
enum ending { END_CURL, END_DEADLINE, END_SILENT, END_CANCELLED };

static bool engine_alive(struct engine *e)
{
    AUTO(reply) struct reply reply = REPLY_INIT;
    struct err ignored; /* what matters to the caller is only that nobody is there */
    return engine_call(e, &(struct call){ .op = OP_PING }, &reply, &ignored) == 0;
}

static int64_t min64(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* Has more of the answer come since this was asked? */
static bool came_on(struct transfer *t)
{
    curl_off_t now = 0;
    (void)curl_easy_getinfo(t->conn->easy, CURLINFO_SIZE_DOWNLOAD_T, &now); /* 0 stays: none */
    bool more = now > t->seen;
    t->seen = now;
    return more;
}

static enum ending transfer_run(struct engine *e, struct transfer *t, CURLcode *ret_code)
{
    const int64_t begin_ms = clock_mono_ms();
    const bool endless = t->op->deadline_ms == 0;
    int64_t deadline_ms =
        endless ? INT64_MAX : begin_ms + t->op->deadline_ms + (int64_t)t->call->extra_ms;
    /* /_ping and /version are short enough to be their own question. */
    const bool plain = t->op->plain;
    int64_t ask_ms = endless || plain ? INT64_MAX : begin_ms + ENGINE_PATIENCE_MS;
    int64_t spare_ms = ENGINE_STANDSTILL_MS, due_ms = begin_ms;
    CURLM *multi = t->conn->multi;
    enum ending ending = END_CURL;
    *ret_code = CURLE_FAILED_INIT;
    if (curl_multi_add_handle(multi, t->conn->easy) != CURLM_OK)
        return ending;
    for (;;) {
        int running = 0, left = 0;
        if (curl_multi_perform(multi, &running) != CURLM_OK)
            break;
        const CURLMsg *msg = curl_multi_info_read(multi, &left);
        if (msg) {
            *ret_code = msg->data.result;
            break;
        }
        if (t->call->cancel && atomic_load(t->call->cancel)) {
            ending = END_CANCELLED;
            break;
        }
        int64_t now_ms = clock_mono_ms(), late_ms = min64(now_ms - due_ms, spare_ms);
        if (plain && late_ms >= ENGINE_STEP_MS) {
            deadline_ms += late_ms;
            spare_ms -= late_ms;
        }
        if (now_ms >= ask_ms) {
            if (!came_on(t) && !engine_alive(e)) {
                ending = END_SILENT;
                break;
            }
            ask_ms = clock_mono_ms() + ENGINE_PATIENCE_MS;
        }
        if (now_ms >= deadline_ms) {
            ending = END_DEADLINE;
            break;
        }
        int wait_ms = clock_left_ms(min64(ask_ms, deadline_ms));
        if (plain && wait_ms > ENGINE_STEP_MS)
            wait_ms = ENGINE_STEP_MS;
        due_ms = now_ms + wait_ms;
        /* What wakes it too early goes round once more. */
        (void)curl_multi_poll(multi, NULL, 0, wait_ms, NULL);
    }
    /* Taking out an unfinished transfer closes its connection. */
    (void)curl_multi_remove_handle(multi, t->conn->easy);
    return ending;
}

static int engine_away(const struct engine *e, int sys, const char *cause, struct err *err)
{
    (void)err_set(err, ERR_ENGINE, "Docker Engine does not answer on %s: %s", e->path, cause);
    err->sys = sys;
    return err_remedy(err, "%s",
                      sys == EACCES || sys == EPERM
                          ? "Run sandboxd as a user who may open the Engine's socket."
                          : "Start the Docker Engine, or set DOCKER_HOST to its socket.");
}

/* Turns what libcurl says into an err; 0 when an answer came as a whole. */
static int transfer_end(struct engine *e, struct transfer *t, enum ending ending, CURLcode code,
                        struct err *err)
{
    if (ending == END_CANCELLED)
        return err_set(err, ERR_CANCELLED, "call to Docker Engine was cancelled");
    if (ending == END_CURL && code == CURLE_OK)
        return 0;
    if (t->sink_failed)
        return -1; /* err is the sink's */
    if (code == CURLE_WRITE_ERROR && t->reply->body.failed)
        return err_set(err, ERR_ENGINE, "Docker Engine's answer is longer than %u MiB",
                       JSON_ENGINE_MAX / MIB);
    engine_forget(e);
    if (ending == END_SILENT || (ending == END_DEADLINE && t->op->plain))
        return engine_away(e, ETIMEDOUT, "no reply in time", err);
    if (ending == END_DEADLINE)
        return err_set(err, ERR_TIMEOUT, "Docker Engine did not %s in time", t->op->name);
    long sys = 0;
    (void)curl_easy_getinfo(t->conn->easy, CURLINFO_OS_ERRNO, &sys); /* 0 stays: unknown */
    const char *text = sys ? strerrordesc_np((int)sys) : NULL;
    if (code == CURLE_COULDNT_CONNECT)
        return engine_away(e, (int)sys, text ? text : "cannot connect", err);
    return engine_away(e, (int)sys, "the connection broke before the answer was whole", err);
}

/* The Engine's words go to the log; the client gets ours. */
static int engine_refused(const struct op_row *op, const struct reply *reply, struct err *err)
{
    AUTO(json) struct json *j = NULL;
    struct err ignored; /* an answer that is no JSON has no message */
    const char *text = NULL;
    if (json_parse(buf_str(&reply->body), reply->body.len, &j, &ignored) == 0)
        text = json_text(json_key(j, "message"));
    AUTO(free) char *line = str_ndup(text ? text : "", text ? strnlen(text, ENGINE_TEXT_MAX) : 0);
    if (reply->status == 404 || reply->status == 409)
        log_debug("engine.refused", KV_STR("call", op->name), KV_INT("status", reply->status),
                  KV_STR("text", line));
    else
        log_warn("engine.refused", KV_STR("call", op->name), KV_INT("status", reply->status),
                 KV_STR("text", line));
    if (reply->status == 404)
        return err_set(err, ERR_NOT_FOUND, "Docker Engine knows no such %s", op->noun);
    if (reply->status == 409)
        return err_set(err, ERR_CONFLICT, "Docker Engine could not %s: conflict", op->name);
    return err_set(err, ERR_ENGINE, "Docker Engine could not %s (status %d)", op->name,
                   reply->status);
}

int engine_call_on(struct engine *e, struct conn *conn, const struct call *c, struct reply *ret,
                   struct err *err)
{
    const struct op_row *op = &ops[c->op];
    char api[16] = "", version[32];
    AUTO(free) char *url = NULL;
    buf_reset(&ret->body);
    ret->status = 0;
    if (!op->plain && engine_agree(e, api, version, err) < 0)
        return -1;
    if (call_url(c, api, &url, err) < 0)
        return -1;
    struct transfer t = { .call = c, .op = op, .conn = conn, .reply = ret, .err = err };
    CURLcode code;
    call_setup(e, &t, url);
    enum ending ending = transfer_run(e, &t, &code);
    if (transfer_end(e, &t, ending, code, err) < 0)
        return -1;
    long status = 0, dialled = 0;
    (void)curl_easy_getinfo(conn->easy, CURLINFO_RESPONSE_CODE, &status); /* both known after OK */
    (void)curl_easy_getinfo(conn->easy, CURLINFO_NUM_CONNECTS, &dialled);
    ret->status = (int)status;
    if (conn->used && dialled > 0)
        engine_forget(e); /* it restarted, and may be another version now */
    conn->used = true;
    return op_succeeds(op, status) ? 0 : engine_refused(op, ret, err);
}

int engine_call(struct engine *e, const struct call *c, struct reply *ret, struct err *err)
{
    struct conn *conn = conn_take(e);
    int r = engine_call_on(e, conn, c, ret, err);
    conn_put(e, conn);
    return r;
}
