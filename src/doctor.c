/* `sandboxd doctor`: one line a finding, and under each fault a line that says what to do. Checks
 * are the real thing where that is harmless (a firewall table under a throw-away name, a cloned
 * file without a name), and none takes a lock or a port that a running daemon needs. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/limits.h"
#include "base/str.h"
#include "commands.h"
#include "config/config.h"
#include "docker/docker.h"
#include "net/firewall.h"
#include "store/store.h"

#define LITTLE_SPACE_MIB 2048 /* a handful of workspaces */
#define NO_SPACE_MIB 128      /* not even the database is safe */

enum finding { OK, WARN, FAULT_FOUND };

struct report {
    unsigned faults, warnings;
};

static void __attribute__((format(printf, 5, 6)))
say(struct report *r, enum finding f, const char *what, const char *remedy, const char *fmt, ...)
{
    static const char *const words[] = { "ok  ", "warn", "FAIL" };
    va_list ap;
    (void)printf("%s  %s: ", words[f], what);
    va_start(ap, fmt);
    (void)vprintf(fmt, ap);
    va_end(ap);
    (void)printf("\n");
    if (f != OK && remedy && *remedy)
        (void)printf("      remedy: %s\n", remedy);
    r->warnings += f == WARN;
    r->faults += f == FAULT_FOUND;
    (void)fflush(stdout);
}

/* --- the engine --- */

static void check_images(struct report *r, const struct config *c, const struct runtime *rt)
{
    for (uint32_t i = 0; i < c->n_images; i++) {
        struct runtime_image image;
        struct err err;
        if (rt->image(rt->self, c->images[i], &image, &err) == 0)
            say(r, OK, "image", NULL, "%s is there (%.19s)", c->images[i], image.digest);
        else
            say(r, i == 0 ? FAULT_FOUND : WARN, "image",
                i == 0 ? "pull or build it, or name another one in SANDBOXD_IMAGE"
                       : "pull or build it, or take it off SANDBOXD_IMAGES",
                "%s: %s", c->images[i], err.msg);
    }
}

/* A container is granted at most what the Engine itself may have; creating clamps to it. */
static void check_engine_files(struct report *r, const struct config *c)
{
    struct sockaddr_un addr = { .sun_family = AF_UNIX };
    struct ucred peer;
    struct rlimit limit;
    socklen_t len = sizeof peer;
    AUTO(fd) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (!str_copy(addr.sun_path, sizeof addr.sun_path, c->docker_host + strlen("unix://")) ||
        connect(fd, (const struct sockaddr *)(const void *)&addr, sizeof addr) < 0 ||
        getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0 || peer.pid <= 0 ||
        prlimit(peer.pid, RLIMIT_NOFILE, NULL, &limit) < 0)
        return; /* another pid namespace: nothing can be said */
    bool enough = limit.rlim_max >= (rlim_t)c->nofile;
    say(r, enough ? OK : WARN, "engine",
        "raise LimitNOFILE of docker and containerd, or lower SANDBOXD_NOFILE",
        "may open %llu files%s", (unsigned long long)limit.rlim_max,
        enough ? "" : ": sandboxes get at most so many, below SANDBOXD_NOFILE");
}

static void check_engine(struct report *r, const struct config *c)
{
    struct docker *d = NULL;
    struct err err;
    char version[32];
    struct docker_options o = { .host = c->docker_host,
                                .instance = "doctor",
                                .network = c->network[0] ? c->network : NULL,
                                .bridge = "sbxdoctor" };
    if (docker_new(&o, &d, &err) < 0) {
        say(r, FAULT_FOUND, "engine", err.remedy, "%s", err.msg);
        return;
    }
    const struct runtime *rt = docker_runtime(d);
    AUTO(buf) struct buf text = BUF_INIT(64 * KIB);
    if (rt->ping(rt->self, version, &err) < 0) {
        say(r, FAULT_FOUND, "engine",
            err.remedy[0] ? err.remedy : "start the Docker Engine, or correct DOCKER_HOST", "%s",
            err.msg);
        docker_free(d);
        return;
    }
    say(r, OK, "engine", NULL, "answers, version %s", version);
    if (docker_describe(d, &text, &err) < 0) {
        say(r, WARN, "engine", err.remedy, "%s", err.msg);
    } else {
        const char *line = buf_str(&text);
        for (size_t n; *line; line += n + (line[n] == '\n')) {
            n = strcspn(line, "\n");
            if (n > 0)
                say(r, OK, "engine", NULL, "%.*s", (int)n, line);
        }
    }
    check_engine_files(r, c);
    if (c->network[0]) {
        if (docker_network_ensure(d, &err) < 0)
            say(r, FAULT_FOUND, "network", err.remedy, "%s", err.msg);
        else
            say(r, OK, "network", NULL, "%s is there", c->network);
    }
    check_images(r, c, rt);
    docker_free(d);
}

