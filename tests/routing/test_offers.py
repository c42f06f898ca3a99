"""Offers, answers and settlements, through the router."""

from __future__ import annotations

from forkbroker.wire.envelope import MAX_BATCH, Envelope
from forkbroker.wire.kinds import Flag, Kind, Outcome

from .simulation import APART, Child, World
from .stock import Stock
from .twins import hand_over, settle_down
from .workers import A, B, held_bytes, make_world, offers_of

# ---------------------------------------------------------------- how offers are cut


def test_an_offer_says_all_that_a_delivery_needs() -> None:
    """Which messages, where they come from, and what to answer."""
    world, producer, (child,) = make_world(1, credit=2)
    world.send(producer, A, [b"a", b"bb", b"ccc"])
    world.turn()

    offer = world.read(child, Kind.OFFER)

    assert (offer.destination, offer.token, offer.number, offer.serial, offer.count) == (A, 1, 1, 1, 2)
    assert (offer.index, offer.deliveries, offer.block) == (0, 0, b"-session-1\n\n")
    assert [bytes(piece) for piece in offer.pieces()] == [b"a", b"bb"]
    assert world.semaphores.values[offer.slot] == 1


def test_a_deep_queue_is_shared_out_one_candidate_each() -> None:
    """A copy for a second one would be wasted."""
    world, producer, _ = make_world(3, credit=100)
    world.send(producer, A, [b"x"] * 10)

    assert offers_of(world) == [(2, 1, 4), (3, 5, 4), (4, 9, 2)]


def test_scarce_messages_are_offered_to_several() -> None:
    """As far as the willing go round, and the setting permits."""
    world, producer, _ = make_world(8, offer_candidates=3)
    world.send(producer, A, [b"x"] * 2)

    offers = offers_of(world)

    assert [serial for _, serial, _ in offers] == [1, 1, 1, 2, 2, 2]
    assert len({peer for peer, _, _ in offers}) == 6


def test_messages_that_nearly_go_round_are_offered_to_one_each() -> None:
    """Three messages and four consumers."""
    world, producer, _ = make_world(4)
    world.send(producer, A, [b"x"] * 3)

    assert [count for _, _, count in offers_of(world)] == [1, 1, 1]


def test_an_offer_ends_with_its_envelope_and_with_the_credit() -> None:
    """And there are as many offers as the credit allows."""
    world, producer, _ = make_world(1, credit=5)
    for _ in range(3):
        world.send(producer, A, [b"x"] * 2, wishes=APART)

    assert offers_of(world) == [(2, 1, 2), (2, 3, 2), (2, 5, 1)]


def test_large_credit_takes_whole_batches() -> None:
    """An auto consumer of a deep queue."""
    world, producer, _ = make_world(1, credit=10_000)
    for _ in range(2):
        world.send(producer, A, [b"x"] * MAX_BATCH)

    assert offers_of(world) == [(2, 1, MAX_BATCH), (2, 1 + MAX_BATCH, MAX_BATCH)]


def test_without_a_free_slot_offers_wait_and_queues_take_turns() -> None:
    """The one that had the slot stands behind the others."""
    world, producer, (child,) = make_world(1, credit=100, slots=1)
    world.subscribe(child, B, token=2)
    for name in (A, A, B):
        world.send(producer, name, [b"x"], wishes=APART)

    order = []
    for _ in range(3):
        world.turn()
        offer = world.read(child, Kind.OFFER)
        assert not child.inbox
        order.append(offer.destination)
        world.claim(child, offer)

    assert order == [A, B, A]


# ---------------------------------------------------------------- answers


