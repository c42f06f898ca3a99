"""What requests want of the session, and what becomes of its frames."""

from __future__ import annotations

import re
from base64 import b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forkbroker.child.web.bodies import ChunkedBody, SizedBody
from forkbroker.child.web.errands import (
    KEPT,
    Errand,
    Posting,
    Resuming,
    SettlingParked,
    Taking,
    Watching,
    encode_event,
    encode_events,
)
from forkbroker.child.web.requests import Response
from forkbroker.stomp.encoder import encode_frame
from forkbroker.stomp.frame import FrameRun, Head
from forkbroker.stomp.limits import Limits
from forkbroker.stomp.parser import Parser
from forkbroker.stomp.versions import V12

HEADERS = [("destination", "/queue/a:b")]
RECEIPT = Head("RECEIPT", {"receipt-id": "done"})


def parse(octets: bytes) -> list[FrameRun]:
    """The frames that the session gets."""
    parser = Parser(Limits())
    parser.negotiated(V12)
    return parser.receive(octets)


def send(errand: Errand, body: bytes) -> list[FrameRun]:
    """What the session gets of an errand with this body, octet for octet."""
    stream = errand.begin()
    for place in range(len(body)):
        own, rest = errand.receive(body[place : place + 1])
        assert rest == b""
        stream += own
    assert not errand.is_receiving
    return parse(stream)


@pytest.mark.parametrize("body", [b"", b"a\0b", b"x" * 5_000])
def test_a_body_with_a_length_is_a_send(body: bytes) -> None:
    """It is passed on as it comes."""
    [run] = send(Posting(HEADERS, SizedBody(len(body))), body)

    assert run.head.command == "SEND"
    assert run.head.headers == {"destination": "/queue/a:b", "content-length": str(len(body))}
    assert run.bodies == [body] and run.receipts == ["done"]


def test_a_body_in_chunks_is_a_send_when_it_is_whole() -> None:
    """Its length is known only then."""
    [run] = send(Posting(HEADERS, ChunkedBody(100)), b"2\r\na\0\r\n1\r\nc\r\n0\r\n\r\n")

    assert run.bodies == [b"a\0c"] and run.head.content_length == 3


def test_a_message_is_answered_when_it_has_its_receipt() -> None:
    """No other frame is an answer."""
    errand = Posting(HEADERS, SizedBody(0))

    assert errand.hear(Head("RECEIPT", {"receipt-id": "other"}), b"") == b""
    assert errand.hear(Head("MESSAGE", {}), b"") == b""
    assert errand.tick() == b""
    answer = errand.hear(RECEIPT, b"")
    assert isinstance(answer, Response) and answer.status == 201 and answer.body == b""


@pytest.mark.parametrize("first", [RECEIPT, Head("MESSAGE", {"message-id": "1"})])
def test_a_topic_begins_with_whatever_comes_first(first: Head) -> None:
    """The head once; the comment that keeps the connection alive not before."""
    errand = Watching(HEADERS, [("X", "y")])
    [run] = parse(errand.begin())
    assert run.head.command == "SUBSCRIBE"
    assert errand.tick() == b""

    octets = errand.hear(first, b"")

    assert isinstance(octets, bytes)
    assert octets.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"Content-Type: text/event-stream" in octets and b"X: y\r\n" in octets
    assert b"\r\n\r\nretry: 3000\n\n" in octets
    assert errand.has_begun and errand.tick() == b":\n\n"
    assert errand.hear(RECEIPT, b"") == b""
    assert errand.hear(Head("MESSAGE", {"message-id": "2"}), b"b") == b"id: 2\ndata: b\n\n"


@pytest.mark.parametrize(
    ("body", "event"),
    [
        (b"", b"id: 7\ndata: \n\n"),
        (b"a\nb", b"id: 7\ndata: a\ndata: b\n\n"),
        (b"a\r\nb\rc\n", b"id: 7\ndata: a\ndata: b\ndata: c\ndata: \n\n"),
        (b"\ndata: forged\n\n", b"id: 7\ndata: \ndata: data: forged\ndata: \ndata: \n\n"),
        (b"\xff\n", b"event: base64\nid: 7\ndata: " + b64encode(b"\xff\n") + b"\n\n"),
    ],
)
def test_a_message_is_an_event(body: bytes, event: bytes) -> None:
    """Each line of text is one of data; nothing in a body ends the event, or is another field."""
    assert encode_event({"message-id": "7"}, body) == event


