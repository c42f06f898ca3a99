"""Back-pressure: what waits is bounded, whoever causes it, and nobody waits for ever."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Sequence
from dataclasses import asdict

import pytest
from driven import Starter, is_alive, wait_until
from parts import pass_time

from forkbroker.parent.flow import HOLD_TOKEN, Flow, FlowPolicy
from forkbroker.parent.roster import Client, Process
from forkbroker.parent.setup import ParentPolicy
from forkbroker.posix.loop import Loop
from forkbroker.routing.peers import Peer
from forkbroker.wire.channel import Channel, open_pair
from forkbroker.wire.envelope import Buffer, Envelope, pack
from forkbroker.wire.kinds import Kind
from forkbroker.wire.receive_memory import ReceiveMemory

POLICY = FlowPolicy(high=1000, low=300, max_pending=5_000_000, stuck_checks=10)
SEND = pack(Kind.SEND, destination=b"/topic/a")


class Bench:
    """Children without processes: their channels' other ends are the test's."""

    def __init__(self) -> None:
        self.loop = Loop()
        self.sent: list[tuple[int, Kind, int]] = []
        self.budget = ReceiveMemory(200_000)
        self.flow = Flow(self.loop, POLICY, self.budget, self._send)
        self.ends: list[socket.socket] = []
        self.children: list[Client] = []
        self.read: list[int] = []

    def _send(self, child: Process, buffers: Sequence[Buffer]) -> None:
        envelope = Envelope(buffers[0])
        self.sent.append((child.peer, envelope.kind, envelope.token))

    def child(self) -> Client:
        ours, theirs = open_pair()
        number = len(self.children) + 1
        channel = Channel(ours, max_envelope=300_000, budget=self.budget)
        child = Client(peer=Peer(number), pid=0, channel=channel, address="unix", host="", started=0.0)
        self.flow.joined(child)
        self.loop.watch(child.fd, lambda: self.read.append(number), None)
        theirs.send(b"something to read")
        self.ends.append(theirs)
        self.children.append(child)
        return child

    def readable(self) -> set[int]:
        """Which children's channels are read in a turn."""
        self.read.clear()
        self.loop.call_at(self.loop.now, lambda: None)
        self.loop.turn()
        return set(self.read)

    def pass_time(self, seconds: float) -> None:
        """What is due meanwhile is done, without any waiting."""
        pass_time(self.loop, self.loop.now + seconds)

    def fill(self, child: Client, octets: int = 4_000_000) -> None:
        """Queue more than the kernel takes."""
        child.channel.send([bytes(octets)])

    def drain(self, child: Client) -> None:
        """Read everything that waits for the child, as its process would."""
        end = self.ends[child.peer - 1]
        while child.channel.pending:
            child.channel.flush()
            end.recv(1 << 20)

    def close(self) -> None:
        for child, end in zip(self.children, self.ends, strict=True):
            child.channel.close()
            end.close()
        self.loop.close()


def test_what_the_kernel_takes_holds_nobody(bench: Bench) -> None:
    """Before anyone is held the channel is flushed: a large envelope alone is no reason."""
    cause, target = bench.child(), bench.child()
    bench.fill(target, 100_000)
    bench.flow.exceeded(cause, target, SEND)

    assert target.channel.pending == 0
    assert not bench.flow.is_held(cause)


def test_who_makes_too_much_wait_is_not_read(bench: Bench) -> None:
    """The cause is held; others, and the target itself, are read on."""
    cause, target, other = bench.child(), bench.child(), bench.child()
    bench.fill(target)
    bench.flow.exceeded(cause, target, SEND)

    assert bench.flow.is_held(cause)
    assert bench.readable() == {target.peer, other.peer}


def test_it_is_read_again_below_the_low_mark(bench: Bench) -> None:
    """Between the marks nothing changes: no flapping."""
    cause, target = bench.child(), bench.child()
    bench.fill(target)
    bench.flow.exceeded(cause, target, SEND)
    target.channel.pending, real = POLICY.low, target.channel.pending
    bench.flow.flushed(target)
    assert bench.flow.is_held(cause)
    target.channel.pending = real
    bench.drain(target)
    bench.flow.flushed(target)

    assert not bench.flow.is_held(cause)
    assert bench.readable() == {cause.peer, target.peer}


