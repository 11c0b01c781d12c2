/* Audit rows of acts that change nothing else here; the others are written in the transaction of
 * their change. */
#include "inner.h"

#include "base/clock.h"

static int do_note(struct db *db, void *arg, struct err *err)
{
    const struct store_audit *a = arg;
    int added = db_run(db, Q_AUDIT_PROCESS,
                       ARGS(ARG_TEXT("node", a->node), ARG_TEXT("tenant", a->tenant),
                            ARG_TEXT("actor", a->actor), ARG_TEXT("action", a->action),
                            ARG_TEXT("id", a->sandbox.text), ARG_TEXT("process", a->process.text),
                            ARG_TEXT("remote", a->remote), ARG_TEXT("why", a->why),
                            ARG_INT("now_ms", clock_wall_ms())),
                       err);
    return added < 0 ? -1 : 0;
}

int store_audit_process(struct store *s, const struct store_audit *a, struct err *err)
{
    struct store_audit mine = *a;
    return writer_run(s->writer, do_note, &mine, false, err);
}
