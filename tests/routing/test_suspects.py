"""Messages that seem to crash the processes of clients."""

from __future__ import annotations

import pytest

from forkbroker.routing.offers.blame import count_convictions
from forkbroker.routing.queues.policies import Policy, QueuePolicy
from forkbroker.wire.details import Reason, Wishes
from forkbroker.wire.envelope import Envelope
from forkbroker.wire.kinds import Kind, Outcome

from .simulation import APART, DLQ, Child, World
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
        "queue /queue/a: message 0-session-1 moved to /queue/DLQ, 3 child processes crashed while they had only this "
        "message, the last one by SIGSEGV"
    ]
    reader = world.add_child()
    world.subscribe(reader, DLQ)
    (letter,) = world.consume_offers(reader)
    assert (letter.details.reason, count_convictions(letter.details), letter.deliveries) == (Reason.POISON, 3, 3)


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


def test_what_only_stood_beside_it_is_never_convicted() -> None:
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
    assert world.offers(consumer) == []
    world.pass_time(1)

    assert [offer.count for offer in world.offers(consumer)] == [1, 1]


def test_the_moment_grows_with_each_delivery() -> None:
    """So that a message whose consumer crashes late is alone when it does."""
    world, producer = make_world(poison_after=100)
    world.send(producer, A, [b"bad"])
    for _ in range(5):
        crash(world)
    consumer = world.add_child()
    world.subscribe(consumer, A, credit=10)
    world.send(producer, A, [b"good"])
    (offer,) = world.offers(consumer)
    assert world.claim(consumer, offer)

    world.pass_time(15.9)
    assert world.offers(consumer) == []
    world.pass_time(0.1)
    assert [offer.serial for offer in world.offers(consumer)] == [2]


def test_nothing_is_suspect_where_nothing_can_be_poison() -> None:
    """With `poison-after` 0 what came back is offered together, and nothing waits for it."""
    world, producer = make_world(poison_after=0)
    world.send(producer, A, [b"one", b"two"])
    for _ in range(5):
        crash(world, credit=10)
    consumer = world.add_child()
    world.subscribe(consumer, A, credit=10)

    assert sum(offer.count for offer in world.offers(consumer)) == 2


def test_a_crash_under_a_broken_guard_convicts_nobody() -> None:
    """What came beside the suspect may be to blame; it is a suspect now as well."""
    world, producer = make_world(poison_after=1)
    world.send(producer, A, [b"1", b"2"])
    crash(world, credit=10)
    consumer = world.add_child()
    world.subscribe(consumer, A, credit=10)
    world.send(producer, A, [b"3"])
    for _ in range(3):
        for offer in world.offers(consumer):
            world.claim(consumer, offer)
        world.pass_time(1)
    assert len(consumer.held[1]) == 3
    world.end(consumer, crash="by SIGSEGV")
    reader = world.add_child()
    world.subscribe(reader, A, credit=10)

    assert [(offer.serial, offer.details.crashes) for offer in world.consume_offers(reader)] == [(1, 1), (2, 1), (3, 1)]


def test_nothing_of_another_queue_stands_beside_a_suspect() -> None:
    """The child is kept for it, not one of its subscriptions."""
    world, producer = make_world()
    world.send(producer, A, [b"1"])
    crash(world)
    consumer = world.add_child()
    world.subscribe(consumer, A, credit=10)
    world.subscribe(consumer, b"/queue/b", token=2, credit=10)
    (suspect,) = world.offers(consumer)
    world.send(producer, b"/queue/b", [b"x"])
    assert world.claim(consumer, suspect)
    assert world.offers(consumer) == []
    world.settle(consumer, suspect.serial)

    assert [offer.destination for offer in world.offers(consumer)] == [b"/queue/b"]


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
    """It does not wait for ever for a child that holds nothing."""
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


def make_busy(world: World, producer: Child, name: bytes = b"/queue/b") -> tuple[Child, Envelope]:
    """A child that holds a message of another queue, and consumes from the one with a suspect, which waits for it."""
    busy = world.add_child()
    world.subscribe(busy, name, token=2, credit=10)
    world.send(producer, name, [b"b"])
    held = world.take_one(busy)
    world.subscribe(busy, A, credit=10)
    assert world.offers(busy) == []
    return busy, held


def test_while_none_is_idle_a_child_is_kept_until_it_is() -> None:
    """Nothing of its other queues keeps it busy, and nothing behind the suspect."""
    world, producer = make_world()
    world.send(producer, A, [b"bad", b"next"])
    crash(world)
    busy, held = make_busy(world, producer)
    world.send(producer, b"/queue/b", [b"more"])

    assert world.offers(busy) == []
    world.settle(busy, held.serial, token=2)
    assert [(offer.destination, offer.serial) for offer in world.offers(busy)] == [(A, 1)]


def test_the_first_child_that_is_idle_gets_the_suspect_and_the_others_go_on() -> None:
    """Whichever was kept for it."""
    world, producer = make_world()
    world.send(producer, A, [b"bad", b"next"])
    crash(world)
    busy, _ = make_busy(world, producer)
    idle = world.add_child()
    world.subscribe(idle, A, credit=10)
    world.send(producer, b"/queue/b", [b"more"])
    world.turn()

    assert [offer.serial for offer in world.offers(idle)] == [1]
    assert {offer.destination for offer in world.offers(busy)} == {A, b"/queue/b"}


def test_a_kept_child_that_ends_is_replaced() -> None:
    """By the next one that is willing; without one the queue waits for nothing."""
    world, producer = make_world()
    world.send(producer, A, [b"bad"])
    crash(world)
    first, _ = make_busy(world, producer)
    second, held = make_busy(world, producer, b"/queue/c")

    world.end(first)
    world.turn()
    world.send(producer, b"/queue/c", [b"c"])
    assert world.offers(second) == []
    world.settle(second, held.serial, token=2)
    assert [offer.destination for offer in world.offers(second)] == [A]
    world.end(second)
    world.turn()
    assert not world.router._offering.clientele.guards._kept
    assert not world.router._offering.clientele.guards.waiting
    assert world.router.deadline() is None


