"""How a process of the store comes by its database: locked, of the right version, in order or checked.

Another broker is kept out by two locks, of the name and of the file (`forkbroker.store.lock`); both are held until the
store is closed. The first process of a broker takes the database (`forkbroker.store.owner`), and upgrades its tables.
Later ones find it as the first one left it, or refuse it.

In `meta` stands whether the database was left in order; from its opening until it is closed it says no. Found so, the
database is checked: SQLite survives a crash by itself, but what crashed may have been the disk.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from forkbroker.errors import Exit
from forkbroker.store.api import Opened, StoreError
from forkbroker.store.database import check_integrity, connect, describe_damage, describe_error, is_passing, touch
from forkbroker.store.lock import IdentityLock, Lock
from forkbroker.store.owner import Owner, describe_absence, find_processes
from forkbroker.store.schema import MAX_SERIAL, VERSION, TooNewError, upgrade
from forkbroker.store.table import is_number

log = logging.getLogger(__name__)

_TRIES = 4
"""To open the database, if the system refuses at first: rarely, SQLite meets its own files as they come and go."""
_AGAIN_S = 0.1
_ROOM = 1 << 40
"""Serials that have to be free at the start."""
_LAST = f"SELECT max(serial) FROM messages WHERE serial <= {MAX_SERIAL}"
_FORGET_OLD = "DELETE FROM duplicates WHERE until < ?"
_SET = "INSERT OR REPLACE INTO meta (name, value) VALUES (?, ?)"


class Opening:
    """The database `path` for one process, from its locks to their release."""

    def __init__(self, path: Path, owner: Owner) -> None:
        """Nothing is touched."""
        self._path = path
        self._owner = owner
        self._name: Lock | None = None
        self._file: IdentityLock | None = None

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep others out while the file may be replaced by another one. The name stays locked.

        Raises:
            StoreError: another process has the database.
        """
        self._lock_name()
        if self._path.exists():
            self._lock_file()
        try:
            yield
        finally:
            # it may have another identity now
            self.release_file()

    def open(self, *, is_fresh: bool) -> tuple[sqlite3.Connection, Opened]:
        """Lock the database and open it; the caller closes the connection.

        Raises:
            StoreError: another process has it, it is damaged, it is not this broker's, or a later version's.
            sqlite3.Error, OSError: it can't be opened.
        """
        self._lock_name()
        for attempt in range(1, _TRIES):
            try:
                return self._open(is_fresh=is_fresh)
            except sqlite3.Error as error:
                if not is_passing(error):
                    raise
                log.warning("store %s: not opened (%s), trying again", self._path, describe_error(error))
            time.sleep(_AGAIN_S * attempt)
        return self._open(is_fresh=is_fresh)

    def note_order(self, connection: sqlite3.Connection) -> None:
        """Note that all is written: the next broker has nothing to check.

        Raises:
            StoreError: the database is not this broker's any more.
            sqlite3.Error: it can't be written.
        """
        connection.execute("BEGIN IMMEDIATE")
        self._owner.check(connection)
        _set_meta(connection, in_order=1)
        connection.execute("COMMIT")

    def release_file(self) -> None:
        """Not before the connection is closed: the lock goes with any descriptor of the file."""
        if self._file is not None:
            self._file.release()
            self._file = None

    def release_name(self) -> None:
        """Last of all."""
        if self._name is not None:
            self._name.release()
            self._name = None

    def _lock_name(self) -> None:
        if self._name is None:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._name = Lock(Path(f"{self._path}-lock"), owner=os.getppid())

    def _lock_file(self) -> None:
        self._file = IdentityLock(self._path, lambda: find_processes(self._path), owner=os.getppid())

    def _open(self, *, is_fresh: bool) -> tuple[sqlite3.Connection, Opened]:
        if is_fresh:
            touch(self._path)
        elif not self._path.exists():
            raise StoreError(describe_absence(self._path), Exit.IOERR)
        if self._file is None:
            self._lock_file()
        has_log = Path(f"{os.path.realpath(self._path)}-wal").exists()
        connection = connect(self._path)
        try:
            self._owner.note_place()
            if is_fresh:
                self._upgrade(connection)
                return connection, self._take(connection, has_log=has_log)
            self._owner.find(connection)
            return connection, self._read_meta(connection)
        except BaseException:
            connection.close()
            raise

    def _upgrade(self, connection: sqlite3.Connection) -> None:
        try:
            before, after = upgrade(connection)
        except TooNewError as error:
            raise StoreError(
                f"{self._path} has version {error} of the tables, made by a later broker; this one knows versions up "
                f"to {VERSION}",
                Exit.CONFIG,
            ) from None
        if 0 < before < after:
            log.info("store %s: version %d of the tables upgraded to %d", self._path, before, after)

    def _take(self, connection: sqlite3.Connection, *, has_log: bool) -> Opened:
        """Check the database, if need be, and make it this broker's."""
        opened = self._read_meta(connection)
        if not opened.was_in_order:
            if not has_log and self._path.stat().st_nlink > 1:
                raise StoreError(_describe_other_name(self._path), Exit.CONFIG)
            found = check_integrity(connection)
            if found:
                raise StoreError(describe_damage(self._path, found), Exit.DATAERR)
            opened = replace(opened, recovered_before=opened.serial)
        connection.execute("BEGIN IMMEDIATE")
        owner = self._owner.describe(broker=os.getppid())
        _set_meta(connection, in_order=0, recovered_before=opened.recovered_before, **owner)
        connection.execute(_FORGET_OLD, (round(time.time() * 1000),))
        connection.execute("COMMIT")
        # into the file itself, so that whoever opens it by another name, and so without the log, sees it
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        return opened

    def _read_meta(self, connection: sqlite3.Connection) -> Opened:
        meta = dict(connection.execute("SELECT name, value FROM meta"))
        before = meta.get(b"recovered_before", 0)
        if not is_number(before, MAX_SERIAL):
            before = 0
        (last,) = connection.execute(_LAST).fetchone()
        free = max((last or 0) + 1, before)
        if free > MAX_SERIAL - _ROOM:
            raise StoreError(
                f"{self._path}: no serials are left above {free - 1:,}; give the messages with the highest ones in "
                "table messages, or recovered_before in table meta, lower ones",
                Exit.CONFIG,
            )
        return Opened(free, bool(meta.get(b"in_order", 1)), before)


def _set_meta(connection: sqlite3.Connection, **values: int) -> None:
    connection.executemany(_SET, values.items())


def _describe_other_name(path: Path) -> str:
    return (
        f"{path} has several names (hard links), and was left in disorder by a broker that used another one: SQLite's "
        "log with the last changes is beside that one. Start the broker with that name, and remove the others"
    )
