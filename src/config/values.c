/* Settings that are more than one word or number. Every message begins with the knob's name and
 * says the rule; a token's secret never gets into one. Of tokens only SHA-256 digests stay: they
 * are long and random, so nothing slower is needed (T-38). */
#include "values.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/cleanup.h"
#include "base/digest.h"
#include "base/limits.h"
#include "base/str.h"
#include "wire/url.h"

/* Longest first where one is the beginning of another ("ms" before "m"). */
static const struct {
    const char *name;
    int64_t ms;
} units[] = { { "ms", 1 }, { "h", 3600000 }, { "m", 60000 }, { "s", 1000 } };

bool value_duration(const char *text, int64_t *ret_ms)
{
    int64_t total = 0;
    if (!*text)
        return false;
    for (const char *p = text; *p;) {
        int64_t n = 0;
        const char *digits = p;
        for (; *p >= '0' && *p <= '9'; p++)
            if (__builtin_mul_overflow(n, 10, &n) || __builtin_add_overflow(n, *p - '0', &n))
                return false;
        if (p == digits)
            return false;
        int64_t unit = 0;
        if (!*p && digits == text)
            unit = 1000;
        for (size_t i = 0; !unit && i < sizeof units / sizeof units[0]; i++) {
            if (str_starts(p, units[i].name)) {
                unit = units[i].ms;
                p += strlen(units[i].name);
            }
        }
        if (!unit || __builtin_mul_overflow(n, unit, &n) ||
            __builtin_add_overflow(total, n, &total))
            return false;
    }
    *ret_ms = total;
    return true;
}

void value_duration_text(int64_t ms, char *out, size_t size)
{
    const char *name = "ms";
    int64_t best = 1;
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        if (units[i].ms > best && ms % units[i].ms == 0) {
            best = units[i].ms;
            name = units[i].name;
        }
    }
    (void)snprintf(out, size, "%lld%s", (long long)(ms / best), name); /* sized by the caller */
}

bool value_bool(const char *text, bool *ret)
{
    static const char *const words[2][4] = { { "0", "false", "no", "off" },
                                             { "1", "true", "yes", "on" } };
    for (int v = 0; v < 2; v++) {
        for (int i = 0; i < 4; i++) {
            if (strcasecmp(text, words[v][i]) == 0) {
                *ret = v;
                return true;
            }
        }
    }
    return false;
}

/* --- lists --- */

/* Calls item() with each trimmed, non-empty piece between commas. The copies are erased. */
static int each_item(struct config *c, const char *knob, const char *text,
                     int (*item)(struct config *c, const char *knob, char *text, struct err *err),
                     struct err *err)
{
    for (const char *p = text; *p;) {
        size_t len = strcspn(p, ",");
        const char *next = p[len] ? p + len + 1 : p + len;
        while (len > 0 && strchr(" \t\n", p[0])) {
            p++;
            len--;
        }
        while (len > 0 && strchr(" \t\n", p[len - 1]))
            len--;
        if (len > 0) {
            char *piece = str_ndup(p, len);
            int rc = item(c, knob, piece, err);
            mem_erase(piece, len);
            free(piece);
            if (rc < 0)
                return -1;
        }
        p = next;
    }
    return 0;
}

/* Adds to a list of names unless it is there. */
static void add_name(char ***list, uint32_t *count, const char *name)
{
    for (uint32_t i = 0; i < *count; i++)
        if (str_eq((*list)[i], name))
            return;
    char **items = reallocarray(*list, *count + 1, sizeof *items);
    if (!items)
        abort();
    items[(*count)++] = str_dup(name);
    *list = items;
}

static bool only(const char *text, const char *others)
{
    for (; *text; text++) {
        char c = *text;
        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
              strchr(others, c)))
            return false;
    }
    return true;
}

static int add_image(struct config *c, const char *knob, char *text, struct err *err)
{
    if (strlen(text) > IMAGE_NAME_MAX || !only(text, "._-/:@") || !only((char[]){ *text, 0 }, ""))
        return err_set(err, ERR_INVALID, "%s: \"%.80s\" is not the name of an image", knob, text);
    add_name(&c->images, &c->n_images, text);
    return 0;
}

