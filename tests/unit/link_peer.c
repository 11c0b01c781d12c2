/* Who is let in and who is not; daemons that restart, agents that lie, code that kills its
 * guardian. */
#include <arpa/inet.h>
#include <netinet/in.h>

#include "agentrig.h"

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

/* A connection that takes an hour to close: it lingers, and its peer does not read. */
static int make_lingering(int *ret_peer)
{
    struct sockaddr_in addr = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t len = sizeof addr;
    struct linger hour = { .l_onoff = 1, .l_linger = 3600 };
    AUTO(fd) int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(bind(listener, (struct sockaddr *)&addr, len) == 0 && listen(listener, 1) == 0 &&
          getsockname(listener, (struct sockaddr *)&addr, &len) == 0 &&
          connect(fd, (struct sockaddr *)&addr, len) == 0);
    *ret_peer = accept(listener, NULL, NULL);
    static char much[256 * KIB];
    while (send(fd, much, sizeof much, MSG_DONTWAIT) > 0)
        ;
    CHECK(setsockopt(fd, SOL_SOCKET, SO_LINGER, &hour, sizeof hour) == 0);
    return fd;
}

/* Descriptors that a stranger sends must not cost us the time that it takes to close them. */
static void check_gifts(void)
{
    static const struct {
        const char *name;
        size_t before; /* bytes that go ahead */
        bool hello, stay;
    } rows[] = {
        { "with the first byte", 0, false, false },
        { "behind the hello", 0, true, false },
        { "unread, when the sandbox goes", 0, true, true },
        { "in the middle of a hello", 20, false, false },
    };
    struct sandbox_id keep = id;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        uint8_t key[FRAME_SECRET] = { 1 };
        sandbox_id_new(&id);
        rig_socket();
        CHECK(link_expect(lnk, &id, key, false, &err) == 0);
        struct frame_hello h = { .kind = HELLO_STREAM };
        int peer, gift = make_lingering(&peer);
        int fd = dial(rows[i].hello && !rows[i].stay ? &h : NULL);
        if (rows[i].before > 0) {
            uint8_t start[FRAME_HEADER + FRAME_HELLO_LEN] = { 0 };
            frame_header(start, FRAME_HELLO, FRAME_HELLO_LEN);
            CHECK(send(fd, start, rows[i].before, MSG_NOSIGNAL) > 0);
        }
        union {
            struct cmsghdr head;
            char space[CMSG_SPACE(sizeof(int))];
        } control = { .head = { .cmsg_level = SOL_SOCKET,
                                .cmsg_type = SCM_RIGHTS,
                                .cmsg_len = CMSG_LEN(sizeof(int)) } };
        memcpy(CMSG_DATA(&control.head), &gift, sizeof gift);
        struct iovec io = { .iov_base = (char[]){ "x" }, .iov_len = 1 };
        struct msghdr m = { .msg_iov = &io,
                            .msg_iovlen = 1,
                            .msg_control = &control,
                            .msg_controllen = sizeof control };
        struct linger none = { 0 };
        if (sendmsg(fd, &m, MSG_NOSIGNAL) < 0) /* it was too late; then it is ours to close */
            (void)setsockopt(gift, SOL_SOCKET, SO_LINGER, &none, sizeof none);
        (void)close(gift);
        int64_t began = clock_mono_ms();
        if (rows[i].stay)
            link_forget(lnk, &id);
        CHECK_ROW(rows[i].name, is_closed(fd));
        link_forget(lnk, &id);
        id = keep;
        rig_socket();
        struct run r = RUN_INIT;
        collect(spawn("true", 0, 0), &r);
        CHECK_ROW(rows[i].name, r.exited && clock_mono_ms() - began < SOON);
        run_release(&r);
        (void)close(peer);
    }
}

/* An agent that was taken over: whatever it says, the daemon neither hangs nor falls. */
static void check_liar(void)
{
    struct sandbox_id keep = id;
    uint8_t key[FRAME_SECRET], reply[FRAME_HEADER + FRAME_SECRET];
    sandbox_id_new(&id);
    rig_socket();
    random_bytes(key, sizeof key);
    CHECK(link_expect(lnk, &id, key, true, &err) == 0);
    struct frame_hello h = { .kind = HELLO_CONTROL };
    int fd = dial(&h);
    CHECK(fd_read_all(fd, reply, sizeof reply) == 0 && reply[4] == FRAME_WELCOME &&
          memcmp(reply + FRAME_HEADER, key, sizeof key) == 0);
    CHECK(link_wait_ready(lnk, &id, soon(), &err) == 0);
    int64_t began = clock_mono_ms();
    struct frame_spawn s = { .cwd = "/", .argv = "true", .argc = 1 };
    int stream = -1;
    CHECK_ROW("never opens the stream",
              link_spawn(lnk, &id, &s, 5, 0, began + 50, &stream, &err) < 0 &&
                  err.code == ERR_TIMEOUT);
    /* It reads nothing: requests pile up to their ceiling and no further. */
    AUTO(free) char *big = mem_new(1, EXEC_SPEC_MAX);
    memset(big, 'x', EXEC_SPEC_MAX - 1);
    s.argv = big;
    int refused = 0;
    for (unsigned i = 0; i < 20 && !refused; i++)
        refused =
            link_spawn(lnk, &id, &s, EXEC_SPEC_MAX, 0, clock_mono_ms() + 5, &stream, &err) < 0 &&
            err.code == ERR_UNAVAILABLE;
    CHECK_ROW("requests bounded", refused && link_ready(lnk, &id));
    uint8_t lie[FRAME_HEADER];
    frame_header(lie, FRAME_STDOUT, 0);
    CHECK(send(fd, lie, sizeof lie, MSG_NOSIGNAL) == sizeof lie);
    struct pollfd p = { .fd = fd, .events = POLLRDHUP };
    CHECK_ROW("a frame out of place", poll(&p, 1, SOON) == 1);
    CHECK(!link_ready(lnk, &id));
    (void)close(fd);
    CHECK_ROW("not let in again without the secret", is_closed(dial(&h)));
    link_forget(lnk, &id);
    CHECK(!link_ready(lnk, &id) && access(socket_path, F_OK) < 0);
    CHECK(link_wait_ready(lnk, &id, soon(), &err) < 0 && err.code == ERR_NOT_FOUND);
    id = keep;
    rig_socket();
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
    char link_path[128];
    (void)snprintf(link_path, sizeof link_path, "%s/link-to-tmp", home);
    CHECK(symlink("/tmp", link_path) == 0);
    sandbox_id_new(&id);
    rig_socket();
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
    rig_socket();
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

int main(void)
{
    if (!rig_up())
        return check_done();
    CHECK(link_expect(lnk, &id, secret, false, &err) == 0);
    CHECK_ROW("same again", link_ready(lnk, &id));
    CHECK(link_expect(lnk, &id, secret, true, &err) == 0);
    CHECK_ROW("started over, its agent knows the secret",
              link_wait_ready(lnk, &id, soon(), &err) == 0);
    check_strangers();
    check_gifts();
    int silent = dial(NULL);
    check_liar();
    check_old_kernel();
    check_monitor_killed();
    CHECK_ROW("who never says who he is", is_closed(silent));
    check_detached();
    rig_down();
    return check_done();
}
