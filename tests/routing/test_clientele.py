"""What all subscriptions of a child have in common: its room, its bound, and the end of the broker."""

from __future__ import annotations

from forkbroker.wire.kinds import Flag, Kind

from .simulation import make
from .twins import hand_over
from .workers import A, B, held_bytes, make_world, offers_of


def test_when_offers_stop_what_is_offered_is_decided_and_nothing_more_goes_out() -> None:
    """A claim that is told late counts, and settlements; what comes back stays."""
    world, producer, (first, second) = make_world(2, credit=1)
    world.send(producer, A, [b"a", b"b"])
    world.turn()
    claimed, other = world.read(first, Kind.OFFER), world.read(second, Kind.OFFER)
    world.router.stop_offers()
    assert world.claim(first, claimed)
    world.answer(second, Kind.PASSED, other)
    world.hear(second)
    world.tell(second, make(Kind.READY))
    world.send(producer, A, [b"c"])
    world.settle(first, claimed.serial)
    world.hear(first)

    assert offers_of(world) == []
    assert world.view(A).ready == 2
    assert world.router.counters.messages_acknowledged == 1


def test_when_offers_stop_who_settles_by_reading_goes_on() -> None:
    """What was promised reaches it; a consumer that acknowledges gets nothing any more, be it new or old."""
    world, producer, (old,) = make_world(1, credit=10)
    reader, late = world.add_child(), world.add_child()
    world.router.stop_offers()
    world.subscribe(late, A, credit=10)
    world.send(producer, A, [b"a", b"b"])
    assert offers_of(world) == []
    world.subscribe(reader, A, credit=10, flags=Flag.AUTO)

    assert offers_of(world) == [(reader.peer, 1, 2)]
    world.tell(old, make(Kind.READY))
    world.send(producer, A, [b"c"])
    assert offers_of(world) == [(reader.peer, 3, 1)]


def test_who_passed_is_not_asked_before_it_is_ready() -> None:
    """Its offer goes to others, or waits."""
    world, producer, (one, two) = make_world(2, credit=10)
    world.send(producer, A, [b"1"])
    world.turn()
    for child in (one, two):
        world.answer(child, Kind.PASSED, world.read(child, Kind.OFFER))

    assert offers_of(world) == []
    world.tell(two, make(Kind.READY))
    assert offers_of(world) == [(two.peer, 1, 1)]
    assert world.read(two, Kind.OFFER).deliveries == 0
    assert world.router.counters.offers_passed == 2


def test_credit_comes_back_message_by_message() -> None:
    """On settlement, or when an offer is lost or passed."""
    world, producer, (one, two) = make_world(2, credit=4, offer_candidates=1)
    world.send(producer, A, [b"x"] * 100)
    world.turn()
    offer = world.read(one, Kind.OFFER)
    world.claim(one, offer)
    world.turn()
    assert not one.inbox

    world.settle(one, offer.serial + 1, 2)
    assert offers_of(world) == [(one.peer, 9, 2)]

    world.answer(two, Kind.PASSED, world.read(two, Kind.OFFER))
    two.outbox.append(make(Kind.READY))
    assert offers_of(world) == [(two.peer, 5, 4)]


def test_the_subscriptions_of_a_client_share_its_bound() -> None:
    """One gets no more than it leaves to the others, so each of them gets something."""
    world, producer, (child,) = make_world(1, credit=1_000_000, max_unsettled=100_000)
    for token, name in enumerate((A, B, b"/queue/c"), 1):
        world.send(producer, name, [b"x" * 1000] * 100)
        if token > 1:
            world.subscribe(child, name, token=token, credit=1_000_000)
        held_bytes(world, child)

    shares = [len(child.held[token]) for token in (1, 2, 3)]
    assert shares == sorted(shares, reverse=True)
    assert min(shares) >= 5
    assert sum(shares) < 100


def test_another_router_knows_who_has_passed_and_that_the_broker_ends() -> None:
    """READY counts, and who acknowledges gets nothing more."""
    world, producer, (one, two) = make_world(2, credit=10)
    world.send(producer, A, [b"1"])
    world.turn()
    for child in (one, two):
        world.answer(child, Kind.PASSED, world.read(child, Kind.OFFER))
    assert offers_of(world) == []

    hand_over(world)
    assert offers_of(world) == []
    world.tell(two, make(Kind.READY))
    hand_over(world)
    assert offers_of(world) == [(two.peer, 1, 1)]
    world.router.stop_offers()
    hand_over(world)
    world.send(producer, A, [b"2"])
    world.subscribe(world.add_child(), A, credit=1)

    assert offers_of(world) == []


def test_what_a_child_holds_counts_in_another_router() -> None:
    """Its bound in octets is that of the router that it is in now."""
    world, producer, (child,) = make_world(1, credit=10, max_unsettled=20_000)
    world.subscribe(child, B, token=2, credit=10)
    world.send(producer, A, [bytes(12_000)])
    world.take_one(child)

    hand_over(world)
    world.send(producer, B, [bytes(12_000)])
    assert offers_of(world) == []
    world.settle(child, 1)
    world.hear(child)
    hand_over(world)

    assert offers_of(world) == [(child.peer, 2, 1)]


def test_a_queue_offers_again_when_all_that_two_children_held_is_back() -> None:
    """Nothing before: the older messages come first. They are blocked and let go once each, however they end."""
    world, producer, (one, two) = make_world(2, credit=2, offer_candidates=1)
    world.send(producer, A, [b"1", b"2", b"3", b"4", b"5"])
    for child in (one, two):
        world.take_one(child)
    late = world.add_child()
    world.subscribe(late, A)
    world.end(one)
    world.unsubscribe(two)

    assert world.consume(late) == [b"1", b"2", b"3", b"4", b"5"]
