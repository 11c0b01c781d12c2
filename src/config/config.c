/* Settings: the table's reader and printer. Which source wins: the process environment (name or
 * alias), then the env file, then the default; an empty value counts as not set. Secrets leave the
 * environment block, too, so that /proc/self/environ does not hold them. */
#include "config/config.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/limits.h"
#include "base/str.h"
#include "envfile.h"
#include "values.h"

enum kind { CFG_TEXT, CFG_NUMBER, CFG_BOOL };
enum { CFGF_SECRET = 1 << 0, CFGF_DURATION = 1 << 1 };

struct knob {
    const char *name, *alias;
    enum kind kind;
    size_t offset;
    const char *def;
    int64_t lo, hi;
    unsigned flags;
    const char *help;
};

static const struct knob knobs[] = {
#define CFG(knob_, alias_, member, kind_, def_, lo_, hi_, flags_, help_) \
    { knob_, alias_, kind_, offsetof(struct config, member), def_, lo_, hi_, flags_, help_ },
#include "config/config.def"
#undef CFG
};
#define KNOBS (sizeof knobs / sizeof knobs[0])

static const char *from_env(const struct env_file *unused, const char *name)
{
    (void)unused;
    return secure_getenv(name);
}

/* Looks for a knob in one source under both names. *ret stays NULL when it is not set there. */
static int look(const struct knob *k,
                const char *(*get)(const struct env_file *f, const char *name),
                const struct env_file *f, const char **ret, struct err *err)
{
    const char *value = get(f, k->name), *other = k->alias[0] ? get(f, k->alias) : NULL;
    if (value && !*value)
        value = NULL;
    if (other && !*other)
        other = NULL;
    if (value && other && !str_eq(value, other))
        return err_set(err, ERR_INVALID, "%s and its alias %s are both set and differ", k->name,
                       k->alias);
    *ret = value ? value : other;
    return 0;
}

static void print_number(const struct knob *k, int64_t n, char *out, size_t size)
{
    if (k->flags & CFGF_DURATION)
        value_duration_text(n, out, size);
    else
        (void)snprintf(out, size, "%lld", (long long)n); /* 20 digits fit every caller's array */
}

static int set_number(const struct knob *k, const char *text, int64_t *ret, struct err *err)
{
    char bound[24];
    uint64_t u = 0;
    int64_t n = 0;
    if (k->flags & CFGF_DURATION) {
        if (!value_duration(text, &n))
            return err_set(err, ERR_INVALID,
                           "%s: \"%.40s\" is not a time such as 500ms, 10s or 15m", k->name, text);
    } else {
        if (!str_u64(text, &u) || u > INT64_MAX)
            return err_set(err, ERR_INVALID, "%s: \"%.40s\" is not a whole number", k->name, text);
        n = (int64_t)u;
    }
    if (n < k->lo || n > k->hi) {
        print_number(k, n < k->lo ? k->lo : k->hi, bound, sizeof bound);
        return err_set(err, ERR_INVALID, "%s: %.40s is %s %s", k->name, text,
                       n < k->lo ? "below" : "above", bound);
    }
    *ret = n;
    return 0;
}

static int set_text(const struct knob *k, const char *text, char **ret, struct err *err)
{
    size_t len = strlen(text);
    if (len > CONFIG_VALUE_MAX)
        return err_set(err, ERR_INVALID, "%s: longer than %u bytes", k->name, CONFIG_VALUE_MAX);
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)text[i] < ' ' || text[i] == 0x7f)
            return err_set(err, ERR_INVALID, "%s: holds a control character", k->name);
    *ret = str_dup(text);
    return 0;
}

static int set_knob(const struct knob *k, const struct env_file *f, struct config *c,
                    struct err *err)
{
    const char *text = NULL;
    void *at = (char *)c + k->offset;
    if (look(k, from_env, f, &text, err) < 0 || (!text && look(k, envfile_get, f, &text, err) < 0))
        return -1;
    if (!text)
        text = k->def;
    if (k->kind == CFG_NUMBER)
        return set_number(k, text, at, err);
    if (k->kind == CFG_TEXT)
        return set_text(k, text, at, err);
    if (!value_bool(text, at))
        return err_set(err, ERR_INVALID, "%s: \"%.40s\" is not true or false", k->name, text);
    return 0;
}

