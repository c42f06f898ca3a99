"""The lobby: where a client is until it does more than connect.

Most clients that cost memory do nothing but wait: they have sent a CONNECT like a thousand others, and got CONNECTED.
What a session needs for more than that would be touched for them in vain, page by page. So a client is met by one
small function. If what it sends first is a *plain* CONNECT, the lobby answers it with octets that were made before the
fork. Whatever comes then, from the client or from the parent, the full program takes over (`ClientChild`). It is told
what has happened: the same octets were read, and so many of what they are answered with were written.

The lobby decides nothing. It says what `Connecting` says, whose answers it has (`Answers`), and only where these depend
on nothing but the version. What it does not know, a heart-beat for one, or any login that has to be
verified, it leaves unread in the socket for the full program. So there is no state here that could be lost, and the
full program can take over at any time.

SIGTERM is the administrator's wish to end this client, which the full program heeds. The handler raises an exception to
end the wait of the lobby, and only while it waits.
"""

from __future__ import annotations

import re
import select
import signal
import socket
import time
from types import FrameType

from forkbroker.child.child import ClientChild, Shared, make_session_id, show_title
from forkbroker.child.transport import PlainTransport
from forkbroker.posix import collector
from forkbroker.session.connecting import Connecting
from forkbroker.session.session import Session
from forkbroker.session.setup import Setup
from forkbroker.wire.envelope import pack
from forkbroker.wire.kinds import Kind

_MOST = 512
"""Octets of a plain CONNECT."""
_HEADERS = 5
_PLAIN = re.compile(
    rb"(?:CONNECT|STOMP)\n((?:(?:accept-version|host|login|passcode|heart-beat):[!-9;-\[\]-~]*\n)+)\n\0\n?"
)
"""Known headers, with values that mean the same in all versions: no colon, no backslash, no blank, no control octet."""
_VERSIONS = ("1.0", "1.1", "1.2", "1.1,1.2", "1.2,1.1", "1.0,1.1", "1.1,1.0", "1.0,1.1,1.2", "1.2,1.1,1.0")
_SESSION = "0123456789abcdef"


class Answers:
    """What a plain CONNECT is answered with. Made before the fork."""

    def __init__(self, shared: Shared) -> None:
        limits, self._is_strict = shared.limits, shared.policy.strict
        self.host_name = shared.policy.host_name
        self._of_version: dict[bytes, tuple[bytes, bytes]] = {}
        self.most = min(_MOST, limits.max_login_frame, limits.max_header_line)
        """Octets of what may be answered here."""
        # a login has to be verified by the full program
        if shared.verifier is None and limits.max_command >= len("CONNECT") and limits.max_headers >= _HEADERS:
            for versions in _VERSIONS:
                self._of_version[versions.encode()] = _ask(shared, versions)

    def find(self, octets: bytes) -> tuple[bytes, bytes, bytes] | None:
        """The login, and CONNECTED before and behind the session's id; None: the full program has to answer."""
        match = _PLAIN.fullmatch(octets)
        if match is None or len(octets) > self.most:
            return None
        lines = match[1].split(b"\n")
        headers = dict([line.split(b":") for line in lines[:-1]])
        if (
            len(headers) < len(lines) - 1
            or headers.get(b"heart-beat", b"0,0") != b"0,0"
            or (self._is_strict and b"host" not in headers)
        ):
            return None
        found = self._of_version.get(headers.get(b"accept-version", b""))
        return None if found is None else (headers.get(b"login", b""), *found)


def _ask(shared: Shared, versions: str) -> tuple[bytes, bytes]:
    """What `Connecting` says to a client that has these versions, before and behind the session's id."""
    sessions: list[Session] = []
    setup = Setup(shared.policy, shared.limits, _SESSION, bytes(32), shared.slots.try_acquire)
    connecting = Connecting(setup, sessions.append, 0.0)
    connecting.receive(f"CONNECT\naccept-version:{versions}\nhost:/\n\n\0".encode(), 0.0)
    before, _, behind = b"".join(connecting.unwritten.gather()).partition(_SESSION.encode())
    return before, behind


class _RungError(Exception):
    """SIGTERM has come while the lobby waits."""


class Bell:
    """SIGTERM, from before the fork to the full program."""

    def __init__(self) -> None:
        self._is_waiting = False
        self.has_rung = False

    def hang(self) -> None:
        """Be the handler of SIGTERM, in this process and those that it forks."""
        signal.signal(signal.SIGTERM, self._ring)

    def begin(self) -> None:
        """A client is there: what has come before was not meant for it."""
        self.has_rung = False

    def _ring(self, _number: int, _frame: FrameType | None) -> None:
        self.has_rung = True
        if self._is_waiting:
            self._is_waiting = False
            raise _RungError

    def poll(self, poll: select.poll, milliseconds: float | None) -> list[tuple[int, int]]:
        """As the method of `poll`; nothing is ready when the bell rings, or has rung."""
        try:
            self._is_waiting = True
            ready = [] if self.has_rung else poll.poll(milliseconds)
            self._is_waiting = False
        except _RungError:
            return []
        return ready


class Lobby:
    """One client that has not said more than CONNECT."""

    def __init__(self, end: socket.socket, client: socket.socket, address: str, answers: Answers, bell: Bell) -> None:
        """`end` is this process's end of the channel, non-blocking, `client` the accepted socket."""
        self._end = end
        self._client = client
        self._address = address
        self._answers = answers
        self._bell = bell
        self._began = time.monotonic()
        self._session_id = make_session_id(answers.host_name)
        self._poll = select.poll()
        self._poll.register(end.fileno(), select.POLLIN)
        self._poll.register(client.fileno(), select.POLLIN)
        self._read = b""
        self._written = 0
        show_title(address, "", 0)

    def meet(self, timeout_s: float) -> bool:
        """Wait for the first octets; tell whether they were a plain CONNECT, which was answered."""
        ready = self._bell.poll(self._poll, timeout_s * 1000)
        if ready != [(self._client.fileno(), select.POLLIN)]:
            return False
        try:
            octets = self._client.recv(self._answers.most + 1, socket.MSG_PEEK)
            found = self._answers.find(octets)
            if found is None:
                return False
            login, before, behind = found
            self._end.send(b"".join(pack(Kind.CONNECTED, destination=login)))
            self._read = self._client.recv(len(octets))
            self._written = self._client.send(before + self._session_id.encode() + behind)
        except OSError:  # the full program will meet it as well
            return False
        show_title(self._address, login.decode(), 0)
        return True

    def wait(self) -> None:
        """Wait for whatever comes next."""
        self._bell.poll(self._poll, None)

    def leave(self, shared: Shared) -> ClientChild:
        """The full program, at the point that was reached here."""
        child = ClientChild(
            self._end, PlainTransport(self._client), self._address, shared, self._session_id, self._began
        )
        if self._read:
            child.go_on(self._read, self._written)
        return child


def serve(end: socket.socket, client: socket.socket, address: str, shared: Shared, answers: Answers, bell: Bell) -> int:
    """Serve one client until it is gone; returns the exit status of the process. Both sockets are closed on return."""
    lobby = Lobby(end, client, address, answers, bell)
    if lobby.meet(shared.policy.connect_timeout_s):
        lobby.wait()
    collector.begin()
    return serve_in_full(lobby.leave(shared), bell)


def serve_in_full(child: ClientChild, bell: Bell) -> int:
    """Let the full program serve a client to its end; returns the exit status of the process."""
    child.obey_signals()
    if bell.has_rung:
        child.end_soon()
    return child.run()
