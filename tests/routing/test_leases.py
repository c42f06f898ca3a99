"""Consumers that hold messages for too long."""

from __future__ import annotations

import pytest

from forkbroker.routing.peers import Token
from forkbroker.routing.queues.policies import Policy, QueuePolicy
from forkbroker.wire.envelope import Envelope, pack_settle
from forkbroker.wire.kinds import Flag, Kind, Outcome

from .simulation import DLQ, Child, World, make, make_send
from .stock import Stock
from .twins import hand_over

A = b"/queue/a"
LEASE_S = 10.0


def make_world(*, credit: int = 1, **policy: int) -> tuple[World, Child, Child]:
    queue = QueuePolicy(lease=int(LEASE_S * 1000), **policy)  # type: ignore[arg-type]
    world = World(Policy(queue=queue), slots=64, stock=Stock())
    producer, holder = world.add_child(), world.add_child()
    world.subscribe(holder, A, credit=credit)
    return world, producer, holder


def hold(world: World, holder: Child) -> list[Envelope]:
    """What the child is offered, it claims."""
    offers = world.offers(holder)
    for offer in offers:
        assert world.claim(holder, offer)
    world.hear(holder)
    return offers


# ---------------------------------------------------------------- the end of a lease


def test_another_consumer_gets_what_was_held_for_too_long() -> None:
    """Marked as any further delivery, and when the router has said that it would."""
    world, producer, holder = make_world()
    world.send(producer, A, [b"1"])
    hold(world, holder)
    other = world.add_child()
    world.subscribe(other, A)
    assert world.router.deadline() == pytest.approx(LEASE_S)

    world.pass_time(LEASE_S - 0.001)
    assert hold(world, other) == []
    world.pass_time(0.001)

    (offer,) = hold(world, other)
    assert (offer.deliveries, bytes(offer.pieces()[0])) == (1, b"1")
    assert world.router.counters.leases_ended == 1


def test_each_message_has_its_own_lease() -> None:
    """It begins with its claim."""
    world, producer, holder = make_world(credit=10)
    other = world.add_child()
    for body in (b"1", b"2", b"3"):
        world.send(producer, A, [body])
        hold(world, holder)
        world.pass_time(4)
    world.subscribe(other, A)

    found = []
    for second in range(12, 20):
        found += [(second, bytes(offer.pieces()[0])) for offer in hold(world, other)]
        world.pass_time(1)

    assert found == [(12, b"1"), (14, b"2"), (18, b"3")]


def test_what_was_settled_in_time_is_not_taken_back() -> None:
    """Of a batch only the rest is."""
    world, producer, holder = make_world(credit=10)
    other = world.add_child()
    world.send(producer, A, [b"1", b"2", b"3", b"4"])
    (offer,) = hold(world, holder)
    world.settle(holder, offer.serial + 1, 2)
    world.hear(holder)
    world.pass_time(LEASE_S)
    world.subscribe(other, A)

    again = [bytes(piece) for child in (other, holder) for offer in hold(world, child) for piece in offer.pieces()]
    assert sorted(again) == [b"1", b"4"]
    assert world.router.counters.leases_ended == 2


def test_without_a_lease_a_message_is_its_consumers_for_ever() -> None:
    """The natural lease: until its process ends."""
    world = World(Policy())
    producer, holder = world.add_child(), world.add_child()
    world.subscribe(holder, A)
    world.send(producer, A, [b"1"])
    hold(world, holder)

    world.pass_time(10.0**7)
    world.turn()

    assert world.view(A).unsettled == 1


def test_a_lease_that_ends_is_a_delivery_in_vain() -> None:
    """After so many of them the message is a dead letter."""
    world, producer, holder = make_world(max_deliveries=3)
    world.send(producer, A, [b"1"])
    for deliveries in range(3):
        (offer,) = hold(world, holder)
        assert offer.deliveries == deliveries
        holder = world.add_child()
        world.subscribe(holder, A, credit=1)
        world.pass_time(LEASE_S)
    world.turn()

    assert (world.view(DLQ).ready, world.view(A).unsettled) == (1, 0)


def test_who_lost_a_message_by_its_lease_does_not_get_it_while_another_has_credit() -> None:
    """Nor does one that lost it before; with nobody else the one that lost it longest ago gets it."""
    world, producer, first = make_world(credit=10)
    second, third = world.add_child(), world.add_child()
    world.send(producer, A, [b"1"])
    hold(world, first)
    world.subscribe(second, A, credit=10)
    world.pass_time(LEASE_S)
    assert hold(world, first) == []
    assert len(hold(world, second)) == 1
    # the third holds something: it has credit, although it is not idle
    world.send(producer, b"/queue/b", [b"x"])
    world.subscribe(third, b"/queue/b", token=2)
    hold(world, third)
    world.subscribe(third, A, credit=10)
    world.pass_time(LEASE_S)
    assert hold(world, first) == hold(world, second) == []
    assert [offer.destination for offer in hold(world, third)] == [b"/queue/b", A]

    world.pass_time(LEASE_S)
    assert hold(world, second) == []
    assert [offer.destination for offer in hold(world, third)] == [b"/queue/b"]
    assert len(hold(world, first)) == 1


# ---------------------------------------------------------------- who was too late


