"""Which messages were sent already: `dedup-id`s that are remembered for a while.

A sender that doesn't know whether its message was accepted (the connection broke before the RECEIPT) sends it again,
and the second one is not another message. What is persistent is remembered by the store as well, in the transaction
that writes the message.

A destination may have 10 KiB and an id 255 octets, so memory has a digest of both. It is a cryptographic one: nobody
can find two that are alike, and so make the broker take another client's message for one that it has.
"""

from __future__ import annotations

from collections import OrderedDict

from forkbroker.digests import blake2b
from forkbroker.routing.handover import Rule

MAX_REMEMBERED = 200_000
"""Ids at one time, about 300 octets each; then the oldest one is forgotten before its time."""

_DIGEST_OCTETS = 32


class Duplicates(Rule):
    """The ids of one broker, for each destination by themselves."""

    DUMPED = ("_ids",)

    def __init__(self) -> None:
        """Start with no memory."""
        # by the time of their coming: nearly the order of their going, as windows are nearly all alike
        self._ids: OrderedDict[bytes, tuple[int, int]] = OrderedDict()

    def __len__(self) -> int:
        """How many are remembered."""
        return len(self._ids)

    def find(self, destination: bytes, dedup_id: bytes, now_ms: int) -> int | None:
        """The number of the store's change that wrote the first one (0: none did); None when there was none."""
        known = self._ids.get(_digest(destination, dedup_id))
        return known[1] if known is not None and known[0] > now_ms else None

    def remember(self, destination: bytes, dedup_id: bytes, until_ms: int, number: int, now_ms: int) -> None:
        """This one was accepted now."""
        digest = _digest(destination, dedup_id)
        self._ids.pop(digest, None)
        self._ids[digest] = (until_ms, number)
        while self._ids and (len(self._ids) > MAX_REMEMBERED or next(iter(self._ids.values()))[0] <= now_ms):
            self._ids.popitem(last=False)


def _digest(destination: bytes, dedup_id: bytes) -> bytes:
    """Of both; where the one ends and the other begins is a part of it."""
    return blake2b(b"%d:%b%b" % (len(destination), destination, dedup_id), digest_size=_DIGEST_OCTETS).digest()
