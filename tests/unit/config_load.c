/* Settings: every rule in both sources. A row is an environment and an env file; the message names
 * the knob or the line. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/digest.h"
#include "base/fd.h"
#include "base/str.h"
#include "check.h"
#include "config/config.h"
#include "values.h"

#define OFF "SANDBOXD_API_AUTH_DISABLED=true"
#define S200                                                                               \
    "ssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssss" \
    "ssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssss" \
    "ssssssssssssssssssssssssssssssss"

static const struct {
    const char *env;  /* NAME=value, one after the other, split at ';' */
    const char *file; /* NULL: no --env-file */
    const char *want; /* NULL: accepted; else the message holds it */
} rows[] = {
    /* auth */
    { "", NULL, "SANDBOXD_API_TOKENS: no token is set" },
    { "SANDBOXD_API_TOKENS=", NULL, "SANDBOXD_API_TOKENS: no token is set" },
    { "SANDBOXD_API_TOKENS=, ,", NULL, "SANDBOXD_API_TOKENS: no token is set" },
    { "SANDBOXD_API_AUTH_DISABLED=false", NULL, "SANDBOXD_API_TOKENS: no token is set" },
    { OFF, NULL, NULL },
    { "SANDBOXD_API_AUTH_DISABLED=1", NULL, NULL },
    { "SANDBOXD_API_AUTH_DISABLED=YES", NULL, NULL },
    { "SANDBOXD_API_AUTH_DISABLED=on", NULL, NULL },
    { "SANDBOXD_API_AUTH_DISABLED=maybe", NULL, "SANDBOXD_API_AUTH_DISABLED: \"maybe\" is not" },
    { OFF ";SANDBOXED_API_BIND=0.0.0.0:9090", NULL, "SANDBOXD_API_AUTH_DISABLED: not while SANDB" },
    { OFF ";SANDBOXED_API_BIND=:9090", NULL,
      "SANDBOXD_API_AUTH_DISABLED: not while SANDBOXED_API" },
    { OFF ";SANDBOXED_API_BIND=192.168.1.5:9090", NULL, "SANDBOXD_API_AUTH_DISABLED: not while" },
    { OFF ";SANDBOXED_API_BIND=[::]:9090", NULL, "SANDBOXD_API_AUTH_DISABLED: not while" },
    { OFF ";SANDBOXED_API_BIND=127.9.9.9:9090", NULL, NULL },
    { OFF ";SANDBOXED_API_BIND=[::1]:9090", NULL, NULL },
    { OFF ";SANDBOXED_API_BIND=[::ffff:127.0.0.1]:9090", NULL, NULL },
    { OFF ";SANDBOXED_API_BIND=[::ffff:10.0.0.1]:9090", NULL, "SANDBOXD_API_AUTH_DISABLED: not" },
    { OFF ";SANDBOXED_API_BIND=localhost:9091", NULL, NULL },
    { OFF ";PREVIEW_DOMAIN=example.com", NULL, "not while PREVIEW_DOMAIN=example.com is not" },
    { OFF ";PREVIEW_DOMAIN=notlocalhost", NULL, "not while PREVIEW_DOMAIN=notlocalhost" },
    { OFF ";PREVIEW_DOMAIN=box.LOCALHOST", NULL, NULL },
    { OFF ";PREVIEW_DOMAIN=localhost.example.com", NULL, "SANDBOXD_API_AUTH_DISABLED: not while" },
    /* tokens */
    { "SANDBOXD_API_TOKENS=a:12345678", NULL, NULL },
    { "SANDBOXD_API_TOKENS=a=12345678", NULL, NULL },
    { "SANDBOXD_API_TOKENS= a:12345678 , b=abcdefgh ,", NULL, NULL },
    { "SANDBOXD_API_TOKENS=a:12345678,a:abcdefgh;SANDBOXED_API_BIND=0.0.0.0:9090", NULL, NULL },
    { "SANDBOXD_API_TOKENS=a:1234567", NULL, "a secret of \"a\" is not 8 to 256 bytes" },
    { "SANDBOXD_API_TOKENS=a:" S200 S200, NULL, "a secret of \"a\" is not 8 to 256 bytes" },
    { "SANDBOXD_API_TOKENS=12345678", NULL, "entry 1 is not name:secret" },
    { "SANDBOXD_API_TOKENS=:12345678", NULL, "entry 1 is not name:secret" },
    { "SANDBOXD_API_TOKENS=a:12345678,b c:12345679", NULL, "entry 2 is not name:secret" },
    { "SANDBOXD_API_TOKENS=a/b:12345678", NULL, "entry 1 is not name:secret" },
    { "SANDBOXD_API_TOKENS=" S200 ":12345678", NULL, "entry 1 is not name:secret" },
    { "SANDBOXD_API_TOKENS=a:1234 5678", NULL, "besides visible ASCII" },
    { "SANDBOXD_API_TOKENS=a:12345678\xc3\xa9", NULL, "besides visible ASCII" },
    { "SANDBOXD_API_TOKENS=a:12345678,b:12345678", NULL, "\"a\" and \"b\" have the same secret" },
    { "SANDBOXD_API_TOKENS=a:12345678,a=12345678", NULL, NULL },
    /* binds, paths, names */
    { OFF ";SANDBOXED_API_BIND=9090", NULL, "SANDBOXED_API_BIND: \"9090\" is not address:port" },
    { OFF ";SANDBOXED_API_BIND=127.0.0.1", NULL, "SANDBOXED_API_BIND: " },
    { OFF ";SANDBOXED_API_BIND=127.0.0.1:0", NULL, "SANDBOXED_API_BIND: " },
    { OFF ";SANDBOXED_API_BIND=example.com:80", NULL, "SANDBOXED_API_BIND: " },
    { OFF ";SANDBOXED_EDGE_BIND=nonsense", NULL, "SANDBOXED_EDGE_BIND: " },
    /* previews */
    { OFF ";PREVIEW_EDGE=nginx", NULL, "PREVIEW_EDGE: \"nginx\" is not traefik or builtin" },
    { OFF ";PREVIEW_EDGE=builtin;PREVIEW_BIND=127.0.0.1;HTTP_PORT=8080", NULL, NULL },
    { OFF ";PREVIEW_EDGE=builtin;PREVIEW_TLS=on", NULL, "PREVIEW_TLS: the built-in edge" },
    { OFF ";PREVIEW_TLS=on;PREVIEW_ENTRYPOINT=websecure", NULL, NULL },
    { OFF ";PREVIEW_ENTRYPOINT=web,other", NULL, "PREVIEW_ENTRYPOINT: \"web,other\" is not" },
    { OFF ";PREVIEW_ENTRYPOINT=web`", NULL, "PREVIEW_ENTRYPOINT: " },
    { OFF ";PREVIEW_BIND=everywhere", NULL, "PREVIEW_BIND: " },
    { OFF ";PREVIEW_BIND=::1", NULL, NULL },
    { OFF ";PREVIEW_BIND=[::1]", NULL, NULL },
    { OFF ";HTTP_PORT=0", NULL, "HTTP_PORT: 0 is below 1" },
    { OFF ";HTTPS_PORT=65536", NULL, "HTTPS_PORT: 65536 is above 65535" },
    { OFF ";SANDBOXD_FRONT_SOCKET=docker.sock", NULL, "SANDBOXD_FRONT_SOCKET: must be" },
    { OFF ";SANDBOXED_DATA_DIR=relative", NULL, "SANDBOXED_DATA_DIR: must be an absolute path" },
    { OFF ";SANDBOXED_DATA_DIR=/", NULL, "SANDBOXED_DATA_DIR: " },
    { OFF ";SANDBOXED_DATA_DIR=//", NULL, "SANDBOXED_DATA_DIR: " },
    { OFF ";SANDBOXED_DATA_DIR=/a/../b", NULL, "SANDBOXED_DATA_DIR: " },
    { OFF ";SANDBOXED_DATA_DIR=/a/..", NULL, "SANDBOXED_DATA_DIR: " },
    { OFF ";SANDBOXED_DATA_DIR=/a/..b", NULL, NULL },
    { OFF ";DOCKER_HOST=tcp://127.0.0.1:2375", NULL, "DOCKER_HOST: " },
    { OFF ";DOCKER_HOST=unix://relative", NULL, "DOCKER_HOST: " },
    { OFF ";PREVIEW_DOMAIN=a_b", NULL, "PREVIEW_DOMAIN: " },
    { OFF ";PREVIEW_DOMAIN=localhost:80", NULL, "PREVIEW_DOMAIN: " },
    { OFF ";PREVIEW_DOMAIN=10.0.0.1", NULL, "PREVIEW_DOMAIN: " },
    { OFF ";PREVIEW_DOMAIN=[::1]", NULL, "PREVIEW_DOMAIN: " },
    { OFF ";PREVIEW_DOMAIN=.localhost", NULL, "PREVIEW_DOMAIN: " },
    { OFF ";SANDBOXD_IMAGE=a b", NULL, "SANDBOXD_IMAGE: \"a b\" is not the name of an image" },
    { OFF ";SANDBOXD_IMAGE=-x", NULL, "SANDBOXD_IMAGE: " },
    { OFF ";SANDBOXD_IMAGE=h:5000/a/b_c:1.0@sha256:abc", NULL, NULL },
    { OFF ";SANDBOXD_IMAGES=a:1,b;c", NULL, NULL }, /* the ';' ends this variable */
    { OFF ";SANDBOXD_IMAGES=a:1,b$c", NULL, "SANDBOXD_IMAGES: \"b$c\"" },
    { OFF ";SANDBOXD_NETWORK=mine", NULL, "SANDBOXD_NETWORK: the firewall guards our own" },
    { OFF ";SANDBOXD_NETWORK=mine;SANDBOXD_FIREWALL=false", NULL, NULL },
    { OFF ";SANDBOXD_NETWORK=a b;SANDBOXD_FIREWALL=no", NULL, "SANDBOXD_NETWORK: \"a b\"" },
    { OFF ";SANDBOXD_API_HOSTS=api.example.com, box", NULL, NULL },
    { OFF ";SANDBOXD_API_HOSTS=api.example.com:80", NULL, "SANDBOXD_API_HOSTS: " },
    { OFF ";SANDBOXD_API_HOSTS=*", NULL, "SANDBOXD_API_HOSTS: " },
    { OFF ";SANDBOXD_API_ORIGINS=https://App.example.com:443", NULL, NULL },
    { OFF ";SANDBOXD_API_ORIGINS=*", NULL, "SANDBOXD_API_ORIGINS: " },
    { OFF ";SANDBOXD_API_ORIGINS=app.example.com", NULL, "SANDBOXD_API_ORIGINS: " },
    { OFF ";SANDBOXD_API_ORIGINS=https://a.com/path", NULL, "SANDBOXD_API_ORIGINS: " },
    { OFF ";SANDBOXD_API_ORIGINS=null", NULL, "SANDBOXD_API_ORIGINS: " },
    { OFF ";SANDBOXD_LOG_LEVEL=loud", NULL, "SANDBOXD_LOG_LEVEL: \"loud\" is not debug" },
    { OFF ";SANDBOXD_LOG_LEVEL=error", NULL, NULL },
    { OFF ";SANDBOXD_LOG_LEVEL=in\nfo", NULL, "SANDBOXD_LOG_LEVEL: holds a control character" },
    /* numbers and times */
    { OFF ";SANDBOXD_PIDS=16", NULL, NULL },
    { OFF ";SANDBOXD_PIDS=15", NULL, "SANDBOXD_PIDS: 15 is below 16" },
    { OFF ";SANDBOXD_PIDS=65537", NULL, "SANDBOXD_PIDS: 65537 is above 65536" },
    { OFF ";SANDBOXD_PIDS=1e3", NULL, "SANDBOXD_PIDS: \"1e3\" is not a whole number" },
    { OFF ";SANDBOXD_PIDS=-1", NULL, "SANDBOXD_PIDS: \"-1\" is not a whole number" },
    { OFF ";SANDBOXD_PIDS=100 ", NULL, "SANDBOXD_PIDS: \"100 \" is not a whole number" },
    { OFF ";SANDBOXD_PIDS=18446744073709551615", NULL, "SANDBOXD_PIDS: " },
    { OFF ";SANDBOXD_MEMORY_MIB=4096;SANDBOXD_MEMORY_MIB_MAX=2048", NULL,
      "SANDBOXD_MEMORY_MIB: 4096 is above SANDBOXD_MEMORY_MIB_MAX (2048)" },
    { OFF ";SANDBOXD_STOP_GRACE=100ms", NULL, NULL },
    { OFF ";SANDBOXD_STOP_GRACE=99ms", NULL, "SANDBOXD_STOP_GRACE: 99ms is below 100ms" },
    { OFF ";SANDBOXD_STOP_GRACE=61", NULL, "SANDBOXD_STOP_GRACE: 61 is above 1m" },
    { OFF ";SANDBOXD_STOP_GRACE=5x", NULL, "SANDBOXD_STOP_GRACE: \"5x\" is not a time" },
    { OFF ";SANDBOXD_STOP_GRACE=5 s", NULL, "SANDBOXD_STOP_GRACE: \"5 s\" is not a time" },
    { OFF ";SANDBOXD_SHUTDOWN_GRACE=1m30s", NULL, NULL },
    /* aliases and precedence */
    { OFF ";SANDBOXD_ADDR=127.0.0.1:7000", NULL, NULL },
    { OFF ";SANDBOXD_ADDR=127.0.0.1:7000;SANDBOXED_API_BIND=127.0.0.1:7000", NULL, NULL },
    { OFF ";SANDBOXD_ADDR=127.0.0.1:7000;SANDBOXED_API_BIND=127.0.0.1:7001", NULL,
      "SANDBOXED_API_BIND and its alias SANDBOXD_ADDR are both set and differ" },
    { OFF ";SANDBOXD_ADDR=;SANDBOXED_API_BIND=127.0.0.1:7001", NULL, NULL },
    { OFF ";SANDBOXD_ADDR=127.0.0.1:7000", "SANDBOXED_API_BIND=nonsense", NULL },
    { OFF, "SANDBOXD_ADDR=127.0.0.1:1\nSANDBOXED_API_BIND=127.0.0.1:2\n",
      "are both set and differ" },
    { OFF, "SANDBOXD_PIDS=15", "SANDBOXD_PIDS: 15 is below 16" },
    { OFF ";SANDBOXD_PIDS=100", "SANDBOXD_PIDS=15", NULL },
    { OFF ";SANDBOXD_PIDS=", "SANDBOXD_PIDS=15", "SANDBOXD_PIDS: 15 is below 16" },
    /* the file's form */
    { "", OFF "\n", NULL },
    { "", OFF, NULL },
    { "", "\xef\xbb\xbf" OFF, ":1: not of the form NAME=value" },
    { "", "# a comment\r\n\r\n  # another\r\n" OFF "\r\n", NULL },
    { "", "  SANDBOXD_API_AUTH_DISABLED = \"true\"  \n", NULL },
    { "", "export SANDBOXD_API_AUTH_DISABLED='true'\n", NULL },
    { "", OFF "\nSANDBOXD_IMAGE=\"a\n", ":2: SANDBOXD_IMAGE: a quote is not closed" },
    { "", OFF "\nSANDBOXD_IMAGE=\"\n", ":2: SANDBOXD_IMAGE: a quote is not closed" },
    { "", OFF "\nSANDBOXD_IMAGE=''\n", NULL },
    { "", OFF "\nOTHER_PROGRAM=$(x) y # z\nlower=1\n", NULL },
    { "", OFF "\n\nSANDBOXD_PID=5\n", ":3: SANDBOXD_PID is not a setting" },
    { "", OFF "\nSANDBOXED_ANYTHING=5\n", ":2: SANDBOXED_ANYTHING is not a setting" },
    { "", OFF "\nSANDBOX=\n", ":2: SANDBOX is not a setting" },
    { "", OFF "\nSANDBOXD_PIDS\n", ":2: not of the form NAME=value" },
    { "", OFF "\n=5\n", ":2: not of the form NAME=value" },
    { "", OFF "\n1A=5\n", ":2: not of the form NAME=value" },
    { "", OFF "\nA B=5\n", ":2: not of the form NAME=value" },
    { "", OFF "\n" OFF "\n", ":2: SANDBOXD_API_AUTH_DISABLED was given on line 1 already" },
    { "", OFF "\nSANDBOXD_IMAGE=a=b\n", "SANDBOXD_IMAGE: \"a=b\"" },
    { "", "SANDBOXD_API_TOKENS=\"a:1234'5678\"", NULL },
    { "", "", "SANDBOXD_API_TOKENS: no token is set" },
};

