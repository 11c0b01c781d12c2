/* The state table: every state with every event, against a matrix written by hand. */
#include <string.h>

#include "base/str.h"
#include "check.h"
#include "model/sandbox.h"

#define NO SANDBOX_STATE_COUNT

/* Columns in the order of SANDBOX_EVENTS: START STARTED FAILED PAUSE PAUSED RESUME STOP EXITED
 * DELETE. */
#define TO(name) SANDBOX_##name
static const enum sandbox_state want[SANDBOX_STATE_COUNT][SANDBOX_EVENT_COUNT] = {
    /* clang-format off */
    [TO(CREATING)] = { NO, TO(RUNNING), TO(ERROR), NO, NO, NO, NO, NO, NO },
    [TO(RUNNING)]  = { NO, NO, NO, TO(PAUSING), NO, NO, TO(STOPPING), TO(STOPPED), TO(DELETING) },
    [TO(PAUSING)]  = { NO, NO, TO(RUNNING), NO, TO(PAUSED), NO, NO, NO, NO },
    [TO(PAUSED)]   = { NO, NO, NO, NO, NO, TO(RESUMING), TO(STOPPING), TO(STOPPED), TO(DELETING) },
    [TO(RESUMING)] = { NO, TO(RUNNING), TO(PAUSED), NO, NO, NO, NO, NO, NO },
    [TO(STOPPING)] = { NO, NO, TO(RUNNING), NO, NO, NO, NO, TO(STOPPED), NO },
    [TO(STOPPED)]  = { TO(STARTING), NO, NO, NO, NO, NO, NO, NO, TO(DELETING) },
    [TO(STARTING)] = { NO, TO(RUNNING), TO(STOPPED), NO, NO, NO, NO, NO, NO },
    [TO(DELETING)] = { NO, NO, NO, NO, NO, NO, NO, NO, NO },
    [TO(ERROR)]    = { TO(STARTING), NO, NO, NO, NO, NO, NO, NO, TO(DELETING) },
    /* clang-format on */
};

static const struct {
    enum sandbox_state state;
    const char *v1, *legacy;
    bool settled;
} words[] = {
    { SANDBOX_CREATING, "creating", "creating", false },
    { SANDBOX_RUNNING, "running", "running", true },
    { SANDBOX_PAUSING, "pausing", "running", false },
    { SANDBOX_PAUSED, "paused", "running", true },
    { SANDBOX_RESUMING, "resuming", "running", false },
    { SANDBOX_STOPPING, "stopping", "running", false },
    { SANDBOX_STOPPED, "stopped", "stopped", true },
    { SANDBOX_STARTING, "starting", "creating", false },
    { SANDBOX_DELETING, "deleting", "stopped", false },
    { SANDBOX_ERROR, "error", "error", true },
};

static void check_edges(void)
{
    for (int s = 0; s < SANDBOX_STATE_COUNT; s++) {
        for (int e = 0; e < SANDBOX_EVENT_COUNT; e++) {
            char row[64];
            enum sandbox_state to = NO;
            bool ok = sandbox_edge((enum sandbox_state)s, (enum sandbox_event)e, &to);
            (void)snprintf(row, sizeof row, "%s on %s", sandbox_state_name((enum sandbox_state)s),
                           sandbox_event_name((enum sandbox_event)e));
            CHECK_ROW(row, ok == (want[s][e] != NO) && to == want[s][e]);
        }
    }
}

static void check_words(void)
{
    enum sandbox_state s = SANDBOX_ERROR;
    CHECK(sizeof words / sizeof words[0] == SANDBOX_STATE_COUNT);
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        CHECK_STR(words[i].v1, sandbox_state_name(words[i].state));
        CHECK_STR(words[i].legacy, sandbox_state_legacy(words[i].state));
        CHECK(sandbox_state_settled(words[i].state) == words[i].settled);
        CHECK(sandbox_state_parse(words[i].v1, &s) && s == words[i].state);
    }
    CHECK(!sandbox_state_parse("", &s) && !sandbox_state_parse("Running", &s) &&
          !sandbox_state_parse("running ", &s) && !sandbox_state_parse("asleep", &s));
}

static void check_copy(void)
{
    struct sandbox *s = mem_new(1, sizeof *s);
    s->tenant = str_dup("t");
    s->error_message = str_dup("why");
    s->ports = (struct u16v){ .items = { 80, 3000 }, .count = 2 };
    s->secret[0] = 9;
    strmap_add(&s->env, "A", "1");
    strmap_add(&s->metadata, "m", "");
    struct sandbox *c = sandbox_copy(s);
    sandbox_free(s);
    CHECK_STR("t", c->tenant);
    CHECK_STR("why", c->error_message);
    CHECK_STR("1", strmap_get(&c->env, "A"));
    CHECK_STR("", strmap_get(&c->metadata, "m"));
    CHECK(!strmap_get(&c->env, "B") && !c->image && c->ports.items[1] == 3000 && c->secret[0] == 9);
    sandbox_free(c);
    sandbox_free(NULL);
}

int main(void)
{
    check_edges();
    check_words();
    check_copy();
    return check_done();
}
