"""--receive-memory: octets that the channels of one process share for the large envelopes that they are receiving.

An envelope that is larger than a few reads gets memory for all of it when it is announced. Without a common bound a few
clients that send the largest transaction at the same time would have the parent allocate all of them at once. So a
channel asks here first. Who can't have its octets waits in a row, first come, first served, and is not read meanwhile:
its child's socket fills, the child stops reading its client, and TCP slows that one down.

One envelope goes on at any time, however large it is: so nobody waits for ever, and a limit that is smaller than an
envelope makes the large ones come one after the other. Octets are given back when what was received has been applied,
or when its channel is closed.
"""

from __future__ import annotations

from collections.abc import Hashable


class ReceiveMemory:
    """Octets in use, and the row of those who wait."""

    def __init__(self, limit: int) -> None:
        """Share out `limit` octets."""
        self._limit = limit
        self._used: dict[Hashable, int] = {}
        self._waiting: dict[Hashable, int] = {}
        self.granted: list[Hashable] = []
        """What `take_granted` will return."""
        self.is_paused = False
        """Nothing more is granted; to read."""

    @property
    def used(self) -> int:
        """Octets that were granted, and not given back."""
        return sum(self._used.values())

    @property
    def is_waited_for(self) -> bool:
        """Somebody can't have what it wants."""
        return bool(self._waiting)

    def ask(self, who: Hashable, octets: int) -> bool:
        """Take so many octets for `who`, which has none; False: it waits, and will be one of `take_granted`."""
        if self._waiting or not self._fits(octets):
            self._waiting[who] = octets
            return False
        self._used[who] = octets
        return True

    def give_back(self, who: Hashable) -> None:
        """Let others have what `who` has, or its place in the row; it may have neither."""
        self._used.pop(who, None)
        self._waiting.pop(who, None)
        self._grant()

    def pause(self, is_paused: bool) -> None:
        """Grant nothing more while what was received before has not gone on, not even to the only one."""
        self.is_paused = is_paused
        if self._waiting:
            self._grant()

    def take_granted(self) -> list[Hashable]:
        """Those that have waited and have got their octets since the last call."""
        granted = self.granted.copy()
        self.granted.clear()
        return granted

    def _grant(self) -> None:
        while self._waiting:
            who, octets = next(iter(self._waiting.items()))
            if not self._fits(octets):
                return
            del self._waiting[who]
            self._used[who] = octets
            self.granted.append(who)

    def _fits(self, octets: int) -> bool:
        return not self.is_paused and (not self._used or self.used + octets <= self._limit)
