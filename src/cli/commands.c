/* The table of commands. Parsing, help, completion and the manual page are read off it. */
#include <stdint.h>

#include "command.h"
#include "run.h"

#define END                                  \
    {                                        \
        NULL, 0, NULL, NULL, NULL, WORDS_ANY \
    }
#define MANY UINT32_MAX
#define FLAG(name, letter, help)                  \
    {                                             \
        name, letter, NULL, help, NULL, WORDS_ANY \
    }
#define VALUE(name, letter, value, help)           \
    {                                              \
        name, letter, value, help, NULL, WORDS_ANY \
    }
#define CHOICE(name, letter, value, help, choices)    \
    {                                                 \
        name, letter, value, help, choices, WORDS_ANY \
    }

/* clang-format off */
const struct option common_options[] = {
    VALUE("url", 0, "URL", "where the API is (SANDBOXD_URL; http://127.0.0.1:9090)"),
    { "token-file", 0, "FILE", "file that holds the token (SANDBOXD_TOKEN_FILE; the token itself may be in SANDBOXD_TOKEN, never on the command line)", NULL, WORDS_FILE },
    { "ca-file", 0, "FILE", "certificates to trust instead of the system's (SANDBOXD_CA_FILE)", NULL, WORDS_FILE },
    CHOICE("output", 'o', "FORMAT", "json: what the API says, for programs; table: for people (default)", "json table"),
    FLAG("help", 'h', "help for a command"),
    END,
};

static const struct option none[] = { END };

static const struct option create_options[] = {
    VALUE("name", 'n', "NAME", "name to call it by (kept as metadata.name)"),
    VALUE("image", 0, "IMAGE", "image, if not the default"),
    VALUE("id", 0, "ID", "id of its own choice; that of a removed sandbox finds its workspace again"),
    VALUE("port", 'p', "PORT", "declared port (may be repeated; default 3000)"),
    VALUE("env", 'e', "NAME=VALUE", "environment variable (may be repeated)"),
    VALUE("metadata", 'm', "NAME=VALUE", "metadata (may be repeated)"),
    VALUE("memory", 0, "MIB", "memory, MiB"),
    VALUE("cpus", 0, "N", "cores, as in 0.5"),
    VALUE("pids", 0, "N", "processes and threads"),
    VALUE("disk", 0, "MIB", "size of the workspace, MiB"),
    CHOICE("visibility", 0, "WHO", "who sees its previews: public or private", "public private"),
    CHOICE("idle-policy", 0, "POLICY", "when idle: sleep, pause or always_on", "sleep pause always_on"),
    VALUE("idle-timeout", 0, "TIME", "idle after so long, as in 15m"),
    VALUE("ttl", 0, "TIME", "delete it so long after its creation"),
    VALUE("user", 0, "ID", "external user id"),
    VALUE("project", 0, "ID", "external project id"),
    END,
};
static const struct option ls_options[] = {
    CHOICE("status", 's', "STATUS", "only those in this state", "creating running pausing paused resuming stopping stopped starting deleting error"),
    VALUE("user", 0, "ID", "only those of this external user"),
    VALUE("project", 0, "ID", "only those of this external project"),
    VALUE("metadata", 'm', "NAME=VALUE", "only those with this metadata"),
    FLAG("quiet", 'q', "ids only"),
    END,
};
static const struct option exec_options[] = {
    FLAG("stdin", 'i', "pass standard input on"),
    FLAG("tty", 't', "in a terminal; as shell does"),
    FLAG("detach", 'd', "start it, print the process's id, and leave"),
    VALUE("env", 'e', "NAME=VALUE", "environment variable (may be repeated)"),
    VALUE("workdir", 'w', "DIR", "directory to start in"),
    VALUE("timeout", 0, "TIME", "end it after so long, as in 90s; the status is then 124"),
    VALUE("detach-keys", 0, "KEYS", "keys that leave a terminal (ctrl-p,ctrl-q); empty: none"),
    END,
};
static const struct option shell_options[] = {
    { "attach", 'a', "PROCESS", "attach to a terminal that runs, with what was on its screen", NULL, WORDS_PROCESS },
    VALUE("env", 'e', "NAME=VALUE", "environment variable, with a COMMAND (may be repeated)"),
    VALUE("workdir", 'w', "DIR", "directory to start in, with a COMMAND"),
    VALUE("detach-keys", 0, "KEYS", "keys that leave the terminal (ctrl-p,ctrl-q); empty: none"),
    END,
};
static const struct option ps_options[] = {
    FLAG("all", 'a', "ended ones, too"),
    FLAG("quiet", 'q', "ids only"),
    END,
};
static const struct option logs_options[] = {
    FLAG("follow", 'f', "go on to its end"),
    VALUE("since", 0, "OFFSET", "of a process: from this byte of its output"),
    VALUE("tail", 'n', "LINES", "of a service: the last lines only"),
    END,
};
static const struct option kill_options[] = {
    CHOICE("signal", 's', "SIGNAL", "instead of TERM", "TERM INT HUP QUIT KILL USR1 USR2 STOP CONT"),
    FLAG("tree", 0, "to it and all its descendants; KILL unless --signal says another"),
    END,
};
static const struct option files_ls_options[] = {
    FLAG("recursive", 'R', "what is below, too"),
    FLAG("all", 'a', "node_modules, .git, dist and .vite, too"),
    END,
};
static const struct option files_rm_options[] = { FLAG("recursive", 'r', "directories with all they hold"), END };
static const struct option files_mv_options[] = { FLAG("force", 'f', "replace what has the new name"), END };
static const struct option files_find_options[] = {
    FLAG("all", 'a', "in node_modules, .git, dist and .vite, too"),
    VALUE("limit", 0, "N", "so many at most (1000)"),
    END,
};
static const struct option files_grep_options[] = {
    FLAG("regex", 'E', "TEXT is a regular expression"),
    FLAG("ignore-case", 'i', "letters' case does not matter"),
    VALUE("name", 0, "GLOB", "in files of such names only"),
    FLAG("all", 'a', "in node_modules, .git, dist and .vite, too"),
    VALUE("limit", 0, "N", "so many lines at most (1000)"),
    END,
};
static const struct option files_watch_options[] = { FLAG("all", 'a', "in node_modules, .git, dist and .vite, too"), END };

