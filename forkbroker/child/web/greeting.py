"""Plain handshakes of WebSocket, and plain requests for events: those that the lobby may answer, and what with.

It is what browsers and libraries send. Whatever is not found here, the full program looks at, which is
`forkbroker.child.web.requests`, `forkbroker.child.web.upgrade` and `forkbroker.child.web.plain`: a request that is
granted here, these grant with the same words. No pattern is searched for, no object is large, and few kinds of
operations are used: each page that is written to, if only for a count of references, is memory of each client.
"""

from __future__ import annotations

from binascii import b2a_base64
from collections.abc import Callable, Container

from forkbroker.digests import sha1

MOST = 2_048
"""Octets of a plain handshake. Those of browsers have 400 to 600, and their cookies."""
GRANTED = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
SUBPROTOCOLS = ("v12.stomp", "v11.stomp", "v10.stomp")
"""Those that are spoken, the best first."""
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_CONNECTIONS = frozenset((b"upgrade", b"keep-alive, upgrade"))
_PLAIN = bytes(range(0x20, 0x7F))
_PLAIN_NAME = b"abcdefghijklmnopqrstuvwxyz0123456789-"
_PLAIN_PATH = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~/"
_BASE64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_SUBPROTOCOLS = tuple(name.encode() for name in SUBPROTOCOLS)
_ENDS = frozenset((b"", b"ws", b"stomp"))
_TOPIC, _EVENTS = b"/topic/", b"text/event-stream"
_EVENTS_OWN = frozenset(
    (b"authorization", b"content-length", b"expect", b"last-event-id", b"origin", b"transfer-encoding", b"upgrade")
)
"""What a request for events has to be looked at for."""
PlainRequest = tuple[int, bytes, dict[bytes, bytes]]
"""How many octets it has; its path, without a query; its headers, by their names in lower case."""
_OTHERS = frozenset((b"admin", b"queue", b"topic"))
"""Below these, a path may be one of the page's, or name a destination."""


def read(octets: bytes) -> PlainRequest | None:
    """A plain GET; None: this is something else, or has not come whole."""
    head, end, _ = octets.partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    words = lines.pop(0).split(b" ")
    if not end or len(words) != 3 or words[0] != b"GET" or words[2] != b"HTTP/1.1":
        return None
    if words[1].translate(None, _PLAIN_PATH):
        return None
    headers: dict[bytes, bytes] = {}
    for line in lines:
        name, colon, value = line.partition(b": ")
        name = name.lower()
        if not colon or name in headers or name.translate(None, _PLAIN_NAME) or value.translate(None, _PLAIN):
            return None
        headers[name] = value
    return len(head) + 4, words[1], headers


def grant(request: PlainRequest, paths: Container[bytes] | None, is_here: Callable[[], bool]) -> bytes | None:
    """What a request for a WebSocket is answered with; None: the full program has to answer.

    `paths`: those of WebSockets; None: the usual ones. `is_here` tells whether the client is on this machine.
    """
    _, path, headers = request
    places = path.split(b"/")
    if not _OTHERS.isdisjoint(places):
        return None
    if paths is None:
        if len(places) < 2 or places[0] or places[-1] not in _ENDS:
            return None
    elif path not in paths:
        return None
    if b"origin" in headers and _is_led(headers.get(b"host", b"")) and is_here():
        return None
    return _answer(headers)


def find_events(request: PlainRequest, is_here: Callable[[], bool]) -> tuple[bytes, bytes] | None:
    """The host and the topic of a request for events; None: the full program has to answer. `is_here`: as above."""
    _, path, headers = request
    if not path.startswith(_TOPIC) or headers.get(b"accept", b"") != _EVENTS or not _EVENTS_OWN.isdisjoint(headers):
        return None
    given = headers.get(b"host", b"")
    name, colon, port = given.rpartition(b":")
    host = name if colon and port.isdigit() else given
    if b"sec-fetch-site" in headers and (
        headers[b"sec-fetch-site"] != b"same-origin" or (_is_led(given) and is_here())
    ):
        return None
    return (host, path) if host else None


def _is_led(host: bytes) -> bool:
    """Whether this may be a name of somebody else that is led here (`Origins`)."""
    return b"." in host and bool(host.translate(None, b"0123456789.:"))


def _answer(headers: dict[bytes, bytes]) -> bytes | None:
    find = headers.get
    # what these mean is for the full program
    if find(b"content-length") or find(b"transfer-encoding") or find(b"authorization") or find(b"expect"):
        return None
    host, key = find(b"host"), find(b"sec-websocket-key", b"")
    if not host or find(b"origin", b"http://" + host) != b"http://" + host:
        return None
    if find(b"sec-fetch-site") and not find(b"origin"):
        # which site a request is of that a browser has made for a page is for `Origins`
        return None
    if find(b"upgrade", b"").lower() != b"websocket" or find(b"connection", b"").lower() not in _CONNECTIONS:
        return None
    if find(b"sec-websocket-version") != b"13" or len(key) != 24 or key[22:] != b"==":
        return None
    if key[:22].translate(None, _BASE64) or key[21] not in b"AQgw":
        return None
    return make_answer(key, find(b"sec-websocket-protocol", b"").translate(None, b" ").split(b","))


def make_answer(key: bytes, offered: list[bytes]) -> bytes:
    """What grants a WebSocket (RFC 6455, 4.2.2): for this key, and the best of the sub-protocols that are offered."""
    accept = b2a_base64(sha1(key + _GUID).digest(), newline=False)
    for name in _SUBPROTOCOLS:
        if name in offered:
            return b"%bSec-WebSocket-Accept: %b\r\nSec-WebSocket-Protocol: %b\r\n\r\n" % (GRANTED, accept, name)
    return b"%bSec-WebSocket-Accept: %b\r\n\r\n" % (GRANTED, accept)
