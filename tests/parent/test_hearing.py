"""What a child may say, when, and to whom it goes; a child that says more than a turn permits waits."""

from __future__ import annotations

import socket

import pytest
from parts import logger_of
from puppet import Switchboard

from forkbroker.errors import EnvelopeError
from forkbroker.parent.admission import Admission, AdmissionPolicy
from forkbroker.parent.channels import Channels
from forkbroker.parent.entitling import Entitling
from forkbroker.parent.flow import FlowPolicy
from forkbroker.parent.hearing import Hearing
from forkbroker.parent.roster import Client
from forkbroker.parent.tails import Tails
from forkbroker.permissions import Permissions
from forkbroker.posix.loop import Loop
from forkbroker.routing.peers import Peer
from forkbroker.wire.channel import Channel, open_pair
from forkbroker.wire.envelope import Envelope, pack
from forkbroker.wire.kinds import FROM_CHILD, HEEDED, Cause, ChildState, Flag, Kind
from forkbroker.wire.receive_memory import ReceiveMemory


class Slow(Switchboard):
    """Notes what it is given, and answers FENCED; applies one envelope in a turn if the test says so."""

    def __init__(self) -> None:
        super().__init__(logger_of([]))
        self.happened: list[str] = []
        self.is_slow = False
        self.waiting: dict[Peer, list[Envelope]] = {}

    def receive(self, peer: Peer, envelope: Envelope, now: float) -> None:
        if self.is_slow:
            self.waiting.setdefault(peer, []).append(envelope)
        else:
            self._apply(peer, envelope)

    def _apply(self, peer: Peer, envelope: Envelope) -> None:
        self.happened.append(envelope.kind.name)
        self.out.append((peer, pack(Kind.FENCED)))

    def go_on(self, peer: Peer, now: float) -> None:
        self._apply(peer, self.waiting[peer].pop(0))
        if not self.waiting[peer]:
            del self.waiting[peer]

    def tick(self, now: float) -> bool:
        self.happened.append("tick")
        return True


class Bench:
    """One child without a process, whose end of the channel is the test's."""

    def __init__(self) -> None:
        self.loop, self.lines, self.router = Loop(), list[str](), Slow()
        logger = logger_of(self.lines)
        self.channels = Channels(self.loop, self.router, FlowPolicy(), ReceiveMemory(0))
        self.admission = Admission(AdmissionPolicy(), str, 0.0)
        self.entitling = Entitling(Permissions(), str)
        self.failed: list[Client] = []
        self.kicked: list[str] = []
        self.tails = Tails(self.channels)
        self.hearing = Hearing(
            self.channels,
            self.admission,
            self.entitling,
            self.tails,
            self._quiet,
            self.failed.append,
            self._kick,
            logger,
        )
        ours, self.end = open_pair()
        channel = Channel(ours, max_envelope=100_000)
        self.child = Client(peer=Peer(1), pid=0, channel=channel, address="unix", host="", started=0.0)
        self.admission.add(self.child.peer, "", 0.0)
        self.channels.join(self.child, self.hearing.receive, self._ended)

    def _ended(self, _: Client, fault: Exception | None) -> None:
        if fault is not None:
            raise fault

    def _kick(self, child: Client, reason: str, cause: Cause = Cause.DENIED) -> None:
        assert child is self.child
        self.kicked.append(f"{cause.name} {reason}")

    def _quiet(self, child: Client) -> None:
        self.router.happened.append(f"quiet with {child.channel.pending} pending")

    def say(self, *octets: bytes) -> list[str]:
        """What happens when the child says this."""
        self.end.sendall(b"".join(octets))
        self.hearing.receive(self.child)
        happened, self.router.happened = self.router.happened, []
        return happened

    def close(self) -> None:
        self.child.channel.close()
        self.end.close()
        self.loop.close()


def test_what_is_the_routers_goes_there_in_its_order(bench: Bench) -> None:
    """What follows from it is queued when all of it is applied."""
    bench.child.state = ChildState.CONNECTED

    assert bench.say(*pack(Kind.FENCE), *pack(Kind.SETTLE), *pack(Kind.READY)) == ["FENCE", "SETTLE", "READY"]
    assert bench.child.channel.pending == 3 * 48


@pytest.mark.parametrize("state", list(ChildState))
@pytest.mark.parametrize("kind", list(Kind))
def test_a_child_may_say_what_the_table_permits(bench: Bench, kind: Kind, state: ChildState) -> None:
    """In its state; all else names both."""
    bench.child.state, bench.child.is_proxied = state, True
    permission = FROM_CHILD.get(kind)
    if permission is not None and state in permission.states:
        happened = bench.say(*pack(kind))

        assert (kind.name in happened) is (kind not in HEEDED)
        assert bench.child.state is (permission.follows or state)
    else:
        with pytest.raises(EnvelopeError, match=f"{kind.name} is not permitted to a child that is {state.value}"):
            bench.say(*pack(kind))


