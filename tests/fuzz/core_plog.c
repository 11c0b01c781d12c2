/* Files of kept output, damaged in every way: what is loaded reads in order and within bounds, and
 * saves as what it is. */
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "plog.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct plog l = { 0 }, again = { 0 };
    struct err err;
    static char out[4096];
    uint64_t at = 0, total = 0;
    bool whole = plog_load(&l, data, size, &err) == 0;
    for (;;) {
        struct follow_chunk c;
        size_t n = plog_read(&l, at, out, sizeof out, &c);
        if (n == 0)
            break;
        if (c.offset < at || n > sizeof out || c.offset + n > l.next || l.next > INT64_MAX ||
            (c.stream != EXEC_STDOUT && c.stream != EXEC_STDERR) || c.at_ms < 0)
            abort();
        at = c.offset + n;
        total += n;
    }
    if (total != l.bytes || total > size || (l.count && at != l.next))
        abort();
    struct buf b = BUF_INIT(2 * PROCESS_OUTPUT_KEEP);
    plog_save(&l, &b);
    if (b.failed || plog_load(&again, buf_str(&b), b.len, &err) < 0 || again.bytes != l.bytes ||
        (l.count && again.next != l.next) || (whole && l.count && b.len > size))
        abort();
    buf_release(&b);
    plog_release(&l);
    plog_release(&again);
    return 0;
}
