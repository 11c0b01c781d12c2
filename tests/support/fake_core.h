/* core.h played from memory: one sandbox, commands that are verbs of the test. A test that includes
 * it links api/ without core/. */
#ifndef SUPPORT_FAKE_CORE_H
#define SUPPORT_FAKE_CORE_H

#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <fcntl.h>

#include "base/clock.h"
#include "base/str.h"
#include "core/core.h"
#include "core/service.h"
#include "core/share.h"
#include "core/traffic.h"

#define FAKE_ID "01ARZ3NDEKTSV4RRFFQ69G5FAV"
#define FAKE_OTHER "01ARZ3NDEKTSV4RRFFQ69G5FAW"
#define FAKE_TOKEN "correct-horse"

static struct sandbox fake_sandbox;
static char fake_home[] = "/tmp/api-test-XXXXXX";
static atomic_int fake_running;   /* commands under way */
static atomic_int fake_gone;      /* commands ended because their client left */
static atomic_int fake_hold;      /* "hold" waits for it to become 0 */
static atomic_llong fake_written; /* bytes that "flood" got rid of */
static char *fake_idem_body;

static inline void fake_core_init(void)
{
    struct err err;
    fake_sandbox = (struct sandbox){
        .tenant = str_dup("t1"),
        .state = SANDBOX_RUNNING,
        .image = str_dup("image:1"),
        .limits = { .memory_mib = 512, .cpu_milli = 1500, .pids = 100, .disk_mib = 1024 },
        .ports = { .items = { 3000 }, .count = 1 },
        .created_at_ms = 1764430000042,
        .updated_at_ms = 1764430000042,
    };
    strmap_add(&fake_sandbox.env, "KEY", "never-shown");
    strmap_add(&fake_sandbox.metadata, "a", "b");
    if (sandbox_id_parse(FAKE_ID, &fake_sandbox.id, &err) < 0 || !mkdtemp(fake_home))
        abort();
}

int core_authenticate(struct core *c, const char *token, const char **ret, struct err *err)
{
    (void)c;
    if (!str_eq(token, FAKE_TOKEN))
        return err_set(err, ERR_UNAUTHORIZED, "unknown token");
    *ret = "t1";
    return 0;
}
int core_get(struct core *c, const struct caller *who, const struct sandbox_id *id,
             const struct sandbox **ret, struct err *err)
{
    (void)c;
    (void)who;
    if (!sandbox_id_eq(id, &fake_sandbox.id))
        return err_set(err, ERR_NOT_FOUND, "no such sandbox");
    *ret = &fake_sandbox;
    return 0;
}
void core_unref(const struct sandbox *s)
{
    (void)s;
}
int core_list(struct core *c, const struct caller *who, const struct core_filter *f,
              const struct sandbox ***ret, size_t *n, bool *more, struct err *err)
{
    (void)c;
    (void)who;
    (void)err;
    *n = f->limit ? (f->limit < 3 ? f->limit : 3) : 1;
    *more = f->limit == 1;
    *ret = malloc(*n * sizeof(**ret));
    for (size_t i = 0; i < *n; i++)
        (*ret)[i] = &fake_sandbox;
    return 0;
}
void core_count(struct core *c, uint32_t ret[SANDBOX_STATE_COUNT])
{
    (void)c;
    ret[SANDBOX_RUNNING] = 1;
}
int core_create(struct core *c, const struct caller *who, const struct core_create *req,
                const struct sandbox **ret, char **ret_replay, int *ret_status, struct err *err)
{
    if (req->idem_key && fake_idem_body) {
        *ret_replay = str_dup(fake_idem_body);
        *ret_status = 201;
        return 0;
    }
    *ret_status = 201;
    return core_get(c, who, &fake_sandbox.id, ret, err);
}
int core_create_replied(struct core *c, const struct caller *who, const char *key, int status,
                        const char *body, struct err *err)
{
    (void)c;
    (void)who;
    (void)key;
    (void)status;
    (void)err;
    fake_idem_body = str_dup(body);
    return 0;
}
int core_start(struct core *c, const struct caller *who, const struct sandbox_id *id,
               const struct sandbox **ret, struct err *err)
{
    return core_get(c, who, id, ret, err);
}
int core_stop(struct core *c, const struct caller *who, const struct sandbox_id *id,
              const struct sandbox **ret, struct err *err)
{
    return core_get(c, who, id, ret, err);
}
int core_pause(struct core *c, const struct caller *who, const struct sandbox_id *id,
               const struct sandbox **ret, struct err *err)
{
    return core_get(c, who, id, ret, err);
}
int core_why(struct core *c, const struct caller *who, const struct sandbox_id *id,
             struct core_why *ret, struct err *err)
{
    const struct sandbox *s;
    *ret = (struct core_why){ .sleeps_in_ms = -1 };
    return core_get(c, who, id, &s, err);
}
int core_delete(struct core *c, const struct caller *who, const struct sandbox_id *id,
                struct err *err)
{
    const struct sandbox *s;
    return core_get(c, who, id, &s, err);
}
int core_purge(struct core *c, const struct caller *who, const struct sandbox_id *id,
               uint64_t *freed, struct err *err)
{
    const struct sandbox *s;
    *freed = 4096;
    return core_get(c, who, id, &s, err);
}
int core_keepalive(struct core *c, const struct caller *who, const struct sandbox_id *id,
                   int64_t until_ms, int64_t *ret, struct err *err)
{
    const struct sandbox *s;
    *ret = until_ms ? until_ms : 1764433600000;
    return core_get(c, who, id, &s, err);
}

