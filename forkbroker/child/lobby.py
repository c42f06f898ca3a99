"""The lobby: where a client is until it does more than connect.

Most clients that cost memory do nothing but wait: they have sent a CONNECT like a thousand others, and got CONNECTED.
What a session needs for more than that would be touched for them in vain, page by page. So a client is met by one
small function. If what it sends first is a *plain* CONNECT, the lobby answers it with octets that were made before the
fork. Whatever comes then, from the client or from the parent, the full program takes over (`ClientChild`). It is told
what has happened: the same octets were read, and so many of what they are answered with were written.

The lobby decides nothing. It says what `Connecting` says, whose answers it has (`Answers`), and only where these depend
on nothing but the version. What it does not know, a heart-beat for one, a named virtual host, or any login that has to
be verified, it leaves unread in the socket for the full program. So there is no state here that could be lost, and the
full program can take over at any time.

SIGTERM is the administrator's wish to end this client, which the full program heeds. The handler raises an exception to
end the wait of the lobby, and only while it waits.
"""

from __future__ import annotations

import select
import signal
import socket
from collections.abc import Iterable
from dataclasses import replace
from time import monotonic
from types import FrameType

from forkbroker.child.child import ClientChild, Shared
from forkbroker.child.spare import Spare
from forkbroker.child.transport import PlainTransport
from forkbroker.posix import collector
from forkbroker.posix.titles import set_title
from forkbroker.session.connecting import Connecting
from forkbroker.session.session import Session
from forkbroker.session.setup import Setup
from forkbroker.stomp.negotiation import choose_version
from forkbroker.stomp.versions import Version
from forkbroker.wire.envelope import HEADER, VERSION
from forkbroker.wire.kinds import Kind

_MOST = 448
"""Octets of a plain CONNECT. What is longer than the interpreter's own blocks comes from another part of the heap."""
_COMMANDS = (b"CONNECT", b"STOMP")
_NAMES = frozenset((b"accept-version", b"host", b"login", b"passcode", b"heart-beat"))
_PLAIN = bytes(octet for octet in range(0x21, 0x7F) if octet not in b":\\")
"""Of values that mean the same in all versions: no colon, no backslash, no blank, no control octet."""
_PREPARED = b"CONNECT\naccept-version:%b\nhost:/\n\n\0"
_VERSIONS = ("1.0", "1.1", "1.2", "1.1,1.2", "1.2,1.1", "1.0,1.1", "1.1,1.0", "1.0,1.1,1.2", "1.2,1.1,1.0")
_SESSION = "0123456789abcdef"
_PEEK = int(socket.MSG_PEEK)
_CONNECTED = int(Kind.CONNECTED)
_PACK, _HEADER = HEADER.pack, HEADER.size


class Answers:
    """What a plain CONNECT is answered with. Made before the fork."""

    def __init__(self, shared: Shared) -> None:
        limits, self._is_strict = shared.limits, shared.policy.strict
        self._hosts = shared.permissions.hosts
        self._of_version: dict[bytes, tuple[bytes, bytes]] = {}
        self.most = min(_MOST, limits.max_login_frame, limits.max_header_line)
        """Octets of what may be answered here."""
        # a login has to be verified by the full program
        if shared.verifier is None and limits.max_command >= len("CONNECT") and limits.max_headers >= len(_NAMES):
            for versions in _VERSIONS:
                self._of_version[versions.encode()] = _ask(shared, versions)

    @property
    def versions(self) -> Iterable[bytes]:
        """All that plain CONNECTs may give as `accept-version`; none, where the full program answers them all."""
        return self._of_version

    def find(self, octets: bytes) -> tuple[bytes, bytes, bytes, bytes] | None:
        """`accept-version`, the login, and CONNECTED before and behind the client's number; None: the full program has
        to answer.
        """
        block, end, rest = octets.partition(b"\n\n\0")
        if not end or (rest and rest != b"\n") or len(octets) > self.most:
            return None
        lines = block.split(b"\n")
        if lines.pop(0) not in _COMMANDS:
            return None
        headers = {}
        for line in lines:
            name, colon, value = line.partition(b":")
            if not colon or name not in _NAMES or name in headers or value.translate(None, _PLAIN):
                return None
            headers[name] = value
        versions = headers.get(b"accept-version", b"")
        found = self._of_version.get(versions)
        if found is None or headers.get(b"heart-beat", b"0,0") != b"0,0":
            return None
        if self._is_strict and b"host" not in headers:
            return None
        if self._hosts.all and not self._is_for_all(headers.get(b"host")):
            return None
        return versions, headers.get(b"login", b""), found[0], found[1]

    def _is_for_all(self, name: bytes | None) -> bool:
        """Whether this is the default host, and it is everybody's."""
        host = self._hosts.find(None if name is None else name.decode(), is_strict=self._is_strict)
        return host is not None and host.is_default and not host.is_limited


