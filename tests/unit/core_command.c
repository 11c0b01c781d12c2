/* Where a command may run and what its environment may be, as the agent is told. */
#include "corerig.h"
#include "inside.h"

static struct err err;

/* What the fake agent is asked to run is looked at through the frame that reaches it: a relay in
 * its place would be another agent, so core_spawn's refusals and the values below are enough. */
static const struct {
    const char *cwd;
    bool good;
} cwds[] = {
    { NULL, true },
    { "", false },
    { ".", true },
    { "..", true }, /* /home/sandbox */
    { "../..", false },
    { "../../..", false },
    { "app", true },
    { "./app/../app//x/", true },
    { "app/../../..", false },
    { "/home/sandbox", true },
    { "/home/sandbox/", true },
    { "/home/sandbox/workspace", true },
    { "/home/sandbox/../sandbox", true },
    { "/home/sandboxes", false },
    { "/home/sandbox2/x", false },
    { "/home", false },
    { "/", false },
    { "//", false },
    { "/tmp", true },
    { "/tmp/", true },
    { "/tmp/x/../y", true },
    { "/tmp/..", false },
    { "/tmpx", false },
    { "/var/tmp", true },
    { "/var/tmp/x", true },
    { "/var", false },
    { "/etc", false },
    { "/proc/self/cwd", false },
    { "/.sandboxed/run", false },
    { "~", true }, /* a directory of that name */
    { "\xff", false },
    { "a\xc3\xa4", true },
};

static const struct {
    const char *name, *value;
    bool good;
} envs[] = {
    { "A", "x", true },
    { "_", "", true },
    { "a1_B", "x=y", true },
    { "PATH", "/x", true },
    { "HOME", "/elsewhere", true },
    { "LD_PRELOAD", "/x.so", true }, /* in the sandbox: its own business */
    { "SANDBOXEDX", "x", true },
    { "SANDBOXED_X", "x", false },
    { "SANDBOXED_", "x", false },
    { "", "x", false },
    { "1A", "x", false },
    { "A-B", "x", false },
    { "A=B", "x", false },
    { "A B", "x", false },
    { "A.B", "x", false },
    { "\xc3\xa4", "x", false },
};

static int spawn(const struct sandbox *s, const char *cwd, const struct strmap *env,
                 const char *word)
{
    struct strv argv = { 0 };
    int fd = -1;
    strv_add(&argv, word);
    struct core_command cmd = { .argv = &argv, .cwd = cwd, .env = env };
    int rc = core_spawn(rig.core, s, &cmd, &fd, &err);
    if (rc == 0)
        (void)close(fd);
    strv_release(&argv);
    return rc;
}

static void check_env(void)
{
    for (size_t i = 0; i < sizeof envs / sizeof envs[0]; i++) {
        struct strmap env = { 0 };
        strmap_add(&env, envs[i].name, envs[i].value);
        int rc = core_check_env(&env, &err);
        CHECK_ROW(envs[i].name, envs[i].good
                                    ? rc == 0
                                    : rc < 0 && err.code == ERR_INVALID && strstr(err.msg, "env"));
        strmap_release(&env);
    }
    struct strmap env = { 0 };
    char name[300];
    memset(name, 'A', sizeof name);
    name[256] = 0;
    strmap_add(&env, name, "x");
    CHECK(core_check_env(&env, &err) == 0);
    strmap_release(&env);
    name[256] = 'A';
    name[257] = 0;
    strmap_add(&env, name, "x");
    CHECK(core_check_env(&env, &err) < 0);
    strmap_release(&env);
    for (int i = 0; i <= SANDBOX_ENV_MAX; i++) {
        (void)snprintf(name, sizeof name, "A%d", i);
        CHECK(core_check_env(&env, &err) == 0);
        strmap_add(&env, name, "x");
    }
    CHECK(core_check_env(&env, &err) < 0 && strstr(err.msg, "more than"));
    strmap_release(&env);
    char *large = mem_new(SANDBOX_ENV_BYTES_MAX + 1, 1);
    memset(large, 'x', SANDBOX_ENV_BYTES_MAX);
    strmap_add(&env, "A", large);
    CHECK(core_check_env(&env, &err) < 0);
    large[SANDBOX_ENV_BYTES_MAX - 3] = 0;
    strmap_release(&env);
    strmap_add(&env, "A", large);
    CHECK(core_check_env(&env, &err) == 0);
    strmap_release(&env);
    free(large);
}

int main(void)
{
    rig_up();
    struct sandbox_id id = rig_create();
    const struct sandbox *s;
    CHECK(core_get(rig.core, &me, &id, &s, &err) == 0);
    for (size_t i = 0; i < sizeof cwds / sizeof cwds[0]; i++) {
        int rc = spawn(s, cwds[i].cwd, NULL, "exit");
        CHECK_ROW(cwds[i].cwd ? cwds[i].cwd : "(none)",
                  cwds[i].good ? rc == 0
                               : rc < 0 && err.code == ERR_INVALID && strstr(err.msg, "cwd"));
    }
    char *deep = mem_new(1, PATH_BYTES_MAX + 10);
    memset(deep, 'a', PATH_BYTES_MAX);
    CHECK(spawn(s, deep, NULL, "exit") < 0 && strstr(err.msg, "cwd"));
    deep[PATH_BYTES_MAX - 40] = 0;
    CHECK(spawn(s, deep, NULL, "exit") == 0);
    memset(deep, '/', PATH_BYTES_MAX - 40);
    CHECK(spawn(s, deep, NULL, "exit") < 0);
    free(deep);
    CHECK(spawn(s, NULL, NULL, "") < 0 && strstr(err.msg, "cmd"));
    struct strv none = { 0 };
    struct core_command cmd = { .argv = &none };
    int fd;
    CHECK(core_spawn(rig.core, s, &cmd, &fd, &err) < 0 && strstr(err.msg, "cmd"));
    char *word = mem_new(1, EXEC_SPEC_MAX + 1);
    memset(word, 'w', EXEC_SPEC_MAX);
    CHECK(spawn(s, NULL, NULL, word) < 0 && err.code == ERR_TOO_LARGE);
    free(word);
    core_unref(s);
    check_env();
    uint64_t freed;
    CHECK(core_purge(rig.core, &me, &id, &freed, &err) == 0);
    rig_down();
    return check_done();
}
