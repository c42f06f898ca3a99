"""The nursery and its spares, between a parent that a test plays and the processes that they fork."""

from __future__ import annotations

import os
import signal
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from support.deadline import wait_until
from support.spares import spare_for

from forkbroker.child import nursery
from forkbroker.child.spare import Spare
from forkbroker.posix import births, children
from forkbroker.wire.channel import Channel, open_pair
from forkbroker.wire.envelope import Envelope, pack
from forkbroker.wire.kinds import Flag, Kind

IS_SIBLING = births.METHOD is births.Method.SIBLING


def greet(end: socket.socket, client: socket.socket, address: str, peer: int) -> int:
    """Tell the client what is known, and end with a status that stands for it."""
    client.sendall(f"{address} {peer} {end.gettimeout()}".encode())
    return 9


@dataclass
class Ward:
    """The parent's side."""

    pid: int
    channel: Channel
    heard: list[Envelope] = field(default_factory=list)
    ends: dict[int, int] = field(default_factory=dict)
    channels: list[Channel] = field(default_factory=list)

    def hear(self, kind: Kind, count: int = 1) -> list[Envelope]:
        """So many envelopes of this kind, at least."""

        def look() -> list[Envelope]:
            self.heard += self.channel.receive()
            found = [envelope for envelope in self.heard if envelope.kind is kind]
            return found if len(found) >= count else []

        return wait_until(look, kind.name)

    def order(self, number: int, count: int = 1) -> list[Channel]:
        """Spares, as so many channels to them."""
        pairs = [open_pair() for _ in range(count)]
        for _, theirs in pairs:
            theirs.setblocking(True)
        assert self.channel.hand(pack(Kind.SPARES, number=number), [theirs.fileno() for _, theirs in pairs])
        for _, theirs in pairs:
            theirs.close()
        made = [Channel(ours, max_envelope=1000) for ours, _ in pairs]
        self.channels += made
        return made

    def pids(self, count: int = 1) -> list[int]:
        """The numbers of so many processes that were told to be born."""

        def look() -> list[int]:
            self.heard += self.channel.receive()
            told = [envelope for envelope in self.heard if envelope.kind is Kind.BORN]
            found = [pid for envelope in told for (pid,) in struct.iter_unpack(">I", envelope.payload)]
            return found if len(found) >= count else []

        return wait_until(look, f"{count} spares")

    def status_of(self, pid: int) -> int:
        """How a process has ended that the test, or the nursery, reaps."""

        def look() -> bool:
            for ended in children.reap():
                self.ends[ended.pid] = ended.status
            for envelope in self.channel.receive() if not IS_SIBLING else ():
                self.heard.append(envelope)
                if envelope.kind is Kind.ENDED:
                    self.ends[envelope.number] = envelope.token
            return pid in self.ends

        wait_until(look, f"the end of process {pid}")
        return os.waitstatus_to_exitcode(self.ends[pid])


@pytest.fixture
def ward() -> Iterator[Ward]:
    """A nursery that has rehearsed; at the end it ends by itself."""
    ours, theirs = open_pair()
    pid = children.fork(lambda: nursery.main(theirs, lambda _: spare_for(greet)), [theirs.fileno()])
    theirs.close()
    made = Ward(pid, Channel(ours, max_envelope=1000))
    made.hear(Kind.REHEARSED)
    yield made
    for channel in [made.channel, *made.channels]:
        channel.close()
    assert made.status_of(pid) in (0, -signal.SIGKILL)
    while children.reap_one(options=0):
        pass


def test_a_spare_serves_the_client_that_it_gets(ward: Ward) -> None:
    """With its address and its number; its channel does not block any more."""
    [channel] = ward.order(5)
    [pid] = ward.pids()
    client, served = socket.socketpair()
    served.setblocking(False)
    assert channel.hand(pack(Kind.SERVE, number=42, destination=b"192.0.2.1:7"), [served.fileno()])
    served.close()
    client.settimeout(10.0)

    assert ward.hear(Kind.BORN)[0].number == 5
    assert client.recv(100) == b"192.0.2.1:7 42 0.0"
    client.close()
    if not IS_SIBLING:
        ward.channel.send(pack(Kind.REAP, number=pid))
        ward.channel.flush()
    assert ward.status_of(pid) == 9


def test_spares_that_are_ordered_later_have_what_the_nursery_was_told_meanwhile() -> None:
    """A client is played through with it before, each time."""
    played: list[bytes] = []
    reader, writer = os.pipe()

    def equip(equipment: bytes) -> nursery.SpareProgram:
        played.append(equipment)
        os.write(writer, b"%d" % len(played))

        def program(_end: socket.socket, client: socket.socket, _address: str, _peer: int) -> int:
            client.sendall(equipment or b"nothing")
            return 0

        return spare_for(program)

    ours, theirs = open_pair()
    pid = children.fork(lambda: nursery.main(theirs, equip), [theirs.fileno(), writer])
    theirs.close()
    os.close(writer)
    made = Ward(pid, Channel(ours, max_envelope=1000))
    for number, equipment in enumerate((b"nothing", b"more", b"x" * 1_000_000), 1):
        if number > 1:
            made.channel.send(pack(Kind.EQUIP, payload=[equipment]))
            wait_until(made.channel.flush, "room")
        made.hear(Kind.REHEARSED, number)
        [channel] = made.order(number)
        made.pids(number)
        client, served = socket.socketpair()
        assert channel.hand(pack(Kind.SERVE, number=number), [served.fileno()])
        served.close()
        with client, client.makefile("rb") as stream:
            client.settimeout(10.0)
            assert stream.read() == equipment
    for one in [made.channel, *made.channels]:
        one.close()

    assert made.status_of(pid) == 0
    while children.reap_one(options=0):
        pass
    assert os.read(reader, 100) == b"123"
    os.close(reader)