def test_after_a_stall_messages_come_in_their_order() -> None:
    """A child stopped for 1.2 s, and a message each 0.1 s: what is overdue takes what is younger back with it."""
    world, producer, (child,) = make_world(1, credit=100)
    delivered: list[tuple[bytes, int]] = []
    for tenth in range(20):
        world.send(producer, A, [b"%d" % tenth])
        world.turn()
        world.now += 0.1
        if tenth >= 12:
            delivered += [
                (bytes(piece), offer.deliveries) for offer in read_all(world, child) for piece in offer.pieces()
            ]
            world.turn()
    world.turn()
    delivered += [(bytes(piece), offer.deliveries) for offer in read_all(world, child) for piece in offer.pieces()]

    assert delivered == [(b"%d" % tenth, 0) for tenth in range(20)]


def read_all(world: World, child: Child) -> list[Envelope]:
    """The child answers all that it was offered: what it got."""
    return [offer for offer in [child.inbox.popleft() for _ in range(len(child.inbox))] if world.claim(child, offer)]


def test_a_stall_of_one_candidate_keeps_the_order_of_the_others() -> None:
    """What one was offered with the stopped child comes to it again before what is younger."""
    world, producer, (stopped, other) = make_world(2, credit=100, offer_candidates=2)
    for number in range(8):
        world.send(producer, A, [b"%d" % number])
        world.turn()
        world.now += 0.15
    world.turn()
    delivered: list[bytes] = []
    while child_has := [other] * bool(other.inbox):
        delivered += [bytes(piece) for offer in read_all(world, child_has[0]) for piece in offer.pieces()]
        world.turn()

    assert delivered == sorted(delivered)
    assert len(delivered) == 8
    assert stopped.inbox


def test_the_end_of_one_candidate_keeps_the_order_of_the_others() -> None:
    """What it was offered as well stands in their channels already."""
    world, producer, (mortal, other) = make_world(2, credit=100, offer_candidates=2)
    world.send(producer, A, [b"1"])
    world.turn()
    world.send(producer, A, [b"2"])
    world.turn()
    world.end(mortal)
    world.turn()
    delivered = [bytes(piece) for offer in read_all(world, other) for piece in offer.pieces()]
    world.turn()
    delivered += [bytes(piece) for offer in read_all(world, other) for piece in offer.pieces()]

    assert delivered == [b"1", b"2"]


# ---------------------------------------------------------------- what one child can use up


def test_one_child_never_has_more_than_a_quarter_of_the_free_slots() -> None:
    """Over all its subscriptions: one that is stopped leaves most of them to others."""
    world, producer, (stopped,) = make_world(1, slots=64)
    for token in range(2, 30):
        world.subscribe(stopped, b"/queue/%d" % token, token=token, credit=100)
        for _ in range(10):
            world.send(producer, b"/queue/%d" % token, [b"x"], wishes=APART)
    for _ in range(5):
        world.turn()

    used = sum(world.semaphores.values)
    assert 13 <= used <= 16
    other = world.add_child()
    world.subscribe(other, b"/queue/29", credit=5)
    assert len(offers_of(world)) == 5


def test_several_children_that_are_stopped_leave_slots_as_well() -> None:
    """Each has a quarter of what those before it have left."""
    world, producer, _ = make_world(0, slots=64)
    for _ in range(8):
        world.subscribe(world.add_child(), A, credit=100)
    for _ in range(200):
        world.send(producer, A, [b"x"])
    for _ in range(5):
        world.turn()

    assert sum(world.semaphores.values) < 64


def test_a_child_that_answers_gets_its_other_subscriptions_served() -> None:
    """They wait for nothing but its answers."""
    world, producer, (child,) = make_world(1, slots=8)
    for token in range(2, 10):
        world.subscribe(child, b"/queue/%d" % token, token=token, credit=1)
        world.send(producer, b"/queue/%d" % token, [b"x"])
    served = set()
    for _ in range(10):
        world.turn()
        for offer in read_all(world, child):
            served.add(offer.token)

    assert served == set(range(2, 10))


