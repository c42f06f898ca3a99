"""One client's process: moves octets between the client's socket, the session's rules and the channel to the parent.

A turn of its loop reads what is there, lets the session work, writes to the client, and tells the parent what it must
know, with what the writing has settled (`ack:auto`): one gather write for each of them. A claim alone is nothing that
the parent must know, so a client may see a message before the parent knows who has claimed it. Killed in between,
nothing is lost or doubled unmarked: the semaphore tells the parent that the claim was made.

A worker with prefetch 1 goes through all of this for each message. So what the end of a turn asks is an attribute of
somebody, and nobody is called who has nothing to do.

It reads the channel whatever the client does, as the parent must be able to rely on that; it reads the client only
while there is room for what that may cause. When the parent is gone this process has no purpose, and ends at once.

SIGTERM ends the client politely: ERROR with the reason, and what it has not settled is returned, which is no crash. A
signal that was sent to all processes of the broker is another matter, as the parent has got it too and ends in good
order; so the child waits for a moment whether QUIESCE comes, and then obeys the parent only.
"""

from __future__ import annotations

import math
import os
import signal
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic

from forkbroker.child.lingering import linger, write_rest
from forkbroker.child.transport import ClosedError, Transport, TransportError
from forkbroker.child.verifying import Verifier
from forkbroker.errors import Exit
from forkbroker.identity import Answer, Credentials, Identity
from forkbroker.permissions import Permissions, Quota, Rights
from forkbroker.posix.addresses import is_loopback, is_on_this_machine, name_client
from forkbroker.posix.blocks import give_back
from forkbroker.posix.crashpoints import reach as crash
from forkbroker.posix.loop import Loop
from forkbroker.posix.privileges import lower_limits
from forkbroker.posix.semaphores import SemaphorePool
from forkbroker.posix.signals import Wakeup
from forkbroker.posix.titles import set_title
from forkbroker.session.connecting import Connecting
from forkbroker.session.ending import HeartBeat
from forkbroker.session.policy import SessionPolicy
from forkbroker.session.session import Session
from forkbroker.session.setup import Habits, Setup
from forkbroker.stomp.limits import Limits
from forkbroker.wire.channel import BEGINNING, PLACE, FileChannel
from forkbroker.wire.envelope import Envelope, pack
from forkbroker.wire.kinds import Kind

_UP_LIMIT = 1_048_576
"""Octets that wait for the parent above which the client is not read."""
_DOWN_LIMIT = 8_388_608
"""Octets that wait for the client above which it is not read: who sends has to read the answers."""
_SIGTERM = int(signal.SIGTERM)
_WRITES = 8
"""Gather writes to the client in one turn: the parent wants to be read as well."""
_FLUSH_S = 2.0
"""How long a client that the session is done with may take to read the rest."""
_TELL_AFTER_S = 0.005
"""How long a claim waits for something else to be told: with a worker that acknowledges at once the parent is woken
once a message and not twice."""
_PORTION = PLACE[:65_536]
"""How much is read at first of what a client sends that asks for receipts: who waits for those of a hundred persistent
messages gets a part of them while the store commits the rest (a third more messages a second)."""
_TERM_AFTER_S = 0.5
"""Between SIGTERM and the end of the client, in which the parent may say that the broker ends. `kill` of a process
group takes microseconds, a service manager that signals each of 2,000 processes some milliseconds."""
_LARGE = 65_536
"""Octets that wait to be written, to either side, which will leave free memory behind."""
_IDLE_S = 1.0
"""How long nothing so large has come or gone when that memory is given back."""
TERM_REASON = "disconnected by the administrator"
_TITLE_EVERY_S = 0.5
NO_PERMISSIONS = Permissions()
HABITS = Habits()
_CRASH_AFTER: dict[Kind, str] = {
    Kind.CLAIMED: "child.claim-told",
    Kind.LOST: "child.lost-told",
    Kind.SETTLE: "child.settled",
    Kind.UNPARK: "child.settled",
    Kind.PARK: "child.parked",
}
"""Fault seams behind the telling of these, one by one or together."""


@dataclass(frozen=True, slots=True)
class Shared:
    """What all children of a broker have in common, made before the first fork."""

    policy: SessionPolicy
    limits: Limits
    slots: SemaphorePool
    max_envelope: int
    """Octets of the largest envelope that the parent may send."""
    session_prefix: str = ""
    """What the names of all sessions begin with: unique over restarts of the broker, and without `-`."""
    spin_s: float = 0.0
    """How long a wait may begin with polling; 0: it does not."""
    verifier: Verifier | None = None
    """None: any login is right."""
    permissions: Permissions = NO_PERMISSIONS
    """What the users may do."""

    def name_session(self, peer: int) -> str:
        """What CONNECTED tells as the session of the client with this number in the parent, which no other one has."""
        return f"{self.session_prefix}{peer}"