static inline bool fake_client_left(const struct exec_sink *sink)
{
    return sink->gone && sink->gone(sink->ctx);
}

/* Waits for the client to leave, or for fake_hold to become 0. */
static inline int fake_wait(const struct exec_sink *sink, struct err *err)
{
    int fd = sink->gone_fd;
    while (atomic_load(&fake_hold)) {
        struct pollfd p = { .fd = fd, .events = POLLRDHUP };
        int n = poll(&p, 1, 20);
        if (n > 0 && p.revents)
            fd = -1; /* stays readable */
        if (fake_client_left(sink)) {
            atomic_fetch_add(&fake_gone, 1);
            return err_set(err, ERR_CANCELLED, "the client went away");
        }
    }
    return 0;
}

static inline int fake_flood(const struct exec_sink *sink, const char *mib, struct exec_result *ret,
                             struct err *err)
{
    static char block[64 * 1024];
    memset(block, 'x', sizeof(block));
    long long left = strtoll(mib, NULL, 10) * 16;
    for (; left > 0; left--) {
        if (sink->write(sink->ctx, EXEC_STDOUT, block, sizeof(block)) < 0) {
            atomic_fetch_add(&fake_gone, 1);
            return err_set(err, ERR_CANCELLED, "the client went away");
        }
        ret->bytes[0] += sizeof(block);
        atomic_fetch_add(&fake_written, (long long)sizeof(block));
    }
    return 0;
}

