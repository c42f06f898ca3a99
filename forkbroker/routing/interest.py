"""Topics: which peers may want a destination.

Interest is a hint: a superset is allowed, a subset never is. The parent asks once per batch, so the answer is cached
per destination, as a tuple that is used as it is. The cache is bounded: clients that invent destinations all the time
cost a look at the patterns each, never memory.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from forkbroker.destinations import compile_pattern, is_pattern
from forkbroker.routing.peers import Peer

CACHED = 10_000
"""Destinations in the cache at most."""

_PATTERNED = b"/topic/"


class Interested(Protocol):
    """Who gets what is sent to a topic."""

    def add_peer(self, peer: Peer) -> None:
        """A new peer."""

    def peer_ended(self, peer: Peer) -> None:
        """The peer wants nothing any more."""

    def add(self, peer: Peer, name: bytes) -> None:
        """The peer subscribed to a destination or a pattern, perhaps once more.

        Raises:
            DestinationError: no pattern.
        """

    def remove(self, peer: Peer, name: bytes) -> None:
        """The opposite of one `add`."""

    def peers_for(self, destination: bytes) -> tuple[Peer, ...]:
        """The peers that may want a message to this destination."""


class Everybody:
    """`--broadcast=all`: each peer gets everything and decides for itself."""

    def __init__(self) -> None:
        """Start without peers."""
        self._peers: tuple[Peer, ...] = ()

    def add_peer(self, peer: Peer) -> None:
        """A new peer."""
        self._peers = (*self._peers, peer)

    def peer_ended(self, peer: Peer) -> None:
        """The peer gets nothing any more."""
        self._peers = tuple(other for other in self._peers if other != peer)

    def add(self, peer: Peer, name: bytes) -> None:
        """Subscriptions make no difference."""

    def remove(self, peer: Peer, name: bytes) -> None:
        """Subscriptions make no difference."""

    def peers_for(self, destination: bytes) -> tuple[Peer, ...]:
        """All peers."""
        return self._peers


class _Pattern:
    __slots__ = ("matches", "peers")

    def __init__(self, matches: Callable[[bytes], bool]) -> None:
        self.matches = matches
        self.peers: dict[Peer, None] = {}


class Interest:
    """Peers by the names and patterns that they have subscribed to, counted: a peer may subscribe twice."""

    def __init__(self) -> None:
        """Start without interest in anything."""
        self._names: dict[bytes, dict[Peer, None]] = {}
        self._patterns: dict[bytes, _Pattern] = {}
        self._by_peer: dict[Peer, dict[bytes, int]] = {}
        self._cache: dict[bytes, tuple[Peer, ...]] = {}

    def add_peer(self, peer: Peer) -> None:
        """A new peer, which wants nothing yet."""

    def peer_ended(self, peer: Peer) -> None:
        """The peer wants nothing any more."""
        for name in self._by_peer.pop(peer, ()):
            self._forget(peer, name)

    def add(self, peer: Peer, name: bytes) -> None:
        """The peer subscribed to a destination or a pattern, perhaps once more.

        Raises:
            DestinationError: no pattern.
        """
        if is_pattern(name):
            if name not in self._patterns:
                self._patterns[name] = _Pattern(compile_pattern(name))
            peers = self._patterns[name].peers
        else:
            peers = self._names.setdefault(name, {})
        peers[peer] = None
        names = self._by_peer.setdefault(peer, {})
        names[name] = names.get(name, 0) + 1
        self._uncache(name)

    def remove(self, peer: Peer, name: bytes) -> None:
        """The opposite of one `add`.

        Raises:
            KeyError: the peer has no such interest.
        """
        names = self._by_peer[peer]
        names[name] -= 1
        if names[name]:
            return
        del names[name]
        if not names:
            del self._by_peer[peer]
        self._forget(peer, name)

    def peers_for(self, destination: bytes) -> tuple[Peer, ...]:
        """The peers that may want a message to this destination."""
        peers = self._cache.get(destination)
        return self._look_up(destination) if peers is None else peers

    def _look_up(self, destination: bytes) -> tuple[Peer, ...]:
        found = dict.fromkeys(self._names.get(destination, ()))
        if destination.startswith(_PATTERNED):
            for pattern in self._patterns.values():
                if pattern.matches(destination):
                    found.update(dict.fromkeys(pattern.peers))
        if len(self._cache) >= CACHED:
            self._cache.clear()
        peers = self._cache[destination] = tuple(found)
        return peers

    def _forget(self, peer: Peer, name: bytes) -> None:
        pattern = self._patterns.get(name)
        peers = self._names[name] if pattern is None else pattern.peers
        del peers[peer]
        if not peers:
            if pattern is None:
                del self._names[name]
            else:
                del self._patterns[name]
        self._uncache(name)

    def _uncache(self, name: bytes) -> None:
        if is_pattern(name):
            self._cache.clear()
        else:
            self._cache.pop(name, None)