def show_title(address: str, login: str, count: int) -> None:
    """`ps` is the dashboard: who this process serves, and how many subscriptions the client has."""
    login = f" {login}" if login else ""
    set_title(f"client {address}{login} {count} subscription{'' if count == 1 else 's'}")


def _limit_process(quota: Quota) -> None:
    if quota.memory or quota.cpu or quota.nice:
        lower_limits(memory_bytes=quota.memory, cpu_s=quota.cpu, nice=quota.nice)


class ClientChild:
    """What the process of one client owns."""

    def __init__(
        self,
        end: socket.socket,
        transport: Transport,
        address: str,
        shared: Shared,
        peer: int,
        began: float | None = None,
        habits: Habits = HABITS,
        verified: tuple[Credentials, Answer] | None = None,
    ) -> None:
        """`end` is this process's end of the channel, `address` the client's, for the title.

        `peer` is the client's number in the parent, and `began` when it had connected (monotonic seconds): now.
        `habits` are those of clients of such a transport. `verified`: what the verifier has said of these credentials.
        """
        self._loop = Loop(spin_s=shared.spin_s)
        self._transport = transport
        self._read_into, self._write = transport.read_into, transport.write
        self._address = address
        self._is_local: bool | None = None
        """Whether the client is on this machine, if something else than its socket says so."""
        self._permissions = shared.permissions
        self._channel = FileChannel(end, max_envelope=shared.max_envelope)
        now = self._loop.now
        at_point = None if crash is None else self._reach
        session_id, secret = shared.name_session(peer), os.urandom(32)
        verifier = shared.verifier

        def verify(given: Credentials) -> Answer:
            assert verifier is not None
            if verified is not None and verified[0] == given:
                return verified[1]
            return verifier.verify(given, transport, self._address)

        setup = Setup(
            shared.policy,
            shared.limits,
            session_id,
            secret,
            shared.slots.try_acquire,
            None if verifier is None else verify,
            at_point,
            self._find_rights,
            shared.permissions,
            habits,
        )
        phase = Connecting(setup, self._begin_session, now if began is None else began)
        self._phase: Connecting | Session = phase
        # the same in both phases
        self._parser, self._unwritten, self._upward = phase.parser, phase.unwritten, phase.upward
        self._client_fd = transport.socket.fileno()
        self._channel_fd = end.fileno()
        self._place = PLACE
        self._reads = True
        self._is_watched = True
        self._writes = False
        self._waits_for_parent = False
        self._flush_until: float | None = None
        self._tell_by = math.inf
        self._tidy_at = math.inf
        self._client_is_lost = False
        self._is_told = False
        """The client that is lost has been told the end, which has to arrive."""
        self._is_termed = False
        self._titled_count = -1
        self._title_at = now

    def _reach(self, point: str) -> None:
        if crash is not None:
            crash(point, self._phase.login)

    def _find_rights(self, client: Identity) -> Rights:
        is_local = self._is_local
        if is_local is None:
            is_local = is_on_this_machine(self._transport.socket)
        return self._permissions.rights_of(client, is_local=is_local)

    def learn_address(self, host: str, port: int) -> None:
        """A proxy has said where the client is."""
        self._address, self._is_local = name_client(host, port), is_loopback(host)
        self._upward.request(pack(Kind.ADDRESS, number=port, destination=host.encode()))
        self._titled_count = -1

    def heard(self) -> None:
        """The client has shown that it is there, by octets that are none of the stream."""
        self._phase.receive(b"", self._loop.now)

    def call_every(self, seconds: float, callback: Callable[[], None]) -> None:
        """Call this again and again, as long as the client is served."""

        def call() -> None:
            callback()
            self.call_every(seconds, callback)

        self._loop.call_at(self._loop.now + seconds, call)

    def call_after(self, seconds: float, callback: Callable[[], None]) -> None:
        """Call this once, when so many seconds have passed."""
        self._loop.call_at(self._loop.now + seconds, callback)

    def _begin_session(self, session: Session) -> None:
        """The client is connected. The title has to be shown again, with the login."""
        _limit_process(session.rights.quota)
        self._phase = session
        self._titled_count = -1

    def go_on(self, octets: bytes, written: int | None = None) -> None:
        """Begin where the lobby has come to: the client's CONNECT was read, and the parent was told of it.

        So many octets of CONNECTED were written; None: all.
        """
        now = self._loop.now
        self._phase.receive(octets, now)
        self._upward.take()
        self._unwritten.written(self._unwritten.pending if written is None else written, now)
        self._titled_count = 0

    def adopt(self, shared: Shared, address: str, login: str, peer: int, octets: int, heart_beat: HeartBeat) -> None:
        """Serve this client, which was answered in the lobby; CONNECT and the beats had so many octets.

        For a child that was begun for a client that was not known yet, with such a CONNECT, and without quotas.
        Its socket has another descriptor now, under the same number. `heart_beat`: what the lobby has heeded.
        """
        session, loop = self._phase, self._loop
        assert isinstance(session, Session)
        self._transport.socket.setblocking(False)
        self._address, self._permissions = address, shared.permissions
        loop.now = self._title_at = now = monotonic()
        rights = self._find_rights(Identity(login))
        _limit_process(rights.quota)
        session.adopt(login, rights, shared.name_session(peer).encode(), os.urandom(32), octets, heart_beat, now)

    def repeat(self, octets: bytes, passed: int, written: int) -> None:
        """Read these SUBSCRIBEs, of which the lobby has told the parent.

        The parent has passed so many of their fences, and so many octets of their RECEIPTs were written.
        """
        now = self._loop.now
        self._phase.receive(octets, now)
        self._upward.take()
        if self._upward.asks_for_frames:
            self._channel.take_files()
        if passed:
            self._phase.receive_envelope(Envelope(pack(Kind.FENCED, number=passed)[0]), now)
            self._unwritten.written(written, now)
        self._titled_count = passed

    def obey_signals(self) -> Wakeup:
        """Take SIGTERM as the administrator's wish to end this client. For a process that serves nothing else.

        It has a handler: that of `Bell`, which nobody asks any more.
        """
        return Wakeup(self._loop, _SIGTERM, self.end_soon)

    def end_soon(self) -> None:
        """SIGTERM has come: end the client, unless the parent turns out to end as well."""
        if not self._is_termed:
            self._is_termed = True
            self._loop.call_at(self._loop.now + _TERM_AFTER_S, self._end_client)

    def _end_client(self) -> None:
        self._phase.end(TERM_REASON, self._loop.now)

    def run(self) -> int:
        """Turn until the session has ended, or the parent."""
        loop = self._loop
        loop.watch(self._client_fd, self._read_client, self._do_nothing)
        loop.watch(self._channel_fd, self._read_channel, self._do_nothing)
        loop.at_turn_end(self._end_turn)
        loop.run()
        return Exit.OK

    def _do_nothing(self) -> None:
        """Writable again, or a deadline: the turn's end does what is due."""

    def _read_client(self) -> None:
        phase, parser, upward, now = self._phase, self._parser, self._upward, self._loop.now
        try:
            if parser.body is not None and (place := parser.body_buffer()) is not None:
                octets = self._read_into(place)
                if octets:
                    phase.body_received(octets, now)
                    if parser.body is None:
                        self._place = BEGINNING
                    return
            else:
                place = self._place
                octets = self._read_into(place)
                if octets:
                    fence = upward.last_fence
                    phase.receive(bytes(place[:octets]), now)
                    is_all = octets < len(place)
                    self._place = _PORTION if is_all and upward.last_fence != fence else PLACE
                    return
        except BlockingIOError:
            return
        except OSError as error:
            self._lose_client(error)
            return
        phase.end_of_input(now)

    def _read_channel(self) -> None:
        channel, now = self._channel, self._loop.now
        envelopes = channel.receive()
        if channel.files:
            channel.give_files(envelopes)
        for envelope in envelopes:
            self._phase.receive_envelope(envelope, now)
        if channel.closed:
            self._loop.stop()

    def _end_turn(self) -> None:
        """Write what this turn has yielded. Runs with every message of a worker: as little as may be."""
        loop, channel, transport = self._loop, self._channel, self._transport
        phase, unwritten, upward = self._phase, self._unwritten, self._upward
        now = loop.now
        if transport.has_more and self._is_watched:
            self._read_client()
        if now >= phase.wake_at:
            phase.tick(now)
        if unwritten.pending or transport.wants_writable:
            self._write_client(now)
        phase.end_turn(now)
        ending = phase.ending
        if upward.is_urgent or channel.pending or now >= self._tell_by or ending.is_over:
            self._write_parent()
        elif upward.has_claimed and self._tell_by == math.inf:
            self._tell_by = now + _TELL_AFTER_S
        if ending.is_over:
            self._leave(now)
            return
        pending = unwritten.pending
        reads = not (phase.holds or ending.has_begun) and channel.pending < _UP_LIMIT and pending < _DOWN_LIMIT
        if reads is not self._reads:
            phase.input_paused(now)
            self._reads = reads
        reads = reads and transport.wants_readable
        if reads is not self._is_watched:
            self._is_watched = reads
            loop.want_readable(self._client_fd, reads)
        writes = pending > 0 or transport.wants_writable
        if writes is not self._writes:
            self._writes = writes
            loop.want_writable(self._client_fd, writes)
        if now >= self._tidy_at:
            self._tidy_at = math.inf
            give_back()
        wake_at = min(phase.wake_at, self._tell_by, self._tidy_at)
        if transport.has_more and reads:
            wake_at = now
        if len(phase.subscribed) != self._titled_count:
            if now >= self._title_at:
                self._show_title(now)
            else:
                wake_at = min(wake_at, self._title_at)
        loop.wake_at = wake_at
        loop.awaits = upward.last_fence > upward.passed

    def _write_client(self, now: float) -> None:
        unwritten = self._unwritten
        if unwritten.pending >= _LARGE:
            self._tidy_at = now + _IDLE_S
        try:
            for _ in range(_WRITES):
                if unwritten.files and (part := unwritten.next_file()) is not None:
                    unwritten.written(self._transport.write_file(*part), now)
                else:
                    unwritten.written(self._write(unwritten.gather()), now)
                if not unwritten.pending:
                    break
        except BlockingIOError:
            unwritten.in_hand = self._transport.in_hand
        except OSError as error:
            self._lose_client(error)
        if crash is not None and unwritten.delivered and not unwritten.pending:
            self._reach("child.delivered")

    def _write_parent(self) -> None:
        self._tell_by = math.inf
        channel = self._channel
        if self._upward.asks_for_frames and not channel.takes_files:
            channel.take_files()
        told = self._upward.take()
        for buffers in told:
            channel.send(buffers)
        if channel.pending >= _LARGE:
            self._tidy_at = self._loop.now + _IDLE_S
        waits = not channel.flush()
        if waits is not self._waits_for_parent:
            self._waits_for_parent = waits
            self._loop.want_writable(self._channel_fd, waits)
        if crash is not None:
            for envelope in (Envelope(b"".join(buffers)) for buffers in told):
                if envelope.kind is Kind.SETTLE and envelope.serial:
                    self._reach(_CRASH_AFTER[Kind.CLAIMED])
                if envelope.kind in _CRASH_AFTER:
                    self._reach(_CRASH_AFTER[envelope.kind])

    def _lose_client(self, error: OSError) -> None:
        """The client is gone. What it had sent before counts all the same (R03): nothing reads it but this."""
        self._client_is_lost = True
        with suppress(OSError):
            while self._phase.wants_input and (octets := self._read_into(PLACE)):
                self._phase.receive(bytes(PLACE[:octets]), self._loop.now)
        phase = self._phase
        phase.ending.is_warning |= isinstance(error, TransportError)
        self._is_told = isinstance(error, ClosedError)
        phase.connection_lost(str(error.strerror) if self._is_told else f"connection lost, {error.strerror}")

    def _leave(self, now: float) -> None:
        """The session is over: write what is left of it, tell the parent, go."""
        if self._flush_until is None:
            self._flush_until = now + _FLUSH_S
            self._loop.want_readable(self._client_fd, False)
            self._loop.call_at(self._flush_until, self._do_nothing)
        if self._unwritten.pending and not self._client_is_lost and now < self._flush_until:
            self._loop.want_writable(self._client_fd, True)
            return
        self._loop.stop()
        is_there = self._is_told or not self._client_is_lost
        if is_there:
            self._transport.shut_down(self._phase.ending.cause)
        # The channel is closed before the client is waited for: what is unsettled goes to others now.
        self._channel.send(self._phase.take_leaving())
        write_rest(self._channel)
        self._channel.close()
        if is_there:
            linger(self._transport.socket)
        else:
            self._transport.socket.close()

    def _show_title(self, now: float) -> None:
        phase = self._phase
        self._title_at = now + _TITLE_EVERY_S
        self._titled_count = len(phase.subscribed)
        show_title(self._address, phase.login, self._titled_count)
