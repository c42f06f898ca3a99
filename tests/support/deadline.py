"""Waiting for what must come, and no longer than is reasonable."""

from __future__ import annotations

import select
import time
from collections.abc import Callable
from typing import TypeVar

from forkbroker.testing.broker import PATIENCE_S, STRETCH

_POLL_S = 0.003
_T = TypeVar("_T")


def stretched(seconds: float) -> float:
    """So many seconds on a fast machine; more where FORKBROKER_TEST_STRETCH says so."""
    return seconds * STRETCH


def wait_until(condition: Callable[[], _T], what: str, deadline_s: float = PATIENCE_S) -> _T:
    """Ask again and again until a condition holds, and give what it gave; fail when it doesn't in time."""
    give_up = time.monotonic() + stretched(deadline_s)
    while not (result := condition()):
        assert time.monotonic() < give_up, f"waited in vain: {what}"
        select.select([], [], [], _POLL_S)
    return result
