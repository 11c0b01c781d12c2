/* The bodies that requests carry, as structs and their field tables. Checks that a table cannot say
 * (identities, sizes) are the functions at the end. Threads: any. */
#ifndef SHAPES_H
#define SHAPES_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/field.h"
#include "core/core.h"

struct external_body {
    char *user_id;
    char *project_id;
    char *workspace_id;
};

struct project_body {
    char *id;
    char *user_id;
};

struct limits_body {
    uint32_t memory_mib;
    char *cpus; /* JSON text of a number of cores */
    uint32_t pids;
    uint32_t disk_mib;
};

struct create_body {
    char *id;
    char *image;
    struct u16v ports;
    bool ports_seen;
    struct strmap env;
    struct strmap metadata;
    struct limits_body limits;
    struct external_body external;
    struct project_body project;
    bool project_seen;
    int visibility;
    int idle_policy;
    uint32_t idle_timeout_s; /* 0: the setting's */
    uint32_t stop_timeout_s;
    uint32_t ttl_s;
    struct objv services; /* of struct service */
    char *memory_high;
    /* known by name, not served yet */
    char *template;
    char *template_path;
    char *from_snapshot;
    char *git_remote_url;
};

struct exec_body {
    char *cmd; /* JSON text: a list of strings, or one string for the shell */
    char *stdin_text;
    char *cwd;
    struct strmap env;
    uint32_t timeout_ms;
    bool stream;
    bool detach;
    char *service; /* JSON: true, or a name */
};

struct process_body {
    char *cmd; /* as in exec_body */
    char *cwd;
    struct strmap env;
    uint32_t timeout_ms;
    bool stdin_open, hold;
    struct resize_body {
        uint32_t cols, rows;
    } pty;
    bool pty_seen;
    int on_disconnect; /* enum on_disconnect */
    struct process_service_body {
        char *name;
        int restart;
        struct ready_body {
            uint32_t port;
            char *health_path;
            char *log;
        } ready;
    } service;
    bool service_seen;
};
enum on_disconnect { ON_DISCONNECT_KEEP, ON_DISCONNECT_KILL };
extern const char *const on_disconnect_names[]; /* "keep", "kill"; NULL-terminated */

struct signal_body {
    char *signal; /* "SIGTERM", "TERM" or a number as JSON */
    bool tree;
};

struct keepalive_body {
    int64_t until; /* Unix seconds */
    bool until_seen;
};

struct patch_body {
    int visibility;
    bool visibility_seen;
};

struct share_body {
    int64_t ttl_s;
    bool ttl_seen;
    bool once;
    uint32_t port; /* 0: the first declared one */
};

struct put_body {
    char *path;
    char *content;
    bool append;
};

struct file_pair_body {
    char *from;
    char *from_base64; /* a name that is no text */
    char *to;
    bool overwrite;
};

struct file_mkdir_body {
    char *path;
    bool parents, parents_seen; /* true when absent */
    char *mode;
};

struct file_chmod_body {
    char *path;
    char *mode;
};

struct file_batch_item {
    char *path;
    char *content;
    char *base64;
};

struct file_batch_body {
    struct objv files; /* of struct file_batch_item */
};

extern const struct shape shape_file_pair, shape_file_mkdir, shape_file_chmod, shape_file_batch;
extern const struct shape shape_create, shape_create_legacy;
extern const struct shape shape_exec, shape_exec_legacy;
extern const struct shape shape_keepalive, shape_keepalive_legacy;
extern const struct shape shape_put, shape_patch, shape_share;
extern const struct shape shape_process, shape_signal, shape_resize;

/* Turns a decoded create into core's request; everything borrowed from b, and ports sorted.
 * v1: ports default to 3000, `project` makes it idempotent. Errors name the field. */
int create_check(struct create_body *b, bool v1, struct core_create *ret, struct err *err);
/* cmd → argv. Caller strv_release()s. */
int exec_argv(const struct exec_body *b, struct strv *ret, struct err *err);

#endif
