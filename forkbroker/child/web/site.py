"""What a listener for HTTP has, and how it serves a client.

`make_router` is the table of its routes. `serve` is the program of a spare whose client speaks HTTP.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from http import HTTPStatus

from forkbroker.child import proxied
from forkbroker.child.child import ClientChild, Shared
from forkbroker.child.lobby import Bell, serve_in_full
from forkbroker.child.spare import Spare
from forkbroker.child.transport import Transport
from forkbroker.child.web.exchange import Exchange
from forkbroker.child.web.forwarded import find_client
from forkbroker.child.web.page import PagePolicy, load
from forkbroker.child.web.plain import Desk
from forkbroker.child.web.requests import Request, Response, say
from forkbroker.child.web.router import Conversation, Route, Router
from forkbroker.child.web.transport import WebTransport
from forkbroker.child.web.upgrade import Origins, upgrade
from forkbroker.networks import Network
from forkbroker.posix import collector
from forkbroker.posix.addresses import is_on_this_machine
from forkbroker.session.setup import Habits
from forkbroker.stomp.limits import Limits

PING_S = 25.0
"""Between two pings. Proxies cut what is silent for 60 s: nginx, Apache, HAProxy's examples, most cloud balancers."""
REST_S = 3.0
"""A connection that has its answer may wait for the next request for once or twice so long: each has a process, and
browsers open six of them at a time. It is less than `connect-timeout` is by default, whose end is an event."""
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
    page: PagePolicy | None = None
    """Of the administrator's page; None: there is none."""
    cookie: str = ""
    """The cookie that has a token; nothing: none has."""
    takes_query: bool = False
    """The query may have a token, as `token`."""
    proxies: tuple[Network, ...] = ()
    """Where proxies are whose requests say for whom they come."""
    max_body: int = Limits().max_body
    """Octets of the body of a message."""
    find_fault: Callable[[], str] = str
    """Tells why the broker takes no work now; nothing: it does."""

    @property
    def pattern(self) -> str:
        """Of the paths of WebSockets."""
        return "|".join(map(re.escape, self.paths)) or _USUAL_PATHS

    def find_bearer(self, request: Request) -> str:
        """The token of a request that asks for a WebSocket, or for events; nothing: it has none."""
        cookie = request.find_cookie(self.cookie) if self.cookie else ""
        return request.bearer or cookie or (request.find_parameter("token") if self.takes_query else "")


def make_router(
    policy: SitePolicy,
    heard: Callable[[], None],
    call_after: Callable[[float, Callable[[], None]], None],
    *,
    is_here: bool = False,
) -> Router:
    """All that is to be had.

    `heard`: the client has shown that it is there; `is_here`: it is on this machine. `call_after`: calls a function
    after so many seconds.
    """

    origins = replace(policy.origins, is_here=is_here)

    def begin_websocket(request: Request, _: re.Match[str]) -> Response | Conversation:
        answer = upgrade(request, origins, heard)
        if not isinstance(answer, Response):
            answer.bearer = policy.find_bearer(request)
        return answer

    def answer_sockjs(_: Request, __: re.Match[str]) -> Response:
        return say(HTTPStatus.NOT_FOUND, _SOCKJS, note=f"a request of SockJS; {_SOCKJS}")

    desk = Desk(Exchange(heard, call_after), origins, policy.find_bearer, policy.max_body, policy.find_fault)
    routes = [
        # a WebSocket may be at any path that ends with a slash
        *([] if policy.page is None else [load(policy.page).make_route(is_here=is_here)]),
        *desk.make_routes(),
        Route("GET", re.compile(policy.pattern), begin_websocket),
        Route("GET", re.compile(_SOCKJS_PATHS), answer_sockjs),
    ]
    named = ", ".join(policy.paths) or "/, /ws, /stomp and /ws/websocket, below any prefix"
    hint = f"STOMP over WebSocket is at {named}; messages are sent by POST to /queue/NAME and /topic/NAME."
    return Router(routes, hint)


def find_conflict(policy: SitePolicy) -> tuple[str, str]:
    """A path of WebSockets at which a GET reaches something else, and what that is; empty texts: there is none."""
    if not any("/admin" in path for path in policy.paths):
        policy = replace(policy, page=None)  # its files need not be read
    router = make_router(policy, lambda: None, lambda _after, _call: None)
    found = ((path, router.find_owner(path)) for path in policy.paths)
    return next(((path, owner) for path, owner in found if owner), ("", ""))


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
    is_forwarded: bool = False,
) -> int:
    """Serve the client of a spare until it is gone; returns the exit status of the process.

    `make` makes the transport of the octets of HTTP. `is_proxied`: a proxy says first whose connection it is.
    `is_forwarded`: the first request says it.
    """
    is_here = not (is_proxied or is_forwarded) and is_on_this_machine(spare.client)
    visit = Visit(policy, is_tls=is_tls, is_forwarded=is_forwarded, is_here=is_here)
    if is_proxied:

        def make_web(connection: socket.socket) -> Transport:
            return visit.begin(make(connection))

        return proxied.serve(spare, address, peer, shared, bell, make_web, habits=HABITS, begin=visit.join)
    bell.has_rung = False
    collector.begin()
    return serve_in_full(make_child(spare, address, peer, shared, visit, make(spare.take_client())), bell)


def make_child(
    spare: Spare, address: str, peer: int, shared: Shared, visit: Visit, transport: Transport
) -> ClientChild:
    """The child for the client of a spare, whose HTTP is in the octets of this transport."""
    child = ClientChild(spare.end, visit.begin(transport), address, shared, peer, habits=HABITS)
    visit.join(child)
    return child


class Visit:
    """One client: its transport and its child, which are made one after the other, and know of each other by this."""

    def __init__(self, policy: SitePolicy, *, is_tls: bool, is_forwarded: bool, is_here: bool) -> None:
        """As `serve` has them; `is_here`: as for `make_router`."""
        self._policy = policy
        self._is_tls = is_tls
        self._is_forwarded = is_forwarded
        self._router = make_router(policy, self.heard, self._call_after, is_here=is_here)
        self._transport: WebTransport | None = None
        self._child: ClientChild | None = None

    def begin(self, inner: Transport) -> WebTransport:
        """The transport for the client, on that of the octets of HTTP."""
        self._transport = WebTransport(inner, self._answer, is_tls=self._is_tls)
        return self._transport

    def join(self, child: ClientChild) -> None:
        """The child that has been made for the client."""
        self._child = child
        child.call_every(PING_S, self._tick)
        child.call_every(REST_S, self._rest)

    def heard(self) -> None:
        if self._child is not None:
            self._child.heard()

    def _call_after(self, seconds: float, callback: Callable[[], None]) -> None:
        if self._child is not None:
            self._child.call_after(seconds, callback)

    def _tick(self) -> None:
        if self._transport is not None:
            self._transport.tick()

    def _rest(self) -> None:
        if self._transport is not None:
            self._transport.rest()

    def _answer(self, request: Request) -> Response | Conversation:
        if self._is_forwarded and self._child is not None and self._transport is not None:
            self._is_forwarded = False
            # the parent waits for an address, the proxy's own if there is no other one
            host, port = find_client(request.headers, self._policy.proxies), 0
            if not host:
                host, port = self._transport.socket.getpeername()[:2]
            self._child.learn_address(host, port)
        return self._router.answer(request)
