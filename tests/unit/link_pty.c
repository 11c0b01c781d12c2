/* Commands on a terminal of their own. */
#include <fcntl.h>
#include <pthread.h>

#include "agentrig.h"

static int start(const char *words, uint32_t flags)
{
    struct frame_spawn base = { .cwd = "/tmp", .flags = SPAWN_PTY | flags, .cols = 80, .rows = 25 };
    static uint64_t process;
    if (flags & SPAWN_KEEP)
        base.process = ++process;
    int fd = -1;
    /* A dumb terminal keeps bash from decorating what it prints. */
    const char *env = strncmp(words, "bash", 4) == 0 ? "TERM=dumb" : "TERM=xterm";
    if (!CHECK_ROW(words, spawn_like(&base, words, env, &fd) == 0))
        printf("# %s\n", err.msg);
    return fd;
}

static void type(int fd, const char *text)
{
    send_frame(fd, FRAME_STDIN, text, (uint32_t)strlen(text));
}

static void resize(int fd, uint16_t cols, uint16_t rows)
{
    uint8_t payload[4];
    frame_set_u16(payload, cols);
    frame_set_u16(payload + 2, rows);
    send_frame(fd, FRAME_RESIZE, payload, sizeof payload);
}

/* Reads until the text has come. */
static bool see(int fd, struct run *r, const char *text)
{
    while (!strstr(buf_str(&r->out), text) && !r->exited) {
        size_t before = r->out.len;
        collect_until(fd, r, FRAME_STDOUT);
        if (r->out.len == before && !r->exited)
            return false;
    }
    bool seen = strstr(buf_str(&r->out), text) != NULL;
    if (!seen)
        printf("# got: %s\n", buf_str(&r->out));
    return seen;
}

static void check_plain(void)
{
    static const struct {
        const char *words, *out;
        int code;
    } rows[] = {
        { "tty", "/dev/pts/", 0 },
        { "sh@-c@echo out; echo err >&2; exit 3", "out\r\nerr\r\n", 3 },
        { "stty@size", "25 80\r\n", 0 },
        { "sh@-c@[ -t 0 ] && [ -t 1 ] && [ -t 2 ] && echo $TERM", "xterm\r\n", 0 },
        { "sh@-c@echo hello > /dev/tty", "hello\r\n", 0 },
        { "sh@-c@ps -o tpgid= -p $$ | tr -d ' ' > /tmp/x.$$; ps -o pgid= -p $$ | tr -d ' ' "
          "| cmp - /tmp/x.$$ && echo foreground; rm /tmp/x.$$",
          "foreground\r\n", 0 },
        { "sh@-c@stty | grep -o iutf8; stty -a | grep -o ' icanon'", " icanon\r\n", 0 },
        { "sh@-c@kill -9 $$", "", 137 },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct run r = RUN_INIT;
        collect(start(rows[i].words, 0), &r);
        CHECK_ROW(rows[i].words, r.exited && r.exit.code == rows[i].code && r.err.len == 0);
        if (!CHECK_ROW(rows[i].words, strstr(buf_str(&r.out), rows[i].out)))
            printf("# got: %s\n", buf_str(&r.out));
        run_release(&r);
    }
    struct run r = RUN_INIT;
    collect(start("no-such-command", 0), &r);
    CHECK(r.error == ENOENT && r.step == STEP_EXEC && !r.exited);
    run_release(&r);
}

/* The last words of a command are there, however fast it leaves. */
static void check_last_words(void)
{
    for (int i = 0; i < 200; i++) {
        struct run r = RUN_INIT;
        collect(start("echo@last words", 0), &r);
        if (!str_eq(buf_str(&r.out), "last words\r\n") || !r.exited)
            CHECK_ROW("last words", false);
        run_release(&r);
    }
    struct run r = RUN_INIT;
    int fd = start("sh@-c@stty -opost; head -c 3000000 /dev/zero; printf end", 0);
    collect_until(fd, &r, FRAME_STDOUT);
    (void)poll(NULL, 0, 50); /* a slow reader */
    collect(fd, &r);
    CHECK_ROW("much output",
              r.exited && r.out.len == 3000003 && memcmp(r.out.data + 3000000, "end", 3) == 0);
    run_release(&r);
}

