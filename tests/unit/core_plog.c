/* Output as a ring: bounds, offsets and streams against a plain copy of everything; files. */
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/limits.h"
#include "base/str.h"
#include "check.h"
#include "plog.h"
#include "wire/frames.h"

static struct err err;

static uint64_t dice; /* xorshift: the same rows at each run */
static size_t roll(void)
{
    dice ^= dice << 13;
    dice ^= dice >> 7;
    dice ^= dice << 17;
    return (size_t)(dice >> 11);
}

struct copy { /* what was written, byte by byte */
    char *bytes, *streams;
    uint64_t len;
};

/* Everything from an offset on reads as it was written. */
static bool reads_true(const struct plog *l, const struct copy *c, uint64_t offset, size_t step)
{
    char *out = mem_new(1, step);
    bool ok = true;
    uint64_t at = offset;
    for (;;) {
        struct follow_chunk chunk = { .offset = at };
        size_t n = plog_read(l, at, out, step, &chunk);
        if (n == 0)
            break;
        ok = ok && n <= step && chunk.offset >= at && chunk.offset + n <= c->len &&
             (at != offset ? chunk.offset == at : true) &&
             memcmp(out, c->bytes + chunk.offset, n) == 0;
        for (size_t i = 0; ok && i < n; i++)
            ok = c->streams[chunk.offset + i] == (char)chunk.stream;
        at = chunk.offset + n;
    }
    free(out);
    return ok && (at == c->len || offset >= c->len);
}

static void check_random(unsigned seed, size_t writes, size_t most)
{
    struct plog l = { 0 }, back = { 0 };
    struct copy c = { mem_new(writes, most), mem_new(writes, most), 0 };
    char row[40];
    int64_t now = 1000;
    bool bounded = true;
    (void)snprintf(row, sizeof row, "seed %u", seed);
    dice = seed * 0x9e3779b97f4a7c15u;
    for (size_t i = 0; i < writes; i++) {
        size_t len = roll() % most + 1;
        enum exec_stream stream = roll() % 2 ? EXEC_STDOUT : EXEC_STDERR;
        now += roll() % 4 ? 0 : (int64_t)(roll() % 300);
        for (size_t k = 0; k < len; k++) {
            c.bytes[c.len + k] = (char)roll();
            c.streams[c.len + k] = (char)stream;
        }
        plog_add(&l, stream, c.len, now, c.bytes + c.len, len);
        c.len += len;
        bounded = bounded && l.bytes <= PROCESS_OUTPUT_KEEP + 16 * KIB &&
                  l.overhead <= PROCESS_OUTPUT_KEEP + 32 * KIB && l.next == c.len;
    }
    CHECK_ROW(row, bounded);
    uint64_t first = c.len - l.bytes;
    uint64_t offsets[] = { 0, first, first + 1, first + 777, c.len - 1, c.len, c.len + 5 };
    for (size_t i = 0; i < sizeof offsets / sizeof offsets[0]; i++)
        CHECK_ROW(row, reads_true(&l, &c, offsets[i], i % 2 ? 1000 : 64 * KIB));
    char byte;
    struct follow_chunk chunk;
    CHECK_ROW(row, plog_read(&l, 0, &byte, 1, &chunk) == 1 && chunk.offset == first);

    struct buf file = BUF_INIT(2 * PROCESS_OUTPUT_KEEP);
    plog_save(&l, &file);
    CHECK_ROW(row, !file.failed);
    CHECK_ROW(row, plog_load(&back, buf_str(&file), file.len, &err) == 0);
    CHECK_ROW(row, back.bytes == l.bytes && back.next == l.next && reads_true(&back, &c, 0, 4096));
    plog_release(&back);
    /* Cut anywhere: an error or a shorter log, never nonsense. */
    for (int i = 0; i < 200; i++) {
        size_t cut = roll() % (file.len + 1);
        struct plog part = { 0 };
        (void)plog_load(&part, buf_str(&file), cut, &err);
        CHECK_ROW(row, part.bytes <= cut && part.next <= c.len);
        plog_release(&part);
    }
    buf_release(&file);
    plog_release(&l);
    CHECK_ROW(row, l.bytes == 0 && l.overhead == 0 && l.count == 0 && l.next == c.len);
    free(c.bytes);
    free(c.streams);
}

/* Who stops adding when it is full for a reader never takes anything from him. */
static void check_full(size_t most)
{
    struct plog l = { 0 };
    struct follow_chunk c;
    char *data = mem_new(1, most);
    uint64_t written = 0, at = 0;
    bool whole = true, once = false;
    dice = most;
    for (int i = 0; i < 30000; i++) {
        bool full = plog_full(&l, at);
        once = once || full;
        if (!full && i % 16) {
            size_t n = roll() % most + 1;
            plog_add(&l, roll() % 2 ? EXEC_STDERR : EXEC_STDOUT, written, 1000, data, n);
            written += n;
            continue;
        }
        size_t n = plog_read(&l, at, data, most, &c);
        whole = whole && (n == 0 || c.offset == at);
        at += n;
    }
    CHECK(whole);
    CHECK(once);
    CHECK(!plog_full(&l, UINT64_MAX));
    free(data);
    plog_release(&l);
}

