"""Queues that an administrator holds: they take messages, and offer none.

A name is held, not a queue: one that ends while it is held, and is made again, is held as well. What consumers have
already is theirs. The store knows of it, so a queue is held until it is released, whatever ends meanwhile.
"""

from __future__ import annotations

from forkbroker.routing.handover import Rule
from forkbroker.routing.keeping.journal import Journal
from forkbroker.routing.kit import Kit
from forkbroker.routing.queues.queue import Queue
from forkbroker.routing.queues.registry import Queues, shown
from forkbroker.wire.kinds import Matter

MOST = 10_000
"""Names that may be held."""


class Holding(Rule):
    """The names of queues that are held."""

    DUMPED = ("names",)

    def __init__(self, kit: Kit, queues: Queues, journal: Journal) -> None:
        self._kit = kit
        self._timers = kit.timers
        self._queues = queues
        self._journal = journal
        self.names: set[bytes] = set()
        """To read."""
        self._ends = kit.timers.add("held-queue", self._end)
        queues.makers.append(self._begin)

    def hold(self, name: bytes, for_ms: float | None) -> bool:
        """Hold a queue, from now on for so many milliseconds, or without an end; tell whether it was not held."""
        until_ms = 0 if for_ms is None else self._timers.wall_ms() + round(for_ms)
        self._journal.note(name, Matter.HELD, b"%d" % until_ms)
        return self._hold(name, for_ms)

    def restore(self, name: bytes, until_ms: int) -> None:
        """The store knows that it was held until then (milliseconds since the epoch), or without an end (0).

        One whose time is over is released with the first turn, as if it had ended in this life of the broker.
        """
        self._hold(name, max(0, until_ms - self._timers.wall_ms()) if until_ms else None)

    @property
    def is_stored(self) -> bool:
        """What is held from now on will survive; else only when the store can write again."""
        return not self._journal.refusal

    def left_s(self, name: bytes) -> float | None:
        """Seconds until it is released; None: it is not held, or without an end."""
        entry = self._ends.entries.get(name)
        return None if entry is None else max(0.0, entry.when - self._timers.now)

    def _hold(self, name: bytes, for_ms: float | None) -> bool:
        self._ends.cancel(name)
        if for_ms is not None:
            self._ends.after(for_ms, name)
        if name in self.names:
            return False
        self.names.add(name)
        queue = self._queues.find(name)
        if queue is not None:
            queue.returning += 1
            # what it has offered ahead comes back
            self._queues.changed[queue] = None
        return True

    def release(self, name: bytes) -> bool:
        """Let it go on; tell whether it was held."""
        if name not in self.names:
            return False
        self.names.remove(name)
        self._ends.cancel(name)
        self._journal.note(name, Matter.HELD, None)
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
