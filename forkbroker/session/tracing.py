"""What a client and the broker say to each other, for an administrator who looks (TRACE).

A session that is not looked at has no `Tracing`, and costs the test of an attribute for each frame. The client's frames
are told as the parser has understood them, before anything follows from them. Frames for the client are told when they
are queued for the socket. They are parsed again for that, so the code that makes frames does not know of it.

A client may be faster than an administrator can read. So many frames in a second are told, and the next one says how
many were left out. Of a body only its beginning is told, and of CONNECT, which may have a passcode, no header.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from itertools import repeat
from typing import Any

from forkbroker.session.upward import Upward
from forkbroker.stomp.frame import CONNECT_COMMANDS, FrameRun, Head
from forkbroker.stomp.limits import Limits
from forkbroker.stomp.parser import Parser
from forkbroker.stomp.versions import Version
from forkbroker.wire.envelope import Buffer, pack
from forkbroker.wire.fields import MAX_TRACE
from forkbroker.wire.kinds import Kind
from forkbroker.wire.memory_file import MemoryFile

MOST = 500
"""Frames that are told in a second."""
BODY = 4096
"""Octets of a body that are told."""
_OWN = Limits(max_command=1024, max_header_line=1 << 30, max_headers=1 << 30, max_body=1 << 40)
"""The frames of the broker are within the limits of the clients that have sent them."""
_ENDS = 2
"""Octets of the ends of a list."""


class Tracing:
    """Tells the parent of frames, from now on."""

    def __init__(self, version: Version, upward: Upward, *, has_bodies: bool) -> None:
        """Frames for the client are of this version."""
        self._upward = upward
        self.has_bodies = has_bodies
        """Bodies are told as well; may be changed."""
        self._parser = Parser(_OWN)
        self._parser.negotiated(version)
        self._rows: list[str] = []
        self._octets = 0
        self._missed = 0
        self._left = MOST
        self._until = 0.0

    def received(self, run: FrameRun) -> None:
        """The client has sent these."""
        self._tell("client", run)

    def sent(self, buffers: Sequence[Buffer]) -> None:
        """These are whole frames for the client, or the line feed of a heart-beat."""
        for buffer in buffers:
            for run in self._parser.receive(buffer if isinstance(buffer, bytes) else bytes(buffer)):
                self._tell("broker", run)

    def sent_file(self, file: MemoryFile) -> None:
        """As `sent`, of the frames in a file."""
        self.sent([file.read(0, file.size)])

    def report(self, now: float) -> None:
        """At the end of a turn: let the parent know what there was in it."""
        if now >= self._until:
            self._until, self._left = now + 1.0, MOST
        if self._rows:
            block = f"[{','.join(self._rows)}]".encode()
            self._rows, self._octets = [], 0
            self._upward.request(pack(Kind.TRACED, block=block))

    def _tell(self, who: str, run: FrameRun) -> None:
        told = 0
        receipts, ids = run.receipts or repeat(None), run.ids or repeat(None)
        for body, receipt, one in zip(run.bodies[: self._left], receipts, ids, strict=False):
            row = json.dumps(self._show(who, run.head, body, receipt, one), separators=(",", ":"))
            if self._octets + len(row) + _ENDS > MAX_TRACE:
                break
            self._rows.append(row)
            self._octets += len(row) + 1
            self._missed = 0
            told += 1
        self._left -= told
        self._missed += len(run.bodies) - told

    def _show(self, who: str, head: Head, body: Buffer, receipt: str | None, ack_id: bytes | None) -> dict[str, Any]:
        headers = {} if head.command in CONNECT_COMMANDS else dict(head.headers)
        if ack_id is not None:
            headers["id"] = ack_id.decode()
        if receipt is not None:
            headers["receipt"] = receipt
        row: dict[str, Any] = {"from": who, "command": head.command, "headers": headers, "bytes": len(body)}
        if self.has_bodies and body:
            octets = bytes(body[:BODY])
            try:
                row["body"] = octets.decode()
            except UnicodeDecodeError:
                row["body-base64"] = base64.b64encode(octets).decode()
            row["is-cut"] = len(body) > BODY
        row["missed"] = self._missed
        return row
