"""Which of the waiting messages of one lane expire next.

A heap of entries (time, serial behind the run's last message, order). Whole runs come and go all the time, and a run
from whose front messages were taken keeps that serial: so nothing is to be done here then. The cost of a message is
that of one entry, however many others wait.
"""

from __future__ import annotations

from itertools import count

from forkbroker.routing.heaps import Heap
from forkbroker.routing.queues.runs import Run

_Entry = tuple[int, int, int]


class Expiries:
    """The runs of one lane that expire at some time."""

    __slots__ = ("_entries", "_heap", "_order", "_runs")

    def __init__(self) -> None:
        """Start with none."""
        self._runs: dict[int, Run] = {}
        self._entries: dict[int, _Entry] = {}
        self._order = count()
        entries = self._entries
        # not a method of this object: the two would be a cycle, and stay in memory
        self._heap: Heap[_Entry] = Heap(lambda entry: entries.get(entry[1]) is entry)

    def __len__(self) -> int:
        """Return the number of entries in memory, those for nothing included."""
        return len(self._heap)

    def add(self, run: Run) -> None:
        """A run with an expiry waits."""
        end = run.serial + run.count
        entry = (run.details.expires, end, next(self._order))
        self._runs[end], self._entries[end] = run, entry
        self._heap.push(entry)

    def remove(self, run: Run) -> None:
        """A run with an expiry waits no longer, all of it."""
        end = run.serial + run.count
        del self._runs[end], self._entries[end]
        self._heap.drop()

    def next(self) -> int:
        """Return when the first run expires (milliseconds since the epoch), or earlier; 0: none does."""
        entry = self._heap.first()
        return 0 if entry is None else entry[0]

    def find_due(self, now_ms: int) -> Run | None:
        """Return a run that has expired by now, the one that expired first; it stays here."""
        entry = self._heap.first()
        if entry is None or entry[0] > now_ms or self._entries.get(entry[1]) is not entry:
            return None
        return self._runs[entry[1]]
