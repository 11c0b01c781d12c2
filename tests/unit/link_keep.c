/* Processes that outlive their streams: what is kept of them, how they are reached again, and who
 * is kept at all. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>

#include "agentrig.h"

static uint64_t last_process = 1ull << 40;

static int keep_with(const char *words, uint32_t flags, uint32_t timeout_ms)
{
    struct frame_spawn base = {
        .cwd = "/tmp", .flags = flags, .timeout_ms = timeout_ms, .process = ++last_process
    };
    int fd = -1;
    if (!CHECK_ROW(words, spawn_like(&base, words, "", &fd) == 0))
        printf("# %s\n", err.msg);
    return fd;
}

static int keep(const char *words, uint32_t flags)
{
    return keep_with(words, SPAWN_KEEP | flags, 0);
}

static int attach(uint64_t offset, struct frame_attached *ret)
{
    int fd = -1;
    if (link_attach(lnk, &id, last_process, offset, soon(), &fd, ret, &err) < 0)
        return -1;
    return fd;
}

static bool is_kept(uint64_t process)
{
    uint64_t all[LINK_KEPT_MAX];
    size_t n = link_processes(lnk, &id, all, LINK_KEPT_MAX);
    for (size_t i = 0; i < n; i++)
        if (all[i] == process)
            return true;
    return false;
}

static bool kept_soon(uint64_t process, bool want)
{
    int64_t deadline = soon();
    while (is_kept(process) != want && clock_mono_ms() < deadline)
        (void)poll(NULL, 0, 2);
    return is_kept(process) == want;
}

static void forget(void)
{
    struct frame_attached at;
    CHECK(link_forget_process(lnk, &id, last_process, &err) == 0);
    CHECK(attach(0, &at) < 0 && err.code == ERR_NOT_FOUND);
    CHECK(kept_soon(last_process, false));
}

/* Waits for the end of one that has no stream, by attaching until it says so. */
static struct frame_attached wait_over(void)
{
    struct frame_attached at = { 0 };
    int64_t deadline = soon();
    while (!at.ended && clock_mono_ms() < deadline) {
        int fd = attach(0, &at);
        if (!CHECK(fd >= 0))
            break;
        (void)close(fd);
        (void)poll(NULL, 0, 2);
    }
    CHECK(at.ended);
    return at;
}

/* --- output --- */

static void check_plain(void)
{
    struct run r = RUN_INIT;
    struct frame_attached at;
    int fd = keep("sh@-c@echo one; echo two; echo three; exit 3", 0);
    collect(fd, &r);
    CHECK_STR("one\ntwo\nthree\n", buf_str(&r.out));
    CHECK(r.exited && r.exit.code == 3 && r.pid > 1);
    CHECK(kept_soon(last_process, true));
    run_release(&r);

    static const struct {
        const char *name, *out;
        uint64_t offset, first;
    } rows[] = {
        { "all", "one\ntwo\nthree\n", 0, 0 },  { "all again", "one\ntwo\nthree\n", 0, 0 },
        { "from within", "o\nthree\n", 6, 6 }, { "last byte", "\n", 13, 13 },
        { "nothing more", "", 14, 14 },        { "too far", "", 1u << 20, 14 },
        { "far too far", "", UINT64_MAX, 14 },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct run again = RUN_INIT;
        fd = attach(rows[i].offset, &at);
        if (!CHECK_ROW(rows[i].name, fd >= 0))
            continue;
        CHECK_ROW(rows[i].name,
                  at.first == rows[i].first && at.next == 14 && at.ended && at.pid > 1);
        collect(fd, &again);
        CHECK_STR(rows[i].out, buf_str(&again.out));
        CHECK_ROW(rows[i].name, again.exited && again.exit.code == 3);
        run_release(&again);
    }
    forget();
    CHECK_ROW("forgotten twice", link_forget_process(lnk, &id, last_process, &err) == 0);

    r = (struct run)RUN_INIT;
    collect(keep("no-such-command", 0), &r);
    CHECK(r.error == ENOENT && r.step == STEP_EXEC);
    CHECK_ROW("did not start", kept_soon(last_process, false) && attach(0, &at) < 0);
    run_release(&r);
}

