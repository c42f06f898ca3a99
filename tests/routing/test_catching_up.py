"""Memory is used up while a queue has consumers: they get a moment before the store does."""

from __future__ import annotations

import pytest

from forkbroker.routing.queues.policies import Full, Policy, QueuePolicy
from forkbroker.wire.kinds import Kind

from .simulation import APART, Child, World

A = b"/queue/a"
BODY = b"x" * 10_000
MEMORY = 200_000
"""Half of it is for one queue: nine messages."""
SHARE = 9
MOMENT_S = 0.1


def make_world(full: Full = Full.HOLD) -> tuple[World, Child, Child]:
    world = World(Policy(queue_memory=MEMORY, queue=QueuePolicy(full=full)), slots=20)
    producer, consumer = world.add_child(), world.add_child()
    world.subscribe(consumer, A)
    return world, producer, consumer


def send(world: World, producer: Child, count: int) -> None:
    for _ in range(count):
        world.send(producer, A, [BODY], wishes=APART)


def said_to(world: World, child: Child) -> list[Kind]:
    world.turn()
    kinds: list[Kind] = [envelope.kind for envelope in child.inbox if envelope.kind in (Kind.HOLD, Kind.RESUME)]
    child.inbox.clear()
    return kinds


def settle_all(world: World, consumer: Child) -> None:
    """The consumer has read what it was offered, and is done with it."""
    world.turn()
    while consumer.inbox:
        offer = consumer.inbox.popleft()
        assert world.claim(consumer, offer)
        world.settle(consumer, offer.serial, offer.count)
        world.turn()


def paged(world: World) -> int:
    (view,) = world.router.views()
    return view.paged


def test_who_sends_is_held_until_fast_consumers_have_made_room() -> None:
    """Nothing goes to the store, and the next time it is the same."""
    world, producer, consumer = make_world()

    for _ in range(3):
        send(world, producer, SHARE)
        assert said_to(world, producer) == []
        send(world, producer, 3)
        assert said_to(world, producer) == [Kind.HOLD]
        settle_all(world, consumer)
        assert said_to(world, producer) == [Kind.RESUME]
    assert world.router.counters.messages_spilled == 0


def test_slow_consumers_hold_nobody_for_longer_than_a_moment() -> None:
    """Then the store has what comes, and nobody is held again as long as it has something of this queue."""
    world, producer, _ = make_world()
    send(world, producer, SHARE + 1)
    assert said_to(world, producer) == [Kind.HOLD]
    assert world.router.deadline() == pytest.approx(MOMENT_S)

    world.now += MOMENT_S
    assert said_to(world, producer) == [Kind.RESUME]
    send(world, producer, 5)
    assert said_to(world, producer) == []
    assert paged(world) == 5


def test_memory_is_not_exceeded_meanwhile() -> None:
    """What is still on its way from who is held goes to the store when all memory is used."""
    world, producer, _ = make_world()
    send(world, producer, 30)

    (view,) = world.router.views()
    assert view.paged > 0
    assert (view.ready + view.unsettled - view.paged) * len(BODY) < MEMORY


def test_without_consumers_nobody_is_held() -> None:
    """The store has all that memory has no room for, at once."""
    world, producer, consumer = make_world()
    world.unsubscribe(consumer)
    send(world, producer, 20)

    assert said_to(world, producer) == []
    assert paged(world) == 20 - SHARE


def test_who_consumes_the_queue_itself_is_not_held() -> None:
    """It could not acknowledge any more."""
    world, producer, _ = make_world()
    world.subscribe(producer, A)
    send(world, producer, SHARE + 1)

    assert said_to(world, producer) == []


def test_where_no_limit_holds_this_one_does_not_either() -> None:
    """A queue that drops its oldest messages at its limit never holds who sends."""
    world, producer, _ = make_world(Full.DROP_OLDEST)
    send(world, producer, SHARE + 2)

    assert said_to(world, producer) == []
    assert paged(world) == 2


def test_the_moment_begins_with_the_first_message_that_has_no_room() -> None:
    """It is not made longer by later ones, and ends to the microsecond."""
    world, producer, _ = make_world()
    send(world, producer, SHARE)
    queue = world.router._queues.find(A)
    assert queue is not None
    assert queue.catching_up_until == 0.0

    world.now = 5.0
    for _ in range(2):
        send(world, producer, 1)
        assert queue.catching_up_until == pytest.approx(5.0 + MOMENT_S, abs=1e-6)
        world.now += MOMENT_S / 4
    world.now = 5.0 + MOMENT_S * 1.001
    assert said_to(world, producer)[-1:] == [Kind.RESUME]