def test_a_login_is_logged_and_counts(bench: Bench) -> None:
    """The next envelope of the same read is that of a client that has logged in."""
    assert bench.say(*pack(Kind.CONNECTED, destination=b"alice"), *pack(Kind.FENCE)) == ["FENCE"]
    assert bench.lines == ["client 1 unix alice: connected"]
    assert not bench.admission._pending


def test_the_fields_of_what_the_parent_heeds_are_checked(bench: Bench) -> None:
    """The router checks its own."""
    with pytest.raises(EnvelopeError, match="CONNECTED: token 9"):
        bench.say(*pack(Kind.CONNECTED, token=9))


def test_last_words_are_kept_for_the_log(bench: Bench) -> None:
    """With the figures; and nothing more will come."""
    said = pack(Kind.LEAVING, flags=Flag.WARNING, block=b"gone\x1b", number=7, serial=8, count=9)
    child = bench.child

    assert bench.say(*said) == ["quiet with 0 pending"]
    assert (child.reason, child.received, child.delivered, child.dropped) == (r"gone\x1b", 7, 8, 9)
    assert child.wants_attention


def test_a_failed_login_counts_before_the_client_has_connected_only(bench: Bench) -> None:
    """A child that says it later has been taken over by its client, or is wrong."""
    bench.say(*pack(Kind.LEAVING, token=1))
    assert bench.failed == [bench.child]
    bench.child.state, bench.child.has_connected = ChildState.CONNECTED, True
    bench.say(*pack(Kind.LEAVING, token=1))

    assert bench.failed == [bench.child]


@pytest.mark.parametrize(("login", "is_kicked"), [(b"alice", False), (b"bob", True), (b"", True)])
def test_a_login_of_a_user_that_was_removed_meanwhile_is_ended(bench: Bench, login: bytes, is_kicked: bool) -> None:
    """Its child was forked before the reload, and has verified it with the users of then."""
    bench.admission.adopt(AdmissionPolicy(users={"alice": "h"}))
    bench.say(*pack(Kind.CONNECTED, destination=login))

    assert bench.kicked == ["DENIED the user may not log in any more"] * is_kicked


def test_who_is_quiet_has_been_applied_before(bench: Bench) -> None:
    """The router has had its time, and what follows is queued: CLOSE may go out behind it."""
    bench.child.state = ChildState.CONNECTED

    assert bench.say(*pack(Kind.FENCE), *pack(Kind.QUIESCED)) == ["FENCE", "tick", "quiet with 48 pending"]
    assert bench.say(*pack(Kind.FENCE), *pack(Kind.LEAVING)) == ["FENCE", "quiet with 96 pending"]


def test_a_client_that_does_not_read_is_known_to_flow(bench: Bench) -> None:
    """Until it reads again."""
    bench.child.state = ChildState.CONNECTED
    bench.say(*pack(Kind.CONGESTED))
    assert bench.child.high == -1
    bench.say(*pack(Kind.RELIEVED))

    assert bench.child.high == FlowPolicy().high


def test_who_says_more_than_a_turn_permits_is_not_read_meanwhile(bench: Bench) -> None:
    """It is when all of it is applied."""
    bench.child.state, bench.router.is_slow = ChildState.CONNECTED, True
    bench.say(*pack(Kind.FENCE), *pack(Kind.READY))
    flow = bench.channels.flow
    held = [flow.is_held(bench.child)]
    for _ in range(2):
        bench.hearing.go_on(bench.child)
        held.append(flow.is_held(bench.child))

    assert held == [True, True, False]
    assert bench.router.happened == ["FENCE", "READY"]
    assert bench.child.channel.pending == 2 * 48


def test_nothing_said_is_no_lie(bench: Bench) -> None:
    """A read may bring half an envelope, or the end."""
    (raw,) = pack(Kind.FENCE)
    bench.child.state = ChildState.CONNECTED
    assert bench.say(bytes(raw[:10])) == []
    assert bench.say(bytes(raw[10:])) == ["FENCE"]
    bench.end.shutdown(socket.SHUT_RDWR)
    bench.hearing.receive(bench.child)

    assert bench.child.channel.closed


def test_a_proxys_client_has_the_address_that_its_process_has_read(bench: Bench) -> None:
    """Once, and only if it came from a proxy; it is ended if it may not be here."""
    bench.child.is_proxied = True
    bench.say(*pack(Kind.ADDRESS, destination=b"2001:db8::1", number=7))
    assert (bench.child.name, bench.child.host) == ("client 1 [2001:db8::1]:7", "2001:db8::1")
    with pytest.raises(EnvelopeError, match="no proxy has brought"):
        bench.say(*pack(Kind.ADDRESS, destination=b"2001:db8::1", number=7))
    bench.child.is_proxied = True
    for _ in range(9):
        bench.admission.login_failed(bench.child.peer, bench.loop.now)
    bench.say(*pack(Kind.ADDRESS, destination=b"2001:db8::1", number=7))
    assert bench.kicked[0].startswith("FULL too many failed logins, connect again in ")