static void check_line(void)
{
    struct run r = RUN_INIT;
    int fd = start("cat", 0);
    type(fd, "h\xc3\xa9\x7fi\r");
    CHECK_ROW("edited line, a whole letter rubbed out", see(fd, &r, "\r\nhi\r\n"));
    send_frame(fd, FRAME_EOF, NULL, 0);
    collect(fd, &r);
    CHECK_ROW("end of file", r.exited && r.exit.code == 0);
    run_release(&r);

    static const struct {
        const char *name, *words, *key;
        int code;
        uint32_t signal;
    } rows[] = {
        { "Ctrl-C", "sh@-c@echo up; exec sleep 100", "\x03", 130, SIGINT },
        { "Ctrl-\\", "sh@-c@ulimit -c 0; echo up; exec sleep 100", "\x1c", 131, SIGQUIT },
        { "Ctrl-C caught", "sh@-c@trap 'exit 5' INT; echo up; while :; do sleep 0.01; done", "\x03",
          5, 0 },
        { "Ctrl-D", "sh@-c@echo up; cat; exit 6", "\x04", 6, 0 },
        { "raw", "sh@-c@stty raw -echo; echo up; head -c 1 | od -An -tx1; exit 7", "\x03", 7, 0 },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        r = (struct run)RUN_INIT;
        fd = start(rows[i].words, 0);
        CHECK_ROW(rows[i].name, see(fd, &r, "up"));
        type(fd, rows[i].key);
        collect(fd, &r);
        CHECK_ROW(rows[i].name,
                  r.exited && r.exit.code == rows[i].code && r.exit.signal == rows[i].signal);
        run_release(&r);
    }
}

static void check_shell(void)
{
    struct run r = RUN_INIT;
    int fd = start("bash@--norc@-i", 0);
    type(fd, "PS1='ready> '\r");
    CHECK(see(fd, &r, "\nready> "));
    /* Built-ins only: a stop that meets a vfork() leaves the parent waiting for a stopped child. */
    type(fd, "sh -c 'trap \"echo go on\" CONT; echo job; while :; do :; done'\r");
    CHECK(see(fd, &r, "\njob\r\n"));
    type(fd, "\x1a");
    CHECK_ROW("a job is stopped", see(fd, &r, "Stopped"));
    type(fd, "fg\r");
    CHECK_ROW("and goes on", see(fd, &r, "\ngo on\r\n"));
    type(fd, "\x03");
    type(fd, "echo still $((40 + 2))\r");
    CHECK_ROW("Ctrl-C ends the job, not the shell", see(fd, &r, "\nstill 42\r\nready> "));
    resize(fd, 132,
           50); /* readline sets what it has read, so before its prompt this could be undone */
    type(fd, "stty size\r");
    CHECK(see(fd, &r, "50 132"));
    type(fd, "exit 4\r");
    collect(fd, &r);
    CHECK(r.exited && r.exit.code == 4);
    run_release(&r);

    r = (struct run)RUN_INIT;
    fd = start("sh@-c@trap 'stty size; exit 8' WINCH; echo up; while :; do sleep 0.01; done", 0);
    CHECK(see(fd, &r, "up"));
    resize(fd, 100, 30);
    collect(fd, &r);
    CHECK_ROW("told of the new size",
              r.exited && r.exit.code == 8 && strstr(buf_str(&r.out), "30 100"));
    run_release(&r);

    r = (struct run)RUN_INIT;
    fd = spawn("cat", SPAWN_STDIN, 0);
    resize(fd, 1, 1);
    send_frame(fd, FRAME_STDIN, "x", 1);
    send_frame(fd, FRAME_EOF, NULL, 0);
    collect(fd, &r);
    CHECK_ROW("size of no terminal", r.exited && r.exit.code == 0);
    CHECK_STR("x", buf_str(&r.out));
    run_release(&r);
}

