/* Changes of names: move, copy, mkdir, chmod; entity tags and preconditions.
 *
 * A precondition is compared and the change made under the lock of the workspace, so that of two
 * clients who saw the same state one wins. A copy is made whole under a temporary name and then
 * renamed; a crash leaves that name, which nobody lists and the next bring-up removes. */
#include "change.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/limits.h"
#include "base/str.h"
#include "beneath.h"
#include "tree.h"
#include "walk.h"

#define LOCKS 16

/* --- entity tags --- */

static enum file_type type_of(mode_t mode)
{
    if (S_ISREG(mode))
        return FILE_REGULAR;
    if (S_ISDIR(mode))
        return FILE_DIR;
    return S_ISLNK(mode) ? FILE_SYMLINK : FILE_OTHER;
}

/* The time of change cannot be set from inside, as that of modification can. */
void change_stat(const struct stat *st, struct file_stat *ret)
{
    *ret = (struct file_stat){
        .type = type_of(st->st_mode),
        .size = S_ISREG(st->st_mode) ? (uint64_t)st->st_size : 0,
        .mtime_ms = (int64_t)st->st_mtim.tv_sec * 1000 + st->st_mtim.tv_nsec / 1000000,
        .mode = st->st_mode & 07777,
    };
    (void)snprintf(ret->etag, sizeof(ret->etag), "\"%llx-%llx-%llx\"",
                   (unsigned long long)st->st_ino, (unsigned long long)st->st_size,
                   (unsigned long long)st->st_ctim.tv_sec * 1000000000u +
                       (unsigned long long)st->st_ctim.tv_nsec);
}

int file_fstat(int fd, struct file_stat *ret, struct err *err)
{
    struct stat st;
    if (fstat(fd, &st) < 0)
        return beneath_fail(err, errno);
    change_stat(&st, ret);
    return 0;
}

int file_stat(int root, const struct file_path *path, struct file_stat *ret, struct err *err)
{
    struct stat st;
    char leaf[NAME_BYTES];
    AUTO(fd) int dir = -1;
    if (!*path->text)
        return file_fstat(root, ret, err);
    if (beneath_parent(root, path->text, NULL, &dir, leaf, err) < 0)
        return -1;
    if (beneath_stat(dir, leaf, &st) < 0)
        return beneath_fail(err, errno);
    if (path->directory && !S_ISDIR(st.st_mode))
        return beneath_fail(err, S_ISLNK(st.st_mode) ? ELOOP : ENOTDIR);
    change_stat(&st, ret);
    return 0;
}

bool file_etag_listed(const char *list, const char *etag, bool weak)
{
    for (const char *p = list; *p;) {
        p += strspn(p, " \t,");
        if (*p == '*')
            return etag != NULL;
        bool is_weak = str_starts(p, "W/");
        const char *tag = is_weak ? p + 2 : p;
        size_t len = strcspn(tag, ",");
        if (*tag == '"')
            len = strcspn(tag + 1, "\"") + 2;
        if (etag && strncmp(tag, etag, len) == 0 && etag[len] == '\0' && (weak || !is_weak))
            return true;
        if (strlen(tag) < len)
            break;
        p = tag + len;
    }
    return false;
}

int change_check(const struct file_match *match, const struct stat *st, struct err *err)
{
    struct file_stat now;
    if (!match)
        return 0;
    if (st)
        change_stat(st, &now);
    const char *etag = st ? now.etag : NULL;
    if (match->if_match && !file_etag_listed(match->if_match, etag, false))
        return err_set(err, ERR_PRECONDITION,
                       st ? "If-Match: the file has changed" : "If-Match: there is no such file");
    if (match->if_none_match && file_etag_listed(match->if_none_match, etag, true))
        return err_set(err, ERR_PRECONDITION, "If-None-Match: the file is there");
    return 0;
}

int change_check_name(const struct file_match *match, int dir, const char *leaf, struct err *err)
{
    struct stat st;
    if (!match)
        return 0;
    int rc = beneath_stat(dir, leaf, &st);
    if (rc < 0 && errno != ENOENT)
        return beneath_fail(err, errno);
    return change_check(match, rc < 0 ? NULL : &st, err);
}

static struct mu locks[LOCKS], append_locks[LOCKS];

static void locks_init(void)
{
    for (size_t i = 0; i < LOCKS; i++) {
        mu_init(&locks[i], MU_FILE);
        mu_init(&append_locks[i], MU_APPEND);
    }
}

