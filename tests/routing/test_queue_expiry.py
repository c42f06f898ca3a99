"""Queues that nobody uses for as long as their policy says end, with their messages."""

from __future__ import annotations

from forkbroker.routing.queues.policies import Policy, QueuePolicy
from forkbroker.wire.kinds import Kind

from .simulation import World
from .stock import Stock

_POLICY = Policy(queue=QueuePolicy(queue_expiry=60_000))


def pass_time(world: World, seconds: float) -> None:
    world.pass_time(seconds)
    world.turn()


def names(world: World) -> list[bytes]:
    return [view.name for view in world.router.views()]


def test_a_queue_that_nobody_uses_ends_with_its_messages() -> None:
    """Not before its time, and the log says how many were dropped."""
    world = World(_POLICY)
    world.send(world.add_child(), b"/queue/a", [b"x", b"y"])
    world.router.take_events()

    pass_time(world, 59.9)
    assert names(world) == [b"/queue/a"]

    pass_time(world, 0.2)
    assert names(world) == []
    assert world.router.take_events() == ["queue /queue/a: expired, not used for 60 s, 2 messages dropped"]
    assert world.router.counters.messages_dropped == 2
    assert world.router.deadline() is None


def test_whoever_sends_uses_it() -> None:
    """The time begins again."""
    world = World(_POLICY)
    child = world.add_child()
    for _ in range(3):
        world.send(child, b"/queue/a", [b"x"])
        pass_time(world, 40)

    assert names(world) == [b"/queue/a"]
    pass_time(world, 20.1)
    assert names(world) == []


def test_whoever_consumes_uses_it_as_long_as_that_lasts() -> None:
    """The time begins when the last one leaves."""
    world = World(_POLICY)
    child = world.add_child()
    world.subscribe(child, b"/queue/a")
    world.turn()
    pass_time(world, 500)
    world.send(child, b"/queue/a", [b"x"])
    world.turn()
    offer = world.read(child, Kind.OFFER)
    world.hold(child, offer)
    pass_time(world, 500)
    world.unsubscribe(child)
    world.turn()

    pass_time(world, 59)
    assert names(world) == [b"/queue/a"]
    pass_time(world, 62)
    assert names(world) == []


def test_what_the_store_has_of_it_goes_as_well() -> None:
    """It would come back at the next start, and as a queue that somebody uses."""
    world = World(_POLICY, stock=Stock())
    world.send(world.add_child(), b"/queue/a", [b"x"], persistent=True)
    world.run_store()
    pass_time(world, 61)
    world.run_store()

    world.kill_store()
    world.open_store(is_fresh=True)
    assert names(world) == []


def test_a_queue_of_this_name_that_is_made_later_has_its_own_time() -> None:
    """The entry of the one before is gone with it."""
    world = World(_POLICY)
    child = world.add_child()
    world.subscribe(child, b"/queue/a")
    world.turn()
    pass_time(world, 30)
    world.unsubscribe(child)
    world.turn()
    assert names(world) == []
    world.send(child, b"/queue/a", [b"x"])

    pass_time(world, 59)
    assert names(world) == [b"/queue/a"]
    pass_time(world, 2)
    assert names(world) == []


def test_other_queues_and_durable_subscriptions_stay() -> None:
    """Without the policy a queue never ends by itself, and durable subscriptions have a time of their own."""
    policy = QueuePolicy(queue_expiry=60_000)
    world = World(Policy(durable=policy))
    child = world.add_child()
    world.subscribe(child, b"/topic/t", durable=b"/dsub/d")
    world.turn()
    world.unsubscribe(child)
    world.send(child, b"/queue/a", [b"x"])
    world.turn()

    pass_time(world, 1000)
    assert sorted(names(world)) == [b"/dsub/d", b"/queue/a"]
