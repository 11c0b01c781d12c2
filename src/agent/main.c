/* PID 1 of a sandbox.
 *
 * Owns the control connection and the list of monitors, one for each command (monitor.c). It dials
 * the daemon before anything else runs, so that it alone can be given the secret; when the daemon
 * goes away it dials again, and what runs goes on. It reaps everything, and has no blocking call
 * but poll.
 *
 * The secret lives in memory that other processes of our uid cannot read: neither we nor a monitor
 * is dumpable (a fork inherits that), so no ptrace, no /proc/<pid>/mem, no core.
 *
 * Children of PID 1 are monitors and nothing else. An orphan gets here only when its monitor, a
 * subreaper, was killed by code in the sandbox or gave up; its command has nobody to answer to any
 * more, so every child that is no monitor is killed, with all that is below it. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent.h"
#include "base/limits.h"

#define DEFAULT_SOCKET "/.sandboxed/run/agent.sock"
#define NEVER INT64_MAX
#define SWEEP_ROUND_MS 20
#define PAGE 4096u

static struct agent agent;
static pid_t monitors[AGENT_MONITORS_MAX];
static size_t monitor_count;

static int control = -1;
static bool welcome; /* the daemon has answered our hello */
static int64_t dial_at, dial_pause = AGENT_DIAL_MIN_MS;
static int64_t sweep_at = NEVER, stop_at = NEVER;

static int64_t ports_at = NEVER, ports_busy_until;
static uint8_t ports[PORTS_FRAME_MAX]; /* as last told */
static size_t ports_len;

static uint8_t inbox[FRAME_HEADER + FRAME_PAYLOAD_MAX] __attribute__((aligned(4096)));
static size_t inbox_len;

/* --- the control connection --- */

static void hang_up(void)
{
    if (control >= 0)
        close(control);
    control = -1;
    welcome = false;
    inbox_len = 0;
    ports_len = 0;
    dial_at = now_ms() + dial_pause;
    dial_pause = dial_pause * 2 < AGENT_DIAL_MAX_MS ? dial_pause * 2 : AGENT_DIAL_MAX_MS;
}

/* True when it was sent. A frame of ours always goes as a whole; the daemon may be slow for a
 * while.
 */
