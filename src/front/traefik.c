/* From template to file: "@name@" is replaced by a value; lines between "#if word" and "#end" stay
 * when the word holds, and may be nested. Values have been checked by config/ or are made here;
 * what could leave a quoted YAML string is refused once more. */
#include "front/traefik.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/limits.h"
#include "base/str.h"

/* Embedded by the build. */
extern const unsigned char traefik_static[], traefik_dynamic[];
extern const size_t traefik_static_len, traefik_dynamic_len;

#define VALUES_MAX 16
#define NESTED_MAX 4

struct value {
    const char *name;
    const char *text;
};

struct filling {
    struct value values[VALUES_MAX];
    const char *words[4]; /* those that hold; NULL ends */
};

static const char *value_of(const struct filling *f, const char *name, size_t len)
{
    for (size_t i = 0; i < VALUES_MAX && f->values[i].name; i++)
        if (strlen(f->values[i].name) == len && memcmp(f->values[i].name, name, len) == 0)
            return f->values[i].text;
    return NULL;
}

static bool holds(const struct filling *f, const char *word, size_t len)
{
    for (size_t i = 0; f->words[i]; i++)
        if (strlen(f->words[i]) == len && memcmp(f->words[i], word, len) == 0)
            return true;
    return false;
}

static int put_line(struct buf *out, const struct filling *f, const char *line, size_t len,
                    struct err *err)
{
    const char *end = line + len;
    while (line < end) {
        const char *at = memchr(line, '@', (size_t)(end - line));
        const char *close = at ? memchr(at + 1, '@', (size_t)(end - at - 1)) : NULL;
        const char *text = close ? value_of(f, at + 1, (size_t)(close - at - 1)) : NULL;
        if (!text) {
            if (at)
                return err_set(err, ERR_INTERNAL, "Traefik's template names an unknown value");
            buf_add(out, line, (size_t)(end - line));
            break;
        }
        buf_add(out, line, (size_t)(at - line));
        buf_adds(out, text);
        line = close + 1;
    }
    buf_addc(out, '\n');
    return 0;
}

static int fill(struct buf *out, const struct filling *f, const unsigned char *text, size_t len,
                struct err *err)
{
    bool keep[NESTED_MAX + 1] = { true };
    size_t depth = 0;
    const char *at = (const char *)text, *end = at + len;
    while (at < end) {
        const char *nl = memchr(at, '\n', (size_t)(end - at));
        size_t n = nl ? (size_t)(nl - at) : (size_t)(end - at);
        if (n > 4 && memcmp(at, "#if ", 4) == 0 && depth < NESTED_MAX) {
            keep[depth + 1] = keep[depth] && holds(f, at + 4, n - 4);
            depth++;
        } else if (n == 4 && memcmp(at, "#end", 4) == 0 && depth > 0) {
            depth--;
        } else if (keep[depth] && put_line(out, f, at, n, err) < 0) {
            return -1;
        }
        at += n + 1;
    }
    return buf_done(out, err);
}

/* Would stay inside a double-quoted YAML string, and inside a Traefik rule's backticks. */
static bool plain(const char *text)
{
    for (; *text; text++)
        if ((unsigned char)*text <= ' ' || (unsigned char)*text > '~' || strchr("\"'`\\{}", *text))
            return false;
    return true;
}

/* A domain as a regular expression inside a double-quoted YAML string. */
static void pattern_of(const char *domain, struct buf *out)
{
    for (; *domain; domain++)
        buf_adds(out, *domain == '.' ? "\\\\." : (char[]){ *domain, 0 });
}

/* Visitors' requests come from Traefik by loopback, unless the edge listens elsewhere only. */
static void edge_of(const struct config_bind *edge, char *out, size_t size)
{
    const char *host = edge->host;
    if (str_eq(host, "0.0.0.0"))
        host = "127.0.0.1";
    if (str_eq(host, "::"))
        host = "::1";
    bool six = strchr(host, ':');
    (void)snprintf(out, size, "%s%s%s:%u", six ? "[" : "", host, six ? "]" : "", edge->port);
}

