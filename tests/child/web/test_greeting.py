"""Plain handshakes of WebSocket, and what is none."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from forkbroker.child.web.errands import make_watch_frames, open_events
from forkbroker.child.web.frames import WebSocket
from forkbroker.child.web.greeting import find_events, grant, read
from forkbroker.child.web.requests import Response, parse_head
from forkbroker.child.web.site import SitePolicy, make_router
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


def find(octets: bytes, paths: set[bytes] | None = None, is_here: Callable[[], bool] = elsewhere) -> bytes | None:
    """What the lobby answers to this, if anything."""
    request = read(octets)
    return None if request is None else grant(request, paths, is_here)


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
    found = read(octets + b"\x81\x80")

    assert isinstance(granted, WebSocket)
    assert found is not None
    assert found[0] == len(octets)
    assert grant(found, None, elsewhere) == (None if path.endswith("websocket") else granted.outgoing)


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
    assert find(octets) is None


def test_the_paths_may_be_others() -> None:
    """Those of the option, and no prefix then."""
    assert find(head("/chat"), {b"/chat"}) is not None
    assert find(head("/ws"), {b"/chat"}) is None
    assert find(head("/queue/chat"), {b"/queue/chat"}) is None


@pytest.mark.parametrize(
    ("host", "is_granted"), [("localhost:1", True), ("box", True), ("127.0.0.1:1", True), ("evil.example", False)]
)
def test_a_page_on_this_machine_is_looked_at_where_its_name_may_be_somebody_elses(host: str, is_granted: bool) -> None:
    """By the full program; what is no page says no origin."""
    assert (find(head(Host=host, Origin=f"http://{host}"), is_here=lambda: True) is not None) is is_granted
    assert find(head(Host=host), is_here=lambda: True) is not None


def ask(path: str = "/topic/a.b-c", **headers: str) -> bytes:
    """A request for events."""
    given = {"Host": "broker.example:15674", "Accept": "text/event-stream"}
    given |= {name.replace("_", "-"): value for name, value in headers.items()}
    lines = "".join(f"{name}: {value}\r\n" for name, value in given.items() if value)
    return f"GET {path} HTTP/1.1\r\n{lines}\r\n".encode()


def find_watched(octets: bytes, *, is_here: bool = False) -> tuple[bytes, bytes] | None:
    """The host and the topic that the lobby finds, if it does."""
    request = read(octets)
    return None if request is None else find_events(request, lambda: is_here)


@pytest.mark.parametrize("is_here", [False, True])
@pytest.mark.parametrize(
    "octets",
    [
        ask(),
        ask("/topic/" + "a" * 99),
        ask(Host="box"),
        ask(Host="127.0.0.1:15674", Sec_Fetch_Site="same-origin"),
        ask(
            Host="localhost", Sec_Fetch_Site="same-origin", Cookie="a=b", Cache_Control="no-cache", Referer="http://a/"
        ),
        ask(Connection="keep-alive", User_Agent="curl/8"),
    ],
)
def test_events_that_are_granted_the_full_program_grants_with_the_same_frames(octets: bytes, is_here: bool) -> None:
    """And what it says then is what the lobby says."""
    request = parse_head(octets)
    assert request is not None
    begun = make_router(SitePolicy(), lambda: None, lambda _s, _f: None, is_here=is_here).answer(request)
    found = find_watched(octets, is_here=is_here)
    assert found is not None
    assert not isinstance(begun, Response)
    frames = begun.receive(b"")
    assert frames.replace(b"\0\n", b"\0") == b"".join(make_watch_frames(*found))
    said, _ = begun.send([b"RECEIPT\nreceipt-id:done\n\n\0\n"])
    assert bytes(said) == open_events()


@pytest.mark.parametrize(
    "octets",
    [
        ask("/topic"),
        ask("/queue/a"),
        ask("/any/topic/a"),
        ask("/topic/a?durable=b"),
        ask("/topic/%61"),
        ask("/topic/>"),
        ask(Accept=""),
        ask(Accept="*/*"),
        ask(Accept="text/event-stream, text/html"),
        ask(Host=""),
        ask(Origin="http://broker.example:15674"),
        ask(Sec_Fetch_Site="same-site"),
        ask(Sec_Fetch_Site="cross-site"),
        ask(Authorization="Basic YTpi"),
        ask(Last_Event_ID="a"),
        ask(Content_Length="1"),
        ask(Transfer_Encoding="chunked"),
        ask(Expect="100-continue"),
        ask(Upgrade="websocket"),
        ask().replace(b"GET", b"HEAD"),
        ask()[:-1],
    ],
)
def test_other_requests_for_events_are_for_the_full_program(octets: bytes) -> None:
    """Which has an answer to all of them."""
    assert find_watched(octets) is None


@pytest.mark.parametrize("is_here", [False, True])
def test_events_for_a_page_are_looked_at_where_its_name_may_be_somebody_elses(is_here: bool) -> None:
    """As with WebSockets."""
    assert (find_watched(ask(Sec_Fetch_Site="same-origin"), is_here=is_here) is None) is is_here
