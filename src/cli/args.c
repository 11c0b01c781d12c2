/* A command line against the table of commands: pure.
 *
 * Options may stand anywhere before "--"; with COMMAND_REST they end at the second word, so that
 * `exec box ls -l` needs no "--". A common option may also stand before the command. */
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "command.h"

const struct option *option_find(const struct command *c, const char *name, size_t len)
{
    const struct option *lists[] = { common_options, c ? c->options : NULL };
    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++)
        for (const struct option *o = lists[i]; o && o->name; o++)
            if (strlen(o->name) == len && memcmp(o->name, name, len) == 0)
                return o;
    return NULL;
}

const struct option *option_by_letter(const struct command *c, char letter)
{
    const struct option *lists[] = { common_options, c ? c->options : NULL };
    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++)
        for (const struct option *o = lists[i]; o && o->name; o++)
            if (o->letter == letter)
                return o;
    return NULL;
}

static int give(struct args *a, const struct option *o, const char *value, struct err *err)
{
    if (a->n_given == ARGS_OPTIONS_MAX)
        return err_set(err, ERR_INVALID, "more than %d options", ARGS_OPTIONS_MAX);
    a->given[a->n_given].option = o;
    a->given[a->n_given++].value = value;
    return 0;
}

/* --name, --name=value, --name value; *at is left at the last word taken. */
static int long_option(struct args *a, char *const **at, struct err *err)
{
    const char *name = **at + 2;
    size_t len = strcspn(name, "=");
    const struct option *o = option_find(a->command, name, len);
    if (!o)
        return err_set(err, ERR_INVALID, "unknown option --%.*s", (int)(len < 64 ? len : 64), name);
    if (!o->value && name[len])
        return err_set(err, ERR_INVALID, "--%s takes no value", o->name);
    if (!o->value)
        return give(a, o, "", err);
    if (name[len])
        return give(a, o, name + len + 1, err);
    if (!(*at)[1])
        return err_set(err, ERR_INVALID, "--%s needs %s", o->name, o->value);
    return give(a, o, *++*at, err);
}

/* -x, -xy, -xVALUE, -x VALUE */
static int short_options(struct args *a, char *const **at, struct err *err)
{
    for (const char *p = **at + 1; *p; p++) {
        const struct option *o = option_by_letter(a->command, *p);
        if (!o)
            return err_set(err, ERR_INVALID, "unknown option -%c", *p);
        if (o->value && p[1])
            return give(a, o, p + 1, err);
        if (o->value && !(*at)[1])
            return err_set(err, ERR_INVALID, "-%c needs %s", *p, o->value);
        if (give(a, o, o->value ? *++*at : "", err) < 0)
            return -1;
        if (o->value)
            return 0;
    }
    return 0;
}

/* A command of the first word, or of the first two. */
static const struct command *command_of(const char *first, const char *second, bool *ret_two)
{
    size_t len = strlen(first);
    for (const struct command *c = commands; c->name; c++) {
        *ret_two = strncmp(c->name, first, len) == 0 && c->name[len] == ' ';
        if (str_eq(c->name, first) || (*ret_two && second && str_eq(c->name + len + 1, second)))
            return c;
    }
    return NULL;
}

static bool is_group(const char *word)
{
    size_t len = strlen(word);
    for (const struct command *c = commands; c->name; c++)
        if (strncmp(c->name, word, len) == 0 && c->name[len] == ' ')
            return true;
    return false;
}

static int take_command(struct args *a, char *const **at, struct err *err)
{
    const char *first = **at, *second = (*at)[1];
    bool two = false;
    a->command = command_of(first, second, &two);
    if (!a->command && is_group(first) && second && second[0] != '-')
        return err_set(err, ERR_INVALID, "%s has no command %s", first, second);
    if (!a->command)
        return err_set(err, ERR_INVALID,
                       is_group(first) ? "%s needs one of its commands" : "unknown command %s",
                       first);
    *at += two;
    return 0;
}

