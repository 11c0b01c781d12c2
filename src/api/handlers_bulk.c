/* Whole trees of a workspace: export, import, search, watch. All of it streams. */
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"
#include "events.h"
#include "files.h"
#include "handlers.h"
#include "volume/bulk.h"
#include "volume/watch.h"

#define LOOK_MS 1000 /* how often a silent watcher's client is looked at */
#define EVENT_MAX (64 * KIB)

/* --- export --- */

static const struct {
    const char *name, *type, *suffix;
} formats[] = {
    [FILE_TAR_ZST] = { "tar.zst", "application/zstd", "tar.zst" },
    [FILE_ZIP] = { "zip", "application/zip", "zip" },
    [FILE_TAR] = { "tar", "application/x-tar", "tar" },
};

struct exporting {
    struct req *r;
    enum file_archive format;
};

static void export_name(struct exporting *x)
{
    char text[128];
    (void)snprintf(text, sizeof(text), "attachment; filename=\"%s.%s\"", req_id(x->r)->text,
                   formats[x->format].suffix);
    req_header(x->r, "Content-Disposition", text);
}

static int on_archive(void *ctx, const void *data, size_t len)
{
    struct exporting *x = ctx;
    if (!req_streaming(x->r)) {
        export_name(x);
        req_stream_begin(x->r, 200, formats[x->format].type, STREAM_UNKNOWN);
    }
    return req_write(x->r, data, len);
}

static enum file_archive pick_format(const struct req *r, enum file_archive otherwise)
{
    const char *text = req_query(r, "format");
    for (size_t i = 0; text && i < sizeof(formats) / sizeof(formats[0]); i++)
        if (str_eq(text, formats[i].name))
            return (enum file_archive)i;
    return otherwise;
}

static void export_as(struct req *r, enum file_archive format)
{
    struct err err;
    struct file_path dir;
    struct file_stat st;
    struct file_export_stats stats;
    struct exporting x = { .r = r, .format = pick_format(r, format) };
    AUTO(fd) int root = -1;
    bool all = files_flag(r, "all", false);
    const char *path = files_path(r);
    if (files_root_there(r, *path ? path : ".", false, &dir, &root) < 0)
        return;
    if (req_is_head(r)) {
        int rc = file_stat(root, &dir, &st, &err);
        if (rc == 0 && st.type != FILE_DIR)
            rc = err_set(&err, ERR_INVALID, "path: is not a directory");
        if (rc < 0) {
            req_fail(r, &err);
            return;
        }
        export_name(&x);
        req_stream_begin(r, 200, formats[x.format].type, STREAM_UNKNOWN);
        req_stream_end(r, false);
        return;
    }
    int rc =
        file_export(root, &dir, x.format, all ? NULL : files_skipped, on_archive, &x, &stats, &err);
    if (rc == 0 && stats.left_out > 0)
        log_info("export.left_out", KV_STR("id", req_id(r)->text),
                 KV_INT("entries", stats.left_out), KV_INT("too_deep", stats.deep));
    if (req_streaming(r))
        req_stream_end(r, rc < 0);
    else
        req_fail(r, &err);
}

void files_export(struct req *r)
{
    export_as(r, FILE_TAR_ZST);
}

void v1_export(struct req *r)
{
    export_as(r, FILE_ZIP);
}

/* --- import --- */

static ssize_t on_body(void *ctx, void *out, size_t len, struct err *err)
{
    return req_read(ctx, out, len, err);
}

static void reply_import(struct req *r, const char *path, const struct file_import_stats *s)
{
    struct files_out out;
    files_out_init(&out, r);
    json_open(&out.o, NULL);
    json_put_bytes(&out.o, "path", path, strlen(path));
    json_put_int(&out.o, "files", (int64_t)s->files);
    json_put_int(&out.o, "directories", (int64_t)s->directories);
    json_put_int(&out.o, "links", (int64_t)s->links);
    json_put_int(&out.o, "bytes", (int64_t)s->bytes);
    json_put_int(&out.o, "skipped", (int64_t)s->skipped);
    json_list(&out.o, "skipped_entries");
    for (uint64_t i = 0; i < s->skipped && i < FILE_IMPORT_TOLD; i++) {
        json_open(&out.o, NULL);
        json_put_bytes(&out.o, "path", s->told[i].path, strlen(s->told[i].path));
        json_put(&out.o, "reason", s->told[i].why);
        json_close(&out.o);
    }
    json_unlist(&out.o);
    json_close(&out.o);
    files_out_end(&out, NULL);
}

