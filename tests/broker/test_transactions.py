"""Transactions between real clients: all of it or nothing."""

from __future__ import annotations

import pytest

VERSIONS = ["1.0", "1.1", "1.2"]


@pytest.mark.row("T04")
@pytest.mark.parametrize("version", VERSIONS)
def test_sends_of_a_transaction_appear_with_commit_on_all_queues(broker, join, version) -> None:
    """Two queues and a topic; nothing before, and their receipts come at once."""
    client, consumer = join(broker, version), join(broker)
    for number, destination in enumerate(["/queue/a", "/queue/b", "/topic/a"]):
        consumer.subscribe(destination, number)
    client.request("BEGIN", transaction="t")
    for destination in ("/queue/a", "/queue/b", "/topic/a", "/queue/a"):
        client.publish(destination, destination, transaction="t")
    consumer.expect_nothing()
    client.request("COMMIT", transaction="t")

    messages = [consumer.expect("MESSAGE") for _ in range(4)]
    assert sorted(message.body.decode() for message in messages) == ["/queue/a", "/queue/a", "/queue/b", "/topic/a"]
    assert not any("transaction" in message for message in messages)
    consumer.expect_nothing()


@pytest.mark.row("T04", "T06")
def test_abort_undoes_sends_and_acknowledgements(broker, join) -> None:
    """What was acknowledged is unsettled again at the same client, under the same name, not redelivered."""
    client, consumer = join(broker), join(broker)
    client.subscribe("/queue/a", 1, ack="client-individual")
    client.publish("/queue/a", "work")
    message = client.expect("MESSAGE", "work")
    client.request("BEGIN", transaction="t")
    client.ack(message, transaction="t")
    client.publish("/queue/b", "result", transaction="t")
    client.request("ABORT", transaction="t")
    client.expect_nothing()
    consumer.subscribe("/queue/b", 1)
    consumer.expect_nothing()

    client.ack(message)
    client.close()
    broker.wait_for_children(1)
    consumer.subscribe("/queue/a", 2)
    consumer.expect_nothing()


@pytest.mark.row("T04")
def test_acknowledgement_and_result_are_committed_together(broker, join) -> None:
    """ACK of one queue, NACK of another, SEND to a third: the worker's transaction."""
    client, consumer = join(broker), join(broker)
    client.subscribe("/queue/a", 1, ack="client-individual", prefetch_count=1)
    client.subscribe("/queue/b", 2, ack="client-individual", prefetch_count=1)
    client.publish("/queue/a", "work")
    client.publish("/queue/b", "not today")
    done, postponed = client.expect("MESSAGE", subscription=1), client.expect("MESSAGE", subscription=2)
    client.request("BEGIN", transaction="t")
    client.ack(done, transaction="t")
    client.nack(postponed, transaction="t")
    client.publish("/queue/c", "result", transaction="t")
    client.expect_nothing()
    client.request("COMMIT", transaction="t")

    client.expect("MESSAGE", "not today", redelivered="true")
    client.close()
    broker.wait_for_children(1)
    for number, queue in enumerate("abc"):
        consumer.subscribe(f"/queue/{queue}", number)
    messages = [consumer.expect("MESSAGE").body for _ in range(2)]
    assert sorted(messages) == [b"not today", b"result"]
    consumer.expect_nothing()


@pytest.mark.row("T05")
@pytest.mark.parametrize("goodbye", ["DISCONNECT", "close", "ERROR"])
def test_an_open_transaction_ends_with_its_connection(broker, join, goodbye) -> None:
    """Nothing was sent, and what it acknowledged comes to another."""
    client, consumer = join(broker), join(broker)
    client.subscribe("/queue/a", 1, ack="client")
    client.publish("/queue/a", "work")
    message = client.expect("MESSAGE")
    client.request("BEGIN", transaction="t")
    client.ack(message, transaction="t")
    client.publish("/queue/b", "result", transaction="t")
    if goodbye == "DISCONNECT":
        client.request("DISCONNECT")
    elif goodbye == "ERROR":
        client.send("COMMIT", transaction="another")
        client.expect_error("another")
    client.close()
    broker.wait_for_children(1)
    consumer.subscribe("/queue/b", 1)
    consumer.subscribe("/queue/a", 2)

    consumer.expect("MESSAGE", "work", redelivered="true")
    consumer.expect_nothing()


@pytest.mark.row("T07")
def test_two_transactions_are_open_at_one_time(broker, join) -> None:
    """Each has its own; a name may be used again."""
    client = join(broker)
    client.subscribe("/queue/a", 1)
    for name in ("one", "two"):
        client.request("BEGIN", transaction=name)
    for body in ("one", "two", "one"):
        client.publish("/queue/a", body, transaction=body)
    client.request("ABORT", transaction="one")
    client.request("BEGIN", transaction="one")
    client.publish("/queue/a", "again", transaction="one")
    client.request("COMMIT", transaction="two")
    client.request("COMMIT", transaction="one")

    client.expect_messages("two", "again")
    client.expect_nothing()


@pytest.mark.row("T04")
def test_a_transaction_that_does_not_fit_is_refused_as_a_whole(make_broker, join) -> None:
    """One of its queues is full: the other one gets nothing either, and the ERROR names the limit."""
    broker = make_broker("--max-queue-bytes", "20 KiB", "--queue-full", "refuse")
    filler, client, consumer = join(broker), join(broker), join(broker)
    filler.send("SEND", destination="/queue/full", body=b"first", receipt="r")
    while (frame := filler.receive()).command != "ERROR":
        filler.send("SEND", destination="/queue/full", body=b"x" * 2000, receipt="r")
    assert "max-queue-bytes" in frame.body.decode()
    client.request("BEGIN", transaction="t")
    client.publish("/queue/empty", "first", transaction="t")
    client.publish("/queue/full", "second", transaction="t")
    client.send("COMMIT", transaction="t", receipt="c")
    error = client.expect_error("max-queue-bytes")

    assert error["receipt-id"] == "c"
    consumer.subscribe("/queue/empty", 1)
    consumer.expect_nothing()
