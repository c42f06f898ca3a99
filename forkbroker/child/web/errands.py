"""What requests want of the broker, each as a conversation in frames of STOMP.

An errand says what the session is to be sent, and makes the answer of the frames that come back. The session alone
knows what frames mean; an errand knows which ones to say.

    POST body ── SEND, receipt ──▶ session     RECEIPT ──▶ 201
    GET topic ── SUBSCRIBE     ──▶ session     RECEIPT ──▶ 200, MESSAGE ──▶ an event, MESSAGE ──▶ an event, ...
    GET durable, the same, and ACK ─▶ session
    GET queue ── SUBSCRIBE     ──▶ session     MESSAGE
              ── ACK park, UNSUBSCRIBE ──▶     RECEIPTs ──▶ 200 with the message
    DELETE    ── ACK parked    ──▶ session     RECEIPT ──▶ 204

A message of a queue is settled by another request, mostly over another connection: so it is parked before the client
gets it (`forkbroker.routing.offers.parking`), under a key that is the `ack` of its delivery then.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections import deque
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
COMMENT = b":\n\n"
"""What no EventSource takes for an event."""
KEPT = 100
"""Events of a durable subscription that may have been lost on their way."""
_RESUME_S = 1.0
_DONE, _SUBSCRIBED, _PARKED = "done", "subscribed", "parked"
_NOTHING = Response(HTTPStatus.NO_CONTENT, b"", (("Cache-Control", "no-store"),))
_OWN = frozenset(("ack", "content-length", "content-type", "subscription"))
"""Headers of a MESSAGE that the answer has in another way."""
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", re.ASCII)
_CONTROL = re.compile(r"[\0-\x1f\x7f]")
_SENT = Response(HTTPStatus.CREATED, b"", (("Cache-Control", "no-store"),))
_MESSAGE, _LENGTH, _IDENT = b"MESSAGE\n", b"\ncontent-length:", b"\nmessage-id:"
_LINE_ENDS = (b"\r\n", b"\r")


class Errand(Protocol):
    """One request on its way. A rule: it has no socket."""

    wait_s: float
    """Seconds after which `expire` is to be called, and again, while the answer is not complete; 0: it is not now."""
    refused: HTTPStatus
    """What it means that the parent has refused something."""
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

    def cut(self, stream: bytes) -> tuple[bytes, int]:
        """What becomes of frames that the stream begins with, and how many octets they are; the others are heard."""

    def hear(self, head: Head, body: Buffer) -> Response | bytes:
        """A frame of the session: the whole answer, or octets of one."""

    def expire(self) -> bytes:
        """The time is over: what the client is to be sent."""

    def take_frames(self) -> bytes:
        """What the session is to be sent because of what was heard, or as the time is over."""

    def tick(self) -> bytes:
        """Some time has passed: what the client is to be sent."""


class Simple:
    """An errand without a body, and without a limit of time of its own."""

    wait_s = 0.0
    refused = HTTPStatus.SERVICE_UNAVAILABLE
    is_receiving = False
    has_begun = False

    def receive(self, octets: bytes) -> tuple[bytes, bytes]:
        """As `Errand.receive`: all of it is the next request's."""
        return b"", octets

    def cut(self, _stream: bytes) -> tuple[bytes, int]:
        """As `Errand.cut`: all of them are heard."""
        return b"", 0

    def expire(self) -> bytes:
        """As `Errand.expire`."""
        return b""

    def take_frames(self) -> bytes:
        """As `Errand.take_frames`."""
        return b""

    def tick(self) -> bytes:
        """As `Errand.tick`: a client can wait."""
        return b""


class Posting(Simple):
    """A message."""

    refused = HTTPStatus.INSUFFICIENT_STORAGE

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


