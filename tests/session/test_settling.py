"""ACK and NACK."""

from __future__ import annotations

import pytest

from forkbroker.session.policy import SessionPolicy
from forkbroker.wire.fields import OF_CHILD, check
from forkbroker.wire.kinds import Kind, Outcome

from .clients import ack_of, connected, consuming, settled
from .play import frame, sent

VERSIONS = ["1.0", "1.1", "1.2"]

STRICT = SessionPolicy(strict=True)


@pytest.mark.row("A01")
def test_10_acks_by_message_id_in_all_subscriptions() -> None:
    """A `subscription` header means nothing to it."""
    client = connected("1.0")
    first = client.subscribe("/queue/a", "client", subscription_id=None)
    second = client.subscribe("/queue/b", "client", subscription_id="2")
    client.offer(sent("/queue/a", b"x"), first, serial=1)
    client.offer(sent("/queue/b", b"y"), second, serial=2)
    client.told()
    client.read()
    client.receive(frame("ACK", ack_of(client, 1) | {"subscription": "no matter"}))
    client.receive(frame("ACK", ack_of(client, 0)))

    assert [(e.token, *e.settlements()) for e in client.told()] == [
        (second, (2, 1, Outcome.ACKNOWLEDGED)),
        (first, (1, 1, Outcome.ACKNOWLEDGED)),
    ]


@pytest.mark.row("A02")
@pytest.mark.parametrize("command", ["ACK", "NACK"])
def test_strict_11_needs_message_id_and_subscription(command: str) -> None:
    """Either missing is an error, and so is the wrong subscription."""
    for missing in ("message-id", "subscription"):
        client, _ = consuming("1.1", policy=STRICT)
        headers = ack_of(client, 0)
        del headers[missing]
        client.receive(frame(command, headers))
        assert client.error()["message"] == f"missing header {missing}"
    client, _ = consuming("1.1", policy=STRICT)
    client.receive(frame(command, ack_of(client, 0) | {"subscription": "2"}))

    assert client.error()["message"] == "wrong subscription"


@pytest.mark.row("A02")
@pytest.mark.parametrize(("command", "outcome"), [("ACK", Outcome.ACKNOWLEDGED), ("NACK", Outcome.RELEASED)])
@pytest.mark.parametrize("named", [{}, {"subscription": "2"}, {"subscription": ""}])
def test_11_needs_no_subscription_as_its_message_ids_tell_deliveries_apart(
    command: str, outcome: Outcome, named: dict[str, str]
) -> None:
    """Missing or wrong: what was delivered under this message-id is settled, at its own subscription."""
    client, token = consuming("1.1")
    client.subscribe("/queue/b", "client", "2")
    client.receive(frame(command, {"message-id": ack_of(client, 0)["message-id"], **named}))
    (envelope,) = client.told()

    assert (envelope.token, *envelope.settlements()) == (token, (11, 1, outcome))


@pytest.mark.row("A02")
def test_11_needs_the_message_id() -> None:
    """Nothing else tells what is meant."""
    client, _ = consuming("1.1")
    client.do("ACK", subscription="1")

    assert client.error()["message"] == "missing header message-id"


@pytest.mark.row("A03")
def test_12_needs_the_id() -> None:
    """`message-id` is another header."""
    client, _ = consuming("1.2")
    client.receive(frame("ACK", ack_of(client, 0)))
    fine = settled(client)
    client.receive(frame("ACK", {"message-id": client.inbox[-1]["message-id"], "subscription": "1"}))

    assert fine == [(11, 1, Outcome.ACKNOWLEDGED)]
    assert client.error()["message"] == "missing header id"


@pytest.mark.row("A03")
@pytest.mark.parametrize(("command", "outcome"), [("ACK", Outcome.ACKNOWLEDGED), ("NACK", Outcome.RELEASED)])
@pytest.mark.parametrize(("ack", "serials"), [("client", (11, 2)), ("client-individual", (12, 1))])
def test_12_takes_a_message_id_that_names_one_unsettled_delivery(
    command: str, outcome: Outcome, ack: str, serials: tuple[int, int]
) -> None:
    """As if it were the value of `ack`; on a second connection the message has the same id, and that is one as well."""
    client = connected()
    token = client.subscribe("/queue/a", ack)
    client.offer(sent("/queue/a", b"x", b"y", b"z"), token, serial=11)
    got = client.read()
    client.told()
    client.do(command, id=got[1]["message-id"])

    assert settled(client) == [(*serials, outcome)]


