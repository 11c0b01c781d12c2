/* The room core/ on real neighbours (store, link, volume in a temporary directory) and the fake
 * runtime: no Engine, no privileges, no HTTP. One rig at a time. */
#ifndef SUPPORT_CORERIG_H
#define SUPPORT_CORERIG_H

#include <ftw.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"
#include "check.h"
#include "core/core.h"
#include "core/process.h"
#include "core/service.h"
#include "fakeruntime.h"

#define SOON 60000 /* ms; far more than anything here takes */

struct rig {
    char dir[64];
    struct config config;
    struct store *store;
    struct link *link;
    struct volume *volume;
    struct fake_runtime fake;
    struct runtime runtime;
    struct core *core;
};
static struct rig rig;
static const struct caller me = { .tenant = "t1", .actor = "tester" };
static const struct caller stranger = { .tenant = "t2", .actor = "tester" };

static inline int rig_unlink(const char *path, const struct stat *st, int kind, struct FTW *f)
{
    (void)st, (void)kind, (void)f;
    return remove(path);
}

static inline void rig_must(int rc, const struct err *err, const char *what)
{
    if (rc == 0)
        return;
    printf("Bail out! %s: %s\n", what, err->msg);
    exit(1);
}

/* The daemon's own part: everything but containers. */
static inline void rig_open(void)
{
    struct err err = { .msg = "" };
    uint32_t uid = geteuid() == 0 ? 1000 : geteuid();
    rig_must(store_open(rig.dir, &rig.store, &err), &err, "store");
    rig_must(link_new(rig.dir, &rig.link, &err), &err, "link");
    rig_must(volume_new(rig.dir, uid, uid, &rig.volume, &err), &err, "volume");
    struct core_parts parts = { .config = &rig.config,
                                .store = rig.store,
                                .runtime = &rig.runtime,
                                .link = rig.link,
                                .volume = rig.volume };
    rig_must(core_new(&parts, &rig.core, &err), &err, "core");
}

static inline void rig_close(void)
{
    core_free(rig.core);
    link_free(rig.link);
    volume_free(rig.volume);
    store_close(rig.store);
}

/* Containers and files stay; boot: also compares. */
static inline void rig_restart(bool boot)
{
    struct err err;
    rig_close();
    rig_open();
    if (boot)
        rig_must(core_reconcile(rig.core, true, &err), &err, "reconcile");
}

static inline void rig_up(void)
{
    struct err err = { .msg = "" };
    (void)signal(SIGPIPE, SIG_IGN);
    (void)snprintf(rig.dir, sizeof rig.dir, "/tmp/core-test-XXXXXX");
    if (!mkdtemp(rig.dir))
        abort();
    (void)setenv("SANDBOXED_DATA_DIR", rig.dir, 1);
    (void)setenv("SANDBOXD_API_AUTH_DISABLED", "true", 1);
    (void)setenv("SANDBOXD_LOG_LEVEL", "error", 1);
    (void)setenv("SANDBOXD_MEM_REFUSE_WAKES_PCT", "0", 1);
    (void)setenv("SANDBOXD_MEM_HEADROOM_PCT", "0", 1);
    (void)setenv("SANDBOXD_MEM_EMERGENCY_PCT", "0", 1);
    (void)setenv("SANDBOXD_WAKE_COST_MIB", "1", 1);
    rig_must(config_load(NULL, &rig.config, &err), &err, "config");
    log_set_level(getenv("CORE_TEST_LOG") ? LOG_DEBUG : LOG_ERROR);
    fake_runtime_init(&rig.fake, &rig.runtime);
    rig_open();
    rig_must(core_reconcile(rig.core, true, &err), &err, "reconcile");
}

static inline void rig_down(void)
{
    rig_close();
    fake_runtime_release(&rig.fake);
    config_release(&rig.config);
    (void)nftw(rig.dir, rig_unlink, 32, FTW_DEPTH | FTW_PHYS);
}

/* --- short words for what tests do --- */

static inline struct sandbox_id rig_create_with(const struct core_create *req)
{
    struct err err = { .msg = "" };
    const struct sandbox *s = NULL;
    char *replay = NULL;
    int status = 0;
    struct sandbox_id id = { { 0 } };
    if (!CHECK(core_create(rig.core, &me, req, &s, &replay, &status, &err) == 0)) {
        printf("# %s\n", err.msg);
        return id;
    }
    id = s->id;
    core_unref(s);
    free(replay);
    return id;
}

static inline struct sandbox_id rig_create(void)
{
    struct core_create req = { .idle_timeout_ms = 0 };
    return rig_create_with(&req);
}

/* -1: there is no such row. */
static inline int rig_state(const struct sandbox_id *id)
{
    struct err err;
    const struct sandbox *s;
    if (core_find(rig.core, id, &s, &err) < 0)
        return -1;
    int state = (int)s->state;
    core_unref(s);
    return state;
}

static inline const char *rig_word(int state)
{
    return state < 0 ? "none" : sandbox_state_name((enum sandbox_state)state);
}

