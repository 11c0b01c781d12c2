/* Our end of the agents' sockets.
 *
 * Each running sandbox has <data>/run/<id>/agent.sock; who connects there is that sandbox, and
 * nobody else can. The first connection of a start epoch is the agent (nothing else runs yet): it
 * gets the epoch's secret, and every later connection must show it. One control connection carries
 * requests; each process has a stream connection of its own. One epoll thread reads hellos and
 * control frames; streams are handed to the thread that asked. Threads: any. */
#ifndef LINK_LINK_H
#define LINK_LINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "model/id.h"
#include "wire/frames.h"

struct link;

/* Writes the embedded agent to <data>/bin/agent-<hash> (kept when there already). */
int link_new(const char *data_dir, struct link **ret, struct err *err);
void link_free(struct link *l);
/* Host paths for the container's mounts; borrowed, valid as long as l. */
const char *link_agent_path(const struct link *l);
/* <data>/run/<id>; made by link_expect. out: at least 4096 bytes. */
void link_run_dir(const struct link *l, const struct sandbox_id *id, char *out, size_t size);

/* Opens the sandbox's socket and accepts its agent. fresh: no process of this epoch ran yet, so a
 * hello without the secret is answered with it, once; otherwise only who shows the secret is let
 * in. Replaces an earlier expectation (and closes its connections); the same secret again changes
 * nothing, unless `fresh` starts over an epoch whose agent has been here already. */
int link_expect(struct link *l, const struct sandbox_id *id, const uint8_t secret[FRAME_SECRET],
                bool fresh, struct err *err);
/* Closes everything of it and removes the run directory. */
void link_forget(struct link *l, const struct sandbox_id *id);
/* Waits until the agent's control connection is there. ERR_TIMEOUT; ERR_NOT_FOUND: not expected. */
int link_wait_ready(struct link *l, const struct sandbox_id *id, int64_t deadline_ms,
                    struct err *err);
bool link_ready(struct link *l, const struct sandbox_id *id);
/* Asks for a process: sends the spawn frame (s->number is filled in here) and waits for its stream.
 * Returns a blocking socket in *ret_fd that the caller owns; frames follow as in wire/frames.h.
 * ERR_UNAVAILABLE: no agent; ERR_TIMEOUT. */
int link_spawn(struct link *l, const struct sandbox_id *id, struct frame_spawn *s, size_t argv_len,
               size_t env_len, int64_t deadline_ms, int *ret_fd, struct err *err);

/* A TCP port that somebody in the sandbox listens on. */
struct link_port {
    uint16_t port;
    bool loopback; /* only on 127.0.0.1 or ::1 */
};
/* As the agent last said, ascending; at most max. */
size_t link_ports(struct link *l, const struct sandbox_id *id, struct link_port *out, size_t max);
/* Waits until the agent says that the port listens. ERR_TIMEOUT; ERR_UNAVAILABLE: no agent. */
int link_wait_port(struct link *l, const struct sandbox_id *id, uint16_t port, int64_t deadline_ms,
                   bool *ret_loopback, struct err *err);
/* Asks the agent for a TCP connection to 127.0.0.1:port (else [::1]:port); the connected descriptor
 * is passed over a stream connection and is checked here: a TCP socket whose peer is that port on
 * loopback. Its file status flags are shared with the agent: use MSG_DONTWAIT. ERR_UNAVAILABLE:
 * refused; ERR_TIMEOUT. */
int link_connect(struct link *l, const struct sandbox_id *id, uint16_t port, int64_t deadline_ms,
                 int *ret_fd, struct err *err);

#endif
