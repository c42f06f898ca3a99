"""Producers that are held back, and the queues because of which they are.

A producer is told HOLD once, and RESUME when nothing holds it any more. A held client sends nothing, no
acknowledgement either: who settles messages of the full queue itself must not be held.
"""

from __future__ import annotations

from typing import Protocol

from forkbroker.routing.handover import Rule
from forkbroker.routing.peers import Outbox, Peer
from forkbroker.wire.envelope import pack
from forkbroker.wire.kinds import Kind


class Holder(Protocol):
    """What producers can fill: a queue, or the store's backlog."""

    held: set[Peer]
    """Producers that wait for room."""


class Holds(Rule):
    """Who is held by what."""

    ANEW = ("_queues",)

    def __init__(self, out: Outbox) -> None:
        """HOLD and RESUME go to `out`."""
        self._out = out
        self._queues: dict[Peer, set[Holder]] = {}

    def restore(self, queue: Holder) -> None:
        """Note who was held by this when it was handed over; they have been told."""
        for peer in queue.held:
            self._queues.setdefault(peer, set()).add(queue)

    def hold(self, peer: Peer, queue: Holder) -> bool:
        """The queue is full, and the peer filled it; tell whether nothing held the peer before."""
        queue.held.add(peer)
        if peer in self._queues:
            self._queues[peer].add(queue)
            return False
        self._queues[peer] = {queue}
        self._out.append((peer, pack(Kind.HOLD)))
        return True

    def release(self, queue: Holder) -> None:
        """The queue has room again, or is gone."""
        for peer in sorted(queue.held):
            self._queues[peer].discard(queue)
            if not self._queues[peer]:
                del self._queues[peer]
                self._out.append((peer, pack(Kind.RESUME)))
        queue.held.clear()

    def peer_ended(self, peer: Peer) -> None:
        """The peer needs no word any more."""
        for queue in self._queues.pop(peer, ()):
            queue.held.discard(peer)