/* Numbered lines, so that every byte's place is known: line i is 8 bytes long. */
static bool check_lines(const struct buf *b, uint64_t first, uint64_t next)
{
    if (b->len != next - first)
        return false;
    for (uint64_t at = first; at < next; at++) {
        char line[16];
        (void)snprintf(line, sizeof line, "%07u\n", (unsigned)(at / 8));
        if (b->data[at - first] != line[at % 8])
            return false;
    }
    return true;
}

static void check_ring(void)
{
    static const struct {
        const char *name;
        unsigned lines;
        uint64_t offset, first;
    } rows[] = {
        { "fits", 1000, 0, 0 },
        { "fills it exactly", 131072, 0, 0 },
        { "one line more", 131073, 0, 8 },
        { "three times over", 400000, 5, 400000 * 8 - LINK_RING },
        { "from within", 400000, 400000 * 8 - 1001, 400000 * 8 - 1001 },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char words[256];
        struct run r = RUN_INIT;
        (void)snprintf(words, sizeof words,
                       "python3@-c@import sys\nsys.stdin.read()\n"
                       "sys.stdout.write(''.join('%%07d\\n' %% i for i in range(%u)))",
                       rows[i].lines);
        int fd = keep(words, SPAWN_STDIN);
        send_frame(fd, FRAME_EOF, NULL, 0);
        (void)close(fd);
        struct frame_attached at = wait_over();
        CHECK_ROW(rows[i].name, at.next == rows[i].lines * 8);
        fd = attach(rows[i].offset, &at);
        CHECK_ROW(rows[i].name, fd >= 0 && at.first == rows[i].first);
        collect(fd, &r);
        CHECK_ROW(rows[i].name, r.exited && check_lines(&r.out, at.first, at.next));
        run_release(&r);
        forget();
    }
}

/* Whose byte is whose, however they alternate: stdout gets small letters, stderr capitals. */
static void check_alternating(void)
{
    struct frame_attached at;
    int fd = keep("python3@-c@import os,sys\nsys.stdin.read()\nn=0\n"
                  "for i in range(3000):\n"
                  " k=1+i*7%23; os.write(1,b'a'*k); os.write(2,b'B'*(k%5)); n+=k+k%5",
                  SPAWN_STDIN);
    send_frame(fd, FRAME_EOF, NULL, 0);
    (void)close(fd);
    (void)wait_over();
    for (uint64_t offset = 0; offset < 40; offset += 13) {
        struct run r = RUN_INIT;
        fd = attach(offset, &at);
        collect(fd, &r);
        CHECK(at.first == offset && r.out.len + r.err.len == at.next - at.first);
        CHECK(strspn(buf_str(&r.out), "a") == r.out.len &&
              strspn(buf_str(&r.err), "B") == r.err.len);
        run_release(&r);
    }
    forget();
}

static void check_slow_reader(void)
{
    struct run r = RUN_INIT;
    int fd = keep("python3@-c@import sys\n"
                  "sys.stdout.write(''.join('%07d\\n' % i for i in range(500000)))",
                  0);
    collect_until(fd, &r, FRAME_STDOUT);
    (void)poll(NULL, 0, 100); /* it fills all there is to fill, and waits */
    collect(fd, &r);
    CHECK_ROW("nothing is lost to who is slow", r.exited && check_lines(&r.out, 0, 500000ull * 8));
    run_release(&r);
    forget();

    /* Without a reader it does not wait for one. */
    r = (struct run)RUN_INIT;
    fd = keep("sh@-c@head -c 30000000 /dev/zero; echo end >&2; exec sleep 100", 0);
    (void)close(fd);
    struct frame_attached at = { 0 };
    int64_t deadline = soon();
    while (at.next < 30000004 && clock_mono_ms() < deadline && (fd = attach(0, &at)) >= 0) {
        (void)close(fd);
        (void)poll(NULL, 0, 2); /* while one is attached, nothing is taken from the command */
    }
    CHECK(at.next == 30000004 && at.first == at.next - LINK_RING && !at.ended);
    fd = attach(at.first, &at); /* both streams are read as they come: "end" may not be last */
    collect_until(fd, &r, FRAME_STDERR);
    CHECK_STR("end\n", buf_str(&r.err));
    (void)close(fd);
    run_release(&r);
    forget();
}

