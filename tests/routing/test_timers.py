"""Time as data: entries that can be cancelled, counted, written down and read again; and two clocks."""

from __future__ import annotations

import pytest

from forkbroker.routing.queues.policies import Policy, QueuePolicy
from forkbroker.routing.timers import BUDGET, Timers
from forkbroker.wire.details import Wishes
from forkbroker.wire.kinds import Flag, Outcome

from .simulation import NOON, Child, World
from .stock import Stock
from .twins import hand_over

A = b"/queue/a"
HOUR = 3600.0


class Clocks:
    """One timer, what it has done, and the system clock."""

    def __init__(self) -> None:
        self.wall = 1000.0
        self.done: list[bytes] = []
        self.timers = Timers(lambda: self.wall)
        self.timer = self.timers.add("note", self.done.append)

    def run(self, now: float) -> list[bytes]:
        """What is done at this monotonic time."""
        self.timers.now = now
        self.done.clear()
        self.timers.run_due()
        return self.done.copy()


# ---------------------------------------------------------------- the rows


def test_what_is_due_is_done_once_in_its_order() -> None:
    """Not before its time; of one time whichever was started first."""
    clocks = Clocks()
    clocks.timer.after(2000, b"c")
    clocks.timer.after(1000, b"b")
    clocks.timer.after(1000, b"a")

    assert clocks.run(0.999) == []
    assert clocks.run(1.0) == [b"b", b"a"]
    assert clocks.run(9.0) == [b"c"]
    assert clocks.run(99.0) == []
    assert clocks.timers.deadline() is None


def test_what_is_done_is_no_entry_any_more() -> None:
    """Already when its handler is called; what is left is what was neither done nor cancelled."""
    timers = Timers(lambda: 0.0)
    left: list[tuple[bool, int, float]] = []
    timer = timers.add("note", lambda key: left.append((key in timer, len(timers), timer.was_due)))
    for wait_ms, key in ((1000, b"a"), (2000, b"b"), (3000, b"c")):
        timer.after(wait_ms, key)
    timer.cancel(b"b")
    assert [key in timer for key in (b"a", b"b", b"c")] == [True, False, True]

    timers.now = 9.0
    timers.run_due()

    assert left == [(False, 1, 1.0), (False, 0, 3.0)]
    assert (len(timers), timers.agenda, b"c" in timer) == (0, (), False)


def test_the_budget_is_one_for_each_clock() -> None:
    """What is due by the one does not take the turn of what is due by the other."""
    clocks = Clocks()
    for number in range(3):
        clocks.timer.after(0, b"wait %d" % number)
        clocks.timer.at(0, b"date %d" % number)

    clocks.timers.run_due(2)

    assert clocks.done == [b"wait 0", b"wait 1", b"date 0", b"date 1"]
    assert len(clocks.timers) == 2


def test_the_wall_clock_says_when_dates_are_due() -> None:
    """However little time has passed."""
    clocks = Clocks()
    clocks.timer.at(1_001_000, b"date")
    clocks.timer.after(1000, b"wait")

    assert clocks.run(0.5) == []
    clocks.wall = 1001.0
    assert clocks.run(0.5) == [b"date"]
    assert clocks.run(1.0) == [b"wait"]


def test_the_deadline_is_the_nearer_of_the_two() -> None:
    """In monotonic seconds; what is overdue is due now."""
    clocks = Clocks()
    clocks.timers.now = 50.0
    assert clocks.timers.deadline() is None
    clocks.timer.after(30_000, b"wait")
    assert clocks.timers.deadline() == 80.0
    clocks.timer.at(1_010_000, b"date")
    assert clocks.timers.deadline() == 60.0
    clocks.wall = 1020.0
    assert clocks.timers.deadline() == 50.0


def test_what_a_handler_starts_has_its_turn_next_time() -> None:
    """Though it is due already: a turn always ends."""
    clocks = Clocks()

    def again(key: bytes) -> None:
        clocks.done.append(key)
        repeating.after(0, key)

    repeating = clocks.timers.add("repeating", again)
    repeating.after(0, b"again")

    assert clocks.run(1.0) == [b"again"]
    assert clocks.run(1.0) == [b"again"]


