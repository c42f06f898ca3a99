"""The channels between processes and the router: what is queued is flushed once a turn."""

from __future__ import annotations

import socket

import pytest
from parts import logger_of, turn_until
from puppet import Switchboard

from forkbroker.errors import EnvelopeError
from forkbroker.parent import channels
from forkbroker.parent.channels import Channels
from forkbroker.parent.flow import FlowPolicy
from forkbroker.parent.roster import Client
from forkbroker.posix.loop import Loop
from forkbroker.routing.peers import Peer
from forkbroker.wire.channel import Channel, open_pair
from forkbroker.wire.envelope import Envelope, pack
from forkbroker.wire.kinds import Kind
from forkbroker.wire.receive_memory import ReceiveMemory

POLICY = FlowPolicy(high=1000, low=300)


class Bench:
    """The channels of children without processes: their ends are the test's."""

    def __init__(self) -> None:
        self.loop = Loop()
        self.router = Switchboard(logger_of([]))
        self.budget = ReceiveMemory(100_000)
        self.channels = Channels(self.loop, self.router, POLICY, self.budget)
        self.ends: list[socket.socket] = []
        self.children: list[Client] = []
        self.read: list[Client] = []
        self.ended: list[tuple[Client, Exception | None]] = []

    def join(self) -> Client:
        ours, theirs = open_pair()
        channel = Channel(ours, max_envelope=100_000)
        child = Client(peer=Peer(len(self.children)), pid=0, channel=channel, address="unix", host="", started=0.0)
        self.ends.append(theirs)
        self.children.append(child)
        self.channels.join(child, self.read.append, self.note_end)
        return child

    def note_end(self, child: Client, fault: Exception | None) -> None:
        self.ended.append((child, fault))

    def route(self, to: Client, size: int = 10) -> None:
        """The router wants an envelope to be sent."""
        (raw,) = pack(Kind.SEND, destination=b"%d" % to.peer, payload=[])
        self.router.receive(Peer(99), Envelope(bytes(raw)), 0.0)
        if size > 10:
            self.router.out[-1][1].append(bytes(size))

    def arrived(self, child: Client) -> int:
        """Octets that have come to the child's end."""
        try:
            return len(self.ends[child.peer].recv(1 << 20))
        except BlockingIOError:
            return 0

    def close(self) -> None:
        for child, end in zip(self.children, self.ends, strict=True):
            child.channel.close()
            end.close()
        self.loop.close()


def test_what_is_queued_is_written_at_the_turns_end(bench: Bench) -> None:
    """The router's envelopes and the parent's own in one write, in their order."""
    child = bench.join()
    bench.route(child)
    bench.channels.dispatch(None)
    bench.channels.send(child, pack(Kind.CLOSE))
    assert bench.arrived(child) == 0
    bench.channels.end_turn()

    octets = bench.ends[0].recv(1000)
    first = int.from_bytes(octets[:4], "big")
    assert [Envelope(octets[:first]).kind, Envelope(octets[first:]).kind] == [Kind.SEND, Kind.CLOSE]
    bench.channels.end_turn()
    assert bench.arrived(child) == 0


def test_what_is_for_somebody_who_is_gone_is_dropped(bench: Bench) -> None:
    """The others get theirs."""
    gone, child = bench.join(), bench.join()
    bench.channels.send(gone, pack(Kind.CLOSE))
    bench.channels.part(gone)
    bench.route(gone)
    bench.route(child)
    bench.channels.dispatch(None)
    bench.channels.end_turn()

    assert bench.arrived(gone) == 0
    assert bench.arrived(child) > 0
    assert gone.fd not in bench.loop._watched


def test_the_cause_of_too_much_is_held(bench: Bench) -> None:
    """And read again when what waits has gone; nobody is, if it has to be heard by all."""
    cause, target = bench.join(), bench.join()
    bench.route(target, 4_000_000)
    bench.channels.dispatch(None)
    assert not bench.channels.flow.is_held(cause)
    bench.route(target)
    bench.channels.dispatch(cause)
    assert bench.channels.flow.is_held(cause)
    bench.channels.end_turn()
    turn_until(bench.loop, lambda: bench.arrived(target) >= 0 and not target.channel.pending)

    assert not bench.channels.flow.is_held(cause)


def test_room_is_waited_for_only_while_something_waits(bench: Bench) -> None:
    """The loop does not spin on a channel that can be written to."""
    child = bench.join()
    bench.channels.send(child, [bytes(4_000_000)])
    bench.channels.end_turn()
    assert child.writing
    turn_until(bench.loop, lambda: bench.arrived(child) >= 0 and not child.channel.pending)

    assert not child.writing


def test_who_has_sent_something_is_read(bench: Bench) -> None:
    """By its owner, as long as it has not parted."""
    first, second = bench.join(), bench.join()
    for end in bench.ends:
        end.send(b"words")
    bench.channels.part(first)
    bench.loop.turn()

    assert bench.read == [second]


def test_who_waits_for_room_is_read_when_there_is_some(bench: Bench) -> None:
    """At a turn's end; not while the store is behind, as what was received is in memory as well."""
    child = bench.join()
    bench.budget.ask("somebody else", 1)
    assert not bench.budget.ask(child.channel, 100_000)
    child.channel.is_waiting = True
    bench.channels.flow.starved(child)
    bench.ends[0].send(b"more")
    bench.router._told = 1000
    bench.channels.end_turn()
    bench.budget.give_back("somebody else")
    bench.channels.end_turn()
    assert bench.channels.flow.is_held(child)
    bench.router._told = 0
    bench.channels.end_turn()
    bench.loop.turn()

    assert not child.channel.is_waiting
    assert bench.read == [child]


def test_at_the_parents_end_all_see_theirs(bench: Bench) -> None:
    """Every channel is closed."""
    for _ in range(2):
        bench.join()
    bench.channels.close()

    assert [end.recv(1) for end in bench.ends] == [b"", b""]


def test_fault_seams_are_behind_the_turn(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once for each turn in which an offer, or something for the store, was sent; or which was told to end so."""
    reached: list[str] = []
    monkeypatch.setattr(channels, "crash", lambda point, _: reached.append(point))
    child = bench.join()

    def pass_turn(*kinds: Kind) -> None:
        bench.router.out += [(child.peer, pack(kind)) for kind in kinds]
        bench.channels.dispatch(None)
        assert bench.arrived(child) == 0
        bench.channels.end_turn()
        assert bench.arrived(child) > 0 or not kinds

    pass_turn(Kind.SEND)
    pass_turn(Kind.OFFER, Kind.SEND)
    pass_turn(Kind.WRITE)
    bench.channels.crash_at_turn_end("parent.settled")
    pass_turn()
    pass_turn()

    assert reached == ["parent.offered", "parent.written", "parent.settled"]


def test_who_has_joined_a_process_is_told_how_its_reading_ended(bench: Bench) -> None:
    """What went wrong, or that the channel has ended; nothing else."""
    child = bench.join()
    fault = EnvelopeError("nonsense")

    def fail(_: Client) -> None:
        raise fault

    bench.channels.hear(child, bench.read.append, bench.note_end)
    assert bench.ended == []
    bench.channels.hear(child, fail, bench.note_end)
    assert bench.ended == [(child, fault)]
    bench.ends[child.peer].close()
    bench.channels.hear(child, lambda child: child.channel.receive(), bench.note_end)
    assert bench.ended == [(child, fault), (child, None)]
