"""Queues at their limits, by what their policy says: hold, refuse, drop the oldest, or make dead letters of them."""

from __future__ import annotations

from itertools import pairwise
from random import Random

import pytest

from forkbroker.routing.queues.policies import Full, Policy, QueuePolicy, QueueRule
from forkbroker.wire.details import Reason, Wishes
from forkbroker.wire.envelope import Envelope
from forkbroker.wire.kinds import Flag, Kind, Outcome

from .simulation import DLQ, Child, World, make, make_send
from .stock import Stock

A, B = b"/queue/a", b"/queue/b"
MAKING_ROOM = [Full.DROP_OLDEST, Full.DEAD_LETTER]


def make_world(full: Full, *, length: int = 0, octets: int = 0, memory: int = 1 << 26) -> tuple[World, Child]:
    rule = QueueRule(A, {"full": full, "max_length": length, "max_bytes": octets})
    world = World(Policy(rules=(rule,), queue_memory=memory), slots=64, stock=Stock())
    return world, world.add_child()


def send(world: World, child: Child, *numbers: int, persistent: bool = False, priority: int = 4) -> None:
    for number in numbers:
        world.send(child, A, [b"%d" % number], persistent=persistent, wishes=Wishes(priority=priority))


def reader_of(world: World, name: bytes = A, credit: int = 1000) -> Child:
    child = world.add_child()
    world.subscribe(child, name, credit=credit)
    return child


def contents(world: World, name: bytes = A) -> list[int]:
    return list(map(int, world.consume(reader_of(world, name))))


# ---------------------------------------------------------------- hold


def test_a_queue_that_holds_takes_what_was_under_way() -> None:
    """HOLD goes out once, when the limit is reached, and nothing is lost."""
    world, child = make_world(Full.HOLD, length=3)

    send(world, child, 1, 2)
    assert world.answers(child) == []
    send(world, child, 3)
    assert world.answers(child) == [(Kind.HOLD, 0)]
    send(world, child, 4, 5)

    assert world.answers(child) == []
    assert contents(world) == [1, 2, 3, 4, 5]


def test_who_was_held_goes_on_below_four_fifths() -> None:
    """Not at each message that leaves."""
    world, child = make_world(Full.HOLD, length=10)
    send(world, child, *range(10))
    reader = reader_of(world, credit=1)
    assert world.answers(child) == [(Kind.HOLD, 0)]

    said = []
    for _ in range(4):
        offer = world.take_one(reader)
        world.settle(reader, offer.serial)
        world.hear(reader)
        said.append(world.answers(child))

    assert said == [[], [], [(Kind.RESUME, 0)], []]


def test_one_full_queue_holds_nobody_who_sends_to_another() -> None:
    """And who sends to both goes on only when both have room."""
    world, child = make_world(Full.HOLD, length=1)
    other = world.add_child()
    send(world, child, 1)
    world.send(other, B, [b"1"])

    assert world.answers(other) == []
    assert world.answers(child) == [(Kind.HOLD, 0)]


def test_what_the_store_has_counts_too() -> None:
    """The limit of octets is one of memory and store together."""
    world, child = make_world(Full.HOLD, octets=200_000, memory=40_000)

    for _ in range(30):
        world.send(child, A, [b"x" * 10_000])
        if world.answers(child):
            break

    view = world.view(A)
    assert view.paged > 0
    assert 200_000 <= view.octets < 211_000


def test_what_is_delivered_and_not_settled_counts_too() -> None:
    """A consumer that hoards makes no room."""
    world, child = make_world(Full.HOLD, length=3)
    reader = reader_of(world)
    send(world, child, 1, 2)
    world.take_one(reader)

    send(world, child, 3)

    assert world.answers(child) == [(Kind.HOLD, 0)]


# ---------------------------------------------------------------- refuse


def test_a_queue_that_refuses_names_the_limit_that_was_met() -> None:
    """Messages or octets; the messages before are all there."""
    world, child = make_world(Full.REFUSE, length=2)
    send(world, child, 1, 2)
    send(world, child, 3)
    assert world.refusal(child) == "queue /queue/a is full: 2 messages, the limit is 2 (max-queue-length, or a policy)"
    assert contents(world) == [1, 2]
    assert world.router.counters.messages_refused == 1

    world, child = make_world(Full.REFUSE, octets=1)
    send(world, child, 1, 2)
    assert world.refusal(child).endswith("bytes, the limit is 1 (max-queue-bytes, or a policy)")


