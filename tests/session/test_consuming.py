"""SUBSCRIBE, UNSUBSCRIBE, ACK and NACK, up to what the parent is told."""

from __future__ import annotations

import pytest

from forkbroker.session.policy import SessionPolicy
from forkbroker.session.session import State
from forkbroker.wire.kinds import Flag, Kind, Outcome

from .play import Client, frame, sent

VERSIONS = ["1.0", "1.1", "1.2"]
STRICT = SessionPolicy(strict=True)


def connected(version: str = "1.2", policy: SessionPolicy | None = None) -> Client:
    client = Client(version, policy)
    client.connect()
    return client


def consuming(
    version: str = "1.2",
    ack: str = "client",
    messages: int = 3,
    policy: SessionPolicy | None = None,
    **headers: object,
) -> tuple[Client, int]:
    """A client with so many unsettled messages of a queue, of serials 11, 12, …"""
    client = connected(version, policy)
    token = client.subscribe("/queue/a", ack, **headers)
    for n in range(messages):
        client.offer(sent("/queue/a", b"%d" % n), token, serial=11 + n)
    client.told()
    client.read()
    return client, token


def ack_of(client: Client, n: int) -> dict[str, object]:
    """The headers of an ACK of the n-th message that the client got."""
    got = [f for f in client.inbox if f.command == "MESSAGE"][n]
    if client.version == "1.2":
        return {"id": got["ack"]}
    return {"message-id": got["message-id"]} | ({"subscription": "1"} if client.version == "1.1" else {})


def settled(client: Client) -> list[tuple[int, int, Outcome]]:
    """All settlements that the parent was told."""
    return [entry for e in client.told() if e.kind is Kind.SETTLE for entry in e.settlements()]


# SUBSCRIBE


@pytest.mark.row("U01")
@pytest.mark.parametrize("version", ["1.1", "1.2"])
@pytest.mark.parametrize("missing", ["destination", "id"])
def test_strict_requires_destination_and_id(version: str, missing: str) -> None:
    """The error names the header."""
    client = connected(version, STRICT)
    headers: dict[str, object] = {"destination": "/queue/a", "id": "1"}
    del headers[missing]
    client.receive(frame("SUBSCRIBE", headers))

    assert client.error()["message"] == f"missing header {missing}"


@pytest.mark.row("U01")
@pytest.mark.parametrize("version", VERSIONS)
def test_destination_is_always_required(version: str) -> None:
    """Nothing could stand for it."""
    client = connected(version)
    client.do("SUBSCRIBE", id="1")

    assert client.error()["message"] == "missing header destination"


@pytest.mark.row("U01", "U07")
@pytest.mark.parametrize("version", ["1.1", "1.2"])
@pytest.mark.parametrize("by", ["id", "destination"])
def test_without_id_the_destination_is_the_id(version: str, by: str) -> None:
    """As the client wrote it: MESSAGE has it, UNSUBSCRIBE takes it."""
    client = connected(version)
    token = client.subscribe("/topic/a", subscription_id=None)
    client.forward(sent("/topic/a", b"x"))
    (got,) = client.read()
    client.do("SUBSCRIBE", destination="/queue/b", id="2")
    client.told()
    client.receive(frame("UNSUBSCRIBE", {by: "/topic/a"}))
    (envelope,) = client.told()

    assert got["subscription"] == "/topic/a"
    assert (envelope.kind, envelope.token) == (Kind.UNSUBSCRIBE, token)


@pytest.mark.row("U02")
def test_without_id_a_second_subscription_to_the_destination_is_an_error() -> None:
    """Nothing would tell the two apart."""
    client = connected()
    client.subscribe("/topic/a", subscription_id=None)
    client.do("SUBSCRIBE", destination="/topic/a")

    assert client.error()["message"] == "subscription exists"


@pytest.mark.row("U08")
@pytest.mark.parametrize("version", VERSIONS)
def test_a_destination_finds_first_what_was_subscribed_without_id(version: str) -> None:
    """Whichever of the two was there earlier."""
    client = connected(version)
    client.subscribe("/topic/a", subscription_id="named")
    token = client.subscribe("/topic/a", subscription_id=None)
    client.do("UNSUBSCRIBE", destination="/topic/a")

    assert [e.token for e in client.told()] == [token]


