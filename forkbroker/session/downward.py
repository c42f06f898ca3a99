"""What goes down to the client, in order, without the socket: octets that wait to be written, and replies.

`Unwritten` holds the octets. A parcel is what one envelope, or one reply, became. Topic messages may be dropped as long
as none of their octets is written (`slow-subscribers`); the messages of a queue in `ack:auto` are settled when the
kernel has taken their last octet, and not before: what a dead connection leaves in this queue goes to another consumer.

`Replies` are RECEIPT and ERROR, in the order in which they were asked for, and not before they are true. What a client
asks a receipt for is true once the parent has passed the fence behind it; until then the reply waits, and so does
everything that was asked for later, the final ERROR included: whoever reads ERROR has all receipts of what was accepted
before.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from forkbroker.session.errors import FrameError
from forkbroker.stomp.encoder import encode_block, encode_frame, translate_block
from forkbroker.stomp.versions import Version
from forkbroker.wire.envelope import Buffer
from forkbroker.wire.memory_file import MemoryFile

_GATHER = 256
_PLAIN = re.compile(r"[!-9;-\[\]-~]+")
"""Of receipts that are written as they are: ASCII without blank, colon, backslash and control characters."""
_BETWEEN = "\n\n\0\nRECEIPT\nreceipt-id:"

Run = tuple[int, int, int]
"""Token, first serial and count of queue messages that are settled by writing them."""


class Watch(Protocol):
    """A look at the frames that go to the client."""

    def sent(self, buffers: Sequence[Buffer]) -> None:
        """These are whole frames."""

    def sent_file(self, file: MemoryFile) -> None:
        """So are those in this file."""


@dataclass(slots=True)
class _Parcel:
    """Buffers that belong together, or a file of which the last `size` octets are meant, and what they are."""

    buffers: list[Buffer]
    size: int
    topic_messages: int = 0
    """How many messages of topics: more than 0 means that it may be dropped."""
    undo: Callable[[], None] | None = None
    """What dropping it makes undone."""
    run: Run | None = None
    file: MemoryFile | None = None


class Unwritten:
    """Octets on their way to the client; their bound is the session's business, which sees `pending`."""

    def __init__(self) -> None:
        self._parcels: deque[_Parcel] = deque()
        self._head_is_started = False
        self.in_hand = 0
        """Octets that the transport has begun to write, and not counted yet: they stay."""
        self.written_runs: list[Run] = []
        """Those that were written; whoever tells the parent of one takes it out."""
        self.pending = 0
        """Octets that the kernel has not taken."""
        self.files = 0
        """How many files wait, each of them an open descriptor."""
        self.written_at = 0.0
        """When the kernel has taken some."""
        self.delivered = 0
        """Messages that wait to be written, or were."""
        self.tracing: Watch | None = None
        """It is told of all that is put here, while an administrator looks at this client."""

    def put(self, buffers: list[Buffer], messages: int = 0, run: Run | None = None) -> None:
        """Queue a reply, or messages of a queue, and the run that is settled when they are written: never dropped."""
        size = sum(map(len, buffers))
        self._parcels.append(_Parcel(buffers, size, 0, None, run))
        self.pending += size
        self.delivered += messages
        if self.tracing is not None:
            self.tracing.sent(buffers)

    def put_topic(self, buffers: list[Buffer], messages: int, undo: Callable[[], None] | None = None) -> None:
        """Queue messages of a topic; `undo` is called if they are dropped."""
        size = sum(map(len, buffers))
        self._parcels.append(_Parcel(buffers, size, messages, undo))
        self.pending += size
        self.delivered += messages
        if self.tracing is not None:
            self.tracing.sent(buffers)

    def put_topic_file(self, file: MemoryFile, messages: int) -> None:
        """Queue messages of a topic that are in a file."""
        self._parcels.append(_Parcel([], file.size, messages, file=file))
        self.files += 1
        self.pending += file.size
        self.delivered += messages
        if self.tracing is not None:
            self.tracing.sent_file(file)

    def gather(self) -> list[Buffer]:
        """The next buffers for one gather write, up to a file; tell `written` how much of them went."""
        buffers: list[Buffer] = []
        for parcel in self._parcels:
            if parcel.file is not None:
                break
            buffers += parcel.buffers
            if len(buffers) >= _GATHER:
                break
        return buffers[:_GATHER]

    def next_file(self) -> tuple[MemoryFile, int, int] | None:
        """A file that is next to be written, from where, and how many octets; None: `gather` has what is next."""
        if not self.files:
            return None
        parcel = self._parcels[0]
        file = parcel.file
        return None if file is None else (file, file.size - parcel.size, parcel.size)

    def written(self, octets: int, now: float) -> None:
        """The kernel has taken so many octets."""
        self.pending -= octets
        self.written_at = now
        self.in_hand = 0
        parcels = self._parcels
        while parcels and octets >= parcels[0].size:
            parcel = parcels.popleft()
            octets -= parcel.size
            self._head_is_started = False
            if parcel.run is not None:
                self.written_runs.append(parcel.run)
            elif parcel.file is not None:
                self.files -= 1
        if octets:
            self._cut_head(parcels[0], octets)

    def _cut_head(self, parcel: _Parcel, octets: int) -> None:
        self._head_is_started = True
        parcel.size -= octets
        if parcel.file is not None:
            return
        for position, buffer in enumerate(parcel.buffers):
            if octets < len(buffer):
                parcel.buffers = [memoryview(buffer)[octets:], *parcel.buffers[position + 1 :]]
                return
            octets -= len(buffer)
        raise AssertionError("more bytes written than the parcel has")

    def has_run(self, token: int) -> bool:
        """Tell whether messages of this subscription wait that writing settles."""
        return any(parcel.run is not None and parcel.run[0] == token for parcel in self._parcels)

    def drop_oldest_topics(self, limit: int) -> int:
        """Drop the oldest topic parcels until at most `limit` octets wait; tell how many messages went."""
        kept: list[_Parcel] = []
        dropped = 0
        begun = self.in_hand or int(self._head_is_started)
        while begun > 0 and self._parcels:
            kept.append(self._parcels.popleft())
            begun -= kept[-1].size
        while self._parcels and self.pending > limit:
            parcel = self._parcels.popleft()
            if parcel.topic_messages:
                dropped += parcel.topic_messages
                if parcel.undo:
                    parcel.undo()
                self.pending -= parcel.size
                self.files -= parcel.file is not None
            else:
                kept.append(parcel)
        self._parcels.extendleft(reversed(kept))
        self.delivered -= dropped
        return dropped


