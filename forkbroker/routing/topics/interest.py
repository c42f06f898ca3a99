"""Topics: which peers may want a destination.

Interest is a hint: a superset is allowed, a subset never is. So patterns are widened (`forkbroker.patterns.widen`).
What a peer gets for nothing is work of its own process; a look-up that a client has made dear would be everybody's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

from forkbroker.audience import Audience
from forkbroker.caches import Cache
from forkbroker.destinations import is_pattern, is_system
from forkbroker.patterns import check_pattern, widen
from forkbroker.routing.handover import Loaded, Rule
from forkbroker.routing.news import News
from forkbroker.routing.peers import Peer

CACHE_OCTETS = 4_194_304
"""Octets of destinations and their peers that are remembered: some 15,000 with one peer each."""


MANY = 4
"""So many receivers of the same frames, or more, are a group: below that it costs more than it saves."""

Groups = tuple[tuple[tuple[bytes, tuple[Peer, ...]], ...], tuple[Peer, ...]]
"""(groups, each what its frames begin with and its peers), all other peers."""


class Interested(Protocol):
    """Who gets what is sent to a topic."""

    known: Callable[[bytes], tuple[Peer, ...] | None]
    """What `peers_for` gave before for a destination; None: ask it. It is `dict.get` itself, as each batch asks."""

    def add_peer(self, peer: Peer) -> None:
        """A new peer."""

    def peer_ended(self, peer: Peer) -> Iterator[None]:
        """The peer wants nothing any more: that is noted step by step."""

    def add(self, peer: Peer, name: bytes, opening: bytes = b"") -> None:
        """The peer subscribed to a destination or a pattern, perhaps once more.

        `opening`: what its MESSAGE frames begin with; empty: they are its own business.

        Raises:
            PatternError: the pattern cannot be used.
        """

    def remove(self, peer: Peer, name: bytes) -> None:
        """The opposite of one `add`."""

    def all(self) -> Iterator[tuple[Peer, bytes]]:
        """All that is wanted, as it is known here, each when it is asked for."""

    def peers_for(self, destination: bytes) -> tuple[Peer, ...]:
        """The peers that may want a message to this destination."""

    def groups_for(self, destination: bytes) -> Groups:
        """The same peers: many whose frames are the same, by what these begin with, and all others."""


class Everybody(Rule):
    """`--broadcast=all`: each peer gets everything and decides for itself."""

    DUMPED = ("_peers", "_listening")

    def __init__(self, news: News | None = None) -> None:
        """Start without peers. `news` is told how many listen to what the broker says of itself."""
        self._news = news or News()
        self._peers: tuple[Peer, ...] = ()
        self._listening: dict[Peer, list[bytes]] = {}
        """To what of that each peer has subscribed."""
        nothing: dict[bytes, tuple[Peer, ...]] = {}
        self.known: Callable[[bytes], tuple[Peer, ...] | None] = nothing.get

    def add_peer(self, peer: Peer) -> None:
        """A new peer."""
        self._peers = (*self._peers, peer)

    def peer_ended(self, peer: Peer) -> Iterator[None]:
        """The peer gets nothing any more."""
        self._peers = tuple(other for other in self._peers if other != peer)
        for name in self._listening.pop(peer, ()):
            self._news.ignore(name)
        yield

    def add(self, peer: Peer, name: bytes, opening: bytes = b"") -> None:
        """Subscriptions make no difference, but for those that the broker itself heeds."""
        if is_system(name):
            self._listening.setdefault(peer, []).append(name)
            self._news.listen(name)

    def remove(self, peer: Peer, name: bytes) -> None:
        """The opposite of one `add`. Raises KeyError: the peer has no such interest."""
        if is_system(name):
            if name not in self._listening.get(peer, ()):
                raise KeyError(name)
            self._listening[peer].remove(name)
            self._news.ignore(name)

    def rebuild(self, loaded: Loaded) -> None:
        """Tell who listens."""
        for names in self._listening.values():
            for name in names:
                self._news.listen(name)

    def all(self) -> Iterator[tuple[Peer, bytes]]:
        """Everybody may want everything."""
        return ((peer, b"/topic/#") for peer in self._peers)

    def peers_for(self, destination: bytes) -> tuple[Peer, ...]:
        """All peers."""
        return self._peers

    def groups_for(self, destination: bytes) -> Groups:
        """Nobody knows who wants what."""
        return (), self._peers


class Interest(Rule):
    """Peers by the names and patterns that they have subscribed to, counted: a peer may subscribe twice."""

    DUMPED = ("_by_peer", "_openings")
    ANEW = ("_audience", "_groups")

    def __init__(self, news: News | None = None) -> None:
        """Start without interest in anything. `news` is told how many listen to what the broker says of itself."""
        self._news = news or News()
        self._audience: Audience[Peer] = Audience(CACHE_OCTETS)
        self._by_peer: dict[Peer, dict[bytes, int]] = {}
        self._openings: dict[Peer, dict[bytes, bytes]] = {}
        """Of subscriptions that are the only one of their peer to this destination, and no pattern."""
        self._groups: Cache[bytes, Groups] = Cache(CACHE_OCTETS)
        self.known = self._audience.known
        self.peers_for = self._audience.find

    def rebuild(self, loaded: Loaded) -> None:
        """Let all have again what they want."""
        for peer, names in self._by_peer.items():
            for name in names:
                self._audience.add(peer, name)
                if is_system(name):
                    self._news.listen(name)

    def add_peer(self, peer: Peer) -> None:
        """A new peer, which wants nothing yet."""

    def peer_ended(self, peer: Peer) -> Iterator[None]:
        """The peer wants nothing any more: a step for each name."""
        for name in self._by_peer.pop(peer, ()):
            self._audience.remove(peer, name)
            self._ungroup(name)
            if is_system(name):
                self._news.ignore(name)
            yield
        self._openings.pop(peer, None)

    def add(self, peer: Peer, name: bytes, opening: bytes = b"") -> None:
        """The peer subscribed to a destination or a pattern, perhaps once more; `opening` as in `Interested.add`.

        Raises:
            PatternError: the pattern cannot be used.
        """
        name = _widen(name)
        self._ungroup(name)
        names = self._by_peer.get(peer)
        if names is not None and name in names:
            names[name] += 1
            self._openings.get(peer, {}).pop(name, None)
            return
        self._audience.add(peer, name)
        self._by_peer.setdefault(peer, {})[name] = 1
        if is_system(name):
            self._news.listen(name)
        if opening and not is_pattern(name):
            self._openings.setdefault(peer, {})[name] = opening

    def all(self) -> Iterator[tuple[Peer, bytes]]:
        """All names and widened patterns."""
        for peer in list(self._by_peer):
            for name in list(self._by_peer.get(peer, ())):
                yield peer, name

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
        if is_system(name):
            self._news.ignore(name)
        if not names:
            del self._by_peer[peer]
        self._openings.get(peer, {}).pop(name, None)
        self._ungroup(name)
        self._audience.remove(peer, name)

    def groups_for(self, destination: bytes) -> Groups:
        """The peers that may want a message to this destination, in groups of those whose frames are the same."""
        groups = self._groups.get(destination)
        return self._group(destination) if groups is None else groups

    def _group(self, destination: bytes) -> Groups:
        by_opening: dict[bytes, list[Peer]] = {b"": []}
        patterned = self._audience.members_by_pattern(destination)
        for peer in self.peers_for(destination):
            opening = b"" if peer in patterned else self._openings.get(peer, {}).get(destination, b"")
            by_opening.setdefault(opening, []).append(peer)
        others = by_opening.pop(b"")
        groups = []
        for opening, peers in by_opening.items():
            if len(peers) >= MANY:
                groups.append((opening, tuple(peers)))
            else:
                others += peers
        return self._groups.remember(destination, (tuple(groups), tuple(others)))

    def _ungroup(self, name: bytes) -> None:
        """Somebody begins or ends to want this."""
        if is_pattern(name):
            self._groups.clear()
        else:
            self._groups.forget(name)


def _widen(name: bytes) -> bytes:
    """The name or pattern under which an interest is noted.

    Raises:
        PatternError: the pattern cannot be used.
    """
    if not is_pattern(name):
        return name
    check_pattern(name)
    return widen(name)