static char file_path[] = "/tmp/sandboxd-unit-XXXXXX";

static void write_file(const void *data, size_t len)
{
    AUTO(fd) int fd = open(file_path, O_WRONLY | O_TRUNC | O_CLOEXEC);
    if (fd < 0 || fd_write_all(fd, data, len) < 0)
        abort();
}

static void set_environment(const char *text)
{
    (void)clearenv();
    while (*text) {
        size_t n = strcspn(text, ";");
        AUTO(free) char *pair = str_ndup(text, n);
        char *eq = strchr(pair, '=');
        if (eq) {
            *eq = 0;
            (void)setenv(pair, eq + 1, 1);
        }
        text += n + (text[n] == ';');
    }
}

static int load(const char *env, const char *file, struct config *c, struct err *err)
{
    set_environment(env);
    if (file)
        write_file(file, strlen(file));
    return config_load(file ? file_path : NULL, c, err);
}

static void check_rows(void)
{
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct config c = { 0 };
        struct err err = { 0 };
        char row[200];
        (void)snprintf(row, sizeof row, "%.100s | %.80s", rows[i].env,
                       rows[i].file ? rows[i].file : "-");
        int rc = load(rows[i].env, rows[i].file, &c, &err);
        bool fine = rows[i].want
                        ? rc == -1 && err.code == ERR_INVALID && strstr(err.msg, rows[i].want)
                        : rc == 0;
        if (!CHECK_ROW(row, fine))
            printf("# got: %d %s\n", rc, err.msg);
        CHECK_ROW(row, !strchr(err.msg, '\n') && !strstr(err.msg, "12345678"));
        CHECK_ROW(row, !getenv("SANDBOXD_API_TOKENS"));
        config_release(&c);
    }
}

