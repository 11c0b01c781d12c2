/* Errors: cut, never overrun; full disks are told apart; logs stay one line each. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "base/log.h"
#include "check.h"

static void check_messages(void)
{
    struct err err;
    char huge[1000];
    memset(huge, 'x', sizeof huge);
    huge[sizeof huge - 1] = 0;
    CHECK(err_set(&err, ERR_CONFLICT, "%s is %d", "it", 7) == -1 && err.code == ERR_CONFLICT);
    CHECK_STR("it is 7", err.msg);
    CHECK(err_remedy(&err, "do %s", "that") == -1);
    CHECK(err_wrap(&err, "while %s", "here") == -1 && err.code == ERR_CONFLICT);
    CHECK_STR("while here: it is 7", err.msg);
    CHECK_STR("do that", err.remedy);
    CHECK(err_set(&err, ERR_INTERNAL, "%s", huge) == -1 && strlen(err.msg) == sizeof err.msg - 1);
    CHECK(err.remedy[0] == 0); /* a new error does not keep an old remedy */
    CHECK(err_wrap(&err, "outer") == -1 && strlen(err.msg) == sizeof err.msg - 1);
    CHECK(strncmp(err.msg, "outer: xxx", 10) == 0);
    CHECK(err_wrap(&err, "%s", huge) == -1 && strlen(err.msg) == sizeof err.msg - 1);
    CHECK(err_sys(&err, ENOENT, "open %s", "f") == -1 && err.code == ERR_INTERNAL);
    CHECK_STR("open f: No such file or directory", err.msg);
    CHECK(err_sys(&err, ENOSPC, "write") == -1 && err.code == ERR_NO_SPACE);
    CHECK(err_sys(&err, EDQUOT, "write") == -1 && err.code == ERR_NO_SPACE && err.sys == EDQUOT);
}

static void check_names(void)
{
    for (int i = 0; i < ERR_CODE_COUNT; i++) {
        const char *name = err_name((enum err_code)i);
        CHECK_ROW(name,
                  name && *name && strspn(name, "abcdefghijklmnopqrstuvwxyz_") == strlen(name));
    }
    CHECK_STR("internal", err_name(ERR_CODE_COUNT));
    CHECK(err_retryable(ERR_ENGINE) && !err_retryable(ERR_INVALID));
}

/* What log_line writes for these fields, read back through a pipe on standard error. */
static void logged(const struct log_kv *kv, char *out, size_t size)
{
    int ends[2], keep = dup(STDERR_FILENO);
    if (pipe2(ends, O_CLOEXEC) < 0)
        return;
    (void)dup2(ends[1], STDERR_FILENO);
    log_line(LOG_WARN, "unit.tested", kv);
    (void)dup2(keep, STDERR_FILENO);
    (void)close(ends[1]);
    (void)close(keep);
    ssize_t n = read(ends[0], out, size - 1);
    (void)close(ends[0]);
    out[n > 0 ? n : 0] = 0;
}

static void check_log(void)
{
    char line[8192], huge[6000];
    logged(
        (const struct log_kv[]){
            KV_STR("a", "q\"b\\n\n\x01"), KV_INT("n", -5), KV_STR("null", NULL), { 0 } },
        line, sizeof line);
    CHECK(strstr(
        line, ",\"level\":\"warn\",\"event\":\"unit.tested\",\"a\":\"q\\\"b\\\\n\\u000a\\u0001\","
              "\"n\":-5,\"null\":\"\"}\n"));
    CHECK(strchr(line, '\n') == line + strlen(line) - 1);
    logged((const struct log_kv[]){ KV_STR("bad", "\xff"), { 0 } }, line, sizeof line);
    CHECK(strstr(line, "\"bad\":\"\\u00ff\"}\n"));
    memset(huge, 'h', sizeof huge);
    huge[sizeof huge - 1] = 0;
    logged((const struct log_kv[]){ KV_STR("huge", huge), KV_STR("after", "x"), { 0 } }, line,
           sizeof line);
    CHECK(strlen(line) <= 4096 && strstr(line, "h...\"}\n"));
}

int main(void)
{
    check_messages();
    check_names();
    check_log();
    return check_done();
}