def test_who_is_held_by_two_waits_for_both(bench: Bench) -> None:
    """The last one that has room lets it go."""
    cause, first, second = bench.child(), bench.child(), bench.child()
    for target in (first, second):
        bench.fill(target)
        bench.flow.exceeded(cause, target, SEND)
    bench.drain(first)
    bench.flow.flushed(first)
    assert bench.flow.is_held(cause)
    bench.drain(second)
    bench.flow.flushed(second)

    assert not bench.flow.is_held(cause)


@pytest.mark.parametrize("gone", ["target", "cause"])
def test_the_end_of_either_ends_a_hold(bench: Bench, gone: str) -> None:
    """Nobody waits for the dead, and the dead are forgotten."""
    cause, target = bench.child(), bench.child()
    bench.fill(target)
    bench.flow.exceeded(cause, target, SEND)
    bench.flow.gone(target if gone == "target" else cause)

    assert not bench.flow.is_held(cause)
    bench.drain(target)
    bench.flow.flushed(target)


def test_two_that_fill_each_other_are_both_let_go(bench: Bench) -> None:
    """Their channels drain whatever the parent does with the other direction."""
    alice, bob = bench.child(), bench.child()
    for cause, target in ((alice, bob), (bob, alice), (alice, alice)):
        bench.fill(target)
        bench.flow.exceeded(cause, target, SEND)
    assert bench.readable() == set()
    for child in (alice, bob):
        bench.drain(child)
        bench.flow.flushed(child)

    assert bench.readable() == {alice.peer, bob.peer}


def test_time_itself_holds_nobody(bench: Bench) -> None:
    """What follows from a deadline has no cause that could be held."""
    target = bench.child()
    bench.fill(target)
    bench.flow.exceeded(None, target, SEND)

    assert bench.readable() == {target.peer}


def test_publishers_of_a_congested_client_are_told_to_hold(bench: Bench) -> None:
    """Its channel is empty: the publishers are told, once each, and are read on."""
    publisher, subscriber = bench.child(), bench.child()
    bench.flow.congested(subscriber)
    for _ in range(3):
        assert subscriber.channel.pending > subscriber.high
        bench.flow.exceeded(publisher, subscriber, SEND)

    assert bench.sent == [(publisher.peer, Kind.HOLD, HOLD_TOKEN)]
    assert bench.readable() == {publisher.peer, subscriber.peer}
    bench.flow.relieved(subscriber)
    assert bench.sent[1:] == [(publisher.peer, Kind.RESUME, HOLD_TOKEN)]
    assert subscriber.channel.pending < subscriber.high


def test_settling_for_a_congested_client_is_no_publishing(bench: Bench) -> None:
    """Who acknowledges a message and so makes room for an offer goes on."""
    worker, subscriber = bench.child(), bench.child()
    bench.flow.congested(subscriber)
    bench.flow.exceeded(worker, subscriber, pack(Kind.OFFER))
    bench.flow.exceeded(None, subscriber, SEND)
    bench.flow.exceeded(subscriber, subscriber, SEND)

    assert bench.sent == []


def test_two_congested_ones_hold_a_publisher_until_both_are_relieved(bench: Bench) -> None:
    """RESUME comes with the last relief."""
    publisher, first, second = bench.child(), bench.child(), bench.child()
    for subscriber in (first, second):
        bench.flow.congested(subscriber)
        bench.flow.exceeded(publisher, subscriber, SEND)
    bench.flow.relieved(first)
    assert [kind for _, kind, _ in bench.sent] == [Kind.HOLD, Kind.HOLD]
    bench.flow.gone(second)

    assert bench.sent[2:] == [(publisher.peer, Kind.RESUME, HOLD_TOKEN)]


def test_two_topics_of_a_publisher_are_two_accounts_but_one_hold(bench: Bench) -> None:
    """Held for one of them it is told nothing for the other, and goes on with the last relief."""
    publisher, subscriber = bench.child(), bench.child()
    bench.flow.congested(subscriber)
    bench.flow.exceeded(publisher, subscriber, SEND)
    bench.flow.exceeded(publisher, subscriber, pack(Kind.SEND, destination=b"/topic/b"))
    bench.flow.relieved(subscriber)

    assert [kind for _, kind, _ in bench.sent] == [Kind.HOLD, Kind.RESUME]


