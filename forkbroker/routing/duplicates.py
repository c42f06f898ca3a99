"""Which messages were sent already: `dedup-id`s that are remembered for a while.

A sender that doesn't know whether its message was accepted (the connection broke before the RECEIPT) sends it again,
and the second one is not another message. What is persistent is remembered by the store as well, in the transaction
that writes the message.
"""

from __future__ import annotations

from collections import OrderedDict

MAX_REMEMBERED = 200_000
"""Ids at one time, about 200 octets each; then the oldest one is forgotten before its time."""


class Duplicates:
    """The ids of one broker, for each destination by themselves."""

    def __init__(self) -> None:
        """Start with no memory."""
        # by the time of their coming: nearly the order of their going, as windows are nearly all alike
        self._ids: OrderedDict[tuple[bytes, bytes], tuple[int, int]] = OrderedDict()

    def __len__(self) -> int:
        """How many are remembered."""
        return len(self._ids)

    def find(self, destination: bytes, dedup_id: bytes, now_ms: int) -> int | None:
        """The number of the store's change that wrote the first one (0: none did); None when there was none."""
        known = self._ids.get((destination, dedup_id))
        return known[1] if known is not None and known[0] > now_ms else None

    def remember(self, destination: bytes, dedup_id: bytes, until_ms: int, number: int, now_ms: int) -> None:
        """This one was accepted now."""
        self._ids.pop((destination, dedup_id), None)
        self._ids[destination, dedup_id] = (until_ms, number)
        while len(self._ids) > MAX_REMEMBERED or next(iter(self._ids.values()))[0] <= now_ms:
            self._ids.popitem(last=False)
            if not self._ids:
                break
