"""What the rules let go of is freed by reference counts: the parent's collector does not look for old cycles."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random

import pytest

from .life import ACTIONS, Life


@contextmanager
def _uncollected() -> Iterator[list[object]]:
    """In the end, the list has all objects that only a collection would have freed."""
    garbage: list[object] = []
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        yield garbage
        gc.collect()
        garbage += gc.garbage
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


@pytest.mark.parametrize("seed", range(6))
def test_nothing_that_has_ended_is_part_of_a_cycle(seed: int) -> None:
    """Children, consumers, offers, queues, durable subscriptions, and whatever else comes and goes in a broker."""
    life = Life(Random(seed))
    chance = Random(seed)
    actions = [action for action in ACTIONS if action not in (Life.restart, Life.stop, Life.kill_store)]
    with _uncollected() as garbage:
        for _ in range(300):
            chance.choice(actions)(life, Random(chance.random()))

    names = {type(thing).__qualname__ for thing in garbage if type(thing).__module__.startswith("forkbroker.")}
    assert names == set()
