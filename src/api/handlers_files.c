/* Files of a workspace, by volume/file.h alone: works while the sandbox sleeps.
 *
 * Bodies of any size stream in both directions through one chunk of memory. */
#include <errno.h>

#include "base/cleanup.h"
#include "base/limits.h"
#include "base/str.h"
#include "handlers.h"
#include "shapes.h"
#include "utf8.h"
#include "wire/json.h"

#define SANDBOX_UID 1000 /* owner of everything in a workspace */
#define APP "workspace/app"

static const char *path_of(const struct req *r)
{
    const char *path = req_query(r, "path");
    return path ? path : "";
}

/* A parameter that is true or false. Answers on failure. */
static int flag(struct req *r, const char *name, bool *ret)
{
    struct err err;
    const char *value = req_query(r, name);
    *ret = str_eq(value, "true");
    if (!value || *ret || str_eq(value, "false"))
        return 0;
    (void)err_set(&err, ERR_INVALID, "%s: must be true or false", name);
    req_fail(r, &err);
    return -1;
}

/* Parses and opens; answers on failure. */
static int open_root(struct req *r, const char *text, bool write, struct file_path *path,
                     int *ret_root)
{
    struct err err;
    if (!*text)
        (void)err_set(&err, ERR_INVALID, "path: is required");
    else if (file_path_parse(text, path, &err) == 0 &&
             core_files_open(req_core(r), req_caller(r), req_id(r), write, ret_root, &err) == 0)
        return 0;
    req_fail(r, &err);
    return -1;
}

/* --- list --- */

/* What a build makes by the ten thousand: not shown unless all=true. */
static const char *const skipped[] = { "node_modules", ".git", "dist", ".vite", NULL };

struct listing {
    struct req *r;
    struct buf b;
    struct json_out o;
    char prefix[PATH_BYTES_MAX + 32]; /* of each entry, so that its path can be asked for */
    bool relative;
    bool all;
};

static int flush(struct listing *l)
{
    if (!req_streaming(l->r))
        req_stream_begin(l->r, 200, "application/json", STREAM_UNKNOWN);
    int rc = req_is_head(l->r) ? 0 : req_write(l->r, buf_str(&l->b), l->b.len);
    buf_reset(&l->b);
    return rc;
}

/* Entries are named from the app directory where they lie below it, else absolutely; also where
 * the relative name would be read as one from home. */
static void put_path(struct listing *l, const char *name)
{
    char path[sizeof(l->prefix) + PATH_BYTES_MAX];
    (void)snprintf(path, sizeof(path), "%s%s", l->prefix, name);
    if (l->relative && (str_eq(path, "workspace") || str_starts(path, "workspace/")))
        (void)snprintf(path, sizeof(path), "/home/sandbox/" APP "/%s%s", l->prefix, name);
    json_put_bytes(&l->o, "path", path, strlen(path));
}

static int on_entry(void *ctx, const struct file_entry *e)
{
    struct listing *l = ctx;
    char mode[8];
    json_open(&l->o, NULL);
    put_path(l, e->path);
    json_put(&l->o, "type", file_type_name(e->type));
    if (e->type == FILE_REGULAR)
        json_put_int(&l->o, "size", (int64_t)e->size);
    json_put_time(&l->o, "mtime", e->mtime_ms);
    (void)snprintf(mode, sizeof(mode), "%04o", e->mode & 07777);
    json_put(&l->o, "mode", mode);
    json_close(&l->o);
    return l->b.len > HTTP_LIST_FLUSH ? flush(l) : 0;
}

static void set_prefix(struct listing *l, const char *dir)
{
    size_t app = sizeof(APP) - 1;
    l->relative = str_starts(dir, APP) && (dir[app] == '\0' || dir[app] == '/');
    const char *rest = l->relative ? dir + app + (dir[app] == '/') : dir;
    (void)snprintf(l->prefix, sizeof(l->prefix), "%s%s%s", l->relative ? "" : "/home/sandbox/",
                   rest, *rest ? "/" : "");
}

static void list_end(struct listing *l, const char *path, bool recursive, bool cut)
{
    json_unlist(&l->o);
    json_put(&l->o, "path", path);
    json_put_bool(&l->o, "recursive", recursive);
    json_put_bool(&l->o, "truncated", cut);
    json_list(&l->o, "skipped");
    for (size_t i = 0; !l->all && skipped[i]; i++)
        json_put(&l->o, NULL, skipped[i]);
    json_unlist(&l->o);
    json_close(&l->o);
    if (!req_streaming(l->r)) {
        req_reply_json(l->r, 200, &l->b);
        return;
    }
    buf_addc(&l->b, '\n');
    req_stream_end(l->r, flush(l) < 0);
}