/* --- streams that come and go --- */

static void check_replaced(void)
{
    struct run r = RUN_INIT;
    struct frame_attached at;
    int first = keep("sh@-c@echo $$; read x; echo got $x; read y; echo and $y", SPAWN_STDIN);
    collect_lines(first, &r, 1);
    int second = attach(0, &at);
    CHECK_ROW("the earlier one is closed", is_closed(first));
    run_release(&r);

    r = (struct run)RUN_INIT;
    CHECK(!at.ended && at.first == 0);
    send_frame(second, FRAME_STDIN, "a\n", 2);
    collect_lines(second, &r, 2);
    (void)close(second);
    size_t seen = r.out.len;
    int third = attach(seen, &at);
    CHECK(third >= 0 && at.first == seen);
    /* The daemon goes and comes back. */
    (void)close(third);
    link_free(lnk);
    CHECK(link_new(home, &lnk, &err) == 0);
    int changes = link_changes_fd(lnk);
    CHECK(link_expect(lnk, &id, secret, false, &err) == 0);
    CHECK(link_wait_ready(lnk, &id, soon(), &err) == 0);
    struct sandbox_id which;
    uint32_t what = 0, all = 0;
    int64_t deadline = soon();
    while (!(all & LINK_CHANGE_PROCESSES) && fd_wait(changes, POLLIN, deadline) == 1)
        while (link_next_change(lnk, &which, &what))
            all |= what;
    CHECK_ROW("told that it came back",
              (all & LINK_CHANGE_AGENT) && (all & LINK_CHANGE_PROCESSES) && is_kept(last_process));
    int fourth = attach(seen, &at);
    send_frame(fourth, FRAME_STDIN, "b\n", 2);
    collect(fourth, &r);
    CHECK(r.exited && r.exit.code == 0 && strstr(buf_str(&r.out), "\ngot a\nand b\n"));
    run_release(&r);
    forget();
}

/* What is sent and not taken yet is not lost with its stream; a frame that is cut off is. */
static void check_stdin(void)
{
    struct run r = RUN_INIT;
    struct frame_attached at;
    static char data[40000];
    memset(data, 'x', sizeof data);
    int fd = keep("sh@-c@read go; wc -c", SPAWN_STDIN);
    uint8_t cut[FRAME_HEADER + 3];
    /* More than a pipe takes, so that some waits with the monitor. */
    send_frame(fd, FRAME_STDIN, data, sizeof data);
    send_frame(fd, FRAME_STDIN, data, sizeof data);
    frame_header(cut, FRAME_STDIN, 1000);
    memcpy(cut + FRAME_HEADER, "123", 3);
    CHECK(fd_write_all(fd, cut, sizeof cut) == 0);
    (void)close(fd);
    fd = attach(0, &at);
    CHECK(fd >= 0);
    send_frame(fd, FRAME_STDIN, "\n12345", 6);
    send_frame(fd, FRAME_EOF, NULL, 0);
    collect(fd, &r);
    CHECK_ROW("stdin over streams", r.exited && strtoul(buf_str(&r.out), NULL, 10) == 5);
    run_release(&r);
    forget();

    /* A full stdin does not keep it from being signalled. */
    r = (struct run)RUN_INIT;
    fd = keep("sh@-c@echo $$; sleep 100 & echo $!; wait; exit 9", SPAWN_STDIN);
    collect_lines(fd, &r, 2);
    send_frame(fd, FRAME_STDIN, data, sizeof data);
    send_frame(fd, FRAME_STDIN, data, sizeof data);
    send_frame(fd, FRAME_STDIN, data, sizeof data);
    CHECK(link_signal_process(lnk, &id, last_process, SIGTERM, false, &err) == 0);
    (void)poll(NULL, 0, 1);
    collect(fd, &r);
    CHECK_ROW("to its group", r.exited && r.exit.signal == SIGTERM && all_gone(&r.out, 2));
    run_release(&r);
    CHECK_ROW("after its end",
              link_signal_process(lnk, &id, last_process, SIGKILL, true, &err) == 0);
    forget();
}