@pytest.mark.row("U01")
def test_10_needs_no_id() -> None:
    """Two subscriptions without one are told apart by their destinations."""
    client = connected("1.0")
    client.subscribe("/queue/a", subscription_id=None)
    client.subscribe("/topic/a", subscription_id=None)

    assert client.session.subscription_count == 2


@pytest.mark.row("U02")
@pytest.mark.parametrize("version", VERSIONS)
def test_an_id_can_not_be_used_twice_at_a_time(version: str) -> None:
    """But again after UNSUBSCRIBE."""
    client = connected(version)
    client.subscribe("/queue/a", subscription_id="x")
    client.do("UNSUBSCRIBE", id="x")
    client.told()
    client.subscribe("/queue/b", subscription_id="x")
    client.do("SUBSCRIBE", destination="/queue/c", id="x")

    assert client.error()["message"] == "subscription exists"


@pytest.mark.row("U02")
def test_10_can_not_subscribe_twice_to_one_destination_without_ids() -> None:
    """Nobody could tell the two apart."""
    client = connected("1.0")
    client.subscribe("/queue/a", subscription_id=None)
    client.do("SUBSCRIBE", destination="/queue/a")

    assert client.error()["message"] == "subscription exists"


@pytest.mark.row("U03")
@pytest.mark.parametrize(
    ("version", "ack", "is_legal"),
    [
        ("1.0", "auto", True),
        ("1.0", "client", True),
        ("1.0", "client-individual", True),
        ("1.1", "client-individual", True),
        ("1.2", "client-individual", True),
        ("1.2", "AUTO", False),
        ("1.2", "", False),
    ],
)
def test_ack_modes_are_those_of_the_version(version: str, ack: str, is_legal: bool) -> None:
    """Clients of 1.0 get `client-individual` as well; any other value is an error that lists them."""
    client = connected(version)
    client.do("SUBSCRIBE", destination="/queue/a", id="1", ack=ack)

    assert (client.session.state is State.CONNECTED) == is_legal
    if not is_legal:
        assert b"auto, client" in client.error().body


@pytest.mark.row("U03")
def test_strict_keeps_10_to_its_own_ack_modes() -> None:
    """The error lists them."""
    client = connected("1.0", STRICT)
    client.do("SUBSCRIBE", destination="/queue/a", id="1", ack="client-individual")

    assert b"one of auto, client would be right" in client.error().body


@pytest.mark.row("U03", "A05")
def test_10_acknowledges_single_messages_where_it_asks_for_that() -> None:
    """`client-individual`: the second message alone."""
    client, _ = consuming("1.0", "client-individual", messages=3)
    client.receive(frame("ACK", ack_of(client, 1)))

    assert settled(client) == [(12, 1, Outcome.ACKNOWLEDGED)]


@pytest.mark.row("U03")
def test_auto_is_the_default() -> None:
    """The parent is told, as these settle when written."""
    client = connected()
    client.do("SUBSCRIBE", destination="/queue/a", id="1")
    (envelope,) = client.told()

    assert envelope.flags == Flag.AUTO | Flag.FENCE
    assert envelope.count == SessionPolicy().prefetch_auto


@pytest.mark.row("U04")
@pytest.mark.parametrize("destination", ["/queue/a.*", "/topic/#.a", "/nowhere/a", "/queue/", "/reply-queue/s2.x"])
def test_what_can_not_be_subscribed_to_is_an_error(destination: str) -> None:
    """Patterns of queues, unknown prefixes, other clients' temporary queues."""
    client = connected()
    client.do("SUBSCRIBE", destination=destination, id="1", receipt="r")

    assert client.error()["receipt-id"] == "r"
    assert client.told() == []


@pytest.mark.row("U05")
def test_two_subscriptions_to_a_queue_compete_under_two_tokens() -> None:
    """The parent sees two consumers."""
    client = connected()

    assert client.subscribe("/queue/a", subscription_id="1") != client.subscribe("/queue/a", subscription_id="2")


@pytest.mark.row("U05")
def test_two_subscriptions_to_a_topic_get_two_copies() -> None:
    """Each under its own id."""
    client = connected()
    client.subscribe("/topic/a", subscription_id="1")
    client.subscribe("/topic/*", subscription_id="2")
    client.forward(sent("/topic/a", b"x"))

    assert [(f["subscription"], f["destination"]) for f in client.read()] == [("1", "/topic/a"), ("2", "/topic/a")]


