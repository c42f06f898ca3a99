"""The backend that keeps messages in an SQLite database: `sqlite:///var/lib/forkbroker/queues.db`.

Beside the database, with its name in front, stand SQLite's own `-wal` and `-shm`, `-lock` (`forkbroker.store.lock`)
and `-overflow` (`forkbroker.store.overflow`). All are the broker's alone (0600).

A group of changes is one transaction in WAL mode with `synchronous=FULL`: one fdatasync. Others may read meanwhile.
Whatever SQLite raises becomes a `StoreError`: the process ends, and the next one starts from what was committed.

One broker has the database. At the opening another one is kept out (`forkbroker.store.opening`); and in each group's
transaction stands the question whether the database is still this broker's (`forkbroker.store.owner`).

Changes become SQL here, as they are written in groups; what is read is made of rows in `forkbroker.store.reading`.
"""

from __future__ import annotations

import os
import sqlite3
import time
from binascii import crc32
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from forkbroker.errors import ConfigurationError, Exit
from forkbroker.posix.crashpoints import reach as crash
from forkbroker.store.again import apply_again, apply_around
from forkbroker.store.api import (
    BackedUp,
    Backlog,
    Change,
    Chunk,
    Define,
    Delete,
    Forget,
    FullError,
    Message,
    Move,
    Note,
    Opened,
    Purge,
    Remember,
    Store,
    StoreError,
    Update,
)
from forkbroker.store.backup import GoneError, back_up_database
from forkbroker.store.database import (
    TRANSLATED,
    is_damage,
    translate,
    translating,
)
from forkbroker.store.findings import Findings
from forkbroker.store.opening import Opening
from forkbroker.store.overflow import Overflow, describe_damaged_overflow
from forkbroker.store.owner import Owner
from forkbroker.store.reading import Reader
from forkbroker.store.repair import repair_database
from forkbroker.store.reserve import Reserve
from forkbroker.store.room import Room
from forkbroker.store.table import checksum, to_columns
from forkbroker.wire.details import DURABLY

_SCHEME = "sqlite://"
_SWEEP_S = 60.0
"""Between two removals of dedup-ids whose time is over."""

_DETAILS = "priority, crashes, expires, due, reason, origin, period, repeat, cron, reject_reason"
_TO_PLAIN = "INSERT INTO messages (serial, queue, message_id, headers, body, checksum) VALUES "
# with text, a message of 1 KiB is written in three quarters of the time
_INSERTS_TEXT = [(6 * rows, _TO_PLAIN + ", ".join(["(?, ?, ?, ?, ?, ?)"] * rows)) for rows in (32, 16, 8, 4, 2, 1)]
"""Statements, with the number of their values. One for 32 rows takes two thirds of the time of 32 for one row."""
_INSERT_PLAIN = f"{_TO_PLAIN}(?, CAST(? AS TEXT), CAST(? AS TEXT), CAST(? AS TEXT), ?, ?)"
_INSERT = (
    f"INSERT INTO messages (serial, queue, message_id, headers, body, deliveries, {_DETAILS}, checksum) "
    "VALUES (?, CAST(? AS TEXT), CAST(? AS TEXT), CAST(? AS TEXT), ?, ?, "
    "?, ?, ?, ?, ?, CAST(? AS TEXT), ?, ?, CAST(? AS TEXT), CAST(? AS TEXT), ?)"
)
_DELETE = "DELETE FROM messages WHERE serial BETWEEN ? AND ?"
_UPDATE = "UPDATE messages SET deliveries = ?, crashes = ? WHERE serial BETWEEN ? AND ?"
_MOVE = (
    "UPDATE messages SET serial = serial + ?, "
    "message_id = CASE WHEN ? THEN (serial + ?) || substr(message_id, instr(message_id, '-')) ELSE message_id END, "
    "queue = CAST(? AS TEXT), deliveries = ?, "
    "priority = ?, crashes = ?, expires = ?, due = ?, reason = ?, origin = CAST(? AS TEXT), period = ?, repeat = ?, "
    "cron = CAST(? AS TEXT), reject_reason = CAST(? AS TEXT) WHERE serial BETWEEN ? AND ?"
)
_PURGE = "DELETE FROM messages WHERE queue = CAST(? AS TEXT) AND due IS NULL"
_DEFINE = "INSERT OR REPLACE INTO durables (queue, topic, used) VALUES (CAST(? AS TEXT), CAST(? AS TEXT), ?)"
_FORGET = "DELETE FROM durables WHERE queue = CAST(? AS TEXT)"
_NOTE = "INSERT OR REPLACE INTO notes (queue, matter, value) VALUES (CAST(? AS TEXT), ?, CAST(? AS TEXT))"
_UNNOTE = "DELETE FROM notes WHERE queue = CAST(? AS TEXT) AND matter = ?"
_REMEMBER = "INSERT OR REPLACE INTO duplicates (queue, dedup_id, until) VALUES (CAST(? AS TEXT), CAST(? AS TEXT), ?)"

