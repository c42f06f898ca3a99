"""Which of the waiting messages of one lane expire next.

A heap of (time, serial behind the run's last message). Whole runs come and go all the time, and a run from whose front
messages were taken keeps that serial: so nothing is to be done here then. What leaves otherwise stays in the heap until
it is met, or until the heap is twice as large as it has to be and is made anew. So the cost of a message is that of one
entry, however many others wait.
"""

from __future__ import annotations

import heapq

from forkbroker.routing.runs import Run

_SPARE = 64
"""Entries that a heap may have for nothing."""


class Expiries:
    """The runs of one lane that expire at some time."""

    __slots__ = ("_heap", "_runs")

    def __init__(self) -> None:
        """Start with none."""
        self._runs: dict[int, Run] = {}
        self._heap: list[tuple[int, int]] = []

    def __len__(self) -> int:
        """Return the number of entries in memory, those for nothing included."""
        return len(self._heap)

    def add(self, run: Run) -> None:
        """A run with an expiry waits."""
        end = run.serial + run.count
        self._runs[end] = run
        heapq.heappush(self._heap, (run.details.expires, end))
        if len(self._heap) > 2 * len(self._runs) + _SPARE:
            self._heap = [(run.details.expires, end) for end, run in self._runs.items()]
            heapq.heapify(self._heap)

    def remove(self, run: Run) -> None:
        """A run with an expiry waits no longer, all of it."""
        del self._runs[run.serial + run.count]

    def next(self) -> int:
        """Return when the first run expires (milliseconds since the epoch); 0: none does."""
        heap, runs = self._heap, self._runs
        while heap and heap[0][1] not in runs:
            heapq.heappop(heap)
        return heap[0][0] if heap else 0

    def find_due(self, now_ms: int) -> Run | None:
        """Return a run that has expired by now, the one that expired first; it stays here."""
        return self._runs[self._heap[0][1]] if 0 < self.next() <= now_ms else None