@pytest.mark.row("A03", "A11")
def test_12_counts_a_message_id_of_what_is_settled_as_late() -> None:
    """It is ignored, and its receipt comes; a message that comes again under the same id is acknowledged by it."""
    client = connected()
    token = client.subscribe("/queue/a", "client")
    message = sent("/queue/a", b"x")
    client.offer(message, token, serial=11)
    (got,) = client.read()
    client.do("NACK", id=got["message-id"])
    client.do("ACK", id=got["message-id"], receipt="r")
    late = settled(client)
    client.pass_fence()
    (receipt,) = client.read()
    client.offer(message, token, serial=11, deliveries=1)
    client.read()
    client.told()
    client.do("ACK", id=got["message-id"])

    assert (late, receipt["receipt-id"]) == ([(11, 1, Outcome.RELEASED)], "r")
    assert settled(client) == [(11, 1, Outcome.ACKNOWLEDGED)]


@pytest.mark.row("A03")
@pytest.mark.parametrize("destinations", [("/topic/a", "/topic/a"), ("/topic/a", "/topic/*")])
def test_12_refuses_a_message_id_of_two_unsettled_deliveries(destinations: tuple[str, str]) -> None:
    """The error says what would be right; once one of them is settled, the id names the other."""
    unclear, clear = connected(), connected()
    for client in (unclear, clear):
        for number, destination in enumerate(destinations):
            client.subscribe(destination, "client", str(number))
        client.forward(sent("/topic/a", b"x"))
    message_id = clear.read()[0]["message-id"]
    clear.do("ACK", id=clear.inbox[-1]["ack"])
    clear.do("ACK", id=message_id)
    unclear.read()
    unclear.do("ACK", id=message_id)
    error = unclear.error()

    assert error["message"] == "ambiguous message-id"
    assert b"2 deliveries" in error.body and b"ack header" in error.body
    assert [len(s.unacknowledged) for s in clear.session._subscriptions] == [0, 0]


@pytest.mark.row("A03", "T06")
def test_12_finds_a_message_id_again_after_abort() -> None:
    """However many messages came and went meanwhile."""
    client = connected()
    token = client.subscribe("/queue/a", "client-individual")
    client.offer(sent("/queue/a", b"x"), token, serial=11)
    message_id = client.read()[0]["message-id"]
    client.do("BEGIN", transaction="t")
    client.do("ACK", id=message_id, transaction="t")
    for number in range(1000):
        client.offer(sent("/queue/a", b"y", session_id=f"s{number}"), token, serial=20)
        client.do("ACK", id=client.read()[0]["ack"])
    client.do("ABORT", transaction="t")
    client.told()
    client.do("ACK", id=message_id)

    assert settled(client) == [(11, 1, Outcome.ACKNOWLEDGED)]


@pytest.mark.row("A04")
@pytest.mark.parametrize("version", VERSIONS)
def test_client_mode_acks_all_earlier_messages_of_the_subscription(version: str) -> None:
    """And none of another subscription, and no later one."""
    client, token = consuming(version, messages=3)
    other = client.subscribe("/queue/b", "client", "2")
    client.offer(sent("/queue/b", b"x"), other, serial=1)
    client.told()
    client.receive(frame("ACK", ack_of(client, 1)))
    envelopes = client.told()

    assert [(e.token, list(e.settlements())) for e in envelopes] == [(token, [(11, 2, Outcome.ACKNOWLEDGED)])]


@pytest.mark.row("A05")
@pytest.mark.parametrize("version", ["1.1", "1.2"])
def test_client_individual_acks_one(version: str) -> None:
    """Earlier messages stay unsettled."""
    client, _ = consuming(version, "client-individual")
    client.receive(frame("ACK", ack_of(client, 1)))

    assert settled(client) == [(12, 1, Outcome.ACKNOWLEDGED)]


