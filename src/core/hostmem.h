/* The host's memory and a container's CPU time, as the kernel tells them. Private to core/. */
#ifndef CORE_HOSTMEM_H
#define CORE_HOSTMEM_H

#include <stdbool.h>
#include <stdint.h>

struct hostmem {
    uint64_t total_mib, available_mib;
    int64_t available_pct;
};
/* false: /proc/meminfo cannot be read. */
bool hostmem_read(struct hostmem *ret);
/* CPU time in ns that all processes of a container have used, from its cgroup (v1 or v2, as the
 * Engine lays them out); false where that cannot be seen. */
bool hostmem_container_cpu(const char *container_id, uint64_t *ret_ns);

#endif
