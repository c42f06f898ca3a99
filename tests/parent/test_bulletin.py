"""What the broker says of itself: what is published for whom, and that nothing is made while nobody listens."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest
from parts import make_status, open_router

from forkbroker.parent import bulletin
from forkbroker.parent.bulletin import FULL, STEPS, Bulletin
from forkbroker.parent.channels import Channels
from forkbroker.parent.control.broker import Whole
from forkbroker.parent.control.queues import Looks
from forkbroker.parent.flow import FlowPolicy
from forkbroker.parent.roster import Client
from forkbroker.posix.loop import Loop
from forkbroker.posix.semaphores import SemaphorePool
from forkbroker.routing.news import MOST
from forkbroker.routing.peers import Peer
from forkbroker.wire.channel import Channel
from forkbroker.wire.envelope import Envelope, pack, pack_pieces
from forkbroker.wire.fields import OF_CHILD, EnvelopeError, check
from forkbroker.wire.kinds import Kind
from forkbroker.wire.receive_memory import ReceiveMemory

EVENTS = "/topic/$SYS/events/"


class Bench:
    """A parent's bulletin with a real router, and listeners that are channels."""

    def __init__(self) -> None:
        self.loop = Loop()
        self.pool = SemaphorePool(4)
        self.router = open_router(self.pool, self.loop.now)
        self.channels = Channels(self.loop, self.router, FlowPolicy(), ReceiveMemory(0))
        self.ends: dict[Peer, Channel] = {}
        self.clients: dict[Peer, Client] = {}
        status = make_status(self.clients)
        looks = Looks(self.loop, self.router, self.clients.get)
        self.bulletin = Bulletin(self.channels, Whole(self.loop, self.router, status), looks)

    def add(self, *names: str) -> Peer:
        """One more client, which listens to these."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)
        peer = Peer(len(self.ends) + 1)
        channel = Channel(ours, max_envelope=1 << 30)
        client = Client(peer=peer, pid=1, channel=channel, address="", host="", started=self.loop.now)
        self.clients[peer], self.ends[peer] = client, Channel(theirs, max_envelope=1 << 30)
        self.router.add_peer(peer)
        self.channels.join(client, lambda _: None, lambda *_: None)
        for name in names:
            self.say(peer, pack(Kind.SUBSCRIBE, token=1, destination=name.encode()))
        return peer

    def say(self, peer: Peer, buffers: list[Any]) -> None:
        self.router.receive(peer, Envelope(b"".join(buffers)), self.loop.now)

    def make_queue(self, peer: Peer, name: bytes) -> None:
        self.router.tick(self.loop.now)
        flags, payload = pack_pieces([b"1"])
        self.say(peer, pack(Kind.SEND, flags=flags, count=1, destination=name, block=b"-1\n\n", payload=payload))

    def hear(self, peer: Peer) -> list[tuple[str, dict[str, Any]]]:
        """What a listener has got: topics and bodies."""
        found: list[tuple[str, dict[str, Any]]] = []
        self.router.tick(self.loop.now)
        self.channels.dispatch(None)
        while True:
            self.clients[peer].channel.flush()
            some = self.ends[peer].receive()
            if not some:
                return found
            for one in some:
                if one.kind is Kind.SEND:
                    (piece,) = one.pieces()
                    found.append((one.destination.decode(), json.loads(bytes(piece))))


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.channels.close()
    for end in bench.ends.values():
        end.close()
    bench.loop.close()
    bench.pool.close()


def test_an_event_goes_to_those_who_listen_to_it(bench: Bench) -> None:
    """With the time, and what there is to say of it."""
    one, other = bench.add(EVENTS + "connect"), bench.add(EVENTS + "queue-made")
    bench.router.news.tell("connect", login="alice")
    bench.bulletin.publish()

    ((topic, body),) = bench.hear(one)
    assert topic == EVENTS + "connect"
    assert abs(body.pop("time") - time.time()) < 60
    assert body == {"event": "connect", "login": "alice", "missed": 0}
    assert bench.hear(other) == []


def test_what_was_too_much_for_a_turn_is_told_with_the_next_event(bench: Bench) -> None:
    """Once."""
    peer = bench.add(EVENTS + ">")
    for _ in range(MOST + 3):
        bench.router.news.tell("connect")
    bench.bulletin.publish()
    bench.router.news.tell("connect")
    bench.bulletin.publish()

    missed = [body["missed"] for _, body in bench.hear(peer)]
    assert (len(missed), missed[0], sum(missed)) == (MOST + 1, 3, 3)


def test_a_listener_that_does_not_read_loses_events_and_learns_how_many(bench: Bench) -> None:
    """So nothing grows for it; others get all of them."""
    slow, quick = bench.add(EVENTS + ">"), bench.add(EVENTS + ">")
    bench.clients[slow].channel.send([bytes(FULL + 1)])
    for _ in range(3):
        bench.router.news.tell("connect", login="x" * 100)
    bench.bulletin.publish()
    assert bench.clients[slow].channel.pending == FULL + 1
    assert len(bench.hear(quick)) == 3

    channel = bench.clients[slow].channel
    channel._out.clear()
    channel.pending = 0
    bench.clients[slow].high = -1  # its client does not read: it has said CONGESTED
    bench.router.news.tell("connect")
    bench.bulletin.publish()
    assert bench.hear(slow) == []
    bench.clients[slow].high = 1000
    bench.router.news.tell("connect")
    bench.bulletin.publish()

    assert [body["missed"] for _, body in bench.hear(slow)] == [4]


def test_figures_are_those_of_the_answers(bench: Bench) -> None:
    """The broker's, and those of queues that somebody has named; other queues are not looked at."""
    peer = bench.add("/topic/$SYS/status", "/topic/$SYS/queues/queue/a:b", "/topic/$SYS/queues/queue/none")
    bench.make_queue(peer, b"/queue/a:b")
    bench.make_queue(peer, b"/queue/other")
    bench.bulletin.check()

    found = dict(bench.hear(peer))
    assert set(found) == {"/topic/$SYS/status", "/topic/$SYS/queues/queue/a:b"}
    assert found["/topic/$SYS/status"]["queues"] == 2
    assert found["/topic/$SYS/status"]["octets"] == {"received": 1, "sent": 2}
    row = found["/topic/$SYS/queues/queue/a:b"]
    assert (row["name"], row["waiting"]) == ("/queue/a:b", 1)


