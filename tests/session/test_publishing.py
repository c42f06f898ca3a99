"""SEND: plans, and replies in both styles."""

from __future__ import annotations

import pytest

from forkbroker.session.policy import SessionPolicy
from forkbroker.wire.kinds import Flag, Kind

from .play import Client, frame


def connected(policy: SessionPolicy | None = None) -> Client:
    client = Client(policy=policy, session_id="me")
    client.connect()
    return client


@pytest.mark.row("S01")
@pytest.mark.parametrize("version", ["1.0", "1.1", "1.2"])
def test_destination_is_required(version: str) -> None:
    """The error says so."""
    client = Client(version)
    client.connect()
    client.do("SEND", b"x")

    assert client.error()["message"] == "missing header destination"


@pytest.mark.row("S02")
@pytest.mark.parametrize(("bare", "name"), [("topic", b"/topic/a"), ("queue", b"/queue/a"), ("error", None)])
def test_what_a_bare_name_means_is_a_setting(bare: str, name: bytes | None) -> None:
    """A topic, a queue, or nothing."""
    client = connected(SessionPolicy(bare_destinations=bare))  # type: ignore[arg-type]
    client.do("SEND", b"x", destination="a")

    if name is None:
        assert client.error()["message"] == "bad SEND"
    else:
        assert client.told()[0].destination == name


def test_a_plan_is_made_once_for_each_header_block() -> None:
    """Frames with the same block travel in one envelope, the block once."""
    client = connected()
    client.receive(*[frame("SEND", {"destination": "/topic/a", "h": "v" * 100}, b"x")] * 100)
    client.receive(*[frame("SEND", {"destination": "/topic/a", "h": "v" * 100}, b"x")] * 100)
    (envelope,) = client.told()

    assert envelope.count == 200
    assert bytes(envelope.raw).count(b"v" * 100) == 1


def test_reply_to_alone_makes_the_subscription() -> None:
    """RabbitMQ's style: the answers come under the temporary queue's name."""
    client = connected()
    client.receive(*[frame("SEND", {"destination": "/queue/work", "reply-to": "/temp-queue/r"}, b"x")] * 2)
    subscribe, *sends = client.told()

    name = client.shared_name("/temp-queue/r").encode()
    assert (subscribe.kind, subscribe.destination) == (Kind.SUBSCRIBE, name)
    assert subscribe.flags == Flag.AUTO | Flag.TEMPORARY | Flag.FENCE
    assert sum(e.count for e in sends) == 2
    assert all(b"reply-to:%b\n" % name in bytes(e.raw) for e in sends)


def test_reply_to_a_subscribed_queue_makes_no_other_subscription() -> None:
    """ActiveMQ's style."""
    client = connected()
    client.subscribe("/temp-queue/r")
    client.receive(frame("SEND", {"destination": "/queue/work", "reply-to": "/temp-queue/r"}, b"x"))
    (send,) = client.told()

    assert f"reply-to:{client.shared_name('/temp-queue/r')}\n".encode() in bytes(send.raw)


def test_reply_to_makes_the_subscription_again_when_it_was_ended() -> None:
    """The plan of the header block must not remember that it was there."""
    client = connected()
    send = frame("SEND", {"destination": "/queue/work", "reply-to": "/temp-queue/r"}, b"x")
    client.receive(send, frame("UNSUBSCRIBE", {"id": "/temp-queue/r"}), send)

    assert [e.kind for e in client.told()] == [Kind.SUBSCRIBE, Kind.SEND, Kind.UNSUBSCRIBE, Kind.SUBSCRIBE, Kind.SEND]


def test_reply_to_can_not_take_the_id_of_another_subscription() -> None:
    """Two things under one name would be one too many."""
    client = connected()
    client.subscribe("/queue/a", subscription_id="/temp-queue/r")
    client.receive(frame("SEND", {"destination": "/queue/work", "reply-to": "/temp-queue/r"}, b"x"))

    assert client.error()["message"] == "subscription exists"


@pytest.mark.parametrize("text", ["/temp-topic/r", "/queue/answers"])
def test_other_reply_to_headers_make_no_subscription(text: str) -> None:
    """A temporary topic is only renamed, all else is the client's business."""
    client = connected()
    client.receive(frame("SEND", {"destination": "/queue/work", "reply-to": text}, b"x"))
    (send,) = client.told()

    shown = client.shared_name(text) if text.startswith("/temp") else text
    assert f"reply-to:{shown}\n".encode() in bytes(send.raw)


@pytest.mark.parametrize(
    ("destination", "headers", "is_bare"),
    [
        ("jobs", {"persistent": "true"}, True),
        ("jobs", {}, False),
        ("/topic/jobs", {"persistent": "true"}, False),
        ("jms.topic.jobs", {"persistent": "true"}, False),
        ("/queue/jobs", {"persistent": "true"}, False),
    ],
)
def test_the_parent_learns_of_persistent_messages_to_a_bare_name(
    destination: str, headers: dict[str, object], is_bare: bool
) -> None:
    """It knows whether anybody has subscribed to the topic."""
    client = connected()
    client.receive(frame("SEND", {"destination": destination, **headers}, b"x"))
    (envelope,) = client.told()

    assert bool(envelope.flags & Flag.BARE) == is_bare


def test_a_bare_name_that_is_a_queue_is_no_news() -> None:
    """By the setting; the messages wait there."""
    client = connected(SessionPolicy(bare_destinations="queue"))
    client.receive(frame("SEND", {"destination": "jobs", "persistent": "true"}, b"x"))

    assert not client.told()[0].flags & Flag.BARE


@pytest.mark.parametrize("always", [True, False])
def test_a_message_has_one_content_length_at_most(always: bool) -> None:
    """Where the sender gave it, its own; else one is made if the policy wants that."""
    client = Client(policy=SessionPolicy(content_length_always=always))
    client.connect()
    client.subscribe("/topic/a")
    client.receive(
        frame("SEND", {"destination": "/topic/a", "content-length": 1}, b"x"),
        frame("SEND", {"destination": "/topic/a", "mine": "1"}, b"y"),
    )
    for envelope in client.told():
        client.forward(envelope)
    got = client.read()

    assert [each.repeated for each in got] == [[], []]
    assert ["content-length" in each.headers for each in got] == [True, always]


@pytest.mark.parametrize("headers", [{}, {"priority": 4}, {"expires": 0}, {"AMQ_SCHEDULED_DELAY": 0}])
def test_a_send_that_asks_for_nothing_is_a_plain_envelope(headers: dict[str, object]) -> None:
    """Also where it says so at length: no section, no fence, not persistent."""
    client = connected()
    client.receive(frame("SEND", {"destination": "/queue/a", **headers}, b"x"))
    (envelope,) = client.told()

    assert envelope.flags & (Flag.SECTION | Flag.FENCE | Flag.PERSISTENT | Flag.BARE) == 0


def test_what_a_receipt_waits_for_is_known_until_it_has_come() -> None:
    """The process may poll for it meanwhile."""
    client = Client()
    client.connect()
    upward = client.session.upward
    seen = [upward.last_fence > upward.passed]
    client.do("SEND", b"x", destination="/queue/q", receipt="r")
    client.told()
    seen.append(upward.last_fence > upward.passed)
    client.pass_fence()
    seen.append(upward.last_fence > upward.passed)

    assert seen == [False, True, False]
