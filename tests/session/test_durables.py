"""Durable subscriptions to topics, in all dialects, up to the envelope."""

from __future__ import annotations

import pytest

from forkbroker.wire.envelope import Envelope
from forkbroker.wire.kinds import Flag, Kind, Outcome

from .play import Client, frame, sent

RABBIT = {"durable": "true", "auto-delete": "false"}
APOLLO = {"persistent": "true"}
ACTIVE = {"activemq.subscriptionName": "news"}
MISSPELT = {"activemq.subcriptionName": "news"}
ARTEMIS = {"durable-subscription-name": "news"}
ARTEMIS_OLD = {"durable-subscriber-name": "news"}
DIALECTS = [
    (RABBIT, b"/dsub/1@%b"),
    (APOLLO, b"/dsub/1@%b"),
    (ACTIVE, b"/dsub/me.news"),
    (MISSPELT, b"/dsub/me.news"),
    (ARTEMIS, b"/dsub/me.news"),
    (ARTEMIS_OLD, b"/dsub/me.news"),
]
VERSIONS = ["1.0", "1.1", "1.2"]


def connected(version: str = "1.2", **headers: object) -> Client:
    client = Client(version)
    client.connect(**(headers or {"client-id": "me"}))
    return client


def subscribe(client: Client, headers: dict[str, str], destination: str = "/topic/a", **more: object) -> Envelope:
    """SUBSCRIBE with id 1 and these headers; the envelope, which the parent has applied."""
    client.receive(frame("SUBSCRIBE", {"destination": destination, "id": "1", **more, **headers}))
    envelopes = client.told()
    assert len(envelopes) == 1, client.error().body
    client.pass_fence()
    return envelopes[0]


def unsubscribe(client: Client, **headers: object) -> Envelope:
    """UNSUBSCRIBE; the envelope."""
    client.receive(frame("UNSUBSCRIBE", headers))
    envelopes = client.told()
    assert len(envelopes) == 1, client.error().body
    return envelopes[0]


# SUBSCRIBE


@pytest.mark.row("D01")
@pytest.mark.parametrize(("headers", "name"), DIALECTS)
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("destination", ["/topic/a", "/topic/a.*.#", "a"])
def test_each_dialect_makes_a_durable_subscription(
    version: str, destination: str, headers: dict[str, str], name: bytes
) -> None:
    """The parent learns the topic or pattern, and the name."""
    envelope = subscribe(connected(version), headers, destination, ack="client")

    assert envelope.kind is Kind.SUBSCRIBE
    assert envelope.flags == Flag.DURABLE | Flag.FENCE
    topic = destination.removeprefix("/topic/").encode()
    assert envelope.destination == b"/topic/" + topic
    assert (envelope.block, envelope.count) == (name.replace(b"%b", topic), 100)


@pytest.mark.row("D01")
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"durable": "true"},
        {"durable": "true", "auto-delete": "true"},
        {"durable": "false", "auto-delete": "false"},
        {"auto-delete": "false"},
        {"persistent": "false"},
    ],
)
def test_other_subscriptions_are_not_durable(headers: dict[str, str]) -> None:
    """RabbitMQ needs both of its headers for that."""
    envelope = subscribe(connected(), headers)

    assert (envelope.flags, envelope.block) == (Flag.AUTO | Flag.FENCE, b"MESSAGE\nsubscription:1\n")


@pytest.mark.row("D01")
@pytest.mark.parametrize(("headers", "_name"), DIALECTS)
@pytest.mark.parametrize("destination", ["/queue/a", "/temp-topic/a", "/temp-queue/a", "/dsub/me.news"])
def test_only_subscriptions_to_topics_are_durable(destination: str, headers: dict[str, str], _name: bytes) -> None:
    """Elsewhere the headers mean nothing."""
    envelope = subscribe(connected(), headers, destination)

    assert not envelope.flags & Flag.DURABLE
    assert not envelope.block.startswith(b"/dsub/")


