"""Plain handshakes of WebSocket, and what is none."""

from __future__ import annotations

import pytest

from forkbroker.child.web.frames import WebSocket
from forkbroker.child.web.greeting import grant
from forkbroker.child.web.requests import parse_head
from forkbroker.child.web.upgrade import Origins, upgrade

USUAL = {
    "Host": "broker.example",
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}
FIREFOX = {
    "Accept": "*/*",
    "Accept-Language": "en-US,en;q=0.5",
    "Origin": "http://broker.example",
    "Connection": "keep-alive, Upgrade",
    "Sec-WebSocket-Protocol": "v12.stomp, v11.stomp, v10.stomp",
    "Sec-WebSocket-Extensions": "permessage-deflate",
    "Cookie": "a=b; c=d",
}


def elsewhere() -> bool:
    """The client is on another machine."""
    return False


def head(path: str = "/ws", **headers: str) -> bytes:
    """With these headers in the place of the usual ones, or beside them; nothing: without it."""
    given = USUAL | {name.replace("_", "-"): value for name, value in headers.items()}
    lines = "".join(f"{name}: {value}\r\n" for name, value in given.items() if value)
    return f"GET {path} HTTP/1.1\r\n{lines}\r\n".encode()


@pytest.mark.parametrize(
    "headers",
    [
        {},
        FIREFOX,
        FIREFOX | {"Sec-Fetch-Site": "same-origin"},
        {"Sec-WebSocket-Protocol": "v11.stomp,v10.stomp"},
        {"Sec-WebSocket-Protocol": "mqtt"},
        {"Sec-WebSocket-Protocol": "v10.stomp"},
    ],
    ids=["least", "browser", "its metadata", "node", "other protocol", "old protocol"],
)
@pytest.mark.parametrize("path", ["/", "/ws", "/stomp", "/ws/websocket", "/a/b/ws"])
def test_what_is_granted_the_full_program_grants_with_the_same_words(path: str, headers: dict[str, str]) -> None:
    """But for paths that the lobby leaves to it."""
    octets = head(path, **headers)
    request = parse_head(octets)
    assert request is not None
    granted = upgrade(request, Origins(), lambda: None)
    found = grant(octets + b"\x81\x80", None, elsewhere)

    assert isinstance(granted, WebSocket)
    assert found == (None if path.endswith("websocket") else (len(octets), granted.outgoing))


@pytest.mark.parametrize(
    "octets",
    [
        head("/admin/"),
        head("/queue/ws"),
        head("/topic/a/stomp"),
        head("/any/topic/a/"),
        head("/nothing"),
        head("ws"),
        head("/ws?token=a"),
        head("/w%73"),
        head(Origin="http://evil.example"),
        head(Origin="https://broker.example"),
        head(Sec_Fetch_Site="cross-site"),
        head(Upgrade="h2c"),
        head(Upgrade=""),
        head(Connection="close"),
        head(Sec_WebSocket_Version="8"),
        head(Sec_WebSocket_Key="dGhlIHNhbXBsZSBub25jZQ="),
        head(Sec_WebSocket_Key="dGhlIHNhbXBsZSBub25jZR=="),
        head(Sec_WebSocket_Key="!GhlIHNhbXBsZSBub25jZQ=="),
        head(Host=""),
        head(Content_Length="3"),
        head(Transfer_Encoding="chunked"),
        head(Authorization="Bearer a"),
        head(Expect="100-continue"),
        head(Cookie="a=\tb"),
        head().replace(b"Host: ", b"Host:"),
        head().replace(b"\r\n\r\n", b"\r\nhost: other\r\n\r\n"),
        head().replace(b"\r\n\r\n", b"\r\n folded\r\n\r\n"),
        head().replace(b"GET", b"POST"),
        head().replace(b"HTTP/1.1", b"HTTP/1.0"),
        head()[:-1],
        b"",
    ],
)
def test_all_else_is_for_the_full_program(octets: bytes) -> None:
    """Which has an answer to everything."""
    assert grant(octets, None, elsewhere) is None


def test_the_paths_may_be_others() -> None:
    """Those of the option, and no prefix then."""
    assert grant(head("/chat"), {b"/chat"}, elsewhere) is not None
    assert grant(head("/ws"), {b"/chat"}, elsewhere) is None
    assert grant(head("/queue/chat"), {b"/queue/chat"}, elsewhere) is None


@pytest.mark.parametrize(
    ("host", "is_granted"), [("localhost:1", True), ("box", True), ("127.0.0.1:1", True), ("evil.example", False)]
)
def test_a_page_on_this_machine_is_looked_at_where_its_name_may_be_somebody_elses(host: str, is_granted: bool) -> None:
    """By the full program; what is no page says no origin."""
    assert (grant(head(Host=host, Origin=f"http://{host}"), None, lambda: True) is not None) is is_granted
    assert grant(head(Host=host), None, lambda: True) is not None
