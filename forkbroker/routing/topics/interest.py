"""Topics: which peers may want a destination.

Interest is a hint: a superset is allowed, a subset never is. So patterns are widened (`forkbroker.patterns.widen`).
What a peer gets for nothing is work of its own process; a look-up that a client has made dear would be everybody's.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from forkbroker.audience import Audience
from forkbroker.destinations import is_pattern
from forkbroker.patterns import check_pattern, widen
from forkbroker.routing.handover import Loaded, Rule
from forkbroker.routing.peers import Peer

CACHE_OCTETS = 4_194_304
"""Octets of destinations and their peers that are remembered: some 15,000 with one peer each."""


class Interested(Protocol):
    """Who gets what is sent to a topic."""

    def add_peer(self, peer: Peer) -> None:
        """A new peer."""

    def peer_ended(self, peer: Peer) -> Iterator[None]:
        """The peer wants nothing any more: that is noted step by step."""

    def add(self, peer: Peer, name: bytes) -> None:
        """The peer subscribed to a destination or a pattern, perhaps once more.

        Raises:
            PatternError: the pattern cannot be used.
        """

    def remove(self, peer: Peer, name: bytes) -> None:
        """The opposite of one `add`."""

    def peers_for(self, destination: bytes) -> tuple[Peer, ...]:
        """The peers that may want a message to this destination."""


class Everybody(Rule):
    """`--broadcast=all`: each peer gets everything and decides for itself."""

    DUMPED = ("_peers",)

    def __init__(self) -> None:
        """Start without peers."""
        self._peers: tuple[Peer, ...] = ()

    def add_peer(self, peer: Peer) -> None:
        """A new peer."""
        self._peers = (*self._peers, peer)

    def peer_ended(self, peer: Peer) -> Iterator[None]:
        """The peer gets nothing any more."""
        self._peers = tuple(other for other in self._peers if other != peer)
        yield

    def add(self, peer: Peer, name: bytes) -> None:
        """Subscriptions make no difference."""

    def remove(self, peer: Peer, name: bytes) -> None:
        """Subscriptions make no difference."""

    def peers_for(self, destination: bytes) -> tuple[Peer, ...]:
        """All peers."""
        return self._peers


class Interest(Rule):
    """Peers by the names and patterns that they have subscribed to, counted: a peer may subscribe twice."""

    DUMPED = ("_by_peer",)
    ANEW = ("_audience",)

    def __init__(self) -> None:
        """Start without interest in anything."""
        self._audience: Audience[Peer] = Audience(CACHE_OCTETS)
        self._by_peer: dict[Peer, dict[bytes, int]] = {}
        # asked once per batch: not behind one more call
        self.peers_for = self._audience.find

    def rebuild(self, loaded: Loaded) -> None:
        """Let all have again what they want."""
        for peer, names in self._by_peer.items():
            for name in names:
                self._audience.add(peer, name)

    def add_peer(self, peer: Peer) -> None:
        """A new peer, which wants nothing yet."""

    def peer_ended(self, peer: Peer) -> Iterator[None]:
        """The peer wants nothing any more: a step for each name."""
        for name in self._by_peer.pop(peer, ()):
            self._audience.remove(peer, name)
            yield

    def add(self, peer: Peer, name: bytes) -> None:
        """The peer subscribed to a destination or a pattern, perhaps once more.

        Raises:
            PatternError: the pattern cannot be used.
        """
        name = _widen(name)
        names = self._by_peer.get(peer)
        if names is not None and name in names:
            names[name] += 1
            return
        self._audience.add(peer, name)
        self._by_peer.setdefault(peer, {})[name] = 1

    def remove(self, peer: Peer, name: bytes) -> None:
        """The opposite of one `add`.

        Raises:
            KeyError: the peer has no such interest.
        """
        name = _widen(name)
        names = self._by_peer[peer]
        names[name] -= 1
        if names[name]:
            return
        del names[name]
        if not names:
            del self._by_peer[peer]
        self._audience.remove(peer, name)


def _widen(name: bytes) -> bytes:
    """The name or pattern under which an interest is noted.

    Raises:
        PatternError: the pattern cannot be used.
    """
    if not is_pattern(name):
        return name
    check_pattern(name)
    return widen(name)
