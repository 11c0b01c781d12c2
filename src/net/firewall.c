/* Owns one nftables table, named after the instance, and nothing else: other people's tables,
 * Docker's among them, are never touched. The whole table is replaced in one transaction, so there
 * is no moment without rules. Every rule carries its number as a comment; by these the check knows
 * the rules again without depending on how a version of nftables prints them.
 *
 * The commands are text, built only from names that passed name_ok(). libnftables is not
 * thread-safe and prints to standard output unless told to keep its words: a context lives for one
 * call. */
#include "net/firewall.h"

#include <errno.h>
#include <nftables/libnftables.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/limits.h"
#include "base/str.h"

#define FIREWALL_TEXT_MAX (64 * KIB) /* our table takes 1 KiB */
#define INSTANCE_LEN 16
#define BRIDGE_MAX 15 /* the kernel's bound of an interface name */

static const struct rule {
    const char *match; /* after: iifname "<bridge>"; %s is the bridge */
    const char *verdict;
} input_rules[] = {
    { "ct state established,related", "accept" }, /* answers to connections the host opened */
    { "udp dport 53", "accept" },
    { "tcp dport 53", "accept" },
    { "", "reject with icmpx type admin-prohibited" },
}, forward_rules[] = {
    { "oifname \"%s\"", "drop" },          /* sandbox to sandbox */
    { "ip daddr 169.254.0.0/16", "drop" }, /* cloud metadata */
    { "meta nfproto ipv6", "drop" },       /* the network has none; nobody shall bring his own */
};

/* Ahead of the other tables' filters (0): a verdict of theirs cannot come first. */
static const struct chain {
    const char *name;
    const struct rule *rules;
    size_t count;
} chains[] = {
    { "input", input_rules, sizeof input_rules / sizeof input_rules[0] },
    { "forward", forward_rules, sizeof forward_rules / sizeof forward_rules[0] },
};
#define CHAINS (sizeof chains / sizeof chains[0])

static bool name_ok(const char *text, const char *letters, size_t min, size_t max)
{
    size_t len = text ? strnlen(text, max + 1) : 0;
    return len >= min && len <= max && strspn(text, letters) == len;
}

static int names_check(const char *instance, const char *bridge, struct err *err)
{
    if (!name_ok(instance, "0123456789abcdef", INSTANCE_LEN, INSTANCE_LEN))
        return err_set(err, ERR_INVALID, "firewall: the instance must be %d hex digits",
                       INSTANCE_LEN);
    if (bridge && !name_ok(bridge, "abcdefghijklmnopqrstuvwxyz0123456789-", 1, BRIDGE_MAX))
        return err_set(err, ERR_INVALID, "firewall: the bridge must be 1 to %d of a-z 0-9 -",
                       BRIDGE_MAX);
    return 0;
}

/* Runs one transaction; what nftables prints goes to out (may be NULL). */
static int run(const char *command, struct buf *out, struct err *err)
{
    struct nft_ctx *nft = nft_ctx_new(NFT_CTX_DEFAULT);
    if (!nft)
        return err_set(err, ERR_INTERNAL, "firewall: nftables cannot be opened");
    int r = -1;
    errno = 0;
    if (nft_ctx_buffer_output(nft) != 0 || nft_ctx_buffer_error(nft) != 0) {
        (void)err_set(err, ERR_INTERNAL, "firewall: no memory for nftables");
    } else if (nft_run_cmd_from_buffer(nft, command) == 0) {
        if (out)
            buf_adds(out, nft_ctx_get_output_buffer(nft));
        r = 0;
    } else {
        const char *why = nft_ctx_get_error_buffer(nft);
        const bool missing = strstr(why, "No such file or directory") != NULL;
        const bool refused = strstr(why, "Operation not permitted") != NULL;
        (void)err_set(err, missing ? ERR_NOT_FOUND : ERR_INTERNAL, "firewall: nftables: %s",
                      missing   ? "no such table"
                      : refused ? "operation not permitted"
                                : "the rules were refused");
        err->sys = missing ? ENOENT : refused ? EPERM : 0;
        if (!missing)
            (void)err_remedy(err, refused ? "Run sandboxd as root, or give it CAP_NET_ADMIN."
                                          : "The kernel needs nf_tables with inet and reject.");
    }
    nft_ctx_free(nft);
    return r;
}