static void check_defaults(void)
{
    struct config c = { 0 };
    struct err err;
    CHECK(load(OFF, NULL, &c, &err) == 0);
    CHECK(str_eq(c.api.host, "127.0.0.1") && c.api.port == 9090 && c.api.loopback);
    CHECK(!c.edge_builtin && c.public.port == 80 && str_eq(c.public.host, "0.0.0.0"));
    CHECK(c.edge.port == 9080 && c.firewall && c.auth_disabled && c.n_tokens == 0);
    CHECK_STR("/var/lib/sandboxed", c.data_dir);
    CHECK_STR("unix:///var/run/docker.sock", c.docker_host);
    CHECK(c.n_images == 1 && str_eq(c.images[0], c.image));
    CHECK(c.stop_grace_ms == 5000 && c.keepalive_max_ms == 86400000 && c.memory_mib == 2048);
    config_release(&c);
    config_release(&c);
}

static void check_values(void)
{
    struct config c = { 0 };
    struct err err;
    uint8_t digest[DIGEST_BYTES];
    CHECK(
        load(
            "SANDBOXED_API_BIND=:8080;SANDBOXED_DATA_DIR=/srv/box//;PREVIEW_DOMAIN=Box.Example.COM;"
            "SANDBOXD_IMAGE=base:1;SANDBOXD_IMAGES=b:2, base:1 ,a:1,b:2;SANDBOXD_FIREWALL=0;"
            "SANDBOXD_API_HOSTS=API.example.com,api.EXAMPLE.com;"
            "SANDBOXD_API_ORIGINS=HTTPS://App.example.com:443,http://[::1]:3000,http://a:80;"
            "SANDBOXD_API_TOKENS=alice:first-secret,alice=second-secret,bob:a=b:c=d:e;"
            "SANDBOXD_SWEEP_INTERVAL=90",
            NULL, &c, &err) == 0);
    CHECK(str_eq(c.api.host, "0.0.0.0") && c.api.port == 8080 && !c.api.loopback);
    CHECK_STR("/srv/box", c.data_dir);
    CHECK_STR("box.example.com", c.preview_domain);
    CHECK(c.n_images == 3 && str_eq(c.images[0], "base:1") && str_eq(c.images[1], "b:2") &&
          str_eq(c.images[2], "a:1"));
    CHECK(c.n_hosts == 1 && str_eq(c.hosts[0], "api.example.com"));
    CHECK(c.n_origins == 3 && str_eq(c.origins[0], "https://app.example.com") &&
          str_eq(c.origins[1], "http://[::1]:3000") && str_eq(c.origins[2], "http://a"));
    CHECK(c.sweep_ms == 90000 && !c.firewall);
    CHECK(c.n_tokens == 3 && str_eq(c.tokens[0].name, "alice") &&
          str_eq(c.tokens[1].name, "alice") && str_eq(c.tokens[2].name, "bob"));
    digest_sha256("second-secret", 13, digest);
    CHECK(memcmp(digest, c.tokens[1].digest, sizeof digest) == 0);
    digest_sha256("a=b:c=d:e", 9, digest); /* split at the first mark only */
    CHECK(memcmp(digest, c.tokens[2].digest, sizeof digest) == 0);
    CHECK_STR("", c.api_tokens);
    config_release(&c);
}