@pytest.mark.row("A06")
def test_auto_is_settled_when_the_last_octet_is_written() -> None:
    """Not a bit earlier."""
    client = connected()
    token = client.subscribe("/queue/a")
    client.offer(sent("/queue/a", b"x", b"y"), token, serial=7)
    client.told()
    octets = client.session.unwritten.pending
    client.session.unwritten.written(octets - 1, client.now)
    early = settled(client)
    client.session.unwritten.written(1, client.now)

    assert early == []
    assert settled(client) == [(7, 2, Outcome.ACKNOWLEDGED)]


@pytest.mark.row("A08")
def test_strict_10_has_no_nack() -> None:
    """An error says so."""
    client, _ = consuming("1.0", policy=STRICT)
    client.receive(frame("NACK", ack_of(client, 0) | {"receipt": "r"}))
    error = client.error()

    assert error["message"] == "NACK is not in STOMP 1.0"
    assert error["receipt-id"] == "r"


@pytest.mark.row("A08", "A09")
@pytest.mark.parametrize(("ack", "serials"), [("client", (11, 2)), ("client-individual", (12, 1))])
@pytest.mark.parametrize("version", VERSIONS)
def test_nack_reaches_as_far_as_ack(version: str, ack: str, serials: tuple[int, int]) -> None:
    """Cumulative in client mode, one message otherwise."""
    client, _ = consuming(version, ack)
    client.receive(frame("NACK", ack_of(client, 1)))

    assert settled(client) == [(*serials, Outcome.RELEASED)]


@pytest.mark.row("A10")
@pytest.mark.parametrize(("requeue", "outcome"), [("true", Outcome.RELEASED), ("false", Outcome.REJECTED)])
def test_nack_releases_or_rejects(requeue: str, outcome: Outcome) -> None:
    """`requeue:false` makes a dead letter."""
    client, _ = consuming()
    client.receive(frame("NACK", ack_of(client, 0) | {"requeue": requeue}))

    assert settled(client) == [(11, 1, outcome)]


@pytest.mark.row("A10")
@pytest.mark.parametrize("is_in_transaction", [False, True])
def test_the_reason_of_a_nack_is_told_with_what_it_settles(is_in_transaction: bool) -> None:
    """And with nothing else; what is longer than can be kept is cut, at the end of a character."""
    client, _ = consuming(messages=5)
    more: dict[str, object] = {"transaction": "t"} if is_in_transaction else {}
    if is_in_transaction:
        client.do("BEGIN", transaction="t")
    client.receive(frame("ACK", ack_of(client, 0) | more))
    client.receive(frame("NACK", ack_of(client, 2) | more | {"requeue": "false", "reason": r"line\nÄ"}))
    client.receive(frame("NACK", ack_of(client, 3) | more | {"reason": "x" * 1023 + "Ä"}))
    client.receive(frame("NACK", ack_of(client, 4) | more | {"reason": ""}))
    if is_in_transaction:
        client.do("COMMIT", transaction="t")
    told = client.told()
    envelopes = told[0].nested() if is_in_transaction else told
    for envelope in told:
        check(envelope, OF_CHILD)

    assert [(e.block, e.settlements()) for e in envelopes] == [
        (b"", [(11, 1, Outcome.ACKNOWLEDGED)]),
        ("line\nÄ".encode(), [(12, 2, Outcome.REJECTED)]),
        (b"x" * 1023, [(14, 1, Outcome.RELEASED)]),
        (b"", [(15, 1, Outcome.RELEASED)]),
    ]


@pytest.mark.row("T09")
def test_the_reason_of_a_nack_counts_for_the_size_of_a_transaction() -> None:
    """It travels in the same envelope."""
    client, _ = consuming(policy=SessionPolicy(max_transaction_size=1000))
    client.do("BEGIN", transaction="t")
    client.receive(frame("NACK", ack_of(client, 0) | {"transaction": "t", "reason": "x" * 1000}))

    assert b"max-transaction-size" in client.error().body


