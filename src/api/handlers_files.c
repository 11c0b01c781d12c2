/* Files of a workspace, by volume/file.h alone: works while the sandbox sleeps.
 *
 * Bodies of any size stream: up through one chunk of memory, down by req_write_file. */
#include <errno.h>
#include <inttypes.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "files.h"
#include "handlers.h"
#include "shapes.h"
#include "utf8.h"
#include "wire/base64.h"

/* --- list --- */

struct listing {
    struct files_out out;
    struct files_names names;
    struct buf last; /* path of the entry told last */
    bool all, paged;
};

static int on_entry(void *ctx, const struct file_entry *e)
{
    struct listing *l = ctx;
    struct json_out *o = &l->out.o;
    char mode[8];
    json_open(o, NULL);
    files_put_path(o, "path", &l->names, e->path);
    json_put(o, "type", file_type_name(e->type));
    if (e->type == FILE_REGULAR)
        json_put_int(o, "size", (int64_t)e->size);
    files_put_mtime(o, e->mtime_ms);
    (void)snprintf(mode, sizeof(mode), "%04o", e->mode & 07777);
    json_put(o, "mode", mode);
    json_close(o);
    if (l->paged) {
        buf_reset(&l->last);
        buf_adds(&l->last, e->path);
    }
    return files_out_flush(&l->out);
}

static void list_end(struct listing *l, const char *path, bool recursive, bool cut)
{
    struct json_out *o = &l->out.o;
    json_unlist(o);
    files_put_name(o, "path", path);
    json_put_bool(o, "recursive", recursive);
    json_put_bool(o, "truncated", cut);
    if (l->paged && cut) {
        AUTO(buf) struct buf cursor = BUF_INIT(2 * PATH_BYTES_MAX);
        base64url_encode(&cursor, buf_str(&l->last), l->last.len);
        json_put(o, "next_cursor", buf_str(&cursor));
    } else if (l->paged) {
        json_put_null(o, "next_cursor");
    }
    json_list(o, "skipped");
    for (size_t i = 0; !l->all && files_skipped[i]; i++)
        json_put(o, NULL, files_skipped[i]);
    json_unlist(o);
    json_close(o);
    files_out_end(&l->out, NULL);
}

struct list_ask {
    bool recursive, all, paged;
    uint32_t depth, limit;
    struct buf after;
};

/* Answers on failure. depth, limit and cursor ask for pages. */
static int list_ask(struct req *r, struct list_ask *a)
{
    struct err err;
    const char *cursor = req_query(r, "cursor");
    a->recursive = files_flag(r, "recursive", false);
    a->all = files_flag(r, "all", false);
    a->paged = cursor || req_query(r, "depth") || req_query(r, "limit");
    a->depth = files_number(r, "depth", a->recursive ? PATH_DEPTH_MAX : 1);
    a->limit = files_number(r, "limit", FILE_PAGE_LIMIT_MAX);
    if (!cursor || (base64_decode(cursor, strlen(cursor), &a->after, &err) == 0 &&
                    strlen(buf_str(&a->after)) == a->after.len && a->after.len > 0))
        return 0;
    (void)err_set(&err, ERR_INVALID, "cursor: is none that a page has given");
    req_fail(r, &err);
    return -1;
}

static void list_with(struct req *r, const struct list_ask *a)
{
    struct err err;
    struct file_path dir;
    AUTO(fd) int root = -1;
    bool cut = false;
    const char *asked = files_path(r);
    if (files_root_there(r, *asked ? asked : ".", false, &dir, &root) < 0)
        return;
    AUTO(free) struct listing *l = mem_new(1, sizeof(*l));
    const char *const *skip = a->all ? NULL : files_skipped;
    l->all = a->all;
    l->paged = a->paged;
    buf_init(&l->last, PATH_BYTES_MAX);
    files_out_init(&l->out, r);
    files_names_init(&l->names, dir.text);
    json_open(&l->out.o, NULL);
    json_list(&l->out.o, "entries");
    const struct file_page page = { .depth = a->depth,
                                    .limit = a->limit,
                                    .after = a->after.len ? buf_str(&a->after) : NULL,
                                    .skip = skip };
    int rc = a->paged ? file_page(root, &dir, &page, on_entry, l, &cut, &err)
                      : file_list(root, &dir, a->recursive, skip, on_entry, l, &cut, &err);
    if (rc == 0)
        list_end(l, asked, a->recursive, cut);
    else
        files_out_end(&l->out, &err);
    buf_release(&l->last);
}

void files_list(struct req *r)
{
    struct list_ask a = { .after = BUF_INIT(PATH_BYTES_MAX) };
    if (list_ask(r, &a) == 0)
        list_with(r, &a);
    buf_release(&a.after);
}

