/* Settings: one row a knob in config.def; struct, parser, bounds, help and --print-env are read off
 * it. Read once at start from the environment or an env file; plain data afterwards. */
#ifndef CONFIG_CONFIG_H
#define CONFIG_CONFIG_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/buf.h"
#include "base/err.h"

struct config_bind {
    char host[64]; /* literal address, "localhost" resolved to 127.0.0.1 */
    uint16_t port;
    bool loopback;
};

struct config_token {
    char *name;         /* the tenant */
    uint8_t digest[32]; /* SHA-256 of the secret; the secret itself is erased */
};

struct config {
#define CFG_TEXT(member) char *member
#define CFG_NUMBER(member) int64_t member
#define CFG_BOOL(member) bool member
#define CFG(knob, alias, member, kind, def, lo, hi, flags, help) kind(member);
#include "config/config.def"
#undef CFG
#undef CFG_TEXT
#undef CFG_NUMBER
#undef CFG_BOOL
    /* parsed out of the above */
    struct config_bind api;
    struct config_bind edge;   /* where the edge listens, whichever PREVIEW_EDGE says */
    struct config_bind public; /* where visitors come in by HTTP: Traefik, or the edge itself */
    bool edge_builtin;
    char **images; /* what tenants may ask for, the default first */
    uint32_t n_images;
    struct config_token *tokens;
    uint32_t n_tokens;
    char **hosts; /* names (lower-case) that Host may carry, besides loopback names */
    uint32_t n_hosts;
    char **origins; /* allowed besides same-origin */
    uint32_t n_origins;
};

/* env_file: NULL or a file of NAME=value lines; names set in the process environment win, an empty
 * value counts as not set. -1 with ERR_INVALID: the message names the knob and the rule. Tokens are
 * erased from the process environment, so this works once a process. Before threads start. Caller
 * config_release()s. */
int config_load(const char *env_file, struct config *ret, struct err *err);
void config_release(struct config *c);
/* The table, as .env.example (markdown: as the README's table). */
void config_print(FILE *out, bool markdown);

#endif
