/* What the handlers of files share. */
#include "files.h"

#include "base/cleanup.h"
#include "base/str.h"

#define APP "workspace/app"

const char *const files_skipped[] = { "node_modules", ".git", "dist", ".vite", NULL };

const char *files_path(const struct req *r)
{
    const char *path = req_query(r, "path");
    return path ? path : "";
}

int files_flag(struct req *r, const char *name, bool otherwise, bool *ret)
{
    struct err err;
    const char *value = req_query(r, name);
    *ret = value ? str_eq(value, "true") : otherwise;
    if (!value || *ret || str_eq(value, "false"))
        return 0;
    (void)err_set(&err, ERR_INVALID, "%s: must be true or false", name);
    req_fail(r, &err);
    return -1;
}

int files_number(struct req *r, const char *name, uint32_t lo, uint32_t hi, uint32_t *ret)
{
    struct err err;
    uint64_t n = 0;
    const char *value = req_query(r, name);
    if (!value)
        return 0;
    if (str_u64(value, &n) && n >= lo && n <= hi) {
        *ret = (uint32_t)n;
        return 0;
    }
    (void)err_set(&err, ERR_INVALID, "%s: must be a number from %u to %u", name, lo, hi);
    req_fail(r, &err);
    return -1;
}

int files_root(struct req *r, const char *text, bool write, struct file_path *path, int *ret_root)
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
    const char *rest = n->relative ? dir + app + (dir[app] == '/') : dir;
    (void)snprintf(n->prefix, sizeof(n->prefix), "%s%s%s", n->relative ? "" : "/home/sandbox/",
                   rest, *rest ? "/" : "");
}

/* Absolutely, too, where the relative name would be read as one from home. */
void files_put_path(struct json_out *o, const char *key, const struct files_names *n,
                    const char *name)
{
    char path[sizeof(n->prefix) + PATH_BYTES_MAX];
    (void)snprintf(path, sizeof(path), "%s%s", n->prefix, name);
    if (n->relative && (str_eq(path, "workspace") || str_starts(path, "workspace/")))
        (void)snprintf(path, sizeof(path), "/home/sandbox/" APP "/%s%s", n->prefix, name);
    json_put_bytes(o, key, path, strlen(path));
}

void files_put_stat(struct json_out *o, const struct file_stat *st)
{
    char mode[8];
    json_put(o, "type", file_type_name(st->type));
    if (st->type == FILE_REGULAR)
        json_put_int(o, "size", (int64_t)st->size);
    json_put_time(o, "mtime", st->mtime_ms);
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
    json_put_bytes(&o, "path", path, strlen(path));
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

static int send_out(struct files_out *out)
{
    if (!req_streaming(out->r))
        req_stream_begin(out->r, 200, "application/json", STREAM_UNKNOWN);
    int rc = req_is_head(out->r) ? 0 : req_write(out->r, buf_str(&out->b), out->b.len);
    buf_reset(&out->b);
    return rc;
}

int files_out_flush(struct files_out *out)
{
    return out->b.len > HTTP_LIST_FLUSH ? send_out(out) : 0;
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
        req_stream_end(out->r, send_out(out) < 0);
    }
    buf_release(&out->b);
}