/* Of an open descriptor; should fstat fail, the first lock would do as well. */
static struct mu *lock_by_inode(struct mu *of, int fd)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    struct stat st = { 0 };
    (void)pthread_once(&once, locks_init);
    (void)!fstat(fd, &st);
    return &of[st.st_ino % LOCKS];
}

struct mu *change_lock_of(int root)
{
    return lock_by_inode(locks, root);
}

struct mu *append_lock_of(int fd)
{
    return lock_by_inode(append_locks, fd);
}

bool change_conditional(const struct file_match *match)
{
    return match && (match->if_match || match->if_none_match);
}

/* --- names --- */

int rename_new(int from_dir, const char *from, int to_dir, const char *to)
{
    return (int)syscall(SYS_renameat2, from_dir, from, to_dir, to, RENAME_NOREPLACE);
}

static int taken(struct err *err)
{
    return err_set(err, ERR_CONFLICT, "there is something by that name already");
}

/* The same of a move or a copy, which may replace a file by a file. */
static int not_replaced(bool overwrite, struct err *err)
{
    (void)taken(err);
    return err_remedy(err, overwrite ? "Only a file takes the place of a file: remove it first."
                                     : "\"overwrite\": true replaces a file.");
}

static int reserved(const char *leaf, struct err *err)
{
    bool stale;
    if (beneath_is_temp(leaf, &stale))
        return err_set(err, ERR_INVALID, "the name is reserved for temporary files");
    return 0;
}

static bool within(const char *path, const char *dir)
{
    size_t len = strlen(dir);
    return strncmp(path, dir, len) == 0 && (path[len] == '\0' || path[len] == '/');
}

/* Both ends, as text. */
static int check_pair(const struct file_path *from, const struct file_path *to, struct err *err)
{
    if (within("workspace/app", from->text) || !*from->text)
        return err_set(err, ERR_INVALID, "the workspace's own directories stay where they are");
    if (within("workspace/app", to->text) || !*to->text)
        return taken(err);
    if (within(to->text, from->text))
        return err_set(err, ERR_INVALID, "to: lies within what is moved or copied");
    return 0;
}

struct ends {
    int from_dir, to_dir;
    char from[NAME_BYTES], to[NAME_BYTES];
    struct stat st; /* of the source */
};

static void auto_ends(struct ends *e)
{
    auto_fd(&e->from_dir);
    auto_fd(&e->to_dir);
}

static int open_ends(int root, const struct file_path *from, const struct file_path *to,
                     const struct owner *make, struct ends *e, struct err *err)
{
    if (check_pair(from, to, err) < 0 ||
        beneath_parent(root, from->text, NULL, &e->from_dir, e->from, err) < 0 ||
        reserved(e->from, err) < 0)
        return -1;
    if (beneath_stat(e->from_dir, e->from, &e->st) < 0)
        return beneath_fail(err, errno);
    if ((from->directory || to->directory) && !S_ISDIR(e->st.st_mode))
        return beneath_fail(err, ENOTDIR);
    if (beneath_parent(root, to->text, make, &e->to_dir, e->to, err) < 0)
        return -1;
    return reserved(e->to, err);
}

/* Under the lock: is the target free, or a file that may go? */
static int may_replace(const struct ends *e, struct err *err)
{
    struct stat st;
    if (beneath_stat(e->to_dir, e->to, &st) < 0)
        return errno == ENOENT ? 0 : beneath_fail(err, errno);
    if (S_ISLNK(st.st_mode))
        return beneath_fail(err, ELOOP);
    if (!S_ISREG(st.st_mode) || S_ISDIR(e->st.st_mode))
        return not_replaced(true, err);
    return 0;
}

static int rename_ends(const struct ends *e, bool overwrite, const struct file_match *match,
                       struct err *err)
{
    if (change_check_name(match, e->from_dir, e->from, err) < 0)
        return -1;
    if (overwrite && may_replace(e, err) < 0)
        return -1;
    int rc = overwrite ? renameat(e->from_dir, e->from, e->to_dir, e->to)
                       : rename_new(e->from_dir, e->from, e->to_dir, e->to);
    if (rc == 0)
        return 0;
    if (errno == EEXIST || errno == ENOTEMPTY)
        return not_replaced(overwrite, err);
    if (errno == EINVAL)
        return err_set(err, ERR_INVALID, "to: lies within what is moved");
    return beneath_fail(err, errno);
}

