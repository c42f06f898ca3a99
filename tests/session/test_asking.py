"""Requests to the broker itself, as a session understands them."""

from __future__ import annotations

import json

import pytest

from forkbroker.control.verbs import MAX_OPEN
from forkbroker.permissions import Right, Rights
from forkbroker.wire.envelope import Envelope
from forkbroker.wire.kinds import Flag, Kind

from .play import Client


@pytest.fixture
def client() -> Client:
    """A client that is connected, and has a queue for answers."""
    client = Client()
    client.connect()
    client.subscribe("/temp-queue/a")
    return client


def ask(client: Client, verb: str, body: bytes = b"", **headers: object) -> list[Envelope]:
    client.do("SEND", body, destination=f"/control/{verb}", **{"reply_to": "/temp-queue/a", **headers})
    return client.told()


def answered(envelope: Envelope) -> dict[str, object]:
    """The body of an answer that goes up as a message."""
    assert envelope.kind is Kind.SEND
    (body,) = envelope.pieces()
    return json.loads(bytes(body))


def test_a_request_goes_up_in_its_canonical_form(client: Client) -> None:
    """As an ASK."""
    (asked,) = ask(client, "queues", b' { "pattern" : "a*" } ')

    assert (asked.kind, asked.destination, asked.token) == (Kind.ASK, b"queues", 1)
    assert asked.block == b'{"pattern":"a*"}'


def test_what_shows_bodies_needs_one_more_right(client: Client) -> None:
    """To manage; to look at headers needs the right to monitor alone."""
    client.session._asking.rights = Rights("a", {Right.MONITOR: [b"/control/tail"], Right.READ: [b"/>"]})
    (asked,) = ask(client, "tail", b'{"who":"7"}')
    (refused,) = ask(client, "tail", b'{"who":"7","body":true}')

    assert asked.kind is Kind.ASK
    assert answered(refused)["text"] == "tail needs the right manage on /control/tail"


def test_an_answer_is_sent_to_where_reply_to_leads(client: Client) -> None:
    """With the correlation-id, and in as many messages as there are parts."""
    ask(client, "queues", correlation_id="x:1")
    client.down(Kind.ANSWER, token=1, block=b'{"ok":true,"rows":[],"more":true}')
    (sent,) = client.told()
    client.down(Kind.ANSWER, token=1, flags=Flag.FINAL, block=b'{"ok":true,"rows":[],"more":false}')
    (last,) = client.told()

    assert sent.destination == last.destination == client.shared_name("/temp-queue/a").encode()
    assert (answered(sent)["more"], answered(last)["more"]) == (True, False)
    lines = sent.block.decode()
    assert "correlation-id:x\\c1\n" in lines and "content-type:application/json\n" in lines
    assert f"destination:{client.shared_name('/temp-queue/a')}\n" in lines


@pytest.mark.parametrize("place", ["/queue/answers", "/topic/answers"])
def test_any_queue_or_topic_can_be_the_place(client: Client, place: str) -> None:
    """The client need not read there itself."""
    ask(client, "who", reply_to=place)
    client.down(Kind.ANSWER, token=1, flags=Flag.FINAL, block=b"{}")

    assert client.told()[0].destination == place.encode()


def test_naming_a_temporary_queue_is_enough_to_read_from_it() -> None:
    """As for the replies of other clients (RabbitMQ)."""
    client = Client()
    client.connect()
    subscribed, asked = ask(client, "who")

    assert (subscribed.kind, asked.kind) == (Kind.SUBSCRIBE, Kind.ASK)


def test_without_reply_to_the_frame_is_an_error(client: Client) -> None:
    """As there is nobody who could be told."""
    client.do("SEND", destination="/control/who", receipt="r")
    client.told()
    client.pass_fence()
    (error,) = client.read()

    assert error.command == "ERROR"
    assert error["receipt-id"] == "r"
    assert b"'/control/who' is a request to the broker, and needs a reply-to header" in error.body


@pytest.mark.parametrize(
    ("headers", "text"),
    [
        ({"transaction": "t"}, b"which no transaction can have"),
        ({"reply_to": "/control/who"}, b"is no place for an answer"),
        ({"reply_to": "/topic/*"}, b"has wildcard levels"),
        ({"reply_to": "nowhere"}, b""),
    ],
)
def test_a_request_that_cannot_be_answered_is_an_error(client: Client, headers: dict[str, str], text: bytes) -> None:
    """A bare name is a topic, where that is the setting."""
    client.do("BEGIN", transaction="t")
    client.told()
    found = ask(client, "who", **headers)
    client.pass_fence()
    said = [frame for frame in client.read() if frame.command == "ERROR"]

    assert [text in frame.body for frame in said] == ([True] if text else [])
    assert [envelope.kind for envelope in found if envelope.kind is Kind.ASK] == ([] if text else [Kind.ASK])


@pytest.mark.parametrize(
    ("verb", "body", "word"),
    [
        ("wo", b"", "unknown-verb"),
        ("who", b"[", "bad-request"),
        ("who", b'{"x":1}', "bad-request"),
        ("kick", b"", "bad-request"),
    ],
)
def test_what_is_wrong_is_answered_without_the_parent(client: Client, verb: str, body: bytes, word: str) -> None:
    """And the client stays."""
    (sent,) = ask(client, verb, body)

    assert answered(sent)["ok"] is False
    assert answered(sent)["error"] == word
    assert client.session.is_open  # type: ignore[union-attr]


def test_so_many_requests_are_open_at_most(client: Client) -> None:
    """The next one is refused in an answer, and after an answer there is room for one."""
    for _ in range(MAX_OPEN):
        ask(client, "who")
    (refused,) = ask(client, "who")
    client.down(Kind.ANSWER, token=1, flags=Flag.FINAL, block=b"{}")
    client.told()
    (asked,) = ask(client, "who")

    assert answered(refused)["error"] == "unavailable"
    assert asked.kind is Kind.ASK


def test_a_receipt_says_that_the_request_was_received(client: Client) -> None:
    """It comes behind a fence, as others."""
    (asked,) = ask(client, "who", receipt="r")
    assert asked.flags & Flag.FENCE
    assert client.read() == []

    client.pass_fence()
    assert [frame["receipt-id"] for frame in client.read()] == ["r"]


def test_an_answer_after_the_end_is_nobodys(client: Client) -> None:
    """The client has said DISCONNECT."""
    ask(client, "who")
    client.do("DISCONNECT")
    client.told()
    client.down(Kind.ANSWER, token=1, flags=Flag.FINAL, block=b"{}")

    assert client.told() == []


def test_nobody_can_subscribe_to_requests(client: Client) -> None:
    """The ERROR says what would be right."""
    client.do("SUBSCRIBE", destination="/control/who", id="2")
    client.pass_fence()
    (error,) = client.read()

    assert b"is for requests: SEND to it" in error.body


def test_the_clients_own_rights_are_told_without_the_parent(client: Client) -> None:
    """Those for the names that it asks for, and the verbs that concern no name."""
    rights = Rights("alice", {Right.MONITOR: [b"/control/queues"], Right.BROWSE: [b"/queue/a.>"]})
    client.session._asking.rights = rights  # type: ignore[union-attr]
    (sent,) = ask(client, "rights", b'{"destinations": ["a.b", "/queue/b", "/topic/*"]}')

    assert answered(sent) == {
        "ok": True,
        "result": {
            "login": "alice",
            "verbs": ["rights", "queues"],
            "destinations": {"/queue/a.b": ["browse"], "/queue/b": [], "/topic/*": []},
        },
    }
