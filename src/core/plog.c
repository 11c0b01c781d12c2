/* A chunk holds bytes of one stream that followed each other and came within PROCESS_TIME_STEP_MS;
 * it grows as they come, so that neither a chatty process pays a header for each line, nor one that
 * alternates between its streams an empty buffer for each word. File form: per chunk u64 offset,
 * u64 time, u32 length, u8 stream, bytes (little-endian). */
#include "plog.h"

#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "base/str.h"
#include "wire/frames.h"

#define CHUNK_MIN 64
#define CHUNK_MAX (16 * KIB)
#define RING_MIN 16
#define FILE_HEAD 21
#define OFFSET_MAX ((uint64_t)INT64_MAX) /* as offsets are told */

struct plog_chunk {
    uint64_t at;
    int64_t at_ms;
    uint32_t len, cap;
    enum exec_stream stream;
    char data[];
};

static struct plog_chunk **slot(const struct plog *l, size_t i)
{
    return &l->ring[(l->head + i) & (l->room - 1)];
}

/* Memory besides the output itself. */
static size_t waste(const struct plog_chunk *c)
{
    return sizeof *c + sizeof(void *) + c->cap - c->len;
}

static void drop_first(struct plog *l)
{
    struct plog_chunk *c = *slot(l, 0);
    l->bytes -= c->len;
    l->overhead -= waste(c);
    l->head = (l->head + 1) & (l->room - 1);
    l->count--;
    free(c);
}

static void more_room(struct plog *l)
{
    size_t room = l->room ? l->room * 2 : RING_MIN;
    struct plog_chunk **ring = mem_new(room, sizeof *ring);
    for (size_t i = 0; i < l->count; i++)
        ring[i] = *slot(l, i);
    free(l->ring);
    l->ring = ring;
    l->room = room;
    l->head = 0;
}

static struct plog_chunk *sized(struct plog_chunk *c, size_t cap)
{
    c = realloc(c, sizeof *c + cap);
    if (!c)
        abort();
    c->cap = (uint32_t)cap;
    return c;
}

/* The last chunk if more of this can go into it, grown to what it needs; else a fresh one. */
static struct plog_chunk *chunk_for(struct plog *l, enum exec_stream stream, uint64_t at,
                                    int64_t at_ms, size_t len)
{
    struct plog_chunk *c = l->count ? *slot(l, l->count - 1) : NULL;
    if (c && c->stream == stream && c->at + c->len == at && c->len < CHUNK_MAX &&
        at_ms - c->at_ms < PROCESS_TIME_STEP_MS) {
        size_t want = c->len + len, cap = c->cap;
        while (cap < want && cap < CHUNK_MAX)
            cap *= 2;
        l->overhead += cap - c->cap;
        return *slot(l, l->count - 1) = sized(c, cap);
    }
    size_t cap = CHUNK_MIN;
    while (cap < len && cap < CHUNK_MAX)
        cap *= 2;
    c = sized(mem_new(1, sizeof *c), cap);
    c->at = at;
    c->at_ms = at_ms;
    c->stream = stream;
    if (l->count == l->room)
        more_room(l);
    *slot(l, l->count++) = c;
    l->overhead += waste(c);
    return c;
}

void plog_add(struct plog *l, enum exec_stream stream, uint64_t at, int64_t at_ms, const void *data,
              size_t len)
{
    const char *p = data;
    while (len > 0) {
        struct plog_chunk *c = chunk_for(l, stream, at, at_ms, len);
        size_t n = c->cap - c->len < len ? c->cap - c->len : len;
        memcpy(c->data + c->len, p, n);
        c->len += (uint32_t)n;
        l->bytes += n;
        l->overhead -= n;
        p += n;
        at += n;
        len -= n;
    }
    l->next = at;
    while ((l->bytes > PROCESS_OUTPUT_KEEP || l->overhead > PROCESS_OUTPUT_KEEP) && l->count > 1)
        drop_first(l);
}

/* Index of the first chunk that ends behind offset. */
static size_t first_behind(const struct plog *l, uint64_t offset)
{
    size_t lo = 0, hi = l->count;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        const struct plog_chunk *c = *slot(l, mid);
        if (c->at + c->len <= offset)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

size_t plog_read(const struct plog *l, uint64_t offset, void *data, size_t size,
                 struct follow_chunk *ret)
{
    size_t i = first_behind(l, offset);
    if (i == l->count)
        return 0;
    const struct plog_chunk *c = *slot(l, i);
    size_t skip = offset > c->at ? (size_t)(offset - c->at) : 0;
    size_t n = c->len - skip < size ? c->len - skip : size;
    memcpy(data, c->data + skip, n);
    ret->stream = c->stream;
    ret->offset = c->at + skip;
    ret->at_ms = c->at_ms;
    return n;
}

bool plog_full(const struct plog *l, uint64_t offset)
{
    size_t i = first_behind(l, offset);
    if (i == l->count)
        return false;
    /* A chunk is never more than half empty, or of the smallest size. */
    uint64_t unread = l->next - (*slot(l, i))->at;
    uint64_t overhead =
        unread + (l->count - i) * (sizeof(struct plog_chunk) + sizeof(void *) + CHUNK_MIN);
    return overhead > PROCESS_OUTPUT_KEEP / 4 * 3; /* one more read fits above it */
}

void plog_release(struct plog *l)
{
    while (l->count)
        drop_first(l);
    free(l->ring);
    l->ring = NULL;
    l->room = l->head = 0;
}

void plog_save(const struct plog *l, struct buf *b)
{
    for (size_t i = 0; i < l->count; i++) {
        const struct plog_chunk *c = *slot(l, i);
        uint8_t head[FILE_HEAD];
        frame_set_u64(head, c->at);
        frame_set_u64(head + 8, (uint64_t)c->at_ms);
        frame_set_u32(head + 16, c->len);
        head[20] = (uint8_t)c->stream;
        buf_add(b, head, sizeof head);
        buf_add(b, c->data, c->len);
    }
}

int plog_load(struct plog *l, const void *data, size_t len, struct err *err)
{
    const uint8_t *p = data;
    while (len >= FILE_HEAD) {
        uint64_t at = frame_u64(p);
        int64_t at_ms = (int64_t)frame_u64(p + 8);
        uint32_t n = frame_u32(p + 16);
        if (n == 0 || n > len - FILE_HEAD || p[20] > EXEC_STDERR || at < l->next ||
            at > OFFSET_MAX - n || at_ms < 0)
            break;
        plog_add(l, (enum exec_stream)p[20], at, at_ms, p + FILE_HEAD, n);
        p += FILE_HEAD + n;
        len -= FILE_HEAD + n;
    }
    return len == 0 ? 0 : err_set(err, ERR_INTERNAL, "the kept output is damaged");
}
