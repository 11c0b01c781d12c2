/* Codec of the frames between daemon and agent. Pure functions over bytes: every length is checked
 * against what is there before it is used, in both directions, because each end must survive the
 * other gone mad. The agent links this file, so it uses nothing of libc but memcpy. */
#include "wire/frames.h"

#include <string.h>

#include "base/limits.h"

/* number, timeout_ms, flags, argc, envc, process, cols, rows; the strings follow: cwd, argv, env.
 */
#define SPAWN_FIXED 36
#define SPAWN_KEEPS (uint32_t)(SPAWN_KEEP | SPAWN_KEEP_IF_LISTENING)
#define SPAWN_ALL (SPAWN_KEEPS | (uint32_t)(SPAWN_STDIN | SPAWN_DETACH | SPAWN_PTY))

uint16_t frame_u16(const uint8_t *p)
{
    return (uint16_t)(p[0] | p[1] << 8);
}

void frame_set_u16(uint8_t *p, uint16_t v)
{
    p[0] = (uint8_t)v;
    p[1] = (uint8_t)(v >> 8);
}

uint32_t frame_u32(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

void frame_set_u32(uint8_t *p, uint32_t v)
{
    for (unsigned i = 0; i < 4; i++)
        p[i] = (uint8_t)(v >> 8 * i);
}

uint64_t frame_u64(const uint8_t *p)
{
    return frame_u32(p) | (uint64_t)frame_u32(p + 4) << 32;
}

void frame_set_u64(uint8_t *p, uint64_t v)
{
    frame_set_u32(p, (uint32_t)v);
    frame_set_u32(p + 4, (uint32_t)(v >> 32));
}

void frame_header(uint8_t *out, enum frame_type type, uint32_t len)
{
    frame_set_u32(out, len);
    out[4] = (uint8_t)type;
    out[5] = FRAME_VERSION;
    out[6] = out[7] = 0;
}

static bool type_known(unsigned type)
{
    switch (type) {
    case FRAME_HELLO:
    case FRAME_WELCOME:
    case FRAME_SPAWN:
    case FRAME_PING:
    case FRAME_PONG:
    case FRAME_PORTS:
    case FRAME_CONNECT:
    case FRAME_ATTACH:
    case FRAME_FORGET:
    case FRAME_KEPT:
    case FRAME_NUDGE:
    case FRAME_STARTED:
    case FRAME_FAILED:
    case FRAME_STDOUT:
    case FRAME_STDERR:
    case FRAME_EXIT:
    case FRAME_CONNECTED:
    case FRAME_ATTACHED:
    case FRAME_STDIN:
    case FRAME_EOF:
    case FRAME_SIGNAL:
    case FRAME_KILL:
    case FRAME_RESIZE:
        return true;
    default:
        return false;
    }
}

int frame_peek(const uint8_t *data, size_t len, enum frame_type *ret_type, uint32_t *ret_len)
{
    if (len < FRAME_HEADER)
        return 0;
    uint32_t payload_len = frame_u32(data);
    if (payload_len > FRAME_PAYLOAD_MAX || !type_known(data[4]) || data[5] != FRAME_VERSION ||
        data[6] != 0 || data[7] != 0)
        return -1;
    *ret_type = (enum frame_type)data[4];
    *ret_len = payload_len;
    return 1;
}

int frame_parse(const uint8_t *data, size_t len, struct frame *ret, size_t *ret_size)
{
    enum frame_type type;
    uint32_t payload_len;
    int r = frame_peek(data, len, &type, &payload_len);
    if (r <= 0)
        return r;
    if (len - FRAME_HEADER < payload_len)
        return 0;
    *ret = (struct frame){ .type = type, .payload = data + FRAME_HEADER, .len = payload_len };
    *ret_size = FRAME_HEADER + (size_t)payload_len;
    return 1;
}

/* A flag on the wire is 0 or 1; anything else is not ours. */
static int get_bool(uint8_t byte, bool *ret)
{
    if (byte > 1)
        return -1;
    *ret = byte == 1;
    return 0;
}

void frame_put_hello(uint8_t out[FRAME_HELLO_LEN], const struct frame_hello *h)
{
    out[0] = h->kind;
    out[1] = h->has_secret;
    memcpy(out + 2, h->secret, FRAME_SECRET);
    frame_set_u64(out + 2 + FRAME_SECRET, h->number);
}

int frame_get_hello(const struct frame *f, struct frame_hello *ret)
{
    struct frame_hello h = { 0 };
    if (f->type != FRAME_HELLO || f->len != FRAME_HELLO_LEN ||
        get_bool(f->payload[1], &h.has_secret) < 0)
        return -1;
    h.kind = f->payload[0];
    if (h.kind != HELLO_CONTROL && h.kind != HELLO_STREAM)
        return -1;
    memcpy(h.secret, f->payload + 2, FRAME_SECRET);
    h.number = frame_u64(f->payload + 2 + FRAME_SECRET);
    *ret = h;
    return 0;
}

void frame_put_exit(uint8_t out[FRAME_EXIT_LEN], const struct frame_exit *e)
{
    frame_set_u32(out, (uint32_t)e->code);
    frame_set_u32(out + 4, e->signal);
    out[8] = e->timed_out;
    out[9] = e->leftovers;
}

int frame_get_exit(const struct frame *f, struct frame_exit *ret)
{
    struct frame_exit e = { 0 };
    if (f->type != FRAME_EXIT || f->len != FRAME_EXIT_LEN ||
        get_bool(f->payload[8], &e.timed_out) < 0 || get_bool(f->payload[9], &e.leftovers) < 0)
        return -1;
    uint32_t code = frame_u32(f->payload);
    e.signal = frame_u32(f->payload + 4);
    if (code > 255 || e.signal > 64)
        return -1;
    e.code = (int32_t)code;
    *ret = e;
    return 0;
}

void frame_put_attached(uint8_t out[FRAME_ATTACHED_LEN], const struct frame_attached *a)
{
    frame_set_u64(out, a->first);
    frame_set_u64(out + 8, a->next);
    frame_set_u32(out + 16, a->pid);
    out[20] = a->ended;
}

int frame_get_attached(const struct frame *f, struct frame_attached *ret)
{
    struct frame_attached a = { 0 };
    if (f->type != FRAME_ATTACHED || f->len != FRAME_ATTACHED_LEN ||
        get_bool(f->payload[20], &a.ended) < 0)
        return -1;
    a.first = frame_u64(f->payload);
    a.next = frame_u64(f->payload + 8);
    a.pid = frame_u32(f->payload + 16);
    if (a.first > a.next)
        return -1;
    *ret = a;
    return 0;
}

/* Steps over `count` strings; NULL when one does not end before `end`, or (named) when one is not
 * NAME=value. */
static const char *skip_strings(const char *at, const char *end, uint32_t count, bool named)
{
    while (count-- > 0) {
        const char *start = at, *equals = NULL;
        while (at < end && *at) {
            if (*at == '=' && !equals)
                equals = at;
            at++;
        }
        if (at == end || (named && (!equals || equals == start)))
            return NULL;
        at++;
    }
    return at;
}

int frame_get_spawn(const struct frame *f, struct frame_spawn *ret)
{
    if (f->type != FRAME_SPAWN || f->len < SPAWN_FIXED)
        return -1;
    const char *at = (const char *)f->payload + SPAWN_FIXED;
    const char *end = (const char *)f->payload + f->len;
    struct frame_spawn s = {
        .number = frame_u64(f->payload),
        .timeout_ms = frame_u32(f->payload + 8),
        .flags = frame_u32(f->payload + 12),
        .argc = frame_u32(f->payload + 16),
        .envc = frame_u32(f->payload + 20),
        .process = frame_u64(f->payload + 24),
        .cols = frame_u16(f->payload + 32),
        .rows = frame_u16(f->payload + 34),
        .cwd = at,
    };
    if (s.argc == 0 || s.argc > EXEC_ARGS_MAX || s.envc > EXEC_ENV_MAX ||
        (s.flags & ~SPAWN_ALL) != 0 || (s.flags & SPAWN_KEEPS) == SPAWN_KEEPS ||
        ((s.flags & SPAWN_KEEPS) != 0) != (s.process != 0) ||
        (!(s.flags & SPAWN_PTY) && (s.cols || s.rows)))
        return -1;
    s.argv = skip_strings(s.cwd, end, 1, false);
    if (!s.argv || s.cwd[0] != '/')
        return -1;
    s.env = skip_strings(s.argv, end, s.argc, false);
    if (!s.env || skip_strings(s.env, end, s.envc, true) != end)
        return -1;
    *ret = s;
    return 0;
}

size_t frame_put_spawn(uint8_t *out, const struct frame_spawn *s, size_t argv_len, size_t env_len)
{
    size_t cwd_len = 1;
    while (s->cwd[cwd_len - 1])
        cwd_len++;
    if (out) {
        frame_set_u64(out, s->number);
        frame_set_u32(out + 8, s->timeout_ms);
        frame_set_u32(out + 12, s->flags);
        frame_set_u32(out + 16, s->argc);
        frame_set_u32(out + 20, s->envc);
        frame_set_u64(out + 24, s->process);
        frame_set_u16(out + 32, s->cols);
        frame_set_u16(out + 34, s->rows);
        uint8_t *at = out + SPAWN_FIXED;
        memcpy(at, s->cwd, cwd_len);
        if (argv_len > 0)
            memcpy(at + cwd_len, s->argv, argv_len);
        if (env_len > 0)
            memcpy(at + cwd_len + argv_len, s->env, env_len);
    }
    return SPAWN_FIXED + cwd_len + argv_len + env_len;
}