@pytest.mark.row("D01")
def test_a_name_that_is_written_out_counts_before_the_id() -> None:
    """A client of several brokers sends all headers; ActiveMQ's name before Artemis'."""
    first = subscribe(connected(), {**RABBIT, **APOLLO, **ARTEMIS, "activemq.subscriptionName": "one"})
    second = subscribe(connected(), {**RABBIT, "durable-subscriber-name": "two", "durable-subscription-name": "one"})

    assert first.block == second.block == b"/dsub/me.one"


@pytest.mark.row("D01")
def test_without_client_id_the_name_is_the_name() -> None:
    """Of the whole broker."""
    assert subscribe(connected(login="x"), ACTIVE).block == b"/dsub/news"


@pytest.mark.row("D01")
@pytest.mark.parametrize("headers", [RABBIT, APOLLO])
def test_an_id_is_needed_where_it_is_the_name(headers: dict[str, str]) -> None:
    """1.0 does not demand one otherwise."""
    client = connected("1.0")
    client.receive(frame("SUBSCRIBE", {"destination": "/topic/a", **headers}))

    assert b"the id of a durable subscription is part of its name" in client.error().body


@pytest.mark.row("D01", "U04")
@pytest.mark.parametrize("name", ["", "x" * 66_000])
def test_a_name_must_be_one(name: str) -> None:
    """Not empty, not endless."""
    client = connected(login="x")
    client.receive(frame("SUBSCRIBE", {"destination": "/topic/a", "id": "1", "activemq.subscriptionName": name}))

    assert client.error()["message"] in ("bad SUBSCRIBE", "header line too long")
    assert client.told() == []


# Delivery


@pytest.mark.row("D02")
@pytest.mark.parametrize("version", VERSIONS)
def test_messages_come_as_offers_and_are_settled(version: str) -> None:
    """Like a queue's; their destination is the topic that they were sent to."""
    client = connected(version)
    token = subscribe(client, ACTIVE, "/topic/a.*", ack="client").token
    client.offer(sent("/topic/a.b", b"x"), token, serial=7, queue=b"/dsub/me.news")
    (got,) = client.read()
    named = {"id": got["ack"]} if version == "1.2" else {"message-id": got["message-id"], "subscription": "1"}
    client.receive(frame("ACK", named))
    (settle,) = client.told()

    assert (got["destination"], got["subscription"], got.body) == ("/topic/a.b", "1", b"x")
    assert (settle.kind, settle.serial) == (Kind.SETTLE, 1)
    assert list(settle.settlements()) == [(7, 1, Outcome.ACKNOWLEDGED)]


@pytest.mark.row("D02")
def test_messages_that_need_no_ack_are_settled_when_they_are_written() -> None:
    """Like a queue's."""
    client = connected()
    token = subscribe(client, RABBIT).token
    client.offer(sent("/topic/a", b"x", b"y"), token, serial=7, queue=b"/dsub/1@a")
    client.read()
    (settle,) = client.told()

    assert (settle.kind, settle.serial) == (Kind.SETTLE, 1)
    assert (settle.token, list(settle.settlements())) == (token, [(7, 2, Outcome.ACKNOWLEDGED)])


@pytest.mark.row("D02")
@pytest.mark.parametrize("topic", ["/topic/a", "/topic/*"])
def test_what_is_forwarded_is_for_other_subscriptions(topic: str) -> None:
    """Who has a durable one and a plain one gets two copies, one by each way."""
    client = connected()
    subscribe(client, ACTIVE, topic)
    client.do("SUBSCRIBE", destination=topic, id="2")
    client.pass_fence()
    client.forward(sent("/topic/a", b"x"))

    assert [got["subscription"] for got in client.read()] == ["2"]


@pytest.mark.row("D02", "C16")
def test_a_client_that_closes_its_side_ends_reading() -> None:
    """It can't acknowledge; what was on its way waits for it, or goes to another one of the same name."""
    client = connected()
    token = subscribe(client, ACTIVE, ack="client").token
    client.session.end_of_input(client.now)
    (envelope, *_) = client.told()

    assert (envelope.kind, envelope.token, envelope.destination) == (Kind.UNSUBSCRIBE, token, b"/dsub/me.news")
    assert (envelope.flags & Flag.DURABLE, envelope.block) == (0, b"")