class Watching(Simple):
    """The messages of a topic, as events of an EventSource (HTML, 9.2): the answer has no end."""

    def __init__(self, headers: Headers, answer: Headers) -> None:
        """`headers` are those of the SUBSCRIBE; `answer`: some of the answer's."""
        self._subscribe = encode_frame(V12, "SUBSCRIBE", [*headers, ("id", "0"), ("receipt", _DONE)])
        self._answer = answer
        self.has_begun = False

    def begin(self) -> bytes:
        """As `Errand.begin`."""
        return self._subscribe

    def hear(self, head: Head, body: Buffer) -> Response | bytes:
        """As `Errand.hear`."""
        if head.command == "MESSAGE":
            return self._open() + encode_event(head.headers, bytes(body))
        return self._open() if is_receipt(head, _DONE) else b""

    def cut(self, stream: bytes) -> tuple[bytes, int]:
        """As `Errand.cut`: whole messages, without a parser."""
        return encode_events(stream) if self.has_begun else (b"", 0)

    def _open(self) -> bytes:
        if self.has_begun:
            return b""
        self.has_begun = True
        return open_events(self._answer)

    def tick(self) -> bytes:
        """As `Errand.tick`: a comment, so that no proxy takes the connection for a dead one."""
        return COMMENT if self.has_begun else b""


def open_events(answer: Headers = ()) -> bytes:
    """What comes before the first event; `answer`: some of the headers."""
    lines = [("Content-Type", "text/event-stream; charset=utf-8"), ("Cache-Control", "no-store"), *answer]
    # nginx passes on each event as it comes only if it is told so
    lines += [("X-Accel-Buffering", "no"), ("Connection", "close")]
    head = "".join(f"{name}: {value}\r\n" for name, value in lines)
    return f"HTTP/1.1 200 OK\r\n{head}\r\nretry: {RETRY_MS}\n\n".encode("latin-1")


def make_watch_frames(host: bytes, topic: bytes) -> tuple[bytes, bytes]:
    """CONNECT and SUBSCRIBE as of a request for events that gives no more than these."""
    connect = b"CONNECT\naccept-version:%b\nhost:%b\n\n\0" % (V12.name.encode(), host)
    return connect, b"SUBSCRIBE\ndestination:%b\nid:0\nreceipt:%b\n\n\0" % (topic, _DONE.encode())