void files_import(struct req *r)
{
    struct err err;
    struct file_path dir;
    AUTO(fd) int root = -1;
    const char *path = *files_path(r) ? files_path(r) : ".";
    if (files_root(r, path, &dir, &root) < 0)
        return;
    AUTO(free) struct file_import_stats *stats = mem_new(1, sizeof(*stats));
    int rc = file_import(root, &dir, SANDBOX_UID, SANDBOX_UID, on_body, r, stats, &err);
    core_files_touched(req_core(r), req_id(r));
    if (rc < 0)
        files_fail(r, &err);
    else
        reply_import(r, path, stats);
}

/* --- search --- */

struct searching {
    struct events ev; /* with EVENTS_NONE: one JSON object */
    struct files_out out;
    struct files_names names;
};

static void put_hit(struct json_out *o, const struct searching *s, const struct file_hit *h)
{
    files_put_path(o, "path", &s->names, h->path);
    json_put(o, "kind", file_type_name(h->type));
    if (!h->line)
        return;
    json_put_int(o, "line", (int64_t)h->line);
    json_put_int(o, "column", (int64_t)h->column);
    json_put_bytes(o, "text", h->text, h->text_len);
}

static int on_hit(void *ctx, const struct file_hit *h)
{
    struct searching *s = ctx;
    if (s->ev.format == EVENTS_NONE) {
        json_open(&s->out.o, NULL);
        put_hit(&s->out.o, s, h);
        json_close(&s->out.o);
        return files_out_flush(&s->out);
    }
    AUTO(buf) struct buf b = BUF_INIT(EVENT_MAX);
    struct json_out o = JSON_OUT(&b);
    events_open(&s->ev, &o, "match");
    put_hit(&o, s, h);
    return events_close(&s->ev, &o, "match");
}

/* A search that takes long begins its answer, and ends when nobody waits for it. A blank between
 * two values of JSON means nothing. */
static bool still_wanted(void *ctx)
{
    struct searching *s = ctx;
    if (s->ev.format != EVENTS_NONE)
        return (req_streaming(s->ev.r) || events_begin(&s->ev) == 0) && !events_gone(&s->ev);
    buf_addc(&s->out.b, ' ');
    return files_out_push(&s->out) == 0;
}

static void put_search_stats(struct json_out *o, const struct file_search_stats *st)
{
    json_put_int(o, "files", (int64_t)st->files);
    json_put_int(o, "bytes", (int64_t)st->bytes);
    json_put_int(o, "binary", (int64_t)st->binary);
    json_put_int(o, "costly", (int64_t)st->costly);
    json_put_bool(o, "truncated", st->truncated);
    json_put(o, "reason", st->why);
}

static void search_end(struct searching *s, int rc, const struct file_search_stats *st,
                       const struct err *err)
{
    if (s->ev.format == EVENTS_NONE) {
        if (rc == 0) {
            json_unlist(&s->out.o);
            put_search_stats(&s->out.o, st);
            json_close(&s->out.o);
        }
        files_out_end(&s->out, rc < 0 ? err : NULL);
        return;
    }
    if (rc < 0 && !req_streaming(s->ev.r)) {
        req_fail(s->ev.r, err);
        return;
    }
    if (rc < 0) {
        rc = events_error(&s->ev, err);
    } else {
        AUTO(buf) struct buf b = BUF_INIT(EVENT_MAX);
        struct json_out o = JSON_OUT(&b);
        events_open(&s->ev, &o, "end");
        put_search_stats(&o, st);
        rc = events_close(&s->ev, &o, "end");
    }
    req_stream_end(s->ev.r, rc < 0);
}

static int search_ask(struct req *r, struct file_search *f)
{
    struct err err;
    f->name = req_query(r, "name");
    f->text = req_query(r, "q");
    f->limit = files_number(r, "limit", 1000);
    f->regex = files_flag(r, "regex", false);
    f->ignore_case = !files_flag(r, "case", true);
    f->skip = files_flag(r, "all", false) ? NULL : files_skipped;
    f->wanted = still_wanted;
    if (f->name || f->text)
        return 0;
    (void)err_set(&err, ERR_INVALID, "q: is required, or name");
    req_fail(r, &err);
    return -1;
}

