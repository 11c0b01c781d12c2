/* Searching a tree or one file, by name and by content.
 *
 * A file is read through one buffer in pieces that end with a line. A line beyond the buffer comes
 * in pieces that overlap by as much as plain text may be long; a longer match of a pattern may be
 * missed there. Nothing is kept between files. Bounds: hits, time, and
 * the steps of one match (a file where that is hit is left, and counted). */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/limits.h"
#include "base/str.h"
#include "match.h"
#include "volume/bulk.h"
#include "walk.h"

#define BUFFER (1 * MIB)
#define ASK_MS 1000
#define OVERLAP (FILE_SEARCH_PATTERN_MAX + 4) /* and a character */
#define LOOK_EVERY 256                        /* entries between two looks at the clock */

struct search {
    const struct file_search *what;
    struct matcher *matcher;
    int (*each)(void *ctx, const struct file_hit *h);
    void *ctx;
    struct file_search_stats *stats;
    int64_t deadline_ms;
    int64_t ask_ms; /* when to ask whether it is still wanted */
    uint32_t told;
    bool stop;
    char *buffer;
    struct walk walk;
};

static bool late(struct search *s)
{
    int64_t now_ms = clock_mono_ms();
    if (s->what->wanted && now_ms >= s->ask_ms) {
        s->ask_ms = now_ms + ASK_MS;
        s->stop = s->stop || !s->what->wanted(s->ctx);
    }
    if (now_ms < s->deadline_ms)
        return s->stop;
    s->stats->truncated = s->stop = true;
    s->stats->why = "time";
    return true;
}

static void tell(struct search *s, const struct file_hit *h)
{
    if (s->told == s->what->limit) {
        s->stats->truncated = s->stop = true;
        s->stats->why = "limit";
        return;
    }
    s->told++;
    if (s->each(s->ctx, h) != 0)
        s->stop = true;
}

static uint64_t newlines(const char *p, size_t len)
{
    uint64_t n = 0;
    for (const char *end = p + len; (p = memchr(p, '\n', (size_t)(end - p))); p++)
        n++;
    return n;
}

/* A long line is told around its match, and begins and ends with a whole character. */
static void cut(struct file_hit *h, const char *line, size_t len, size_t at)
{
    size_t from = 0;
    if (len > FILE_SEARCH_LINE_MAX && at > FILE_SEARCH_LINE_MAX / 2) {
        from = at - FILE_SEARCH_LINE_MAX / 2;
        if (from > len - FILE_SEARCH_LINE_MAX)
            from = len - FILE_SEARCH_LINE_MAX;
        while (from < at && ((unsigned char)line[from] & 0xc0) == 0x80)
            from++;
    }
    size_t n = len - from < FILE_SEARCH_LINE_MAX ? len - from : FILE_SEARCH_LINE_MAX;
    if (n < len - from)
        while (n > 0 && ((unsigned char)line[from + n] & 0xc0) == 0x80)
            n--;
    h->text = line + from;
    h->text_len = n;
}

/* What is in the buffer. */
struct piece {
    size_t len;
    size_t from;     /* where to look */
    uint64_t line;   /* number of its first line */
    uint64_t passed; /* bytes of that line that have gone by */
    bool cut;        /* its last line goes on behind it */
    bool told;       /* that line has been told */
};

/* All hits in p; counts its lines only when asked to. */
static int look(struct search *s, const char *path, struct piece *p, bool more_follows)
{
    const char *data = s->buffer;
    size_t from = p->from, counted = 0, at, end;
    int rc = 0;
    while (!s->stop && from < p->len &&
           (rc = matcher_find(s->matcher, data, p->len, from, &at, &end)) > 0) {
        const char *start = memrchr(data, '\n', at);
        size_t begin = start ? (size_t)(start - data) + 1 : 0;
        const char *stop = memchr(data + at, '\n', p->len - at);
        size_t next = stop ? (size_t)(stop - data) : p->len;
        if (p->cut && end == p->len && at + OVERLAP > p->len)
            break; /* seen again, with what follows */
        p->told = p->cut && !stop;
        p->line += newlines(data + counted, begin - counted);
        counted = begin;
        struct file_hit h = { .path = path,
                              .type = FILE_REGULAR,
                              .line = p->line,
                              .column = at - begin + 1 + (start ? 0 : p->passed) };
        cut(&h, data + begin, next - begin, at - begin);
        tell(s, &h);
        from = next + 1;
        if (late(s))
            break;
    }
    if (!s->stop && rc < 0) {
        s->stats->costly++;
        return -1;
    }
    if (more_follows)
        p->line += newlines(data + counted, p->len - counted);
    return 0;
}

/* Room for more of the line that was cut; what is looked at again begins behind a character. */
static size_t keep_on(struct search *s, struct piece *p)
{
    size_t keep = p->len < OVERLAP ? p->len : OVERLAP;
    p->passed += p->len - keep;
    memmove(s->buffer, s->buffer + p->len - keep, keep);
    if (keep == OVERLAP)
        for (p->from = 1; p->from < 4 && ((unsigned char)s->buffer[p->from] & 0xc0) == 0x80;)
            p->from++;
    return keep;
}

