/* A bounded buffer between two sockets: bytes come in at the end and leave at the start. Its memory
 * is there only while something is in it. Threads: one at a time. */
#ifndef EDGE_BUFFER_H
#define EDGE_BUFFER_H

#include <stdbool.h>
#include <stddef.h>

#include "base/limits.h"

struct buffer {
    char *data; /* EDGE_BUFFER bytes, or NULL */
    size_t start, end;
    bool whole; /* nothing was dropped since it was filled first: buffer_rewind works */
};

static inline size_t buffer_len(const struct buffer *b)
{
    return b->end - b->start;
}
static inline const char *buffer_at(const struct buffer *b)
{
    return b->data + b->start;
}
/* How many more bytes fit. Makes room by moving, unless `whole` forbids it. */
size_t buffer_room(struct buffer *b);
/* Where they go; buffer_grew says how many were written. */
char *buffer_tail(struct buffer *b);
void buffer_grew(struct buffer *b, size_t n);
/* false, and nothing added, where it does not fit. */
bool buffer_add(struct buffer *b, const void *data, size_t len);
bool buffer_adds(struct buffer *b, const char *text);
/* The first n bytes have gone. */
void buffer_drop(struct buffer *b, size_t n);
/* All that ever was in it is to go once more. */
void buffer_rewind(struct buffer *b);
/* Empties it; gives the memory back. */
void buffer_release(struct buffer *b);

#endif
