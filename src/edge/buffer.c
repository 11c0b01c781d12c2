/* Buffers between sockets. */
#include "buffer.h"

#include <stdlib.h>
#include <string.h>

#define ROOM_MIN (EDGE_TRAILER_MAX + KIB) /* an emptied buffer takes any trailer section */

static char *new_memory(void)
{
    char *data = malloc(EDGE_BUFFER); /* not cleared: only what was written is read */
    if (!data)
        abort();
    return data;
}

size_t buffer_room(struct buffer *b)
{
    if (!b->data)
        return EDGE_BUFFER;
    if (b->start == b->end && (!b->whole || EDGE_BUFFER - b->end < ROOM_MIN)) {
        b->start = b->end = 0; /* full, and all of it has gone: it cannot be kept any longer */
        b->whole = false;
    } else if (!b->whole && b->start > 0 && b->end > EDGE_BUFFER / 2) {
        memmove(b->data, b->data + b->start, b->end - b->start);
        b->end -= b->start;
        b->start = 0;
    }
    return EDGE_BUFFER - b->end;
}

char *buffer_tail(struct buffer *b)
{
    if (!b->data)
        b->data = new_memory();
    return b->data + b->end;
}

void buffer_grew(struct buffer *b, size_t n)
{
    b->end += n;
}

bool buffer_add(struct buffer *b, const void *data, size_t len)
{
    if (len > buffer_room(b))
        return false;
    memcpy(buffer_tail(b), data, len);
    b->end += len;
    return true;
}

bool buffer_adds(struct buffer *b, const char *text)
{
    return buffer_add(b, text, strlen(text));
}

void buffer_drop(struct buffer *b, size_t n)
{
    b->start += n;
    if (b->start == b->end && !b->whole)
        b->start = b->end = 0;
}

void buffer_rewind(struct buffer *b)
{
    b->start = 0;
}

void buffer_release(struct buffer *b)
{
    free(b->data);
    *b = (struct buffer){ 0 };
}
