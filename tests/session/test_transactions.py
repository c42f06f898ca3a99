"""BEGIN, COMMIT, ABORT, and what joins them."""

from __future__ import annotations

import pytest

from forkbroker.session.policy import SessionPolicy
from forkbroker.session.session import State
from forkbroker.wire.kinds import Kind, Outcome

from .play import Client, frame, sent


def connected(policy: SessionPolicy | None = None, version: str = "1.2") -> Client:
    client = Client(version, policy)
    client.connect()
    return client


def consuming(
    destination: str = "/queue/a",
    ack: str = "client-individual",
    messages: int = 3,
    policy: SessionPolicy | None = None,
) -> tuple[Client, list[str]]:
    """A client with unsettled messages of serials 1, 2, …, and their names."""
    client = connected(policy)
    token = client.subscribe(destination, ack)
    batch = sent(destination, *(b"%d" % n for n in range(messages)))
    if destination.startswith("/queue/"):
        client.offer(batch, token)
    else:
        client.forward(batch)
    client.told()
    return client, [got["ack"] for got in client.read()]


@pytest.mark.row("T01")
@pytest.mark.parametrize("command", ["BEGIN", "COMMIT", "ABORT"])
def test_the_header_is_required(command: str) -> None:
    """An error says so."""
    client = connected()
    client.do(command, receipt="r")

    assert client.error()["message"] == "missing header transaction"


@pytest.mark.row("T02")
def test_an_open_transaction_can_not_begin_again() -> None:
    """But after COMMIT or ABORT its name is free."""
    client = connected()
    for end in ("COMMIT", "ABORT"):
        client.do("BEGIN", transaction="t")
        client.do(end, transaction="t")
    client.do("BEGIN", transaction="t")
    state = client.session.state
    client.do("BEGIN", transaction="t")

    assert state is State.CONNECTED
    assert client.error()["message"] == "transaction is open already"


@pytest.mark.row("T03")
@pytest.mark.parametrize("command", ["SEND", "ACK", "NACK", "COMMIT", "ABORT"])
def test_an_unknown_transaction_is_an_error(command: str) -> None:
    """Whoever names it."""
    client, (name, *_) = consuming()
    client.do(command, transaction="nope", id=name, destination="/queue/b")

    assert client.error()["message"] == "unknown transaction"


@pytest.mark.row("T03", "T04", "T11")
def test_sends_and_acks_travel_together_at_commit() -> None:
    """Nothing before, then one envelope that is applied as a whole."""
    client, (first, second, _) = consuming()
    client.do("BEGIN", transaction="t")
    client.do("SEND", b"x", destination="/queue/b", transaction="t")
    client.do("ACK", id=first, transaction="t")
    client.do("NACK", id=second, transaction="t")
    client.do("SEND", b"y", destination="/topic/b", transaction="t")
    early = client.told()
    client.do("COMMIT", transaction="t", receipt="r")
    (envelope,) = client.told()
    parts = envelope.nested()
    waiting = client.read()
    client.pass_fence()

    assert early == []
    assert envelope.kind is Kind.TRANSACTION
    assert [(p.kind, p.destination) for p in parts[:2]] == [(Kind.SEND, b"/queue/b"), (Kind.SEND, b"/topic/b")]
    assert [list(p.settlements()) for p in parts[2:]] == [[(1, 1, Outcome.ACKNOWLEDGED), (2, 1, Outcome.RELEASED)]]
    assert envelope.count == len(parts) == 3
    assert waiting == []
    assert [f["receipt-id"] for f in client.read()] == ["r"]


@pytest.mark.row("T04")
def test_a_refused_transaction_is_an_error_that_names_the_commit() -> None:
    """The parent has applied none of it."""
    client = connected()
    client.do("BEGIN", transaction="t")
    client.do("SEND", b"x", destination="/queue/b", transaction="t")
    client.do("COMMIT", transaction="t", receipt="r")
    client.told()
    client.down(Kind.REFUSED, number=client.session._upward.last_fence, block=b"queue /queue/b is full")

    assert client.error()["receipt-id"] == "r"


