"""Clients that have connected and not logged in, by where they come from.

They have a limit of their own (`forkbroker.parent.admission`). At the limit the newcomer's origin is compared with the
origin that has the most of them: a flood makes room by itself, and its victims are its own connections. With one
connection from each of many addresses the oldest one goes.

An origin is an address, as limits count it; each address of this machine is one as well, and so are its Unix sockets
together: these have no limits, and still their turn.

A rule: no descriptor, no clock, no log. All of it takes the same time however many clients there are.
"""

from __future__ import annotations

from collections.abc import Iterator

from forkbroker.routing.peers import Peer


class Pending:
    """Who has not logged in: since when, and from where."""

    def __init__(self) -> None:
        """Nobody."""
        self._origins: dict[Peer, str] = {}
        self._since: dict[str, dict[Peer, float]] = {}
        """Of each origin, the oldest first."""
        self._by_count: dict[int, dict[str, None]] = {}
        """The origins that have so many, the one first that has had them for the longest time."""
        self._most = 0

    def __len__(self) -> int:
        """How many clients there are."""
        return len(self._origins)

    def __iter__(self) -> Iterator[Peer]:
        """All of them."""
        return iter(self._origins)

    @property
    def most(self) -> int:
        """How many the origin has that has the most."""
        return self._most

    def count(self, origin: str) -> int:
        """How many there are from this origin."""
        return len(self._since.get(origin, ()))

    def oldest_since(self, origin: str) -> float:
        """Since when the oldest client of an origin is there that has one."""
        return next(iter(self._since[origin].values()))

    def find_origin(self, peer: Peer) -> str | None:
        """Where this client comes from; None: it is not one of these."""
        return self._origins.get(peer)

    def clients(self, origin: str) -> list[Peer]:
        """Those from this origin, the oldest first."""
        return list(self._since.get(origin, ()))

    def add(self, peer: Peer, origin: str, now: float) -> None:
        """One more client."""
        self._origins[peer] = origin
        clients = self._since.setdefault(origin, {})
        clients[peer] = now
        self._recount(origin, len(clients) - 1, len(clients))

    def remove(self, peer: Peer) -> None:
        """This client has logged in, or has left; nothing if it is not one of these."""
        origin = self._origins.pop(peer, None)
        if origin is None:
            return
        clients = self._since[origin]
        del clients[peer]
        if not clients:
            del self._since[origin]
        self._recount(origin, len(clients) + 1, len(clients))

    def move(self, peer: Peer, origin: str, now: float) -> None:
        """This client comes from somewhere else, as is known only now; nothing if it is not one of these."""
        if peer in self._origins:
            self.remove(peer)
            self.add(peer, origin, now)

    def find_victim(self, origin: str) -> Peer:
        """Who makes room for a client of this origin: the oldest of the origin that has the most.

        There must be somebody.
        """
        if self.count(origin) < self._most:
            origin = next(iter(self._by_count[self._most]))
        return next(iter(self._since[origin]))

    def _recount(self, origin: str, before: int, after: int) -> None:
        if before:
            origins = self._by_count[before]
            del origins[origin]
            if not origins:
                del self._by_count[before]
        if after:
            self._by_count.setdefault(after, {})[origin] = None
        if after > self._most or (before == self._most and before not in self._by_count):
            self._most = after
