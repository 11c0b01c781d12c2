/* The real agent against the real link, on this machine instead of in a container: the agent then
 * is a subreaper in the place of PID 1. It runs without privileges when the test has some to drop,
 * under a uid of its own: an agent tells of all ports of its uid, other tests' too. One program,
 * one rig: rig_up, commands, rig_down. */
#ifndef SUPPORT_AGENTRIG_H
#define SUPPORT_AGENTRIG_H

#include <errno.h>
#include <grp.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/limits.h"
#include "base/str.h"
#include "check.h"
#include "link/link.h"

#define SOON 30000 /* ms; far more than anything here takes */

static char home[64], run_dir[PATH_BYTES_MAX], socket_path[PATH_BYTES_MAX + 16];
static struct link *lnk;
static struct sandbox_id id;
static uint8_t secret[FRAME_SECRET];
static pid_t agent_pid;
static struct err err;

static inline int64_t soon(void)
{
    return clock_mono_ms() + SOON;
}

/* As a kernel, or an Engine's seccomp profile, that does not know openat2. */
static inline void forbid_openat2(void)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_openat2, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = { .len = sizeof code / sizeof *code, .filter = code };
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0)
        _exit(97);
}

static inline void agent_start(bool old_kernel)
{
    unsigned own = 10000 + (unsigned)getpid() % 50000;
    agent_pid = fork();
    if (agent_pid == 0) {
        if (old_kernel)
            forbid_openat2();
        if (getuid() == 0 && (setgroups(0, NULL) < 0 || setgid(own) < 0 || setuid(own) < 0))
            _exit(99);
        char *const argv[] = { (char[]){ "sandbox-agent" }, socket_path, NULL };
        char *const env[] = { (char[]){ "PATH=/usr/bin:/bin" }, (char[]){ "FROM_IMAGE=1" },
                              (char[]){ "BOTH=image" }, NULL };
        execve(link_agent_path(lnk), argv, env);
        _exit(98);
    }
}

/* --- one command --- */

struct run {
    struct buf out, err;
    uint32_t pid;
    int error; /* of FRAME_FAILED */
    unsigned step;
    struct frame_exit exit;
    bool exited;
};

static inline void run_release(struct run *r)
{
    buf_release(&r->out);
    buf_release(&r->err);
}

/* words and env: "a@b@c". base: all but these. */
static inline int spawn_like(const struct frame_spawn *base, const char *words, const char *env,
                             int *ret_fd)
{
    AUTO(free) char *argv = str_dup(words);
    AUTO(free) char *vars = str_dup(env);
    struct frame_spawn s = *base;
    s.argv = argv;
    s.argc = 1;
    s.env = vars;
    s.envc = env[0] != 0;
    size_t argv_len = strlen(argv) + 1, env_len = env[0] ? strlen(env) + 1 : 0;
    for (char *c = argv; *c || c < argv + argv_len - 1; c++)
        if (*c == '@')
            *c = 0, s.argc++;
    for (char *c = vars; c + 1 < vars + env_len; c++)
        if (*c == '@')
            *c = 0, s.envc++;
    return link_spawn(lnk, &id, &s, argv_len, env_len, soon(), ret_fd, &err);
}

static inline int spawn_in(const char *cwd, const char *words, const char *env, uint32_t flags,
                           uint32_t timeout_ms, int *ret_fd)
{
    struct frame_spawn base = { .timeout_ms = timeout_ms, .flags = flags, .cwd = cwd };
    return spawn_like(&base, words, env, ret_fd);
}

static inline int spawn(const char *words, uint32_t flags, uint32_t timeout_ms)
{
    int fd = -1;
    if (!CHECK_ROW(words, spawn_in("/tmp", words, "", flags, timeout_ms, &fd) == 0))
        printf("# %s\n", err.msg);
    return fd;
}

/* Reads one frame into space; its type, or 0 at the end. */
static uint8_t space[FRAME_PAYLOAD_MAX];
static inline unsigned next_frame(int fd, uint32_t *ret_len)
{
    uint8_t header[FRAME_HEADER];
    enum frame_type type;
    if (fd_wait(fd, POLLIN, soon()) <= 0 || fd_read_all(fd, header, sizeof header) < 0 ||
        frame_peek(header, sizeof header, &type, ret_len) != 1 ||
        fd_read_all(fd, space, *ret_len) < 0)
        return 0;
    return type;
}

/* Reads until `until` (or the end) and keeps what came. */
static inline void collect_until(int fd, struct run *r, enum frame_type until)
{
    unsigned type;
    uint32_t len;
    while ((type = next_frame(fd, &len)) != 0) {
        struct frame f = { .type = type, .payload = space, .len = len };
        if (type == FRAME_STARTED)
            r->pid = frame_u32(space);
        else if (type == FRAME_STDOUT)
            buf_add(&r->out, space, len);
        else if (type == FRAME_STDERR)
            buf_add(&r->err, space, len);
        else if (type == FRAME_FAILED)
            r->error = (int)frame_u32(space), r->step = space[4];
        else if (type == FRAME_EXIT)
            r->exited = frame_get_exit(&f, &r->exit) == 0;
        if (type == until)
            return;
    }
}

