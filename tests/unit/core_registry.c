/* The table of rows: order, snapshots that stay, ownership and waiting, alone and by many threads.
 */
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/limits.h"
#include "base/str.h"
#include "check.h"
#include "registry.h"

static struct err err;

static struct sandbox *row_of(const char *tenant, int64_t created_at_ms)
{
    struct sandbox *s = mem_new(1, sizeof *s);
    sandbox_id_new(&s->id);
    s->tenant = str_dup(tenant);
    s->state = SANDBOX_STOPPED;
    s->created_at_ms = created_at_ms;
    return s;
}

static struct sandbox_id add(struct registry *r, const char *tenant, int64_t created_at_ms)
{
    struct sandbox *s = row_of(tenant, created_at_ms);
    struct sandbox_id id = s->id;
    registry_add(r, s, false);
    return id;
}

static void to_state(struct sandbox *row, void *ctx)
{
    row->state = *(const enum sandbox_state *)ctx;
}

static void move(struct registry *r, const struct sandbox_id *id, enum sandbox_state state)
{
    CHECK(registry_update(r, id, to_state, &state));
}

static size_t list(struct registry *r, const char *tenant, const struct core_filter *f,
                   int64_t *ret_first, bool *ret_more)
{
    const struct sandbox **rows;
    size_t n;
    registry_list(r, tenant, f, &rows, &n, ret_more);
    *ret_first = n ? rows[0]->created_at_ms : 0;
    for (size_t i = 0; i < n; i++) {
        CHECK(i == 0 || rows[i - 1]->created_at_ms >= rows[i]->created_at_ms);
        core_unref(rows[i]);
    }
    free(rows);
    return n;
}

static void check_order(void)
{
    struct registry *r = registry_new();
    struct core_filter f = { .state = -1, .limit = 10 };
    struct sandbox_id ids[100];
    int64_t first;
    bool more;
    for (int i = 0; i < 100; i++)
        ids[i] = add(r, i % 2 ? "a" : "b", 1000 + (i * 37) % 100);
    CHECK(list(r, NULL, &f, &first, &more) == 10 && more && first == 1099);
    CHECK(list(r, "a", &f, &first, &more) == 10 && more);
    CHECK(list(r, "c", &f, &first, &more) == 0 && !more);
    f = (struct core_filter){ .state = -1, .before_ms = 1050, .before_id = ids[0] };
    CHECK(list(r, NULL, &f, &first, &more) >= 50 && first <= 1050);
    f = (struct core_filter){ .state = SANDBOX_RUNNING };
    CHECK(list(r, NULL, &f, &first, &more) == 0);
    move(r, &ids[3], SANDBOX_RUNNING);
    CHECK(list(r, NULL, &f, &first, &more) == 1);
    uint32_t counts[SANDBOX_STATE_COUNT];
    registry_count(r, counts);
    CHECK(counts[SANDBOX_RUNNING] == 1 && counts[SANDBOX_STOPPED] == 99);
    /* Only a row in DELETING can go. */
    registry_remove(r, &ids[3]);
    const struct sandbox *s = registry_get(r, &ids[3]);
    CHECK(s != NULL);
    move(r, &ids[3], SANDBOX_DELETING);
    registry_remove(r, &ids[3]);
    CHECK(registry_get(r, &ids[3]) == NULL);
    CHECK(s->state == SANDBOX_RUNNING); /* a snapshot stays as it was */
    core_unref(s);
    registry_free(r);
}

static void check_owners(void)
{
    struct registry *r = registry_new();
    struct sandbox_id id = add(r, "a", 1);
    move(r, &id, SANDBOX_STARTING); /* who moves it owns it, from the first moment on */
    CHECK(registry_take(r, &id, SANDBOX_STARTING) == NULL);
    registry_disown(r, &id); /* what a failure to write leaves behind */
    const struct sandbox *s = registry_take(r, &id, SANDBOX_STOPPING);
    CHECK(s == NULL); /* another state by now */
    s = registry_take(r, &id, SANDBOX_STARTING);
    CHECK(s && s->state == SANDBOX_STARTING);
    core_unref(s);
    CHECK(registry_take(r, &id, SANDBOX_STARTING) == NULL);
    move(r, &id, SANDBOX_RUNNING);
    move(r, &id, SANDBOX_STOPPING);
    CHECK(registry_take(r, &id, SANDBOX_STOPPING) == NULL);
    registry_free(r);
}