def test_what_a_consumer_holds_unsettled_is_bounded_in_bytes() -> None:
    """Whatever its credit; it gets the next ones when it has settled some. One subscription has half at most."""
    world, producer, (child,) = make_world(1, credit=1_000_000, max_unsettled=100_000)
    for _ in range(20):
        world.send(producer, A, [b"x" * 1000] * 10)

    held = held_bytes(world, child)
    assert 30_000 < held < 50_000
    world.settle(child, 1, 10)
    assert held_bytes(world, child) == held
    assert max(child.held[1]) > held // 1000


def test_messages_without_a_body_are_bounded_as_well() -> None:
    """Each has a cost of its own, in parent and child."""
    world, producer, (child,) = make_world(1, credit=1_000_000, max_unsettled=100_000)
    for _ in range(20):
        world.send(producer, A, [b""] * 1000)
    held_bytes(world, child)

    assert 100 < len(child.held[1]) <= 50_000 // 256


def test_a_message_larger_than_the_bound_goes_alone() -> None:
    """When its child has nothing else; and nothing else goes with it."""
    world, producer, (child,) = make_world(1, credit=100, max_unsettled=10_000)
    for size in (10, 50_000, 10):
        world.send(producer, A, [b"x" * size])

    counts = []
    while offers := world.offers(child):
        counts.append([len(bytes(piece)) for offer in offers for piece in offer.pieces()])
        for offer in offers:
            world.claim(child, offer)
            world.settle(child, offer.serial)
    assert counts == [[10], [50_000], [10]]


def test_every_way_back_gives_back_what_it_was_charged_with() -> None:
    """Lost, passed, released, settled, unsubscribed, overdue."""
    world, producer, (one, two) = make_world(2, credit=10)
    for _ in range(6):
        world.send(producer, A, [b"x"])
        world.turn()
    world.claim(two, world.read(two, Kind.OFFER))
    world.claim(one, world.read(one, Kind.OFFER))
    world.answer(one, Kind.PASSED, world.read(one, Kind.OFFER))
    world.claim(one, world.read(one, Kind.OFFER))
    world.turn()
    world.settle(two, 1)
    world.settle(one, 3, 1, Outcome.RELEASED)
    world.now += 2
    world.turn()
    children = world.router._offering.clientele.children
    for child in (one, two):
        for offer in read_all(world, child):
            world.settle(child, offer.serial, offer.count, Outcome.UNTOUCHED)
        world.unsubscribe(child)
        for offer in world.offers(child):
            world.answer(child, Kind.PASSED, offer)
        world.hear(child)

    assert [(children[child.peer].octets, children[child.peer].open_offers) for child in (one, two)] == [(0, 0)] * 2


# ---------------------------------------------------------------- who is asked first


def test_idle_auto_consumers_take_turns() -> None:
    """One at a time is offered to one of them, and the next to the next."""
    world, producer, children = make_world(0)[0], None, []
    producer = world.add_child()
    for _ in range(3):
        children.append(world.add_child())
        world.subscribe(children[-1], A, credit=8192, flags=Flag.AUTO)
    got = []
    for _ in range(6):
        world.send(producer, A, [b"x"])
        world.turn()
        # the later ones are quicker
        for child in reversed(children):
            for offer in read_all(world, child):
                got.append(child.peer)
                world.settle(child, offer.serial)

    assert got == [child.peer for child in children] * 2


def test_who_said_nack_is_not_asked_first_for_the_same_message() -> None:
    """Another one that waits gets it; the next message is for anybody."""
    world, producer, (one, two) = make_world(2, credit=10, offer_candidates=1)
    world.send(producer, A, [b"1"])
    offer = world.take_one(one)
    world.settle(one, offer.serial, 1, Outcome.RELEASED)
    assert offers_of(world) == [(two.peer, 1, 1)]

    again = world.read(two, Kind.OFFER)
    world.claim(two, again)
    world.settle(two, again.serial, 1, Outcome.RELEASED)
    assert offers_of(world) == [(one.peer, 1, 1)]


