/* The one rule for paths, row by row. */
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "check.h"
#include "volume/file.h"

#define OK (-1) /* no error code */

struct row {
    const char *in;
    int code;
    const char *out; /* below the workspace root */
    bool directory;
};

static const struct row rows[] = {
    /* relative: below workspace/app */
    { "a", OK, "workspace/app/a", false },
    { "a/b", OK, "workspace/app/a/b", false },
    { "a/b/c.txt", OK, "workspace/app/a/b/c.txt", false },
    { "a//b", OK, "workspace/app/a/b", false },
    { "a/./b", OK, "workspace/app/a/b", false },
    { "./a", OK, "workspace/app/a", false },
    { "././a", OK, "workspace/app/a", false },
    { ".//a", OK, "workspace/app/a", false },
    { ".hidden", OK, "workspace/app/.hidden", false },
    { "..hidden", OK, "workspace/app/..hidden", false },
    { "...", OK, "workspace/app/...", false },
    { "a/...", OK, "workspace/app/a/...", false },
    { "a b", OK, "workspace/app/a b", false },
    { " ", OK, "workspace/app/ ", false },
    { "-rf", OK, "workspace/app/-rf", false },
    { "~", OK, "workspace/app/~", false },
    { "~/x", OK, "workspace/app/~/x", false },
    { "$HOME/x", OK, "workspace/app/$HOME/x", false },
    { "a\\b", OK, "workspace/app/a\\b", false },
    { "..\\x", OK, "workspace/app/..\\x", false },
    { "C:/x", OK, "workspace/app/C:/x", false },
    { "%2e%2e/x", OK, "workspace/app/%2e%2e/x", false },
    { "a\nb", OK, "workspace/app/a\nb", false },
    { "\x01", OK, "workspace/app/\x01", false },
    { "caf\xc3\xa9", OK, "workspace/app/caf\xc3\xa9", false },
    { "\xf0\x9f\x98\x80", OK, "workspace/app/\xf0\x9f\x98\x80", false },
    /* the app directory itself */
    { "", OK, "workspace/app", true },
    { ".", OK, "workspace/app", true },
    { "./", OK, "workspace/app", true },
    { "a/..", OK, "workspace/app", true },
    { "a/../", OK, "workspace/app", true },
    { NULL, OK, "workspace/app", true },
    /* a name that can only be a directory */
    { "a/", OK, "workspace/app/a", true },
    { "a//", OK, "workspace/app/a", true },
    { "a/.", OK, "workspace/app/a", true },
    { "a/b/..", OK, "workspace/app/a", true },
    /* from home */
    { "workspace", OK, "workspace", false },
    { "workspace/", OK, "workspace", true },
    { "workspace/app", OK, "workspace/app", false },
    { "workspace/app/", OK, "workspace/app", true },
    { "workspace/app/x", OK, "workspace/app/x", false },
    { "workspace/x", OK, "workspace/x", false },
    { "./workspace/x", OK, "workspace/x", false },
    { "workspace//app//x", OK, "workspace/app/x", false },
    { "workspace/..", OK, "", true },
    { "workspace/../.bashrc", OK, ".bashrc", false },
    { "workspace/app/../y", OK, "workspace/y", false },
    { "workspacex/y", OK, "workspace/app/workspacex/y", false },
    { "work", OK, "workspace/app/work", false },
    { "app/x", OK, "workspace/app/app/x", false },
    { "a/../workspace/x", OK, "workspace/app/workspace/x", false },
    /* absolute */
    { "/home/sandbox", OK, "", false },
    { "/home/sandbox/", OK, "", true },
    { "/home/sandbox/x", OK, "x", false },
    { "/home/sandbox/workspace/app/x", OK, "workspace/app/x", false },
    { "//home//sandbox//x", OK, "x", false },
    { "/home/./sandbox/x", OK, "x", false },
    { "/home/sandbox/../sandbox/x", OK, "x", false },
    { "/etc/../home/sandbox/x", OK, "x", false },
    /* out of it */
    { "..", ERR_PATH_ESCAPE, NULL, false },
    { "../", ERR_PATH_ESCAPE, NULL, false },
    { "../x", ERR_PATH_ESCAPE, NULL, false },
    { "../../../../etc/passwd", ERR_PATH_ESCAPE, NULL, false },
    { "a/../..", ERR_PATH_ESCAPE, NULL, false },
    { "a/../../x", ERR_PATH_ESCAPE, NULL, false },
    { "./../x", ERR_PATH_ESCAPE, NULL, false },
    { "../app/x", ERR_PATH_ESCAPE, NULL, false },
    { "workspace/../..", ERR_PATH_ESCAPE, NULL, false },
    { "workspace/app/../../../x", ERR_PATH_ESCAPE, NULL, false },
    { "workspace/app/../../../../home/sandbox/x", ERR_PATH_ESCAPE, NULL, false },
    { "/", ERR_PATH_ESCAPE, NULL, false },
    { "//", ERR_PATH_ESCAPE, NULL, false },
    { "/..", ERR_PATH_ESCAPE, NULL, false },
    { "/../home/sandbox/x", ERR_PATH_ESCAPE, NULL, false },
    { "/home", ERR_PATH_ESCAPE, NULL, false },
    { "/home/", ERR_PATH_ESCAPE, NULL, false },
    { "/home/sandboxx", ERR_PATH_ESCAPE, NULL, false },
    { "/home/sandbo", ERR_PATH_ESCAPE, NULL, false },
    { "/home/other/x", ERR_PATH_ESCAPE, NULL, false },
    { "/home/sandbox/..", ERR_PATH_ESCAPE, NULL, false },
    { "/home/sandbox/../other/x", ERR_PATH_ESCAPE, NULL, false },
    { "/etc/passwd", ERR_PATH_ESCAPE, NULL, false },
    { "/proc/self/root/etc/passwd", ERR_PATH_ESCAPE, NULL, false },
    { "/workspace/app/x", ERR_PATH_ESCAPE, NULL, false },
    /* not text */
    { "\xff", ERR_INVALID, NULL, false },
    { "a/\xc3", ERR_INVALID, NULL, false },
    { "\xc0\xaf", ERR_INVALID, NULL, false },
    { "\xed\xa0\x80", ERR_INVALID, NULL, false },
    { "\xf5\x80\x80\x80", ERR_INVALID, NULL, false },
};