def test_a_refusal_ends_with_the_first_message_that_leaves() -> None:
    """It is an answer to each SEND by itself."""
    world, child = make_world(Full.REFUSE, length=1)
    send(world, child, 1, 2)
    assert world.answers(child) == [(Kind.REFUSED, 0)]
    contents(world)

    send(world, child, 3)

    assert world.answers(child) == []
    assert contents(world) == [3]


def test_a_transaction_is_refused_by_one_full_queue() -> None:
    """All of it, with the fence's number."""
    world, child = make_world(Full.REFUSE, length=1)
    send(world, child, 1)
    parts = [make_send(B, [b"2"], persistent=True).raw, make_send(A, [b"3"]).raw]

    world.tell(child, make(Kind.TRANSACTION, count=2, payload=parts, flags=Flag.FENCE, number=6))

    assert world.answers(child) == [(Kind.REFUSED, 6)]
    assert [view.name for view in world.router.views()] == [A]
    assert not world.stock.told


# ---------------------------------------------------------------- make room


@pytest.mark.parametrize("persistent", [False, True])
def test_a_queue_that_drops_its_oldest_keeps_the_newest(persistent: bool) -> None:
    """In the store as well; nobody is held or refused."""
    world, child = make_world(Full.DROP_OLDEST, length=3)
    send(world, child, *range(10), persistent=persistent)

    assert world.answers(child) == []
    assert world.router.counters.messages_dropped == 7
    world.run_store()
    assert len(world.stock.rows) == (3 if persistent else 0)
    assert contents(world) == [7, 8, 9]
    assert not world.stock.rows


@pytest.mark.parametrize("persistent", [False, True])
def test_a_queue_may_make_dead_letters_of_its_oldest(persistent: bool) -> None:
    """With the reason, in their order."""
    world, child = make_world(Full.DEAD_LETTER, length=3)
    send(world, child, *range(6), persistent=persistent)

    letters = world.consume_offers(reader_of(world, DLQ))
    assert [(int(bytes(letter.pieces()[0])), letter.details.reason) for letter in letters] == [
        (0, Reason.LIMIT), (1, Reason.LIMIT), (2, Reason.LIMIT),
    ]  # fmt: skip
    assert contents(world) == [3, 4, 5]
    world.run_store()
    assert not world.stock.rows


@pytest.mark.parametrize("full", MAKING_ROOM)
def test_room_is_made_at_the_lowest_priority(full: Full) -> None:
    """Even the new message goes if it is of the least worth."""
    world, child = make_world(full, length=3)
    send(world, child, 1, 2, priority=2)
    send(world, child, 8, priority=8)
    send(world, child, 9, priority=9)
    send(world, child, 3, priority=0)

    assert contents(world) == [9, 8, 2]


@pytest.mark.parametrize("full", MAKING_ROOM)
def test_octets_make_room_too(full: Full) -> None:
    """As many as needed go."""
    world, child = make_world(full, octets=10_000)
    for number in range(5):
        world.send(child, A, [b"%-900d" % number])

    world.send(child, A, [b"%-7000d" % 9])

    kept = contents(world)
    assert kept[-1] == 9
    assert kept == [*range(6 - len(kept), 5), 9]
    assert len(kept) < 5


@pytest.mark.parametrize("full", MAKING_ROOM)
def test_what_is_delivered_is_not_dropped(full: Full) -> None:
    """It is its consumer's; a limit that only such messages fill is exceeded."""
    world, child = make_world(full, length=2)
    reader = reader_of(world)
    send(world, child, 1, 2)
    offers = world.offers(reader)
    for offer in offers:
        world.claim(reader, offer)
    world.hear(reader)

    send(world, child, 3)
    assert world.view(A).unsettled == 2
    for offer in offers:
        world.settle(reader, offer.serial, offer.count)
    world.hear(reader)

    assert world.router.counters.settlements_late == 0


