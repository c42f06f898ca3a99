"""The administrator's page: files of the package, below `/admin/` and any prefix.

The page is a client as any other: it speaks STOMP over WebSocket, so what it can do is what its user may do. So the
files are no secret, and have no login. By default they are for browsers on this machine alone, that is for connections
over loopback which no proxy has passed on: whoever offers the page to others says so.

The browser is told to run nothing but these files, whatever a client has put into a name, a header or a body: no script
and no style within the page, no frame, no text that becomes a script or an element (Content Security Policy Level 3;
Trusted Types).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from http import HTTPStatus
from importlib.resources import files
from importlib.resources.abc import Traversable

from forkbroker.child.web.requests import Request, Response, say
from forkbroker.child.web.router import Route
from forkbroker.digests import blake2b

_TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
    "json": "application/json",
}
"""Of the files that are served, by what their names end with."""
_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
_HEADERS = (
    ("Content-Security-Policy", _POLICY),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    # kept, and asked for each time whether it is still the same: an upgrade is seen at once
    ("Cache-Control", "no-cache"),
)
_ABOUT = "about.json"
"""What the page wants to know before it connects: a login that fails has consequences."""
_CONNECTS = "broker.js"
"""The script that connects, and in it the link to WebSockets, as seen from the page."""
_USUAL_LINK = b'"../ws"'
_NOT_HERE = "The page is for browsers on this machine, without a proxy; the option web-admin opens it to others."


@dataclass(frozen=True, slots=True)
class PagePolicy:
    """What the administrator has said about the page."""

    for_others: bool = False
    """For clients on other hosts, and behind proxies, as well."""
    login: str = "none"
    """Whether clients have to log in: `none`, `optional` or `required`."""
    cookie: str = ""
    """The cookie that logs in who has it; nothing: none does."""
    websocket: str = ""
    """The path of WebSockets, if it is not `/ws` below any prefix."""


@cache
def load(policy: PagePolicy) -> Page:
    """Read the files: once, before processes are forked that serve them."""
    return Page(policy)


class Page:
    """The files, in memory."""

    def __init__(self, policy: PagePolicy) -> None:
        self._policy = policy
        found = dict(_read_files(files(__package__) / "static"))
        found[_ABOUT] = _about(policy.login)
        self._files = {name: _describe(name, body) for name, body in found.items()}
        self._files[""] = self._files["index.html"]
        # no other names: below the page's own there may be a prefix as well, as in /admin/ws
        self._path = re.compile(rf"(?P<prefix>.*)/admin(?:/(?P<name>{'|'.join(map(re.escape, self._files))}))?")

    def make_route(self, *, is_here: bool) -> Route:
        """The row of the page for one client. `is_here`: it is on this machine."""

        def answer(request: Request, match: re.Match[str]) -> Response:
            if not self._policy.for_others and (not is_here or request.is_passed_on):
                return say(HTTPStatus.FORBIDDEN, _NOT_HERE)
            return self._answer(request, match["prefix"], match["name"])

        return Route("GET", self._path, answer, "files of the page")

    def _answer(self, request: Request, prefix: str, name: str | None) -> Response:
        if name is None:
            # relative, as there may be a prefix
            return Response(HTTPStatus.MOVED_PERMANENTLY, headers=(("Location", "admin/"),))
        if name == _ABOUT and self._policy.cookie and request.find_cookie(self._policy.cookie):
            # it need not ask, unless the cookie is refused
            return Response(HTTPStatus.OK, _about("none"), self._files[name].headers[:1] + _HEADERS)
        file = self._files[name]
        if name == _CONNECTS and self._policy.websocket:
            # as all links of the page, from where it is
            link = f"../{self._policy.websocket.removeprefix(f'{prefix}/').lstrip('/')}"
            file = _describe(name, file.body.replace(_USUAL_LINK, json.dumps(link).encode()))
        known = {one.strip().removeprefix("W/") for one in request.headers.get("if-none-match", "").split(",")}
        status = HTTPStatus.NOT_MODIFIED if file.tag in known else HTTPStatus.OK
        return Response(status, file.body, file.headers)


@dataclass(frozen=True, slots=True)
class _File:
    """What is answered for a name."""

    body: bytes
    tag: str
    headers: tuple[tuple[str, str], ...]


def _about(login: str) -> bytes:
    return json.dumps({"login": login}).encode()


def _describe(name: str, body: bytes) -> _File:
    tag = f'"{blake2b(body, digest_size=16).hexdigest()}"'
    return _File(body, tag, (("Content-Type", _TYPES[name.rpartition(".")[2]]), ("ETag", tag), *_HEADERS))


def _read_files(place: Traversable, prefix: str = "") -> Iterator[tuple[str, bytes]]:
    """The names, with `/`, and the octets of all files that have a type."""
    for one in place.iterdir():
        if one.is_dir():
            yield from _read_files(one, f"{prefix}{one.name}/")
        elif one.name.rpartition(".")[2] in _TYPES:
            yield prefix + one.name, one.read_bytes()
