"""How much of deep queues is in memory.

One sum is set for all queues. A queue keeps what arrives as long as it has less in memory than is still free: a single
deep queue gets half of the sum, ten get an eleventh each, and there is always something left for one that comes
later. A queue that is being consumed may use what is free for a moment, while who sends to it is held: see `Queues`.

Beyond the sum there is only what is on its way to a consumer: a message or batch that one can have at once is kept,
and the store is asked for one, or it could never be consumed. What is left of that when no consumer can have it any
more goes back to the store (`Paging.relieve`).
"""

from __future__ import annotations

from forkbroker.routing.handover import Rule
from forkbroker.routing.queues.lanes import Lane

FETCH = 2_097_152
"""Octets that the store is asked for at once: long enough to be read in one go, short enough to hold nobody up."""
_LEAST = 65_536
_LOW = 8_388_608


class Window(Rule):
    """The memory that all queues share."""

    ANEW = ("asked", "limit", "refusal", "used")
    """From the policy, and from whoever uses it."""
    __slots__ = ("asked", "limit", "refusal", "used")

    def __init__(self, limit: int) -> None:
        """`limit` in octets."""
        self.limit = limit
        self.used = 0
        self.asked = 0
        """Octets that the store was asked for, and that have not all come."""
        self.refusal = ""
        """Why the store can't take what memory has no room for; empty: it can, or may soon."""

    @property
    def free(self) -> int:
        """Octets."""
        return self.limit - self.used

    def wants(self, lane: Lane) -> int:
        """How many octets the store should be asked for now, to follow what of the lane is in memory; 0: none."""
        room = max((self.free - self.asked) // 2, _LEAST)
        if lane.memory >= min(room, _LOW):
            return 0
        return min(room, FETCH)
