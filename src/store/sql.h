/* One SQLite connection with its prepared statements. Private to store/.
 *
 * SQLite's codes become a struct err here and nowhere else; texts for clients carry no path and no
 * SQL. Threads: a connection belongs to one thread at a time. */
#ifndef STORE_SQL_CONNECTION_H
#define STORE_SQL_CONNECTION_H

#include <sqlite3.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "store_sql.h"

struct db {
    sqlite3 *h;
    sqlite3_stmt *st[QUERY_COUNT]; /* NULL: not for this connection */
};

enum db_mode { DB_WRITER, DB_READER };

/* Opens an existing file with the settings of the house. */
int db_open(struct db *db, const char *path, enum db_mode mode, struct err *err);
/* Prepares every statement; a reader keeps only those that cannot write. */
int db_prepare(struct db *db, enum db_mode mode, struct err *err);
/* NULL members are fine. */
void db_close(struct db *db);
/* Turns the connection's last error into *err; returns -1. */
int db_fail(struct db *db, struct err *err, const char *what);
/* The same for a bare code. */
int db_fail_code(int rc, int sys, struct err *err, const char *what);
/* Runs SQL text of our own (migrations, pragmas). */
int db_exec(struct db *db, const char *sql, struct err *err);
/* First column of the first row of `sql` as a number. */
int db_number(struct db *db, const char *sql, int64_t *ret, struct err *err);

/* A named parameter. TEXT NULL binds NULL. */
struct arg {
    const char *name; /* with the colon */
    enum { ARG_KIND_INT, ARG_KIND_TEXT, ARG_KIND_BLOB } kind;
    int64_t number; /* INT: value; BLOB: length */
    const void *data;
};
#define ARG_INT(n, v) ((struct arg){ ":" n, ARG_KIND_INT, (int64_t)(v), NULL })
#define ARG_TEXT(n, v) ((struct arg){ ":" n, ARG_KIND_TEXT, 0, (v) })
#define ARG_BLOB(n, v, len) ((struct arg){ ":" n, ARG_KIND_BLOB, (len), (v) })
/* The list ends with a row without a name. */
#define ARGS(...) ((const struct arg[]){ __VA_ARGS__ __VA_OPT__(, ){ 0 } })

/* Resets the statement and binds args, which must name each of its parameters.
 * What args point to must stay until the statement is reset. */
int db_bind(struct db *db, enum query q, const struct arg *args, struct err *err);
/* Steps a bound statement: 1 a row is there, 0 the end (and reset), -1 failed (and reset). */
int db_step(struct db *db, enum query q, struct err *err);
/* Binds and takes the first step; db_reset() when a row was there. */
int db_first(struct db *db, enum query q, const struct arg *args, struct err *err);
/* Binds and runs a statement without rows: the number of changed rows, or -1. */
int db_run(struct db *db, enum query q, const struct arg *args, struct err *err);
/* As db_run on a connection whose statements are not prepared (a schema in the making). 0 or -1. */
int db_run_alone(struct db *db, enum query q, const struct arg *args, struct err *err);
void db_reset(struct db *db, enum query q);

/* Columns of the current row. Text: heap, NULL for NULL. */
char *db_text(sqlite3_stmt *row, int column);
bool db_bytes(sqlite3_stmt *row, int column, void *out, size_t len);

#endif
