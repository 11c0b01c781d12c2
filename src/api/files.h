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
/* Parameters that params_check() has looked at; otherwise: their values when absent. */
bool files_flag(const struct req *r, const char *name, bool otherwise);
uint32_t files_number(const struct req *r, const char *name, uint32_t otherwise);
/* Parses the path of what is to be made or written and opens the workspace; answers on failure. */
int files_root(struct req *r, const char *text, struct file_path *path, int *ret_root);
/* The same for what is there already; write: it will be changed. */
int files_root_there(struct req *r, const char *text, bool write, struct file_path *path,
                     int *ret_root);
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
    char dir[PATH_BYTES_MAX + 32];
    bool relative;
};
void files_names_init(struct files_names *n, const char *dir);
/* A path as text; where its bytes are none, "<key>_base64" has them beside it. */
void files_put_name(struct json_out *o, const char *key, const char *path);
/* "" is what the names were begun with. */
void files_put_path(struct json_out *o, const char *key, const struct files_names *n,
                    const char *path);
void files_put_mtime(struct json_out *o, int64_t mtime_ms);
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
/* Sends what there is; -1: nobody takes it. */
int files_out_push(struct files_out *out);
int files_out_flush(struct files_out *out);
/* Ends it; err: NULL for success. Frees. */
void files_out_end(struct files_out *out, const struct err *err);

#endif
