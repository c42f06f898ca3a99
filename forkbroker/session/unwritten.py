"""What waits to be written to the client, in order, without the socket.

A parcel is what one envelope, or one reply, became. Topic messages may be dropped as long as none of their octets is
written (`slow-subscribers`); the messages of a queue in `ack:auto` are settled when the kernel has taken their last
octet, and not before: what a dead connection leaves in this queue goes to another consumer.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from forkbroker.wire.envelope import Buffer

_GATHER = 256


@dataclass(slots=True)
class _Parcel:
    """Buffers that belong together, and what they are."""

    buffers: list[Buffer]
    size: int
    topic_messages: int = 0
    """How many messages of topics: more than 0 means that it may be dropped."""
    undo: Callable[[], None] | None = None
    """What dropping it makes undone."""
    run: tuple[int, int, int] | None = None
    """Token, first serial and count of queue messages that are settled by writing them."""


class Unwritten:
    """Octets on their way to the client; their bound is the session's business, which sees `pending`."""

    def __init__(self) -> None:
        self._parcels: deque[_Parcel] = deque()
        self._head_is_started = False
        self._written_runs: list[tuple[int, int, int]] = []
        self.pending = 0
        """Octets that the kernel has not taken."""

    def put(self, buffers: Sequence[Buffer]) -> None:
        """Queue a reply, which is never dropped."""
        self._append(_Parcel(list(buffers), sum(map(len, buffers))))

    def put_topic(self, buffers: list[Buffer], messages: int, undo: Callable[[], None] | None = None) -> None:
        """Queue messages of a topic; `undo` is called if they are dropped."""
        self._append(_Parcel(buffers, sum(map(len, buffers)), topic_messages=messages, undo=undo))

    def put_run(self, buffers: list[Buffer], token: int, serial: int, count: int) -> None:
        """Queue messages of a queue that writing settles: `take_written_runs` tells when."""
        self._append(_Parcel(buffers, sum(map(len, buffers)), run=(token, serial, count)))

    def _append(self, parcel: _Parcel) -> None:
        self._parcels.append(parcel)
        self.pending += parcel.size

    def gather(self) -> list[Buffer]:
        """The next buffers for one gather write; tell `written` how much of them went."""
        buffers: list[Buffer] = []
        for parcel in self._parcels:
            buffers.extend(parcel.buffers)
            if len(buffers) >= _GATHER:
                break
        return buffers[:_GATHER]

    def written(self, octets: int) -> None:
        """The kernel has taken so many octets."""
        self.pending -= octets
        parcels = self._parcels
        while parcels and octets >= parcels[0].size:
            parcel = parcels.popleft()
            octets -= parcel.size
            self._head_is_started = False
            if parcel.run:
                self._written_runs.append(parcel.run)
        if octets:
            self._cut_head(parcels[0], octets)

    def _cut_head(self, parcel: _Parcel, octets: int) -> None:
        self._head_is_started = True
        parcel.size -= octets
        for position, buffer in enumerate(parcel.buffers):
            if octets < len(buffer):
                parcel.buffers = [memoryview(buffer)[octets:], *parcel.buffers[position + 1 :]]
                return
            octets -= len(buffer)
        raise AssertionError("more bytes written than the parcel has")

    def has_run(self, token: int) -> bool:
        """Tell whether messages of this subscription wait that writing settles."""
        return any(parcel.run is not None and parcel.run[0] == token for parcel in self._parcels)

    def take_written_runs(self) -> list[tuple[int, int, int]]:
        """Token, first serial and count of each queue run that was written since the last call."""
        runs, self._written_runs = self._written_runs, []
        return runs

    def drop_oldest_topics(self, limit: int) -> int:
        """Drop the oldest topic parcels until at most `limit` octets wait; tell how many messages went."""
        kept: list[_Parcel] = []
        dropped = 0
        if self._head_is_started:
            kept.append(self._parcels.popleft())
        while self._parcels and self.pending > limit:
            parcel = self._parcels.popleft()
            if parcel.topic_messages:
                dropped += parcel.topic_messages
                if parcel.undo:
                    parcel.undo()
                self.pending -= parcel.size
            else:
                kept.append(parcel)
        self._parcels.extendleft(reversed(kept))
        return dropped
