/* Any bytes as frames: no read outside of them, and what is accepted is consistent. */
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "wire/frames.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void must(bool ok)
{
    if (!ok)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct frame f;
    size_t size;
    while (frame_parse(data, len, &f, &size) == 1) {
        struct frame_hello h;
        struct frame_exit e;
        struct frame_spawn s;
        struct frame_attached a;
        must(size == FRAME_HEADER + (size_t)f.len && size <= len);
        if (frame_get_hello(&f, &h) == 0)
            must(h.kind == HELLO_CONTROL || h.kind == HELLO_STREAM);
        if (frame_get_exit(&f, &e) == 0)
            must(e.code >= 0 && e.code < 256 && e.signal <= 64);
        if (frame_get_attached(&f, &a) == 0)
            must(a.first <= a.next);
        if (frame_get_spawn(&f, &s) == 0) {
            size_t argv_len = (size_t)(s.env - s.argv);
            size_t env_len = (size_t)((const char *)f.payload + f.len - s.env);
            must(frame_put_spawn(NULL, &s, argv_len, env_len) == f.len);
            uint8_t *again = malloc(f.len);
            must(again != NULL);
            (void)frame_put_spawn(again, &s, argv_len, env_len);
            must(memcmp(again, f.payload, f.len) == 0);
            free(again);
        }
        data += size;
        len -= size;
    }
    return 0;
}
