/* Answers that go on, as events. One thread at a time. */
#ifndef EVENTS_H
#define EVENTS_H

#include "base/buf.h"
#include "render.h"
#include "req.h"
#include "utf8.h"
#include "wire/json.h"

enum events_format { EVENTS_NONE, EVENTS_SSE, EVENTS_NDJSON, EVENTS_TEXT };

struct events {
    struct req *r;
    enum events_format format;
    struct utf8_tail tail[2]; /* of stdout and stderr: a character split between two reads */
    int64_t tail_at[2];       /* its offset */
    struct buf frame;
    int64_t wrote_ms;
    int status; /* of the answer; 0: 200 */
    int64_t id; /* of the event to come: where to go on after it; -1: none */
};

/* What Accept asks for. */
enum events_format events_wanted(const struct req *r, enum events_format otherwise);
/* Sends the head, once. */
int events_begin(struct events *e);
/* Sends what is in frame. -1: the client is gone. */
int events_send(struct events *e);
/* One event: members are put between the two. */
void events_open(struct events *e, struct json_out *o, const char *type);
int events_close(struct events *e, struct json_out *o, const char *type);
/* Output as "stdout" and "stderr" events. at: offset of the first byte, told as "offset" and as the
 * SSE id of where to go on; -1: offsets are not told. */
int events_output(struct events *e, enum exec_stream which, const char *data, size_t len,
                  int64_t at);
/* What was held back of a character that will never be whole. */
int events_rest(struct events *e);
int events_error(struct events *e, const struct err *err);
/* Has the client left? Asked once a second or so; also sends keep-alives. */
bool events_gone(struct events *e);
/* As events_gone, for what follows something without an end: also over once the daemon stops, which
 * the client is told. */
bool events_over(struct events *e);
/* "SIGKILL" */
const char *events_signal(uint32_t n, char out[16]);

#endif
