/* Archives between this machine and a stream: what is unpacked stays below its directory, whatever
 * the archive says, and a tree comes back as it was. */
#include <archive.h>
#include <archive_entry.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/limits.h"
#include "base/str.h"
#include "check.h"
#include "pack.h"

static struct err err;
static char home[] = "/tmp/sandboxed-unit-XXXXXX";

/* --- hostile archives --- */

static const struct row {
    const char *name;
    unsigned type;
    const char *target; /* of a link; a hard link has type 0 */
    const char *there;  /* what is to be there afterwards; NULL: nothing */
} hostile[] = {
    { "plain.txt", AE_IFREG, NULL, "plain.txt" },
    { "../out.txt", AE_IFREG, NULL, NULL },
    { "d/../../out.txt", AE_IFREG, NULL, NULL },
    { "/tmp/sandboxed-unit-out.txt", AE_IFREG, NULL, NULL },
    { "inside", AE_IFLNK, "plain.txt", "inside" },
    { "up", AE_IFLNK, "..", NULL },
    { "etc", AE_IFLNK, "/etc", NULL },
    { "dir", AE_IFDIR, NULL, "dir" },
    { "dir/loop", AE_IFLNK, "../dir", "dir/loop" },
    { "dir/loop/through.txt", AE_IFREG, NULL, NULL }, /* a link on the way, inside as it is */
    { "hard", 0, "plain.txt", NULL },
    { "hard2", 0, "/etc/passwd", NULL },
    { "fifo", AE_IFIFO, NULL, NULL },
    { "device", AE_IFCHR, NULL, NULL },
    { "setuid", AE_IFREG, NULL, "setuid" },
};

static la_ssize_t on_write(struct archive *a, void *ctx, const void *data, size_t len)
{
    (void)a;
    buf_add(ctx, data, len);
    return (la_ssize_t)len;
}

static void make_hostile(struct buf *out)
{
    struct archive *a = archive_write_new();
    (void)archive_write_set_format_pax_restricted(a);
    (void)archive_write_open(a, out, NULL, on_write, NULL);
    for (size_t i = 0; i < sizeof hostile / sizeof hostile[0]; i++) {
        const struct row *r = &hostile[i];
        struct archive_entry *e = archive_entry_new();
        archive_entry_set_pathname(e, r->name);
        archive_entry_set_filetype(e, r->type ? r->type : AE_IFREG);
        archive_entry_set_perm(e, str_eq(r->name, "setuid") ? 06755 : 0644);
        archive_entry_set_size(e, r->type == AE_IFREG ? 4 : 0);
        if (r->type == AE_IFLNK)
            archive_entry_set_symlink(e, r->target);
        else if (r->target)
            archive_entry_set_hardlink(e, r->target);
        (void)archive_write_header(a, e);
        if (r->type == AE_IFREG)
            (void)archive_write_data(a, "data", 4);
        archive_entry_free(e);
    }
    (void)archive_write_close(a);
    (void)archive_write_free(a);
}

struct source {
    const struct buf *b;
    size_t at, step;
    int64_t told;
};

static int read_source(void *ctx, const char **data, size_t *len, struct err *e)
{
    struct source *s = ctx;
    size_t left = s->b->len - s->at;
    (void)e;
    *data = buf_str(s->b) + s->at;
    *len = left < s->step ? left : s->step;
    s->at += *len;
    return *len > 0;
}

static void on_skip(void *ctx, const char *name, const char *why)
{
    struct source *s = ctx;
    s->told += name && why;
}

