"""Requests of one connection that want something of the broker, one after the other, and the session that does it.

The session begins with the first such request, and is that of the user who has made it. So a connection is one user's:
a request of somebody else is refused, and has to come on another connection. Requests that come before the answer of
the last one wait. What ends the session ends the connection, behind an answer that says why.

What the answer is to a frame that the broker refuses is derived from ERROR, and from the kind of its reason:

    login failed   401      denied   403      body too large   413      silence, half a request   408
    refused, as the errand has it          no room, the end of the broker   503         anything else   400
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from http import HTTPStatus

from forkbroker.child.transport import take
from forkbroker.child.web.errands import Errand
from forkbroker.child.web.frames import PART
from forkbroker.child.web.requests import Request, RequestError, Response, say
from forkbroker.child.web.router import ANSWERED
from forkbroker.session.policy import FRAME_PROGRESS
from forkbroker.stomp.encoder import encode_frame
from forkbroker.stomp.frame import FrameRun
from forkbroker.stomp.limits import Limits
from forkbroker.stomp.parser import Parser
from forkbroker.stomp.versions import V12
from forkbroker.wire.envelope import Buffer
from forkbroker.wire.kinds import Cause
from forkbroker.wire.memory_file import MemoryFile

_FROM_BROKER = Limits(max_header_line=1 << 20, max_headers=1 << 16, max_body=1 << 62)
"""What the session says is within its own limits."""
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
CHALLENGES = (
    ("WWW-Authenticate", 'Basic realm="STOMP", charset="UTF-8"'),
    ("WWW-Authenticate", 'Bearer realm="STOMP"'),
)
_LATE = frozenset(("missed heart-beat", "incomplete frame", "not connected in time"))
_STATUSES = {
    Cause.ASKED: HTTPStatus.BAD_REQUEST,
    Cause.FAULT: HTTPStatus.BAD_REQUEST,
    Cause.DENIED: HTTPStatus.FORBIDDEN,
    Cause.AWAY: HTTPStatus.SERVICE_UNAVAILABLE,
    Cause.FULL: HTTPStatus.SERVICE_UNAVAILABLE,
}


@dataclass(frozen=True, slots=True)
class Login:
    """Whom a request comes from, as CONNECT has it."""

    headers: tuple[tuple[str, str], ...]


class Exchange:
    """A `forkbroker.child.web.router.Conversation` that goes on for as many requests as the client likes."""

    farewell = ANSWERED
    is_midway = False

    def __init__(self, heard: Callable[[], None], call_after: Callable[[float, Callable[[], None]], None]) -> None:
        """`heard`: called when the client is silent because it waits, or sends what is not for the stream yet.

        `call_after`: calls a function after so many seconds.
        """
        self._heard = heard
        self._call_after = call_after
        self.outgoing = b""
        self.bearer = ""
        self.is_over = False
        self.rest = b""
        self._stream: list[bytes] = []
        """What the session is to get."""
        self._login: Login | None = None
        self._is_connected = False
        self._request: Request | None = None
        self._errand: Errand | None = None
        self._timed: Errand | None = None
        """The one whose `expire` is due at some time."""
        self._extra: tuple[tuple[str, str], ...] = ()
        self._unheard = 0
        """Octets of a body that have come since the session has last heard."""
        self._parser = Parser(_FROM_BROKER)
        self._parser.negotiated(V12)
        self._error: FrameRun | None = None

    @property
    def is_free(self) -> bool:
        """As `Conversation.is_free`."""
        return self._errand is None and not self.is_over

    @property
    def has_more(self) -> bool:
        """As `Conversation.has_more`."""
        return not self.is_over and (any(self._stream) or bool(self.outgoing) or (self.is_free and bool(self.rest)))

    def begin(
        self, request: Request, login: Login, errand: Errand, extra: tuple[tuple[str, str], ...] = ()
    ) -> Response | Exchange:
        """Answer a request by this errand. `extra`: headers of all answers to it."""
        if self._login is None:
            self._stream.append(encode_frame(V12, "CONNECT", [("accept-version", V12.name), *login.headers]))
        elif login != self._login:
            text = "This connection is used by somebody else, or for another host: use another one."
            return say(HTTPStatus.MISDIRECTED_REQUEST, text, *extra)
        self._login = login
        self._request, self._errand, self._extra = request, errand, extra
        self._stream.append(errand.begin())
        self._watch_time(errand)
        if self._is_connected:
            self._encourage()
        return self

    def _watch_time(self, errand: Errand) -> None:
        if errand.wait_s and self._timed is not errand:
            self._timed = errand
            self._call_after(errand.wait_s, lambda: self._expire(errand))

    def _expire(self, errand: Errand) -> None:
        if self._timed is errand:
            self._timed = None
        if self._errand is errand:
            self.outgoing += errand.expire()
            self._stream.append(errand.take_frames())
            self._watch_time(errand)

    def _encourage(self) -> None:
        """Tell a client that waits for it that it may send the body (RFC 9110, 10.1.1)."""
        request, errand = self._request, self._errand
        if request is not None and errand is not None and errand.is_receiving and not request.is_old:
            self.outgoing += _CONTINUE if request.headers.get("expect", "").lower() == "100-continue" else b""

    def receive(self, octets: bytes) -> bytes:
        """As `Conversation.receive`."""
        errand = self._errand
        if errand is None or not errand.is_receiving:
            self.rest += octets
        elif octets:
            try:
                stream, self.rest = errand.receive(octets)
            except RequestError as error:
                self._finish(say(error.status, error.text), stays=False)
                return b""
            self._stream.append(stream)
            self._unheard += len(octets)
            if not stream and self._unheard >= FRAME_PROGRESS:
                self._unheard = 0
                self._heard()
        stream, self._stream = b"".join(self._stream), []
        return stream

    # To the client

    def send(self, buffers: Sequence[Buffer]) -> tuple[Buffer, int]:
        """As `Conversation.send`."""
        part = take(buffers, PART)
        return self._translate(part), len(part)

    def send_file(self, file: MemoryFile, offset: int, octets: int) -> tuple[Buffer, int]:
        """As `Conversation.send_file`."""
        part = file.read(offset, min(octets, PART))
        return self._translate(part), len(part)

    def _translate(self, part: bytes) -> bytes:
        told = self.outgoing
        self.outgoing = b""
        answers: list[bytes] = [told]
        if self._errand is not None and not self._parser.is_within_frame:
            octets, used = self._errand.cut(part)
            answers.append(octets)
            part = part[used:]
        for run in self._parser.receive(part):
            command = run.head.command
            if command == "ERROR":
                self._error = run
            elif command == "CONNECTED":
                self._is_connected = True
                self._encourage()
            else:
                for body in run.bodies:
                    answers.append(self._hear(run, body))
        answers.append(self.outgoing)
        self.outgoing = b""
        return b"".join(answers)

    def _hear(self, run: FrameRun, body: Buffer) -> bytes:
        errand, request = self._errand, self._request
        if errand is None or request is None:
            return b""
        answer = errand.hear(run.head, body)
        frames = errand.take_frames()
        if frames:
            self._stream.append(frames)
        self._watch_time(errand)
        if isinstance(answer, Response):
            self._finish(answer, stays=request.stays)
            answer, self.outgoing = self.outgoing, b""
        return answer

    def _finish(self, answer: Response, *, stays: bool) -> None:
        """Give the whole answer. `stays`: another request may follow."""
        answer = replace(answer, headers=(*answer.headers, *self._extra))
        self.outgoing += answer.encode(stays=stays)
        self._errand = self._request = None
        self.is_over = not stays

    def tick(self) -> None:
        """A client that waits for an answer, or for the next event, may be silent."""
        errand = self._errand
        if errand is not None and not errand.is_receiving:
            self.outgoing += errand.tick()
            self._stream.append(errand.take_frames())
            self._heard()

    def close(self, cause: Cause) -> bytes:
        """The answer to a request that has none, as the session has ended."""
        if not self.is_over and self._errand is not None and not self._errand.has_begun:
            self._finish(self._explain(cause, self._errand), stays=False)
        self.is_over = True
        last, self.outgoing = self.outgoing, b""
        return last

    def _explain(self, cause: Cause, errand: Errand) -> Response:
        error = self._error
        if error is None:
            if errand.is_receiving:
                return say(HTTPStatus.BAD_REQUEST, "The connection has ended within the body of the request.")
            return say(HTTPStatus.SERVICE_UNAVAILABLE, "The connection has ended before there was an answer.")
        message = error.head.headers.get("message", "")
        text = bytes(error.bodies[0]).decode(errors="replace").strip() or message
        if message == "login failed":
            return say(HTTPStatus.UNAUTHORIZED, "Give a login and a passcode, or a token, that are right.", *CHALLENGES)
        if message == "refused":
            return say(errand.refused, text)
        if message == "body too large":
            return say(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, text)
        status = HTTPStatus.REQUEST_TIMEOUT if message in _LATE else _STATUSES[cause]
        return say(status, f"{message}: {text}" if text != message else text)
