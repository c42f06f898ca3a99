"""The owner's token: of two brokers on one database the second is refused, or the first one ends before it answers."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from copy import deepcopy
from pathlib import Path

import pytest

from forkbroker.errors import Exit
from forkbroker.posix import children
from forkbroker.store import lock
from forkbroker.store.api import StoreError
from forkbroker.store.locate import make_store
from forkbroker.store.owner import find_processes
from forkbroker.store.sqlite import SqliteStore
from forkbroker.wire.kinds import Flag, Kind
from store.databases import abandon, fill, make_message, query, read_queue
from store.driven import serials_of, write


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the database is."""
    (tmp_path / "state").mkdir()
    return tmp_path / "state" / "queues.db"


def open_as_another(path: Path) -> tuple[int, str]:
    """Open it in a child of a child, as another broker's store does, which then dies; exit status and reason."""
    reading, writing = os.pipe()

    def store() -> int:
        try:
            SqliteStore(f"sqlite://{path}").open(is_fresh=True)
        except StoreError as error:
            os.write(writing, str(error).encode())
            return int(error.status)
        return 0

    def broker() -> int:
        return os.waitstatus_to_exitcode(os.waitpid(children.fork(store, [writing]), 0)[1])

    status = os.waitstatus_to_exitcode(os.waitpid(children.fork(broker, [writing]), 0)[1])
    os.close(writing)
    with os.fdopen(reading) as file:
        return status, file.read()


@pytest.mark.parametrize("how", ["symlink", "hard link", "symlinked directory", "no lock file"])
def test_a_second_broker_is_refused_whatever_name_it_uses(start_store, path, how) -> None:
    """At its opening, with exit status 69 and the number of the first one; that goes on."""
    store = start_store(f"sqlite://{path}")
    store.hear(Kind.OPENED)
    store.tell(write(1, [b"a"]))
    store.hear(Kind.COMMITTED, 1)
    other = path.parent.parent / "other" / "queues.db"
    if how == "symlinked directory":
        other.parent.symlink_to(path.parent)
        Path(f"{path}-lock").unlink()
    elif how == "no lock file":
        Path(f"{path}-lock").unlink()
        other = path
    else:
        other.parent.mkdir()
        (os.symlink if how == "symlink" else os.link)(path, other)

    status, reason = open_as_another(other)
    store.tell(write(2, [b"b"]))
    store.hear(Kind.COMMITTED, 2)

    assert (status, f"process {os.getpid()} holds {other}" in reason) == (Exit.UNAVAILABLE, True), reason
    assert serials_of(store.fetch()) == [1, 2]
    assert store.close() == Exit.OK


def test_a_broker_that_has_lost_the_database_writes_nothing_more(start_store, path, monkeypatch) -> None:
    """Where the second one could not be refused: the first one ends before it answers, and for good."""
    monkeypatch.setattr(lock, "_OFD_SETLK", None)
    store = start_store(f"sqlite://{path}")
    store.hear(Kind.OPENED)
    store.tell(write(1, [b"a"]))
    store.hear(Kind.COMMITTED, 1)
    Path(f"{path}-lock").unlink()

    status, _ = open_as_another(path)
    store.tell(write(2, [b"b"]))
    failed = store.hear(Kind.FAILED)

    assert status == 0
    assert store.wait_end() == failed.token == Exit.UNAVAILABLE
    assert failed.flags & Flag.FINAL
    assert str(path).encode() in failed.block
    assert not [envelope for envelope in store.heard if envelope.number == 2 and envelope.kind is Kind.COMMITTED]
    assert query(path, "SELECT serial FROM messages") == [(1,)]


def test_a_later_process_of_the_store_does_not_take_the_database_back(start_store, path) -> None:
    """Another broker came in between two of them."""
    store = start_store(f"sqlite://{path}")
    store.hear(Kind.OPENED)
    store.kill()

    status, _ = open_as_another(path)
    again = start_store(f"sqlite://{path}", is_fresh=False)
    failed = again.hear(Kind.FAILED)

    assert status == 0
    assert again.wait_end() == failed.token == Exit.UNAVAILABLE
    assert failed.flags & Flag.FINAL


def test_a_broker_that_has_lost_the_database_does_not_call_it_in_order(start_store, path, monkeypatch) -> None:
    """That would be the other one's end."""
    monkeypatch.setattr(lock, "_OFD_SETLK", None)
    store = start_store(f"sqlite://{path}")
    store.hear(Kind.OPENED)
    Path(f"{path}-lock").unlink()
    open_as_another(path)

    assert store.close() == Exit.UNAVAILABLE
    assert query(path, "SELECT value FROM meta WHERE name = 'in_order'") == [(0,)]