def message(body: bytes = b"x", **headers: str) -> Head:
    return Head("MESSAGE", {"message-id": "7", "subscription": "0", "ack": "1-1", **headers})


def receipt(name: str) -> Head:
    return Head("RECEIPT", {"receipt-id": name})


def take(*, wait_s: float = 30.0) -> Taking:
    errand = Taking([("destination", "/queue/a")], "k" * 32, wait_s=wait_s, lease_ms=5_000)
    [run] = parse(errand.begin())
    assert run.head.headers["ack"] == "client-individual"
    return errand


def said(errand: Errand) -> list[tuple[str, dict[str, str], list[str | None] | None]]:
    """What the session is told now."""
    return [(run.head.command, run.head.headers, run.receipts) for run in parse(errand.take_frames())]


PARK = ("ACK", {"id": "1-1", "park": "k" * 32, "lease": "5000"}, ["parked"])
LEAVE = ("UNSUBSCRIBE", {"id": "0", "drain": "true"}, ["done"])


def test_a_message_is_parked_before_the_client_gets_it() -> None:
    """And no other one is taken."""
    errand = take()
    assert errand.hear(receipt("subscribed"), b"") == b"" and said(errand) == []
    assert errand.hear(message(), b"x") == b""
    assert said(errand) == [PARK, LEAVE]
    assert errand.hear(receipt("parked"), b"") == b""
    answer = errand.hear(receipt("done"), b"")

    assert isinstance(answer, Response) and (answer.status, answer.body) == (200, b"x")
    headers = dict(answer.headers)
    assert headers["Stomp-Ack"] == "k" * 32
    assert headers["Location"] == "?ack=" + "k" * 32
    assert headers["Stomp-Message-Id"] == "7"
    assert headers["Content-Type"] == "application/octet-stream"
    assert headers["Content-Security-Policy"] == "sandbox"


def test_without_a_message_there_is_none() -> None:
    """When the time is over, or the queue is empty and nobody waits."""
    errand = take()
    errand.hear(receipt("subscribed"), b"")
    errand.expire()
    errand.expire()
    assert said(errand) == [LEAVE]
    answer = errand.hear(receipt("done"), b"")
    assert isinstance(answer, Response) and answer.status == 204

    errand = take(wait_s=0.0)
    errand.hear(receipt("subscribed"), b"")
    assert said(errand) == [LEAVE]


def test_a_message_that_comes_at_the_last_moment_is_taken() -> None:
    """Its RECEIPT comes behind that of UNSUBSCRIBE then."""
    errand = take()
    errand.expire()
    assert said(errand) == [LEAVE]
    assert errand.hear(message(), b"x") == b""
    assert said(errand) == [PARK]
    assert errand.hear(receipt("done"), b"") == b""
    answer = errand.hear(receipt("parked"), b"")
    assert isinstance(answer, Response) and answer.status == 200


def test_headers_of_a_message_are_headers_of_the_answer() -> None:
    """As far as HTTP can have them: nothing in one of them is another one, or the end of the head."""
    errand = take()
    odd = {
        "content-type": "text/x\r\nSet-Cookie: a",
        "a b": "1",
        "ü": "1",
        "x:": "1",
        "colour": "blau\n\ngrün",
        "": "1",
    }
    errand.hear(message(**odd), b"x")
    errand.hear(receipt("parked"), b"")
    answer = errand.hear(receipt("done"), b"")

    assert isinstance(answer, Response)
    octets = answer.encode(stays=True)
    assert b"Content-Type: text/x  Set-Cookie: a\r\n" in octets
    assert "Stomp-Colour: blau  grün\r\n".encode() in octets
    assert octets.count(b"\r\n\r\n") == 1
    assert {name for name, _ in answer.headers if name.startswith("Stomp-")} == {
        "Stomp-Ack",
        "Stomp-Message-Id",
        "Stomp-Colour",
    }


