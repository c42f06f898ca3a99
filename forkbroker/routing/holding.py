"""Queues that an administrator holds: they take messages, and offer none.

A name is held, not a queue: one that ends while it is held, and is made again, is held as well. What consumers have
already is theirs. Nothing of this is in the store, so a start of the broker releases all.
"""

from __future__ import annotations

from forkbroker.routing.handover import Rule
from forkbroker.routing.kit import Kit
from forkbroker.routing.queues.queue import Queue
from forkbroker.routing.queues.registry import Queues, shown

MOST = 10_000
"""Names that may be held."""


class Holding(Rule):
    """The names of queues that are held."""

    DUMPED = ("names",)

    def __init__(self, kit: Kit, queues: Queues) -> None:
        self._kit = kit
        self._queues = queues
        self.names: set[bytes] = set()
        """To read."""
        self._ends = kit.timers.add("held-queue", self._end)
        queues.makers.append(self._begin)

    def hold(self, name: bytes, for_ms: float | None) -> bool:
        """Hold a queue, from now on for so many milliseconds, or without an end; tell whether it was not held."""
        self._ends.cancel(name)
        if for_ms is not None:
            self._ends.after(for_ms, name)
        if name in self.names:
            return False
        self.names.add(name)
        queue = self._queues.find(name)
        if queue is not None:
            queue.returning += 1
        return True

    def release(self, name: bytes) -> bool:
        """Let it go on; tell whether it was held."""
        if name not in self.names:
            return False
        self.names.remove(name)
        self._ends.cancel(name)
        queue = self._queues.find(name)
        if queue is not None:
            queue.returning -= 1
            self._queues.changed[queue] = None
        return True

    def _begin(self, queue: Queue) -> None:
        """A queue was made, perhaps under a name that is held: it offers nothing, as while messages come back to it."""
        if queue.name in self.names:
            queue.returning += 1

    def _end(self, name: bytes) -> None:
        self.release(name)
        self._kit.events.append(f"queue {shown(name)}: released, the time for which it was held is over")