# UNSUBSCRIBE


@pytest.mark.row("D06")
@pytest.mark.parametrize(("headers", "name"), DIALECTS)
def test_unsubscribe_by_id_alone_ends_reading(headers: dict[str, str], name: bytes) -> None:
    """The subscription goes on, and its messages wait."""
    client = connected()
    token = subscribe(client, headers).token
    envelope = unsubscribe(client, id="1")

    assert (envelope.kind, envelope.token, envelope.destination) == (Kind.UNSUBSCRIBE, token, name.replace(b"%b", b"a"))
    assert (envelope.flags, envelope.block) == (0, b"")
    assert len(client.session.subscribed) == 0


@pytest.mark.row("D04")
@pytest.mark.parametrize(
    ("headers", "name"),
    [
        ({"id": "1", "durable": "True"}, b"/dsub/1@a"),
        ({"id": "1", **RABBIT}, b"/dsub/1@a"),
        ({"id": "1", **APOLLO}, b"/dsub/1@a"),
        *[({"id": "1", **headers}, b"/dsub/me.news") for headers in (ACTIVE, MISSPELT, ARTEMIS, ARTEMIS_OLD)],
        (ACTIVE, b"/dsub/me.news"),
        ({"destination": "/topic/a", **ACTIVE}, b"/dsub/me.news"),
    ],
)
def test_unsubscribe_with_the_dialects_header_deletes(headers: dict[str, str], name: bytes) -> None:
    """Reading ends as well."""
    client = connected()
    named = {key: value for key, value in headers.items() if key not in ("id", "destination")}
    token = subscribe(client, named | (RABBIT if "durable" in named else {})).token
    envelope = unsubscribe(client, **headers)

    assert (envelope.kind, envelope.token, envelope.destination) == (Kind.UNSUBSCRIBE, token, b"/topic/a")
    assert (envelope.flags, envelope.block) == (Flag.DURABLE, name)
    assert len(client.session.subscribed) == 0


@pytest.mark.row("D04")
def test_rabbits_header_deletes_whatever_the_subscription_is_called() -> None:
    """A client of several brokers said all of it in SUBSCRIBE."""
    client = connected()
    subscribe(client, {**RABBIT, **ACTIVE})

    assert unsubscribe(client, id="1", durable="true").block == b"/dsub/me.news"


@pytest.mark.row("D05")
@pytest.mark.parametrize(
    ("headers", "name"),
    [
        ({"id": "1", **ACTIVE}, b"/dsub/me.news"),
        (ACTIVE, b"/dsub/me.news"),
        (ARTEMIS, b"/dsub/me.news"),
        ({"id": "1", "destination": "/topic/a", **APOLLO}, b"/dsub/1@a"),
        ({"id": "1", "destination": "a", "durable": "TRUE"}, b"/dsub/1@a"),
    ],
)
@pytest.mark.parametrize("version", VERSIONS)
def test_who_does_not_read_can_delete_all_the_same(version: str, headers: dict[str, str], name: bytes) -> None:
    """ActiveMQ's clients end reading first; it needs no subscription of this connection. Its receipt is a fence."""
    client = connected(version)
    subscribe(client, {**RABBIT, **headers, "destination": "/topic/a"})
    unsubscribe(client, id="1")
    envelope = unsubscribe(client, **headers, receipt="r")

    assert (envelope.kind, envelope.token, envelope.block) == (Kind.UNSUBSCRIBE, 0, name)
    assert envelope.flags == Flag.DURABLE | Flag.FENCE
    assert client.read() == []
    client.pass_fence()
    assert [got["receipt-id"] for got in client.read()] == ["r"]


