/* What /metrics shows. Labels come from tables, so the number of series is constant.
 * Threads: any. */
#ifndef METRICS_H
#define METRICS_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

struct api;

#define METRICS_ROUTES 128 /* rows of the route table at most, and one for everything else */
#define METRICS_BUCKETS 8

struct metrics {
    struct {
        _Atomic uint64_t by_class[6]; /* 1xx to 5xx; 0: cut without an answer */
        _Atomic uint64_t buckets[METRICS_BUCKETS];
        _Atomic uint64_t count;
        _Atomic uint64_t sum_us;
    } route[METRICS_ROUTES];
    _Atomic uint64_t rejected; /* by the checks before routing */
    _Atomic uint64_t cut;      /* slow peers ended by the sweep */
};

/* route: index into the table, n_routes for requests that found no row. status 0: cut. */
void metrics_note(struct metrics *m, size_t route, int status, int64_t took_us);
void metrics_render(struct api *a, struct buf *b);

#endif