int core_exec(struct core *c, const struct caller *who, const struct sandbox_id *id,
              const struct core_exec *req, const struct exec_sink *sink, struct exec_result *ret,
              struct err *err)
{
    const struct sandbox *s;
    const char *verb = req->argv->items[0];
    const char *arg = req->argv->count > 1 ? req->argv->items[1] : "";
    if (core_get(c, who, id, &s, err) < 0)
        return -1;
    *ret = (struct exec_result){ .pid = 42 };
    if (str_eq(verb, "refuse"))
        return err_set(err, ERR_INVALID, "cwd: no such directory");
    atomic_fetch_add(&fake_running, 1);
    int rc = sink->started(sink->ctx, 42);
    if (rc == 0 && str_eq(verb, "echo")) {
        rc = sink->write(sink->ctx, EXEC_STDOUT, arg, strlen(arg));
        ret->bytes[0] = strlen(arg);
    } else if (rc == 0 && str_eq(verb, "bytes")) { /* one character in two pieces, then no text */
        (void)sink->write(sink->ctx, EXEC_STDOUT, "a\xe2\x82", 3);
        (void)sink->write(sink->ctx, EXEC_STDOUT, "\xac", 1);
        (void)sink->write(sink->ctx, EXEC_STDERR, "\xff\x00", 2);
        rc = sink->write(sink->ctx, EXEC_STDOUT, "\xe2", 1);
        ret->bytes[0] = 5;
        ret->bytes[1] = 2;
        ret->signal = 9;
        ret->code = 137;
    } else if (rc == 0 && str_eq(verb, "hold")) {
        rc = fake_wait(sink, err);
    } else if (rc == 0 && str_eq(verb, "say-hold")) {
        (void)sink->write(sink->ctx, EXEC_STDOUT, "hi\n", 3);
        rc = fake_wait(sink, err);
    } else if (rc == 0 && str_eq(verb, "flood")) {
        rc = fake_flood(sink, arg, ret, err);
    } else if (rc == 0 && str_eq(verb, "break")) {
        rc = err_set(err, ERR_UNAVAILABLE, "the agent went away");
    }
    atomic_fetch_sub(&fake_running, 1);
    return rc;
}
struct traffic *core_traffic(struct core *c)
{
    static struct traffic none;
    (void)c;
    return &none;
}
size_t core_service_briefs(struct core *c, const struct sandbox *s,
                           struct service_brief out[SERVICES_MAX])
{
    (void)c;
    (void)s;
    (void)out;
    return 0;
}
uint32_t core_execs_running(struct core *c)
{
    (void)c;
    return (uint32_t)atomic_load(&fake_running);
}
int core_files_open(struct core *c, const struct caller *who, const struct sandbox_id *id,
                    bool write, int *ret, struct err *err)
{
    const struct sandbox *s;
    (void)write;
    if (core_get(c, who, id, &s, err) < 0)
        return -1;
    *ret = open(fake_home, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return *ret < 0 ? err_set(err, ERR_INTERNAL, "no workspace") : 0;
}
void core_files_touched(struct core *c, const struct sandbox_id *id)
{
    (void)c;
    (void)id;
}
size_t core_ports(struct core *c, const struct sandbox_id *id, struct link_port *out, size_t max)
{
    (void)c;
    (void)id;
    (void)out;
    (void)max;
    return 0;
}

void core_disk(struct core *c, const struct sandbox *s, struct volume_usage *ret)
{
    (void)c;
    (void)s;
    *ret = (struct volume_usage){ .enforced = "none" };
}
int core_live_state(struct core *c, const struct sandbox *s, char **ret, struct err *err)
{
    (void)c;
    (void)s;
    (void)err;
    *ret = str_dup("{\"Id\":\"abc\",\"State\":{\"Status\":\"running\",\"Running\":true,\"Pid\":7},"
                   "\"Config\":{\"Image\":\"i\",\"Env\":[\"SECRET=never-shown\"],"
                   "\"Labels\":{\"a.b\":\"c\"}},\"NetworkSettings\":{\"Networks\":"
                   "{\"n\":{\"IPAddress\":\"10.0.0.2\",\"MacAddress\":\"x\"}}}}");
    return 0;
}
int core_set_visibility(struct core *c, const struct caller *who, const struct sandbox_id *id,
                        enum sandbox_visibility visibility, const struct sandbox **ret,
                        struct err *err)
{
    fake_sandbox.visibility = (int)visibility;
    return core_get(c, who, id, ret, err);
}
int core_share_create(struct core *c, const struct caller *who, const struct sandbox_id *id,
                      int64_t ttl_s, bool once, struct core_share *ret,
                      char ret_code[SHARE_CODE_MAX], struct err *err)
{
    const struct sandbox *s;
    *ret = (struct core_share){ .id = *id,
                                .sandbox = *id,
                                .created_at_ms = 1000,
                                .expires_at_ms = 1000 + ttl_s * 1000,
                                .once = once };
    (void)str_copy(ret_code, SHARE_CODE_MAX, "the-code");
    return core_get(c, who, id, &s, err);
}
int core_share_list(struct core *c, const struct caller *who, const struct sandbox_id *id,
                    struct core_share **ret, size_t *n, struct err *err)
{
    const struct sandbox *s;
    *n = 0;
    *ret = NULL;
    return core_get(c, who, id, &s, err);
}
int core_share_revoke(struct core *c, const struct caller *who, const struct sandbox_id *id,
                      const struct sandbox_id *share, struct err *err)
{
    const struct sandbox *s;
    (void)share;
    return core_get(c, who, id, &s, err);
}
int core_ready(struct core *c, struct err *err)
{
    (void)c;
    return err_set(err, ERR_ENGINE, "the engine does not answer");
}

#endif
