/* A command on its way to the agent: what its environment and directory may be, and the one place
 * that builds a spawn frame. */
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/limits.h"
#include "base/str.h"
#include "inside.h"
#include "wire/frames.h"

#define READY_WAIT_MS 3000 /* an agent that redials after our restart: at most 500 ms */
#define HOME "/home/sandbox"
#define WORKSPACE HOME "/workspace"
#define RESERVED_PREFIX "SANDBOXED_"

static bool env_name_ok(const char *name)
{
    if (!((*name >= 'A' && *name <= 'Z') || (*name >= 'a' && *name <= 'z') || *name == '_'))
        return false;
    for (; *name; name++)
        if (!((*name >= 'A' && *name <= 'Z') || (*name >= 'a' && *name <= 'z') || *name == '_' ||
              (*name >= '0' && *name <= '9')))
            return false;
    return true;
}

int core_check_env(const struct strmap *env, struct err *err)
{
    size_t bytes = 0;
    if (env->count > SANDBOX_ENV_MAX)
        return err_set(err, ERR_INVALID, "env: more than %d variables", SANDBOX_ENV_MAX);
    for (size_t i = 0; i < env->count; i++) {
        const char *name = env->names[i];
        if (strlen(name) > 256 || !env_name_ok(name))
            return err_set(
                err, ERR_INVALID,
                "env: a name has letters, digits and _, does not begin with a digit, and is at "
                "most 256 bytes long");
        if (str_starts(name, RESERVED_PREFIX))
            return err_set(err, ERR_INVALID, "env.%s: names with " RESERVED_PREFIX " are reserved",
                           name);
        bytes += strlen(name) + strlen(env->values[i]) + 2;
    }
    if (bytes > SANDBOX_ENV_BYTES_MAX)
        return err_set(err, ERR_INVALID, "env: more than %u bytes", SANDBOX_ENV_BYTES_MAX);
    return 0;
}

/* Relative to the workspace; "." and ".." folded by text; must stay below home, or be /tmp or
 * below. The agent looks once more, with the kernel's eyes. */
static int parse_cwd(const char *text, char out[PATH_BYTES_MAX], struct err *err)
{
    size_t n = 0;
    if (!text)
        text = WORKSPACE;
    if (!*text || !str_utf8(text, strlen(text)) ||
        strlen(text) >= PATH_BYTES_MAX - sizeof WORKSPACE)
        return err_set(err, ERR_INVALID, "cwd: must be a path of at most %d bytes",
                       PATH_BYTES_MAX - 32);
    if (text[0] != '/') {
        n = strlen(WORKSPACE);
        memcpy(out, WORKSPACE, n);
    }
    while (*text) {
        size_t len = strcspn(text, "/");
        if (len == 2 && text[0] == '.' && text[1] == '.') {
            while (n > 0 && out[--n] != '/')
                continue;
        } else if (len > 0 && !(len == 1 && text[0] == '.')) {
            out[n++] = '/';
            memcpy(out + n, text, len);
            n += len;
        }
        text += len + (text[len] == '/');
    }
    out[n] = 0;
    static const char *const roots[] = { HOME, "/tmp", "/var/tmp" };
    for (size_t i = 0; i < sizeof roots / sizeof roots[0]; i++) {
        size_t len = strlen(roots[i]);
        if (strncmp(out, roots[i], len) == 0 && (out[len] == 0 || out[len] == '/'))
            return 0;
    }
    return err_set(err, ERR_INVALID, "cwd: must lie below " HOME ", /tmp or /var/tmp");
}

int core_check_cwd(const char *cwd, struct err *err)
{
    char out[PATH_BYTES_MAX];
    return parse_cwd(cwd, out, err);
}

/* NAME=value strings one after the other; a later map wins over an earlier one. */
static uint32_t put_env(struct buf *b, const struct strmap *const maps[], size_t n_maps)
{
    uint32_t count = 0;
    for (size_t m = 0; m < n_maps; m++) {
        for (size_t i = 0; maps[m] && i < maps[m]->count; i++) {
            bool again = false;
            for (size_t later = m + 1; later < n_maps; later++)
                again |= maps[later] && strmap_get(maps[later], maps[m]->names[i]);
            if (again)
                continue;
            buf_adds(b, maps[m]->names[i]);
            buf_addc(b, '=');
            buf_add(b, maps[m]->values[i], strlen(maps[m]->values[i]) + 1);
            count++;
        }
    }
    return count;
}

int core_spawn(struct core *c, const struct sandbox *s, const struct core_command *cmd, int *ret_fd,
               struct err *err)
{
    char *own_names[] = { (char[]){ "HOME" }, (char[]){ "USER" }, (char[]){ "TERM" } };
    char *own_values[] = { (char[]){ HOME }, (char[]){ "sandbox" }, (char[]){ "xterm-256color" } };
    struct strmap own = { own_names, own_values, cmd->cols ? 3 : 2 };
    const struct strmap *maps[] = { &own, &s->env, cmd->env };
    char cwd[PATH_BYTES_MAX];
    AUTO(buf) struct buf argv = BUF_INIT(EXEC_SPEC_MAX);
    AUTO(buf) struct buf env = BUF_INIT(EXEC_SPEC_MAX);
    if (cmd->argv->count == 0 || !cmd->argv->items[0][0])
        return err_set(err, ERR_INVALID, "cmd: must not be empty");
    if ((cmd->env && core_check_env(cmd->env, err) < 0) || parse_cwd(cmd->cwd, cwd, err) < 0)
        return -1;
    for (size_t i = 0; i < cmd->argv->count; i++)
        buf_add(&argv, cmd->argv->items[i], strlen(cmd->argv->items[i]) + 1);
    struct frame_spawn f = {
        .timeout_ms = cmd->timeout_ms,
        .flags = cmd->flags,
        .process = cmd->process,
        .cols = cmd->cols,
        .rows = cmd->rows,
        .cwd = cwd,
        .argc = (uint32_t)cmd->argv->count,
        .envc = put_env(&env, maps, 3),
    };
    f.argv = buf_str(&argv);
    f.env = buf_str(&env);
    if (argv.failed || env.failed || argv.len + env.len + strlen(cwd) > EXEC_SPEC_MAX)
        return err_set(err, ERR_TOO_LARGE, "cmd and env together are longer than %u bytes",
                       EXEC_SPEC_MAX);
    int64_t deadline = clock_mono_ms() + READY_WAIT_MS;
    if (link_wait_ready(c->p.link, &s->id, deadline, err) < 0) {
        if (err->code == ERR_NOT_FOUND || err->code == ERR_TIMEOUT)
            return err_set(err, ERR_UNAVAILABLE, "the sandbox's agent does not answer");
        return -1;
    }
    return link_spawn(c->p.link, &s->id, &f, argv.len, env.len, clock_mono_ms() + LINK_STREAM_MS,
                      ret_fd, err);
}
