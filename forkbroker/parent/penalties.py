"""Sources that are refused for a time, which doubles with each of their failures.

A rule: no descriptor, no clock, no log.
"""

from __future__ import annotations

from dataclasses import dataclass

_ROWS_MAX = 1_000
"""Sources whose failures are remembered."""


@dataclass(frozen=True, slots=True)
class Scale:
    """How a penalty grows: doubled with each failure."""

    forgiven: int
    """So many failures have no penalty."""
    first_s: float
    most_s: float
    remembered_s: float
    """A source without another failure for so long is clean again."""


@dataclass(slots=True)
class _Row:
    """Failures of one source."""

    failures: int = 0
    last: float = 0.0
    until: float = 0.0


class Penalties:
    """Until when sources are refused."""

    def __init__(self, scale: Scale) -> None:
        self._scale = scale
        self._rows: dict[str, _Row] = {}

    def left(self, source: str, now: float) -> float:
        """For how many seconds more this source is refused; 0 or less: it is not."""
        row = self._rows.get(source)
        return 0.0 if row is None else row.until - now

    def forget(self, source: str) -> None:
        """All is well with this source."""
        self._rows.pop(source, None)

    def add(self, source: str, now: float) -> None:
        """One more failure of this source."""
        scale = self._scale
        if len(self._rows) >= _ROWS_MAX:
            self._rows = {name: row for name, row in self._rows.items() if now - row.last < scale.remembered_s}
        if len(self._rows) >= _ROWS_MAX and source not in self._rows:
            return  # so many at once are no client's fault; the fork rate bounds them
        row = self._rows.setdefault(source, _Row())
        row.failures = row.failures + 1 if now - row.last < scale.remembered_s else 1
        row.last = now
        excess = row.failures - scale.forgiven
        if excess > 0:
            row.until = now + min(scale.most_s, scale.first_s * 2 ** min(excess - 1, 16))
