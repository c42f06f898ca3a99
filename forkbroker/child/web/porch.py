"""The lobby of clients that speak HTTP: a tab that waits costs little more than a client over TCP that waits.

It is the other one (`forkbroker.child.lobby`), whose stream is within messages. A plain handshake is answered, each
plain frame has to be a message of its own, and pings are sent and pongs heard, as long as nothing else comes. The
request of a client that asks for anything else stays in the socket, for the full program. Where a cookie may say who
the client is, there is no such lobby.

An EventSource waits here as well, until the first event comes. Its request is CONNECT and SUBSCRIBE in one, and the
answer begins when the parent has passed the fence. The full program reads the request again.
"""

from __future__ import annotations

import socket
from contextlib import suppress
from time import monotonic

from forkbroker.child.answers import Answers
from forkbroker.child.child import ClientChild, Shared
from forkbroker.child.lobby import DONT_WAIT, Bell, Lobby
from forkbroker.child.spare import Spare
from forkbroker.child.transport import PlainTransport
from forkbroker.child.web.errands import COMMENT, make_watch_frames, open_events
from forkbroker.child.web.frames import BEAT, PING, PONG, WebSocket, pack_text, unpack_whole
from forkbroker.child.web.greeting import MOST, PlainRequest, find_events, grant, read
from forkbroker.child.web.site import HABITS, PING_S, SitePolicy, Visit
from forkbroker.child.web.transport import WebTransport
from forkbroker.posix.addresses import is_on_this_machine
from forkbroker.posix.titles import set_title
from forkbroker.session.session import first_token
from forkbroker.stomp.encoder import HEART_BEAT
from forkbroker.wire.envelope import pack
from forkbroker.wire.kinds import Kind

_PEEK = int(socket.MSG_PEEK)
_VERSIONS = b"1.2"
"""Those of a client that asks for events."""
_CONNECTED = b"".join(pack(Kind.CONNECTED))
_FRAMING = 14
"""Octets of a message at most that are not its payload."""