/* --- the database library --- */

static void check_sqlite(struct report *r)
{
    bool affected = false;
    const char *version = store_sqlite_version(&affected);
    if (affected)
        say(r, OK, "sqlite", NULL,
            "%s has the WAL-reset bug (T-82: a checkpoint on a second connection may lose a "
            "commit); out of reach here, for one connection alone writes and checkpoints, all "
            "others "
            "are read-only. Never open the database with another program while the daemon runs",
            version);
    else
        say(r, OK, "sqlite", NULL, "%s, without the WAL-reset bug (T-82)", version);
}

/* --- the kernel --- */

static void check_kernel(struct report *r)
{
    struct utsname u;
    struct statfs fs;
    struct open_how how = { .flags = O_PATH | O_CLOEXEC, .resolve = RESOLVE_BENEATH };
    if (uname(&u) == 0)
        say(r, OK, "kernel", NULL, "%s %s %s", u.sysname, u.release, u.machine);
    AUTO(fd) int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    AUTO(fd) int fd = (int)syscall(SYS_openat2, root, ".", &how, sizeof how);
    if (fd >= 0)
        say(r, OK, "openat2", NULL, "works");
    else
        say(r, FAULT_FOUND, "openat2",
            "use Linux 5.6 or later, and a seccomp profile that lets openat2 through",
            "missing (errno %d): workspaces cannot be reached safely", errno);
    AUTO(fd) int pid_fd = (int)syscall(SYS_pidfd_open, getpid(), 0);
    if (pid_fd >= 0)
        say(r, OK, "pidfd", NULL, "works");
    else
        say(r, WARN, "pidfd", "use Linux 5.3 or later", "missing (errno %d)", errno);
    if (statfs("/sys/fs/cgroup", &fs) < 0)
        say(r, WARN, "cgroup", "mount the control groups", "/sys/fs/cgroup is not there");
    else if (fs.f_type == CGROUP2_SUPER_MAGIC)
        say(r, OK, "cgroup", NULL, "version 2");
    else
        say(r, OK, "cgroup", NULL,
            "version 1 (memory and process limits work; version 2 is better)");
}

/* The capability mask of this process, 0 when it cannot be read. */
static uint64_t own_capabilities(void)
{
    struct err err;
    AUTO(buf) struct buf text = BUF_INIT(64 * KIB);
    AUTO(fd) int fd = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fd_read_to_end(fd, &text, &err) < 0)
        return 0;
    const char *at = strstr(buf_str(&text), "\nCapEff:");
    return at ? strtoull(at + strlen("\nCapEff:"), NULL, 16) : 0;
}

static void check_rights(struct report *r, const struct config *c)
{
    static const struct {
        const char *name;
        unsigned bit;
        bool firewall; /* asked for only with it */
        const char *use;
    } need[] = {
        { "CAP_CHOWN", 0, false, "workspaces belong to uid 1000" },
        { "CAP_DAC_OVERRIDE", 1, false, "workspaces are reached whatever their modes" },
        { "CAP_FOWNER", 3, false, "modes of workspaces are set" },
        { "CAP_NET_ADMIN", 12, true, "the firewall" },
    };
    uint64_t have = own_capabilities();
    bool all = true;
    for (size_t i = 0; i < sizeof need / sizeof need[0]; i++) {
        if ((have >> need[i].bit & 1) || (need[i].firewall && !c->firewall))
            continue;
        all = false;
        say(r, FAULT_FOUND, "rights", "run sandboxd as root, or give it this capability",
            "%s is missing (%s)", need[i].name, need[i].use);
    }
    if (all)
        say(r, OK, "rights", NULL, "uid %u with the capabilities that are needed", geteuid());
}

static void check_own_files(struct report *r)
{
    struct rlimit limit = { 0 };
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        return;
    /* a sandbox holds a listener and a control connection, each exec one more */
    if (limit.rlim_max < 8192)
        say(r, WARN, "descriptors", "raise the daemon's hard limit (LimitNOFILE= or ulimit -Hn)",
            "the daemon may open %llu: too few for 1,000 sandboxes",
            (unsigned long long)limit.rlim_max);
    else
        say(r, OK, "descriptors", NULL, "the daemon may open %llu",
            (unsigned long long)limit.rlim_max);
}

/* --- the data directory --- */

