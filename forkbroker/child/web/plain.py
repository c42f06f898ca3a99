"""Plain HTTP for shells, scripts and pages (forkbroker-http(7)): what a request means, as frames of STOMP.

`Desk` has the handlers of one connection. A request is somebody's by `Authorization`, as in STOMP by the headers of
CONNECT. Pages may send what pages of the listener's own origin, or of the list, send; a page of somebody else could
use a broker that only its visitor can reach.
"""

from __future__ import annotations

import re
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Callable
from http import HTTPStatus
from secrets import token_hex

from forkbroker.child.web.bodies import make_body
from forkbroker.child.web.errands import Errand, Posting, Resuming, SettlingParked, Taking, Watching
from forkbroker.child.web.exchange import CHALLENGES, Exchange, Login
from forkbroker.child.web.requests import ALIVE, Request, RequestError, Response, say
from forkbroker.child.web.router import Conversation, Route
from forkbroker.child.web.upgrade import Origins
from forkbroker.session.dialects import PARK_LEASE_MS
from forkbroker.wire.fields import MAX_LEASE_MS

_DESTINATION = re.compile(r".*?(?P<name>/(?:queue|topic)/.+)", re.DOTALL)
_TOPIC = re.compile(r".*?(?P<name>/topic/.+)", re.DOTALL)
_QUEUE = re.compile(r".*?(?P<name>/queue/.+)", re.DOTALL)
_NAMELESS = re.compile(r".*/(?:queue|topic)/?")
_KEY = re.compile(r"[A-Za-z0-9_-]{16,64}", re.ASCII)
_SECONDS = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,3})?", re.ASCII)
WAIT_S = 1.0
MAX_WAIT_S = 3_600.0
"""How long a request waits for a message. Proxies cut it earlier, most of them after a minute."""
_LIFE = re.compile(r".*/healthz")
_READINESS = re.compile(r".*/readyz")
_CONTROL = re.compile(r"[\0-\x1f\x7f]")

PREFIX = "stomp-"
PLAIN_NAMES = {
    "content-type": "content-type",
    "content-encoding": "content-encoding",
    "persistent": "persistent",
    "priority": "priority",
    "expires": "expires",
    "ttl": "ttl",
    "delay": "x-delay",
    "cron": "AMQ_SCHEDULED_CRON",
    "dedup-id": "dedup-id",
    "correlation-id": "correlation-id",
    "reply-to": "reply-to",
}
"""Headers of a request that are headers of its message without the prefix."""
_NUMBERS = frozenset(("priority", "expires"))
"""Browsers have other values for these (RFC 9218, RFC 9111), which concern the request."""
_OURS = frozenset(("destination", "receipt", "transaction", "content-length"))
"""What a SEND has by the request itself."""
_PREFLIGHT_S = 600


def _make_key() -> str:
    return token_hex(16)


