"""Copies of a topic's messages, for fast clients and slow ones."""

from __future__ import annotations

import math

import pytest

from forkbroker.session.policy import SessionPolicy
from forkbroker.session.topic_delivery import CATCH_UP_S
from forkbroker.wire.kinds import Flag, Kind

from .clients import kinds, subscribed
from .play import Client, joined, sent


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

    assert client.session.ending.is_over
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

    assert client.session.ending.is_over


def test_a_message_above_the_limit_gets_through() -> None:
    """A subscriber that reads could not have done better; some of them may wait."""
    client, _ = subscribed("/topic/a", policy=SessionPolicy(max_client_buffer=1000))
    client.forward(sent("/topic/a", bytes(5000)))

    assert len(client.read()) == 1
    assert client.session.is_open


def test_drop_oldest_drops_whole_messages_and_no_replies() -> None:
    """A message of which octets were written is not dropped either."""
    client, _ = subscribed("/topic/a", policy=SessionPolicy(max_client_buffer=500, slow_subscribers="drop-oldest"))
    client.forward(sent("/topic/a", b"0" * 100))
    client.session.unwritten.written(10, client.now)
    started = client.session.unwritten.pending
    client.do("BEGIN", transaction="t", receipt="r")
    for n in range(1, 8):
        client.forward(sent("/topic/a", b"%d" % n * 100))
    data = client.raw()

    assert data[: started - 2].endswith(b"0" * 100)
    assert b"receipt-id:r" in data
    assert b"7" * 100 in data
    assert b"1" * 100 not in data
    assert client.session._topics.dropped > 0
    assert client.session.is_open


def test_what_is_dropped_behind_an_ack_is_forgotten() -> None:
    """It stood in the memory, and so used credit: later messages get that."""
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
    assert len(next(iter(client.session._subscriptions)).unacknowledged) == 10


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
    dropped = client.session._topics.dropped

    assert dropped > 0
    assert bodies == [b"%02d" % n for n in (0, *range(dropped + 1, 40))]
    assert client.session._topics._waiting_octets == 0


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
    assert client.session.ending.is_over


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


def frame_size(body: bytes, ack: str = "auto", destination: str = "/topic/a") -> int:
    """Octets of the frame in which a first subscriber gets this message."""
    client, token = subscribed(destination, ack)
    if destination.startswith("/queue/"):
        client.offer(sent(destination, body), token)
    else:
        client.forward(sent(destination, body))
    return client.session.unwritten.pending


@pytest.mark.parametrize(("spare", "told"), [(0, []), (-2, [Kind.CONGESTED])])
def test_half_of_the_buffer_may_wait(spare: int, told: list[Kind]) -> None:
    """One octet more, and the publishers are held."""
    size = frame_size(bytes(200))
    client, _ = subscribed("/topic/a", policy=SessionPolicy(max_client_buffer=2 * size + spare))
    client.forward(sent("/topic/a", bytes(200)))

    assert kinds(client) == told


@pytest.mark.parametrize(("spare", "is_finished"), [(0, False), (-1, True)])
def test_all_of_the_buffer_may_be_full(spare: int, is_finished: bool) -> None:
    """One octet more, and the client is disconnected."""
    size = frame_size(bytes(100))
    client, _ = subscribed("/topic/a", policy=SessionPolicy(max_client_buffer=6 * size + spare))
    for _ in range(6):
        client.forward(sent("/topic/a", bytes(100)))

    assert client.session.ending.is_over is is_finished


def test_four_batches_may_wait_whatever_their_size() -> None:
    """The limit is then that of their envelopes: the fifth is too much."""
    client, _ = subscribed("/topic/a", policy=SessionPolicy(max_client_buffer=100))
    message = sent("/topic/a", bytes(10_000))
    waits = []
    for _ in range(5):
        client.forward(message)
        waits.append(client.session.ending.is_over)

    assert waits == [False, False, False, False, True]


@pytest.mark.parametrize(("left", "told"), [(125, []), (124, [Kind.RELIEVED])])
def test_the_publishers_go_on_when_less_than_an_eighth_waits(left: int, told: list[Kind]) -> None:
    """Exactly an eighth is not less."""
    client, _ = subscribed("/topic/a", policy=SessionPolicy(max_client_buffer=1000, slow_subscribers="hold"))
    client.forward(sent("/topic/a", bytes(2000)))
    client.told()
    client.session.unwritten.written(client.session.unwritten.pending - left, client.now)

    assert kinds(client) == told


def test_a_burst_before_the_first_turn_holds_the_publishers() -> None:
    """CONNECTED has not been written yet, and the subscription came in the same read."""
    client = Client(policy=SessionPolicy(max_client_buffer=400))
    client.receive(
        b"CONNECT\naccept-version:1.2\nhost:h\n\n\0", b"SUBSCRIBE\nid:1\ndestination:/topic/a\nack:auto\n\n\0"
    )
    before = kinds(client)
    client.pass_fence()
    client.forward(sent("/topic/a", bytes(200)))

    assert before == [Kind.CONNECTED, Kind.SUBSCRIBE]
    assert client.session.unwritten.pending >= 400 // 8
    assert kinds(client) == [Kind.CONGESTED]


