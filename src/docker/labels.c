/* Traefik's labels (docker/labels.h). What a router rule is made of is checked letter by letter
 * before anything is written: a rule is a small language, and one backtick would end the name in
 * it.
 *
 * A router's service is the edge's, never the container: Traefik thus dials no address that may be
 * gone. It drops a container without any server port all the same, hence the one such label.
 * There is no middleware: who may see a private preview is decided by the edge alone, which also
 * knows when that changes; labels could only be changed with the container. */
#include "docker/labels.h"

#include <string.h>

#include "base/str.h"

#define ENTRYPOINT_MAX 64
#define DOMAIN_MAX 200
#define NAME_MAX_BYTES (2 + ID_LEN + 1 + 5 + 1) /* s-<id>-<port> */

static bool made_of(const char *text, const char *letters, size_t max)
{
    size_t len = text ? strnlen(text, max + 1) : 0;
    return len > 0 && len <= max && strspn(text, letters) == len;
}

bool labels_entrypoint_ok(const char *name)
{
    return made_of(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-",
                   ENTRYPOINT_MAX);
}

static bool id_ok(const char *lower)
{
    return made_of(lower, "0123456789abcdefghjkmnpqrstvwxyz", ID_LEN) && strlen(lower) == ID_LEN;
}

static bool domain_ok(const char *domain)
{
    return made_of(domain, "abcdefghijklmnopqrstuvwxyz0123456789.-", DOMAIN_MAX);
}

static void put_router(const char *name, const struct runtime_preview *p, label_fn put, void *ctx)
{
    char label[sizeof "traefik.http.routers..entrypoints" + NAME_MAX_BYTES];
    char rule[sizeof "Host(`.preview.`)" + NAME_MAX_BYTES + DOMAIN_MAX];
    const struct {
        const char *key, *value;
        bool wanted;
    } rows[] = {
        { "rule", rule, true },
        { "entrypoints", p->entrypoint, true },
        { "priority", "100", true },
        { "tls", "true", p->tls },
        { "service", LABELS_EDGE_SERVICE "@file", true },
    };
    (void)snprintf(rule, sizeof rule, "Host(`%s.preview.%s`)", name, p->domain); /* both fit */
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (!rows[i].wanted)
            continue;
        (void)snprintf(label, sizeof label, "traefik.http.routers.%s.%s", name, rows[i].key);
        put(ctx, label, rows[i].value);
    }
}

int labels_traefik(const struct sandbox_id *id, const struct u16v *ports,
                   const struct runtime_preview *preview, label_fn put, void *ctx, struct err *err)
{
    char lower[ID_LEN + 1], name[NAME_MAX_BYTES], port[6];
    char label[sizeof "traefik.http.services..loadbalancer.server.port" + NAME_MAX_BYTES];
    bool ports_ok = ports->count <= sizeof ports->items / sizeof ports->items[0];
    if (ports->count == 0)
        return 0;
    for (size_t i = 0; ports_ok && i < ports->count; i++)
        ports_ok = ports->items[i] != 0;
    sandbox_id_lower(id, lower);
    if (!ports_ok || !id_ok(lower) || !domain_ok(preview->domain) ||
        !labels_entrypoint_ok(preview->entrypoint))
        return err_set(err, ERR_INTERNAL, "a part of the preview labels is malformed");
    put(ctx, "traefik.enable", "true");
    put(ctx, "sandboxd.managed", "true");
    for (size_t i = 0; i < ports->count; i++) {
        (void)snprintf(name, sizeof name, "s-%s-%u", lower, ports->items[i]); /* always fits */
        put_router(name, preview, put, ctx);
    }
    (void)snprintf(label, sizeof label, "traefik.http.services.s-%s.loadbalancer.server.port",
                   lower);
    (void)snprintf(port, sizeof port, "%u", ports->items[0]);
    put(ctx, label, port);
    return 0;
}