#define RUN_INIT                                           \
    {                                                      \
        .out = BUF_INIT(8 * MIB), .err = BUF_INIT(8 * MIB) \
    }

static inline void collect_lines(int fd, struct run *r, size_t want)
{
    for (size_t lines = 0; lines < want && !r->exited;) {
        size_t before = r->out.len;
        collect_until(fd, r, FRAME_STDOUT);
        if (r->out.len == before)
            return; /* the stream has ended */
        lines = 0;
        for (const char *c = buf_str(&r->out); *c; c++)
            lines += *c == '\n';
    }
}

static inline void collect(int fd, struct run *r)
{
    collect_until(fd, r, FRAME_EXIT);
    (void)close(fd);
}

static inline void send_frame(int fd, enum frame_type type, const void *data, uint32_t len)
{
    uint8_t header[FRAME_HEADER];
    frame_header(header, type, len);
    CHECK(fd_write_all(fd, header, sizeof header) == 0);
    if (len > 0)
        CHECK(fd_write_all(fd, data, len) == 0);
}

static inline void send_number(int fd, enum frame_type type, uint32_t number)
{
    uint8_t payload[4];
    frame_set_u32(payload, number);
    send_frame(fd, type, payload, sizeof payload);
}

/* Waits until no process has this number; the watched ones are not our children. */
static inline bool gone(uint32_t pid)
{
    int64_t deadline = soon();
    while (kill((pid_t)pid, 0) == 0 && clock_mono_ms() < deadline)
        (void)poll(NULL, 0, 2);
    return kill((pid_t)pid, 0) < 0 && errno == ESRCH;
}

/* Numbers that the command printed, one a line. */
static inline bool all_gone(const struct buf *out, size_t want)
{
    size_t seen = 0;
    for (const char *at = buf_str(out); *at; at += strcspn(at, "\n") + (strchr(at, '\n') != NULL)) {
        seen++;
        if (!gone((uint32_t)strtoul(at, NULL, 10)))
            return false;
    }
    return seen == want;
}

static inline int dial(const struct frame_hello *h)
{
    struct sockaddr_un addr = { .sun_family = AF_UNIX };
    uint8_t hello[FRAME_HEADER + FRAME_HELLO_LEN];
    CHECK(str_copy(addr.sun_path, sizeof addr.sun_path, socket_path));
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(fd >= 0 && connect(fd, (struct sockaddr *)&addr, sizeof addr) == 0);
    if (h) {
        frame_header(hello, FRAME_HELLO, FRAME_HELLO_LEN);
        frame_put_hello(hello + FRAME_HEADER, h);
        (void)send(fd, hello, sizeof hello, MSG_NOSIGNAL);
    }
    return fd;
}

static inline bool is_closed(int fd)
{
    char c;
    bool closed = fd_wait(fd, POLLIN, soon()) > 0 && recv(fd, &c, 1, 0) <= 0;
    (void)close(fd);
    return closed;
}

/* Where the agent of the current id is expected. */
static inline void rig_socket(void)
{
    link_run_dir(lnk, &id, run_dir, sizeof run_dir);
    (void)snprintf(socket_path, sizeof socket_path, "%s/agent.sock", run_dir);
}

static inline bool rig_up(void)
{
    (void)signal(SIGPIPE, SIG_IGN);
    (void)snprintf(home, sizeof home, "/tmp/sandboxd-link-XXXXXX");
    CHECK(mkdtemp(home) && chmod(home, 0777) == 0);
    sandbox_id_new(&id);
    random_bytes(secret, sizeof secret);
    if (!CHECK(link_new(home, &lnk, &err) == 0))
        return false;
    rig_socket();
    agent_start(false); /* it may come first: it dials until somebody is there */
    CHECK(link_expect(lnk, &id, secret, true, &err) == 0);
    return CHECK(link_wait_ready(lnk, &id, soon(), &err) == 0);
}

static inline void rig_down(void)
{
    if (agent_pid > 0)
        CHECK(kill(agent_pid, SIGTERM) == 0 && waitpid(agent_pid, NULL, 0) == agent_pid);
    link_forget(lnk, &id);
    CHECK(access(run_dir, F_OK) < 0);
    link_free(lnk);
    pid_t rm = fork();
    if (rm == 0) {
        (void)execlp("rm", "rm", "-rf", "--", home, NULL);
        _exit(1);
    }
    CHECK(waitpid(rm, NULL, 0) == rm && access(home, F_OK) < 0);
}

#endif
