"""Things to be done at a time: two rows of them, one for each clock.

What has a length (a lease, the wait before a redelivery) ends by the monotonic clock, and a step of the other one
doesn't matter. What has a point in time (an expiry, a message to be delivered at noon) follows the clock on the
wall, wherever that is set to.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count

Action = Callable[[], None]


class Schedule:
    """What is due when. Rules read no clock: `now` is told, and `wall` is a function of somebody who may."""

    def __init__(self, wall: Callable[[], float]) -> None:
        """`wall` gives seconds since the epoch."""
        self._wall = wall
        self._order = count()
        self._waits: list[tuple[float, int, Action]] = []
        self._dates: list[tuple[int, int, Action]] = []
        self.now = 0.0
        """Monotonic seconds."""

    def wall_ms(self) -> int:
        """Milliseconds since the epoch."""
        return int(self._wall() * 1000)

    def after(self, wait_ms: float, action: Action) -> None:
        """Do it when so many milliseconds have passed."""
        heapq.heappush(self._waits, (self.now + wait_ms / 1000, next(self._order), action))

    def at(self, date_ms: int, action: Action) -> None:
        """Do it at this time, in milliseconds since the epoch."""
        heapq.heappush(self._dates, (date_ms, next(self._order), action))

    def run_due(self) -> None:
        """Do what is due. Actions may schedule others; those have their turn next time."""
        due: list[Action] = []
        while self._waits and self._waits[0][0] <= self.now:
            due.append(heapq.heappop(self._waits)[2])
        if self._dates:
            wall_ms = self.wall_ms()
            while self._dates and self._dates[0][0] <= wall_ms:
                due.append(heapq.heappop(self._dates)[2])
        for action in due:
            action()

    def deadline(self) -> float | None:
        """When something is due next (monotonic seconds), as far as the clock on the wall is not set."""
        times = [self._waits[0][0]] if self._waits else []
        if self._dates:
            times.append(self.now + max(0.0, (self._dates[0][0] - self.wall_ms()) / 1000))
        return min(times, default=None)