static int add_host(struct config *c, const char *knob, char *text, struct err *err)
{
    char name[HOST_NAME_MAX_BYTES + 1];
    uint16_t port = 0;
    struct err ignored;
    if (host_parse(text, name, &port, &ignored) < 0 || port != 0)
        return err_set(err, ERR_INVALID, "%s: \"%.80s\" is not a host name (without port)", knob,
                       text);
    add_name(&c->hosts, &c->n_hosts, name);
    return 0;
}

/* Kept as a browser sends it: lower-case, no default port, no path. */
static int add_origin(struct config *c, const char *knob, char *text, struct err *err)
{
    char name[HOST_NAME_MAX_BYTES + 1], origin[HOST_NAME_MAX_BYTES + 24], tail[8] = "";
    uint16_t port = 0;
    struct err ignored;
    bool tls = strncasecmp(text, "https://", 8) == 0;
    if ((!tls && strncasecmp(text, "http://", 7) != 0) ||
        host_parse(text + (tls ? 8 : 7), name, &port, &ignored) < 0)
        return err_set(err, ERR_INVALID,
                       "%s: \"%.80s\" is not an origin like https://app.example.com", knob, text);
    if (port != 0 && port != (tls ? 443 : 80))
        (void)snprintf(tail, sizeof tail, ":%u", port);
    bool six = strchr(name, ':');
    (void)snprintf(origin, sizeof origin, "%s://%s%s%s%s", tls ? "https" : "http", six ? "[" : "",
                   name, six ? "]" : "", tail);
    add_name(&c->origins, &c->n_origins, origin);
    return 0;
}

static int add_token(struct config *c, const char *knob, char *text, struct err *err)
{
    size_t n = strcspn(text, ":=");
    const char *secret = text[n] ? text + n + 1 : "";
    bool split = text[n] != 0;
    text[n] = 0;
    if (!split || n == 0 || n > TOKEN_NAME_MAX || !only(text, "._-"))
        return err_set(
            err, ERR_INVALID,
            "%s: entry %u is not name:secret with a name of 1 to %u of A-Z a-z 0-9 . _ -", knob,
            c->n_tokens + 1, TOKEN_NAME_MAX);
    size_t len = strlen(secret);
    if (len < TOKEN_SECRET_MIN || len > TOKEN_SECRET_MAX)
        return err_set(err, ERR_INVALID, "%s: a secret of \"%s\" is not %u to %u bytes long", knob,
                       text, TOKEN_SECRET_MIN, TOKEN_SECRET_MAX);
    for (size_t i = 0; i < len; i++)
        if (secret[i] <= ' ' || secret[i] > '~')
            return err_set(err, ERR_INVALID,
                           "%s: a secret of \"%s\" holds something besides visible ASCII", knob,
                           text);
    struct config_token t = { .name = NULL };
    digest_sha256(secret, len, t.digest);
    for (uint32_t i = 0; i < c->n_tokens; i++) {
        if (memcmp(c->tokens[i].digest, t.digest, sizeof t.digest) != 0)
            continue;
        if (str_eq(c->tokens[i].name, text))
            return 0;
        return err_set(err, ERR_INVALID, "%s: \"%s\" and \"%s\" have the same secret", knob,
                       c->tokens[i].name, text);
    }
    struct config_token *tokens = reallocarray(c->tokens, c->n_tokens + 1, sizeof *tokens);
    if (!tokens)
        abort();
    t.name = str_dup(text);
    tokens[c->n_tokens++] = t;
    c->tokens = tokens;
    return 0;
}

/* --- addresses and names --- */

static int parse_bind(const char *knob, const char *text, struct config_bind *ret, struct err *err)
{
    char host[HOST_NAME_MAX_BYTES + 1];
    struct in_addr four;
    struct in6_addr six;
    struct config_bind b = { .port = 0 };
    struct err ignored;
    if (bind_parse(text, host, &b.port, &ignored) < 0)
        goto bad;
    if (!str_copy(b.host, sizeof b.host, str_eq(host, "localhost") ? "127.0.0.1" : host))
        goto bad;
    if (b.host[0] == 0)
        (void)str_copy(b.host, sizeof b.host, "0.0.0.0");
    if (inet_pton(AF_INET, b.host, &four) == 1)
        b.loopback = ntohl(four.s_addr) >> 24 == 127;
    else if (inet_pton(AF_INET6, b.host, &six) == 1)
        b.loopback =
            IN6_IS_ADDR_LOOPBACK(&six) || (IN6_IS_ADDR_V4MAPPED(&six) && six.s6_addr[12] == 127);
    else
        goto bad;
    *ret = b;
    return 0;
bad:
    return err_set(err, ERR_INVALID, "%s: \"%.80s\" is not address:port, such as 127.0.0.1:9090",
                   knob, text);
}