static void check_ends(void)
{
    static const struct {
        const char *name, *words;
        size_t pids;
    } rows[] = {
        { "interactive shell", "bash@--norc@-i@-c@echo $$; cat; true", 1 },
        { "deaf to TERM", "sh@-c@trap '' TERM; echo $$; sleep 100 & echo $!; wait", 2 },
        { "background", "sh@-c@setsid sleep 100 & echo $!; echo $$; cat; true", 2 },
        { "stopped", "sh@-c@echo $$; kill -STOP $$", 1 },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct run r = RUN_INIT;
        int fd = start(rows[i].words, 0);
        collect_lines(fd, &r, rows[i].pids);
        int64_t began = clock_mono_ms();
        (void)close(fd);
        CHECK_ROW(rows[i].name, all_gone(&r.out, rows[i].pids));
        CHECK_ROW(rows[i].name, clock_mono_ms() - began < EXEC_KILL_GRACE_MS);
        run_release(&r);
    }
    struct run r = RUN_INIT;
    int fd = start("bash@--norc@-i", 0);
    type(fd, "echo $$; sleep 100 & echo up$?\r");
    CHECK(see(fd, &r, "up0"));
    send_number(fd, FRAME_KILL, 60000);
    int64_t began = clock_mono_ms();
    collect(fd, &r);
    CHECK_ROW("a shell is hung up", r.exited && clock_mono_ms() - began < 30000); /* before KILL */
    run_release(&r);

    r = (struct run)RUN_INIT;
    fd = start("sh@-c@trap '' TERM; trap 'trap - HUP' HUP; echo up; while :; do sleep 0.01; done",
               0);
    CHECK(see(fd, &r, "up"));
    send_number(fd, FRAME_KILL, 60000);
    collect(fd, &r);
    CHECK_ROW("and again, if it did not heed it", r.exited && r.exit.signal == SIGHUP);
    run_release(&r);

    r = (struct run)RUN_INIT;
    fd = start("sh@-c@sleep 100 & exit 3", 0);
    collect(fd, &r);
    CHECK_ROW("what outlives the shell", r.exited && r.exit.code == 3 && !r.exit.leftovers);
    run_release(&r);

    /* Nobody has the terminal open for a while: it is not gone for that. */
    r = (struct run)RUN_INIT;
    collect(start("sh@-c@exec 3>&1 <&- >&- 2>&- 3>&-; sleep 0.1; exec >/dev/tty; echo back", 0),
            &r);
    CHECK_STR("back\r\n", buf_str(&r.out));
    CHECK(r.exited && r.exit.code == 0);
    run_release(&r);
}

static void check_kept(void)
{
    struct run r = RUN_INIT;
    struct frame_attached at;
    int fd = start("bash@--norc@-i", SPAWN_KEEP);
    type(fd, "PS1='ready> '\r");
    CHECK(see(fd, &r, "\nready> "));
    type(fd, "x=12\r");
    (void)close(fd);
    CHECK(link_attach(lnk, &id, 1, 0, soon(), &fd, &at, &err) == 0 && at.first == 0 && !at.ended);
    run_release(&r);
    r = (struct run)RUN_INIT;
    CHECK_ROW("scroll-back", see(fd, &r, "\nready> "));
    type(fd, "echo x is $((x + 1))\r");
    CHECK(see(fd, &r, "\nx is 13\r\nready> "));
    resize(fd, 90, 20);
    type(fd, "stty size; exit 2\r");
    CHECK(see(fd, &r, "20 90"));
    collect(fd, &r);
    CHECK(r.exited && r.exit.code == 2);
    run_release(&r);
    CHECK(link_forget_process(lnk, &id, 1, &err) == 0);
}

static void measure(void)
{
    enum { ROUNDS = 200 };
    struct run r = RUN_INIT;
    int fd = start("sh@-c@stty raw -echo; echo up; exec cat", 0);
    CHECK(see(fd, &r, "up"));
    int64_t began = clock_mono_us();
    for (int i = 0; i < ROUNDS; i++) {
        uint32_t len;
        type(fd, "k");
        while (next_frame(fd, &len) == FRAME_STDOUT && space[len - 1] != 'k')
            ;
    }
    printf("# a key and its echo: %lld us on average\n",
           (long long)((clock_mono_us() - began) / ROUNDS));
    (void)close(fd);
    run_release(&r);
}

int main(void)
{
    if (!rig_up())
        return check_done();
    check_plain();
    check_last_words();
    check_line();
    check_shell();
    check_ends();
    check_kept();
    measure();
    rig_down();
    return check_done();
}
