"""Which of many messages expires next, and what it costs to know."""

from __future__ import annotations

from forkbroker.routing.heaps import SPARE
from forkbroker.routing.queues.expiries import Expiries
from forkbroker.routing.queues.lanes import Lane
from forkbroker.routing.queues.runs import Run, make_run
from forkbroker.wire.details import Details

from .simulation import make_send

A = b"/queue/a"


def run_at(serial: int, expires: int, count: int = 1) -> Run:
    return make_run(make_send(A, [b"x"] * count), serial, Details(expires=expires))


class CountingRun(Run):
    """A run that counts how often anybody looks at any of them."""

    __slots__ = ()
    looks = 0

    def __getattribute__(self, name: str) -> object:
        if name in ("details", "count", "serial"):
            CountingRun.looks += 1
        return super().__getattribute__(name)


def test_the_first_to_expire_is_known_whatever_the_order_of_arrival() -> None:
    """0: none expires."""
    expiries = Expiries()
    assert (expiries.next(), expiries.find_due(10**9)) == (0, None)
    late, soon = run_at(1, 900), run_at(2, 500)
    expiries.add(late)
    expiries.add(soon)

    assert expiries.next() == 500
    assert expiries.find_due(499) is None
    assert expiries.find_due(500) is soon
    expiries.remove(soon)
    assert expiries.find_due(900) is late


def test_a_run_from_whose_front_something_was_taken_is_still_known() -> None:
    """It ends where it ended."""
    expiries = Expiries()
    run = run_at(1, 500, count=5)
    expiries.add(run)
    run.split(3)

    assert expiries.find_due(500) is run
    expiries.remove(run)
    assert expiries.next() == 0


def test_what_left_before_its_time_does_not_stay_in_memory() -> None:
    """A queue through which messages with a far expiry pass."""
    expiries = Expiries()
    expiries.add(stays := run_at(1, 10**6))
    for serial in range(2, 10_000):
        expiries.add(run := run_at(serial, 10**9))
        expiries.remove(run)

    assert len(expiries) < 200
    assert expiries.find_due(10**6) is stays


def test_what_comes_back_again_and_again_is_one_entry() -> None:
    """At most twice as many entries as runs, and some."""
    expiries, run = Expiries(), run_at(1, 500)
    for _ in range(1000):
        expiries.add(run)
        expiries.remove(run)
    expiries.add(run)

    assert len(expiries) < 100
    assert expiries.find_due(500) is run


def test_the_cost_of_an_expiry_does_not_grow_with_what_waits() -> None:
    """A lane with ten times as many messages: the looks at any of them, for a hundred that expire in its middle."""
    looks = []
    for size in (3_000, 30_000):
        lane = Lane(4)
        for serial in range(1, size + 1):
            run = run_at(serial, 500 if serial % (size // 100) == 0 else 10**6)
            run.__class__ = CountingRun
            lane.append(run)
        CountingRun.looks = 0
        expired = lane.take_expired(500, 1000)
        looks.append(CountingRun.looks)
        assert len(expired) == 100

    assert looks[1] <= looks[0] * 1.2


def test_what_has_expired_leaves_the_row_in_portions_and_nothing_stays_of_it() -> None:
    """So many runs at a time; what is left can be taken in its order."""
    lane = Lane(4)
    for serial in range(1, 2001):
        lane.append(run_at(serial, 500 if serial % 4 else 0))

    assert len(lane.take_expired(500, 700)) == 700
    assert lane.ready == 1300
    assert len(lane.take_expired(500, 5000)) == 800
    assert lane.ready == 500
    assert len(lane.fresh) < 1000
    assert [lane.take(1).serial for _ in range(500)] == list(range(4, 2001, 4))
    assert (lane.ready, lane.memory, lane.hidden, len(lane.fresh)) == (0, 0, 0, 0)


def test_an_expired_head_leaves_its_row_at_once() -> None:
    """What is next can be taken, also if several in a row have gone."""
    lane = Lane(4)
    for serial, expires in enumerate([900, 500, 500, 0, 500], 1):
        lane.append(run_at(serial, expires))
    lane.take_expired(500, 10)

    assert lane.head().serial == 1
    assert [lane.take(1).serial for _ in range(2)] == [1, 4]
    assert (lane.ready, len(lane.fresh)) == (0, 0)


def test_what_is_made_anew_is_in_order_again() -> None:
    """When the heap has more entries for nothing than for runs, and 64 more: then they go, a few at a time."""
    expiries, sizes = Expiries(), []
    for place, expires in enumerate((900, 700, 800), 1):
        expiries.add(run_at(place, expires))
    for serial in range(10, 200):
        expiries.add(run := run_at(serial, 10**9))
        sizes.append(len(expiries))
        expiries.remove(run)

    largest = max(sizes)
    assert SPARE < largest < 2 * (4 + SPARE)
    assert min(sizes[sizes.index(largest) :]) < 20
    order = []
    while (due := expiries.find_due(10**6)) is not None:
        order.append(due.details.expires)
        expiries.remove(due)
    assert order == [700, 800, 900]


def test_the_first_millisecond_is_a_time() -> None:
    """Only 0 is none."""
    expiries = Expiries()
    expiries.add(run := run_at(1, 1))

    assert expiries.find_due(1) is run
