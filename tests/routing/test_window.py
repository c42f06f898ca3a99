"""How much memory is free, and how much the store is asked for."""

from __future__ import annotations

import pytest

from forkbroker.routing.queues.lanes import Lane
from forkbroker.routing.queues.runs import make_run
from forkbroker.routing.queues.window import FETCH, Window

from .simulation import make_send

KIB, MIB = 1 << 10, 1 << 20


def make_lane(memory: int = 0) -> Lane:
    lane = Lane(4)
    if memory:
        lane.append(make_run(make_send(b"/queue/a", [b"x"]), 1))
        lane.memory = memory
    return lane


@pytest.mark.parametrize(
    ("limit", "used", "asked", "wanted"),
    [
        (64 * MIB, 0, 0, FETCH),
        (4 * MIB, 0, 0, 2 * MIB),
        (4 * MIB, 2 * MIB, 0, MIB),
        (4 * MIB, MIB, 2 * MIB, MIB // 2),
        (4 * MIB, 4 * MIB, 0, 64 * KIB),
        (4 * MIB, 2 * MIB, 9 * MIB, 64 * KIB),
        (4 * MIB, 9 * MIB, 0, 64 * KIB),
    ],
)
def test_half_of_what_is_free_is_asked_for(limit: int, used: int, asked: int, wanted: int) -> None:
    """Not what was asked for already; a little always, as a queue could not be consumed otherwise; never too much."""
    window = Window(limit)
    window.used, window.asked = used, asked

    assert window.wants(make_lane()) == wanted


@pytest.mark.parametrize(
    ("limit", "memory", "is_enough"),
    [
        (4 * MIB, 2 * MIB - 1, False),
        (4 * MIB, 2 * MIB, True),
        (1 << 30, 8 * MIB - 1, False),
        (1 << 30, 8 * MIB, True),
        (0, 64 * KIB - 1, False),
        (0, 64 * KIB, True),
    ],
)
def test_nothing_is_asked_for_while_enough_is_there(limit: int, memory: int, is_enough: bool) -> None:
    """As much as would be asked for, or eight megabytes."""
    assert (Window(limit).wants(make_lane(memory)) == 0) is is_enough


def test_what_is_free_may_be_less_than_nothing() -> None:
    """When consumers have more than all."""
    window = Window(10)
    window.used = 12

    assert window.free == -2