def test_a_message_with_nacks_goes_round_all_consumers() -> None:
    """Who said it longest ago gets it again, when all have said it."""
    world, producer, children = make_world(3, credit=10, offer_candidates=3)
    world.send(producer, A, [b"1"])
    asked = []
    for _ in range(6):
        world.turn()
        takers = [child for child in children for offer in read_all(world, child)]
        asked.append(takers[0].peer)
        world.settle(takers[0], 1, 1, Outcome.RELEASED)

    assert len(takers) == 1
    assert asked[:3] == asked[3:]
    assert len(set(asked)) == 3


def test_who_said_nack_gets_it_again_if_nobody_else_can_take_it() -> None:
    """Not for want of another one is it kept waiting."""
    world, producer, (one, two) = make_world(2, credit=1, offer_candidates=1)
    world.send(producer, A, [b"1", b"2"])
    world.turn()
    world.claim(two, world.read(two, Kind.OFFER))
    world.claim(one, world.read(one, Kind.OFFER))
    world.settle(one, 1, 1, Outcome.RELEASED)

    assert offers_of(world) == [(one.peer, 1, 1)]


# ---------------------------------------------------------------- ends


# ---------------------------------------------------------------- settling


def test_each_outcome_does_what_it_says() -> None:
    """Gone; back with one delivery more; to the dead letters; back as it was."""
    world, producer, (child,) = make_world(1, credit=4)
    world.send(producer, A, [b"1", b"2", b"3", b"4"])
    offer = world.take_one(child)

    for position, outcome in enumerate(Outcome):
        world.settle(child, offer.serial + position, 1, outcome)
    world.turn()

    again = [(offer.serial, offer.deliveries) for offer in child.inbox]
    assert again == [(2, 1), (4, 0)]
    assert [(view.name, view.ready) for view in world.router.views()] == [(A, 0), (b"/queue/DLQ", 1)]


def test_late_settlements_are_counted_and_ignored() -> None:
    """Of messages never held, held no more, or of a subscription that is gone."""
    world, producer, (child,) = make_world(1, credit=2)
    world.send(producer, A, [b"1", b"2"])
    offer = world.take_one(child)

    world.settle(child, offer.serial, 5)
    world.settle(child, offer.serial)
    world.hear(child)
    assert world.router.counters.settlements_late == 4
    child.tokens[9] = A
    child.held[9] = {}
    world.settle(child, 1, 3, token=9)
    world.hear(child)
    assert world.router.counters.settlements_late == 7
    assert world.router.counters.messages_acknowledged == 2


def test_redeliveries_are_counted() -> None:
    """Claims of what was delivered before."""
    world, producer, (child,) = make_world(1)
    world.send(producer, A, [b"1"])

    for _ in range(2):
        offer = world.take_one(child)
        world.settle(child, offer.serial, 1, Outcome.RELEASED)

    counters = world.router.counters
    assert (counters.messages_claimed, counters.messages_redelivered) == (2, 1)


def test_another_router_makes_the_offers_that_have_become_possible() -> None:
    """There was no turn for them, or it was too short for all queues; so the next one is due at once."""
    world = World(stock=Stock(), steps=1)
    producer, child = world.add_child(), world.add_child()
    for token, name in enumerate((b"/dsub/a", b"/dsub/b"), 1):
        world.subscribe(child, b"/topic/t", token=token, durable=name)
        settle_down(world)
    world.run_store()
    settle_down(world)
    world.send(producer, b"/topic/t", [b"x"])

    hand_over(world)
    offered = [offer.destination for _, offer in world.turn() if offer.kind is Kind.OFFER]
    hand_over(world)
    assert (len(offered), world.router.deadline()) == (1, world.now)
    offered += [offer.destination for _, offer in world.turn() if offer.kind is Kind.OFFER]

    assert sorted(offered) == [b"/dsub/a", b"/dsub/b"]
