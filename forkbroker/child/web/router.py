"""Which handler has which requests: by the method and by the path, which may be below any prefix.

A reverse proxy may pass on `/chat/broker/ws` as it came, or as `/ws`. So the patterns of routes usually begin with
`.*`, and their handlers make no links that begin with a slash.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Protocol

from forkbroker.child.web.requests import Request, Response, say
from forkbroker.wire.envelope import Buffer
from forkbroker.wire.kinds import Cause
from forkbroker.wire.memory_file import MemoryFile

ANSWERED = "client has its answer"
"""What the log says of a connection that ends behind an answer."""


class Conversation(Protocol):
    """What a connection is used for behind the head of a request.

    It translates between what the client speaks and the STOMP stream of the session. A rule: it has no socket. What it
    wants to send by itself, it leaves in `outgoing`; the transport takes that after each call.
    """

    farewell: str
    """What the log says when the conversation is over."""

    outgoing: bytes
    """Octets for the client that are not of the session: a pong, for one. The transport sends and empties it."""

    bearer: str
    """A token that has come with the request; nothing: none has."""

    @property
    def is_midway(self) -> bool:
        """What `send` gave last is not the whole of something: nothing that is outgoing may come between."""

    is_over: bool
    """The client has ended the conversation: nothing of the stream follows."""

    @property
    def is_free(self) -> bool:
        """The request has its answer, and the next one may come; the conversation goes on behind that."""

    rest: bytes
    """Octets that were received and belong to the next request. The transport reads them and empties it."""

    @property
    def has_more(self) -> bool:
        """It has something for the stream, though nothing has come: call `receive` with nothing."""

    def receive(self, octets: bytes) -> bytes:
        """Octets from the client; what they are in the stream, which may be nothing.

        Raises:
            TransportError: they break the protocol; what the client is told of it is in `outgoing`.
        """

    def send(self, buffers: Sequence[Buffer]) -> tuple[Buffer, int]:
        """What the client gets for the next part of the stream, and how many octets of it that is: one at least.

        `buffers`: what waits, from where the last call has come to; its first frame is whole.
        """

    def send_file(self, file: MemoryFile, offset: int, octets: int) -> tuple[Buffer, int]:
        """As `send`, for these octets of a file."""

    def tick(self) -> None:
        """Called every `PING_S` seconds."""

    def close(self, cause: Cause) -> bytes:
        """The last octets, as nothing more comes from the session."""


Handler = Callable[[Request, re.Match[str]], "Response | Conversation"]
"""Answers a request, given what the route's pattern has found in its path."""


@dataclass(frozen=True, slots=True)
class Route:
    """One row: these requests are that handler's."""

    method: str
    path: re.Pattern[str]
    """Has to match the whole path, without the query."""
    handler: Handler
    what: str = ""
    """What is to be had there, in the plural, for who wants something else at such a path; nothing: it may give way."""


class Router:
    """All routes of a listener, in order: the first that fits counts."""

    def __init__(self, routes: Sequence[Route], hint: str = "") -> None:
        """`hint`: what there is, for the answer to a request for something that there is not."""
        self._routes = routes
        self._hint = hint

    def find_owner(self, path: str) -> str:
        """What a GET of this path reaches (`Route.what`); empty: nothing that has to stay there."""
        return next((one.what for one in self._routes if one.method == "GET" and one.path.fullmatch(path)), "")

    def answer(self, request: Request) -> Response | Conversation:
        """What a handler says; 405 if there is none for the method, 404 if none for the path."""
        methods: list[str] = []
        wanted = "GET" if request.method == "HEAD" else request.method
        for route in self._routes:
            match = route.path.fullmatch(request.path)
            if match is not None:
                if route.method == wanted:
                    return route.handler(request, match)
                methods.append(route.method)
        if methods:
            *others, last = dict.fromkeys(methods)
            named = f"{', '.join(others)} and {last} are" if others else f"{last} is"
            text = f"{request.method} is not possible here, but {named}."
            return say(HTTPStatus.METHOD_NOT_ALLOWED, text, ("Allow", ", ".join((*others, last))))
        return say(HTTPStatus.NOT_FOUND, f"There is nothing at this path. {self._hint}".rstrip())