def test_a_delivery_is_settled_by_its_key() -> None:
    """204 when the broker has done it."""
    errand = SettlingParked("NACK", [("parked", "k" * 32), ("requeue", "false")])
    [run] = parse(errand.begin())

    assert (run.head.command, run.head.headers) == ("NACK", {"parked": "k" * 32, "requeue": "false"})
    assert errand.refused == 410
    answer = errand.hear(RECEIPT, b"")
    assert isinstance(answer, Response) and answer.status == 204
    assert b"Content-Length" not in answer.encode(stays=True)


def deliver(errand: Resuming, *numbers: int, is_new: bool = True) -> list[int]:
    """The numbers of the events that the client gets of these messages."""
    octets = b""
    for number in numbers:
        marks = {} if is_new else {"redelivered": "true"}
        headers = {"message-id": f"m{number}", "ack": f"1-{number}", **marks}
        found = errand.hear(Head("MESSAGE", headers), b"x")
        assert isinstance(found, bytes)
        octets += found
    return shown(octets)


def shown(octets: bytes) -> list[int]:
    return [int(number) for number in re.findall(rb"^id: m(\d+)$", octets, re.MULTILINE)]


def acknowledged(errand: Resuming) -> list[str]:
    return [one.decode() for run in parse(errand.take_frames()) for one in run.ids or ()]


def test_the_last_events_stay_unsettled() -> None:
    """As the connection may end before they arrive; those before have arrived."""
    errand = Resuming(HEADERS, (), "")
    [run] = parse(errand.begin())
    assert int(run.head.headers["prefetch-count"]) > KEPT
    assert errand.wait_s == 0.0
    assert deliver(errand, *range(KEPT)) == list(range(KEPT))
    assert acknowledged(errand) == []
    assert deliver(errand, KEPT, KEPT + 1) == [KEPT, KEPT + 1]
    assert acknowledged(errand) == ["1-0", "1-1"]


def test_a_client_goes_on_behind_the_last_event_that_it_has_seen() -> None:
    """What it has is settled; what it has not comes, in order."""
    errand = Resuming(HEADERS, (), "m2")
    assert errand.wait_s > 0
    assert deliver(errand, 0, 1, is_new=False) == [] and acknowledged(errand) == []
    assert deliver(errand, 2, is_new=False) == []
    assert acknowledged(errand) == ["1-0", "1-1", "1-2"]
    assert deliver(errand, 3, is_new=False) == [3]
    assert deliver(errand, 4) == [4]
    assert acknowledged(errand) == []


def test_an_event_that_was_settled_long_ago_holds_nothing_back() -> None:
    """A new message shows that, or so many old ones, or that nothing more comes for a while."""
    errand = Resuming(HEADERS, (), "gone")
    assert deliver(errand, 0, 1, is_new=False) == []
    assert deliver(errand, 2) == [0, 1, 2]
    errand = Resuming(HEADERS, (), "gone")
    assert deliver(errand, *range(KEPT), is_new=False) == list(range(KEPT))
    errand = Resuming(HEADERS, (), "gone")
    assert deliver(errand, 0, is_new=False) == []
    assert shown(errand.expire()) == [0]
    assert acknowledged(errand) == []
    assert deliver(errand, 1) == [1]


def test_what_has_returned_is_settled_soon() -> None:
    """After a crash the broker gives one message at a time, and waits until that is settled."""
    errand = Resuming(HEADERS, (), "")
    assert deliver(errand, 0, is_new=False) == [0]
    assert errand.wait_s > 0 and acknowledged(errand) == []
    assert errand.expire() == b""
    assert acknowledged(errand) == ["1-0"] and errand.wait_s == 0.0
    assert deliver(errand, 1, is_new=False) == [1]
    assert errand.wait_s > 0


def test_what_returns_late_has_a_second_of_its_own() -> None:
    """It was sent a moment before the present one is over: its connection may end before it arrives."""
    errand = Resuming(HEADERS, (), "")
    deliver(errand, 0, is_new=False)
    assert deliver(errand, 1, is_new=False) == [1]
    errand.expire()
    assert acknowledged(errand) == ["1-0"] and errand.wait_s > 0
    errand.expire()
    assert acknowledged(errand) == ["1-1"] and errand.wait_s == 0.0


