"""What the store is told, and whose receipts wait for it."""

from __future__ import annotations

import pytest

from forkbroker.routing.policies import Policy
from forkbroker.wire.envelope import Envelope, pack_settle, with_fence
from forkbroker.wire.kinds import Flag, Kind, Outcome

from .simulation import Child, World, make, make_send
from .stock import Stock

A = b"/queue/a"
MIB = 1_048_576


def make_world() -> tuple[World, Child]:
    world = World(stock=Stock())
    return world, world.add_child()


def told(world: World) -> list[Envelope]:
    """What the store has been told and not read."""
    world.deliver()
    return list(world.stock.told)


def write(world: World, child: Child, *, fence: int = 0, count: int = 1) -> None:
    world.send(child, A, [b"x"] * count, fence=fence, persistent=True)


def fence(number: int) -> Envelope:
    return make(Kind.FENCE, number=number)


# ---------------------------------------------------------------- receipts


def test_the_receipt_of_what_is_persistent_comes_behind_the_commit() -> None:
    """Not when the store was told, and not when it has read."""
    world, child = make_world()

    write(world, child, fence=1)
    assert world.answers(child) == []
    assert not world.router.is_committed
    world.stock.work()
    assert world.answers(child) == []
    world.hear_store()

    assert world.answers(child) == [(Kind.FENCED, 1)]
    assert world.router.is_committed


def test_who_changed_nothing_in_the_store_waits_for_nothing() -> None:
    """Not for others either."""
    world, child = make_world()
    other = world.add_child()

    write(world, child, fence=1)
    world.send(other, A, [b"y"], fence=7)

    assert world.answers(other) == [(Kind.FENCED, 7)]
    assert world.answers(child) == []


def test_whatever_answers_a_peer_that_waits_waits_behind() -> None:
    """Receipts of messages that aren't persistent, and refusals: in the order of the asking."""
    world, child = make_world()

    write(world, child, fence=1)
    world.send(child, A, [b"y"], fence=2)
    world.subscribe(child, b"/reply-queue/8-others", token=5, fence=3)
    write(world, child, fence=4)
    world.tell(child, fence(5))
    assert world.answers(child) == []
    world.run_store()

    assert world.answers(child) == [
        (Kind.FENCED, 1), (Kind.FENCED, 2), (Kind.REFUSED, 3), (Kind.FENCED, 4), (Kind.FENCED, 5),
    ]  # fmt: skip


def test_a_commit_answers_what_came_before_it_and_no_more() -> None:
    """The store commits in groups."""
    world, child = make_world()
    for number in range(1, 6):
        write(world, child, fence=number)
    world.deliver()

    world.stock.work(2)
    world.hear_store()
    assert world.answers(child) == [(Kind.FENCED, 1), (Kind.FENCED, 2)]
    world.stock.work()
    world.hear_store()

    assert world.answers(child) == [(Kind.FENCED, 3), (Kind.FENCED, 4), (Kind.FENCED, 5)]


def test_what_was_committed_before_delays_nobody() -> None:
    """The next fence is answered at once."""
    world, child = make_world()
    write(world, child)
    world.run_store()

    world.tell(child, fence(2))

    assert world.answers(child) == [(Kind.FENCED, 2)]


def test_the_receipt_of_an_acknowledgement_waits_for_the_deletion() -> None:
    """Else the message might come again after its receipt. That of what was never persistent does not wait."""
    world, child = make_world()
    write(world, child)
    world.send(child, A, [b"y"])
    world.subscribe(child, A)
    world.run_store()
    first, second = world.offers(child)
    for number, offer in ((8, second), (9, first)):
        assert world.claim(child, offer)
        settle = pack_settle(1, [(offer.serial, 1, Outcome.ACKNOWLEDGED)])
        world.tell(child, Envelope(bytes(with_fence(settle, number)[0])))

    assert world.answers(child)[-1:] == [(Kind.FENCED, 8)]
    world.run_store()
    assert world.answers(child) == [(Kind.FENCED, 9)]
    assert world.stock.rows == {}


