-- The first schema. Times are wall-clock milliseconds; 0 is "never". Words in capitals are names of
-- this schema, not of the wire: an API may rename its words without touching stored rows. They are
-- checked where they are read, as is JSON, not by CHECK: a new state must not mean a rebuilt table.

CREATE TABLE migration (
    number        INTEGER PRIMARY KEY,
    name          TEXT NOT NULL,
    applied_at_ms INTEGER NOT NULL
) STRICT;

-- Facts about this installation: instance, its random id.
CREATE TABLE meta (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT;
INSERT INTO meta (name, value) VALUES ('instance', lower(hex(randomblob(8))));

-- What an id owns on disk. Outlives the sandbox: deleting the row keeps the files, making the id
-- again finds them, and only the owner may.
CREATE TABLE workspace (
    id            TEXT PRIMARY KEY CHECK (length(id) = 26),
    node          TEXT NOT NULL,
    tenant        TEXT NOT NULL,
    external_user TEXT,
    dev           INTEGER NOT NULL DEFAULT 0,
    ino           INTEGER NOT NULL DEFAULT 0,
    purging       INTEGER NOT NULL DEFAULT 0 CHECK (purging IN (0, 1)),
    made_at_ms    INTEGER NOT NULL
) STRICT;
CREATE INDEX workspace_purging ON workspace (id) WHERE purging = 1;

CREATE TABLE sandbox (
    id                 TEXT PRIMARY KEY REFERENCES workspace (id),
    node               TEXT NOT NULL,
    tenant             TEXT NOT NULL,
    state              TEXT NOT NULL,
    purge              INTEGER NOT NULL CHECK (purge IN (0, 1)),
    image              TEXT NOT NULL,
    image_digest       TEXT,
    container_id       TEXT,
    epoch              INTEGER NOT NULL CHECK (epoch BETWEEN 0 AND 4294967295),
    secret             BLOB NOT NULL CHECK (length(secret) = 32),
    memory_mib         INTEGER NOT NULL,
    cpu_milli          INTEGER NOT NULL,
    pids               INTEGER NOT NULL,
    disk_mib           INTEGER NOT NULL,
    nofile             INTEGER NOT NULL,
    memory_high        TEXT,
    visibility         TEXT NOT NULL,
    idle_policy        TEXT NOT NULL,
    ports              TEXT NOT NULL,
    env                TEXT NOT NULL,
    metadata           TEXT NOT NULL,
    external_user      TEXT,
    external_project   TEXT,
    external_workspace TEXT,
    error_message      TEXT,
    created_at_ms      INTEGER NOT NULL,
    updated_at_ms      INTEGER NOT NULL,
    last_active_at_ms  INTEGER NOT NULL,
    stopped_at_ms      INTEGER NOT NULL,
    keepalive_until_ms INTEGER NOT NULL,
    idle_timeout_ms    INTEGER NOT NULL,
    stop_timeout_ms    INTEGER NOT NULL,
    ttl_s              INTEGER NOT NULL,
    services           TEXT
) STRICT;
-- Serves the tenant's count and "one sandbox a project".
CREATE INDEX sandbox_tenant ON sandbox (tenant, external_project);

-- A key of a request, tied to a hash of it; status 0 while it is under way.
CREATE TABLE idempotency (
    tenant    TEXT NOT NULL,
    key       TEXT NOT NULL,
    node      TEXT NOT NULL,
    hash      BLOB NOT NULL CHECK (length(hash) = 32),
    sandbox   TEXT NOT NULL,
    status    INTEGER NOT NULL DEFAULT 0,
    body      TEXT,
    at_ms     INTEGER NOT NULL,
    PRIMARY KEY (tenant, key)
) STRICT;
CREATE INDEX idempotency_at ON idempotency (at_ms);

-- Who did what; one row in the transaction of the act. Append-only.
CREATE TABLE audit (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    at_ms  INTEGER NOT NULL,
    node   TEXT NOT NULL,
    tenant TEXT NOT NULL,
    actor  TEXT NOT NULL,
    action TEXT NOT NULL,
    target TEXT NOT NULL,
    detail TEXT NOT NULL
) STRICT;
CREATE TRIGGER audit_no_update BEFORE UPDATE ON audit
BEGIN
    SELECT raise(ABORT, 'audit is append-only');
END;
CREATE TRIGGER audit_no_delete BEFORE DELETE ON audit
BEGIN
    SELECT raise(ABORT, 'audit is append-only');
END;

-- Processes that outlive their clients. Output lies in files beside the database.
CREATE TABLE process (
    id            TEXT PRIMARY KEY CHECK (length(id) = 26),
    sandbox       TEXT NOT NULL,
    node          TEXT NOT NULL,
    tenant        TEXT NOT NULL,
    epoch         INTEGER NOT NULL,
    number        INTEGER NOT NULL,
    state         TEXT NOT NULL,
    argv          TEXT NOT NULL,
    cwd           TEXT,
    service       TEXT,
    pty           INTEGER NOT NULL CHECK (pty IN (0, 1)),
    exit_code     INTEGER NOT NULL DEFAULT 0,
    signal        INTEGER NOT NULL DEFAULT 0,
    timed_out     INTEGER NOT NULL DEFAULT 0 CHECK (timed_out IN (0, 1)),
    bytes         INTEGER NOT NULL DEFAULT 0,
    started_at_ms INTEGER NOT NULL,
    ended_at_ms   INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX process_sandbox ON process (sandbox, id);
