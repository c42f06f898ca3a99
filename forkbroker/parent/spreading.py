"""Something done to many, one after the other, within a time: they will not all come back in the same second."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

from forkbroker.posix.loop import Loop

_TICK_S = 0.1
_T = TypeVar("_T")


class Spread(Generic[_T]):
    """What is going on of that; the next one takes the place of the one before."""

    def __init__(self, loop: Loop, act: Callable[[_T], None]) -> None:
        """`act` is done to each."""
        self._loop = loop
        self._act = act
        self._left: deque[_T] = deque()
        self._ends_at = 0.0
        self._least = 1
        self._run = 0

    def begin(self, those: Iterable[_T], within_s: float, least: int = 1) -> None:
        """Do it to these within so many seconds; to at least so many in each tenth of a second."""
        self._run += 1
        self._left = deque(those)
        self._ends_at = self._loop.now + within_s
        self._least = least
        self._go_on(self._run)

    def end(self) -> None:
        """Leave those alone whose turn has not come."""
        self._left.clear()

    def _go_on(self, run: int) -> None:
        """As many in each tick as it takes to be done in time."""
        if run != self._run or not self._left:
            return
        ticks = max(1.0, (self._ends_at - self._loop.now) / _TICK_S)
        count = max(self._least, math.ceil(len(self._left) / ticks))
        for _ in range(min(count, len(self._left))):
            self._act(self._left.popleft())
        self._loop.call_at(self._loop.now + _TICK_S, lambda: self._go_on(run))
