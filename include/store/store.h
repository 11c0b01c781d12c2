/* State on disk: SQLite in WAL mode, the truth.
 *
 * One writer thread owns the only writing connection; what comes in together is committed together,
 * each request in a SAVEPOINT of its own inside one transaction, synchronous=FULL. A call returns 0
 * only after its commit is on disk. Readers are READONLY connections. Nothing but the writer ever
 * writes or checkpoints: that keeps the WAL-reset bug of SQLite 3.7.0-3.51.2 out of reach.
 * Threads: any. Statements live in sql/queries.sql; all are prepared at open. */
#ifndef STORE_STORE_H
#define STORE_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "model/sandbox.h"

struct store;

/* Opens or makes <data_dir>/state/sandboxd.db and migrates it (a copy is kept before a migration of
 * existing data). ERR_CONFLICT: another daemon has this directory; ERR_NOT_SUPPORTED: the schema is
 * newer than this binary (nothing was touched); ERR_INTERNAL: damaged or unreadable. */
int store_open(const char *data_dir, struct store **ret, struct err *err);
/* Commits what is queued, closes, frees. NULL is fine. */
void store_close(struct store *s);
/* Can a reader read and is the writer alive? */
int store_ping(struct store *s, struct err *err);
/* Random id of this installation, made with the database: 16 hex digits. Borrowed. */
const char *store_instance(const struct store *s);
/* The same without opening the store, for commands beside a running daemon: one read.
 * ERR_NOT_FOUND: no database yet. */
int store_peek_instance(const char *data_dir, char ret[17], struct err *err);
/* "3.40.1" and whether that library has the WAL-reset bug (T-82). */
const char *store_sqlite_version(bool *ret_affected);

/* --- sandboxes: each call is one durable transaction --- */

struct store_create {
    const struct sandbox *row; /* state CREATING */
    uint32_t tenant_max;       /* ERR_QUOTA when the tenant has this many already */
    const char *idem_key;      /* NULL: none */
    const uint8_t *idem_hash;  /* 32 bytes of the request */
    const char *actor;         /* for the audit row */
    /* One sandbox a project: when the tenant has one of row->external_project that is neither ERROR
     * nor DELETING, nothing is inserted, *ret_existing is its id and the call returns 0. NULL: not
     * asked. */
    struct sandbox_id *ret_existing;
};
/* Inserts row, workspace record (kept from an earlier life of the id, or new) and idempotency
 * record. ret_existing is emptied when a row was inserted.
 * ERR_CONFLICT: the id is in use, or its workspace belongs to another tenant (in the same words),
 * is being purged, or belongs to another external user ("workspace_owner_mismatch").
 * ERR_IN_PROGRESS: another request with the key came in between; ERR_IDEMPOTENCY: with another
 * hash. */
int store_create(struct store *s, const struct store_create *c, struct err *err);

/* What a change of state writes besides the state; NULL or 0 members leave the column alone, an
 * empty text clears it. By itself each move sets updated_at to now_ms; to STOPPED sets stopped_at
 * to now_ms; to RUNNING clears stopped_at and raises last_active_at to now_ms. */
struct store_move {
    const char *container_id;
    const char *image_digest;
    const char *error_message;
    bool new_epoch; /* epoch + 1 and a new secret */
    uint8_t secret[32];
    uint32_t nofile;
    bool purge;        /* with DELETING */
    uint32_t if_epoch; /* not 0: only while the row has this epoch */
    const char *actor; /* audit row when not NULL */
    const char *action;
};
/* Compare and set; m may be NULL. ERR_CONFLICT: the row was not in `from` (or is gone). */
int store_move(struct store *s, const struct sandbox_id *id, enum sandbox_state from,
               enum sandbox_state to, int64_t now_ms, const struct store_move *m, struct err *err);
/* Changes of facts that are no change of state; updated_at stays. ERR_NOT_FOUND: no such row. */
int store_set_keepalive(struct store *s, const struct sandbox_id *id, int64_t until_ms,
                        struct err *err);
