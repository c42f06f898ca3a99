"""Frames on their way down, of both kinds of subscription."""

from __future__ import annotations

import pytest

from forkbroker.session.policy import SessionPolicy

from .clients import subscribed
from .play import joined, sent


@pytest.mark.parametrize("ack", ["auto", "client", "client-individual"])
@pytest.mark.parametrize("destination", ["/queue/a", "/topic/a"])
def test_all_that_is_delivered_is_counted(ack: str, destination: str) -> None:
    """For the log, when the client leaves."""
    client, token = subscribed(destination, ack)
    message = sent(destination, b"1", b"2", b"3")
    if destination == "/queue/a":
        client.offer(message, token)
    else:
        client.forward(message)

    assert client.session.unwritten.delivered == 3
    assert joined(client.session.take_leaving()).serial == 3


def test_what_is_dropped_needs_no_ack() -> None:
    """The client has never seen it: its credit comes back."""
    policy = SessionPolicy(max_client_buffer=1000, slow_subscribers="drop-oldest")
    client, _ = subscribed("/topic/a", "client-individual", policy, prefetch_count=2)
    for n in range(40):
        client.forward(sent("/topic/a", b"%02d" % n * 50))
    got = client.read()
    seen = []
    while got:
        seen += got
        for each in got:
            client.do("ACK", id=each["ack"])
        got = client.read()
    client.forward(sent("/topic/a", b"last"))

    assert client.session._topics.dropped > 0
    assert [f.body for f in client.read()] == [b"last"]
    assert len(seen) < 40


def test_what_was_dropped_leaves_a_window_open() -> None:
    """Its octets count no more."""
    policy = SessionPolicy(max_client_buffer=1000, slow_subscribers="drop-oldest")
    client, _ = subscribed("/topic/a", "client-individual", policy, credit="100,5000")
    for n in range(20):
        client.forward(sent("/topic/a", b"%02d" % n * 100))
    for each in client.read():
        client.do("ACK", id=each["ack"])

    assert next(iter(client.session._subscriptions)).sizes == {}
