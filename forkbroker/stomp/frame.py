"""Frames as the parser hands them out: one head, one or many bodies.

A client that publishes sends the same header block again and again. So the parsed form of a block, the `Head`,
is made once and shared by all frames that carry it, and consecutive frames with the same head travel through
the broker together as a `FrameRun`. Most frames that are not SEND are a run of one.
"""

from __future__ import annotations

from dataclasses import dataclass

Buffer = bytes | bytearray | memoryview

CONNECT_COMMANDS = frozenset({"CONNECT", "STOMP"})
"""The two names of the first frame. Their headers are never escaped (F22)."""

CLIENT_COMMANDS = CONNECT_COMMANDS | {
    "SEND",
    "SUBSCRIBE",
    "UNSUBSCRIBE",
    "ACK",
    "NACK",
    "BEGIN",
    "COMMIT",
    "ABORT",
    "DISCONNECT",
}
"""All commands that a client may send; what else arrives is for the session to refuse (E03)."""

BODY_COMMANDS = frozenset({"SEND", "MESSAGE", "ERROR"})
"""Commands whose frames may carry a body (F11)."""


@dataclass(slots=True, eq=False)
class Head:
    """A parsed header block. Compared by identity: the same head means the same octets.

    Attributes:
        command: as sent; it need not be one of `CLIENT_COMMANDS`.
        headers: decoded, the first of repeated ones (F24). Never contains `receipt`, which differs from frame
            to frame and stands in `FrameRun.receipts`.
        content_length: what the client announced, where this version honours it on this command; else None.
        memo: for the owner of the parser, to keep what it derived from this head. It lives as long as the head.
    """

    command: str
    headers: dict[str, str]
    content_length: int | None = None
    memo: object | None = None


@dataclass(slots=True, eq=False)
class FrameRun:
    """One or more consecutive frames with the same head, in the order in which they came.

    Attributes:
        head: shared by all of them.
        bodies: one for each frame; large ones are a bytearray that nobody else holds, others bytes.
        receipts: what each frame asked for, or None when no frame of the run asked for a receipt.
        ids: of ACKs that have an `id` of digits and one `-`, and no other header but `receipt`: those, one for each
            frame, while `head` is that of the first. None for all other frames.
    """

    head: Head
    bodies: list[Buffer]
    receipts: list[str | None] | None = None
    ids: list[bytes] | None = None
