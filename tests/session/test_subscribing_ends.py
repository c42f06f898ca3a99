"""What concerns subscriptions of either kind."""

from __future__ import annotations

import pytest

from forkbroker.session.policy import SessionPolicy
from forkbroker.wire.kinds import Flag, Kind, Outcome

from .play import Client, Got, frame, sent


def connected(policy: SessionPolicy | None = None) -> Client:
    client = Client(policy=policy)
    client.connect()
    return client


def draining(ack: str = "client-individual", **headers: object) -> tuple[Client, int, list[Got]]:
    """A client with two messages of a queue that it has not settled, and a subscription that drains."""
    client = connected(SessionPolicy(strict=True))
    token = client.subscribe("/queue/a", ack, **headers)
    client.offer(sent("/queue/a", b"1", b"2"), token, serial=11)
    client.told()
    got = client.read()
    client.do("UNSUBSCRIBE", id="1", drain="true")
    return client, token, got


def kinds(client: Client) -> list[Kind]:
    return [envelope.kind for envelope in client.told()]


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
    assert client.session._queues.passed == set()


@pytest.mark.row("U14")
def test_a_queue_subscription_that_drains_gets_no_more() -> None:
    """The parent is told a credit of 0, and what it had offered before is for others."""
    client, token, _ = draining()
    (told,) = client.told()
    client.offer(sent("/queue/a", b"3"), token)

    assert (told.kind, told.token, told.count, told.destination) == (Kind.SUBSCRIBE, token, 0, b"/queue/a")
    assert kinds(client) == [Kind.PASSED]
    assert len(client.session.subscribed) == 0
    assert client.read() == []


@pytest.mark.row("U14")
@pytest.mark.parametrize(("verb", "outcome"), [("ACK", Outcome.ACKNOWLEDGED), ("NACK", Outcome.RELEASED)])
def test_what_was_delivered_before_is_settled_as_ever(verb: str, outcome: Outcome) -> None:
    """The subscription ends with the last of it, not before."""
    client, token, got = draining()
    client.told()
    client.do(verb, id=got[1]["ack"])
    (first,) = client.told()
    client.do(verb, id=got[0]["ack"], receipt="r")
    last, end = client.told()
    client.pass_fence()

    assert [list(e.settlements()) for e in (first, last)] == [[(12, 1, outcome)], [(11, 1, outcome)]]
    assert (end.kind, end.token, end.destination) == (Kind.UNSUBSCRIBE, token, b"/queue/a")
    assert [f["receipt-id"] for f in client.read()] == ["r"]
    client.do(verb, id=got[0]["ack"])
    assert client.error()["message"] == "delivery is settled already"


@pytest.mark.row("U14")
def test_an_id_is_free_while_its_subscription_drains() -> None:
    """Messages of the new one have other names; the old one is not to be ended again."""
    client, token, got = draining()
    client.told()
    other = client.subscribe("/queue/a", "client-individual")
    client.do("ACK", id=got[0]["ack"])
    client.do("ACK", id=got[1]["ack"])

    assert other != token
    assert [(e.kind, e.token) for e in client.told()] == [(Kind.SETTLE, token), (Kind.UNSUBSCRIBE, token)]
    assert len(client.session.subscribed) == 1
    client.do("UNSUBSCRIBE", id="1")
    client.do("UNSUBSCRIBE", id="1")
    client.told()
    assert client.error()["message"] == "unknown subscription"


@pytest.mark.row("U14")
@pytest.mark.parametrize("drain", ["true", "false"])
def test_a_subscription_that_has_nothing_ends_at_once(drain: str) -> None:
    """As does one that is not to drain."""
    client = connected()
    token = client.subscribe("/queue/a", "client")
    if drain == "false":
        client.offer(sent("/queue/a", b"1"), token)
        client.told()
    client.do("UNSUBSCRIBE", id="1", drain=drain)

    assert kinds(client) == [Kind.UNSUBSCRIBE]


