"""What one subscription holds: runs that its child has claimed, and that are not settled.

Settlements name ranges of serials. Nearly always the range is the head of the oldest run; any other part of what is
held works as well, and what of a range is not held is left out.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from operator import attrgetter

from forkbroker.routing.runs import Run

_SERIAL = attrgetter("serial")


class Unsettled:
    """Runs in the order of their serials."""

    __slots__ = ("_runs",)

    def __init__(self) -> None:
        """Start with nothing."""
        self._runs: list[Run] = []

    def __len__(self) -> int:
        """How many runs."""
        return len(self._runs)

    def add(self, run: Run) -> None:
        """A run was claimed."""
        runs = self._runs
        if not runs or runs[-1].serial < run.serial:
            runs.append(run)
        else:
            insort(runs, run, key=_SERIAL)

    def settle(self, serial: int, count: int) -> list[Run]:
        """Let go of the messages `serial` to `serial + count - 1`, as far as they are held, in order."""
        runs = self._runs
        if not runs:
            return []
        head = runs[0]
        if head.serial == serial and head.count >= count:
            return [runs.pop(0) if head.count == count else head.split(count)]
        return self._settle_range(serial, serial + count)

    def has(self, serial: int, count: int) -> bool:
        """Whether all of these messages are held."""
        for run in self._runs:
            if run.serial <= serial < run.serial + run.count:
                held = run.serial + run.count - serial
                if held >= count:
                    return True
                serial, count = serial + held, count - held
        return False

    def take_overdue(self, now: float) -> list[Run]:
        """Let go of what should have been settled by now (seconds)."""
        overdue = [run for run in self._runs if run.held_until <= now]
        self._runs = [run for run in self._runs if run.held_until > now]
        return overdue

    def next_overdue(self) -> float:
        """When something should be settled next (seconds); 0: nothing is held."""
        return min((run.held_until for run in self._runs), default=0.0)

    def take_all(self) -> list[Run]:
        """Let go of everything, in order."""
        runs, self._runs = self._runs, []
        return runs

    def _settle_range(self, start: int, end: int) -> list[Run]:
        self._cut(start)
        self._cut(end)
        runs = self._runs
        low = bisect_right(runs, start - 1, key=_SERIAL)
        high = bisect_right(runs, end - 1, key=_SERIAL)
        found = runs[low:high]
        del runs[low:high]
        return found

    def _cut(self, serial: int) -> None:
        """See to it that no run goes over `serial`: the one that does is divided there."""
        at = bisect_right(self._runs, serial, key=_SERIAL) - 1
        if at < 0:
            return
        run = self._runs[at]
        if run.serial < serial < run.serial + run.count:
            self._runs.insert(at, run.split(serial - run.serial))