/* Two streams that take turns byte by byte keep far more than a header for each buffer would. */
static void check_turns(void)
{
    struct plog l = { 0 };
    for (uint64_t i = 0; i < 100000; i++)
        plog_add(&l, i % 2 ? EXEC_STDERR : EXEC_STDOUT, i, 1000, "x", 1);
    CHECK(l.bytes > 8000);
    plog_release(&l);
    l = (struct plog){ 0 };
    char line[100];
    memset(line, 'y', sizeof line);
    for (uint64_t i = 0; i < 20000; i++) /* lines of usual length: all that is promised */
        plog_add(&l, i % 2 ? EXEC_STDERR : EXEC_STDOUT, i * sizeof line, 1000, line, sizeof line);
    CHECK(l.bytes > PROCESS_OUTPUT_KEEP - 2 * sizeof line);
    plog_release(&l);
}

/* Reading all of a log of many chunks is no matter of squares. */
static void check_speed(void)
{
    struct plog l = { 0 };
    char c;
    struct follow_chunk chunk;
    for (uint64_t i = 0; i < 9000; i++)
        plog_add(&l, EXEC_STDOUT, i, (int64_t)i * 1000, "x", 1);
    int64_t began = check_cpu_ms();
    for (uint64_t i = 9000 - l.bytes; i < 9000; i++)
        if (plog_read(&l, i, &c, 1, &chunk) != 1 || chunk.at_ms != (int64_t)i * 1000)
            CHECK(false);
    CHECK(check_cpu_ms() - began < 5000);
    plog_release(&l);
}

static void check_times(void)
{
    struct plog l = { 0 };
    struct follow_chunk chunk;
    char out[16];
    plog_add(&l, EXEC_STDOUT, 0, 1000, "a", 1);
    plog_add(&l, EXEC_STDOUT, 1, 1000 + PROCESS_TIME_STEP_MS - 1, "b", 1);
    plog_add(&l, EXEC_STDOUT, 2, 1000 + PROCESS_TIME_STEP_MS, "c", 1);
    CHECK(plog_read(&l, 0, out, sizeof out, &chunk) == 2 && chunk.at_ms == 1000);
    CHECK(plog_read(&l, 2, out, sizeof out, &chunk) == 1 &&
          chunk.at_ms == 1000 + PROCESS_TIME_STEP_MS);
    /* What was lost on the way is a gap. */
    plog_add(&l, EXEC_STDOUT, 10, 1101, "d", 1);
    CHECK(plog_read(&l, 3, out, sizeof out, &chunk) == 1 && chunk.offset == 10 && l.next == 11);
    plog_release(&l);
}

static void file_add(struct buf *b, uint64_t at, uint64_t at_ms, uint32_t len, uint8_t stream,
                     const char *bytes)
{
    uint8_t head[21];
    frame_set_u64(head, at);
    frame_set_u64(head + 8, at_ms);
    frame_set_u32(head + 16, len);
    head[20] = stream;
    buf_add(b, head, sizeof head);
    buf_adds(b, bytes);
}

static const struct {
    const char *name;
    uint64_t at, at_ms;
    uint32_t len;
    uint8_t stream;
    const char *bytes;
    bool good;
} files[] = {
    { "good", 5, 1, 2, 0, "ab", true },
    { "good at the end of all offsets", (uint64_t)INT64_MAX - 2, 1, 2, 1, "ab", true },
    { "empty", 5, 1, 0, 0, "", false },
    { "longer than the file", 5, 1, 3, 0, "ab", false },
    { "huge length", 5, 1, UINT32_MAX, 0, "ab", false },
    { "trailing bytes", 5, 1, 1, 0, "ab", false },
    { "no such stream", 5, 1, 2, 2, "ab", false },
    { "backwards", 1, 1, 2, 0, "ab", false },
    { "beyond all offsets", (uint64_t)INT64_MAX - 1, 1, 2, 0, "ab", false },
    { "wraps", UINT64_MAX, 1, 2, 0, "ab", false },
    { "before time", 5, UINT64_MAX, 2, 0, "ab", false },
};

int main(void)
{
    for (unsigned seed = 1; seed <= 12; seed++)
        check_random(seed, seed % 3 ? 3000 : 60, seed % 3 ? 1000 : 100000);
    check_full(64 * KIB);
    check_full(3);
    check_random(99, 60000, 3);
    check_turns();
    check_speed();
    check_times();
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        struct plog l = { 0 };
        struct buf b = BUF_INIT(1 * KIB);
        file_add(&b, 0, 1, 3, 1, "xyz");
        file_add(&b, files[i].at, files[i].at_ms, files[i].len, files[i].stream, files[i].bytes);
        int rc = plog_load(&l, buf_str(&b), b.len, &err);
        CHECK_ROW(files[i].name, files[i].good ? rc == 0 : rc < 0 && err.code == ERR_INTERNAL);
        plog_release(&l);
        buf_release(&b);
    }
    struct plog none = { 0 };
    CHECK(plog_load(&none, "", 0, &err) == 0 && none.count == 0);
    plog_release(&none);
    return check_done();
}
