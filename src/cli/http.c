/* Requests of the command line.
 *
 * A reply is pulled: libcurl pauses while a piece of it is with the caller, so memory stays flat
 * and a slow reader slows the daemon down. Redirects are not followed: the token is for one host.
 */
#include "http.h"

#include <curl/curl.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/limits.h"
#include "base/str.h"
#include "progress.h"

#define DEFAULT_URL "http://127.0.0.1:9090"
#define CONNECT_MS 10000L
#define PIECE (256 * KIB)
#define ERROR_MAX (64 * KIB)
#define TICK_MS 250

struct http {
    char *url; /* without a slash at its end */
    char *authorization;
    char *ca_file;
    bool here; /* a loopback address: no proxy leads there */
};

/* --- where and who --- */

static bool is_here(const char *url)
{
    static const char *const names[] = { "localhost", "127.", "[::1]" };
    const char *host = strstr(url, "://");
    host = host ? host + 3 : url;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strncasecmp(host, names[i], strlen(names[i])) == 0)
            return true;
    return false;
}

static int read_token(const char *path, char **ret, struct err *err)
{
    AUTO(buf) struct buf b = BUF_INIT(4 * KIB);
    AUTO(fd) int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err_sys(err, errno, "token file %s", path);
    if (fd_read_to_end(fd, &b, err) < 0)
        return err_wrap(err, "token file %s", path);
    *ret = str_ndup(buf_str(&b), strcspn(buf_str(&b), "\r\n"));
    mem_erase(b.data, b.len);
    return 0;
}

int http_new(const struct http_place *place, struct http **ret, struct err *err)
{
    AUTO(free) char *token = NULL;
    const char *url = place->url && *place->url ? place->url : DEFAULT_URL;
    size_t len = strlen(url);
    if (!str_starts(url, "http://") && !str_starts(url, "https://"))
        return err_set(err, ERR_INVALID, "%s is no URL of http or https", url);
    if (place->token_file && read_token(place->token_file, &token, err) < 0)
        return -1;
    if (!token && place->token && *place->token)
        token = str_dup(place->token);
    for (const char *c = token; c && *c; c++)
        if ((unsigned char)*c <= 0x20 || *c == 0x7f)
            return err_set(err, ERR_INVALID, "the token holds a space or a control character");
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != 0)
        return err_set(err, ERR_INTERNAL, "libcurl cannot be used");
    struct http *h = mem_new(1, sizeof *h);
    while (len > 0 && url[len - 1] == '/')
        len--;
    h->url = str_ndup(url, len);
    h->here = is_here(url);
    h->ca_file = place->ca_file && *place->ca_file ? str_dup(place->ca_file) : NULL;
    if (token && *token) {
        struct buf b = BUF_INIT(8 * KIB);
        buf_addf(&b, "Authorization: Bearer %s", token);
        h->authorization = buf_take(&b);
        mem_erase(token, strlen(token));
    }
    *ret = h;
    return 0;
}

void http_free(struct http *h)
{
    if (!h)
        return;
    free(h->url);
    free(h->authorization);
    free(h->ca_file);
    free(h);
}

const char *http_url(const struct http *h)
{
    return h->url;
}

const char *http_authorization(const struct http *h)
{
    return h->authorization;
}

void *http_easy(const struct http *h, const char *path)
{
    AUTO(buf) struct buf url = BUF_INIT(64 * KIB);
    CURL *e = curl_easy_init();
    if (!e)
        abort(); /* memory is out */
    buf_addf(&url, "%s%s", h->url, path);
    /* Each can fail only for want of memory, and shows as a failed transfer then. */
    (void)curl_easy_setopt(e, CURLOPT_URL, buf_str(&url));
    (void)curl_easy_setopt(e, CURLOPT_PROTOCOLS_STR, "http,https");
    (void)curl_easy_setopt(e, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    (void)curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1L);
    (void)curl_easy_setopt(e, CURLOPT_CONNECTTIMEOUT_MS, CONNECT_MS);
    (void)curl_easy_setopt(e, CURLOPT_TCP_KEEPALIVE, 1L);
    (void)curl_easy_setopt(e, CURLOPT_USERAGENT, "sandboxd/" SANDBOXED_VERSION);
    if (h->here)
        (void)curl_easy_setopt(e, CURLOPT_PROXY, "");
    if (h->ca_file)
        (void)curl_easy_setopt(e, CURLOPT_CAINFO, h->ca_file);
    return e;
}

int http_trouble(const struct http *h, int curl_code, struct err *err)
{
    (void)err_set(err, ERR_UNAVAILABLE, "%s: %s", h->url, curl_easy_strerror((CURLcode)curl_code));
    switch (curl_code) {
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_CONNECT:
    case CURLE_OPERATION_TIMEDOUT:
        return err_remedy(err, "Is the daemon running there (sandboxd doctor)? Another address is "
                               "given by --url or SANDBOXD_URL.");
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
        return err_remedy(err, "Its certificate's authority may be given by --ca-file.");
    default:
        return -1;
    }
}