def test_a_peer_that_has_ended_is_answered_no_more() -> None:
    """Its changes are committed all the same."""
    world, child = make_world()
    write(world, child, fence=1)

    world.end(child)
    world.deliver()
    world.stock.work()
    world.hear_store()

    assert world.router.take() == []
    assert len(world.stock.rows) == 1


# ---------------------------------------------------------------- changes


def test_changes_are_numbered_without_a_gap() -> None:
    """So that one number says which of them are committed."""
    world, child = make_world()
    write(world, child)
    write(world, child, count=3)
    world.subscribe(child, A)
    for outcome in (Outcome.RELEASED, Outcome.REJECTED):
        offer = world.take_one(child)
        child.inbox.clear()
        world.settle(child, offer.serial, 1, outcome)
        world.hear(child)

    found = [(envelope.kind, envelope.number) for envelope in told(world)]

    assert found == [(Kind.WRITE, 1), (Kind.WRITE, 2), (Kind.UPDATE, 3), (Kind.MOVE, 4)]


def test_a_transaction_is_one_change() -> None:
    """Both or none of what it sends and settles; nothing is told of what is not persistent."""
    world, child = make_world()
    write(world, child)
    world.subscribe(child, A)
    world.run_store()
    (offer,) = world.offers(child)
    world.claim(child, offer)
    world.hear(child)
    settle = pack_settle(1, [(offer.serial, 1, Outcome.ACKNOWLEDGED)])[0]
    parts = [make_send(A, [b"1"], persistent=True).raw, settle, make_send(A, [b"2"]).raw]

    world.tell(child, make(Kind.TRANSACTION, count=3, payload=parts, flags=Flag.FENCE, number=4))

    assert [(part.kind, part.number) for part in told(world)] == [
        (Kind.WRITE, 0),
        (Kind.DELETE, 0),
        (Kind.TOGETHER, 2),
    ]
    assert world.answers(child) == []
    world.run_store()
    assert world.answers(child) == [(Kind.FENCED, 4)]


def test_a_transaction_without_persistent_messages_tells_the_store_nothing() -> None:
    """And waits for nothing."""
    world, child = make_world()

    world.tell(child, make(Kind.TRANSACTION, count=1, payload=[make_send(A, [b"1"]).raw], flags=Flag.FENCE, number=4))

    assert told(world) == []
    assert world.answers(child) == [(Kind.FENCED, 4)]


def test_what_was_never_told_cannot_be_committed() -> None:
    """A store that says so is broken."""
    world, child = make_world()
    write(world, child, fence=1)

    with pytest.raises(AssertionError, match="change 2 is committed"):
        world.router.receive_stored(make(Kind.COMMITTED, number=2), 0.0)
    assert world.answers(child) == []


def test_who_brings_more_than_the_store_writes_is_held() -> None:
    """64 MiB; until four fifths of that are left."""
    world = World(Policy(queue_memory=1024 * MIB), stock=Stock())
    child = world.add_child()
    envelope = make_send(A, [b"x" * MIB], persistent=True)

    for _ in range(63):
        world.tell(child, envelope)
    assert world.answers(child) == []
    world.tell(child, envelope)
    assert world.answers(child) == [(Kind.HOLD, 0)]
    world.stock.work(12)
    world.hear_store()
    assert world.answers(child) == []
    world.stock.work(2)
    world.hear_store()

    assert world.answers(child) == [(Kind.RESUME, 0)]


def test_who_brings_nothing_for_the_store_is_not_held_for_it() -> None:
    """Neither who sends what is not persistent, nor who settles: that makes room."""
    world = World(Policy(queue_memory=1024 * MIB), stock=Stock())
    child, other, worker = (world.add_child() for _ in range(3))
    world.subscribe(worker, A, credit=1)
    for _ in range(64):
        world.tell(child, make_send(A, [b"x" * MIB], persistent=True))
    offer = world.take_one(worker)

    world.send(other, A, [b"x"])
    world.settle(worker, offer.serial)
    world.hear(worker)

    assert world.answers(other) == []
    assert world.answers(worker) == []
