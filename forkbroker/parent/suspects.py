"""Where connections came from that should have logged in, and did not.

An origin (`forkbroker.parent.pending`) is a suspect after a login that failed, words that were no CONNECT, a handshake
or a CONNECT that did not come in time, or a place that it had to leave to others; not after a connection that was
closed without a word, as health checks do. A login that succeeds clears it, and so do ten minutes.

Suspects lose nothing as long as there is room for all. In a flood they come behind those that have done nothing wrong.

A rule: no descriptor, no clock, no log.
"""

from __future__ import annotations

REMEMBERED_S = 600.0
MOST = 10_000
"""So many are remembered; then the one that was one for the longest time is not."""


class Suspects:
    """The origins, and when each of them last did so."""

    def __init__(self) -> None:
        """None."""
        self._since: dict[str, float] = {}

    def __len__(self) -> int:
        """How many are remembered."""
        return len(self._since)

    def add(self, origin: str, now: float) -> None:
        """This origin is one from now on."""
        self._since.pop(origin, None)
        if len(self._since) >= MOST:
            del self._since[next(iter(self._since))]
        self._since[origin] = now

    def clear(self, origin: str) -> None:
        """This origin is none any more."""
        self._since.pop(origin, None)

    def has(self, origin: str, now: float) -> bool:
        """Whether this origin is one."""
        return now - self._since.get(origin, -REMEMBERED_S) < REMEMBERED_S
