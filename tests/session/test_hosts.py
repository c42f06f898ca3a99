"""Clients of several virtual hosts, over one router."""

from __future__ import annotations

import pytest

from forkbroker.hosts import Host, Hosts
from forkbroker.permissions import Grant, Permissions
from forkbroker.routing.queues.policies import Full, Policy, QueuePolicy, QueueRule
from forkbroker.session.policy import SessionPolicy
from forkbroker.wire.kinds import Kind

from .play import Broker, Client, bodies, frame

HOSTS = Hosts((Host("shop", ("shop",)), Host("work", ("work",)), Host("ops", ("ops",), control=True)))
NAMES = ("h", "shop", "work")
"""The first is unknown, and so the default one."""


def make(routing: Policy | None = None, policy: SessionPolicy | None = None) -> tuple[Broker, list[Client]]:
    """A broker, with a client of each host."""
    broker = Broker(routing, policy, Permissions(hosts=HOSTS))
    return broker, [broker.client(host=name) for name in NAMES]


@pytest.mark.parametrize("destination", ["/queue/a", "/topic/a.b", "a.b", "/topic/$other/x"])
def test_the_same_name_is_another_destination_in_each_host(destination: str) -> None:
    """And the client sees the name that it knows."""
    broker, clients = make()
    for client in clients:
        client.do("SUBSCRIBE", destination=destination, id="1")
    broker.run()
    for client, name in zip(clients, NAMES, strict=True):
        client.do("SEND", name.encode(), destination=destination)
    broker.run()

    for client, name in zip(clients, NAMES, strict=True):
        (message,) = client.inbox[1:] if client.inbox[0].command == "CONNECTED" else client.inbox
        assert (message.body, message["destination"]) == (name.encode(), destination)


@pytest.mark.parametrize("host", NAMES)
def test_a_first_level_with_a_dollar_sign_is_matched_by_no_wildcard(host: str) -> None:
    """In each host."""
    broker = Broker(permissions=Permissions(hosts=HOSTS))
    client = broker.client(host=host)
    for number, pattern in enumerate(("/topic/>", "/topic/*/x", "/topic/$own/*")):
        client.do("SUBSCRIBE", destination=pattern, id=number)
    broker.run()
    client.do("SEND", b"x", destination="/topic/$own/x")
    broker.run()

    assert [got["subscription"] for got in client.inbox if got.command == "MESSAGE"] == ["2"]


@pytest.mark.parametrize("rights", [["read"], ["read", "monitor"]])
@pytest.mark.parametrize("pattern", ["/topic/$SYS/status", "/topic/$SYS/>", "/topic/$SYS/*"])
def test_no_right_for_all_topics_is_one_for_what_the_broker_says_of_itself(rights: list[str], pattern: str) -> None:
    """Neither to read nor to monitor; and a subscription to all topics does not reach it."""
    grants = [Grant("anonymous", right, "/topic/>", "") for right in rights]
    broker = Broker(permissions=Permissions(tuple(grants)))
    client, refused = broker.client(), broker.client()
    client.do("SUBSCRIBE", destination="/topic/>", id="1")
    refused.do("SUBSCRIBE", destination=pattern, id="1")
    broker.run()

    assert refused.inbox[-1]["message"] == "permission denied"
    assert b"lacks the right monitor for '/topic/$SYS/" in refused.inbox[-1].body
    assert not broker.router.find_listeners(b"/topic/$SYS/status")


@pytest.mark.parametrize("pattern", ["/topic/>", "/topic/#", "/topic/*/*", "/topic/*/*/*", "/topic/*/shop/>"])
@pytest.mark.parametrize("is_broadcast", [True, False])
def test_no_wildcard_reaches_into_another_host(pattern: str, is_broadcast: bool) -> None:
    """However many levels it has."""
    broker, clients = make(Policy(broadcast_all=is_broadcast))
    for client in clients:
        client.do("SUBSCRIBE", destination=pattern, id="1")
    broker.run()
    for client, name in zip(clients, NAMES, strict=True):
        for topic in ("/topic/x/y", "/topic/x/shop/y"):
            client.do("SEND", name.encode(), destination=topic)
    broker.run()

    for client, name in zip(clients, NAMES, strict=True):
        assert set(bodies(client)) <= {name.encode()}


def test_durable_subscriptions_are_each_hosts_own() -> None:
    """With the same name, from the beginning to the end."""
    broker, clients = make()
    for client in clients:
        client.do("SUBSCRIBE", destination="/topic/a", id="1", durable="true", durable_subscription_name="d")
        client.do("UNSUBSCRIBE", id="1")
    broker.run()
    for client, name in zip(clients, NAMES, strict=True):
        client.do("SEND", name.encode(), destination="/topic/a")
    broker.run()
    clients[1].do("UNSUBSCRIBE", durable_subscription_name="d", durable="true")
    broker.run()
    for client in (clients[0], clients[2]):
        client.do("SUBSCRIBE", destination="/dsub/d", id="2")
    broker.run()

    assert [bodies(client) for client in clients] == [[b"h"], [], [b"work"]]


def test_a_reply_comes_to_who_has_asked_and_is_named_as_others_of_the_host_know_it() -> None:
    """The name of a temporary queue tells nothing of the host, and means nothing in another one."""
    broker, clients = make()
    asker, answerer = clients[1], broker.client(host="shop")
    answerer.do("SUBSCRIBE", destination="/queue/asked", id="1")
    asker.do("SEND", b"?", destination="/queue/asked", reply_to="/temp-queue/r")
    broker.run()
    reply_to = answerer.inbox[-1]["reply-to"]
    clients[2].do("SEND", b"forged", destination=reply_to)
    clients[0].do("SEND", b"forged", destination=reply_to)
    answerer.do("SEND", b"!", destination=reply_to)
    broker.run()

    assert reply_to.startswith("/reply-queue/") and "HOST" not in reply_to
    assert bodies(asker) == [b"!"]
    assert asker.inbox[-1]["subscription"] == "/temp-queue/r"