static int write_file(int dir, const char *name, const struct filling *f, const unsigned char *text,
                      size_t len, struct err *err)
{
    AUTO(buf) struct buf out = BUF_INIT(64 * KIB);
    if (fill(&out, f, text, len, err) < 0 ||
        fd_replace_file(dir, name, buf_str(&out), out.len, 0644, err) < 0)
        return err_wrap(err, "%s", name);
    return 0;
}

static int open_below(const char *dir, const char *name, int *ret, struct err *err)
{
    char path[PATH_MAX + 16];
    (void)snprintf(path, sizeof path, "%s%s", dir, name); /* fits: dir is a real path */
    if (fd_mkdirs(path, 0755, err) < 0)
        return -1;
    *ret = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return *ret < 0 ? err_sys(err, errno, "open %s", path) : 0;
}

int traefik_write(const struct config *config, const char *instance, const char *dir,
                  struct err *err)
{
    AUTO(fd) int top = -1;
    AUTO(fd) int dynamic = -1;
    AUTO(buf) struct buf pattern = BUF_INIT(2 * KIB);
    AUTO(free) char *real = NULL;
    char edge[96], http_port[8], https_port[8], bind[80], socket[DATA_DIR_MAX + 32];
    const bool tls = config->preview_tls, acme = tls && config->acme_dns[0];
    if (fd_mkdirs(dir, 0755, err) < 0)
        return -1;
    real = realpath(dir, NULL);
    if (!real)
        return err_sys(err, errno, "%s", dir);
    if (config->front_socket[0])
        (void)snprintf(socket, sizeof socket, "%s", config->front_socket); /* both fit */
    else
        (void)snprintf(socket, sizeof socket, "%s/front/docker.sock", config->data_dir);
    if (!plain(real) || !plain(socket))
        return err_set(err, ERR_INVALID, "Traefik's files cannot name the path %.200s",
                       plain(real) ? socket : real);
    edge_of(&config->edge, edge, sizeof edge);
    pattern_of(config->preview_domain, &pattern);
    bool six = strchr(config->public.host, ':');
    (void)snprintf(bind, sizeof bind, "%s%s%s", six ? "[" : "", config->public.host,
                   six ? "]" : "");
    (void)snprintf(http_port, sizeof http_port, "%u", config->public.port);
    (void)snprintf(https_port, sizeof https_port, "%u", (unsigned)config->https_port & 0xffff);
    const struct filling f = {
        .values = { { "bind", str_eq(bind, "0.0.0.0") ? "" : bind },
                    { "http_port", http_port },
                    { "https_port", https_port },
                    { "entrypoint", config->preview_entrypoint },
                    /* where TLS comes in may be called web, too */
                    { "redirect", str_eq(config->preview_entrypoint, "web") ? "plain" : "web" },
                    { "retry", "sandboxd-retry@file" }, /* an "@" of its own */
                    { "socket", socket },
                    { "instance", instance },
                    { "dir", real },
                    { "edge", edge },
                    { "domain", config->preview_domain },
                    { "domain_pattern", buf_str(&pattern) },
                    { "acme_dns", config->acme_dns },
                    { "acme_email", config->acme_email } },
        .words = { tls ? "tls" : "plain", acme  ? "acme"
                                          : tls ? "files"
                                                : NULL },
    };
    if (buf_done(&pattern, err) < 0 || open_below(real, "", &top, err) < 0 ||
        open_below(real, "/dynamic", &dynamic, err) < 0 ||
        write_file(dynamic, "sandboxd.yml", &f, traefik_dynamic, traefik_dynamic_len, err) < 0)
        return -1;
    return write_file(top, "traefik.yml", &f, traefik_static, traefik_static_len, err);
}