def test_a_full_grave_drops_what_makes_room() -> None:
    """Neither does the queue exceed its limit nor the dead letters theirs."""
    rules = (
        QueueRule(A, {"full": Full.DEAD_LETTER, "max_length": 2}),
        QueueRule(DLQ, {"full": Full.REFUSE, "max_length": 1}),
    )
    world = World(Policy(rules=rules), stock=Stock())
    child = world.add_child()
    send(world, child, 1, 2, 3, 4, 5, persistent=True)

    assert (world.view(A).ready, world.view(DLQ).ready) == (2, 1)
    assert contents(world) == [4, 5]
    world.run_store()
    assert [row.queue for row in world.stock.rows.values()] == [DLQ]


@pytest.mark.parametrize("full", list(Full))
def test_the_limit_of_a_deep_queue_holds_whatever_is_in_memory(full: Full) -> None:
    """It counts what the store has; what is consumed is in order, and the sums come out even."""
    world, child = make_world(full, length=30, memory=100_000)
    for number in range(35):
        world.send(child, A, [b"%-5000d" % number], persistent=number % 3 == 0)
    world.run_store()

    found = contents(world)

    assert found == sorted(found)
    assert len(found) == (35 if full is Full.HOLD else 30)
    assert (found[0] == 0) is (full not in MAKING_ROOM)
    contents(world, DLQ)
    world.run_store()
    assert not (world.stock.rows or world.stock.spilled)
    assert world.router._queues.window.used == 0


@pytest.mark.parametrize("full", MAKING_ROOM)
def test_a_deep_queue_that_makes_room_does_so_for_ever(full: Full) -> None:
    """Also when nobody consumes, and what was in memory is all dropped."""
    world, child = make_world(full, length=30, memory=100_000)

    for number in range(200):
        world.send(child, A, [b"%-5000d" % number])
        world.turn()
        world.run_store()

    assert world.view(A).ready <= 31
    assert contents(world)[-30:] == list(range(170, 200))


@pytest.mark.parametrize("persistent", [False, True])
@pytest.mark.parametrize("length", [1, 2, 5, 12])
@pytest.mark.parametrize("memory", [10_000, 30_000, 60_000])
def test_a_deep_durable_subscription_that_makes_room_counts_right(persistent: bool, length: int, memory: int) -> None:
    """However far behind the store is: it is asked for what it was told, and never for what it is still to be told."""
    policy = QueuePolicy(max_length=length, full=Full.DROP_OLDEST)
    for seed in range(10):
        random = Random(seed)
        world = World(Policy(queue_memory=memory, durable=policy), stock=Stock())
        child = world.add_child()
        world.subscribe(child, b"/topic/t", durable=b"/dsub/me")
        world.unsubscribe(child)
        for number in range(100):
            world.send(child, b"/topic/t", [b"%-5000d" % number], persistent=persistent)
            if random.random() < 0.5:
                world.turn()
            world.stock.work(random.choice([0, 0, 0, 1, 3, 6]))
            world.hear_store()
        world.run_store()
        world.turn()
        world.run_store()
        world.subscribe(child, b"/topic/t", durable=b"/dsub/me")

        assert list(map(int, world.consume(child))) == list(range(100 - length, 100))
        world.run_store()
        assert not world.stock.rows
        assert not world.stock.spilled


def test_a_batch_larger_than_the_limit_is_cut_to_its_end() -> None:
    """Message by message."""
    world, child = make_world(Full.DROP_OLDEST, length=3)
    envelope: Envelope = make_send(A, [b"%d" % number for number in range(10)])

    world.tell(child, envelope)

    assert contents(world) == [7, 8, 9]


# ---------------------------------------------------------------- one full queue fills another


def overflowing(pattern: bytes, dead_letter: bytes) -> QueueRule:
    return QueueRule(pattern, {"full": Full.DEAD_LETTER, "max_length": 2, "dead_letter": dead_letter})


@pytest.mark.parametrize("persistent", [False, True])
def test_full_queues_that_fill_each_other_lose_what_is_too_much(persistent: bool) -> None:
    """A start refuses such rules; if they were there all the same, no message would go round for ever."""
    world = World(Policy(rules=(overflowing(A, B), overflowing(B, A))), stock=Stock())
    child = world.add_child()

    send(world, child, *range(10), persistent=persistent)

    assert (world.view(A).ready, world.view(B).ready) == (2, 2)
    assert world.router.counters.messages_dropped == 6
    world.run_store()
    assert len(world.stock.rows) == (4 if persistent else 0)


