"""The handshake."""

from __future__ import annotations

import pytest

from forkbroker.child.web.frames import WebSocket
from forkbroker.child.web.requests import Response, parse_head
from forkbroker.child.web.upgrade import Origins, _is_usual, _judge, upgrade

USUAL = {
    "Host": "broker.example",
    "Upgrade": "websocket",
    "Connection": "keep-alive, Upgrade",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version": "13",
}


def ask(origins: Origins | None = None, **headers: str) -> Response | WebSocket:
    """With these headers beside the usual ones, or in their place; nothing: without it."""
    given = USUAL | {name.replace("_", "-"): value for name, value in headers.items()}
    lines = "".join(f"{name}: {value}\r\n" for name, value in given.items() if value)
    request = parse_head(f"GET /ws HTTP/1.1\r\n{lines}\r\n".encode())
    assert request is not None
    return upgrade(request, origins or Origins(), lambda: None)


def answer_of(granted: Response | WebSocket) -> str:
    assert isinstance(granted, WebSocket), granted
    return granted.outgoing.decode()


def test_the_answer_is_the_one_of_the_rfc() -> None:
    """RFC 6455, 1.3: its sample key."""
    answer = answer_of(ask())

    assert answer.startswith("HTTP/1.1 101 ")
    assert "\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" in answer
    assert answer.endswith("\r\n\r\n")


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        ("v10.stomp, v11.stomp, v12.stomp", "v12.stomp"),
        ("v11.stomp,v10.stomp", "v11.stomp"),
        ("mqtt, v10.stomp", "v10.stomp"),
        ("mqtt", None),
        ("", None),
    ],
)
def test_the_best_sub_protocol_is_echoed(offered: str, chosen: str | None) -> None:
    """And none if none fits: a browser takes none that it has not offered."""
    answer = answer_of(ask(Sec_WebSocket_Protocol=offered))

    assert (f"Sec-WebSocket-Protocol: {chosen}\r\n" in answer) is (chosen is not None)
    assert ("Sec-WebSocket-Protocol" in answer) is (chosen is not None)


def test_there_are_no_extensions() -> None:
    """Compression is offered by all browsers."""
    assert "Extensions" not in answer_of(ask(Sec_WebSocket_Extensions="permessage-deflate; client_max_window_bits"))


@pytest.mark.parametrize(
    ("origin", "host", "others", "is_permitted"),
    [
        ("https://broker.example", "broker.example", (), True),
        ("https://broker.example", "broker.example:443", (), True),
        ("http://broker.example:80", "broker.example", (), True),
        ("http://Broker.Example:8080", "broker.example:8080", (), True),
        ("http://[::1]:80", "[::1]", (), True),
        ("", "broker.example", (), True),
        ("https://evil.example", "broker.example", (), False),
        ("http://broker.example:8080", "broker.example", (), False),
        ("http://broker.example.evil.example", "broker.example", (), False),
        ("null", "broker.example", (), False),
        ("null", "null", (), False),
        ("http://[", "broker.example", (), False),
        ("http://broker.example:port", "broker.example:port", (), False),
        ("null", "broker.example", ("null",), True),
        ("https://shop.example", "broker.example", ("https://shop.example",), True),
        ("https://shop.example", "broker.example", ("https://other.example",), False),
        ("https://evil.example", "broker.example", ("*",), True),
    ],
)
def test_a_page_connects_to_where_it_is_from(
    origin: str, host: str, others: tuple[str, ...], is_permitted: bool
) -> None:
    """Or to where the administrator says that it may."""
    granted = ask(Origins(others), Origin=origin, Host=host)

    assert isinstance(granted, WebSocket) is is_permitted
    if isinstance(granted, Response):
        assert granted.status == 403
        assert granted.note
        assert origin.encode() in granted.body