def test_a_timer_has_one_entry_for_a_key() -> None:
    """To start it again moves it, to the other clock as well; two timers do not share their keys."""
    clocks = Clocks()
    other = clocks.timers.add("other", clocks.done.append)
    clocks.timer.after(1000, b"a")
    other.after(1000, b"a")
    clocks.timer.after(2000, b"a")

    assert len(clocks.timers) == 2
    assert clocks.run(1.0) == [b"a"]
    clocks.timer.at(1_000_000, b"a")
    assert clocks.run(1.5) == [b"a"]
    assert clocks.run(9.0) == []


def test_an_entry_can_be_brought_forward_but_not_put_off() -> None:
    """By `at_latest`."""
    clocks = Clocks()
    clocks.timer.at_latest(1_005_000, b"a")
    clocks.timer.at_latest(1_009_000, b"a")
    assert clocks.timers.deadline() == 5.0
    clocks.timer.at_latest(1_002_000, b"a")

    assert clocks.timers.deadline() == 2.0


def test_what_is_cancelled_is_never_done() -> None:
    """Nor does it count, for the deadline or otherwise; to cancel what is not there does nothing."""
    clocks = Clocks()
    clocks.timer.after(1000, b"a")
    clocks.timer.at(1_000_000, b"b")
    clocks.timer.cancel(b"a")
    clocks.timer.cancel(b"b")
    clocks.timer.cancel(b"c")

    assert (len(clocks.timers), b"a" in clocks.timer, clocks.timers.deadline()) == (0, False, None)
    assert clocks.run(9.0) == []


def test_what_a_handler_cancels_is_not_done_in_the_same_turn() -> None:
    """Though both were due."""
    clocks = Clocks()

    def end(key: bytes) -> None:
        clocks.timer.cancel(b"victim")

    clocks.timers.add("ending", end).after(0, b"x")
    clocks.timer.after(0, b"victim")
    clocks.timer.after(0, b"other")

    assert clocks.run(0.0) == [b"other"]


def test_cancelled_entries_leave_memory_long_before_their_time() -> None:
    """Whole lives of queues that set a far date and end do not add up."""
    clocks = Clocks()
    clocks.timer.at(99_000_000, b"stays")
    for number in range(10_000):
        clocks.timer.at(9_000_000_000 - number, b"%d" % number)
        clocks.timer.cancel(b"%d" % number)

    assert len(clocks.timers._dates) < 200
    clocks.wall = 99_000.0
    assert clocks.run(1.0) == [b"stays"]


def test_one_turn_does_so_much_and_the_next_one_goes_on() -> None:
    """Of each clock; the deadline says that there is more."""
    clocks = Clocks()
    for number in range(BUDGET + 3):
        clocks.timer.after(1000, b"%d" % number)
        clocks.timer.at(1_000_000, b"date %d" % number)

    assert len(clocks.run(1.0)) == 2 * BUDGET
    assert clocks.timers.deadline() == 1.0
    assert len(clocks.run(1.0)) == 6
    assert clocks.timers.deadline() is None


def test_two_timers_of_one_name_are_a_mistake() -> None:
    """Their entries could not be told apart."""
    clocks = Clocks()

    with pytest.raises(AssertionError, match="two timers 'note'"):
        clocks.timers.add("note", clocks.done.append)


# ---------------------------------------------------------------- in another router


def reload(world: World) -> list[str]:
    """Another router goes on with what the world's one has dumped: the names of its timers."""
    agenda = world.router._timers.agenda
    hand_over(world)
    assert world.router._timers.agenda == agenda
    return [name for _, _, name, _ in agenda]


def test_a_lease_goes_on_in_another_router() -> None:
    """The consumer loses what it holds."""
    world, producer, holder = make_world(QueuePolicy(lease=10_000))
    world.send(producer, A, [b"1"])
    world.take_one(holder)

    assert reload(world) == ["lease"]
    world.pass_time(10)
    world.turn()
    assert world.view(A).unsettled == 0