static ssize_t fill(int fd, char *to, size_t len)
{
    size_t have = 0;
    while (have < len) {
        ssize_t n = read(fd, to + have, len - have);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        if (n == 0)
            break;
        have += (size_t)n;
    }
    return (ssize_t)have;
}

static void look_into(struct search *s, const char *path, int fd, uint64_t left)
{
    size_t held = 0; /* of a line that goes on */
    struct piece p = { .line = 1 };
    for (bool first = true; left > 0 && !s->stop && !late(s); first = false) {
        size_t room = BUFFER - held;
        ssize_t n = fill(fd, s->buffer + held, left < room ? (size_t)left : room);
        if (n <= 0)
            break;
        if (first && memchr(s->buffer, '\0', (size_t)n)) {
            s->stats->binary++;
            return;
        }
        left -= (uint64_t)n;
        s->stats->bytes += (uint64_t)n;
        size_t len = held + (size_t)n;
        const char *last = left > 0 ? memrchr(s->buffer, '\n', len) : NULL;
        const char *stop = p.told ? memchr(s->buffer, '\n', len) : NULL;
        p.len = last ? (size_t)(last - s->buffer) + 1 : len;
        p.cut = left > 0 && !last;
        if (p.told)
            p.from = stop ? (size_t)(stop - s->buffer) + 1 : len;
        if (look(s, path, &p, left > 0) < 0)
            return;
        if (p.cut) {
            held = keep_on(s, &p);
            continue;
        }
        held = len - p.len;
        memmove(s->buffer, s->buffer + p.len, held);
        p = (struct piece){ .line = p.line };
    }
}

static void look_at(struct search *s, const struct walk_entry *e)
{
    struct stat st;
    AUTO(fd) int fd = beneath_open(e->dir, e->name, O_RDONLY, 0);
    if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
        return; /* gone or swapped */
    s->stats->files++;
    look_into(s, e->path, fd, (uint64_t)st.st_size);
}

static void by_name(struct search *s, const struct walk_entry *e)
{
    static const enum file_type types[] = { [WALK_FILE] = FILE_REGULAR,
                                            [WALK_DIR] = FILE_DIR,
                                            [WALK_LINK] = FILE_SYMLINK,
                                            [WALK_OTHER] = FILE_OTHER };
    const struct file_hit h = { .path = e->path, .type = types[e->type], .text = "" };
    tell(s, &h);
}

static int search_all(struct search *s, struct err *err)
{
    const char *name = s->what->name;
    const bool whole = name && strchr(name, '/');
    struct walk_entry e;
    int more = 0;
    for (uint32_t i = 1; !s->stop && (more = walk_next(&s->walk, &e, err)) > 0; i++) {
        if (i % LOOK_EVERY == 0 && late(s))
            break;
        if (name && !glob_match(name, whole ? e.path : e.name))
            continue;
        if (!s->what->text)
            by_name(s, &e);
        else if (e.type == WALK_FILE)
            look_at(s, &e);
    }
    if (!s->stop && more == 0 && s->walk.deep) {
        s->stats->truncated = true;
        s->stats->why = "depth";
    }
    return s->stop || more >= 0 ? 0 : -1;
}

/* The path names a regular file: that alone is looked at, and told under the path "". */
static int search_file(struct search *s, int root, const struct file_path *path, struct err *err)
{
    AUTO(fd) int fd = -1;
    uint64_t size;
    if (file_open(root, path, &fd, &size, err) < 0)
        return -1;
    const char *slash = strrchr(path->text, '/');
    const struct walk_entry e = { .path = "", .type = WALK_FILE };
    if (s->what->name && !glob_match(s->what->name, slash ? slash + 1 : path->text))
        return 0;
    if (!s->what->text) {
        by_name(s, &e);
        return 0;
    }
    s->stats->files++;
    look_into(s, e.path, fd, size);
    return 0;
}

static int search(struct search *s, int root, const struct file_path *path, struct err *err)
{
    if (walk_begin(&s->walk, root, path->text, s->what->skip, err) < 0)
        return err->sys == ENOTDIR && !path->directory ? search_file(s, root, path, err) : -1;
    int rc = search_all(s, err);
    walk_end(&s->walk);
    return rc;
}

int file_search(int root, const struct file_path *path, const struct file_search *what,
                int (*each)(void *ctx, const struct file_hit *h), void *ctx,
                struct file_search_stats *ret, struct err *err)
{
    AUTO(free) struct search *s = mem_new(1, sizeof(*s));
    AUTO(free) char *buffer = mem_new(1, BUFFER);
    *ret = (struct file_search_stats){ 0 };
    s->what = what;
    s->each = each;
    s->ctx = ctx;
    s->stats = ret;
    s->ask_ms = clock_mono_ms() + ASK_MS;
    s->deadline_ms = clock_mono_ms() + FILE_SEARCH_MS;
    s->buffer = buffer;
    if (what->name && strlen(what->name) > FILE_SEARCH_PATTERN_MAX)
        return err_set(err, ERR_INVALID, "name: longer than %u bytes", FILE_SEARCH_PATTERN_MAX);
    if (what->text && matcher_new(what->text, what->regex, what->ignore_case, &s->matcher, err) < 0)
        return -1;
    int rc = walk_enter(err);
    if (rc == 0) {
        rc = search(s, root, path, err);
        walk_leave();
    }
    matcher_free(s->matcher);
    return rc;
}
