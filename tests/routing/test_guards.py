"""Children that are kept for a suspect: for how long, and what ends it."""

from __future__ import annotations

import pytest

from forkbroker.routing.offers.consumers import Child
from forkbroker.routing.offers.guards import MAX_GUARD_S, MAX_WAIT_S, Guards
from forkbroker.routing.peers import Peer
from forkbroker.routing.queues.policies import QueuePolicy
from forkbroker.routing.queues.queue import Queue
from forkbroker.routing.queues.runs import Run, make_run
from forkbroker.routing.queues.window import Window
from forkbroker.routing.timers import Timers
from forkbroker.wire.kinds import Kind

from .simulation import World, make_send
from .twins import hand_over


class Guarded:
    """Guards, two queues and two children, and what was noted of them."""

    def __init__(self) -> None:
        self.timers = Timers(lambda: 0.0)
        self.changed: dict[Queue, None] = {}
        self.eased: dict[Child, None] = {}
        self.guards = Guards(self.timers, self.changed, self.eased)
        self.queue, self.other = (Queue(name, QueuePolicy(), Window(1 << 20)) for name in (b"/queue/a", b"/queue/b"))
        self.one, self.two = Child(Peer(1), 1000), Child(Peer(2), 1000)

    def run(self, now: float) -> None:
        """Time passes."""
        self.timers.now = now
        self.timers.run_due()


def suspect(deliveries: int = 1) -> Run:
    run = make_run(make_send(b"/queue/a", [b"x"]), 1)
    run.deliveries = deliveries
    return run


def test_a_child_is_kept_for_the_suspect_that_it_was_given() -> None:
    """Until it holds nothing again; then the queue goes on, and so may the child's other subscriptions."""
    world = Guarded()
    world.guards.give(world.one, world.queue, suspect())
    kept = (world.one.kept_for, world.one.has_suspect, len(world.timers))
    world.guards.become_idle(world.one)

    assert kept == (world.queue, True, 1)
    assert (world.one.kept_for, world.one.has_suspect, len(world.timers)) == (None, False, 0)
    assert (list(world.changed), list(world.eased)) == ([world.queue], [world.one])
    assert world.guards._kept == {}


@pytest.mark.parametrize(
    ("deliveries", "seconds"), [(0, 1), (1, 1), (2, 2), (5, 16), (10, 512), (11, 600), (1_000_000, MAX_GUARD_S)]
)
def test_the_time_of_a_suspect_doubles_with_its_deliveries(deliveries: int, seconds: float) -> None:
    """From a second to ten minutes; then the child is free although it has settled nothing."""
    world = Guarded()
    world.guards.give(world.one, world.queue, suspect(deliveries))
    world.run(seconds - 0.001)
    before = world.one.kept_for
    world.run(seconds)

    assert (before, world.one.kept_for) == (world.queue, None)
    assert list(world.eased) == [world.one]


@pytest.mark.parametrize(("deliveries", "seconds"), [(1, 1), (4, 8), (5, 10), (60, MAX_WAIT_S)])
def test_a_queue_waits_for_an_idle_child_for_a_while(deliveries: int, seconds: float) -> None:
    """Ten seconds at most, as all that stands behind the suspect waits as well."""
    world = Guarded()
    begun = world.guards.must_wait(world.queue, suspect(deliveries), world.one)
    world.timers.now = seconds - 0.001
    late = world.guards.must_wait(world.queue, suspect(deliveries), world.two)
    world.timers.now = seconds
    over = world.guards.must_wait(world.queue, suspect(deliveries), world.two)

    assert (begun, late, over) == (True, True, False)
    assert (world.one.kept_for, world.two.kept_for) == (world.queue, None)


def test_who_is_to_become_idle_and_is_stays_kept_until_it_gets_the_suspect() -> None:
    """The queue is told that something has changed; who is given the suspect then is another question."""
    world = Guarded()
    world.guards.must_wait(world.queue, suspect(), world.one)
    world.guards.become_idle(world.one)
    kept = world.one.kept_for
    world.guards.give(world.two, world.queue, suspect())

    assert kept is world.queue
    assert list(world.changed) == [world.queue]
    assert (world.one.kept_for, world.two.kept_for) == (None, world.queue)
    assert (world.guards.waiting, list(world.eased)) == ({}, [world.one])


def test_a_queue_that_waits_no_longer_lets_its_child_go() -> None:
    """Only the one that is kept for it, and has no suspect; a queue that never waited changes nothing."""
    world = Guarded()
    world.guards.stop_waiting(world.other)
    world.guards.must_wait(world.queue, suspect(), world.one)
    world.guards.let_go(world.one)
    world.guards.give(world.one, world.other, suspect())
    world.guards.stop_waiting(world.queue)

    assert (world.one.kept_for, world.one.has_suspect) == (world.other, True)
    assert world.guards.waiting == {}


def test_a_child_that_ends_is_forgotten() -> None:
    """With the wait for it, but not with that for another one, and without a timer for nothing."""
    world = Guarded()
    world.guards.forget(world.two)
    world.guards.must_wait(world.queue, suspect(), world.one)
    world.guards.must_wait(world.other, suspect(), world.two)
    world.guards.forget(world.one)

    assert list(world.guards.waiting) == [world.other]
    assert list(world.guards._kept) == [world.two.peer]
    assert len(world.timers) == 1
    assert world.queue in world.changed


def test_a_child_that_ends_takes_no_wait_for_another_one_with_it() -> None:
    """It has the suspect of a queue that waits for a second child since its guard's time was over."""
    world = Guarded()
    world.guards.give(world.one, world.queue, suspect())
    world.guards.must_wait(world.queue, suspect(), world.two)
    world.guards.forget(world.one)

    assert world.guards.waiting[world.queue][1] is world.two


def test_one_that_is_kept_for_nothing_becomes_idle_in_silence() -> None:
    """That is most of them, all of the time."""
    world = Guarded()
    world.guards.become_idle(world.one)

    assert (world.changed, world.eased) == ({}, {})


def test_a_queue_waits_for_the_same_child_in_another_router() -> None:
    """As soon as that one is idle it gets the suspect."""
    world = World()
    producer, busy = world.add_child(), world.add_child()
    world.subscribe(busy, b"/queue/b")
    world.send(producer, b"/queue/b", [b"busy"])
    job = world.take_one(busy)
    crashing = world.add_child()
    world.subscribe(crashing, b"/queue/a")
    world.send(producer, b"/queue/a", [b"suspect"])
    world.take_one(crashing)
    world.end(crashing, "by SIGSEGV")
    world.subscribe(busy, b"/queue/a", token=2)
    assert world.offers(busy) == []

    hand_over(world)
    guards = world.router._offering.clientele.guards
    assert (len(guards.waiting), list(guards._kept)) == (1, [busy.peer])
    world.settle(busy, job.serial)
    (offer,) = world.offers(busy)
    hand_over(world)

    assert (offer.kind, bytes(offer.pieces()[0])) == (Kind.OFFER, b"suspect")
    child = world.router._offering.clientele.children[busy.peer]
    assert (child.has_suspect, child.kept_for) == (True, world.router._queues.find(b"/queue/a"))
