"""A database is opened: upgraded, checked, tried again, or refused."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from forkbroker.errors import Exit
from forkbroker.store import opening
from forkbroker.store.api import StoreError
from forkbroker.store.database import connect
from forkbroker.store.schema import STEPS, VERSION
from forkbroker.store.sqlite import SqliteStore
from store.databases import QUEUE, abandon, fill, make_error, overwrite, query, root_page


def test_an_older_database_is_upgraded_in_place(tmp_path) -> None:
    """Version 1 had messages only."""
    path = tmp_path / "q.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(STEPS[0] + "PRAGMA user_version = 1;")
        connection.execute(
            "INSERT INTO messages (queue, message_id, headers, body) VALUES ('/queue/a', '1-s-1', '', 'x')"
        )
        connection.commit()

    store = SqliteStore(f"sqlite://{path}")
    store.open(is_fresh=True)
    found, _ = store.read(QUEUE, 4, 0, 1)
    durables = list(store.durables())
    store.close(in_order=True)

    assert [item.serial for item in found] == [1]
    assert durables == []
    assert query(path, "PRAGMA user_version") == [(VERSION,)]


def test_a_later_database_is_refused(tmp_path) -> None:
    """And left as it is."""
    path = tmp_path / "q.db"
    fill(path, [1])
    query(path, "PRAGMA user_version = 99")
    store = SqliteStore(f"sqlite://{path}")

    with pytest.raises(StoreError, match="version 99") as caught:
        store.open(is_fresh=True)
    abandon(store)

    assert caught.value.status is Exit.CONFIG
    assert query(path, "SELECT count(*) FROM messages") == [(1,)]


def test_a_damaged_index_is_found_after_an_end_in_disorder(tmp_path) -> None:
    """The broker does not start; after an end in order nobody looks."""
    path = tmp_path / "q.db"
    fill(path, range(1, 101), in_order=False)
    overwrite(path, root_page(path, "messages_in_schedule"))
    store = SqliteStore(f"sqlite://{path}")

    with pytest.raises(StoreError, match="is damaged") as caught:
        store.open(is_fresh=True)
    abandon(store)

    assert caught.value.status is Exit.DATAERR


@pytest.mark.parametrize("times", [1, 3])
def test_an_opening_that_fails_is_tried_again(tmp_path, monkeypatch, caplog, times) -> None:
    """Each failure is logged with its extended code."""
    left = [make_error(sqlite3.SQLITE_IOERR_SHMMAP, "disk I/O error")] * times

    def failing(path: Path) -> sqlite3.Connection:
        if left:
            raise left.pop()
        return connect(path)

    monkeypatch.setattr(opening, "connect", failing)
    store = SqliteStore(f"sqlite://{tmp_path}/q.db")
    opened = store.open(is_fresh=True)
    store.close(in_order=True)

    assert opened.serial == 1
    assert caplog.text.count("not opened (disk I/O error, SQLITE_IOERR_SHMMAP), trying again") == times


def test_an_opening_that_fails_for_good_is_given_up(tmp_path, monkeypatch) -> None:
    """After a second or so, with the reason."""

    def failing(_: Path) -> sqlite3.Connection:
        raise make_error(sqlite3.SQLITE_IOERR_SHMMAP, "disk I/O error")

    monkeypatch.setattr(opening, "connect", failing)
    store = SqliteStore(f"sqlite://{tmp_path}/q.db")
    with pytest.raises(StoreError, match=r"cannot be read or written \(disk I/O error, SQLITE_IOERR_SHMMAP\)"):
        store.open(is_fresh=True)
    abandon(store)


def test_damage_is_not_tried_again(tmp_path, monkeypatch, caplog) -> None:
    """It does not pass."""
    path = tmp_path / "q.db"
    path.write_bytes(b"notes of mine\n" * 1000)
    store = SqliteStore(f"sqlite://{path}")
    with pytest.raises(StoreError, match="is damaged"):
        store.open(is_fresh=True)
    abandon(store)

    assert caplog.text == ""