def test_the_guard_of_a_suspect_goes_on() -> None:
    """Its consumer gets other messages when the moment is over."""
    world, producer, consumer = make_world(QueuePolicy())
    world.unsubscribe(consumer)
    world.send(producer, A, [b"suspect"])
    crashing = world.add_child()
    world.subscribe(crashing, A)
    world.take_one(crashing)
    world.end(crashing, "SIGSEGV")
    world.subscribe(consumer, A, credit=2)
    world.take_one(consumer)
    world.send(producer, A, [b"next"])

    assert reload(world) == ["guard"]
    assert world.offers(consumer) == []
    world.pass_time(1)
    assert [bytes(piece) for offer in world.offers(consumer) for piece in offer.pieces()] == [b"next"]


def test_the_wait_before_a_redelivery_goes_on() -> None:
    """The message is back at its place when it is over."""
    world, producer, consumer = make_world(QueuePolicy(redelivery_delay=5000))
    world.send(producer, A, [b"1"])
    for _ in range(2):
        offer = world.take_one(consumer)
        world.settle(consumer, offer.serial, 1, Outcome.RELEASED)
        world.hear(consumer)

    assert reload(world) == ["redelivery"]
    world.pass_time(5)
    assert world.consume(consumer) == [b"1"]


@pytest.mark.parametrize(
    ("wishes", "name"),
    [(Wishes(delay=5000), "delay-span"), (Wishes(deliver_at=int(NOON * 1000) + 5000), "delay-date")],
)
def test_a_delay_goes_on(wishes: Wishes, name: str) -> None:
    """The message comes at its time."""
    world, producer, consumer = make_world(QueuePolicy())
    world.send(producer, A, [b"1"], wishes=wishes)

    assert reload(world) == [name]
    world.pass_time(5)
    assert world.consume(consumer) == [b"1"]


def test_an_expiry_goes_on() -> None:
    """The message is dropped at its time, and the queue with it."""
    world, producer, consumer = make_world(QueuePolicy())
    world.unsubscribe(consumer)
    world.send(producer, A, [b"1"], wishes=Wishes(ttl=5000))

    assert reload(world) == ["expiry"]
    world.pass_time(5)
    world.turn()
    assert world.router.views() == []


def test_the_moment_for_catching_up_goes_on() -> None:
    """The producer is held until it is over."""
    world = World(Policy(queue_memory=10_000))
    producer, consumer = world.add_child(), world.add_child()
    world.subscribe(consumer, A)
    for _ in range(4):
        world.send(producer, A, [b"x" * 2000])
    offers = world.offers(consumer)
    assert [kind.name for kind, _ in world.answers(producer)] == ["HOLD"]
    assert offers

    assert reload(world) == ["catching-up"]
    world.pass_time(0.1)
    world.turn()
    assert [kind.name for kind, _ in world.answers(producer)] == ["RESUME"]


def test_the_expiry_of_a_durable_subscription_goes_on() -> None:
    """It ends when it was idle for so long."""
    world = World(Policy(durable=QueuePolicy(idle_expiry=60_000)))
    reader = world.add_child()
    world.subscribe(reader, b"/topic/t", durable=b"/dsub/me")
    world.end(reader)

    assert reload(world) == ["idle-durable"]
    world.pass_time(61)
    world.turn()
    assert world.router.views() == []


# ---------------------------------------------------------------- what ends takes its entries with it


def test_an_ended_consumer_leaves_no_lease_and_no_guard() -> None:
    """By UNSUBSCRIBE as by the end of its child."""
    for ending in ("unsubscribe", "end"):
        world, producer, holder = make_world(QueuePolicy(lease=10_000))
        world.send(producer, A, [b"1"])
        world.take_one(holder)
        getattr(world, ending)(holder)

        assert world.router._timers.agenda == ()


def test_a_queue_that_is_gone_leaves_no_expiry() -> None:
    """Used once with a far `expires`, it leaves nothing until then."""
    world, producer, consumer = make_world(QueuePolicy())
    world.send(producer, A, [b"1"], wishes=Wishes(ttl=86_400_000))
    assert world.consume(consumer) == [b"1"]
    world.unsubscribe(consumer)

    assert world.router.views() == []
    assert world.router._timers.agenda == ()


