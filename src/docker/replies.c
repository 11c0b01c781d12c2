/* Reads what the Engine says. Members that we do not need may be missing or odd; those we rely on
 * are checked, and a reply without them is refused as a whole rather than half believed. */
#include "replies.h"

#include <ctype.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "spec.h"
#include "wire/json.h"

#define CONTAINER_ID_MAX 64
#define CAUSE_TAIL_MAX 100 /* bytes of the Engine's last words that a client may see */

static int parse(const struct buf *b, const char *what, struct json **ret, struct err *err)
{
    if (json_parse(buf_str(b), b->len, ret, err) == 0)
        return 0;
    err->code = ERR_ENGINE;
    return err_wrap(err, "Docker Engine's answer (%s)", what);
}

static int odd(struct err *err, const char *what)
{
    return err_set(err, ERR_ENGINE, "Docker Engine's answer has no usable %s", what);
}

static const char *text_at(const struct json *j, const char *path)
{
    return json_text(json_at(j, path));
}

static bool container_id(const char *text, char ret[CONTAINER_ID_MAX + 1])
{
    size_t len = text ? strnlen(text, CONTAINER_ID_MAX + 1) : 0;
    return len > 0 && len <= CONTAINER_ID_MAX && strspn(text, "0123456789abcdef") == len &&
           str_copy(ret, CONTAINER_ID_MAX + 1, text);
}

static bool status_parse(const char *word, enum runtime_status *ret)
{
    static const struct {
        const char *word;
        enum runtime_status status;
    } words[] = {
        { "created", RUNTIME_CREATED },    { "running", RUNTIME_RUNNING },
        { "restarting", RUNTIME_RUNNING }, { "paused", RUNTIME_PAUSED },
        { "exited", RUNTIME_EXITED },      { "dead", RUNTIME_EXITED },
        { "removing", RUNTIME_EXITED },
    };
    for (size_t i = 0; word && i < sizeof words / sizeof words[0]; i++)
        if (str_eq(word, words[i].word)) {
            *ret = words[i].status;
            return true;
        }
    return false;
}

static bool name_copy(const char *text, struct runtime_container *c)
{
    return text && str_copy(c->name, sizeof c->name, text[0] == '/' ? text + 1 : text);
}

/* networks: the object of endpoints by network name. No address is no fault: it may not run. */
static void ip_copy(const struct json *networks, const char *network, struct runtime_container *c)
{
    const char *ip = json_text(json_key(json_key(networks, network), "IPAddress"));
    if (ip && strspn(ip, "0123456789abcdef.:") == strlen(ip))
        (void)str_copy(c->ip, sizeof c->ip, ip); /* too long: none */
}

static bool labels_id(const struct json *labels, struct sandbox_id *ret)
{
    struct err ignored; /* not one of ours, that is all */
    const char *text = json_text(json_key(labels, LABEL_ID));
    return text && sandbox_id_parse(text, ret, &ignored) == 0;
}

static uint32_t nofile_of(const struct json *ulimits)
{
    for (size_t i = 0; i < json_count(ulimits); i++) {
        const struct json *row = json_item(ulimits, i);
        const char *name = json_text(json_key(row, "Name"));
        int64_t hard;
        if (name && str_eq(name, "nofile") && json_int(json_key(row, "Hard"), &hard) && hard > 0 &&
            hard <= UINT32_MAX)
            return (uint32_t)hard;
    }
    return 0;
}

int reply_inspect(const struct buf *b, const char *instance, const char *network,
                  struct seen_container *ret, struct err *err)
{
    AUTO(json) struct json *j = NULL;
    if (parse(b, "container", &j, err) < 0)
        return -1;
    struct seen_container s = { 0 };
    int64_t number;
    uint64_t revision;
    if (!container_id(text_at(j, "Id"), s.c.container_id))
        return odd(err, "container id");
    if (!name_copy(text_at(j, "Name"), &s.c))
        return odd(err, "container name");
    if (!status_parse(text_at(j, "State.Status"), &s.c.status))
        return odd(err, "container status");
    if (json_int(json_at(j, "State.ExitCode"), &number) && number >= INT32_MIN &&
        number <= INT32_MAX)
        s.c.exit_code = (int)number;
    if (json_int(json_at(j, "State.Pid"), &number) && number > 0)
        s.c.pid = number;
    s.c.oom_killed = json_yes(json_at(j, "State.OOMKilled"));
    ip_copy(json_at(j, "NetworkSettings.Networks"), network, &s.c);
    s.nofile = nofile_of(json_at(j, "HostConfig.Ulimits"));
    const struct json *labels = json_at(j, "Config.Labels");
    const char *owner = json_text(json_key(labels, LABEL_INSTANCE));
    const char *revision_text = json_text(json_key(labels, LABEL_REVISION));
    s.ours = owner && str_eq(owner, instance) && labels_id(labels, &s.c.id);
    if (revision_text && str_u64(revision_text, &revision) && revision <= UINT32_MAX)
        s.revision = (uint32_t)revision;
    *ret = s;
    return 0;
}

