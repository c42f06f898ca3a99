"""What comes down: topics for slow and fast clients, offers and their claims."""

from __future__ import annotations

import pytest

from forkbroker.session.delivery import CATCH_UP_S, OFFER_ROOM
from forkbroker.session.policy import SessionPolicy
from forkbroker.session.session import State
from forkbroker.wire.kinds import Flag, Kind, Outcome

from .play import Client, joined, sent


def subscribed(
    destination: str,
    ack: str = "auto",
    policy: SessionPolicy | None = None,
    *,
    client: Client | None = None,
    **headers: object,
) -> tuple[Client, int]:
    client = client or Client(policy=policy)
    client.connect()
    return client, client.subscribe(destination, ack, **headers)


def kinds(client: Client) -> list[Kind]:
    return [e.kind for e in client.told()]


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


# Windows of octets


@pytest.mark.parametrize("name", ["consumer-window-size", "credit"])
def test_a_window_of_octets_closes_and_opens(name: str) -> None:
    """The rest of a run goes back untouched, and is asked for again after an ACK."""
    value = {"consumer-window-size": "250", "credit": "10,250"}[name]
    client, token = subscribed("/queue/a", "client-individual", **{name.replace("-", "_"): value})
    client.offer(sent("/queue/a", *[bytes(100)] * 5), token, serial=1)
    claimed, settled = client.told()
    got = client.read()
    client.offer(sent("/queue/a", b"y"), token, serial=6)
    passed = kinds(client)
    client.do("ACK", id=got[0]["ack"])

    assert claimed.kind is Kind.CLAIMED
    assert list(settled.settlements()) == [(4, 2, Outcome.UNTOUCHED)]
    assert len(got) == 3
    assert passed == [Kind.PASSED]
    assert kinds(client) == [Kind.SETTLE, Kind.READY]


def test_a_run_that_fits_is_delivered_as_a_whole() -> None:
    """Nothing of it goes back."""
    client, token = subscribed("/queue/a", "client", consumer_window_size=1000)
    client.offer(sent("/queue/a", *[bytes(100)] * 5), token)

    assert client.session.has_claimed
    assert kinds(client) == [Kind.CLAIMED]
    assert len(client.read()) == 5


def test_one_message_larger_than_the_window_is_delivered() -> None:
    """Else it would be stuck for ever."""
    client, token = subscribed("/queue/a", "client", consumer_window_size=10)
    client.offer(sent("/queue/a", bytes(100)), token)

    assert len(client.read()) == 1


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


# Topics


def test_a_topic_with_acks_and_prefetch_waits_for_them() -> None:
    """Messages beyond the credit wait here, in order."""
    client, _ = subscribed("/topic/a", "client-individual", prefetch_count=2)
    client.forward(sent("/topic/a", b"1", b"2", b"3"))
    client.forward(sent("/topic/a", b"4"))
    first = client.read()
    for got in first:
        client.do("ACK", id=got["ack"])

    assert [got.body for got in first] == [b"1", b"2"]
    assert [got.body for got in client.read()] == [b"3", b"4"]
    assert client.told() == []


def test_a_topic_with_a_window_of_octets_waits_too() -> None:
    """One message at a time fills it."""
    client, _ = subscribed("/topic/a", "client", consumer_window_size=150)
    client.forward(sent("/topic/a", *[bytes(100)] * 4))
    first = client.read()
    client.do("ACK", id=first[-1]["ack"])

    assert len(first) == 2
    assert len(client.read()) == 2


def test_cumulative_acks_of_topics_free_all_earlier_ones() -> None:
    """As for queues."""
    client, _ = subscribed("/topic/a", "client", prefetch_count=3)
    client.forward(sent("/topic/a", *[b"%d" % n for n in range(6)]))
    got = client.read()
    client.do("ACK", id=got[-1]["ack"])

    assert [f.body for f in client.read()] == [b"3", b"4", b"5"]


def test_a_slow_subscriber_is_disconnected() -> None:
    """By default; the reason has the limit, and somebody should look."""
    client, _ = subscribed("/topic/a", policy=SessionPolicy(max_client_buffer=1000))
    for _ in range(10):
        client.forward(sent("/topic/a", bytes(200)))

    assert client.session.is_finished
    assert client.session.reason.startswith("slow subscriber")
    assert "max-client-buffer is 1,000" in client.session.reason
    assert joined(client.session.take_leaving()).flags & Flag.WARNING


def test_one_that_does_not_acknowledge_is_slow_as_well() -> None:
    """What waits for credit counts."""
    client, _ = subscribed("/topic/a", "client", SessionPolicy(max_client_buffer=1000), prefetch_count=1)
    client.forward(sent("/topic/a", b"x"))
    client.read()
    for _ in range(10):
        client.forward(sent("/topic/a", bytes(200)))

    assert client.session.is_finished


def test_a_message_above_the_limit_gets_through() -> None:
    """A subscriber that reads could not have done better; some of them may wait."""
    client, _ = subscribed("/topic/a", policy=SessionPolicy(max_client_buffer=1000))
    client.forward(sent("/topic/a", bytes(5000)))

    assert len(client.read()) == 1
    assert client.session.state is State.CONNECTED


