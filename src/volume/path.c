/* Paths of the file routes, checked as text only: this decides what is meant, while beneath.c
 * decides what is reached. All three forms are folded as one virtual path below "/", with a floor
 * under which ".." must not go; what stays below home/sandbox is the answer. */
#include <string.h>

#include "base/limits.h"
#include "base/str.h"
#include "volume/file.h"

#define HOME "home/sandbox"
#define APP HOME "/workspace/app"

struct fold {
    char text[sizeof(APP) + PATH_BYTES_MAX + 1];
    size_t len;
    size_t floor; /* length that ".." must not undercut */
    size_t depth;
};

static void fold_push(struct fold *f, const char *name, size_t len)
{
    if (f->len)
        f->text[f->len++] = '/';
    memcpy(f->text + f->len, name, len);
    f->len += len;
    f->text[f->len] = '\0';
    f->depth++;
}

static bool fold_pop(struct fold *f)
{
    if (f->len <= f->floor)
        return false;
    const char *slash = strrchr(f->text, '/');
    f->len = slash ? (size_t)(slash - f->text) : 0;
    f->text[f->len] = '\0';
    f->depth--;
    return true;
}

/* Is the first component that is not "." the word workspace? */
static bool from_home(const char *p)
{
    while (str_starts(p, "./"))
        p += 1 + strspn(p + 1, "/");
    const size_t len = sizeof("workspace") - 1;
    return str_starts(p, "workspace") && (p[len] == '/' || p[len] == '\0');
}

int file_path_parse(const char *text, struct file_path *ret, struct err *err)
{
    if (text && !str_utf8(text, strlen(text)))
        return err_set(err, ERR_INVALID, "path: not UTF-8");
    return file_path_parse_there(text, ret, err);
}

int file_path_parse_there(const char *text, struct file_path *ret, struct err *err)
{
    const char *p = text ? text : "";
    size_t total = strlen(p);
    if (total > PATH_BYTES_MAX)
        return err_set(err, ERR_INVALID, "path: longer than %u bytes", PATH_BYTES_MAX);

    struct fold f = { .len = 0 };
    if (*p != '/') {
        const char *base = from_home(p) ? HOME : APP;
        f.len = f.floor = strlen(base);
        memcpy(f.text, base, f.len + 1);
    }
    bool directory = true;
    while (*p) {
        size_t len = strcspn(p, "/");
        if (len > 255)
            return err_set(err, ERR_INVALID, "path: a component is longer than 255 bytes");
        directory = len == 0 || (len == 1 && p[0] == '.') || (len == 2 && memcmp(p, "..", 2) == 0);
        if (!directory)
            fold_push(&f, p, len);
        else if (len == 2 && !fold_pop(&f))
            return err_set(err, ERR_PATH_ESCAPE, "path: \"..\" leads out of the workspace");
        p += len;
        if (*p == '/') {
            directory = true;
            p++;
        }
    }
    const size_t home = sizeof(HOME) - 1;
    if (!str_starts(f.text, HOME) || (f.text[home] != '/' && f.text[home] != '\0'))
        return err_set(err, ERR_PATH_ESCAPE, "path: an absolute one must lie below /" HOME);
    /* The kernel counts the NUL in its own limit of 4096. */
    const char *rest = f.text + home + (f.text[home] == '/');
    if (f.depth > PATH_DEPTH_MAX || strlen(rest) >= PATH_BYTES_MAX)
        return err_set(err, ERR_INVALID, "path: longer than %u bytes or deeper than %u directories",
                       PATH_BYTES_MAX - 1, PATH_DEPTH_MAX);
    (void)str_copy(ret->text, sizeof(ret->text), rest);
    ret->directory = directory;
    return 0;
}

const char *file_type_name(enum file_type t)
{
    static const char *const names[] = {
        [FILE_REGULAR] = "file",
        [FILE_DIR] = "dir",
        [FILE_SYMLINK] = "symlink",
        [FILE_OTHER] = "other",
    };
    return names[t];
}
