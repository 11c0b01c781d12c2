/* What the handlers of files share: parameters, names as clients see them, long JSON answers. */
#ifndef FILES_H
#define FILES_H

#include "base/limits.h"
#include "req.h"
#include "volume/file.h"
#include "wire/json.h"

#define SANDBOX_UID 1000 /* owner of everything in a workspace */

/* What a build makes by the ten thousand: left out unless all=true. NULL-terminated. */
extern const char *const files_skipped[];

/* ?path=, "" when absent. */
const char *files_path(const struct req *r);
/* A parameter that is true or false; otherwise: its value when absent. Answers on failure. */
int files_flag(struct req *r, const char *name, bool otherwise, bool *ret);
/* A parameter from lo to hi; left alone when absent. Answers on failure. */
int files_number(struct req *r, const char *name, uint32_t lo, uint32_t hi, uint32_t *ret);
/* Parses the path and opens the workspace; answers on failure. */
int files_root(struct req *r, const char *text, bool write, struct file_path *path, int *ret_root);
/* Answers a failure while a body came: not at all when nobody is there. */
void files_fail(struct req *r, const struct err *err);

/* The preconditions of a request, copied: its headers are gone once its client is. */
struct files_match {
    char *if_match, *if_none_match;
    struct file_match match;
};
void files_match_init(struct files_match *m, const struct req *r);
static inline void auto_files_match(struct files_match *m)
{
    free(m->if_match);
    free(m->if_none_match);
}

/* Entries are named from the app directory where they lie below it, else absolutely: so that each
 * name can be asked for. */
struct files_names {
    char prefix[PATH_BYTES_MAX + 32];
    bool relative;
};
void files_names_init(struct files_names *n, const char *dir);
void files_put_path(struct json_out *o, const char *key, const struct files_names *n,
                    const char *path);
/* Members of an object: type, size, mtime, mode, etag. */
void files_put_stat(struct json_out *o, const struct file_stat *st);
/* An object with the path as it was asked for. */
void files_reply(struct req *r, int status, const char *path, const struct file_stat *st);
/* All of the body that fits, so that small pieces do not become small writes. */
ssize_t files_read(struct req *r, char *chunk, size_t size, struct err *err);

/* A JSON answer of any length: streamed once it is longer than HTTP_LIST_FLUSH. */
struct files_out {
    struct req *r;
    struct buf b;
    struct json_out o;
};
void files_out_init(struct files_out *out, struct req *r);
/* Sends what has come together; -1: the client is gone. */
int files_out_flush(struct files_out *out);
/* Ends it; err: NULL for success. Frees. */
void files_out_end(struct files_out *out, const struct err *err);

#endif
