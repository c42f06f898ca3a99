"""RECEIPT and ERROR: in the order in which they were asked for, and not before they are true.

What a client asks a receipt for is true once the parent has passed the fence behind it; until then the reply waits,
and so does everything that was asked for later, the final ERROR included: whoever reads ERROR has all receipts of
what was accepted before.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from forkbroker.session.errors import FrameError
from forkbroker.session.unwritten import Unwritten
from forkbroker.stomp.encoder import encode_block, encode_frame, translate_block
from forkbroker.stomp.versions import Version


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
        self._wait(_Waiting(fence, b"".join(map(self._encode, asked)), asked[0] if asked else None))

    def after(self, fence: int, action: Callable[[], None]) -> None:
        """Do this once the fence is passed."""
        self._wait(_Waiting(fence, action=action))

    def passed(self, fence: int) -> None:
        """The parent has applied everything up to this fence."""
        self._passed = fence
        self._release()

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
        self._release()

    def _release(self) -> None:
        released: list[bytes] = []
        while self._waiting and self._waiting[0].fence <= self._passed:
            waiting = self._waiting.popleft()
            if waiting.data:
                released.append(waiting.data)
            if waiting.action:
                self._put(released)
                released = []
                waiting.action()
        self._put(released)

    def _put(self, released: list[bytes]) -> None:
        if released:
            self._unwritten.put(released)

    def _encode(self, receipt: str) -> bytes:
        if receipt.isalnum() and receipt.isascii():
            return b"RECEIPT\nreceipt-id:%b\n\n\0\n" % receipt.encode()
        line = encode_block([("receipt-id", receipt)])
        return b"RECEIPT\n%b\n\0\n" % (translate_block(line, self._version) if b"\\" in line else line)


def encode_error(version: Version | None, error: FrameError, receipt: str | None) -> bytes:
    """An ERROR (STOMP 1.2, ERROR), for a client of this version; None: it has not connected."""
    named = [("receipt-id", receipt)] if receipt is not None else []
    lines = [("message", error.message), *named, *error.headers, ("content-type", "text/plain")]
    return encode_frame(version, "ERROR", lines, error.detail.encode(errors="replace") + b"\n")