def test_who_has_caught_up_may_hold_its_publishers_again() -> None:
    """Each burst gets its moment; what `tick` is asked for ends with it."""
    client, _ = subscribed("/topic/a", policy=SessionPolicy(max_client_buffer=1000))
    seen = []
    for _ in range(2):
        client.forward(sent("/topic/a", bytes(600)))
        deadline = client.session._topics.deadline
        client.read()
        seen.append((deadline, kinds(client), client.session._topics.deadline))

    assert seen == [(client.now + CATCH_UP_S, [Kind.CONGESTED, Kind.RELIEVED], math.inf)] * 2


def test_the_moment_ends_when_it_is_over() -> None:
    """Not one tick later; then nothing is due any more."""
    client, _ = subscribed("/topic/a", policy=SessionPolicy(max_client_buffer=1000))
    client.forward(sent("/topic/a", bytes(600)))
    client.told()
    client.session.tick(client.now + CATCH_UP_S)

    assert kinds(client) == [Kind.RELIEVED]
    assert client.session._topics.deadline == math.inf


def test_who_held_once_and_caught_up_has_nothing_to_tell_again() -> None:
    """RELIEVED was told when the moment was over."""
    client, _ = subscribed("/topic/a", policy=SessionPolicy(max_client_buffer=1000))
    client.is_reading = False
    client.forward(sent("/topic/a", bytes(600)))
    client.told()
    client.wait(CATCH_UP_S + 0.1)
    released = kinds(client)
    client.read()
    caught_up = kinds(client)
    client.forward(sent("/topic/a", bytes(600)))

    assert (released, caught_up) == ([Kind.RELIEVED], [])
    assert kinds(client) == [Kind.CONGESTED]


def test_a_batch_that_waits_for_credit_is_made_ready_once() -> None:
    """Not for each ACK again: that would be quadratic."""
    client, _ = subscribed("/topic/a", "client-individual", prefetch_count=1)
    client.forward(sent("/topic/a", b"1", b"2", b"3"))
    (subscription,) = client.session._subscriptions
    first = subscription.waiting_messages
    client.do("ACK", id=client.read()[0]["ack"])
    second = subscription.waiting_messages
    client.do("ACK", id=client.read()[0]["ack"])

    assert first is second is not None
    assert subscription.waiting_messages is None


def drop_some(ack: str, count: int) -> tuple[Client, int]:
    """A client with `drop-oldest`, for which exactly five frames of a topic fit; `count` are sent, none is read."""
    size = frame_size(bytes(100), ack)
    policy = SessionPolicy(max_client_buffer=5 * size, slow_subscribers="drop-oldest")
    client, _ = subscribed("/topic/a", ack, policy, prefetch_count=100)
    for n in range(count):
        client.forward(sent("/topic/a", b"%d" % n * 100))
    return client, size


@pytest.mark.parametrize("ack", ["auto", "client", "client-individual"])
def test_drop_oldest_keeps_the_newest(ack: str) -> None:
    """As many as fit; what was dropped was not delivered."""
    exact, size = drop_some(ack, 5)
    one_more, _ = drop_some(ack, 6)

    assert exact.session.unwritten.pending == one_more.session.unwritten.pending == 5 * size
    assert (exact.session.unwritten.delivered, exact.session._topics.dropped) == (5, 0)
    assert (one_more.session.unwritten.delivered, one_more.session._topics.dropped) == (5, 1)
    assert [got.body[:1] for got in one_more.read()] == [b"1", b"2", b"3", b"4", b"5"]


def test_credit_of_what_was_dropped_is_used_at_once() -> None:
    """By what waited for it; no ACK has to come first."""
    size = frame_size(bytes(100), "client")
    policy = SessionPolicy(max_client_buffer=5 * size, slow_subscribers="drop-oldest")
    client, _ = subscribed("/topic/a", "client", policy, prefetch_count=3)
    for n in range(9):
        client.forward(sent("/topic/a", b"%d" % n * 100))
    (subscription,) = client.session._subscriptions

    assert subscription.room() == 0
    assert len(client.read()) == 3


def test_what_waits_behind_dropped_messages_comes_without_an_ack() -> None:
    """Their credit is free again: else it would wait for another message of its topic."""
    policy = SessionPolicy(max_client_buffer=2000, slow_subscribers="drop-oldest")
    client, _ = subscribed("/topic/a", "client-individual", policy, prefetch_count=1)
    client.subscribe("/topic/b", "auto", "2")
    client.forward(sent("/topic/a", b"x" * 800))
    client.forward(sent("/topic/a", b"waits"))
    for _ in range(3):
        client.forward(sent("/topic/b", b"y" * 400))

    assert [got.body[:5] for got in client.read()] == [b"yyyyy"] * 3 + [b"waits"]


def test_of_what_waits_no_more_is_dropped_than_has_to_be() -> None:
    """All of its messages count, those of a large batch as well."""
    size = frame_size(b"x" * 2000, "client")
    waiting = [sent("/topic/a", b"1", b"2", b"3"), sent("/topic/a", b"4"), sent("/topic/a", b"5" * 100)]
    limit = size + len(waiting[1].raw) + len(waiting[2].raw)
    policy = SessionPolicy(max_client_buffer=limit, slow_subscribers="drop-oldest")
    client, _ = subscribed("/topic/a", "client", policy, prefetch_count=1)
    client.forward(sent("/topic/a", b"x" * 2000))
    for message in waiting:
        client.forward(message)

    assert (client.session._topics.dropped, client.session._topics.waiting()) == (3, limit)