/* The list tells the exit code only inside a sentence: "Exited (137) 2 minutes ago". */
static int exit_code_of(const char *sentence)
{
    static const char before[] = "Exited (";
    if (!sentence || !str_starts(sentence, before))
        return 0;
    char *end;
    long code = strtol(sentence + sizeof before - 1, &end, 10);
    return *end == ')' && code >= 0 && code <= 255 ? (int)code : 0;
}

static int list_row(const struct json *row, const char *network, struct runtime_container *c,
                    struct err *err)
{
    if (!container_id(text_at(row, "Id"), c->container_id))
        return odd(err, "container id");
    if (!name_copy(json_text(json_item(json_key(row, "Names"), 0)), c))
        c->name[0] = 0; /* one being removed has none */
    if (!status_parse(text_at(row, "State"), &c->status))
        return odd(err, "container status");
    c->exit_code = exit_code_of(text_at(row, "Status"));
    ip_copy(json_at(row, "NetworkSettings.Networks"), network, c);
    return 0;
}

int reply_list(const struct buf *b, const char *network, struct runtime_container **ret,
               size_t *ret_count, struct err *err)
{
    AUTO(json) struct json *j = NULL;
    if (parse(b, "containers", &j, err) < 0)
        return -1;
    size_t count = 0;
    AUTO(free) struct runtime_container *rows = mem_new(json_count(j) + 1, sizeof *rows);
    for (size_t i = 0; i < json_count(j); i++) {
        const struct json *row = json_item(j, i);
        const struct json *labels = json_key(row, "Labels");
        struct runtime_container c = { 0 };
        if (json_key(labels, LABEL_ROLE) || !labels_id(labels, &c.id))
            continue;
        if (list_row(row, network, &c, err) < 0)
            return -1;
        rows[count++] = c;
    }
    *ret = TAKE(rows);
    *ret_count = count;
    return 0;
}

int reply_old_seeds(const struct buf *b, const char *boot, struct strv *ret, struct err *err)
{
    AUTO(json) struct json *j = NULL;
    if (parse(b, "containers", &j, err) < 0)
        return -1;
    for (size_t i = 0; i < json_count(j); i++) {
        const struct json *row = json_item(j, i);
        const struct json *labels = json_key(row, "Labels");
        const char *role = json_text(json_key(labels, LABEL_ROLE));
        const char *made_by = json_text(json_key(labels, LABEL_BOOT));
        char id[CONTAINER_ID_MAX + 1];
        if (role && str_eq(role, "seed") && !(made_by && str_eq(made_by, boot)) &&
            container_id(text_at(row, "Id"), id))
            strv_add(ret, id);
    }
    return 0;
}

int reply_id(const struct buf *b, char *ret, size_t size, struct err *err)
{
    AUTO(json) struct json *j = NULL;
    if (parse(b, "id", &j, err) < 0)
        return -1;
    const char *id = text_at(j, "Id");
    if (!id || !id[0] || strspn(id, "sha256:0123456789abcdef") != strlen(id) || strlen(id) >= size)
        return odd(err, "id");
    (void)str_copy(ret, size, id); /* fits: just looked */
    return 0;
}

int reply_network(const struct buf *b, const char *instance, struct err *err)
{
    AUTO(json) struct json *j = NULL;
    if (parse(b, "network", &j, err) < 0)
        return -1;
    const char *name = text_at(j, "Name");
    const char *driver = text_at(j, "Driver");
    const char *owner = json_text(json_key(json_key(j, "Labels"), LABEL_INSTANCE));
    const char *icc =
        json_text(json_key(json_key(j, "Options"), "com.docker.network.bridge.enable_icc"));
    if (!name || !driver)
        return odd(err, "network");
    if (owner && str_eq(owner, instance) && str_eq(driver, "bridge") && icc &&
        str_eq(icc, "false") && !json_yes(json_key(j, "EnableIPv6")))
        return 0;
    (void)err_set(err, ERR_CONFLICT,
                  "network %s exists but is not a bridge of ours that keeps sandboxes apart", name);
    return err_remedy(err, "Remove that network; sandboxd makes it as it must be.");
}

/* --- describe --- */

static void line(struct buf *out, const char *key, const char *value)
{
    if (value && value[0])
        buf_addf(out, "%s: %.200s\n", key, value);
}

