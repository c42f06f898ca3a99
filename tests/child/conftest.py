"""A child's program in a process of its own; the test is its parent and its client."""

from __future__ import annotations

import mmap
import os
import select
import socket
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
from support.deadline import wait_until

from forkbroker.child import child
from forkbroker.child.answers import Answers
from forkbroker.child.lobby import Bell, Lobby
from forkbroker.child.spare import Spare
from forkbroker.child.transport import Transport
from forkbroker.child.verifying import Verifier
from forkbroker.posix.children import fork
from forkbroker.posix.semaphores import SemaphorePool
from forkbroker.session.policy import SessionPolicy
from forkbroker.stomp.limits import Limits
from forkbroker.wire.channel import Channel, open_pair
from forkbroker.wire.envelope import Buffer, Envelope
from forkbroker.wire.kinds import Kind

MAX_ENVELOPE = 16 << 20


@dataclass
class Play:
    """Both sides of one child."""

    pid: int
    client: socket.socket
    channel: Channel
    slots: SemaphorePool
    status: int | None = None

    def says(self, *commands: str | bytes) -> None:
        """Frames of the client, written without their NUL."""
        for command in commands:
            self.client.sendall((command.encode() if isinstance(command, str) else command) + b"\0")

    def hears(self, until: bytes, deadline_s: float = 10.0) -> bytes:
        """What the client is told, up to something."""
        heard = bytearray()

        def look() -> bool:
            try:
                heard.extend(self.client.recv(65_536))
            except BlockingIOError:
                return False
            return until in heard

        wait_until(look, f"{until!r} for the client", deadline_s)
        return bytes(heard)

    def tells(self, *envelopes: list) -> None:
        """Envelopes of the parent."""
        for buffers in envelopes:
            self.channel.send(buffers)
        wait_until(self.channel.flush, "room in the channel")

    def told(self, kind: Kind | None = None) -> list[Envelope]:
        """What the parent is told, up to an envelope of this kind, or to the end of the channel."""
        told: list[Envelope] = []

        def look() -> bool:
            told.extend(self.channel.receive())
            return self.channel.closed or any(envelope.kind is kind for envelope in told)

        wait_until(look, f"{kind!r} for the parent")
        return told

    def has_ended(self) -> bool:
        """Whether the process is gone; reaps it."""
        if self.status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.status = os.waitstatus_to_exitcode(status)
        return self.status is not None


class Watched(Bell):
    """A bell that says when it is waited for the first time."""

    def __init__(self, ready: int) -> None:
        super().__init__()
        self._ready = [ready]

    def poll(self, poll: select.poll, milliseconds: float | None) -> list[tuple[int, int]]:
        """As it does, after it is said."""
        if self._ready:
            os.write(self._ready.pop(), b".")
        return super().poll(poll, milliseconds)


@contextmanager
def playing(
    make_transport: Callable[[socket.socket], Transport] | None = None,
    policy: SessionPolicy | None = None,
    verifier: Verifier | None = None,
    kept: Sequence[int] = (),
) -> Iterator[Play]:
    """A child whose client has not sent anything; at the end the child ends by itself when both sides are gone.

    `kept`: descriptors that the verifier needs.

    It begins in the lobby, as all children do, but not with a transport of its own.
    """
    ours, theirs = open_pair()
    client, served = socket.socketpair()
    slots = SemaphorePool(4)
    shared = child.Shared(policy or SessionPolicy(), Limits(), slots, MAX_ENVELOPE, verifier=verifier)

    begun, ready = os.pipe()

    def serve() -> int:
        if make_transport is None:
            bell = Watched(ready)
            bell.hang()
            spare = Spare()
            one_client = Lobby(spare, shared, Answers(shared), bell)
            one_client.prepare()
            for socket_, place in ((theirs, spare.end), (served, spare.client)):
                os.dup2(socket_.fileno(), place.fileno(), inheritable=False)
                socket_.close()
            spare.end.setblocking(False)
            return one_client.serve("test", 1)
        one = child.ClientChild(theirs, make_transport(served), "test", shared, 1)
        Bell().hang()
        one.obey_signals()
        os.write(ready, b".")
        return one.run()

    pid = fork(serve, [theirs.fileno(), served.fileno(), ready, *kept])
    for end in (theirs, served):
        end.close()
    os.close(ready)
    # from here on it obeys signals
    os.read(begun, 1)
    os.close(begun)
    client.setblocking(False)
    made = Play(pid, client, Channel(ours, max_envelope=MAX_ENVELOPE), slots)
    yield made
    made.client.close()
    made.channel.close()
    wait_until(made.has_ended, "the end of the child")
    slots.close()


@contextmanager
def counting_writes(
    make_transport: Callable[[socket.socket], Transport],
) -> Iterator[tuple[Play, Callable[[], int]]]:
    """As `playing`, and how often the child has called `write` of its transport."""
    with mmap.mmap(-1, mmap.PAGESIZE) as shared, memoryview(shared).cast("q") as counts:

        def make(connection: socket.socket) -> Transport:
            transport = make_transport(connection)
            write = transport.write

            def count(buffers: Iterable[Buffer]) -> int:
                counts[0] += 1
                return write(buffers)

            transport.write = count  # type: ignore[method-assign, misc]
            return transport

        with playing(make) as play:
            yield play, lambda: counts[0]


def has_ended(client: socket.socket) -> bool:
    """Whether the child has said all that it says to its client."""
    try:
        return not client.recv(65_536)
    except BlockingIOError:
        return False


@pytest.fixture
def play() -> Iterator[Play]:
    """A child with a plain transport."""
    with playing() as made:
        yield made


@pytest.fixture
def connected(play: Play) -> Play:
    """A child whose client has connected."""
    play.says("CONNECT\naccept-version:1.2\nhost:/\nlogin:alice\n\n")
    play.told(Kind.CONNECTED)
    play.hears(b"CONNECTED")
    return play