def test_a_suspect_that_is_settled_elsewhere_keeps_no_child() -> None:
    """It expired while the queue waited for an idle one."""
    world, producer = make_world(max_deliveries=0)
    world.send(producer, A, [b"bad"], wishes=Wishes(ttl=900))
    crash(world)
    busy, _ = make_busy(world, producer)
    world.send(producer, A, [b"next"])

    world.pass_time(0.9)
    assert [offer.serial for offer in world.offers(busy)] == [3]


@pytest.mark.parametrize("outcome", [Outcome.RELEASED, Outcome.UNTOUCHED])
def test_crashes_are_remembered_by_the_message(outcome: Outcome) -> None:
    """Whatever happens in between, and in the store."""
    world, producer = make_world(poison_after=2)
    world.send(producer, A, [b"bad"], persistent=True)
    crash(world)
    world.run_store()
    assert [count_convictions(row.details) for row in world.stock.rows.values()] == [1]
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


def test_suspicion_is_remembered_by_the_message() -> None:
    """By the store as well: after a restart it is offered alone."""
    world, producer = make_world()
    world.send(producer, A, [b"1", b"2"], persistent=True)
    crash(world, credit=10)
    world.run_store()
    assert [row.details.crashes for row in world.stock.rows.values()] == [1, 1]
    world.stock.kill()
    anew = World(Policy(), stock=world.stock)
    reader = anew.add_child()
    anew.subscribe(reader, A, credit=10)

    assert [(offer.count, count_convictions(offer.details)) for offer in anew.offers(reader)] == [(1, 0)]


# ---------------------------------------------------------------- before the claim


def crash_unclaimed(world: World, *, credit: int = 10) -> None:
    """A consumer comes, is offered what there is, and dies before it claims."""
    consumer = world.add_child()
    world.subscribe(consumer, A, credit=credit)
    world.offers(consumer)
    world.end(consumer, crash="by SIGSEGV")


def test_a_message_too_large_to_be_claimed_is_set_aside() -> None:
    """Its consumers' processes die while they read it: three of them, and it was never delivered."""
    world, producer = make_world(poison_after=3)
    world.send(producer, A, [b"large"])
    for _ in range(2):
        crash_unclaimed(world)
        assert world.view(A).ready == 1
    crash_unclaimed(world)

    reader = world.add_child()
    world.subscribe(reader, DLQ)
    (letter,) = world.consume_offers(reader)
    assert (letter.details.reason, count_convictions(letter.details), letter.deliveries) == (Reason.POISON, 3, 0)


def test_only_the_first_message_of_an_unclaimed_offer_is_suspect() -> None:
    """It is the one that was to be read; and of several offers the one that was made first."""
    world, producer = make_world()
    world.send(producer, A, [b"1", b"2"], wishes=APART)
    world.send(producer, A, [b"3"], wishes=APART)
    crash_unclaimed(world)
    reader = world.add_child()
    world.subscribe(reader, A)

    offers = world.consume_offers(reader)
    assert [(offer.serial, offer.count, offer.details.crashes) for offer in offers] == [(1, 1, 1), (2, 1, 0), (3, 1, 0)]


def test_several_candidates_that_die_of_one_message_count_once() -> None:
    """The run comes back with the last of them. It is convicted, as each of them was to read nothing else."""
    world, producer = make_world()
    children = [world.add_child() for _ in range(3)]
    for child in children:
        world.subscribe(child, A, credit=1)
    world.send(producer, A, [b"large"], persistent=True)
    world.turn()
    for child in children:
        assert world.view(A).ready == 0
        world.end(child, crash="by SIGKILL")
    world.run_store()

    assert [row.details.crashes for row in world.stock.rows.values()] == [2]
    assert world.view(A).ready == 1


def test_a_crash_beside_a_candidate_that_passes_counts_too() -> None:
    """Nobody else has tried it."""
    world, producer = make_world(poison_after=1)
    one, two = world.add_child(), world.add_child()
    for child in (one, two):
        world.subscribe(child, A, credit=1)
    world.send(producer, A, [b"large"])
    world.turn()
    world.end(one, crash="by SIGKILL")
    assert world.view(A).ready == 0
    world.answer(two, Kind.PASSED, world.read(two, Kind.OFFER))
    world.turn()

    assert [view.name for view in world.router.views() if view.ready] == [DLQ]


def test_a_crash_beside_a_candidate_that_claims_does_not_count() -> None:
    """It could be read."""
    world, producer = make_world(poison_after=1)
    one, two = world.add_child(), world.add_child()
    for child in (one, two):
        world.subscribe(child, A, credit=1)
    world.send(producer, A, [b"good"])
    world.turn()
    world.end(one, crash="by SIGKILL")
    offer = world.read(two, Kind.OFFER)
    assert world.claim(two, offer)
    world.settle(two, offer.serial, 1, Outcome.RELEASED)
    world.turn()

    assert world.read(two, Kind.OFFER).details.crashes == 0


def test_an_end_that_is_no_crash_makes_no_suspects() -> None:
    """What was not claimed goes back as it was."""
    world, producer = make_world(poison_after=1)
    world.send(producer, A, [b"good"])
    consumer = world.add_child()
    world.subscribe(consumer, A)
    world.turn()
    world.end(consumer)
    other = world.add_child()
    world.subscribe(other, A)

    offer = world.take_one(other)
    assert (offer.deliveries, offer.details.crashes) == (0, 0)
