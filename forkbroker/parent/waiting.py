"""Connections that are accepted and have no process yet: each origin in its turn.

A connection has an address only when it is accepted. In the listen backlog of the kernel everybody waits behind a flood
from one address; here only that address does. So the parent accepts at once, and what waits is a descriptor.

Origins that are suspects (`forkbroker.parent.suspects`) have one turn in four while others wait, and are the first that
have to go where there is no room.

A rule: no clock, no log; of the sockets it knows nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from forkbroker.parent.listener import Connection

Turn = tuple[bool, str]
"""Whether an origin is a suspect, and the origin."""

_TURNS = 4


class Waiting:
    """Connections by origin (`forkbroker.parent.pending`)."""

    def __init__(self) -> None:
        """None."""
        self._lines: dict[bool, dict[str, deque[Connection]]] = {False: {}, True: {}}
        """Of suspects and of others: the origin whose turn it is first. One that becomes a suspect may be in both."""
        self._count = 0
        self._taken = 0

    def __len__(self) -> int:
        """How many connections wait."""
        return self._count

    def __iter__(self) -> Iterator[Turn]:
        """The origins that have some, in turn."""
        begins_with_suspects = self._taken % _TURNS == _TURNS - 1
        for is_suspect in (begins_with_suspects, not begins_with_suspects):
            for origin in self._lines[is_suspect]:
                yield is_suspect, origin

    def count(self, origin: str) -> int:
        """How many there are from this origin."""
        return sum(len(lines.get(origin, ())) for lines in self._lines.values())

    def add(self, origin: str, connection: Connection) -> None:
        """One more, behind those of its origin."""
        self._lines[connection.is_suspect].setdefault(origin, deque()).append(connection)
        self._count += 1

    def take(self, turn: Turn) -> Connection:
        """The oldest of this origin; the next turn is that of others."""
        is_suspect, origin = turn
        line = self._lines[is_suspect].pop(origin)
        connection = line.popleft()
        if line:
            self._lines[is_suspect][origin] = line
        self._count -= 1
        self._taken += 1
        return connection

    def take_excess(self, origin: str, *, is_suspect: bool) -> Connection | None:
        """Who has to go so that there is room for one of this origin; None: nobody.

        It is the newest of the suspect that has the most, if this one is none. Among equals it is the newest of the one
        that has the most, if these are at least two more than this one has.
        """
        lines = self._lines[is_suspect or bool(self._lines[True])]
        fullest = max(lines, key=lambda one: len(lines[one]), default="")
        is_above = bool(lines) and lines is self._lines[not is_suspect]
        if not is_above and self.count(fullest) < self.count(origin) + 2:
            return None
        connection = lines[fullest].pop()
        if not lines[fullest]:
            del lines[fullest]
        self._count -= 1
        return connection

    def take_all(self) -> list[Connection]:
        """All of them."""
        found = [connection for lines in self._lines.values() for line in lines.values() for connection in line]
        self._lines, self._count = {False: {}, True: {}}, 0
        return found