@pytest.mark.parametrize(
    ("headers", "status", "text"),
    [
        ({"Upgrade": ""}, 426, "connect with ws://"),
        ({"Upgrade": "h2c"}, 426, "connect with ws://"),
        ({"Connection": "keep-alive"}, 426, "Connection"),
        ({"Sec_WebSocket_Version": "8"}, 400, "Version"),
        ({"Sec_WebSocket_Key": "abc"}, 400, "Key"),
        ({"Sec_WebSocket_Key": ""}, 400, "Key"),
    ],
)
def test_what_is_no_handshake_is_told(headers: dict[str, str], status: int, text: str) -> None:
    """In a sentence."""
    refused = ask(**headers)

    assert isinstance(refused, Response)
    assert refused.status == status
    assert text in refused.body.decode()
    if status == 426:
        assert ("Upgrade", "websocket") in refused.headers


@pytest.mark.parametrize(
    ("host", "more", "is_permitted"),
    [
        ("localhost:15674", {}, True),
        ("shop.localhost", {}, True),
        ("127.0.0.1:15674", {}, True),
        ("[::1]:15674", {}, True),
        ("workstation", {}, True),
        ("rebound.evil.example:15674", {}, False),
        ("127.0.0.1.evil.example", {}, False),
        ("www.shop.example", {"X_Forwarded_For": "10.0.0.1"}, True),
    ],
)
def test_a_name_of_somebody_else_does_not_lead_to_this_machine(
    host: str, more: dict[str, str], is_permitted: bool
) -> None:
    """Where clients may have all rights without a login: only what no other name server can say, or a proxy."""
    granted = ask(Origins(is_here=True), Origin=f"http://{host}", Host=host, **more)

    assert isinstance(granted, WebSocket) is is_permitted
    assert isinstance(ask(Origins((f"http://{host}",), is_here=True), Origin=f"http://{host}", Host=host), WebSocket)


@pytest.mark.parametrize(
    ("site", "is_permitted"), [("none", True), ("same-origin", True), ("same-site", False), ("cross-site", False)]
)
def test_a_browser_without_an_origin_says_for_which_site_it_asks(site: str, is_permitted: bool) -> None:
    """A picture or a link of another page would else take a message."""
    assert isinstance(ask(Sec_Fetch_Site=site), WebSocket) is is_permitted
    assert isinstance(ask(Origins(("*",)), Sec_Fetch_Site=site), WebSocket)


@pytest.mark.parametrize(("host", "is_permitted"), [("localhost", True), ("rebound.evil.example", False)])
def test_a_get_of_a_page_to_its_own_origin_has_no_origin(host: str, is_permitted: bool) -> None:
    """It is a page's all the same, which may be somebody else's."""
    granted = ask(Origins(is_here=True), Host=host, Sec_Fetch_Site="same-origin")

    assert isinstance(granted, WebSocket) is is_permitted
    assert isinstance(ask(Origins(), Host=host, Sec_Fetch_Site="same-origin"), WebSocket)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Connection": "Upgrade"},
        {"Connection": "Upgrade, keep-alive"},
        {"Upgrade": "WebSocket"},
        {"Sec_WebSocket_Key": "////////////////////++=="[:22] + "=="},
        {"Sec_WebSocket_Key": "dGhlIHNhbXBsZSBub25jZR=="},
        {"Sec_WebSocket_Version": "8"},
        {"Upgrade": "h2c, websocket"},
        {"Connection": "close"},
        {"Content_Length": "0"},
    ],
)
def test_the_library_has_nothing_against_what_is_usual(headers: dict[str, str]) -> None:
    """So it need not be asked."""
    given = USUAL | {name.replace("_", "-"): value for name, value in headers.items()}
    lines = "".join(f"{name}: {value}\r\n" for name, value in given.items())
    request = parse_head(f"GET /ws HTTP/1.1\r\n{lines}\r\n".encode())
    assert request is not None

    assert not _is_usual(request) or _judge(request) is None