def test_an_acknowledgement_that_comes_after_all_is_counted_and_changes_nothing() -> None:
    """The message is another one's now."""
    world, producer, holder = make_world()
    other = world.add_child()
    world.send(producer, A, [b"1"])
    (late,) = hold(world, holder)
    world.subscribe(other, A)
    world.pass_time(LEASE_S)
    (offer,) = hold(world, other)

    world.settle(holder, late.serial)
    world.hear(holder)

    assert world.router.counters.settlements_late == 1
    assert world.view(A).unsettled == 1
    world.settle(other, offer.serial)
    world.hear(other)
    assert world.view(A).unsettled == 0


def test_who_hangs_with_one_job_is_not_given_another() -> None:
    """Its credit comes back with its answer: it gets neither the same one again nor the next."""
    world, producer, holder = make_world(credit=1)
    world.send(producer, A, [b"1", b"2"])
    (late,) = hold(world, holder)

    for _ in range(3):
        world.pass_time(LEASE_S)
        assert hold(world, holder) == []
    world.settle(holder, late.serial)
    world.hear(holder)

    (offer,) = hold(world, holder)
    assert (bytes(offer.pieces()[0]), offer.count) == (b"1", 1)


def test_only_the_credit_of_what_was_taken_back_is_withheld() -> None:
    """A consumer with more goes on; once is once, however often it settles what it has no more."""
    world, producer, holder = make_world(credit=3, max_deliveries=1)
    world.send(producer, A, [b"1"])
    (late,) = hold(world, holder)
    world.pass_time(LEASE_S)
    world.send(producer, A, [b"2"] * 5)

    assert sum(offer.count for offer in hold(world, holder)) == 2
    for _ in range(2):
        world.settle(holder, late.serial)
        world.hear(holder)
    assert sum(offer.count for offer in hold(world, holder)) == 1
    assert world.view(A).ready == 2


def test_a_late_release_does_not_release_it_from_its_new_holder() -> None:
    """Nor does a rejection make a dead letter of it."""
    world, producer, holder = make_world()
    other = world.add_child()
    world.send(producer, A, [b"1"])
    (late,) = hold(world, holder)
    world.subscribe(other, A)
    world.pass_time(LEASE_S)
    hold(world, other)

    for outcome in (Outcome.RELEASED, Outcome.REJECTED):
        world.settle(holder, late.serial, 1, outcome)
    world.hear(holder)

    assert [(view.name, view.ready, view.unsettled) for view in world.router.views()] == [(A, 0, 1)]


def test_a_transaction_that_settles_what_was_taken_back_is_refused() -> None:
    """As a whole: else what it sends would be there twice, once from each holder."""
    world, producer, holder = make_world(credit=2)
    world.send(producer, A, [b"1", b"2"])
    (late,) = hold(world, holder)
    settle = pack_settle(1, [(late.serial, 2, Outcome.ACKNOWLEDGED)])[0]
    parts = [make_send(b"/queue/result", [b"done"]).raw, settle]
    transaction = make(Kind.TRANSACTION, count=2, payload=parts, flags=Flag.FENCE, number=5)
    world.pass_time(LEASE_S)
    world.turn()

    world.tell(holder, transaction)

    assert "the lease of a message" in world.refusal(holder)
    assert [(view.name, view.ready) for view in world.router.views()] == [(A, 2)]


def test_a_transaction_in_time_is_not_refused() -> None:
    """Over several runs, too."""
    world, producer, holder = make_world(credit=3)
    for body in (b"1", b"2", b"3"):
        world.send(producer, A, [body])
    first, *_ = hold(world, holder)
    settle = pack_settle(1, [(first.serial, 3, Outcome.ACKNOWLEDGED)])[0]

    world.tell(holder, make(Kind.TRANSACTION, count=1, payload=[settle], flags=Flag.FENCE, number=5))

    assert world.answers(holder) == [(Kind.FENCED, 5)]
    assert world.view(A).unsettled == 0


def test_a_holder_that_ends_after_its_lease_gives_nothing_back_twice() -> None:
    """The message is elsewhere."""
    world, producer, holder = make_world()
    other = world.add_child()
    world.send(producer, A, [b"1"], persistent=True)
    hold(world, holder)
    world.subscribe(other, A)
    world.pass_time(LEASE_S)
    (offer,) = hold(world, other)

    world.end(holder, crash="by SIGKILL")
    assert (world.view(A).ready, world.view(A).unsettled) == (0, 1)
    world.settle(other, offer.serial)
    world.hear(other)
    world.run_store()

    assert not world.stock.rows


# ---------------------------------------------------------------- in another router


def test_a_lease_ends_in_another_router_and_the_credit_comes_back_with_the_settlement() -> None:
    """Who failed with the message gets it last."""
    world, producer, holder = make_world(credit=2)
    world.send(producer, A, [b"1"])
    (offer,) = hold(world, holder)
    world.pass_time(4)
    world.send(producer, A, [b"2"])
    hold(world, holder)

    hand_over(world)
    world.pass_time(LEASE_S - 4)
    world.turn()
    hand_over(world)
    assert world.view(A).ready == 1
    other = world.add_child()
    world.subscribe(other, A)
    assert [bytes(each.pieces()[0]) for each in hold(world, other)] == [b"1"]
    hand_over(world)
    world.settle(holder, offer.serial)
    world.hear(holder)

    consumer = world.router._offering.clientele.children[holder.peer].consumers[Token(1)]
    assert (consumer.withheld, consumer.free) == (0, 1)
    assert (world.router.counters.leases_ended, world.router.counters.settlements_late) == (1, 1)
