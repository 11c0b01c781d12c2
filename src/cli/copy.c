/* cp: between this machine and a sandbox. A file goes as it is, a directory as an archive; both as
 * a stream. A downloaded file is whole or not there: it comes under another name first. */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/limits.h"
#include "base/str.h"
#include "pack.h"
#include "progress.h"
#include "run.h"

#define PATH_MAX_ENCODED (32 * KIB)
#define LOCAL_MAX 4096

struct copy {
    struct cli *c;
    const char *local;
    struct place there;
    struct archive_stats stats;
};

/* --- names --- */

/* "FROM/." or "FROM/": what is in it, not it. */
static bool means_contents(const char *path)
{
    size_t len = strlen(path);
    return len == 0 || str_eq(path, ".") || path[len - 1] == '/' ||
           (len > 1 && path[len - 1] == '.' && path[len - 2] == '/');
}

/* The last name of a path; false: it has none of its own. */
static bool last_name(const char *path, char *out, size_t size)
{
    char copy[LOCAL_MAX];
    if (!str_copy(copy, sizeof copy, path))
        return false;
    return str_copy(out, size, basename(copy)) && !str_eq(out, "/") && !str_eq(out, ".") &&
           !str_eq(out, "..");
}

static void skipped(void *ctx, const char *name, const char *why)
{
    (void)ctx;
    note("left out: %s %s", name ? name : "?", why);
}

static void query_path(struct buf *b, const struct copy *k, const char *tail, const char *path)
{
    path_box(b, k->there.id, tail);
    path_query(b, "path", *path ? path : ".");
}

/* 1: a directory, 0: something else, -1: err says why not. *ret is the API's object. */
static int look(const struct copy *k, const char *path, struct json **ret, struct err *err)
{
    AUTO(buf) struct buf b = BUF_INIT(PATH_MAX_ENCODED);
    query_path(&b, k, "/files/stat", path);
    struct request rq = { .method = "GET", .path = buf_str(&b) };
    if (http_json(k->c->http, &rq, ret, err) < 0)
        return -1;
    return str_eq(json_text(json_key(*ret, "type")), "dir");
}

/* --- into a sandbox --- */

static ssize_t read_file(void *ctx, void *out, size_t size, struct err *err)
{
    ssize_t n;
    do
        n = read(*(int *)ctx, out, size);
    while (n < 0 && errno == EINTR);
    return n < 0 ? err_sys(err, errno, "reading") : n;
}

static ssize_t read_pack(void *ctx, void *out, size_t size, struct err *err)
{
    return pack_read(ctx, out, size, err);
}

static int upload_file(struct copy *k, int fd, const char *to, const struct stat *st,
                       struct err *err)
{
    AUTO(buf) struct buf b = BUF_INIT(PATH_MAX_ENCODED);
    AUTO(json) struct json *j = NULL;
    query_path(&b, k, "/files", to);
    struct request rq = { .method = "PUT",
                          .path = buf_str(&b),
                          .type = "application/octet-stream",
                          .read = read_file,
                          .ctx = &fd,
                          .size = S_ISREG(st->st_mode) ? st->st_size : -1,
                          .what = "copying" };
    if (http_json(k->c->http, &rq, &j, err) < 0)
        return -1;
    k->stats.files = 1;
    (void)json_int(json_key(j, "size"), &k->stats.bytes);
    /* Whether it can be run is part of a file. */
    if (!S_ISREG(st->st_mode) || !(st->st_mode & 0111))
        return 0;
    AUTO(buf) struct buf chmod_path = BUF_INIT(1 * KIB);
    AUTO(buf) struct buf body = BUF_INIT(PATH_MAX_ENCODED);
    AUTO(buf) struct buf reply = BUF_INIT(REPLY_MAX);
    struct json_out o = JSON_OUT(&body);
    char mode[8];
    (void)snprintf(mode, sizeof mode, "%04o", st->st_mode & 0777u);
    json_open(&o, NULL);
    json_put(&o, "path", to);
    json_put(&o, "mode", mode);
    json_close(&o);
    path_box(&chmod_path, k->there.id, "/files/chmod");
    struct request chmod_rq = {
        .method = "POST", .path = buf_str(&chmod_path), .body = buf_str(&body), .body_len = body.len
    };
    return http_call(k->c->http, &chmod_rq, &reply, err);
}

