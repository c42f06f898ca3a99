"""ACKs that come in one read settle what they would have settled one by one."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forkbroker.session.policy import SessionPolicy
from forkbroker.wire.kinds import Kind

from .clients import connected, unsettled
from .play import Client, frame, sent

HELD = 6


def begin(ack: str, destination: str, version: str, is_strict: bool) -> tuple[Client, list[str]]:
    """A client with two subscriptions, and the names by which the deliveries of both are acknowledged."""
    client = connected(version, SessionPolicy(strict=is_strict))
    for number, mode in enumerate((ack, "client-individual"), 1):
        name = f"{destination}{number}"
        token = client.subscribe(name, mode, f"{number}")
        batch = sent(name, *(b"%d" % n for n in range(HELD)))
        if destination == "/queue/":
            client.offer(batch, token, serial=number * 100)
        else:
            client.forward(batch)
        client.told()
    return client, [got["ack"] if version == "1.2" else got["message-id"] for got in client.read()]


def outcome(client: Client) -> tuple[list[tuple[int, int, object]], list[str]]:
    """What the parent was told is settled, message by message in order, and what the client was told."""
    settled = [
        (envelope.token, serial, result)
        for envelope in client.told()
        if envelope.kind is Kind.SETTLE
        for first, count, result in envelope.settlements()
        for serial in range(first, first + count)
    ]
    return settled, [got["message"] for got in client.read() if got.command == "ERROR"]


@settings(max_examples=200)
@given(
    ack=st.sampled_from(["client", "client-individual"]),
    destination=st.sampled_from(["/queue/", "/topic/"]),
    version=st.sampled_from(["1.1", "1.2"]),
    is_strict=st.booleans(),
    places=st.lists(st.integers(0, 2 * HELD), min_size=4, max_size=HELD + 3)
    | st.permutations(range(HELD))
    | st.permutations(range(HELD, 2 * HELD))
    | st.just(list(range(HELD))),
    odd=st.sampled_from(["1-1", "0-0", "99999999-3"]),
)
def test_acks_settle_the_same_in_one_read_and_in_many(
    ack: str, destination: str, version: str, is_strict: bool, places: list[int], odd: str
) -> None:
    """In any order, repeated, of both subscriptions, late, or of what was never delivered."""
    found = []
    for is_one in (True, False):
        client, names = begin(ack, destination, version, is_strict)
        ids = [*names, odd]
        header = "id" if version == "1.2" else "message-id"
        frames = [frame("ACK", {header: ids[place]}) for place in places]
        for octets in [b"".join(frames)] if is_one else frames:
            client.receive(octets)
        for name in (names[0], names[-1]):
            client.receive(frame("ACK", {header: name}))
        found.append(outcome(client))

    assert found[0] == found[1]


@pytest.mark.parametrize("ack", ["client", "client-individual"])
def test_acks_in_order_are_settled_together(ack: str) -> None:
    """As one range, without a look at each frame."""
    client, names = unsettled(ack=ack, messages=5)
    seen = []
    handlers = client.session._handlers
    handlers["ACK"] = lambda *given: seen.append(given)
    client.receive(b"".join(frame("ACK", {"id": name}) for name in names))

    assert [entry[:2] for e in client.told() if e.kind is Kind.SETTLE for entry in e.settlements()] == [(1, 5)]
    assert seen == []


def test_a_transaction_takes_acks_one_by_one() -> None:
    """And ACKs that stand beside it are settled at once."""
    client, names = unsettled(messages=9)
    client.do("BEGIN", transaction="t")
    within = [frame("ACK", {"id": name, "transaction": "t"}) for name in names[:4]]
    client.receive(b"".join([*within, *(frame("ACK", {"id": name}) for name in names[4:])]))
    at_once, _ = outcome(client)
    client.do("COMMIT", transaction="t")

    assert [serial for _, serial, _ in at_once] == list(range(5, 10))
    assert [e.kind for e in client.told()] == [Kind.TRANSACTION]


@pytest.mark.parametrize("prefetch", ["4", "100"])
def test_credit_comes_back_for_all_of_them(prefetch: str) -> None:
    """A topic's copies that have waited for it are delivered behind them."""
    client = connected()
    client.subscribe("/topic/a", "client-individual", **{"prefetch-count": prefetch})
    client.forward(sent("/topic/a", *(b"%d" % n for n in range(8))))
    names = [got["ack"] for got in client.read()]
    client.receive(b"".join(frame("ACK", {"id": name}) for name in names))

    assert (len(names), len(client.read())) == ((4, 4) if prefetch == "4" else (8, 0))