@pytest.mark.row("T04", "U10")
def test_a_transaction_whose_messages_went_back_can_not_be_applied() -> None:
    """UNSUBSCRIBE has returned them: the COMMIT would do a part only, so it does nothing."""
    client, (first, *_) = consuming()
    client.do("BEGIN", transaction="t")
    client.do("SEND", b"x", destination="/queue/b", transaction="t")
    client.do("ACK", id=first, transaction="t")
    client.do("UNSUBSCRIBE", id="1")
    client.do("COMMIT", transaction="t", receipt="r")

    assert client.error()["receipt-id"] == "r"
    assert [e.kind for e in client.told()] == [Kind.UNSUBSCRIBE]


def test_a_topics_messages_went_nowhere() -> None:
    """Its subscription may end before COMMIT: there is nothing to apply."""
    client, (first, *_) = consuming("/topic/a")
    client.do("BEGIN", transaction="t")
    client.do("ACK", id=first, transaction="t")
    client.do("UNSUBSCRIBE", id="1")
    client.do("COMMIT", transaction="t", receipt="r")
    client.pass_fence()

    assert [f["receipt-id"] for f in client.read()] == ["r"]


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


@pytest.mark.row("T06")
@pytest.mark.parametrize(("ack", "again"), [("client-individual", [(2, 1)]), ("client", [(1, 2)])])
def test_abort_gives_the_same_ids_back_in_order(ack: str, again: list[tuple[int, int]]) -> None:
    """Nothing is redelivered; the same ACK settles the same messages again."""
    client, names = consuming(ack=ack)
    client.do("BEGIN", transaction="t")
    client.do("ACK", id=names[1], transaction="t")
    client.do("ABORT", transaction="t", receipt="r")
    aborted = client.told(), [f.command for f in client.read()]
    client.do("ACK", id=names[1])
    (envelope,) = client.told()

    assert aborted == ([], ["RECEIPT"])
    assert [entry[:2] for entry in envelope.settlements()] == again


@pytest.mark.row("T06")
def test_what_abort_gave_back_stands_before_later_deliveries() -> None:
    """A cumulative ACK of a later message counts for it."""
    client, names = consuming(ack="client")
    client.do("BEGIN", transaction="t")
    client.do("ACK", id=names[0], transaction="t")
    client.do("ABORT", transaction="t")
    client.do("ACK", id=names[2])

    assert [list(e.settlements()) for e in client.told()] == [[(1, 3, Outcome.ACKNOWLEDGED)]]


@pytest.mark.row("T06")
def test_abort_after_unsubscribe_gives_back_nothing() -> None:
    """The messages went back to their queue: an ACK is late."""
    client, names = consuming()
    client.do("BEGIN", transaction="t")
    client.do("ACK", id=names[0], transaction="t")
    client.do("UNSUBSCRIBE", id="1")
    client.do("ABORT", transaction="t")
    client.do("ACK", id=names[0])

    assert [e.kind for e in client.told()] == [Kind.UNSUBSCRIBE]


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


@pytest.mark.row("T08")
def test_subscribe_with_a_transaction_header_is_executed_at_once() -> None:
    """Only SEND, ACK and NACK join."""
    client = connected()
    client.do("SUBSCRIBE", destination="/topic/a", id="1", transaction="nope")
    client.do("UNSUBSCRIBE", id="1", transaction="nope")

    assert [e.kind for e in client.told()] == [Kind.SUBSCRIBE, Kind.UNSUBSCRIBE]


@pytest.mark.row("T09")
def test_limits_are_named() -> None:
    """Of open transactions, of frames in one, and of octets in one."""
    policy = SessionPolicy(max_transactions=1, max_transaction_frames=3, max_transaction_size=1000)
    many, long, large = connected(policy), connected(policy), connected(policy)
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
    client = connected(SessionPolicy(max_transaction_frames=3))
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
    client, names = consuming()
    fill(client, names)
    size = client.session._transactions._open["t"].size
    client.do("COMMIT", transaction="t")
    (envelope,) = client.told()
    exact, small = (consuming(policy=SessionPolicy(max_transaction_size=limit)) for limit in (size, size - 1))
    fill(*exact)
    fill(*small)
    exact[0].do("COMMIT", transaction="t")

    assert 0.2 * size < len(envelope.payload) <= size
    assert [e.kind for e in exact[0].told()] == [Kind.TRANSACTION]
    assert f"takes {size:,} octets, and max-transaction-size is {size - 1:,}".encode() in small[0].error().body


