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
from forkbroker.store import sqlite as backend
from forkbroker.store.api import Delete, StoreError
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
from forkbroker.store.sqlite import SqliteStore
from store.databases import fill, make_message, mend_badly, overwrite, put_into_index, query, root_page


def make_error(code: int, text: str = "what SQLite says") -> sqlite3.OperationalError:
    """As SQLite raises it."""
    error = sqlite3.OperationalError(text)
    error.sqlite_errorcode = code
    error.sqlite_errorname = next(
        name for name in dir(sqlite3) if name.startswith("SQLITE_") and getattr(sqlite3, name) == code
    )
    return error


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


def test_a_damaged_index_is_found_after_an_end_in_disorder(tmp_path) -> None:
    """The broker does not start; after an end in order nobody looks."""
    path = tmp_path / "q.db"
    fill(path, range(1, 101), in_order=False)
    overwrite(path, root_page(path, "messages_in_schedule"))
    store = SqliteStore(f"sqlite://{path}")

    with pytest.raises(StoreError, match="is damaged") as caught:
        store.open(is_fresh=True)
    store._release_file()
    store._lock.release()

    assert caught.value.status is Exit.DATAERR


# -- a system that refuses once


@pytest.mark.parametrize("times", [1, 3])
def test_an_opening_that_fails_is_tried_again(tmp_path, monkeypatch, caplog, times) -> None:
    """Each failure is logged with its extended code."""
    left = [make_error(sqlite3.SQLITE_IOERR_SHMMAP, "disk I/O error")] * times

    def failing(path: Path) -> sqlite3.Connection:
        if left:
            raise left.pop()
        return connect(path)

    monkeypatch.setattr(backend, "connect", failing)
    store = SqliteStore(f"sqlite://{tmp_path}/q.db")
    opened = store.open(is_fresh=True)
    store.close(in_order=True)

    assert opened.serial == 1
    assert caplog.text.count("not opened (disk I/O error, SQLITE_IOERR_SHMMAP), trying again") == times


def test_an_opening_that_fails_for_good_is_given_up(tmp_path, monkeypatch) -> None:
    """After a second or so, with the reason."""

    def failing(_: Path) -> sqlite3.Connection:
        raise make_error(sqlite3.SQLITE_IOERR_SHMMAP, "disk I/O error")

    monkeypatch.setattr(backend, "connect", failing)
    store = SqliteStore(f"sqlite://{tmp_path}/q.db")
    with pytest.raises(StoreError, match=r"cannot be read or written \(disk I/O error, SQLITE_IOERR_SHMMAP\)"):
        store.open(is_fresh=True)
    store._release_file()
    store._lock.release()


def test_damage_is_not_tried_again(tmp_path, monkeypatch, caplog) -> None:
    """It does not pass."""
    path = tmp_path / "q.db"
    path.write_bytes(b"notes of mine\n" * 1000)
    store = SqliteStore(f"sqlite://{path}")
    with pytest.raises(StoreError, match="is damaged"):
        store.open(is_fresh=True)
    store._release_file()
    store._lock.release()

    assert caplog.text == ""


# -- room


def test_what_was_deleted_counts_as_free(tmp_path) -> None:
    """The file does not shrink, but what is written next needs no more of the disk."""
    path = tmp_path / "q.db"
    store = SqliteStore(f"sqlite://{path}")
    store.open(is_fresh=True)
    store.write([make_message(n, 100_000) for n in range(1, 301)])
    used = int(str(query(path, "PRAGMA freelist_count")[0][0]))
    store.write([Delete(1, 300)])
    system = os.statvfs(tmp_path)
    reusable = store.free() - system.f_bavail * system.f_frsize
    store.close(in_order=True)

    assert used < 10
    assert reusable > 20_000_000


def test_room_in_the_file_is_no_use_without_room_for_the_log(tmp_path, monkeypatch) -> None:
    """What is written goes through it."""
    store = SqliteStore(f"sqlite://{tmp_path}/q.db")
    store.open(is_fresh=True)

    class Full:
        f_bavail, f_frsize = 1000, 4096

    monkeypatch.setattr(backend.os, "statvfs", lambda _: Full)
    found = store.free()
    monkeypatch.undo()
    store.close(in_order=True)

    assert found == 4_096_000
