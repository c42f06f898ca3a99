"""What requests want of the broker, each as a conversation in frames of STOMP: to send a message, to watch a topic.

An errand says what the session is to be sent, and makes the answer of the frames that come back. The session alone
knows what frames mean; an errand knows which ones to say.

    POST body ── SEND, receipt ──▶ session     RECEIPT ──▶ 201
    GET       ── SUBSCRIBE     ──▶ session     RECEIPT ──▶ 200, MESSAGE ──▶ an event, MESSAGE ──▶ an event, ...
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Protocol

from forkbroker.child.web.bodies import Body
from forkbroker.child.web.frames import is_utf8
from forkbroker.child.web.requests import Response
from forkbroker.stomp.encoder import END, encode_frame
from forkbroker.stomp.frame import Buffer, Head
from forkbroker.stomp.versions import V12

Headers = Sequence[tuple[str, str]]

RETRY_MS = 3_000
"""How long an EventSource waits before it connects again: that of most browsers."""
_DONE = "done"
_SENT = Response(HTTPStatus.CREATED, b"", (("Cache-Control", "no-store"),))
_LINE_ENDS = (b"\r\n", b"\r")


class Errand(Protocol):
    """One request on its way. A rule: it has no socket."""

    is_receiving: bool
    """A part of the request's body is still to come."""
    has_begun: bool
    """The answer has begun: nothing else can be the answer any more."""

    def begin(self) -> bytes:
        """What the session is sent first."""

    def receive(self, octets: bytes) -> tuple[bytes, bytes]:
        """Octets behind the head of the request: what of that the session is sent, and what is not the request's.

        Raises:
            RequestError: they are not what was announced.
        """

    def hear(self, head: Head, body: Buffer) -> Response | bytes:
        """A frame of the session: the whole answer, or octets of one."""

    def tick(self) -> bytes:
        """Some time has passed: what the client is to be sent."""


class Sending:
    """A message."""

    has_begun = False

    def __init__(self, headers: Headers, body: Body) -> None:
        """`headers` are those of the SEND."""
        self._headers = (*headers, ("receipt", _DONE))
        self._body = body
        self._collected: list[bytes] = []
        """Of a body whose length is not known: a SEND begins with it."""
        self.is_receiving = not body.is_complete

    def begin(self) -> bytes:
        """As `Errand.begin`."""
        if self._body.length is None:
            return b""
        lines = (*self._headers, ("content-length", str(self._body.length)))
        head = encode_frame(V12, "SEND", lines)
        return head.removesuffix(END) if self.is_receiving else head

    def receive(self, octets: bytes) -> tuple[bytes, bytes]:
        """As `Errand.receive`."""
        own, rest = self._body.receive(octets)
        self.is_receiving = not self._body.is_complete
        if self._body.length is not None:
            return own if self.is_receiving else own + END, rest
        self._collected.append(own)
        if self.is_receiving:
            return b"", rest
        body = b"".join(self._collected)
        lines = (*self._headers, ("content-length", str(len(body))))
        return encode_frame(V12, "SEND", lines, body), rest

    def hear(self, head: Head, _body: Buffer) -> Response | bytes:
        """As `Errand.hear`."""
        return _SENT if is_receipt(head, _DONE) else b""

    def tick(self) -> bytes:
        """As `Errand.tick`: a client can wait."""
        return b""


class Watching:
    """The messages of a topic, as events of an EventSource (HTML, 9.2): the answer has no end."""

    is_receiving = False

    def __init__(self, headers: Headers, answer: Headers) -> None:
        """`headers` are those of the SUBSCRIBE; `answer`: some of the answer's."""
        self._subscribe = encode_frame(V12, "SUBSCRIBE", [*headers, ("id", "0"), ("receipt", _DONE)])
        self._answer = answer
        self.has_begun = False

    def begin(self) -> bytes:
        """As `Errand.begin`."""
        return self._subscribe

    def receive(self, octets: bytes) -> tuple[bytes, bytes]:
        """As `Errand.receive`: there is no body."""
        return b"", octets

    def hear(self, head: Head, body: Buffer) -> Response | bytes:
        """As `Errand.hear`."""
        if head.command == "MESSAGE":
            return self._open() + encode_event(head.headers, bytes(body))
        return self._open() if is_receipt(head, _DONE) else b""

    def _open(self) -> bytes:
        if self.has_begun:
            return b""
        self.has_begun = True
        lines = [("Content-Type", "text/event-stream; charset=utf-8"), ("Cache-Control", "no-store"), *self._answer]
        # nginx passes on each event as it comes only if it is told so
        lines += [("X-Accel-Buffering", "no"), ("Connection", "close")]
        head = "".join(f"{name}: {value}\r\n" for name, value in lines)
        return f"HTTP/1.1 200 OK\r\n{head}\r\nretry: {RETRY_MS}\n\n".encode("latin-1")

    def tick(self) -> bytes:
        """As `Errand.tick`: a comment, so that no proxy takes the connection for a dead one."""
        return b":\n\n" if self.has_begun else b""


def is_receipt(head: Head, name: str) -> bool:
    """Whether a frame is this RECEIPT."""
    return head.command == "RECEIPT" and head.headers.get("receipt-id") == name


def encode_event(headers: Mapping[str, str], body: bytes) -> bytes:
    """An event for a message. A body that is no text is one of the kind `base64`, in that encoding."""
    kind = b""
    if not is_utf8(body):
        kind, body = b"event: base64\n", b64encode(body)
    for end in _LINE_ENDS:
        body = body.replace(end, b"\n")
    lines = b"\ndata: ".join(body.split(b"\n"))
    ident = headers.get("message-id", "").encode()
    return b"%bid: %b\ndata: %b\n\n" % (kind, ident, lines)