def hold_once(bench: Bench, publisher: Client, *, topic: bytes = b"/topic/a", used_s: float) -> list[Kind]:
    """A subscriber that does not read, for so long; what its publisher is told."""
    before = len(bench.sent)
    subscriber = bench.child()
    bench.flow.congested(subscriber)
    bench.flow.exceeded(publisher, subscriber, pack(Kind.SEND, destination=topic))
    bench.pass_time(used_s)
    bench.flow.gone(subscriber)
    return [kind for _, kind, _ in bench.sent[before:]]


def test_deaf_subscribers_one_after_the_other_share_the_time_of_their_topic(bench: Bench) -> None:
    """A second in a minute for all of them; then publishers are not held any more, until the minute is over."""
    publisher = bench.child()
    told = [hold_once(bench, publisher, used_s=0.4) for _ in range(6)]
    other = hold_once(bench, publisher, topic=b"/topic/b", used_s=0.4)
    bench.pass_time(60.0)
    later = hold_once(bench, publisher, used_s=0.4)

    assert told == [[Kind.HOLD, Kind.RESUME]] * 3 + [[]] * 3
    assert other == later == [Kind.HOLD, Kind.RESUME]


def test_a_hold_ends_with_the_time_of_its_topic(bench: Bench) -> None:
    """All publishers of the topic go on, whichever subscriber they wait for; those of another topic do not."""
    first, second, other = bench.child(), bench.child(), bench.child()
    deaf = [bench.child() for _ in range(2)]
    for subscriber, publisher in zip(deaf, (first, second), strict=True):
        bench.flow.congested(subscriber)
        bench.flow.exceeded(publisher, subscriber, SEND)
    bench.pass_time(0.5)
    bench.flow.exceeded(other, deaf[0], pack(Kind.SEND, destination=b"/topic/b"))
    bench.pass_time(0.4)
    held = [kind for _, kind, _ in bench.sent]
    bench.pass_time(0.2)

    assert held == [Kind.HOLD] * 3
    assert sorted(bench.sent[3:]) == sorted((peer, Kind.RESUME, HOLD_TOKEN) for peer in (first.peer, second.peer))
    bench.flow.exceeded(first, deaf[1], SEND)
    assert len(bench.sent) == 5


def test_a_hold_that_ended_early_leaves_its_time_to_the_next_one(bench: Bench) -> None:
    """The end of the first one's time is not that of the second."""
    publisher = bench.child()
    hold_once(bench, publisher, used_s=0.3)
    bench.pass_time(0.5)
    subscriber = bench.child()
    bench.flow.congested(subscriber)
    bench.flow.exceeded(publisher, subscriber, SEND)
    bench.pass_time(0.6)
    assert [kind for _, kind, _ in bench.sent] == [Kind.HOLD, Kind.RESUME, Kind.HOLD]
    bench.pass_time(0.2)

    assert [kind for _, kind, _ in bench.sent[3:]] == [Kind.RESUME]


def test_who_is_relieved_and_then_reads_too_little_is_waited_for_as_everybody(bench: Bench) -> None:
    """The channel's own marks count again."""
    cause, target = bench.child(), bench.child()
    bench.flow.congested(target)
    bench.flow.relieved(target)
    bench.fill(target)
    bench.flow.exceeded(cause, target, SEND)

    assert bench.flow.is_held(cause)
    assert bench.sent == []


def test_a_congested_clients_full_channel_holds_nobody_in_addition(bench: Bench) -> None:
    """Publishers that were told HOLD must be read: their RELIEVED comes the same way."""
    cause, target = bench.child(), bench.child()
    bench.flow.congested(target)
    bench.fill(target)
    bench.flow.exceeded(cause, target, SEND)

    assert not bench.flow.is_held(cause)
    assert [kind for _, kind, _ in bench.sent] == [Kind.HOLD]