/* --- errors of the API --- */

static enum err_code code_of(const char *name, long status)
{
    for (int i = 0; name && i < ERR_CODE_COUNT; i++)
        if (str_eq(name, err_name((enum err_code)i)))
            return (enum err_code)i;
    return status == 404   ? ERR_NOT_FOUND
           : status == 401 ? ERR_UNAUTHORIZED
           : status == 500 ? ERR_INTERNAL
           : status > 500  ? ERR_UNAVAILABLE
                           : ERR_INVALID;
}

int http_error(long status, const char *body, size_t len, struct err *err)
{
    struct err bad;
    AUTO(json) struct json *j = NULL;
    if (json_parse(body, len, &j, &bad) < 0)
        j = NULL;
    const char *message = j ? json_text(json_at(j, "error.message")) : NULL;
    const char *remedy = j ? json_text(json_at(j, "error.remedy")) : NULL;
    if (j && !message)
        message = json_text(json_at(j, "error")); /* of the older routes */
    enum err_code code = code_of(j ? json_text(json_at(j, "error.code")) : NULL, status);
    if (message)
        (void)err_set(err, code, "%s", message);
    else
        (void)err_set(err, code, "the server answered %ld, and nothing that this API says", status);
    if (remedy)
        return err_remedy(err, "%s", remedy);
    if (code == ERR_UNAUTHORIZED)
        return err_remedy(err, "Give the token by SANDBOXD_TOKEN or --token-file.");
    return -1;
}

/* --- replies --- */

struct reply {
    struct http *http;
    const struct request *rq;
    CURL *easy;
    CURLM *multi;
    struct curl_slist *headers;
    struct buf data; /* what came and was not handed out */
    bool handed;     /* data is with the caller */
    bool headed;     /* the head of the reply is there */
    bool paused, over;
    long status;
    int64_t sent;     /* of a body in pieces */
    CURLcode code;    /* once it is over */
    bool read_failed; /* the body's source did: */
    struct err read_err;
};

static size_t on_body(char *data, size_t size, size_t count, void *ctx)
{
    struct reply *r = ctx;
    size_t len = size * count;
    if (r->handed || r->data.len + len > r->data.max) {
        r->paused = true;
        return CURL_WRITEFUNC_PAUSE;
    }
    buf_add(&r->data, data, len);
    return len;
}

/* NOLINTNEXTLINE(readability-non-const-parameter): the type is libcurl's */
static size_t on_header(char *data, size_t size, size_t count, void *ctx)
{
    struct reply *r = ctx;
    size_t len = size * count;
    if (len == 2 && data[0] == '\r') {
        (void)curl_easy_getinfo(r->easy, CURLINFO_RESPONSE_CODE, &r->status);
        r->headed = r->status >= 200;
    }
    return len;
}

static size_t on_upload(char *out, size_t size, size_t count, void *ctx)
{
    struct reply *r = ctx;
    ssize_t n = r->rq->read(r->rq->ctx, out, size * count, &r->read_err);
    if (n < 0) {
        r->read_failed = true;
        return CURL_READFUNC_ABORT;
    }
    r->sent += n;
    return (size_t)n;
}

static void add_header(struct reply *r, const char *name, const char *value)
{
    AUTO(buf) struct buf b = BUF_INIT(8 * KIB);
    if (name && !value)
        return;
    buf_addf(&b, "%s%s%s", name ? name : "", name ? ": " : "", value);
    struct curl_slist *more = curl_slist_append(r->headers, buf_str(&b));
    if (!more)
        abort();
    r->headers = more;
}

static void set_up(struct reply *r, const struct request *rq)
{
    CURL *e = r->easy;
    add_header(r, "Accept", rq->accept ? rq->accept : "application/json");
    if (r->http->authorization)
        add_header(r, NULL, r->http->authorization);
    if (rq->body || rq->read)
        add_header(r, "Content-Type", rq->type ? rq->type : "application/json");
    (void)curl_easy_setopt(e, CURLOPT_HTTPHEADER, r->headers);
    (void)curl_easy_setopt(e, CURLOPT_BUFFERSIZE, (long)PIECE);
    (void)curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, on_body);
    (void)curl_easy_setopt(e, CURLOPT_WRITEDATA, r);
    (void)curl_easy_setopt(e, CURLOPT_HEADERFUNCTION, on_header);
    (void)curl_easy_setopt(e, CURLOPT_HEADERDATA, r);
    if (rq->read) {
        (void)curl_easy_setopt(e, CURLOPT_UPLOAD, 1L);
        (void)curl_easy_setopt(e, CURLOPT_UPLOAD_BUFFERSIZE, (long)PIECE);
        (void)curl_easy_setopt(e, CURLOPT_READFUNCTION, on_upload);
        (void)curl_easy_setopt(e, CURLOPT_READDATA, r);
        (void)curl_easy_setopt(e, CURLOPT_INFILESIZE_LARGE, (curl_off_t)rq->size);
    } else if (rq->body || str_eq(rq->method, "POST")) {
        (void)curl_easy_setopt(e, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)rq->body_len);
        (void)curl_easy_setopt(e, CURLOPT_POSTFIELDS, rq->body ? rq->body : "");
    }
    (void)curl_easy_setopt(e, CURLOPT_CUSTOMREQUEST, rq->method);
}

