/* Query parameters and request headers that routes take: one row says what a request is refused
 * for and what the OpenAPI document tells. Threads: any. */
#ifndef PARAMS_H
#define PARAMS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "req.h"

enum param_type { PARAM_TEXT, PARAM_FLAG, PARAM_NUMBER, PARAM_WORD };

struct param {
    const char *name;
    const char *under; /* how a route's path ends for which the row holds; NULL: any */
    enum param_type type;
    int64_t lo, hi;           /* PARAM_NUMBER */
    const char *const *words; /* PARAM_WORD: NULL-terminated */
    const char *schema;       /* what the document adds to the type, as flow YAML */
    const char *help;
    bool bytes; /* may be no text */
};

/* One name of a route's list. At the end of the list `name` is NULL. */
struct param_name {
    const char *name;
    size_t len;
    bool required; /* it ends in "!" */
    bool family;   /* it ends in "*": metadata.<name> */
};
/* Takes the first name of a list and returns the rest of the list. */
const char *param_next(const char *list, struct param_name *ret);

/* The row of a name; aborts where the tables do not fit together. */
const struct param *param_find(const struct route *t, const struct param_name *n);

/* Refuses what the route does not take, what is missing, and values of the wrong kind. Headers are
 * left to their handlers, for HTTP says of each what a wrong value means. */
int params_check(const struct route *t, const struct query *q, struct err *err);

#endif
