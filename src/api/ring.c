/* The byte ring of a streamed body: at most two copies per call, around the end. */
#include "ring.h"

#include "base/str.h"

void ring_init(struct ring *r, size_t size)
{
    *r = (struct ring){ .data = malloc(size), .size = size };
    if (!r->data)
        abort(); /* crash-only: a small allocation */
}

void ring_release(struct ring *r)
{
    free(r->data);
    *r = (struct ring){ 0 };
}

size_t ring_room(const struct ring *r)
{
    return r->size - r->len;
}

size_t ring_space(struct ring *r, char **ret)
{
    if (r->len == 0)
        r->head = 0;
    size_t at = (r->head + r->len) % r->size;
    *ret = r->data + at;
    return at < r->head ? r->head - at : r->len < r->size ? r->size - at : 0;
}

void ring_filled(struct ring *r, size_t len)
{
    r->len += len;
}

size_t ring_put(struct ring *r, const void *data, size_t len)
{
    size_t n = len < ring_room(r) ? len : ring_room(r);
    if (n == 0)
        return 0;
    size_t at = (r->head + r->len) % r->size;
    size_t first = r->size - at < n ? r->size - at : n;
    memcpy(r->data + at, data, first);
    memcpy(r->data, (const char *)data + first, n - first);
    r->len += n;
    return n;
}

size_t ring_take(struct ring *r, void *out, size_t len)
{
    size_t n = len < r->len ? len : r->len;
    if (n == 0)
        return 0;
    size_t first = r->size - r->head < n ? r->size - r->head : n;
    memcpy(out, r->data + r->head, first);
    memcpy((char *)out + first, r->data, n - first);
    r->head = (r->head + n) % r->size;
    r->len -= n;
    return n;
}
