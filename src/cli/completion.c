/* Completion: the scripts ask `sandboxd complete` for words, which knows the table of commands and
 * asks the daemon for sandboxes and processes. A daemon that does not answer completes nothing.
 * Names are of others' making: bash puts a word on the line as it is, so it must be quoted; zsh
 * does that itself. */
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/limits.h"
#include "base/str.h"
#include "run.h"

static const char bash_script[] =
    "# bash completion of sandboxd; from: sandboxd completion bash\n"
    "_sandboxd() {\n"
    "    local line word gap rest=$COMP_LINE cur='' words=()\n"
    "    # Bash takes words apart at colons, too, and leaves them quoted.\n"
    "    for word in \"${COMP_WORDS[@]:0:COMP_CWORD+1}\"; do\n"
    "        gap=${rest%%[![:space:]]*} rest=${rest#\"$gap\"} rest=${rest#\"$word\"}\n"
    "        case ${#gap}$cur-$word in\n"
    "        0?*:-* | 0?*-:*) words[-1]+=$word ;;\n"
    "        *) words+=(\"$word\") ;;\n"
    "        esac\n"
    "        cur=${words[-1]}\n"
    "    done\n"
    "    words=(\"${words[@]:1}\")\n"
    "    COMPREPLY=()\n"
    "    while IFS= read -r line; do\n"
    "        case $line in\n"
    "        :files) compopt -o filenames; mapfile -t -O ${#COMPREPLY[@]} COMPREPLY "
    "< <(compgen -f -- \"$cur\") ;;\n"
    "        :nospace) compopt -o nospace ;;\n"
    "        *) printf -v line %q \"$line\"; COMPREPLY+=(\"$line\") ;;\n"
    "        esac\n"
    "    done < <(\"${COMP_WORDS[0]}\" complete -- \"${words[@]//\\\\/}\" 2>/dev/null)\n"
    "    # What is on the line up to the last colon stays there.\n"
    "    if [[ $cur != \"${COMP_WORDS[COMP_CWORD]}\" ]]; then\n"
    "        COMPREPLY=(\"${COMPREPLY[@]#\"${cur%\"${cur##*:}\"}\"}\")\n"
    "    fi\n"
    "}\n"
    "complete -F _sandboxd sandboxd\n";

static const char zsh_script[] =
    "#compdef sandboxd\n"
    "# zsh completion of sandboxd; from: sandboxd completion zsh\n"
    "_sandboxd() {\n"
    "    local line\n"
    "    local -a found tight\n"
    "    found=() tight=()\n"
    "    for line in ${(f)\"$($words[1] complete -- ${(@)words[2,CURRENT]} 2>/dev/null)\"}; do\n"
    "        case $line in\n"
    "        :files) _files ;;\n"
    "        :nospace) tight=(-S '') ;;\n"
    "        *) found+=(\"$line\") ;;\n"
    "        esac\n"
    "    done\n"
    "    compadd \"${tight[@]}\" -a found\n"
    "}\n"
    "if [ \"$funcstack[1]\" = _sandboxd ]; then _sandboxd \"$@\"; else compdef _sandboxd sandboxd; "
    "fi\n";

int run_completion(struct cli *c)
{
    struct err err;
    const char *shell = c->args.words[0];
    const char *script = str_eq(shell, "bash")  ? bash_script
                         : str_eq(shell, "zsh") ? zsh_script
                                                : NULL;
    if (script) {
        (void)fputs(script, stdout);
        return 0;
    }
    (void)err_set(&err, ERR_INVALID, "there is no completion for %s, but for bash and zsh", shell);
    return wrong_usage(c, &err);
}

/* --- words --- */

/* What begins as the last word does; names of others' making that would break a line are left out.
 */