static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);
    return n >= m && str_eq(text + n - m, end);
}

static int parse_domain(struct config *c, struct err *err)
{
    char name[HOST_NAME_MAX_BYTES + 1];
    uint16_t port = 0;
    struct in_addr four;
    struct err ignored;
    /* A preview's name puts at most 44 more bytes before it. */
    if (host_parse(c->preview_domain, name, &port, &ignored) < 0 || port != 0 ||
        strchr(name, ':') || inet_pton(AF_INET, name, &four) == 1 || strlen(name) > 200)
        return err_set(err, ERR_INVALID, "PREVIEW_DOMAIN: \"%.80s\" is not a domain name",
                       c->preview_domain);
    free(c->preview_domain);
    c->preview_domain = str_dup(name);
    return 0;
}

static int check_paths(struct config *c, struct err *err)
{
    size_t len = strlen(c->data_dir);
    while (len > 1 && c->data_dir[len - 1] == '/')
        c->data_dir[--len] = 0;
    if (c->data_dir[0] != '/' || len < 2 || len > DATA_DIR_MAX || strstr(c->data_dir, "/../") ||
        ends_with(c->data_dir, "/.."))
        return err_set(err, ERR_INVALID,
                       "SANDBOXED_DATA_DIR: must be an absolute path of 2 to %u bytes without ..",
                       DATA_DIR_MAX);
    if (!str_starts(c->docker_host, "unix:///"))
        return err_set(err, ERR_INVALID,
                       "DOCKER_HOST: \"%.80s\" is not a Unix socket (unix:///path)",
                       c->docker_host);
    return 0;
}

static int check_words(const struct config *c, struct err *err)
{
    static const char *const levels[] = { "debug", "info", "warn", "error", NULL };
    size_t i = 0;
    while (levels[i] && !str_eq(levels[i], c->log_level))
        i++;
    if (!levels[i])
        return err_set(err, ERR_INVALID,
                       "SANDBOXD_LOG_LEVEL: \"%.40s\" is not debug, info, warn or error",
                       c->log_level);
    if (!only(c->network, "._-") || strlen(c->network) > 64)
        return err_set(err, ERR_INVALID,
                       "SANDBOXD_NETWORK: \"%.80s\" is not the name of a Docker network",
                       c->network);
    if (c->network[0] && c->firewall) {
        (void)err_set(err, ERR_INVALID,
                      "SANDBOXD_NETWORK: the firewall guards our own network only, not \"%s\"",
                      c->network);
        return err_remedy(err, "guard that network yourself and set SANDBOXD_FIREWALL=false, or "
                               "leave SANDBOXD_NETWORK empty");
    }
    if (c->memory_mib > c->memory_mib_max)
        return err_set(err, ERR_INVALID,
                       "SANDBOXD_MEMORY_MIB: %lld is above SANDBOXD_MEMORY_MIB_MAX (%lld)",
                       (long long)c->memory_mib, (long long)c->memory_mib_max);
    return 0;
}

