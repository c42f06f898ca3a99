"""Queues between real clients: every message to one consumer, in order, until it is settled."""

from __future__ import annotations

from collections import Counter

import pytest
from support.rawclient import RawClient

PREFETCH = [
    {"prefetch-count": "2"},
    {"activemq.prefetchSize": "2"},
    {"credit": "2"},
    {"credit": "2,0"},
    {"prefetch-count": "2", "activemq.prefetchSize": "50", "consumer-window-size": "1000000"},
]


def fill(producer: RawClient, count: int, destination: str = "/queue/a", first: int = 0) -> list[str]:
    """Send numbered messages, and know that they are accepted; their bodies."""
    bodies = [str(number) for number in range(first, first + count)]
    producer.send_raw(b"".join(producer.encode("SEND", destination=destination, body=body.encode()) for body in bodies))
    producer.sync()
    return bodies


def test_a_queue_without_consumers_keeps_its_messages_in_order(broker, join) -> None:
    """Until somebody comes, who may be anybody, long after the producer has left."""
    with join(broker) as producer:
        bodies = fill(producer, 2000)
    broker.wait_for_children(0)
    consumer = join(broker)
    consumer.subscribe("/queue/a", 1)

    messages = consumer.expect_messages(*bodies)
    assert not any("redelivered" in message or "delivery-count" in message for message in messages[:10])
    consumer.expect_nothing()


@pytest.mark.parametrize("version", ["1.0", "1.1", "1.2"])
def test_jobs_that_came_one_by_one_keep_their_order_headers_and_ids(broker, join, version) -> None:
    """Of several clients, and with headers of each: the same when they come again, and as ACKs name them."""
    producers = [join(broker), join(broker, "1.1")]
    for number in range(100):
        sender = producers[number % 3 % 2]
        sender.publish("/queue/a", f"{number}", job=f"j{number}", persistent="true")
    first = join(broker, version)
    first.subscribe("/queue/a", 1, ack="client-individual", prefetch_count=80)
    seen = [first.expect("MESSAGE") for _ in range(80)]
    for message in seen[10:70]:
        first.ack(message)
    first.close()

    second = join(broker, "1.2")
    second.subscribe("/queue/a", 1, ack="client-individual")
    again = [second.expect("MESSAGE") for _ in range(40)]

    left = [*range(10), *range(70, 100)]
    assert [message.body for message in seen] == [b"%d" % number for number in range(80)]
    assert [message["job"] for message in seen] == [f"j{number}" for number in range(80)]
    assert [message.body for message in again] == [b"%d" % number for number in left]
    assert [message["job"] for message in again] == [f"j{number}" for number in left]
    assert all(message["redelivered"] == "true" for message in again[:20])
    ids = [message["message-id"] for message in again]
    assert len(set(ids)) == 40
    # before 1.2 the name of the delivery stands at the end
    assert all(
        message["message-id"].startswith(ident) for message, ident in zip(seen[:10] + seen[70:], ids[:20], strict=True)
    )