#define BOX { WORDS_SANDBOX, WORDS_ANY, WORDS_ANY }
#define BOXES { WORDS_SANDBOX, WORDS_SANDBOX, WORDS_SANDBOX }
#define PLACE { WORDS_PLACE, WORDS_ANY, WORDS_ANY }
#define PROCESS { WORDS_SANDBOX, WORDS_PROCESS, WORDS_ANY }

const struct command commands[] = {
    { "create", "", "Create a sandbox and print its id.", NULL, create_options, 0, 0, { 0 }, 0, run_create },
    { "ls", "", "List sandboxes, newest first.", NULL, ls_options, 0, 0, { 0 }, 0, run_ls },
    { "show", "SANDBOX", "Show one sandbox: its state and why, its previews, its limits.", NULL, none, 1, 1, BOX, 0, run_show },
    { "exec", "SANDBOX [--] COMMAND [ARG...]", "Run a command and pass its output and exit status on.",
      "Standard output and error stay apart and come as they are written, whatever their size; what is slow to take them slows the "
      "command down. INT, TERM, HUP and QUIT are passed on to the command; a third INT in a row kills it and all its descendants. A broken "
      "connection is taken up again where it broke. With -o json each piece is printed as the API's event, a line each.",
      exec_options, 2, MANY, BOX, COMMAND_REST | COMMAND_STATUS, run_exec },
    { "shell", "SANDBOX [[--] COMMAND [ARG...]]", "Open a terminal: a login shell, or COMMAND.",
      "Leave it with ctrl-p ctrl-q: what runs goes on, and --attach brings it back. Its exit status is this command's.",
      shell_options, 1, MANY, BOX, COMMAND_REST | COMMAND_STATUS, run_shell },
    { "cp", "FROM TO", "Copy files and directories into a sandbox or out of it.",
      "One side is SANDBOX:PATH, the other a local path, or - for standard input or output. A relative PATH is below the sandbox's app directory. "
      "A directory is copied with all it holds: to TO when that is not there, into it when it is; FROM/. means what is in it. Links that lead out of it and "
      "special files are left out and told of; so are names that a sandbox does not take (control characters, no UTF-8), but then the exit status is 1. "
      "Nothing is ever written outside TO. Works while the sandbox sleeps.",
      none, 2, 2, { WORDS_PLACE, WORDS_PLACE, WORDS_ANY }, 0, run_cp },
    { "files ls", "SANDBOX[:PATH]", "List a directory.", NULL, files_ls_options, 1, 1, PLACE, 0, run_files_ls },
    { "files cat", "SANDBOX:PATH", "Print a file.", NULL, none, 1, 1, PLACE, 0, run_files_cat },
    { "files stat", "SANDBOX:PATH", "Tell what a path is.", NULL, none, 1, 1, PLACE, 0, run_files_stat },
    { "files rm", "SANDBOX:PATH...", "Remove files.", NULL, files_rm_options, 1, MANY, { WORDS_PLACE, WORDS_PLACE, WORDS_PLACE }, 0, run_files_rm },
    { "files mv", "SANDBOX:FROM TO", "Give a file or directory another name.", NULL, files_mv_options, 2, 2, PLACE, 0, run_files_mv },
    { "files cp", "SANDBOX:FROM TO", "Copy within a sandbox.", NULL, files_mv_options, 2, 2, PLACE, 0, run_files_cp },
    { "files mkdir", "SANDBOX:PATH", "Make a directory and its parents.", NULL, none, 1, 1, PLACE, 0, run_files_mkdir },
    { "files chmod", "MODE SANDBOX:PATH", "Change permission bits; MODE is octal.", NULL, none, 2, 2, { WORDS_ANY, WORDS_PLACE, WORDS_ANY }, 0, run_files_chmod },
    { "files find", "SANDBOX[:PATH] GLOB", "Find files by name.", NULL, files_find_options, 2, 2, PLACE, 0, run_files_find },
    { "files grep", "TEXT SANDBOX[:PATH]", "Find lines in files.", "PATH may also be one file. The exit status is 1 when there are none, 2 when it failed.", files_grep_options, 2, 2, { WORDS_ANY, WORDS_PLACE, WORDS_ANY }, 0, run_files_grep },
    { "files watch", "SANDBOX[:PATH]", "Tell changes as they happen.", NULL, files_watch_options, 1, 1, PLACE, 0, run_files_watch },
    { "ps", "SANDBOX", "List processes.", NULL, ps_options, 1, 1, BOX, 0, run_ps },
    { "services", "SANDBOX", "List declared services and how they do.", NULL, none, 1, 1, BOX, 0, run_services },
    { "logs", "SANDBOX PROCESS|SERVICE", "Print the output of a process or service.", NULL, logs_options, 2, 2, PROCESS, 0, run_logs },
    { "kill", "SANDBOX PROCESS", "Send a signal to a process.", NULL, kill_options, 2, 2, PROCESS, 0, run_kill },
    { "wait", "SANDBOX PROCESS", "Wait for the end of a process; its exit status is this command's.", NULL, none, 2, 2, PROCESS, COMMAND_STATUS, run_wait },
    { "start", "SANDBOX...", "Start sandboxes.", NULL, none, 1, MANY, BOXES, 0, run_start },
    { "stop", "SANDBOX...", "Stop sandboxes.", NULL, none, 1, MANY, BOXES, 0, run_stop },
    { "pause", "SANDBOX...", "Freeze sandboxes: memory is kept.", NULL, none, 1, MANY, BOXES, 0, run_pause },
    { "rm", "SANDBOX...", "Remove sandboxes, keep their workspaces: create --id finds them again.", NULL, none, 1, MANY, BOXES, 0, run_rm },
    { "purge", "SANDBOX...", "Remove sandboxes with their workspaces.", NULL, none, 1, MANY, BOXES, 0, run_purge },
    { "completion", "bash|zsh", "Print the completion script of a shell.", NULL, none, 1, 1, { 0 }, COMMAND_NO_API, run_completion },
    { "help", "[COMMAND]", "Help for a command.", NULL, none, 0, 2, { WORDS_COMMAND, WORDS_ANY, WORDS_ANY }, COMMAND_NO_API, run_help },
    { "complete", "WORD...", "Completions of the last word.", NULL, none, 0, MANY, { 0 }, COMMAND_HIDDEN | COMMAND_REST, run_complete },
    { .name = NULL },
};
/* clang-format on */
