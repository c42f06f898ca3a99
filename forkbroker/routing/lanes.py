"""The messages of one queue and one priority, in order: what of them is in memory, and what only the store has.

    returned | fresh | paged
    --------- memory ------  store

What was taken and came back is older than what was never taken, which is older than what is paged: so each message
has its old place, and what is in memory is always the head. While anything is paged, what arrives is paged as well.
"""

from __future__ import annotations

from bisect import insort
from collections import deque

from forkbroker.routing.runs import Run


class Lane:
    """Messages that wait."""

    __slots__ = (
        "fresh",
        "is_fetching",
        "last",
        "memory",
        "paged",
        "paged_octets",
        "paged_since",
        "priority",
        "ready",
        "returned",
    )

    def __init__(self, priority: int, last: int = 0) -> None:
        """Start empty, and behind the serial `last`."""
        self.priority = priority
        self.fresh: deque[Run] = deque()
        # the oldest one last: nearly always it is the next to be taken
        self.returned: list[Run] = []
        self.ready = 0
        """Messages in memory that can be taken."""
        self.memory = 0
        """Octets that these use."""
        self.paged = 0
        """Messages that only the store has."""
        self.paged_octets = 0
        """Octets that these are, wherever."""
        self.paged_since = 0
        """Of these: told to the store after it was asked for some."""
        self.last = last
        """All messages with serials up to this are in memory, or were."""
        self.is_fetching = False
        """The store was asked for what comes next."""

    def append(self, run: Run) -> None:
        """New messages, with serials above all before, or paged ones that follow what is in memory."""
        self.fresh.append(run)
        self.ready += run.count
        self.memory += run.memory
        self.last = run.serial + run.count - 1

    def page_out(self, run: Run) -> None:
        """New messages that only the store keeps."""
        self.paged += run.count
        self.paged_octets += run.memory
        self.paged_since += run.count

    def page_in(self, run: Run) -> int:
        """Paged messages that follow what is in memory; by how many octets they are more than was thought."""
        thought = self.paged_octets * run.count // self.paged if self.paged >= run.count else self.paged_octets
        self.paged_octets -= thought
        self.paged = max(0, self.paged - run.count)
        self.append(run)
        return run.memory - thought

    def put_back(self, run: Run) -> None:
        """Messages that were taken, to their old place in the order."""
        insort(self.returned, run, key=_descending)
        self.ready += run.count
        self.memory += run.memory

    def head(self) -> Run:
        """The oldest run. There must be one."""
        return self.returned[-1] if self.returned else self.fresh[0]

    def take(self, count: int) -> Run:
        """The first `count` messages of the oldest run, which has so many or more."""
        run = self.head()
        if count < run.count:
            run = run.split(count)
        elif self.returned:
            self.returned.pop()
        else:
            self.fresh.popleft()
        self.ready -= run.count
        self.memory -= run.memory
        return run

    def take_expired(self, now_ms: int) -> list[Run]:
        """Take out of memory what has expired by now (milliseconds since the epoch)."""
        expired = [run for run in (*self.returned, *self.fresh) if 0 < run.details.expires <= now_ms]
        if expired:
            self.returned = [run for run in self.returned if not 0 < run.details.expires <= now_ms]
            self.fresh = deque(run for run in self.fresh if not 0 < run.details.expires <= now_ms)
            self.ready -= sum(run.count for run in expired)
            self.memory -= sum(run.memory for run in expired)
        return expired

    def next_expiry(self) -> int:
        """When the first of what is in memory expires (milliseconds since the epoch); 0: never."""
        times = (run.details.expires for run in (*self.returned, *self.fresh) if run.details.expires)
        return min(times, default=0)


def _descending(run: Run) -> int:
    return -run.serial
