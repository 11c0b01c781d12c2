/* A growing byte buffer that is born with a ceiling and remembers its first failure:
 * append freely, look once with buf_done(). Contents are always NUL-terminated when data != NULL.
 * Owned by the caller; buf_release() accepts a zeroed or released buffer. Not thread-safe. */
#ifndef BASE_BUF_H
#define BASE_BUF_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

struct buf {
    char *data;
    size_t len;
    size_t cap;
    size_t max;  /* ceiling of len, bytes */
    bool failed; /* the ceiling was hit; later appends do nothing */
};

#define BUF_INIT(ceiling) \
    {                     \
        .max = (ceiling)  \
    }

void buf_init(struct buf *b, size_t max);
void buf_release(struct buf *b);
/* Empties it and forgets a failure; keeps the memory. */
void buf_reset(struct buf *b);
void buf_add(struct buf *b, const void *data, size_t len);
void buf_addc(struct buf *b, char c);
void buf_adds(struct buf *b, const char *text);
void buf_addf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Room for at least n more bytes, or NULL where the ceiling forbids it; then buf_grew() says how
 * many were written there. */
char *buf_room(struct buf *b, size_t n);
void buf_grew(struct buf *b, size_t n);
/* Drops the first n bytes. */
void buf_drop(struct buf *b, size_t n);
/* The text, never NULL. */
const char *buf_str(const struct buf *b);
/* Gives the heap memory away (caller frees); leaves the buffer empty. Never NULL. */
char *buf_take(struct buf *b);
/* 0, or -1 with ERR_TOO_LARGE when any append was refused. */
int buf_done(const struct buf *b, struct err *err);

static inline void auto_buf(struct buf *b)
{
    buf_release(b);
}

#endif