static void check_row(const struct row *r)
{
    struct file_path p;
    struct err err;
    int rc = file_path_parse(r->in, &p, &err);
    const char *name = r->in ? r->in : "(null)";
    if (r->code != OK) {
        CHECK_ROW(name, rc < 0 && (int)err.code == r->code);
        return;
    }
    if (CHECK_ROW(name, rc == 0)) {
        CHECK_STR(r->out, p.text);
        CHECK_ROW(name, p.directory == r->directory);
    }
}

/* n copies of unit. */
static char *repeat(const char *unit, size_t n)
{
    size_t len = strlen(unit);
    char *out = malloc(len * n + 1);
    for (size_t i = 0; i < n; i++)
        memcpy(out + i * len, unit, len);
    out[len * n] = '\0';
    return out;
}

static void check_size(const char *name, const char *unit, size_t n, int code)
{
    char *text = repeat(unit, n);
    struct file_path p;
    struct err err;
    int rc = file_path_parse(text, &p, &err);
    CHECK_ROW(name, code == OK ? rc == 0 : rc < 0 && (int)err.code == code);
    free(text);
}

int main(void)
{
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        check_row(&rows[i]);
    check_size("component of 255 bytes", "x", 255, OK);
    check_size("component of 256 bytes", "x", 256, ERR_INVALID);
    check_size("126 deep", "d/", 126, OK);
    check_size("129 deep", "d/", 129, ERR_INVALID);
    check_size("2048 slashes count for nothing", "./", 2048, OK);
    check_size("4097 bytes", "/", 4097, ERR_INVALID);
    check_size("a megabyte", "ab/", 350000, ERR_INVALID);
    check_size("below the bound, above it with workspace/app",
               "12345678901234567890123456789012345/", 113, OK);
    check_size("64 long components",
               "123456789012345678901234567890123456789012345678901234567890123/", 64, ERR_INVALID);
    CHECK_STR("file", file_type_name(FILE_REGULAR));
    CHECK_STR("dir", file_type_name(FILE_DIR));
    CHECK_STR("symlink", file_type_name(FILE_SYMLINK));
    CHECK_STR("other", file_type_name(FILE_OTHER));
    return check_done();
}
