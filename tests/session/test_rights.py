"""Every right against every frame: what a client may do without and with it."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import product

import pytest

from forkbroker.control.arguments import RequestError
from forkbroker.control.verbs import VERBS, Verb
from forkbroker.permissions import Quota, Right, Rights
from forkbroker.stomp.frame import CLIENT_COMMANDS, CONNECT_COMMANDS
from forkbroker.wire.kinds import Flag, Kind
from session.play import Broker, Client, bodies, frame

READ, WRITE, CREATE, MONITOR = Right.READ, Right.WRITE, Right.CREATE, Right.MONITOR
PAIR = "/dsub/7@t"
"""What `durable:true` calls a subscription with the id 7 to the topic t."""


@dataclass
class Deed:
    """Frames of a client, the last of which needs rights."""

    command: str
    headers: dict[str, object]
    needs: dict[str, set[Right]] = field(default_factory=dict)
    """Rights without which it is an ERROR, by destination."""
    creates: str = ""
    """What only who has the right create makes by it."""
    before: tuple[tuple[str, dict[str, object]], ...] = ()


SUBSCRIBED = ("SUBSCRIBE", {"id": "1", "destination": "/temp-queue/own", "ack": "client"})
DEEDS = {
    "SEND to a topic": Deed("SEND", {"destination": "/topic/t"}, {"/topic/t": {WRITE}}),
    "SEND to a bare name": Deed("SEND", {"destination": "t"}, {"/topic/t": {WRITE}}),
    "SEND to a queue": Deed("SEND", {"destination": "/queue/q"}, {"/queue/q": {WRITE}}, "/queue/q"),
    "SEND to another broker's name": Deed("SEND", {"destination": "jms.queue.q"}, {"/queue/q": {WRITE}}, "/queue/q"),
    "SEND in a transaction": Deed(
        "SEND",
        {"destination": "/queue/q", "transaction": "x"},
        {"/queue/q": {WRITE}},
        before=(("BEGIN", {"transaction": "x"}),),
    ),
    "SEND to an own queue": Deed("SEND", {"destination": "/temp-queue/own"}),
    "SEND to a reply queue": Deed("SEND", {"destination": "/reply-queue/k.x"}),
    "SEND to a reply topic": Deed("SEND", {"destination": "/reply-topic/k.x"}),
    "SEND with reply-to": Deed("SEND", {"destination": "/topic/t", "reply-to": "/temp-queue/a"}, {"/topic/t": {WRITE}}),
    "SUBSCRIBE to a topic": Deed("SUBSCRIBE", {"id": "1", "destination": "/topic/t"}, {"/topic/t": {READ}}),
    "SUBSCRIBE to a pattern": Deed("SUBSCRIBE", {"id": "1", "destination": "/topic/t.>"}, {"/topic/t.>": {READ}}),
    "SUBSCRIBE to a queue": Deed(
        "SUBSCRIBE", {"id": "1", "destination": "/queue/q"}, {"/queue/q": {READ}}, creates="/queue/q"
    ),
    "SUBSCRIBE to an own queue": Deed("SUBSCRIBE", {"id": "1", "destination": "/temp-queue/own"}),
    "SUBSCRIBE to an own topic": Deed("SUBSCRIBE", {"id": "1", "destination": "/temp-topic/own"}),
    "SUBSCRIBE to what the broker says": Deed(
        "SUBSCRIBE", {"id": "1", "destination": "/topic/$SYS/connect"}, {"/topic/$SYS/connect": {MONITOR}}
    ),
    "SUBSCRIBE by a name that lasts": Deed(
        "SUBSCRIBE",
        {"id": "1", "destination": "/topic/t", "activemq.subscriptionName": "d"},
        {"/topic/t": {READ}, "/dsub/d": {READ}},
        "/dsub/d",
    ),
    "SUBSCRIBE durable": Deed(
        "SUBSCRIBE",
        {"id": "7", "destination": "/topic/t", "durable": "true", "auto-delete": "false"},
        {"/topic/t": {READ}, PAIR: {READ}},
        PAIR,
    ),
    "SUBSCRIBE to what is durable": Deed(
        "SUBSCRIBE", {"id": "1", "destination": "/dsub/d"}, {"/dsub/d": {READ}}, "/dsub/d"
    ),
    "UNSUBSCRIBE": Deed("UNSUBSCRIBE", {"id": "1"}, before=(SUBSCRIBED,)),
    "UNSUBSCRIBE from a name that lasts": Deed(
        "UNSUBSCRIBE", {"activemq.subscriptionName": "d"}, {"/dsub/d": {CREATE}}
    ),
    "UNSUBSCRIBE durable": Deed(
        "UNSUBSCRIBE", {"id": "7", "destination": "/topic/t", "durable": "true"}, {PAIR: {CREATE}}
    ),
    "BEGIN": Deed("BEGIN", {"transaction": "x"}),
    "COMMIT": Deed("COMMIT", {"transaction": "x"}, before=(("BEGIN", {"transaction": "x"}),)),
    "ABORT": Deed("ABORT", {"transaction": "x"}, before=(("BEGIN", {"transaction": "x"}),)),
    "DISCONNECT": Deed("DISCONNECT", {}),
}


def client_with(rights: dict[Right, list[bytes]]) -> Client:
    client = Client(rights_of=lambda client: Rights(client.user, rights))
    client.connect(login="alice")
    return client


def granted(deed: Deed) -> dict[Right, list[bytes]]:
    """What the deed needs, and nothing else."""
    rights: dict[Right, list[bytes]] = {}
    for name, some in deed.needs.items():
        for right in some:
            rights.setdefault(right, []).append(name.encode())
    return rights


def do(client: Client, deed: Deed) -> None:
    for command, headers in (*deed.before, (deed.command, deed.headers)):
        client.receive(frame(command, headers))


@pytest.mark.parametrize("right", Right)
@pytest.mark.parametrize("deed", DEEDS.values(), ids=DEEDS)
def test_each_right_is_needed_where_it_is_and_nowhere_else(deed: Deed, right: Right) -> None:
    """With all other rights for everything, a frame is refused exactly if it needs this one."""
    client = client_with({other: [b"/>"] for other in Right if other is not right})
    do(client, deed)

    names = [name for name, some in deed.needs.items() if right in some]
    if not names:
        assert client.session.is_open or deed.command == "DISCONNECT"
        return
    assert client.session.ending.has_begun
    client.told()
    client.pass_fence()
    error = client.error()
    assert error["message"] == "permission denied"
    assert error.body.decode().strip() == f"user 'alice' lacks the right {right.value} for '{names[0]}'"
    assert client.session.ending.is_warning


@pytest.mark.parametrize("deed", DEEDS.values(), ids=DEEDS)
def test_what_a_frame_needs_is_enough(deed: Deed) -> None:
    """And without the right create the parent is told not to make anything."""
    client = client_with(granted(deed))
    do(client, deed)

    assert client.session.is_open or deed.command == "DISCONNECT"
    told = {envelope.kind: envelope for envelope in client.told()}
    if deed.creates:
        assert told[Kind[deed.command]].flags & Flag.EXISTING
        client = client_with({**granted(deed), CREATE: [deed.creates.encode()]})
        do(client, deed)
        (envelope,) = (one for one in client.told() if one.kind is Kind[deed.command])
        assert not envelope.flags & Flag.EXISTING


@pytest.mark.parametrize("command", ["ACK", "NACK"])
def test_what_was_delivered_may_be_settled(command: str) -> None:
    """The right to read is enough for that."""
    broker = Broker()
    producer = broker.client()
    producer.do("SEND", b"1", destination="/queue/q")
    client = broker.client()
    client.down(Kind.RIGHTS, block=Rights("alice", {READ: [b"/queue/q"]}).pack())
    client.do("SUBSCRIBE", destination="/queue/q", id="1", ack="client")
    broker.run()
    (message,) = client.inbox[1:]
    client.do(command, id=message["ack"])
    broker.run()

    assert bodies(client)[:1] == [b"1"]
    assert client.session.is_open


def test_what_does_not_exist_is_not_made_without_the_right_to() -> None:
    """The parent alone knows what there is. A queue ends when it is empty and nobody consumes."""
    broker = Broker()
    for headers in (
        {"destination": "/queue/q", "id": "1"},
        {"destination": "/topic/t", "id": "1", "persistent": "true"},
    ):
        client = broker.client()
        client.down(Kind.RIGHTS, block=Rights("a", {READ: [b"/>"], WRITE: [b"/>"]}).pack())
        client.receive(frame("SUBSCRIBE", headers))
        broker.run()
        assert client.inbox[-1].command == "ERROR"
        assert b"does not exist, and the user lacks the right create for it" in client.inbox[-1].body
        broker.end(client)
    owner = broker.client()
    owner.do("SUBSCRIBE", destination="/queue/q", id="1")
    broker.run()
    guest = broker.client()
    guest.down(Kind.RIGHTS, block=Rights("a", {READ: [b"/>"], WRITE: [b"/>"]}).pack())
    guest.do("SEND", b"x", destination="/queue/q")
    broker.run()
    assert bodies(owner) == [b"x"]
    guest.do("BEGIN", transaction="t")
    guest.do("SEND", b"y", destination="/queue/other", transaction="t")
    guest.do("COMMIT", transaction="t", receipt="r")
    broker.run()
    assert guest.inbox[-1].command == "ERROR"
    assert b"queue /queue/other does not exist" in guest.inbox[-1].body
    guest = broker.client()
    guest.down(Kind.RIGHTS, block=Rights("a", {WRITE: [b"/>"]}).pack())
    guest.do("SEND", b"x", destination="/queue/new")
    broker.run()
    assert guest.inbox[-1].command == "ERROR"


def test_rights_that_are_lost_end_what_stands_on_them() -> None:
    """A subscription to a topic, a pattern, a queue, what is durable, and an open transaction; with the reason."""
    everything = {right: [b"/>"] for right in Right}
    for headers, lost in (
        ({"destination": "/topic/t"}, "read for '/topic/t'"),
        ({"destination": "/topic/>"}, "read for '/topic/>'"),
        ({"destination": "/queue/q"}, "read for '/queue/q'"),
        ({"destination": "/topic/kept", "activemq.subscriptionName": "d"}, "read for '/dsub/d'"),
    ):
        client = client_with(everything)
        client.do("SUBSCRIBE", id="1", **headers)
        client.down(Kind.RIGHTS, block=Rights("alice", everything).pack())
        assert client.session.is_open
        client.down(Kind.RIGHTS, block=Rights("alice", {READ: [b"/topic/kept"], WRITE: [b"/>"]}).pack())
        client.told()
        client.pass_fence()
        error = client.error()
        assert error["message"] == "permission denied"
        assert error.body.decode().strip() == f"permissions have changed, user 'alice' lacks the right {lost}"
    client = client_with(everything)
    client.do("BEGIN", transaction="x")
    client.do("SEND", b"1", destination="/queue/q", transaction="x")
    client.down(Kind.RIGHTS, block=Rights("alice", {READ: [b"/>"]}).pack())
    client.told()
    client.pass_fence()
    assert b"lacks the right write for '/queue/q'" in client.error().body


def test_who_keeps_what_it_uses_stays_and_new_rights_hold_at_once() -> None:
    """Also for frames like those that were planned before, and for one that is half sent."""
    client = client_with({WRITE: [b"/queue/a"]})
    client.do("SEND", b"1", destination="/queue/a")
    (envelope,) = client.told()
    assert envelope.flags & Flag.EXISTING
    client.down(Kind.RIGHTS, block=Rights("alice", {WRITE: [b"/queue/>"], CREATE: [b"/queue/>"]}).pack())
    client.do("SEND", b"1", destination="/queue/a")
    client.do("SEND", b"1", destination="/queue/b")
    assert [envelope.flags & Flag.EXISTING for envelope in client.told()] == [0, 0]
    large = frame("SEND", {"destination": "/queue/b", "content-length": 100_000}, bytes(100_000))
    client.receive(large)
    client.receive(large[:50_000])
    client.down(Kind.RIGHTS, block=Rights("alice", {WRITE: [b"/queue/a"]}).pack())
    assert client.session.is_open
    client.receive(large[50_000:])
    client.told()
    client.pass_fence()
    assert b"lacks the right write for '/queue/b'" in client.error().body


def test_rights_for_who_ends_already_change_nothing() -> None:
    """What was said last is the last."""
    client = client_with({right: [b"/>"] for right in Right})
    client.subscribe("/topic/t")
    client.do("DISCONNECT", receipt="r")
    client.down(Kind.RIGHTS, block=Rights("alice", {}).pack())
    client.told()
    client.pass_fence()

    assert [got.command for got in client.read()] == ["RECEIPT"]


def limited(quota: Quota) -> Client:
    client = Client(rights_of=lambda one: Rights(one.user, {right: [b"/>"] for right in Right}, quota))
    client.connect(login="alice")
    return client


def test_who_sends_faster_than_the_quota_waits_and_loses_nothing() -> None:
    """What has come is taken; then the client is not read until it is even."""
    client = limited(Quota(messages_per_second=10))
    for _ in range(10):
        client.do("SEND", destination="/topic/t")
    assert client.session.wants_input
    client.receive(frame("SEND", {"destination": "/topic/t"}) * 20)
    assert not client.session.wants_input
    assert sum(envelope.count for envelope in client.told()) == 30
    client.wait(1.9)
    assert not client.session.wants_input
    client.wait(0.2)
    assert client.session.wants_input
    assert client.session.is_open


def test_octets_count_as_well_and_with_them_each_frame() -> None:
    """Also those of a body that comes in pieces."""
    client = limited(Quota(bytes_per_second=1000))
    data = frame("SEND", {"destination": "/topic/t", "content-length": 9000}, bytes(9000))
    client.receive(data[:4000])
    assert not client.session.wants_input
    client.wait(3.1)
    assert client.session.wants_input
    client.receive(data[4000:])
    client.wait(4.5)
    assert not client.session.wants_input
    client.wait(1.0)
    assert client.session.wants_input


def test_a_client_that_is_held_back_is_not_taken_for_silent() -> None:
    """Its heart-beats cannot be read meanwhile."""
    quota = Quota(bytes_per_second=100)
    client = Client(rights_of=lambda one: Rights(one.user, {right: [b"/>"] for right in Right}, quota))
    client.connect(login="alice", heart_beat="0,1000")
    client.do("SEND", bytes(2000), destination="/topic/t")
    client.wait(15.0)

    assert client.session.is_open
    assert not client.session.wants_input


def test_quotas_that_change_hold_at_once() -> None:
    """For what is still to come."""
    client = limited(Quota(subscriptions=2))
    for number in "12":
        client.subscribe("/topic/t", subscription_id=number)
    everything = {right: [b"/>"] for right in Right}
    client.down(Kind.RIGHTS, block=Rights("alice", everything, Quota(subscriptions=1, messages_per_second=1)).pack())
    assert client.session.is_open
    client.receive(frame("SEND", {"destination": "/topic/t"}) * 3)
    assert not client.session.wants_input
    client.down(Kind.RIGHTS, block=Rights("alice", everything).pack())
    client.wait(3.0)
    client.receive(frame("SEND", {"destination": "/topic/t"}) * 300)
    assert client.session.wants_input
    client.down(Kind.RIGHTS, block=Rights("alice", everything, Quota(subscriptions=1)).pack())
    client.do("SUBSCRIBE", destination="/topic/t", id="3")
    client.told()
    client.pass_fence()
    assert b"max-subscriptions is 1 (or the quota of the user)" in client.error().body


# -- requests to the broker itself

CANDIDATES = ("/queue/q", "/dsub/d", "/topic/t", "7", ["7"], 7, True, "1s", "info", {"a": "b"}, "ALL", [{"a": 1}])
"""Values of which one or the other has the form of an argument."""


def find_request(verb: Verb, *more: str) -> dict[str, object]:
    """A request with what it must have, and these arguments."""
    names = [argument.name for argument in verb.arguments if argument.is_required or argument.name in more]
    for values in product(CANDIDATES, repeat=len(names)):
        given = dict(zip(names, values, strict=True))
        with suppress(RequestError):
            return verb.read(given)
    raise AssertionError(f"no request for {verb.name} with {names}: give it another candidate")


REQUESTS = {
    f"{verb.name}{' with ' if more else ''}{more}": (verb, find_request(verb, *filter(None, [more])))
    for verb in VERBS.values()
    if not verb.is_own
    for more in ("", *(name for name, _ in verb.more))
}


@pytest.mark.parametrize("right", Right)
@pytest.mark.parametrize(("verb", "request_"), REQUESTS.values(), ids=REQUESTS)
def test_each_request_needs_its_rights_and_no_other(verb: Verb, request_: dict[str, object], right: Right) -> None:
    """It goes up to the parent exactly if nothing is missing; else the answer says what."""
    client = client_with({other: [b"/>", b"/control/>"] for other in Right if other is not right})
    client.subscribe("/temp-queue/a")
    body = json.dumps(request_).encode()
    client.do("SEND", body, destination=f"/control/{verb.name}", reply_to="/temp-queue/a")
    (told,) = client.told()

    if right.value in verb.rights(request_):
        (octets,) = told.pieces()
        answer = json.loads(bytes(octets))
        assert told.kind is Kind.SEND
        assert answer["error"] == "denied"
        assert f" needs the right {right.value} on " in answer["text"]
    else:
        assert (told.kind, told.destination) == (Kind.ASK, verb.name.encode())


def test_no_command_of_a_client_is_left_out() -> None:
    """ACK and NACK need what SUBSCRIBE needs; CONNECT and STOMP are what gives the rights."""
    tried = {deed.command for deed in DEEDS.values()}

    assert tried | {"ACK", "NACK"} | CONNECT_COMMANDS == CLIENT_COMMANDS
