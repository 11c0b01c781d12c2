/* Directories as archives, between this machine and a stream. Private to cli/.
 *
 * Unpacking trusts nothing: names are relative and without "..", nothing is written through a link,
 * links are only made when they end inside by their text, and special files not at all. What is
 * left out is told of. */
#ifndef CLI_PACK_H
#define CLI_PACK_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

struct archive_stats {
    int64_t files, bytes;
    int64_t skipped; /* left out because of what they are */
    int64_t failed;  /* could not be made */
};

/* Tells of an entry that was left out. */
typedef void (*archive_skip_fn)(void *ctx, const char *name, const char *why);

/* --- a local directory, read as a tar --- */
struct pack;
int pack_open(const char *dir, archive_skip_fn skip, void *ctx, struct pack **ret, struct err *err);
/* Up to size bytes of the archive; 0: its end; -1. */
ssize_t pack_read(struct pack *p, void *out, size_t size, struct err *err);
const struct archive_stats *pack_stats(const struct pack *p);
void pack_close(struct pack *p);

/* --- a stream, unpacked into a local directory that exists --- */
struct unpack_source {
    /* 1 and some bytes, 0: the end, -1 */
    int (*read)(void *ctx, const char **data, size_t *len, struct err *err);
    archive_skip_fn skip;
    void *ctx;
};
/* The working directory of the process is dir afterwards. */
int unpack(const struct unpack_source *from, const char *dir, struct archive_stats *ret,
           struct err *err);

#endif
