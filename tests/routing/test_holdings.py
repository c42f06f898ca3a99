"""What a subscription holds."""

from __future__ import annotations

from math import log2
from random import Random

import pytest

from forkbroker.routing.offers.holdings import Holdings
from forkbroker.routing.queues.runs import Run, make_run

from .simulation import make_send

MANY = 1_000_000


def make_holdings(*runs: tuple[int, int]) -> Holdings:
    holdings = Holdings()
    for serial, count in runs:
        holdings.add(make_run(make_send(b"/queue/a", [b"%d" % n for n in range(serial, serial + count)]), serial))
    return holdings


def shape(runs: list[Run]) -> list[tuple[int, int]]:
    return [(run.serial, run.count) for run in runs]


@pytest.mark.parametrize(
    ("serial", "count", "settled", "left"),
    [
        (10, 5, [(10, 5)], [(20, 5), (30, 5)]),
        (10, 2, [(10, 2)], [(12, 3), (20, 5), (30, 5)]),
        (11, 2, [(11, 2)], [(10, 1), (13, 2), (20, 5), (30, 5)]),
        (13, 2, [(13, 2)], [(10, 3), (20, 5), (30, 5)]),
        (10, 15, [(10, 5), (20, 5)], [(30, 5)]),
        (12, 10, [(12, 3), (20, 2)], [(10, 2), (22, 3), (30, 5)]),
        (0, 100, [(10, 5), (20, 5), (30, 5)], []),
        (15, 5, [], [(10, 5), (20, 5), (30, 5)]),
        (0, 10, [], [(10, 5), (20, 5), (30, 5)]),
        (40, 10, [], [(10, 5), (20, 5), (30, 5)]),
        (9, 2, [(10, 1)], [(11, 4), (20, 5), (30, 5)]),
        (34, 7, [(34, 1)], [(10, 5), (20, 5), (30, 4)]),
    ],
)
def test_any_range_is_settled(
    serial: int, count: int, settled: list[tuple[int, int]], left: list[tuple[int, int]]
) -> None:
    """What of it is held comes out in order, the rest stays."""
    holdings = make_holdings((20, 5), (10, 5), (30, 5))

    assert shape(holdings.settle(serial, count)) == settled
    assert shape(holdings.take_all()) == left
    assert holdings.settle(serial, count) == []


@pytest.mark.parametrize("seed", range(20))
def test_random_ranges_agree_with_a_set(seed: int) -> None:
    """Message by message."""
    random = Random(seed)
    holdings = make_holdings(*((serial, random.randint(1, 10)) for serial in range(0, 200, 10)))
    held = {serial for run in holdings.runs for serial in range(run.serial, run.serial + run.count)}

    while held:
        serial, count = random.randint(0, 220), random.randint(1, 30)
        found = [
            (run.serial + n, bytes(run.envelope.pieces()[run.first + n]))
            for run in holdings.settle(serial, count)
            for n in range(run.count)
        ]
        expected = sorted(held & set(range(serial, serial + count)))
        held -= set(expected)
        assert found == [(each, b"%d" % each) for each in expected]


# ---------------------------------------------------------------- what is held


@pytest.mark.parametrize(
    ("serial", "count", "expected"),
    [
        (10, 5, True), (10, 1, True), (14, 1, True), (10, 10, True), (12, 13, True),
        (9, 1, False), (9, 2, False), (5, 3, False), (0, 100, False), (15, 1, True), (24, 1, True), (24, 2, False),
        (25, 1, False), (29, 1, False), (29, 2, False), (20, 11, False), (30, 5, True), (34, 2, False), (40, 1, False),
    ],
)  # fmt: skip
def test_a_range_is_held_if_each_message_of_it_is(serial: int, count: int, expected: bool) -> None:
    """Over several runs, and not if it begins before, ends behind, or has a gap."""
    assert make_holdings((15, 10), (10, 5), (30, 5)).has(serial, count) is expected


def test_nothing_is_held_at_first() -> None:
    """Nor when all was let go."""
    holdings = make_holdings()
    assert not holdings.has(1, 1)
    holdings = make_holdings((1, 5))
    holdings.take_all()

    assert not holdings.has(1, 1)
    assert (len(holdings), list(holdings), holdings.next_overdue()) == (0, [], 0.0)


def test_what_is_held_can_be_gone_through() -> None:
    """Run by run, in order."""
    holdings = make_holdings((20, 1), (10, 5))
    holdings.settle(11, 2)

    assert shape(list(holdings)) == [(10, 1), (13, 2), (20, 1)]


