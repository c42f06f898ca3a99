"""When a subscription begins and ends, and what its messages are called."""

from __future__ import annotations

import pytest

VERSIONS = ["1.0", "1.1", "1.2"]


@pytest.mark.row("U06")
@pytest.mark.parametrize("version", VERSIONS)
def test_the_receipt_of_subscribe_comes_before_its_first_message(broker, join, version) -> None:
    """Although a queue is full of messages, and a topic busy."""
    producer, consumer = join(broker), join(broker, version)
    for _ in range(50):
        producer.send("SEND", destination="/queue/a", body=b"waiting")
    producer.sync()
    for round_ in range(10):
        producer.send_raw(producer.encode("SEND", destination="/topic/a", body=b"busy") * 100)
        consumer.send("SUBSCRIBE", destination="/topic/a", id=f"t{round_}", receipt=f"t{round_}")
        seen = set()
        while (frame := consumer.receive()).command != "RECEIPT":
            seen.add(frame["subscription"])
        assert f"t{round_}" not in seen
    consumer.send("SUBSCRIBE", destination="/queue/a", id="q", receipt="q")
    while (frame := consumer.receive()).command != "RECEIPT":
        assert frame["subscription"] != "q"


@pytest.mark.row("U09")
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("destination", ["/topic/a", "/queue/a"])
def test_nothing_comes_after_the_receipt_of_unsubscribe(broker, join, version, destination) -> None:
    """In the middle of a stream of messages; another subscription goes on."""
    producer, consumer = join(broker), join(broker, version)
    consumer.subscribe(destination, 1)
    consumer.subscribe("/topic/other", 2)
    producer.send_raw(producer.encode("SEND", destination=destination, body=b"stream") * 3000)
    consumer.expect("MESSAGE", "stream")
    consumer.send("UNSUBSCRIBE", id="1", receipt="over")
    while (frame := consumer.receive()).command == "MESSAGE":
        pass
    producer.send_raw(producer.encode("SEND", destination=destination, body=b"stream") * 100)
    producer.publish("/topic/other", "another")

    assert (frame.command, frame["receipt-id"]) == ("RECEIPT", "over")
    consumer.expect_messages("another")
    consumer.expect_nothing()


@pytest.mark.row("U08")
def test_a_client_of_1_0_unsubscribes_by_destination(broker, join) -> None:
    """It had given no id, so its messages had none."""
    old, producer = join(broker, "1.0"), join(broker)
    old.request("SUBSCRIBE", destination="/topic/a")
    producer.publish("/topic/a", "first")
    message = old.expect("MESSAGE", "first")
    old.request("UNSUBSCRIBE", destination="/topic/a")
    producer.publish("/topic/a", "second")

    assert "subscription" not in message
    old.expect_nothing()


@pytest.mark.row("U10", "A07")
def test_unsubscribe_returns_what_is_unsettled_to_others_at_once(broker, join) -> None:
    """The client stays connected; another gets it, in order, as redelivered."""
    first, second = join(broker), join(broker)
    first.subscribe("/queue/a", 1, ack="client-individual")
    for number in range(4):
        first.publish("/queue/a", str(number))
    kept = first.expect_messages("0", "1", "2", "3")
    first.ack(kept[1])
    first.request("UNSUBSCRIBE", id="1")
    second.subscribe("/queue/a", 1, ack="client")

    assert {"true"} == {message["redelivered"] for message in second.expect_messages("0", "2", "3")}


@pytest.mark.row("S09")
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("sent", "subscribed"),
    [
        ("/topic/a.b", "/topic/a.b"),
        ("/topic/a.b", "/topic/*.b"),
        ("/topic/a/b", "/topic/a/b"),
        ("bare", "/topic/bare"),
        ("/topic/bare", "bare"),
        ("/queue/a/b.c", "/queue/a/b.c"),
        ("/queue/co:lon", "/queue/co:lon"),
    ],
)
def test_the_destination_of_a_message_is_that_of_its_send(
    shared_broker, join_shared, version, sent, subscribed
) -> None:
    """Letter by letter, whatever the subscription was called."""
    subscriber, producer = join_shared(version), join_shared(version)
    subscriber.subscribe(subscribed, 1)
    producer.publish(sent, "hello")

    subscriber.expect("MESSAGE", "hello", destination=sent)


@pytest.mark.row("S11")
def test_message_ids_are_unique_over_connections_and_restarts(make_broker, join) -> None:
    """Two brokers, one after the other; several producers in each; in every ack mode."""
    found = []
    for _ in range(2):
        broker = make_broker()
        consumer = join(broker)
        consumer.subscribe("/queue/a", 1)
        consumer.subscribe("/topic/a", 2)
        for _ in range(3):
            with join(broker) as producer:
                for number in range(20):
                    producer.publish(f"/{('queue', 'topic')[number % 2]}/a", "x")
        found += [consumer.expect("MESSAGE")["message-id"] for _ in range(60)]
        consumer.close()
        broker.stop()

    assert len(set(found)) == 120
