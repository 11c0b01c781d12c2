/* Labels of the counters in core/traffic.h, and how long wakes take. */
#include "core/traffic.h"

#include "inside.h"

const char *const traffic_labels[TRAFFIC_OUTCOME_COUNT] = {
#define TRAFFIC_LABEL(name, label, meaning) [TRAFFIC_##name] = label,
    TRAFFIC_OUTCOMES(TRAFFIC_LABEL)
#undef TRAFFIC_LABEL
};

const char *const wake_labels[WAKE_PART_COUNT] = {
#define WAKE_LABEL(name, label, meaning) [WAKE_##name] = label,
    WAKE_PARTS(WAKE_LABEL)
#undef WAKE_LABEL
};

const int64_t wake_bucket_ms[WAKE_BUCKETS - 1] = { 5,   10,   20,   50,    100,  250,
                                                   500, 1000, 2500, 10000, 30000 };

struct traffic *core_traffic(struct core *c)
{
    return &c->traffic;
}

void traffic_wake(struct traffic *t, enum wake_part part, int64_t ms)
{
    size_t b = 0;
    while (b < WAKE_BUCKETS - 1 && ms > wake_bucket_ms[b])
        b++;
    atomic_fetch_add_explicit(&t->wakes[part].buckets[b], 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&t->wakes[part].sum_ms, ms > 0 ? (uint64_t)ms : 0,
                              memory_order_relaxed);
}