static void offer(const char *last, const char *word, const char *tail)
{
    for (const char *p = word; p && *p; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            return;
    if (word && *word && str_starts(word, last))
        (void)printf("%s%s\n", word, tail);
}

static void offer_list(const char *last, const char *list)
{
    char word[64];
    for (size_t len; *list; list += len + (list[len] == ' ')) {
        len = strcspn(list, " ");
        (void)snprintf(word, sizeof word, "%.*s", (int)len, list);
        offer(last, word, "");
    }
}

static void offer_commands(const char *last, const char *group)
{
    size_t len = group ? strlen(group) : 0;
    const char *before = "";
    for (const struct command *c = commands; c->name; c++) {
        char word[64];
        bool inside = group && strncmp(c->name, group, len) == 0 && c->name[len] == ' ';
        if ((c->flags & COMMAND_HIDDEN) || (group && !inside))
            continue;
        (void)snprintf(word, sizeof word, "%s", group ? c->name + len + 1 : c->name);
        word[strcspn(word, " ")] = '\0';
        if (!str_eq(word, before))
            offer(last, word, "");
        before = group ? "" : c->name;
        if (!group && strchr(c->name, ' ')) /* a group once */
            while (c[1].name && str_starts(c[1].name, word) && c[1].name[strlen(word)] == ' ')
                c++;
    }
}

static void offer_options(const char *last, const struct command *c)
{
    const struct option *lists[] = { c ? c->options : NULL, common_options };
    for (size_t i = 0; i < 2; i++)
        for (const struct option *o = lists[i]; o && o->name; o++) {
            char word[64];
            (void)snprintf(word, sizeof word, "--%s", o->name);
            offer(last, word, "");
        }
}

static void offer_boxes(struct cli *c, const char *last, const char *tail)
{
    AUTO(json) struct json *page = NULL;
    struct err ignored;
    struct request rq = { .method = "GET", .path = "/v1/sandboxes?limit=1000" };
    if (http_json(c->http, &rq, &page, &ignored) < 0)
        return;
    const struct json *list = json_key(page, "sandboxes");
    for (size_t i = 0; i < json_count(list); i++) {
        const struct json *s = json_item(list, i);
        const char *name = json_text(json_at(s, "metadata.name"));
        if (name)
            offer(last, name, tail);
        if (!name || *last) /* ids are for who begins one, or has no name */
            offer(last, json_text(json_key(s, "id")), tail);
    }
}

static void offer_processes(struct cli *c, const char *box, const char *last)
{
    char id[BOX_ID];
    struct err ignored;
    AUTO(json) struct json *j = NULL;
    AUTO(buf) struct buf path = BUF_INIT(1 * KIB);
    if (box_find(c, box, id, &ignored) < 0)
        return;
    path_box(&path, id, "/processes");
    struct request rq = { .method = "GET", .path = buf_str(&path) };
    if (http_json(c->http, &rq, &j, &ignored) < 0)
        return;
    const struct json *list = json_key(j, "processes");
    for (size_t i = 0; i < json_count(list); i++) {
        offer(last, json_text(json_key(json_item(list, i), "id")), "");
        offer(last, json_text(json_key(json_item(list, i), "service")), "");
    }
}

/* A path in a sandbox: what is in the directory so far. */
static void offer_paths(struct cli *c, const char *last)
{
    struct place p;
    struct err ignored;
    AUTO(json) struct json *j = NULL;
    AUTO(buf) struct buf path = BUF_INIT(32 * KIB);
    AUTO(buf) struct buf dir = BUF_INIT(8 * KIB);
    if (place_find(c, last, &p, &ignored) < 0)
        return;
    const char *slash = strrchr(p.path, '/');
    buf_add(&dir, p.path, slash ? (size_t)(slash - p.path) + 1 : 0);
    path_box(&path, p.id, "/files");
    path_query(&path, "path", dir.len ? buf_str(&dir) : ".");
    struct request rq = { .method = "GET", .path = buf_str(&path) };
    if (http_json(c->http, &rq, &j, &ignored) < 0)
        return;
    const struct json *list = json_key(j, "entries");
    for (size_t i = 0; i < json_count(list); i++) {
        AUTO(buf) struct buf word = BUF_INIT(16 * KIB);
        const char *name = json_text(json_key(json_item(list, i), "path"));
        const char *leaf = name ? strrchr(name, '/') : NULL;
        bool directory = str_eq(json_text(json_key(json_item(list, i), "type")), "dir");
        buf_addf(&word, "%s:%s%s", p.box, buf_str(&dir), leaf ? leaf + 1 : name ? name : "");
        offer(last, buf_str(&word), directory ? "/" : "");
    }
    (void)puts(":nospace");
}

static void offer_words(struct cli *c, enum words words, const char *last, const char *box)
{
    switch (words) {
    case WORDS_SANDBOX:
        offer_boxes(c, last, "");
        break;
    case WORDS_PROCESS:
        if (box)
            offer_processes(c, box, last);
        break;
    case WORDS_PLACE:
        if (place_is_remote(last)) {
            offer_paths(c, last);
            break;
        }
        offer_boxes(c, last, ":");
        (void)puts(":nospace");
        if (str_eq(c->args.command->name, "cp"))
            (void)puts(":files");
        break;
    case WORDS_FILE:
        (void)puts(":files");
        break;
    case WORDS_COMMAND:
        offer_commands(last, NULL);
        break;
    case WORDS_ANY:
        break;
    }
}

/* An option whose value the last word is; NULL: it is none. */
static const struct option *awaits(const struct args *a, const char *before)
{
    if (!before || !str_starts(before, "-"))
        return NULL;
    const struct option *o = NULL;
    if (before[1] == '-')
        o = option_find(a->command, before + 2, strlen(before + 2));
    else if (before[1] && !before[2])
        o = option_by_letter(a->command, before[1]);
    return o && o->value ? o : NULL;
}

int run_complete(struct cli *c)
{
    /* A copy of what there is so far; the last word is the one to complete. */
    char *words[ARGS_WORDS_MAX + 1] = { 0 };
    struct err ignored;
    size_t n = c->args.count;
    if (n == 0)
        return 0;
    const char *last = c->args.words[n - 1], *before = n > 1 ? c->args.words[n - 2] : NULL;
    for (size_t i = 0; i + 1 < n; i++)
        words[i] = str_dup(c->args.words[i]);
    (void)args_parse(words, &c->args,
                     &ignored); /* unfinished as it is: what was understood counts */
    const struct args *a = &c->args;
    const struct option *o = awaits(a, before);
    if (o && o->choices)
        offer_list(last, o->choices);
    else if (o)
        offer_words(c, o->words, last, a->words[0]);
    else if (!a->command && before && !str_starts(before, "-"))
        offer_commands(last, before);
    else if (str_starts(last, "-"))
        offer_options(last, a->command);
    else if (!a->command)
        offer_commands(last, NULL);
    else if (a->count < 3)
        offer_words(c, a->command->words[a->count], last, a->words[0]);
    for (size_t i = 0; words[i]; i++)
        free(words[i]);
    return 0;
}
