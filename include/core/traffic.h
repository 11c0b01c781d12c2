/* What /metrics tells of visitors and of waking: counters that the edge and core/ bump and api/
 * prints. Labels come from the tables here, so the number of series is constant. Threads: any. */
#ifndef CORE_TRAFFIC_H
#define CORE_TRAFFIC_H

#include <stdatomic.h>
#include <stdint.h>

struct core;

/* How a request at the edge ended: name, label, meaning. */
#define TRAFFIC_OUTCOMES(O)                                                       \
    O(SERVED, "served", "the app's answer was passed on whole")                   \
    O(UPGRADED, "upgraded", "a connection that had switched protocols has ended") \
    O(CUT, "cut", "the app's answer had begun and was not whole")                 \
    O(LEFT, "left", "the client went away before an answer began")                \
    O(OWN, "own", "answered by the edge: the wake page's question, a redirect")   \
    O(DENIED, "denied", "private, and the request showed no right (401, 403)")    \
    O(UNKNOWN, "unknown", "no such preview, or its sandbox is going (404, 410)")  \
    O(REFUSED, "refused", "malformed, too slow or too many (other 4xx, 505)")     \
    O(STARTING, "starting", "not ready in time: the wake page, or held too long") \
    O(UNAVAILABLE, "unavailable", "cannot be started, ill or full (other 503)")   \
    O(BAD_GATEWAY, "bad_gateway", "nothing listens, or the app broke off (502)")
enum traffic_outcome {
#define TRAFFIC_ENUM(name, label, meaning) TRAFFIC_##name,
    TRAFFIC_OUTCOMES(TRAFFIC_ENUM)
#undef TRAFFIC_ENUM
        TRAFFIC_OUTCOME_COUNT
};
extern const char *const traffic_labels[TRAFFIC_OUTCOME_COUNT];

/* Parts of a start, and a thaw: name, label, meaning. */
#define WAKE_PARTS(P)                                                \
    P(QUEUE, "queue", "in line behind other starts")                 \
    P(WORKSPACE, "workspace", "its workspace was made or found")     \
    P(ENGINE, "engine", "the Engine made and started the container") \
    P(AGENT, "agent", "until its agent was heard")                   \
    P(SERVICES, "services", "its services were started")             \
    P(TOTAL, "total", "all of a start")                              \
    P(THAW, "thaw", "all of a thaw from paused")
enum wake_part {
#define WAKE_ENUM(name, label, meaning) WAKE_##name,
    WAKE_PARTS(WAKE_ENUM)
#undef WAKE_ENUM
        WAKE_PART_COUNT
};
extern const char *const wake_labels[WAKE_PART_COUNT];

#define WAKE_BUCKETS 12
extern const int64_t wake_bucket_ms[WAKE_BUCKETS - 1]; /* upper bounds; the last has none */

struct traffic {
    _Atomic uint64_t requests[TRAFFIC_OUTCOME_COUNT];
    _Atomic uint64_t bytes_in, bytes_out; /* from and to visitors */
    _Atomic uint64_t upgrades;            /* connections that switched protocols */
    _Atomic uint32_t connections;         /* of visitors, now; as the next two */
    _Atomic uint32_t held;                /* requests whose app cannot be reached yet */
    _Atomic uint32_t streams;             /* switched protocols */
    struct {
        _Atomic uint64_t buckets[WAKE_BUCKETS];
        _Atomic uint64_t sum_ms;
    } wakes[WAKE_PART_COUNT];
};
/* Lives as long as core. */
struct traffic *core_traffic(struct core *c);
void traffic_wake(struct traffic *t, enum wake_part part, int64_t ms);

#endif
