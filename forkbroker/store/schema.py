"""The database of the SQLite backend: its tables, and the way from each version of them to the next.

`PRAGMA user_version` is the version, the number of steps that were taken. A new database takes all of them, an older
one those that it lacks; each step and its number are one transaction, so a death in between leaves a whole version.

Version 3 gives the tables CHECK constraints (`forkbroker.store.table` has the same rules), and version 4 a column with
one. SQLite can't add those to a table that exists, and to copy it would take twice the disk. So the text of the tables
is replaced in `sqlite_schema`, as https://sqlite.org/lang_altertable.html describes for changes that leave the rows as
they are. Rows that break a rule stay. The constraints are for people with a tool: the broker's own connection skips
them (`forkbroker.store.database`), as they take a quarter of the time of a write, and what it writes has been checked.

To change the tables: add a step, never change one; say so in CHANGELOG.md and docs/administration.md. A broker refuses
a database of a later version than it knows.
"""

from __future__ import annotations

import sqlite3

from forkbroker.wire.details import MAX_REJECT_REASON

MAX_SERIAL = 1 << 62
"""The highest serial that a message may have: SQLite's integers, and all that is added to a serial, go further."""
MAX_TEXT = 65_535
"""Bytes in a name, a cron line or a dedup-id at most: envelopes have 16 bits for such lengths."""
MAX_INTEGER = (1 << 63) - 1
"""The highest integer of SQLite."""

_READABLE = """\
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

_MESSAGES = f"""
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

{_READABLE}"""

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

_CHECKED_META = """\
CREATE TABLE meta (
    name TEXT PRIMARY KEY,
    value INTEGER NOT NULL,
    CHECK (typeof(value) = 'integer' AND value >= 0)
) WITHOUT ROWID"""

_CHECKED_MESSAGES = f"""\
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
    octets INTEGER GENERATED ALWAYS AS (length(body)) VIRTUAL,
    checksum INTEGER,
    CONSTRAINT serial CHECK (serial BETWEEN 1 AND {MAX_SERIAL}),
    CONSTRAINT queue CHECK (typeof(queue) = 'text' AND length(CAST(queue AS BLOB)) <= {MAX_TEXT}
        AND (queue GLOB '/queue/?*' OR queue GLOB '/dsub/?*' OR queue GLOB '/reply-queue/?*')),
    CONSTRAINT priority CHECK (typeof(priority) = 'integer' AND priority BETWEEN 0 AND 9),
    CONSTRAINT deliveries CHECK (typeof(deliveries) = 'integer' AND deliveries BETWEEN 0 AND 65535),
    CONSTRAINT crashes CHECK (crashes IS NULL OR typeof(crashes) = 'integer' AND crashes BETWEEN 0 AND 65535),
    CONSTRAINT expires CHECK (expires IS NULL OR typeof(expires) = 'integer' AND expires >= 0),
    CONSTRAINT due CHECK (due IS NULL OR typeof(due) = 'integer' AND due > 0),
    CONSTRAINT period CHECK (period IS NULL OR typeof(period) = 'integer' AND period >= 0),
    CONSTRAINT repeat CHECK (repeat IS NULL OR typeof(repeat) = 'integer' AND repeat BETWEEN -1 AND 2147483647),
    CONSTRAINT cron CHECK (cron IS NULL OR typeof(cron) = 'text' AND length(CAST(cron AS BLOB)) <= {MAX_TEXT}),
    CONSTRAINT reason CHECK (reason IS NULL OR reason IN ('rejected', 'deliveries', 'expired', 'limit', 'poison')),
    CONSTRAINT origin CHECK (origin IS NULL OR typeof(origin) = 'text' AND length(CAST(origin AS BLOB)) <= {MAX_TEXT}),
    CONSTRAINT message_id CHECK (typeof(message_id) = 'text' AND (message_id = ''
        OR message_id GLOB '[0-9]*-?*' AND message_id NOT GLOB '*[^-0-9A-Za-z._]*')),
    CONSTRAINT headers CHECK (typeof(headers) = 'text' AND instr(char(10) || headers, char(10, 10)) = 0
        AND instr(CAST(headers AS BLOB), x'00') = 0),
    CONSTRAINT body CHECK (typeof(body) IN ('blob', 'text')),
    CONSTRAINT checksum CHECK (checksum IS NULL OR typeof(checksum) = 'integer' AND checksum BETWEEN 0 AND 4294967295)
)"""

_CHECKED_DURABLES = f"""\
CREATE TABLE durables (
    queue TEXT PRIMARY KEY,
    topic TEXT NOT NULL,
    used INTEGER NOT NULL,
    CHECK (queue GLOB '/dsub/?*' AND length(CAST(queue AS BLOB)) <= {MAX_TEXT}),
    CHECK (topic GLOB '/topic/?*' AND length(CAST(topic AS BLOB)) <= {MAX_TEXT}),
    CHECK (typeof(used) = 'integer' AND used >= 0)
) WITHOUT ROWID"""

_CHECKED_DUPLICATES = f"""\
CREATE TABLE duplicates (
    queue TEXT NOT NULL,
    dedup_id TEXT NOT NULL,
    until INTEGER NOT NULL,
    PRIMARY KEY (queue, dedup_id),
    CHECK (typeof(queue) = 'text' AND length(CAST(queue AS BLOB)) BETWEEN 1 AND {MAX_TEXT}),
    CHECK (typeof(dedup_id) = 'text' AND length(CAST(dedup_id AS BLOB)) BETWEEN 1 AND {MAX_TEXT}),
    CHECK (typeof(until) = 'integer' AND until >= 0)
) WITHOUT ROWID"""


def _replace_text(table: str, text: str) -> str:
    quoted = text.replace("'", "''")
    return f"UPDATE sqlite_schema SET sql = '{quoted}' WHERE type = 'table' AND name = '{table}';\n"


_CHECKS = f"""
ALTER TABLE messages ADD COLUMN checksum INTEGER;

