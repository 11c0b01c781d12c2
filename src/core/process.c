/* What owners do with kept processes: start, list, signal, feed, resize, remove. Ownership
 * is the sandbox's: every call begins with its row. */
#include "core/process.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fault.h"
#include "base/fd.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/str.h"
#include "inside.h"
#include "proc.h"
#include "wire/frames.h"
#include "wire/json.h"

#define STARTED_WAIT_MS 5000
#define READY_WAIT_MS 3000
/* For the stream to take a TERM, and beyond the grace; then KILL overtakes. */
#define END_WAIT_MS 1000

const char *process_state_name(enum process_state s)
{
    static const char *const words[PROCESS_STATE_COUNT] = {
#define PROCESS_WORD(name, word, truth) [PROCESS_##name] = word,
        PROCESS_STATES(PROCESS_WORD)
#undef PROCESS_WORD
    };
    return words[s];
}

void process_release(struct process *p)
{
    free(p->argv);
    free(p->cwd);
    free(p->service);
    p->argv = p->cwd = p->service = NULL;
}

void process_copy(struct procs *t, struct proc *p, struct process *ret)
{
    mu_lock(&t->lock);
    *ret = p->info;
    mu_unlock(&t->lock);
    ret->argv = str_dup(p->info.argv);
    ret->cwd = p->info.cwd ? str_dup(p->info.cwd) : NULL;
    ret->service = p->info.service ? str_dup(p->info.service) : NULL;
}

struct proc *process_find(struct core *c, const struct caller *who,
                          const struct sandbox_id *sandbox, const struct sandbox_id *id,
                          struct err *err)
{
    const struct sandbox *s = core_own_row(c, who, sandbox, err);
    if (!s)
        return NULL;
    core_unref(s);
    struct proc *p = procs_find(c->procs, sandbox, id);
    if (!p)
        (void)err_set(err, ERR_NOT_FOUND, "no process %s", id->text);
    return p;
}

/* --- start --- */

char *core_argv_json(const struct strv *argv)
{
    struct buf b = BUF_INIT(EXEC_SPEC_MAX * 6);
    struct json_out o = JSON_OUT(&b);
    json_list(&o, NULL);
    for (size_t i = 0; i < argv->count; i++)
        json_put(&o, NULL, argv->items[i]);
    json_unlist(&o);
    return buf_take(&b);
}

uint64_t core_process_number(struct core *c)
{
    return c->boot | atomic_fetch_add(&c->numbered, 1);
}

bool core_process_ours(const struct core *c, uint64_t number)
{
    return (number & ~(uint64_t)UINT32_MAX) == c->boot;
}

static int add_record(struct core *c, const struct sandbox *s, const struct process_spec *spec,
                      uint64_t number, struct proc **ret, struct err *err)
{
    struct process info = { .sandbox = s->id,
                            .epoch = s->epoch,
                            .number = number,
                            .pty = spec->cols != 0,
                            .tied = spec->tied,
                            .started_at_ms = clock_wall_ms() };
    sandbox_id_new(&info.id);
    info.argv = core_argv_json(spec->argv);
    info.cwd = spec->cwd ? str_dup(spec->cwd) : NULL;
    info.service = spec->service ? str_dup(spec->service) : NULL;
    struct store_process row = { .id = info.id,
                                 .sandbox = s->id,
                                 .node = s->node,
                                 .tenant = s->tenant,
                                 .epoch = s->epoch,
                                 .number = number,
                                 .state = str_dup(process_state_name(PROCESS_RUNNING)),
                                 .argv = info.argv,
                                 .cwd = info.cwd,
                                 .service = info.service,
                                 .pty = info.pty,
                                 .tied = info.tied,
                                 .started_at_ms = info.started_at_ms };
    int rc = store_process_add(c->p.store, &row, err);
    free(row.state);
    if (rc < 0) {
        process_release(&info);
        return -1;
    }
    if (FAULT("core.process.recorded"))
        log_warn("fault.played", KV_STR("point", "core.process.recorded"));
    struct proc *p = procs_add(c->procs, &info);
    /* A deletion that began before this drops all that it finds; one whose DELETING we do not see
     * will find this one. */
    const struct sandbox *now = registry_get(c->registry, &s->id);
    bool there = now && now->epoch == s->epoch && now->state != SANDBOX_DELETING;
    core_unref(now);
    if (there) {
        *ret = p;
        return 0;
    }
    struct err ignored;
    if (procs_remove(c->procs, p, &ignored) < 0)
        log_warn("process.record_stays", KV_STR("id", p->info.id.text), KV_ERR(&ignored));
    procs_unref(c->procs, p);
    return err_set(err, ERR_UNAVAILABLE, "the sandbox was stopped or deleted");
}

