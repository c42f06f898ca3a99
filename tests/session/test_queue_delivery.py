"""Offers and their claims."""

from __future__ import annotations

import pytest

from forkbroker.session.policy import SessionPolicy
from forkbroker.wire.kinds import Kind, Outcome

from .clients import kinds, subscribed
from .play import Client, sent


def test_claimed_lost_and_passed_answer_an_offer() -> None:
    """The semaphore decides between the first two."""
    values = [True, False]
    client, token = subscribed("/queue/a", client=Client(try_claim=lambda slot: values.pop(0)))
    message = sent("/queue/a", b"x")
    client.offer(message, token)
    client.offer(message, token)
    client.offer(message, token + 1)
    answers = client.told()

    assert [(e.kind, e.token, e.number) for e in answers] == [
        (Kind.CLAIMED, token, 1),
        (Kind.LOST, token, 2),
        (Kind.PASSED, token + 1, 3),
    ]
    assert [got.body for got in client.read()] == [b"x"]


def test_the_points_of_a_claim_are_named() -> None:
    """A test of processes kills there."""
    points: list[str] = []
    client, token = subscribed("/queue/a", client=Client(crash=points.append))
    client.offer(sent("/queue/a", b"x"), token)

    assert points == ["child.offer-received", "child.claimed"]


@pytest.mark.row("U05")
def test_an_offer_is_for_one_subscription() -> None:
    """Two that compete are two consumers."""
    client, first = subscribed("/queue/a", subscription_id="1")
    second = client.subscribe("/queue/a", subscription_id="2")
    client.offer(sent("/queue/a", b"x"), second)

    assert [got["subscription"] for got in client.read()] == ["2"]
    assert first != second


@pytest.mark.parametrize("name", ["consumer-window-size", "credit"])
def test_a_window_of_octets_closes_and_opens(name: str) -> None:
    """The rest of a run goes back untouched, and is asked for again after an ACK."""
    value = {"consumer-window-size": "250", "credit": "10,250"}[name]
    client, token = subscribed("/queue/a", "client-individual", **{name.replace("-", "_"): value})
    client.offer(sent("/queue/a", *[bytes(100)] * 5), token, serial=1)
    (settled,) = client.told()
    got = client.read()
    client.offer(sent("/queue/a", b"y"), token, serial=6)
    passed = kinds(client)
    client.do("ACK", id=got[0]["ack"])

    assert (settled.kind, settled.serial) == (Kind.SETTLE, 1)
    assert list(settled.settlements()) == [(4, 2, Outcome.UNTOUCHED)]
    assert len(got) == 3
    assert passed == [Kind.PASSED]
    assert kinds(client) == [Kind.SETTLE, Kind.READY]


def test_a_run_that_fits_is_delivered_as_a_whole() -> None:
    """Nothing of it goes back."""
    client, token = subscribed("/queue/a", "client", consumer_window_size=1000)
    client.offer(sent("/queue/a", *[bytes(100)] * 5), token)

    assert client.session.upward.has_claimed
    assert kinds(client) == [Kind.CLAIMED]
    assert len(client.read()) == 5


def test_one_message_larger_than_the_window_is_delivered() -> None:
    """Else it would be stuck for ever."""
    client, token = subscribed("/queue/a", "client", consumer_window_size=10)
    client.offer(sent("/queue/a", bytes(100)), token)

    assert len(client.read()) == 1


def test_no_message_of_a_queue_is_dropped() -> None:
    """It was claimed: however much of them waits, only topics lose messages."""
    policy = SessionPolicy(max_client_buffer=1000, slow_subscribers="drop-oldest")
    client, token = subscribed("/queue/a", policy=policy)
    client.subscribe("/topic/a", "client", "2")
    client.offer(sent("/queue/a", b"q" * 5000), token)
    client.forward(sent("/topic/a", b"t" * 10))

    assert [got.body[:1] for got in client.read()] == [b"q"]
    assert (client.session._topics.dropped, client.session.unwritten.delivered) == (1, 1)


@pytest.mark.parametrize(("window", "count"), [(299, 3), (300, 3), (301, 4)])
def test_a_run_goes_out_up_to_the_message_that_fills_the_window(window: int, count: int) -> None:
    """The window may be exceeded by the last one, not by another one."""
    client, token = subscribed("/queue/a", "client", consumer_window_size=window)
    client.offer(sent("/queue/a", *[bytes(100)] * 5), token)

    assert len(client.read()) == count
