/* Names of a workspace: move, copy, mkdir, chmod, and several files in one call. */
#include "base/cleanup.h"
#include "base/str.h"
#include "files.h"
#include "handlers.h"
#include "shapes.h"
#include "wire/base64.h"

/* Octal, as listings tell it: "0755" or "755". */
static int parse_mode(const char *text, unsigned *ret, struct err *err)
{
    unsigned mode = 0;
    size_t len = strlen(text);
    if (len < 3 || len > 4 || strspn(text, "01234567") != len || (len == 4 && *text != '0'))
        return err_set(err, ERR_INVALID, "mode: must be octal, from 0000 to 0777");
    for (const char *p = text; *p; p++)
        mode = mode * 8 + (unsigned)(*p - '0');
    *ret = mode;
    return 0;
}

static bool client_gone(void *ctx)
{
    return req_ending(ctx) || req_presence(ctx) == REQ_GONE;
}

/* The name of what is moved or copied, from either of its fields. */
static int source(const struct file_pair_body *b, struct buf *ret, struct err *err)
{
    if (!b->from == !b->from_base64)
        return err_set(err, ERR_INVALID, "from: is required, or from_base64, and not both");
    if (b->from)
        buf_adds(ret, b->from);
    else if (base64_decode(b->from_base64, strlen(b->from_base64), ret, err) < 0)
        return err_wrap(err, "from_base64");
    return strlen(buf_str(ret)) == ret->len ? 0
                                            : err_set(err, ERR_INVALID, "from_base64: holds NUL");
}

static void move_or_copy(struct req *r, bool move)
{
    struct err err;
    struct file_path from, to;
    struct file_stat st;
    const struct file_pair_body *b = req_object(r);
    AUTO(fd) int root = -1;
    AUTO(files_match) struct files_match m;
    files_match_init(&m, r);
    AUTO(buf) struct buf bytes = BUF_INIT(PATH_BYTES_MAX + 1);
    if (source(b, &bytes, &err) < 0) {
        req_fail(r, &err);
        return;
    }
    if (files_root_there(r, buf_str(&bytes), true, &from, &root) < 0)
        return;
    int rc = file_path_parse(b->to, &to, &err);
    if (rc == 0)
        rc = move ? file_move(root, &from, &to, b->overwrite, SANDBOX_UID, SANDBOX_UID, &m.match,
                              &st, &err)
                  : file_copy(root, &from, &to, b->overwrite, SANDBOX_UID, SANDBOX_UID, client_gone,
                              r, &st, &err);
    if (rc < 0 && err.code == ERR_CANCELLED && req_ending(r))
        (void)err_set(&err, ERR_SHUTDOWN, "the daemon is shutting down; nothing was copied");
    core_files_touched(req_core(r), req_id(r));
    if (rc == 0)
        files_reply(r, 200, b->to, &st);
    else
        req_fail(r, &err);
}

void files_move(struct req *r)
{
    move_or_copy(r, true);
}

void files_copy(struct req *r)
{
    move_or_copy(r, false);
}

void files_mkdir(struct req *r)
{
    struct err err;
    struct file_path path;
    struct file_stat st;
    const struct file_mkdir_body *b = req_object(r);
    AUTO(fd) int root = -1;
    unsigned mode = 0775;
    bool made;
    if (b->mode && parse_mode(b->mode, &mode, &err) < 0) {
        req_fail(r, &err);
        return;
    }
    if (files_root(r, b->path, &path, &root) < 0)
        return;
    if (file_mkdir(root, &path, !b->parents_seen || b->parents, mode, SANDBOX_UID, SANDBOX_UID,
                   &made, &st, &err) < 0)
        req_fail(r, &err);
    else
        files_reply(r, made ? 201 : 200, b->path, &st);
}

void files_chmod(struct req *r)
{
    struct err err;
    struct file_path path;
    struct file_stat st;
    const struct file_chmod_body *b = req_object(r);
    AUTO(fd) int root = -1;
    unsigned mode = 0;
    if (parse_mode(b->mode, &mode, &err) < 0) {
        req_fail(r, &err);
        return;
    }
    if (files_root(r, b->path, &path, &root) < 0)
        return;
    if (file_chmod(root, &path, mode, &st, &err) < 0)
        req_fail(r, &err);
    else
        files_reply(r, 200, b->path, &st);
}

/* --- several files --- */

/* Everything that can be known before the first write. */
static int batch_check(const struct file_batch_body *b, struct err *err)
{
    const struct file_batch_item *item = b->files.items;
    for (size_t i = 0; i < b->files.count; i++) {
        struct file_path path;
        if (file_path_parse(item[i].path, &path, err) < 0)
            return err_wrap(err, "files[%zu]", i);
        if (!item[i].content == !item[i].base64)
            return err_set(err, ERR_INVALID,
                           "files[%zu]: content is required, or base64, and not both", i);
    }
    return 0;
}

static int batch_put(int root, const struct file_batch_item *item, struct file_stat *ret,
                     struct err *err)
{
    struct file_path path;
    struct file_put *put = NULL;
    AUTO(buf) struct buf bytes = BUF_INIT(HTTP_BODY_JSON_MAX);
    if (item->base64 && base64_decode(item->base64, strlen(item->base64), &bytes, err) < 0)
        return -1;
    const char *data = item->content ? item->content : buf_str(&bytes);
    size_t len = item->content ? strlen(item->content) : bytes.len;
    if (file_path_parse(item->path, &path, err) < 0 ||
        file_put_begin(root, &path, SANDBOX_UID, SANDBOX_UID, &put, err) < 0)
        return -1;
    if (file_put_write(put, data, len, err) < 0) {
        file_put_abort(put);
        return -1;
    }
    return file_put_commit(put, ret, err);
}

/* Each file is whole or untouched; what failed is told with its cause, and the others are there. */
void files_batch(struct req *r)
{
    struct err err;
    struct file_path app;
    struct files_out out;
    const struct file_batch_body *b = req_object(r);
    const struct file_batch_item *item = b->files.items;
    AUTO(fd) int root = -1;
    int64_t failed = 0;
    if (batch_check(b, &err) < 0) {
        req_fail(r, &err);
        return;
    }
    if (files_root(r, ".", &app, &root) < 0)
        return;
    files_out_init(&out, r);
    json_open(&out.o, NULL);
    json_list(&out.o, "files");
    for (size_t i = 0; i < b->files.count; i++) {
        struct file_stat st;
        int rc = batch_put(root, &item[i], &st, &err);
        json_open(&out.o, NULL);
        json_put(&out.o, "path", item[i].path);
        if (rc == 0) {
            files_put_stat(&out.o, &st);
        } else {
            failed++;
            json_open(&out.o, "error");
            json_put(&out.o, "code", err_name(err.code));
            json_put_bytes(&out.o, "message", err.msg, strlen(err.msg));
            json_close(&out.o);
        }
        json_close(&out.o);
        if (files_out_flush(&out) < 0)
            break;
    }
    json_unlist(&out.o);
    json_put_int(&out.o, "failed", failed);
    json_close(&out.o);
    core_files_touched(req_core(r), req_id(r));
    files_out_end(&out, NULL);
}
