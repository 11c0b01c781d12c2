/* An env file: NAME=value lines as docker, systemd and shells write them. Private to config/. */
#ifndef CONFIG_ENVFILE_H
#define CONFIG_ENVFILE_H

#include <stddef.h>

#include "base/err.h"

struct env_pair {
    char *name;
    char *value;
    unsigned line;
};

struct env_file {
    struct env_pair *pairs;
    size_t count;
};

/* path is for messages only. ERR_INVALID names path and line, never a value. *ret is released on
 * failure. */
int envfile_parse(const char *path, const char *text, size_t len, struct env_file *ret,
                  struct err *err);
int envfile_read(const char *path, struct env_file *ret, struct err *err);
/* Erases the values before they are freed: some are secrets. */
void envfile_release(struct env_file *f);
/* NULL: not there. */
const char *envfile_get(const struct env_file *f, const char *name);

#endif
