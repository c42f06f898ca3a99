"""The SQLite backend: its files, versions, what it says when something is wrong, and how it is mended."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
from contextlib import closing
from pathlib import Path

import pytest
from support.disks import mounted

from forkbroker.errors import ConfigurationError, Exit
from forkbroker.posix import children
from forkbroker.store.api import Message, StoreError
from forkbroker.store.sqlite import SqliteStore
from forkbroker.wire.kinds import Kind
from store.databases import QUEUE, fill, overwrite, page_of, query, root_page
from store.driven import bodies_of, serials_of, write


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the database is to be."""
    return tmp_path / "state" / "queues.db"


@pytest.fixture
def url(path: Path) -> str:
    """The same as the broker's option has it."""
    return f"sqlite://{path}"


# -- URL and files


@pytest.mark.parametrize("url", ["sqlite:", "sqlite:queues.db", "sqlite://queues.db", "sqlite:///", "sqlite:///a/"])
def test_an_url_without_an_absolute_name_is_refused(url) -> None:
    """With what would be right."""
    with pytest.raises(ConfigurationError, match="sqlite:///var/lib"):
        SqliteStore(url)


def test_the_url_may_have_escapes() -> None:
    """As URLs may."""
    assert SqliteStore("sqlite:///var/a%20b.db").path == Path("/var/a b.db")


def test_the_files_are_the_brokers_alone(url, path) -> None:
    """The directory is made, and all in it, for nobody else to read."""
    store = SqliteStore(url)
    store.open(is_fresh=True)
    store.write([Message(1, QUEUE, b"1-s-1", b"", b"secret")])
    modes = {entry.name: stat.S_IMODE(entry.stat().st_mode) for entry in path.parent.iterdir()}
    store.close(in_order=True)

    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert modes == {
        f"queues.db{end}": 0o600 for end in ("", "-wal", "-shm", "-lock", "-overflow", "-overflow-journal")
    } or modes == {f"queues.db{end}": 0o600 for end in ("", "-wal", "-shm", "-lock", "-overflow")}