def test_a_dead_letter_names_its_queue_as_the_host_does() -> None:
    """`original-destination` is a name that the client can send to."""
    rule = QueueRule(b"/queue/$HOST/shop/>", {"dead_letter": b"/queue/$HOST/shop/DLQ"})
    broker, clients = make(Policy(rules=(rule,)))
    client = clients[1]
    client.do("SUBSCRIBE", destination="/queue/a", id="1", ack="client-individual")
    client.do("SUBSCRIBE", destination="/queue/DLQ", id="2")
    client.do("SEND", b"bad", destination="/queue/a")
    broker.run()
    client.do("NACK", id=client.inbox[-1]["ack"], requeue="false")
    broker.run()

    dead = client.inbox[-1]
    assert (dead["destination"], dead["original-destination"]) == ("/queue/DLQ", "/queue/a")


def test_an_error_text_has_the_name_as_the_client_knows_it() -> None:
    """Also where it is the parent that refuses."""
    broker, clients = make(Policy(queue=QueuePolicy(max_length=1, full=Full.REFUSE)))
    for _ in range(2):
        clients[1].do("SEND", b"x", destination="/queue/a", receipt="r")
        broker.run()
    error = clients[1].inbox[-1]

    assert (error.command, error["message"]) == ("ERROR", "refused")
    assert b"queue /queue/a " in error.body and b"HOST" not in error.body


def test_grants_are_for_the_names_within_the_host() -> None:
    """And so is the text of a refusal."""
    grants = [Grant("anonymous", right, "/queue/mine", "") for right in ("read", "write", "create")]
    broker = Broker(permissions=Permissions(tuple(grants), hosts=HOSTS))
    client = broker.client(host="shop")
    client.do("SEND", b"x", destination="/queue/mine", receipt="1")
    broker.run()
    assert client.inbox[-1].command == "RECEIPT"
    client.do("SEND", b"x", destination="/queue/other")
    broker.run()

    assert client.inbox[-1].body == b"a client without a login lacks the right write for '/queue/other'\n"


@pytest.mark.parametrize("host", NAMES)
@pytest.mark.parametrize("name", ["/queue/$HOST/shop/a", "/topic/$HOST/shop/>", "/temp-queue/$HOST/a"])
def test_no_client_gets_into_a_host_by_a_name(host: str, name: str) -> None:
    """Not into its own either."""
    broker = Broker(permissions=Permissions(hosts=HOSTS))
    client = broker.client(host=host)
    client.do("SUBSCRIBE", destination=name, id="1")

    assert b"begins with $HOST/" in client.error().body


def test_what_is_about_the_broker_is_for_the_default_host_and_those_that_may() -> None:
    """Requests, and what the broker says of itself."""
    for host, is_permitted in (("h", True), ("shop", False), ("ops", True)):
        for headers in ({"destination": "/topic/$SYS/status"}, {"destination": "/topic/$SYS/>"}):
            client = Broker(permissions=Permissions(hosts=HOSTS)).client(host=host)
            client.do("SUBSCRIBE", id="1", **headers)
            assert bool(client.told()) is is_permitted
        client = Broker(permissions=Permissions(hosts=HOSTS)).client(host=host)
        client.do("SEND", b"{}", destination="/control/status", reply_to="/temp-queue/a")
        asked = [envelope.kind for envelope in client.told()]
        assert (Kind.ASK in asked) is is_permitted
        if not is_permitted:
            assert client.error()["message"] == "not for this host"


def test_a_long_pattern_is_refused_as_the_client_wrote_it() -> None:
    """The broker's own levels count; nobody is ended for what the parent can't use."""
    _, clients = make()
    clients[1].do("SUBSCRIBE", destination="/topic/" + ".".join("a" * 63) + ".*", id="1")
    error = clients[1].error()

    assert b"more than 64 levels" in error.body and b"HOST" not in error.body


@pytest.mark.row("C10")
def test_an_unknown_host_is_refused_by_a_strict_broker() -> None:
    """The default host has names as well."""
    for name, answer in (("h", "ERROR"), ("shop", "CONNECTED"), ("localhost", "CONNECTED"), ("/", "CONNECTED")):
        client = Client(policy=SessionPolicy(strict=True), permissions=Permissions(hosts=HOSTS))
        client.receive(frame("CONNECT", {"accept-version": "1.2", "host": name}))
        (got,) = client.read()
        assert got.command == answer
        if answer == "ERROR":
            assert got["message"] == "unknown host"


def test_who_may_not_enter_is_told_so_and_the_parent_hears_of_no_login() -> None:
    """The host is not said to be there for others."""
    hosts = Hosts((Host("shop", ("shop",), users=("alice",)),))
    permissions = Permissions(hosts=hosts)
    client = Client(permissions=permissions)
    client.receive(frame("CONNECT", {"accept-version": "1.2", "host": "shop", "login": "bob"}))
    error = client.error()

    assert (error["message"], error.body) == ("host refused", b"user 'bob' may not connect to the host shop\n")
    assert client.told() == []
    client = Client(permissions=permissions)
    client.receive(frame("CONNECT", {"accept-version": "1.2", "host": "shop", "login": "alice"}))
    (told,) = client.told()
    assert (told.kind, bytes(told.block)) == (Kind.CONNECTED, b"shop")
