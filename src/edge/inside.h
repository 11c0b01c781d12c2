/* What the files of edge/ share. Everything here belongs to the loop's thread, unless said
 * otherwise.
 *
 * A client is one visitor's connection and the exchange on it: there is one at a time. An upstream
 * is a connection to an app, attached to an exchange or idle in its box. A box is what the edge
 * knows about one sandbox while anybody is interested. */
#ifndef EDGE_INSIDE_H
#define EDGE_INSIDE_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/mu.h"
#include "body.h"
#include "buffer.h"
#include "config/config.h"
#include "core/core.h"
#include "core/share.h"
#include "core/traffic.h"
#include "head.h"
#include "rewrite.h"
#include "route.h"
#include "visitor.h"

struct edge;
struct job;

/* --- sockets (edge.c) --- */

enum sock_kind { SOCK_LISTENER, SOCK_EVENT, SOCK_CLIENT, SOCK_UPSTREAM };
/* Edge-triggered: the flags say what may be tried, and are cleared by the try that fails. */
struct sock {
    enum sock_kind kind;
    int fd; /* -1: closed; its owner is freed after this round */
    bool readable, writable;
    bool hung;   /* the peer has sent its last byte: read on to see */
    bool broken; /* nothing goes either way any more */
};
int sock_watch(struct edge *e, struct sock *s);
void sock_close(struct edge *e, struct sock *s);
enum sock_io { IO_SOME, IO_WAIT, IO_END, IO_BROKEN };
enum sock_io sock_read(struct sock *s, struct buffer *to);
enum sock_io sock_write(struct sock *s, struct buffer *from);

/* --- boxes (box.c) --- */

struct upstream {
    struct sock s;
    struct upstream *next; /* idle ones of a box */
    struct box *box;
    struct client *client; /* NULL: idle */
    uint16_t port;
    uint32_t epoch;
    bool connecting;
    bool reused;
    bool shut; /* our side was shut down */
    int64_t since_ms;
};

struct box {
    struct box *next; /* same bucket */
    struct sandbox_id id;
    struct client *clients; /* its exchanges, by box_next */
    uint32_t n_clients;
    struct upstream *idle;
    uint32_t n_idle;
    uint32_t epoch; /* of what follows */
    bool has_address;
    struct sockaddr_storage address; /* without port */
    bool waking, porting;            /* a job is under way */
    uint32_t connects, jobs;         /* through the agent; all */
    char failure[320];               /* of the last wake; empty: none since */
    int64_t failed_at_ms;
};

/* --- clients (client.c, exchange.c) --- */

enum client_state {
    CLIENT_IDLE,   /* between requests; nothing of the next has come */
    CLIENT_HEAD,   /* some of a head has come */
    CLIENT_WAIT,   /* the request is held: its app cannot be reached yet */
    CLIENT_OPEN,   /* an upstream is attached */
    CLIENT_ANSWER, /* our own answer is on its way */
    CLIENT_LINGER, /* all was said; read on for a while, so that it arrives */
};

enum wants { WANTS_TEXT, WANTS_JSON, WANTS_HTML };
enum right { RIGHT_PUBLIC, RIGHT_SHARE, RIGHT_OWNER };

struct client {
    struct sock s;
    struct edge *e;
    struct client *prev, *next;         /* all */
    struct client *box_prev, *box_next; /* of the same box */
    struct client *again;               /* list of those with more to do */
    bool queued;
    enum client_state state;
    int64_t since_ms;  /* when the state began */
    int64_t active_ms; /* last byte either way */
    int64_t took_ms;   /* the client last took or gave something */
    struct in6_addr peer;
    bool trusted;              /* a proxy of this machine, who knows the visitor */
    struct visitor *connected; /* the peer, counted; NULL: not counted */
    bool eof;                  /* it has sent its last byte */

    /* As it came from the client, as it goes to the app; as it came from the app, as it goes to
     * the client. */
    struct buffer in, up, back, down;