int file_move(int root, const struct file_path *from, const struct file_path *to, bool overwrite,
              uint32_t uid, uint32_t gid, const struct file_match *match, struct file_stat *ret,
              struct err *err)
{
    AUTO(ends) struct ends e = { .from_dir = -1, .to_dir = -1 };
    const struct owner make = { .uid = uid, .gid = gid };
    struct stat st;
    if (open_ends(root, from, to, &make, &e, err) < 0)
        return -1;
    struct mu *lock = change_lock_of(root);
    mu_lock(lock);
    int rc = rename_ends(&e, overwrite, match, err);
    mu_unlock(lock);
    if (rc < 0)
        return -1;
    if (fsync(e.to_dir) < 0 || fsync(e.from_dir) < 0 || beneath_stat(e.to_dir, e.to, &st) < 0)
        return beneath_fail(err, errno);
    change_stat(&st, ret);
    return 0;
}

/* --- copies --- */

int stage_open(int root, char *name, int *ret_fd, struct err *err)
{
    AUTO(fd) int fd = -1;
    beneath_temp_name(name);
    if (mkdirat(root, name, 0700) < 0)
        return beneath_fail(err, errno);
    if (beneath_dir(root, name, &fd, err) < 0)
        return -1;
    *ret_fd = TAKE_FD(fd);
    return 0;
}

void stage_drop(int root, const char *name)
{
    struct err ignored; /* the next run removes it */
    char trash[TEMP_NAME_BYTES];
    uint64_t freed = 0;
    if (tree_remove(root, name, false, clock_mono_ms() + FILE_REMOVE_MS, &freed, &ignored) == 0)
        return;
    beneath_trash_name(trash);
    (void)rename_new(root, name, root, trash);
    trash_left();
}

static int copy_file(int root, const struct ends *e, const struct file_path *to, bool overwrite,
                     const struct owner *own, struct tree_bound *bound, struct file_stat *ret,
                     struct err *err)
{
    struct file_put *put = NULL;
    AUTO(fd) int in = beneath_open(e->from_dir, e->from, O_RDONLY, 0);
    struct stat st;
    if (in < 0 || fstat(in, &st) < 0)
        return beneath_fail(err, errno);
    if (!S_ISREG(st.st_mode))
        return beneath_fail(err, ENXIO);
    if (file_put_begin(root, to, own->uid, own->gid, &put, err) < 0)
        return -1;
    put_settle(put, !overwrite, st.st_mode & 0777);
    if (tree_copy_data(in, put_fd(put), (uint64_t)st.st_size, bound, err) < 0) {
        file_put_abort(put);
        return -1;
    }
    return file_put_commit(put, ret, err);
}

/* Made in the stage as "copy", so that its name says nothing before it is whole. */
static int copy_staged(int stage, const struct ends *e, const struct owner *own,
                       struct tree_bound *bound, struct err *err)
{
    AUTO(fd) int src = -1, dst = -1;
    uint64_t files = 0;
    struct stat st;
    if (beneath_dir(e->from_dir, e->from, &src, err) < 0)
        return -1;
    if (mkdirat(stage, "copy", 0700) < 0)
        return beneath_fail(err, errno);
    if (beneath_dir(stage, "copy", &dst, err) < 0 ||
        tree_clone(src, dst, own->uid, own->gid, bound, &files, err) < 0)
        return -1;
    if (fstat(src, &st) < 0 || fchown(dst, own->uid, own->gid) < 0 ||
        fchmod(dst, st.st_mode & 0777) < 0 || syncfs(dst) < 0)
        return beneath_fail(err, errno);
    if (rename_new(stage, "copy", e->to_dir, e->to) < 0)
        return errno == EEXIST ? taken(err) : beneath_fail(err, errno);
    return 0;
}

/* Too many entries are refused before the first of them is copied, not behind all the work. */
static int copy_counts(const struct ends *e, uint64_t most, struct err *err)
{
    struct walk_entry entry;
    AUTO(free) struct walk *w = mem_new(1, sizeof(*w));
    uint64_t n = 0;
    int more = walk_begin(w, e->from_dir, e->from, NULL, err) < 0 ? -1 : 1;
    while (more > 0 && n <= most && (more = walk_next(w, &entry, err)) > 0)
        n++;
    walk_end(w);
    if (more < 0)
        return -1;
    return n > most ? tree_too_many(err) : 0;
}

