-- Share links of private previews. A link ends with its sandbox.

CREATE TABLE share (
    id            TEXT PRIMARY KEY CHECK (length(id) = 26),
    sandbox       TEXT NOT NULL REFERENCES sandbox (id) ON DELETE CASCADE,
    node          TEXT NOT NULL,
    tenant        TEXT NOT NULL,
    once          INTEGER NOT NULL CHECK (once IN (0, 1)),
    used          INTEGER NOT NULL DEFAULT 0 CHECK (used IN (0, 1)),
    created_at_ms INTEGER NOT NULL,
    expires_at_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX share_sandbox ON share (sandbox);