static int too_many(struct err *err)
{
    return err_set(err, ERR_CAPACITY, "%d processes run in this sandbox already",
                   PROCESS_RUNNING_MAX);
}

/* Waits for STARTED or FAILED. 0, or -1 with the reason of the failure. */
static int wait_started(struct core *c, struct proc *p, struct err *err)
{
    int64_t deadline = clock_mono_ms() + STARTED_WAIT_MS;
    struct procs *t = c->procs;
    bool in_time = true;
    mu_lock(&t->lock);
    while (p->info.pid == 0 && p->info.state == PROCESS_RUNNING && !p->gone && in_time)
        in_time = cond_wait_until(&p->changed, &t->lock, deadline);
    bool started = p->info.pid != 0, refused = p->failed, gone = p->gone;
    int failed = p->failed_errno;
    uint8_t step = p->failed_step;
    mu_unlock(&t->lock);
    if (started)
        return 0;
    if (gone)
        return err_set(err, ERR_UNAVAILABLE, "the process was removed");
    if (!refused && !in_time)
        return err_set(err, ERR_TIMEOUT, "the process was not heard to start%s",
                       p->info.service ? "" : "; it may have");
    if (!refused)
        return err_set(err, ERR_UNAVAILABLE,
                       "the process did not start: the sandbox stopped, or its supervisor was "
                       "killed");
    if (step == STEP_CWD)
        return err_set(err, ERR_INVALID, "cwd: %s",
                       failed == ENOENT ? "no such directory" : core_failed_why(failed));
    if (step == STEP_EXEC)
        return err_set(err, ERR_INVALID, "cmd: %s", core_failed_why(failed));
    if (failed == EDQUOT)
        return too_many(err);
    return err_set(err, ERR_CAPACITY, "the process could not be started: %s",
                   core_failed_why(failed));
}

static int start_in(struct core *c, const struct sandbox *s, const struct process_spec *spec,
                    struct proc **ret, struct err *err)
{
    int fd = -1;
    if (procs_running(c->procs, &s->id) >= PROCESS_RUNNING_MAX)
        return too_many(err);
    struct core_command cmd = { .argv = spec->argv,
                                .cwd = spec->cwd,
                                .env = spec->env,
                                .timeout_ms = spec->timeout_ms,
                                .flags = (uint32_t)SPAWN_KEEP |
                                         (spec->cols ? (uint32_t)SPAWN_PTY : 0) |
                                         (spec->stdin_open ? (uint32_t)SPAWN_STDIN : 0),
                                .process = core_process_number(c),
                                .cols = spec->cols,
                                .rows = spec->rows };
    struct proc *p;
    if (add_record(c, s, spec, cmd.process, &p, err) < 0)
        return -1;
    mu_lock(&c->procs->lock);
    p->eof = !spec->stdin_open && !spec->cols;
    p->held_until_ms = spec->hold ? clock_mono_ms() + PROCESS_HOLD_MS : 0;
    mu_unlock(&c->procs->lock);
    if (spec->tied || spec->hold)
        procs_wake(c->procs); /* somebody is to come, and soon */
    int rc = core_spawn(c, s, &cmd, &fd, err);
    if (rc == 0 && FAULT("core.process.spawned")) {
        (void)close(fd);
        fd = -1;
    }
    if (rc == 0 && fd >= 0)
        procs_take_stream(c->procs, p, fd);
    else if (rc == 0 || err->code == ERR_TIMEOUT) /* started or not: its agent knows */
        procs_ask(c->procs, p);
    if (rc == 0 || err->code == ERR_TIMEOUT)
        rc = wait_started(c, p, err);
    /* It never was: no trace of it is of use. A service's, heard of or not, makes room for the next
     * one; an agent that still has it to start is told behind that. */
    if (rc < 0 && (err->code != ERR_TIMEOUT || spec->service)) {
        struct err ignored;
        if (procs_remove(c->procs, p, &ignored) < 0)
            log_warn("process.record_stays", KV_STR("id", p->info.id.text), KV_ERR(&ignored));
    }
    if (rc < 0) {
        procs_unref(c->procs, p);
        return -1;
    }
    *ret = p;
    return 0;
}

