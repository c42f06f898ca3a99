"""A body of which a part has arrived, collected without copying it again for every part.

Small frames never come here: the parser joins their parts, which is cheaper. A body of 1 MiB that arrives in
reads of 256 KiB would be copied again and again that way (measured: 328 MB/s), so it is received into place.

A sized body (with content-length) takes its NUL along, so that one read can complete it; the memory grows with
what has really arrived, at most to 2 MiB or to twice of it, whatever the header has announced. An open body
ends at its first NUL.
"""

from __future__ import annotations

from forkbroker.stomp.errors import ErrorKind, ProtocolError
from forkbroker.stomp.frame import Buffer, Head

PLACE_FROM = 65_536
"""Octets still missing from which a body offers its own memory to read into. With fewer, an ordinary read, which
takes the following frames as well, is the better deal."""

_FIRST_STEP = 2_097_152


class SizedBody:
    """A body of known length, and the NUL behind it.

    `place` and `placed` are a pair: who has taken the place must say how much was put there before anything
    else is called.
    """

    __slots__ = ("_buffer", "_filled", "_view", "_wanted", "head", "receipt")

    def __init__(self, head: Head, receipt: str | None, length: int) -> None:
        self.head = head
        self.receipt = receipt
        self._wanted = length + 1
        # At once what a stranger may claim without having sent it: growing copies, and 1 MiB bodies took twice as long.
        self._buffer = bytearray(min(self._wanted, _FIRST_STEP))
        self._filled = 0
        self._view: memoryview | None = None

    @property
    def size(self) -> int:
        """Octets that have arrived, the NUL included."""
        return self._filled

    @property
    def is_complete(self) -> bool:
        """Whether the last octet, which should be the NUL, has arrived."""
        return self._filled == self._wanted

    def add(self, data: bytes) -> int:
        """Take what belongs to this body from the beginning of `data`; returns how many octets that was."""
        self._release()
        taken = min(self._wanted - self._filled, len(data))
        self._buffer[self._filled : self._filled + taken] = memoryview(data)[:taken]
        self._filled += taken
        return taken

    def place(self) -> memoryview | None:
        """Where the next octets may be received; None when so few are missing that it does not pay."""
        missing = self._wanted - self._filled
        if missing <= PLACE_FROM:
            return None
        if self._view is None:
            if self._filled == len(self._buffer):
                self._buffer += bytes(min(missing, self._filled))
            self._view = memoryview(self._buffer)[self._filled :]
        return self._view

    def placed(self, count: int) -> None:
        """`count` octets now stand at the beginning of what `place` gave; that view ends here."""
        self._release()
        self._filled += count

    def _release(self) -> None:
        # A bytearray cannot grow or shrink while somebody looks into it.
        if self._view is not None:
            self._view.release()
            self._view = None

    def take(self) -> Buffer:
        """The complete body, without its NUL. Ends the use of this object.

        Raises:
            ProtocolError: the octet after the body is not NUL (F08).
        """
        end = self._buffer.pop()
        if end:
            raise no_nul_after_body(len(self._buffer), end, self.receipt)
        return _handy(self._buffer)


class OpenBody:
    """A body without content-length: everything up to the first NUL."""

    __slots__ = ("_buffer", "_max_body", "head", "is_complete", "receipt")

    def __init__(self, head: Head, receipt: str | None, max_body: int) -> None:
        self.head = head
        self.receipt = receipt
        self.is_complete = False
        self._max_body = max_body
        self._buffer = bytearray()

    @property
    def size(self) -> int:
        """Octets that have arrived, the NUL included."""
        return len(self._buffer) + self.is_complete

    def add(self, data: bytes) -> int:
        """Take what belongs to this body, with its NUL, from the beginning of `data`; returns how much that was.

        Raises:
            ProtocolError: the body exceeds its limit.
        """
        end = data.find(b"\0")
        self.is_complete = end >= 0
        taken = end if end >= 0 else len(data)
        if len(self._buffer) + taken > self._max_body:
            raise body_too_large(self._max_body, self.receipt)
        self._buffer += memoryview(data)[:taken]
        return taken + self.is_complete

    def place(self) -> None:
        """There is none: where the body ends is not known before it is read."""

    def placed(self, count: int) -> None:
        raise AssertionError("placed() without a place()")

    def take(self) -> Buffer:
        """The complete body. Ends the use of this object."""
        return _handy(self._buffer)


def _handy(buffer: bytearray) -> Buffer:
    """Large bodies as they are; small ones as bytes, which everything downstream is fastest with."""
    return buffer if len(buffer) > PLACE_FROM else bytes(buffer)


def body_too_large(max_body: int, receipt: str | None) -> ProtocolError:
    return ProtocolError(
        "body too large",
        f"body without content-length exceeds max-body ({max_body:,} bytes)",
        kind=ErrorKind.LIMIT,
        receipt=receipt,
    )


def no_nul_after_body(length: int, found: int, receipt: str | None) -> ProtocolError:
    return ProtocolError(
        "no NUL after the body",
        f"the byte after a body of content-length {length:,} is {found:#04x}, not NUL; "
        "content-length must count bytes, not characters",
        receipt=receipt,
    )
