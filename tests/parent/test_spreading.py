"""Something done to many, within a time."""

from __future__ import annotations

from forkbroker.parent.spreading import Spread
from forkbroker.posix.loop import Loop


class Bench:
    """A spread whose clock is the test's."""

    def __init__(self) -> None:
        self.loop, self.done = Loop(), list[int]()
        self.spread = Spread[int](self.loop, self.done.append)

    def pass_tick(self) -> int:
        """A tenth of a second later: how many had their turn."""
        before = len(self.done)
        self.loop._deadlines = [(when - 0.11, order, deadline) for when, order, deadline in self.loop._deadlines]
        self.spread._ends_at -= 0.11
        self.loop.call_at(self.loop.now, lambda: None)
        self.loop.turn()
        return len(self.done) - before


def test_all_have_their_turn_within_the_time() -> None:
    """About as many in each tenth of a second, in order."""
    bench = Bench()
    bench.spread.begin(range(100), 1.0)
    counts = [len(bench.done)] + [bench.pass_tick() for _ in range(10)]

    assert bench.done == list(range(100))
    assert max(counts) < 30
    assert counts[0] == 10


def test_no_time_is_at_once() -> None:
    """For any number."""
    bench = Bench()
    bench.spread.begin(range(100), 0.0)

    assert bench.done == list(range(100))


def test_few_do_not_take_all_of_the_time() -> None:
    """At least so many in each tenth of a second."""
    bench = Bench()
    bench.spread.begin(range(12), 60.0, least=5)

    assert [len(bench.done)] + [bench.pass_tick() for _ in range(3)] == [5, 5, 2, 0]


def test_another_one_takes_its_place_and_an_end_ends_it() -> None:
    """Whoever was to come is left alone."""
    bench = Bench()
    bench.spread.begin(range(4), 60.0)
    bench.spread.begin(range(10, 14), 60.0)
    bench.pass_tick()
    bench.spread.end()

    assert bench.pass_tick() == 0
    assert bench.done == [0, 10, 11]
