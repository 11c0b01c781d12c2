/* Starting and signalling processes, for exec, shell and kill. Private to cli/. */
#ifndef CLI_REMOTE_H
#define CLI_REMOTE_H

#include "run.h"

struct remote_wish {
    bool stdin_open, hold;
    int cols, rows;   /* not 0: in a terminal of that size */
    const char *term; /* TERM; NULL: the daemon's */
};
/* The request's body: words[1] on are the command. ERR_INVALID: an option is wrong. */
int remote_body(const struct args *a, struct buf *b, const struct remote_wish *wish,
                struct err *err);
/* Starts it; *ret is the API's object. */
int remote_start(struct cli *c, const char *box, const struct buf *body, struct json **ret,
                 struct err *err);
/* Says why it did not start; returns the status, as a shell would. */
int remote_refused(const struct cli *c, const struct err *err);
int remote_signal(struct cli *c, const char *box, const char *process, int number, bool tree,
                  struct err *err);

#endif
