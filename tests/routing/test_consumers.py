"""Who is asked, and in which order."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from forkbroker.routing.offers.consumers import Child, Consumer, Consumers
from forkbroker.routing.peers import Peer, Token
from forkbroker.routing.queues.policies import QueuePolicy
from forkbroker.routing.queues.queue import Queue
from forkbroker.routing.queues.runs import Run, make_run
from forkbroker.routing.queues.window import Window
from forkbroker.wire.kinds import Flag

from .simulation import World, make_send
from .twins import hand_over

QUEUE = Queue(b"/queue/a", QueuePolicy(), Window(1 << 26))


def make_consumer(peer: int, *, credit: int = 1, auto: bool = False, exclusive: bool = False) -> Consumer:
    return Consumer(
        Consumers(QUEUE, {}, {}),
        Child(Peer(peer), 10_000),
        token=Token(1),
        credit=credit,
        auto=auto,
        exclusive=exclusive,
    )


def make(*avoid: Consumer) -> Run:
    """One message, with which these failed."""
    run = make_run(make_send(b"/queue/a", [b"x"]), 1)
    run.avoid = tuple(consumer.key for consumer in avoid)
    return run


def make_consumers(*several: Consumer) -> Consumers:
    consumers = Consumers(QUEUE, {}, {})
    for consumer in several:
        consumers.add(consumer)
    return consumers


def test_whoever_was_asked_goes_to_the_end() -> None:
    """If its credit allows more; else it leaves the row."""
    one, two = make_consumer(1, credit=2), make_consumer(2, credit=2)
    consumers = make_consumers(one, two)

    assert consumers.take(1, make(), 9) == [one]
    consumers.charge([one], 1, 100)
    assert list(consumers.willing) == [two, one]
    assert consumers.take(5, make(), 9) == [two, one]
    consumers.charge([two, one], 1, 100)
    assert list(consumers.willing) == [two]


def test_who_got_nothing_is_asked_first() -> None:
    """Unless it is not willing."""
    one, two = make_consumer(1), make_consumer(2)
    consumers = make_consumers(one, two)

    consumers.prefer(two)
    assert list(consumers.willing) == [two, one]
    one.free = 0
    consumers.refresh(one)
    consumers.prefer(one)
    assert list(consumers.willing) == [two]


def test_each_reason_keeps_a_consumer_out_while_it_lasts() -> None:
    """No credit, no room, an answer overdue, gone."""
    consumer = make_consumer(1)
    consumers = make_consumers(consumer)
    reasons = {"free": 0, "has_passed": True, "overdue": 1, "is_gone": True}

    for reason, value in reasons.items():
        before = getattr(consumer, reason)
        setattr(consumer, reason, value)
        consumers.refresh(consumer)
        assert not consumers.willing, reason
        setattr(consumer, reason, before)
        consumers.refresh(consumer)
        assert list(consumers.willing) == [consumer]


def test_a_change_is_noted_for_the_queue_and_for_a_child_that_keeps_consumers_out() -> None:
    """An offer may have become possible. Who is only put into the row again has not changed."""
    changed: dict[Queue, None] = {}
    eased: dict[Child, None] = {}
    consumers = Consumers(QUEUE, changed, eased)
    one, two = make_consumer(1), make_consumer(2)
    two.child.kept_out[two] = None
    for consumer in (one, two):
        consumers.add(consumer)

    consumers.place(two)
    assert (changed, eased) == ({}, {})
    consumers.refresh(one)
    assert (changed, eased) == ({QUEUE: None}, {})
    consumers.refresh(two)
    assert eased == {two.child: None}


def test_what_its_child_does_not_accept_leaves_the_row() -> None:
    """And is noted with the child, which lets it come back."""
    one, two, three = map(make_consumer, (1, 2, 3))
    consumers = make_consumers(one, two, three)
    one.child.kept_for = QUEUE

    assert consumers.take(2, make(), 9) == [two, three]
    assert list(one.child.kept_out) == [one]
    assert not consumers.willing


def test_a_child_accepts_an_offer_while_it_has_few_open_ones() -> None:
    """Over all its subscriptions."""
    one = make_consumer(1, credit=9)
    one.charge(1, 1)
    one.charge(1, 1)

    assert one.accepts(make(), 3)
    assert not one.accepts(make(), 2)


@pytest.mark.parametrize(("octets", "expected"), [(0, True), (1, True), (500, False)])
def test_a_child_accepts_what_leaves_as_much_to_others(octets: int, expected: bool) -> None:
    """Or anything if it holds nothing: a message may be larger than all that it may hold."""
    one, run = make_consumer(1, credit=9), make_run(make_send(b"/queue/a", [b"x", b"y" * 2000]), 1)
    small = run.cost_of(1)
    one.child.max_octets = 2 * small + 2 if octets < 500 else 2 * small + 999
    one.charge(1, octets)

    assert one.room >= small if expected else one.room < small
    assert one.accepts(run, 9) is expected


def test_who_is_to_be_avoided_is_taken_last() -> None:
    """And keeps its place in the row. Among those to avoid the one that stands first is taken."""
    one, two, three = map(make_consumer, (1, 2, 3))
    consumers = make_consumers(one, two, three)

    assert consumers.take(3, make(two, one), 9) == [three]
    assert list(consumers.willing) == [one, two]
    assert consumers.take(1, make(two, one), 9) == [two]
    assert consumers.take(1, make(two), 9) == [one]


def test_an_idle_child_is_one_that_holds_nothing_for_any_subscription() -> None:
    """Not what it was offered, nor what it lost by a lease and still works on; nor is it kept for another queue."""
    one, two, three, four = map(make_consumer, (1, 2, 3, 4))
    consumers = make_consumers(one, two, three, four)
    other = Consumer(Consumers(QUEUE, {}, {}), one.child, token=Token(2), credit=1, auto=False, exclusive=False)
    other.charge(1, 300)
    two.withhold(1)
    three.child.kept_for = Queue(b"/queue/b", QueuePolicy(), Window(1 << 26))
    four.child.kept_for = QUEUE

    assert consumers.take_idle() is four
    assert list(consumers.willing) == [one, two, three]
    assert consumers.take_idle() is None
    other.discharge(300)
    assert consumers.take_idle() is one
    two.regain(5)
    assert (two.free, two.withheld, two.child.withheld) == (2, 0, 0)
    assert consumers.take_idle() is two


def test_an_idle_one_to_avoid_is_taken_if_nobody_else_is_willing() -> None:
    """Else the other one may become idle."""
    one, two = make_consumer(1), make_consumer(2)
    consumers = make_consumers(one, two)
    two.charge(0, 300)

    assert consumers.take_idle([one.key]) is None
    consumers.remove(two)
    assert consumers.take_idle([one.key]) is one


def test_one_exclusive_consumer_is_served_and_the_next_takes_over() -> None:
    """The oldest of them; without any, everybody again."""
    plain, first, second = make_consumer(1), make_consumer(2, exclusive=True), make_consumer(3, exclusive=True)
    consumers = make_consumers(plain, first, second)

    assert list(consumers.willing) == [first]
    consumers.remove(first)
    assert list(consumers.willing) == [second]
    consumers.remove(second)
    assert list(consumers.willing) == [plain]
    consumers.remove(plain)
    assert not consumers
    assert not consumers.willing


def test_a_peer_settles_unless_all_its_consumers_are_auto() -> None:
    """Others' consumers don't count."""
    make_consumers(make_consumer(1, auto=True), make_consumer(2, auto=True), make_consumer(2))

    assert [Peer(peer) in QUEUE.readers.settling for peer in (1, 2, 3)] == [False, True, False]


def test_a_queue_knows_what_it_needs_of_its_consumers() -> None:
    """How many there are, whether one is willing, and who acknowledges: from their coming to their going."""
    queue = Queue(b"/queue/b", QueuePolicy(), Window(1 << 26))
    assert (len(queue.readers), bool(queue.readers.willing)) == (0, False)
    row = Consumers(queue, {}, {})
    plain, exclusive = (
        Consumer(row, Child(Peer(peer), 10_000), token=Token(1), credit=peer - 1, auto=False, exclusive=peer == 1)
        for peer in (2, 1)
    )

    row.add(plain)
    assert (len(queue.readers), bool(queue.readers.willing)) == (1, True)
    row.add(exclusive)
    assert (len(queue.readers), bool(queue.readers.willing)) == (2, False)
    row.remove(exclusive)
    assert (len(queue.readers), bool(queue.readers.willing)) == (1, True)
    row.remove(plain)
    assert (len(queue.readers), bool(queue.readers.willing), Peer(2) in queue.readers.settling) == (0, False, False)


def test_who_has_just_come_has_nothing_and_may_have_all() -> None:
    """Neither child nor consumer."""
    consumer = make_consumer(1, credit=7)
    child = consumer.child

    assert (child.consumers, child.passed, child.kept_out, child.kept_for) == ({}, [], {}, None)
    assert (child.open_offers, child.octets, child.withheld) == (0, 0, 0)
    assert (child.has_suspect, child.has_ended, child.is_stopped, child.is_idle) == (False, False, False, True)
    assert (consumer.free, consumer.octets, consumer.overdue, consumer.withheld) == (7, 0, 0, 0)
    assert (consumer.has_passed, consumer.is_gone, consumer.is_returning, len(consumer.unsettled)) == (
        False,
        False,
        False,
        0,
    )
    assert (consumer.room, consumer.is_served) == (5_000, True)


def test_what_a_consumer_has_counts_for_it_and_for_its_child() -> None:
    """From the offer on, until it is settled or comes back; credit is somebody else's business."""
    child = Child(Peer(1), 10_000)
    row = Consumers(QUEUE, {}, {})
    one, two = (Consumer(row, child, token=Token(token), credit=5, auto=False, exclusive=False) for token in (1, 2))
    one.charge(2, 3_000)
    two.charge(1, 500)
    assert (one.free, two.free, one.octets, two.octets) == (3, 4, 3_000, 500)
    assert (child.octets, child.open_offers, child.is_idle) == (3_500, 2, False)
    assert (one.room, two.room) == (1_750, 3_000)

    one.discharge(3_000)
    assert (one.octets, two.octets, child.octets, one.free, child.open_offers) == (0, 500, 500, 3, 2)
    two.discharge(500)
    assert child.is_idle


