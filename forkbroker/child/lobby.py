"""The lobby: where a client is until it does more than connect and subscribe.

Most clients that cost memory do nothing but wait: they have sent a CONNECT like a thousand others, got CONNECTED, and
perhaps have subscribed to something where nothing happens. What a session needs for more than that would be touched for
them in vain, page by page. So a client is met by a few small functions. A *plain* CONNECT, and plain SUBSCRIBEs that
come one at a time, are answered with octets that were made before the fork (`answers`). Whatever else comes, from the
client or from the parent, is for the full program (`ClientChild`). It is told what has happened: the same octets were
read, and so many of what they are answered with were written.

The lobby decides nothing. It says what `Connecting` and `Session` say, and only where that depends on nothing but the
version and the names that are given. What it does not know, a named virtual host for one, or a pattern, it leaves
unread in the socket for the full program. So there is no state here that could be lost, and the full program can take
over at any time.

A login with a passcode is verified here, where that is asked for, by the same `Verifier`. Only a client that is the
user of this name, and nothing else is known of it, is answered here. All others are the full program's, a failed login
first of all; it is told what the verifier has said, and does not ask again.

Heart-beats are sent and heard here, by the session's own rule (`HeartBeat`). A client that is silent for too long, or
does not take a beat, is left to the full program.

SIGTERM is the administrator's wish to end this client, which the full program heeds. The handler raises an exception to
end the wait of the lobby, and only while it waits.
"""

from __future__ import annotations

import select
import signal
import socket
from dataclasses import replace
from time import monotonic
from types import FrameType

from forkbroker.child.answers import MOST, NEVER, Answers
from forkbroker.child.child import HABITS, ClientChild, Shared
from forkbroker.child.spare import Spare
from forkbroker.child.transport import PlainTransport
from forkbroker.errors import Exit
from forkbroker.identity import Answer, Credentials, Identity
from forkbroker.posix import collector
from forkbroker.posix.loop import LONGEST_WAIT_S
from forkbroker.posix.titles import set_title
from forkbroker.session.connecting import ASK_AGAIN_S
from forkbroker.session.downward import Unwritten
from forkbroker.session.ending import CLIENT_CLOSED, Ending, HeartBeat
from forkbroker.session.session import first_token
from forkbroker.session.setup import Habits
from forkbroker.stomp.encoder import HEART_BEAT
from forkbroker.stomp.negotiation import choose_version
from forkbroker.stomp.versions import Version
from forkbroker.wire.envelope import HEADER, VERSION
from forkbroker.wire.kinds import Kind

_PREPARED = b"CONNECT\naccept-version:%b\nhost:/\nlogin:-\npasscode:-\n\n\0"
_PEEK = int(socket.MSG_PEEK)
DONT_WAIT = int(socket.MSG_DONTWAIT)
"""The client's socket waits, as it is the full program that makes it non-blocking. A write in the lobby never does."""
_CONNECTED, _FENCED = int(Kind.CONNECTED), int(Kind.FENCED)
_PACK, _HEADER = HEADER.pack, HEADER.size


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


def _pack_farewell() -> bytes:
    ending = Ending()
    ending.finish(CLIENT_CLOSED)
    return b"".join(ending.pack_leaving(0, 0, 0))


_FAREWELL = _pack_farewell()
"""The last envelope of a client that has closed the connection."""


