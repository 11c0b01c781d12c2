/* Frames between daemon and agent (both ends are ours; the peer is hostile all the same).
 *
 * A frame is 8 bytes of header, then the payload: u32 payload length, u8 type, u8 version,
 * u16 zero. Integers are little-endian. Payloads are at most FRAME_PAYLOAD_MAX bytes.
 * Used by the agent too: no allocation here, no libc beyond memcpy. Threads: any. */
#ifndef WIRE_FRAMES_H
#define WIRE_FRAMES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FRAME_VERSION 1
#define FRAME_HEADER 8
#define FRAME_SECRET 32

enum frame_type {
    /* first on every connection, agent to daemon */
    FRAME_HELLO = 1, /* struct frame_hello */
    /* control connection */
    FRAME_WELCOME =
        2,           /* daemon: 32 bytes of secret (all zero when the agent showed the right one) */
    FRAME_SPAWN = 3, /* daemon: spawn spec; the agent answers by opening stream `number` */
    FRAME_PING = 4,  /* daemon, u64 cookie; the agent echoes it */
    FRAME_PONG = 5,
    FRAME_PORTS = 6, /* agent: all TCP ports that listen, on change and after the welcome; each u16
                        port, u8 1 when on loopback only; ascending, at most LINK_PORTS_MAX */
    FRAME_CONNECT = 7, /* daemon: u64 number, u16 port; the agent answers on stream `number` with
                          CONNECTED or FAILED */
    FRAME_ATTACH = 8,  /* daemon: u64 number, u64 process, u64 offset; the agent answers on stream
                          `number` with ATTACHED, or FAILED with ESRCH: it keeps no such process */
    FRAME_FORGET = 9, /* daemon: u64 process; it is killed if it still runs, and what was kept of it
                         is gone */
    FRAME_KEPT = 10,  /* agent: u64 for each process it keeps, on change and after the welcome; at
                         most LINK_KEPT_MAX */
    FRAME_NUDGE = 11, /* daemon: u64 process, u32 signal, u8 1: to every descendant, 0: to its
                         process group. Overtakes the stdin that a FRAME_SIGNAL waits behind */
    /* stream connection of one process */
    FRAME_STARTED = 16, /* agent: u32 pid inside the sandbox */
    FRAME_FAILED = 17,  /* agent: u32 errno, u8 enum frame_step, text: did not start; last */
    FRAME_STDOUT = 18,  /* agent: bytes */
    FRAME_STDERR = 19,  /* agent: bytes */
    FRAME_EXIT = 20,    /* agent: struct frame_exit; last */
    FRAME_CONNECTED =
        21, /* agent: empty; a connected TCP descriptor comes with its first byte; last */
    FRAME_ATTACHED = 22, /* agent: struct frame_attached; first on an attached stream */
    FRAME_STDIN = 32,    /* daemon: bytes */
    FRAME_EOF = 33,      /* daemon: no more stdin */
    FRAME_SIGNAL = 34,   /* daemon: u32 signal number to the process group */
    FRAME_KILL = 35,     /* daemon: u32 grace in ms: TERM now, KILL then, all descendants */
    FRAME_RESIZE = 36,   /* daemon: u16 columns, u16 rows of a terminal */
    /* SIGNAL and KILL wait behind stdin that the command has not taken yet; closing the stream does
       not. */
};

/* What FRAME_FAILED stumbled over. */
enum frame_step {
    STEP_FORK = 1, /* no process, pipe or terminal; EDQUOT: LINK_KEPT_MAX are kept; EEXIST: that one
                      is kept already */
    STEP_CWD = 2,
    STEP_EXEC = 3,
    STEP_ATTACH = 4,
    STEP_CONNECT = 5,
};
#define FRAME_FAILED_MIN 5 /* errno and step; the text follows, without NUL */

struct frame {
    enum frame_type type;
    const uint8_t *payload;
    uint32_t len;
};

enum frame_hello_kind { HELLO_CONTROL = 1, HELLO_STREAM = 2 };
struct frame_hello {
    uint8_t kind;
    bool has_secret;
    uint8_t secret[FRAME_SECRET];
    uint64_t number; /* of the stream asked for; 0 on control */
};
#define FRAME_HELLO_LEN 42 /* kind, has_secret, secret, number */

struct frame_exit {
    int32_t code;    /* 0-255; 128 + signal when ended by one */
    uint32_t signal; /* 0: left by itself */
    bool timed_out;  /* the spec's timeout ended it */
    bool leftovers;  /* descendants resisted and may live on */
};
#define FRAME_EXIT_LEN 10

/* Where the output of a kept process is taken up. Offsets count the bytes of stdout and stderr
 * together, from 0 at its start. */