def test_who_has_lost_messages_by_a_lease_is_not_idle() -> None:
    """Until their settlement gives the credit back."""
    consumer = make_consumer(1, credit=5)
    consumer.withhold(2)

    assert (consumer.withheld, consumer.child.withheld, consumer.child.is_idle) == (2, 2, False)


# ---------------------------------------------------------------- in another router


def row_of(world: World) -> Consumers:
    queue = world.router._queues.find(b"/queue/a")
    assert queue is not None
    return world.router._offering.clientele.consumers[queue]


def peers(row: Iterable[object]) -> list[int]:
    return [consumer.peer for consumer in row]  # type: ignore[attr-defined]


def test_another_router_asks_them_in_the_same_order() -> None:
    """Who is not willing stands in no row, and whose credit has ended comes back with it."""
    world = World()
    several = [world.add_child() for _ in range(3)]
    for child in several:
        world.subscribe(child, b"/queue/a", credit=2)
    world.send(several[0], b"/queue/a", [b"1", b"2"])
    world.take_one(several[0])
    before = peers(row_of(world).willing)

    hand_over(world)

    row = row_of(world)
    assert peers(row.willing) == before
    assert peers(row._all) == [child.peer for child in several]
    assert row.queue.readers.willing is row.willing
    assert all(child.peer in row.queue.readers.settling for child in several)
    consumer = next(iter(row._all))
    assert (consumer.key, consumer.queue, consumer.free) == ((several[0].peer, 1), row.queue, 1)


def test_an_exclusive_consumer_stays_the_only_one_in_another_router() -> None:
    """Until it ends; then the next one is."""
    world = World()
    several = [world.add_child() for _ in range(3)]
    for child, flags in zip(several, (0, Flag.EXCLUSIVE, Flag.EXCLUSIVE | Flag.AUTO), strict=True):
        world.subscribe(child, b"/queue/a", flags=flags)

    hand_over(world)
    assert peers(row_of(world).willing) == [several[1].peer]
    assert several[2].peer not in row_of(world).queue.readers.settling
    world.end(several[1])
    hand_over(world)
    assert peers(row_of(world).willing) == [several[2].peer]
    world.end(several[2])

    assert peers(row_of(world).willing) == [several[0].peer]
