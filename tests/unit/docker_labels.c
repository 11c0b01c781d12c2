/* Traefik's labels: exact, complete, and nothing but the template whatever comes in (T-55). */
#include "docker/labels.h"

#include <string.h>

#include "base/str.h"
#include "check.h"

#define ROUNDS 100000

struct seen {
    char text[64][2][400];
    size_t count;
};

static void note(void *ctx, const char *name, const char *value)
{
    struct seen *s = ctx;
    if (s->count < 64) {
        (void)str_copy(s->text[s->count][0], 400, name);
        (void)str_copy(s->text[s->count][1], 400, value);
    }
    s->count++;
}

static const struct {
    const char *name, *value;
} plain_want[] = {
    { "traefik.enable", "true" },
    { "sandboxd.managed", "true" },
    { "traefik.http.routers.s-01arz3ndektsv4rrffq69g5fav-3000.rule",
      "Host(`s-01arz3ndektsv4rrffq69g5fav-3000.preview.localhost`)" },
    { "traefik.http.routers.s-01arz3ndektsv4rrffq69g5fav-3000.entrypoints", "web" },
    { "traefik.http.routers.s-01arz3ndektsv4rrffq69g5fav-3000.priority", "100" },
    { "traefik.http.routers.s-01arz3ndektsv4rrffq69g5fav-3000.service", "sandboxd-edge@file" },
    { "traefik.http.routers.s-01arz3ndektsv4rrffq69g5fav-65535.rule",
      "Host(`s-01arz3ndektsv4rrffq69g5fav-65535.preview.localhost`)" },
    { "traefik.http.routers.s-01arz3ndektsv4rrffq69g5fav-65535.entrypoints", "web" },
    { "traefik.http.routers.s-01arz3ndektsv4rrffq69g5fav-65535.priority", "100" },
    { "traefik.http.routers.s-01arz3ndektsv4rrffq69g5fav-65535.service", "sandboxd-edge@file" },
    { "traefik.http.services.s-01arz3ndektsv4rrffq69g5fav.loadbalancer.server.port", "3000" },
};
#define PLAIN (sizeof plain_want / sizeof plain_want[0])

static void check_exact(void)
{
    static struct seen s;
    struct err err;
    struct sandbox_id id;
    const struct u16v none = { .count = 0 }, two = { .items = { 3000, 65535 }, .count = 2 };
    const struct runtime_preview web = { "localhost", "web", false };
    CHECK(sandbox_id_parse("01ARZ3NDEKTSV4RRFFQ69G5FAV", &id, &err) == 0);
    CHECK(labels_traefik(&id, &none, &web, note, &s, &err) == 0 && s.count == 0);
    CHECK(labels_traefik(&id, &two, &web, note, &s, &err) == 0);
    CHECK(s.count == PLAIN);
    for (size_t i = 0; i < PLAIN; i++) {
        CHECK_STR(plain_want[i].name, s.text[i][0]);
        CHECK_STR(plain_want[i].value, s.text[i][1]);
    }
}

/* Each is refused before the first label. */
static const struct {
    const char *row, *id, *domain, *entrypoint;
    size_t n_ports;
    uint16_t port;
} bad[] = {
    { "backtick in the domain", NULL, "x`) || Host(`evil", "web", 1, 80 },
    { "upper-case domain", NULL, "Local", "web", 1, 80 },
    { "no domain", NULL, NULL, "web", 1, 80 },
    { "empty domain", NULL, "", "web", 1, 80 },
    { "newline in the domain", NULL, "a\nb", "web", 1, 80 },
    { "comma in the entry point", NULL, "localhost", "web,api", 1, 80 },
    { "empty entry point", NULL, "localhost", "", 1, 80 },
    { "no entry point", NULL, "localhost", NULL, 1, 80 },
    { "port 0", NULL, "localhost", "web", 1, 0 },
    { "more ports than there is room", NULL, "localhost", "web", 33, 80 },
    { "id that is none", "01ARZ3NDEKTSV4RRFFQ69G5FA`", "localhost", "web", 1, 80 },
    { "short id", "01ARZ3", "localhost", "web", 1, 80 },
    { "empty id", "", "localhost", "web", 1, 80 },
};

