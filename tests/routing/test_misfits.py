"""Messages that show only later that they can't be dealt with: who is blamed, and that all else goes on."""

from __future__ import annotations

import time

import pytest

from forkbroker.routing.jobs.misfits import leave_out
from forkbroker.routing.kit import Kit
from forkbroker.routing.peers import Peer
from forkbroker.routing.queues.runs import make_run
from forkbroker.wire.details import Wishes
from forkbroker.wire.envelope import Envelope
from forkbroker.wire.kinds import Kind

from .simulation import APART, World, make, make_send
from .stock import Stock

A = b"/queue/a"


def damage(world: World, envelope: Envelope) -> None:
    """What can't be after the check: the numbers of the messages do not fit their field any more."""
    envelope.index = 2**32


@pytest.mark.parametrize("candidates", [1, 3])
def test_an_offer_that_can_not_be_sent_is_its_senders_fault(candidates: int) -> None:
    """It is left out, its slot and the credit are free again, and the next message goes its way."""
    world = World(slots=1)
    liar, honest = world.add_child(), world.add_child()
    consumers = [world.add_child() for _ in range(candidates)]
    bad = make_send(A, [b"bad", b"too"])
    world.tell(liar, bad)
    world.send(honest, A, [b"good"])
    damage(world, bad)
    for consumer in consumers:
        world.subscribe(consumer, A, credit=1)

    assert [bodies for consumer in consumers for bodies in world.consume(consumer)] == [b"good"]
    assert list(world.router.culprits) == [liar.peer]
    assert "OFFER" in world.router.culprits[liar.peer]
    assert world.router.take_notes()[0].startswith("queue /queue/a: message 1 not delivered, it cannot be sent: OFFER")
    assert world.semaphores.values == [0]
    view = world.view(A)
    assert (view.ready, view.unsettled, view.octets) == (0, 0, 0)


def test_what_can_not_be_offered_ahead_is_its_senders_fault() -> None:
    """It is left out, its slots are free and their semaphores taken back, and the next message goes its way."""
    world = World(slots=16)
    liar, honest, worker = world.add_child(), world.add_child(), world.add_child()
    world.send(honest, A, [b"first", b"second"], wishes=APART)
    bad = make_send(A, [b"bad", b"too"], wishes=APART)
    world.tell(liar, bad)
    world.send(honest, A, [b"good"], wishes=APART)
    world.subscribe(worker, A, credit=1, keeps=8)
    world.take_one(worker)
    damage(world, bad)
    world.settle(worker, next(iter(worker.held[1])))
    world.turn()
    told = [(one.kind, [bytes(body) for body in one.pieces()]) for one in worker.inbox]

    assert told == [(Kind.OFFER, [b"second"]), (Kind.AHEAD, [b"good"])]
    assert "AHEAD" in world.router.culprits[liar.peer]
    assert sum(world.semaphores.values) == 2
    assert world.router._offering.claims.free.bit_count() == 14
    assert world.view(A).unsettled == 2


def test_a_delayed_message_that_can_not_be_fired_is_its_senders_fault() -> None:
    """It waits no longer, and the others that are due come."""
    world = World(stock=Stock())
    liar, honest, consumer = world.add_child(), world.add_child(), world.add_child()
    world.subscribe(consumer, A)
    wishes = Wishes(delay=1000)
    bad = make_send(A, [b"bad"], persistent=True, wishes=wishes)
    world.tell(liar, bad)
    world.send(honest, A, [b"good"], persistent=True, wishes=wishes)
    world.run_store()
    damage(world, bad)
    world.pass_time(2)

    assert world.consume(consumer) == [b"good"]
    assert list(world.router.culprits) == [liar.peer]
    assert any("not delivered" in note for note in world.router.take_notes())
    assert world.router._timers.agenda == ()


def test_a_part_of_a_transaction_has_its_sender_too() -> None:
    """Which the part itself does not name."""
    world = World()
    liar, consumer = world.add_child(), world.add_child()
    part = make_send(A, [b"bad"])
    world.router.receive(liar.peer, whole := _transaction(part), world.now)
    damage(world, whole.nested()[0])
    world.subscribe(consumer, A)
    world.turn()

    assert list(world.router.culprits) == [liar.peer]


def _transaction(part: Envelope) -> Envelope:
    return make(Kind.TRANSACTION, count=1, payload=[part.raw])


@pytest.mark.parametrize(("count", "named"), [(1, "message 7"), (2, "message 7 to 8"), (3, "message 7 to 9")])
def test_a_note_names_the_messages(count: int, named: str) -> None:
    """All that were left out, by their serials."""
    kit = Kit(time.time)

    leave_out(kit, A, make_run(make_send(A, [b"x"] * count), 7), ValueError("too long"))

    assert kit.notes == [f"queue {A.decode()}: {named} not delivered, it cannot be sent: too long"]


def test_a_sender_that_is_not_known_is_not_blamed() -> None:
    """What a store gave has none; each one that is known is blamed once, for the last message."""
    kit = Kit(time.time)
    for sender, reason in ((0, "a"), (3, "b"), (3, "c"), (4, "d")):
        envelope = make_send(A, [b"x"])
        envelope.sender = sender
        leave_out(kit, A, make_run(envelope, 1), ValueError(reason))

    assert kit.culprits == {
        Peer(3): "its message cannot be sent: c",
        Peer(4): "its message cannot be sent: d",
    }