@pytest.mark.row("U14")
def test_messages_that_need_no_ack_are_settled_when_they_are_written() -> None:
    """All that was claimed reaches the client, and then the subscription ends."""
    client = connected()
    token = client.subscribe("/queue/a")
    client.offer(sent("/queue/a", b"1", b"2"), token, serial=11)
    client.told()
    client.do("UNSUBSCRIBE", id="1", drain="true")
    before = kinds(client)
    got = client.read()

    assert before == [Kind.SUBSCRIBE]
    assert [f.body for f in got] == [b"1", b"2"]
    assert kinds(client) == [Kind.SETTLE, Kind.UNSUBSCRIBE]


@pytest.mark.row("U14")
def test_a_transaction_may_settle_what_drains() -> None:
    """ABORT leaves it unsettled, and the end comes behind COMMIT."""
    client, _, got = draining("client")
    client.told()
    for verb in ("ABORT", "COMMIT"):
        client.do("BEGIN", transaction="t")
        client.do("ACK", id=got[1]["ack"], transaction="t")
        assert client.told() == []
        client.do(verb, transaction="t")
        assert kinds(client) == ([] if verb == "ABORT" else [Kind.TRANSACTION, Kind.UNSUBSCRIBE])


@pytest.mark.row("U14")
def test_a_topic_subscription_drains_without_the_parent() -> None:
    """It has no more interest; what waited for credit is dropped, and ACKs are no error."""
    client = connected(SessionPolicy(strict=True))
    client.subscribe("/topic/a", "client-individual", prefetch_count=2)
    message = sent("/topic/a", b"1", b"2", b"3")
    client.forward(message)
    got = client.read()
    client.do("UNSUBSCRIBE", id="1", drain="true")
    told = kinds(client)
    client.forward(message)
    for each in got:
        client.do("ACK", id=each["ack"])

    assert ([f.body for f in got], told) == ([b"1", b"2"], [Kind.UNSUBSCRIBE])
    assert (client.told(), client.read()) == ([], [])
    client.do("ACK", id=got[0]["ack"])
    assert client.error()["message"] == "delivery is settled already"


@pytest.mark.row("U14")
def test_a_durable_subscription_drains_and_stays() -> None:
    """Its messages wait for the next one who reads; to delete it is another thing."""
    names: dict[str, object] = {"id": "1", "destination": "/topic/a", "persistent": "true", "ack": "client"}
    for drain, flags in (({"drain": "true"}, 0), ({"drain": "true", "persistent": "true"}, int(Flag.DURABLE))):
        client = connected()
        client.receive(frame("SUBSCRIBE", names))
        (made,) = client.told()
        client.pass_fence()
        client.offer(sent("/topic/a", b"1"), made.token)
        client.told()
        (got,) = client.read()
        client.receive(frame("UNSUBSCRIBE", {"id": "1"} | drain))
        told = client.told()
        client.do("ACK", id=got["ack"])
        told += client.told()
        end = next(e for e in told if e.kind is Kind.UNSUBSCRIBE)

        assert (end.flags & Flag.DURABLE, end.token) == (flags, made.token)
        expected = [Kind.UNSUBSCRIBE] if flags else [Kind.SUBSCRIBE, Kind.SETTLE, Kind.UNSUBSCRIBE]
        assert [e.kind for e in told] == expected


@pytest.mark.row("U14", "C16")
def test_who_can_not_acknowledge_any_more_drains_nothing() -> None:
    """Others get what is unsettled."""
    client, token, _ = draining()
    client.told()
    client.session.end_of_input(client.now)

    assert [(e.kind, e.token) for e in client.told()] == [(Kind.UNSUBSCRIBE, token)]


@pytest.mark.row("U14")
def test_a_broker_that_ends_waits_for_what_drains() -> None:
    """As for any unsettled delivery of a queue."""
    client, _, got = draining()
    client.told()
    client.down(Kind.QUIESCE, token=1)
    waits = client.session.wants_input
    for each in got:
        client.do("ACK", id=each["ack"])

    assert waits
    assert sorted(kinds(client)) == [Kind.UNSUBSCRIBE, Kind.SETTLE, Kind.QUIESCED]


@pytest.mark.row("U14")
def test_drain_is_true_or_false() -> None:
    """To guess would be to give messages back, or to keep them."""
    client = connected()
    client.subscribe("/queue/a")
    client.do("UNSUBSCRIBE", id="1", drain="yes")

    assert "drain is 'yes'" in client.session.reason
