/* The last output of a command, as much as the ring holds, with the place of every byte in it.
 *
 * Offsets count all bytes since the start, stdout and stderr together; byte i lies at i modulo the
 * size. Which of the two a byte belongs to is one bit beside it, so that nothing but the size
 * bounds how often they alternate. The memory is static and costs nothing until it is written to.
 */
#include <errno.h>
#include <string.h>
#include <sys/uio.h>

#include "monitor.h"

static uint8_t bytes[LINK_RING], marks[LINK_RING / 8];
static struct {
    size_t size; /* a power of two */
    uint64_t first, next;
} ring;

void ring_init(size_t size)
{
    ring.size = size;
}

uint64_t ring_first(void)
{
    return ring.first;
}

uint64_t ring_next(void)
{
    return ring.next;
}

size_t ring_view(uint64_t from, size_t len, struct iovec out[2])
{
    size_t at = from & (ring.size - 1), before_end = ring.size - at;
    out[0] = (struct iovec){ bytes + at, len < before_end ? len : before_end };
    out[1] = (struct iovec){ bytes, len - out[0].iov_len };
    return out[1].iov_len > 0 ? 2 : 1;
}

static bool is_marked(uint64_t offset)
{
    size_t at = offset & (ring.size - 1);
    return marks[at / 8] >> at % 8 & 1;
}

static void mark(size_t at, size_t len, bool of_err)
{
    for (; len > 0 && at % 8 != 0; at++, len--)
        marks[at / 8] = (uint8_t)((marks[at / 8] & ~(1u << at % 8)) | (unsigned)of_err << at % 8);
    memset(marks + at / 8, of_err ? 0xff : 0, len / 8);
    at += len / 8 * 8;
    for (len %= 8; len > 0; at++, len--)
        marks[at / 8] = (uint8_t)((marks[at / 8] & ~(1u << at % 8)) | (unsigned)of_err << at % 8);
}

ssize_t ring_fill(int fd, bool of_err, size_t most)
{
    struct iovec io[2];
    size_t count = ring_view(ring.next, most, io);
    ssize_t n = readv(fd, io, (int)count);
    if (n <= 0)
        return n;
    size_t one = (size_t)n < io[0].iov_len ? (size_t)n : io[0].iov_len;
    mark(ring.next & (ring.size - 1), one, of_err);
    mark(0, (size_t)n - one, of_err);
    ring.next += (uint64_t)n;
    if (ring.next - ring.first > ring.size)
        ring.first = ring.next - ring.size;
    return n;
}

size_t ring_run(uint64_t from, size_t most, bool *ret_of_err)
{
    size_t n = 1;
    bool of_err = is_marked(from);
    if (most > ring.next - from)
        most = (size_t)(ring.next - from);
    while (n < most) {
        size_t at = (from + n) & (ring.size - 1);
        uint64_t word;
        memcpy(&word, marks + at / 64 * 8, sizeof word);
        if (at % 64 == 0 && most - n >= 64 && word == (of_err ? UINT64_MAX : 0))
            n += 64;
        else if (is_marked(from + n) == of_err)
            n++;
        else
            break;
    }
    *ret_of_err = of_err;
    return n;
}