def test_a_reply_queue_that_is_gone_leaves_no_wait_and_no_delay() -> None:
    """What would come back to it, or come to it later, is dropped at once."""
    world, producer, _ = make_world(QueuePolicy(redelivery_delay=5000))
    owner = world.add_child()
    name = b"/reply-queue/7-x"
    world.subscribe(owner, name, flags=Flag.TEMPORARY)
    world.send(producer, name, [b"later"], wishes=Wishes(deliver_at=int(NOON * 1000) + 5000))
    world.send(producer, name, [b"1"])
    for _ in range(2):
        offer = world.take_one(owner)
        world.settle(owner, offer.serial, 1, Outcome.RELEASED)
        world.hear(owner)
    assert len(world.router._timers.agenda) == 2
    world.end(owner)

    assert world.router._timers.agenda == ()
    assert world.router.counters.messages_dropped == 2
    assert world.router._queues.window.used == 0


def test_a_deleted_durable_subscription_leaves_nothing() -> None:
    """No date of its own, and no message for later, in memory or in the store."""
    world = World(Policy(durable=QueuePolicy(idle_expiry=60_000)), stock=Stock())
    reader = world.add_child()
    world.subscribe(reader, b"/topic/t", durable=b"/dsub/me")
    later = Wishes(deliver_at=int(NOON * 1000) + 5000)
    world.send(reader, b"/topic/t", [b"later"], persistent=True, wishes=later)
    world.run_store()
    assert len(world.router._timers.agenda) == 2
    world.delete_durable(reader, b"/dsub/me", token=1)
    world.run_store()

    assert world.router._timers.agenda == ()
    assert not world.stock.rows
    world.pass_time(9)
    world.turn()
    assert world.router.views() == []


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
def test_a_message_for_a_moment_follows_the_system_clock(step: float, bodies: list[bytes]) -> None:
    """A date is a date: after a step forward it is due, after one backward it is an hour more away."""
    world, producer, consumer = make_world(QueuePolicy())
    world.send(producer, A, [b"noon"], wishes=Wishes(deliver_at=int(NOON * 1000) + 60_000))

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


@pytest.mark.parametrize("step", [-HOUR, 24 * HOUR])
@pytest.mark.parametrize("persistent", [False, True])
def test_a_delay_has_its_length_wherever_the_clock_is_set(step: float, persistent: bool) -> None:
    """An hour is an hour, and so is the period of what is repeated after it."""
    world = World(Policy(), stock=Stock())
    producer, consumer = world.add_child(), world.add_child()
    world.subscribe(consumer, A)
    wishes = Wishes(delay=3_600_000, period=600_000, repeat=1)
    world.send(producer, A, [b"hour"], persistent=persistent, wishes=wishes)

    world.wall += step
    world.pass_time(HOUR - 0.1)
    assert world.consume(consumer) == []
    world.pass_time(0.1)
    assert world.consume(consumer) == [b"hour"]

    world.wall -= step / 2
    world.pass_time(599.9)
    assert world.consume(consumer) == []
    world.pass_time(0.1)
    assert world.consume(consumer) == [b"hour"]
    assert world.router.deadline() is None


def test_the_store_has_the_date_on_which_a_span_would_end_now() -> None:
    """When a repetition is told to it: by the clock as that is set then. After a start this date counts."""
    world = World(Policy(), stock=Stock())
    producer = world.add_child()
    world.send(producer, A, [b"x"], persistent=True, wishes=Wishes(delay=1000, period=10_000, repeat=-1))
    world.wall += HOUR
    world.pass_time(1)
    world.turn()
    world.run_store()

    later = [row.details.due for row in world.stock.rows.values() if row.details.due]
    assert later == [int((NOON + HOUR + 1) * 1000) + 10_000]


def test_repetitions_by_span_do_not_drift() -> None:
    """However late each turn of the loop is."""
    world, producer, consumer = make_world(QueuePolicy())
    world.send(producer, A, [b"x"], wishes=Wishes(delay=1000, period=1000, repeat=-1))
    for _ in range(100):
        world.pass_time(1.0009)
        world.consume(consumer)

    assert world.router.deadline() == pytest.approx(101.0)


def test_what_is_repeated_from_a_moment_on_does_not_come_twice_when_the_clock_is_set_back() -> None:
    """Its next time stays where it was."""
    world, producer, consumer = make_world(QueuePolicy())
    wishes = Wishes(deliver_at=int(NOON * 1000) + 1000, period=10_000, repeat=-1)
    world.send(producer, A, [b"tick"], wishes=wishes)
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
