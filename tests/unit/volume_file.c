/* File calls in an honest workspace: writing, reading, listing, removing, bounds, crashes. */
#include <pthread.h>
#include <sys/socket.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/limits.h"
#include "check.h"
#include "volume_home.h"

#define DONE (-1)

static int open_app(int root)
{
    int fd = openat(root, "workspace/app", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    must(fd >= 0, "open workspace/app");
    return fd;
}

/* F-25: a write that is cut leaves the old file and nothing beside it. */
static void test_crash(int root)
{
    CHECK(put_text(root, "crash/a.txt", "old") == DONE);
    /* killed after writing, before commit */
    pid_t child = fork();
    if (child == 0) {
        struct file_path p = path_of("crash/a.txt");
        struct file_put *put = NULL;
        struct err err;
        if (file_put_begin(root, &p, home_uid(), home_uid(), &put, &err) < 0 ||
            file_put_write(put, "half", 4, &err) < 0)
            _exit(1);
        _exit(0);
    }
    int status = -1;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    char text[64];
    CHECK(get_text(root, "crash/a.txt", text, sizeof(text)) == DONE);
    CHECK_STR("old", text);
    struct listed l;
    CHECK(list_path(root, "crash", true, &l) == DONE);
    CHECK_STR("a.txt:file ", l.text);

    /* what a crash between naming and renaming leaves: swept when a list meets it */
    int app = open_app(root);
    write_text(app, "crash/.put-0123456789abcdef0123456789abcdef.tmp", "half");
    write_text(app, "crash/.put-xyz.tmp", "somebody's own");
    CHECK(list_path(root, "crash", true, &l) == DONE);
    CHECK_STR(".put-xyz.tmp:file a.txt:file ", l.text);
    CHECK(faccessat(app, "crash/.put-0123456789abcdef0123456789abcdef.tmp", F_OK, 0) < 0);
    CHECK(put_text(root, "crash/.put-0123456789abcdef0123456789abcdef.tmp", "x") == ERR_INVALID);
    CHECK(append_text(root, "crash/.put-0123456789abcdef0123456789abcdef.tmp", "x") == ERR_INVALID);
    (void)close(app);
}

static void test_put(int root)
{
    char text[64];
    struct stat st;
    int app = open_app(root);
    CHECK(put_text(root, "a.txt", "one") == DONE);
    CHECK(fstatat(app, "a.txt", &st, 0) == 0 && (st.st_mode & 07777) == 0644 &&
          st.st_uid == home_uid() && st.st_gid == home_uid());
    CHECK(get_text(root, "a.txt", text, sizeof(text)) == DONE);
    CHECK_STR("one", text);

    CHECK(fchmodat(app, "a.txt", 06751, 0) == 0 && put_text(root, "a.txt", "two") == DONE);
    CHECK(fstatat(app, "a.txt", &st, 0) == 0 && (st.st_mode & 07777) == 0751);
    CHECK(get_text(root, "/home/sandbox/workspace/app/a.txt", text, sizeof(text)) == DONE);
    CHECK_STR("two", text);

    CHECK(put_text(root, "p/q/r/s.txt", "deep") == DONE);
    CHECK(fstatat(app, "p/q/r", &st, 0) == 0 && (st.st_mode & 07777) == 0775 &&
          st.st_uid == home_uid() && st.st_gid == home_uid());
    CHECK(put_text(root, "/home/sandbox/.config/x", "home") == DONE);
    CHECK(put_text(root, "empty", "") == DONE);
    CHECK(put_text(root, "", "x") == ERR_INVALID);
    CHECK(put_text(root, "/home/sandbox", "x") == ERR_INVALID);
    CHECK(put_text(root, "p", "x") == ERR_INVALID);
    CHECK(put_text(root, "new/", "x") == ERR_INVALID);
    CHECK(put_text(root, "a.txt/b", "x") == ERR_INVALID);

    /* abandoned: neither the target nor a temporary file */
    struct file_path path = path_of("gone/abort.txt");
    struct file_put *put = NULL;
    struct err err;
    CHECK(file_put_begin(root, &path, home_uid(), home_uid(), &put, &err) == 0);
    CHECK(file_put_write(put, "xyz", 3, &err) == 0);
    file_put_abort(put);
    file_put_abort(NULL);
    struct listed l;
    CHECK(list_path(root, "gone", true, &l) == DONE && l.count == 0);

    /* other names of a replaced file keep the old bytes */
    CHECK(linkat(app, "a.txt", app, "b.txt", 0) == 0 && put_text(root, "a.txt", "three") == DONE);
    CHECK(get_text(root, "b.txt", text, sizeof(text)) == DONE);
    CHECK_STR("two", text);
    (void)close(app);
}

static void test_append(int root)
{
    char text[64];
    struct stat st;
    int app = open_app(root);
    CHECK(append_text(root, "log/x.log", "a") == DONE);
    CHECK(append_text(root, "log/x.log", "bc") == DONE);
    CHECK(append_text(root, "log/x.log", "") == DONE);
    CHECK(get_text(root, "log/x.log", text, sizeof(text)) == DONE);
    CHECK_STR("abc", text);
    CHECK(fstatat(app, "log/x.log", &st, 0) == 0 && (st.st_mode & 07777) == 0644 &&
          st.st_uid == home_uid());
    CHECK(linkat(app, "log/x.log", app, "log/y.log", 0) == 0);
    CHECK(append_text(root, "log/y.log", "no") == ERR_PATH_ESCAPE);
    CHECK(get_text(root, "log/x.log", text, sizeof(text)) == DONE);
    CHECK_STR("abc", text);
    CHECK(append_text(root, "log", "x") == ERR_INVALID);
    CHECK(append_text(root, "log/", "x") == ERR_INVALID);
    (void)close(app);
}

static void test_remove(int root)
{
    CHECK(put_text(root, "rm/a/b/c", "x") == DONE && put_text(root, "rm/d", "x") == DONE);
    CHECK(remove_path(root, "rm/d/", false) == ERR_INVALID);
    CHECK(remove_path(root, "rm/d", false) == DONE);
    CHECK(remove_path(root, "rm/d", false) == ERR_NOT_FOUND);
    CHECK(remove_path(root, "rm/none/d", false) == ERR_NOT_FOUND);
    CHECK(remove_path(root, "rm/a", false) == ERR_CONFLICT);
    CHECK(remove_path(root, "rm/a", true) == DONE);
    CHECK(remove_path(root, "rm", false) == DONE);
    static const char *const kept[] = { "", "/home/sandbox", "workspace", "workspace/app", "a/.." };
    for (size_t i = 0; i < sizeof(kept) / sizeof(kept[0]); i++)
        CHECK_ROW(kept[i], remove_path(root, kept[i], true) == ERR_INVALID);
}

static void test_list(int root)
{
    static const char *const skip[] = { "node_modules", ".git", NULL };
    struct listed l;
    struct err err;
    bool truncated = true;
    CHECK(put_text(root, "ls/b", "22") == DONE && put_text(root, "ls/a/z", "1") == DONE &&
          put_text(root, "ls/a-b", "") == DONE && put_text(root, "ls/node_modules/m", "") == DONE &&
          put_text(root, "ls/a/.git/x", "") == DONE);
    CHECK(list_path(root, "ls", false, &l) == DONE);
    CHECK_STR("a:dir a-b:file b:file node_modules:dir ", l.text);
    struct file_path p = path_of("ls");
    l = (struct listed){ 0 };
    CHECK(file_list(root, &p, true, skip, listed_add, &l, &truncated, &err) == 0 && !truncated);
    CHECK_STR("a:dir a-b:file a/z:file b:file ", l.text);
    CHECK(list_path(root, "ls/b", false, &l) == ERR_INVALID);
    CHECK(list_path(root, "ls/none", false, &l) == ERR_NOT_FOUND);
    CHECK(list_path(root, "", false, &l) == DONE && l.count > 3);
    CHECK(list_path(root, "/home/sandbox", false, &l) == DONE);

    /* names a sandbox may choose */
    int app = open_app(root);
    must(mkdirat(app, "odd", 0755) == 0, "odd");
    write_text(app, "odd/\x01\x1b[31m", "");
    write_text(app, "odd/\xff\xfe", "");
    write_text(app, "odd/a\nb", "");
    CHECK(list_path(root, "odd", false, &l) == DONE);
    CHECK_STR("\x01\x1b[31m:file a\nb:file \xff\xfe:file ", l.text);
    (void)close(app);
}

static void test_kinds(int root)
{
    /* T-5: what is not a file is refused at once, whatever the call */
    int app = open_app(root);
    must(mkfifoat(app, "fifo", 0644) == 0, "fifo");
    struct sockaddr_un sun = { .sun_family = AF_UNIX };
    (void)snprintf(sun.sun_path, sizeof(sun.sun_path), "/proc/self/fd/%d/sock", app);
    int s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    must(bind(s, (struct sockaddr *)&sun, sizeof(sun)) == 0, "socket");
    bool device = geteuid() == 0 && mknodat(app, "null", S_IFCHR | 0666, makedev(1, 3)) == 0;
    const char *const names[] = { "fifo", "sock", device ? "null" : "fifo" };
    char text[8];
    int64_t before = clock_mono_ms();
    for (size_t i = 0; i < 3; i++) {
        CHECK_ROW(names[i], get_text(root, names[i], text, sizeof(text)) == ERR_INVALID);
        CHECK_ROW(names[i], put_text(root, names[i], "x") == ERR_INVALID);
        CHECK_ROW(names[i], append_text(root, names[i], "x") == ERR_INVALID);
    }
    CHECK(clock_mono_ms() - before < 10000);
    struct listed l;
    CHECK(list_path(root, "", false, &l) == DONE && strstr(l.text, "fifo:other "));
    CHECK(remove_path(root, "fifo", false) == DONE);
    (void)close(s);

    /* a sparse file of 1 TiB opens, says its size and costs nothing */
    int fd = openat(app, "sparse", O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    if (fd >= 0 && ftruncate(fd, (off_t)1 << 40) == 0) {
        struct file_path p = path_of("sparse");
        struct err err;
        uint64_t size = 0;
        int in = -1;
        CHECK(file_open(root, &p, &in, &size, &err) == 0 && size == (uint64_t)1 << 40);
        (void)close(in);
    }
    (void)close(fd);
    (void)close(app);
}

static void make_many(int dir, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        char name[32];
        (void)snprintf(name, sizeof(name), "f%07u", i);
        int fd = openat(dir, name, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
        must(fd >= 0, name);
        (void)close(fd);
    }
}

static void test_bounds(int root)
{
    int app = open_app(root);
    must(mkdirat(app, "many", 0755) == 0, "many");
    int dir = openat(app, "many", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    make_many(dir, FILE_LIST_MAX + 10);
    struct file_path p = path_of("many");
    struct listed l = { 0 };
    struct err err;
    bool truncated = false;
    int64_t before = check_cpu_ms();
    CHECK(file_list(root, &p, true, NULL, listed_add, &l, &truncated, &err) == 0);
    CHECK(truncated && l.count == FILE_LIST_MAX);
    printf("# list of %zu entries: %lld ms of CPU\n", l.count,
           (long long)(check_cpu_ms() - before));
    CHECK(check_cpu_ms() - before < 20000);
    before = clock_mono_ms();
    CHECK(remove_path(root, "many", true) == DONE);
    printf("# recursive removal of them: %lld ms\n", (long long)(clock_mono_ms() - before));

    /* deeper than a listing goes */
    int at = dup(app);
    for (int i = 0; i < PATH_DEPTH_MAX + 20; i++) {
        must(mkdirat(at, "d", 0755) == 0, "d");
        int next = openat(at, "d", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        (void)close(at);
        at = next;
    }
    p = path_of("");
    l = (struct listed){ 0 };
    CHECK(file_list(root, &p, true, NULL, listed_add, &l, &truncated, &err) == 0 && truncated);
    CHECK(remove_path(root, "d", true) == DONE);
    (void)close(at);
    (void)close(dir);
    (void)close(app);
}

static void *appender(void *arg)
{
    const int *root = arg;
    for (int i = 0; i < 50; i++)
        if (append_text(*root, "both.log", "0123456789\n") != DONE)
            return arg;
    return NULL;
}

static void test_threads(int root)
{
    pthread_t t[4];
    for (int i = 0; i < 4; i++)
        must(pthread_create(&t[i], NULL, appender, &root) == 0, "thread");
    bool ok = true;
    for (int i = 0; i < 4; i++) {
        void *failed = NULL;
        (void)pthread_join(t[i], &failed);
        ok = ok && !failed;
    }
    int app = open_app(root);
    struct stat st;
    CHECK(ok && fstatat(app, "both.log", &st, 0) == 0 && st.st_size == 4 * 50 * 11);
    (void)close(app);
}

static bool nobody_waits(void *ctx)
{
    ++*(int *)ctx;
    return true;
}

static int copy_path(int root, const char *from, const char *to, int *asked)
{
    struct file_path a = path_of(from), b = path_of(to);
    struct file_stat st;
    struct err err;
    return file_copy(root, &a, &b, false, home_uid(), home_uid(), asked ? nobody_waits : NULL,
                     asked, &st, &err) < 0
               ? (int)err.code
               : DONE;
}

/* Holes stay holes, wherever they are, and nobody copies for a client that has left. */
static void test_copy(int root)
{
    static const struct {
        off_t at;
        const char *text;
    } data[] = { { 0, "first" }, { 5 << 20, "second" }, { (off_t)1 << 38, "third" } };
    int app = open_app(root), asked = 0;
    must(mkdirat(app, "holes", 0755) == 0, "mkdir");
    int fd = openat(app, "holes/file", O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    must(fd >= 0, "open");
    for (size_t i = 0; i < sizeof(data) / sizeof(*data); i++)
        must(pwrite(fd, data[i].text, strlen(data[i].text), data[i].at) > 0, "pwrite");
    must(ftruncate(fd, (off_t)1 << 40) == 0, "ftruncate");
    (void)close(fd);
    static const char *const copies[][2] = { { "holes/file", "one" }, { "holes", "all" } };
    for (int i = 0; i < 2; i++) {
        CHECK(copy_path(root, copies[i][0], copies[i][1], &asked) == ERR_CANCELLED);
        CHECK(asked == i + 1 && faccessat(app, copies[i][1], F_OK, 0) < 0);
        CHECK(copy_path(root, copies[i][0], copies[i][1], NULL) == DONE);
        fd = openat(app, i ? "all/file" : "one", O_RDONLY | O_CLOEXEC);
        struct stat st;
        must(fd >= 0 && fstat(fd, &st) == 0, "the copy");
        CHECK(st.st_size == (off_t)1 << 40 && st.st_blocks < 1024);
        for (size_t n = 0; n < sizeof(data) / sizeof(*data); n++) {
            char text[8] = "";
            CHECK(pread(fd, text, strlen(data[n].text), data[n].at) > 0);
            CHECK_STR(data[n].text, text);
        }
        (void)close(fd);
    }
    CHECK(remove_path(root, "all", true) == DONE && remove_path(root, "holes", true) == DONE);
    CHECK(remove_path(root, "one", false) == DONE);
    (void)close(app);
}

int main(void)
{
    struct home h;
    struct volume *v = NULL;
    struct sandbox_id id;
    home_init(&h);
    int root = home_workspace(&h, home_uid(), &v, &id);
    test_crash(root);
    test_put(root);
    test_append(root);
    test_remove(root);
    test_list(root);
    test_kinds(root);
    test_bounds(root);
    test_threads(root);
    test_copy(root);
    (void)close(root);
    volume_free(v);
    home_release(&h);
    return check_done();
}
