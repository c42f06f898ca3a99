"""What is counted begins with nothing."""

from __future__ import annotations

import dataclasses

from forkbroker.routing.counters import Counters, QueueView

from .twins import carry


def test_all_totals_begin_at_zero() -> None:
    """None of them is a setting."""
    assert set(dataclasses.asdict(Counters()).values()) == {0}


def test_a_queue_that_was_not_paged_has_all_in_memory() -> None:
    """The figure is there in any case."""
    assert QueueView(b"/queue/a", 1, 2, 3, 4).paged == 0


def test_another_router_counts_on() -> None:
    """All of it."""
    names = [field.name for field in dataclasses.fields(Counters)]
    counters = Counters(*range(1, len(names) + 1))

    assert carry(counters, Counters()) == counters
