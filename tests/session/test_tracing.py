"""The frames of a client, as its process tells them to whoever looks."""

from __future__ import annotations

import json
from typing import Any

import pytest

from forkbroker.session.tracing import BODY, MOST
from forkbroker.wire.fields import MAX_TRACE, OF_CHILD, check
from forkbroker.wire.kinds import Kind, Trace
from forkbroker.wire.memory_file import MemoryFile

from .clients import connected
from .play import Client, frame, sent


def traced(client: Client) -> list[dict[str, Any]]:
    """What the parent was told of frames; the turn ends by that."""
    client.session.end_turn(client.now)
    told = [envelope for envelope in client.told() if envelope.kind is Kind.TRACED]
    for envelope in told:
        check(envelope, OF_CHILD)
        assert envelope.block_length <= MAX_TRACE
    return [row for envelope in told for row in json.loads(envelope.block)]


def watched(version: str = "1.2", wanted: Trace = Trace.HEADERS) -> Client:
    """A client at which somebody looks from now on."""
    client = connected(version)
    client.down(Kind.TRACE, token=wanted)
    (begun,) = client.told()
    assert (begun.kind, begun.block) == (Kind.TRACED, b"[]")
    return client


def shown(rows: list[dict[str, Any]]) -> list[tuple[str, str, int]]:
    return [(row["from"], row["command"], row["bytes"]) for row in rows]


def test_nothing_is_told_while_nobody_looks() -> None:
    """Before and after."""
    client = connected()
    client.do("SEND", b"1", destination="/topic/a")
    assert traced(client) == []
    client.down(Kind.TRACE, token=Trace.HEADERS)
    assert traced(client) == []
    client.do("SEND", b"1", destination="/topic/a")
    assert shown(traced(client)) == [("client", "SEND", 1)]
    client.down(Kind.TRACE, token=Trace.NOTHING)
    client.do("SEND", b"1", destination="/topic/a", receipt="r")
    client.pass_fence()

    assert traced(client) == []
    assert client.session.unwritten.tracing is None


def test_acks_that_come_together_are_told_each_by_its_id() -> None:
    """Although they are read as one; so is one with a receipt."""
    wanted = [{"id": "1-1"}, {"id": "1-2"}, {"id": "1-3"}], [{"id": "1-9", "receipt": "r"}]
    for acks in wanted:
        client = watched()
        client.receive(b"".join(frame("ACK", ack) for ack in acks))
        assert [row["headers"] for row in traced(client) if row["from"] == "client"] == acks


@pytest.mark.parametrize("version", ["1.0", "1.1", "1.2"])
def test_frames_of_both_sides_are_told_in_their_order(version: str) -> None:
    """With their headers as the two mean them, whatever the version writes."""
    client = watched(version)
    client.do("SUBSCRIBE", destination="/topic/a", id="1", receipt="r")
    client.pass_fence()
    client.do("SEND", b"hello", destination="/topic/a", note="a b")
    client.forward(sent("/topic/a", b"hello", headers={"note": "x"}))
    rows = traced(client)

    assert shown(rows) == [
        ("client", "SUBSCRIBE", 0),
        ("broker", "RECEIPT", 0),
        ("client", "SEND", 5),
        ("broker", "MESSAGE", 5),
    ]
    assert rows[0]["headers"] == {"destination": "/topic/a", "id": "1", "receipt": "r"}
    assert rows[1]["headers"] == {"receipt-id": "r"}
    assert rows[2]["headers"]["note"] == "a b"
    assert (rows[3]["headers"]["note"], rows[3]["headers"]["destination"]) == ("x", "/topic/a")
    assert not any("body" in row or row["missed"] for row in rows)


def test_bodies_are_told_if_they_are_wanted() -> None:
    """Text as it is, other octets in base64; what is long is cut. To want less is heeded at once."""
    client = watched(wanted=Trace.BODIES)
    for body in (b"text", b"", b"\xff", b"x" * (BODY + 1)):
        client.do("SEND", body, destination="/topic/a")
    told = [(row.get("body", row.get("body-base64")), row.get("is-cut")) for row in traced(client)]
    client.down(Kind.TRACE, token=Trace.HEADERS)
    client.do("SEND", b"text", destination="/topic/a")

    assert told == [("text", False), (None, None), ("/w==", False), ("x" * BODY, True)]
    assert "body" not in traced(client)[-1]


def test_no_passcode_is_told() -> None:
    """A second CONNECT is an error, and what it says is not shown."""
    client = watched(wanted=Trace.BODIES)
    client.receive(frame("CONNECT", {"accept-version": "1.2", "host": "/", "login": "a", "passcode": "secret"}))
    rows = traced(client)

    assert shown(rows)[0] == ("client", "CONNECT", 0)
    assert rows[0]["headers"] == {}
    assert "secret" not in json.dumps(rows)


def test_a_client_that_is_too_fast_is_told_in_part() -> None:
    """So many frames in a second; the next one says how many were left out."""
    client = watched()
    for _ in range(MOST + 7):
        client.do("SEND", b"", destination="/topic/a")
    assert len(traced(client)) == MOST
    client.do("SEND", b"", destination="/topic/a")
    assert traced(client) == []
    client.now += 1.0
    traced(client)
    client.do("SEND", b"", destination="/topic/a")

    assert [row["missed"] for row in traced(client)] == [8]


def test_what_is_too_large_for_an_envelope_is_left_out() -> None:
    """It is counted, and what comes in the next turn is told."""
    client = watched()
    for number in range(60):
        client.do("SEND", b"", destination="/topic/a", long="x" * 5_000, n=str(number))
    first = traced(client)
    client.do("SEND", b"", destination="/topic/a")
    (last,) = traced(client)

    assert 40 < len(first) < 60
    assert last["missed"] == 60 - len(first)


def test_frames_in_a_file_are_told_as_well() -> None:
    """That is how many subscribers get large ones."""
    file = MemoryFile.make([b"MESSAGE\nmessage-id:1\n\nhello\0\n"])
    if file is None:
        pytest.skip("the system has no such files")
    client = watched()
    client.session.unwritten.put_topic_file(file, 1)

    assert shown(traced(client)) == [("broker", "MESSAGE", 5)]


def test_heart_beats_are_no_frames() -> None:
    """Nothing is told of them."""
    client = watched()
    client.session.unwritten.put([b"\n"])

    assert traced(client) == []


def test_what_nobody_may_order_is_refused() -> None:
    """An order that there is not is a fault of the parent."""
    client = connected()
    with pytest.raises(ValueError, match="3"):
        client.down(Kind.TRACE, token=3)
