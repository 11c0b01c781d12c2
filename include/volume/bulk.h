/* Whole trees of a workspace: as archives, and searched. The rules of volume/file.h hold: nothing
 * is reached but below the root descriptor, no link is followed. All of it streams; memory does not
 * grow with what a tree holds. At most FILE_WALKS_MAX at once, else ERR_CAPACITY. Threads: any. */
#ifndef VOLUME_BULK_H
#define VOLUME_BULK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "volume/file.h"

enum file_archive { FILE_TAR_ZST, FILE_ZIP, FILE_TAR };

struct file_export_stats {
    uint64_t entries, bytes;
    uint64_t left_out; /* FIFOs, devices, links that lead out, unreadable or too deep */
    uint64_t deep;     /* of them: directories too deep to enter, and what has too long a path */
};
/* Writes the directory as an archive, names relative to it. zip: regular files only; tar: also
 * directories and those links that stay inside by what they say. Characters of a name that lead
 * elsewhere or act on a terminal on somebody's machine (control bytes, backslash, "C:", bytes that
 * are not UTF-8) are written as %XX, and as %25 the % of a name that reads like one of these: names
 * stay different. What links say is written alike. skip as in file_list. write() returns -1 to end
 * it (ERR_CANCELLED). */
int file_export(int root, const struct file_path *dir, enum file_archive format,
                const char *const *skip, int (*write)(void *ctx, const void *data, size_t len),
                void *ctx, struct file_export_stats *ret, struct err *err);

#define FILE_IMPORT_TOLD 100
struct file_import_skip {
    char path[256];  /* may be cut, may hold any bytes */
    const char *why; /* static */
};
struct file_import_stats {
    uint64_t files, directories, links, bytes;
    uint64_t skipped;
    struct file_import_skip told[FILE_IMPORT_TOLD]; /* the first of them */
};
/* Unpacks a tar (plain, gzip or zstd) or zip into the directory (made when missing). All of it is
 * read into a hidden place first and then moved in by renames: a broken or too large archive
 * changes nothing. Directories, regular files and links that stay inside by what they say, owned by
 * uid:gid, without setuid, setgid and sticky; everything else is skipped and told. A file replaces
 * a file and a link a link; what is in the way otherwise stays, and the entry counts as skipped.
 * read() is as read(2) with err; what it returns it has put to out. ERR_INVALID: not an archive, or
 * a broken one; ERR_TOO_LARGE: bytes, entries, or a hundred times larger than it came; ERR_TIMEOUT.
 */
int file_import(int root, const struct file_path *dir, uint32_t uid, uint32_t gid,
                ssize_t (*read)(void *ctx, void *out, size_t len, struct err *err), void *ctx,
                struct file_import_stats *ret, struct err *err);

struct file_search {
    const char *name; /* glob on the name, or on the path where it holds a slash; NULL: all */
    const char *text; /* looked for in regular files that are text; NULL: names only */
    bool regex;       /* text is a pattern of PCRE2, else plain */
    bool ignore_case;
    uint32_t limit;
    const char *const *skip;
    bool (*wanted)(void *ctx); /* asked each second: false ends it; may be NULL */
};
struct file_hit {
    const char *path; /* relative to the directory searched; "": the file that was asked for */
    enum file_type type;
    uint64_t line;    /* from 1; 0: found by name */
    uint64_t column;  /* bytes, from 1 */
    const char *text; /* of the line, cut */
    size_t text_len;
};
struct file_search_stats {
    uint64_t files, bytes; /* looked into */
    uint64_t binary;       /* files that are not text */
    uint64_t costly;       /* files left because the pattern took too many steps there */
    bool truncated;
    const char *why; /* "limit", "time", "depth" or NULL */
};
/* Below a directory, or in one regular file. Each line that matches is told once. each() returns -1
 * to end it, which is no error. A bad pattern is ERR_INVALID. */
int file_search(int root, const struct file_path *path, const struct file_search *s,
                int (*each)(void *ctx, const struct file_hit *h), void *ctx,
                struct file_search_stats *ret, struct err *err);

#endif