def test_later_processes_of_one_broker_have_its_token(path) -> None:
    """They are made from one object."""
    made = make_store(f"sqlite://{path}")
    for is_fresh in (True, False, False):
        store = deepcopy(made)
        opened = store.open(is_fresh=is_fresh)
        store.write([make_message(opened.serial)])
        store.close(in_order=False)

    assert query(path, "SELECT serial FROM messages") == [(1,), (2,), (3,)]


def test_a_database_that_is_removed_is_not_made_again(start_store, path) -> None:
    """The store says what is wrong, and goes on when the file is back: what was not committed can be told again."""
    store = start_store(f"sqlite://{path}")
    store.hear(Kind.OPENED)
    store.tell(write(1, [b"a"]))
    store.hear(Kind.COMMITTED, 1)
    aside = path.parent / "aside"
    aside.mkdir()
    for entry in list(path.parent.glob("queues.db*")):
        entry.rename(aside / entry.name)
    store.tell(write(2, [b"b"]))
    first = store.hear(Kind.FAILED)
    again = start_store(f"sqlite://{path}", is_fresh=False)
    second = again.hear(Kind.FAILED)
    assert not path.exists()
    for entry in list(aside.iterdir()):
        entry.rename(path.parent / entry.name)
    last = start_store(f"sqlite://{path}", is_fresh=False)
    last.hear(Kind.OPENED)

    assert not first.flags & Flag.FINAL
    assert b"is gone: it was removed" in first.block
    assert b"is gone: it was removed" in second.block
    assert 1 in serials_of(last.fetch())


@pytest.mark.parametrize("is_one_by_one", [False, True])
@pytest.mark.parametrize("is_replaced", [False, True])
def test_what_is_written_to_a_file_that_was_removed_has_failed(path, is_one_by_one, is_replaced) -> None:
    """It would be gone with this process: so nobody gets a receipt for it."""
    store = SqliteStore(f"sqlite://{path}")
    store.open(is_fresh=True)
    store.write([make_message(1)])
    path.rename(path.parent / "aside.db")
    if is_replaced:
        path.write_bytes((path.parent / "aside.db").read_bytes())

    with pytest.raises(StoreError, match="has taken the place" if is_replaced else "is gone: it was removed") as caught:
        if is_one_by_one:
            store.write_one_by_one([[make_message(2)]])
        else:
            store.write([make_message(2)])
    store.close(in_order=False)

    assert caught.value.status is Exit.IOERR


@pytest.mark.parametrize("what", ["empty", "another"])
def test_another_file_in_the_place_of_the_database_is_not_used(path, what) -> None:
    """An empty one, or one of no broker."""
    made = make_store(f"sqlite://{path}")
    store = deepcopy(made)
    store.open(is_fresh=True)
    store.close(in_order=False)
    path.unlink()
    if what == "empty":
        path.touch()
    else:
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("CREATE TABLE meta (name, value)")

    again = deepcopy(made)
    with pytest.raises(StoreError, match=r"is gone: it was|is not the database") as caught:
        again.open(is_fresh=False)
    abandon(again)

    assert not caught.value.is_final


def test_a_crash_under_another_name_is_not_overlooked(path) -> None:
    """The last changes are in the log beside that name: by this one they would be lost."""
    other = path.parent / "other.db"
    open_as_another(path)
    assert Path(f"{path}-wal").exists()
    os.link(path, other)

    store = SqliteStore(f"sqlite://{other}")
    with pytest.raises(StoreError, match="several names") as caught:
        store.open(is_fresh=True)
    abandon(store)

    assert caught.value.status is Exit.CONFIG
    assert open_as_another(path)[0] == 0


def test_a_second_name_does_no_harm_otherwise(path) -> None:
    """After an end in order, and by the name that was used."""
    fill(path, range(1, 11))
    os.link(path, path.parent / "backup.db")
    store = SqliteStore(f"sqlite://{path}")
    store.open(is_fresh=True)
    found = len(read_queue(store))
    store.close(in_order=True)

    assert found == 10


def test_the_processes_of_an_unknown_database_are_unknown(tmp_path) -> None:
    """No file, no database, no tables, no numbers."""
    (tmp_path / "text").write_bytes(b"x" * 5000)
    with closing(sqlite3.connect(tmp_path / "empty.db")) as connection:
        connection.execute("CREATE TABLE meta (name, value)")

    assert [find_processes(tmp_path / name) for name in ("text", "empty.db")] == [(0, 0), (0, 0)]
