/* Ports that listen and connections to them; agents that pass what was not asked for. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>

#include "agentrig.h"

static size_t open_fds(void)
{
    size_t n = 0;
    for (int fd = 0; fd < 1024; fd++)
        n += fcntl(fd, F_GETFD) >= 0;
    return n;
}

/* Listens on each address, prints its port, echoes one connection after the other. */
#define SERVER                                                                        \
    "python3@-c@import socket,sys\n"                                                  \
    "s=socket.socket(socket.AF_INET6 if ':' in sys.argv[1] else socket.AF_INET)\n"    \
    "s.bind((sys.argv[1],0)); s.listen(1024); print(s.getsockname()[1],flush=True)\n" \
    "while True:\n"                                                                   \
    " c=s.accept()[0]\n"                                                              \
    " while (d:=c.recv(65536)): c.sendall(d)\n"                                       \
    " c.close()@"

static uint16_t serve(const char *addr, int *ret_stream)
{
    char words[1024];
    struct run r = RUN_INIT;
    (void)snprintf(words, sizeof words, "%s%s", SERVER, addr);
    *ret_stream = spawn(words, 0, 0);
    collect_lines(*ret_stream, &r, 1);
    uint16_t port = (uint16_t)strtoul(buf_str(&r.out), NULL, 10);
    if (!CHECK_ROW(addr, port > 0))
        printf("# %s\n", buf_str(&r.err));
    run_release(&r);
    return port;
}

static bool is_listed(uint16_t port)
{
    struct link_port ports[LINK_PORTS_MAX];
    size_t n = link_ports(lnk, &id, ports, LINK_PORTS_MAX);
    for (size_t i = 0; i < n; i++)
        if (ports[i].port == port)
            return true;
    return false;
}

static bool unlisted_soon(uint16_t port)
{
    int64_t deadline = soon();
    while (is_listed(port) && clock_mono_ms() < deadline)
        (void)poll(NULL, 0, 5);
    return !is_listed(port);
}

