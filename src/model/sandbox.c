/* The state table, read off the lists in the header. A duplicate edge is a duplicate initialiser,
 * which the compiler refuses. */
#include "model/sandbox.h"

#include <stdlib.h>
#include <string.h>

#include "base/str.h"

/* 0: refused; else 1 + target state */
#pragma GCC diagnostic error "-Woverride-init"
static const unsigned char edges[SANDBOX_STATE_COUNT][SANDBOX_EVENT_COUNT] = {
#define EDGE_ROW(from, event, to) [SANDBOX_##from][SANDBOX_ON_##event] = 1 + SANDBOX_##to,
    SANDBOX_EDGES(EDGE_ROW)
#undef EDGE_ROW
};

static const struct {
    const char *v1, *legacy;
} states[SANDBOX_STATE_COUNT] = {
#define STATE_ROW(name, v1, legacy, truth) [SANDBOX_##name] = { v1, legacy },
    SANDBOX_STATES(STATE_ROW)
#undef STATE_ROW
};

static const char *const events[SANDBOX_EVENT_COUNT] = {
#define EVENT_ROW(name, text) [SANDBOX_ON_##name] = text,
    SANDBOX_EVENTS(EVENT_ROW)
#undef EVENT_ROW
};

const char *const sandbox_visibility_names[] = { "public", "private", NULL };
const char *const sandbox_idle_policy_names[] = { "sleep", "pause", "always_on", NULL };

bool sandbox_edge(enum sandbox_state from, enum sandbox_event event, enum sandbox_state *ret_to)
{
    if (!edges[from][event])
        return false;
    *ret_to = (enum sandbox_state)(edges[from][event] - 1);
    return true;
}

const char *sandbox_state_name(enum sandbox_state s)
{
    return states[s].v1;
}

const char *sandbox_state_legacy(enum sandbox_state s)
{
    return states[s].legacy;
}

const char *sandbox_event_name(enum sandbox_event e)
{
    return events[e];
}

bool sandbox_state_parse(const char *text, enum sandbox_state *ret)
{
    for (int s = 0; s < SANDBOX_STATE_COUNT; s++) {
        if (str_eq(text, states[s].v1)) {
            *ret = (enum sandbox_state)s;
            return true;
        }
    }
    return false;
}

bool sandbox_state_settled(enum sandbox_state s)
{
    return s == SANDBOX_RUNNING || s == SANDBOX_PAUSED || s == SANDBOX_STOPPED ||
           s == SANDBOX_ERROR;
}

static char *dup_or_null(const char *text)
{
    return text ? str_dup(text) : NULL;
}

static struct strmap map_copy(const struct strmap *m)
{
    struct strmap copy = { 0 };
    for (size_t i = 0; i < m->count; i++)
        strmap_add(&copy, m->names[i], m->values[i]);
    return copy;
}

struct sandbox *sandbox_copy(const struct sandbox *s)
{
    struct sandbox *c = mem_new(1, sizeof *c);
    *c = *s;
    c->tenant = dup_or_null(s->tenant);
    c->node = dup_or_null(s->node);
    c->image = dup_or_null(s->image);
    c->image_digest = dup_or_null(s->image_digest);
    c->container_id = dup_or_null(s->container_id);
    c->memory_high = dup_or_null(s->memory_high);
    c->external_user = dup_or_null(s->external_user);
    c->external_project = dup_or_null(s->external_project);
    c->external_workspace = dup_or_null(s->external_workspace);
    c->services = dup_or_null(s->services);
    c->error_message = dup_or_null(s->error_message);
    c->env = map_copy(&s->env);
    c->metadata = map_copy(&s->metadata);
    return c;
}

void sandbox_free(struct sandbox *s)
{
    if (!s)
        return;
    free(s->tenant);
    free(s->node);
    free(s->image);
    free(s->image_digest);
    free(s->container_id);
    free(s->memory_high);
    free(s->external_user);
    free(s->external_project);
    free(s->external_workspace);
    free(s->services);
    free(s->error_message);
    strmap_release(&s->env);
    strmap_release(&s->metadata);
    mem_erase(s->secret, sizeof s->secret);
    free(s);
}
