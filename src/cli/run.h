/* One run of a command, and all their handlers. Private to cli/. */
#ifndef CLI_RUN_H
#define CLI_RUN_H

#include "base/buf.h"
#include "base/err.h"
#include "command.h"
#include "http.h"
#include "wire/json.h"

#define REPLY_MAX (64u * MIB) /* a page of 1,000 sandboxes */

struct cli {
    struct args args;
    struct http *http;
    bool json;
};

/* Says it on stderr, with its remedy; returns the status that the command fails with. */
int fail(const struct cli *c, const struct err *err);
/* As fail, but the command was used wrongly: STATUS_USAGE. */
int wrong_usage(const struct cli *c, const struct err *err);
/* A line for people, on stderr; harmless whatever it quotes. */
void note(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* A sandbox by its id, its name, its external project's id or the beginning of its id.
 * ERR_NOT_FOUND, ERR_CONFLICT when several answer to it. */
#define BOX_ID 27 /* bytes of an id, with NUL */
int box_find(struct cli *c, const char *word, char ret_id[BOX_ID], struct err *err);

/* "SANDBOX:PATH"; false: a local path. The sandbox's part is cut at the colon. */
struct place {
    char box[300];
    const char *path; /* "" when there is no colon, or nothing behind it */
    char id[BOX_ID];
};
bool place_is_remote(const char *word);
int place_find(struct cli *c, const char *word, struct place *ret, struct err *err);

/* "/v1/sandboxes/<id><tail>" and query parameters. */
void path_box(struct buf *b, const char *id, const char *tail);
void path_query(struct buf *b, const char *name, const char *value);

/* The reply's JSON text as it came, with a line end. */
int put_reply(struct cli *c, const struct request *rq, struct err *err);

/* Number of "SIGTERM", "TERM" or "15"; 0: none. */
int signal_number(const char *name);
/* What a process ended with, as a shell tells it, from its object of the API. */
int exit_status(const struct json *process);

int run_create(struct cli *c), run_ls(struct cli *c), run_show(struct cli *c);
int run_start(struct cli *c), run_stop(struct cli *c), run_pause(struct cli *c);
int run_rm(struct cli *c), run_purge(struct cli *c);
int run_exec(struct cli *c), run_shell(struct cli *c), run_cp(struct cli *c);
int run_ps(struct cli *c), run_services(struct cli *c), run_logs(struct cli *c);
int run_kill(struct cli *c), run_wait(struct cli *c);
int run_files_ls(struct cli *c), run_files_cat(struct cli *c), run_files_stat(struct cli *c);
int run_files_rm(struct cli *c), run_files_mv(struct cli *c), run_files_cp(struct cli *c);
int run_files_mkdir(struct cli *c), run_files_chmod(struct cli *c), run_files_find(struct cli *c);
int run_files_grep(struct cli *c), run_files_watch(struct cli *c);
int run_completion(struct cli *c), run_help(struct cli *c), run_complete(struct cli *c);

#endif
