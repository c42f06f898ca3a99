"""Persistent messages while the processes of the broker are killed under load: nothing that was promised is broken.

What is promised stands in `faults.book`; who kills whom, and when, in `faults.storm`. `make soak` does the same for
as long as it is told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from faults.soak import soak
from faults.storm import Storm

from forkbroker.posix.crashpoints import POINTS

ROUNDS = 25

#: Storms of so many rounds each, by their seeds.
SEEDS = (1, 2, 3, 4)

TURN = {"store.group-read": 20, "store.written": 20, "store.committed": 20, "store.told": 20, "store.paged": 3}
"""At which passage the process dies. Each process of the store counts anew: it has to get somewhere."""

Brew = Callable[..., Storm]


@pytest.fixture
def brew(tmp_path: Path) -> Iterator[Brew]:
    """Make storms, whose brokers and clients end with the test."""
    with ExitStack() as stack:

        def run(seed: int, crash: str = "", *, is_deep: bool | None = None) -> Storm:
            storm = Storm(tmp_path, seed, is_deep=is_deep, env={"FORKBROKER_CRASH": crash})
            return stack.enter_context(storm)

        yield run


@pytest.mark.row("J01", "J08", "J10", "D02", "R02", "T04")
@pytest.mark.parametrize("seed", SEEDS)
def test_what_has_a_receipt_outlives_whatever_is_killed(brew, seed) -> None:
    """Store, parent, children, all at once, at random under load: kept, in order, once, and transactions as a whole."""
    storm = brew(seed)
    storm.rage(ROUNDS)
    storm.finish()
    print(storm.describe())

    assert storm.faults == []
    assert len(storm.book.sent) > 100 * ROUNDS
    assert len(storm.harms) >= 4


OF_SPARES = {"parent.ordered", "parent.handed"}
"""Points on the way of a connection, not of a message: `test_nursery_kills` has them."""


def test_every_point_of_the_store_is_tried_here() -> None:
    """A new one belongs into the table above; but a death while a single change is tried is held against that change.

    `test_store_limits` has what follows from that.
    """
    assert {point for point in POINTS if point.startswith("store.")} - {"store.trying"} == TURN.keys()


@pytest.mark.row("J01", "D02", "T04")
@pytest.mark.parametrize("point", TURN)
def test_a_store_that_dies_at_a_point_is_followed_by_another_one(brew, point) -> None:
    """Again and again under load, and nobody sees it but in the log."""
    storm = brew(5, f"{point}:{TURN[point]}", is_deep=True)
    storm.load_until(lambda: storm.count_in_log("store: exited, signal SIGKILL") >= 3, "three deaths")
    storm.kill_parent()
    storm.finish()

    assert storm.faults == []


@pytest.mark.row("J01", "D02", "T04")
@pytest.mark.parametrize("point", [point for point in POINTS if point.startswith("parent.") and point not in OF_SPARES])
def test_a_parent_that_dies_at_a_point_leaves_what_it_has_promised(brew, point) -> None:
    """To the next one."""
    storm = brew(6, f"{point}:50")
    storm.load_until(lambda: not storm.broker.is_running, "the parent's end")
    storm.start_anew()
    storm.load(0.2)
    storm.finish()

    assert storm.faults == []


@pytest.mark.row("A07", "T04", "T05")
@pytest.mark.parametrize("point", [point for point in POINTS if point.startswith("child.") and point != "child.parked"])
def test_a_child_that_dies_at_a_point_with_persistent_messages_costs_nobody_one(brew, point) -> None:
    """Each of its successors dies there as well. Where deliveries are parked is tried in test_http_kills.py."""
    is_rare = point == "child.lost-told"
    storm = brew(7, f"{point}@c2:{5 if is_rare else 20}")
    if is_rare:
        # another one is quicker only where consumers wait for messages
        storm.most_ahead = 0
    victim = storm.consumers[2]
    storm.load_until(lambda: victim.connections >= 4, "three deaths of one client's processes")
    storm.finish()

    assert storm.faults == []


def test_the_soak_ends_well_and_says_so(capsys) -> None:
    """A small one."""
    assert soak(60, seed=8, storms=1, rounds=3) == 0
    assert "all well" in capsys.readouterr().out
