"""What the administrator decides about queues, and what it means to clients: limits, and what a full queue does."""

from __future__ import annotations

import re
import signal

import pytest
from support.deadline import wait_until
from support.rawclient import RawClient

from forkbroker.testing.broker import RunningBroker

LIMITS = [("--max-queue-length", "5"), ("--policy", "/queue/# max-length=5")]
"""Two ways to say the same."""

each_limit = pytest.mark.parametrize("limit", LIMITS, ids=["option", "policy"])
each_sort = pytest.mark.parametrize("persistent", ["true", "false"])


def send(producer: RawClient, count: int, persistent: str = "false", queue: str = "/queue/a") -> None:
    """Numbered messages, without waiting."""
    for place in range(count):
        producer.send("SEND", body=b"m%d" % place, destination=queue, persistent=persistent, receipt=f"r{place}")


def expect_receipts(producer: RawClient, count: int, first: int = 0) -> None:
    """So many of them, in order."""
    for place in range(first, first + count):
        producer.expect("RECEIPT", receipt_id=f"r{place}")


@each_limit
@each_sort
def test_a_full_queue_holds_its_producers_until_there_is_room(make_broker, join, limit, persistent) -> None:
    """The default; nothing is lost, others go on, and a consumer sets them free."""
    broker = make_broker(*limit)
    producer, consumer = join(broker), join(broker)
    for place in range(6):
        producer.send("SEND", body=b"m%d" % place, destination="/queue/a", persistent=persistent, receipt=f"r{place}")
        if place < 5:
            producer.expect("RECEIPT", receipt_id=f"r{place}")
    consumer.publish("/queue/b", "others go on")
    consumer.subscribe("/queue/a")

    consumer.expect_messages(*(f"m{place}" for place in range(6)))
    producer.expect("RECEIPT", receipt_id="r5")


@each_limit
@each_sort
def test_a_full_queue_refuses_with_an_error(make_broker, join, limit, persistent) -> None:
    """That names the limit; what was accepted stays."""
    broker = make_broker(*limit, "--queue-full", "refuse")
    producer, consumer = join(broker), join(broker)
    for place in range(5):
        producer.publish("/queue/a", f"m{place}", persistent=persistent)
    producer.send("SEND", body=b"too much", destination="/queue/a", persistent=persistent)
    producer.expect_error("max-queue-length")
    consumer.subscribe("/queue/a")

    consumer.expect_messages(*(f"m{place}" for place in range(5)))
    consumer.expect_nothing()


@each_limit
@each_sort
def test_a_full_queue_drops_its_oldest_messages(make_broker, join, limit, persistent) -> None:
    """Those that nobody holds; the newest are there."""
    broker = make_broker(*limit, "--queue-full", "drop-oldest")
    producer, consumer = join(broker), join(broker)
    send(producer, 12, persistent)
    expect_receipts(producer, 12)
    consumer.subscribe("/queue/a")

    consumer.expect_messages(*(f"m{place}" for place in range(7, 12)))
    consumer.expect_nothing()


@each_limit
@each_sort
def test_a_full_queue_makes_dead_letters_of_its_oldest_messages(make_broker, join, limit, persistent) -> None:
    """With the reason; the dead letters have the limit as well, so there are not more of them than that."""
    broker = make_broker(*limit, "--queue-full", "dead-letter")
    producer, consumer = join(broker), join(broker)
    send(producer, 8, persistent)
    expect_receipts(producer, 8)
    consumer.subscribe("/queue/a", "a")
    consumer.expect_messages("m3", "m4", "m5", "m6", "m7")
    consumer.subscribe("/queue/DLQ", "grave")

    for frame in consumer.expect_messages("m0", "m1", "m2"):
        assert (frame["original-destination"], frame["dead-letter-reason"]) == ("/queue/a", "limit")
    consumer.expect_nothing()


