/* Finds and signals descendants.
 *
 * The only source is /proc: each stat line names the parent. setsid and double forks change
 * nothing, because every caller of this is a subreaper (or PID 1): an orphan becomes its child. One
 * pass is a snapshot and may miss who is born meanwhile; callers repeat until waitpid says that
 * none is left. */
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "agent.h"
#include "base/limits.h"

static struct proc {
    pid_t pid, parent;
    char state;
    bool doomed;
} procs[AGENT_PROCS_MAX];
static size_t proc_count;

static bool read_stat(int proc_fd, const char *name, struct proc *ret)
{
    char path[32], text[256];
    size_t n = strlen(name);
    if (n > sizeof path - 6)
        return false;
    memcpy(path, name, n);
    memcpy(path + n, "/stat", 6);
    int fd = openat(proc_fd, path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false; /* gone already */
    ssize_t got = read(fd, text, sizeof text - 1);
    close(fd);
    if (got <= 0)
        return false;
    text[got] = 0;
    /* "pid (name) S ppid ...": the name may hold anything, parentheses too. */
    char *after = strrchr(text, ')');
    if (!after || after[1] != ' ' || !after[2])
        return false;
    *ret = (struct proc){ .pid = (pid_t)strtol(name, NULL, 10),
                          .parent = (pid_t)strtol(after + 3, NULL, 10),
                          .state = after[2] };
    return true;
}

static void snapshot(void)
{
    static char entries[8192] __attribute__((aligned(8)));
    proc_count = 0;
    int fd = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return;
    long got;
    while ((got = syscall(SYS_getdents64, fd, entries, sizeof entries)) > 0) {
        for (long at = 0; at < got;) {
            const struct dirent *d = (const struct dirent *)(entries + at);
            at += d->d_reclen;
            if (d->d_name[0] < '1' || d->d_name[0] > '9' || proc_count == AGENT_PROCS_MAX)
                continue;
            if (read_stat(fd, d->d_name, &procs[proc_count]))
                proc_count++;
        }
    }
    close(fd);
}

/* The kernel lists /proc in rising order of pid. */
static const struct proc *find(pid_t pid)
{
    size_t lo = 0, hi = proc_count;
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if (procs[mid].pid == pid)
            return &procs[mid];
        if (procs[mid].pid < pid)
            lo = mid + 1;
        else
            hi = mid;
    }
    return NULL;
}

static bool is_spared(pid_t pid, const pid_t *spared, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (spared[i] == pid)
            return true;
    return false;
}

static void mark(const pid_t *spared, size_t spared_count)
{
    pid_t self = getpid();
    snapshot();
    for (size_t i = 0; i < proc_count; i++)
        procs[i].doomed = procs[i].parent == self && !is_spared(procs[i].pid, spared, spared_count);
    for (bool changed = true; changed;) {
        changed = false;
        for (size_t i = 0; i < proc_count; i++) {
            if (procs[i].doomed)
                continue;
            const struct proc *parent = find(procs[i].parent);
            if (parent && parent->doomed)
                procs[i].doomed = changed = true;
        }
    }
}

static bool is_live(const struct proc *p)
{
    return p->doomed && p->state != 'Z' && p->state != 'X';
}

unsigned tree_signal(int sig, const pid_t *spared, size_t spared_count)
{
    unsigned live = 0;
    mark(spared, spared_count);
    for (size_t i = 0; i < proc_count; i++) {
        if (is_live(&procs[i])) {
            live++;
            (void)kill(procs[i].pid, sig); /* gone meanwhile is what we want */
        }
    }
    return live;
}

unsigned tree_kill(const pid_t *spared, size_t spared_count)
{
    /* Stopped processes do not fork: stop all that are seen until a pass sees no running one, and
     * only then kill. A bomb that forks faster than a pass is met again in the caller's next round.
     */
    for (unsigned pass = 0; pass < 16; pass++) {
        unsigned running = 0;
        mark(spared, spared_count);
        for (size_t i = 0; i < proc_count; i++) {
            if (is_live(&procs[i]) && procs[i].state != 'T' && procs[i].state != 't') {
                running++;
                (void)kill(procs[i].pid, SIGSTOP);
            }
        }
        if (running == 0)
            break;
    }
    return tree_signal(SIGKILL, spared, spared_count);
}

/* Does /proc/<pid>/fd name one of the sockets? budget: descriptors still to be looked at. */
static bool holds_one_of(pid_t pid, const struct listener *sockets, size_t count, size_t *budget)
{
    static char entries[8192] __attribute__((aligned(8)));
    char path[32], target[64];
    (void)snprintf(path, sizeof path, "/proc/%d/fd", (int)pid);
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool found = false;
    long got;
    while (fd >= 0 && !found && (got = syscall(SYS_getdents64, fd, entries, sizeof entries)) > 0) {
        for (long at = 0; at < got && !found && *budget > 0; --*budget) {
            const struct dirent *d = (const struct dirent *)(entries + at);
            at += d->d_reclen;
            ssize_t n = readlinkat(fd, d->d_name, target, sizeof target - 1);
            if (n < 9 || memcmp(target, "socket:[", 8) != 0)
                continue;
            target[n] = 0;
            uint64_t inode = strtoull(target + 8, NULL, 10);
            for (size_t i = 0; i < count && !found; i++)
                found = sockets[i].inode == inode;
        }
        if (*budget == 0)
            break;
    }
    if (fd >= 0)
        close(fd);
    return found;
}

bool tree_listens(void)
{
    const struct listener *sockets;
    size_t count = listeners(&sockets), budget = AGENT_FDS_MAX;
    if (count == 0)
        return false;
    mark(NULL, 0);
    for (size_t i = 0; i < proc_count; i++)
        if (is_live(&procs[i]) && holds_one_of(procs[i].pid, sockets, count, &budget))
            return true;
    return false;
}