void files_list(struct req *r)
{
    struct err err;
    struct file_path dir;
    AUTO(fd) int root = -1;
    bool recursive, all, cut = false;
    if (flag(r, "recursive", &recursive) < 0 || flag(r, "all", &all) < 0)
        return;
    const char *asked = path_of(r);
    if (open_root(r, *asked ? asked : ".", false, &dir, &root) < 0)
        return;
    AUTO(free) struct listing *l = mem_new(1, sizeof(*l));
    l->r = r;
    l->all = all;
    buf_init(&l->b, 2 * HTTP_LIST_FLUSH);
    l->o = JSON_OUT(&l->b);
    set_prefix(l, dir.text);
    json_open(&l->o, NULL);
    json_list(&l->o, "entries");
    if (file_list(root, &dir, recursive, all ? NULL : skipped, on_entry, l, &cut, &err) == 0)
        list_end(l, asked, recursive, cut);
    else if (req_streaming(r))
        req_stream_end(r, true);
    else
        req_fail(r, &err);
    buf_release(&l->b);
}

/* --- read --- */

/* A quick look: text, cut anywhere, or bytes. */
static bool looks_like_text(const char *data, size_t len)
{
    return str_utf8(data, len - utf8_open(data, len));
}

static ssize_t read_some(int fd, char *data, size_t len)
{
    ssize_t n;
    do
        n = read(fd, data, len);
    while (n < 0 && errno == EINTR);
    return n;
}

/* The length was promised: a file that shrinks meanwhile ends the connection. */
static void send_file(struct req *r, int fd, char *chunk, size_t have, uint64_t size)
{
    uint64_t left = size;
    while (left > 0) {
        if (have > left)
            have = (size_t)left; /* it grew */
        if (have == 0 || req_write(r, chunk, have) < 0)
            break;
        left -= have;
        ssize_t n = left > 0 ? read_some(fd, chunk, FILE_CHUNK) : 0;
        have = n > 0 ? (size_t)n : 0;
    }
    req_stream_end(r, left > 0);
}

void files_content(struct req *r)
{
    struct err err;
    struct file_path path;
    AUTO(fd) int root = -1;
    AUTO(fd) int fd = -1;
    uint64_t size = 0;
    if (open_root(r, path_of(r), false, &path, &root) < 0)
        return;
    if (file_open(root, &path, &fd, &size, &err) < 0) {
        req_fail(r, &err);
        return;
    }
    AUTO(free) char *chunk = mem_new(1, FILE_CHUNK);
    ssize_t n = read_some(fd, chunk, FILE_CHUNK);
    if (n < 0) {
        (void)err_sys(&err, errno, "read the file");
        req_fail(r, &err);
        return;
    }
    bool text = looks_like_text(chunk, (size_t)n < 4 * KIB ? (size_t)n : 4 * KIB);
    if (!text)
        req_header(r, "Content-Disposition", "attachment");
    const char *type = text ? "text/plain; charset=utf-8" : "application/octet-stream";
    if (size <= (uint64_t)n) { /* all of it is here already */
        struct buf b = BUF_INIT(FILE_CHUNK);
        buf_add(&b, chunk, (size_t)size);
        req_reply(r, 200, type, &b);
        return;
    }
    req_stream_begin(r, 200, type, size);
    if (req_is_head(r))
        req_stream_end(r, false);
    else
        send_file(r, fd, chunk, (size_t)n, size);
}

/* --- write --- */

static void reply_put(struct req *r, const char *path, uint64_t size)
{
    struct buf b = BUF_INIT(8 * PATH_BYTES_MAX);
    struct json_out o = JSON_OUT(&b);
    json_open(&o, NULL);
    json_put_bytes(&o, "path", path, strlen(path));
    json_put_int(&o, "size", (int64_t)size);
    json_close(&o);
    req_reply_json(r, 200, &b);
}

/* Fills the chunk as far as the body goes, so that small pieces do not become small writes. */
static ssize_t read_chunk(struct req *r, char *chunk, size_t size, struct err *err)
{
    size_t have = 0;
    while (have < size) {
        ssize_t n = req_read(r, chunk + have, size - have, err);
        if (n < 0)
            return -1;
        if (n == 0)
            break;
        have += (size_t)n;
    }
    return (ssize_t)have;
}