def _ask(shared: Shared, versions: str) -> tuple[bytes, bytes]:
    """What `Connecting` says to a client that has these versions, before and behind its number."""
    sessions: list[Session] = []
    setup = Setup(shared.policy, shared.limits, _SESSION, bytes(32), shared.slots.try_acquire)
    connecting = Connecting(setup, sessions.append, 0.0)
    connecting.receive(f"CONNECT\naccept-version:{versions}\nhost:/\n\n\0".encode(), 0.0)
    before, _, behind = b"".join(connecting.unwritten.gather()).partition(_SESSION.encode())
    return before + shared.session_prefix.encode(), behind


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
    """One client that has not said more than CONNECT.

    Made before the fork that it is meant for, with sockets that get their descriptors after it.
    """

    def __init__(self, spare: Spare, shared: Shared, answers: Answers, bell: Bell) -> None:
        """The client of this spare is served."""
        end, client = spare.end, spare.client
        self._spare = spare
        self._end = end
        self._client = client
        self._shared = shared
        self._answers = answers
        self._bell = bell
        self._timeout_ms = shared.policy.connect_timeout_s * 1000
        self._said = [(client.fileno(), select.POLLIN)]
        self._poll = select.poll()
        self._poll.register(end.fileno(), select.POLLIN)
        self._poll.register(client.fileno(), select.POLLIN)
        self._address, self._peer, self._began = "", 0, 0.0
        self._login = b""
        self._read = b""
        self._written = 0
        self._children: dict[bytes, ClientChild] = {}
        """What was prepared, by what a client gives as `accept-version`."""
        self._child: ClientChild | None = None
        """That of them which can go on here."""

    def prepare(self) -> None:
        """Begin the full program for clients of each version, to have it when the lobby is left.

        What is made before the fork lies on few pages, and is made once for all. To be called behind the rehearsal.
        """
        # whose limits the clients have is not known yet, and they must not be this process's
        shared = replace(self._shared, permissions=replace(self._shared.permissions, quotas={}))
        of_version: dict[Version | None, ClientChild] = {}
        for versions in self._answers.versions:
            connect, version = _PREPARED % versions, choose_version(versions.decode())
            if self._answers.find(connect) is None:
                continue  # the default host, whose name this always is, is not for all: nobody is answered here
            if version not in of_version:
                child = ClientChild(self._end, PlainTransport(self._client), "", shared, 0)
                child.go_on(connect)
                of_version[version] = child
            self._children[versions] = of_version[version]

    def serve(self, address: str, peer: int) -> int:
        """Serve the client until it is gone; returns the exit status of the process. Both sockets are closed then."""
        if self.meet(address, peer):
            self.wait()
        collector.begin()
        return serve_in_full(self.leave(), self._bell)

    def meet(self, address: str, peer: int) -> bool:
        """Wait for the first octets; tell whether they were a plain CONNECT, which was answered."""
        # a client is there: what has come before was not meant for it
        self._bell.has_rung = False
        self._address, self._peer, self._began = address, peer, monotonic()
        set_title(f"client {address} 0 subscriptions")
        client = self._client
        if self._bell.poll(self._poll, self._timeout_ms) != self._said:
            return False
        try:
            octets = client.recv(self._answers.most + 1, _PEEK)
            found = self._answers.find(octets)
            if found is None:
                return False
            versions, login, before, behind = found
            size = len(login)
            self._end.send(_PACK(_HEADER + size, VERSION, _CONNECTED, 0, 0, 0, 0, 0, 0, 0, size, 0, 0) + login)
            self._read = client.recv(len(octets))
            answer = b"%b%d%b" % (before, peer, behind)
            self._written = client.send(answer)
            if self._written == len(answer):
                self._child = self._children.get(versions)
        except OSError:  # the full program will meet it as well
            return False
        self._login = login
        if login:
            set_title(f"client {address} {login.decode()} 0 subscriptions")
        return True

    def wait(self) -> None:
        """Wait for whatever comes next."""
        self._bell.poll(self._poll, None)

    def leave(self) -> ClientChild:
        """The full program, at the point that was reached here."""
        prepared = self._child
        if prepared is not None:
            prepared.adopt(self._shared, self._address, self._login.decode(), self._peer, len(self._read))
            return prepared
        transport = PlainTransport(self._spare.take_client())
        child = ClientChild(self._end, transport, self._address, self._shared, self._peer, self._began)
        if self._read:
            child.go_on(self._read, self._written)
        return child


def serve_in_full(child: ClientChild, bell: Bell) -> int:
    """Let the full program serve a client to its end; returns the exit status of the process."""
    child.obey_signals()
    if bell.has_rung:
        child.end_soon()
    return child.run()
