/* A client's bytes: head, route, rewriting and body, as the edge reads them. What is passed on must
 * be read the same way again. */
#include <stdlib.h>
#include <string.h>

#include "body.h"
#include "rewrite.h"
#include "route.h"

#define OUR_LINES 10 /* that are put in: the reader here has the same ceiling */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The head that we wrote: well-formed, with the framing that was understood. */
static void check(const struct buffer *out, const struct framing *f)
{
    struct head again;
    struct framing seen;
    ssize_t size = head_size(buffer_at(out), buffer_len(out), EDGE_BUFFER);
    if (size <= 0 || head_request(buffer_at(out), (size_t)size, &again) != 0 ||
        head_framing(&again, &seen) < 0 || seen.chunked != f->chunked ||
        seen.has_length != f->has_length || seen.length != f->length)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *text = (const char *)data;
    struct head h;
    struct framing f;
    struct route route;
    struct buffer out = { .whole = true };
    struct body body;
    char code[ROUTE_CODE_MAX], path[EDGE_TARGET_MAX];
    ssize_t n = head_size(text, size, EDGE_HEAD_MAX);
    if (n <= 0 || head_request(text, (size_t)n, &h) != 0 || head_framing(&h, &f) < 0)
        return 0;
    if (body_begin(&body, false, text, (size_t)n, false, f.chunked ? BODY_CHUNKED : BODY_RAW,
                   &out) == 0) {
        struct visit v = { .address = "192.0.2.1", .host = "x", .proto = "http", .port = 80 };
        (void)edge_route_find(&h, "localhost", &route);
        if (route_code(h.target, code) && route_without_code(h.target, path, sizeof path) &&
            (path[0] != '/' || path[1] == '/' || path[1] == '\\'))
            abort();
        if (rewrite_request(&out, &h, &v) && h.n + OUR_LINES <= EDGE_LINES_MAX)
            check(&out, &f);
        /* the body in two pieces, drained between */
        size_t used, at = (size_t)n, half = at + (size - at) / 2;
        for (int i = 0; i < 64 && at < size && !body.done; i++) {
            buffer_drop(&out, buffer_len(&out));
            if (body_feed(&body, text + at, (i == 0 ? half : size) - at, &used) < 0)
                break;
            at += used;
            if (at > size || body.full)
                abort();
        }
    }
    buffer_release(&out);
    return 0;
}