def test_figures_of_many_queues_are_made_in_portions(bench: Bench) -> None:
    """A turn has its part of them; those of all are there in the end."""
    peer = bench.add("/topic/$SYS/queues/queue/*")
    for number in range(3 * STEPS):
        bench.make_queue(peer, b"/queue/%d" % number)
    bench.bulletin.check()
    assert 0 < bench.bulletin.steps <= STEPS
    assert len(bench.hear(peer)) <= STEPS

    found = []
    while bench.bulletin._making is not None:
        bench.bulletin._go_on()
        found += bench.hear(peer)
    assert bench.bulletin.steps > 3 * STEPS
    assert len({topic for topic, _ in found}) >= 2 * STEPS


def test_figures_do_not_take_more_than_their_part_of_the_time(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where they take two seconds, the next ones come ten seconds after these had begun."""
    bench.add("/topic/$SYS/status")
    now = bench.loop.now
    monkeypatch.setattr(bulletin, "STEPS", 1)
    bench.make_queue(Peer(1), b"/queue/a")
    bench.bulletin.check()
    bench.loop.now = now + 2
    while bench.bulletin._making is not None:
        bench.bulletin._go_on()
    steps = bench.bulletin.steps
    for later, is_due in ((9.9, False), (10.1, True)):
        bench.loop.now = now + later
        bench.bulletin.check()
        assert (bench.bulletin.steps > steps) is is_due


def test_nothing_is_made_while_nobody_listens(bench: Bench) -> None:
    """And what is being made is given up when the last listener has gone."""
    peer = bench.add("/topic/$SYS/status")
    for number in range(2 * STEPS):
        bench.make_queue(peer, b"/queue/%d" % number)
    bench.bulletin.check()
    bench.say(peer, pack(Kind.UNSUBSCRIBE, token=1, destination=b"/topic/$SYS/status"))
    bench.bulletin.check()
    steps = bench.bulletin.steps
    bench.bulletin._go_on()
    bench.bulletin.check()

    assert (bench.bulletin.steps, bench.hear(peer)) == (steps, [])


def test_what_is_sent_has_the_form_of_what_a_child_sends(bench: Bench) -> None:
    """But for its destination, to which no child may send: the name of a queue is escaped."""
    envelope = Envelope(b"".join(bench.bulletin._pack(b"/topic/$SYS/queues/queue/a:\\\n\rb", {"a": 1})))

    with pytest.raises(EnvelopeError, match=r"SEND to b'/topic/\$SYS"):
        check(envelope, OF_CHILD)
    assert b"\ndestination:/topic/$SYS/queues/queue/a\\c\\\\\\n\\rb\n" in envelope.block
    message = Envelope(
        b"".join(pack(Kind.SEND, flags=envelope.flags, count=1, destination=b"/topic/a", block=envelope.block,
                      payload=[envelope.payload]))
    )  # fmt: skip
    check(message, OF_CHILD)