@pytest.mark.parametrize("is_new", [True, False])
def test_what_was_kept_back_has_a_second_from_when_it_was_sent(is_new: bool) -> None:
    """Not from the beginning of the connection, when nobody knew of it."""
    errand = Resuming(HEADERS, (), "gone")
    assert deliver(errand, 0, is_new=False) == []
    if is_new:
        assert deliver(errand, 1) == [0, 1]
    assert shown(errand.expire()) == ([] if is_new else [0])
    assert acknowledged(errand) == [] and errand.wait_s > 0
    errand.expire()
    assert acknowledged(errand) == ["1-0"] and errand.wait_s == 0.0


def test_what_is_new_is_not_settled_with_what_has_returned() -> None:
    """It was sent a moment ago, and can be lost with the connection."""
    errand = Resuming(HEADERS, (), "")
    deliver(errand, 0, 1, is_new=False)
    deliver(errand, 2)
    errand.expire()
    errand.expire()
    assert acknowledged(errand) == ["1-0", "1-1"]
    deliver(errand, 3)
    errand.expire()
    assert acknowledged(errand) == []
    errand.tick()
    errand.tick()
    assert acknowledged(errand) == ["1-2", "1-3"]


def test_what_was_sent_long_ago_is_settled() -> None:
    """At the second tick; so a page that is loaded anew is not sent it again."""
    errand = Resuming(HEADERS, (), "")
    errand.hear(RECEIPT, b"")
    deliver(errand, 0, 1)
    assert errand.tick() == b":\n\n" and acknowledged(errand) == []
    deliver(errand, 2)
    errand.tick()
    assert acknowledged(errand) == ["1-0", "1-1"]
    deliver(errand, *range(3, KEPT + 4))
    assert acknowledged(errand) == ["1-2", "1-3"]
    errand.tick()
    assert acknowledged(errand) == []


FRAMES = [
    encode_frame(V12, "MESSAGE", [("subscription", "0"), ("message-id", "1"), ("destination", "/topic/a")], b"x"),
    b"MESSAGE\nmessage-id:2\n\nno length\0\n",
    encode_frame(V12, "MESSAGE", [("message-id", "3")], b""),
    encode_frame(V12, "MESSAGE", [("message-id", "4"), ("text", "message-id:5")], b"a\nb\0c\n\n\xff"),
    encode_frame(V12, "MESSAGE", [("message-id", "5")], "grüße\n".encode()),
    encode_frame(V12, "MESSAGE", [("x", "1"), ("message-id", "6")], b"MESSAGE\nmessage-id:7\n\n\0\n"),
]


def heard(stream: bytes) -> bytes:
    """The events that the parser leads to."""
    return b"".join(encode_event(run.head.headers, bytes(body)) for run in parse(stream) for body in run.bodies)


@given(st.lists(st.sampled_from(FRAMES), max_size=8), st.integers(0, 80))
def test_messages_become_the_same_events_without_a_parser(frames: list[bytes], cut: int) -> None:
    """As many as are whole."""
    stream = b"".join(frames)
    stream = stream[: len(stream) - cut]
    events, used = encode_events(stream)

    assert events == heard(stream[:used])
    rest = stream[used:]
    assert not any(rest.startswith(frame) for frame in FRAMES)


@pytest.mark.parametrize(
    "frame",
    [
        encode_frame(V12, "RECEIPT", [("receipt-id", "1")]),
        b"\n",
        b"MESSAGE\n\n\0\n",
        encode_frame(V12, "MESSAGE", [("message-id", "a:b")], b"x"),
        b"",
    ],
)
def test_what_is_not_plain_is_the_parsers(frame: bytes) -> None:
    """Behind the messages that are."""
    assert encode_events(FRAMES[0] + frame) == (b"id: 1\ndata: x\n\n", len(FRAMES[0]))


def test_only_messages_that_need_no_ack_are_cut() -> None:
    """And none before the answer has begun."""
    errand = Watching(HEADERS, ())
    assert errand.cut(FRAMES[0]) == (b"", 0)
    errand.hear(RECEIPT, b"")
    assert errand.cut(FRAMES[0])[1] == len(FRAMES[0])
    durable = Resuming(HEADERS, (), "")
    durable.hear(RECEIPT, b"")
    assert durable.cut(FRAMES[0]) == (b"", 0)