class Resuming(Watching):
    """The messages of a durable subscription, as events. A client that comes again goes on where it was.

    Nobody acknowledges an event. So the last ones that the client was sent stay unsettled, and return when its
    connection ends, as they may have been lost with it. An EventSource names the last one that it has seen when it
    connects again (`Last-Event-ID`): what returned up to that is settled, and not sent again. So what returns is kept
    back until that event is among it; or until a new message, or nothing for a second, shows that it is not.

    What has been sent for a while has arrived, and is settled. That is sooner for what has returned: if a process has
    crashed with it, the broker gives one such message at a time, and no other one before that is settled.
    """

    def __init__(self, headers: Headers, answer: Headers, seen: str) -> None:
        """`headers` and `answer`: as of `Watching`. `seen`: the id of the last event that the client has."""
        credit = (("ack", "client-individual"), ("prefetch-count", str(2 * KEPT)))
        super().__init__([*headers, *credit], answer)
        self._seen = seen
        self.wait_s = _RESUME_S if seen else 0.0
        self._returned: list[tuple[Mapping[str, str], bytes]] = []
        self._unsettled: deque[str] = deque()
        """By their `ack` headers."""
        self._sent = 0
        """So many of them had been sent at the last tick."""
        self._again = 0
        """So many of them are up to the last one that had returned."""
        self._waited = 0
        """So many of these had been sent when the present wait began."""
        self._frames: list[bytes] = []

    def cut(self, _stream: bytes) -> tuple[bytes, int]:
        """As `Errand.cut`: each of them has to be settled."""
        return b"", 0

    def hear(self, head: Head, body: Buffer) -> Response | bytes:
        """As `Errand.hear`."""
        if head.command != "MESSAGE":
            return super().hear(head, body)
        self._unsettled.append(head.headers["ack"])
        if "redelivered" in head.headers:
            self._again = len(self._unsettled)
            if not self.wait_s:
                self.wait_s, self._waited = _RESUME_S, self._again
        if self._seen:
            return self._open() + self._resume(head.headers, bytes(body))
        self._settle(len(self._unsettled) - KEPT)
        return self._open() + encode_event(head.headers, bytes(body))

    def _resume(self, headers: Mapping[str, str], body: bytes) -> bytes:
        self._returned.append((headers, body))
        if headers.get("message-id") == self._seen:
            self._seen = ""
            self._returned.clear()
            self._settle(len(self._unsettled))
        elif "redelivered" not in headers or len(self._returned) >= KEPT:
            return self._give_up()
        return b""

    def _give_up(self) -> bytes:
        """The event that the client has seen is not among those that returned: it was settled long ago."""
        self._seen = ""
        returned, self._returned = self._returned, []
        return b"".join(encode_event(headers, body) for headers, body in returned)

    def _settle(self, count: int) -> None:
        """Settle so many, the oldest."""
        for _ in range(count):
            self._frames.append(encode_frame(V12, "ACK", [("id", self._unsettled.popleft())]))
        counts = (self._sent, self._again, self._waited)
        self._sent, self._again, self._waited = (max(0, left - max(0, count)) for left in counts)

    def expire(self) -> bytes:
        """As `Errand.expire`: nothing more returns; or what has returned was sent a while ago."""
        octets = self._give_up() if self._seen else b""
        # not what came within this wait: that has one of its own; nor what is new behind it
        self._settle(self._waited)
        self._waited = self._again
        self.wait_s = _RESUME_S if self._waited else 0.0
        return octets

    def tick(self) -> bytes:
        """As `Errand.tick`: what had been sent at the last one has arrived."""
        if not self._seen:
            self._settle(self._sent)
            self._sent = len(self._unsettled)
        return super().tick()

    def take_frames(self) -> bytes:
        """As `Errand.take_frames`."""
        frames, self._frames = self._frames, []
        return b"".join(frames)


class Taking(Simple):
    """One message of a queue, which waits to be settled then."""

    def __init__(self, headers: Headers, key: str, *, wait_s: float, lease_ms: int) -> None:
        """`headers` are those of the SUBSCRIBE; `key` is nobody else's, and cannot be guessed.

        `wait_s`: how long to wait for a message; 0: only for one that is there.
        """
        # with a limit in octets, nothing is offered to it ahead that others could have
        wishes = [("id", "0"), ("ack", "client-individual"), ("credit", "1,1"), ("receipt", _SUBSCRIBED)]
        self._subscribe = encode_frame(V12, "SUBSCRIBE", [*headers, *wishes])
        self._key = key
        self.wait_s = wait_s
        self._lease_ms = lease_ms
        self._frames = b""
        self._message: Response | None = None
        self._is_parked = self._is_ending = self._has_ended = False

    def begin(self) -> bytes:
        """As `Errand.begin`."""
        return self._subscribe

    def hear(self, head: Head, body: Buffer) -> Response | bytes:
        """As `Errand.hear`."""
        if head.command == "MESSAGE" and self._message is None:
            self._message = _show(head.headers, bytes(body), self._key)
            lines = (("id", head.headers["ack"]), ("park", self._key), ("lease", str(self._lease_ms)))
            self._frames += encode_frame(V12, "ACK", [*lines, ("receipt", _PARKED)])
            self.expire()
        elif is_receipt(head, _SUBSCRIBED) and not self.wait_s:
            self.expire()
        self._is_parked |= is_receipt(head, _PARKED)
        self._has_ended |= is_receipt(head, _DONE)
        if not self._has_ended or (self._message is not None and not self._is_parked):
            return b""
        return _NOTHING if self._message is None else self._message

    def expire(self) -> bytes:
        """As `Errand.expire`: no other message. One that is on its way here comes before the RECEIPT."""
        self.wait_s = 0.0
        if not self._is_ending:
            self._is_ending = True
            lines = (("id", "0"), ("drain", "true"), ("receipt", _DONE))
            self._frames += encode_frame(V12, "UNSUBSCRIBE", lines)
        return b""

    def take_frames(self) -> bytes:
        """As `Errand.take_frames`."""
        frames, self._frames = self._frames, b""
        return frames


