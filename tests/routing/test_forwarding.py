"""A SEND to a topic: who gets it, and what is made of one that nobody gets."""

from __future__ import annotations

import pytest

from forkbroker.errors import EnvelopeError
from forkbroker.routing.queues.policies import Full, Policy, QueuePolicy
from forkbroker.wire.kinds import Kind

from .simulation import Child, World, make, make_send

A = b"/queue/a"
NEWS, ME = b"/topic/news.today", b"/dsub/me"


def test_a_topic_goes_untouched_to_whoever_is_interested() -> None:
    """The sender too."""
    world = World()
    one, two, _ = (world.add_child() for _ in range(3))
    world.subscribe(one, NEWS)
    world.subscribe(two, b"/topic/news.*")
    envelope = make_send(NEWS, [b"a", b"b"])

    world.router.receive(one.peer, envelope, 0.0)

    assert world.router.take() == [(one.peer, [envelope.raw]), (two.peer, [envelope.raw])]
    assert world.router.take() == []
    counters = world.router.counters
    assert (counters.messages_received, counters.messages_forwarded) == (2, 4)


@pytest.mark.parametrize("is_in_transaction", [False, True])
def test_a_persistent_message_to_a_bare_name_that_nobody_hears_is_noted(is_in_transaction: bool) -> None:
    """Once; and not where a subscriber or a durable subscription has it, or the sender wrote what it means."""
    world = World()
    one = world.add_child()

    def send(*, bare: bool) -> list[str]:
        envelope = make_send(NEWS, [b"x"], persistent=True, bare=bare)
        world.tell(one, make(Kind.TRANSACTION, count=1, payload=[envelope.raw]) if is_in_transaction else envelope)
        return world.router.take_notes()

    silent, told, again = send(bare=False), send(bare=True), send(bare=True)

    assert (silent, again) == ([], [])
    assert len(told) == 1 and "send to /queue/news.today" in told[0]


@pytest.mark.parametrize("durable", [b"", b"/dsub/me"])
def test_a_persistent_message_to_a_bare_name_that_is_heard_is_no_news(durable: bytes) -> None:
    """A topic may have been meant."""
    world = World()
    one = world.add_child()
    world.subscribe(one, NEWS, durable=durable)
    world.router.take_notes()
    world.tell(one, make_send(NEWS, [b"x"], persistent=True, bare=True))

    assert world.router.take_notes() == []


def test_by_setting_a_topic_goes_to_everybody() -> None:
    """Queues are not concerned."""
    world = World(Policy(broadcast_all=True))
    one, two = world.add_child(), world.add_child()

    world.send(one, NEWS, [b"a"])
    world.send(one, A, [b"b"])

    assert [(peer, envelope.destination) for peer, envelope in world.turn()] == [(one.peer, NEWS), (two.peer, NEWS)]


def test_interest_ends_with_subscription_and_child() -> None:
    """A reply topic is a topic."""
    world = World()
    one, two = world.add_child(), world.add_child()
    for child in (one, two):
        world.subscribe(child, b"/reply-topic/7-a")

    world.unsubscribe(one)
    world.end(two)
    world.send(one, b"/reply-topic/7-a", [b"a"])

    assert world.turn() == []


def test_interest_that_was_never_told_cannot_end() -> None:
    """Nor can one in a broken pattern, which cannot begin either."""
    world = World()
    child = world.add_child()

    with pytest.raises(EnvelopeError, match="no interest"):
        world.tell(child, make(Kind.UNSUBSCRIBE, destination=NEWS))
    with pytest.raises(EnvelopeError, match="last level"):
        world.tell(child, make(Kind.SUBSCRIBE, destination=b"/topic/#.a"))
    with pytest.raises(EnvelopeError, match="last level"):
        world.tell(child, make(Kind.UNSUBSCRIBE, destination=b"/topic/#.a"))


# ---------------------------------------------------------------- durable subscriptions


def make_durable(**policy: object) -> tuple[World, Child, Child, Child]:
    """A publisher, a subscriber, and one that reads a durable subscription, which has room for two messages."""
    world = World(Policy(durable=QueuePolicy(max_length=2, **policy)), slots=64)  # type: ignore[arg-type]
    publisher, listener, reader = (world.add_child() for _ in range(3))
    world.subscribe(listener, NEWS)
    world.subscribe(reader, NEWS, credit=0, durable=ME)
    world.turn()
    return world, publisher, listener, reader


def test_who_listens_has_it_and_the_durable_subscription_as_well() -> None:
    """It counts once as received and once as forwarded; what is stored for later is no forwarding."""
    world, publisher, listener, reader = make_durable()
    world.send(publisher, NEWS, [b"1"])
    forwarded = world.turn()
    world.subscribe(reader, NEWS, credit=9, durable=ME)

    assert [(peer, envelope.count) for peer, envelope in forwarded] == [(listener.peer, 1)]
    assert world.consume(reader) == [b"1"]
    counters = world.router.counters
    assert (counters.messages_received, counters.messages_forwarded) == (1, 1)


def test_what_a_full_durable_subscription_refuses_nobody_gets() -> None:
    """Whoever sends it again sends it to all."""
    world, publisher, _, _ = make_durable(full=Full.REFUSE)
    world.send(publisher, NEWS, [b"1", b"2"])
    world.turn()
    world.send(publisher, NEWS, [b"3", b"4"], fence=7)

    assert [(peer, envelope.kind) for peer, envelope in world.turn()] == [(publisher.peer, Kind.REFUSED)]
    counters = world.router.counters
    assert (counters.messages_received, counters.messages_refused) == (2, 2)


def test_a_full_durable_subscription_holds_who_publishes_to_its_topic() -> None:
    """Others publish what it does not get."""
    world, publisher, _, _ = make_durable(full=Full.HOLD)
    other = world.add_child()
    for _ in range(2):
        world.send(publisher, NEWS, [b"1", b"2"])
        world.send(other, b"/topic/other", [b"1", b"2"])

    assert world.answers(publisher) == [(Kind.HOLD, 0)]
    assert world.answers(other) == []


@pytest.mark.parametrize(("listeners", "applied"), [(49, 3), (100, 2)])
def test_fifty_receivers_take_as_long_as_one_envelope_more(listeners: int, applied: int) -> None:
    """So a turn ends earlier where a topic has many."""
    world = World(steps=6)
    publisher = world.add_child()
    for _ in range(listeners):
        world.subscribe(world.add_child(), NEWS)
        world.turn()
    for _ in range(3):
        world.send(publisher, NEWS, [b"1"])

    assert len(world.deliver()) == applied * listeners