static void check_tree(void)
{
    static const struct {
        const char *name;
        uint32_t send, signal;
    } rows[] = { { "TERM", SIGTERM, SIGTERM }, { "KILL", SIGKILL, SIGKILL } };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct run r = RUN_INIT;
        int fd = keep("sh@-c@setsid sh -c 'echo $$; exec sleep 100' & echo $$; exec sleep 100", 0);
        collect_lines(fd, &r, 2);
        CHECK(link_signal_process(lnk, &id, last_process, rows[i].send, true, &err) == 0);
        collect(fd, &r);
        CHECK_ROW(rows[i].name, r.exited && r.exit.signal == rows[i].signal && !r.exit.timed_out);
        CHECK_ROW(rows[i].name, all_gone(&r.out, 2));
        run_release(&r);
        forget();
    }
    struct run r = RUN_INIT;
    int fd = keep("sh@-c@trap '' TERM; setsid sh -c 'echo $$; exec sleep 100' & echo $$; "
                  "while :; do sleep 1; done",
                  0);
    collect_lines(fd, &r, 2);
    (void)close(fd);
    forget();
    CHECK_ROW("forgotten while it runs", all_gone(&r.out, 2));
    run_release(&r);

    r = (struct run)RUN_INIT;
    fd = keep_with("sleep@100", SPAWN_KEEP, 50);
    (void)close(fd);
    (void)wait_over();
    struct frame_attached at;
    collect(attach(0, &at), &r);
    CHECK_ROW("timeout", r.exited && r.exit.timed_out && r.exit.signal == SIGTERM);
    run_release(&r);
    forget();
}

static void check_bounds(void)
{
    uint64_t first = last_process + 1;
    struct run r = RUN_INIT;
    for (size_t i = 0; i < LINK_KEPT_MAX; i++) {
        int fd = keep("true", 0);
        struct run one = RUN_INIT;
        collect(fd, &one);
        CHECK_ROW("up to the bound", one.exited);
        run_release(&one);
    }
    collect(keep("true", 0), &r);
    CHECK_ROW("one more", r.error == EDQUOT && r.step == STEP_FORK);
    run_release(&r);
    r = (struct run)RUN_INIT;
    last_process = first - 1;
    CHECK(link_forget_process(lnk, &id, first + 1, &err) == 0);
    collect(keep("true", 0), &r);
    CHECK_ROW("same number", r.error == EEXIST && r.step == STEP_FORK);
    run_release(&r);
    r = (struct run)RUN_INIT;
    collect(spawn("true", 0, 0), &r);
    CHECK_ROW("others are not bound by it", r.exited);
    run_release(&r);
    uint64_t all[LINK_KEPT_MAX];
    size_t n = link_processes(lnk, &id, all, LINK_KEPT_MAX);
    CHECK(n >= LINK_KEPT_MAX - 1);
    for (size_t i = 0; i < LINK_KEPT_MAX; i++)
        CHECK(link_forget_process(lnk, &id, first + i, &err) == 0);
    last_process = first + LINK_KEPT_MAX;
    CHECK(kept_soon(first, false) && kept_soon(first + LINK_KEPT_MAX - 1, false));
}

static void check_killed(void)
{
    struct run r = RUN_INIT;
    struct frame_attached at;
    int fd = keep("sh@-c@echo $$; read x; kill -KILL $PPID; exec sleep 100", SPAWN_STDIN);
    collect_lines(fd, &r, 1);
    send_frame(fd, FRAME_EOF, NULL, 0);
    collect(fd, &r);
    CHECK_ROW("its monitor is killed", !r.exited && all_gone(&r.out, 1));
    CHECK(kept_soon(last_process, false) && attach(0, &at) < 0 && err.code == ERR_NOT_FOUND);
    run_release(&r);
}

/* --- kept because it listens --- */

#define LISTEN                                                                         \
    "import os,socket,time\ns=socket.socket()\ns.bind(('127.0.0.1',0)); s.listen(5)\n" \
    "print(os.getpid(),flush=True)\n"