class WebLobby(Lobby):
    """One client that has asked for a WebSocket, and said no more than CONNECT and SUBSCRIBE."""

    __slots__ = (
        *("_is_granted", "_is_pong", "_opening", "_paths", "_ping_at", "_policy", "_size", "_subscribed_receipt"),
        *("_visits", "_watched"),
    )

    def __init__(self, spare: Spare, shared: Shared, answers: Answers, bell: Bell, policy: SitePolicy) -> None:
        """As the other one; `policy` says what is to be had."""
        super().__init__(spare, shared, answers, bell, HABITS)
        self._policy = policy
        self._is_granted = False
        """The client has its WebSocket."""
        self._paths = frozenset(path.encode() for path in policy.paths) or None
        self._ping_at = 0.0
        self._size = 0
        """Octets of the message that was looked at."""
        self._is_pong = False
        """It is a pong, and has nothing of the stream."""
        self._watched = b""
        """The request for events that was read; nothing: the client has a WebSocket."""
        self._opening = open_events()
        self._subscribed_receipt = b""
        """The RECEIPT that became the beginning of the answer."""
        self._visits: dict[ClientChild, tuple[Visit, WebTransport, WebSocket]] = {}

    def _make_child(self, shared: Shared) -> ClientChild:
        visit, transport = self._visit(PlainTransport(self._client), is_here=False)
        talk = WebSocket(visit.heard)
        transport.begin(talk)
        child = ClientChild(self._end, transport, "", shared, 0, habits=HABITS)
        self._visits[child] = visit, transport, talk
        return child

    def _visit(self, plain: PlainTransport, *, is_here: bool) -> tuple[Visit, WebTransport]:
        visit = Visit(self._policy, is_tls=False, is_forwarded=False, is_here=is_here)
        return visit, visit.begin(plain)

    def meet(self, address: str, peer: int) -> bool:
        """Grant the client its WebSocket, then as the other lobby; or let it watch a topic."""
        self._bell.has_rung = False
        self._address, self._peer = address, peer
        self._began = monotonic()
        self._ping_at = self._began + PING_S
        if self._bell.poll(self._poll, self._timeout_ms) != self._said or not self._grant():
            return False
        if self._watched:
            return True
        return Lobby.meet(self, address, peer)  # super() is an object, whose type and place are memory of each client

    def _grant(self) -> bool:
        try:
            request = read(self._client.recv(MOST, _PEEK))
            if request is None:
                return False
            answer = grant(request, self._paths, self._is_here)
            if answer is None:
                return self._watch(request)
            self._client.recv(request[0])
            self._is_granted = True
            self._send(answer)
        except OSError:  # the full program will meet it as well
            return False
        return not self._unsent

    def _watch(self, request: PlainRequest) -> bool:
        """Connect and subscribe for a client that asks for the events of a topic; tell whether it does.

        Raises:
            OSError: as the lobby's other methods.
        """
        found = find_events(request, self._is_here)
        child = self._children.get(_VERSIONS)
        if found is None or child is None:
            return False
        connect, subscribe = make_watch_frames(*found)
        token = first_token(self._shared.name_session(self._peer).encode())
        subscribed = self._answers.find_subscribe(subscribe, _VERSIONS, token, 1)
        if self._answers.find(connect) is None or subscribed is None:
            return False
        set_title(f"client {self._address} 0 subscriptions")
        self._end.send(_CONNECTED)
        self._end.send(subscribed[1])
        self._watched = self._client.recv(request[0])
        self._ids.append(subscribed[0])
        self._subscribed_receipt, self._receipt = subscribed[2], self._opening
        self._heart_beat.received_at = self._began
        self._child = child
        return True

    def _is_here(self) -> bool:
        return is_on_this_machine(self._client)

    def deadline(self) -> float:
        """Pings are due as well."""
        return min(self._heart_beat.deadline(), self._ping_at)

    def keep_up(self, now: float) -> bool:
        """Pings are sent as well."""
        if now >= self._ping_at:
            self._ping_at = now + PING_S
            sign = PING
            if self._watched:  # it may be silent
                self._heart_beat.received_at = now
                sign = COMMENT if self._passed else b""
            try:
                self._send(sign)
            except OSError:  # the full program will meet it as well
                return False
        return super().keep_up(now) and not self._unsent

    def _send(self, message: bytes) -> None:
        """Send a message, whose rest is left unsent if the kernel does not take all of it. Raises OSError."""
        self._unsent = message[self._client.send(message, DONT_WAIT) :]

    def _beat(self) -> bool:
        self._send(BEAT)
        return not self._unsent

    def _hear(self) -> bool:
        """Take a message of beats, or a pong, if one has come."""
        with suppress(OSError):
            octets = self._look()
            if self._is_pong or (octets and not octets.strip(HEART_BEAT)):
                self._octets += len(self._take(octets))
                return True
        return False

    def _look(self) -> bytes:
        if self._watched:
            return b""  # what comes behind such a request is not looked at
        found = unpack_whole(self._client.recv(self._answers.most + _FRAMING, _PEEK))
        self._is_pong = found is not None and found[0] == PONG
        if found is None:
            return b""
        self._size = found[2]
        return b"" if self._is_pong else found[1]

    def _take(self, octets: bytes) -> bytes:
        self._client.recv(self._size)
        return octets

    def _say(self, octets: bytes) -> int:
        self._send(octets if self._watched else pack_text(octets))
        return len(octets)

    def bid_farewell(self) -> bool:
        """A tab says by a message of its own that it goes, and is answered."""
        return False

    def leave(self) -> ClientChild:
        """The full program, at the point that was reached here."""
        if self._watched:
            return self._leave_events()
        prepared = self._child
        if prepared is not None:
            visit, transport, talk = self._visits[prepared]
            transport.begin(talk, self._unsent)
            super().leave()
            visit.join(prepared)
            return prepared
        plain = PlainTransport(self._spare.take_client())
        visit, transport = self._visit(plain, is_here=is_on_this_machine(plain.socket))
        if self._is_granted:
            transport.begin(WebSocket(visit.heard), self._unsent)
        child = ClientChild(
            *(self._end, transport, self._address, self._shared, self._peer, self._began, HABITS),
            verified=self._verified,
        )
        visit.join(child)
        if self._read:
            child.go_on(self._read, self._written)
        return child

    def _leave_events(self) -> ClientChild:
        plain = PlainTransport(self._spare.take_client())
        visit, transport = self._visit(plain, is_here=is_on_this_machine(plain.socket))
        child = ClientChild(
            *(self._end, transport, self._address, self._shared, self._peer, self._began), habits=HABITS
        )
        visit.join(child)
        said = self._subscribed_receipt if self._passed else b""
        child.go_on(transport.repeat(self._watched, said, self._unsent))
        child.repeat(b"", self._passed, len(said))
        return child
