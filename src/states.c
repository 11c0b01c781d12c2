/* `sandboxd --print-states`: the life of a sandbox, read off the lists in model/sandbox.h. */
#include "commands.h"
#include "model/sandbox.h"

void print_states(FILE *out)
{
    (void)fprintf(out, "| state | `/v1` | legacy | what is true in it |\n|---|---|---|---|\n");
#define STATE_ROW(name, v1, legacy, truth) \
    (void)fprintf(out, "| %s | `%s` | `%s` | %s |\n", #name, v1, legacy, truth);
    SANDBOX_STATES(STATE_ROW)
#undef STATE_ROW
    (void)fprintf(out, "\n```mermaid\nstateDiagram-v2\n    [*] --> CREATING: create\n");
    for (int from = 0; from < SANDBOX_STATE_COUNT; from++) {
        for (int on = 0; on < SANDBOX_EVENT_COUNT; on++) {
            static const char *const names[] = {
#define STATE_NAME(name, v1, legacy, truth) #name,
                SANDBOX_STATES(STATE_NAME)
#undef STATE_NAME
            };
            enum sandbox_state to;
            if (sandbox_edge((enum sandbox_state)from, (enum sandbox_event)on, &to))
                (void)fprintf(out, "    %s --> %s: %s\n", names[from], names[to],
                              sandbox_event_name((enum sandbox_event)on));
        }
    }
    (void)fprintf(out, "    DELETING --> [*]: row removed\n```\n");
}