static const char *fs_name(const struct statfs *fs)
{
    static const struct {
        unsigned long magic;
        const char *name;
    } names[] = {
        { EXT4_SUPER_MAGIC, "ext4" },    { XFS_SUPER_MAGIC, "xfs" },
        { BTRFS_SUPER_MAGIC, "btrfs" },  { OVERLAYFS_SUPER_MAGIC, "overlay" },
        { TMPFS_MAGIC, "tmpfs" },        { NFS_SUPER_MAGIC, "nfs" },
        { 0x2fc12fc1 /* zfs */, "zfs" }, { 0x65735546 /* fuse */, "fuse" },
    };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if ((unsigned long)fs->f_type == names[i].magic)
            return names[i].name;
    return "other";
}

/* Clones a file without a name; leaves nothing behind. */
static bool reflinks(const char *dir)
{
    AUTO(fd) int from = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    AUTO(fd) int to = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    static const char block[4096];
    return from >= 0 && to >= 0 && fd_write_all(from, block, sizeof block) == 0 &&
           ioctl(to, FICLONE, from) == 0;
}

static void check_space(struct report *r, const char *dir)
{
    struct statfs fs;
    if (statfs(dir, &fs) < 0) {
        say(r, FAULT_FOUND, "file system", NULL, "%s cannot be looked at (errno %d)", dir, errno);
        return;
    }
    const char *name = fs_name(&fs);
    unsigned long long free_mib = (unsigned long long)fs.f_bavail * (uint64_t)fs.f_bsize / MIB;
    say(r, str_eq(name, "nfs") || str_eq(name, "fuse") ? FAULT_FOUND : OK, "file system",
        "put SANDBOXED_DATA_DIR on a local disk", "%s, %s", name,
        reflinks(dir) ? "with reflinks (new workspaces share blocks)"
                      : "no reflinks (each new workspace is a full copy)");
    if (str_eq(name, "tmpfs"))
        say(r, WARN, "file system", "put SANDBOXED_DATA_DIR on a disk",
            "tmpfs: everything is lost at the next boot");
    say(r,
        free_mib < NO_SPACE_MIB       ? FAULT_FOUND
        : free_mib < LITTLE_SPACE_MIB ? WARN
                                      : OK,
        "free space", "make room, or move SANDBOXED_DATA_DIR to a larger disk", "%llu MiB",
        free_mib);
}

static void check_data_dir(struct report *r, const struct config *c)
{
    char path[DATA_DIR_MAX + 1];
    struct stat st;
    bool made = stat(c->data_dir, &st) == 0;
    (void)str_copy(path, sizeof path, c->data_dir);
    if (!made) {
        say(r, OK, "data directory", NULL, "%s is made at the first start", c->data_dir);
        while (stat(path, &st) < 0) { /* "/" always is there */
            char *slash = strrchr(path, '/');
            slash[slash == path] = 0;
        }
    }
    if (!S_ISDIR(st.st_mode)) {
        say(r, FAULT_FOUND, "data directory", "name another SANDBOXED_DATA_DIR",
            "%s is not a directory", path);
        return;
    }
    if (made && st.st_uid != geteuid())
        say(r, FAULT_FOUND, "data directory", "chown it to the user that runs sandboxd",
            "%s belongs to uid %u", path, st.st_uid);
    else if (made && (st.st_mode & 077))
        say(r, WARN, "data directory", "chmod 0700 it", "%s has mode %04o", path,
            st.st_mode & 07777);
    else if (made)
        say(r, OK, "data directory", NULL, "%s, mode %04o", path, st.st_mode & 07777);
    check_space(r, path);
}

/* --- firewall and ports --- */

static void check_firewall(struct report *r, const struct config *c)
{
    uint8_t random[8];
    char probe[17];
    struct err err;
    if (!c->firewall) {
        say(r, WARN, "firewall", "set SANDBOXD_FIREWALL=true, or guard the network yourself",
            "off: nothing keeps sandboxes from services of this host");
        return;
    }
    random_bytes(random, sizeof random);
    hex_encode(random, sizeof random, probe);
    if (firewall_apply(probe, "sbxdoctor", &err) < 0) {
        say(r, FAULT_FOUND, "firewall",
            err.remedy[0]
                ? err.remedy
                : "run as root with nf_tables in the kernel, or set SANDBOXD_FIREWALL=false "
                  "and guard the network yourself",
            "%s", err.msg);
        return;
    }
    int there = firewall_check(probe, "sbxdoctor", &err);
    if (there == 1)
        say(r, OK, "firewall", NULL, "nftables takes our rules (tried with a throw-away table)");
    else
        say(r, FAULT_FOUND, "firewall", "update nftables and the kernel",
            "rules that were just set do not read back%s%s", there < 0 ? ": " : "",
            there < 0 ? err.msg : "");
    if (firewall_remove(probe, &err) < 0)
        say(r, WARN, "firewall", "nft delete table inet sandboxed_<the name>",
            "the throw-away table %s stays: %s", probe, err.msg);
}

