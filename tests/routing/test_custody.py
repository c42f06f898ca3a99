"""What happens to messages, and what the store hears of it."""

from __future__ import annotations

import pytest

from forkbroker.routing.queues.policies import Policy, QueuePolicy, Visible
from forkbroker.wire.kinds import Flag, Kind, Outcome

from .simulation import Child, World
from .stock import Stock
from .twins import hand_over

A, REPLY, TOPIC, ME = b"/queue/a", b"/reply-queue/1-a", b"/topic/t", b"/dsub/me"


def make_world(**policy: object) -> tuple[World, Child]:
    """With a store, and a client."""
    world = World(Policy(**policy), slots=64, stock=Stock())  # type: ignore[arg-type]
    return world, world.add_child()


def tell(world: World) -> list[Kind]:
    """What the store is told now; it does it."""
    told = [envelope.kind for peer, envelope in world.turn() if peer not in world.children]
    world.run_store()
    return told


@pytest.mark.parametrize(("persistent", "kinds"), [(True, [Kind.WRITE, Kind.UPDATE, Kind.DELETE]), (False, [])])
def test_the_store_hears_of_what_it_has_and_of_nothing_else(persistent: bool, kinds: list[Kind]) -> None:
    """A message comes, is delivered in vain, is delivered again, and is done."""
    world, child = make_world()
    told = []
    world.send(child, A, [b"1"], persistent=persistent)
    told += tell(world)
    world.subscribe(child, A)
    for outcome in (Outcome.RELEASED, Outcome.ACKNOWLEDGED):
        (offer,) = world.offers(child)
        assert world.claim(child, offer)
        world.settle(child, offer.serial, 1, outcome)
        told += tell(world)

    assert told == kinds
    assert world.stock.rows == {}
    assert world.router.counters.messages_written == persistent


def test_what_memory_has_no_room_for_is_not_called_persistent() -> None:
    """Each of the two has its figure."""
    world, child = make_world(queue_memory=3_000)
    for _ in range(10):
        world.send(child, A, [bytes(1_000)])
    world.send(child, A, [b"1"], persistent=True)
    world.run_store()

    counters = world.router.counters
    assert counters.messages_written == 1
    assert 0 < counters.messages_spilled <= 10


def test_a_temporary_queue_ends_with_the_last_consumer_and_what_is_in_it_is_dropped() -> None:
    """Not with another one of its owner; what that had not settled is back by then."""
    world, owner = make_world()
    for token in (1, 2):
        world.subscribe(owner, REPLY, token=token, credit=1, flags=Flag.TEMPORARY)
    world.send(owner, REPLY, [b"%d" % number for number in range(5)])
    for offer in world.offers(owner):
        assert world.claim(owner, offer)
    world.turn()
    world.unsubscribe(owner, 2)
    world.turn()
    left = world.view(REPLY).ready
    world.unsubscribe(owner, 1)
    world.turn()

    assert left == 4
    assert world.router.views() == []
    assert world.router.counters.messages_dropped == 5


def test_what_waits_for_its_redelivery_goes_with_its_queue() -> None:
    """Another one of the same name gets nothing of it, also not when the time has come."""
    world, child = make_world(durable=QueuePolicy(redelivery_delay=1_000))
    world.subscribe(child, TOPIC, durable=ME)
    world.send(child, TOPIC, [b"1"])
    for _ in range(2):
        (offer,) = world.offers(child)
        assert world.claim(child, offer)
        world.settle(child, offer.serial, 1, Outcome.RELEASED)
        world.turn()
    world.delete_durable(child, ME, token=1)
    world.turn()
    world.subscribe(child, TOPIC, durable=ME)
    world.pass_time(2)

    assert world.offers(child) == []
    assert world.router.counters.messages_dropped == 1
    assert world.view(ME).octets == 0


def test_what_a_consumer_holds_is_in_memory_only_while_that_has_room() -> None:
    """A persistent message is in the store as well, and comes back from there, whole."""
    world, child = make_world(queue_memory=20_000)
    world.subscribe(child, A, credit=20)
    used = []
    for number in range(10):
        world.send(child, A, [b"%d" % number * 4_000], persistent=True)
        (offer,) = world.offers(child)
        assert world.claim(child, offer)
        world.turn()
        used.append(world.router._queues.window.used)
    world.end(child)
    other = world.add_child()
    world.subscribe(other, A)

    assert max(used) < 20_000
    assert world.consume(other) == [b"%d" % number * 4_000 for number in range(10)]


def test_what_is_hidden_is_seen_in_another_router_when_it_is_committed() -> None:
    """Not before."""
    world, child = make_world(queue=QueuePolicy(visible=Visible.COMMITTED))
    world.send(child, A, [b"1"], persistent=True)
    world.subscribe(child, A)

    hand_over(world)
    assert world.turn() == []
    world.run_store()

    assert world.consume(child) == [b"1"]


def test_what_waits_for_its_redelivery_goes_with_its_queue_in_another_router() -> None:
    """Nothing of it stays in memory."""
    world, child = make_world(queue=QueuePolicy(redelivery_delay=1_000))
    world.subscribe(child, REPLY, credit=1, flags=Flag.TEMPORARY)
    world.send(child, REPLY, [b"1"])
    for _ in range(2):
        offer = world.take_one(child)
        world.settle(child, offer.serial, 1, Outcome.RELEASED)
        world.hear(child)

    hand_over(world)
    assert world.view(REPLY).unsettled == 1
    world.unsubscribe(child)
    world.turn()

    assert (world.router._queues.window.used, world.router._timers.agenda) == (0, ())