struct words {
    struct buf *out;
    size_t count;
};

static void add_word(struct words *w, const char *word)
{
    buf_addf(w->out, "%s%.80s", w->count++ ? ", " : "", word);
}

static void add_key(void *ctx, const char *key, const struct json *value)
{
    (void)value; /* a runtime's name says enough */
    add_word(ctx, key);
}

int reply_describe(const struct buf *version, const struct buf *info, struct buf *out,
                   struct err *err)
{
    AUTO(json) struct json *v = NULL;
    AUTO(json) struct json *i = NULL;
    if (parse(version, "version", &v, err) < 0 || parse(info, "info", &i, err) < 0)
        return -1;
    line(out, "version", text_at(v, "Version"));
    line(out, "api_version", text_at(v, "ApiVersion"));
    const struct json *parts = json_key(v, "Components");
    for (size_t n = 0; n < json_count(parts); n++) {
        const char *name = text_at(json_item(parts, n), "Name");
        if (name && !str_eq(name, "Engine"))
            line(out, name, text_at(json_item(parts, n), "Version"));
    }
    line(out, "kernel", text_at(i, "KernelVersion"));
    line(out, "storage_driver", text_at(i, "Driver"));
    line(out, "cgroup_version", text_at(i, "CgroupVersion"));
    line(out, "cgroup_driver", text_at(i, "CgroupDriver"));
    line(out, "live_restore", json_yes(json_key(i, "LiveRestoreEnabled")) ? "yes" : "no");
    buf_adds(out, "runtimes: ");
    json_each(json_key(i, "Runtimes"), add_key, &(struct words){ .out = out });
    buf_adds(out, "\nsecurity: ");
    const struct json *security = json_key(i, "SecurityOptions");
    struct words w = { .out = out };
    for (size_t n = 0; n < json_count(security); n++)
        if (json_text(json_item(security, n)))
            add_word(&w, json_text(json_item(security, n)));
    buf_addc(out, '\n');
    const struct json *warnings =
        json_key(i, "Warnings"); /* limits that this kernel does not enforce */
    for (size_t n = 0; n < json_count(warnings); n++)
        line(out, "warning", json_text(json_item(warnings, n)));
    return 0;
}

/* --- why it failed --- */

struct cause_row {
    const char *words; /* in the Engine's message, lower-case; more than one: all of them */
    const char *also;
    enum cause cause;
    enum err_code code;
    const char *say;
    const char *remedy;
};

/* The first row that fits counts. */
static const struct cause_row causes[] = {
    { "error setting rlimit", NULL, CAUSE_NOFILE, ERR_ENGINE,
      "the Engine may not grant so many file descriptors",
      "Try again: a lower limit is used from now on. To allow more, raise dockerd's LimitNOFILE." },
    { "no space left on device", NULL, CAUSE_OTHER, ERR_NO_SPACE, "the host's disk is full",
      "Free space below the Engine's data directory." },
    { "no such image", NULL, CAUSE_IMAGE, ERR_NOT_FOUND, "the image is not on this host",
      "Build or pull the image on this host first." },
    { "network", "not found", CAUSE_NETWORK, ERR_ENGINE, "the sandboxes' network is missing",
      "Try again: the network is made anew." },
    { "could not find bridge", NULL, CAUSE_NETWORK, ERR_ENGINE,
      "the sandboxes' bridge interface is missing",
      "Restart the Docker Engine: it makes it anew." },
    { "networks have same bridge name", NULL, CAUSE_OTHER, ERR_CONFLICT,
      "another network uses the bridge's name", "Remove the other network." },
    { "non-overlapping", NULL, CAUSE_OTHER, ERR_ENGINE, "no address range is left for a network",
      "Remove unused networks, or widen default-address-pools of dockerd." },
    { "no available ip", NULL, CAUSE_OTHER, ERR_CAPACITY, "the network's addresses are used up",
      "Remove sandboxes that are not needed." },
    { "port is already allocated", NULL, CAUSE_OTHER, ERR_CONFLICT, "a port is taken", "" },
    { "bind source path does not exist", NULL, CAUSE_OTHER, ERR_ENGINE,
      "the Engine does not see the data directory",
      "Engine and sandboxd must see the same file system; mount the data directory at the same "
      "path." },
    { "executable file not found", NULL, CAUSE_OTHER, ERR_ENGINE,
      "the agent could not be run inside", "Is the data directory mounted noexec?" },
    { "exec: \"", NULL, CAUSE_OTHER, ERR_ENGINE, "the agent could not be run inside",
      "Is the data directory mounted noexec, or gone from the Engine's sight?" },
    { "cannot allocate memory", NULL, CAUSE_OTHER, ERR_ENGINE, "the host is out of memory",
      "Stop sandboxes, or lower their memory limit." },
    { "minimum memory limit", NULL, CAUSE_OTHER, ERR_INVALID, "the memory limit is too low", "" },
    { "range of cpus is from", NULL, CAUSE_OTHER, ERR_INVALID,
      "the host has not as many CPUs as asked for", "Ask for fewer CPUs." },
};

