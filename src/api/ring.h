/* A byte ring of fixed size: one body on its way, in memory never more than the window.
 * Not thread-safe: its owner's lock guards it. */
#ifndef RING_H
#define RING_H

#include <stddef.h>

struct ring {
    char *data;
    size_t size;
    size_t head; /* first byte to take */
    size_t len;
};

void ring_init(struct ring *r, size_t size); /* allocates */
void ring_release(struct ring *r);
size_t ring_room(const struct ring *r);
/* The room in one piece, which may be less than all of it: a place to fill, without the lock if
 * need be, and then to tell of. Others may only take meanwhile. */
size_t ring_space(struct ring *r, char **ret);
void ring_filled(struct ring *r, size_t len);
/* Both move as much as fits and say how much that was. */
size_t ring_put(struct ring *r, const void *data, size_t len);
size_t ring_take(struct ring *r, void *out, size_t len);

#endif