    /* the exchange */
    uint64_t number;         /* never used twice */
    struct visitor *visitor; /* NULL: not counted */
    struct route route;
    struct box *box; /* NULL: no exchange */
    struct upstream *up_to;
    struct body request, response;
    enum wants wants;
    enum right right;
    struct sandbox_id share; /* RIGHT_SHARE */
    bool is_head, old, keep, idempotent, navigation, prefetch;
    bool upgrade;      /* was asked for */
    bool expects;      /* it waits for 100 before it sends its body */
    bool upgraded;     /* bytes both ways from here on */
    bool begun;        /* the client has got some of the answer */
    bool answered;     /* the final head was passed on */
    bool app_ended;    /* the app has sent its last byte */
    bool app_broken;   /* by a reset */
    bool app_deaf;     /* it takes no more of the request */
    bool refused;      /* nobody took the last connection */
    bool done_sending; /* our side towards the client was shut down */
    bool app_keeps;    /* its connection may be used again */
    bool endless;      /* an event stream: does not end by itself */
    bool connecting;   /* a job of its own is under way */
    bool tls;          /* between visitor and proxy */
    unsigned interims; /* 1xx answers so far */
    unsigned attempts; /* connections that failed, before or after something was sent */
    int64_t asked_ms, hold_until_ms, retry_at_ms;
    int64_t port_asked_ms;     /* of those who could know its ports; the agent was there */
    int64_t gave_ms;           /* the client last gave something */
    int64_t head_began_ms;     /* of the app's answer; 0: nothing of it has come */
    char *location;            /* where an exchanged share link leads */
    char code[SHARE_CODE_MAX]; /* share link to be exchanged; empty: none */
    uint64_t lingered;

    /* what became of it (account.c) */
    bool counting; /* it has begun and was not counted yet */
    int status;    /* of the app's answer; 0: none yet */
    int64_t began_ms, held_ms;
    const char *held_in; /* the last phase in which it was held */
    uint64_t bytes_in, bytes_out;
    struct account *account; /* for the log; NULL: none is wished for */
};

#define BOXES 1024 /* buckets; a power of two */
struct edge {
    struct core *core;
    struct traffic *traffic;
    const struct config *config;
    int epoll;
    struct sock listener, event;
    bool listening_paused; /* out of descriptors: until the next tick */
    unsigned long thread;
    struct pool *pool;
    struct mu lock;
    struct job *done GUARDED_BY(lock); /* by the pool, for the loop */
    bool stopping GUARDED_BY(lock);
    int64_t stop_deadline_ms GUARDED_BY(lock);

    int64_t now_ms;
    uint64_t exchanges; /* so far: their numbers */
    struct client *clients;
    uint32_t n_clients, clients_max;
    uint32_t n_entered, n_idle; /* requests in boxes, unused connections to apps */
    uint64_t files_max;         /* descriptors that all of those may take */
    struct client *again;
    struct client *dead_clients;
    struct upstream *dead_upstreams;
    struct box *boxes[BOXES];
    uint32_t n_boxes;
    struct visitors visitors;
    int64_t ticked_ms, reviewed_ms;
    bool leaving;       /* asked to stop: a connection gets one answer more */
    bool ending;        /* it does not listen any more */
    uint64_t before;    /* exchanges that had begun when it was asked */
    int64_t leaving_ms; /* when that was */
    int64_t last_ms;    /* held requests, and connections without one, end then */
    int64_t end_ms;     /* what is still open is cut */
    int64_t refused_log_ms;
    int64_t log_second_ms;
    uint64_t log_lines; /* in that second, written or not */
};

/* edge.c: a pool thread gives its finished job to the loop. */
void edge_post(struct edge *e, struct job *j);
/* edge.c: is there a descriptor for one more connection, theirs or to an app? */
bool edge_has_room(const struct edge *e);
/* edge.c: pump it once more in this round. */
void edge_again(struct client *c);

/* box.c */
struct box *box_of(struct edge *e, const struct sandbox_id *id);
/* The exchange is in, or leaves. */
void box_enter(struct box *b, struct client *c);
void box_leave(struct client *c);
/* Looks for a way to the app, now: attaches an upstream, begins what must be waited for, or
 * answers. */
