/* Reads a handful of kernel files; whatever is missing is "unknown", never an error. */
#include "hostmem.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/str.h"

static bool read_file(const char *path, char *out, size_t size)
{
    AUTO(fd) int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    ssize_t n = read(fd, out, size - 1);
    if (n <= 0)
        return false;
    out[n] = 0;
    return true;
}

/* The number after `key` in a text of lines. */
static bool number_after(const char *text, const char *key, uint64_t *ret)
{
    const char *at = strstr(text, key);
    char digits[24];
    if (!at)
        return false;
    at += strlen(key);
    at += strspn(at, ": \t");
    size_t n = strspn(at, "0123456789");
    if (n == 0 || n >= sizeof digits)
        return false;
    memcpy(digits, at, n);
    digits[n] = 0;
    return str_u64(digits, ret);
}

bool hostmem_read(struct hostmem *ret)
{
    char text[4096];
    uint64_t total_kib, available_kib;
    if (!read_file("/proc/meminfo", text, sizeof text) ||
        !number_after(text, "MemTotal", &total_kib) ||
        !number_after(text, "MemAvailable", &available_kib) || total_kib == 0)
        return false;
    *ret = (struct hostmem){ .total_mib = total_kib >> 10,
                             .available_mib = available_kib >> 10,
                             .available_pct = (int64_t)(available_kib * 100 / total_kib) };
    return true;
}

bool hostmem_container_cpu(const char *container_id, uint64_t *ret_ns)
{
    static const struct {
        const char *before, *after;
        const char *key; /* NULL: the file is the number, in ns; else a line, in µs */
    } places[] = {
        { "/sys/fs/cgroup/cpuacct/docker/", "/cpuacct.usage", NULL },
        { "/sys/fs/cgroup/cpuacct/system.slice/docker-", ".scope/cpuacct.usage", NULL },
        { "/sys/fs/cgroup/system.slice/docker-", ".scope/cpu.stat", "usage_usec" },
        { "/sys/fs/cgroup/docker/", "/cpu.stat", "usage_usec" },
    };
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        char path[256], text[1024];
        uint64_t v;
        if ((size_t)snprintf(path, sizeof path, "%s%s%s", places[i].before, container_id,
                             places[i].after) >= sizeof path ||
            !read_file(path, text, sizeof text))
            continue;
        if (places[i].key ? !number_after(text, places[i].key, &v) : !number_after(text, "", &v))
            continue;
        *ret_ns = places[i].key ? v * 1000 : v;
        return true;
    }
    return false;
}