void files_search(struct req *r)
{
    struct err err;
    struct file_path dir;
    struct file_search f = { 0 };
    struct file_search_stats st;
    AUTO(fd) int root = -1;
    const char *path = *files_path(r) ? files_path(r) : ".";
    if (search_ask(r, &f) < 0 || files_root_there(r, path, false, &dir, &root) < 0)
        return;
    AUTO(free) struct searching *s = mem_new(1, sizeof(*s));
    s->ev = (struct events){
        .r = r, .format = events_wanted(r, EVENTS_NONE), .frame = BUF_INIT(2 * EVENT_MAX), .id = -1
    };
    files_out_init(&s->out, r);
    files_names_init(&s->names, dir.text);
    json_open(&s->out.o, NULL);
    json_list(&s->out.o, "matches");
    int rc = file_search(root, &dir, &f, on_hit, s, &st, &err);
    search_end(s, rc, &st, &err);
    buf_release(&s->ev.frame);
    buf_release(&s->out.b);
}

/* --- watch --- */

struct watching {
    struct events ev;
    struct files_names names;
};

static int on_change(void *ctx, const struct file_watch_event *e)
{
    static const char *const types[] = {
        [FILE_CREATED] = "created", [FILE_MODIFIED] = "modified", [FILE_REMOVED] = "removed",
        [FILE_MOVED] = "moved",     [FILE_ATTRIB] = "attrib",     [FILE_RESET] = "reset",
        [FILE_LIMIT] = "limit",     [FILE_GONE] = "gone",
    };
    struct watching *w = ctx;
    AUTO(buf) struct buf b = BUF_INIT(EVENT_MAX);
    struct json_out o = JSON_OUT(&b);
    events_open(&w->ev, &o, types[e->change]);
    if (e->change < FILE_RESET) {
        files_put_path(&o, "path", &w->names, e->path);
        json_put(&o, "kind", file_type_name(e->type));
    }
    if (e->change == FILE_MOVED)
        files_put_path(&o, "from", &w->names, e->from);
    if (e->change == FILE_LIMIT)
        json_put_int(&o, "directories", FILE_WATCH_DIRS_MAX);
    return events_close(&w->ev, &o, types[e->change]);
}

static int tell_ready(struct watching *w, uint32_t directories)
{
    AUTO(buf) struct buf b = BUF_INIT(EVENT_MAX);
    struct json_out o = JSON_OUT(&b);
    events_open(&w->ev, &o, "ready");
    json_put_int(&o, "directories", directories);
    return events_close(&w->ev, &o, "ready");
}

static void watch(struct watching *w, struct file_watch *fw)
{
    struct req *r = w->ev.r;
    req_follows(r);
    int rc = tell_ready(w, file_watch_count(fw));
    while (rc >= 0) {
        /* The end of what the client sends wakes once, not for ever. */
        int wake = req_presence(r) == REQ_PRESENT ? req_gone_fd(r) : -1;
        rc = file_watch_next(fw, wake, clock_mono_ms() + LOOK_MS, on_change, w);
        if (rc >= 0 && (rc == 0 || req_stopping(r)) && events_over(&w->ev))
            break;
    }
    req_stream_end(r, false);
}

void files_watch(struct req *r)
{
    struct err err;
    struct file_path dir;
    struct file_watch *fw = NULL;
    AUTO(fd) int root = -1;
    const char *path = *files_path(r) ? files_path(r) : ".";
    if (files_root_there(r, path, false, &dir, &root) < 0)
        return;
    if (file_watch_new(root, &dir, files_flag(r, "recursive", true),
                       files_flag(r, "all", false) ? NULL : files_skipped, &fw, &err) < 0) {
        req_fail(r, &err);
        return;
    }
    AUTO(free) struct watching *w = mem_new(1, sizeof(*w));
    w->ev = (struct events){
        .r = r, .format = events_wanted(r, EVENTS_SSE), .frame = BUF_INIT(2 * EVENT_MAX), .id = -1
    };
    files_names_init(&w->names, dir.text);
    watch(w, fw);
    buf_release(&w->ev.frame);
    file_watch_free(fw);
}
