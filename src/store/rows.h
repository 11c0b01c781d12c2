/* The row table of `sandbox`: one list, read to bind an INSERT and to read a SELECT. Private to
 * store/. */
#ifndef STORE_ROWS_H
#define STORE_ROWS_H

#include "base/err.h"
#include "model/sandbox.h"
#include "sql.h"

/* Do the columns of Q_SANDBOX_LOAD stand in the order of the table, and are there as many? */
int rows_check(struct db *db, struct err *err);
/* Inserts one row. */
int rows_insert(struct db *db, const struct sandbox *s, struct err *err);
/* The current row of Q_SANDBOX_LOAD; caller frees. A value that cannot be is an error, not a guess.
 */
int rows_read(struct db *db, struct sandbox **ret, struct err *err);
/* The schema's words. */
const char *rows_state(enum sandbox_state s);
const char *rows_visibility(enum sandbox_visibility v);

#endif
