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
static struct slot { /* of the monitor at the same place */
    int channel;     /* -1: neither kept nor to be, or PID 1 is leaving */
    uint64_t process;
    bool kept, over;
} slots[AGENT_MONITORS_MAX];
static size_t monitor_count;

static int control = -1;
static bool welcome; /* the daemon has answered our hello */
static int64_t dial_at, dial_pause = AGENT_DIAL_MIN_MS;
static int64_t sweep_at = NEVER, stop_at = NEVER;

static int64_t kept_at = NEVER; /* the list of kept processes has changed */
static size_t kept_told;
static int64_t ports_at = NEVER, ports_busy_until;
static int64_t kept_began;             /* the last one */
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
    ports_len = kept_told = 0;
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

static void tell_kept(void)
{
    uint8_t frame[FRAME_HEADER + 8 * LINK_KEPT_MAX];
    size_t count = 0;
    kept_at = NEVER;
    for (size_t i = 0; i < monitor_count; i++)
        if (slots[i].kept && count < LINK_KEPT_MAX)
            frame_set_u64(frame + FRAME_HEADER + 8 * count++, slots[i].process);
    if (!welcome || count + kept_told == 0)
        return;
    frame_header(frame, FRAME_KEPT, (uint32_t)(8 * count));
    if (tell(frame, FRAME_HEADER + 8 * count))
        kept_told = count;
    else if (welcome)
        kept_at = now_ms() + AGENT_PORTS_FAST_MS;
}

/* The younger a kept process is, the closer the looks: a request may be held until it listens. A
 * plain command is not worth that, thousands of them may come and go. */
static int64_t until_next_look(int64_t now)
{
    int64_t pause = now < ports_busy_until ? AGENT_PORTS_FAST_MS : AGENT_PORTS_SLOW_MS;
    int64_t young = (now - kept_began) / AGENT_PORTS_AGE_SHARE + 1;
    return young < pause ? young : pause;
}

static void look_soon(void)
{
    int64_t now = now_ms(), pause = until_next_look(now);
    int64_t soon = now + (pause < AGENT_PORTS_FAST_MS ? pause : AGENT_PORTS_FAST_MS);
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
    int64_t pause = until_next_look(now);
    if (pause < AGENT_PORTS_SHARE * (now - began))
        pause = AGENT_PORTS_SHARE * (now - began);
    bool running = false;
    for (size_t i = 0; i < monitor_count; i++)
        running |= !slots[i].over;
    if (welcome && (running || news))
        ports_at = now + pause;
}

static void redial(void)
{
    control = dial(&agent, HELLO_CONTROL, 0, SOCK_NONBLOCK);
    if (control < 0)
        hang_up();
}

/* --- monitors --- */

static struct slot *find_process(uint64_t process)
{
    for (size_t i = 0; i < monitor_count; i++)
        if (process != 0 && slots[i].process == process && slots[i].channel >= 0)
            return &slots[i];
    return NULL;
}

static size_t count_kept(void)
{
    size_t n = 0;
    for (size_t i = 0; i < monitor_count; i++)
        n += slots[i].kept;
    return n;
}

/* Why there can be no monitor for it; 0: there can. */
static int why_not(const struct frame_spawn *spec)
{
    if (stop_at != NEVER)
        return ESHUTDOWN;
    if (monitor_count == AGENT_MONITORS_MAX)
        return EAGAIN;
    if ((spec->flags & SPAWN_KEEP) && count_kept() >= LINK_KEPT_MAX)
        return EDQUOT;
    return spec->process && find_process(spec->process) ? EEXIST : 0;
}

static void close_channels(void)
{
    for (size_t i = 0; i < monitor_count; i++) {
        if (slots[i].channel >= 0)
            close(slots[i].channel);
        slots[i].channel = -1;
    }
}