int core_process_start_in(struct core *c, const struct sandbox *s, const struct process_spec *spec,
                          struct process *ret, struct err *err)
{
    struct proc *p;
    struct procs *t = c->procs;
    int64_t deadline = clock_mono_ms() + STARTED_WAIT_MS;
    uint32_t before = keeper_unsaved(t, &s->id), now;
    /* Who ends them faster than the disk takes it waits for the disk. */
    while (start_in(c, s, spec, &p, err) < 0) {
        if (err->code != ERR_CAPACITY)
            return -1;
        now = keeper_unsaved(t, &s->id);
        if ((before == 0 && now == 0) || clock_mono_ms() >= deadline ||
            (now > 0 && !keeper_await(t, &s->id, now, deadline)))
            return -1;
        before = now;
    }
    process_copy(c->procs, p, ret);
    procs_unref(c->procs, p);
    return 0;
}

int core_process_start(struct core *c, const struct caller *who, const struct sandbox_id *sandbox,
                       const struct process_spec *spec, struct process *ret, struct err *err)
{
    const struct sandbox *s = core_own_row(c, who, sandbox, err);
    if (!s)
        return -1;
    core_unref(s);
    core_use_begin(c, sandbox); /* until it is counted itself */
    int rc = core_start(c, who, sandbox, &s, err);
    if (rc == 0) {
        rc = core_process_start_in(c, s, spec, ret, err);
        core_unref(s);
    }
    core_use_end(c, sandbox);
    return rc;
}

int core_process_adopt(struct core *c, const struct sandbox *s, const struct process_spec *spec,
                       uint64_t number, struct sandbox_id *ret_id, struct err *err)
{
    struct frame_attached at;
    int fd;
    if (link_attach(c->p.link, &s->id, number, 0, clock_mono_ms() + STARTED_WAIT_MS, &fd, &at,
                    err) < 0) {
        struct err ignored;
        if (err->code != ERR_NOT_FOUND) /* nobody could ever look after it, either */
            (void)link_forget_process(c->p.link, &s->id, number, &ignored); /* as below */
        return -1;
    }
    struct proc *p;
    if (add_record(c, s, spec, number, &p, err) < 0) { /* nobody could ever look after it */
        struct err ignored;
        (void)close(fd);
        (void)link_forget_process(c->p.link, &s->id, number, &ignored); /* its agent has left */
        return -1;
    }
    mu_lock(&c->procs->lock);
    p->info.bytes = at.first;
    p->info.pid = at.pid;
    p->eof = true;
    mu_unlock(&c->procs->lock);
    *ret_id = p->info.id;
    procs_take_stream(c->procs, p, fd);
    procs_unref(c->procs, p);
    return 0;
}

/* --- look --- */

int core_process_get(struct core *c, const struct caller *who, const struct sandbox_id *sandbox,
                     const struct sandbox_id *id, struct process *ret, struct err *err)
{
    struct proc *p = process_find(c, who, sandbox, id, err);
    if (!p)
        return -1;
    process_copy(c->procs, p, ret);
    procs_unref(c->procs, p);
    return 0;
}

int core_process_list(struct core *c, const struct caller *who, const struct sandbox_id *sandbox,
                      struct process **ret, size_t *ret_count, struct err *err)
{
    const struct sandbox *s = core_own_row(c, who, sandbox, err);
    struct proc **list;
    if (!s)
        return -1;
    core_unref(s);
    size_t n = procs_list(c->procs, sandbox, &list);
    *ret = mem_new(n, sizeof **ret);
    *ret_count = n;
    for (size_t i = 0; i < n; i++) {
        process_copy(c->procs, list[i], &(*ret)[i]);
        procs_unref(c->procs, list[i]);
    }
    free(list);
    return 0;
}

/* --- act --- */

static int ended(struct err *err)
{
    return err_set(err, ERR_CONFLICT, "the process has ended");
}

/* It runs, and its sandbox is awake from here to core_use_end: a frozen one takes nothing. One that
 * has stopped took the process along, and is not started for it. */
