"""Open transactions, and their limits."""

from __future__ import annotations

import pytest

from forkbroker.session.policy import SessionPolicy
from forkbroker.wire.kinds import Kind

from .clients import connected, unsettled
from .play import Client, frame


@pytest.mark.row("T05")
@pytest.mark.parametrize("end", ["disconnect", "end of input", "lost"])
def test_open_transactions_end_with_the_session(end: str) -> None:
    """Nothing of them is told."""
    client = connected()
    client.do("BEGIN", transaction="t")
    client.do("SEND", b"x", destination="/queue/b", transaction="t")
    if end == "disconnect":
        client.do("DISCONNECT")
    elif end == "end of input":
        client.session.end_of_input(client.now)
    else:
        client.session.connection_lost("reset")

    assert {e.kind for e in client.told()} <= {Kind.FENCE}


@pytest.mark.row("T07")
def test_two_transactions_are_open_at_a_time() -> None:
    """Each keeps what is its own."""
    client = connected()
    for name in "ab":
        client.do("BEGIN", transaction=name)
    for name in "abab":
        client.do("SEND", name.encode(), destination="/queue/b", transaction=name)
    client.do("COMMIT", transaction="b")
    client.do("ABORT", transaction="a")
    (envelope,) = client.told()

    assert [piece for part in envelope.nested() for piece in part.pieces()] == [b"b", b"b"]


@pytest.mark.row("T09")
def test_limits_are_named() -> None:
    """Of open transactions, of frames in one, and of octets in one."""
    policy = SessionPolicy(max_transactions=1, max_transaction_frames=3, max_transaction_size=1000)
    many, long, large = connected(policy=policy), connected(policy=policy), connected(policy=policy)
    for client in (many, long, large):
        client.do("BEGIN", transaction="t")
    many.do("BEGIN", transaction="u")
    for _ in range(4):
        long.do("SEND", destination="/queue/a", transaction="t")
    large.do("SEND", bytes(1001).replace(b"\0", b"x"), destination="/queue/a", transaction="t")

    assert b"max-transactions" in many.error().body
    assert b"max-transaction-frames" in long.error().body
    assert b"max-transaction-size is 1,000" in large.error().body


@pytest.mark.row("T09", "R04")
def test_a_transaction_that_is_full_in_the_middle_of_a_run_names_the_frame() -> None:
    """Those before it have joined, and have their receipts."""
    client = connected(policy=SessionPolicy(max_transaction_frames=3))
    client.do("BEGIN", transaction="t")
    headers = {"destination": "/queue/a", "transaction": "t"}
    client.receive(*(frame("SEND", headers | {"receipt": n}, b"x") for n in range(6)))

    assert [(f.command, f["receipt-id"]) for f in client.read()] == [
        ("RECEIPT", "0"),
        ("RECEIPT", "1"),
        ("RECEIPT", "2"),
        ("ERROR", "3"),
    ]


def fill(client: Client, names: list[str]) -> None:
    """BEGIN, SENDs of all sorts, and ACKs of these names."""
    client.do("BEGIN", transaction="t")
    for number in range(3):
        client.do("SEND", b"x" * 50 * number, destination=f"/queue/{number % 2}", transaction="t", n=number)
    client.receive(*[frame("SEND", {"destination": "/queue/a", "transaction": "t"}, b"y")] * 20)
    client.do("SEND", b"x", destination="/queue/a", transaction="t", priority=9, dedup_id="d" * 200)
    for name in names:
        client.do("ACK", id=name, transaction="t")


@pytest.mark.row("T09")
def test_a_transaction_of_the_largest_size_is_permitted() -> None:
    """An octet more is not. What is counted is at least what travels."""
    client, names = unsettled()
    fill(client, names)
    size = client.session._transactions._open["t"].size
    client.do("COMMIT", transaction="t")
    (envelope,) = client.told()
    exact, small = (unsettled(policy=SessionPolicy(max_transaction_size=limit)) for limit in (size, size - 1))
    fill(*exact)
    fill(*small)
    exact[0].do("COMMIT", transaction="t")

    assert 0.2 * size < len(envelope.payload) <= size
    assert [e.kind for e in exact[0].told()] == [Kind.TRANSACTION]
    assert f"takes {size:,} bytes, and max-transaction-size is {size - 1:,}".encode() in small[0].error().body


@pytest.mark.row("T09")
@pytest.mark.parametrize("count", [3, 4])
def test_the_largest_number_of_transactions_and_frames_is_permitted(count: int) -> None:
    """One more is not."""
    open_ones, frames = (
        connected(policy=SessionPolicy(max_transactions=3, max_transaction_frames=3)) for _ in range(2)
    )
    for number in range(count):
        open_ones.do("BEGIN", transaction=number)
    frames.do("BEGIN", transaction="t")
    for _ in range(count):
        frames.do("SEND", destination="/queue/a", transaction="t")

    assert [client.session.ending.is_over for client in (open_ones, frames)] == [count > 3] * 2


@pytest.mark.row("T09")
def test_headers_count_for_the_size() -> None:
    """They travel in the same envelope."""
    client = connected(policy=SessionPolicy(max_transaction_size=1000))
    client.do("BEGIN", transaction="t")
    client.do("SEND", destination="/queue/a", transaction="t", long="x" * 1000)

    assert b"max-transaction-size" in client.error().body


@pytest.mark.row("T10")
def test_the_receipt_of_a_frame_in_a_transaction_comes_at_once() -> None:
    """It has joined: who waits for it before COMMIT doesn't hang."""
    client, (first, *_) = unsettled()
    client.do("BEGIN", transaction="t")
    client.do("SEND", destination="/queue/b", transaction="t", receipt="r1")
    client.do("ACK", id=first, transaction="t", receipt="r2")

    assert [f["receipt-id"] for f in client.read()] == ["r1", "r2"]
    assert client.told() == []


def test_message_ids_of_transactions_are_unique() -> None:
    """They share the batch numbers with all else that the session sends."""
    client = connected()
    client.do("SEND", destination="/queue/a")
    client.do("BEGIN", transaction="t")
    client.do("SEND", destination="/queue/a", transaction="t")
    client.do("COMMIT", transaction="t")
    client.receive(frame("SEND", {"destination": "/queue/a"}))
    first, transaction, last = client.told()
    idents = [e.block.partition(b"\n")[0] for e in (first, *transaction.nested(), last)]

    assert len(set(idents)) == 3


@pytest.mark.row("T09")
def test_an_ack_is_one_frame_of_its_transaction() -> None:
    """Whatever it settles; and it may be the last one that is permitted."""
    client, names = unsettled(policy=SessionPolicy(max_transaction_frames=3))
    client.do("BEGIN", transaction="t")
    for name in names:
        client.do("ACK", id=name, transaction="t")
    client.do("COMMIT", transaction="t")

    assert [e.kind for e in client.told()] == [Kind.TRANSACTION]
