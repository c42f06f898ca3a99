"""What is passed on for want of room, and asked for again."""

from __future__ import annotations

import pytest

from forkbroker.session.queue_delivery import OFFER_ROOM
from forkbroker.wire.kinds import Kind

from .clients import kinds, subscribed
from .play import Client, sent


def test_a_client_that_does_not_read_passes_and_asks_again_later() -> None:
    """READY once half of the room is free; what comes before the parent has heard it is passed as well."""
    client, token = subscribed("/queue/a")
    big = sent("/queue/a", bytes(OFFER_ROOM))
    client.offer(big, token)
    client.offer(big, token)
    answers = kinds(client)
    client.read()
    asked = kinds(client)
    client.offer(big, token)
    passed = kinds(client)
    client.pass_fence()
    again = kinds(client)
    client.pass_fence()
    client.offer(big, token)

    assert answers == [Kind.CLAIMED, Kind.PASSED]
    assert asked == [Kind.SETTLE, Kind.READY]
    assert passed == [Kind.PASSED]
    assert again == [Kind.READY]
    assert kinds(client) == [Kind.CLAIMED]


def test_a_session_that_ends_passes_and_does_not_ask() -> None:
    """Others get it."""
    client, token = subscribed("/queue/a")
    client.do("DISCONNECT", receipt="r")
    client.told()
    client.offer(sent("/queue/a", b"x"), token)

    assert kinds(client) == [Kind.PASSED]
    assert client.claims == []


def test_a_window_that_is_full_keeps_nobody_else_from_asking() -> None:
    """The other subscription has passed because the client didn't read; now it does."""
    client, full = subscribed("/queue/a", "client", consumer_window_size=10)
    other = client.subscribe("/queue/b", "auto", "2")
    client.offer(sent("/queue/a", bytes(100)), full)
    client.offer(sent("/queue/a", b"x"), full)
    client.offer(sent("/queue/b", bytes(OFFER_ROOM)), other)
    client.offer(sent("/queue/b", b"x"), other)
    answers = kinds(client)
    client.read()

    assert answers == [Kind.CLAIMED, Kind.PASSED, Kind.CLAIMED, Kind.PASSED]
    assert kinds(client) == [Kind.SETTLE, Kind.READY]


def test_a_subscription_may_end_while_it_asks() -> None:
    """What it passed since READY needs no other one."""
    client, token = subscribed("/queue/a")
    big = sent("/queue/a", bytes(OFFER_ROOM))
    client.offer(big, token)
    client.offer(big, token)
    client.read()
    client.told()
    client.offer(big, token)
    client.do("UNSUBSCRIBE", id="1")
    client.pass_fence()

    assert kinds(client) == [Kind.PASSED, Kind.UNSUBSCRIBE]


def test_what_nobody_waits_for_is_not_asked_for() -> None:
    """A subscription that has passed and ended needs no READY."""
    client, token = subscribed("/queue/a", "client", consumer_window_size=10)
    client.offer(sent("/queue/a", bytes(100)), token)
    client.offer(sent("/queue/a", b"x"), token)
    client.told()
    client.do("UNSUBSCRIBE", id="1")
    client.read()

    assert kinds(client) == [Kind.UNSUBSCRIBE]


@pytest.mark.row("U06")
def test_offers_are_passed_on_until_the_receipt_of_subscribe_is_out() -> None:
    """It may wait for a commit, which offers don't; then they are asked for again."""
    client = Client()
    client.connect()
    client.do("SUBSCRIBE", destination="/queue/a", id="1", receipt="r")
    (subscribe,) = client.told()
    client.offer(sent("/queue/a", b"x"), subscribe.token)
    before = (kinds(client), client.read(), kinds(client))
    client.pass_fence(subscribe.number)
    after = kinds(client)
    client.pass_fence()
    client.offer(sent("/queue/a", b"x"), subscribe.token)

    assert before == ([Kind.PASSED], [], [])
    assert after == [Kind.READY]
    assert kinds(client)[:1] == [Kind.CLAIMED]
    assert [got.command for got in client.read()] == ["RECEIPT", "MESSAGE"]


def test_another_subscription_has_room_meanwhile() -> None:
    """Only the one whose receipt is not out passes; no READY is sent for it in vain."""
    client, token = subscribed("/queue/a", "client")
    client.do("SUBSCRIBE", destination="/queue/b", id="2")
    (subscribe,) = client.told()
    client.offer(sent("/queue/b", b"y"), subscribe.token)
    client.offer(sent("/queue/a", b"x"), token)

    assert kinds(client) == [Kind.PASSED, Kind.CLAIMED]
    assert [got.body for got in client.read()] == [b"x"]
    assert kinds(client) == []


@pytest.mark.parametrize(("left", "told"), [(524_288, []), (524_287, [Kind.READY])])
def test_offers_are_asked_for_when_less_than_half_of_the_room_is_used(left: int, told: list[Kind]) -> None:
    """The room is 1 MiB."""
    client, token = subscribed("/queue/a", "client-individual")
    client.offer(sent("/queue/a", bytes(1_048_576)), token)
    client.offer(sent("/queue/a", b"x"), token)
    client.told()
    client.session.unwritten.written(client.session.unwritten.pending - left, client.now)

    assert kinds(client) == told


@pytest.mark.parametrize(("left", "answer"), [(1_048_576, Kind.PASSED), (1_048_575, Kind.CLAIMED)])
def test_an_offer_is_taken_when_less_than_a_mebibyte_waits(left: int, answer: Kind) -> None:
    """Exactly so much is not less."""
    client, token = subscribed("/queue/a", "client-individual")
    client.offer(sent("/queue/a", bytes(2_000_000)), token)
    client.told()
    client.session.unwritten.written(client.session.unwritten.pending - left, client.now)
    client.offer(sent("/queue/a", b"x"), token)

    assert kinds(client) == [answer]


def test_a_window_closes_with_the_message_that_fills_it() -> None:
    """For topics one message at a time is delivered until then, not two."""
    client, _ = subscribed("/topic/a", "client", consumer_window_size=100)
    client.forward(sent("/topic/a", *[bytes(100)] * 3))

    assert len(client.read()) == 1


def test_what_a_window_left_of_a_run_is_not_overtaken() -> None:
    """Offers that were on their way are passed on, although an ACK has opened the window meanwhile."""
    client, token = subscribed("/queue/a", "client-individual", consumer_window_size=150)
    client.offer(sent("/queue/a", *[bytes(100)] * 3), token)
    client.told()
    for got in client.read():
        client.do("ACK", id=got["ack"])
    client.offer(sent("/queue/a", b"y"), token, serial=4)
    overtaking = kinds(client)
    client.pass_fence()
    client.offer(sent("/queue/a", b"z"), token, serial=3)

    assert overtaking == [Kind.PASSED, Kind.SETTLE, Kind.READY]
    assert Kind.CLAIMED in kinds(client)


def test_a_subscription_that_ends_is_forgotten() -> None:
    """Whatever it passed on."""
    client, token = subscribed("/queue/a", "client", consumer_window_size=10)
    client.offer(sent("/queue/a", bytes(100)), token)
    client.offer(sent("/queue/a", b"x"), token)
    client.do("UNSUBSCRIBE", id="1")

    assert client.session._queues.passed == set()