static int begin_act(struct core *c, const struct caller *who, struct proc *p, struct err *err)
{
    const struct sandbox *s = NULL;
    mu_lock(&c->procs->lock);
    bool runs = p->info.state == PROCESS_RUNNING && !p->gone;
    mu_unlock(&c->procs->lock);
    if (!runs)
        return ended(err);
    core_use_begin(c, &p->info.sandbox);
    s = registry_get(c->registry, &p->info.sandbox);
    int rc = 0;
    if (!s || s->epoch != p->info.epoch || s->state == SANDBOX_STOPPED ||
        s->state == SANDBOX_STOPPING || s->state == SANDBOX_ERROR) {
        rc = ended(err);
    } else if (s->state != SANDBOX_RUNNING) {
        core_unref(s);
        s = NULL;
        rc = core_start(c, who, &p->info.sandbox, &s, err);
    }
    core_unref(s);
    if (rc < 0)
        core_use_end(c, &p->info.sandbox);
    return rc;
}

int core_process_signal(struct core *c, const struct caller *who, const struct sandbox_id *sandbox,
                        const struct sandbox_id *id, uint32_t signal, bool tree, struct err *err)
{
    struct proc *p = process_find(c, who, sandbox, id, err);
    if (!p)
        return -1;
    int rc = begin_act(c, who, p, err);
    if (rc == 0) {
        struct err ignored; /* an agent that redials after our restart is waited for */
        (void)link_wait_ready(c->p.link, sandbox, clock_mono_ms() + READY_WAIT_MS, &ignored);
        rc = link_signal_process(c->p.link, sandbox, p->info.number, signal, tree, err);
        core_use_end(c, sandbox);
    }
    procs_unref(c->procs, p);
    return rc;
}

/* A descriptor of the stream that is ours alone to write to, or -1. stdin_wanted: for bytes of it.
 */
static int take_feed(struct core *c, struct proc *p, bool stdin_wanted, int64_t deadline_ms,
                     struct err *err)
{
    struct procs *t = c->procs;
    bool in_time = true;
    mu_lock(&t->lock);
    while (p->info.state == PROCESS_RUNNING && !p->gone && (p->feeding || p->fd < 0) && in_time)
        in_time = cond_wait_until(&p->changed, &t->lock, deadline_ms);
    int fd = -1;
    bool runs = p->info.state == PROCESS_RUNNING && !p->gone;
    bool closed = stdin_wanted && p->eof;
    if (runs && !closed && !p->feeding && p->fd >= 0) {
        fd = fcntl(p->fd, F_DUPFD_CLOEXEC, 0);
        p->feeding = fd >= 0;
    }
    mu_unlock(&t->lock);
    if (fd >= 0)
        return fd;
    if (!runs)
        return ended(err);
    return closed ? err_set(err, ERR_CONFLICT, "its stdin is closed")
                  : err_set(err, ERR_TIMEOUT, "its stdin is busy");
}

static void give_feed(struct core *c, struct proc *p, bool eof)
{
    mu_lock(&c->procs->lock);
    p->feeding = false;
    p->eof = p->eof || (eof && !p->info.pty);
    cond_broadcast(&p->changed);
    mu_unlock(&c->procs->lock);
}

/* One frame, whole or not at all: it is begun only when there is room for all of it (see exec.c).
 */
static int send_frame(int fd, enum frame_type type, const void *data, size_t len,
                      int64_t deadline_ms, struct err *err)
{
    uint8_t head[FRAME_HEADER];
    frame_header(head, type, (uint32_t)len);
    int ready = fd_wait(fd, POLLOUT, deadline_ms);
    if (ready == 0)
        return err_set(err, ERR_TIMEOUT, "the process does not read its input");
    if (ready < 0 || send(fd, head, sizeof head, MSG_NOSIGNAL | (len ? MSG_MORE : 0)) < 0)
        return err_set(err, ERR_CONFLICT, "the process has ended");
    for (size_t sent = 0; sent < len;) {
        ssize_t n = send(fd, (const char *)data + sent, len - sent, MSG_NOSIGNAL);
        if (n <= 0)
            return err_set(err, ERR_CONFLICT, "the process has ended");
        sent += (size_t)n;
    }
    return 0;
}

