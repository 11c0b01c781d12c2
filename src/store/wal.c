/* SQLite reads a WAL up to the first frame whose checksum is wrong and takes that for the end:
 * right after a power cut, which can tear the last transaction only, but with a damaged frame
 * further ahead it would drop transactions that were acknowledged, without a word. Each transaction
 * is synced before the next is written; so when two or more commit frames of this run of the log
 * lie behind a bad frame, the first of them was whole and synced, and the log is damaged, not torn.
 *
 * Format: https://www.sqlite.org/fileformat.html, 4 ("The Write-Ahead Log"). */
#include "wal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/str.h"

#define WAL_HEADER 32
#define FRAME_HEADER 24
#define WAL_MAGIC 0x377f0682u /* the lowest bit: checksums over big-endian words */

static uint32_t be32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static uint32_t le32(const uint8_t *p)
{
    return (uint32_t)p[3] << 24 | (uint32_t)p[2] << 16 | (uint32_t)p[1] << 8 | p[0];
}

static void checksum(bool big, const uint8_t *data, size_t len, uint32_t sum[2])
{
    for (size_t i = 0; i + 8 <= len; i += 8) {
        sum[0] += (big ? be32(data + i) : le32(data + i)) + sum[1];
        sum[1] += (big ? be32(data + i + 4) : le32(data + i + 4)) + sum[0];
    }
}

static bool matches(const uint8_t *stored, const uint32_t sum[2])
{
    return be32(stored) == sum[0] && be32(stored + 4) == sum[1];
}

/* Counts the commits of this run that lie behind the first bad frame. */
static int count_behind(int fd, const uint8_t head[WAL_HEADER], uint32_t page, uint32_t sum[2],
                        uint32_t *ret_commits, struct err *err)
{
    bool big = be32(head) & 1, good = true;
    size_t size = FRAME_HEADER + page;
    AUTO(free) uint8_t *frame = mem_new(1, size);
    *ret_commits = 0;
    while (fd_read_all(fd, frame, size) == 0) {
        bool this_run = memcmp(frame + 8, head + 16, 8) == 0; /* the salts */
        if (good) {
            checksum(big, frame, 8, sum);
            checksum(big, frame + FRAME_HEADER, page, sum);
            good = this_run && matches(frame + 16, sum);
        }
        if (!good && this_run && be32(frame + 4) != 0)
            ++*ret_commits;
    }
    return errno == ENODATA ? 0 : err_sys(err, errno, "read the write-ahead log");
}

int wal_look(int dir, const char *name, bool *ret_lost, struct err *err)
{
    AUTO(fd) int fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0 && errno == ENOENT) {
        *ret_lost = false;
        return 0;
    }
    struct stat st;
    if (fd < 0 || fstat(fd, &st) < 0)
        return err_sys(err, errno, "look at the write-ahead log");
    uint8_t head[WAL_HEADER];
    if (st.st_size < WAL_HEADER + FRAME_HEADER) { /* no frame: nothing to lose */
        *ret_lost = false;
        return 0;
    }
    if (fd_read_all(fd, head, sizeof head) < 0)
        return err_sys(err, errno, "read the write-ahead log");
    uint32_t sum[2] = { 0, 0 }, page = be32(head + 8), commits = 0;
    checksum(be32(head) & 1, head, WAL_HEADER - 8, sum);
    if ((be32(head) & ~1u) != WAL_MAGIC || page < 512 || page > 65536 ||
        !matches(head + WAL_HEADER - 8, sum)) {
        *ret_lost = true; /* written and synced before the first frame */
        return 0;
    }
    if (count_behind(fd, head, page, sum, &commits, err) < 0)
        return -1;
    *ret_lost = commits > 1;
    return 0;
}
