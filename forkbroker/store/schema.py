"""The database of the SQLite backend: its tables, and the way from each version of them to the next.

`PRAGMA user_version` is the version, the number of steps that were taken. A new database takes all of them, an older
one those that it lacks; each step and its number are one transaction, so a death in between leaves a whole version.

To change the tables: add a step, never change one; say so in CHANGELOG.md and docs/stores.md. A broker refuses a
database of a later version than it knows.
"""

from __future__ import annotations

import sqlite3

_MESSAGES = """
CREATE TABLE meta (
    name TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE messages (
    serial INTEGER PRIMARY KEY,
    queue TEXT NOT NULL,
    priority INTEGER NOT NULL DEFAULT 4,
    deliveries INTEGER NOT NULL DEFAULT 0,
    crashes INTEGER,
    expires INTEGER,
    due INTEGER,
    period INTEGER,
    repeat INTEGER,
    cron TEXT,
    reason TEXT,
    origin TEXT,
    message_id TEXT NOT NULL DEFAULT '',
    headers TEXT NOT NULL DEFAULT '',
    body BLOB NOT NULL,
    octets INTEGER GENERATED ALWAYS AS (length(body)) VIRTUAL
);

-- with octets the backlog is counted from the index alone
CREATE INDEX messages_in_queues ON messages (queue, priority, serial, octets) WHERE due IS NULL;
CREATE INDEX messages_in_schedule ON messages (serial) WHERE due IS NOT NULL;

CREATE VIEW readable AS SELECT
    serial,
    queue,
    priority,
    deliveries,
    datetime(expires / 1000, 'unixepoch', 'localtime') AS expires,
    datetime(due / 1000, 'unixepoch', 'localtime') AS due,
    reason,
    origin,
    message_id,
    headers,
    octets,
    CAST(body AS TEXT) AS body
FROM messages ORDER BY queue, priority DESC, serial;
"""

_SUBSCRIPTIONS = """
CREATE TABLE durables (
    queue TEXT PRIMARY KEY,
    topic TEXT NOT NULL,
    used INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE duplicates (
    queue TEXT NOT NULL,
    dedup_id TEXT NOT NULL,
    until INTEGER NOT NULL,
    PRIMARY KEY (queue, dedup_id)
) WITHOUT ROWID;

CREATE INDEX duplicates_by_time ON duplicates (until);
"""

STEPS = (_MESSAGES, _SUBSCRIPTIONS)
"""Each makes of one version the next; the first one makes version 1 of an empty file."""

VERSION = len(STEPS)


class TooNewError(Exception):
    """The database is of a later version than this broker knows. The argument is that version."""


def read_version(connection: sqlite3.Connection) -> int:
    """Of an open database; 0: it is empty."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return int(version)


def upgrade(connection: sqlite3.Connection) -> tuple[int, int]:
    """Take the steps that the database lacks; the versions before and after. The connection must be in autocommit mode.

    Raises:
        TooNewError: it has taken steps that are not known here.
        sqlite3.Error: a step can't be taken.
    """
    before = read_version(connection)
    if before > VERSION:
        raise TooNewError(before)
    for version in range(before, VERSION):
        connection.executescript(f"BEGIN IMMEDIATE;\n{STEPS[version]}\nPRAGMA user_version = {version + 1};\nCOMMIT;")
    return before, VERSION
