"""What concerns subscriptions of either kind."""

from __future__ import annotations

import pytest

from forkbroker.wire.kinds import Kind

from .play import Client, sent


def connected() -> Client:
    client = Client()
    client.connect()
    return client


@pytest.mark.row("U09")
def test_what_waited_for_a_topic_subscription_ends_with_it() -> None:
    """It takes no memory any more, and does not come with the ACK of what was delivered."""
    client = connected()
    client.subscribe("/topic/a", "client-individual", prefetch_count=1)
    client.forward(sent("/topic/a", bytes(1000), bytes(1000)))
    (got,) = client.read()
    waited = client.session._topics.waiting()
    client.do("UNSUBSCRIBE", id="1")
    client.do("ACK", id=got["ack"])

    assert (waited > 2000, client.session._topics.waiting()) == (True, 0)
    assert client.read() == []


def test_what_a_queue_subscription_passed_is_not_asked_for_after_its_end() -> None:
    """READY is for those that are left."""
    client = connected()
    token = client.subscribe("/queue/a", "client", credit="10,100")
    client.offer(sent("/queue/a", bytes(200)), token)
    client.offer(sent("/queue/a", bytes(200)), token)
    assert [e.kind for e in client.told()] == [Kind.CLAIMED, Kind.PASSED]
    client.do("UNSUBSCRIBE", id="1")

    assert [e.kind for e in client.told()] == [Kind.UNSUBSCRIBE]
    assert client.session._passing._passed == set()
