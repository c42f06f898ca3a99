"""BEGIN, COMMIT and ABORT."""

from __future__ import annotations

import pytest

from forkbroker.wire.kinds import Kind, Outcome

from .clients import connected, unsettled
from .play import sent


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
    is_open = client.session.is_open
    client.do("BEGIN", transaction="t")

    assert is_open
    assert client.error()["message"] == "transaction is open already"


@pytest.mark.row("T03")
@pytest.mark.parametrize("command", ["SEND", "ACK", "NACK", "COMMIT", "ABORT"])
def test_an_unknown_transaction_is_an_error(command: str) -> None:
    """Whoever names it."""
    client, (name, *_) = unsettled()
    client.do(command, transaction="nope", id=name, destination="/queue/b")

    assert client.error()["message"] == "unknown transaction"


@pytest.mark.row("T03", "T04", "T11")
def test_sends_and_acks_travel_together_at_commit() -> None:
    """Nothing before, then one envelope that is applied as a whole."""
    client, (first, second, _) = unsettled()
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
    client.down(Kind.REFUSED, number=client.session.upward.last_fence, block=b"queue /queue/b is full")

    assert client.error()["receipt-id"] == "r"


@pytest.mark.row("T04", "U10")
def test_a_transaction_whose_messages_went_back_can_not_be_applied() -> None:
    """UNSUBSCRIBE has returned them: the COMMIT would do a part only, so it does nothing."""
    client, (first, *_) = unsettled()
    client.do("BEGIN", transaction="t")
    client.do("SEND", b"x", destination="/queue/b", transaction="t")
    client.do("ACK", id=first, transaction="t")
    client.do("UNSUBSCRIBE", id="1")
    client.do("COMMIT", transaction="t", receipt="r")

    assert client.error()["receipt-id"] == "r"
    assert [e.kind for e in client.told()] == [Kind.UNSUBSCRIBE]


def test_a_topics_messages_went_nowhere() -> None:
    """Its subscription may end before COMMIT: there is nothing to apply."""
    client, (first, *_) = unsettled("/topic/a")
    client.do("BEGIN", transaction="t")
    client.do("ACK", id=first, transaction="t")
    client.do("UNSUBSCRIBE", id="1")
    client.do("COMMIT", transaction="t", receipt="r")
    client.pass_fence()

    assert [f["receipt-id"] for f in client.read()] == ["r"]


@pytest.mark.row("T06")
@pytest.mark.parametrize(("ack", "again"), [("client-individual", [(2, 1)]), ("client", [(1, 2)])])
def test_abort_gives_the_same_ids_back_in_order(ack: str, again: list[tuple[int, int]]) -> None:
    """Nothing is redelivered; the same ACK settles the same messages again."""
    client, names = unsettled(ack=ack)
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
    client, names = unsettled(ack="client")
    client.do("BEGIN", transaction="t")
    client.do("ACK", id=names[0], transaction="t")
    client.do("ABORT", transaction="t")
    client.do("ACK", id=names[2])

    assert [list(e.settlements()) for e in client.told()] == [[(1, 3, Outcome.ACKNOWLEDGED)]]


@pytest.mark.row("T06")
def test_abort_after_unsubscribe_gives_back_nothing() -> None:
    """The messages went back to their queue: an ACK is late."""
    client, names = unsettled()
    client.do("BEGIN", transaction="t")
    client.do("ACK", id=names[0], transaction="t")
    client.do("UNSUBSCRIBE", id="1")
    client.do("ABORT", transaction="t")
    client.do("ACK", id=names[0])

    assert [e.kind for e in client.told()] == [Kind.UNSUBSCRIBE]


@pytest.mark.row("T08")
def test_subscribe_with_a_transaction_header_is_executed_at_once() -> None:
    """Only SEND, ACK and NACK join."""
    client = connected()
    client.do("SUBSCRIBE", destination="/topic/a", id="1", transaction="nope")
    client.do("UNSUBSCRIBE", id="1", transaction="nope")

    assert [e.kind for e in client.told()] == [Kind.SUBSCRIBE, Kind.UNSUBSCRIBE]


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

    assert error["message"] == "transaction cannot be applied as a whole"
    assert b"UNSUBSCRIBE of '/queue/a';" in error.body
