/* What the handlers of files share. */
#include "files.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/str.h"
#include "wire/base64.h"

#define APP "workspace/app"

const char *const files_skipped[] = { "node_modules", ".git", "dist", ".vite", NULL };

const char *files_path(const struct req *r)
{
    const char *path = req_query(r, "path");
    return path ? path : "";
}

bool files_flag(const struct req *r, const char *name, bool otherwise)
{
    const char *value = req_query(r, name);
    return value ? str_eq(value, "true") : otherwise;
}

uint32_t files_number(const struct req *r, const char *name, uint32_t otherwise)
{
    uint64_t n = otherwise;
    const char *value = req_query(r, name);
    if (value)
        (void)str_u64(value, &n);
    return (uint32_t)n;
}

static int root_of(struct req *r, const char *text, bool there, bool write, struct file_path *path,
                   int *ret_root)
{
    struct err err;
    int rc;
    if (!*text)
        rc = err_set(&err, ERR_INVALID, "path: is required");
    else if (there)
        rc = file_path_parse_there(text, path, &err);
    else
        rc = file_path_parse(text, path, &err);
    if (rc == 0 &&
        core_files_open(req_core(r), req_caller(r), req_id(r), write, ret_root, &err) == 0)
        return 0;
    req_fail(r, &err);
    return -1;
}

int files_root(struct req *r, const char *text, struct file_path *path, int *ret_root)
{
    return root_of(r, text, false, true, path, ret_root);
}

int files_root_there(struct req *r, const char *text, bool write, struct file_path *path,
                     int *ret_root)
{
    return root_of(r, text, true, write, path, ret_root);
}

void files_fail(struct req *r, const struct err *err)
{
    if (err->code != ERR_CANCELLED)
        req_fail_as(r, err->code == ERR_TIMEOUT ? 408 : 0, err);
}

void files_match_init(struct files_match *m, const struct req *r)
{
    const struct heads *h = req_heads(r);
    m->if_match = h->if_match ? str_dup(h->if_match) : NULL;
    m->if_none_match = h->if_none_match ? str_dup(h->if_none_match) : NULL;
    m->match = (struct file_match){ .if_match = m->if_match, .if_none_match = m->if_none_match };
}

void files_names_init(struct files_names *n, const char *dir)
{
    size_t app = sizeof(APP) - 1;
    n->relative = str_starts(dir, APP) && (dir[app] == '\0' || dir[app] == '/');
    if (n->relative)
        (void)snprintf(n->dir, sizeof(n->dir), "%s", dir + app + (dir[app] == '/'));
    else
        (void)snprintf(n->dir, sizeof(n->dir), "/home/sandbox%s%s", *dir ? "/" : "", dir);
}

void files_put_name(struct json_out *o, const char *key, const char *path)
{
    size_t len = strlen(path);
    json_put_bytes(o, key, path, len);
    if (str_utf8(path, len))
        return;
    char name[32];
    AUTO(buf) struct buf b = BUF_INIT(2 * PATH_BYTES_MAX);
    (void)snprintf(name, sizeof(name), "%s_base64", key);
    base64url_encode(&b, path, len);
    json_put(o, name, buf_str(&b));
}

/* Absolutely, too, where the relative name would be read as one from home. */
void files_put_path(struct json_out *o, const char *key, const struct files_names *n,
                    const char *name)
{
    char path[sizeof(n->dir) + PATH_BYTES_MAX + 32];
    const char *slash = *n->dir && *name ? "/" : "";
    (void)snprintf(path, sizeof(path), "%s%s%s", n->dir, slash, name);
    if (n->relative && (str_eq(path, "workspace") || str_starts(path, "workspace/")))
        (void)snprintf(path, sizeof(path), "/home/sandbox/" APP "/%s%s%s", n->dir, slash, name);
    files_put_name(o, key, path);
}

void files_put_mtime(struct json_out *o, int64_t mtime_ms)
{
    char text[CLOCK_TEXT_MAX];
    clock_format_ms(mtime_ms, text); /* 1970 is a time of files, too */
    json_put(o, "mtime", text);
}

void files_put_stat(struct json_out *o, const struct file_stat *st)
{
    char mode[8];
    json_put(o, "type", file_type_name(st->type));
    if (st->type == FILE_REGULAR)
        json_put_int(o, "size", (int64_t)st->size);
    files_put_mtime(o, st->mtime_ms);
    (void)snprintf(mode, sizeof(mode), "%04o", st->mode & 07777);
    json_put(o, "mode", mode);
    json_put(o, "etag", st->etag);
}

void files_reply(struct req *r, int status, const char *path, const struct file_stat *st)
{
    struct buf b = BUF_INIT(8 * PATH_BYTES_MAX);
    struct json_out o = JSON_OUT(&b);
    req_header(r, "ETag", st->etag);
    json_open(&o, NULL);
    files_put_name(&o, "path", path);
    files_put_stat(&o, st);
    json_close(&o);
    req_reply_json(r, status, &b);
}

ssize_t files_read(struct req *r, char *chunk, size_t size, struct err *err)
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

/* --- long answers --- */

void files_out_init(struct files_out *out, struct req *r)
{
    out->r = r;
    buf_init(&out->b, 2 * HTTP_LIST_FLUSH);
    out->o = JSON_OUT(&out->b);
}

int files_out_push(struct files_out *out)
{
    if (!req_streaming(out->r))
        req_stream_begin(out->r, 200, "application/json", STREAM_UNKNOWN);
    int rc = req_write(out->r, buf_str(&out->b), out->b.len);
    buf_reset(&out->b);
    return rc;
}

int files_out_flush(struct files_out *out)
{
    return out->b.len > HTTP_LIST_FLUSH ? files_out_push(out) : 0;
}

void files_out_end(struct files_out *out, const struct err *err)
{
    if (err && req_streaming(out->r)) {
        req_stream_end(out->r, true);
    } else if (err) {
        req_fail(out->r, err);
    } else if (!req_streaming(out->r)) {
        req_reply_json(out->r, 200, &out->b);
    } else {
        buf_addc(&out->b, '\n');
        req_stream_end(out->r, files_out_push(out) < 0);
    }
    buf_release(&out->b);
}
