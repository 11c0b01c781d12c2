/* What a daemon may send to a client: streams of events and answers to a handshake; and what may be
 * shown at a terminal. The first byte chooses. */
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "events.h"
#include "text.h"
#include "websocket.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int look(void *ctx, const struct event *e, struct err *err)
{
    (void)ctx;
    (void)err;
    if (!e->type || (e->len && !e->data) || strlen(e->line) == 0)
        abort();
    return 0;
}

static void events(const char *text, size_t len)
{
    AUTO(events) struct events e = EVENTS_INIT;
    struct err err;
    size_t half = len / 2;
    if (events_feed(&e, text, half, look, NULL, &err) == 0)
        (void)events_feed(&e, text + half, len - half, look, NULL, &err);
}

static void handshake(const char *text, size_t len)
{
    struct err err;
    int status = 0;
    size_t body = 0;
    if (handshake_parse(text, len, "right", &status, &body, &err) == 0 &&
        (status < 0 || status > 999 || body > 1 << 20))
        abort();
    (void)http_error(400, text, len, &err);
}

static void shown(const char *text, size_t len)
{
    AUTO(buf) struct buf b = BUF_INIT(1 << 24);
    size_t limit = len % 7;
    size_t width = text_show(&b, text, len, limit);
    if (limit && width > limit)
        abort();
    for (size_t i = 0; i < b.len; i++)
        if ((unsigned char)b.data[i] < 0x20 || b.data[i] == 0x7f)
            abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    char *text = malloc(size);
    memcpy(text, data + 1, size - 1);
    text[size - 1] = '\0';
    switch (data[0] % 3) {
    case 0:
        events(text, size - 1);
        break;
    case 1:
        handshake(text, size - 1);
        break;
    default:
        shown(text, size - 1);
    }
    free(text);
    return 0;
}