static void check_refused(void)
{
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        static struct seen s;
        struct err err;
        struct sandbox_id id = { { 0 } };
        struct u16v ports = { .items = { bad[i].port }, .count = bad[i].n_ports };
        const struct runtime_preview p = { bad[i].domain, bad[i].entrypoint, false };
        (void)str_copy(id.text, sizeof id.text,
                       bad[i].id ? bad[i].id : "01ARZ3NDEKTSV4RRFFQ69G5FAV");
        CHECK_ROW(bad[i].row, labels_traefik(&id, &ports, &p, note, &s, &err) == -1 &&
                                  err.code == ERR_INTERNAL && s.count == 0);
    }
}

/* --- whatever comes in: the template, or a refusal --- */

struct template
{
    char want[400];
    const struct sandbox_id *id;
    const struct u16v *ports;
    const struct runtime_preview *p;
    bool ok;
    size_t count;
};

/* Written independently of the code under test: letter by letter what a value may hold. */
static bool harmless(const char *text)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                  ".-_@";
    char bare[400];
    size_t n = strlen(text), from = 0;
    if (str_starts(text, "Host(`")) {
        if (n < 8 || !str_eq(text + n - 2, "`)"))
            return false;
        from = 6;
        n -= 2;
    }
    if (n - from >= sizeof bare)
        return false;
    memcpy(bare, text + from, n - from);
    bare[n - from] = 0;
    return strspn(bare, letters) == n - from;
}

static void match(void *ctx, const char *name, const char *value)
{
    struct template *t = ctx;
    t->count++;
    t->ok &= harmless(name) && harmless(value);
    if (!str_starts(value, "Host("))
        return;
    char lower[ID_LEN + 1];
    sandbox_id_lower(t->id, lower);
    bool found = false;
    for (size_t i = 0; i < t->ports->count && !found; i++) {
        (void)snprintf(t->want, sizeof t->want, "Host(`s-%s-%u.preview.%s`)", lower,
                       t->ports->items[i], t->p->domain);
        found = str_eq(t->want, value);
    }
    t->ok &= found;
}

static uint32_t next(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*state >> 33);
}

/* Mostly letters that are allowed, now and then one that would matter. */
static void fill(char *out, size_t len, const char *fine, uint64_t *state)
{
    static const char sharp[] = "`'\"|&(){}[]!,;\\/ \n\r\t:@%$#*?<>=+~^\x7f\x80\xff";
    for (size_t i = 0; i < len; i++)
        out[i] = next(state) % 40 == 0 ? sharp[next(state) % (sizeof sharp - 1)]
                                       : fine[next(state) % strlen(fine)];
    out[len] = 0;
}

static void check_property(void)
{
    uint64_t state = 42;
    uint32_t made = 0, refused = 0, wrong = 0;
    for (int round = 0; round < ROUNDS; round++) {
        char domain[256], entrypoint[80];
        struct err err;
        struct sandbox_id id = { { 0 } };
        struct u16v ports = { .count = next(&state) % 33 };
        fill(id.text, ID_LEN, "0123456789ABCDEFGHJKMNPQRSTVWXYZ", &state);
        fill(domain, next(&state) % 24, "abcdefghijklmnopqrstuvwxyz.-0123456789", &state);
        fill(entrypoint, next(&state) % 12, "abcdefghijklmnopqrstuvwxyz-_", &state);
        for (size_t i = 0; i < ports.count; i++)
            ports.items[i] = (uint16_t)next(&state);
        const struct runtime_preview p = { domain, entrypoint, next(&state) % 2 };
        struct template t = { .id = &id, .ports = &ports, .p = &p, .ok = true };
        int rc = labels_traefik(&id, &ports, &p, match, &t, &err);
        size_t full = ports.count ? 3 + ports.count * (p.tls ? 5u : 4u) : 0;
        wrong += !t.ok || t.count != (rc == 0 ? full : 0);
        made += rc == 0 && ports.count > 0;
        refused += rc < 0;
    }
    CHECK(wrong == 0);
    CHECK(made > ROUNDS / 20 && refused > ROUNDS / 20); /* both ways were walked */
}

int main(void)
{
    check_exact();
    check_refused();
    check_property();
    return check_done();
}
