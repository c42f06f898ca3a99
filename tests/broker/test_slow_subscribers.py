"""A subscriber that doesn't read: what the three policies make of it, and that nobody else suffers by it."""

from __future__ import annotations

import time

import pytest
from support.deadline import wait_until
from support.rawclient import RawClient

SMALL = ("--max-client-buffer", "128 KiB")
BODY = 30_000
MESSAGES = 500
"""Enough of them that the kernel's buffers, 4 MiB on its side and little on the client's, don't hold them."""


@pytest.fixture
def lazy(knock):
    """A subscriber whose system keeps little for it, and who reads only when told to."""

    def run(broker) -> RawClient:
        client = knock(broker, receive_buffer=4096)
        client.login(login="lazy")
        client.subscribe("/topic/a", 1)
        return client

    return run


def numbered(number: int) -> bytes:
    """A body that can be told from others."""
    return b"%d " % number + b"x" * BODY


def number_of(body: bytes) -> int:
    return int(body.partition(b" ")[0])


def publish_in_step(producer: RawClient, reader: RawClient, numbers: range) -> None:
    """Send messages that somebody reads at once, who therefore gets all of them."""
    for number in numbers:
        producer.send("SEND", destination="/topic/a", body=numbered(number))
        assert number == number_of(reader.expect("MESSAGE").body)


def test_by_default_it_is_disconnected_with_a_log_line(make_broker, join, lazy) -> None:
    """The line names client, octets and option; another subscriber gets everything."""
    broker = make_broker(*SMALL)
    slow, reader, producer = lazy(broker), join(broker), join(broker)
    reader.subscribe("/topic/a", 1)
    publish_in_step(producer, reader, range(MESSAGES))
    read = [number_of(frame.body) for frame in slow.drain()]
    slow.close()
    line = broker.wait_for_log("lazy: disconnected, .*slow subscriber.*")

    assert list(range(len(read))) == read
    assert len(read) < MESSAGES
    assert "max-client-buffer" in line[0]
    assert [said for said in broker.log if " warning " in said and "lazy" in said]
    reader.sync()
    producer.sync()


def test_deaf_subscribers_one_after_the_other_do_not_stop_a_topic(make_broker, join, lazy) -> None:
    """They share one second in a minute: the first may hold the publishers for it, the others are disconnected."""
    broker = make_broker(*SMALL)
    reader, producer = join(broker), join(broker)
    reader.subscribe("/topic/a", 1)
    took_s: list[float] = []
    for rounds in range(1, 7):
        deaf = lazy(broker)
        for number in range(MESSAGES):
            began = time.monotonic()
            publish_in_step(producer, reader, range(number, number + 1))
            took_s.append(time.monotonic() - began)
        deaf.close()
        broker.wait_for_log("(?s)" + ".*slow subscriber" * rounds)

    assert sum(took for took in took_s if took > 0.2) < 1.5


def test_what_drop_oldest_has_lost_is_in_the_log(make_broker, join, lazy) -> None:
    """A number, in the line of the client's end."""
    broker = make_broker(*SMALL, "--slow-subscribers", "drop-oldest")
    slow, reader, producer = lazy(broker), join(broker), join(broker)
    reader.subscribe("/topic/a", 1)
    publish_in_step(producer, reader, range(MESSAGES))
    slow.close()

    assert int(broker.wait_for_log(r"lazy: disconnected, .*, (\d+) dropped")[1]) > 0


def test_drop_oldest_loses_the_middle_and_keeps_the_newest(make_broker, join, lazy) -> None:
    """What it reads later is in order, ends with the last message and has a gap; it stays connected."""
    broker = make_broker(*SMALL, "--slow-subscribers", "drop-oldest")
    slow, reader, producer = lazy(broker), join(broker), join(broker)
    reader.subscribe("/topic/a", 1)
    publish_in_step(producer, reader, range(MESSAGES))
    slow.send("SUBSCRIBE", destination="/topic/b", id=2, receipt="there")

    read = []
    while (frame := slow.receive()).command == "MESSAGE":
        read.append(number_of(frame.body))
    assert read == sorted(set(read))
    assert read[-1] == MESSAGES - 1
    assert read[0] == 0
    assert 3 < len(read) < MESSAGES


def test_hold_stops_the_producers_until_it_reads(make_broker, join, lazy) -> None:
    """Nothing is lost; who sends elsewhere is not stopped."""
    broker = make_broker(*SMALL, "--slow-subscribers", "hold")
    slow, producer, other, reader = lazy(broker), join(broker), join(broker), join(broker)
    reader.subscribe("/topic/b", 1)
    blocks = [producer.encode("SEND", destination="/topic/a", body=numbered(number)) for number in range(1000, 2000)]
    sent = producer.send_until_held(blocks)
    for number in range(20):
        other.publish("/topic/b", str(number))

    whole = sent // len(blocks[0])
    assert whole < len(blocks)
    reader.expect_messages(*map(str, range(20)))
    assert list(range(1000, 1000 + whole)) == [number_of(slow.expect("MESSAGE").body) for _ in range(whole)]


def test_a_message_larger_than_the_buffer_harms_nobody_who_reads(make_broker, join) -> None:
    """The limit is on what a client does not read, not on what is sent to it."""
    broker = make_broker(*SMALL)
    reader, producer = join(broker), join(broker)
    reader.subscribe("/topic/a", 1)
    for _ in range(3):
        producer.publish("/topic/a", b"x" * 8_000_000)
        assert len(reader.expect("MESSAGE").body) == 8_000_000

    reader.sync()


def test_a_burst_harms_nobody_who_reads(make_broker, join) -> None:
    """Much more than the buffer, as fast as it goes, to a client that takes it as fast as it can."""
    broker = make_broker()
    reader, producer = join(broker), join(broker)
    reader.subscribe("/topic/a", 1)
    block = producer.encode("SEND", destination="/topic/a", body=b"x" * 4000) * 500
    for _ in range(20):
        producer.send_raw(block)
        for _ in range(500):
            reader.expect("MESSAGE")

    reader.sync()


@pytest.mark.parametrize("policy", ["disconnect", "drop-oldest", "hold"])
def test_a_consumer_that_does_not_read_keeps_no_more_than_its_window(make_broker, join, lazy, policy) -> None:
    """Its policy is for topics only: a queue's messages that it had come back when it leaves."""
    broker = make_broker(*SMALL, "--slow-subscribers", policy)
    slow, producer = lazy(broker), join(broker)
    slow.request("SUBSCRIBE", destination="/queue/a", id="q", ack="client-individual")
    for _ in range(200):
        producer.publish("/queue/a", b"y" * BODY)
    consumer = join(broker)
    consumer.subscribe("/queue/a", 1)

    for _ in range(50):
        consumer.expect("MESSAGE")
    slow.close()
    for _ in range(150):
        consumer.expect("MESSAGE")
    consumer.expect_nothing()
    wait_until(lambda: len(broker.children()) == 2, "the end of the slow client's process")
