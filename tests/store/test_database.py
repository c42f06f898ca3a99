"""How databases are opened, and what their errors mean."""

from __future__ import annotations

import errno
import os
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest

from forkbroker.errors import Exit
from forkbroker.store.api import StoreError
from forkbroker.store.database import (
    check_integrity,
    connect,
    describe_error,
    is_damage,
    is_partial,
    is_passing,
    make_damage,
    touch,
    translating,
)
from store.databases import fill, make_error, mend_badly, put_into_index, query


def raise_it(error: Exception) -> StoreError:
    """What becomes of it."""
    with pytest.raises(StoreError) as caught, translating(Path("/var/q.db")):
        raise error
    return caught.value


@pytest.mark.parametrize(
    ("code", "words", "status"),
    [
        (sqlite3.SQLITE_FULL, "the disk is full", Exit.IOERR),
        (sqlite3.SQLITE_READONLY, "cannot be written", Exit.NOPERM),
        (sqlite3.SQLITE_READONLY_DIRECTORY, "cannot be written", Exit.NOPERM),
        (sqlite3.SQLITE_CANTOPEN, "cannot be opened", Exit.CANTCREAT),
        (sqlite3.SQLITE_PERM, "cannot be opened", Exit.NOPERM),
        (sqlite3.SQLITE_IOERR, "cannot be read or written", Exit.IOERR),
        (sqlite3.SQLITE_IOERR_FSYNC, "cannot be read or written", Exit.IOERR),
        (sqlite3.SQLITE_BUSY, "another process has had the database locked for 5 s", Exit.UNAVAILABLE),
        (sqlite3.SQLITE_BUSY_SNAPSHOT, "another process has had the database locked", Exit.UNAVAILABLE),
        (sqlite3.SQLITE_CORRUPT, "is damaged", Exit.DATAERR),
        (sqlite3.SQLITE_CORRUPT_INDEX, "is damaged", Exit.DATAERR),
        (sqlite3.SQLITE_NOTADB, "is damaged", Exit.DATAERR),
        (sqlite3.SQLITE_ERROR, "SQLite refuses", Exit.IOERR),
    ],
)
def test_an_error_says_what_it_means(code, words, status) -> None:
    """With the file, SQLite's words, and the name of its extended code."""
    error = make_error(code)

    said = raise_it(error)

    assert said.status is status
    assert str(said).startswith("/var/q.db")
    assert words in str(said)
    assert f"what SQLite says, {error.sqlite_errorname}" in str(said)


def test_an_error_of_the_system_names_its_file() -> None:
    """Or the database, if it has none."""
    assert str(raise_it(OSError(errno.EACCES, "Permission denied", "/var/x"))) == "/var/x: Permission denied"
    assert str(raise_it(OSError(errno.EIO, "Input/output error"))) == "/var/q.db: Input/output error"


def test_an_error_without_a_code_is_described() -> None:
    """The sqlite3 module raises some of its own."""
    assert describe_error(sqlite3.ProgrammingError("closed")) == "closed"


def test_sorts_of_errors() -> None:
    """By the primary code."""
    assert is_damage(make_error(sqlite3.SQLITE_CORRUPT_VTAB))
    assert is_damage(make_error(sqlite3.SQLITE_NOTADB))
    assert not is_damage(make_error(sqlite3.SQLITE_IOERR))
    assert is_partial(make_error(sqlite3.SQLITE_IOERR_READ))
    assert is_partial(make_damage("somewhere"))
    assert not is_partial(make_error(sqlite3.SQLITE_NOTADB))
    assert not is_partial(make_error(sqlite3.SQLITE_BUSY))
    assert is_passing(make_error(sqlite3.SQLITE_IOERR_SHMMAP))
    assert is_passing(make_error(sqlite3.SQLITE_CANTOPEN))
    assert not is_passing(make_error(sqlite3.SQLITE_CORRUPT))


def test_files_are_their_users_alone(tmp_path) -> None:
    """Whatever the mask; one that is there keeps its mode."""
    before = os.umask(0)
    try:
        touch(tmp_path / "new")
    finally:
        os.umask(before)
    (tmp_path / "old").touch(0o640)
    touch(tmp_path / "old")

    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "old").stat().st_mode) == 0o640 & ~before


def test_a_database_is_opened_with_the_settings_of_the_store(tmp_path) -> None:
    """The log is synced at each commit; text comes as octets; constraints are for others."""
    with closing(connect(tmp_path / "q.db")) as connection:
        found = [
            connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("journal_mode", "synchronous", "page_size", "ignore_check_constraints", "journal_size_limit")
        ]
        text = connection.execute("SELECT 'x'").fetchone()

    assert found == [b"wal", 2, 8192, 1, 64 << 20]
    assert text == (b"x",)


def test_integrity_finds_what_a_quick_check_does_not(tmp_path) -> None:
    """An index that lacks entries; rows that break a rule are no damage."""
    path = tmp_path / "q.db"
    fill(path, range(1, 101))
    mend_badly(path, "UPDATE messages SET priority = 99 WHERE serial = 5")
    with closing(sqlite3.connect(path)) as connection:
        sound = check_integrity(connection)
    put_into_index(path, "WHERE 0")
    query(path, "INSERT INTO messages (queue, body) VALUES ('/queue/a', 'x')")
    put_into_index(path, "WHERE due IS NULL")
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA ignore_check_constraints = ON")
        quick = connection.execute("PRAGMA quick_check(1)").fetchone()
        found = check_integrity(connection)

    assert sound == ""
    assert quick == ("ok",)
    assert "missing from index messages_in_queues" in found