class Lobby:
    """One client that has said no more than CONNECT and SUBSCRIBE.

    Made before the fork that it is meant for, with sockets that get their descriptors after it.
    """

    # one block: with more than thirty attributes, CPython 3.11 has a dictionary beside each object
    __slots__ = (
        *("_address", "_answers", "_began", "_bell", "_child", "_children", "_client", "_end"),
        *("_ending_poll", "_first_token", "_heart_beat", "_ids", "_is_timed", "_login"),
        *("_octets", "_passed", "_peer", "_plain", "_poll", "_read", "_receipt", "_said", "_shared"),
        *("_spare", "_subscribed", "_timeout_ms", "_told", "_unsent", "_unwritten", "_verified", "_versions"),
        *("_written",),
    )

    def __init__(self, spare: Spare, shared: Shared, answers: Answers, bell: Bell, habits: Habits = HABITS) -> None:
        """The client of this spare is served; `habits` are those of such clients."""
        end, client = spare.end, spare.client
        self._spare = spare
        self._end = end
        self._client = client
        self._shared = shared
        self._answers = answers
        self._bell = bell
        self._timeout_ms = shared.policy.connect_timeout_s * 1000
        self._said = [(client.fileno(), select.POLLIN)]
        self._told = [(end.fileno(), select.POLLIN)]
        self._poll = select.poll()
        self._poll.register(end.fileno(), select.POLLIN)
        self._poll.register(client.fileno(), select.POLLIN)
        self._plain = PlainTransport(client)
        """For the verifier, which asks it nothing about clients that have a passcode."""
        self._ending_poll = select.poll()
        self._ending_poll.register(end.fileno(), select.POLLIN)
        self._verified: tuple[Credentials, Answer] | None = None
        """What the verifier has said."""
        self._address, self._peer = "", 0
        # a number that no code holds: to take it away is to write to its page
        self._began: float = 0
        self._versions, self._login = b"", b""
        self._unwritten = Unwritten()
        """It is empty, as what the lobby says is written at once; and knows when the last beat was."""
        self._heart_beat = HeartBeat(0, 0, self._unwritten, 0.0, habits.patience_s)
        self._is_timed = bool(habits.patience_s)
        """There are deadlines. Where there are none, nothing of a heart-beat is touched."""
        self._unsent = b""
        """What the kernel has not taken of what is no part of the stream: nothing, where the stream is all there is."""
        self._octets = 0
        """Of the CONNECT that was answered, and of the client's beats."""
        self._read = b""
        """That CONNECT, as long as the full program may have to read it again."""
        self._written = 0
        self._ids: list[bytes] = []
        """Of the subscriptions that the parent was told of, each with a fence."""
        self._subscribed = b""
        """The SUBSCRIBEs with which they were made."""
        self._passed = 0
        """The last fence that the parent has passed."""
        self._receipt = b""
        """What it is answered with that waits for the next one."""
        self._first_token = 0
        self._children: dict[bytes, ClientChild] = {}
        """What was prepared, by what a client gives as `accept-version`."""
        self._child: ClientChild | None = None
        """That of them which can go on here."""

    def prepare(self) -> None:
        """Begin the full program for clients of each version, to have it when the lobby is left.

        What is made before the fork lies on few pages, and is made once for all. To be called behind the rehearsal.
        """
        # whose limits the clients have is not known yet, and they must not be this process's
        permissions = replace(self._shared.permissions, quotas={})
        shared = replace(self._shared, permissions=permissions, verifier=None)
        of_version: dict[Version | None, ClientChild] = {}
        for versions in self._answers.versions:
            connect, version = _PREPARED % versions, choose_version(versions.decode())
            if self._answers.find(connect) is None:
                continue  # the default host, whose name this always is, is not for all: nobody is answered here
            if version not in of_version:
                child = of_version[version] = self._make_child(shared)
                child.go_on(connect)
            self._children[versions] = of_version[version]

    def _make_child(self, shared: Shared) -> ClientChild:
        """A child for the client that is to come."""
        return ClientChild(self._end, PlainTransport(self._client), "", shared, 0)

    def serve(self, address: str, peer: int) -> int:
        """Serve the client until it is gone; returns the exit status of the process. Both sockets are closed then."""
        if self.meet(address, peer):
            while self.attend():
                pass
            if self.bid_farewell():
                return Exit.OK
        collector.begin()
        return serve_in_full(self.leave(), self._bell)

    def meet(self, address: str, peer: int) -> bool:
        """Wait for the first octets; tell whether they were a plain CONNECT, which was answered."""
        # a client is there: what has come before was not meant for it
        self._bell.has_rung = False
        self._address, self._peer, self._began = address, peer, self._began or monotonic()
        set_title(f"client {address} 0 subscriptions")
        if self._bell.poll(self._poll, self._timeout_ms) != self._said:
            return False
        try:
            octets = self._look()
            found = self._answers.find(octets)
            if found is None:
                return False
            versions, login, passcode, beats, before, behind = found
            if passcode and not self._verify(login, passcode):
                return False
            size = len(login)
            self._end.send(_PACK(_HEADER + size, VERSION, _CONNECTED, 0, 0, 0, 0, 0, 0, 0, size, 0, 0) + login)
            self._read = self._take(octets)
            answer = b"%b%d%b" % (before, peer, behind)
            self._written = self._say(answer)
        except OSError:  # the full program will meet it as well
            return False
        self._login = login
        if login:
            set_title(f"client {address} {login.decode()} 0 subscriptions")
        if self._written != len(answer):
            return False
        self._child = self._children.get(versions)
        self._versions, self._written, self._octets = versions, 0, len(octets)
        if self._child is not None:
            # the passcode is not needed any more
            self._read, self._verified = b"", None
        if self._is_timed or beats != NEVER:
            self._is_timed = True
            self._heart_beat.agree(*beats)
            self._heart_beat.received_at = self._unwritten.written_at = monotonic()
        return True

    def _verify(self, login: bytes, passcode: bytes) -> bool:
        """Find out who the client is; tell whether it is the user of this name, and may be answered here."""
        verifier = self._shared.verifier
        assert verifier is not None
        credentials = Credentials(login.decode(), passcode.decode())
        until = monotonic() + self._shared.policy.connect_timeout_s
        while (answer := verifier.verify(credentials, self._plain, self._address)) is None:
            # others are being verified; the parent may have something to say meanwhile
            ready = self._bell.poll(self._ending_poll, ASK_AGAIN_S * 1000)
            now = monotonic()
            if ready or self._bell.has_rung or now >= until:
                self._began = now  # CONNECT has come in time, and the full program gives its login a time of its own
                return False
        self._verified = credentials, answer
        return answer == Identity(credentials.login)

    def _wait(self) -> list[tuple[int, int]]:
        """Wait for whatever comes next: what is ready; nothing, if there is something to do for the full program.

        Beats are sent and heard meanwhile.
        """
        if not self._is_timed:
            return self._bell.poll(self._poll, None)
        while not self._unsent:
            wait_s = min(max(0.0, self.deadline() - monotonic()), LONGEST_WAIT_S)
            ready = self._bell.poll(self._poll, wait_s * 1000)
            if ready == self._said:
                self._heart_beat.received_at = monotonic()
                if not self._hear():
                    return ready
            elif ready or self._bell.has_rung or not self.keep_up(monotonic()):
                return ready
        return []

    def deadline(self) -> float:
        """When `keep_up` is due (monotonic seconds); infinity: never."""
        return self._heart_beat.deadline()

    def keep_up(self, now: float) -> bool:
        """Time has passed: send a beat, if one is due; tell whether the lobby can go on."""
        if self._heart_beat.is_missing(now):
            return False
        if self._heart_beat.is_due(now):
            try:
                is_sent = self._beat()
            except OSError:  # the full program will meet it as well
                return False
            self._unwritten.written_at = now
            return is_sent
        return True

    def _beat(self) -> bool:
        """Send a beat; tell whether the kernel has taken all of it. Raises OSError."""
        return self._client.send(HEART_BEAT, DONT_WAIT) == len(HEART_BEAT)

    def _hear(self) -> bool:
        """Take the beats that have come; tell whether nothing else has."""
        try:
            octets = self._look()
            beats = len(octets) - len(octets.lstrip(HEART_BEAT))
            if beats:
                self._take(octets[:beats])
                self._octets += beats
        except OSError:  # the full program will meet it as well
            return False
        return 0 < beats == len(octets)

    def _look(self) -> bytes:
        """What has come of the client's stream, which stays where it is. Raises OSError."""
        return self._client.recv(self._answers.most + 1, _PEEK)

    def _take(self, octets: bytes) -> bytes:
        """Read these octets of the stream, which were looked at. Raises OSError."""
        return self._client.recv(len(octets))

    def _say(self, octets: bytes) -> int:
        """Write octets of the stream to the client; returns how many were written. Raises OSError."""
        return self._client.send(octets, DONT_WAIT)

    def attend(self) -> bool:
        """Wait for whatever comes next; tell whether it was for the lobby, and is done."""
        ready = self._wait()
        if self._child is None:
            return False
        try:
            if len(self._ids) > self._passed:
                return ready == self._told and self._confirm()
            return ready == self._said and self._subscribe()
        except OSError:  # the full program will meet it as well
            return False

    def _subscribe(self) -> bool:
        """Tell the parent of a subscription, if that is what the client has sent."""
        ids = self._ids
        if not ids:
            self._first_token = first_token(self._shared.name_session(self._peer).encode())
        fence = len(ids) + 1
        octets = self._look()
        found = self._answers.find_subscribe(octets, self._versions, self._first_token + len(ids), fence)
        if found is None or found[0] in ids or fence > MOST:
            return False
        self._end.send(found[1])
        self._subscribed += self._take(octets)
        ids.append(found[0])
        self._receipt = found[2]
        return True

    def _confirm(self) -> bool:
        """Let the client know that the parent has made the subscription, if that is what it has sent."""
        fence = len(self._ids)
        wanted = _PACK(_HEADER, VERSION, _FENCED, 0, 0, 0, 0, 0, fence, 0, 0, 0, 0)
        if self._end.recv(_HEADER, _PEEK) != wanted:
            return False
        self._end.recv(_HEADER)
        self._passed = fence
        login = f" {self._login.decode()}" if self._login else ""
        set_title(f"client {self._address}{login} {fence} subscription{'' if fence == 1 else 's'}")
        receipt, self._receipt = self._receipt, b""
        if not receipt:
            return True
        written = self._say(receipt)
        self._written += written
        return written == len(receipt)

    def bid_farewell(self) -> bool:
        """Tell the parent that the client has closed the connection, if it has, and has nothing; tell whether so.

        Monitors and load balancers connect to see whether a broker answers, and go.
        """
        if self._ids or self._bell.has_rung:
            return False
        try:
            if self._client.recv(1, _PEEK | DONT_WAIT):
                return False
            self._end.send(_FAREWELL)
        except OSError:  # the full program will meet it as well
            return False
        self._end.close()
        self._client.close()
        return True

    def leave(self) -> ClientChild:
        """The full program, at the point that was reached here."""
        prepared = self._child
        if prepared is not None:
            login = self._login.decode()
            prepared.adopt(self._shared, self._address, login, self._peer, self._octets, self._heart_beat)
            if self._ids:
                prepared.repeat(self._subscribed, self._passed, self._written)
            return prepared
        transport = PlainTransport(self._spare.take_client())
        child = ClientChild(
            *(self._end, transport, self._address, self._shared, self._peer, self._began), verified=self._verified
        )
        if self._read:
            child.go_on(self._read, self._written)
        return child


def serve_in_full(child: ClientChild, bell: Bell) -> int:
    """Let the full program serve a client to its end; returns the exit status of the process."""
    signals = child.obey_signals()
    if bell.has_rung:
        child.end_soon()
    status = child.run()
    signals.close()
    return status