@pytest.mark.parametrize("count", [1, 2, 31, 32, 33, 63, 100])
def test_each_message_of_a_group_is_a_row(store, count) -> None:
    """However many go into one statement: none is left out, or has the values of another one."""
    store.open(is_fresh=True)
    messages = [
        Message(serial, QUEUE, b"%d-s-1" % serial, b"n:%d\n" % (serial // 7), b"body %d" % serial)
        for serial in range(1, count + 1)
    ]
    store.write(messages)
    found, has_more = store.read(QUEUE, 4, 0, 1_000_000)

    assert (found, has_more) == (messages, False)


def test_a_message_that_is_there_already_hinders_no_other_one(store) -> None:
    """Also when it is one of many that go into one statement."""
    store.open(is_fresh=True)
    messages = [Message(serial, QUEUE, b"%d-s-1" % serial, b"", b"body %d" % serial) for serial in range(1, 51)]
    store.write([messages[40]])
    store.write(messages)
    found, _ = store.read(QUEUE, 4, 0, 1_000_000)

    assert found == messages


def test_after_an_end_in_order_the_database_is_one_file(path) -> None:
    """Beside the lock, which stays: whoever waits for it has it open."""
    fill(path, range(1, 11))

    assert {entry.name for entry in path.parent.iterdir()} == {"queues.db", "queues.db-lock"}


def test_others_may_read_while_the_broker_runs(start_store, url, path) -> None:
    """In words, and with what was committed last."""
    store = start_store(url)
    store.hear(Kind.OPENED)
    store.tell(write(1, [b"hello"]))
    store.hear(Kind.COMMITTED, 1)

    found = query(path, "SELECT queue, priority, deliveries, message_id, headers, octets, body FROM readable")

    assert found == [("/queue/a", 4, 0, "1-0123456789abcdef-7", "destination:/queue/a\n", 5, "hello")]


def test_a_queue_can_be_mended_by_hand(url, path) -> None:
    """What a person has written is delivered, with what was left out in its place."""
    fill(path, range(1, 3))
    query(path, "DELETE FROM messages WHERE serial = 1")
    query(path, "INSERT INTO messages (queue, headers, body) VALUES ('/queue/a', 'by:hand', 'text')")
    store = SqliteStore(url)
    opened = store.open(is_fresh=True)
    found, _ = store.read(QUEUE, 4, 0, 1 << 20)
    store.close(in_order=True)

    assert opened.serial == 4
    assert [(item.serial, item.message_id, item.headers, item.body) for item in found[1:]] == [
        (3, b"", b"by:hand", b"text")
    ]


def test_a_message_written_by_hand_is_paged(start_store, url, path) -> None:
    """As one that came from a client."""
    fill(path, range(1, 2))
    query(path, "INSERT INTO messages (queue, headers, body) VALUES ('/queue/a', 'by:hand', 'text')")
    store = start_store(url)
    store.hear(Kind.OPENED)

    page, _ = store.fetch()

    assert (page.serial, page.count) == (1, 2)
    assert bodies_of([page])[1] == b"0-store-0\nby:hand\n\ntext"


# -- the lock


def test_a_second_broker_is_told_who_the_first_one_is(start_store, url) -> None:
    """By its process number: here this test's."""
    first = start_store(url)
    first.hear(Kind.OPENED)

    status = _open_as_other_broker(url)

    assert status == 7


def _open_as_other_broker(url: str) -> int:
    """In a child of a child; 7: refused with the number of the first one."""
    first = os.getpid()

    def store() -> int:
        try:
            SqliteStore(url).open(is_fresh=True)
        except StoreError as error:
            return 7 if f"process {first} " in str(error) and error.status is Exit.UNAVAILABLE else 1
        return 0

    def broker() -> int:
        return os.waitstatus_to_exitcode(os.waitpid(children.fork(store, ()), 0)[1])

    return os.waitstatus_to_exitcode(os.waitpid(children.fork(broker, ()), 0)[1])


# -- damage


def test_damage_is_reported_with_what_to_do(start_store, url, path) -> None:
    """After an end in disorder the whole database is looked at; it is left as it is."""
    fill(path, range(1, 1001), in_order=False)
    overwrite(path, page_of(path, 500))
    before = path.read_bytes()

    store = start_store(url)
    failed = store.hear(Kind.FAILED)

    assert str(path).encode() in failed.block
    assert b"--store-repair" in failed.block
    assert store.wait_end() == failed.token == Exit.DATAERR
    assert path.read_bytes() == before


@pytest.mark.parametrize("length", [8192, 5000, 100_000])
def test_a_database_that_is_too_short_is_not_used(start_store, url, path, length) -> None:
    """However orderly it was closed."""
    fill(path, range(1, 1001))
    os.truncate(path, length)

    store = start_store(url)

    assert store.hear(Kind.FAILED).token == Exit.DATAERR
    assert store.wait_end() == Exit.DATAERR


def test_a_file_that_is_no_database_is_not_used(start_store, url, path) -> None:
    """Nor replaced."""
    path.parent.mkdir()
    path.write_bytes(b"notes of mine\n" * 1000)

    store = start_store(url)

    assert store.hear(Kind.FAILED).token == Exit.DATAERR
    assert store.wait_end() == Exit.DATAERR
    assert path.read_bytes() == b"notes of mine\n" * 1000


def test_repair_saves_all_that_can_be_read(start_store, url, path) -> None:
    """What is lost was on the damaged pages; the damaged file is aside."""
    fill(path, range(1, 2001), in_order=False)
    for page in [page_of(path, serial) for serial in (100, 500, 1999)]:
        overwrite(path, page)
    damaged = path.read_bytes()

    store = start_store(url, repair=True)
    opened = store.hear(Kind.OPENED)
    serials = serials_of(store.fetch())
    (aside,) = path.parent.glob("queues.db.corrupt-*")

    assert opened.flags
    assert 1950 <= len(serials) < 2000
    assert serials == sorted(serials)
    assert {1, 50, 150, 450, 550, 1900}.issubset(serials)
    assert aside.read_bytes() == damaged
    assert store.close() == Exit.OK


def test_repair_saves_what_the_schema_still_leads_to(start_store, url, path) -> None:
    """A root page of the index is gone: every message can be read."""
    fill(path, range(1, 1001))
    overwrite(path, root_page(path, "messages_in_queues"))

    store = start_store(url, repair=True)
    store.hear(Kind.OPENED)

    assert serials_of(store.fetch()) == list(range(1, 1001))


def test_repair_of_a_file_that_can_not_be_read_at_all_moves_it_aside(start_store, url, path) -> None:
    """The store is empty; nothing was thrown away."""
    path.parent.mkdir()
    path.write_bytes(b"\xa5" * 50_000)

    store = start_store(url, repair=True)
    store.hear(Kind.OPENED)
    (aside,) = path.parent.glob("queues.db.corrupt-*")

    assert store.fetch()[-1].count == 0
    assert aside.read_bytes() == b"\xa5" * 50_000


def test_repair_saves_what_is_left_of_a_truncated_database(start_store, url, path) -> None:
    """Here the first half, more or less."""
    fill(path, range(1, 1001))
    os.truncate(path, path.stat().st_size // 2 // 8192 * 8192)

    store = start_store(url, repair=True)
    store.hear(Kind.OPENED)

    assert len(serials_of(store.fetch())) > 300


def test_repair_leaves_a_sound_database_alone(start_store, url, path) -> None:
    """Nothing is moved."""
    fill(path, range(1, 101))

    store = start_store(url, repair=True)
    store.hear(Kind.OPENED)

    assert len(serials_of(store.fetch())) == 100
    assert not list(path.parent.glob("*corrupt*"))


# -- other trouble


def test_a_database_that_somebody_has_locked_is_told(start_store, url, path) -> None:
    """After a while, and the next process goes on when the lock is gone."""
    store = start_store(url)
    store.hear(Kind.OPENED)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        store.tell(write(1, [b"a"]))
        failed = store.hear(Kind.FAILED)
        connection.execute("ROLLBACK")

    assert b"locked" in failed.block
    assert failed.token == Exit.UNAVAILABLE
    assert store.wait_end() == Exit.UNAVAILABLE


@pytest.mark.skipif(os.getuid() != 0, reason="only root may mount a small file system")
def test_a_file_system_without_room_is_told(start_store, tmp_path) -> None:
    """All is there when there is room again."""
    with mounted(tmp_path / "small", 4) as directory:
        store = start_store(f"sqlite://{directory}/queues.db")
        try:
            store.hear(Kind.OPENED)
            for number in range(1, 81):
                store.channel.send(write(number, [os.urandom(100_000)]))
            store.wait(lambda: [e for e in store.heard if e.kind is Kind.DISK and e.token], "that the disk is full")
            committed = max((e.number for e in store.heard if e.kind is Kind.COMMITTED), default=0)
            short = [e.block for e in store.heard if e.kind is Kind.DISK and e.token]
            subprocess.run(["mount", "-o", "remount,size=64m", directory], check=True)
            store.hear(Kind.COMMITTED, 80)
            serials = serials_of(store.fetch())
        finally:
            store.end()

    assert b"full" in short[-1]
    assert committed < 80
    assert serials == list(range(1, 81))


def test_what_is_set_aside_is_whole_when_it_is_synced(tmp_path, monkeypatch) -> None:
    """Its sender was refused, and nobody else has it: it is to outlive the power as well."""
    store = SqliteStore(f"sqlite://{tmp_path}/queues.db")
    synced: list[bytes] = []
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(Path(f"/dev/fd/{fd}").read_bytes()))

    store.set_aside(7, b"octets")

    assert synced == [b"octets"]
