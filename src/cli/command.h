/* What a command is, and what was given to it. Private to cli/. */
#ifndef CLI_COMMAND_H
#define CLI_COMMAND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/err.h"

#define ARGS_WORDS_MAX 1100 /* an exec's own limit is 1024 */
#define ARGS_OPTIONS_MAX 512

enum { STATUS_FAULT = 1, STATUS_USAGE = 2 };
enum { STATUS_NO_MATCH = 1, STATUS_GREP_FAULT = 2 }; /* as grep's (POSIX.1-2017) */
/* Of exec, shell and wait, whose other statuses are the command's own. */
enum { STATUS_TIMEOUT = 124, STATUS_OURS = 125, STATUS_NOT_RUN = 126, STATUS_NOT_FOUND = 127 };
enum { STATUS_SIGNAL = 128 };

/* What a word is completed to. */
enum words { WORDS_ANY, WORDS_SANDBOX, WORDS_PROCESS, WORDS_PLACE, WORDS_FILE, WORDS_COMMAND };

struct option {
    const char *name;  /* --name; NULL ends a list */
    char letter;       /* -x; 0: none */
    const char *value; /* what follows, as help names it; NULL: nothing */
    const char *help;
    const char *choices; /* words with spaces between, for completion; NULL: any */
    enum words words;
};

struct cli;
struct command {
    const char *name; /* one word, or two: "files ls" */
    const char *args; /* as help names them */
    const char *help; /* a sentence */
    const char *more; /* a paragraph; NULL: none */
    const struct option *options;
    uint32_t min, max;   /* of words */
    enum words words[3]; /* of the first three words */
    unsigned flags;
    int (*run)(struct cli *c);
};
enum {
    COMMAND_REST = 1 << 0,   /* whatever stands behind the second word belongs to it, options too */
    COMMAND_STATUS = 1 << 1, /* the exit status is that of what runs in the sandbox */
    COMMAND_HIDDEN = 1 << 2, /* for programs: not in any list */
    COMMAND_NO_API = 1 << 3, /* needs no daemon */
};

extern const struct command commands[]; /* name NULL ends it */
extern const struct option common_options[];

struct args {
    const struct command *command;
    const char *words[ARGS_WORDS_MAX + 1]; /* NULL at the end */
    size_t count;
    struct {
        const struct option *option;
        const char *value;
    } given[ARGS_OPTIONS_MAX];
    size_t n_given;
};

/* Splits a command line (without the program's name). All texts are borrowed. -1 with ERR_INVALID:
 * wrong usage; ret->command is then what was meant, or NULL. --help stops it: nothing else is
 * checked then. */
int args_parse(char *const *argv, struct args *ret, struct err *err);
/* The last value; NULL: not given. */
const char *args_value(const struct args *a, const char *name);
bool args_flag(const struct args *a, const char *name);
/* Each value in turn, *at from 0; NULL: no more. */
const char *args_each(const struct args *a, const char *name, size_t *at);
/* Of the command, which may be NULL, or of all; NULL: none. */
const struct option *option_find(const struct command *c, const char *name, size_t len);
const struct option *option_by_letter(const struct command *c, char letter);
/* "1500ms", "30s", "15m", "2h", "1d"; a plain number counts seconds. */
int args_duration(const char *option, const char *text, int64_t *ret_ms, struct err *err);
int args_number(const char *option, const char *text, int64_t lo, int64_t hi, int64_t *ret,
                struct err *err);
/* "name=value" in two; the name is a copy the caller frees. */
int args_pair(const char *option, const char *text, char **ret_name, const char **ret_value,
              struct err *err);

void help_command(FILE *out, const struct command *c);

#endif