static int upload_directory(struct copy *k, const char *to, struct err *err)
{
    AUTO(buf) struct buf b = BUF_INIT(PATH_MAX_ENCODED);
    AUTO(json) struct json *j = NULL;
    struct pack *p;
    int64_t there = 0;
    if (pack_open(k->local, skipped, NULL, &p, err) < 0)
        return -1;
    query_path(&b, k, "/files/import", to);
    struct request rq = { .method = "POST",
                          .path = buf_str(&b),
                          .type = "application/x-tar",
                          .read = read_pack,
                          .ctx = p,
                          .size = -1,
                          .what = "copying" };
    int rc = http_json(k->c->http, &rq, &j, err);
    k->stats = *pack_stats(p);
    pack_close(p);
    (void)json_int(json_key(j, "skipped"), &there);
    const struct json *list = json_key(j, "skipped_entries");
    for (size_t i = 0; i < json_count(list); i++)
        skipped(NULL, json_text(json_key(json_item(list, i), "path")),
                json_text(json_key(json_item(list, i), "reason")));
    k->stats.failed += there; /* links and special files were left out here already */
    k->stats.files -= there;
    return rc;
}

/* Into a directory that is there under the source's name; else as TO says. */
static int target(const struct copy *k, bool contents, struct buf *to, struct err *err)
{
    char name[LOCAL_MAX];
    AUTO(json) struct json *j = NULL;
    const char *path = k->there.path;
    int directory = look(k, *path ? path : ".", &j, err);
    size_t len = strlen(path);
    buf_adds(to, path);
    if (directory < 0 && err->code != ERR_NOT_FOUND)
        return -1;
    bool into = directory > 0 || len == 0 || path[len - 1] == '/';
    if (into && !contents) {
        if (!last_name(k->local, name, sizeof name))
            return err_set(err, ERR_INVALID, "%s has no name to copy it by", k->local);
        buf_addf(to, "%s%s", len && path[len - 1] != '/' ? "/" : "", name);
    }
    return buf_done(to, err);
}

static int upload(struct copy *k, struct err *err)
{
    AUTO(buf) struct buf to = BUF_INIT(2 * LOCAL_MAX);
    struct stat st;
    bool from_stdin = str_eq(k->local, "-");
    AUTO(fd) int fd = from_stdin ? dup(STDIN_FILENO) : open(k->local, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0)
        return err_sys(err, errno, "%s", k->local);
    bool directory = S_ISDIR(st.st_mode);
    if (from_stdin && means_contents(k->there.path))
        return err_set(err, ERR_INVALID, "standard input needs a file's name in the sandbox");
    if (from_stdin)
        buf_adds(&to, k->there.path);
    else if (target(k, directory && means_contents(k->local), &to, err) < 0)
        return -1;
    return directory ? upload_directory(k, buf_str(&to), err)
                     : upload_file(k, fd, buf_str(&to), &st, err);
}

/* --- out of a sandbox --- */

static char part[LOCAL_MAX + 32]; /* the file that is not whole yet */

static void on_end(int number)
{
    if (part[0])
        (void)unlink(part);
    (void)signal(number, SIG_DFL);
    (void)raise(number);
}

static int save(struct copy *k, struct reply *r, int fd, struct err *err)
{
    const char *data;
    size_t len;
    int rc;
    int64_t total = reply_length(r);
    while ((rc = reply_read(r, &data, &len, err)) > 0) {
        if (fd_write_all(fd, data, len) < 0)
            return err_sys(err, errno, "%s", k->local);
        k->stats.bytes += (int64_t)len;
        progress("copying", k->stats.bytes, total);
    }
    k->stats.files = 1;
    return rc;
}

static int save_as(struct copy *k, struct reply *r, const char *to, mode_t mode, struct err *err)
{
    static const int ending[] = { SIGINT, SIGTERM, SIGHUP };
    struct stat st;
    if (stat(to, &st) == 0 && !S_ISREG(st.st_mode)) { /* a device or a pipe is written to */
        AUTO(fd) int fd = open(to, O_WRONLY | O_CLOEXEC);
        return fd < 0 ? err_sys(err, errno, "%s", to) : save(k, r, fd, err);
    }
    (void)snprintf(part, sizeof part, "%s.part-XXXXXX", to);
    AUTO(fd) int fd = mkostemp(part, O_CLOEXEC);
    if (fd < 0) {
        part[0] = '\0';
        return err_sys(err, errno, "%s", to);
    }
    for (size_t i = 0; i < sizeof ending / sizeof ending[0]; i++)
        (void)signal(ending[i], on_end);
    mode_t mask = umask(0);
    (void)umask(mask);
    int rc = save(k, r, fd, err);
    if (rc == 0 && (fchmod(fd, mode & ~mask) < 0 || fsync(fd) < 0 || rename(part, to) < 0))
        rc = err_sys(err, errno, "%s", to);
    if (rc < 0)
        (void)unlink(part); /* nothing else can be done about it */
    part[0] = '\0';
    return rc;
}

