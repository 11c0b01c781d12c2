/* Blocking calls, on threads of the pool. */
#include "jobs.h"

#include <stdlib.h>

#include "base/fault.h"
#include "base/worker.h"

static int do_wake(struct job *j)
{
    const struct sandbox *row = NULL;
    if (core_wake(j->e->core, &j->id, &row, &j->err) < 0)
        return -1;
    j->epoch = row->epoch;
    int rc = core_address(j->e->core, row, j->address, &j->err);
    core_unref(row);
    if (rc < 0 && (j->err.code == ERR_NOT_FOUND || j->err.code == ERR_UNAVAILABLE))
        j->err.code = ERR_CONFLICT; /* somebody ended it meanwhile */
    return rc;
}

static int do_port(struct job *j)
{
    bool loopback;
    return core_wait_port(j->e->core, &j->id, j->port, j->deadline_ms, &loopback, &j->err);
}

static int do_connect(struct job *j)
{
    if (FAULT("edge.connect.agent"))
        return err_set(&j->err, ERR_UNAVAILABLE, "fault: connect");
    return core_connect(j->e->core, &j->id, j->port, j->deadline_ms, &j->fd, &j->err);
}

static int do_redeem(struct job *j)
{
    const struct sandbox *row = NULL;
    if (core_find(j->e->core, &j->id, &row, &j->err) < 0)
        return -1;
    int rc = core_share_redeem(j->e->core, row, j->port, j->code, j->cookie, &j->until_ms, &j->err);
    core_unref(row);
    return rc;
}

static void run(void *arg)
{
    static int (*const work[])(struct job * j) = {
        [JOB_WAKE] = do_wake,
        [JOB_PORT] = do_port,
        [JOB_CONNECT] = do_connect,
        [JOB_REDEEM] = do_redeem,
    };
    struct job *j = arg;
    j->ok = work[j->kind](j) == 0;
    edge_post(j->e, j);
}

int job_start(struct edge *e, struct job *j, struct err *err)
{
    j->e = e;
    j->fd = -1;
    if (pool_run(e->pool, run, j, err) == 0)
        return 0;
    free(j);
    return -1;
}