@pytest.mark.row("T09")
@pytest.mark.parametrize("count", [3, 4])
def test_the_largest_number_of_transactions_and_frames_is_permitted(count: int) -> None:
    """One more is not."""
    open_ones, frames = (connected(SessionPolicy(max_transactions=3, max_transaction_frames=3)) for _ in range(2))
    for number in range(count):
        open_ones.do("BEGIN", transaction=number)
    frames.do("BEGIN", transaction="t")
    for _ in range(count):
        frames.do("SEND", destination="/queue/a", transaction="t")

    assert [client.session.is_finished for client in (open_ones, frames)] == [count > 3] * 2


@pytest.mark.row("T09")
def test_headers_count_for_the_size() -> None:
    """They travel in the same envelope."""
    client = connected(SessionPolicy(max_transaction_size=1000))
    client.do("BEGIN", transaction="t")
    client.do("SEND", destination="/queue/a", transaction="t", long="x" * 1000)

    assert b"max-transaction-size" in client.error().body


@pytest.mark.row("T10")
def test_the_receipt_of_a_frame_in_a_transaction_comes_at_once() -> None:
    """It has joined: who waits for it before COMMIT doesn't hang."""
    client, (first, *_) = consuming()
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


@pytest.mark.row("T10")
def test_receipts_that_wait_for_nothing_need_no_fence() -> None:
    """On a fresh connection, whose first fence the parent has not passed."""
    client = connected()
    client.do("BEGIN", transaction="t", receipt="begin")
    client.do("SEND", destination="/queue/a", transaction="t", receipt="send")
    client.do("ABORT", transaction="t", receipt="abort")
    client.do("BEGIN", transaction="t")
    client.do("COMMIT", transaction="t", receipt="commit")
    client.do("ACK", id="0-pub-1", receipt="late")

    assert [f["receipt-id"] for f in client.read()] == ["begin", "send", "abort", "commit", "late"]
    assert client.told() == []


@pytest.mark.row("T09")
def test_an_ack_is_one_frame_of_its_transaction() -> None:
    """Whatever it settles; and it may be the last one that is permitted."""
    client, names = consuming(policy=SessionPolicy(max_transaction_frames=3))
    client.do("BEGIN", transaction="t")
    for name in names:
        client.do("ACK", id=name, transaction="t")
    client.do("COMMIT", transaction="t")

    assert [e.kind for e in client.told()] == [Kind.TRANSACTION]


@pytest.mark.row("T06", "A13")
def test_what_abort_gave_back_uses_credit_once() -> None:
    """After its ACK as many messages of the topic come as were settled."""
    client = connected()
    client.subscribe("/topic/a", "client-individual", prefetch_count=2)
    client.forward(sent("/topic/a", *(b"%d" % n for n in range(5))))
    names = [got["ack"] for got in client.read()]
    client.do("BEGIN", transaction="t")
    client.do("ACK", id=names[0], transaction="t")
    client.do("ABORT", transaction="t")
    for name in names:
        client.do("ACK", id=name)

    assert [got.body for got in client.read()] == [b"2", b"3"]


@pytest.mark.row("T08")
def test_the_error_of_commit_after_unsubscribe_has_the_name_that_the_client_knows() -> None:
    """In 1.0 that is the destination, without the mark that tells it from an id."""
    client = connected(version="1.0")
    token = client.subscribe("/queue/a", "client", subscription_id=None)
    client.offer(sent("/queue/a", b"x"), token)
    name = client.read()[0]["message-id"]
    client.do("BEGIN", transaction="t")
    client.do("ACK", message_id=name, transaction="t")
    client.do("UNSUBSCRIBE", destination="/queue/a")
    client.told()
    client.do("COMMIT", transaction="t")
    client.pass_fence()
    error = client.error()

    assert error["message"] == "transaction can't be applied as a whole"
    assert b"UNSUBSCRIBE of '/queue/a';" in error.body
