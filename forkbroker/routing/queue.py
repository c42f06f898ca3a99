"""One queue: its messages in order, and what they amount to.

Messages arrive in the order of their serials. Taken ones that come back are older than all that were never taken:
they stand before these, sorted by serial, so each goes back to its old place.
"""

from __future__ import annotations

from bisect import insort
from collections import deque

from forkbroker.routing.consumers import Consumers
from forkbroker.routing.counters import QueueView
from forkbroker.routing.peers import Peer
from forkbroker.routing.runs import Run
from forkbroker.wire.envelope import MAX_BATCH

MAX_OFFER_OCTETS = 262_144
"""Bodies in one offer at most, unless it is one message: one read of a channel, so a long run holds up nobody."""


class Queue:
    """Messages that wait, and the consumers that wait for them."""

    __slots__ = (
        "_fresh",
        "_returned",
        "consumers",
        "held",
        "is_gone",
        "messages",
        "name",
        "octets",
        "owner",
        "ready",
    )

    def __init__(self, name: bytes, owner: Peer | None) -> None:
        """Start empty. `owner` is the peer with which a temporary queue ends."""
        self.name = name
        self.owner = owner
        self.consumers = Consumers()
        self.ready = 0
        """Messages that can be taken."""
        self.messages = 0
        """All that are not settled: ready, offered, and delivered."""
        self.octets = 0
        """Of memory that all these use."""
        self.held: set[Peer] = set()
        """Producers that are held back because of this queue."""
        self.is_gone = False
        """Forgotten, or ended with its owner: what comes back is dropped."""
        self._fresh: deque[Run] = deque()
        # the oldest one last: nearly always it is the next to be taken
        self._returned: list[Run] = []

    def append(self, run: Run) -> None:
        """New messages, with serials above all before."""
        self._fresh.append(run)
        self.ready += run.count
        self.messages += run.count
        self.octets += run.memory

    def put_back(self, run: Run) -> None:
        """Messages that were taken, to their old place in the order."""
        insort(self._returned, run, key=_descending)
        self.ready += run.count

    def take(self, most: int) -> Run:
        """The oldest messages: at most `most`, at least one, from one envelope. There must be some."""
        run = self._returned[-1] if self._returned else self._fresh[0]
        count = min(most, run.count, MAX_BATCH)
        if run.octets > MAX_OFFER_OCTETS:
            count = run.fitting(count, MAX_OFFER_OCTETS)
        self.ready -= count
        if count < run.count:
            return run.split(count)
        if self._returned:
            return self._returned.pop()
        return self._fresh.popleft()

    def forget(self, run: Run) -> None:
        """Messages that were taken and will not come back."""
        self.messages -= run.count
        self.octets -= run.memory

    def view(self) -> QueueView:
        """What it looks like now."""
        return QueueView(self.name, self.ready, self.messages - self.ready, self.octets, len(self.consumers))


def _descending(run: Run) -> int:
    return -run.serial