static void check_listening(void)
{
    static const struct {
        const char *name, *words;
        bool kept;
    } rows[] = {
        { "listens", "python3@-c@" LISTEN "time.sleep(100)", true },
        { "a child listens",
          "sh@-c@python3 -c \"import os,socket,time\ns=socket.socket(); s.bind(('127.0.0.1',0)); "
          "s.listen(5); print(os.getpid(),flush=True); time.sleep(100)\" & wait",
          true },
        { "an orphan listens",
          "sh@-c@(setsid python3 -c \"import os,socket,time\ns=socket.socket(); "
          "s.bind(('127.0.0.1',0)); s.listen(5); print(os.getpid(),flush=True); "
          "time.sleep(100)\" &) ; exec sleep 100",
          true },
        { "does not listen", "sh@-c@echo $$; exec sleep 100", false },
        { "is only bound",
          "python3@-c@import os,socket,time\ns=socket.socket(); s.bind(('127.0.0.1',0))\n"
          "print(os.getpid(),flush=True); time.sleep(100)",
          false },
        { "is only connected",
          "python3@-c@import os,socket,time\ns=socket.socket(socket.AF_INET,socket.SOCK_DGRAM)\n"
          "s.bind(('127.0.0.1',0)); print(os.getpid(),flush=True); time.sleep(100)",
          false },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        for (int half = 0; half < 2; half++) {
            struct run r = RUN_INIT;
            struct frame_attached at;
            int fd = keep_with(rows[i].words, SPAWN_KEEP_IF_LISTENING, 0);
            collect_lines(fd, &r, 1);
            CHECK_ROW(rows[i].name, !is_kept(last_process));
            if (half)
                CHECK(shutdown(fd, SHUT_WR) == 0 && is_closed(fd));
            else
                (void)close(fd);
            /* An order to attach may overtake the end of the stream: only then it decides. */
            CHECK_ROW(rows[i].name, rows[i].kept || all_gone(&r.out, 1));
            fd = attach(0, &at);
            if (rows[i].kept) {
                struct run again = RUN_INIT;
                CHECK_ROW(rows[i].name, fd >= 0 && at.first == 0 && kept_soon(last_process, true));
                collect_lines(fd, &again, 1);
                CHECK_STR(buf_str(&r.out), buf_str(&again.out));
                run_release(&again);
                (void)close(fd);
                CHECK_ROW("lives", kill((pid_t)strtol(buf_str(&r.out), NULL, 10), 0) == 0);
                forget();
            } else {
                if (!CHECK_ROW(rows[i].name, fd < 0 && err.code == ERR_NOT_FOUND))
                    printf("# %d: %s\n", fd, fd < 0 ? err.msg : "attached");
            }
            CHECK_ROW(rows[i].name, all_gone(&r.out, 1) && kept_soon(last_process, false));
            run_release(&r);
        }
    }
    /* Its timeout is off then; before, or when it is being ended, nothing is kept. */
    struct run r = RUN_INIT;
    struct frame_attached at;
    int fd = keep_with("python3@-c@" LISTEN "time.sleep(100)", SPAWN_KEEP_IF_LISTENING, 5000);
    int64_t began = clock_mono_ms();
    collect_lines(fd, &r, 1);
    (void)close(fd);
    CHECK(kept_soon(last_process, true));
    while (clock_mono_ms() < began + 5200)
        (void)poll(NULL, 0, 10);
    fd = attach(0, &at);
    CHECK_ROW("timeout off", fd >= 0 && !at.ended);
    (void)close(fd);
    forget();
    run_release(&r);

    r = (struct run)RUN_INIT;
    fd = keep_with("python3@-c@" LISTEN "time.sleep(100)", SPAWN_KEEP_IF_LISTENING, 0);
    collect_lines(fd, &r, 1);
    CHECK_ROW("not while its stream is there", attach(0, &at) < 0 && err.code == ERR_NOT_FOUND);
    send_number(fd, FRAME_KILL, 1000);
    (void)close(fd);
    CHECK_ROW("ended by request", all_gone(&r.out, 1) && attach(0, &at) < 0);
    run_release(&r);
}

