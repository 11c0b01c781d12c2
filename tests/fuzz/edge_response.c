/* An app's bytes: head, rewriting and body, as the edge reads them. */
#include <stdlib.h>

#include "body.h"
#include "rewrite.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *text = (const char *)data;
    struct head h, again;
    struct framing f;
    struct buffer out = { 0 };
    struct body body;
    size_t used;
    ssize_t n = head_size(text, size, EDGE_HEAD_MAX);
    if (n <= 0 || head_response(text, (size_t)n, &h) < 0 || head_framing(&h, &f) < 0)
        return 0;
    bool no_body = h.status < 200 || h.status == 204 || h.status == 304;
    bool chunked = !no_body && !f.has_length;
    if (body_begin(&body, true, text, (size_t)n, no_body, chunked ? BODY_CHUNKED : BODY_RAW,
                   &out) == 0) {
        /* Two lines are ours: with them the largest head is above what is taken from an app. */
        if (rewrite_response(&out, &h, "close", chunked, h.status != 204) &&
            h.n + 2 <= EDGE_LINES_MAX) {
            ssize_t m = head_size(buffer_at(&out), buffer_len(&out), EDGE_BUFFER);
            if (m <= 0 || head_response(buffer_at(&out), (size_t)m, &again) < 0 ||
                head_framing(&again, &f) < 0)
                abort();
        }
        for (size_t at = (size_t)n, i = 0; i < 64 && at < size && !body.done; i++, at += used) {
            buffer_drop(&out, buffer_len(&out));
            if (body_feed(&body, text + at, size - at, &used) < 0)
                break;
            if (body.full)
                abort();
        }
        buffer_drop(&out, buffer_len(&out));
        (void)body_finish(&body); /* cut short or not, both are fine */
    }
    buffer_release(&out);
    return 0;
}