static int copy_dir(int root, const struct ends *e, const struct owner *own,
                    struct tree_bound *bound, struct file_stat *ret, struct err *err)
{
    char name[TEMP_NAME_BYTES];
    struct stat st;
    AUTO(fd) int stage = -1;
    if (walk_enter(err) < 0)
        return -1;
    int rc = copy_counts(e, bound->left, err);
    if (rc == 0)
        rc = stage_open(root, name, &stage, err);
    if (rc == 0) {
        rc = copy_staged(stage, e, own, bound, err);
        stage_drop(root, name);
    }
    walk_leave();
    if (rc < 0)
        return -1;
    if (fsync(e->to_dir) < 0 || beneath_stat(e->to_dir, e->to, &st) < 0)
        return beneath_fail(err, errno);
    change_stat(&st, ret);
    return 0;
}

int file_copy(int root, const struct file_path *from, const struct file_path *to, bool overwrite,
              uint32_t uid, uint32_t gid, bool (*gone)(void *ctx), void *ctx, struct file_stat *ret,
              struct err *err)
{
    AUTO(ends) struct ends e = { .from_dir = -1, .to_dir = -1 };
    const struct owner make = { .uid = uid, .gid = gid };
    struct stat st;
    if (open_ends(root, from, to, &make, &e, err) < 0)
        return -1;
    if (!S_ISREG(e.st.st_mode) && !S_ISDIR(e.st.st_mode))
        return beneath_fail(err, S_ISLNK(e.st.st_mode) ? ELOOP : ENXIO);
    if ((S_ISDIR(e.st.st_mode) || !overwrite) && beneath_stat(e.to_dir, e.to, &st) == 0)
        return not_replaced(overwrite, err); /* before all the work */
    struct tree_bound bound = {
        .deadline_ms = S_ISREG(e.st.st_mode) ? INT64_MAX : clock_mono_ms() + FILE_COPY_MS,
        .left = FILE_COPY_ENTRIES_MAX,
        .gone = gone,
        .ctx = ctx,
    };
    return S_ISREG(e.st.st_mode) ? copy_file(root, &e, to, overwrite, &make, &bound, ret, err)
                                 : copy_dir(root, &e, &make, &bound, ret, err);
}

/* --- directories and modes --- */

int file_mkdir(int root, const struct file_path *path, bool parents, unsigned mode, uint32_t uid,
               uint32_t gid, bool *ret_made, struct file_stat *ret, struct err *err)
{
    char leaf[NAME_BYTES];
    AUTO(fd) int dir = -1, fd = -1;
    const struct owner make = { .uid = uid, .gid = gid };
    *ret_made = false;
    if (!*path->text)
        return parents ? file_fstat(root, ret, err) : taken(err);
    if (beneath_parent(root, path->text, parents ? &make : NULL, &dir, leaf, err) < 0 ||
        reserved(leaf, err) < 0)
        return -1;
    if (mkdirat(dir, leaf, 0700) == 0)
        *ret_made = true;
    else if (errno != EEXIST)
        return beneath_fail(err, errno);
    else if (!parents)
        return taken(err);
    if (beneath_dir(dir, leaf, &fd, err) < 0)
        return err->sys == ENOTDIR ? taken(err) : -1;
    struct stat st;
    if (fstat(fd, &st) < 0)
        return beneath_fail(err, errno);
    /* Only what is still ours is given away: the sandbox may have put its own there meanwhile. */
    if (*ret_made && st.st_uid == geteuid() &&
        (fchmod(fd, mode & 0777) < 0 || fchown(fd, uid, gid) < 0 || fsync(fd) < 0 ||
         fsync(dir) < 0))
        return beneath_fail(err, errno);
    return file_fstat(fd, ret, err);
}

int file_chmod(int root, const struct file_path *path, unsigned mode, struct file_stat *ret,
               struct err *err)
{
    struct stat st;
    AUTO(fd) int fd = beneath_open(root, path->text, O_RDONLY, 0);
    if (fd < 0 || fstat(fd, &st) < 0)
        return beneath_fail(err, errno);
    if (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode))
        return beneath_fail(err, ENXIO);
    if (path->directory && !S_ISDIR(st.st_mode))
        return beneath_fail(err, ENOTDIR);
    /* As with appending (T-6): a mode belongs to the inode, not to the name. */
    if (S_ISREG(st.st_mode) && st.st_nlink > 1)
        return err_set(err, ERR_PATH_ESCAPE, "the file has several names (hard links)");
    if (fchmod(fd, mode & 0777) < 0 || fsync(fd) < 0)
        return beneath_fail(err, errno);
    return file_fstat(fd, ret, err);
}
