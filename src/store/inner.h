/* What the files of this room share. */
#ifndef STORE_INNER_H
#define STORE_INNER_H

#include "base/limits.h"
#include "base/mu.h"
#include "home.h"
#include "sql.h"
#include "store/store.h"
#include "writer.h"

struct store {
    struct home home;
    struct writer *writer;
    char *instance;
    struct mu lock;
    struct cond idle;
    struct db readers[STORE_READERS];
    bool busy[STORE_READERS] GUARDED_BY(lock);
};

/* With a list of migrations of the caller's own, for tests. */
int store_open_schema(const char *data_dir, const struct sql_migration *list, int count,
                      struct store **ret, struct err *err);

/* A reader for the calling thread alone; give it back soon: while it reads, the WAL cannot start
 * over. */
struct db *reader_take(struct store *s);
void reader_give(struct store *s, struct db *db);

#endif
