"""Consumers come and go, and change their credit."""

from __future__ import annotations

import pytest

from forkbroker.errors import EnvelopeError
from forkbroker.wire.kinds import Flag, Kind

from .simulation import make
from .workers import A, B, make_world, offers_of


@pytest.mark.parametrize(("name", "flags"), [(B, 0), (A, Flag.AUTO), (A, Flag.EXCLUSIVE)])
def test_a_token_is_used_once_at_a_time(name: bytes, flags: int) -> None:
    """Anything else is nonsense of the child."""
    world, _, (child,) = make_world(1)

    with pytest.raises(EnvelopeError, match="token 1 is in use"):
        world.subscribe(child, name, flags=flags)


def test_the_same_subscribe_again_changes_the_credit() -> None:
    """More of it is used at once, and the queue has no other consumer by that."""
    world, producer, (child,) = make_world(1, credit=1)
    world.send(producer, A, [b"x"] * 5)
    world.take_one(child)
    world.subscribe(child, A, credit=3)

    assert offers_of(world) == [(child.peer, 2, 2)]
    assert world.view(A).consumers == 1


def test_less_credit_takes_nothing_back() -> None:
    """What is held counts; the next one comes when less than that is left."""
    world, producer, (child,) = make_world(1, credit=3)
    world.send(producer, A, [b"x"] * 5)
    offer = world.take_one(child)
    world.subscribe(child, A, credit=1)
    seen = [(offer.serial, offer.count)]
    for serial in (1, 2):
        world.settle(child, serial)
        world.hear(child)
        assert offers_of(world) == []
    world.settle(child, 3)
    world.hear(child)

    assert seen == [(1, 3)]
    assert offers_of(world) == [(child.peer, 4, 1)]


def test_credit_may_be_all_taken_away_and_given_again() -> None:
    """A consumer without any is asked for nothing, and keeps no other one out."""
    world, producer, (child, other) = make_world(2, credit=2)
    world.subscribe(child, A, credit=0)
    world.send(producer, A, [b"x"] * 4)
    first = offers_of(world)
    world.subscribe(child, A, credit=9)

    assert first == [(other.peer, 1, 2)]
    assert offers_of(world) == [(child.peer, 3, 2)]


def test_an_exclusive_consumer_is_the_only_one_until_it_ends() -> None:
    """Then the next takes over."""
    world, producer, (plain,) = make_world(1)
    one, two = world.add_child(), world.add_child()
    for child in (one, two):
        world.subscribe(child, A, credit=1, flags=Flag.EXCLUSIVE)
    world.send(producer, A, [b"1", b"2"])

    assert offers_of(world) == [(one.peer, 1, 1)]
    world.end(one)
    assert offers_of(world) == [(two.peer, 1, 1)]
    world.end(two)
    assert offers_of(world) == [(plain.peer, 1, 1)]


def test_two_subscriptions_of_one_child_compete() -> None:
    """Each is a candidate of its own."""
    world, producer, (child,) = make_world(1)
    world.subscribe(child, A, token=2, credit=1)
    world.send(producer, A, [b"1"])
    world.turn()

    first, second = world.read(child, Kind.OFFER), world.read(child, Kind.OFFER)

    assert (first.number, first.slot, {first.token, second.token}) == (second.number, second.slot, {1, 2})
    assert world.claim(child, second)
    assert not world.claim(child, first)
    world.turn()
    world.end(child)
    assert world.router.views()[0].ready == 1


def test_unsubscribing_what_was_refused_is_no_fault() -> None:
    """The child may not have heard of the refusal."""
    world, _, (child,) = make_world(1)

    world.tell(child, make(Kind.UNSUBSCRIBE, destination=B, token=5))

    assert [view.name for view in world.router.views()] == [A]


def test_what_a_child_held_comes_back_marked_in_its_old_place() -> None:
    """When its process ends, or it unsubscribes."""
    world, producer, (one, two) = make_world(2, credit=2, offer_candidates=1)
    world.send(producer, A, [b"1", b"2", b"3", b"4", b"5"])
    world.take_one(one)

    world.end(one)
    held = world.take_one(two)
    world.unsubscribe(two)
    three = world.add_child()
    world.subscribe(three, A)

    world.turn()
    offers = [(offer.serial, offer.count, offer.deliveries) for offer in three.inbox]
    assert held.serial == 3
    assert offers == [(1, 2, 1), (3, 2, 1), (5, 1, 0)]
    assert world.router.counters.messages_requeued == 4


def test_who_is_refused_is_no_consumer_and_hears_why() -> None:
    """A temporary queue is its owner's alone."""
    world, _, (owner, other) = make_world(2)
    name = b"/reply-queue/1-a"
    world.subscribe(owner, name, token=2, flags=Flag.TEMPORARY)
    world.subscribe(other, name, token=2, fence=7)

    assert "only its owner may consume" in world.refusal(other)
    assert world.view(name).consumers == 1


def test_a_durable_subscription_is_consumed_under_its_own_name() -> None:
    """What is sent to a queue that has the name of the topic is not for it; more credit is asked for by both names."""
    world, producer, (child,) = make_world(1)
    topic, me = b"/topic/t", b"/dsub/me"
    world.subscribe(child, topic, token=2, credit=1, durable=me)
    world.send(producer, topic, [b"1", b"2"])
    first = [(offer.destination, offer.count) for _, offer in world.turn() if offer.kind is Kind.OFFER]
    world.subscribe(child, topic, token=2, credit=2, durable=me)
    second = [(offer.destination, offer.count) for _, offer in world.turn() if offer.kind is Kind.OFFER]

    assert first == second == [(me, 1)]
    assert world.view(me).consumers == 1
    with pytest.raises(EnvelopeError, match="token 2 is in use"):
        world.subscribe(child, topic, token=2, credit=2, durable=b"/dsub/other")