@each_sort
def test_a_queue_has_a_limit_of_octets_wherever_they_are(make_broker, join, persistent) -> None:
    """In memory, and in the store: with little memory the limit is the same."""
    broker = make_broker("--policy", "/queue/a max-bytes=4MiB full=refuse", "--queue-memory", "1 MiB")
    producer = join(broker)
    accepted = 0
    producer.send("SEND", body=bytes(100_000), destination="/queue/a", persistent=persistent, receipt="r")
    while (frame := producer.receive()).command == "RECEIPT":
        accepted += 1
        producer.send("SEND", body=bytes(100_000), destination="/queue/a", persistent=persistent, receipt="r")

    assert "max-queue-bytes" in frame.body.decode()
    assert 40 <= accepted <= 43


@each_sort
def test_a_deep_queue_drops_its_oldest_messages_although_nobody_consumes(make_broker, join, persistent) -> None:
    """They are in the store alone; what is left is what came last, and none of it is lost."""
    broker = make_broker("--policy", "/queue/a max-length=100 full=drop-oldest", "--queue-memory", "1 MiB")
    producer, consumer = join(broker), join(broker)
    for place in range(1000):
        producer.send("SEND", body=b"%d %b" % (place, bytes(10_000)), destination="/queue/a", persistent=persistent)
    producer.sync()
    wait_until(lambda: depth_of(broker, "/queue/a") == 100, "the queue's limit")
    consumer.subscribe("/queue/a")

    assert [int(consumer.expect("MESSAGE").body.split()[0]) for _ in range(100)] == list(range(900, 1000))
    consumer.expect_nothing()


@each_sort
def test_a_deep_queue_expires_although_nobody_consumes(make_broker, join, persistent) -> None:
    """All of it, in memory and in the store alone."""
    broker = make_broker("--policy", "/queue/a ttl=300ms", "--queue-memory", "1 MiB")
    producer = join(broker)
    for _ in range(500):
        producer.send("SEND", body=bytes(10_000), destination="/queue/a", persistent=persistent)
    producer.sync()

    wait_until(lambda: depth_of(broker, "/queue/a") is None, "an end of the queue")


def depth_of(broker: RunningBroker, queue: str) -> int | None:
    """How many messages wait there, as the broker lists it; None when there is no such queue."""
    listed = len(broker.log)
    broker.kill(signal.SIGUSR2)
    lines = wait_until(lambda: [line for line in broker.log[listed:] if "queue" in line], "a list")
    found = [re.search(rf"queue {queue}: ([\d,]+) ready", line) for line in lines]
    return next((int(match[1].replace(",", "")) for match in found if match), None)


def test_of_several_rules_the_later_one_counts(make_broker, join) -> None:
    """Each for what it speaks of."""
    broker = make_broker(
        "--policy",
        "/queue/# max-deliveries=1 dead-letter=/queue/grave",
        "--policy",
        "/queue/mail.# max-deliveries=2",
    )
    client = join(broker)
    client.subscribe("/queue/grave", "grave")
    for number, queue in enumerate(("/queue/other", "/queue/mail.out"), 1):
        client.publish(queue, queue)
        client.subscribe(queue, number, ack="client-individual")
        for _ in range(number):
            client.nack(client.expect("MESSAGE", queue, subscription=number))
        client.expect("MESSAGE", queue, subscription="grave", original_destination=queue)


@each_sort
def test_messages_of_a_queue_expire_although_their_senders_do_not_say(make_broker, join, persistent) -> None:
    """By a policy; and by another they become dead letters, which do not expire."""
    broker = make_broker(
        "--policy", "/queue/a ttl=100ms", "--policy", "/queue/b ttl=100ms expired=dead-letter dead-letter=/queue/late"
    )
    client = join(broker)
    client.subscribe("/queue/late", "late")
    client.publish("/queue/a", "dropped", persistent=persistent)
    client.publish("/queue/b", "late", persistent=persistent)
    client.expect("MESSAGE", "late", original_destination="/queue/b", dead_letter_reason="expired")
    client.subscribe("/queue/a", "a")

    client.expect_nothing()


def test_a_rule_that_makes_no_sense_ends_the_start(make_broker) -> None:
    """With what is wrong, and what would be right."""
    for rule, said in (
        ("/queue/a max-lenght=5", "max-length"),
        ("/queue/a max-length=many", "max-length=many"),
        ("/queue/a", "key=value"),
        ("/topic/a max-length=5", "/queue/"),
    ):
        with pytest.raises(Exception, match=said):
            make_broker("--policy", rule)
