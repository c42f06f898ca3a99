"""The transport of clients that speak HTTP: between the octets of their connection and the session's stream.

`WebTransport` reads heads of requests and answers them, until one begins a conversation, which has all octets from then
on (`forkbroker.child.web.router`). It stands on another transport, which may encrypt.

A part of the stream becomes other octets at once, and these have to be written to the last one: until then that part
is not counted as written, as with TLS (`in_hand`). Beside the stream there are octets of the protocol's own. They wait
in `_unsent`, behind what is there, and are no reason to read the client if it takes none of them.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable
from contextlib import suppress
from http import HTTPStatus

from forkbroker.child.transport import ClosedError, RefusedError, Transport, TransportError
from forkbroker.child.web.requests import Request, RequestError, Response, parse_head, say
from forkbroker.child.web.router import ANSWERED, Conversation
from forkbroker.wire.envelope import Buffer
from forkbroker.wire.kinds import Cause
from forkbroker.wire.memory_file import MemoryFile

_REST_MAX = 65_536
"""Octets of requests that wait for the answer of another one before the client is not read any more."""
_UNSENT_MAX = 65_536
"""Octets of the protocol's own that may wait before the client is not read any more."""


class WebTransport:
    """Requests, and the conversation that one of them begins."""

    def __init__(self, inner: Transport, answer: Callable[[Request], Response | Conversation], *, is_tls: bool) -> None:
        """`inner` has the octets of HTTP; `answer` says what follows from a request."""
        self.socket: socket.socket = inner.socket
        self._inner = inner
        self._answer = answer
        self._is_tls = is_tls
        self._head = b""
        self._talk: Conversation | None = None
        self._unsent = b""
        self._stream = memoryview(b"")
        """What has come of the stream, and had no room yet where it is to be read to."""
        self._has_ended = False
        """The client has sent its last octet, and something before that still waits."""
        self._is_ending = False
        """The last answer is given: nothing more is read."""
        self._has_answered = False
        self._is_idle = False
        """Nothing has come since the last `rest`."""
        self._problem = ""
        """What the log is to say at the end."""
        self.in_hand = 0

    @property
    def has_more(self) -> bool:
        """The inner transport has; or the end has been read, and is still to be told."""
        if self._is_ending or (self._talk is not None and self._talk.is_over):
            return self._inner.has_more or not self._unsent
        return self._has_own or (self._inner.has_more and self.wants_readable)

    @property
    def _has_own(self) -> bool:
        """Something is to be read that came before, or that nobody has sent: the end may be as well."""
        talk = self._talk
        return bool(self._stream) or (talk is not None and (talk.has_more or (self._has_ended and talk.is_free)))

    @property
    def bearer(self) -> str:
        """As the conversation says."""
        return "" if self._talk is None else self._talk.bearer

    @property
    def wants_readable(self) -> bool:
        """Not while the client does not take what it was sent, or has sent much that waits for an answer before it."""
        if len(self._unsent) >= _UNSENT_MAX:
            return False
        if self._has_ended or (self._talk is not None and len(self._talk.rest) >= _REST_MAX):
            return self._has_own
        return self._inner.wants_readable

    @property
    def wants_writable(self) -> bool:
        """Octets of its own, or of the inner transport, wait."""
        return bool(self._unsent) or self._inner.wants_writable

    def begin(self, talk: Conversation, unsent: bytes = b"") -> None:
        """Go on with a conversation that has begun; of what it has said, these octets are not sent."""
        self._talk = talk
        self._unsent = unsent

    def repeat(self, request: bytes, said: bytes, unsent: bytes) -> bytes:
        """Read a request that was answered before, and is not answered again; returns what it is in the stream.

        `said`: octets of the stream that became the answer. Of that, these octets are not sent.
        """
        stream = self._receive(request)
        assert self._talk is not None
        if said:
            self._talk.send([said])
        self._unsent = unsent
        return stream

    # From the client

    def read_into(self, place: memoryview) -> int:
        """Read octets of the stream; 0 means its end.

        Raises:
            BlockingIOError: nothing of the stream has come.
            ClosedError: the conversation is over.
            RefusedError: the client has broken its protocol.
            OSError: the connection is broken.
        """
        talk = self._talk
        if self._is_ending or (talk is not None and talk.is_over):
            return self._read_end()
        if not self._stream:
            octets = b""
            if talk is None or not talk.has_more:
                count = 0 if self._has_ended else self._inner.read_into(place)
                if not count and not self._wait_for_rest(talk):
                    return 0
                octets = bytes(place[:count])
            self._stream = memoryview(self._receive(octets))
            self._take_outgoing()
            if not self._stream:
                raise BlockingIOError
        part = self._stream[: len(place)]
        place[: len(part)] = part
        self._stream = self._stream[len(part) :]
        return len(part)

    def _wait_for_rest(self, talk: Conversation | None) -> bool:
        """Whether requests wait that came before the end, which is not to be told until these are answered."""
        self._has_ended = talk is not None and bool(talk.rest)
        return self._has_ended

    def _read_end(self) -> int:
        """The end, once what was said last is with the kernel."""
        self._flush()
        if self._unsent:
            raise BlockingIOError
        if self._problem:
            raise RefusedError(0, self._problem)
        raise ClosedError(0, ANSWERED if self._talk is None or self._is_ending else self._talk.farewell)

    def _receive(self, octets: bytes) -> bytes:
        """Octets of the connection; what they are in the stream."""
        stream: list[bytes] = []
        while not self._is_ending:
            talk = self._talk
            if talk is None or talk.is_free:
                if talk is not None:
                    octets, talk.rest = talk.rest + octets, b""
                if not octets:
                    break
                octets = self._receive_head(octets)
                if self._head:
                    break
                continue
            try:
                stream.append(talk.receive(octets))
            except TransportError as error:
                self._problem = error.strerror or ""
            octets = b""
            if not (talk.is_free and talk.rest):
                break
        return stream[0] if len(stream) == 1 else b"".join(stream)

    def _receive_head(self, octets: bytes) -> bytes:
        """More of a request's head; what is left behind it."""
        self._head += octets
        try:
            request = parse_head(self._head, is_tls=self._is_tls)
        except RequestError as error:
            self._say(say(error.status, error.text), stays=False)
            self._problem = f"HTTP: {error.text}"
            return b""
        if request is None:
            return b""
        rest, self._head = self._head[len(request.octets) :], b""
        answer = self._answer(request)
        if isinstance(answer, Response):
            # what follows may be a body that nobody has asked for; and what the log is to say, it says at the end
            stays = request.stays and request.body_octets == 0 and not answer.note
            self._say(answer, stays=stays, has_body=request.method != "HEAD")
            self._problem = f"HTTP: {answer.note}" if answer.note else ""
        else:
            self._talk = answer
            self._has_answered, self._is_idle = True, False
        return rest

    def _say(self, answer: Response, *, stays: bool, has_body: bool = True) -> None:
        self._unsent += answer.encode(stays=stays, has_body=has_body)
        self._has_answered, self._is_idle = True, False
        self._is_ending = not stays

    def _take_outgoing(self) -> None:
        talk = self._talk
        if talk is not None and talk.outgoing and not talk.is_midway:
            self._unsent += talk.outgoing
            talk.outgoing = b""
        self._flush()

    def rest(self) -> None:
        """Some time has passed: end a connection that has had its answers, and is not used any more."""
        if (self._talk is None or self._talk.is_free) and self._has_answered and not self._head:
            self._is_ending = self._is_ending or self._is_idle
            self._is_idle = True

    def tick(self) -> None:
        """Some time has passed."""
        if self._talk is not None and not self._talk.is_over:
            self._talk.tick()
            self._take_outgoing()

    # To the client

    def write(self, buffers: Iterable[Buffer]) -> int:
        """Write what the kernel takes; return how many octets of the stream it has taken with all that they became.

        Raises:
            BlockingIOError: it has taken nothing of the stream, or not all of a part: call again with the same octets.
            OSError: the connection is broken.
        """
        if self._talk is None:
            # what STOMP has to say would be no answer to a request, or to none
            return sum(map(len, buffers))
        if not self._unsent and not self.in_hand and not self._talk.is_over:
            waiting = list(buffers)
            if waiting:
                octets, self.in_hand = self._talk.send(waiting)
                self._unsent = bytes(octets)
        return self._finish_write()

    def write_file(self, file: MemoryFile, offset: int, octets: int) -> int:
        """As `write`, for octets of a file. Raises as `write`."""
        if self._talk is None:
            return octets
        if not self._unsent and not self.in_hand and not self._talk.is_over:
            data, self.in_hand = self._talk.send_file(file, offset, octets)
            self._unsent = bytes(data)
        return self._finish_write()

    def _finish_write(self) -> int:
        self._flush()
        if self._unsent:
            raise BlockingIOError
        written, self.in_hand = self.in_hand, 0
        if self._talk is not None and self._talk.outgoing:
            self._take_outgoing()
        if not written:
            # octets of the protocol's own are no beat of the session's
            raise BlockingIOError
        return written

    def _flush(self) -> None:
        """Give the kernel what it takes of what waits; the rest is `wants_writable`."""
        with suppress(BlockingIOError):
            while self._unsent or self._inner.wants_writable:
                taken = self._inner.write([self._unsent] if self._unsent else [])
                self._unsent = self._unsent[taken:]
                if not self._unsent:
                    break

    def find_certificate_name(self, kind: str) -> str:
        """As the inner transport."""
        return self._inner.find_certificate_name(kind)

    def shut_down(self, cause: Cause) -> None:
        """End the conversation, or the request that has not got an answer, as far as there is room for it."""
        talk = self._talk
        if talk is not None and not (talk.is_free and self._head):
            self._unsent += b"" if self._unsent and talk.is_midway else talk.close(cause)
        elif self._head and not self._is_ending:
            late = cause is Cause.FAULT
            status = HTTPStatus.REQUEST_TIMEOUT if late else HTTPStatus.SERVICE_UNAVAILABLE
            text = "The request did not come in time." if late else "The broker has no room now, or ends."
            self._unsent += say(status, text).encode(stays=False)
        with suppress(OSError):
            self._flush()
        self._inner.shut_down(cause)