_text = lru_cache(maxsize=256)(bytes.decode)
"""Names, which are the same for many messages."""


@lru_cache(maxsize=256)
def _header_text(headers: bytes) -> tuple[str, int]:
    """Headers, which are the same for many messages, and their part of the checksum."""
    return headers.decode(), crc32(headers)


def insert_rows(connection: sqlite3.Connection, values: Sequence[Any]) -> None:
    """Write new messages of which nothing else is known.

    `values` has for each of them serial, queue, message_id, headers, body and checksum.

    Raises:
        sqlite3.Error: some are not written.
    """
    at, end = 0, len(values)
    for length, statement in _INSERTS_TEXT:
        while end - at >= length:
            connection.execute(statement, values[at : at + length])
            at += length


class SqliteStore(Store):
    """See the module."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.path = _parse(url)
        self._owner = Owner(self.path)
        self._opening = Opening(self.path, self._owner)
        self._connection: sqlite3.Connection
        self._reader: Reader
        self._overflow: Overflow
        self._overflow_path = Path(f"{self.path}-overflow")
        self._reserve = Reserve(Path(f"{self.path}-reserve"))
        self._room: Room
        self._sweep_at = 0.0

    # -- beginning and end

    def repair(self) -> str:
        """See `forkbroker.store.repair`."""
        with translating(self.path), self._opening.locked():
            return repair_database(self.path)

    def open(self, *, is_fresh: bool) -> Opened:
        """See `forkbroker.store.opening`. Where the disk is full, the reserve is given up for it."""
        try:
            return self._open(is_fresh=is_fresh)
        except FullError:
            if not self._reserve.give_up():
                raise
        return self._open(is_fresh=is_fresh)

    def _open(self, *, is_fresh: bool) -> Opened:
        with translating(self.path):
            self._connection, opened = self._opening.open(is_fresh=is_fresh)
        try:
            with translating(self.path):
                self._room = Room(self.path, self._connection, self._reserve)
            with self._spilling():
                self._overflow = Overflow(self._overflow_path, is_fresh=is_fresh)
        except StoreError:
            self._connection.close()
            raise
        self._reader = Reader(self._connection, Findings(self.path))
        return opened

    def close(self, *, in_order: bool) -> None:
        """The log goes into the database: what is left is one file."""
        with translating(self.path):
            if in_order:
                self._opening.note_order(self._connection)
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            self._connection.close()
            self._opening.release_file()
        with self._spilling():
            self._overflow.close(in_order=in_order)
        self._opening.release_name()

    def back_up(self, name: str, is_wanted: Callable[[], bool]) -> BackedUp:
        """See `forkbroker.store.backup`."""
        with translating(self.path):
            try:
                return back_up_database(self.path, name, is_wanted)
            except GoneError:
                raise StoreError("nobody waits for the backup any more", Exit.UNAVAILABLE) from None

    # -- what there is

    def backlog(self) -> Iterable[Backlog]:
        """From the index alone."""
        with translating(self.path):
            return self._reader.backlog()

    def durables(self) -> Iterable[Define]:
        """All of them."""
        with translating(self.path):
            return self._reader.durables()

    def notes(self) -> Iterable[Note]:
        """All of them."""
        with translating(self.path):
            return self._reader.notes()

    def duplicates(self) -> Iterator[Remember]:
        """Row by row."""
        with translating(self.path):
            yield from self._reader.duplicates()

    def scheduled(self) -> Iterator[Message]:
        """Row by row."""
        with translating(self.path):
            yield from self._reader.scheduled()

    # -- changes

    def write(self, changes: Sequence[Change]) -> None:
        """Chunks first: when both have come, the group is COMMITTED."""
        if not _SPILLED.isdisjoint(map(type, changes)):
            with self._spilling():
                self._overflow.write(changes)
        # the hot path, so without `translating`
        try:
            try:
                self._write_group(changes)
            except BaseException:
                self._roll_back()
                raise
            self._owner.check_place()
        except TRANSLATED as error:
            raise translate(error, self.path) from error

    def write_one_by_one(self, changes: Iterable[Sequence[Change]]) -> None:
        """In one transaction; chunks are in their own file."""
        with translating(self.path):
            taken: list[Change] = []
            each = self._take_each(changes, taken)
            try:
                self._begin()
                try:
                    for some in each:
                        apply_again(self._connection, some, self._apply_single)
                except sqlite3.Error as error:
                    if not is_damage(error):
                        raise
                    for _ in each:
                        pass  # all others as well
                    self._write_around(taken)
                self._commit()
            except BaseException:
                self._roll_back()
                raise
            self._owner.check_place()

    def _take_each(self, changes: Iterable[Sequence[Change]], taken: list[Change]) -> Iterator[Sequence[Change]]:
        for some in changes:
            with self._spilling():
                self._overflow.write(some)
            taken += some
            yield some

    def _write_group(self, changes: Sequence[Change]) -> None:
        self._begin()
        try:
            for sort, group in groupby(changes, type):
                _APPLY[sort](self, group)
        except sqlite3.Error as error:
            if is_damage(error):
                self._write_around(changes)
            elif isinstance(error, sqlite3.IntegrityError):
                # some of it was written before
                self._begin_again()
                apply_again(self._connection, changes, self._apply_single)
            else:
                raise
        self._commit()

    def _write_around(self, changes: Sequence[Change]) -> None:
        apply_around(self._connection, changes, self._apply_single, self._begin_again)

    def _begin_again(self) -> None:
        self._roll_back()
        self._begin()

    def _apply_single(self, change: Change) -> None:
        _APPLY[type(change)](self, (change,))

    def _commit(self) -> None:
        if crash is not None:
            crash("store.written", "")
        self._connection.execute("COMMIT")

    def _begin(self) -> None:
        self._connection.execute("BEGIN IMMEDIATE")
        self._owner.check(self._connection)

    def _roll_back(self) -> None:
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")

    def _insert(self, messages: Iterable[Message]) -> None:
        # messages of which nothing else is known are nearly all, and take half the time
        for is_plain, group in groupby(messages, _is_plain):
            if is_plain:
                self._insert_plain(list(group))
            else:
                rows = ((*m[:6], *to_columns(m.details), checksum(m.headers, m.body)) for m in group)
                self._connection.executemany(_INSERT, rows)

    def _insert_plain(self, messages: Sequence[Message]) -> None:
        values: list[Any] = []
        known: bytes | None = None
        lines, begun = "", 0
        try:
            for serial, queue, ident, headers, body, _, _ in messages:
                if headers is not known:
                    known = headers
                    lines, begun = _header_text(headers)
                values += (serial, _text(queue), ident.decode(), lines, body, crc32(body, begun))
        except UnicodeDecodeError:
            rows = [(*message[:5], checksum(message.headers, message.body)) for message in messages]
            self._connection.executemany(_INSERT_PLAIN, rows)
            return
        insert_rows(self._connection, values)

    def _delete(self, changes: Iterable[Delete]) -> None:
        self._connection.executemany(_DELETE, changes)

    def _update(self, changes: Iterable[Update]) -> None:
        rows = ((deliveries, crashes or None, first, last) for first, last, deliveries, crashes in changes)
        self._connection.executemany(_UPDATE, rows)

    def _move(self, changes: Iterable[Move]) -> None:
        for first, last, new_first, new_number, queue, deliveries, details in changes:
            columns = (new_first - first, new_number, new_number - first, queue, deliveries, *to_columns(details))
            self._connection.execute(_MOVE, (*columns, first, last))

    def _purge(self, changes: Iterable[Purge]) -> None:
        self._connection.executemany(_PURGE, changes)

    def _define(self, changes: Iterable[Define]) -> None:
        self._connection.executemany(_DEFINE, changes)

    def _forget(self, changes: Iterable[Forget]) -> None:
        for change in changes:
            self._connection.execute(_FORGET, change)
            self._connection.execute(_PURGE, change)

    def _note(self, changes: Iterable[Note]) -> None:
        for queue, matter, value in changes:
            if value is None:
                self._connection.execute(_UNNOTE, (queue, matter.name.lower()))
            else:
                self._connection.execute(_NOTE, (queue, matter.name.lower(), value))

    def _remember(self, changes: Iterable[Remember]) -> None:
        self._connection.executemany(_REMEMBER, changes)
        now = time.monotonic()
        if now >= self._sweep_at:
            self._sweep_at = now + _SWEEP_S
            self._connection.execute("DELETE FROM duplicates WHERE until < ?", (_now_ms(),))

    def _keep(self, changes: Iterable[Chunk]) -> None:
        """They are in the overflow."""

    # -- what can't be written

    def set_aside(self, number: int, octets: bytes) -> str:
        """In a file beside the database; `python3 -m forkbroker.store.aside` shows what is in it."""
        path = Path(f"{self.path}.refused-{time.strftime('%Y%m%d-%H%M%S')}-{number}")
        with translating(path):
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(octets)
                file.flush()
                os.fsync(descriptor)
        return str(path)

    # -- room

    def free(self) -> int:
        """See `forkbroker.store.room`."""
        self._owner.check_place()
        with translating(self.path):
            return self._room.find_octets()

    def make_room(self) -> bool:
        """Of the reserve and of SQLite's log."""
        return self._room.make()

    def keep_room(self) -> bool:
        """See `forkbroker.store.reserve`."""
        return self._reserve.keep()

    @property
    def kept(self) -> int:
        """The size of the reserve."""
        return self._reserve.octets

    # -- reading

    def read(self, queue: bytes, priority: int, after: int, octets: int) -> tuple[list[Message | Chunk], bool]:
        """Both databases, in one order."""
        with self._spilling():
            self._overflow.take(queue, priority, after)
            chunks = self._overflow.read(queue, priority, after, octets)
        with translating(self.path):
            return self._reader.read(queue, priority, after, octets, chunks)

    def _spilling(self) -> AbstractContextManager[None]:
        return translating(self._overflow_path, describe_damaged_overflow)


_SPILLED = frozenset({Chunk, Purge, Forget})
"""What concerns the spilled messages."""
_APPLY: dict[type, Any] = {
    Message: SqliteStore._insert,
    Chunk: SqliteStore._keep,
    Delete: SqliteStore._delete,
    Update: SqliteStore._update,
    Move: SqliteStore._move,
    Purge: SqliteStore._purge,
    Define: SqliteStore._define,
    Forget: SqliteStore._forget,
    Note: SqliteStore._note,
    Remember: SqliteStore._remember,
}


def _parse(url: str) -> Path:
    path = unquote(url.removeprefix(_SCHEME))
    if not url.startswith(_SCHEME + "/") or path.endswith("/") or "\0" in path:
        raise ConfigurationError(url, "no absolute name of a file", "as in sqlite:///var/lib/forkbroker/queues.db")
    return Path(path)


def _is_plain(message: Message) -> bool:
    return message.details is DURABLY and not message.deliveries


def _now_ms() -> int:
    return round(time.time() * 1000)
