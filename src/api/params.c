/* The rows, and the check of a request against them. */
#include "params.h"

#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "base/str.h"
#include "model/sandbox.h"

#define STATE_WORD(name, v1, legacy, truth) v1,
static const char *const state_words[] = { SANDBOX_STATES(STATE_WORD) NULL };
#undef STATE_WORD
static const char *const archive_words[] = { "tar.zst", "zip", "tar", NULL };
static const char *const import_words[] = { "auto", NULL };
static const char *const websocket_words[] = { "websocket", NULL };
static const char *const upgrade_words[] = { "Upgrade", NULL };
static const char *const version_words[] = { "13", NULL };

/* The first row that fits holds: those of one route stand before those of all. */
static const struct param rows[] = {
    { "path", .schema = "format: workspace-path", .bytes = true,
      .help =
          "Relative to /home/sandbox/workspace/app. Of what is there already it may be any bytes, "
          "escaped by percent." },
    { "recursive", .type = PARAM_FLAG, .help = "What is below it, too." },
    { "all", .type = PARAM_FLAG,
      .help = "Also below node_modules, .git, dist and .vite, which are passed over otherwise." },
    { "depth", .type = PARAM_NUMBER, .lo = 1, .hi = PATH_DEPTH_MAX,
      .help = "Levels of directories to list." },
    { "limit", .under = "/search", .type = PARAM_NUMBER, .lo = 1, .hi = FILE_SEARCH_LIMIT_MAX,
      .help = "Most matches; 1000 when absent." },
    { "limit", .under = "/files", .type = PARAM_NUMBER, .lo = 1, .hi = FILE_PAGE_LIMIT_MAX,
      .help = "Most entries of a page." },
    { "limit", .type = PARAM_NUMBER, .lo = 1, .hi = PAGE_LIMIT_MAX,
      .help = "Most of a page; 100 when absent." },
    { "cursor", .under = "/files", .schema = "format: entry-cursor",
      .help = "The next_cursor of the page before." },
    { "cursor", .schema = "format: sandbox-cursor", .help = "The next_cursor of the page before." },
    { "append", .type = PARAM_FLAG, .help = "Behind what is there instead of in its place." },
    { "q", .schema = "format: search-text", .help = "What a line holds; q or name must be there." },
    { "name", .schema = "format: glob", .help = "What a file is called: * ? [a-z] {a,b}." },
    { "regex", .type = PARAM_FLAG, .help = "q is a regular expression as PCRE2 knows them." },
    { "case", .type = PARAM_FLAG, .help = "false: capital and small letters are the same." },
    { "format", .under = "/import", .type = PARAM_WORD, .words = import_words,
      .help = "The archive tells what it is." },
    { "format", .type = PARAM_WORD, .words = archive_words, .help = "Of the archive." },
    { "offset", .type = PARAM_NUMBER, .lo = 0, .hi = INT64_MAX,
      .help = "The byte to begin at; those no longer kept are passed over." },
    { "follow", .type = PARAM_FLAG, .help = "Go on until it ends." },
    { "hold", .type = PARAM_FLAG, .help = "It waits for this reader, who misses nothing." },
    { "eof", .type = PARAM_FLAG, .help = "Close it behind these bytes." },
    { "tail", .type = PARAM_NUMBER, .lo = 1, .hi = INT64_MAX, .help = "Only so many last lines." },
    { "cols", .type = PARAM_NUMBER, .lo = 1, .hi = 1000, .help = "80 when absent." },
    { "rows", .type = PARAM_NUMBER, .lo = 1, .hi = 1000, .help = "24 when absent." },
    { "process", .schema = "format: terminal-id", .help = "Attach to this process." },
    { "status", .type = PARAM_WORD, .words = state_words, .help = "Only those." },
    { "external_user_id", .help = "Only this user's." },
    { "external_project_id", .help = "Only this project's." },
    { "metadata.", .help = "Only those with this pair; one at a time." },
    { "token", .help = "A preview token." },
    { "return", .help = "An address of that sandbox's preview." },

    { "Idempotency-Key", .schema = "pattern: \"^[!-~]{1,255}$\"",
      .help = "A retry with the same key gets the first answer, for 48 hours." },
    { "If-Match", .help = "Only if its etag is one of these." },
    { "If-None-Match", .help = "Only if its etag is none of these; * on a write: only if new." },
    { "Range", .help = "bytes=first-last, one range." },
    { "If-Range", .help = "Heed Range only while the etag is this." },
    { "Last-Event-ID", .schema = "pattern: \"^[0-9]{1,18}$\"",
      .help = "Takes the place of offset." },
    { "Upgrade", .type = PARAM_WORD, .words = websocket_words, .help = "RFC 6455." },
    { "Connection", .type = PARAM_WORD, .words = upgrade_words, .help = "RFC 6455." },
    { "Sec-WebSocket-Version", .type = PARAM_WORD, .words = version_words, .help = "RFC 6455." },
    { "Sec-WebSocket-Key", .schema = "pattern: \"^[A-Za-z0-9+/]{22}==$\"", .help = "RFC 6455." },
};

