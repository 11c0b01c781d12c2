/* From a command line to an exit status: finds the command, the daemon and the token, runs it.
 * What several commands share is here, too. Data goes to stdout and nothing else does. */
#include "cli/cli.h"

#include <errno.h>
#include <locale.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/limits.h"
#include "base/str.h"
#include "model/id.h"
#include "progress.h"
#include "run.h"
#include "text.h"
#include "wire/url.h"

/* --- saying what is wrong --- */

/* Messages quote names of files and the daemon's words, whatever those hold. */
static void say(const char *head, const char *text)
{
    AUTO(buf) struct buf b = BUF_INIT(16 * KIB);
    progress_end();
    (void)text_show(&b, text, strlen(text), 0);
    (void)fprintf(stderr, "sandboxd: %s%s\n", head, buf_str(&b));
}

int fail(const struct cli *c, const struct err *err)
{
    say("", err->msg);
    if (err->remedy[0])
        say("remedy: ", err->remedy);
    bool theirs = c->args.command && (c->args.command->flags & COMMAND_STATUS);
    return theirs ? STATUS_OURS : STATUS_FAULT;
}

int wrong_usage(const struct cli *c, const struct err *err)
{
    const struct command *command = c->args.command;
    say("", err->msg);
    (void)fprintf(stderr, "sandboxd: see sandboxd %s%s--help\n", command ? command->name : "",
                  command ? " " : "");
    return STATUS_USAGE;
}

void note(const char *fmt, ...)
{
    char text[1024];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    say("", text);
}

/* --- finding sandboxes --- */

void path_box(struct buf *b, const char *id, const char *tail)
{
    buf_addf(b, "/v1/sandboxes/%s%s", id, tail);
}

void path_query(struct buf *b, const char *name, const char *value)
{
    buf_addc(b, strchr(buf_str(b), '?') ? '&' : '?');
    buf_adds(b, name);
    buf_addc(b, '=');
    url_encode(b, value);
}

/* How well a sandbox answers to a word; 0: not at all. */
enum match { MATCH_NONE, MATCH_PREFIX, MATCH_PROJECT, MATCH_NAME };

static enum match match_of(const struct json *s, const char *word)
{
    const char *id = json_text(json_key(s, "id"));
    if (str_eq(json_text(json_at(s, "metadata.name")), word))
        return MATCH_NAME;
    if (str_eq(json_text(json_at(s, "external.project_id")), word))
        return MATCH_PROJECT;
    return id && strlen(word) >= 4 && strncasecmp(id, word, strlen(word)) == 0 ? MATCH_PREFIX
                                                                               : MATCH_NONE;
}

struct finding {
    enum match best;
    size_t count;
    char id[BOX_ID], other[BOX_ID];
};

static void find_in(const struct json *page, const char *word, struct finding *f)
{
    const struct json *list = json_key(page, "sandboxes");
    for (size_t i = 0; i < json_count(list); i++) {
        const struct json *s = json_item(list, i);
        enum match m = match_of(s, word);
        if (m == MATCH_NONE || m < f->best)
            continue;
        f->count = m > f->best ? 1 : f->count + 1;
        f->best = m;
        if (!str_copy(f->count == 1 ? f->id : f->other, BOX_ID, json_text(json_key(s, "id"))))
            f->count = 0; /* not an id: not this API */
    }
}

int box_find(struct cli *c, const char *word, char ret_id[BOX_ID], struct err *err)
{
    struct sandbox_id id;
    struct err bad;
    struct finding f = { 0 };
    AUTO(buf) struct buf cursor = BUF_INIT(1 * KIB);
    if (sandbox_id_parse(word, &id, &bad) == 0) {
        (void)str_copy(ret_id, BOX_ID, id.text); /* same sizes */
        return 0;
    }
    for (bool more = true; more;) {
        AUTO(buf) struct buf path = BUF_INIT(4 * KIB);
        AUTO(json) struct json *page = NULL;
        buf_adds(&path, "/v1/sandboxes?limit=1000");
        if (cursor.len)
            path_query(&path, "cursor", buf_str(&cursor));
        struct request rq = { .method = "GET", .path = buf_str(&path) };
        if (http_json(c->http, &rq, &page, err) < 0)
            return -1;
        find_in(page, word, &f);
        const char *next = json_text(json_key(page, "next_cursor"));
        buf_reset(&cursor);
        buf_adds(&cursor, next ? next : "");
        more = next != NULL;
    }
    if (f.count == 0) {
        (void)err_set(err, ERR_NOT_FOUND, "no sandbox answers to %s", word);
        return err_remedy(err, "sandboxd ls shows all; a name, or the first 4 letters of an id or "
                               "more, will do.");
    }
    if (f.count > 1) {
        (void)err_set(err, ERR_CONFLICT, "%zu sandboxes answer to %s: %s, %s%s", f.count, word,
                      f.id, f.other, f.count > 2 ? ", ..." : "");
        return err_remedy(err, "Take more of the id.");
    }
    (void)str_copy(ret_id, BOX_ID, f.id); /* same sizes */
    return 0;
}