static int take_word(struct args *a, char *const **at, struct err *err)
{
    if (!a->command)
        return take_command(a, at, err);
    if (a->count == ARGS_WORDS_MAX)
        return err_set(err, ERR_INVALID, "more than %d arguments", ARGS_WORDS_MAX);
    a->words[a->count++] = **at;
    return 0;
}

static int check_count(const struct args *a, struct err *err)
{
    if (!a->command)
        return err_set(err, ERR_INVALID, "a command is missing");
    if (a->count < a->command->min)
        return err_set(err, ERR_INVALID, "too few arguments; wanted: %s", a->command->args);
    if (a->count > a->command->max)
        return err_set(err, ERR_INVALID, "unexpected argument %s", a->words[a->command->max]);
    return 0;
}

int args_parse(char *const *argv, struct args *ret, struct err *err)
{
    bool options = true;
    *ret = (struct args){ 0 };
    for (char *const *at = argv; *at; at++) {
        const char *word = *at;
        bool rest = ret->command && (ret->command->flags & COMMAND_REST) && ret->count >= 2;
        if (options && !rest && str_eq(word, "--")) {
            options = false;
            continue;
        }
        int rc = rest || !options || word[0] != '-' || !word[1] ? take_word(ret, &at, err)
                 : word[1] == '-'                               ? long_option(ret, &at, err)
                                                                : short_options(ret, &at, err);
        if (rc < 0)
            return -1;
    }
    return args_flag(ret, "help") ? 0 : check_count(ret, err);
}

const char *args_value(const struct args *a, const char *name)
{
    for (size_t i = a->n_given; i-- > 0;)
        if (str_eq(a->given[i].option->name, name))
            return a->given[i].value;
    return NULL;
}

bool args_flag(const struct args *a, const char *name)
{
    return args_value(a, name) != NULL;
}

const char *args_each(const struct args *a, const char *name, size_t *at)
{
    while (*at < a->n_given) {
        size_t i = (*at)++;
        if (str_eq(a->given[i].option->name, name))
            return a->given[i].value;
    }
    return NULL;
}

int args_duration(const char *option, const char *text, int64_t *ret_ms, struct err *err)
{
    static const struct {
        const char *unit;
        int64_t ms;
    } units[] = { { "", 1000 },   { "s", 1000 },    { "ms", 1 },
                  { "m", 60000 }, { "h", 3600000 }, { "d", 86400000 } };
    char digits[16];
    uint64_t n;
    size_t len = strspn(text, "0123456789");
    if (len > 0 && len < sizeof digits - 2) {
        memcpy(digits, text, len);
        digits[len] = '\0';
        for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
            if (str_eq(text + len, units[i].unit) && str_u64(digits, &n) &&
                n <= (uint64_t)(INT64_MAX / units[i].ms)) {
                *ret_ms = (int64_t)n * units[i].ms;
                return 0;
            }
        }
    }
    return err_set(err, ERR_INVALID, "--%s: %s is no duration such as 90s, 15m or 2h", option,
                   text);
}

int args_number(const char *option, const char *text, int64_t lo, int64_t hi, int64_t *ret,
                struct err *err)
{
    uint64_t n;
    if (!str_u64(text, &n) || n > INT64_MAX || (int64_t)n < lo || (int64_t)n > hi)
        return err_set(err, ERR_INVALID, "--%s: %s is no number from %lld to %lld", option, text,
                       (long long)lo, (long long)hi);
    *ret = (int64_t)n;
    return 0;
}

int args_pair(const char *option, const char *text, char **ret_name, const char **ret_value,
              struct err *err)
{
    const char *eq = strchr(text, '=');
    if (!eq || eq == text)
        return err_set(err, ERR_INVALID, "--%s: %s is not of the form NAME=VALUE", option, text);
    *ret_name = str_ndup(text, (size_t)(eq - text));
    *ret_value = eq + 1;
    return 0;
}
