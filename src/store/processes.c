/* Records of processes. Their output is not here: it is large, bounded and of no use to a query. */
#include "inner.h"

#include "base/cleanup.h"

void store_process_release(struct store_process *p)
{
    free(p->state);
    free(p->argv);
    free(p->cwd);
    free(p->service);
    *p = (struct store_process){ 0 };
}

static int do_add(struct db *db, void *arg, struct err *err)
{
    const struct store_process *p = arg;
    int added = db_run(
        db, Q_PROCESS_INSERT,
        ARGS(ARG_TEXT("id", p->id.text), ARG_TEXT("sandbox", p->sandbox.text),
             ARG_TEXT("node", p->node), ARG_TEXT("tenant", p->tenant), ARG_INT("epoch", p->epoch),
             ARG_INT("number", p->number), ARG_TEXT("state", p->state), ARG_TEXT("argv", p->argv),
             ARG_TEXT("cwd", p->cwd), ARG_TEXT("service", p->service), ARG_INT("pty", p->pty),
             ARG_INT("tied", p->tied), ARG_INT("started_at_ms", p->started_at_ms)),
        err);
    return added < 0 ? -1 : 0;
}

int store_process_add(struct store *s, const struct store_process *p, struct err *err)
{
    struct store_process mine = *p;
    return writer_run(s->writer, do_add, &mine, false, err);
}

static int do_end(struct db *db, void *arg, struct err *err)
{
    const struct store_process *p = arg;
    int changed = db_run(db, Q_PROCESS_END,
                         ARGS(ARG_TEXT("id", p->id.text), ARG_TEXT("state", p->state),
                              ARG_INT("exit_code", p->exit_code), ARG_INT("signal", p->signal),
                              ARG_INT("timed_out", p->timed_out), ARG_INT("bytes", p->bytes),
                              ARG_INT("ended_at_ms", p->ended_at_ms)),
                         err);
    return changed < 0 ? -1 : 0;
}

int store_process_end(struct store *s, const struct store_process *p, struct err *err)
{
    struct store_process mine = *p;
    return writer_run(s->writer, do_end, &mine, true, err);
}

static int do_remove(struct db *db, void *arg, struct err *err)
{
    const struct sandbox_id *id = arg;
    return db_run(db, Q_PROCESS_REMOVE, ARGS(ARG_TEXT("id", id->text)), err) < 0 ? -1 : 0;
}

int store_process_remove(struct store *s, const struct sandbox_id *id, struct err *err)
{
    struct sandbox_id mine = *id;
    return writer_run(s->writer, do_remove, &mine, true, err);
}

static int do_remove_all(struct db *db, void *arg, struct err *err)
{
    const struct sandbox_id *id = arg;
    return db_run(db, Q_PROCESS_REMOVE_ALL, ARGS(ARG_TEXT("sandbox", id->text)), err) < 0 ? -1 : 0;
}

int store_process_remove_all(struct store *s, const struct sandbox_id *sandbox, struct err *err)
{
    struct sandbox_id mine = *sandbox;
    return writer_run(s->writer, do_remove_all, &mine, true, err);
}

static int read_process(sqlite3_stmt *row, struct store_process *ret, struct err *err)
{
    struct store_process p = { 0 };
    const char *id = (const char *)sqlite3_column_text(row, 0);
    const char *sandbox = (const char *)sqlite3_column_text(row, 1);
    if (!id || !sandbox || sandbox_id_parse(id, &p.id, err) < 0 ||
        sandbox_id_parse(sandbox, &p.sandbox, err) < 0) {
        (void)db_fail_code(SQLITE_CORRUPT, 0, err, "read a process record");
        return -1;
    }
    p.epoch = (uint32_t)sqlite3_column_int64(row, 2);
    p.number = (uint64_t)sqlite3_column_int64(row, 3);
    p.state = db_text(row, 4);
    p.argv = db_text(row, 5);
    p.cwd = db_text(row, 6);
    p.service = db_text(row, 7);
    p.pty = sqlite3_column_int64(row, 8) != 0;
    p.exit_code = (int)sqlite3_column_int64(row, 9);
    p.signal = (uint32_t)sqlite3_column_int64(row, 10);
    p.timed_out = sqlite3_column_int64(row, 11) != 0;
    p.bytes = (uint64_t)sqlite3_column_int64(row, 12);
    p.started_at_ms = sqlite3_column_int64(row, 13);
    p.ended_at_ms = sqlite3_column_int64(row, 14);
    p.tied = sqlite3_column_int64(row, 15) != 0;
    *ret = p;
    return 0;
}

int store_process_load(struct store *s, struct store_process **ret, size_t *ret_count,
                       struct err *err)
{
    struct store_process *list = NULL;
    size_t count = 0;
    struct db *db = reader_take(s);
    int row = db_first(db, Q_PROCESS_LOAD, ARGS(), err);
    for (; row == 1; row = db_step(db, Q_PROCESS_LOAD, err)) {
        list = reallocarray(list, count + 1, sizeof *list);
        if (!list)
            abort();
        if (read_process(db->st[Q_PROCESS_LOAD], &list[count], err) < 0) {
            row = -1;
            break;
        }
        count++;
    }
    db_reset(db, Q_PROCESS_LOAD);
    reader_give(s, db);
    if (row == 0) {
        *ret = list;
        *ret_count = count;
        return 0;
    }
    for (size_t i = 0; i < count; i++)
        store_process_release(&list[i]);
    free(list);
    return -1;
}