static void check_ports(void)
{
    static const struct {
        const char *addr;
        bool loopback, reachable;
    } rows[] = {
        { "127.0.0.1", true, true }, { "0.0.0.0", false, true }, { "127.0.0.2", true, false },
        { "::1", true, true },       { "::", false, true },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        int stream, fd = -1;
        bool loopback = !rows[i].loopback;
        uint16_t port = serve(rows[i].addr, &stream);
        int64_t began = clock_mono_ms();
        CHECK_ROW(rows[i].addr, link_wait_port(lnk, &id, port, soon(), &loopback, &err) == 0);
        CHECK_ROW(rows[i].addr, clock_mono_ms() - began < 5000 && is_listed(port));
        CHECK_ROW(rows[i].addr, loopback == rows[i].loopback);
        int r = link_connect(lnk, &id, port, soon(), &fd, &err);
        if (rows[i].reachable && CHECK_ROW(rows[i].addr, r == 0)) {
            char echo[6] = "";
            CHECK_ROW(rows[i].addr, (fcntl(fd, F_GETFL) & O_NONBLOCK) == 0 &&
                                        (fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0);
            CHECK_ROW(rows[i].addr, fd_write_all(fd, "hello", 5) == 0 &&
                                        fd_read_all(fd, echo, 5) == 0 && str_eq(echo, "hello"));
            /* Nobody else holds it: our close is the app's end of file. */
            CHECK(shutdown(fd, SHUT_WR) == 0);
            CHECK_ROW(rows[i].addr, fd_wait(fd, POLLIN, soon()) == 1 && recv(fd, echo, 1, 0) == 0);
            (void)close(fd);
        } else {
            CHECK_ROW(rows[i].addr, r < 0 && err.code == ERR_UNAVAILABLE);
        }
        (void)close(stream);
        CHECK_ROW(rows[i].addr, unlisted_soon(port));
    }
}

/* Most others' ports on this machine are not the sandbox's: they have another uid. */
static void check_foreign(void)
{
    AUTO(fd) int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in addr = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t len = sizeof addr;
    CHECK(bind(fd, (struct sockaddr *)&addr, len) == 0 &&
          getsockname(fd, (struct sockaddr *)&addr, &len) == 0);
    uint16_t port = ntohs(addr.sin_port);
    int conn = -1;
    CHECK_ROW("bound, but not listening", link_connect(lnk, &id, port, soon(), &conn, &err) < 0 &&
                                              err.code == ERR_UNAVAILABLE &&
                                              err.sys == ECONNREFUSED);
    bool loopback;
    int64_t began = clock_mono_ms();
    CHECK(link_wait_port(lnk, &id, port, began + 50, &loopback, &err) < 0 &&
          err.code == ERR_TIMEOUT && clock_mono_ms() - began < 5000);
    CHECK(listen(fd, 0) == 0);
    int stream;
    uint16_t own = serve("127.0.0.1", &stream);
    CHECK(link_wait_port(lnk, &id, own, soon(), &loopback, &err) == 0);
    CHECK(link_listens(lnk, &id, own, &loopback) && !link_listens(lnk, &id, 1, &loopback));
    CHECK_ROW("another uid's", getuid() != 0 || !is_listed(port));
    (void)close(stream);
    CHECK(unlisted_soon(own));

    /* One whose queue is full neither answers nor holds up anybody else. */
    int full[8];
    for (size_t i = 0; i < 8; i++) {
        full[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        (void)connect(full[i], (struct sockaddr *)&addr, len);
    }
    CHECK(fd_wait(fd, POLLIN, soon()) == 1); /* its one place is taken */
    began = clock_mono_ms();
    CHECK_ROW("queue full", link_connect(lnk, &id, port, began + 100, &conn, &err) < 0 &&
                                err.code == ERR_TIMEOUT);
    struct run r = RUN_INIT;
    collect(spawn("true", 0, 0), &r);
    CHECK_ROW("agent goes on", r.exited && r.exit.code == 0);
    run_release(&r);
    for (size_t i = 0; i < 8; i++)
        (void)close(full[i]);
}

static void check_many(void)
{
    struct link_port ports[LINK_PORTS_MAX];
    size_t before = link_ports(lnk, &id, ports, LINK_PORTS_MAX);
    struct run r = RUN_INIT;
    int fd = spawn("python3@-c@import socket,time\n"
                   "l=[socket.socket() for i in range(400)]\n"
                   "for s in l: s.bind(('127.0.0.1',0)); s.listen(1)\n"
                   "print(1,flush=True)\ntime.sleep(100)",
                   0, 0);
    collect_lines(fd, &r, 1);
    int64_t deadline = soon();
    size_t n;
    while ((n = link_ports(lnk, &id, ports, LINK_PORTS_MAX)) < LINK_PORTS_MAX &&
           clock_mono_ms() < deadline)
        (void)poll(NULL, 0, 5);
    CHECK_ROW("more ports than are told", n == LINK_PORTS_MAX);
    for (size_t i = 1; i < n; i++)
        if (ports[i].port <= ports[i - 1].port)
            CHECK_ROW("ascending", false);
    CHECK(link_ports(lnk, &id, ports, 3) == 3);
    (void)close(fd);
    /* A process that ends closes one after the other: the last one counts. */
    for (deadline = soon(); n > before && clock_mono_ms() < deadline; (void)poll(NULL, 0, 5))
        n = link_ports(lnk, &id, ports, LINK_PORTS_MAX);
    CHECK(n <= before);
    run_release(&r);
}

static void check_changes(void)
{
    struct sandbox_id which;
    uint32_t what;
    int changes = link_changes_fd(lnk);
    while (link_next_change(lnk, &which, &what))
        ;
    CHECK_ROW("nothing to tell", fd_wait(changes, POLLIN, clock_mono_ms()) == 0);
    int stream;
    uint16_t port = serve("127.0.0.1", &stream);
    CHECK(fd_wait(changes, POLLIN, soon()) == 1 && link_next_change(lnk, &which, &what));
    CHECK(sandbox_id_eq(&which, &id) && what == LINK_CHANGE_PORTS && is_listed(port));
    CHECK_ROW("told once", fd_wait(changes, POLLIN, clock_mono_ms()) == 0 &&
                               !link_next_change(lnk, &which, &what));
    (void)close(stream);
    CHECK(unlisted_soon(port));
    CHECK(link_next_change(lnk, &which, &what) && what == LINK_CHANGE_PORTS);
}

/* --- agents that lie --- */

static int liar_control;

static bool liar_up(void)
{
    uint8_t key[FRAME_SECRET], reply[FRAME_HEADER + FRAME_SECRET];
    sandbox_id_new(&id);
    rig_socket();
    random_bytes(key, sizeof key);
    CHECK(link_expect(lnk, &id, key, true, &err) == 0);
    memcpy(secret, key, sizeof secret);
    struct frame_hello h = { .kind = HELLO_CONTROL };
    liar_control = dial(&h);
    return CHECK(fd_read_all(liar_control, reply, sizeof reply) == 0) &&
           CHECK(link_wait_ready(lnk, &id, soon(), &err) == 0);
}

static void liar_again(void)
{
    uint8_t reply[FRAME_HEADER + FRAME_SECRET];
    struct frame_hello h = { .kind = HELLO_CONTROL, .has_secret = true };
    memcpy(h.secret, secret, sizeof secret);
    liar_control = dial(&h);
    CHECK(fd_read_all(liar_control, reply, sizeof reply) == 0);
    CHECK(link_wait_ready(lnk, &id, soon(), &err) == 0);
}

static void check_lists(void)
{
    static const struct {
        const char *name;
        enum frame_type type;
        uint32_t len;
        uint8_t payload[12];
        bool taken;
    } rows[] = {
        { "none", FRAME_PORTS, 0, { 0 }, true },
        { "two", FRAME_PORTS, 6, { 1, 0, 1, 2, 0, 0 }, true },
        { "half a port", FRAME_PORTS, 4, { 1, 0, 1, 2 }, false },
        { "port 0", FRAME_PORTS, 3, { 0, 0, 0 }, false },
        { "twice the same", FRAME_PORTS, 6, { 1, 0, 1, 1, 0, 1 }, false },
        { "descending", FRAME_PORTS, 6, { 2, 0, 1, 1, 0, 1 }, false },
        { "strange truth", FRAME_PORTS, 3, { 1, 0, 2 }, false },
        { "more than allowed", FRAME_PORTS, 3 * LINK_PORTS_MAX + 3, { 1, 0, 1 }, false },
        { "no process", FRAME_KEPT, 0, { 0 }, true },
        { "one", FRAME_KEPT, 8, { 7 }, true },
        { "half a process", FRAME_KEPT, 12, { 7 }, false },
        { "more processes than allowed", FRAME_KEPT, 8 * LINK_KEPT_MAX + 8, { 7 }, false },
        { "half a megabyte", FRAME_PORTS, FRAME_PAYLOAD_MAX, { 7 }, false },
        { "a frame of the daemon", FRAME_ATTACH, 0, { 0 }, false },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        uint8_t frame[FRAME_HEADER + 1024] = { 0 };
        frame_header(frame, rows[i].type, rows[i].len);
        memcpy(frame + FRAME_HEADER, rows[i].payload, sizeof rows[i].payload);
        size_t len = FRAME_HEADER + rows[i].len;
        /* Byte by byte first, so that every cut is met. */
        for (size_t at = 0; at < 16 && at < len; at++)
            (void)send(liar_control, frame + at, 1, MSG_NOSIGNAL);
        if (len > 16)
            (void)send(liar_control, frame + 16, (len < sizeof frame ? len : sizeof frame) - 16,
                       MSG_NOSIGNAL);
        if (rows[i].taken) {
            /* What the agent says next is heard after it. */
            frame_header(frame, FRAME_PORTS, 3);
            memcpy(frame + FRAME_HEADER, "\x09\x00\x01", 3);
            bool loopback;
            CHECK(send(liar_control, frame, FRAME_HEADER + 3, MSG_NOSIGNAL) == FRAME_HEADER + 3);
            CHECK_ROW(rows[i].name, link_wait_port(lnk, &id, 9, soon(), &loopback, &err) == 0);
        } else {
            CHECK_ROW(rows[i].name, is_closed(liar_control));
            struct link_port one;
            uint64_t process;
            CHECK_ROW(rows[i].name, link_ports(lnk, &id, &one, 1) == 0 &&
                                        link_processes(lnk, &id, &process, 1) == 0);
            liar_again();
        }
    }
}

struct lie {
    const char *name;
    enum {
        NO_FD,
        UNIX_FD,
        FILE_FD,
        UDP_FD,
        UNCONNECTED,
        OTHER_PORT,
        RIGHT,
        RIGHT_TWICE,
        MANY
    } pass;
    uint8_t frame[16];
    size_t len;
    bool late; /* the descriptor comes with the frame's last byte */
    enum err_code want;
};
static const struct lie lies[] = {
    { "no descriptor", NO_FD, { 0, 0, 0, 0, FRAME_CONNECTED, 1 }, 8, false, ERR_UNAVAILABLE },
    { "a Unix socket", UNIX_FD, { 0, 0, 0, 0, FRAME_CONNECTED, 1 }, 8, false, ERR_UNAVAILABLE },
    { "a file", FILE_FD, { 0, 0, 0, 0, FRAME_CONNECTED, 1 }, 8, false, ERR_UNAVAILABLE },
    { "a UDP socket", UDP_FD, { 0, 0, 0, 0, FRAME_CONNECTED, 1 }, 8, false, ERR_UNAVAILABLE },
    { "not connected", UNCONNECTED, { 0, 0, 0, 0, FRAME_CONNECTED, 1 }, 8, false, ERR_UNAVAILABLE },
    { "another port", OTHER_PORT, { 0, 0, 0, 0, FRAME_CONNECTED, 1 }, 8, false, ERR_UNAVAILABLE },
    { "two", RIGHT_TWICE, { 0, 0, 0, 0, FRAME_CONNECTED, 1 }, 8, false, ERR_UNAVAILABLE },
    { "two hundred", MANY, { 0, 0, 0, 0, FRAME_CONNECTED, 1 }, 8, false, ERR_UNAVAILABLE },
    { "with a refusal",
      RIGHT,
      { 5, 0, 0, 0, FRAME_FAILED, 1, 0, 0, 111, 0, 0, 0, 5 },
      13,
      false,
      ERR_UNAVAILABLE },
    { "with a refusal's end",
      RIGHT,
      { 5, 0, 0, 0, FRAME_FAILED, 1, 0, 0, 111, 0, 0, 0, 5 },
      13,
      true,
      ERR_UNAVAILABLE },
    { "other frame", RIGHT, { 0, 0, 0, 0, FRAME_STDOUT, 1 }, 8, false, ERR_UNAVAILABLE },
    { "no frame", RIGHT, { 255, 255, 255, 255, 99 }, 8, false, ERR_UNAVAILABLE },
    { "with a payload",
      RIGHT,
      { 4, 0, 0, 0, FRAME_CONNECTED, 1, 0, 0, 1, 2, 3, 4 },
      12,
      false,
      ERR_UNAVAILABLE },
    { "half a frame", RIGHT, { 0, 0, 0, 0, FRAME_CONNECTED, 1 }, 5, false, ERR_UNAVAILABLE },
    { "refused with error 0",
      NO_FD,
      { 5, 0, 0, 0, FRAME_FAILED, 1, 0, 0, 0, 0, 0, 0, 5 },
      13,
      false,
      ERR_UNAVAILABLE },
    { "refused with a huge error",
      NO_FD,
      { 5, 0, 0, 0, FRAME_FAILED, 1, 0, 0, 255, 255, 255, 255 },
      13,
      false,
      ERR_UNAVAILABLE },
    { "refused with half an error",
      NO_FD,
      { 2, 0, 0, 0, FRAME_FAILED, 1, 0, 0, 111, 0 },
      10,
      false,
      ERR_UNAVAILABLE },
    { "right", RIGHT, { 0, 0, 0, 0, FRAME_CONNECTED, 1 }, 8, false, ERR_CODE_COUNT },
    { "right, late", RIGHT, { 0, 0, 0, 0, FRAME_CONNECTED, 1 }, 8, true, ERR_CODE_COUNT },
};

static struct sockaddr_in target = { .sin_family = AF_INET };

static int make_fd(int pass)
{
    struct sockaddr_in addr = target;
    int fd = -1;
    if (pass == UNIX_FD)
        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    else if (pass == FILE_FD)
        fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    else if (pass == UDP_FD)
        fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    else
        fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (pass == OTHER_PORT) { /* connected to itself, which is on loopback */
        addr.sin_port = 0;
        socklen_t len = sizeof addr;
        CHECK(bind(fd, (struct sockaddr *)&addr, len) == 0 &&
              getsockname(fd, (struct sockaddr *)&addr, &len) == 0);
    }
    if (pass == UDP_FD || pass >= OTHER_PORT)
        CHECK(connect(fd, (struct sockaddr *)&addr, sizeof addr) == 0);
    return fd;
}

static void send_lie(int stream, const struct lie *lie)
{
    int fd = lie->pass == NO_FD ? -1 : make_fd((int)lie->pass);
    int count = lie->pass == NO_FD ? 0 : lie->pass == RIGHT_TWICE ? 2 : lie->pass == MANY ? 200 : 1;
    union {
        struct cmsghdr head;
        char space[CMSG_SPACE(200 * sizeof(int))];
    } control = { .head = { .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS } };
    control.head.cmsg_len = CMSG_LEN((size_t)count * sizeof(int));
    for (int i = 0; i < count; i++)
        memcpy(CMSG_DATA(&control.head) + (size_t)i * sizeof fd, &fd, sizeof fd);
    size_t first = lie->late ? lie->len - 1 : 0;
    if (first > 0)
        (void)send(stream, lie->frame, first, MSG_NOSIGNAL);
    struct iovec io = { .iov_base = (void *)(uintptr_t)(lie->frame + first),
                        .iov_len = lie->len - first };
    struct msghdr m = { .msg_iov = &io, .msg_iovlen = 1 };
    if (count > 0) {
        m.msg_control = &control;
        m.msg_controllen = CMSG_SPACE((size_t)count * sizeof(int));
    }
    (void)sendmsg(stream, &m, MSG_NOSIGNAL);
    if (fd >= 0)
        (void)close(fd);
}

static void *lie_once(void *arg)
{
    const struct lie *lie = arg;
    uint8_t request[FRAME_HEADER + 10];
    if (fd_read_all(liar_control, request, sizeof request) < 0)
        return NULL;
    struct frame_hello h = { .kind = HELLO_STREAM,
                             .has_secret = true,
                             .number = frame_u64(request + FRAME_HEADER) };
    memcpy(h.secret, secret, sizeof secret);
    int stream = dial(&h);
    send_lie(stream, lie);
    (void)close(stream);
    return NULL;
}

static void check_liar(void)
{
    struct sandbox_id keep = id;
    if (!liar_up())
        return;
    check_lists();
    AUTO(fd) int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    socklen_t len = sizeof target;
    target.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    CHECK(bind(listener, (struct sockaddr *)&target, len) == 0 && listen(listener, 512) == 0 &&
          getsockname(listener, (struct sockaddr *)&target, &len) == 0);
    size_t before = open_fds();
    for (size_t i = 0; i < sizeof lies / sizeof *lies; i++) {
        pthread_t thread;
        struct lie lie = lies[i];
        CHECK(pthread_create(&thread, NULL, lie_once, &lie) == 0);
        int fd = -1;
        int r = link_connect(lnk, &id, ntohs(target.sin_port), soon(), &fd, &err);
        (void)pthread_join(thread, NULL);
        if (lie.want == ERR_CODE_COUNT)
            CHECK_ROW(lie.name, r == 0 && fd >= 0 && close(fd) == 0);
        else
            CHECK_ROW(lie.name, r < 0 && fd < 0 && err.code == lie.want);
        /* An answer that the other agent owes may be on its way in: one that leaks would stay. */
        for (int64_t end = soon(); open_fds() != before && clock_mono_ms() < end;)
            (void)poll(NULL, 0, 2);
        CHECK_ROW(lie.name, open_fds() == before);
    }
    int fd = -1;
    int64_t began = clock_mono_ms();
    CHECK_ROW("no answer", link_connect(lnk, &id, 80, began + 50, &fd, &err) < 0 &&
                               err.code == ERR_TIMEOUT && clock_mono_ms() - began < 5000);
    (void)close(liar_control);
    bool loopback;
    CHECK_ROW("waiting for a port ends with the agent",
              link_wait_port(lnk, &id, 80, soon(), &loopback, &err) < 0 &&
                  err.code == ERR_UNAVAILABLE);
    link_forget(lnk, &id);
    CHECK(link_connect(lnk, &id, 80, soon(), &fd, &err) < 0 && err.code == ERR_UNAVAILABLE);
    struct link_port one;
    CHECK(link_ports(lnk, &id, &one, 1) == 0);
    id = keep;
    rig_socket();
}

/* --- figures --- */

static void measure(void)
{
    enum { ROUNDS = 1000 };
    int stream;
    uint16_t port = serve("127.0.0.1", &stream);
    int64_t began = clock_mono_us(), worst = 0;
    for (int i = 0; i < ROUNDS; i++) {
        int64_t start = clock_mono_us();
        int fd = -1;
        if (!link_connect(lnk, &id, port, soon(), &fd, &err))
            (void)close(fd);
        else
            CHECK(false);
        int64_t took = clock_mono_us() - start;
        worst = took > worst ? took : worst;
    }
    printf("# connect by the agent: %lld us on average, %lld us at most\n",
           (long long)((clock_mono_us() - began) / ROUNDS), (long long)worst);
    (void)close(stream);
}

int main(void)
{
    if (!rig_up())
        return check_done();
    check_ports();
    check_foreign();
    check_many();
    check_changes();
    measure();
    uint8_t keep[FRAME_SECRET];
    memcpy(keep, secret, sizeof keep);
    check_liar();
    memcpy(secret, keep, sizeof keep);
    rig_down();
    return check_done();
}
