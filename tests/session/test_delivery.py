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


# Values exactly at a limit


def frame_size(body: bytes, ack: str = "auto", destination: str = "/topic/a") -> int:
    """Octets of the frame in which a first subscriber gets this message."""
    client, token = subscribed(destination, ack)
    if destination.startswith("/queue/"):
        client.offer(sent(destination, body), token)
    else:
        client.forward(sent(destination, body))
    return client.session.outbox.pending


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

    assert client.session.is_finished is is_finished


def test_four_batches_may_wait_whatever_their_size() -> None:
    """The limit is then that of their envelopes: the fifth is too much."""
    client, _ = subscribed("/topic/a", policy=SessionPolicy(max_client_buffer=100))
    message = sent("/topic/a", bytes(10_000))
    waits = []
    for _ in range(5):
        client.forward(message)
        waits.append(client.session.is_finished)

    assert waits == [False, False, False, False, True]


@pytest.mark.parametrize(("left", "told"), [(125, []), (124, [Kind.RELIEVED])])
def test_the_publishers_go_on_when_less_than_an_eighth_waits(left: int, told: list[Kind]) -> None:
    """Exactly an eighth is not less."""
    client, _ = subscribed("/topic/a", policy=SessionPolicy(max_client_buffer=1000, slow_subscribers="hold"))
    client.forward(sent("/topic/a", bytes(2000)))
    client.told()
    client.session.written(client.session.outbox.pending - left, client.now)

    assert kinds(client) == told


@pytest.mark.parametrize(("left", "told"), [(524_288, []), (524_287, [Kind.READY])])
def test_offers_are_asked_for_when_less_than_half_of_the_room_is_used(left: int, told: list[Kind]) -> None:
    """The room is 1 MiB."""
    client, token = subscribed("/queue/a", "client-individual")
    client.offer(sent("/queue/a", bytes(1_048_576)), token)
    client.offer(sent("/queue/a", b"x"), token)
    client.told()
    client.session.written(client.session.outbox.pending - left, client.now)

    assert kinds(client) == told


@pytest.mark.parametrize(("left", "answer"), [(1_048_576, Kind.PASSED), (1_048_575, Kind.CLAIMED)])
def test_an_offer_is_taken_when_less_than_a_mebibyte_waits(left: int, answer: Kind) -> None:
    """Exactly so much is not less."""
    client, token = subscribed("/queue/a", "client-individual")
    client.offer(sent("/queue/a", bytes(2_000_000)), token)
    client.told()
    client.session.written(client.session.outbox.pending - left, client.now)
    client.offer(sent("/queue/a", b"x"), token)

    assert kinds(client) == [answer]


def test_a_window_closes_with_the_message_that_fills_it() -> None:
    """For topics one message at a time is delivered until then, not two."""
    client, _ = subscribed("/topic/a", "client", consumer_window_size=100)
    client.forward(sent("/topic/a", *[bytes(100)] * 3))

    assert len(client.read()) == 1


# What is kept from one time to the next


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
    assert client.session.outbox.pending >= 400 // 8
    assert kinds(client) == [Kind.CONGESTED]


def test_who_has_caught_up_may_hold_its_publishers_again() -> None:
    """Each burst gets its moment; what `tick` is asked for ends with it."""
    client, _ = subscribed("/topic/a", policy=SessionPolicy(max_client_buffer=1000))
    seen = []
    for _ in range(2):
        client.forward(sent("/topic/a", bytes(600)))
        assert client.session._delivery is not None
        deadline = client.session._delivery.deadline
        client.read()
        seen.append((deadline, kinds(client), client.session._delivery.deadline))

    assert seen == [(client.now + CATCH_UP_S, [Kind.CONGESTED, Kind.RELIEVED], None)] * 2


def test_the_moment_ends_when_it_is_over() -> None:
    """Not one tick later; then nothing is due any more."""
    client, _ = subscribed("/topic/a", policy=SessionPolicy(max_client_buffer=1000))
    client.forward(sent("/topic/a", bytes(600)))
    client.told()
    client.session.tick(client.now + CATCH_UP_S)

    assert kinds(client) == [Kind.RELIEVED]
    assert client.session._delivery is not None
    assert client.session._delivery.deadline is None


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

    assert client.session._delivery is not None
    assert client.session._delivery._passed == set()


# Figures


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

    assert client.session.delivered == 3
    assert joined(client.session.take_leaving()).serial == 3


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
    assert exact.session._delivery is not None and one_more.session._delivery is not None

    assert exact.session.outbox.pending == one_more.session.outbox.pending == 5 * size
    assert (exact.session.delivered, exact.session._delivery.dropped) == (5, 0)
    assert (one_more.session.delivered, one_more.session._delivery.dropped) == (5, 1)
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


def test_no_message_of_a_queue_is_dropped() -> None:
    """It was claimed: however much of them waits, only topics lose messages."""
    policy = SessionPolicy(max_client_buffer=1000, slow_subscribers="drop-oldest")
    client, token = subscribed("/queue/a", policy=policy)
    client.subscribe("/topic/a", "client", "2")
    client.offer(sent("/queue/a", b"q" * 5000), token)
    client.forward(sent("/topic/a", b"t" * 10))

    assert [got.body[:1] for got in client.read()] == [b"q"]
    assert client.session._delivery is not None
    assert (client.session._delivery.dropped, client.session.delivered) == (1, 1)


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
    assert client.session._delivery is not None

    assert (client.session._delivery.dropped, client.session._delivery.waiting()) == (3, limit)


@pytest.mark.parametrize(("window", "count"), [(299, 3), (300, 3), (301, 4)])
def test_a_run_goes_out_up_to_the_message_that_fills_the_window(window: int, count: int) -> None:
    """The window may be exceeded by the last one, not by another one."""
    client, token = subscribed("/queue/a", "client", consumer_window_size=window)
    client.offer(sent("/queue/a", *[bytes(100)] * 5), token)

    assert len(client.read()) == count
