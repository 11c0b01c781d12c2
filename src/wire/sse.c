/* Server-sent events. */
#include "wire/sse.h"

#include <string.h>

void sse_event(struct buf *b, int64_t id, const char *event, const char *data)
{
    if (id >= 0)
        buf_addf(b, "id: %lld\n", (long long)id);
    buf_addf(b, "event: %s\n", event);
    for (;;) {
        size_t n = strcspn(data, "\r\n");
        buf_adds(b, "data: ");
        buf_add(b, data, n);
        buf_addc(b, '\n');
        if (!data[n])
            break;
        data += n + (data[n] == '\r' && data[n + 1] == '\n' ? 2 : 1);
    }
    buf_addc(b, '\n');
}

void sse_comment(struct buf *b, const char *text)
{
    buf_addf(b, ": %s\n\n", text);
}