static void explain(struct sandbox *row, void *ctx)
{
    row->error_message = str_dup(ctx);
}

/* A failure is shared by who waited for a start, and by nobody else. */
static void check_waits_for_start(void)
{
    struct registry *r = registry_new();
    struct sandbox_id id = add(r, "a", 1);
    for (int i = 0; i < SANDBOX_STATE_COUNT; i++) {
        enum sandbox_state state = (enum sandbox_state)i;
        const struct sandbox *s;
        bool start;
        move(r, &id, state);
        CHECK_ROW(sandbox_state_name(state),
                  registry_settled(r, &id, 0, &s, &start) == sandbox_state_settled(state));
        core_unref(s);
        CHECK_ROW(sandbox_state_name(state),
                  start == (state == SANDBOX_CREATING || state == SANDBOX_STARTING));
    }
    CHECK(registry_update(r, &id, explain, "an end before"));
    const struct sandbox *none;
    bool start;
    move(r, &id, SANDBOX_STARTING); /* not by a start: that clears it */
    CHECK(!registry_settled(r, &id, 0, &none, &start) && !start);
    registry_free(r);
}

static void check_counts(void)
{
    struct registry *r = registry_new();
    struct sandbox_id id = add(r, "a", 1), none;
    sandbox_id_new(&none);
    for (int i = 0; i < EXEC_PER_SANDBOX_MAX; i++)
        CHECK(registry_exec_begin(r, &id, &err) == 0);
    CHECK(registry_exec_begin(r, &id, &err) < 0 && err.code == ERR_CAPACITY);
    CHECK(registry_exec_begin(r, &none, &err) < 0 && err.code == ERR_NOT_FOUND);
    CHECK(registry_execs(r) == EXEC_PER_SANDBOX_MAX);
    /* Made anew under commands that run: their ends find nothing to end. */
    move(r, &id, SANDBOX_DELETING);
    registry_remove(r, &id);
    CHECK(registry_execs(r) == 0);
    struct sandbox *again = row_of("a", 2);
    again->id = id;
    registry_add(r, again, false);
    registry_exec_end(r, &id);
    CHECK(registry_execs(r) == 0 && registry_exec_begin(r, &id, &err) == 0);
    registry_exec_end(r, &id);

    struct store_activity touched[4];
    CHECK(registry_take_touched(r, touched, 4) == 0);
    registry_touch(r, &id);
    CHECK(registry_take_touched(r, touched, 4) == 1 && sandbox_id_eq(&touched[0].id, &id));
    CHECK(registry_take_touched(r, touched, 4) == 0);
    registry_free(r);
}

static void check_watch(void)
{
    struct registry *r = registry_new();
    struct sandbox_id id = add(r, "a", 1);
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    eventfd_t n;
    registry_watch(r, fd);
    CHECK(eventfd_read(fd, &n) < 0);
    move(r, &id, SANDBOX_STARTING);
    CHECK(eventfd_read(fd, &n) == 0);
    registry_watch(r, -1);
    move(r, &id, SANDBOX_RUNNING);
    CHECK(eventfd_read(fd, &n) < 0);
    (void)close(fd);
    registry_free(r);
}

/* --- many threads --- */

static struct registry *shared;
static struct sandbox_id one;
static atomic_bool over;
static atomic_int owners, together;

static void *waiter(void *arg)
{
    (void)arg;
    while (!atomic_load(&over)) {
        const struct sandbox *s;
        bool start;
        if (!registry_settled(shared, &one, clock_mono_ms() + 60000, &s, &start) || !s ||
            !sandbox_state_settled(s->state))
            atomic_store(&together, 99);
        core_unref(s);
    }
    return NULL;
}

