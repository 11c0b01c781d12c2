/* sandboxd: the only file that knows every room. Parses the command line, opens the rooms in order,
 * waits for a signal, and closes them in reverse, whether they were all opened or not.
 *
 * Signals are blocked in every thread and read here. After TERM requests may end within
 * SANDBOXD_SHUTDOWN_GRACE; sandboxes go on without us. A second TERM ends the process at once, and
 * so does a shutdown that hangs: the next start repairs whatever was left (crash-only). */
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <malloc.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "api/api.h"
#include "base/clock.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/str.h"
#include "base/worker.h"
#include "cli/cli.h"
#include "commands.h"
#include "config/config.h"
#include "core/core.h"
#include "docker/docker.h"
#include "edge/edge.h"
#include "front/front.h"
#include "link/link.h"
#include "net/firewall.h"
#include "store/store.h"
#include "volume/volume.h"
#include "work/work.h"

enum { EXIT_FAULT = 1, EXIT_USAGE = 2 };

#define SANDBOX_UID 1000 /* of the user in a sandbox, and owner of its workspace */

struct daemon {
    struct config config;
    char bridge[16]; /* interface of the sandboxes' network */
    struct store *store;
    struct volume *volume;
    struct link *link;
    struct docker *docker;
    struct core *core;
    struct front *front;
    struct api *api;
    struct edge *edge;
    struct work *work;
    struct worker *guard;
    atomic_bool guarded; /* the firewall was in place at the last look */
};

/* --- the firewall: in place before any sandbox starts, looked at again every few seconds --- */

static int firewall_up(struct daemon *d, struct err *err)
{
    if (firewall_apply(store_instance(d->store), d->bridge, err) < 0) {
        (void)err_wrap(err, "firewall");
        return err_remedy(err, "run as root with nf_tables in the kernel, or set "
                               "SANDBOXD_FIREWALL=false and guard the network yourself");
    }
    atomic_store(&d->guarded, true);
    return 0;
}

static int64_t guard_tick(void *ctx, int64_t mono_ms)
{
    struct daemon *d = ctx;
    struct err err;
    (void)mono_ms;
    int there = firewall_check(store_instance(d->store), d->bridge, &err);
    if (there == 1) {
        atomic_store(&d->guarded, true);
        return FIREWALL_CHECK_MS;
    }
    atomic_store(&d->guarded, false); /* no sandbox is brought up meanwhile */
    if (there == 0)
        log_warn("firewall.missing", KV_STR("bridge", d->bridge));
    if (firewall_up(d, &err) < 0)
        log_error("firewall.failed", KV_ERR(&err));
    else
        log_warn("firewall.restored", KV_STR("bridge", d->bridge));
    return FIREWALL_CHECK_MS;
}

/* core_parts.prepare: before a container is made. */
static int prepare(void *ctx, struct err *err)
{
    struct daemon *d = ctx;
    if (d->config.firewall && !atomic_load(&d->guarded))
        return err_set(err, ERR_UNAVAILABLE, "the sandboxes' firewall is not in place");
    return docker_network_ensure(d->docker, err);
}

/* --- open and close --- */

static int open_rooms(struct daemon *d, struct err *err)
{
    const struct config *c = &d->config;
    /* First of all: it refuses a second daemon before anything disturbs the one that runs. */
    if (store_open(c->data_dir, &d->store, err) < 0)
        return -1;
    (void)snprintf(d->bridge, sizeof d->bridge, "sbx%.8s", store_instance(d->store));
    if (c->firewall && firewall_up(d, err) < 0)
        return -1;
    if (volume_new(c->data_dir, SANDBOX_UID, SANDBOX_UID, &d->volume, err) < 0 ||
        link_new(c->data_dir, &d->link, err) < 0)
        return -1;
    struct docker_options engine = {
        .host = c->docker_host,
        .instance = store_instance(d->store),
        .network = c->network[0] ? c->network : NULL,
        .bridge = d->bridge,
    };
    if (docker_new(&engine, &d->docker, err) < 0)
        return -1;
    struct core_parts parts = {
        .config = c,
        .store = d->store,
        .runtime = docker_runtime(d->docker),
        .link = d->link,
        .volume = d->volume,
        .prepare = prepare,
        .prepare_ctx = d,
    };
    if (core_new(&parts, &d->core, err) < 0)
        return -1;
    if (c->firewall && !(d->guard = worker_start("firewall", guard_tick, d, err)))
        return -1;
    if (!c->edge_builtin && front_start(d->core, c, store_instance(d->store), &d->front, err) < 0)
        return -1;
    /* Listens before the rows are compared with the Engine: /readyz says when that is done. */
    if (api_start(d->core, c, &d->api, err) < 0 || edge_start(d->core, c, &d->edge, err) < 0)
        return -1;
    return work_start(d->core, d->docker, d->volume, c, &d->work, err);
}

