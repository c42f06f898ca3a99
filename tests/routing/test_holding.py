"""Queues that an administrator holds."""

from __future__ import annotations

from forkbroker.routing.queues.policies import Policy

from .simulation import World
from .stock import Stock

A = b"/queue/a"


def test_a_name_is_held_whatever_becomes_of_its_queue() -> None:
    """It ends when it is empty, and is made again."""
    world = World(Policy(), stock=Stock())
    child, holding = world.add_child(), world.router.holding
    assert holding.hold(A, None)
    assert not holding.hold(A, None)
    for body in (b"1", b"2"):
        world.subscribe(child, A)
        world.send(child, A, [body])
        world.turn()
        assert world.offers(child) == []
        world.unsubscribe(child)
        world.turn()
    assert holding.release(A)
    assert not holding.release(A)
    world.subscribe(child, A)

    assert world.consume(child) == [b"1", b"2"]


def test_a_hold_ends_with_its_time() -> None:
    """Which the last one says; it is an event for the log."""
    world = World(Policy(), stock=Stock())
    child = world.add_child()
    world.send(child, A, [b"1"])
    world.router.holding.hold(A, 1_000)
    world.router.holding.hold(A, 5_000)
    world.subscribe(child, A)
    world.pass_time(2)
    world.turn()
    assert world.offers(child) == []
    world.pass_time(4)
    world.turn()

    assert world.consume(child) == [b"1"]
    assert world.router.take_events() == ["queue /queue/a: released, the time for which it was held is over"]


def test_a_hold_is_handed_over() -> None:
    """With its end."""
    world = World(Policy(), stock=Stock())
    child = world.add_child()
    world.send(child, A, [b"1"])
    world.router.holding.hold(A, 5_000)
    world.turn()
    anew = World(Policy(), opens=False)
    anew.router.load(world.router.dump())

    assert anew.router.holding.names == {A}
    queue = anew.router.moving.find(A)
    assert queue.returning == 1
    assert anew.router.holding.release(A)
    assert queue.returning == 0
