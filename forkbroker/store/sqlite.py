"""The backend that keeps messages in an SQLite database: `sqlite:///var/lib/forkbroker/queues.db`.

Beside the database, with its name in front, stand SQLite's own `-wal` and `-shm`, `-lock` (`forkbroker.store.lock`)
and `-overflow` (`forkbroker.store.overflow`). All are the broker's alone (0600).

A group of changes is one transaction in WAL mode with `synchronous=FULL`: one fdatasync. Others may read meanwhile.
Whatever SQLite raises becomes a `StoreError`: the process ends, and the next one starts from what was committed.

One broker has the database. At the opening another one is kept out by two locks, of the name and of the file; and in
each group's transaction stands the question whether the database is still this broker's (`forkbroker.store.owner`).

In `meta` stands whether the database was left in order; from its opening until it is closed it says no. Found so, the
database is checked: SQLite survives a crash by itself, but what crashed may have been the disk.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import time
from binascii import crc32
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, suppress
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
    LOG_OCTETS,
    TRANSLATED,
    check_integrity,
    connect,
    describe_damage,
    describe_error,
    is_damage,
    is_passing,
    touch,
    translate,
    translating,
)
from forkbroker.store.findings import Findings
from forkbroker.store.lock import IdentityLock, Lock
from forkbroker.store.overflow import Overflow, describe_damaged_overflow
from forkbroker.store.owner import Owner, find_processes
from forkbroker.store.reading import Reader
from forkbroker.store.repair import repair_database
from forkbroker.store.reserve import Reserve
from forkbroker.store.schema import MAX_SERIAL, VERSION, TooNewError, upgrade
from forkbroker.store.table import checksum, is_number, to_columns
from forkbroker.wire.details import DURABLY

log = logging.getLogger(__name__)

_SCHEME = "sqlite://"
_SWEEP_S = 60.0
"""Between two removals of dedup-ids whose time is over."""
_TRIES = 4
"""To open the database, if the system refuses at first: rarely, SQLite meets its own files as they come and go."""
_AGAIN_S = 0.1
_ROOM = 1 << 40
"""Serials that have to be free at the start."""

_DETAILS = "priority, crashes, expires, due, reason, origin, period, repeat, cron, reject_reason"
# with text, a message of 1 KiB is written in three quarters of the time
_INSERT_TEXT = "INSERT INTO messages (serial, queue, message_id, headers, body, checksum) VALUES (?, ?, ?, ?, ?, ?)"
_INSERT_PLAIN = (
    "INSERT INTO messages (serial, queue, message_id, headers, body, checksum) "
    "VALUES (?, CAST(? AS TEXT), CAST(? AS TEXT), CAST(? AS TEXT), ?, ?)"
)
_INSERT = (
    f"INSERT INTO messages (serial, queue, message_id, headers, body, deliveries, {_DETAILS}, checksum) "
    "VALUES (?, CAST(? AS TEXT), CAST(? AS TEXT), CAST(? AS TEXT), ?, ?, "
    "?, ?, ?, ?, ?, CAST(? AS TEXT), ?, ?, CAST(? AS TEXT), CAST(? AS TEXT), ?)"
)
_DELETE = "DELETE FROM messages WHERE serial BETWEEN ? AND ?"
_UPDATE = "UPDATE messages SET deliveries = ?, crashes = ? WHERE serial BETWEEN ? AND ?"
_MOVE = (
    "UPDATE messages SET serial = serial + ?, "
    "message_id = (serial + ?) || substr(message_id, instr(message_id, '-')), queue = CAST(? AS TEXT), deliveries = ?, "
    "priority = ?, crashes = ?, expires = ?, due = ?, reason = ?, origin = CAST(? AS TEXT), period = ?, repeat = ?, "
    "cron = CAST(? AS TEXT), reject_reason = CAST(? AS TEXT) WHERE serial BETWEEN ? AND ?"
)
_PURGE = "DELETE FROM messages WHERE queue = CAST(? AS TEXT) AND due IS NULL"
_DEFINE = "INSERT OR REPLACE INTO durables (queue, topic, used) VALUES (CAST(? AS TEXT), CAST(? AS TEXT), ?)"
_FORGET = "DELETE FROM durables WHERE queue = CAST(? AS TEXT)"
_NOTE = "INSERT OR REPLACE INTO notes (queue, matter, value) VALUES (CAST(? AS TEXT), ?, CAST(? AS TEXT))"
_UNNOTE = "DELETE FROM notes WHERE queue = CAST(? AS TEXT) AND matter = ?"
_REMEMBER = "INSERT OR REPLACE INTO duplicates (queue, dedup_id, until) VALUES (CAST(? AS TEXT), CAST(? AS TEXT), ?)"
_LAST = f"SELECT max(serial) FROM messages WHERE serial <= {MAX_SERIAL}"

_text = lru_cache(maxsize=256)(bytes.decode)
"""Names, which are the same for many messages."""


@lru_cache(maxsize=256)
def _header_text(headers: bytes) -> tuple[str, int]:
    """Headers, which are the same for many messages, and their part of the checksum."""
    return headers.decode(), crc32(headers)


class SqliteStore(Store):
    """See the module."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.path = _parse(url)
        self._owner = Owner(self.path)
        self._lock: Lock | None = None
        self._identity: IdentityLock | None = None
        self._connection: sqlite3.Connection
        self._reader: Reader
        self._overflow: Overflow
        self._overflow_path = Path(f"{self.path}-overflow")
        self._reserve = Reserve(Path(f"{self.path}-reserve"))
        self._inode = 0
        self._page_size = 0
        self._sweep_at = 0.0

    # -- beginning and end

    def repair(self) -> str:
        """See `forkbroker.store.repair`."""
        with translating(self.path):
            self._lock_name()
            if self.path.exists():
                self._lock_file()
            try:
                return repair_database(self.path)
            finally:
                # it may have another identity now
                self._release_file()

    def open(self, *, is_fresh: bool) -> Opened:
        """Lock, upgrade, check."""
        try:
            return self._open_all(is_fresh=is_fresh)
        except FullError:
            if not self._reserve.give_up():
                raise
        return self._open_all(is_fresh=is_fresh)

    def _open_all(self, *, is_fresh: bool) -> Opened:
        with translating(self.path):
            self._lock_name()
            opened = self._open_with_patience(is_fresh=is_fresh)
        try:
            with self._spilling():
                self._overflow = Overflow(self._overflow_path, is_fresh=is_fresh)
        except StoreError:
            self._connection.close()
            raise
        return opened

    def _open_with_patience(self, *, is_fresh: bool) -> Opened:
        for attempt in range(1, _TRIES):
            try:
                return self._open_database(is_fresh=is_fresh)
            except sqlite3.Error as error:
                if not is_passing(error):
                    raise
                log.warning("store %s: not opened (%s), trying again", self.path, describe_error(error))
            time.sleep(_AGAIN_S * attempt)
        return self._open_database(is_fresh=is_fresh)

    def _open_database(self, *, is_fresh: bool) -> Opened:
        if is_fresh:
            touch(self.path)
        elif not self.path.exists():
            raise StoreError(_describe_absence(self.path), Exit.IOERR)
        if self._identity is None:
            self._lock_file()
        has_log = Path(f"{os.path.realpath(self.path)}-wal").exists()
        self._connection = connect(self.path)
        try:
            self._inode = self.path.stat().st_ino
            if is_fresh:
                self._upgrade()
                opened = self._note_opening(has_log=has_log)
            else:
                self._check_owner()
                opened = self._read_opening()
            (self._page_size,) = self._connection.execute("PRAGMA page_size").fetchone()
        except BaseException:
            self._connection.close()
            raise
        self._reader = Reader(self._connection, Findings(self.path))
        return opened

    def _lock_name(self) -> None:
        if self._lock is None:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = Lock(Path(f"{self.path}-lock"), owner=os.getppid())

    def _lock_file(self) -> None:
        self._identity = IdentityLock(self.path, lambda: find_processes(self.path), owner=os.getppid())

    def _release_file(self) -> None:
        if self._identity is not None:
            self._identity.release()
            self._identity = None

    def _check_owner(self) -> None:
        has_tables = self._connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'meta'").fetchone()
        if not has_tables:
            raise StoreError(_describe_absence(self.path), Exit.IOERR)
        self._owner.check(self._connection)

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
        if not is_number(before, MAX_SERIAL):
            before = 0
        (last,) = self._connection.execute(_LAST).fetchone()
        free = max((last or 0) + 1, before)
        if free > MAX_SERIAL - _ROOM:
            raise StoreError(
                f"{self.path}: no serials are left above {free - 1:,}; give the messages with the highest ones in "
                "table messages, or recovered_before in table meta, lower ones",
                Exit.CONFIG,
            )
        return Opened(free, bool(meta.get(b"in_order", 1)), before)

    def _note_opening(self, *, has_log: bool) -> Opened:
        opened = self._read_opening()
        before = opened.recovered_before
        if not opened.was_in_order:
            if not has_log and self.path.stat().st_nlink > 1:
                raise StoreError(_describe_other_name(self.path), Exit.CONFIG)
            self._check()
            before = opened.serial
        execute = self._connection.execute
        execute("BEGIN IMMEDIATE")
        self._set_meta(in_order=0, recovered_before=before, **self._owner.describe(broker=os.getppid()))
        execute("DELETE FROM duplicates WHERE until < ?", (_now_ms(),))
        execute("COMMIT")
        # into the file itself, so that whoever opens it by another name, and so without the log, sees it
        execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        return Opened(opened.serial, opened.was_in_order, before)

    def _check(self) -> None:
        """Raises sqlite3.DatabaseError."""
        found = check_integrity(self._connection)
        if found:
            raise StoreError(describe_damage(self.path, found), Exit.DATAERR)

    def _set_meta(self, **values: int) -> None:
        self._connection.executemany("INSERT OR REPLACE INTO meta (name, value) VALUES (?, ?)", values.items())

    def close(self, *, in_order: bool) -> None:
        """The log goes into the database: what is left is one file."""
        with translating(self.path):
            if in_order:
                self._connection.execute("BEGIN IMMEDIATE")
                self._owner.check(self._connection)
                self._set_meta(in_order=1)
                self._connection.execute("COMMIT")
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            self._connection.close()
            self._release_file()
        with self._spilling():
            self._overflow.close(in_order=in_order)
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def free(self) -> int:
        """Of the file system, for this user, and within the database, where messages were deleted; and the reserve.

        What is written goes through SQLite's log first. So where the file system has no room for a whole log, the room
        within the database counts as far as the log has been so large before; and what stands in the log and not in
        the database would need room there that seems to be free, so it is brought there first.
        """
        self._check_place()
        with translating(self.path):
            (pages,) = self._connection.execute("PRAGMA freelist_count").fetchone()
            within = int(pages * self._page_size)
            if self._free_on_disk() < LOG_OCTETS:
                self._empty_log()
                with suppress(FileNotFoundError):
                    within = min(within, Path(f"{self.path}-wal").stat().st_size)
            return self._free_on_disk() + within

    def _free_on_disk(self) -> int:
        found = os.statvfs(self.path.parent)
        return found.f_bavail * found.f_frsize + self._reserve.octets

    def _empty_log(self) -> bool:
        """Tell whether what stood in the log is all in the database now, so that the log begins anew."""
        try:
            row = self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        except sqlite3.Error:
            return False
        return bool(row[1] == row[2] > 0)

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
            self._check_place()
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
            self._check_place()

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

    def _check_place(self) -> None:
        """What is written to a file that somebody has removed ends with this process: nobody is to rely on it."""
        try:
            inode = self.path.stat().st_ino
        except FileNotFoundError:
            raise StoreError(_describe_absence(self.path), Exit.IOERR) from None
        if inode != self._inode:
            raise StoreError(f"{self.path}: another file has taken the place of the database", Exit.IOERR)

    def _insert(self, messages: Iterable[Message]) -> None:
        # messages of which nothing else is known are nearly all, and take half the time
        for is_plain, group in groupby(messages, _is_plain):
            if is_plain:
                self._insert_plain(list(group))
            else:
                rows = ((*m[:6], *to_columns(m.details), checksum(m.headers, m.body)) for m in group)
                self._connection.executemany(_INSERT, rows)

    def _insert_plain(self, messages: Sequence[Message]) -> None:
        try:
            rows: list[tuple[Any, ...]] = []
            for serial, queue, ident, headers, body, _, _ in messages:
                lines, begun = _header_text(headers)
                rows.append((serial, _text(queue), ident.decode(), lines, body, crc32(body, begun)))
            statement = _INSERT_TEXT
        except UnicodeDecodeError:
            rows = [(*message[:5], checksum(message.headers, message.body)) for message in messages]
            statement = _INSERT_PLAIN
        self._connection.executemany(statement, rows)

    def _delete(self, changes: Iterable[Delete]) -> None:
        self._connection.executemany(_DELETE, changes)

    def _update(self, changes: Iterable[Update]) -> None:
        rows = ((deliveries, crashes or None, first, last) for first, last, deliveries, crashes in changes)
        self._connection.executemany(_UPDATE, rows)

    def _move(self, changes: Iterable[Move]) -> None:
        for first, last, new_first, new_number, queue, deliveries, details in changes:
            columns = (new_first - first, new_number - first, queue, deliveries, *to_columns(details))
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

    def make_room(self) -> bool:
        """Give up the reserve, and let what stands in SQLite's log go into the database, so that the log is empty."""
        is_given_up = self._reserve.give_up()
        return self._empty_log() or is_given_up

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


def _describe_other_name(path: Path) -> str:
    return (
        f"{path} has several names (hard links), and was left in disorder by a broker that used another one: SQLite's "
        "log with the last changes is beside that one. Start the broker with that name, and remove the others"
    )


def _is_plain(message: Message) -> bool:
    return message.details is DURABLY and not message.deliveries


def _describe_absence(path: Path) -> str:
    return (
        f"{path} is gone: it was removed, renamed or emptied while the broker runs; put it back, or stop the broker. "
        "What was not written waits in memory until then"
    )


def _now_ms() -> int:
    return round(time.time() * 1000)
