/* core.h as edge/ sees it, played from memory: one sandbox whose state, ports and wake the test
 * sets. Its app is a listener of the test on 127.0.0.1, reached as through an agent. A test that
 * includes it links edge/ without core/. */
#ifndef SUPPORT_EDGE_CORE_H
#define SUPPORT_EDGE_CORE_H

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/str.h"
#include "core/core.h"
#include "core/share.h"
#include "core/traffic.h"

#define FAKE_ID "01ARZ3NDEKTSV4RRFFQ69G5FAV"
#define FAKE_LOWER "01arz3ndektsv4rrffq69g5fav"
#define FAKE_TOKEN "correct-horse"
#define FAKE_CODE "good-code"
#define FAKE_COOKIE "good-cookie"

/* Rows are never freed while a test runs: a state has a row of its own. */
static struct sandbox fake_rows[SANDBOX_STATE_COUNT];
static atomic_int fake_state = SANDBOX_RUNNING;
static atomic_uint fake_epoch = 1;
static atomic_int fake_visibility = VISIBILITY_PUBLIC;
static atomic_int fake_app_port;  /* of the listener that plays the app; 0: nothing listens */
static atomic_int fake_wake_ms;   /* a wake takes so long; looked at while it does */
static atomic_int fake_wake_fail; /* an enum err_code: wakes fail with it */
static atomic_int fake_wakes, fake_uses, fake_connects, fake_touches;
static atomic_bool fake_ill; /* the app's service is not well */
static atomic_bool fake_share_dead, fake_code_used;

static inline void fake_core_init(void)
{
    struct err err;
    for (int i = 0; i < SANDBOX_STATE_COUNT; i++) {
        struct sandbox *s = &fake_rows[i];
        *s = (struct sandbox){ .tenant = str_dup("t1"),
                               .state = (enum sandbox_state)i,
                               .epoch = 1,
                               .ports = { .items = { 3000 }, .count = 1 },
                               .created_at_ms = 1,
                               .updated_at_ms = 1 };
        if (sandbox_id_parse(FAKE_ID, &s->id, &err) < 0)
            abort();
    }
    fake_rows[SANDBOX_ERROR].error_message = str_dup("no such image <b>");
}
static inline void fake_core_end(void)
{
    for (int i = 0; i < SANDBOX_STATE_COUNT; i++)
        free(fake_rows[i].tenant);
    free(fake_rows[SANDBOX_ERROR].error_message);
}