static socklen_t bind_address(const struct config_bind *b, struct sockaddr_storage *ret)
{
    struct sockaddr_in *four = (struct sockaddr_in *)(void *)ret;
    struct sockaddr_in6 *six = (struct sockaddr_in6 *)(void *)ret;
    *ret = (struct sockaddr_storage){ 0 };
    if (inet_pton(AF_INET, b->host, &four->sin_addr) == 1) {
        four->sin_family = AF_INET;
        four->sin_port = htons(b->port);
        return sizeof *four;
    }
    (void)inet_pton(AF_INET6, b->host, &six->sin6_addr); /* config let only addresses through */
    six->sin6_family = AF_INET6;
    six->sin6_port = htons(b->port);
    return sizeof *six;
}

/* Is it a sandboxd that answers there: its API, or its edge, which knows no preview by that name?
 */
static bool is_ours(const struct sockaddr_storage *addr, socklen_t len)
{
    static const char request[] =
        "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    char reply[2048];
    size_t got = 0;
    int64_t deadline_ms = clock_mono_ms() + 2000;
    AUTO(fd) int fd = socket(addr->ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (const struct sockaddr *)(const void *)addr, len) < 0 ||
        fd_write_all(fd, request, sizeof request - 1) < 0)
        return false;
    while (got < sizeof reply - 1 && fd_wait(fd, POLLIN, deadline_ms) == 1) {
        ssize_t n = read(fd, reply + got, sizeof reply - 1 - got);
        if (n <= 0)
            break;
        got += (size_t)n;
    }
    reply[got] = 0;
    return (str_starts(reply, "HTTP/1.1 200") && strcasestr(reply, "\nX-Request-Id:")) ||
           strstr(reply, "\r\n\r\nThere is no such preview");
}

static void check_port(struct report *r, const char *knob, const char *text,
                       const struct config_bind *b)
{
    struct sockaddr_storage addr;
    socklen_t len = bind_address(b, &addr);
    const int on = 1;
    AUTO(fd) int fd = socket(addr.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        say(r, FAULT_FOUND, knob, "enable this address family, or bind elsewhere", "%s: errno %d",
            text, errno);
        return;
    }
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on); /* as the daemon does */
    if (bind(fd, (const struct sockaddr *)(const void *)&addr, len) == 0)
        say(r, OK, knob, NULL, "%s is free", text);
    else if (errno == EADDRINUSE && is_ours(&addr, len))
        say(r, OK, knob, NULL, "%s: a sandboxd answers there", text);
    else
        say(r, FAULT_FOUND, knob, "end what listens there, or set another address", "%s: %s", text,
            errno == EADDRINUSE ? "in use by another program" : "cannot be bound on this machine");
}

static void check_env_file(struct report *r, const char *env_file, const struct config *c)
{
    struct stat st;
    if (env_file && c->n_tokens > 0 && stat(env_file, &st) == 0 && (st.st_mode & 077))
        say(r, WARN, "settings", "chmod 0600 it", "%s holds tokens and has mode %04o", env_file,
            st.st_mode & 07777);
}

int doctor(const char *env_file)
{
    struct report r = { 0 };
    struct config c = { 0 };
    struct err err;
    if (config_load(env_file, &c, &err) == 0) {
        say(&r, OK, "settings", NULL, "valid; API at %s, %s", c.api_bind,
            c.auth_disabled ? "without tokens (this machine only)" : "with tokens");
        check_env_file(&r, env_file, &c);
        check_engine(&r, &c);
        check_data_dir(&r, &c);
        say(&r, WARN, "volumes", "watch free space; give only trusted tenants this host",
            "directories: a workspace's limit is shown, not enforced (disk.enforced is \"none\")");
        check_firewall(&r, &c);
        check_port(&r, "API port", c.api_bind, &c.api);
        check_port(&r, "edge port", c.edge_bind, &c.edge);
        check_rights(&r, &c);
    } else {
        say(&r, FAULT_FOUND, "settings", err.remedy[0] ? err.remedy : "see sandboxd --print-env",
            "%s", err.msg);
        (void)printf("      engine, data directory, firewall and ports were not looked at\n");
    }
    check_sqlite(&r);
    check_kernel(&r);
    check_own_files(&r);
    config_release(&c);
    (void)printf("%u faults, %u warnings\n", r.faults, r.warnings);
    return r.faults > 0 ? 1 : 0;
}