class Desk:
    """The handlers of one connection."""

    def __init__(
        self,
        exchange: Exchange,
        origins: Origins,
        find_bearer: Callable[[Request], str],
        max_body: int,
        find_fault: Callable[[], str] = str,
        make_key: Callable[[], str] = _make_key,
    ) -> None:
        """`find_bearer`: the token of an EventSource, which can't send headers, as that of a WebSocket.

        `find_fault`: as of `forkbroker.child.web.site.SitePolicy`. `make_key`: a word that nobody can guess.
        """
        self._make_key = make_key
        self._find_fault = find_fault
        self._exchange = exchange
        self._origins = origins
        self._find_bearer = find_bearer
        self._max_body = max_body

    def make_routes(self) -> list[Route]:
        """All that is to be had."""
        return [
            Route("GET", _LIFE, _answer_probe, "probes"),
            Route("GET", _READINESS, self._answer_readiness, "probes"),
            Route("POST", _DESTINATION, self._send),
            Route("GET", _TOPIC, self._watch, "messages of topics"),
            Route("GET", _QUEUE, self._take, "messages of queues"),
            Route("DELETE", _QUEUE, self._acknowledge),
            Route("OPTIONS", _DESTINATION, self._permit),
            Route("POST", _NAMELESS, _miss_name),
        ]

    def _answer_readiness(self, _: Request, __: re.Match[str]) -> Response:
        """Whether the broker takes work now."""
        fault = self._find_fault()
        if fault:
            return say(HTTPStatus.SERVICE_UNAVAILABLE, fault, ("Retry-After", "5"))
        return say(HTTPStatus.OK, "ready")

    def _send(self, request: Request, match: re.Match[str]) -> Response | Conversation:
        if "nack=" in request.query:
            return self._reject(request, match)
        try:
            extra = self._check_origin(request)
            headers = [("destination", match["name"]), *_read_headers(request)]
            errand = Posting(headers, make_body(request, self._max_body))
            return self._exchange.begin(request, _read_login(request, request.bearer), errand, extra)
        except RequestError as error:
            return _refuse(error)

    def _watch(self, request: Request, match: re.Match[str]) -> Response | Conversation:
        try:
            extra = self._check_origin(request)
            _check_accept(request)
            login = _read_login(request, self._find_bearer(request))
            destination = ("destination", match["name"])
            durable = request.find_parameter("durable")
            if durable:
                name = ("durable-subscription-name", durable)
                errand: Errand = Resuming([destination, name], extra, _find_seen(request))
            else:
                errand = Watching([destination], extra)
            return self._exchange.begin(request, login, errand, extra)
        except RequestError as error:
            return _refuse(error)

    def _take(self, request: Request, match: re.Match[str]) -> Response | Conversation:
        try:
            extra = self._check_origin(request)
            _check_get(request)
            if request.headers.get("accept", "*/*").strip().lower() == "text/event-stream":
                # an EventSource would take message after message, and settle none
                raise RequestError(HTTPStatus.NOT_ACCEPTABLE, "Messages of a queue are no events: take one by GET.")
            errand = Taking(
                [("destination", match["name"])],
                self._make_key(),
                wait_s=_read_seconds(request, "wait", WAIT_S, MAX_WAIT_S),
                lease_ms=int(_read_seconds(request, "lease", PARK_LEASE_MS / 1000, MAX_LEASE_MS / 1000) * 1000),
            )
            return self._exchange.begin(request, _read_login(request, request.bearer), errand, extra)
        except RequestError as error:
            return _refuse(error)

    def _acknowledge(self, request: Request, _: re.Match[str]) -> Response | Conversation:
        return self._settle(request, "ACK", [("parked", request.find_parameter("ack"))])

    def _reject(self, request: Request, _: re.Match[str]) -> Response | Conversation:
        headers = [("parked", request.find_parameter("nack"))]
        headers += [(name, request.find_parameter(name)) for name in ("requeue", "reason")]
        return self._settle(request, "NACK", [(name, value) for name, value in headers if value or name == "parked"])

    def _settle(self, request: Request, command: str, headers: list[tuple[str, str]]) -> Response | Conversation:
        try:
            extra = self._check_origin(request)
            _check_no_body(request)
            if _KEY.fullmatch(headers[0][1]) is None:
                text = "A message is settled at ?ack=KEY or ?nack=KEY, with the Stomp-Ack of the answer that had it."
                raise RequestError(HTTPStatus.BAD_REQUEST, text)
            errand = SettlingParked(command, headers)
            return self._exchange.begin(request, _read_login(request, request.bearer), errand, extra)
        except RequestError as error:
            return _refuse(error)

    def _permit(self, request: Request, _: re.Match[str]) -> Response:
        """The question of a browser whether a page may send what it is about to send (Fetch, 3.2.2)."""
        try:
            extra = self._check_origin(request)
        except RequestError as error:
            return _refuse(error)
        wanted = request.headers.get("access-control-request-headers", "")
        permitted = (
            ("Access-Control-Allow-Methods", "GET, POST, DELETE"),
            ("Access-Control-Allow-Headers", wanted or "*"),
            ("Access-Control-Max-Age", str(_PREFLIGHT_S)),
        )
        return Response(HTTPStatus.NO_CONTENT, b"", (("Allow", "GET, POST, DELETE, OPTIONS"), *permitted, *extra))

    def _check_origin(self, request: Request) -> tuple[tuple[str, str], ...]:
        """What tells a browser that the page may see the answer. Raises RequestError: the page may not even ask."""
        origin = request.headers.get("origin")
        if not self._origins.permit(request):
            host = request.headers.get("host", "")
            text = f"Pages of {origin or 'another site'} may send no requests to {host} (option web-origin)."
            raise RequestError(HTTPStatus.FORBIDDEN, text)
        if origin is None:
            return ()
        shown = (("Access-Control-Allow-Origin", origin), ("Access-Control-Expose-Headers", "*"), ("Vary", "Origin"))
        return (*shown, ("Access-Control-Allow-Credentials", "true")) if self._origins.names(origin) else shown