static int copy_in(struct req *r, struct file_put *put, char *chunk, struct err *err)
{
    for (;;) {
        ssize_t n = read_chunk(r, chunk, FILE_CHUNK, err);
        if (n <= 0)
            return (int)n;
        if (file_put_write(put, chunk, (size_t)n, err) < 0)
            return -1;
    }
}

static int replace(struct req *r, int root, const struct file_path *path, uint64_t *ret_size,
                   struct err *err)
{
    struct file_put *put = NULL;
    AUTO(free) char *chunk = mem_new(1, FILE_CHUNK);
    if (file_put_begin(root, path, SANDBOX_UID, SANDBOX_UID, &put, err) < 0)
        return -1;
    if (copy_in(r, put, chunk, err) < 0) {
        file_put_abort(put);
        return -1;
    }
    return file_put_commit(put, ret_size, err);
}

/* Whole for all bodies of ordinary size; a longer one is appended piece by piece. */
static int append(struct req *r, int root, const struct file_path *path, uint64_t *ret_size,
                  struct err *err)
{
    AUTO(free) char *chunk = mem_new(1, FILE_JSON_MAX);
    for (bool first = true;; first = false) {
        ssize_t n = read_chunk(r, chunk, FILE_JSON_MAX, err);
        if (n < 0)
            return -1;
        if (n == 0 && !first)
            return 0;
        if (file_append(root, path, SANDBOX_UID, SANDBOX_UID, chunk, (size_t)n, ret_size, err) < 0)
            return -1;
    }
}

static void put_raw(struct req *r, const char *text)
{
    struct err err;
    struct file_path path;
    AUTO(fd) int root = -1;
    uint64_t size = 0;
    bool appending;
    if (flag(r, "append", &appending) < 0 || open_root(r, text, true, &path, &root) < 0)
        return;
    int rc = appending ? append(r, root, &path, &size, &err) : replace(r, root, &path, &size, &err);
    if (rc == 0)
        reply_put(r, text, size);
    else if (err.code != ERR_CANCELLED)
        req_fail_as(r, err.code == ERR_TIMEOUT ? 408 : 0, &err);
}

static int put_text(int root, const struct file_path *path, const struct put_body *b,
                    uint64_t *ret_size, struct err *err)
{
    struct file_put *put = NULL;
    size_t len = strlen(b->content);
    if (b->append)
        return file_append(root, path, SANDBOX_UID, SANDBOX_UID, b->content, len, ret_size, err);
    if (file_put_begin(root, path, SANDBOX_UID, SANDBOX_UID, &put, err) < 0)
        return -1;
    if (file_put_write(put, b->content, len, err) < 0) {
        file_put_abort(put);
        return -1;
    }
    return file_put_commit(put, ret_size, err);
}

static int read_json(struct req *r, struct put_body *ret, struct err *err)
{
    AUTO(free) char *text = mem_new(1, HTTP_BODY_JSON_MAX + 1);
    ssize_t n = read_chunk(r, text, HTTP_BODY_JSON_MAX + 1, err);
    if (n < 0)
        return -1;
    if ((size_t)n > HTTP_BODY_JSON_MAX)
        return err_set(err, ERR_TOO_LARGE,
                       "the body is longer than the %u bytes allowed as JSON; send it raw with "
                       "?path=",
                       HTTP_BODY_JSON_MAX);
    if (n == 0)
        return err_set(err, ERR_INVALID, "path: is required, in the query or in a JSON body");
    return json_decode(&shape_put, text, (size_t)n, ret, err);
}

static void put_json(struct req *r)
{
    struct err err;
    struct file_path path;
    struct put_body b = { 0 };
    AUTO(fd) int root = -1;
    uint64_t size = 0;
    if (read_json(r, &b, &err) < 0) {
        if (err.code != ERR_CANCELLED)
            req_fail_as(r, err.code == ERR_TIMEOUT ? 408 : 0, &err);
        return;
    }
    if (open_root(r, b.path, true, &path, &root) == 0) {
        if (put_text(root, &path, &b, &size, &err) < 0)
            req_fail(r, &err);
        else
            reply_put(r, b.path, size);
    }
    shape_release(&shape_put, &b);
}

void files_put(struct req *r)
{
    const char *path = req_query(r, "path");
    if (path)
        put_raw(r, path);
    else
        put_json(r);
}

void files_delete(struct req *r)
{
    struct err err;
    struct file_path path;
    AUTO(fd) int root = -1;
    bool recursive;
    if (flag(r, "recursive", &recursive) < 0 || open_root(r, path_of(r), true, &path, &root) < 0)
        return;
    if (file_remove(root, &path, recursive, &err) < 0)
        req_fail(r, &err);
    else
        req_reply_empty(r, 204);
}
