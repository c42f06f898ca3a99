"""What a listener for HTTP has, and how it serves a client.

`make_router` is the table of its routes. `serve` is the program of a spare whose client speaks HTTP.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus

from forkbroker.child import proxied
from forkbroker.child.child import ClientChild, Shared
from forkbroker.child.lobby import Bell, serve_in_full
from forkbroker.child.spare import Spare
from forkbroker.child.transport import Transport
from forkbroker.child.web.requests import Request, Response, say
from forkbroker.child.web.router import Conversation, Route, Router
from forkbroker.child.web.transport import WebTransport
from forkbroker.child.web.upgrade import Origins, upgrade
from forkbroker.posix import collector
from forkbroker.session.setup import Habits

PING_S = 25.0
"""Between two pings. Proxies cut what is silent for 60 s: nginx, Apache, HAProxy's examples, most cloud balancers."""
PATIENCE_S = 75.0
"""A browser lets the timers of a tab in the background run once a minute, and its heart-beats are such timers."""
FAILED_S = 2.0
"""From a failed login to the answer. Pages connect again every five seconds, for ever."""
HABITS = Habits(patience_s=PATIENCE_S, failed_s=FAILED_S)
_USUAL_PATHS = r".*/(?:ws|stomp|ws/websocket)?"
_SOCKJS_PATHS = r".*/info"
_SOCKJS = "SockJS is not spoken here; use WebSocket: new StompJs.Client({brokerURL: 'ws://…/ws'})"


@dataclass(frozen=True, slots=True)
class SitePolicy:
    """What the administrator has said about listeners for HTTP."""

    paths: tuple[str, ...] = ()
    """Paths of WebSockets; none: the usual ones, below any prefix."""
    origins: Origins = field(default_factory=Origins)


def make_router(policy: SitePolicy, heard: Callable[[], None]) -> Router:
    """All that is to be had. `heard`: the client has shown that it is there."""

    def begin_websocket(request: Request, _: re.Match[str]) -> Response | Conversation:
        return upgrade(request, policy.origins, heard)

    def answer_sockjs(_: Request, __: re.Match[str]) -> Response:
        return say(HTTPStatus.NOT_FOUND, _SOCKJS, note=f"a request of SockJS; {_SOCKJS}")

    paths = "|".join(map(re.escape, policy.paths)) or _USUAL_PATHS
    routes = [
        Route("GET", re.compile(paths), begin_websocket),
        Route("GET", re.compile(_SOCKJS_PATHS), answer_sockjs),
    ]
    named = ", ".join(policy.paths) or "/, /ws, /stomp and /ws/websocket, below any prefix"
    return Router(routes, f"STOMP over WebSocket is at {named}.")


def serve(
    spare: Spare,
    address: str,
    peer: int,
    shared: Shared,
    bell: Bell,
    *,
    policy: SitePolicy,
    make: Callable[[socket.socket], Transport],
    is_tls: bool = False,
    is_proxied: bool = False,
) -> int:
    """Serve the client of a spare until it is gone; returns the exit status of the process.

    `make` makes the transport of the octets of HTTP. `is_proxied`: a proxy says first whose connection it is.
    """
    children: list[ClientChild] = []
    transports: list[WebTransport] = []

    def heard() -> None:
        children[0].heard()

    router = make_router(policy, heard)

    def make_web(connection: socket.socket) -> Transport:
        transports.append(WebTransport(make(connection), router.answer, is_tls=is_tls))
        return transports[0]

    def tick() -> None:
        for transport in transports:
            transport.tick()

    def begin(child: ClientChild) -> None:
        children.append(child)
        child.call_every(PING_S, tick)

    if is_proxied:
        return proxied.serve(spare, address, peer, shared, bell, make_web, habits=HABITS, begin=begin)
    bell.has_rung = False
    collector.begin()
    child = ClientChild(spare.end, make_web(spare.take_client()), address, shared, peer, habits=HABITS)
    begin(child)
    return serve_in_full(child, bell)
