/* Commands whose clients leave: before they were told of a start, and while their command serves.
 */
#include "corerig.h"

static struct err err;

static void purge(const struct sandbox_id *id)
{
    uint64_t freed;
    CHECK(core_purge(rig.core, &me, id, &freed, &err) == 0);
}

/* A client that has left when it is looked at first; only then its command starts. */
struct early {
    struct fake_agent *agent;
    size_t written;
};

static bool early_gone(void *ctx)
{
    const struct early *e = ctx;
    atomic_store(&e->agent->shy, false);
    return true;
}

static int early_output(void *ctx, enum exec_stream stream, const void *data, size_t len)
{
    struct early *e = ctx;
    (void)stream, (void)data;
    e->written += len;
    return -1;
}

/* A detached command is not its client's: the call ends once it runs and has its stdin, whether
 * anybody is there to be told or not. */
static void check_left_early(void)
{
    static const struct {
        const char *word, *input;
        bool detach;
        int rc;
    } rows[] = {
        { "hold", NULL, true, 0 },
        { "echo", "some words", true, 0 },
        { "fail", NULL, true, 0 },
        { "hold", NULL, false, -1 },
    };
    struct sandbox_id id = rig_create();
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct early e = { .agent = fake_agent_of(&rig.fake, &id) };
        struct strv argv = { 0 };
        struct exec_result res;
        int left[2];
        strv_add(&argv, rows[i].word);
        if (pipe(left) < 0)
            abort();
        (void)close(left[1]); /* has an event at once */
        /* The limit is for the test's sake: nothing here is to come near it. */
        struct core_exec req = { .argv = &argv,
                                 .stdin_text = rows[i].input,
                                 .stdin_len = rows[i].input ? strlen(rows[i].input) : 0,
                                 .timeout_ms = SOON,
                                 .detach = rows[i].detach };
        struct exec_sink sink = { .started = rig_started,
                                  .write = early_output,
                                  .gone = early_gone,
                                  .gone_fd = left[0],
                                  .ctx = &e };
        atomic_store(&e.agent->shy, true);
        int rc = core_exec(rig.core, &me, &id, &req, &sink, &res, &err);
        if (!CHECK_ROW(rows[i].word, rc == rows[i].rc && e.written == 0))
            printf("# %d, %zu bytes written: %s\n", rc, e.written, rc < 0 ? err.msg : "");
        CHECK_ROW(rows[i].word, rc == 0 || err.code == ERR_CANCELLED);
        CHECK(core_execs_running(rig.core) == 0);
        (void)close(left[0]);
        strv_release(&argv);
    }
    purge(&id);
}

/* A client that leaves once its command listens, and its agent falls asleep (or not). */
struct leaver {
    struct fake_agent *stalls; /* NULL: none */
    bool started;
};

static int leaver_started(void *ctx, uint32_t pid)
{
    struct leaver *l = ctx;
    (void)pid;
    l->started = true;
    if (l->stalls)
        fake_stall(l->stalls);
    return -1;
}

static void serve_and_leave(const struct sandbox_id *id, struct fake_agent *stalls)
{
    struct leaver l = { .stalls = stalls };
    struct strv argv = { 0 };
    struct exec_result res;
    strv_add(&argv, "listen");
    strv_add(&argv, "3000");
    struct core_exec req = { .argv = &argv };
    struct exec_sink sink = {
        .started = leaver_started, .write = rig_output, .gone_fd = -1, .ctx = &l
    };
    CHECK(core_exec(rig.core, &me, id, &req, &sink, &res, &err) < 0 && err.code == ERR_CANCELLED);
    CHECK(l.started);
    strv_release(&argv);
}

static size_t count_processes(const struct sandbox_id *id)
{
    struct process *list;
    size_t n;
    if (!CHECK(core_process_list(rig.core, &me, id, &list, &n, &err) == 0))
        return 0;
    for (size_t i = 0; i < n; i++)
        process_release(&list[i]);
    free(list);
    return n;
}

/* What cannot be taken up in time is ended: it has no record, and only we could end it. */
static void check_listens(void)
{
    struct sandbox_id id = rig_create();
    struct fake_agent *agent = fake_agent_of(&rig.fake, &id);
    struct process next;
    struct frame_attached at;
    int fd;
    serve_and_leave(&id, NULL);
    CHECK(count_processes(&id) == 1);
    serve_and_leave(&id, agent);
    CHECK(count_processes(&id) == 1);
    fake_go_on(agent);
    /* Numbers are given one after the other; what its agent was told before, it has done. */
    CHECK(rig_process(&id, "hold", NULL, false, &next, &err) == 0);
    int rc = link_attach(rig.link, &id, next.number - 1, 0, clock_mono_ms() + SOON, &fd, &at, &err);
    if (!CHECK(rc < 0 && err.code == ERR_NOT_FOUND) && rc == 0)
        (void)close(fd);
    process_release(&next);
    purge(&id);
}

int main(void)
{
    rig_up();
    check_left_early();
    check_listens();
    CHECK(rig.fake.count == 0);
    rig_down();
    return check_done();
}