@dataclass(slots=True)
class _Waiting:
    fence: int
    data: bytes = b""
    receipt: str | None = None
    """The first receipt of what the fence covers: an ERROR in its place names it."""
    action: Callable[[], None] | None = None


class Replies:
    """What the client is to be told, in order."""

    def __init__(self, unwritten: Unwritten, version: Version) -> None:
        self._unwritten = unwritten
        self._version = version
        self._waiting: deque[_Waiting] = deque()
        self._passed = 0

    def receipts(self, fence: int, receipts: Sequence[str | None]) -> None:
        """RECEIPTs for these, once the fence is passed (0: with the last that waits, or at once)."""
        asked = [receipt for receipt in receipts if receipt is not None]
        if _PLAIN.fullmatch("".join(asked)):
            data = f"RECEIPT\nreceipt-id:{_BETWEEN.join(asked)}\n\n\0\n".encode()
        else:
            data = b"".join(map(self._encode, asked))
        self._wait(_Waiting(fence, data, asked[0] if asked else None))

    def after(self, fence: int, action: Callable[[], None]) -> None:
        """Do this once the fence is passed."""
        self._wait(_Waiting(fence, action=action))

    def passed(self, fence: int) -> None:
        """The parent has applied everything up to this fence."""
        self._passed = fence
        released: list[Buffer] = []
        while self._waiting and self._waiting[0].fence <= self._passed:
            waiting = self._waiting.popleft()
            if waiting.data:
                released.append(waiting.data)
            if waiting.action is not None:
                if released:
                    self._unwritten.put(released)
                    released = []
                waiting.action()
        if released:
            self._unwritten.put(released)

    def first_receipt(self, fence: int) -> str | None:
        """What an ERROR for the envelope with this fence should name: the first receipt asked for with it."""
        return next((w.receipt for w in self._waiting if w.fence == fence and w.receipt), None)

    def error(self, error: FrameError, receipt: str | None) -> None:
        """Write an ERROR now, before all that waits."""
        self._unwritten.put([encode_error(self._version, error, receipt)])

    def drop_waiting(self) -> None:
        """Nothing that waits will come true."""
        self._waiting.clear()

    def _wait(self, waiting: _Waiting) -> None:
        # Its own fence is kept, also behind a later one: `first_receipt` must not name what needs none.
        self._waiting.append(waiting)
        if self._waiting[0].fence <= self._passed:
            self.passed(self._passed)

    def _encode(self, receipt: str) -> bytes:
        line = encode_block([("receipt-id", receipt)])
        return b"RECEIPT\n%b\n\0\n" % (translate_block(line, self._version) if b"\\" in line else line)


def encode_error(version: Version | None, error: FrameError, receipt: str | None) -> bytes:
    """An ERROR (STOMP 1.2, ERROR), for a client of this version; None: it has not connected."""
    named = [("receipt-id", receipt)] if receipt is not None else []
    lines = [("message", error.message), *named, *error.headers, ("content-type", "text/plain")]
    return encode_frame(version, "ERROR", lines, error.detail.encode(errors="replace") + b"\n")
