"""The backend in memory: what it counts, and what it forgets."""

from __future__ import annotations

import pytest

from forkbroker.store import memory
from forkbroker.store.api import (
    MESSAGE_OVERHEAD,
    Chunk,
    Define,
    Delete,
    Forget,
    Message,
    Move,
    Purge,
    Remember,
    SerialTakenError,
    Update,
)
from forkbroker.store.memory import MemoryStore
from forkbroker.wire.details import DURABLY, Details

A, B = b"/queue/a", b"/queue/b"
SIZE = 100_000
PLENTY = 1 << 30


def make_store(*changes: object) -> MemoryStore:
    store = MemoryStore(f"memory:{SIZE}")
    store.open(is_fresh=True)
    store.write(changes)  # type: ignore[arg-type]
    return store


def message(serial: int, body: bytes = b"x" * 100, queue: bytes = A, details: Details = DURABLY) -> Message:
    return Message(serial, queue, b"%d-s-1" % serial, b"a:b\n", body, 0, details)


def chunk(serial: int, octets: int = 50, queue: bytes = A, priority: int = 4) -> Chunk:
    return Chunk(serial, queue, priority, 2, bytes(octets))


WEIGHT = 100 + len(b"a:b\n") + MESSAGE_OVERHEAD


def used(store: MemoryStore) -> int:
    return SIZE - store.free()


def test_what_is_kept_is_counted() -> None:
    """Messages with their headers and an overhead, chunks as they are."""
    assert used(make_store()) == 0
    assert used(make_store(message(1), chunk(2))) == WEIGHT + 50


def test_what_is_told_again_is_counted_once() -> None:
    """It takes the place of itself."""
    assert used(make_store(message(1), message(1), chunk(2), chunk(2))) == WEIGHT + 50


@pytest.mark.parametrize(
    ("changes", "left"),
    [
        ([Delete(1, 1)], WEIGHT + 100),
        ([Delete(0, 9)], 100),
        ([Purge(A)], WEIGHT),
        ([Purge(B)], WEIGHT + 100),
        ([Forget(A)], WEIGHT),
        ([Move(1, 1, 9, 1, B, 0, DURABLY), Purge(A)], 2 * WEIGHT),
        ([Update(1, 2, 3, 1)], 2 * WEIGHT + 100),
    ],
)
def test_what_goes_is_counted_no_longer(changes, left) -> None:
    """One message in each of two queues, and two chunks in the first."""
    store = make_store(message(1), message(2, queue=B), chunk(3), chunk(5))

    store.write(changes)

    assert used(store) == left


def test_chunks_that_were_taken_are_counted_no_longer() -> None:
    """When what follows them is asked for; those of other priorities stay."""
    store = make_store(chunk(1), chunk(3), chunk(5, priority=9))

    assert store.read(A, 4, 1, PLENTY) == ([chunk(3)], False)
    assert used(store) == 100
    assert store.read(A, 9, 0, PLENTY) == ([chunk(5, priority=9)], False)


def test_a_purge_leaves_the_schedule() -> None:
    """What is due later is no message of the queue yet."""
    store = make_store(message(1, details=Details(persistent=True, due=9)), message(2))

    store.write([Purge(A)])

    assert [item.serial for item in store.scheduled()] == [1]
    assert used(store) == WEIGHT


def test_serials_of_what_is_gone_do_not_pile_up() -> None:
    """Ten thousand that come and go."""
    store = make_store()
    for serial in range(1, 10_001):
        store.write([message(serial), Delete(serial, serial)])
    (lane,) = store._lanes[A].values()

    assert len(lane.serials) < 200
    assert used(store) == 0


def test_chunks_that_were_read_go_whatever_has_come_and_gone_beside_them() -> None:
    """Many messages of the same queue that were settled meanwhile."""
    store = make_store(chunk(1), chunk(2))
    for serial in range(3, 1000):
        store.write([message(serial), Delete(serial, serial)])
    left = used(store)

    assert store.read(A, 4, 1, PLENTY) == ([chunk(2)], False)
    assert (left, used(store)) == (100, 50)


def test_an_update_changes_only_what_it_says() -> None:
    """Deliveries and crashes; the place stays."""
    store = make_store(message(1), message(2))

    store.write([Update(1, 1, 3, 2)])

    one, other = store.read(A, 4, 0, PLENTY)[0]
    assert one == message(1)._replace(deliveries=3, details=Details(persistent=True, crashes=2))
    assert other == message(2)


def test_what_takes_anothers_serial_is_refused_and_harms_nothing() -> None:
    """A message, a chunk, and one that is moved there."""
    store = make_store(message(1), message(2, b"other"), chunk(3))

    for change in (
        message(2, b"thief"),
        chunk(3, 51),
        chunk(1),
        message(3),
        Move(1, 1, 2, 1, A, 0, DURABLY),
    ):
        with pytest.raises(SerialTakenError):
            store.write([change])

    assert store.read(A, 4, 0, PLENTY) == ([message(1), message(2, b"other"), chunk(3)], False)


def test_dedup_ids_whose_time_is_over_are_forgotten() -> None:
    """At the latest when somebody asks."""
    far = Remember(A, b"far", 4_000_000_000_000)
    store = make_store(far, Remember(A, b"gone", 1))

    assert store.duplicates() == [far]


def test_dedup_ids_that_nobody_asks_for_are_forgotten_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once a minute, as more of them come: else a broker that never restarts would keep all that it has ever had."""

    class Clock:
        now = 1000.0

        def monotonic(self) -> float:
            return self.now

        time = monotonic

    clock = Clock()
    monkeypatch.setattr(memory, "time", clock)
    store = make_store()
    for _ in range(600):
        clock.now += 1
        store.write([Remember(A, b"%d" % clock.now, int(clock.now * 1000))])

    assert len(store._duplicates) <= 61


def test_durable_subscriptions_are_kept_by_name() -> None:
    """The last word counts; what is forgotten is gone."""
    store = make_store(Define(A, b"/topic/t", 1), Define(A, b"/topic/t", 5), Define(B, b"/topic/u", 2))
    store.write([Forget(B)])

    assert store.durables() == [Define(A, b"/topic/t", 5)]