@pytest.mark.row("U06")
def test_the_receipt_of_subscribe_comes_before_its_first_message() -> None:
    """What the topic gets before that is not this subscription's."""
    client = connected()
    client.do("SUBSCRIBE", destination="/topic/a", id="1", receipt="r")
    client.told()
    client.forward(sent("/topic/a", b"early"))
    client.pass_fence()
    client.forward(sent("/topic/a", b"late"))

    assert [(f.command, f.body) for f in client.read()] == [("RECEIPT", b""), ("MESSAGE", b"late")]


@pytest.mark.row("U11")
def test_a_selector_is_refused_and_not_ignored() -> None:
    """The client would get what it doesn't want."""
    client = connected()
    client.do("SUBSCRIBE", destination="/queue/a", id="1", selector="a = 1")
    error = client.error()

    assert error["message"] == "selectors are not supported"
    assert b"selector" in error.body


@pytest.mark.row("U12")
@pytest.mark.parametrize("version", VERSIONS)
def test_unknown_headers_are_ignored(version: str) -> None:
    """On every frame."""
    client = connected(version)
    client.do("SUBSCRIBE", destination="/queue/a", id="1", activemq_dispatchAsync="true", foo="bar")
    client.do("BEGIN", transaction="t", foo="bar")
    client.do("COMMIT", transaction="t", foo="bar")
    client.do("UNSUBSCRIBE", id="1", foo="bar")

    assert client.session.state is State.CONNECTED


def test_a_limit_of_subscriptions_is_named() -> None:
    """Those that reply-to makes count as well."""
    policy = SessionPolicy(max_subscriptions=1)
    client, replying = connected(policy=policy), connected(policy=policy)
    for each in (client, replying):
        each.subscribe("/queue/a")
    client.do("SUBSCRIBE", destination="/queue/b", id="2")
    replying.receive(frame("SEND", {"destination": "/queue/b", "reply-to": "/temp-queue/x"}))

    assert b"max-subscriptions is 1" in client.error().body
    assert b"max-subscriptions is 1" in replying.error().body


def test_exclusive_is_told_to_the_parent() -> None:
    """One active consumer with fail-over."""
    client = connected()
    client.do("SUBSCRIBE", destination="/queue/a", id="1", exclusive="true")

    assert client.told()[0].flags & Flag.EXCLUSIVE


def test_a_credit_larger_than_any_is_no_limit() -> None:
    """It fits into the envelope."""
    client = connected()
    client.receive(frame("SUBSCRIBE", {"destination": "/queue/a", "id": "1", "prefetch-count": 10**14}))

    assert client.told()[0].count == 1_000_000_000


# UNSUBSCRIBE


@pytest.mark.row("U07")
@pytest.mark.parametrize("headers", [{"id": "2"}, {}, {"destination": "/queue/b"}])
@pytest.mark.parametrize("policy", [None, STRICT])
def test_unsubscribe_names_an_existing_subscription(headers: dict[str, object], policy: SessionPolicy | None) -> None:
    """Anything else is an error."""
    client = connected(policy=policy)
    client.subscribe("/queue/a")
    client.receive(frame("UNSUBSCRIBE", headers))

    assert client.error()["message"] in ("unknown subscription", "missing header id")


@pytest.mark.row("U07", "U08")
@pytest.mark.parametrize("version", ["1.1", "1.2"])
def test_strict_wants_the_id_to_unsubscribe(version: str) -> None:
    """The destination is for 1.0."""
    client = connected(version, STRICT)
    client.subscribe("/queue/a")
    client.do("UNSUBSCRIBE", destination="/queue/a")

    assert client.error()["message"] == "missing header id"


@pytest.mark.row("U08")
@pytest.mark.parametrize(("subscribed", "named"), [(None, "destination"), ("7", "destination"), ("7", "id")])
def test_10_unsubscribes_by_destination_or_id(subscribed: str | None, named: str) -> None:
    """A destination finds a subscription that has an id as well."""
    client = connected("1.0")
    token = client.subscribe("/queue/a", subscription_id=subscribed)
    client.receive(frame("UNSUBSCRIBE", {"destination": "/queue/a"} if named == "destination" else {"id": "7"}))

    assert [(e.kind, e.token) for e in client.told()] == [(Kind.UNSUBSCRIBE, token)]


