"""What a destination means for a SEND: the same for one that comes alone, and for one in a transaction."""

from __future__ import annotations

import pytest

from forkbroker.routing.queues.policies import Policy
from forkbroker.routing.topics.interest import MANY
from forkbroker.wire.details import NO_WISHES, Wishes
from forkbroker.wire.kinds import Flag, Kind

from .simulation import World, make, make_send
from .stock import Stock

TOPIC, QUEUE, NEW = b"/topic/t", b"/queue/a", b"/queue/new"
REPLY, GONE, DURABLE = b"/reply-queue/1-a", b"/reply-queue/1-gone", b"/dsub/me"


def make_world() -> World:
    """A topic with a live subscriber and a durable subscription, a queue, and a temporary one."""
    world = World(stock=Stock())
    owner, listener = world.add_child(), world.add_child()
    world.subscribe(owner, QUEUE)
    world.subscribe(owner, REPLY, token=2, flags=Flag.TEMPORARY)
    world.subscribe(owner, TOPIC, token=3, durable=DURABLE)
    world.subscribe(listener, TOPIC)
    world.turn()
    return world


@pytest.mark.parametrize("is_alone", [True, False])
@pytest.mark.parametrize(
    ("destination", "offered", "forwarded", "kept", "dropped"),
    [
        (TOPIC, [DURABLE], 1, [], 0),
        (b"/topic/other", [], 0, [], 0),
        (QUEUE, [QUEUE], 0, [], 0),
        (NEW, [], 0, [NEW], 0),
        (REPLY, [REPLY], 0, [], 0),
        (GONE, [], 0, [], 1),
    ],
)
def test_a_destination_means_the_same_alone_and_in_a_transaction(
    is_alone: bool, destination: bytes, offered: list[bytes], forwarded: int, kept: list[bytes], dropped: int
) -> None:
    """Who listens, the queues of durable subscriptions, a queue that is there or is made, or one that is gone."""
    world = make_world()
    sender, send = world.add_child(), make_send(destination, [b"x"])
    whole = send if is_alone else make(Kind.TRANSACTION, count=1, payload=[send.raw])

    world.tell(sender, whole)

    sent = [envelope for _, envelope in world.turn()]
    counters = world.router.counters
    figures = (counters.messages_received, counters.messages_forwarded, counters.messages_dropped)
    assert [each.destination for each in sent if each.kind is Kind.OFFER] == offered
    assert [each.destination for each in sent if each.kind is Kind.SEND] == [destination] * forwarded
    assert figures == (1, forwarded, dropped)
    assert [view.name for view in world.router.views() if view.ready] == kept


@pytest.mark.parametrize("is_alone", [True, False])
@pytest.mark.parametrize("wishes", [NO_WISHES, Wishes(delay=1_000)])
def test_what_goes_to_nowhere_is_never_refused(is_alone: bool, wishes: Wishes) -> None:
    """Nothing is to be stored, and no limit is touched, whatever the sender wishes."""
    world = World(Policy(max_queues=1, max_delayed_bytes=0), stock=Stock())
    sender = world.add_child()
    world.send(sender, QUEUE, [b"1"])
    world.kill_store("the disk is gone")
    send = make_send(GONE, [b"x"] * 2, persistent=True, wishes=wishes)

    world.tell(sender, send if is_alone else make(Kind.TRANSACTION, count=1, payload=[send.raw]))

    assert world.answers(sender) == []
    assert world.router.counters.messages_dropped == 2
    assert [view.name for view in world.router.views()] == [QUEUE]


def test_many_subscribers_whose_frames_begin_alike_get_frames() -> None:
    """The others get the envelope, and so do all where each has to look at it."""
    world = World(stock=Stock())
    children = [world.add_child() for _ in range(MANY + 1)]
    for child in children[1:]:
        world.tell(child, make(Kind.SUBSCRIBE, destination=TOPIC, token=1, flags=Flag.AUTO, block=b"MESSAGE\n"))
    world.subscribe(children[0], TOPIC)
    world.turn()

    sender, plain = world.add_child(), make_send(TOPIC, [b"one", b"two"])
    world.tell(sender, plain)
    kinds = {peer: envelope.kind for peer, envelope in world.turn()}
    assert kinds == {children[0].peer: Kind.SEND} | {child.peer: Kind.RENDERED for child in children[1:]}
    frames = [bytes(child.inbox.pop().payload) for child in children[1:]]
    assert len(set(frames)) == 1
    assert [b"one\0\n" in frames[0], b"two\0\n" in frames[0], frames[0].count(b"MESSAGE\n")] == [True, True, 2]

    world.send(sender, TOPIC, [b"x"], wishes=Wishes(ttl=1000))
    assert {envelope.kind for _, envelope in world.turn()} == {Kind.SEND}
    assert world.router.counters.messages_forwarded == 3 * (MANY + 1)
