"""When the parent is told to accept nothing more, and how much there is room for."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from forkbroker.store import disk
from forkbroker.store.api import Delete, Message
from forkbroker.store.disk import Disk
from forkbroker.store.memory import MemoryStore

MIB = 1 << 20


class Store(MemoryStore):
    """So much is free as it was told, and it has a reserve or not."""

    def __init__(self) -> None:
        super().__init__("memory:")
        self.left = 100 * MIB
        self.has_reserve = True
        self.looks = 0

    def free(self) -> int:
        self.looks += 1
        return self.left

    def keep_room(self) -> bool:
        return self.has_reserve

    @property
    def kept(self) -> int:
        return 3 * MIB if self.has_reserve else 0


class Clock:
    now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch) -> Iterator[Clock]:
    """The monotonic clock, in the test's hand."""
    clock = Clock()
    monkeypatch.setattr(disk, "time", clock)
    yield clock


def test_what_the_parent_knows_already_is_not_told(clock) -> None:
    """A fresh one believes that there is plenty; one that had another store has to be told."""
    store = Store()
    store.left = 5 << 30

    assert Disk(store, MIB, is_fresh=True).look(0) is None
    assert Disk(store, MIB, is_fresh=False).look(0) == ("", (5 << 30) - 3 * MIB)


def test_the_room_is_what_is_free_above_the_watermark(clock) -> None:
    """Told again when it has changed by a MiB."""
    store = Store()
    it = Disk(store, 10 * MIB, is_fresh=True)

    assert it.look(0) == ("", 90 * MIB)
    for left, told in ((99.5, ("", int(89.5 * MIB))), (99.2, None), (98.9, ("", int(98.9 * MIB) - 10 * MIB))):
        clock.now += 1
        store.left = int(left * MIB)
        assert it.look(0) == told


def test_it_is_looked_at_each_second_or_when_much_was_written(clock) -> None:
    """A fast producer fills a disk within a second: what is written, or waits to be, counts."""
    store = Store()
    it = Disk(store, 10 * MIB, is_fresh=True)
    it.look(0)

    it.look(MIB - 1)
    it.written(MIB // 2)
    it.look(MIB // 2 - 1)
    assert store.looks == 1
    it.look(MIB // 2)
    assert store.looks == 2
    it.written(MIB)
    it.look(0)
    assert store.looks == 3
    it.look(0)
    clock.now += 0.99
    it.look(0)
    assert store.looks == 3
    clock.now += 0.01
    it.look(0)
    assert store.looks == 4


def test_below_the_watermark_is_short_and_a_tenth_above_it_is_not(clock) -> None:
    """Exactly at it there is enough; coming from below, not yet."""
    store = Store()
    it = Disk(store, 10 * MIB, is_fresh=True)
    store.left = 10 * MIB
    assert it.look(0) == ("", 0)

    seen = []
    for left in (10 * MIB - 1, 10 * MIB, 11 * MIB - 1, 11 * MIB):
        clock.now += 1
        store.left = left
        said = it.look(0)
        seen.append(None if said is None else bool(said[0]))

    assert seen == [True, None, None, False]


def test_without_a_watermark_whatever_there_is_will_do(clock) -> None:
    """Down to the reserve, unless the disk refuses; with one, the reserve is a part of it."""
    store = Store()
    store.left = 4 * MIB

    assert Disk(store, 0, is_fresh=True).look(0) == ("", MIB)
    assert Disk(store, 2 * MIB, is_fresh=True).look(0) == ("", MIB)
    assert Disk(store, 4 * MIB, is_fresh=True).look(0) == ("", 0)


def test_a_disk_that_refuses_is_short_at_once_and_tried_each_second(clock) -> None:
    """Whatever is free: it may be a quota."""
    it = Disk(Store(), 0, is_fresh=True)
    it.look(0)
    assert it.may_try()

    it.fails("quota")
    assert it.is_stuck
    assert it.look(0) == ("quota", 97 * MIB)
    assert not it.may_try()
    clock.now += 1
    assert it.may_try()
    assert it.works()
    assert not it.works()
    assert it.look(0) == ("", 97 * MIB)


def test_after_a_refusal_there_is_no_room_before_there_is_enough_to_settle_messages(clock) -> None:
    """The reserve, or as much within the store; at the start it may be missing."""
    store = Store()
    store.has_reserve = False
    store.left = 2 * MIB - 1
    it = Disk(store, 0, is_fresh=True)
    assert it.look(0) == ("", 2 * MIB - 1)
    it.fails("full")
    it.look(0)

    it.works()
    assert it.look(0) is None
    store.left = 2 * MIB
    clock.now += 1
    assert it.look(0) == ("", 2 * MIB)


def test_what_used_the_reserve_up_is_the_last_that_was_accepted(clock) -> None:
    """It was written, and still nothing more should come."""
    store = Store()
    it = Disk(store, 0, is_fresh=True)
    it.look(0)
    store.has_reserve = False
    store.left = MIB
    clock.now += 1
    assert it.look(0) == ("", MIB)

    it.used_reserve()
    assert it.may_try()
    said = it.look(0)
    assert said is not None
    assert "what consumers settle" in said[0]


@pytest.mark.parametrize("has_refused", [False, True])
def test_new_messages_leave_what_deletions_need(has_refused) -> None:
    """Twice their octets have to be free, as they go through the log, beside what settling needs."""
    store = Store()
    store.has_reserve = False
    it = Disk(store, 0, is_fresh=True)
    if has_refused:
        it.fails("full")
    store.left = 4 * MIB - 1
    assert it.find_shortage(MIB) == (
        "full" if has_refused else "the disk is full: 4,194,303 bytes are free, and 4,194,304 are needed"
    )
    store.left = 4 * MIB
    assert not it.find_shortage(MIB)


def test_what_was_written_is_counted_until_the_disk_is_looked_at_again() -> None:
    """It is asked only when it matters."""
    store = Store()
    it = Disk(store, 0, is_fresh=True)
    assert not it.find_shortage(MIB)
    for _ in range(47):
        it.written(MIB)
        assert not it.find_shortage(MIB // 2)
    assert store.looks == 1

    it.written(MIB)
    store.left = 5 * MIB
    assert it.find_shortage(MIB // 2)
    assert store.looks == 2


def test_the_real_backend_says_what_is_free() -> None:
    """No stand-in: what is written and deleted shows."""
    store = MemoryStore("memory:10MiB")
    store.open(is_fresh=True)
    it = Disk(store, 4 * MIB, is_fresh=True)
    assert it.look(0) == ("", 6 * MIB)
    store.write([Message(1, b"/queue/a", b"1-s-1", b"", bytes(7 * MIB))])
    it.written(7 * MIB)

    said = it.look(0)
    assert said is not None
    assert said[0].endswith("4,194,304 should be (--disk-free)")
    store.write([Delete(1, 1)])
    it.written(MIB)
    assert it.look(0) == ("", 6 * MIB)