/* The block that the kernel shows in /proc: the secret's bytes themselves must be gone. */
static void check_erased(void)
{
    static char block[] = "SANDBOXD_API_TOKENS=alice:plain-secret";
    struct config c = { 0 };
    struct err err;
    (void)clearenv();
    (void)putenv(block);
    CHECK(config_load(NULL, &c, &err) == 0 && c.n_tokens == 1);
    CHECK(memmem(block, sizeof block, "plain-secret", 12) == NULL);
    config_release(&c);
}

static void check_files(void)
{
    struct config c = { 0 };
    struct err err;
    AUTO(free) char *big = mem_new(70000, 1);
    set_environment(OFF);
    CHECK(config_load("/no/such/file", &c, &err) == -1 && err.code == ERR_INVALID &&
          strstr(err.msg, "/no/such/file"));
    CHECK(config_load("/tmp", &c, &err) == -1 && strstr(err.msg, "not a regular file"));
    CHECK(config_load("/dev/zero", &c, &err) == -1 && strstr(err.msg, "not a regular file"));
    write_file("A=1\nB\0=2\n", 9);
    CHECK(config_load(file_path, &c, &err) == -1 && strstr(err.msg, ":2: a NUL byte"));
    memset(big, '#', 70000);
    write_file(big, 70000);
    CHECK(config_load(file_path, &c, &err) == -1 && strstr(err.msg, "larger than 65536 bytes"));
    write_file(big, 65536);
    CHECK(config_load(file_path, &c, &err) == 0);
    config_release(&c);
    memset(big, 'x', 40000);
    big[40000] = 0;
    (void)setenv("SANDBOXD_IMAGES", big, 1);
    CHECK(config_load(NULL, &c, &err) == -1 && strstr(err.msg, "SANDBOXD_IMAGES: longer than"));
}

