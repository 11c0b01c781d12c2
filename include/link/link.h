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

/* --- kept processes (SPAWN_KEEP in wire/frames.h) --- */
/* Opens a new stream to a kept process and reads its FRAME_ATTACHED: *ret_at says where output
 * begins, and frames follow on *ret_fd as after link_spawn (STDOUT and STDERR from there on, EXIT
 * at the end). first <= next and (first >= offset or first == next) is checked here. ERR_NOT_FOUND:
 * the agent keeps no such process (killed, forgotten, or never kept); ERR_UNAVAILABLE: no agent, or
 * it talks nonsense; ERR_TIMEOUT. After ERR_UNAVAILABLE and ERR_TIMEOUT trying again is fine. */
int link_attach(struct link *l, const struct sandbox_id *id, uint64_t process, uint64_t offset,
                int64_t deadline_ms, int *ret_fd, struct frame_attached *ret_at, struct err *err);
/* Asks the agent to kill it if it runs and to give up what it keeps of it; does not wait. Success
 * when there is no such process. ERR_UNAVAILABLE: no agent. */
int link_forget_process(struct link *l, const struct sandbox_id *id, uint64_t process,
                        struct err *err);
/* Sends a signal to its process group, or (tree) to all its descendants; stdin that it has not
 * taken does not hold it up. Does not wait; nothing happens when it has ended. ERR_UNAVAILABLE: no
 * agent.
 */
int link_signal_process(struct link *l, const struct sandbox_id *id, uint64_t process,
                        uint32_t signal, bool tree, struct err *err);
/* The processes that the agent keeps, as it last said, in no order; at most max, of at most
 * LINK_KEPT_MAX. One just spawned may be missing for a moment; that one is gone is known for sure
 * from link_attach. Empty while no agent is connected and for a moment after. */
size_t link_processes(struct link *l, const struct sandbox_id *id, uint64_t *out, size_t max);

/* --- what has changed --- */
enum link_change {
    LINK_CHANGE_AGENT = 1 << 0,     /* came or went, or another came in its place: link_ready */
    LINK_CHANGE_PORTS = 1 << 1,     /* link_ports */
    LINK_CHANGE_PROCESSES = 1 << 2, /* link_processes */
};
/* Readable (poll, epoll: level-triggered) while link_next_change has something to tell; only to be
 * watched, never read. Belongs to l. Nothing is noted before the first call. One user. */
int link_changes_fd(struct link *l);
/* Takes one sandbox that changed since it was last taken; false: none. Changes of one sandbox are
 * told as one, however many there were: look at what is now. Order says nothing. */
bool link_next_change(struct link *l, struct sandbox_id *ret_id, uint32_t *ret_what);

/* --- TCP ports --- */
/* A TCP port that somebody in the sandbox listens on. */
struct link_port {
    uint16_t port;
    bool loopback; /* only on 127.0.0.1 or ::1 */
};
/* As the agent last said, ascending; at most max, of at most LINK_PORTS_MAX. A port shows up about
 * 20 ms after it opens in the first 10 s after a start or a spawn, else within half a second. Empty
 * while no agent is connected. */
size_t link_ports(struct link *l, const struct sandbox_id *id, struct link_port *out, size_t max);
/* The same of one port; *ret_loopback is set when it does. */
bool link_listens(struct link *l, const struct sandbox_id *id, uint16_t port, bool *ret_loopback);
/* Waits until the agent says that the port listens. ERR_TIMEOUT; ERR_UNAVAILABLE: no agent. */
int link_wait_port(struct link *l, const struct sandbox_id *id, uint16_t port, int64_t deadline_ms,
                   bool *ret_loopback, struct err *err);
/* Asks the agent for a TCP connection to 127.0.0.1:port (else [::1]:port); the connected descriptor
 * is passed over a stream connection and is checked here: a TCP socket whose peer is that port on
 * loopback. It comes blocking, but whoever else holds it may change that and more: use MSG_DONTWAIT
 * always, and turn SO_LINGER off before closing. ERR_UNAVAILABLE: refused, or no agent;
 * ERR_TIMEOUT. */
int link_connect(struct link *l, const struct sandbox_id *id, uint16_t port, int64_t deadline_ms,
                 int *ret_fd, struct err *err);

#endif
