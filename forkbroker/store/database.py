"""SQLite databases of the store: how they are opened, and what their errors mean to an administrator."""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from forkbroker.errors import Exit
from forkbroker.store.api import ChangeError, FullError, StoreError

_LOCKED_S = 5.0
"""How long somebody with a tool may keep the database locked before the store gives up, to try again."""

LOG_OCTETS = 67_108_864
"""Of SQLite's write-ahead log: what is left of it when it was larger."""

_SETTINGS = f"""
PRAGMA ignore_check_constraints = ON;
PRAGMA synchronous = FULL;
PRAGMA secure_delete = OFF;
PRAGMA cache_size = -8192;
PRAGMA wal_autocheckpoint = 1000;
PRAGMA journal_size_limit = {LOG_OCTETS};
"""

_REASONS = {
    sqlite3.SQLITE_FULL: ("the disk is full", Exit.IOERR),
    sqlite3.SQLITE_READONLY: ("the file, or its directory, cannot be written", Exit.NOPERM),
    sqlite3.SQLITE_CANTOPEN: ("the file cannot be opened", Exit.CANTCREAT),
    sqlite3.SQLITE_PERM: ("the file cannot be opened", Exit.NOPERM),
    sqlite3.SQLITE_IOERR: ("the disk cannot be read or written", Exit.IOERR),
    sqlite3.SQLITE_BUSY: (f"another process has had the database locked for {_LOCKED_S:.0f} s", Exit.UNAVAILABLE),
}
TRANSLATED = (sqlite3.Error, OverflowError, OSError)
"""What becomes a StoreError."""
_DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_PRIMARY = 0xFF
"""Of an extended result code of SQLite."""


def touch(path: Path) -> None:
    """Make the file, if there is none, with the mode 0600; SQLite gives the same to those that it makes beside it.

    Not while this process has the database open: to close any descriptor of it takes SQLite's locks away.

    Raises:
        OSError: that is not possible.
    """
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))


def connect(path: Path) -> sqlite3.Connection:
    """The database, made if there is none, in WAL mode and with the settings of the store. Text comes as bytes.

    Raises:
        sqlite3.Error: that is not possible.
        OSError: the file can't be made.
    """
    touch(path)
    connection = sqlite3.connect(path, timeout=_LOCKED_S, isolation_level=None, cached_statements=64)
    try:
        connection.text_factory = bytes
        # of a new database; against 4 KiB a tenth more messages of 1 KiB in a second
        connection.execute("PRAGMA page_size = 8192")
        (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
        if mode != b"wal":
            raise sqlite3.OperationalError(f"no WAL mode here but {mode.decode()}: is this a network file system?")
        connection.executescript(_SETTINGS)
    except BaseException:
        connection.close()
        raise
    return connection


def check_integrity(connection: sqlite3.Connection) -> str:
    """What is wrong with the file, or with an index of it; empty: nothing is. This reads all of it.

    Rows that break the constraints of the schema are no damage (`forkbroker.store.table`).

    Raises:
        sqlite3.Error: it can't be read.
    """
    connection.execute("PRAGMA ignore_check_constraints = ON")
    (found,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
    text = found.decode("utf-8", "replace") if isinstance(found, bytes) else str(found)
    return "" if text == "ok" else text


def describe_damage(path: Path, detail: str) -> str:
    """What to say of a database that is damaged."""
    return (
        f"{path} is damaged: {detail}; start once with --store-repair, which moves the file aside and saves what can "
        "be read of it, or restore a backup"
    )


def make_damage(detail: str) -> sqlite3.DatabaseError:
    """The error that SQLite raises where it finds damage itself."""
    error = sqlite3.DatabaseError(detail)
    error.sqlite_errorcode, error.sqlite_errorname = sqlite3.SQLITE_CORRUPT, "SQLITE_CORRUPT"
    return error


def is_damage(error: sqlite3.Error) -> bool:
    """Whether the error says that the file is no sound database."""
    return _code(error) in _DAMAGE


def is_partial(error: sqlite3.Error) -> bool:
    """Whether the error says that a part of the file can't be used, and leaves hope for the rest."""
    return _code(error) in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_IOERR)


def is_passing(error: sqlite3.Error) -> bool:
    """Whether to open the database again at once may help."""
    return _code(error) in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PROTOCOL)


def describe_error(error: sqlite3.Error) -> str:
    """SQLite's words, and the name of its extended code, which says what it tried."""
    name = getattr(error, "sqlite_errorname", "")
    return f"{error}, {name}" if name else str(error)


@contextmanager
def translating(path: Path, describe: Callable[[Path, str], str] = describe_damage) -> Iterator[None]:
    """Errors of SQLite and of the system become StoreErrors that name `path` and say what that means."""
    try:
        yield
    except TRANSLATED as error:
        raise translate(error, path, describe) from error


def translate(
    error: sqlite3.Error | OverflowError | OSError,
    path: Path,
    describe: Callable[[Path, str], str] = describe_damage,
) -> StoreError:
    """What an error of SQLite or of the system means for the database `path`."""
    if isinstance(error, OverflowError):
        return ChangeError(f"{path}: a number is too large ({error})", Exit.SOFTWARE)
    if isinstance(error, OSError):
        sort = FullError if error.errno in _NO_ROOM else StoreError
        return sort(f"{error.filename or path}: {error.strerror}", Exit.IOERR)
    if is_damage(error):
        return StoreError(describe(path, describe_error(error)), Exit.DATAERR)
    reason, status = _REASONS.get(_code(error), ("SQLite refuses", Exit.IOERR))
    return _sort_of(error)(f"{path}: {reason} ({describe_error(error)})", status)


def _sort_of(error: sqlite3.Error) -> type[StoreError]:
    """Whether to try again, to go on without the change, or to end."""
    if _code(error) == sqlite3.SQLITE_FULL or getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_IOERR_WRITE:
        return FullError
    if isinstance(error, sqlite3.IntegrityError | sqlite3.DataError | sqlite3.InterfaceError):
        return ChangeError
    return StoreError


def _code(error: sqlite3.Error) -> int:
    return getattr(error, "sqlite_errorcode", 0) & _PRIMARY
