"""How long things take: histograms that cost one look-up for a turn of the loop, or for a commit."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from typing import Any

BOUNDS_S = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""The upper ends of the buckets (seconds); what takes longer is in one more."""
_MOST_OPEN = 10_000
"""Turns whose changes are not committed, of which the times are kept."""


class Histogram:
    """How often something has taken how long."""

    def __init__(self) -> None:
        self._counts = [0] * (len(BOUNDS_S) + 1)
        self._sum_s = 0.0

    def note(self, seconds: float) -> None:
        """It has taken so long."""
        self._counts[bisect_left(BOUNDS_S, seconds)] += 1
        self._sum_s += seconds

    def show(self) -> dict[str, Any]:
        """For JSON: pairs of an upper end, None for the last bucket, and how many lie in this bucket; and the sum."""
        return {"buckets": list(zip((*BOUNDS_S, None), self._counts, strict=True)), "sum": round(self._sum_s, 6)}


class Latencies:
    """Turns of the parent's loop, and commits of the store."""

    def __init__(self) -> None:
        self.turns = Histogram()
        self._commits = Histogram()
        self._told: deque[tuple[int, float]] = deque()
        """The last change of each turn that has brought some, and when that was (seconds)."""
        self._last = 0

    def changed(self, last: int, now: float) -> None:
        """So many changes have been made until now."""
        if last != self._last:
            self._last = last
            if len(self._told) < _MOST_OPEN:
                self._told.append((last, now))

    def committed(self, number: int, now: float) -> None:
        """All changes up to this one will survive."""
        told = self._told
        while told and told[0][0] <= number:
            self._commits.note(now - told.popleft()[1])

    def show(self) -> dict[str, Any]:
        """For JSON."""
        return {"turn": self.turns.show(), "commit": self._commits.show()}
