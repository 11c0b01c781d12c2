/* Frames: what comes out goes in again, and nothing else does. */
#include <string.h>

#include "base/limits.h"
#include "base/str.h"
#include "check.h"
#include "wire/frames.h"

static uint8_t space[FRAME_HEADER + FRAME_PAYLOAD_MAX];

static const struct header_row {
    const char *name;
    uint8_t bytes[12];
    size_t len;
    int want;
} header_rows[] = {
    { "nothing yet", { 0 }, 0, 0 },
    { "half a header", { 0, 0, 0, 0, FRAME_EOF, 1, 0 }, 7, 0 },
    { "empty payload", { 0, 0, 0, 0, FRAME_EOF, 1, 0, 0 }, 8, 1 },
    { "payload to come", { 4, 0, 0, 0, FRAME_SIGNAL, 1, 0, 0, 9 }, 11, 0 },
    { "payload there", { 4, 0, 0, 0, FRAME_SIGNAL, 1, 0, 0, 9 }, 12, 1 },
    { "type zero", { 0, 0, 0, 0, 0, 1, 0, 0 }, 8, -1 },
    { "type unknown", { 0, 0, 0, 0, 99, 1, 0, 0 }, 8, -1 },
    { "type between the ranges", { 0, 0, 0, 0, 12, 1, 0, 0 }, 8, -1 },
    { "type below stdin", { 0, 0, 0, 0, 31, 1, 0, 0 }, 8, -1 },
    { "other version", { 0, 0, 0, 0, FRAME_EOF, 2, 0, 0 }, 8, -1 },
    { "reserved byte", { 0, 0, 0, 0, FRAME_EOF, 1, 1, 0 }, 8, -1 },
    { "other reserved byte", { 0, 0, 0, 0, FRAME_EOF, 1, 0, 1 }, 8, -1 },
    { "four gigabytes", { 255, 255, 255, 255, FRAME_STDOUT, 1, 0, 0 }, 8, -1 },
    { "one over the ceiling",
      { (FRAME_PAYLOAD_MAX + 1) & 255, (FRAME_PAYLOAD_MAX + 1) >> 8 & 255,
        (FRAME_PAYLOAD_MAX + 1) >> 16, 0, FRAME_STDOUT, 1, 0, 0 },
      8,
      -1 },
    { "the ceiling",
      { FRAME_PAYLOAD_MAX & 255, FRAME_PAYLOAD_MAX >> 8 & 255, FRAME_PAYLOAD_MAX >> 16, 0,
        FRAME_STDOUT, 1, 0, 0 },
      8,
      0 },
};

static void check_headers(void)
{
    for (size_t i = 0; i < sizeof header_rows / sizeof *header_rows; i++) {
        const struct header_row *r = &header_rows[i];
        struct frame f = { 0 };
        size_t size = 0;
        CHECK_ROW(r->name, frame_parse(r->bytes, r->len, &f, &size) == r->want);
        if (r->want == 1)
            CHECK_ROW(r->name, size == r->len && f.len == r->len - FRAME_HEADER &&
                                   f.payload == r->bytes + FRAME_HEADER);
    }
}

static void check_numbers(void)
{
    uint8_t b[8];
    frame_set_u16(b, 0x0102u);
    CHECK(b[0] == 2 && b[1] == 1 && frame_u16(b) == 0x0102u);
    frame_set_u32(b, 0x01020304u);
    CHECK(b[0] == 4 && b[3] == 1 && frame_u32(b) == 0x01020304u);
    frame_set_u64(b, 0xfedcba9876543210u);
    CHECK(b[0] == 0x10 && b[7] == 0xfe && frame_u64(b) == 0xfedcba9876543210u);
}

