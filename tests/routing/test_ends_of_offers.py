"""What becomes of offers: answers, their absence, and the end of who was to give them."""

from __future__ import annotations

import pytest

from forkbroker.routing.queues.policies import Policy, QueuePolicy
from forkbroker.wire.kinds import Kind

from .simulation import DLQ, World, make
from .twins import hand_over
from .workers import A, make_world, offers_of


def test_who_lost_is_asked_first_next_time() -> None:
    """And has its credit again."""
    world, producer, (one, two) = make_world(2)
    world.send(producer, A, [b"1"])
    world.turn()
    assert world.claim(two, world.read(two, Kind.OFFER))
    assert not world.claim(one, world.read(one, Kind.OFFER))
    world.turn()

    world.settle(two, 1)
    world.turn()
    world.send(producer, A, [b"1", b"2"])

    assert offers_of(world) == [(one.peer, 2, 1), (two.peer, 3, 1)]
    assert world.router.counters.offers_lost == 1


def test_a_silent_child_delays_nobody_for_long() -> None:
    """After the time-out others get its messages, and it gets none before it answers."""
    world, producer, (silent, other) = make_world(2, offer_candidates=1)
    world.send(producer, A, [b"1", b"2"])
    world.turn()
    late = world.read(silent, Kind.OFFER)
    world.claim(other, world.read(other, Kind.OFFER))
    world.settle(other, 2)
    assert offers_of(world) == []
    deadline = world.router.deadline()
    assert deadline == 1.0

    world.now = deadline
    assert offers_of(world) == [(other.peer, 1, 1)]
    assert world.router.find_silent(1.0) == {silent.peer}
    assert not world.claim(silent, late)
    world.claim(other, world.read(other, Kind.OFFER))
    world.send(producer, A, [b"3"])
    assert offers_of(world) == [(silent.peer, 3, 1)]
    assert world.router.counters.offers_overdue == 1


def test_a_slow_claim_counts_although_it_is_late() -> None:
    """The parent saw that somebody has the semaphore, and waited."""
    world, producer, (child,) = make_world(1, credit=2)
    world.send(producer, A, [b"1"])
    world.turn()
    offer = world.read(child, Kind.OFFER)
    world.claim(child, offer)

    world.now = 2.0
    world.router.tick(world.now)
    world.turn()
    world.settle(child, offer.serial)
    world.turn()

    assert world.router.views()[0].octets == 0
    world.send(producer, A, [b"2", b"3"])
    assert offers_of(world) == [(child.peer, 2, 2)]


def test_offers_after_unsubscribe_are_passed_and_come_back() -> None:
    """The child answers for a subscription that is gone; a claim for it can't be."""
    world, producer, (child,) = make_world(1)
    world.send(producer, A, [b"1"])
    world.turn()
    offer = world.read(child, Kind.OFFER)
    world.unsubscribe(child)

    with pytest.raises(AssertionError, match="had ended"):
        world.tell(child, make(Kind.CLAIMED, number=offer.number, token=1))
    world.tell(child, make(Kind.PASSED, number=offer.number, token=1))

    assert world.router.views()[0].ready == 1
    world.tell(child, make(Kind.READY))


def test_a_child_that_ended_between_claim_and_word_had_the_messages_perhaps() -> None:
    """The semaphore tells: they come back marked. Without the claim they come back as they were."""
    for claims, deliveries in ((True, 1), (False, 0)):
        world, producer, (child,) = make_world(1)
        world.send(producer, A, [b"1"])
        world.turn()
        if claims:
            assert world.semaphores.try_acquire(world.read(child, Kind.OFFER).slot)

        world.end(child)
        other = world.add_child()
        world.subscribe(other, A)

        assert world.take_one(other).deliveries == deliveries


def test_a_dead_letter_of_a_client_that_told_nothing_makes_room_in_its_queue() -> None:
    """It has claimed, and died; the last other candidate has answered: who sent is no longer held."""
    world = World(Policy(queue=QueuePolicy(max_length=1, max_deliveries=1)))
    producer, *readers = (world.add_child() for _ in range(3))
    for reader in readers:
        world.subscribe(reader, A)
    world.send(producer, A, [b"x"])
    world.turn()
    assert world.answers(producer) == [(Kind.HOLD, 0)]
    first, second = (world.read(reader, Kind.OFFER) for reader in readers)
    assert world.semaphores.try_acquire(first.slot)
    world.end(readers[0])
    assert world.answers(producer) == []

    world.answer(readers[1], Kind.LOST, second)
    world.hear(readers[1])

    assert world.answers(producer) == [(Kind.RESUME, 0)]
    assert (world.view(A).ready, world.view(DLQ).ready) == (0, 1)


def test_an_offer_of_one_router_is_answered_to_another_one() -> None:
    """Who claims has it; who ends after the claim has perhaps delivered it, and who ends before has not."""
    world, producer, (one, two, three) = make_world(3, offer_candidates=1)
    world.send(producer, A, [b"1", b"2", b"3"])
    world.turn()
    offers = [world.read(child, Kind.OFFER) for child in (one, two, three)]

    hand_over(world)
    assert world.claim(one, offers[0])
    assert world.claim(two, offers[1])
    two.outbox.clear()
    hand_over(world)
    world.end(two)
    world.end(three)
    world.hear(one)
    world.settle(one, offers[0].serial)

    assert [(offer.serial, offer.deliveries) for offer in world.consume_offers(one)] == [(2, 1), (3, 0)]
    assert world.router.counters.messages_acknowledged == 3
    assert world.semaphores.values == [0] * world.semaphores.size


def test_another_router_knows_the_crashes_that_nothing_explains() -> None:
    """They are an alibi for what was suspect before."""
    world, _, (child,) = make_world(1)
    world.end(child, "by SIGKILL")

    hand_over(world)

    assert world.router._offering.offers._blame._unexplained == 1