void files_stat(struct req *r)
{
    struct err err;
    struct file_path path;
    struct file_stat st;
    AUTO(fd) int root = -1;
    if (files_root_there(r, files_path(r), false, &path, &root) < 0)
        return;
    if (file_stat(root, &path, &st, &err) < 0)
        req_fail(r, &err);
    else
        files_reply(r, 200, files_path(r), &st);
}

/* --- read --- */

/* A quick look at its beginning: text, cut anywhere, or bytes. */
static bool looks_like_text(int fd)
{
    char data[4 * KIB];
    ssize_t n;
    do
        n = pread(fd, data, sizeof(data), 0);
    while (n < 0 && errno == EINTR);
    size_t len = n > 0 ? (size_t)n : 0;
    return str_utf8(data, len - utf8_open(data, len));
}

struct range {
    uint64_t first, len;
};

/* 1: one range of the file, 0: all of it (none was asked for, or in a way that may be passed over:
 * RFC 9110, 14.2), -1: it lies outside. */
static int range_of(const struct req *r, const struct file_stat *st, struct range *ret)
{
    const struct heads *h = req_heads(r);
    *ret = (struct range){ .len = st->size };
    if (!h->range || req_is_head(r) || !str_starts(h->range, "bytes=") ||
        (h->if_range && !file_etag_listed(h->if_range, st->etag, false)))
        return 0;
    const char *from = h->range + 6, *dash = strchr(from, '-');
    uint64_t a = 0, b = UINT64_MAX;
    char first[24];
    if (!dash || (size_t)(dash - from) >= sizeof(first))
        return 0;
    memcpy(first, from, (size_t)(dash - from));
    first[dash - from] = '\0';
    if ((*first && !str_u64(first, &a)) || (dash[1] && !str_u64(dash + 1, &b)) ||
        (!*first && !dash[1]) || (*first && a > b))
        return 0;
    if (!*first) { /* the last b bytes */
        a = b < st->size ? st->size - b : 0;
        if (b == 0)
            return -1;
        b = UINT64_MAX;
    }
    if (a >= st->size)
        return -1;
    ret->first = a;
    ret->len = (b < st->size ? b + 1 : st->size) - a;
    return 1;
}

static void outside(struct req *r, const struct file_stat *st)
{
    struct err err;
    char text[48];
    (void)snprintf(text, sizeof(text), "bytes */%" PRIu64, st->size);
    req_header(r, "Content-Range", text);
    (void)err_set(&err, ERR_INVALID, "Range: the file has %" PRIu64 " bytes", st->size);
    req_fail_as(r, 416, &err);
}

static void send_content(struct req *r, int fd, const struct file_stat *st)
{
    struct range range;
    int part = range_of(r, st, &range);
    req_header(r, "ETag", st->etag);
    req_header(r, "Accept-Ranges", "bytes");
    if (part < 0) {
        outside(r, st);
        return;
    }
    bool text = looks_like_text(fd);
    if (!text)
        req_header(r, "Content-Disposition", "attachment");
    if (part) {
        char content_range[80];
        (void)snprintf(content_range, sizeof(content_range),
                       "bytes %" PRIu64 "-%" PRIu64 "/%" PRIu64, range.first,
                       range.first + range.len - 1, st->size);
        req_header(r, "Content-Range", content_range);
    }
    req_stream_begin(r, part ? 206 : 200,
                     text ? "text/plain; charset=utf-8" : "application/octet-stream", range.len);
    /* The length was promised: a file that shrinks meanwhile ends the connection. */
    req_stream_end(r, !req_is_head(r) && req_write_file(r, fd, range.first, range.len) < 0);
}

void files_content(struct req *r)
{
    struct err err;
    struct file_path path;
    struct file_stat st;
    AUTO(fd) int root = -1;
    AUTO(fd) int fd = -1;
    uint64_t size = 0;
    const struct heads *h = req_heads(r);
    if (files_root_there(r, files_path(r), false, &path, &root) < 0)
        return;
    if (file_open(root, &path, &fd, &size, &err) < 0 || file_fstat(fd, &st, &err) < 0) {
        req_fail(r, &err);
    } else if (h->if_match && !file_etag_listed(h->if_match, st.etag, false)) {
        (void)err_set(&err, ERR_PRECONDITION, "If-Match: the file has changed");
        req_fail(r, &err);
    } else if (h->if_none_match && file_etag_listed(h->if_none_match, st.etag, true)) {
        req_header(r, "ETag", st.etag);
        req_reply_empty(r, 304);
    } else {
        send_content(r, fd, &st);
    }
}

/* --- write --- */

static int copy_in(struct req *r, struct file_put *put, char *chunk, struct err *err)
{
    for (;;) {
        ssize_t n = files_read(r, chunk, FILE_CHUNK, err);
        if (n <= 0)
            return (int)n;
        if (file_put_write(put, chunk, (size_t)n, err) < 0)
            return -1;
    }
}