static void close_rooms(struct daemon *d)
{
    int64_t deadline_ms = clock_mono_ms() + d->config.shutdown_ms;
    if (d->api) /* its long calls do not keep visitors of previews out */
        api_stop(d->api, deadline_ms);
    edge_stop(d->edge, deadline_ms);
    if (d->work)
        work_stop(d->work);
    worker_stop(d->guard);
    front_stop(d->front);
    if (d->core)
        core_free(d->core);
    if (d->docker)
        docker_free(d->docker);
    if (d->link)
        link_free(d->link);
    if (d->volume)
        volume_free(d->volume);
    store_close(d->store);
    config_release(&d->config);
}

/* --- the process --- */

/* 0, 1 and 2 are open whatever our parent did, so no file of ours ever becomes "stderr". */
static void open_standard_fds(void)
{
    int fd;
    do
        fd = open("/dev/null", O_RDWR); /* stays open across exec on purpose, as 0-2 do */
    while (fd >= 0 && fd <= 2);
    if (fd > 2)
        (void)close(fd);
}

static void set_up_process(void)
{
    struct rlimit files;
    open_standard_fds();
    (void)umask(077);
    (void)signal(SIGPIPE, SIG_IGN);
#ifndef SANDBOXED_DEBUG /* debuggers and leak checkers attach to debug builds */
    (void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0); /* memory holds secrets; cannot fail */
#endif
    if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < files.rlim_max) {
        files.rlim_cur = files.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &files); /* fewer sandboxes fit then; doctor says so */
    }
    /* Hundreds of short-lived threads would each get a heap that is never given back. */
    (void)mallopt(M_ARENA_MAX, 2);
}

#ifdef SANDBOXED_DEBUG /* a debugger's breakpoints are changes of code pages */
static void drop_startup_memory(void)
{
}
#else
/* Drops a library's code and constants from our resident memory. Its segments that were never
 * writable equal the file, so what is needed again comes back from the page cache. */
static int drop_module(struct dl_phdr_info *info, size_t size, void *page_size)
{
    const uintptr_t last = (uintptr_t) * (const long *)page_size - 1;
    (void)size;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *p = &info->dlpi_phdr[i];
        if (p->p_type != PT_LOAD || (p->p_flags & PF_W))
            continue;
        uintptr_t from = (info->dlpi_addr + p->p_vaddr) & ~last;
        uintptr_t to = (info->dlpi_addr + p->p_vaddr + p->p_memsz + last) & ~last;
        (void)madvise((void *)from, to - from, MADV_DONTNEED); /* refused for the vdso: fine */
    }
    return 0;
}

/* Starting touches 10 MiB of code that is never run again, most of it in libraries of libraries. */
static void drop_startup_memory(void)
{
    long page_size = sysconf(_SC_PAGESIZE);
    (void)malloc_trim(0);
    (void)dl_iterate_phdr(drop_module, &page_size);
}
#endif

static void leave_now(int signal)
{
    _exit(128 + signal);
}

/* From here on TERM, INT and the alarm end the process. */
static void arm_second_signal(int64_t grace_ms)
{
    static const int ending[] = { SIGTERM, SIGINT, SIGALRM };
    struct sigaction act = { .sa_handler = leave_now };
    sigset_t set;
    sigemptyset(&set);
    for (size_t i = 0; i < sizeof ending / sizeof ending[0]; i++) {
        (void)sigaction(ending[i], &act, NULL); /* the numbers are right */
        sigaddset(&set, ending[i]);
    }
    (void)alarm((unsigned)(grace_ms / 1000) + SHUTDOWN_SLACK_S);
    (void)pthread_sigmask(SIG_UNBLOCK, &set, NULL);
}

/* Blocks until TERM or INT. */
static int wait_for_end(const sigset_t *set)
{
    for (;;) {
        int got = sigwaitinfo(set, NULL);
        if (got == SIGTERM || got == SIGINT)
            return got;
        if (got == SIGHUP)
            log_info("server.hup_ignored", KV_STR("hint", "settings are read at start only"));
    }
}

