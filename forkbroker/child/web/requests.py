"""Heads of HTTP requests, and whole answers (RFC 9112), as rules: no socket, no clock but for the `Date` of an answer.

    METHOD SP target SP HTTP/1.1 CR LF     name: value CR LF ...     CR LF

What a head may have is narrow on purpose: what two programs read differently is how requests are smuggled past a proxy.
A line may not be folded, a name has no blank before its colon, a head has one Host and at most one Content-Length, and
none together with Transfer-Encoding.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from email.utils import formatdate
from http import HTTPStatus
from urllib.parse import parse_qsl, unquote

MAX_HEAD = 32_768
"""Octets of a head. nginx takes 32 KiB as well, Apache 8 KiB a line; cookies of one site may have some kilobytes."""
_MAX_HEADERS = 128
_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+) (/[\x21-\x7e]*|\*) HTTP/1\.([01])", re.ASCII)
_HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*?)[ \t]*", re.ASCII)
_SINGLE = frozenset(("host", "content-length", "origin", "authorization", "sec-websocket-key"))
"""Headers that a request has once: two would be two answers to one question."""
_NUMBER = re.compile(r"[0-9]{1,15}", re.ASCII)


_PASSED_ON = frozenset(("forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-real-ip"))
"""Headers of requests that have come through a proxy."""


class RequestError(ValueError):
    """It is no request that is taken; the text is for the client."""

    def __init__(self, status: HTTPStatus, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


@dataclass(frozen=True, slots=True)
class Request:
    """The head of a request."""

    method: str
    path: str
    """The path of the target, its percent signs decoded."""
    query: str
    """What is behind the `?`, as it came."""
    headers: Mapping[str, str]
    """By names in lower case; several of one name are one, joined as RFC 9110, 5.3 has it."""
    octets: bytes = field(repr=False)
    """The head as it came, with its empty line."""
    is_tls: bool = False
    """It came over TLS that ends here."""

    @property
    def body_octets(self) -> int | None:
        """How many octets of a body follow; None: that is not known before it ends (Transfer-Encoding)."""
        return None if "transfer-encoding" in self.headers else int(self.headers.get("content-length", "0"))

    @property
    def is_old(self) -> bool:
        """It is one of HTTP/1.0."""
        return self.octets.partition(b"\r\n")[0].endswith(b"/1.0")

    @property
    def stays(self) -> bool:
        """Whether another request may come on the same connection."""
        wishes = {wish.strip().lower() for wish in self.headers.get("connection", "").split(",")}
        return "close" not in wishes and (not self.is_old or "keep-alive" in wishes)

    @property
    def is_passed_on(self) -> bool:
        """Whether it has come through a proxy that says so."""
        return not _PASSED_ON.isdisjoint(self.headers)

    def find_cookie(self, name: str) -> str:
        """The value of this cookie (RFC 6265, 5.4); nothing: there is none."""
        for pair in self.headers.get("cookie", "").split(";"):
            found, equals, value = pair.strip().partition("=")
            if equals and found == name:
                return value.strip('"')
        return ""

    def find_parameter(self, name: str) -> str:
        """The first value that the query has for this name; nothing: it has none."""
        return next((value for found, value in parse_qsl(self.query) if found == name), "")

    @property
    def bearer(self) -> str:
        """The token of an `Authorization` header (RFC 6750, 2.1); nothing: there is none."""
        scheme, _, token = self.headers.get("authorization", "").partition(" ")
        return token.strip() if scheme.lower() == "bearer" else ""


def parse_head(octets: bytes, *, is_tls: bool = False) -> Request | None:
    """Read the head of a request, which ends with its empty line; None: it is not complete.

    Raises:
        RequestError: it is none, or one that is not taken.
    """
    end = octets.find(b"\r\n\r\n", 0, MAX_HEAD)
    if end < 0:
        if len(octets) >= MAX_HEAD:
            text = f"the head of a request has at most {MAX_HEAD:,} bytes here; are there many cookies?"
            raise RequestError(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, text)
        _look_early(octets)
        return None
    first, *lines = octets[:end].split(b"\r\n")
    match = _LINE.fullmatch(first)
    if match is None:
        raise RequestError(HTTPStatus.BAD_REQUEST, "this is no request of HTTP/1.1 with a path")
    if b"%00" in match[2]:
        raise RequestError(HTTPStatus.BAD_REQUEST, "nothing in a path or a query is a NUL")
    target, _, query = match[2].decode().partition("?")
    headers = _parse_headers(lines)
    if match[3] == b"1" and "host" not in headers:
        raise RequestError(HTTPStatus.BAD_REQUEST, "a request of HTTP/1.1 has a Host header")
    return Request(match[1].decode(), unquote(target), query, headers, octets[: end + 4], is_tls)


def _look_early(octets: bytes) -> None:
    """Refuse what will never be a request. A STOMP client that was given the wrong port need not wait for its end."""
    if octets[:8].upper() in (b"CONNECT\n", b"CONNECT\r") or octets[:6] in (b"STOMP\n", b"STOMP\r"):
        text = "STOMP is spoken within WebSocket here, and by itself on another port"
        raise RequestError(HTTPStatus.BAD_REQUEST, text)
    if octets[:2] == b"\x16\x03":
        raise RequestError(HTTPStatus.BAD_REQUEST, "this port has no TLS; use ws:// and http://")


def _parse_headers(lines: Sequence[bytes]) -> dict[str, str]:
    if len(lines) > _MAX_HEADERS:
        text = f"a request has at most {_MAX_HEADERS} headers here"
        raise RequestError(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, text)
    headers: dict[str, str] = {}
    for line in lines:
        match = _HEADER.fullmatch(line)
        if match is None:
            raise RequestError(HTTPStatus.BAD_REQUEST, "a header line is not name: value")
        name, value = match[1].decode().lower(), match[2].decode("latin-1")
        if name not in headers:
            headers[name] = value
        elif name in _SINGLE:
            raise RequestError(HTTPStatus.BAD_REQUEST, f"the header {name} may be there once")
        else:
            headers[name] += f"{'; ' if name == 'cookie' else ', '}{value}"
    length = headers.get("content-length")
    if length is not None and ("transfer-encoding" in headers or _NUMBER.fullmatch(length) is None):
        raise RequestError(HTTPStatus.BAD_REQUEST, "it is not clear where the body of the request ends")
    return headers


@dataclass(frozen=True, slots=True)
class Response:
    """A whole answer. That of `NOT_MODIFIED` goes without its body, whose length it tells (RFC 9110, 8.6)."""

    status: HTTPStatus
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    note: str = ""
    """What the log is to say about the request; nothing: it is no event."""

    def encode(self, *, stays: bool, has_body: bool = True) -> bytes:
        """The octets. `stays`: the connection stays open. `has_body`: False for the answer to HEAD."""
        lines = [
            f"HTTP/1.1 {self.status.value} {self.status.phrase}",
            f"Date: {formatdate(usegmt=True)}",
            *(f"{name}: {value}" for name, value in self.headers),
            *([] if self.status is HTTPStatus.NO_CONTENT else [f"Content-Length: {len(self.body)}"]),
            f"Connection: {'keep-alive' if stays else 'close'}",
        ]
        return "\r\n".join((*lines, "", "")).encode("latin-1") + self.body * (
            has_body and self.status is not HTTPStatus.NOT_MODIFIED
        )


ALIVE = "ok"
"""What a probe is told that asks whether the broker is there."""


def say(status: HTTPStatus, text: str, *headers: tuple[str, str], note: str = "") -> Response:
    """An answer of one sentence for people."""
    usual = (("Content-Type", "text/plain; charset=utf-8"), ("Cache-Control", "no-store"))
    return Response(status, f"{text}\n".encode(), (*usual, *headers), note)


_PROBE = re.compile(rb"(?:PROXY [^\r\n]{1,100}\r\n)?(GET|HEAD) /(?:[^ ?#]*/)?healthz(?:\?[^ ]*)? HTTP/1\.[01]\r?\n")


def refuse(reason: str, heard: bytes) -> bytes:
    """The answer for a client that gets no process, of whose request so much has come.

    It is one for all requests but that which asks whether a broker is there at all: who starts a broker again that is
    not, must not do that because it is full, or as it is being drained.
    """
    probe = _PROBE.match(heard)
    if probe is not None:
        return say(HTTPStatus.OK, ALIVE).encode(stays=False, has_body=probe[1] != b"HEAD")
    return say(HTTPStatus.SERVICE_UNAVAILABLE, reason, ("Retry-After", "5")).encode(stays=False)