bool place_is_remote(const char *word)
{
    const char *colon = strchr(word, ':'), *slash = strchr(word, '/');
    return colon && colon != word && (!slash || colon < slash);
}

int place_find(struct cli *c, const char *word, struct place *ret, struct err *err)
{
    size_t len = strcspn(word, ":");
    *ret = (struct place){ .path = word[len] ? word + len + 1 : "" };
    if (len == 0 || len >= sizeof ret->box)
        return err_set(err, ERR_INVALID, "%s: wanted is SANDBOX:PATH", word);
    memcpy(ret->box, word, len);
    return box_find(c, ret->box, ret->id, err);
}

/* --- replies and statuses --- */

int put_reply(struct cli *c, const struct request *rq, struct err *err)
{
    AUTO(buf) struct buf b = BUF_INIT(REPLY_MAX);
    if (http_call(c->http, rq, &b, err) < 0)
        return -1;
    (void)fwrite(buf_str(&b), 1, b.len, stdout); /* looked at in the end */
    return 0;
}

int signal_number(const char *name)
{
    uint64_t n;
    if (!name)
        return 0;
    if (str_u64(name, &n))
        return n < 65 ? (int)n : 0;
    if (strncasecmp(name, "SIG", 3) == 0)
        name += 3;
    if (str_u64(name, &n))
        return n < 65 ? (int)n : 0;
    for (int s = 1; s < NSIG; s++) {
        const char *abbrev = sigabbrev_np(s);
        if (abbrev && strcasecmp(abbrev, name) == 0)
            return s;
    }
    return 0;
}

int exit_status(const struct json *process)
{
    int64_t code = STATUS_OURS;
    int sig = signal_number(json_text(json_key(process, "signal")));
    if (json_yes(json_key(process, "timed_out")))
        return STATUS_TIMEOUT;
    if (sig)
        return STATUS_SIGNAL + sig;
    (void)json_int(json_key(process, "exit_code"), &code); /* lost: nobody knows */
    return (int)code & 0xff;
}

/* --- one run --- */

static const char *setting(const struct args *a, const char *option, const char *variable)
{
    const char *value = option ? args_value(a, option) : NULL;
    if (!value)
        value = secure_getenv(variable);
    return value && *value ? value : NULL;
}

static int connect_to(struct cli *c, struct err *err)
{
    const struct http_place place = {
        .url = setting(&c->args, "url", "SANDBOXD_URL"),
        .token = setting(&c->args, NULL, "SANDBOXD_TOKEN"),
        .token_file = setting(&c->args, "token-file", "SANDBOXD_TOKEN_FILE"),
        .ca_file = setting(&c->args, "ca-file", "SANDBOXD_CA_FILE"),
    };
    return http_new(&place, &c->http, err);
}

static int run(struct cli *c)
{
    struct err err;
    const char *format = args_value(&c->args, "output");
    c->json = str_eq(format, "json");
    if (format && !c->json && !str_eq(format, "table")) {
        (void)err_set(&err, ERR_INVALID, "--output: must be json or table");
        return wrong_usage(c, &err);
    }
    if (!(c->args.command->flags & COMMAND_NO_API) && connect_to(c, &err) < 0)
        return fail(c, &err);
    return c->args.command->run(c);
}

bool cli_knows(const char *word)
{
    size_t len = strlen(word);
    if (str_starts(word, "--") || str_starts(word, "-o"))
        return str_starts(word, "-o") ||
               (!str_eq(word, "--help") && option_find(NULL, word + 2, strcspn(word + 2, "=")));
    for (const struct command *c = commands; c->name; c++)
        if (strncmp(c->name, word, len) == 0 && (c->name[len] == '\0' || c->name[len] == ' '))
            return true;
    return false;
}

int cli_run(int argc, char **argv)
{
    static struct cli c; /* large, and zero */
    struct err err;
    (void)argc;
    (void)setlocale(LC_CTYPE, "C.UTF-8"); /* without it wide characters count one column */
    int status;
    if (args_parse(argv + 1, &c.args, &err) < 0) {
        status = wrong_usage(&c, &err);
    } else if (args_flag(&c.args, "help")) {
        if (c.args.command)
            help_command(stdout, c.args.command);
        else
            cli_print_help(stdout);
        status = 0;
    } else {
        status = run(&c);
    }
    progress_end();
    if ((fflush(stdout) != 0 || ferror(stdout)) && status == 0) {
        (void)err_sys(&err, errno, "cannot write to standard output");
        status = fail(&c, &err);
    }
    http_free(c.http);
    return status;
}