def test_competing_consumers_with_prefetch_1_share_fairly(broker, join) -> None:
    """Four that take the same time: all of them get the same share, and each message goes to one.

    When each is left to itself, a busy machine decides who is how fast; benchmarks/ tells the shares then.
    """
    producer, consumers = join(broker), [join(broker) for _ in range(4)]
    for consumer in consumers:
        consumer.subscribe("/queue/a", 1, ack="client-individual", prefetch_count=1)
    bodies = fill(producer, 600)

    received = []
    for _ in range(len(bodies) // 4):
        messages = [consumer.expect("MESSAGE") for consumer in consumers]
        received += [message.body.decode() for message in messages]
        for consumer, message in zip(consumers, messages, strict=True):
            consumer.send("ACK", id=message["ack"])
    assert sorted(received, key=int) == bodies
    for consumer in consumers:
        consumer.expect_nothing()


@pytest.mark.row("U05")
def test_two_subscriptions_of_one_client_compete(broker, join) -> None:
    """Unlike those to a topic: together they get each message once."""
    client = join(broker)
    client.subscribe("/queue/a", 1, ack="client-individual", prefetch_count=5)
    client.subscribe("/queue/a", 2, ack="client-individual", prefetch_count=5)
    bodies = fill(client, 10)

    messages = [client.expect("MESSAGE") for _ in range(10)]
    assert sorted((message.body.decode() for message in messages), key=int) == bodies
    assert Counter(message["subscription"] for message in messages) == {"1": 5, "2": 5}
    client.expect_nothing()


@pytest.mark.parametrize("headers", PREFETCH, ids=[" ".join(headers) for headers in PREFETCH])
def test_prefetch_is_understood_under_all_its_names(shared_broker, join_shared, request, headers) -> None:
    """Two messages, and one more for each that is settled; others may have the rest."""
    queue = f"/queue/{request.node.name}"
    producer, consumer, other = join_shared(), join_shared(), join_shared()
    consumer.request("SUBSCRIBE", headers, destination=queue, id="1", ack="client-individual")
    fill(producer, 5, queue)

    first, _ = consumer.expect_messages("0", "1")
    consumer.expect_nothing()
    consumer.ack(first)
    consumer.expect_messages("2")
    consumer.expect_nothing()
    other.subscribe(queue, 1)
    other.expect_messages("3", "4")


def test_a_window_of_octets_counts_what_is_unsettled(broker, join) -> None:
    """Artemis's consumer-window-size: 0 is one message at a time, -1 all of them, a number so many octets about."""
    producer = join(broker)
    for size, expected in ((0, 1), (2500, 3), (-1, 20)):
        queue = f"/queue/window{size}"
        consumer = join(broker)
        consumer.subscribe(queue, 1, ack="client-individual", consumer_window_size=size)
        for _ in range(20):
            producer.publish(queue, b"x" * 1000)
        for _ in range(expected):
            consumer.expect("MESSAGE")
        consumer.expect_nothing()


@pytest.mark.row("A04")
@pytest.mark.parametrize("version", ["1.0", "1.1", "1.2"])
def test_client_acknowledges_all_before_it_and_client_individual_one(broker, join, version) -> None:
    """What was not settled comes back when its client leaves. 1.0 has the first mode only."""
    for mode, left in (("client", ["3", "4"]), ("client-individual", ["0", "1", "3", "4"])):
        if version == "1.0" and mode == "client-individual":
            continue
        queue = f"/queue/{mode}"
        producer, consumer, other = join(broker), join(broker, version), join(broker)
        consumer.subscribe(queue, 1, ack=mode)
        fill(producer, 5, queue)
        messages = consumer.expect_messages("0", "1", "2", "3", "4")
        consumer.ack(messages[2])
        consumer.close()
        other.subscribe(queue, 1)

        for message in other.expect_messages(*left):
            assert (message["redelivered"], message["delivery-count"]) == ("true", "2")
        other.expect_nothing()


@pytest.mark.row("A06")
def test_auto_loses_no_more_than_the_kernel_had_taken(broker, join, knock) -> None:
    """A consumer that reads nothing and dies: what was not written goes to another one, in order."""
    size, count = 20_000, 1000
    producer, lost, heir = join(broker), knock(broker, receive_buffer=4096), join(broker)
    lost.login()
    lost.subscribe("/queue/a", 1)
    fill_large = [producer.encode("SEND", destination="/queue/a", body=b"%d " % n + b"x" * size) for n in range(count)]
    for block in fill_large:
        producer.send_raw(block)
    producer.sync()
    lost.reset()
    broker.wait_for_children(2)
    heir.subscribe("/queue/a", 1)
    producer.publish("/queue/a", "last")

    received = []
    while (body := heir.expect("MESSAGE").body) != b"last":
        received.append(int(body.partition(b" ")[0]))
    assert received == list(range(received[0], count))
    assert received[0] * size < 8_000_000


@pytest.mark.row("A07")
@pytest.mark.parametrize("goodbye", ["close", "reset", "disconnect"])
def test_what_a_lost_client_had_not_settled_goes_to_another_in_order_and_marked(broker, join, goodbye) -> None:
    """Before what nobody had; redelivered, with a delivery count; what was acknowledged is gone."""
    producer, first, second = join(broker), join(broker), join(broker)
    first.subscribe("/queue/a", 1, ack="client-individual", prefetch_count=10)
    fill(producer, 20)
    had = first.expect_messages(*map(str, range(10)))
    for message in had[2:5]:
        first.ack(message)
    first.expect_messages("10", "11", "12")
    if goodbye == "disconnect":
        first.request("DISCONNECT")
    first.reset() if goodbye == "reset" else first.close()
    broker.wait_for_children(2)
    second.subscribe("/queue/a", 1, ack="client")

    expected = ["0", "1", *map(str, range(5, 20))]
    messages = second.expect_messages(*expected)
    counts = [message.get("delivery-count", "1") for message in messages]
    assert counts == ["2"] * 10 + ["1"] * 7
    assert [message.get("redelivered") == "true" for message in messages] == [count == "2" for count in counts]


@pytest.mark.row("A10")
def test_a_nack_puts_the_message_back_to_its_old_place(broker, join) -> None:
    """It comes again before what stood behind it, with a higher count each time; to another as well."""
    consumer, other = join(broker), join(broker)
    consumer.subscribe("/queue/a", 1, ack="client-individual", prefetch_count=1)
    fill(consumer, 3)
    for count in ("", "2", "3"):
        message = consumer.expect("MESSAGE", "0")
        assert message.get("delivery-count") == count
        assert message.get("redelivered") == ("true" if count else "")
        consumer.nack(message)
    consumer.close()
    broker.wait_for_children(1)
    other.subscribe("/queue/a", 1)

    first, _, _ = other.expect_messages("0", "1", "2")
    assert int(first["delivery-count"]) >= 4


@pytest.mark.row("A09")
@pytest.mark.parametrize("version", ["1.1", "1.2"])
def test_a_nack_in_client_mode_returns_all_before_it(broker, join, version) -> None:
    """They come again in order; those behind it are still unsettled at the client."""
    consumer, other = join(broker, version), join(broker)
    consumer.subscribe("/queue/a", 1, ack="client", prefetch_count=5)
    fill(consumer, 5)
    messages = consumer.expect_messages("0", "1", "2", "3", "4")
    consumer.nack(messages[2])

    assert {message["delivery-count"] for message in consumer.expect_messages("0", "1", "2")} == {"2"}
    consumer.expect_nothing()
    consumer.close()
    other.subscribe("/queue/a", 1)
    counts = [message["delivery-count"] for message in other.expect_messages("0", "1", "2", "3", "4")]
    assert counts == ["3", "3", "3", "2", "2"]


@pytest.mark.row("A10")
def test_after_its_last_delivery_a_message_is_a_dead_letter(make_broker, join) -> None:
    """With --max-deliveries 3 the third NACK; it says where it came from, and keeps its headers."""
    broker = make_broker("--max-deliveries", "3")
    consumer, grave = join(broker), join(broker)
    consumer.subscribe("/queue/a", 1, ack="client-individual")
    consumer.publish("/queue/a", "poison", colour="red")
    for _ in range(3):
        consumer.nack(consumer.expect("MESSAGE", "poison"))
    grave.subscribe("/queue/DLQ", 1)

    grave.expect("MESSAGE", "poison", destination="/queue/DLQ", original_destination="/queue/a", colour="red")
    consumer.expect_nothing()
    grave.expect_nothing()


def test_deliveries_that_end_with_the_client_count_too(make_broker, join) -> None:
    """A message that kills its consumers does not kill all of them."""
    broker = make_broker("--max-deliveries", "3")
    join(broker).publish("/queue/a", "poison")
    for number in range(3):
        with join(broker) as victim:
            victim.subscribe("/queue/a", 1, ack="client")
            assert victim.expect("MESSAGE", "poison").get("delivery-count", "1") == str(number + 1)
        broker.wait_for_children(1)
    grave = join(broker)
    grave.subscribe("/queue/DLQ", 1)

    grave.expect("MESSAGE", "poison", original_destination="/queue/a")


@pytest.mark.row("A10")
def test_a_nack_without_requeue_makes_a_dead_letter_at_once(broker, join) -> None:
    """RabbitMQ's header."""
    consumer = join(broker)
    consumer.subscribe("/queue/DLQ", "grave")
    consumer.subscribe("/queue/a", 1, ack="client-individual")
    consumer.publish("/queue/a", "poison")
    consumer.nack(consumer.expect("MESSAGE", "poison", subscription=1), requeue="false")

    consumer.expect("MESSAGE", "poison", subscription="grave", original_destination="/queue/a")
    consumer.expect_nothing()


@pytest.mark.parametrize("header", ["exclusive", "activemq.exclusive"])
def test_an_exclusive_consumer_gets_all_and_another_takes_over(broker, join, header) -> None:
    """What it had not settled comes first."""
    producer, first, second = (join(broker) for _ in range(3))
    for consumer in (first, second):
        consumer.request(
            "SUBSCRIBE", {header: "true"}, destination="/queue/a", id="1", ack="client-individual", prefetch_count="3"
        )
    fill(producer, 6)
    messages = first.expect_messages("0", "1", "2")
    second.expect_nothing()
    first.ack(messages[0])
    first.expect_messages("3")
    second.expect_nothing()
    first.close()

    for message in second.expect_messages("1", "2", "3"):
        second.ack(message)
    second.expect_messages("4", "5")


def test_many_consumers_that_come_and_go_lose_and_double_nothing(broker, join) -> None:
    """Each takes some, settles what it has taken, and leaves with the rest unsettled."""
    producer = join(broker)
    bodies = fill(producer, 300)
    settled = []
    while len(settled) < len(bodies):
        with join(broker) as consumer:
            consumer.subscribe("/queue/a", 1, ack="client-individual", prefetch_count=30)
            for _ in range(min(20, len(bodies) - len(settled))):
                message = consumer.expect("MESSAGE")
                consumer.ack(message)
                settled.append(message.body.decode())
        broker.wait_for_children(1)

    assert settled == bodies
