"""Messages that seem to crash the processes of clients."""

from __future__ import annotations

import pytest

from forkbroker.routing.policies import Policy, QueuePolicy
from forkbroker.wire.details import Reason
from forkbroker.wire.envelope import Envelope
from forkbroker.wire.kinds import Outcome

from .simulation import DLQ, Child, World
from .stock import Stock

A = b"/queue/a"


def make_world(poison_after: int = 3, **policy: int) -> tuple[World, Child]:
    queue = QueuePolicy(poison_after=poison_after, **policy)  # type: ignore[arg-type]
    world = World(Policy(queue=queue), slots=64, stock=Stock())
    return world, world.add_child()


def crash(world: World, *, credit: int = 1) -> list[Envelope]:
    """A consumer comes, takes what it is offered, and dies of it."""
    consumer = world.add_child()
    world.subscribe(consumer, A, credit=credit)
    offers = world.offers(consumer)
    for offer in offers:
        world.claim(consumer, offer)
    world.end(consumer, crash="by SIGSEGV")
    return offers


def test_a_message_that_processes_crash_with_is_set_aside() -> None:
    """After so many of them, with its reason, and a line for the log."""
    world, producer = make_world(poison_after=3)
    world.send(producer, A, [b"bad"])

    for _ in range(3):
        assert world.router.take_notes() == []
        crash(world)

    assert world.view(DLQ).ready == 1
    assert world.router.take_notes() == [
        "queue /queue/a: message 1 set aside in /queue/DLQ: 3 processes of clients crashed that held it, "
        "the last one by SIGSEGV"
    ]
    reader = world.add_child()
    world.subscribe(reader, DLQ)
    (letter,) = world.consume_offers(reader)
    assert (letter.details.reason, letter.details.crashes, letter.deliveries) == (Reason.POISON, 3, 3)


def test_an_end_in_good_order_is_no_crash() -> None:
    """Nor is a release."""
    world, producer = make_world(poison_after=1)
    world.send(producer, A, [b"good"])
    for _ in range(3):
        consumer = world.add_child()
        world.subscribe(consumer, A)
        offer = world.take_one(consumer)
        if offer.deliveries == 1:
            world.settle(consumer, offer.serial, 1, Outcome.RELEASED)
        world.end(consumer)

    assert [view.name for view in world.router.views()] == [A]


def test_by_setting_no_message_is_poison() -> None:
    """Its deliveries count all the same."""
    world, producer = make_world(poison_after=0, max_deliveries=5)
    world.send(producer, A, [b"bad"])

    for _ in range(4):
        crash(world)
    assert world.view(A).ready == 1
    crash(world)

    assert world.view(DLQ).ready == 1
    assert world.router.take_notes() == []


def test_what_only_stood_beside_it_is_not_blamed_for_long() -> None:
    """From the first crash on each suspect is given out alone: the bad one is found, the good ones are delivered."""
    world, producer = make_world(poison_after=3)
    bodies = [b"good 1", b"good 2", b"bad", b"good 3", b"good 4"]
    world.send(producer, A, bodies)
    delivered: list[bytes] = []

    for _ in range(20):
        consumer = world.add_child()
        world.subscribe(consumer, A, credit=10)
        offers = world.offers(consumer)
        held = [bytes(piece) for offer in offers for piece in offer.pieces()]
        for offer in offers:
            world.claim(consumer, offer)
        if b"bad" in held:
            world.end(consumer, crash="by SIGKILL")
        else:
            delivered += held
            for offer in offers:
                world.settle(consumer, offer.serial, offer.count)
            world.end(consumer)

    assert delivered == [b"good 1", b"good 2", b"good 3", b"good 4"]
    assert world.view(DLQ).ready == 1


def test_a_suspect_is_alone_for_a_moment_only() -> None:
    """There are consumers that acknowledge nothing before they have several."""
    world, producer = make_world()
    world.send(producer, A, [b"1", b"2", b"3"])
    crash(world, credit=10)
    consumer = world.add_child()
    world.subscribe(consumer, A, credit=10)

    (offer,) = world.offers(consumer)
    assert offer.count == 1
    world.claim(consumer, offer)
    assert world.offers(consumer) == []
    world.pass_time(1)

    assert [offer.count for offer in world.offers(consumer)] == [1, 1]


def test_other_consumers_get_the_next_suspects_meanwhile() -> None:
    """One each."""
    world, producer = make_world()
    world.send(producer, A, [b"1", b"2", b"3"])
    crash(world, credit=10)
    children = [world.add_child() for _ in range(3)]
    for child in children:
        world.subscribe(child, A, credit=10)
    world.turn()

    assert [[offer.count for offer in child.inbox] for child in children] == [[1], [1], [1]]


def test_who_has_answered_for_a_suspect_gets_the_next_ones_at_once() -> None:
    """The guard ends with the settlement."""
    world, producer = make_world()
    world.send(producer, A, [b"1", b"2"])
    crash(world, credit=10)
    consumer = world.add_child()
    world.subscribe(consumer, A, credit=10)

    assert world.consume(consumer) == [b"1", b"2"]
    assert world.now == 0.0


def test_when_all_are_busy_a_suspect_goes_to_one_of_them() -> None:
    """It does not wait for ever for somebody who holds nothing."""
    world, producer = make_world()
    world.send(producer, A, [b"1"])
    busy = world.add_child()
    crash(world)
    world.send(producer, b"/queue/b", [b"x"])
    world.subscribe(busy, A, credit=2)
    world.send(producer, A, [b"2", b"3"])
    first = world.take_one(busy)
    assert first.count == 1
    world.pass_time(1)

    assert [offer.serial for offer in world.offers(busy)] == [3]


@pytest.mark.parametrize("outcome", [Outcome.RELEASED, Outcome.UNTOUCHED])
def test_crashes_are_remembered_by_the_message(outcome: Outcome) -> None:
    """Whatever happens in between, and in the store."""
    world, producer = make_world(poison_after=2)
    world.send(producer, A, [b"bad"], persistent=True)
    crash(world)
    world.run_store()
    assert [row.details.crashes for row in world.stock.rows.values()] == [1]
    consumer = world.add_child()
    world.subscribe(consumer, A)
    offer = world.take_one(consumer)
    world.settle(consumer, offer.serial, 1, outcome)
    world.end(consumer)
    world.run_store()
    world.stock.kill()
    anew = World(Policy(queue=QueuePolicy(poison_after=2)), stock=world.stock)

    crash(anew)

    assert [view.name for view in anew.router.views()] == [DLQ]


def test_a_crash_between_claim_and_word_is_one_with_the_message() -> None:
    """That is where a message would crash the process that delivers it."""
    world, producer = make_world(poison_after=2)
    world.send(producer, A, [b"bad"])
    for _ in range(2):
        consumer = world.add_child()
        world.subscribe(consumer, A)
        (offer,) = world.offers(consumer)
        assert world.semaphores.try_acquire(offer.slot)
        world.end(consumer, crash="by SIGSEGV")

    assert [view.name for view in world.router.views()] == [DLQ]


def test_a_crash_without_a_claim_is_none_with_the_message() -> None:
    """It never had it."""
    world, producer = make_world(poison_after=1)
    world.send(producer, A, [b"good"])
    consumer = world.add_child()
    world.subscribe(consumer, A)
    world.turn()
    world.end(consumer, crash="by SIGSEGV")
    other = world.add_child()
    world.subscribe(other, A)

    offer = world.take_one(other)
    assert (offer.deliveries, offer.details.crashes) == (0, 0)