/* --- agents that lie --- */

struct lie {
    const char *name;
    struct frame_attached at;
    enum frame_type type;
    uint32_t len;
    uint64_t asked;
    bool taken;
};

struct liar {
    int control;
    const struct lie *lie;
};

static void *lie_once(void *arg)
{
    const struct liar *l = arg;
    uint8_t request[FRAME_HEADER + 24], out[FRAME_HEADER + 64] = { 0 };
    if (fd_read_all(l->control, request, sizeof request) < 0)
        return NULL;
    struct frame_hello h = { .kind = HELLO_STREAM,
                             .has_secret = true,
                             .number = frame_u64(request + FRAME_HEADER) };
    memcpy(h.secret, secret, sizeof secret);
    int stream = dial(&h);
    frame_header(out, l->lie->type, l->lie->len);
    frame_put_attached(out + FRAME_HEADER, &l->lie->at);
    (void)send(stream, out, FRAME_HEADER + (l->lie->len < 64 ? l->lie->len : 64), MSG_NOSIGNAL);
    (void)close(stream);
    return NULL;
}

/* Whoever asks for a process in the moment of its end is told so. */
static void check_just_over(void)
{
    size_t told = 0;
    enum { ROUNDS = 300 };
    for (int i = 0; i < ROUNDS; i++) {
        struct run r = RUN_INIT;
        struct frame_attached at;
        collect(keep_with("true", SPAWN_KEEP_IF_LISTENING, 0), &r);
        told += attach(0, &at) < 0 && err.code == ERR_NOT_FOUND;
        run_release(&r);
    }
    if (!CHECK(told == ROUNDS))
        printf("# %zu of %d\n", told, ROUNDS);
}

static void check_liar(void)
{
    static const struct lie lies[] = {
        { "honest", { 5, 9, 1, false }, FRAME_ATTACHED, FRAME_ATTACHED_LEN, 5, true },
        { "some is lost", { 7, 9, 1, false }, FRAME_ATTACHED, FRAME_ATTACHED_LEN, 5, true },
        { "not so far yet", { 5, 5, 1, true }, FRAME_ATTACHED, FRAME_ATTACHED_LEN, 8, true },
        { "earlier than asked", { 5, 9, 1, false }, FRAME_ATTACHED, FRAME_ATTACHED_LEN, 6, false },
        { "backwards", { 9, 5, 1, false }, FRAME_ATTACHED, FRAME_ATTACHED_LEN, 5, false },
        { "short", { 5, 9, 1, false }, FRAME_ATTACHED, FRAME_ATTACHED_LEN - 1, 5, false },
        { "long", { 5, 9, 1, false }, FRAME_ATTACHED, FRAME_ATTACHED_LEN + 1, 5, false },
        { "cut off", { 5, 9, 1, false }, FRAME_ATTACHED, FRAME_PAYLOAD_MAX, 5, false },
        { "output at once", { 5, 9, 1, false }, FRAME_STDOUT, 21, 5, false },
        { "started", { 5, 9, 1, false }, FRAME_STARTED, 4, 5, false },
        { "failed without reason", { 5, 9, 1, false }, FRAME_FAILED, 4, 5, false },
        { "failed for another reason", { 5, 9, 1, false }, FRAME_FAILED, 5, 5, false },
        { "nothing", { 0 }, FRAME_EXIT, 0, 5, false },
    };
    struct sandbox_id keep_id = id;
    uint8_t keep_secret[FRAME_SECRET], reply[FRAME_HEADER + FRAME_SECRET];
    memcpy(keep_secret, secret, sizeof secret);
    sandbox_id_new(&id);
    random_bytes(secret, sizeof secret);
    rig_socket();
    CHECK(link_expect(lnk, &id, secret, true, &err) == 0);
    struct frame_hello h = { .kind = HELLO_CONTROL };
    struct liar liar = { .control = dial(&h) };
    CHECK(fd_read_all(liar.control, reply, sizeof reply) == 0);
    CHECK(link_wait_ready(lnk, &id, soon(), &err) == 0);
    for (size_t i = 0; i < sizeof lies / sizeof *lies; i++) {
        pthread_t thread;
        struct frame_attached at = { .pid = 77 };
        liar.lie = &lies[i];
        CHECK(pthread_create(&thread, NULL, lie_once, &liar) == 0);
        int fd = attach(lies[i].asked, &at);
        (void)pthread_join(thread, NULL);
        if (lies[i].taken)
            CHECK_ROW(lies[i].name, fd >= 0 && at.first == lies[i].at.first && close(fd) == 0);
        else
            CHECK_ROW(lies[i].name, fd < 0 && err.code == ERR_UNAVAILABLE && at.pid == 77);
    }
    (void)close(liar.control);
    link_forget(lnk, &id);
    struct frame_attached at;
    CHECK(attach(0, &at) < 0 && err.code == ERR_UNAVAILABLE);
    CHECK(link_forget_process(lnk, &id, 1, &err) < 0 && err.code == ERR_UNAVAILABLE);
    CHECK(link_signal_process(lnk, &id, 1, SIGTERM, true, &err) < 0 && err.code == ERR_UNAVAILABLE);
    id = keep_id;
    memcpy(secret, keep_secret, sizeof secret);
    rig_socket();
}