static int feed(struct core *c, struct proc *p, const void *data, size_t len, bool eof,
                size_t *ret_taken, struct err *err)
{
    int64_t deadline = clock_mono_ms() + PROCESS_FEED_MS;
    mu_lock(&c->procs->lock);
    bool closed = p->eof;
    mu_unlock(&c->procs->lock);
    if (closed && eof && len == 0) /* closing it twice is fine */
        return 0;
    AUTO(fd) int fd = take_feed(c, p, true, deadline, err);
    int rc = fd < 0 ? -1 : 0;
    while (rc == 0 && *ret_taken < len) {
        size_t n = len - *ret_taken < PROCESS_FEED_PIECE ? len - *ret_taken : PROCESS_FEED_PIECE;
        rc = send_frame(fd, FRAME_STDIN, (const char *)data + *ret_taken, n, deadline, err);
        if (rc == 0)
            *ret_taken += n;
    }
    /* One that ended on what it got took all of it. */
    if (rc == 0 && eof && send_frame(fd, FRAME_EOF, NULL, 0, deadline, err) < 0 &&
        (len == 0 || err->code != ERR_CONFLICT))
        rc = -1;
    if (fd >= 0)
        give_feed(c, p, eof && rc == 0);
    if (rc < 0 && err->code == ERR_TIMEOUT) /* who goes on must know where */
        (void)err_remedy(err, "%zu of the %zu bytes were taken; send the rest later.", *ret_taken,
                         len);
    return rc;
}

int core_process_feed(struct core *c, const struct caller *who, const struct sandbox_id *sandbox,
                      const struct sandbox_id *id, const void *data, size_t len, bool eof,
                      size_t *ret_taken, struct err *err)
{
    *ret_taken = 0;
    struct proc *p = process_find(c, who, sandbox, id, err);
    if (!p)
        return -1;
    int rc = begin_act(c, who, p, err);
    if (rc == 0) {
        rc = feed(c, p, data, len, eof, ret_taken, err);
        core_use_end(c, sandbox);
    }
    procs_unref(c->procs, p);
    return rc;
}

int core_process_resize(struct core *c, const struct caller *who, const struct sandbox_id *sandbox,
                        const struct sandbox_id *id, uint16_t cols, uint16_t rows, struct err *err)
{
    int64_t deadline = clock_mono_ms() + PROCESS_FEED_MS;
    uint8_t size[4];
    struct proc *p = process_find(c, who, sandbox, id, err);
    if (!p)
        return -1;
    int rc = p->info.pty ? 0 : err_set(err, ERR_CONFLICT, "the process has no terminal");
    AUTO(fd) int fd = rc == 0 ? take_feed(c, p, false, deadline, err) : -1;
    if (fd < 0) {
        procs_unref(c->procs, p);
        return -1;
    }
    frame_set_u16(size, cols);
    frame_set_u16(size + 2, rows);
    rc = send_frame(fd, FRAME_RESIZE, size, sizeof size, deadline, err);
    give_feed(c, p, false);
    procs_unref(c->procs, p);
    return rc;
}

static bool wait_ended(struct core *c, struct proc *p, int64_t deadline_ms)
{
    struct procs *t = c->procs;
    bool in_time = true;
    mu_lock(&t->lock);
    while (p->info.state == PROCESS_RUNNING && !p->gone && in_time)
        in_time = cond_wait_until(&p->changed, &t->lock, deadline_ms);
    bool over = p->info.state != PROCESS_RUNNING || p->gone;
    mu_unlock(&t->lock);
    return over;
}

int core_end_process(struct core *c, struct proc *p, struct err *err)
{
    uint8_t grace[4];
    int64_t now = clock_mono_ms();
    AUTO(fd) int fd = take_feed(c, p, false, now + END_WAIT_MS, err);
    frame_set_u32(grace, EXEC_KILL_GRACE_MS);
    int rc = -1;
    if (fd >= 0) {
        rc = send_frame(fd, FRAME_KILL, grace, sizeof grace, now + END_WAIT_MS, err);
        give_feed(c, p, false);
    }
    if (rc == 0 && wait_ended(c, p, clock_mono_ms() + EXEC_KILL_GRACE_MS + END_WAIT_MS))
        return 0;
    if (wait_ended(c, p, 0)) /* by itself */
        return 0;
    if (link_signal_process(c->p.link, &p->info.sandbox, p->info.number, SIGKILL, true, err) < 0)
        return -1;
    return wait_ended(c, p, clock_mono_ms() + END_WAIT_MS)
               ? 0
               : err_set(err, ERR_TIMEOUT, "the process resists its end");
}

int core_process_remove(struct core *c, const struct caller *who, const struct sandbox_id *sandbox,
                        const struct sandbox_id *id, struct err *err)
{
    struct proc *p = process_find(c, who, sandbox, id, err);
    if (!p)
        return -1;
    int rc = procs_remove(c->procs, p, err);
    procs_unref(c->procs, p);
    return rc;
}