def test_drop_oldest_drops_whole_messages_and_no_replies() -> None:
    """A message of which octets were written is not dropped either."""
    client, _ = subscribed("/topic/a", policy=SessionPolicy(max_client_buffer=500, slow_subscribers="drop-oldest"))
    client.forward(sent("/topic/a", b"0" * 100))
    client.session.written(10, client.now)
    started = client.session.outbox.pending
    client.do("BEGIN", transaction="t", receipt="r")
    for n in range(1, 8):
        client.forward(sent("/topic/a", b"%d" % n * 100))
    data = client.raw()

    assert data[: started - 2].endswith(b"0" * 100)
    assert b"receipt-id:r" in data
    assert b"7" * 100 in data
    assert b"1" * 100 not in data
    assert client.session._delivery.dropped > 0  # type: ignore[union-attr]
    assert client.session.state is State.CONNECTED


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

    assert client.session._delivery.dropped > 0  # type: ignore[union-attr]
    assert [f.body for f in client.read()] == [b"last"]
    assert len(seen) < 40


def test_what_is_dropped_behind_an_ack_is_forgotten() -> None:
    """It stood in the outbox, and so used credit: later messages get that."""
    policy = SessionPolicy(max_client_buffer=1000, slow_subscribers="drop-oldest")
    client, _ = subscribed("/topic/a", "client-individual", policy, prefetch_count=10)
    for n in range(12):
        client.forward(sent("/topic/a", b"%02d" % n * 100))
    got = client.read()
    for each in got:
        client.do("ACK", id=each["ack"])
    client.forward(sent("/topic/a", *[b"%d" % n for n in range(10)]))

    assert 0 < len(got) < 10
    assert [f.body for f in client.read()] == [b"%d" % n for n in range(10)]
    assert len(next(iter(client.session._subscriptions)).unsettled) == 10


def test_the_oldest_of_what_waits_for_credit_are_dropped() -> None:
    """What the client gets in the end is the newest, and without a gap behind the first."""
    policy = SessionPolicy(max_client_buffer=1000, slow_subscribers="drop-oldest")
    client, _ = subscribed("/topic/a", "client-individual", policy, prefetch_count=1)
    for n in range(40):
        client.forward(sent("/topic/a", b"%02d" % n * 50))
    bodies = []
    while got := client.read():
        bodies += [each.body[:2] for each in got]
        client.do("ACK", id=got[-1]["ack"])
    dropped = client.session._delivery.dropped  # type: ignore[union-attr]

    assert dropped > 0
    assert bodies == [b"%02d" % n for n in (0, *range(dropped + 1, 40))]
    assert client.session._delivery._waiting_octets == 0  # type: ignore[union-attr]


def test_what_was_dropped_leaves_a_window_open() -> None:
    """Its octets count no more."""
    policy = SessionPolicy(max_client_buffer=1000, slow_subscribers="drop-oldest")
    client, _ = subscribed("/topic/a", "client-individual", policy, credit="100,5000")
    for n in range(20):
        client.forward(sent("/topic/a", b"%02d" % n * 100))
    for each in client.read():
        client.do("ACK", id=each["ack"])

    assert next(iter(client.session._subscriptions)).sizes == {}


def test_a_slow_subscriber_holds_its_publishers_for_a_moment_only() -> None:
    """Then they go on, and it has to keep up: it gets no second moment before it has caught up."""
    client, _ = subscribed("/topic/a", policy=SessionPolicy(max_client_buffer=1000))
    client.is_reading = False
    client.forward(sent("/topic/a", bytes(600)))
    held = kinds(client)
    client.wait(CATCH_UP_S + 0.1)
    released = kinds(client)
    client.forward(sent("/topic/a", bytes(100)))
    again = kinds(client)
    client.read()
    for _ in range(10):
        client.forward(sent("/topic/a", bytes(200)))
        client.told()

    assert (held, released, again) == ([Kind.CONGESTED], [Kind.RELIEVED], [])
    assert client.session.is_finished


def test_hold_asks_the_parent_to_hold_the_publishers() -> None:
    """Once, and until half of it is read."""
    client, _ = subscribed("/topic/a", policy=SessionPolicy(max_client_buffer=1000, slow_subscribers="hold"))
    client.forward(sent("/topic/a", bytes(2000)))
    client.forward(sent("/topic/a", bytes(2000)))
    congested = kinds(client)
    client.read()

    assert congested == [Kind.CONGESTED]
    assert kinds(client) == [Kind.RELIEVED]


def test_unsubscribe_relieves() -> None:
    """What waited for credit is gone with its subscription."""
    policy = SessionPolicy(max_client_buffer=1000, slow_subscribers="hold")
    client, _ = subscribed("/topic/a", "client", policy, prefetch_count=1)
    client.forward(sent("/topic/a", b"x"))
    client.forward(sent("/topic/a", bytes(2000)))
    client.read()
    congested = kinds(client)
    client.do("UNSUBSCRIBE", id="1")

    assert congested == [Kind.CONGESTED]
    assert kinds(client) == [Kind.UNSUBSCRIBE, Kind.RELIEVED]
