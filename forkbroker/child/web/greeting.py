"""Plain handshakes of WebSocket: those that the lobby may answer, and what with.

It is what browsers and libraries send. Whatever is not found here, the full program looks at, which is
`forkbroker.child.web.requests` and `forkbroker.child.web.upgrade`: a request that is granted here, these grant with the
same words. No pattern is searched for, no object is large, and few kinds of operations are used: each page that is
written to, if only for a count of references, is memory of each client.
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
_OTHERS = frozenset((b"admin", b"queue", b"topic"))
"""Below these, a path may be one of the page's, or name a destination."""


def grant(octets: bytes, paths: Container[bytes] | None, is_here: Callable[[], bool]) -> tuple[int, bytes] | None:
    """How many octets the request has, and the answer to it; None: the full program has to answer.

    `paths`: those of WebSockets; None: the usual ones. `is_here` tells whether the client is on this machine.
    """
    head, end, _ = octets.partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    words = lines.pop(0).split(b" ")
    if not end or len(words) != 3 or words[0] != b"GET" or words[2] != b"HTTP/1.1":
        return None
    if not _is_here(words[1], paths):
        return None
    headers = {}
    for line in lines:
        name, colon, value = line.partition(b": ")
        name = name.lower()
        if not colon or name in headers or name.translate(None, _PLAIN_NAME) or value.translate(None, _PLAIN):
            return None
        headers[name] = value
    host = headers.get(b"host", b"")
    if b"origin" in headers and b"." in host and host.translate(None, b"0123456789.:") and is_here():
        # it may be a name of somebody else that is led here (`Origins`)
        return None
    answer = _answer(headers)
    return None if answer is None else (len(head) + 4, answer)


def _is_here(path: bytes, paths: Container[bytes] | None) -> bool:
    """Whether WebSockets are at this path, and nothing else can be."""
    places = path.split(b"/")
    if path.translate(None, _PLAIN_PATH) or not _OTHERS.isdisjoint(places):
        return False
    if paths is not None:
        return path in paths
    return len(places) > 1 and not places[0] and places[-1] in _ENDS


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
