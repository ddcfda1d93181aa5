-- Times are nanoseconds since the epoch. Words are those of record.rs.

CREATE TABLE job (
    id          TEXT PRIMARY KEY,
    kind        TEXT NOT NULL,
    subject     TEXT NOT NULL,
    cause       TEXT NOT NULL,
    queued      INTEGER NOT NULL,
    started     INTEGER,
    finished    INTEGER,
    phase       TEXT NOT NULL,
    outcome     TEXT,
    error       TEXT NOT NULL,
    bytes_done  INTEGER NOT NULL,
    bytes_total INTEGER NOT NULL,
    files_done  INTEGER NOT NULL
) STRICT;
CREATE INDEX job_queued ON job (queued);
CREATE INDEX job_subject ON job (kind, subject, finished);
CREATE INDEX job_unfinished ON job (id) WHERE outcome IS NULL;

CREATE TABLE unit (
    job         TEXT NOT NULL REFERENCES job (id) ON DELETE CASCADE,
    position    INTEGER NOT NULL,
    instance    TEXT NOT NULL,
    repository  TEXT NOT NULL,
    phase       TEXT NOT NULL,
    outcome     TEXT,
    snapshot    TEXT NOT NULL,
    error       TEXT NOT NULL,
    bytes       INTEGER NOT NULL,
    bytes_added INTEGER NOT NULL,
    files       INTEGER NOT NULL,
    PRIMARY KEY (job, position)
) STRICT, WITHOUT ROWID;
CREATE INDEX unit_instance ON unit (instance);

-- Finished jobs ever, also those whose rows are gone.
CREATE TABLE tally (
    kind        TEXT NOT NULL,
    outcome     TEXT NOT NULL,
    jobs        INTEGER NOT NULL,
    PRIMARY KEY (kind, outcome)
) STRICT, WITHOUT ROWID;

-- "set" is a word of SQL.
CREATE TABLE committed_set (
    repository  TEXT NOT NULL,
    location    TEXT NOT NULL,
    snapshot    TEXT NOT NULL,
    job         TEXT NOT NULL,
    instance    TEXT NOT NULL,
    uuid        TEXT NOT NULL,
    backup      TEXT NOT NULL,
    host        TEXT NOT NULL,
    time        INTEGER NOT NULL,
    size        INTEGER NOT NULL,
    files       INTEGER NOT NULL,
    version     TEXT NOT NULL,
    outcome     TEXT,
    saved       INTEGER NOT NULL,
    PRIMARY KEY (repository, location, snapshot)
) STRICT, WITHOUT ROWID;
CREATE INDEX set_uuid ON committed_set (uuid, time);
CREATE INDEX set_instance ON committed_set (instance, time);

-- When a restic repository's own list was last taken over.
CREATE TABLE synced (
    repository  TEXT NOT NULL,
    location    TEXT NOT NULL,
    at          INTEGER NOT NULL,
    PRIMARY KEY (repository, location)
) STRICT, WITHOUT ROWID;

-- The last slot of a schedule for which it was decided whether it runs.
CREATE TABLE slot (
    key         TEXT PRIMARY KEY,
    decided     INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE meta (
    key         TEXT PRIMARY KEY,
    value       TEXT NOT NULL
) STRICT, WITHOUT ROWID;
