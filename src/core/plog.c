/* A chunk holds bytes of one stream that followed each other. Small writes share a chunk, so a
 * chatty process does not pay a header for each line. File form: per chunk u64 offset, u32 length,
 * u8 stream, bytes (little-endian). */
#include "plog.h"

#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "base/str.h"
#include "wire/frames.h"

#define CHUNK_BYTES (16 * KIB)
#define FILE_HEAD 21

struct plog_chunk {
    struct plog_chunk *next;
    uint64_t at;
    size_t len, cap;
    enum exec_stream stream;
    int64_t at_ms;
    char data[];
};

static void drop_first(struct plog *l)
{
    struct plog_chunk *c = l->first;
    l->first = c->next;
    if (!l->first)
        l->last = NULL;
    l->kept -= sizeof *c + c->cap;
    free(c);
}

static void add_chunk(struct plog *l, enum exec_stream stream, uint64_t at, int64_t at_ms,
                      size_t cap)
{
    struct plog_chunk *c = malloc(sizeof *c + cap);
    if (!c)
        abort();
    *c = (struct plog_chunk){ .at = at, .cap = cap, .stream = stream, .at_ms = at_ms };
    l->kept += sizeof *c + cap;
    if (l->last)
        l->last->next = c;
    else
        l->first = c;
    l->last = c;
}

/* A burst fills large chunks; what comes now and then gets chunks of its own size, so that each has
 * its time and a slow talker's history does not consist of empty room. */
void plog_add(struct plog *l, enum exec_stream stream, uint64_t at, int64_t at_ms, const void *data,
              size_t len)
{
    const char *p = data;
    while (len > 0) {
        struct plog_chunk *c = l->last;
        bool burst = c && at_ms - c->at_ms < PROCESS_TIME_STEP_MS;
        bool fits = burst && c->stream == stream && c->at + c->len == at && c->len < c->cap;
        if (!fits) {
            add_chunk(l, stream, at, at_ms,
                      burst || len > CHUNK_BYTES ? CHUNK_BYTES : (len + 63) / 64 * 64);
            c = l->last;
        }
        size_t n = c->cap - c->len < len ? c->cap - c->len : len;
        memcpy(c->data + c->len, p, n);
        c->len += n;
        p += n;
        at += n;
        len -= n;
    }
    l->next = at;
    while (l->kept > PROCESS_OUTPUT_KEEP && l->first != l->last)
        drop_first(l);
}

size_t plog_read(const struct plog *l, uint64_t offset, void *data, size_t size,
                 struct follow_chunk *ret)
{
    for (const struct plog_chunk *c = l->first; c; c = c->next) {
        if (c->at + c->len <= offset)
            continue;
        size_t skip = offset > c->at ? (size_t)(offset - c->at) : 0;
        size_t n = c->len - skip < size ? c->len - skip : size;
        memcpy(data, c->data + skip, n);
        ret->stream = c->stream;
        ret->offset = c->at + skip;
        ret->at_ms = c->at_ms;
        return n;
    }
    return 0;
}

void plog_release(struct plog *l)
{
    while (l->first)
        drop_first(l);
}

void plog_save(const struct plog *l, struct buf *b)
{
    for (const struct plog_chunk *c = l->first; c; c = c->next) {
        uint8_t head[FILE_HEAD];
        frame_set_u64(head, c->at);
        frame_set_u64(head + 8, (uint64_t)c->at_ms);
        frame_set_u32(head + 16, (uint32_t)c->len);
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
        if (n > len - FILE_HEAD || p[20] > EXEC_STDERR || at < l->next)
            break;
        plog_add(l, (enum exec_stream)p[20], at, at_ms, p + FILE_HEAD, n);
        p += FILE_HEAD + n;
        len -= FILE_HEAD + n;
    }
    return len == 0 ? 0 : err_set(err, ERR_INTERNAL, "the kept output is damaged");
}
