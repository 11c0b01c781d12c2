/* The real agent against the real link, on this machine instead of in a container: the agent then
 * is a subreaper in the place of PID 1. It runs without privileges (uid 1000) when the test has
 * some to drop. */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
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

#define SOON 10000 /* ms; far more than anything here takes */

static char home[64], run_dir[PATH_BYTES_MAX], socket_path[PATH_BYTES_MAX + 16];
static struct link *lnk;
static struct sandbox_id id;
static uint8_t secret[FRAME_SECRET];
static pid_t agent_pid;
static struct err err;

static int64_t soon(void)
{
    return clock_mono_ms() + SOON;
}

/* As a kernel, or an Engine's seccomp profile, that does not know openat2. */
static void forbid_openat2(void)
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

static void agent_start(bool old_kernel)
{
    agent_pid = fork();
    if (agent_pid == 0) {
        if (old_kernel)
            forbid_openat2();
        if (getuid() == 0 && (setgroups(0, NULL) < 0 || setgid(1000) < 0 || setuid(1000) < 0))
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

static void run_release(struct run *r)
{
    buf_release(&r->out);
    buf_release(&r->err);
}

/* words and env: "a@b@c". */
static int spawn_in(const char *cwd, const char *words, const char *env, uint32_t flags,
                    uint32_t timeout_ms, int *ret_fd)
{
    AUTO(free) char *argv = str_dup(words);
    AUTO(free) char *vars = str_dup(env);
    struct frame_spawn s = { .timeout_ms = timeout_ms,
                             .flags = flags,
                             .cwd = cwd,
                             .argv = argv,
                             .argc = 1,
                             .env = vars,
                             .envc = env[0] != 0 };
    size_t argv_len = strlen(argv) + 1, env_len = env[0] ? strlen(env) + 1 : 0;
    for (char *c = argv; *c || c < argv + argv_len - 1; c++)
        if (*c == '@')
            *c = 0, s.argc++;
    for (char *c = vars; c + 1 < vars + env_len; c++)
        if (*c == '@')
            *c = 0, s.envc++;
    return link_spawn(lnk, &id, &s, argv_len, env_len, soon(), ret_fd, &err);
}

static int spawn(const char *words, uint32_t flags, uint32_t timeout_ms)
{
    int fd = -1;
    if (!CHECK_ROW(words, spawn_in("/tmp", words, "", flags, timeout_ms, &fd) == 0))
        printf("# %s\n", err.msg);
    return fd;
}

/* Reads one frame into space; its type, or 0 at the end. */
static uint8_t space[FRAME_PAYLOAD_MAX];
static unsigned next_frame(int fd, uint32_t *ret_len)
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
static void collect_until(int fd, struct run *r, enum frame_type until)
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

static void collect_lines(int fd, struct run *r, size_t want)
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

static void collect(int fd, struct run *r)
{
    collect_until(fd, r, FRAME_EXIT);
    (void)close(fd);
}

static void send_frame(int fd, enum frame_type type, const void *data, uint32_t len)
{
    uint8_t header[FRAME_HEADER];
    frame_header(header, type, len);
    CHECK(fd_write_all(fd, header, sizeof header) == 0);
    if (len > 0)
        CHECK(fd_write_all(fd, data, len) == 0);
}

static void send_number(int fd, enum frame_type type, uint32_t number)
{
    uint8_t payload[4];
    frame_set_u32(payload, number);
    send_frame(fd, type, payload, sizeof payload);
}

/* Waits until no process has this number; the watched ones are not our children. */
static bool gone(uint32_t pid)
{
    int64_t deadline = soon();
    while (kill((pid_t)pid, 0) == 0 && clock_mono_ms() < deadline)
        (void)poll(NULL, 0, 2);
    return kill((pid_t)pid, 0) < 0 && errno == ESRCH;
}

/* --- tables --- */

static const struct plain_row {
    const char *words, *out, *err;
    int code;
    uint32_t signal;
} plain_rows[] = {
    { "true", "", "", 0, 0 },
    { "/bin/true", "", "", 0, 0 },
    { "false", "", "", 1, 0 },
    { "sh@-c@exit 7", "", "", 7, 0 },
    { "sh@-c@exit 255", "", "", 255, 0 },
    { "sh@-c@echo out; echo err >&2; exit 3", "out\n", "err\n", 3, 0 },
    { "printf@%s", "", "", 0, 0 },
    { "printf@<%s>@a b@@c", "<a b><><c>", "", 0, 0 },
    { "sh@-c@kill -9 $$", "", "", 137, 9 },
    { "sh@-c@kill -TERM $$", "", "", 143, 15 },
    { "sh@-c@kill -SEGV $$", "", "", 139, 11 },
    { "cat", "", "", 0, 0 },
    { "pwd", "/tmp\n", "", 0, 0 },
    { "sh@-c@ls /proc/self/fd | wc -l", "4\n", "", 0, 0 },
    { "sh@-c@grep -E '^Sig(Ign|Blk)' /proc/self/status | tr -d '\\t\\n'",
      "SigBlk:0000000000000000SigIgn:0000000000000000", "", 0, 0 },
    { "sh@-c@[ $(cut -d' ' -f6 /proc/$$/stat) = $$ ] && echo leader", "leader\n", "", 0, 0 },
};

static void check_plain(void)
{
    for (size_t i = 0; i < sizeof plain_rows / sizeof *plain_rows; i++) {
        const struct plain_row *p = &plain_rows[i];
        struct run r = RUN_INIT;
        collect(spawn(p->words, 0, 0), &r);
        CHECK_ROW(p->words, r.exited && r.pid > 1);
        CHECK_ROW(p->words, r.exit.code == p->code && r.exit.signal == p->signal);
        CHECK_ROW(p->words, !r.exit.timed_out && !r.exit.leftovers);
        CHECK_STR(p->out, buf_str(&r.out));
        CHECK_STR(p->err, buf_str(&r.err));
        run_release(&r);
    }
}

static const struct failed_row {
    const char *name, *cwd, *words;
    unsigned step;
    int error;
} failed_rows[] = {
    { "no such command", "/tmp", "no-such-command-here", STEP_EXEC, ENOENT },
    { "no such file", "/tmp", "/no/such/file", STEP_EXEC, ENOENT },
    { "not executable", "/tmp", "/etc/passwd", STEP_EXEC, EACCES },
    { "a directory", "/tmp", "/etc", STEP_EXEC, EACCES },
    { "empty name", "/tmp", "", STEP_EXEC, ENOENT },
    { "script without interpreter line", "/tmp", "./plain-script", STEP_EXEC, ENOEXEC },
    { "no such directory", "/tmp/no-such-directory", "true", STEP_CWD, ENOENT },
    { "a file as directory", "/etc/passwd", "true", STEP_CWD, ENOTDIR },
    { "directory out of bounds", "/etc", "true", STEP_CWD, EPERM },
    { "out of bounds by dots", "/tmp/../etc", "true", STEP_CWD, EPERM },
    { "out of bounds by link", "link-to-etc", "true", STEP_CWD, EPERM },
    { "magic link", "/proc/self/cwd", "true", STEP_CWD, ELOOP },
    { "magic link of another", "/proc/1/root", "true", STEP_CWD, EACCES },
    { "link to a magic link", "link-to-magic", "true", STEP_CWD, ELOOP },
    { "name like a root", "/tmpfoo", "true", STEP_CWD, ENOENT },
};

static void check_refused(void)
{
    char path[2][128];
    (void)snprintf(path[0], sizeof path[0], "%s/link-to-etc", home);
    CHECK(symlink("/etc", path[0]) == 0);
    (void)snprintf(path[1], sizeof path[1], "%s/link-to-magic", home);
    CHECK(symlink("/proc/self/cwd", path[1]) == 0);
    char script[128];
    (void)snprintf(script, sizeof script, "%s/plain-script", home);
    AUTO(fd) int fd = open(script, O_CREAT | O_WRONLY | O_CLOEXEC, 0755);
    CHECK(fd >= 0 && fd_write_all(fd, "echo never\n", 11) == 0 && fchmod(fd, 0755) == 0);
    (void)close(TAKE_FD(fd));

    for (size_t i = 0; i < sizeof failed_rows / sizeof *failed_rows; i++) {
        const struct failed_row *p = &failed_rows[i];
        const char *cwd = p->cwd;
        if (str_eq(cwd, "link-to-etc"))
            cwd = path[0];
        if (str_eq(cwd, "link-to-magic"))
            cwd = path[1];
        if (str_eq(p->words, "./plain-script"))
            cwd = home;
        struct run r = RUN_INIT;
        int stream = -1;
        CHECK_ROW(p->name, spawn_in(cwd, p->words, "", 0, 0, &stream) == 0);
        collect(stream, &r);
        if (!CHECK_ROW(p->name, r.error == p->error && r.step == p->step && !r.exited && !r.pid))
            printf("# got error %d at step %u\n", r.error, r.step);
        run_release(&r);
    }
}

static void check_env(void)
{
    struct run r = RUN_INIT;
    int fd = -1;
    CHECK(spawn_in("/", "env", "BOTH=request@MORE=a=b@EMPTY=", 0, 0, &fd) == 0);
    collect(fd, &r);
    CHECK_STR("PATH=/usr/bin:/bin\nFROM_IMAGE=1\nBOTH=request\nMORE=a=b\nEMPTY=\n",
              buf_str(&r.out));
    run_release(&r);

    /* PATH is the command's own. */
    r = (struct run)RUN_INIT;
    CHECK(spawn_in("/", "true", "PATH=/nowhere", 0, 0, &fd) == 0);
    collect(fd, &r);
    CHECK(r.error == ENOENT && r.step == STEP_EXEC);
    run_release(&r);
}

/* --- stdin and output together --- */

struct writer {
    int fd;
    size_t total;
};

static void *write_stdin(void *arg)
{
    const struct writer *w = arg;
    static uint8_t data[FRAME_HEADER + 100 * KIB];
    memset(data, 'x', sizeof data);
    for (size_t left = w->total; left > 0;) {
        uint32_t n = left < 100 * KIB ? (uint32_t)left : 100 * KIB;
        frame_header(data, FRAME_STDIN, n);
        if (fd_write_all(w->fd, data, FRAME_HEADER + n) < 0)
            return NULL; /* the command was done with it */
        left -= n;
    }
    frame_header(data, FRAME_EOF, 0);
    (void)fd_write_all(w->fd, data, FRAME_HEADER);
    return NULL;
}

static void check_stdin(void)
{
    struct run r = RUN_INIT;
    int fd = spawn("cat", SPAWN_STDIN, 0);
    send_frame(fd, FRAME_STDIN, "hello ", 6);
    send_frame(fd, FRAME_STDIN, "world", 5);
    send_frame(fd, FRAME_EOF, NULL, 0);
    collect(fd, &r);
    CHECK_STR("hello world", buf_str(&r.out));
    run_release(&r);

    static const struct {
        const char *words;
        size_t out;
        int code;
    } rows[] = {
        { "cat", 4 * MIB, 0 },
        { "wc@-c", 8, 0 },
        { "sh@-c@head -c 10; exec <&-; exec sleep 0.1", 10, 0 },
        { "sh@-c@exec <&-; sleep 0.1; exit 4", 0, 4 },
        { "sh@-c@sleep 0.1; exit 5", 0, 5 },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        r = (struct run)RUN_INIT;
        struct writer w = { .fd = spawn(rows[i].words, SPAWN_STDIN, 0), .total = 4 * MIB };
        pthread_t thread;
        CHECK(pthread_create(&thread, NULL, write_stdin, &w) == 0);
        collect_until(w.fd, &r, FRAME_EXIT);
        (void)shutdown(w.fd, SHUT_RDWR);
        (void)pthread_join(thread, NULL);
        (void)close(w.fd);
        CHECK_ROW(rows[i].words, r.exited && r.exit.code == rows[i].code);
        CHECK_ROW(rows[i].words, r.out.len == rows[i].out);
        run_release(&r);
    }
}

static void check_output(void)
{
    struct run r = RUN_INIT;
    int fd = spawn("sh@-c@head -c 1048576 /dev/zero & head -c 1048576 /dev/zero >&2; wait", 0, 0);
    collect_until(fd, &r, FRAME_STARTED);
    (void)poll(NULL, 0, 50); /* a slow reader: everything fills up meanwhile */
    collect(fd, &r);
    CHECK(r.exited && r.exit.code == 0 && r.out.len == MIB && r.err.len == MIB);
    run_release(&r);

    /* The command waits for a reader that does not read: it is not lost, nor is memory used for it.
     */
    r = (struct run)RUN_INIT;
    fd = spawn("sh@-c@head -c 4000000 /dev/zero; echo end >&2", 0, 0);
    (void)poll(NULL, 0, 100);
    collect(fd, &r);
    CHECK(r.exited && r.out.len == 4000000);
    CHECK_STR("end\n", buf_str(&r.err));
    run_release(&r);
}

/* --- ends --- */

static void check_signals(void)
{
    static const struct {
        const char *words;
        uint32_t send, code, signal;
    } rows[] = {
        { "sh@-c@echo up; exec sleep 100", SIGTERM, 143, SIGTERM },
        { "sh@-c@echo up; exec sleep 100", SIGINT, 130, SIGINT },
        { "sh@-c@trap 'exit 9' USR1; echo up; while :; do sleep 0.01; done", SIGUSR1, 9, 0 },
        { "sh@-c@echo up; sleep 100 | cat", SIGKILL, 137, SIGKILL },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct run r = RUN_INIT;
        int fd = spawn(rows[i].words, 0, 0);
        collect_until(fd, &r, FRAME_STDOUT);
        send_number(fd, FRAME_SIGNAL, rows[i].send);
        collect(fd, &r);
        CHECK_ROW(rows[i].words,
                  r.exited && r.exit.code == (int)rows[i].code && r.exit.signal == rows[i].signal);
        run_release(&r);
    }
}

static void check_timeout(void)
{
    struct run r = RUN_INIT;
    int64_t began = clock_mono_ms();
    collect(spawn("sleep@100", 0, 50), &r);
    CHECK(r.exited && r.exit.timed_out && r.exit.code == 143 && r.exit.signal == SIGTERM);
    CHECK_ROW("at once", clock_mono_ms() - began < EXEC_KILL_GRACE_MS);
    run_release(&r);

    r = (struct run)RUN_INIT;
    collect(spawn("sh@-c@trap '' TERM; echo $$; while :; do sleep 1; done", 0, 1000), &r);
    CHECK_ROW("deaf to TERM", r.exited && r.exit.timed_out && r.exit.signal == SIGKILL);
    CHECK(gone(r.pid));
    run_release(&r);

    r = (struct run)RUN_INIT;
    collect(spawn("sh@-c@kill -STOP $$", 0, 1000), &r);
    CHECK_ROW("stopped", r.exited && r.exit.timed_out && r.exit.signal == SIGKILL);
    run_release(&r);

    r = (struct run)RUN_INIT;
    int fd = spawn("sh@-c@trap '' TERM; echo up; while :; do sleep 1; done", 0, 0);
    collect_until(fd, &r, FRAME_STDOUT);
    send_number(fd, FRAME_KILL, 50);
    collect(fd, &r);
    CHECK_ROW("by request", r.exited && !r.exit.timed_out && r.exit.signal == SIGKILL);
    run_release(&r);
}

/* Numbers that the command printed, one a line. */
static bool all_gone(const struct buf *out, size_t want)
{
    size_t seen = 0;
    for (const char *at = buf_str(out); *at; at += strcspn(at, "\n") + (strchr(at, '\n') != NULL)) {
        seen++;
        if (!gone((uint32_t)strtoul(at, NULL, 10)))
            return false;
    }
    return seen == want;
}

static void check_descendants(void)
{
    static const struct {
        const char *words;
        size_t pids;
    } rows[] = {
        { "sh@-c@sleep 100 & echo $!; read x; true", 1 },
        { "sh@-c@setsid sh -c 'echo $$; exec sleep 100' & read x; true", 1 },
        { "sh@-c@(setsid sh -c 'sleep 100 & echo $!' &) ; read x; true", 1 },
        { "python3@-c@import os,sys\nif os.fork()==0:\n os.setsid()\n if os.fork()==0:\n  "
          "import time,signal\n  signal.signal(signal.SIGTERM,signal.SIG_IGN)\n  "
          "print(os.getpid(),flush=True)\n  time.sleep(100)\n os._exit(0)\n"
          "os.wait()\nsys.stdin.read()",
          1 },
        { "sh@-c@for i in 1 2 3 4 5 6 7 8; do setsid sleep 100 >/dev/null 2>&1 & echo $!; done; "
          "read x; true",
          8 },
        /* A little bomb, deaf to TERM: every process starts two. */
        { "sh@-c@trap '' TERM; b() { [ $1 = 0 ] || { b $(($1-1)) & b $(($1-1)) & }; sleep 100; }; "
          "b 5 & echo $!; read x; true",
          1 },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct run r = RUN_INIT;
        int fd = spawn(rows[i].words, SPAWN_STDIN, 0);
        collect_lines(fd, &r, rows[i].pids);
        send_frame(fd, FRAME_EOF, NULL, 0); /* the command ends, its descendants would not */
        collect(fd, &r);
        CHECK_ROW(rows[i].words, r.exited && r.exit.code == 0 && !r.exit.leftovers);
        CHECK_ROW(rows[i].words, all_gone(&r.out, rows[i].pids));
        run_release(&r);
    }
}

static void check_dropped(void)
{
    struct run r = RUN_INIT;
    int fd = spawn("sh@-c@setsid sh -c 'echo $$; exec sleep 100' & echo $$; wait", 0, 0);
    collect_lines(fd, &r, 2);
    (void)close(fd);
    CHECK_ROW("stream closed", all_gone(&r.out, 2));
    run_release(&r);

    /* ... also while its output has nowhere to go and its stdin nobody takes it. */
    r = (struct run)RUN_INIT;
    fd = spawn("sh@-c@yes", SPAWN_STDIN, 0);
    collect_until(fd, &r, FRAME_STDOUT);
    (void)close(fd);
    CHECK_ROW("stream closed under load", gone(r.pid));
    run_release(&r);
}

static void check_detached(void)
{
    struct run r = RUN_INIT;
    static const char words[] = "sh@-c@cat; yes | head -c 1000000; touch $HERE/done; sleep 100";
    char name[96];
    (void)snprintf(name, sizeof name, "HERE=%s", home);
    int fd = -1;
    CHECK(spawn_in("/tmp", words, name, SPAWN_STDIN | SPAWN_DETACH, 0, &fd) == 0);
    collect_until(fd, &r, FRAME_STARTED);
    send_frame(fd, FRAME_STDIN, "x", 1);
    (void)close(fd);
    char path[128];
    (void)snprintf(path, sizeof path, "%s/done", home);
    int64_t deadline = soon();
    while (access(path, F_OK) < 0 && clock_mono_ms() < deadline)
        (void)poll(NULL, 0, 2);
    CHECK_ROW("got its stdin, never blocked on output", access(path, F_OK) == 0);
    CHECK(kill((pid_t)r.pid, 0) == 0);
    (void)unlink(path);

    /* The daemon goes and comes back: the agent dials again, the command lives. */
    link_free(lnk);
    CHECK(link_new(home, &lnk, &err) == 0);
    CHECK(link_expect(lnk, &id, secret, false, &err) == 0);
    CHECK(link_wait_ready(lnk, &id, soon(), &err) == 0);
    CHECK(kill((pid_t)r.pid, 0) == 0);
    struct run again = RUN_INIT;
    collect(spawn("echo@still here", 0, 0), &again);
    CHECK_STR("still here\n", buf_str(&again.out));
    run_release(&again);
    CHECK(kill((pid_t)r.pid, SIGKILL) == 0 && gone(r.pid));
    run_release(&r);
}

/* Code in the sandbox has the agent's uid and can end a monitor; nothing may hang or stay for that.
 */
static void check_monitor_killed(void)
{
    struct run r = RUN_INIT;
    int fd = spawn("sh@-c@setsid sleep 100 & echo $!; echo $$; read x; kill -STOP $PPID; "
                   "kill -KILL $PPID; exec sleep 100",
                   SPAWN_STDIN, 0);
    collect_lines(fd, &r, 2);
    send_frame(fd, FRAME_EOF, NULL, 0);
    collect(fd, &r);
    CHECK_ROW("stream ends without exit", !r.exited && r.pid > 0);
    CHECK_ROW("PID 1 ends the orphans", all_gone(&r.out, 2));
    run_release(&r);

    r = (struct run)RUN_INIT;
    collect(spawn("sh@-c@kill -STOP $PPID; sleep 0.05; kill -TERM $PPID; kill -USR1 $PPID; echo on",
                  0, 0),
            &r);
    CHECK_ROW("stopped monitor goes on, other signals do nothing", r.exited && r.exit.code == 0);
    CHECK_STR("on\n", buf_str(&r.out));
    run_release(&r);

    r = (struct run)RUN_INIT;
    collect(
        spawn("sh@-c@cat /proc/$PPID/environ || cat /proc/$PPID/mem || ls /proc/$PPID/fd/", 0, 0),
        &r);
    CHECK_ROW("monitor's memory is closed", r.out.len == 0 && r.exit.code != 0);
    run_release(&r);
}

/* --- who is let in --- */

static int dial(const struct frame_hello *h)
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

static bool is_closed(int fd)
{
    char c;
    bool closed = fd_wait(fd, POLLIN, soon()) > 0 && recv(fd, &c, 1, 0) <= 0;
    (void)close(fd);
    return closed;
}

static void check_strangers(void)
{
    struct frame_hello h = { .kind = HELLO_CONTROL };
    CHECK_ROW("no secret, second time", is_closed(dial(&h)));
    h.has_secret = true;
    memset(h.secret, 0x5a, sizeof h.secret);
    CHECK_ROW("wrong secret", is_closed(dial(&h)));
    h.kind = HELLO_STREAM;
    CHECK_ROW("wrong secret on a stream", is_closed(dial(&h)));
    memcpy(h.secret, secret, sizeof h.secret);
    h.secret[31] ^= 1;
    CHECK_ROW("last bit wrong", is_closed(dial(&h)));
    h.secret[31] ^= 1;
    h.number = 12345;
    CHECK_ROW("number nobody waits for", is_closed(dial(&h)));
    h = (struct frame_hello){ .kind = HELLO_STREAM };
    CHECK_ROW("stream without secret", is_closed(dial(&h)));

    static const struct {
        const char *name;
        uint8_t bytes[64];
        size_t len;
    } rows[] = {
        { "noise", { 1, 2, 3, 4, 5, 6, 7, 8, 9 }, 9 },
        { "other frame", { 8, 0, 0, 0, FRAME_PONG, 1, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8 }, 16 },
        { "endless hello", { 0, 0, 1, 0, FRAME_HELLO, 1, 0, 0 }, 64 },
        { "short hello", { 1, 0, 0, 0, FRAME_HELLO, 1, 0, 0, 1 }, 9 },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        int fd = dial(NULL);
        (void)send(fd, rows[i].bytes, rows[i].len, MSG_NOSIGNAL);
        CHECK_ROW(rows[i].name, is_closed(fd));
    }
    /* More silent connections than are kept: the oldest go, and work goes on. */
    int silent[2 * LINK_PENDING_MAX];
    for (size_t i = 0; i < 2 * LINK_PENDING_MAX; i++)
        silent[i] = dial(NULL);
    struct run r = RUN_INIT;
    collect(spawn("true", 0, 0), &r);
    CHECK_ROW("among silent connections", r.exited && r.exit.code == 0);
    run_release(&r);
    CHECK_ROW("oldest displaced", is_closed(silent[0]));
    for (size_t i = 1; i < 2 * LINK_PENDING_MAX; i++)
        (void)close(silent[i]);
    CHECK(link_ready(lnk, &id));
}

/* An agent that was taken over: whatever it says, the daemon neither hangs nor falls. */
static void check_liar(void)
{
    struct sandbox_id other;
    uint8_t key[FRAME_SECRET], reply[FRAME_HEADER + FRAME_SECRET];
    char keep[sizeof socket_path];
    sandbox_id_new(&other);
    random_bytes(key, sizeof key);
    CHECK(link_expect(lnk, &other, key, true, &err) == 0);
    CHECK(str_copy(keep, sizeof keep, socket_path));
    link_run_dir(lnk, &other, socket_path, sizeof socket_path - 16);
    (void)snprintf(socket_path + strlen(socket_path), 16, "/agent.sock");
    struct frame_hello h = { .kind = HELLO_CONTROL };
    int fd = dial(&h);
    CHECK(fd_read_all(fd, reply, sizeof reply) == 0 && reply[4] == FRAME_WELCOME &&
          memcmp(reply + FRAME_HEADER, key, sizeof key) == 0);
    CHECK(link_wait_ready(lnk, &other, soon(), &err) == 0);
    int64_t began = clock_mono_ms();
    struct frame_spawn s = { .cwd = "/", .argv = "true", .argc = 1 };
    int stream = -1;
    CHECK_ROW("never opens the stream",
              link_spawn(lnk, &other, &s, 5, 0, began + 50, &stream, &err) < 0 &&
                  err.code == ERR_TIMEOUT);
    /* It reads nothing: requests pile up to their ceiling and no further. */
    AUTO(free) char *big = mem_new(1, EXEC_SPEC_MAX);
    memset(big, 'x', EXEC_SPEC_MAX - 1);
    s.argv = big;
    int refused = 0;
    for (unsigned i = 0; i < 20 && !refused; i++)
        refused =
            link_spawn(lnk, &other, &s, EXEC_SPEC_MAX, 0, clock_mono_ms() + 5, &stream, &err) < 0 &&
            err.code == ERR_UNAVAILABLE;
    CHECK_ROW("requests bounded", refused && link_ready(lnk, &other));
    uint8_t lie[FRAME_HEADER];
    frame_header(lie, FRAME_STDOUT, 0);
    CHECK(send(fd, lie, sizeof lie, MSG_NOSIGNAL) == sizeof lie);
    struct pollfd p = { .fd = fd, .events = POLLRDHUP };
    CHECK_ROW("a frame out of place", poll(&p, 1, SOON) == 1);
    CHECK(!link_ready(lnk, &other));
    (void)close(fd);
    CHECK_ROW("not let in again without the secret", is_closed(dial(&h)));
    link_forget(lnk, &other);
    CHECK(!link_ready(lnk, &other) && access(socket_path, F_OK) < 0);
    CHECK(link_wait_ready(lnk, &other, soon(), &err) < 0 && err.code == ERR_NOT_FOUND);
    CHECK(str_copy(socket_path, sizeof socket_path, keep));
}

static void check_old_kernel(void)
{
    static const struct {
        const char *name, *cwd;
        int error;
    } rows[] = {
        { "plain", "/tmp", 0 },
        { "root", "/", 0 },
        { "doubled slashes", "//tmp///", 0 },
        { "out of bounds", "/etc", EPERM },
        { "out of bounds by dots", "/tmp/../etc", EPERM },
        { "any link", NULL, ENOTDIR },
        { "magic link", "/proc/self/cwd", ENOTDIR },
        { "missing", "/tmp/no-such-directory", ENOENT },
    };
    struct sandbox_id keep_id = id;
    pid_t keep_pid = agent_pid;
    char keep_path[sizeof socket_path], link_path[128];
    CHECK(str_copy(keep_path, sizeof keep_path, socket_path));
    (void)snprintf(link_path, sizeof link_path, "%s/link-to-tmp", home);
    CHECK(symlink("/tmp", link_path) == 0);
    sandbox_id_new(&id);
    link_run_dir(lnk, &id, socket_path, sizeof socket_path - 16);
    (void)snprintf(socket_path + strlen(socket_path), 16, "/agent.sock");
    CHECK(link_expect(lnk, &id, secret, true, &err) == 0);
    agent_start(true);
    CHECK(link_wait_ready(lnk, &id, soon(), &err) == 0);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct run r = RUN_INIT;
        int fd = -1;
        CHECK_ROW(rows[i].name,
                  spawn_in(rows[i].cwd ? rows[i].cwd : link_path, "true", "", 0, 0, &fd) == 0);
        collect(fd, &r);
        CHECK_ROW(rows[i].name, r.error == rows[i].error && r.exited == !rows[i].error);
        run_release(&r);
    }
    CHECK(kill(agent_pid, SIGTERM) == 0 && waitpid(agent_pid, NULL, 0) == agent_pid);
    link_forget(lnk, &id);
    id = keep_id;
    agent_pid = keep_pid;
    CHECK(str_copy(socket_path, sizeof socket_path, keep_path));
}

/* --- figures --- */

static void measure(void)
{
    enum { ROUNDS = 300 };
    int64_t began = clock_mono_us(), worst = 0;
    for (int i = 0; i < ROUNDS; i++) {
        int64_t start = clock_mono_us();
        struct run r = RUN_INIT;
        int fd = -1;
        if (spawn_in("/tmp", "/bin/true", "", 0, 0, &fd) < 0)
            break;
        collect(fd, &r);
        run_release(&r);
        int64_t took = clock_mono_us() - start;
        worst = took > worst ? took : worst;
    }
    printf("# exec of /bin/true by the link: %lld us on average, %lld us at most\n",
           (long long)((clock_mono_us() - began) / ROUNDS), (long long)worst);
    char path[64], text[512] = "";
    (void)snprintf(path, sizeof path, "/proc/%d/status", (int)agent_pid);
    AUTO(fd) int fd = open(path, O_RDONLY | O_CLOEXEC);
    char status[4096] = "";
    if (fd >= 0 && read(fd, status, sizeof status - 1) > 0) {
        const char *rss = strstr(status, "VmRSS:");
        (void)snprintf(text, sizeof text, "%.*s", rss ? (int)strcspn(rss, "\n") : 0,
                       rss ? rss : "");
        printf("# agent %s\n", text);
        CHECK_ROW("agent below 1 MiB", rss && strtoul(rss + 6, NULL, 10) < 1024);
    }
}

static void check_stop(void)
{
    struct run r = RUN_INIT;
    int fd = spawn("sh@-c@echo up; exec sleep 100", 0, 0);
    collect_until(fd, &r, FRAME_STDOUT);
    CHECK(kill(agent_pid, SIGTERM) == 0);
    collect(fd, &r);
    CHECK_ROW("TERM to PID 1 is TERM to all", r.exited && r.exit.signal == SIGTERM);
    run_release(&r);
    int status;
    CHECK(waitpid(agent_pid, &status, 0) == agent_pid && WIFEXITED(status) &&
          WEXITSTATUS(status) == 0);
    int stream = -1;
    CHECK(spawn_in("/tmp", "true", "", 0, 0, &stream) < 0 && err.code == ERR_UNAVAILABLE);
}

int main(void)
{
    (void)signal(SIGPIPE, SIG_IGN);
    (void)snprintf(home, sizeof home, "/tmp/sandboxd-link-XXXXXX");
    CHECK(mkdtemp(home) && chmod(home, 0777) == 0);
    sandbox_id_new(&id);
    random_bytes(secret, sizeof secret);
    if (!CHECK(link_new(home, &lnk, &err) == 0)) {
        printf("# %s\n", err.msg);
        return check_done();
    }
    link_run_dir(lnk, &id, run_dir, sizeof run_dir);
    (void)snprintf(socket_path, sizeof socket_path, "%s/agent.sock", run_dir);
    /* The agent may come first: it dials until somebody is there. */
    agent_start(false);
    CHECK(link_expect(lnk, &id, secret, true, &err) == 0);
    CHECK(link_expect(lnk, &id, secret, true, &err) == 0);
    if (!CHECK(link_wait_ready(lnk, &id, soon(), &err) == 0)) {
        printf("# %s\n", err.msg);
        return check_done();
    }
    CHECK(link_expect(lnk, &id, secret, false, &err) == 0);
    CHECK_ROW("same again", link_ready(lnk, &id));
    CHECK(link_expect(lnk, &id, secret, true, &err) == 0);
    CHECK_ROW("started over, its agent knows the secret",
              link_wait_ready(lnk, &id, soon(), &err) == 0);
    check_plain();
    check_refused();
    check_env();
    check_stdin();
    check_output();
    check_signals();
    check_timeout();
    check_descendants();
    check_dropped();
    check_detached();
    check_monitor_killed();
    check_strangers();
    int silent = dial(NULL);
    check_liar();
    check_old_kernel();
    measure();
    CHECK_ROW("who never says who he is", is_closed(silent));
    check_stop();
    link_forget(lnk, &id);
    CHECK(access(run_dir, F_OK) < 0);
    link_free(lnk);
    pid_t rm = fork();
    if (rm == 0) {
        (void)execlp("rm", "rm", "-rf", "--", home, NULL);
        _exit(1);
    }
    CHECK(waitpid(rm, NULL, 0) == rm && access(home, F_OK) < 0);
    return check_done();
}
