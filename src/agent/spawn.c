/* Starts a command: working directory, environment, pipes or terminal, exec.
 *
 * The child borrows our memory until it has become the command (what vfork does, on a stack of its
 * own), which is the fastest way and lets it report a failure by plain assignment. We sleep
 * meanwhile, and all signals are blocked, so nothing else happens in the shared memory. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "agent.h"
#include "base/limits.h"

#define DEFAULT_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

#define CHILD_STACK (16 * KIB)

/* The kernel's own header does not go together with musl's. */
#define NO_MAGICLINKS 0x02
struct how {
    uint64_t flags, mode, resolve;
};

static char *argv[EXEC_ARGS_MAX + 1];
static char *envp[AGENT_ENV_MAX + 1];
static size_t env_count;

/* Where the kernel does not offer openat2: every component by itself, none may be a link. */
static int open_walking(const char *path)
{
    int fd = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    while (fd >= 0) {
        char name[256];
        path += strspn(path, "/");
        size_t n = strcspn(path, "/");
        if (n == 0)
            return fd;
        int next = -1;
        if (n >= sizeof name) {
            errno = ENAMETOOLONG;
        } else {
            memcpy(name, path, n);
            name[n] = 0;
            next = openat(fd, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        }
        int error = errno;
        close(fd);
        errno = error;
        fd = next;
        path += n;
    }
    return -1;
}

static bool is_below(const char *path, const char *root)
{
    size_t n = strlen(root);
    return strncmp(path, root, n) == 0 && (path[n] == 0 || path[n] == '/');
}

/* Enters the working directory. Magic links (/proc/self/fd/3, /proc/1/root) could lead to
 * directories that are no part of the sandbox's tree, so they are never followed, and where we then
 * really are must be one of the places meant for commands. */
static int enter(const char *cwd)
{
    struct how how = { .flags = O_PATH | O_DIRECTORY | O_CLOEXEC, .resolve = NO_MAGICLINKS };
    int fd = (int)syscall(SYS_openat2, AT_FDCWD, cwd, &how, sizeof how);
    if (fd < 0 && (errno == ENOSYS || errno == EPERM))
        fd = open_walking(cwd);
    if (fd < 0)
        return -1;
    int r = fchdir(fd);
    int error = errno;
    close(fd);
    errno = error;
    if (r < 0)
        return -1;
    static char real[PATH_BYTES_MAX];
    if (!getcwd(real, sizeof real))
        return -1;
    if (strcmp(real, "/") == 0 || is_below(real, "/home/sandbox") || is_below(real, "/tmp") ||
        is_below(real, "/var/tmp"))
        return 0;
    errno = EPERM;
    return -1;
}

static bool same_name(const char *a, const char *b)
{
    while (*a && *a != '=' && *a == *b)
        a++, b++;
    return *a == '=' && *b == '=';
}

/* Adds NAME=value, or puts it in the place of an earlier one. */
static int env_put(char *pair)
{
    size_t i = 0;
    while (i < env_count && !same_name(envp[i], pair))
        i++;
    if (i == AGENT_ENV_MAX)
        return -1;
    envp[i] = pair;
    if (i == env_count)
        env_count++;
    return 0;
}

/* Neither we nor execve write to the strings; the pointers lose their const for its sake. */
static int fill_vectors(const struct agent *a, const struct frame_spawn *spec)
{
    const char *at = spec->argv;
    for (uint32_t i = 0; i < spec->argc; i++, at += strlen(at) + 1)
        argv[i] = (char *)(uintptr_t)at;
    for (size_t i = 0; a->environ[i]; i++)
        if (strchr(a->environ[i], '=') && env_put(a->environ[i]) < 0)
            return -1;
    at = spec->env;
    for (uint32_t i = 0; i < spec->envc; i++, at += strlen(at) + 1)
        if (env_put((char *)(uintptr_t)at) < 0)
            return -1;
    return 0;
}

/* Tries argv[0] in each directory of the command's own PATH; returns the error that tells most. */
static int exec_by_path(void)
{
    static char file[PATH_BYTES_MAX];
    const char *name = argv[0], *path = DEFAULT_PATH;
    size_t name_len = strlen(name);
    int error = ENOENT;
    if (strchr(name, '/') || name_len == 0) {
        execve(name, argv, envp);
        return errno;
    }
    for (size_t i = 0; i < env_count; i++)
        if (strncmp(envp[i], "PATH=", 5) == 0)
            path = envp[i] + 5;
    for (;;) {
        size_t n = strcspn(path, ":");
        if (n + 1 + name_len < sizeof file) {
            memcpy(file, path, n);
            file[n] = '/';
            memcpy(n > 0 ? file + n + 1 : file, name, name_len + 1); /* empty: where we are */
            execve(file, argv, envp);
            if (errno == EACCES)
                error = EACCES; /* there, but not for us; a later one may be */
            else if (errno != ENOENT && errno != ENOTDIR)
                return errno;
        }
        if (!path[n])
            return error;
        path += n + 1;
    }
}

struct start {
    int in, out, err;
    int tty;   /* -1: none */
    int error; /* why there is no command */
};

/* In borrowed memory. Every signal has its default action since the agent's first moments; only the
 * mask is left to reset. */
static int child(void *arg)
{
    struct start *s = arg;
    sigset_t none;
    sigemptyset(&none);
    setsid();
    if (s->tty >= 0)
        (void)ioctl(s->tty, TIOCSCTTY, 0); /* a session leader without terminal, a fresh terminal */
    if (dup2(s->in, 0) < 0 || dup2(s->out, 1) < 0 || dup2(s->err, 2) < 0) {
        s->error = errno;
    } else {
        sigprocmask(SIG_SETMASK, &none, NULL);
        s->error = exec_by_path();
    }
    _exit(127);
}

static int own_end(int fd)
{
    return fcntl(fd, F_SETFL, O_NONBLOCK);
}

void command_resize(const struct command *c, uint16_t cols, uint16_t rows)
{
    struct winsize size = { .ws_col = cols, .ws_row = rows };
    (void)ioctl(c->tty, TIOCSWINSZ, &size); /* the kernel tells the foreground */
}

static int open_pipes(const struct agent *a, const struct frame_spawn *spec, struct start *s,
                      struct command *c)
{
    int in[2] = { a->null_fd, -1 }, out[2], err[2];
    if (pipe2(out, O_CLOEXEC) < 0 || pipe2(err, O_CLOEXEC) < 0 || own_end(out[0]) < 0 ||
        own_end(err[0]) < 0)
        return -1;
    if ((spec->flags & SPAWN_STDIN) && (pipe2(in, O_CLOEXEC) < 0 || own_end(in[1]) < 0))
        return -1;
    *s = (struct start){ .in = in[0], .out = out[1], .err = err[1], .tty = -1 };
    *c = (struct command){ .in_fd = in[1], .out_fd = out[0], .err_fd = err[0], .tty = -1 };
    return 0;
}

static int open_terminal(const struct frame_spawn *spec, struct start *s, struct command *c)
{
    char name[32];
    struct termios t;
    int own = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (own < 0 || own_end(own) < 0 || unlockpt(own) < 0 || ptsname_r(own, name, sizeof name) != 0)
        return -1;
    int tty = open(name, O_RDWR | O_NOCTTY | O_CLOEXEC);
    int in = fcntl(own, F_DUPFD_CLOEXEC, 0);
    if (tty < 0 || in < 0 || tcgetattr(tty, &t) < 0)
        return -1;
    t.c_iflag |= IUTF8;
    if (tcsetattr(tty, TCSANOW, &t) < 0)
        return -1;
    *s = (struct start){ .in = tty, .out = tty, .err = tty, .tty = tty };
    *c = (struct command){ .in_fd = in, .out_fd = own, .err_fd = -1, .tty = tty };
    command_resize(c, spec->cols, spec->rows);
    return 0;
}

int command_start(const struct agent *a, const struct frame_spawn *spec, struct command *ret,
                  enum frame_step *ret_step)
{
    *ret_step = STEP_CWD;
    if (enter(spec->cwd) < 0)
        return -1;
    *ret_step = STEP_EXEC;
    if (fill_vectors(a, spec) < 0) {
        errno = E2BIG;
        return -1;
    }
    *ret_step = STEP_FORK;
    /* Whoever fails here leaves its descriptors to the exit that follows at once. */
    struct start start;
    struct command c;
    bool terminal = spec->flags & SPAWN_PTY;
    if ((terminal ? open_terminal(spec, &start, &c) : open_pipes(a, spec, &start, &c)) < 0)
        return -1;
    static char stack[CHILD_STACK] __attribute__((aligned(16)));
    pid_t pid = clone(child, stack + sizeof stack, CLONE_VM | CLONE_VFORK | SIGCHLD, &start);
    if (pid < 0)
        return -1;
    if (start.error) {
        (void)waitpid(pid, NULL, 0); /* leave no zombie for PID 1 to wonder at */
        *ret_step = STEP_EXEC;
        errno = start.error;
        return -1;
    }
    if (!terminal) {
        close(start.out);
        close(start.err);
        if (start.in != a->null_fd)
            close(start.in);
    }
    c.pid = pid;
    *ret = c;
    return 0;
}