def _refuse(error: RequestError) -> Response:
    more = CHALLENGES if error.status is HTTPStatus.UNAUTHORIZED else ()
    return say(error.status, error.text, *more)


def _answer_probe(_: Request, __: re.Match[str]) -> Response:
    """The parent has given this connection a process, so it is there."""
    return say(HTTPStatus.OK, ALIVE)


def _miss_name(_: Request, __: re.Match[str]) -> Response:
    return say(HTTPStatus.NOT_FOUND, "A name is missing: messages are sent by POST to /queue/NAME and /topic/NAME.")


def _check_get(request: Request) -> None:
    if request.method == "HEAD":
        raise RequestError(HTTPStatus.METHOD_NOT_ALLOWED, "GET is possible here, but HEAD is not.")
    _check_no_body(request)


def _check_accept(request: Request) -> None:
    _check_get(request)
    accepted = request.headers.get("accept", "*/*").lower()
    if not any(kind in accepted for kind in ("text/event-stream", "text/*", "*/*")):
        raise RequestError(HTTPStatus.NOT_ACCEPTABLE, "A topic is watched as text/event-stream.")


def _check_no_body(request: Request) -> None:
    if request.body_octets != 0:
        raise RequestError(HTTPStatus.BAD_REQUEST, f"A {request.method} has no body here.")


def _find_seen(request: Request) -> str:
    """The last event that a client has seen: a browser says it when it connects again, a page by the query."""
    return request.headers.get("last-event-id") or request.find_parameter("last-event-id")


def _read_seconds(request: Request, name: str, default: float, most: float) -> float:
    """A parameter of the query. Raises RequestError."""
    text = request.find_parameter(name)
    if not text:
        return default
    # more digits than any limit has are too many as well
    if not (text.isascii() and _SECONDS.fullmatch(text)) or float(text) > most:
        raise RequestError(HTTPStatus.BAD_REQUEST, f"{name} is a number of seconds, at most {most:,.0f}.")
    return float(text)


def _read_login(request: Request, bearer: str) -> Login:
    """The user that sends the request, and the virtual host that it is for. Raises RequestError."""
    host = request.headers.get("host", "").rpartition(":")
    headers = [("host", host[0] if host[2].isdigit() else "".join(host))]
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    if bearer:
        headers.append(("Authorization", f"Bearer {bearer}"))
    elif scheme.lower() == "basic":
        try:
            login, colon, passcode = b64decode(given.strip(), validate=True).decode().partition(":")
        except (Base64Error, UnicodeDecodeError):
            colon = login = passcode = ""
        if not colon or _CONTROL.search(login + passcode):
            text = "Authorization: Basic is followed by LOGIN:PASSCODE in UTF-8 and base64."
            raise RequestError(HTTPStatus.BAD_REQUEST, text)
        headers += [("login", login), ("passcode", passcode)]
    elif scheme:
        raise RequestError(HTTPStatus.UNAUTHORIZED, "A login is shown by Authorization: Basic or Bearer.")
    client_id = request.find_parameter("client-id")
    return Login((*headers, ("client-id", client_id)) if client_id else tuple(headers))


def _read_headers(request: Request) -> list[tuple[str, str]]:
    """Those of the message. Raises RequestError."""
    found: list[tuple[str, str]] = []
    for name, value in request.headers.items():
        own = name.removeprefix(PREFIX) if name.startswith(PREFIX) else PLAIN_NAMES.get(name)
        if not own or (name in _NUMBERS and not value.isdigit()):
            continue
        if own in _OURS:
            text = f"The header {name} is not yours to set: the request itself says it."
            raise RequestError(HTTPStatus.BAD_REQUEST, text)
        if own == "reply-to" and value.startswith("/temp-"):
            text = "A temporary destination ends with its connection: name a queue in reply-to."
            raise RequestError(HTTPStatus.BAD_REQUEST, text)
        found.append((own, _decode(value)))
    return found


def _decode(value: str) -> str:
    """The text of a header that may be in UTF-8, as curl sends what is typed."""
    octets = value.encode("latin-1")
    try:
        return octets.decode()
    except UnicodeDecodeError:
        return value
