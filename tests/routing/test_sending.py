"""What a destination means for a SEND: the same for one that comes alone, and for one in a transaction."""

from __future__ import annotations

import pytest

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
