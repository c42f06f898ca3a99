"""The overflow: chunks are found as long as their broker lives, and the disk gets its room back when none is left."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from forkbroker.errors import Exit
from forkbroker.store.api import Chunk, Forget, Message, Purge, SerialTakenError, StoreError
from forkbroker.store.database import translating
from forkbroker.store.overflow import Overflow, describe_damaged_overflow
from forkbroker.store.sqlite import SqliteStore

A, B = b"/queue/a", b"/queue/b"
_MIB = 1 << 20


def chunk(serial: int, queue: bytes = A, *, size: int = _MIB, priority: int = 4) -> Chunk:
    """Some octets."""
    return Chunk(serial, queue, priority, 10, bytes(size))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the overflow is."""
    return tmp_path / "queues.db-overflow"


@pytest.fixture
def overflow(path: Path) -> Iterator[Overflow]:
    """A new one."""
    overflow = Overflow(path, is_fresh=True)
    yield overflow
    overflow.close(in_order=True)


def filled(overflow: Overflow, queue: bytes = A, first: int = 1) -> None:
    """Forty MiB."""
    for serial in range(first, first + 40):
        overflow.write([chunk(serial, queue)])


@pytest.mark.parametrize("change", [Purge(A), Forget(A)])
def test_a_purge_gives_the_room_back(overflow, path, change) -> None:
    """When nothing of any queue is left; before that the room is used again."""
    filled(overflow)
    overflow.write([chunk(1000, B)])
    before = path.stat().st_size
    overflow.write([change])
    between = path.stat().st_size
    overflow.write([Purge(B)])

    assert before == between > 40 * _MIB
    assert path.stat().st_size < _MIB


def test_reading_gives_the_room_back(overflow, path) -> None:
    """The last chunk that is in memory again."""
    filled(overflow)
    overflow.take(A, 4, 39)
    before = path.stat().st_size
    overflow.take(A, 4, 40)

    assert before > 40 * _MIB
    assert path.stat().st_size < _MIB


def test_a_small_file_is_left_as_it_is(overflow, path) -> None:
    """To make it anew each time would cost more."""
    for serial in range(1, 6):
        overflow.write([chunk(serial)])
    before = path.stat().st_size
    overflow.write([Purge(A)])

    assert path.stat().st_size == before > 5 * _MIB


def test_the_next_process_gives_the_room_back(path) -> None:
    """The one before was killed between the last deletion and this."""
    first = Overflow(path, is_fresh=True)
    filled(first)
    first._connection.execute("DELETE FROM chunks")
    first.close(in_order=False)
    before = path.stat().st_size

    again = Overflow(path, is_fresh=False)
    after = path.stat().st_size
    again.close(in_order=True)

    assert before > 40 * _MIB
    assert after < _MIB


def test_a_store_through_which_much_has_gone_is_small(tmp_path, path) -> None:
    """The whole backend, with a purge that concerns persistent messages, too."""
    store = SqliteStore(f"sqlite://{tmp_path}/queues.db")
    store.open(is_fresh=True)
    store.write([chunk(serial) for serial in range(1, 41)])
    store.write([Message(50, A, b"1-s-1", b"", b"x"), Purge(A)])
    found = store.read(A, 4, 0, _MIB), path.stat().st_size
    store.close(in_order=True)

    assert found[0] == ([], False)
    assert found[1] < _MIB


def test_chunks_are_read_in_order_up_to_a_limit(overflow) -> None:
    """So many octets, and one chunk more."""
    overflow.write([chunk(serial, size=100) for serial in (3, 1, 2, 4)])
    overflow.write([chunk(9, B, size=100), chunk(8, priority=9, size=100)])

    assert [item.serial for item in overflow.read(A, 4, 0, 150)] == [1, 2, 3]
    assert [item.serial for item in overflow.read(A, 4, 1, 1)] == [2, 3]
    assert [item.serial for item in overflow.read(A, 4, 0, 1000)] == [1, 2, 3, 4]
    assert [item.serial for item in overflow.read(A, 4, 4, 1000)] == []
    assert [item.serial for item in overflow.read(A, 9, 0, 1000)] == [8]


def test_what_is_taken_is_gone(overflow) -> None:
    """Up to its serial, of its queue and priority alone."""
    overflow.write([chunk(1), chunk(2), chunk(3), chunk(4, B), chunk(5, priority=9)])

    overflow.take(A, 4, 2)

    assert [item.serial for item in overflow.read(A, 4, 0, _MIB * 9)] == [3]
    assert [item.serial for item in overflow.read(B, 4, 0, _MIB * 9)] == [4]
    assert [item.serial for item in overflow.read(A, 9, 0, _MIB * 9)] == [5]


def test_a_chunk_after_all_were_taken_is_found(overflow) -> None:
    """That nothing was there is not remembered for ever."""
    overflow.write([chunk(1)])
    overflow.take(A, 4, 1)
    overflow.write([Purge(A), Purge(B)])
    overflow.write([chunk(2)])

    assert [item.serial for item in overflow.read(A, 4, 0, 1)] == [2]


def test_a_chunk_that_is_told_again_is_there_once(overflow) -> None:
    """As after the death of the process; another one of its serial is refused, and nothing of its group is kept."""
    overflow.write([chunk(1), chunk(2)])
    overflow.write([chunk(1), chunk(2), chunk(3)])

    with pytest.raises(SerialTakenError, match=r"serial 3 .*/queue/b.*/queue/a"):
        overflow.write([chunk(4), chunk(3, B)])

    assert [item.serial for item in overflow.read(A, 4, 0, 9 * _MIB)] == [1, 2, 3]


def test_a_fresh_start_finds_none(path) -> None:
    """Another process of the same broker finds all; an end in order leaves no file."""
    first = Overflow(path, is_fresh=True)
    first.write([chunk(1)])
    first.close(in_order=False)
    second = Overflow(path, is_fresh=False)
    found = [item.serial for item in second.read(A, 4, 0, 1)]
    second.close(in_order=False)
    third = Overflow(path, is_fresh=True)
    left = third.read(A, 4, 0, 1)
    third.close(in_order=True)

    assert found == [1]
    assert left == []
    assert list(path.parent.iterdir()) == []


def test_a_damaged_file_is_told_with_what_is_lost(path) -> None:
    """The next start of the broker empties it."""
    first = Overflow(path, is_fresh=True)
    first.write([chunk(serial) for serial in range(1, 10)])
    first.close(in_order=False)
    with path.open("r+b") as file:
        file.seek(65_536)
        file.write(b"\xa5" * 9 * _MIB)

    with (
        pytest.raises(StoreError, match=r"is damaged: .* what overflowed the memory is lost") as caught,
        translating(path, describe_damaged_overflow),
    ):
        Overflow(path, is_fresh=False)

    assert caught.value.status is Exit.DATAERR
    Overflow(path, is_fresh=True).close(in_order=True)
