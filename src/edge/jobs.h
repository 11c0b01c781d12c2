/* What runs on the edge's pool: calls of core/ that block. A job owns copies of all it needs; the
 * loop looks its box up again when it comes back. */
#ifndef EDGE_JOBS_H
#define EDGE_JOBS_H

#include "inside.h"

enum job_kind {
    JOB_WAKE,    /* until the sandbox runs and its address is known */
    JOB_PORT,    /* until a port listens */
    JOB_CONNECT, /* to a port that listens on loopback only, through the agent */
    JOB_REDEEM,  /* a share link becomes a cookie */
};

struct job {
    struct job *next;
    struct edge *e;
    enum job_kind kind;
    struct sandbox_id id;
    uint16_t port;
    int64_t deadline_ms;
    uint64_t exchange; /* CONNECT, REDEEM: who waits; looked for, it may have gone */
    char code[SHARE_CODE_MAX];
    /* what came of it */
    bool ok;
    struct err err;
    uint32_t epoch;
    char address[46];
    int fd;
    char cookie[SHARE_CODE_MAX];
    int64_t until_ms;
};

/* Queues it (takes it over, in any case). -1: the pool is full; err says so. */
int job_start(struct edge *e, struct job *j, struct err *err);

#endif