static int replace(struct req *r, int root, const struct file_path *path,
                   const struct file_match *match, struct file_stat *ret, struct err *err)
{
    struct file_put *put = NULL;
    AUTO(free) char *chunk = mem_new(1, FILE_CHUNK);
    if (file_put_begin(root, path, SANDBOX_UID, SANDBOX_UID, &put, err) < 0)
        return -1;
    if (file_put_expect(put, match, err) < 0 || copy_in(r, put, chunk, err) < 0) {
        file_put_abort(put);
        return -1;
    }
    return file_put_commit(put, ret, err);
}

/* A body that is longer than the chunk is spooled first, so that one that breaks leaves nothing. */
static int append(struct req *r, int root, const struct file_path *path,
                  const struct file_match *match, struct file_stat *ret, struct err *err)
{
    struct file_put *put = NULL;
    AUTO(free) char *chunk = mem_new(1, FILE_JSON_MAX);
    ssize_t n = files_read(r, chunk, FILE_JSON_MAX, err);
    if (n < 0)
        return -1;
    if ((size_t)n < FILE_JSON_MAX)
        return file_append(root, path, SANDBOX_UID, SANDBOX_UID, match, chunk, (size_t)n, ret, err);
    if (file_put_begin(root, path, SANDBOX_UID, SANDBOX_UID, &put, err) < 0)
        return -1;
    if (file_put_expect(put, match, err) < 0 || file_put_write(put, chunk, (size_t)n, err) < 0 ||
        copy_in(r, put, chunk, err) < 0) {
        file_put_abort(put);
        return -1;
    }
    return file_put_append(put, ret, err);
}

static void put_raw(struct req *r, const char *text, bool appending)
{
    struct err err;
    struct file_path path;
    struct file_stat st;
    AUTO(fd) int root = -1;
    AUTO(files_match) struct files_match m;
    files_match_init(&m, r);
    if (files_root(r, text, &path, &root) < 0)
        return;
    int rc = appending ? append(r, root, &path, &m.match, &st, &err)
                       : replace(r, root, &path, &m.match, &st, &err);
    core_files_touched(req_core(r), req_id(r));
    if (rc == 0)
        files_reply(r, 200, text, &st);
    else
        files_fail(r, &err);
}

static int put_text(int root, const struct file_path *path, const struct put_body *b,
                    const struct file_match *match, struct file_stat *ret, struct err *err)
{
    struct file_put *put = NULL;
    size_t len = strlen(b->content);
    if (b->append)
        return file_append(root, path, SANDBOX_UID, SANDBOX_UID, match, b->content, len, ret, err);
    if (file_put_begin(root, path, SANDBOX_UID, SANDBOX_UID, &put, err) < 0)
        return -1;
    if (file_put_expect(put, match, err) < 0 || file_put_write(put, b->content, len, err) < 0) {
        file_put_abort(put);
        return -1;
    }
    return file_put_commit(put, ret, err);
}

static int read_json(struct req *r, struct put_body *ret, struct err *err)
{
    AUTO(free) char *text = mem_new(1, HTTP_BODY_JSON_MAX + 1);
    ssize_t n = files_read(r, text, HTTP_BODY_JSON_MAX + 1, err);
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
    struct file_stat st;
    AUTO(fd) int root = -1;
    AUTO(files_match) struct files_match m;
    files_match_init(&m, r);
    if (read_json(r, &b, &err) < 0) {
        files_fail(r, &err);
        return;
    }
    if (files_root(r, b.path, &path, &root) == 0) {
        if (put_text(root, &path, &b, &m.match, &st, &err) < 0)
            req_fail(r, &err);
        else
            files_reply(r, 200, b.path, &st);
        core_files_touched(req_core(r), req_id(r));
    }
    shape_release(&shape_put, &b);
}

void files_put(struct req *r)
{
    const char *path = req_query(r, "path");
    if (path)
        put_raw(r, path, files_flag(r, "append", false));
    else
        put_json(r);
}

void files_patch(struct req *r)
{
    put_raw(r, files_path(r), true);
}

void files_delete(struct req *r)
{
    struct err err;
    struct file_path path;
    AUTO(fd) int root = -1;
    AUTO(files_match) struct files_match m;
    files_match_init(&m, r);
    if (files_root_there(r, files_path(r), true, &path, &root) < 0)
        return;
    const struct file_match *match = m.if_match || m.if_none_match ? &m.match : NULL;
    int rc = file_remove(root, &path, files_flag(r, "recursive", false), match, &err);
    core_files_touched(req_core(r), req_id(r));
    if (rc < 0)
        req_fail(r, &err);
    else
        req_reply_empty(r, 204);
}