def test_a_publisher_that_ended_is_not_told_anything(bench: Bench) -> None:
    """Its name goes from all lists."""
    publisher, subscriber = bench.child(), bench.child()
    bench.flow.congested(subscriber)
    bench.flow.exceeded(publisher, subscriber, SEND)
    bench.flow.gone(publisher)
    bench.flow.relieved(subscriber)

    assert [kind for _, kind, _ in bench.sent] == [Kind.HOLD]


def checks_until_stuck(bench: Bench, child: Client, most: int = 50) -> int:
    """How many checks it takes."""
    for number in range(1, most):
        if bench.flow.check([child]):
            return number
    return most


def test_who_reads_nothing_for_ten_checks_is_stuck(bench: Bench) -> None:
    """The first check sees what was flushed since the last one, ten more see nothing move."""
    child = bench.child()
    bench.fill(child)
    child.channel.flush()

    assert checks_until_stuck(bench, child) == 12
    assert "has read nothing for 11 s" in bench.flow.describe_stuck(child)


def test_more_than_the_bound_shortens_the_patience(bench: Bench) -> None:
    """Above max-pending a tenth of the checks is enough."""
    child = bench.child()
    bench.fill(child, 8_000_000)
    child.channel.flush()

    assert checks_until_stuck(bench, child) == 3


def test_who_reads_slowly_is_not_stuck(bench: Bench) -> None:
    """A little progress at each check is progress."""
    child = bench.child()
    bench.fill(child, 40_000_000)
    for _ in range(30):
        child.channel.flush()
        assert not bench.flow.check([child])
        bench.ends[0].recv(400_000)


def test_who_has_nothing_to_read_is_not_stuck(bench: Bench) -> None:
    """Idle children are not looked at twice, and who was killed is not killed again."""
    idle, killed = bench.child(), bench.child()
    killed.killed = True
    bench.fill(killed)

    assert checks_until_stuck(bench, idle) == 50
    assert checks_until_stuck(bench, killed) == 50


def begin_large(bench: Bench, child: Client) -> None:
    """The child sends the beginning of an envelope that is too large for one read, and no end."""
    end = bench.ends[child.peer - 1]
    child.channel._socket.recv(1000)
    end.send(b"".join(pack(Kind.SEND, payload=[bytes(150_000)]))[:1000])
    assert child.channel.receive() == []
    end.send(b"something to read")
    if child.channel.is_waiting:
        bench.flow.starved(child)


def test_who_waits_for_room_is_not_read_until_there_is_some(bench: Bench) -> None:
    """The end of who has it gives it to the next one, and a hold goes on all the same."""
    first, second, third = bench.child(), bench.child(), bench.child()
    for child in (first, second, third):
        begin_large(bench, child)
    assert bench.readable() == {1}
    assert bench.flow.is_held(second)
    bench.fill(first)
    bench.flow.exceeded(second, first, SEND)

    bench.loop.forget(first.fd)
    first.channel.close()
    bench.flow.feed()
    assert bench.readable() == set()
    bench.flow.gone(first)
    assert bench.readable() == {2}
    assert not second.channel.is_waiting
    bench.flow.gone(third)
    assert not bench.flow.is_held(third)


def test_who_keeps_others_waiting_and_sends_nothing_is_stuck(bench: Bench) -> None:
    """A child that was stopped in the middle of its envelope; as long as nobody waits for it, it may."""
    first, second = bench.child(), bench.child()
    begin_large(bench, first)
    assert checks_until_stuck(bench, first) == 50
    begin_large(bench, second)

    assert checks_until_stuck(bench, first) == 11
    assert "has sent nothing of an unfinished message for 11 s" in bench.flow.describe_stuck(first)
    assert checks_until_stuck(bench, second) == 50
    first.channel.receive()
    assert not bench.flow.check([first])