static void check_hello(void)
{
    uint8_t b[FRAME_HELLO_LEN];
    struct frame_hello h = { .kind = HELLO_STREAM, .has_secret = true, .number = 77 }, got;
    memset(h.secret, 0xa5, sizeof h.secret);
    frame_put_hello(b, &h);
    struct frame f = { .type = FRAME_HELLO, .payload = b, .len = sizeof b };
    CHECK(frame_get_hello(&f, &got) == 0);
    CHECK(got.kind == HELLO_STREAM && got.has_secret && got.number == 77 &&
          memcmp(got.secret, h.secret, FRAME_SECRET) == 0);
    f.len--;
    CHECK_ROW("short", frame_get_hello(&f, &got) == -1);
    f.len += 2;
    CHECK_ROW("long", frame_get_hello(&f, &got) == -1);
    f.len--;
    f.type = FRAME_PONG;
    CHECK_ROW("other type", frame_get_hello(&f, &got) == -1);
    f.type = FRAME_HELLO;
    b[1] = 2;
    CHECK_ROW("neither true nor false", frame_get_hello(&f, &got) == -1);
    b[1] = 0;
    b[0] = 0;
    CHECK_ROW("kind zero", frame_get_hello(&f, &got) == -1);
    b[0] = 3;
    CHECK_ROW("kind unknown", frame_get_hello(&f, &got) == -1);
}

static void check_exit(void)
{
    uint8_t b[FRAME_EXIT_LEN];
    struct frame_exit e = { .code = 137, .signal = 9, .timed_out = true }, got;
    frame_put_exit(b, &e);
    struct frame f = { .type = FRAME_EXIT, .payload = b, .len = sizeof b };
    CHECK(frame_get_exit(&f, &got) == 0 && got.code == 137 && got.signal == 9 && got.timed_out &&
          !got.leftovers);
    static const struct {
        const char *name;
        int32_t code;
        uint32_t signal;
        uint8_t timed_out, leftovers;
    } rows[] = {
        { "code too large", 256, 0, 0, 0 }, { "code negative", -1, 0, 0, 0 },
        { "no such signal", 0, 65, 0, 0 },  { "strange truth", 0, 0, 7, 0 },
        { "another", 0, 0, 0, 255 },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        frame_put_exit(b, &(struct frame_exit){ .code = rows[i].code, .signal = rows[i].signal });
        b[8] = rows[i].timed_out;
        b[9] = rows[i].leftovers;
        CHECK_ROW(rows[i].name, frame_get_exit(&f, &got) == -1);
    }
    f.len = 9;
    CHECK_ROW("short", frame_get_exit(&f, &got) == -1);
}

static void check_attached(void)
{
    static const struct {
        const char *name;
        uint64_t first, next;
        uint8_t ended;
        int want;
    } rows[] = {
        { "from the start", 0, 100, 0, 0 },
        { "nothing more", 100, 100, 1, 0 },
        { "far along", 1ull << 40, 1ull << 41, 0, 0 },
        { "backwards", 101, 100, 0, -1 },
        { "strange truth", 0, 0, 2, -1 },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        uint8_t b[FRAME_ATTACHED_LEN];
        struct frame_attached a = { rows[i].first, rows[i].next, 17, false }, got;
        frame_put_attached(b, &a);
        b[20] = rows[i].ended;
        struct frame f = { .type = FRAME_ATTACHED, .payload = b, .len = sizeof b };
        CHECK_ROW(rows[i].name, frame_get_attached(&f, &got) == rows[i].want);
        if (rows[i].want == 0)
            CHECK_ROW(rows[i].name, got.first == a.first && got.next == a.next && got.pid == 17 &&
                                        got.ended == (rows[i].ended == 1));
        f.len--;
        CHECK_ROW(rows[i].name, frame_get_attached(&f, &got) == -1);
    }
}

