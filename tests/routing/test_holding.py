"""Queues that an administrator holds."""

from __future__ import annotations

import pytest

from forkbroker.routing.queues.policies import Policy
from forkbroker.wire.kinds import Matter

from .simulation import World
from .stock import Stock

A, B = b"/queue/a", b"/queue/b"


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


@pytest.mark.parametrize("for_ms", [None, 60_000])
def test_a_hold_outlives_the_broker(for_ms: float | None) -> None:
    """For what is left of its time; a release as well."""
    world = World(Policy(), stock=Stock())
    child, holding = world.add_child(), world.router.holding
    for name in (A, B):
        world.send(child, name, [b"1"], persistent=True)
        holding.hold(name, for_ms)
    holding.release(B)
    world.run_store()
    again = restart(world)
    reader = again.add_child()
    again.subscribe(reader, A)
    again.turn()
    again.run_store()

    assert again.router.holding.names == {A}
    assert again.router.holding.left_s(A) == (None if for_ms is None else pytest.approx(60, abs=1))
    assert again.offers(reader) == []
    assert again.router.holding.release(A)
    again.run_store()
    assert again.consume(reader) == [b"1"]
    assert again.stock.notes == {}


def test_a_hold_whose_time_was_over_before_the_start_is_released_at_once() -> None:
    """And the log says so."""
    world = World(Policy(), stock=Stock())
    child = world.add_child()
    world.send(child, A, [b"1"], persistent=True)
    world.router.holding.hold(A, 0)
    world.run_store()
    again = restart(world)
    reader = again.add_child()
    again.subscribe(reader, A)
    again.turn()
    again.run_store()

    assert again.consume(reader) == [b"1"]
    assert again.router.take_events() == ["queue /queue/a: released, the time for which it was held is over"]
    assert again.stock.notes == {}


def test_what_the_store_could_not_be_told_it_is_told_later() -> None:
    """Another process of it as well."""
    world = World(Policy(), stock=Stock())
    assert world.router.holding.is_stored
    world.stock.fill_disk()
    world.run_store()
    assert not world.router.holding.is_stored
    world.router.holding.hold(A, None)
    world.run_store()
    assert world.stock.notes == {}
    world.kill_store()
    world.stock.free_disk()
    world.open_store()
    world.run_store()

    assert world.stock.notes == {(A, Matter.HELD): b"0"}


def restart(world: World) -> World:
    """Another broker, with what the store has."""
    world.kill_store()
    return World(world.policy, stock=world.stock)


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