/* Where visitors come in; with the edge built in, that is where it listens. */
static int parse_front(struct config *c, struct err *err)
{
    char at[HOST_NAME_MAX_BYTES + 16];
    bool six = strchr(c->preview_bind, ':') && c->preview_bind[0] != '[';
    c->edge_builtin = str_eq(c->preview_edge, "builtin");
    if (!c->edge_builtin && !str_eq(c->preview_edge, "traefik"))
        return err_set(err, ERR_INVALID, "PREVIEW_EDGE: \"%.40s\" is not traefik or builtin",
                       c->preview_edge);
    if (!c->preview_entrypoint[0]) {
        free(c->preview_entrypoint);
        c->preview_entrypoint = str_dup(c->preview_tls ? "websecure" : "web");
    }
    if (!only(c->acme_dns, "-") || strlen(c->acme_dns) > 64)
        return err_set(err, ERR_INVALID, "PREVIEW_ACME_DNS: \"%.80s\" is not a provider's name",
                       c->acme_dns);
    if (!only(c->acme_email, "@._-+") || strlen(c->acme_email) > 200)
        return err_set(err, ERR_INVALID, "PREVIEW_ACME_EMAIL: \"%.80s\" is not an address",
                       c->acme_email);
    if (!only(c->preview_entrypoint, "_-") || strlen(c->preview_entrypoint) > 64)
        return err_set(err, ERR_INVALID,
                       "PREVIEW_ENTRYPOINT: \"%.80s\" is not a name of a-z A-Z 0-9 _ -",
                       c->preview_entrypoint);
    if (c->edge_builtin && c->preview_tls) {
        (void)err_set(err, ERR_INVALID, "PREVIEW_TLS: the built-in edge speaks no TLS");
        return err_remedy(err, "set PREVIEW_EDGE=traefik, or end TLS in a proxy of your own");
    }
    (void)snprintf(at, sizeof at, "%s%.200s%s:%u", six ? "[" : "", c->preview_bind, six ? "]" : "",
                   (unsigned)c->http_port); /* what does not fit is no address */
    if (parse_bind("PREVIEW_BIND", at, &c->public, err) < 0)
        return -1;
    if (c->edge_builtin)
        c->edge = c->public;
    if (c->front_socket[0] && (c->front_socket[0] != '/' || strlen(c->front_socket) > 100))
        return err_set(err, ERR_INVALID,
                       "SANDBOXD_FRONT_SOCKET: must be an absolute path of at most 100 bytes");
    return 0;
}

/* Whoever reaches an API without tokens owns every sandbox: that is for this machine only. */
static int check_auth(const struct config *c, struct err *err)
{
    bool local =
        str_eq(c->preview_domain, "localhost") || ends_with(c->preview_domain, ".localhost");
    if (!c->auth_disabled) {
        if (c->n_tokens > 0)
            return 0;
        (void)err_set(err, ERR_INVALID,
                      "SANDBOXD_API_TOKENS: no token is set, nobody could log in");
        return err_remedy(err, "set SANDBOXD_API_TOKENS=name:secret, or "
                               "SANDBOXD_API_AUTH_DISABLED=true for use on this machine only");
    }
    if (!c->api.loopback) {
        (void)err_set(
            err, ERR_INVALID,
            "SANDBOXD_API_AUTH_DISABLED: not while SANDBOXED_API_BIND=%s is reachable from "
            "other machines",
            c->api_bind);
        return err_remedy(err, "set SANDBOXD_API_TOKENS, or bind the API to 127.0.0.1");
    }
    if (!local) {
        (void)err_set(err, ERR_INVALID,
                      "SANDBOXD_API_AUTH_DISABLED: not while PREVIEW_DOMAIN=%s is not localhost or "
                      "below it",
                      c->preview_domain);
        return err_remedy(err, "set SANDBOXD_API_TOKENS, or PREVIEW_DOMAIN=localhost");
    }
    return 0;
}

int values_derive(struct config *c, struct err *err)
{
    int rc = each_item(c, "SANDBOXD_API_TOKENS", c->api_tokens, add_token, err);
    mem_erase(c->api_tokens, strlen(c->api_tokens));
    if (rc < 0 || parse_bind("SANDBOXED_API_BIND", c->api_bind, &c->api, err) < 0 ||
        parse_bind("SANDBOXED_EDGE_BIND", c->edge_bind, &c->edge, err) < 0 ||
        add_image(c, "SANDBOXD_IMAGE", c->image, err) < 0 ||
        each_item(c, "SANDBOXD_IMAGES", c->image_list, add_image, err) < 0 ||
        each_item(c, "SANDBOXD_API_HOSTS", c->api_hosts, add_host, err) < 0 ||
        each_item(c, "SANDBOXD_API_ORIGINS", c->api_origins, add_origin, err) < 0 ||
        parse_domain(c, err) < 0 || parse_front(c, err) < 0 || check_paths(c, err) < 0 ||
        check_words(c, err) < 0)
        return -1;
    return check_auth(c, err);
}
