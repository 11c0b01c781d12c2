/* Help and the manual page, from the table of commands. */
#include <string.h>

#include "cli/cli.h"
#include "command.h"
#include "run.h"

static const struct {
    int status;
    const char *meaning;
} statuses[] = {
    { 0, "fine" },
    { STATUS_FAULT, "it did not work; standard error says why, and what helps" },
    { STATUS_USAGE, "the command line is wrong" },
    { STATUS_TIMEOUT, "exec: the command took longer than --timeout" },
    { STATUS_OURS, "exec, shell, wait: it did not work, and the command is not to blame" },
    { STATUS_NOT_RUN, "exec, shell: the command cannot be run" },
    { STATUS_NOT_FOUND, "exec, shell: there is no such command" },
    { STATUS_SIGNAL,
      "and above: exec, shell, wait: the command was ended by signal (status - 128)" },
};

static const struct {
    const char *name, *meaning;
} variables[] = {
    { "SANDBOXD_URL", "Where the API is; http://127.0.0.1:9090 if not set." },
    { "SANDBOXD_TOKEN",
      "The token. Other processes of the same user can read it, as any environment." },
    { "SANDBOXD_TOKEN_FILE", "A file that holds the token in its first line." },
    { "SANDBOXD_CA_FILE", "Certificates to trust instead of the system's, for https." },
};

static bool shown(const struct command *c)
{
    return !(c->flags & COMMAND_HIDDEN);
}

void cli_print_help(FILE *out)
{
    for (const struct command *c = commands; c->name; c++) {
        char left[64];
        if (!shown(c))
            continue;
        (void)snprintf(left, sizeof left, "%s %s", c->name, c->args);
        (void)fprintf(out, "  sandboxd %-30s %s\n", left, c->help);
    }
}

static void help_options(FILE *out, const char *title, const struct option *o)
{
    if (!o->name)
        return;
    (void)fprintf(out, "\n%s:\n", title);
    for (; o->name; o++) {
        char left[64], letter[8] = "    ";
        if (o->letter)
            (void)snprintf(letter, sizeof letter, "-%c, ", o->letter);
        (void)snprintf(left, sizeof left, "%s--%s%s%s", letter, o->name, o->value ? " " : "",
                       o->value ? o->value : "");
        (void)fprintf(out, "  %-28s %s\n", left, o->help);
    }
}

void help_command(FILE *out, const struct command *c)
{
    (void)fprintf(out, "usage: sandboxd %s [OPTION...]%s%s\n\n%s\n", c->name, *c->args ? " " : "",
                  c->args, c->help);
    if (c->more)
        (void)fprintf(out, "%s\n", c->more);
    help_options(out, "options", c->options);
    help_options(out, "for all commands", common_options);
}

int run_help(struct cli *c)
{
    if (c->args.count == 0) {
        cli_print_help(stdout);
        return 0;
    }
    char name[64];
    struct err err;
    bool any = false;
    (void)snprintf(name, sizeof name, "%s%s%s", c->args.words[0], c->args.words[1] ? " " : "",
                   c->args.words[1] ? c->args.words[1] : "");
    size_t len = strlen(name);
    for (const struct command *k = commands; k->name; k++) {
        bool group = strncmp(k->name, name, len) == 0 && k->name[len] == ' ';
        if (!shown(k) || (strcmp(k->name, name) != 0 && !group))
            continue;
        if (any)
            (void)fputc('\n', stdout);
        help_command(stdout, k);
        any = true;
    }
    if (any)
        return 0;
    (void)err_set(&err, ERR_INVALID, "there is no command %s", name);
    return wrong_usage(c, &err);
}

/* --- the manual page --- */

/* Text that troff takes as it is. */
static void put(FILE *out, const char *text)
{
    bool first = true;
    for (const char *p = text; *p; p++, first = false) {
        if (first && (*p == '.' || *p == '\''))
            (void)fputs("\\&", out);
        if (*p == '\\')
            (void)fputs("\\e", out);
        else if (*p == '-')
            (void)fputs("\\-", out);
        else
            (void)fputc(*p, out);
    }
}

/* "name" in bold, the rest as it is. */
static void item(FILE *out, const char *bold, const char *plain, const char *text)
{
    (void)fputs(".TP\n\\fB", out);
    put(out, bold);
    (void)fputs("\\fR", out);
    if (plain && *plain) {
        (void)fputc(' ', out);
        put(out, plain);
    }
    (void)fputc('\n', out);
    put(out, text);
    (void)fputc('\n', out);
}

static void man_options(FILE *out, const struct option *o)
{
    for (; o->name; o++) {
        char name[64];
        if (o->letter)
            (void)snprintf(name, sizeof name, "-%c, --%s", o->letter, o->name);
        else
            (void)snprintf(name, sizeof name, "--%s", o->name);
        item(out, name, o->value, o->help);
    }
}

void cli_print_man(FILE *out, const struct cli_other *others, size_t count)
{
    (void)fprintf(out,
                  ".TH SANDBOXD 1 \"\" \"sandboxd %s\" \"User Commands\"\n.SH NAME\n"
                  "sandboxd \\- isolated sandboxes on one Docker host\n.SH SYNOPSIS\n"
                  ".B sandboxd\n.I COMMAND\n[\\fIOPTION\\fR...] [\\fIARGUMENT\\fR...]\n"
                  ".SH DESCRIPTION\n",
                  SANDBOXED_VERSION);
    put(out,
        "The daemon and the client of its API are one program. A SANDBOX is named by its id, by "
        "the "
        "beginning of it (4 letters or more), by the name it was created with, or by its external "
        "project's id; what several answer to is refused. Data goes to standard output, all else "
        "to standard error.");
    (void)fputs("\n.SH COMMANDS OF THE CLIENT\n", out);
    for (const struct command *c = commands; c->name; c++) {
        if (!shown(c))
            continue;
        (void)fputs(".SS \"", out);
        put(out, c->name);
        (void)fprintf(out, "%s", *c->args ? " " : "");
        put(out, c->args);
        (void)fputs("\"\n", out);
        put(out, c->help);
        (void)fputc('\n', out);
        if (c->more) {
            (void)fputs(".PP\n", out);
            put(out, c->more);
            (void)fputc('\n', out);
        }
        man_options(out, c->options);
    }
    (void)fputs(".SH OPTIONS OF THE CLIENT\n", out);
    man_options(out, common_options);
    (void)fputs(".SH COMMANDS OF THE DAEMON\n", out);
    for (size_t i = 0; i < count; i++)
        item(out, others[i].synopsis, NULL, others[i].help);
    (void)fputs(".SH EXIT STATUS\n", out);
    for (size_t i = 0; i < sizeof statuses / sizeof statuses[0]; i++) {
        char number[8];
        (void)snprintf(number, sizeof number, "%d", statuses[i].status);
        item(out, number, NULL, statuses[i].meaning);
    }
    (void)fputs(".SH ENVIRONMENT\n", out);
    for (size_t i = 0; i < sizeof variables / sizeof variables[0]; i++)
        item(out, variables[i].name, NULL, variables[i].meaning);
    put(out, "The daemon's settings are told by sandboxd --print-env.");
    (void)fputc('\n', out);
}