static void check_durations(void)
{
    static const struct {
        const char *text;
        int64_t ms; /* -1: refused */
        const char *back;
    } times[] = {
        { "0", 0, "0h" },
        { "5", 5000, "5s" },
        { "500ms", 500, "500ms" },
        { "15m", 900000, "15m" },
        { "24h", 86400000, "24h" },
        { "1h30m", 5400000, "90m" },
        { "1s500ms", 1500, "1500ms" },
        { "", -1, "" },
        { "s", -1, "" },
        { "5s5", -1, "" },
        { "-5s", -1, "" },
        { "1.5s", -1, "" },
        { "5S", -1, "" },
        { "5d", -1, "" },
        { "9223372036854775807h", -1, "" },
        { "9223372036854775808", -1, "" },
    };
    for (size_t i = 0; i < sizeof times / sizeof times[0]; i++) {
        int64_t ms = -1;
        char text[32] = "";
        bool ok = value_duration(times[i].text, &ms);
        CHECK_ROW(times[i].text, ok == (times[i].ms >= 0) && ms == times[i].ms);
        if (ok)
            value_duration_text(ms, text, sizeof text);
        CHECK_STR(times[i].back, text);
    }
}

/* What --print-env shows loads again and changes nothing. */
static void check_print(void)
{
    struct config plain = { 0 }, c = { 0 };
    struct err err;
    char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);
    config_print(out, false);
    (void)fclose(out);
    for (char *p = text; (p = strstr(p, "\n#SANDBOX")); p++) /* every default set by hand */
        p[1] = ' ';
    CHECK(load(OFF, NULL, &plain, &err) == 0 && load(OFF, text, &c, &err) == 0);
    CHECK(str_eq(c.data_dir, plain.data_dir) && c.keepalive_max_ms == plain.keepalive_max_ms &&
          c.firewall == plain.firewall && c.pids == plain.pids);
    free(text);
    config_release(&plain);
    config_release(&c);
    out = open_memstream(&text, &len);
    config_print(out, true);
    (void)fclose(out);
    CHECK(strstr(text, "| `SANDBOXED_API_BIND`<br>(`SANDBOXD_ADDR`) | `127.0.0.1:9090` |"));
    CHECK(strstr(text, "100ms to 1m. |\n"));
    free(text);
}

int main(void)
{
    int fd = mkstemp(file_path);
    if (fd < 0)
        return 1;
    (void)close(fd);
    check_rows();
    check_defaults();
    check_values();
    check_erased();
    check_files();
    check_durations();
    check_print();
    (void)unlink(file_path);
    return check_done();
}
