"""Connections that are accepted and have no process yet: each origin in its turn.

A connection has an address only when it is accepted. In the listen backlog of the kernel everybody waits behind a flood
from one address; here only that address does. So the parent accepts at once, and what waits is a descriptor.

A rule: no clock, no log; of the sockets it knows nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from forkbroker.parent.listener import Connection


class Waiting:
    """Connections by origin (`forkbroker.parent.pending`)."""

    def __init__(self) -> None:
        """None."""
        self._lines: dict[str, deque[Connection]] = {}
        """The origin whose turn it is first."""
        self._count = 0

    def __len__(self) -> int:
        """How many connections wait."""
        return self._count

    def __iter__(self) -> Iterator[str]:
        """The origins that have some, in turn."""
        return iter(self._lines)

    def count(self, origin: str) -> int:
        """How many there are from this origin."""
        return len(self._lines.get(origin, ()))

    def add(self, origin: str, connection: Connection) -> None:
        """One more, behind those of its origin."""
        self._lines.setdefault(origin, deque()).append(connection)
        self._count += 1

    def take(self, origin: str) -> Connection:
        """The oldest of this origin; the next turn is that of others."""
        line = self._lines.pop(origin)
        connection = line.popleft()
        if line:
            self._lines[origin] = line
        self._count -= 1
        return connection

    def take_excess(self, origin: str) -> Connection | None:
        """The newest of the origin that has the most, if it has at least two more than this one."""
        fullest = max(self._lines, key=self.count, default="")
        if self.count(fullest) < self.count(origin) + 2:
            return None
        line = self._lines[fullest]
        self._count -= 1
        return line.pop()

    def take_all(self) -> list[Connection]:
        """All of them."""
        lines, self._lines, self._count = self._lines, {}, 0
        return [connection for line in lines.values() for connection in line]