static void add_rules(struct buf *b, const struct chain *c, const char *bridge, unsigned *number)
{
    for (size_t i = 0; i < c->count; i++) {
        buf_addf(b, "    iifname \"%s\" ", bridge);
        if (strstr(c->rules[i].match, "%s")) /* only the bridge again */
            buf_addf(b, "oifname \"%s\"", bridge);
        else
            buf_adds(b, c->rules[i].match);
        buf_addf(b, " %s comment \"sandboxed:%u\"\n", c->rules[i].verdict, ++*number);
    }
}

int firewall_apply(const char *instance, const char *bridge, struct err *err)
{
    if (names_check(instance, bridge, err) < 0)
        return -1;
    AUTO(buf) struct buf b = BUF_INIT(FIREWALL_TEXT_MAX);
    /* Adding first makes the deletion succeed whether it was there or not. */
    buf_addf(&b, "add table inet sandboxed_%s\ndelete table inet sandboxed_%s\n", instance,
             instance);
    buf_addf(&b, "table inet sandboxed_%s {\n", instance);
    unsigned number = 0;
    for (size_t i = 0; i < CHAINS; i++) {
        buf_addf(&b, "  chain %s {\n    type filter hook %s priority -5; policy accept;\n",
                 chains[i].name, chains[i].name);
        add_rules(&b, &chains[i], bridge, &number);
        buf_adds(&b, "  }\n");
    }
    buf_adds(&b, "}\n");
    if (buf_done(&b, err) < 0)
        return -1;
    return run(buf_str(&b), NULL, err);
}

/* Is this line rule number `number` as we made it? The verdict's first word will do. */
static bool rule_line(const char *line, const struct rule *rule, const char *bridge,
                      unsigned number)
{
    char comment[40], from[40];
    (void)snprintf(comment, sizeof comment, "comment \"sandboxed:%u\"", number); /* both fit */
    (void)snprintf(from, sizeof from, "iifname \"%s\"", bridge);
    const size_t verdict = strcspn(rule->verdict, " ");
    AUTO(free) char *word = str_ndup(rule->verdict, verdict);
    return strstr(line, comment) && strstr(line, from) && strstr(line, word);
}

/* The lines of one chain, from "chain x {" to "}". Returns what follows, or NULL when it differs.
 */
static char *chain_check(char *text, const struct chain *c, const char *bridge, unsigned *number)
{
    size_t seen = 0;
    bool hooked = false;
    char head[40];
    (void)snprintf(head, sizeof head, "chain %s {", c->name); /* fits */
    char *at = strstr(text, head);
    if (!at)
        return NULL;
    (void)strsep(&at, "\n");
    for (char *line = strsep(&at, "\n"); line && at; line = strsep(&at, "\n")) {
        line += strspn(line, " \t");
        if (line[0] == '}')
            return hooked && seen == c->count ? at : NULL;
        if (str_starts(line, "type filter hook ")) {
            hooked = str_starts(line + sizeof "type filter hook " - 1, c->name) &&
                     strstr(line, "policy accept");
        } else if (line[0]) {
            if (seen == c->count || !rule_line(line, &c->rules[seen], bridge, *number + 1))
                return NULL;
            seen++;
            ++*number;
        }
    }
    return NULL;
}

int firewall_check(const char *instance, const char *bridge, struct err *err)
{
    if (names_check(instance, bridge, err) < 0)
        return -1;
    AUTO(buf) struct buf command = BUF_INIT(FIREWALL_TEXT_MAX);
    AUTO(buf) struct buf text = BUF_INIT(FIREWALL_TEXT_MAX);
    buf_addf(&command, "list table inet sandboxed_%s\n", instance);
    struct err why;
    if (run(buf_str(&command), &text, &why) < 0) {
        if (why.sys == ENOENT)
            return 0;
        *err = why;
        return -1;
    }
    if (text.failed || text.len == 0)
        return 0; /* ours is never so long */
    AUTO(free) char *lines = buf_take(&text);
    char *at = lines;
    unsigned number = 0;
    for (size_t i = 0; i < CHAINS && at; i++)
        at = chain_check(at, &chains[i], bridge, &number);
    return at && !strstr(at, "chain ") ? 1 : 0;
}

int firewall_remove(const char *instance, struct err *err)
{
    if (names_check(instance, NULL, err) < 0)
        return -1;
    AUTO(buf) struct buf b = BUF_INIT(FIREWALL_TEXT_MAX);
    buf_addf(&b, "add table inet sandboxed_%s\ndelete table inet sandboxed_%s\n", instance,
             instance);
    return run(buf_str(&b), NULL, err);
}
