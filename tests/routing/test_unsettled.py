"""What a subscription holds."""

from __future__ import annotations

from random import Random

import pytest

from forkbroker.routing.runs import Run, make_run
from forkbroker.routing.unsettled import Unsettled

from .simulation import make_send


def make_unsettled(*runs: tuple[int, int]) -> Unsettled:
    unsettled = Unsettled()
    for serial, count in runs:
        unsettled.add(make_run(make_send(b"/queue/a", [b"%d" % n for n in range(serial, serial + count)]), serial))
    return unsettled


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
    unsettled = make_unsettled((20, 5), (10, 5), (30, 5))

    assert shape(unsettled.settle(serial, count)) == settled
    assert shape(unsettled.take_all()) == left
    assert unsettled.settle(serial, count) == []


@pytest.mark.parametrize("seed", range(20))
def test_random_ranges_agree_with_a_set(seed: int) -> None:
    """Message by message."""
    random = Random(seed)
    unsettled = make_unsettled(*((serial, random.randint(1, 10)) for serial in range(0, 200, 10)))
    held = {serial for run in unsettled._runs for serial in range(run.serial, run.serial + run.count)}

    while held:
        serial, count = random.randint(0, 220), random.randint(1, 30)
        found = [
            (run.serial + n, bytes(run.envelope.pieces()[run.first + n]))
            for run in unsettled.settle(serial, count)
            for n in range(run.count)
        ]
        expected = sorted(held & set(range(serial, serial + count)))
        held -= set(expected)
        assert found == [(each, b"%d" % each) for each in expected]
