"""One client's process: moves octets between the client's socket, the session's rules and the channel to the parent.

A turn of its loop reads what is there, lets the session work, tells the parent what it must know, writes to the client,
and tells the parent what the writing has settled (`ack:auto`). A claim alone is nothing that the parent must know, so
a client may see a message before the parent knows who has claimed it. Killed in between, nothing is lost or doubled
unmarked: the semaphore tells the parent that the claim was made.

It reads the channel whatever the client does, as the parent must be able to rely on that; it reads the client only
while there is room for what that may cause. When the parent is gone this process has no purpose, and ends at once.

SIGTERM ends the client politely: ERROR with the reason, and what it has not settled is returned, which is no crash. A
signal that was sent to all processes of the broker is another matter, as the parent has got it too and ends in good
order; so the child waits for a moment whether QUIESCE comes, and then obeys the parent only.
"""

from __future__ import annotations

import math
import os
import selectors
import signal
import socket
from contextlib import suppress
from dataclasses import dataclass

from forkbroker.child.lingering import linger, write_rest
from forkbroker.child.transport import PlainTransport, Transport
from forkbroker.errors import Exit
from forkbroker.posix.crashpoints import reach as crash
from forkbroker.posix.loop import Deadline, Loop
from forkbroker.posix.semaphores import SemaphorePool
from forkbroker.posix.signals import Signals
from forkbroker.posix.titles import set_title
from forkbroker.session.connecting import Connecting
from forkbroker.session.policy import SessionPolicy
from forkbroker.session.session import Session
from forkbroker.session.setup import Setup
from forkbroker.stomp.limits import Limits
from forkbroker.wire.channel import READ_SIZE, Channel
from forkbroker.wire.kinds import Kind

_UP_LIMIT = 1_048_576
"""Octets that wait for the parent above which the client is not read."""
_DOWN_LIMIT = 8_388_608
"""Octets that wait for the client above which it is not read: who sends has to read the answers."""
_WRITES = 8
"""Gather writes to the client in one turn: the parent wants to be read as well."""
_FLUSH_S = 2.0
"""How long a client that the session is done with may take to read the rest."""
_TELL_AFTER_S = 0.005
"""How long a claim waits for something else to be told: with a worker that acknowledges at once the parent is woken
once a message and not twice."""
_PORTION = 65_536
"""Octets read at first of what a client sends that asks for receipts: who waits for those of a hundred persistent
messages gets a part of them while the store commits the rest (a third more messages a second)."""
_TERM_AFTER_S = 0.5
"""Between SIGTERM and the end of the client, in which the parent may say that the broker ends. `kill` of a process
group takes microseconds, a service manager that signals each of 2,000 processes some milliseconds."""
TERM_REASON = "disconnected by the administrator"
_TITLE_EVERY_S = 0.5
_CRASH_AFTER: dict[int, str] = {
    Kind.CLAIMED: "child.claim-told",
    Kind.LOST: "child.lost-told",
    Kind.SETTLE: "child.settled",
}
"""Fault seams behind the telling of these; the kind is the sixth octet of an envelope."""


@dataclass(frozen=True, slots=True)
class Shared:
    """What all children of a broker have in common, made before the first fork."""

    policy: SessionPolicy
    limits: Limits
    slots: SemaphorePool
    max_envelope: int
    """Octets of the largest envelope that the parent may send."""


def main(end: socket.socket, client: socket.socket, address: str, shared: Shared) -> int:
    """Serve one client until it is gone; returns the exit status of the process.

    `end` is this process's end of the channel, `client` the accepted socket, `address` the client's for the title.
    Both sockets are closed on return.
    """
    child = ClientChild(end, PlainTransport(client), address, shared)
    child.obey_signals()
    return child.run()


