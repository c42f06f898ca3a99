"""Bodies of requests (RFC 9112, 6 and 7): where they end.

A body has a length, or comes in chunks. What else a client may mean by `Transfer-Encoding` is not taken: what two
programs read differently is how requests are smuggled past a proxy. So a chunk begins with its length in hexadecimal
digits and CR LF, extensions are passed over, and trailers are too.

    length in hexadecimal [;extension] CR LF     octets CR LF     ...     0 CR LF     [name: value CR LF] ...     CR LF
"""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Protocol

from forkbroker.child.web.requests import Request, RequestError

_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,8})[ \t]*(?:;[\t\x20-\x7e]*)?", re.ASCII)
_TRAILER = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[^\x00-\x08\x0a-\x1f\x7f]*", re.ASCII)
_MAX_LINE = 1_024
_END = b"\r\n"
_MAX_TRAILERS = 16


class Body(Protocol):
    """What is still to come of a body."""

    is_complete: bool

    @property
    def length(self) -> int | None:
        """Octets of the whole; None: that is not known before its end."""

    def receive(self, octets: bytes) -> tuple[bytes, bytes]:
        """Octets of the connection: what of them is the body's, and what is behind its end.

        Raises:
            RequestError: they are no such body.
        """


def make_body(request: Request, most: int) -> Body:
    """The body that follows this head; it may have so many octets.

    Raises:
        RequestError: it is larger, or of a form that is not taken.
    """
    length = request.body_octets
    if length is not None:
        if length > most:
            raise _too_large(most)
        return SizedBody(length)
    if request.is_old or request.headers["transfer-encoding"].lower() != "chunked":
        text = "A body comes with a Content-Length, or with Transfer-Encoding: chunked in HTTP/1.1."
        raise RequestError(HTTPStatus.NOT_IMPLEMENTED, text)
    return ChunkedBody(most)


def _too_large(most: int) -> RequestError:
    text = f"A body has at most {most:,} bytes here (max-body)."
    return RequestError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, text)


class SizedBody:
    """A body of known length."""

    def __init__(self, length: int) -> None:
        self.length = length
        self._left = length
        self.is_complete = not length

    def receive(self, octets: bytes) -> tuple[bytes, bytes]:
        """As `Body.receive`."""
        own = octets[: self._left]
        self._left -= len(own)
        self.is_complete = not self._left
        return own, octets[len(own) :]


class ChunkedBody:
    """A body in chunks."""

    length = None

    def __init__(self, most: int) -> None:
        """`most`: octets that it may have."""
        self.is_complete = False
        self._most = most
        self._room = most
        self._left = 0
        """Octets of a chunk that are still to come, with its CR LF."""
        self._line = b""
        self._is_last = False
        """Only trailers follow."""
        self._trailers = 0

    def receive(self, octets: bytes) -> tuple[bytes, bytes]:
        """As `Body.receive`."""
        data = self._line + octets
        self._line = b""
        parts: list[bytes] = []
        position = 0
        while position < len(data) and not self.is_complete:
            if self._left > len(_END):
                part = data[position : position + self._left - len(_END)]
                parts.append(part)
                position += len(part)
                self._left -= len(part)
            elif self._left:
                if data[position] != _END[-self._left]:
                    raise _broken("a chunk is longer or shorter than it says")
                position += 1
                self._left -= 1
            else:
                end = data.find(b"\n", position)
                if (end if end >= 0 else len(data)) - position > _MAX_LINE:
                    raise _broken("a line of it is too long")
                if end < 0:
                    self._line = data[position:]
                    break
                self._receive_line(data[position:end])
                position = end + 1
        else:
            return b"".join(parts), data[position:]
        return b"".join(parts), b""

    def _receive_line(self, line: bytes) -> None:
        if not line.endswith(b"\r"):
            raise _broken("a line of a body in chunks ends with CR LF")
        if self._is_last:
            self._receive_trailer(line[:-1])
        else:
            self._begin_chunk(line[:-1])

    def _begin_chunk(self, line: bytes) -> None:
        match = _CHUNK.fullmatch(line)
        if match is None:
            raise _broken("a chunk begins with its length in hexadecimal digits")
        length = int(match[1], 16)
        if length > self._room:
            raise _too_large(self._most)
        self._room -= length
        self._left = length + 2 if length else 0
        self._is_last = not length

    def _receive_trailer(self, line: bytes) -> None:
        self.is_complete = not line
        self._trailers += 1
        if line and (self._trailers > _MAX_TRAILERS or _TRAILER.fullmatch(line) is None):
            raise _broken("what follows the last chunk is no header")


def _broken(text: str) -> RequestError:
    return RequestError(HTTPStatus.BAD_REQUEST, f"The body is broken: {text}.")
