/* What the files of the agent share. The agent is one small static program: PID 1 of a sandbox
 * (main.c), and a forked copy of it for each command (monitor.c). Nothing here allocates. */
#ifndef AGENT_H
#define AGENT_H

#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/limits.h"
#include "wire/frames.h"

struct agent {
    const char *socket_path;
    char **environ; /* the image's; every command's environment starts with it */
    int signal_fd;  /* all signals we care for; each process reads its own from it */
    int null_fd;    /* stdin of commands that are fed nothing */
    bool has_secret;
    uint8_t secret[FRAME_SECRET];
};

int64_t now_ms(void);
/* Empties the signalfd; true when one of them was a wish of the Engine's to stop. */
bool signals_take(const struct agent *a);

/* Connects to the daemon and says who we are; -1 with errno. number: 0 for control. */
int dial(const struct agent *a, enum frame_hello_kind kind, uint64_t number, int socket_flags);
/* Writes FRAME_FAILED with its header into out; returns its length. */
#define FAILED_MAX (FRAME_HEADER + FRAME_FAILED_MIN + 64)
size_t put_failed(uint8_t out[FAILED_MAX], int error, enum frame_step step);

/* --- ports.c --- */
struct listener {
    uint64_t inode; /* of the socket */
    uint16_t port;
    bool loopback;
};
/* The sandbox's listening TCP sockets, in no order; *ret is good until the next call. */
size_t listeners(const struct listener **ret);
/* Writes FRAME_PORTS with its header into out; returns its length. */
#define PORTS_FRAME_MAX (FRAME_HEADER + 3 * LINK_PORTS_MAX)
size_t put_ports(uint8_t out[PORTS_FRAME_MAX]);

/* --- errand.c --- */
#define ERRAND_ROUND_MS 2 /* between two tries to reach a daemon whose queue is full */
void errand_connect(const struct agent *a, uint64_t number, uint16_t port);
void errand_refuse(const struct agent *a, uint64_t number, int error, enum frame_step step);
/* Fills in what to poll for and lowers *until to when errands_advance wants to be called at the
 * latest; returns the count, at most AGENT_ERRANDS_MAX. */
size_t errands_watch(struct pollfd *out, int64_t *until);
void errands_advance(const struct agent *a);
/* In a fresh fork: closes what is PID 1's. */
void errands_leave(void);

/* --- monitor.c --- */
/* What PID 1 passes on to the monitor of a process that is or may be kept, over a SEQPACKET pair.
 * The end of the pair means that PID 1 is leaving. */
enum order_kind { ORDER_ATTACH, ORDER_FORGET, ORDER_NUDGE };
struct order {
    enum order_kind kind;
    uint64_t number, offset; /* ATTACH */
    uint32_t signal;         /* NUDGE */
    bool tree;
};
/* What a monitor says there, one byte each. */
enum monitor_word { WORD_KEPT = 1, WORD_OVER = 2 };

/* Runs one command to its end, over a stream of its own. Called in a fresh fork; does not return.
 * channel: to PID 1, -1: the spec does not ask for being kept. */
_Noreturn void monitor_run(const struct agent *a, const struct frame_spawn *spec, int channel);

/* The started command as its monitor sees it. */
struct command {
    pid_t pid;
    int in_fd, out_fd, err_fd; /* our ends, non-blocking; in_fd -1 without SPAWN_STDIN */
    int tty; /* its terminal, -1: none. Held open so that our end never sees a hang-up */
};
/* 0, or -1 with *ret_step and errno. */
int command_start(const struct agent *a, const struct frame_spawn *spec, struct command *ret,
                  enum frame_step *ret_step);
void command_resize(const struct command *c, uint16_t cols, uint16_t rows);

/* Signals every descendant of this process, leaving out children in spared[] and what is below
 * them. Returns how many live ones it found. */
unsigned tree_signal(int sig, const pid_t *spared, size_t spared_count);
/* KILL for all of them, in a way that a fork bomb cannot outrun. Returns as tree_signal. */
unsigned tree_kill(const pid_t *spared, size_t spared_count);
/* Does a descendant listen on a TCP port? */
bool tree_listens(void);

#endif
