"""The end of a connection, from either side: what was said before it counts, and what is said last arrives."""

from __future__ import annotations

import signal

import pytest
from support.rawclient import RawClient

VERSIONS = ["1.0", "1.1", "1.2"]

FAULTS = {
    "unknown command": b"SHOUT\nreceipt:r\n\n\0",
    "command of a server": b"MESSAGE\nreceipt:r\ndestination:/queue/a\n\n\0",
    "second CONNECT": b"CONNECT\naccept-version:1.2\nhost:/\n\n\0",
    "SEND without destination": b"SEND\nreceipt:r\n\n\0",
    "destination of no kind": b"SEND\nreceipt:r\ndestination:/nowhere/a\n\n\0",
    "header without colon": b"SEND\nnonsense\n\n\0",
    "unknown transaction": b"COMMIT\nreceipt:r\ntransaction:none\n\n\0",
    "unknown subscription": b"UNSUBSCRIBE\nreceipt:r\nid:none\n\n\0",
    "unknown ack mode": b"SUBSCRIBE\nreceipt:r\nid:1\ndestination:/queue/a\nack:perhaps\n\n\0",
    "no number for content-length": b"SEND\ndestination:/queue/a\ncontent-length:many\n\n\0",
}


@pytest.mark.row("R03")
def test_everything_that_was_sent_before_the_client_left_is_processed(broker, join) -> None:
    """Ten thousand messages and a close at once: all there, in order."""
    producer, consumer = join(broker), join(broker)
    producer.send_raw(
        b"".join(producer.encode("SEND", destination="/queue/a", body=b"%d" % number) for number in range(10_000))
    )
    producer.close()
    consumer.subscribe("/queue/a", 1)

    assert [b"%d" % number for number in range(10_000)] == [consumer.receive().body for _ in range(10_000)]
    consumer.expect_nothing()


@pytest.mark.row("R05")
@pytest.mark.parametrize("version", VERSIONS)
def test_disconnect_is_answered_after_all_that_came_before_and_nothing_counts_after_it(broker, join, version) -> None:
    """RECEIPTs in order, then the end; what follows DISCONNECT is ignored."""
    leaving, consumer = join(broker, version), join(broker)
    leaving.send_raw(
        b"".join(leaving.encode("SEND", destination="/queue/a", body=b"%d" % number) for number in range(100))
        + leaving.encode("SEND", destination="/queue/a", body=b"last", receipt="sent")
        + leaving.encode("DISCONNECT", receipt="bye")
        + leaving.encode("SEND", destination="/queue/a", body=b"too late", receipt="late")
        + b"garbage that is no frame at all"
    )

    leaving.expect("RECEIPT", receipt_id="sent")
    leaving.expect("RECEIPT", receipt_id="bye")
    leaving.expect_eof()
    consumer.subscribe("/queue/a", 1)
    consumer.expect_messages(*map(str, range(100)), "last")
    consumer.expect_nothing()


@pytest.mark.row("R06")
def test_the_error_arrives_although_the_client_goes_on_sending(broker, join) -> None:
    """Megabytes of garbage behind the bad frame neither reset the connection nor are read as frames."""
    client, other = join(broker), join(broker)
    client.send_raw(b"SHOUT\nreceipt:r1\n\n\0")
    for _ in range(40):
        client.send_raw(b"SEND\ndestination:/queue/a\n\ngarbage\0" * 4096)

    assert client.expect_error("SHOUT")["receipt-id"] == "r1"
    other.subscribe("/queue/a", 1)
    other.expect_nothing()


@pytest.mark.row("R06")
def test_an_error_for_a_crowd_arrives_at_each_of_them(broker, knock) -> None:
    """The first frame is wrong already, and more follows it."""
    crowd = [knock(broker) for _ in range(20)]
    for client in crowd:
        client.send_raw(b"SEND\ndestination:/queue/a\n\nno CONNECT\0" * 2000)

    for client in crowd:
        client.expect_error("CONNECT comes first")


@pytest.mark.row("E02", "E01")
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("fault", FAULTS)
def test_after_an_error_the_broker_closes(shared_broker, version, fault) -> None:
    """One ERROR with a short message and a text, the receipt-id if there was a receipt, and the end."""
    with RawClient(shared_broker.port) as client:
        client.login(version)
        client.send_raw(FAULTS[fault])
        error = client.expect("ERROR")

        assert error["content-type"] == "text/plain"
        assert len(error["message"]) < 80
        assert error.body.strip()
        assert ("r" if b"receipt" in FAULTS[fault] else "") == error.get("receipt-id")
        client.expect_eof()


@pytest.mark.row("E02", "R02")
def test_what_was_accepted_before_the_error_has_its_receipts(broker, join) -> None:
    """And is done; the ERROR comes last."""
    client, consumer = join(broker), join(broker)
    client.send_raw(
        b"".join(client.encode("SEND", destination="/queue/a", body=b"m", receipt=str(number)) for number in range(50))
        + b"SHOUT\n\n\0"
    )

    for number in range(50):
        client.expect("RECEIPT", receipt_id=number)
    client.expect_error("SHOUT")
    consumer.subscribe("/queue/a", 1)
    consumer.expect_messages(*["m"] * 50)


def test_sigterm_lets_clients_have_what_is_under_way(broker, join) -> None:
    """Messages that were sent and receipts that were asked for arrive; then the connections end, and the broker."""
    producer, subscriber = join(broker), join(broker)
    subscriber.subscribe("/topic/a", 1)
    for number in range(200):
        producer.send("SEND", destination="/topic/a", body=b"%d" % number, receipt=str(number))
    for number in range(200):
        producer.expect("RECEIPT", receipt_id=number)
    broker.kill(signal.SIGTERM)

    subscriber.expect_messages(*map(str, range(200)))
    for client in (producer, subscriber):
        client.expect_error("shut")
        client.close()
    assert broker.wait() == 0