/* Takes over what has no owner: never two at once. */
static void *taker(void *arg)
{
    (void)arg;
    while (!atomic_load(&over)) {
        const struct sandbox *s = registry_take(shared, &one, SANDBOX_STARTING);
        if (!s) {
            (void)sched_yield();
            continue;
        }
        if (atomic_fetch_add(&owners, 1) != 0)
            atomic_store(&together, 1);
        (void)poll(NULL, 0, 1);
        atomic_fetch_sub(&owners, 1);
        core_unref(s);
        enum sandbox_state to = SANDBOX_STOPPED;
        (void)registry_update(shared, &one, to_state, &to);
    }
    return NULL;
}

static void *reader(void *arg)
{
    (void)arg;
    struct core_filter all = { .state = -1 };
    while (!atomic_load(&over)) {
        const struct sandbox **rows;
        size_t n;
        bool more;
        struct registry_live live;
        registry_list(shared, NULL, &all, &rows, &n, &more);
        for (size_t i = 0; i < n; i++)
            core_unref(rows[i]);
        free(rows);
        registry_touch(shared, &one);
        (void)registry_live(shared, &one, &live);
        (void)sched_yield();
    }
    return NULL;
}

static void *churner(void *arg)
{
    (void)arg;
    while (!atomic_load(&over)) {
        struct sandbox_id id = add(shared, "x", clock_wall_ms());
        enum sandbox_state to = SANDBOX_DELETING;
        (void)registry_update(shared, &id, to_state, &to);
        registry_remove(shared, &id);
        (void)sched_yield(); /* the lock is not fair */
    }
    return NULL;
}

static void check_threads(void)
{
    static void *(*const parts[])(void *) = { waiter, waiter, taker, taker, reader, churner };
    enum { N = sizeof parts / sizeof parts[0] };
    pthread_t t[N];
    shared = registry_new();
    one = add(shared, "a", 1);
    for (int i = 0; i < N; i++)
        CHECK(pthread_create(&t[i], NULL, parts[i], NULL) == 0);
    int64_t end = clock_mono_ms() + 1000;
    while (clock_mono_ms() < end) {
        enum sandbox_state to = SANDBOX_STARTING;
        const struct sandbox *s = registry_get(shared, &one);
        bool stopped = s->state == SANDBOX_STOPPED;
        core_unref(s);
        if (!stopped)
            continue;
        (void)registry_update(shared, &one, to_state, &to); /* ours, for a moment */
        if (atomic_load(&owners) != 0)
            atomic_store(&together, 2);
        registry_disown(shared, &one);
    }
    move(shared, &one, SANDBOX_STOPPED);
    atomic_store(&over, true);
    for (int i = 0; i < N; i++)
        CHECK(pthread_join(t[i], NULL) == 0);
    CHECK(atomic_load(&together) == 0);
    registry_free(shared);
}

/* A row that is committed and not shown yet is waited for. */
static void *bear(void *arg)
{
    struct sandbox *row = arg;
    (void)poll(NULL, 0, 20);
    registry_add(shared, row, true);
    registry_birth_end(shared);
    return NULL;
}

static void check_birth(void)
{
    pthread_t t;
    shared = registry_new();
    struct sandbox *row = row_of("a", 1);
    struct sandbox_id id = row->id;
    CHECK(registry_await(shared, &id) == NULL); /* nobody is being born */
    registry_birth_begin(shared);
    CHECK(pthread_create(&t, NULL, bear, row) == 0);
    const struct sandbox *s = registry_await(shared, &id);
    CHECK(s && sandbox_id_eq(&s->id, &id));
    core_unref(s);
    CHECK(pthread_join(t, NULL) == 0);
    registry_free(shared);
}

int main(void)
{
    check_order();
    check_owners();
    check_waits_for_start();
    check_counts();
    check_watch();
    check_birth();
    check_threads();
    return check_done();
}
