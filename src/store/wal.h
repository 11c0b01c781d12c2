/* A look at a write-ahead log before SQLite reads it. Private to store/. */
#ifndef STORE_WAL_H
#define STORE_WAL_H

#include <stdbool.h>

#include "base/err.h"

/* *ret_lost: would SQLite pass over transactions that were whole once? Reads only. A missing or
 * empty file holds none. -1: it cannot be read. */
int wal_look(int dir, const char *name, bool *ret_lost, struct err *err);

#endif
