"""A copy of an SQLite database that is in use, made by a process of its own.

The copy is of one moment: a read transaction in WAL mode, which lets the store's process commit all the while. Only
SQLite's log grows meanwhile by what is committed, as it can't begin anew before the reader has ended.

What is not whole has another name. A death leaves it there, and the next copy removes it. When all is copied, checked
and on the disk, it gets its name, under which nothing may be.

A copy is left in order: a broker that opens it has nothing to recover. But what was delivered after that moment, and
before, without a note, may come again, so all messages in it count as perhaps delivered (`Opened.recovered_before`).
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from urllib.parse import quote

from forkbroker.errors import Exit
from forkbroker.posix.crashpoints import reach as crash
from forkbroker.store.api import BackedUp, StoreError
from forkbroker.store.database import LOG_OCTETS, check_integrity, describe_damage
from forkbroker.store.schema import MAX_SERIAL

_PAGES = 512
"""Copied in one step: 4 MiB."""
_SYNC_STEPS = 8
"""Between two fdatasyncs: a single one at the end would keep those of the store waiting."""
_INSTRUCTIONS = 1_000_000
"""Of SQLite's machine, between two looks whether the copy is still wanted."""
_SIDES = ("-wal", "-shm", "-journal")
"""Names that SQLite gives to files beside a database."""


class GoneError(Exception):
    """Nobody waits for the copy any more."""


def back_up_database(path: Path, name: str, is_wanted: Callable[[], bool]) -> BackedUp:
    """Copy the database `path` to the file `name` beside it.

    Raises:
        StoreError: the name is no good, there is a file of it, or there is no room.
        sqlite3.Error, OSError: it can't be copied. Nothing is left.
        GoneError: `is_wanted` was false. It is asked again and again.
    """
    target, partial = path.parent / name, Path(f"{path}-backup")
    _check_name(path, target)
    _remove(partial)
    try:
        _check_room(path)
        os.close(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
        _copy(path, partial, is_wanted)
        messages = _finish(partial, is_wanted)
        octets = partial.stat().st_size
        _sync(partial)
        if crash is not None:
            crash("backup.written", "")
        try:
            # unlike a renaming, it replaces nothing
            os.link(partial, target)
        except FileExistsError:
            raise _make_clash(target) from None
        if crash is not None:
            crash("backup.named", "")
    finally:
        _remove(partial)
    _sync(path.parent)
    return BackedUp(messages, octets, str(target))


def _check_name(path: Path, target: Path) -> None:
    if target.name.startswith(path.name) or target.name.endswith(_SIDES):
        raise StoreError(
            f"{target.name} could be taken for a file of a database in use: a name must not begin with {path.name}, "
            f"or end with {', '.join(_SIDES)}",
            Exit.CANTCREAT,
        )
    if target.is_symlink() or target.exists():
        raise _make_clash(target)


def _make_clash(target: Path) -> StoreError:
    return StoreError(f"{target} exists; remove it, or give another name", Exit.CANTCREAT)


def _check_room(path: Path) -> None:
    """A backup must not be what fills the disk."""
    found = os.statvfs(path.parent)
    free, size = found.f_bavail * found.f_frsize, path.stat().st_size + LOG_OCTETS
    if free < size:
        raise StoreError(
            f"{path.parent} has {free:,} bytes free, and a backup takes up to {size:,} with what is written meanwhile",
            Exit.IOERR,
        )


def _copy(path: Path, partial: Path, is_wanted: Callable[[], bool]) -> None:
    descriptor = os.open(partial, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    steps = 0

    def go_on(_status: int, _left: int, _pages: int) -> None:
        nonlocal steps
        steps += 1
        if steps % _SYNC_STEPS == 0:
            os.fdatasync(descriptor)
        if not is_wanted():
            raise GoneError
        if crash is not None:
            crash("backup.step", "")

    try:
        with closing(_connect(path)) as source, closing(_connect(partial)) as target:
            target.execute("PRAGMA journal_mode = OFF").fetchone()
            target.execute("PRAGMA synchronous = OFF")
            source.execute("BEGIN")
            # from here on it sees this moment: without it each change would begin the copy anew
            source.execute("SELECT count(*) FROM meta").fetchone()
            source.backup(target, pages=_PAGES, progress=go_on)
    finally:
        os.close(descriptor)


def _finish(partial: Path, is_wanted: Callable[[], bool]) -> int:
    """Leave it in order, and check it; how many messages it has."""
    with closing(_connect(partial)) as copy:
        # away from the mode with a log: what is left is one file
        copy.execute("PRAGMA journal_mode = OFF").fetchone()
        copy.execute("PRAGMA journal_mode = DELETE").fetchone()
        # a truthy answer interrupts the statement
        copy.set_progress_handler(lambda: not is_wanted(), _INSTRUCTIONS)
        try:
            found = check_integrity(copy)
        except sqlite3.OperationalError:
            if not is_wanted():
                raise GoneError from None
            raise
        if found:
            raise StoreError(describe_damage(partial, found), Exit.DATAERR)
        copy.set_progress_handler(None, 0)
        (before,) = copy.execute("SELECT coalesce(max(value), 0) FROM meta WHERE name = 'recovered_before'").fetchone()
        (last,) = copy.execute(f"SELECT coalesce(max(serial), 0) FROM messages WHERE serial <= {MAX_SERIAL}").fetchone()
        copy.execute("BEGIN")
        copy.execute("DELETE FROM meta WHERE name LIKE 'owner%'")
        rows = {"in_order": 1, "recovered_before": max(int(before), int(last) + 1)}
        copy.executemany("INSERT OR REPLACE INTO meta (name, value) VALUES (?, ?)", rows.items())
        copy.execute("COMMIT")
        (messages,) = copy.execute("SELECT count(*) FROM messages").fetchone()
    return int(messages)


def _connect(path: Path) -> sqlite3.Connection:
    """A database that there is."""
    url = f"file:{quote(str(path))}?mode=rw"
    return sqlite3.connect(url, uri=True, timeout=5.0, isolation_level=None)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(partial: Path) -> None:
    for name in (str(partial), *(f"{partial}{side}" for side in _SIDES)):
        with suppress(FileNotFoundError):
            Path(name).unlink()
