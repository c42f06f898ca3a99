"""Deliveries that are parked, and settled over another connection."""

from __future__ import annotations

import pytest

from forkbroker.session.downward import Unwritten
from forkbroker.session.ending import HeartBeat
from forkbroker.wire.envelope import Envelope
from forkbroker.wire.fields import OF_CHILD, check
from forkbroker.wire.kinds import Flag, Kind, Outcome

from .clients import ack_of, connected, consuming
from .play import Client, frame

KEY = "k" * 32


def told(client: Client, kind: Kind) -> Envelope:
    """The only envelope of this kind that the parent is told, which is as it should be."""
    [envelope] = [envelope for envelope in client.told() if envelope.kind is kind]
    check(envelope, OF_CHILD)
    return envelope


def test_an_ack_may_park() -> None:
    """The delivery is the parent's then; the RECEIPT comes when it says so."""
    client, token = consuming()
    client.receive(frame("ACK", ack_of(client, 0) | {"park": KEY, "lease": 5000, "receipt": "r"}))
    park = told(client, Kind.PARK)

    assert (park.token, park.index, bytes(park.block)) == (token, 5000, KEY.encode())
    assert bytes(park.destination) == b"default\n"
    assert park.flags & Flag.FENCE
    assert client.read() == []


def test_the_lease_has_a_default() -> None:
    """A minute."""
    client, _ = consuming()
    client.receive(frame("ACK", ack_of(client, 0) | {"park": KEY}))

    assert told(client, Kind.PARK).index == 60_000


@pytest.mark.parametrize(
    ("command", "headers", "outcome", "block"),
    [
        ("ACK", {}, Outcome.ACKNOWLEDGED, KEY),
        ("NACK", {}, Outcome.RELEASED, KEY),
        ("NACK", {"requeue": "false", "reason": "no"}, Outcome.REJECTED, f"{KEY}\nno"),
    ],
)
def test_what_is_parked_is_settled_by_its_key(
    command: str, headers: dict[str, object], outcome: Outcome, block: str
) -> None:
    """Over any connection; without a subscription or an id."""
    client = connected()
    client.receive(frame(command, {"parked": KEY, **headers}))
    unpark = told(client, Kind.UNPARK)

    assert (unpark.token, bytes(unpark.block).decode()) == (outcome, block)
    assert unpark.flags & Flag.FENCE


def test_a_refusal_is_the_end() -> None:
    """As of a SEND; it names the receipt."""
    client = connected()
    client.receive(frame("ACK", {"parked": KEY, "receipt": "r"}))
    fence = told(client, Kind.UNPARK).number
    client.down(Kind.REFUSED, number=fence, block=b"its lease is over")

    error = client.error()
    assert (error["message"], error["receipt-id"]) == ("refused", "r")
    assert error.body == b"its lease is over\n"


@pytest.mark.parametrize(
    "headers",
    [
        {"park": "short"},
        {"park": "k" * 65},
        {"park": "k k" * 10},
        {"park": KEY, "lease": 43_200_001},
        {"park": KEY, "lease": "soon"},
        {"park": KEY, "transaction": "t"},
        {"parked": "short"},
        {"parked": KEY, "transaction": "t"},
    ],
)
def test_what_makes_no_sense_is_an_error(headers: dict[str, object]) -> None:
    """A key that can be guessed, a lease without end, a part of a transaction."""
    client, _ = consuming()
    client.receive(frame("BEGIN", {"transaction": "t"}))
    client.receive(frame("ACK", ack_of(client, 0) | headers))

    assert client.error().command == "ERROR"
    assert not [envelope for envelope in client.told() if envelope.kind in (Kind.PARK, Kind.UNPARK)]


def test_only_one_delivery_of_a_queue_can_be_parked() -> None:
    """Not a range of them, not one that is settled, not a copy of a topic's message."""
    client, _ = consuming()
    client.receive(frame("ACK", ack_of(client, 0)))
    client.receive(frame("ACK", ack_of(client, 0) | {"park": KEY}))
    assert client.error()["message"] == "nothing to park"


def test_another_user_owns_other_deliveries() -> None:
    """Within each virtual host; a child that was begun before its client was known learns who that is."""
    client = connected()
    beat = HeartBeat(0, 0, Unwritten(), client.now)
    client.session.adopt("alice", client.session.rights, b"s2", b"secret" * 4, 10, beat, client.now)
    client.receive(frame("ACK", {"parked": KEY}))

    assert bytes(told(client, Kind.UNPARK).destination) == b"default\nalice"