def test_a_flood_leaves_a_bounded_amount_waiting(start: Starter) -> None:
    """The receiver is stopped: what waits in the parent stays near the mark, its memory too, and others go on."""
    broker = start()
    alice, bob, carol = (broker.logged_in(name) for name in ("alice", "bob", "carol"))
    peak = broker.measure()["peak"]
    bob.tell("stop")
    assert bob.line() == "stopping"
    alice.tell(f"flood {bob.peer} 10000")
    wait_until(lambda: broker.measure()["pending"] > 1 << 20, "the channel to fill")
    samples = [broker.measure() for _ in range(20)]

    assert max(sample["pending"] for sample in samples) < 3 << 20
    assert samples[-1]["peak"] - peak < 16 << 10
    carol.tell(f"send {carol.peer} 1")
    assert carol.line() == "got SEND 0 50"
    os.kill(bob.pid, signal.SIGCONT)
    bob.tell("quiet")
    wait_until(lambda: "got" in bob.line(), "the flood to go on")


def test_who_has_sent_more_than_a_turn_applies_is_not_read_before_it_is_applied(start: Starter) -> None:
    """Others are, meanwhile; and then it is read on."""
    broker = start()
    alice, bob = broker.logged_in("alice"), broker.logged_in("bob")
    alice.tell("kind LOST")
    # the same read may bring the envelopes behind it
    broker.await_log(rf"router: {alice.peer} has begun to wait")
    alice.tell(f"send {bob.peer} 10")
    bob.tell(f"send {alice.peer} 10")

    assert alice.line().startswith("got SEND ")
    assert "has been waited for" not in broker.log
    assert bob.line().startswith("got SEND ")
    assert f"router: {alice.peer} has been waited for" in broker.log
    assert "is to wait" not in broker.log


def test_who_dies_before_all_that_it_has_sent_is_applied_is_waited_for(start: Starter) -> None:
    """It is buried like everybody, and the others are served."""
    broker = start()
    alice, bob = broker.logged_in("alice"), broker.logged_in("bob")
    alice.tell("kind LOST")
    broker.await_log(rf"router: {alice.peer} has begun to wait")
    alice.tell("crash")

    broker.await_log(rf"router: {alice.peer} ended")
    broker.await_log(rf"router: {alice.peer} has been waited for")
    bob.tell(f"send {bob.peer} 10")
    assert bob.line().startswith("got SEND ")
    assert "that nobody expected" not in broker.log


def test_large_ones_that_have_no_room_at_once_come_one_after_the_other(start: Starter) -> None:
    """Whose turn it is is read on, whoever was first: nobody waits for ever."""
    broker = start(ParentPolicy(receive_memory=100_000))
    alice, bob, carol = (broker.logged_in(login) for login in ("alice", "bob", "carol"))
    for child in (alice, bob):
        child.tell(*[f"send {carol.peer} 3000000"] * 5)

    assert [carol.line().split()[1] for _ in range(10)] == ["SEND"] * 10


def test_a_stopped_child_is_ended_and_its_publisher_goes_on(start: Starter) -> None:
    """One stopped process doesn't hold the others for longer than its time."""
    broker = start(ParentPolicy(flow=FlowPolicy(check_interval_s=0.1, stuck_checks=5)))
    alice, bob, carol = (broker.logged_in(name) for name in ("alice", "bob", "carol"))
    carol.tell("quiet")
    bob.tell("stop")
    assert bob.line() == "stopping"
    alice.tell("flood all 10000")

    broker.await_log(r"^WARNING client 2 \S+ bob: killed, has read nothing for \d+ s, [\d,]+ bytes wait for it")
    broker.await_log("router: 2 ended")
    count = carol.count()
    wait_until(lambda: carol.count() > count + 5_000_000, "alice's flood to reach carol again")
    assert is_alive(alice.pid)


def test_two_that_flood_each_other_go_on(start: Starter) -> None:
    """Neither waits for the other: both receive, megabyte after megabyte, until they stop sending."""
    broker = start()
    alice, bob = broker.logged_in("alice"), broker.logged_in("bob")
    for client, other in ((alice, bob), (bob, alice)):
        client.tell("quiet", f"flood {other.peer} 20000")
    for mark in (10_000_000, 30_000_000, 60_000_000):
        wait_until(lambda mark=mark: min(alice.count(), bob.count()) > mark, f"{mark} bytes each way")  # type: ignore[misc]
    for client in (alice, bob):
        client.tell("calm")
    alice.tell("send 1 7")

    assert broker.measure()["pending"] < 4 << 20
    assert "killed" not in broker.log