int store_set_services(struct store *s, const struct sandbox_id *id, const char *json,
                       struct err *err);
struct store_activity {
    struct sandbox_id id;
    int64_t at_ms;
};
int store_touch(struct store *s, const struct store_activity *rows, size_t count, struct err *err);
/* Ends DELETING: the row goes; with purge the workspace record goes too. Gone already: 0.
 * ERR_CONFLICT: the row is in another state. */
int store_remove(struct store *s, const struct sandbox_id *id, bool purge, struct err *err);

/* All rows, oldest first; caller frees each and the array. */
int store_load(struct store *s, struct sandbox ***ret, size_t *ret_count, struct err *err);

/* --- workspaces outlive rows --- */
struct store_workspace {
    struct sandbox_id id;
    char *tenant;
    char *external_user; /* optional */
    uint64_t dev, ino;   /* of its root directory once made; 0 before (T-10) */
    bool purging;        /* a purge was begun */
};
void store_workspace_release(struct store_workspace *w);
int store_workspace_get(struct store *s, const struct sandbox_id *id, struct store_workspace *ret,
                        struct err *err); /* ERR_NOT_FOUND */
int store_workspace_made(struct store *s, const struct sandbox_id *id, uint64_t dev, uint64_t ino,
                         struct err *err);
/* ERR_NOT_FOUND also when a sandbox row stands on it. */
int store_workspace_purging(struct store *s, const struct sandbox_id *id, struct err *err);
/* The record goes; gone already: 0. ERR_CONFLICT: a sandbox row still stands on it. */
int store_workspace_gone(struct store *s, const struct sandbox_id *id, struct err *err);
/* Those with purging set, for the reconciler. Caller releases each and frees the array. */
int store_workspaces_purging(struct store *s, struct store_workspace **ret, size_t *ret_count,
                             struct err *err);

/* --- processes --- */
struct store_process {
    struct sandbox_id id, sandbox;
    const char *node, *tenant; /* written only */
    uint32_t epoch;
    uint64_t number;            /* below 2^63 */
    char *state;                /* a word of core's */
    char *argv, *cwd, *service; /* cwd, service: optional */
    bool pty, tied;
    int exit_code;
    uint32_t signal;
    bool timed_out;
    uint64_t bytes;
    int64_t started_at_ms, ended_at_ms; /* ended 0: not yet */
};
void store_process_release(struct store_process *p);
int store_process_add(struct store *s, const struct store_process *p, struct err *err);
/* Writes how it ended, once; ended already or gone is success too. */
int store_process_end(struct store *s, const struct store_process *p, struct err *err);
int store_process_remove(struct store *s, const struct sandbox_id *id, struct err *err);
int store_process_remove_all(struct store *s, const struct sandbox_id *sandbox, struct err *err);
/* All, oldest first; caller releases each and frees the array. */
int store_process_load(struct store *s, struct store_process **ret, size_t *ret_count,
                       struct err *err);

/* --- the audit --- */
struct store_audit {
    const char *node, *tenant, *actor, *action;
    struct sandbox_id sandbox, process;
    const char *remote, *why; /* why: optional */
};
int store_audit_process(struct store *s, const struct store_audit *a, struct err *err);

/* --- idempotency (P-2): per tenant, kept until store_idem_expire --- */
struct store_idem {
    uint8_t hash[32];
    struct sandbox_id sandbox;
    int status; /* 0: still under way */
    char *body; /* stored reply; NULL while under way */
};
int store_idem_get(struct store *s, const char *tenant, const char *key, struct store_idem *ret,
                   struct err *err); /* ERR_NOT_FOUND */
int store_idem_done(struct store *s, const char *tenant, const char *key, int status,
                    const char *body, struct err *err);
/* Forgets a failed one, so that a retry acts anew. Success, too, when the key stands for another
 * sandbox by now, or its reply is stored: it stays. */
int store_idem_drop(struct store *s, const char *tenant, const char *key,
                    const struct sandbox_id *sandbox, struct err *err);
int store_idem_expire(struct store *s, int64_t before_ms, struct err *err);

#endif