/* The Engine wraps causes as "a: b: c"; the last part is the kernel's or the runtime's plain word.
 * What could be a path, an id or markup is not shown. */
static void tail_of(const char *text, char out[CAUSE_TAIL_MAX + 1])
{
    const char *tail = text;
    for (const char *at = strstr(text, ": "); at; at = strstr(at + 2, ": "))
        if (!str_eq(at + 2, "unknown")) /* containerd ends its messages with this code */
            tail = at + 2;
    size_t len = 0;
    for (; *tail && !str_eq(tail, ": unknown") && len < CAUSE_TAIL_MAX; tail++) {
        if (!isalnum((unsigned char)*tail) && !strchr(" .,-_()", *tail)) {
            len = 0; /* something odd: say nothing rather than half of it */
            break;
        }
        out[len++] = *tail;
    }
    out[len] = 0;
}

enum cause reply_cause(const struct buf *b, const char *doing, struct err *err)
{
    AUTO(json) struct json *j = NULL;
    struct err ignored; /* no JSON: no words of the Engine's */
    const char *text = NULL;
    if (json_parse(buf_str(b), b->len, &j, &ignored) == 0)
        text = json_text(json_key(j, "message"));
    if (!text)
        text = "";
    for (size_t i = 0; i < sizeof causes / sizeof causes[0]; i++) {
        const struct cause_row *row = &causes[i];
        if (!strcasestr(text, row->words) || (row->also && !strcasestr(text, row->also)))
            continue;
        (void)err_set(err, row->code, "%s: %s", doing, row->say);
        if (row->remedy[0])
            (void)err_remedy(err, "%s", row->remedy);
        return row->cause;
    }
    char tail[CAUSE_TAIL_MAX + 1];
    tail_of(text, tail);
    (void)err_set(err, ERR_ENGINE, "%s: %s", doing,
                  tail[0] ? tail : "the container runtime failed; the daemon's log says more");
    return CAUSE_OTHER;
}

/* --- events --- */

void splitter_reset(struct splitter *s)
{
    buf_reset(&s->object);
    s->depth = 0;
    s->in_string = s->escaped = false;
}

/* One byte inside or between objects; false: it cannot stand there. */
static bool splitter_step(struct splitter *s, char c)
{
    if (s->in_string) {
        if (s->escaped)
            s->escaped = false;
        else if (c == '\\')
            s->escaped = true;
        else if (c == '"')
            s->in_string = false;
    } else if (c == '"') {
        s->in_string = true;
    } else if (c == '{' || c == '[') {
        s->depth++;
    } else if (c == '}' || c == ']') {
        s->depth--;
    }
    return s->depth <= JSON_DEPTH_MAX;
}

int splitter_feed(struct splitter *s, const char *data, size_t len,
                  void (*fn)(void *ctx, const struct buf *object), void *ctx, struct err *err)
{
    for (size_t i = 0; i < len; i++) {
        if (s->depth == 0 && data[i] != '{') {
            if (strchr(" \r\n\t", data[i]) && data[i])
                continue;
            return odd(err, "events");
        }
        buf_addc(&s->object, data[i]);
        if (!splitter_step(s, data[i]) || s->object.failed)
            return odd(err, "event");
        if (s->depth == 0) {
            fn(ctx, &s->object);
            buf_reset(&s->object);
        }
    }
    return 0;
}

bool reply_event(const struct buf *b, const char *instance, struct sandbox_id *ret,
                 enum runtime_event_kind *ret_kind)
{
    AUTO(json) struct json *j = NULL;
    struct err ignored; /* a broken event says nothing; the next RESYNC will */
    if (json_parse(buf_str(b), b->len, &j, &ignored) < 0)
        return false;
    const char *type = text_at(j, "Type");
    const char *action = text_at(j, "Action");
    *ret_kind = action && str_eq(action, "kill") ? RUNTIME_EV_SIGNALLED : RUNTIME_EV_CHANGED;
    const struct json *labels = json_at(j, "Actor.Attributes");
    const char *owner = json_text(json_key(labels, LABEL_INSTANCE));
    return type && str_eq(type, "container") && owner && str_eq(owner, instance) &&
           !json_key(labels, LABEL_ROLE) && labels_id(labels, ret);
}