static int fail(const struct err *err)
{
    (void)fprintf(stderr, "sandboxd: %s\n", err->msg);
    if (err->remedy[0])
        (void)fprintf(stderr, "sandboxd: remedy: %s\n", err->remedy);
    return EXIT_FAULT;
}

static enum log_level level_of(const char *word)
{
    return str_eq(word, "debug")   ? LOG_DEBUG
           : str_eq(word, "warn")  ? LOG_WARN
           : str_eq(word, "error") ? LOG_ERROR
                                   : LOG_INFO;
}

static int serve(const char *env_file)
{
    static struct daemon d; /* threads hold its address; zero to begin with */
    struct err err;
    sigset_t signals;
    int64_t began_ms = clock_mono_ms();
    if (config_load(env_file, &d.config, &err) < 0) {
        (void)fprintf(stderr, "sandboxd: %s%s%s\n", err.msg, err.remedy[0] ? "; " : "", err.remedy);
        return EXIT_USAGE;
    }
    set_up_process();
    log_set_level(level_of(d.config.log_level));
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGHUP);
    (void)pthread_sigmask(SIG_BLOCK, &signals, NULL);
    if (open_rooms(&d, &err) < 0) {
        close_rooms(&d);
        return fail(&err);
    }
    bool affected = false;
    const char *sqlite = store_sqlite_version(&affected);
    log_info("server.listening", KV_STR("api", d.config.api_bind),
             KV_STR("version", SANDBOXED_VERSION), KV_STR("data_dir", d.config.data_dir),
             KV_STR("instance", store_instance(d.store)), KV_STR("sqlite", sqlite),
             KV_STR("sqlite_wal_reset_bug", affected ? "affected, out of reach" : "fixed"),
             KV_STR("auth", d.config.auth_disabled ? "off" : "on"),
             KV_INT("took_ms", clock_mono_ms() - began_ms));
    if (d.config.auth_disabled)
        log_warn("server.auth_off", KV_STR("hint", "everybody on this machine owns every sandbox"));
    if (!d.config.firewall)
        log_warn("server.firewall_off", KV_STR("hint", "nothing keeps sandboxes from the host"));
    drop_startup_memory();
    int got = wait_for_end(&signals);
    log_info("server.stopping", KV_STR("signal", sigabbrev_np(got)),
             KV_INT("grace_ms", d.config.shutdown_ms));
    arm_second_signal(d.config.shutdown_ms);
    began_ms = clock_mono_ms();
    close_rooms(&d);
    log_info("server.stopped", KV_INT("took_ms", clock_mono_ms() - began_ms));
    return 0;
}

/* --- the command line --- */

struct options {
    const char *env_file;
    bool markdown;
    const char *dir;
};

static int cmd_serve(const struct options *o)
{
    return serve(o->env_file);
}

static int cmd_doctor(const struct options *o)
{
    return doctor(o->env_file);
}

static int cmd_print_traefik(const struct options *o)
{
    return print_traefik(o->env_file, o->dir);
}

static int cmd_print_env(const struct options *o)
{
    config_print(stdout, o->markdown);
    return 0;
}

static int cmd_print_routes(const struct options *o)
{
    api_print_routes(stdout, o->markdown);
    return 0;
}

static int cmd_print_openapi(const struct options *o)
{
    (void)o;
    api_print_openapi(stdout);
    return 0;
}

static int cmd_print_states(const struct options *o)
{
    (void)o;
    print_states(stdout);
    return 0;
}

static int cmd_print_man(const struct options *o);

static int cmd_version(const struct options *o)
{
    (void)o;
    (void)printf("sandboxd %s\n", SANDBOXED_VERSION);
    return 0;
}

static int cmd_help(const struct options *o);

enum { TAKES_ENV_FILE = 1 << 0, TAKES_MARKDOWN = 1 << 1, TAKES_DIR = 1 << 2 };

