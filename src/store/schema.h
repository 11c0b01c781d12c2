/* The database file: looked at before it is touched, made, copied, migrated. Private to store/. */
#ifndef STORE_SCHEMA_H
#define STORE_SCHEMA_H

#include "base/err.h"
#include "home.h"
#include "sql.h"

/* Leaves *ret the writing connection of a database at the newest schema of `list` (count rows).
 * ERR_NOT_SUPPORTED: a newer schema; the files are as they were. */
int schema_open(const struct home *h, const struct sql_migration *list, int count, struct db *ret,
                struct err *err);

#endif