class ClientChild:
    """What the process of one client owns."""

    def __init__(self, end: socket.socket, transport: Transport, address: str, shared: Shared) -> None:
        # poll(2) needs no descriptor of its own: with an epoll for each of 2,000 clients the limit comes sooner
        self._loop = Loop(selectors.PollSelector())
        self._transport = transport
        self._read, self._read_into, self._write = transport.read, transport.read_into, transport.write
        self._address = address
        self._channel = Channel(end, max_envelope=shared.max_envelope)
        now = self._loop.now
        at_point = None if crash is None else self._reach
        session_id, secret = os.urandom(8).hex(), os.urandom(32)
        setup = Setup(shared.policy, shared.limits, session_id, secret, shared.slots.try_acquire, at_point)
        self._phase: Connecting | Session = Connecting(setup, self._begin_session, now)
        self._deadline: Deadline | None = None
        self._armed_for = math.inf
        self._client_fd = transport.socket.fileno()
        self._channel_fd = end.fileno()
        self._reads = True
        self._is_watched = True
        self._most = READ_SIZE
        self._writes = False
        self._flush_until: float | None = None
        self._tell_by = math.inf
        self._client_is_lost = False
        self._is_termed = False
        self._titled_count = -1
        self._titled_at = now - _TITLE_EVERY_S

    def _reach(self, point: str) -> None:
        if crash is not None:
            crash(point, self._phase.login)

    def _begin_session(self, session: Session) -> None:
        """The client is connected. The title has to be shown again, with the login."""
        self._phase = session
        self._titled_count = -1

    def obey_signals(self) -> None:
        """Take SIGTERM as the administrator's wish to end this client. For a process that serves nothing else."""
        Signals(self._loop, {signal.SIGTERM: self._term})

    def _term(self) -> None:
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
        phase, now = self._phase, self._loop.now
        try:
            buffer = phase.body_buffer()
            if buffer is not None:
                octets = self._read_into(buffer)
                if octets:
                    phase.body_received(octets, now)
                    return
            else:
                fences = phase.fences
                data = self._read(self._most)
                if data:
                    phase.receive(data, now)
                    is_all = len(data) < self._most
                    self._most = _PORTION if is_all and self._phase.fences != fences else READ_SIZE
                    return
        except BlockingIOError:
            return
        except OSError as error:
            self._lose_client(error)
            return
        phase.end_of_input(now)

    def _read_channel(self) -> None:
        channel, now = self._channel, self._loop.now
        for envelope in channel.receive():
            self._phase.receive_envelope(envelope, now)
        if channel.closed:
            self._loop.stop()

    def _end_turn(self) -> None:
        """Write what this turn has yielded. Runs with every message of a worker: as little as may be."""
        now, phase = self._loop.now, self._phase
        if now >= phase.wake_at:
            phase.tick(now)
        if phase.is_urgent():
            self._write_parent()
        if phase.unwritten.pending or self._transport.wants_writable:
            self._write_client(now)
        if phase.is_urgent() or now >= self._tell_by or phase.is_finished or self._channel.pending:
            self._write_parent()
        elif self._tell_by == math.inf and phase.has_claimed:
            self._tell_by = now + _TELL_AFTER_S
        if phase.is_finished:
            self._leave(now)
            return
        self._watch_client()
        if phase.subscription_count != self._titled_count:
            self._show_title(now)
        wake_at = min(phase.wake_at, self._tell_by)
        if wake_at < self._armed_for:
            self._arm(wake_at)

    def _write_parent(self) -> None:
        self._tell_by = math.inf
        channel = self._channel
        told = self._phase.take_envelopes()
        for buffers in told:
            channel.send(buffers)
        self._loop.want_writable(self._channel_fd, bool(channel.pending) and not channel.flush())
        if crash is not None:
            for point in filter(None, (_CRASH_AFTER.get(buffers[0][5]) for buffers in told)):
                self._reach(point)

    def _write_client(self, now: float) -> None:
        unwritten = self._phase.unwritten
        try:
            for _ in range(_WRITES):
                self._phase.written(self._write(unwritten.gather()), now)
                if not unwritten.pending:
                    if self._phase.delivered:
                        self._reach("child.delivered")
                    break
        except BlockingIOError:
            pass
        except OSError as error:
            self._lose_client(error)

    def _lose_client(self, error: OSError) -> None:
        """The client is gone. What it had sent before counts all the same (R03): nothing reads it but this."""
        self._client_is_lost = True
        with suppress(OSError):
            while self._phase.wants_input and (data := self._read(READ_SIZE)):
                self._phase.receive(data, self._loop.now)
        self._phase.connection_lost(f"connection lost, {error.strerror}")

    def _watch_client(self) -> None:
        phase, pending = self._phase, self._phase.unwritten.pending
        reads = phase.wants_input and self._channel.pending < _UP_LIMIT and pending < _DOWN_LIMIT
        if reads is not self._reads:
            phase.input_paused(self._loop.now)
            self._reads = reads
        watched, writes = reads and self._transport.wants_readable, pending > 0 or self._transport.wants_writable
        if watched is not self._is_watched:
            self._is_watched = watched
            self._loop.want_readable(self._client_fd, watched)
        if writes is not self._writes:
            self._writes = writes
            self._loop.want_writable(self._client_fd, writes)

    def _leave(self, now: float) -> None:
        """The session is over: write what is left of it, tell the parent, go."""
        if self._flush_until is None:
            self._flush_until = now + _FLUSH_S
            self._loop.want_readable(self._client_fd, False)
            self._loop.call_at(self._flush_until, self._do_nothing)
        if self._phase.unwritten.pending and not self._client_is_lost and now < self._flush_until:
            self._loop.want_writable(self._client_fd, True)
            return
        self._loop.stop()
        if not self._client_is_lost:
            self._transport.shut_down()
        # The channel is closed before the client is waited for: what is unsettled goes to others now.
        self._channel.send(self._phase.take_leaving())
        write_rest(self._channel)
        self._channel.close()
        if self._client_is_lost:
            self._transport.socket.close()
        else:
            linger(self._transport.socket)

    def _arm(self, when: float) -> None:
        """See to it that there is a turn at that time. One deadline is enough: a later one is armed when it is over."""
        if self._deadline is not None:
            self._deadline.cancel()
        self._armed_for = when
        self._deadline = self._loop.call_at(when, self._disarm)

    def _disarm(self) -> None:
        self._armed_for = math.inf

    def _show_title(self, now: float) -> None:
        """`ps` is the dashboard: who this process serves."""
        if now < self._titled_at + _TITLE_EVERY_S:
            if self._titled_at + _TITLE_EVERY_S < self._armed_for:
                self._arm(self._titled_at + _TITLE_EVERY_S)
            return
        phase = self._phase
        self._titled_at = now
        self._titled_count = count = phase.subscription_count
        login = f" {phase.login}" if phase.login else ""
        set_title(f"client {self._address}{login} {count} subscription{'' if count == 1 else 's'}")