def test_a_spare_that_is_not_wanted_ends(ward: Ward) -> None:
    """With its channel."""
    ward.order(1)[0].close()
    [pid] = ward.pids()
    if not IS_SIBLING:
        ward.channel.send(pack(Kind.REAP, number=pid))
        ward.channel.flush()

    assert ward.status_of(pid) == 0


def test_the_log_is_followed_before_the_next_spare_is_forked() -> None:
    """The nursery goes on, and what is ordered behind that has the log."""
    reading, writing = os.pipe()
    ours, theirs = open_pair()

    def follow(level: str) -> None:
        os.write(writing, f"{level};".encode())

    def serve(end: socket.socket, client: socket.socket, address: str, peer: int) -> int:
        os.write(writing, b"spare;")
        return 0

    pid = children.fork(lambda: nursery.main(theirs, lambda _: spare_for(serve), follow), [theirs.fileno(), writing])
    theirs.close()
    os.close(writing)
    ward = Ward(pid, Channel(ours, max_envelope=1000))
    ward.hear(Kind.REHEARSED)
    ward.channel.send(pack(Kind.LOG))
    ward.channel.send(pack(Kind.LOG, block=b"debug"))
    [channel] = ward.order(1)
    ward.pids()
    client, served = socket.socketpair()
    assert channel.hand(pack(Kind.SERVE, number=1, destination=b"unix"), [served.fileno()])
    for end in (client, served):
        end.close()
    channel.close()
    said = b""
    while not said.endswith(b"spare;"):
        said += os.read(reading, 100)
    os.close(reading)
    ward.channel.close()

    assert said == b";debug;spare;"
    assert ward.status_of(pid) == 0
    while children.reap_one(options=0):
        pass


def test_spares_live_on_when_the_nursery_is_killed(ward: Ward) -> None:
    """And serve."""
    [channel] = ward.order(1)
    ward.pids()
    os.kill(ward.pid, signal.SIGKILL)
    assert ward.status_of(ward.pid) == -signal.SIGKILL
    client, served = socket.socketpair()
    assert channel.hand(pack(Kind.SERVE, number=1, destination=b"unix"), [served.fileno()])
    served.close()
    client.settimeout(10.0)

    assert client.recv(100).startswith(b"unix 1 ")
    client.close()


def test_no_spare_holds_what_is_anothers(ward: Ward) -> None:
    """The end of each is seen, as nobody else has a copy of its channel, nor of the nursery's."""
    channels = ward.order(1, 3)
    pids = ward.pids(3)
    for channel, pid in zip(channels, pids, strict=True):
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda channel=channel: not channel.receive() and channel.closed, "the end of a spare's channel")
    ward.order(2)
    [*_, last] = ward.pids(4)
    ward.channel.send(pack(Kind.CLOSE))
    if not IS_SIBLING:
        os.kill(last, signal.SIGKILL)
    ward.channel.flush()

    wait_until(lambda: not ward.channel.receive() and ward.channel.closed, "the end of the nursery's channel")


@pytest.mark.skipif(IS_SIBLING, reason="who forks spares does not reap them: FORKBROKER_BIRTHS=raw")
def test_a_spare_is_reaped_when_the_parent_asks_and_not_before(ward: Ward) -> None:
    """So its number is its own until then; with FINAL it is killed first, and a second time nothing happens."""
    ward.order(1)
    [pid] = ward.pids()
    os.kill(pid, signal.SIGSTOP)
    for flags in (0, Flag.FINAL, Flag.FINAL):
        ward.channel.send(pack(Kind.REAP, number=pid, flags=flags))
    ward.channel.flush()
    [ended] = ward.hear(Kind.ENDED)

    assert (ended.number, os.waitstatus_to_exitcode(ended.token)) == (pid, -signal.SIGKILL)
    assert ended.count > 1000
    ward.order(2)
    ward.pids(2)
    assert len(ward.hear(Kind.ENDED)) == 1


def test_a_clients_socket_says_what_it_is() -> None:
    """The object from before the fork does not know it: who decides by it would take each client for a local one."""
    spare = Spare()
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as client:
        accepted, _ = listener.accept()
        os.dup2(accepted.fileno(), spare.client.fileno(), inheritable=False)
        accepted.close()
        with spare.take_client() as taken:
            assert taken.family is socket.AF_INET
            assert taken.getpeername() == client.getsockname()
    spare.end.close()