static void spawn(const struct frame_spawn *spec)
{
    int pair[2] = { -1, -1 };
    int error = why_not(spec);
    if (!error && spec->process &&
        socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
        error = errno;
    pid_t pid = error ? -1 : fork();
    if (pid == 0) {
        /* What is ours is not for it, and what is below it is all its own. */
        close(control);
        if (pair[0] >= 0)
            close(pair[0]);
        close_channels();
        errands_leave();
        monitor_count = 0;
        monitor_run(&agent, spec, pair[1]);
    }
    if (pid < 0)
        error = error ? error : errno;
    if (pair[1] >= 0)
        close(pair[1]);
    if (error) {
        if (pair[0] >= 0)
            close(pair[0]);
        errand_refuse(&agent, spec->number, error, STEP_FORK);
        return;
    }
    slots[monitor_count] = (struct slot){ .channel = pair[0],
                                          .process = spec->process,
                                          .kept = spec->flags & SPAWN_KEEP };
    monitors[monitor_count++] = pid;
    int64_t now = now_ms();
    if (spec->flags & SPAWN_KEEP) {
        kept_at = 0;
        kept_began = now;
    }
    ports_busy_until = now + AGENT_PORTS_BUSY_MS;
    look_soon();
}

static bool order(const struct slot *s, const struct order *o)
{
    return send(s->channel, o, sizeof *o, MSG_NOSIGNAL) == (ssize_t)sizeof *o;
}

static void attach(uint64_t number, uint64_t process, uint64_t offset)
{
    const struct slot *s = find_process(process);
    struct order o = { .kind = ORDER_ATTACH, .number = number, .offset = offset };
    if (!s || !order(s, &o)) /* one that has left keeps nothing */
        errand_refuse(&agent, number, s && errno == EAGAIN ? EAGAIN : ESRCH, STEP_ATTACH);
}

static void forget(struct slot *s)
{
    struct order o = { .kind = ORDER_FORGET };
    if (!order(s, &o)) /* it does not listen; what is below it is swept up */
        (void)kill(monitors[s - slots], SIGKILL);
    s->kept = false;
    s->process = 0;
    kept_at = 0;
}

static void hear_monitor(struct slot *s)
{
    uint8_t word;
    ssize_t n = recv(s->channel, &word, 1, 0);
    if (n == 1 && word == WORD_OVER) {
        s->over = true;
    } else if (n == 1 && word == WORD_KEPT && s->process) {
        bool full = count_kept() >= LINK_KEPT_MAX;
        s->kept = true;
        kept_at = 0;
        if (full)
            forget(s);
    } else if (n >= 0 || (errno != EAGAIN && errno != EINTR)) {
        close(s->channel); /* it is dead, and will be reaped */
        s->channel = -1;
    }
}

/* --- the control connection, heard --- */

/* -1: this is not our daemon's way of talking. */
static int obey(const struct frame *f)
{
    if (f->type == FRAME_WELCOME && f->len == FRAME_SECRET && !welcome) {
        if (!agent.has_secret)
            memcpy(agent.secret, f->payload, FRAME_SECRET);
        agent.has_secret = welcome = true;
        dial_pause = AGENT_DIAL_MIN_MS;
        ports_at = kept_at = 0;
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
    if (f->type == FRAME_ATTACH && f->len == 24 && welcome) {
        attach(frame_u64(f->payload), frame_u64(f->payload + 8), frame_u64(f->payload + 16));
        return 0;
    }
    if (f->type == FRAME_FORGET && f->len == 8 && welcome) {
        struct slot *s = find_process(frame_u64(f->payload));
        if (s)
            forget(s);
        return 0;
    }
    if (f->type == FRAME_NUDGE && f->len == 13 && welcome) {
        const struct slot *s = find_process(frame_u64(f->payload));
        struct order o = { .kind = ORDER_NUDGE,
                           .signal = frame_u32(f->payload + 8),
                           .tree = f->payload[12] };
        if (s)
            (void)order(s, &o);
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
            if (slots[i].channel >= 0)
                close(slots[i].channel);
            if (slots[i].kept)
                kept_at = 0;
            monitors[i] = monitors[--monitor_count];
            slots[i] = slots[monitor_count];
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
    close_channels();
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

/* Everything that is due; returns when something is the next time. */
static int64_t check_clock(void)
{
    int64_t now = now_ms();
    if (control < 0 && now >= dial_at)
        redial();
    if (now >= sweep_at)
        sweep();
    if (now >= stop_at)
        _exit(0);
    if (now >= kept_at)
        tell_kept();
    if (now >= ports_at)
        look_at_ports();
    int64_t until = sweep_at < stop_at ? sweep_at : stop_at;
    until = kept_at < until ? kept_at : until;
    until = ports_at < until ? ports_at : until;
    return control < 0 && dial_at < until ? dial_at : until;
}

int main(int argc, char **argv, char **environment)
{
    prepare(argc, argv, environment);
    for (;;) {
        int64_t until = check_clock();
        /* Fixed ones, channels, errands. */
        static struct pollfd p[2 + AGENT_MONITORS_MAX + AGENT_ERRANDS_MAX];
        size_t channels = monitor_count, count = 2;
        p[0] = (struct pollfd){ .fd = agent.signal_fd, .events = POLLIN };
        p[1] = (struct pollfd){ .fd = control, .events = POLLIN };
        for (size_t i = 0; i < channels; i++)
            p[count++] = (struct pollfd){ .fd = slots[i].channel, .events = POLLIN };
        size_t errands = errands_watch(p + count, &until);
        int wait = -1;
        int64_t now = now_ms();
        if (until != NEVER)
            wait = until > now ? (int)(until - now) : 0;
        int ready = poll(p, (nfds_t)(count + errands), wait);
        if (errands > 0)
            errands_advance(&agent);
        if (ready <= 0)
            continue;
        for (size_t i = 0; i < channels; i++) /* before anything moves the slots */
            if (p[2 + i].revents)
                hear_monitor(&slots[i]);
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