void box_seek(struct client *c);
/* Looks again at all that are held. */
void box_seek_all(struct box *b);
/* Compares with the row: ends exchanges whose sandbox stopped or whose right is gone. */
void box_review(struct edge *e, struct box *b);
void box_job_done(struct edge *e, struct job *j);
/* Frees those nobody is interested in. */
void box_sweep(struct edge *e);
void box_free_all(struct edge *e);
/* Starts a wake, unless one is under way. */
void box_wake(struct edge *e, struct box *b);
/* After a connect: was that the sandbox's own port, in this epoch? */
bool box_pinned(struct edge *e, const struct box *b, uint16_t port, uint32_t epoch);
/* "waiting", ..., "ready", for people who wait for a port. */
const char *box_phase(struct edge *e, const struct sandbox *row, uint16_t port);

/* upstream.c */
struct upstream *upstream_new(struct box *b, struct client *c, int fd, bool connecting);
struct upstream *upstream_idle(struct edge *e, struct box *b, uint16_t port);
void upstream_close(struct edge *e, struct upstream *u);
void upstream_never_linger(int fd);
/* The exchange is over: keep the connection for the next. */
void upstream_keep(struct edge *e, struct upstream *u);
void upstream_drop_idle(struct edge *e, struct box *b);

/* client.c */
void client_new(struct edge *e, int fd, const struct sockaddr_storage *from);
void client_close(struct client *c);
/* The exchange is over and all of it was sent: the next request, or the end. */
void client_next(struct client *c);
void client_set(struct client *c, enum client_state state);
/* What an answer says of the connection; NULL: what its version means anyway. */
const char *client_connection(const struct client *c);
/* Reads the next head, if it is there, and begins an exchange. false: nothing changed. */
bool client_take(struct client *c);
void client_tick(struct client *c);
bool client_is_starting(const struct client *c);

/* exchange.c */
/* Moves whatever can be moved. */
void exchange_pump(struct client *c);
/* The upstream's connect has come to an end. */
void exchange_connected(struct client *c);
/* The connection to the app failed before it answered: try again, or say so. */
void exchange_lost(struct client *c, const char *how);
/* Ends an exchange whose answer has begun: all the client can see is a broken connection. */
void exchange_cut(struct client *c);
/* Lets go of upstream, box and visitor; keeps the client. */
void exchange_end(struct client *c);

/* access.c: may this request see a private preview? Sets right (and strips what shows it). true:
 * go on; false: it was answered. */
bool access_check(struct client *c, const struct sandbox *row, const struct head *h,
                  struct visit *v);
/* The share link was exchanged for a cookie; NULL: it is not good any more. */
void access_redeemed(struct client *c, const char *cookie, int64_t until_ms);
/* Exchanges c->code; the client is held meanwhile. */
void access_redeem(struct client *c);
/* Is the right that let it in still good? */
bool access_still(struct client *c, const struct sandbox *row);

/* account.c */
/* A request has come; h: NULL when it cannot be read. */
void account_begin(struct client *c, const struct head *h);
/* It ends with our own answer of so many bytes. */
void account_answer(struct client *c, int status, const char *code, size_t size);
/* It ends without one; nothing happens when it was counted. */
void account_over(struct client *c);
void account_upgraded(struct client *c);
/* Its state is about to change: will it be held? */
void account_held(struct client *c, bool now);
/* That came from the client, that went to it. */
void account_bytes(struct client *c, size_t in, size_t out);

/* answer.c: our own answers. */
struct answer {
    int status;
    const char *code;     /* for programs */
    const char *title;    /* one line for people; static text */
    const char *text;     /* the cause; may hold anything, is escaped */
    int retry_s;          /* Retry-After; 0: none */
    const char *reason;   /* X-Retry-After-Reason; NULL: none */
    const char *location; /* of a redirect; NULL: none */
    const char *cookie;   /* Set-Cookie; NULL: none */
    bool close;
};
void answer(struct client *c, const struct answer *a);
extern const struct answer answer_no_preview;
void answer_err(struct client *c, const struct err *err);
void answer_wake_page(struct client *c);
void answer_phase(struct client *c, const struct sandbox *row);
/* Written without an exchange, as a connection is refused. */
extern const char answer_busy[];

#endif