/* Strings of a row stand one after the other; the literal's own NUL is the last one's end. */
#define STRINGS(text) text, sizeof(text)
static const struct spawn_row {
    const char *name;
    const char *cwd;
    const char *argv;
    size_t argv_len;
    uint32_t argc;
    const char *env;
    size_t env_len;
    uint32_t envc, flags;
    int want;
    uint64_t process;
    uint16_t cols, rows;
} spawn_rows[] = {
    { "plain", "/", STRINGS("true"), 1, NULL, 0, 0, 0, 0 },
    { "three words and an empty one", "/tmp", STRINGS("a\0bc\0\0d"), 4, STRINGS("A=1\0B="), 2, 3,
      0 },
    { "no command", "/", NULL, 0, 0, NULL, 0, 0, 0, -1 },
    { "fewer words than said", "/", STRINGS("a"), 2, NULL, 0, 0, 0, -1 },
    { "more words than said", "/", STRINGS("a\0b"), 1, NULL, 0, 0, 0, -1 },
    { "last word does not end", "/", "abc", 3, 1, NULL, 0, 0, 0, -1 },
    { "too many words", "/", STRINGS("a"), EXEC_ARGS_MAX + 1, NULL, 0, 0, 0, -1 },
    { "four billion words", "/", STRINGS("a"), 0xffffffffu, NULL, 0, 0, 0, -1 },
    { "too many variables", "/", STRINGS("a"), 1, STRINGS("A=1"), EXEC_ENV_MAX + 1, 0, -1 },
    { "variable without =", "/", STRINGS("a"), 1, STRINGS("A"), 1, 0, -1 },
    { "variable without name", "/", STRINGS("a"), 1, STRINGS("=A"), 1, 0, -1 },
    { "variable does not end", "/", STRINGS("a"), 1, "A=1", 3, 1, 0, -1 },
    { "relative directory", "tmp", STRINGS("a"), 1, NULL, 0, 0, 0, -1 },
    { "no directory", "", STRINGS("a"), 1, NULL, 0, 0, 0, -1 },
    { "unknown flag", "/", STRINGS("a"), 1, NULL, 0, 0, 1 << 5, -1 },
    { "kept", "/", STRINGS("a"), 1, NULL, 0, 0, SPAWN_KEEP, 0, 7 },
    { "kept when listening", "/", STRINGS("a"), 1, NULL, 0, 0, SPAWN_KEEP_IF_LISTENING, 0, 7 },
    { "kept either way", "/", STRINGS("a"), 1, NULL, 0, 0, SPAWN_KEEP | SPAWN_KEEP_IF_LISTENING, -1,
      7 },
    { "kept without a number", "/", STRINGS("a"), 1, NULL, 0, 0, SPAWN_KEEP, -1 },
    { "a number without being kept", "/", STRINGS("a"), 1, NULL, 0, 0, 0, -1, 7 },
    { "terminal", "/", STRINGS("a"), 1, NULL, 0, 0, SPAWN_PTY, 0, 0, 80, 25 },
    { "terminal of no size", "/", STRINGS("a"), 1, NULL, 0, 0, SPAWN_PTY, 0 },
    { "size without terminal", "/", STRINGS("a"), 1, NULL, 0, 0, 0, -1, 0, 80, 25 },
};

static void check_spawn(void)
{
    for (size_t i = 0; i < sizeof spawn_rows / sizeof *spawn_rows; i++) {
        const struct spawn_row *r = &spawn_rows[i];
        struct frame_spawn s = { .number = 1234567890123u,
                                 .timeout_ms = 5000,
                                 .flags = r->flags,
                                 .process = r->process,
                                 .cols = r->cols,
                                 .rows = r->rows,
                                 .cwd = r->cwd,
                                 .argv = r->argv,
                                 .argc = r->argc,
                                 .env = r->env,
                                 .envc = r->envc };
        size_t len = frame_put_spawn(NULL, &s, r->argv_len, r->env_len);
        CHECK_ROW(r->name, frame_put_spawn(space, &s, r->argv_len, r->env_len) == len);
        struct frame f = { .type = FRAME_SPAWN, .payload = space, .len = (uint32_t)len };
        struct frame_spawn got;
        CHECK_ROW(r->name, frame_get_spawn(&f, &got) == r->want);
        if (r->want == 0) {
            CHECK_ROW(r->name,
                      got.number == s.number && got.timeout_ms == 5000 && got.flags == r->flags &&
                          got.process == r->process && got.cols == r->cols && got.rows == r->rows &&
                          got.argc == r->argc && got.envc == r->envc && str_eq(got.cwd, r->cwd));
            CHECK_ROW(r->name, memcmp(got.argv, r->argv, r->argv_len) == 0 &&
                                   (r->envc == 0 || memcmp(got.env, r->env, r->env_len) == 0));
        }
        /* Cut anywhere it is refused, and not a byte beyond the cut is read (ASan watches). */
        for (size_t cut = 0; r->want == 0 && cut < len; cut++) {
            uint8_t *part = mem_new(1, cut ? cut : 1);
            memcpy(part, space, cut);
            f = (struct frame){ .type = FRAME_SPAWN, .payload = part, .len = (uint32_t)cut };
            if (frame_get_spawn(&f, &got) != -1)
                CHECK_ROW(r->name, false);
            free(part);
        }
    }
}

int main(void)
{
    check_headers();
    check_numbers();
    check_hello();
    check_exit();
    check_attached();
    check_spawn();
    return check_done();
}