static bool tell(const uint8_t *frame, size_t len)
{
    ssize_t n = send(control, frame, len, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return false;
    if (n != (ssize_t)len)
        hang_up();
    return n == (ssize_t)len;
}

static void look_soon(void)
{
    int64_t soon = now_ms() + AGENT_PORTS_FAST_MS;
    ports_at = soon < ports_at ? soon : ports_at;
}

/* Nobody can open or close a port while no command runs, so then nobody needs to look. */
static void look_at_ports(void)
{
    uint8_t frame[PORTS_FRAME_MAX];
    int64_t began = now_ms();
    ports_at = NEVER;
    if (!welcome)
        return;
    size_t len = put_ports(frame);
    bool news = len != ports_len || memcmp(frame, ports, len) != 0;
    if (news && tell(frame, len)) {
        memcpy(ports, frame, len);
        ports_len = len;
        news = false;
    }
    int64_t now = now_ms();
    int64_t pause = now < ports_busy_until ? AGENT_PORTS_FAST_MS : AGENT_PORTS_SLOW_MS;
    if (pause < AGENT_PORTS_SHARE * (now - began))
        pause = AGENT_PORTS_SHARE * (now - began);
    if (welcome && (monitor_count > 0 || news))
        ports_at = now + pause;
}

static void redial(void)
{
    control = dial(&agent, HELLO_CONTROL, 0, SOCK_NONBLOCK);
    if (control < 0)
        hang_up();
}

static void spawn(const struct frame_spawn *spec)
{
    if (stop_at != NEVER || monitor_count == AGENT_MONITORS_MAX) {
        errand_refuse(&agent, spec->number, stop_at != NEVER ? ESHUTDOWN : EAGAIN, STEP_FORK);
        return;
    }
    ports_busy_until = now_ms() + AGENT_PORTS_BUSY_MS;
    look_soon();
    pid_t pid = fork();
    if (pid == 0) {
        close(control);
        errands_leave();
        monitor_count = 0; /* what is below a monitor is all its own */
        monitor_run(&agent, spec);
    }
    if (pid < 0)
        errand_refuse(&agent, spec->number, errno, STEP_FORK);
    else
        monitors[monitor_count++] = pid;
}

/* -1: this is not our daemon's way of talking. */
static int obey(const struct frame *f)
{
    if (f->type == FRAME_WELCOME && f->len == FRAME_SECRET && !welcome) {
        if (!agent.has_secret)
            memcpy(agent.secret, f->payload, FRAME_SECRET);
        agent.has_secret = welcome = true;
        dial_pause = AGENT_DIAL_MIN_MS;
        ports_at = 0;
        return 0;
    }
    if (f->type == FRAME_PING && f->len == 8 && welcome) {
        uint8_t pong[FRAME_HEADER + 8];
        frame_header(pong, FRAME_PONG, 8);
        memcpy(pong + FRAME_HEADER, f->payload, 8);
        return send(control, pong, sizeof pong, MSG_NOSIGNAL) == (ssize_t)sizeof pong ? 0 : -1;
    }
    if (f->type == FRAME_CONNECT && f->len == 10 && welcome) {
        errand_connect(&agent, frame_u64(f->payload), frame_u16(f->payload + 8));
        return 0;
    }
    struct frame_spawn spec;
    if (!welcome || frame_get_spawn(f, &spec) < 0)
        return -1;
    spawn(&spec);
    return 0;
}

static void read_control(void)
{
    ssize_t n = recv(control, inbox + inbox_len, sizeof inbox - inbox_len, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        hang_up();
        return;
    }
    inbox_len += (size_t)n;
    size_t at = 0, size, most = inbox_len;
    struct frame f;
    int r;
    while ((r = frame_parse(inbox + at, inbox_len - at, &f, &size)) > 0 && obey(&f) == 0)
        at += size;
    if (r != 0) {
        hang_up();
        return;
    }
    inbox_len -= at;
    memmove(inbox, inbox + at, inbox_len);
    /* A large request leaves no large agent behind. */
    size_t kept = (inbox_len + PAGE - 1) / PAGE * PAGE;
    if (most > 16 * PAGE && kept < sizeof inbox / PAGE * PAGE)
        (void)madvise(inbox + kept, sizeof inbox / PAGE * PAGE - kept, MADV_DONTNEED);
}

/* --- children --- */

static void sweep(void)
{
    sweep_at = tree_kill(monitors, monitor_count) > 0 ? now_ms() + SWEEP_ROUND_MS : NEVER;
}

/* Was it a monitor? Then not any more. */
static bool monitor_ended(pid_t pid)
{
    for (size_t i = 0; i < monitor_count; i++) {
        if (monitors[i] == pid) {
            monitors[i] = monitors[--monitor_count];
            return true;
        }
    }
    return false;
}

static bool is_monitor(pid_t pid)
{
    for (size_t i = 0; i < monitor_count; i++)
        if (monitors[i] == pid)
            return true;
    return false;
}

static void reap(void)
{
    int status;
    pid_t pid;
    while ((pid = waitpid(-1, &status, WNOHANG | WUNTRACED)) > 0) {
        if (WIFSTOPPED(status)) {
            /* Code in the sandbox may stop a monitor, but shall not keep it from its duty. */
            if (is_monitor(pid))
                (void)kill(pid, SIGCONT);
        } else if (!monitor_ended(pid) || status != 0) {
            sweep_at = 0;
        }
        look_soon();
    }
    if (pid < 0 && errno == ECHILD && stop_at != NEVER)
        _exit(0);
}

/* The Engine's stop: everybody gets TERM and a little time. Monitors block it, and so can still
 * tell how their commands ended. The rest dies with us. */
static void stop(void)
{
    if (stop_at != NEVER)
        return;
    stop_at = now_ms() + AGENT_STOP_MS;
    tree_signal(SIGTERM, NULL, 0);
    reap();
}

static void prepare(int argc, char **argv, char **environment)
{
    prctl(PR_SET_DUMPABLE, 0);
    prctl(PR_SET_CHILD_SUBREAPER, 1); /* as PID 1 we are that anyway */
    (void)syscall(SYS_close_range, 3u, ~0u, 0u);
    agent.socket_path = argc > 1 ? argv[1] : DEFAULT_SOCKET;
    agent.environ = environment;

    /* Commands inherit dispositions: all default, whatever the container's runtime left ignored. */
    for (int sig = 1; sig < 65; sig++)
        if (sig != SIGKILL && sig != SIGSTOP)
            (void)signal(sig, SIG_DFL); /* libc's own two refuse, and are default already */
    sigset_t all, heard;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL);
    sigemptyset(&heard);
    sigaddset(&heard, SIGCHLD);
    sigaddset(&heard, SIGTERM); /* and what images name as STOPSIGNAL */
    sigaddset(&heard, SIGINT);
    sigaddset(&heard, SIGQUIT);
    sigaddset(&heard, SIGHUP);
    agent.signal_fd = signalfd(-1, &heard, SFD_NONBLOCK | SFD_CLOEXEC);

    agent.null_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    int empty[2];
    if (agent.null_fd < 0 && pipe2(empty, O_CLOEXEC) == 0) {
        agent.null_fd = empty[0]; /* a pipe that nobody writes to reads the same */
        close(empty[1]);
    }
    if (agent.signal_fd < 0 || agent.null_fd < 0)
        _exit(1);
}

int main(int argc, char **argv, char **environment)
{
    prepare(argc, argv, environment);
    for (;;) {
        int64_t now = now_ms();
        if (control < 0 && now >= dial_at)
            redial();
        if (now >= sweep_at)
            sweep();
        if (now >= stop_at)
            _exit(0);
        if (now >= ports_at)
            look_at_ports();
        int64_t until = sweep_at < stop_at ? sweep_at : stop_at;
        if (control < 0 && dial_at < until)
            until = dial_at;
        if (ports_at < until)
            until = ports_at;
        struct pollfd p[2 + AGENT_ERRANDS_MAX] = {
            { .fd = agent.signal_fd, .events = POLLIN },
            { .fd = control, .events = POLLIN },
        };
        size_t count = 2 + errands_watch(p + 2, &until);
        int wait = -1;
        now = now_ms();
        if (until != NEVER)
            wait = until > now ? (int)(until - now) : 0;
        int ready = poll(p, (nfds_t)count, wait);
        if (count > 2)
            errands_advance(&agent);
        if (ready <= 0)
            continue;
        if (p[0].revents) {
            bool asked = signals_take(&agent);
            reap();
            if (asked)
                stop();
        }
        if (p[1].revents)
            read_control();
    }
}