/* Until something came, the end, or a look at the clock is due. */
static int step(struct reply *r, struct err *err)
{
    int running = 0, left;
    if (r->over)
        return 0;
    CURLMcode rc = curl_multi_perform(r->multi, &running);
    for (CURLMsg *m; rc == CURLM_OK && (m = curl_multi_info_read(r->multi, &left));) {
        if (m->msg != CURLMSG_DONE)
            continue;
        r->over = true;
        r->code = m->data.result;
    }
    if (rc == CURLM_OK && !r->over && r->data.len == 0)
        rc = curl_multi_poll(r->multi, NULL, 0, TICK_MS, NULL);
    if (r->rq->what && (r->rq->read || !r->headed)) /* what comes may be printed meanwhile */
        progress(r->rq->what, r->sent, r->rq->read ? r->rq->size : -1);
    return rc == CURLM_OK ? 0 : err_set(err, ERR_INTERNAL, "%s", curl_multi_strerror(rc));
}

static int check_end(struct reply *r, struct err *err)
{
    if (!r->over || r->code == CURLE_OK)
        return 0;
    if (r->read_failed) {
        *err = r->read_err;
        return -1;
    }
    return http_trouble(r->http, (int)r->code, err);
}

/* A refusal: what there is of its body says why. */
static int refused(struct reply *r, struct err *err)
{
    while (!r->over && r->data.len < ERROR_MAX)
        if (step(r, err) < 0)
            return -1;
    return http_error(r->status, buf_str(&r->data), r->data.len, err);
}

int reply_open(struct http *h, const struct request *rq, struct reply **ret, struct err *err)
{
    AUTO(reply) struct reply *r = mem_new(1, sizeof *r);
    r->http = h;
    r->rq = rq;
    r->data = (struct buf)BUF_INIT(2 * PIECE);
    r->easy = http_easy(h, rq->path);
    r->multi = curl_multi_init();
    if (!r->multi)
        abort();
    set_up(r, rq);
    if (curl_multi_add_handle(r->multi, r->easy) != CURLM_OK)
        return err_set(err, ERR_INTERNAL, "libcurl takes no request");
    while (!r->over && !r->headed)
        if (step(r, err) < 0)
            return -1;
    if (rq->what && !rq->read)
        progress_end();
    if (r->headed && r->status / 100 != 2)
        return refused(r, err);
    if (check_end(r, err) < 0)
        return -1;
    *ret = TAKE(r);
    return 0;
}

int reply_read(struct reply *r, const char **ret_data, size_t *ret_len, struct err *err)
{
    if (r->handed) {
        r->handed = false;
        buf_reset(&r->data);
    }
    if (r->paused && r->data.len == 0) {
        r->paused = false;
        (void)curl_easy_pause(r->easy, CURLPAUSE_CONT); /* shows as a failed transfer */
    }
    while (r->data.len == 0 && !r->over)
        if (step(r, err) < 0)
            return -1;
    if (r->data.len == 0)
        return check_end(r, err);
    r->handed = true;
    *ret_data = buf_str(&r->data);
    *ret_len = r->data.len;
    return 1;
}

int64_t reply_length(const struct reply *r)
{
    curl_off_t n = -1;
    (void)curl_easy_getinfo(r->easy, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &n);
    return n;
}

void reply_close(struct reply *r)
{
    if (!r)
        return;
    (void)curl_multi_remove_handle(r->multi, r->easy); /* fails only if it was never added */
    curl_easy_cleanup(r->easy);
    (void)curl_multi_cleanup(r->multi);
    curl_slist_free_all(r->headers);
    buf_release(&r->data);
    free(r);
}

int http_call(struct http *h, const struct request *rq, struct buf *ret, struct err *err)
{
    AUTO(reply) struct reply *r = NULL;
    const char *data;
    size_t len;
    int rc;
    if (reply_open(h, rq, &r, err) < 0)
        return -1;
    while ((rc = reply_read(r, &data, &len, err)) > 0)
        buf_add(ret, data, len);
    return rc < 0 ? -1 : buf_done(ret, err);
}

int http_json(struct http *h, const struct request *rq, struct json **ret, struct err *err)
{
    AUTO(buf) struct buf b = BUF_INIT(64 * MIB);
    *ret = NULL;
    if (http_call(h, rq, &b, err) < 0)
        return -1;
    if (b.len == 0)
        return 0;
    if (json_parse(buf_str(&b), b.len, ret, err) < 0)
        return err_wrap(err, "the reply of %s", h->url);
    return 0;
}
