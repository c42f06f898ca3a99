"""SUBSCRIBE and UNSUBSCRIBE."""

from __future__ import annotations

import pytest

from forkbroker.session.policy import SessionPolicy
from forkbroker.wire.kinds import Flag, Kind, Outcome

from .clients import ack_of, connected, consuming, settled
from .play import frame, sent

VERSIONS = ["1.0", "1.1", "1.2"]

STRICT = SessionPolicy(strict=True)


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

    assert len(client.session.subscribed) == 2


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


@pytest.mark.row("U13")
@pytest.mark.parametrize("ack", ["auto", "client", "client-individual"])
@pytest.mark.parametrize(
    ("destination", "headers", "flags"),
    [
        ("/queue/a", {}, 0),
        ("/queue/a", {"exclusive": "true"}, Flag.EXCLUSIVE),
        ("/temp-queue/a", {}, Flag.TEMPORARY),
        ("/topic/a", {"durable": "true", "auto-delete": "false"}, Flag.DURABLE),
    ],
)
def test_the_same_subscribe_again_tells_the_parent_another_credit(
    destination: str, headers: dict[str, object], flags: int, ack: str
) -> None:
    """All else is said as before; the receipt comes when the parent has heard it."""
    client = connected()
    client.do("SUBSCRIBE", destination=destination, id="1", ack=ack, **headers)
    (first,) = client.told()
    client.pass_fence()
    client.do("SUBSCRIBE", destination=destination, id="1", ack=ack, prefetch_count=7, receipt="r", **headers)
    (again,) = client.told()
    early = client.read()
    client.pass_fence()

    assert (again.kind, again.count, again.flags & ~Flag.FENCE) == (Kind.SUBSCRIBE, 7, first.flags & ~Flag.FENCE)
    assert again.flags & flags == flags
    assert (again.token, again.destination, again.block) == (first.token, first.destination, first.block)
    assert (early, [got["receipt-id"] for got in client.read()]) == ([], ["r"])
    assert len(client.session.subscribed) == 1


@pytest.mark.row("U13")
def test_more_credit_for_a_topic_is_used_at_once() -> None:
    """The parent need not know; what waited comes, and less credit takes nothing back."""
    client = connected()
    client.subscribe("/topic/a", "client-individual", prefetch_count=1)
    client.forward(sent("/topic/a", b"1", b"2", b"3", b"4"))
    first = [got.body for got in client.read()]
    client.do("SUBSCRIBE", destination="/topic/a", id="1", ack="client-individual", credit="3,0")
    more = client.read()
    client.do("SUBSCRIBE", destination="/topic/a", id="1", ack="client-individual", prefetch_count=1)
    client.do("ACK", id=more[0]["ack"])

    assert (first, [got.body for got in more]) == ([b"1"], [b"2", b"3"])
    assert client.read() == []
    assert client.told() == []


@pytest.mark.row("U02", "U13")
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"consumer-window-size": "1000"},
        {"prefetch-count": "5", "destination": "/queue/b"},
        {"prefetch-count": "5", "ack": "client-individual"},
        {"prefetch-count": "5", "exclusive": "true"},
        {"credit": "5,1000"},
    ],
)
def test_a_subscribe_that_differs_in_more_than_the_credit_is_another_one(headers: dict[str, object]) -> None:
    """Or in nothing that it says; the first one is ended with the connection, not changed."""
    client = connected()
    client.subscribe("/queue/a", "client")
    client.receive(frame("SUBSCRIBE", {"destination": "/queue/a", "id": "1", "ack": "client"} | headers))

    assert client.error()["message"] == "subscription exists"
    assert client.told() == []


@pytest.mark.row("U13")
def test_a_durable_subscription_is_not_one_to_the_topic_alone() -> None:
    """Whichever of them is open."""
    names: dict[str, object] = {"destination": "/topic/a", "id": "1", "prefetch-count": "5"}
    durable = names | {"persistent": "true"}
    for first, second in ((names, durable), (durable, names)):
        client = connected()
        client.receive(frame("SUBSCRIBE", first), frame("SUBSCRIBE", second))

        client.told()
        client.pass_fence()
        assert client.error()["message"] == "subscription exists"


@pytest.mark.row("U13", "A11")
def test_a_change_of_credit_uses_no_other_token() -> None:
    """Else the name of a delivery that was never made would be taken for one that is settled."""
    client = connected()
    token = client.subscribe("/queue/a", "client", prefetch_count=1)
    client.offer(sent("/queue/a", b"x"), token)
    for number in range(5):
        client.do("SUBSCRIBE", destination="/queue/a", id="1", ack="client", prefetch_count=number)
    client.told()
    client.read()
    client.do("ACK", id=f"{token + 1}-1")

    assert client.error()["message"] == "unknown delivery"


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

    assert (client.session.is_open) == is_legal
    if not is_legal:
        assert b"auto, client" in client.error().body


@pytest.mark.row("U03")
def test_strict_keeps_10_to_its_own_ack_modes() -> None:
    """The error lists them."""
    client = connected("1.0", STRICT)
    client.do("SUBSCRIBE", destination="/queue/a", id="1", ack="client-individual")

    assert b"it must be one of auto, client" in client.error().body


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

    assert client.session.is_open


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
    assert client.session._unacknowledged.late == 1
    assert [f["receipt-id"] for f in client.read()] == ["r"]


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


@pytest.mark.parametrize(("headers", "flags"), [({}, 0), ({"receipt": "r"}, Flag.FENCE)])
def test_the_end_of_a_subscription_is_answered_only_if_the_client_asks(headers: dict[str, object], flags: int) -> None:
    """Without a receipt nothing waits for it, and it has no fence."""
    client = connected()
    client.receive(frame("SUBSCRIBE", {"destination": "/queue/a", "id": "1"}))
    client.told()
    client.receive(frame("UNSUBSCRIBE", {"id": "1"} | headers))
    (envelope,) = client.told()

    assert (envelope.kind, envelope.flags, bool(envelope.number)) == (Kind.UNSUBSCRIBE, flags, bool(headers))