class SettlingParked(Simple):
    """The end of a delivery that was parked."""

    refused = HTTPStatus.GONE

    def __init__(self, command: str, headers: Headers) -> None:
        """ACK or NACK, with its headers."""
        self._frame = encode_frame(V12, command, [*headers, ("receipt", _DONE)])

    def begin(self) -> bytes:
        """As `Errand.begin`."""
        return self._frame

    def hear(self, head: Head, _body: Buffer) -> Response | bytes:
        """As `Errand.hear`."""
        return _NOTHING if is_receipt(head, _DONE) else b""


def _show(headers: Mapping[str, str], body: bytes, key: str) -> Response:
    """A message as an answer. What is in it runs nowhere: a browser that shows it has sent us here."""
    lines = [
        ("Content-Type", _clean(headers.get("content-type", "application/octet-stream"))),
        ("Cache-Control", "no-store"),
        ("Content-Security-Policy", "sandbox"),
        ("X-Content-Type-Options", "nosniff"),
        ("Location", f"?ack={key}"),
        ("Stomp-Ack", key),
    ]
    told = [(name, value) for name, value in headers.items() if name not in _OWN and _NAME.fullmatch(name)]
    return Response(HTTPStatus.OK, body, (*lines, *[(f"Stomp-{name.title()}", _clean(value)) for name, value in told]))


def _clean(value: str) -> str:
    """The value of a header in UTF-8, without what would end it."""
    return _CONTROL.sub(" ", value).encode(errors="replace").decode("latin-1")


def is_receipt(head: Head, name: str) -> bool:
    """Whether a frame is this RECEIPT."""
    return head.command == "RECEIPT" and head.headers.get("receipt-id") == name


def encode_events(stream: bytes) -> tuple[bytes, int]:
    """Events for all messages that the stream begins with and has whole, and how many octets of it these are.

    Hot path: 1.5 µs a message of 100 octets, where the parser and an event for each frame take 3.6, and a call of
    `hear` comes beside that.
    """
    events: list[bytes] = []
    find, is_message, end = stream.find, stream.startswith, len(stream)
    position = 0
    while is_message(_MESSAGE, position):
        gap = find(b"\n\n", position)
        at, name = find(_LENGTH, position, gap), find(_IDENT, position, gap)
        if gap < 0 or name < 0:
            break
        start = gap + 2
        stop = find(b"\0", start) if at < 0 else start + int(stream[at + len(_LENGTH) : find(b"\n", at + 1)])
        if stop < 0 or stop + 1 >= end:
            break
        ident, body = stream[name + len(_IDENT) : find(b"\n", name + 1)], stream[start:stop]
        if b"\\" in ident:
            break
        if body.isascii() and b"\n" not in body and b"\r" not in body:
            events.append(b"id: %b\ndata: %b\n\n" % (ident, body))
        else:
            events.append(_encode_event(ident, body))
        position = stop + len(END)
    return b"".join(events), position


def encode_event(headers: Mapping[str, str], body: bytes) -> bytes:
    """An event for a message. A body that is no text is one of the kind `base64`, in that encoding."""
    return _encode_event(headers.get("message-id", "").encode(), body)


def _encode_event(ident: bytes, body: bytes) -> bytes:
    kind = b""
    if not is_utf8(body):
        kind, body = b"event: base64\n", b64encode(body)
    for end in _LINE_ENDS:
        body = body.replace(end, b"\n")
    lines = b"\ndata: ".join(body.split(b"\n"))
    return b"%bid: %b\ndata: %b\n\n" % (kind, ident, lines)
