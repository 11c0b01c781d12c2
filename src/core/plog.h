/* Output of one process as a ring of chunks. Private to core/; the owner locks. */
#ifndef CORE_PLOG_H
#define CORE_PLOG_H

#include "base/buf.h"
#include "core/process.h"

struct plog_chunk;
struct plog {
    struct plog_chunk **ring; /* power of two; oldest at head */
    size_t room, head, count;
    uint64_t next;          /* offset of the byte that comes next */
    size_t bytes, overhead; /* of output; of memory besides it */
};

/* Appends; drops the oldest chunks above PROCESS_OUTPUT_KEEP bytes of output, or of overhead. at:
 * offset of the first byte; what lies between next and at was lost on the way. */
void plog_add(struct plog *l, enum exec_stream stream, uint64_t at, int64_t at_ms, const void *data,
              size_t len);
/* Copies from the first byte at or after offset, of one stream. Returns the bytes copied; 0: none
 * there yet. */
size_t plog_read(const struct plog *l, uint64_t offset, void *data, size_t size,
                 struct follow_chunk *ret);
/* Would more of it soon drop what a reader at `offset` has not read? */
bool plog_full(const struct plog *l, uint64_t offset);
void plog_release(struct plog *l); /* empty afterwards; next stays */
/* As bytes for a file, and back into an empty one. ERR_INTERNAL: no such bytes. */
void plog_save(const struct plog *l, struct buf *b);
int plog_load(struct plog *l, const void *data, size_t len, struct err *err);

#endif