/* --- figures --- */

static void measure(void)
{
    enum { ROUNDS = 300 };
    int fd = keep("sleep@1000", 0);
    struct run r = RUN_INIT;
    collect_until(fd, &r, FRAME_STARTED);
    (void)close(fd);
    int64_t began = clock_mono_us();
    for (int i = 0; i < ROUNDS; i++) {
        struct frame_attached at;
        fd = attach(0, &at);
        if (fd >= 0)
            (void)close(fd);
    }
    printf("# attach: %lld us on average\n", (long long)((clock_mono_us() - began) / ROUNDS));
    char path[64];
    (void)snprintf(path, sizeof path, "/proc/%u/stat", r.pid);
    AUTO(fd) int stat = open(path, O_RDONLY | O_CLOEXEC);
    char text[512] = "";
    if (stat >= 0 && read(stat, text, sizeof text - 1) > 0 && strrchr(text, ')')) {
        (void)snprintf(path, sizeof path, "/proc/%lu/status",
                       strtoul(strrchr(text, ')') + 4, NULL, 10));
        AUTO(fd) int status = open(path, O_RDONLY | O_CLOEXEC);
        char all[4096] = "";
        const char *rss = NULL;
        if (status >= 0 && read(status, all, sizeof all - 1) > 0)
            rss = strstr(all, "RssAnon:");
        printf("# an idle monitor: %.*s\n", rss ? (int)strcspn(rss, "\n") : 0, rss ? rss : "");
        CHECK_ROW("idle monitor below 256 KiB", rss && strtoul(rss + 8, NULL, 10) < 256);
    }
    run_release(&r);
    forget();
}

static void check_stop(void)
{
    struct run r = RUN_INIT;
    (void)close(keep("true", 0));
    (void)wait_over();
    int fd = keep("sh@-c@trap 'echo bye; exit 7' TERM; echo up; while :; do sleep 0.01; done", 0);
    collect_lines(fd, &r, 1);
    int64_t began = clock_mono_ms();
    CHECK(kill(agent_pid, SIGTERM) == 0);
    collect(fd, &r);
    CHECK_ROW("its end is still told", r.exited && r.exit.code == 7);
    CHECK_STR("up\nbye\n", buf_str(&r.out));
    int status;
    CHECK(waitpid(agent_pid, &status, 0) == agent_pid && WIFEXITED(status) &&
          WEXITSTATUS(status) == 0);
    CHECK_ROW("nobody waits for those that are over", clock_mono_ms() - began < AGENT_STOP_MS);
    agent_pid = -1;
    run_release(&r);
}

int main(void)
{
    if (!rig_up())
        return check_done();
    check_plain();
    check_ring();
    check_alternating();
    check_slow_reader();
    check_replaced();
    check_stdin();
    check_tree();
    check_bounds();
    check_killed();
    check_listening();
    check_just_over();
    check_liar();
    measure();
    check_stop();
    rig_down();
    return check_done();
}