@pytest.mark.row("U08")
@pytest.mark.parametrize("headers", [{"destination": "/queue/b"}, {"id": "9"}, {}])
def test_10_unsubscribe_of_nothing_is_an_error(headers: dict[str, object]) -> None:
    """By either name."""
    client = connected("1.0")
    client.subscribe("/queue/a", subscription_id=None)
    client.receive(frame("UNSUBSCRIBE", headers))

    assert client.error().command == "ERROR"


@pytest.mark.row("U09")
def test_nothing_comes_after_unsubscribe() -> None:
    """Neither from the topic nor from the queue; its receipt says that the parent knows."""
    client = connected()
    client.subscribe("/topic/a", subscription_id="1")
    token = client.subscribe("/queue/a", "client", subscription_id="2")
    client.do("UNSUBSCRIBE", id="1", receipt="r1")
    client.do("UNSUBSCRIBE", id="2", receipt="r2")
    client.forward(sent("/topic/a", b"x"))
    client.offer(sent("/queue/a", b"x"), token)
    early = client.read()
    client.pass_fence()

    assert early == []
    assert client.claims == []
    assert [f["receipt-id"] for f in client.read()] == ["r1", "r2"]


@pytest.mark.row("U10")
@pytest.mark.parametrize("version", VERSIONS)
def test_late_acks_after_unsubscribe_are_counted_and_ignored(version: str) -> None:
    """Their messages went back at once; their receipts come none the less."""
    client, token = consuming(version)
    client.do("UNSUBSCRIBE", id="1")
    client.receive(frame("ACK", ack_of(client, 0) | {"receipt": "r"}))
    envelopes = client.told()
    client.pass_fence()

    assert [(e.kind, e.token) for e in envelopes] == [(Kind.UNSUBSCRIBE, token)]
    assert client.session._unsettled.late == 1  # type: ignore[union-attr]
    assert [f["receipt-id"] for f in client.read()] == ["r"]


# ACK and NACK


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
    assert [len(s.unsettled) for s in clear.session._subscriptions] == [0, 0]


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
    octets = client.session.outbox.pending
    client.session.written(octets - 1, client.now)
    early = settled(client)
    client.session.written(1, client.now)

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

    assert client.session.state is State.CONNECTED
    assert settled(client) == []


@pytest.mark.row("A12", "A03")
def test_in_strict_12_the_message_id_is_an_error_where_acks_are_expected() -> None:
    """The client would wait for ever for messages that it believes to have acknowledged."""
    client, _ = consuming("1.2", policy=STRICT)
    client.receive(frame("ACK", {"id": client.inbox[-1]["message-id"]}))

    assert client.error()["message"] == "unknown delivery"


@pytest.mark.row("A12")
def test_in_12_an_auto_message_is_told_apart_from_those_that_wait() -> None:
    """Its message-id names nothing that is unsettled, so the ACK does nothing."""
    client, _ = consuming("1.2")
    token = client.subscribe("/queue/b", "auto", "2")
    client.offer(sent("/queue/b", b"x", session_id="other"), token)
    got = client.read()[-1]
    client.told()
    client.do("ACK", id=got["message-id"])

    assert client.session.state is State.CONNECTED
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


@pytest.mark.parametrize(
    ("headers", "flags"),
    [
        ({"destination": "/queue/a", "ack": "client"}, 0),
        ({"destination": "/queue/a"}, Flag.AUTO),
        ({"destination": "/queue/a", "ack": "client", "exclusive": "true"}, Flag.EXCLUSIVE),
        ({"destination": "/temp-queue/a", "ack": "client"}, Flag.TEMPORARY),
        ({"destination": "/topic/a", "ack": "client", "persistent": "true"}, Flag.DURABLE),
    ],
)
def test_the_parent_is_told_what_a_subscription_is(headers: dict[str, object], flags: int) -> None:
    """Each flag for what it says, and no other one."""
    client = connected()
    client.receive(frame("SUBSCRIBE", headers | {"id": "1"}))
    (envelope,) = client.told()

    assert envelope.flags == flags | Flag.FENCE