static inline bool rig_becomes(const struct sandbox_id *id, int state)
{
    int64_t end = clock_mono_ms() + SOON;
    while (rig_state(id) != state && clock_mono_ms() < end)
        (void)poll(NULL, 0, 1);
    bool ok = rig_state(id) == state;
    if (!ok)
        printf("# is %s, not %s\n", rig_word(rig_state(id)), rig_word(state));
    return ok;
}

/* A thread that waits where nothing else shows it, once it has told its tid; or that has ended. */
static inline void rig_until_asleep(atomic_int *tid)
{
    int64_t end = clock_mono_ms() + SOON;
    char path[64], text[64] = "";
    do {
        (void)poll(NULL, 0, 1);
        (void)snprintf(path, sizeof path, "/proc/self/task/%d/stat", atomic_load(tid));
        FILE *f = atomic_load(tid) ? fopen(path, "re") : NULL;
        if (atomic_load(tid) && !f)
            return;
        if (f) {
            (void)!fgets(text, sizeof text, f); /* a tid, a name in brackets, a letter */
            (void)fclose(f);
        }
    } while (!strstr(text, ") S") && clock_mono_ms() < end);
}

static inline int rig_start(const struct sandbox_id *id, struct err *err)
{
    const struct sandbox *s;
    if (core_start(rig.core, &me, id, &s, err) < 0)
        return -1;
    core_unref(s);
    return 0;
}

static inline int rig_stop(const struct sandbox_id *id, struct err *err)
{
    const struct sandbox *s;
    if (core_stop(rig.core, &me, id, &s, err) < 0)
        return -1;
    core_unref(s);
    return 0;
}

static inline int rig_pause(const struct sandbox_id *id, struct err *err)
{
    const struct sandbox *s;
    if (core_pause(rig.core, &me, id, &s, err) < 0)
        return -1;
    core_unref(s);
    return 0;
}

static inline int rig_started(void *ctx, uint32_t pid)
{
    (void)ctx, (void)pid;
    return 0;
}

static inline int rig_output(void *ctx, enum exec_stream stream, const void *data, size_t len)
{
    (void)stream;
    if (ctx)
        buf_add(ctx, data, len);
    return 0;
}

/* Runs the words ("say@hello") of a fake agent's command. */
static inline int rig_exec(const struct sandbox_id *id, const char *words, struct exec_result *ret,
                           struct err *err)
{
    struct strv argv = { 0 };
    char *copy = str_dup(words), *rest = copy;
    for (char *word; (word = strsep(&rest, "@"));)
        strv_add(&argv, word);
    struct core_exec req = { .argv = &argv };
    struct exec_sink sink = { .started = rig_started, .write = rig_output, .gone_fd = -1 };
    int rc = core_exec(rig.core, &me, id, &req, &sink, ret, err);
    strv_release(&argv);
    free(copy);
    return rc;
}

static inline int rig_process(const struct sandbox_id *id, const char *words, const char *service,
                              bool stdin_open, struct process *ret, struct err *err)
{
    struct strv argv = { 0 };
    char *copy = str_dup(words), *rest = copy;
    for (char *word; (word = strsep(&rest, "@"));)
        strv_add(&argv, word);
    struct process_spec spec = { .argv = &argv, .service = service, .stdin_open = stdin_open };
    int rc = core_process_start(rig.core, &me, id, &spec, ret, err);
    strv_release(&argv);
    free(copy);
    return rc;
}

/* Rows and containers one to one, states equal, nothing in between. */
static inline bool rig_true(const char *row)
{
    static const struct core_filter all = { .state = -1 };
    const struct sandbox **rows;
    struct err err;
    size_t n;
    bool more, ok = true;
    if (core_list(rig.core, NULL, &all, &rows, &n, &more, &err) < 0)
        return false;
    for (size_t i = 0; i < n; i++) {
        struct runtime_container box;
        bool there = fake_box_of(&rig.fake, &rows[i]->id, &box);
        bool up = there && (box.status == RUNTIME_RUNNING || box.status == RUNTIME_PAUSED);
        bool fits = rows[i]->state == SANDBOX_RUNNING ? there && box.status == RUNTIME_RUNNING
                    : rows[i]->state == SANDBOX_PAUSED
                        ? there && box.status == RUNTIME_PAUSED
                        : sandbox_state_settled(rows[i]->state) && !up;
        if (!fits)
            printf("# row %s, container %d\n", rig_word((int)rows[i]->state),
                   there ? (int)box.status : -1);
        ok = ok && fits;
        core_unref(rows[i]);
    }
    free(rows);
    pthread_mutex_lock(&rig.fake.lock);
    for (size_t i = 0; i < rig.fake.count; i++) {
        struct sandbox_id id = rig.fake.boxes[i]->c.id;
        pthread_mutex_unlock(&rig.fake.lock);
        if (rig_state(&id) < 0) {
            printf("# orphan of %s\n", id.text);
            ok = false;
        }
        pthread_mutex_lock(&rig.fake.lock);
    }
    pthread_mutex_unlock(&rig.fake.lock);
    return CHECK_ROW(row, ok);
}

#endif