static const struct command {
    const char *word;
    int (*run)(const struct options *o);
    unsigned takes;
    const char *help;
} commands[] = {
    { "serve", cmd_serve, TAKES_ENV_FILE, "run the daemon" },
    { "doctor", cmd_doctor, TAKES_ENV_FILE, "look for faults, with a remedy for each" },
    { "print-traefik", cmd_print_traefik, TAKES_ENV_FILE | TAKES_DIR,
      "write Traefik's configuration into DIR (or the data directory's traefik/)" },
    { "--print-env", cmd_print_env, TAKES_MARKDOWN, "all settings with their defaults" },
    { "--print-routes", cmd_print_routes, TAKES_MARKDOWN, "all routes of the API" },
    { "--print-openapi", cmd_print_openapi, 0, "the API as an OpenAPI document" },
    { "--print-states", cmd_print_states, 0, "states of a sandbox, as Markdown" },
    { "--print-man", cmd_print_man, 0, "this program's manual page" },
    { "--version", cmd_version, 0, "version" },
    { "--help", cmd_help, 0, "this text" },
};
#define COMMANDS (sizeof commands / sizeof commands[0])

static void synopsis(const struct command *c, char out[64])
{
    (void)snprintf(out, 64, "%s%s%s%s", c->word,
                   c->takes & TAKES_ENV_FILE ? " [--env-file FILE]" : "",
                   c->takes & TAKES_DIR ? " [--dir DIR]" : "",
                   c->takes & TAKES_MARKDOWN ? " [--markdown]" : "");
}

static int cmd_print_man(const struct options *o)
{
    char left[COMMANDS][64];
    struct cli_other others[COMMANDS];
    (void)o;
    for (size_t i = 0; i < COMMANDS; i++) {
        synopsis(&commands[i], left[i]);
        others[i] = (struct cli_other){ left[i], commands[i].help };
    }
    cli_print_man(stdout, others, COMMANDS);
    return 0;
}

static int cmd_help(const struct options *o)
{
    (void)o;
    (void)printf("sandboxd %s: isolated sandboxes on one Docker host\n\nThe daemon:\n",
                 SANDBOXED_VERSION);
    for (size_t i = 0; i < COMMANDS; i++) {
        char left[64];
        synopsis(&commands[i], left);
        (void)printf("  sandboxd %-30s %s\n", left, commands[i].help);
    }
    (void)printf("\nA daemon's sandboxes, here or far away (sandboxd help COMMAND):\n");
    cli_print_help(stdout);
    (void)printf("\nSettings come from the environment or from FILE (NAME=value lines); see "
                 "--print-env.\n"
                 "Exit status: 0 fine, 1 a fault (with a remedy), 2 wrong usage or settings.\n");
    return 0;
}

static int usage(const char *what, const char *word)
{
    (void)fprintf(stderr, "sandboxd: %s%s%s (see sandboxd --help)\n", what, word ? " " : "",
                  word ? word : "");
    return EXIT_USAGE;
}

/* "--name=value" or "--name" "value": takes it off the front of args; what follows --name is
 * missing when *ret stays NULL. */
static bool takes_value(const char *name, char ***args, const char **ret)
{
    size_t n = strlen(name);
    char *word = **args;
    if (!str_starts(word, name) || (word[n] && word[n] != '='))
        return false;
    *ret = word[n] ? word + n + 1 : *++*args;
    return true;
}

int main(int argc, char **argv)
{
    struct options o = { 0 };
    const struct command *c = NULL;
    if (argc < 2)
        return usage("a command is missing", NULL);
    for (size_t i = 0; i < COMMANDS && !c; i++)
        if (str_eq(argv[1], commands[i].word))
            c = &commands[i];
    if (!c && cli_knows(argv[1]))
        return cli_run(argc, argv);
    if (!c)
        return usage("unknown command", argv[1]);
    for (char **at = argv + 2; *at; at++) {
        const char *word = *at, **value = NULL;
        if (str_eq(word, "--markdown") && (c->takes & TAKES_MARKDOWN)) {
            o.markdown = true;
            continue;
        }
        if ((c->takes & TAKES_ENV_FILE) && takes_value("--env-file", &at, &o.env_file))
            value = &o.env_file;
        else if ((c->takes & TAKES_DIR) && takes_value("--dir", &at, &o.dir))
            value = &o.dir;
        if (!value)
            return usage("unknown option", word);
        if (!*value)
            return usage("a name is missing after", word);
    }
    int rc = c->run(&o);
    if (fflush(stdout) != 0 || ferror(stdout)) {
        (void)fprintf(stderr, "sandboxd: cannot write to standard output\n");
        return EXIT_FAULT;
    }
    return rc;
}
