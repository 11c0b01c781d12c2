/* Replies of the Engine and pieces of its event stream: the first byte chooses the decoder. */
#include <stdint.h>
#include <stdlib.h>

#include "replies.h"

#include "base/cleanup.h"
#include "engine.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void on_object(void *ctx, const struct buf *object)
{
    struct sandbox_id id;
    enum runtime_event_kind kind;
    (void)ctx;
    (void)reply_event(object, "inst", &id, &kind);
}

static void events(const char *data, size_t size)
{
    struct err err;
    struct splitter s = SPLITTER_INIT;
    const size_t step = size % 7 + 1;
    for (size_t at = 0; at < size; at += step)
        if (splitter_feed(&s, data + at, size - at < step ? size - at : step, on_object, NULL,
                          &err) < 0)
            break;
    buf_release(&s.object);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    struct err err;
    struct seen_container seen;
    struct strv seeds = { 0 };
    AUTO(free) struct runtime_container *list = NULL;
    AUTO(buf) struct buf b = BUF_INIT(JSON_ENGINE_MAX);
    AUTO(buf) struct buf out = BUF_INIT(64 * KIB);
    size_t count;
    char text[80];
    buf_add(&b, data + 1, size - 1);
    switch (data[0]) {
    case 'i':
        (void)reply_inspect(&b, "inst", "net", &seen, &err);
        break;
    case 'l':
        (void)reply_list(&b, "net", &list, &count, &err);
        (void)reply_old_seeds(&b, "boot", &seeds, &err);
        strv_release(&seeds);
        break;
    case 'd':
        (void)reply_id(&b, text, sizeof text, &err);
        (void)reply_network(&b, "inst", &err);
        (void)reply_describe(&b, &b, &out, &err);
        break;
    case 'c':
        (void)reply_cause(&b, "start", &err);
        break;
    case 'v':
        (void)engine_choose_api(buf_str(&b), text, &err);
        break;
    default:
        events(buf_str(&b), b.len);
    }
    return 0;
}
