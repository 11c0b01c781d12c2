/* Commands whose clients leave: before they were told of a start. */
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

int main(void)
{
    rig_up();
    check_left_early();
    CHECK(rig.fake.count == 0);
    rig_down();
    return check_done();
}
