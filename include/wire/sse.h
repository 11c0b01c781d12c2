/* Server-sent events (HTML Living Standard, 9.2) and NDJSON: one frame in is one frame out,
 * whatever bytes the data holds. Threads: any. */
#ifndef WIRE_SSE_H
#define WIRE_SSE_H

#include <stdint.h>

#include "base/buf.h"

/* Appends "id: n\nevent: e\ndata: ...\n\n"; id < 0 leaves the id line out. Each line of data gets
 * its own "data:" line; CR and LF both end a line. */
void sse_event(struct buf *b, int64_t id, const char *event, const char *data);
/* Appends ": text\n\n", for keep-alive. */
void sse_comment(struct buf *b, const char *text);

#endif