static void check_hostile(void)
{
    char dir[100], path[300];
    AUTO(buf) struct buf tar = BUF_INIT(1 * MIB);
    struct archive_stats stats;
    struct stat st;
    (void)snprintf(dir, sizeof dir, "%s/hostile", home);
    CHECK(mkdir(dir, 0700) == 0);
    make_hostile(&tar);
    struct source s = { .b = &tar, .step = 700 };
    const struct unpack_source from = { read_source, on_skip, &s };
    CHECK(unpack(&from, dir, &stats, &err) == 0);
    int64_t wanted = 0, rows = (int64_t)(sizeof hostile / sizeof hostile[0]);
    for (size_t i = 0; i < sizeof hostile / sizeof hostile[0]; i++) {
        const char *there = hostile[i].there;
        (void)snprintf(path, sizeof path, "%s/%s", hostile[i].name[0] == '/' ? "" : dir,
                       hostile[i].name);
        CHECK_ROW(hostile[i].name, (lstat(path, &st) == 0) == (there != NULL));
        wanted += there != NULL;
        if (str_eq(there, "setuid"))
            CHECK((st.st_mode & 07777) == 0755);
    }
    CHECK(s.told == rows - wanted && stats.skipped + stats.failed == s.told);
    (void)snprintf(path, sizeof path, "%s/dir/through.txt", dir);
    CHECK(access(path, F_OK) < 0);
    (void)snprintf(path, sizeof path, "%s/out.txt", home);
    CHECK(access(path, F_OK) < 0);
    /* Cut anywhere: an error, and no harm. */
    for (size_t cut = 1; cut < tar.len; cut += 511) {
        struct buf part = { .data = tar.data, .len = cut, .max = cut };
        struct source p = { .b = &part, .step = 512 };
        const struct unpack_source cut_from = { read_source, on_skip, &p };
        (void)unpack(&cut_from, dir, &stats, &err); /* either is right, by where it is cut */
    }
    CHECK(access(path, F_OK) < 0);
}

/* --- there and back --- */

static void check_round(void)
{
    char from_dir[100], to_dir[100], command[400], chunk[1000];
    AUTO(buf) struct buf tar = BUF_INIT(8 * MIB);
    struct pack *p;
    struct archive_stats stats;
    struct source s = { .b = &tar, .step = 4096 };
    ssize_t n;
    (void)snprintf(from_dir, sizeof from_dir, "%s/from", home);
    (void)snprintf(to_dir, sizeof to_dir, "%s/to", home);
    (void)snprintf(command, sizeof command,
                   "cd %s && mkdir -p from/d/e to && head -c 300000 /dev/urandom >from/d/e/big && "
                   ": >from/empty && printf x >\"from/od d\" && chmod 750 \"from/od d\" && "
                   "ln -s /etc from/link && ln -s ../empty from/d/in && mkfifo from/fifo && ln "
                   "from/empty from/twice",
                   home);
    CHECK(system(command) == 0); /* NOLINT(bugprone-command-processor): the test's own line */
    CHECK(pack_open(from_dir, on_skip, &s, &p, &err) == 0);
    while ((n = pack_read(p, chunk, sizeof chunk, &err)) > 0)
        buf_add(&tar, chunk, (size_t)n);
    CHECK(n == 0 && !tar.failed);
    CHECK(pack_stats(p)->files == 5 && pack_stats(p)->bytes == 300001 && s.told == 2);
    pack_close(p);
    const struct unpack_source from = { read_source, on_skip, &s };
    CHECK(unpack(&from, to_dir, &stats, &err) == 0 && stats.files == 5 && stats.skipped == 0);
    (void)snprintf(command, sizeof command,
                   "cd %s && rm from/link from/fifo && diff -r from to && "
                   "test \"$(stat -c %%a 'to/od d')\" = 750",
                   home);
    CHECK(system(command) == 0); /* NOLINT(bugprone-command-processor): the test's own line */
    CHECK(pack_open("/no/such/directory", on_skip, &s, &p, &err) < 0 ||
          (pack_read(p, chunk, sizeof chunk, &err) < 0 && (pack_close(p), true)));
}

int main(void)
{
    char command[100];
    CHECK(mkdtemp(home) != NULL);
    check_hostile();
    check_round();
    (void)snprintf(command, sizeof command, "cd / && rm -r %s", home);
    CHECK(system(command) == 0); /* NOLINT(bugprone-command-processor): the test's own line */
    return check_done();
}
