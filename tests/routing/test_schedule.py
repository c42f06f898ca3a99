"""Two clocks: what has a length goes by the one, what has a date by the other."""

from __future__ import annotations

import pytest

from forkbroker.routing.policies import Policy, QueuePolicy
from forkbroker.routing.schedule import Schedule
from forkbroker.wire.details import Wishes
from forkbroker.wire.kinds import Outcome

from .simulation import NOON, Child, World

A = b"/queue/a"
HOUR = 3600.0


class Clocks:
    """A schedule, what it has done, and the clock on the wall."""

    def __init__(self) -> None:
        self.wall = 1000.0
        self.done: list[str] = []
        self.schedule = Schedule(lambda: self.wall)

    def after(self, wait_ms: int, name: str) -> None:
        self.schedule.after(wait_ms, lambda: self.done.append(name))

    def at(self, date_ms: int, name: str) -> None:
        self.schedule.at(date_ms, lambda: self.done.append(name))

    def run(self, now: float) -> list[str]:
        """What is done at this monotonic time."""
        self.schedule.now = now
        self.done.clear()
        self.schedule.run_due()
        return self.done.copy()


# ---------------------------------------------------------------- the rows


def test_what_is_due_is_done_once_in_its_order() -> None:
    """Not before its time; of one time whichever came first."""
    clocks = Clocks()
    clocks.after(2000, "c")
    clocks.after(1000, "a")
    clocks.after(1000, "b")

    assert clocks.run(0.999) == []
    assert clocks.run(1.0) == ["a", "b"]
    assert clocks.run(9.0) == ["c"]
    assert clocks.run(99.0) == []
    assert clocks.schedule.deadline() is None


def test_the_wall_clock_says_when_dates_are_due() -> None:
    """However little time has passed."""
    clocks = Clocks()
    clocks.at(1_001_000, "date")
    clocks.after(1000, "wait")

    assert clocks.run(0.5) == []
    clocks.wall = 1001.0
    assert clocks.run(0.5) == ["date"]
    assert clocks.run(1.0) == ["wait"]


def test_the_deadline_is_the_nearer_of_the_two() -> None:
    """In monotonic seconds; what is overdue is due now."""
    clocks = Clocks()
    clocks.schedule.now = 50.0
    assert clocks.schedule.deadline() is None
    clocks.after(30_000, "wait")
    assert clocks.schedule.deadline() == 80.0
    clocks.at(1_010_000, "date")
    assert clocks.schedule.deadline() == 60.0
    clocks.wall = 1020.0
    assert clocks.schedule.deadline() == 50.0


def test_what_an_action_schedules_has_its_turn_next_time() -> None:
    """Though it is due already: a turn always ends."""
    clocks = Clocks()

    def again() -> None:
        clocks.done.append("again")
        clocks.schedule.after(0, again)

    clocks.schedule.after(0, again)

    assert clocks.run(1.0) == ["again"]
    assert clocks.run(1.0) == ["again"]


# ---------------------------------------------------------------- steps of the clock on the wall


def make_world(policy: QueuePolicy) -> tuple[World, Child, Child]:
    world = World(Policy(queue=policy))
    producer, consumer = world.add_child(), world.add_child()
    world.subscribe(consumer, A, credit=1)
    return world, producer, consumer


@pytest.mark.parametrize("step", [-HOUR, HOUR])
def test_a_lease_has_its_length_wherever_the_clock_is_set(step: float) -> None:
    """Ten seconds are ten seconds."""
    world, producer, holder = make_world(QueuePolicy(lease=10_000))
    world.send(producer, A, [b"1"])
    world.take_one(holder)
    other = world.add_child()
    world.subscribe(other, A)

    world.wall += step
    world.now = 9.9
    assert world.consume(other) == []
    world.now = 10.0

    assert world.consume(other) == [b"1"]


@pytest.mark.parametrize("step", [-HOUR, HOUR])
def test_the_wait_before_a_redelivery_has_its_length(step: float) -> None:
    """Neither at once, nor in an hour."""
    world, producer, consumer = make_world(QueuePolicy(redelivery_delay=5000))
    world.send(producer, A, [b"1"])
    for _ in range(2):
        offer = world.take_one(consumer)
        world.settle(consumer, offer.serial, 1, Outcome.RELEASED)
        world.hear(consumer)

    world.wall += step
    world.now = 4.9
    assert world.consume(consumer) == []
    world.now = 5.0

    assert world.consume(consumer) == [b"1"]


@pytest.mark.parametrize(("step", "bodies"), [(-HOUR, []), (HOUR, [b"noon"])])
def test_a_delayed_message_follows_the_clock(step: float, bodies: list[bytes]) -> None:
    """A date is a date: after a step forward it is due, after one backward it is an hour more away."""
    world, producer, consumer = make_world(QueuePolicy())
    world.send(producer, A, [b"noon"], wishes=Wishes(delay=60_000))

    world.wall += step

    assert world.consume(consumer) == bodies
    if not bodies:
        assert world.router.deadline() == pytest.approx(60.0 + HOUR)
        world.pass_time(60.0 + HOUR)
        assert world.consume(consumer) == [b"noon"]


@pytest.mark.parametrize(("step", "expired"), [(-HOUR, 0), (HOUR, 1)])
def test_an_expiry_follows_the_clock(step: float, expired: int) -> None:
    """Whether it was asked for as a moment or as a span."""
    world, producer, consumer = make_world(QueuePolicy())
    world.unsubscribe(consumer)
    world.send(producer, A, [b"x"], wishes=Wishes(ttl=60_000))
    world.send(producer, b"/queue/b", [b"x"], wishes=Wishes(expires=int(NOON * 1000) + 60_000))

    world.wall += step
    world.turn()

    assert world.router.counters.messages_expired == 2 * expired


def test_a_repeated_message_does_not_come_twice_when_the_clock_is_set_back() -> None:
    """Its next time stays where it was."""
    world, producer, consumer = make_world(QueuePolicy())
    world.send(producer, A, [b"tick"], wishes=Wishes(delay=1000, period=10_000, repeat=-1))
    world.pass_time(1)
    assert world.consume(consumer) == [b"tick"]

    world.wall -= 30
    assert world.consume(consumer) == []
    world.pass_time(39.9)
    assert world.consume(consumer) == []
    world.pass_time(0.1)

    assert world.consume(consumer) == [b"tick"]


def test_a_durable_subscription_ends_by_the_clock_on_the_wall() -> None:
    """The store has the date of its last use, over restarts."""
    world = World(Policy(durable=QueuePolicy(idle_expiry=60_000)))
    reader = world.add_child()
    world.subscribe(reader, b"/topic/t", durable=b"/dsub/me")
    world.end(reader)

    world.now += HOUR
    world.turn()
    assert len(world.router.views()) == 1
    world.wall += 61
    world.turn()

    assert world.router.views() == []
