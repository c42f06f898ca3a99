"""What one subscription holds: runs that its child has claimed, and that are not settled.

Settlements name ranges of serials. Nearly always the range is the head of the oldest run; any other part of what is
held works as well, and what of a range is not held is left out.

Where runs have a lease they are noted a second time, in the order of their claims, which is that of the leases' ends:
all runs of one subscription have leases of the same length. A note names serials, and is true of what of them is held
and was claimed by then. So neither a settlement nor the end of a lease looks at all that is held.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections import deque
from collections.abc import Iterator
from operator import attrgetter

from forkbroker.routing.handover import Record
from forkbroker.routing.queues.runs import Run

_SERIAL = attrgetter("serial")
_COUNT = attrgetter("count")
_MOST = 1000
"""Notes that are not true any more are left out at once, so many at most."""
_SPARE = 64
"""So many notes, and twice as many as there are runs, may stand in the row of leases before it is cleaned."""


class Holdings(Record):
    """Runs in the order of their serials."""

    __slots__ = ("_leases", "runs")

    def __init__(self) -> None:
        """Start with nothing."""
        self.runs: list[Run] = []
        """In order; to read."""
        # (when the lease ends, first serial, count)
        self._leases: deque[tuple[float, int, int]] = deque()

    def __len__(self) -> int:
        """Return the number of runs."""
        return len(self.runs)

    def __iter__(self) -> Iterator[Run]:
        """Go through all runs, in order."""
        return iter(self.runs)

    def add(self, run: Run) -> None:
        """Note that a run was claimed; `run.held_until` is set."""
        runs = self.runs
        if not runs or runs[-1].serial < run.serial:
            runs.append(run)
        else:
            insort(runs, run, key=_SERIAL)
        if run.held_until:
            self._leases.append((run.held_until, run.serial, run.count))
            if len(self._leases) > _SPARE + 2 * len(runs):
                self._clean()

    def settle(self, serial: int, count: int) -> list[Run]:
        """Let go of the messages `serial` to `serial + count - 1`, as far as they are held, in order."""
        runs = self.runs
        if not runs:
            return []
        head = runs[0]
        if head.serial == serial and head.count >= count:
            return [runs.pop(0) if head.count == count else head.split(count)]
        self._cut(serial)
        self._cut(serial + count)
        low, high = self._bounds(serial, serial + count)
        found = runs[low:high]
        del runs[low:high]
        return found

    def has(self, serial: int, count: int) -> bool:
        """Tell whether all of these messages are held."""
        runs, end = self.runs, serial + count
        low = bisect_right(runs, serial, key=_SERIAL) - 1
        high = bisect_right(runs, end - 1, key=_SERIAL)
        if low < 0 or low >= high:
            return False
        found = runs[low:high]
        reaches = found[-1].serial + found[-1].count
        # without a gap, as there are as many messages as serials; and no run is in two places
        return reaches >= end and sum(map(_COUNT, found)) == reaches - found[0].serial

    def take_overdue(self, now: float, most: int) -> list[Run]:
        """Let go of what should have been settled by now (seconds), as far as `most` of the claims go, the oldest."""
        overdue: list[Run] = []
        while self._leases and self._leases[0][0] <= now and most > 0:
            most -= 1
            _, serial, count = self._leases.popleft()
            for first, length in self._find_claimed_by(now, serial, serial + count):
                overdue += self.settle(first, length)
        return overdue

    def next_overdue(self) -> float:
        """Return when something should be settled next (seconds), or earlier; 0: nothing that is held has a lease."""
        leases = self._leases
        for _ in range(_MOST):
            if not leases or self._is_true(*leases[0]):
                break
            leases.popleft()
        return leases[0][0] if leases else 0.0

    def renew(self, until: float) -> None:
        """Let the leases of all that is held end then (seconds); 0: nothing has a lease any more."""
        for run in self.runs:
            run.held_until = until
        self._clean()

    def take_all(self) -> list[Run]:
        """Let go of everything, in order."""
        runs, self.runs = self.runs, []
        self._leases.clear()
        return runs

    def _bounds(self, start: int, end: int) -> tuple[int, int]:
        """Return between which places the runs are that begin in this range of serials."""
        runs = self.runs
        return bisect_right(runs, start - 1, key=_SERIAL), bisect_right(runs, end - 1, key=_SERIAL)

    def _cut(self, serial: int) -> None:
        """See to it that no run goes over `serial`: the one that does is divided there."""
        at = bisect_right(self.runs, serial, key=_SERIAL) - 1
        if at < 0:
            return
        run = self.runs[at]
        if run.serial < serial < run.serial + run.count:
            self.runs.insert(at, run.split(serial - run.serial))

    def _find_claimed_by(self, until: float, start: int, end: int) -> list[tuple[int, int]]:
        """Return what of this range is held with leases up to `until`: what came back since then has a later one."""
        low, high = self._bounds(start, end)
        return [(run.serial, run.count) for run in self.runs[low:high] if run.held_until <= until]

    def _is_true(self, until: float, serial: int, count: int) -> bool:
        return bool(self._find_claimed_by(until, serial, serial + count))

    def _clean(self) -> None:
        notes = ((run.held_until, run.serial, run.count) for run in self.runs if run.held_until)
        self._leases = deque(sorted(notes))