int core_find(struct core *c, const struct sandbox_id *id, const struct sandbox **ret,
              struct err *err)
{
    (void)c;
    if (!str_eq(id->text, FAKE_ID))
        return err_set(err, ERR_NOT_FOUND, "no sandbox");
    /* A private copy: the edge keeps none beyond the call that asked. */
    struct sandbox *s = mem_new(1, sizeof *s);
    *s = fake_rows[atomic_load(&fake_state)];
    s->epoch = atomic_load(&fake_epoch);
    s->visibility = atomic_load(&fake_visibility);
    *ret = s;
    return 0;
}
void core_unref(const struct sandbox *s)
{
    free((void *)(uintptr_t)s);
}
int core_wake(struct core *c, const struct sandbox_id *id, const struct sandbox **ret,
              struct err *err)
{
    if (atomic_load(&fake_state) != SANDBOX_RUNNING) {
        atomic_fetch_add(&fake_wakes, 1);
        int64_t began_ms = clock_mono_ms();
        while (clock_mono_ms() - began_ms < atomic_load(&fake_wake_ms))
            (void)usleep(1000);
        if (atomic_load(&fake_wake_fail))
            return err_set(err, (enum err_code)atomic_load(&fake_wake_fail), "it <i>fails</i>");
        atomic_fetch_add(&fake_epoch, 1);
        atomic_store(&fake_state, SANDBOX_RUNNING);
    }
    return core_find(c, id, ret, err);
}
int core_address(struct core *c, const struct sandbox *row, char out[46], struct err *err)
{
    (void)c;
    (void)row;
    (void)err;
    (void)str_copy(out, 46, "192.0.2.1");
    return 0;
}
size_t core_ports(struct core *c, const struct sandbox_id *id, struct link_port *out, size_t max)
{
    (void)c;
    (void)id;
    if (max == 0 || !atomic_load(&fake_app_port))
        return 0;
    out[0] = (struct link_port){ .port = 3000, .loopback = true };
    return 1;
}
void core_port_trouble(struct core *c, const struct sandbox_id *id, uint16_t port, char *out,
                       size_t size)
{
    (void)c;
    (void)id;
    (void)port;
    (void)str_copy(out, size, "Its <service> keeps ending.");
}
bool core_agent_there(struct core *c, const struct sandbox_id *id)
{
    (void)c;
    (void)id;
    return true;
}
int core_wait_port(struct core *c, const struct sandbox_id *id, uint16_t port, int64_t deadline_ms,
                   bool *ret_loopback, struct err *err)
{
    (void)c;
    (void)id;
    *ret_loopback = true;
    while (clock_mono_ms() < deadline_ms) {
        if (port == 3000 && atomic_load(&fake_app_port) && !atomic_load(&fake_ill))
            return 0;
        (void)usleep(1000);
    }
    return err_set(err, ERR_TIMEOUT, "nothing listens");
}
bool core_unhealthy(struct core *c, const struct sandbox_id *id, uint16_t port,
                    char why[HEALTH_WHY_MAX])
{
    (void)c;
    (void)id;
    bool ill = port == 3000 && atomic_load(&fake_ill);
    if (ill)
        (void)str_copy(why, HEALTH_WHY_MAX, "service <web>: it answered 500");
    return ill;
}
int core_connect(struct core *c, const struct sandbox_id *id, uint16_t port, int64_t deadline_ms,
                 int *ret_fd, struct err *err)
{
    struct sockaddr_in to = { .sin_family = AF_INET,
                              .sin_port = htons((uint16_t)atomic_load(&fake_app_port)),
                              .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    (void)c;
    (void)id;
    (void)port;
    (void)deadline_ms;
    atomic_fetch_add(&fake_connects, 1);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(fd, (const struct sockaddr *)&to, sizeof to) < 0) {
        (void)close(fd);
        return err_set(err, ERR_UNAVAILABLE, "refused");
    }
    *ret_fd = fd;
    return 0;
}
static struct traffic fake_traffic;
const char *const traffic_labels[TRAFFIC_OUTCOME_COUNT] = {
#define FAKE_LABEL(name, label, meaning) [TRAFFIC_##name] = label,
    TRAFFIC_OUTCOMES(FAKE_LABEL)
#undef FAKE_LABEL
};
struct traffic *core_traffic(struct core *c)
{
    (void)c;
    return &fake_traffic;
}
void core_touch(struct core *c, const struct sandbox_id *id)
{
    (void)c;
    (void)id;
    atomic_fetch_add(&fake_touches, 1);
}
void core_use_begin(struct core *c, const struct sandbox_id *id)
{
    (void)c;
    (void)id;
    atomic_fetch_add(&fake_uses, 1);
}
void core_use_end(struct core *c, const struct sandbox_id *id)
{
    (void)c;
    (void)id;
    atomic_fetch_sub(&fake_uses, 1);
}
enum core_phase core_phase(struct core *c, const struct sandbox_id *id)
{
    (void)c;
    (void)id;
    return PHASE_ENGINE;
}
int core_authenticate(struct core *c, const char *token, const char **ret, struct err *err)
{
    (void)c;
    if (str_eq(token, FAKE_TOKEN))
        *ret = "t1";
    else if (str_eq(token, "other-horse"))
        *ret = "t2";
    else
        return err_set(err, ERR_UNAUTHORIZED, "unknown token");
    return 0;
}

/* --- shares: one code, one cookie --- */

static inline void fake_share_id(struct sandbox_id *ret)
{
    struct err err;
    if (sandbox_id_parse("01ARZ3NDEKTSV4RRFFQ69G5FAW", ret, &err) < 0)
        abort();
}
bool core_share_check(struct core *c, const struct sandbox *row, const char *code,
                      struct sandbox_id *ret)
{
    (void)c;
    (void)row;
    fake_share_id(ret);
    return str_eq(code, FAKE_CODE) && !atomic_load(&fake_share_dead);
}
int core_share_redeem(struct core *c, const struct sandbox *row, uint16_t port, const char *code,
                      char ret_cookie[SHARE_CODE_MAX], int64_t *ret_until_ms, struct err *err)
{
    struct sandbox_id id;
    (void)port;
    if (!core_share_check(c, row, code, &id) || atomic_exchange(&fake_code_used, true))
        return err_set(err, ERR_UNAUTHORIZED, "used");
    (void)str_copy(ret_cookie, SHARE_CODE_MAX, FAKE_COOKIE);
    *ret_until_ms = clock_wall_ms() + 60000;
    return 0;
}
bool core_share_cookie(struct core *c, const struct sandbox *row, uint16_t port, const char *cookie,
                       struct sandbox_id *ret)
{
    (void)c;
    (void)row;
    fake_share_id(ret);
    return port == 3000 && str_eq(cookie, FAKE_COOKIE) && !atomic_load(&fake_share_dead);
}
bool core_share_live(struct core *c, const struct sandbox_id *share)
{
    (void)c;
    (void)share;
    return !atomic_load(&fake_share_dead);
}

#endif
