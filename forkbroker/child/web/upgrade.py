"""The handshake of WebSocket (RFC 6455, 4.2): who may have a connection, and on which terms.

- The best of the sub-protocols that the client offers is echoed; one that offers none gets none, and one that offers
  others only gets none as well: a browser ends the connection then.
- A page may connect from its own origin, and from those of the option. So a page of somebody else cannot use a
  visitor's cookies here. What is no browser sends no Origin.
- On this machine, where clients have rights without a login, a page's own origin is not enough: the name server of
  somebody else may lead a name to 127.0.0.1 (DNS rebinding). A page there has an address, or a name without a dot.
- A handshake that has not the usual form is judged by `websockets`.
- Extensions are none: compression costs a window of memory for each client.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import urlsplit

from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from forkbroker.child.web.frames import WebSocket
from forkbroker.child.web.greeting import SUBPROTOCOLS, make_answer
from forkbroker.child.web.requests import Request, Response, say

_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}
_SILENT = logging.Logger("websockets", logging.CRITICAL + 1)
"""What the library would log is no event of the broker's."""
_KEY = re.compile(r"[A-Za-z0-9+/]{21}[AQgw]==", re.ASCII)
"""16 octets in base64."""
ANY_ORIGIN = "*"
_KEPT = frozenset(("upgrade", "sec-websocket-version", "allow"))
"""Headers of a refusal by `websockets` that mean something beside its text."""


@dataclass(frozen=True, slots=True)
class Origins:
    """Which pages may connect."""

    others: tuple[str, ...] = ()
    """Origins beside that of the listener; `*`: all."""
    is_here: bool = False
    """The client is on this machine."""

    def permit(self, request: Request) -> bool:
        """Whether a page of this request's origin may connect."""
        origin = request.headers.get("origin")
        if ANY_ORIGIN in self.others:
            return True
        host = request.headers.get("host", "")
        if origin is None:
            # a browser that follows a link, or fetches a picture, for a page of another site (Fetch Metadata)
            fetched = request.headers.get("sec-fetch-site", "none")
            if fetched != "same-origin":
                return fetched == "none"
            # a GET of a page to its own origin, whose name may be somebody else's
            origin = f"http://{host}"
        if origin.lower() in self.others:
            return True
        scheme, _, _ = origin.partition("://")
        site = _site_of(origin)
        if site is None or site != _site_of(f"{scheme}://{host}"):
            return False
        return not self.is_here or request.is_passed_on or _is_nobody_elses(site[0])

    def names(self, origin: str) -> bool:
        """Whether the administrator has named this origin, and not only all."""
        return origin.lower() in self.others


def _site_of(url: str) -> tuple[str, int | None] | None:
    """Host and port; None: it has none, as the `null` of a page from a file."""
    try:
        parts = urlsplit(url)
        port = parts.port or _PORTS.get(parts.scheme)
    except ValueError:
        return None
    return (parts.hostname, port) if parts.hostname else None


def _is_nobody_elses(host: str) -> bool:
    """Whether no name server of somebody else can say which machine this host is."""
    return "." not in host or host.endswith(".localhost") or host.replace(".", "").isdecimal()


def is_upgrade(request: Request) -> bool:
    """Whether a request asks for a WebSocket."""
    return "websocket" in request.headers.get("upgrade", "").lower()


def _select(_: ServerProtocol, offered: Sequence[Subprotocol]) -> Subprotocol | None:
    return next((Subprotocol(name) for name in SUBPROTOCOLS if name in offered), None)


def upgrade(request: Request, origins: Origins, heard: Callable[[], None]) -> Response | WebSocket:
    """Grant a WebSocket, whose `outgoing` begins with the answer; or say why not.

    `heard`: see `WebSocket`.
    """
    if not is_upgrade(request):
        text = "STOMP is spoken here over WebSocket: connect with ws:// or wss:// in the place of http:// or https://."
        return say(HTTPStatus.UPGRADE_REQUIRED, text, ("Upgrade", "websocket"))
    if not origins.permit(request):
        origin, host = request.headers.get("origin", "another site"), request.headers.get("host", "")
        text = f"Pages of {origin} may not connect to {host} (option web-origin)."
        note = f"refused a page of {origin[:80]}, as it is not of {host[:80]} (web-origin)"
        return say(HTTPStatus.FORBIDDEN, text, note=note)
    if not _is_usual(request):
        refusal = _judge(request)
        if refusal is not None:
            return refusal
    # with the words of the lobby
    conversation = WebSocket(heard)
    offered = request.headers.get("sec-websocket-protocol", "").replace(" ", "").split(",")
    key = request.headers["sec-websocket-key"]
    conversation.outgoing = make_answer(key.encode(), [name.encode() for name in offered])
    return conversation


def _is_usual(request: Request) -> bool:
    """Whether a handshake is right, and in the form of nearly all clients. To have it judged costs a tab 0.4 MiB."""
    find = request.headers.get
    connection = find("connection", "").lower().split(",")
    return (
        request.method == "GET"
        and not request.is_old
        and find("upgrade", "").lower() == "websocket"
        and any(option.strip() == "upgrade" for option in connection)
        and find("sec-websocket-version") == "13"
        and _KEY.fullmatch(find("sec-websocket-key", "")) is not None
        and "content-length" not in request.headers
        and "transfer-encoding" not in request.headers
    )


def _judge(request: Request) -> Response | None:
    """What the library has against a handshake; None: nothing."""
    protocol = ServerProtocol(
        subprotocols=list(map(Subprotocol, SUBPROTOCOLS)), select_subprotocol=_select, logger=_SILENT
    )
    protocol.receive_data(request.octets)
    requests = protocol.events_received()
    if not requests:
        return say(HTTPStatus.BAD_REQUEST, f"This is no handshake of WebSocket: {protocol.handshake_exc}.")
    answer = protocol.accept(requests[0])  # type: ignore[arg-type]
    if answer.status_code != HTTPStatus.SWITCHING_PROTOCOLS:
        text = (answer.body or b"").decode(errors="replace").strip()
        kept = [pair for pair in answer.headers.raw_items() if pair[0].lower() in _KEPT]
        return say(HTTPStatus(answer.status_code), text, *kept)
    return None