def test_one_that_floods_itself_goes_on(start: Starter) -> None:
    """Cause and target may be one child."""
    broker = start()
    alice = broker.logged_in("alice")
    alice.tell("quiet", f"flood {alice.peer} 20000")

    wait_until(lambda: alice.count() > 50_000_000, "fifty megabytes")
    assert broker.measure()["pending"] < 4 << 20


def test_congestion_is_told_to_publishers_and_relief_too(start: Starter) -> None:
    """HOLD when they publish to who doesn't read, RESUME when he does again."""
    broker = start()
    alice, bob = broker.logged_in("alice"), broker.logged_in("bob")
    bob.tell("kind CONGESTED", f"send {bob.peer} 1")
    assert bob.line() == "got SEND 0 50"
    alice.tell(f"send {bob.peer} 2")
    assert bob.line() == "got SEND 0 51"
    assert alice.line() == f"got HOLD {HOLD_TOKEN} 48"
    bob.tell("kind RELIEVED")

    assert alice.line() == f"got RESUME {HOLD_TOKEN} 48"
    alice.tell(f"send {bob.peer} 3")
    assert bob.line() == "got SEND 0 52"


def test_two_congested_ones_that_publish_to_each_other_are_relieved(start: Starter) -> None:
    """The word of relief is read although both are held."""
    broker = start()
    alice, bob = broker.logged_in("alice"), broker.logged_in("bob")
    for client in (alice, bob):
        client.tell("kind CONGESTED", f"send {client.peer} 1")
        assert client.line() == "got SEND 0 50"
    alice.tell(f"send {bob.peer} 2")
    bob.tell(f"send {alice.peer} 2")
    lines = {alice.line(), alice.line(), bob.line(), bob.line()}
    assert lines == {"got SEND 0 51", f"got HOLD {HOLD_TOKEN} 48"}
    alice.tell("kind RELIEVED")
    assert bob.line() == f"got RESUME {HOLD_TOKEN} 48"
    bob.tell("kind RELIEVED")

    assert alice.line() == f"got RESUME {HOLD_TOKEN} 48"


def test_the_defaults_of_the_bounds() -> None:
    """Octets, seconds, and checks: ten seconds of silence are a child's end, a second a minute is a topic's hold."""
    assert asdict(FlowPolicy()) == {
        "high": 1_048_576,
        "low": 262_144,
        "max_pending": 67_108_864,
        "hold_s": 1.0,
        "hold_window_s": 60.0,
        "check_interval_s": 1.0,
        "stuck_checks": 10,
    }


@pytest.mark.parametrize("first", ["relieved", "gone"])
def test_nothing_is_kept_of_holds_that_are_over(bench: Bench, first: str) -> None:
    """Children come and go for years."""
    for _ in range(3):
        publisher, subscriber = bench.child(), bench.child()
        bench.flow.congested(subscriber)
        bench.flow.exceeded(publisher, subscriber, SEND)
        getattr(bench.flow, first)(subscriber)
        bench.flow.relieved(subscriber)
        bench.fill(subscriber)
        bench.flow.exceeded(publisher, subscriber, SEND)
        bench.flow.gone(publisher)
        bench.flow.gone(subscriber)

    flow = bench.flow
    assert not (flow._told or flow._topics or flow.held_by or flow._targets_of or flow._starved)


def test_at_the_high_mark_nobody_is_held_and_nothing_is_written(bench: Bench) -> None:
    """More than that is too much."""
    cause, target = bench.child(), bench.child()
    bench.fill(target)
    flushed, real, target.channel.pending = target.channel.flushed, target.channel.pending, POLICY.high
    bench.flow.exceeded(cause, target, SEND)

    assert not bench.flow.is_held(cause)
    assert target.channel.flushed == flushed
    target.channel.pending = real


def test_who_has_closed_its_channel_and_does_not_end_is_stuck(bench: Bench) -> None:
    """Ending takes no time."""
    child = bench.child()
    child.is_closed = True

    assert checks_until_stuck(bench, child) == 11
    assert bench.flow.describe_stuck(child) == "still running 11 s after it closed its channel"
