/* The env file. One line is one setting; nothing is expanded, continued or executed, so a file
 * means the same here as under `docker --env-file`. Text that held secrets is erased before it is
 * freed. */
#include "envfile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/fd.h"
#include "base/limits.h"
#include "base/str.h"

void envfile_release(struct env_file *f)
{
    for (size_t i = 0; i < f->count; i++) {
        free(f->pairs[i].name);
        mem_erase(f->pairs[i].value, strlen(f->pairs[i].value));
        free(f->pairs[i].value);
    }
    free(f->pairs);
    *f = (struct env_file){ 0 };
}

const char *envfile_get(const struct env_file *f, const char *name)
{
    for (size_t i = 0; i < f->count; i++)
        if (str_eq(f->pairs[i].name, name))
            return f->pairs[i].value;
    return NULL;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

/* A piece of the text; not terminated. */
struct span {
    const char *at;
    size_t len;
};

static struct span trim(struct span s)
{
    while (s.len > 0 && is_blank(s.at[0]))
        s = (struct span){ s.at + 1, s.len - 1 };
    while (s.len > 0 && is_blank(s.at[s.len - 1]))
        s.len--;
    return s;
}

static bool is_name(struct span s)
{
    for (size_t i = 0; i < s.len; i++) {
        char c = s.at[i];
        bool letter = (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '_';
        if (!letter && (i == 0 || c < '0' || c > '9'))
            return false;
    }
    return s.len > 0;
}

/* Outer quotes belong to the notation, not to the value. */
static bool unquote(struct span *s)
{
    if (s->len == 0 || (s->at[0] != '"' && s->at[0] != '\''))
        return true;
    if (s->len < 2 || s->at[s->len - 1] != s->at[0])
        return false;
    *s = (struct span){ s->at + 1, s->len - 2 };
    return true;
}

static int parse_line(const char *path, unsigned line, struct span s, struct env_file *f,
                      struct err *err)
{
    if (s.len > 0 && s.at[s.len - 1] == '\r')
        s.len--;
    s = trim(s);
    if (s.len == 0 || s.at[0] == '#')
        return 0;
    if (s.len > 7 && memcmp(s.at, "export", 6) == 0 && is_blank(s.at[6]))
        s = trim((struct span){ s.at + 6, s.len - 6 });
    const char *eq = memchr(s.at, '=', s.len);
    struct span name = trim((struct span){ s.at, eq ? (size_t)(eq - s.at) : s.len });
    if (!eq || !is_name(name))
        return err_set(err, ERR_INVALID, "%s:%u: not of the form NAME=value", path, line);
    struct span value = trim((struct span){ eq + 1, s.len - (size_t)(eq + 1 - s.at) });
    if (!unquote(&value))
        return err_set(err, ERR_INVALID, "%s:%u: %.*s: a quote is not closed", path, line,
                       (int)name.len, name.at);
    struct env_pair *pairs = reallocarray(f->pairs, f->count + 1, sizeof *pairs);
    if (!pairs)
        abort();
    f->pairs = pairs;
    for (size_t i = 0; i < f->count; i++)
        if (strlen(pairs[i].name) == name.len && memcmp(pairs[i].name, name.at, name.len) == 0)
            return err_set(err, ERR_INVALID, "%s:%u: %s was given on line %u already", path, line,
                           pairs[i].name, pairs[i].line);
    pairs[f->count++] =
        (struct env_pair){ str_ndup(name.at, name.len), str_ndup(value.at, value.len), line };
    return 0;
}

int envfile_parse(const char *path, const char *text, size_t len, struct env_file *ret,
                  struct err *err)
{
    struct env_file f = { 0 };
    unsigned line = 1;
    for (size_t at = 0; at < len; line++) {
        const char *end = memchr(text + at, '\n', len - at);
        size_t n = end ? (size_t)(end - (text + at)) : len - at;
        int rc = memchr(text + at, 0, n)
                     ? err_set(err, ERR_INVALID, "%s:%u: a NUL byte", path, line)
                     : parse_line(path, line, (struct span){ text + at, n }, &f, err);
        if (rc < 0) {
            envfile_release(&f);
            return -1;
        }
        at += n + 1;
    }
    *ret = f;
    return 0;
}

int envfile_read(const char *path, struct env_file *ret, struct err *err)
{
    AUTO(fd) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a FIFO must not hang us */
    struct stat st;
    if (fd < 0 || fstat(fd, &st) < 0) {
        (void)err_sys(err, errno, "env file %s", path);
        err->code = ERR_INVALID;
        return -1;
    }
    if (!S_ISREG(st.st_mode))
        return err_set(err, ERR_INVALID, "env file %s: not a regular file", path);
    if (st.st_size > CONFIG_FILE_MAX)
        return err_set(err, ERR_INVALID, "env file %s: larger than %u bytes", path,
                       CONFIG_FILE_MAX);
    /* Read in one piece: a buffer that grew would leave copies of secrets behind. */
    char text[CONFIG_FILE_MAX];
    size_t len = 0;
    ssize_t n;
    while (len < sizeof text && (n = read(fd, text + len, sizeof text - len)) != 0) {
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            (void)err_sys(err, errno, "env file %s", path);
            err->code = ERR_INVALID;
            mem_erase(text, len);
            return -1;
        }
        len += (size_t)n;
    }
    int rc = envfile_parse(path, text, len, ret, err);
    mem_erase(text, len);
    return rc;
}
