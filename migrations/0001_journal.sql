-- The journal of one migration, format 1.
--
-- `entry` is the truth and only grows. Everything below it is a cache that replaying the entries
-- from the first to the last builds again, exactly.

CREATE TABLE setup (
    id         INTEGER PRIMARY KEY CHECK (id = 1),
    name       TEXT NOT NULL,
    created_at INTEGER NOT NULL,            -- Unix milliseconds
    pins       TEXT NOT NULL                -- JSON object: what this migration is bound to
) STRICT;

-- Who writes just now. Advisory: the lock file decides, this row names the holder.
CREATE TABLE owner (
    id    INTEGER PRIMARY KEY CHECK (id = 1),
    host  TEXT NOT NULL,
    pid   INTEGER NOT NULL,
    since INTEGER NOT NULL
) STRICT;

CREATE TABLE entry (
    seq        INTEGER PRIMARY KEY,
    unit       INTEGER,                     -- NULL: about the migration as a whole
    at         INTEGER NOT NULL,            -- Unix milliseconds
    event      TEXT NOT NULL,
    from_stage INTEGER,                     -- NULL before the export
    to_stage   INTEGER,
    attempt    INTEGER NOT NULL,
    detail     TEXT                         -- JSON object, or NULL
) STRICT;

CREATE INDEX entry_unit ON entry (unit, seq) WHERE unit IS NOT NULL;

CREATE TRIGGER entry_is_append_only_update BEFORE UPDATE ON entry
BEGIN SELECT raise(ABORT, 'the log is append-only'); END;
CREATE TRIGGER entry_is_append_only_delete BEFORE DELETE ON entry
BEGIN SELECT raise(ABORT, 'the log is append-only'); END;

-- The cache.

CREATE TABLE unit (
    id           INTEGER PRIMARY KEY,
    kind         TEXT NOT NULL,
    scope        TEXT NOT NULL,
    source_key   TEXT NOT NULL,
    target_key   TEXT,
    origin       TEXT,
    label        TEXT,
    stage        INTEGER NOT NULL,
    condition    TEXT NOT NULL,
    attempts     INTEGER NOT NULL,
    failure      TEXT,                      -- JSON: code, message, hint
    exported_seq INTEGER NOT NULL,          -- the entry that holds its data
    intent_seq   INTEGER,                   -- its latest intent at this stage
    done_seq     INTEGER,                   -- its latest effect
    UNIQUE (kind, source_key)
) STRICT;

CREATE UNIQUE INDEX unit_target ON unit (kind, target_key) WHERE target_key IS NOT NULL;
CREATE INDEX unit_ready ON unit (kind, stage, id) WHERE condition = 'ready';
CREATE INDEX unit_halted ON unit (kind, condition, id) WHERE condition <> 'ready';
CREATE INDEX unit_scope ON unit (kind, scope, stage) WHERE scope <> '';

CREATE TABLE alias (
    kind  TEXT NOT NULL,
    alias TEXT NOT NULL,
    unit  INTEGER NOT NULL,
    PRIMARY KEY (kind, alias, unit)
) STRICT, WITHOUT ROWID;

-- What held units wait for.
CREATE TABLE wait (
    unit    INTEGER NOT NULL,
    code    TEXT NOT NULL,
    kind    TEXT NOT NULL,
    key     TEXT,
    scope   TEXT,
    stage   INTEGER NOT NULL,
    parts   INTEGER NOT NULL,
    example TEXT,
    since   INTEGER NOT NULL                -- the entry that wrote it
) STRICT;
CREATE INDEX wait_unit ON wait (unit);

-- Units that cannot complete while another is held or failed.
CREATE TABLE block (
    unit INTEGER NOT NULL,
    kind TEXT NOT NULL,
    key  TEXT NOT NULL,
    PRIMARY KEY (unit, kind, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX block_key ON block (kind, key);

-- How far each source has been read.
CREATE TABLE checkpoint (
    kind   TEXT PRIMARY KEY,
    cursor TEXT NOT NULL,
    done   INTEGER NOT NULL,
    total  INTEGER,
    pages  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
