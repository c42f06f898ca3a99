"""What a router tells of what happens, and that it makes nothing of it while nobody listens."""

from __future__ import annotations

from typing import Any

import pytest

from forkbroker.errors import EnvelopeError
from forkbroker.routing.news import EVENTS, MOST
from forkbroker.routing.queues.policies import Full, Policy, QueueRule
from forkbroker.wire.kinds import Outcome

from .simulation import Child, World
from .stock import Stock

A = b"/queue/a"
EVENTS_TOPIC = b"/topic/$SYS/events/>"


def make_world(*, broadcast_all: bool = False, **policy: Any) -> tuple[World, Child]:
    world = World(Policy(broadcast_all=broadcast_all, rules=(QueueRule(A, policy),)), stock=Stock())
    return world, world.add_child()


def listen(world: World, name: bytes = EVENTS_TOPIC) -> Child:
    child = world.add_child()
    world.subscribe(child, name, token=9)
    return child


def told(world: World) -> list[tuple[str, dict[str, Any]]]:
    return world.router.news.take()


def test_nothing_is_made_while_nobody_listens() -> None:
    """A queue comes, is full, and goes; a message dies."""
    world, child = make_world(full=Full.REFUSE, max_length=1)
    world.send(child, A, [b"1"])
    world.send(child, A, [b"2"])
    assert "is full" in world.refusal(child)
    world.subscribe(child, A)
    offer = world.take_one(child)
    world.settle(child, offer.serial, outcome=Outcome.REJECTED)
    world.hear(child)

    assert told(world) == []
    assert not world.router.news.listeners


def test_a_queue_is_told_of_from_its_making_to_its_end() -> None:
    """By its name; what it still had when it ended."""
    world, child = make_world()
    listen(world)
    world.send(child, A, [b"1"])
    assert told(world) == [("queue-made", {"name": "/queue/a"})]
    reader = world.add_child()
    world.subscribe(reader, A)
    assert world.consume(reader) == [b"1"]
    world.end(reader)

    assert told(world) == [("queue-deleted", {"name": "/queue/a", "messages": 0})]


@pytest.mark.parametrize("full", list(Full))
def test_a_full_queue_is_told_of_once_until_it_has_room_again(full: Full) -> None:
    """Whatever its policy does with what is too much."""
    world, child = make_world(full=full, max_length=2)
    listen(world)
    for number in range(5):
        world.send(child, A, [b"%d" % number])
    found = [details for event, details in told(world) if event == "queue-full"]
    assert [(one["name"], one["full"]) for one in found] == [("/queue/a", full.value)]
    assert "is full: " in found[0]["reason"]

    reader = world.add_child()
    world.subscribe(reader, A)
    world.consume(reader)
    world.unsubscribe(reader)
    for number in range(5):
        world.send(child, A, [b"%d" % number])

    assert [event for event, _ in told(world)].count("queue-full") == 1


def test_a_dead_letter_is_told_of_with_its_reason_and_its_id() -> None:
    """And where it came from."""
    world, child = make_world()
    listen(world)
    world.send(child, A, [b"1"])
    world.subscribe(child, A)
    offer = world.take_one(child)
    told(world)
    world.settle(child, offer.serial, outcome=Outcome.REJECTED)
    world.hear(child)

    (event, details) = next(one for one in told(world) if one[0] == "dead-letter")
    assert (details["queue"], details["to"], details["reason"], details["count"]) == (
        "/queue/a",
        "/queue/DLQ",
        "rejected",
        1,
    )
    suffix = bytes(offer.block).partition(b"\n")[0].decode()
    assert details["message-id"] == f"{offer.index}{suffix}"
    assert event in EVENTS


def test_a_flood_is_counted_and_not_kept() -> None:
    """What comes behind as many as one turn can have."""
    world, child = make_world()
    listen(world)
    for number in range(MOST + 7):
        world.send(child, b"/queue/%d" % number, [b""])

    assert len(world.router.news.waiting) == MOST
    assert world.router.news.missed == 7


@pytest.mark.parametrize("broadcast_all", [False, True])
def test_listeners_are_counted_until_they_are_gone(*, broadcast_all: bool) -> None:
    """By their names: those of two children, one of which has subscribed twice."""
    world, _ = make_world(broadcast_all=broadcast_all)
    one, other = listen(world), listen(world, b"/topic/$SYS/status")
    world.subscribe(one, EVENTS_TOPIC, token=10)
    world.subscribe(one, b"/topic/#", token=11)
    news = world.router.news
    assert set(news.names) == {EVENTS_TOPIC, b"/topic/$SYS/status"}

    world.unsubscribe(one, 10)
    assert set(news.names) == {EVENTS_TOPIC, b"/topic/$SYS/status"}
    world.end(one)
    assert set(news.names) == {b"/topic/$SYS/status"}
    world.unsubscribe(other, 9)
    assert (news.listeners, dict(news.names)) == (0, {})


def test_patterns_do_not_get_them_by_accident() -> None:
    """Only a name, or a pattern, that says `$SYS`."""
    world, _ = make_world()
    for name in (b"/topic/>", b"/topic/#", b"/topic/*/events/connect"):
        listen(world, name)
    exact, pattern = listen(world, b"/topic/$SYS/events/connect"), listen(world, b"/topic/$SYS/events/*")

    assert set(world.router.find_listeners(b"/topic/$SYS/events/connect")) == {exact.peer, pattern.peer}


def test_no_child_may_send_there_or_have_it_kept() -> None:
    """It is a lie, as the session refuses it before."""
    world, child = make_world()
    with pytest.raises(EnvelopeError, match="SEND to"):
        world.send(child, b"/topic/$SYS/events/connect", [b""])
    with pytest.raises(EnvelopeError, match="no topic for a durable subscription"):
        world.subscribe(child, b"/topic/$SYS/>", durable=b"/dsub/me")


def test_a_queue_that_was_full_before_is_told_of_when_it_is_full_again() -> None:
    """A router that nobody listens to keeps no mark of it."""
    world, child = make_world(full=Full.REFUSE, max_length=1)
    world.send(child, A, [b"1"])
    world.send(child, A, [b"2"])

    listen(world)
    world.send(child, A, [b"3"])

    assert [event for event, _ in told(world)] == ["queue-full"]


def test_what_is_known_of_listeners_follows_from_their_subscriptions() -> None:
    """In another router as well."""
    world, _ = make_world()
    listen(world)
    world.turn()
    other, _ = make_world()
    other.router.load(world.router.dump())

    assert dict(other.router.news.names) == {EVENTS_TOPIC: 1}