PRAGMA writable_schema = ON;
{_replace_text("meta", _CHECKED_META)}
{_replace_text("messages", _CHECKED_MESSAGES)}
{_replace_text("durables", _CHECKED_DURABLES)}
{_replace_text("duplicates", _CHECKED_DUPLICATES)}
PRAGMA writable_schema = OFF;

-- whoever mends a message by hand need not know of its checksum. To make the trigger tells all connections, too, that
-- the schema is another one
CREATE TRIGGER messages_mended AFTER UPDATE OF headers, body ON messages
    WHEN new.checksum IS NOT NULL AND new.checksum IS old.checksum
BEGIN
    UPDATE messages SET checksum = NULL WHERE serial = new.serial;
END;
"""

_EXPLAINED_MESSAGES = _CHECKED_MESSAGES.replace(
    """    checksum INTEGER,
""",
    """    checksum INTEGER,
    reject_reason TEXT,
""",
).replace(
    "    CONSTRAINT message_id ",
    f"""\
    CONSTRAINT reject_reason CHECK (reject_reason IS NULL OR typeof(reject_reason) = 'text'
        AND length(CAST(reject_reason AS BLOB)) <= {MAX_REJECT_REASON}
        AND instr(CAST(reject_reason AS BLOB), x'00') = 0),
    CONSTRAINT message_id """,
)

_EXPLAINED_READABLE = _READABLE.replace("    reason,", "    reason,\n    reject_reason,")

_REASONS = f"""
ALTER TABLE messages ADD COLUMN reject_reason TEXT;

PRAGMA writable_schema = ON;
{_replace_text("messages", _EXPLAINED_MESSAGES)}
PRAGMA writable_schema = OFF;

-- to make it anew tells all connections, too, that the schema is another one
DROP VIEW readable;
{_EXPLAINED_READABLE}"""

_NOTES = f"""
CREATE TABLE notes (
    queue TEXT NOT NULL,
    matter TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (queue, matter),
    CHECK (typeof(queue) = 'text' AND length(CAST(queue AS BLOB)) <= {MAX_TEXT}
        AND (queue GLOB '/queue/?*' OR queue GLOB '/dsub/?*' OR queue GLOB '/reply-queue/?*')),
    CHECK (matter IN ('held', 'owner')),
    CHECK (typeof(value) = 'text' AND length(CAST(value AS BLOB)) <= {MAX_TEXT}),
    CHECK (matter <> 'held' OR length(value) BETWEEN 1 AND 18 AND value NOT GLOB '*[^0-9]*')
) WITHOUT ROWID;
"""

STEPS = (_MESSAGES, _SUBSCRIPTIONS, _CHECKS, _REASONS, _NOTES)
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
    try:
        for version in range(before, VERSION):
            step = f"{STEPS[version]}\nPRAGMA user_version = {version + 1};"
            connection.executescript(f"BEGIN IMMEDIATE;\n{step}\nCOMMIT;")
    finally:
        # switched off, and the schema as it is in the file now
        connection.execute("PRAGMA writable_schema = RESET")
    return before, VERSION
