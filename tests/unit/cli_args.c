/* Command lines against the table of commands. */
#include <string.h>

#include "base/str.h"
#include "check.h"
#include "command.h"

/* "exec|stdin,env=A=B|box,ls,-l": command, options, words */
static const struct {
    const char *line, *want; /* NULL: wrong usage */
} rows[] = {
    { "ls", "ls||" },
    { "show web", "show||web" },
    { "show web -o json", "show|output=json|web" },
    { "--url http://x show web", "show|url=http://x|web" },
    { "show --url=http://x web", "show|url=http://x|web" },
    { "show --url= web", "show|url=|web" },
    { "exec box ls -l -h", "exec||box,ls,-l,-h" },
    { "exec -i box -- ls -l", "exec|stdin|box,ls,-l" },
    { "exec box -i ls -i", "exec|stdin|box,ls,-i" },
    { "exec -ie A=B box x", "exec|stdin,env=A=B|box,x" },
    { "exec -eA=B -w/tmp box x", "exec|env=A=B,workdir=/tmp|box,x" },
    { "exec box -- -x -- y", "exec||box,-x,--,y" },
    { "exec box x --", "exec||box,x,--" },
    { "shell box", "shell||box" },
    { "files ls box:a", "files ls||box:a" },
    { "files grep -iE x box:", "files grep|ignore-case,regex|x,box:" },
    { "cp - box:a", "cp||-,box:a" },
    { "rm a b c", "rm||a,b,c" },
    { "rm -- -odd", "rm||-odd" },
    { "exec --help", "exec|help|" },
    { "--help", "none|help|" },
    { "", NULL },
    { "frob", NULL },
    { "files", NULL },
    { "files frob x", NULL },
    { "show", NULL },
    { "show a b", NULL },
    { "show --frob a", NULL },
    { "show -z a", NULL },
    { "show a --url", NULL },
    { "show a -o", NULL },
    { "exec box", NULL },
    { "exec -i=x box y", NULL },
    { "exec --stdin=x box y", NULL },
    { "show --", NULL },
};

static void describe(const struct args *a, char *out, size_t size)
{
    size_t n = (size_t)snprintf(out, size, "%s|", a->command ? a->command->name : "none");
    for (size_t i = 0; i < a->n_given; i++)
        n += (size_t)snprintf(out + n, size - n, "%s%s%s%s", i ? "," : "", a->given[i].option->name,
                              a->given[i].option->value ? "=" : "", a->given[i].value);
    n += (size_t)snprintf(out + n, size - n, "|");
    for (size_t i = 0; i < a->count; i++)
        n += (size_t)snprintf(out + n, size - n, "%s%s", i ? "," : "", a->words[i]);
}

static void check_lines(void)
{
    static struct args a;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char line[200], got[400], *words[20] = { 0 }, *save = NULL;
        struct err err;
        size_t n = 0;
        (void)snprintf(line, sizeof line, "%s", rows[i].line);
        for (char *w = strtok_r(line, " ", &save); w; w = strtok_r(NULL, " ", &save))
            words[n++] = w;
        int rc = args_parse(words, &a, &err);
        CHECK_ROW(rows[i].line, (rc == 0) == (rows[i].want != NULL));
        if (rc < 0 || !rows[i].want)
            continue;
        describe(&a, got, sizeof got);
        CHECK_STR(rows[i].want, got);
    }
}

static void check_values(void)
{
    static const struct {
        const char *text;
        int64_t ms; /* -1: refused */
    } times[] = { { "90", 90000 },    { "90s", 90000 },
                  { "1500ms", 1500 }, { "15m", 900000 },
                  { "2h", 7200000 },  { "1d", 86400000 },
                  { "0", 0 },         { "", -1 },
                  { "s", -1 },        { "-1s", -1 },
                  { "1 s", -1 },      { "1w", -1 },
                  { "1.5s", -1 },     { "99999999999999d", -1 } };
    struct err err;
    for (size_t i = 0; i < sizeof times / sizeof times[0]; i++) {
        int64_t ms = -1;
        int rc = args_duration("timeout", times[i].text, &ms, &err);
        CHECK_ROW(times[i].text, (rc == 0) == (times[i].ms >= 0) && ms == times[i].ms);
    }
    int64_t n = 7;
    CHECK(args_number("port", "65535", 1, 65535, &n, &err) == 0 && n == 65535);
    CHECK(args_number("port", "65536", 1, 65535, &n, &err) < 0 && n == 65535);
    CHECK(args_number("port", "x", 1, 65535, &n, &err) < 0);
    char *name = NULL;
    const char *value = NULL;
    CHECK(args_pair("env", "A=b=c", &name, &value, &err) == 0 && str_eq(name, "A") &&
          str_eq(value, "b=c"));
    free(name);
    CHECK(args_pair("env", "A=", &name, &value, &err) == 0 && str_eq(value, ""));
    free(name);
    CHECK(args_pair("env", "A", &name, &value, &err) < 0);
    CHECK(args_pair("env", "=b", &name, &value, &err) < 0);
}

/* What every row of the table must be. */
static void check_table(void)
{
    for (const struct command *c = commands; c->name; c++) {
        CHECK_ROW(c->name, c->run && c->help && c->args && c->options && c->min <= c->max);
        CHECK_ROW(c->name, c->help[strlen(c->help) - 1] == '.');
        for (const struct option *o = c->options; o->name; o++) {
            CHECK_ROW(o->name, o->help != NULL);
            for (const struct option *p = o + 1; p->name; p++)
                CHECK_ROW(c->name,
                          !str_eq(o->name, p->name) && (!o->letter || o->letter != p->letter));
            for (const struct option *p = common_options; p->name; p++)
                CHECK_ROW(c->name,
                          !str_eq(o->name, p->name) && (!o->letter || o->letter != p->letter));
        }
    }
}

int main(void)
{
    check_lines();
    check_values();
    check_table();
    return check_done();
}
