/* Commands: how they start, what they read and write, how they end. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>

#include "agentrig.h"

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

    /* Long enough for a shell to come so far; both wait at the same time. */
    int deaf = spawn("sh@-c@trap '' TERM; echo $$; while :; do sleep 1; done", 0, 5000);
    int stopped = spawn("sh@-c@kill -STOP $$", 0, 5000);
    r = (struct run)RUN_INIT;
    collect(deaf, &r);
    CHECK_ROW("deaf to TERM", r.exited && r.exit.timed_out && r.exit.signal == SIGKILL);
    CHECK(gone(r.pid));
    run_release(&r);

    r = (struct run)RUN_INIT;
    collect(stopped, &r);
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
    agent_pid = -1;
    int stream = -1;
    CHECK(spawn_in("/tmp", "true", "", 0, 0, &stream) < 0 && err.code == ERR_UNAVAILABLE);
}

int main(void)
{
    if (!rig_up())
        return check_done();
    check_plain();
    check_refused();
    check_env();
    check_stdin();
    check_output();
    check_signals();
    check_timeout();
    check_descendants();
    check_dropped();
    measure();
    check_stop();
    rig_down();
    return check_done();
}