@pytest.mark.row("A11")
@pytest.mark.parametrize("version", VERSIONS)
def test_an_ack_of_what_is_settled_is_ignored(version: str) -> None:
    """It came late; its receipt comes none the less."""
    client, _ = consuming(version)
    client.receive(frame("ACK", ack_of(client, 1)))
    client.told()
    client.pass_fence()
    client.receive(frame("ACK", ack_of(client, 0) | {"receipt": "r"}))

    assert settled(client) == []
    assert [f["receipt-id"] for f in client.read()] == ["r"]


@pytest.mark.row("A11")
def test_strict_makes_a_late_ack_an_error() -> None:
    """For those who want to find such clients."""
    client = connected(policy=SessionPolicy(strict=True))
    token = client.subscribe("/queue/a", "client")
    client.offer(sent("/queue/a", b"x"), token)
    client.read()
    client.receive(frame("ACK", ack_of(client, 0)), frame("ACK", ack_of(client, 0)))
    client.told()

    assert client.error()["message"] == "delivery is settled already"


@pytest.mark.row("A12")
@pytest.mark.parametrize("version", VERSIONS)
def test_an_ack_for_an_auto_subscription_is_ignored(version: str) -> None:
    """By the message-id, as an auto message has no other name."""
    client = connected(version)
    token = client.subscribe("/queue/a")
    client.offer(sent("/queue/a", b"x"), token)
    (got,) = client.read()
    client.told()
    header = "id" if version == "1.2" else "message-id"
    client.receive(frame("ACK", {header: got["message-id"], "subscription": "1"}))

    assert client.session.is_open
    assert settled(client) == []


@pytest.mark.row("A12", "A03")
def test_in_strict_12_the_message_id_is_an_error_where_acks_are_expected() -> None:
    """The client would wait for ever for messages that it believes to have acknowledged."""
    client, _ = consuming("1.2", policy=STRICT)
    client.receive(frame("ACK", {"id": client.inbox[-1]["message-id"]}))

    assert client.error()["message"] == "unknown delivery"


@pytest.mark.row("A12")
@pytest.mark.parametrize("version", VERSIONS)
def test_an_auto_message_is_told_apart_from_those_that_wait(version: str) -> None:
    """Its message-id names nothing that is unsettled, so the ACK does nothing."""
    client, _ = consuming(version)
    token = client.subscribe("/queue/b", "auto", "2")
    client.offer(sent("/queue/b", b"x", session_id="other"), token)
    got = client.read()[-1]
    client.told()
    header = "id" if version == "1.2" else "message-id"
    client.receive(frame("ACK", {header: got["message-id"], "subscription": "2"}))

    assert client.session.is_open
    assert settled(client) == []


def test_an_ack_of_a_topic_message_makes_room_for_the_next() -> None:
    """The parent has nothing to do with it, but a receipt still means all that came before."""
    client = connected()
    client.subscribe("/topic/a", "client", prefetch_count=1)
    client.forward(sent("/topic/a", b"1", b"2"))
    first = client.read()
    client.receive(frame("ACK", {"id": first[0]["ack"], "receipt": "r"}))

    assert [e.kind for e in client.told()] == [Kind.FENCE]
    assert [f.body for f in client.read()] == [b"2"]


@pytest.mark.row("A13")
@pytest.mark.parametrize("destination", ["/topic/a", "/queue/a"])
def test_credit_returns_at_commit(destination: str) -> None:
    """An ACK in an open transaction settles nothing yet."""
    client = connected()
    token = client.subscribe(destination, "client-individual", prefetch_count=1)
    batch = sent(destination, b"1", b"2")
    if destination == "/topic/a":
        client.forward(batch)
    else:
        client.offer(batch, token, count=1)
    client.told()
    (got,) = client.read()
    client.do("BEGIN", transaction="t")
    client.do("ACK", id=got["ack"], transaction="t")
    if destination == "/topic/a":
        client.forward(sent(destination, b"3"))
    early, told_early = client.read(), client.told()
    client.do("COMMIT", transaction="t")

    assert (early, told_early) == ([], [])
    assert [f.body for f in client.read()] == ([b"2"] if destination == "/topic/a" else [])
    assert [e.kind for e in client.told()] == ([] if destination == "/topic/a" else [Kind.TRANSACTION])