def test_a_long_row_of_full_queues_passes_its_oldest_on() -> None:
    """From each one to the next, however many there are: no rule calls itself."""
    names = [b"/queue/%d" % number for number in range(1500)]
    world = World(Policy(rules=tuple(overflowing(name, after) for name, after in pairwise(names))), stock=Stock())
    child = world.add_child()
    for name in names:
        world.tell(child, make_send(name, [b"x", b"x"]))

    world.send(child, names[0], [b"last"])

    assert [world.router._queues.find(name).messages for name in names] == [2] * 1499 + [3]  # type: ignore[union-attr]
    assert world.router.counters.messages_dead_lettered == 1499


def test_dead_letters_that_may_not_be_made_leave_messages_where_they_are() -> None:
    """With so many queues that there may be no other one: what has to go is dropped, all else stays."""
    rule = QueueRule(A, {"full": Full.DEAD_LETTER, "max_length": 2, "max_deliveries": 1})
    world = World(Policy(rules=(rule,), max_queues=1), stock=Stock())
    child = world.add_child()
    send(world, child, 1, 2, 3, persistent=True)
    reader = reader_of(world, credit=1)
    offer = world.take_one(reader)
    world.settle(reader, offer.serial, 1, Outcome.REJECTED)
    world.end(reader)

    assert [view.name for view in world.router.views()] == [A]
    assert world.router.counters.messages_dead_lettered == 0
    assert contents(world) == [2, 3]
    assert world.router.counters.messages_dropped == 1
    world.run_store()
    assert not world.stock.rows


# ---------------------------------------------------------------- two limits at once


@pytest.mark.parametrize("full", MAKING_ROOM)
@pytest.mark.parametrize(("length", "octets", "kept"), [(3, 1 << 20, 3), (100, 10_000, 4), (3, 10_000, 3), (100, 1, 0)])
def test_a_queue_with_two_limits_keeps_both(full: Full, length: int, octets: int, kept: int) -> None:
    """Whichever is reached first; also the messages that came before the last one go one by one."""
    world, child = make_world(full, length=length, octets=octets)
    for number in range(10):
        world.send(child, A, [b"%-1500d" % number])

    assert [view.name for view in world.router.views() if view.name == A] == [A] * (kept > 0)
    assert contents(world) == list(range(10 - kept, 10))


@pytest.mark.parametrize(
    ("limits", "named"), [({"length": 2, "octets": 1 << 20}, "length"), ({"length": 9, "octets": 4_000}, "bytes")]
)
def test_a_refusal_names_the_one_of_two_limits_that_was_reached(limits: dict[str, int], named: str) -> None:
    """Exactly at it, and not one message earlier."""
    world, child = make_world(Full.REFUSE, **limits)
    for number in range(2):
        world.send(child, A, [b"%-1500d" % number])
        assert world.answers(child) == []

    world.send(child, A, [b"3"])

    assert f"(max-queue-{named}, or a policy)" in world.refusal(child)


@pytest.mark.parametrize(("large", "taken"), [(0, 3), (5, 6), (9, 10)])
def test_who_was_held_goes_on_when_there_is_room_by_both_limits(large: int, taken: int) -> None:
    """Four fifths of the messages are left after three; of the octets when the large one, which is nearly all, is."""
    world, child = make_world(Full.HOLD, length=10, octets=100_000)
    for number in range(10):
        world.send(child, A, [bytes(90_000 if number == large else 1)])
    assert world.answers(child) == [(Kind.HOLD, 0)]

    reader = reader_of(world, credit=1)
    resumed = 0
    while not world.answers(child):
        offer = world.take_one(reader)
        world.settle(reader, offer.serial)
        world.hear(reader)
        resumed += 1

    assert resumed == taken


@pytest.mark.parametrize(
    ("limits", "most"), [({"length": 3, "octets": 1 << 20}, 3), ({"length": 9, "octets": 4_000}, 2)]
)
def test_who_sends_is_held_by_the_limit_that_is_reached_first(limits: dict[str, int], most: int) -> None:
    """Whichever it is."""
    world, child = make_world(Full.HOLD, **limits)
    sent = 0
    while not world.answers(child):
        world.send(child, A, [b"%-1500d" % sent])
        sent += 1

    assert sent == most