# ---------------------------------------------------------------- leases


def claim(holdings: Holdings, serial: int, count: int, until: float) -> None:
    run = make_run(make_send(b"/queue/a", [b""] * count), serial)
    run.held_until = until
    holdings.add(run)


def test_what_is_overdue_is_let_go_and_nothing_else() -> None:
    """Whatever the order of serials; parts of a run have its lease."""
    holdings = Holdings()
    for serial, until in ((20, 1.0), (10, 2.0), (30, 3.0)):
        claim(holdings, serial, 5, until)
    holdings.settle(21, 1)
    assert holdings.next_overdue() == 1.0

    assert holdings.take_overdue(0.9, MANY) == []
    assert shape(holdings.take_overdue(2.0, MANY)) == [(20, 1), (22, 3), (10, 5)]
    assert holdings.next_overdue() == 3.0
    assert shape(holdings.take_all()) == [(30, 5)]


def test_what_came_back_has_its_new_lease() -> None:
    """The one before ended with its settlement, although it would end earlier."""
    holdings = Holdings()
    claim(holdings, 10, 5, 1.0)
    holdings.settle(10, 5)
    claim(holdings, 20, 1, 2.0)
    claim(holdings, 12, 2, 3.0)

    assert holdings.next_overdue() == 2.0
    assert holdings.take_overdue(1.5, MANY) == []
    assert shape(holdings.take_overdue(2.5, MANY)) == [(20, 1)]
    assert shape(holdings.take_overdue(3.0, MANY)) == [(12, 2)]


def test_settled_runs_leave_no_notes_of_their_leases() -> None:
    """Even behind one that is held for ever."""
    holdings = Holdings()
    claim(holdings, 1, 1, 1.0)
    for serial in range(2, 5000):
        claim(holdings, serial, 1, float(serial))
        holdings.settle(serial, 1)

    assert len(holdings._leases) < 100
    assert holdings.next_overdue() == 1.0


@pytest.mark.parametrize("seed", range(10))
def test_random_leases_agree_with_a_dictionary(seed: int) -> None:
    """Claims, settlements and ends of leases in any order."""
    random, holdings, model = Random(seed), Holdings(), dict[int, float]()
    for now in range(400):
        start, count = random.randint(0, 60), random.randint(1, 4)
        free = [serial for serial in range(start, start + count) if serial not in model]
        if len(free) == count:
            claim(holdings, start, count, now + 20.0)
            model |= dict.fromkeys(free, now + 20.0)
        elif random.random() < 0.5:
            holdings.settle(start, count)
            model = {serial: until for serial, until in model.items() if not start <= serial < start + count}
        if random.random() < 0.2:
            overdue = {serial for serial, until in model.items() if until <= now}
            found = [run.serial + n for run in holdings.take_overdue(now, MANY) for n in range(run.count)]
            assert sorted(found) == sorted(overdue)
            model = {serial: until for serial, until in model.items() if until > now}
        assert holdings.next_overdue() == min(model.values(), default=0.0)
        assert holdings.has(start, count) is all(serial in model for serial in range(start, start + count))


# ---------------------------------------------------------------- steps


class Counting(Run):
    """Counts how often one of its kind is looked at."""

    looks = 0

    @property
    def serial(self) -> int:
        """Counted."""
        Counting.looks += 1
        return self._serial

    @serial.setter
    def serial(self, value: int) -> None:
        self._serial = value

    @property
    def held_until(self) -> float:
        """Counted."""
        Counting.looks += 1
        return self._held_until

    @held_until.setter
    def held_until(self, value: float) -> None:
        self._held_until = value


def count_looks(held: int) -> float:
    """Looks for each of a hundred settlements, questions and ends of leases, while so much is held."""
    holdings = Holdings()
    envelope = make_send(b"/queue/a", [b""])
    for serial in range(held):
        run = Counting(envelope, first=0, count=1, serial=serial, octets=0, overhead=1)
        run.held_until = serial + 1.0
        holdings.add(run)
    Counting.looks = 0
    for serial in range(held // 2, held // 2 + 100):
        assert holdings.has(serial, 1)
        assert holdings.settle(serial, 1)
        assert holdings.take_overdue(serial - held // 2 + 1.0, MANY)
        assert holdings.next_overdue() > 0
    return Counting.looks / 100


def test_the_cost_of_a_settlement_hardly_grows_with_what_is_held() -> None:
    """A few bisections each."""
    assert count_looks(20_000) < 20 * log2(20_000)
    assert count_looks(20_000) < 2 * count_looks(1_000)
