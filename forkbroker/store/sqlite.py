"""The backend that keeps messages in an SQLite database: `sqlite:///var/lib/forkbroker/queues.db`.

Beside the database, with its name in front, stand SQLite's own `-wal` and `-shm`, `-lock` (`forkbroker.store.lock`)
and `-overflow` (`forkbroker.store.overflow`). All are the broker's alone (0600).

A group of changes is one transaction in WAL mode with `synchronous=FULL`: one fdatasync. Others may read meanwhile.
Whatever SQLite raises becomes a `StoreError`: the process ends, and the next one starts from what was committed.

In `meta` stands whether the database was left in order; from its opening until it is closed it says no. Found so, the
database is checked: SQLite survives a crash by itself, but what crashed may have been the disk.
"""

from __future__ import annotations

import heapq
import logging
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, suppress
from functools import lru_cache
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from forkbroker.errors import ConfigurationError, Exit
from forkbroker.posix.crashpoints import reach as crash
from forkbroker.store.api import (
    MESSAGE_OVERHEAD,
    Backlog,
    Change,
    Chunk,
    Define,
    Delete,
    Forget,
    Message,
    Move,
    Opened,
    Purge,
    Remember,
    Store,
    StoreError,
    Update,
    weigh,
)
from forkbroker.store.database import connect, describe_damage, translating
from forkbroker.store.lock import Lock
from forkbroker.store.overflow import Overflow, describe_damaged_overflow
from forkbroker.store.repair import repair_database
from forkbroker.store.schema import VERSION, TooNewError, upgrade
from forkbroker.wire.details import DEFAULT_PRIORITY, DURABLY, Details, Reason

log = logging.getLogger(__name__)

_SCHEME = "sqlite://"
_SWEEP_S = 60.0
"""Between two removals of dedup-ids whose time is over."""

_DETAILS = "priority, crashes, expires, due, reason, origin, period, repeat, cron"
# with text, and without REPLACE, a message of 1 KiB is written in three quarters of the time
_INSERT_TEXT = "INSERT INTO messages (serial, queue, message_id, headers, body) VALUES (?, ?, ?, ?, ?)"
_INSERT_PLAIN = (
    "INSERT OR REPLACE INTO messages (serial, queue, message_id, headers, body) "
    "VALUES (?, CAST(? AS TEXT), CAST(? AS TEXT), CAST(? AS TEXT), ?)"
)
_INSERT = (
    f"INSERT OR REPLACE INTO messages (serial, queue, message_id, headers, body, deliveries, {_DETAILS}) "
    "VALUES (?, CAST(? AS TEXT), CAST(? AS TEXT), CAST(? AS TEXT), ?, ?, "
    "?, ?, ?, ?, ?, CAST(? AS TEXT), ?, ?, CAST(? AS TEXT))"
)
_DELETE = "DELETE FROM messages WHERE serial BETWEEN ? AND ?"
_UPDATE = "UPDATE messages SET deliveries = ?, crashes = ? WHERE serial BETWEEN ? AND ?"
_MOVE = (
    "UPDATE OR REPLACE messages SET serial = serial + ?, "
    "message_id = (serial + ?) || substr(message_id, instr(message_id, '-')), queue = CAST(? AS TEXT), deliveries = ?, "
    "priority = ?, crashes = ?, expires = ?, due = ?, reason = ?, origin = CAST(? AS TEXT), period = ?, repeat = ?, "
    "cron = CAST(? AS TEXT) WHERE serial BETWEEN ? AND ?"
)
_PURGE = "DELETE FROM messages WHERE queue = CAST(? AS TEXT) AND due IS NULL"
_DEFINE = "INSERT OR REPLACE INTO durables (queue, topic, used) VALUES (CAST(? AS TEXT), CAST(? AS TEXT), ?)"
_FORGET = "DELETE FROM durables WHERE queue = CAST(? AS TEXT)"
_REMEMBER = "INSERT OR REPLACE INTO duplicates (queue, dedup_id, until) VALUES (CAST(? AS TEXT), CAST(? AS TEXT), ?)"

