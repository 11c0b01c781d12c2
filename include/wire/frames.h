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
    /* stream connection of one process */
    FRAME_STARTED = 16, /* agent: u32 pid inside the sandbox */
    FRAME_FAILED = 17,  /* agent: u32 errno, u8 enum frame_step, text: did not start; last */
    FRAME_STDOUT = 18,  /* agent: bytes */
    FRAME_STDERR = 19,  /* agent: bytes */
    FRAME_EXIT = 20,    /* agent: struct frame_exit; last */
    FRAME_STDIN = 32,   /* daemon: bytes */
    FRAME_EOF = 33,     /* daemon: no more stdin */
    FRAME_SIGNAL = 34,  /* daemon: u32 signal number to the process group */
    FRAME_KILL = 35,    /* daemon: u32 grace in ms: TERM now, KILL then, all descendants */
    /* SIGNAL and KILL wait behind stdin that the command has not taken yet; closing the stream does
       not. */
};

/* What FRAME_FAILED stumbled over. */
enum frame_step { STEP_FORK = 1, STEP_CWD = 2, STEP_EXEC = 3 };
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

/* What to run. argv and env are NUL-terminated strings one after the other. */
struct frame_spawn {
    uint64_t number;     /* stream to open */
    uint32_t timeout_ms; /* 0: none */
    uint32_t flags;      /* SPAWN_… */
    const char *cwd;     /* absolute */
    const char *argv;    /* argc strings */
    uint32_t argc;
    const char *env; /* envc strings NAME=value; added over the agent's own environment */
    uint32_t envc;
};
enum spawn_flags {
    SPAWN_STDIN = 1 << 0,  /* stdin is fed by FRAME_STDIN; else /dev/null */
    SPAWN_DETACH = 1 << 1, /* goes on when the stream ends; output then goes nowhere */
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
/* Strings in *ret point into the payload and are known to end inside it. */
int frame_get_spawn(const struct frame *f, struct frame_spawn *ret);
/* Bytes needed for the payload; written when out is not NULL. argv and env are given as in the
 * struct: strings one after the other with their counts. */
size_t frame_put_spawn(uint8_t *out, const struct frame_spawn *s, size_t argv_len, size_t env_len);

/* Numbers in the link's byte order, at any alignment. */
uint32_t frame_u32(const uint8_t *p);
void frame_set_u32(uint8_t *p, uint32_t v);
uint64_t frame_u64(const uint8_t *p);
void frame_set_u64(uint8_t *p, uint64_t v);

#endif