struct frame_attached {
    uint64_t first; /* of the first byte that follows; above what was asked for: the bytes between
                       are lost */
    uint64_t next;  /* of the first byte that it has not written yet */
    uint32_t pid;
    bool ended; /* EXIT follows the output without delay */
};
#define FRAME_ATTACHED_LEN 21

/* What to run. argv and env are NUL-terminated strings one after the other. */
struct frame_spawn {
    uint64_t number;     /* stream to open */
    uint32_t timeout_ms; /* 0: none */
    uint32_t flags;      /* SPAWN_… */
    uint64_t process; /* with SPAWN_KEEP…: its number, chosen by the daemon, never used before in
                         this start epoch; not 0. Else 0 */
    uint16_t cols, rows; /* with SPAWN_PTY: the terminal's first size; else 0 */
    const char *cwd;     /* absolute */
    const char *argv;    /* argc strings */
    uint32_t argc;
    const char *env; /* envc strings NAME=value; added over the agent's own environment */
    uint32_t envc;
};
enum spawn_flags {
    SPAWN_STDIN = 1 << 0,  /* stdin is fed by FRAME_STDIN; else /dev/null */
    SPAWN_DETACH = 1 << 1, /* goes on when the stream ends; output then goes nowhere */
    /* Goes on when the stream ends, and when the daemon does. The last LINK_RING bytes of output
     * and the exit status are kept until FRAME_FORGET, and FRAME_ATTACH opens a new stream at any
     * time. The stream of the SPAWN is attached from offset 0. While a stream is attached nothing
     * is lost: a slow reader slows the process, as one that is not kept. Without a stream the
     * process is never slowed; the oldest output goes. An attached stream takes the place of the
     * one before, which is closed. stdin stays open until FRAME_EOF, whatever becomes of streams;
     * what an earlier stream sent and the process has not taken yet (64 KiB of it) is taken before
     * what a later one sends. */
    SPAWN_KEEP = 1 << 2,
    /* As a command of its stream, but when the stream ends while it, or a descendant, listens on a
     * TCP port, it becomes a kept process and its timeout is off. All of its last LINK_RING bytes
     * of output can then be attached to, what was sent on the stream before, too. FRAME_ATTACH that
     * is sent after the stream was closed meets the decision: ATTACHED, or FAILED with ESRCH. */
    SPAWN_KEEP_IF_LISTENING = 1 << 3,
    /* On a terminal of its own, which it controls. Output is STDOUT; stdin is fed (SPAWN_STDIN is
     * not needed) and FRAME_EOF types the terminal's end-of-file character. What ends the command
     * also hangs up (HUP, then TERM). TERM is the daemon's to put into env. */
    SPAWN_PTY = 1 << 4,
};

/* Writes a header into out[FRAME_HEADER]. */
void frame_header(uint8_t *out, enum frame_type type, uint32_t len);
/* Looks at the first `len` bytes: returns 1 and fills *ret (payload points into data) and *ret_size
 * when a whole frame is there, 0 when more bytes are needed, -1 when this cannot be a frame. */
int frame_parse(const uint8_t *data, size_t len, struct frame *ret, size_t *ret_size);
/* As frame_parse for the header alone: type and payload length, for who streams the payload. */
int frame_peek(const uint8_t *data, size_t len, enum frame_type *ret_type, uint32_t *ret_len);

void frame_put_hello(uint8_t out[FRAME_HELLO_LEN], const struct frame_hello *h);
int frame_get_hello(const struct frame *f, struct frame_hello *ret); /* 0, or -1: malformed */
void frame_put_exit(uint8_t out[FRAME_EXIT_LEN], const struct frame_exit *e);
int frame_get_exit(const struct frame *f, struct frame_exit *ret);
void frame_put_attached(uint8_t out[FRAME_ATTACHED_LEN], const struct frame_attached *a);
/* Only with first <= next. */
int frame_get_attached(const struct frame *f, struct frame_attached *ret);
/* Strings in *ret point into the payload and are known to end inside it. */
int frame_get_spawn(const struct frame *f, struct frame_spawn *ret);
/* Bytes needed for the payload; written when out is not NULL. argv and env are given as in the
 * struct: strings one after the other with their counts. */
size_t frame_put_spawn(uint8_t *out, const struct frame_spawn *s, size_t argv_len, size_t env_len);

/* Numbers in the link's byte order, at any alignment. */
uint16_t frame_u16(const uint8_t *p);
void frame_set_u16(uint8_t *p, uint16_t v);
uint32_t frame_u32(const uint8_t *p);
void frame_set_u32(uint8_t *p, uint32_t v);
uint64_t frame_u64(const uint8_t *p);
void frame_set_u64(uint8_t *p, uint64_t v);

#endif
