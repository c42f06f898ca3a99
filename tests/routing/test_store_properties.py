"""Whatever dies and whenever: what was promised is kept, and what is kept comes in its order, once at a time.

Lives of a broker, its store and its children (`life.py`). FORKBROKER_LIVES=2000 asks for more of them than the 60 + 60
of an ordinary run: other ones each time, and as long as that takes (some four a second).
"""

from __future__ import annotations

import os
from random import Random, SystemRandom

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .life import ACTIONS, Action, Life, live, small_bounds

ASKED = int(os.environ.get("FORKBROKER_LIVES", "0"))
FIRST = SystemRandom().randrange(10**9) if ASKED else 0


@settings(
    max_examples=ASKED or 60,
    derandomize=not ASKED,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@given(
    seed=st.integers(0, 10**6),
    steps=st.lists(st.tuples(st.sampled_from(ACTIONS), st.integers(0, 10**6)), min_size=150, max_size=300),
)
@pytest.mark.timeout(120 + ASKED)
def test_what_was_promised_is_kept(seed: int, steps: list[tuple[Action, int]]) -> None:
    """Over the deaths of children, of the store and of the broker. Each step has its own dice: fewer steps will do."""
    with small_bounds():
        life = Life(Random(seed))

        for action, dice in steps:
            action(life, Random(dice))

        life.finish()


@pytest.mark.parametrize("seed", range(FIRST, FIRST + (ASKED or 60)))
def test_what_was_promised_is_kept_in_this_life(seed: int) -> None:
    """One that is known by its number, and can be lived again."""
    live(seed)