/* A misspelt knob of ours must not pass silently; other programs' names in a shared file may. */
static int check_names(const char *path, const struct env_file *f, struct err *err)
{
    for (size_t i = 0; i < f->count; i++) {
        const struct env_pair *p = &f->pairs[i];
        bool known = !str_starts(p->name, "SANDBOX");
        for (size_t j = 0; j < KNOBS && !known; j++)
            known = str_eq(p->name, knobs[j].name) || str_eq(p->name, knobs[j].alias);
        if (!known)
            return err_set(err, ERR_INVALID, "%s:%u: %.64s is not a setting (see --print-env)",
                           path, p->line, p->name);
    }
    return 0;
}

static void erase_environment(void)
{
    for (size_t i = 0; i < KNOBS; i++) {
        char *value = knobs[i].flags & CFGF_SECRET ? secure_getenv(knobs[i].name) : NULL;
        if (!value)
            continue;
        mem_erase(value, strlen(value)); /* the block itself: /proc shows it */
        (void)unsetenv(knobs[i].name);   /* only fails for a bad name */
    }
}

int config_load(const char *env_file, struct config *ret, struct err *err)
{
    struct env_file f = { 0 };
    struct config c = { 0 };
    int rc = env_file ? envfile_read(env_file, &f, err) : 0;
    if (rc == 0)
        rc = check_names(env_file, &f, err);
    for (size_t i = 0; i < KNOBS && rc == 0; i++)
        rc = set_knob(&knobs[i], &f, &c, err);
    if (rc == 0)
        rc = values_derive(&c, err);
    erase_environment();
    envfile_release(&f);
    if (rc < 0) {
        config_release(&c);
        return -1;
    }
    *ret = c;
    return 0;
}

static void release_names(char **names, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        free(names[i]);
    free(names);
}

void config_release(struct config *c)
{
    for (size_t i = 0; i < KNOBS; i++) {
        char **text = (char **)(void *)((char *)c + knobs[i].offset);
        if (knobs[i].kind != CFG_TEXT || !*text)
            continue;
        mem_erase(*text, strlen(*text));
        free(*text);
    }
    for (uint32_t i = 0; i < c->n_tokens; i++)
        free(c->tokens[i].name);
    free(c->tokens);
    release_names(c->images, c->n_images);
    release_names(c->hosts, c->n_hosts);
    release_names(c->origins, c->n_origins);
    *c = (struct config){ 0 };
}

/* --- printing --- */

static void print_range(FILE *out, const struct knob *k)
{
    char lo[24], hi[24];
    if (k->kind != CFG_NUMBER)
        return;
    print_number(k, k->lo, lo, sizeof lo);
    print_number(k, k->hi, hi, sizeof hi);
    (void)fprintf(out, " %s to %s.", lo, hi);
}

/* Breaks a comment at word ends. */
static void print_comment(FILE *out, const char *text)
{
    while (*text) {
        size_t len = strlen(text);
        if (len > 98) {
            len = 98;
            while (len > 0 && text[len] != ' ')
                len--;
        }
        (void)fprintf(out, "# %.*s\n", (int)len, text);
        text += len;
        while (*text == ' ')
            text++;
    }
}

static void print_example(FILE *out, const struct knob *k)
{
    char *text = NULL;
    size_t size = 0;
    FILE *mem = open_memstream(&text, &size);
    if (!mem)
        abort();
    (void)fprintf(mem, "%s", k->help);
    print_range(mem, k);
    if (k->alias[0])
        (void)fprintf(mem, " Also read as %s.", k->alias);
    if (fclose(mem) != 0)
        abort();
    print_comment(out, text);
    (void)fprintf(out, "#%s=%s\n\n", k->name, k->def);
    free(text);
}

void config_print(FILE *out, bool markdown)
{
    if (markdown) {
        (void)fprintf(out, "| setting | default | meaning |\n|---|---|---|\n");
        for (size_t i = 0; i < KNOBS; i++) {
            const struct knob *k = &knobs[i];
            (void)fprintf(out, "| `%s`", k->name);
            if (k->alias[0])
                (void)fprintf(out, "<br>(`%s`)", k->alias);
            (void)fprintf(out, k->def[0] ? " | `%s` | %s" : " | %s | %s", k->def, k->help);
            print_range(out, k);
            (void)fprintf(out, " |\n");
        }
        return;
    }
    (void)fprintf(out, "# Settings of sandboxd, with their defaults. Printed by `sandboxd "
                       "--print-env`.\n"
                       "# Read from the environment or from a file (--env-file); the environment "
                       "wins.\n\n");
    for (size_t i = 0; i < KNOBS; i++)
        print_example(out, &knobs[i]);
}