_COLUMNS = (
    "serial, queue, message_id, headers, body, deliveries, priority, crashes, expires, due, reason, origin, period, "
    "repeat, cron"
)
_READ = (
    f"SELECT {_COLUMNS} FROM messages "
    "WHERE queue = CAST(? AS TEXT) AND priority = ? AND serial > ? AND due IS NULL ORDER BY serial"
)
_SCHEDULED = f"SELECT {_COLUMNS} FROM messages WHERE due IS NOT NULL ORDER BY serial"
_BACKLOG = (
    "SELECT queue, priority, count(*), sum(octets), max(serial) FROM messages WHERE due IS NULL "
    "GROUP BY queue, priority"
)
_PLAIN_ROW = itemgetter(0, 1, 2, 3, 4)
_text = lru_cache(maxsize=256)(bytes.decode)
"""Names and headers, which are the same for many messages."""
_PLAIN = (DEFAULT_PRIORITY, None, None, None, None, None, None, None, None)


class SqliteStore(Store):
    """See the module."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.path = _parse(url)
        self._lock: Lock | None = None
        self._connection: sqlite3.Connection
        self._overflow: Overflow
        self._overflow_path = Path(f"{self.path}-overflow")
        self._inode = 0
        self._replaces = False
        """Messages may be written that are there already."""
        self._sweep_at = 0.0

    # -- beginning and end

    def repair(self) -> str:
        """See `forkbroker.store.repair`."""
        with translating(self.path):
            self._lock_it()
            return repair_database(self.path)

    def open(self, *, is_fresh: bool) -> Opened:
        """Lock, upgrade, check."""
        with translating(self.path):
            self._lock_it()
            self._connection = connect(self.path)
            self._inode = self.path.stat().st_ino
            self._upgrade()
            opened = self._note_opening() if is_fresh else self._read_opening()
        with self._spilling():
            self._overflow = Overflow(self._overflow_path, is_fresh=is_fresh)
        return opened

    def _lock_it(self) -> None:
        if self._lock is None:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = Lock(Path(f"{self.path}-lock"), owner=os.getppid())

    def _upgrade(self) -> None:
        try:
            before, after = upgrade(self._connection)
        except TooNewError as error:
            raise StoreError(
                f"{self.path} has version {error} of the tables, made by a later broker; this one knows versions up "
                f"to {VERSION}",
                Exit.CONFIG,
            ) from None
        if 0 < before < after:
            log.info("store %s: version %d of the tables upgraded to %d", self.path, before, after)

    def _read_opening(self) -> Opened:
        meta = dict(self._connection.execute("SELECT name, value FROM meta"))
        before = meta.get(b"recovered_before", 0)
        (last,) = self._connection.execute("SELECT max(serial) FROM messages").fetchone()
        return Opened(max((last or 0) + 1, before), bool(meta.get(b"in_order", 1)), before)

    def _note_opening(self) -> Opened:
        opened = self._read_opening()
        before = opened.recovered_before
        if not opened.was_in_order:
            self._check()
            before = opened.serial
        execute = self._connection.execute
        execute("BEGIN IMMEDIATE")
        self._set_meta(in_order=0, recovered_before=before)
        execute("DELETE FROM duplicates WHERE until < ?", (_now_ms(),))
        execute("COMMIT")
        return Opened(opened.serial, opened.was_in_order, before)

    def _check(self) -> None:
        """Raises sqlite3.DatabaseError."""
        (found,) = self._connection.execute("PRAGMA quick_check(1)").fetchone()
        if found != b"ok":
            raise StoreError(describe_damage(self.path, found.decode("utf-8", "replace")), Exit.DATAERR)

    def _set_meta(self, **values: int) -> None:
        self._connection.executemany("INSERT OR REPLACE INTO meta (name, value) VALUES (?, ?)", values.items())

    def close(self, *, in_order: bool) -> None:
        """The log goes into the database: what is left is one file."""
        with translating(self.path):
            if in_order:
                self._set_meta(in_order=1)
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            self._connection.close()
        with self._spilling():
            self._overflow.close(in_order=in_order)
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def free(self) -> int:
        """Of the file system, for this user."""
        with translating(self.path):
            found = os.statvfs(self.path.parent)
        return found.f_bavail * found.f_frsize

    # -- what there is

    def backlog(self) -> Iterable[Backlog]:
        """From the index alone."""
        with translating(self.path):
            return [Backlog._make(row) for row in self._connection.execute(_BACKLOG)]

    def durables(self) -> Iterable[Define]:
        """All of them."""
        with translating(self.path):
            return [Define._make(row) for row in self._connection.execute("SELECT queue, topic, used FROM durables")]

    def duplicates(self) -> Iterator[Remember]:
        """Row by row."""
        with translating(self.path):
            yield from map(Remember._make, self._connection.execute("SELECT queue, dedup_id, until FROM duplicates"))

    def scheduled(self) -> Iterator[Message]:
        """Row by row."""
        with translating(self.path):
            yield from map(_to_message, self._connection.execute(_SCHEDULED))

    # -- changes

    def write(self, changes: Sequence[Change]) -> None:
        """Chunks first: when both have come, the group is COMMITTED."""
        with self._spilling():
            self._overflow.write(changes)
        with translating(self.path):
            try:
                self._apply(changes)
            except sqlite3.IntegrityError:
                # some of it was written before
                self._connection.execute("ROLLBACK")
                self._replaces = True
                self._apply(changes)
                self._replaces = False
            if crash is not None:
                crash("store.written", "")
            self._connection.execute("COMMIT")
            self._check_place()

    def _apply(self, changes: Sequence[Change]) -> None:
        self._connection.execute("BEGIN IMMEDIATE")
        for sort, group in groupby(changes, type):
            _APPLY[sort](self, group)

    def _check_place(self) -> None:
        """What is written to a file that somebody has removed ends with this process: nobody is to rely on it."""
        if self.path.stat().st_ino != self._inode:
            raise StoreError(f"{self.path}: another file has taken the place of the database", Exit.IOERR)

    def _insert(self, messages: Iterable[Message]) -> None:
        # messages of which nothing else is known are nearly all, and take half the time
        for is_plain, group in groupby(messages, _is_plain):
            if is_plain:
                self._insert_plain(list(group))
            else:
                self._connection.executemany(_INSERT, (message[:6] + _to_columns(message[6]) for message in group))

    def _insert_plain(self, messages: Sequence[Message]) -> None:
        rows: Iterable[tuple[Any, ...]] = map(_PLAIN_ROW, messages)
        statement = _INSERT_PLAIN
        if not self._replaces:
            with suppress(UnicodeDecodeError):
                rows = [
                    (serial, _text(queue), ident.decode(), _text(headers), body)
                    for serial, queue, ident, headers, body, _, _ in messages
                ]
                statement = _INSERT_TEXT
        self._connection.executemany(statement, rows)

    def _delete(self, changes: Iterable[Delete]) -> None:
        self._connection.executemany(_DELETE, changes)

    def _update(self, changes: Iterable[Update]) -> None:
        rows = ((deliveries, crashes or None, first, last) for first, last, deliveries, crashes in changes)
        self._connection.executemany(_UPDATE, rows)

    def _move(self, changes: Iterable[Move]) -> None:
        for first, last, new_first, new_number, queue, deliveries, details in changes:
            columns = (new_first - first, new_number - first, queue, deliveries, *_to_columns(details))
            self._connection.execute(_MOVE, (*columns, first, last))

    def _purge(self, changes: Iterable[Purge]) -> None:
        self._connection.executemany(_PURGE, changes)

    def _define(self, changes: Iterable[Define]) -> None:
        self._connection.executemany(_DEFINE, changes)

    def _forget(self, changes: Iterable[Forget]) -> None:
        for change in changes:
            self._connection.execute(_FORGET, change)
            self._connection.execute(_PURGE, change)

    def _remember(self, changes: Iterable[Remember]) -> None:
        self._connection.executemany(_REMEMBER, changes)
        now = time.monotonic()
        if now >= self._sweep_at:
            self._sweep_at = now + _SWEEP_S
            self._connection.execute("DELETE FROM duplicates WHERE until < ?", (_now_ms(),))

    def _keep(self, changes: Iterable[Chunk]) -> None:
        """They are in the overflow."""

    # -- reading

    def read(self, queue: bytes, priority: int, after: int, octets: int) -> tuple[list[Message | Chunk], bool]:
        """Both databases, in one order."""
        with self._spilling():
            self._overflow.take(queue, priority, after)
            chunks = self._overflow.read(queue, priority, after, octets)
        with translating(self.path), closing(self._connection.execute(_READ, (queue, priority, after))) as rows:
            return _read_both(rows, chunks, octets) if chunks else _read_rows(rows, octets)

    def _spilling(self) -> AbstractContextManager[None]:
        return translating(self._overflow_path, describe_damaged_overflow)


_APPLY: dict[type, Any] = {
    Message: SqliteStore._insert,
    Chunk: SqliteStore._keep,
    Delete: SqliteStore._delete,
    Update: SqliteStore._update,
    Move: SqliteStore._move,
    Purge: SqliteStore._purge,
    Define: SqliteStore._define,
    Forget: SqliteStore._forget,
    Remember: SqliteStore._remember,
}


def _parse(url: str) -> Path:
    path = unquote(url.removeprefix(_SCHEME))
    if not url.startswith(_SCHEME + "/") or path.endswith("/") or "\0" in path:
        raise ConfigurationError(url, "no absolute name of a file", "as in sqlite:///var/lib/forkbroker/queues.db")
    return Path(path)


def _read_rows(rows: Iterable[tuple[Any, ...]], octets: int) -> tuple[list[Message | Chunk], bool]:
    found: list[Message | Chunk] = []
    for row in rows:
        if octets <= 0:
            return found, True
        octets -= len(row[3]) + len(row[4]) + MESSAGE_OVERHEAD
        found.append(_to_message(row))
    return found, False


def _read_both(rows: Iterable[tuple[Any, ...]], chunks: list[Chunk], octets: int) -> tuple[list[Message | Chunk], bool]:
    found: list[Message | Chunk] = []
    messages: Iterator[Message | Chunk] = map(_to_message, rows)
    for item in heapq.merge(messages, chunks, key=lambda item: item[0]):
        if octets <= 0:
            return found, True
        octets -= weigh(item)
        found.append(item)
    return found, False


def _is_plain(message: Message) -> bool:
    return message.details is DURABLY and not message.deliveries


def _to_message(row: tuple[Any, ...]) -> Message:
    columns = row[6:]
    return Message._make((*row[:6], DURABLY if columns == _PLAIN else _to_details(*columns)))


@lru_cache(maxsize=1024)
def _to_columns(details: Details) -> tuple[Any, ...]:
    """In the order of `_DETAILS`, with NULL for what is as usual."""
    return (
        details.priority,
        details.crashes or None,
        details.expires or None,
        details.due or None,
        details.reason.name.lower() if details.reason else None,
        details.origin or None,
        details.period or None,
        details.repeat or None,
        details.cron or None,
    )


@lru_cache(maxsize=1024)
def _to_details(
    priority: int,
    crashes: int | None,
    expires: int | None,
    due: int | None,
    reason: bytes | None,
    origin: bytes | None,
    period: int | None,
    repeat: int | None,
    cron: bytes | None,
) -> Details:
    return Details(
        priority=priority,
        persistent=True,
        reason=_REASON_NAMES.get(reason or b"", Reason.NONE),
        crashes=crashes or 0,
        expires=expires or 0,
        due=due or 0,
        period=period or 0,
        repeat=repeat or 0,
        origin=origin or b"",
        cron=cron or b"",
    )


_REASON_NAMES = {reason.name.lower().encode(): reason for reason in Reason}


def _now_ms() -> int:
    return round(time.time() * 1000)
