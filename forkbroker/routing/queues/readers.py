"""Who reads a queue, as far as the queue has to know.

A queue need not know its consumers, but a few facts: whether there are any, whether one of them could have a message
at once, and whether a producer acknowledges messages of this queue itself. Whoever makes the offers keeps them true.
"""

from __future__ import annotations

from collections.abc import Collection, Container

from forkbroker.routing.peers import Peer


class Readers:
    """The consumers of one queue, seen from below."""

    __slots__ = ("all", "settling", "willing")

    def __init__(self) -> None:
        """Start without any."""
        self.all: Collection[object] = ()
        self.willing: Collection[object] = ()
        """Those that can be asked now."""
        self.settling: Container[Peer] = ()
        """Peers that acknowledge messages of the queue, and so must not be held because of it."""

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.all)