const char *param_next(const char *list, struct param_name *ret)
{
    *ret = (struct param_name){ 0 };
    if (!list || !*list)
        return NULL;
    size_t len = strcspn(list, " ");
    char last = list[len - 1];
    *ret = (struct param_name){ .name = list,
                                .len = len - (last == '!' || last == '*'),
                                .required = last == '!',
                                .family = last == '*' };
    return list + len + (list[len] == ' ');
}

static bool ends_in(const char *text, const char *end)
{
    size_t len = strlen(text), n = strlen(end);
    return len >= n && str_eq(text + len - n, end);
}

const struct param *param_find(const struct route *t, const struct param_name *n)
{
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        if (strlen(rows[i].name) == n->len && memcmp(rows[i].name, n->name, n->len) == 0 &&
            (!rows[i].under || ends_in(t->path, rows[i].under)))
            return &rows[i];
    abort();
}

static int check_number(const struct param *p, const char *value, struct err *err)
{
    uint64_t n = 0;
    if (str_u64(value, &n) && n <= INT64_MAX && (int64_t)n >= p->lo && (int64_t)n <= p->hi)
        return 0;
    return err_set(err, ERR_INVALID, "%s: must be a whole number from %lld to %lld", p->name,
                   (long long)p->lo, (long long)p->hi);
}

static int check_value(const struct param *p, const char *value, struct err *err)
{
    if (p->type == PARAM_NUMBER)
        return check_number(p, value, err);
    if (p->type == PARAM_FLAG && !str_eq(value, "true") && !str_eq(value, "false"))
        return err_set(err, ERR_INVALID, "%s: must be true or false", p->name);
    if (p->type != PARAM_WORD)
        return 0;
    char known[256];
    size_t used = 0;
    for (const char *const *w = p->words; *w; w++) {
        if (str_eq(*w, value))
            return 0;
        int n = snprintf(known + used, sizeof(known) - used, "%s%s", used ? ", " : "", *w);
        used += used + (size_t)n < sizeof(known) ? (size_t)n : 0;
    }
    return err_set(err, ERR_INVALID, "%s: must be one of %s", p->name, known);
}

static int check_one(const struct route *t, const char *name, const char *value, struct err *err)
{
    struct param_name n;
    for (const char *list = t->params; (list = param_next(list, &n));) {
        if (strncmp(name, n.name, n.len) != 0 || (!n.family && name[n.len]))
            continue;
        const struct param *p = param_find(t, &n);
        if (!p->bytes && !str_utf8(value, strlen(value)))
            return err_set(err, ERR_INVALID, "%.64s: is not UTF-8", name);
        return check_value(p, value, err);
    }
    return err_set(err, ERR_INVALID, "%.64s: no such parameter", name);
}

int params_check(const struct route *t, const struct query *q, struct err *err)
{
    struct param_name n;
    for (size_t i = 0; i < q->count; i++)
        if (check_one(t, q->names[i], q->values[i], err) < 0)
            return -1;
    for (const char *list = t->params; (list = param_next(list, &n));) {
        char name[64];
        (void)snprintf(name, sizeof(name), "%.*s", (int)n.len, n.name);
        const char *value = n.required ? query_get(q, name) : NULL;
        if (n.required && (!value || !*value))
            return err_set(err, ERR_INVALID, "%s: is required", name);
    }
    return 0;
}