@pytest.mark.row("D05")
@pytest.mark.parametrize("headers", [{"durable": "true"}, APOLLO])
def test_to_delete_what_is_not_open_needs_the_destination_that_is_part_of_its_name(headers: dict[str, str]) -> None:
    """The ERROR says so."""
    client = connected()
    client.receive(frame("UNSUBSCRIBE", {"id": "1", **headers}))
    got = client.error()

    assert got["message"] == "missing header destination"
    assert b"by its id and its destination" in got.body


@pytest.mark.row("D01")
@pytest.mark.parametrize("headers", [RABBIT, APOLLO])
def test_programs_that_use_one_id_for_their_topics_do_not_share_anything(headers: dict[str, str]) -> None:
    """Both call theirs 1; another client of the same topic and id is the same program, and shares."""
    one, two, same = (subscribe(connected(), headers, topic) for topic in ("/topic/a", "/topic/b", "a"))

    assert one.block != two.block
    assert one.block == same.block


@pytest.mark.row("D01")
def test_clients_with_dots_in_their_names_do_not_share_anything() -> None:
    """`a` and `b.c` are not `a.b` and `c`, and neither is `a.b.c` without a client-id."""
    named = [("a", "b.c"), ("a.b", "c"), ("", "a.b.c")]
    clients = [connected(**({"client-id": client_id} if client_id else {"login": "x"})) for client_id, _ in named]
    names = [
        subscribe(client, {"activemq.subscriptionName": name}).block
        for client, (_, name) in zip(clients, named, strict=True)
    ]

    assert len(set(names)) == 3


@pytest.mark.row("D04")
@pytest.mark.parametrize("is_durable", [True, False])
def test_an_id_and_a_name_that_do_not_belong_together_are_an_error(is_durable: bool) -> None:
    """One of both would be the wrong one."""
    client = connected()
    subscribe(client, {"activemq.subscriptionName": "other"} if is_durable else {})
    client.receive(frame("UNSUBSCRIBE", {"id": "1", **ACTIVE}))

    assert client.error()["message"] == "wrong subscription"


@pytest.mark.row("D04", "U07")
@pytest.mark.parametrize("destination", ["/queue/a", "/topic/a", "/dsub/x"])
@pytest.mark.parametrize("headers", [{"persistent": "true"}, {"durable": "true"}])
def test_the_header_means_nothing_for_other_subscriptions(destination: str, headers: dict[str, str]) -> None:
    """They just end."""
    client = connected()
    token = subscribe(client, {}, destination).token
    envelope = unsubscribe(client, id="1", **headers)

    assert (envelope.token, envelope.flags, envelope.destination) == (token, 0, destination.encode())


@pytest.mark.row("U07")
@pytest.mark.parametrize("headers", [{}, {"id": "2"}, {"persistent": "true"}])
def test_an_unknown_id_is_an_error_where_nothing_is_to_be_deleted(headers: dict[str, str]) -> None:
    """As ever."""
    client = connected()
    subscribe(client, RABBIT)
    client.receive(frame("UNSUBSCRIBE", headers))

    assert client.error()["message"] == ("unknown subscription" if "id" in headers else "missing header id")


# /dsub/


@pytest.mark.row("D07")
def test_a_durable_subscription_can_be_read_by_its_name() -> None:
    """As a queue; the parent knows whether there is one."""
    client = connected()
    envelope = subscribe(client, {}, "/dsub/me.news", ack="client")
    client.offer(sent("/topic/a.b", b"x"), envelope.token, queue=b"/dsub/me.news")
    (got,) = client.read()
    client.told()

    assert (envelope.destination, envelope.flags, envelope.block) == (b"/dsub/me.news", Flag.FENCE, b"")
    assert got["destination"] == "/topic/a.b"
    assert unsubscribe(client, id="1").destination == b"/dsub/me.news"


@pytest.mark.row("D07")
def test_nobody_sends_to_a_durable_subscription() -> None:
    """But to its topic."""
    client = connected()
    client.do("SEND", b"x", destination="/dsub/me.news")

    assert b"send to that" in client.error().body