static int download_file(struct copy *k, const char *to, mode_t mode, struct err *err)
{
    AUTO(buf) struct buf b = BUF_INIT(PATH_MAX_ENCODED);
    AUTO(reply) struct reply *r = NULL;
    query_path(&b, k, "/files/content", k->there.path);
    struct request rq = { .method = "GET", .path = buf_str(&b), .accept = "*/*" };
    if (reply_open(k->c->http, &rq, &r, err) < 0)
        return -1;
    return str_eq(to, "-") ? save(k, r, STDOUT_FILENO, err) : save_as(k, r, to, mode, err);
}

struct coming {
    struct reply *reply;
    int64_t bytes;
};

static int read_reply(void *ctx, const char **data, size_t *len, struct err *err)
{
    struct coming *in = ctx;
    int rc = reply_read(in->reply, data, len, err);
    in->bytes += rc > 0 ? (int64_t)*len : 0;
    progress("copying", in->bytes, -1);
    return rc;
}

static int download_directory(struct copy *k, const char *to, struct err *err)
{
    AUTO(buf) struct buf b = BUF_INIT(PATH_MAX_ENCODED);
    AUTO(reply) struct reply *r = NULL;
    query_path(&b, k, "/files/export", k->there.path);
    path_query(&b, "all", "true");
    struct request rq = { .method = "GET", .path = buf_str(&b), .accept = "*/*" };
    if (reply_open(k->c->http, &rq, &r, err) < 0)
        return -1;
    if (mkdir(to, 0777) < 0 && errno != EEXIST)
        return err_sys(err, errno, "%s", to);
    struct coming in = { .reply = r };
    const struct unpack_source from = { .read = read_reply, .skip = skipped, .ctx = &in };
    return unpack(&from, to, &k->stats, err);
}

static int download(struct copy *k, struct err *err)
{
    char to[2 * LOCAL_MAX], name[LOCAL_MAX];
    struct stat st;
    AUTO(json) struct json *j = NULL;
    int directory = look(k, k->there.path, &j, err);
    if (directory < 0)
        return -1;
    const char *mode = json_text(json_key(j, "mode"));
    bool to_stdout = str_eq(k->local, "-");
    bool into = !to_stdout && stat(k->local, &st) == 0 && S_ISDIR(st.st_mode);
    if (to_stdout && directory)
        return err_set(err, ERR_INVALID, "%s is a directory", k->there.path);
    if (!str_copy(to, LOCAL_MAX, k->local))
        return err_set(err, ERR_INVALID, "the name is longer than %d bytes", LOCAL_MAX);
    if (into && !(directory && means_contents(k->there.path))) {
        if (!last_name(k->there.path, name, sizeof name))
            return err_set(err, ERR_INVALID, "%s has no name to copy it by", k->there.path);
        (void)snprintf(to, sizeof to, "%s/%s", k->local, name);
    }
    if (directory)
        return download_directory(k, to, err);
    return download_file(k, to, mode ? (mode_t)strtoul(mode, NULL, 8) & 0777 : 0666, err);
}

/* --- the command --- */

int run_cp(struct cli *c)
{
    struct err err;
    const char *from = c->args.words[0], *to = c->args.words[1];
    bool up = place_is_remote(to);
    struct copy k = { .c = c, .local = up ? from : to };
    if (up == place_is_remote(from)) {
        (void)err_set(&err, ERR_INVALID, "one of FROM and TO must be SANDBOX:PATH, and one local");
        return wrong_usage(c, &err);
    }
    if (place_find(c, up ? to : from, &k.there, &err) < 0)
        return fail(c, &err);
    int rc = up ? upload(&k, &err) : download(&k, &err);
    if (rc < 0)
        return fail(c, &err);
    progress_end();
    if (c->json && !str_eq(to, "-"))
        (void)printf("{\"files\":%lld,\"bytes\":%lld,\"skipped\":%lld,\"failed\":%lld}\n",
                     (long long)k.stats.files, (long long)k.stats.bytes, (long long)k.stats.skipped,
                     (long long)k.stats.failed);
    return k.stats.failed ? STATUS_FAULT : 0;
}
