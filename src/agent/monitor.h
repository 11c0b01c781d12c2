/* What the files of a monitor share: monitor.c is its life, talk.c its conversation with the
 * daemon, ring.c what its command wrote. One process, one command, one of each. */
#ifndef MONITOR_H
#define MONITOR_H

#include <sys/uio.h>
#include <unistd.h>

#include "agent.h"

#define CHUNK (64 * KIB) /* read at once; a power of two */
#define NEVER INT64_MAX

struct monitor {
    const struct agent *agent;
    struct command cmd;
    int channel;   /* to PID 1; -1: neither kept nor to be */
    bool kept;     /* outlives its streams */
    bool may_keep; /* becomes kept if it listens when its stream ends */
    bool detach;   /* goes on without a stream, unkept */

    bool main_gone; /* the command itself has ended, with... */
    int status;
    bool all_gone; /* ... all its descendants */
    bool over;     /* ... and all that they wrote is in the ring; `exit` says how */
    bool timed_out;
    uint8_t exit[FRAME_EXIT_LEN];
    int64_t timeout_at, hangup_at, kill_at, give_up_at; /* NEVER: not set */
    bool err_first; /* whose turn it is, so that a busy stdout does not starve stderr */

    /* talk.c only */
    int stream;     /* -1: none */
    bool deaf, hup; /* takes no more output; what it sent may still be there to read */
    uint8_t head[FRAME_HEADER + 32]; /* a short frame, or the header of output that follows it */
    size_t head_at, head_len;
    size_t body_left; /* bytes of the ring that belong to the frame under way, from `sent` */
    uint64_t sent;    /* offset of the next byte that goes into the stream */
    bool exit_told;
    bool in_stale; /* what is in `in` came on an earlier stream */
    bool stdin_blocked, stdin_last;
    uint32_t stdin_left; /* bytes missing of the FRAME_STDIN under way */
    size_t in_len;
    uint8_t in[CHUNK];
};
extern struct monitor m;

static inline void close_end(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

/* --- monitor.c --- */
/* Begins the end: TERM for all now, KILL after grace_ms. A later call can only shorten the grace.
 */
void end_all(int64_t grace_ms);
/* The daemon has left the stream: what becomes of the command? */
void on_stream_gone(void);

/* --- talk.c --- */
/* Dials; then either the command was started, or there is a reason why not. */
int talk_begin(uint64_t number);
void talk_started(void);
void talk_failed(int error, enum frame_step step);
/* Takes up the output at an offset, on a stream of its own that replaces the one before. */
void talk_attach(uint64_t number, uint64_t offset);
void talk_refuse(uint64_t number, int error);
void talk_close(void);
/* Is somebody there to read, whom the command has to wait for? */
bool talk_listens(void);
/* Sends as much as the stream takes. */
void talk_flush(void);
/* All is said that there was to say, or nobody is there to hear it. */
bool talk_done(void);
void talk_watch(struct pollfd *stream, struct pollfd *in);
void talk_serve(const struct pollfd *stream, const struct pollfd *in);

/* --- ring.c --- */
void ring_init(size_t size); /* a power of two, at most LINK_RING */
uint64_t ring_first(void);   /* of what is there */
uint64_t ring_next(void);    /* of the byte to come */
/* Reads from fd; returns as read. most: at most the size. */
ssize_t ring_fill(int fd, bool of_err, size_t most);
/* How many bytes from there on are of the same kind, at most `most`; there must be one. */
size_t ring_run(uint64_t from, size_t most, bool *ret_of_err);
/* Where they are; returns the number of pieces. */
size_t ring_view(uint64_t from, size_t len, struct iovec out[2]);

#endif
